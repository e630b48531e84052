package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
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

// What the profile for the compiler is recorded from: what most clients do.
const (
	pgoProtocols = "simple,extended,prepared,prepared/10,rows"
	pgoClients   = "8,64"
	pgoFile      = "cmd/pgpoold/default.pgo"
)

// profileAll profiles pgpoold at every point and merges that into pgoFile.
func (b *bench) profileAll(ctx context.Context, points []point) error {
	dir, err := os.MkdirTemp("", "pgpoold-pgo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	all := filepath.Join(dir, "all.prof")
	args := []string{"tool", "pprof", "-proto", "-output=" + all}
	for i, p := range points {
		file := filepath.Join(dir, strconv.Itoa(i)+".prof")
		if err := b.profile(ctx, p, file); err != nil {
			return err
		}
		args = append(args, file)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go tool pprof: %w\n%s", err, out)
	}
	profile, err := os.ReadFile(all)
	if err != nil {
		return err
	}
	if profile, err = withoutPaths(profile); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.root, pgoFile), profile, 0o644)
}

// withoutPaths takes the folders off the names of files in a profile: they are the
// machine's, and the compiler goes by the functions' names.
func withoutPaths(profile []byte) ([]byte, error) {
	const strings = 6 // Profile.string_table in pprof's profile.proto
	unzip, err := gzip.NewReader(bytes.NewReader(profile))
	if err != nil {
		return nil, err
	}
	in, err := io.ReadAll(unzip)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	for len(in) > 0 {
		number, kind, head := protowire.ConsumeTag(in)
		n := protowire.ConsumeFieldValue(number, kind, in[max(head, 0):])
		if head < 0 || n < 0 {
			return nil, errors.New("the profile is no protocol buffer")
		}
		field := in[:head+n]
		if number == strings && kind == protowire.BytesType {
			if value, _ := protowire.ConsumeBytes(in[head:]); len(value) > 0 && value[0] == '/' {
				field = protowire.AppendString(protowire.AppendTag(nil, number, kind), filepath.Base(string(value)))
			}
		}
		if _, err := zip.Write(field); err != nil {
			return nil, err
		}
		in = in[head+n:]
	}
	err = zip.Close()
	return out.Bytes(), err
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
