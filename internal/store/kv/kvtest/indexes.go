package kvtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
)

func indexed(pk, sk string, at kv.Key, attrs map[string]kv.Value) kv.Item {
	return kv.Item{Key: key(pk, sk), Attrs: attrs, Index: map[kv.IndexName]kv.Key{kv.GSI1: at}}
}

func testIndexes(t *testing.T, open Open) {
	b := setup(t, open)
	due := kv.Query{PK: "due#0", Index: kv.GSI1}
	b.put(item("RUN#z", "META", n(0))) // not in the index
	b.put(indexed("RUN#a", "META-a", key("due#0", "2026-01-02"), map[string]kv.Value{kv.AttrIndexed: kv.String("sum"), "state": kv.String("running")}))
	b.put(indexed("RUN#b", "META-b", key("due#0", "2026-01-01"), n(1)))
	b.put(indexed("RUN#c", "META-c", key("due#1", "2026-01-01"), n(1)))
	b.eventuallySKs(due, "META-b", "META-a")
	due.Descending = true
	b.eventuallySKs(due, "META-a", "META-b")
	due.Descending = false
	due.SK = kv.Between("", "2026-01-01")
	b.eventuallySKs(due, "META-b")
	due.SK = kv.Prefix("2026-01-02")
	b.eventuallySKs(due, "META-a")
	due.SK = kv.Range{}

	// An entry holds the keys and the included attributes, nothing else.
	want := kv.Item{Key: key("RUN#a", "META-a"), Attrs: map[string]kv.Value{kv.AttrIndexed: kv.String("sum")}, Index: map[kv.IndexName]kv.Key{kv.GSI1: key("due#0", "2026-01-02")}}
	if got := b.all(due)[1]; !got.Equal(want) {
		t.Errorf("entry %v, want %v", got, want)
	}
	b.write(kv.Update(want.Key, kv.Exists(), kv.Assign(kv.AttrIndexed, kv.Int(7)), kv.Assign("state", kv.String("failed"))).WithIndex(kv.GSI2, key("other", "1")))
	want.Attrs[kv.AttrIndexed] = kv.Int(7)
	b.eventually("included attribute changed", func() error {
		if got := b.all(due); len(got) != 2 || !got[1].Equal(want) {
			return fmt.Errorf("entries %v, want %v last", got, want)
		}
		return nil
	})
	b.eventuallySKs(kv.Query{PK: "other", Index: kv.GSI2}, "META-a")
	b.write(kv.Update(want.Key, kv.Exists(), kv.Remove(kv.AttrIndexed)))
	want.Attrs = nil
	b.eventually("included attribute removed", func() error {
		if got := b.all(due); len(got) != 2 || !got[1].Equal(want) {
			return fmt.Errorf("entries %v, want %v last", got, want)
		}
		return nil
	})

	// An entry moves with its key and vanishes when it is removed, replaced or deleted, in every kind of write.
	b.write(kv.Update(key("RUN#b", "META-b"), kv.Exists()).WithIndex(kv.GSI1, key("due#0", "2026-01-03")))
	b.eventuallySKs(due, "META-a", "META-b")
	b.write(kv.Update(key("RUN#b", "META-b"), kv.Exists()).WithIndex(kv.GSI1, key("due#1", "2026-01-03")))
	b.eventuallySKs(due, "META-a")
	b.eventuallySKs(kv.Query{PK: "due#1", Index: kv.GSI1}, "META-c", "META-b")
	b.write(kv.Update(key("RUN#a", "META-a"), kv.Exists(), kv.Assign("state", kv.String("success"))).WithIndex(kv.GSI1, kv.Key{}))
	b.eventuallySKs(due)
	b.put(item("RUN#b", "META-b", n(2)))
	b.eventuallySKs(kv.Query{PK: "due#1", Index: kv.GSI1}, "META-c")
	b.write(kv.Delete(key("RUN#c", "META-c"), kv.Exists()))
	b.eventuallySKs(kv.Query{PK: "due#1", Index: kv.GSI1})
	if err := b.d.Transact(t.Context(), "", []kv.Op{
		kv.Put(indexed("RUN#d", "d", key("due#0", "1"), nil), kv.NotExists()),
		kv.Update(key("RUN#e", "e"), kv.NotExists()).WithIndex(kv.GSI1, key("due#0", "0")),
		kv.Delete(key("RUN#a", "META-a"), kv.Exists()),
	}); err != nil {
		t.Fatal(err)
	}
	b.eventuallySKs(due, "e", "d")
	b.eventuallySKs(kv.Query{PK: "other", Index: kv.GSI2})

	// A refused write leaves the index alone.
	b.wantErr(b.d.Write(t.Context(), kv.Update(key("RUN#d", "d"), kv.Present("nope")).WithIndex(kv.GSI1, key("due#0", "9"))), kv.ErrConditionFailed)
	b.wantErr(b.d.Write(t.Context(), kv.Delete(key("RUN#d", "d"), kv.Present("nope"))), kv.ErrConditionFailed)
	b.put(item("unrelated", "x", nil))
	b.eventuallySKs(due, "e", "d")
}

func testIndexPages(t *testing.T, open Open) {
	b := setup(t, open)
	// Many entries with equal sort keys, of items in several partitions.
	var want []kv.Key
	for i := range 12 {
		it := indexed(fmt.Sprintf("p%d", i%3), fmt.Sprintf("s%02d", i), key("list", fmt.Sprintf("day%d", i/5)), n(int64(i)))
		want = append(want, it.Key)
		b.put(it)
	}
	q := kv.Query{PK: "list", Index: kv.GSI1}
	b.eventually("all entries", func() error {
		if got := len(b.all(q)); got != len(want) {
			return fmt.Errorf("%d entries", got)
		}
		return nil
	})
	whole := b.all(q)
	for _, limit := range []int{1, 2, 5, 12, 50} {
		for _, desc := range []bool{false, true} {
			q.Limit, q.Descending = limit, desc
			got := b.all(q)
			if desc {
				slices.Reverse(got)
			}
			if !slices.EqualFunc(got, whole, kv.Item.Equal) {
				t.Errorf("limit %d, descending %v: %v, want %v", limit, desc, got, whole)
			}
		}
	}
	if !slices.IsSortedFunc(whole, func(x, y kv.Item) int {
		return slices.Compare([]string{x.Index[kv.GSI1].SK}, []string{y.Index[kv.GSI1].SK})
	}) {
		t.Errorf("not in order of the index: %v", whole)
	}
	for _, k := range want {
		if !slices.ContainsFunc(whole, func(it kv.Item) bool { return it.Key == k }) {
			t.Errorf("%v is not in the index", k)
		}
	}

	// The cursor survives the deletion of the entry it stands on, among equals.
	q.Limit, q.Descending = 2, false
	page, err := b.d.Query(t.Context(), q)
	if err != nil || len(page.Items) != 2 {
		t.Fatalf("%v, %v", page, err)
	}
	b.write(kv.Delete(page.Items[1].Key, kv.Exists()))
	b.write(kv.Delete(page.Items[0].Key, kv.Exists()))
	q.Cursor = page.Cursor
	if got := b.all(q); !slices.EqualFunc(got, whole[2:], kv.Item.Equal) {
		t.Errorf("after the cursor: %v, want %v", got, whole[2:])
	}
	q.SK = kv.Only("day1")
	for _, it := range b.all(q) {
		if it.Index[kv.GSI1].SK != "day1" {
			t.Errorf("range with cursor returned %v", it)
		}
	}
}

func testIndexStrings(t *testing.T, open Open) {
	b := setup(t, open)
	for _, s := range awkward {
		b.put(indexed("item "+s, s, key(s, s), map[string]kv.Value{kv.AttrIndexed: kv.String(s)}))
		b.put(indexed("list "+s, s, key("list", s), nil))
	}
	want := slices.Clone(awkward)
	slices.Sort(want)
	b.eventuallySKs(kv.Query{PK: "list", Index: kv.GSI1, Limit: 4}, want...)
	for _, s := range awkward {
		got := b.all(kv.Query{PK: s, Index: kv.GSI1})
		if len(got) != 1 || got[0].PK != "item "+s || got[0].Index[kv.GSI1] != key(s, s) || got[0].Str(kv.AttrIndexed) != s {
			t.Errorf("index partition %q has %v", s, got)
		}
	}
}
