package dagspec

import (
	"strings"
	"testing"
	"time"
)

// TestOldAndUnusedDefaults: what dag-factory ignores in default_args works or warns.
func TestOldAndUnusedDefaults(t *testing.T) {
	const text = `default:
  default_args: {shared_by_others: 1}
d:
  start_date: 2025-01-01
  dagrun_timeout_sec: 60
  default_args: {retry_delay_sec: 5, execution_timeout_secs: 1.5, retires: 3, bash_command: echo, x: 1}
  task_groups: {g: {default_args: {retreis: 2}}}
  tasks:
    - {task_id: a, operator: bash}
    - {task_id: b, operator: empty, retry_delay_sec: 7, task_group_name: g}
    - {task_id: c, operator: python_operator, python_callable: os.getcwd, retry_delay: 9, retry_delay_sec: 7}
`
	res := Load(memSource(text), "/dags/dag.yml", Options{BundleRoot: "/dags"})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	d := res.DAGs[0].DAG
	if d.DagrunTimeout != time.Minute || d.Task("a").RetryDelay != 5*time.Second || d.Task("a").ExecutionTimeout != 1500*time.Millisecond ||
		d.Task("g.b").RetryDelay != 7*time.Second || d.Task("c").RetryDelay != 9*time.Second {
		t.Errorf("keys in seconds: %v %v %v %v", d.DagrunTimeout, d.Task("a"), d.Task("g.b"), d.Task("c"))
	}
	var got []string
	for _, w := range res.Warnings {
		got = append(got, w.String())
	}
	all := strings.Join(got, "\n")
	for text, n := range map[string]int{"is read as": 4, "has no effect beside retry_delay": 1, "no task takes 'retires': it has no effect: did you mean retries?": 1,
		"no task takes 'retreis'": 1, "shared_by_others": 0, "bash_command": 0, "no task takes 'x'": 1} {
		if strings.Count(all, text) != n {
			t.Errorf("%q: %d times, want %d:\n%s", text, strings.Count(all, text), n, all)
		}
	}
	if res := Load(memSource(text), "/dags/dag.yml", Options{BundleRoot: "/dags", Strict: true}); res.Err() == nil {
		t.Error("strict mode takes a key that dag-factory 1.x refuses")
	}
	if res := Load(memSource("d: {start_date: 2025-01-01, default_args: {retry_delay_sec: soon}, tasks: []}\n"), "/dags/dag.yml", Options{}); res.Err() == nil || !strings.Contains(res.Err().Error(), "number of seconds") {
		t.Errorf("%v", res.Err())
	}
}

// TestShortNames resolves operators by class name and in snake case.
func TestShortNames(t *testing.T) {
	const std = "airflow.providers.standard."
	for short, want := range map[string]string{
		"bash": std + "operators.bash.BashOperator", "bash_operator": std + "operators.bash.BashOperator", "BashOperator": std + "operators.bash.BashOperator",
		"empty": std + "operators.empty.EmptyOperator", "dummy": std + "operators.empty.EmptyOperator", "python": std + "operators.python.PythonOperator",
		"branch_python": std + "operators.python.BranchPythonOperator", "short_circuit": std + "operators.python.ShortCircuitOperator",
		"latest_only": std + "operators.latest_only.LatestOnlyOperator", "trigger_dag_run": std + "operators.trigger_dagrun.TriggerDagRunOperator",
		"trigger_dagrun": std + "operators.trigger_dagrun.TriggerDagRunOperator", "external_task_sensor": std + "sensors.external_task.ExternalTaskSensor",
		"file_sensor": std + "sensors.filesystem.FileSensor", "http": "airflow.providers.http.operators.http.HttpOperator", "http_sensor": "airflow.providers.http.sensors.http.HttpSensor",
		"sql": "airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator", "sql_execute_query": "airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator",
		"python_virtualenv": std + "operators.python.PythonVirtualenvOperator", "time_delta_sensor": std + "sensors.time_delta.TimeDeltaSensor",
		"Bash": "", "bashoperater": "", "": "",
	} {
		l := &loader{classes: map[string]*opClass{}}
		c, err := l.operatorClass(short)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %s", short, c.Class)
		case want != "" && (err != nil || c.Class != want):
			t.Errorf("%s: %v, want %s", short, err, want)
		}
		l = &loader{classes: map[string]*opClass{}, opt: Options{Strict: true}}
		if _, err := l.operatorClass(short); err == nil {
			t.Errorf("strict mode takes %q", short)
		}
	}
}

// TestEventDates: dates without an offset are of the default time zone.
func TestEventDates(t *testing.T) {
	const text = `d:
  start_date: 2025-01-01
  schedule: {__type__: airflow.timetables.events.EventsTimetable, event_dates: [2026-07-01 06:00:00, 2026-07-02 06:00:00+00:00, "2026-07-03T06:00:00Z", 2026-07-04]}
  tasks: [{task_id: a, operator: empty}]
`
	res := Load(memSource(text), "/dags/dag.yml", Options{BundleRoot: "/dags", Config: Config{DefaultTimezone: "Europe/Berlin"}})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	if got := string(res.DAGs[0].Document); !strings.Contains(got, `"event_dates":["2026-07-01T06:00:00+02:00","2026-07-02T06:00:00+00:00","2026-07-03T06:00:00+00:00","2026-07-04T00:00:00+02:00"]`) {
		t.Errorf("%s", got)
	}
	n := 0
	for _, w := range res.Warnings {
		if strings.Contains(w.Message, "has no offset and counts as Europe/Berlin") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d warnings: %v", n, res.Warnings)
	}
}
