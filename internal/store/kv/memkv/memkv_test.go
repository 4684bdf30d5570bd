package memkv_test

import (
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

func TestSuite(t *testing.T) {
	for name, opts := range map[string]memkv.Options{
		"Fresh":         {},
		"IndexLagging":  {IndexLag: 3},
		"EverythingLag": {IndexLag: 5, ReadLag: 2},
	} {
		t.Run(name, func(t *testing.T) {
			kvtest.Run(t, func(t testing.TB) kv.Driver {
				s := memkv.New(opts)
				t.Cleanup(func() { _ = s.Close() })
				return s
			}, nil)
		})
	}
}

func TestLag(t *testing.T) {
	s := memkv.New(memkv.Options{IndexLag: 2, ReadLag: 1})
	ctx := t.Context()
	k := kv.Key{PK: "p", SK: "s"}
	in := func() int {
		t.Helper()
		page, err := s.Query(ctx, kv.Query{PK: "i", Index: kv.GSI1})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Items)
	}
	write := func(op kv.Op) {
		t.Helper()
		if err := s.Write(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	write(kv.Put(kv.Item{Key: k, Index: map[kv.IndexName]kv.Key{kv.GSI1: {PK: "i", SK: "1"}}}, kv.Cond{}))
	if _, err := s.Get(ctx, k, false); err == nil {
		t.Error("an eventual read saw the last write")
	}
	if _, err := s.Get(ctx, k, true); err != nil {
		t.Errorf("a consistent read did not see the last write: %v", err)
	}
	write(kv.Put(kv.Item{Key: kv.Key{PK: "p", SK: "other"}}, kv.Cond{}))
	if _, err := s.Get(ctx, k, false); err != nil {
		t.Errorf("an eventual read lags more than one write: %v", err)
	}
	if in() != 0 {
		t.Error("the index lags less than two writes")
	}
	write(kv.Delete(k, kv.Exists()))
	if in() != 1 {
		t.Error("the index lags more than two writes")
	}
	s.Settle()
	if in() != 0 {
		t.Error("the index is not settled")
	}
}

func TestExpiryAndTokens(t *testing.T) {
	now := time.Unix(1000, 0)
	s := memkv.New(memkv.Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	soon := kv.Item{Key: kv.Key{PK: "p", SK: "soon"}, ExpiresAt: 1500, Index: map[kv.IndexName]kv.Key{kv.GSI1: {PK: "i", SK: "1"}}}
	if err := s.Write(ctx, kv.Put(soon, kv.Cond{})); err != nil {
		t.Fatal(err)
	}
	if n := s.Collect(1499); n != 0 {
		t.Errorf("collected %d items too early", n)
	}
	if n := s.Collect(1500); n != 1 {
		t.Errorf("collected %d items, want 1", n)
	}
	if page, err := s.Query(ctx, kv.Query{PK: "i", Index: kv.GSI1}); err != nil || len(page.Items) != 0 {
		t.Errorf("the index still has %v (%v)", page.Items, err)
	}

	add := []kv.Op{kv.Update(kv.Key{PK: "p", SK: "n"}, kv.Cond{}, kv.Add("n", 1))}
	for _, step := range []struct {
		later time.Duration
		want  int64
	}{{0, 1}, {9 * time.Minute, 1}, {2 * time.Minute, 2}, {time.Hour, 3}} {
		now = now.Add(step.later)
		if err := s.Transact(ctx, "token", add); err != nil {
			t.Fatal(err)
		}
		if it, err := s.Get(ctx, add[0].Key, true); err != nil || it.Int("n") != step.want {
			t.Errorf("after %v: %v (%v), want %d", step.later, it, err, step.want)
		}
	}
}
