package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// manager is a system's package manager: what it runs for us and what it
// would be for a person.
type manager struct {
	program string
	steps   [][]string
	hint    string
	// debian: InstallDebian in place of steps.
	debian bool
}

var managers = []manager{
	{program: "apt-get", hint: "apt-get install postgresql", debian: true},
	{
		program: "dnf",
		steps:   [][]string{{"dnf", "-q", "-y", "install", "postgresql-server", "postgresql"}},
		hint:    "dnf install postgresql-server",
	},
	{
		program: "apk",
		steps:   [][]string{{"apk", "add", "-q", "postgresql", "postgresql-client"}},
		hint:    "apk add postgresql",
	},
}

// installSystem installs the server with the first package manager there is.
func installSystem(ctx context.Context, logf func(string, ...any)) error {
	if os.Geteuid() != 0 {
		return errors.New("only root may install packages")
	}
	for _, m := range managers {
		if _, err := exec.LookPath(m.program); err != nil {
			continue
		}
		if m.debian {
			return InstallDebian(ctx, logf, "postgresql")
		}
		return runSteps(ctx, logf, m.steps)
	}
	return errors.New("no package manager that this program knows")
}

// InstallDebian installs packages with apt-get, as root, and keeps them from
// making clusters and from starting services.
func InstallDebian(ctx context.Context, logf func(string, ...any), packages ...string) error {
	undo, err := refuseCluster("/etc/postgresql-common")
	if err != nil {
		return err
	}
	defer undo()
	undoServices, err := refuseServices("/usr/sbin/policy-rc.d")
	if err != nil {
		return err
	}
	defer undoServices()
	return runSteps(ctx, logf, [][]string{
		{"apt-get", "-qq", "update"},
		append([]string{"apt-get", "-qq", "install", "-y", "--no-install-recommends",
			// A configuration file that is there before its package stays.
			"-o", "Dpkg::Options::=--force-confold"}, packages...),
	})
}

func runSteps(ctx context.Context, logf func(string, ...any), steps [][]string) error {
	for _, step := range steps {
		logf("%s", strings.Join(step, " "))
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "UCF_FORCE_CONFFOLD=1", "LC_ALL=C")
		// A package manager that is killed leaves its database locked or torn.
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(step, " "), err, lastLine(out))
		}
	}
	return nil
}

// refuseServices keeps Debian's packages from starting services: they ask the
// program at path, and 101 means no. One that is there already stays.
func refuseServices(path string) (undo func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	undo = func() { os.Remove(path) }
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	if err = errors.Join(err, f.Close()); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// refuseCluster keeps Debian's packages from making a cluster, which would
// take port 5432 and start with the machine. A file that is there already is
// its owner's and stays; one that we wrote goes again.
func refuseCluster(dir string) (undo func(), err error) {
	path := filepath.Join(dir, "createcluster.conf")
	if _, err := os.Stat(path); err == nil {
		return func() {}, nil
	}
	_, statErr := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	const text = "create_main_cluster = false\nstart_conf = manual\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return func() {
		if now, err := os.ReadFile(path); err == nil && string(now) == text {
			os.Remove(path)
			// Finding ours, the package laid its own beside it.
			_ = os.Rename(path+".ucf-dist", path)
		}
		if statErr != nil {
			os.Remove(dir) // fails, as it should, once the package filled it
		}
	}, nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
