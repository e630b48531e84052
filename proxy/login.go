package proxy

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unique"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// login is a client on its way in. It runs on a worker, which
// goes on as the session's pump.
type login struct {
	px      *Server
	sock    *stream.Socket
	client  net.Conn // sock, or TLS over it
	session *session // nil until it has begun
	in      loginInput
	tls     *tls.Conn
	over    *ClientTLS // what TLS may be; nil: none
	remote  net.Addr
	began   time.Time
	unix    bool
	proved  bool   // the client is who it says; AuthenticationOk comes in front of the next message
	final   []byte // a message of the proof that comes in front of that
	ssl     bool   // SSLRequest was answered
	gss     bool   // GSSENCRequest was answered
}

// spareLogins are used again: each has room for what a client sends.
var spareLogins = sync.Pool{New: func() any { return new(login) }}

// serve does a job of the workers': the goroutine that has logged a client in goes on as
// its session's pump.
func (px *Server) serve(j job) {
	if j.nc != nil {
		j.s = px.login(j.nc, j.slot)
	}
	if j.s != nil {
		j.s.run()
	}
}

// login returns the session of a client, or nil if it does not get one.
func (px *Server) login(nc net.Conn, slot *loginSlot) *session {
	defer px.sessions.Done()
	defer slot.done()
	lg := spareLogins.Get().(*login)
	defer func() {
		*lg = login{}
		spareLogins.Put(lg)
	}()
	lg.px, lg.began, lg.over = px, slot.began, px.live().tls
	lg.remote = nc.RemoteAddr()
	_, lg.unix = lg.remote.(*net.UnixAddr)
	var err error
	if lg.sock, err = stream.NewSocket(nc); err != nil {
		_ = nc.Close()
		return nil
	}
	lg.client, lg.in.client = lg.sock, lg.sock
	_ = px.opts.Keepalive.Apply(nc)
	if err := lg.run(slot); err != nil {
		slot.refused()
		lg.refuse(err)
		lg.close()
	}
	return lg.session
}

// refuse tells the client why it cannot come in, if there is something to
// tell, and the log.
func (lg *login) refuse(err error) {
	var told *wire.Error
	var auth *authError
	reason := err.Error()
	switch {
	case errors.As(err, &told):
	case errors.As(err, &auth):
		told = &wire.Error{Severity: wire.SeverityFatal, Code: auth.code, Message: auth.message, Detail: auth.detail}
		reason = auth.reason
		lg.px.counts.loginsFailed.Add(1)
	case isTimeout(err):
		told = errLoginTimeout
	default:
		lg.px.opts.Log.Debug("login ended", zap.Stringer("addr", lg.remote), zap.Error(err))
		return
	}
	lg.px.countError(told.Code)
	lg.px.opts.Log.Info("login refused", zap.Stringer("addr", lg.remote), zap.String("code", told.Code),
		zap.String("message", told.Message), zap.String("reason", reason))
	_ = lg.client.SetWriteDeadline(time.Now().Add(farewell))
	_, _ = lg.client.Write(told.Append(lg.authenticationOK()))
}

// close ends the connection, as TLS wants it to end: libpq takes a cancel
// request for failed when its connection breaks off without a close_notify.
func (lg *login) close() {
	if lg.tls != nil {
		_ = lg.sock.SetWriteDeadline(time.Now().Add(farewell))
		_ = lg.tls.CloseWrite()
	}
	_ = lg.sock.Close()
}

// authenticationOK is that message, if it is due. What is said to the client
// next is said behind it.
func (lg *login) authenticationOK() []byte {
	if !lg.proved {
		return nil
	}
	lg.proved = false
	return append(lg.final, wire.MsgAuthentication, 0, 0, 0, 8, 0, 0, 0, 0)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// errDone ends a connection that wanted nothing more.
var errDone = errors.New("done")

// run is the login. An error that is a *wire.Error or *authError is told to
// the client.
func (lg *login) run(slot *loginSlot) error {
	st, err := lg.firstPacket()
	if err != nil {
		return err
	}
	px := lg.px
	user, dbname := st.Parameters.Get("user"), st.Parameters.Get("database")
	if user == "" {
		return fatal("28000", "no PostgreSQL user name specified in startup packet")
	}
	if dbname == "" {
		dbname = user
	}
	if !lg.unix {
		var state *tls.ConnectionState
		if lg.tls != nil {
			cs := lg.tls.ConnectionState()
			state = &cs
		}
		if err := lg.over.checkSession(state, user); err != nil {
			return err
		}
	}
	if minor := st.Version & 0xffff; minor > wire.Protocol32&0xffff || len(st.Options) > 0 {
		if _, err := lg.client.Write(wire.AppendNegotiate(nil, min(st.Version, wire.Protocol32), st.Options)); err != nil {
			return err
		}
	}
	id, err := authenticate((*loginIO)(lg), user, px.live().auth, lg.over.endPoint(lg.tls != nil))
	if err != nil {
		return err
	}
	lg.proved = true
	if px.opts.Console != nil && (dbname == "pgbouncer" || dbname == "pgpoold") && px.live().databases[dbname] == nil {
		if slot.done() {
			return errLoginTimeout
		}
		return lg.console(user, st.Parameters.Get("application_name"))
	}
	db := px.database(dbname)
	if db == nil {
		return fatal("3D000", "database %q does not exist", dbname)
	}
	if e := px.refusesNew(db.Name); e != nil {
		return e
	}
	if db.Users != nil && !slices.Contains(db.Users, user) {
		return fatal("28000", "user %q may not connect to database %q (databases.%s.users)", user, dbname, db.Name)
	}
	if !px.admit() {
		return errTooMany
	}
	if e := px.countClient(db, user); e != nil {
		px.unadmit()
		px.counts.refused.Add(1)
		return e
	}
	// Logged in: from here on it waits for servers, not for the client.
	if slot.done() {
		err = errLoginTimeout
	} else {
		err = lg.begin(st, db, user, id)
	}
	if err != nil {
		px.uncountClient(db.Name, user)
		px.unadmit()
		return err
	}
	return nil
}

// begin makes the session and starts it.
func (lg *login) begin(st *wire.Startup, db *Database, user string, id identity) error {
	px := lg.px
	own := px.live().users[user]
	s := &session{px: px, id: px.lastSession.Add(1), db: db, user: shared(user), mode: db.Mode, began: lg.began.UnixNano()}
	s.timeouts.Store(px.timeoutsOf(db, user))
	if own.Mode != nil {
		s.mode = *own.Mode
	}
	repl, replicates := "", replicationMode(st.Parameters.Get("replication")) != ""
	if replicates {
		s.mode, repl = ModeSession, st.Parameters.Get("replication")
	}
	set, refused := startupSettings(st.Parameters)
	if refused != nil {
		return refused
	}
	var err error
	if replicates {
		// Its server is its own, and may know nothing but replication commands.
		db, set = db.dialledWith(set), nil
	}
	if s.pool, err = px.poolFor(db, id, own.Size, repl, s.id); err != nil {
		return err
	}
	start, refused := s.pool.start(set, lg.sock.HungUp)
	if refused != nil {
		px.forgetPool(s)
		return refused
	}
	s.start, s.settings = start.set, start.set
	s.startTo, s.told = start.told, start.told
	s.startLink = start.link
	s.keepLink(start.link)
	s.govern(own)
	if s.carries {
		s.pool.seeHidden(lg.sock.HungUp)
	}
	s.demand()
	keySize := 4
	if st.Version >= wire.Protocol32 {
		keySize = 32
	}
	px.keys.assign(s, keySize)
	if err := lg.welcome(s); err != nil {
		px.keys.forget(s)
		px.forgetPool(s)
		return err
	}
	s.addr = addrOf(lg.remote)
	if lg.tls != nil {
		name := shared(tlsName(lg.tls.ConnectionState()))
		s.tlsName = &name
	}
	conn, err := stream.New(lg.sock, lg.tls)
	if err != nil {
		px.keys.forget(s)
		px.forgetPool(s)
		return err
	}
	conn.ParkWith(px.parker, s)
	s.in.Lock()
	s.conn = conn // its key is known: a cancel may be looking
	s.put(lg.in.ahead, 0)
	s.in.Unlock()
	s.received.Add(uint64(len(lg.in.ahead)))
	s.pool.loggedIn()
	px.begin(s)
	lg.session = s
	return nil
}

// dialledWith is the database with settings that its servers start with.
func (db *Database) dialledWith(set []setting) *Database {
	own := *db
	own.Pool.RuntimeParams = maps.Clone(db.Pool.RuntimeParams)
	if own.Pool.RuntimeParams == nil {
		own.Pool.RuntimeParams = map[string]string{}
	}
	spelled := map[string]string{} // of two spellings of a name the later one counts
	for name := range own.Pool.RuntimeParams {
		spelled[strings.ToLower(name)] = name
	}
	for _, s := range set {
		lower := strings.ToLower(s.name)
		delete(own.Pool.RuntimeParams, spelled[lower])
		spelled[lower] = s.name
		own.Pool.RuntimeParams[s.name] = s.value
	}
	return &own
}

// welcome tells the client that it is in, in one write.
func (lg *login) welcome(s *session) error {
	b := stream.GetBuffer()
	defer stream.PutBuffer(b)
	out := append(b[:0], lg.authenticationOK()...)
	for i, name := range s.told.names {
		out = wire.AppendParameterStatus(out, name, s.told.values[i])
	}
	out = wire.AppendBackendKeyData(out, s.pid, []byte(s.secret))
	out = wire.AppendReady(out, wire.TxIdle)
	if lg.tls == nil {
		n, err := lg.sock.WriteNow(out)
		if err != nil || n == len(out) {
			return err
		}
		out = out[n:]
	}
	_ = lg.client.SetWriteDeadline(time.Now().Add(lg.px.opts.farewellTimeout()))
	_, err := lg.client.Write(out)
	return err
}

// firstPacket answers requests for encryption until the startup message
// comes. Each may be asked for once.
func (lg *login) firstPacket() (*wire.Startup, error) {
	if err := lg.in.first(1); err != nil {
		return nil, err
	}
	if lg.in.ahead[0] == tlsHandshake && lg.over != nil && !lg.unix {
		if err := lg.directTLS(); err != nil {
			return nil, err
		}
	}
	for {
		head, err := lg.in.take(4)
		if err != nil {
			return nil, err
		}
		n, err := wire.StartupLength([4]byte(head))
		if err != nil {
			return nil, err
		}
		body, err := lg.in.take(n)
		if err != nil {
			return nil, err
		}
		st, err := wire.ParseStartup(body)
		if err != nil {
			return nil, err
		}
		switch st.Kind {
		case wire.StartupCancel:
			lg.px.cancelRequest(st.PID, st.Secret)
			return nil, errDone
		case wire.StartupSSL:
			if lg.ssl || lg.tls != nil {
				return nil, fatal("08P01", "unsupported frontend protocol 1234.5679: TLS was asked for twice")
			}
			lg.ssl = true
			if err := lg.startTLS(); err != nil {
				return nil, err
			}
		case wire.StartupGSSENC:
			if lg.gss || lg.tls != nil {
				return nil, fatal("08P01", "unsupported frontend protocol 1234.5680: GSSAPI encryption was asked for twice")
			}
			lg.gss = true
			if _, err := lg.client.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		default:
			return st, nil
		}
	}
}

// startTLS answers SSLRequest. Bytes that a client sends in plain behind its
// request are read by the handshake, which fails on them.
func (lg *login) startTLS() error {
	if lg.over == nil || lg.unix {
		_, err := lg.client.Write([]byte{'N'})
		return err
	}
	if _, err := lg.client.Write([]byte{'S'}); err != nil {
		return err
	}
	return lg.handshake()
}

// tlsHandshake is the first byte of a client that speaks TLS at once.
const tlsHandshake = 0x16

// directTLS is TLS from the first byte.
func (lg *login) directTLS() error {
	if err := lg.handshake(); err != nil {
		return err
	}
	return checkDirectTLS(lg.tls.ConnectionState())
}

// handshake goes on with TLS, to which belongs what has been read already.
func (lg *login) handshake() error {
	over := tls.Server(lg.in.rest(lg.sock), lg.over.Config)
	if err := over.Handshake(); err != nil {
		lg.px.counts.tlsFailed.Add(1)
		return err
	}
	lg.tls, lg.client = over, over
	lg.in.client, lg.in.ahead = over, nil
	return nil
}

// console hands a client of the console's database over.
func (lg *login) console(user, application string) error {
	admin := slices.Contains(lg.px.live().adminUsers, user)
	if !admin && !slices.Contains(lg.px.live().statsUsers, user) {
		return fatal("08P01", "not allowed")
	}
	lg.client = lg.in.rest(lg.client)
	lg.in = loginInput{} // a password may be there, and the console takes its time
	lg.px.consoles.add(lg.client)
	defer lg.px.consoles.remove(lg.client)
	if _, err := lg.client.Write(lg.authenticationOK()); err != nil {
		return err
	}
	c := &ConsoleClient{Conn: lg.client, User: user, Admin: admin, ApplicationName: application}
	if lg.tls != nil {
		c.TLS = tlsName(lg.tls.ConnectionState())
	}
	lg.px.keys.assignConsole(c)
	defer lg.px.keys.forgetConsole(c)
	lg.px.opts.Console(c)
	return errDone
}

func tlsName(cs tls.ConnectionState) string {
	return backend.TLSVersion(cs.Version) + "/" + tls.CipherSuiteName(cs.CipherSuite)
}

// replicationMode is what the startup parameter replication asks for.
func replicationMode(value string) string {
	switch value {
	case "database":
		return "logical"
	case "true", "on", "yes", "1":
		return "physical"
	}
	return ""
}

func addrOf(a net.Addr) sessionAddr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return sessionAddr{host: "unix"}
	}
	return sessionAddr{host: shared(tcp.IP.String()), port: tcp.Port}
}

// shared is s in the memory that equal texts share.
func shared(s string) string { return unique.Make(s).Value() }

func (a sessionAddr) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }
