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

// manyDue is a harness with n DAGs whose next run is due at the next full hour,
// and that time.
func manyDue(t *testing.T, n int, cfg engine.Config) (*enginetest.Harness, time.Time) {
	t.Helper()
	cfg.Parallelism, cfg.DefaultPoolSlots = -1, -1
	h := enginetest.NewShared(memkv.New(memkv.Options{}), cfg, nil)
	for i := range n {
		register(t, h, enginetest.DAG{ID: fmt.Sprintf("dag%03d", i), Cron: "0 * * * *", Tasks: []enginetest.Task{{ID: "t", Empty: true}}})
	}
	h.Engine.Drain(t.Context())
	h.Outbox.Take(h.Clock.Now().Add(24 * time.Hour))
	due := h.Clock.Now().Truncate(time.Hour).Add(time.Hour)
	h.Clock.Set(due.Add(time.Second))
	return h, due
}

// tick is one invocation of the minute's tick, in a fresh environment.
func tick(t *testing.T, ctx context.Context, h *enginetest.Harness) {
	t.Helper()
	h.Engine = h.NewEngine(false)
	if err := h.Engine.TickServerless(ctx); err != nil {
		t.Fatal(err)
	}
}

// deliver handles messages in batches of ten, each in a fresh environment.
func deliver(t *testing.T, h *enginetest.Harness, ms []engine.Message) {
	t.Helper()
	for len(ms) > 0 {
		var ds []engine.Delivery
		for _, m := range ms[:min(10, len(ms))] {
			ds = append(ds, engine.Delivery{Message: m, ReceiveCount: 1})
		}
		ms = ms[len(ds):]
		h.Engine = h.NewEngine(false)
		if failed := h.Engine.Handle(t.Context(), ds); len(failed) > 0 {
			t.Fatalf("%d messages failed", len(failed))
		}
	}
}

// dueOf lists the DAGs that messages hand on.
func dueOf(ms []engine.Message) (dags []airflow.DagID) {
	for _, m := range ms {
		if m.Kind == engine.MessageDue {
			dags = append(dags, m.Dags...)
		}
	}
	return dags
}

func runsAt(t *testing.T, h *enginetest.Harness, at time.Time) (n int) {
	t.Helper()
	for i := range 1000 {
		runs, _, err := h.Store.ListRuns(t.Context(), airflow.DagID(fmt.Sprintf("dag%03d", i)), store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		of := 0
		for _, r := range runs {
			if r.LogicalDate.Equal(at) {
				of++
			}
		}
		if n += of; of > 1 {
			t.Errorf("dag%03d has %d runs of %v", i, of, at)
		}
	}
	return n
}

// A tick plans a few due DAGs itself, without a message.
func TestFewDueArePlannedByTheTick(t *testing.T) {
	h, at := manyDue(t, 5, engine.Config{DueHere: 5})
	tick(t, t.Context(), h)
	if ms := dueOf(h.Outbox.Take(h.Clock.Now().Add(time.Hour))); len(ms) > 0 {
		t.Errorf("%d DAGs were handed on", len(ms))
	}
	if n := runsAt(t, h, at); n != 5 {
		t.Errorf("%d runs", n)
	}
	if st, _, err := h.Store.GetTickState(t.Context()); err != nil || st.FanOut.To != "" {
		t.Errorf("%+v %v", st, err)
	}
}

// A tick that runs out of time goes on in the next one, where it stopped, and at
// the rate at which it began.
func TestFanOutGoesOn(t *testing.T) {
	const n, page, rate = 110, 20, 10
	h, at := manyDue(t, n, engine.Config{DueHere: 10, DueBatch: page, DueRate: rate})
	seen := map[airflow.DagID]int{}
	var all []engine.Message
	begin := h.Clock.Now()
	for i := 0; len(seen) < n; i++ {
		if i > n/page {
			t.Fatalf("%d of %d DAGs were handed on in %d ticks", len(seen), n, i)
		}
		// As much as a tick keeps for what follows: it takes one page.
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second)
		tick(t, ctx, h)
		cancel()
		ms := h.Outbox.Take(h.Clock.Now().Add(time.Hour))
		for _, d := range dueOf(ms) {
			seen[d]++
		}
		if got := len(dueOf(ms)); got != min(page, n-i*page) {
			t.Fatalf("tick %d handed %d DAGs on", i, got)
		}
		all = append(all, ms...)
		h.Clock.Advance(time.Second)
	}
	for d, times := range seen {
		if times != 1 {
			t.Errorf("%s was handed on %d times", d, times)
		}
	}
	var last time.Time
	for _, m := range all {
		if m.At.After(last) {
			last = m.At
		}
	}
	if took := last.Sub(begin); took < n/rate*time.Second-3*time.Second || took > n/rate*time.Second {
		t.Errorf("%d DAGs at %d a second: the last one is planned after %v", n, rate, took)
	}
	tick(t, t.Context(), h)
	if again := dueOf(h.Outbox.Take(h.Clock.Now().Add(time.Hour))); len(again) > 0 {
		t.Errorf("%d DAGs that are on their way were handed on again", len(again))
	}
	h.Clock.Set(last)
	deliver(t, h, all)
	deliver(t, h, all) // doubled messages do nothing
	deliver(t, h, h.Outbox.Take(h.Clock.Now()))
	if got := runsAt(t, h, at); got != n {
		t.Errorf("%d of %d runs", got, n)
	}
}

// What was handed on and got lost is handed on again: half a minute after its time,
// while others are still on their way.
func TestLostFanOutIsFoundAgain(t *testing.T) {
	const n = 300
	h, at := manyDue(t, n, engine.Config{DueHere: 5, DueBatch: 50, DueRate: 1})
	tick(t, t.Context(), h)
	ms := h.Outbox.Take(h.Clock.Now().Add(time.Hour))
	lost, rest := ms[:3], ms[3:]
	if got := len(dueOf(ms)); got != n {
		t.Fatalf("%d of %d DAGs were handed on", got, n)
	}
	h.Clock.Advance(55 * time.Second)
	tick(t, t.Context(), h)
	if again := dueOf(h.Outbox.Take(h.Clock.Now().Add(time.Hour))); len(again) > 0 {
		t.Fatalf("%d DAGs were handed on again after 55 s", len(again))
	}
	for i := 0; i < 5; i++ { // others arrive when it is their time
		h.Clock.Advance(30 * time.Second)
		var due []engine.Message
		for len(rest) > 0 && !rest[0].At.After(h.Clock.Now()) {
			due, rest = append(due, rest[0]), rest[1:]
		}
		deliver(t, h, due)
	}
	tick(t, t.Context(), h)
	again := h.Outbox.Take(h.Clock.Now().Add(time.Hour))
	got := map[airflow.DagID]bool{}
	for _, d := range dueOf(again) {
		got[d] = true
	}
	for _, d := range dueOf(lost) {
		if !got[d] {
			t.Errorf("%s was lost", d)
		}
	}
	if len(got) > len(dueOf(lost)) {
		t.Errorf("%d DAGs were handed on again, %d were lost", len(got), len(dueOf(lost)))
	}
	h.Clock.Advance(5 * time.Minute)
	deliver(t, h, append(rest, again...))
	if got := runsAt(t, h, at); got != n {
		t.Errorf("%d of %d runs", got, n)
	}
}

// A DAG that can never be planned leads to a bounded number of messages, and does
// not stop the others.
func TestBrokenDagAmongTheDue(t *testing.T) {
	h, at := manyDue(t, 20, engine.Config{DueHere: 5, DueBatch: 50, DueRate: 1000})
	m, err := h.Store.GetDag(t.Context(), "dag007")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Store.DeleteDocument(t.Context(), m.LatestHash); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.Driver().Write(t.Context(), kv.Update(store.DagItem("dag009"), kv.Exists(), kv.Assign("d", kv.Bytes([]byte("{"))))); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		h.Engine = h.NewEngine(false)
		_ = h.Engine.TickServerless(t.Context()) // says that it could not plan dag007
		for range 3 {
			ms := h.Outbox.Take(h.Clock.Now())
			if len(ms) > 6 {
				t.Fatalf("%d messages at once: %+v", len(ms), ms)
			}
			deliver(t, h, ms)
			h.Clock.Advance(20 * time.Second)
		}
	}
	if got := runsAt(t, h, at); got != 18 {
		t.Errorf("%d runs, expected those of the 18 DAGs that can be read", got)
	}
}

// What cannot be read is reported and left alone; the tick, the DAG's other runs and
// other DAGs go on.
func TestUnreadableItemsStopNothingElseShared(t *testing.T) {
	ctx := t.Context()
	h := enginetest.NewShared(memkv.New(memkv.Options{}), engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, nil)
	d := enginetest.Chain("d", 1)
	d.Fields = map[string]any{"max_active_runs": 2}
	register(t, h, d)
	bad := trigger(t, h, "d", "bad")
	h.Queue.Take() // the worker of its task does not get to claim it
	now := h.Clock.Now()
	put := func(it kv.Item) {
		t.Helper()
		it.Attrs["f"], it.Attrs["d"] = kv.Int(1), kv.Bytes([]byte(`{"dag_id": 7`))
		if err := h.Store.Driver().Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	it, err := h.Store.Driver().Get(ctx, store.RunItem(bad), true)
	if err != nil {
		t.Fatal(err)
	}
	whole := it.Clone()
	put(it)
	put(kv.Item{Key: kv.Key{PK: "WATCH#d", SK: "x#y"}, Attrs: map[string]kv.Value{}})
	put(kv.Item{Key: kv.Key{PK: "DUE#" + now.UTC().Format("2006-01-02T15:04") + "#0", SK: "d#bad"}, Attrs: map[string]kv.Value{}})
	for range 2 {
		h.Clock.Advance(time.Minute + time.Second)
		tick(t, ctx, h)
	}
	good := trigger(t, h, "d", "good")
	for range 3 {
		runAll(t, h, enginetest.Succeed)
		h.Clock.Advance(time.Minute + time.Second)
		tick(t, ctx, h)
	}
	if r, err := h.Store.GetRun(ctx, good); err != nil || r.State != airflow.RunSuccess {
		t.Errorf("the other run is %s: %v", r.State, err)
	}
	evs, _, err := h.Store.ListAudit(ctx, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[airflow.RunID]bool{}
	for _, ev := range evs {
		if ev.Event == "unreadable_item" {
			told[ev.RunID] = true
		}
	}
	if !told["bad"] {
		t.Errorf("not reported: %v", told)
	}
	if err := h.Store.Driver().Write(ctx, kv.Put(whole, kv.Cond{})); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		h.Clock.Advance(time.Minute + time.Second)
		tick(t, ctx, h)
		runAll(t, h, enginetest.Succeed)
	}
	if r, err := h.Store.GetRun(ctx, bad); err != nil || r.State != airflow.RunSuccess {
		t.Errorf("mended, its run is %s: %v", r.State, err)
	}
}

// Unfinished runs beyond what a tick hands on wait for the next one, which goes on
// where it stopped; a run that has just changed is left alone.
func TestSweepOfManyRuns(t *testing.T) {
	const n, most = 5200, 5000
	ctx := t.Context()
	h := enginetest.NewShared(memkv.New(memkv.Options{}), engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, nil)
	now := h.Clock.Now()
	for i := range n {
		info := airflow.DagRun{DagID: "d", RunID: airflow.RunID(fmt.Sprintf("r%04d", i)), State: airflow.RunRunning, QueuedAt: &now, RunAfter: now}
		if err := h.Store.CreateRun(ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	swept := func() (runs []airflow.RunID) {
		tick(t, ctx, h)
		seen := map[airflow.RunID]bool{}
		for _, m := range h.Outbox.Take(h.Clock.Now().Add(time.Hour)) {
			if m.Kind != engine.MessageSweep || m.At.Sub(h.Clock.Now()) > 50*time.Second || seen[m.RunID] {
				t.Fatalf("%+v", m)
			}
			seen[m.RunID] = true
			runs = append(runs, m.RunID)
		}
		h.Clock.Advance(time.Minute)
		return runs
	}
	if runs := swept(); len(runs) > 0 {
		t.Errorf("%d young runs were looked at", len(runs))
	}
	// The first tick has read the first 5,000, young as they were.
	for i, want := range []struct {
		n     int
		first airflow.RunID
	}{{n - most, "r5000"}, {most, "r0000"}, {n - most, "r5000"}} {
		if runs := swept(); len(runs) != want.n || runs[0] != want.first {
			t.Errorf("tick %d looks at %d runs from %s, want %d from %s", i, len(runs), runs[0], want.n, want.first)
		}
	}
}
