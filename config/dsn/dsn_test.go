package dsn

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

func tcp(host string, port uint16) Host { return Host{"tcp", host, port} }

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want DSN
	}{
		{"postgres://localhost", DSN{Hosts: []Host{tcp("localhost", 5432)}}},
		{"POSTGRESQL://localhost/", DSN{Hosts: []Host{tcp("localhost", 5432)}}},
		{"  postgres://h/db\n", DSN{Hosts: []Host{tcp("h", 5432)}, DBName: "db"}},
		{"postgresql+asyncpg://u:p@h:5433/db", DSN{
			Hosts: []Host{tcp("h", 5433)}, User: "u", Password: "p", HasPassword: true, DBName: "db"}},
		{"postgresql+psycopg2://u@h/db", DSN{Hosts: []Host{tcp("h", 5432)}, User: "u", DBName: "db"}},
		{"postgres+psycopg_async://u@h/db", DSN{Hosts: []Host{tcp("h", 5432)}, User: "u", DBName: "db"}},
		{"postgres://u:@h", DSN{Hosts: []Host{tcp("h", 5432)}, User: "u", HasPassword: true}},
		{"postgres://postgres.ref:p%40s%3As%2Fw%23%3F%25@h/db", DSN{
			Hosts: []Host{tcp("h", 5432)}, User: "postgres.ref", Password: "p@s:s/w#?%", HasPassword: true, DBName: "db"}},
		{"postgres://u:a:b+c@h/d%20b", DSN{
			Hosts: []Host{tcp("h", 5432)}, User: "u", Password: "a:b+c", HasPassword: true, DBName: "d b"}},
		{"postgres://u:p%C3%A9@h", DSN{Hosts: []Host{tcp("h", 5432)}, User: "u", Password: "pé", HasPassword: true}},
		{"postgres://u@[::1]:6000,h2,10.0.0.1:7000/db", DSN{
			Hosts: []Host{tcp("::1", 6000), tcp("h2", 5432), tcp("10.0.0.1", 7000)}, User: "u", DBName: "db"}},
		{"postgres://[fe80::1%25eth0]/db", DSN{Hosts: []Host{tcp("fe80::1%eth0", 5432)}, DBName: "db"}},
		{"postgres://%2Fvar%2Frun%2Fpostgresql:5433/db", DSN{
			Hosts: []Host{{"unix", "/var/run/postgresql", 5433}}, DBName: "db"}},
		{"postgres:///db?host=/tmp&port=5433", DSN{Hosts: []Host{{"unix", "/tmp", 5433}}, DBName: "db"}},
		{"postgres://u@/db?host=a,b&port=1,2", DSN{Hosts: []Host{tcp("a", 1), tcp("b", 2)}, User: "u", DBName: "db"}},
		{"postgres://u@/db?host=a,b&port=7", DSN{Hosts: []Host{tcp("a", 7), tcp("b", 7)}, User: "u", DBName: "db"}},
		{"postgres://h/db?user=u%2Bv&password=p%20q", DSN{
			Hosts: []Host{tcp("h", 5432)}, User: "u+v", Password: "p q", HasPassword: true, DBName: "db"}},
		{"postgres://h/db?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=c&sslkey=k", DSN{
			Hosts: []Host{tcp("h", 5432)}, DBName: "db",
			SSLMode: "verify-full", SSLRootCert: "/ca.pem", SSLCert: "c", SSLKey: "k"}},
		{"postgres://h?sslrootcert=system", DSN{Hosts: []Host{tcp("h", 5432)}, SSLMode: "verify-full", SSLRootCert: "system"}},
		{"postgres://h?ssl=true", DSN{Hosts: []Host{tcp("h", 5432)}, SSLMode: "require"}},
		{"postgres://h?ssl=verify-ca", DSN{Hosts: []Host{tcp("h", 5432)}, SSLMode: "verify-ca"}},
		{"postgres://h?connect_timeout=0&target_session_attrs=read-write", DSN{
			Hosts: []Host{tcp("h", 5432)}, ConnectTimeout: ptr(time.Duration(0)), TargetSessionAttrs: "read-write"}},
		{"postgres://h?keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=1500", DSN{
			Hosts: []Host{tcp("h", 5432)}, Keepalive: Keepalive{
				Enable: ptr(true), Idle: ptr(30 * time.Second), Interval: ptr(5 * time.Second), Count: ptr(3),
				UserTimeout: ptr(1500 * time.Millisecond)}}},
		{"postgres://h?application_name=a%20b&options=-c+search_path%3Dx&SEARCH_PATH=y&timezone=UTC", DSN{
			Hosts: []Host{tcp("h", 5432)}, RuntimeParams: map[string]string{
				"application_name": "a b", "options": "-c search_path=x", "search_path": "y", "TimeZone": "UTC"}}},
		{"postgres://h?application_name=a&fallback_application_name=b", DSN{
			Hosts: []Host{tcp("h", 5432)}, RuntimeParams: map[string]string{"application_name": "a"}}},
		{"postgres://h?fallback_application_name=b", DSN{
			Hosts: []Host{tcp("h", 5432)}, RuntimeParams: map[string]string{"application_name": "b"}}},
		{"postgres://u:p@h/db?application_name=a@b", DSN{
			Hosts: []Host{tcp("h", 5432)}, User: "u", Password: "p", HasPassword: true, DBName: "db",
			RuntimeParams: map[string]string{"application_name": "a@b"}}},
		{"postgres://h?pgbouncer=true&connection_limit=1&pool_timeout=0&schema=public&statement_cache_size=0&sslaccept=strict", DSN{
			Hosts: []Host{tcp("h", 5432)}, Warnings: []string{
				"pgbouncer is an option of a driver: ignored", "connection_limit is an option of a driver: ignored",
				"pool_timeout is an option of a driver: ignored", "schema is an option of a driver: ignored",
				"statement_cache_size is an option of a driver: ignored", "sslaccept is an option of a driver: ignored"}}},
		{"postgres://h?krbsrvname=x&gssencmode=disable", DSN{
			Hosts: []Host{tcp("h", 5432)}, Warnings: []string{"krbsrvname has no effect here: ignored"}}},

		{"host=localhost", DSN{Hosts: []Host{tcp("localhost", 5432)}}},
		{`host = 'h' port=6000 user=u password = 'it\'s a \\ pw' dbname=d`, DSN{
			Hosts: []Host{tcp("h", 6000)}, User: "u", Password: `it's a \ pw`, HasPassword: true, DBName: "d"}},
		{`host=h user=u password=a\ b`, DSN{Hosts: []Host{tcp("h", 5432)}, User: "u", Password: "a b", HasPassword: true}},
		{"host=h user=u password=x://y", DSN{Hosts: []Host{tcp("h", 5432)}, User: "u", Password: "x://y", HasPassword: true}},
		{"host=/var/run/postgresql,::1 port=5433,", DSN{
			Hosts: []Host{{"unix", "/var/run/postgresql", 5433}, tcp("::1", 5432)}}},
		{"hostaddr=127.0.0.1 user=u", DSN{Hosts: []Host{tcp("127.0.0.1", 5432)}, User: "u"}},
	} {
		if tt.want.RuntimeParams == nil {
			tt.want.RuntimeParams = map[string]string{}
		}
		got, err := Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("Parse(%q) =\n %+v, want\n %+v", tt.in, *got, tt.want)
		}
	}
}

func TestParseMistakes(t *testing.T) {
	const rawChar = "its user or password seems to hold a raw @, #, / or ?"
	for _, tt := range []struct{ in, want string }{
		{"", "it is empty"},
		{" \n", "it is empty"},
		{`"postgres://h"`, "it begins with a quote"},
		{"mysql://u:s3cret@h/db", "its scheme is unknown"},
		{"postgres+://h", "its scheme is unknown"},
		{"jdbc:postgresql://h/db?password=s3cret", "it is a JDBC URL"},
		{"just words", "it is neither a URL"},
		{"postgres", "it is neither a URL"},
		{"host=h password='s3cret", "a value lacks its closing single quote"},

		{"postgres://u:s3@cret@h/db", rawChar},
		{"postgres://u:s3#cret@h/db", rawChar},
		{"postgres://u:s3/cret@h/db", rawChar},
		{"postgres://u:s3?cret@h/db", rawChar},
		{"postgres://u:12/s3cret@h/db", rawChar},
		{"postgres://u:s3?cret=1@h/db?sslmode=require", rawChar},
		{"postgres://u:p@s3/cret@h/db", rawChar},
		{"postgres://u:p@s3?cret@h/db", "a part of its query is not key=value"},
		{"postgres://u:p@s3?cret=1@h/db", "a key of its query is unknown"},
		{"postgres://u:s3/cret", "one of its ports is not a number from 1 to 65535"},
		{"postgres://u:p@h/db/s3cret", "its database name holds a raw /"},
		{"postgres://u:s3%zz@h/db", "it holds a % that is not followed by two hex digits"},
		{"postgres://u:s3%4@h/db", "it holds a % that is not followed by two hex digits"},
		{"postgres://u:s3%00@h/db", "it holds a zero byte"},
		{"postgres://u:s3 cret@h/db", "it holds a raw space or control character"},
		{"postgres://u:s3\ncret@h/db", "it holds a raw space or control character"},
		{"postgres://u:[YOUR-PASSWORD]@h/db", "its password is still the placeholder"},
		{"postgres://:s3cret@h/db", "it has a password but no user"},
		{"host=h password=s3cret", "it has a password but no user"},
		{"postgres://u@h/db?password=a+b", "holds a raw +"},

		{"postgres://", "it names no host"},
		{"postgres:///db", "it names no host"},
		{"user=u dbname=d", "it names no host"},
		{"postgres://u@h1,,h3/db", "one of its hosts is not a host name"},
		{"postgres://::1/db", "an IPv6 address needs brackets"},
		{"postgres://[::1/db", "one of its hosts is not a host name"},
		{"postgres://[::1]5432/db", "one of its hosts is not a host name"},
		{"postgres://[host]/db", "one of its hosts is not a host name"},
		{"postgres://h%21/db", "one of its hosts is not a host name"},
		{"postgres://h:0/db", "one of its ports is not a number from 1 to 65535"},
		{"postgres://h:65536/db", "one of its ports is not a number from 1 to 65535"},
		{"host=a,b port=1,2,3", "more ports than hosts"},

		{"postgres://h?sslmod=require", "a key of its query is unknown, did you mean sslmode?"},
		{"host=h usr=u", "one of its keys is unknown, did you mean user?"},
		{"postgres://h?frobnicate=1", "a key of its query is unknown: a PostgreSQL setting is written options=-c"},
		{"postgres://h?sslmode=requires", "sslmode is not one of disable, allow, prefer, require, verify-ca, verify-full"},
		{"postgres://h?sslmode=no-verify", "sslmode=no-verify is a driver's word"},
		{"postgres://h?sslmode=require&ssl=1", "sslmode is given twice"},
		{"postgres://h?sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"},
		{"postgres://h?sslcert=c", "sslcert and sslkey need each other"},
		{"postgres://u@h?user=v", "user is given twice"},
		{"postgres://h/db?dbname=e", "dbname is given twice"},
		{"postgres://h1?host=h2", "host is given twice"},
		{"postgres://h:1?port=2", "port is given twice"},
		{"postgres://h?hostaddr=::1", "it has both host and hostaddr"},
		{"postgres://h?connect_timeout=soon", "connect_timeout is not a whole number"},
		{"postgres://h?connect_timeout=-1", "connect_timeout is not a whole number"},
		{"postgres://h?target_session_attrs=master", "target_session_attrs is not one of any, read-write"},
		{"postgres://h?service=x", "service is not supported"},
		{"postgres://h?gssencmode=require", "gssencmode=require is not supported"},
		{"postgres://h?channel_binding=require", "channel_binding=require is not supported"},
		{"postgres://h?load_balance_hosts=random", "load_balance_hosts is supported with the value disable only"},
		{"host=h dbname='postgres://x'", "its dbname is itself a connection string"},
		{"postgres://h?application_name=%00", "it holds a zero byte"},
		{strings.Repeat("x", 1<<16+1), "it is longer than 64 KiB"},
	} {
		d, err := Parse(tt.in)
		if err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", tt.in, *d)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%q): %v, want %q", tt.in, err, tt.want)
		}
		for _, part := range []string{"s3", "cret"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("Parse(%q): the error holds a part of the password: %v", tt.in, err)
			}
		}
	}
}

// Nothing but the DSN counts.
func TestParseReadsNoEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"PGHOST": "env", "PGPORT": "1", "PGUSER": "env", "PGPASSWORD": "env", "PGDATABASE": "env", "PGSSLMODE": "require",
		"PGAPPNAME": "env", "PGOPTIONS": "env", "PGCONNECT_TIMEOUT": "1", "PGSERVICE": "env", "PGTARGETSESSIONATTRS": "any",
	} {
		t.Setenv(name, value)
	}
	got, err := Parse("postgres://h")
	if err != nil {
		t.Fatal(err)
	}
	want := &DSN{Hosts: []Host{tcp("h", 5432)}, RuntimeParams: map[string]string{}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSecretPrintsNothing(t *testing.T) {
	d, err := Parse("postgres://u:s3cret@h")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := d.Password.MarshalText()
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d %s", d, *d, *d, d.Password, d.Password, d.Password, d.Password, text)
	if strings.Contains(all, "s3cret") || strings.Contains(all, "733363726574") {
		t.Errorf("the password is printed: %s", all)
	}
	if string(d.Password) != "s3cret" {
		t.Error("the password is lost")
	}
}

func TestSupabase(t *testing.T) {
	for _, tt := range []struct {
		host    string
		port    uint16
		want    Endpoint
		refused bool
	}{
		{"db.abcd.supabase.co", 5432, DirectServer, false},
		{"db.abcd.supabase.co", 6543, DedicatedPooler, true},
		{"DB.abcd.supabase.co.", 6543, DedicatedPooler, true},
		{"aws-0-eu-west-1.pooler.supabase.com", 5432, SessionPooler, false},
		{"aws-0-eu-west-1.pooler.supabase.com", 6543, TransactionPooler, true},
		{"api.supabase.co", 6543, NotSupabase, false},
		{"pooler.supabase.com.example.org", 6543, NotSupabase, false},
		{"localhost", 6543, NotSupabase, false},
	} {
		if got := SupabaseKind(tt.host, tt.port); got != tt.want {
			t.Errorf("SupabaseKind(%s, %d) = %d, want %d", tt.host, tt.port, got, tt.want)
		}
		refusal := PoolerRefusal(tt.host, tt.port)
		if (refusal != "") != tt.refused || strings.Contains(refusal, "abcd") {
			t.Errorf("PoolerRefusal(%s, %d) = %q", tt.host, tt.port, refusal)
		}
	}
}
