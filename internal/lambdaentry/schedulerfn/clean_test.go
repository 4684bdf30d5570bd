package schedulerfn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/blob/memblob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/retention"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

// deployment is a scheduler function with a retention of 30 days, and runs of DAG d.
type deployment struct {
	*testing.T
	h     *enginetest.Harness
	f     *schedulerFunction
	blobs *fileblob.Store
	again []string // messages to itself
	out   bytes.Buffer
	opens int
}

// slow is an engine that takes a while to delete a run.
type slow struct {
	retention.Runs
	each time.Duration
}

func (s slow) DeleteRun(ctx context.Context, k store.RunKey) error {
	select {
	case <-time.After(s.each):
		return s.Runs.DeleteRun(ctx, k)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newDeployment(t *testing.T, driver kv.Driver, each time.Duration) *deployment {
	d := &deployment{T: t, h: enginetest.NewShared(driver, engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, slog.New(slog.DiscardHandler))}
	var err error
	if d.blobs, err = fileblob.Open(t.TempDir(), fileblob.Options{Now: d.h.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	bundles, err := bundle.New(d.blobs, t.TempDir(), bundle.Options{Now: d.h.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(&d.out, nil))
	state := CleanState{&memblob.Objects{}}
	d.f = &schedulerFunction{engine: d.h.Engine, log: log, cleaning: &Cleaning{
		Policy: retention.Policy{Default: retention.Days{DagRuns: 30}}, Log: log,
		Open: func() (*retention.Cleaner, error) {
			d.opens++
			return &retention.Cleaner{Store: d.h.Store, Runs: slow{d.h.NewEngine(false), each}, Bundles: bundles, State: state, Now: d.h.Clock.Now}, nil
		},
		Again: func(_ context.Context, body string) error { d.again = append(d.again, body); return nil },
	}}
	if _, err := d.h.Register(t.Context(), enginetest.Chain("d", 2)); err != nil {
		t.Fatal(err)
	}
	return d
}

// ran makes a run that is over.
func (d *deployment) ran(id string) {
	d.Helper()
	if _, err := d.h.Trigger(d.Context(), "d", id); err != nil {
		d.Fatal(err)
	}
	if _, err := d.h.RunAll(d.Context(), func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome { return enginetest.Success("x") }); err != nil {
		d.Fatal(err)
	}
	d.h.Clock.Advance(time.Minute)
}

func (d *deployment) runs() string {
	d.Helper()
	rs, _, err := d.h.Store.ListRuns(d.Context(), "d", store.ListOptions{})
	if err != nil {
		d.Fatal(err)
	}
	var ids []string
	for _, r := range rs {
		ids = append(ids, string(r.RunID))
	}
	return strings.Join(ids, " ")
}

// xcoms counts the XComs of a run's first task.
func (d *deployment) xcoms(run string) int {
	d.Helper()
	xs, err := d.h.Store.ListXComs(d.Context(), airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(run), TaskID: "t000", MapIndex: airflow.Unmapped})
	if err != nil {
		d.Fatal(err)
	}
	return len(xs)
}

// handle is an invocation with the function's timeout.
func (d *deployment) handle(event string) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), 55*time.Second)
	defer cancel()
	res, err := d.f.handle(ctx, json.RawMessage(event))
	if err != nil || len(res.BatchItemFailures) > 0 {
		d.Fatalf("%s: %v %v", event, res, err)
	}
}

// batch is an event of a queue.
func batch(bodies ...string) string {
	var rs []string
	for i, b := range bodies {
		rs = append(rs, fmt.Sprintf(`{"messageId":"%d","body":%q,"attributes":{"ApproximateReceiveCount":"1"}}`, i, b))
	}
	return `{"Records":[` + strings.Join(rs, ",") + `]}`
}

func TestClean(t *testing.T) {
	for name, driver := range map[string]func() kv.Driver{
		"memory": func() kv.Driver { return memkv.New(memkv.Options{}) }, "dynamodb": func() kv.Driver { return dynamotest.Open(t) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeployment(t, driver(), 0)
			d.ran("a")
			d.ran("b")
			loose := blob.Hash([]byte("loose"))
			if err := d.blobs.Put(t.Context(), loose, strings.NewReader("loose")); err != nil {
				t.Fatal(err)
			}
			d.h.Clock.Advance(40 * 24 * time.Hour)
			d.ran("young")
			d.handle(awsenv.CleanInput)
			if d.runs() != "young" || d.xcoms("a") != 0 || d.xcoms("young") == 0 {
				t.Errorf("left: runs %s, XComs of a %d, of young %d", d.runs(), d.xcoms("a"), d.xcoms("young"))
			}
			if ok, err := d.blobs.Has(t.Context(), loose); ok || err != nil {
				t.Errorf("a file that no snapshot refers to: %v, %v", ok, err)
			}
			for _, want := range []string{`"event":"retention","table":"dag_run","rows":2`, `"table":"dag_bundle","rows":1,"bytes":5`} {
				if !strings.Contains(d.out.String(), want) {
					t.Errorf("the log lacks %s: %s", want, d.out.String())
				}
			}
			if len(d.again) > 0 {
				t.Errorf("what was done at once goes on: %v", d.again)
			}
		})
	}
}

// TestCleanGoesOn: what does not fit into an invocation is done by the next ones, and
// the runs in their batches are not kept waiting.
func TestCleanGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeployment(t, memkv.New(memkv.Options{}), 7*time.Second)
		for i := range 12 {
			d.ran(fmt.Sprintf("r%02d", i))
		}
		d.h.Clock.Advance(40 * 24 * time.Hour)
		d.handle(awsenv.CleanInput)
		if n := len(strings.Fields(d.runs())); n != 6 {
			t.Fatalf("45 s at 7 s each removed %d of 12", 12-n)
		}
		for turn := 1; len(d.again) > 0; turn++ {
			body := d.again[0]
			d.again = nil
			if turn > 4 || !strings.Contains(body, fmt.Sprintf(`"turn":%d`, turn)) {
				t.Fatalf("turn %d: %s", turn, body)
			}
			d.handle(batch(body, `{"k":"dag","d":"d"}`))
		}
		if d.runs() != "" {
			t.Errorf("left: %s", d.runs())
		}
		// A day's invocations are bounded.
		d.ran("old")
		d.h.Clock.Advance(40 * 24 * time.Hour)
		d.f.cleaning.Open = func() (*retention.Cleaner, error) {
			return &retention.Cleaner{Store: d.h.Store, Runs: slow{d.h.NewEngine(false), time.Hour}, State: CleanState{&memblob.Objects{}}, Now: d.h.Clock.Now}, nil
		}
		d.handle(batch(fmt.Sprintf(`{"gust":"clean","turn":%d}`, maxCleans-1)))
		if len(d.again) > 0 || d.runs() != "old" || !strings.Contains(d.out.String(), "the next day goes on") {
			t.Errorf("messages %v, runs %s, log %s", d.again, d.runs(), d.out.String())
		}
	})
}

func TestCleanNothing(t *testing.T) {
	d := newDeployment(t, memkv.New(memkv.Options{}), 0)
	d.ran("a")
	d.h.Clock.Advance(40 * 24 * time.Hour)
	policy := d.f.cleaning.Policy
	d.f.cleaning.Policy = retention.Policy{}
	d.handle(awsenv.CleanInput)
	d.handle(batch(`{"gust":"clean","stage":7}`))
	if d.opens > 0 || d.runs() != "a" {
		t.Errorf("without a retention: opened %d times, left %q", d.opens, d.runs())
	}
	// The rule's invocation fails where somebody sees it; a message's is not repeated.
	d.f.cleaning.Policy = policy
	d.f.cleaning.Open = func() (*retention.Cleaner, error) { return nil, errors.New("no store") }
	if _, err := d.f.handle(t.Context(), json.RawMessage(awsenv.CleanInput)); err == nil || !strings.Contains(err.Error(), "no store") {
		t.Errorf("error of the rule's invocation: %v", err)
	}
	d.handle(batch(`{"gust":"clean","turn":1}`))
	if !strings.Contains(d.out.String(), "no store") {
		t.Errorf("log: %s", d.out.String())
	}
}

// TestNewerKinds: a message of a later version comes again, in the end to a
// scheduler that knows it.
func TestNewerKinds(t *testing.T) {
	d := newDeployment(t, memkv.New(memkv.Options{}), 0)
	res, err := d.f.handle(t.Context(), json.RawMessage(batch(`{"k":"dag","d":"d"}`, `{"k":"hereafter","d":"d"}`, `{"k":"run"}`, `{}`)))
	if err != nil || len(res.BatchItemFailures) != 1 || res.BatchItemFailures[0].ItemIdentifier != "1" {
		t.Errorf("failures %v, %v: want that of the newer kind alone", res.BatchItemFailures, err)
	}
}
