package backend

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// maxParallelDials bounds how many servers a pool dials at once.
const maxParallelDials = 8

// ErrWaitTimeout refuses a waiter that has waited for query_wait_timeout.
var ErrWaitTimeout = errors.New("query_wait_timeout")

// backoff says when a pool may dial again after failures.
type backoff struct {
	failures    int
	since       time.Time // of the first of these failures
	final       bool      // the last one: repeating it only makes things worse
	interrupted int       // of the failures in a row, those that were not the server's state
	until       time.Time
}

// maxInterrupted is how many connections in a row may be ended by an
// administrator while they log in, until that counts as a failure.
const maxInterrupted = 3

// interrupted reports whether an administrator has ended this one connection,
// as pg_terminate_backend does: the next may well succeed.
func interrupted(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57P01"
}

// first is the first pause after a failed dial; each further failure doubles it.
const firstBackoff = 100 * time.Millisecond

// fail notes a failed dial. final failures, which repeating only makes worse
// (a refused login), pause for the longest time at once.
func (b *backoff) fail(now time.Time, longest time.Duration, final bool) {
	if longest <= 0 {
		longest = firstBackoff
	}
	pause := longest
	if !final && b.failures < 16 {
		pause = min(longest, firstBackoff<<b.failures)
	}
	if b.failures == 0 {
		b.since = now
	}
	b.failures, b.final = b.failures+1, final
	jitter := time.Duration(rand.Int64N(int64(pause)/4 + 1))
	b.until = now.Add(pause - jitter)
}

// retryPause is how long a pool whose server has gone away waits, at most,
// until it tries again, while it is patient.
const retryPause = time.Second

// patientLocked reports whether those who want a server wait though none can
// be connected: one that was there a short while ago, for less than
// server_login_retry, is restarting or being replaced.
func (p *Pool) patientLocked(now time.Time) bool {
	return p.base != nil && p.retry.failures > 0 && !p.retry.final && now.Sub(p.retry.since) < p.limits.LoginRetry
}

// refuseLocked is the answer to somebody who would wait in vain: there is no
// server, and none may be dialled before the pause is over.
func (p *Pool) refuseLocked() error {
	if !p.patientLocked(time.Now()) && !p.paused && p.lastErr != nil && len(p.all) == 0 && p.dialling == 0 && time.Now().Before(p.retry.until) {
		return p.lastErr
	}
	return nil
}

// dialLocked starts as many dials as waiters and the minimum ask for and the
// limits allow.
func (p *Pool) dialLocked() {
	if p.closed || p.paused {
		return
	}
	want, waits := p.wantedLocked(time.Now())
	if want > 0 && p.opts.Shares != nil {
		want = p.opts.Shares.ask(p, want, waits)
	}
	for range want {
		p.dialOneLocked()
	}
}

// wantedLocked is how many dials waiters and the minimum ask for; waits says
// that it is not the minimum alone.
func (p *Pool) wantedLocked(now time.Time) (want int, waits bool) {
	least := p.minSize
	if p.base == nil {
		least = max(least, 1) // the first shows whether the server can be reached
	}
	room := min(p.roomLocked(now), maxParallelDials-p.dialling)
	if room <= 0 || p.waiting.n <= p.dialling && len(p.all)+p.dialling >= least {
		return 0, false // as after nearly every transaction
	}
	forWaiters := p.waiting.n - p.dialling - p.testedLocked(now)
	want = min(room, max(forWaiters, least-len(p.all)-p.dialling))
	if want <= 0 || now.Before(p.retry.until) {
		return 0, false
	}
	if p.base == nil || p.lastErr != nil {
		want = 1 // one attempt finds out whether it works
		if p.dialling > 0 {
			return 0, false
		}
	}
	return want, forWaiters > 0 || p.base == nil
}

// roomLocked is how many servers more the pool may have by its own size. The
// reserve is open while somebody has waited for reserve_pool_timeout.
func (p *Pool) roomLocked(now time.Time) int {
	room := p.size - p.placesLocked() - p.elsewhere
	if t := p.waiting.first; t != nil && p.limits.ReserveSize > 0 && p.limits.ReserveTimeout > 0 && now.Sub(t.Since) >= p.limits.ReserveTimeout {
		room += p.limits.ReserveSize
	}
	return room
}

// dialOneLocked starts one dial.
func (p *Pool) dialOneLocked() {
	p.dialling++
	p.pumps.Add(1)
	go p.dial(p.era)
}

// testedLocked is how many servers are being checked and will likely answer
// sooner than a new one could be dialled.
func (p *Pool) testedLocked(now time.Time) (n int) {
	if p.limits.CheckDelay <= 0 {
		return 0
	}
	for s := range p.all {
		if s.state == serverTested && now.Sub(s.idleSince) < checkPatience {
			n++
		}
	}
	return n
}

// dial connects one server and offers it to the pool. Started by dialLocked,
// joined by Wait; the connect timeout bounds it.
func (p *Pool) dial(era uint64) {
	defer p.pumps.Done()
	began := time.Now()
	res, err := p.puddle.Acquire(context.Background())
	took := time.Since(began)
	if err != nil {
		p.dialFailed(err)
	} else {
		p.dialSucceeded(res, era, took)
	}
	if p.cb.Dialled != nil && (err == nil || p.ctx.Err() == nil) {
		p.cb.Dialled(p, took, err)
	}
}

func (p *Pool) dialFailed(err error) {
	now := time.Now()
	var dial *DialError
	final := errors.As(err, &dial) && dial.Final
	var refused []*Ticket
	p.mu.Lock()
	p.dialling--
	p.dials++
	p.dialErrs++
	if p.opts.Shares != nil {
		p.opts.Shares.giveBack(p)
	}
	if interrupted(err) && p.retry.interrupted < maxInterrupted {
		p.retry.interrupted++
		p.dialLocked()
		p.mu.Unlock()
		return
	}
	p.lastErr = err
	p.retry.fail(now, p.limits.LoginRetry, final)
	if p.patientLocked(now) {
		if soon := now.Add(retryPause); p.retry.until.After(soon) {
			p.retry.until = soon
		}
	} else if len(p.all) == 0 && p.dialling == 0 && !p.paused {
		refused = p.waiting.takeAll()
	}
	p.mu.Unlock()
	for _, t := range refused {
		t.W.Refused(err)
	}
}

func (p *Pool) dialSucceeded(res *puddle.Resource[*Server], era uint64, took time.Duration) {
	s := res.Value()
	s.res = res
	s.Handler = p.cb.NewHandler(s)
	now := time.Now()
	p.mu.Lock()
	p.dialling--
	p.dials++
	p.lastErr = nil
	p.retry = backoff{}
	p.base = s
	p.all[s] = struct{}{}
	p.pumps.Add(1)
	p.connects.Observe(took)
	p.connectTime += took
	var t *Ticket
	if s.close = era != p.era; s.close { // it may have reached what is to be left
		s.why, s.marked = p.eraEnd, now
	}
	reason := p.unwantedLocked(s, now)
	if reason != "" {
		p.goneLocked(s)
	} else {
		t = p.offerLocked(s, now)
		p.dialLocked()
	}
	p.mu.Unlock()
	if reason != "" {
		s.Close(reason)
	}
	go s.run()
	if t != nil {
		t.W.Granted(s)
	}
}
