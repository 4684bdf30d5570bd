package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
)

// head begins a DAG that runs when it is told to.
const head = "  schedule: null\n  start_date: 2025-01-01\n  is_paused_upon_creation: false\n"

func TestScheduledRun(t *testing.T) {
	t.Parallel()
	s := need(t)
	uploaded := time.Now()
	s.upload(t, map[string]string{"scheduled_TAG.yml": `
scheduled_TAG:
  schedule: "* * * * *"
  start_date: 2025-01-01
  catchup: false
  is_paused_upon_creation: false
  tasks:
    - {task_id: a, operator: BashOperator, bash_command: '` + once + `echo {{ dag_run.run_type.value }}'}
`})
	s.known(t, "scheduled_TAG")
	eventually(t, 150*time.Second, "a run that EventBridge's tick made after the upload", func() bool {
		rs := s.list(t, "scheduled_TAG")
		return len(rs) > 0 && rs[len(rs)-1].RunAfter.After(uploaded)
	})
	rs := s.list(t, "scheduled_TAG")
	last := rs[len(rs)-1]
	if last.RunType != airflow.RunTypeScheduled || last.RunAfter.Second() != 0 || last.LogicalDate == nil {
		t.Errorf("run %+v", last)
	}
	if late := last.QueuedAt.Sub(last.RunAfter); late < 0 || late > 30*time.Second {
		t.Errorf("due at %v, made %v later", last.RunAfter, late)
	}
	s.run(t, "scheduled_TAG", last.RunID).ends(endWithin, success, "a=success/1").has("a", `"scheduled"`)
	if _, err := s.engine.SetPaused(t.Context(), last.DagID, true, "e2e"); err != nil {
		t.Fatal(err)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	s := need(t)
	r := s.deploy(t, "chain_TAG", `
chain_TAG:
`+head+`
  tasks:
    - {task_id: a, operator: BashOperator, bash_command: '`+once+`echo from a'}
    - {task_id: b, operator: BashOperator, bash_command: '`+once+`echo b got {{ ti.xcom_pull(task_ids="a") }}', dependencies: [a]}
    - {task_id: c, operator: BashOperator, bash_command: '`+once+`echo {{ run_id }}', dependencies: [b]}
    - {task_id: d, operator: EmptyOperator, dependencies: [c]}
`)
	r.ends(endWithin, success, "a=success/1 b=success/1 c=success/1 d=success").has("b", `"b got from a"`).has("c", fmt.Sprintf("%q", r.key.RunID))
	r.logs("b", 1, "b got from a")
	if a, b := r.ti("a"), r.ti("b"); a.EndDate == nil || b.StartDate == nil || b.StartDate.Before(*a.EndDate) {
		t.Errorf("b began %v before a ended %v", b.StartDate, a.EndDate)
	} else {
		t.Logf("hop a to b: %v", b.StartDate.Sub(*a.EndDate))
	}
	if h := r.ti("a").Hostname; !strings.HasPrefix(h, "lambda/") || !strings.Contains(h, prefix+"-worker-default") {
		t.Errorf("a ran on %q, want a log stream of the worker function", h)
	}
}

func TestFanOut(t *testing.T) {
	t.Parallel()
	s := need(t)
	const wide = 25
	var tasks, names strings.Builder
	for i := range wide {
		fmt.Fprintf(&tasks, "    - {task_id: t%d, operator: BashOperator, bash_command: '%sexit 0', dependencies: [first]}\n", i, once)
		fmt.Fprintf(&names, "t%d=success/1 ", i)
	}
	all := make([]string, wide)
	for i := range all {
		all[i] = fmt.Sprintf("t%d", i)
	}
	r := s.deploy(t, "fan_TAG", "fan_TAG:\n"+head+"  max_active_tasks: 64\n  tasks:\n    - {task_id: first, operator: EmptyOperator}\n"+tasks.String()+
		"    - {task_id: last, operator: BashOperator, bash_command: 'wc -l < SCRATCH/starts', dependencies: ["+strings.Join(all, ", ")+"]}\n")
	r.ends(endWithin, success, "first=success last=success/1 "+names.String())
}

func TestMapped(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"lib_TAG/mapped_fns.py": "def numbers():\n    return [3, 1, 2]\ndef double(x):\n    return 2 * x\ndef total(values):\n    return sum(values)\n"})
	r := s.deploy(t, "mapped_TAG", `
mapped_TAG:
`+head+`
  tasks:
    - {task_id: numbers, decorator: airflow.sdk.task, python_callable: lib_TAG.mapped_fns.numbers}
    - {task_id: double, decorator: airflow.sdk.task, python_callable: lib_TAG.mapped_fns.double, expand: {x: +numbers}}
    - {task_id: total, decorator: airflow.sdk.task, python_callable: lib_TAG.mapped_fns.total, values: +double}
    - {task_id: literal, operator: BashOperator, expand: {bash_command: ['`+once+`echo x', '`+once+`exit 99']}}
`)
	r.ends(endWithin, success, "numbers=success double[0]=success double[1]=success double[2]=success total=success literal[0]=success/1 literal[1]=skipped/1")
	r.has("double[1]", "2").has("total", "12").has("literal[0]", `"x"`)
}

func TestRetry(t *testing.T) {
	t.Parallel()
	s := need(t)
	r := s.deploy(t, "retry_TAG", `
retry_TAG:
`+head+`
  tasks:
    - {task_id: flaky, operator: BashOperator, bash_command: '`+once+`echo this is try {{ ti.try_number }}; test {{ ti.try_number }} = 2', retries: 2, retry_delay: 3}
    - {task_id: never, operator: BashOperator, bash_command: '`+once+`exit 1', retries: 1, retry_delay: 1}
    - {task_id: below, operator: EmptyOperator, dependencies: [never]}
`)
	r.ends(endWithin, failed, "flaky=success/2 never=failed/2 below=upstream_failed")
	r.logs("flaky", 1, "this is try 1").logs("flaky", 2, "this is try 2")
	tries, err := s.store.ListTries(t.Context(), r.ti("flaky").TaskInstanceKey)
	if err != nil || len(tries) != 1 {
		t.Fatalf("earlier tries: %d, %v", len(tries), err)
	}
	if d := r.ti("flaky").StartDate.Sub(*tries[0].EndDate); d < 3*time.Second || d > 30*time.Second {
		t.Errorf("second try %v after the first, want retry_delay = 3 s and not much more", d)
	}
}

func TestBranch(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"lib_TAG/branch_fns.py": "def choose(n):\n    return 'big' if n > 10 else 'small'\n"})
	r := s.deploy(t, "branch_TAG", `
branch_TAG:
`+head+`
  tasks:
    - {task_id: choose, operator: BranchPythonOperator, python_callable: lib_TAG.branch_fns.choose, op_args: [11]}
    - {task_id: big, operator: BashOperator, bash_command: 'echo big', dependencies: [choose]}
    - {task_id: small, operator: BashOperator, bash_command: 'echo small', dependencies: [choose]}
    - {task_id: join, operator: EmptyOperator, trigger_rule: none_failed_min_one_success, dependencies: [big, small]}
`)
	r.ends(endWithin, success, "choose=success big=success small=skipped join=success")
}

func TestSensor(t *testing.T) {
	t.Parallel()
	s := need(t)
	r := s.deploy(t, "sensor_TAG", `
sensor_TAG:
`+head+`
  tasks:
    - {task_id: waits, operator: BashSensor, bash_command: "test -e SCRATCH/sensed", poke_interval: 2, timeout: 120, mode: reschedule}
    - {task_id: gives_up, operator: BashSensor, bash_command: "false", poke_interval: 1, timeout: 3, mode: reschedule, soft_fail: true}
    - {task_id: after, operator: BashOperator, bash_command: '`+once+`echo seen', dependencies: [waits]}
`)
	r.until(endWithin, "waits", airflow.TIUpForReschedule)
	if st := r.ti("after").State; st != airflow.TINone {
		t.Errorf("after is %s while the sensor waits", st)
	}
	s.touch(t, "sensed")
	r.ends(endWithin, success, "waits=success/1 gives_up=skipped/1 after=success/1")
	a, err := s.store.GetAttempt(t.Context(), r.ti("waits").TaskInstanceKey)
	if err != nil || a.DispatchSeq < 2 {
		t.Errorf("the sensor held its worker: %d dispatches, %v", a.DispatchSeq, err)
	}
}

func TestDeferral(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"deferral_TAG.yml": `
watched_TAG:
` + head + `
  tasks:
    - {task_id: slow, operator: BashOperator, bash_command: "` + `for i in $(seq 600); do test -e SCRATCH/go-watched && exit 0; sleep 0.1; done; exit 1"}
deferral_TAG:
` + head + `
  tasks:
    - {task_id: until_then, operator: DateTimeSensor, target_time: "{{ macros.datetime.now() + macros.timedelta(seconds=5) }}"}
    - {task_id: until_done, operator: ExternalTaskSensor, external_dag_id: watched_TAG, external_task_id: slow, poke_interval: 300, timeout: 600}
    - {task_id: after, operator: BashOperator, bash_command: '` + once + `echo on', dependencies: [until_then, until_done]}
`})
	s.known(t, "watched_TAG", "deferral_TAG")
	watched := s.trigger(t, "watched_TAG")
	info, err := s.engine.Trigger(t.Context(), engine.TriggerOptions{DagID: airflow.DagID(s.fill("deferral_TAG")), LogicalDate: watched.info().LogicalDate, TriggeredBy: airflow.TriggeredByCLI})
	if err != nil {
		t.Fatal(err)
	}
	r := s.run(t, "deferral_TAG", info.RunID)
	r.until(endWithin, "until_done", airflow.TIDeferred)
	s.touch(t, "go-watched")
	watched.ends(endWithin, success, "slow=success/1")
	ended := *watched.ti("slow").EndDate
	r.ends(endWithin, success, "until_then=success/1 until_done=success/1 after=success/1")
	if d := r.ti("until_done").EndDate.Sub(ended); d > 60*time.Second {
		t.Errorf("the sensor learned of it %v later: by its timer and not by the event", d)
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	s := need(t)
	if err := s.engine.PutPool(t.Context(), airflow.Pool{Name: s.fill("single_TAG"), Slots: 1}); err != nil {
		t.Fatal(err)
	}
	task := func(name string, weight int) string {
		return fmt.Sprintf("    - {task_id: %s, operator: BashOperator, pool: single_TAG, weight_rule: absolute, priority_weight: %d, bash_command: '%smkdir SCRATCH/pool && sleep 1 && rmdir SCRATCH/pool', dependencies: [first]}\n", name, weight, once)
	}
	r := s.deploy(t, "pool_TAG", "pool_TAG:\n"+head+"  tasks:\n    - {task_id: first, operator: EmptyOperator}\n"+task("low", 1)+task("mid", 5)+task("high", 9))
	r.ends(endWithin, success, "first=success low=success/1 mid=success/1 high=success/1")
	high, mid, low := r.ti("high"), r.ti("mid"), r.ti("low")
	if !high.StartDate.Before(*mid.StartDate) || !mid.StartDate.Before(*low.StartDate) {
		t.Errorf("order of starts: high %v, mid %v, low %v", high.StartDate, mid.StartDate, low.StartDate)
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	s := need(t)
	asset := `{__type__: airflow.sdk.Asset, name: data_TAG, uri: "x-e2e://TAG/data"}`
	s.upload(t, map[string]string{"assets_TAG.yml": `
producer_TAG:
` + head + `
  tasks: [{task_id: make, operator: BashOperator, bash_command: '` + once + `echo made', outlets: [` + asset + `]}]
consumer_TAG:
  schedule: [` + asset + `]
  start_date: 2025-01-01
  is_paused_upon_creation: false
  tasks: [{task_id: use, operator: BashOperator, bash_command: '` + once + `echo "{{ triggering_asset_events | length }}"'}]
`})
	s.known(t, "producer_TAG", "consumer_TAG")
	s.trigger(t, "producer_TAG").ends(endWithin, success, "make=success/1")
	eventually(t, endWithin, "run of the consumer", func() bool { return len(s.list(t, "consumer_TAG")) > 0 })
	run := s.list(t, "consumer_TAG")[0]
	if run.RunType != airflow.RunTypeAssetTriggered || run.LogicalDate != nil {
		t.Errorf("run of the consumer: %s, logical date %v", run.RunType, run.LogicalDate)
	}
	s.run(t, "consumer_TAG", run.RunID).ends(endWithin, success, "use=success/1").has("use", `"1"`)
	if rs := s.list(t, "consumer_TAG"); len(rs) != 1 {
		t.Errorf("one event made %d runs", len(rs))
	}
}

func TestLargeXCom(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"lib_TAG/large.py": "def make():\n    return 'x' * 150000\ndef measure(value):\n    return len(value)\n"})
	r := s.deploy(t, "large_TAG", `
large_TAG:
`+head+`
  tasks:
    - {task_id: make, decorator: airflow.sdk.task, python_callable: lib_TAG.large.make}
    - {task_id: measure, decorator: airflow.sdk.task, python_callable: lib_TAG.large.measure, value: +make}
`)
	r.ends(endWithin, success, "make=success measure=success").has("measure", "150000")
	var v string
	if err := json.Unmarshal([]byte(r.xcom("make")), &v); err != nil || len(v) != 150000 {
		t.Errorf("the XCom as stored: %d characters, %v", len(v), err)
	}
	if keys := s.objects(t, "xcoms/", string(r.key.DagID)); len(keys) != 1 {
		t.Errorf("objects of the XCom in S3: %v", keys)
	}
}

func TestClearOfARunningTask(t *testing.T) {
	t.Parallel()
	s := need(t)
	r := s.deploy(t, "clear_TAG", `
clear_TAG:
`+head+`
  tasks:
    - {task_id: a, operator: BashOperator, retry_delay: 1, bash_command: '`+once+`echo $$ > SCRATCH/clear-{{ ti.try_number }}.pid; test {{ ti.try_number }} = 2 || sleep 300'}
    - {task_id: b, operator: EmptyOperator, dependencies: [a]}
`)
	eventually(t, endWithin, "running task", func() bool { return s.read(t, "clear-1.pid") != "" })
	if _, err := s.engine.Clear(t.Context(), r.key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: pick("a"), ResetDagRun: true}, User: "e2e"}); err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(s.read(t, "clear-1.pid"))
	took := eventually(t, 12*time.Second, "end of the cleared task's process "+pid, func() bool { _, err := os.Stat("/proc/" + pid); return err != nil })
	t.Logf("the running task ended %v after it was cleared", took.Round(100*time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("that took %v, want at most 10 s", took)
	}
	r.ends(endWithin, success, "a=success/2 b=success")
	r.logs("a", 1, "cleared while it ran")
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"backfill_TAG.yml": `
backfill_TAG:
  schedule: "@daily"
  start_date: 2025-01-01
  end_date: 2025-01-09
  catchup: false
  is_paused_upon_creation: false
  tasks: [{task_id: a, operator: BashOperator, bash_command: '` + once + `echo {{ ds }} >> SCRATCH/backfilled'}]
`})
	s.known(t, "backfill_TAG")
	day := func(d int) time.Time { return time.Date(2025, 1, d, 0, 0, 0, 0, time.UTC) }
	b, runs, err := s.engine.CreateBackfill(t.Context(), engine.BackfillRequest{Backfill: airflow.Backfill{DagID: airflow.DagID(s.fill("backfill_TAG")), FromDate: day(2), ToDate: day(4), Reverse: true, MaxActiveRuns: 1}, User: "e2e"})
	if err != nil || len(runs) != 3 {
		t.Fatalf("%v %v", runs, err)
	}
	eventually(t, 150*time.Second, "completed backfill", func() bool {
		x, err := s.store.GetBackfill(t.Context(), b.ID)
		if err != nil {
			t.Fatal(err)
		}
		return x.CompletedAt != nil
	})
	if got := strings.Join(strings.Fields(s.read(t, "backfilled")), " "); got != "2025-01-04 2025-01-03 2025-01-02" {
		t.Errorf("ran %s, want the newest first and one at a time", got)
	}
	s.run(t, "backfill_TAG", "backfill__2025-01-03T00:00:00+00:00").ends(endWithin, success, "a=success/1")
}

// TestSecretsTriggersAndCallbacks uses what a worker asks of the control plane besides its own row: variables and
// connections, which are sealed, a run of another DAG, and a callback of the DAG, which no task runs.
func TestSecretsTriggersAndCallbacks(t *testing.T) {
	t.Parallel()
	s := need(t)
	if err := s.store.PutVariable(t.Context(), airflow.Variable{Key: s.fill("greeting_TAG"), Value: "good day"}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.PutConnection(t.Context(), airflow.Connection{ConnID: s.fill("conn_TAG"), ConnType: "http", Host: "db.example", Login: "ada", Password: "pass-word-4711"}); err != nil {
		t.Fatal(err)
	}
	s.upload(t, map[string]string{"calls_TAG.yml": `
called_TAG:
` + head + `
  tasks: [{task_id: t, operator: BashOperator, bash_command: '` + once + `echo "{{ dag_run.conf }}"'}]
calls_TAG:
` + head + `
  on_success_callback: {type: command, command: "echo done $AIRFLOW_CTX_DAG_ID >> SCRATCH/called-back"}
  tasks:
    - {task_id: reads, operator: BashOperator, bash_command: '` + once + `echo "{{ var.value.greeting_TAG }} {{ conn.conn_TAG.host }} {{ conn.conn_TAG.password }}"'}
    - {task_id: triggers, operator: TriggerDagRunOperator, trigger_dag_id: called_TAG, conf: {a: 1}, wait_for_completion: true, poke_interval: 2, dependencies: [reads]}
`})
	s.known(t, "called_TAG", "calls_TAG")
	r := s.trigger(t, "calls_TAG").ends(2*endWithin, success, "reads=success/1 triggers=success/1")
	r.logs("reads", 1, "good day db.example")
	if l := r.log("reads", 1); strings.Contains(l, "pass-word-4711") {
		t.Errorf("the log shows the password:\n%s", l)
	}
	if rs := s.list(t, "called_TAG"); len(rs) != 1 || rs[0].State != success {
		t.Errorf("runs of the triggered DAG: %+v", rs)
	}
	eventually(t, endWithin, "callback of the DAG", func() bool { return strings.Contains(s.read(t, "called-back"), s.fill("done calls_TAG")) })
}
