package taskrunner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operator"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

const bashOp = "airflow.providers.standard.operators.bash.BashOperator"

// ops resolves every class to one operator.
type ops struct{ op taskrunner.Operator }

func (o ops) Resolve(string) (taskrunner.Operator, error) { return o.op, nil }

func opFunc(f func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error)) ops {
	return ops{taskrunner.OperatorFunc(f)}
}

func dispatch(seq uint32) worker.Dispatch {
	return worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}, DispatchSeq: seq}
}

func oneTask(t testing.TB, x workertest.Task) *airflow.DAG {
	x.ID = "t"
	if x.Class == "" {
		x.Class = "x.Y"
	}
	return workertest.DAG(t, "", "", x)
}

func TestPanicBecomesAFailure(t *testing.T) {
	r, log, err := workertest.Run{DAG: oneTask(t, workertest.Task{}), Task: "t"}.Do(t, opFunc(func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) {
		panic("oops")
	}))
	if err != nil || r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "panicked: oops") || !strings.Contains(log, "worker_test.go") {
		t.Errorf("%v %+v\n%s", err, r, log)
	}
}

func TestClaimAndReportAreRetried(t *testing.T) {
	b := workertest.NewBackend()
	b.Fail["Claim"], b.Fail["Finish"] = 1, 2
	r, _, err := workertest.Run{Backend: b, DAG: oneTask(t, workertest.Task{}), Task: "t"}.Do(t, opFunc(func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) {
		return &taskrunner.Result{Value: json.RawMessage("1")}, nil
	}))
	if err != nil || r.Outcome != worker.OutcomeSuccess || workertest.XCom(r, "return_value") != "1" {
		t.Errorf("%v %+v", err, r)
	}
}

func TestTooLargeFails(t *testing.T) {
	b := workertest.NewBackend()
	b.Fail["TooLarge"] = 1
	r, _, err := workertest.Run{Backend: b, DAG: oneTask(t, workertest.Task{}), Task: "t"}.Do(t, opFunc(func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) {
		return &taskrunner.Result{Value: json.RawMessage("1")}, nil
	}))
	if err != nil || r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "too large") || len(r.XComs) != 0 {
		t.Errorf("%v %+v", err, r)
	}
}

func TestBigXComsGoAhead(t *testing.T) {
	b := workertest.NewBackend()
	big := json.RawMessage(`"` + strings.Repeat("x", 100) + `"`)
	r, _, err := workertest.Run{Backend: b, DAG: oneTask(t, workertest.Task{}), Task: "t", Options: taskrunner.Options{InlineXComBytes: 50}}.Do(t, opFunc(func(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		t.PushXCom("small", json.RawMessage("1"))
		return &taskrunner.Result{Value: big}, nil
	}))
	if err != nil || len(r.XComs) != 1 || r.XComs[0].Key != "small" || !r.PushedReturnValue {
		t.Errorf("%v %+v", err, r)
	}
	if got := b.XComs[worker.XComQuery{DagID: "d", RunID: "r", TaskID: "t", Key: "return_value", MapIndex: -1}]; string(got) != string(big) {
		t.Errorf("stored %.20s", got)
	}
}

func TestSupersededByHeartbeat(t *testing.T) {
	b := workertest.NewBackend()
	d := dispatch(1)
	dir := t.TempDir()
	mark, ready := filepath.Join(dir, "mark"), filepath.Join(dir, "ready")
	var once sync.Once
	b.OnHeartbeat = func() {
		if _, err := os.Stat(ready); err == nil { // not before the trap is set
			once.Do(func() { b.Supersede(d, "cleared by admin") })
		}
	}
	dag := oneTask(t, workertest.Task{Class: bashOp, Kwargs: `{"bash_command":"trap 'touch ` + mark + `; exit' TERM; touch ` + ready + `; sleep 60 & wait"}`})
	r, log, err := workertest.Run{Backend: b, DAG: dag, Task: "t", Options: taskrunner.Options{HeartbeatInterval: 30 * time.Millisecond}}.Do(t, operator.Default())
	if r != nil || !errors.Is(err, airflow.ErrSuperseded) || !strings.Contains(log, "cleared by admin") || len(b.Yielded) != 1 {
		t.Errorf("%v %+v %v\n%s", err, r, b.Yielded, log)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("the process did not get SIGTERM")
	}
}

func TestHeartbeatsStoreXComsAndStop(t *testing.T) {
	b := workertest.NewBackend()
	seen := make(chan struct{})
	r, _, err := workertest.Run{Backend: b, DAG: oneTask(t, workertest.Task{}), Task: "t", Options: taskrunner.Options{HeartbeatInterval: 5 * time.Millisecond}}.Do(t, opFunc(func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		t.PushXCom("early", json.RawMessage(`"v"`))
		go func() {
			for {
				if v, err := b.GetXCom(ctx, worker.XComQuery{DagID: "d", RunID: "r", TaskID: "t", Key: "early", MapIndex: -1}); err == nil && string(v) == `"v"` {
					close(seen)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		select {
		case <-seen:
		case <-time.After(5 * time.Second):
			return nil, errors.New("the XCom was not stored while the task ran")
		}
		return nil, nil
	}))
	if err != nil || r.Outcome != worker.OutcomeSuccess || len(r.XComs) != 0 {
		t.Errorf("%v %+v", err, r)
	}
	n := b.Beats()
	time.Sleep(20 * time.Millisecond)
	if b.Beats() != n {
		t.Error("heartbeats go on after the report")
	}
}

func TestLostLease(t *testing.T) {
	b := workertest.NewBackend()
	b.Fail["Heartbeat"] = 100
	r, log, err := workertest.Run{Backend: b, DAG: oneTask(t, workertest.Task{}), Task: "t", Options: taskrunner.Options{HeartbeatInterval: 2 * time.Millisecond, MaxFailedHeartbeats: 2}}.Do(t, opFunc(func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	if err != nil || r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "lease is lost") {
		t.Errorf("%v %+v\n%s", err, r, log)
	}
}

func TestCancelIsLocalToTheDispatch(t *testing.T) {
	b := workertest.NewBackend()
	dag := oneTask(t, workertest.Task{})
	for i := range 2 {
		b.Contexts[dispatch(uint32(i+1))] = workertest.Context(dag, "t")
	}
	started := make(chan struct{}, 2)
	release := make(chan struct{})
	w := taskrunner.New(taskrunner.Options{
		Backend: b, OpenLog: func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) { return &workertest.Log{}, nil },
		Operators: opFunc(func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
			started <- struct{}{}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-release:
				return nil, nil
			}
		}),
	})
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Add(1)
		go func() { defer wg.Done(); errs[i] = w.Run(context.Background(), dispatch(uint32(i+1))) }()
	}
	<-started
	<-started
	q := dispatch(1)
	q.Queue = "default" // the message's queue plays no part
	if !w.Cancel(q, "marked failed") || w.Cancel(dispatch(9), "x") {
		t.Error("Cancel finds the wrong dispatches")
	}
	close(release)
	wg.Wait()
	if !errors.Is(errs[0], airflow.ErrSuperseded) && errs[0] != nil || errs[1] != nil {
		t.Errorf("%v", errs)
	}
	if len(b.Reports(dispatch(2))) != 1 {
		t.Error("the other dispatch did not report")
	}
}

func TestParams(t *testing.T) {
	const params = `{"params":[["n",{"default":3,"schema":{"__type":"dict","__var":{"type":"integer","minimum":1}}}],["s",{"default":"x","schema":{"__type":"dict","__var":{"type":["string","null"],"enum":["x","y",null]}}}],["need",{"schema":{"__type":"dict","__var":{"type":"string"}}}]]}`
	dag := workertest.DAG(t, params, "", workertest.Task{ID: "t", Class: bashOp, Kwargs: `{"bash_command":"echo {{ params.n }} {{ params.s }} {{ params.need }}"}`})
	for conf, want := range map[string]string{
		`{"need":"q"}`:                    `"3 x q"`,
		`{"need":"q","n":7,"other":1}`:    `"7 x q"`,
		`{"need":"q","s":null}`:           `"3 None q"`,
		`{}`:                              "params.need: has no default",
		`{"need":1,"n":0,"s":"z"}`:        "params.s",
		`{"need":"q","n":"not a number"}`: "params.n",
	} {
		r, _, err := workertest.Run{DAG: dag, Task: "t", Change: func(tc *worker.TaskContext) { tc.Run.Conf = json.RawMessage(conf) }}.Do(t, operator.Default())
		if err != nil {
			t.Fatal(err)
		}
		if got := workertest.XCom(r, "return_value") + r.Error; !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", conf, got, want)
		}
	}
}

type masker struct {
	mu      sync.Mutex
	secrets []string
}

func (m *masker) Add(s string) { m.mu.Lock(); defer m.mu.Unlock(); m.secrets = append(m.secrets, s) }
func (m *masker) Mask(s string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.secrets {
		s = strings.ReplaceAll(s, x, "***")
	}
	return s
}

func TestSecretsAreMasked(t *testing.T) {
	b := workertest.NewBackend()
	b.Connections["c"] = airflow.Connection{ConnType: "x", Password: "hunter2"}
	b.Variables["my_password"] = "s3cret"
	dag := oneTask(t, workertest.Task{Class: bashOp, Kwargs: `{"bash_command":"echo {{ conn.c.password }} {{ var.value.my_password }}; exit 1","env":{"long":"` + strings.Repeat("y", 5000) + `"}}`})
	r, log, err := workertest.Run{Backend: b, DAG: dag, Task: "t", Options: taskrunner.Options{Masker: &masker{}}}.Do(t, operator.Default())
	if err != nil {
		t.Fatal(err)
	}
	all := log + r.Error + string(r.RenderedFields)
	if strings.Contains(all, "hunter2") || strings.Contains(all, "s3cret") || !strings.Contains(all, "*** ***") {
		t.Errorf("%s", all)
	}
	if len(r.RenderedFields) > 4600 || !strings.Contains(string(r.RenderedFields), "Truncated. You can change this behaviour") {
		t.Errorf("rendered fields of %d bytes", len(r.RenderedFields))
	}
}

type calls struct {
	mu    sync.Mutex
	names []string
}

func (c *calls) Run(_ context.Context, e taskrunner.CallbackEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, fmt.Sprintf("%s %s %v", e.Name, e.State, e.Class))
}

func TestCallbacksByOutcome(t *testing.T) {
	cb := map[string][]json.RawMessage{}
	for _, n := range []string{"execute", "success", "failure", "retry", "skipped"} {
		cb["on_"+n+"_callback"] = []json.RawMessage{json.RawMessage(`"m.f"`)}
	}
	dag := oneTask(t, workertest.Task{Callbacks: cb})
	for _, c := range []struct {
		err   error
		retry bool
		want  string
	}{
		{nil, false, "on_success_callback success "},
		{errors.New("x"), true, "on_retry_callback up_for_retry AirflowException"},
		{errors.New("x"), false, "on_failure_callback failed AirflowException"},
		{taskrunner.Failf("x"), true, "on_failure_callback failed AirflowFailException"},
		{&taskrunner.SkipError{}, false, "on_skipped_callback skipped AirflowSkipException"},
		{&taskrunner.Reschedule{At: time.Now()}, false, ""},
	} {
		rec := &calls{}
		r, _, err := workertest.Run{DAG: dag, Task: "t", Options: taskrunner.Options{Callbacks: rec}, Change: func(tc *worker.TaskContext) { tc.ShouldRetry = c.retry }}.Do(t,
			opFunc(func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) { return nil, c.err }))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"on_execute_callback  "}
		if c.want != "" {
			want = append(want, c.want)
		}
		if fmt.Sprint(rec.names) != fmt.Sprint(want) || r.CallbacksDone != (c.want != "") {
			t.Errorf("%v: %q done %v, want %q", c.err, rec.names, r.CallbacksDone, want)
		}
	}
}

func TestNativeTemplatesAndSearchpath(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sql"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sql", "x.sh"), []byte("echo from {{ macro }} {{ ds }}"), 0o600); err != nil {
		t.Fatal(err)
	}
	dag := workertest.DAG(t, "", `{"template_searchpath":["sql"],"user_defined_macros":{"macro":"plain"}}`, workertest.Task{ID: "t", Class: bashOp, Kwargs: `{"bash_command":"x.sh"}`})
	in := func(tc *worker.TaskContext) { tc.BundleDir = dir }
	if r, log, _ := (workertest.Run{DAG: dag, Task: "t", Change: in}).Do(t, operator.Default()); workertest.XCom(r, "return_value") != `"from plain 2026-03-01"` {
		t.Errorf("%+v\n%s", r, log)
	}
	native := workertest.DAG(t, `{"render_template_as_native_obj":true}`, "", workertest.Task{ID: "t", Class: "x.Y", Fields: `{"template_fields":["v"]}`, Kwargs: `{"v":["{{ params }}","{{ ds_nodash }}"]}`})
	var got string
	if _, log, err := (workertest.Run{DAG: native, Task: "t"}).Do(t, opFunc(func(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		raw, err := taskrunner.XComValue(t.Args.Get("v"))
		got = string(raw)
		return nil, err
	})); err != nil || got != `[{},20260301]` {
		t.Errorf("%v %s\n%s", err, got, log)
	}
}

func TestJSONLogShape(t *testing.T) {
	var sb strings.Builder
	l := taskrunner.NewJSONLog(&sb)
	if err := l.WriteRecord(taskrunner.Record{Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Level: taskrunner.LevelInfo, Logger: "task.stdout", Event: "a\"b\nü"}); err != nil {
		t.Fatal(err)
	}
	want := `{"timestamp":"2026-01-02T03:04:05.000006Z","level":"info","event":"a\"b\nü","logger":"task.stdout"}` + "\n"
	if sb.String() != want {
		t.Errorf("%s", sb.String())
	}
}

func benchWorker(b *testing.B, dag *airflow.DAG, r taskrunner.Resolver) {
	d := dispatch(1)
	tc := workertest.Context(dag, "t")
	w := taskrunner.New(taskrunner.Options{
		Backend: instant{workertest.NewBackend(), tc}, Operators: r,
		OpenLog: func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) {
			return taskrunner.NewJSONLog(io.Discard), nil
		},
	})
	for b.Loop() {
		if err := w.Run(context.Background(), d); err != nil {
			b.Fatal(err)
		}
	}
}

// instant is a Backend that costs nothing.
type instant struct {
	*workertest.Backend
	tc *worker.TaskContext
}

func (i instant) Claim(context.Context, worker.Dispatch, worker.Identity) (*worker.TaskContext, error) {
	return i.tc, nil
}
func (instant) Finish(context.Context, worker.Dispatch, *worker.Report) error { return nil }

func BenchmarkNoOp(b *testing.B) {
	benchWorker(b, oneTask(b, workertest.Task{Class: "airflow.providers.standard.operators.empty.EmptyOperator"}), operator.Default())
}

func BenchmarkTemplate(b *testing.B) {
	dag := oneTask(b, workertest.Task{Fields: `{"template_fields":["v"]}`, Kwargs: `{"v":"{{ ds }} {{ ti.try_number }}"}`})
	benchWorker(b, dag, opFunc(func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) { return nil, nil }))
}

func BenchmarkBash(b *testing.B) {
	benchWorker(b, oneTask(b, workertest.Task{Class: bashOp, Kwargs: `{"bash_command":":"}`}), operator.Default())
}

// BenchmarkBareBash is the yardstick of BenchmarkBash.
func BenchmarkBareBash(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("bash", "-c", ":").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
