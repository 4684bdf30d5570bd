package restapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/secrets"
	"github.com/gustflow/gust/internal/store"
)

// withSettings gives a world what does not belong to runs: variables, connections,
// pools, import errors, an audit log, assets and their events, backfills.
func (w *world) withSettings() {
	w.Helper()
	must := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	ctx := w.Context()
	keys, err := secrets.OpenOrCreate(filepath.Join(w.TempDir(), "secrets.key"))
	must(err)
	w.h.Store = store.New(w.h.Store.Driver(), keys)
	now := w.h.Clock.Now()
	w.api = restapi.New(restapi.Options{Store: w.h.Store, Engine: w.h.Engine, Now: w.h.Clock.Now,
		Process: &restapi.Process{Hostname: "here", Unixname: "me", Started: now.Add(-time.Hour)},
		Health: func(context.Context) apishell.Parts {
			return apishell.Parts{Scheduler: apishell.Part{Status: apishell.Healthy, Heartbeat: now}, Triggerer: apishell.Part{Status: apishell.Unhealthy, Heartbeat: now.Add(-time.Minute)}, DagProcessor: apishell.Part{Status: apishell.Healthy, Heartbeat: now.Add(-time.Second)}}
		}})
	for i, k := range []string{"region", "Region_2", "api_key", "a#b%c", "zone/eu", "p_assword"} {
		must(w.h.Store.PutVariable(ctx, airflow.Variable{Key: k, Value: fmt.Sprintf("v%d", 9-i), Description: []string{"", "two", "one"}[i%3]}))
	}
	for i, k := range []string{"db.main", "DB-2", "http_x", "z", "a.b"} {
		must(w.h.Store.PutConnection(ctx, airflow.Connection{ConnID: k, ConnType: []string{"http", "ssh"}[i%2], Host: []string{"", "h2", "h1"}[i%3], Port: i * 10, Description: []string{"d", ""}[i%2]}))
	}
	for i, k := range []string{"wide", "Side_2", "p#1"} {
		must(w.h.Store.PutPool(ctx, airflow.Pool{Name: k, Slots: i + 1}))
	}
	for i, k := range []string{"a/one.yml", "b/two.yml", "a/Three.py", "zz.yml"} {
		must(w.h.Store.PutImportError(ctx, airflow.ImportError{Filename: k, Timestamp: now.Add(time.Duration(i*7%5) * time.Minute), Problems: []airflow.Problem{{File: k, Message: fmt.Sprintf("wrong %d", 5-i)}}}))
	}
	for i := range 14 {
		e := store.AuditEvent{ID: fmt.Sprintf("e%d", i), When: now.Add(time.Duration(i)*time.Minute + 300*time.Microsecond), Event: []string{"trigger", "clear", "delete_x"}[i%3], Owner: []string{"ann", "bob", ""}[i%3], DagID: airflow.DagID([]string{"", "alpha", "beta", "gone"}[i%4]), Extra: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))}
		if e.DagID != "" && i%2 == 0 {
			e.RunID, e.TaskID = airflow.RunID(fmt.Sprintf("run_%d", i)), airflow.TaskID([]string{"a", "g.b"}[i%4/2])
			n := i % 3
			e.MapIndex, e.TryNumber = &n, &n
		}
		must(w.h.Store.PutAudit(ctx, e))
	}
	for i, a := range []airflow.Asset{{Name: "orders", URI: "x://o", Group: "g"}, {Name: "Rates", URI: "s3://rates", Group: "asset"}, {Name: "idle", URI: "s3://idle", Group: "asset"}, {Name: "al", URI: "airflow-alias:", Group: "asset"}, {Name: "bal", URI: "airflow-alias:", Group: "asset"}, {Name: "cab", URI: "airflow-alias:", Group: "asset"}} {
		_, err := w.h.Store.UpsertAsset(ctx, a, func(r *store.AssetRecord) error {
			if i == 0 {
				r.ScheduledDags = []airflow.DagID{"alpha"}
			}
			if i < 2 {
				r.Producers = []store.AssetProducer{{DagID: "beta", TaskID: "c"}}
			}
			return nil
		})
		must(err)
	}
	for i := range 9 {
		name := []string{"orders", "Rates", "stock"}[i%3]
		e := airflow.AssetEvent{ID: fmt.Sprintf("ev%d", i), AssetName: name, AssetURI: map[string]string{"orders": "x://o", "Rates": "s3://rates", "stock": "s3://stock"}[name], SourceMapIndex: i%4 - 1, Timestamp: now.Add(time.Duration(i) * time.Second)}
		if i%2 == 0 {
			e.SourceDagID, e.SourceRunID, e.SourceTaskID = airflow.DagID([]string{"beta", "alpha"}[i%4/2]), airflow.RunID(fmt.Sprintf("r%d", i)), airflow.TaskID([]string{"c", "a"}[i%4/2])
		}
		_, err := w.h.Store.RecordAssetEvent(ctx, e, nil)
		must(err)
	}
	for i := range 5 {
		_, err := w.h.Store.CreateBackfill(ctx, airflow.Backfill{DagID: airflow.DagID([]string{"beta", "alpha"}[i%2]), FromDate: now, ToDate: now, MaxActiveRuns: i, CreatedAt: now, UpdatedAt: now})
		must(err)
	}
}

func is(k, v string) func(row) bool { return func(r row) bool { return r[k] == any(v) } }

func like(k, v string) func(row) bool { return func(r row) bool { return fold(r, k, v) } }

func begins(k, v string) func(row) bool {
	return func(r row) bool { return r[k] != nil && strings.HasPrefix(str(r, k), v) }
}

func number(r row, k string) string {
	n, _ := r[k].(json.Number)
	return n.String()
}

// TestSettingsListsParity holds the filters and orders of the lists that do not
// belong to runs against the whole lists, on both drivers.
func TestSettingsListsParity(t *testing.T) {
	onDrivers(t, func(w *world) {
		w.withSettings()
		byNumber := func(k string) func(row) string { return func(r row) string { return number(r, k) } }
		byText := func(k string) func(row) string { return func(r row) string { return str(r, k) } }
		cases := []listCase{
			{path: "/api/v2/variables", op: "get_variables", member: "variables", id: byText("key"),
				filters: []filterCase{{"variable_key_pattern=REG", like("key", "reg")}, {"variable_key_prefix_pattern=reg", begins("key", "reg")}, {"variable_key_prefix_pattern=a%23b", begins("key", "a#b")},
					{"variable_key_prefix_pattern=reg|zone", func(r row) bool { return begins("key", "reg")(r) || begins("key", "zone")(r) }}, {"variable_key_pattern=~&variable_key_prefix_pattern=R", begins("key", "R")}},
				orders: map[string]string{"key": "key", "id": "key", "_val": "value", "description": "description", "is_encrypted": "", "team_name": ""}},
			{path: "/api/v2/connections", op: "get_connections", member: "connections", id: byText("connection_id"),
				filters: []filterCase{{"connection_id_pattern=db", like("connection_id", "db")}, {"connection_id_prefix_pattern=db", begins("connection_id", "db")}},
				orders:  map[string]string{"id": "connection_id", "conn_id": "connection_id", "connection_id": "connection_id", "conn_type": "conn_type", "description": "description", "host": "host", "port": "port", "team_name": ""}},
			{path: "/api/v2/pools", op: "get_pools", member: "pools", id: byText("name"),
				filters: []filterCase{{"pool_name_pattern=side", like("name", "side")}, {"pool_name_prefix_pattern=Side", begins("name", "Side")}, {"pool_name_prefix_pattern=p", begins("name", "p")}},
				orders:  map[string]string{"id": "name", "pool": "name", "name": "name"}},
			{path: "/api/v2/importErrors", op: "get_import_errors", member: "import_errors", id: byText("filename"),
				filters: []filterCase{{"filename=zz.yml", is("filename", "zz.yml")}, {"filename=zz", is("filename", "zz")}, {"filename_pattern=THREE", like("filename", "three")}, {"filename_prefix_pattern=a/o", begins("filename", "a/o")},
					{"bundle_name=dags-folder", func(row) bool { return true }}, {"bundle_name=other", func(row) bool { return false }}},
				orders: map[string]string{"id": "import_error_id", "import_error_id": "import_error_id", "timestamp": "timestamp", "filename": "filename", "bundle_name": "", "stacktrace": "stack_trace"}},
			{path: "/api/v2/assets", op: "get_assets", member: "assets", base: "only_active=false", id: byText("name"),
				filters: []filterCase{{"name_pattern=RAT", like("name", "rat")}, {"name_prefix_pattern=R", begins("name", "R")}, {"uri_pattern=rates", like("uri", "rates")}, {"uri_prefix_pattern=s3://ra", begins("uri", "s3://ra")},
					{"dag_ids=alpha", is("name", "orders")}, {"dag_ids=beta&dag_ids=nope", func(r row) bool { return has(r, "name", "orders", "Rates") }}},
				orders: map[string]string{"id": "id", "name": "name", "uri": "uri", "created_at": "created_at", "updated_at": "updated_at"}},
			{path: "/api/v2/assets/aliases", op: "get_asset_aliases", member: "asset_aliases", id: byText("name"),
				filters: []filterCase{{"name_pattern=AL", like("name", "al")}, {"name_prefix_pattern=b", begins("name", "b")}}, orders: map[string]string{"id": "id", "name": "name"}},
			{path: "/api/v2/jobs", op: "get_jobs", member: "jobs", id: byText("job_type"),
				filters: append(append([]filterCase{{"is_alive=false", is("job_type", "TriggererJob")}, {"job_state=running", is("state", "running")}, {"job_type=SchedulerJob", is("job_type", "SchedulerJob")},
					{"hostname=here", func(row) bool { return true }}, {"hostname=there", func(row) bool { return false }}, {"executor_class=x", func(row) bool { return false }}}, never("start_date")...), never("end_date")...),
				orders: map[string]string{"id": "id", "dag_id": "", "state": "state", "job_type": "job_type", "start_date": "start_date", "end_date": "end_date", "latest_heartbeat": "latest_heartbeat", "executor_class": "", "hostname": "hostname", "unixname": "unixname"}},
			{path: "/api/v2/backfills", op: "list_backfills", member: "backfills", base: "dag_id=beta", id: byNumber("id"), orders: map[string]string{"id": "id"}},
		}
		for _, c := range cases {
			w.check(c)
			if !strings.HasSuffix(c.path, "/jobs") {
				w.walk(c, "", 2)
			}
		}
		w.eventLogParity()
		w.assetEventParity()
	})
}

// never are ranges of a date that no item is in.
func never(param string) (out []filterCase) {
	far := url.QueryEscape("2100-01-01T00:00:00Z")
	for _, op := range []string{"gte", "gt"} {
		out = append(out, filterCase{param + "_" + op + "=" + far, func(row) bool { return false }})
	}
	long := url.QueryEscape("1999-01-01T00:00:00Z")
	for _, op := range []string{"lte", "lt"} {
		out = append(out, filterCase{param + "_" + op + "=" + long, func(row) bool { return false }})
	}
	return out
}

func (w *world) eventLogParity() {
	w.Helper()
	c := listCase{path: "/api/v2/eventLogs", op: "get_event_logs", member: "event_logs", id: func(r row) string { return number(r, "event_log_id") },
		orders: map[string]string{"id": "event_log_id", "event_log_id": "event_log_id", "dttm": "when", "when": "when", "dag_id": "dag_id", "task_id": "task_id", "run_id": "run_id", "event": "event", "owner": "owner", "extra": "extra", "logical_date": ""}}
	whole, _ := w.all(c, "")
	at := func(op string, ok func(int) bool) filterCase {
		r := ranges(whole, "when", "x")[0]
		q := strings.SplitN(r.query, "=", 2)[1]
		moment := timeIn(func() string { s, err := url.QueryUnescape(q); _ = err; return s }())
		return filterCase{op + "=" + q, func(r row) bool { return ok(timeIn(r["when"]).Compare(moment)) }}
	}
	c.filters = []filterCase{
		{"dag_id=alpha", is("dag_id", "alpha")}, {"task_id=g.b", is("task_id", "g.b")}, {"run_id=run_6", is("run_id", "run_6")}, {"owner=ann", is("owner", "ann")}, {"event=clear", is("event", "clear")},
		{"map_index=1", func(r row) bool { return number(r, "map_index") == "1" }}, {"try_number=2", func(r row) bool { return number(r, "try_number") == "2" }},
		{"excluded_events=clear&excluded_events=trigger", func(r row) bool { return !has(r, "event", "clear", "trigger") }}, {"included_events=clear&included_events=trigger", func(r row) bool { return has(r, "event", "clear", "trigger") }},
		at("before", func(c int) bool { return c <= 0 }), at("after", func(c int) bool { return c >= 0 }),
		{"dag_id_pattern=ALP", like("dag_id", "alp")}, {"dag_id_prefix_pattern=al", begins("dag_id", "al")}, {"task_id_pattern=G", like("task_id", "g")}, {"task_id_prefix_pattern=g", begins("task_id", "g")},
		{"run_id_pattern=UN_1", like("run_id", "un_1")}, {"run_id_prefix_pattern=run_1", begins("run_id", "run_1")}, {"owner_pattern=AN", like("owner", "an")}, {"owner_prefix_pattern=b", begins("owner", "b")},
		{"event_pattern=LETE", like("event", "lete")}, {"event_prefix_pattern=cl", begins("event", "cl")},
	}
	w.check(c)
	for _, order := range []string{"", "-event_log_id", "event"} {
		w.walk(c, order, 3)
	}
	for _, r := range whole[:3] {
		got := w.call("GET", "/api/v2/eventLogs/"+c.id(r), "", 200)
		if str(got, "event") != str(r, "event") || str(got, "extra") != str(r, "extra") {
			w.Errorf("event %s: %v, listed %v", c.id(r), got, r)
		}
	}
}

func (w *world) assetEventParity() {
	w.Helper()
	c := listCase{path: "/api/v2/assets/events", op: "get_asset_events", member: "asset_events", id: func(r row) string { return number(r, "id") },
		orders: map[string]string{"timestamp": "timestamp", "source_dag_id": "source_dag_id", "source_task_id": "source_task_id", "source_run_id": "source_run_id", "source_map_index": "source_map_index"}}
	whole, _ := w.all(c, "")
	orders := ""
	for _, r := range whole {
		if str(r, "name") == "orders" {
			orders = number(r, "asset_id")
		}
	}
	c.filters = append([]filterCase{
		{"asset_id=" + orders, is("name", "orders")}, {"asset_id=999", func(row) bool { return false }}, {"source_dag_id=beta", is("source_dag_id", "beta")}, {"source_task_id=a", is("source_task_id", "a")},
		{"source_run_id=r4", is("source_run_id", "r4")}, {"source_map_index=-1", func(r row) bool { return number(r, "source_map_index") == "-1" }}, {"name_pattern=RAT", like("name", "rat")}, {"name_prefix_pattern=R", begins("name", "R")},
	}, ranges(whole, "timestamp", "timestamp")...)
	for _, f := range ranges(whole, "timestamp", "timestamp") {
		c.filters = append(c.filters, filterCase{f.query + "&asset_id=" + orders, func(r row) bool { return f.keep(r) && str(r, "name") == "orders" }})
	}
	w.check(c)
	for _, order := range []string{"", "-timestamp"} {
		w.walk(c, order, 2)
	}
	if len(whole) != 9 || slices.ContainsFunc(whole, func(r row) bool { return r["created_dagruns"] == nil }) {
		w.Errorf("%d events", len(whole))
	}
}
