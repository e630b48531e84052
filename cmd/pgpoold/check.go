package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"pgpoold/cmd/pgpoold/daemon"
	"pgpoold/config"
)

// check validates the configuration: a mistake per line on standard output,
// and exit code 1 if there is one.
func (p *program) check(args []string) int {
	fs, file := p.flags("pgpoold check")
	show := fs.Bool("print", false, "write the effective settings, without secrets")
	connect := fs.Bool("connect", false, "log in to each server")
	if code, done := p.parse(fs, args); done {
		return code
	}
	cfg, err := config.Load(*file, p.environ)
	if err != nil {
		var mistakes config.Mistakes
		if !errors.As(err, &mistakes) {
			fmt.Fprintln(p.stdout, err)
			return exitFailed
		}
		for _, m := range mistakes {
			fmt.Fprintln(p.stdout, m)
		}
		return exitFailed
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(p.stderr, "warning:", w)
	}
	if *show {
		if err := cfg.Print(p.stdout); err != nil {
			fmt.Fprintln(p.stderr, "pgpoold check:", err)
			return exitFailed
		}
	}
	if *connect {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if !daemon.CheckServers(ctx, cfg, p.stdout) {
			return exitFailed
		}
	}
	if !*show && !*connect {
		fmt.Fprintln(p.stdout, "ok")
	}
	return exitOK
}
