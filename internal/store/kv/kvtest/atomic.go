package kvtest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
)

// testAtomicity makes every kind of operation fail at every position of a transaction, in each way it can fail, and
// checks that nothing else was applied and that the right operation is named.
func testAtomicity(t *testing.T, open Open) {
	b := setup(t, open)
	kinds := []kv.OpKind{kv.OpPut, kv.OpUpdate, kv.OpDelete, kv.OpCheck}
	const size = 4
	round := 0
	for _, failing := range append(kinds, 0) { // 0: an update that cannot be done, with a condition that holds
		for position := range size {
			round++
			pk := fmt.Sprintf("round%d", round)
			before := make([]kv.Item, size)
			ops := make([]kv.Op, size)
			for i := range size {
				before[i] = kv.Item{Key: key(pk, fmt.Sprint(i)), Attrs: n(int64(i)), Index: map[kv.IndexName]kv.Key{kv.GSI1: key(pk, fmt.Sprint(i))}}
				b.put(before[i])
				ops[i] = operation(kinds[(i+round)%len(kinds)], before[i], kv.Exists())
			}
			want := kv.ErrConditionFailed
			if failing == 0 {
				ops[position] = kv.Update(before[position].Key, kv.Exists(), kv.Assign("x", kv.Int(1)), kv.Add("n", math.MaxInt64), kv.Remove("y"))
				before[position].Attrs = n(5)
				b.put(before[position])
				want = kv.ErrInvalid
			} else {
				ops[position] = operation(failing, before[position], kv.Eq("n", kv.Int(99)))
			}
			what := fmt.Sprintf("%v failing at %d", failing, position)
			err := b.d.Transact(t.Context(), fmt.Sprint("token", round), ops)
			var c *kv.CancelError
			if !errors.Is(err, want) || !errors.As(err, &c) {
				t.Fatalf("%s: error %v, want a CancelError for %v", what, err, want)
			}
			if c.Op != position || c.Key != before[position].Key || !kv.NotApplied(err) {
				t.Errorf("%s: error names operation %d on %v", what, c.Op, c.Key)
			}
			for _, it := range before {
				b.want(it)
			}
			// The token is unused, and the same transaction goes through once its condition holds.
			ops[position] = operation(kinds[(position+round)%len(kinds)], before[position], kv.Exists())
			if err := b.d.Transact(t.Context(), fmt.Sprint("token", round), ops); err != nil {
				t.Fatalf("%s, then repaired: %v", what, err)
			}
			for i, op := range ops {
				switch got := b.get(before[i].Key); {
				case op.Kind == kv.OpDelete && got != nil:
					t.Errorf("%s, then repaired: %v is still %v", what, op.Key, *got)
				case op.Kind == kv.OpCheck && !got.Equal(before[i]):
					t.Errorf("%s, then repaired: a check changed %v to %v", what, before[i], *got)
				case (op.Kind == kv.OpPut || op.Kind == kv.OpUpdate) && got.Int("n") != before[i].Int("n")+100:
					t.Errorf("%s, then repaired: %v is %v", what, op.ItemKey(), *got)
				}
			}
		}
	}
	// Two failing operations: the first is named.
	err := b.d.Transact(t.Context(), "", []kv.Op{kv.Put(item("two", "0", nil), kv.NotExists()), kv.Check(key("two", "1"), kv.Exists()), kv.Check(key("two", "2"), kv.Exists())})
	var c *kv.CancelError
	if !errors.As(err, &c) || c.Op != 1 {
		t.Errorf("two failing: %v, want operation 1 named", err)
	}
}

func operation(kind kv.OpKind, it kv.Item, cond kv.Cond) kv.Op {
	switch kind {
	case kv.OpPut:
		it = it.Clone()
		it.Attrs["n"] = kv.Int(it.Int("n") + 100)
		it.Index = nil
		return kv.Put(it, cond)
	case kv.OpUpdate:
		return kv.Update(it.Key, cond, kv.Add("n", 100)).WithIndex(kv.GSI1, key("elsewhere", it.SK))
	case kv.OpDelete:
		return kv.Delete(it.Key, cond)
	}
	return kv.Check(it.Key, cond)
}

func testTransactLimits(t *testing.T, open Open) {
	b := setup(t, open)
	ctx := t.Context()
	b.wantErr(b.d.Transact(ctx, "", nil), kv.ErrInvalid)
	ops := make([]kv.Op, kv.MaxTransactOps+1)
	for i := range ops {
		ops[i] = kv.Put(item("many", fmt.Sprintf("%03d", i), n(int64(i))), kv.NotExists())
	}
	b.wantErr(b.d.Transact(ctx, "", ops), kv.ErrInvalid)
	if err := b.d.Transact(ctx, "", ops[:kv.MaxTransactOps]); err != nil {
		t.Fatal(err)
	}
	if got := b.all(kv.Query{PK: "many", Consistent: true}); len(got) != kv.MaxTransactOps {
		t.Errorf("%d items, want %d", len(got), kv.MaxTransactOps)
	}
	b.wantErr(b.d.Transact(ctx, strings.Repeat("t", kv.MaxTokenBytes+1), ops[:1]), kv.ErrInvalid)

	kinds := []kv.OpKind{kv.OpPut, kv.OpUpdate, kv.OpDelete, kv.OpCheck}
	it := item("one", "item", n(1))
	b.put(it)
	for _, first := range kinds {
		for _, second := range kinds {
			err := b.d.Transact(ctx, "", []kv.Op{operation(first, it, kv.Exists()), operation(second, it, kv.Exists())})
			var c *kv.CancelError
			if !errors.Is(err, kv.ErrInvalid) || !errors.As(err, &c) || c.Op != 1 {
				t.Errorf("%v and %v of one item: %v, want %v of operation 1", first, second, err, kv.ErrInvalid)
			}
			b.want(it)
		}
	}

	big := make([]kv.Op, 11) // 11 x 390 KB > 4 MB
	for i := range big {
		big[i] = kv.Put(item("big", fmt.Sprintf("%02d", i), map[string]kv.Value{"d": kv.Bytes(make([]byte, 390<<10))}), kv.Cond{})
	}
	err := b.d.Transact(ctx, "", big)
	b.wantErr(err, kv.ErrTooLarge)
	if !kv.NotApplied(err) {
		t.Errorf("NotApplied is false for %v", err)
	}
	if got := b.all(kv.Query{PK: "big", Consistent: true}); len(got) != 0 {
		t.Errorf("%d items of a transaction that is too large", len(got))
	}
	if err := b.d.Transact(ctx, "", big[:10]); err != nil {
		t.Errorf("3.9 MB: %v", err)
	}
}

func testTokens(t *testing.T, open Open) {
	b := setup(t, open)
	ctx := t.Context()
	k := key("p", "counter")
	ops := func(by int64) []kv.Op {
		return []kv.Op{kv.Update(k, kv.Cond{}, kv.Add("n", by)), kv.Put(item("p", fmt.Sprint("mark", by), nil), kv.NotExists())}
	}
	for range 3 {
		if err := b.d.Transact(ctx, "first", ops(1)); err != nil {
			t.Fatal(err) // also although mark1 exists by now: it is the same transaction
		}
	}
	b.want(kv.Item{Key: k, Attrs: n(1)})
	b.wantErr(b.d.Transact(ctx, "first", ops(2)), kv.ErrInvalid)
	b.wantNone(key("p", "mark2"))
	if err := b.d.Transact(ctx, "second", ops(2)); err != nil {
		t.Fatal(err)
	}
	b.want(kv.Item{Key: k, Attrs: n(3)})
	b.wantErr(b.d.Transact(ctx, "third", ops(2)), kv.ErrConditionFailed) // another transaction: mark2 exists
	b.write(kv.Delete(key("p", "mark2"), kv.Exists()))
	for range 2 {
		if err := b.d.Transact(ctx, "third", ops(2)); err != nil {
			t.Fatalf("token of a transaction that failed before: %v", err)
		}
	}
	b.want(kv.Item{Key: k, Attrs: n(5)})
	for range 2 {
		if err := b.d.Transact(ctx, "", []kv.Op{kv.Update(k, kv.Cond{}, kv.Add("n", 1))}); err != nil {
			t.Fatal(err)
		}
	}
	b.want(kv.Item{Key: k, Attrs: n(7)}) // no token: done each time
	if err := b.d.Transact(ctx, strings.Repeat("ü", kv.MaxTokenBytes/2), ops(9)); err != nil {
		t.Errorf("token of full length: %v", err)
	}
}
