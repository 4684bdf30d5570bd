package restapi

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// BackfillResponse is a backfill.
type BackfillResponse struct {
	ID                int64           `json:"id"`
	DagID             string          `json:"dag_id"`
	FromDate          Time            `json:"from_date"`
	ToDate            Time            `json:"to_date"`
	DagRunConf        json.RawMessage `json:"dag_run_conf"`
	IsPaused          bool            `json:"is_paused"`
	ReprocessBehavior string          `json:"reprocess_behavior"`
	MaxActiveRuns     int             `json:"max_active_runs"`
	CreatedAt         Time            `json:"created_at"`
	CompletedAt       *Time           `json:"completed_at"`
	UpdatedAt         Time            `json:"updated_at"`
	DagDisplayName    string          `json:"dag_display_name"`
}

// BackfillCollectionResponse is a list of backfills.
type BackfillCollectionResponse struct {
	Backfills  []BackfillResponse `json:"backfills"`
	Total      int                `json:"total_entries"`
	TotalLimit *int               `json:"total_entries_limit,omitempty"`
	Next       *string            `json:"next_cursor,omitempty"`
}

// BackfillPostBody asks for a backfill.
type BackfillPostBody struct {
	Closed
	DagID              string     `json:"dag_id"`
	FromDate           Time       `json:"from_date"`
	ToDate             Time       `json:"to_date"`
	RunBackwards       bool       `json:"run_backwards" default:"false"`
	DagRunConf         confObject `json:"dag_run_conf" required:"false" nullable:"true"`
	ReprocessBehavior  string     `json:"reprocess_behavior" default:"none" enum:"failed,completed,none"`
	MaxActiveRuns      int        `json:"max_active_runs" default:"10"`
	RunOnLatestVersion *bool      `json:"run_on_latest_version"`
}

// DryRunBackfillResponse is a run that a backfill would make.
type DryRunBackfillResponse struct {
	LogicalDate   *Time   `json:"logical_date"`
	PartitionKey  *string `json:"partition_key"`
	PartitionDate *Time   `json:"partition_date"`
}

// DryRunBackfillCollectionResponse is what a backfill would make.
type DryRunBackfillCollectionResponse struct {
	Backfills []DryRunBackfillResponse `json:"backfills"`
	Total     int                      `json:"total_entries"`
}

type listBackfills struct {
	CursorPaging
	Ordering
	DagID string `query:"dag_id"`
}

type backfillPath struct {
	ID int64 `path:"backfill_id"`
}

type postBackfill struct{ Body BackfillPostBody }

func registerBackfills(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + "/backfills" + path, ID: id, Tag: "Backfill", Summary: summary, Action: act, Resource: auth.ResourceBackfill}
	}
	list := op("GET", "", "list_backfills", "List Backfills", auth.Read)
	list.Indexed = []string{"order_by=id"}
	Handle(a, list, getBackfills)
	Handle(a, op("POST", "", "create_backfill", "Create Backfill", auth.Create), func(r *Request, in *postBackfill) (BackfillResponse, error) {
		b, _, err := r.backfill(&in.Body, false)
		return r.backfillView(b, err)
	})
	dry := op("POST", "/dry_run", "create_backfill_dry_run", "Create Backfill Dry Run", auth.Create)
	dry.Event = "-"
	Handle(a, dry, func(r *Request, in *postBackfill) (DryRunBackfillCollectionResponse, error) {
		_, runs, err := r.backfill(&in.Body, true)
		out := DryRunBackfillCollectionResponse{Backfills: []DryRunBackfillResponse{}, Total: len(runs)}
		for _, b := range runs {
			out.Backfills = append(out.Backfills, DryRunBackfillResponse{LogicalDate: ptrTo(At(b.LogicalDate))})
		}
		return out, err
	})
	Handle(a, op("GET", "/{backfill_id}", "get_backfill", "Get Backfill", auth.Read), func(r *Request, in *backfillPath) (BackfillResponse, error) {
		return r.backfillView(r.mustBackfill(in.ID))
	})
	for _, x := range []struct {
		verb, id, summary string
		do                func(r *Request, id int64) (airflow.Backfill, error)
	}{
		{"pause", "pause_backfill", "Pause Backfill", func(r *Request, id int64) (airflow.Backfill, error) {
			return r.API.Engine.PauseBackfill(r.Context(), id, true)
		}},
		{"unpause", "unpause_backfill", "Unpause Backfill", func(r *Request, id int64) (airflow.Backfill, error) {
			return r.API.Engine.PauseBackfill(r.Context(), id, false)
		}},
		{"cancel", "cancel_backfill", "Cancel Backfill", func(r *Request, id int64) (airflow.Backfill, error) {
			return r.API.Engine.CancelBackfill(r.Context(), id, r.Who.Name)
		}},
	} {
		Handle(a, op("PUT", "/{backfill_id}/"+x.verb, x.id, x.summary, auth.Edit), func(r *Request, in *backfillPath) (BackfillResponse, error) {
			if _, err := r.mustBackfill(in.ID); err != nil {
				return BackfillResponse{}, err
			}
			b, err := x.do(r, in.ID)
			if errors.Is(err, airflow.ErrNotAllowed) {
				return BackfillResponse{}, Conflict("Backfill is already completed.")
			}
			return r.backfillView(b, err)
		})
	}
}

// mayDag reads a DAG that is named by something other than the path, and asks
// whether the operation is permitted on it.
func (r *Request) mayDag(id airflow.DagID) (airflow.DagModel, error) {
	m, err := r.API.Store.GetDag(r.Context(), id)
	if err := unlessNotFound(err); err != nil {
		return m, err
	}
	m.DagID = id
	if !r.May(m) {
		return m, Errorf(403, "Forbidden")
	}
	return m, err
}

// mustBackfill reads a backfill that who asks may see or change.
func (r *Request) mustBackfill(id int64) (airflow.Backfill, error) {
	b, err := r.API.Store.GetBackfill(r.Context(), id)
	if errors.Is(err, airflow.ErrNotFound) {
		return b, NotFound("Could not find backfill with id %d", id)
	}
	if err != nil {
		return b, err
	}
	_, err = r.mayDag(b.DagID)
	return b, unlessNotFound(err) // the backfill of a DAG that was deleted
}

func (r *Request) backfillView(b airflow.Backfill, err error) (BackfillResponse, error) {
	if err != nil {
		return BackfillResponse{}, err
	}
	m, err := r.models().dag(b.DagID)
	return backfillResponse(b, displayName(m)), err
}

func backfillResponse(b airflow.Backfill, name string) BackfillResponse {
	conf := b.DagRunConf
	if len(conf) == 0 {
		conf = json.RawMessage("null")
	}
	return BackfillResponse{
		ID: b.ID, DagID: string(b.DagID), FromDate: At(b.FromDate), ToDate: At(b.ToDate), DagRunConf: conf, IsPaused: b.IsPaused, ReprocessBehavior: string(b.ReprocessBehavior),
		MaxActiveRuns: b.MaxActiveRuns, CreatedAt: At(b.CreatedAt), CompletedAt: AtPtr(b.CompletedAt), UpdatedAt: At(b.UpdatedAt), DagDisplayName: name,
	}
}

func getBackfills(r *Request, in *listBackfills) (BackfillCollectionResponse, error) {
	out := BackfillCollectionResponse{Backfills: []BackfillResponse{}}
	m, err := r.mayDag(airflow.DagID(in.DagID))
	if err := unlessNotFound(err); err != nil {
		return out, err
	}
	id := func(b airflow.Backfill) SortKey { return ByInt(b.ID) }
	back := newestFirst(in.OrderBy, "id")
	read := func(ctx context.Context, cursor string, limit int) ([]airflow.Backfill, string, error) {
		return r.API.Store.ListBackfillsPage(ctx, store.ListOptions{Limit: limit, Cursor: cursor, Descending: back})
	}
	o := Orders[airflow.Backfill]{By: map[string]func(airflow.Backfill) SortKey{"id": id}, Default: []string{"id"}, ID: id}
	p, err := List(r, in.query(in.Ordering), o, read, func(b airflow.Backfill) bool { return string(b.DagID) == in.DagID })
	out.Total, out.TotalLimit, out.Next = p.Total, p.TotalLimit, p.Next
	for _, b := range p.Items {
		out.Backfills = append(out.Backfills, backfillResponse(b, displayName(m)))
	}
	return out, err
}

// newestFirst reports whether order_by begins with one of the names of an access
// path's own order, the other way round.
func newestFirst(by []string, names ...string) bool {
	if len(by) == 0 {
		return false
	}
	for _, n := range names {
		if by[0] == "-"+n {
			return true
		}
	}
	return false
}

// backfill makes a backfill, or says what it would make.
func (r *Request) backfill(b *BackfillPostBody, dry bool) (airflow.Backfill, []engine.BackfillRun, error) {
	none := airflow.Backfill{}
	m, err := r.mayDag(airflow.DagID(b.DagID))
	if errors.Is(err, airflow.ErrNotFound) || err == nil && m.IsStale {
		return none, nil, NotFound("Could not find dag %s", b.DagID)
	}
	if err != nil {
		return none, nil, err
	}
	latest := true
	if b.RunOnLatestVersion != nil {
		latest = *b.RunOnLatestVersion
	} else if g, err := r.API.Engine.Graph(r.Context(), m.LatestHash); err == nil && g.DAG.RerunWithLatestVersion != nil {
		latest = *g.DAG.RerunWithLatestVersion
	}
	out, runs, err := r.API.Engine.CreateBackfill(r.Context(), engine.BackfillRequest{DryRun: dry, User: r.Who.Name, Backfill: airflow.Backfill{
		DagID: m.DagID, FromDate: b.FromDate.UTC(), ToDate: b.ToDate.UTC(), DagRunConf: b.DagRunConf.raw, ReprocessBehavior: airflow.ReprocessBehavior(b.ReprocessBehavior),
		Reverse: b.RunBackwards, RunOnLatestVersion: latest, MaxActiveRuns: b.MaxActiveRuns,
	}})
	var invalid *airflow.InvalidError
	switch {
	case errors.As(err, &invalid):
		text := ""
		for i, p := range invalid.Problems {
			if i > 0 {
				text += "\n"
			}
			text += p.Message
		}
		return none, nil, Unprocessable("%s", text)
	case errors.Is(err, airflow.ErrAlreadyExists):
		return none, nil, Conflict("There is already a running backfill for dag %s", m.DagID)
	}
	return out, runs, err
}
