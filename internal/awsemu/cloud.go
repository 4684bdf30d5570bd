package awsemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Options configure a Cloud.
type Options struct {
	Latencies *Latencies // required
	Seed      uint64
	// Limits makes the table throttle as a new one does.
	Limits bool
	// Warm is how many environments of each function are there at the start; -1 for
	// as many as are needed.
	Warm int
	// Forward sends the requests for a service to a real endpoint, such as
	// http://127.0.0.1:8000, where it returns one; nil answers everything here. Only
	// outside of bubbles.
	Forward func(service string) string
	// CPU is charged between the calls of a handler; nil charges nothing.
	CPU CPU
	// Kill reports whether the environment of an invocation dies before a call that it
	// is about to make; nil kills none.
	Kill func(function string, invocation int, operation string) bool
	// Seen is told of every call that reaches a service, with its body; may be nil. It
	// is called by several goroutines.
	Seen func(function, service, operation string, body []byte)
	Log  *slog.Logger
}

// CPU is how long a handler computes before a call, or before it returns
// (operation ""). The real time since its last call is given, as measured.
type CPU func(function, operation string, real time.Duration) time.Duration

// Cloud is the services that Gust uses, in one process. Its clock is the one of
// package time: inside a bubble of testing/synctest time passes when all that
// could be computed has been.
type Cloud struct {
	o     Options
	dice  *dice
	Table *Table
	Trace *Trace

	mu        sync.Mutex
	queues    map[string]*Queue
	functions map[string]*Function
	objects   map[string][]byte
	closed    bool
	asyncs    int
	stop      chan struct{}
	running   sync.WaitGroup
}

// New returns a cloud with an empty table.
func New(o Options) *Cloud {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cloud{o: o, dice: newDice(o.Seed), queues: map[string]*Queue{}, functions: map[string]*Function{}, objects: map[string][]byte{}, stop: make(chan struct{})}
	c.Table = newTable(o.Latencies, o.Limits, time.Now)
	c.Trace = &Trace{start: time.Now()}
	return c
}

// Close ends what goes on by itself, and waits for it.
func (c *Cloud) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	close(c.stop)
	c.running.Wait()
}

// draw returns the latency of one call.
func (c *Cloud) draw(path, key string) time.Duration {
	return c.o.Latencies.of(path).At(c.dice.roll(path + "|" + key))
}

// Config is the configuration of clients of this cloud.
func (c *Cloud) Config() aws.Config {
	endpoint := "https://cloud.invalid"
	return aws.Config{
		Region: "us-east-1", HTTPClient: client{c}, BaseEndpoint: &endpoint, RetryMode: aws.RetryModeStandard,
		Credentials: credentials.NewStaticCredentialsProvider("emulated", "emulated", ""),
	}
}

type untracedKey struct{}

// Untraced returns a context whose calls leave no trace: those of whoever looks on.
func Untraced(ctx context.Context) context.Context {
	return context.WithValue(ctx, untracedKey{}, true)
}

// client answers the requests of SDK clients: everything above the wire is real.
type client struct{ c *Cloud }

// Do implements aws.HTTPClient.
func (h client) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	service, operation := target(r)
	call := Call{Service: service, Operation: operation, Start: time.Now()}
	if inv := invocationOf(r.Context()); inv != nil {
		call.Function, call.Invocation = inv.function, inv.id
		inv.compute(h.c.o.CPU, service+"."+operation)
		defer inv.resume()
		if inv.isDead() || h.c.o.Kill != nil && h.c.o.Kill(inv.function, inv.id, service+"."+operation) {
			inv.die()
			return nil, errKilled
		}
		call.Start = time.Now()
	}
	if h.c.o.Seen != nil {
		h.c.o.Seen(call.Function, service, operation, body)
	}
	if h.c.o.Forward != nil {
		if to := h.c.o.Forward(service); to != "" {
			res, err := forward(r, to, body)
			call.End = time.Now()
			if r.Context().Value(untracedKey{}) == nil {
				h.c.Trace.call(call)
			}
			return res, err
		}
	}
	answer, err := h.c.answer(r.Context(), service, operation, r, body, &call)
	call.End = time.Now()
	var no *awsError
	if errors.As(err, &no) {
		call.Error = no.code
	} else if err != nil {
		return nil, err // the caller's time is over
	}
	if r.Context().Value(untracedKey{}) == nil {
		h.c.Trace.call(call)
	}
	return respond(r, service, answer, no)
}

// forward makes a request to another endpoint.
func forward(r *http.Request, to string, body []byte) (*http.Response, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	f := r.Clone(r.Context())
	f.URL.Scheme, f.URL.Host, f.Host, f.RequestURI = u.Scheme, u.Host, u.Host, ""
	f.Body = io.NopCloser(bytes.NewReader(body))
	return http.DefaultClient.Do(f)
}

// target reads which service and operation a request is for.
func target(r *http.Request) (service, operation string) {
	if t := r.Header.Get("X-Amz-Target"); t != "" {
		prefix, op, _ := strings.Cut(t, ".")
		switch {
		case strings.HasPrefix(prefix, "DynamoDB"):
			return "DynamoDB", op
		case prefix == "AmazonSQS":
			return "SQS", op
		case prefix == "secretsmanager":
			return "Secrets Manager", op
		}
		return prefix, op
	}
	if strings.HasPrefix(r.URL.Path, "/2015-03-31/functions/") {
		return "Lambda", "Invoke"
	}
	name := map[string]string{http.MethodGet: "GetObject", http.MethodPut: "PutObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject"}[r.Method]
	return "S3", name
}

// wait lets time pass, or returns the context's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// answer carries a request out: half of its latency before, half after.
func (c *Cloud) answer(ctx context.Context, service, operation string, r *http.Request, body []byte, call *Call) (any, error) {
	path, key := "", ""
	switch service {
	case "DynamoDB":
		path, key = tablePath(operation, body), requestKey(body)
		call.Path = path
	case "SQS":
		path = pathSQSSend
	case "S3":
		path, key = pathS3, r.URL.Path
	case "Lambda":
		path, key = pathInvoke, string(body)
	default:
		path = pathPut
	}
	began := time.Now()
	d := c.draw(path, key)
	if err := wait(ctx, d/2); err != nil {
		return nil, err
	}
	var out any
	var err error
	switch service {
	case "DynamoDB":
		out, err = c.Table.call(context.WithoutCancel(ctx), operation, body)
	case "SQS":
		out, err = c.sqs(operation, body, began)
	case "S3":
		out, err = c.s3(operation, r.URL, body)
	case "Lambda":
		out, err = c.lambdaInvoke(r, body, began)
	default:
		err = &awsError{400, "UnknownOperationException", service + " is not modelled", nil}
	}
	if werr := wait(ctx, d-d/2); werr != nil {
		return nil, werr
	}
	return out, err
}

// requestKey is what a request is about, for dice that do not depend on order: the
// keys that it names.
func requestKey(body []byte) string {
	var in struct {
		Key, Item attrs
	}
	if json.Unmarshal(body, &in) != nil {
		return ""
	}
	for _, a := range []attrs{in.Key, in.Item} {
		if len(a) > 0 {
			return a.key().PK
		}
	}
	return ""
}

func (c *Cloud) s3(operation string, u *url.URL, body []byte) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch operation {
	case "PutObject":
		c.objects[u.Path] = body
		return []byte{}, nil
	case "GetObject", "HeadObject":
		b, ok := c.objects[u.Path]
		if !ok {
			return nil, &awsError{404, "NoSuchKey", "The specified key does not exist.", nil}
		}
		if operation == "HeadObject" {
			b = nil
		}
		return b, nil
	}
	return nil, &awsError{501, "NotImplemented", operation + " is not modelled", nil}
}

func respond(r *http.Request, service string, answer any, no *awsError) (*http.Response, error) {
	status, contentType := http.StatusOK, "application/x-amz-json-1.0"
	var b []byte
	switch {
	case no != nil && service == "S3":
		status, contentType = no.status, "application/xml"
		b = fmt.Appendf(nil, "<Error><Code>%s</Code><Message>%s</Message></Error>", no.code, no.message)
	case no != nil:
		status = no.status
		m := map[string]any{"__type": "com.amazonaws#" + no.code, "message": no.message}
		for k, v := range no.more {
			m[k] = v
		}
		b, _ = json.Marshal(m)
	case service == "Lambda":
		status, contentType = http.StatusAccepted, "application/json"
	case service == "S3":
		b, _ = answer.([]byte)
		contentType = "binary/octet-stream"
	default:
		var err error
		if b, err = json.Marshal(answer); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {contentType}, "Date": {time.Now().UTC().Format(http.TimeFormat)}, "X-Amzn-Requestid": {"emulated"}},
		Body:   io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b)),
	}, nil
}
