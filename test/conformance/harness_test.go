package conformance

import (
	"fmt"
	"os"
	"testing"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// full says that everything is tried, not a sample.
func full() bool { return os.Getenv("PGPOOLD_TEST") == "full" }

// startPooler runs pgpoold in front of the upstream, with the adversary that
// never gives a session its last server.
func startPooler(t *testing.T, upstream string) *harness.Pgpoold {
	t.Helper()
	dsn := fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", postgres.Superuser, upstream)
	return harness.Start(t, harness.Options{DSN: dsn, Size: poolSize, Quiet: true})
}
