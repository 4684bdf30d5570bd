package restapi_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
	"github.com/gustflow/gust/internal/worker"
)

type row = map[string]any

// world is an API over a history made for the test.
type world struct {
	*testing.T
	h   *enginetest.Harness
	api *restapi.API
}

// onDrivers runs f over the same history on each driver.
func onDrivers(t *testing.T, f func(*world)) {
	for name, open := range map[string]func(*testing.T) kv.Driver{
		"sqlite": func(t *testing.T) kv.Driver {
			d, err := sqlitekv.Open(filepath.Join(t.TempDir(), "gust.db"), sqlitekv.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		"dynamodb": func(t *testing.T) kv.Driver { return dynamotest.Open(t) },
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			h := enginetest.New(d, engine.Config{}, nil)
			t.Cleanup(func() {
				h.Engine.Close()
				if name == "sqlite" {
					_ = d.Close()
				}
			})
			w := &world{T: t, h: h, api: restapi.New(restapi.Options{Store: h.Store, Engine: h.Engine, Now: h.Clock.Now})}
			w.history()
			f(w)
		})
	}
}

// history is three DAGs with runs that ended, failed, wait and were cleared.
func (w *world) history() {
	ctx := w.Context()
	must := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	dags := []enginetest.DAG{
		{ID: "alpha", Tasks: []enginetest.Task{{ID: "a"}, {ID: "g.b", Upstream: []string{"a"}, Group: "g"}, {ID: "m", ExpandLit: 3}, {ID: "e", Empty: true, Upstream: []string{"g.b"}}}, Groups: []enginetest.Group{{ID: "g"}}},
		{ID: "beta", Cron: "0 6 * * *", Fields: map[string]any{"dag_display_name": "The Second"}, Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"pool": "side", "queue": "long"}}, {ID: "c", Upstream: []string{"a"}, Fields: map[string]any{"retries": 1}}}},
		{ID: "gamma_x", Assets: []string{"s3://stock"}, Tasks: []enginetest.Task{{ID: "z"}}},
	}
	for _, d := range dags {
		_, err := w.h.Register(ctx, d)
		must(err)
	}
	for id, m := range map[airflow.DagID]airflow.DagModel{
		"alpha": {Tags: []string{"x", "y"}, Owners: []string{"ann"}}, "beta": {Tags: []string{"y"}, Owners: []string{"bob"}, IsPaused: true}, "gamma_x": {Owners: []string{"ann", "cyd"}, IsStale: true},
	} {
		_, err := w.h.Store.UpdateDag(ctx, id, func(d *airflow.DagModel) error {
			d.Tags, d.Owners, d.IsStale, d.IsPaused = m.Tags, m.Owners, m.IsStale, false
			return nil
		})
		must(err)
	}
	must(w.h.Store.PutPool(ctx, airflow.Pool{Name: "side", Slots: 5}))
	must(w.h.Store.AddFavorite(ctx, "admin", "beta"))
	_, err := w.h.Store.UpsertAsset(ctx, airflow.Asset{Name: "stock", URI: "s3://stock"}, func(a *store.AssetRecord) error { a.ScheduledDags = []airflow.DagID{"gamma_x"}; return nil })
	must(err)
	n := 0
	for i := range 6 {
		for _, dag := range []airflow.DagID{"alpha", "beta"} {
			n++
			w.h.Clock.Advance(17 * time.Minute)
			_, err := w.h.Engine.Tick(ctx, 1) // retries whose delay is over
			must(err)
			o := engine.TriggerOptions{DagID: dag, RunID: airflow.RunID(fmt.Sprintf("run_%c%d", 'a'+i%3, n)), TriggeredBy: airflow.TriggeredByRestAPI, User: []string{"ann", "bob", ""}[n%3]}
			if i%2 == 0 {
				ld := w.h.Clock.Now().Add(-time.Duration(i*26) * time.Hour)
				o.LogicalDate = &ld
			} else {
				o.NoLogicalDate = true
			}
			if i == 3 {
				o.Conf = json.RawMessage(`{"city": "Rome", "n": 3}`)
			}
			if i == 4 {
				o.Type = airflow.RunTypeAssetMaterialization
			}
			_, err = w.h.Engine.Trigger(ctx, o)
			must(err)
			if i == 5 {
				w.h.Engine.Drain(ctx)
				continue // these stay as they are
			}
			_, err = w.h.RunAll(ctx, func(d worker.Dispatch, tc *worker.TaskContext) enginetest.Outcome {
				w.h.Clock.Advance(time.Duration(3+n+len(d.Key.TaskID)) * time.Second)
				switch {
				case n%5 == 0 && d.Key.TaskID == "a", d.Key.TaskID == "c" && tc.TryNumber == 1:
					return enginetest.Fail()
				case d.Key.MapIndex == 2:
					return enginetest.Outcome{Report: worker.Report{Outcome: worker.OutcomeSkipped}}
				}
				return enginetest.Success(fmt.Sprintf("v%d", n))
			})
			must(err)
		}
	}
	runs, _, err := w.h.Store.ListRuns(ctx, "alpha", store.ListOptions{})
	must(err)
	_, err = w.h.Engine.Clear(ctx, store.RunKey{DagID: "alpha", RunID: runs[0].RunID}, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: scheduler.Selection{Tasks: []scheduler.TaskSelection{{TaskID: "g.b"}}}, ResetDagRun: true}})
	must(err)
	w.h.Engine.Drain(ctx)
	_, err = w.h.Store.UpdateDag(ctx, "beta", func(d *airflow.DagModel) error { d.IsPaused = true; return nil })
	must(err)
}

func (w *world) get(api *restapi.API, path string, query url.Values) (int, row) {
	w.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(w.Context(), http.MethodGet, path+"?"+query.Encode(), nil)
	api.ServeHTTP(rec, r)
	dec := json.NewDecoder(rec.Body)
	dec.UseNumber()
	var v row
	if err := dec.Decode(&v); err != nil {
		w.Fatalf("%s: %v", path, err)
	}
	return rec.Code, v
}

// listCase is a list whose filters and orders are held against the whole list.
type listCase struct {
	path, op, member string
	base             string // parameters that make the list whole
	id               func(row) string
	filters          []filterCase
	orders           map[string]string // attribute -> member that shows it, "" = cannot be seen
}

type filterCase struct {
	query string
	keep  func(row) bool
}

func parse(w *world, s string) url.Values {
	q, err := url.ParseQuery(s)
	if err != nil {
		w.Fatal(err)
	}
	return q
}

func (w *world) all(c listCase, query string) ([]row, int) {
	w.Helper()
	q := parse(w, query)
	if query != c.base {
		for k, v := range parse(w, c.base) {
			if !q.Has(k) {
				q[k] = v
			}
		}
	}
	q.Set("limit", "100")
	code, v := w.get(w.api, c.path, q)
	l, ok := v[c.member].([]any)
	if code != 200 || !ok {
		w.Fatalf("%s?%s: %d %v", c.path, q.Encode(), code, v)
	}
	var out []row
	for _, x := range l {
		out = append(out, x.(row))
	}
	n, err := v["total_entries"].(json.Number).Int64()
	if err != nil {
		w.Fatal(err)
	}
	return out, int(n)
}

func ids(c listCase, rows []row) (out []string) {
	for _, r := range rows {
		out = append(out, c.id(r))
	}
	return out
}

// check holds every filter and order of a list against the whole list, and pages
// by cursor through it.
func (w *world) check(c listCase) {
	w.Helper()
	whole, total := w.all(c, c.base)
	if total != len(whole) || len(whole) < 2 {
		w.Fatalf("%s: %d of %d", c.path, len(whole), total)
	}
	tested := map[string]bool{"limit": true, "offset": true, "order_by": true, "cursor": true}
	for k := range parse(w, c.base) {
		tested[k] = true
	}
	narrow := map[string]bool{}
	for _, f := range c.filters {
		for k := range parse(w, f.query) {
			tested[k] = true
		}
		var want []string
		for _, r := range whole {
			if f.keep(r) {
				want = append(want, c.id(r))
			}
		}
		got, n := w.all(c, f.query)
		have := ids(c, got)
		sort.Strings(want)
		sort.Strings(have)
		if !slices.Equal(want, have) || n != len(want) {
			w.Errorf("%s?%s: %d %v, by hand %d %v", c.path, f.query, n, have, len(want), want)
		}
		for k := range parse(w, f.query) {
			narrow[k] = narrow[k] || len(want) < len(whole)
		}
	}
	for k, some := range narrow {
		if !some {
			w.Errorf("%s: no case of %s leaves anything out", c.path, k)
		}
	}
	for attr, member := range c.orders {
		for _, sign := range []string{"", "-"} {
			got, n := w.all(c, "order_by="+sign+attr)
			if n != total || len(got) != total {
				w.Errorf("%s?order_by=%s%s: %d of %d", c.path, sign, attr, len(got), total)
			}
			if member == "" {
				continue
			}
			if !slices.IsSortedFunc(got, func(a, b row) int {
				x := compareValues(a[member], b[member])
				if sign == "-" && a[member] != nil && b[member] != nil {
					return -x
				}
				return x
			}) {
				w.Errorf("%s?order_by=%s%s is not in order: %v", c.path, sign, attr, column(got, member))
			}
		}
	}
	w.wholeOperation(c, tested)
}

// wholeOperation fails for parameters and orders that no case of the test has.
func (w *world) wholeOperation(c listCase, tested map[string]bool) {
	w.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
		}
	}
	if err := json.Unmarshal(w.api.OpenAPI(), &doc); err != nil {
		w.Fatal(err)
	}
	for _, item := range doc.Paths {
		for _, op := range item {
			if op.OperationID != c.op {
				continue
			}
			for _, p := range op.Parameters {
				if p.In == "query" && !tested[p.Name] {
					w.Errorf("%s: the parameter %s is not tested", c.op, p.Name)
				}
			}
		}
	}
	nope := parse(w, c.base)
	nope.Set("order_by", "nope")
	_, v := w.get(w.api, c.path, nope)
	if s, _ := v["detail"].(string); !strings.Contains(s, "nope") {
		w.Errorf("%s?order_by=nope: %v", c.path, v)
	}
}

func column(rows []row, member string) (out []any) {
	for _, r := range rows {
		out = append(out, r[member])
	}
	return out
}

// compareValues orders JSON values: null last.
func compareValues(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	if x, ok := a.(json.Number); ok {
		f, err1 := x.Float64()
		g, err2 := b.(json.Number).Float64()
		if err1 != nil || err2 != nil {
			return 0
		}
		return cmp.Compare(f, g)
	}
	if t, u := timeIn(a), timeIn(b); !t.IsZero() && !u.IsZero() {
		return t.Compare(u)
	}
	return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func timeIn(v any) time.Time {
	s, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// walk follows the cursors of a list and back, with small pages and windows.
func (w *world) walk(c listCase, order string, readLimit int) {
	w.Helper()
	api := restapi.New(restapi.Options{Store: w.h.Store, Engine: w.h.Engine, Now: w.h.Clock.Now, ReadLimit: readLimit})
	q := parse(w, c.base)
	q.Set("cursor", "")
	q.Set("limit", "2")
	if order != "" {
		q.Set("order_by", order)
	}
	var seen []string
	var prev any
	pages := 0
	for ; pages < 500; pages++ {
		code, v := w.get(api, c.path, q)
		if code != 200 {
			w.Fatalf("%s?%s: %d %v", c.path, q.Encode(), code, v)
		}
		for _, x := range v[c.member].([]any) {
			seen = append(seen, c.id(x.(row)))
		}
		prev = v["previous_cursor"]
		next, ok := v["next_cursor"].(string)
		if !ok {
			break
		}
		q.Set("cursor", next)
	}
	query := c.base
	if order != "" {
		query = strings.TrimPrefix(query+"&order_by="+order, "&")
	}
	whole, _ := w.all(c, query)
	want := ids(c, whole)
	if readLimit >= 5000 {
		if !slices.Equal(seen, want) {
			w.Errorf("%s by cursor, order %q:\n got %v\nwant %v", c.path, order, seen, want)
		}
		if s, ok := prev.(string); !ok {
			w.Errorf("%s: the last page has no previous_cursor", c.path)
		} else {
			q.Set("cursor", s)
			_, v := w.get(api, c.path, q)
			l, _ := v[c.member].([]any)
			var back []string
			for _, x := range l {
				back = append(back, c.id(x.(row)))
			}
			last := len(want) - len(want)%2
			if last == len(want) {
				last -= 2
			}
			if !slices.Equal(back, want[last-2:last]) {
				w.Errorf("%s: back from the last page: %v, expected %v", c.path, back, want[last-2:last])
			}
		}
		return
	}
	sort.Strings(seen)
	sort.Strings(want)
	if !slices.Equal(seen, want) {
		w.Errorf("%s in windows of %d:\n got %v\nwant %v", c.path, readLimit, seen, want)
	}
}

func str(r row, k string) string { s, _ := r[k].(string); return s }

func has(r row, k string, vs ...string) bool { return slices.Contains(vs, str(r, k)) }

func fold(r row, k, part string) bool {
	return r[k] != nil && strings.Contains(strings.ToLower(str(r, k)), strings.ToLower(part))
}

// ranges are the cases of a range of dates, around a date of the list.
func ranges(rows []row, member, param string) (out []filterCase) {
	var dates []time.Time
	for _, r := range rows {
		if t := timeIn(r[member]); !t.IsZero() {
			dates = append(dates, t)
		}
	}
	slices.SortFunc(dates, time.Time.Compare)
	dates = slices.CompactFunc(dates, time.Time.Equal)
	at := dates[len(dates)/2]
	for op, ok := range map[string]func(int) bool{"gte": func(c int) bool { return c >= 0 }, "gt": func(c int) bool { return c > 0 }, "lte": func(c int) bool { return c <= 0 }, "lt": func(c int) bool { return c < 0 }} {
		out = append(out, filterCase{param + "_" + op + "=" + url.QueryEscape(at.Format(time.RFC3339Nano)), func(r row) bool {
			t := timeIn(r[member])
			return !t.IsZero() && ok(t.Compare(at))
		}})
	}
	return out
}

// durations are the cases of the ranges of durations.
func durations(rows []row) (out []filterCase) {
	var at float64
	for _, r := range rows {
		if n, ok := r["duration"].(json.Number); ok {
			at, _ = n.Float64()
		}
	}
	for op, ok := range map[string]func(float64) bool{"gte": func(x float64) bool { return x >= at }, "gt": func(x float64) bool { return x > at }, "lte": func(x float64) bool { return x <= at }, "lt": func(x float64) bool { return x < at }} {
		out = append(out, filterCase{fmt.Sprintf("duration_%s=%v", op, at), func(r row) bool {
			n, there := r["duration"].(json.Number)
			if !there {
				return false
			}
			x, err := n.Float64()
			return err == nil && ok(x)
		}})
	}
	return out
}
