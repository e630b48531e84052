package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgpoold/wire/scram"
)

// TestUnknownNamesLookKnown compares what is sent to known users and to names
// that do not exist.
func TestUnknownNamesLookKnown(t *testing.T) {
	users := map[string]string{}
	for i := range 20 {
		users[fmt.Sprint("slow", i)] = mustHash(t, "secret", 77)
		users[fmt.Sprint("plain", i)] = "secret"
		users[fmt.Sprint("md5", i)] = scram.MD5Secret("secret", fmt.Sprint("md5", i))
	}
	// shape is all that a client can see before its proof, but for the nonces and the salt.
	shape := func(a *authenticator, user string) (kind, salt string) {
		c := &scriptedClient{Reader: bytes.NewReader(saslMessage("SCRAM-SHA-256", "n,,n=,r=abc"))}
		_, err := authenticate(c, user, a, nil)
		out := c.Buffer.Bytes()
		if bytes.Contains(out, []byte("SCRAM-SHA-256")) {
			if !errors.Is(err, io.EOF) {
				t.Fatalf("%s: %v", user, err)
			}
			_, rest, _ := strings.Cut(string(out), ",s=")
			salt, iterations, _ := strings.Cut(rest, ",i=")
			return fmt.Sprintf("SCRAM %d bytes, salt of %d, i=%s", len(out), len(salt), iterations), salt
		}
		return fmt.Sprintf("%d bytes, kind %d", len(out), out[8]), ""
	}
	for _, method := range []string{"password", "md5", "scram-sha-256"} {
		a, err := newAuthenticator(AuthOptions{Type: method, Users: users})
		if err != nil {
			t.Fatal(err)
		}
		known, unknown := map[string]int{}, map[string]int{}
		for user := range users {
			kind, _ := shape(a, user)
			known[kind]++
		}
		for i := range len(users) {
			name := fmt.Sprint("nobody", i)
			kind, salt := shape(a, name)
			unknown[kind]++
			if again, saltAgain := shape(a, name); again != kind || saltAgain != salt {
				t.Errorf("%s: %s looks different the second time", method, name)
			}
			b, err := a.reload(AuthOptions{Type: method, Users: users})
			if err != nil {
				t.Fatal(err)
			}
			if again, saltAgain := shape(b, name); again != kind || saltAgain != salt {
				t.Errorf("%s: %s looks different after a reload", method, name)
			}
		}
		for kind := range unknown {
			if known[kind] == 0 {
				t.Errorf("%s: %q is seen for unknown names only", method, kind)
			}
		}
		// 60 names that would all miss a third of the users' looks: (2/3)^60.
		for kind := range known {
			if unknown[kind] == 0 {
				t.Errorf("%s: %q is seen for known users only", method, kind)
			}
		}
	}
}

func TestNewAuthenticatorRefuses(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, tt := range []struct {
		opts AuthOptions
		want []string
	}{
		{AuthOptions{Type: ""}, []string{"auth.type"}},
		{AuthOptions{Type: "cert"}, []string{"auth.type", "cert", "scram-sha-256"}},
		{AuthOptions{Type: "md5", Users: map[string]string{"app": "SCRAM-SHA-256$4096:$" + key, "ops": "SCRAM-SHA-256$x", "fine": "x"}},
			[]string{"auth.users.app", "auth.users.ops"}},
	} {
		a, err := newAuthenticator(tt.opts)
		if err == nil || a != nil {
			t.Errorf("%+v was taken", tt.opts)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not name %s", err, want)
			}
		}
		if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "auth.users.fine") {
			t.Errorf("%v says too much", err)
		}
	}
}

// TestVerifiersAreBounded fills the cache with names that do not exist.
func TestVerifiersAreBounded(t *testing.T) {
	a, err := newAuthenticator(AuthOptions{Type: "scram-sha-256", Users: map[string]string{"app": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxVerifiers {
		a.shared.verifiers[verifierKey{user: fmt.Sprint(i)}] = scram.Verifier{}
	}
	s := storedSecret{kind: secretPlain, text: "secret"}
	first, err := a.verifierOf("app", s)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(a.shared.verifiers); n != maxVerifiers {
		t.Errorf("%d verifiers are kept", n)
	}
	if kept, ok := a.shared.remembered(verifierKey{"app", "secret"}); !ok || kept.String() != first.String() {
		t.Error("a second login derives the verifier again")
	}
	changed, err := a.verifierOf("app", storedSecret{kind: secretPlain, text: "other"})
	if err != nil || changed.StoredKey == first.StoredKey {
		t.Errorf("a new password keeps the old verifier: %v", err)
	}
}

// Of clients that wait for one derivation the second finds it done.
func TestVerifierIsDerivedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newAuthenticator(AuthOptions{Type: "scram-sha-256"})
		if err != nil {
			t.Fatal(err)
		}
		var releases []func()
		for range cap(a.shared.derive) {
			releases = append(releases, a.shared.acquire())
		}
		got := make(chan scram.Verifier)
		go func() {
			v, _ := a.shared.verifierOf("app", "secret")
			got <- v
		}()
		synctest.Wait()
		want := scram.Verifier{Iterations: 1, Salt: []byte("salt")}
		a.shared.mu.Lock()
		a.shared.verifiers[verifierKey{"app", "secret"}] = want
		a.shared.mu.Unlock()
		for _, release := range releases {
			release()
		}
		if v := <-got; v.String() != want.String() {
			t.Error("a verifier was derived twice")
		}
	})
}

// Who guesses the secret that stands for a name which cannot log in, still
// cannot log in.
func TestMadeUpSecretsLetNobodyIn(t *testing.T) {
	for _, method := range []string{"password", "md5", "scram-sha-256"} {
		s := newAuthServer(t, AuthOptions{Type: method, Users: map[string]string{"app": "secret"}}, nil)
		secret, doubt, err := s.auth.secretOf("nobody")
		if err != nil || doubt == "" || secret.kind != secretPlain {
			t.Fatalf("%+v, %q, %v", secret, doubt, err)
		}
		if r, err := s.login(t, "nobody", secret.text, nil); err == nil || r.err == nil {
			t.Errorf("%s: nobody is logged in", method)
		}
	}
}

func TestManyLoginsAtOnce(t *testing.T) {
	s := newAuthServer(t, AuthOptions{Type: "scram-sha-256", Users: map[string]string{"app": "secret"}}, nil)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			user, password, want := "app", "secret", true
			switch i % 4 {
			case 1:
				password, want = "wrong", false
			case 2:
				user, want = fmt.Sprint("nobody", i), false
			}
			if _, err := s.login(t, user, password, nil); (err == nil) != want {
				t.Errorf("%s %s: %v", user, password, err)
			}
		})
	}
	wg.Wait()
	if n := len(s.auth.shared.verifiers); n != 11 {
		t.Errorf("%d verifiers were made for one user and ten unknown names", n)
	}
}
