package scram

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

const md5Prefix = "md5"

// MD5Secret is the stored form of the md5 method: "md5" and md5(password || user).
func MD5Secret(password, user string) string {
	return md5Prefix + md5Hex(password+user)
}

// IsMD5Secret reports whether a stored secret has that form. Like PostgreSQL
// it takes small hex digits only.
func IsMD5Secret(secret string) bool {
	digits, ok := strings.CutPrefix(secret, md5Prefix)
	return ok && len(digits) == 2*md5.Size && strings.Trim(digits, "0123456789abcdef") == ""
}

// MD5Response answers an AuthenticationMD5Password request: the stored
// secret's digits hashed once more with the salt. Who knows the stored secret
// needs no password.
func MD5Response(secret string, salt [4]byte) string {
	return md5Prefix + md5Hex(strings.TrimPrefix(secret, md5Prefix)+string(salt[:]))
}

// CheckMD5Response compares a client's response with the one secret gives.
func CheckMD5Response(secret string, salt [4]byte, response string) bool {
	want := MD5Response(secret, salt)
	return subtle.ConstantTimeCompare([]byte(want), []byte(response)) == 1
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
