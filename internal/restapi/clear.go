package restapi

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// ClearTaskInstancesBody says which instances run again.
type ClearTaskInstancesBody struct {
	Closed
	DryRun             bool         `json:"dry_run" default:"true"`
	StartDate          *Time        `json:"start_date"`
	EndDate            *Time        `json:"end_date"`
	OnlyFailed         bool         `json:"only_failed" default:"true"`
	OnlyRunning        bool         `json:"only_running" default:"false"`
	ResetDagRuns       bool         `json:"reset_dag_runs" default:"true"`
	TaskIDs            []taskChoice `json:"task_ids" required:"false" nullable:"true"`
	DagRunID           *string      `json:"dag_run_id"`
	IncludeUpstream    bool         `json:"include_upstream" default:"false"`
	IncludeDownstream  bool         `json:"include_downstream" default:"false"`
	IncludeFuture      bool         `json:"include_future" default:"false"`
	IncludePast        bool         `json:"include_past" default:"false"`
	RunOnLatestVersion *bool        `json:"run_on_latest_version"`
	PreventRunningTask bool         `json:"prevent_running_task" default:"false"`
	Note               *string      `json:"note" maxlen:"1000"`
}

// DAGRunClearBody says how a run is run again.
type DAGRunClearBody struct {
	Closed
	DryRun             bool    `json:"dry_run" default:"true"`
	OnlyFailed         bool    `json:"only_failed" default:"false"`
	OnlyNew            bool    `json:"only_new" default:"false"`
	RunOnLatestVersion *bool   `json:"run_on_latest_version"`
	Note               *string `json:"note" maxlen:"1000"`
}

// taskChoice is "task" or ["task", map_index].
type taskChoice struct {
	task     string
	mapIndex *int
}

func (c *taskChoice) bind(raw json.RawMessage, loc []any, ps *problems) bool {
	if json.Unmarshal(raw, &c.task) == nil && isKind(raw, '"') {
		return true
	}
	var pair []json.RawMessage
	if json.Unmarshal(raw, &pair) == nil && len(pair) == 2 && json.Unmarshal(pair[0], &c.task) == nil {
		var n int
		if json.Unmarshal(pair[1], &n) == nil {
			c.mapIndex = &n
			return true
		}
	}
	ps.add("string_type", append(append([]any(nil), loc...), "str"), raw, nil, "Input should be a valid string, or a list of a task id and a map index")
	return false
}

func (c *taskChoice) schema(*describer) any {
	return obj{"anyOf": []any{obj{"type": "string"}, obj{"type": "array", "prefixItems": []any{obj{"type": "string"}, obj{"type": "integer"}}, "minItems": 2, "maxItems": 2}}}
}

type clearTIs struct {
	DagID string `path:"dag_id"`
	Body  ClearTaskInstancesBody
}

type clearRun struct {
	runPath
	Body DAGRunClearBody
}

func registerClear(a *API) {
	Handle(a, Op{Method: "POST", Path: Base + "/dags/{dag_id}/clearTaskInstances", ID: "post_clear_task_instances", Tag: "Task Instance", Summary: "Post Clear Task Instances", Action: auth.Edit, Resource: auth.ResourceTaskInstance}, clearTaskInstances)
	Handle(a, Op{Method: "POST", Path: Base + "/dags/{dag_id}/dagRuns/{dag_run_id}/clear", ID: "clear_dag_run", Tag: "DagRun", Summary: "Clear Dag Run", Action: auth.Edit, Resource: auth.ResourceDagRun,
		Answers: []any{TaskInstanceCollectionResponse{}, DAGRunResponse{}}}, clearOneRun)
}

func bodyError(r *Request, text string) error {
	return Invalid(FieldError{Type: "value_error", Loc: []any{"body"}, Msg: "Value error, " + text, Input: r.RawBody, Ctx: map[string]any{"error": map[string]any{}}})
}

func (b *ClearTaskInstancesBody) check(r *Request) error {
	switch {
	case b.OnlyFailed && b.OnlyRunning:
		return bodyError(r, "only_failed and only_running both are set to True")
	case b.StartDate != nil && b.EndDate != nil && b.EndDate.Before(b.StartDate.Time):
		return bodyError(r, "end_date is sooner than start_date")
	case b.DagRunID != nil && (b.StartDate != nil || b.EndDate != nil):
		return bodyError(r, "Exactly one of dag_run_id or (start_date and end_date) must be provided")
	case b.DagRunID == nil && (b.IncludeFuture || b.IncludePast):
		return bodyError(r, "dag_run_id is required when include_past or include_future is set to True")
	case b.TaskIDs != nil && len(b.TaskIDs) == 0:
		return bodyError(r, "task_ids list should have at least 1 element.")
	}
	return nil
}

// clearTaskInstances clears instances of one run, of its neighbours too, or of
// the runs whose logical dates are in a range. Unknown tasks are none.
func clearTaskInstances(r *Request, in *clearTIs) (TaskInstanceCollectionResponse, error) {
	var out TaskInstanceCollectionResponse
	b := &in.Body
	if err := b.check(r); err != nil {
		return out, err
	}
	m, err := r.mustDag()
	if err != nil {
		return out, err
	}
	var runs []airflow.DagRun
	if b.DagRunID != nil {
		run, err := r.API.Store.GetRun(r.Context(), store.RunKey{DagID: m.DagID, RunID: airflow.RunID(*b.DagRunID)})
		if errors.Is(err, airflow.ErrNotFound) {
			return out, NotFound("Dag Run id %s not found in dag %s", *b.DagRunID, m.DagID)
		}
		if err != nil {
			return out, err
		}
		if runs, err = r.neighbours(run, b.IncludePast, b.IncludeFuture); err != nil {
			return out, err
		}
	} else if runs, err = r.runsBetween(m.DagID, TimeRange{Gte: b.StartDate, Lte: b.EndDate}); err != nil {
		return out, err
	}
	o := scheduler.ClearOptions{OnlyFailed: b.OnlyFailed, OnlyRunning: b.OnlyRunning, ResetDagRun: b.ResetDagRuns, PreventRunning: b.PreventRunningTask}
	o.Upstream, o.Downstream = b.IncludeUpstream, b.IncludeDownstream
	var cleared []tiRow
	for _, run := range runs {
		ts, err := r.clearOf(run, o, b.TaskIDs, engine.ClearRequest{DryRun: b.DryRun, LatestVersion: latest(b.RunOnLatestVersion), User: r.Who.Name})
		if err != nil {
			return out, err
		}
		cleared = append(cleared, ts...)
	}
	if !b.DryRun && b.Note != nil {
		for _, t := range cleared {
			if err := r.API.Store.PutTaskNote(r.Context(), t.TaskInstanceKey, *b.Note, r.Who.Name); err != nil {
				return out, err
			}
		}
	}
	return r.collection(cleared)
}

func latest(b *bool) bool { return b != nil && *b }

// collection answers with these instances, by id.
func (r *Request) collection(ts []tiRow) (TaskInstanceCollectionResponse, error) {
	sortRows(ts)
	l, err := r.respond(ts)
	return TaskInstanceCollectionResponse{TaskInstances: l, Total: len(ts)}, err
}

// clearOf clears instances of one run and returns them: as they are for a dry
// run, as they become otherwise. What runs again at once does not show.
func (r *Request) clearOf(run airflow.DagRun, o scheduler.ClearOptions, tasks []taskChoice, q engine.ClearRequest) ([]tiRow, error) {
	ts, err := r.viewRows(r.Context(), run)
	if err != nil || len(ts) == 0 {
		return nil, err
	}
	v := ts[0].view
	if tasks != nil {
		if o.Tasks = selection(v.Graph, tasks); len(o.Tasks) == 0 {
			return nil, nil
		}
	}
	if err := r.fill(r.Context(), ts); err != nil {
		return nil, err
	}
	positions, err := v.Clear(o, r.API.now())
	if errors.Is(err, airflow.ErrNotAllowed) {
		return nil, Conflict("%v", err)
	}
	if err != nil {
		return nil, err
	}
	var out []tiRow
	for _, p := range positions {
		t := ts[p]
		if !q.DryRun {
			before := t.TaskInstance
			t.TaskInstance = instance(v, p, t.row)
			t.ScheduledWhen, t.QueuedWhen, t.StartDate, t.EndDate, t.Duration = before.ScheduledWhen, before.QueuedWhen, before.StartDate, before.EndDate, before.Duration
		}
		out = append(out, t)
	}
	if q.DryRun || len(out) == 0 && !q.LatestVersion {
		return out, nil
	}
	q.ClearOptions = o
	if _, err := r.API.Engine.Clear(r.Context(), store.RunKey{DagID: run.DagID, RunID: run.RunID}, q); err != nil {
		if errors.Is(err, airflow.ErrNotAllowed) {
			return nil, Conflict("%v", err)
		}
		return nil, err
	}
	return out, nil
}

// selection are the chosen tasks that the DAG version has.
func selection(g *scheduler.Graph, tasks []taskChoice) []scheduler.TaskSelection {
	var out []scheduler.TaskSelection
	at := map[string]int{}
	for _, c := range tasks {
		if g.TaskIndex(airflow.TaskID(c.task)) < 0 {
			continue
		}
		i, ok := at[c.task]
		if !ok {
			i = len(out)
			at[c.task] = i
			out = append(out, scheduler.TaskSelection{TaskID: airflow.TaskID(c.task)})
			if c.mapIndex != nil {
				out[i].MapIndexes = []int{*c.mapIndex}
			}
			continue
		}
		if c.mapIndex == nil || out[i].MapIndexes == nil {
			out[i].MapIndexes = nil
		} else {
			out[i].MapIndexes = append(out[i].MapIndexes, *c.mapIndex)
		}
	}
	return out
}

// neighbours are a run and, where asked for, those of its DAG with earlier or
// later logical dates.
func (r *Request) neighbours(run airflow.DagRun, past, future bool) ([]airflow.DagRun, error) {
	if !past && !future || run.LogicalDate == nil {
		return []airflow.DagRun{run}, nil
	}
	var d TimeRange
	at := At(*run.LogicalDate)
	if !past {
		d.Gte = &at
	}
	if !future {
		d.Lte = &at
	}
	return r.runsBetween(run.DagID, d)
}

// runsBetween are the runs of a DAG with logical dates in a range, oldest first.
// Without a range they are all runs.
func (r *Request) runsBetween(dag airflow.DagID, d TimeRange) (out []airflow.DagRun, err error) {
	cursor := ""
	for {
		runs, next, err := r.API.Store.ListRuns(r.Context(), dag, store.ListOptions{Limit: 500, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			if d.OK(run.LogicalDate) {
				out = append(out, run)
			}
		}
		if len(out) > r.API.ReadLimit {
			return nil, BadRequest("More than %d runs are in the range: choose a smaller one", r.API.ReadLimit)
		}
		if cursor = next; next == "" {
			return out, nil
		}
	}
}

func clearOneRun(r *Request, in *clearRun) (any, error) {
	run, err := r.mustRun()
	if err != nil {
		return nil, err
	}
	b := in.Body
	if b.OnlyNew {
		return nil, BadRequest("only_new is not supported: a clear with run_on_latest_version adds the tasks that are new")
	}
	o := scheduler.ClearOptions{OnlyFailed: b.OnlyFailed, ResetDagRun: true}
	ts, err := r.clearOf(run, o, nil, engine.ClearRequest{DryRun: b.DryRun, LatestVersion: latest(b.RunOnLatestVersion), User: r.Who.Name})
	if err != nil {
		return nil, err
	}
	if b.DryRun {
		return r.collection(ts)
	}
	if b.Note != nil {
		if _, err := r.API.Store.UpdateRun(r.Context(), store.RunKey{DagID: run.DagID, RunID: run.RunID}, func(d *airflow.DagRun) error { d.Note = *b.Note; return nil }); err != nil {
			return nil, err
		}
	}
	if run, err = r.mustRun(); err != nil {
		return nil, err
	}
	if len(ts) > 0 { // as it was queued: it may have started since
		run.State, run.StartDate, run.EndDate, run.LastSchedulingDecision = airflow.RunQueued, nil, nil, nil
	}
	return r.models().run(run)
}

func sortRows(ts []tiRow) {
	by := ordered[tiRow]{keys: []func(tiRow) SortKey{tiRow.idKey}, desc: []bool{false}}
	slices.SortStableFunc(ts, func(a, b tiRow) int { return by.compare(by.of(a), by.of(b)) })
}
