package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU is processor time that a process has used since it began. Total comes
// from the scheduler's nanosecond counters; the kernel divides it into user
// and system time by sampling, at the granularity of a clock tick.
type CPU struct {
	Total, User, System time.Duration
}

// Sub is the time used between an earlier reading and c.
func (c CPU) Sub(earlier CPU) CPU {
	return CPU{c.Total - earlier.Total, c.User - earlier.User, c.System - earlier.System}
}

// clockTick is USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// ReadCPU reads the processor time of all threads of a process.
func ReadCPU(pid int) (CPU, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return CPU{}, err
	}
	c, err := parseStat(raw)
	if err != nil {
		return CPU{}, err
	}
	sum, err := schedstatSum(pid)
	if err != nil {
		return CPU{}, err
	}
	// stat counts threads that have ended too, schedstat is finer.
	c.Total = max(c.User+c.System, sum)
	return c, nil
}

func parseStat(raw []byte) (CPU, error) {
	// The second field is the program's name in parentheses and may hold anything.
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return CPU{}, fmt.Errorf("stat without a program name: %q", raw)
	}
	fields := strings.Fields(string(raw[end+1:]))
	const utime, stime = 11, 12 // fields 14 and 15, counted from the third
	if len(fields) <= stime {
		return CPU{}, fmt.Errorf("stat with %d fields", len(fields)+2)
	}
	u, err := strconv.ParseInt(fields[utime], 10, 64)
	if err != nil {
		return CPU{}, err
	}
	s, err := strconv.ParseInt(fields[stime], 10, 64)
	if err != nil {
		return CPU{}, err
	}
	return CPU{User: time.Duration(u) * clockTick, System: time.Duration(s) * clockTick}, nil
}

func schedstatSum(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has just ended
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(raw), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// RSS is the resident memory of a process, in bytes.
func RSS(pid int) (int64, error) { return statusField(pid, "VmRSS:") }

// PeakRSS is the most resident memory that a process ever had, in bytes.
func PeakRSS(pid int) (int64, error) { return statusField(pid, "VmHWM:") }

func statusField(pid int, name string) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseStatus(string(raw), name)
}

func parseStatus(status, name string) (int64, error) {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		kb, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		if !ok {
			return 0, fmt.Errorf("%s in an unknown unit: %q", name, rest)
		}
		n, err := strconv.ParseInt(kb, 10, 64)
		return n * 1024, err
	}
	return 0, fmt.Errorf("no %s in the process's status", name)
}
