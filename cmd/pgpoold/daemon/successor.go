package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"pgpoold/cmd/pgpoold/upgrade"
	"pgpoold/proxy"
	"pgpoold/wire/stream"
)

// EnvUpgrade tells a process that it is to take over from another one, which
// is at the other end of this descriptor.
const EnvUpgrade = "PGPOOLD_UPGRADE_FD"

// answerPatience is how long the other process may take to answer what takes
// no time.
const answerPatience = 10 * time.Second

// successor is the process that is to take over, as the one sees it that
// started it.
type successor struct {
	d   *Daemon
	cmd *exec.Cmd
	id  int // its process id
	ch  *upgrade.Channel

	ready   chan upgrade.Ready // holds the answer
	refused chan string        // holds the reason
	serving chan struct{}      // closed when it serves
	lost    chan struct{}      // closed when nothing more comes of it
	ended   chan struct{}      // closed when receive has ended

	talk
	bye bool // it has said so; owned by receive, read when lost is closed
}

// talk keeps what is waited for in the other process.
type talk struct {
	mu      sync.Mutex
	last    uint64                         // guarded by mu
	answers map[uint64]chan upgrade.Answer // guarded by mu
	cancels map[uint64]chan struct{}       // guarded by mu
	helpers sync.WaitGroup                 // cancels of the other's
}

// startSuccessor starts the program again, and returns when it is ready to
// take over. Whatever ends before that leaves nothing behind.
func (d *Daemon) startSuccessor(ctx context.Context) (*successor, error) {
	ch, theirs, err := upgrade.Pair()
	if err != nil {
		return nil, err
	}
	argv := d.opts.Command
	cmd := exec.Command(d.opts.Executable, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env = successorEnv(os.Environ(), d.watchdogInterval() > 0)
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		ch.Close()
		return nil, err
	}
	s := &successor{d: d, cmd: cmd, id: cmd.Process.Pid, ch: ch, ready: make(chan upgrade.Ready, 1), refused: make(chan string, 1),
		serving: make(chan struct{}), lost: make(chan struct{}), ended: make(chan struct{})}
	go s.receive()
	d.log.Info("upgrade: a successor was started", zap.Int("successor", s.pid()), zap.String("program", d.opts.Executable))
	if err := s.greet(ctx); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

func (s *successor) pid() int { return s.id }

// successorEnv is the environment without what was meant for this process
// alone.
func successorEnv(environ []string, watchdog bool) []string {
	env := []string{EnvUpgrade + "=3"}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case EnvUpgrade, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID":
			continue
		case "WATCHDOG_USEC":
			if !watchdog {
				continue
			}
		}
		env = append(env, e)
	}
	return env
}

// greet says hello and waits for the answer.
func (s *successor) greet(ctx context.Context) error {
	d := s.d
	hello := upgrade.Hello{Protocol: upgrade.Protocol, PID: os.Getpid(), Version: d.opts.Version, Systemd: d.activated}
	hello.Ready, _ = d.server.Ready()
	for _, g := range d.gates {
		hello.Listeners = append(hello.Listeners, upgrade.Listener{Network: g.configured[0], Address: g.configured[1], Admin: g.admin, Unlink: g.unlink})
	}
	err := withDescriptors(d.gates, nil, func(fds []int) error {
		_ = s.ch.Send(upgrade.KindHello, &hello, fds...) // it fails where the successor has ended already: that is heard below
		return nil
	})
	if err != nil {
		return fmt.Errorf("the successor could not be given the sockets: %w", err)
	}
	select {
	case r := <-s.ready:
		d.log.Info("upgrade: the successor is ready", zap.Int("successor", s.pid()), zap.String("version", r.Version))
		return nil
	case why := <-s.refused:
		return errors.New("the successor refuses: " + why)
	case <-s.lost:
		select { // what it said last
		case why := <-s.refused:
			return errors.New("the successor refuses: " + why)
		default:
		}
		return errors.New("the successor ended before it was ready; its lines in the log say why")
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errors.New("the successor was not ready within upgrade_timeout")
		}
		return errors.New("it was given up")
	}
}

// take has the successor serve. Until it returns without an error this
// process has everything.
func (s *successor) take(t *upgrade.Take) error {
	if err := s.ch.Send(upgrade.KindTake, t); err != nil {
		return fmt.Errorf("the successor could not be given what there is: %w", err)
	}
	select {
	case <-s.serving:
		return nil
	case <-s.lost:
		return errors.New("the successor ended while it took over")
	case <-time.After(answerPatience):
		return errors.New("the successor does not serve")
	}
}

// receive hears the successor until its end. leave and kill join it.
func (s *successor) receive() {
	defer close(s.ended)
	defer close(s.lost)
	for {
		m, err := s.ch.Receive()
		if err != nil {
			return
		}
		m.CloseFiles() // it sends none
		if err := s.heard(m); err != nil {
			s.d.log.Warn("upgrade: the successor cannot be understood", zap.Error(err))
			return
		}
	}
}

func (s *successor) heard(m *upgrade.Message) error {
	switch m.Kind {
	case upgrade.KindReady:
		var r upgrade.Ready
		if err := m.Decode(&r); err != nil {
			return err
		}
		select {
		case s.ready <- r:
		default: // it has said so before
		}
	case upgrade.KindRefused:
		var r upgrade.Refused
		if err := m.Decode(&r); err != nil {
			return err
		}
		select {
		case s.refused <- r.Reason:
		default:
		}
	case upgrade.KindServing:
		select {
		case <-s.serving:
		default:
			close(s.serving)
		}
	case upgrade.KindAnswer:
		var a upgrade.Answer
		if err := m.Decode(&a); err != nil {
			return err
		}
		s.answered(a)
	case upgrade.KindGrant:
		var p upgrade.Pool
		if err := m.Decode(&p); err != nil {
			return err
		}
		s.d.server.Granted(p.Key)
	case upgrade.KindLack:
		var r upgrade.Report
		if err := m.Decode(&r); err != nil {
			return err
		}
		s.d.server.Starved(r.Held)
	case upgrade.KindBye:
		s.bye = true
	default:
		return heardCancel(&s.talk, m, s.ch, s.d.server)
	}
	return nil
}

// Move implements proxy.Successor.
func (s *successor) Move(m *proxy.Moved, conn *stream.Conn) error {
	number, answer := s.expectAnswer()
	defer s.forgetAnswer(number)
	var sent error
	err := conn.Control(func(fd uintptr) {
		sent = s.ch.Send(upgrade.KindSession, &upgrade.Session{Number: number, Moved: *m}, int(fd))
	})
	if err = errors.Join(err, sent); err != nil {
		return err
	}
	select {
	case a := <-answer:
		if a.Refused != "" {
			return errors.New(a.Refused)
		}
		return s.ch.Send(upgrade.KindGo, &upgrade.Number{Number: number})
	case <-s.lost:
		return proxy.ErrLost
	case <-time.After(answerPatience):
		if err := s.ch.Send(upgrade.KindKeep, &upgrade.Number{Number: number}); err != nil {
			return err
		}
		return errors.New("the successor does not answer")
	}
}

// Held implements proxy.Successor.
func (s *successor) Held(held []proxy.Held) {
	if err := s.ch.Send(upgrade.KindReport, &upgrade.Report{Held: held}); err != nil {
		s.d.log.Debug("upgrade: the successor could not be told what is kept", zap.Error(err))
	}
}

// Want implements proxy.Successor.
func (s *successor) Want(key proxy.PoolKey) { _ = s.ch.Send(upgrade.KindWant, &upgrade.Pool{Key: key}) }

// Lost implements proxy.Successor.
func (s *successor) Lost() <-chan struct{} { return s.lost }

// Cancel implements proxy.Peer.
func (s *successor) Cancel(ctx context.Context, pid uint32, secret []byte) {
	s.cancelThere(ctx, s.ch, s.lost, pid, secret)
}

// kill ends a successor that does not take over.
func (s *successor) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.ch.Close()
	<-s.ended
	s.helpers.Wait()
}

// leave ends the talk with a successor that has everything.
func (s *successor) leave() {
	_ = s.ch.Send(upgrade.KindBye, nil)
	s.ch.Close()
	<-s.ended
	s.helpers.Wait()
	_ = s.cmd.Process.Release()
}

func (t *talk) expectAnswer() (number uint64, answer <-chan upgrade.Answer) {
	c := make(chan upgrade.Answer, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers == nil {
		t.answers = map[uint64]chan upgrade.Answer{}
	}
	t.last++
	t.answers[t.last] = c
	return t.last, c
}

func (t *talk) forgetAnswer(number uint64) {
	t.mu.Lock()
	delete(t.answers, number)
	t.mu.Unlock()
}

func (t *talk) answered(a upgrade.Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.answers[a.Number]; c != nil {
		c <- a // holds one
		delete(t.answers, a.Number)
	}
}

// cancelThere passes a CancelRequest to the other process and waits until it
// has done with it.
func (t *talk) cancelThere(ctx context.Context, ch *upgrade.Channel, lost <-chan struct{}, pid uint32, secret []byte) {
	done := make(chan struct{})
	t.mu.Lock()
	if t.cancels == nil {
		t.cancels = map[uint64]chan struct{}{}
	}
	t.last++
	number := t.last
	t.cancels[number] = done
	t.mu.Unlock()
	if ch.Send(upgrade.KindCancel, &upgrade.Cancel{Number: number, PID: pid, Secret: secret}) == nil {
		select {
		case <-done:
		case <-lost:
		case <-ctx.Done():
		}
	}
	t.mu.Lock()
	delete(t.cancels, number)
	t.mu.Unlock()
}

// heardCancel is for what both processes may say.
func heardCancel(t *talk, m *upgrade.Message, ch *upgrade.Channel, server *proxy.Server) error {
	switch m.Kind {
	case upgrade.KindCancel:
		var c upgrade.Cancel
		if err := m.Decode(&c); err != nil {
			return err
		}
		t.helpers.Add(1)
		go t.cancelHere(c, ch, server)
	case upgrade.KindDone:
		var n upgrade.Number
		if err := m.Decode(&n); err != nil {
			return err
		}
		t.mu.Lock()
		if done := t.cancels[n.Number]; done != nil {
			close(done)
			delete(t.cancels, n.Number)
		}
		t.mu.Unlock()
	default:
		return fmt.Errorf("a message of the unknown kind %d", m.Kind)
	}
	return nil
}

// cancelHere does what a CancelRequest asks that has reached the other
// process. It is bounded by cancel_wait_timeout, and joined by helpers.
func (t *talk) cancelHere(c upgrade.Cancel, ch *upgrade.Channel, server *proxy.Server) {
	defer t.helpers.Done()
	server.CancelHere(c.PID, c.Secret)
	_ = ch.Send(upgrade.KindDone, &upgrade.Number{Number: c.Number})
}
