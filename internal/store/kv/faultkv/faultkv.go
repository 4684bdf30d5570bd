// Package faultkv wraps a store with faults that are drawn from a seed: requests that fail before they are done,
// requests that are done and then reported as a timeout, throttling, delays, stale eventual reads, and crash points.
//
// What happens to the n-th call depends on the seed and n alone, so the same order of calls meets the same faults. The
// log of a run can be given back as [Options.Replay], which repeats its faults without the seed.
//
// Put a faultkv above a meterkv, so that the meter counts what the store really did.
package faultkv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/gustflow/gust/internal/store/kv"
)

// Fault is what is done to one call.
type Fault uint8

// The faults. A caller cannot tell FailBefore from TimeoutAfter: both report the same kv.ErrUnavailable.
const (
	None         Fault = iota
	FailBefore         // the request never arrives
	TimeoutAfter       // the request is done, its answer is lost
	Throttle           // kv.ErrThrottled; the request is not done
	Delay              // Options.Delay is called before the request is done
	Stale              // an eventually consistent read returns what the same read returned earlier
)

// String returns the fault's name.
func (f Fault) String() string {
	names := [...]string{"none", "fail before", "timeout after", "throttle", "delay", "stale"}
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("Fault(%d)", uint8(f))
}

// Odds are the probabilities of the faults, from 0 to 1 and together at most 1.
type Odds struct{ FailBefore, TimeoutAfter, Throttle, Delay, Stale float64 }

// Call describes one call of the store, to hooks and in the log.
type Call struct {
	// Seq counts calls from 0.
	Seq int
	// Method is "get", "batch get", "query", "write" or "transact".
	Method string
	// Key is the item's, the first item's, or of a query the partition (and an empty SK).
	Key kv.Key
	// Label is that of the context; see kv.WithLabel.
	Label string
	Fault Fault
}

// Options configure the faults. The zero value injects none.
type Options struct {
	Seed uint64
	// Read is for Get, BatchGet and Query; Write for Write; Transact for Transact. Stale only concerns reads.
	Read, Write, Transact Odds
	// Odds, when set, decides per call instead of the three above; it must depend on the call alone.
	Odds func(Call) Odds
	// Delay is called for a delayed request, before it is done, with no lock held: it may sleep on a fake clock, or wait
	// for another call, which reorders them. Default: nothing.
	Delay func(context.Context, Call)
	// Before and After are called around every call that reaches the store; After also sees its result. They may panic,
	// which simulates the death of the process at that point: before the request, or after it with the answer lost.
	Before func(Call)
	After  func(Call, error)
	// StaleWrites is the age, in writes through this wrapper, up to which an earlier answer may be served as stale;
	// default 8.
	StaleWrites int
	// Replay, when not nil, gives the fault of each call by Seq, instead of the seed; calls beyond its end have none.
	Replay []Call
}

// Store is a [kv.Driver] with faults.
type Store struct {
	inner kv.Driver
	opts  Options

	mu     sync.Mutex
	log    []Call
	paused bool
	writes int
	items  map[kv.Key]answer[kv.Item]
	pages  map[kv.Query]answer[kv.Page]
}

type answer[T any] struct {
	value  T
	err    error
	writes int
}

var _ kv.Driver = (*Store)(nil)

// New wraps inner, which Close closes too. It panics when a probability is out of range.
func New(inner kv.Driver, opts Options) *Store {
	for _, o := range []Odds{opts.Read, opts.Write, opts.Transact} {
		o.check()
	}
	if opts.StaleWrites <= 0 {
		opts.StaleWrites = 8
	}
	return &Store{inner: inner, opts: opts, items: map[kv.Key]answer[kv.Item]{}, pages: map[kv.Query]answer[kv.Page]{}}
}

func (o Odds) check() {
	sum := 0.0
	for _, p := range []float64{o.FailBefore, o.TimeoutAfter, o.Throttle, o.Delay, o.Stale} {
		if p < 0 {
			panic(fmt.Sprintf("faultkv: probability %v; it is 0 to 1", p))
		}
		sum += p
	}
	if sum > 1+1e-9 {
		panic(fmt.Sprintf("faultkv: the probabilities of one operation add up to %v; at most 1", sum))
	}
}

// Log returns every call so far with the fault it met, in order.
func (s *Store) Log() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.log...)
}

// Pause stops (or with false resumes) injecting faults, for the checks at the end of a test. Calls are still logged.
func (s *Store) Pause(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = on
}

// begin numbers the call and draws its fault.
func (s *Store) begin(ctx context.Context, method string, key kv.Key, odds Odds, staleable bool) Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Call{Seq: len(s.log), Method: method, Key: key, Label: kv.Label(ctx)}
	switch {
	case s.paused:
	case s.opts.Replay != nil:
		if c.Seq < len(s.opts.Replay) {
			c.Fault = s.opts.Replay[c.Seq].Fault
		}
	default:
		if s.opts.Odds != nil {
			odds = s.opts.Odds(c)
			odds.check()
		}
		c.Fault = odds.draw(rand.New(rand.NewPCG(s.opts.Seed, uint64(c.Seq))).Float64())
	}
	if c.Fault == Stale && !staleable {
		c.Fault = None
	}
	s.log = append(s.log, c)
	return c
}

func (o Odds) draw(x float64) Fault {
	for _, f := range []struct {
		p float64
		f Fault
	}{{o.FailBefore, FailBefore}, {o.TimeoutAfter, TimeoutAfter}, {o.Throttle, Throttle}, {o.Delay, Delay}, {o.Stale, Stale}} {
		if x < f.p {
			return f.f
		}
		x -= f.p
	}
	return None
}

// do runs one call under its fault.
func (s *Store) do(ctx context.Context, c Call, f func() error) error {
	switch c.Fault {
	case FailBefore:
		return s.lost(c)
	case Throttle:
		return kv.Wrap(c.Method, c.Key, fmt.Errorf("%w: injected into call %d", kv.ErrThrottled, c.Seq))
	case Delay:
		if s.opts.Delay != nil {
			s.opts.Delay(ctx, c)
		}
	}
	if s.opts.Before != nil {
		s.opts.Before(c)
	}
	err := f()
	if s.opts.After != nil {
		s.opts.After(c, err)
	}
	if c.Fault == TimeoutAfter {
		return s.lost(c)
	}
	return err
}

func (s *Store) lost(c Call) error {
	return kv.Wrap(c.Method, c.Key, fmt.Errorf("%w: no answer to call %d (injected)", kv.ErrUnavailable, c.Seq))
}

// Get implements [kv.Driver].
func (s *Store) Get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	c := s.begin(ctx, "get", key, s.opts.Read, !consistent)
	if c.Fault == Stale {
		if a, ok := recall(s, s.items, key); ok {
			return a.value.Clone(), a.err
		}
	}
	var it kv.Item
	err := s.do(ctx, c, func() (err error) {
		it, err = s.inner.Get(ctx, key, consistent)
		if !kv.Retryable(err) {
			remember(s, s.items, key, it.Clone(), err)
		}
		return err
	})
	if err != nil {
		return kv.Item{}, err
	}
	return it, nil
}

// BatchGet implements [kv.Driver].
func (s *Store) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	var first kv.Key
	if len(keys) > 0 {
		first = keys[0]
	}
	var out map[kv.Key]kv.Item
	err := s.do(ctx, s.begin(ctx, "batch get", first, s.opts.Read, false), func() (err error) {
		out, err = s.inner.BatchGet(ctx, keys, consistent)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Query implements [kv.Driver].
func (s *Store) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	c := s.begin(ctx, "query", kv.Key{PK: q.PK}, s.opts.Read, !q.Consistent)
	if c.Fault == Stale {
		if a, ok := recall(s, s.pages, q); ok {
			return clonePage(a.value), a.err
		}
	}
	var page kv.Page
	err := s.do(ctx, c, func() (err error) {
		page, err = s.inner.Query(ctx, q)
		if err == nil {
			remember(s, s.pages, q, clonePage(page), nil)
		}
		return err
	})
	if err != nil {
		return kv.Page{}, err
	}
	return page, nil
}

func clonePage(p kv.Page) kv.Page {
	items := make([]kv.Item, len(p.Items))
	for i, it := range p.Items {
		items[i] = it.Clone()
	}
	p.Items = items
	return p
}

func remember[K comparable, T any](s *Store, m map[K]answer[T], k K, v T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// An answer is kept until it is too old, so that a later one does not make the reads fresh again at once.
	if a, ok := m[k]; !ok || s.writes-a.writes > s.opts.StaleWrites {
		m[k] = answer[T]{v, err, s.writes}
	}
}

func recall[K comparable, T any](s *Store, m map[K]answer[T], k K) (answer[T], bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := m[k]
	return a, ok && s.writes-a.writes <= s.opts.StaleWrites
}

// Write implements [kv.Driver].
func (s *Store) Write(ctx context.Context, op kv.Op) error {
	return s.do(ctx, s.begin(ctx, "write", op.ItemKey(), s.opts.Write, false), func() error {
		s.countWrites(1)
		return s.inner.Write(ctx, op)
	})
}

// Transact implements [kv.Driver].
func (s *Store) Transact(ctx context.Context, token string, ops []kv.Op) error {
	var first kv.Key
	if len(ops) > 0 {
		first = ops[0].ItemKey()
	}
	return s.do(ctx, s.begin(ctx, "transact", first, s.opts.Transact, false), func() error {
		s.countWrites(len(ops))
		return s.inner.Transact(ctx, token, ops)
	})
}

func (s *Store) countWrites(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes += n
}

// Limits implements [kv.Driver].
func (s *Store) Limits() kv.Limits { return s.inner.Limits() }

// Close implements [kv.Driver]; no faults here.
func (s *Store) Close() error { return s.inner.Close() }
