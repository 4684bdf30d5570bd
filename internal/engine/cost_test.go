package engine_test

import (
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
	"github.com/gustflow/gust/internal/worker"
)

// TestCostOfAChain holds the price of design 5: at most 4.5 write units per
// `bash echo` task with its XCom in a 10-task run, everything counted.
func TestCostOfAChain(t *testing.T) {
	m := meterkv.New(memkv.New(memkv.Options{}))
	h := enginetest.New(m, engine.Config{}, nil)
	d := enginetest.Chain("chain_of_ten_tasks", 10)
	d.Cron = "0 0 * * *"
	register(t, h, d)
	runAll(t, h, enginetest.Succeed) // the run that is due at once: creates pools, models …
	m.Reset()
	next, err := h.Engine.NextTick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.Clock.Set(next)
	if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ran := runAll(t, h, func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome {
		return enginetest.Success("hello from a task")
	})
	if len(ran) != 10 {
		t.Fatalf("%d tasks ran", len(ran))
	}
	total := m.Total()
	t.Logf("per task: %.2f write units, %.2f read units\n%s", total.TotalWriteUnits()/10, total.ReadUnits/10, m)
	if per := total.TotalWriteUnits() / 10; per > 4.5 {
		t.Errorf("%.2f write units per task, at most 4.5 are allowed", per)
	}
}

// TestCostOfAWideRun: a completion in a 10,000-wide mapped task reads and writes
// a constant number of items, and completions that arrive together share a step.
func TestCostOfAWideRun(t *testing.T) {
	cost := func(width, batch int) (units, calls float64) {
		m := meterkv.New(memkv.New(memkv.Options{}))
		h := enginetest.New(m, engine.Config{Parallelism: 1 << 20, MaxMapLength: 1 << 20, DefaultPoolSlots: 1 << 20}, nil)
		register(t, h, enginetest.DAG{ID: "wide", Fields: map[string]any{"max_active_tasks": 1 << 20}, Tasks: []enginetest.Task{{ID: "m", ExpandLit: width}, {ID: "end", Upstream: []string{"m"}}}})
		k := trigger(t, h, "wide", "r")
		ctx := t.Context()
		h.Engine.Drain(ctx)
		ds := h.Queue.Take()
		if len(ds) != width {
			t.Fatalf("%d of %d instances dispatched", len(ds), width)
		}
		m.Reset()
		const sample = 200
		for i, d := range ds[:sample] {
			if _, err := h.Backend.Claim(ctx, d, h.Who); err != nil {
				t.Fatal(err)
			}
			r := worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}
			if err := h.Backend.Finish(ctx, d, &r); err != nil {
				t.Fatal(err)
			}
			if (i+1)%batch == 0 {
				h.Engine.Drain(ctx)
			}
		}
		total := m.Total()
		if state, _, err := h.States(ctx, k); err != nil || state != airflow.RunRunning {
			t.Fatal(state, err)
		}
		return total.TotalWriteUnits() / sample, float64(total.TotalCalls()) / sample
	}
	for _, batch := range []int{1, 10} {
		w1, c1 := cost(2500, batch)
		w2, c2 := cost(10000, batch)
		t.Logf("%d completions a step: width 2,500: %.2f write units in %.2f calls each; width 10,000: %.2f in %.2f", batch, w1, c1, w2, c2)
		if w2 > w1*1.1 || c2 > c1*1.1 {
			t.Errorf("the cost of a completion grows with the width: %.2f -> %.2f units, %.2f -> %.2f calls", w1, w2, c1, c2)
		}
		if batch == 10 && w2 > 3.5 {
			t.Errorf("%.2f write units per completion, at most 3.5 are allowed", w2)
		}
	}
}
