package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// FormatVersion is written on every item. A store reads items up to its own
// version and refuses newer ones (kv.ErrNewerFormat): nothing is lost, the
// newer program must be used.
const FormatVersion = 1

// Attribute names are short: DynamoDB bills them with every item.
const (
	attrFormat   = "f"   // FormatVersion
	attrDoc      = "d"   // the entity as JSON, or encoded state
	attrVersion  = "v"   // optimistic concurrency
	attrSeq      = "seq" // dispatch_seq of the last claim
	attrMinSeq   = "min" // lowest dispatch_seq that may still write
	attrStatus   = "st"  // status of the claim
	attrClaim    = "cl"  // who claimed, to recognise a repeated call
	attrBeat     = "hb"  // last heartbeat, Unix milliseconds
	attrTry      = "try"
	attrChunks   = "n"   // number of chunk items of a wide run
	attrDeleting = "del" // META: 1 once the run's deletion has begun
	attrWake     = "wk"  // when the run's timer fires, Unix milliseconds
	attrDigest   = "w"   // digest of a wide step, to recognise a repeated commit
	// attrChunkVersions says how far each chunk is behind META.
	attrChunkVersions = "cv"
	attrObject        = "o" // name of the object that holds a large value
)

// Sealer encrypts secrets at rest. The associated data binds a ciphertext to
// the item it belongs to.
type Sealer interface {
	Seal(plaintext, associated []byte) ([]byte, error)
	Open(ciphertext, associated []byte) ([]byte, error)
}

// Store is the one implementation of Gust's storage; only its driver varies.
type Store struct {
	kv     kv.Driver
	sealer Sealer
	large  LargeValues
	// unreadable is told of items that a list leaves out; nil: the list fails.
	unreadable func(kv.Key, error)
}

// New returns a store over d. The sealer encrypts variables and connections;
// without one (nil) storing them is an error. The caller closes d.
func New(d kv.Driver, sealer Sealer, options ...Option) *Store {
	s := &Store{kv: d, sealer: sealer}
	for _, o := range options {
		o(s)
	}
	return s
}

// Lenient returns the same store with lists that leave corrupt items out and
// tell the function of each (any number of times, from any goroutine): one item
// that cannot be read must not stop what concerns all others. What the store
// cannot tell at present, and items of a newer program, still fail a list.
func (s *Store) Lenient(unreadable func(kv.Key, error)) *Store {
	out := *s
	out.unreadable = unreadable
	return &out
}

// Driver returns the driver, for tools that inspect or meter it.
func (s *Store) Driver() kv.Driver { return s.kv }

// translate maps driver errors to the sentinels of package airflow, keeping the chain.
func translate(err error) error {
	if err == nil {
		return nil
	}
	for _, m := range []struct{ from, to error }{
		{kv.ErrNotFound, airflow.ErrNotFound},
		{kv.ErrConditionFailed, airflow.ErrConflict},
		{kv.ErrTooLarge, airflow.ErrTooLarge},
		{kv.ErrThrottled, airflow.ErrThrottled},
		{kv.ErrTransactionConflict, airflow.ErrThrottled},
		{kv.ErrUnavailable, airflow.ErrUnavailable},
	} {
		if errors.Is(err, m.from) {
			return fmt.Errorf("%w: %w", m.to, err)
		}
	}
	return err
}

// failedItem returns the item on which a condition failed and whether err is that.
func failedItem(err error) (*kv.Item, bool) {
	var cf *kv.ConditionFailedError
	if errors.As(err, &cf) {
		return cf.Item, true
	}
	return nil, false
}

// checkFormat refuses an item written by a newer version.
func checkFormat(it kv.Item) error {
	if f := it.Int(attrFormat); f > FormatVersion {
		return fmt.Errorf("%w: item %v has format %d, this program reads up to %d: use the newer gust", kv.ErrNewerFormat, it.Key, f, FormatVersion)
	}
	return nil
}

// entity is a document item with optional index entries.
func entity(key kv.Key, doc []byte, index map[kv.IndexName]kv.Key) kv.Item {
	return kv.Item{Key: key, Index: index, Attrs: map[string]kv.Value{
		attrFormat: kv.Int(FormatVersion),
		attrDoc:    kv.Bytes(doc),
	}}
}

// versioned is entity with a version attribute.
func versioned(key kv.Key, doc []byte, version int64, index map[kv.IndexName]kv.Key) kv.Item {
	it := entity(key, doc, index)
	it.Attrs[attrVersion] = kv.Int(version)
	return it
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: entity %T cannot be encoded: %v", v, err)) // entities are plain structs
	}
	return b
}

// decode reads the document of an item into dst.
func decode(it kv.Item, dst any) error {
	if err := checkFormat(it); err != nil {
		return err
	}
	if err := json.Unmarshal(it.Bytes(attrDoc), dst); err != nil {
		return fmt.Errorf("%w: item %v: %w", kv.ErrCorrupt, it.Key, err)
	}
	return nil
}

// getDoc reads one document item.
func (s *Store) getDoc(ctx context.Context, key kv.Key, dst any) (kv.Item, error) {
	it, err := s.get(ctx, key)
	if err != nil {
		return it, translate(err)
	}
	return it, decode(it, dst)
}

// allOf is the partition of gsi1 that lists every item of a kind by its id.
func allOf(kind string) string { return joinKey("ALL", kind) }

func listed(kind string, sk string) map[kv.IndexName]kv.Key {
	return map[kv.IndexName]kv.Key{kv.GSI1: {PK: allOf(kind), SK: sk}}
}

// ListOptions bound a list. The zero value lists everything, ascending.
type ListOptions struct {
	Limit      int    // 0 = no limit
	Cursor     string // continues after an earlier page
	Descending bool
	From, To   string // bounds on the sort key of the list, inclusive
}

// listIndex reads index entries and then the items behind them, in order.
// Entries whose item has vanished meanwhile are left out.
func listIndex[T any](ctx context.Context, s *Store, index kv.IndexName, pk string, o ListOptions, read func(kv.Item) (T, error)) ([]T, string, error) {
	var out []T
	q := kv.Query{PK: pk, Index: index, SK: kv.Between(o.From, o.To), Limit: o.Limit, Cursor: o.Cursor, Descending: o.Descending}
	for {
		page, err := s.kv.Query(ctx, q)
		if err != nil {
			return nil, "", translate(err)
		}
		keys := make([]kv.Key, len(page.Items))
		for i, it := range page.Items {
			keys[i] = it.Key
		}
		items, err := s.kv.BatchGet(ctx, keys, true)
		if err != nil {
			return nil, "", translate(err)
		}
		for _, k := range keys {
			it, ok := items[k]
			if !ok {
				continue
			}
			v, err := read(it)
			if errors.Is(err, kv.ErrCorrupt) && s.unreadable != nil {
				s.unreadable(k, err)
				continue
			}
			if err != nil {
				return nil, "", err
			}
			out = append(out, v)
		}
		if page.Cursor == "" || o.Limit > 0 && len(out) >= o.Limit {
			return out, page.Cursor, nil
		}
		q.Cursor = page.Cursor
		if o.Limit > 0 {
			q.Limit = o.Limit - len(out)
		}
	}
}

// listPartition reads a whole partition (or the part with a prefix) in order.
func listPartition[T any](ctx context.Context, s *Store, pk string, r kv.Range, read func(kv.Item) (T, error)) ([]T, error) {
	var out []T
	var inner error
	err := kv.All(ctx, s.kv, kv.Query{PK: pk, SK: r, Consistent: true}, func(it kv.Item) bool {
		v, err := read(it)
		if errors.Is(err, kv.ErrCorrupt) && s.unreadable != nil {
			s.unreadable(it.Key, err)
			return true
		}
		if err != nil {
			inner = err
			return false
		}
		out = append(out, v)
		return true
	})
	if err == nil {
		err = inner
	}
	return out, translate(err)
}

// docReader returns a reader of plain documents of type T.
func docReader[T any](it kv.Item) (T, error) {
	var v T
	err := decode(it, &v)
	return v, err
}

// UpdateAttempts bounds optimistic read-modify-write loops.
const UpdateAttempts = 16

// update reads a versioned document, changes it and writes it back if nobody
// else did meanwhile, starting over on conflict. change may be called several
// times; its error ends the update. index derives the index entries.
func update[T any](ctx context.Context, s *Store, key kv.Key, index func(T) map[kv.IndexName]kv.Key, change func(*T) error) (T, error) {
	return updateFrom(ctx, s, key, Known[T]{}, index, change)
}

// Known is a document as it was read or created: an update that begins with it
// need not read it again. The zero value knows nothing. Values are not to be
// changed, nor what they refer to.
type Known[T any] struct {
	Value   T
	version int64
}

func known[T any](ctx context.Context, s *Store, key kv.Key) (k Known[T], err error) {
	it, err := s.getDoc(ctx, key, &k.Value)
	k.version = it.Int(attrVersion)
	return k, err
}

// updateFrom is update for who knows the document; if that is out of date it is
// read.
func updateFrom[T any](ctx context.Context, s *Store, key kv.Key, have Known[T], index func(T) map[kv.IndexName]kv.Key, change func(*T) error) (T, error) {
	for attempt := 0; ; attempt++ {
		if attempt > 0 || have.version == 0 {
			var err error
			if have, err = known[T](ctx, s, key); err != nil {
				return have.Value, err
			}
		}
		v, base := have.Value, have.version
		if err := change(&v); err != nil {
			return v, err
		}
		err := s.kv.Write(ctx, kv.Put(versioned(key, marshal(v), base+1, index(v)), kv.Eq(attrVersion, kv.Int(base))))
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, kv.ErrConditionFailed) || attempt+1 == UpdateAttempts {
			return v, translate(err)
		}
	}
}

// putDoc writes a document whatever was there before.
func (s *Store) putDoc(ctx context.Context, key kv.Key, v any, index map[kv.IndexName]kv.Key) error {
	return translate(s.kv.Write(ctx, kv.Put(entity(key, marshal(v), index), kv.Cond{})))
}

// createDoc writes a document unless there is one: ErrAlreadyExists.
func (s *Store) createDoc(ctx context.Context, key kv.Key, v any, index map[kv.IndexName]kv.Key) error {
	err := s.kv.Write(ctx, kv.Put(versioned(key, marshal(v), 1, index), kv.NotExists()))
	if errors.Is(err, kv.ErrConditionFailed) {
		return fmt.Errorf("%w: %v", airflow.ErrAlreadyExists, key)
	}
	return translate(err)
}

// deleteDoc removes a document: ErrNotFound when there is none.
func (s *Store) deleteDoc(ctx context.Context, key kv.Key) error {
	err := s.kv.Write(ctx, kv.Delete(key, kv.Exists()))
	if errors.Is(err, kv.ErrConditionFailed) {
		return fmt.Errorf("%w: %v", airflow.ErrNotFound, key)
	}
	return translate(err)
}

func isExists(err error) bool   { return errors.Is(err, airflow.ErrAlreadyExists) }
func isNotFound(err error) bool { return errors.Is(err, airflow.ErrNotFound) }
