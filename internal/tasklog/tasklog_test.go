package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

func key(run string, index int) airflow.TaskInstanceKey {
	return airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(run), TaskID: "g.t", MapIndex: index}
}

func TestPath(t *testing.T) {
	l := New("/logs", Options{})
	for want, k := range map[string]airflow.TaskInstanceKey{
		"/logs/dag_id=d/run_id=manual__2024-01-01T00:00:00+00:00/task_id=g.t/attempt=2.log": key("manual__2024-01-01T00:00:00+00:00", -1),
		"/logs/dag_id=d/run_id=r/task_id=g.t/map_index=0/attempt=2.log":                     key("r", 0),
		"/logs/dag_id=d/run_id=..%2F..%2Fetc%25/task_id=g.t/attempt=2.log":                  key("../../etc%", -1),
		"/logs/dag_id=d/run_id=../task_id=g.t/attempt=2.log":                                key("..", -1),
	} {
		if got := l.Path(k, 2); got != want {
			t.Errorf("Path(%v)\n got %s\nwant %s", k, got, want)
		}
	}
	// The longest ids still have a file name of their own.
	a, b := key(strings.Repeat("é", 250), -1), key(strings.Repeat("é", 249)+"x", -1)
	root := t.TempDir()
	l = New(root, Options{})
	if l.Path(a, 1) == l.Path(b, 1) {
		t.Error("two long run ids share a file")
	}
	w, err := l.Create(a, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzPathStaysInside(f *testing.F) {
	f.Add("../..", "/etc", "a\x00b")
	f.Fuzz(func(t *testing.T, dag, run, task string) {
		p := New("/logs", Options{}).Path(airflow.TaskInstanceKey{DagID: airflow.DagID(dag), RunID: airflow.RunID(run), TaskID: airflow.TaskID(task), MapIndex: 3}, 1)
		rel, err := filepath.Rel("/logs", p)
		if err != nil || strings.HasPrefix(rel, "..") || strings.Count(rel, "/") != 4 || strings.ContainsRune(p, 0) {
			t.Fatalf("%q %q %q → %q", dag, run, task, p)
		}
		for _, c := range strings.Split(rel, "/") {
			if len(c) > maxComponent {
				t.Fatalf("name of %d bytes", len(c))
			}
		}
	})
}

func events(t *testing.T, l *Logs, k airflow.TaskInstanceKey) []string {
	t.Helper()
	var out []string
	if _, err := l.Read(k, 1, 0, func(e Entry) error { out = append(out, e.Event); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWriteReadAppend(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 123456789, time.UTC)
	l := New(t.TempDir(), Options{Now: func() time.Time { return now }})
	k := key("r", -1)
	if _, err := l.Read(k, 1, 0, nil); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("no log: %v", err)
	}
	w, err := l.Create(k, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Log("info", "task.stdout", "say \"hi\"\nünïcode"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(l.Path(k, 1))
	want := `{"timestamp":"2024-05-01T12:00:00.123456Z","level":"info","event":"say \"hi\"\nünïcode","logger":"task.stdout"}` + "\n"
	if string(got) != want {
		t.Fatalf("file:\n%s\nwant\n%s", got, want)
	}
	// Half a line of a killed process does not spoil the next one.
	f, _ := os.OpenFile(l.Path(k, 1), os.O_APPEND|os.O_WRONLY, 0)
	fmt.Fprint(f, `{"timest`)
	f.Close()
	if err := l.Append(k, 1, "error", "gust", "the worker was lost"); err != nil {
		t.Fatal(err)
	}
	if got := events(t, l, k); len(got) != 3 || got[1] != `{"timest` || got[2] != "the worker was lost" {
		t.Errorf("events = %q", got)
	}
	if tries, err := l.Tries(k); err != nil || len(tries) != 1 || tries[0] != 1 {
		t.Errorf("Tries = %v, %v", tries, err)
	}
	if _, err := w.Write([]byte("x\n")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if w.Close() != nil {
		t.Error("closing twice is an error")
	}
}

func TestReadOn(t *testing.T) {
	l := New(t.TempDir(), Options{})
	k := key("r", 7)
	w, _ := l.Create(k, 1)
	w.Log("info", "x", "one")
	w.Flush()
	count := 0
	off, err := l.Read(k, 1, 0, func(Entry) error { count++; return nil })
	if err != nil || count != 1 {
		t.Fatal(err, count)
	}
	w.Log("info", "x", "two")
	w.Close()
	var last string
	if _, err := l.Read(k, 1, off, func(e Entry) error { count++; last = e.Event; return nil }); err != nil || count != 2 || last != "two" {
		t.Fatalf("read on: %v %d %q", err, count, last)
	}
}

func TestTruncation(t *testing.T) {
	l := New(t.TempDir(), Options{MaxBytes: 10_000})
	k := key("r", -1)
	w, _ := l.Create(k, 1)
	const n = 20_000
	for i := range n {
		if err := w.Log("info", "x", fmt.Sprintf("line %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	w.Log("error", "x", "Task was killed: out of memory")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	st, _ := os.Stat(l.Path(k, 1))
	if st.Size() > 10_000+2*tailBytes+1000 {
		t.Errorf("size = %d", st.Size())
	}
	got := events(t, l, k)
	if got[0] != "line 0" || got[len(got)-1] != "Task was killed: out of memory" {
		t.Errorf("first %q, last %q", got[0], got[len(got)-1])
	}
	kept, skipped := 0, 0
	for _, e := range got {
		if strings.HasPrefix(e, "line ") {
			kept++
		}
		fmt.Sscanf(e, "Log truncated: %d lines", &skipped)
	}
	if skipped == 0 || kept+skipped != n {
		t.Errorf("%d kept + %d skipped, want %d together", kept, skipped, n)
	}
}

func TestFollow(t *testing.T) {
	l := New(t.TempDir(), Options{FlushInterval: time.Millisecond, PollInterval: time.Millisecond})
	k := key("r", -1)
	var done atomic.Bool
	seen := make(chan string, 10)
	result := make(chan error, 1)
	go func() {
		result <- l.Follow(t.Context(), k, 1, func(context.Context) (bool, error) { return done.Load(), nil }, func(e Entry) error { seen <- e.Event; return nil })
	}()
	w, _ := l.Create(k, 1)
	for i := range 3 {
		text := fmt.Sprint("line ", i)
		w.Log("info", "x", text)
		if got := <-seen; got != text { // before Close: it is live
			t.Fatalf("got %q, want %q", got, text)
		}
	}
	w.Log("info", "x", "last")
	w.Close()
	done.Store(true)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "last" {
		t.Fatalf("got %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Follow(ctx, key("other", -1), 1, func(context.Context) (bool, error) { return false, nil }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestParseLine(t *testing.T) {
	e := ParseLine([]byte(`{"timestamp":"2024","level":"info","event":"x","logger":"l","exc":{"a":1},"n":2}`))
	if got := e.Text(); got != `[2024] INFO - x [l] exc={"a":1} n=2` {
		t.Errorf("Text = %q", got)
	}
	b, err := json.Marshal(e)
	if err != nil || string(b) != `{"event":"x","exc":{"a":1},"level":"info","logger":"l","n":2,"timestamp":"2024"}` {
		t.Errorf("JSON = %s, %v", b, err)
	}
	if e := ParseLine([]byte(`{"event":3}`)); e.Event != "" || string(e.Extra["event"]) != "3" {
		t.Errorf("an event that is no text: %+v", e)
	}
}

func TestLongLines(t *testing.T) {
	l := New(t.TempDir(), Options{})
	k := key("r", -1)
	w, _ := l.Create(k, 1)
	long := strings.Repeat("x", 300_000)
	w.Log("info", "x", long)
	w.Log("info", "x", "after")
	w.Close()
	if got := events(t, l, k); len(got) != 2 || got[0] != long || got[1] != "after" {
		t.Errorf("%d events", len(got))
	}
}

func TestDelete(t *testing.T) {
	root := t.TempDir()
	l := New(root, Options{})
	cutoff := time.Now().Add(-time.Hour)
	write := func(dag, run string, old bool) {
		k := airflow.TaskInstanceKey{DagID: airflow.DagID(dag), RunID: airflow.RunID(run), TaskID: "t", MapIndex: -1}
		if err := l.Append(k, 1, "info", "x", "y"); err != nil {
			t.Fatal(err)
		}
		if old {
			if err := os.Chtimes(l.Path(k, 1), cutoff.Add(-time.Second), cutoff.Add(-time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("a", "old", true)
	write("a", "new", false)
	write("b", "old", true)
	write("c", "old", true)
	foreign := filepath.Join(root, "dag_id=a", "notes.txt")
	os.WriteFile(foreign, nil, 0o600)
	os.Chtimes(foreign, time.Unix(0, 0), time.Unix(0, 0))

	if r, err := l.DeleteBefore(t.Context(), cutoff, Filter{KeepRuns: map[airflow.DagID][]airflow.RunID{"c": {"other"}}}, true); err != nil || r.Files != 3 || r.Bytes == 0 {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	if r, err := l.DeleteBefore(t.Context(), cutoff, Filter{KeepDags: []airflow.DagID{"b"}}, false); err != nil || r.Files != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for path, want := range map[string]bool{"dag_id=a/run_id=old": false, "dag_id=a/run_id=new": true, "dag_id=b": true, "dag_id=c": false, "dag_id=a/notes.txt": true} {
		if _, err := os.Stat(filepath.Join(root, path)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
	if r, err := l.DeleteRun(t.Context(), "a", "new", false); err != nil || r.Files != 1 {
		t.Errorf("DeleteRun: %+v, %v", r, err)
	}
	if r, err := l.DeleteDag(t.Context(), "b", false); err != nil || r.Files != 1 {
		t.Errorf("DeleteDag: %+v, %v", r, err)
	}
	if r, err := l.DeleteDag(t.Context(), "none", false); err != nil || r.Files != 0 {
		t.Errorf("DeleteDag of nothing: %+v, %v", r, err)
	}
}

func BenchmarkTask(b *testing.B) {
	l := New(b.TempDir(), Options{})
	for i := 0; b.Loop(); i++ {
		w, err := l.Create(key("r", i), 1)
		if err != nil {
			b.Fatal(err)
		}
		w.Log("info", "task", "one line of output")
		w.Log("info", "task", "Task instance in success state")
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
