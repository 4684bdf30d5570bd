package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
)

func TestSensors(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "sensors", nil).ends(failed, `file=success file_reschedule=success make_file=success python=success bash=success decorated=success delta=success date=success
		wait=success weekday=success http=success times_out=failed/1 soft=skipped soft_error=failed after_soft=skipped`)
	if ti := r.ti("bash"); ti.TryNumber != 1 {
		t.Errorf("rescheduling counted as tries: %d", ti.TryNumber)
	}
	r.logs("times_out", "Sensor has timed out").logs("file", "appears")
}

func TestSensorHoldsNoSlot(t *testing.T) {
	t.Parallel()
	if err := shared.tool.Engine.PutPool(t.Context(), airflow.Pool{Name: "single_sensor", Slots: 1}); err != nil {
		t.Fatal(err)
	}
	shared.notify(t, localapp.Notice{Pools: true})
	shared.trigger(t, "no_worker_held", nil).ends(success, "waits=success works=success")
}

func TestExternalTask(t *testing.T) {
	t.Parallel()
	ld := time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	same := func(o *engine.TriggerOptions) { o.LogicalDate = &ld }
	watching := shared.trigger(t, "watching", same)
	shared.trigger(t, "watched", same).ends(failed, "a=success b=failed marker=success")
	watching.ends(failed, "sees_task=success sees_failure=failed sees_run=success no_such_dag=failed other_date=skipped").logs("no_such_dag", "nowhere")
}

func TestTriggerDagRun(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "caller", nil).ends(failed, "waits=success goes_on=success again=success exists=failed skip_existing=skipped no_dag=failed sees_failure=failed")
	ds := r.info().LogicalDate.Format("2006-01-02")
	called := shared.run(t, "callee", "from-"+ds).ends(success, "t=success/2")
	if i := called.info(); i.TriggeredBy != airflow.TriggeredByOperator {
		t.Errorf("triggered by %s", i.TriggeredBy)
	}
	r.logs("no_dag", "nowhere").logs("exists", "from-"+ds)
}

func TestHTTPAndSQL(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "http_sql", nil).ends(failed, "get=success post=success gone=failed no_conn=failed create=success select=success from_file=success wrong=failed")
	nodash := r.info().LogicalDate.Format("20060102")
	r.has("get", `"GET  a=`+nodash+` auth=true"`).has("post", `"POST {\"x\": 1}  auth=true"`).logs("gone", "500", "it is gone").logs("no_conn", "nowhere").logs("wrong", "selekt")
	r.has("from_file", `[{"__classname__":"builtins.tuple","__version__":1,"__data__":[1]}]`).hides("web-secret-9")
	if got := r.xcom("select", "return_value"); !strings.Contains(got, `"one"`) || !strings.Contains(got, nodash) {
		t.Errorf("rows: %s", got)
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "callbacks", nil).ends(failed, "ok=success ko=failed/2 skipped=skipped hooked=failed command=failed broken=success killed=failed killed_bash=failed timed_out=failed")
	id := `"` + string(r.key.RunID) + `"`
	for text, n := range map[string]int{
		`["execute", "callbacks", "ok", ` + id: 1, `["success", "callbacks", "ok", ` + id: 1, `["retry", "callbacks", "ko", ` + id: 1, `["failure", "callbacks", "ko", ` + id: 1,
		`["skipped", "callbacks", "skipped", ` + id: 1, `["failure", "callbacks", "killed", ` + id: 1, `["failure", "callbacks", "killed_bash", ` + id: 1,
		`["failure", "callbacks", "timed_out", ` + id: 1, `["dag", "callbacks", null, ` + id + `, "task_failure"]`: 1, "command command failed": 1, "wrong": 0,
	} {
		r.callbacks(text, n)
	}
	eventually(t, "webhooks", func() bool { return len(hook("dag_failure")) == 1 && len(hook("task_failure")) == 1 })
	if b := hook("task_failure")[0]; !strings.Contains(b, `"task_id":"hooked"`) || !strings.Contains(b, `"event":"on_failure"`) {
		t.Errorf("body of the webhook: %s", b)
	}
	r.logs("broken", "on_success_callback failed", "ValueError").logs("killed_bash", "SIGKILL")
	shared.trigger(t, "callbacks_ok", nil).ends(success, "a=success").callbacks("dag-success callbacks_ok success", 1)
}

func TestAssets(t *testing.T) {
	t.Parallel()
	shared.trigger(t, "asset_a", nil).ends(success, "t=success")
	if n := len(shared.runs(t, "asset_and")); n != 0 {
		t.Errorf("AND fired on one of two: %d runs", n)
	}
	shared.trigger(t, "asset_b", nil).ends(success, "skipped=skipped t=success")
	for dag, want := range map[string]string{"asset_and": `[["e2e_a",1],["e2e_b",1]]`, "asset_or": `"1"`} {
		eventually(t, "run of "+dag, func() bool { return len(shared.runs(t, dag)) == 1 })
		run := shared.runs(t, dag)[0]
		if run.RunType != airflow.RunTypeAssetTriggered || run.LogicalDate != nil {
			t.Errorf("%s: %s, logical date %v", dag, run.RunType, run.LogicalDate)
		}
		r := shared.run(t, dag, string(run.RunID)).ends(success, "t=success")
		if got := strings.NewReplacer(`{"__classname__":"builtins.tuple","__version__":1,"__data__":`, "", "]}", "]").Replace(r.xcom("t", "return_value")); got != want {
			t.Errorf("%s: events %s, want %s", dag, got, want)
		}
	}
}

func pick(tasks ...airflow.TaskID) scheduler.Selection {
	var s scheduler.Selection
	for _, t := range tasks {
		s.Tasks = append(s.Tasks, scheduler.TaskSelection{TaskID: t})
	}
	return s
}

// TestActionsOnRunningTasks clears and marks a task that ignores SIGTERM while it
// runs: its processes die, and what follows is Airflow's.
func TestActionsOnRunningTasks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act   func(*oneRun) error
		state airflow.DagRunState
		tasks string
		cause string
	}{
		"clear": {func(r *oneRun) error {
			_, err := shared.tool.Engine.Clear(t.Context(), r.key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: pick("a"), ResetDagRun: true}})
			return err
		}, success, "a=success/2 b=success", "was cleared while it ran"},
		"mark success": {func(r *oneRun) error {
			_, err := shared.tool.Engine.MarkTask(t.Context(), r.key, scheduler.MarkOptions{Selection: pick("a"), State: airflow.TISuccess}, "me")
			return err
		}, success, "a=success/1 b=success", "was set to success while it ran"},
		"mark failed": {func(r *oneRun) error {
			_, err := shared.tool.Engine.MarkTask(t.Context(), r.key, scheduler.MarkOptions{Selection: pick("a"), State: airflow.TIFailed}, "me")
			return err
		}, failed, "a=failed/1 b=upstream_failed", "was set to failed while it ran"},
		"mark run failed": {func(r *oneRun) error {
			_, err := shared.tool.Engine.MarkRun(t.Context(), r.key, airflow.RunFailed, "me")
			return err
		}, failed, "a=failed/1 b=skipped", "was set to failed while it ran"},
		"mark run success": {func(r *oneRun) error {
			_, err := shared.tool.Engine.MarkRun(t.Context(), r.key, airflow.RunSuccess, "me")
			return err
		}, success, "a=success/1 b=skipped", "was set to success while it ran"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := shared.trigger(t, "hold", func(o *engine.TriggerOptions) { o.RunID = airflow.RunID(strings.ReplaceAll(name, " ", "-")) })
			pid := filepath.Join(scratch, "hold-"+string(r.key.RunID)+".pid")
			eventually(t, "running task", func() bool {
				b, err := os.ReadFile(pid)
				return err == nil && len(b) > 1 && r.ti("a").State == airflow.TIRunning
			})
			old := pid + ".old"
			b, _ := os.ReadFile(pid)
			write(t, old, string(b))
			if err := c.act(r); err != nil {
				t.Fatal(err)
			}
			shared.notify(t, localapp.Notice{Runs: []storeKey{r.key}})
			gone(t, old)
			r.ends(c.state, c.tasks)
			eventually(t, "cause in the log", func() bool { return strings.Contains(r.log("a", 1), "The task was stopped: ") })
			l := r.log("a", 1)
			for _, want := range []string{"try 1\n", "SIGTERM", "SIGKILL", c.cause} {
				if !strings.Contains(l, want) {
					t.Errorf("the log does not say %q:\n%s", want, l)
				}
			}
		})
	}
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	day := func(d int) time.Time { return time.Date(2025, 1, d, 0, 0, 0, 0, time.UTC) }
	q := engine.BackfillRequest{Backfill: airflow.Backfill{DagID: "filled", FromDate: day(2), ToDate: day(4), Reverse: true, MaxActiveRuns: 1}, User: "me"}
	q.DryRun = true
	if _, runs, err := shared.tool.Engine.CreateBackfill(t.Context(), q); err != nil || len(runs) != 3 || len(shared.runs(t, "filled")) > 1 {
		t.Fatalf("dry run: %v %v", runs, err)
	}
	q.DryRun = false
	b, _, err := shared.tool.Engine.CreateBackfill(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := shared.tool.Engine.CreateBackfill(t.Context(), q); err == nil {
		t.Error("a second backfill beside an unfinished one")
	}
	shared.notify(t, localapp.Notice{Discover: true})
	done := func() bool {
		x, err := shared.tool.Store.GetBackfill(t.Context(), b.ID)
		return err == nil && x.CompletedAt != nil
	}
	eventually(t, "completed backfill", done)
	read := func() string {
		b, _ := os.ReadFile(filepath.Join(scratch, "filled"))
		var out []string
		for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if strings.HasSuffix(l, " backfill") {
				out = append(out, l[8:10])
			}
		}
		return strings.Join(out, " ")
	}
	if got := read(); got != "04 03 02" {
		t.Errorf("order of the runs: %s", got)
	}
	shared.run(t, "filled", "backfill__2025-01-03T00:00:00+00:00").ends(failed, "a=failed/1")
	q.Reverse, q.ReprocessBehavior = false, airflow.ReprocessFailed
	if b, _, err = shared.tool.Engine.CreateBackfill(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	shared.notify(t, localapp.Notice{Discover: true})
	eventually(t, "completed backfill", done)
	if got := read(); got != "04 03 02 03" {
		t.Errorf("reprocess failed ran: %s", got)
	}
	shared.run(t, "filled", "backfill__2025-01-03T00:00:00+00:00").ends(failed, "a=failed/2")
}
