package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"

	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

// DAGRunResponse is a run.
type DAGRunResponse struct {
	DagRunID               string               `json:"dag_run_id"`
	DagID                  string               `json:"dag_id"`
	LogicalDate            *Time                `json:"logical_date"`
	QueuedAt               *Time                `json:"queued_at"`
	StartDate              *Time                `json:"start_date"`
	EndDate                *Time                `json:"end_date"`
	Duration               *float64             `json:"duration"`
	DataIntervalStart      *Time                `json:"data_interval_start"`
	DataIntervalEnd        *Time                `json:"data_interval_end"`
	RunAfter               Time                 `json:"run_after"`
	LastSchedulingDecision *Time                `json:"last_scheduling_decision"`
	RunType                string               `json:"run_type"`
	State                  string               `json:"state"`
	TriggeredBy            *string              `json:"triggered_by"`
	TriggeringUserName     *string              `json:"triggering_user_name"`
	Conf                   json.RawMessage      `json:"conf"`
	Note                   *string              `json:"note"`
	DagVersions            []DagVersionResponse `json:"dag_versions"`
	BundleVersion          *string              `json:"bundle_version"`
	DagDisplayName         string               `json:"dag_display_name"`
	PartitionKey           *string              `json:"partition_key"`
	PartitionDate          *Time                `json:"partition_date"`
}

// DAGRunCollectionResponse is a list of runs.
type DAGRunCollectionResponse struct {
	DagRuns    []DAGRunResponse `json:"dag_runs"`
	Total      int              `json:"total_entries"`
	TotalLimit *int             `json:"total_entries_limit"`
	Next       *string          `json:"next_cursor"`
	Previous   *string          `json:"previous_cursor"`
}

// DAGRunPatchBody is what may be changed of a run.
type DAGRunPatchBody struct {
	Closed
	State Opt[string] `json:"state" enum:"queued,success,failed"`
	Note  Opt[string] `json:"note" maxlen:"1000"`
}

// DAGRunsBatchBody filters runs.
type DAGRunsBatchBody struct {
	Closed
	RunAfterRange
	LogicalDateRange
	StartDateRange
	EndDateRange
	DurationRange
	OrderBy      *string   `json:"order_by"`
	PageOffset   int       `json:"page_offset" default:"0" min:"0"`
	PageLimit    int       `json:"page_limit" default:"100" min:"0"`
	DagIDs       []string  `json:"dag_ids" required:"false" nullable:"true"`
	States       []*string `json:"states" required:"false" nullable:"true" enum:"queued,running,success,failed"`
	ConfContains *string   `json:"conf_contains"`
}

// TriggerDAGRunPostBody asks for a run.
type TriggerDAGRunPostBody struct {
	Closed
	DagRunID          *string    `json:"dag_run_id"`
	DataIntervalStart *Time      `json:"data_interval_start"`
	DataIntervalEnd   *Time      `json:"data_interval_end"`
	LogicalDate       *Time      `json:"logical_date" required:"true"`
	RunAfter          *Time      `json:"run_after"`
	Conf              confObject `json:"conf" required:"false" nullable:"true"`
	Note              *string    `json:"note"`
	PartitionKey      *string    `json:"partition_key"`
}

// confObject is an object as it came: the order of members and the form of
// numbers are kept.
type confObject struct{ raw json.RawMessage }

func (c *confObject) bind(raw json.RawMessage, loc []any, ps *problems) bool {
	if !isKind(raw, '{') {
		ps.add("dict_type", loc, raw, nil, "Input should be a valid dictionary")
		return false
	}
	c.raw = raw
	return true
}

func (c *confObject) schema(*describer) any {
	return obj{"type": "object", "additionalProperties": true}
}

// DagStatsCollectionResponse counts runs by state.
type DagStatsCollectionResponse struct {
	Dags  []DagStatsResponse `json:"dags"`
	Total int                `json:"total_entries"`
}

// DagStatsResponse counts the runs of one DAG.
type DagStatsResponse struct {
	DagID          string                  `json:"dag_id"`
	DagDisplayName string                  `json:"dag_display_name"`
	Stats          []DagStatsStateResponse `json:"stats"`
}

// DagStatsStateResponse counts the runs in one state.
type DagStatsStateResponse struct {
	State string `json:"state"`
	Count int    `json:"count"`
}

type runPath struct {
	DagID string `path:"dag_id"`
	RunID string `path:"dag_run_id"`
}

type listRuns struct {
	CursorPaging
	Ordering
	RunAfterRange
	LogicalDateRange
	StartDateRange
	EndDateRange
	DurationRange
	UpdatedAtRange
	DagID               string   `path:"dag_id"`
	PartitionDateGte    *string  `query:"partition_date_gte" pattern:"^\\d{4}-\\d{2}-\\d{2}$"`
	PartitionDateLte    *string  `query:"partition_date_lte" pattern:"^\\d{4}-\\d{2}-\\d{2}$"`
	ConfContains        *string  `query:"conf_contains"`
	RunType             []string `query:"run_type"`
	State               []string `query:"state"`
	DagVersion          []int    `query:"dag_version"`
	BundleVersion       *string  `query:"bundle_version"`
	RunIDPattern        *string  `query:"run_id_pattern"`
	RunIDPrefix         *string  `query:"run_id_prefix_pattern"`
	UserPattern         *string  `query:"triggering_user_name_pattern"`
	UserPrefix          *string  `query:"triggering_user_name_prefix_pattern"`
	DagIDPattern        *string  `query:"dag_id_pattern"`
	DagIDPrefix         *string  `query:"dag_id_prefix_pattern"`
	PartitionKeyPattern *string  `query:"partition_key_pattern"`
	PartitionKeyPrefix  *string  `query:"partition_key_prefix_pattern"`
	ConsumingAsset      *string  `query:"consuming_asset_pattern"`
}

type batchRuns struct {
	DagID string `path:"dag_id"`
	Body  DAGRunsBatchBody
}

type triggerRun struct {
	DagID string `path:"dag_id"`
	Body  TriggerDAGRunPostBody
}

type patchRun struct {
	runPath
	UpdateMask []string `query:"update_mask"`
	Body       DAGRunPatchBody
}

type listStats struct {
	DagIDs []string `query:"dag_ids"`
}

var dagRunTypes = []string{"backfill", "scheduled", "manual", "operator_triggered", "asset_triggered", "asset_materialization"}

func registerRuns(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + path, ID: id, Tag: "DagRun", Summary: summary, Action: act, Resource: auth.ResourceDagRun}
	}
	const one = "/dags/{dag_id}/dagRuns/{dag_run_id}"
	list := op("GET", "/dags/{dag_id}/dagRuns", "get_dag_runs", "Get Dag Runs", auth.Read)
	list.Indexed = []string{"dag_id", "run_after", "state=queued,running", "order_by=run_after"}
	Handle(a, list, getRuns)
	batch := op("POST", "/dags/{dag_id}/dagRuns/list", "get_list_dag_runs_batch", "Get List Dag Runs Batch", auth.Read)
	batch.Event = "-"
	Handle(a, batch, getRunsBatch)
	Handle(a, op("POST", "/dags/{dag_id}/dagRuns", "trigger_dag_run", "Trigger Dag Run", auth.Create), postRun)
	Handle(a, op("GET", one, "get_dag_run", "Get Dag Run", auth.Read), func(r *Request, _ *runPath) (DAGRunResponse, error) {
		run, err := r.mustRun()
		if err != nil {
			return DAGRunResponse{}, err
		}
		return r.models().run(run)
	})
	Handle(a, op("PATCH", one, "patch_dag_run", "Patch Dag Run", auth.Edit), patchOneRun)
	Handle(a, op("DELETE", one, "delete_dag_run", "Delete Dag Run", auth.Delete), deleteOneRun)
	Handle(a, Op{Method: "GET", Path: Base + "/dagStats", ID: "get_dag_stats", Tag: "DagStats", Summary: "Get Dag Stats", Action: auth.Read, Resource: auth.ResourceDagStats}, getStats)
}

// mustRun returns the run of the path, or 404.
func (r *Request) mustRun() (airflow.DagRun, error) {
	run, err := r.API.Store.GetRun(r.Context(), store.RunKey{DagID: airflow.DagID(r.path["dag_id"]), RunID: airflow.RunID(r.path["dag_run_id"])})
	if errors.Is(err, airflow.ErrNotFound) {
		return run, NotFound("The DagRun with dag_id: `%s` and run_id: `%s` was not found", r.path["dag_id"], r.path["dag_run_id"])
	}
	return run, err
}

// run is a run as it is answered.
func (ms *models) run(run airflow.DagRun) (DAGRunResponse, error) {
	m, err := ms.dag(run.DagID)
	if err != nil {
		return DAGRunResponse{}, err
	}
	out := DAGRunResponse{
		DagRunID: string(run.RunID), DagID: string(run.DagID), LogicalDate: AtPtr(run.LogicalDate), QueuedAt: AtPtr(run.QueuedAt), StartDate: AtPtr(run.StartDate),
		EndDate: AtPtr(run.EndDate), Duration: duration(run), DataIntervalStart: AtPtr(run.DataIntervalStart), DataIntervalEnd: AtPtr(run.DataIntervalEnd), RunAfter: At(run.RunAfter),
		LastSchedulingDecision: AtPtr(run.LastSchedulingDecision), RunType: string(run.RunType), State: string(run.State), TriggeredBy: orNil(string(run.TriggeredBy)),
		TriggeringUserName: orNil(run.TriggeringUserName), Conf: run.Conf, Note: orNil(run.Note), DagVersions: []DagVersionResponse{}, DagDisplayName: displayName(m),
	}
	if len(out.Conf) == 0 || isNull(out.Conf) {
		out.Conf = json.RawMessage("{}")
	}
	v, err := ms.version(run.DagID, run.DagVersion)
	if v != nil {
		out.DagVersions = append(out.DagVersions, *v)
	}
	return out, err
}

// duration is how long a run took, in seconds; nil before its end.
func duration(run airflow.DagRun) *float64 {
	if run.StartDate == nil || run.EndDate == nil {
		return nil
	}
	return ptrTo(run.EndDate.Sub(*run.StartDate).Seconds())
}

// updatedAt is the last change of a run that is known.
func updatedAt(run airflow.DagRun) *time.Time {
	latest := run.QueuedAt
	for _, t := range []*time.Time{run.StartDate, run.EndDate, run.LastSchedulingDecision} {
		if t != nil && (latest == nil || t.After(*latest)) {
			latest = t
		}
	}
	return latest
}

func runOrders() Orders[airflow.DagRun] {
	id := func(r airflow.DagRun) SortKey { return ByText(string(r.RunID)) }
	return Orders[airflow.DagRun]{
		By: map[string]func(airflow.DagRun) SortKey{
			"id": created, "state": func(r airflow.DagRun) SortKey { return ByText(string(r.State)) },
			"dag_id": func(r airflow.DagRun) SortKey { return ByText(string(r.DagID)) }, "run_id": id, "dag_run_id": id,
			"logical_date":   func(r airflow.DagRun) SortKey { return ByTime(r.LogicalDate) },
			"partition_date": func(airflow.DagRun) SortKey { return SortKey{Null: true} },
			"run_after":      func(r airflow.DagRun) SortKey { return ByTime(&r.RunAfter) },
			"start_date":     func(r airflow.DagRun) SortKey { return ByTime(r.StartDate) },
			"end_date":       func(r airflow.DagRun) SortKey { return ByTime(r.EndDate) },
			"updated_at":     func(r airflow.DagRun) SortKey { return ByTime(updatedAt(r)) },
			"conf":           func(r airflow.DagRun) SortKey { return ByText(string(r.Conf)) },
			"duration":       func(r airflow.DagRun) SortKey { return ByFloat(duration(r)) },
		},
		Default: []string{"id"},
		ID:      func(r airflow.DagRun) SortKey { return ByText(string(r.RunID) + "\x00" + string(r.DagID)) },
	}
}

// created orders runs by run_after: that is the order of the index. Airflow's
// numbers grow with every run that is made, which is the same but for runs of
// dates gone by.
func created(r airflow.DagRun) SortKey { return ByTime(&r.RunAfter) }

// runFilter is what lists of runs filter by, whether of a query or a body.
type runFilter struct {
	dags                                               []string
	states, types                                      []string
	runAfter, logicalDate, startDate, endDate, updated TimeRange
	duration                                           DurationRange
	confContains                                       *string
}

func (f runFilter) keep(run airflow.DagRun) bool {
	return oneIn(f.states, string(run.State)) && oneIn(f.types, string(run.RunType)) && oneIn(f.dags, string(run.DagID)) &&
		f.runAfter.OK(&run.RunAfter) && f.logicalDate.OK(run.LogicalDate) && f.startDate.OK(run.StartDate) && f.endDate.OK(run.EndDate) &&
		f.updated.OK(updatedAt(run)) && f.duration.OK(duration(run)) &&
		(f.confContains == nil || strings.Contains(strings.ToLower(PythonJSON(confOr(run))), strings.ToLower(*f.confContains)))
}

func confOr(run airflow.DagRun) json.RawMessage {
	if len(run.Conf) == 0 || isNull(run.Conf) {
		return json.RawMessage("{}")
	}
	return run.Conf
}

// window chooses the access path: the unfinished runs, where only such states are
// asked for; else the runs of each DAG by run_after, within the bounds given.
func (f runFilter) window(r *Request, dag airflow.DagID, newestFirst bool) Window[airflow.DagRun] {
	a := r.API
	if len(f.states) > 0 && !slices.ContainsFunc(f.states, func(s string) bool { return airflow.DagRunState(s).Finished() }) {
		return All(func(ctx context.Context) ([]airflow.DagRun, error) {
			runs, err := a.Store.ListActiveRuns(ctx, dag)
			if err != nil || r.Who.Unlimited() {
				return runs, err
			}
			return r.visibleRuns(runs)
		})
	}
	o := f.bounds()
	o.Descending = newestFirst
	return f.dagWindow(r, dag, o)
}

// bounds are those of the index of a DAG's runs.
func (f runFilter) bounds() (o store.ListOptions) {
	for _, t := range []*Time{f.runAfter.Gte, f.runAfter.Gt} {
		if t != nil {
			o.From = max(o.From, store.RunsFrom(t.Time))
		}
	}
	for _, t := range []*Time{f.runAfter.Lte, f.runAfter.Lt} {
		if t != nil && (o.To == "" || store.RunsUntil(t.Time) < o.To) {
			o.To = store.RunsUntil(t.Time)
		}
	}
	return o
}

// dagWindow reads the runs of one DAG, of those of a filter, or of all.
func (f runFilter) dagWindow(r *Request, dag airflow.DagID, o store.ListOptions) Window[airflow.DagRun] {
	a := r.API
	return func(ctx context.Context, cursor string, limit int) ([]airflow.DagRun, string, error) {
		var dags []airflow.DagID
		switch {
		case dag != "":
			dags = []airflow.DagID{dag}
		case len(f.dags) > 0:
			for _, id := range f.dags {
				m, err := a.Store.GetDag(ctx, airflow.DagID(id))
				if errors.Is(err, airflow.ErrNotFound) {
					continue
				}
				if err != nil {
					return nil, "", err
				}
				if r.May(m) {
					dags = append(dags, m.DagID)
				}
			}
		default:
			ms, err := r.readableDags(ctx)
			if err != nil {
				return nil, "", err
			}
			for _, m := range ms {
				dags = append(dags, m.DagID)
			}
		}
		slices.Sort(dags)
		return readRuns(ctx, a.Store, slices.Compact(dags), o, cursor, limit)
	}
}

// readRuns reads the runs of DAGs, one DAG after the other; the cursor names the
// DAG and the place within its runs.
func readRuns(ctx context.Context, st *store.Store, dags []airflow.DagID, o store.ListOptions, cursor string, limit int) (out []airflow.DagRun, next string, err error) {
	from, within, _ := strings.Cut(cursor, "\n")
	for _, d := range dags {
		if string(d) < from {
			continue
		}
		o.Cursor = ""
		if string(d) == from {
			o.Cursor = within
		}
		for {
			if len(out) >= limit {
				return out, string(d) + "\n" + o.Cursor, nil
			}
			o.Limit = limit - len(out)
			runs, more, err := st.ListRuns(ctx, d, o)
			if err != nil {
				return nil, "", err
			}
			out = append(out, runs...)
			if o.Cursor = more; more == "" {
				break
			}
		}
	}
	return out, "", nil
}

// visibleRuns leaves out the runs of DAGs that who asks may not see.
func (r *Request) visibleRuns(runs []airflow.DagRun) ([]airflow.DagRun, error) {
	ms := r.models()
	out := runs[:0]
	for _, run := range runs {
		m, err := ms.dag(run.DagID)
		if err != nil {
			return nil, err
		}
		if r.May(m) {
			out = append(out, run)
		}
	}
	return out, nil
}

func getRuns(r *Request, in *listRuns) (DAGRunCollectionResponse, error) {
	for _, s := range in.State {
		if !contains(dagRunStates, s) {
			return DAGRunCollectionResponse{}, badState("state", dagRunStates)
		}
	}
	for _, s := range in.RunType {
		if !contains(dagRunTypes, s) {
			return DAGRunCollectionResponse{}, badState("run type", dagRunTypes)
		}
	}
	dag := airflow.DagID(in.DagID)
	if in.DagID == "~" {
		dag = ""
	} else if _, err := r.mustDag(); err != nil {
		return DAGRunCollectionResponse{}, err
	}
	f := runFilter{
		states: in.State, types: in.RunType, runAfter: TimeRange(in.RunAfterRange), logicalDate: TimeRange(in.LogicalDateRange), startDate: TimeRange(in.StartDateRange),
		endDate: TimeRange(in.EndDateRange), updated: TimeRange(in.UpdatedAtRange), duration: in.DurationRange, confContains: in.ConfContains,
	}
	id, idPrefix := Pattern(in.RunIDPattern), Prefix(in.RunIDPrefix)
	user, userPrefix := Pattern(in.UserPattern), Prefix(in.UserPrefix)
	dagID, dagIDPrefix := Pattern(in.DagIDPattern), Prefix(in.DagIDPrefix)
	hasUser := in.UserPattern != nil && *in.UserPattern != "~" || in.UserPrefix != nil && *in.UserPrefix != "~"
	// No run of Gust has a partition or a bundle version.
	none := in.PartitionDateGte != nil || in.PartitionDateLte != nil || in.BundleVersion != nil || notAll(in.PartitionKeyPattern) || notAll(in.PartitionKeyPrefix)
	var consuming map[airflow.DagID]bool
	if in.ConsumingAsset != nil {
		var err error
		if consuming, err = r.consumersOf(*in.ConsumingAsset); err != nil {
			return DAGRunCollectionResponse{}, err
		}
	}
	if dag != "" && in.Cursor == nil && in.plain() {
		return r.indexedRuns(in, f, dag)
	}
	return r.runPage(in.query(in.Ordering), f, dag, func(run airflow.DagRun) bool {
		return !none && f.keep(run) && id(string(run.RunID)) && idPrefix(string(run.RunID)) && dagID(string(run.DagID)) && dagIDPrefix(string(run.DagID)) &&
			(!hasUser || run.TriggeringUserName != "") && user(run.TriggeringUserName) && userPrefix(run.TriggeringUserName) &&
			oneIn(in.DagVersion, run.DagVersion) && (consuming == nil || consuming[run.DagID] && run.RunType == airflow.RunTypeAssetTriggered)
	})
}

// plain reports whether the index of a DAG's runs answers the list by itself: its
// own order, and no filter but run_after.
func (in *listRuns) plain() bool {
	o := "id"
	if len(in.OrderBy) > 0 {
		o = strings.TrimPrefix(in.OrderBy[0], "-")
	}
	rest := *in
	rest.CursorPaging, rest.Ordering, rest.RunAfterRange, rest.DagID = CursorPaging{}, Ordering{}, RunAfterRange{}, ""
	return len(in.OrderBy) <= 1 && (o == "id" || o == "run_after") && in.RunAfterRange.Gt == nil && in.RunAfterRange.Lt == nil && reflect.DeepEqual(rest, listRuns{})
}

// indexedRuns answers a plain list: it counts keys and reads the page only.
func (r *Request) indexedRuns(in *listRuns, f runFilter, dag airflow.DagID) (DAGRunCollectionResponse, error) {
	o := f.bounds()
	o.Descending = len(in.OrderBy) > 0 && strings.HasPrefix(in.OrderBy[0], "-")
	limit := r.API.limit(r, in.Limit)
	p, err := r.API.Store.PageRuns(r.Context(), dag, o, in.Offset, limit, r.API.ReadLimit)
	out := DAGRunCollectionResponse{DagRuns: []DAGRunResponse{}, Total: p.Total}
	if err != nil {
		return out, err
	}
	ms := r.models()
	for _, run := range p.Runs {
		v, err := ms.run(run)
		if err != nil {
			return out, err
		}
		out.DagRuns = append(out.DagRuns, v)
	}
	if p.More {
		out.TotalLimit = ptrTo(r.API.ReadLimit)
		if n := len(p.Runs); n > 0 {
			by, err := runOrders().parse(in.OrderBy)
			if err != nil {
				return out, err
			}
			out.Next = token{Order: strings.Join(in.OrderBy, ","), Keys: by.of(p.Runs[n-1])}.text()
		}
	}
	return out, nil
}

// notAll reports whether a pattern asks for a text at all: a null has none.
func notAll(p *string) bool { return p != nil && *p != "~" }

// consumersOf are the DAGs scheduled on assets with the text, as it is, in name or uri.
func (r *Request) consumersOf(text string) (map[airflow.DagID]bool, error) {
	assets, err := r.API.Store.ListAssets(r.Context())
	out := map[airflow.DagID]bool{}
	low := strings.ToLower(text)
	for _, as := range assets {
		if strings.Contains(strings.ToLower(as.Name), low) || strings.Contains(strings.ToLower(as.URI), low) {
			for _, d := range as.ScheduledDags {
				out[d] = true
			}
		}
	}
	return out, err
}

func (r *Request) runPage(q Query, f runFilter, dag airflow.DagID, keep func(airflow.DagRun) bool) (DAGRunCollectionResponse, error) {
	newest := len(q.OrderBy) > 0 && strings.HasPrefix(q.OrderBy[0], "-")
	p, err := List(r, q, runOrders(), f.window(r, dag, newest), keep)
	if err != nil {
		return DAGRunCollectionResponse{}, err
	}
	out := DAGRunCollectionResponse{DagRuns: []DAGRunResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next, Previous: p.Prev}
	ms := r.models()
	for _, run := range p.Items {
		v, err := ms.run(run)
		if err != nil {
			return out, err
		}
		out.DagRuns = append(out.DagRuns, v)
	}
	return out, nil
}

func getRunsBatch(r *Request, in *batchRuns) (DAGRunCollectionResponse, error) {
	if in.DagID != "~" {
		return DAGRunCollectionResponse{}, Invalid(FieldError{Type: "literal_error", Loc: []any{"path", "dag_id"}, Msg: "Input should be '~'", Input: textJSON(in.DagID), Ctx: map[string]any{"expected": "'~'"}})
	}
	b := in.Body
	f := runFilter{
		dags: b.DagIDs, runAfter: TimeRange(b.RunAfterRange), logicalDate: TimeRange(b.LogicalDateRange), startDate: TimeRange(b.StartDateRange),
		endDate: TimeRange(b.EndDateRange), duration: b.DurationRange, confContains: b.ConfContains,
	}
	for _, s := range b.States {
		if s != nil {
			f.states = append(f.states, *s)
		}
	}
	q := Query{Limit: b.PageLimit, Offset: b.PageOffset}
	if b.OrderBy != nil {
		q.OrderBy = []string{*b.OrderBy}
	}
	onlyNull := len(b.States) > 0 && len(f.states) == 0 // no run has no state
	return r.runPage(q, f, "", func(run airflow.DagRun) bool { return !onlyNull && f.keep(run) })
}

func patchOneRun(r *Request, in *patchRun) (DAGRunResponse, error) {
	run, err := r.mustRun()
	if err != nil {
		return DAGRunResponse{}, err
	}
	ctx, a := r.Context(), r.API
	key := store.RunKey{DagID: run.DagID, RunID: run.RunID}
	// A name that is not known changes nothing, as in Airflow.
	masked := func(name string) bool { return len(in.UpdateMask) == 0 || contains(in.UpdateMask, name) }
	if in.Body.State.Set && masked("state") && !in.Body.State.Null {
		if _, err := a.Engine.MarkRun(ctx, key, airflow.DagRunState(in.Body.State.V), r.Who.Name); err != nil {
			return DAGRunResponse{}, err
		}
	}
	if in.Body.Note.Set && masked("note") {
		if _, err := a.Store.UpdateRun(ctx, key, func(d *airflow.DagRun) error { d.Note = in.Body.Note.V; return nil }); err != nil {
			return DAGRunResponse{}, err
		}
	}
	if run, err = r.mustRun(); err != nil {
		return DAGRunResponse{}, err
	}
	return r.models().run(run)
}

func deleteOneRun(r *Request, _ *runPath) (Empty, error) {
	run, err := r.mustRun()
	if err != nil {
		return Empty{}, err
	}
	if run.State == airflow.RunRunning {
		return Empty{}, Conflict("The DagRun with dag_id: `%s` and run_id: `%s` cannot be deleted in %s state", run.DagID, run.RunID, run.State)
	}
	return Empty{}, r.API.Engine.DeleteRun(r.Context(), store.RunKey{DagID: run.DagID, RunID: run.RunID})
}

// getStats counts the runs of DAGs by state; DAGs without runs are left out.
func getStats(r *Request, in *listStats) (DagStatsCollectionResponse, error) {
	out := DagStatsCollectionResponse{Dags: []DagStatsResponse{}}
	ctx := r.Context()
	ms, err := r.readableDags(ctx)
	if err != nil {
		return out, err
	}
	for _, m := range ms {
		if !oneIn(in.DagIDs, string(m.DagID)) {
			continue
		}
		counts := map[airflow.DagRunState]int{}
		cursor, n := "", 0
		for {
			runs, next, err := r.API.Store.ListRuns(ctx, m.DagID, store.ListOptions{Limit: 1000, Cursor: cursor, Descending: true})
			if err != nil {
				return out, err
			}
			for _, run := range runs {
				counts[run.State]++
				n++
			}
			if cursor = next; next == "" || n >= r.API.ReadLimit {
				break
			}
		}
		if n == 0 {
			continue
		}
		s := DagStatsResponse{DagID: string(m.DagID), DagDisplayName: displayName(m)}
		for _, st := range dagRunStates {
			s.Stats = append(s.Stats, DagStatsStateResponse{st, counts[airflow.DagRunState(st)]})
		}
		out.Dags = append(out.Dags, s)
	}
	out.Total = len(out.Dags)
	return out, nil
}
