package kv

import (
	"context"
	"fmt"
)

// Driver is what a store of items must do. All methods may be called concurrently. Every method returns [ErrClosed]
// after Close, the context's error when it has ended, and [ErrInvalid] for a request outside the limits below, on every
// driver alike.
type Driver interface {
	// Get returns the item under key, or [ErrNotFound]. With consistent it sees every acknowledged write.
	Get(ctx context.Context, key Key, consistent bool) (Item, error)

	// BatchGet returns the items that exist among keys, any number of them; duplicates are read once. A key that is
	// not in the result does not exist: a driver that could not read some of the keys retries them, and fails as a
	// whole when that does not help. The items are not one snapshot.
	BatchGet(ctx context.Context, keys []Key, consistent bool) (map[Key]Item, error)

	// Query returns one page of a partition of the table or of an index, in order of SK. Index entries with equal SK
	// come in an unspecified order that does not change.
	Query(ctx context.Context, q Query) (Page, error)

	// Write does one operation (not OpCheck) when its condition holds: the cheap, hot path. A failed condition is a
	// [*ConditionFailedError].
	Write(ctx context.Context, op Op) error

	// Transact does all operations or none, at most [MaxTransactOps], no two on one item. A [*CancelError] names the
	// first one that could not be done. A non-empty token (at most [MaxTokenBytes]) makes it idempotent for
	// [TokenMinutes]: repeating a transaction that was applied succeeds without applying it again; the same token with
	// other operations is [ErrInvalid]. A transaction that was not applied leaves its token unused.
	Transact(ctx context.Context, token string, ops []Op) error

	// Limits returns the limits that this driver enforces, and the schema it was opened with.
	Limits() Limits

	// Close waits for calls in progress and releases everything. A second Close does nothing.
	Close() error
}

// Limits that hold on every driver, because they hold on DynamoDB.
const (
	MaxPKBytes       = 2048
	MaxSKBytes       = 1024
	MaxAttrNameBytes = 255
	MaxItemBytes     = 400 << 10 // counted as Item.Size does
	MaxTransactOps   = 100
	MaxTransactBytes = 4 << 20
	MaxTokenBytes    = 36
	TokenMinutes     = 10
	MaxPageBytes     = 1 << 20
	MaxCondTerms     = 100
)

// Limits describes a driver to code that plans around it.
type Limits struct {
	MaxItemBytes     int
	MaxTransactOps   int
	MaxTransactBytes int
	// BatchGetKeys is the number of keys one round trip of BatchGet can carry; more make several.
	BatchGetKeys int
	// Durable is whether an acknowledged write survives the death of the process.
	Durable bool
	Schema  Schema
}

// DefaultLimits returns the limits of DynamoDB, which the other drivers enforce too.
func DefaultLimits(s Schema) Limits {
	return Limits{MaxItemBytes: MaxItemBytes, MaxTransactOps: MaxTransactOps, MaxTransactBytes: MaxTransactBytes, BatchGetKeys: 100, Schema: s}
}

// Query asks for one page.
type Query struct {
	// PK is the partition of the table, or of the index when Index is set.
	PK string
	// Index is empty for the table.
	Index IndexName
	// SK restricts the sort key.
	SK Range
	// Limit is the most items wanted, 0 for as many as fit a page (1 MB of items).
	Limit int
	// Cursor continues after an earlier page of the same query; "" starts. A cursor of another partition or index is
	// [ErrInvalid]. Range, Limit and direction may differ from the earlier page's.
	Cursor string
	// Descending returns the largest SK first.
	Descending bool
	// Consistent sees every acknowledged write. Not allowed with Index.
	Consistent bool
}

// Range restricts a sort key: to those that start with Prefix, or to those between From and To, both inclusive, an
// empty bound being open. Prefix cannot be combined with a bound. The zero Range is everything.
type Range struct{ Prefix, From, To string }

// Prefix returns the range of sort keys that start with p, byte for byte; no character is special.
func Prefix(p string) Range { return Range{Prefix: p} }

// Between returns the range from <= SK <= to; an empty bound is open.
func Between(from, to string) Range { return Range{From: from, To: to} }

// Only returns the range that holds exactly sk.
func Only(sk string) Range { return Range{From: sk, To: sk} }

// Page is one page of a query. Cursor is empty when there is nothing more; it may be set although nothing more follows.
type Page struct {
	Items  []Item
	Cursor string
}

// All reads every page of a query and passes each item to yield until that returns false. It is not a snapshot: items
// written meanwhile behind the cursor are seen, those before it are not.
func All(ctx context.Context, d Driver, q Query, yield func(Item) bool) error {
	for {
		page, err := d.Query(ctx, q)
		if err != nil {
			return err
		}
		for _, it := range page.Items {
			if !yield(it) {
				return nil
			}
		}
		if page.Cursor == "" {
			return nil
		}
		if page.Cursor == q.Cursor {
			return Wrap("query", Key{PK: q.PK}, fmt.Errorf("%w: the cursor does not advance", ErrCorrupt))
		}
		q.Cursor = page.Cursor
	}
}

type labelKey struct{}

// WithLabel names the operation on whose behalf ctx is used ("engine.step"); package meterkv counts by it.
func WithLabel(ctx context.Context, label string) context.Context {
	return context.WithValue(ctx, labelKey{}, label)
}

// Label returns the label of ctx, or "".
func Label(ctx context.Context) string {
	s, _ := ctx.Value(labelKey{}).(string)
	return s
}
