package localapp

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

const helloDAG = `hello:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    - {task_id: greet, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo hello {{ params.who | default('you', true) }} {{ run_id }}", params: {who: world}}
    - {task_id: echo, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo got {{ ti.xcom_pull(task_ids='greet') }}", dependencies: [greet]}
    - {task_id: py, operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: helpers.double, op_kwargs: {x: 21}, dependencies: [echo]}
`

func testLoader(t testing.TB, dags string) dagprocessor.Loader {
	py := dagspec.NewInterpreter(dags)
	t.Cleanup(func() { _ = py.Close() })
	return yamlloader.New(yamlloader.Config{Options: dagspec.Options{Python: py}})
}

// server starts a server on a home and waits until it is up.
func server(t *testing.T, home, dags string) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- Serve(ctx, Options{Home: home, DagsFolder: dags, Loader: testLoader(t, dags), Engine: engine.Config{}}, ServeOptions{
			Addr: "127.0.0.1:0", Ready: func(addr string, _ dagprocessor.Summary) { ready <- addr }})
	}()
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatalf("server ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("server not up after 20 s")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	}
	t.Cleanup(stop)
	return addr, stop
}

// waitRun waits for a run to end.
func waitRun(t *testing.T, s *store.Store, k store.RunKey) airflow.DagRun {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		r, err := s.GetRun(t.Context(), k)
		if err == nil && r.State.Finished() {
			return r
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("run %s did not end", k)
	return airflow.DagRun{}
}

func write(t *testing.T, dir, name, content string) { t.Helper(); writeFile(t, dir, name, content) }

func writeFile(t testing.TB, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestServeRunsADagTriggeredByATool(t *testing.T) {
	home, dags := t.TempDir(), t.TempDir()
	write(t, dags, "hello.yml", helloDAG)
	write(t, dags, "helpers.py", "def double(x):\n    print('doubling', x)\n    return x * 2\n")
	addr, _ := server(t, home, dags)

	tool, err := Open(t.Context(), Options{Home: home, DagsFolder: dags})
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	info, err := tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: "hello", RunID: "r1", TriggeredBy: airflow.TriggeredByCLI})
	if err != nil {
		t.Fatal(err)
	}
	if told, err := tool.Home.Notify(t.Context(), Notice{Discover: true}); !told || err != nil {
		t.Fatalf("server not told: %t %v", told, err)
	}
	k := store.RunKey{DagID: "hello", RunID: info.RunID}
	if r := waitRun(t, tool.Store, k); r.State != airflow.RunSuccess {
		tis, _ := tool.Engine.TaskInstances(t.Context(), k)
		for _, ti := range tis {
			b, _ := os.ReadFile(tool.TaskLogPath(ti.TaskInstanceKey, ti.TryNumber))
			t.Logf("%s %s\n%s", ti.TaskID, ti.State, b)
		}
		t.Fatalf("run ended %s", r.State)
	}
	for task, want := range map[airflow.TaskID]string{"greet": `"hello world r1"`, "echo": `"got hello world r1"`, "py": "42"} {
		x, err := tool.Store.GetXCom(t.Context(), airflow.TaskInstanceKey{DagID: "hello", RunID: "r1", TaskID: task, MapIndex: -1}, "return_value")
		if err != nil || string(x.Value) != want {
			t.Errorf("XCom of %s: %s %v, want %s", task, x.Value, err, want)
		}
	}
	b, err := os.ReadFile(tool.TaskLogPath(airflow.TaskInstanceKey{DagID: "hello", RunID: "r1", TaskID: "py", MapIndex: -1}, 1))
	if err != nil || !strings.Contains(string(b), "doubling 21") {
		t.Errorf("log of py: %s %v", b, err)
	}

	resp, err := http.Get("http://" + addr + "/api/v2/monitor/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var health map[string]map[string]any
	if err := json.Unmarshal(body, &health); err != nil || health["scheduler"]["status"] != "healthy" || health["metadatabase"]["status"] != "healthy" {
		t.Errorf("health: %s %v", body, err)
	}
	if err := Serve(t.Context(), Options{Home: home}, ServeOptions{}); err == nil || !strings.Contains(err.Error(), "another gust server") {
		t.Errorf("a second server on the home: %v", err)
	}
}

func TestEditedFileIsLiveAndBrokenFileHurtsNobodyElse(t *testing.T) {
	home, dags := t.TempDir(), t.TempDir()
	write(t, dags, "hello.yml", helloDAG)
	write(t, dags, "helpers.py", "def double(x):\n    return x * 2\n")
	server(t, home, dags)
	tool, err := Open(t.Context(), Options{Home: home, DagsFolder: dags})
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	begin := time.Now()
	write(t, dags, "other.yml", strings.ReplaceAll(helloDAG, "hello:", "other:"))
	write(t, dags, "hello.yml", "hello:\n  schedule: [\n")
	var live time.Duration
	for {
		es, err := tool.Store.ListImportErrors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, oerr := tool.Store.GetDag(t.Context(), "other")
		if len(es) == 1 && oerr == nil {
			live = time.Since(begin)
			if p := es[0].Problems[0]; es[0].Filename != "hello.yml" || p.Line == 0 {
				t.Errorf("import error %+v", es[0])
			}
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("after 10 s: %+v, other: %v", es, oerr)
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Logf("changes live after %s", live)
	if live > time.Second {
		t.Errorf("changes live after %s, expected within 1 s", live)
	}
	m, err := tool.Store.GetDag(t.Context(), "hello")
	if err != nil || !m.HasImportErrors {
		t.Errorf("the DAG of the broken file: %+v %v", m, err)
	}
	if _, err := tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: "hello", TriggeredBy: airflow.TriggeredByCLI}); err == nil {
		t.Error("a DAG whose file is broken was triggered")
	}
}

func TestAMissingOrOpenKeyFileIsRefused(t *testing.T) {
	home := t.TempDir()
	a, err := Open(t.Context(), Options{Home: home})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	key := filepath.Join(home, "secrets.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Home: home}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a readable key file: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Home: home}); err == nil || !strings.Contains(err.Error(), "Restore the key file") {
		t.Errorf("a missing key file: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made")
	}
}
