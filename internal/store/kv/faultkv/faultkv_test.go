package faultkv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// TestSuite: without faults, or with delays and stale reads alone (which the contract allows), nothing is different.
func TestSuite(t *testing.T) {
	for name, opts := range map[string]faultkv.Options{
		"None":  {},
		"Stale": {Seed: 1, Read: faultkv.Odds{Stale: 0.5, Delay: 0.2}, Write: faultkv.Odds{Delay: 0.2}, StaleWrites: 4},
	} {
		t.Run(name, func(t *testing.T) {
			kvtest.Run(t, func(t testing.TB) kv.Driver { return faultkv.New(memkv.New(memkv.Options{}), opts) }, nil)
		})
	}
}

var k = kv.Key{PK: "p", SK: "s"}

// play makes the same calls each time and returns what they answered.
func play(t *testing.T, s *faultkv.Store) []string {
	t.Helper()
	var out []string
	for i := range 200 {
		var err error
		switch i % 4 {
		case 0:
			err = s.Write(t.Context(), kv.Update(k, kv.Cond{}, kv.Add("n", 1)))
		case 1:
			err = s.Transact(t.Context(), fmt.Sprint(i), []kv.Op{kv.Update(k, kv.Cond{}, kv.Add("n", 1))})
		case 2:
			var it kv.Item
			it, err = s.Get(t.Context(), k, false)
			out = append(out, fmt.Sprint(it.Int("n")))
		case 3:
			_, err = s.Query(t.Context(), kv.Query{PK: "p"})
		}
		out = append(out, fmt.Sprint(err))
	}
	return out
}

var everything = faultkv.Odds{FailBefore: 0.1, TimeoutAfter: 0.1, Throttle: 0.1, Delay: 0.1, Stale: 0.1}

func TestDeterministicAndReplayed(t *testing.T) {
	fresh := func(opts faultkv.Options) *faultkv.Store { return faultkv.New(memkv.New(memkv.Options{}), opts) }
	opts := faultkv.Options{Seed: 7, Read: everything, Write: everything, Transact: everything}
	first := fresh(opts)
	want := play(t, first)
	if got := play(t, fresh(opts)); !slices.Equal(got, want) {
		t.Error("the same seed gives other answers")
	}
	opts.Seed = 8
	if got := play(t, fresh(opts)); slices.Equal(got, want) {
		t.Error("another seed gives the same answers")
	}
	if got := play(t, fresh(faultkv.Options{Replay: first.Log()})); !slices.Equal(got, want) {
		t.Error("the replay gives other answers")
	}
	met := map[faultkv.Fault]int{}
	for i, c := range first.Log() {
		if c.Seq != i {
			t.Fatalf("call %d is logged as %d", i, c.Seq)
		}
		met[c.Fault]++
	}
	for f := faultkv.None; f <= faultkv.Stale; f++ {
		if met[f] == 0 {
			t.Errorf("fault %v never happened: %v", f, met)
		}
	}
}

func TestEachFault(t *testing.T) {
	n := func(t *testing.T, d kv.Driver) int64 {
		it, err := d.Get(t.Context(), k, true)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			t.Fatal(err)
		}
		return it.Int("n")
	}
	var before, after string
	for name, c := range map[string]struct {
		odds    faultkv.Odds
		want    error
		applied int64
		unknown bool
	}{
		"fail before":   {faultkv.Odds{FailBefore: 1}, kv.ErrUnavailable, 0, true},
		"timeout after": {faultkv.Odds{TimeoutAfter: 1}, kv.ErrUnavailable, 1, true},
		"throttle":      {faultkv.Odds{Throttle: 1}, kv.ErrThrottled, 0, false},
		"delay":         {faultkv.Odds{Delay: 1}, nil, 1, false},
		"none":          {faultkv.Odds{}, nil, 1, false},
	} {
		for _, method := range []string{"write", "transact"} {
			inner := memkv.New(memkv.Options{})
			delays := 0
			s := faultkv.New(inner, faultkv.Options{Write: c.odds, Transact: c.odds, Delay: func(context.Context, faultkv.Call) {
				delays++
				if n(t, inner) != 0 {
					t.Error("the delay comes after the write")
				}
			}})
			op := kv.Update(k, kv.Cond{}, kv.Add("n", 1))
			var err error
			if method == "write" {
				err = s.Write(t.Context(), op)
			} else {
				err = s.Transact(t.Context(), "", []kv.Op{op})
			}
			if !errors.Is(err, c.want) || n(t, inner) != c.applied || (err != nil && kv.NotApplied(err) == c.unknown) {
				t.Errorf("%s, %s: error %v, n = %d", name, method, err, n(t, inner))
			}
			if (delays == 1) != (name == "delay") {
				t.Errorf("%s: %d delays", name, delays)
			}
			switch {
			case name == "fail before" && method == "write":
				before = err.Error()
			case name == "timeout after" && method == "write":
				after = err.Error()
			}
			s.Pause(true)
			if err := s.Write(t.Context(), op); err != nil {
				t.Errorf("paused: %v", err)
			}
		}
	}
	if before != after {
		t.Errorf("a caller can tell %q from %q", before, after)
	}
}

func TestStale(t *testing.T) {
	stale := false
	s := faultkv.New(memkv.New(memkv.Options{}), faultkv.Options{StaleWrites: 2, Odds: func(c faultkv.Call) faultkv.Odds {
		if stale && c.Method != "write" {
			return faultkv.Odds{Stale: 1}
		}
		return faultkv.Odds{}
	}})
	ctx := t.Context()
	put := func(v int64) {
		t.Helper()
		it := kv.Item{Key: k, Attrs: map[string]kv.Value{kv.AttrIndexed: kv.Int(v)}, Index: map[kv.IndexName]kv.Key{kv.GSI1: {PK: "i", SK: "1"}}}
		if err := s.Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	index := func() int64 {
		t.Helper()
		page, err := s.Query(ctx, kv.Query{PK: "i", Index: kv.GSI1})
		if err != nil || len(page.Items) != 1 {
			t.Fatal(page, err)
		}
		return page.Items[0].Int(kv.AttrIndexed)
	}
	item := func(consistent bool) int64 {
		t.Helper()
		it, err := s.Get(ctx, k, consistent)
		if err != nil {
			t.Fatal(err)
		}
		return it.Int(kv.AttrIndexed)
	}
	put(1)
	if index() != 1 || item(false) != 1 {
		t.Fatal("not stale yet")
	}
	stale = true
	put(2)
	put(3)
	if index() != 1 || item(false) != 1 {
		t.Errorf("index %d, item %d; want 1, as they were two writes ago", index(), item(false))
	}
	if item(true) != 3 {
		t.Error("a consistent read is stale")
	}
	put(4)
	if index() != 4 || item(false) != 4 {
		t.Errorf("index %d, item %d; want 4: an answer of three writes ago is too old", index(), item(false))
	}
}

func TestCrashPoints(t *testing.T) {
	type death struct{ where string }
	for _, where := range []string{"before", "after"} {
		inner := memkv.New(memkv.Options{})
		s := faultkv.New(inner, faultkv.Options{
			Before: func(c faultkv.Call) {
				if where == "before" && c.Seq == 1 {
					panic(death{where})
				}
			},
			After: func(c faultkv.Call, err error) {
				if err != nil {
					t.Error(err)
				}
				if where == "after" && c.Seq == 1 {
					panic(death{where})
				}
			},
		})
		died := func() (v any) {
			defer func() { v = recover() }()
			for range 3 {
				if err := s.Write(t.Context(), kv.Update(k, kv.Cond{}, kv.Add("n", 1))); err != nil {
					t.Error(err)
				}
			}
			return nil
		}()
		if died != (death{where}) {
			t.Errorf("%s: died of %v", where, died)
		}
		want := map[string]int64{"before": 1, "after": 2}[where]
		if it, err := inner.Get(t.Context(), k, true); err != nil || it.Int("n") != want {
			t.Errorf("%s: %v (%v), want n = %d", where, it, err, want)
		}
	}
}

func TestOddsOutOfRange(t *testing.T) {
	for _, o := range []faultkv.Odds{{FailBefore: -0.1}, {Throttle: 0.6, Delay: 0.6}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was accepted", o)
				}
			}()
			faultkv.New(memkv.New(memkv.Options{}), faultkv.Options{Write: o})
		}()
	}
}
