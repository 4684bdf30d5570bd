package dagspec

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// TestConfiguredDefaults loads a DAG that says nothing and one that says
// everything under a configuration with other defaults than Airflow's.
func TestConfiguredDefaults(t *testing.T) {
	dir, opt, py := malformedDir(t)
	defer py.Close()
	opt.Strict = false
	write(t, dir, "dag.yml", `silent:
  schedule: "0 3 * * *"
  tasks:
    - {task_id: a, operator: EmptyOperator, start_date: 2025-02-01 00:00:00}
    - {task_id: s, operator: FileSensor, filepath: /x}
    - {task_id: d, decorator: airflow.sdk.task, python_callable: vec_callables.hello}
    - {task_id: m, operator: BashOperator, expand: {bash_command: [echo]}}
    - {task_id: ms, operator: FileSensor, expand: {filepath: [/x], timeout: [1]}}
loud:
  start_date: 2025-01-01
  schedule: {__type__: datetime.timedelta, hours: 1}
  max_consecutive_failed_dag_runs: 4
  default_args: {retries: 7, owner: me, email_on_retry: true}
  tasks:
    - {task_id: s, operator: FileSensor, filepath: /x, timeout: 5, deferrable: false, retry_delay: 1, execution_timeout: null, queue: q, weight_rule: upstream, email_on_failure: true}
`)
	load := func(c Config) (silent, loud *airflow.DAG) {
		t.Helper()
		opt.Config = c
		res := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
		if err := res.Err(); err != nil {
			t.Fatal(err)
		}
		return res.DAGs[0].DAG, res.DAGs[1].DAG
	}
	plain, plainLoud := load(Config{})
	c := Config{
		MaxConsecutiveFailedDagRuns: 9, DefaultTimezone: "Europe/Berlin", CreateCronDataIntervals: true, TaskRetries: 2, TaskRetryDelay: 90 * time.Second,
		TaskWeightRule: "absolute", TaskExecutionTimeout: time.Hour, Owner: "data", Queue: "big", Deferrable: true, SensorTimeout: 100 * time.Second,
		NoEmailOnRetry: true, NoEmailOnFailure: true,
	}
	silent, loud := load(c)
	for _, id := range []airflow.TaskID{"a", "s", "d", "m", "ms"} {
		x, raw := silent.Task(id), func(k string) string {
			x := silent.Task(id)
			if x.Raw[k] != nil {
				return string(x.Raw[k])
			}
			var partial map[string]json.RawMessage
			_ = json.Unmarshal(x.Raw["partial_kwargs"], &partial)
			return string(partial[k])
		}
		if x.Retries != 2 || x.RetryDelay != 90*time.Second || x.ExecutionTimeout != time.Hour || x.Owner != "data" || x.Queue != "big" ||
			!strings.Contains(string(x.WeightRule), "absolute") || raw("email_on_retry") != "false" || raw("email_on_failure") != "false" {
			t.Errorf("%s is not as configured: %+v", id, x)
		}
		if y := plain.Task(id); y.Retries != 0 || y.RetryDelay != 300*time.Second || y.ExecutionTimeout != 0 || y.Owner != "airflow" || y.Queue != "default" {
			t.Errorf("%s is not Airflow's default: %+v", id, y)
		}
	}
	kwargs := func(d *airflow.DAG, id airflow.TaskID, k string) string {
		return string(d.Gust.Operators[id].Kwargs[k])
	}
	if got := kwargs(silent, "s", "timeout"); got != "100" {
		t.Errorf("timeout of a sensor: %s", got)
	}
	if got := kwargs(silent, "s", "deferrable"); got != "true" {
		t.Errorf("deferrable of a sensor: %q", got)
	}
	if got := kwargs(silent, "a", "deferrable") + kwargs(silent, "a", "timeout") + kwargs(silent, "ms", "timeout") + kwargs(plain, "s", "timeout"); got != "" {
		t.Errorf("a task got what it does not take, maps over, or what is the default: %s", got)
	}
	if silent.MaxConsecutiveFailedDagRuns != 9 || silent.Timezone != "Europe/Berlin" || plain.Timezone != "UTC" || plain.MaxConsecutiveFailedDagRuns != 0 {
		t.Errorf("DAG: %d %s, %d %s", silent.MaxConsecutiveFailedDagRuns, silent.Timezone, plain.MaxConsecutiveFailedDagRuns, plain.Timezone)
	}
	if a, b := silent.Task("a").StartDate, plain.Task("a").StartDate; a == nil || b == nil || b.Sub(*a) != time.Hour {
		t.Errorf("a date without a zone is of the default time zone: %v, %v", a, b)
	}
	timetable := func(d *airflow.DAG, want string) {
		t.Helper()
		if !strings.Contains(string(d.Timetable), want) {
			t.Errorf("%s: timetable %s, want %s", d.DagID, d.Timetable, want)
		}
	}
	timetable(plain, ttCron)
	timetable(plainLoud, ttDelta)
	timetable(silent, ttCronData)
	timetable(loud, ttDeltaData)
	cron, delta := load(Config{CreateDeltaDataIntervals: true})
	timetable(cron, ttCron)
	timetable(delta, ttDeltaData)

	x := loud.Task("s")
	if x.Retries != 7 || x.Owner != "me" || x.RetryDelay != time.Second || x.ExecutionTimeout != 0 || x.Queue != "q" || !strings.Contains(string(x.WeightRule), "upstream") ||
		x.Raw["email_on_retry"] != nil || x.Raw["email_on_failure"] != nil || kwargs(loud, "s", "timeout") != "5" || kwargs(loud, "s", "deferrable") != "false" || loud.MaxConsecutiveFailedDagRuns != 4 {
		t.Errorf("the configuration overrode what the DAG says: %+v", x)
	}
	if d, _ := load(Config{TaskRetryDelay: -1}); d.Task("a").RetryDelay != 0 {
		t.Errorf("no retry delay: %v", d.Task("a").RetryDelay)
	}
	opt.Config = Config{DefaultTimezone: "Mars/Olympus"}
	if err := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt).Err(); err == nil || !strings.Contains(err.Error(), "default_timezone") {
		t.Errorf("unknown default time zone: %v", err)
	}
}
