package store_test

import (
	"path/filepath"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
	"github.com/gustflow/gust/internal/store/storetest"
)

func TestStoreMem(t *testing.T) {
	storetest.Run(t, func(testing.TB) kv.Driver { return memkv.New(memkv.Options{}) })
}

func TestStoreSQLite(t *testing.T) {
	storetest.Run(t, func(t testing.TB) kv.Driver {
		d, err := sqlitekv.Open(filepath.Join(t.TempDir(), "gust.db"), sqlitekv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
