package restapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func tagNames(r row) (out []string) {
	l, _ := r["tags"].([]any)
	for _, x := range l {
		out = append(out, str(x.(row), "name"))
	}
	return out
}

// TestListsAnswerTheirFilters holds every filter and order of the lists against
// the whole list, by hand, on each driver.
func TestListsAnswerTheirFilters(t *testing.T) {
	onDrivers(t, func(w *world) {
		w.Run("dags", func(t *testing.T) { (&world{t, w.h, w.api}).checkDags() })
		w.Run("dagRuns", func(t *testing.T) { (&world{t, w.h, w.api}).checkRuns() })
		w.Run("taskInstances", func(t *testing.T) { (&world{t, w.h, w.api}).checkInstances() })
		w.Run("xcoms", func(t *testing.T) { (&world{t, w.h, w.api}).checkXComs() })
	})
}

func (w *world) checkDags() {
	last := map[string]row{}
	runs, _ := w.all(listCase{path: "/api/v2/dags/~/dagRuns", member: "dag_runs"}, "")
	for _, r := range runs {
		if l := last[str(r, "dag_id")]; l == nil || timeIn(r["run_after"]).After(timeIn(l["run_after"])) {
			last[str(r, "dag_id")] = r
		}
	}
	lastOf := func(f func(row) bool) func(row) bool {
		return func(d row) bool { l := last[str(d, "dag_id")]; return l != nil && f(l) }
	}
	c := listCase{
		path: "/api/v2/dags", op: "get_dags", member: "dags", base: "exclude_stale=false", id: func(r row) string { return str(r, "dag_id") },
		filters: []filterCase{
			{"exclude_stale=true", func(r row) bool { return r["is_stale"] == false }},
			{"paused=true", func(r row) bool { return r["is_paused"] == true }},
			{"paused=false", func(r row) bool { return r["is_paused"] == false }},
			{"tags=x&tags=zz", func(r row) bool { return slices.Contains(tagNames(r), "x") }},
			{"tags=x&tags=y&tags_match_mode=all", func(r row) bool { return slices.Contains(tagNames(r), "x") && slices.Contains(tagNames(r), "y") }},
			{"tags=x&tags=y&tags_match_mode=any", func(r row) bool { return len(tagNames(r)) > 0 }},
			{"owners=ann", func(r row) bool { return slices.Contains(r["owners"].([]any), any("ann")) }},
			{"dag_id_pattern=LPH", func(r row) bool { return fold(r, "dag_id", "lph") }},
			{"dag_id_pattern=a_pha|eta", func(r row) bool { return has(r, "dag_id", "alpha", "beta") }},
			{"dag_id_prefix_pattern=gam", func(r row) bool { return strings.HasPrefix(str(r, "dag_id"), "gam") }},
			{"dag_id_prefix_pattern=gamma_|bet", func(r row) bool { return has(r, "dag_id", "gamma_x", "beta") }},
			{"dag_display_name_pattern=second", func(r row) bool { return fold(r, "dag_display_name", "second") }},
			{"dag_display_name_prefix_pattern=The", func(r row) bool { return strings.HasPrefix(str(r, "dag_display_name"), "The") }},
			{"has_import_errors=true", func(r row) bool { return r["has_import_errors"] == true }},
			{"last_dag_run_state=running", lastOf(func(r row) bool { return r["state"] == "running" })},
			{"dag_run_state=queued&dag_run_state=running", lastOf(func(r row) bool { return has(r, "state", "queued", "running") })},
			{"bundle_name=elsewhere", func(row) bool { return false }},
			{"bundle_version=1", func(r row) bool { return r["bundle_version"] != nil }},
			{"has_asset_schedule=true", func(r row) bool { return r["dag_id"] == "gamma_x" }},
			{"asset_dependency=STOCK", func(r row) bool { return r["dag_id"] == "gamma_x" }},
			{"is_favorite=true", func(r row) bool { return r["dag_id"] == "beta" }},
			{"is_favorite=false", func(r row) bool { return r["dag_id"] != "beta" }},
			{"timetable_type=NullTimetable", func(r row) bool { return r["timetable_summary"] == nil && r["dag_id"] == "alpha" }},
		},
		orders: map[string]string{"dag_id": "dag_id", "dag_display_name": "dag_display_name", "next_dagrun": "next_dagrun_logical_date", "state": "", "start_date": "", "last_run_state": "", "last_run_start_date": ""},
	}
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, l := range last {
		at = timeIn(l["run_after"])
	}
	for op, ok := range map[string]func(int) bool{"gte": func(c int) bool { return c >= 0 }, "gt": func(c int) bool { return c > 0 }, "lte": func(c int) bool { return c <= 0 }, "lt": func(c int) bool { return c < 0 }} {
		for _, m := range []string{"start_date", "end_date"} {
			c.filters = append(c.filters, filterCase{fmt.Sprintf("dag_run_%s_%s=%s", m, op, strings.ReplaceAll(at.Format(time.RFC3339), "+", "%2B")), lastOf(func(r row) bool {
				t := timeIn(r[m])
				return !t.IsZero() && ok(t.Compare(at))
			})})
		}
	}
	w.check(c)
	w.walk(listCase{path: c.path, member: c.member, base: c.base, id: c.id}, "", 2)
}

func (w *world) checkRuns() {
	c := listCase{
		path: "/api/v2/dags/~/dagRuns", op: "get_dag_runs", member: "dag_runs", id: func(r row) string { return str(r, "dag_id") + "/" + str(r, "dag_run_id") },
		filters: []filterCase{
			{"state=failed&state=queued", func(r row) bool { return has(r, "state", "failed", "queued") }},
			{"state=running", func(r row) bool { return r["state"] == "running" }},
			{"run_type=asset_materialization", func(r row) bool { return r["run_type"] == "asset_materialization" }},
			{"dag_version=7", func(row) bool { return false }},
			{"bundle_version=1", func(row) bool { return false }},
			{"conf_contains=rome", func(r row) bool { return str(r["conf"].(row), "city") == "Rome" }},
			{"run_id_pattern=UN_A", func(r row) bool { return fold(r, "dag_run_id", "un_a") }},
			{"run_id_prefix_pattern=run_b", func(r row) bool { return strings.HasPrefix(str(r, "dag_run_id"), "run_b") }},
			{"triggering_user_name_pattern=NN", func(r row) bool { return fold(r, "triggering_user_name", "nn") }},
			{"triggering_user_name_prefix_pattern=bo", func(r row) bool {
				return r["triggering_user_name"] != nil && strings.HasPrefix(str(r, "triggering_user_name"), "bo")
			}},
			{"dag_id_pattern=LPH", func(r row) bool { return fold(r, "dag_id", "lph") }},
			{"dag_id_prefix_pattern=be", func(r row) bool { return strings.HasPrefix(str(r, "dag_id"), "be") }},
			{"partition_key_pattern=a", func(row) bool { return false }},
			{"partition_key_prefix_pattern=a", func(row) bool { return false }},
			{"partition_date_gte=2000-01-01", func(row) bool { return false }},
			{"partition_date_lte=2040-01-01", func(row) bool { return false }},
			{"consuming_asset_pattern=stock", func(r row) bool { return r["run_type"] == "asset_triggered" }},
			{"updated_at_gte=2100-01-01T00:00:00Z", func(row) bool { return false }},
			{"updated_at_gt=2100-01-01T00:00:00Z", func(row) bool { return false }},
			{"updated_at_lte=2000-01-01T00:00:00Z", func(row) bool { return false }},
			{"updated_at_lt=2000-01-01T00:00:00Z", func(row) bool { return false }},
		},
		orders: map[string]string{
			"id": "run_after", "state": "state", "dag_id": "dag_id", "run_id": "dag_run_id", "dag_run_id": "dag_run_id", "logical_date": "logical_date", "partition_date": "partition_date",
			"run_after": "run_after", "start_date": "start_date", "end_date": "end_date", "updated_at": "", "conf": "", "duration": "duration",
		},
	}
	whole, _ := w.all(c, "")
	for _, m := range []string{"run_after", "logical_date", "start_date", "end_date"} {
		c.filters = append(c.filters, ranges(whole, m, m)...)
	}
	c.filters = append(c.filters, durations(whole)...)
	w.check(c)
	for _, order := range []string{"", "-run_after", "state", "-duration"} {
		w.walk(c, order, 5000)
		w.walk(c, order, 3)
	}
	// One DAG: the list that the index answers by itself is the same as the other.
	one := c
	one.path, one.filters, one.orders = "/api/v2/dags/alpha/dagRuns", append([]filterCase{{"run_id_pattern=run", func(row) bool { return true }}}, ranges(whole, "run_after", "run_after")...), map[string]string{"run_after": "run_after", "id": "run_after"}
	mine, _ := w.all(one, "")
	for _, f := range one.filters {
		n := 0
		for _, r := range mine {
			if f.keep(r) {
				n++
			}
		}
		if got, total := w.all(one, f.query); len(got) != n || total != n {
			w.Errorf("alpha?%s: %d of %d, by hand %d", f.query, len(got), total, n)
		}
	}
	indexed, _ := w.all(one, "order_by=-run_after")
	slow, _ := w.all(one, "order_by=-run_after&run_id_pattern=run")
	if !slices.Equal(ids(one, indexed), ids(one, slow)) || len(indexed) == 0 {
		w.Errorf("the index says %v, the list %v", ids(one, indexed), ids(one, slow))
	}
	code, v := w.get(w.api, one.path, parse(w, "order_by=run_after&limit=2&offset=1"))
	if l, _ := v["dag_runs"].([]any); code != 200 || len(l) != 2 || one.id(l[0].(row)) != one.id(indexed[len(indexed)-2]) || fmt.Sprint(v["total_entries"]) != fmt.Sprint(len(indexed)) {
		w.Errorf("a page of the index: %d %v", code, v)
	}
}

func (w *world) checkInstances() {
	c := listCase{
		path: "/api/v2/dags/~/dagRuns/~/taskInstances", op: "get_task_instances", member: "task_instances",
		id: func(r row) string {
			return fmt.Sprint(r["dag_id"], "/", r["dag_run_id"], "/", r["task_id"], "/", r["map_index"])
		},
		filters: []filterCase{
			{"state=failed&state=skipped", func(r row) bool { return has(r, "state", "failed", "skipped") }},
			{"state=none", func(r row) bool { return r["state"] == nil }},
			{"state=queued", func(r row) bool { return r["state"] == "queued" }},
			{"state=awaiting_input", func(row) bool { return false }},
			{"task_id=a", func(r row) bool { return r["task_id"] == "a" }},
			{"task_display_name_pattern=.B", func(r row) bool { return fold(r, "task_display_name", ".b") }},
			{"task_display_name_prefix_pattern=g", func(r row) bool { return strings.HasPrefix(str(r, "task_display_name"), "g") }},
			{"task_group_id=g", func(r row) bool { return r["task_id"] == "g.b" }},
			{"dag_id_pattern=BET", func(r row) bool { return r["dag_id"] == "beta" }},
			{"dag_id_prefix_pattern=al", func(r row) bool { return r["dag_id"] == "alpha" }},
			{"run_id_pattern=UN_B", func(r row) bool { return fold(r, "dag_run_id", "un_b") }},
			{"run_id_prefix_pattern=run_c", func(r row) bool { return strings.HasPrefix(str(r, "dag_run_id"), "run_c") }},
			{"pool=side", func(r row) bool { return r["pool"] == "side" }},
			{"pool_name_pattern=FAULT", func(r row) bool { return fold(r, "pool", "fault") }},
			{"pool_name_prefix_pattern=si", func(r row) bool { return r["pool"] == "side" }},
			{"queue=long", func(r row) bool { return r["queue"] == "long" }},
			{"queue_name_pattern=EFA", func(r row) bool { return r["queue"] == "default" }},
			{"queue_name_prefix_pattern=lo", func(r row) bool { return r["queue"] == "long" }},
			{"executor=nobody", func(r row) bool { return r["executor"] == "nobody" }},
			{"version_number=9", func(row) bool { return false }},
			{"try_number=2", func(r row) bool { return fmt.Sprint(r["try_number"]) == "2" }},
			{"operator=EmptyOperator", func(r row) bool { return r["operator"] == "EmptyOperator" }},
			{"operator_name_pattern=empt", func(r row) bool { return fold(r, "operator_name", "empt") }},
			{"operator_name_prefix_pattern=Empty", func(r row) bool { return strings.HasPrefix(str(r, "operator_name"), "Empty") }},
			{"map_index=1", func(r row) bool { return fmt.Sprint(r["map_index"]) == "1" }},
			{"rendered_map_index_pattern=2", func(r row) bool { return fold(r, "rendered_map_index", "2") }},
			{"rendered_map_index_prefix_pattern=0", func(r row) bool { return strings.HasPrefix(str(r, "rendered_map_index"), "0") }},
			{"updated_at_gte=2100-01-01T00:00:00Z", func(row) bool { return false }},
			{"updated_at_gt=2100-01-01T00:00:00Z", func(row) bool { return false }},
			{"updated_at_lte=2000-01-01T00:00:00Z", func(row) bool { return false }},
			{"updated_at_lt=2000-01-01T00:00:00Z", func(row) bool { return false }},
		},
		orders: map[string]string{
			"id": "", "state": "state", "duration": "duration", "start_date": "start_date", "end_date": "end_date", "map_index": "map_index", "try_number": "try_number",
			"logical_date": "logical_date", "run_after": "run_after", "data_interval_start": "", "data_interval_end": "", "rendered_map_index": "", "operator": "operator",
		},
	}
	whole, _ := w.all(c, "")
	for _, m := range []string{"run_after", "logical_date", "start_date", "end_date"} {
		c.filters = append(c.filters, ranges(whole, m, m)...)
	}
	c.filters = append(c.filters, durations(whole)...)
	w.check(c)
	w.walk(c, "-start_date", 5000)
	w.walk(c, "", 5)
	mapped := c
	run := ""
	for _, r := range whole {
		if r["task_id"] == "m" {
			run = str(r, "dag_run_id")
		}
	}
	mapped.path, mapped.op = "/api/v2/dags/alpha/dagRuns/"+run+"/taskInstances/m/listMapped", "get_mapped_task_instances"
	got, n := w.all(mapped, "map_index=1&map_index=2")
	if n != 2 || len(got) != 2 {
		w.Errorf("listMapped: %d", n)
	}
	if got, _ := w.all(mapped, "order_by=-map_index"); len(got) != 3 || fmt.Sprint(got[0]["map_index"]) != "2" {
		w.Errorf("listMapped in order: %v", column(got, "map_index"))
	}
}

func (w *world) checkXComs() {
	c := listCase{
		path: "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries", op: "get_xcom_entries", member: "xcom_entries",
		id: func(r row) string {
			return fmt.Sprint(r["dag_id"], "/", r["run_id"], "/", r["task_id"], "/", r["map_index"], "/", r["key"])
		},
		filters: []filterCase{
			{"xcom_key=nope", func(row) bool { return false }},
			{"xcom_key=return_value", func(r row) bool { return r["key"] == "return_value" }},
			{"xcom_key_pattern=zz", func(r row) bool { return fold(r, "key", "zz") }},
			{"xcom_key_prefix_pattern=x", func(r row) bool { return strings.HasPrefix(str(r, "key"), "x") }},
			{"map_index=1", func(r row) bool { return fmt.Sprint(r["map_index"]) == "1" }},
			{"map_index_filter=0", func(r row) bool { return fmt.Sprint(r["map_index"]) == "0" }},
			{"dag_display_name_pattern=second", func(r row) bool { return fold(r, "dag_display_name", "second") }},
			{"dag_display_name_prefix_pattern=al", func(r row) bool { return strings.HasPrefix(str(r, "dag_display_name"), "al") }},
			{"run_id_pattern=UN_A", func(r row) bool { return fold(r, "run_id", "un_a") }},
			{"run_id_prefix_pattern=run_b", func(r row) bool { return strings.HasPrefix(str(r, "run_id"), "run_b") }},
			{"task_id_pattern=G.", func(r row) bool { return fold(r, "task_id", "g.") }},
			{"task_id_prefix_pattern=m", func(r row) bool { return strings.HasPrefix(str(r, "task_id"), "m") }},
		},
		orders: map[string]string{"key": "key", "dag_id": "dag_id", "run_id": "run_id", "task_id": "task_id", "map_index": "map_index", "timestamp": "timestamp", "run_after": "run_after"},
	}
	whole, _ := w.all(c, "")
	for _, m := range []string{"run_after", "logical_date"} {
		c.filters = append(c.filters, ranges(whole, m, m)...)
	}
	w.check(c)
}
