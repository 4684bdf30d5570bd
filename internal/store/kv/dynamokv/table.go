package dynamokv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/store/kv"
)

// CreateTable makes the table that a store with this schema works on, for tests and tools (a stack deploys its own, the
// same): on demand, with the indexes, expiry, and point-in-time recovery where the service has it. It returns when the
// table can be used, at once when it is there already.
func CreateTable(ctx context.Context, client *dynamodb.Client, table string, schema kv.Schema) error {
	wrap := func(err error) error { return fmt.Errorf("create table %q: %w", table, err) }
	in := &dynamodb.CreateTableInput{
		TableName:   aws.String(table),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   keySchema(kv.AttrPK, kv.AttrSK),
	}
	names := []string{kv.AttrPK, kv.AttrSK}
	for _, ix := range schema.Indexes {
		pk, sk := indexPK(ix.Name), indexSK(ix.Name)
		names = append(names, pk, sk)
		projection := &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly}
		if len(ix.Include) > 0 {
			projection = &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: ix.Include}
		}
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName: aws.String(string(ix.Name)), KeySchema: keySchema(pk, sk), Projection: projection})
	}
	for _, name := range names {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS})
	}
	_, err := client.CreateTable(ctx, in)
	var exists *types.ResourceInUseException
	if err != nil && !errors.As(err, &exists) {
		return wrap(err)
	}
	describe := &dynamodb.DescribeTableInput{TableName: aws.String(table)}
	quick := func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay = 100 * time.Millisecond }
	if err := dynamodb.NewTableExistsWaiter(client).Wait(ctx, describe, 5*time.Minute, quick); err != nil {
		return wrap(err)
	}
	if exists != nil {
		return nil
	}
	_, err = client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{TableName: aws.String(table),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(kv.AttrExpiresAt), Enabled: aws.Bool(true)}})
	if err != nil {
		return wrap(fmt.Errorf("expiry: %w", err))
	}
	_, err = client.UpdateContinuousBackups(ctx, &dynamodb.UpdateContinuousBackupsInput{TableName: aws.String(table),
		PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)}})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "UnknownOperationException" { // DynamoDB Local
		return nil
	}
	if err != nil {
		return wrap(fmt.Errorf("point-in-time recovery: %w", err))
	}
	return nil
}

func keySchema(pk, sk string) []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: aws.String(pk), KeyType: types.KeyTypeHash},
		{AttributeName: aws.String(sk), KeyType: types.KeyTypeRange},
	}
}
