package awsmeter_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/awslabel"
	"github.com/gustflow/gust/internal/awsmeter/prices"
	"github.com/gustflow/gust/internal/awsmeter/sdkmeter"
)

// answers is a service: an answer per request, in order, and what was asked.
type answers struct {
	mu    sync.Mutex
	queue []answer
	asked []string
}

type answer struct {
	status int
	body   string
}

func (a *answers) Do(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b []byte
	if r.Body != nil {
		b, _ = io.ReadAll(r.Body)
	}
	a.asked = append(a.asked, string(b))
	if len(a.queue) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	next := a.queue[0]
	a.queue = a.queue[1:]
	return &http.Response{StatusCode: next.status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(strings.NewReader(next.body)), ContentLength: int64(len(next.body)), Request: r}, nil
}

func config(m *awsmeter.Meter, as ...answer) (aws.Config, *answers) {
	a := &answers{queue: as}
	cfg := aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), HTTPClient: a,
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			})
		},
	}
	sdkmeter.Install(&cfg, m)
	return cfg, a
}

func s(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }

func key(pk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"pk": s(pk), "sk": s("ROW")}
}

var (
	task = awsmeter.Label{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
	run  = task.Run()
)

func TestDynamoDB(t *testing.T) {
	m := awsmeter.New(awslabel.Of)
	cfg, a := config(m,
		answer{200, `{"ConsumedCapacity":{"TableName":"x","CapacityUnits":3.0}}`},
		answer{400, `{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"The conditional request failed"}`},
		answer{400, `{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow"}`},
		answer{200, `{"ConsumedCapacity":{"TableName":"x","CapacityUnits":0.5}}`},
		answer{200, `{"ConsumedCapacity":[{"TableName":"x","CapacityUnits":6.0}]}`},
		answer{200, `{"Responses":{},"ConsumedCapacity":[{"TableName":"x","CapacityUnits":2.0}]}`},
	)
	c := dynamodb.NewFromConfig(cfg)
	ctx, table := t.Context(), aws.String("x")
	in := &dynamodb.UpdateItemInput{TableName: table, Key: key("TI#d#r#t#-1")}
	if _, err := c.UpdateItem(ctx, in); err != nil {
		t.Fatal(err)
	}
	if in.ReturnConsumedCapacity != "" || !strings.Contains(a.asked[0], `"ReturnConsumedCapacity":"TOTAL"`) {
		t.Errorf("the caller's input became %q, sent was %s", in.ReturnConsumedCapacity, a.asked[0])
	}
	if _, err := c.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: table, Key: key("RUN#d#r")}); err == nil {
		t.Fatal("a refused write succeeded")
	}
	if _, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: table, Key: key("RUN#d#r")}); err != nil {
		t.Fatal(err)
	}
	_, err := c.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{Put: &types.Put{TableName: table, Item: key("RUNLD#d#2026")}}, {Put: &types.Put{TableName: table, Item: key("RUN#d#r")}}, {Update: &types.Update{TableName: table, Key: key("DAG#d"), UpdateExpression: aws.String("SET a = a")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"x": {Keys: []map[string]types.AttributeValue{key("TI#d#r#t#-1"), key("POOL#default_pool")}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := m.Take()
	want := func(l awsmeter.Label, op string, f func(awsmeter.Counts) []float64, want ...float64) {
		t.Helper()
		c, ok := got[awsmeter.Key{Label: l, Op: awsmeter.Op{Service: "DynamoDB", Operation: op}}]
		if g := f(c); !ok || fmt.Sprint(g) != fmt.Sprint(want) {
			t.Errorf("%s for %+v: %v, want %v (%v)", op, l, g, want, ok)
		}
	}
	want(task, "UpdateItem", func(c awsmeter.Counts) []float64 { return []float64{c.Calls, c.WriteUnits, c.ReadUnits} }, 1, 3, 0)
	want(run, "DeleteItem", func(c awsmeter.Counts) []float64 {
		return []float64{c.Calls, c.Refused, c.WriteUnits, c.EstimatedUnits}
	}, 1, 1, 1, 1)
	want(run, "GetItem", func(c awsmeter.Counts) []float64 { return []float64{c.Calls, c.Retries, c.Throttled, c.ReadUnits} }, 2, 1, 1, 0.5)
	want(run, "TransactWriteItems", func(c awsmeter.Counts) []float64 { return []float64{c.Calls, c.WriteUnits} }, 1, 6)
	want(task, "BatchGetItem", func(c awsmeter.Counts) []float64 { return []float64{c.Calls, c.ReadUnits} }, 0.5, 1)
	want(awsmeter.Label{}, "BatchGetItem", func(c awsmeter.Counts) []float64 { return []float64{c.Calls, c.ReadUnits} }, 0.5, 1)
	for k, c := range got {
		if c.BytesOut == 0 || c.BytesIn == 0 {
			t.Errorf("%v: no bytes: %+v", k, c)
		}
	}
	if len(m.Take()) != 0 {
		t.Error("Take did not start anew")
	}
}

func TestSQS(t *testing.T) {
	m := awsmeter.New(awslabel.Of)
	cfg, _ := config(m, answer{200, `{"Successful":[],"Failed":[]}`}, answer{200, `{"Messages":[{"Body":"` + strings.Repeat("x", 65537) + `","MD5OfBody":""}]}`})
	c := sqs.NewFromConfig(cfg, func(o *sqs.Options) { o.DisableMessageChecksumValidation = true })
	send := &sqs.SendMessageBatchInput{QueueUrl: aws.String("https://q")}
	for i := range 4 {
		body := fmt.Sprintf(`{"k":"report","d":"d","r":"r","t":"t","m":-1,"s":%d}`, i)
		if i == 3 {
			body = `{"key":{"dag_id":"d","run_id":"r","task_id":"mapped","map_index":3},"dispatch_seq":1}` + strings.Repeat(" ", 130<<10)
		}
		send.Entries = append(send.Entries, sqstypes.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), MessageBody: &body})
	}
	if _, err := c.SendMessageBatch(t.Context(), send); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReceiveMessage(awsmeter.WithLabel(t.Context(), run), &sqs.ReceiveMessageInput{QueueUrl: aws.String("https://q")}); err != nil {
		t.Fatal(err)
	}
	got := m.Take()
	at := func(l awsmeter.Label, op string) awsmeter.Counts {
		return got[awsmeter.Key{Label: l, Op: awsmeter.Op{Service: "SQS", Operation: op}}]
	}
	if c := at(task, "SendMessageBatch"); c.Calls != 0.75 || c.Requests != 3*0.75 {
		t.Errorf("three of four messages of a send of 130 KB: %+v", c)
	}
	mapped := awsmeter.Label{DagID: "d", RunID: "r", TaskID: "mapped", MapIndex: 3}
	if c := at(mapped, "SendMessageBatch"); c.Calls != 0.25 {
		t.Errorf("the dispatch: %+v", c)
	}
	if c := at(run, "ReceiveMessage"); c.Requests != 2 {
		t.Errorf("a receive of 64 KB and a byte: %+v", c)
	}
}

func TestStreamedAnswersAreCounted(t *testing.T) {
	m := awsmeter.New(awslabel.Of)
	cfg, a := config(m, answer{200, strings.Repeat("x", 1000)})
	chunked := aws.HTTPClient(doer(func(r *http.Request) (*http.Response, error) {
		res, err := a.Do(r)
		if res != nil {
			res.ContentLength = -1
		}
		return res, err
	}))
	cfg.HTTPClient = chunked
	out, err := s3.NewFromConfig(cfg).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("xcoms/dag_id=d/run_id=r/task_id=t/map_index=-1/attempt=1/k")})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out.Body)
	c := m.Take()[awsmeter.Key{Label: task, Op: awsmeter.Op{Service: "S3", Operation: "GetObject"}}]
	if c.Calls != 1 {
		t.Errorf("%+v", c)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestNoAnswerIsNotBilled(t *testing.T) {
	m := awsmeter.New(nil)
	cfg, _ := config(m)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := sqs.NewFromConfig(cfg).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String("https://q")}); err == nil {
		t.Fatal("no answer, no error")
	}
	if got := m.Take(); len(got) != 0 {
		t.Errorf("counted %v", got)
	}
	var none *awsmeter.Meter
	none.Delivered(1, run)
	if none.Take() != nil {
		t.Error("a nil meter counts")
	}
}

func TestLine(t *testing.T) {
	m := awsmeter.New(nil)
	other := awsmeter.Label{DagID: "d", RunID: "r", TaskID: "m", MapIndex: 12}
	m.Delivered(300, task, other)
	m.Invoked(30*time.Millisecond, task, other)
	m.Record(awsmeter.Op{Service: "DynamoDB", Operation: "UpdateItem"}, awsmeter.Counts{Calls: 1, WriteUnits: 1}, task)
	m.Record(awsmeter.Op{Service: "S3", Operation: "PutObject"}, awsmeter.Counts{Calls: 1}, other)
	m.Record(awsmeter.Op{Service: "S3", Operation: "DeleteObject"}, awsmeter.Counts{Calls: 1}, other)
	m.Record(awsmeter.Op{Service: "S3", Operation: "HeadObject"}, awsmeter.Counts{Calls: 1}, other)
	m.Record(awsmeter.Op{Service: "Secrets Manager", Operation: "GetSecretValue"}, awsmeter.Counts{Calls: 1})
	l := awsmeter.Line{Function: "worker", MemoryMB: 512, Arch: "arm64", Usage: awsmeter.UsageOf(m.Take())}
	b := l.Encode()
	if n := len(b); n > 340 || bytes.Count(b, []byte("\n")) != 1 {
		t.Errorf("%d bytes: %s", n, b)
	}
	back, ok := awsmeter.ParseLine(append([]byte("2026-01-02T03:04:05Z INFO "), b...))
	if !ok || len(back.Usage) != 3 {
		t.Fatalf("read back %v, %+v", ok, back)
	}
	if u := back.Usage[1]; u.Label() != other || u.SQS != 1 || u.Invocations != 0.5 || u.Millis != 15 || u.S3Puts != 1 || u.S3Gets != 1 {
		t.Errorf("%+v", u)
	}
	if u := back.Usage[2]; u.Label() != task || u.WriteUnits != 1 {
		t.Errorf("%+v", u)
	}
	usd := 0.0
	for _, u := range back.Usage {
		for _, a := range u.Amounts(back.MemoryMB, back.Arch) {
			usd += prices.Default().Cost(a.Item, a.Quantity)
		}
	}
	// 2 SQS, 1 invocation, 15 MB·s of 512 MB for 30 ms, 1 write unit, 1 put, 1 get, 1 secret
	want := 2*0.4e-6 + 0.2e-6 + 0.015*0.0000133334 + 0.625e-6 + 5e-6 + 0.4e-6 + 5e-6
	if math.Abs(usd-want) > 1e-12 {
		t.Errorf("costs %v, want %v", usd, want)
	}
	for _, bad := range []string{"", "nothing", `{"gust_usage":{"v":2}}`, `{"gust_usage":`, `{"gust_usage":7}`} {
		if _, ok := awsmeter.ParseLine([]byte(bad)); ok {
			t.Errorf("%s was read", bad)
		}
	}
}

// TestLinesNameRunsOnce: and every label comes back, whatever its neighbours are.
func TestLinesNameRunsOnce(t *testing.T) {
	labels := []awsmeter.Label{
		{}, {DagID: "a"}, {DagID: "a", RunID: "r"}, {DagID: "a", RunID: "r", TaskID: "t", MapIndex: -1}, {DagID: "a", RunID: "r", TaskID: "t", MapIndex: 3},
		{DagID: "a", RunID: "s"}, {DagID: "b"}, {DagID: "b", RunID: "s", TaskID: "t", MapIndex: -1},
	}
	for mask := range 1 << len(labels) {
		m := awsmeter.New(nil)
		var want []awsmeter.Label
		for i, l := range labels {
			if mask&(1<<i) != 0 {
				m.Invoked(time.Millisecond, l)
				want = append(want, l)
			}
		}
		b := awsmeter.Line{Function: "scheduler", Usage: awsmeter.UsageOf(m.Take())}.Encode()
		back, ok := awsmeter.ParseLine(b)
		if !ok || len(back.Usage) != len(want) {
			t.Fatalf("%s: %d labels, want %d", b, len(back.Usage), len(want))
		}
		for i, u := range back.Usage {
			if u.Label() != want[i] {
				t.Fatalf("%s: label %d is %+v, want %+v", b, i, u.Label(), want[i])
			}
		}
		if strings.Count(string(b), `"r":"r"`) > 1 {
			t.Fatalf("%s names a run twice", b)
		}
	}
}
