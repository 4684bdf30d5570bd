package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// calls counts callbacks.
type calls struct{ n int }

func (c *calls) RunDagCallback(context.Context, *airflow.DAG, airflow.DagRun, bool, string, string) error {
	c.n++
	return nil
}
func (c *calls) RunTaskCallback(context.Context, *airflow.DAG, airflow.DagRun, airflow.TaskInstance, bool, string, string) error {
	c.n++
	return nil
}
func (c *calls) RunDeadline(context.Context, *airflow.DAG, airflow.DagRun, int, time.Time, string) error {
	c.n++
	return nil
}

// callbackIDs is a CallbackQueue.
type callbackIDs struct{ ids []string }

func (q *callbackIDs) SubmitCallbacks(_ context.Context, ids []string) error {
	q.ids = append(q.ids, ids...)
	return nil
}

// readOnly is the store of a worker outside the rows of its instances.
type readOnly struct {
	kv.Driver
	t *testing.T
}

func (r readOnly) Write(_ context.Context, op kv.Op) error {
	r.t.Errorf("a worker writes %v", op.ItemKey())
	return kv.ErrInvalid
}

// TestCallbacksRunInWorkersThatWriteNothing: a pending callback runs in a worker,
// which tells the scheduler; delivered twice, it is carried out once.
func TestCallbacksRunInWorkersThatWriteNothing(t *testing.T) {
	ctx := t.Context()
	d := memkv.New(memkv.Options{})
	h := enginetest.NewShared(d, engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, nil)
	q := &callbackIDs{}
	h.Engine = engine.New(engine.Options{Store: h.Store, Submitter: h.Queue, Outbox: h.Outbox, CallbackQueue: q, Now: h.Clock.Now, Config: h.Config})
	h.Backend = engine.NewBackend(h.Engine, nil, nil, nil)
	dag := enginetest.Chain("calls", 1)
	dag.Fields = map[string]any{"has_on_success_callback": true}
	register(t, h, dag)
	trigger(t, h, "calls", "r")
	runAll(t, h, enginetest.Succeed)
	if len(q.ids) != 1 {
		t.Fatalf("callbacks handed to workers: %v", q.ids)
	}
	c := &calls{}
	w := enginetest.NewShared(readOnly{d, t}, h.Config, nil)
	worker := engine.New(engine.Options{Store: w.Store, Outbox: h.Outbox, Passive: true, Callbacks: c, Now: h.Clock.Now})
	for range 2 {
		if err := worker.RunPendingCallback(ctx, q.ids[0]); err != nil {
			t.Fatal(err)
		}
		for _, m := range h.Outbox.Take(h.Clock.Now()) {
			if failed := h.Engine.Handle(ctx, []engine.Delivery{{Message: m, ReceiveCount: 1}}); len(failed) > 0 {
				t.Fatalf("%+v failed", m)
			}
		}
	}
	if c.n != 1 {
		t.Errorf("the callback ran %d times", c.n)
	}
	if ps, err := h.Store.ListPendingEffects(ctx); err != nil || len(ps) > 0 {
		t.Errorf("still pending: %v %v", ps, err)
	}
}
