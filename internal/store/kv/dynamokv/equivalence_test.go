package dynamokv_test

import (
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/storetest"
)

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestEquivalentToMemkv(t *testing.T) {
	kvtest.RunEquivalence(t, open, func(testing.TB) kv.Driver { return memkv.New(memkv.Options{}) })
}
