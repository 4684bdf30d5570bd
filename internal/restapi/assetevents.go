package restapi

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

// AssetEventResponse is an event of an asset.
type AssetEventResponse struct {
	ID             int64                  `json:"id"`
	AssetID        int64                  `json:"asset_id"`
	URI            *string                `json:"uri"`
	Name           *string                `json:"name"`
	Group          *string                `json:"group"`
	Extra          json.RawMessage        `json:"extra"`
	SourceTaskID   *string                `json:"source_task_id"`
	SourceDagID    *string                `json:"source_dag_id"`
	SourceRunID    *string                `json:"source_run_id"`
	SourceMapIndex int                    `json:"source_map_index"`
	CreatedDagruns []DagRunAssetReference `json:"created_dagruns"`
	Timestamp      Time                   `json:"timestamp"`
	PartitionKey   *string                `json:"partition_key"`
}

// DagRunAssetReference is a run that took an event.
type DagRunAssetReference struct {
	RunID             string  `json:"run_id"`
	DagID             string  `json:"dag_id"`
	LogicalDate       *Time   `json:"logical_date"`
	StartDate         *Time   `json:"start_date"`
	EndDate           *Time   `json:"end_date"`
	State             string  `json:"state"`
	DataIntervalStart *Time   `json:"data_interval_start"`
	DataIntervalEnd   *Time   `json:"data_interval_end"`
	PartitionKey      *string `json:"partition_key"`
	Triggering        bool    `json:"triggering"`
}

// AssetEventCollectionResponse is a list of events.
type AssetEventCollectionResponse struct {
	AssetEvents []AssetEventResponse `json:"asset_events"`
	Total       int                  `json:"total_entries"`
	TotalLimit  *int                 `json:"total_entries_limit,omitempty"`
	Next        *string              `json:"next_cursor,omitempty"`
}

// QueuedEventResponse is an asset whose events wait for a DAG's next run.
type QueuedEventResponse struct {
	DagID          string `json:"dag_id"`
	AssetID        int64  `json:"asset_id"`
	CreatedAt      Time   `json:"created_at"`
	DagDisplayName string `json:"dag_display_name"`
}

// QueuedEventCollectionResponse is a list of what waits.
type QueuedEventCollectionResponse struct {
	QueuedEvents []QueuedEventResponse `json:"queued_events"`
	Total        int                   `json:"total_entries"`
}

// CreateAssetEventsBody is an event from outside.
type CreateAssetEventsBody struct {
	Closed
	AssetID       int64                        `json:"asset_id"`
	PartitionKey  *string                      `json:"partition_key" maxlen:"250" pattern:"\\S"`
	Extra         confObject                   `json:"extra" required:"false"`
	AccessControl *AssetEventAccessControlBody `json:"access_control"`
}

// AssetEventAccessControlBody limits an event to teams, of which there are none.
type AssetEventAccessControlBody struct {
	ConsumerTeams []string `json:"consumer_teams" required:"false" nullable:"true"`
	AllowGlobal   bool     `json:"allow_global" default:"true"`
}

type timestampRange struct {
	Gte *Time `query:"timestamp_gte"`
	Gt  *Time `query:"timestamp_gt"`
	Lte *Time `query:"timestamp_lte"`
	Lt  *Time `query:"timestamp_lt"`
}

type listAssetEvents struct {
	CursorPaging
	Ordering
	timestampRange
	AssetID        *int64  `query:"asset_id"`
	SourceDagID    *string `query:"source_dag_id"`
	SourceTaskID   *string `query:"source_task_id"`
	SourceRunID    *string `query:"source_run_id"`
	SourceMapIndex *int    `query:"source_map_index"`
	Name           *string `query:"name_pattern"`
	NamePrefix     *string `query:"name_prefix_pattern"`
}

type postAssetEvent struct{ Body CreateAssetEventsBody }

type queuedOfAsset struct {
	assetPath
	Before *Time `query:"before"`
}

type queuedOfDag struct {
	DagID  string `path:"dag_id"`
	Before *Time  `query:"before"`
}

type queuedOne struct {
	DagID  string `path:"dag_id"`
	ID     int64  `path:"asset_id"`
	Before *Time  `query:"before"`
}

func registerAssetEvents(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + path, ID: id, Tag: "Asset", Summary: summary, Action: act, Resource: auth.ResourceAsset}
	}
	list := op("GET", "/assets/events", "get_asset_events", "Get Asset Events", auth.Read)
	list.Indexed = []string{"asset_id", "timestamp_gte", "timestamp_gt", "timestamp_lte", "timestamp_lt", "order_by=timestamp"}
	Handle(a, list, getAssetEvents)
	Handle(a, op("POST", "/assets/events", "create_asset_event", "Create Asset Event", auth.Create), createAssetEvent)
	up := op("GET", "/dags/{dag_id}/dagRuns/{dag_run_id}/upstreamAssetEvents", "get_upstream_asset_events", "Get Upstream Asset Events", auth.Read)
	up.Resource, up.Tag = auth.ResourceDagRun, "DagRun"
	Handle(a, up, getUpstreamEvents)

	Handle(a, op("GET", "/assets/{asset_id}/queuedEvents", "get_asset_queued_events", "Get Asset Queued Events", auth.Read), func(r *Request, in *queuedOfAsset) (QueuedEventCollectionResponse, error) {
		qs, err := r.queuedOf("", &in.ID, in.Before)
		if err == nil && len(qs) == 0 {
			err = NotFound("Queue event with asset_id: `%d` was not found", in.ID)
		}
		return r.queuedViews(qs, err)
	})
	Handle(a, op("DELETE", "/assets/{asset_id}/queuedEvents", "delete_asset_queued_events", "Delete Asset Queued Events", auth.Delete), func(r *Request, in *queuedOfAsset) (Empty, error) {
		qs, err := r.queuedOf("", &in.ID, in.Before)
		if err == nil && len(qs) == 0 {
			err = NotFound("Queue event with asset_id: `%d` was not found", in.ID)
		}
		return r.unqueue(qs, err)
	})
	ofDag := func(method, path, id, summary string, act auth.Action) Op {
		o := op(method, path, id, summary, act)
		if act == auth.Read {
			o.Resource = auth.ResourceDAG // an asset's are everybody's
		}
		return o
	}
	Handle(a, ofDag("GET", "/dags/{dag_id}/assets/queuedEvents", "get_dag_asset_queued_events", "Get Dag Asset Queued Events", auth.Read), func(r *Request, in *queuedOfDag) (QueuedEventCollectionResponse, error) {
		qs, err := r.queuedOf(airflow.DagID(in.DagID), nil, in.Before)
		if err == nil && len(qs) == 0 {
			err = NotFound("Queue event with dag_id: `%s` was not found", in.DagID)
		}
		return r.queuedViews(qs, err)
	})
	Handle(a, ofDag("DELETE", "/dags/{dag_id}/assets/queuedEvents", "delete_dag_asset_queued_events", "Delete Dag Asset Queued Events", auth.Delete), func(r *Request, in *queuedOfDag) (Empty, error) {
		qs, err := r.queuedOf(airflow.DagID(in.DagID), nil, in.Before)
		if err == nil && len(qs) == 0 {
			err = NotFound("Queue event with dag_id: `%s` was not found", in.DagID)
		}
		return r.unqueue(qs, err)
	})
	Handle(a, ofDag("GET", "/dags/{dag_id}/assets/{asset_id}/queuedEvents", "get_dag_asset_queued_event", "Get Dag Asset Queued Event", auth.Read), func(r *Request, in *queuedOne) (QueuedEventResponse, error) {
		qs, err := r.queuedOf(airflow.DagID(in.DagID), &in.ID, in.Before)
		if err == nil && len(qs) == 0 {
			err = NotFound("Queued event with dag_id: `%s` and asset_id: `%d` was not found", in.DagID, in.ID)
		}
		l, err := r.queuedViews(qs, err)
		if err != nil {
			return QueuedEventResponse{}, err
		}
		return l.QueuedEvents[0], nil
	})
	Handle(a, ofDag("DELETE", "/dags/{dag_id}/assets/{asset_id}/queuedEvents", "delete_dag_asset_queued_event", "Delete Dag Asset Queued Event", auth.Delete), func(r *Request, in *queuedOne) (Empty, error) {
		qs, err := r.queuedOf(airflow.DagID(in.DagID), &in.ID, in.Before)
		if err == nil && len(qs) == 0 {
			err = NotFound("Queued event with dag_id: `%s` and asset_id: `%d` was not found", in.DagID, in.ID)
		}
		return r.unqueue(qs, err)
	})
}

// queuedOf reads what waits for a DAG, of an asset, or both, queued before a moment.
func (r *Request) queuedOf(dag airflow.DagID, asset *int64, before *Time) ([]store.QueuedAsset, error) {
	var key store.AssetKey
	if asset != nil {
		a, err := r.mustAsset(*asset)
		if err != nil {
			return nil, err
		}
		key = a.key()
	}
	var qs []store.QueuedAsset
	var err error
	if dag != "" {
		qs, err = r.API.Store.ListQueuedAssets(r.Context(), dag)
	} else {
		qs, err = r.API.Store.ListAllQueuedAssets(r.Context())
	}
	if err != nil {
		return nil, err
	}
	ms, shown := r.models(), map[airflow.DagID]bool{}
	for _, q := range qs {
		if shown[q.DagID], err = r.shows(ms, q.DagID); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(qs, func(q store.QueuedAsset) bool {
		return !shown[q.DagID] || asset != nil && (q.AssetName != key.Name || q.AssetURI != key.URI) || before != nil && !q.CreatedAt.Before(before.Time)
	}), nil
}

func (r *Request) queuedViews(qs []store.QueuedAsset, err error) (QueuedEventCollectionResponse, error) {
	out := QueuedEventCollectionResponse{QueuedEvents: []QueuedEventResponse{}, Total: len(qs)}
	ms := r.models()
	for _, q := range qs {
		if err != nil {
			break
		}
		var m airflow.DagModel
		var n store.Number
		if m, err = ms.dag(q.DagID); err == nil {
			n, err = r.API.number(r.Context(), assetNumbers, q.AssetName, q.AssetURI)
		}
		out.QueuedEvents = append(out.QueuedEvents, QueuedEventResponse{string(q.DagID), n.N, At(q.CreatedAt), displayName(m)})
	}
	return out, err
}

// unqueue forgets what waits.
func (r *Request) unqueue(qs []store.QueuedAsset, err error) (Empty, error) {
	for _, q := range qs {
		if err != nil {
			break
		}
		ids := []string{q.EventID}
		for _, w := range q.Waiting {
			ids = append(ids, w.ID)
		}
		err = r.API.Store.UnqueueAssets(r.Context(), q.DagID, ids)
	}
	return Empty{}, err
}

func createAssetEvent(r *Request, in *postAssetEvent) (AssetEventResponse, error) {
	b := in.Body
	if b.PartitionKey != nil {
		return AssetEventResponse{}, BadRequest("Asset events with a partition_key are not supported: there are no partitioned DAGs")
	}
	if c := b.AccessControl; c != nil && (len(c.ConsumerTeams) > 0 || !c.AllowGlobal) {
		return AssetEventResponse{}, BadRequest("access_control is not supported: there are no teams")
	}
	a, err := r.mustAsset(b.AssetID)
	if err != nil {
		return AssetEventResponse{}, err
	}
	ev, err := r.API.Engine.CreateAssetEvent(r.Context(), a.key(), fromREST(b.Extra.raw))
	if err != nil {
		return AssetEventResponse{}, err
	}
	// What it starts has not been made yet: Airflow's answer says so too.
	return r.assetEvent(ev, nil)
}

// fromREST adds to an event's extra that it came from here.
func fromREST(extra json.RawMessage) json.RawMessage {
	keys, vals, _ := objectFields(objectOr(extra))
	out := []byte("{")
	for _, k := range keys {
		if k != "from_rest_api" {
			out = append(append(append(append(out, textJSON(k)...), ':'), vals[k]...), ',')
		}
	}
	return append(out, `"from_rest_api":true}`...)
}

func (r *Request) assetEvent(e airflow.AssetEvent, runs map[string][]DagRunAssetReference) (AssetEventResponse, error) {
	n, err := r.API.number(r.Context(), assetNumbers, e.AssetName, e.AssetURI)
	if err != nil {
		return AssetEventResponse{}, err
	}
	group := "asset"
	rec, err := r.API.Store.GetAsset(r.Context(), store.AssetKey{Name: e.AssetName, URI: e.AssetURI})
	if err == nil {
		group = rec.Group
	}
	return AssetEventResponse{
		ID: numberAt(e.Timestamp, e.ID), AssetID: n.N, URI: &e.AssetURI, Name: &e.AssetName, Group: &group, Extra: objectOr(e.Extra), SourceTaskID: orNil(string(e.SourceTaskID)),
		SourceDagID: orNil(string(e.SourceDagID)), SourceRunID: orNil(string(e.SourceRunID)), SourceMapIndex: e.SourceMapIndex, CreatedDagruns: orEmpty(runs[e.ID]), Timestamp: At(e.Timestamp),
	}, unlessNotFound(err)
}

func (r *Request) assetEvents(es []airflow.AssetEvent) ([]AssetEventResponse, error) {
	runs, err := r.runsOfEvents(es)
	out := []AssetEventResponse{}
	ms := r.models()
	for _, e := range es {
		if err != nil {
			break
		}
		var ok bool
		if ok, err = r.shows(ms, e.SourceDagID); err == nil && !ok {
			e.SourceDagID, e.SourceRunID, e.SourceTaskID, e.SourceMapIndex = "", "", "", airflow.Unmapped
		}
		var v AssetEventResponse
		if err == nil {
			v, err = r.assetEvent(e, runs)
		}
		out = append(out, v)
	}
	return out, err
}

// runsReadForEvents bounds how many runs of a DAG are read to find those that took
// the events of an answer.
const runsReadForEvents = 1000

// runsOfEvents finds the runs that took events: those of the DAGs that the assets
// schedule, from the oldest event on.
func (r *Request) runsOfEvents(es []airflow.AssetEvent) (map[string][]DagRunAssetReference, error) {
	since := map[airflow.DagID]time.Time{}
	want := map[string]bool{}
	seen := map[store.AssetKey][]airflow.DagID{}
	for _, e := range es {
		want[e.ID] = true
		k := store.AssetKey{Name: e.AssetName, URI: e.AssetURI}
		dags, ok := seen[k]
		if !ok {
			rec, err := r.API.Store.GetAsset(r.Context(), k)
			if err := unlessNotFound(err); err != nil {
				return nil, err
			}
			dags = rec.ScheduledDags
			seen[k] = dags
		}
		for _, d := range dags {
			if t, ok := since[d]; !ok || e.Timestamp.Before(t) {
				since[d] = e.Timestamp
			}
		}
	}
	out := map[string][]DagRunAssetReference{}
	for _, dag := range sortedKeys(since) {
		m, err := r.API.Store.GetDag(r.Context(), dag)
		if err := unlessNotFound(err); err != nil {
			return nil, err
		}
		if !r.Who.May(auth.Read, auth.ResourceDagRun, string(dag), m.Tags) {
			continue
		}
		runs, _, err := r.API.Store.ListRuns(r.Context(), dag, store.ListOptions{From: store.RunsFrom(since[dag]), Limit: runsReadForEvents})
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			for i, id := range run.ConsumedAssetEvents {
				if want[id] {
					out[id] = append(out[id], DagRunAssetReference{
						RunID: string(run.RunID), DagID: string(run.DagID), LogicalDate: AtPtr(run.LogicalDate), StartDate: AtPtr(run.StartDate), EndDate: AtPtr(run.EndDate), State: string(run.State),
						DataIntervalStart: AtPtr(run.DataIntervalStart), DataIntervalEnd: AtPtr(run.DataIntervalEnd), Triggering: i == len(run.ConsumedAssetEvents)-1,
					})
				}
			}
		}
	}
	return out, nil
}

func sortedKeys[V any](m map[airflow.DagID]V) []airflow.DagID {
	out := make([]airflow.DagID, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func assetEventOrders() Orders[airflow.AssetEvent] {
	text := func(f func(airflow.AssetEvent) string) func(airflow.AssetEvent) SortKey {
		return func(e airflow.AssetEvent) SortKey { return ByTextPtr(orNil(f(e))) }
	}
	return Orders[airflow.AssetEvent]{By: map[string]func(airflow.AssetEvent) SortKey{
		"timestamp":        func(e airflow.AssetEvent) SortKey { return ByTime(&e.Timestamp) },
		"source_dag_id":    text(func(e airflow.AssetEvent) string { return string(e.SourceDagID) }),
		"source_task_id":   text(func(e airflow.AssetEvent) string { return string(e.SourceTaskID) }),
		"source_run_id":    text(func(e airflow.AssetEvent) string { return string(e.SourceRunID) }),
		"source_map_index": func(e airflow.AssetEvent) SortKey { return ByInt(int64(e.SourceMapIndex)) },
	}, Default: []string{"timestamp"}, ID: func(e airflow.AssetEvent) SortKey { return SortKey{I: numberAt(e.Timestamp, e.ID), S: e.ID} }}
}

// bounds are the inclusive bounds of a range for an access path.
func (t timestampRange) bounds() (from, to *time.Time) {
	from, to = utc(t.Gte), utc(t.Lte)
	if t.Gt != nil && (from == nil || t.Gt.After(*from)) {
		from = utc(t.Gt)
	}
	if t.Lt != nil && (to == nil || t.Lt.Before(*to)) {
		to = utc(t.Lt)
	}
	return from, to
}

func getAssetEvents(r *Request, in *listAssetEvents) (AssetEventCollectionResponse, error) {
	out := AssetEventCollectionResponse{AssetEvents: []AssetEventResponse{}}
	var key store.AssetKey
	if in.AssetID != nil {
		a, err := r.mustAsset(*in.AssetID)
		if e, ok := err.(*Error); ok && e.Status == 404 { // a filter that nothing matches
			return out, nil
		}
		if err != nil {
			return out, err
		}
		key = a.key()
	}
	from, to := in.bounds()
	back := newestFirst(in.OrderBy, "timestamp")
	read := func(ctx context.Context, cursor string, limit int) ([]airflow.AssetEvent, string, error) {
		return r.API.Store.ListAssetEventsBetween(ctx, key, from, to, store.ListOptions{Limit: limit, Cursor: cursor, Descending: back})
	}
	is := func(want *string, s string) bool { return want == nil || *want == s }
	name, prefix, when := Pattern(in.Name), Prefix(in.NamePrefix), TimeRange(in.timestampRange)
	ms, bySource := r.models(), in.SourceDagID != nil || in.SourceTaskID != nil || in.SourceRunID != nil || in.SourceMapIndex != nil || len(in.OrderBy) > 0
	p, err := List(r, in.query(in.Ordering), assetEventOrders(), read, func(e airflow.AssetEvent) bool {
		if bySource { // what is not told is not looked for, nor ordered by
			if ok, err := r.shows(ms, e.SourceDagID); err != nil || !ok {
				return false
			}
		}
		return is(in.SourceDagID, string(e.SourceDagID)) && is(in.SourceTaskID, string(e.SourceTaskID)) && is(in.SourceRunID, string(e.SourceRunID)) &&
			(in.SourceMapIndex == nil || *in.SourceMapIndex == e.SourceMapIndex) && name(e.AssetName) && prefix(e.AssetName) && when.OK(&e.Timestamp)
	})
	if err != nil {
		return out, err
	}
	out.Total, out.TotalLimit, out.Next = p.Total, p.TotalLimit, p.Next
	out.AssetEvents, err = r.assetEvents(p.Items)
	return out, err
}

// getUpstreamEvents lists the events that a run took, by time. They are looked for
// from the run back, among at most ReadLimit events.
func getUpstreamEvents(r *Request, _ *runPath) (AssetEventCollectionResponse, error) {
	out := AssetEventCollectionResponse{AssetEvents: []AssetEventResponse{}}
	run, err := r.mustRun()
	if err != nil || len(run.ConsumedAssetEvents) == 0 {
		return out, err
	}
	want := map[string]bool{}
	for _, id := range run.ConsumedAssetEvents {
		want[id] = true
	}
	var es []airflow.AssetEvent
	for cursor, n := "", 0; len(want) > 0 && n < r.API.ReadLimit; {
		page, next, err := r.API.Store.ListAssetEventsBetween(r.Context(), store.AssetKey{}, nil, &run.RunAfter, store.ListOptions{Limit: 500, Cursor: cursor, Descending: true})
		if err != nil {
			return out, err
		}
		for _, e := range page {
			if want[e.ID] {
				delete(want, e.ID)
				es = append(es, e)
			}
		}
		n += len(page)
		if cursor = next; next == "" {
			break
		}
	}
	slices.Reverse(es)
	out.Total = len(es)
	out.AssetEvents, err = r.assetEvents(es)
	return out, err
}
