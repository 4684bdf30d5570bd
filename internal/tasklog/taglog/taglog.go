// Package taglog writes the logs of tasks as lines of a stream that many tasks
// share, such as a Lambda function's standard output, which goes to CloudWatch
// Logs. Each line is a JSON object as in log files (time, level, event, logger)
// with the tag of its try, by which a reader finds the lines of one. The
// first line of a dispatch also names the try: that is where people find the tag.
// The names in every line would be half of what a small task's log costs. For the
// same reason the level info and the logger task are left out, and the time is in
// Unix microseconds ("us"); who looks at a stream by hand has the stream's own.
//
// A line is written with one call and nothing is held back, so that the log of a
// process that is killed ends with its last line.
package taglog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/tasklog"
)

// Tag names the try that a line belongs to. Its keys and their order are part of
// what ID hashes.
type Tag struct {
	DagID     airflow.DagID  `json:"dag_id"`
	RunID     airflow.RunID  `json:"run_id"`
	TaskID    airflow.TaskID `json:"task_id"`
	MapIndex  int            `json:"map_index"`
	TryNumber int            `json:"try_number"`
}

// TagOf is the tag of a try.
func TagOf(k airflow.TaskInstanceKey, try int) Tag {
	return Tag{DagID: k.DagID, RunID: k.RunID, TaskID: k.TaskID, MapIndex: k.MapIndex, TryNumber: try}
}

// ID is what lines carry as "tag": 11 letters, digits, - and _. 64 bits of a hash
// keep tries apart, and nobody from finding names whose lines pass for another's.
func (t Tag) ID() string {
	sum := sha256.Sum256(t.json())
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

func (t Tag) json() []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	return b
}

// MaxEvent is the longest text of one line, in bytes; longer ones are split.
// CloudWatch Logs takes 256 KiB a line, after escaping.
const MaxEvent = 64 << 10

// tailBytes is what is kept of the end of a log that is too long.
const tailBytes = 64 << 10

// Options tune a Log.
type Options struct {
	// MaxBytes bounds the lines of one dispatch: the beginning is written, and at
	// the end the last 64 KiB. Default 64 MiB, negative for no bound.
	MaxBytes int64
	// Now is the clock for lines of this package's own. Default time.Now.
	Now func() time.Time
}

// Log is the log of one dispatch; it implements tasklog.Sink. It is safe for
// concurrent use, and several may share a writer whose Write is.
type Log struct {
	w      io.Writer
	suffix []byte // the tag and the end of the line
	names  []byte // the try's keys, which the first line has
	o      Options

	mu           sync.Mutex
	buf          []byte
	written      int64
	capped       bool
	tail         []byte
	skippedLines int
	err          error
}

var _ tasklog.Sink = (*Log)(nil)

// New returns a log that writes to w.
func New(w io.Writer, tag Tag, o Options) *Log {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	names := tag.json()
	names[0] = ',' // they follow the line's keys
	return &Log{w: w, suffix: []byte(`,"tag":"` + tag.ID() + "\"}\n"), names: names[:len(names)-1], o: o}
}

// WriteRecord implements tasklog.Sink.
func (l *Log) WriteRecord(r tasklog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := r.Event
	for len(text) > MaxEvent {
		cut := MaxEvent
		if i := strings.LastIndexByte(text[:cut], '\n'); i > MaxEvent/2 {
			cut = i + 1
		} else {
			for !utf8.RuneStart(text[cut]) {
				cut--
			}
		}
		r.Event, text = strings.TrimSuffix(text[:cut], "\n"), text[cut:]
		l.put(r)
	}
	r.Event = text
	l.put(r)
	return l.err
}

func (l *Log) put(r tasklog.Record) {
	line := l.line(r)
	if l.o.MaxBytes > 0 && (l.capped || l.written+int64(len(line)) > l.o.MaxBytes) {
		l.keepTail(line)
		return
	}
	l.write(line)
}

func (l *Log) write(b []byte) {
	l.written += int64(len(b))
	if _, err := l.w.Write(b); err != nil && l.err == nil {
		l.err = err
	}
}

// line renders a record; the result is valid until the next call.
func (l *Log) line(r tasklog.Record) []byte {
	b := append(l.buf[:0], `{"us":`...)
	b = strconv.AppendInt(b, r.Time.UnixMicro(), 10)
	if r.Level != usualLevel {
		b = append(b, `,"level":`...)
		b = appendJSON(b, string(r.Level))
	}
	b = append(b, `,"event":`...)
	b = appendJSON(b, r.Event)
	if r.Logger != usualLogger {
		b = append(b, `,"logger":`...)
		b = appendJSON(b, r.Logger)
	}
	b = append(b, l.names...)
	l.names = nil
	b = append(b, l.suffix...)
	l.buf = b
	return b
}

// What most lines have and lines without it mean.
const (
	usualLevel  = tasklog.LevelInfo
	usualLogger = "task"
)

func (l *Log) keepTail(line []byte) {
	if !l.capped {
		l.capped = true
		kept := append([]byte(nil), line...)
		l.write(l.line(tasklog.Record{Time: l.o.Now(), Level: tasklog.LevelWarning, Logger: "gust.tasklog", Event: fmt.Sprintf(
			"The log is longer than %d bytes ([gust] max_task_log_bytes): what follows is left out, except for its end, which appears when the task ends", l.o.MaxBytes)}))
		line = kept
	}
	l.tail = append(l.tail, line...)
	if len(l.tail) <= 2*tailBytes {
		return
	}
	cut := len(l.tail) - tailBytes
	if i := bytes.IndexByte(l.tail[cut:], '\n'); i >= 0 {
		cut += i + 1 // lines stay whole
	} else {
		cut = len(l.tail)
	}
	l.skippedLines += bytes.Count(l.tail[:cut], []byte{'\n'})
	l.tail = append(l.tail[:0], l.tail[cut:]...)
}

// Close writes the end of a log that was too long. It leaves the writer open.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.skippedLines > 0 {
		l.write(l.line(tasklog.Record{Time: l.o.Now(), Level: tasklog.LevelWarning, Logger: "gust.tasklog", Event: fmt.Sprintf("Log truncated: %d lines left out here", l.skippedLines)}))
	}
	for rest := l.tail; len(rest) > 0; { // line by line: each is an event of its own
		i := bytes.IndexByte(rest, '\n') + 1
		l.write(rest[:i])
		rest = rest[i:]
	}
	l.tail, l.buf = nil, nil
	return l.err
}

func appendJSON(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts always encode
	}
	return append(b, q...)
}

// Parse reads a line: its entry, without the keys of the try, and the ID of its
// tag. ok is false for lines that carry none, such as those of the platform. Lines
// of versions that named the try, or spelt out the time, in every line are read too.
func Parse(line []byte) (e tasklog.Entry, id string, ok bool) {
	e = tasklog.ParseLine(bytes.TrimRight(line, "\r\n"))
	take := func(name string, dst any) bool {
		raw, there := e.Extra[name]
		if !there || json.Unmarshal(raw, dst) != nil {
			return false
		}
		delete(e.Extra, name)
		return true
	}
	var tag Tag
	ok = take("tag", &id)
	named := 0
	for name, dst := range map[string]any{"dag_id": &tag.DagID, "run_id": &tag.RunID, "task_id": &tag.TaskID, "map_index": &tag.MapIndex, "try_number": &tag.TryNumber} {
		if take(name, dst) {
			named++
		}
	}
	switch {
	case ok:
		var us int64
		if e.Timestamp == "" && take("us", &us) {
			e.Timestamp = time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z")
		}
		if e.Level == "" {
			e.Level = string(usualLevel)
		}
		// Quotes of an event are escaped: this is the key.
		if e.Logger == "" && !bytes.Contains(line, []byte(`,"logger":""`)) {
			e.Logger = usualLogger
		}
	case named == 5:
		id, ok = tag.ID(), true
	}
	if len(e.Extra) == 0 {
		e.Extra = nil
	}
	return e, id, ok
}

// Host names a log stream in worker.Identity.Hostname: "lambda/<group>/<stream>"
// for Lambda functions, "<kind>/<group>:<stream>" for others.
func Host(kind, group, stream string) string {
	if kind == KindLambda {
		return kind + "/" + group + "/" + stream
	}
	return kind + "/" + group + ":" + stream
}

// KindLambda is the kind of hosts that are Lambda functions.
const KindLambda = "lambda"

// ParseHost reads what Host wrote; ok is false for other names, such as those of
// machines. A group's name has no colon; a Lambda stream is
// YYYY/MM/DD/…[version]….
func ParseHost(host string) (kind, group, stream string, ok bool) {
	kind, rest, ok := strings.Cut(host, "/")
	if !ok || kind == "" {
		return "", "", "", false
	}
	if group, stream, ok = strings.Cut(rest, ":"); ok {
		return kind, group, stream, group != "" && stream != ""
	}
	if kind != KindLambda {
		return "", "", "", false
	}
	// The stream is the last four segments.
	cut := len(rest)
	for range 4 {
		if cut = strings.LastIndexByte(rest[:cut], '/'); cut < 0 {
			return "", "", "", false
		}
	}
	group, stream = rest[:cut], rest[cut+1:]
	return kind, group, stream, group != "" && strings.Contains(stream, "[")
}
