package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/measure/process"
)

// idlers are clients that have run a query and do nothing. They live in a
// process of their own, because three times so many need more descriptors than
// one may have.
type idlers struct {
	cmd  *exec.Cmd
	stay io.Closer // they leave when it is closed
}

// holdFlag makes this program hold idle clients: DSN and number are its
// arguments.
const holdFlag = "hold"

// hold connects the clients, says so, and keeps them until its input ends.
func hold(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("-%s takes a DSN and a number", holdFlag)
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	all := make([]*pgconn.PgConn, 0, n)
	defer func() {
		for _, c := range all {
			_ = c.Close(ctx)
		}
	}()
	for range n {
		c, err := pgconn.Connect(ctx, args[0])
		if err != nil {
			return err
		}
		all = append(all, c)
		if err := c.Exec(ctx, "SELECT 1").Close(); err != nil {
			return err
		}
	}
	fmt.Println("held")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// besideIdle connects the point's idle clients and tells what memory each takes.
func (r *runner) besideIdle(ctx context.Context, t *target, p point) (_ *idlers, note string, err error) {
	before, err := process.RSS(t.pid)
	if err != nil {
		return nil, "", err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	all := &idlers{cmd: exec.CommandContext(ctx, self, "-"+holdFlag, dsnOf(t, p, r.user, r.database), strconv.Itoa(p.Idle))}
	all.cmd.Stderr = os.Stderr
	out, err := all.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if all.stay, err = all.cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	if err := all.cmd.Start(); err != nil {
		return nil, "", err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		all.leave()
		return nil, "", fmt.Errorf("idle clients of %s: %q, %w", t.name, line, err)
	}
	after, err := process.RSS(t.pid)
	if err != nil {
		all.leave()
		return nil, "", err
	}
	return all, fmt.Sprintf("%s takes %.1f KiB of resident memory for each idle client when all have come", t.name, float64(after-before)/1024/float64(p.Idle)), nil
}

// leave ends them.
func (all *idlers) leave() {
	_ = all.stay.Close()
	_ = all.cmd.Wait()
}
