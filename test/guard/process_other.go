//go:build !linux

package guard

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setParentDeathSignal does nothing here: the watching half ends the children.
func setParentDeathSignal(*syscall.SysProcAttr) {}

// birth identifies a process beyond its number by the time it started. It is
// empty for a process that does not exist.
func birth(pid int) string {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
