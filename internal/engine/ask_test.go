package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
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

// TestAskedClearHappensOnce: whoever clears a run for a task may die before the task
// has its answer; the message comes again and the run keeps what it has done since.
func TestAskedClearHappensOnce(t *testing.T) {
	for _, finished := range []bool{false, true} {
		t.Run(fmt.Sprintf("finished %t", finished), func(t *testing.T) {
			ctx := t.Context()
			answers := true
			d := faultkv.New(memkv.New(memkv.Options{}), faultkv.Options{Seed: 1, Odds: func(c faultkv.Call) faultkv.Odds {
				if !answers && c.Method == "write" && strings.HasPrefix(c.Key.SK, "ASK#") {
					return faultkv.Odds{FailBefore: 1}
				}
				return faultkv.Odds{}
			}})
			h := enginetest.NewShared(d, engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, nil)
			register(t, h, enginetest.Chain("asks", 1))
			register(t, h, enginetest.Chain("asked", 2))
			trigger(t, h, "asks", "r")
			h.Engine.Drain(ctx)
			dispatch := h.Queue.Take()[0]
			if _, err := h.Backend.Claim(ctx, dispatch, h.Who); err != nil {
				t.Fatal(err)
			}
			k := trigger(t, h, "asked", "r")
			step := func() { // the first task of the run that is asked for
				t.Helper()
				h.Engine.Drain(ctx)
				ds := h.Queue.Take()
				if len(ds) != 1 {
					t.Fatalf("%d dispatches", len(ds))
				}
				tc, err := h.Backend.Claim(ctx, ds[0], h.Who)
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Finish(ctx, ds[0], tc, enginetest.Success(nil)); err != nil {
					t.Fatal(err)
				}
				h.Engine.Drain(ctx)
			}
			step()
			if finished {
				step()
			} else {
				h.Queue.Take()
			}
			m := engine.ReportOf(dispatch)
			m.Kind, m.Cause = engine.MessageAsk, "clear#1"
			question := fmt.Sprintf(`{"dispatch_seq":%d,"clear":{"DagID":"asked","RunID":"r"}}`, dispatch.DispatchSeq)
			if err := h.Store.PutAsk(ctx, dispatch.Key, m.Cause, json.RawMessage(question), h.Clock.Now()); err != nil {
				t.Fatal(err)
			}
			handle := func(count int) []int {
				h.Engine = h.NewEngine(false)
				h.Backend = engine.NewBackend(h.Engine, nil, nil, nil)
				return h.Engine.Handle(ctx, []engine.Delivery{{Message: m, ReceiveCount: count}})
			}
			answers = false
			if failed := handle(1); len(failed) != 1 {
				t.Fatal("the answer was not stored, and the message does not come again")
			}
			step() // what was cleared runs again
			tries := func() (sum int) {
				tis, err := h.Engine.TaskInstances(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				for _, ti := range tis {
					sum += ti.TryNumber
					if ti.TaskID == "t000" && ti.State != airflow.TISuccess {
						t.Errorf("%s is %s", ti.TaskID, ti.State)
					}
				}
				return sum
			}
			before := tries()
			answers = true
			for i := range 2 {
				if failed := handle(2 + i); len(failed) > 0 {
					t.Fatal("failed")
				}
			}
			if n := tries(); n != before {
				t.Errorf("%d tries became %d: the run was cleared again", before, n)
			}
			if _, answer, err := h.Store.GetAsk(ctx, dispatch.Key, m.Cause); err != nil || string(answer) != "{}" {
				t.Errorf("answer %s %v", answer, err)
			}
			if ps, err := h.Store.ListPendingEffects(ctx); err != nil || len(ps) > 0 {
				t.Errorf("left: %+v %v", ps, err)
			}
		})
	}
}
