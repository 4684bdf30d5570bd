package dynamokv_test

import (
	"testing"

	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
)

func open(t testing.TB) kv.Driver { return dynamotest.Open(t) }

func TestSuite(t *testing.T) { kvtest.Run(t, open, nil) }
