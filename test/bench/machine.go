package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machine is what the numbers depend on besides the programs.
type machine struct {
	CPU, Memory, Kernel, Load string
}

func describeMachine() machine {
	return machine{
		CPU:    fmt.Sprintf("%d x %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name")),
		Memory: gibibytes(field("/proc/meminfo", "MemTotal")),
		Kernel: firstFields("/proc/sys/kernel/osrelease", 1),
		Load:   firstFields("/proc/loadavg", 3),
	}
}

// field finds "name : value" in one of the kernel's files; "unknown" where it
// is not there.
func field(file, name string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// gibibytes turns "24682416 kB" into "23.5 GiB", and leaves other text alone.
func gibibytes(s string) string {
	var kb float64
	if _, err := fmt.Sscanf(s, "%f kB", &kb); err != nil {
		return s
	}
	return fmt.Sprintf("%.1f GiB", kb/(1<<20))
}

func firstFields(file string, n int) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(raw))
	return strings.Join(f[:min(n, len(f))], " ")
}

// versionLine is the first line of a program's version.
func versionLine(ctx context.Context, path string, args ...string) string {
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
