package awslabel

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gustflow/gust/internal/awsmeter"
)

func TestOf(t *testing.T) {
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	key := func(pk string) map[string]types.AttributeValue {
		return map[string]types.AttributeValue{"pk": s(pk), "sk": s("META")}
	}
	task := awsmeter.Label{DagID: "d", RunID: "r", TaskID: "t", MapIndex: 3}
	run, dag := task.Run(), awsmeter.Label{DagID: "d"}
	for name, c := range map[string]struct {
		in   any
		want []awsmeter.Label
	}{
		"get":      {&dynamodb.GetItemInput{Key: key("TI#d#r#t#3")}, []awsmeter.Label{task}},
		"put":      {&dynamodb.PutItemInput{Item: key("RUN#d#r")}, []awsmeter.Label{run}},
		"delete":   {&dynamodb.DeleteItemInput{Key: key("DAG#d")}, []awsmeter.Label{dag}},
		"update":   {&dynamodb.UpdateItemInput{Key: key("POOL#x")}, []awsmeter.Label{{}}},
		"query":    {&dynamodb.QueryInput{ExpressionAttributeValues: map[string]types.AttributeValue{":0": s("TI#d#r#t#3"), ":1": s("XCOM#")}}, []awsmeter.Label{task}},
		"index":    {&dynamodb.QueryInput{IndexName: aws.String("gsi1"), ExpressionAttributeValues: map[string]types.AttributeValue{":0": s("TI#d#r#t#3")}}, nil},
		"transact": {&dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Update: &types.Update{Key: key("POOL#x")}}, {Put: &types.Put{Item: key("TI#d#r#t#3")}}, {Delete: &types.Delete{Key: key("DAG#d")}}, {ConditionCheck: &types.ConditionCheck{Key: key("RUN#d#r")}}}}, []awsmeter.Label{run, task, run, run}},
		"send":     {&sqs.SendMessageInput{MessageBody: aws.String(`{"k":"dag","d":"d"}`)}, []awsmeter.Label{dag}},
		"rubbish":  {&sqs.SendMessageInput{MessageBody: aws.String(`x`)}, []awsmeter.Label{{}}},
		"object":   {&s3.GetObjectInput{Key: aws.String("xcoms/dag_id=d/run_id=r/task_id=t/map_index=3/attempt=1/k.abc")}, []awsmeter.Label{task}},
		"blob":     {&s3.PutObjectInput{Key: aws.String("blobs/ab/abcd")}, []awsmeter.Label{{}}},
		"other":    {&s3.ListObjectsV2Input{}, nil},
	} {
		if got := Of(awsmeter.Op{}, c.in); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
