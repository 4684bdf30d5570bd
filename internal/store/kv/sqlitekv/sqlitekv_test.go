package sqlitekv_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
)

func openAt(t testing.TB, path string, opts sqlitekv.Options) *sqlitekv.Store {
	t.Helper()
	s, err := sqlitekv.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func openNew(t testing.TB) kv.Driver {
	return openAt(t, filepath.Join(t.TempDir(), "gust.db"), sqlitekv.Options{})
}

func TestSuite(t *testing.T) {
	t.Run("OneStore", func(t *testing.T) { kvtest.Run(t, openNew, nil) })
	t.Run("TwoStores", func(t *testing.T) {
		kvtest.Run(t, func(t testing.TB) kv.Driver {
			path := filepath.Join(t.TempDir(), "gust.db")
			return &alternating{stores: [2]kv.Driver{openAt(t, path, sqlitekv.Options{}), openAt(t, path, sqlitekv.Options{})}}
		}, nil)
	})
}

// alternating sends every call to another of two stores of one file, as two processes would.
type alternating struct {
	stores [2]kv.Driver
	calls  atomic.Int64
}

func (a *alternating) next() kv.Driver { return a.stores[a.calls.Add(1)%2] }

func (a *alternating) Get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	return a.next().Get(ctx, key, consistent)
}

func (a *alternating) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	return a.next().BatchGet(ctx, keys, consistent)
}

func (a *alternating) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	return a.next().Query(ctx, q)
}

func (a *alternating) Write(ctx context.Context, op kv.Op) error { return a.next().Write(ctx, op) }

func (a *alternating) Transact(ctx context.Context, token string, ops []kv.Op) error {
	return a.next().Transact(ctx, token, ops)
}

func (a *alternating) Limits() kv.Limits { return a.stores[0].Limits() }

func (a *alternating) Close() error { return errors.Join(a.stores[0].Close(), a.stores[1].Close()) }

func TestEquivalentToMemkv(t *testing.T) {
	kvtest.RunEquivalence(t, openNew, func(t testing.TB) kv.Driver { return memkv.New(memkv.Options{}) })
}
