package dagspec

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// TestSuperset loads what dag-factory refuses or drops and Gust honours.
func TestSuperset(t *testing.T) {
	dir, opt, py := malformedDir(t)
	defer py.Close()
	text := `d:
  start_date: 2025-01-01
  fail_fast: true
  max_consecutive_failed_dag_runs: 4
  owner_links: {me: "https://example.com"}
  user_defined_filters: {hi: vec_callables.hello}
  task_groups:
    g: {prefix_group_id: false}
    h: {}
  tasks:
    - {task_id: s, operator: BashOperator, bash_command: echo, is_setup: true}
    - {task_id: a, operator: airflow.operators.bash_operator.BashOperator, bash_command: echo, task_group_name: g, dependencies: [s], execution_timeout: 30}
    - {task_id: b, operator: airflow.operators.dummy_operator.DummyOperator, dependencies: [a], start_date: "2025-02-01"}
    - {task_id: c, decorator: airflow.sdk.task.branch, python_callable: vec_callables.choose, task_group_name: h, dependencies: [b]}
    - {task_id: e, operator: EmptyOperator, dependencies: [c], on_failure_callback: [vec_callables.on_fail, {callback: vec_callables.on_ok, level: 2}]}
    - {task_id: m, operator: BashOperator, parameters: {bash_command: echo m}, upstream_tasks: [e], downstream_tasks: [z]}
    - {task_id: z, operator: EmptyOperator}
    - {task_id: t, operator: BashOperator, bash_command: echo, is_teardown: true, dependencies: [s, z], on_failure_fail_dagrun: true}
`
	write(t, dir, "dag.yml", text)
	opt.Strict = false
	res := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	d := res.DAGs[0].DAG
	if !d.FailFast || d.MaxConsecutiveFailedDagRuns != 4 || d.OwnerLinks["me"] == "" || d.Gust.UserDefinedFilters["hi"] == nil {
		t.Errorf("dropped: %+v", d)
	}
	check := func(id airflow.TaskID, want bool, what string) {
		if !want {
			t.Errorf("%s: %s: %+v", id, what, d.Task(id))
		}
	}
	check("s", d.Task("s").IsSetup, "is_setup")
	check("t", d.Task("t").IsTeardown && d.Task("t").OnFailureFailDagrun && d.Task("t").TriggerRule == "all_done_setup_success", "is_teardown")
	check("a", d.Task("a").ExecutionTimeout == 30*time.Second && d.Task("a").ClassPath() == "airflow.providers.standard.operators.bash.BashOperator", "timeout")
	check("b", len(d.Task("b").Upstream) == 1 && d.Task("b").IsEmpty && d.Task("b").StartDate.Month() == 2, "dependency into a group without prefix")
	check("h.c", d.Task("h.c").OperatorName == "@task.branch" && d.Task("h.c").CanSkipDownstream, "branch decorator")
	check("e", len(d.Gust.Operators["e"].Callbacks["on_failure_callback"]) == 2, "list of callbacks")
	check("z", len(d.Task("z").Upstream) == 1 && d.Task("m").Upstream[0] == "e", "upstream_tasks and downstream_tasks")
	if len(res.Warnings) < 8 {
		t.Errorf("each use of the superset must be a warning: %v", res.Warnings)
	}
	opt.Strict = true
	if res := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt); len(res.Problems) < 6 {
		t.Errorf("strict mode accepted too much: %v", res.Problems)
	}
}

// TestUnevaluableTimetable refuses schedules that Gust's scheduler cannot evaluate.
func TestUnevaluableTimetable(t *testing.T) {
	text := "d:\n  start_date: 2025-01-01\n  schedule: {__type__: airflow.sdk.CronPartitionTimetable, __args__: ['0 0 * * *'], timezone: UTC}\n  tasks: []\n"
	opt := Options{BundleRoot: "/dags"}
	res := Load(memSource(text), "/dags/dag.yml", opt)
	if len(res.Problems) != 1 || !strings.Contains(res.Problems[0].Message, "CronPartitionTimetable") || res.Problems[0].Line != 3 {
		t.Errorf("problems: %v", res.Problems)
	}
	opt.Strict = true
	if res := Load(memSource(text), "/dags/dag.yml", opt); len(res.DAGs) != 1 {
		t.Errorf("strict: %v", res.Problems)
	}
}

// TestWithoutPython checks that DAGs load, with a warning, where no python3 is.
func TestWithoutPython(t *testing.T) {
	dir, opt, py := malformedDir(t)
	py.Close()
	text := `d:
  start_date: 2025-01-01
  tasks:
    a: {operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: no.such.function}
    b: {operator: my.own.Operator, anything: goes}
    c: {decorator: airflow.sdk.task, python_callable: mod.fn, x: 1, retries: 2}
`
	write(t, dir, "dag.yml", text)
	for _, p := range []Python{nil, &Interpreter{Path: "/nonexistent/python3"}} {
		opt.Python = p
		res := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
		if err := res.Err(); err != nil {
			t.Fatal(err)
		}
		if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Message, "python3") {
			t.Errorf("warnings: %v", res.Warnings)
		}
		if got := string(res.DAGs[0].DAG.Gust.Operators["c"].Kwargs["op_kwargs"]); !strings.Contains(got, `"x":1`) {
			t.Errorf("call arguments: %s", got)
		}
	}
}

// TestUnknownProvider loads an operator of a provider that the table lacks.
func TestUnknownProvider(t *testing.T) {
	text := `d:
  start_date: 2025-01-01
  tasks:
    a: {operator: airflow.providers.acme.operators.rocket.RocketOperator, thrust: 5}
    b: {operator: airflow.providers.amazon.aws.operators.sns.SnsPublishOperator, target_arn: a, message: "{{ ds }}", dependencies: [a]}
`
	res := Load(memSource(text), "/dags/dag.yml", Options{BundleRoot: "/dags"})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	if w := res.DAGs[0].DAG.Gust.Warnings; len(w) != 2 || !strings.Contains(w[0], "fail when they are dispatched") {
		t.Errorf("warnings in the document: %v", w)
	}
	if got := res.DAGs[0].DAG.Task("b").TemplateFields; len(got) == 0 {
		t.Error("the table's template fields are missing")
	}
}

func TestInterpreterCall(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "fns.py", `
from airflow.sdk import BaseNotifier, task
import os, time

class N(BaseNotifier):
    pass

@task
def decorated():
    return 1

def plain(a, b=2):
    print("noise")
    return {"sum": a + b, "home": os.environ.get("HOME"), "secret": os.environ.get("AWS_SECRET_ACCESS_KEY")}

def raises():
    raise ValueError("no")

def slow():
    time.sleep(60)

def obj():
    return N()

def writes():
    with open(os.path.join(os.path.dirname(__file__), "out"), "w") as f:
        f.write("x" * 10)
`)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hidden")
	py := NewInterpreter(dir)
	py.CallTimeout = 3 * time.Second
	defer py.Close()
	if _, err := py.Module("fns"); errors.Is(err, ErrNoPython) {
		t.Skip("no python3 here")
	}
	call := func(name, kwargs string) (PyResult, error) {
		return py.Call(PyCall{Module: "fns", File: filepath.Join(dir, "fns.py"), Name: name, Kwargs: []byte(kwargs)})
	}
	res, err := call("plain", `{"a": 1}`)
	if err != nil || !strings.Contains(string(res.Value), `"sum": 3`) && !strings.Contains(string(res.Value), `"sum":3`) || strings.Contains(string(res.Value), "hidden") {
		t.Errorf("plain: %s %+v %v", res.Value, res, err)
	}
	if res, err := call("raises", `{}`); err != nil || res.Error != "ValueError" || res.Message != "no" {
		t.Errorf("raises: %+v %v", res, err)
	}
	if res, err := call("obj", `{}`); err != nil || res.Class != "fns.N" {
		t.Errorf("obj: %+v %v", res, err)
	}
	if res, err := call("writes", `{}`); err == nil && res.Error != "OSError" {
		t.Errorf("a call could write a file: %+v", res)
	}
	start := time.Now()
	if _, err := call("slow", `{}`); err == nil || time.Since(start) > 8*time.Second {
		t.Errorf("slow: %v after %v", err, time.Since(start))
	}
}

// TestDumpYAML checks the emitter on what the vectors show seldom.
func TestDumpYAML(t *testing.T) {
	shared := &date{2024, 1, 1}
	for want, v := range map[string]value{
		"a: &id001 2024-01-01\nb: *id001\n":     &dict{entries: []entry{{key: "a", val: shared}, {key: "b", val: shared}}},
		"- []\n- {}\n- - 1\n  - - 2\n":          newList(&list{}, &dict{}, newList(int64(1), newList(int64(2)))),
		"1: true\nnull: 1.0e+20\n'yes': 'no'\n": &dict{entries: []entry{{key: int64(1), val: true}, {key: nil, val: 1e20}, {key: "yes", val: "no"}}},
		"? - 1\n: x\n":                          &dict{entries: []entry{{key: newList(int64(1)), val: "x"}}},
		"- \"tab\\t\"\n- '#'\n- é\n":            newList("tab\t", "#", "é"),
	} {
		if got := dumpYAML(v); got != want {
			t.Errorf("dump =\n%s\nwant\n%s", got, want)
		}
	}
}

// TestPositionsAfterExpansion checks that places lead back to the file on disk.
func TestPositionsAfterExpansion(t *testing.T) {
	text := "d:\n  description: ${LONG} # ${LONG}\n  start_date: ${LONG}\n  max_active_runs: [$X] \n  tasks: []\n"
	src := Dir{Env: func(n string) (string, bool) {
		return map[string]string{"LONG": strings.Repeat("long ", 20), "X": "a\nb"}[n], n == "LONG" || n == "X"
	}}
	dir := t.TempDir()
	write(t, dir, "d.yml", text)
	res := Load(src, filepath.Join(dir, "d.yml"), Options{BundleRoot: dir})
	got := res.Err().Error()
	for _, want := range []string{"d.yml:3:15: d.start_date", "d.yml:4:20: d.max_active_runs"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
