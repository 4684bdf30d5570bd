package operator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

const callables = `
import os, sys
from airflow.sdk import get_current_context, PokeReturnValue
from airflow.exceptions import AirflowSkipException, AirflowFailException, AirflowRescheduleException, AirflowSensorTimeout
def hello(name="world", **context): return f"hello {name} {context['ds']}"
def pair(): return {"a": 1, "b": [2]}
def add(x, y): return x + y
def left(): return "left"
def both(): return ["left", "right"]
def bad(): return "nowhere"
def number(): return 3
def none(): return None
def truthy(): return "yes"
def falsy(): return []
def skip(): raise AirflowSkipException("no data")
def fail(): raise AirflowFailException("hopeless")
def boom(): raise ValueError("boom")
def poke_value(): return PokeReturnValue(True, {"n": 1})
def not_yet(): return False
def cmd(x): return f"echo {x} {{{{ ds }}}}"
def push(ti): ti.xcom_push("k", {"v": 1}); return ti.xcom_pull(key="k")
def pull(ti): return [ti.xcom_pull("up"), ti.xcom_pull(["up", "nope"]), ti.xcom_pull("m"), ti.xcom_pull("m", map_indexes=1)]
def check(response): return response.json()["ok"]
def next_page(response):
    n = response.json()["page"]
    if n < 3: return {"data": {"page": n + 1}, "headers": {"X-Page": str(n)}, "request_kwargs": {"cookies": {"n": str(n)}}}
def endless(response): return 7
def pages(responses, ds): return [[r.json()["page"] for r in responses], ds]
def three(responses): return len(responses) == 3
class Signed:
    def __init__(self, login, password): self.login, self.password = login, password
    def __call__(self, r):
        r.headers["X-Sign"] = f"{self.login}:{r.method}:{r.path_url}:{len(r.body)}"
        r.url += "&signed=1"
        return r
class Refuses:
    def __call__(self, r): raise ValueError("no token")
def flt(response, ti): return [response.status_code, response.text, ti.task_id]
def upper(output): return output.upper()
def slow():
    import time
    try: time.sleep(30)
    finally: print("unwound")
def dates(logical_date): return [logical_date, logical_date.subtract(days=1)]
def tmpl(templates_dict): return templates_dict
def exits(): sys.exit(7)
def label(): get_current_context()["label"] = "blue"
def isolated(x):
    import json
    return json.dumps(x)
def events(outlet_events):
    from airflow.sdk import Asset
    outlet_events[Asset("a")].extra = {"rows": 3}
    outlet_events[Asset("plain")].extra["x"] = 1
`

type env struct {
	bundle string
	host   *pyproc.Host
}

var shared env

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gust-operator")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "callables.py"), []byte(callables), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared = env{dir, pyproc.NewHost("", filepath.Join(dir, ".cache"), "test", 1)}
	code := m.Run()
	shared.host.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

func exec1(t *testing.T, r workertest.Run, class, kwargs string) (*worker.Report, string) {
	t.Helper()
	if r.DAG == nil {
		r.DAG = workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: class, Kwargs: kwargs})
	}
	r.Task = "t"
	r.Options.Python = shared.host
	change := r.Change
	r.Change = func(tc *worker.TaskContext) {
		tc.BundleDir = shared.bundle
		if change != nil {
			change(tc)
		}
	}
	rep, log, err := r.Do(t, Default())
	if err != nil || rep == nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return rep, log
}

func fn(name string) string {
	return `"python_callable":{"__type":"callable","__var":"callables.` + name + `"}`
}

func TestBash(t *testing.T) {
	const class = std + "operators.bash.BashOperator"
	os.Setenv("GUST_SECRET", "no")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared.bundle, "s.sh"), []byte("echo script {{ ds }} $0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, kwargs string
		outcome      worker.Outcome
		value, log   string
	}{
		{"last line", `{"bash_command":"echo a; echo b; echo 'c  '"}`, worker.OutcomeSuccess, `"c"`, "info " + subprocessLogger + " a"},
		{"template", `{"bash_command":"echo {{ ds }} {{ ti.try_number }} {{ params }}"}`, worker.OutcomeSuccess, `"2026-03-01 1 {}"`, ""},
		{"stderr", `{"bash_command":"echo e >&2"}`, worker.OutcomeSuccess, `"e"`, ""},
		{"no output", `{"bash_command":"true"}`, worker.OutcomeSuccess, `""`, "return code 0"},
		{"exit", `{"bash_command":"exit 3"}`, worker.OutcomeFailed, "", "exit code 3"},
		{"skip 99", `{"bash_command":"exit 99"}`, worker.OutcomeSkipped, "", "Skipping"},
		{"skip list", `{"bash_command":"exit 4","skip_on_exit_code":[4,5]}`, worker.OutcomeSkipped, "", ""},
		{"no skip", `{"bash_command":"exit 99","skip_on_exit_code":null}`, worker.OutcomeFailed, "", ""},
		{"signal", `{"bash_command":"kill -9 $$"}`, worker.OutcomeFailed, "", "SIGKILL"},
		{"context vars", `{"bash_command":"echo $AIRFLOW_CTX_DAG_ID $AIRFLOW_CTX_TASK_ID $AIRFLOW_CTX_DAG_RUN_ID $AIRFLOW_CTX_TRY_NUMBER $AIRFLOW_CTX_LOGICAL_DATE $AIRFLOW_CTX_DAG_OWNER"}`,
			worker.OutcomeSuccess, `"d t r 1 2026-03-01T20:05:00+00:00 airflow"`, ""},
		{"secrets", `{"bash_command":"echo -$GUST_SECRET-$GUST_DISPATCH"}`, worker.OutcomeSuccess, `"--d/r/t/-1/1"`, ""},
		{"env replaces", `{"bash_command":"echo $A-$HOME","env":{"A":"{{ ds_nodash }}"}}`, worker.OutcomeSuccess, `"20260301-"`, ""},
		{"env appends", `{"bash_command":"echo $A ${PATH:+path}","env":{"A":"1"},"append_env":true}`, worker.OutcomeSuccess, `"1 path"`, ""},
		{"cwd", `{"bash_command":"pwd","cwd":"` + dir + `"}`, worker.OutcomeSuccess, `"` + dir + `"`, ""},
		{"no cwd", `{"bash_command":"pwd","cwd":"/nonexistent"}`, worker.OutcomeFailed, "", "Can not find the cwd: /nonexistent"},
		{"tmp cwd", `{"bash_command":"pwd | sed 's/.*airflowtmp.*/yes/'"}`, worker.OutcomeSuccess, `"yes"`, ""},
		{"script", `{"bash_command":"s.sh"}`, worker.OutcomeSuccess, "script 2026-03-01", "Running script file"},
		{"missing script", `{"bash_command":"nope.sh"}`, worker.OutcomeFailed, "", "TemplateNotFound"},
		{"undefined", `{"bash_command":"echo {{ nope }}"}`, worker.OutcomeFailed, "", "'nope' is undefined"},
		{"bytes", `{"bash_command":"printf '\\xff\\n'"}`, worker.OutcomeSuccess, `"\\xff"`, ""},
		{"processor", `{"bash_command":"echo low","output_processor":{"__type":"callable","__var":"callables.upper"}}`, worker.OutcomeSuccess, `"LOW"`, ""},
		{"wrong argument", `{"bash_command":"true","env":7,"cwd":[]}`, worker.OutcomeFailed, "", "env: expected a dict, got 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := exec1(t, workertest.Run{}, class, c.kwargs)
			if r.Outcome != c.outcome || !strings.Contains(workertest.XCom(r, "return_value"), c.value) || !strings.Contains(log, c.log) {
				t.Errorf("%v %s\n%s", r.Outcome, workertest.XCom(r, "return_value"), log)
			}
			if r.Outcome == worker.OutcomeSuccess && !r.PushedReturnValue {
				t.Error("the report does not say that a value was pushed")
			}
		})
	}
}

func TestBashTimeoutKillsTheGroup(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "operators.bash.BashOperator", Fields: `{"execution_timeout":0.2}`,
		Kwargs: `{"bash_command":"trap 'echo bye; touch ` + mark + `; exit 0' TERM; sleep 60 & wait"}`})
	start := time.Now()
	r, log := exec1(t, workertest.Run{DAG: d}, "", "")
	if r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "execution_timeout of 200ms") || !strings.Contains(log, "bye") {
		t.Errorf("%v %q\n%s", r.Outcome, r.Error, log)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("the trap did not run")
	}
	if time.Since(start) > 10*time.Second {
		t.Error("the sleep held the task")
	}
}

func TestPython(t *testing.T) {
	const ops = std + "operators.python."
	up := func(b *workertest.Backend) {
		q := worker.XComQuery{DagID: "d", RunID: "r", TaskID: "up", Key: "return_value", MapIndex: -1}
		b.XComs[q] = []byte(`"u"`)
		for i := range 2 {
			q.TaskID, q.MapIndex = "m", i
			b.XComs[q] = fmt.Appendf(nil, "%d", i*10)
		}
	}
	for _, c := range []struct {
		name, class, kwargs string
		outcome             worker.Outcome
		value, log          string
	}{
		{"kwargs", ops + "PythonOperator", `{` + fn("hello") + `,"op_kwargs":{"name":"{{ run_id }}"}}`, worker.OutcomeSuccess, `"hello r 2026-03-01"`, "Returned value was: hello r"},
		{"file", ops + "PythonOperator", `{"python_callable":{"__type":"callable","__var":{"file":"callables.py","name":"hello"}}}`, worker.OutcomeSuccess, `"hello world 2026-03-01"`, ""},
		{"args", ops + "PythonOperator", `{` + fn("add") + `,"op_args":[1,2]}`, worker.OutcomeSuccess, `3`, ""},
		{"templates_dict", ops + "PythonOperator", `{` + fn("tmpl") + `,"templates_dict":{"d":"{{ ds }}"}}`, worker.OutcomeSuccess, `{"d":"2026-03-01"}`, ""},
		{"skip", ops + "PythonOperator", `{` + fn("skip") + `}`, worker.OutcomeSkipped, "", "no data"},
		{"fail", ops + "PythonOperator", `{` + fn("fail") + `}`, worker.OutcomeFailedFinal, "", "hopeless"},
		{"boom", ops + "PythonOperator", `{` + fn("boom") + `}`, worker.OutcomeFailed, "", "ValueError: boom"},
		{"exit", ops + "PythonOperator", `{` + fn("exits") + `}`, worker.OutcomeFailed, "", "sys.exit(7)"},
		{"none", ops + "PythonOperator", `{` + fn("none") + `}`, worker.OutcomeSuccess, ``, ""},
		{"push pull own", ops + "PythonOperator", `{` + fn("push") + `}`, worker.OutcomeSuccess, `{"v":1}`, ""},
		{"pull", ops + "PythonOperator", `{` + fn("pull") + `}`, worker.OutcomeSuccess, `["u",["u",null],[0,10],10]`, ""},
		{"xcomarg", std + "decorators.python._PythonDecoratedOperator", `{` + fn("add") + `,"op_kwargs":{"x":{"__type":"xcomref","__var":{"task_id":"up","key":"return_value"}},"y":"!"}}`, worker.OutcomeSuccess, `"u!"`, ""},
		{"missing", ops + "PythonOperator", `{}`, worker.OutcomeFailed, "", "python_callable: is missing"},
		{"no module", ops + "PythonOperator", `{"python_callable":{"__type":"callable","__var":"nowhere.fn"}}`, worker.OutcomeFailed, "", "No module named 'nowhere'"},
		{"external", ops + "ExternalPythonOperator", `{` + fn("isolated") + `,"python":"python3","op_args":[[1]]}`, worker.OutcomeSuccess, `"[1]"`, ""},
		{"external missing", ops + "ExternalPythonOperator", `{` + fn("isolated") + `,"python":"/nope/python"}`, worker.OutcomeFailed, "", "must exists"},
		{"external skip", ops + "ExternalPythonOperator", `{"python_callable":{"__type":"callable","__var":{"file":"callables.py","name":"exits"}},"python":"python3","skip_on_exit_code":7}`, worker.OutcomeFailed, "", "NameError"},
		{"venv", ops + "PythonVirtualenvOperator", `{` + fn("isolated") + `,"op_args":[2],"system_site_packages":false}`, worker.OutcomeSuccess, `"2"`, ""},
		{"bash deco", std + "decorators.bash._BashDecoratedOperator", `{` + fn("cmd") + `,"op_args":["x"]}`, worker.OutcomeSuccess, `"x 2026-03-01"`, ""},
		{"unknown class", "my.module.MyOperator", `{}`, worker.OutcomeFailedFinal, "", "cannot run the operator class my.module.MyOperator"},
		{"no drivers", "airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator", `{"sql":"select 1"}`, worker.OutcomeFailedFinal, "", "without database drivers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := workertest.NewBackend()
			up(b)
			d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: c.class, Kwargs: c.kwargs}, workertest.Task{ID: "up", Class: "x.Y"}, workertest.Task{ID: "m", Class: "x.Y"})
			r, log := exec1(t, workertest.Run{Backend: b, DAG: d}, "", "")
			got := workertest.XCom(r, "return_value")
			if r.Outcome != c.outcome || c.value != got || !strings.Contains(log, c.log) {
				t.Errorf("%v %s (want %v %s)\n%s", r.Outcome, got, c.outcome, c.value, log)
			}
		})
	}
}

func TestPythonTimeoutUnwinds(t *testing.T) {
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "operators.python.PythonOperator", Fields: `{"execution_timeout":0.3}`, Kwargs: `{` + fn("slow") + `}`})
	r, log := exec1(t, workertest.Run{DAG: d}, "", "")
	if r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "execution_timeout") || !strings.Contains(log, "unwound") {
		t.Errorf("%v %q\n%s", r.Outcome, r.Error, log)
	}
}

func TestMultipleOutputsAndMapping(t *testing.T) {
	const class = std + "decorators.python._PythonDecoratedOperator"
	d := workertest.DAG(t, "", "",
		workertest.Task{ID: "t", Class: class, Kwargs: `{` + fn("pair") + `}`, Fields: `{"multiple_outputs":true,"downstream_task_ids":["m"]}`},
		workertest.Task{ID: "m", Class: class, Kwargs: `{` + fn("add") + `,"op_kwargs":{"x":"{{ ds }}"}}`,
			Fields: `{"_is_mapped":true,"_expand_input_attr":"op_kwargs_expand_input","partial_kwargs":{"template_fields":["op_args","op_kwargs"]},"op_kwargs_expand_input":{"type":"dict-of-lists","value":{"__type":"dict","__var":{"y":{"__type":"xcomref","__var":{"task_id":"t","key":"return_value"}}}}}}`})
	r, log := exec1(t, workertest.Run{DAG: d}, "", "")
	if workertest.XCom(r, "a") != "1" || workertest.XCom(r, "b") != "[2]" || workertest.XCom(r, "return_value") != `{"a":1,"b":[2]}` || r.MappedLength == nil || *r.MappedLength != 2 {
		t.Errorf("%+v\n%s", r, log)
	}
	bad := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: class, Kwargs: `{` + fn("number") + `}`, Fields: `{"multiple_outputs":true}`})
	r, _ = exec1(t, workertest.Run{DAG: bad}, "", "")
	if r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "expected dictionary for multiple_outputs") {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct{ fn, want string }{{"number", "unmappable return type"}, {"none", "did not push XCom for task mapping"}} {
		d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: class, Kwargs: `{` + fn(c.fn) + `}`},
			workertest.Task{ID: "m", Class: class, Fields: `{"_is_mapped":true,"expand_input":{"type":"list-of-dicts","value":{"__type":"xcomref","__var":{"task_id":"t","key":"return_value"}}}}`})
		if r, _ := exec1(t, workertest.Run{DAG: d}, "", ""); r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, c.want) {
			t.Errorf("%s: %+v", c.fn, r)
		}
	}
}

func TestMappedArguments(t *testing.T) {
	d := workertest.DAG(t, "", "",
		workertest.Task{ID: "t", Class: std + "operators.bash.BashOperator", Kwargs: `{"env":{"A":"1"}}`,
			Fields: `{"_is_mapped":true,"map_index_template":"{{ task.bash_command }}","partial_kwargs":{"template_fields":["bash_command","env","cwd"]},
			"expand_input":{"type":"dict-of-lists","value":{"__type":"dict","__var":{"bash_command":["echo a {{ ds }}","echo b"],"env":{"__type":"xcomref","__var":{"type":"concat","args":[{"task_id":"up","key":"return_value"},[{"E":"lit"}]]}}}}}}`},
		workertest.Task{ID: "up", Class: "x.Y", Downstream: []string{"t"}})
	b := workertest.NewBackend()
	b.XComs[worker.XComQuery{DagID: "d", RunID: "r", TaskID: "up", Key: "return_value", MapIndex: -1}] = []byte(`[{"E":"x0"},{"E":"x1"}]`)
	// 2 commands × 3 environments, the last argument fastest: 4 is ("echo b", x1).
	want := map[int]string{0: `"a 2026-03-01"`, 4: `"b"`}
	for i, v := range want {
		r, log := exec1(t, workertest.Run{DAG: d, Backend: b, MapIndex: &i, Seq: uint32(i + 1)}, "", "")
		if got := workertest.XCom(r, "return_value"); got != v {
			t.Errorf("%d: %s\n%s", i, got, log)
		}
		if i == 4 && (r.RenderedMapIndex != "echo b" || !strings.Contains(string(r.RenderedFields), `"env":{"E":"x1"}`)) {
			t.Errorf("map index %q, fields %s", r.RenderedMapIndex, r.RenderedFields)
		}
	}
	i := 6
	if r, _ := exec1(t, workertest.Run{DAG: d, Backend: b, MapIndex: &i, Seq: 9}, "", ""); r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "fewer values") {
		t.Errorf("%+v", r)
	}
}

func TestMapIndexTemplateUsesWhatTheTaskAdds(t *testing.T) {
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "operators.python.PythonOperator", Kwargs: `{` + fn("label") + `}`,
		Fields: `{"_is_mapped":true,"map_index_template":"{{ label }}-{{ ti.map_index }}","expand_input":{"type":"dict-of-lists","value":{"__type":"dict","__var":{"op_args":[[],[]]}}}}`})
	i := 1
	if r, log := exec1(t, workertest.Run{DAG: d, MapIndex: &i}, "", ""); r.RenderedMapIndex != "blue-1" {
		t.Errorf("%q\n%s", r.RenderedMapIndex, log)
	}
}

func TestBranching(t *testing.T) {
	dag := func(class, kwargs string) *airflow.DAG {
		return workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: class, Kwargs: kwargs, Downstream: []string{"left", "right", "join", "td"}},
			workertest.Task{ID: "left", Class: "x.Y", Downstream: []string{"join"}}, workertest.Task{ID: "right", Class: "x.Y", Downstream: []string{"end"}},
			workertest.Task{ID: "join", Class: "x.Y"}, workertest.Task{ID: "end", Class: "x.Y"}, workertest.Task{ID: "td", Class: "x.Y", Fields: `{"is_teardown":true}`})
	}
	now := time.Now().UTC()
	inside := fmt.Sprintf(`"target_lower":"%s","target_upper":"%s"`, now.Add(-time.Hour).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339))
	const ops = std + "operators."
	for _, c := range []struct {
		name, class, kwargs string
		xcom                string
		skipped             []airflow.TaskID
		value               string
	}{
		{"one", ops + "python.BranchPythonOperator", `{` + fn("left") + `}`, `{"followed":["join","left"]}`, []airflow.TaskID{"right", "td"}, ""},
		{"two", ops + "python.BranchPythonOperator", `{` + fn("both") + `}`, `{"followed":["join","left","right"]}`, []airflow.TaskID{"td"}, ""},
		{"none", ops + "python.BranchPythonOperator", `{` + fn("none") + `}`, `{"followed":[]}`, []airflow.TaskID{"join", "left", "right", "td"}, ""},
		{"short falsy", ops + "python.ShortCircuitOperator", `{` + fn("falsy") + `}`, `{"skipped":["left","right","join","end"]}`, []airflow.TaskID{"left", "right", "join", "end"}, ""},
		{"short direct", ops + "python.ShortCircuitOperator", `{` + fn("falsy") + `,"ignore_downstream_trigger_rules":false}`, `{"skipped":["join","left","right"]}`, []airflow.TaskID{"join", "left", "right"}, ""},
		{"short truthy", ops + "python.ShortCircuitOperator", `{` + fn("truthy") + `}`, "", nil, `"yes"`},
		{"datetime in", ops + "datetime.BranchDateTimeOperator", `{"follow_task_ids_if_true":"left","follow_task_ids_if_false":["right"],` + inside + `}`, `{"followed":["join","left"]}`, []airflow.TaskID{"right", "td"}, ""},
		{"datetime out", ops + "datetime.BranchDateTimeOperator", `{"follow_task_ids_if_true":"left","follow_task_ids_if_false":["right"],"target_lower":null,"target_upper":"2020-01-01T00:00:00"}`, `{"followed":["right"]}`, []airflow.TaskID{"join", "left", "td"}, ""},
		{"datetime clock", ops + "datetime.BranchDateTimeOperator", `{"follow_task_ids_if_true":"left","follow_task_ids_if_false":["right"],"target_lower":"20:00:00","target_upper":"02:00:00","use_task_logical_date":true}`, `{"followed":["join","left"]}`, []airflow.TaskID{"right", "td"}, ""},
		{"weekday", ops + "weekday.BranchDayOfWeekOperator", `{"follow_task_ids_if_true":"left","follow_task_ids_if_false":"right","week_day":["Sunday","monday"],"use_task_logical_date":true}`, `{"followed":["join","left"]}`, []airflow.TaskID{"right", "td"}, ""},
		{"latest: no next", ops + "latest_only.LatestOnlyOperator", `{}`, `{"followed":["join","left","right","td"]}`, nil, `["join","left","right","td"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := exec1(t, workertest.Run{DAG: dag(c.class, c.kwargs)}, "", "")
			var tasks []airflow.TaskID
			if r.Skip != nil {
				tasks = r.Skip.Tasks
			}
			if r.Outcome != worker.OutcomeSuccess || workertest.XCom(r, worker.SkipMixinKey) != c.xcom || fmt.Sprint(tasks) != fmt.Sprint(c.skipped) || workertest.XCom(r, "return_value") != c.value {
				t.Errorf("%v xcom %s skipped %v value %s\n%s", r.Outcome, workertest.XCom(r, worker.SkipMixinKey), tasks, workertest.XCom(r, "return_value"), log)
			}
		})
	}
	r, _ := exec1(t, workertest.Run{DAG: dag(ops+"python.BranchPythonOperator", `{`+fn("bad")+`}`)}, "", "")
	if r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "Invalid tasks found: [\"nowhere\"]") {
		t.Errorf("%+v", r)
	}
	r, _ = exec1(t, workertest.Run{DAG: dag(ops+"python.BranchPythonOperator", `{`+fn("number")+`}`)}, "", "")
	if r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "must be either None, a task ID, or an Iterable") {
		t.Errorf("%+v", r)
	}
	b := workertest.NewBackend()
	b.Next = &[2]time.Time{workertest.LogicalDate.AddDate(0, 0, 1), workertest.LogicalDate.AddDate(0, 0, 1)}
	old := func(tc *worker.TaskContext) {
		ld := tc.Run.LogicalDate.AddDate(-1, 0, 0)
		tc.Run.DataIntervalStart = &ld
	}
	now2 := func() time.Time { return workertest.LogicalDate.AddDate(0, 0, 2) }
	r, log := exec1(t, workertest.Run{DAG: dag(ops+"latest_only.LatestOnlyOperator", `{}`), Backend: b, Change: old, Options: taskrunner.Options{Clock: now2}}, "", "")
	if workertest.XCom(r, worker.SkipMixinKey) != `{"followed":[]}` {
		t.Errorf("not the latest run: %+v\n%s", r, log)
	}
}

func TestOutlets(t *testing.T) {
	asset := func(n string) string {
		return `{"__type":"asset","__var":{"name":"` + n + `","uri":"s3://` + n + `","group":"asset","extra":{}}}`
	}
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "operators.python.PythonOperator", Kwargs: `{` + fn("events") + `}`, Fields: `{"outlets":[` + asset("a") + `,` + asset("b") + `]}`})
	r, log := exec1(t, workertest.Run{DAG: d}, "", "")
	if len(r.AssetEvents) != 2 || string(r.AssetEvents[0].Extra) != `{"rows":3}` || r.AssetEvents[1].Asset.Name != "b" || len(r.AssetEvents[1].Extra) != 0 {
		t.Errorf("%+v\n%s", r.AssetEvents, log)
	}
}
