package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// HITLUser is a person who may answer, or has.
type HITLUser struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// HITLRequest is what a request to people consists of, with what came of it.
type HITLRequest struct {
	Options          []string        `json:"options"`
	Subject          string          `json:"subject"`
	Body             *string         `json:"body"`
	Defaults         []string        `json:"defaults" nullable:"true"`
	Multiple         bool            `json:"multiple"`
	Params           json.RawMessage `json:"params"`
	AssignedUsers    []HITLUser      `json:"assigned_users"`
	CreatedAt        Time            `json:"created_at"`
	RespondedByUser  *HITLUser       `json:"responded_by_user"`
	RespondedAt      *Time           `json:"responded_at"`
	ChosenOptions    []string        `json:"chosen_options" nullable:"true"`
	ParamsInput      json.RawMessage `json:"params_input"`
	ResponseReceived bool            `json:"response_received"`
}

// HITLDetail is the request of an instance's present try.
type HITLDetail struct {
	HITLRequest
	TaskInstance TaskInstanceResponse `json:"task_instance"`
}

// HITLDetailHistory is the request of some try.
type HITLDetailHistory struct {
	HITLRequest
	TaskInstance TaskInstanceHistoryResponse `json:"task_instance"`
}

// HITLDetailCollection is a list of requests.
type HITLDetailCollection struct {
	Details []HITLDetail `json:"hitl_details"`
	Total   int          `json:"total_entries"`
}

// HITLDetailResponse is an answer as it was stored.
type HITLDetailResponse struct {
	RespondedBy   HITLUser        `json:"responded_by"`
	RespondedAt   Time            `json:"responded_at"`
	ChosenOptions []string        `json:"chosen_options"`
	ParamsInput   json.RawMessage `json:"params_input"`
}

// UpdateHITLDetailPayload is an answer.
type UpdateHITLDetailPayload struct {
	ChosenOptions []string       `json:"chosen_options" required:"true" minitems:"1"`
	ParamsInput   map[string]any `json:"params_input" required:"false"`
}

type listHITL struct {
	Paging
	Ordering
	DagID         string   `path:"dag_id"`
	RunID         string   `path:"dag_run_id"`
	DagIDPattern  *string  `query:"dag_id_pattern"`
	DagIDPrefix   *string  `query:"dag_id_prefix_pattern"`
	TaskID        *string  `query:"task_id"`
	TaskIDPattern *string  `query:"task_id_pattern"`
	TaskIDPrefix  *string  `query:"task_id_prefix_pattern"`
	MapIndex      *int     `query:"map_index"`
	State         []string `query:"state"`
	Received      *bool    `query:"response_received"`
	UserID        []string `query:"responded_by_user_id"`
	UserName      []string `query:"responded_by_user_name"`
	Subject       *string  `query:"subject_search"`
	BodyText      *string  `query:"body_search"`
	CreatedGte    *Time    `query:"created_at_gte"`
	CreatedGt     *Time    `query:"created_at_gt"`
	CreatedLte    *Time    `query:"created_at_lte"`
	CreatedLt     *Time    `query:"created_at_lt"`
}

type hitlTry struct {
	tiMapped
	Try int `path:"try_number"`
}

type answerHITL struct {
	tiMapped
	Body UpdateHITLDetailPayload
}

func registerHITL(a *API) {
	const run = Base + "/dags/{dag_id}/dagRuns/{dag_run_id}"
	const one = run + "/taskInstances/{task_id}/{map_index}/hitlDetails"
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: path, ID: id, Tag: "Task Instance", Summary: summary, Action: act, Resource: auth.ResourceHITL}
	}
	list := op("GET", run+"/hitlDetails", "get_hitl_details", "Get Hitl Details", auth.Read)
	list.Indexed = []string{"response_received"}
	Handle(a, list, getHITLs)
	Handle(a, op("GET", one, "get_hitl_detail", "Get Hitl Detail", auth.Read), func(r *Request, in *tiMapped) (HITLDetail, error) {
		t, err := r.mustTI(in.MapIndex)
		if err != nil {
			return HITLDetail{}, err
		}
		d, err := r.hitlOf(t, t.TryNumber)
		if err != nil {
			return HITLDetail{}, err
		}
		vs, err := r.respond([]tiRow{*t})
		if err != nil {
			return HITLDetail{}, err
		}
		return HITLDetail{hitlView(d), vs[0]}, nil
	})
	Handle(a, op("GET", one+"/tries/{try_number}", "get_hitl_detail_try_detail", "Get Hitl Detail Try Detail", auth.Read), func(r *Request, in *hitlTry) (HITLDetailHistory, error) {
		ti, err := r.oneTry(in.MapIndex, in.Try)
		if err != nil {
			return HITLDetailHistory{}, err
		}
		t, err := r.mustTI(in.MapIndex)
		if err != nil {
			return HITLDetailHistory{}, err
		}
		d, err := r.hitlOf(t, in.Try)
		return HITLDetailHistory{hitlView(d), ti}, err
	})
	Handle(a, op("PATCH", one, "update_hitl_detail", "Update Hitl Detail", auth.Edit), answerHITLDetail)
}

// hitlOf reads the request of a try of an instance, 404 if it made none.
func (r *Request) hitlOf(t *tiRow, try int) (engine.HITLDetail, error) {
	h, err := r.API.Store.GetHITL(r.Context(), t.TaskInstanceKey, try)
	if errors.Is(err, airflow.ErrNotFound) {
		return engine.HITLDetail{}, noHITL(t)
	}
	if err != nil {
		return engine.HITLDetail{}, err
	}
	return engine.ReadHITL(h)
}

func noHITL(t *tiRow) error {
	return NotFound("Human-in-the-loop detail does not exist for Task Instance with id %s", t.uuid())
}

func hitlView(d engine.HITLDetail) HITLRequest {
	q := d.Request
	v := HITLRequest{
		Options: orEmpty(q.Options), Subject: q.Subject, Body: orNil(q.Body), Defaults: q.Defaults, Multiple: q.Multiple, Params: q.Params,
		AssignedUsers: []HITLUser{}, CreatedAt: At(d.CreatedAt), ParamsInput: json.RawMessage("{}"),
	}
	if len(q.Params) == 0 || isNull(q.Params) {
		v.Params = json.RawMessage("{}")
	}
	for _, u := range d.AssignedUsers {
		v.AssignedUsers = append(v.AssignedUsers, HITLUser(u))
	}
	if d.Response != nil {
		v.ResponseReceived, v.RespondedAt, v.ChosenOptions = true, AtPtr(&d.RespondedAt), d.Response.ChosenOptions
		if len(d.Response.ParamsInput) > 0 {
			v.ParamsInput = d.Response.ParamsInput
		}
	}
	if d.RespondedBy != nil {
		v.RespondedByUser = ptrTo(HITLUser(*d.RespondedBy))
	}
	return v
}

// hitlRow is a request in a list.
type hitlRow struct {
	engine.HITLDetail
	ti tiRow
}

func (h hitlRow) responder() (id, name *string) {
	if h.RespondedBy == nil {
		return nil, nil
	}
	return &h.RespondedBy.ID, &h.RespondedBy.Name
}

func hitlOrders() Orders[hitlRow] {
	id := func(h hitlRow) SortKey {
		return SortKey{I: h.CreatedAt.UnixMicro(), S: h.Key.String()}
	}
	return Orders[hitlRow]{By: map[string]func(hitlRow) SortKey{
		"ti_id": id, "subject": func(h hitlRow) SortKey { return ByText(h.Request.Subject) },
		"created_at":             func(h hitlRow) SortKey { return ByTime(&h.CreatedAt) },
		"responded_at":           func(h hitlRow) SortKey { return ByTime(&h.RespondedAt) },
		"responded_by_user_id":   func(h hitlRow) SortKey { id, _ := h.responder(); return ByTextPtr(id) },
		"responded_by_user_name": func(h hitlRow) SortKey { _, n := h.responder(); return ByTextPtr(n) },
		"dag_id":                 func(h hitlRow) SortKey { return ByText(string(h.Key.DagID)) },
		"run_id":                 func(h hitlRow) SortKey { return ByText(string(h.Key.RunID)) },
		"task_display_name": func(h hitlRow) SortKey {
			if x := h.ti.task(); x != nil {
				return ByText(orText(x.DisplayName, string(h.Key.TaskID)))
			}
			return ByText(string(h.Key.TaskID))
		},
		"run_after": func(h hitlRow) SortKey { return ByTime(&h.ti.run.RunAfter) },
		"rendered_map_index": func(h hitlRow) SortKey {
			if h.Key.MapIndex < 0 {
				return SortKey{Null: true}
			}
			return ByText(h.ti.shownIndex())
		},
		"task_instance_operator": func(h hitlRow) SortKey { return ByTextPtr(orNil(h.ti.Operator)) },
		"task_instance_state":    func(h hitlRow) SortKey { return ByTextPtr(stateText(h.ti.State)) },
	}, Default: []string{"ti_id"}, ID: id}
}

// getHITLs lists the requests of the instances' present tries.
func getHITLs(r *Request, in *listHITL) (HITLDetailCollection, error) {
	out := HITLDetailCollection{Details: []HITLDetail{}}
	states, err := parseTIStates(in.State)
	if err != nil {
		return out, err
	}
	if slices.Contains(in.State, "awaiting_input") {
		states = append(states, airflow.TIDeferred) // what it is here
	}
	if in.DagID != "~" {
		if _, err := r.mustDag(); err != nil {
			return out, err
		}
		if in.RunID != "~" {
			if _, err := r.mustRun(); err != nil {
				return out, err
			}
		}
	}
	statuses := []store.HITLStatus{store.HITLOpen, store.HITLClosed, store.HITLAnswered}
	if in.Received != nil && *in.Received {
		statuses = statuses[2:]
	} else if in.Received != nil {
		statuses = statuses[:2]
	}
	dag, dagPrefix := Pattern(in.DagIDPattern), Prefix(in.DagIDPrefix)
	task, taskPrefix := Pattern(in.TaskIDPattern), Prefix(in.TaskIDPrefix)
	subject, body := Pattern(in.Subject), Pattern(in.BodyText)
	created := TimeRange{in.CreatedGte, in.CreatedGt, in.CreatedLte, in.CreatedLt}
	ms := r.models()
	read := func(ctx context.Context) ([]hitlRow, error) {
		hs, err := r.API.Store.ListHITLs(ctx, statuses...)
		if err != nil {
			return nil, err
		}
		var rows []hitlRow
		views := map[store.RunKey][]tiRow{}
		for _, h := range hs {
			k := h.Key
			if in.DagID != "~" && string(k.DagID) != in.DagID || in.RunID != "~" && string(k.RunID) != in.RunID || !dag(string(k.DagID)) || !dagPrefix(string(k.DagID)) ||
				in.TaskID != nil && string(k.TaskID) != *in.TaskID || !task(string(k.TaskID)) || !taskPrefix(string(k.TaskID)) || in.MapIndex != nil && k.MapIndex != *in.MapIndex || !created.OK(&h.CreatedAt) {
				continue
			}
			d, err := engine.ReadHITL(h)
			if err != nil {
				return nil, err
			}
			id, name := hitlRow{HITLDetail: d}.responder()
			if !subject(d.Request.Subject) || notAll(in.BodyText) && (d.Request.Body == "" || !body(d.Request.Body)) ||
				len(in.UserID) > 0 && (id == nil || !slices.Contains(in.UserID, *id)) || len(in.UserName) > 0 && (name == nil || !slices.Contains(in.UserName, *name)) {
				continue
			}
			m, err := ms.dag(k.DagID)
			if err != nil {
				return nil, err
			}
			if !r.May(m) {
				continue
			}
			rk := store.RunKey{DagID: k.DagID, RunID: k.RunID}
			ts, known := views[rk]
			if !known {
				if ts, err = r.rowsOf(ctx, rk); err != nil {
					return nil, err
				}
				views[rk] = ts
			}
			// The request of a try that was cleared is history.
			if t := find(ts, string(k.TaskID), k.MapIndex); t != nil && t.TryNumber == h.TryNumber && oneIn(states, t.State) {
				rows = append(rows, hitlRow{d, *t})
			}
		}
		return rows, nil
	}
	p, err := List(r, in.query(in.Ordering), hitlOrders(), All(read), func(hitlRow) bool { return true })
	if err != nil {
		return out, err
	}
	ts := make([]tiRow, len(p.Items))
	for i, h := range p.Items {
		ts[i] = h.ti
	}
	vs, err := r.respond(ts)
	if err != nil {
		return out, err
	}
	for i, h := range p.Items {
		out.Details = append(out.Details, HITLDetail{hitlView(h.HITLDetail), vs[i]})
	}
	out.Total = p.Total
	return out, nil
}

// rowsOf reads the instances of a run; one that is gone has none.
func (r *Request) rowsOf(ctx context.Context, k store.RunKey) ([]tiRow, error) {
	run, err := r.API.Store.GetRun(ctx, k)
	if err == nil {
		var ts []tiRow
		if ts, err = r.viewRows(ctx, run); err == nil {
			return ts, nil
		}
	}
	if errors.Is(err, airflow.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}

func answerHITLDetail(r *Request, in *answerHITL) (HITLDetailResponse, error) {
	t, err := r.mustTI(in.MapIndex)
	if err != nil {
		return HITLDetailResponse{}, err
	}
	a := engine.HITLAnswer{ChosenOptions: in.Body.ChosenOptions, User: engine.HITLUser{ID: r.Who.Name, Name: r.Who.Name}}
	if _, members, ok := objectFields(r.RawBody); ok {
		a.ParamsInput = members["params_input"] // as it came: numbers keep their digits
	}
	d, err := r.API.Engine.AnswerHITL(r.Context(), t.TaskInstanceKey, a)
	var invalid *airflow.InvalidError
	switch {
	case errors.Is(err, airflow.ErrNotFound):
		return HITLDetailResponse{}, noHITL(t)
	case errors.Is(err, airflow.ErrNotAllowed):
		return HITLDetailResponse{}, Errorf(http.StatusForbidden, "User=%s (id=%s) is not a respondent for the task", r.Who.Name, r.Who.Name)
	case errors.Is(err, airflow.ErrConflict) && d.Response != nil:
		return HITLDetailResponse{}, Conflict("Human-in-the-loop detail has already been updated for Task Instance with id %s", t.uuid())
	case errors.Is(err, airflow.ErrConflict):
		return HITLDetailResponse{}, Conflict("Task Instance with id %s does not wait for an answer any more", t.uuid())
	case errors.As(err, &invalid):
		return HITLDetailResponse{}, BadRequest("%s", invalid.Error())
	case err != nil:
		return HITLDetailResponse{}, err
	}
	v := hitlView(d)
	return HITLDetailResponse{RespondedBy: *v.RespondedByUser, RespondedAt: *v.RespondedAt, ChosenOptions: v.ChosenOptions, ParamsInput: v.ParamsInput}, nil
}

// uuid is the id that the API shows of an instance.
func (t *tiRow) uuid() string {
	return uuidOf("task_instance", t.DagID, t.RunID, t.TaskID, t.MapIndex, t.TryNumber, t.MaxTries)
}
