package restapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/timetable"
	"github.com/gustflow/gust/internal/worker/serde"
)

// DagTagResponse is a tag of a DAG.
type DagTagResponse struct {
	Name           string `json:"name"`
	DagID          string `json:"dag_id"`
	DagDisplayName string `json:"dag_display_name"`
}

// DAGResponse is a DAG in lists.
type DAGResponse struct {
	DagID                       string           `json:"dag_id"`
	DagDisplayName              string           `json:"dag_display_name"`
	IsPaused                    bool             `json:"is_paused"`
	IsStale                     bool             `json:"is_stale"`
	LastParsedTime              *Time            `json:"last_parsed_time"`
	LastParseDuration           *float64         `json:"last_parse_duration"`
	LastExpired                 *Time            `json:"last_expired"`
	BundleName                  *string          `json:"bundle_name"`
	BundleVersion               *string          `json:"bundle_version"`
	RelativeFileloc             *string          `json:"relative_fileloc"`
	Fileloc                     string           `json:"fileloc"`
	Description                 *string          `json:"description"`
	TimetableSummary            *string          `json:"timetable_summary"`
	TimetableDescription        *string          `json:"timetable_description"`
	TimetablePartitioned        bool             `json:"timetable_partitioned"`
	TimetablePeriodic           bool             `json:"timetable_periodic"`
	Tags                        []DagTagResponse `json:"tags"`
	MaxActiveTasks              int              `json:"max_active_tasks"`
	MaxActiveRuns               *int             `json:"max_active_runs"`
	MaxConsecutiveFailedDagRuns int              `json:"max_consecutive_failed_dag_runs"`
	HasTaskConcurrencyLimits    bool             `json:"has_task_concurrency_limits"`
	HasImportErrors             bool             `json:"has_import_errors"`
	NextDagrunLogicalDate       *Time            `json:"next_dagrun_logical_date"`
	NextDagrunIntervalStart     *Time            `json:"next_dagrun_data_interval_start"`
	NextDagrunIntervalEnd       *Time            `json:"next_dagrun_data_interval_end"`
	NextDagrunRunAfter          *Time            `json:"next_dagrun_run_after"`
	AllowedRunTypes             *[]string        `json:"allowed_run_types"`
	Owners                      []string         `json:"owners"`
	IsBackfillable              bool             `json:"is_backfillable"`
	FileToken                   string           `json:"file_token"`
}

// DAGDetailsResponse is a DAG with what its document says.
type DAGDetailsResponse struct {
	DAGResponse
	Catchup                   bool                     `json:"catchup"`
	DagRunTimeout             *string                  `json:"dag_run_timeout"`
	AssetExpression           json.RawMessage          `json:"asset_expression"`
	DocMD                     *string                  `json:"doc_md"`
	StartDate                 *Time                    `json:"start_date"`
	EndDate                   *Time                    `json:"end_date"`
	IsPausedUponCreation      *bool                    `json:"is_paused_upon_creation"`
	Params                    map[string]ParamResponse `json:"params"`
	RenderTemplateAsNativeObj bool                     `json:"render_template_as_native_obj"`
	TemplateSearchPath        *[]string                `json:"template_search_path"`
	Timezone                  *string                  `json:"timezone"`
	LastParsed                *Time                    `json:"last_parsed"`
	DefaultArgs               json.RawMessage          `json:"default_args"`
	RerunWithLatestVersion    *bool                    `json:"rerun_with_latest_version"`
	OwnerLinks                map[string]string        `json:"owner_links"`
	IsFavorite                bool                     `json:"is_favorite"`
	ActiveRunsCount           int                      `json:"active_runs_count"`
	Concurrency               int                      `json:"concurrency"`
	LatestDagVersion          *DagVersionResponse      `json:"latest_dag_version"`
}

// ParamResponse is one of a DAG's or task's params.
type ParamResponse struct {
	Value       json.RawMessage `json:"value"`
	Schema      json.RawMessage `json:"schema"`
	Description *string         `json:"description"`
	Source      *string         `json:"source"`
}

// DAGCollectionResponse is a list of DAGs.
type DAGCollectionResponse struct {
	Dags  []DAGResponse `json:"dags"`
	Total int           `json:"total_entries"`
	// TotalLimit and Next are there for installations with more DAGs than a list reads.
	TotalLimit *int    `json:"total_entries_limit,omitempty"`
	Next       *string `json:"next_cursor,omitempty"`
}

// DAGPatchBody is what may be changed of a DAG.
type DAGPatchBody struct {
	Closed
	IsPaused bool `json:"is_paused"`
}

// DAGTagCollectionResponse is a list of tags.
type DAGTagCollectionResponse struct {
	Tags  []string `json:"tags"`
	Total int      `json:"total_entries"`
}

type dagPath struct {
	DagID string `path:"dag_id"`
}

// dagFilters are those that listing and patching share.
type dagFilters struct {
	Tags          []string `query:"tags"`
	TagsMatchMode *string  `query:"tags_match_mode" literal:"any,all"`
	Owners        []string `query:"owners"`
	DagID         *string  `query:"dag_id_pattern"`
	DagIDPrefix   *string  `query:"dag_id_prefix_pattern"`
	ExcludeStale  bool     `query:"exclude_stale" default:"true"`
	Paused        *bool    `query:"paused"`
}

type (
	dagRunStartRange struct {
		Gte *Time `query:"dag_run_start_date_gte"`
		Gt  *Time `query:"dag_run_start_date_gt"`
		Lte *Time `query:"dag_run_start_date_lte"`
		Lt  *Time `query:"dag_run_start_date_lt"`
	}
	dagRunEndRange struct {
		Gte *Time `query:"dag_run_end_date_gte"`
		Gt  *Time `query:"dag_run_end_date_gt"`
		Lte *Time `query:"dag_run_end_date_lte"`
		Lt  *Time `query:"dag_run_end_date_lt"`
	}
)

type listDags struct {
	CursorPaging
	Ordering
	dagFilters
	dagRunStartRange
	dagRunEndRange
	DisplayName       *string  `query:"dag_display_name_pattern"`
	DisplayNamePrefix *string  `query:"dag_display_name_prefix_pattern"`
	HasImportErrors   *bool    `query:"has_import_errors"`
	LastDagRunState   *string  `query:"last_dag_run_state" enum:"queued,running,success,failed"`
	BundleName        *string  `query:"bundle_name"`
	BundleVersion     *string  `query:"bundle_version"`
	HasAssetSchedule  *bool    `query:"has_asset_schedule"`
	AssetDependency   *string  `query:"asset_dependency"`
	DagRunState       []string `query:"dag_run_state"`
	IsFavorite        *bool    `query:"is_favorite"`
	TimetableType     []string `query:"timetable_type"`
}

type patchDags struct {
	Paging
	dagFilters
	UpdateMask []string `query:"update_mask"`
	Body       DAGPatchBody
}

type patchDag struct {
	DagID      string   `path:"dag_id"`
	UpdateMask []string `query:"update_mask"`
	Body       DAGPatchBody
}

type listTags struct {
	Paging
	Ordering
	Name       *string `query:"tag_name_pattern"`
	NamePrefix *string `query:"tag_name_prefix_pattern"`
}

func registerDags(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + path, ID: id, Tag: "DAG", Summary: summary, Action: act, Resource: auth.ResourceDAG}
	}
	list := op("GET", "/dags", "get_dags", "Get Dags", auth.Read)
	list.Indexed = []string{"dag_id_prefix_pattern", "order_by=dag_id"}
	Handle(a, list, getDags)
	Handle(a, op("PATCH", "/dags", "patch_dags", "Patch Dags", auth.Edit), patchManyDags)
	Handle(a, op("GET", "/dags/{dag_id}", "get_dag", "Get Dag", auth.Read), func(r *Request, _ *dagPath) (DAGResponse, error) {
		d, err := r.dagView()
		if err != nil {
			return DAGResponse{}, err
		}
		return r.API.dagResponse(d), nil
	})
	Handle(a, op("GET", "/dags/{dag_id}/details", "get_dag_details", "Get Dag Details", auth.Read), getDagDetails)
	Handle(a, op("PATCH", "/dags/{dag_id}", "patch_dag", "Patch Dag", auth.Edit), patchOneDag)
	del := op("DELETE", "/dags/{dag_id}", "delete_dag", "Delete Dag", auth.Delete)
	Handle(a, del, deleteDag)
	fav := op("POST", "/dags/{dag_id}/favorite", "favorite_dag", "Favorite Dag", auth.Read)
	Handle(a, fav, func(r *Request, _ *dagPath) (Empty, error) {
		m, err := r.mustDag()
		if err != nil {
			return Empty{}, err
		}
		err = r.API.Store.AddFavorite(r.Context(), r.Who.Name, m.DagID)
		if errors.Is(err, airflow.ErrAlreadyExists) {
			return Empty{}, NotUnique("The Dag %s is a favorite of %s already", m.DagID, r.Who.Name)
		}
		return Empty{}, err
	})
	Handle(a, op("POST", "/dags/{dag_id}/unfavorite", "unfavorite_dag", "Unfavorite Dag", auth.Read), func(r *Request, _ *dagPath) (Empty, error) {
		m, err := r.mustDag()
		if err != nil {
			return Empty{}, err
		}
		err = r.API.Store.RemoveFavorite(r.Context(), r.Who.Name, m.DagID)
		if errors.Is(err, airflow.ErrNotFound) {
			return Empty{}, Conflict("Dag is not marked as favorite")
		}
		return Empty{}, err
	})
	tags := op("GET", "/dagTags", "get_dag_tags", "Get Dag Tags", auth.Read)
	Handle(a, tags, getDagTags)
}

// dagView is a DAG with its document; Doc is nil where that cannot be read.
type dagView struct {
	airflow.DagModel
	Graph *scheduler.Graph
	TT    timetable.Timetable
	last  *airflow.DagRun
}

// mustDag returns the DAG of the path, or 404.
func (r *Request) mustDag() (airflow.DagModel, error) {
	m, err := r.Dag()
	if errors.Is(err, airflow.ErrNotFound) {
		return m, NotFound("The Dag with ID: `%s` was not found", r.path["dag_id"])
	}
	return m, err
}

func (r *Request) dagView() (dagView, error) {
	m, err := r.mustDag()
	if err != nil {
		return dagView{}, err
	}
	return r.API.viewDag(r.Context(), m), nil
}

// viewDag adds the document to a DAG. One that cannot be read leaves the DAG
// without what only the document knows; that is logged, not an error of the list.
func (a *API) viewDag(ctx context.Context, m airflow.DagModel) dagView {
	d := dagView{DagModel: m}
	g, err := a.Engine.Graph(ctx, m.LatestHash)
	if err != nil {
		a.Log.WarnContext(ctx, "DAG document not read", "dag_id", m.DagID, "err", err)
		return d
	}
	d.Graph = g
	if d.TT, err = timetable.Parse(g.DAG.Timetable); err != nil {
		d.TT = nil
	}
	return d
}

func (d dagView) periodic() bool { return d.TT != nil && d.TT.Periodic() }

// summary is the timetable's; no schedule has none.
func (d dagView) summary() *string {
	if d.TT != nil && d.TT.Class() == "NullTimetable" {
		return nil
	}
	return orNil(d.TimetableSummary)
}

func (a *API) dagResponse(d dagView) DAGResponse {
	name := displayName(d.DagModel)
	out := DAGResponse{
		DagID: string(d.DagID), DagDisplayName: name, IsPaused: d.IsPaused, IsStale: d.IsStale, LastParsedTime: AtPtr(d.LastParsedTime),
		LastParseDuration: ptrTo(0.0), BundleName: &a.BundleName, RelativeFileloc: orNil(d.RelativeFileloc), Fileloc: d.Fileloc, Description: orNil(d.Description),
		TimetableSummary: d.summary(), TimetableDescription: orNil(d.TimetableDescription), TimetablePeriodic: d.periodic(), Tags: []DagTagResponse{},
		HasImportErrors: d.HasImportErrors, NextDagrunLogicalDate: AtPtr(d.NextDagRunLogicalDate), NextDagrunIntervalStart: AtPtr(d.NextDagRunDataIntervalStart),
		NextDagrunIntervalEnd: AtPtr(d.NextDagRunDataIntervalEnd), NextDagrunRunAfter: AtPtr(d.NextDagRunRunAfter), Owners: orEmpty(d.Owners),
		IsBackfillable: d.periodic(), FileToken: fileToken(a.BundleName, d.RelativeFileloc),
	}
	if d.IsStale {
		out.LastExpired = AtPtr(d.LastParsedTime)
	}
	for _, t := range d.Tags {
		out.Tags = append(out.Tags, DagTagResponse{t, string(d.DagID), name})
	}
	if d.Graph == nil {
		return out
	}
	dag := d.Graph.DAG
	out.MaxActiveTasks, out.MaxActiveRuns, out.MaxConsecutiveFailedDagRuns = dag.MaxActiveTasks, &dag.MaxActiveRuns, dag.MaxConsecutiveFailedDagRuns
	for _, t := range dag.Tasks {
		out.HasTaskConcurrencyLimits = out.HasTaskConcurrencyLimits || t.MaxActiveTIsPerDag > 0 || t.MaxActiveTIsPerDagRun > 0
	}
	if dag.AllowedRunTypes != nil {
		var l []string
		for _, t := range dag.AllowedRunTypes {
			l = append(l, string(t))
		}
		out.AllowedRunTypes = &l
		out.IsBackfillable = out.IsBackfillable && slices.Contains(l, string(airflow.RunTypeBackfill))
	}
	return out
}

func displayName(m airflow.DagModel) string {
	if m.DagDisplayName != "" {
		return m.DagDisplayName
	}
	return string(m.DagID)
}

// fileToken names a DAG file for parseDagFile.
func fileToken(bundle, path string) string {
	b, err := json.Marshal(map[string]string{"bundle_name": bundle, "relative_fileloc": path})
	if err != nil {
		return "" // unreachable: texts always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func dagOrders() Orders[dagView] {
	last := func(f func(*airflow.DagRun) SortKey) func(dagView) SortKey {
		return func(d dagView) SortKey {
			if d.last == nil {
				return SortKey{Null: true}
			}
			return f(d.last)
		}
	}
	state := last(func(r *airflow.DagRun) SortKey { return ByText(string(r.State)) })
	start := last(func(r *airflow.DagRun) SortKey { return ByTime(r.StartDate) })
	return Orders[dagView]{
		By: map[string]func(dagView) SortKey{
			"dag_id":           func(d dagView) SortKey { return ByText(string(d.DagID)) },
			"dag_display_name": func(d dagView) SortKey { return ByText(displayName(d.DagModel)) },
			"next_dagrun":      func(d dagView) SortKey { return ByTime(d.NextDagRunLogicalDate) },
			"state":            state, "last_run_state": state, "start_date": start, "last_run_start_date": start,
		},
		Default: []string{"dag_id"},
		ID:      func(d dagView) SortKey { return ByText(string(d.DagID)) },
	}
}

// dagWindow reads DAGs by id; a prefix bounds what is read.
func dagWindow(r *Request, f dagFilters) Window[dagView] {
	return func(ctx context.Context, cursor string, limit int) ([]dagView, string, error) {
		o := store.ListOptions{Limit: limit, Cursor: cursor}
		if p := prefixes(f.DagIDPrefix); len(p) == 1 && p[0] != "" {
			o.From, o.To = p[0], p[0]+"\U0010FFFF"
		}
		ms, next, err := r.API.Store.ListDags(ctx, o)
		out := make([]dagView, len(ms))
		for i, m := range ms {
			out[i] = dagView{DagModel: m}
		}
		return out, next, err
	}
}

// keepDag is the filter that listing and patching share, with the permission.
func (f dagFilters) keep(r *Request) func(airflow.DagModel) bool {
	id, prefix := Pattern(f.DagID), Prefix(f.DagIDPrefix)
	return func(m airflow.DagModel) bool {
		if f.ExcludeStale && m.IsStale || f.Paused != nil && m.IsPaused != *f.Paused || !id(string(m.DagID)) || !prefix(string(m.DagID)) {
			return false
		}
		if len(f.Tags) > 0 {
			found := 0
			for _, t := range f.Tags {
				if slices.Contains(m.Tags, t) {
					found++
				}
			}
			if found == 0 || f.TagsMatchMode != nil && *f.TagsMatchMode == "all" && found < len(f.Tags) {
				return false
			}
		}
		if len(f.Owners) > 0 && !slices.ContainsFunc(f.Owners, func(o string) bool { return slices.Contains(m.Owners, o) }) {
			return false
		}
		return r.May(m)
	}
}

func getDags(r *Request, in *listDags) (DAGCollectionResponse, error) {
	ctx, a := r.Context(), r.API
	for _, s := range in.DagRunState {
		if _, err := airflow.ParseDagRunState(s); err != nil {
			return DAGCollectionResponse{}, badState("dag_run_state", dagRunStates)
		}
	}
	base := in.keep(r)
	name, namePrefix := Pattern(in.DisplayName), Prefix(in.DisplayNamePrefix)
	var stars map[airflow.DagID]bool
	var err error
	if in.IsFavorite != nil {
		if stars, err = a.Store.Favorites(ctx, r.Who.Name); err != nil {
			return DAGCollectionResponse{}, err
		}
	}
	var waiting map[airflow.DagID]bool
	if in.AssetDependency != nil {
		if waiting, err = r.dagsOfAsset(*in.AssetDependency); err != nil {
			return DAGCollectionResponse{}, err
		}
	}
	start, end := TimeRange(in.dagRunStartRange), TimeRange(in.dagRunEndRange)
	byLast := in.LastDagRunState != nil || len(in.DagRunState) > 0 || start != (TimeRange{}) || end != (TimeRange{})
	needLast := byLast || slices.ContainsFunc(in.OrderBy, func(o string) bool {
		return slices.Contains([]string{"state", "start_date", "last_run_state", "last_run_start_date"}, strings.TrimPrefix(o, "-"))
	})
	needDoc := in.HasAssetSchedule != nil || len(in.TimetableType) > 0
	read := dagWindow(r, in.dagFilters)
	window := func(ctx context.Context, cursor string, limit int) ([]dagView, string, error) {
		ds, next, err := read(ctx, cursor, limit)
		if err != nil {
			return nil, "", err
		}
		out := ds[:0]
		for _, d := range ds {
			if !base(d.DagModel) {
				continue
			}
			if needLast {
				runs, _, err := a.Store.ListRuns(ctx, d.DagID, store.ListOptions{Limit: 1, Descending: true})
				if err != nil {
					return nil, "", err
				}
				if len(runs) > 0 {
					d.last = &runs[0]
				}
			}
			if needDoc {
				d = withLast(a.viewDag(ctx, d.DagModel), d.last)
			}
			out = append(out, d)
		}
		return out, next, nil
	}
	p, err := List(r, in.query(in.Ordering), dagOrders(), window, func(d dagView) bool {
		switch {
		case !name(displayName(d.DagModel)), !namePrefix(displayName(d.DagModel)),
			in.HasImportErrors != nil && d.HasImportErrors != *in.HasImportErrors,
			in.BundleName != nil && a.BundleName != *in.BundleName, in.BundleVersion != nil,
			in.IsFavorite != nil && stars[d.DagID] != *in.IsFavorite,
			in.AssetDependency != nil && !waiting[d.DagID],
			in.HasAssetSchedule != nil && d.assetScheduled() != *in.HasAssetSchedule,
			len(in.TimetableType) > 0 && !d.hasTimetable(in.TimetableType):
			return false
		case !byLast:
			return true
		case d.last == nil:
			return false
		}
		return (in.LastDagRunState == nil || string(d.last.State) == *in.LastDagRunState) && oneIn(in.DagRunState, string(d.last.State)) &&
			start.OK(d.last.StartDate) && end.OK(d.last.EndDate)
	})
	if err != nil {
		return DAGCollectionResponse{}, err
	}
	out := DAGCollectionResponse{Dags: []DAGResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}
	for _, d := range p.Items {
		if d.Graph == nil {
			d = withLast(a.viewDag(ctx, d.DagModel), d.last)
		}
		out.Dags = append(out.Dags, a.dagResponse(d))
	}
	return out, nil
}

func withLast(d dagView, last *airflow.DagRun) dagView {
	d.last = last
	return d
}

func (d dagView) assetScheduled() bool {
	if d.Graph == nil {
		return false
	}
	_, ok, err := scheduler.AssetConditionOf(d.Graph.DAG)
	return ok && err == nil
}

// hasTimetable matches class names and import paths.
func (d dagView) hasTimetable(names []string) bool {
	if d.Graph == nil {
		return false
	}
	var head struct {
		Type string `json:"__type"`
	}
	if err := json.Unmarshal(d.Graph.DAG.Timetable, &head); err != nil {
		return false
	}
	return slices.Contains(names, head.Type) || slices.Contains(names, head.Type[strings.LastIndexByte(head.Type, '.')+1:])
}

// dagsOfAsset are the DAGs whose schedule names an asset with the text in its
// name or uri.
func (r *Request) dagsOfAsset(text string) (map[airflow.DagID]bool, error) {
	assets, err := r.API.Store.ListAssets(r.Context())
	if err != nil {
		return nil, err
	}
	match := Pattern(&text)
	out := map[airflow.DagID]bool{}
	for _, as := range assets {
		if match(as.Name) || match(as.URI) {
			for _, d := range as.ScheduledDags {
				out[d] = true
			}
		}
	}
	return out, nil
}

func getDagDetails(r *Request, _ *dagPath) (DAGDetailsResponse, error) {
	d, err := r.dagView()
	if err != nil {
		return DAGDetailsResponse{}, err
	}
	ctx, a := r.Context(), r.API
	out := DAGDetailsResponse{
		DAGResponse: a.dagResponse(d), LastParsed: AtPtr(d.LastParsedTime), DefaultArgs: json.RawMessage("{}"), AssetExpression: json.RawMessage("null"),
		OwnerLinks: map[string]string{}, Params: map[string]ParamResponse{},
	}
	out.Concurrency = out.MaxActiveTasks
	if out.IsFavorite, err = a.Store.IsFavorite(ctx, r.Who.Name, d.DagID); err != nil {
		return out, err
	}
	active, err := a.Store.ListActiveRuns(ctx, d.DagID)
	if err != nil {
		return out, err
	}
	for _, run := range active {
		if run.DagID == d.DagID && run.State == airflow.RunRunning {
			out.ActiveRunsCount++
		}
	}
	if v, err := a.Store.GetDagVersion(ctx, d.DagID, d.LatestVersion); err == nil {
		out.LatestDagVersion = ptrTo(a.versionResponse(v, displayName(d.DagModel)))
	} else if !errors.Is(err, airflow.ErrNotFound) {
		return out, err
	}
	if d.Graph == nil {
		return out, nil
	}
	dag := d.Graph.DAG
	out.Catchup, out.DocMD, out.StartDate, out.EndDate = dag.Catchup, orNil(dag.DocMD), AtPtr(dag.StartDate), AtPtr(dag.EndDate)
	if out.StartDate == nil {
		out.StartDate = AtPtr(firstStart(dag))
	}
	if dag.DagrunTimeout > 0 {
		out.DagRunTimeout = ptrTo(isoDuration(dag.DagrunTimeout))
	}
	out.IsPausedUponCreation, out.RenderTemplateAsNativeObj, out.RerunWithLatestVersion = dag.IsPausedUponCreation, dag.RenderTemplateAsNativeObj, dag.RerunWithLatestVersion
	out.Params = paramsOf(dag.Params)
	if dag.Gust.TemplateSearchpath != nil {
		out.TemplateSearchPath = &dag.Gust.TemplateSearchpath
	}
	out.Timezone = orNil(dag.Timezone)
	if len(dag.DefaultArgs) > 0 {
		out.DefaultArgs = plainDocument(dag.DefaultArgs)
	}
	if dag.OwnerLinks != nil {
		out.OwnerLinks = dag.OwnerLinks
	}
	if d.TT != nil {
		if c := d.TT.AssetCondition(); c != nil {
			if b, err := json.Marshal(assetExpression(c)); err == nil {
				out.AssetExpression = b
			}
		}
	}
	return out, nil
}

// firstStart is the earliest start_date of a DAG's tasks, nil if none has one.
func firstStart(dag *airflow.DAG) (first *time.Time) {
	for _, t := range dag.Tasks {
		if t.StartDate != nil && (first == nil || t.StartDate.Before(*first)) {
			first = t.StartDate
		}
	}
	return first
}

func paramsOf(ps []airflow.Param) map[string]ParamResponse {
	out := map[string]ParamResponse{}
	for _, p := range ps {
		r := ParamResponse{Value: json.RawMessage("null"), Schema: json.RawMessage("{}"), Description: orNil(p.Description), Source: orNil(p.Source)}
		if p.Default != nil {
			r.Value = plainDocument(p.Default)
		}
		if len(p.Schema) > 0 && !isNull(p.Schema) {
			r.Schema = p.Schema
		}
		out[p.Name] = r
	}
	return out
}

// plainDocument is a value of a DAG document without its type tags.
func plainDocument(raw json.RawMessage) json.RawMessage {
	v, err := serde.FromDocument(raw)
	if err != nil {
		return raw
	}
	b, err := json.Marshal(serde.Plain(v))
	if err != nil {
		return raw
	}
	return b
}

// assetExpression is a schedule's condition in the API's form.
func assetExpression(c any) any {
	m, ok := c.(map[string]any)
	if !ok {
		return c
	}
	list := func(key string) any {
		objects, _ := m["objects"].([]any)
		out := []any{}
		for _, o := range objects {
			out = append(out, assetExpression(o))
		}
		return map[string]any{key: out}
	}
	pick := func(key string, names ...string) any {
		out := map[string]any{}
		for _, n := range names {
			if v, there := m[n]; there {
				out[n] = v
			}
		}
		return map[string]any{key: out}
	}
	switch m["__type"] {
	case "asset_any":
		return list("any")
	case "asset_all":
		return list("all")
	case "asset_alias":
		return pick("alias", "name", "group")
	case "asset_ref":
		return pick("asset_ref", "name", "uri")
	}
	return pick("asset", "uri", "name", "group")
}

// checkMask allows is_paused only.
func checkDagMask(mask []string) error {
	for _, m := range mask {
		if m != "is_paused" {
			return BadRequest("Only `is_paused` field can be updated through the REST API")
		}
	}
	return nil
}

func patchOneDag(r *Request, in *patchDag) (DAGResponse, error) {
	if _, err := r.mustDag(); err != nil {
		return DAGResponse{}, err
	}
	if err := checkDagMask(in.UpdateMask); err != nil {
		return DAGResponse{}, err
	}
	m, err := r.API.Engine.SetPaused(r.Context(), airflow.DagID(in.DagID), in.Body.IsPaused, r.Who.Name)
	if err != nil {
		return DAGResponse{}, err
	}
	return r.API.dagResponse(r.API.viewDag(r.Context(), m)), nil
}

// patchManyDags changes the DAGs that match. Without dag_id_pattern it touches
// none, whatever the other filters say: as in Airflow, whose "" matches nothing here.
func patchManyDags(r *Request, in *patchDags) (DAGCollectionResponse, error) {
	out := DAGCollectionResponse{Dags: []DAGResponse{}}
	if err := checkDagMask(in.UpdateMask); err != nil {
		return out, err
	}
	if in.DagID == nil && in.DagIDPrefix == nil {
		return out, nil
	}
	keep := in.keep(r)
	p, err := List(r, Query{Limit: in.Limit, Offset: in.Offset}, dagOrders(), dagWindow(r, in.dagFilters), func(d dagView) bool { return keep(d.DagModel) })
	if err != nil {
		return out, err
	}
	out.Total = p.Total
	for _, d := range p.Items {
		m, err := r.API.Engine.SetPaused(r.Context(), d.DagID, in.Body.IsPaused, r.Who.Name)
		if errors.Is(err, airflow.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return out, err
		}
		out.Dags = append(out.Dags, r.API.dagResponse(r.API.viewDag(r.Context(), m)))
	}
	return out, nil
}

// deleteDag removes what is stored of a DAG. Its running runs are marked failed
// first, so that their tasks stop.
func deleteDag(r *Request, _ *dagPath) (Raw, error) {
	m, err := r.mustDag()
	if err != nil {
		return Raw{}, err
	}
	ctx, a := r.Context(), r.API
	active, err := a.Store.ListActiveRuns(ctx, m.DagID)
	if err != nil {
		return Raw{}, err
	}
	for _, run := range active {
		if run.DagID == m.DagID && run.State == airflow.RunRunning {
			return Raw{}, Conflict("Task instances of dag with id: '%s' are still running", m.DagID)
		}
	}
	if _, err := a.Engine.SetPaused(ctx, m.DagID, true, r.Who.Name); err != nil {
		return Raw{}, err
	}
	cursor := ""
	for {
		runs, next, err := a.Store.ListRuns(ctx, m.DagID, store.ListOptions{Limit: 200, Cursor: cursor})
		if err != nil {
			return Raw{}, err
		}
		for _, run := range runs {
			if err := a.Engine.DeleteRun(ctx, store.RunKey{DagID: run.DagID, RunID: run.RunID}); err != nil && !errors.Is(err, airflow.ErrNotFound) {
				return Raw{}, err
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	if err := a.Store.DeleteDag(ctx, m.DagID); err != nil {
		return Raw{}, err
	}
	a.Engine.DagChanged(m.DagID)
	if a.DagDeleted != nil {
		if err := a.DagDeleted(ctx, m.DagID); err != nil {
			return Raw{}, err
		}
	}
	return Raw{ContentType: "application/json", Body: []byte("null")}, nil
}

func getDagTags(r *Request, in *listTags) (DAGTagCollectionResponse, error) {
	seen := map[string]bool{}
	cursor := ""
	for {
		ms, next, err := r.API.Store.ListDags(r.Context(), store.ListOptions{Limit: 1000, Cursor: cursor})
		if err != nil {
			return DAGTagCollectionResponse{}, err
		}
		for _, m := range ms {
			if r.May(m) {
				for _, t := range m.Tags {
					seen[t] = true
				}
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	var all []string
	for t := range seen {
		all = append(all, t)
	}
	sort.Strings(all)
	match, prefix := Pattern(in.Name), Prefix(in.NamePrefix)
	p, err := List(r, in.query(in.Ordering), Orders[string]{By: map[string]func(string) SortKey{"name": ByText}, Default: []string{"name"}},
		All(func(context.Context) ([]string, error) { return all, nil }), func(s string) bool { return match(s) && prefix(s) })
	return DAGTagCollectionResponse{p.Items, p.Total}, err
}

var dagRunStates = []string{"queued", "running", "success", "failed"}

// badState is 422 with a text, as Airflow answers for the states of lists.
func badState(what string, valid []string) error {
	return &Error{Status: http.StatusUnprocessableEntity, Detail: "Invalid value for " + what + ". Valid values are " + strings.Join(valid, ", ")}
}
