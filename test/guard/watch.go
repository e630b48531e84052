package guard

import (
	"bufio"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// init turns a process started by New into the watching half. It has to be an
// init function: the program is any test binary, whose main is not ours.
func init() {
	dir := os.Getenv(envDir)
	if dir == "" {
		return
	}
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		os.Exit(2)
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	endAll(listen(os.Stdin))
	if removeAll(dir) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// listen reads "+pid" and "-pid" lines until end of file and returns the
// processes that were left, each with the birth that identifies it.
func listen(r io.Reader) map[int]string {
	left := make(map[int]string)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if len(line) < 2 {
			continue
		}
		pid, err := strconv.Atoi(line[1:])
		if err != nil || pid <= 1 {
			continue
		}
		switch line[0] {
		case '+':
			left[pid] = birth(pid)
		case '-':
			delete(left, pid)
		}
	}
	return left
}

// endAll ends the processes: SIGQUIT, which PostgreSQL and pgpoold obey at
// once, and SIGKILL to the whole group where that did not help.
func endAll(left map[int]string) {
	alive := func() bool {
		for pid, born := range left {
			if born == "" || birth(pid) != born {
				delete(left, pid)
			}
		}
		return len(left) > 0
	}
	if !alive() {
		return
	}
	for pid := range left {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
	for end := time.Now().Add(endPatience); alive() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	for pid := range left {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}
