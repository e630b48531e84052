package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"pgpoold/admin"
)

// upgradePatience is how long the outcome of an upgrade is waited for where
// the running process has no bound of its own.
const upgradePatience = 10 * time.Minute

// upgradeInterval is how often the running process is asked for the outcome.
const upgradeInterval = 50 * time.Millisecond

// upgrade has a running pgpoold start its program again and hand over to it,
// and says what came of it. The process is the one at the admin port, or the
// one whose PID is given.
func (p *program) upgrade(args []string) int {
	fs, file := p.flags("pgpoold upgrade")
	if err := fs.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return exitOK
		}
		return exitUsage
	}
	pid := 0
	if fs.NArg() > 0 {
		n, err := strconv.Atoi(fs.Arg(0))
		if err != nil || n <= 1 || fs.NArg() > 1 {
			fmt.Fprintf(p.stderr, "%s: %q is no process id\n\n%s", fs.Name(), fs.Arg(0), usage)
			return exitUsage
		}
		pid = n
	}
	addr, ok := p.adminAddr(*file)
	if !ok {
		return exitFailed
	}
	if addr == "off" {
		addr = ""
	}
	if err := p.askUpgrade(addr, pid); err != nil {
		fmt.Fprintln(p.stderr, "pgpoold upgrade:", err)
		return exitFailed
	}
	return exitOK
}

// running is what the process at the admin port says of itself.
type running struct {
	pid, failed int
	why         string
}

// askUpgrade signals the process and waits for the outcome.
func (p *program) askUpgrade(addr string, pid int) error {
	if addr == "" && pid == 0 {
		return fmt.Errorf("admin.addr is off: give the id of the running process")
	}
	if addr == "" {
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		fmt.Fprintf(p.stdout, "process %d was told; admin.addr is off, so its log says what came of it\n", pid)
		return nil
	}
	before, err := whoRuns(dialable(addr))
	if err != nil {
		return fmt.Errorf("nobody answers on the admin port: %w", err)
	}
	if pid != 0 && pid != before.pid {
		return fmt.Errorf("process %d is not the one that answers on %s, which is %d", pid, addr, before.pid)
	}
	if err := syscall.Kill(before.pid, syscall.SIGUSR2); err != nil {
		return fmt.Errorf("process %d: %w", before.pid, err)
	}
	t := time.NewTicker(upgradeInterval)
	defer t.Stop()
	for deadline := time.Now().Add(upgradePatience); time.Now().Before(deadline); <-t.C {
		now, err := whoRuns(dialable(addr))
		switch {
		case err != nil: // the port changes hands
		case now.pid != before.pid:
			fmt.Fprintf(p.stdout, "process %d has taken over from process %d\n", now.pid, before.pid)
			return nil
		case now.failed > before.failed && now.why != "":
			return fmt.Errorf("it has failed, and process %d goes on: %s", now.pid, now.why)
		case now.failed > before.failed:
			return fmt.Errorf("it has failed, and process %d goes on: its log says why", now.pid)
		}
	}
	return fmt.Errorf("process %d has neither handed over nor failed", before.pid)
}

// whoRuns asks the admin port which process answers there.
func whoRuns(addr string) (r running, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	resp, err := getHealth(ctx, "http://"+addr)
	if err == nil && resp.StatusCode == http.StatusBadRequest { // plain HTTP is not spoken there
		resp.Body.Close()
		resp, err = getHealth(ctx, "https://"+addr)
	}
	if err != nil {
		return r, err
	}
	resp.Body.Close()
	if r.pid, err = strconv.Atoi(resp.Header.Get(admin.HeaderPID)); err != nil {
		return r, fmt.Errorf("%s does not say which process it is: it is no pgpoold, or one of a version without upgrades", addr)
	}
	r.failed, _ = strconv.Atoi(resp.Header.Get(admin.HeaderUpgradesFailed))
	r.why = resp.Header.Get(admin.HeaderUpgradeError)
	return r, nil
}

// executable is the path of the program as it was called: what stands there
// later is what an upgrade starts, where a link or a new file has taken the
// place of the old one.
func executable() string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, err = os.Executable()
	}
	if err != nil {
		return ""
	}
	return path
}
