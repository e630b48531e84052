package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/wire/scram"
)

// maxAuthToken is the longest password message (PG_MAX_AUTH_TOKEN_LENGTH).
const maxAuthToken = 65535

const (
	codeInvalidPassword      = "28P01"
	codeInvalidAuthorization = "28000"
	codeProtocolViolation    = "08P01"
)

// authIO is a client that is logging in. Reads and writes block; the login's
// deadline is the caller's.
type authIO interface {
	io.Reader
	io.Writer
}

// authenticate asks the client for its proof and returns who it is. It reads
// the messages of the exchange and nothing ahead of them; AuthenticationOk is
// left to the caller. endPoint is the channel binding data of the certificate
// that the client was shown (ClientTLS.endPoint), nil without TLS.
//
// The error is an *authError, which the client shall see as FATAL, or that of
// the client's socket; io.EOF says that the client gave up.
//
// A client cannot tell from the exchange whether the user exists, but for
// trust, where PostgreSQL tells too.
func authenticate(rw authIO, user string, a *authenticator, endPoint []byte) (identity, error) {
	switch a.method {
	case methodAny:
		return identity{User: user}, nil
	case methodTrust:
		return a.trust(user)
	}
	secret, doubt, err := a.secretOf(user)
	if err != nil {
		return identity{}, err
	}
	c := conversations.Get().(*authConversation)
	c.rw, c.user, c.auth, c.secret, c.doubt, c.endPoint = rw, user, a, secret, doubt, endPoint
	defer c.forget()
	switch {
	case a.method == methodPassword:
		return c.password()
	case a.method == methodMD5 && secret.kind != secretSCRAM:
		return c.md5()
	default:
		return c.sasl()
	}
}

// authConversation is one client's exchange; the client's goroutine owns it.
type authConversation struct {
	rw       authIO
	user     string
	auth     *authenticator
	secret   storedSecret
	doubt    string // why the login must fail whatever the client sends; "" if it need not
	endPoint []byte
	room     [512]byte // for a message that comes or goes; the next one may take its place
}

// conversations are used again.
var conversations = sync.Pool{New: func() any { return new(authConversation) }}

// forget ends the exchange. Nothing is kept of it.
func (c *authConversation) forget() {
	*c = authConversation{}
	conversations.Put(c)
}

// password is AuthenticationCleartextPassword.
func (c *authConversation) password() (identity, error) {
	if err := c.send(&pgproto3.AuthenticationCleartextPassword{}); err != nil {
		return identity{}, err
	}
	password, err := c.receivePassword()
	if err != nil {
		return identity{}, err
	}
	var right bool
	switch c.secret.kind {
	case secretSCRAM:
		release := c.auth.shared.acquire()
		right = c.secret.verifier.CheckPassword(password)
		release()
	case secretMD5:
		right = sameSecret(scram.MD5Secret(password, c.user), c.secret.text)
	default:
		right = sameSecret(password, c.secret.text)
	}
	if !right || c.doubt != "" {
		return identity{}, c.refuse()
	}
	return identity{User: c.user, Password: password}, nil
}

// md5 is AuthenticationMD5Password.
func (c *authConversation) md5() (identity, error) {
	var salt [4]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return identity{}, err
	}
	if err := c.send(&pgproto3.AuthenticationMD5Password{Salt: salt}); err != nil {
		return identity{}, err
	}
	response, err := c.receivePassword()
	if err != nil {
		return identity{}, err
	}
	id := identity{User: c.user}
	secret := c.secret.text
	if c.secret.kind == secretMD5 {
		id.MD5Secret = secret
	} else {
		id.Password = secret
		secret = scram.MD5Secret(secret, c.user)
	}
	if !scram.CheckMD5Response(secret, salt, response) || c.doubt != "" {
		return identity{}, c.refuse()
	}
	return id, nil
}

// sasl is AuthenticationSASL with the SCRAM-SHA-256 mechanisms.
func (c *authConversation) sasl() (identity, error) {
	if err := c.send(&pgproto3.AuthenticationSASL{AuthMechanisms: scram.Mechanisms(c.endPoint)}); err != nil {
		return identity{}, err
	}
	body, err := c.receive("SASL response")
	if err != nil {
		return identity{}, err
	}
	mechanism, clientFirst, err := saslInitialResponse(body)
	if err != nil {
		return identity{}, err
	}
	if clientFirst == nil {
		// SASL lets a client leave its first message for later.
		if err := c.send(&pgproto3.AuthenticationSASLContinue{}); err != nil {
			return identity{}, err
		}
		if clientFirst, err = c.receive("SASL response"); err != nil {
			return identity{}, err
		}
	}
	verifier, err := c.auth.verifierOf(c.user, c.secret)
	if err != nil {
		return identity{}, err
	}
	server, err := scram.NewServer(verifier, c.endPoint)
	if err != nil {
		return identity{}, err
	}
	serverFirst, err := server.First(mechanism, clientFirst)
	if err != nil {
		return identity{}, c.refuseSCRAM(err)
	}
	if err := c.send(&pgproto3.AuthenticationSASLContinue{Data: serverFirst}); err != nil {
		return identity{}, err
	}
	clientFinal, err := c.receive("SASL response")
	if err != nil {
		return identity{}, err
	}
	serverFinal, err := server.Final(clientFinal)
	if err != nil {
		return identity{}, c.refuseSCRAM(err)
	}
	keys, ok := server.Keys()
	if !ok || c.doubt != "" {
		return identity{}, c.refuse()
	}
	if err := c.send(&pgproto3.AuthenticationSASLFinal{Data: serverFinal}); err != nil {
		return identity{}, err
	}
	id := identity{User: c.user, ClientKey: keys.ClientKey[:], ServerKey: keys.ServerKey[:]}
	if c.secret.kind == secretPlain {
		// These keys belong to a salt that no PostgreSQL knows.
		id = identity{User: c.user, Password: c.secret.text}
	}
	return id, nil
}

// refuse is the answer to a wrong proof, a name that does not exist and a
// secret that cannot be used alike.
func (c *authConversation) refuse() error {
	reason := c.doubt
	if reason == "" {
		reason = "wrong password"
	}
	return &authError{
		code:    codeInvalidPassword,
		message: fmt.Sprintf("password authentication failed for user \"%s\"", c.user),
		reason:  reason,
	}
}

func (c *authConversation) refuseSCRAM(err error) error {
	var malformed *scram.Error
	if errors.As(err, &malformed) {
		return &authError{code: malformed.SQLState, message: malformed.Message, detail: malformed.Detail}
	}
	if errors.Is(err, scram.ErrProof) {
		return c.refuse()
	}
	return err
}

func (c *authConversation) send(m pgproto3.BackendMessage) error {
	buf, err := m.Encode(c.room[:0])
	if err != nil {
		return err
	}
	_, err = c.rw.Write(buf)
	return err
}

// receivePassword reads a PasswordMessage: one string with its terminator.
func (c *authConversation) receivePassword() (string, error) {
	body, err := c.receive("password response")
	if err != nil {
		return "", err
	}
	password, rest, ok := strings.Cut(string(body), "\x00")
	if !ok || rest != "" {
		return "", &authError{code: codeProtocolViolation, message: "invalid password packet size"}
	}
	if password == "" {
		return "", &authError{code: codeInvalidPassword, message: "empty password returned by client"}
	}
	return password, nil
}

// receive reads the body of a message of type p; it is the caller's until the next
// message comes or goes. Its length is checked before there is room for it.
func (c *authConversation) receive(expected string) ([]byte, error) {
	header := c.room[:5]
	if _, err := io.ReadFull(c.rw, header); err != nil {
		return nil, err
	}
	switch header[0] {
	case 'p':
	case 'X':
		return nil, io.EOF
	default:
		return nil, &authError{
			code:    codeProtocolViolation,
			message: fmt.Sprintf("expected %s, got message type %d", expected, header[0]),
		}
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size < 4 || size-4 > maxAuthToken {
		return nil, &authError{code: codeProtocolViolation, message: "invalid message length"}
	}
	body := c.room[:]
	if int(size-4) > len(body) {
		body = make([]byte, size-4)
	}
	body = body[:size-4]
	if _, err := io.ReadFull(c.rw, body); err != nil {
		return nil, err
	}
	return body, nil
}

// saslInitialResponse splits a SASLInitialResponse; data is a piece of it, nil where the
// client has sent none, which is not the same as an empty one.
func saslInitialResponse(body []byte) (mechanism string, data []byte, err error) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) < 4 {
		return "", nil, &authError{code: codeProtocolViolation, message: "invalid SASLInitialResponse message"}
	}
	size := int32(binary.BigEndian.Uint32(rest))
	data = rest[4:]
	switch {
	case size == -1 && len(data) == 0:
		return string(name), nil, nil
	case size < 0 || int(size) != len(data):
		return "", nil, &authError{code: codeProtocolViolation, message: "invalid SASLInitialResponse message"}
	}
	return string(name), data, nil
}

// sameSecret compares in a time that depends on neither secret's content; the
// hashes hide the lengths too.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
