package kvtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/store/kv"
)

// RunEquivalence runs random sequences of calls on two stores and checks that every answer is the same. The names are
// few, so that operations meet. Index queries must be up to date on both.
func RunEquivalence(t *testing.T, open1, open2 Open) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := open1(t), open2(t)
		defer func() {
			if err := errors.Join(a.Close(), b.Close()); err != nil {
				rt.Errorf("close: %v", err)
			}
		}()
		ctx := t.Context()
		tokens := 0
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				op := genOp(false).Draw(rt, "op")
				sameErr(rt, a.Write(ctx, op), b.Write(ctx, op))
			},
			"transact": func(rt *rapid.T) {
				ops := rapid.SliceOfN(genOp(true), 1, 5).Draw(rt, "ops")
				token := ""
				switch rapid.IntRange(0, 2).Draw(rt, "token") {
				case 1:
					tokens++
					token = fmt.Sprint("t", tokens)
				case 2:
					token = fmt.Sprint("t", rapid.IntRange(0, tokens+1).Draw(rt, "old token"))
				}
				sameErr(rt, a.Transact(ctx, token, ops), b.Transact(ctx, token, ops))
			},
			"get": func(rt *rapid.T) {
				k := genKey().Draw(rt, "key")
				x, err1 := a.Get(ctx, k, true)
				y, err2 := b.Get(ctx, k, true)
				sameErr(rt, err1, err2)
				if !x.Equal(y) {
					rt.Fatalf("get %v: %v, other %v", k, x, y)
				}
			},
			"batch get": func(rt *rapid.T) {
				keys := rapid.SliceOfN(genKey(), 0, 6).Draw(rt, "keys")
				x, err1 := a.BatchGet(ctx, keys, true)
				y, err2 := b.BatchGet(ctx, keys, true)
				sameErr(rt, err1, err2)
				if len(x) != len(y) {
					rt.Fatalf("batch get: %v, other %v", x, y)
				}
				for k, it := range x {
					if !it.Equal(y[k]) {
						rt.Fatalf("batch get %v: %v, other %v", k, it, y[k])
					}
				}
			},
			"query": func(rt *rapid.T) {
				q := kv.Query{PK: genPart().Draw(rt, "pk"), Index: genIndex(true).Draw(rt, "index"),
					Limit: rapid.IntRange(0, 3).Draw(rt, "limit"), Descending: rapid.Bool().Draw(rt, "descending")}
				switch rapid.IntRange(0, 2).Draw(rt, "range") {
				case 1:
					q.SK.Prefix = genPart().Draw(rt, "prefix")
				case 2:
					q.SK = kv.Between(genPart().Draw(rt, "from"), genPart().Draw(rt, "to"))
				}
				if q.Index != "" { // the order of equal sort keys is each store's own
					if x, y := entries(rt, a, q), entries(rt, b, q); !slices.EqualFunc(x, y, kv.Item.Equal) {
						rt.Fatalf("query %+v: %v, other %v", q, x, y)
					}
					return
				}
				for range 100 {
					x, err1 := a.Query(ctx, q)
					y, err2 := b.Query(ctx, q)
					sameErr(rt, err1, err2)
					// A store that sees that the range is exhausted may leave the cursor out.
					ended := x.Cursor == "" && nothingAfter(ctx, b, q, y) || y.Cursor == "" && nothingAfter(ctx, a, q, x)
					if !slices.EqualFunc(x.Items, y.Items, kv.Item.Equal) || x.Cursor != y.Cursor && !ended {
						rt.Fatalf("query %+v: %v %q, other %v %q", q, x.Items, x.Cursor, y.Items, y.Cursor)
					}
					if ended {
						return
					}
					q.Cursor = x.Cursor
				}
				rt.Fatalf("query %+v does not end", q)
			},
		})
	})
}

// entries returns all items of an index query, those with equal sort keys in order of their keys. It checks the order of
// the sort keys and the size of the pages.
func entries(rt *rapid.T, d kv.Driver, q kv.Query) []kv.Item {
	var out []kv.Item
	for {
		page, err := d.Query(context.Background(), q)
		if err != nil {
			rt.Fatalf("query %+v: %v", q, err)
		}
		if q.Limit > 0 && len(page.Items) > q.Limit {
			rt.Fatalf("query %+v: %d items", q, len(page.Items))
		}
		out = append(out, page.Items...)
		if q.Cursor = page.Cursor; q.Cursor == "" {
			break
		}
	}
	bySK := func(x, y kv.Item) int {
		n := strings.Compare(x.Index[q.Index].SK, y.Index[q.Index].SK)
		if q.Descending {
			n = -n
		}
		return n
	}
	if !slices.IsSortedFunc(out, bySK) {
		rt.Fatalf("query %+v: not in order: %v", q, out)
	}
	slices.SortFunc(out, func(x, y kv.Item) int {
		return cmp.Or(bySK(x, y), strings.Compare(x.PK, y.PK), strings.Compare(x.SK, y.SK))
	})
	return out
}

// nothingAfter reports whether a page of the query is the last one with items.
func nothingAfter(ctx context.Context, d kv.Driver, q kv.Query, page kv.Page) bool {
	if page.Cursor == "" {
		return true
	}
	q.Cursor = page.Cursor
	next, err := d.Query(ctx, q)
	return err == nil && len(next.Items) == 0 && next.Cursor == ""
}

// sameErr fails unless both errors are of the same kind and name the same operation and item.
func sameErr(rt *rapid.T, a, b error) {
	if (a == nil) != (b == nil) {
		rt.Fatalf("error %v, other %v", a, b)
	}
	for _, kind := range []error{kv.ErrNotFound, kv.ErrConditionFailed, kv.ErrInvalid, kv.ErrTooLarge, kv.ErrThrottled, kv.ErrUnavailable, kv.ErrCorrupt} {
		if errors.Is(a, kind) != errors.Is(b, kind) {
			rt.Fatalf("error %v, other %v", a, b)
		}
	}
	if errors.Is(a, kv.ErrUnavailable) || errors.Is(a, kv.ErrCorrupt) {
		rt.Fatalf("error %v", a)
	}
	var c, d *kv.CancelError
	if errors.As(a, &c) != errors.As(b, &d) || c != nil && (c.Op != d.Op || c.Key != d.Key) {
		rt.Fatalf("error %v, other %v", a, b)
	}
	var e, f *kv.ConditionFailedError
	if errors.As(a, &e) != errors.As(b, &f) {
		rt.Fatalf("error %v, other %v", a, b)
	}
	if e != nil && (e.Op != f.Op || e.Key != f.Key || (e.Item == nil) != (f.Item == nil) || e.Item != nil && !e.Item.Equal(*f.Item)) {
		rt.Fatalf("condition failed on %v %v, other %v %v", e.Key, e.Item, f.Key, f.Item)
	}
}

func genPart() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "ab", "a#b", "a#", "\x00", "a\x00", "é", "\uffff", "\U00010000", "%", "_"})
}

func genKey() *rapid.Generator[kv.Key] {
	return rapid.Custom(func(rt *rapid.T) kv.Key {
		return kv.Key{PK: rapid.SampledFrom([]string{"a", "b", "a#b"}).Draw(rt, "pk"), SK: genPart().Draw(rt, "sk")}
	})
}

func genIndex(none bool) *rapid.Generator[kv.IndexName] {
	names := []kv.IndexName{kv.GSI1, kv.GSI2}
	if none {
		names = append(names, "")
	}
	return rapid.SampledFrom(names)
}

func genAttr() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"x", "y", "z", kv.AttrIndexed})
}

func genValue() *rapid.Generator[kv.Value] {
	return rapid.Custom(func(rt *rapid.T) kv.Value {
		switch rapid.IntRange(0, 3).Draw(rt, "kind") {
		case 0:
			return kv.String(rapid.String().Draw(rt, "string"))
		case 1:
			return kv.Bytes(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(rt, "bytes"))
		case 2:
			return kv.Bool(rapid.Bool().Draw(rt, "bool"))
		}
		return kv.Int(rapid.OneOf(rapid.Int64Range(-3, 3), rapid.Int64()).Draw(rt, "int"))
	})
}

func genCond(depth int) *rapid.Generator[kv.Cond] {
	return rapid.Custom(func(rt *rapid.T) kv.Cond {
		most := 12
		if depth == 0 {
			most = 9
		}
		attr := genAttr().Draw(rt, "attr")
		val := func() kv.Value { return genValue().Draw(rt, "value") }
		sub := func() kv.Cond { return genCond(depth-1).Draw(rt, "sub") }
		switch rapid.IntRange(0, most).Draw(rt, "cond") {
		case 1:
			return kv.Exists()
		case 2:
			return kv.NotExists()
		case 3:
			return kv.Present(attr)
		case 4:
			return kv.Missing(attr)
		case 5:
			return kv.Eq(attr, val())
		case 6:
			return kv.Lt(attr, val())
		case 7:
			return kv.Le(attr, val())
		case 8:
			return kv.Gt(attr, val())
		case 9:
			return kv.Ge(attr, val())
		case 10:
			return kv.And(sub(), sub())
		case 11:
			return kv.Or(sub(), sub())
		case 12:
			return kv.Not(sub())
		}
		return kv.Cond{}
	})
}

func genOp(check bool) *rapid.Generator[kv.Op] {
	return rapid.Custom(func(rt *rapid.T) kv.Op {
		k := genKey().Draw(rt, "key")
		cond := genCond(2).Draw(rt, "cond")
		entry := func() kv.Key { return kv.Key{PK: genPart().Draw(rt, "ipk"), SK: genPart().Draw(rt, "isk")} }
		kinds := []kv.OpKind{kv.OpPut, kv.OpPut, kv.OpUpdate, kv.OpUpdate, kv.OpDelete}
		if check {
			kinds = append(kinds, kv.OpCheck)
		}
		switch rapid.SampledFrom(kinds).Draw(rt, "kind") {
		case kv.OpPut:
			it := kv.Item{Key: k, Attrs: rapid.MapOfN(genAttr(), genValue(), 0, 4).Draw(rt, "attrs"), ExpiresAt: rapid.SampledFrom([]int64{0, 0, 9e9}).Draw(rt, "expires")}
			it.Index = map[kv.IndexName]kv.Key{}
			for range rapid.IntRange(0, 2).Draw(rt, "entries") {
				it.Index[genIndex(false).Draw(rt, "index")] = entry()
			}
			return kv.Put(it, cond)
		case kv.OpUpdate:
			op := kv.Update(k, cond)
			for _, attr := range rapid.SliceOfNDistinct(genAttr(), 0, 3, rapid.ID).Draw(rt, "sets") {
				switch rapid.IntRange(0, 3).Draw(rt, "set") {
				case 0:
					op.Sets = append(op.Sets, kv.Remove(attr))
				case 1:
					op.Sets = append(op.Sets, kv.Add(attr, rapid.OneOf(rapid.Int64Range(-3, 3), rapid.Int64()).Draw(rt, "by")))
				default:
					op.Sets = append(op.Sets, kv.Assign(attr, genValue().Draw(rt, "value")))
				}
			}
			if rapid.Bool().Draw(rt, "index change") {
				to := kv.Key{}
				if rapid.Bool().Draw(rt, "entry") {
					to = entry()
				}
				op = op.WithIndex(genIndex(false).Draw(rt, "index"), to)
			}
			if rapid.IntRange(0, 3).Draw(rt, "expiry") == 0 {
				op = op.WithExpiry(rapid.SampledFrom([]int64{0, 9e9}).Draw(rt, "at"))
			}
			return op
		case kv.OpDelete:
			return kv.Delete(k, cond)
		}
		return kv.Check(k, cond)
	})
}
