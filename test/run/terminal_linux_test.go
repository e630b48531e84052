package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal: what a person looks at, and what a program
// gets.
func openTerminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		screen.Close()
		t.Skip("no terminals here: ", err)
	}
	return screen, program
}

// TestClosedTerminal closes the terminal of a leading process that does not
// end by that, as make does not.
func TestClosedTerminal(t *testing.T) {
	s := prepareRun(t, nil, "-demo")
	line := s.cmd.Path + " " + strings.Join(s.cmd.Args[1:], " ")
	leader := exec.Command("/bin/sh", "-c", `trap "" HUP; `+line+`; exit $?`)
	leader.Dir, leader.Env = s.cmd.Dir, s.cmd.Env
	screen, program := openTerminal(t)
	leader.Stdin, leader.Stdout, leader.Stderr = program, program, program
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.cmd = leader
	s.start(screen, program)
	s.awaitLine(psqlLine)
	s.awaitLine("Ctrl-C ends it")
	family := s.family()
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	s.out.Reset(io.LimitReader(nil, 0))
	s.endedInOrder(family)
}

func TestHungUp(t *testing.T) {
	screen, program := openTerminal(t)
	defer program.Close()
	if hungUp(int(program.Fd())) {
		t.Error("an open terminal counts as closed")
	}
	if _, err := screen.WriteString("typed\n"); err != nil {
		t.Fatal(err)
	}
	if hungUp(int(program.Fd())) {
		t.Error("a terminal with input counts as closed")
	}
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	if !hungUp(int(program.Fd())) {
		t.Error("a closed terminal counts as open")
	}
}
