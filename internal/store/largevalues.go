package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// LargeXComBytes is the size from which an XCom goes to LargeValues, where there
// are any: 64 KB.
const LargeXComBytes = 64 << 10

// LargeValues keeps values too large to be worth their price as items: one S3 put
// costs what 8 KB of DynamoDB writes do. blob.Objects is one. Absent is an error
// that wraps airflow.ErrNotFound.
type LargeValues interface {
	Put(ctx context.Context, key string, content []byte) error
	Get(ctx context.Context, key string) ([]byte, error)
	Delete(ctx context.Context, keys ...string) error
}

// Option changes a store that New makes.
type Option func(*Store)

// WithLargeValues keeps XComs of more than LargeXComBytes in v, with an item that
// names them. Without it they are items in parts. A store needs it to read what
// one that had it wrote.
//
// An object is written before the item that names it, never changed, and removed
// with its item. What a crash, or a second push under the same key by the same
// try, leaves behind is below the instance's own prefix; a lifecycle rule on the
// bucket removes it.
func WithLargeValues(v LargeValues) Option { return func(s *Store) { s.large = v } }

// largeXComKey names the object of an XCom: readable, a valid object name for any
// ids, and different for different content.
func largeXComKey(k airflow.TaskInstanceKey, try int, key string, value []byte) string {
	sum := sha256.Sum256(value)
	return "dag_id=" + objectSegment(string(k.DagID)) + "/run_id=" + objectSegment(string(k.RunID)) + "/task_id=" + objectSegment(string(k.TaskID)) +
		"/map_index=" + strconv.Itoa(k.MapIndex) + "/attempt=" + strconv.Itoa(try) + "/" + objectSegment(key) + "." + hex.EncodeToString(sum[:16])
}

// objectSegment escapes text and shortens what is long by its hash.
func objectSegment(s string) string {
	const longest = 150
	e := url.PathEscape(s)
	if len(e) <= longest {
		return e
	}
	sum := sha256.Sum256([]byte(s))
	return e[:longest-34] + "~" + hex.EncodeToString(sum[:16])
}

// putLargeXCom stores the object and the item that names it.
func (s *Store) putLargeXCom(ctx context.Context, it kv.Item, k airflow.TaskInstanceKey, try int, key string, value json.RawMessage) error {
	name := largeXComKey(k, try, key, value)
	if err := s.large.Put(ctx, name, value); err != nil {
		return fmt.Errorf("store XCom %q of %s: %w", key, k, err)
	}
	it.Attrs[attrObject] = kv.String(name)
	return translate(s.kv.Write(ctx, kv.Put(it, kv.Cond{})))
}

// largeXCom reads the object that an item names.
func (s *Store) largeXCom(ctx context.Context, name string) (json.RawMessage, error) {
	if s.large == nil {
		return nil, fmt.Errorf("%w: the XCom lies in the object store, as %s: this program was started without one", airflow.ErrUnavailable, name)
	}
	v, err := s.large.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(v)
	if want := name[max(0, len(name)-32):]; hex.EncodeToString(sum[:16]) != want {
		return nil, fmt.Errorf("%w: object %s does not hold what was stored there", kv.ErrCorrupt, name)
	}
	return v, nil
}

// deleteLarge removes the objects that deleted items named.
func (s *Store) deleteLarge(ctx context.Context, items []kv.Item) error {
	var names []string
	for _, it := range items {
		if name := it.Str(attrObject); name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if s.large == nil {
		return fmt.Errorf("%w: XComs lie in the object store: this program was started without one", airflow.ErrUnavailable)
	}
	return s.large.Delete(ctx, names...)
}

// parallelLarge bounds how many objects one call reads at once.
const parallelLarge = 16

// xcomValues completes many values; those in the object store are read side by
// side. A nil item gives a nil value.
func (s *Store) xcomValues(ctx context.Context, items []*kv.Item) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, len(items))
	errs := make([]error, len(items))
	slots := make(chan struct{}, parallelLarge)
	var wg sync.WaitGroup
reading:
	for i, it := range items {
		switch {
		case it == nil:
		case it.Str(attrObject) == "":
			if out[i], errs[i] = s.xcomValue(ctx, *it); errs[i] != nil {
				break reading
			}
		default:
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				out[i], errs[i] = s.largeXCom(ctx, it.Str(attrObject))
			})
		}
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
