// Command mutants proves that the tests see what they are for. Each *.mutant
// file beside it brings one defect into the program: a rule of the design broken,
// or a mistake that another pooler has made. The tree is copied, the defect put
// in, and the test that the file names must fail.
//
//	go run ./test/mutants              all of them
//	go run ./test/mutants NAME...      those whose names contain one of these
//	go run ./test/mutants -trust ...   where the tests are known to pass as things are
//
// It prints a table, and fails for a mutant that lives, one that does not apply
// or does not build, and one whose test fails without it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	trust := flag.Bool("trust", false, "do not run the tests without the mutants first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, *trust, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

// run tries the chosen mutants in a copy of the tree.
func run(ctx context.Context, trust bool, chosen []string) (ok bool, err error) {
	all, err := load("test/mutants")
	if err != nil {
		return false, err
	}
	c, err := newCopy(ctx)
	if err != nil {
		return false, err
	}
	defer c.remove()
	lived := 0
	sound := map[target]string{} // what each test says of the tree as it is
	fmt.Printf("%-34s %-8s %s\n", "mutant", "", "test")
	for _, m := range all {
		if !m.among(chosen) {
			continue
		}
		begin := time.Now()
		if trust {
			sound[m.test] = ""
		}
		verdict, detail := c.try(ctx, m, sound)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		fmt.Printf("%-34s %-8s %s %s (%.0f s)\n", m.name, verdict, m.test.pkg, m.test.name, time.Since(begin).Seconds())
		if verdict != killed {
			lived++
			fmt.Printf("    %s\n%s", m.about, indent(detail))
		}
	}
	if lived > 0 {
		fmt.Printf("%d mutants were not killed by their test\n", lived)
	}
	return lived == 0, nil
}

// indent shifts the last lines of a text to the right.
func indent(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	const most = 25
	lines = lines[max(0, len(lines)-most):]
	return "        " + strings.Join(lines, "\n        ") + "\n"
}
