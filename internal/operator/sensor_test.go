package operator

import (
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

// at is a fixed clock.
func at(t time.Time) taskrunner.Options {
	return taskrunner.Options{Clock: func() time.Time { return t }}
}

func TestSensorOutcomes(t *testing.T) {
	start := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	const sensor = std + "sensors.python.PythonSensor"
	for _, c := range []struct {
		name, kwargs string
		after        time.Duration
		outcome      worker.Outcome
		log          string
		wait         time.Duration // of a reschedule
	}{
		{"done", `{` + fn("truthy") + `}`, 0, worker.OutcomeSuccess, "Success criteria met", 0},
		{"not yet", `{` + fn("not_yet") + `}`, 0, worker.OutcomeUpForReschedule, "", 60 * time.Second},
		{"interval", `{` + fn("not_yet") + `,"poke_interval":2.5,"mode":"reschedule"}`, 0, worker.OutcomeUpForReschedule, "", 2500 * time.Millisecond},
		{"at the limit", `{` + fn("not_yet") + `,"timeout":10}`, 10 * time.Second, worker.OutcomeUpForReschedule, "", 60 * time.Second},
		{"timeout", `{` + fn("not_yet") + `,"timeout":10}`, 11 * time.Second, worker.OutcomeFailedFinal, "Sensor has timed out", 0},
		{"timeout, but done", `{` + fn("truthy") + `,"timeout":10}`, 11 * time.Second, worker.OutcomeSuccess, "", 0},
		{"timeout soft", `{` + fn("not_yet") + `,"timeout":10,"soft_fail":true}`, 11 * time.Second, worker.OutcomeSkipped, "", 0},
		{"timeout never_fail", `{` + fn("not_yet") + `,"timeout":10,"never_fail":true}`, 11 * time.Second, worker.OutcomeFailedFinal, "", 0},
		{"error", `{` + fn("boom") + `}`, 0, worker.OutcomeFailed, "ValueError", 0},
		{"error soft", `{` + fn("boom") + `,"soft_fail":true}`, 0, worker.OutcomeFailed, "ValueError", 0},
		{"error never_fail", `{` + fn("boom") + `,"never_fail":true}`, 0, worker.OutcomeSkipped, "never_fail", 0},
		{"error silent", `{` + fn("boom") + `,"silent_fail":true}`, 0, worker.OutcomeUpForReschedule, "Sensor poke failed", 60 * time.Second},
		{"fail soft", `{` + fn("fail") + `,"soft_fail":true}`, 0, worker.OutcomeSkipped, "", 0},
		{"fail never_fail", `{` + fn("fail") + `,"never_fail":true}`, 0, worker.OutcomeFailedFinal, "", 0},
		{"skip", `{` + fn("skip") + `}`, 0, worker.OutcomeSkipped, "", 0},
		{"soft and never", `{` + fn("truthy") + `,"soft_fail":true,"never_fail":true}`, 0, worker.OutcomeFailed, "excludes never_fail", 0},
		{"bad mode", `{` + fn("truthy") + `,"mode":"watch"}`, 0, worker.OutcomeFailed, "expected poke or reschedule", 0},
		{"value", `{` + fn("poke_value") + `}`, 0, worker.OutcomeSuccess, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := start.Add(c.after)
			r, log := exec1(t, workertest.Run{Options: at(now), Change: func(tc *worker.TaskContext) { tc.StartDate = start }}, sensor, c.kwargs)
			if r.Outcome != c.outcome || !strings.Contains(log, c.log) || c.wait > 0 && !r.RescheduleAt.Equal(now.Add(c.wait)) {
				t.Errorf("%v at %v\n%s", r.Outcome, r.RescheduleAt, log)
			}
			if c.name == "value" && workertest.XCom(r, "return_value") != `{"n":1}` {
				t.Errorf("xcom %q", workertest.XCom(r, "return_value"))
			}
		})
	}
}

// The intervals of Airflow's formula, computed with its Python source's arithmetic.
func TestExponentialBackoff(t *testing.T) {
	start := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "sensors.python.PythonSensor",
		Kwargs: `{` + fn("not_yet") + `,"poke_interval":10,"exponential_backoff":true,"timeout":100000}`})
	for poke, want := range map[int]int64{1: backoffOf("d#t#2026-05-01 08:00:00+00:00#1", 5), 2: backoffOf("d#t#2026-05-01 08:00:00+00:00#2", 10), 5: backoffOf("d#t#2026-05-01 08:00:00+00:00#5", 80)} {
		r, log := exec1(t, workertest.Run{DAG: d, Options: at(start), Seq: uint32(poke), Change: func(tc *worker.TaskContext) {
			tc.StartDate, tc.RescheduleCount = start, poke-1
		}}, "", "")
		if got := int64(r.RescheduleAt.Sub(start).Seconds()); got != want {
			t.Errorf("poke %d: %d s, want %d\n%s", poke, got, want, log)
		}
	}
	capped := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "sensors.python.PythonSensor",
		Kwargs: `{` + fn("not_yet") + `,"poke_interval":10,"exponential_backoff":true,"max_wait":{"__type":"timedelta","__var":7}}`})
	if r, _ := exec1(t, workertest.Run{DAG: capped, Options: at(start), Change: func(tc *worker.TaskContext) { tc.StartDate, tc.RescheduleCount = start, 9 }}, "", ""); r.RescheduleAt.Sub(start) != 7*time.Second {
		t.Errorf("max_wait: %v", r.RescheduleAt.Sub(start))
	}
}

func TestExecutionTimeoutOfAPokingSensor(t *testing.T) {
	start := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	dag := func(mode string) *airflow.DAG {
		return workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "sensors.python.PythonSensor", Fields: `{"execution_timeout":90}`, Kwargs: `{` + fn("not_yet") + `,"mode":"` + mode + `"}`})
	}
	change := func(tc *worker.TaskContext) { tc.StartDate = start }
	for _, c := range []struct {
		mode    string
		after   time.Duration
		outcome worker.Outcome
		wake    time.Duration
	}{
		{"poke", 0, worker.OutcomeUpForReschedule, 60 * time.Second},
		{"poke", 60 * time.Second, worker.OutcomeUpForReschedule, 90 * time.Second},
		{"poke", 90 * time.Second, worker.OutcomeFailed, 0},
		{"reschedule", 90 * time.Second, worker.OutcomeUpForReschedule, 150 * time.Second},
	} {
		r, log := exec1(t, workertest.Run{DAG: dag(c.mode), Options: at(start.Add(c.after)), Change: change}, "", "")
		if r.Outcome != c.outcome || c.wake > 0 && !r.RescheduleAt.Equal(start.Add(c.wake)) {
			t.Errorf("%+v: %v %v\n%s", c, r.Outcome, r.RescheduleAt, log)
		}
	}
}

func TestTimeSensors(t *testing.T) {
	ld := workertest.LogicalDate
	for _, c := range []struct {
		name, class, kwargs string
		now                 time.Time
		outcome             worker.Outcome
		wake                time.Time
	}{
		{"delta over", "time_delta.TimeDeltaSensor", `{"delta":{"__type":"timedelta","__var":60}}`, ld.Add(61 * time.Second), worker.OutcomeSuccess, time.Time{}},
		{"delta waits", "time_delta.TimeDeltaSensor", `{"delta":{"__type":"timedelta","__var":60}}`, ld, worker.OutcomeDeferred, ld.Add(time.Minute)},
		{"delta times out first", "time_delta.TimeDeltaSensor", `{"delta":{"__type":"timedelta","__var":60},"timeout":10}`, ld, worker.OutcomeUpForReschedule, ld.Add(10 * time.Second)},
		{"async", "time_delta.TimeDeltaSensorAsync", `{"delta":{"__type":"timedelta","__var":60},"timeout":10}`, ld, worker.OutcomeDeferred, ld.Add(time.Minute)},
		{"datetime", "date_time.DateTimeSensor", `{"target_time":"{{ data_interval_end.add(hours=1) }}"}`, ld, worker.OutcomeDeferred, ld.Add(time.Hour)},
		{"datetime async", "date_time.DateTimeSensorAsync", `{"target_time":"2026-03-01T21:00:00+02:00"}`, ld, worker.OutcomeSuccess, time.Time{}},
		{"time of day", "time.TimeSensor", `{"target_time":{"__type":"time","__var":"22:00:00"}}`, ld, worker.OutcomeDeferred, time.Date(2026, 3, 1, 21, 0, 0, 0, time.UTC)},
		{"wait", "time_delta.WaitSensor", `{"time_to_wait":2}`, ld, worker.OutcomeDeferred, ld.Add(2 * time.Minute)},
		{"weekday", "weekday.DayOfWeekSensor", `{"week_day":"SUNDAY","use_task_logical_date":true}`, ld, worker.OutcomeSuccess, time.Time{}},
		{"other weekday", "weekday.DayOfWeekSensor", `{"week_day":["MONDAY"],"use_task_logical_date":true}`, ld, worker.OutcomeUpForReschedule, ld.Add(time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := workertest.DAG(t, `{"timezone":"Europe/Rome"}`, "", workertest.Task{ID: "t", Class: std + "sensors." + c.class, Kwargs: c.kwargs})
			r, log := exec1(t, workertest.Run{DAG: d, Options: at(c.now), Change: func(tc *worker.TaskContext) { tc.StartDate = c.now }}, "", "")
			wake := r.RescheduleAt
			if r.Deferral != nil {
				wake = r.Deferral.Trigger.At
				if r.Deferral.Trigger.EndState != airflow.TISuccess {
					t.Errorf("the timer does not end the task: %+v", r.Deferral)
				}
			}
			if r.Outcome != c.outcome || wake.Sub(c.wake).Abs() > 2*time.Millisecond {
				t.Errorf("%v wakes at %v, want %v at %v\n%s", r.Outcome, wake, c.outcome, c.wake, log)
			}
			if c.name == "async" && r.Deferral.Timeout != 10*time.Second {
				t.Errorf("timeout %v", r.Deferral.Timeout)
			}
		})
	}
	fail := func(tc *worker.TaskContext) {
		tc.NextMethod, tc.NextKwargs = worker.MethodFail, json.RawMessage(`{"error":"Trigger timeout"}`)
	}
	if r, _ := exec1(t, workertest.Run{Change: fail}, std+"sensors.time_delta.TimeDeltaSensorAsync", `{"delta":1}`); r.Outcome != worker.OutcomeFailedFinal {
		t.Errorf("a trigger timeout: %v", r.Outcome)
	}
	if r, _ := exec1(t, workertest.Run{Change: fail}, std+"sensors.time_delta.TimeDeltaSensorAsync", `{"delta":1,"soft_fail":true}`); r.Outcome != worker.OutcomeSkipped {
		t.Errorf("a trigger timeout with soft_fail: %v", r.Outcome)
	}
}

func TestFileAndBashSensors(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a/x.csv", "a/.hidden", "deep/b/c/y.txt"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := workertest.NewBackend()
	b.Connections["here"] = airflow.Connection{ConnType: "fs", Extra: `{"path":"` + dir + `"}`}
	for path, done := range map[string]bool{
		"a/x.csv": true, "a/*.csv": true, "a/*.txt": false, "empty": false, "deep": true, "a/[!x].csv": false, "a/[w-y].csv": true, "*/x.csv": true, "**/y.txt": false, "a/*hidden": false,
	} {
		r, log := exec1(t, workertest.Run{Backend: b, Seq: uint32(len(path)*100 + int(path[0]))}, std+"sensors.filesystem.FileSensor", fmt.Sprintf(`{"filepath":%q,"fs_conn_id":"here"}`, path))
		if (r.Outcome == worker.OutcomeSuccess) != done {
			t.Errorf("%s: %v\n%s", path, r.Outcome, log)
		}
	}
	if r, log := exec1(t, workertest.Run{}, std+"sensors.filesystem.FileSensor", fmt.Sprintf(`{"filepath":%q,"recursive":true}`, dir+"/**/y.txt")); r.Outcome != worker.OutcomeSuccess {
		t.Errorf("recursive: %v\n%s", r.Outcome, log)
	}
	for cmd, want := range map[string]worker.Outcome{`"exit 0"`: worker.OutcomeSuccess, `"exit 1"`: worker.OutcomeUpForReschedule, `"exit 3","retry_exit_code":2`: worker.OutcomeFailed, `"exit 2","retry_exit_code":2`: worker.OutcomeUpForReschedule} {
		if r, log := exec1(t, workertest.Run{}, std+"sensors.bash.BashSensor", `{"bash_command":`+cmd+`}`); r.Outcome != want {
			t.Errorf("%s: %v\n%s", cmd, r.Outcome, log)
		}
	}
}

func TestExternalTaskSensor(t *testing.T) {
	ld := workertest.LogicalDate
	other := ld.Add(-time.Hour)
	backend := func(run airflow.DagRunState, states map[string]airflow.TIState) *workertest.Backend {
		b := workertest.NewBackend()
		b.Runs = []airflow.DagRun{{DagID: "x", RunID: "xr", LogicalDate: &other, State: run}}
		b.States["x"] = map[airflow.RunID]map[string]airflow.TIState{"xr": states}
		b.Dags["x"] = workertest.DAG(t, `{"task_group":{"_group_id":null,"children":{"g":["taskgroup",{"_group_id":"g","children":{"g.a":["operator","g.a"]}}],"a":["operator","a"]}}}`, "",
			workertest.Task{ID: "a", Class: "x.Y"}, workertest.Task{ID: "g.a", Class: "x.Y"})
		return b
	}
	const delta = `"external_dag_id":"x","execution_delta":{"__type":"timedelta","__var":3600}`
	for _, c := range []struct {
		name, kwargs string
		run          airflow.DagRunState
		states       map[string]airflow.TIState
		outcome      worker.Outcome
	}{
		{"run done", delta, airflow.RunSuccess, nil, worker.OutcomeSuccess},
		{"run not done", delta, airflow.RunRunning, nil, worker.OutcomeDeferred},
		{"run failed waits for ever", delta, airflow.RunFailed, nil, worker.OutcomeDeferred},
		{"run failed", delta + `,"failed_states":["failed"]`, airflow.RunFailed, nil, worker.OutcomeFailed},
		{"run failed soft", delta + `,"failed_states":["failed"],"soft_fail":true`, airflow.RunFailed, nil, worker.OutcomeSkipped},
		{"run skipped", delta + `,"skipped_states":["failed"]`, airflow.RunFailed, nil, worker.OutcomeSkipped},
		{"other date", `"external_dag_id":"x"`, airflow.RunSuccess, nil, worker.OutcomeDeferred},
		{"tasks", delta + `,"external_task_ids":["a","b"]`, airflow.RunRunning, map[string]airflow.TIState{"a": airflow.TISuccess, "b": airflow.TISuccess}, worker.OutcomeSuccess},
		{"half of the tasks", delta + `,"external_task_ids":["a","b"]`, airflow.RunRunning, map[string]airflow.TIState{"a": airflow.TISuccess, "b": airflow.TIRunning}, worker.OutcomeDeferred},
		{"group", delta + `,"external_task_group_id":"g"`, airflow.RunRunning, map[string]airflow.TIState{"g.a": airflow.TISuccess, "a": airflow.TIFailed}, worker.OutcomeSuccess},
		{"no group", delta + `,"external_task_group_id":"nope"`, airflow.RunRunning, nil, worker.OutcomeFailed},
		{"overlap", delta + `,"allowed_states":["success"],"failed_states":["success"]`, airflow.RunRunning, nil, worker.OutcomeFailed},
		{"task state of a run", delta + `,"allowed_states":["skipped"]`, airflow.RunRunning, nil, worker.OutcomeFailed},
		{"date function", `"external_dag_id":"x","execution_date_fn":{"__type":"callable","__var":{"lambda":"lambda dt: dt.subtract(hours=1)"}}`, airflow.RunSuccess, nil, worker.OutcomeSuccess},
		{"two dates", `"external_dag_id":"x","execution_date_fn":{"__type":"callable","__var":"callables.dates"}`, airflow.RunSuccess, nil, worker.OutcomeDeferred},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := exec1(t, workertest.Run{Backend: backend(c.run, c.states)}, std+"sensors.external_task.ExternalTaskSensor", `{`+c.kwargs+`}`)
			if r.Outcome != c.outcome {
				t.Errorf("%v, want %v\n%s", r.Outcome, c.outcome, log)
			}
			if c.name == "run not done" {
				tr := r.Deferral.Trigger
				if tr.Kind != worker.TriggerTasks || tr.DagID != "x" || len(tr.LogicalDates) != 1 || !tr.LogicalDates[0].Equal(other) || tr.At.IsZero() || r.Deferral.NextMethod != "poke" {
					t.Errorf("%+v", r.Deferral)
				}
			}
		})
	}
}

func TestTriggerDagRun(t *testing.T) {
	const class = std + "operators.trigger_dagrun.TriggerDagRunOperator"
	now := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	b := workertest.NewBackend()
	r, log := exec1(t, workertest.Run{Backend: b, Options: at(now)}, class, `{"trigger_dag_id":"x","conf":{"__type":"dict","__var":{"k":"{{ ds }}"}},"note":"n"}`)
	if r.Outcome != worker.OutcomeSuccess || len(b.Triggered) != 1 || string(b.Triggered[0].Conf) != `{"k":"2026-03-01"}` || !b.Triggered[0].LogicalDate.Equal(now) ||
		b.Triggered[0].RequestID == "" || workertest.XCom(r, "trigger_run_id") != `"manual__2026-05-01T08:00:00+00:00"` {
		t.Fatalf("%+v %+v\n%s", r, b.Triggered, log)
	}
	again := func(extra string, seq uint32) *worker.Report {
		r, _ := exec1(t, workertest.Run{Backend: b, Seq: seq}, class, `{"trigger_dag_id":"x","trigger_run_id":"manual__2026-05-01T08:00:00+00:00"`+extra+`}`)
		return r
	}
	if r := again("", 2); r.Outcome != worker.OutcomeFailedFinal {
		t.Errorf("existing: %v", r.Outcome)
	}
	if r := again(`,"skip_when_already_exists":true`, 3); r.Outcome != worker.OutcomeSkipped {
		t.Errorf("skip: %v", r.Outcome)
	}
	if r := again(`,"reset_dag_run":true`, 4); r.Outcome != worker.OutcomeSuccess || len(b.Cleared) != 1 {
		t.Errorf("reset: %v %v", r.Outcome, b.Cleared)
	}
	if r := again(`,"logical_date":null,"conf":{"__type":"set","__var":[1]}`, 5); r.Outcome != worker.OutcomeFailed || !strings.Contains(r.Error, "JSON Serializable") {
		t.Errorf("conf: %+v", r)
	}
	// Waiting gives the worker back and looks again.
	now = now.Add(time.Hour)
	kw := `{"trigger_dag_id":"x","trigger_run_id":"w","wait_for_completion":true,"poke_interval":5}`
	r, log = exec1(t, workertest.Run{Backend: b, Options: at(now), Seq: 6}, class, kw)
	if r.Outcome != worker.OutcomeDeferred || r.Deferral.Trigger.Kind != worker.TriggerDagRun || r.Deferral.Trigger.RunIDs[0] != "w" || !r.Deferral.Trigger.At.Equal(now.Add(5*time.Second)) {
		t.Fatalf("%+v\n%s", r.Deferral, log)
	}
	resume := func(s airflow.DagRunState, seq uint32) worker.Outcome {
		b.SetRunState("x", "w", s)
		r, _ := exec1(t, workertest.Run{Backend: b, Seq: seq, Change: func(tc *worker.TaskContext) {
			tc.NextMethod, tc.NextKwargs = "wait_for_completion", json.RawMessage(`{"run_id":"w"}`)
		}}, class, kw)
		return r.Outcome
	}
	if o := resume(airflow.RunRunning, 7); o != worker.OutcomeDeferred {
		t.Errorf("still running: %v", o)
	}
	if o := resume(airflow.RunFailed, 8); o != worker.OutcomeFailedFinal {
		t.Errorf("failed: %v", o)
	}
	if o := resume(airflow.RunSuccess, 9); o != worker.OutcomeSuccess {
		t.Errorf("success: %v", o)
	}
}

func TestHTTP(t *testing.T) {
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		user, pass, _ := r.BasicAuth()
		body := make([]byte, 200)
		n, _ := r.Body.Read(body)
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(404)
		case "/broken":
			w.WriteHeader(503)
			fmt.Fprint(w, "sorry")
		case "/redirect":
			nethttp.Redirect(w, r, "/x", 302)
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"ok":%v,"m":%q,"q":%q,"u":%q,"h":%q,"ct":%q,"b":%q}`, r.URL.Query().Get("no") == "", r.Method, r.URL.RawQuery, user+":"+pass, r.Header.Get("X-A")+r.Header.Get("X-Extra"), r.Header.Get("Content-Type"), body[:n])
		}
	}))
	defer srv.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	b := workertest.NewBackend()
	var p int
	fmt.Sscan(port, &p)
	b.Connections["c"] = airflow.Connection{ConnType: "http", Host: host, Port: p, Login: "me", Password: "pw", Extra: `{"X-Extra":"e","timeout":5}`}
	op, sens := http+"operators.http.HttpOperator", http+"sensors.http.HttpSensor"
	for i, c := range []struct {
		class, kwargs string
		outcome       worker.Outcome
		want          string
	}{
		{op, `{"http_conn_id":"c","endpoint":"p/{{ ds }}","method":"GET","data":{"a":"1 2","b":["x","y"]},"headers":{"X-A":"a"}}`, worker.OutcomeSuccess, `\"q\":\"a=1+2\u0026b=x\u0026b=y\",\"u\":\"me:pw\",\"h\":\"ae\"`},
		{op, `{"http_conn_id":"c","endpoint":"p","data":{"a":"1"}}`, worker.OutcomeSuccess, `\"ct\":\"application/x-www-form-urlencoded\",\"b\":\"a=1\"`},
		{op, `{"http_conn_id":"c","endpoint":"p","data":"raw {{ run_id }}"}`, worker.OutcomeSuccess, `\"b\":\"raw r\"`},
		{op, `{"http_conn_id":"c","endpoint":"p","data":{"__type":"callable","__var":{"json":"{\"k\": 1}"}},"headers":{"Content-Type":"application/json"}}`, worker.OutcomeSuccess, `{\\\"k\\\": 1}`},
		{op, `{"http_conn_id":"c","endpoint":"p","request_kwargs":{"json":{"z":1,"a":[true]}}}`, worker.OutcomeSuccess, `{\\\"a\\\":[true],\\\"z\\\":1}`},
		{op, `{"http_conn_id":"c","endpoint":"broken","log_response":true}`, worker.OutcomeFailed, "503:Service Unavailable"},
		{op, `{"http_conn_id":"c","endpoint":"broken","extra_options":{"check_response":false}}`, worker.OutcomeSuccess, `"sorry"`},
		{op, `{"http_conn_id":"c","endpoint":"redirect","method":"GET","extra_options":{"allow_redirects":false}}`, worker.OutcomeSuccess, "Found"},
		{op, `{"http_conn_id":"c","endpoint":"p","response_check":{"__type":"callable","__var":"callables.check"}}`, worker.OutcomeSuccess, ""},
		{op, `{"http_conn_id":"c","endpoint":"p?no=1","response_check":{"__type":"callable","__var":"callables.check"}}`, worker.OutcomeFailed, "Response check returned False."},
		{op, `{"http_conn_id":"c","endpoint":"p","response_filter":{"__type":"callable","__var":"callables.flt"}}`, worker.OutcomeSuccess, `[200,"{\"ok\":true`},
		{op, `{"http_conn_id":"nope","endpoint":"p"}`, worker.OutcomeFailed, "The conn_id `nope` isn't defined"},
		{op, `{"endpoint":"` + srv.URL + `/p"}`, worker.OutcomeSuccess, "ok"},
		{sens, `{"http_conn_id":"c","endpoint":"p"}`, worker.OutcomeSuccess, ""},
		{sens, `{"http_conn_id":"c","endpoint":"missing"}`, worker.OutcomeUpForReschedule, ""},
		{sens, `{"http_conn_id":"c","endpoint":"broken"}`, worker.OutcomeFailed, "503"},
		{sens, `{"http_conn_id":"c","endpoint":"broken","response_error_codes_allowlist":["404","503"]}`, worker.OutcomeUpForReschedule, ""},
		{sens, `{"http_conn_id":"c","endpoint":"p","request_params":{"no":"{{ 1 }}"},"response_check":{"__type":"callable","__var":{"lambda":"lambda response: response.json()['ok']"}}}`, worker.OutcomeUpForReschedule, ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r, log := exec1(t, workertest.Run{Backend: b, Seq: uint32(i + 1)}, c.class, c.kwargs)
			all := workertest.XCom(r, "return_value") + r.Error + log
			if r.Outcome != c.outcome || !strings.Contains(strings.ReplaceAll(all, "isn't defined", "isn't defined"), c.want) && !strings.Contains(strings.ToLower(all), strings.ToLower(c.want)) {
				t.Errorf("%s\n%v %s\n%s", c.kwargs, r.Outcome, workertest.XCom(r, "return_value"), log)
			}
		})
	}
}

func TestHITL(t *testing.T) {
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: std + "operators.hitl.ApprovalOperator", Kwargs: `{"subject":"deploy {{ ds }}?"}`, Downstream: []string{"n"}}, workertest.Task{ID: "n", Class: "x.Y"})
	r, _ := exec1(t, workertest.Run{DAG: d}, "", "")
	if r.Outcome != worker.OutcomeDeferred || r.Deferral.Trigger.Request.Subject != "deploy 2026-03-01?" || len(r.Deferral.Trigger.Request.Options) != 2 {
		t.Fatalf("%+v", r)
	}
	answer := func(o string) *worker.Report {
		r, _ := exec1(t, workertest.Run{DAG: d, Change: func(tc *worker.TaskContext) {
			tc.NextMethod, tc.TriggerEvent = "execute_complete", json.RawMessage(`{"chosen_options":["`+o+`"]}`)
		}}, "", "")
		return r
	}
	if r := answer("Approve"); r.Outcome != worker.OutcomeSuccess || r.Skip != nil {
		t.Errorf("%+v", r)
	}
	if r := answer("Reject"); r.Outcome != worker.OutcomeSuccess || r.Skip == nil || len(r.Skip.Tasks) != 1 {
		t.Errorf("%+v", r)
	}
	if r := answer("Maybe"); r.Outcome != worker.OutcomeFailed {
		t.Errorf("%+v", r)
	}
}
