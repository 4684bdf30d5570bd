package restapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

func memWorld(t *testing.T) *world {
	h := enginetest.New(memkv.New(memkv.Options{}), engine.Config{}, nil)
	t.Cleanup(h.Engine.Close)
	w := &world{T: t, h: h, api: restapi.New(restapi.Options{Store: h.Store, Engine: h.Engine, Now: h.Clock.Now})}
	w.history()
	return w
}

// call makes a request and expects a status.
func (w *world) call(method, path, body string, want int) row {
	w.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(w.Context(), method, path, io.NopCloser(strings.NewReader(body)))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w.api.ServeHTTP(rec, r)
	if rec.Code != want {
		w.Fatalf("%s %s %s: %d, expected %d: %s", method, path, body, rec.Code, want, rec.Body)
	}
	dec := json.NewDecoder(rec.Body)
	dec.UseNumber()
	var v any
	if rec.Body.Len() > 0 {
		if err := dec.Decode(&v); err != nil {
			w.Fatalf("%s %s: %v", method, path, err)
		}
	}
	m, _ := v.(row)
	return m
}

// finished is a run of a DAG in a state.
func (w *world) runIn(dag, state string) string {
	w.Helper()
	for _, r := range w.call("GET", "/api/v2/dags/"+dag+"/dagRuns?state="+state, "", 200)["dag_runs"].([]any) {
		return str(r.(row), "dag_run_id")
	}
	w.Fatalf("no run of %s is %s", dag, state)
	return ""
}

func (w *world) states(dag, run string) map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, x := range w.call("GET", "/api/v2/dags/"+dag+"/dagRuns/"+run+"/taskInstances?limit=100", "", 200)["task_instances"].([]any) {
		t := x.(row)
		out[fmt.Sprintf("%s[%v]", t["task_id"], t["map_index"])] = str(t, "state")
	}
	return out
}

func taskIDs(v row) (out []string) {
	for _, x := range v["task_instances"].([]any) {
		out = append(out, str(x.(row), "task_id"))
	}
	return out
}

func TestChangesOfRuns(t *testing.T) {
	w := memWorld(t)
	const runs = "/api/v2/dags/alpha/dagRuns/"
	ended := w.runIn("alpha", "success")
	if v := w.call("PATCH", runs+ended, `{"note": "looked at", "state": "failed"}`, 200); v["note"] != "looked at" || v["state"] != "failed" {
		t.Errorf("patched: %v", v)
	}
	if v := w.call("PATCH", runs+ended+"?update_mask=nonsense", `{"note": "other"}`, 200); v["note"] != "looked at" {
		t.Errorf("an unknown mask changed something: %v", v)
	}
	if v := w.call("PATCH", runs+ended, `{"note": null}`, 200); v["note"] != nil {
		t.Errorf("note not removed: %v", v)
	}
	if v := w.call("POST", runs+ended+"/clear", `{}`, 200); len(v["task_instances"].([]any)) != 6 || w.call("GET", runs+ended, "", 200)["state"] != "failed" {
		t.Errorf("a dry clear: %v", v)
	}
	if v := w.call("POST", runs+ended+"/clear", `{"dry_run": false, "note": "again"}`, 200); v["state"] != "queued" || v["note"] != "again" {
		t.Errorf("cleared: %v", v)
	}
	if s := w.states("alpha", ended); s["a[-1]"] == "success" {
		t.Errorf("after a clear: %v", s)
	}
	other := w.runIn("alpha", "failed")
	v := w.call("POST", "/api/v2/dags/alpha/clearDagRuns", `{"dry_run": false, "dag_runs": [{"dag_run_id": "`+other+`"}]}`, 200)
	if l := v["dag_runs"].([]any); len(l) != 1 || l[0].(row)["state"] != "queued" {
		t.Errorf("clearDagRuns: %v", v)
	}
	running := w.runIn("alpha", "running")
	w.call("DELETE", runs+running, "", 409)
	v = w.call("PATCH", "/api/v2/dags/alpha/dagRuns", `{"actions": [{"action": "update", "entities": [{"dag_run_id": "`+running+`", "state": "failed"}]},
		{"action": "delete", "entities": ["`+running+`", "absent"]}, {"action": "delete", "entities": ["absent"], "action_on_non_existence": "skip"}]}`, 200)
	if u, d := v["update"].(row), v["delete"].(row); len(u["success"].([]any)) != 1 || len(d["success"].([]any)) != 1 || len(d["errors"].([]any)) != 1 || v["create"] != nil {
		t.Errorf("bulk: %v", v)
	}
	w.call("GET", runs+running, "", 404)
	last := w.runIn("alpha", "success")
	w.call("DELETE", runs+last, "", 204)
	w.call("GET", runs+last, "", 404)
	if _, err := w.h.Store.GetRun(t.Context(), store.RunKey{DagID: "alpha", RunID: airflow.RunID(last)}); err == nil {
		t.Error("the deleted run is still there")
	}
}

func TestChangesOfInstances(t *testing.T) {
	w := memWorld(t)
	run := w.runIn("alpha", "success")
	base := "/api/v2/dags/alpha/dagRuns/" + run
	if v := w.call("PATCH", base+"/taskInstances/a/dry_run", `{"new_state": "failed", "include_downstream": true}`, 200); !slices.Equal(taskIDs(v), []string{"a", "g.b", "e"}) || w.states("alpha", run)["a[-1]"] != "success" {
		t.Errorf("dry run: %v", taskIDs(v))
	}
	if v := w.call("PATCH", base+"/taskInstances/a", `{"new_state": "failed", "note": "by hand"}`, 200); !slices.Equal(taskIDs(v), []string{"a"}) {
		t.Errorf("marked: %v", v)
	}
	if v := w.call("GET", base+"/taskInstances/a", "", 200); v["state"] != "failed" || v["note"] != "by hand" {
		t.Errorf("after the mark: %v", v)
	}
	w.call("PATCH", base+"/taskInstances/a", `{"new_state": "failed"}`, 409)
	w.call("PATCH", base+"/taskInstances/absent", `{"new_state": "failed"}`, 404)
	w.call("PATCH", base+"/taskInstances/m/1", `{"new_state": "failed"}`, 200)
	if s := w.states("alpha", run); s["m[1]"] != "failed" || s["m[0]"] != "success" {
		t.Errorf("one mapped instance: %v", s)
	}
	w.call("PATCH", base+"/taskInstances/m/1/dry_run", `{"new_state": "success"}`, 200)
	if v := w.call("PATCH", base+"/taskGroupInstances/g/dry_run", `{"new_state": "skipped"}`, 200); !slices.Equal(taskIDs(v), []string{"g.b"}) {
		t.Errorf("group, dry: %v", taskIDs(v))
	}
	w.call("PATCH", base+"/taskGroupInstances/g", `{"new_state": "skipped"}`, 200)
	if s := w.states("alpha", run); s["g.b[-1]"] != "skipped" {
		t.Errorf("group: %v", s)
	}
	w.call("PATCH", base+"/taskGroupInstances/nope", `{"new_state": "skipped"}`, 404)
	v := w.call("PATCH", base+"/taskInstances", `{"actions": [{"action": "update", "entities": [{"task_id": "m", "map_index": 1, "new_state": "skipped"}, {"task_id": "nope"}]}]}`, 200)
	if u := v["update"].(row); len(u["success"].([]any)) != 1 || len(u["errors"].([]any)) != 1 || w.states("alpha", run)["m[1]"] != "skipped" {
		t.Errorf("bulk: %v", v)
	}
	// Clearing: by state, by task and map index, downstream; what is named and unknown is none.
	clear := func(body string) row {
		return w.call("POST", "/api/v2/dags/alpha/clearTaskInstances", `{"dag_run_id": "`+run+`", `+body+`}`, 200)
	}
	if v := clear(`"only_failed": true`); !slices.Equal(taskIDs(v), []string{"a"}) {
		t.Errorf("failed ones: %v", taskIDs(v))
	}
	if v := clear(`"only_failed": false, "task_ids": ["nope"]`); len(taskIDs(v)) != 0 {
		t.Errorf("an unknown task: %v", taskIDs(v))
	}
	if v := clear(`"only_failed": false, "task_ids": [["m", 1], ["m", 2]]`); len(taskIDs(v)) != 2 {
		t.Errorf("two mapped ones: %v", taskIDs(v))
	}
	if v := clear(`"only_failed": false, "dry_run": false, "task_ids": ["a"], "include_downstream": true, "note": "n"`); len(taskIDs(v)) != 3 || v["task_instances"].([]any)[0].(row)["state"] != nil {
		t.Errorf("cleared: %v", v)
	}
	if s := w.states("alpha", run); s["a[-1]"] == "failed" || s["m[1]"] != "skipped" {
		t.Errorf("after the clear: %v", s)
	}
	for _, bad := range []string{`{}`, `{"only_running": true}`, `{"only_failed": false, "include_past": true}`, `{"task_ids": []}`, `{"start_date": "2025-01-02T00:00:00Z", "end_date": "2025-01-01T00:00:00Z"}`} {
		if bad == `{}` {
			w.call("POST", "/api/v2/dags/alpha/clearTaskInstances", bad, 200)
			continue
		}
		w.call("POST", "/api/v2/dags/alpha/clearTaskInstances", bad, 422)
	}
}

func TestChangesOfXComsAndDags(t *testing.T) {
	w := memWorld(t)
	run := w.runIn("alpha", "success")
	xcoms := "/api/v2/dags/alpha/dagRuns/" + run + "/taskInstances/a/xcomEntries"
	w.call("POST", xcoms, `{"key": "k/1", "value": {"a": [1, null]}}`, 201)
	w.call("POST", xcoms, `{"key": "k/1", "value": 2}`, 409)
	if v := w.call("GET", xcoms+"/k/1?stringify=true", "", 200); v["value"] != "{'a': [1, None]}" {
		t.Errorf("as text: %v", v)
	}
	w.call("GET", xcoms+"/k/1?deserialize=true", "", 400)
	w.call("PATCH", xcoms+"/k/1", `{"value": "new"}`, 200)
	w.call("PATCH", xcoms+"/return_value", `{"value": 7}`, 200) // it travels in the row
	if a, b := w.call("GET", xcoms+"/k/1", "", 200), w.call("GET", xcoms+"/return_value", "", 200); a["value"] != "new" || fmt.Sprint(b["value"]) != "7" {
		t.Errorf("changed: %v %v", a, b)
	}
	w.call("DELETE", xcoms+"/return_value", "", 204)
	w.call("DELETE", xcoms+"/return_value", "", 404)
	w.call("PATCH", xcoms+"/return_value", `{"value": 1}`, 404)
	w.call("POST", strings.Replace(xcoms, "/a/", "/nope/", 1), `{"key": "x", "value": 1}`, 404)

	w.call("POST", "/api/v2/dags/alpha/favorite", "", 204)
	w.call("POST", "/api/v2/dags/alpha/favorite", "", 409)
	if v := w.call("GET", "/api/v2/dags/alpha/details", "", 200); v["is_favorite"] != true {
		t.Errorf("not a favourite: %v", v["is_favorite"])
	}
	w.call("POST", "/api/v2/dags/alpha/unfavorite", "", 204)
	w.call("POST", "/api/v2/dags/alpha/unfavorite", "", 409)
	paused := func() (out []string) {
		for _, x := range w.call("GET", "/api/v2/dags?exclude_stale=false&paused=true", "", 200)["dags"].([]any) {
			out = append(out, str(x.(row), "dag_id"))
		}
		return out
	}
	w.call("PATCH", "/api/v2/dags", `{"is_paused": true}`, 200)
	if got := paused(); !slices.Equal(got, []string{"beta"}) {
		t.Errorf("a bulk patch without a pattern paused %v", got)
	}
	w.call("PATCH", "/api/v2/dags?dag_id_pattern=~&exclude_stale=false", `{"is_paused": true}`, 200)
	if got := paused(); len(got) != 3 {
		t.Errorf("paused: %v", got)
	}
	w.call("PATCH", "/api/v2/dags/alpha", `{"is_paused": false}`, 200)
	if got := paused(); len(got) != 2 {
		t.Errorf("one un-paused: %v", got)
	}
	w.call("DELETE", "/api/v2/dags/alpha", "", 409) // it has running runs
	for _, r := range w.call("GET", "/api/v2/dags/alpha/dagRuns?state=running&limit=100", "", 200)["dag_runs"].([]any) {
		w.call("PATCH", "/api/v2/dags/alpha/dagRuns/"+str(r.(row), "dag_run_id"), `{"state": "failed"}`, 200)
	}
	w.call("DELETE", "/api/v2/dags/alpha", "", 200)
	w.call("GET", "/api/v2/dags/alpha", "", 404)
	if v := w.call("GET", "/api/v2/dags/~/dagRuns?limit=100", "", 200); len(v["dag_runs"].([]any)) != 6 {
		t.Errorf("runs left: %d", len(v["dag_runs"].([]any)))
	}
	if v := w.call("GET", "/api/v2/dagStats", "", 200); len(v["dags"].([]any)) != 1 {
		t.Errorf("stats: %v", v)
	}
}

// TestChangesAreAudited checks who, what and from where, that refused changes
// leave an entry too, and that no secret does.
func TestChangesAreAudited(t *testing.T) {
	w := memWorld(t)
	w.call("POST", "/api/v2/dags/alpha/dagRuns", `{"logical_date": null, "conf": {"password": "s3cr3t", "n": 1.50}, "dag_run_id": "mine"}`, 200)
	w.call("POST", "/api/v2/dags/alpha/dagRuns", `{"logical_date": null, "zz": 1}`, 422)
	w.call("POST", "/api/v2/dags/~/dagRuns/list", `{}`, 200)
	evs, _, err := w.h.Store.ListAudit(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range evs {
		var extra string
		if json.Unmarshal(e.Extra, &extra) != nil || e.Source == "" {
			continue // the engine's own
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %s", e.Owner, e.Event, e.DagID, e.RunID, extra))
	}
	want := []string{
		`admin trigger_dag_run alpha mine {"logical_date": null, "conf": {"password": "***", "n": 1.50}, "dag_run_id": "mine", "method": "POST"}`,
		`admin trigger_dag_run alpha  {"logical_date": null, "zz": 1, "method": "POST"}`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("audit:\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNamesThatCannotBeStored: what no key can hold is the caller's mistake.
func TestNamesThatCannotBeStored(t *testing.T) {
	w := memWorld(t)
	w.call("POST", "/api/v2/pools", `{"name": "", "slots": 1}`, 422)
	long := strings.Repeat("x", 3000)
	for path, want := range map[string]int{"/api/v2/dags/" + long: 404, "/api/v2/dags/alpha/dagRuns/" + long: 404, "/api/v2/dags/alpha/dagRuns/" + long + "/taskInstances": 404} {
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Code != want && rec.Code != 422 {
			t.Errorf("%.60s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

// TestWaitForARun checks the lines of waiting, and the one that a client gets which
// takes JSON only.
func TestWaitForARun(t *testing.T) {
	w := memWorld(t)
	path := "/api/v2/dags/alpha/dagRuns/" + w.runIn("alpha", "success") + "/wait?interval=1&result=a&result=m&result=nope"
	for accept, want := range map[string]string{
		"application/x-ndjson": "application/x-ndjson", "application/json": "application/json", "*/*": "application/x-ndjson",
	} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		r.Header.Set("Accept", accept)
		w.api.ServeHTTP(rec, r)
		var v struct {
			State   string
			Results map[string]any
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != 200 || rec.Header().Get("Content-Type") != want || v.State != "success" {
			t.Errorf("%s: %d %v %s", accept, rec.Code, rec.Header(), rec.Body)
		}
		if m, _ := v.Results["m"].([]any); v.Results["a"] == nil || len(m) != 2 || v.Results["nope"] != nil {
			t.Errorf("results: %v", v.Results)
		}
	}
	running := "/api/v2/dags/alpha/dagRuns/" + w.runIn("alpha", "running") + "/wait"
	if v := w.call("GET", running+"?interval=1", "", 200); v["state"] != "running" {
		t.Errorf("a server that may not wait: %v", v)
	}
	w.call("GET", running+"?interval=0", "", 422)
	w.call("GET", running, "", 422)
	w.call("GET", "/api/v2/dags/alpha/dagRuns/absent/wait?interval=1", "", 404)
}
