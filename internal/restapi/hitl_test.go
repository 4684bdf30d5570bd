package restapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// TestHumanInTheLoop asks, answers and reads back what the answer did.
func TestHumanInTheLoop(t *testing.T) {
	w := memWorld(t)
	ctx := t.Context()
	ask := func(dag string, q worker.HITLRequest) {
		t.Helper()
		if _, err := w.h.Register(ctx, enginetest.Chain(dag, 2)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.h.Trigger(ctx, dag, "r"); err != nil {
			t.Fatal(err)
		}
		for _, d := range w.h.Queue.Take() {
			if string(d.Key.DagID) != dag {
				continue
			}
			out := enginetest.Outcome{Report: worker.Report{Outcome: worker.OutcomeDeferred, Deferral: &worker.Deferral{Trigger: worker.Trigger{Kind: worker.TriggerHITL, Request: &q}, NextMethod: "execute_complete"}}}
			if err := w.h.Run(ctx, d, out); err != nil {
				t.Fatal(err)
			}
		}
		w.h.Engine.Drain(ctx)
	}
	ask("ship", worker.HITLRequest{Subject: "Ship it?", Body: "Version 2", Options: []string{"yes", "no"}, Defaults: []string{"no"}, Params: json.RawMessage(`{"n":{"value":1,"description":null,"schema":{"type":"integer"}}}`)})
	w.h.Clock.Advance(time.Minute)
	ask("pay", worker.HITLRequest{Subject: "Pay it?", Options: []string{"a", "b", "c"}, Multiple: true, AssignedUsers: json.RawMessage(`[{"id":"bob","name":"Bob"}]`)})

	const list = "/api/v2/dags/~/dagRuns/~/hitlDetails"
	found := func(query string, want ...string) {
		t.Helper()
		v := w.call("GET", list+query, "", 200)
		got := []string{}
		for _, x := range v["hitl_details"].([]any) {
			got = append(got, str(x.(row)["task_instance"].(row), "dag_id"))
		}
		if len(want) == 0 {
			want = []string{}
		}
		if !slices.Equal(got, want) || fmt.Sprint(v["total_entries"]) != fmt.Sprint(len(want)) {
			t.Errorf("%s: %v of %v, expected %v", query, got, v["total_entries"], want)
		}
	}
	found("?response_received=false", "ship", "pay")
	found("?response_received=true")
	found("?order_by=subject", "pay", "ship")
	found("?order_by=-created_at&limit=5&state=deferred&state=awaiting_input", "pay", "ship")
	found("?state=success")
	found("?subject_search=SHIP", "ship")
	found("?body_search=version", "ship")
	found("?dag_id_pattern=a&task_id=t000&map_index=-1", "pay")
	found("?dag_id_prefix_pattern=s", "ship")
	found("?task_id_pattern=nope")
	found("?created_at_gt=2100-01-01T00:00:00Z")
	w.call("GET", list+"?order_by=nope", "", 400)
	w.call("GET", list+"?state=nope", "", 422)
	if v := w.call("GET", "/api/v2/dags/ship/dagRuns/r/hitlDetails", "", 200); fmt.Sprint(v["total_entries"]) != "1" {
		t.Errorf("%v", v)
	}

	const one = "/api/v2/dags/ship/dagRuns/r/taskInstances/t000/-1/hitlDetails"
	v := w.call("GET", one, "", 200)
	if ti := v["task_instance"].(row); v["subject"] != "Ship it?" || v["response_received"] != false || v["chosen_options"] != nil || fmt.Sprint(v["options"], v["defaults"]) != "[yes no] [no]" || ti["state"] != "deferred" || ti["trigger"] == nil {
		t.Errorf("%v", v)
	}
	w.call("GET", strings.Replace(one, "t000", "t001", 1), "", 404)
	w.call("GET", strings.Replace(one, "-1", "3", 1), "", 404)
	for body, want := range map[string]int{
		`{}`: 422, `{"chosen_options": []}`: 422, `{"chosen_options": ["yes"], "params_input": 5}`: 422, `{"chosen_options": ["maybe"], "params_input": {"n": 1}}`: 400,
		`{"chosen_options": ["yes", "no"], "params_input": {"n": 1}}`: 400, `{"chosen_options": ["yes"]}`: 400, `{"chosen_options": ["yes"], "params_input": {"m": 1}}`: 400,
	} {
		w.call("PATCH", one, body, want)
	}
	w.call("PATCH", strings.Replace(one, "t000", "t001", 1), `{"chosen_options": ["yes"]}`, 404)
	w.call("PATCH", "/api/v2/dags/pay/dagRuns/r/taskInstances/t000/-1/hitlDetails", `{"chosen_options": ["a"]}`, 403) // bob's
	a := w.call("PATCH", one, `{"chosen_options": ["yes"], "params_input": {"n": 12345678901234567890}}`, 200)
	if fmt.Sprintf("%v %v %v", a["chosen_options"], a["params_input"].(row)["n"], a["responded_by"].(row)["id"]) != "[yes] 12345678901234567890 admin" || a["responded_at"] == nil {
		t.Errorf("%v", a)
	}
	w.call("PATCH", one, `{"chosen_options": ["no"], "params_input": {"n": 1}}`, 409)
	v = w.call("GET", one, "", 200)
	if v["response_received"] != true || fmt.Sprint(v["chosen_options"]) != "[yes]" || v["responded_at"] == nil || v["responded_by_user"].(row)["name"] != "admin" {
		t.Errorf("%v", v)
	}
	found("?response_received=false", "pay")
	found("?response_received=true", "ship")
	found("?responded_by_user_id=admin", "ship")
	found("?responded_by_user_name=bob")
	found("?order_by=-responded_at", "ship", "pay") // a null comes last

	// The task goes on with the answer.
	w.h.Engine.Drain(ctx)
	ds := w.h.Queue.Take()
	if len(ds) != 1 || ds[0].Key.DagID != "ship" {
		t.Fatalf("dispatched: %v", ds)
	}
	tc, err := w.h.Backend.Claim(ctx, ds[0], w.h.Who)
	if err != nil || !strings.Contains(string(tc.TriggerEvent), `"chosen_options":["yes"]`) {
		t.Fatalf("%+v %v", tc, err)
	}
	if err := w.h.Finish(ctx, ds[0], tc, enginetest.Success(nil)); err != nil {
		t.Fatal(err)
	}
	w.h.Engine.Drain(ctx)
	if s := w.states("ship", "r"); s["t000[-1]"] != "success" {
		t.Errorf("%v", s)
	}
	found("?state=success", "ship")

	// Its answer is history once it is cleared.
	w.call("POST", "/api/v2/dags/ship/clearTaskInstances", `{"dag_run_id": "r", "task_ids": ["t000"], "dry_run": false, "only_failed": false}`, 200)
	w.h.Engine.Drain(ctx)
	w.call("GET", one, "", 404)
	found("", "pay")
	old := w.call("GET", one+"/tries/1", "", 200)
	if fmt.Sprintf("%v %v", old["chosen_options"], old["task_instance"].(row)["try_number"]) != "[yes] 1" {
		t.Errorf("%v", old)
	}
	w.call("GET", one+"/tries/7", "", 404)

	es, _, err := w.h.Store.ListAudit(ctx, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range es {
		if e.Event == "update_hitl_detail" && e.DagID == "ship" && e.TaskID == "t000" && e.Owner == "admin" {
			n++
		}
	}
	if n != 9 {
		t.Errorf("%d audit events, expected one for each of 9 calls", n)
	}
}

// TestHITLOfOthers: the list shows what its reader may see, and a Viewer answers nothing.
func TestHITLOfOthers(t *testing.T) {
	w := memWorld(t)
	ctx := t.Context()
	if _, err := w.h.Register(ctx, enginetest.Chain("secretive", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.h.Trigger(ctx, "secretive", "r"); err != nil {
		t.Fatal(err)
	}
	for _, d := range w.h.Queue.Take() {
		if d.Key.DagID == "secretive" {
			if err := w.h.Run(ctx, d, enginetest.Outcome{Report: worker.Report{Outcome: worker.OutcomeDeferred, Deferral: &worker.Deferral{NextMethod: "x", Trigger: worker.Trigger{Kind: worker.TriggerHITL, Request: &worker.HITLRequest{Subject: "s", Options: []string{"o"}}}}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.h.Engine.Drain(ctx)
	as := func(id auth.Identity, method, path, body string) *httptest.ResponseRecorder {
		api := restapi.New(restapi.Options{Store: w.h.Store, Engine: w.h.Engine, Now: w.h.Clock.Now, Auth: identity(id)})
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		api.ServeHTTP(rec, r)
		return rec
	}
	viewer := auth.Identity{Name: "v", Role: auth.Viewer, Kind: auth.KindUser}
	if rec := as(viewer, "GET", "/api/v2/dags/~/dagRuns/~/hitlDetails", ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"total_entries":1`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	const one = "/api/v2/dags/secretive/dagRuns/r/taskInstances/t000/-1/hitlDetails"
	if rec := as(viewer, "PATCH", one, `{"chosen_options":["o"]}`); rec.Code != 403 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := as(auth.Identity{Name: "u", Role: auth.User, Kind: auth.KindUser}, "PATCH", one, `{"chosen_options":["o"]}`); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// identity signs everybody in as id.
func identity(id auth.Identity) func(http.Handler, func(*http.Request) bool) http.Handler {
	return func(next http.Handler, _ func(*http.Request) bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(auth.With(r.Context(), id)))
		})
	}
}
