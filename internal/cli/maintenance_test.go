package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/retention"
)

const echoFile = `echoes:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    say: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo hello {{ conn.api.password }}"}
`

// server runs a server on the shell's home until the test ends.
func (s *shell) server(change func(*localapp.Options)) {
	s.t.Helper()
	c := &command{home: s.home, env: Env{Getenv: func(string) string { return "" }, Environ: func() []string {
		var kv []string
		for k, v := range s.env {
			kv = append(kv, k+"="+v)
		}
		return kv
	}}}
	o, err := c.options("", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		c.close()
	})
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		s.t.Fatal("no server after 20 s")
	}
}

// count returns the row_count of a table in the output of db clean.
func count(rs []map[string]any, table string) any {
	for _, r := range rs {
		if r["table_name"] == table {
			return r["row_count"]
		}
	}
	return nil
}

func TestCleanBesideAServer(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	s.write("echoes.yml", echoFile)
	s.ok("connections", "add", "api", "--conn-uri", "http://u:verysecret@h")
	s.server(nil)
	for _, id := range []string{"a", "b"} {
		if l := s.list("dags", "trigger", "echoes", "-r", id, "--wait"); l[0]["state"] != "success" {
			t.Fatalf("%v", l)
		}
	}
	logs := filepath.Join(s.home, "logs", "dag_id=echoes", "run_id=a", "task_id=say", "attempt=1.log")
	b, err := os.ReadFile(logs)
	if err != nil || !strings.Contains(string(b), "hello ***") || strings.Contains(string(b), "verysecret") {
		t.Fatalf("log: %s %v", b, err)
	}
	s.fails(ExitUsage, "--clean-before-timestamp is needed", "db", "clean")
	s.fails(ExitUsage, "lies in the future", "db", "clean", "--clean-before-timestamp", "2999-01-01")
	s.fails(ExitUsage, `table "odd" is unknown`, "db", "clean", "--clean-before-timestamp", "2026-01-01", "-t", "odd")
	if r := s.run("db", "clean", "--clean-before-timestamp", "2020-01-01", "-t", "job,celery_taskmeta", "-y"); r.code != ExitOK || !strings.Contains(r.err, "table job: nothing to clean") {
		t.Errorf("tables of Airflow that do not exist here: %d %s", r.code, r.err)
	}

	s.now = time.Now()
	cutoff := s.now.UTC().Format(time.RFC3339Nano)
	dry := s.list("db", "clean", "--clean-before-timestamp", cutoff, "--dry-run")
	if count(dry, "dag_run") != 2.0 || count(dry, "xcom") != 2.0 || count(dry, "task_log") != 2.0 {
		t.Errorf("dry run: %v", dry)
	}
	s.stdin = "n\n"
	s.fails(ExitFailed, "nothing was removed", "db", "clean", "--clean-before-timestamp", cutoff)
	s.stdin = ""
	s.fails(ExitUsage, "not confirmed", "db", "clean", "--clean-before-timestamp", cutoff)
	if l := s.list("dags", "list-runs", "echoes"); len(l) != 2 {
		t.Fatalf("removed without consent: %v", l)
	}
	if l := s.list("db", "clean", "--clean-before-timestamp", cutoff, "--dag-ids", "other", "-y"); count(l, "dag_run") != 0.0 {
		t.Errorf("another DAG: %v", l)
	}
	s.stdin = "y\n"
	got := s.list("db", "clean", "--clean-before-timestamp", cutoff)
	if count(got, "dag_run") != 2.0 || count(got, "task_instance") != 2.0 || count(got, "task_log") != 2.0 {
		t.Errorf("clean: %v", got)
	}
	if l := s.list("dags", "list-runs", "echoes"); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
	if _, err := os.Stat(filepath.Join(s.home, "logs", "dag_id=echoes")); !os.IsNotExist(err) {
		t.Errorf("logs are left: %v", err)
	}
	// The server goes on, also with a run of a removed run's id.
	if l := s.list("dags", "trigger", "echoes", "-r", "a", "--wait"); l[0]["state"] != "success" {
		t.Errorf("after the cleaning: %v", l)
	}

	out := t.TempDir()
	if l := s.list("db", "export-archived", "--output-path", out, "-t", "dag_run,xcom"); len(l) != 2 || l[0]["row_count"] != 2.0 {
		t.Fatalf("export: %v", l)
	}
	csvs, err := filepath.Glob(filepath.Join(out, "_airflow_deleted__xcom__*.csv"))
	if err != nil || len(csvs) != 1 {
		t.Fatalf("%v %v", csvs, err)
	}
	if b, err := os.ReadFile(csvs[0]); err != nil || !strings.HasPrefix(string(b), "dag_id,run_id,task_id,map_index,key,value,timestamp,logical_date\nechoes,a,say,-1,return_value,hello verysecret,") {
		t.Errorf("%s %v", b, err)
	}
	s.ok("db", "export-archived", "--output-path", out, "--export-format", "json", "--drop-archives", "-y")
	jsons, _ := filepath.Glob(filepath.Join(out, "_airflow_deleted__dag_run__*.json"))
	var runs []airflow.DagRun
	if len(jsons) != 1 {
		t.Fatalf("%v", jsons)
	}
	if b, err := os.ReadFile(jsons[0]); err != nil || json.Unmarshal(b, &runs) != nil || len(runs) != 2 || runs[0].RunID != "a" {
		t.Errorf("%s %v", b, err)
	}
	if got := s.ok("db", "drop-archived", "-y"); got != "Dropped 0 archives\n" {
		t.Errorf("archives are left: %s", got)
	}
	s.fails(ExitUsage, "--output-path is needed", "db", "export-archived")
	if got := s.ok("jobs", "check", "--job-type", "SchedulerJob"); !strings.Contains(got, "Found one alive job") {
		t.Errorf("jobs check: %s", got)
	}
}

func TestRetentionIsAppliedByTheServer(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	s.write("echoes.yml", echoFile)
	s.env["AIRFLOW_CONN_API"] = "http://u:verysecret@h"
	s.server(nil)
	s.ok("dags", "trigger", "echoes", "-r", "a", "--wait")
	old := time.Now().AddDate(0, 0, -10)
	log := filepath.Join(s.home, "logs", "dag_id=echoes", "run_id=a", "task_id=say", "attempt=1.log")
	if b, err := os.ReadFile(log); err != nil || !strings.Contains(string(b), "hello ***") {
		t.Fatalf("a connection of the environment: %s %v", b, err)
	}
	if err := os.Chtimes(log, old, old); err != nil {
		t.Fatal(err)
	}
	s2 := &shell{t: t, home: s.home, dags: s.dags, name: "gust", env: map[string]string{"GUST_LOG_RETENTION_DAYS": "5"}, now: time.Now()}
	if l := s2.list("db", "clean", "--dry-run"); count(l, "task_log") != 1.0 || count(l, "dag_run") != 0.0 {
		t.Errorf("dry run of the configured retention: %v", l)
	}
	if l := s2.list("db", "clean", "--dry-run", "-t", "dag_run"); len(l) != 1 {
		t.Errorf("only one table: %v", l)
	}

	other := newShell(t)
	other.server(func(o *localapp.Options) {
		o.LogFolder = filepath.Join(s.home, "logs")
		o.Retention, o.RetentionInterval = retention.Policy{Default: retention.Days{Logs: 5}}, 50*time.Millisecond
	})
	for end := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
		if _, err := os.Stat(log); os.IsNotExist(err) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the log is still there after 10 s")
		}
	}
}

// TestBesideAServerOfAnotherFolder: reserialize names the folder that the server
// reads, and a DAG that was deleted comes back with the server's next full scan.
func TestBesideAServerOfAnotherFolder(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "there.yml"), []byte("there:\n  tasks: [{task_id: a, operator: empty}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env["AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"] = "0.5"
	s.server(func(o *localapp.Options) { o.DagsFolder = other })
	if got := s.ok("dags", "reserialize"); got != "The server was asked to read "+other+" again\n" {
		t.Errorf("reserialize: %q", got)
	}
	if l := s.list("dags", "reserialize"); len(l) != 1 || l[0]["dags_folder"] != other {
		t.Errorf("reserialize -o json: %v", l)
	}
	s.ok("dags", "delete", "there", "--yes")
	for end := time.Now().Add(15 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if l := s.list("dags", "list"); len(l) == 1 && l[0]["dag_id"] == "there" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the deleted DAG did not come back")
		}
	}
}

// What is secret by this installation's configuration is hidden in logs and
// rendered fields, also where it lies deep in a variable.
func TestConfiguredNamesAreMasked(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	s.env["AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES"] = "pin"
	s.env["AIRFLOW_VAR_DOOR_PIN"] = "4711-0815"
	s.ok("variables", "set", "doors", `{"front": {"pin": "front-1234"}, "open": "visible-value"}`)
	s.write("doors.yml", `doors:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    say: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ var.value.door_pin }} {{ var.json.doors.front.pin }} {{ var.json.doors.open }}"}
`)
	s.server(nil)
	s.ok("dags", "trigger", "doors", "-r", "a", "--wait")
	b, err := os.ReadFile(filepath.Join(s.home, "logs", "dag_id=doors", "run_id=a", "task_id=say", "attempt=1.log"))
	if err != nil || !strings.Contains(string(b), "*** *** visible-value") || strings.Contains(string(b), "4711") || strings.Contains(string(b), "front-1234") {
		t.Errorf("log: %s %v", b, err)
	}
}

func TestDatabaseCommands(t *testing.T) {
	s := newShell(t)
	if got := s.ok("db", "check"); !strings.HasPrefix(got, "Connection successful: ") {
		t.Errorf("check: %q", got)
	}
	s.ok("db", "migrate")
	s.ok("db", "check-migrations")
	s.fails(ExitFailed, "no alive jobs found", "jobs", "check")
	s.fails(ExitUsage, `--job-type "odd"`, "jobs", "check", "--job-type", "odd")
	if l := s.list("providers", "list"); len(l) < 3 || l[0]["package_name"] != "apache-airflow-providers-common-sql" {
		t.Errorf("providers: %v", l)
	}
	if l := s.list("plugins"); len(l) != 0 {
		t.Errorf("plugins: %v", l)
	}
	if err := os.WriteFile(filepath.Join(s.home, "gust.db"), []byte("not a database, but long enough to look at: "+strings.Repeat("x", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"gust.db-wal", "gust.db-shm"} {
		os.Remove(filepath.Join(s.home, f))
	}
	s.fails(ExitFailed, "gust.db", "db", "check", "--retry", "1", "--retry-delay", "0.01")
}
