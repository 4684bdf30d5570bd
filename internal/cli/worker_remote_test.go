package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker/remote"
)

const remoteDag = `far:
  schedule: null
  start_date: 2024-01-01
  is_paused_upon_creation: false
  tasks:
    - {task_id: bash, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: run.sh}
    - {task_id: py, operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: helper.double, op_kwargs: {x: "{{ ti.xcom_pull('bash') }}"}, dependencies: [bash]}
    - {task_id: nowhere, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true", executor: KubernetesExecutor}
    - {task_id: here, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo $GUST_WORKER_TOKEN-", executor: LocalExecutor}
    - {task_id: long, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo started; sleep 300", dependencies: [py]}
`

// buffer is a bytes.Buffer that two commands may share.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestPullWorker runs a DAG whose tasks are pulled by a worker with a home of its
// own, over HTTP: files, XComs, logs and the cancel flag come from the server.
func TestPullWorker(t *testing.T) {
	const token = "a-token-of-workers-of-this-test"
	home, dags := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"far.yml": remoteDag, "run.sh": "echo 21", "helper.py": "import os\n\ndef double(x):\n    print('in', os.path.basename(__file__))\n    return int(x) * 2\n"} {
		if err := os.WriteFile(filepath.Join(dags, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	py := dagspec.NewInterpreter(dags)
	defer py.Close()
	o := localapp.Options{
		Home: home, DagsFolder: dags, Executor: remote.Name, WorkerToken: token,
		Loader: yamlloader.New(yamlloader.Config{Options: dagspec.Options{Python: py}}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{Addr: "127.0.0.1:0", Ready: func(addr string, _ dagprocessor.Summary) { ready <- addr }})
	}()
	var addr string
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	tool, err := localapp.Open(ctx, localapp.Options{Home: home, DagsFolder: dags})
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()

	var out buffer
	workerHome := t.TempDir()
	work := func(ctx context.Context, token string) int {
		return Main(ctx, Env{
			Args: []string{"worker", "--api-url", "http://" + addr, "-c", "2", "--home", workerHome}, Name: "gust", Stdout: &out, Stderr: &out, Now: time.Now,
			Getenv: func(string) string { return "" }, Environ: func() []string { return []string{"GUST_WORKER_TOKEN=" + token} },
		})
	}
	if code := work(ctx, token+"x"); code != ExitFailed || !strings.Contains(out.String(), "token") {
		t.Errorf("a wrong token: exit %d\n%s", code, out.String())
	}
	wctx, stopWorker := context.WithCancel(ctx)
	defer stopWorker()
	ended := make(chan int, 1)
	go func() { ended <- work(wctx, token) }()

	s := &shell{t: t, home: home, dags: dags, name: "gust", env: map[string]string{"NO_COLOR": "1"}, now: time.Now()}
	s.ok("dags", "trigger", "far", "--run-id", "r1")
	run := store.RunKey{DagID: "far", RunID: "r1"}
	key := func(task airflow.TaskID) airflow.TaskInstanceKey {
		return airflow.TaskInstanceKey{DagID: "far", RunID: "r1", TaskID: task, MapIndex: -1}
	}
	state := func(task airflow.TaskID) airflow.TIState {
		tis, err := tool.Engine.TaskInstances(ctx, run)
		if err != nil {
			return airflow.TINone
		}
		for _, ti := range tis {
			if ti.TaskID == task {
				return ti.State
			}
		}
		return airflow.TINone
	}
	log := func(task airflow.TaskID) string {
		b, _ := os.ReadFile(tool.TaskLogPath(key(task), 1))
		return string(b)
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: waited in vain\nbash %s\npy %s %s\n%s", what, log("bash"), state("py"), log("py"), out.String())
			}
		}
	}
	wait("long starts", func() bool { return strings.Contains(log("long"), "started") })
	x, err := tool.Store.GetXCom(ctx, key("py"), "return_value")
	if err != nil || string(x.Value) != "42" {
		t.Errorf("XCom %s, %v", x.Value, err)
	}
	if text := log("py"); !strings.Contains(text, "in helper.py") || !strings.Contains(text, "Task ended with success") {
		t.Errorf("log of py:\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(workerHome, "cache", "bundles")); err != nil {
		t.Errorf("the worker has no files of its own: %v", err)
	}
	wait("other executors", func() bool { return state("here") == airflow.TISuccess && state("nowhere") == airflow.TIFailed })
	if text := log("nowhere"); !strings.Contains(text, "Kubernetes") {
		t.Errorf("log of nowhere:\n%s", text)
	}
	// Clear ends a running task at once, although no heartbeat is due.
	began := time.Now()
	s.ok("tasks", "clear", "far", "--task-regex", "^long$", "--yes")
	wait("long is stopped", func() bool { return strings.Contains(log("long"), "The task was stopped") })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("cleared after %v", took)
	}
	stopWorker()
	if code := <-ended; code != ExitOK {
		t.Errorf("the worker ended with %d\n%s", code, out.String())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Without a token nobody could pull.
	o.WorkerToken = ""
	if err := localapp.Serve(t.Context(), o, localapp.ServeOptions{}); err == nil || !strings.Contains(err.Error(), "GUST_WORKER_TOKEN") {
		t.Errorf("no token: %v", err)
	}
}
