package guard

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// setParentDeathSignal asks the kernel to end the child with its parent.
func setParentDeathSignal(attr *syscall.SysProcAttr) {
	if attr.Pdeathsig == 0 {
		attr.Pdeathsig = syscall.SIGQUIT
	}
}

// birth identifies a process beyond its number: the clock tick it started at.
// It is empty for a process that does not exist or has ended.
func birth(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command's name is in parentheses and can hold anything; the fields
	// behind it are numbered from 3 in proc(5), and the start is number 22.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' {
		return ""
	}
	return string(fields[19])
}
