package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

// plainSealer marks what it seals.
type plainSealer struct{}

func (plainSealer) Seal(b, _ []byte) ([]byte, error) { return append([]byte("sealed:"), b...), nil }
func (plainSealer) Open(b, _ []byte) ([]byte, error) {
	return []byte(strings.TrimPrefix(string(b), "sealed:")), nil
}

// TestTasksAskTheScheduler: a worker that may write rows only gets runs of other
// DAGs and variables by asking, each once, and a dispatch that was taken away gets
// nothing.
func TestTasksAskTheScheduler(t *testing.T) {
	ctx := t.Context()
	d := memkv.New(memkv.Options{})
	h := enginetest.NewShared(d, engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, nil)
	register(t, h, enginetest.Chain("asks", 1))
	register(t, h, enginetest.Chain("asked", 1))
	k := trigger(t, h, "asks", "r")
	h.Engine.Drain(ctx)
	dispatch := h.Queue.Take()[0]
	keyed := store.New(d, plainSealer{})
	b := engine.NewBackend(engine.New(engine.Options{Store: keyed, Outbox: h.Outbox, Passive: true, Now: h.Clock.Now}), nil, nil, nil).AskScheduler()
	if _, err := b.Claim(ctx, dispatch, h.Who); err != nil {
		t.Fatal(err)
	}
	pump, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // the scheduler, without the key
		for pump.Err() == nil {
			var ds []engine.Delivery
			for _, m := range h.Outbox.Take(h.Clock.Now()) {
				ds = append(ds, engine.Delivery{Message: m, ReceiveCount: 1}, engine.Delivery{Message: m, ReceiveCount: 2}) // twice
			}
			if len(ds) > 0 {
				h.NewEngine(false).Handle(context.Background(), ds)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	ask := worker.TriggerRequest{DagID: "asked", RunID: "x", RunAfter: h.Clock.Now(), RequestID: "req1"}
	for range 2 { // the second time because the first answer was lost
		run, err := b.TriggerDagRun(ctx, dispatch, ask)
		if err != nil || run.RunID != "x" {
			t.Fatalf("%+v %v", run, err)
		}
	}
	ask.RequestID = "req2"
	if _, err := b.TriggerDagRun(ctx, dispatch, ask); !errors.Is(err, airflow.ErrAlreadyExists) {
		t.Errorf("a second run of the same id: %v", err)
	}
	ask.DagID, ask.RequestID = "nobody", "req3"
	if _, err := b.TriggerDagRun(ctx, dispatch, ask); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("an unknown DAG: %v", err)
	}
	if err := b.SetVariable(ctx, dispatch, airflow.Variable{Key: "v", Value: "secret"}); err != nil {
		t.Fatal(err)
	}
	if v, err := keyed.GetVariable(ctx, "v"); err != nil || v.Value != "secret" {
		t.Errorf("%+v %v", v, err)
	}
	if err := b.DeleteVariable(ctx, dispatch, "v"); err != nil {
		t.Error(err)
	}
	if err := b.DeleteVariable(ctx, dispatch, "v"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a variable that is gone: %v", err)
	}
	if err := h.Store.Fence(ctx, dispatch.Key, dispatch.DispatchSeq+1); err != nil {
		t.Fatal(err)
	}
	if err := b.ClearDagRun(ctx, dispatch, k.DagID, k.RunID); !errors.Is(err, airflow.ErrSuperseded) {
		t.Errorf("a dispatch that was taken away: %v", err)
	}
}
