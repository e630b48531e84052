// Command instructions counts the instructions that pgpoold takes for a
// transaction, and prints in which functions.
//
//	instructions               every transaction of test/canned, and a connection
//	instructions -top 40 simple
//
// The program runs in QEMU's user mode, between a client and a server that are
// not counted, with one thread and no collection. So the numbers hardly depend
// on the machine or on what else it does; they say nothing about the kernel, and of
// caches only how many lines of code a transaction comes by. QEMU gives its
// programs no vDSO: reading the clock is a system call,
// and two for time.Now. What is counted is the working tree's, built without a
// profile, or the binary that PGPOOLD names.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
)

func main() {
	top := flag.Int("top", 0, "show so many functions of each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := show(ctx, os.Stdout, *top, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// show counts the named transactions, or all, and prints a line for each.
func show(ctx context.Context, out io.Writer, top int, names []string) (err error) {
	c, err := startCounter(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if e := c.close(); err == nil {
			err = e
		}
	}()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "transaction\tinstructions\tcode lines\tclock\treads\twrites\tepoll_pwait\t\n")
	for _, t := range transactions() {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		least, err := c.least(ctx, &t)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", t.Name, least.instructions(), least.lines(),
			least.call(callClockGettime), least.call(reading...), least.call(writing...), least.call(callEpollPwait))
		if top > 0 {
			w.Flush()
			for _, f := range least.top(c.syms, top) {
				fmt.Fprintf(out, "%24.1f  %s\n", f.instructions, f.name)
			}
		}
	}
	return w.Flush()
}

// share is what a transaction spends in one function itself.
type share struct {
	name         string
	instructions float64
}

// top are the functions in which a transaction spends most.
func (p *perTransaction) top(syms *symbols, n int) []share {
	var all []share
	for i, count := range p.functions {
		if count > 0 {
			all = append(all, share{syms.names[i], float64(count) / float64(p.n)})
		}
	}
	slices.SortFunc(all, func(a, b share) int { return cmp.Compare(b.instructions, a.instructions) })
	return all[:min(n, len(all))]
}
