package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

const token = "0123456789abcdef-token"

// site is a server over a backend in memory, and a client of it.
type site struct {
	b     *workertest.Backend
	x     *Executor
	c     *Client
	url   string
	blobs blob.Store
	doc   []byte

	mu   sync.Mutex
	logs map[string]string
}

const document = `{"__version":3,"dag":{"dag_id":"d","fileloc":"/d.py","relative_fileloc":"d.py","timezone":"UTC","timetable":{"__type":"airflow.timetables.simple.NullTimetable","__var":{}},"tasks":[{"__type":"operator","__var":{"task_id":"t","task_type":"BashOperator","_task_module":"airflow.providers.standard.operators.bash"}}]}}`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{b: workertest.NewBackend(), x: NewExecutor(""), logs: map[string]string{}, doc: []byte(document)}
	blobs, err := fileblob.Open(filepath.Join(t.TempDir(), "blobs"), fileblob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.blobs = blobs
	srv, err := NewServer(ServerOptions{
		Token: token, Executor: s.x, Backend: s.b, Blobs: blobs,
		Document: func(_ context.Context, hash string) ([]byte, error) {
			if hash != "h1" {
				return nil, fmt.Errorf("document %s: %w", hash, airflow.ErrNotFound)
			}
			return s.doc, nil
		},
		Latest: func(context.Context, airflow.DagID) (string, error) { return "h1", nil },
		AppendLog: func(k airflow.TaskInstanceKey, try int, lines []byte) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.logs[fmt.Sprint(k, "#", try)] += string(lines)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(srv)
	t.Cleanup(h.Close)
	s.url = h.URL
	if s.c, err = NewClient(h.URL, token); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) dispatch(t *testing.T, i int) worker.Dispatch {
	t.Helper()
	d := worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: i}, DispatchSeq: 1, Queue: "default"}
	dag, err := airflow.ParseDAG(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	tc := workertest.Context(dag, "t")
	tc.Run.DagHash, tc.NextKwargs, tc.UpstreamMapIndexes = "h1", json.RawMessage(`{"a":1}`), map[airflow.TaskID][]int{"u": {1, 2}}
	now := time.Now().UTC().Truncate(time.Microsecond)
	tc.FirstRescheduleStart, tc.StartDate, tc.RescheduleCount, tc.MaxTries, tc.ShouldRetry = &now, now, 2, 3, true
	s.b.Contexts[d] = tc
	return d
}

func TestClaimIsWhole(t *testing.T) {
	s := newSite(t)
	d := s.dispatch(t, -1)
	want := s.b.Contexts[d]
	got, err := s.c.Claim(t.Context(), d, worker.Identity{Hostname: "h", PID: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got.DAG.DagID != "d" || got.Task.TaskID != "t" {
		t.Errorf("DAG %v, task %v", got.DAG, got.Task)
	}
	got.DAG, got.Task = want.DAG, want.Task
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// Once: another worker may not.
	if _, err := s.c.Claim(t.Context(), d, worker.Identity{Hostname: "other"}); !errors.Is(err, airflow.ErrSuperseded) {
		t.Errorf("second claim: %v", err)
	}
}

// Every method of the port must be there on both sides, with its errors.
func TestBackend(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	who := worker.Identity{Hostname: "h", PID: 1}
	d := s.dispatch(t, -1)
	if _, err := s.c.Claim(ctx, d, who); err != nil {
		t.Fatal(err)
	}
	if err := s.c.Heartbeat(ctx, d, who); err != nil || s.b.Beats() != 1 {
		t.Errorf("heartbeat: %v", err)
	}
	s.b.Fail["Heartbeat"] = 1
	if err := s.c.Heartbeat(ctx, d, who); !errors.Is(err, airflow.ErrUnavailable) {
		t.Errorf("unavailable: %v", err)
	}
	if err := s.c.Check(ctx, d); err != nil {
		t.Errorf("check: %v", err)
	}
	if err := s.c.SetXCom(ctx, d, []worker.XComPush{{Key: "k", Value: json.RawMessage(`{"x":[1,null]}`)}}); err != nil {
		t.Errorf("set_xcom: %v", err)
	}
	q := worker.XComQuery{DagID: "d", RunID: "r", TaskID: "t", Key: "k", MapIndex: -1}
	if v, err := s.c.GetXCom(ctx, q); err != nil || string(v) != `{"x":[1,null]}` {
		t.Errorf("get_xcom: %s %v", v, err)
	}
	if v, err := s.c.ListXCom(ctx, q); err != nil || len(v) != 1 || v[0].MapIndex != -1 {
		t.Errorf("list_xcom: %v %v", v, err)
	}
	q.Key = "none"
	if _, err := s.c.GetXCom(ctx, q); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("no XCom: %v", err)
	}
	if err := s.c.SetVariable(ctx, d, airflow.Variable{Key: "v", Value: "1"}); err != nil {
		t.Error(err)
	}
	if v, err := s.c.GetVariable(ctx, "v"); err != nil || v.Value != "1" {
		t.Errorf("variable: %+v %v", v, err)
	}
	if err := s.c.DeleteVariable(ctx, d, "v"); err != nil {
		t.Error(err)
	}
	if _, err := s.c.GetVariable(ctx, "v"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("deleted variable: %v", err)
	}
	s.b.Connections["c"] = airflow.Connection{ConnID: "c", Password: "p", Extra: `{"a":1}`}
	if c, err := s.c.GetConnection(ctx, "c"); err != nil || c != s.b.Connections["c"] {
		t.Errorf("connection: %+v %v", c, err)
	}
	run, err := s.c.TriggerDagRun(ctx, d, worker.TriggerRequest{DagID: "x", RunID: "r1", RequestID: "q"})
	if err != nil || run.DagID != "x" || len(s.b.Triggered) != 1 {
		t.Errorf("trigger: %+v %v", run, err)
	}
	if err := s.c.ClearDagRun(ctx, d, "x", "r1"); err != nil || len(s.b.Cleared) != 1 {
		t.Errorf("clear: %v", err)
	}
	ld := workertest.LogicalDate
	s.b.Runs = []airflow.DagRun{{DagID: "d", RunID: "r0", LogicalDate: &ld, State: airflow.RunSuccess}}
	if r, err := s.c.GetDagRun(ctx, "d", "r0"); err != nil || r.RunID != "r0" || !r.LogicalDate.Equal(ld) {
		t.Errorf("get_dag_run: %+v %v", r, err)
	}
	if _, err := s.c.GetDagRun(ctx, "d", "none"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("no run: %v", err)
	}
	later := ld.Add(time.Hour)
	if r, err := s.c.PreviousDagRun(ctx, airflow.DagRun{DagID: "d", RunID: "r", LogicalDate: &later}, ""); err != nil || r.RunID != "r0" {
		t.Errorf("previous_dag_run: %+v %v", r, err)
	}
	if r, err := s.c.FindDagRuns(ctx, worker.RunQuery{DagID: "d"}); err != nil || len(r) != 1 {
		t.Errorf("find_dag_runs: %v %v", r, err)
	}
	s.b.States["d"] = map[airflow.RunID]map[string]airflow.TIState{"r0": {"t": airflow.TISuccess}}
	if st, err := s.c.TaskStates(ctx, worker.TaskStatesQuery{DagID: "d", TaskIDs: []airflow.TaskID{"t"}, RunIDs: []airflow.RunID{"r0"}}); err != nil || st["r0"]["t"] != airflow.TISuccess {
		t.Errorf("task_states: %v %v", st, err)
	}
	dag, err := s.c.GetDagVersion(ctx, "d")
	if err != nil || dag.DagID != "d" {
		t.Fatalf("get_dag_version: %v", err)
	}
	s.b.Dags["d"] = dag
	if m, err := s.c.GetDag(ctx, "d"); err != nil || m.DagID != "d" {
		t.Errorf("get_dag: %+v %v", m, err)
	}
	if _, _, ok, err := s.c.NextDataInterval(ctx, dag, airflow.DagRun{DagID: "d"}); ok || err != nil {
		t.Errorf("no next interval: %v %v", ok, err)
	}
	s.b.Next = &[2]time.Time{ld, later}
	if from, to, ok, err := s.c.NextDataInterval(ctx, dag, airflow.DagRun{DagID: "d"}); !ok || err != nil || !from.Equal(ld) || !to.Equal(later) {
		t.Errorf("next interval: %v %v %v %v", from, to, ok, err)
	}
	s.b.Supersede(d, "cleared by a test")
	var sup *worker.SupersededError
	if err := s.c.Heartbeat(ctx, d, who); !errors.As(err, &sup) || sup.Cause != "cleared by a test" {
		t.Errorf("superseded: %v", err)
	}
	if err := s.c.Yield(ctx, d, who); err != nil || len(s.b.Yielded) != 1 {
		t.Errorf("yield: %v", err)
	}
	d2 := s.dispatch(t, 5)
	if _, err := s.c.Claim(ctx, d2, who); err != nil {
		t.Fatal(err)
	}
	s.b.Fail["TooLarge"] = 1
	rep := &worker.Report{Outcome: worker.OutcomeSuccess, EndDate: ld, XComs: []worker.XComPush{{Key: "return_value", Value: json.RawMessage(`1`)}}}
	if err := s.c.Finish(ctx, d2, rep); !errors.Is(err, airflow.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := s.c.Finish(ctx, d2, rep); err != nil || len(s.b.Reports(d2)) != 1 {
		t.Errorf("finish: %v", err)
	}
	// What a method needs is asked for.
	for m := range methods {
		if err := s.c.rpc(ctx, m, call{Dispatch: d2}, nil); err != nil && strings.Contains(err.Error(), "broke off") {
			t.Errorf("%s without arguments: %v", m, err)
		}
	}
}

func TestBlobs(t *testing.T) {
	s := newSite(t)
	h := blob.Hash([]byte("content"))
	if err := s.blobs.Put(t.Context(), h, strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	r, err := s.c.Blobs().Get(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := s.c.Blobs().Get(t.Context(), blob.Hash([]byte("other"))); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if err := s.c.Blobs().Put(t.Context(), h, nil); !errors.Is(err, airflow.ErrNotAllowed) {
		t.Errorf("put: %v", err)
	}
}

func TestTokenAndURL(t *testing.T) {
	s := newSite(t)
	wrong, err := NewClient(s.url, token+"x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.GetVariable(t.Context(), "v"); !errors.Is(err, airflow.ErrNotAllowed) {
		t.Errorf("wrong token: %v", err)
	}
	if err := wrong.Serve(t.Context(), nil, ServeOptions{Queues: []string{"default"}}); !errors.Is(err, airflow.ErrNotAllowed) {
		t.Errorf("wrong token: %v", err)
	}
	res, err := http.Get(s.url + Prefix + "/documents/h1")
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %v %v", res, err)
	}
	for _, u := range []string{"", "host:8080", "ftp://host"} {
		if _, err := NewClient(u, token); err == nil {
			t.Errorf("%q is accepted", u)
		}
	}
	if _, err := NewServer(ServerOptions{Token: "short"}); err == nil {
		t.Error("a short token is accepted")
	}
	gone, _ := NewClient("http://127.0.0.1:1", token)
	if err := gone.Heartbeat(t.Context(), worker.Dispatch{}, worker.Identity{}); !errors.Is(err, airflow.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	foreign, _ := NewClient(other.URL, token)
	if err := foreign.Heartbeat(t.Context(), worker.Dispatch{}, worker.Identity{}); err == nil || errors.Is(err, airflow.ErrUnavailable) || !strings.Contains(err.Error(), "gust server") {
		t.Errorf("another server: %v", err)
	}
}

func TestExecutor(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	x := NewExecutor("default")
	x.now = func() time.Time { return now }
	d := func(i int, q string) worker.Dispatch {
		return worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: i}, DispatchSeq: 1, Queue: q}
	}
	if err := x.Submit(t.Context(), []worker.Dispatch{d(0, ""), d(1, "b"), d(2, "default"), d(0, "")}); err != nil {
		t.Fatal(err)
	}
	short := func() context.Context {
		c, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		t.Cleanup(cancel)
		return c
	}
	if got := x.pull(short(), []string{"default"}, 10); len(got) != 2 || got[0].Key.MapIndex != 0 || got[1].Key.MapIndex != 2 {
		t.Errorf("pulled %v", got)
	}
	if got := x.pull(short(), []string{"default"}, 10); got != nil {
		t.Errorf("pulled again %v", got)
	}
	if !x.Observe(d(0, "")) || !x.Observe(d(1, "b")) || x.Observe(d(9, "")) {
		t.Error("waiting and pulled ones are known, others are not")
	}
	now = now.Add(pulledFor)
	if x.Observe(d(0, "")) || !x.Observe(d(1, "")) {
		t.Error("a pulled one that is never claimed is lost after a while; one that waits is not")
	}
	if err := x.Submit(t.Context(), []worker.Dispatch{d(0, "")}); err != nil || x.Waiting()["default"] != 1 {
		t.Errorf("the engine sends it again: %v %v", err, x.Waiting())
	}
	x.Cancel(d(0, ""), "cleared")
	if x.Observe(d(0, "")) || x.Waiting()["default"] != 0 {
		t.Error("cancelled")
	}
	// A waiting pull wakes.
	got := make(chan []worker.Dispatch)
	go func() { got <- x.pull(t.Context(), []string{"c"}, 1) }()
	time.Sleep(5 * time.Millisecond)
	if err := x.Submit(t.Context(), []worker.Dispatch{d(7, "c"), d(8, "c")}); err != nil {
		t.Fatal(err)
	}
	if ds := <-got; len(ds) != 1 || ds[0].Key.MapIndex != 7 {
		t.Errorf("woken with %v", ds)
	}
	x.Close()
	if x.Submit(t.Context(), nil) == nil {
		t.Error("a closed executor takes dispatches")
	}
}

func TestServeAndLogs(t *testing.T) {
	s := newSite(t)
	var ds []worker.Dispatch
	for i := range 40 {
		ds = append(ds, s.dispatch(t, i))
	}
	if err := s.x.Submit(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error)
	var mu sync.Mutex
	ran, at, most := map[int]int{}, 0, 0
	go func() {
		done <- s.c.Serve(t.Context(), stop, ServeOptions{Queues: []string{"default"}, Concurrency: 4, Run: func(ctx context.Context, d worker.Dispatch) error {
			mu.Lock()
			ran[d.Key.MapIndex]++
			at++
			most = max(most, at)
			mu.Unlock()
			l, err := s.c.OpenLog(d, &worker.TaskContext{TryNumber: 1})
			if err != nil {
				return err
			}
			for i := range 3 {
				_ = l.WriteRecord(record(fmt.Sprint("line ", i)))
			}
			err = l.Close()
			mu.Lock()
			at--
			mu.Unlock()
			return err
		}})
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		mu.Lock()
		n := len(ran)
		mu.Unlock()
		if n == len(ds) {
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(ran) != len(ds) || most > 4 {
		t.Errorf("%d of %d ran, %d at once", len(ran), len(ds), most)
	}
	for i, n := range ran {
		text := s.logs[fmt.Sprint(ds[i].Key, "#", 1)]
		if n != 1 || strings.Count(text, "\n") != 3 || !strings.Contains(text, `"event":"line 2"`) {
			t.Errorf("%d ran %d times, log %q", i, n, text)
		}
	}
}

func record(event string) taskrunner.Record {
	return taskrunner.Record{Time: time.Now(), Level: "info", Logger: "task", Event: event}
}
