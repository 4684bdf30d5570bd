package dynamokv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

// fault is what happens to one HTTP request on its way.
type fault uint8

const (
	none       fault = iota
	throttled        // refused as too much: not done
	throttled2       // the same by another name
	throttled3       // the same by a third name
	failed           // 500, not done
	failedLate       // 500, done
	overloaded       // 503 of a proxy, without a body that means anything; not done
	refused          // no connection: not done
	reset            // the connection breaks before the request is read
	lost             // done, and the connection breaks before the answer
	hanging          // done, and the answer never comes
	cut              // done, and only half of the answer comes
	conflict         // another transaction holds the item: not done
	partial          // of a BatchGetItem only some keys are read
	idle             // of a BatchGetItem no key is read
	noTable          // the table is not there
	noAccess         // the role may not
)

// certain are the faults after which the request was certainly not done.
var certain = map[fault]bool{throttled: true, throttled2: true, throttled3: true, conflict: true}

func (f fault) String() string {
	return [...]string{"none", "throttled", "throttled2", "throttled3", "failed", "failedLate", "overloaded", "refused", "reset", "lost", "hanging", "cut",
		"conflict", "partial", "idle", "noTable", "noAccess"}[f]
}

// wire is an HTTP client with faults.
type wire struct {
	inner *http.Client
	draw  func(op string) fault

	mu    sync.Mutex
	calls []string // operation and fault
}

func newWire(draw func(op string) fault) *wire { return &wire{inner: http.DefaultClient, draw: draw} }

// seeded draws faults at random. Those that take time or make a test wait are rare.
func seeded(seed uint64, rate float64) func(string) fault {
	r := rand.New(rand.NewPCG(seed, 7))
	var mu sync.Mutex
	return func(op string) fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Float64() >= rate {
			return none
		}
		f := throttled + fault(r.IntN(int(noTable-throttled)))
		switch {
		case f == hanging && r.IntN(20) > 0:
			return lost
		case (f == partial || f == idle) && op != "BatchGetItem":
			return failedLate
		}
		return f
	}
}

// script gives the first requests these faults and later ones none.
func script(faults ...fault) func(string) fault {
	var mu sync.Mutex
	return func(string) fault {
		mu.Lock()
		defer mu.Unlock()
		if len(faults) == 0 {
			return none
		}
		f := faults[0]
		faults = faults[1:]
		return f
	}
}

func always(f fault) func(string) fault { return func(string) fault { return f } }

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

// Do implements the HTTP client of the SDK.
func (w *wire) Do(req *http.Request) (*http.Response, error) {
	op := strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
	f := w.draw(op)
	w.mu.Lock()
	w.calls = append(w.calls, op+" "+f.String())
	w.mu.Unlock()
	after := func(err error) (*http.Response, error) {
		resp, sent := w.inner.Do(req)
		if sent != nil {
			return nil, sent
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return nil, err
	}
	switch f {
	case throttled:
		return reply(req, 400, "ProvisionedThroughputExceededException", nil)
	case throttled2:
		return reply(req, 400, "ThrottlingException", nil)
	case throttled3:
		return reply(req, 400, "RequestLimitExceeded", nil)
	case failed:
		return reply(req, 500, "InternalServerError", nil)
	case failedLate:
		if _, err := after(nil); err != nil {
			return nil, err
		}
		return reply(req, 500, "InternalServerError", nil)
	case overloaded:
		return &http.Response{StatusCode: 503, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("<html>busy</html>")), Request: req}, nil
	case refused:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case reset:
		return nil, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	case lost:
		return after(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET})
	case hanging:
		if _, err := after(nil); err != nil {
			return nil, err
		}
		<-req.Context().Done()
		return nil, req.Context().Err()
	case cut:
		resp, err := w.inner.Do(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		body = body[:len(body)/2]
		resp.Header.Del("X-Amz-Crc32")
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return resp, err
	case conflict:
		if op != "TransactWriteItems" {
			return reply(req, 400, "TransactionConflictException", nil)
		}
		return reply(req, 400, "TransactionCanceledException", map[string]any{"CancellationReasons": []any{
			map[string]string{"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}, map[string]string{"Code": "None"}}})
	case partial, idle:
		if op == "BatchGetItem" {
			return w.partly(req, f == idle)
		}
	case noTable:
		return reply(req, 400, "ResourceNotFoundException", nil)
	case noAccess:
		return reply(req, 400, "AccessDeniedException", nil)
	}
	return w.inner.Do(req)
}

func reply(req *http.Request, status int, code string, more map[string]any) (*http.Response, error) {
	m := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": "injected"}
	for k, v := range more {
		m[k] = v
	}
	b, err := json.Marshal(m)
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(b)),
		ContentLength: int64(len(b)), Request: req}, err
}

// partly reads the first half of the keys, or none, and reports the rest as unprocessed.
func (w *wire) partly(req *http.Request, none bool) (*http.Response, error) {
	type table struct {
		Keys           []json.RawMessage
		ConsistentRead bool
	}
	var in struct{ RequestItems map[string]table }
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	left := map[string]table{}
	for name, t := range in.RequestItems {
		n := len(t.Keys) / 2
		if none {
			n = 0
		}
		left[name] = table{t.Keys[n:], t.ConsistentRead}
		t.Keys = t.Keys[:n]
		in.RequestItems[name] = t
		if n == 0 {
			delete(in.RequestItems, name)
		}
	}
	out := map[string]any{"Responses": map[string]any{}}
	if len(in.RequestItems) > 0 {
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp, err := w.inner.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		}
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			return nil, err
		}
	}
	out["UnprocessedKeys"] = left
	b, err := json.Marshal(out)
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(b)),
		ContentLength: int64(len(b)), Request: req}, err
}

// noWait makes the pauses between tries take no time.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// openWire returns a store on a table that is reached through w. The client's own retries are left on: the store must
// turn them off itself.
func openWire(t testing.TB, w *wire, table string) *dynamokv.Store {
	t.Helper()
	client := dynamotest.StartWith(t, func(o *dynamodb.Options) { o.HTTPClient = w })
	s, err := dynamokv.New(dynamokv.Options{Client: client, Table: table, Sleep: noWait, AttemptTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
