package sqlitekv_test

import (
	"path/filepath"
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

func TestSuite(t *testing.T) { kvtest.Run(t, openNew, nil) }

func TestEquivalentToMemkv(t *testing.T) {
	kvtest.RunEquivalence(t, openNew, func(t testing.TB) kv.Driver { return memkv.New(memkv.Options{}) })
}
