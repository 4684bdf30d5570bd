package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
)

// TestKnownRuns: who knows a run updates it with one write, and reads it only if
// somebody else has changed it.
func TestKnownRuns(t *testing.T) {
	meter := meterkv.New(memkv.New(memkv.Options{}))
	s, ctx := store.New(meter, nil), t.Context()
	k := store.RunKey{DagID: "d", RunID: "r"}
	info := airflow.DagRun{DagID: "d", RunID: "r", State: airflow.RunQueued, RunAfter: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := s.CreateRun(ctx, info); err != nil {
		t.Fatal(err)
	}
	to := func(state airflow.DagRunState) func(*airflow.DagRun) error {
		return func(r *airflow.DagRun) error { r.State = state; return nil }
	}
	reads := func(f func()) float64 {
		before := meter.Total().ReadUnits
		f()
		return meter.Total().ReadUnits - before
	}
	made := store.CreatedRun(info)
	if n := reads(func() {
		if got, err := s.UpdateRunFrom(ctx, k, made, to(airflow.RunRunning)); err != nil || got.State != airflow.RunRunning {
			t.Fatal(got, err)
		}
	}); n != 0 {
		t.Errorf("an update of what was just made took %v read units", n)
	}
	if made.Value.State != airflow.RunQueued {
		t.Error("what was known has been changed")
	}
	seen := airflow.DagRunState("")
	if _, err := s.UpdateRunFrom(ctx, k, made, func(r *airflow.DagRun) error { seen = r.State; return to(airflow.RunSuccess)(r) }); err != nil || seen != airflow.RunRunning {
		t.Errorf("an update from what is out of date began with state %q: %v", seen, err)
	}
	have, err := s.ReadRun(ctx, k)
	if err != nil || have.Value.State != airflow.RunSuccess {
		t.Fatal(have.Value, err)
	}
	if n := reads(func() {
		if _, err := s.UpdateRunFrom(ctx, k, have, to(airflow.RunFailed)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("an update of what was just read took %v read units", n)
	}
	if _, err := s.ReadRun(ctx, store.RunKey{DagID: "d", RunID: "none"}); !errors.Is(err, airflow.ErrNotFound) {
		t.Error(err)
	}
}

// TestPrefetchEventually: reads may take what is out of date, each once, unless
// they ask for the store.
func TestPrefetchEventually(t *testing.T) {
	s, ctx := store.New(memkv.New(memkv.Options{ReadLag: 1}), nil), t.Context()
	k := store.RunKey{DagID: "d", RunID: "r"}
	if err := s.CreateRun(ctx, airflow.DagRun{DagID: "d", RunID: "r", State: airflow.RunQueued}); err != nil {
		t.Fatal(err)
	}
	for _, state := range []airflow.DagRunState{airflow.RunRunning, airflow.RunSuccess} {
		if _, err := s.UpdateRun(ctx, k, func(r *airflow.DagRun) error { r.State = state; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	read, err := s.Prefetch(ctx, store.Prefetch{Runs: []store.RunKey{k}, Eventually: true})
	if err != nil || !store.Eventually(read) || store.Eventually(ctx) || store.Eventually(store.Current(read)) {
		t.Fatal(err)
	}
	for _, want := range []airflow.DagRunState{airflow.RunSuccess, airflow.RunRunning, airflow.RunSuccess} {
		from := read
		if want == airflow.RunSuccess {
			from = store.Current(read)
		}
		if r, err := s.GetRun(from, k); err != nil || r.State != want {
			t.Errorf("state %s, %v, want %s", r.State, err, want)
		}
	}
	if r, err := s.GetRun(read, k); err != nil || r.State != airflow.RunSuccess {
		t.Errorf("read again: state %s, %v", r.State, err)
	}
	if sure, err := s.Prefetch(ctx, store.Prefetch{Runs: []store.RunKey{k}}); err != nil || store.Current(sure) != sure {
		t.Error("what is read as it is needs no other context", err)
	}
}

// TestDocumentIsFound: at once, also by reads that are behind.
func TestDocumentIsFound(t *testing.T) {
	s := store.New(memkv.New(memkv.Options{ReadLag: 5}), nil)
	if err := s.PutDocument(t.Context(), "h", []byte(`{"dag":1}`)); err != nil {
		t.Fatal(err)
	}
	if doc, err := s.GetDocument(t.Context(), "h"); err != nil || string(doc) != `{"dag":1}` {
		t.Fatalf("%s, %v", doc, err)
	}
}
