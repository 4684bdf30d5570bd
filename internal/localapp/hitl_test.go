package localapp

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

const hitlDAG = `people:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    - {task_id: ask, operator: airflow.providers.standard.operators.hitl.HITLOperator, subject: "Which of {{ run_id }}?", options: [red, green], params: {n: 3}}
    - {task_id: got, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ ti.xcom_pull(task_ids='ask')['chosen_options'] }} {{ ti.xcom_pull(task_ids='ask')['params_input']['n'] }}", dependencies: [ask]}
    - {task_id: approve, operator: airflow.providers.standard.operators.hitl.ApprovalOperator, subject: "Ship?", dependencies: [got]}
    - {task_id: ship, operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [approve]}
    - {task_id: choose, operator: airflow.providers.standard.operators.hitl.HITLBranchOperator, subject: "Where?", options: [east, west], dependencies: [got]}
    - {task_id: east, operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [choose]}
    - {task_id: west, operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [choose]}
    - {task_id: late, operator: airflow.providers.standard.operators.hitl.HITLEntryOperator, subject: Quick, response_timeout: {__type__: datetime.timedelta, seconds: 1}, dependencies: [got]}
`

// TestPeopleAnswer: tasks of a YAML DAG ask people, who answer over HTTP; the
// tasks go on with that.
func TestPeopleAnswer(t *testing.T) {
	home, dags := t.TempDir(), t.TempDir()
	write(t, dags, "people.yml", hitlDAG)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- Serve(ctx, Options{Home: home, DagsFolder: dags, Loader: testLoader(t, dags), Engine: engine.Config{}}, ServeOptions{
			Addr: "127.0.0.1:0", AdminPassword: "correct horse", Ready: func(addr string, _ dagprocessor.Summary) { ready <- addr }})
	}()
	var addr string
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatalf("server ended: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	token := ""
	call := func(method, path, body string, want int) map[string]any {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		v := map[string]any{}
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %d %v %v", method, path, resp.StatusCode, v, err)
		}
		return v
	}
	token, _ = call("POST", "/auth/token", `{"username":"admin","password":"correct horse"}`, 201)["access_token"].(string)
	if v := call("GET", "/api/v2/importErrors", "", 200); v["total_entries"] != 0.0 {
		t.Fatalf("%v", v)
	}
	call("POST", "/api/v2/dags/people/dagRuns", `{"dag_run_id":"r1","logical_date":null}`, 200)
	answer := func(task, body string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
			v := call("GET", "/api/v2/dags/~/dagRuns/~/hitlDetails?response_received=false&task_id="+task, "", 200)
			if v["total_entries"] == 1.0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s asks nobody", task)
			}
		}
		path := "/api/v2/dags/people/dagRuns/r1/taskInstances/" + task + "/-1/hitlDetails"
		call("PATCH", path, body, 200)
		call("PATCH", path, body, 409)
	}
	answer("ask", `{"chosen_options":["green"],"params_input":{"n":7}}`)
	answer("approve", `{"chosen_options":["Reject"]}`)
	answer("choose", `{"chosen_options":["west"]}`)

	tool, err := Open(t.Context(), Options{Home: home, DagsFolder: dags})
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	k := store.RunKey{DagID: "people", RunID: "r1"}
	if r := waitRun(t, tool.Store, k); r.State != airflow.RunSuccess {
		t.Errorf("the run is %s", r.State)
	}
	tis, err := tool.Engine.TaskInstances(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	want := map[airflow.TaskID]airflow.TIState{
		"ask": airflow.TISuccess, "got": airflow.TISuccess, "approve": airflow.TISuccess, "ship": airflow.TISkipped, "choose": airflow.TISuccess, "east": airflow.TISkipped, "west": airflow.TISuccess,
		"late": airflow.TISuccess,
	}
	for _, ti := range tis {
		if ti.State != want[ti.TaskID] {
			t.Errorf("%s is %s, expected %s", ti.TaskID, ti.State, want[ti.TaskID])
		}
	}
	for task, text := range map[airflow.TaskID]string{"got": `"[green] 7"`} {
		x, err := tool.Store.GetXCom(t.Context(), airflow.TaskInstanceKey{DagID: "people", RunID: "r1", TaskID: task, MapIndex: airflow.Unmapped}, airflow.XComReturnKey)
		if err != nil || string(x.Value) != text {
			t.Errorf("XCom of %s: %s %v, expected %s", task, x.Value, err, text)
		}
	}
	// Nobody answered: the default was taken, by nobody.
	v := call("GET", "/api/v2/dags/people/dagRuns/r1/taskInstances/late/-1/hitlDetails", "", 200)
	if v["response_received"] != true || v["responded_by_user"] != nil {
		t.Errorf("%v", v)
	}
}
