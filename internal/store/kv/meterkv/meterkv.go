// Package meterkv wraps a store and counts what DynamoDB would bill for the same calls, by the label of the context
// ([kv.WithLabel]). The cost tests use it on any driver.
//
// The rules, for an on-demand table (sizes are those of kv.Item.Size; every item or entry is rounded up by itself):
//
//   - a write takes one unit per KB of the larger of the item before and after, at least one, whether its condition
//     holds or not; in a transaction twice that, checks included, also when it is cancelled;
//   - each index takes one unit per KB of its entry when the entry appears, vanishes or an included attribute changes,
//     two (a delete and a put) when the index key changes, and none otherwise; not doubled in a transaction;
//   - a consistent read takes one unit per 4 KB, an eventual one half; an absent item or an empty page counts as 4 KB;
//     BatchGet rounds each item up, a query the sum of its page;
//   - repeating a transaction that was applied, with its token, takes read units for its items, doubled.
//
// To know the sizes before a write, the meter reads the item first and lets one write at a time through: it is for
// tests, not for production.
package meterkv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/gustflow/gust/internal/store/kv"
)

// Counts is what was used.
type Counts struct {
	// Calls counts requests to the service by method: "get", "batch get", "query", "write", "transact". A BatchGet of
	// more than 100 keys is several.
	Calls map[string]int64
	// ReadUnits and WriteUnits are of the table; IndexWriteUnits of all indexes (reads of an index are in ReadUnits).
	ReadUnits, WriteUnits, IndexWriteUnits float64
	// BytesRead and BytesWritten are sizes of items returned, and of items as they are after a write.
	BytesRead, BytesWritten int64
	// Refused counts writes and transactions whose condition failed; they are in the other figures too.
	Refused int64
}

// TotalWriteUnits is the write units of the table and its indexes.
func (c Counts) TotalWriteUnits() float64 { return c.WriteUnits + c.IndexWriteUnits }

// TotalCalls is the number of requests.
func (c Counts) TotalCalls() int64 {
	var n int64
	for _, v := range c.Calls {
		n += v
	}
	return n
}

func (c *Counts) add(d Counts) {
	if c.Calls == nil {
		c.Calls = map[string]int64{}
	}
	for m, n := range d.Calls {
		c.Calls[m] += n
	}
	c.ReadUnits += d.ReadUnits
	c.WriteUnits += d.WriteUnits
	c.IndexWriteUnits += d.IndexWriteUnits
	c.BytesRead += d.BytesRead
	c.BytesWritten += d.BytesWritten
	c.Refused += d.Refused
}

// Store is a [kv.Driver] that counts.
type Store struct {
	inner  kv.Driver
	schema kv.Schema
	wmu    sync.Mutex // one write at a time

	mu         sync.Mutex
	byLabel    map[string]*Counts
	partitions map[string]float64
	tokens     map[string]bool
}

var _ kv.Driver = (*Store)(nil)

// New wraps inner, which Close closes too.
func New(inner kv.Driver) *Store {
	s := &Store{inner: inner, schema: inner.Limits().Schema, tokens: map[string]bool{}}
	s.Reset()
	return s
}

// Reset sets every figure to zero.
func (s *Store) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byLabel, s.partitions = map[string]*Counts{}, map[string]float64{}
}

// ByLabel returns the figures since the last Reset by label; calls without one are under "".
func (s *Store) ByLabel() map[string]Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]Counts, len(s.byLabel))
	for label, c := range s.byLabel {
		var sum Counts
		sum.add(*c)
		out[label] = sum
	}
	return out
}

// Total returns the sum over all labels.
func (s *Store) Total() Counts {
	var sum Counts
	for _, c := range s.ByLabel() {
		sum.add(c)
	}
	return sum
}

// PartitionWrites returns the write units by partition of the table, and of each index as "gsi1:<PK>". One partition
// takes about 1,000 units a second.
func (s *Store) PartitionWrites() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.partitions)
}

// String renders the figures as a table.
func (s *Store) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "label\tcalls\tread units\twrite units\tindex units\trefused\tbytes read\tbytes written\t")
	by := s.ByLabel()
	for _, label := range slices.Sorted(maps.Keys(by)) {
		c := by[label]
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.0f\t%.0f\t%d\t%d\t%d\t\n", label, c.TotalCalls(), c.ReadUnits, c.WriteUnits, c.IndexWriteUnits,
			c.Refused, c.BytesRead, c.BytesWritten)
	}
	_ = w.Flush()
	return b.String()
}

func (s *Store) count(ctx context.Context, method string, calls int, c Counts) {
	c.Calls = map[string]int64{method: int64(calls)}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.byLabel[kv.Label(ctx)]
	if sum == nil {
		sum = &Counts{}
		s.byLabel[kv.Label(ctx)] = sum
	}
	sum.add(c)
}

// units is the number of started blocks of size block in n bytes, at least one.
func units(n, block int) float64 { return float64(max(1, (n+block-1)/block)) }

func readUnits(n int, consistent bool) float64 {
	u := units(n, 4096)
	if !consistent {
		u /= 2
	}
	return u
}

// Get implements [kv.Driver].
func (s *Store) Get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	it, err := s.inner.Get(ctx, key, consistent)
	switch {
	case err == nil:
		s.count(ctx, "get", 1, Counts{ReadUnits: readUnits(it.Size(), consistent), BytesRead: int64(it.Size())})
	case errors.Is(err, kv.ErrNotFound):
		s.count(ctx, "get", 1, Counts{ReadUnits: readUnits(0, consistent)})
	}
	return it, err
}

// BatchGet implements [kv.Driver].
func (s *Store) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	out, err := s.inner.BatchGet(ctx, keys, consistent)
	if err == nil {
		var c Counts
		distinct := map[kv.Key]bool{}
		for _, k := range keys {
			if distinct[k] {
				continue
			}
			distinct[k] = true
			n := 0
			if it, ok := out[k]; ok {
				n = it.Size()
			}
			c.ReadUnits += readUnits(n, consistent)
			c.BytesRead += int64(n)
		}
		per := s.inner.Limits().BatchGetKeys
		s.count(ctx, "batch get", (len(distinct)+per-1)/per, c)
	}
	return out, err
}

// Query implements [kv.Driver].
func (s *Store) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	page, err := s.inner.Query(ctx, q)
	if err == nil {
		n := 0
		for _, it := range page.Items {
			n += it.Size()
		}
		s.count(ctx, "query", 1, Counts{ReadUnits: readUnits(n, q.Consistent), BytesRead: int64(n)})
	}
	return page, err
}

// Write implements [kv.Driver].
func (s *Store) Write(ctx context.Context, op kv.Op) error {
	return s.write(ctx, "write", []kv.Op{op}, 1, func() error { return s.inner.Write(ctx, op) })
}

// Transact implements [kv.Driver].
func (s *Store) Transact(ctx context.Context, token string, ops []kv.Op) error {
	err := s.write(ctx, "transact", ops, 2, func() error { return s.inner.Transact(ctx, token, ops) }, token)
	return err
}

func (s *Store) write(ctx context.Context, method string, ops []kv.Op, factor float64, do func() error, token ...string) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	before := make([]*kv.Item, len(ops))
	for i, op := range ops {
		it, err := s.inner.Get(ctx, op.ItemKey(), true)
		switch {
		case err == nil:
			before[i] = &it
		case errors.Is(err, kv.ErrNotFound), errors.Is(err, kv.ErrInvalid): // the store says what is wrong with it
		default:
			return err
		}
	}
	err := do()
	refused := errors.Is(err, kv.ErrConditionFailed)
	if err != nil && !refused {
		return err // not billed
	}
	var c Counts
	replayed := len(token) == 1 && token[0] != "" && s.tokens[token[0]]
	if err == nil && len(token) == 1 && token[0] != "" {
		s.tokens[token[0]] = true
	}
	parts := map[string]float64{}
	for i, op := range ops {
		if replayed {
			c.ReadUnits += 2 * readUnits(size(before[i]), true)
			continue
		}
		after := before[i]
		if err == nil {
			if after, err = op.Apply(before[i]); err != nil {
				return fmt.Errorf("meterkv: the store applied what cannot be: %w", err)
			}
		}
		u := factor * units(max(size(before[i]), size(after)), 1024)
		c.WriteUnits += u
		parts[op.ItemKey().PK] += u
		if refused || op.Kind == kv.OpCheck {
			continue
		}
		c.BytesWritten += int64(size(after))
		for _, ix := range s.schema.Indexes {
			u, pk := indexUnits(ix, before[i], after)
			c.IndexWriteUnits += u
			if u > 0 {
				parts[string(ix.Name)+":"+pk] += u
			}
		}
	}
	if refused {
		c.Refused++
	}
	s.count(ctx, method, 1, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	for pk, u := range parts {
		s.partitions[pk] += u
	}
	return err
}

func size(it *kv.Item) int {
	if it == nil {
		return 0
	}
	return it.Size()
}

// indexUnits returns the write units that a change of an item takes in one index, and the index partition.
func indexUnits(ix kv.Index, before, after *kv.Item) (float64, string) {
	var had, has kv.Key
	var old, now kv.Item
	oldSize, nowSize := 0, 0
	if before != nil {
		had, oldSize = before.Index[ix.Name], before.ProjectedSize(ix)
		old, _ = before.Project(ix)
	}
	if after != nil {
		has, nowSize = after.Index[ix.Name], after.ProjectedSize(ix)
		now, _ = after.Project(ix)
	}
	switch {
	case had.IsZero() && has.IsZero():
		return 0, ""
	case had.IsZero():
		return units(nowSize, 1024), has.PK
	case has.IsZero():
		return units(oldSize, 1024), had.PK
	case had != has:
		return units(oldSize, 1024) + units(nowSize, 1024), has.PK
	case old.Equal(now):
		return 0, ""
	}
	return units(max(oldSize, nowSize), 1024), has.PK
}

// Limits implements [kv.Driver].
func (s *Store) Limits() kv.Limits { return s.inner.Limits() }

// Close implements [kv.Driver].
func (s *Store) Close() error { return s.inner.Close() }
