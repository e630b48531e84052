package scram

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
)

// Client is the client's side of one exchange, for who holds the keys and not
// the password: First, Final, Verify, in this order. It is not safe for
// concurrent use.
type Client struct {
	keys     Keys
	endPoint []byte
	nonce    string
	user     string // n=, which PostgreSQL ignores

	mechanism       string
	gs2Header       string
	clientFirstBare string
	authMessage     []byte
}

// NewClient begins an exchange. endPoint is the channel binding data of the
// server's certificate (see EndPoint), nil without TLS or where the
// certificate has none.
func NewClient(keys Keys, endPoint []byte) (*Client, error) {
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	return &Client{keys: keys, endPoint: endPoint, nonce: nonce}, nil
}

// First chooses among the server's mechanisms and returns the choice and the
// client-first-message.
func (c *Client) First(offered []string) (mechanism string, clientFirst []byte, err error) {
	switch {
	case c.endPoint != nil && slices.Contains(offered, MechanismPlus):
		c.mechanism, c.gs2Header = MechanismPlus, "p="+bindingType+",,"
	case !slices.Contains(offered, Mechanism):
		return "", nil, errors.New("the server offers no SASL mechanism that is known here")
	case c.endPoint != nil:
		c.mechanism, c.gs2Header = Mechanism, "y,,"
	default:
		c.mechanism, c.gs2Header = Mechanism, "n,,"
	}
	c.clientFirstBare = "n=" + c.user + ",r=" + c.nonce
	return c.mechanism, []byte(c.gs2Header + c.clientFirstBare), nil
}

// Final takes the server-first-message and returns the client-final-message.
func (c *Client) Final(serverFirst []byte) ([]byte, error) {
	attrs := attributes{string(serverFirst)}
	nonce, err := attrs.expect('r')
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) || !isPrintable(nonce) {
		return nil, errors.New("the server's SCRAM nonce does not extend the client's")
	}
	salt, err := attrs.expect('s')
	if err != nil {
		return nil, err
	}
	if _, err := decodeBase64(salt); err != nil {
		return nil, errors.New("the server's SCRAM salt is not valid base64")
	}
	iterations, err := attrs.expect('i')
	if err != nil {
		return nil, err
	}
	// The keys are derived already, so that any count costs nothing here.
	if _, err := parseIterations(iterations); err != nil {
		return nil, err
	}

	binding := []byte(c.gs2Header)
	if c.mechanism == MechanismPlus {
		binding = append(binding, c.endPoint...)
	}
	withoutProof := "c=" + base64.StdEncoding.EncodeToString(binding) + ",r=" + nonce
	c.authMessage = []byte(c.clientFirstBare + "," + string(serverFirst) + "," + withoutProof)
	storedKey := sha256.Sum256(c.keys.ClientKey[:])
	proof := xor(c.keys.ClientKey, mac(storedKey[:], c.authMessage))
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof[:])), nil
}

// Verify takes the server-final-message: an error means that the server did
// not prove that it knows the ServerKey.
func (c *Client) Verify(serverFinal []byte) error {
	if c.authMessage == nil {
		return errors.New("the server ended the SCRAM exchange before it was complete")
	}
	attrs := attributes{string(serverFinal)}
	signature, err := attrs.expect('v')
	if err != nil {
		return err
	}
	want := mac(c.keys.ServerKey[:], c.authMessage)
	wantText := base64.StdEncoding.EncodeToString(want[:])
	if subtle.ConstantTimeCompare([]byte(signature), []byte(wantText)) != 1 {
		return errors.New("the server's SCRAM signature is wrong: it does not hold the same verifier")
	}
	return nil
}
