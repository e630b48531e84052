//go:build linux

package measure

import (
	"fmt"
	"os"
	"testing"

	"pgpoold/test/guard"
	"pgpoold/test/postgres"
)

// The programs that all tests of this binary share. TestMain sets keeper
// before any test runs; daemonBinary is set by the first test that needs it.
var (
	keeper       *guard.Guard
	daemonBinary buildOnce
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := runChild(role, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	var err error
	if keeper, err = guard.New(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := postgres.Main(m)
	if err := keeper.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}
