package conformance

import (
	"net"
	"os"
	"strconv"
	"testing"

	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// targetOf is the oracle: PostgreSQL itself.
func targetOf(c *postgres.Cluster) wirescript.Target {
	return wirescript.Target{Name: "direct", Network: "tcp", Addr: c.Addr(), User: postgres.Superuser, Database: "postgres"}
}

func splitAddr(tb testing.TB, addr string) (string, uint16) {
	tb.Helper()
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		tb.Fatal(err)
	}
	return host, uint16(port)
}
