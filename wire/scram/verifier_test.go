package scram

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"strings"
	"testing"
)

func TestVerifierRoundTrip(t *testing.T) {
	text, err := HashPassword("pencil", 0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	if v.String() != text || v.Iterations != DefaultIterations || len(v.Salt) != SaltLen {
		t.Errorf("%d iterations, %d bytes of salt", v.Iterations, len(v.Salt))
	}
	if !HasVerifierPrefix(text) {
		t.Error("a verifier without its prefix")
	}
	again, err := HashPassword("pencil", 0)
	if err != nil || again == text {
		t.Error("the salt is not random")
	}
	for password, want := range map[string]bool{"pencil": true, "pencil ": false, "": false} {
		if v.CheckPassword(password) != want {
			t.Errorf("CheckPassword(%q) = %v", password, !want)
		}
	}
	v.mock = true
	if v.CheckPassword("pencil") {
		t.Error("a mock verifier took a password")
	}
	for _, n := range []int{-1, 1 << 31} {
		if _, err := HashPassword("x", n); err == nil {
			t.Errorf("%d iterations were taken", n)
		}
	}
	if _, err := HashPassword("", 0); err == nil {
		t.Error("an empty password was taken")
	}
}

func TestParseVerifier(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	good := "SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key
	if _, err := ParseVerifier(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "SCRAM-SHA-256", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096", "SCRAM-SHA-256$4096:c2FsdA==",
		"SCRAM-SHA-256$4096:c2FsdA==$" + key,
		"scram-sha-256" + strings.TrimPrefix(good, "SCRAM-SHA-256"),
		strings.Replace(good, "4096", "", 1), strings.Replace(good, "4096", "0", 1),
		strings.Replace(good, "4096", "+1", 1), strings.Replace(good, "4096", " 1", 1),
		strings.Replace(good, "4096", "0x10", 1), strings.Replace(good, "4096", "1_0", 1),
		strings.Replace(good, "4096", "2147483648", 1),
		strings.Replace(good, "c2FsdA==", "", 1), strings.Replace(good, "c2FsdA==", "c2FsdA", 1),
		strings.Replace(good, "c2FsdA==", "c2Fs\ndA==", 1), strings.Replace(good, "c2FsdA==", "c2FsdB==", 1),
		good + "x", good + ":" + key, good[:len(good)-4], strings.Replace(good, key, "AAAA", 1),
	} {
		if _, err := ParseVerifier(bad); err == nil {
			t.Errorf("%q was taken", bad)
		} else if len(bad) > 40 && strings.Contains(err.Error(), key) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func FuzzParseVerifier(f *testing.F) {
	f.Add("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
	f.Add("SCRAM-SHA-256$1:AA==$:")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVerifier(s)
		if err != nil {
			return
		}
		// One spelling only, but for leading zeros of the count.
		again, err := ParseVerifier(v.String())
		if err != nil || again.String() != v.String() {
			t.Errorf("%q does not survive a round trip", s)
		}
	})
}

func TestMockVerifier(t *testing.T) {
	mock := func(secret, user string, iterations, saltLen int) Verifier {
		v, err := MockVerifier([]byte(secret), user, iterations, saltLen)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	a := mock("process", "alice", 4096, 16)
	if len(a.Salt) != 16 || a.Iterations != 4096 {
		t.Fatalf("%d bytes of salt, %d iterations", len(a.Salt), a.Iterations)
	}
	if b := mock("process", "alice", 4096, 16); b.String() != a.String() {
		t.Error("asking twice shows two verifiers")
	}
	if b := mock("process", "bob", 4096, 16); bytes.Equal(a.Salt, b.Salt) || a.StoredKey == b.StoredKey {
		t.Error("two names share a salt or a key")
	}
	if b := mock("other", "alice", 4096, 16); bytes.Equal(a.Salt, b.Salt) || a.StoredKey == b.StoredKey {
		t.Error("two processes share a salt or a key")
	}
	salt, err := MockSalt([]byte("process"), "alice", 16)
	if err != nil || !bytes.Equal(salt, a.Salt) {
		t.Error("MockSalt is another salt")
	}
}

func TestSASLPrep(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"ascii", "pencil \x7f", "pencil \x7f"},
		{"soft hyphen is nothing", "I\u00adX", "IX"},
		{"non-ascii space", "a\u00a0b\u3000c", "a b c"},
		{"zero width space is a space", "a\u200bb", "a b"},
		{"NFKC", "\u00aa", "a"},
		{"ligature", "\ufb01sh", "fish"},
		{"roman numeral", "\u2168", "IX"},
		{"composition", "e\u0301", "\u00e9"},
		{"control character: raw", "\u00e9\u0007\u00ad", "\u00e9\u0007\u00ad"},
		{"unassigned: raw", "\u0221\u00ad", "\u0221\u00ad"},
		{"later than Unicode 3.2: raw", "\U0001f600\u00aa", "\U0001f600\u00aa"},
		{"bidi begins and ends right to left", "\u0627\u00ad\u0628", "\u0627\u0628"},
		{"bidi ends with a digit: raw", "\u0627\u00ad1", "\u0627\u00ad1"},
		{"bidi with left to right: raw", "\u0627a\u00ad\u0628", "\u0627a\u00ad\u0628"},
		{"nothing left: raw", "\u00ad", "\u00ad"},
		{"not UTF-8: raw", "\xff\u00ad", "\xff\u00ad"},
		{"surrogate: raw", "\xed\xa0\x80\u00ad", "\xed\xa0\x80\u00ad"},
		{"prohibited before normalisation: raw", "\u0340\u00ad", "\u0340\u00ad"},
		{"empty", "", ""},
	} {
		if got := saslPrep(tt.in); got != tt.want {
			t.Errorf("%s: %+q, want %+q", tt.name, got, tt.want)
		}
	}
}

func TestMD5(t *testing.T) {
	// SELECT 'md5' || md5('secret' || 'app')
	secret := MD5Secret("secret", "app")
	if secret != "md56a422f785c9e20873908ce25d1736ae2" {
		t.Errorf("secret %s", secret)
	}
	for s, want := range map[string]bool{
		secret: true, secret[:34]: false, secret + "0": false, "": false, "md5": false,
		strings.ToUpper(secret): false, "md5" + strings.ToUpper(secret[3:]): false, "md5" + strings.Repeat("g", 32): false,
	} {
		if IsMD5Secret(s) != want {
			t.Errorf("IsMD5Secret(%q) = %v", s, !want)
		}
	}
	salt := [4]byte{1, 2, 3, 4}
	response := MD5Response(secret, salt)
	if !IsMD5Secret(response) || response == secret {
		t.Errorf("response %s", response)
	}
	if !CheckMD5Response(secret, salt, response) {
		t.Error("the right response was refused")
	}
	for _, bad := range []string{"", "md5", response[:34], response + "x", secret, "secret"} {
		if CheckMD5Response(secret, salt, bad) {
			t.Errorf("the response %q was taken", bad)
		}
	}
	if CheckMD5Response(secret, [4]byte{1, 2, 3, 5}, response) {
		t.Error("a response was taken for another salt")
	}
}

func TestEndPoint(t *testing.T) {
	raw := []byte("a certificate")
	sum256, sum384, sum512 := sha256.Sum256(raw), sha512.Sum384(raw), sha512.Sum512(raw)
	for _, tt := range []struct {
		alg  x509.SignatureAlgorithm
		want []byte
	}{
		{x509.MD5WithRSA, sum256[:]}, {x509.SHA1WithRSA, sum256[:]}, {x509.ECDSAWithSHA256, sum256[:]},
		{x509.ECDSAWithSHA384, sum384[:]}, {x509.SHA384WithRSAPSS, sum384[:]}, {x509.SHA512WithRSA, sum512[:]},
		{x509.PureEd25519, nil}, {x509.UnknownSignatureAlgorithm, nil},
	} {
		got, err := EndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: tt.alg})
		if !bytes.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%v: %x, %v", tt.alg, got, err)
		}
	}
}
