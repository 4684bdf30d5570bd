package kv

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValues(t *testing.T) {
	b := []byte{1, 2}
	for _, c := range []struct {
		v    Value
		kind Kind
		size int
		show string
	}{
		{Value{}, KindNone, 0, "none"},
		{String("é"), KindString, 2, `"é"`},
		{String(""), KindString, 0, `""`},
		{Bytes(b), KindBytes, 2, `bytes("\x01\x02")`},
		{Bytes(nil), KindBytes, 0, `bytes("")`},
		{Bool(true), KindBool, 1, "true"},
		{Bool(false), KindBool, 1, "false"},
		{Int(0), KindInt, 1, "0"},
		{Int(7), KindInt, 2, "7"},
		{Int(42), KindInt, 2, "42"},
		{Int(-42), KindInt, 3, "-42"},
		{Int(100), KindInt, 2, "100"}, // one significant digit
		{Int(123), KindInt, 3, "123"},
		{Int(math.MinInt64), KindInt, 12, "-9223372036854775808"},
		{String(strings.Repeat("x", 50)), KindString, 50, `"` + strings.Repeat("x", 40) + `"... (50 bytes)`},
	} {
		if c.v.Kind() != c.kind || c.v.Size() != c.size || fmt.Sprint(c.v) != c.show {
			t.Errorf("%#v: kind %v, size %d, shown as %v; want %v, %d, %s", c.v, c.v.Kind(), c.v.Size(), c.v, c.kind, c.size, c.show)
		}
	}
	if v := Bytes(b); string(v.Bytes()) != string(b) || v.Str() != "" || v.Int() != 0 || v.Bool() {
		t.Errorf("%v", v)
	}
	if Bytes(nil).Bytes() == nil || String("x").Bytes() != nil {
		t.Error("an empty binary value is not nil, another kind's is")
	}
	if String("a") == Bytes([]byte("a")) || String("a") != String(string([]byte{'a'})) || Int(1) == Bool(true) {
		t.Error("== is not equality of kind and content")
	}
}

func TestSizes(t *testing.T) {
	it := Item{Key: Key{"pp", "sss"}, Attrs: map[string]Value{"ix": String("four"), "state": String("running")}}
	base := 2 + 2 + 2 + 3 + (2 + 4) + (5 + 7)
	if it.Size() != base {
		t.Errorf("size %d, want %d", it.Size(), base)
	}
	it.Index = map[IndexName]Key{GSI1: {"i", "kk"}}
	it.ExpiresAt = 1_700_000_001
	if want := base + (6 + 1) + (6 + 2) + (3 + 6); it.Size() != want {
		t.Errorf("size %d, want %d", it.Size(), want)
	}
	ix, _ := DefaultSchema().Index(GSI1)
	if want := 2 + 2 + 2 + 3 + (6 + 1) + (6 + 2) + (2 + 4); it.ProjectedSize(ix) != want {
		t.Errorf("size in the index %d, want %d", it.ProjectedSize(ix), want)
	}
	if p, ok := it.Project(ix); !ok || p.Size() != it.ProjectedSize(ix) {
		t.Errorf("%v has %d bytes", p, p.Size())
	}
	ix, _ = DefaultSchema().Index(GSI2)
	if _, ok := it.Project(ix); ok || it.ProjectedSize(ix) != 0 {
		t.Error("an item without an entry is in the index")
	}
}

func TestErrors(t *testing.T) {
	cond := FailCondition(3, Key{"p", "s"}, nil)
	cancel := Wrap("transact", Key{}, &CancelError{Op: 3, Key: Key{"p", "s"}, Err: cond})
	for _, c := range []struct {
		err                   error
		is                    error
		notApplied, retryable bool
	}{
		{cond, ErrConditionFailed, true, false},
		{cancel, ErrConditionFailed, true, false},
		{Wrap("put", Key{"p", "s"}, ErrThrottled), ErrThrottled, true, true},
		{&CancelError{Err: ErrTransactionConflict}, ErrTransactionConflict, true, true},
		{ErrUnavailable, ErrUnavailable, false, true},
		{ErrDiskFull, ErrUnavailable, true, true},
		{ErrReadOnly, ErrUnavailable, true, true},
		{ErrClosed, ErrClosed, true, false},
		{ErrCorrupt, ErrCorrupt, false, false},
		{NotStarted(errors.New("x")), errNotStarted, true, false},
	} {
		if !errors.Is(c.err, c.is) || NotApplied(c.err) != c.notApplied || Retryable(c.err) != c.retryable {
			t.Errorf("%v: NotApplied %v, Retryable %v", c.err, NotApplied(c.err), Retryable(c.err))
		}
	}
	if NotApplied(nil) || Retryable(nil) || Wrap("get", Key{}, nil) != nil {
		t.Error("nil is no error")
	}
	var f *ConditionFailedError
	if !errors.As(cancel, &f) || f.Op != 3 {
		t.Errorf("%v", f)
	}
	if want := `kv transact: transaction cancelled by operation 3 on "p"/"s": condition failed on "p"/"s", which does not exist`; cancel.Error() != want {
		t.Errorf("message\n %s, want\n %s", cancel, want)
	}
}

func TestAllProblemsReported(t *testing.T) {
	op := Op{Kind: OpPut, Key: Key{"p", "s"}, Item: Item{Attrs: map[string]Value{"": Int(1), "pk": Int(2), "ok": {}}, ExpiresAt: -1}, Cond: Not(Cond{})}
	err := DefaultSchema().CheckTransact(strings.Repeat("t", 40), []Op{op, {Kind: 9, Key: Key{"p", "s"}}})
	for _, want := range []string{"without a name", `"pk" belongs to the table`, `"ok" has no value`, "ExpiresAt -1", "empty condition", "at most 36 bytes", "use Put, Update, Delete or Check"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the problems do not mention %q: %v", want, err)
		}
	}
}

func TestCursorRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		part := rapid.StringN(1, 20, -1)
		c := Cursor{Key: Key{part.Draw(rt, "pk"), part.Draw(rt, "sk")}}
		q := Query{PK: c.Key.PK}
		if rapid.Bool().Draw(rt, "index") {
			c.Index, c.Entry = GSI1, Key{part.Draw(rt, "ipk"), part.Draw(rt, "isk")}
			q = Query{PK: c.Entry.PK, Index: GSI1}
		}
		q.Cursor = c.Encode()
		got, err := DefaultSchema().CheckQuery(q)
		if err != nil || *got != c {
			rt.Fatalf("%v, %v; want %v", got, err, c)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(Cursor{Key: Key{"p", "s"}}.Encode())
	f.Add(Cursor{Index: GSI1, Key: Key{"p", "s"}, Entry: Key{"i", "k"}}.Encode())
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := decodeCursor(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		if again, err := decodeCursor(c.Encode()); err != nil || again != c {
			t.Errorf("%v, %v; want %v", again, err, c)
		}
	})
}

// TestFingerprintTellsApart changes each thing that an operation consists of.
func TestFingerprintTellsApart(t *testing.T) {
	at, other := int64(5), int64(6)
	put := func(change func(*Item)) Op {
		it := Item{Key: Key{"p", "s"}, Attrs: map[string]Value{"a": Int(1), "b": String("x")}, Index: map[IndexName]Key{GSI1: {"i", "k"}}, ExpiresAt: 9}
		change(&it)
		return Put(it, Exists())
	}
	k := Key{"p", "s"}
	lists := [][]Op{
		{put(func(*Item) {})},
		{put(func(it *Item) { it.PK = "q" })},
		{put(func(it *Item) { it.Attrs["a"] = Int(2) })},
		{put(func(it *Item) { it.Attrs["a"] = String("1") })},
		{put(func(it *Item) { it.Attrs["a"] = Bytes([]byte("1")) })},
		{put(func(it *Item) { delete(it.Attrs, "a") })},
		{put(func(it *Item) { it.Index[GSI2] = Key{"i", "k"} })},
		{put(func(it *Item) { it.Index[GSI1] = Key{"ik", ""} })},
		{put(func(it *Item) { it.ExpiresAt = 0 })},
		{Put(Item{Key: k}, Cond{})},
		{Put(Item{Key: k}, NotExists())},
		{Put(Item{Key: k}, Eq("a", Int(1)))},
		{Put(Item{Key: k}, Not(Eq("a", Int(1))))},
		{Put(Item{Key: k}, Eq("a", Int(1))), Check(Key{"p", "t"}, Exists())},
		{Check(Key{"p", "t"}, Exists()), Put(Item{Key: k}, Eq("a", Int(1)))},
		{Delete(k, Cond{})},
		{Update(k, Cond{})},
		{Update(k, Cond{}, Assign("a", Int(1)))},
		{Update(k, Cond{}, Add("a", 1))},
		{Update(k, Cond{}, Remove("a"))},
		{Update(k, Cond{}, Assign("a", Int(1)), Remove("b"))},
		{Update(k, Cond{}).WithIndex(GSI1, k)},
		{Update(k, Cond{}).WithIndex(GSI1, Key{})},
		{{Kind: OpUpdate, Key: k, ExpiresAt: &at}},
		{{Kind: OpUpdate, Key: k, ExpiresAt: &other}},
		{},
	}
	seen := map[[32]byte]int{}
	for i, ops := range lists {
		p := Fingerprint(ops)
		if j, dup := seen[p]; dup {
			t.Errorf("lists %d and %d have the same fingerprint", j, i)
		}
		seen[p] = i
		if Fingerprint(slices.Clone(ops)) != p {
			t.Errorf("list %d has two fingerprints", i)
		}
	}
	// The order of maps and where the key of a Put is do not matter.
	a := Op{Kind: OpPut, Key: k, Item: Item{Attrs: map[string]Value{"x": Int(1), "y": Int(2)}}}
	b := Put(Item{Key: k, Attrs: map[string]Value{"y": Int(2), "x": Int(1)}}, Cond{})
	if Fingerprint([]Op{a}) != Fingerprint([]Op{b}) {
		t.Error("equal operations have different fingerprints")
	}
}

func TestCondString(t *testing.T) {
	c := And(Eq("state", String("queued")), Or(Missing("owner"), Not(Gt("seq", Int(3)))), Exists())
	if want := `(state = "queued" and (owner missing or not (seq > 3)) and exists)`; c.String() != want {
		t.Errorf("%v, want %s", c, want)
	}
}
