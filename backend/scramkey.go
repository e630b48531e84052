package backend

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/wire/scram"
)

// maxAuthMessage bounds an Authentication message of a server
// (PG_MAX_AUTH_TOKEN_LENGTH).
const maxAuthMessage = 65535

// loginError is a reason to give a login up that PostgreSQL has not refused.
type loginError string

func (e loginError) Error() string { return string(e) }

// response is the ErrorResponse that pgconn is shown for it.
func (e loginError) response() ([]byte, error) {
	return (&pgproto3.ErrorResponse{
		Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000", Message: string(e),
	}).Encode(nil)
}

func refusef(format string, args ...any) error {
	return loginError(fmt.Sprintf(format, args...))
}

// withKeys prepares cfg for a login with cred's SCRAM keys or md5 secret;
// pgconn itself knows passwords only. The connection answers PostgreSQL's
// authentication requests itself and shows pgconn the AuthenticationOk at
// their end; cfg's ChannelBinding and RequireAuth hold for these answers. A
// login that it gives up itself ends as one that PostgreSQL refuses: with a
// *pgconn.PgError, FATAL 28000. (After a failed Read pgconn would dial once more,
// to send a CancelRequest, on a goroutine that nobody joins.)
//
// It chains an AfterNetConnect that is already there. The connection it makes
// has Unwrap() net.Conn, and adds nothing to it once the login is over. With
// other credentials cfg stays as it is.
func withKeys(cfg *pgconn.Config, cred Credentials) {
	if len(cred.ClientKey) == 0 && cred.MD5Secret == "" {
		return
	}
	policy := loginPolicy{channelBinding: cfg.ChannelBinding, requireAuth: cfg.RequireAuth}
	cfg.Password, cfg.ChannelBinding, cfg.RequireAuth = "", "", ""
	inner := cfg.AfterNetConnect
	cfg.AfterNetConnect = func(ctx context.Context, cfg *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if inner != nil {
			wrapped, err := inner(ctx, cfg, conn)
			if err != nil {
				return conn, err
			}
			conn = wrapped
		}
		return &keyConn{Conn: conn, login: &keyLogin{conn: conn, cred: cred, policy: policy}}, nil
	}
}

// keyConn is a connection to PostgreSQL that answers authentication requests
// before its reader sees them.
type keyConn struct {
	net.Conn // immutable

	// Owned by the goroutine that reads.
	login *keyLogin // nil: the login is over
	ahead []byte    // of a message that pgconn shall see
	body  int       // bytes of that message which are still to be read
}

// Unwrap returns the connection underneath. It may take this one's place as
// soon as pgconn has reported the login's success.
func (c *keyConn) Unwrap() net.Conn { return c.Conn }

func (c *keyConn) Read(p []byte) (int, error) {
	if c.login != nil && len(c.ahead) == 0 && c.body == 0 {
		var err error
		c.ahead, c.body, err = c.login.next()
		var refused loginError
		if errors.As(err, &refused) {
			c.login.over = true
			c.ahead, err = refused.response()
		}
		if err != nil {
			return 0, err
		}
		if c.login.over {
			c.login = nil
		}
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	if c.body > 0 && len(p) > c.body {
		p = p[:c.body]
	}
	n, err := c.Conn.Read(p)
	c.body = max(0, c.body-n)
	return n, err
}

// keyLogin is one login's conversation. It never reads past the message at
// hand.
type keyLogin struct {
	conn   net.Conn
	cred   Credentials
	policy loginPolicy

	client *scram.Client // nil: no SASL exchange has begun
	proven bool          // the server has proved itself, or has the md5 response
	over   bool
}

// next answers requests until there is a message for pgconn, and returns its
// beginning and the number of bytes that follow.
func (l *keyLogin) next() (ahead []byte, body int, err error) {
	for {
		header := make([]byte, 5, 16)
		if _, err := io.ReadFull(l.conn, header); err != nil {
			return nil, 0, err
		}
		size := int(binary.BigEndian.Uint32(header[1:])) - 4
		if size < 0 {
			return nil, 0, refusef("PostgreSQL sent a message of impossible length")
		}
		if header[0] != 'R' {
			l.over = header[0] == 'E'
			return header, size, nil
		}
		if size < 4 || size > maxAuthMessage {
			return nil, 0, refusef("PostgreSQL sent an authentication message of impossible length")
		}
		msg := make([]byte, size)
		if _, err := io.ReadFull(l.conn, msg); err != nil {
			return nil, 0, err
		}
		kind := binary.BigEndian.Uint32(msg)
		if kind == pgproto3.AuthTypeOk {
			if err := l.finish(); err != nil {
				return nil, 0, err
			}
			l.over = true
			return append(header, msg...), 0, nil
		}
		if err := l.answer(kind, msg[4:]); err != nil {
			return nil, 0, err
		}
	}
}

// answer handles one authentication request.
func (l *keyLogin) answer(kind uint32, data []byte) error {
	switch kind {
	case pgproto3.AuthTypeMD5Password:
		return l.answerMD5(data)
	case pgproto3.AuthTypeSASL:
		return l.answerSASL(data)
	case pgproto3.AuthTypeSASLContinue:
		if l.client == nil || l.proven {
			break
		}
		final, err := l.client.Final(data)
		if err != nil {
			return refusef("%v", err)
		}
		return l.send(&pgproto3.SASLResponse{Data: final})
	case pgproto3.AuthTypeSASLFinal:
		if l.client == nil || l.proven {
			break
		}
		if err := l.client.Verify(data); err != nil {
			return refusef("%v", err)
		}
		l.proven = true
		return nil
	case pgproto3.AuthTypeCleartextPassword:
		return l.useless("the password itself")
	default:
		return l.useless(fmt.Sprintf("authentication method %d", kind))
	}
	return refusef("PostgreSQL sent authentication message %d out of turn", kind)
}

func (l *keyLogin) answerMD5(salt []byte) error {
	if l.cred.MD5Secret == "" {
		return l.useless("an md5 response")
	}
	if l.client != nil || l.proven || len(salt) != 4 {
		return refusef("PostgreSQL sent an md5 request out of turn")
	}
	if err := l.policy.check("md5"); err != nil {
		return err
	}
	if l.policy.channelBinding == "require" {
		return refusef("channel_binding=require, and PostgreSQL asks for an md5 response")
	}
	l.proven = true
	return l.send(&pgproto3.PasswordMessage{Password: scram.MD5Response(l.cred.MD5Secret, [4]byte(salt))})
}

func (l *keyLogin) answerSASL(list []byte) error {
	if len(l.cred.ClientKey) == 0 {
		return l.useless("a SCRAM proof")
	}
	if l.client != nil || l.proven {
		return refusef("PostgreSQL began a second SASL exchange")
	}
	if err := l.policy.check("scram-sha-256"); err != nil {
		return err
	}
	if len(l.cred.ClientKey) != scram.KeyLen || len(l.cred.ServerKey) != scram.KeyLen {
		return refusef("a SCRAM key of the wrong length")
	}
	var endPoint []byte
	if l.policy.channelBinding != "disable" {
		endPoint = serverEndPoint(l.conn)
	}
	client, err := scram.NewClient(scram.Keys{
		ClientKey: [scram.KeyLen]byte(l.cred.ClientKey),
		ServerKey: [scram.KeyLen]byte(l.cred.ServerKey),
	}, endPoint)
	if err != nil {
		return err
	}
	mechanism, first, err := client.First(strings.Split(string(list), "\x00"))
	if err != nil {
		return refusef("%v", err)
	}
	if l.policy.channelBinding == "require" && mechanism != scram.MechanismPlus {
		return refusef("channel_binding=require, and %s is not possible on this connection", scram.MechanismPlus)
	}
	l.client = client
	return l.send(&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: first})
}

// finish judges the server's word that the login has succeeded.
func (l *keyLogin) finish() error {
	if l.proven {
		return nil
	}
	if l.client != nil {
		return refusef("PostgreSQL accepted the login without proving that it knows the user's verifier")
	}
	if l.policy.channelBinding == "require" {
		return refusef("channel_binding=require, and PostgreSQL accepted the login without any")
	}
	return l.policy.check("none")
}

// useless says that the secret at hand does not fit what PostgreSQL asks for.
func (l *keyLogin) useless(wanted string) error {
	have := "the SCRAM keys of the client's own login"
	if l.cred.MD5Secret != "" {
		have = "the user's md5 secret"
	}
	return refusef("PostgreSQL asks for %s, and pgpoold knows only %s; "+
		"give the user's plain password, or a user and a password for the database", wanted, have)
}

func (l *keyLogin) send(m pgproto3.FrontendMessage) error {
	buf, err := m.Encode(nil)
	if err != nil {
		return err
	}
	_, err = l.conn.Write(buf)
	return err
}

// loginPolicy is libpq's channel_binding and require_auth.
type loginPolicy struct {
	channelBinding string
	requireAuth    string
}

// check says whether require_auth allows a method.
func (p loginPolicy) check(method string) error {
	if p.requireAuth == "" {
		return nil
	}
	methods := strings.Split(p.requireAuth, ",")
	for i, m := range methods {
		methods[i] = strings.TrimSpace(m)
	}
	allowed := slices.Contains(methods, method)
	if strings.HasPrefix(methods[0], "!") {
		allowed = !slices.Contains(methods, "!"+method)
	}
	if !allowed {
		return refusef("require_auth=%s does not allow the method %s", p.requireAuth, method)
	}
	return nil
}

// serverEndPoint is the channel binding data of the server at the other end of
// conn, nil without TLS and for certificates that have none.
func serverEndPoint(conn net.Conn) []byte {
	for {
		if t, ok := conn.(*tls.Conn); ok {
			certs := t.ConnectionState().PeerCertificates
			if len(certs) == 0 {
				return nil
			}
			endPoint, err := scram.EndPoint(certs[0])
			if err != nil {
				return nil
			}
			return endPoint
		}
		u, ok := conn.(interface{ Unwrap() net.Conn })
		if !ok {
			return nil
		}
		conn = u.Unwrap()
	}
}
