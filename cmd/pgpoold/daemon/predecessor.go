package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"go.uber.org/zap"

	"pgpoold/cmd/pgpoold/upgrade"
	"pgpoold/proxy"
)

// Predecessor is the process that this one is to take over from.
type Predecessor struct {
	ch    *upgrade.Channel
	hello upgrade.Hello
	gates []*gate // of its sockets, until they are taken

	lost  chan struct{} // closed when nothing more comes of it
	ended chan struct{} // closed when receive has ended

	talk
	offers map[uint64]*proxy.Adopted // owned by receive
}

// MeetPredecessor opens the channel to it; descriptor is what EnvUpgrade says.
func MeetPredecessor(descriptor string) (*Predecessor, error) {
	var fd int
	if _, err := fmt.Sscan(descriptor, &fd); err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q and no descriptor", EnvUpgrade, descriptor)
	}
	ch, err := upgrade.Open(os.NewFile(uintptr(fd), "upgrade"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", EnvUpgrade, err)
	}
	p := &Predecessor{ch: ch, lost: make(chan struct{}), ended: make(chan struct{}), offers: map[uint64]*proxy.Adopted{}}
	if err := p.meet(); err != nil {
		p.Refuse(err)
		return nil, err
	}
	return p, nil
}

// Refuse tells the predecessor why this process does not take over.
func (p *Predecessor) Refuse(why error) {
	_ = p.ch.Send(upgrade.KindRefused, &upgrade.Refused{Reason: why.Error()})
	for _, g := range p.gates {
		g.Leave()
	}
	p.ch.Close()
}

// meet hears the predecessor's hello.
func (p *Predecessor) meet() error {
	m, err := p.ch.Receive()
	if err != nil {
		return fmt.Errorf("the process to take over from says nothing: %w", err)
	}
	defer m.CloseFiles()
	if m.Kind != upgrade.KindHello {
		return fmt.Errorf("the process to take over from begins with a message of kind %d", m.Kind)
	}
	if err := m.Decode(&p.hello); err != nil {
		return err
	}
	if p.hello.Protocol != upgrade.Protocol {
		return fmt.Errorf("this version takes over with protocol %d and the running one hands over with %d: stop it and start this one", upgrade.Protocol, p.hello.Protocol)
	}
	if len(m.Files) != len(p.hello.Listeners) {
		return fmt.Errorf("%d sockets came, %d were meant to", len(m.Files), len(p.hello.Listeners))
	}
	for i, of := range p.hello.Listeners {
		l, err := net.FileListener(m.Files[i])
		if err != nil {
			return fmt.Errorf("the socket of %s: %w", of.Address, err)
		}
		g := newGate(l, of.Network, of.Address, of.Admin)
		g.unlink = of.Unlink
		g.keepFile(true) // until this process serves
		p.gates = append(p.gates, g)
	}
	return nil
}

// socket takes out the socket of an address, nil if there is none.
func (p *Predecessor) socket(network, address string, admin bool) *gate {
	for i, g := range p.gates {
		if g.admin == admin && g.configured == [2]string{network, address} {
			p.gates = append(p.gates[:i], p.gates[i+1:]...)
			return g
		}
	}
	return nil
}

// awaitTake tells the predecessor that this process is ready, and waits until
// it is to serve. A signal that asks for an end ends it.
func (p *Predecessor) awaitTake(d *Daemon, signals <-chan os.Signal) (*upgrade.Take, error) {
	err := p.ch.Send(upgrade.KindReady, &upgrade.Ready{Protocol: upgrade.Protocol, PID: os.Getpid(), Version: d.opts.Version})
	if err != nil {
		return nil, fmt.Errorf("the process to take over from cannot be told: %w", err)
	}
	came := make(chan *upgrade.Message, 1)
	failed := make(chan error, 1)
	go p.hearTake(came, failed)
	for {
		select {
		case m := <-came:
			var t upgrade.Take
			if err := m.Decode(&t); err != nil {
				return nil, err
			}
			return &t, nil
		case err := <-failed:
			return nil, err
		case sig := <-signals:
			if endsProcess(sig) {
				p.ch.Close()
				return nil, fmt.Errorf("%v came before this process took over", sig)
			}
		}
	}
}

// hearTake waits for one message. It ends with the channel.
func (p *Predecessor) hearTake(came chan<- *upgrade.Message, failed chan<- error) {
	m, err := p.ch.Receive()
	switch {
	case errors.Is(err, io.EOF):
		failed <- errors.New("the process to take over from has ended, or goes on")
	case err != nil:
		failed <- err
	case m.Kind != upgrade.KindTake:
		m.CloseFiles()
		failed <- fmt.Errorf("a message of kind %d came where everything was to be taken", m.Kind)
	default:
		m.CloseFiles()
		came <- m
	}
}

// receive hears what the predecessor still has, and takes its sessions, until
// its end. Shutdown joins it.
func (p *Predecessor) receive(d *Daemon) {
	defer close(p.ended)
	p.helpers.Go(func() { p.tellLack(d) })
	bye := false
	for !bye {
		m, err := p.ch.Receive()
		if err == nil {
			bye, err = p.heard(d, m)
			m.CloseFiles()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				d.log.Warn("upgrade: the predecessor cannot be understood", zap.Error(err))
			}
			break
		}
	}
	close(p.lost)
	for _, a := range p.offers {
		a.Keep()
	}
	d.server.SetPeer(nil)
	d.server.SetElsewhere(nil)
	if bye {
		d.log.Info("upgrade: the predecessor has left", zap.Int("predecessor", p.hello.PID))
	} else {
		d.log.Warn("upgrade: the predecessor has ended", zap.Int("predecessor", p.hello.PID))
	}
	p.ch.Close()
	p.helpers.Wait()
	d.predecessor.CompareAndSwap(p, nil)
}

func (p *Predecessor) heard(d *Daemon, m *upgrade.Message) (bye bool, err error) {
	switch m.Kind {
	case upgrade.KindBye:
		return true, nil
	case upgrade.KindReport:
		var r upgrade.Report
		if err := m.Decode(&r); err != nil {
			return false, err
		}
		if r.Legacy != nil {
			d.server.SetLegacy(r.Legacy)
		} else {
			d.server.SetElsewhere(r.Held)
		}
		return false, nil
	case upgrade.KindWant:
		var want upgrade.Pool
		if err := m.Decode(&want); err != nil {
			return false, err
		}
		d.server.Lend(want.Key, func() { _ = p.ch.Send(upgrade.KindGrant, &want) })
		return false, nil
	case upgrade.KindSession:
		var s upgrade.Session
		if err := m.Decode(&s); err != nil {
			return false, err
		}
		a := upgrade.Answer{Number: s.Number}
		if adopted, err := adopt(d, &s, m); err != nil {
			a.Refused = err.Error()
		} else {
			p.offers[s.Number] = adopted
		}
		_ = p.ch.Send(upgrade.KindAnswer, &a) // what it has said before it ended is still to be read
		return false, nil
	case upgrade.KindGo, upgrade.KindKeep:
		var n upgrade.Number
		if err := m.Decode(&n); err != nil {
			return false, err
		}
		if adopted := p.offers[n.Number]; adopted != nil {
			delete(p.offers, n.Number)
			if m.Kind == upgrade.KindGo {
				adopted.Begin()
			} else {
				adopted.Keep()
			}
		}
		return false, nil
	}
	return false, heardCancel(&p.talk, m, p.ch, d.server)
}

// lackInterval is how often a successor looks whether its clients wait for what
// the predecessor has.
const lackInterval = 20 * time.Millisecond

// tellLack tells the predecessor so. receive joins it.
func (p *Predecessor) tellLack(d *Daemon) {
	t := time.NewTicker(lackInterval)
	defer t.Stop()
	told := 0
	for {
		select {
		case <-p.lost:
			return
		case <-t.C:
		}
		if lacks := d.server.StarvedHere(); len(lacks) > 0 || told > 0 {
			told = len(lacks)
			if p.ch.Send(upgrade.KindLack, &upgrade.Report{Held: lacks}) != nil {
				return
			}
		}
	}
}

// adopt takes a session that is offered.
func adopt(d *Daemon, s *upgrade.Session, m *upgrade.Message) (*proxy.Adopted, error) {
	if len(m.Files) != 1 {
		return nil, errors.New("its socket did not come")
	}
	nc, err := net.FileConn(m.Files[0])
	if err != nil {
		return nil, err
	}
	return d.server.Adopt(&s.Moved, nc)
}

// Cancel implements proxy.Peer.
func (p *Predecessor) Cancel(ctx context.Context, pid uint32, secret []byte) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerPatience)
	defer cancel()
	p.cancelThere(ctx, p.ch, p.lost, pid, secret)
}
