package awscalls

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

func TestRequests(t *testing.T) {
	t.Parallel()
	here := Place{Account: "1", Region: "r"}
	query := func(s string) url.Values {
		q, err := url.ParseQuery(s)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	for name, c := range map[string]struct {
		call Call
		want string
	}{
		"get": {Call{Service: "dynamodb", Target: "GetItem", Body: []byte(`{"TableName":"t","Key":{"pk":{"S":"RUN#a#b"},"sk":{"S":"META"}}}`)},
			`[{"action":"dynamodb:GetItem","resource":"arn:aws:dynamodb:r:1:table/t","context":{"dynamodb:LeadingKeys":["RUN#x"]}}]`},
		"query of an index": {Call{Service: "dynamodb", Target: "Query", Body: []byte(`{"TableName":"t","IndexName":"gsi1","KeyConditionExpression":"(#0 = :0) AND (#1 >= :1)","ExpressionAttributeNames":{"#0":"gsi1pk","#1":"gsi1sk"},"ExpressionAttributeValues":{":0":{"S":"ALL#ASSET"},":1":{"S":"x"}}}`)},
			`[{"action":"dynamodb:Query","resource":"arn:aws:dynamodb:r:1:table/t/index/gsi1","context":{"dynamodb:LeadingKeys":["ALL#ASSET"]}}]`},
		"batch": {Call{Service: "dynamodb", Target: "BatchGetItem", Body: []byte(`{"RequestItems":{"t":{"Keys":[{"pk":{"S":"TI#1"}},{"pk":{"S":"TI#2"}},{"pk":{"S":"DAG#d"}}]}}}`)},
			`[{"action":"dynamodb:BatchGetItem","resource":"arn:aws:dynamodb:r:1:table/t","context":{"dynamodb:LeadingKeys":["DAG#x","TI#x"]}}]`},
		"transaction": {Call{Service: "dynamodb", Target: "TransactWriteItems", Body: []byte(`{"TransactItems":[{"Put":{"TableName":"t","Item":{"pk":{"S":"RUN#1"}}}},{"ConditionCheck":{"TableName":"t","Key":{"pk":{"S":"DAG#1"}}}}]}`)},
			`[{"action":"dynamodb:PutItem","resource":"arn:aws:dynamodb:r:1:table/t","context":{"dynamodb:LeadingKeys":["RUN#x"]}},{"action":"dynamodb:ConditionCheckItem","resource":"arn:aws:dynamodb:r:1:table/t","context":{"dynamodb:LeadingKeys":["DAG#x"]}}]`},
		"send": {Call{Service: "sqs", Target: "SendMessageBatch", Body: []byte(`{"QueueUrl":"http://h/queue/r/1/q"}`)}, `[{"action":"sqs:SendMessage","resource":"arn:aws:sqs:r:1:q"}]`},
		"get object of a version": {Call{Service: "s3", Method: "GET", Path: "/b/dags/x/y.yml", Query: query("versionId=7")},
			`[{"action":"s3:GetObjectVersion","resource":"arn:aws:s3:::b/dags/x"}]`},
		"list":        {Call{Service: "s3", Method: "GET", Path: "/b", Query: query("list-type=2&prefix=dags/")}, `[{"action":"s3:ListBucket","resource":"arn:aws:s3:::b","context":{"s3:prefix":["dags/"]}}]`},
		"delete many": {Call{Service: "s3", Method: "POST", Path: "/b", Query: query("delete="), Body: []byte(`<Delete><Object><Key>xcoms/1</Key></Object></Delete>`)}, `[{"action":"s3:DeleteObject","resource":"arn:aws:s3:::b/xcoms/x"}]`},
		"copy": {Call{Service: "s3", Method: "PUT", Path: "/b/blobs/1", Header: http.Header{"X-Amz-Copy-Source": {"c/blobs/2"}}},
			`[{"action":"s3:PutObject","resource":"arn:aws:s3:::b/blobs/x"},{"action":"s3:GetObject","resource":"arn:aws:s3:::c/blobs/x"}]`},
		"invoke": {Call{Service: "lambda", Method: "POST", Path: "/2015-03-31/functions/f/invocations"}, `[{"action":"lambda:InvokeFunction","resource":"arn:aws:lambda:r:1:function:f"}]`},
		"log": {Call{Service: "logs", Target: "PutLogEvents", Body: []byte(`{"logGroupName":"/aws/lambda/w","logStreamName":"s"}`)},
			`[{"action":"logs:PutLogEvents","resource":"arn:aws:logs:r:1:log-group:/aws/lambda/w:log-stream:s"}]`},
	} {
		got, err := Requests(here, c.call)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, b, c.want)
		}
	}
	for name, c := range map[string]Call{
		"service":            {Service: "ec2", Method: "POST"},
		"operation":          {Service: "dynamodb", Target: "Scan", Body: []byte(`{"TableName":"t"}`)},
		"no key":             {Service: "dynamodb", Target: "Query", Body: []byte(`{"TableName":"t","KeyConditionExpression":"#0 = :0","ExpressionAttributeNames":{"#0":"other"}}`)},
		"function's control": {Service: "lambda", Method: "PUT", Path: "/2015-03-31/functions/f/code"},
		"bucket's making":    {Service: "s3", Method: "PUT", Path: "/b"},
	} {
		if got, err := Requests(here, c); err == nil {
			t.Errorf("%s: passed unseen as %v", name, got)
		}
	}
}
