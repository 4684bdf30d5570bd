package localapp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

func TestRecordsAreKeptReadAndRemoved(t *testing.T) {
	h, err := OpenHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder(h.path("records"), nil)
	long := store.RunKey{DagID: "d", RunID: airflow.RunID(strings.Repeat("x", airflow.MaxIDLength))}
	other := store.RunKey{DagID: "d", RunID: airflow.RunID(strings.Repeat("x", airflow.MaxIDLength-1) + "y")}
	const n = 1000
	for i := range n {
		r.put(engine.Record{Run: long, Seq: i})
	}
	r.put(engine.Record{Run: other})
	r.close()
	next := 0
	if err := h.ReadRecords(long, func(rec engine.Record) error {
		if rec.Seq != next || rec.Run != long {
			t.Fatalf("record %d: %+v", next, rec)
		}
		next++
		return nil
	}); err != nil || next != n {
		t.Fatalf("%d records: %v", next, err)
	}
	// A line cut off by a crash is left out.
	path := recordPath(h.path("records"), other)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"run":`); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	again := newRecorder(h.path("records"), nil)
	again.put(engine.Record{Run: other, Seq: 1})
	again.close()
	again.put(engine.Record{Run: other, Seq: 2}) // dropped
	count := 0
	if err := h.ReadRecords(other, func(engine.Record) error { count++; return nil }); err != nil || count != 2 {
		t.Errorf("%d records before and after the cut: %v", count, err)
	}
	old := time.Now().Add(-recordAge - time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := cleanRecords(h.path("records"), time.Now().Add(-recordAge)); err != nil {
		t.Fatal(err)
	}
	if err := h.ReadRecords(other, nil); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("old records after cleaning: %v", err)
	}
	if err := h.DeleteRecords(long); err != nil {
		t.Error(err)
	}
	if err := h.DeleteRecords(long); err != nil {
		t.Errorf("deleting absent records: %v", err)
	}
	if err := cleanRecords(h.path("records"), time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("the empty folder is left: %v", err)
	}
}

// TestCallbackLogOfMappedTask: a callback's lines belong to the try of its own instance.
func TestCallbackLogOfMappedTask(t *testing.T) {
	a, err := Open(t.Context(), Options{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	tc := &worker.TaskContext{Run: airflow.DagRun{DagID: "d", RunID: "r"}, Task: &airflow.Task{TaskID: "m"}, TryNumber: 2}
	for _, i := range []int{airflow.Unmapped, 3} {
		w, err := a.openCallbackLog(tc, i, "on_failure_callback")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.WriteRecord(taskrunner.Record{Event: "x"}), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(a.TaskLogPath(airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "m", MapIndex: i}, 2)); err != nil {
			t.Error(err)
		}
	}
}
