package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/worker"
)

// The first tasks of a run see it running, with its start date.
func TestFirstTaskSeesItsRunStarted(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("d", 1))
		trigger(t, h, "d", "r")
		tc, err := h.Backend.Claim(t.Context(), h.Queue.Take()[0], h.Who)
		if err != nil {
			t.Fatal(err)
		}
		if tc.Run.State != airflow.RunRunning || tc.Run.StartDate == nil {
			t.Errorf("the task sees a run that is %s since %v", tc.Run.State, tc.Run.StartDate)
		}
	})
}

// A claim whose answer was lost is repeated: it resumes a deferral all the same.
func TestRepeatedClaimResumesTheSame(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("d", 1))
		k := trigger(t, h, "d", "r")
		at := h.Clock.Now().Add(time.Minute)
		err := h.Run(t.Context(), h.Queue.Take()[0], enginetest.Outcome{Report: worker.Report{Outcome: worker.OutcomeDeferred, Deferral: &worker.Deferral{
			Trigger: worker.Trigger{Kind: worker.TriggerTime, At: at}, NextMethod: "go_on", NextKwargs: json.RawMessage(`{"n":1}`)}}})
		if err != nil {
			t.Fatal(err)
		}
		h.Clock.Set(at)
		if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		h.Engine.Drain(t.Context())
		ds := h.Queue.Take()
		if len(ds) != 1 {
			t.Fatalf("dispatches %v", ds)
		}
		for i := range 3 {
			tc, err := h.Backend.Claim(t.Context(), ds[0], h.Who)
			if err != nil {
				t.Fatal(err)
			}
			if tc.NextMethod != "go_on" || string(tc.NextKwargs) != `{"n":1}` {
				t.Fatalf("claim %d resumes with %q(%s)", i, tc.NextMethod, tc.NextKwargs)
			}
			if i == 2 {
				if err := h.Finish(t.Context(), ds[0], tc, enginetest.Success(nil)); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

type noBundle struct{}

func (noBundle) Materialize(context.Context, string) (string, error) {
	return "", errors.New("the snapshot is damaged")
}

// A dispatch that was claimed and cannot be equipped fails at once.
func TestClaimWithoutItsBundleFails(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("d", 1))
		if _, err := h.Store.UpdateDag(t.Context(), "d", func(m *airflow.DagModel) error { m.BundleHash = "b"; return nil }); err != nil {
			t.Fatal(err)
		}
		k := trigger(t, h, "d", "r")
		b := engine.NewBackend(h.Engine, noBundle{}, nil, nil)
		if _, err := b.Claim(t.Context(), h.Queue.Take()[0], h.Who); err == nil {
			t.Fatal("claimed without its bundle")
		}
		h.Engine.Drain(t.Context())
		wantStates(t, h, k, airflow.RunFailed, map[string]airflow.TIState{"t000": airflow.TIFailed})
	})
}

// holder is a submitter that has everything that was submitted.
type holder struct {
	enginetest.Queue
	mu   sync.Mutex
	away bool
}

func (o *holder) Observe(worker.Dispatch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.away
}

// A dispatch that waits for a place in this process is not stuck, one that runs
// here is not lost, and neither is sent again.
func TestDispatchesOfThisProcessAreNeitherStuckNorLost(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		o := &holder{}
		h.Engine.SetSubmitter(o)
		register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{{ID: "waits"}, {ID: "runs"}}})
		k := trigger(t, h, "d", "r")
		ds := o.Take()
		if _, err := h.Backend.Claim(t.Context(), ds[1], h.Who); err != nil {
			t.Fatal(err)
		}
		pass := func(d time.Duration) {
			for ; d > 0; d -= time.Minute {
				h.Clock.Advance(time.Minute)
				if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				if err := h.Engine.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				h.Engine.Drain(t.Context())
			}
		}
		pass(45 * time.Minute)
		if again := o.Take(); len(again) > 0 || len(o.Cancelled) > 0 {
			t.Fatalf("sent again: %v, cancelled: %v", again, o.Cancelled)
		}
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"waits": airflow.TIQueued, "runs": airflow.TIRunning})
		o.mu.Lock()
		o.away = true
		o.mu.Unlock()
		pass(25 * time.Minute)
		_, got, err := h.States(t.Context(), k)
		if err != nil || got["runs"] == airflow.TIRunning {
			t.Errorf("a dispatch that nobody has still runs: %v, %v", got, err)
		}
		if len(o.Take()) == 0 {
			t.Error("a dispatch that nobody has was not sent again")
		}
	})
}

// A pool that another process makes lets go on what waits for it.
func TestPoolOfAnotherProcess(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{{ID: "t", Fields: map[string]any{"pool": "p"}}}})
		k := trigger(t, h, "d", "r")
		if ds := h.Queue.Take(); len(ds) > 0 {
			t.Fatalf("dispatched without its pool: %v", ds)
		}
		if err := h.Store.PutPool(t.Context(), airflow.Pool{Name: "p", Slots: 1}); err != nil {
			t.Fatal(err)
		}
		if err := h.Engine.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}
