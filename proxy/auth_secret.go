package proxy

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"pgpoold/wire/scram"
)

// authMethod is auth.type.
type authMethod uint8

const (
	methodTrust authMethod = iota
	methodAny
	methodPassword
	methodMD5
	methodSCRAM
)

// methodNames are the methods' names, by method.
var methodNames = [...]string{"trust", "any", "password", "md5", "scram-sha-256"}

// secretKind is the form in which a user's secret is stored.
type secretKind uint8

const (
	secretNone secretKind = iota
	secretPlain
	secretMD5
	secretSCRAM
)

// storedSecret is one user's secret.
type storedSecret struct {
	kind     secretKind
	text     string         // plain and md5
	verifier scram.Verifier // SCRAM
}

// usable says whether a user with this secret can log in by the method.
func (s storedSecret) usable(m authMethod) bool {
	switch s.kind {
	case secretNone:
		return false
	case secretMD5:
		return m != methodSCRAM
	default:
		return true
	}
}

// authenticator knows the method and the users' secrets. All of it is
// immutable but what shared guards itself, so that any goroutine may use it.
type authenticator struct {
	method authMethod
	users  map[string]storedSecret
	// looks are what secrets of users that can log in look like from outside,
	// one per user. A name that cannot log in takes one of them.
	looks  []look
	shared *authShared
}

// look is what an exchange shows of a secret.
type look struct {
	kind                secretKind
	iterations, saltLen int // SCRAM
}

// newAuthenticator reads the options. Its errors name the settings and no secret.
func newAuthenticator(opts AuthOptions) (*authenticator, error) {
	shared := &authShared{
		derive:    make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		verifiers: make(map[verifierKey]scram.Verifier),
	}
	if _, err := rand.Read(shared.secret[:]); err != nil {
		return nil, err
	}
	return shared.authenticator(opts)
}

// reload makes an authenticator for other options in the same process: names
// that do not exist look as they did before.
func (a *authenticator) reload(opts AuthOptions) (*authenticator, error) {
	return a.shared.authenticator(opts)
}

func (sh *authShared) authenticator(opts AuthOptions) (*authenticator, error) {
	method := slices.Index(methodNames[:], opts.Type)
	if method < 0 {
		return nil, fmt.Errorf("auth.type: %q is none of %s", opts.Type, strings.Join(methodNames[:], ", "))
	}
	a := &authenticator{method: authMethod(method), users: make(map[string]storedSecret, len(opts.Users)), shared: sh}
	var mistakes []error
	for _, user := range slices.Sorted(maps.Keys(opts.Users)) {
		s, err := parseSecret(opts.Users[user])
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("auth.users.%s: %w", user, err))
			continue
		}
		a.users[user] = s
		if s.usable(a.method) {
			a.looks = append(a.looks, look{kind: s.kind, iterations: s.verifier.Iterations, saltLen: len(s.verifier.Salt)})
		}
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	if len(a.looks) == 0 {
		a.looks = []look{{kind: secretPlain}}
	}
	return a, nil
}

// parseSecret tells the stored forms apart as PostgreSQL does, but for a text
// that means to be a SCRAM verifier and is none.
func parseSecret(text string) (storedSecret, error) {
	switch {
	case text == "":
		return storedSecret{}, nil
	case scram.HasVerifierPrefix(text):
		v, err := scram.ParseVerifier(text)
		return storedSecret{kind: secretSCRAM, verifier: v}, err
	case scram.IsMD5Secret(text):
		return storedSecret{kind: secretMD5, text: text}, nil
	default:
		return storedSecret{kind: secretPlain, text: text}, nil
	}
}

// trust lets every known user in; its stored secret serves the server login.
func (a *authenticator) trust(user string) (identity, error) {
	s, ok := a.users[user]
	if !ok {
		return identity{}, &authError{
			code:    codeInvalidAuthorization,
			message: fmt.Sprintf("role \"%s\" does not exist", user),
			detail:  "It is not among auth.users.",
		}
	}
	id := identity{User: user}
	switch s.kind {
	case secretPlain:
		id.Password = s.text
	case secretMD5:
		id.MD5Secret = s.text
	}
	return id, nil
}

// secretOf returns the user's secret. Where there is none that the method can
// use, it returns one that nobody knows, always the same for one name, and
// the reason why the login must fail.
func (a *authenticator) secretOf(user string) (s storedSecret, doubt string, err error) {
	s, ok := a.users[user]
	switch {
	case !ok:
		doubt = "the user is not among auth.users"
	case s.usable(a.method):
		return s, "", nil
	case s.kind == secretNone:
		doubt = "the user's secret in auth.users is empty"
	default:
		doubt = "the user's secret in auth.users is md5, which auth.type scram-sha-256 cannot use"
	}
	random, err := hkdf.Key(sha256.New, a.shared.secret[:], nil, "mock secret "+user, 8+16)
	if err != nil {
		return storedSecret{}, "", err
	}
	l := a.looks[binary.BigEndian.Uint64(random)%uint64(len(a.looks))]
	text := hex.EncodeToString(random[8:])
	switch l.kind {
	case secretSCRAM:
		v, err := scram.MockVerifier(a.shared.secret[:], user, l.iterations, l.saltLen)
		return storedSecret{kind: l.kind, verifier: v}, doubt, err
	case secretMD5:
		return storedSecret{kind: l.kind, text: scram.MD5Secret(text, user)}, doubt, nil
	default:
		return storedSecret{kind: l.kind, text: text}, doubt, nil
	}
}

// verifierOf returns what a SCRAM exchange about the secret needs.
func (a *authenticator) verifierOf(user string, s storedSecret) (scram.Verifier, error) {
	if s.kind == secretSCRAM {
		return s.verifier, nil
	}
	return a.shared.verifierOf(user, s.text)
}

// maxVerifiers bounds the verifiers made of plain secrets; each is about 200 bytes.
const maxVerifiers = 4096

// authShared is what outlives a reload.
type authShared struct {
	secret [32]byte      // immutable: what unknown names look like derives from it
	derive chan struct{} // holds a token per derivation that runs: each costs a millisecond of CPU

	mu        sync.Mutex
	verifiers map[verifierKey]scram.Verifier // guarded by mu
}

type verifierKey struct{ user, password string }

// verifierOf makes the verifier of a plain secret, or remembers it. Names that
// do not exist go the same way and take the same time.
func (sh *authShared) verifierOf(user, password string) (scram.Verifier, error) {
	key := verifierKey{user, password}
	if v, ok := sh.remembered(key); ok {
		return v, nil
	}
	defer sh.acquire()()
	if v, ok := sh.remembered(key); ok {
		return v, nil // somebody else made it in the meantime
	}
	salt, err := scram.MockSalt(sh.secret[:], user, scram.SaltLen)
	if err != nil {
		return scram.Verifier{}, err
	}
	v, err := scram.NewVerifier(password, salt, scram.DefaultIterations)
	if err != nil {
		return scram.Verifier{}, err
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for old := range sh.verifiers {
		if len(sh.verifiers) < maxVerifiers {
			break
		}
		delete(sh.verifiers, old)
	}
	sh.verifiers[key] = v
	return v, nil
}

func (sh *authShared) remembered(key verifierKey) (scram.Verifier, bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	v, ok := sh.verifiers[key]
	return v, ok
}

// acquire waits for the right to derive keys; the result gives it back.
func (sh *authShared) acquire() (release func()) {
	sh.derive <- struct{}{}
	return func() { <-sh.derive }
}
