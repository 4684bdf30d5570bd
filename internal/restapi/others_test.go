package restapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
)

func settingsWorld(t *testing.T) *world {
	w := memWorld(t)
	w.withSettings()
	return w
}

// TestVariableSecrets sends back what was shown: the stored secrets stay.
func TestVariableSecrets(t *testing.T) {
	w := settingsWorld(t)
	stored := func(key string) string {
		w.Helper()
		v, err := w.h.Store.GetVariable(w.Context(), key)
		if err != nil {
			w.Fatal(err)
		}
		return v.Value
	}
	if v := w.call("POST", "/api/v2/variables", `{"key": "my_token", "value": "canary-1", "description": "d"}`, 201); v["value"] != "***" {
		w.Errorf("shown: %v", v)
	}
	w.call("PATCH", "/api/v2/variables/my_token", `{"key": "my_token", "value": "***", "description": null}`, 200)
	if v, err := w.h.Store.GetVariable(w.Context(), "my_token"); err != nil || v.Value != "canary-1" || v.Description != "" {
		w.Errorf("stored: %+v %v", v, err)
	}
	w.call("POST", "/api/v2/variables", `{"key": "conf/x", "value": {"password": "canary-2", "deep": {"api_key": ["canary-3"]}, "n": 1.50}}`, 201)
	if v := w.call("GET", "/api/v2/variables/conf/x", "", 200); v["value"] != `{"password": "***", "deep": {"api_key": "***"}, "n": 1.50}` {
		w.Errorf("shown: %v", v["value"])
	}
	w.call("PATCH", "/api/v2/variables/conf/x", `{"key": "conf/x", "value": {"password": "***", "deep": {"api_key": "***"}, "n": 2}}`, 200)
	if got := stored("conf/x"); got != `{"password": "canary-2", "deep": {"api_key": ["canary-3"]}, "n": 2}` {
		w.Errorf("stored: %s", got)
	}
	w.call("PATCH", "/api/v2/variables", `{"actions": [{"action": "create", "entities": [{"key": "my_token", "value": "***"}], "action_on_existence": "overwrite"}]}`, 200)
	if got := stored("my_token"); got != "canary-1" {
		w.Errorf("overwritten in bulk by what is shown: %s", got)
	}
	w.call("PATCH", "/api/v2/variables/my_token", `{"key": "other", "value": "x"}`, 400)
	w.call("PATCH", "/api/v2/variables/absent", `{"key": "absent", "value": "x"}`, 404)
	w.call("PATCH", "/api/v2/variables/my_token?update_mask=nope", `{"key": "my_token", "value": "x"}`, 200)
	if got := stored("my_token"); got != "canary-1" {
		w.Errorf("an unknown mask changed it: %s", got)
	}
	for _, body := range []string{`5`, `null`, `[1, "é"]`, `"text"`} {
		w.call("PATCH", "/api/v2/variables/region", `{"key": "region", "value": `+body+`}`, 200)
	}
	if got := stored("region"); got != "text" {
		w.Errorf("%q", got)
	}
	w.call("DELETE", "/api/v2/variables/conf/x", "", 204)
	w.call("DELETE", "/api/v2/variables/conf/x", "", 404)
	es, _, err := w.h.Store.ListAudit(w.Context(), store.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	n := 0
	for _, e := range es {
		if strings.Contains(string(e.Extra), "canary") {
			w.Errorf("the audit log tells a secret: %s", e.Extra)
		}
		if strings.HasSuffix(e.Event, "_variable") || e.Event == "bulk_variables" {
			n++
		}
	}
	if n != 14 {
		w.Errorf("%d entries about variables, expected one for each of 14 changes", n)
	}
}

// TestConnectionSecrets is the same for connections.
func TestConnectionSecrets(t *testing.T) {
	w := settingsWorld(t)
	w.call("POST", "/api/v2/connections", `{"connection_id": "c1", "conn_type": "http", "password": "canary-1", "port": 80, "extra": "{\"secret\": \"canary-2\", \"timeout\": 3}"}`, 201)
	w.call("PATCH", "/api/v2/connections/c1", `{"connection_id": "c1", "conn_type": "https", "password": "***", "port": null, "extra": "{\"secret\": \"***\", \"timeout\": 4}"}`, 200)
	c, err := w.h.Store.GetConnection(w.Context(), "c1")
	if err != nil || c.ConnType != "https" || c.Password != "canary-1" || c.Port != 0 || c.Extra != `{"secret":"canary-2","timeout":4}` {
		w.Errorf("%+v %v", c, err)
	}
	if v := w.call("GET", "/api/v2/connections/c1", "", 200); v["password"] != "***" || v["extra"] != `{"secret": "***", "timeout": 4}` || v["port"] != nil {
		w.Errorf("%v", v)
	}
	for _, extra := range []string{`"no json"`, `"[1]"`, `5`} {
		w.call("POST", "/api/v2/connections", `{"connection_id": "c2", "conn_type": "http", "extra": `+extra+`}`, 422)
	}
	w.call("POST", "/api/v2/connections", `{"connection_id": "c1", "conn_type": "http"}`, 409)
	w.call("PATCH", "/api/v2/connections/c1", `{"connection_id": "c9", "conn_type": "http"}`, 400)
	w.call("POST", "/api/v2/connections/test", `{"connection_id": "c1", "conn_type": "http"}`, 403)
	// Every action of a bulk change of connections sees what there was before it.
	got := w.call("PATCH", "/api/v2/connections", `{"actions": [{"action": "create", "entities": [{"connection_id": "n1", "conn_type": "ssh"}]}, {"action": "delete", "entities": ["n1"]}, {"action": "update", "entities": [{"connection_id": "c1", "conn_type": "ftp", "host": "new"}], "update_mask": ["host"]}]}`, 200)
	if s := fmt.Sprint(got["create"], got["delete"], got["update"]); !strings.Contains(s, "{'n1'} were not found") || !strings.Contains(s, "map[errors:[] success:[n1]]map") && !strings.Contains(s, "map[errors:[] success:[n1]] map") {
		w.Errorf("%s", s)
	}
	if c, err = w.h.Store.GetConnection(w.Context(), "c1"); err != nil || c.Host != "new" || c.ConnType != "https" {
		w.Errorf("%+v %v", c, err)
	}
	w.call("POST", "/api/v2/connections/defaults", "", 204)
	w.call("POST", "/api/v2/connections/defaults", "", 204)
	if _, err := w.h.Store.GetConnection(w.Context(), "http_default"); err != nil {
		w.Error(err)
	}
	w.call("DELETE", "/api/v2/connections/c1", "", 204)
	w.call("GET", "/api/v2/connections/c1", "", 404)
}

// TestPools changes pools and counts what is taken of them.
func TestPools(t *testing.T) {
	w := settingsWorld(t)
	if err := w.h.Store.PutPool(w.Context(), airflow.Pool{Name: airflow.DefaultPool, Slots: 128}); err != nil {
		w.Fatal(err)
	}
	if _, err := w.h.Register(w.Context(), enginetest.DAG{ID: "hungry", Tasks: []enginetest.Task{{ID: "m", ExpandLit: 3, Fields: map[string]any{"pool": "two", "pool_slots": 1}}}}); err != nil {
		w.Fatal(err)
	}
	w.call("POST", "/api/v2/pools", `{"name": "two", "slots": 2}`, 201)
	w.call("POST", "/api/v2/pools", `{"name": "two", "slots": 2}`, 409)
	w.call("POST", "/api/v2/pools", `{"name": "bad", "slots": -2}`, 422)
	w.call("POST", "/api/v2/dags/hungry/dagRuns", `{"logical_date": null}`, 200)
	w.h.Engine.Drain(w.Context())
	if p := w.call("GET", "/api/v2/pools/two", "", 200); number(p, "queued_slots") != "2" || number(p, "scheduled_slots") != "1" || number(p, "occupied_slots") != "2" || number(p, "open_slots") != "0" || number(p, "running_slots") != "0" {
		w.Errorf("%v", p)
	}
	w.call("PATCH", "/api/v2/pools/two?update_mask=slots", `{"slots": 3}`, 200)
	w.h.Engine.Drain(w.Context())
	if p := w.call("GET", "/api/v2/pools/two", "", 200); number(p, "queued_slots") != "3" || number(p, "scheduled_slots") != "0" {
		w.Errorf("a larger pool: %v", p)
	}
	w.call("PATCH", "/api/v2/pools/two", `{"pool": "renamed", "slots": 4, "include_deferred": true, "description": "d"}`, 200)
	if p := w.call("GET", "/api/v2/pools/renamed", "", 200); number(p, "slots") != "4" || p["include_deferred"] != true || p["description"] != "d" {
		w.Errorf("%v", p)
	}
	w.call("GET", "/api/v2/pools/two", "", 404)
	w.call("PATCH", "/api/v2/pools/renamed", `{"pool": "wide", "slots": 4, "include_deferred": true}`, 409)
	w.call("PATCH", "/api/v2/pools/default_pool", `{"pool": "x", "slots": 1, "include_deferred": false}`, 400)
	w.call("PATCH", "/api/v2/pools/default_pool?update_mask=description", `{"description": "x"}`, 400)
	if p := w.call("PATCH", "/api/v2/pools/default_pool?update_mask=slots", `{"slots": -1}`, 200); number(p, "slots") != "-1" || number(p, "open_slots") != "-1" {
		w.Errorf("%v", p)
	}
	got := w.call("PATCH", "/api/v2/pools", `{"actions": [{"action": "create", "entities": [{"name": "b1", "slots": 1}]}, {"action": "update", "entities": [{"name": "b1", "slots": 7, "description": "x"}], "update_mask": ["slots"]}, {"action": "delete", "entities": ["default_pool", "p#1"]}]}`, 200)
	if s := fmt.Sprint(got["delete"]); !strings.Contains(s, "success:[p#1]") || !strings.Contains(s, "can't be deleted") {
		w.Errorf("%v", got)
	}
	if p, err := w.h.Store.GetPool(w.Context(), "b1"); err != nil || p.Slots != 7 || p.Description != "" {
		w.Errorf("%+v %v", p, err)
	}
	if _, err := w.h.Store.GetPool(w.Context(), "p#1"); !errors.Is(err, airflow.ErrNotFound) {
		w.Error(err)
	}
	w.call("PATCH", "/api/v2/pools", `{"actions": [{"action": "create", "entities": ["x"]}]}`, 422)
	w.call("PATCH", "/api/v2/pools", `{"actions": [{"action": "burn", "entities": []}]}`, 422)
}

// TestBackfillLife makes a backfill and ends it.
func TestBackfillLife(t *testing.T) {
	w := memWorld(t)
	if _, err := w.h.Register(w.Context(), enginetest.DAG{ID: "daily", Cron: "0 6 * * *", Tasks: []enginetest.Task{{ID: "a"}}}); err != nil {
		w.Fatal(err)
	}
	w.call("PATCH", "/api/v2/dags/daily", `{"is_paused": false}`, 200)
	now := w.h.Clock.Now()
	body := func(from, to time.Duration, more string) string {
		return fmt.Sprintf(`{"dag_id": "daily", "from_date": %q, "to_date": %q%s}`, now.Add(from).Format(time.RFC3339), now.Add(to).Format(time.RFC3339), more)
	}
	const day = 24 * time.Hour
	dry := w.call("POST", "/api/v2/backfills/dry_run", body(-5*day, -2*day, ""), 200)
	if bs, _ := w.h.Store.ListBackfills(w.Context()); len(bs) != 0 || number(dry, "total_entries") == "0" {
		w.Errorf("dry run: %v, stored %v", dry, bs)
	}
	b := w.call("POST", "/api/v2/backfills", body(-5*day, -2*day, `, "max_active_runs": 1, "dag_run_conf": {"b": 1, "a": 2}`), 200)
	id := number(b, "id")
	runs := w.call("GET", "/api/v2/dags/daily/dagRuns?run_type=backfill", "", 200)
	if number(runs, "total_entries") != number(dry, "total_entries") {
		w.Errorf("%v runs, the dry run said %v", runs["total_entries"], dry["total_entries"])
	}
	w.call("POST", "/api/v2/backfills", body(-9*day, -8*day, ""), 409)
	for _, bad := range []string{body(-2*day, -5*day, ""), body(2*day, 5*day, ""), body(-2*day, -day, `, "reprocess_behavior": "maybe"`), body(-2*day, -day, `, "zz": 1`)} {
		w.call("POST", "/api/v2/backfills/dry_run", bad, 422)
	}
	w.call("POST", "/api/v2/backfills", strings.Replace(body(-2*day, -day, ""), "daily", "nowhere", 1), 404)
	for range 2 {
		if p := w.call("PUT", "/api/v2/backfills/"+id+"/pause", "", 200); p["is_paused"] != true {
			w.Errorf("%v", p)
		}
	}
	if p := w.call("PUT", "/api/v2/backfills/"+id+"/unpause", "", 200); p["is_paused"] != false {
		w.Errorf("%v", p)
	}
	if p := w.call("PUT", "/api/v2/backfills/"+id+"/cancel", "", 200); p["completed_at"] == nil || p["is_paused"] != true {
		w.Errorf("%v", p)
	}
	for _, verb := range []string{"pause", "unpause", "cancel"} {
		w.call("PUT", "/api/v2/backfills/"+id+"/"+verb, "", 409)
		w.call("PUT", "/api/v2/backfills/999/"+verb, "", 404)
	}
	if got := w.call("GET", "/api/v2/backfills/"+id, "", 200); fmt.Sprint(got["dag_run_conf"]) != "map[a:2 b:1]" {
		w.Errorf("%v", got)
	}
	left := w.call("GET", "/api/v2/dags/daily/dagRuns?run_type=backfill&state=queued", "", 200)
	if number(left, "total_entries") != "0" {
		w.Errorf("queued after the cancel: %v", left)
	}
}

// TestAssetEvents records events, sees them wait, and has an asset made.
func TestAssetEvents(t *testing.T) {
	w := memWorld(t)
	ctx := w.Context()
	if _, err := w.h.Register(ctx, enginetest.DAG{ID: "eats", Assets: []string{"x://one", "x://two"}, Tasks: []enginetest.Task{{ID: "z"}}}); err != nil {
		w.Fatal(err)
	}
	for i, uri := range []string{"x://one", "x://two"} {
		if _, err := w.h.Store.UpsertAsset(ctx, airflow.Asset{Name: uri, URI: uri, Group: "asset"}, func(a *store.AssetRecord) error {
			a.ScheduledDags = []airflow.DagID{"eats"}
			if i == 0 {
				a.Producers = []store.AssetProducer{{DagID: "alpha", TaskID: "a"}}
			}
			return nil
		}); err != nil {
			w.Fatal(err)
		}
	}
	number1 := map[string]string{}
	for _, a := range w.call("GET", "/api/v2/assets", "", 200)["assets"].([]any) {
		number1[str(a.(row), "name")] = number(a.(row), "id")
	}
	one, two := number1["x://one"], number1["x://two"]
	post := func(id string) row {
		return w.call("POST", "/api/v2/assets/events", `{"asset_id": `+id+`, "extra": {"z": 1, "from_rest_api": false}}`, 200)
	}
	if e := post(one); fmt.Sprint(e["extra"]) != "map[from_rest_api:true z:1]" {
		w.Errorf("%v", e)
	}
	w.call("POST", "/api/v2/assets/events", `{"asset_id": 999}`, 404)
	w.call("POST", "/api/v2/assets/events", `{"asset_id": `+one+`, "partition_key": "k"}`, 400)
	for _, path := range []string{"/api/v2/assets/" + one, "/api/v2/dags/eats/assets"} {
		if l := w.call("GET", path+"/queuedEvents", "", 200); number(l, "total_entries") != "1" {
			w.Errorf("%s: %v", path, l)
		}
	}
	w.call("GET", "/api/v2/dags/eats/assets/"+one+"/queuedEvents?before=1999-01-01T00:00:00Z", "", 404)
	w.call("GET", "/api/v2/dags/eats/assets/"+two+"/queuedEvents", "", 404)
	w.call("DELETE", "/api/v2/dags/eats/assets/"+one+"/queuedEvents", "", 204)
	w.call("GET", "/api/v2/dags/eats/assets/"+one+"/queuedEvents", "", 404)
	w.h.Clock.Advance(time.Minute)
	post(one)
	w.call("DELETE", "/api/v2/assets/"+one+"/queuedEvents", "", 204)
	post(one)
	w.call("DELETE", "/api/v2/dags/eats/assets/queuedEvents", "", 204)
	w.call("DELETE", "/api/v2/dags/eats/assets/queuedEvents", "", 404)
	w.h.Clock.Advance(time.Minute)
	post(one)
	w.h.Clock.Advance(time.Minute)
	post(two)
	if _, err := w.h.Engine.Tick(ctx, 0); err != nil {
		w.Fatal(err)
	}
	w.h.Engine.Drain(ctx)
	runs, _ := w.call("GET", "/api/v2/dags/eats/dagRuns", "", 200)["dag_runs"].([]any)
	if len(runs) != 1 {
		w.Fatalf("runs: %v", runs)
	}
	run := str(runs[0].(row), "dag_run_id")
	up := w.call("GET", "/api/v2/dags/eats/dagRuns/"+strings.ReplaceAll(run, "+", "%2B")+"/upstreamAssetEvents", "", 200)
	l, _ := up["asset_events"].([]any)
	if len(l) == 0 {
		w.Fatalf("%v", up)
	}
	for i, x := range l {
		made, _ := x.(row)["created_dagruns"].([]any)
		if len(made) != 1 || str(made[0].(row), "run_id") != run || (made[0].(row)["triggering"] == true) != (i == len(l)-1) {
			w.Errorf("event %d: %v", i, x)
		}
	}
	got := w.call("POST", "/api/v2/assets/"+one+"/materialize", "", 200)
	if got["run_type"] != "asset_materialization" || got["dag_id"] != "alpha" {
		w.Errorf("%v", got)
	}
	if got := w.call("POST", "/api/v2/assets/"+one+"/materialize", `{"dag_run_id": "mine", "note": "n", "conf": {"k": 1}}`, 200); got["dag_run_id"] != "mine" || got["note"] != "n" {
		w.Errorf("%v", got)
	}
	w.call("POST", "/api/v2/assets/"+two+"/materialize", "", 404)
	w.call("GET", "/api/v2/assets/999", "", 404)
	if a := w.call("GET", "/api/v2/assets/"+two, "", 200); a["last_asset_event"].(row)["timestamp"] == nil {
		w.Errorf("%v", a)
	}
	var b []byte
	b, err := json.Marshal(w.call("GET", "/api/v2/providers", "", 200))
	if err != nil || string(b) != `{"providers":[],"total_entries":0}` {
		w.Errorf("%s %v", b, err)
	}
	w.call("GET", "/api/v2/plugins", "", 200)
	w.call("GET", "/api/v2/plugins/importErrors", "", 200)
	w.call("GET", "/api/v2/config", "", 403)
	w.call("GET", "/api/v2/config/section/core/option/x", "", 403)
	w.call("GET", "/api/v2/importErrors/5", "", 404)
	w.call("GET", "/api/v2/eventLogs/5", "", 404)
}

// TestAssetsHideOtherDags looks at assets as somebody who may see one team's DAGs.
func TestAssetsHideOtherDags(t *testing.T) {
	g := newGuarded(t)
	ctx := t.Context()
	if _, err := g.st.UpsertAsset(ctx, airflow.Asset{Name: "shared", URI: "x://shared", Group: "asset"}, func(a *store.AssetRecord) error {
		a.ScheduledDags = []airflow.DagID{"mine", "theirs"}
		a.Producers = []store.AssetProducer{{DagID: "theirs", TaskID: "t"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	e := airflow.AssetEvent{ID: "e", AssetName: "shared", AssetURI: "x://shared", SourceDagID: "theirs", SourceTaskID: "t", SourceRunID: "theirs_run", Timestamp: g.now}
	queue := []store.QueuedAsset{{DagID: "mine", AssetName: "shared", AssetURI: "x://shared", CreatedAt: g.now, EventID: "e"}, {DagID: "theirs", AssetName: "shared", AssetURI: "x://shared", CreatedAt: g.now, EventID: "e"}}
	if _, err := g.st.RecordAssetEvent(ctx, e, queue); err != nil {
		t.Fatal(err)
	}
	scoped := g.user("scoped", auth.Viewer, store.DagScope{DagID: "mine", Role: "Op"})
	boss := g.user("boss", auth.Admin)
	for _, path := range []string{"/api/v2/assets", "/api/v2/assets/1", "/api/v2/assets/events", "/api/v2/assets/1/queuedEvents"} {
		all := g.do("GET", path, "", boss)
		if all.Code != 200 || !strings.Contains(all.Body.String(), "theirs") {
			t.Errorf("%s as an admin: %d %s", path, all.Code, all.Body)
		}
	}
	for _, path := range []string{"/api/v2/assets", "/api/v2/assets/1", "/api/v2/assets/events", "/api/v2/assets/1/queuedEvents"} {
		w := g.do("GET", path, "", scoped)
		if b := w.Body.String(); w.Code != 200 || strings.Contains(b, "theirs") || !strings.Contains(b, `"asset_id":1`) && !strings.Contains(b, "shared") {
			t.Errorf("%s with one DAG: %d %s", path, w.Code, b)
		}
	}
	if w := g.do("GET", "/api/v2/assets/events?source_dag_id=theirs", "", scoped); !strings.Contains(w.Body.String(), `"total_entries":0`) {
		t.Errorf("looked for by what is not told: %s", w.Body)
	}
}
