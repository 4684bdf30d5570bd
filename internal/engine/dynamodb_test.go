package engine_test

import (
	"testing"

	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store/kv"
)

// The engine's tests run on DynamoDB, too, where DynamoDB Local is installed.
func init() {
	drivers["dynamodb"] = func(t testing.TB) kv.Driver { return dynamotest.Open(t) }
}
