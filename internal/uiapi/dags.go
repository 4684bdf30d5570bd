package uiapi

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// runView is a run as bars and lists show it.
type runView struct {
	RunID       airflow.RunID       `json:"run_id"`
	State       airflow.DagRunState `json:"state"`
	RunType     airflow.DagRunType  `json:"run_type"`
	RunAfter    time.Time           `json:"run_after"`
	LogicalDate *time.Time          `json:"logical_date"`
	QueuedAt    *time.Time          `json:"queued_at"`
	StartDate   *time.Time          `json:"start_date"`
	EndDate     *time.Time          `json:"end_date"`
	DagVersion  int                 `json:"dag_version"`
	Note        bool                `json:"note,omitempty"`
}

func viewOf(r airflow.DagRun) runView {
	return runView{
		RunID: r.RunID, State: r.State, RunType: r.RunType, RunAfter: r.RunAfter, LogicalDate: r.LogicalDate,
		QueuedAt: r.QueuedAt, StartDate: r.StartDate, EndDate: r.EndDate, DagVersion: r.DagVersion, Note: r.Note != "",
	}
}

type dagRow struct {
	DagID                airflow.DagID `json:"dag_id"`
	DagDisplayName       string        `json:"dag_display_name"`
	Description          string        `json:"description"`
	IsPaused             bool          `json:"is_paused"`
	HasImportErrors      bool          `json:"has_import_errors"`
	Tags                 []string      `json:"tags"`
	Owners               []string      `json:"owners"`
	TimetableSummary     string        `json:"timetable_summary"`
	TimetableDescription string        `json:"timetable_description"`
	NextRunAfter         *time.Time    `json:"next_dagrun_run_after"`
	RecentRuns           []runView     `json:"recent_runs"` // newest first
}

type dagList struct {
	Dags         []dagRow       `json:"dags"`
	TotalEntries int            `json:"total_entries"`
	Tags         []string       `json:"tags"`   // of all DAGs that the caller may see
	Counts       map[string]int `json:"counts"` // of the DAGs before the paused filter: all, active, paused
	// Truncated says that there are more DAGs than a list looks at.
	Truncated bool `json:"truncated,omitempty"`
}

// readable lists the DAGs that the caller may see, stale ones left out, by dag_id.
func (a *api) readable(r *http.Request) (dags []airflow.DagModel, more bool, err error) {
	all, cursor, err := a.Store.ListDags(r.Context(), store.ListOptions{Limit: MaxDags})
	if err != nil {
		return nil, false, err
	}
	for _, m := range all {
		if !m.IsStale && a.MayRead(r, "dag", &m) {
			dags = append(dags, m)
		}
	}
	return dags, cursor != "", nil
}

// dags answers the DAG list: one page with each DAG's recent runs.
//
//	name                 part of the id, name or description, in any case
//	tags, tags_match_mode  any (default) or all
//	owners               any of them
//	paused               true or false
//	last_dag_run_state   state of the newest run, repeatable
//	order_by             dag_id, next_dagrun, last_run; "-" for descending
//	limit, offset, runs  page, and runs a DAG
func (a *api) dags(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := number(r, "limit", 50, 200)
	if err != nil {
		return nil, err
	}
	offset, err := number(r, "offset", 0, MaxDags)
	if err != nil {
		return nil, err
	}
	nRuns, err := number(r, "runs", 14, 50)
	if err != nil {
		return nil, err
	}
	all, more, err := a.readable(r)
	if err != nil {
		return nil, err
	}
	out := dagList{Tags: []string{}, Counts: map[string]int{"all": 0, "active": 0, "paused": 0}, Truncated: more}
	seen := map[string]bool{}
	for _, m := range all {
		for _, t := range m.Tags {
			if !seen[t] {
				seen[t] = true
				out.Tags = append(out.Tags, t)
			}
		}
	}
	slices.Sort(out.Tags)
	match, err := matcher(q)
	if err != nil {
		return nil, err
	}
	var dags []airflow.DagModel
	for _, m := range all {
		if !match(&m) {
			continue
		}
		out.Counts["all"]++
		if m.IsPaused {
			out.Counts["paused"]++
		} else {
			out.Counts["active"]++
		}
		if p := q.Get("paused"); p == "" || (p == "true") == m.IsPaused {
			dags = append(dags, m)
		}
	}
	order := cmp.Or(q.Get("order_by"), "dag_id")
	states := q["last_dag_run_state"]
	// Only filter and order by the newest run need the runs of every DAG.
	recent := map[airflow.DagID][]runView{}
	if len(states) > 0 || strings.HasSuffix(order, "last_run") {
		if recent, err = a.recent(r.Context(), dags, max(nRuns, 1)); err != nil {
			return nil, err
		}
	}
	if len(states) > 0 {
		dags = slices.DeleteFunc(dags, func(m airflow.DagModel) bool {
			runs := recent[m.DagID]
			return len(runs) == 0 || !slices.Contains(states, string(runs[0].State))
		})
	}
	if err := sortDags(dags, order, recent); err != nil {
		return nil, err
	}
	out.TotalEntries = len(dags)
	dags = dags[min(offset, len(dags)):]
	dags = dags[:min(limit, len(dags))]
	if len(recent) == 0 {
		if recent, err = a.recent(r.Context(), dags, nRuns); err != nil {
			return nil, err
		}
	}
	out.Dags = make([]dagRow, len(dags))
	for i, m := range dags {
		out.Dags[i] = rowOf(m)
		if runs := recent[m.DagID]; a.MayRead(r, "dag_run", &m) && runs != nil {
			out.Dags[i].RecentRuns = runs
		}
	}
	return out, nil
}

func rowOf(m airflow.DagModel) dagRow {
	d := dagRow{
		DagID: m.DagID, DagDisplayName: cmp.Or(m.DagDisplayName, string(m.DagID)), Description: m.Description, IsPaused: m.IsPaused,
		HasImportErrors: m.HasImportErrors, Tags: m.Tags, Owners: m.Owners, TimetableSummary: m.TimetableSummary,
		TimetableDescription: m.TimetableDescription, NextRunAfter: m.NextDagRunRunAfter, RecentRuns: []runView{},
	}
	if d.Tags == nil {
		d.Tags = []string{}
	}
	if d.Owners == nil {
		d.Owners = []string{}
	}
	return d
}

// matcher reads the filters that a DAG's own row answers, the paused one excepted.
func matcher(q url.Values) (func(*airflow.DagModel) bool, error) {
	name := strings.ToLower(strings.TrimSpace(q.Get("name")))
	tags, owners := q["tags"], q["owners"]
	all := false
	switch mode := q.Get("tags_match_mode"); mode {
	case "", "any":
	case "all":
		all = true
	default:
		return nil, invalid("tags_match_mode: expected any or all, not " + mode)
	}
	switch p := q.Get("paused"); p {
	case "", "true", "false":
	default:
		return nil, invalid("paused: expected true or false, not " + p)
	}
	return func(m *airflow.DagModel) bool {
		if name != "" && !contains(string(m.DagID), name) && !contains(m.DagDisplayName, name) && !contains(m.Description, name) {
			return false
		}
		n := 0
		for _, t := range tags {
			if slices.Contains(m.Tags, t) {
				n++
			}
		}
		if len(tags) > 0 && (n == 0 || all && n < len(tags)) {
			return false
		}
		return len(owners) == 0 || slices.ContainsFunc(owners, func(o string) bool { return slices.Contains(m.Owners, o) })
	}, nil
}

func sortDags(dags []airflow.DagModel, order string, recent map[airflow.DagID][]runView) error {
	key, desc := strings.CutPrefix(order, "-")
	var less func(x, y airflow.DagModel) int
	never := func(t *time.Time) time.Time { // DAGs without a date come last
		if t == nil {
			return time.Unix(1<<40, 0)
		}
		return *t
	}
	switch key {
	case "dag_id":
		less = func(x, y airflow.DagModel) int { return cmp.Compare(x.DagID, y.DagID) }
	case "next_dagrun":
		less = func(x, y airflow.DagModel) int {
			return never(x.NextDagRunRunAfter).Compare(never(y.NextDagRunRunAfter))
		}
	case "last_run":
		last := func(m airflow.DagModel) time.Time {
			if runs := recent[m.DagID]; len(runs) > 0 {
				return runs[0].RunAfter
			}
			return time.Time{}
		}
		less = func(x, y airflow.DagModel) int { return last(x).Compare(last(y)) }
	default:
		return invalid("order_by: expected dag_id, next_dagrun or last_run, with a leading - for descending, not " + order)
	}
	slices.SortStableFunc(dags, func(x, y airflow.DagModel) int {
		if desc {
			x, y = y, x
		}
		return less(x, y)
	})
	return nil
}

// readers bounds the reads that one request makes at a time.
const readers = 8

// recent reads the newest runs of DAGs, by an index, a query a DAG.
func (a *api) recent(ctx context.Context, dags []airflow.DagModel, n int) (map[airflow.DagID][]runView, error) {
	lists, err := each(ctx, dags, func(ctx context.Context, m airflow.DagModel) ([]runView, error) {
		if n == 0 {
			return nil, nil
		}
		runs, _, err := a.Store.ListRuns(ctx, m.DagID, store.ListOptions{Descending: true, Limit: n})
		out := make([]runView, len(runs))
		for i, r := range runs {
			out[i] = viewOf(r)
		}
		return out, err
	})
	out := make(map[airflow.DagID][]runView, len(dags))
	for i, m := range dags {
		out[m.DagID] = lists[i]
	}
	return out, err
}

// each applies f to all, a few at a time, and keeps the order. Of several errors
// it returns the first in that order.
func each[T, R any](ctx context.Context, all []T, f func(context.Context, T) (R, error)) ([]R, error) {
	out, errs := make([]R, len(all)), make([]error, len(all))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(readers, len(all)) {
		wg.Go(func() {
			for i := range next {
				if out[i], errs[i] = f(ctx, all[i]); errs[i] != nil {
					cancel()
				}
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	var first error
	for _, err := range errs {
		if err != nil && (first == nil || ctx.Err() != nil && first == context.Canceled) {
			first = err
		}
	}
	return out, first
}
