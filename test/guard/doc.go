// Package guard runs child processes and a temporary directory that do not
// outlive the program that asked for them, however that program ends.
//
// A Guard owns one directory and the processes started through it. Close ends
// the processes and removes the directory. Where Close is never reached
// (SIGKILL, a crash, os.Exit in a test) a second process does the same: the
// program's own binary, started again with an environment variable that this
// package's init function looks for, reading a pipe whose other end only the
// program holds. It lists what is to be ended, and end of file says when. On
// Linux each child also asks the kernel for a signal at its parent's death.
package guard
