package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/localapp"
)

const etlFile = `etl:
  description: A small pipeline
  schedule: "0 6 * * *"
  start_date: 2026-01-01
  tags: [nightly]
  tasks:
    extract: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo hello {{ dag_run.conf.get('who', 'world') }} {{ var.value.get('greeting', '-') }}"}
    load: {operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [extract]}
`

const failingFile = `failing:
  schedule: null
  tasks:
    bad: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo oops; exit 3"}
    wait_for_it: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "exit 9"}
    after: {operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [bad, wait_for_it]}
`

const secretive = `with_params:
  schedule: null
  params:
    day: {__type__: airflow.sdk.Param, __args__: [1], type: integer, maximum: 7}
  tasks:
    a: {operator: airflow.providers.standard.operators.empty.EmptyOperator}
`

func etlShell(t *testing.T) *shell {
	t.Helper()
	s := newShell(t)
	s.write("etl.yml", etlFile)
	s.write("failing.yml", failingFile)
	s.write("params.yml", secretive)
	s.ok("dags", "reserialize")
	return s
}

func TestDagsList(t *testing.T) {
	s := etlShell(t)
	s.golden("dags_list.txt", s.ok("dags", "list"))
	s.golden("dags_list_plain.txt", s.ok("dags", "list", "-o", "plain", "--columns", "dag_id,is_paused,tags"))
	s.golden("dags_list.json", s.ok("dags", "list", "-o", "json"))
	s.golden("dags_list.yaml", s.ok("dags", "list", "-o", "yaml", "--columns", "dag_id,is_paused,owners"))
	s.golden("dags_details.txt", s.ok("dags", "details", "etl"))
	if l := s.list("dags", "list", "--local"); len(l) != 3 || l[0]["dag_id"] != "etl" {
		t.Errorf("list --local: %v", l)
	}
	s.fails(ExitUsage, `column "x" is unknown: expected some of dag_id`, "dags", "list", "--columns", "x")
	s.fails(ExitFailed, `DAG "nope": not found`, "dags", "details", "nope")
}

func TestImportErrors(t *testing.T) {
	s := etlShell(t)
	if out := s.ok("dags", "list-import-errors", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("without errors: %s", out)
	}
	s.write("broken.yml", "broken:\n  schedule: [\n")
	s.ok("dags", "reserialize")
	for _, local := range []bool{false, true} {
		args := []string{"dags", "list-import-errors", "-o", "json"}
		if local {
			args = append(args, "--local")
		}
		r := s.run(args...)
		var l []map[string]any
		if err := json.Unmarshal([]byte(r.out), &l); err != nil || r.code != ExitFailed || len(l) != 1 || !strings.HasSuffix(l[0]["filepath"].(string), "broken.yml") || !strings.Contains(l[0]["error"].(string), "broken.yml:2:") {
			t.Errorf("local=%v: exit %d, %v\n%s", local, r.code, err, r.out)
		}
	}
	s.fails(ExitFailed, "broken.yml:2:3", "dags", "list-import-errors")
	if r := s.run("dags", "list"); r.code != ExitOK || !strings.Contains(r.err, "1 DAG files could not be loaded") {
		t.Errorf("dags list: %d %s", r.code, r.err)
	}
	s.fails(ExitFailed, "broken.yml:2:3", "dags", "validate", s.dags)
	s.fails(ExitFailed, "::error file=", "dags", "validate", s.dags, "--format", "github")
	if out := s.ok("dags", "validate", filepath.Join(s.dags, "etl.yml")); !strings.Contains(out, "1 files, 1 DAGs, 0 problems") {
		t.Errorf("validate: %s", out)
	}
	if l := s.list("dags", "report"); len(l) != 4 || l[0]["dag_num"] == nil || l[0]["duration"] == nil {
		t.Errorf("report: %v", l)
	}
}

func TestTriggerAndList(t *testing.T) {
	s := etlShell(t)
	r := s.run("dags", "trigger", "etl", "-r", "first", "-c", `{"who": "me"}`, "-o", "json")
	if r.code != ExitOK || !strings.Contains(r.err, "no server runs on") || !strings.Contains(r.err, `DAG "etl" is paused`) {
		t.Fatalf("exit %d: %s%s", r.code, r.out, r.err)
	}
	var out []map[string]any
	if err := json.Unmarshal([]byte(r.out), &out); err != nil || out[0]["dag_run_id"] != "first" || out[0]["state"] != "queued" || out[0]["run_type"] != "manual" || out[0]["conf"].(map[string]any)["who"] != "me" {
		t.Fatalf("%v: %s", err, r.out)
	}
	s.ok("dags", "trigger", "etl", "-r", "second", "-l", "2026-02-03")
	s.fails(ExitFailed, "already exists: first", "dags", "trigger", "etl", "-r", "first")
	s.fails(ExitFailed, "already exists: second", "dags", "trigger", "etl", "-l", "2026-02-03T00:00:00+00:00")
	s.fails(ExitUsage, "--conf is not a JSON object", "dags", "trigger", "etl", "-c", "[1]")
	s.fails(ExitUsage, "--logical-date", "dags", "trigger", "etl", "-l", "tomorrow")
	s.fails(ExitUsage, "allowed_run_id_pattern", "dags", "trigger", "etl", "-r", "a/b")
	s.fails(ExitFailed, "params.day", "dags", "trigger", "with_params", "-c", `{"day": 8}`)
	s.fails(ExitFailed, "nothing would run what --wait waits for", "dags", "trigger", "etl", "--wait")

	runs := s.list("dags", "list-runs", "etl")
	if len(runs) != 3 || runs[2]["run_id"] != "first" || runs[1]["run_id"] != "second" || runs[1]["logical_date"] != "2026-02-03T00:00:00+00:00" {
		t.Fatalf("newest first: %v", runs)
	}
	if l := s.list("dags", "list-runs", "etl", "--limit", "2", "--state", "queued"); len(l) != 2 {
		t.Errorf("limit: %v", l)
	}
	if l := s.list("dags", "list-runs", "etl", "--state", "failed"); len(l) != 0 {
		t.Errorf("state: %v", l)
	}
	if l := s.list("dags", "list-runs", "-d", "etl", "-s", "2026-02-01", "-e", "2026-02-04"); len(l) != 1 || l[0]["run_id"] != "second" {
		t.Errorf("dates: %v", l)
	}
	s.fails(ExitUsage, "--state", "dags", "list-runs", "etl", "--state", "odd")
	s.fails(ExitUsage, "which DAG?", "dags", "list-runs")
	if got := s.ok("dags", "state", "etl", "first"); got != "queued, {\"who\":\"me\"}\n" {
		t.Errorf("state = %q", got)
	}
	if got := s.ok("dags", "state", "etl", "2026-02-03"); got != "queued\n" {
		t.Errorf("state by date = %q", got)
	}
	if got := s.ok("dags", "state", "etl", "nothing"); got != "None\n" {
		t.Errorf("state of no run = %q", got)
	}
	s.fails(ExitFailed, "no run with the run_id or logical date", "dags", "state", "etl", "nothing", "-o", "json")
	s.golden("dags_list_runs.txt", s.ok("dags", "list-runs", "etl", "--end-date", "2026-12-31"))
}

func TestPause(t *testing.T) {
	s := etlShell(t)
	if l := s.list("dags", "unpause", "etl"); len(l) != 1 || l[0]["is_paused"] != true {
		t.Errorf("the state before is shown: %v", l)
	}
	if got := s.ok("dags", "unpause", "etl"); got != "No paused DAGs were found\n" {
		t.Errorf("got %q", got)
	}
	s.fails(ExitFailed, "not found", "dags", "pause", "nope")
	s.stdin = "n\n"
	if got := s.ok("dags", "unpause", "--treat-dag-id-as-regex", "f.*g"); !strings.Contains(got, "cancelled") {
		t.Errorf("got %q", got)
	}
	s.stdin = ""
	s.fails(ExitUsage, "--yes", "dags", "unpause", "--treat-dag-id-as-regex", "f.*g")
	if l := s.list("dags", "unpause", "--treat-dag-id-as-regex", ".", "--yes"); len(l) != 2 {
		t.Errorf("by pattern: %v", l)
	}
	s.fails(ExitUsage, "regular expression", "dags", "pause", "--treat-dag-id-as-regex", "(")
}

func TestNextExecution(t *testing.T) {
	s := etlShell(t)
	s.now = time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC)
	r := s.run("dags", "next-execution", "etl", "-n", "2")
	if r.out != "2026-03-03T06:00:00+00:00\n2026-03-04T06:00:00+00:00\n" || !strings.Contains(r.err, "PAUSED") {
		t.Errorf("%+v", r)
	}
	if l := s.list("dags", "next-execution", "etl"); len(l) != 1 || l[0]["run_after"] != "2026-03-03T06:00:00+00:00" || l[0]["data_interval.start"] == "" {
		t.Errorf("%v", l)
	}
	if got := s.ok("dags", "next-execution", "failing"); got != "None\n" {
		t.Errorf("no schedule: %q", got)
	}
	s.fails(ExitUsage, "--table and --field", "dags", "next-execution", "etl", "--table", "--field", "run_after")
	s.fails(ExitUsage, "column", "dags", "next-execution", "etl", "--field", "x")
	s.fails(ExitUsage, "at least 1", "dags", "next-execution", "etl", "-n", "0")
}

func TestShow(t *testing.T) {
	s := etlShell(t)
	if got := s.ok("dags", "show", "etl"); !strings.Contains(got, "│ extract │") || !strings.Contains(got, "▶│ load │") {
		t.Errorf("%s", got)
	}
	for _, ext := range []string{"dot", "svg", "mmd", "txt"} {
		path := filepath.Join(t.TempDir(), "g."+ext)
		s.ok("dags", "show", "etl", "--save", path)
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "extract") {
			t.Errorf("%s: %v", ext, err)
		}
	}
	s.ok("dags", "trigger", "etl", "-r", "first")
	if got := s.ok("dags", "show", "etl", "--run", "first"); !strings.Contains(got, "· extract") {
		t.Errorf("with states: %s", got)
	}
	s.fails(ExitUsage, "--format dot | dot -Tpng", "dags", "show", "etl", "--save", "x.png")
	s.name = "airflow"
	if got := s.ok("dags", "show", "etl"); !strings.HasPrefix(got, "digraph") {
		t.Errorf("airflow dags show: %s", got)
	}
}

func TestDelete(t *testing.T) {
	s := etlShell(t)
	s.ok("dags", "trigger", "etl", "-r", "first")
	s.stdin = "n"
	if got := s.ok("dags", "delete", "etl"); got != "Cancelled\n" {
		t.Errorf("got %q", got)
	}
	if got := s.ok("dags", "delete", "etl", "--yes"); got != "Removed DAG etl with 1 runs\n" {
		t.Errorf("got %q", got)
	}
	s.fails(ExitFailed, "not found", "dags", "list-runs", "etl")
}

func TestDagsTest(t *testing.T) {
	s := etlShell(t)
	s.env["AIRFLOW_VAR_GREETING"] = "from the environment"
	s.now = time.Now()
	out := s.ok("dags", "test", "etl", "2026-01-31", "-c", `{"who": "me"}`)
	for _, want := range []string{"extract | hello me from the environment", "extract success after", "load", "run success after", "2 success"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if l := s.list("dags", "list-runs", "etl"); len(l) != 0 {
		t.Errorf("a test run is in the home: %v", l)
	}
	svg := filepath.Join(t.TempDir(), "run.svg")
	s.fails(ExitFailed, "run failed", "dags", "test", "failing", "--mark-success-pattern", "wait_", "--save-dagrun", svg)
	if b, err := os.ReadFile(svg); err != nil || !strings.Contains(string(b), "bad: failed") || !strings.Contains(string(b), "wait_for_it: success") || !strings.Contains(string(b), "after: upstream_failed") {
		t.Errorf("drawing of the run: %v\n%s", err, b)
	}
	r := s.run("dags", "test", "failing", "-o", "json")
	var runs []map[string]any
	if err := json.Unmarshal([]byte(r.out), &runs); err != nil || r.code != ExitFailed || runs[0]["state"] != "failed" || len(runs[0]["task_instances"].([]any)) != 3 {
		t.Errorf("exit %d, %v\n%s", r.code, err, r.out)
	}
	// A file outside of the DAG folder, and a DAG that is not there.
	outside := filepath.Join(t.TempDir(), "other.yml")
	if err := os.WriteFile(outside, []byte(strings.ReplaceAll(etlFile, "etl:", "other:")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.ok("dags", "test", "other", "-f", outside, "--no-logs"); strings.Contains(out, "extract |") || !strings.Contains(out, "run success") {
		t.Errorf("%s", out)
	}
	s.fails(ExitFailed, "could not be found in "+outside, "dags", "test", "etl", "-f", outside)
	s.fails(ExitUsage, "expected a DAG file", "dags", "test", "etl", "-f", s.dags)
}

// Commands work beside a running server, which follows at once.
func TestBesideAServer(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	s.write("etl.yml", etlFile)
	c := &command{env: Env{Getenv: func(string) string { return "" }, Stderr: os.Stderr}, home: s.home}
	o, err := c.options(s.dags, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	<-ready
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	s.ok("dags", "unpause", "etl")
	l := s.list("dags", "trigger", "etl", "-r", "waited", "--wait")
	if l[0]["state"] != "success" {
		t.Errorf("%v", l)
	}
	if runs := s.list("dags", "list-runs", "etl", "--state", "success"); !slices.ContainsFunc(runs, func(r map[string]any) bool { return r["run_id"] == "waited" }) {
		t.Errorf("%v", runs)
	}
	if out := s.ok("info", "-o", "json"); !strings.Contains(out, `"server_running": true`) {
		t.Errorf("%s", out)
	}
	s.fails(ExitFailed, "another gust server", "scheduler")
}

func TestUsage(t *testing.T) {
	s := newShell(t)
	s.fails(ExitUsage, `unknown command "frob"`, "dags", "frob")
	s.fails(ExitUsage, "unknown flag", "dags", "list", "--frob")
	s.fails(ExitUsage, `no DAG bundle "other"`, "dags", "list", "-B", "other")
	s.ok("dags", "list", "-B", "dags-folder")
	s.fails(ExitUsage, `output "xml" is unknown`, "dags", "list", "-o", "xml")
	s.fails(ExitUsage, "--daemon is not supported", "scheduler", "-D")
	s.fails(ExitUsage, "--port 70000", "standalone", "--port", "70000")
	if err := os.WriteFile(filepath.Join(s.home, "gust.cfg"), []byte("[core]\nparallelism = many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(ExitFailed, "gust.cfg:2: [core] parallelism: expected a whole number", "dags", "list")
	r := s.run("dags", "list", "-o", "json")
	var e struct {
		Error    string            `json:"error"`
		Problems []airflow.Problem `json:"problems"`
	}
	if err := json.Unmarshal([]byte(r.err), &e); err != nil || len(e.Problems) != 1 || e.Problems[0].Line != 2 || r.out != "" {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestAirflowSpellings(t *testing.T) {
	for given, want := range map[string]string{
		"celery worker -q a": "worker -q a", "webserver -p 1": "api-server -p 1", "dags list": "dags list", "rotate-fernet-key": "secrets rotate", "scheduler": "scheduler", "": "",
	} {
		if got := strings.Join(airflowArgs(Env{Args: strings.Fields(given)}), " "); got != want {
			t.Errorf("%q → %q, want %q", given, got, want)
		}
	}
	s := newShell(t)
	s.name = "airflow"
	s.env["AIRFLOW_HOME"] = s.home
	var out strings.Builder
	code := Main(t.Context(), Env{Args: []string{"info", "-o", "json"}, Name: "airflow", Stdout: &out, Stderr: &out, Getenv: func(k string) string { return s.env[k] }, Now: time.Now})
	if code != ExitOK || !strings.Contains(out.String(), s.home) {
		t.Errorf("AIRFLOW_HOME: exit %d\n%s", code, out.String())
	}
}

// A service of Airflow that is part of the server here stays in the foreground.
func TestCompanion(t *testing.T) {
	s := newShell(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out strings.Builder
	code := Main(ctx, Env{Args: []string{"celery", "worker", "-q", "default", "-c", "4", "--home", s.home}, Name: "airflow", Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }, Now: time.Now})
	if code != ExitOK || !strings.Contains(out.String(), "nothing to do") {
		t.Errorf("exit %d: %s", code, out.String())
	}
	s.write("etl.yml", etlFile)
	if got := s.ok("dag-processor", "--once"); !strings.Contains(got, "1 of 1 files parsed") {
		t.Errorf("dag-processor --once: %q", got)
	}
	if l := s.list("dags", "list"); len(l) != 1 {
		t.Errorf("%v", l)
	}
}

// Every command says what it does and shows an example.
func TestHelp(t *testing.T) {
	c := &command{env: Env{Getenv: func(string) string { return "" }}}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		if cmd.Runnable() && !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(c.root())
}

func TestCompletion(t *testing.T) {
	s := etlShell(t)
	s.ok("dags", "trigger", "etl", "-r", "first")
	// The shell helper puts --home last, where it would be the word to complete.
	run := func(args ...string) string {
		var out strings.Builder
		code := Main(t.Context(), Env{Args: append([]string{"__complete", "--home", s.home}, args...), Name: "gust", Stdout: &out, Stderr: &strings.Builder{}, Getenv: func(string) string { return "" }, Now: time.Now})
		if code != ExitOK {
			t.Fatalf("exit %d: %s", code, out.String())
		}
		return out.String()
	}
	if got := run("dags", "trigger", "e"); !strings.HasPrefix(got, "etl\n:4") {
		t.Errorf("DAG ids: %q", got)
	}
	if got := run("dags", "state", "etl", ""); !strings.HasPrefix(got, "first\n") {
		t.Errorf("run ids: %q", got)
	}
	if got := run("tasks", "state", "etl", "l"); !strings.HasPrefix(got, "load\n") {
		t.Errorf("task ids: %q", got)
	}
	missing := filepath.Join(t.TempDir(), "none")
	var out strings.Builder
	Main(t.Context(), Env{Args: []string{"__complete", "--home", missing, "dags", "trigger", ""}, Name: "gust", Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }, Now: time.Now})
	if _, err := os.Stat(missing); err == nil {
		t.Error("completing created a home")
	}
}

// A DAG file may name Airflow variables: of the environment, else of the store.
func TestVariablesInDagFiles(t *testing.T) {
	s := newShell(t)
	s.now = time.Now()
	s.write("v.yml", `v:
  schedule: null
  tasks:
    a:
      operator: airflow.providers.standard.operators.bash.BashOperator
      variables_as_arguments: [{variable: command, attribute: bash_command}]
`)
	s.ok("variables", "set", "command", "echo from the store")
	if out := s.ok("dags", "test", "v"); !strings.Contains(out, "a | from the store") {
		t.Errorf("%s", out)
	}
	s.env["AIRFLOW_VAR_COMMAND"] = "echo from the environment"
	if out := s.ok("dags", "test", "v"); !strings.Contains(out, "a | from the environment") {
		t.Errorf("%s", out)
	}
}
