// Package process starts the programs that tests and benchmarks measure, under
// a guard that ends them with the program, and reads from /proc what they cost.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"pgpoold/test/guard"
)

// Options say what to run.
type Options struct {
	Path string
	Args []string
	Env  []string // in addition to this process's environment
	Log  *os.File // gets stdout and stderr; nil discards them
	// Credential is the user to run as; nil is this process's own.
	Credential *syscall.Credential
}

// Start runs a program that listens on addr, and returns once it does.
func Start(ctx context.Context, g *guard.Guard, o Options, addr string) (*guard.Process, error) {
	cmd := exec.Command(o.Path, o.Args...)
	cmd.Env = append(os.Environ(), o.Env...)
	if o.Log != nil {
		cmd.Stdout, cmd.Stderr = o.Log, o.Log
	}
	if o.Credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: o.Credential}
	}
	p, err := g.Start(cmd)
	if err != nil {
		return nil, err
	}
	if err := waitListening(ctx, p, addr); err != nil {
		p.End(syscall.SIGTERM, time.Second)
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	return p, nil
}

func waitListening(ctx context.Context, p *guard.Process, addr string) error {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("ended before it listened on %s: %w", addr, p.Err())
		case <-ctx.Done():
			return fmt.Errorf("does not listen on %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// FreePort asks the system for a TCP port that nobody uses on loopback.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Unprivileged is a user for programs that refuse to run as root; nil when
// this process is not root itself.
func Unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("running as root, and neither postgres nor nobody exists to run the program as")
}
