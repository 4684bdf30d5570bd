package pyproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

type recorder struct {
	mu   sync.Mutex
	logs []string
	asks []string
}

func (r *recorder) Serve(_ context.Context, kind string, req json.RawMessage) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asks = append(r.asks, kind)
	switch kind {
	case "get_variable":
		if strings.Contains(string(req), "missing") {
			return nil, nil
		}
		return map[string]string{"value": `{"a": 1}`}, nil
	case "get_connection":
		return map[string]any{"connection_id": "db", "conn_type": "postgres", "host": "h", "login": "u", "password": "p/w", "port": 5432, "schema": "s"}, nil
	case "list_xcom":
		return []map[string]any{{"map_index": -1, "value": json.RawMessage(`{"__classname__":"builtins.tuple","__version__":1,"__data__":[1,2]}`)}}, nil
	}
	return nil, nil
}

func (r *recorder) Log(level, logger, event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, level+" "+logger+" "+event)
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.logs, "\n")
}

const ctxJSON = `{"dag_id":"d","run_id":"r","task_id":"t","map_index":-1,"try_number":2,"params":{"p":5},
 "dag_run":{"dag_id":"d","dag_run_id":"r","run_type":"scheduled","logical_date":"2026-03-01T20:05:00Z","data_interval_start":"2026-03-01T20:05:00Z","conf":{"c":1}},
 "outlets":[{"__type":"asset","name":"a","uri":"s3://a"}],"start_date":"2026-03-02T00:00:00.123456789Z"}`

const module = `
import datetime, os, sys, time, logging, decimal, threading
from airflow.sdk import get_current_context, Variable, Connection, task, Metadata, Asset, PokeReturnValue
from airflow.exceptions import AirflowSkipException, AirflowFailException, AirflowTaskTimeout, SomethingNew

def add(x, y=1): return x + y
def ctx(ds, ti, *, params, logical_date, run_id="z"): return [ds, ti.try_number, params["p"], str(logical_date.add(days=1)), run_id]
def everything(**context): return sorted(k for k in context)
def gone(**context): return context["execution_date"]
def types(): return {"t": (1, {2}), "d": datetime.date(2026, 1, 2), "dt": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), "td": datetime.timedelta(seconds=90), "dec": decimal.Decimal("1.5")}
def bad(): return object()
def skip(): raise AirflowSkipException("not today")
def fail(): raise AirflowFailException("never")
def boom(): raise KeyError("k")
def noise():
    print("one"); print("two", file=sys.stderr); logging.getLogger("x").warning("three"); os.write(1, b"raw\n"); sys.stdout.write("tail")
def lookups(ti):
    c = Connection.get("db")
    return [Variable.get("v", deserialize_json=True)["a"], Variable.get("missing", default="dflt"), c.get_uri(), list(ti.xcom_pull("up"))]
def slow():
    try: print("begun", flush=True); time.sleep(60)
    finally: print("cleaned")
def pid(): return os.getpid()
def env(): return sorted(os.environ)
@task
def deco(x): return x
def yields():
    yield Metadata(Asset("a", "s3://a"), {"rows": 3})
    return 7
async def co(): return "async"
def poke(): return PokeReturnValue(True, {"x": 1})
def notify(context, channel): print(context["ti"].task_id, channel)
def die(): os._exit(9)
def segv(): os.kill(os.getpid(), 9)
def forks():
    import sys
    print("parent")
    pid = os.fork()
    if pid == 0:
        print("child"); logging.getLogger("x").warning("childlog"); sys.stdout.flush(); os._exit(0)
    os.waitpid(pid, 0)
    sys.stdout.buffer.write(b"bytes\\n")
    return "ok"
def in_thread():
    out = []
    t = threading.Thread(target=lambda: out.append(get_current_context()["ds"])); t.start(); t.join(); return out
`

func testHost(t testing.TB, zygotes int) (*Host, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "callables.py"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	h := NewHost("", t.TempDir(), "test", zygotes)
	t.Cleanup(h.Close)
	return h, dir
}

func runOf(dir, fn string, rec *recorder) Run {
	return Run{
		Job:    Job{Kind: "python", Callable: Callable{Path: "callables." + fn}, SysPath: []string{dir}, Context: json.RawMessage(ctxJSON), Inject: true},
		Server: rec, Env: []string{"PATH=" + os.Getenv("PATH"), "MARK=1"}, Dir: dir, Grace: 2 * time.Second,
	}
}

func TestJobs(t *testing.T) {
	for _, mode := range []struct {
		name    string
		zygotes int
	}{{"spawn", 0}, {"fork", 2}} {
		t.Run(mode.name, func(t *testing.T) {
			h, dir := testHost(t, mode.zygotes)
			for _, c := range []struct {
				fn      string
				mod     func(*Run)
				outcome string
				want    string // of the value, the message or the log
			}{
				{"add", func(r *Run) { r.Job.OpArgs = json.RawMessage(`[2]`); r.Job.OpKwargs = json.RawMessage(`{"y":3}`) }, "success", `5`},
				{"ctx", nil, "success", `["2026-03-01",2,5,"2026-03-02 20:05:00+00:00","r"]`},
				{"everything", nil, "success", `"ts_nodash_with_tz"`},
				{"gone", nil, "failed", "use 'logical_date'"},
				{"types", nil, "success", `{"__classname__":"builtins.tuple","__version__":1,"__data__":[1,{"__classname__":"builtins.set"`},
				{"bad", nil, "failed", "builtins.object cannot be stored as an XCom"},
				{"skip", nil, "skipped", "not today"},
				{"fail", nil, "failed_final", "never"},
				{"boom", nil, "failed", "KeyError: 'k'"},
				{"noise", nil, "success", "info task.stdout one\nerror task.stderr two\nwarning x three"},
				{"noise", nil, "success", "info task.stdout raw"},
				{"noise", nil, "success", "info task.stdout tail"},
				{"lookups", nil, "success", `[1,"dflt","postgres://u:p%2Fw@h:5432/s",[1,2]]`},
				{"slow", func(r *Run) { r.Job.Timeout = 0.05 }, "failed", "AirflowTaskTimeout"},
				{"env", nil, "success", `"MARK"`},
				{"deco", func(r *Run) { r.Job.OpArgs = json.RawMessage(`["v"]`) }, "success", `"v"`},
				{"yields", nil, "success", `7`},
				{"co", nil, "success", `"async"`},
				{"poke", func(r *Run) { r.Job.Kind = "sensor" }, "success", `{"done":true,"value":{"x":1}}`},
				{"notify", func(r *Run) { r.Job.Kind = "callback"; r.Job.OpKwargs = json.RawMessage(`{"channel":"c"}`) }, "success", "info task.stdout t c"},
				{"nothing", nil, "failed", "has no 'nothing'"},
				{"in_thread", nil, "success", `["2026-03-01"]`},
				{"forks", nil, "success", "info task.stdout child"},
				{"forks", nil, "success", "error task.stderr childlog"},
				{"forks", nil, "success", "info task.stdout bytes"},
				{"add", func(r *Run) { r.Job.Isolated = true; r.Job.OpArgs = json.RawMessage(`[4]`) }, "success", `5`},
			} {
				t.Run(c.fn, func(t *testing.T) {
					rec := &recorder{}
					r := runOf(dir, c.fn, rec)
					r.Trust = "bundle"
					if c.mod != nil {
						c.mod(&r)
					}
					res, err := h.Run(context.Background(), r)
					if err != nil {
						t.Fatalf("%v\n%s", err, rec.text())
					}
					// What goes past Python's streams comes by a pipe of its own: in any order.
					text := rec.text()
					if raw := "info task.stdout raw\n"; !strings.Contains(c.want, "raw") {
						text = strings.Replace(text, raw, "", 1)
					}
					all := string(res.Value) + "\n" + res.Message + "\n" + res.Traceback + "\n" + text
					if res.Outcome != c.outcome || !strings.Contains(all, c.want) {
						t.Errorf("outcome %s, want %s with %q; got\n%s", res.Outcome, c.outcome, c.want, all)
					}
					if strings.Contains(res.Traceback, "_run_job") {
						t.Errorf("the traceback shows the runner's own frames:\n%s", res.Traceback)
					}
					if c.fn == "yields" && (len(res.OutletEvents) != 1 || string(res.OutletEvents[0].Extra) != `{"rows":3}`) {
						t.Errorf("outlet events %+v", res.OutletEvents)
					}
					if mode.zygotes > 0 && strings.Contains(rec.text(), "no process could be forked") {
						t.Errorf("not forked: %s", rec.text())
					}
				})
			}
			t.Run("death", func(t *testing.T) {
				for fn, want := range map[string]string{"die": "exit code 9", "segv": "SIGKILL"} {
					r := runOf(dir, fn, &recorder{})
					r.Trust = "bundle"
					if _, err := h.Run(context.Background(), r); !errors.Is(err, ErrNoResult) || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v, want %q", fn, err, want)
					}
				}
			})
			t.Run("cancel", func(t *testing.T) {
				rec := &recorder{}
				r := runOf(dir, "slow", rec)
				r.Trust = "bundle"
				cause := errors.New("cleared by a user")
				ctx, cancel := context.WithCancelCause(context.Background())
				go func() { // not before there is something to clean up
					for !strings.Contains(rec.text(), "begun") {
						time.Sleep(5 * time.Millisecond)
					}
					cancel(cause)
				}()
				if _, err := h.Run(ctx, r); !errors.Is(err, cause) {
					t.Errorf("got %v, want the cause", err)
				}
				if !strings.Contains(rec.text(), "cleaned") {
					t.Errorf("SIGTERM did not let the callable clean up: %q", rec.text())
				}
			})
		})
	}
}

// TestCloseEndsJobs: what a zygote forked does not outlive it.
func TestCloseEndsJobs(t *testing.T) {
	h, dir := testHost(t, 1)
	rec := &recorder{}
	r := runOf(dir, "slow", rec)
	r.Trust = "bundle"
	if err := os.WriteFile(filepath.Join(dir, "callables.py"), []byte(module+"\ndef slow():\n    print('pid', os.getpid()); time.sleep(60)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := h.Run(context.Background(), r); done <- err }()
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(rec.text(), "pid") {
		if time.Now().After(deadline) {
			t.Fatal("the job did not start")
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.Close()
	select {
	case err := <-done:
		if !errors.Is(err, ErrNoResult) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the job survived its zygote")
	}
}

// TestCacheFolder: without a home the code goes to a private temporary folder.
func TestCacheFolder(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("HOME", "/dev/null")
	t.Setenv("XDG_CACHE_HOME", "/dev/null/x")
	t.Setenv("TMPDIR", tmp)
	h := NewHost("", "", "test", 0)
	dir, err := h.runtimeDir()
	if err != nil || !strings.HasPrefix(dir, tmp) {
		t.Fatalf("%s %v", dir, err)
	}
	shared := filepath.Dir(dir)
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	if dir, err := NewHost("", "", "test", 0).runtimeDir(); err == nil {
		t.Errorf("code was put where others can write: %s", dir)
	}
}

// TestStandardLibraryFirst: a module beside the DAG does not shadow Python's.
func TestStandardLibraryFirst(t *testing.T) {
	h, dir := testHost(t, 0)
	if err := os.WriteFile(filepath.Join(dir, "decimal.py"), []byte("raise RuntimeError('shadowed')"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err := h.Run(context.Background(), runOf(dir, "types", &recorder{})); err != nil || res.Outcome != "success" {
		t.Errorf("%v %+v", err, res)
	}
}

func TestMissingImportNamesIt(t *testing.T) {
	h, dir := testHost(t, 0)
	for src, want := range map[string]string{
		"from airflow.providers.amazon.aws.hooks.s3 import S3Hook\ndef f(): pass": "airflow.providers.amazon",
		"from airflow.sdk import DAG\ndef f(): pass":                              "airflow.sdk.DAG is not part of Gust's light Python runtime",
	} {
		if err := os.WriteFile(filepath.Join(dir, "other.py"), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		r := runOf(dir, "", &recorder{})
		r.Job.Callable = Callable{File: filepath.Join(dir, "other.py"), Name: "f"}
		res, err := h.Run(context.Background(), r)
		if err != nil || res.Outcome != "failed" || !strings.Contains(res.Traceback, want) || !strings.Contains(res.Traceback, "full runtime") {
			t.Errorf("%v, %+v, want %q", err, res, want)
		}
	}
}

// TestInterpreters runs a job on every CPython found; GUST_PYTHONS adds paths.
func TestInterpreters(t *testing.T) {
	pythons := filepath.SplitList(os.Getenv("GUST_PYTHONS"))
	home, _ := os.UserHomeDir()
	found, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.1[0-9]*/bin/python"))
	pythons = append(pythons, found...)
	if len(pythons) == 0 {
		t.Skip("no other interpreters: name some in GUST_PYTHONS")
	}
	for _, py := range pythons {
		t.Run(py, func(t *testing.T) {
			h, dir := testHost(t, 1)
			for _, trust := range []string{"", "b"} {
				r := runOf(dir, "types", &recorder{})
				r.Python, r.Trust = py, trust
				if res, err := h.Run(context.Background(), r); err != nil || res.Outcome != "success" {
					t.Errorf("%v %+v", err, res)
				}
			}
		})
	}
}

func benchmark(b *testing.B, zygotes int) {
	h, dir := testHost(b, zygotes)
	r := runOf(dir, "add", &recorder{})
	r.Trust = "bundle"
	r.Job.OpArgs = json.RawMessage(`[1]`)
	for b.Loop() {
		if res, err := h.Run(context.Background(), r); err != nil || res.Outcome != "success" {
			b.Fatal(fmt.Sprint(err, res))
		}
	}
}

func BenchmarkSpawn(b *testing.B) { benchmark(b, 0) }
func BenchmarkFork(b *testing.B)  { benchmark(b, 1) }
