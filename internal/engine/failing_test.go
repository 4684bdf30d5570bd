package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// hooked returns a harness whose store calls before ahead of every write.
func hooked(t *testing.T, cfg engine.Config, before func(faultkv.Call)) (*enginetest.Harness, kv.Driver) {
	d := memkv.New(memkv.Options{})
	h := enginetest.New(faultkv.New(d, faultkv.Options{Before: before}), cfg, nil)
	t.Cleanup(func() { h.Engine.Close(); _ = d.Close() })
	return h, d
}

func explained(t *testing.T, h *enginetest.Harness, k store.RunKey, code scheduler.Code) bool {
	t.Helper()
	rs, err := h.Engine.Explain(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if r.Code == code {
			return true
		}
	}
	return false
}

// A bug that panics in the step of one run stops neither the server nor other
// runs, is seen in explain, is not tried without pause, and loses nothing.
func TestPanicInOneRun(t *testing.T) {
	broken, panics := true, 0
	h, _ := hooked(t, engine.Config{}, func(c faultkv.Call) {
		if broken && strings.HasSuffix(c.Key.SK, "META") && strings.HasSuffix(c.Key.PK, "#bad") && (c.Method == "write" || c.Method == "transact") {
			panics++
			panic("a bug")
		}
	})
	register(t, h, enginetest.Chain("d", 2))
	bad := trigger(t, h, "d", "bad")
	h.Clock.Advance(time.Minute)
	good := trigger(t, h, "d", "good")
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, good, airflow.RunSuccess, nil)
	if panics == 0 || panics > 3 {
		t.Fatalf("the step panicked %d times without time passing", panics)
	}
	if !explained(t, h, bad, scheduler.CodeFailing) {
		t.Error("explain does not say that the run's steps fail")
	}
	before := panics
	for range 600 { // ten minutes
		h.Clock.Advance(time.Second)
		if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		h.Engine.Drain(t.Context())
	}
	if n := panics - before; n < 5 || n > 20 {
		t.Errorf("a failing run was stepped %d times in ten minutes", n)
	}
	broken = false
	h.Clock.Advance(2 * time.Minute)
	if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, bad, airflow.RunSuccess, nil)
	if explained(t, h, bad, scheduler.CodeFailing) {
		t.Error("explain still says that the run's steps fail")
	}
}

func TestCorruptStateIsExplainedAndHurtsNobodyElse(t *testing.T) {
	h, d := hooked(t, engine.Config{}, nil)
	register(t, h, enginetest.Chain("d", 2))
	bad, good := trigger(t, h, "d", "bad"), store.RunKey{}
	h.Clock.Advance(time.Minute)
	good = trigger(t, h, "d", "good")
	key := kv.Key{PK: "RUN#d#bad", SK: "META"}
	it, err := d.Get(t.Context(), key, true)
	if err != nil {
		t.Fatal(err)
	}
	whole := it.Clone()
	it.Attrs["d"] = kv.Bytes([]byte{3, 1, 2})
	if err := d.Write(t.Context(), kv.Put(it, kv.Cond{})); err != nil {
		t.Fatal(err)
	}
	h.Restart()
	if err := h.Engine.Recover(t.Context(), engine.RecoverOptions{Lost: func(store.Attempt) bool { return true }}); err != nil {
		t.Fatal(err)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, good, airflow.RunSuccess, nil)
	if !explained(t, h, bad, scheduler.CodeFailing) {
		t.Error("explain does not say that the state cannot be read")
	}
	if err := d.Write(t.Context(), kv.Put(whole, kv.Cond{})); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h.Clock.Advance(time.Minute + time.Second)
		if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		h.Engine.Drain(t.Context())
		if err := h.Engine.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		runAll(t, h, enginetest.Succeed)
	}
	wantStates(t, h, bad, airflow.RunSuccess, nil)
	if explained(t, h, bad, scheduler.CodeFailing) {
		t.Error("explain still says that the run's steps fail")
	}
}

// An action that is refused neither blocks its caller when the step is tried
// again nor leaves half of what it did.
func TestRefusedActionChangesNothing(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("d", 2))
		k := trigger(t, h, "d", "r")
		wrong := errors.New("refused")
		for range 3 {
			err := h.Engine.ActForTest(t.Context(), k, func(_ *scheduler.Graph, rs *scheduler.RunState, _ time.Time) (scheduler.ActionResult, error) {
				rs.Header.State, rs.HeaderDirty = airflow.RunFailed, true
				return scheduler.ActionResult{}, wrong
			})
			if !errors.Is(err, wrong) {
				t.Fatalf("the action's error is %v", err)
			}
		}
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

// An action whose step could not be stored is reported to its caller and not
// carried out behind its back later.
func TestFailedActionIsNotRepeated(t *testing.T) {
	down := false
	d := memkv.New(memkv.Options{})
	h := enginetest.New(&brokenDriver{Driver: d, down: &down}, engine.Config{}, nil)
	t.Cleanup(h.Engine.Close)
	register(t, h, enginetest.Chain("d", 2))
	k := trigger(t, h, "d", "r")
	runAll(t, h, enginetest.Succeed)
	down = true
	if _, err := h.Engine.Clear(t.Context(), k, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{ResetDagRun: true}}); !errors.Is(err, airflow.ErrUnavailable) {
		t.Fatalf("clear without a store: %v", err)
	}
	down = false
	h.Clock.Advance(5 * time.Second)
	if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if ds := runAll(t, h, enginetest.Succeed); len(ds) > 0 {
		t.Errorf("the clear that failed was carried out later: %v", names(ds))
	}
}

// brokenDriver refuses writes while down.
type brokenDriver struct {
	kv.Driver
	down *bool
}

func (b *brokenDriver) Write(ctx context.Context, op kv.Op) error {
	if *b.down {
		return fmt.Errorf("%w: for the test", kv.ErrUnavailable)
	}
	return b.Driver.Write(ctx, op)
}

func (b *brokenDriver) Transact(ctx context.Context, token string, ops []kv.Op) error {
	if *b.down {
		return fmt.Errorf("%w: for the test", kv.ErrUnavailable)
	}
	return b.Driver.Transact(ctx, token, ops)
}

// META says queued of what runs: a state that was read again must not be decided
// on before the rows are.
func TestRunningTaskSurvivesItsStateBeingReadAgain(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		register(t, h, enginetest.Chain("d", 1))
		k := trigger(t, h, "d", "r")
		d := h.Queue.Take()[0]
		tc, err := h.Backend.Claim(t.Context(), d, h.Who)
		if err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(7 * time.Minute)
		h.Engine.DagChanged("d") // a step that reads the rows and commits nothing
		h.Engine.Drain(t.Context())
		h.Clock.Advance(4 * time.Minute)
		h.Engine.Unload(k)
		h.Engine.Drain(t.Context())
		if len(h.Queue.Cancelled) > 0 {
			t.Fatalf("a running task was stopped as stuck in queued: %v", h.Queue.Cancelled)
		}
		if err := h.Finish(t.Context(), d, tc, enginetest.Success(nil)); err != nil {
			t.Fatal(err)
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

// TestUnreadableItemsStopNothingElse: a run's header, a backfill and a pending
// callback that cannot be read are reported once and left alone; the server
// starts, other runs go on, and once the header is mended so does its run. A
// store that does not answer still keeps the server from starting.
func TestUnreadableItemsStopNothingElse(t *testing.T) {
	h, d := hooked(t, engine.Config{}, nil)
	ctx := t.Context()
	register(t, h, enginetest.Chain("d", 2))
	register(t, h, enginetest.Chain("e", 1))
	bad, _ := trigger(t, h, "d", "bad"), trigger(t, h, "e", "other")
	h.Clock.Advance(time.Minute)
	good := trigger(t, h, "d", "good")
	key := kv.Key{PK: "RUN#d#bad", SK: "INFO"}
	it, err := d.Get(ctx, key, true)
	if err != nil {
		t.Fatal(err)
	}
	put := func(it kv.Item) {
		t.Helper()
		if err := d.Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	whole := it.Clone()
	it.Attrs["d"] = kv.Bytes([]byte(`{"dag_id": 7`))
	put(it)
	for _, pk := range []string{"EFFECT", "ASSETQUEUE"} {
		put(kv.Item{Key: kv.Key{PK: pk + "#x", SK: "META"}, Attrs: map[string]kv.Value{"f": kv.Int(1), "d": kv.Bytes([]byte("?"))},
			Index: map[kv.IndexName]kv.Key{kv.GSI1: {PK: "ALL#" + pk, SK: "x"}}})
	}
	rec := &recorder{seen: map[string]int{}}
	h.Callbacks = rec
	h.Restart()
	if err := h.Engine.Recover(ctx, engine.RecoverOptions{Lost: func(store.Attempt) bool { return true }}); err != nil {
		t.Fatalf("one unreadable item keeps the server from starting: %v", err)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, good, airflow.RunSuccess, nil)
	if err := h.Engine.Discover(ctx); err != nil {
		t.Fatal(err)
	}
	evs, _, err := h.Store.ListAudit(ctx, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, ev := range evs {
		if ev.Event == "unreadable_item" {
			told[string(ev.DagID)+"/"+string(ev.RunID)]++
		}
	}
	if told["d/bad"] != 1 || told["/"] != 2 {
		t.Errorf("reported: %v, want the run once and two other items", told)
	}
	put(whole)
	for _, pk := range []string{"EFFECT", "ASSETQUEUE"} {
		if err := d.Write(ctx, kv.Delete(kv.Key{PK: pk + "#x", SK: "META"}, kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Engine.Discover(ctx); err != nil {
		t.Fatal(err)
	}
	h.Clock.Advance(2 * time.Minute) // its dispatch went with the first server
	if err := h.Engine.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, bad, airflow.RunSuccess, nil)

	closed := faultkv.New(d, faultkv.Options{Read: faultkv.Odds{FailBefore: 1}})
	h.Store = store.New(closed, nil)
	h.Restart()
	if err := h.Engine.Recover(ctx, engine.RecoverOptions{}); !errors.Is(err, airflow.ErrUnavailable) {
		t.Errorf("a store that does not answer: %v", err)
	}
}
