package proxy

import "time"

// When a session is parked: after a second without a word from its client, or at the
// clock's next look where many are awake, for what the runtime has needed for all of
// them at once it keeps.

const (
	crowd      = 256                  // more than so many awake are many
	parkAtOnce = 100                  // so many are asked to park in one go
	parkPause  = 2 * time.Millisecond // and between two goes others have their turn
	parkGoes   = 40                   // at most, in one look
)

// quiet is what the clock remembers of a session to know for how long its client has
// been quiet. Times are ticks. The zero value is that of one never looked at.
type quiet struct {
	heard    uint32 // bytes that have come from the client, modulo 2^32
	since    uint32 // when that was first seen; 0: never
	parked   uint32 // when the session was asked to park, if nothing has come since; 0: it was not
	restless bool   // the client came back soon when it was parked last, or asked to
	rested   bool   // nothing was under way at idle's last look, and there was a limit
	listed   bool   // the session is on the clock's list
}

// soon is when a client that is parked comes back so soon that it was not worth it.
const soon = 2 * ticksPerSecond

// hear notes how much has come by now.
func (q *quiet) hear(received uint64, tick uint32) {
	heard := uint32(received)
	if heard == q.heard && q.since != 0 {
		return
	}
	q.heard, q.since = heard, tick
	if q.parked != 0 {
		q.restless, q.parked = tick-q.parked < soon, 0
	}
}

// of is for how long nothing has come, or less.
func (q *quiet) of(tick uint32) time.Duration {
	return time.Duration(tick-q.since) * (time.Second / ticksPerSecond)
}

// idle reports whether the client has asked nothing for as long as the limit, 0 for none.
// Its time begins when nothing was under way any more, and there was a limit.
func (q *quiet) idle(received uint64, tick uint32, working bool, limit time.Duration) bool {
	if limit <= 0 {
		q.rested = false
		return false
	}
	q.hear(received, tick)
	if working || !q.rested {
		q.since = tick
	}
	q.rested = !working
	return q.of(tick) >= limit
}

// look is hear, and reports whether it is time to park the session. crowded says that
// many are awake.
func (q *quiet) look(received uint64, tick uint32, crowded bool) bool {
	q.hear(received, tick)
	return crowded && !q.restless && tick != q.since || q.of(tick) >= time.Second
}

// parkQuiet parks those of the sessions awake whose clients are quiet; crowded says that
// they are many. It is the clock's.
func (px *Server) parkQuiet(awake []*session, tick uint32, crowded bool) {
	if !crowded && tick%ticksPerSecond != 0 {
		return
	}
	asked := 0
	for i, s := range awake {
		breathe(i)
		if s.conn.Parked() || !s.quiet.look(s.received.Load(), tick, crowded) || !s.park() {
			continue
		}
		s.quiet.parked = tick
		if asked++; asked == parkGoes*parkAtOnce {
			return
		}
		if asked%parkAtOnce == 0 {
			select {
			case <-px.ctx.Done():
				return
			case <-time.After(parkPause):
			}
		}
	}
}

// ParkIdle parks all sessions that have nothing to do, as the clock does with
// those that are quiet. Tests use it.
func (px *Server) ParkIdle() {
	for _, s := range px.allSessions() {
		s.park()
	}
}

// park asks for the session to be parked if it has nothing to do. Anybody may
// call it.
func (s *session) park() bool {
	if s.link.Load() != nil || s.state.Load() == uint32(stateWaiting) || s.conn.Parked() {
		return false
	}
	return s.conn.Park()
}

// Resume implements stream.Parkable. px.sessions has counted the session all the
// while.
func (s *session) Resume() {
	s.px.clock.woke(s)
	s.px.workers.do(job{s: s})
}

// Quiet implements stream.Parkable. A session that is so gives back what it keeps
// for reuse.
func (s *session) Quiet() bool {
	s.in.Lock()
	defer s.in.Unlock()
	if s.link.Load() != nil || s.waiting || s.terminate || s.buf != nil || s.big != nil || s.pass > 0 || len(s.reply) > 0 || s.conn.Queued() {
		return false
	}
	s.unnamed.shrink()
	s.ticket = nil
	return true
}
