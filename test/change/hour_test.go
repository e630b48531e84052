package change

import (
	"fmt"
	"os"
	osexec "os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// TestEverythingChanges is an operator who does not stop: reloads, resizes,
// upgrades in place and restarts of PostgreSQL under PAUSE, while pgbench and
// clients that keep books work. Nothing may fail. PGPOOLD_CHANGE is how long it goes on; the
// long form has the intervals of an hour's work, the short one does the same
// in seconds.
func TestEverythingChanges(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	length, reloads, resizes, upgrades, restarts := 16*time.Second, time.Second, 3*time.Second, 5*time.Second, 6*time.Second
	if given := os.Getenv("PGPOOLD_CHANGE"); given != "" {
		var err error
		if length, err = time.ParseDuration(given); err != nil {
			t.Fatal(err)
		}
		reloads, resizes, upgrades, restarts = 10*time.Second, time.Minute, 5*time.Minute, 10*time.Minute
	}
	c := postgres.StartForTest(t, postgres.Config{})
	db := newDB(t, c)
	size, memory := 4, 1
	configuration := func() string {
		return fmt.Sprintf("pool: {size: %d, server_lifetime: 30s}\ndatabases: {%s: {dsn: '%s&work_mem=%dMB'}}\n", size, db, withQuery(c.SuperDSN(db)), memory)
	}
	p := harness.StartProcess(t, patient+configuration())
	install := c.Install()
	bench, err := install.Tool("pgbench")
	if err == nil {
		out, err := osexec.Command(bench, "--initialize", "--quiet", c.SuperDSN(db)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	} else {
		t.Log("pgbench is missing: the clients that keep books work alone")
	}
	b := keep(t, p, c, db, 8)
	worked := make(chan string, 1)
	if bench != "" {
		cmd := osexec.CommandContext(lasting(t, length), bench, "--no-vacuum", "--protocol", "prepared", "--client", "8", "--jobs", "8",
			"--rate", "200", "--time", fmt.Sprint(int(length.Seconds())), p.DSN("app:app", db))
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		go func() {
			out, err := cmd.CombinedOutput()
			worked <- fmt.Sprintf("%s\n%v", out, err)
		}()
	}
	began := time.Now()
	counts := map[string]int{}
	nextReload, nextResize, nextUpgrade, nextRestart := began.Add(reloads), began.Add(resizes), began.Add(upgrades), began.Add(restarts)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for now := began; now.Sub(began) < length; now = <-tick.C {
		switch {
		case now.After(nextRestart):
			command(t, p, "PAUSE")
			if err := c.Restart(within(t)); err != nil {
				t.Fatal(err)
			}
			command(t, p, "RESUME")
			counts["restarts"]++
			nextRestart = nextRestart.Add(restarts)
		case now.After(nextUpgrade):
			p.Upgrade(t)
			counts["upgrades"]++
			nextUpgrade = nextUpgrade.Add(upgrades)
		case now.After(nextResize):
			size = 9 - size
			p.Reload(t, patient+configuration())
			counts["resizes"]++
			nextResize = nextResize.Add(resizes)
		case now.After(nextReload):
			if counts["reloads"]%2 == 1 {
				memory = 3 - memory // other servers
			}
			p.Reload(t, patient+configuration())
			counts["reloads"]++
			nextReload = nextReload.Add(reloads)
		}
	}
	b.goOn(50)
	b.clean()
	if bench != "" {
		out := <-worked
		if !strings.HasSuffix(out, "\n<nil>") || !regexp.MustCompile(`(?m)^number of failed transactions: 0 `).MatchString(out) || strings.Contains(out, "aborted") {
			t.Errorf("pgbench:\n%s", out)
		}
		t.Log(regexp.MustCompile(`number of transactions actually processed: \d+`).FindString(out))
	}
	t.Log(counts)
	for what, n := range counts {
		if n == 0 {
			t.Errorf("no %s", what)
		}
	}
}
