package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const effectFile = `effect:
  schedule: null
  is_paused_upon_creation: false
  params: {who: params}
  tasks:
    say: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo first {{ params.who }}"}
own:
  schedule: null
  is_paused_upon_creation: false
  rerun_with_latest_version: false
  tasks:
    say: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo first"}
`

// TestSettingsTakeEffect runs a DAG under a configuration with other values than
// Airflow's, given as Airflow takes them.
func TestSettingsTakeEffect(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	for k, v := range map[string]string{
		"CORE__DEFAULT_TASK_RETRIES": "1", "CORE__DEFAULT_TASK_RETRY_DELAY": "7", "OPERATORS__DEFAULT_QUEUE": "big", "OPERATORS__DEFAULT_OWNER": "data",
		"CORE__MAX_CONSECUTIVE_FAILED_DAG_RUNS_PER_DAG": "4", "CORE__DEFAULT_TIMEZONE": "Europe/Berlin",
		"API__BASE_URL": "https://gust.example/ui/", "CORE__HIDE_SENSITIVE_VAR_CONN_FIELDS": "False", "CORE__MAX_TASK_RETRY_DELAY": "1",
		"CORE__DAG_RUN_CONF_OVERRIDES_PARAMS": "False", "CORE__RERUN_WITH_LATEST_VERSION": "True", "GUST__RECORD_DECISIONS": "False",
	} {
		s.env["AIRFLOW__"+k] = v
	}
	s.env["AIRFLOW_VAR_DB_PASSWORD"] = "open-sesame"
	s.write("effect.yml", effectFile)
	s.write("shown.yml", `shown:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    say:
      operator: BashOperator
      bash_command: "echo first {{ ti.log_url }} {{ var.value.db_password }}; test {{ ti.try_number }} = 2"
      retry_exponential_backoff: 2
`)
	s.server(nil)
	details := s.ok("dags", "details", "effect", "-o", "json")
	for _, want := range []string{`"max_consecutive_failed_dag_runs": 4`, `"Europe/Berlin"`} {
		if !strings.Contains(details, want) {
			t.Errorf("%s is missing in %s", want, details)
		}
	}
	if l := s.list("tasks", "list", "effect"); len(l) != 1 || l[0]["retries"] != 1.0 || l[0]["queue"] != "big" || l[0]["owner"] != "data" || l[0]["retry_delay"] != 7.0 {
		t.Errorf("tasks: %v", l)
	}
	logged := func(dag, attempt, want string) bool {
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			b, err := os.ReadFile(filepath.Join(s.home, "logs", "dag_id="+dag, "run_id=a", "task_id=say", attempt))
			if err == nil && (strings.Contains(string(b), `"first`) || strings.Contains(string(b), `"second`)) {
				return strings.Contains(string(b), want)
			}
		}
		return false
	}
	s.ok("dags", "trigger", "effect", "-r", "a", "-c", `{"who": "conf"}`, "--wait")
	s.ok("dags", "trigger", "own", "-r", "a", "--wait")
	if !logged("effect", "attempt=1.log", "first params") {
		t.Errorf("the run's conf overrode params")
	}
	s.ok("dags", "trigger", "shown", "-r", "a:b+c", "--wait") // its retry waits 1 s, not 7 s and more
	if b, err := os.ReadFile(filepath.Join(s.home, "logs", "dag_id=shown", "run_id=a:b+c", "task_id=say", "attempt=2.log")); err != nil ||
		!strings.Contains(string(b), "first https://gust.example/ui/dags/shown/runs/a%3Ab%2Bc/tasks/say?try_number=2 open-sesame") {
		t.Errorf("base_url, hide_sensitive_var_conn_fields: %v\n%s", err, b)
	}
	s.write("effect.yml", strings.ReplaceAll(effectFile, "echo first", "echo second"))
	for _, dag := range []string{"effect", "own"} { // the server reads the file by itself
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.ok("dags", "details", dag, "-o", "json"), `"latest_dag_version": 2`); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the new version was not noticed")
			}
		}
	}
	s.ok("tasks", "clear", "effect", "-y")
	s.ok("tasks", "clear", "own", "-y")
	if !logged("effect", "attempt=2.log", "second params") {
		t.Error("a cleared run did not run on the newest version, as configured")
	}
	if !logged("own", "attempt=2.log", "first") {
		t.Error("a cleared run ran on the newest version, though its DAG says no")
	}
	if files, err := filepath.Glob(filepath.Join(s.home, "records", "*")); err != nil || len(files) > 0 {
		t.Errorf("steps were recorded: %v %v", files, err)
	}
}
