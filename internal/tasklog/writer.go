package tasklog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

const (
	bufferSize = 8 << 10
	// tailBytes is what is kept of the end of a log that is too long: the cause
	// of a failure comes last.
	tailBytes = 64 << 10
)

// buffers are reused: a task that writes two lines should not cost 8 KiB.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferSize); return &b }}

// Writer writes the log of one try. Each call of Write must hold whole lines.
// It is safe for concurrent use.
type Writer struct {
	l *Logs

	mu     sync.Mutex
	f      *os.File
	buf    *[]byte
	size   int64 // of the file, with what is buffered
	timer  *time.Timer
	timing bool
	closed bool
	err    error // the first that occurred

	// Beyond MaxBytes:
	capped       bool
	tail         []byte
	skippedLines int64
	skippedBytes int64
}

// Create opens the log of a try for appending and makes it if there is none.
func (l *Logs) Create(key airflow.TaskInstanceKey, try int) (*Writer, error) {
	return l.create(l.Path(key, try), key.String())
}

// CreateForRun opens a log that belongs to a run and to no task of it, such as
// that of a DAG callback: run_id=<run>/<name>.log.
func (l *Logs) CreateForRun(dag airflow.DagID, run airflow.RunID, name string) (*Writer, error) {
	return l.create(filepath.Join(l.runDir(dag, run), component("", name)+".log"), string(dag)+"/"+string(run))
}

func (l *Logs) create(path, of string) (*Writer, error) {
	var f *os.File
	var err error
	// Retention may remove an empty folder between the two calls.
	for range 3 {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// Most often only the last folder is missing.
		dir := filepath.Dir(path)
		if err = os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			if err = os.MkdirAll(dir, 0o750); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", of, err)
	}
	w := &Writer{l: l, f: f, buf: buffers.Get().(*[]byte)}
	if w.size, err = f.Seek(0, io.SeekEnd); err != nil {
		f.Close()
		return nil, fmt.Errorf("open the log of %s: %w", of, err)
	}
	if w.size > 0 {
		// A process that was killed may have left half a line.
		var last [1]byte
		if _, err := f.ReadAt(last[:], w.size-1); err == nil && last[0] != '\n' {
			w.put([]byte{'\n'})
		}
	}
	return w, nil
}

// Write implements io.Writer; p must end with a newline.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, os.ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	if limit := w.l.o.MaxBytes; limit > 0 && (w.capped || w.size+int64(len(p)) > limit) {
		w.keepTail(p)
		return len(p), nil
	}
	w.put(p)
	return len(p), w.err
}

func (w *Writer) put(p []byte) {
	w.size += int64(len(p))
	if len(*w.buf)+len(p) > bufferSize {
		w.flush()
	}
	if len(p) > bufferSize {
		w.write(p)
		return
	}
	*w.buf = append(*w.buf, p...)
	if w.timing {
		return
	}
	w.timing = true
	if w.timer == nil {
		w.timer = time.AfterFunc(w.l.o.FlushInterval, w.onTimer)
		return
	}
	w.timer.Reset(w.l.o.FlushInterval)
}

func (w *Writer) onTimer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timing = false
	if !w.closed {
		w.flush()
	}
}

func (w *Writer) flush() {
	if len(*w.buf) > 0 {
		w.write(*w.buf)
		*w.buf = (*w.buf)[:0]
	}
}

func (w *Writer) write(p []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.f.Write(p); err != nil {
		w.err = err
	}
}

// keepTail remembers the newest lines of what is over the limit.
func (w *Writer) keepTail(p []byte) {
	if !w.capped {
		w.capped = true
		w.put(line(w.l.o.Now(), "warning", "gust.tasklog", fmt.Sprintf(
			"The log is longer than %d bytes ([gust] max_task_log_bytes): what follows is left out, except for its end, which appears when the task ends", w.l.o.MaxBytes)))
	}
	w.tail = append(w.tail, p...)
	if len(w.tail) <= 2*tailBytes {
		return
	}
	cut := len(w.tail) - tailBytes
	if i := bytes.IndexByte(w.tail[cut:], '\n'); i >= 0 {
		cut += i + 1 // lines stay whole
	} else {
		cut = len(w.tail)
	}
	w.skippedBytes += int64(cut)
	w.skippedLines += int64(bytes.Count(w.tail[:cut], []byte{'\n'}))
	w.tail = append(w.tail[:0], w.tail[cut:]...)
}

// Log writes a line of its own with the clock of the Logs.
func (w *Writer) Log(level, logger, event string) error {
	_, err := w.Write(line(w.l.o.Now(), level, logger, event))
	return err
}

// Flush writes what is buffered to the file.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.flush()
	}
	return w.err
}

// Close flushes and closes. It returns the first error of any write.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	if w.capped && len(w.tail) > 0 {
		if w.skippedLines > 0 {
			w.put(line(w.l.o.Now(), "warning", "gust.tasklog", fmt.Sprintf("Log truncated: %d lines (%d bytes) left out here", w.skippedLines, w.skippedBytes)))
		}
		w.flush()
		w.write(w.tail)
	}
	w.flush()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	buffers.Put(w.buf)
	w.buf, w.tail = nil, nil
	if err := w.f.Close(); w.err == nil {
		w.err = err
	}
	return w.err
}

// Append adds one line to the log of a try that nobody writes any more, such as
// why its worker is believed lost.
func (l *Logs) Append(key airflow.TaskInstanceKey, try int, level, logger, event string) error {
	w, err := l.Create(key, try)
	if err != nil {
		return err
	}
	return errors.Join(w.Log(level, logger, event), w.Close())
}

// line renders one line as Airflow 3 does.
func line(at time.Time, level, logger, event string) []byte {
	b := append(make([]byte, 0, 96+len(event)), `{"timestamp":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, `","level":`...)
	b = appendJSON(b, level)
	b = append(b, `,"event":`...)
	b = appendJSON(b, event)
	b = append(b, `,"logger":`...)
	b = appendJSON(b, logger)
	return append(b, '}', '\n')
}

func appendJSON(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // cannot happen: every string encodes
	}
	return append(b, q...)
}
