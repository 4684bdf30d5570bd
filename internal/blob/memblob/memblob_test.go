package memblob_test

import (
	"testing"

	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/blobtest"
	"github.com/gustflow/gust/internal/blob/memblob"
)

func TestObjects(t *testing.T) {
	blobtest.RunObjects(t, func(*testing.T) blob.Objects { return &memblob.Objects{} })
}
