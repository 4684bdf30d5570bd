package sqlitekv

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

// A batch is bounded so that no caller waits long for the commit of others.
const (
	maxBatchRequests = 512
	maxBatchBytes    = 4 << 20
)

// request is what a caller hands to the writer.
type request struct {
	ops      []kv.Op
	transact bool // errors name the operation
	token    string
	print    [32]byte
	// task, when set, is done instead of ops, in the same transaction.
	task func(*writer) error

	state atomic.Int32
	done  chan error
	// err is the writer's: the answer, given once the batch is committed.
	err error
}

// States of a request: the writer takes it, or its caller withdraws it, whichever is first.
const (
	queued = iota
	taken
	withdrawn
)

var requests = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

// Write implements [kv.Driver].
func (s *Store) Write(ctx context.Context, op kv.Op) error {
	if err := s.opts.Schema.CheckWrite(op); err != nil {
		return kv.Wrap(op.Kind.String(), op.ItemKey(), err)
	}
	r := requests.Get().(*request)
	r.ops = append(r.ops[:0], op)
	return kv.Wrap(op.Kind.String(), op.ItemKey(), s.submit(ctx, r))
}

// Transact implements [kv.Driver].
func (s *Store) Transact(ctx context.Context, token string, ops []kv.Op) error {
	if err := s.opts.Schema.CheckTransact(token, ops); err != nil {
		return kv.Wrap("transact", kv.Key{}, err)
	}
	r := requests.Get().(*request)
	r.ops, r.transact, r.token = append(r.ops[:0], ops...), true, token
	if token != "" {
		r.print = kv.Fingerprint(ops)
	}
	return kv.Wrap("transact", kv.Key{}, s.submit(ctx, r))
}

// submit hands r to the writer and waits for the answer. It consumes r.
func (s *Store) submit(ctx context.Context, r *request) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.RUnlock()
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return kv.NotStarted(ctx.Err())
	}
	var err error
	select {
	case err = <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(queued, withdrawn) {
			return kv.NotStarted(ctx.Err())
		}
		// The writer has it, and answers within a sync unless another process holds the lock.
		select {
		case err = <-r.done:
		case <-time.After(100 * time.Millisecond):
			return fmt.Errorf("the write was already under way: %w", ctx.Err())
		}
	}
	clear(r.ops)
	r.ops, r.transact, r.token, r.task, r.err = r.ops[:0], false, "", nil, nil
	r.state.Store(queued)
	requests.Put(r)
	return err
}

// writer owns the writing connection. Its methods run on its goroutine only.
type writer struct {
	s       *Store
	c       *conn
	ix      []indexSQL
	batch   []*request
	buf     []byte
	stopped chan struct{}

	// version is SQLite's data_version, which changes when another process wrote. format is what the file's indexes
	// must be; broken is why nothing can be written any more.
	version int64
	format  string
	broken  error

	// unsaved counts the bytes written since the keeper was last woken; restart asks for a checkpoint by the writer.
	unsaved int64
	restart chan struct{}
}

type indexSQL struct {
	kv.Index
	insert, update, remove string
}

func (s *Store) startWriter(c *conn) (*writer, error) {
	w := &writer{s: s, c: c, stopped: make(chan struct{}), restart: make(chan struct{}, 1)}
	for _, ix := range s.opts.Schema.Indexes {
		table := `"ix_` + string(ix.Name) + `"`
		w.ix = append(w.ix, indexSQL{ix, "INSERT OR REPLACE INTO " + table + "(body, ipk, isk, pk, sk) VALUES(?, ?, ?, ?, ?)",
			"UPDATE " + table + " SET body = ? WHERE ipk = ? AND isk = ? AND pk = ? AND sk = ?",
			"DELETE FROM " + table + " WHERE ipk = ? AND isk = ? AND pk = ? AND sk = ?"})
	}
	want, err := json.Marshal(s.opts.Schema.Indexes)
	if err != nil {
		return nil, fmt.Errorf("%w: schema: %w", kv.ErrInvalid, err)
	}
	w.format = string(want)
	go w.loop()
	return w, nil
}

func (w *writer) loop() {
	defer close(w.stopped)
	for {
		select {
		case r, ok := <-w.s.queue:
			if !ok {
				return
			}
			w.commit(r)
		case <-w.restart:
			w.s.k.restart(w.c)
		}
		if w.unsaved >= w.s.opts.CheckpointBytes {
			w.unsaved = 0
			w.s.k.wake()
		}
	}
}

// commit does first, and whatever else is or comes into the queue meanwhile, in one transaction.
func (w *writer) commit(first *request) {
	if !first.state.CompareAndSwap(queued, taken) {
		return
	}
	w.batch = append(w.batch[:0], first)
	err := w.transaction(first, true)
	if err != nil && len(w.batch) > 1 {
		// Which of them SQLite stumbled over is unknown: nothing was committed, so give each a transaction of its own.
		for _, r := range w.batch {
			w.finish(r, w.transaction(r, false))
		}
		return
	}
	for _, r := range w.batch {
		w.finish(r, err)
	}
}

func (w *writer) finish(r *request, err error) {
	if err == nil {
		err = r.err
	}
	r.done <- w.s.explain(err)
}

// transaction does r, and with more the requests that follow in the queue, and commits. The error is that of SQLite,
// after which nothing is applied (or, of the commit itself, nobody knows); the requests' own are in request.err.
func (w *writer) transaction(r *request, more bool) error {
	if w.broken != nil {
		return w.broken
	}
	if err := w.c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := w.checkFormat()
	for bytes := 0; err == nil; {
		before := w.unsaved
		if r.err, err = w.perform(r); err != nil || !more {
			break
		}
		bytes += int(w.unsaved - before)
		if len(w.batch) >= maxBatchRequests || bytes >= maxBatchBytes {
			break
		}
		if r = w.next(); r == nil {
			break
		}
		w.batch = append(w.batch, r)
	}
	if err == nil {
		err = w.c.exec("COMMIT")
	}
	if err != nil {
		// SQLite may have rolled back already; then this fails, which is fine.
		_ = w.c.exec("ROLLBACK")
	}
	return err
}

// next returns a waiting request, or nil.
func (w *writer) next() *request {
	for yielded := false; ; {
		select {
		case r, ok := <-w.s.queue:
			if !ok {
				return nil
			}
			if r.state.CompareAndSwap(queued, taken) {
				return r
			}
		default:
			// Callers that were just answered are often about to come back: let them run before syncing for a few.
			if yielded {
				return nil
			}
			runtime.Gosched()
			yielded = true
		}
	}
}

// checkFormat notices that another process changed what the file looks like.
func (w *writer) checkFormat() error {
	var version int64
	err := w.c.query("PRAGMA data_version", func(row []driver.Value) (bool, error) {
		version, _ = row[0].(int64)
		return false, nil
	})
	if err != nil || version == w.version {
		return err
	}
	have, err := w.s.readFormat(w.c)
	switch {
	case err != nil && (errors.Is(err, kv.ErrNewerFormat) || errors.Is(err, kv.ErrCorrupt)):
		w.broken = err
	case err == nil && have != w.format:
		w.broken = fmt.Errorf("%w: %s: another process changed the indexes from %s to %s; restart this one in the other's version",
			kv.ErrNewerFormat, w.s.path, w.format, have)
		err = w.broken
	case err == nil:
		w.version = version
	}
	return err
}

// perform does one request. refused is the request's own error, with nothing written; err is SQLite's, after which the
// transaction must be rolled back.
func (w *writer) perform(r *request) (refused, err error) {
	if r.task != nil {
		return nil, r.task(w)
	}
	if r.token != "" {
		known, err := w.replay(r)
		if known || err != nil {
			return err, nil
		}
	}
	var space [4]change
	changes := space[:0]
	total := 0
	for i, op := range r.ops {
		ch, err := w.try(i, op)
		if err != nil {
			if r.transact {
				err = &kv.CancelError{Op: i, Key: op.ItemKey(), Err: w.s.explain(err)}
			}
			return err, nil
		}
		if op.Kind != kv.OpCheck {
			changes = append(changes, ch)
			if ch.next != nil {
				total += ch.next.Size()
			}
		}
	}
	if r.transact {
		if err := kv.CheckTransactBytes(total); err != nil {
			return err, nil
		}
	}
	for _, ch := range changes {
		if err := w.store(ch); err != nil {
			return nil, err
		}
	}
	if r.token != "" {
		return nil, w.c.exec("INSERT OR REPLACE INTO token(token, print, at) VALUES(?, ?, ?)", blob(r.token), r.print[:], w.s.opts.Now().UnixMilli())
	}
	return nil, nil
}

// change is an item before and after an operation; nil is no item. id is the row of cur.
type change struct {
	cur, next *kv.Item
	id        int64
}

// try tests the i-th operation of a request, writing nothing.
func (w *writer) try(i int, op kv.Op) (change, error) {
	cur, id, err := load(w.c, op.ItemKey())
	if err != nil {
		return change{}, err
	}
	if !op.Cond.Holds(cur) {
		return change{}, kv.FailCondition(i, op.ItemKey(), cur)
	}
	next, err := op.Apply(cur)
	return change{cur, next, id}, err
}

// replay reports whether the request's token was used, and then its answer.
func (w *writer) replay(r *request) (known bool, err error) {
	same := false
	err = w.c.query("SELECT print, at FROM token WHERE token = ?", func(row []driver.Value) (bool, error) {
		print, _ := row[0].([]byte)
		at, _ := row[1].(int64)
		known = w.s.opts.Now().Sub(time.UnixMilli(at)) < kv.TokenMinutes*time.Minute
		same = string(print) == string(r.print[:])
		return false, nil
	}, blob(r.token))
	if err != nil || !known {
		return false, err
	}
	return true, kv.CheckReplay(r.token, same)
}

// store writes a change of an item and of its index entries.
func (w *writer) store(ch change) error {
	cur, next := ch.cur, ch.next
	var err error
	switch {
	case next == nil && cur == nil:
		return nil
	case next == nil:
		err = w.c.exec("DELETE FROM item WHERE id = ?", ch.id)
		w.unsaved += 4096
	default:
		w.buf = encode(w.buf[:0], next)
		w.unsaved += 4096 + int64(len(w.buf))
		var expires any
		if next.ExpiresAt != 0 {
			expires = next.ExpiresAt
		}
		if cur == nil {
			err = w.c.exec("INSERT INTO item(body, expires, pk, sk) VALUES(?, ?, ?, ?)", w.buf, expires, blob(next.PK), blob(next.SK))
		} else {
			err = w.c.exec("UPDATE item SET body = ?, expires = ? WHERE id = ?", w.buf, expires, ch.id)
		}
	}
	for i := 0; err == nil && i < len(w.ix); i++ {
		err = w.index(&w.ix[i], cur, next)
	}
	return err
}

func (w *writer) index(ix *indexSQL, cur, next *kv.Item) error {
	var had, has kv.Key
	var key kv.Key
	if cur != nil {
		had, key = cur.Index[ix.Name], cur.Key
	}
	if next != nil {
		has, key = next.Index[ix.Name], next.Key
	}
	if !had.IsZero() && had != has {
		w.unsaved += 4096
		if err := w.c.exec(ix.remove, blob(had.PK), blob(had.SK), blob(key.PK), blob(key.SK)); err != nil {
			return err
		}
	}
	if has.IsZero() {
		return nil
	}
	after, _ := next.Project(ix.Index)
	sql := ix.insert
	if had == has {
		before, _ := cur.Project(ix.Index)
		if maps.Equal(before.Attrs, after.Attrs) {
			return nil
		}
		sql = ix.update
	}
	after.Index = nil
	w.buf = encode(w.buf[:0], &after)
	w.unsaved += 4096
	return w.c.exec(sql, w.buf, blob(has.PK), blob(has.SK), blob(key.PK), blob(key.SK))
}
