package kvtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
)

func everyKind() map[string]kv.Value {
	return map[string]kv.Value{
		"string": kv.String("héllo"), "empty": kv.String(""), "int": kv.Int(-42), "zero": kv.Int(0), "max": kv.Int(math.MaxInt64),
		"min": kv.Int(math.MinInt64), "bytes": kv.Bytes([]byte{0, 1, 0xff}), "none": kv.Bytes(nil), "yes": kv.Bool(true), "no": kv.Bool(false),
	}
}

func testCRUD(t *testing.T, open Open) {
	b := setup(t, open)
	k := key("RUN#a", "META")
	b.wantNone(k)
	_, err := b.d.Get(t.Context(), k, false)
	b.wantErr(err, kv.ErrNotFound)

	it := kv.Item{Key: k, Attrs: everyKind(), Index: map[kv.IndexName]kv.Key{kv.GSI1: key("due", "2026"), kv.GSI2: key("kind", "x")}, ExpiresAt: 4_000_000_000}
	b.write(kv.Put(it, kv.NotExists()))
	b.want(it)
	err = b.d.Write(t.Context(), kv.Put(it, kv.NotExists()))
	b.wantErr(err, kv.ErrConditionFailed)

	other := kv.Item{Key: k, Attrs: map[string]kv.Value{"only": kv.Int(1)}}
	b.write(kv.Put(other, kv.Exists()))
	b.want(other) // a put replaces: nothing of the old item stays

	b.write(kv.Op{Kind: kv.OpPut, Item: kv.Item{Key: key("RUN#a", "bare")}})
	b.want(kv.Item{Key: key("RUN#a", "bare")})

	err = b.d.Write(t.Context(), kv.Delete(k, kv.Eq("only", kv.Int(2))))
	b.wantErr(err, kv.ErrConditionFailed)
	b.want(other)
	b.write(kv.Delete(k, kv.Eq("only", kv.Int(1))))
	b.wantNone(k)
	b.write(kv.Delete(k, kv.Cond{})) // absent is fine
	err = b.d.Write(t.Context(), kv.Delete(k, kv.Exists()))
	b.wantErr(err, kv.ErrConditionFailed)
	b.want(kv.Item{Key: key("RUN#a", "bare")})
}

func testUpdates(t *testing.T, open Open) {
	b := setup(t, open)
	k := key("p", "s")
	want := kv.Item{Key: k, Attrs: map[string]kv.Value{"a": kv.String("x"), "count": kv.Int(3)}}
	b.write(kv.Update(k, kv.Cond{}, kv.Assign("a", kv.String("x")), kv.Add("count", 3)))
	b.want(want) // an update creates, and adding to nothing starts from 0

	b.write(kv.Update(k, kv.Exists(), kv.Remove("a"), kv.Remove("never"), kv.Add("count", -5), kv.Assign("b", kv.Bool(true))))
	want.Attrs = map[string]kv.Value{"b": kv.Bool(true), "count": kv.Int(-2)}
	b.want(want)

	b.write(kv.Update(k, kv.Exists()).WithIndex(kv.GSI1, key("i", "1")).WithExpiry(4_000_000_001))
	want.Index, want.ExpiresAt = map[kv.IndexName]kv.Key{kv.GSI1: key("i", "1")}, 4_000_000_001
	b.want(want) // attributes that are not named stay, and so do entries and expiry below

	b.write(kv.Update(k, kv.Exists(), kv.Assign("b", kv.String("other kind"))))
	want.Attrs["b"] = kv.String("other kind")
	b.want(want)

	b.write(kv.Update(k, kv.Exists()).WithIndex(kv.GSI1, kv.Key{}).WithIndex(kv.GSI2, key("j", "2")).WithExpiry(0))
	want.Index, want.ExpiresAt = map[kv.IndexName]kv.Key{kv.GSI2: key("j", "2")}, 0
	b.want(want)

	err := b.d.Write(t.Context(), kv.Update(key("p", "absent"), kv.Exists(), kv.Add("count", 1)))
	b.wantErr(err, kv.ErrConditionFailed)
	b.wantNone(key("p", "absent"))

	for _, set := range []kv.Set{kv.Add("b", 1), kv.Add("count", math.MinInt64)} {
		err := b.d.Write(t.Context(), kv.Update(k, kv.Cond{}, kv.Assign("z", kv.Int(1)), set))
		b.wantErr(err, kv.ErrInvalid)
		b.want(want)
	}
}

// testOwnedMaps checks that neither side sees what the other does to its maps afterwards.
func testOwnedMaps(t *testing.T, open Open) {
	b := setup(t, open)
	it := kv.Item{Key: key("p", "s"), Attrs: n(1), Index: map[kv.IndexName]kv.Key{kv.GSI1: key("i", "1")}}
	want := it.Clone()
	b.put(it)
	it.Attrs["n"] = kv.Int(9)
	delete(it.Index, kv.GSI1)
	b.want(want)

	got := b.get(want.Key)
	got.Attrs["n"] = kv.Int(9)
	delete(got.Index, kv.GSI1)
	b.want(want)

	page := b.all(kv.Query{PK: "p", Consistent: true})
	page[0].Attrs["n"] = kv.Int(9)
	b.want(want)

	err := b.d.Write(t.Context(), kv.Delete(want.Key, kv.NotExists()))
	var failed *kv.ConditionFailedError
	if !errors.As(err, &failed) || failed.Item == nil {
		t.Fatalf("error %v, want a ConditionFailedError with the item", err)
	}
	failed.Item.Attrs["n"] = kv.Int(9)
	b.want(want)

	sets := []kv.Set{kv.Add("n", 1)}
	b.write(kv.Update(want.Key, kv.Cond{}, sets...))
	sets[0] = kv.Assign("n", kv.Int(77))
	want.Attrs["n"] = kv.Int(2)
	b.want(want)
}

func testConditions(t *testing.T, open Open) {
	b := setup(t, open)
	there, absent := key("p", "there"), key("p", "absent")
	attrs := map[string]kv.Value{"n": kv.Int(5), "s": kv.String("m"), "b": kv.Bytes([]byte("m")), "t": kv.Bool(true), "e": kv.String("")}
	b.put(kv.Item{Key: there, Attrs: attrs})
	yes, no := kv.Eq("n", kv.Int(5)), kv.Eq("n", kv.Int(6))
	cases := []struct {
		cond              kv.Cond
		onThere, onAbsent bool
	}{
		{kv.Cond{}, true, true},
		{kv.Exists(), true, false},
		{kv.NotExists(), false, true},
		{kv.Present("n"), true, false},
		{kv.Present("x"), false, false},
		{kv.Present("e"), true, false},
		{kv.Missing("n"), false, true},
		{kv.Missing("x"), true, true},
		{yes, true, false},
		{no, false, false},
		{kv.Eq("n", kv.String("5")), false, false},
		{kv.Eq("s", kv.Bytes([]byte("m"))), false, false},
		{kv.Eq("s", kv.String("m")), true, false},
		{kv.Eq("b", kv.Bytes([]byte("m"))), true, false},
		{kv.Eq("t", kv.Bool(true)), true, false},
		{kv.Eq("t", kv.Bool(false)), false, false},
		{kv.Eq("e", kv.String("")), true, false},
		{kv.Eq("x", kv.String("")), false, false},
		{kv.Lt("n", kv.Int(6)), true, false},
		{kv.Lt("n", kv.Int(5)), false, false},
		{kv.Le("n", kv.Int(5)), true, false},
		{kv.Le("n", kv.Int(4)), false, false},
		{kv.Gt("n", kv.Int(-6)), true, false},
		{kv.Gt("n", kv.Int(5)), false, false},
		{kv.Ge("n", kv.Int(5)), true, false},
		{kv.Ge("n", kv.Int(10)), false, false}, // by value, not by digits
		{kv.Lt("x", kv.Int(6)), false, false},
		{kv.Lt("s", kv.Int(6)), false, false},
		{kv.Gt("s", kv.Int(6)), false, false},
		{kv.Lt("s", kv.String("n")), true, false},
		{kv.Gt("s", kv.String("M")), true, false},
		{kv.Gt("s", kv.String("")), true, false},
		{kv.Ge("b", kv.Bytes([]byte("l"))), true, false},
		{kv.Not(yes), false, true},
		{kv.Not(no), true, true},
		{kv.Not(kv.Lt("x", kv.Int(1))), true, true},
		{kv.Not(kv.Exists()), false, true},
		{kv.And(yes, kv.Missing("x")), true, false},
		{kv.And(yes, no), false, false},
		{kv.And(), true, true},
		{kv.And(kv.And(yes, yes), kv.Cond{}), true, false},
		{kv.Or(no, yes), true, false},
		{kv.Or(no, no), false, false},
		{kv.Or(no, kv.NotExists()), false, true},
		{kv.Or(kv.NotExists(), kv.And(yes, kv.Not(kv.Or(no, kv.Present("x"))))), true, true},
	}
	for _, c := range cases {
		for _, at := range []struct {
			key  kv.Key
			want bool
		}{{there, c.onThere}, {absent, c.onAbsent}} {
			ops := []kv.Op{kv.Update(at.key, c.cond, kv.Assign("touched", kv.Int(1))), kv.Put(kv.Item{Key: at.key, Attrs: attrs}, c.cond), kv.Delete(at.key, c.cond)}
			for _, op := range ops {
				b.checkOutcome(fmt.Sprintf("%v on %s if %v", op.Kind, at.key.SK, c.cond), b.d.Write(t.Context(), op), at.want)
				if at.key == there {
					b.put(kv.Item{Key: there, Attrs: attrs})
				} else {
					b.write(kv.Delete(absent, kv.Cond{}))
				}
			}
			if c.cond.Op != kv.CondAlways {
				b.checkOutcome(fmt.Sprintf("check of %s if %v", at.key.SK, c.cond), b.d.Transact(t.Context(), "", []kv.Op{kv.Check(at.key, c.cond)}), at.want)
			}
		}
	}
}

func (b bundle) checkOutcome(what string, err error, want bool) {
	b.Helper()
	if want && err != nil {
		b.Errorf("%s: %v, want it done", what, err)
	}
	if !want && !errors.Is(err, kv.ErrConditionFailed) {
		b.Errorf("%s: error %v, want %v", what, err, kv.ErrConditionFailed)
	}
	if err != nil && !kv.NotApplied(err) {
		b.Errorf("%s: NotApplied is false for %v", what, err)
	}
}

func testConditionShowsItem(t *testing.T, open Open) {
	b := setup(t, open)
	it := kv.Item{Key: key("p", "s"), Attrs: everyKind(), Index: map[kv.IndexName]kv.Key{kv.GSI1: key("i", "1")}, ExpiresAt: 4_000_000_000}
	b.put(it)
	check := func(err error, wantOp int, wantKey kv.Key, want *kv.Item) {
		t.Helper()
		var failed *kv.ConditionFailedError
		if !errors.As(err, &failed) {
			t.Fatalf("error %v, want a ConditionFailedError", err)
		}
		if failed.Op != wantOp || failed.Key != wantKey {
			t.Errorf("operation %d on %v, want %d on %v", failed.Op, failed.Key, wantOp, wantKey)
		}
		if (failed.Item == nil) != (want == nil) || (want != nil && !failed.Item.Equal(*want)) {
			t.Errorf("item %v, want %v", failed.Item, want)
		}
	}
	absent := key("p", "absent")
	check(b.d.Write(t.Context(), kv.Put(it, kv.NotExists())), 0, it.Key, &it)
	check(b.d.Write(t.Context(), kv.Update(it.Key, kv.Eq("int", kv.Int(1)), kv.Add("int", 1))), 0, it.Key, &it)
	check(b.d.Write(t.Context(), kv.Delete(absent, kv.Exists())), 0, absent, nil)
	check(b.d.Transact(t.Context(), "", []kv.Op{kv.Put(item("p", "new", nil), kv.NotExists()), kv.Check(it.Key, kv.Missing("int"))}), 1, it.Key, &it)
	check(b.d.Transact(t.Context(), "", []kv.Op{kv.Check(absent, kv.Exists()), kv.Put(item("p", "new", nil), kv.NotExists())}), 0, absent, nil)
	b.wantNone(key("p", "new"))
}

func testInvalid(t *testing.T, open Open) {
	b := setup(t, open)
	k := key("p", "s")
	put := func(it kv.Item) kv.Op { return kv.Put(it, kv.Cond{}) }
	long := strings.Repeat("x", 3000)
	ops := map[string]kv.Op{
		"empty PK":          put(item("", "s", nil)),
		"empty SK":          put(item("p", "", nil)),
		"long PK":           put(item(long[:kv.MaxPKBytes+1], "s", nil)),
		"long SK":           put(item("p", long[:kv.MaxSKBytes+1], nil)),
		"PK not UTF-8":      put(item("p\xff", "s", nil)),
		"value not UTF-8":   put(item("p", "s", map[string]kv.Value{"a": kv.String("\xff")})),
		"no value":          put(item("p", "s", map[string]kv.Value{"a": {}})),
		"empty name":        put(item("p", "s", map[string]kv.Value{"": kv.Int(1)})),
		"long name":         put(item("p", "s", map[string]kv.Value{long[:256]: kv.Int(1)})),
		"reserved name":     put(item("p", "s", map[string]kv.Value{"pk": kv.Int(1)})),
		"index name":        put(item("p", "s", map[string]kv.Value{"gsi1sk": kv.Int(1)})),
		"unknown index":     put(kv.Item{Key: k, Index: map[kv.IndexName]kv.Key{"gsi9": k}}),
		"half index key":    put(kv.Item{Key: k, Index: map[kv.IndexName]kv.Key{kv.GSI1: key("a", "")}}),
		"expiry":            put(kv.Item{Key: k, ExpiresAt: -1}),
		"two keys":          {Kind: kv.OpPut, Key: k, Item: item("p", "other", nil)},
		"put with sets":     {Kind: kv.OpPut, Item: item("p", "s", nil), Sets: []kv.Set{kv.Add("n", 1)}},
		"update with item":  {Kind: kv.OpUpdate, Key: k, Item: item("p", "s", n(1))},
		"delete with sets":  {Kind: kv.OpDelete, Key: k, Sets: []kv.Set{kv.Add("n", 1)}},
		"no kind":           {Key: k},
		"check alone":       kv.Check(k, kv.NotExists()),
		"set twice":         kv.Update(k, kv.Cond{}, kv.Add("n", 1), kv.Remove("n")),
		"set without kind":  kv.Update(k, kv.Cond{}, kv.Set{Attr: "n"}),
		"add of a string":   kv.Update(k, kv.Cond{}, kv.Set{Kind: kv.SetAdd, Attr: "n", Value: kv.String("1")}),
		"remove reserved":   kv.Update(k, kv.Cond{}, kv.Remove("ttl")),
		"index twice":       kv.Update(k, kv.Cond{}).WithIndex(kv.GSI1, k).WithIndex(kv.GSI1, kv.Key{}),
		"update expiry":     kv.Update(k, kv.Cond{}).WithExpiry(-5),
		"bool order":        kv.Delete(k, kv.Lt("n", kv.Bool(true))),
		"or of nothing":     kv.Delete(k, kv.Or()),
		"not of nothing":    kv.Delete(k, kv.Not(kv.Cond{})),
		"cond on pk":        kv.Delete(k, kv.Eq("pk", kv.String("p"))),
		"cond without attr": kv.Delete(k, kv.Present("")),
		"unknown cond":      kv.Delete(k, kv.Cond{Op: 99}),
	}
	for name, op := range ops {
		err := b.d.Write(t.Context(), op)
		if !errors.Is(err, kv.ErrInvalid) || !kv.NotApplied(err) {
			t.Errorf("%s: error %v, want %v", name, err, kv.ErrInvalid)
		}
		if name == "check alone" {
			continue
		}
		err = b.d.Transact(t.Context(), "", []kv.Op{kv.Put(item("p", "beside", nil), kv.Cond{}), op})
		var c *kv.CancelError
		if !errors.Is(err, kv.ErrInvalid) || !errors.As(err, &c) || c.Op != 1 {
			t.Errorf("%s in a transaction: error %v, want a CancelError of operation 1 for %v", name, err, kv.ErrInvalid)
		}
	}
	b.wantErr(b.d.Transact(t.Context(), "", []kv.Op{kv.Check(k, kv.Cond{})}), kv.ErrInvalid)
	for name, q := range map[string]kv.Query{
		"empty PK":         {},
		"unknown index":    {PK: "p", Index: "gsi9"},
		"consistent index": {PK: "p", Index: kv.GSI1, Consistent: true},
		"prefix and range": {PK: "p", SK: kv.Range{Prefix: "a", To: "b"}},
		"limit":            {PK: "p", Limit: -1},
		"range not UTF-8":  {PK: "p", SK: kv.Prefix("\xff")},
	} {
		if _, err := b.d.Query(t.Context(), q); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("query with %s: error %v, want %v", name, err, kv.ErrInvalid)
		}
	}
	for _, k := range []kv.Key{{}, key("p", ""), key("", "s"), key("\xff", "s")} {
		_, err := b.d.Get(t.Context(), k, true)
		b.wantErr(err, kv.ErrInvalid)
		_, err = b.d.BatchGet(t.Context(), []kv.Key{key("p", "s"), k}, true)
		b.wantErr(err, kv.ErrInvalid)
	}
	if got := b.all(kv.Query{PK: "p", Consistent: true}); len(got) != 0 {
		t.Errorf("invalid requests stored %v", got)
	}
}

func testClosed(t *testing.T, open Open) {
	b := setup(t, open)
	k := key("p", "s")
	calls := map[string]func(ctx context.Context) error{
		"get":       func(ctx context.Context) error { _, err := b.d.Get(ctx, k, true); return err },
		"batch get": func(ctx context.Context) error { _, err := b.d.BatchGet(ctx, []kv.Key{k}, true); return err },
		"query":     func(ctx context.Context) error { _, err := b.d.Query(ctx, kv.Query{PK: "p"}); return err },
		"write":     func(ctx context.Context) error { return b.d.Write(ctx, kv.Put(item("p", "s", nil), kv.Cond{})) },
		"transact": func(ctx context.Context) error {
			return b.d.Transact(ctx, "", []kv.Op{kv.Put(item("p", "s", nil), kv.Cond{})})
		},
	}
	for name, call := range calls {
		if err := call(cancelled()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v, want %v", name, err, context.Canceled)
		} else if strings.HasSuffix(name, "e") && !kv.NotApplied(err) {
			t.Errorf("%s with a cancelled context: NotApplied is false for %v", name, err)
		}
	}
	b.wantNone(k)
	if err := b.d.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	for name, call := range calls {
		if err := call(t.Context()); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s after Close: %v, want %v", name, err, kv.ErrClosed)
		}
	}
	if err := b.d.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func testBatchGet(t *testing.T, open Open) {
	b := setup(t, open)
	var keys []kv.Key
	for i := range 250 {
		k := key(fmt.Sprintf("p%d", i%7), fmt.Sprintf("s%03d", i))
		keys = append(keys, k)
		if i%3 != 0 {
			b.put(kv.Item{Key: k, Attrs: n(int64(i))})
		}
	}
	keys = append(keys, keys[1], keys[0]) // duplicates
	got, err := b.d.BatchGet(t.Context(), keys, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys[:250] {
		it, ok := got[k]
		if ok != (i%3 != 0) {
			t.Errorf("%v found: %v", k, ok)
		}
		if ok && !it.Equal(kv.Item{Key: k, Attrs: n(int64(i))}) {
			t.Errorf("%v is %v", k, it)
		}
	}
	if len(got) != 250-84 {
		t.Errorf("%d items, want %d", len(got), 250-84)
	}
	got, err = b.d.BatchGet(t.Context(), nil, true)
	if err != nil || len(got) != 0 {
		t.Errorf("no keys: %v, %v", got, err)
	}
}
