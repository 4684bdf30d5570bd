package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// What schedulers without a memory of their own share: limits across runs, due
// times and watchers. A scheduler that is up all the time keeps these in memory
// and writes none of it.

// Kinds of these partitions.
const (
	kindSlots   = "SLOTS"
	kindRunning = "RUNNING"
	kindDue     = "DUE"
	kindWatch   = "WATCH"
)

// prefetched are items that were read together ahead of their use.
type prefetched struct {
	mu         sync.Mutex
	items      map[kv.Key]*kv.Item // nil: the item does not exist
	eventually bool
}

type prefetchKey struct{}

// Prefetch names what a step will read.
type Prefetch struct {
	Runs []RunKey                  // INFO and META
	Dags []airflow.DagID           // DAG models
	TIs  []airflow.TaskInstanceKey // rows
	// Leases are wide runs whose lease is read.
	Leases []RunKey
	// Eventually takes half the units for items that may be out of date by a moment.
	// Only who finds that out, by a conditional write on what was read, may ask for
	// it; Current leads to the items as they are.
	Eventually bool
}

// Prefetch reads items with one request instead of one after the other. Reads
// with the returned context take them, each once: who reads an item again sees
// the store.
func (s *Store) Prefetch(ctx context.Context, p Prefetch) (context.Context, error) {
	var keys []kv.Key
	seen := map[kv.Key]bool{}
	add := func(k kv.Key) {
		if !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	for _, r := range p.Runs {
		add(infoKey(r))
		add(metaKey(r))
	}
	for _, d := range p.Dags {
		add(kv.Key{PK: dagPK(d), SK: skMeta})
	}
	for _, k := range p.TIs {
		add(rowKey(k))
	}
	for _, r := range p.Leases {
		add(leaseKey(r))
	}
	items, err := s.kv.BatchGet(ctx, keys, !p.Eventually)
	if err != nil {
		return ctx, translate(err)
	}
	pf := &prefetched{items: make(map[kv.Key]*kv.Item, len(keys)), eventually: p.Eventually}
	for _, k := range keys {
		pf.items[k] = nil
		if it, ok := items[k]; ok {
			pf.items[k] = &it
		}
	}
	return context.WithValue(ctx, prefetchKey{}, pf), nil
}

// Eventually reports whether reads with a context may take items that were
// prefetched eventually.
func Eventually(ctx context.Context) bool {
	pf, _ := ctx.Value(prefetchKey{}).(*prefetched)
	return pf != nil && pf.eventually
}

// Current returns a context with which reads see the store where ctx has items
// that were prefetched eventually; otherwise ctx.
func Current(ctx context.Context) context.Context {
	if !Eventually(ctx) {
		return ctx
	}
	return context.WithValue(ctx, prefetchKey{}, (*prefetched)(nil))
}

// PrefetchedVersion returns the version of a run's state as it was prefetched, 0
// if it has none; known is false if it was not prefetched or was read since.
func (s *Store) PrefetchedVersion(ctx context.Context, k RunKey) (version int64, known bool) {
	pf, _ := ctx.Value(prefetchKey{}).(*prefetched)
	if pf == nil {
		return 0, false
	}
	pf.mu.Lock()
	defer pf.mu.Unlock()
	it, known := pf.items[metaKey(k)]
	if it == nil {
		return 0, known
	}
	return it.Int(attrVersion), known
}

// get reads an item, from what was prefetched if it is there.
func (s *Store) get(ctx context.Context, key kv.Key) (kv.Item, error) {
	if pf, _ := ctx.Value(prefetchKey{}).(*prefetched); pf != nil {
		pf.mu.Lock()
		it, have := pf.items[key]
		delete(pf.items, key)
		pf.mu.Unlock()
		switch {
		case have && it == nil:
			return kv.Item{}, kv.Wrap("Get", key, kv.ErrNotFound)
		case have:
			return *it, nil
		}
	}
	return s.kv.Get(ctx, key, true)
}

// record is a document with the version that its next write is conditioned on.
func (s *Store) record(ctx context.Context, key kv.Key, dst any) (version int64, err error) {
	it, err := s.getDoc(ctx, key, dst)
	if isNotFound(err) {
		return 0, nil
	}
	return it.Int(attrVersion), err
}

// putRecord writes a document that was read at version base; ErrConflict if
// somebody else wrote it meanwhile.
func (s *Store) putRecord(ctx context.Context, key kv.Key, base int64, v any, index map[kv.IndexName]kv.Key) error {
	cond := kv.Eq(attrVersion, kv.Int(base))
	if base == 0 {
		cond = kv.NotExists()
	}
	return translate(s.kv.Write(ctx, kv.Put(versioned(key, marshal(v), base+1, index), cond)))
}

// GetSlots reads the ledger of a limit across runs into dst. A ledger that does
// not exist leaves dst alone and has version 0.
func (s *Store) GetSlots(ctx context.Context, name string, dst any) (version int64, err error) {
	return s.record(ctx, namedKey(kindSlots, name), dst)
}

// PutSlots writes a ledger that was read at version base: ErrConflict if it has
// changed since.
func (s *Store) PutSlots(ctx context.Context, name string, base int64, ledger any) error {
	return s.putRecord(ctx, namedKey(kindSlots, name), base, ledger, listed(kindSlots, joinKey(name)))
}

// ListSlots lists the names of all ledgers.
func (s *Store) ListSlots(ctx context.Context) ([]string, error) {
	names, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindSlots), ListOptions{}, func(it kv.Item) (string, error) {
		return splitKey(it.PK)[1], nil
	})
	return names, err
}

// RunningRun is a run that holds a slot among its DAG's running ones.
type RunningRun struct {
	RunID      airflow.RunID `json:"r"`
	BackfillID int64         `json:"b,omitempty"`
}

// GetRunning returns the runs of a DAG that were given a slot; some may have ended.
func (s *Store) GetRunning(ctx context.Context, dag airflow.DagID) (runs []RunningRun, version int64, err error) {
	version, err = s.record(ctx, namedKey(kindRunning, string(dag)), &runs)
	return runs, version, err
}

// PutRunning replaces the list that was read at version base, or ErrConflict.
func (s *Store) PutRunning(ctx context.Context, dag airflow.DagID, base int64, runs []RunningRun) error {
	return s.putRecord(ctx, namedKey(kindRunning, string(dag)), base, runs, nil)
}

// dueShards spreads the due items of a minute over partitions.
const dueShards = 2

func dueKey(at time.Time, k RunKey) kv.Key {
	shard := digest(nil, [][]byte{[]byte(k.String())}, []int{0}) & (dueShards - 1)
	return kv.Key{PK: duePK(at, int(shard)), SK: joinKey(string(k.DagID), string(k.RunID))}
}

func duePK(at time.Time, shard int) string {
	return joinKey(kindDue, at.UTC().Format("2006-01-02T15:04"), fmt.Sprint(shard))
}

type dueDoc struct {
	At time.Time `json:"at"`
}

// DueRun is a run that wants to be looked at at a time.
type DueRun struct {
	Run RunKey
	At  time.Time
}

// PutDue records that a run wants to be looked at at a time. A later time in the
// same minute replaces an earlier one only if nothing lies in between for the
// run: who looks too early finds out and asks again.
func (s *Store) PutDue(ctx context.Context, k RunKey, at time.Time) error {
	it := entity(dueKey(at, k), marshal(dueDoc{at.UTC()}), nil)
	it.ExpiresAt = at.Add(30 * 24 * time.Hour).Unix()
	return s.putEarliest(ctx, it, at)
}

// putEarliest writes a due item unless an earlier time is there.
func (s *Store) putEarliest(ctx context.Context, it kv.Item, at time.Time) error {
	it.Attrs[attrBeat] = kv.Int(at.UnixMilli())
	err := s.kv.Write(ctx, kv.Put(it, kv.Or(kv.NotExists(), kv.Gt(attrBeat, kv.Int(at.UnixMilli())))))
	if errors.Is(err, kv.ErrConditionFailed) {
		return nil
	}
	return translate(err)
}

// ListDue lists the runs that are due in the minute of at.
func (s *Store) ListDue(ctx context.Context, at time.Time) ([]DueRun, error) {
	var out []DueRun
	for shard := range dueShards {
		ds, err := listPartition(ctx, s, duePK(at, shard), kv.Range{}, func(it kv.Item) (DueRun, error) {
			var d dueDoc
			err := decode(it, &d)
			k := splitKey(it.SK)
			return DueRun{Run: RunKey{airflow.DagID(k[0]), airflow.RunID(k[1])}, At: d.At}, err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, ds...)
	}
	return out, nil
}

// DeleteDue removes a due item; absent is fine.
func (s *Store) DeleteDue(ctx context.Context, d DueRun) error {
	return translate(s.kv.Write(ctx, kv.Delete(dueKey(d.At, d.Run), kv.Cond{})))
}

// TickState is what one tick leaves to the next.
type TickState struct {
	// Due is the last minute whose due items were handed on.
	Due time.Time `json:"due"`
	// FanOut is how far due DAGs were, while there are many.
	FanOut FanOut `json:"fan_out,omitzero"`
	// Swept is where the last tick stopped in the list of unfinished runs (ActivePage),
	// while there are more than one tick looks at.
	Swept string `json:"swept,omitempty"`
}

// GetTickState returns what the last tick left; the zero value before the first.
func (s *Store) GetTickState(ctx context.Context) (t TickState, version int64, err error) {
	version, err = s.record(ctx, namedKey(kindDue, "tick"), &t)
	return t, version, err
}

// PutTickState replaces the state read at version base, or ErrConflict.
func (s *Store) PutTickState(ctx context.Context, base int64, t TickState) error {
	return s.putRecord(ctx, namedKey(kindDue, "tick"), base, t, nil)
}

// Watch is a deferred instance that waits for runs of another DAG.
type Watch struct {
	Run         RunKey                  `json:"-"`
	TI          airflow.TaskInstanceKey `json:"ti"`
	DispatchSeq uint32                  `json:"dispatch_seq"`
}

func watchKey(dag airflow.DagID, w Watch) kv.Key {
	return kv.Key{PK: joinKey(kindWatch, string(dag)), SK: joinKey(string(w.TI.DagID), string(w.TI.RunID), string(w.TI.TaskID), fmt.Sprint(w.TI.MapIndex))}
}

// PutWatch makes the end of every run of dag wake an instance.
func (s *Store) PutWatch(ctx context.Context, dag airflow.DagID, w Watch, until time.Time) error {
	it := entity(watchKey(dag, w), marshal(w), nil)
	it.ExpiresAt = until.Unix()
	return translate(s.kv.Write(ctx, kv.Put(it, kv.Cond{})))
}

// ListWatches lists who waits for runs of a DAG.
func (s *Store) ListWatches(ctx context.Context, dag airflow.DagID) ([]Watch, error) {
	return listPartition(ctx, s, joinKey(kindWatch, string(dag)), kv.Range{}, func(it kv.Item) (Watch, error) {
		var w Watch
		err := decode(it, &w)
		w.Run = RunKey{w.TI.DagID, w.TI.RunID}
		return w, err
	})
}

// DeleteWatch forgets who waited; absent is fine.
func (s *Store) DeleteWatch(ctx context.Context, dag airflow.DagID, w Watch) error {
	return translate(s.kv.Write(ctx, kv.Delete(watchKey(dag, w), kv.Cond{})))
}
