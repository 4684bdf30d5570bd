package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
)

// XComResponse is an XCom without its value.
type XComResponse struct {
	Key             string `json:"key"`
	Timestamp       Time   `json:"timestamp"`
	LogicalDate     *Time  `json:"logical_date"`
	MapIndex        int    `json:"map_index"`
	TaskID          string `json:"task_id"`
	DagID           string `json:"dag_id"`
	RunID           string `json:"run_id"`
	DagDisplayName  string `json:"dag_display_name"`
	TaskDisplayName string `json:"task_display_name"`
	RunAfter        Time   `json:"run_after"`
}

// XComResponseNative is an XCom with its value as JSON.
type XComResponseNative struct {
	XComResponse
	Value json.RawMessage `json:"value"`
}

// XComResponseString is an XCom with its value as Python's text.
type XComResponseString struct {
	XComResponse
	Value *string `json:"value"`
}

// XComCollectionResponse is a list of XComs.
type XComCollectionResponse struct {
	XComEntries []XComResponse `json:"xcom_entries"`
	Total       int            `json:"total_entries"`
}

// XComCreateBody is a new XCom.
type XComCreateBody struct {
	Closed
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"`
	MapIndex int             `json:"map_index" default:"-1"`
}

// XComUpdateBody is a new value.
type XComUpdateBody struct {
	Closed
	Value    json.RawMessage `json:"value"`
	MapIndex int             `json:"map_index" default:"-1"`
}

type listXComs struct {
	Paging
	Ordering
	tiPath
	RunAfterRange
	LogicalDateRange
	XComKey       *string `query:"xcom_key"`
	MapIndex      *int    `query:"map_index" min:"-1"`
	KeyPattern    *string `query:"xcom_key_pattern"`
	KeyPrefix     *string `query:"xcom_key_prefix_pattern"`
	DagPattern    *string `query:"dag_display_name_pattern"`
	DagPrefix     *string `query:"dag_display_name_prefix_pattern"`
	RunPattern    *string `query:"run_id_pattern"`
	RunPrefix     *string `query:"run_id_prefix_pattern"`
	TaskPattern   *string `query:"task_id_pattern"`
	TaskPrefix    *string `query:"task_id_prefix_pattern"`
	MapIndexEqual *int    `query:"map_index_filter"`
}

type oneXCom struct {
	tiPath
	Key         string `path:"xcom_key"`
	MapIndex    int    `query:"map_index" default:"-1" min:"-1"`
	Deserialize bool   `query:"deserialize" default:"false"`
	Stringify   bool   `query:"stringify" default:"false"`
}

type postXCom struct {
	tiPath
	Body XComCreateBody
}

type patchXCom struct {
	tiPath
	Key  string `path:"xcom_key"`
	Body XComUpdateBody
}

type deleteXCom struct {
	tiPath
	Key      string `path:"xcom_key"`
	MapIndex int    `query:"map_index" default:"-1" min:"-1"`
}

func registerXComs(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/xcomEntries" + path, ID: id, Tag: "XCom", Summary: summary, Action: act, Resource: auth.ResourceXCom}
	}
	list := op("GET", "", "get_xcom_entries", "Get Xcom Entries", auth.Read)
	list.Indexed = []string{"dag_id", "dag_run_id", "task_id"}
	Handle(a, list, getXComs)
	get := op("GET", "/{xcom_key...}", "get_xcom_entry", "Get Xcom Entry", auth.Read)
	get.Answers = []any{XComResponseNative{}, XComResponseString{}}
	Handle(a, get, getXCom)
	create := op("POST", "", "create_xcom_entry", "Create Xcom Entry", auth.Create)
	create.Status = http.StatusCreated
	Handle(a, create, createXCom)
	Handle(a, op("PATCH", "/{xcom_key...}", "update_xcom_entry", "Update Xcom Entry", auth.Edit), updateXCom)
	Handle(a, op("DELETE", "/{xcom_key...}", "delete_xcom_entry", "Delete Xcom Entry", auth.Delete), func(r *Request, in *deleteXCom) (Empty, error) {
		err := r.API.Store.DeleteXCom(r.Context(), in.key(in.MapIndex), in.Key)
		if errors.Is(err, airflow.ErrNotFound) {
			return Empty{}, noXCom(in.Key)
		}
		return Empty{}, err
	})
}

func noXCom(key string) error { return NotFound("XCom entry with key: `%s` not found", key) }

func (p tiPath) key(mapIndex int) airflow.TaskInstanceKey {
	return airflow.TaskInstanceKey{DagID: airflow.DagID(p.DagID), RunID: airflow.RunID(p.RunID), TaskID: airflow.TaskID(p.TaskID), MapIndex: mapIndex}
}

// xcomRow is an XCom with the run it belongs to.
type xcomRow struct {
	airflow.XCom
	run  airflow.DagRun
	dag  airflow.DagModel
	name string
}

func (x xcomRow) response() XComResponse {
	return XComResponse{
		Key: x.Key, Timestamp: At(x.Timestamp), LogicalDate: AtPtr(x.run.LogicalDate), MapIndex: x.MapIndex, TaskID: string(x.TaskID), DagID: string(x.DagID), RunID: string(x.RunID),
		DagDisplayName: displayName(x.dag), TaskDisplayName: x.name, RunAfter: At(x.run.RunAfter),
	}
}

// getXComs lists entries: of an instance, a run, or of many runs, newest first.
func getXComs(r *Request, in *listXComs) (XComCollectionResponse, error) {
	out := XComCollectionResponse{XComEntries: []XComResponse{}}
	var dag airflow.DagID
	if in.DagID != "~" {
		dag = airflow.DagID(in.DagID)
	}
	runs := runFilter{runAfter: TimeRange(in.RunAfterRange)}.window(r, dag, true)
	if in.RunID != "~" && dag != "" {
		runs = func(context.Context, string, int) ([]airflow.DagRun, string, error) {
			run, err := r.mustRun()
			var missing *Error
			if errors.As(err, &missing) {
				return nil, "", nil // the list of an unknown run is empty
			}
			return []airflow.DagRun{run}, "", err
		}
	}
	runID, runPrefix := Pattern(in.RunPattern), Prefix(in.RunPrefix)
	task, taskPrefix := Pattern(in.TaskPattern), Prefix(in.TaskPrefix)
	dagName, dagPrefix := Pattern(in.DagPattern), Prefix(in.DagPrefix)
	key, keyPrefix := Pattern(in.KeyPattern), Prefix(in.KeyPrefix)
	rows := r.tiWindow(runs, func(run airflow.DagRun) bool {
		return (in.RunID == "~" || string(run.RunID) == in.RunID) && runID(string(run.RunID)) && runPrefix(string(run.RunID)) &&
			TimeRange(in.RunAfterRange).OK(&run.RunAfter) && TimeRange(in.LogicalDateRange).OK(run.LogicalDate)
	}, false)
	ms := r.models()
	window := func(ctx context.Context, cursor string, limit int) (xs []xcomRow, next string, err error) {
		ts, next, err := rows(ctx, cursor, limit)
		if err != nil {
			return nil, "", err
		}
		for _, t := range ts {
			if t.TryNumber == 0 || in.TaskID != "~" && string(t.TaskID) != in.TaskID || !task(string(t.TaskID)) || !taskPrefix(string(t.TaskID)) ||
				in.MapIndex != nil && t.MapIndex != *in.MapIndex || in.MapIndexEqual != nil && t.MapIndex != *in.MapIndexEqual {
				continue
			}
			m, err := ms.dag(t.DagID)
			if err != nil {
				return nil, "", err
			}
			if !dagName(displayName(m)) || !dagPrefix(displayName(m)) {
				continue
			}
			l, err := r.API.Store.ListXComs(ctx, t.TaskInstanceKey)
			if err != nil {
				return nil, "", err
			}
			name := string(t.TaskID)
			if x := t.task(); x != nil {
				name = orText(x.DisplayName, name)
			}
			for _, x := range l {
				x.Value = nil
				xs = append(xs, xcomRow{x, t.run, m, name})
			}
		}
		return xs, next, nil
	}
	p, err := List(r, in.query(in.Ordering), Orders[xcomRow]{By: map[string]func(xcomRow) SortKey{
		"key":       func(x xcomRow) SortKey { return ByText(x.Key) },
		"dag_id":    func(x xcomRow) SortKey { return ByText(string(x.DagID)) },
		"run_id":    func(x xcomRow) SortKey { return ByText(string(x.RunID)) },
		"task_id":   func(x xcomRow) SortKey { return ByText(string(x.TaskID)) },
		"map_index": func(x xcomRow) SortKey { return ByInt(int64(x.MapIndex)) },
		"timestamp": func(x xcomRow) SortKey { return ByTime(&x.Timestamp) },
		"run_after": func(x xcomRow) SortKey { return ByTime(&x.run.RunAfter) },
	}, Default: []string{"dag_id", "task_id", "run_id", "map_index", "key"}, ID: func(x xcomRow) SortKey {
		return SortKey{I: int64(x.MapIndex), S: string(x.DagID) + "\x00" + string(x.TaskID) + "\x00" + string(x.RunID) + "\x00" + x.Key}
	}}, window, func(x xcomRow) bool {
		return (in.XComKey == nil || x.Key == *in.XComKey) && key(x.Key) && keyPrefix(x.Key)
	})
	if err != nil {
		return out, err
	}
	for _, x := range p.Items {
		out.XComEntries = append(out.XComEntries, x.response())
	}
	out.Total = p.Total
	return out, nil
}

// xcom returns an entry with what its answer needs.
func (r *Request) xcom(k airflow.TaskInstanceKey, key string) (xcomRow, error) {
	x, err := r.API.Store.GetXCom(r.Context(), k, key)
	if errors.Is(err, airflow.ErrNotFound) {
		return xcomRow{}, noXCom(key)
	}
	if err != nil {
		return xcomRow{}, err
	}
	run, err := r.mustRun()
	if err != nil {
		return xcomRow{}, err
	}
	out := xcomRow{XCom: x, run: run, name: string(k.TaskID)}
	if out.dag, err = r.models().dag(k.DagID); err != nil {
		return out, err
	}
	if g, err := r.API.Engine.Graph(r.Context(), run.DagHash); err == nil {
		if t := g.DAG.Task(k.TaskID); t != nil {
			out.name = orText(t.DisplayName, out.name)
		}
	}
	return out, nil
}

func getXCom(r *Request, in *oneXCom) (any, error) {
	if in.Deserialize {
		return nil, BadRequest("XCom deserialization is disabled in configuration.")
	}
	x, err := r.xcom(in.key(in.MapIndex), in.Key)
	if err != nil {
		return nil, err
	}
	if in.Stringify {
		v, err := serde.DecodeXCom(x.Value)
		if err != nil {
			return nil, err
		}
		s, err := jinja.Str(v)
		return XComResponseString{x.response(), &s}, err
	}
	return XComResponseNative{x.response(), x.Value}, nil
}

// putXCom writes a value and answers with it.
func (r *Request) putXCom(p tiPath, mapIndex int, key string, value json.RawMessage) (XComResponseNative, error) {
	k := p.key(mapIndex)
	err := r.API.Store.SetXCom(r.Context(), k, key, value, r.API.now())
	if errors.Is(err, airflow.ErrNotFound) {
		return XComResponseNative{}, Conflict("The Task Instance %s has never run on a worker: only a try can hold an XCom", airflow.TIName(k.TaskID, mapIndex))
	}
	if err != nil {
		return XComResponseNative{}, err
	}
	x, err := r.xcom(k, key)
	return XComResponseNative{x.response(), x.Value}, err
}

func createXCom(r *Request, in *postXCom) (XComResponseNative, error) {
	if _, err := r.mustDag(); err != nil {
		return XComResponseNative{}, err
	}
	if _, err := r.mustRun(); err != nil {
		return XComResponseNative{}, err
	}
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return XComResponseNative{}, err
	}
	if find(ts, in.TaskID, in.Body.MapIndex) == nil {
		return XComResponseNative{}, NotFound("Task with ID: `%s` not found in Dag: `%s`", in.TaskID, in.DagID)
	}
	_, err = r.API.Store.GetXCom(r.Context(), in.key(in.Body.MapIndex), in.Body.Key)
	if err == nil {
		return XComResponseNative{}, Conflict("The XCom with key: `%s` with mentioned task instance already exists.", in.Body.Key)
	}
	if !errors.Is(err, airflow.ErrNotFound) {
		return XComResponseNative{}, err
	}
	return r.putXCom(in.tiPath, in.Body.MapIndex, in.Body.Key, in.Body.Value)
}

func updateXCom(r *Request, in *patchXCom) (XComResponseNative, error) {
	if _, err := r.API.Store.GetXCom(r.Context(), in.key(in.Body.MapIndex), in.Key); errors.Is(err, airflow.ErrNotFound) {
		return XComResponseNative{}, NotFound("The XCom with key: `%s` with mentioned task instance doesn't exist.", in.Key)
	} else if err != nil {
		return XComResponseNative{}, err
	}
	return r.putXCom(in.tiPath, in.Body.MapIndex, in.Key, in.Body.Value)
}
