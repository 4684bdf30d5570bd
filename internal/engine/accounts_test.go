package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

// TestSlotsAgreeWithStoredStates does random things to runs on a store that
// fails now and then, and after each compares the slots in use with those that
// the stored states ask for: nothing leaks, nothing is given twice.
func TestSlotsAgreeWithStoredStates(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			odds := faultkv.Odds{FailBefore: 0.01, TimeoutAfter: 0.01, Throttle: 0.01}
			f := faultkv.New(memkv.New(memkv.Options{}), faultkv.Options{Seed: seed, Read: odds, Write: odds, Transact: odds})
			f.Pause(true)
			h := enginetest.New(f, engine.Config{Parallelism: 4}, nil)
			t.Cleanup(h.Engine.Close)
			pool := map[string]any{"pool": "p", "retries": 1, "retry_delay": 1.0}
			register(t, h, enginetest.DAG{ID: "d", Fields: map[string]any{"max_active_runs": 4}, Tasks: []enginetest.Task{{ID: "x", ExpandLit: 3, Fields: pool}, {ID: "y", Upstream: []string{"x"}}, {ID: "z", Fields: pool}}})
			if err := h.Store.PutPool(t.Context(), airflow.Pool{Name: "p", Slots: 2}); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(seed, 7))
			var keys []store.RunKey
			var claimed []worker.Dispatch
			for n := range 60 {
				f.Pause(false)
				var k store.RunKey
				if len(keys) > 0 {
					k = keys[rng.IntN(len(keys))]
				}
				sel := scheduler.Selection{Tasks: []scheduler.TaskSelection{{TaskID: "x"}}, Downstream: true}
				// Errors are what a caller would see; the accounts must be right all the same.
				switch op := rng.IntN(10); {
				case op < 2 || len(keys) == 0:
					if k, err := h.Trigger(t.Context(), "d", fmt.Sprintf("r%d", n)); err == nil {
						keys = append(keys, k)
					}
				case op < 6:
					for _, d := range h.Queue.Take() {
						if _, err := h.Backend.Claim(t.Context(), d, h.Who); err == nil {
							claimed = append(claimed, d)
						}
					}
					for _, d := range claimed {
						r := worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}
						if rng.IntN(3) == 0 {
							r.Outcome = worker.OutcomeFailed
						}
						_ = h.Backend.Finish(t.Context(), d, &r)
					}
					claimed = nil
				case op == 6:
					_, _ = h.Engine.Clear(t.Context(), k, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: sel, ResetDagRun: true}})
				case op == 7:
					_, _ = h.Engine.MarkTask(t.Context(), k, scheduler.MarkOptions{Selection: sel, State: airflow.TISuccess}, "")
				case op == 8:
					_, _ = h.Engine.MarkRun(t.Context(), k, airflow.RunFailed, "")
				default:
					_, _ = h.Engine.SetPaused(t.Context(), "d", rng.IntN(2) == 0, "")
				}
				h.Engine.Drain(t.Context())
				f.Pause(true)
				for range 3 { // what failed is tried again
					h.Clock.Advance(2 * time.Second)
					if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
						t.Fatal(err)
					}
					h.Engine.Drain(t.Context())
					if err := h.Engine.Discover(t.Context()); err != nil {
						t.Fatal(err)
					}
					h.Engine.Drain(t.Context())
				}
				want, err := h.Engine.AccountsOfStore(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got := h.Engine.Accounts(); got != want {
					t.Fatalf("after operation %d the accounts are\n%s\nand the stored states say\n%s", n, got, want)
				}
			}
		})
	}
}
