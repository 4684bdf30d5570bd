package engine_test

import (
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

// TestLostTaskIsMailed: a task that has addresses but no callback is handed to who
// runs callbacks when its worker is lost, under the key that the worker would use.
func TestLostTaskIsMailed(t *testing.T) {
	h := enginetest.New(memkv.New(memkv.Options{}), engine.Config{}, nil)
	ctx := t.Context()
	rec := &recorder{seen: map[string]int{}}
	h.Callbacks = rec
	h.Restart()
	register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{
		{ID: "told", Fields: map[string]any{"email": []string{"a@example.org"}}},
		{ID: "quiet", Fields: map[string]any{"email": []string{"a@example.org"}, "email_on_failure": false}}, {ID: "none"}}})
	trigger(t, h, "d", "r")
	for _, d := range h.Queue.Take() {
		if _, err := h.Backend.Claim(ctx, d, h.Who); err != nil {
			t.Fatal(err)
		}
	}
	h.Engine.Close()
	h.Restart()
	if err := h.Engine.Recover(ctx, engine.RecoverOptions{Lost: func(store.Attempt) bool { return true }}); err != nil {
		t.Fatal(err)
	}
	h.Engine.Drain(ctx)
	h.Engine.Wait()
	if rec.seen["told retry=false the server that ran it was stopped or killed"] != 1 || len(rec.seen) != 1 {
		t.Errorf("callbacks: %v", rec.seen)
	}
	if done, err := h.Store.DoneEffect(ctx, store.RunKey{DagID: "d", RunID: "r"}, "d/r/told/-1/1#on_failure_callback"); err != nil || !done {
		t.Errorf("not recorded under the worker's key: %v %v", done, err)
	}
}

// TestDeadlineOutlivesItsRun checks deadlines of a run that has not started, and
// of one that failed before: their callbacks run once, also after a restart, and
// not if the run was cleared and has succeeded meanwhile.
func TestDeadlineOutlivesItsRun(t *testing.T) {
	h := enginetest.New(memkv.New(memkv.Options{}), engine.Config{}, nil)
	ctx := t.Context()
	rec := &recorder{seen: map[string]int{}}
	h.Callbacks = rec
	h.Restart()
	register(t, h, enginetest.DAG{ID: "d", Fields: map[string]any{"max_active_runs": 1, "deadline": []any{
		map[string]any{"reference": map[string]any{"reference_type": "DagRunQueuedAtDeadline"}, "interval": 600.0, "callback": map[string]any{"path": "m.f"}}}},
		Tasks: []enginetest.Task{{ID: "a"}}})
	fired := func(id string) int {
		t.Helper()
		h.Engine.Drain(ctx)
		h.Engine.Wait()
		rec.mu.Lock()
		defer rec.mu.Unlock()
		return rec.seen[id]
	}
	tick := func(after time.Duration) {
		t.Helper()
		h.Clock.Advance(after)
		if _, err := h.Engine.Tick(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() {
		t.Helper()
		h.Engine.Close()
		h.Restart()
		if err := h.Engine.Recover(ctx, engine.RecoverOptions{}); err != nil {
			t.Fatal(err)
		}
		h.Engine.Drain(ctx)
	}
	fail := func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome { return enginetest.Fail() }

	next := func(run string) store.RunKey {
		t.Helper()
		h.Clock.Advance(time.Second)
		return trigger(t, h, "d", run)
	}
	one := next("one")
	next("two")
	h.Engine.Drain(ctx)
	restart()
	if at, ok := h.Engine.NextWake(); !ok || at.After(h.Clock.Now().Add(10*time.Minute+time.Millisecond)) {
		t.Fatalf("next wake %v %t", at, ok)
	}
	tick(11 * time.Minute)
	if a, b := fired("deadline#d/one#0"), fired("deadline#d/two#0"); a != 1 || b != 1 {
		t.Fatalf("running run %d, queued run %d callbacks", a, b)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, one, airflow.RunSuccess, nil)

	three, four := next("three"), next("four")
	runAll(t, h, fail)
	wantStates(t, h, three, airflow.RunFailed, nil)
	wantStates(t, h, four, airflow.RunFailed, nil)
	if n := fired("deadline#d/three#0"); n != 0 {
		t.Fatalf("fired before it was due: %d", n)
	}
	restart()
	if at, ok := h.Engine.NextWake(); !ok || at.After(h.Clock.Now().Add(10*time.Minute+time.Millisecond)) {
		t.Fatalf("the deadline of a failed run was forgotten: next wake %v %t", at, ok)
	}
	if _, err := h.Engine.Clear(ctx, four, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{OnlyFailed: true, ResetDagRun: true}}); err != nil {
		t.Fatal(err)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, four, airflow.RunSuccess, nil)
	tick(11 * time.Minute)
	if a, b := fired("deadline#d/three#0"), fired("deadline#d/four#0"); a != 1 || b != 0 {
		t.Errorf("failed run %d, run that succeeded after all %d callbacks; want 1, 0", a, b)
	}
	restart()
	tick(time.Hour)
	if a, b := fired("deadline#d/three#0"), fired("deadline#d/four#0"); a != 1 || b != 0 {
		t.Errorf("again: %d, %d", a, b)
	}
	if pending, err := h.Store.ListPendingEffects(ctx); err != nil || len(pending) != 0 {
		t.Errorf("still pending: %v %v", pending, err)
	}
}
