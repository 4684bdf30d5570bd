package engine_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
	"github.com/gustflow/gust/internal/worker"
)

// drivers are the drivers on which every engine test runs.
var drivers = map[string]func(testing.TB) kv.Driver{
	"mem": func(testing.TB) kv.Driver { return memkv.New(memkv.Options{}) },
	"sqlite": func(t testing.TB) kv.Driver {
		d, err := sqlitekv.Open(filepath.Join(t.TempDir(), "gust.db"), sqlitekv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	},
}

// on runs f with a fresh harness on every driver.
func on(t *testing.T, cfg engine.Config, f func(*testing.T, *enginetest.Harness)) {
	t.Run("shared", func(t *testing.T) {
		d := memkv.New(memkv.Options{})
		h := enginetest.NewShared(d, cfg, nil)
		t.Cleanup(func() { h.Engine.Close(); _ = d.Close() })
		f(t, h)
	})
	for name, open := range drivers {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			h := enginetest.New(d, cfg, nil)
			t.Cleanup(func() { h.Engine.Close(); _ = d.Close() })
			f(t, h)
		})
	}
}

func register(t *testing.T, h *enginetest.Harness, d enginetest.DAG) {
	t.Helper()
	if _, err := h.Register(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func trigger(t *testing.T, h *enginetest.Harness, dag, run string) store.RunKey {
	t.Helper()
	k, err := h.Trigger(t.Context(), dag, run)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func runAll(t *testing.T, h *enginetest.Harness, pick func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome) []worker.Dispatch {
	t.Helper()
	ds, err := h.RunAll(t.Context(), pick)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func wantStates(t *testing.T, h *enginetest.Harness, k store.RunKey, run airflow.DagRunState, want map[string]airflow.TIState) {
	t.Helper()
	state, got, err := h.States(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if state != run {
		t.Errorf("run %s is %s, want %s", k, state, run)
	}
	for name, s := range want {
		if got[name] != s {
			t.Errorf("%s of %s is %s, want %s (all: %v)", name, k, got[name], s, got)
		}
	}
}

func names(ds []worker.Dispatch) (out []string) {
	for _, d := range ds {
		out = append(out, airflow.TIName(d.Key.TaskID, d.Key.MapIndex))
	}
	return out
}

func TestChainRunsInOrder(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("chain", 4))
		k := trigger(t, h, "chain", "r")
		ds := runAll(t, h, enginetest.Succeed)
		if got := fmt.Sprint(names(ds)); got != "[t000 t001 t002 t003]" {
			t.Errorf("order %s", got)
		}
		wantStates(t, h, k, airflow.RunSuccess, map[string]airflow.TIState{"t003": airflow.TISuccess})
		if n := h.Engine.ActiveRunCount(); n != 0 {
			t.Errorf("%d runs kept in memory after their end", n)
		}
	})
}

// A clear on the latest version that is refused changes nothing, not the files
// that the run's tasks see either.
func TestRefusedClearKeepsTheBundle(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.Chain("d", 1))
		k := trigger(t, h, "d", "r")
		h.Engine.Drain(ctx)
		d := h.Queue.Take()[0]
		tc, err := h.Backend.Claim(ctx, d, h.Who)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Store.UpdateDag(ctx, "d", func(m *airflow.DagModel) error { m.BundleHash = "new"; return nil }); err != nil {
			t.Fatal(err)
		}
		bundle := func() string {
			t.Helper()
			info, err := h.Store.GetRun(ctx, k)
			if err != nil {
				t.Fatal(err)
			}
			return info.BundleHash
		}
		q := engine.ClearRequest{ClearOptions: scheduler.ClearOptions{ResetDagRun: true, PreventRunning: true}, LatestVersion: true}
		if _, err := h.Engine.Clear(ctx, k, q); !errors.Is(err, airflow.ErrNotAllowed) || bundle() != "" {
			t.Errorf("refused: %v, bundle %q", err, bundle())
		}
		if err := h.Finish(ctx, d, tc, enginetest.Success(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Engine.Clear(ctx, k, q); err != nil || bundle() != "new" {
			t.Errorf("cleared: %v, bundle %q", err, bundle())
		}
	})
}

func TestRetryWaitsForItsDelay(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"retries": 1, "retry_delay": 60.0}}, {ID: "b", Upstream: []string{"a"}}}})
		k := trigger(t, h, "d", "r")
		fails := 0
		pick := func(d worker.Dispatch, tc *worker.TaskContext) enginetest.Outcome {
			if d.Key.TaskID == "a" && tc.TryNumber == 1 {
				fails++
				if !tc.ShouldRetry {
					t.Error("the worker of try 1 is not told that a failure is retried")
				}
				return enginetest.Fail()
			}
			return enginetest.Success(nil)
		}
		runAll(t, h, pick)
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"a": airflow.TIUpForRetry, "b": airflow.TINone})
		at, ok := h.Engine.NextWake()
		if !ok || at.Before(h.Clock.Now().Add(60*time.Second)) {
			t.Fatalf("next wake %v %t", at, ok)
		}
		h.Clock.Set(at.Add(time.Millisecond))
		if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		runAll(t, h, pick)
		wantStates(t, h, k, airflow.RunSuccess, map[string]airflow.TIState{"a": airflow.TISuccess, "b": airflow.TISuccess})
		tries, err := h.Store.ListTries(t.Context(), airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "a", MapIndex: -1})
		if err != nil || len(tries) != 1 || tries[0].Error != "boom" {
			t.Errorf("history of tries: %+v %v", tries, err)
		}
	})
}

func TestMappedTaskPassesValuesInOrder(t *testing.T) {
	on(t, engine.Config{Parallelism: 100}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.DAG{ID: "m", Fields: map[string]any{"max_active_tasks": 100}, Tasks: []enginetest.Task{
			{ID: "a"}, {ID: "b", ExpandOver: "a"}, {ID: "c", Upstream: []string{"b"}}}})
		k := trigger(t, h, "m", "r")
		runAll(t, h, func(d worker.Dispatch, tc *worker.TaskContext) enginetest.Outcome {
			switch d.Key.TaskID {
			case "a":
				return enginetest.Success([]int{10, 20, 30})
			case "b":
				if tc.ExpandedTICount != 3 {
					t.Errorf("expanded count %d", tc.ExpandedTICount)
				}
				return enginetest.Success(d.Key.MapIndex * 2)
			}
			xs, err := h.Backend.ListXCom(t.Context(), worker.XComQuery{DagID: "m", RunID: "r", TaskID: "b", Key: "return_value"})
			if err != nil || len(xs) != 3 || string(xs[2].Value) != "4" {
				t.Errorf("values of the mapped task: %v %v", xs, err)
			}
			return enginetest.Success(nil)
		})
		wantStates(t, h, k, airflow.RunSuccess, map[string]airflow.TIState{"b[2]": airflow.TISuccess, "c": airflow.TISuccess})
	})
}

func TestClearRunsAgain(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("c", 3))
		k := trigger(t, h, "c", "r")
		runAll(t, h, func(d worker.Dispatch, _ *worker.TaskContext) enginetest.Outcome {
			if d.Key.TaskID == "t001" {
				return enginetest.Fail()
			}
			return enginetest.Success(nil)
		})
		wantStates(t, h, k, airflow.RunFailed, map[string]airflow.TIState{"t001": airflow.TIFailed, "t002": airflow.TIUpstreamFailed})
		res, err := h.Engine.Clear(t.Context(), k, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{OnlyFailed: true, ResetDagRun: true}, DryRun: true})
		if err != nil || len(res.Transitions) != 2 {
			t.Fatalf("dry run: %+v %v", res, err)
		}
		wantStates(t, h, k, airflow.RunFailed, nil)
		if _, err := h.Engine.Clear(t.Context(), k, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{OnlyFailed: true, ResetDagRun: true}}); err != nil {
			t.Fatal(err)
		}
		ds := runAll(t, h, enginetest.Succeed)
		if got := fmt.Sprint(names(ds)); got != "[t001 t002]" {
			t.Errorf("ran again: %s", got)
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

func TestClearOfARunningTaskWaitsForItsWorker(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.Chain("c", 1))
		k := trigger(t, h, "c", "r")
		h.Engine.Drain(ctx)
		d := h.Queue.Take()[0]
		tc, err := h.Backend.Claim(ctx, d, h.Who)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Engine.Clear(ctx, k, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{ResetDagRun: true}}); err != nil {
			t.Fatal(err)
		}
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"t000": airflow.TIRestarting})
		if len(h.Queue.Cancelled) != 1 {
			t.Error("the executor was not told to stop the dispatch")
		}
		if err := h.Finish(ctx, d, tc, enginetest.Success(nil)); err == nil {
			t.Error("a cleared dispatch could finish")
		}
		h.Engine.Drain(ctx)
		if ds := h.Queue.Take(); len(ds) != 0 {
			t.Fatalf("dispatched again before its worker stopped: %v", ds)
		}
		if err := h.Backend.Yield(ctx, d, h.Who); err != nil {
			t.Fatal(err)
		}
		h.Engine.Drain(ctx)
		if at, ok := h.Engine.NextWake(); ok { // retry_delay
			h.Clock.Set(at.Add(time.Second))
			if _, err := h.Engine.Tick(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		ds := runAll(t, h, enginetest.Succeed)
		if len(ds) != 1 || ds[0].DispatchSeq <= d.DispatchSeq {
			t.Errorf("after the worker stopped: %v", ds)
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

func TestPoolLimitsAcrossRuns(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		if err := h.Store.PutPool(ctx, airflow.Pool{Name: "two", Slots: 2}); err != nil {
			t.Fatal(err)
		}
		d := enginetest.DAG{ID: "p"}
		for i := 0; i < 4; i++ {
			d.Tasks = append(d.Tasks, enginetest.Task{ID: fmt.Sprint("t", i), Fields: map[string]any{"pool": "two", "priority_weight": i}})
		}
		register(t, h, d)
		k1, k2 := trigger(t, h, "p", "r1"), store.RunKey{}
		h.Clock.Advance(time.Second)
		k2 = trigger(t, h, "p", "r2")
		total := 0
		var order []string
		for {
			h.Engine.Drain(ctx)
			ds := h.Queue.Take()
			if len(ds) == 0 {
				break
			}
			if len(ds) > 2 {
				t.Fatalf("%d instances hold slots of a pool of 2", len(ds))
			}
			for _, d := range ds {
				order = append(order, string(d.Key.RunID)+":"+string(d.Key.TaskID))
			}
			var tcs []*worker.TaskContext
			for _, d := range ds {
				tc, err := h.Backend.Claim(ctx, d, h.Who)
				if err != nil {
					t.Fatal(err)
				}
				tcs = append(tcs, tc)
			}
			for i, d := range ds {
				r := worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}
				if err := h.Backend.Finish(ctx, d, &r); err != nil {
					t.Fatal(err)
				}
				_ = tcs[i]
				total++
			}
		}
		if total != 8 {
			t.Errorf("%d of 8 instances ran", total)
		}
		if order[0] != "r1:t3" && order[0] != "r1:t2" {
			t.Errorf("priority does not order: %v", order)
		}
		wantStates(t, h, k1, airflow.RunSuccess, nil)
		wantStates(t, h, k2, airflow.RunSuccess, nil)
	})
}

func TestScheduledRunsAndCatchup(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		start := float64(enginetest.Epoch.Add(-72 * time.Hour).Unix())
		d := enginetest.Chain("daily", 1)
		d.Cron, d.Fields = "0 0 * * *", map[string]any{"catchup": true, "start_date": start, "max_active_runs": 2}
		register(t, h, d)
		ran := runAll(t, h, enginetest.Succeed)
		if len(ran) != 4 {
			t.Fatalf("4 missed days, %d runs", len(ran))
		}
		next, err := h.Engine.NextTick(ctx)
		if err != nil || !next.Equal(enginetest.Epoch.Add(24*time.Hour)) {
			t.Fatalf("next tick %v %v", next, err)
		}
		h.Clock.Set(next)
		if _, err := h.Engine.Tick(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if ran := runAll(t, h, enginetest.Succeed); len(ran) != 1 || ran[0].Key.RunID != "scheduled__2026-03-02T00:00:00+00:00" {
			t.Errorf("next day: %v", ran)
		}
	})
}

// A run that was started by hand for a date to come has an early run_after and a
// late logical date: it is the previous run of those after its date all the same.
func TestDependsOnPastFindsARunStartedAhead(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.DAG{ID: "p", Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"depends_on_past": true, "ignore_first_depends_on_past": true}}}})
		start := h.Clock.Now()
		for _, ahead := range []int{2, 4} {
			ld := start.Add(time.Duration(ahead) * time.Hour)
			if _, err := h.Engine.Trigger(ctx, engine.TriggerOptions{DagID: "p", RunID: airflow.RunID(fmt.Sprint("ahead", ahead)), LogicalDate: &ld, TriggeredBy: airflow.TriggeredByTest}); err != nil {
				t.Fatal(err)
			}
		}
		tick := func(at time.Duration) {
			t.Helper()
			h.Clock.Set(start.Add(at))
			if _, err := h.Engine.Tick(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		tick(time.Hour)
		k1 := trigger(t, h, "p", "r1")
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k1, airflow.RunSuccess, nil)
		tick(2 * time.Hour)
		runAll(t, h, func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome { return enginetest.Fail() })
		wantStates(t, h, store.RunKey{DagID: "p", RunID: "ahead2"}, airflow.RunFailed, nil)
		tick(3 * time.Hour)
		k3 := trigger(t, h, "p", "r3")
		if ds := runAll(t, h, enginetest.Succeed); len(ds) != 0 {
			t.Errorf("%v started although the run before it has failed", ds)
		}
		if err := h.Engine.DeleteRun(ctx, store.RunKey{DagID: "p", RunID: "ahead2"}); err != nil {
			t.Fatal(err)
		}
		h.Engine.DagChanged("p")
		runAll(t, h, enginetest.Succeed) // now r1 is the one before it
		wantStates(t, h, k3, airflow.RunSuccess, nil)
	})
}

func TestDependsOnPastWaitsForThePreviousRun(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.DAG{ID: "p", Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"depends_on_past": true}}}})
		k1 := trigger(t, h, "p", "r1")
		h.Clock.Advance(time.Hour)
		k2 := trigger(t, h, "p", "r2")
		h.Engine.Drain(ctx)
		ds := h.Queue.Take()
		if len(ds) != 1 || ds[0].Key.RunID != "r1" {
			t.Fatalf("dispatched %v", ds)
		}
		reasons, err := h.Engine.Explain(ctx, k2)
		if err != nil || len(reasons) == 0 {
			t.Errorf("no reason why r2 waits: %v %v", reasons, err)
		}
		if err := h.Run(ctx, ds[0], enginetest.Success(nil)); err != nil {
			t.Fatal(err)
		}
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k1, airflow.RunSuccess, nil)
		wantStates(t, h, k2, airflow.RunSuccess, nil)
	})
}

// TestRecovery kills the engine after every kind of step and starts another one
// on the same store.
func TestRecovery(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{{ID: "a"}, {ID: "b", Upstream: []string{"a"}, Fields: map[string]any{"retries": 1, "retry_delay": 1.0}}, {ID: "c", Upstream: []string{"b"}}}})
		restart := func() {
			t.Helper()
			h.Restart()
			if err := h.Engine.Recover(ctx, engine.RecoverOptions{Lost: func(store.Attempt) bool { return true }}); err != nil {
				t.Fatal(err)
			}
			h.Engine.Drain(ctx)
		}
		k := trigger(t, h, "d", "r")
		restart() // a was queued; its message is lost
		ds := h.Queue.Take()
		if len(ds) != 1 || ds[0].Key.TaskID != "a" {
			t.Fatalf("after the first crash: %v", ds)
		}
		tc, err := h.Backend.Claim(ctx, ds[0], h.Who)
		if err != nil {
			t.Fatal(err)
		}
		r := worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}
		if err := h.Backend.Finish(ctx, ds[0], &r); err != nil { // stored, but never applied
			t.Fatal(err)
		}
		_ = tc
		restart()
		ds = h.Queue.Take()
		if len(ds) != 1 || ds[0].Key.TaskID != "b" {
			t.Fatalf("after the second crash: %v", ds)
		}
		if _, err := h.Backend.Claim(ctx, ds[0], h.Who); err != nil {
			t.Fatal(err)
		}
		restart() // b was running in the process that died
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"a": airflow.TISuccess, "b": airflow.TIUpForRetry})
		h.Clock.Advance(2 * time.Second)
		if _, err := h.Engine.Tick(ctx, 1); err != nil {
			t.Fatal(err)
		}
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

func TestDispatchStartsOnceHoweverOftenItIsDelivered(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.Chain("c", 1))
		k := trigger(t, h, "c", "r")
		h.Engine.Drain(ctx)
		d := h.Queue.Take()[0]
		other := h.Who
		other.PID = 99
		if _, err := h.Backend.Claim(ctx, d, h.Who); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Backend.Claim(ctx, d, other); err == nil {
			t.Error("a second worker claimed the same dispatch")
		}
		r := worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}
		for i := 0; i < 3; i++ { // the report, too, arrives more than once
			if err := h.Backend.Finish(ctx, d, &r); err != nil {
				t.Fatal(err)
			}
			h.Engine.Drain(ctx)
		}
		if _, err := h.Backend.Claim(ctx, d, h.Who); err == nil {
			t.Error("a finished dispatch started again")
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

func TestPausedDagStartsNothing(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.Chain("c", 2))
		if _, err := h.Engine.SetPaused(ctx, "c", true, "me"); err != nil {
			t.Fatal(err)
		}
		k := trigger(t, h, "c", "r")
		if ran := runAll(t, h, enginetest.Succeed); len(ran) != 0 {
			t.Errorf("a paused DAG ran %v", ran)
		}
		wantStates(t, h, k, airflow.RunQueued, nil)
		if _, err := h.Engine.SetPaused(ctx, "c", false, "me"); err != nil {
			t.Fatal(err)
		}
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k, airflow.RunSuccess, nil)
		events, _, err := h.Store.ListAudit(ctx, store.ListOptions{})
		if err != nil || len(events) != 2 {
			t.Errorf("audit: %+v %v", events, err)
		}
	})
}

func TestBackfill(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		d := enginetest.Chain("daily", 1)
		d.Cron = "0 0 * * *"
		register(t, h, d)
		h.Engine.Drain(ctx)
		h.Queue.Take()
		q := engine.BackfillRequest{Backfill: airflow.Backfill{DagID: "daily", FromDate: enginetest.Epoch.AddDate(0, 0, -10), ToDate: enginetest.Epoch.AddDate(0, 0, -6), MaxActiveRuns: 2}, DryRun: true}
		_, runs, err := h.Engine.CreateBackfill(ctx, q)
		if err != nil || len(runs) != 5 {
			t.Fatalf("dry run: %v %v", runs, err)
		}
		q.DryRun = false
		b, _, err := h.Engine.CreateBackfill(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Engine.CreateBackfill(ctx, q); err == nil {
			t.Error("a second backfill of the DAG was accepted")
		}
		h.Engine.Drain(ctx)
		ds := h.Queue.Take()
		if len(ds) != 2 {
			t.Errorf("%d runs at once, max_active_runs is 2", len(ds))
		}
		for _, d := range ds {
			if err := h.Run(ctx, d, enginetest.Success(nil)); err != nil {
				t.Fatal(err)
			}
		}
		runAll(t, h, enginetest.Succeed)
		b, err = h.Store.GetBackfill(ctx, b.ID)
		if err != nil || b.CompletedAt == nil {
			t.Errorf("backfill %+v %v", b, err)
		}
	})
}

func TestDeferralByTime(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		register(t, h, enginetest.Chain("c", 1))
		k := trigger(t, h, "c", "r")
		at := h.Clock.Now().Add(time.Hour)
		deferred := enginetest.Outcome{Report: worker.Report{Outcome: worker.OutcomeDeferred, Deferral: &worker.Deferral{
			Trigger: worker.Trigger{Kind: worker.TriggerTime, At: at}, NextMethod: "execute_complete", NextKwargs: []byte(`{"a":1}`)}}}
		h.Engine.Drain(ctx)
		if err := h.Run(ctx, h.Queue.Take()[0], deferred); err != nil {
			t.Fatal(err)
		}
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"t000": airflow.TIDeferred})
		h.Restart() // the trigger must survive
		if err := h.Engine.Recover(ctx, engine.RecoverOptions{}); err != nil {
			t.Fatal(err)
		}
		h.Engine.Drain(ctx)
		next, ok := h.Engine.NextWake()
		if !ok || !next.Equal(at) {
			t.Fatalf("next wake %v %t, want %v", next, ok, at)
		}
		h.Clock.Set(at)
		if _, err := h.Engine.Tick(ctx, 1); err != nil {
			t.Fatal(err)
		}
		resumed := false
		runAll(t, h, func(_ worker.Dispatch, tc *worker.TaskContext) enginetest.Outcome {
			resumed = tc.NextMethod == "execute_complete" && string(tc.NextKwargs) == `{"a":1}` && tc.TryNumber == 1
			return enginetest.Success(nil)
		})
		if !resumed {
			t.Error("the task was not resumed where it deferred")
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

// recorder counts the callbacks it is asked to run.
type recorder struct {
	mu   sync.Mutex
	seen map[string]int
}

func (r *recorder) note(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[id]++
	return nil
}

func (r *recorder) RunDagCallback(_ context.Context, _ *airflow.DAG, _ airflow.DagRun, _ bool, reason, id string) error {
	return r.note(reason + " " + id)
}

func (r *recorder) RunTaskCallback(_ context.Context, _ *airflow.DAG, _ airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, id string) error {
	return r.note(fmt.Sprintf("%s retry=%t %s", ti.TaskID, retry, cause))
}

func (r *recorder) RunDeadline(_ context.Context, _ *airflow.DAG, _ airflow.DagRun, _ int, _ time.Time, id string) error {
	return r.note(id)
}

func TestCallbacksSurviveACrash(t *testing.T) {
	d := memkv.New(memkv.Options{})
	h := enginetest.New(d, engine.Config{}, nil)
	ctx := t.Context()
	rec := &recorder{seen: map[string]int{}}
	h.Callbacks = rec
	h.Restart()
	register(t, h, enginetest.DAG{ID: "d", Fields: map[string]any{"has_on_failure_callback": true},
		Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"has_on_failure_callback": true}}}})
	trigger(t, h, "d", "r")
	ds := h.Queue.Take()
	if _, err := h.Backend.Claim(ctx, ds[0], h.Who); err != nil {
		t.Fatal(err)
	}
	// The worker is lost, and the engine dies right after the commit: its
	// callbacks are cut off before they run.
	h.Engine.Close()
	h.Restart()
	h.Engine.Close() // a closed engine commits, but carries nothing out
	if err := h.Engine.Recover(ctx, engine.RecoverOptions{Lost: func(store.Attempt) bool { return true }}); err != nil {
		t.Fatal(err)
	}
	h.Engine.Drain(ctx)
	h.Engine.Close()
	pending, err := h.Store.ListPendingEffects(ctx)
	if err != nil || len(pending) != 2 {
		t.Fatalf("pending after the crash: %+v %v", pending, err)
	}
	rec.mu.Lock()
	clear(rec.seen)
	rec.mu.Unlock()
	h.Restart()
	if err := h.Engine.Recover(ctx, engine.RecoverOptions{}); err != nil {
		t.Fatal(err)
	}
	h.Engine.Drain(ctx)
	h.Engine.Wait()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.seen["task_failure dag#d/r#0#task_failure"] != 1 || rec.seen["a retry=false the server that ran it was stopped or killed"] != 1 || len(rec.seen) != 2 {
		t.Errorf("callbacks: %v", rec.seen)
	}
	if pending, _ := h.Store.ListPendingEffects(ctx); len(pending) != 0 {
		t.Errorf("still pending: %v", pending)
	}
}
