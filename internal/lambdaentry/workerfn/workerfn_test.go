package workerfn

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

const sampleDag = `
d:
  start_date: 2024-01-01
  schedule: null
  default_args: {owner: me, retries: 1, retry_delay_sec: 0}
  tasks:
    - {task_id: bash, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo one {{ run_id and 'two' }}"}
    - {task_id: py, operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: helpers.mod.hello, op_kwargs: {name: "{{ ti.xcom_pull('bash') }}"}, dependencies: [bash]}
    - {task_id: after, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo $GUST_TABLE-$AWS_SECRET_ACCESS_KEY-; exit 3", dependencies: [py]}
`

var sampleFiles = map[string]string{
	"d.yml": sampleDag, "helpers/__init__.py": "",
	"helpers/mod.py": "import os, tempfile\n\ndef hello(name):\n    print('from python', tempfile.gettempdir() != '/tmp')\n    return [name, os.environ.get('AWS_ACCESS_KEY_ID')]\n",
}

func TestWorkerFunction(t *testing.T) {
	c := newCloud(t)
	c.files(sampleFiles)
	k := c.run("d")
	f := c.start()

	d := c.next("bash")
	if again := f.do(d); again != nil {
		t.Fatalf("handed back %v", again)
	}
	if ti := c.ti(k, "bash"); ti.State != airflow.TISuccess {
		t.Fatalf("bash is %s\n%s", ti.State, f.text(d.Key, 1))
	}
	a := c.attempt(d)
	if want := "lambda/" + logGroup + "/" + logStream; a.Hostname != want {
		t.Errorf("hostname %q, want %q", a.Hostname, want)
	}
	if string(a.XComs["return_value"]) != `"one two"` {
		t.Errorf("XComs %s", a.XComs)
	}
	if text := f.text(d.Key, 1); !strings.Contains(text, "one two") || !strings.Contains(text, "Task ended with success") {
		t.Errorf("log:\n%s", text)
	}

	// A message that comes twice is dropped and changes nothing.
	before := len(f.lines(d.Key, 1))
	if again := f.do(d); again != nil {
		t.Errorf("a duplicate was handed back: %v", again)
	}
	if n := len(f.lines(d.Key, 1)); n != before {
		t.Errorf("a duplicate wrote %d lines", n-before)
	}

	// Bursts come as asynchronous invocations, without a queue.
	d = c.next("py")
	direct, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	f.send(direct, 15*time.Minute)
	if a := f.answer(); a.kind != "response" {
		t.Fatalf("%s %s", a.kind, a.body)
	}
	if ti := c.ti(k, "py"); ti.State != airflow.TISuccess {
		t.Fatalf("py is %s\n%s", ti.State, f.text(d.Key, 1))
	}
	if got := string(c.attempt(d).XComs["return_value"]); got != `["one two",null]` {
		t.Errorf("return value %s", got)
	}
	if text := f.text(d.Key, 1); !strings.Contains(text, "from python True") {
		t.Errorf("log:\n%s", text)
	}

	// A failure is reported, and retried by the scheduler.
	d = c.next("after")
	f.do(d)
	if text := f.text(d.Key, 1); !strings.Contains(text, " --") && !strings.Contains(text, "INFO - --") {
		t.Errorf("the task saw the worker's environment:\n%s", text)
	}
	if s := c.ti(k, "after").State; s != airflow.TIUpForRetry && s != airflow.TIQueued {
		t.Errorf("after is %s", s)
	}
}

// A control plane that does not answer: the message comes again soon, and then runs.
func TestHandedBack(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the retries of a claim")
	}
	c := newCloud(t)
	c.files(sampleFiles)
	k := c.run("d")
	f := c.start()
	d := c.next("bash")
	c.down.Store(1 << 40)
	again := f.do(d)
	c.down.Store(0)
	if len(again) != 1 || again[0] != "m0" {
		t.Fatalf("handed back %v, want the message", again)
	}
	if c.visibility < 5 || c.visibility > 15 {
		t.Errorf("it comes again after %d s", c.visibility)
	}
	f.do(d)
	if ti := c.ti(k, "bash"); ti.State != airflow.TISuccess {
		t.Errorf("bash is %s", ti.State)
	}
}

const longDag = `
long:
  start_date: 2024-01-01
  schedule: null
  default_args: {owner: me, retries: 1, retry_delay_sec: 3600}
  tasks:
    - {task_id: sleep, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "trap 'echo told to end; exit 1' TERM; echo started; sleep 600 & wait"}
    - {task_id: pysleep, operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: sleeper.sleep}
    - {task_id: hour, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo never", execution_timeout: {__type__: datetime.timedelta, hours: 1}}
    - {task_id: edge, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo fits", execution_timeout: {__type__: datetime.timedelta, minutes: 14}}
    - {task_id: kill, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "kill -9 $PPID; sleep 5"}
`

var longFiles = map[string]string{"d.yml": longDag, "sleeper.py": "import time\n\ndef sleep():\n    print('started', flush=True)\n    time.sleep(600)\n"}

func TestTimeLimit(t *testing.T) {
	c := newCloud(t)
	c.files(longFiles)
	k := c.run("long")
	f := c.start()
	for _, task := range []airflow.TaskID{"sleep", "pysleep"} {
		d := c.next(task)
		began := time.Now()
		f.send(event(d), 32*time.Second) // the task has two seconds
		if a := f.answer(); a.kind != "response" {
			t.Fatalf("%s: %s %s", task, a.kind, a.body)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %v", task, took)
		}
		ti := c.ti(k, task)
		if ti.State != airflow.TIUpForRetry {
			t.Errorf("%s is %s, want up_for_retry", task, ti.State)
		}
		if e := c.attempt(d).Error; !strings.HasPrefix(e, "lambda_deadline: ") || !strings.Contains(e, "EcsExecutor") {
			t.Errorf("%s: error %q", task, e)
		}
		text := f.text(d.Key, 1)
		if !strings.Contains(text, "started") || !strings.Contains(text, "lambda_deadline") || task == "sleep" && !strings.Contains(text, "told to end") {
			t.Errorf("%s: log\n%s", task, text)
		}
	}
	d := c.next("hour")
	f.do(d)
	if ti := c.ti(k, "hour"); ti.State != airflow.TIFailed {
		t.Errorf("a task that may take an hour is %s, want failed", ti.State)
	}
	if text := f.text(d.Key, 1); !strings.Contains(text, "execution_timeout of 1h0m0s is longer") || strings.Contains(text, "never") {
		t.Errorf("log:\n%s", text)
	}
	d = c.next("edge")
	f.do(d)
	if ti := c.ti(k, "edge"); ti.State != airflow.TISuccess {
		t.Errorf("a task that may take 14 minutes is %s:\n%s", ti.State, f.text(d.Key, 1))
	}
}

// Clear and mark end a running task soon, though no heartbeat is due.
func TestClearedWhileRunning(t *testing.T) {
	c := newCloud(t)
	c.files(longFiles)
	k := c.run("long")
	f := c.start()
	for _, task := range []airflow.TaskID{"sleep", "pysleep"} {
		d := c.next(task)
		f.send(event(d), 15*time.Minute)
		waitFor(t, func() bool { return strings.Contains(f.text(d.Key, 1), "started") })
		began := time.Now()
		if _, err := c.tools.Clear(t.Context(), k, clearOf(task)); err != nil {
			t.Fatal(err)
		}
		if a := f.answer(); a.kind != "response" {
			t.Fatalf("%s: %s %s", task, a.kind, a.body)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s ended after %v", task, took)
		}
		if a := c.attempt(d); a.Status != store.AttemptYielded {
			t.Errorf("%s: attempt is %s", task, a.Status)
		}
		if text := f.text(d.Key, 1); !strings.Contains(text, "cleared") {
			t.Errorf("%s: log\n%s", task, text)
		}
		if s := c.ti(k, task).State; s != airflow.TIUpForRetry {
			t.Errorf("%s is %s, want up_for_retry", task, s)
		}
	}
}

// A worker that dies leaves its dispatch claimed; the message that comes again
// must not start it a second time.
func TestWorkerDies(t *testing.T) {
	c := newCloud(t)
	c.files(longFiles)
	k := c.run("long")
	f := c.start()
	d := c.next("sleep")
	f.send(event(d), 15*time.Minute)
	waitFor(t, func() bool { return strings.Contains(f.text(d.Key, 1), "started") })
	if err := f.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-f.exited
	waitFor(t, func() bool { return syscall.Kill(-f.cmd.Process.Pid, 0) != nil })
	g := c.start()
	if again := g.do(d); again != nil {
		t.Errorf("handed back %v", again)
	}
	if text := g.text(d.Key, 1); text != "" {
		t.Errorf("it was started again:\n%s", text)
	}
	if ti := c.ti(k, "sleep"); ti.State != airflow.TIRunning {
		t.Errorf("it is %s, want running until its lease ends", ti.State)
	}
}

func clearOf(task airflow.TaskID) (q engine.ClearRequest) {
	q.Tasks = []scheduler.TaskSelection{{TaskID: task}}
	return q
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

const callbackDag = `
cb:
  start_date: 2024-01-01
  schedule: null
  on_success_callback: {callback: hooks.done}
  tasks:
    - {task_id: only, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true"}
`

// Callbacks that no task's worker runs come as messages of the default queue.
func TestCallbackMessage(t *testing.T) {
	c := newCloud(t)
	c.files(map[string]string{"d.yml": callbackDag, "hooks.py": "import os\n\ndef done(context):\n    print('callback of', context['dag_run'].run_id, os.environ.get('AWS_ACCESS_KEY_ID'))\n"})
	k := c.run("cb")
	f := c.start()
	f.do(c.next("only"))
	c.schedule()
	if len(c.callbacks) != 1 {
		t.Fatalf("callbacks %q", c.callbacks)
	}
	body, err := json.Marshal(map[string]string{"callback": c.callbacks[0]})
	if err != nil {
		t.Fatal(err)
	}
	ev, err := json.Marshal(events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: string(body)}}})
	if err != nil {
		t.Fatal(err)
	}
	run := airflow.TaskInstanceKey{DagID: k.DagID, RunID: k.RunID, MapIndex: airflow.Unmapped}
	for range 2 { // once, however often it comes
		f.send(ev, 15*time.Minute)
		if a := f.answer(); a.kind != "response" || strings.Contains(string(a.body), `"m"`) {
			t.Fatalf("%s %s", a.kind, a.body)
		}
	}
	if text := f.text(run, 1); strings.Count(text, "callback of "+string(k.RunID)+" None") != 1 {
		t.Errorf("log of the callback:\n%s", text)
	}
}
