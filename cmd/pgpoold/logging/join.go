package logging

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

// Limits of the joiner. A warning that comes with ever changing fields is as
// much a repetition as one that is equal to the byte, so warnings and errors
// are bounded by message too; lines below that are events of their own and are
// joined only when equal.
const (
	maxJoined  = 1024 // distinct lines remembered; more are written as they come
	burstPerID = 20   // warnings of one message per window, fields apart
)

// joiner counts lines that were already written in the current window. Its
// mutex guards every field below it; cores made by wrap share it.
type joiner struct {
	window time.Duration
	stop   chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	closed  bool
	lines   map[string]*line
	scratch zapcore.Encoder // turns a line into its key; has no time in it
}

// line is one line that was written and may come again.
type line struct {
	core    zapcore.Core // writes the summary, with the fields of With
	entry   zapcore.Entry
	fields  []zapcore.Field
	since   time.Time
	written int // by messages only: how many were let through
	repeats int
	similar bool // counts lines of one message, whatever their fields
}

func newJoiner(window time.Duration) *joiner {
	return &joiner{
		window: window,
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		lines:  make(map[string]*line),
		scratch: zapcore.NewJSONEncoder(zapcore.EncoderConfig{
			MessageKey:     "m",
			LevelKey:       "l",
			NameKey:        "n",
			EncodeLevel:    zapcore.LowercaseLevelEncoder,
			EncodeDuration: zapcore.NanosDurationEncoder,
			EncodeTime:     zapcore.EpochNanosTimeEncoder,
			EncodeName:     zapcore.FullNameEncoder,
		}),
	}
}

func (j *joiner) start() { go j.report() }

// report writes the summaries of windows that ended, until close.
func (j *joiner) report() {
	defer close(j.done)
	tick := time.NewTicker(j.window / 2)
	defer tick.Stop()
	for {
		select {
		case <-j.stop:
			return
		case now := <-tick.C:
			j.flush(now)
		}
	}
}

func (j *joiner) close() {
	j.mu.Lock()
	already := j.closed
	j.closed = true
	j.mu.Unlock()
	if already {
		return
	}
	close(j.stop)
	<-j.done
	j.flush(time.Time{})
}

// flush ends the windows that began a window before now; all of them when now
// is zero. A line that keeps coming starts its next window counting.
func (j *joiner) flush(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, ln := range j.lines {
		if !now.IsZero() && now.Sub(ln.since) < j.window {
			continue
		}
		if ln.repeats == 0 {
			delete(j.lines, key)
			continue
		}
		ln.summarise(now)
		ln.since, ln.repeats, ln.written = now, 0, 0
	}
}

// summarise writes what was only counted.
func (ln *line) summarise(now time.Time) {
	ent, fields := ln.entry, ln.fields
	if ln.similar {
		ent.Message = fmt.Sprintf("%s (and %d more like it)", ent.Message, ln.repeats)
		fields = nil
	} else {
		ent.Message = fmt.Sprintf("%s (repeated %s)", ent.Message, times(ln.repeats))
	}
	if now.IsZero() {
		now = time.Now()
	}
	ent.Time = now
	_ = ln.core.Write(ent, fields) // the log is where a failing log would be told
}

func times(n int) string {
	if n == 1 {
		return "once more"
	}
	return fmt.Sprintf("%d times", n)
}

// admit says whether the line is to be written now; if not it was counted.
func (j *joiner) admit(core zapcore.Core, with []zapcore.Field, ent zapcore.Entry, fields []zapcore.Field) bool {
	ent.Caller, ent.Stack = zapcore.EntryCaller{}, ""
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return true
	}
	enc := j.scratch.Clone()
	for _, f := range with {
		f.AddTo(enc)
	}
	buf, err := enc.EncodeEntry(ent, fields)
	if err != nil {
		return true
	}
	key := buf.String()
	buf.Free()

	if ln := j.lines[key]; ln != nil {
		ln.repeats++
		return false
	}
	if ent.Level >= zapcore.WarnLevel {
		id := ent.Level.String() + "\x00" + ent.LoggerName + "\x00" + ent.Message
		ln := j.remember(id, core, ent, nil)
		if ln != nil {
			ln.similar = true
			if ln.written++; ln.written > burstPerID {
				ln.repeats++
				return false
			}
		}
	}
	j.remember(key, core, ent, fields)
	return true
}

// remember finds the line by its key, or adds it while there is room.
func (j *joiner) remember(key string, core zapcore.Core, ent zapcore.Entry, fields []zapcore.Field) *line {
	if ln := j.lines[key]; ln != nil {
		return ln
	}
	if len(j.lines) >= maxJoined {
		return nil
	}
	ln := &line{core: core, entry: ent, fields: fields, since: ent.Time}
	j.lines[key] = ln
	return ln
}

// joinCore is a zapcore.Core in front of another one that lets the joiner
// decide what is written.
type joinCore struct {
	zapcore.Core
	join *joiner
	with []zapcore.Field // the fields of With, for the key
}

func (j *joiner) wrap(next zapcore.Core) zapcore.Core { return &joinCore{Core: next, join: j} }

func (c *joinCore) With(fields []zapcore.Field) zapcore.Core {
	with := make([]zapcore.Field, 0, len(c.with)+len(fields))
	with = append(append(with, c.with...), fields...)
	return &joinCore{Core: c.Core.With(fields), join: c.join, with: with}
}

func (c *joinCore) Check(ent zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(ent.Level) {
		return ce.AddCore(ent, c)
	}
	return ce
}

func (c *joinCore) Write(ent zapcore.Entry, fields []zapcore.Field) error {
	if ent.Level > zapcore.ErrorLevel || c.join.admit(c.Core, c.with, ent, fields) {
		return c.Core.Write(ent, fields)
	}
	return nil
}
