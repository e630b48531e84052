package scram

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func mustVerifier(t testing.TB, password, salt string, iterations int) Verifier {
	t.Helper()
	v, err := NewVerifier(password, []byte(salt), iterations)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustServer(t testing.TB, v Verifier, endPoint []byte) *Server {
	t.Helper()
	s, err := NewServer(v, endPoint)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The example of RFC 7677 §3.
const (
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcSalt        = "W22ZaJ0SNY7soEsUEjb6gQ=="
	rfcClientFirst = "n,,n=user,r=" + rfcClientNonce
	rfcServerFirst = "r=" + rfcClientNonce + rfcServerNonce + ",s=" + rfcSalt + ",i=4096"
	rfcClientFinal = "c=biws,r=" + rfcClientNonce + rfcServerNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func rfcVerifier(t testing.TB) (Verifier, Keys) {
	t.Helper()
	salt, err := base64.StdEncoding.DecodeString(rfcSalt)
	if err != nil {
		t.Fatal(err)
	}
	k, err := DeriveKeys("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return mustVerifier(t, "pencil", string(salt), 4096), k
}

func TestServerRFC7677(t *testing.T) {
	v, keys := rfcVerifier(t)
	s := mustServer(t, v, nil)
	s.nonce = rfcServerNonce
	first, err := s.First(Mechanism, []byte(rfcClientFirst))
	if err != nil || string(first) != rfcServerFirst {
		t.Fatalf("server-first %q, %v", first, err)
	}
	if _, ok := s.Keys(); ok {
		t.Error("there are keys before the proof")
	}
	final, err := s.Final([]byte(rfcClientFinal))
	if err != nil || string(final) != rfcServerFinal {
		t.Fatalf("server-final %q, %v", final, err)
	}
	if got, ok := s.Keys(); !ok || got != keys {
		t.Error("the recovered keys are not the client's")
	}
	if _, err := s.Final([]byte(rfcClientFinal)); err == nil {
		t.Error("a second client-final was taken")
	}
}

func TestClientRFC7677(t *testing.T) {
	_, keys := rfcVerifier(t)
	c, err := NewClient(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.nonce, c.user = rfcClientNonce, "user"
	if c.Verify([]byte(rfcServerFinal)) == nil {
		t.Error("a signature was taken before the exchange")
	}
	mechanism, first, err := c.First([]string{MechanismPlus, Mechanism})
	if err != nil || mechanism != Mechanism || string(first) != rfcClientFirst {
		t.Fatalf("client-first %q %q, %v", mechanism, first, err)
	}
	final, err := c.Final([]byte(rfcServerFirst))
	if err != nil || string(final) != rfcClientFinal {
		t.Fatalf("client-final %q, %v", final, err)
	}
	if err := c.Verify([]byte(rfcServerFinal)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "v=", "e=other-error", "v=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), rfcServerFinal[:20]} {
		if c.Verify([]byte(bad)) == nil {
			t.Errorf("the signature %q was taken", bad)
		}
	}
}

func TestExchange(t *testing.T) {
	v := mustVerifier(t, "secret", "0123456789abcdef", 100)
	keys, err := DeriveKeys("secret", v.Salt, v.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	hash, other := []byte("hash of a certificate"), []byte("hash of another one")
	wrong := keys
	wrong.ClientKey[0] ^= 1
	mock, err := MockVerifier([]byte("process"), "nobody", 100, 16)
	if err != nil {
		t.Fatal(err)
	}
	doomed := v
	doomed.mock = true
	for _, tt := range []struct {
		name               string
		verifier           Verifier
		keys               Keys
		serverEnd, client  []byte
		offered            []string // nil: what the server offers
		wantMechanism      string
		wantState, wantMsg string
		wantProof          bool
	}{
		{name: "plain", verifier: v, keys: keys, wantMechanism: Mechanism},
		{name: "bound", verifier: v, keys: keys, serverEnd: hash, client: hash, wantMechanism: MechanismPlus},
		{name: "client without binding", verifier: v, keys: keys, serverEnd: hash, wantMechanism: Mechanism},
		{name: "server without binding", verifier: v, keys: keys, client: hash, wantMechanism: Mechanism},
		{name: "man in the middle", verifier: v, keys: keys, serverEnd: hash, client: other, wantMechanism: MechanismPlus,
			wantState: "28000", wantMsg: "SCRAM channel binding check failed"},
		{name: "list tampered with", verifier: v, keys: keys, serverEnd: hash, client: hash, offered: []string{Mechanism}, wantMechanism: Mechanism,
			wantState: "28000", wantMsg: "SCRAM channel binding negotiation error"},
		{name: "plus without TLS", verifier: v, keys: keys, client: hash, offered: []string{MechanismPlus, Mechanism}, wantMechanism: MechanismPlus,
			wantState: "08P01", wantMsg: "client selected an invalid SASL authentication mechanism"},
		{name: "wrong key", verifier: v, keys: wrong, wantMechanism: Mechanism, wantProof: true},
		{name: "unknown user", verifier: mock, keys: keys, wantMechanism: Mechanism, wantProof: true},
		{name: "right proof for a mock", verifier: doomed, keys: keys, wantMechanism: Mechanism, wantProof: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustServer(t, tt.verifier, tt.serverEnd)
			c, err := NewClient(tt.keys, tt.client)
			if err != nil {
				t.Fatal(err)
			}
			offered := tt.offered
			if offered == nil {
				offered = Mechanisms(tt.serverEnd)
			}
			mechanism, msg, err := c.First(offered)
			if err != nil || mechanism != tt.wantMechanism {
				t.Fatalf("mechanism %q, %v", mechanism, err)
			}
			msg, err = s.First(mechanism, msg)
			if err == nil {
				if msg, err = c.Final(msg); err != nil {
					t.Fatal(err)
				}
				msg, err = s.Final(msg)
			}
			if tt.wantProof {
				if !errors.Is(err, ErrProof) {
					t.Fatalf("error %v", err)
				}
				if _, ok := s.Keys(); ok {
					t.Error("there are keys after a wrong proof")
				}
				return
			}
			if tt.wantState != "" {
				checkError(t, err, tt.wantState, tt.wantMsg)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(msg); err != nil {
				t.Error(err)
			}
			if got, _ := s.Keys(); got != tt.keys {
				t.Error("the recovered keys are not the client's")
			}
		})
	}
	c, _ := NewClient(keys, nil)
	if _, _, err := c.First([]string{"GS2-KRB5", MechanismPlus}); err == nil {
		t.Error("a client without TLS chose channel binding")
	}
}

func checkError(t *testing.T, err error, state, message string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.SQLState != state || !strings.Contains(e.Error(), message) {
		t.Errorf("error %v, want %s %s", err, state, message)
	}
}

func TestServerRefusesFirst(t *testing.T) {
	v := mustVerifier(t, "secret", "0123456789abcdef", 1)
	hash := []byte("hash")
	for _, tt := range []struct {
		mechanism, msg string
		endPoint       []byte
		state, want    string
	}{
		{Mechanism, "", nil, "08P01", "The message is empty."},
		{Mechanism, "n,,n=,r=a\x00b", nil, "08P01", "Message length does not match input length."},
		{"SCRAM-SHA-1", "n,,n=,r=abc", nil, "08P01", "invalid SASL authentication mechanism"},
		{"", "n,,n=,r=abc", nil, "08P01", "invalid SASL authentication mechanism"},
		{Mechanism, "x,,n=,r=abc", nil, "08P01", `Unexpected channel-binding flag "x".`},
		{Mechanism, "\xff,,n=,r=abc", nil, "08P01", `Unexpected channel-binding flag "0xff".`},
		{Mechanism, "n", nil, "08P01", `Comma expected, but found character "0x00".`},
		{Mechanism, "nn,,n=,r=abc", nil, "08P01", `Comma expected, but found character "n".`},
		{Mechanism, "n,a=admin,n=,r=abc", nil, "0A000", "authorization identity"},
		{Mechanism, "n,b,n=,r=abc", nil, "08P01", `Unexpected attribute "b"`},
		{Mechanism, "n,,m=x,n=,r=abc", nil, "0A000", "unsupported SCRAM extension"},
		{Mechanism, "n,,r=abc", nil, "08P01", `Expected attribute "n" but found "r".`},
		{Mechanism, "n,,n=", nil, "08P01", `Expected attribute "r" but found "0x00".`},
		{Mechanism, "n,,n,r=abc", nil, "08P01", `Expected character "=" for attribute "n".`},
		{Mechanism, "n,,n=,r=a b", nil, "08P01", "non-printable characters in SCRAM nonce"},
		{Mechanism, "n,,n=,r=abc,1=x", nil, "08P01", `Attribute expected, but found invalid character "1".`},
		{Mechanism, "p=tls-server-end-point,,n=,r=abc", hash, "08P01", "without channel binding, but"},
		{MechanismPlus, "n,,n=,r=abc", hash, "08P01", "does not include channel binding data"},
		{MechanismPlus, "y,,n=,r=abc", hash, "08P01", "does not include channel binding data"},
		{MechanismPlus, "p=tls-unique,,n=,r=abc", hash, "08P01", "unsupported SCRAM channel-binding type"},
		{MechanismPlus, "p,,n=,r=abc", hash, "08P01", `Expected character "=" for attribute "p".`},
		{MechanismPlus, "p=tls-server-end-point", hash, "08P01", `Unexpected attribute "0x00"`},
	} {
		s := mustServer(t, v, tt.endPoint)
		_, err := s.First(tt.mechanism, []byte(tt.msg))
		checkError(t, err, tt.state, tt.want)
		if _, err := s.First(Mechanism, []byte("n,,n=,r=abc")); err == nil {
			t.Errorf("%q: the exchange went on after the error", tt.msg)
		}
	}
}

func TestServerRefusesFinal(t *testing.T) {
	nonce := rfcClientNonce + rfcServerNonce
	proof := ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	for _, tt := range []struct{ msg, state, want string }{
		{"", "08P01", "The message is empty."},
		{"r=" + nonce + proof, "08P01", `Expected attribute "c" but found "r".`},
		{"c=eSws,r=" + nonce + proof, "08P01", "unexpected SCRAM channel-binding attribute"},
		{"c=biws" + proof, "08P01", `Expected attribute "r" but found "p".`},
		{"c=biws,r=" + nonce, "08P01", "Attribute expected"},
		{"c=biws,r=" + nonce + ",", "08P01", "Attribute expected"},
		{"c=biws,r=" + nonce + ",x=1", "08P01", "Attribute expected"},
		{"c=biws,r=" + nonce + ",p=", "08P01", "Malformed proof"},
		{"c=biws,r=" + nonce + ",p=AAAA", "08P01", "Malformed proof"},
		{"c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7And\nVQ=", "08P01", "Malformed proof"},
		{"c=biws,r=" + nonce + proof + ",x=1", "08P01", "Garbage found"},
		{"c=biws,r=" + nonce + "x" + proof, "08P01", "Nonce does not match."},
		{"c=biws,r=" + rfcClientNonce + proof, "08P01", "Nonce does not match."},
	} {
		v, _ := rfcVerifier(t)
		s := mustServer(t, v, nil)
		s.nonce = rfcServerNonce
		if _, err := s.First(Mechanism, []byte(rfcClientFirst)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Final([]byte(tt.msg))
		checkError(t, err, tt.state, tt.want)
		if _, err := s.Final([]byte(rfcClientFinal)); err == nil {
			t.Errorf("%q: the exchange went on after the error", tt.msg)
		}
	}
	// An optional extension is part of what the proof covers, so this one is
	// well-formed and wrong.
	v, _ := rfcVerifier(t)
	s := mustServer(t, v, nil)
	s.nonce = rfcServerNonce
	if _, err := s.First(Mechanism, []byte(rfcClientFirst)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Final([]byte("c=biws,r=" + nonce + ",x=1" + proof)); !errors.Is(err, ErrProof) {
		t.Errorf("extension: %v", err)
	}
}

// A proof that covers an optional extension is right only if the text in
// front of p= is cut at the right comma.
func TestServerTakesExtensions(t *testing.T) {
	v, keys := rfcVerifier(t)
	s := mustServer(t, v, nil)
	first, err := s.First(Mechanism, []byte("n,,n=user,r=abc,x=1,y="))
	if err != nil {
		t.Fatal(err)
	}
	nonce, _, _ := strings.Cut(strings.TrimPrefix(string(first), "r="), ",")
	withoutProof := "c=biws,r=" + nonce + ",x=,z=2"
	storedKey := sha256.Sum256(keys.ClientKey[:])
	proof := xor(keys.ClientKey, mac(storedKey[:], []byte("n=user,r=abc,x=1,y=,"+string(first)+","+withoutProof)))
	if _, err := s.Final([]byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof[:]))); err != nil {
		t.Error(err)
	}
}

func TestClientRefusesServerFirst(t *testing.T) {
	for _, bad := range []string{
		"", "r=", "r=abc", "r=" + rfcClientNonce + ",s=" + rfcSalt + ",i=4096",
		"r=zzz" + rfcClientNonce + "x,s=" + rfcSalt + ",i=4096",
		"r=" + rfcClientNonce + "x", "r=" + rfcClientNonce + "x,i=4096",
		"r=" + rfcClientNonce + "x,s=!,i=4096", "r=" + rfcClientNonce + "x,s=" + rfcSalt,
		"r=" + rfcClientNonce + "x,s=" + rfcSalt + ",i=0", "r=" + rfcClientNonce + "x,s=" + rfcSalt + ",i=-1",
		"m=x,r=" + rfcClientNonce + "x,s=" + rfcSalt + ",i=4096",
		"r=" + rfcClientNonce + "\x01,s=" + rfcSalt + ",i=4096",
	} {
		c, err := NewClient(Keys{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.nonce = rfcClientNonce
		if _, _, err := c.First([]string{Mechanism}); err != nil {
			t.Fatal(err)
		}
		if final, err := c.Final([]byte(bad)); err == nil {
			t.Errorf("%q was answered with %q", bad, final)
		}
		if c.Verify([]byte(rfcServerFinal)) == nil {
			t.Errorf("%q: a signature was taken", bad)
		}
	}
}

func FuzzServer(f *testing.F) {
	f.Add(Mechanism, []byte(rfcClientFirst), []byte(rfcClientFinal))
	f.Add(MechanismPlus, []byte("p=tls-server-end-point,,n=,r=x"), []byte("c=,r=,p="))
	f.Add(Mechanism, []byte("y,,n=,r=,"), []byte("c=eSws,r=x,p=AAAA"))
	v := mustVerifier(f, "pencil", "salt", 1)
	f.Fuzz(func(t *testing.T, mechanism string, first, final []byte) {
		for _, endPoint := range [][]byte{nil, []byte("hash")} {
			s := mustServer(t, v, endPoint)
			s.nonce = rfcServerNonce
			if _, err := s.First(mechanism, first); err != nil {
				continue
			}
			if _, err := s.Final(final); err == nil {
				t.Errorf("%q %q proved a password", first, final)
			}
			if _, ok := s.Keys(); ok {
				t.Error("there are keys without a proof")
			}
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add([]byte(rfcServerFirst), []byte(rfcServerFinal))
	f.Add([]byte("r=x,s=,i="), []byte("v="))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		c, err := NewClient(Keys{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.nonce = rfcClientNonce
		if _, _, err := c.First([]string{Mechanism}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Final(first); err != nil {
			return
		}
		if c.Verify(final) == nil {
			t.Errorf("%q %q proved the server", first, final)
		}
	})
}
