// Package memkv keeps items in memory: for tests, simulations and throw-away servers. Nothing survives the process.
//
// It enforces DynamoDB's limits and page sizes. By default every read is up to date; [Options] makes index queries and
// eventually consistent reads lag behind, so that code which must not depend on them can be shown not to.
package memkv

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

// Options configure a store. The zero value is a good default.
type Options struct {
	// Schema is the indexes; default [kv.DefaultSchema].
	Schema kv.Schema
	// IndexLag is the number of item changes by which index queries are behind the table; default 0.
	IndexLag int
	// ReadLag is the number of item changes by which reads of the table without Consistent are behind; default 0.
	ReadLag int
	// Now is the clock for forgetting transaction tokens; default time.Now.
	Now func() time.Time
}

// Store is a [kv.Driver] in memory.
type Store struct {
	opts   Options
	mu     sync.RWMutex
	closed bool
	live   *state
	reads  *replica // what eventually consistent reads of the table see
	index  *replica // what index queries see
	tokens map[string]token
	purged time.Time
}

var _ kv.Driver = (*Store)(nil)

type token struct {
	ops [32]byte
	at  time.Time
}

// New returns an empty store.
func New(opts Options) *Store {
	if opts.Schema.Indexes == nil {
		opts.Schema = kv.DefaultSchema()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Store{opts: opts, live: newState(opts.Schema), tokens: map[string]token{}}
	s.reads = newReplica(s.live, opts.ReadLag)
	s.index = newReplica(s.live, opts.IndexLag)
	return s
}

// Get implements [kv.Driver].
func (s *Store) Get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	if err := errors.Join(kv.CheckContext(ctx), kv.CheckKey(key)); err != nil {
		return kv.Item{}, kv.Wrap("get", key, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return kv.Item{}, kv.Wrap("get", key, kv.ErrClosed)
	}
	it := s.table(consistent).get(key)
	if it == nil {
		return kv.Item{}, kv.Wrap("get", key, kv.ErrNotFound)
	}
	return it.Clone(), nil
}

// BatchGet implements [kv.Driver].
func (s *Store) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	if err := kv.CheckContext(ctx); err != nil {
		return nil, kv.Wrap("batch get", kv.Key{}, err)
	}
	for _, k := range keys {
		if err := kv.CheckKey(k); err != nil {
			return nil, kv.Wrap("batch get", k, err)
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, kv.Wrap("batch get", kv.Key{}, kv.ErrClosed)
	}
	out := make(map[kv.Key]kv.Item, len(keys))
	for _, k := range keys {
		if it := s.table(consistent).get(k); it != nil {
			out[k] = it.Clone()
		}
	}
	return out, nil
}

// Query implements [kv.Driver].
func (s *Store) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	key := kv.Key{PK: q.PK}
	if err := kv.CheckContext(ctx); err != nil {
		return kv.Page{}, kv.Wrap("query", key, err)
	}
	after, err := s.opts.Schema.CheckQuery(q)
	if err != nil {
		return kv.Page{}, kv.Wrap("query", key, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return kv.Page{}, kv.Wrap("query", key, kv.ErrClosed)
	}
	if q.Index == "" {
		return s.table(q.Consistent).query(q, after), nil
	}
	return s.index.state.query(q, after), nil
}

// Write implements [kv.Driver].
func (s *Store) Write(ctx context.Context, op kv.Op) error {
	return kv.Wrap(op.Kind.String(), op.ItemKey(), s.write(ctx, op))
}

func (s *Store) write(ctx context.Context, op kv.Op) error {
	if err := errors.Join(kv.CheckContext(ctx), s.opts.Schema.CheckWrite(op)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	next, err := s.try(0, op)
	if err != nil {
		return err
	}
	s.apply(op.ItemKey(), next)
	return nil
}

// Transact implements [kv.Driver].
func (s *Store) Transact(ctx context.Context, token string, ops []kv.Op) error {
	return kv.Wrap("transact", kv.Key{}, s.transact(ctx, token, ops))
}

func (s *Store) transact(ctx context.Context, tok string, ops []kv.Op) error {
	if err := errors.Join(kv.CheckContext(ctx), s.opts.Schema.CheckTransact(tok, ops)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	now := s.opts.Now()
	var print [32]byte
	if tok != "" {
		print = kv.Fingerprint(ops)
		if t, ok := s.tokens[tok]; ok && now.Sub(t.at) < kv.TokenMinutes*time.Minute {
			return kv.CheckReplay(tok, t.ops == print)
		}
	}
	next := make([]*kv.Item, len(ops))
	total := 0
	for i, op := range ops {
		it, err := s.try(i, op)
		if err != nil {
			return &kv.CancelError{Op: i, Key: op.ItemKey(), Err: err}
		}
		next[i] = it
		if it != nil && op.Kind != kv.OpCheck {
			total += it.Size()
		}
	}
	if err := kv.CheckTransactBytes(total); err != nil {
		return err
	}
	for i, op := range ops {
		if op.Kind != kv.OpCheck {
			s.apply(op.ItemKey(), next[i])
		}
	}
	if tok != "" {
		s.forgetTokens(now)
		s.tokens[tok] = token{ops: print, at: now}
	}
	return nil
}

// try returns the item after op, which is the i-th of its transaction, without changing anything.
func (s *Store) try(i int, op kv.Op) (*kv.Item, error) {
	cur := s.live.get(op.ItemKey())
	if !op.Cond.Holds(cur) {
		return nil, kv.FailCondition(i, op.ItemKey(), cur)
	}
	return op.Apply(cur)
}

func (s *Store) apply(key kv.Key, next *kv.Item) {
	s.live.set(key, next)
	s.reads.push(key, next)
	s.index.push(key, next)
}

func (s *Store) table(consistent bool) *state {
	if consistent {
		return s.live
	}
	return s.reads.state
}

func (s *Store) forgetTokens(now time.Time) {
	const age = kv.TokenMinutes * time.Minute
	if now.Sub(s.purged) < age {
		return
	}
	s.purged = now
	for k, t := range s.tokens {
		if now.Sub(t.at) >= age {
			delete(s.tokens, k)
		}
	}
}

// Settle makes lagging reads catch up with everything written so far.
func (s *Store) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads.advance(0)
	s.index.advance(0)
}

// Collect removes the items that expired at or before now (Unix seconds) and returns how many.
func (s *Store) Collect(now int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []kv.Key
	for _, l := range s.live.table {
		for _, e := range l {
			if e.item.ExpiresAt != 0 && e.item.ExpiresAt <= now {
				gone = append(gone, e.item.Key)
			}
		}
	}
	for _, k := range gone {
		s.apply(k, nil)
	}
	return len(gone)
}

// Limits implements [kv.Driver].
func (s *Store) Limits() kv.Limits { return kv.DefaultLimits(s.opts.Schema) }

// Close implements [kv.Driver]. The content is gone.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.live, s.reads, s.index, s.tokens = newState(s.opts.Schema), nil, nil, nil
	return nil
}
