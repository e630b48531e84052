package guard

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a running child of a Guard.
type Process struct {
	g    *Guard
	cmd  *exec.Cmd
	done chan struct{} // closed by run after the child was waited for
	err  error         // written by run before done is closed
}

// Start starts cmd in a process group of its own, so that a signal typed at a
// terminal reaches only the program, which then decides. The standard streams
// should be files or left nil: anything else makes the end of the process
// wait for whoever inherited them.
func (g *Guard) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	setParentDeathSignal(cmd.SysProcAttr)
	p := &Process{g: g, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run is the goroutine of one process: it starts the child, waits for it and
// ends with it. It keeps its thread, because the kernel's parent-death signal
// is sent when the thread that started the child ends.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.g.mu.Lock()
	err := errors.New("guard: closed")
	if p.g.pipe != nil {
		err = p.cmd.Start()
	}
	if err == nil {
		p.g.running[p] = struct{}{}
		err = p.g.note('+', p.cmd.Process.Pid)
		if err != nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
			delete(p.g.running, p)
		}
	}
	p.g.mu.Unlock()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	p.g.mu.Lock()
	delete(p.g.running, p)
	if p.g.pipe != nil {
		// The watching half compares start times, so a lost note is harmless.
		_ = p.g.note('-', p.cmd.Process.Pid)
	}
	p.g.mu.Unlock()
	close(p.done)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is what exec.Cmd.Wait returned. It may be called once Done is closed.
func (p *Process) Err() error { return p.err }

// Signal sends a signal; a process that has ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// End sends sig and waits; where the process does not obey within patience,
// its whole group gets SIGKILL. Patience is the default where it is 0.
func (p *Process) End(sig syscall.Signal, patience time.Duration) {
	if patience == 0 {
		patience = endPatience
	}
	_ = p.Signal(sig)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}
