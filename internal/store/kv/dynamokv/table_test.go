package dynamokv_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

func TestCreateTable(t *testing.T) {
	client := dynamotest.Start(t)
	name := dynamotest.Table(t, client)
	if err := dynamokv.CreateTable(t.Context(), client, name, kv.DefaultSchema()); err != nil {
		t.Errorf("a second time: %v", err)
	}
	out, err := client.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if out.Table.BillingModeSummary == nil || out.Table.BillingModeSummary.BillingMode != types.BillingModePayPerRequest {
		t.Errorf("billing %+v", out.Table.BillingModeSummary)
	}
	keys := func(ks []types.KeySchemaElement) (out []string) {
		for _, k := range ks {
			out = append(out, *k.AttributeName+" "+string(k.KeyType))
		}
		return out
	}
	if got := keys(out.Table.KeySchema); !slices.Equal(got, []string{"pk HASH", "sk RANGE"}) {
		t.Errorf("key %v", got)
	}
	indexes := map[string]types.GlobalSecondaryIndexDescription{}
	for _, ix := range out.Table.GlobalSecondaryIndexes {
		indexes[*ix.IndexName] = ix
	}
	for _, want := range []string{"gsi1", "gsi2"} {
		ix, ok := indexes[want]
		if !ok || !slices.Equal(keys(ix.KeySchema), []string{want + "pk HASH", want + "sk RANGE"}) ||
			ix.Projection.ProjectionType != types.ProjectionTypeInclude || !slices.Equal(ix.Projection.NonKeyAttributes, []string{"ix"}) {
			t.Errorf("index %s: %+v", want, ix)
		}
	}
	if len(indexes) != 2 {
		t.Errorf("%d indexes", len(indexes))
	}
	ttl, err := client.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &name})
	if err != nil || *ttl.TimeToLiveDescription.AttributeName != "ttl" || ttl.TimeToLiveDescription.TimeToLiveStatus != types.TimeToLiveStatusEnabled {
		t.Errorf("expiry %+v, %v", ttl, err)
	}
}

// TestAbsentTable checks that a table that is not there is never an item that is not there.
func TestAbsentTable(t *testing.T) {
	d := dynamotest.OpenTable(t, dynamotest.Start(t), "gust-test-absent")
	key := kv.Key{PK: "p", SK: "s"}
	_, get := d.Get(t.Context(), key, true)
	_, batch := d.BatchGet(t.Context(), []kv.Key{key}, true)
	_, query := d.Query(t.Context(), kv.Query{PK: "p"})
	for name, err := range map[string]error{
		"get": get, "batch get": batch, "query": query,
		"write":    d.Write(t.Context(), kv.Delete(key, kv.Exists())),
		"transact": d.Transact(t.Context(), "", []kv.Op{kv.Delete(key, kv.Exists())}),
	} {
		if !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, kv.ErrNotFound) || errors.Is(err, kv.ErrConditionFailed) {
			t.Errorf("%s: %v, want %v", name, err, kv.ErrUnavailable)
		}
	}
}
