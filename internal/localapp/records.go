package localapp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// Limits of the recorded steps. They help people to see why something was
// decided; nothing depends on them, so they may be lost and are kept for a while.
const (
	// recordAge is how long the records of a run are kept after its last step.
	recordAge = 14 * 24 * time.Hour
	// recordBytes bounds the records of one run.
	recordBytes = 64 << 20
	// recordQueue is how many records may wait to be written; more are dropped.
	recordQueue = 8192
	// recordClean is how often old records are removed.
	recordClean = 6 * time.Hour
)

// recorder appends the engine's steps to a file per run, below records/ in the
// home: off the engine's path, many with one write.
type recorder struct {
	dir   string
	log   *slog.Logger
	queue chan engine.Record
	done  chan struct{}
	lost  atomic.Int64

	mu           sync.Mutex
	began, ended bool
}

func newRecorder(dir string, log *slog.Logger) *recorder {
	return &recorder{dir: dir, log: log, queue: make(chan engine.Record, recordQueue), done: make(chan struct{})}
}

// put takes a record; it never waits. A recorder to which nothing is put never
// starts.
func (r *recorder) put(rec engine.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if !r.began {
		r.began = true
		go r.work()
	}
	select {
	case r.queue <- rec:
	default:
		if r.lost.Add(1) == 1 {
			r.log.Warn("steps are decided faster than they can be recorded: some will be missing in gust replay")
		}
	}
}

// close writes what waits. What is put afterwards is dropped.
func (r *recorder) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	began := r.began && !r.ended
	r.ended = true
	r.mu.Unlock()
	if began {
		close(r.queue)
		<-r.done
	}
}

func (r *recorder) work() {
	defer close(r.done)
	for rec := range r.queue {
		batch := []engine.Record{rec}
	more:
		for len(batch) < 512 {
			select {
			case next, ok := <-r.queue:
				if !ok {
					break more
				}
				batch = append(batch, next)
			default:
				break more
			}
		}
		if err := r.write(batch); err != nil {
			r.log.Warn("steps not recorded for gust replay", "err", err)
		}
	}
}

// write appends a batch, run by run.
func (r *recorder) write(batch []engine.Record) error {
	var order []store.RunKey
	lines := map[store.RunKey]*bytes.Buffer{}
	var errs []error
	for i := range batch {
		b := lines[batch[i].Run]
		if b == nil {
			b = &bytes.Buffer{}
			lines[batch[i].Run] = b
			order = append(order, batch[i].Run)
		}
		line, err := json.Marshal(&batch[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	for _, k := range order {
		errs = append(errs, appendFile(recordPath(r.dir, k), lines[k].Bytes()))
	}
	return errors.Join(errs...)
}

// appendFile adds lines to a file with one write, so that a server and tools can
// share it. A last line that a crash cut off is ended first.
func appendFile(path string, b []byte) error {
	const mode = os.O_CREATE | os.O_APPEND | os.O_RDWR
	f, err := os.OpenFile(path, mode, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			f, err = os.OpenFile(path, mode, 0o600)
		}
	}
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() > recordBytes {
		return f.Close()
	}
	last := []byte{'\n'}
	if err == nil && fi.Size() > 0 {
		_, err = f.ReadAt(last, fi.Size()-1)
	}
	if last[0] != '\n' {
		b = append([]byte{'\n'}, b...)
	}
	if err == nil {
		_, err = f.Write(b)
	}
	return errors.Join(err, f.Close())
}

func recordPath(dir string, k store.RunKey) string {
	return filepath.Join(dir, recordName("dag_id=", string(k.DagID)), recordName("run_id=", string(k.RunID))+".jsonl")
}

// recordName is a file name for an id: ids have no slashes, but may be too long.
func recordName(prefix, id string) string {
	if len(id) > 200 {
		sum := sha256.Sum256([]byte(id))
		id = id[:180] + "~" + hex.EncodeToString(sum[:8])
	}
	return prefix + id
}

// keepClean removes old records now and from time to time until ctx ends.
func (r *recorder) keepClean(ctx context.Context) {
	tick := time.NewTicker(recordClean)
	defer tick.Stop()
	for {
		if err := cleanRecords(r.dir, time.Now().Add(-recordAge)); err != nil {
			r.log.Warn("old records of steps not removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// cleanRecords removes the records of runs without a step since a time.
func cleanRecords(dir string, before time.Time) error {
	dags, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, d := range dags {
		sub := filepath.Join(dir, d.Name())
		files, err := os.ReadDir(sub)
		errs = append(errs, err)
		left := len(files)
		for _, f := range files {
			fi, err := f.Info()
			if err != nil || !fi.ModTime().Before(before) {
				continue
			}
			if err := os.Remove(filepath.Join(sub, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
				continue
			}
			left--
		}
		if left == 0 {
			_ = os.Remove(sub) // a record may have come meanwhile: then it stays
		}
	}
	return errors.Join(append(errs, err)...)
}

// maxRecordLine bounds one record, which may hold the state of a wide run.
const maxRecordLine = 64 << 20

// ReadRecords calls f with the recorded steps of a run, oldest first.
// airflow.ErrNotFound: there are none. Lines that a crash cut off are left out.
func (h Home) ReadRecords(k store.RunKey, f func(engine.Record) error) error {
	file, err := os.Open(recordPath(h.path("records"), k))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("recorded steps of run %s: %w (they are kept for %d days)", k, airflow.ErrNotFound, int(recordAge.Hours()/24))
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(line) > maxRecordLine {
			return fmt.Errorf("record %d of run %s is longer than %d bytes", n, k, maxRecordLine)
		}
		var rec engine.Record
		if json.Unmarshal(line, &rec) != nil {
			continue // cut off by a crash: the next record has a state
		}
		if err := f(rec); err != nil {
			return err
		}
	}
}

// DeleteRecords forgets the recorded steps of a run; absent is fine.
func (h Home) DeleteRecords(k store.RunKey) error {
	err := os.Remove(recordPath(h.path("records"), k))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
