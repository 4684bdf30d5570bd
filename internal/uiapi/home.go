package uiapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// failure is a failed task of a run, with the end of what it said.
type failure struct {
	DagID          airflow.DagID  `json:"dag_id"`
	DagDisplayName string         `json:"dag_display_name"`
	RunID          airflow.RunID  `json:"run_id"`
	RunState       string         `json:"run_state"`
	RunAfter       time.Time      `json:"run_after"`
	TaskID         airflow.TaskID `json:"task_id"`
	MapIndex       int            `json:"map_index"`
	TryNumber      int            `json:"try_number"`
	EndDate        *time.Time     `json:"end_date"`
	Error          string         `json:"error"`
	MoreTasks      int            `json:"more_tasks,omitempty"` // further failed tasks of the run
}

type homePage struct {
	Dags         map[string]int     `json:"dags"` // all, active, paused
	Runs         map[string]int     `json:"runs"` // by state, in the period
	Running      int                `json:"running"`
	Queued       int                `json:"queued"`
	ImportErrors int                `json:"import_errors"`
	Pools        []engine.PoolUsage `json:"pools"`
	Failures     []failure          `json:"failures"` // latest first
	FailedRuns   int                `json:"failed_runs"`
	Hours        int                `json:"hours"`
	Truncated    bool               `json:"truncated,omitempty"` // of a DAG with very many runs only the newest were counted
	Pending      bool               `json:"pending"`
}

const (
	maxFailures    = 50  // shown
	maxRunsOfADag  = 500 // counted
	maxTasksOfRuns = 3   // failed tasks shown of one run
)

// home answers the first page: what runs, what failed in the last hours and why.
// Reads one list of runs a DAG, bounded by the period.
func (a *api) home(r *http.Request) (any, error) {
	ctx := r.Context()
	hours, err := number(r, "hours", 24, 24*31)
	if err != nil {
		return nil, err
	}
	all, more, err := a.readable(r)
	if err != nil {
		return nil, err
	}
	out := homePage{Dags: map[string]int{"all": len(all)}, Runs: map[string]int{}, Hours: hours, Truncated: more, Failures: []failure{}, Pools: []engine.PoolUsage{}}
	for _, m := range all {
		if m.IsPaused {
			out.Dags["paused"]++
		} else {
			out.Dags["active"]++
		}
	}
	dags := slices.DeleteFunc(all, func(m airflow.DagModel) bool { return !a.MayRead(r, "dag_run", &m) })
	byID := make(map[airflow.DagID]*airflow.DagModel, len(dags))
	for i := range dags {
		byID[dags[i].DagID] = &dags[i]
	}
	since := a.Now().Add(-time.Duration(hours) * time.Hour)
	lists, err := each(ctx, dags, func(ctx context.Context, m airflow.DagModel) ([]airflow.DagRun, error) {
		runs, _, err := a.Store.ListRuns(ctx, m.DagID, store.ListOptions{Descending: true, Limit: maxRunsOfADag, From: store.RunsFrom(since)})
		return runs, err
	})
	if err != nil {
		return nil, err
	}
	var failed []airflow.DagRun
	for _, runs := range lists {
		out.Truncated = out.Truncated || len(runs) == maxRunsOfADag
		for _, run := range runs {
			out.Runs[string(run.State)]++
			if run.State == airflow.RunFailed {
				failed = append(failed, run)
			}
		}
	}
	active, err := a.Store.ListActiveRuns(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, run := range active {
		m := byID[run.DagID]
		switch {
		case m == nil:
		case run.State == airflow.RunRunning:
			out.Running++
			out.Pending = true
		default:
			out.Queued++
			out.Pending = out.Pending || !m.IsPaused
		}
	}
	out.FailedRuns = len(failed)
	ended := func(r airflow.DagRun) time.Time {
		if r.EndDate != nil {
			return *r.EndDate
		}
		return r.RunAfter
	}
	slices.SortStableFunc(failed, func(x, y airflow.DagRun) int { return ended(y).Compare(ended(x)) })
	failed = failed[:min(len(failed), maxFailures)]
	details, err := each(ctx, failed, func(ctx context.Context, run airflow.DagRun) ([]failure, error) {
		m := byID[run.DagID]
		if !a.MayRead(r, "task_instance", m) {
			return nil, nil
		}
		return a.failures(ctx, m, run)
	})
	if err != nil {
		return nil, err
	}
	for _, d := range details {
		out.Failures = append(out.Failures, d...)
	}
	out.Failures = out.Failures[:min(len(out.Failures), maxFailures)]
	if a.MayRead(r, "import_error", nil) {
		errs, err := a.Store.ListImportErrors(ctx)
		if err != nil {
			return nil, err
		}
		out.ImportErrors = len(errs)
	}
	if a.MayRead(r, "pool", nil) {
		if out.Pools, err = a.Engine.Pools(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// failures says which tasks made a run fail, those that failed themselves.
func (a *api) failures(ctx context.Context, m *airflow.DagModel, run airflow.DagRun) ([]failure, error) {
	base := failure{DagID: run.DagID, DagDisplayName: m.DagDisplayName, RunID: run.RunID, RunState: string(run.State), RunAfter: run.RunAfter, EndDate: run.EndDate, MapIndex: airflow.Unmapped}
	if base.DagDisplayName == "" {
		base.DagDisplayName = string(run.DagID)
	}
	_, cells, err := a.Engine.Cells(ctx, run)
	if err != nil {
		base.Error = "The run's state cannot be read: " + lastLine(err.Error())
		return []failure{base}, nil //nolint:nilerr // one broken run must not hide the others
	}
	var keys []airflow.TaskInstanceKey
	n := 0
	for _, c := range cells {
		if c.State != airflow.TIFailed {
			continue
		}
		if n++; len(keys) < maxTasksOfRuns {
			keys = append(keys, airflow.TaskInstanceKey{DagID: run.DagID, RunID: run.RunID, TaskID: c.TaskID, MapIndex: c.MapIndex})
		}
	}
	if len(keys) == 0 {
		base.Error = "No task failed: the run was marked, timed out, or its last tasks could not start."
		return []failure{base}, nil
	}
	rows, err := a.Store.GetAttempts(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]failure, len(keys))
	for i, k := range keys {
		f := base
		f.TaskID, f.MapIndex = k.TaskID, k.MapIndex
		if row, ok := rows[k]; ok {
			f.TryNumber, f.Error = row.TryNumber, lastLine(row.Error)
			if row.EndDate != nil {
				f.EndDate = row.EndDate
			}
		}
		out[i] = f
	}
	out[0].MoreTasks = n - len(keys)
	return out, nil
}

// lastLine is the last line of a text that says something, cut to what a list shows.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = strings.TrimSpace(s[i+1:])
	}
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return s
}
