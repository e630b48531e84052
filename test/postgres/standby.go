package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Standby makes a standby that follows c by streaming replication, from a
// copy of its data while it is halted for a moment.
func (c *Cluster) Standby(ctx context.Context) (*Cluster, error) {
	in, dir, _, err := c.s.prepare(ctx, &c.in)
	if err != nil {
		return nil, err
	}
	standby := &Cluster{s: c.s, cfg: c.cfg, in: in, dir: dir, base: c.base}
	c.Halt(Fast)
	err = copyTree(c.DataDir(), standby.DataDir(), c.s.user)
	if err := errors.Join(err, c.Resume(ctx)); err != nil {
		return nil, err
	}
	if err := c.s.user.mkdir(standby.SocketDir(), 0o755); err != nil {
		return nil, err
	}
	follow := fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=%s'\n", c.Host(), c.port, Superuser)
	for name, text := range map[string]string{"standby.signal": "", "postgresql.auto.conf": follow} {
		if err := c.s.user.write(filepath.Join(standby.DataDir(), name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for try := 0; ; try++ {
		if standby.port, err = freePort(); err != nil {
			break
		}
		if err = standby.launch(ctx); !errors.Is(err, errPortTaken) || try == 9 {
			break
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start the standby: %w", err)
	}
	return standby, nil
}
