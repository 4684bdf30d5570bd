package kvtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/store/kv"
)

func (b bundle) fill(pk string, sks ...string) {
	b.Helper()
	for i, sk := range sks {
		b.put(kv.Item{Key: key(pk, sk), Attrs: n(int64(i))})
	}
}

func sequence(count int) []string {
	out := make([]string, count)
	for i := range out {
		out[i] = fmt.Sprintf("s%04d", i)
	}
	return out
}

func testPages(t *testing.T, open Open) {
	b := setup(t, open)
	b.fill("none-before", "x")
	b.fill("p", sequence(7)...)
	b.fill("p2", "x")
	for _, limit := range []int{0, 1, 2, 3, 6, 7, 8, 100} {
		for _, desc := range []bool{false, true} {
			for _, consistent := range []bool{false, true} {
				q := kv.Query{PK: "p", Limit: limit, Descending: desc, Consistent: consistent}
				want := sequence(7)
				if desc {
					slices.Reverse(want)
				}
				if consistent {
					b.wantSKs(q, want...)
				} else {
					b.eventuallySKs(q, want...)
				}
				page, err := b.d.Query(t.Context(), q)
				if err != nil || (limit > 0 && len(page.Items) > limit) {
					t.Errorf("%+v: %d items, error %v", q, len(page.Items), err)
				}
				if len(page.Items) < 7 && page.Cursor == "" {
					t.Errorf("%+v: %d items and no cursor", q, len(page.Items))
				}
			}
		}
	}
	b.wantSKs(kv.Query{PK: "absent", Consistent: true})
	b.wantSKs(kv.Query{PK: "p", SK: kv.Only("s0003"), Consistent: true}, "s0003")
	for _, it := range b.all(kv.Query{PK: "p", Consistent: true}) {
		b.want(it) // a query returns whole items
	}
}

// testCursorStable changes the partition between two pages: what was there and stays is returned exactly once.
func testCursorStable(t *testing.T, open Open) {
	for _, desc := range []bool{false, true} {
		b := setup(t, open)
		b.fill("p", "b", "d", "f", "h", "j")
		q := kv.Query{PK: "p", Limit: 2, Descending: desc, Consistent: true}
		page, err := b.d.Query(t.Context(), q)
		if err != nil || len(page.Items) != 2 || page.Cursor == "" {
			t.Fatalf("first page: %v, %v", page, err)
		}
		last := page.Items[1].SK
		b.fill("p", "a", "c", "e", "g", "i", "k")
		b.write(kv.Delete(key("p", last), kv.Exists())) // the cursor's own item
		b.write(kv.Delete(key("p", "f"), kv.Exists()))
		q.Cursor = page.Cursor
		if desc { // saw j, h
			b.wantSKs(q, "g", "e", "d", "c", "b", "a")
		} else { // saw b, d
			b.wantSKs(q, "e", "g", "h", "i", "j", "k")
		}
		q.Limit = 1
		q.SK = kv.Between("e", "i")
		if desc {
			b.wantSKs(q, "g", "e")
		} else {
			b.wantSKs(q, "e", "g", "h", "i")
		}
	}
}

func testCursors(t *testing.T, open Open) {
	b := setup(t, open)
	b.fill("p", sequence(3)...)
	b.fill("q", sequence(3)...)
	page, err := b.d.Query(t.Context(), kv.Query{PK: "p", Limit: 1, Consistent: true})
	if err != nil || page.Cursor == "" {
		t.Fatalf("%v, %v", page, err)
	}
	if strings.ContainsAny(page.Cursor, "+/= &?#%") {
		t.Errorf("cursor %q is not safe in a URL", page.Cursor)
	}
	for name, q := range map[string]kv.Query{
		"other partition": {PK: "q", Cursor: page.Cursor},
		"other index":     {PK: "p", Index: kv.GSI1, Cursor: page.Cursor},
		"garbage":         {PK: "p", Cursor: "garbage"},
		"not base64":      {PK: "p", Cursor: "\xff\x00"},
		"cut":             {PK: "p", Cursor: page.Cursor[:len(page.Cursor)-2]},
		"longer":          {PK: "p", Cursor: page.Cursor + "AAAA"},
	} {
		if _, err := b.d.Query(t.Context(), q); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s: error %v, want %v", name, err, kv.ErrInvalid)
		}
	}
}

func testRanges(t *testing.T, open Open) {
	b := setup(t, open)
	sks := []string{"META", "TI", "TI#", "TI#a", "TI#a#-1", "TI#a#0", "TI#ab#-1", "TI#b#-1", "TI$", "TIX", "XCOM#a"}
	b.fill("RUN#d#r", sks...)
	b.fill("RUN#d", "TI#other")
	b.fill("RUN#d#r2", "TI#other")
	b.fill("run#d#r", "TI#other")
	slices.Sort(sks)
	ranges := []kv.Range{
		{}, kv.Prefix("TI#"), kv.Prefix("TI#a#"), kv.Prefix("TI#a"), kv.Prefix("T"), kv.Prefix("ti"), kv.Prefix("TI%"), kv.Prefix("TI_"), kv.Prefix("zzz"),
		kv.Prefix("XCOM#a"), kv.Prefix("XCOM#ab"), kv.Between("TI#a", "TI#b"), kv.Between("TI#a#0", "TI#a#0"), kv.Between("TI#b", ""), kv.Between("", "TI"),
		kv.Between("", "A"), kv.Between("z", ""), kv.Between("TI#b", "TI#a"), kv.Only("TI#a"), kv.Only("TI#aa"),
	}
	for _, r := range ranges {
		want := []string{}
		for _, sk := range sks {
			if strings.HasPrefix(sk, r.Prefix) && sk >= r.From && (r.To == "" || sk <= r.To) {
				want = append(want, sk)
			}
		}
		for _, limit := range []int{0, 1, 2} {
			b.wantSKs(kv.Query{PK: "RUN#d#r", SK: r, Limit: limit, Consistent: true}, want...)
			down := slices.Clone(want)
			slices.Reverse(down)
			b.wantSKs(kv.Query{PK: "RUN#d#r", SK: r, Limit: limit, Descending: true, Consistent: true}, down...)
		}
	}
}

// testPageBytes checks that a page ends after about 1 MB whatever the limit.
func testPageBytes(t *testing.T, open Open) {
	b := setup(t, open)
	for i := range 8 {
		b.put(kv.Item{Key: key("p", fmt.Sprint(i)), Attrs: map[string]kv.Value{"d": kv.Bytes(make([]byte, 300<<10))}})
	}
	for _, limit := range []int{0, 7} {
		page, err := b.d.Query(t.Context(), kv.Query{PK: "p", Limit: limit, Consistent: true})
		if err != nil || len(page.Items) == 0 || len(page.Items) > 4 || page.Cursor == "" {
			t.Errorf("limit %d: %d items of 300 KB, cursor %q, error %v; want at most 4 and a cursor", limit, len(page.Items), page.Cursor, err)
		}
	}
	b.wantSKs(kv.Query{PK: "p", Consistent: true}, "0", "1", "2", "3", "4", "5", "6", "7")
}

// awkward strings are legal everywhere that a string is.
var awkward = []string{
	" ", "  ", "#", "##", "a#b", "a", "A", "ab", "%", "_", "*", "?", "'", "\"", "`", "\\", "/", "\x00", "a\x00", "a\x00b", "\x01", "\n", "\r\n", "\t", "\x7f",
	"é", "e\u0301", "ß", "ﬀ", "İ", "ı", "日本語", "🙂", "\u200b", "\ufeff", "\ufffd", "\uffff", "\U00010000", "\U0010ffff", "null", "true", "0", "00", "1e3",
	"NaN", "2026-01-01T00:00:00+00:00", "scheduled__2026-01-01T00:00:00+00:00", "; DROP TABLE item; --", "${x}", "{{ ds }}",
}

func testStrings(t *testing.T, open Open) {
	b := setup(t, open)
	var long []string
	for _, s := range awkward {
		long = append(long, strings.Repeat(s, 1+(kv.MaxSKBytes-len(s))/len(s)))
	}
	slices.Sort(long)
	long = slices.Compact(long) // " " and "  " become the same
	for _, s := range slices.Concat(awkward, long) {
		if !utf8.ValidString(s) || len(s) > kv.MaxSKBytes {
			t.Fatalf("bad test string %q", s)
		}
		attrs := map[string]kv.Value{"v": kv.String(s), "b": kv.Bytes([]byte(s)), "empty": kv.String("")}
		if len(s) <= 200 {
			attrs["name "+s] = kv.Int(1)
		}
		for _, k := range []kv.Key{key(s, "x"), key("x", s), key(s, s)} {
			it := kv.Item{Key: k, Attrs: attrs}
			b.write(kv.Put(it, kv.NotExists()))
			b.want(it)
		}
		b.write(kv.Update(key(s, "x"), kv.Eq("v", kv.String(s)), kv.Assign("v2", kv.String(s))))
		if got := b.sks(kv.Query{PK: s, Consistent: true}); len(got) != 2 {
			t.Errorf("partition %q has %q, want x and itself", s, got)
		}
	}
	want := slices.Concat(awkward, long)
	slices.Sort(want)
	b.wantSKs(kv.Query{PK: "x", Limit: 3, Consistent: true}, want...)
	for _, p := range awkward {
		var with []string
		for _, s := range want {
			if strings.HasPrefix(s, p) {
				with = append(with, s)
			}
		}
		b.wantSKs(kv.Query{PK: "x", SK: kv.Prefix(p), Limit: 5, Consistent: true}, with...)
	}
}

func testByteOrder(t *testing.T, open Open) {
	b := setup(t, open)
	// U+FFFF sorts before U+10000 by UTF-8 bytes and after it by UTF-16 units; "Z" before "a" by bytes, not by collation.
	sks := []string{"Z", "a", "z", "é", "\uffff", "\U00010000"}
	for i := range sks {
		b.fill("p", sks[len(sks)-1-i])
	}
	b.wantSKs(kv.Query{PK: "p", Consistent: true}, sks...)
	b.put(item("q", "s", map[string]kv.Value{"v": kv.String("\uffff")}))
	b.write(kv.Update(key("q", "s"), kv.Lt("v", kv.String("\U00010000")), kv.Assign("ok", kv.Bool(true))))
}

func testSizes(t *testing.T, open Open) {
	b := setup(t, open)
	ctx := t.Context()
	full := item("p", "full", map[string]kv.Value{"d": kv.Bytes(nil)})
	full.Index = map[kv.IndexName]kv.Key{kv.GSI1: key("i", "1")}
	fill := func(it kv.Item, size int) kv.Item {
		it = it.Clone()
		it.Attrs["d"] = kv.Bytes(make([]byte, size-it.Size()))
		return it
	}
	full = fill(full, kv.MaxItemBytes)
	if full.Size() != kv.MaxItemBytes {
		t.Fatalf("test item has %d bytes", full.Size())
	}
	b.put(full)
	b.want(full)
	over := fill(item("p", "over", map[string]kv.Value{"d": kv.Bytes(nil)}), kv.MaxItemBytes+1)
	for name, err := range map[string]error{
		"put":          b.d.Write(ctx, kv.Put(over, kv.Cond{})),
		"put, put":     b.d.Transact(ctx, "", []kv.Op{kv.Put(item("p", "beside", nil), kv.Cond{}), kv.Put(over, kv.Cond{})}),
		"update":       b.d.Write(ctx, kv.Update(full.Key, kv.Cond{}, kv.Assign("one more", kv.Bool(true)))),
		"update index": b.d.Write(ctx, kv.Update(full.Key, kv.Cond{}).WithIndex(kv.GSI2, key("j", "2"))),
		"put, update":  b.d.Transact(ctx, "", []kv.Op{kv.Put(item("p", "beside", nil), kv.Cond{}), kv.Update(full.Key, kv.Cond{}, kv.Assign("x", kv.Int(1)))}),
	} {
		if !errors.Is(err, kv.ErrTooLarge) || !kv.NotApplied(err) {
			t.Errorf("%s: error %v, want %v", name, err, kv.ErrTooLarge)
		}
		var c *kv.CancelError
		if strings.Contains(name, ",") && (!errors.As(err, &c) || c.Op != 1) {
			t.Errorf("%s: error %v, want operation 1 named", name, err)
		}
	}
	b.want(full)
	b.wantNone(over.Key)
	b.wantNone(key("p", "beside"))
	b.write(kv.Update(full.Key, kv.Exists(), kv.Assign("d", kv.String("small"))))
	if got := b.get(full.Key); got.Str("d") != "small" {
		t.Errorf("%v", got)
	}
	k := key(strings.Repeat("p", kv.MaxPKBytes), strings.Repeat("s", kv.MaxSKBytes))
	b.put(kv.Item{Key: k, Attrs: n(1)})
	b.want(kv.Item{Key: k, Attrs: n(1)})
	b.wantSKs(kv.Query{PK: k.PK, Limit: 1, Consistent: true}, k.SK)
}
