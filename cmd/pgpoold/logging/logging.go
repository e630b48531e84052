// Package logging makes the daemon's logger: zap to one stream, as console
// lines or JSON, with a level that can be changed while it runs and repeated
// lines joined with a count.
package logging

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Options say what a Logger writes, and where.
type Options struct {
	Level  string    // debug, info, warn or error
	Format string    // console or json
	Out    io.Writer // locked by the Logger; nobody else writes to it
	// JoinWindow is how long repeats of a line are only counted; 0 is ten
	// seconds.
	JoinWindow time.Duration
}

// Logger is a zap logger with a level that can be changed. Close stops its
// goroutine and writes what is still counted.
type Logger struct {
	*zap.Logger
	level zap.AtomicLevel
	plain *zap.Logger // every level, nothing joined
	join  *joiner
}

// New makes a Logger and starts the goroutine that reports repeats.
func New(opts Options) (*Logger, error) {
	level, err := ParseLevel(opts.Level)
	if err != nil {
		return nil, err
	}
	var enc zapcore.Encoder
	switch opts.Format {
	case "console", "":
		cfg := zap.NewDevelopmentEncoderConfig()
		cfg.EncodeLevel = zapcore.CapitalLevelEncoder
		enc = zapcore.NewConsoleEncoder(cfg)
	case "json":
		cfg := zap.NewProductionEncoderConfig()
		cfg.TimeKey = "time"
		cfg.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		cfg.EncodeDuration = zapcore.SecondsDurationEncoder
		enc = zapcore.NewJSONEncoder(cfg)
	default:
		return nil, fmt.Errorf("log.format: %q is not one of console, json", opts.Format)
	}
	window := opts.JoinWindow
	if window <= 0 {
		window = 10 * time.Second
	}
	out := zapcore.Lock(zapcore.AddSync(opts.Out))
	atomic := zap.NewAtomicLevelAt(level)
	join := newJoiner(window)
	l := &Logger{
		Logger: zap.New(join.wrap(zapcore.NewCore(enc, out, atomic))),
		level:  atomic,
		plain:  zap.New(zapcore.NewCore(enc.Clone(), out, zapcore.DebugLevel)),
		join:   join,
	}
	join.start()
	return l, nil
}

// ParseLevel reads one of debug, info, warn and error.
func ParseLevel(s string) (zapcore.Level, error) {
	switch s {
	case "debug":
		return zapcore.DebugLevel, nil
	case "info", "":
		return zapcore.InfoLevel, nil
	case "warn", "warning":
		return zapcore.WarnLevel, nil
	case "error":
		return zapcore.ErrorLevel, nil
	}
	return 0, fmt.Errorf("log.level: %q is not one of debug, info, warn, error", s)
}

// Level is the level in force.
func (l *Logger) Level() string { return l.level.Level().String() }

// SetLevel changes the level from the next line on.
func (l *Logger) SetLevel(s string) error {
	level, err := ParseLevel(s)
	if err != nil {
		return err
	}
	l.level.SetLevel(level)
	return nil
}

// Announce writes a line whatever the level is: for the few lines that other
// programs wait for.
func (l *Logger) Announce(msg string, fields ...zap.Field) {
	l.plain.Info(msg, fields...)
}

// Close writes the counts that are still owed and joins the goroutine. Lines
// logged afterwards are written, unjoined.
func (l *Logger) Close() {
	l.join.close()
	_ = l.Sync() // a terminal cannot be synced, and says so
}
