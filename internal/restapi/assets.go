package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// AssetResponse is an asset with who has to do with it.
type AssetResponse struct {
	ID             int64                       `json:"id"`
	Name           string                      `json:"name"`
	URI            string                      `json:"uri"`
	Group          string                      `json:"group"`
	Extra          json.RawMessage             `json:"extra"`
	CreatedAt      Time                        `json:"created_at"`
	UpdatedAt      Time                        `json:"updated_at"`
	ScheduledDags  []DagScheduleAssetReference `json:"scheduled_dags"`
	ProducingTasks []TaskAssetReference        `json:"producing_tasks"`
	ConsumingTasks []TaskAssetReference        `json:"consuming_tasks"`
	Aliases        []AssetAliasResponse        `json:"aliases"`
	Watchers       []AssetWatcherResponse      `json:"watchers"`
	LastAssetEvent LastAssetEventResponse      `json:"last_asset_event"`
}

// DagScheduleAssetReference is a DAG that an asset schedules.
type DagScheduleAssetReference struct {
	DagID     string `json:"dag_id"`
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
}

// TaskAssetReference is a task that names an asset.
type TaskAssetReference struct {
	DagID     string `json:"dag_id"`
	TaskID    string `json:"task_id"`
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
}

// AssetAliasResponse is an asset alias.
type AssetAliasResponse struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Group string `json:"group"`
}

// AssetWatcherResponse watches an asset from outside: there are none.
type AssetWatcherResponse struct {
	Name        string `json:"name"`
	TriggerID   int64  `json:"trigger_id"`
	CreatedDate Time   `json:"created_date"`
}

// LastAssetEventResponse is the newest event of an asset; nulls if there is none.
type LastAssetEventResponse struct {
	ID        *int64 `json:"id"`
	Timestamp *Time  `json:"timestamp"`
}

// AssetCollectionResponse is a list of assets.
type AssetCollectionResponse struct {
	Assets     []AssetResponse `json:"assets"`
	Total      int             `json:"total_entries"`
	TotalLimit *int            `json:"total_entries_limit,omitempty"`
	Next       *string         `json:"next_cursor,omitempty"`
}

// AssetAliasCollectionResponse is a list of asset aliases.
type AssetAliasCollectionResponse struct {
	AssetAliases []AssetAliasResponse `json:"asset_aliases"`
	Total        int                  `json:"total_entries"`
	TotalLimit   *int                 `json:"total_entries_limit,omitempty"`
	Next         *string              `json:"next_cursor,omitempty"`
}

// MaterializeAssetBody asks for a run that makes an asset.
type MaterializeAssetBody struct {
	Closed
	DagRunID          *string    `json:"dag_run_id"`
	DataIntervalStart *Time      `json:"data_interval_start"`
	DataIntervalEnd   *Time      `json:"data_interval_end"`
	LogicalDate       *Time      `json:"logical_date"`
	RunAfter          *Time      `json:"run_after"`
	Conf              confObject `json:"conf" required:"false" nullable:"true"`
	Note              *string    `json:"note"`
	PartitionKey      *string    `json:"partition_key"`
}

type listAssets struct {
	CursorPaging
	Ordering
	Name       *string  `query:"name_pattern"`
	NamePrefix *string  `query:"name_prefix_pattern"`
	URI        *string  `query:"uri_pattern"`
	URIPrefix  *string  `query:"uri_prefix_pattern"`
	DagIDs     []string `query:"dag_ids"`
	OnlyActive bool     `query:"only_active" default:"true"`
}

type listAliases struct {
	CursorPaging
	Ordering
	Name       *string `query:"name_pattern"`
	NamePrefix *string `query:"name_prefix_pattern"`
}

type assetPath struct {
	ID int64 `path:"asset_id"`
}

type aliasPath struct {
	ID int64 `path:"asset_alias_id"`
}

type materialize struct {
	assetPath
	Body *MaterializeAssetBody
}

func registerAssets(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + "/assets" + path, ID: id, Tag: "Asset", Summary: summary, Action: act, Resource: auth.ResourceAsset}
	}
	list := op("GET", "", "get_assets", "Get Assets", auth.Read)
	list.Indexed = []string{"name_prefix_pattern", "order_by=name"}
	Handle(a, list, getAssets)
	aliases := op("GET", "/aliases", "get_asset_aliases", "Get Asset Aliases", auth.Read)
	aliases.Resource, aliases.Indexed = auth.ResourceAssetAlias, list.Indexed
	Handle(a, aliases, getAliases)
	one := op("GET", "/aliases/{asset_alias_id}", "get_asset_alias", "Get Asset Alias", auth.Read)
	one.Resource = auth.ResourceAssetAlias
	Handle(a, one, func(r *Request, in *aliasPath) (AssetAliasResponse, error) {
		n, err := r.API.Store.NumberedAs(r.Context(), aliasNumbers, in.ID)
		var rec store.AssetRecord
		if err == nil {
			rec, err = r.API.Store.GetAsset(r.Context(), store.AssetKey{Name: n.Name[0], URI: aliasURI})
		}
		if errors.Is(err, airflow.ErrNotFound) {
			return AssetAliasResponse{}, NotFound("The AssetAlias with ID: `%d` was not found", in.ID)
		}
		return AssetAliasResponse{ID: in.ID, Name: rec.Name, Group: rec.Group}, err
	})
	Handle(a, op("GET", "/{asset_id}", "get_asset", "Get Asset", auth.Read), func(r *Request, in *assetPath) (AssetResponse, error) {
		rec, err := r.mustAsset(in.ID)
		if err != nil {
			return AssetResponse{}, err
		}
		return r.asset(rec, r.models())
	})
	Handle(a, op("POST", "/{asset_id}/materialize", "materialize_asset", "Materialize Asset", auth.Create), postMaterialize)
	registerAssetEvents(a)
}

// The uri of the records of asset aliases, and of references; see dagprocessor.
const (
	aliasURI   = "airflow-alias:"
	refNameURI = "airflow-ref:name"
	refURIURI  = "airflow-ref:uri"
)

func isAsset(a store.AssetRecord) bool {
	return a.URI != aliasURI && a.URI != refNameURI && a.URI != refURIURI
}

// The scopes of numbers.
const (
	assetNumbers = "asset"
	aliasNumbers = "alias"
)

// numbered remembers numbers, which never change.
type numbered struct{ by sync.Map } // scope and name -> store.Number

func (a *API) number(ctx context.Context, scope string, name ...string) (store.Number, error) {
	key := scope
	for _, n := range name {
		key += "\x00" + n
	}
	if v, ok := a.numbers.by.Load(key); ok {
		return v.(store.Number), nil
	}
	n, err := a.Store.NumberOf(ctx, scope, name, a.now())
	if err == nil {
		a.numbers.by.Store(key, n)
	}
	return n, err
}

// assetRow is an asset with its number.
type assetRow struct {
	store.AssetRecord
	store.Number
}

func (r *Request) assetRow(rec store.AssetRecord) (assetRow, error) {
	n, err := r.API.number(r.Context(), assetNumbers, rec.Name, rec.URI)
	return assetRow{rec, n}, err
}

// mustAsset returns the asset of a number, or 404.
func (r *Request) mustAsset(id int64) (assetRow, error) {
	n, err := r.API.Store.NumberedAs(r.Context(), assetNumbers, id)
	if errors.Is(err, airflow.ErrNotFound) && id > 0 {
		// Numbers are given when they are first asked for.
		if _, err = r.assetRows(r.Context(), "", "", 0); err == nil {
			n, err = r.API.Store.NumberedAs(r.Context(), assetNumbers, id)
		}
	}
	var rec store.AssetRecord
	if err == nil {
		rec, err = r.API.Store.GetAsset(r.Context(), store.AssetKey{Name: n.Name[0], URI: n.Name[1]})
	}
	if errors.Is(err, airflow.ErrNotFound) {
		return assetRow{}, NotFound("The Asset with ID: `%d` was not found", id)
	}
	return assetRow{rec, n}, err
}

type assetPage struct {
	rows []assetRow
	next string
}

func (r *Request) assetRows(ctx context.Context, prefix, cursor string, limit int) (assetPage, error) {
	recs, next, err := r.API.Store.ListAssetsPage(ctx, prefix, store.ListOptions{Limit: limit, Cursor: cursor})
	out := assetPage{next: next}
	for _, rec := range recs {
		if err != nil || !isAsset(rec) {
			continue
		}
		var row assetRow
		if row, err = r.assetRow(rec); err == nil {
			out.rows = append(out.rows, row)
		}
	}
	return out, err
}

func (r *Request) asset(a assetRow, ms *models) (AssetResponse, error) {
	at := At(a.At)
	out := AssetResponse{
		ID: a.N, Name: a.AssetRecord.Name, URI: a.URI, Group: a.Group, Extra: objectOr(a.Extra), CreatedAt: at, UpdatedAt: at, ScheduledDags: []DagScheduleAssetReference{},
		ProducingTasks: []TaskAssetReference{}, ConsumingTasks: []TaskAssetReference{}, Aliases: []AssetAliasResponse{}, Watchers: []AssetWatcherResponse{},
	}
	shows, err := r.shownDags(ms, a)
	if err != nil {
		return out, err
	}
	for _, d := range a.ScheduledDags {
		if !shows[d] {
			continue
		}
		out.ScheduledDags = append(out.ScheduledDags, DagScheduleAssetReference{string(d), at, at})
	}
	for _, p := range a.Producers {
		if !shows[p.DagID] {
			continue
		}
		out.ProducingTasks = append(out.ProducingTasks, TaskAssetReference{string(p.DagID), string(p.TaskID), at, at})
	}
	last, _, err := r.API.Store.ListAssetEventsBetween(r.Context(), a.key(), nil, nil, store.ListOptions{Limit: 1, Descending: true})
	if len(last) > 0 {
		out.LastAssetEvent = LastAssetEventResponse{ptrTo(numberAt(last[0].Timestamp, last[0].ID)), ptrTo(At(last[0].Timestamp))}
	}
	return out, err
}

// shows reports whether who asks may know of a DAG: what an asset has to do with
// others is not told.
func (r *Request) shows(ms *models, dag airflow.DagID) (bool, error) {
	if dag == "" || r.Who.Unlimited() {
		return true, nil
	}
	m, err := ms.dag(dag)
	return err == nil && r.Who.May(auth.Read, auth.ResourceDAG, string(dag), m.Tags), err
}

// shownDags says which of an asset's DAGs are told.
func (r *Request) shownDags(ms *models, a assetRow) (map[airflow.DagID]bool, error) {
	out := map[airflow.DagID]bool{}
	dags := slices.Clone(a.ScheduledDags)
	for _, p := range a.Producers {
		dags = append(dags, p.DagID)
	}
	for _, d := range dags {
		ok, err := r.shows(ms, d)
		if err != nil {
			return nil, err
		}
		out[d] = ok
	}
	return out, nil
}

func (a assetRow) key() store.AssetKey {
	return store.AssetKey{Name: a.AssetRecord.Name, URI: a.URI}
}

// objectOr is an object, empty for none.
func objectOr(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || isNull(raw) {
		return json.RawMessage("{}")
	}
	return raw
}

func assetOrders() Orders[assetRow] {
	id := func(a assetRow) SortKey { return ByInt(a.N) }
	at := func(a assetRow) SortKey { return ByTime(&a.At) }
	return Orders[assetRow]{By: map[string]func(assetRow) SortKey{
		"id": id, "name": func(a assetRow) SortKey { return ByText(a.AssetRecord.Name) }, "uri": func(a assetRow) SortKey { return ByText(a.URI) },
		"created_at": at, "updated_at": at,
	}, Default: []string{"id"}, ID: id}
}

func getAssets(r *Request, in *listAssets) (AssetCollectionResponse, error) {
	name, prefix, uri, uriPrefix := Pattern(in.Name), Prefix(in.NamePrefix), Pattern(in.URI), Prefix(in.URIPrefix)
	read := func(ctx context.Context, cursor string, limit int) ([]assetRow, string, error) {
		p, err := r.assetRows(ctx, onePrefix(in.NamePrefix), cursor, limit)
		return p.rows, p.next, err
	}
	p, err := List(r, in.query(in.Ordering), assetOrders(), read, func(a assetRow) bool {
		if in.OnlyActive && !a.Active() || !name(a.AssetRecord.Name) || !prefix(a.AssetRecord.Name) || !uri(a.URI) || !uriPrefix(a.URI) {
			return false
		}
		return len(in.DagIDs) == 0 ||
			slices.ContainsFunc(a.ScheduledDags, func(d airflow.DagID) bool { return slices.Contains(in.DagIDs, string(d)) }) ||
			slices.ContainsFunc(a.Producers, func(p store.AssetProducer) bool { return slices.Contains(in.DagIDs, string(p.DagID)) })
	})
	out := AssetCollectionResponse{Assets: []AssetResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}
	ms := r.models()
	for _, a := range p.Items {
		v, err := r.asset(a, ms)
		if err != nil {
			return out, err
		}
		out.Assets = append(out.Assets, v)
	}
	return out, err
}

func getAliases(r *Request, in *listAliases) (AssetAliasCollectionResponse, error) {
	name, prefix := Pattern(in.Name), Prefix(in.NamePrefix)
	id := func(a AssetAliasResponse) SortKey { return ByInt(a.ID) }
	read := func(ctx context.Context, cursor string, limit int) (out []AssetAliasResponse, next string, err error) {
		recs, next, err := r.API.Store.ListAssetsPage(ctx, onePrefix(in.NamePrefix), store.ListOptions{Limit: limit, Cursor: cursor})
		for _, rec := range recs {
			if rec.URI != aliasURI {
				continue
			}
			n, err := r.API.number(ctx, aliasNumbers, rec.Name)
			if err != nil {
				return nil, "", err
			}
			out = append(out, AssetAliasResponse{n.N, rec.Name, rec.Group})
		}
		return out, next, err
	}
	o := Orders[AssetAliasResponse]{By: map[string]func(AssetAliasResponse) SortKey{"id": id, "name": func(a AssetAliasResponse) SortKey { return ByText(a.Name) }}, Default: []string{"id"}, ID: id}
	p, err := List(r, in.query(in.Ordering), o, read, func(a AssetAliasResponse) bool { return name(a.Name) && prefix(a.Name) })
	return AssetAliasCollectionResponse{AssetAliases: orEmpty(p.Items), Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}, err
}

// postMaterialize runs the one DAG that produces an asset.
func postMaterialize(r *Request, in *materialize) (DAGRunResponse, error) {
	a, err := r.mustAsset(in.ID)
	if err != nil {
		return DAGRunResponse{}, err
	}
	var dags []airflow.DagID
	for _, p := range a.Producers {
		if !slices.Contains(dags, p.DagID) {
			dags = append(dags, p.DagID)
		}
	}
	switch len(dags) {
	case 0:
		return DAGRunResponse{}, NotFound("No Dag materializes asset with ID: %d", in.ID)
	case 1:
	default:
		return DAGRunResponse{}, Conflict("More than one Dag materializes asset with ID: %d", in.ID)
	}
	m, err := r.API.Store.GetDag(r.Context(), dags[0])
	if err != nil {
		return DAGRunResponse{}, err
	}
	if !r.Who.May(auth.Create, auth.ResourceDagRun, string(m.DagID), m.Tags) {
		return DAGRunResponse{}, Errorf(http.StatusForbidden, "Forbidden")
	}
	b := MaterializeAssetBody{}
	if in.Body != nil {
		b = *in.Body
	}
	if (b.DataIntervalStart == nil) != (b.DataIntervalEnd == nil) {
		return DAGRunResponse{}, Invalid(FieldError{Type: "value_error", Loc: []any{"body"}, Msg: "Value error, Either both data_interval_start and data_interval_end must be provided or both must be None", Input: r.RawBody, Ctx: map[string]any{"error": map[string]any{}}})
	}
	return r.triggerRun(m, engine.TriggerOptions{Type: airflow.RunTypeAssetMaterialization}, TriggerDAGRunPostBody{
		DagRunID: b.DagRunID, DataIntervalStart: b.DataIntervalStart, DataIntervalEnd: b.DataIntervalEnd, LogicalDate: b.LogicalDate, RunAfter: b.RunAfter,
		Conf: b.Conf, Note: b.Note, PartitionKey: b.PartitionKey,
	})
}
