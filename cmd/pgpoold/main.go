// Command pgpoold is a transaction pooler for PostgreSQL.
//
//	pgpoold [--config FILE]        serve
//	pgpoold check [--config FILE]  validate the configuration
//	pgpoold health                 ask a running pgpoold whether it lives
//	pgpoold upgrade                have a running pgpoold hand over to a new process
//	pgpoold hash                   make a SCRAM verifier of a password
//	pgpoold version                say which version this is
//
// It exits with 0 when it ended as asked, with 1 when it failed, and with 2
// when the command line is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"pgpoold/cmd/pgpoold/daemon"
	"pgpoold/config"
)

// version is set when a release is built.
var version string

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `pgpoold is a transaction pooler for PostgreSQL.

Usage:
  pgpoold [--config FILE]                                serve, until SIGTERM
  pgpoold check [--config FILE] [--print] [--connect]    validate the configuration
  pgpoold health [--config FILE]                         exit 0 if a running pgpoold lives
  pgpoold upgrade [--config FILE] [PID]                  have a running pgpoold hand over to a new process
  pgpoold hash [--iterations N]                          make a SCRAM verifier of a password
  pgpoold version

Without --config the file is the one that PGPOOLD_CONFIG names; without that no
file is read, and SUPABASE_POSTGRES_DSN (or PGPOOLD_DSN) says which server.
`

// program is what a command needs of the process.
type program struct {
	stdin          *os.File
	stdout, stderr io.Writer
	environ        func(string) (string, bool)
	signals        chan os.Signal
}

// What idle clients cost is kept near what they hold: the steady path makes
// little garbage, so collecting early costs little. But a small heap would be
// collected after every few logins. So the collector is shown a larger one: of
// the ballast nothing is ever touched, and no memory stands behind it. GOGC
// overrides both.
const (
	gcPercent = 10
	ballast   = 32 << 20
)

func main() {
	var shown []byte
	if _, set := os.LookupEnv("GOGC"); !set {
		shown = make([]byte, ballast)
		debug.SetGCPercent(gcPercent)
	}
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.LookupEnv, signals: make(chan os.Signal, 4)}
	code := p.run(os.Args[1:])
	runtime.KeepAlive(shown)
	os.Exit(code)
}

// run does what the command line says and returns the exit code.
func (p *program) run(args []string) int {
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		switch args[0] {
		case "check":
			return p.check(args[1:])
		case "health":
			return p.health(args[1:])
		case "upgrade":
			return p.upgrade(args[1:])
		case "hash":
			return p.hash(args[1:])
		case "version":
			return p.version(args[1:])
		case "help":
			fmt.Fprint(p.stdout, usage)
			return exitOK
		}
		fmt.Fprintf(p.stderr, "pgpoold: unknown command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-version" || args[0] == "-V") {
		return p.version(nil)
	}
	return p.serve(args)
}

// flags makes a flag set with --config, which every command has.
func (p *program) flags(name string) (fs *flag.FlagSet, file *string) {
	fs = flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(p.stderr)
	fs.Usage = func() { fmt.Fprint(p.stderr, usage) }
	byEnv, _ := p.environ("PGPOOLD_CONFIG")
	return fs, fs.String("config", byEnv, "configuration file")
}

// parse reads the flags of a command, which has no other arguments. done says
// that the command ends here, with code.
func (p *program) parse(fs *flag.FlagSet, args []string) (code int, done bool) {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK, true
	case err != nil:
		return exitUsage, true
	case fs.NArg() > 0:
		fmt.Fprintf(p.stderr, "%s: unexpected argument %q\n\n%s", fs.Name(), fs.Arg(0), usage)
		return exitUsage, true
	}
	return exitOK, false
}

// serve is pgpoold without a command.
func (p *program) serve(args []string) int {
	fs, file := p.flags("pgpoold")
	if code, done := p.parse(fs, args); done {
		return code
	}
	var before *daemon.Predecessor
	if fd, _ := p.environ(daemon.EnvUpgrade); fd != "" {
		_ = os.Unsetenv(daemon.EnvUpgrade)
		var err error
		if before, err = daemon.MeetPredecessor(fd); err != nil {
			fmt.Fprintln(p.stderr, "pgpoold:", err)
			return exitFailed
		}
	}
	cfg, ok := p.load(*file)
	if !ok {
		if before != nil {
			before.Refuse(errors.New("the configuration has mistakes"))
		}
		return exitFailed
	}
	d, err := daemon.New(daemon.Options{Config: cfg, Version: versionText(), Log: p.stderr, Environ: p.environ,
		Executable: executable(), Command: os.Args, Predecessor: before})
	if err == nil {
		signal.Notify(p.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR2)
		defer signal.Stop(p.signals)
		err = d.Run(context.Background(), p.signals)
	}
	if err != nil {
		fmt.Fprintln(p.stderr, "pgpoold:", err)
		return exitFailed
	}
	return exitOK
}

// load reads the configuration, or says every mistake of it.
func (p *program) load(file string) (*config.Config, bool) {
	cfg, err := config.Load(file, p.environ)
	if err != nil {
		fmt.Fprintln(p.stderr, err)
		return nil, false
	}
	return cfg, true
}

func (p *program) version(args []string) int {
	fs := flag.NewFlagSet("pgpoold version", flag.ContinueOnError)
	fs.SetOutput(p.stderr)
	fs.Usage = func() { fmt.Fprint(p.stderr, usage) }
	if code, done := p.parse(fs, args); done {
		return code
	}
	fmt.Fprintf(p.stdout, "pgpoold %s (%s, %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}

// versionText is the release's version, or that of the source where it is
// known.
func versionText() string {
	if version != "" {
		return version
	}
	const unreleased = "0.1.0-dev"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unreleased
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return unreleased + "+" + s.Value[:12]
		}
	}
	return unreleased
}
