package restapi

import (
	"encoding/json"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
)

// TimeDelta is a duration as Airflow's tasks show it.
type TimeDelta struct {
	Type         string `json:"__type"`
	Days         int64  `json:"days"`
	Seconds      int64  `json:"seconds"`
	Microseconds int64  `json:"microseconds"`
}

// TaskResponse is a task.
type TaskResponse struct {
	TaskID                  *string                  `json:"task_id"`
	TaskDisplayName         *string                  `json:"task_display_name"`
	Owner                   *string                  `json:"owner"`
	StartDate               *Time                    `json:"start_date"`
	EndDate                 *Time                    `json:"end_date"`
	TriggerRule             *string                  `json:"trigger_rule"`
	DependsOnPast           bool                     `json:"depends_on_past"`
	WaitForDownstream       bool                     `json:"wait_for_downstream"`
	Retries                 *float64                 `json:"retries"`
	Queue                   *string                  `json:"queue"`
	Pool                    *string                  `json:"pool"`
	PoolSlots               *float64                 `json:"pool_slots"`
	ExecutionTimeout        *TimeDelta               `json:"execution_timeout"`
	RetryDelay              *TimeDelta               `json:"retry_delay"`
	RetryExponentialBackoff float64                  `json:"retry_exponential_backoff"`
	PriorityWeight          *float64                 `json:"priority_weight"`
	WeightRule              *string                  `json:"weight_rule"`
	UIColor                 *string                  `json:"ui_color"`
	UIFgcolor               *string                  `json:"ui_fgcolor"`
	TemplateFields          *[]string                `json:"template_fields"`
	DownstreamTaskIDs       *[]string                `json:"downstream_task_ids"`
	DocMD                   *string                  `json:"doc_md"`
	OperatorName            *string                  `json:"operator_name"`
	Params                  map[string]ParamResponse `json:"params"`
	ClassRef                map[string]string        `json:"class_ref"`
	IsMapped                *bool                    `json:"is_mapped"`
	ExtraLinks              []string                 `json:"extra_links"`
}

// TaskCollectionResponse is a list of tasks.
type TaskCollectionResponse struct {
	Tasks []TaskResponse `json:"tasks"`
	Total int            `json:"total_entries"`
}

type taskPath struct {
	DagID  string `path:"dag_id"`
	TaskID string `path:"task_id"`
}

type listTasks struct {
	DagID   string `path:"dag_id"`
	OrderBy string `query:"order_by" default:"task_id"`
}

func registerTasks(a *API) {
	Handle(a, Op{Method: "GET", Path: Base + "/dags/{dag_id}/tasks", ID: "get_tasks", Tag: "Task", Summary: "Get Tasks", Action: auth.Read, Resource: auth.ResourceTask}, getTasks)
	Handle(a, Op{Method: "GET", Path: Base + "/dags/{dag_id}/tasks/{task_id}", ID: "get_task", Tag: "Task", Summary: "Get Task", Action: auth.Read, Resource: auth.ResourceTask}, func(r *Request, in *taskPath) (TaskResponse, error) {
		dag, err := r.document()
		if err != nil {
			return TaskResponse{}, err
		}
		t := dag.Task(airflow.TaskID(in.TaskID))
		if t == nil {
			return TaskResponse{}, NotFound("Task with id %s was not found", in.TaskID)
		}
		return taskResponse(dag, t), nil
	})
}

// document returns the document of the path's DAG, in its latest version.
func (r *Request) document() (*airflow.DAG, error) {
	m, err := r.mustDag()
	if err != nil {
		return nil, err
	}
	g, err := r.API.Engine.Graph(r.Context(), m.LatestHash)
	if err != nil {
		return nil, err
	}
	return g.DAG, nil
}

func timeDelta(d time.Duration) *TimeDelta {
	us := d.Microseconds()
	const day = int64(24 * time.Hour / time.Microsecond)
	days := us / day
	if us%day < 0 { // Python's timedelta has its sign in the days
		days--
	}
	us -= days * day
	return &TimeDelta{"TimeDelta", days, us / 1e6, us % 1e6}
}

func taskResponse(dag *airflow.DAG, t *airflow.Task) TaskResponse {
	down := make([]string, 0, len(t.Downstream))
	for _, d := range t.Downstream {
		down = append(down, string(d))
	}
	sort.Strings(down)
	num := func(n float64) *float64 { return &n }
	start, end := t.StartDate, t.EndDate
	if start == nil {
		start = dag.StartDate
	}
	if end == nil {
		end = dag.EndDate
	}
	mapped := t.IsMapped
	out := TaskResponse{
		TaskID: ptrTo(string(t.TaskID)), TaskDisplayName: ptrTo(orText(t.DisplayName, string(t.TaskID))), Owner: orNil(t.Owner), StartDate: AtPtr(start), EndDate: AtPtr(end),
		TriggerRule: ptrTo(string(t.TriggerRule)), DependsOnPast: t.DependsOnPast, WaitForDownstream: t.WaitForDownstream, Retries: num(float64(t.Retries)),
		Queue: ptrTo(orText(t.Queue, "default")), Pool: ptrTo(orText(t.Pool, airflow.DefaultPool)), PoolSlots: num(float64(t.PoolSlots)), RetryDelay: timeDelta(t.RetryDelay),
		RetryExponentialBackoff: t.RetryExponentialFactor, PriorityWeight: num(float64(t.PriorityWeight)), WeightRule: orNil(t.WeightRule), UIColor: rawText(t, "ui_color", "#fff"),
		UIFgcolor: rawText(t, "ui_fgcolor", "#000"), TemplateFields: ptrTo(orEmpty(t.TemplateFields)), DownstreamTaskIDs: &down, DocMD: orNil(t.DocMD),
		OperatorName: orNil(orText(t.OperatorName, t.TaskType)), Params: paramsOf(t.Params), ClassRef: map[string]string{"module_path": t.TaskModule, "class_name": t.TaskType},
		IsMapped: &mapped, ExtraLinks: []string{},
	}
	if t.ExecutionTimeout > 0 {
		out.ExecutionTimeout = timeDelta(t.ExecutionTimeout)
	}
	var links map[string]json.RawMessage
	if json.Unmarshal(t.Raw["_operator_extra_links"], &links) == nil {
		for name := range links {
			out.ExtraLinks = append(out.ExtraLinks, name)
		}
		sort.Strings(out.ExtraLinks)
	}
	return out
}

// rawText is a text of a task's document.
func rawText(t *airflow.Task, key, def string) *string {
	var s string
	if raw, ok := t.Raw[key]; ok && json.Unmarshal(raw, &s) == nil && s != "" {
		return &s
	}
	return &def
}

// getTasks orders by any attribute of a task, as Airflow does.
func getTasks(r *Request, in *listTasks) (TaskCollectionResponse, error) {
	out := TaskCollectionResponse{Tasks: []TaskResponse{}}
	dag, err := r.document()
	if err != nil {
		return out, err
	}
	name := strings.TrimPrefix(in.OrderBy, "-")
	known := false
	for _, f := range bodyPlan(typeOf[TaskResponse]()).fields {
		known = known || f.name == name
	}
	if !known {
		return out, &Error{Status: http.StatusBadRequest, Detail: "'" + in.OrderBy + "' is not a valid attribute of a task"}
	}
	keys := map[int]SortKey{}
	for i, t := range dag.Tasks {
		v := taskResponse(dag, t)
		out.Tasks = append(out.Tasks, v)
		keys[i] = memberKey(v, name)
	}
	order := make([]int, len(out.Tasks))
	for i := range order {
		order[i] = i
	}
	desc := strings.HasPrefix(in.OrderBy, "-")
	sort.SliceStable(order, func(i, j int) bool { return keys[order[i]].compare(keys[order[j]], desc) < 0 })
	sorted := make([]TaskResponse, len(order))
	for i, k := range order {
		sorted[i] = out.Tasks[k]
	}
	out.Tasks, out.Total = sorted, len(sorted)
	return out, nil
}

// memberKey orders answers by one of their members.
func memberKey(v any, name string) SortKey {
	b, err := json.Marshal(v)
	if err != nil {
		return SortKey{Null: true}
	}
	var m map[string]any
	if json.Unmarshal(b, &m) != nil {
		return SortKey{Null: true}
	}
	switch x := m[name].(type) {
	case nil:
		return SortKey{Null: true}
	case string:
		return ByText(x)
	case float64:
		return ByFloat(&x)
	case bool:
		return ByBool(x)
	default:
		text, err := json.Marshal(x)
		if err != nil {
			return SortKey{Null: true}
		}
		return ByText(string(text))
	}
}
