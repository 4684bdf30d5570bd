package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/localapp"
)

const workFile = `work:
  schedule: null
  is_paused_upon_creation: false
  params: {n: 3}
  tasks:
    first: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo n is {{ params.n }}"}
    flaky: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "test -e {{ var.value.flag_file }}", dependencies: [first]}
    last: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo got {{ ti.xcom_pull(task_ids='first') }}", dependencies: [flaky]}
limited:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    waits: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true", pool: no_such_pool}
daily:
  schedule: "@daily"
  start_date: 2026-01-01
  tasks:
    a: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ ds }}"}
    b: {operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [a]}
`

func workShell(t *testing.T) *shell {
	t.Helper()
	s := newShell(t)
	s.write("work.yml", workFile)
	s.ok("dags", "reserialize")
	return s
}

// serve runs a server on the shell's home until the test ends or stop is called.
func (s *shell) serve() (stop func()) {
	s.t.Helper()
	c := &command{env: Env{Getenv: func(k string) string { return s.env[k] }, Now: time.Now}, home: s.home, output: "json"}
	o, err := c.options("", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-done:
		s.t.Fatalf("server ended: %v", err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("server: %v", err)
		}
		c.close()
	}
	s.t.Cleanup(stop)
	return stop
}

func TestTasksWithoutAServer(t *testing.T) {
	s := workShell(t)
	s.golden("tasks_list.txt", s.ok("tasks", "list", "work"))
	s.golden("tasks_tree.txt", s.ok("tasks", "list", "work", "--tree"))
	if l := s.list("tasks", "list", "daily"); len(l) != 2 || l[1]["task_id"] != "b" || l[1]["operator_name"] != "EmptyOperator" {
		t.Errorf("tasks list: %v", l)
	}
	s.golden("tasks_render.txt", s.ok("tasks", "render", "daily", "a", "2026-02-03"))
	s.fails(ExitFailed, `DAG "work" has no task "nope": not found; it has first, flaky, last`, "tasks", "test", "work", "nope")
	s.fails(ExitFailed, `DAG "none": not found`, "tasks", "test", "none", "a")

	// A task runs from its file as it is now, and leaves nothing behind.
	s.write("work.yml", strings.Replace(workFile, "echo n is", "echo edited", 1))
	if out := s.ok("tasks", "test", "work", "first", "-t", `{"n": 7}`); !strings.Contains(out, "edited 7") || !strings.Contains(out, `XCom return_value: "edited 7"`) || !strings.Contains(out, "Task first: success") {
		t.Errorf("tasks test: %s", out)
	}
	s.fails(ExitFailed, "Task flaky: failed", "tasks", "test", "work", "flaky", "--dags-folder", s.dags+"/work.yml", "2026-02-03", "-o", "plain")
	if l := s.list("dags", "list-runs", "work"); len(l) != 0 {
		t.Errorf("tasks test left runs: %v", l)
	}

	s.ok("dags", "trigger", "work", "-r", "r")
	if got := s.ok("tasks", "state", "work", "first", "r"); got != "None\n" {
		t.Errorf("state of an instance that waits: %q", got)
	}
	if out := s.ok("tasks", "failed-deps", "work", "flaky", "r"); !strings.Contains(out, "upstream_not_done: The rule all_success waits for upstream tasks (0 of 1 done): first is none") {
		t.Errorf("failed-deps: %s", out)
	}
	s.fails(ExitFailed, "has not started", "logs", "work", "r", "first")
	s.fails(ExitFailed, `DAG "work" has no run`, "tasks", "states-for-dag-run", "work", "other")
}

func TestTasksBesideAServer(t *testing.T) {
	s := workShell(t)
	s.ok("variables", "set", "flag_file", s.home+"/dags/flag")
	s.serve()
	r := s.run("dags", "trigger", "work", "-r", "r", "--wait", "-o", "json")
	if r.code != ExitFailed || !strings.Contains(r.out, `"state": "failed"`) {
		t.Fatalf("trigger --wait of a failing run: exit %d\n%s%s", r.code, r.out, r.err)
	}
	states := func(want string) {
		t.Helper()
		var got []string
		for _, ti := range s.list("tasks", "states-for-dag-run", "work", "r") {
			got = append(got, ti["task_id"].(string)+"="+ti["state"].(string))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("states %v, want %s", got, want)
		}
	}
	states("first=success flaky=failed last=upstream_failed")
	if out := s.ok("explain", "work", "r"); !strings.Contains(out, "flaky (failed): Failed at try 1: Bash command failed") || !strings.Contains(out, "gust logs work 'r' flaky") {
		t.Errorf("explain of a failed run:\n%s", out)
	}
	if out := s.ok("logs", "work", "r", "first"); !strings.Contains(out, "n is 3") {
		t.Errorf("log: %s", out)
	}

	s.stdin = "n\n"
	if out := s.ok("tasks", "clear", "work", "-f"); !strings.Contains(out, "nothing was cleared") {
		t.Errorf("clear, answered no: %s", out)
	}
	states("first=success flaky=failed last=upstream_failed")
	if out := s.ok("tasks", "clear", "work", "-t", "^first$", "-f", "-y"); out != "Nothing to clear.\n" {
		t.Errorf("clear of what has not failed: %s", out)
	}
	if l := s.list("tasks", "clear", "work", "-t", "^first$", "-d", "--dry-run"); len(l) != 3 {
		t.Errorf("dry run of first and below: %v", l)
	}
	s.write("flag", "")
	if l := s.list("tasks", "clear", "work", "-f", "-y"); len(l) != 2 || l[0]["task_id"] != "flaky" || l[0]["state"] != "failed" {
		t.Errorf("clear -f: %v", l)
	}
	s.await("work", "r", "success")
	states("first=success flaky=success last=success")
	if out := s.ok("logs", "work", "r", "last", "-f"); !strings.Contains(out, "got n is 3") {
		t.Errorf("followed log of an ended task: %s", out)
	}
	s.fails(ExitFailed, "is success already", "tasks", "run", "work", "last", "r")
	if out := s.ok("tasks", "run", "work", "last", "r", "--force"); !strings.Contains(out, "got n is 3") || !strings.Contains(out, "| success") {
		t.Errorf("tasks run: %s", out)
	}

	replay := s.ok("replay", "work", "r")
	for _, want := range []string{"step 1: the run may start", "flaky: running → failed", "an operator intervened", "flaky: failed → None (it was cleared)", "0 differently"} {
		if !strings.Contains(replay, want) {
			t.Errorf("replay lacks %q:\n%s", want, replay)
		}
	}
	steps := s.list("replay", "work", "r")
	if steps[0]["run_before"] != "queued" || steps[0]["differs"] != false || steps[0]["decided_again"] != true {
		t.Errorf("first step: %v", steps[0])
	}
	s.fails(ExitFailed, "not found (they are kept for 14 days)", "replay", "work", "never")
}

// await waits for a run to reach a state.
func (s *shell) await(dag, run, state string) {
	s.t.Helper()
	got := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if got = strings.TrimSpace(s.ok("dags", "state", dag, run)); got == state {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	s.t.Fatalf("run %s of %s is %s, want %s", run, dag, got, state)
}

// Without a server, tasks run is one for a moment.
func TestTasksRunServesItself(t *testing.T) {
	s := workShell(t)
	s.ok("variables", "set", "flag_file", s.home+"/dags/flag")
	stop := s.serve()
	s.run("dags", "trigger", "work", "-r", "r", "--wait")
	stop()
	s.fails(ExitFailed, "| failed", "tasks", "run", "work", "flaky", "r")
	s.write("flag", "")
	if out := s.ok("tasks", "run", "work", "flaky", "r"); !strings.Contains(out, "| success") {
		t.Errorf("tasks run: %s", out)
	}
}

func TestExplain(t *testing.T) {
	s := workShell(t)
	s.golden("explain_paused.txt", s.ok("explain", "daily"))
	s.golden("explain_manual.txt", s.ok("explain", "work"))
	s.fails(ExitFailed, `did you mean "work"?`, "explain", "wrok")
	s.write("broken.yml", "broken:\n  schedule: \"61 * * * *\"\n  tasks: {a: {operator: nope}}\n")
	s.ok("dags", "reserialize")
	s.fails(ExitFailed, "broken", "explain", "broken")

	s.serve()
	s.ok("dags", "trigger", "limited", "-r", "r")
	s.await("limited", "r", "running")
	for deadline := time.Now().Add(10 * time.Second); ; {
		out := s.ok("explain", "limited", "r")
		if strings.Contains(out, `run r, waits (scheduled): Its pool "no_such_pool" does not exist.`) && strings.Contains(out, "moves by: creating the pool") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("explain of a missing pool:\n%s", out)
		}
	}
	if l := s.list("explain", "limited"); len(l) != 2 || l[0]["code"] != "no_schedule" || l[1]["code"] != "pool_missing" || l[1]["task_id"] != "waits" {
		t.Errorf("explain -o json: %v", l)
	}
}

func TestBackfill(t *testing.T) {
	s := workShell(t)
	create := func(more ...string) []string {
		return append([]string{"backfill", "create", "--dag-id", "daily", "--from-date", "2026-01-03", "--to-date", "2026-01-05"}, more...)
	}
	s.golden("backfill_dry_run.txt", s.ok(create("--dry-run", "--run-backwards")...))
	if l := s.list("dags", "list-runs", "daily"); len(l) != 0 {
		t.Errorf("the dry run made runs: %v", l)
	}
	s.fails(ExitUsage, "--reprocess-behavior", create("--reprocess-behavior", "all")...)
	s.fails(ExitUsage, "required flag", "backfill", "create", "--dag-id", "daily")
	s.fails(ExitUsage, "lies before", "backfill", "create", "--dag-id", "daily", "--from-date", "2026-01-03", "--to-date", "2026-01-01")
	s.fails(ExitFailed, `DAG "none": not found`, "backfill", "create", "--dag-id", "none", "--from-date", "2026-01-03", "--to-date", "2026-01-04")

	s.serve()
	s.ok(create("--dag-run-conf", `{"why": "test"}`, "--max-active-runs", "2")...)
	s.fails(ExitFailed, "another backfill that is not finished", create()...)
	if l := s.list("backfill", "list"); len(l) != 1 || l[0]["max_active_runs"] != 2.0 || l[0]["completed_at"] != nil {
		t.Errorf("backfill list: %v", l)
	}
	s.ok("backfill", "pause", "1")
	if l := s.list("backfill", "list", "--active"); l[0]["is_paused"] != true {
		t.Errorf("paused: %v", l)
	}
	s.ok("dags", "unpause", "daily")
	s.ok("backfill", "unpause", "1")
	for _, day := range []string{"03", "04", "05"} {
		s.await("daily", "backfill__2026-01-"+day+"T00:00:00+00:00", `success, {"why":"test"}`)
	}
	for deadline := time.Now().Add(10 * time.Second); len(s.list("backfill", "list", "--active")) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the backfill is not completed after all of its runs")
		}
	}

	s.ok("dags", "pause", "daily")
	s.ok(create("--reprocess-behavior", "completed")...)
	s.ok("backfill", "cancel", "2")
	if l := s.list("dags", "list-runs", "daily", "--state", "failed"); len(l) != 3 {
		t.Errorf("cancelled backfill: %v", l)
	}
	s.fails(ExitFailed, "backfill 2 is completed", "backfill", "pause", "2")
	s.fails(ExitUsage, "is no number", "backfill", "cancel", "x")
	s.fails(ExitFailed, "backfill 9: not found", "backfill", "cancel", "9")
}
