package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// events is go test -json of a run with one of everything.
const events = `
{"Action":"start","Package":"pgpoold/a"}
{"Action":"output","Package":"pgpoold/a","Test":"TestGood","Output":"=== RUN TestGood\n"}
{"Action":"pass","Package":"pgpoold/a","Test":"TestGood"}
{"Action":"output","Package":"pgpoold/a","Test":"TestBad","Output":"    a_test.go:7: broken in this way\n"}
{"Action":"fail","Package":"pgpoold/a","Test":"TestBad"}
{"Action":"output","Package":"pgpoold/a","Test":"TestLong","Output":"    a_test.go:9: fast mode\n"}
{"Action":"output","Package":"pgpoold/a","Test":"TestLong","Output":"--- SKIP: TestLong (0.00s)\n"}
{"Action":"skip","Package":"pgpoold/a","Test":"TestLong"}
{"Action":"output","Package":"pgpoold/a","Test":"TestTool/sub","Output":"    a_test.go:11: tool is not installed\n"}
{"Action":"skip","Package":"pgpoold/a","Test":"TestTool/sub"}
{"Action":"fail","Package":"pgpoold/a","Elapsed":1.5}
{"ImportPath":"pgpoold/b","Action":"build-output","Output":"b.go:1: no\n"}
{"Action":"output","Package":"pgpoold/b","Output":"FAIL pgpoold/b [build failed]\n"}
{"Action":"fail","Package":"pgpoold/b"}
{"Action":"skip","Package":"pgpoold/c"}
not json
`

func closing(t *testing.T, scope, skips string, fast, ci bool) (text string, ok bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "skips.txt")
	if err := os.WriteFile(path, []byte(skips), 0o600); err != nil {
		t.Fatal(err)
	}
	listed, err := readSkips(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	tl := newTally()
	if err := newCollector(&out, tl, scope).read(strings.NewReader(strings.TrimSpace(events) + "\n")); err != nil {
		t.Fatal(err)
	}
	ok = tl.close(&out, listed, fast, ci)
	return out.String(), ok
}

func TestClosingLines(t *testing.T) {
	const listed = "# may be missing\na TestTool/*: needs the tool\n"
	for _, tc := range []struct {
		name, scope, skips string
		fast, ci           bool
		last               string
		has, hasNot        []string
	}{
		{"full", "full", listed, false, true, "1 passed, 3 failed, 2 skipped",
			[]string{"broken in this way", "b.go:1: no", "skip  pgpoold/a TestLong: fast mode", "not json",
				"FAIL  pgpoold/a TestLong: skipped, and", "skip  pgpoold/a TestTool/sub: tool is not installed"},
			[]string{"TestTool/sub: skipped, and"}},
		{"a second run in fast scope", "fast", listed, false, true, "1 passed, 2 failed, 1 skipped",
			nil, []string{"TestLong: "}},
		{"fast mode", "brief", "", true, false, "1 passed, 2 failed, 2 skipped",
			[]string{"skip  1 tests that run in make test alone"}, []string{"skipped, and"}},
		{"unlisted", "fast", "", false, true, "1 passed, 3 failed, 1 skipped",
			[]string{"FAIL  pgpoold/a TestTool/sub: skipped, and"}, nil},
	} {
		text, ok := closing(t, tc.scope, tc.skips, tc.fast, tc.ci)
		if ok {
			t.Errorf("%s: failures, and the proof holds", tc.name)
		}
		if !strings.HasSuffix(text, "\n"+tc.last+"\n") {
			t.Errorf("%s: want the last line %q in\n%s", tc.name, tc.last, text)
		}
		for _, s := range tc.has {
			if !strings.Contains(text, s) {
				t.Errorf("%s: no %q in\n%s", tc.name, s, text)
			}
		}
		for _, s := range tc.hasNot {
			if strings.Contains(text, s) {
				t.Errorf("%s: %q in\n%s", tc.name, s, text)
			}
		}
	}
}

func TestReadSkipsWantsAReason(t *testing.T) {
	for _, line := range []string{"a TestX", "a TestX:", "a: reason", "a TestX Extra: reason"} {
		path := filepath.Join(t.TempDir(), "skips.txt")
		if err := os.WriteFile(path, []byte("# comment\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSkips(path); err == nil || !strings.Contains(err.Error(), ":2:") {
			t.Errorf("%q: got %v", line, err)
		}
	}
}

// TestInterruptEndsWhatWasStarted interrupts a program that waits for a child
// of its own and would leave it.
func TestInterruptEndsWhatWasStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `trap : INT; sh -c 'echo started; exec sleep 1000'; exit 1`)
	cmd.Stdout = w
	endGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	// End of file comes when the last process that holds the pipe has ended.
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted program counts as good")
	}
}

func TestSkippedTwiceCountsOnce(t *testing.T) {
	tl := newTally()
	for _, scope := range []string{"full", "fast"} {
		tl.skip(skip{"pgpoold/a", "TestX", "no tool", scope})
		tl.skip(skip{"pgpoold/a", "TestY", "fast mode", scope})
	}
	var out strings.Builder
	tl.close(&out, nil, false, false)
	// TestY was skipped for being long where long tests run: that one counts.
	if !strings.HasSuffix(out.String(), "0 passed, 0 failed, 2 skipped\n") {
		t.Errorf("got\n%s", out.String())
	}
}
