package taskrunner

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/tasklog"
)

// Level is the severity of a record.
type Level = tasklog.Level

// The levels.
const (
	LevelDebug    = tasklog.LevelDebug
	LevelInfo     = tasklog.LevelInfo
	LevelWarning  = tasklog.LevelWarning
	LevelError    = tasklog.LevelError
	LevelCritical = tasklog.LevelCritical
)

// Record is one line of a task's log.
type Record = tasklog.Record

// LogSink takes the records of one dispatch.
type LogSink = tasklog.Sink

// JSONLog writes records as Airflow 3's log files hold them: a JSON object a
// line with timestamp, level, logger and event.
type JSONLog struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewJSONLog returns a JSONLog that writes each record with one call of Write.
func NewJSONLog(w io.Writer) *JSONLog { return &JSONLog{w: w} }

// WriteRecord implements LogSink.
func (l *JSONLog) WriteRecord(r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := append(l.buf[:0], `{"timestamp":"`...)
	b = r.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, `","level":"`...)
	b = append(b, r.Level...)
	b = append(b, `","event":`...)
	b = appendJSONString(b, r.Event)
	if r.Logger != "" {
		b = append(b, `,"logger":`...)
		b = appendJSONString(b, r.Logger)
	}
	b = append(b, '}', '\n')
	l.buf = b
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	_, err := l.w.Write(b)
	return err
}

// Close closes the writer if it can be closed.
func (l *JSONLog) Close() error {
	if c, ok := l.w.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func appendJSONString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			q, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings always encode
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Masker replaces secrets in what leaves a worker: logs, rendered fields,
// error texts. It must be safe for concurrent use.
type Masker interface {
	// Add registers a secret.
	Add(secret string)
	// Mask replaces all registered secrets by ***.
	Mask(s string) string
}

// Logger writes the log of a dispatch: masked, with timestamps.
type Logger struct {
	sink  LogSink
	mask  Masker
	clock func() time.Time
	name  string
	min   int
}

var severity = map[Level]int{LevelDebug: 10, LevelInfo: 20, LevelWarning: 30, LevelError: 40, LevelCritical: 50}

// Named returns a Logger whose records carry another logger's name.
func (l *Logger) Named(name string) *Logger {
	c := *l
	c.name = name
	return &c
}

// Write logs one record under a logger's name.
func (l *Logger) Write(level Level, logger, event string) {
	if severity[level] < l.min {
		return
	}
	if l.mask != nil {
		event = l.mask.Mask(event)
	}
	if !utf8.ValidString(event) {
		event = strings.ToValidUTF8(event, "\uFFFD")
	}
	// A log that cannot be written must not fail the task; the sink's owner
	// sees the error on Close.
	_ = l.sink.WriteRecord(Record{Time: l.clock(), Level: level, Logger: logger, Event: event})
}

// Debug, Info, Warn and Error log one record.
func (l *Logger) Debug(event string) { l.Write(LevelDebug, l.name, event) }

// Info logs at info level.
func (l *Logger) Info(event string) { l.Write(LevelInfo, l.name, event) }

// Warn logs at warning level.
func (l *Logger) Warn(event string) { l.Write(LevelWarning, l.name, event) }

// Error logs at error level.
func (l *Logger) Error(event string) { l.Write(LevelError, l.name, event) }

// NewLogger returns a Logger at info level; mask may be nil.
func NewLogger(sink LogSink, mask Masker, clock func() time.Time, name string) *Logger {
	if clock == nil {
		clock = time.Now
	}
	return &Logger{sink: sink, mask: mask, clock: clock, name: name, min: severity[LevelInfo]}
}
