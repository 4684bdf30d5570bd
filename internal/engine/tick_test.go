package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// A DAG that could not be planned is planned again, although nothing more
// happens to it: here one that only an asset event starts.
func TestPlanningIsTriedAgain(t *testing.T) {
	for name, cause := range map[string]error{"unavailable": kv.ErrUnavailable, "corrupt": kv.ErrCorrupt} {
		t.Run(name, func(t *testing.T) {
			d := &queuelessDriver{Driver: memkv.New(memkv.Options{})}
			h := enginetest.New(d, engine.Config{}, nil)
			t.Cleanup(h.Engine.Close)
			register(t, h, enginetest.DAG{ID: "p", Tasks: []enginetest.Task{{ID: "t", Outlets: []string{"a"}}}})
			register(t, h, enginetest.DAG{ID: "c", Tasks: []enginetest.Task{{ID: "t"}}, Assets: []string{"a"}})
			trigger(t, h, "p", "r")
			d.err = fmt.Errorf("%w: for the test", cause)
			runAll(t, h, enginetest.Succeed)
			if d.tries != 1 {
				t.Fatalf("the consumer was planned %d times without time passing", d.tries)
			}
			if next, ok := h.Engine.NextWake(); !ok || next.After(h.Clock.Now().Add(time.Second)) {
				t.Fatalf("a DAG that could not be planned is tried again at %v, %t", next, ok)
			}
			d.err = nil
			h.Clock.Advance(time.Second)
			if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			runAll(t, h, enginetest.Succeed)
			runs, _, err := h.Store.ListRuns(t.Context(), "c", store.ListOptions{})
			if err != nil || len(runs) != 1 || runs[0].State != airflow.RunSuccess {
				t.Errorf("runs of the consumer: %v, %v", runs, err)
			}
			if _, ok := h.Engine.NextWake(); ok {
				t.Error("a DAG that was planned is tried again")
			}
		})
	}
}

// queuelessDriver cannot list the asset updates that wait for DAG c while err is set.
type queuelessDriver struct {
	kv.Driver
	err   error
	tries int
}

func (q *queuelessDriver) Query(ctx context.Context, query kv.Query) (kv.Page, error) {
	if q.err != nil && query.PK == "ASSETQUEUE#c" {
		q.tries++
		return kv.Page{}, q.err
	}
	return q.Driver.Query(ctx, query)
}

// A date that was due when a DAG lost its schedule must not be due for ever.
func TestDagThatLosesItsSchedule(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		tasks := []enginetest.Task{{ID: "t"}}
		register(t, h, enginetest.DAG{ID: "d", Cron: "0 * * * *", Tasks: tasks})
		runAll(t, h, enginetest.Succeed) // so that no run waits for anything
		if next, err := h.Engine.NextTick(t.Context()); err != nil || next.IsZero() {
			t.Fatalf("a scheduled DAG is due at %v, %v", next, err)
		}
		register(t, h, enginetest.DAG{ID: "d", Tasks: tasks})
		runAll(t, h, enginetest.Succeed)
		if next, err := h.Engine.NextTick(t.Context()); err != nil || !next.IsZero() {
			t.Errorf("a DAG without a schedule is due at %v, %v", next, err)
		}
	})
}

// With use_job_schedule off nothing is due, so that the loop sleeps.
func TestNoJobScheduleIsNotDue(t *testing.T) {
	off := false
	on(t, engine.Config{UseJobSchedule: &off}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.DAG{ID: "d", Cron: "0 * * * *", Tasks: []enginetest.Task{{ID: "t"}}})
		h.Engine.Drain(t.Context())
		h.Clock.Advance(3 * time.Hour)
		if next, err := h.Engine.NextTick(t.Context()); err != nil || !next.IsZero() {
			t.Errorf("the next tick is at %v, %v", next, err)
		}
	})
}
