package operator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

// TestFromYAML runs tasks of a YAML file as the loader serializes them: the two
// sides of airflow.OperatorSpec must agree.
func TestFromYAML(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"callables.py": callables,
		"lib/extra.py": "def greet(name, ds):\n    return f'{name}@{ds}'\n",
		"dags/run.sh":  "echo from file {{ ds }}",
		"dags/d.yml": `
d:
  start_date: 2024-01-01
  params: {who: world}
  default_args: {owner: me, retries: 1}
  tasks:
    - {task_id: bash, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ params.who }} $K", env: {K: "{{ ds }}"}, append_env: true}
    - {task_id: script, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: run.sh}
    - {task_id: py, operator: airflow.operators.python.PythonOperator, python_callable: callables.hello, op_kwargs: {name: "{{ params.who }}"}}
    - {task_id: by_file, operator: airflow.operators.python.PythonOperator, python_callable_name: greet, python_callable_file: ` + filepath.ToSlash(filepath.Join(dir, "lib/extra.py")) + `, op_kwargs: {name: f}}
    - {task_id: pair, decorator: airflow.sdk.task, python_callable: callables.pair, multiple_outputs: true}
    - {task_id: sum, decorator: airflow.sdk.task, python_callable: callables.add, x: "+pair['a']", y: 5}
    - {task_id: mapped, decorator: airflow.sdk.task, python_callable: callables.add, partial: {x: 10}, expand: {y: [1, 2]}}
    - {task_id: mbash, operator: airflow.operators.bash.BashOperator, expand: {bash_command: ["echo 0", "echo {{ ds }}"]}}
    - {task_id: wait, operator: airflow.providers.standard.sensors.time_delta.TimeDeltaSensor, delta: {__type__: datetime.timedelta, minutes: 1}}
    - {task_id: tod, operator: airflow.providers.standard.sensors.time.TimeSensor, target_time: {__type__: datetime.time, hour: 0}}
    - {task_id: trigger, operator: airflow.providers.standard.operators.trigger_dagrun.TriggerDagRunOperator, trigger_dag_id: x, conf: {a: "{{ ds }}"}}
    - {task_id: cb, operator: airflow.operators.bash.BashOperator, bash_command: "exit 1", on_failure_callback: {callback: callables.left}}
    - task_id: call
      operator: airflow.providers.http.operators.http.HttpOperator
      endpoint: http://127.0.0.1:1/x
      auth_type: requests.auth.HTTPDigestAuth
      retry_args:
        stop: {__type__: tenacity.stop_after_attempt, __args__: [2]}
        wait: {__type__: tenacity.wait_exponential, multiplier: 0.01, max: 1}
        retry: {__type__: tenacity.retry_if_exception_type, exception_types: requests.exceptions.ConnectionError}
    - {task_id: glue, operator: airflow.providers.amazon.aws.operators.s3.S3ListOperator, bucket: b}
`,
	}
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	res := dagspec.Load(dagspec.Dir{}, filepath.Join(dir, "dags/d.yml"), dagspec.Options{BundleRoot: dir, Now: time.Now()})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	if len(res.DAGs) != 1 {
		t.Fatalf("%d DAGs", len(res.DAGs))
	}
	d := res.DAGs[0].DAG
	b := workertest.NewBackend()
	b.XComs[worker.XComQuery{DagID: "d", RunID: "r", TaskID: "pair", Key: "a", MapIndex: -1}] = []byte("1")
	for _, c := range []struct {
		task    string
		index   int
		outcome worker.Outcome
		want    string
	}{
		{"bash", -1, worker.OutcomeSuccess, `"world 2026-03-01"`},
		{"script", -1, worker.OutcomeSuccess, `"from file 2026-03-01"`},
		{"py", -1, worker.OutcomeSuccess, `"hello world 2026-03-01"`},
		{"by_file", -1, worker.OutcomeSuccess, `"f@2026-03-01"`},
		{"pair", -1, worker.OutcomeSuccess, `{"a":1,"b":[2]}`},
		{"sum", -1, worker.OutcomeSuccess, `6`},
		{"mapped", 1, worker.OutcomeSuccess, `12`},
		{"mbash", 1, worker.OutcomeSuccess, `"2026-03-01"`},
		{"wait", -1, worker.OutcomeSuccess, ``},
		{"tod", -1, worker.OutcomeSuccess, ``},
		{"trigger", -1, worker.OutcomeSuccess, ``},
		{"cb", -1, worker.OutcomeFailed, ``},
		{"call", -1, worker.OutcomeFailed, ``},
		{"glue", -1, worker.OutcomeFailedFinal, ``},
	} {
		t.Run(c.task, func(t *testing.T) {
			r, log, err := workertest.Run{Backend: b, DAG: d, Task: c.task, MapIndex: &c.index, Options: taskrunner.Options{Python: shared.host},
				Change: func(tc *worker.TaskContext) { tc.BundleDir = dir }}.Do(t, Default())
			if err != nil {
				t.Fatal(err)
			}
			if got := workertest.XCom(r, "return_value"); r.Outcome != c.outcome || got != c.want {
				t.Errorf("%v %s, want %v %s\n%s", r.Outcome, got, c.outcome, c.want, log)
			}
			if c.task == "pair" && workertest.XCom(r, "a") != "1" {
				t.Error("multiple_outputs did not push its keys")
			}
			if c.task == "call" && !strings.Contains(r.Error, "RetryError: attempt 2: ") {
				t.Errorf("%q", r.Error)
			}
			if c.task == "glue" && !strings.Contains(r.Error, "S3ListOperator") {
				t.Errorf("%q", r.Error)
			}
		})
	}
	if len(b.Triggered) != 1 || string(b.Triggered[0].Conf) != `{"a":"2026-03-01"}` {
		t.Errorf("%+v", b.Triggered)
	}
	if specs := d.Gust.Operators[airflow.TaskID("cb")].Callbacks["on_failure_callback"]; len(specs) != 1 {
		t.Errorf("callbacks %s", specs)
	}
}
