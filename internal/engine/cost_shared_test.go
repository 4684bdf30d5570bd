package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
)

// billed plays a deployment that is priced: messages are received in batches as
// Lambda does, workers are processes of their own.
type billed struct {
	*enginetest.Harness
	meter *meterkv.Store
	// sqs are the calls of SQS: sends, receives with a message, deletes.
	sqs    int
	worker *engine.Backend
	batch  int  // event messages that arrive together
	warm   bool // one scheduler takes them all
}

func newBilled(cfg engine.Config, batch int) *billed {
	return newBilledOn(memkv.Options{}, cfg, batch)
}

func newBilledOn(o memkv.Options, cfg engine.Config, batch int) *billed {
	m := meterkv.New(memkv.New(o))
	b := &billed{Harness: enginetest.NewShared(m, cfg, nil), meter: m, batch: batch}
	b.worker = engine.NewBackend(b.NewEngine(true), nil, nil, nil)
	return b
}

// work delivers everything until nothing is left. Tasks that are dispatched
// together end together.
func (b *billed) work(t *testing.T, value any) (ran int) {
	ctx := t.Context()
	for {
		due := b.Outbox.Take(b.Clock.Now())
		for len(due) > 0 {
			n := min(b.batch, len(due))
			var ds []engine.Delivery
			for _, m := range due[:n] {
				ds = append(ds, engine.Delivery{Message: m, ReceiveCount: 1})
			}
			due = due[n:]
			b.sqs += 2 // receive and delete; sends are counted where they are made
			if !b.warm {
				b.Engine = b.NewEngine(false)
			}
			if failed := b.Engine.Handle(ctx, ds); len(failed) > 0 {
				t.Fatalf("%d messages failed", len(failed))
			}
		}
		tasks := b.Queue.Take()
		b.sqs += (len(tasks) + 9) / 10
		if len(tasks) == 0 {
			return ran
		}
		for _, d := range tasks {
			b.sqs += 3 // received and deleted one by one; the report is sent alone
			tc, err := b.worker.Claim(ctx, d, b.Who)
			if err != nil {
				t.Fatal(err)
			}
			h := *b.Harness
			h.Backend = b.worker
			if err := h.Finish(ctx, d, tc, enginetest.Success(value)); err != nil {
				t.Fatal(err)
			}
			ran++
		}
	}
}

// TestCostShared holds what issue 4 allows per task where schedulers share a
// store: write units and calls of SQS, creation and end of the run included.
func TestCostShared(t *testing.T) {
	for _, c := range []struct {
		name       string
		dag        enginetest.DAG
		pool       int
		batch      int
		units, sqs float64
		ran        int // default: as many as the DAG has tasks
	}{
		{name: "chain of 10", dag: enginetest.Chain("chain_of_ten_tasks", 10), batch: 1, units: 4.5, sqs: 6.1},
		{name: "chain of 10 in a pool", dag: inPool(enginetest.Chain("chain_of_ten_tasks", 10)), pool: 4, batch: 1, units: 6.5, sqs: 6.1},
		{name: "fan of 100", dag: fan(100), batch: 10, units: 4.5, sqs: 3.5},
		{name: "map of 1,000", dag: enginetest.DAG{ID: "map_of_many_tasks", Fields: map[string]any{"max_active_tasks": 1000}, Tasks: []enginetest.Task{{ID: "m", ExpandLit: 1000}}}, batch: 10, units: 3.5, sqs: 3.5, ran: 1000},
		{name: "fan of 100 in a pool", dag: inPool(fan(100)), pool: 50, batch: 10, units: 6.5, sqs: 3.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBilled(engine.Config{Parallelism: -1, DefaultPoolSlots: -1, MaxMapLength: 1000}, c.batch)
			c.dag.Cron = "0 0 * * *"
			if c.pool > 0 {
				if err := b.Store.PutPool(t.Context(), airflow.Pool{Name: "p", Slots: c.pool}); err != nil {
					t.Fatal(err)
				}
			}
			register(t, b.Harness, c.dag)
			b.Engine.Drain(t.Context())
			tick := func() {
				b.Engine = b.NewEngine(false)
				if err := b.Engine.TickServerless(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			tick()
			b.work(t, "hello from a task")
			b.Clock.Set(b.Clock.Now().Truncate(24 * time.Hour).Add(24*time.Hour + time.Second))
			b.meter.Reset()
			b.sqs = 0
			tick()
			ran := b.work(t, "hello from a task")
			total := b.meter.Total()
			units, sqs := total.TotalWriteUnits()/float64(ran), float64(b.sqs)/float64(ran)
			t.Logf("%s: %d tasks, each %.2f write units, %.2f read units, %.2f calls of SQS", c.name, ran, units, total.ReadUnits/float64(ran), sqs)
			if testing.Verbose() {
				t.Log(b.meter)
			}
			if want := max(c.ran, len(c.dag.Tasks)); ran != want {
				t.Errorf("%d of %d tasks ran", ran, want)
			}
			if units > c.units || sqs > c.sqs {
				t.Errorf("allowed are %.2f write units and %.2f calls", c.units, c.sqs)
			}
			if runs, err := b.Store.ListActiveRuns(t.Context(), ""); err != nil || len(runs) > 0 {
				t.Errorf("unfinished runs: %v %v", runs, err)
			}
		})
	}
}

func inPool(d enginetest.DAG) enginetest.DAG {
	for i := range d.Tasks {
		d.Tasks[i].Fields = map[string]any{"pool": "p"}
	}
	return d
}

// fan is n tasks that do not depend on each other.
func fan(n int) enginetest.DAG {
	d := enginetest.DAG{ID: "fan_of_many_tasks", Fields: map[string]any{"max_active_tasks": n}}
	for i := range n {
		d.Tasks = append(d.Tasks, enginetest.Task{ID: fmt.Sprintf("t%03d", i)})
	}
	return d
}

// TestReportsOnOutdatedReads: half-price reads of reports may be behind by any
// number of changes; what they lead to is decided at once all the same, without the
// minute's tick, which would find it again.
func TestReportsOnOutdatedReads(t *testing.T) {
	for _, d := range []enginetest.DAG{enginetest.Chain("chain", 6), fan(12)} {
		for _, warm := range []bool{false, true} {
			for lag := range 8 {
				b := newBilledOn(memkv.Options{ReadLag: lag}, engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, 4)
				b.warm = warm
				register(t, b.Harness, d)
				b.Engine.Drain(t.Context())
				run, err := b.Trigger(t.Context(), d.ID, "r")
				if err != nil {
					t.Fatal(err)
				}
				if ran := b.work(t, "x"); ran != len(d.Tasks) {
					t.Errorf("%s, %d changes behind, warm %v: %d of %d tasks ran", d.ID, lag, warm, ran, len(d.Tasks))
				}
				if r, err := b.Store.GetRun(t.Context(), run); err != nil || r.State != airflow.RunSuccess {
					t.Errorf("%s, %d changes behind, warm %v: the run is %s, %v", d.ID, lag, warm, r.State, err)
				}
			}
		}
	}
}
