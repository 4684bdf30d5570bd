package tasklog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Entry is one line of a log.
type Entry struct {
	Timestamp string `json:"timestamp,omitempty"`
	Level     string `json:"level,omitempty"`
	Logger    string `json:"logger,omitempty"`
	Event     string `json:"event"`
	// Extra holds the line's other keys.
	Extra map[string]json.RawMessage `json:"-"`
}

// MarshalJSON writes the entry as one object, with the extra keys in it.
func (e Entry) MarshalJSON() ([]byte, error) {
	m := map[string]any{"event": e.Event}
	for k, v := range e.Extra {
		m[k] = v
	}
	for k, v := range map[string]string{"timestamp": e.Timestamp, "level": e.Level, "logger": e.Logger} {
		if v != "" {
			m[k] = v
		}
	}
	return json.Marshal(m)
}

// ParseLine reads one line without its newline. What is no JSON object becomes
// the event of an entry without a time: output of a foreign program, or half a
// line of a killed process.
func ParseLine(b []byte) Entry {
	var m map[string]json.RawMessage
	if len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &m) != nil {
		return Entry{Event: strings.ToValidUTF8(string(b), "\uFFFD")}
	}
	var e Entry
	text := func(key string, dst *string) {
		if raw, ok := m[key]; ok && json.Unmarshal(raw, dst) == nil {
			delete(m, key)
		}
	}
	text("timestamp", &e.Timestamp)
	text("level", &e.Level)
	text("logger", &e.Logger)
	text("event", &e.Event)
	if len(m) > 0 {
		e.Extra = m
	}
	return e
}

// Text renders the entry for people:
//
//	[2024-05-01T12:00:00.000000Z] INFO - text [logger] key=value
func (e Entry) Text() string {
	var b strings.Builder
	if e.Timestamp != "" {
		b.WriteString("[" + e.Timestamp + "] ")
	}
	if e.Level != "" {
		b.WriteString(strings.ToUpper(e.Level) + " - ")
	}
	b.WriteString(e.Event)
	if e.Logger != "" {
		b.WriteString(" [" + e.Logger + "]")
	}
	keys := make([]string, 0, len(e.Extra))
	for k := range e.Extra {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		b.WriteString(" " + k + "=" + string(e.Extra[k]))
	}
	return b.String()
}

// maxLine is the longest line that is parsed whole; longer ones come in pieces.
const maxLine = 4 << 20

// Read calls f with each entry of a try's log from byte offset on, and returns
// the offset after the last whole line: where to read on. ErrNotFound: the try
// has no log. An error of f ends the reading and is returned.
func (l *Logs) Read(key airflow.TaskInstanceKey, try int, offset int64, f func(Entry) error) (int64, error) {
	file, err := os.Open(l.Path(key, try))
	if errors.Is(err, fs.ErrNotExist) {
		return offset, fmt.Errorf("log of %s, try %d: %w", key, try, airflow.ErrNotFound)
	}
	if err != nil {
		return offset, fmt.Errorf("read the log of %s: %w", key, err)
	}
	defer file.Close()
	return readEntries(file, offset, true, f)
}

// readEntries reads lines from offset. With partial, a last line without
// newline counts; its bytes are not part of the returned offset.
func readEntries(file *os.File, offset int64, partial bool, f func(Entry) error) (int64, error) {
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return offset, err
	}
	r := bufio.NewReaderSize(file, 64<<10)
	var long []byte
	for {
		b, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) && len(long)+len(b) < maxLine {
			long = append(long, b...)
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return offset, err
		}
		if len(long) > 0 {
			b = append(long, b...)
		}
		eof := errors.Is(err, io.EOF)
		if eof && (len(b) == 0 || !partial) {
			return offset, nil
		}
		if text := bytes.TrimRight(b, "\r\n"); len(text) > 0 {
			if err := f(ParseLine(text)); err != nil {
				return offset, err
			}
		}
		if eof {
			return offset, nil
		}
		offset += int64(len(b))
		long = long[:0]
	}
}

// Follow calls f with each entry of a try's log, those already there and those
// still to be written, until finished reports true and the log is read to its
// end, or ctx ends. A log that is not there yet is waited for.
func (l *Logs) Follow(ctx context.Context, key airflow.TaskInstanceKey, try int, finished func(context.Context) (bool, error), f func(Entry) error) error {
	var file *os.File
	defer func() {
		if file != nil {
			file.Close()
		}
	}()
	var offset int64
	tick := time.NewTicker(l.o.PollInterval)
	defer tick.Stop()
	for {
		// Ask before reading: what was written before the end is then read.
		done, err := finished(ctx)
		if err != nil {
			return err
		}
		if file == nil {
			file, err = os.Open(l.Path(key, try))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("read the log of %s: %w", key, err)
			}
			if err != nil {
				file = nil
			}
		}
		if file != nil {
			if offset, err = readEntries(file, offset, done, f); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
