package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"pgpoold/wire/scram"
)

// hash makes the SCRAM verifier that auth.users takes in a password's place.
func (p *program) hash(args []string) int {
	fs, _ := p.flags("pgpoold hash")
	iterations := fs.Int("iterations", 4096, "SCRAM iterations")
	if code, done := p.parse(fs, args); done {
		return code
	}
	if *iterations < 1 || *iterations > 1_000_000 {
		fmt.Fprintln(p.stderr, "pgpoold hash: --iterations is a number from 1 to 1000000")
		return exitUsage
	}
	password, err := p.readPassword()
	if err != nil {
		fmt.Fprintln(p.stderr, "pgpoold hash:", err)
		return exitFailed
	}
	verifier, err := scram.HashPassword(password, *iterations)
	if err != nil {
		fmt.Fprintln(p.stderr, "pgpoold hash:", err)
		return exitFailed
	}
	fmt.Fprintln(p.stdout, verifier)
	return exitOK
}

// readPassword asks for a password, twice and unseen, on a terminal, or reads
// the first line of what is not one.
func (p *program) readPassword() (string, error) {
	if !term.IsTerminal(int(p.stdin.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(p.stdin, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return notEmpty(strings.TrimRight(line, "\r\n"))
	}
	first, err := p.ask("Password: ", p.stdin)
	if err != nil {
		return "", err
	}
	again, err := p.ask("Again: ", p.stdin)
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two passwords differ")
	}
	return notEmpty(first)
}

func (p *program) ask(prompt string, tty *os.File) (string, error) {
	fmt.Fprint(p.stderr, prompt)
	defer fmt.Fprintln(p.stderr)
	password, err := term.ReadPassword(int(tty.Fd()))
	return string(password), err
}

func notEmpty(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	return password, nil
}
