package process

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, in string
		user     time.Duration
		system   time.Duration
		bad      bool
	}{
		{name: "plain", in: "7 (a) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 5 0 1", user: 1500 * time.Millisecond, system: 250 * time.Millisecond},
		{name: "name with spaces and parentheses", in: "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 3 4 0 0 20", user: 30 * time.Millisecond, system: 40 * time.Millisecond},
		{name: "cut", in: "7 (a) S 1 2", bad: true},
		{name: "no name", in: "7 a S", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseStat([]byte(tt.in))
			if (err != nil) != tt.bad {
				t.Fatalf("err = %v, want one: %v", err, tt.bad)
			}
			if c.User != tt.user || c.System != tt.system {
				t.Errorf("got %v, want user %v, system %v", c, tt.user, tt.system)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	const status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"
	if n, err := parseStatus(status, "VmRSS:"); err != nil || n != 1<<20 {
		t.Errorf("VmRSS = %d, %v", n, err)
	}
	if n, err := parseStatus(status, "VmHWM:"); err != nil || n != 2<<20 {
		t.Errorf("VmHWM = %d, %v", n, err)
	}
	if _, err := parseStatus(status, "VmSwap:"); err == nil {
		t.Error("a missing field was found")
	}
}

// TestReadCPUGrows burns processor time until the reading shows it: a reading
// that missed this process's threads would never get there.
func TestReadCPUGrows(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("this system has no /proc/PID/schedstat")
	}
	before, err := ReadCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		now, err := ReadCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now.Sub(before).Total > 20*time.Millisecond {
			return
		}
	}
	t.Fatal("a minute of work did not show as 20 ms of processor time")
}
