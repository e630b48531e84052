package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"pgpoold/backend"
	"pgpoold/proxy"
)

// consoleOn serves a console on loopback, behind the login that the proxy
// does; user is who logs in, an administrator when named ops.
func consoleOn(t *testing.T, opts Options) (c *Console, dial func(user string) *pgconn.PgConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = NewConsole(opts)
	c.Start()
	served := make(chan struct{})
	go acceptLogins(l, c, served)
	t.Cleanup(func() {
		c.Close()
		l.Close()
		<-served
	})
	return c, func(user string) *pgconn.PgConn {
		t.Helper()
		dsn := fmt.Sprintf("postgres://%s@%s/pgbouncer?sslmode=disable&application_name=watcher", user, l.Addr())
		conn, err := pgconn.Connect(timeout(t), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(timeout(t)) })
		return conn
	}
}

// acceptLogins hands clients to the console until l is closed and all are done.
func acceptLogins(l net.Listener, c *Console, served chan<- struct{}) {
	defer close(served)
	open := make(chan struct{}, 100)
	n := 0
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		n++
		go func() {
			defer func() { open <- struct{}{} }()
			login := pgproto3.NewBackend(conn, conn)
			msg, err := login.ReceiveStartupMessage()
			if err != nil {
				conn.Close()
				return
			}
			params := msg.(*pgproto3.StartupMessage).Parameters
			login.Send(&pgproto3.AuthenticationOk{})
			if login.Flush() != nil {
				conn.Close()
				return
			}
			c.Serve(&proxy.ConsoleClient{Conn: conn, User: params["user"], Admin: params["user"] == "ops", ApplicationName: params["application_name"],
				PID: 1, Secret: []byte{1, 2, 3, 4}, Cancels: make(chan struct{}, 1)})
		}()
	}
	for range n {
		<-open
	}
}

// timeout guards against a hang.
func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// ask runs one command and returns its only result.
func ask(t *testing.T, conn *pgconn.PgConn, sql string) *pgconn.Result {
	t.Helper()
	all, err := conn.Exec(timeout(t), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(all) != 1 {
		t.Fatalf("%s: %d results", sql, len(all))
	}
	return all[0]
}

// row renders a row as psql -A does, with NULL as ~.
func row(values [][]byte) string {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = string(v)
		if v == nil {
			cells[i] = "~"
		}
	}
	return strings.Join(cells, "|")
}

func names(r *pgconn.Result) string {
	var all []string
	for _, f := range r.FieldDescriptions {
		all = append(all, f.Name)
	}
	return strings.Join(all, ",")
}

const socketNames = "type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,prepared_statements,id"

// The columns are PgBouncer's; exporters break on any other name or order.
func TestColumnsArePgBouncers(t *testing.T) {
	_, dial := consoleOn(t, options(&source{snap: state()}))
	conn := dial("grafana")
	for _, tt := range []struct{ what, types, columns string }{
		{"pools", "ssiiiiiiiiiiiiiss", "database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,pool_mode,load_balance_hosts"},
		{"clients", "ssssssisissiiississii", socketNames},
		{"servers", "ssssssisissiiississii", socketNames},
		{"databases", "ssissiiiissiiiiii", "name,host,port,database,force_user,pool_size,min_pool_size,reserve_pool_size,server_lifetime,pool_mode,load_balance_hosts,max_connections,current_connections,max_client_connections,current_client_connections,paused,disabled"},
		{"lists", "si", "list,items"},
		{"version", "s", "version"},
		{"config", "ssss", "key,value,default,changeable"},
		{"state", "ss", "key,value"},
		{"stats", "s" + strings.Repeat("N", 24), "database,total_server_assignment_count,total_xact_count,total_query_count,total_received,total_sent,total_xact_time,total_query_time,total_wait_time,total_client_parse_count,total_server_parse_count,total_bind_count,total_client_login_count,avg_server_assignment_count,avg_xact_count,avg_query_count,avg_recv,avg_sent,avg_xact_time,avg_query_time,avg_wait_time,avg_client_parse_count,avg_server_parse_count,avg_bind_count,avg_client_login_count"},
		{"stats_totals", "s" + strings.Repeat("N", 12), "database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,xact_time,query_time,wait_time,client_parse_count,server_parse_count,bind_count,client_login_count"},
		{"stats_averages", "s" + strings.Repeat("N", 12), "database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,xact_time,query_time,wait_time,avg_client_parse_count,avg_server_parse_count,avg_bind_count,avg_client_login_count"},
		{"users", "ssssiiii", "name,pool_size,reserve_pool_size,pool_mode,max_user_connections,current_connections,max_user_client_connections,current_client_connections"},
		{"totals", "sN", "name,value"},
		{"mem", "siiii", "name,size,used,free,memtotal"},
		{"sockets", "ssssssisissiiississii" + "iiiiiii", socketNames + ",recv_pos,pkt_pos,pkt_remain,send_pos,send_remain,pkt_avail,send_avail"},
		{"active_sockets", "ssssssisissiiississii" + "iiiiiii", socketNames + ",recv_pos,pkt_pos,pkt_remain,send_pos,send_remain,pkt_avail,send_avail"},
		{"dns_hosts", "sqs", "hostname,ttl,addrs"},
		{"dns_zones", "sqi", "zonename,serial,count"},
		{"peers", "isii", "peer_id,host,port,pool_size"},
		{"peer_pools", "iiiii", "peer_id,cl_active_cancel_req,cl_waiting_cancel_req,sv_active_cancel,sv_login"},
	} {
		r := ask(t, conn, "SHOW "+tt.what+";")
		d, err := conn.Prepare(timeout(t), "", "SHOW "+tt.what, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Rows) == 0 { // pgconn drops the columns of no rows
			r.FieldDescriptions = d.Fields
		}
		if got := names(r); got != tt.columns {
			t.Errorf("SHOW %s\n got %s\nwant %s", tt.what, got, tt.columns)
		}
		letters := map[uint32]string{oidText: "s", oidInt4: "i", oidInt8: "q", oidNumeric: "N"}
		var types strings.Builder
		for _, f := range r.FieldDescriptions {
			types.WriteString(letters[f.DataTypeOID])
		}
		if types.String() != tt.types {
			t.Errorf("SHOW %s: types %s, want %s", tt.what, types.String(), tt.types)
		}
		if r.CommandTag.String() != "SHOW" {
			t.Errorf("SHOW %s: tag %q", tt.what, r.CommandTag)
		}
		for _, values := range r.Rows {
			if len(values) != len(r.FieldDescriptions) {
				t.Errorf("SHOW %s: %d cells", tt.what, len(values))
			}
		}
	}
}

func TestRowsTellTheSnapshot(t *testing.T) {
	t.Setenv("TZ", "UTC")
	opts := options(&source{snap: state()})
	_, dial := consoleOn(t, opts)
	conn := dial("ops")
	stamp := func(sec int) string {
		return time.Date(2026, 5, 1, 12, 0, sec, 0, time.UTC).Local().Format("2006-01-02 15:04:05 MST")
	}
	for _, tt := range []struct {
		sql  string
		rows []string // those of the console itself left out
	}{
		{"show pools", []string{"search|owner|1|2|3|4|5|6|7|8|9|10|11|2|345|transaction|~"}},
		{"SELECT clients", []string{
			"C|app|search|none|active|10.0.0.9|50123|10.0.0.1|6432|" + stamp(0) + "|" + stamp(1) + "|0|0|0|c7|s3|4194400|TLSv1.3/TLS_AES_128_GCM_SHA256|exec|2|7",
			"C|<b>app</b>|search|none|waiting|unix|0||0|" + stamp(0) + "|" + stamp(0) + "|2|345|0|c8||0|||0|8",
		}},
		{`SHOW "servers" ;`, []string{
			"S|owner|search|none|active|10.0.0.2|5432||0|" + stamp(0) + "|" + stamp(0) + "|0|0|0|s3|c7|991||exec|0|3",
			"S|owner|search|none|new|10.0.0.2|5432||0|" + stamp(0) + "|" + stamp(0) + "|0|0|0|s4||0|||0|4",
		}},
		{"SHOW DATABASES", []string{
			"search|10.0.0.2|5432|postgres|owner|20|5|0|3600|transaction|~|0|2|0|2|0|0",
			"*|10.0.0.3|5432|*|~|10|0|0|0|~|~|0|0|0|0|0|0",
		}},
		{"SHOW STATS_TOTALS", []string{"search|12|4|8|100|200|4000000|2000000|6000000|5|6|7|3"}},
		{"SHOW VERSION", []string{"PgBouncer 1.26.0 (answered by pgpoold 9.8.7)"}},
		{"SHOW CONFIG", []string{"max_client_conn|10000|10000|no", "log_level|info|info|yes"}},
		{"SHOW TimeZone", []string{"GMT"}},
	} {
		var got []string
		for _, values := range ask(t, conn, tt.sql).Rows {
			if r := row(values); !strings.Contains(r, "pgbouncer") {
				got = append(got, r)
			}
		}
		if !slices.Equal(got, tt.rows) {
			t.Errorf("%s\n got %q\nwant %q", tt.sql, got, tt.rows)
		}
	}
	lists := map[string]string{}
	for _, values := range ask(t, conn, "SHOW LISTS").Rows {
		lists[string(values[0])] = string(values[1])
	}
	for name, want := range map[string]string{"databases": "3", "users": "4", "pools": "2", "used_clients": "3", "login_clients": "6", "used_servers": "2"} {
		if lists[name] != want {
			t.Errorf("SHOW LISTS %s: %q, want %s", name, lists[name], want)
		}
	}
}

// The console counts its own clients, as PgBouncer does.
func TestTheConsoleShowsItself(t *testing.T) {
	_, dial := consoleOn(t, options(&source{}))
	first, second := dial("ops"), dial("grafana")
	ask(t, second, "SHOW VERSION")
	var users []string
	for _, values := range ask(t, first, "SHOW CLIENTS").Rows {
		users = append(users, string(values[1])+"@"+string(values[2])+"/"+string(values[18]))
	}
	if !slices.Equal(users, []string{"ops@pgbouncer/watcher", "grafana@pgbouncer/watcher"}) {
		t.Fatalf("clients %q", users)
	}
	pools := ask(t, first, "SHOW POOLS").Rows
	if len(pools) != 1 || !strings.HasPrefix(row(pools[0]), "pgbouncer|pgbouncer|2|0|") {
		t.Fatalf("pools %q", pools)
	}
}

func TestErrorsArePgBouncers(t *testing.T) {
	_, dial := consoleOn(t, options(&source{snap: state()}))
	for _, tt := range []struct{ user, sql, message string }{
		{"ops", "SELECT 1", "invalid command 'SELECT 1', use SHOW HELP;"},
		{"ops", "show", "invalid command 'show', use SHOW HELP;"},
		{"ops", "SHOW fish", "invalid command 'SHOW fish', use SHOW HELP;"},
		{"ops", "SHOW POOLS; SHOW CLIENTS", "invalid command 'SHOW POOLS; SHOW CLIENTS', use SHOW HELP;"},
		{"ops", "DISCARD ALL", "invalid command 'DISCARD ALL', use SHOW HELP;"},
		{"ops", "PAUSE fish", "no such database: fish"},
		{"ops", "KILL pgbouncer", "cannot kill admin db: pgbouncer"},
		{"ops", "WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer"},
		{"ops", "DISABLE", "a database is required"},
		{"ops", "KILL_CLIENT x", "invalid client pointer supplied"},
		{"ops", "KILL_CLIENT 12", "client not found"},
		{"ops", "SHUTDOWN SOON", "invalid command 'SHUTDOWN SOON', use SHOW HELP;"},
		{"ops", "reload x", "invalid command 'reload x', use SHOW HELP;"},
		{"ops", "set", "invalid command 'set', use SHOW HELP;"},
		{"ops", "set log_level", "invalid command 'set log_level', use SHOW HELP;"},
		{"ops", "set log_level = ", "invalid command 'set log_level = ', use SHOW HELP;"},
		{"ops", "show stats;;", "invalid command 'show stats;;', use SHOW HELP;"},
		{"ops", "; show stats", "invalid command '; show stats', use SHOW HELP;"},
		{"ops", "show stats -- all", "invalid command 'show stats -- all', use SHOW HELP;"},
		{"ops", "/* all */ show stats", "invalid command '/* all */ show stats', use SHOW HELP;"},
		{"ops", "show 'stats'", "invalid command 'show 'stats'', use SHOW HELP;"},
		{"ops", "show stats totals", "invalid command 'show stats totals', use SHOW HELP;"},
		{"ops", `pause "fi""sh"`, `no such database: fi"sh`},
		{"ops", "PAUSE $1", "bad arguments"},
		{"ops", "abcdefghijklmnopq", "bad arguments"},
		{"ops", "SHOW " + strings.Repeat("a", 64), "bad arguments"},
		{"ops", "SET max_client_conn = 3", "SET failed"},
		{"ops", "SET log_level = loud", "SET failed"},
		{"grafana", "SET log_level = debug", "admin access needed"},
		{"grafana", "PAUSE", "admin access needed"},
		{"grafana", "RELOAD;", "admin access needed"},
		{"grafana", "SHUTDOWN", "admin access needed"},
		{"grafana", "KILL_CLIENT 7", "admin access needed"},
	} {
		conn := dial(tt.user)
		_, err := conn.Exec(timeout(t), tt.sql).ReadAll()
		var pg *pgconn.PgError
		if !errors.As(err, &pg) {
			t.Errorf("%s: %v", tt.sql, err)
			continue
		}
		if pg.Code != "08P01" || pg.Severity != "ERROR" || pg.Message != tt.message {
			t.Errorf("%s: %s %s %q, want ERROR 08P01 %q", tt.sql, pg.Severity, pg.Code, pg.Message, tt.message)
		}
		ask(t, conn, "SHOW VERSION") // the session survives
	}
}

func TestTheExtendedProtocol(t *testing.T) {
	opts := options(&source{snap: state()})
	_, dial := consoleOn(t, opts)
	conn := dial("ops")
	simple := ask(t, conn, "SHOW STATS_TOTALS")
	text := conn.ExecParams(timeout(t), "SHOW STATS_TOTALS", nil, nil, nil, nil).Read()
	if text.Err != nil || row(text.Rows[0]) == "" || text.CommandTag.String() != "SHOW" || names(text) != names(simple) {
		t.Fatalf("text: %v %q", text.Err, text.CommandTag)
	}
	// The numbers in binary are those in text.
	binary := conn.ExecParams(timeout(t), "SHOW STATS_TOTALS", nil, nil, nil, []int16{1}).Read()
	if binary.Err != nil {
		t.Fatal(binary.Err)
	}
	types := pgtype.NewMap()
	for i, f := range binary.FieldDescriptions {
		if f.DataTypeOID != oidNumeric {
			continue
		}
		var n pgtype.Numeric
		if err := types.Scan(f.DataTypeOID, 1, binary.Rows[1][i], &n); err != nil {
			t.Fatal(err)
		}
		v, err := n.Value()
		if err != nil || v != string(text.Rows[1][i]) {
			t.Errorf("%s: %v in binary, %s in text (%v)", f.Name, v, text.Rows[1][i], err)
		}
	}
	// A statement by name, described and run more than once.
	d, err := conn.Prepare(timeout(t), "s", "SHOW POOLS", nil)
	if err != nil || len(d.Fields) != 17 || len(d.ParamOIDs) != 0 {
		t.Fatalf("prepare: %v, %d fields", err, len(d.Fields))
	}
	for range 2 {
		if r := conn.ExecPrepared(timeout(t), "s", nil, nil, nil).Read(); r.Err != nil || len(r.Rows) != 2 {
			t.Fatalf("execute: %v, %d rows", r.Err, len(r.Rows))
		}
	}
	// A parameter stands for an argument.
	if d, err = conn.Prepare(timeout(t), "p", "RECONNECT $1", nil); err != nil || len(d.ParamOIDs) != 1 {
		t.Fatal(err)
	}
	if r := conn.ExecPrepared(timeout(t), "p", [][]byte{[]byte("search")}, nil, nil).Read(); r.Err != nil || r.CommandTag.String() != "RECONNECT" {
		t.Fatalf("%v %s", r.Err, r.CommandTag)
	}
	if got := opts.Operator.(*operator).asked; !slices.Equal(got, []string{"reconnect search"}) {
		t.Fatalf("asked %q", got)
	}
	for _, sql := range []string{"SELECT 1", "SHOW $1"} {
		_, err := conn.ExecParams(timeout(t), sql, nil, nil, nil, nil).Close()
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "08P01" {
			t.Errorf("%s: %v", sql, err)
		}
		ask(t, conn, "SHOW VERSION") // the session survives
	}
}

func TestWhatDriversDoFirst(t *testing.T) {
	opts := options(&source{})
	_, dial := consoleOn(t, opts)
	conn := dial("ops")
	if v := conn.ParameterStatus("server_version"); v != "1.26.0/bouncer" {
		t.Errorf("server_version %q", v)
	}
	if err := conn.Ping(timeout(t)); err != nil {
		t.Errorf("ping: %v", err)
	}
	for _, tt := range []struct{ sql, tag string }{
		{"SET extra_float_digits = 3", "SET"},
		{"set client_encoding to 'UTF8'", "SET"},
		{"SET log_level = debug", "SET log_level=debug"},
		{"SHOW HELP", "SHOW"},
	} {
		all, err := conn.Exec(timeout(t), tt.sql).ReadAll()
		if err != nil || len(all) != 1 || all[0].CommandTag.String() != tt.tag {
			t.Errorf("%s: %v %v", tt.sql, all, err)
		}
	}
	if opts.Level.Level() != "debug" {
		t.Error("SET log_level did nothing")
	}
}

func TestCloseEndsSessions(t *testing.T) {
	c, dial := consoleOn(t, options(&source{}))
	conn := dial("ops")
	ask(t, conn, "SHOW VERSION")
	c.Close()
	_, err := conn.Exec(timeout(t), "SHOW VERSION").ReadAll()
	if err == nil {
		t.Fatal("a closed console answered")
	}
	if n := len(c.sessions()); n > 1 {
		t.Fatalf("%d sessions", n)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want command
	}{
		{"", command{}},
		{" ; ", command{}},
		{"-- ping", command{}},
		{"show pools", command{name: "show", arg: "pools"}},
		{"\n SHOW\tPOOLS ;\n", command{name: "show", arg: "POOLS"}},
		{`kill "a ""b"`, command{name: "kill", arg: `a "b`}},
		{"pause", command{name: "pause"}},
		{`"SHOW" "version";`, command{name: "show", arg: "version"}},
		{"select STATS_TOTALS", command{name: "show", arg: "STATS_TOTALS"}},
		{"SHOW  stats  ;  ", command{name: "show", arg: "stats"}},
		{`SET "default_pool_size" TO "20"`, command{name: "set", arg: "default_pool_size", val: "20"}},
		{"set default_pool_size=20;", command{name: "set", arg: "default_pool_size", val: "20"}},
		{"set a=b", command{name: "set", arg: "a", val: "b"}},
		{"SET a TO 'it''s';", command{name: "set", arg: "a", val: "it's"}},
	} {
		got, problem := parse(tt.in)
		if got != tt.want || problem != "" {
			t.Errorf("%q: %+v %q, want %+v", tt.in, got, problem, tt.want)
		}
	}
}

func TestAveragesAreOfTheLastPeriod(t *testing.T) {
	src := &source{snap: state()}
	c := NewConsole(options(src))
	h := c.stats
	start := time.Now()
	if got := average(c); got != "search|0|0|0|0|0|0|0|0|0|0|0|0" {
		t.Fatalf("before a period: %s", got)
	}
	h.take(start)
	src.set(func(s *source) {
		p := state().Pools
		st := &p[0].Stats
		st.ServerAssignments += 20
		st.Xacts += 40
		st.Queries += 60
		st.BytesReceived += 1000
		st.BytesSent += 2000
		st.XactTime += 80 * time.Millisecond
		st.QueryTime += 60 * time.Millisecond
		st.WaitTime += 20 * time.Millisecond
		s.snap.Pools = p
	})
	h.take(start.Add(10 * time.Second))
	if got := average(c); got != "search|2|4|6|100|200|2000|1000|1000|0|0|0|0" {
		t.Fatalf("after a period: %s", got)
	}
	src.set(func(s *source) { s.snap = state() }) // as if its pool had been made anew
	h.take(start.Add(20 * time.Second))
	if got := average(c); got != "search|0|0|0|0|0|0|0|0|0|0|0|0" {
		t.Fatalf("after counters went back: %s", got)
	}
}

// A counter that sums forget is missing where databases and pools beyond the
// bound of labels are shown together.
func TestSumsForgetNothing(t *testing.T) {
	var one proxy.PoolStats
	v := reflect.ValueOf(&one).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Uint64:
			f.SetUint(3)
		case reflect.Int64:
			f.SetInt(3)
		default:
			f.Addr().Interface().(*backend.Histogram).Buckets[2] = 3
		}
	}
	sum := one
	sum.Add(&one)
	two := reflect.ValueOf(sum)
	for i := range v.NumField() {
		var n uint64
		switch f := two.Field(i); f.Kind() {
		case reflect.Uint64:
			n = f.Uint()
		case reflect.Int64:
			n = uint64(f.Int())
		default:
			n = f.Interface().(backend.Histogram).Buckets[2]
		}
		if n != 6 {
			t.Errorf("%s: 3 and 3 are %d", v.Type().Field(i).Name, n)
		}
	}
}

// average is the row of the database search, the last one.
func average(c *Console) string {
	rows := c.show("stats_averages", false).rows
	return row(cells(rows[len(rows)-1]))
}

func cells(r []*string) [][]byte {
	out := make([][]byte, len(r))
	for i, c := range r {
		if c != nil {
			out[i] = []byte(*c)
		}
	}
	return out
}
