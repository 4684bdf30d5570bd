package objlog

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/memblob"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

func TestLogs(t *testing.T) {
	objects := &memblob.Objects{}
	here := New(objects, t.TempDir(), Options{Interval: 5 * time.Millisecond})
	elsewhere := New(objects, t.TempDir(), Options{})
	k := airflow.TaskInstanceKey{DagID: "d", RunID: "manual__2026-03-01T00:00:00+00:00", TaskID: "g.t", MapIndex: 2}
	read := func(from string) (out []string, next string) {
		t.Helper()
		next, err := elsewhere.ReadTry(t.Context(), tasklog.Try{Key: k, Number: 1}, from, func(e tasklog.Entry) error { out = append(out, e.Event); return nil })
		if err != nil && !errors.Is(err, airflow.ErrNotFound) {
			t.Fatal(err)
		}
		return out, next
	}
	if got, _ := read(""); got != nil {
		t.Errorf("no log: %q", got)
	}
	say := func(l *Logs, texts ...string) (end func()) {
		t.Helper()
		w, err := l.Create(t.Context(), k, 1)
		if err != nil {
			t.Fatal(err)
		}
		log := taskrunner.NewJSONLog(w)
		for _, s := range texts {
			if err := log.WriteRecord(taskrunner.Record{Time: time.Now(), Level: "info", Event: s}); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	end := say(here, "one", "two")
	// A running task's log is stored from time to time.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if got, _ := read(""); slices.Equal(got, []string{"one", "two"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the log of a running task is never stored")
		}
	}
	end()
	_, next := read("")
	say(elsewhere, "three")() // the try goes on on another machine
	if got, _ := read(next); !slices.Equal(got, []string{"three"}) {
		t.Errorf("read on: %q", got)
	}
	if got, _ := read(""); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("all: %q", got)
	}
	n := 0
	if err := objects.List(t.Context(), "dag_id=d/", func(blob.ObjectInfo) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("%d objects", n)
	}
	if _, err := here.ReadTry(t.Context(), tasklog.Try{Key: k, Number: 1}, "x", nil); err == nil {
		t.Error("a place that is none is accepted")
	}
}
