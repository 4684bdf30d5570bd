package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
	"github.com/gustflow/gust/internal/worker"
)

// TestManyHandsAtOnce lets several goroutines and a tool in another connection
// trigger, clear, mark, pause and resize pools while workers claim, finish, fail
// and yield. Afterwards every run ends, the slots agree with the stored states
// and nothing is remembered of what is over. Run it with -race too.
func TestManyHandsAtOnce(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "gust.db")
	open := func() *store.Store {
		d, err := sqlitekv.Open(path, sqlitekv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return store.New(d, nil)
	}
	st := open()
	cfg := engine.Config{Parallelism: 6}
	q := &chanQueue{ds: make(chan worker.Dispatch, 100000)}
	e := engine.New(engine.Options{Store: st, Submitter: q, Config: cfg})
	t.Cleanup(e.Close)
	h := &enginetest.Harness{Store: st, Engine: e, Clock: enginetest.NewClock(), Queue: &enginetest.Queue{}}
	soon := map[string]any{"retry_delay": 0.01} // a task that is cleared while it runs is retried
	pool := map[string]any{"pool": "p", "retry_delay": 0.01}
	for _, d := range []enginetest.DAG{
		{ID: "a", Fields: map[string]any{"max_active_runs": 3}, Tasks: []enginetest.Task{{ID: "x", Fields: pool}, {ID: "y", Upstream: []string{"x"}, Fields: pool}, {ID: "z", Upstream: []string{"y"}, Fields: soon}}},
		{ID: "b", Fields: map[string]any{"max_active_tasks": 2}, Tasks: []enginetest.Task{{ID: "x", ExpandLit: 5, Fields: pool}, {ID: "y", Upstream: []string{"x"}, Fields: soon}}},
	} {
		if _, err := h.Register(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.PutPool(ctx, airflow.Pool{Name: "p", Slots: 3}); err != nil {
		t.Fatal(err)
	}
	tool := engine.New(engine.Options{Store: open(), Config: cfg, Passive: true})
	t.Cleanup(tool.Close)

	loop, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	goes := func(f func()) { wg.Add(1); go func() { defer wg.Done(); f() }() }
	goes(func() {
		e.Run(loop, engine.LoopOptions{SweepEvery: 50 * time.Millisecond, Idle: 50 * time.Millisecond})
	})
	var chaos atomic.Bool
	chaos.Store(true)
	for i := range 6 {
		who := worker.Identity{Hostname: "w", PID: i}
		b := engine.NewBackend(e, nil, nil, nil)
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		goes(func() {
			for {
				select {
				case <-loop.Done():
					return
				case d := <-q.ds:
					work(ctx, b, d, who, rng, chaos.Load())
				}
			}
		})
	}
	var triggered atomic.Int64
	var hands sync.WaitGroup
	until := time.Now().Add(1500 * time.Millisecond)
	for i := range 4 {
		by := e
		if i == 3 {
			by = tool
		}
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		hands.Add(1)
		go func() {
			defer hands.Done()
			for n := 0; time.Now().Before(until); n++ {
				meddle(ctx, t, by, e, st, rng, fmt.Sprintf("r%d-%d", i, n), &triggered)
			}
		}()
	}
	hands.Wait()
	chaos.Store(false)
	for _, dag := range []airflow.DagID{"a", "b"} {
		if _, err := e.SetPaused(ctx, dag, false, ""); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(40 * time.Second)
	for {
		active, err := st.ListActiveRuns(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(active) == 0 && e.ActiveRunCount() == 0 {
			break
		}
		if time.Now().After(deadline) {
			for _, r := range active[:min(3, len(active))] {
				why, err := e.Explain(ctx, store.RunKey{DagID: r.DagID, RunID: r.RunID})
				t.Logf("%s/%s %s: %+v %v", r.DagID, r.RunID, r.State, why, err)
			}
			t.Fatalf("%d of %d runs do not end (%d in memory); accounts %s", len(active), triggered.Load(), e.ActiveRunCount(), e.Accounts())
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	wg.Wait()
	want, err := e.AccountsOfStore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Accounts(); got != want {
		t.Errorf("accounts after everything has ended:\n%s\nwant\n%s", got, want)
	}
	if got, want := e.Remembered(), "0 runs, 0 claims, 0 watchers, 0 callbacks, 0 delayed"; got != want {
		t.Errorf("remembered: %s, want %s", got, want)
	}
	if triggered.Load() == 0 {
		t.Error("nothing was triggered")
	}
}

// work plays a worker, a careless one while chaos reigns.
func work(ctx context.Context, b *engine.Backend, d worker.Dispatch, who worker.Identity, rng *rand.Rand, chaos bool) {
	if _, err := b.Claim(ctx, d, who); err != nil {
		return
	}
	time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
	r := worker.Report{Outcome: worker.OutcomeSuccess, EndDate: time.Now()}
	if chaos && rng.IntN(5) == 0 {
		r.Outcome = worker.OutcomeFailed
	}
	// As a worker does: what the store does not answer is said again.
	err := b.Finish(ctx, d, &r)
	for i := 0; i < 50 && transient(err); i++ {
		time.Sleep(10 * time.Millisecond)
		err = b.Finish(ctx, d, &r)
	}
	if !errors.Is(err, airflow.ErrSuperseded) {
		return
	}
	for i := 0; i < 50 && transient(b.Yield(ctx, d, who)); i++ {
		time.Sleep(10 * time.Millisecond)
	}
}

func transient(err error) bool {
	return errors.Is(err, airflow.ErrThrottled) || errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrConflict)
}

// meddle does one thing that a person may do.
func meddle(ctx context.Context, t *testing.T, by, server *engine.Engine, st *store.Store, rng *rand.Rand, name string, triggered *atomic.Int64) {
	dag := airflow.DagID([]string{"a", "b"}[rng.IntN(2)])
	var err error
	key := store.RunKey{DagID: dag}
	if runs, _, lerr := st.ListRuns(ctx, dag, store.ListOptions{Descending: true, Limit: 10}); lerr == nil && len(runs) > 0 {
		key.RunID = runs[rng.IntN(len(runs))].RunID
	}
	x := scheduler.Selection{Tasks: []scheduler.TaskSelection{{TaskID: "x"}}, Downstream: rng.IntN(2) == 0}
	switch n := rng.IntN(12); {
	case n < 4 || key.RunID == "":
		if triggered.Load() > 60 {
			return
		}
		_, err = by.Trigger(ctx, engine.TriggerOptions{DagID: dag, RunID: airflow.RunID(name), NoLogicalDate: true, TriggeredBy: airflow.TriggeredByCLI})
		if err == nil {
			triggered.Add(1)
		}
	case n < 7:
		_, err = by.Clear(ctx, key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: x, ResetDagRun: true}})
	case n == 7:
		_, err = by.MarkTask(ctx, key, scheduler.MarkOptions{Selection: x, State: []airflow.TIState{airflow.TISuccess, airflow.TIFailed}[rng.IntN(2)]}, "")
	case n == 8:
		_, err = by.MarkRun(ctx, key, []airflow.DagRunState{airflow.RunSuccess, airflow.RunFailed, airflow.RunQueued}[rng.IntN(3)], "")
	case n == 9:
		_, err = by.SetPaused(ctx, dag, rng.IntN(3) == 0, "")
	case n == 10:
		err = by.PutPool(ctx, airflow.Pool{Name: "p", Slots: 1 + rng.IntN(4), IncludeDeferred: true})
	default:
		err = by.DeleteRun(ctx, key)
	}
	switch {
	case err == nil || errors.Is(err, airflow.ErrNotAllowed) || errors.Is(err, airflow.ErrNotFound) || errors.Is(err, airflow.ErrConflict) || errors.Is(err, airflow.ErrThrottled):
	default:
		t.Errorf("%s: %v", name, err)
	}
	if by != server && rng.IntN(2) == 0 { // as tools do; sometimes the notice is lost
		_ = server.Refresh(ctx, key)
	}
}

// chanQueue is a submitter that hands dispatches to workers.
type chanQueue struct{ ds chan worker.Dispatch }

func (q *chanQueue) Submit(_ context.Context, ds []worker.Dispatch) error {
	for _, d := range ds {
		q.ds <- d
	}
	return nil
}

func (q *chanQueue) Cancel(worker.Dispatch, string) {}
