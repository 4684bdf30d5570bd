package restapi

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

// EventLogResponse is an entry of the audit log.
type EventLogResponse struct {
	EventLogID      int64   `json:"event_log_id"`
	When            Time    `json:"when"`
	DagID           *string `json:"dag_id"`
	TaskID          *string `json:"task_id"`
	RunID           *string `json:"run_id"`
	MapIndex        *int    `json:"map_index"`
	TryNumber       *int    `json:"try_number"`
	Event           string  `json:"event"`
	LogicalDate     *Time   `json:"logical_date"`
	Owner           *string `json:"owner"`
	Extra           *string `json:"extra"`
	DagDisplayName  *string `json:"dag_display_name"`
	TaskDisplayName *string `json:"task_display_name"`
	// Source is where the change came from: a network address. Airflow has no such member.
	Source *string `json:"source"`
}

// EventLogCollectionResponse is a part of the audit log.
type EventLogCollectionResponse struct {
	EventLogs  []EventLogResponse `json:"event_logs"`
	Total      int                `json:"total_entries"`
	TotalLimit *int               `json:"total_entries_limit,omitempty"`
	Next       *string            `json:"next_cursor,omitempty"`
}

type listEventLogs struct {
	CursorPaging
	Ordering
	DagID          *string  `query:"dag_id"`
	TaskID         *string  `query:"task_id"`
	RunID          *string  `query:"run_id"`
	MapIndex       *int     `query:"map_index"`
	TryNumber      *int     `query:"try_number"`
	Owner          *string  `query:"owner"`
	Event          *string  `query:"event"`
	ExcludedEvents []string `query:"excluded_events"`
	IncludedEvents []string `query:"included_events"`
	Before         *Time    `query:"before"`
	After          *Time    `query:"after"`
	DagIDLike      *string  `query:"dag_id_pattern"`
	DagIDPrefix    *string  `query:"dag_id_prefix_pattern"`
	TaskIDLike     *string  `query:"task_id_pattern"`
	TaskIDPrefix   *string  `query:"task_id_prefix_pattern"`
	RunIDLike      *string  `query:"run_id_pattern"`
	RunIDPrefix    *string  `query:"run_id_prefix_pattern"`
	OwnerLike      *string  `query:"owner_pattern"`
	OwnerPrefix    *string  `query:"owner_prefix_pattern"`
	EventLike      *string  `query:"event_pattern"`
	EventPrefix    *string  `query:"event_prefix_pattern"`
}

type eventLogPath struct {
	ID int64 `path:"event_log_id"`
}

func registerEventLogs(a *API) {
	op := Op{Method: "GET", Path: Base + "/eventLogs", ID: "get_event_logs", Tag: "Event Log", Summary: "Get Event Logs", Action: auth.Read, Resource: auth.ResourceAuditLog, Indexed: []string{"before", "after", "order_by=event_log_id", "order_by=when"}}
	Handle(a, op, getEventLogs)
	op.Path, op.ID, op.Summary, op.Indexed = Base+"/eventLogs/{event_log_id}", "get_event_log", "Get Event Log", nil
	Handle(a, op, func(r *Request, in *eventLogPath) (EventLogResponse, error) {
		at := timeOfNumber(in.ID)
		es, _, err := r.API.Store.ListAuditBetween(r.Context(), &at, &at, store.ListOptions{})
		if err != nil {
			return EventLogResponse{}, err
		}
		for _, e := range es {
			if numberAt(e.When, e.ID) == in.ID {
				return r.eventLog(e, r.models())
			}
		}
		return EventLogResponse{}, NotFound("The Event Log with id: `%d` not found", in.ID)
	})
}

// eventLog is an entry as it is shown.
func (r *Request) eventLog(e store.AuditEvent, ms *models) (EventLogResponse, error) {
	out := EventLogResponse{
		EventLogID: numberAt(e.When, e.ID), When: At(e.When), DagID: orNil(string(e.DagID)), TaskID: orNil(string(e.TaskID)), RunID: orNil(string(e.RunID)), MapIndex: e.MapIndex,
		TryNumber: e.TryNumber, Event: e.Event, Owner: orNil(e.Owner), Extra: extraOf(e), Source: orNil(e.Source),
	}
	if e.DagID == "" {
		return out, nil
	}
	m, err := ms.dag(e.DagID)
	if err != nil || m.LatestHash == "" { // deleted
		return out, err
	}
	out.DagDisplayName = ptrTo(displayName(m))
	if e.TaskID != "" {
		if g, err := r.API.Engine.Graph(r.Context(), m.LatestHash); err == nil {
			for i := range g.Tasks {
				if g.Tasks[i].ID == e.TaskID {
					out.TaskDisplayName = ptrTo(orText(g.Tasks[i].Task.DisplayName, string(e.TaskID)))
				}
			}
		}
	}
	return out, nil
}

// extraOf is the extra of an entry as a text; null for none.
func extraOf(e store.AuditEvent) *string {
	if len(e.Extra) == 0 || isNull(e.Extra) {
		return nil
	}
	var s string
	if isKind(e.Extra, '"') && json.Unmarshal(e.Extra, &s) == nil {
		return &s
	}
	return ptrTo(PythonJSON(e.Extra))
}

func eventLogOrders() Orders[store.AuditEvent] {
	text := func(f func(store.AuditEvent) string) func(store.AuditEvent) SortKey {
		return func(e store.AuditEvent) SortKey { return ByTextPtr(orNil(f(e))) }
	}
	id := func(e store.AuditEvent) SortKey { return SortKey{I: numberAt(e.When, e.ID), S: e.ID} }
	when := func(e store.AuditEvent) SortKey { return ByTime(&e.When) }
	return Orders[store.AuditEvent]{By: map[string]func(store.AuditEvent) SortKey{
		"id": id, "event_log_id": id, "dttm": when, "when": when,
		"dag_id":       text(func(e store.AuditEvent) string { return string(e.DagID) }),
		"task_id":      text(func(e store.AuditEvent) string { return string(e.TaskID) }),
		"run_id":       text(func(e store.AuditEvent) string { return string(e.RunID) }),
		"event":        text(func(e store.AuditEvent) string { return e.Event }),
		"owner":        text(func(e store.AuditEvent) string { return e.Owner }),
		"extra":        func(e store.AuditEvent) SortKey { return ByTextPtr(extraOf(e)) },
		"logical_date": func(store.AuditEvent) SortKey { return SortKey{Null: true} }, // entries have none
	}, Default: []string{"id"}, ID: id}
}

func (in *listEventLogs) keep() func(store.AuditEvent) bool {
	type likes struct{ match, prefix func(string) bool }
	of := func(p, q *string) likes { return likes{Pattern(p), Prefix(q)} }
	ok := func(l likes, like, prefix *string, s string) bool {
		// A null is like nothing, in a database.
		return (like == nil && prefix == nil) || s != "" && l.match(s) && l.prefix(s)
	}
	dag, task, run := of(in.DagIDLike, in.DagIDPrefix), of(in.TaskIDLike, in.TaskIDPrefix), of(in.RunIDLike, in.RunIDPrefix)
	owner, event := of(in.OwnerLike, in.OwnerPrefix), of(in.EventLike, in.EventPrefix)
	is := func(want *string, s string) bool { return want == nil || *want == s }
	isN := func(want, n *int) bool { return want == nil || n != nil && *n == *want }
	when := TimeRange{Gte: in.After, Lte: in.Before}
	return func(e store.AuditEvent) bool {
		return is(in.DagID, string(e.DagID)) && is(in.TaskID, string(e.TaskID)) && is(in.RunID, string(e.RunID)) && is(in.Owner, e.Owner) && is(in.Event, e.Event) &&
			isN(in.MapIndex, e.MapIndex) && isN(in.TryNumber, e.TryNumber) && !slices.Contains(in.ExcludedEvents, e.Event) && oneIn(in.IncludedEvents, e.Event) && when.OK(&e.When) &&
			ok(dag, in.DagIDLike, in.DagIDPrefix, string(e.DagID)) && ok(task, in.TaskIDLike, in.TaskIDPrefix, string(e.TaskID)) &&
			ok(run, in.RunIDLike, in.RunIDPrefix, string(e.RunID)) && ok(owner, in.OwnerLike, in.OwnerPrefix, e.Owner) && ok(event, in.EventLike, in.EventPrefix, e.Event)
	}
}

func getEventLogs(r *Request, in *listEventLogs) (EventLogCollectionResponse, error) {
	back := newestFirst(in.OrderBy, "id", "event_log_id", "when", "dttm")
	read := func(ctx context.Context, cursor string, limit int) ([]store.AuditEvent, string, error) {
		return r.API.Store.ListAuditBetween(ctx, utc(in.After), utc(in.Before), store.ListOptions{Limit: limit, Cursor: cursor, Descending: back})
	}
	p, err := List(r, in.query(in.Ordering), eventLogOrders(), read, in.keep())
	out := EventLogCollectionResponse{EventLogs: []EventLogResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}
	ms := r.models()
	for _, e := range p.Items {
		v, err := r.eventLog(e, ms)
		if err != nil {
			return out, err
		}
		out.EventLogs = append(out.EventLogs, v)
	}
	return out, err
}
