// Command run is what make run and make demo start: pgpoold on the user's
// database, or in front of a private PostgreSQL that lives as long as this
// program, with everything on the screen that a newcomer needs to try it.
//
// It ends on SIGINT, SIGTERM, SIGHUP and with its terminal, and leaves no
// process and no file; after SIGKILL the guard package does the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	demo := flag.Bool("demo", false, "start a private PostgreSQL even where a DSN is set")
	bin := flag.String("bin", "bin", "folder for the built program")
	flag.Parse()

	// A reader that goes away (make run | head) must not end the program
	// before it has cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)

	stop, done := make(chan struct{}), make(chan struct{})
	go watchTerminal(signals, stop, done)

	r := &runner{demo: *demo, bin: *bin, out: os.Stdout}
	err := r.run(signals)
	close(stop)
	<-done
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "make run:", err)
		os.Exit(1)
	}
}

// runner holds what the steps of one run share. It belongs to the goroutine
// of main; only out is also written by the one that copies pgpoold's output.
type runner struct {
	demo bool
	bin  string
	out  io.Writer
}

// say prints a line for the person at the terminal. A terminal that has gone
// is no reason to fail: what follows is cleaning up.
func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.out, format+"\n", args...)
}
