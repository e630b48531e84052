package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// profile runs pgbench through pgpoold at one point and takes a profile of the
// daemon's processor time meanwhile: from the admin port's /debug/pprof where
// it is served, else with perf.
func (b *bench) profile(ctx context.Context, p point, out string) (err error) {
	t, err := b.programs.start(ctx, namePgpoold, p)
	if err != nil {
		return err
	}
	defer t.stop()
	if err := b.runner.warm(ctx, t, p); err != nil {
		return err
	}
	type outcome struct {
		result result
		err    error
	}
	done := make(chan outcome, 1)
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		r, err := b.runner.measure(runCtx, t, p)
		done <- outcome{r, err}
	}()
	// The profile lies within the run: pgbench has connected before it begins.
	time.Sleep(b.runner.warmup)
	length := max(time.Second, b.runner.duration-2*b.runner.warmup)
	file, err := b.takeProfile(ctx, t, length, out)
	if err != nil {
		cancel()
		<-done
		return err
	}
	o := <-done
	if o.err != nil {
		return o.err
	}
	r := o.result
	fmt.Printf("%s: %.0f tps, p99 %.0f us, CPU %.1f us/transaction (%.0f %% user)\nprofile of %s in %s\n", p, r.TPS, r.P99, r.CPU, 100*r.UserShare, length, file)
	return nil
}

// errNoPprof: the admin port does not serve profiles.
var errNoPprof = errors.New("the admin port serves no /debug/pprof")

func (b *bench) takeProfile(ctx context.Context, t *target, length time.Duration, out string) (string, error) {
	file := out
	if file == "" {
		file = "cpu.prof"
	}
	err := fetchProfile(ctx, t.admin, length, file)
	if !errors.Is(err, errNoPprof) {
		return file, err
	}
	if out == "" {
		file = "perf.prof"
	}
	cmd := exec.CommandContext(ctx, "perf", "record", "-g", "-F", "997", "-o", file, "-p", strconv.Itoa(t.pid), "--", "sleep", strconv.FormatFloat(length.Seconds(), 'f', 1, 64))
	cmd.Stderr = os.Stderr
	if perfErr := cmd.Run(); perfErr != nil {
		return "", fmt.Errorf("%w, and perf record: %w", err, perfErr)
	}
	return file, nil
}

func fetchProfile(ctx context.Context, admin string, length time.Duration, file string) (err error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, int(length/time.Second))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoPprof, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errNoPprof, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
