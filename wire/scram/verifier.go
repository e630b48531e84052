package scram

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	// KeyLen is the length of each of SCRAM-SHA-256's keys (SCRAM_KEY_LEN).
	KeyLen = sha256.Size
	// SaltLen is the length of the salts made here (SCRAM_DEFAULT_SALT_LEN).
	SaltLen = 16
	// DefaultIterations is PostgreSQL's scram_iterations.
	DefaultIterations = 4096

	verifierPrefix = Mechanism + "$"
)

// Verifier is what a server stores of a password, as in pg_authid.rolpassword.
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  [KeyLen]byte
	ServerKey  [KeyLen]byte

	mock bool // belongs to nobody: every proof is wrong
}

// HasVerifierPrefix reports whether a stored secret claims to be a SCRAM verifier.
func HasVerifierPrefix(secret string) bool { return strings.HasPrefix(secret, verifierPrefix) }

// ParseVerifier reads "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>".
// Its errors do not repeat the text.
func ParseVerifier(secret string) (Verifier, error) {
	rest, ok := strings.CutPrefix(secret, verifierPrefix)
	if !ok {
		return Verifier{}, errors.New("a SCRAM verifier begins with " + verifierPrefix)
	}
	params, keys, ok := strings.Cut(rest, "$")
	if !ok {
		return Verifier{}, errors.New("SCRAM verifier: the second $ is missing")
	}
	iterations, salt, ok := strings.Cut(params, ":")
	if !ok {
		return Verifier{}, errors.New("SCRAM verifier: the salt is missing")
	}
	storedKey, serverKey, ok := strings.Cut(keys, ":")
	if !ok {
		return Verifier{}, errors.New("SCRAM verifier: the ServerKey is missing")
	}
	var v Verifier
	var err error
	if v.Iterations, err = parseIterations(iterations); err != nil {
		return Verifier{}, fmt.Errorf("SCRAM verifier: %w", err)
	}
	if v.Salt, err = decodeBase64(salt); err != nil || len(v.Salt) == 0 {
		return Verifier{}, errors.New("SCRAM verifier: the salt is not valid base64")
	}
	if err := decodeKey(&v.StoredKey, storedKey); err != nil {
		return Verifier{}, errors.New("SCRAM verifier: the StoredKey is not 32 bytes in base64")
	}
	if err := decodeKey(&v.ServerKey, serverKey); err != nil {
		return Verifier{}, errors.New("SCRAM verifier: the ServerKey is not 32 bytes in base64")
	}
	return v, nil
}

// String is the stored form, which is itself a secret.
func (v Verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return verifierPrefix + strconv.Itoa(v.Iterations) + ":" + b64(v.Salt) +
		"$" + b64(v.StoredKey[:]) + ":" + b64(v.ServerKey[:])
}

// NewVerifier derives the verifier of a password.
func NewVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	k, err := DeriveKeys(password, salt, iterations)
	if err != nil {
		return Verifier{}, err
	}
	v := Verifier{Iterations: iterations, Salt: salt, ServerKey: k.ServerKey}
	v.StoredKey = sha256.Sum256(k.ClientKey[:])
	return v, nil
}

// HashPassword makes the verifier that CREATE ROLE or auth.users takes in
// place of the password, with a random salt. 0 iterations are DefaultIterations.
func HashPassword(password string, iterations int) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	if iterations == 0 {
		iterations = DefaultIterations
	}
	salt := make([]byte, SaltLen)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	v, err := NewVerifier(password, salt, iterations)
	if err != nil {
		return "", err
	}
	return v.String(), nil
}

// MockVerifier is the verifier shown for a name that has none. It depends on
// the two arguments and the name only, so that asking twice tells nothing;
// secret is random and never leaves the process.
func MockVerifier(secret []byte, user string, iterations, saltLen int) (Verifier, error) {
	salt, err := MockSalt(secret, user, saltLen)
	if err != nil {
		return Verifier{}, err
	}
	v := Verifier{Iterations: iterations, Salt: salt, mock: true}
	keys, err := hkdf.Key(sha256.New, secret, nil, "mock keys "+user, 2*KeyLen)
	if err != nil {
		return Verifier{}, err
	}
	copy(v.StoredKey[:], keys)
	copy(v.ServerKey[:], keys[KeyLen:])
	return v, nil
}

// MockSalt is the salt of MockVerifier.
func MockSalt(secret []byte, user string, saltLen int) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, nil, "mock salt "+user, saltLen)
}

// CheckPassword reports whether password is the one the verifier was made
// from. It costs the verifier's iterations, also for a mock verifier.
func (v Verifier) CheckPassword(password string) bool {
	k, err := DeriveKeys(password, v.Salt, v.Iterations)
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare(k.ServerKey[:], v.ServerKey[:]) == 1 && !v.mock
}

// Keys are what a client derives from its password; with them it can log in
// wherever the same verifier is stored.
type Keys struct {
	ClientKey [KeyLen]byte
	ServerKey [KeyLen]byte
}

// DeriveKeys does the client's expensive part: Hi() over the prepared password.
func DeriveKeys(password string, salt []byte, iterations int) (Keys, error) {
	if iterations < 1 || iterations > math.MaxInt32 {
		return Keys{}, fmt.Errorf("%d is no iteration count", iterations)
	}
	salted, err := pbkdf2.Key(sha256.New, saslPrep(password), salt, iterations, KeyLen)
	if err != nil {
		return Keys{}, err
	}
	return Keys{
		ClientKey: mac(salted, []byte("Client Key")),
		ServerKey: mac(salted, []byte("Server Key")),
	}, nil
}

// mac is HMAC-SHA-256.
func mac(key, message []byte) (sum [KeyLen]byte) {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	h.Sum(sum[:0])
	return sum
}

func xor(a, b [KeyLen]byte) (x [KeyLen]byte) {
	subtle.XORBytes(x[:], a[:], b[:])
	return x
}

func decodeKey(key *[KeyLen]byte, s string) error {
	var b [(KeyLen + 2) / 3 * 3]byte
	if len(s) != len(b)/3*4 || hasLineEnd(s) {
		return errMalformedKey
	}
	if n, err := strictBase64.Decode(b[:], []byte(s)); err != nil || n != KeyLen {
		return errMalformedKey
	}
	copy(key[:], b[:])
	return nil
}

var errMalformedKey = errors.New("malformed key")

// strictBase64 takes one spelling of each value only, where there is no line end.
var strictBase64 = base64.StdEncoding.Strict()

// hasLineEnd tells what base64.Encoding skips, also when strict, and PostgreSQL does not.
func hasLineEnd(s string) bool {
	return strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0
}

func decodeBase64(s string) ([]byte, error) {
	if hasLineEnd(s) {
		return nil, errors.New("line end in base64")
	}
	return strictBase64.DecodeString(s)
}

// parseIterations takes plain decimal digits between 1 and 2^31-1.
func parseIterations(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("the iteration count is not a positive number")
	}
	return int(n), nil
}
