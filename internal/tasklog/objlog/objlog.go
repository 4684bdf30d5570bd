// Package objlog keeps the logs of tasks as objects (in S3), in Airflow's layout:
//
//	dag_id=<dag>/run_id=<run>/task_id=<task>/[map_index=<n>/]attempt=<try>.log
//
// It is for workers on machines whose output nobody collects. An object cannot be
// appended to: a log is written to a local file and stored from time to time, and
// when its dispatch ends. A try that goes on elsewhere begins with what is stored.
package objlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/tasklog"
)

// Options tune a Logs. The zero value is a good default.
type Options struct {
	// Interval is how often the log of a running task is stored if it has grown.
	// Default 30 s.
	Interval time.Duration
	// MaxBytes is as in tasklog.Options.
	MaxBytes int64
}

// Logs writes and reads logs. It is safe for concurrent use.
type Logs struct {
	objects blob.Objects
	files   *tasklog.Logs
	o       Options
}

var _ tasklog.Reader = (*Logs)(nil)

// New returns logs in objects; dir is for the files of logs that are being
// written. Readers need no dir.
func New(objects blob.Objects, dir string, o Options) *Logs {
	if o.Interval <= 0 {
		o.Interval = 30 * time.Second
	}
	return &Logs{objects: objects, files: tasklog.New(dir, tasklog.Options{MaxBytes: o.MaxBytes}), o: o}
}

// key is the name of a try's object.
func (l *Logs) key(k airflow.TaskInstanceKey, try int) (string, error) {
	rel, err := filepath.Rel(l.files.Root(), l.files.Path(k, try))
	return filepath.ToSlash(rel), err
}

// Writer is the log of a dispatch. It is safe for concurrent use; each Write must
// hold whole lines.
type Writer struct {
	l    *Logs
	key  string
	path string
	w    *tasklog.Writer

	mu     sync.Mutex
	stored int64 // size of what was stored last
	stop   chan struct{}
	done   chan struct{}
}

// Create opens the log of a try for appending.
func (l *Logs) Create(ctx context.Context, k airflow.TaskInstanceKey, try int) (*Writer, error) {
	key, err := l.key(k, try)
	if err != nil {
		return nil, err
	}
	path := l.files.Path(k, try)
	before, err := l.objects.Get(ctx, key)
	switch {
	case errors.Is(err, airflow.ErrNotFound):
		_ = os.Remove(path) // a file that a process left that died: it was never stored
	case err != nil:
		return nil, fmt.Errorf("log of %s, try %d: %w", k, try, err)
	default:
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return nil, fmt.Errorf("log of %s: %w", k, err)
		}
		if err := os.WriteFile(path, before, 0o640); err != nil {
			return nil, fmt.Errorf("log of %s: %w", k, err)
		}
	}
	w := &Writer{l: l, key: key, path: path, stored: int64(len(before)), stop: make(chan struct{}), done: make(chan struct{})}
	if w.w, err = l.files.Create(k, try); err != nil {
		return nil, err
	}
	go w.keepStored(context.WithoutCancel(ctx))
	return w, nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) { return w.w.Write(p) }

func (w *Writer) keepStored(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(w.l.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			if w.w.Flush() == nil {
				_ = w.store(ctx) // the next one, or Close, stores it too
			}
		}
	}
}

func (w *Writer) store(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := os.ReadFile(w.path)
	if err != nil || int64(len(b)) == w.stored {
		return err
	}
	if err := w.l.objects.Put(ctx, w.key, b); err != nil {
		return err
	}
	w.stored = int64(len(b))
	return nil
}

// Close stores the log and removes the file.
func (w *Writer) Close() error {
	select {
	case <-w.stop:
		return nil
	default:
	}
	close(w.stop)
	<-w.done
	err := w.w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if serr := w.store(ctx); serr != nil {
		return errors.Join(err, fmt.Errorf("store the log %s: %w", w.key, serr))
	}
	_ = os.Remove(w.path) // what is left is removed by the next dispatch of the try
	return err
}

// ReadTry implements tasklog.Reader; places are byte offsets.
func (l *Logs) ReadTry(ctx context.Context, t tasklog.Try, from string, f func(tasklog.Entry) error) (string, error) {
	key, err := l.key(t.Key, t.Number)
	if err != nil {
		return from, err
	}
	offset := 0
	if from != "" {
		if offset, err = strconv.Atoi(from); err != nil || offset < 0 {
			return from, airflow.Invalid("from", "%q is no place in a log: expected what an earlier reading returned", from)
		}
	}
	b, err := l.objects.Get(ctx, key)
	if err != nil {
		return from, fmt.Errorf("log of %s, try %d: %w", t.Key, t.Number, err)
	}
	for offset < len(b) {
		n := bytes.IndexByte(b[offset:], '\n') + 1
		if n == 0 { // half a line of a process that died
			n = len(b) - offset
		}
		if line := bytes.TrimRight(b[offset:offset+n], "\r\n"); len(line) > 0 {
			if err := f(tasklog.ParseLine(line)); err != nil {
				return strconv.Itoa(offset), err
			}
		}
		offset += n
	}
	return strconv.Itoa(offset), nil
}
