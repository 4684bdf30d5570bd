package engine_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
	"github.com/gustflow/gust/internal/worker"
)

// wideRun is a run of a mapped task, all of whose instances are claimed.
type wideRun struct {
	*enginetest.Harness
	key    store.RunKey
	worker *engine.Backend
	tasks  []worker.Dispatch
	ctxs   []*worker.TaskContext
}

// startWide starts a run of n mapped instances; the engines of the harness are
// shared schedulers.
func startWide(t *testing.T, d kv.Driver, n int) *wideRun {
	t.Helper()
	return startWideDAG(t, d, n, enginetest.DAG{ID: "map", Fields: map[string]any{"max_active_tasks": n}, Tasks: []enginetest.Task{{ID: "m", ExpandLit: n}, {ID: "end", Upstream: []string{"m"}}}})
}

// startWideDAG starts a run of a DAG called map, n of whose instances run first.
func startWideDAG(t *testing.T, d kv.Driver, n int, dag enginetest.DAG) *wideRun {
	t.Helper()
	ctx := t.Context()
	w := &wideRun{Harness: enginetest.NewShared(d, engine.Config{Parallelism: -1, DefaultPoolSlots: -1, MaxMapLength: n}, nil)}
	register(t, w.Harness, dag)
	w.Engine.Drain(ctx)
	w.Outbox.Take(w.Clock.Now())
	w.worker = engine.NewBackend(w.NewEngine(true), nil, nil, nil)
	now := w.Clock.Now()
	info, err := w.NewEngine(true).Trigger(ctx, engine.TriggerOptions{DagID: "map", RunID: "r", LogicalDate: &now, TriggeredBy: airflow.TriggeredByTest})
	if err != nil {
		t.Fatal(err)
	}
	w.key = store.RunKey{DagID: info.DagID, RunID: info.RunID}
	w.handle(t, w.Engine, w.messages()...)
	w.tasks = w.Queue.Take()
	if len(w.tasks) != n {
		t.Fatalf("%d of %d instances were dispatched", len(w.tasks), n)
	}
	return w
}

func (w *wideRun) messages() (ds []engine.Delivery) {
	for _, m := range w.Outbox.Take(w.Clock.Now()) {
		ds = append(ds, engine.Delivery{Message: m, ReceiveCount: 1})
	}
	return ds
}

func (w *wideRun) handle(t *testing.T, e *engine.Engine, ds ...engine.Delivery) {
	t.Helper()
	if failed := e.Handle(t.Context(), ds); len(failed) > 0 {
		t.Fatalf("messages %v of %d failed", failed, len(ds))
	}
}

// report runs an instance to its report and returns the message that tells of it.
func (w *wideRun) report(t *testing.T, i int) engine.Delivery {
	t.Helper()
	ctx := t.Context()
	d := w.tasks[i]
	if _, err := w.worker.Claim(ctx, d, w.Who); err != nil {
		t.Fatal(err)
	}
	if err := w.worker.Finish(ctx, d, &worker.Report{Outcome: worker.OutcomeSuccess, EndDate: w.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
	ds := w.messages()
	if len(ds) != 1 || ds[0].Kind != engine.MessageReport {
		t.Fatalf("the end of %s was told by %+v", d, ds)
	}
	return ds[0]
}

// TestReportLeftIsTaken lets others report at every call of the store that the
// one makes who steps a wide run: what they leave is always taken, without the
// minute's sweep.
func TestReportLeftIsTaken(t *testing.T) {
	left := 0
	for at := 1; ; at++ {
		mem := memkv.New(memkv.Options{})
		w := startWide(t, mem, 4)
		var ms []engine.Delivery
		for i := range w.tasks {
			m := w.report(t, i)
			m.Wide = true // as of a run that is
			ms = append(ms, m)
		}
		calls, done := 0, false
		fault := faultkv.New(mem, faultkv.Options{Before: func(call faultkv.Call) {
			if calls++; calls != at || done {
				return
			}
			done = true
			// Two others, and one that has just seen the lease held.
			other := w.NewEngine(false)
			w.handle(t, w.NewEngine(false), ms[0])
			w.handle(t, other, ms[1])
			w.handle(t, other, ms[2])
			if has, err := w.Store.HasMail(t.Context(), w.key, 1); err == nil && has {
				left++
			}
		}})
		holder := engine.New(engine.Options{Store: store.New(fault, nil), Submitter: w.Queue, Outbox: w.Outbox, Config: w.Config, Now: w.Clock.Now, Pause: func(time.Duration) {}, Handlers: 1})
		w.handle(t, holder, engine.Delivery{Message: engine.Message{Kind: engine.MessageRun, DagID: w.key.DagID, RunID: w.key.RunID, Wide: true}, ReceiveCount: 1})
		if !done {
			if at < 10 || left < 5 {
				t.Errorf("%d calls were tried, at %d of them reports were left: the test shows little", at-1, left)
			}
			return
		}
		tis, err := w.Engine.TaskInstances(context.Background(), w.key)
		if err != nil {
			t.Fatal(err)
		}
		for _, ti := range tis {
			want := airflow.TISuccess
			if ti.TaskID == "end" || ti.MapIndex == w.tasks[3].Key.MapIndex {
				continue
			}
			if ti.State != want {
				t.Errorf("reported at call %d: %s[%d] is %s", at, ti.TaskID, ti.MapIndex, ti.State)
			}
		}
	}
}

// TestCompletionInWideRun holds what a single completion reads and writes where
// schedulers share a store, however wide its run is: META, the chunk it is in, its
// row, and what the scheduler before it changed.
func TestCompletionInWideRun(t *testing.T) {
	for _, n := range []int{1000, 4000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			m := meterkv.New(memkv.New(memkv.Options{}))
			w := startWide(t, m, n)
			schedulers := []*engine.Engine{w.NewEngine(false), w.NewEngine(false)}
			for i, e := range schedulers { // they have seen the run
				w.handle(t, e, w.report(t, i))
			}
			const reports = 20
			var took meterkv.Counts
			for i := range reports {
				d := w.report(t, len(schedulers)+i*(n-10)/reports)
				m.Reset()
				w.handle(t, schedulers[i%2], d)
				c := m.Total()
				if i == 0 {
					took = c
				}
				if c.ReadUnits > 14 || c.TotalWriteUnits() > 16 || c.TotalCalls() > 12 {
					t.Errorf("completion %d in a run of %d took %.1f read units, %.1f write units, %d calls", i, n, c.ReadUnits, c.TotalWriteUnits(), c.TotalCalls())
				}
			}
			t.Logf("a completion in a run of %d: %.1f read units, %.1f write units, %d calls", n, took.ReadUnits, took.TotalWriteUnits(), took.TotalCalls())
		})
	}
}

// TestClaimInWideRun: the claim of one of very many instances reads no state.
func TestClaimInWideRun(t *testing.T) {
	m := meterkv.New(memkv.New(memkv.Options{}))
	w := startWide(t, m, 1000)
	if _, err := w.worker.Claim(t.Context(), w.tasks[0], w.Who); err != nil { // reads the DAG version
		t.Fatal(err)
	}
	m.Reset()
	tc, err := w.worker.Claim(t.Context(), w.tasks[500], w.Who)
	if err != nil {
		t.Fatal(err)
	}
	if c := m.Total(); c.ReadUnits > 1 || c.TotalWriteUnits() > 1 {
		t.Errorf("the claim took %.1f read units and %.1f write units\n%s", c.ReadUnits, c.TotalWriteUnits(), m)
	}
	// What it knows is what a claim without an offer reads.
	d := w.tasks[501]
	d.Offer = worker.Offer{}
	want, err := w.worker.Claim(t.Context(), d, w.Who)
	if err != nil {
		t.Fatal(err)
	}
	if tc.TryNumber != want.TryNumber || tc.MaxTries != want.MaxTries || tc.ExpandedTICount != want.ExpandedTICount || tc.ExpandedTICount != 1000 ||
		tc.Run.State != want.Run.State || tc.Run.StartDate == nil || !tc.Run.StartDate.Equal(*want.Run.StartDate) || tc.Run.ClearNumber != want.Run.ClearNumber {
		t.Errorf("offered %+v of run %+v\nread %+v of run %+v", tc, tc.Run, want, want.Run)
	}
}

// TestReportIsLeftInTime lets the one who steps a wide run close a box, or give
// the run back, at every call that somebody makes who wants to leave a report: it
// is seen by the one or taken by the other.
func TestReportIsLeftInTime(t *testing.T) {
	for _, releases := range []bool{false, true} {
		for at := 1; ; at++ {
			mem := memkv.New(memkv.Options{})
			w := startWide(t, mem, 4)
			m := w.report(t, 0)
			m.Wide = true
			ctx, now := t.Context(), w.Clock.Now()
			l, mine, err := w.Store.TakeLease(ctx, w.key, "another", now, now.Add(time.Minute))
			if err != nil || !mine {
				t.Fatal(mine, err)
			}
			seen := map[int]bool{}
			look := func(box int64) {
				ms, err := w.Store.ListMail(ctx, w.key, box)
				if err != nil {
					t.Error(err)
				}
				for _, m := range ms {
					seen[m.MapIndex] = true
				}
			}
			calls, done := 0, false
			fault := faultkv.New(mem, faultkv.Options{Before: func(faultkv.Call) {
				if calls++; calls != at || done {
					return
				}
				done = true
				if releases {
					err = w.Store.ReleaseLease(ctx, w.key, l, true)
				} else {
					l, err = w.Store.NextBox(ctx, w.key, l, now.Add(time.Minute))
				}
				if err != nil {
					t.Error(err)
				}
				look(1)
			}})
			e := engine.New(engine.Options{Store: store.New(fault, nil), Submitter: w.Queue, Outbox: w.Outbox, Config: w.Config, Now: w.Clock.Now, Pause: func(time.Duration) {}, Handlers: 1})
			w.handle(t, e, m)
			if !done {
				if at < 3 {
					t.Errorf("only %d calls were tried", at-1)
				}
				break
			}
			if !releases {
				look(l.Box) // it is still open
			}
			tis, err := w.Engine.TaskInstances(ctx, w.key)
			if err != nil {
				t.Fatal(err)
			}
			for _, ti := range tis {
				if i := w.tasks[0].Key.MapIndex; ti.TaskID == "m" && ti.MapIndex == i && ti.State != airflow.TISuccess && !seen[i] {
					t.Errorf("given back: %t, at call %d: the report was neither seen nor applied: the instance is %s", releases, at, ti.State)
				}
			}
		}
	}
}

// TestOfferInMappedGroup: what a claim is offered includes which instances above
// it belongs to.
func TestOfferInMappedGroup(t *testing.T) {
	const n = 300
	w := startWideDAG(t, memkv.New(memkv.Options{}), n, enginetest.DAG{
		ID: "map", Fields: map[string]any{"max_active_tasks": 2 * n}, Groups: []enginetest.Group{{ID: "g", ExpandLit: n}},
		Tasks: []enginetest.Task{{ID: "g.a", Group: "g"}, {ID: "g.b", Group: "g", Upstream: []string{"g.a"}}},
	})
	w.handle(t, w.NewEngine(false), w.report(t, 7))
	ds := w.Queue.Take()
	if len(ds) != 1 || ds[0].Key.TaskID != "g.b" || !ds[0].Offer.Made() {
		t.Fatalf("dispatched: %+v", ds)
	}
	offered, err := w.worker.Claim(t.Context(), ds[0], w.Who)
	if err != nil {
		t.Fatal(err)
	}
	ds[0].Offer = worker.Offer{}
	read, err := w.worker.Claim(t.Context(), ds[0], w.Who)
	if err != nil {
		t.Fatal(err)
	}
	if got := offered.UpstreamMapIndexes["g.a"]; len(got) != 1 || got[0] != w.tasks[7].Key.MapIndex || !reflect.DeepEqual(offered.UpstreamMapIndexes, read.UpstreamMapIndexes) {
		t.Errorf("offered %v, read %v", offered.UpstreamMapIndexes, read.UpstreamMapIndexes)
	}
}
