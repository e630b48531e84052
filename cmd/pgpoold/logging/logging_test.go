package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer that two goroutines may use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSuffix(b.b.String(), "\n"), "\n")
}

// open makes a JSON logger whose windows end only when the test says so.
func open(t *testing.T, level string) (*Logger, *buffer) {
	t.Helper()
	out := &buffer{}
	l, err := New(Options{Level: level, Format: "json", Out: out, JoinWindow: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, out
}

func messages(t *testing.T, out *buffer) []string {
	t.Helper()
	var got []string
	for _, ln := range out.lines() {
		if ln == "" {
			continue
		}
		var m struct{ Msg string }
		if err := json.Unmarshal([]byte(ln), &m); err != nil {
			t.Fatalf("not JSON: %q", ln)
		}
		got = append(got, m.Msg)
	}
	return got
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("lines\n got %q\nwant %q", got, want)
	}
}

func TestRepeatsAreJoinedWithACount(t *testing.T) {
	l, out := open(t, "info")
	for range 4 {
		l.Info("dial failed", zap.String("database", "a"))
	}
	l.Info("dial failed", zap.String("database", "b"))
	l.With(zap.Int("id", 1)).Info("dial failed", zap.String("database", "a"))
	equal(t, messages(t, out), "dial failed", "dial failed", "dial failed")
	l.Close()
	equal(t, messages(t, out), "dial failed", "dial failed", "dial failed", "dial failed (repeated 3 times)")
	if last := out.lines()[3]; !strings.Contains(last, `"database":"a"`) {
		t.Fatalf("the summary lost the line's fields: %s", last)
	}
}

func TestEventsOfOneMessageAreAllWritten(t *testing.T) {
	l, out := open(t, "info")
	for i := range 3 * burstPerID {
		l.Info("session ended", zap.Int("id", i))
	}
	l.Close()
	if got := len(messages(t, out)); got != 3*burstPerID {
		t.Fatalf("%d lines for %d sessions", got, 3*burstPerID)
	}
}

func TestAFloodOfOneWarningIsBounded(t *testing.T) {
	l, out := open(t, "info")
	for i := range burstPerID + 30 {
		l.Warn("login took too long", zap.Int("port", i))
	}
	l.Close()
	got := messages(t, out)
	if len(got) != burstPerID+1 || got[burstPerID] != "login took too long (and 30 more like it)" {
		t.Fatalf("%d lines, the last is %q", len(got), got[len(got)-1])
	}
}

func TestALineThatKeepsComingGivesOneSummaryPerWindow(t *testing.T) {
	l, out := open(t, "info")
	start := time.Now()
	l.Info("x")
	l.Info("x")
	l.join.flush(start.Add(2 * time.Hour))
	l.Info("x")
	l.Info("x")
	l.join.flush(start.Add(4 * time.Hour))
	l.join.flush(start.Add(6 * time.Hour)) // nothing came: forgotten
	l.Info("x")
	equal(t, messages(t, out), "x", "x (repeated once more)", "x (repeated 2 times)", "x")
}

func TestTheMemoryOfLinesIsBounded(t *testing.T) {
	l, out := open(t, "info")
	for i := range maxJoined + 10 {
		l.Info(fmt.Sprint("line ", i))
	}
	if n := len(l.join.lines); n != maxJoined {
		t.Fatalf("%d lines remembered", n)
	}
	if n := len(messages(t, out)); n != maxJoined+10 {
		t.Fatalf("%d lines written", n)
	}
}

func TestTheLevelChangesWhileItRuns(t *testing.T) {
	l, out := open(t, "warn")
	l.Info("one")
	if err := l.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	l.Debug("two")
	if err := l.SetLevel("loud"); err == nil {
		t.Fatal("an unknown level was taken")
	}
	if l.Level() != "debug" {
		t.Fatalf("level %s", l.Level())
	}
	if err := l.SetLevel("error"); err != nil {
		t.Fatal(err)
	}
	l.Warn("three")
	l.Announce("ready")
	l.Announce("ready")
	equal(t, messages(t, out), "two", "ready", "ready")
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct{ level, format, wrong string }{
		{"info", "console", ""},
		{"", "", ""},
		{"chatty", "json", "log.level"},
		{"info", "xml", "log.format"},
	} {
		out := &buffer{}
		l, err := New(Options{Level: tt.level, Format: tt.format, Out: out})
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%+v: error %v", tt, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l.Info("hello", zap.String("k", "v"))
		l.Close()
		l.Info("after the end")
		if got := out.lines(); len(got) != 2 || !strings.Contains(got[0], "INFO\thello\t") {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
