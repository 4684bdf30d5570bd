package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// TaskInstanceCollectionResponse is a list of instances.
type TaskInstanceCollectionResponse struct {
	TaskInstances []TaskInstanceResponse `json:"task_instances"`
	Total         int                    `json:"total_entries"`
	TotalLimit    *int                   `json:"total_entries_limit"`
	Next          *string                `json:"next_cursor"`
	Previous      *string                `json:"previous_cursor"`
}

// TaskInstanceHistoryResponse is one try of an instance.
type TaskInstanceHistoryResponse struct {
	TaskID          string              `json:"task_id"`
	DagID           string              `json:"dag_id"`
	DagRunID        string              `json:"dag_run_id"`
	MapIndex        int                 `json:"map_index"`
	StartDate       *Time               `json:"start_date"`
	EndDate         *Time               `json:"end_date"`
	Duration        *float64            `json:"duration"`
	State           *string             `json:"state"`
	TryNumber       int                 `json:"try_number"`
	MaxTries        int                 `json:"max_tries"`
	TaskDisplayName string              `json:"task_display_name"`
	DagDisplayName  string              `json:"dag_display_name"`
	Hostname        *string             `json:"hostname"`
	Unixname        *string             `json:"unixname"`
	Pool            string              `json:"pool"`
	PoolSlots       int                 `json:"pool_slots"`
	Queue           *string             `json:"queue"`
	PriorityWeight  *int64              `json:"priority_weight"`
	Operator        *string             `json:"operator"`
	OperatorName    *string             `json:"operator_name"`
	QueuedWhen      *Time               `json:"queued_when"`
	ScheduledWhen   *Time               `json:"scheduled_when"`
	PID             *int                `json:"pid"`
	Executor        *string             `json:"executor"`
	ExecutorConfig  string              `json:"executor_config"`
	DagVersion      *DagVersionResponse `json:"dag_version"`
}

// TaskInstanceHistoryCollectionResponse is a list of tries.
type TaskInstanceHistoryCollectionResponse struct {
	TaskInstances []TaskInstanceHistoryResponse `json:"task_instances"`
	Total         int                           `json:"total_entries"`
}

// TaskDependencyResponse says why an instance is not scheduled.
type TaskDependencyResponse struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// TaskDependencyCollectionResponse is a list of reasons.
type TaskDependencyCollectionResponse struct {
	Dependencies []TaskDependencyResponse `json:"dependencies"`
}

// ExtraLinkCollectionResponse are an operator's links.
type ExtraLinkCollectionResponse struct {
	ExtraLinks map[string]*string `json:"extra_links"`
	Total      int                `json:"total_entries"`
}

// ExternalLogURLResponse is where a log lies in a remote store.
type ExternalLogURLResponse struct {
	URL string `json:"url"`
}

// TaskInstancesBatchBody filters instances.
type TaskInstancesBatchBody struct {
	Closed
	RunAfterRange
	LogicalDateRange
	StartDateRange
	EndDateRange
	DurationRange
	DagIDs     []string  `json:"dag_ids" required:"false" nullable:"true"`
	DagRunIDs  []string  `json:"dag_run_ids" required:"false" nullable:"true"`
	TaskIDs    []string  `json:"task_ids" required:"false" nullable:"true"`
	State      []*string `json:"state" required:"false" nullable:"true" enum:"removed,scheduled,queued,running,success,restarting,failed,up_for_retry,up_for_reschedule,upstream_failed,skipped,deferred,awaiting_input"`
	Pool       []string  `json:"pool" required:"false" nullable:"true"`
	Queue      []string  `json:"queue" required:"false" nullable:"true"`
	Executor   []string  `json:"executor" required:"false" nullable:"true"`
	PageOffset int       `json:"page_offset" default:"0" min:"0"`
	PageLimit  int       `json:"page_limit" default:"100" min:"0"`
	OrderBy    *string   `json:"order_by"`
}

type tiPath struct {
	DagID  string `path:"dag_id"`
	RunID  string `path:"dag_run_id"`
	TaskID string `path:"task_id"`
}

type tiAt struct {
	tiPath
	MapIndex int `query:"map_index" default:"-1"`
}

type tiMapped struct {
	tiPath
	MapIndex int `path:"map_index"`
}

// tiFilters are those of every list of instances.
type tiFilters struct {
	RunAfterRange
	LogicalDateRange
	StartDateRange
	EndDateRange
	UpdatedAtRange
	DurationRange
	State           []string `query:"state"`
	Pool            []string `query:"pool"`
	PoolPattern     *string  `query:"pool_name_pattern"`
	PoolPrefix      *string  `query:"pool_name_prefix_pattern"`
	Queue           []string `query:"queue"`
	QueuePattern    *string  `query:"queue_name_pattern"`
	QueuePrefix     *string  `query:"queue_name_prefix_pattern"`
	Executor        []string `query:"executor"`
	VersionNumber   []int    `query:"version_number"`
	TryNumber       []int    `query:"try_number"`
	Operator        []string `query:"operator"`
	OperatorPattern *string  `query:"operator_name_pattern"`
	OperatorPrefix  *string  `query:"operator_name_prefix_pattern"`
	MapIndexes      []int    `query:"map_index"`
	RenderedPattern *string  `query:"rendered_map_index_pattern"`
	RenderedPrefix  *string  `query:"rendered_map_index_prefix_pattern"`
}

type listTIs struct {
	CursorPaging
	Ordering
	tiFilters
	DagID          string  `path:"dag_id"`
	RunID          string  `path:"dag_run_id"`
	TaskID         *string `query:"task_id"`
	DisplayPattern *string `query:"task_display_name_pattern"`
	DisplayPrefix  *string `query:"task_display_name_prefix_pattern"`
	TaskGroupID    *string `query:"task_group_id"`
	DagIDPattern   *string `query:"dag_id_pattern"`
	DagIDPrefix    *string `query:"dag_id_prefix_pattern"`
	RunIDPattern   *string `query:"run_id_pattern"`
	RunIDPrefix    *string `query:"run_id_prefix_pattern"`
}

type listMapped struct {
	Paging
	Ordering
	tiFilters
	tiPath
}

type batchTIs struct {
	DagID string `path:"dag_id"`
	RunID string `path:"dag_run_id"`
	Body  TaskInstancesBatchBody
}

type tryAt struct {
	tiAt
	Try int `path:"task_try_number"`
}

type tryMapped struct {
	tiMapped
	Try int `path:"task_try_number"`
}

type logURLPath struct {
	tiAt
	Try int `path:"try_number"`
}

func registerTaskInstances(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + path, ID: id, Tag: "Task Instance", Summary: summary, Action: act, Resource: auth.ResourceTaskInstance}
	}
	const all = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"
	const one, mapped = all + "/{task_id}", all + "/{task_id}/{map_index}"
	list := op("GET", all, "get_task_instances", "Get Task Instances", auth.Read)
	list.Indexed = []string{"dag_id", "dag_run_id", "run_after", "state of unfinished instances"}
	Handle(a, list, getTIs)
	batch := op("POST", all+"/list", "get_task_instances_batch", "Get Task Instances Batch", auth.Read)
	batch.Event = "-"
	Handle(a, batch, getTIsBatch)
	Handle(a, op("GET", one, "get_task_instance", "Get Task Instance", auth.Read), func(r *Request, _ *tiPath) (TaskInstanceResponse, error) { return r.oneTI(airflow.Unmapped) })
	Handle(a, op("GET", mapped, "get_mapped_task_instance", "Get Mapped Task Instance", auth.Read), func(r *Request, in *tiMapped) (TaskInstanceResponse, error) { return r.oneTI(in.MapIndex) })
	Handle(a, op("GET", one+"/listMapped", "get_mapped_task_instances", "Get Mapped Task Instances", auth.Read), getMapped)
	Handle(a, op("GET", one+"/tries", "get_task_instance_tries", "Get Task Instance Tries", auth.Read), func(r *Request, in *tiAt) (TaskInstanceHistoryCollectionResponse, error) { return r.tries(in.MapIndex) })
	Handle(a, op("GET", mapped+"/tries", "get_mapped_task_instance_tries", "Get Mapped Task Instance Tries", auth.Read), func(r *Request, in *tiMapped) (TaskInstanceHistoryCollectionResponse, error) {
		return r.tries(in.MapIndex)
	})
	Handle(a, op("GET", one+"/tries/{task_try_number}", "get_task_instance_try_details", "Get Task Instance Try Details", auth.Read), func(r *Request, in *tryAt) (TaskInstanceHistoryResponse, error) { return r.oneTry(in.MapIndex, in.Try) })
	Handle(a, op("GET", mapped+"/tries/{task_try_number}", "get_mapped_task_instance_try_details", "Get Mapped Task Instance Try Details", auth.Read), func(r *Request, in *tryMapped) (TaskInstanceHistoryResponse, error) {
		return r.oneTry(in.MapIndex, in.Try)
	})
	Handle(a, op("GET", one+"/dependencies", "get_task_instance_dependencies", "Get Task Instance Dependencies", auth.Read), func(r *Request, in *tiAt) (TaskDependencyCollectionResponse, error) {
		return r.dependencies(in.MapIndex)
	})
	Handle(a, op("GET", mapped+"/dependencies", "get_task_instance_dependencies_by_map_index", "Get Task Instance Dependencies", auth.Read), func(r *Request, in *tiMapped) (TaskDependencyCollectionResponse, error) {
		return r.dependencies(in.MapIndex)
	})
	links := op("GET", one+"/links", "get_extra_links", "Get Extra Links", auth.Read)
	links.Tag = "Extra Links"
	Handle(a, links, getLinks)
	Handle(a, op("GET", one+"/externalLogUrl/{try_number}", "get_external_log_url", "Get External Log Url", auth.Read), func(r *Request, in *logURLPath) (ExternalLogURLResponse, error) {
		if _, err := r.mustTI(in.MapIndex); err != nil {
			return ExternalLogURLResponse{}, err
		}
		return ExternalLogURLResponse{}, BadRequest("Task log handler does not support external logs.")
	})
}

func tiOrders() Orders[tiRow] {
	return Orders[tiRow]{
		By: map[string]func(tiRow) SortKey{
			"id": tiRow.idKey, "state": func(t tiRow) SortKey { return ByTextPtr(stateText(t.State)) },
			"duration":            func(t tiRow) SortKey { return ByFloat(t.Duration) },
			"start_date":          func(t tiRow) SortKey { return ByTime(t.StartDate) },
			"end_date":            func(t tiRow) SortKey { return ByTime(t.EndDate) },
			"map_index":           func(t tiRow) SortKey { return ByInt(int64(t.MapIndex)) },
			"try_number":          func(t tiRow) SortKey { return ByInt(int64(t.TryNumber)) },
			"logical_date":        func(t tiRow) SortKey { return ByTime(t.run.LogicalDate) },
			"run_after":           func(t tiRow) SortKey { return ByTime(&t.run.RunAfter) },
			"data_interval_start": func(t tiRow) SortKey { return ByTime(t.run.DataIntervalStart) },
			"data_interval_end":   func(t tiRow) SortKey { return ByTime(t.run.DataIntervalEnd) },
			"rendered_map_index":  func(t tiRow) SortKey { return ByTextPtr(orNil(t.RenderedMapIndex)) },
			"operator":            func(t tiRow) SortKey { return ByTextPtr(orNil(t.Operator)) },
			"task_id":             func(t tiRow) SortKey { return ByText(string(t.TaskID)) },
		},
		Default: []string{"map_index"},
		ID:      tiRow.idKey,
	}
}

// updated is when an instance last changed, as far as that is known.
func (t tiRow) updated() (at *time.Time) {
	for _, d := range []*time.Time{t.ScheduledWhen, t.QueuedWhen, t.StartDate, t.EndDate} {
		if d != nil && (at == nil || d.After(*at)) {
			at = d
		}
	}
	return at
}

// keep makes the filter. states are parsed beforehand.
func (f *tiFilters) keep(states []airflow.TIState) func(tiRow) bool {
	pool, poolPrefix := Pattern(f.PoolPattern), Prefix(f.PoolPrefix)
	queue, queuePrefix := Pattern(f.QueuePattern), Prefix(f.QueuePrefix)
	operator, operatorPrefix := Pattern(f.OperatorPattern), Prefix(f.OperatorPrefix)
	rendered, renderedPrefix := Pattern(f.RenderedPattern), Prefix(f.RenderedPrefix)
	return func(t tiRow) bool {
		q := orText(t.Queue, "default")
		if !oneIn(states, t.State) || !oneIn(f.Pool, t.Pool) || !pool(t.Pool) || !poolPrefix(t.Pool) || !oneIn(f.Queue, q) || !queue(q) || !queuePrefix(q) ||
			!oneIn(f.Executor, t.Executor) || !oneIn(f.VersionNumber, t.run.DagVersion) || !oneIn(f.TryNumber, t.TryNumber) || !oneIn(f.MapIndexes, t.MapIndex) {
			return false
		}
		name := t.Operator
		if task := t.task(); task != nil {
			name = orText(task.OperatorName, name)
		}
		if !oneIn(f.Operator, t.Operator) || !operator(name) || !operatorPrefix(name) {
			return false
		}
		if (notAll(f.RenderedPattern) || notAll(f.RenderedPrefix)) && (t.MapIndex < 0 || !rendered(t.shownIndex()) || !renderedPrefix(t.shownIndex())) {
			return false
		}
		return TimeRange(f.RunAfterRange).OK(&t.run.RunAfter) && TimeRange(f.LogicalDateRange).OK(t.run.LogicalDate) && TimeRange(f.StartDateRange).OK(t.StartDate) &&
			TimeRange(f.EndDateRange).OK(t.EndDate) && TimeRange(f.UpdatedAtRange).OK(t.updated()) && f.DurationRange.OK(t.Duration)
	}
}

// tiWindow reads the instances of runs, whole runs at a time, until there are at
// least limit of them. rendered says that the rows of all are needed.
func (r *Request) tiWindow(runs Window[airflow.DagRun], keepRun func(airflow.DagRun) bool, rendered bool) Window[tiRow] {
	return func(ctx context.Context, cursor string, limit int) (out []tiRow, next string, err error) {
		// Runs come a few at a time: each may have very many instances.
		for {
			rs, more, err := runs(ctx, cursor, 20)
			if err != nil {
				return nil, "", err
			}
			for _, run := range rs {
				if !keepRun(run) {
					continue
				}
				ts, err := r.viewRows(ctx, run)
				if errors.Is(err, airflow.ErrNotFound) {
					continue // deleted meanwhile
				}
				if err != nil {
					return nil, "", err
				}
				if rendered {
					if err := r.fill(ctx, ts); err != nil {
						return nil, "", err
					}
				}
				out = append(out, ts...)
			}
			if cursor = more; more == "" || len(out) >= limit {
				return out, more, nil
			}
		}
	}
}

// unfinishedOnly reports whether only states are asked for that instances of
// unfinished runs alone can be in.
func unfinishedOnly(states []airflow.TIState) bool {
	for _, s := range states {
		if s == airflow.TINone || int(s) < airflow.NumTIStates && s.Finished() {
			return false
		}
	}
	return len(states) > 0
}

func getTIs(r *Request, in *listTIs) (TaskInstanceCollectionResponse, error) {
	states, err := parseTIStates(in.State)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	keep := in.keep(states)
	display, displayPrefix := Pattern(in.DisplayPattern), Prefix(in.DisplayPrefix)
	dagID, dagIDPrefix := Pattern(in.DagIDPattern), Prefix(in.DagIDPrefix)
	runID, runIDPrefix := Pattern(in.RunIDPattern), Prefix(in.RunIDPrefix)
	var dag airflow.DagID
	if in.DagID != "~" {
		if _, err := r.mustDag(); err != nil {
			return TaskInstanceCollectionResponse{}, err
		}
		dag = airflow.DagID(in.DagID)
	}
	runs, err := r.runsOf(dag, in.RunID, states, TimeRange(in.RunAfterRange))
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	rendered := notAll(in.RenderedPattern) || notAll(in.RenderedPrefix) || slices.ContainsFunc(in.OrderBy, func(o string) bool { return strings.HasSuffix(o, "rendered_map_index") })
	window := r.tiWindow(runs, func(run airflow.DagRun) bool {
		return dagID(string(run.DagID)) && dagIDPrefix(string(run.DagID)) && runID(string(run.RunID)) && runIDPrefix(string(run.RunID)) &&
			TimeRange(in.RunAfterRange).OK(&run.RunAfter) && TimeRange(in.LogicalDateRange).OK(run.LogicalDate) && oneIn(in.VersionNumber, run.DagVersion) &&
			(in.RunID == "~" || string(run.RunID) == in.RunID)
	}, rendered)
	groups := map[*airflow.DAG]map[airflow.TaskID]bool{}
	return r.tiPage(in.query(in.Ordering), window, func(t tiRow) bool {
		if in.TaskID != nil && string(t.TaskID) != *in.TaskID {
			return false
		}
		if in.TaskGroupID != nil {
			d := t.view.Graph.DAG
			if groups[d] == nil {
				groups[d], _ = groupTasks(d, airflow.GroupID(*in.TaskGroupID))
			}
			if !groups[d][t.TaskID] {
				return false
			}
		}
		name := string(t.TaskID)
		if task := t.task(); task != nil {
			name = orText(task.DisplayName, name)
		}
		return display(name) && displayPrefix(name) && keep(t)
	})
}

// runsOf chooses which runs to read for their instances.
func (r *Request) runsOf(dag airflow.DagID, runID string, states []airflow.TIState, after TimeRange) (Window[airflow.DagRun], error) {
	if runID != "~" && dag != "" {
		run, err := r.mustRun()
		if err != nil {
			return nil, err
		}
		return All(func(context.Context) ([]airflow.DagRun, error) { return []airflow.DagRun{run}, nil }), nil
	}
	f := runFilter{runAfter: after}
	if unfinishedOnly(states) {
		f.states = []string{string(airflow.RunQueued), string(airflow.RunRunning)}
	}
	return f.window(r, dag, true), nil
}

func (r *Request) tiPage(q Query, window Window[tiRow], keep func(tiRow) bool) (TaskInstanceCollectionResponse, error) {
	p, err := List(r, q, tiOrders(), window, keep)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	l, err := r.respond(p.Items)
	return TaskInstanceCollectionResponse{TaskInstances: l, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next, Previous: p.Prev}, err
}

func getTIsBatch(r *Request, in *batchTIs) (TaskInstanceCollectionResponse, error) {
	for name, v := range map[string]string{"dag_id": in.DagID, "dag_run_id": in.RunID} {
		if v != "~" {
			return TaskInstanceCollectionResponse{}, Invalid(FieldError{Type: "literal_error", Loc: []any{"path", name}, Msg: "Input should be '~'", Input: textJSON(v), Ctx: map[string]any{"expected": "'~'"}})
		}
	}
	b := in.Body
	f := tiFilters{
		RunAfterRange: b.RunAfterRange, LogicalDateRange: b.LogicalDateRange, StartDateRange: b.StartDateRange, EndDateRange: b.EndDateRange,
		DurationRange: b.DurationRange, Pool: b.Pool, Queue: b.Queue, Executor: b.Executor,
	}
	for _, s := range b.State {
		if s == nil {
			f.State = append(f.State, "none")
		} else {
			f.State = append(f.State, *s)
		}
	}
	states, err := parseTIStates(f.State)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	rf := runFilter{runAfter: TimeRange(b.RunAfterRange), dags: b.DagIDs}
	if unfinishedOnly(states) {
		rf.states = []string{string(airflow.RunQueued), string(airflow.RunRunning)}
	}
	window := r.tiWindow(rf.window(r, "", true), func(run airflow.DagRun) bool {
		return oneIn(b.DagIDs, string(run.DagID)) && oneIn(b.DagRunIDs, string(run.RunID)) && TimeRange(b.RunAfterRange).OK(&run.RunAfter) && TimeRange(b.LogicalDateRange).OK(run.LogicalDate)
	}, false)
	q := Query{Limit: b.PageLimit, Offset: b.PageOffset}
	if b.OrderBy != nil {
		q.OrderBy = []string{*b.OrderBy}
	}
	keep := f.keep(states)
	return r.tiPage(q, window, func(t tiRow) bool { return oneIn(b.TaskIDs, string(t.TaskID)) && keep(t) })
}

func (r *Request) oneTI(mapIndex int) (TaskInstanceResponse, error) {
	t, err := r.mustTI(mapIndex)
	if err != nil {
		return TaskInstanceResponse{}, err
	}
	l, err := r.respond([]tiRow{*t})
	if err != nil {
		return TaskInstanceResponse{}, err
	}
	return l[0], nil
}

func getMapped(r *Request, in *listMapped) (TaskInstanceCollectionResponse, error) {
	states, err := parseTIStates(in.State)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	known := false
	var mapped []tiRow
	for _, t := range ts {
		if string(t.TaskID) == in.TaskID {
			known = true
			if t.MapIndex >= 0 {
				mapped = append(mapped, t)
			}
		}
	}
	if len(mapped) == 0 {
		var task *airflow.Task
		if known {
			task = ts[0].view.Graph.DAG.Task(airflow.TaskID(in.TaskID))
		}
		if task == nil {
			return TaskInstanceCollectionResponse{}, r.noTI()
		}
		if !task.NeedsExpansion && !task.IsMapped {
			return TaskInstanceCollectionResponse{}, NotFound("Task id %s is not mapped", in.TaskID)
		}
	}
	if err := r.fill(r.Context(), mapped); err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	return r.tiPage(in.query(in.Ordering), All(func(context.Context) ([]tiRow, error) { return mapped, nil }), in.keep(states))
}

// history are the tries of an instance, oldest first: those that are over, and
// the present one unless it has not begun.
func (r *Request) history(t *tiRow) ([]TaskInstanceHistoryResponse, error) {
	ctx := r.Context()
	one := []tiRow{*t}
	if err := r.fill(ctx, one); err != nil {
		return nil, err
	}
	t = &one[0]
	old, err := r.API.Store.ListTries(ctx, t.TaskInstanceKey)
	if err != nil {
		return nil, err
	}
	ms := r.models()
	var out []TaskInstanceHistoryResponse
	add := func(x tiRow) error {
		v, err := ms.taskInstance(&x, "")
		if err != nil {
			return err
		}
		out = append(out, v.TaskInstanceHistoryResponse)
		return nil
	}
	past := func(a store.Attempt) error {
		x := *t
		x.row, x.TryNumber = &a, a.TryNumber
		x.ScheduledWhen, x.QueuedWhen, x.StartDate, x.EndDate, x.Duration, x.Hostname, x.PID = nil, nil, a.FirstStart, a.EndDate, nil, a.Hostname, a.PID
		for at, n := range map[**time.Time]int64{&x.ScheduledWhen: a.Scheduled, &x.QueuedWhen: a.Queued} {
			if n != 0 {
				*at = ptrTo(scheduler.Micros(n).Time())
			}
		}
		if x.StartDate != nil && x.EndDate != nil {
			x.Duration = ptrTo(x.EndDate.Sub(*x.StartDate).Seconds())
		}
		x.State = outcomeOf(a)
		return add(x)
	}
	for _, a := range old {
		if a.TryNumber < t.TryNumber {
			if err := past(a); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case t.row != nil && t.row.TryNumber < t.TryNumber: // the try before is archived when the present one is claimed
		if err := past(*t.row); err != nil {
			return nil, err
		}
		return out, add(*t)
	case t.row != nil && (t.State == airflow.TIUpForRetry || t.State == airflow.TINone && t.row.Status == store.AttemptDone):
		return out, past(*t.row) // over, and the next one has not begun
	case t.TryNumber > 0 || t.State.Finished():
		return out, add(*t)
	}
	return out, nil
}

// outcomeOf is the state that a try which is over ended in.
func outcomeOf(a store.Attempt) airflow.TIState {
	var rep worker.Report
	if len(a.Report) == 0 || json.Unmarshal(a.Report, &rep) != nil {
		return airflow.TIFailed // it ended without a report
	}
	if s := rep.Outcome.State(false); s != airflow.TINone {
		return s
	}
	return airflow.TIFailed
}

func (r *Request) tries(mapIndex int) (TaskInstanceHistoryCollectionResponse, error) {
	out := TaskInstanceHistoryCollectionResponse{TaskInstances: []TaskInstanceHistoryResponse{}}
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return out, err
	}
	t := find(ts, r.path["task_id"], mapIndex)
	if t == nil {
		return out, NotFound("The Task Instance with dag_id: `%s`, run_id: `%s`, task_id: `%s` and map_index: `%d` was not found", r.path["dag_id"], r.path["dag_run_id"], r.path["task_id"], mapIndex)
	}
	if out.TaskInstances, err = r.history(t); err != nil {
		return out, err
	}
	out.TaskInstances = orEmpty(out.TaskInstances)
	out.Total = len(out.TaskInstances)
	return out, nil
}

func (r *Request) oneTry(mapIndex, try int) (TaskInstanceHistoryResponse, error) {
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return TaskInstanceHistoryResponse{}, err
	}
	if t := find(ts, r.path["task_id"], mapIndex); t != nil {
		l, err := r.history(t)
		if err != nil {
			return TaskInstanceHistoryResponse{}, err
		}
		for _, h := range l {
			if h.TryNumber == try {
				return h, nil
			}
		}
	}
	return TaskInstanceHistoryResponse{}, NotFound("The Task Instance with dag_id: `%s`, run_id: `%s`, task_id: `%s`, try_number: `%d` and map_index: `%d` was not found", r.path["dag_id"], r.path["dag_run_id"], r.path["task_id"], try, mapIndex)
}

// dependencyNames are Airflow's names of what the scheduler's reasons stand for.
var dependencyNames = map[scheduler.Code]string{
	scheduler.CodeUpstream: "Trigger Rule", scheduler.CodeUpstreamAbsent: "Trigger Rule", scheduler.CodeStuck: "Trigger Rule", scheduler.CodeSetupNotDone: "Trigger Rule",
	scheduler.CodeExpansionUnsolved: "Mapped dependencies have succeeded", scheduler.CodePast: "Previous Dagrun State", scheduler.CodeRetryDelay: "Not In Retry Period",
	scheduler.CodeReschedule: "Ready To Reschedule", scheduler.CodePaused: "Dag Not Paused", scheduler.CodeRunQueued: "Dagrun Running", scheduler.CodeRunFinished: "Dagrun Running",
	scheduler.CodeFuture: "Execution Date", scheduler.CodePoolFull: "Pool Slots Available", scheduler.CodePoolMissing: "Pool Slots Available", scheduler.CodePoolTooSmall: "Pool Slots Available",
	scheduler.CodeMaxActiveTasks: "Dag's max_active_tasks limit", scheduler.CodeMaxTIsPerDag: "Task Concurrency", scheduler.CodeMaxTIsPerDagRun: "Task Concurrency",
}

// dependencies says why an instance that has no state, or is scheduled, does not
// go on. Others depend on nothing any more.
func (r *Request) dependencies(mapIndex int) (TaskDependencyCollectionResponse, error) {
	out := TaskDependencyCollectionResponse{Dependencies: []TaskDependencyResponse{}}
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return out, err
	}
	t := find(ts, r.path["task_id"], mapIndex)
	if t == nil {
		return out, r.noTI()
	}
	if t.State != airflow.TINone && t.State != airflow.TIScheduled {
		return out, nil
	}
	if t.State == airflow.TINone {
		out.Dependencies = append(out.Dependencies, TaskDependencyResponse{"Task Instance State", "Task is in the 'None' state."})
	}
	reasons, err := r.API.Engine.Explain(r.Context(), store.RunKey{DagID: t.DagID, RunID: t.RunID})
	if err != nil {
		return out, err
	}
	for _, x := range reasons {
		if x.Pos != -1 && x.Key != t.TaskInstanceKey || x.Code == scheduler.CodeDepsMet {
			continue
		}
		name, ok := dependencyNames[x.Code]
		if !ok {
			name = "Scheduler"
		}
		d := TaskDependencyResponse{name, x.Text}
		if !slices.ContainsFunc(out.Dependencies, func(o TaskDependencyResponse) bool { return o.Name == d.Name }) {
			out.Dependencies = append(out.Dependencies, d)
		}
	}
	sort.SliceStable(out.Dependencies, func(i, j int) bool { return out.Dependencies[i].Name < out.Dependencies[j].Name })
	return out, nil
}

type linksQuery struct {
	tiAt
	TryNumber *int `query:"try_number"`
}

// getLinks are the operator's links: those that a try has left as XComs.
func getLinks(r *Request, in *linksQuery) (ExtraLinkCollectionResponse, error) {
	out := ExtraLinkCollectionResponse{ExtraLinks: map[string]*string{}}
	t, err := r.mustTI(in.MapIndex)
	if err != nil {
		return out, err
	}
	xs, err := r.API.Store.ListXComs(r.Context(), t.TaskInstanceKey)
	if err != nil {
		return out, err
	}
	for _, x := range xs {
		if name, ok := strings.CutPrefix(x.Key, "_link_"); ok {
			var url string
			if json.Unmarshal(x.Value, &url) == nil && safeLink(url) {
				out.ExtraLinks[strings.TrimSuffix(name, "Link")] = &url
			}
		}
	}
	out.Total = len(out.ExtraLinks)
	return out, nil
}

// safeLink reports whether a link may be offered to click on.
func safeLink(s string) bool {
	l := strings.ToLower(strings.TrimSpace(s))
	return strings.HasPrefix(l, "https://") || strings.HasPrefix(l, "http://") || strings.HasPrefix(l, "/") && !strings.HasPrefix(l, "//")
}

// shownIndex is the rendered map index, or the index itself.
func (t tiRow) shownIndex() string {
	if t.row != nil && t.row.RenderedMapIndex != "" {
		return t.row.RenderedMapIndex
	}
	return orText(t.RenderedMapIndex, strconv.Itoa(t.MapIndex))
}
