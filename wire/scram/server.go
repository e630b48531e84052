package scram

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
)

// nonceLen is the number of random bytes in a nonce (SCRAM_RAW_NONCE_LEN).
const nonceLen = 18

// Server is the server's side of one exchange: First, then Final, then, when
// both succeeded, Keys. After an error the exchange is over. It is not
// safe for concurrent use.
type Server struct {
	verifier Verifier
	endPoint []byte // nil: channel binding is not supported
	nonce    string // the server's part

	step        int // 1 expects client-first, 2 client-final; 0 is over
	plus        bool
	gs2Header   string
	fullNonce   string
	authMessage []byte // as far as it has come
	clientKey   [KeyLen]byte
	done        bool
}

// NewServer begins an exchange about the verifier. endPoint is the channel
// binding data of the server's certificate (see EndPoint), nil without TLS.
func NewServer(v Verifier, endPoint []byte) (*Server, error) {
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	return &Server{verifier: v, endPoint: endPoint, nonce: nonce, step: 1}, nil
}

// Mechanisms are the SASL mechanisms that a server with this channel binding
// data offers, in PostgreSQL's order.
func Mechanisms(endPoint []byte) []string {
	if endPoint == nil {
		return []string{Mechanism}
	}
	return []string{MechanismPlus, Mechanism}
}

// First takes the client's choice and its client-first-message, and returns
// the server-first-message.
func (s *Server) First(mechanism string, clientFirst []byte) ([]byte, error) {
	if err := s.enter(1, clientFirst); err != nil {
		return nil, err
	}
	switch {
	case mechanism == Mechanism:
	case mechanism == MechanismPlus && s.endPoint != nil:
		s.plus = true
	default:
		return nil, &Error{
			SQLState: sqlStateProtocolViolation,
			Message:  "client selected an invalid SASL authentication mechanism",
		}
	}
	bare, err := s.readGS2Header(string(clientFirst))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(bare, "m") {
		return nil, &Error{
			SQLState: sqlStateFeatureNotSupported,
			Message:  "client requires an unsupported SCRAM extension",
		}
	}
	// PostgreSQL knows the user from the startup packet; n= is read over.
	attrs := attributes{bare}
	if _, err := attrs.expect('n'); err != nil {
		return nil, err
	}
	clientNonce, err := attrs.expect('r')
	if err != nil {
		return nil, err
	}
	if !isPrintable(clientNonce) {
		return nil, &Error{
			SQLState: sqlStateProtocolViolation,
			Message:  "non-printable characters in SCRAM nonce",
		}
	}
	for attrs.rest != "" {
		if _, _, err := attrs.next(); err != nil {
			return nil, err
		}
	}

	s.fullNonce = clientNonce + s.nonce
	b := make([]byte, 0, 2*len(clientFirst)+len(s.verifier.Salt)+authMessageMore)
	b = append(append(b, bare...), ',')
	first := len(b)
	b = append(append(b, "r="...), s.fullNonce...)
	b = base64.StdEncoding.AppendEncode(append(b, ",s="...), s.verifier.Salt)
	b = strconv.AppendInt(append(b, ",i="...), int64(s.verifier.Iterations), 10)
	s.authMessage = b
	s.step = 2
	return b[first:len(b):len(b)], nil
}

// authMessageMore is for how much of an exchange, beside what the client has said first
// and the salt, there is room at once.
const authMessageMore = 160

// Final takes the client-final-message and returns the server-final-message,
// or ErrProof when the client does not know the password.
func (s *Server) Final(clientFinal []byte) ([]byte, error) {
	if err := s.enter(2, clientFinal); err != nil {
		return nil, err
	}
	msg := string(clientFinal)
	attrs := attributes{msg}
	binding, err := attrs.expect('c')
	if err != nil {
		return nil, err
	}
	if err := s.checkBinding(binding); err != nil {
		return nil, err
	}
	nonce, err := attrs.expect('r')
	if err != nil {
		return nil, err
	}
	var withoutProof, proofText string
	for name := byte(0); name != 'p'; {
		// The comma in front of the proof belongs to neither part.
		withoutProof = strings.TrimSuffix(msg[:len(msg)-len(attrs.rest)], ",")
		if name, proofText, err = attrs.next(); err != nil {
			return nil, err
		}
	}
	var proof [KeyLen]byte
	if decodeKey(&proof, proofText) != nil {
		return nil, malformed("Malformed proof in client-final-message.")
	}
	if attrs.rest != "" {
		return nil, malformed("Garbage found at the end of client-final-message.")
	}
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(s.fullNonce)) != 1 {
		return nil, &Error{
			SQLState: sqlStateProtocolViolation,
			Message:  "invalid SCRAM response",
			Detail:   "Nonce does not match.",
		}
	}

	s.authMessage = append(append(s.authMessage, ','), withoutProof...)
	s.clientKey = xor(proof, mac(s.verifier.StoredKey[:], s.authMessage))
	storedKey := sha256.Sum256(s.clientKey[:])
	if subtle.ConstantTimeCompare(storedKey[:], s.verifier.StoredKey[:]) != 1 || s.verifier.mock {
		return nil, ErrProof
	}
	s.done = true
	signature := mac(s.verifier.ServerKey[:], s.authMessage)
	return base64.StdEncoding.AppendEncode([]byte("v="), signature[:]), nil
}

// Keys are the client's, recovered from its proof: with them one can log in as
// that client wherever the same verifier is stored. ok is false before Final
// has succeeded.
func (s *Server) Keys() (k Keys, ok bool) {
	if !s.done {
		return Keys{}, false
	}
	return Keys{ClientKey: s.clientKey, ServerKey: s.verifier.ServerKey}, true
}

// enter checks that the exchange stands at step, and leaves it there as over:
// only a message that was read to its end moves it on.
func (s *Server) enter(step int, message []byte) error {
	if s.step != step {
		return &Error{SQLState: sqlStateProtocolViolation, Message: "unexpected SCRAM message"}
	}
	s.step = 0
	if len(message) == 0 {
		return malformed("The message is empty.")
	}
	if bytes.IndexByte(message, 0) >= 0 {
		return malformed("Message length does not match input length.")
	}
	return nil
}

// readGS2Header checks the client's word on channel binding against the chosen
// mechanism, and returns what follows the header.
func (s *Server) readGS2Header(msg string) (bare string, err error) {
	flag, rest, comma := strings.Cut(msg, ",")
	switch msg[0] {
	case 'n', 'y':
		if s.plus {
			return "", malformed("The client selected %s, but the SCRAM message does not include channel binding data.", MechanismPlus)
		}
		if len(flag) > 1 || !comma {
			return "", malformed("Comma expected, but found character \"%s\".", firstByte(msg[1:]))
		}
		if flag == "y" && s.endPoint != nil {
			// Somebody between the two has taken SCRAM-SHA-256-PLUS out of the list.
			return "", &Error{
				SQLState: sqlStateInvalidAuthorization,
				Message:  "SCRAM channel binding negotiation error",
				Detail:   "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
			}
		}
	case 'p':
		if !s.plus {
			return "", malformed("The client selected %s without channel binding, but the SCRAM message includes channel binding data.", Mechanism)
		}
		attrs := attributes{msg}
		name, err := attrs.expect('p')
		if err != nil {
			return "", err
		}
		if name != bindingType {
			return "", &Error{
				SQLState: sqlStateProtocolViolation,
				Message:  "unsupported SCRAM channel-binding type",
			}
		}
	default:
		return "", malformed("Unexpected channel-binding flag \"%s\".", firstByte(msg))
	}
	if strings.HasPrefix(rest, "a") {
		return "", &Error{
			SQLState: sqlStateFeatureNotSupported,
			Message:  "client uses authorization identity, but it is not supported",
		}
	}
	bare, ok := strings.CutPrefix(rest, ",")
	if !ok {
		return "", malformed("Unexpected attribute \"%s\" in client-first-message.", firstByte(rest))
	}
	s.gs2Header = flag + ",,"
	return bare, nil
}

// checkBinding compares c= with the header of the first message and, for
// SCRAM-SHA-256-PLUS, with the certificate of this connection.
func (s *Server) checkBinding(c string) error {
	var room [64]byte // for a header that names no more than a binding's type, and a hash
	want := append(room[:0], s.gs2Header...)
	if s.plus {
		want = append(want, s.endPoint...)
	}
	var text [88]byte // for those in base64
	if subtle.ConstantTimeCompare([]byte(c), base64.StdEncoding.AppendEncode(text[:0], want)) == 1 {
		return nil
	}
	if s.plus {
		return &Error{
			SQLState: sqlStateInvalidAuthorization,
			Message:  "SCRAM channel binding check failed",
		}
	}
	return &Error{
		SQLState: sqlStateProtocolViolation,
		Message:  "unexpected SCRAM channel-binding attribute in client-final-message",
	}
}

func newNonce() (string, error) {
	var raw [nonceLen]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	var text [nonceLen / 3 * 4]byte
	base64.StdEncoding.Encode(text[:], raw[:])
	return string(text[:]), nil
}
