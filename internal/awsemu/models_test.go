package awsemu

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/queue/sqsqueue"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
	"github.com/gustflow/gust/internal/store/storetest"
)

func latencies(t testing.TB) *Latencies {
	t.Helper()
	l, err := ReadLatencies(defaultLatencies)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// instant are latencies of next to nothing, for tests of what services answer.
func instant(t testing.TB) *Latencies {
	l := latencies(t)
	for p := range l.Paths {
		l.Paths[p] = Quantiles{1e-6, 1e-6, 1e-6, 1e-6}
	}
	for p := range assumed {
		l.Paths[p] = Quantiles{1e-6, 1e-6, 1e-6, 1e-6}
	}
	return l
}

func driver(t testing.TB, c *Cloud) *dynamokv.Store {
	t.Helper()
	d, err := dynamokv.New(dynamokv.Options{Client: dynamodb.NewFromConfig(c.Config()), Table: "gust"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTableIsADriver: the real DynamoDB driver on the emulated table passes the
// suites that it passes on DynamoDB.
func TestTableIsADriver(t *testing.T) {
	l := instant(t)
	kvtest.Run(t, func(t testing.TB) kv.Driver { return driver(t, New(Options{Latencies: l})) }, nil)
}

func TestStoreOnTheTable(t *testing.T) {
	l := instant(t)
	storetest.Run(t, func(t testing.TB) kv.Driver { return driver(t, New(Options{Latencies: l})) })
}

// TestUnitsAreTheMeters: the table counts write units as the meter does that was
// checked against DynamoDB Local.
func TestUnitsAreTheMeters(t *testing.T) {
	c := New(Options{Latencies: instant(t)})
	m := meterkv.New(driver(t, c))
	at := func(n int) kv.Key { return kv.Key{PK: fmt.Sprint("p", n%7), SK: fmt.Sprint("s", n%3)} }
	for i := range 400 {
		it := kv.Item{Key: at(i), Attrs: map[string]kv.Value{"d": kv.Bytes(make([]byte, i*17%3000)), kv.AttrIndexed: kv.String(strings.Repeat("x", i%5))}}
		if i%2 == 0 {
			it.Index = map[kv.IndexName]kv.Key{kv.GSI1: {PK: "all", SK: fmt.Sprint(i % 11)}}
		}
		var err error
		switch i % 5 {
		case 0, 1:
			err = m.Write(t.Context(), kv.Put(it, kv.Cond{}))
		case 2:
			err = m.Write(t.Context(), kv.Update(at(i), kv.Exists(), kv.Add("n", 1), kv.Assign(kv.AttrIndexed, kv.String("y"))).WithIndex(kv.GSI2, kv.Key{PK: "x", SK: fmt.Sprint(i)}))
		case 3:
			err = m.Transact(t.Context(), "", []kv.Op{kv.Put(it, kv.Cond{}), kv.Delete(at(i+1), kv.Cond{})})
		case 4:
			err = m.Write(t.Context(), kv.Delete(at(i), kv.Eq("n", kv.Int(1))))
		}
		if err != nil && kv.NotApplied(err) == false {
			t.Fatal(err)
		}
	}
	want := m.Total()
	got := c.Table.Units
	if got.Write != want.WriteUnits || got.IndexWrite != want.IndexWriteUnits || got.Refused != want.Refused || got.Refused == 0 {
		t.Errorf("table %v + %v units, %d refused; meter %v + %v, %d", got.Write, got.IndexWrite, got.Refused, want.WriteUnits, want.IndexWriteUnits, want.Refused)
	}
}

func TestLatenciesFile(t *testing.T) {
	l := latencies(t)
	for path, q := range l.Paths {
		for u, want := range map[float64]float64{0.10: q.P10, 0.50: q.P50, 0.90: q.P90, 0.99: q.P99} {
			if got := float64(q.At(u)) / 1e6; math.Abs(got-want) > 0.001*want {
				t.Errorf("%s: quantile %v is %v ms, want %v", path, u, got, want)
			}
		}
	}
	d := newDice(7)
	n, below := 20000, 0
	q := l.of(pathSQS)
	for range n {
		if float64(q.At(d.roll("x")))/1e6 < q.P50 {
			below++
		}
	}
	if share := float64(below) / float64(n); share < 0.48 || share > 0.52 {
		t.Errorf("%v of the draws lie below the median", share)
	}
	if a, b := l.of("dynamodb.TransactWriteItems.2"), l.of("dynamodb.TransactWriteItems.15"); a != l.of(transactFew) || b.P50 <= a.P50 || b.P50 >= l.of(transactMany).P50 {
		t.Errorf("transactions of 2 and 15: %+v, %+v", a, b)
	}
	if l.of("dynamodb.GetItem") != l.of(pathPut) {
		t.Error("a read is not as slow as a put")
	}

	file := filepath.Join(t.TempDir(), "latency.json")
	if err := os.WriteFile(file, []byte(`{"unit": "s", "paths": {"x": {"p10": 2, "p50": 1, "p90": 3, "p99": 4}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(LatencyVariable, file)
	_, err := LoadLatencies()
	for _, want := range []string{"latency.json", `unit is "s"`, "dynamodb.PutItem is missing", "x: expected 0 < p10", "initial_concurrency"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestDiceDoNotDependOnOrder(t *testing.T) {
	a, b := newDice(1), newDice(1)
	for _, k := range []string{"x", "y", "x", "z"} {
		a.roll(k)
	}
	b.roll("z")
	b.roll("x")
	b.roll("x")
	if a.roll("x") != b.roll("x") || a.roll("z") != b.roll("z") || newDice(2).roll("x") == newDice(1).roll("x") {
		t.Error("a draw depends on the order of others")
	}
}

// TestThrottling: a partition takes 1,000 write units in a second and a new table
// 4,000; what is more is refused and succeeds when the driver tries again.
func TestThrottling(t *testing.T) {
	for name, c := range map[string]struct {
		partitions int
		least      time.Duration
	}{"one partition": {1, 4 * time.Second}, "many": {500, 250 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := New(Options{Latencies: latencies(t), Limits: true})
				d := driver(t, cl)
				start := time.Now()
				var wg sync.WaitGroup
				const n = 5000
				for i := range n {
					wg.Go(func() {
						it := kv.Item{Key: kv.Key{PK: fmt.Sprint("p", i%c.partitions), SK: fmt.Sprint(i)}, Attrs: map[string]kv.Value{"n": kv.Int(1)}}
						for {
							err := d.Write(t.Context(), kv.Put(it, kv.Cond{}))
							if err == nil {
								return
							}
							if !kv.NotApplied(err) {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				took := time.Since(start)
				u := cl.Table.Units
				if u.Write != n || u.Throttled == 0 || took < c.least {
					t.Errorf("%v units, %d throttled, in %v", u.Write, u.Throttled, took)
				}
			})
		})
	}
}

func sqsClient(c *Cloud) queue.Queues {
	return sqsqueue.New(sqs.NewFromConfig(c.Config()), sqsqueue.Options{})
}

// handled collects what a function was given.
type handled struct {
	mu     sync.Mutex
	bodies []string
	counts []string
	at     []time.Time
	fail   func(body string, count string) bool
	work   time.Duration
}

func (h *handled) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	var ev struct {
		Records []struct {
			MessageID  string `json:"messageId"`
			Body       string
			Attributes map[string]string
		}
	}
	if err := json.Unmarshal(event, &ev); err != nil {
		return nil, err
	}
	start := time.Now()
	time.Sleep(h.work)
	h.mu.Lock()
	defer h.mu.Unlock()
	failures := []map[string]string{}
	for _, r := range ev.Records {
		h.bodies, h.at, h.counts = append(h.bodies, r.Body), append(h.at, start), append(h.counts, r.Attributes["ApproximateReceiveCount"])
		if h.fail != nil && h.fail(r.Body, r.Attributes["ApproximateReceiveCount"]) {
			failures = append(failures, map[string]string{"itemIdentifier": r.MessageID})
		}
	}
	return map[string]any{"batchItemFailures": failures}, ctx.Err()
}

func (h *handled) seen() ([]string, []time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bodies, h.at
}

func burst(t *testing.T, n int, q QueueOptions, h *handled) (*Cloud, *Queue) {
	t.Helper()
	c := New(Options{Latencies: latencies(t), Warm: -1})
	if _, err := c.AddFunction("f", FunctionOptions{New: func() (Handler, error) { return h, nil }, Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	q.Function = "f"
	qu := c.AddQueue("q", q)
	msgs := make([]queue.Outgoing, n)
	for i := range msgs {
		msgs[i].Body = fmt.Sprint(i)
	}
	if err := sqsClient(c).Send(t.Context(), qu.URL(), msgs); err != nil {
		t.Fatal(err)
	}
	for !qu.Idle() {
		time.Sleep(time.Second)
	}
	c.Close()
	return c, qu
}

// TestDefaultRamp: 125 tasks of 10 s with batch size 1 are all started after about
// 16.5 s, 24 s when tasks are longer: the rule that the reference derives.
func TestDefaultRamp(t *testing.T) {
	for work, want := range map[time.Duration][2]float64{10 * time.Second: {13, 20}, 30 * time.Second: {22, 26}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			h := &handled{work: work}
			burst(t, 125, QueueOptions{Visibility: time.Hour}, h)
			last := 0.0
			for _, at := range h.at {
				last = max(last, at.Sub(start).Seconds())
			}
			if len(h.at) != 125 || last < want[0] || last > want[1] {
				t.Errorf("tasks of %v: %d started, the last after %.1f s; want %v", work, len(h.at), last, want)
			}
		})
	}
}

func TestProvisionedPollers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		h := &handled{work: 10 * time.Second}
		_, q := burst(t, 125, QueueOptions{Visibility: time.Hour, Pollers: 13}, h)
		for _, at := range h.at {
			if d := at.Sub(start); d > time.Second {
				t.Errorf("a task was started after %v", d)
			}
		}
		if q.Counts.MostBusy != 125 || q.Counts.Sends != 13 || q.Counts.Receives != 125 || q.Counts.Deletes != 125 {
			t.Error(q)
		}
	})
}

// TestSendToHandler: the time from send to handler has the published quantiles.
func TestSendToHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := burst(t, 4000, QueueOptions{Visibility: time.Hour, Pollers: 2000}, &handled{})
		var s Spread
		for _, m := range c.Trace.Messages {
			s = append(s, m.Handled.Sub(m.Sent))
		}
		q := c.o.Latencies.of(pathSQS)
		for u, want := range map[float64]float64{0.1: q.P10, 0.5: q.P50, 0.9: q.P90, 0.99: q.P99} {
			if got := float64(s.At(u)) / 1e6; got < want*0.9 || got > want*1.15 {
				t.Errorf("quantile %v is %.1f ms, published %.1f", u, got, want)
			}
		}
	})
}

func TestRedelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handled{fail: func(body, count string) bool { return body == "3" && count != "3" || body == "4" }}
		start := time.Now()
		_, q := burst(t, 10, QueueOptions{Visibility: time.Minute, BatchSize: 10, MaxReceives: 4}, h)
		if q.Counts.Redelivered != 2+3 || q.Counts.Dead != 1 || len(h.bodies) != 10+2+3 {
			t.Errorf("%s; handled %v", q, h.bodies)
		}
		if took := time.Since(start); took < 3*time.Minute || took > 4*time.Minute {
			t.Errorf("three redeliveries took %v", took)
		}
	})
}

func TestDelayAndDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handled{}
		c := New(Options{Latencies: latencies(t), Warm: -1})
		if _, err := c.AddFunction("f", FunctionOptions{New: func() (Handler, error) { return h, nil }, Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
		q := c.AddQueue("q", QueueOptions{Function: "f", Visibility: time.Minute, Duplicate: 1})
		start := time.Now()
		if err := sqsClient(c).Send(t.Context(), q.URL(), []queue.Outgoing{{Body: "x", Delay: 7 * time.Second}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if bodies, _ := h.seen(); len(bodies) != 0 {
			t.Error("delivered before its time")
		}
		time.Sleep(3 * time.Second)
		c.Close()
		if bodies, at := h.seen(); len(bodies) != 2 || at[0].Sub(start) < 7*time.Second {
			t.Errorf("delivered %v at %v", bodies, at)
		}
	})
}

// TestColdStarts: the first invocations wait for their environments, later ones
// find them, and 1,000 new ones come in ten seconds.
func TestColdStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Latencies: latencies(t)})
		var made atomic.Int64
		f, err := c.AddFunction("f", FunctionOptions{Reserved: 3000, Timeout: time.Minute, New: func() (Handler, error) {
			made.Add(1)
			return HandlerFunc(func(context.Context, json.RawMessage) (any, error) { time.Sleep(30 * time.Second); return nil, nil }), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 1500 {
			c.InvokeAsync("f", json.RawMessage(`{}`))
		}
		c.running.Wait()
		var s Spread
		for _, inv := range c.Trace.Invocations {
			s = append(s, inv.Start.Sub(start))
			if !inv.Cold {
				t.Error("a warm start")
			}
		}
		if made.Load() != 1500 || s.At(0.5) > time.Second || s.At(1) < 5*time.Second || s.At(1) > 7*time.Second {
			t.Errorf("%d made; started after %s", made.Load(), s)
		}
		before := f.Counts.Cold
		c.InvokeAsync("f", json.RawMessage(`{}`))
		c.running.Wait()
		if f.Counts.Cold != before {
			t.Error("a cold start although environments were idle")
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ats []time.Time
		c := New(Options{Latencies: latencies(t), Warm: -1})
		_, err := c.AddFunction("f", FunctionOptions{Timeout: time.Minute, New: func() (Handler, error) {
			return HandlerFunc(func(_ context.Context, event json.RawMessage) (any, error) {
				if string(event) != `{"gust":"tick"}` {
					t.Errorf("event %s", event)
				}
				ats = append(ats, time.Now())
				return nil, nil
			}), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.AddRate("f", map[string]string{"gust": "tick"})
		time.Sleep(5*time.Minute + 30*time.Second)
		c.Close()
		if len(ats) != 5 {
			t.Fatalf("%d ticks in five minutes", len(ats))
		}
		for _, at := range ats {
			if s := at.Sub(at.Truncate(time.Minute)); s > 2*time.Second {
				t.Errorf("a tick %v after the minute", s)
			}
		}
	})
}

// TestTimeout: a handler that outlives its timeout fails, and calls end with it.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handled{work: 2 * time.Minute, fail: func(_, count string) bool { return false }}
		c, q := burst(t, 1, QueueOptions{Visibility: 10 * time.Minute, MaxReceives: 2}, h)
		if q.Counts.Redelivered != 1 || q.Counts.Dead != 1 {
			t.Error(q)
		}
		_ = c
	})
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Latencies: latencies(t)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := dynamodb.NewFromConfig(c.Config()).GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("t"), Key: map[string]types.AttributeValue{
			"pk": &types.AttributeValueMemberS{Value: "p"}, "sk": &types.AttributeValueMemberS{Value: "s"}}})
		if err == nil || ctx.Err() == nil {
			t.Errorf("a call that takes longer than its context: %v", err)
		}
	})
}
