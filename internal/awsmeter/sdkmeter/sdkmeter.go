// Package sdkmeter has the clients of the AWS SDK counted by a meter. It is apart
// from package awsmeter so that programs which only read what was counted carry no
// SDK.
package sdkmeter

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gustflow/gust/internal/awsmeter"
)

// Install has every client that is made from cfg count into m.
func Install(cfg *aws.Config, m *awsmeter.Meter) {
	cfg.APIOptions = append(cfg.APIOptions[:len(cfg.APIOptions):len(cfg.APIOptions)], installer{m}.install)
}

type installer struct{ m *awsmeter.Meter }

func (m installer) install(s *middleware.Stack) error {
	// After the service's metadata, before everything that may end a call early.
	if err := s.Initialize.Add(middleware.InitializeMiddlewareFunc("GustMeter", m.call), middleware.After); err != nil {
		return err
	}
	if err := s.Finalize.Insert(middleware.FinalizeMiddlewareFunc("GustMeterOutcome", outcome), "Retry", middleware.After); err != nil {
		return err
	}
	return s.Deserialize.Add(middleware.DeserializeMiddlewareFunc("GustMeterTry", try), middleware.After)
}

// outcome sees what became of one try.
func outcome(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	out, md, err := next.HandleFinalize(ctx, in)
	if t, _ := ctx.Value(tallyKey{}).(*tally); t != nil && throttled(err) {
		t.throttled.Add(1)
	}
	return out, md, err
}

type tallyKey struct{}

// tally is what the tries of one call add up to.
type tally struct {
	tries, throttled atomic.Int64
	out, in          atomic.Int64
}

// call counts one call, however many tries it takes.
func (m installer) call(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	op := awsmeter.Op{Service: awsmiddleware.GetServiceID(ctx), Operation: awsmiddleware.GetOperationName(ctx)}
	labels := m.m.LabelsOf(ctx, op, in.Parameters)
	if op.Service == "DynamoDB" {
		in.Parameters = withCapacity(in.Parameters)
	}
	t := &tally{}
	start := time.Now()
	out, md, err := next.HandleInitialize(context.WithValue(ctx, tallyKey{}, t), in)
	n := t.tries.Load()
	if n == 0 {
		return out, md, err // nothing was sent
	}
	c := awsmeter.Counts{Calls: float64(n), Retries: float64(n - 1), Throttled: float64(t.throttled.Load()), BytesOut: float64(t.out.Load()), BytesIn: float64(t.in.Load()), Time: time.Since(start)}
	switch op.Service {
	case "DynamoDB":
		capacity(&c, op.Operation, in.Parameters, out.Result, err)
	case "SQS":
		// Every try is billed, and as much as the larger direction.
		c.Requests = float64(n) * max(awsmeter.Chunks(bodyBytes(in.Parameters)), awsmeter.Chunks(bodyBytes(out.Result)))
	}
	m.m.Record(op, c, labels...)
	return out, md, err
}

// try counts one try at the wire.
func try(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	t, _ := ctx.Value(tallyKey{}).(*tally)
	if t == nil {
		return next.HandleDeserialize(ctx, in)
	}
	if r, ok := in.Request.(*smithyhttp.Request); ok && r.ContentLength > 0 {
		t.out.Add(r.ContentLength)
	}
	out, md, err := next.HandleDeserialize(ctx, in)
	r, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok || r.Response == nil || r.StatusCode == 0 {
		return out, md, err // no answer: not billed
	}
	t.tries.Add(1)
	if r.Body != nil {
		if n := r.ContentLength; n >= 0 {
			t.in.Add(n)
		} else {
			r.Body = &counted{r.Body, t}
		}
	}
	return out, md, err
}

type counted struct {
	io.ReadCloser
	t *tally
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.t.in.Add(int64(n))
	return n, err
}

func throttled(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	code := api.ErrorCode() // "TooManyRequestsException" is Lambda's
	return code == "TooManyRequestsException" || strings.Contains(code, "Throttl") || strings.Contains(code, "ThroughputExceeded") || strings.Contains(code, "LimitExceeded") || code == "SlowDown"
}

// withCapacity asks DynamoDB to report units. It works on any operation's input,
// on a copy of it, so that the caller's stays as it is; inputs that have the
// field already keep what they ask for.
func withCapacity(params any) any {
	v := reflect.ValueOf(params)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return params
	}
	f := v.Elem().FieldByName("ReturnConsumedCapacity")
	if !f.IsValid() || f.Kind() != reflect.String || f.Len() > 0 {
		return params
	}
	c := reflect.New(v.Elem().Type())
	c.Elem().Set(v.Elem())
	c.Elem().FieldByName("ReturnConsumedCapacity").SetString("TOTAL")
	return c.Interface()
}

// writes are the operations whose units are write units.
var writes = map[string]bool{"PutItem": true, "UpdateItem": true, "DeleteItem": true, "BatchWriteItem": true, "TransactWriteItems": true}

// capacity reads the units of an answer, or estimates those of a refusal.
func capacity(c *awsmeter.Counts, operation string, params, result any, err error) {
	if err != nil {
		var api smithy.APIError
		if !errors.As(err, &api) {
			return
		}
		switch api.ErrorCode() {
		case "ConditionalCheckFailedException":
			// The units are those of the write; the item, when it is returned, tells its
			// size roughly (JSON writes bytes in base64).
			c.Refused++
			c.EstimatedUnits += max(1, float64(int(c.BytesIn*0.75+1023)/1024))
			c.WriteUnits += c.EstimatedUnits
		case "TransactionCanceledException":
			c.Refused++
			c.EstimatedUnits += 2 * float64(max(1, length(params, "TransactItems")))
			c.WriteUnits += c.EstimatedUnits
		}
		return
	}
	units := consumed(result)
	if writes[operation] {
		c.WriteUnits += units
	} else {
		c.ReadUnits += units
	}
}

// consumed adds up ConsumedCapacity of an output: one, or a list.
func consumed(result any) float64 {
	f := field(result, "ConsumedCapacity")
	if !f.IsValid() {
		return 0
	}
	one := func(v reflect.Value) float64 {
		v = reflect.Indirect(v)
		if !v.IsValid() || v.Kind() != reflect.Struct {
			return 0
		}
		if u, ok := v.FieldByName("CapacityUnits").Interface().(*float64); ok && u != nil {
			return *u
		}
		return 0
	}
	if f.Kind() != reflect.Slice {
		return one(f)
	}
	sum := 0.0
	for i := range f.Len() {
		sum += one(f.Index(i))
	}
	return sum
}

// field returns a field of a struct behind a pointer, or the zero Value.
func field(x any, name string) reflect.Value {
	v := reflect.Indirect(reflect.ValueOf(x))
	if !v.IsValid() || v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

func length(x any, name string) int {
	if f := field(x, name); f.IsValid() && f.Kind() == reflect.Slice {
		return f.Len()
	}
	return 0
}

// bodyBytes is the size of the messages in an SQS input or output: MessageBody,
// Entries[].MessageBody or Messages[].Body.
func bodyBytes(x any) int {
	text := func(v reflect.Value, name string) int {
		v = reflect.Indirect(v)
		if !v.IsValid() || v.Kind() != reflect.Struct {
			return 0
		}
		if f := v.FieldByName(name); f.IsValid() {
			if s, ok := f.Interface().(*string); ok && s != nil {
				return len(*s)
			}
		}
		return 0
	}
	n := text(reflect.ValueOf(x), "MessageBody")
	for list, name := range map[string]string{"Entries": "MessageBody", "Messages": "Body"} {
		if f := field(x, list); f.IsValid() && f.Kind() == reflect.Slice {
			for i := range f.Len() {
				n += text(f.Index(i), name)
			}
		}
	}
	return n
}
