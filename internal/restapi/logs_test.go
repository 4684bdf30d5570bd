package restapi_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/tasklog"
)

func (w *world) log(path, accept string) (*httptest.ResponseRecorder, restapi.TaskInstancesLogResponse) {
	w.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(w.Context(), "GET", path, nil)
	r.Header.Set("Accept", accept)
	w.api.ServeHTTP(rec, r)
	var v restapi.TaskInstancesLogResponse
	if strings.Contains(rec.Header().Get("Content-Type"), "json") && !strings.Contains(rec.Header().Get("Content-Type"), "ndjson") {
		if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
			w.Fatal(err)
		}
	}
	return rec, v
}

// TestLogs reads the logs of tries that are over and of one that runs: whole, in
// parts, as lines, and followed.
func TestLogs(t *testing.T) {
	w := memWorld(t)
	files := tasklog.New(t.TempDir(), tasklog.Options{})
	w.api = restapi.New(restapi.Options{Store: w.h.Store, Engine: w.h.Engine, Now: w.h.Clock.Now, Logs: files, Follow: time.Minute})
	write := func(run, task string, mapIndex, try, lines int) {
		t.Helper()
		l, err := files.Create(airflow.TaskInstanceKey{DagID: airflow.DagID(strings.Split(run, "/")[0]), RunID: airflow.RunID(strings.Split(run, "/")[1]), TaskID: airflow.TaskID(task), MapIndex: mapIndex}, try)
		if err != nil {
			t.Fatal(err)
		}
		for i := range lines {
			if err := l.Log("info", "task", fmt.Sprintf("line %d of try %d %s", i, try, strings.Repeat("x", 400))); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	twice := "" // a run of beta whose task c was tried twice
	for _, x := range w.call("GET", "/api/v2/dags/beta/dagRuns/~/taskInstances?task_id=c&limit=100", "", 200)["task_instances"].([]any) {
		if fmt.Sprint(x.(row)["try_number"]) == "2" {
			twice = str(x.(row), "dag_run_id")
		}
	}
	if twice == "" {
		t.Fatal("no run of beta has a second try of c")
	}
	write("beta/"+twice, "c", -1, 1, 3)
	write("beta/"+twice, "c", -1, 2, 6000)
	base := "/api/v2/dags/beta/dagRuns/" + twice + "/taskInstances/c/logs/"
	if rec, v := w.log(base+"1", "application/json"); rec.Code != 200 || len(v.Content) != 3 || v.ContinuationToken != nil || !strings.HasPrefix(v.Content[2].Event, "line 2 of try 1") {
		t.Errorf("first try: %d %+v", rec.Code, v)
	}
	// A long log comes in parts, which the token joins.
	n, token, parts := 0, "", 0
	for ; parts < 20; parts++ {
		rec, v := w.log(base+"2?token="+url.QueryEscape(token), "application/json")
		if rec.Code != 200 || rec.Body.Len() > 2<<20 {
			t.Fatalf("part %d: %d, %d bytes", parts, rec.Code, rec.Body.Len())
		}
		for _, e := range v.Content {
			if !strings.HasPrefix(e.Event, fmt.Sprintf("line %d of try 2 ", n)) {
				t.Fatalf("line %d: %.40s", n, e.Event)
			}
			n++
		}
		if v.ContinuationToken == nil {
			break
		}
		token = *v.ContinuationToken
	}
	if n != 6000 || parts < 2 {
		t.Errorf("%d lines in %d parts", n, parts+1)
	}
	if rec, _ := w.log(base+"1?token="+url.QueryEscape(token), "application/json"); rec.Code != 400 {
		t.Errorf("the token of another try: %d", rec.Code)
	}
	if rec, _ := w.log(base+"1?token=../../etc", "application/json"); rec.Code != 400 {
		t.Errorf("no token at all: %d", rec.Code)
	}
	if _, v := w.log(base+"2?full_content=true", "application/json"); len(v.Content) != 6000 || v.ContinuationToken != nil {
		t.Errorf("whole: %d lines", len(v.Content))
	}
	rec, _ := w.log(base+"1", "application/x-ndjson")
	if lines := strings.Split(strings.TrimSpace(rec.Body.String()), "\n"); rec.Header().Get("Content-Type") != "application/x-ndjson" || len(lines) != 3 || !json.Valid([]byte(lines[0])) || rec.Header().Get("Airflow-Continuation-Token") != "" {
		t.Errorf("as lines: %v %s", rec.Header(), rec.Body)
	}
	if rec, _ := w.log(base+"1?follow=true", "application/x-ndjson"); strings.Count(rec.Body.String(), "\n") != 3 {
		t.Errorf("followed to the end: %s", rec.Body)
	}
	for path, want := range map[string]int{base + "3": 404, base + "0": 422, strings.Replace(base, "/c/", "/nope/", 1) + "1": 404, base + "1?map_index=4": 404, strings.Replace(base, twice, "nope", 1) + "1": 404} {
		if rec, _ := w.log(path, "application/json"); rec.Code != want {
			t.Errorf("%s: %d, expected %d", path, rec.Code, want)
		}
	}
	if rec, _ := w.log(base+"1", "text/plain"); rec.Code != 406 {
		t.Errorf("as text: %d", rec.Code)
	}
	// A try that runs, or has not written anything yet, has a token to go on with.
	queued := ""
	for _, x := range w.call("GET", "/api/v2/dags/~/dagRuns/~/taskInstances?state=queued", "", 200)["task_instances"].([]any) {
		if x.(row)["task_id"] == "a" {
			queued = str(x.(row), "dag_id") + "/dagRuns/" + str(x.(row), "dag_run_id")
		}
	}
	if rec, v := w.log("/api/v2/dags/"+queued+"/taskInstances/a/logs/1", "application/json"); rec.Code != 200 || v.ContinuationToken == nil || len(v.Content) != 0 {
		t.Errorf("before its first line: %d %+v", rec.Code, v)
	}
}
