package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// TriggerResponse is what a deferred instance waits for.
type TriggerResponse struct {
	ID          int64   `json:"id"`
	Classpath   string  `json:"classpath"`
	Kwargs      string  `json:"kwargs"`
	CreatedDate Time    `json:"created_date"`
	Queue       *string `json:"queue"`
	TriggererID *int    `json:"triggerer_id"`
}

// JobResponse is a job of Airflow's: the scheduler, the triggerer.
type JobResponse struct {
	ID              int64   `json:"id"`
	DagID           *string `json:"dag_id"`
	State           *string `json:"state"`
	JobType         *string `json:"job_type"`
	StartDate       *Time   `json:"start_date"`
	EndDate         *Time   `json:"end_date"`
	LatestHeartbeat *Time   `json:"latest_heartbeat"`
	ExecutorClass   *string `json:"executor_class"`
	Hostname        *string `json:"hostname"`
	Unixname        *string `json:"unixname"`
	DagDisplayName  *string `json:"dag_display_name"`
}

// TaskInstanceResponse is a task instance: its present try, and what it has once.
type TaskInstanceResponse struct {
	TaskInstanceHistoryResponse
	ID               string                     `json:"id"`
	LogicalDate      *Time                      `json:"logical_date"`
	RunAfter         Time                       `json:"run_after"`
	Note             *string                    `json:"note"`
	RenderedMapIndex *string                    `json:"rendered_map_index"`
	RenderedFields   map[string]json.RawMessage `json:"rendered_fields"`
	Trigger          *TriggerResponse           `json:"trigger"`
	TriggererJob     *JobResponse               `json:"triggerer_job"`
}

// tiRow is one instance in a list.
type tiRow struct {
	airflow.TaskInstance
	run  airflow.DagRun
	view *engine.RunView
	pos  int
	row  *store.Attempt
	rows bool // row is what the store has
}

// task returns the instance's task, nil if its DAG version has none of that id.
func (t tiRow) task() *airflow.Task { return t.view.Graph.DAG.Task(t.TaskID) }

// viewRows reads the instances of a run, in order of creation. The rows of
// finished ones are left for later (fill): their state, dates and tries are known
// without.
func (r *Request) viewRows(ctx context.Context, run airflow.DagRun) ([]tiRow, error) {
	v, err := r.API.Engine.ViewRun(ctx, run)
	if err != nil {
		return nil, err
	}
	var keys []airflow.TaskInstanceKey
	for pos := range v.Len() {
		if v.HasRow(pos) && !v.State.At(pos).State.Finished() {
			keys = append(keys, v.Key(pos))
		}
	}
	rows := map[airflow.TaskInstanceKey]store.Attempt{}
	if len(keys) > 0 {
		if rows, err = r.API.Store.GetAttempts(ctx, keys); err != nil {
			return nil, err
		}
	}
	out := make([]tiRow, v.Len())
	for pos := range out {
		out[pos] = tiRow{run: run, view: &v, pos: pos}
		if a, ok := rows[v.Key(pos)]; ok {
			out[pos].row = &a
		}
		out[pos].rows = out[pos].row != nil || !v.HasRow(pos)
		out[pos].TaskInstance = instance(&v, pos, out[pos].row)
	}
	return out, nil
}

// instance is the state of an instance; of one that was cleared and has not run
// again the dates are those of the try before, as in Airflow.
func instance(v *engine.RunView, pos int, row *store.Attempt) airflow.TaskInstance {
	ti := v.Instance(pos, row)
	if row == nil || row.TryNumber != ti.TryNumber {
		return ti
	}
	micros := func(n int64) *time.Time {
		if n == 0 {
			return nil
		}
		return ptrTo(time.UnixMicro(n).UTC())
	}
	if ti.ScheduledWhen == nil {
		ti.ScheduledWhen = micros(row.Scheduled)
	}
	if ti.QueuedWhen == nil {
		ti.QueuedWhen = micros(row.Queued)
	}
	if ti.StartDate == nil {
		ti.StartDate = row.StartDate
	}
	if ti.EndDate == nil && ti.State == airflow.TINone && ti.TryNumber > 0 {
		ti.EndDate = row.EndDate
	}
	if ti.Duration == nil && ti.StartDate != nil && ti.EndDate != nil {
		ti.Duration = ptrTo(ti.EndDate.Sub(*ti.StartDate).Seconds())
	}
	return ti
}

// fill reads the rows of the instances of a page.
func (r *Request) fill(ctx context.Context, ts []tiRow) error {
	var keys []airflow.TaskInstanceKey
	for _, t := range ts {
		if !t.rows {
			keys = append(keys, t.TaskInstanceKey)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	rows, err := r.API.Store.GetAttempts(ctx, keys)
	if err != nil {
		return err
	}
	for i := range ts {
		t := &ts[i]
		if t.rows {
			continue
		}
		t.rows = true
		if a, ok := rows[t.TaskInstanceKey]; ok {
			t.row = &a
			t.TaskInstance = instance(t.view, t.pos, &a)
		}
	}
	return nil
}

// respond makes the answer of instances: rows, notes and versions are read here.
func (r *Request) respond(ts []tiRow) ([]TaskInstanceResponse, error) {
	ctx := r.Context()
	if err := r.fill(ctx, ts); err != nil {
		return nil, err
	}
	out := make([]TaskInstanceResponse, 0, len(ts))
	ms := r.models()
	notes := map[store.RunKey]map[airflow.TaskInstanceKey]string{}
	for i := range ts {
		t := &ts[i]
		rk := store.RunKey{DagID: t.run.DagID, RunID: t.run.RunID}
		if notes[rk] == nil {
			n, err := r.API.Store.TaskNotes(ctx, rk)
			if err != nil {
				return nil, err
			}
			notes[rk] = n
		}
		v, err := ms.taskInstance(t, notes[rk][t.TaskInstanceKey])
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

var unixname = sync.OnceValue(func() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "gust"
})

func stateText(s airflow.TIState) *string {
	if s == airflow.TINone {
		return nil
	}
	return ptrTo(s.String())
}

func (ms *models) taskInstance(t *tiRow, note string) (TaskInstanceResponse, error) {
	m, err := ms.dag(t.DagID)
	if err != nil {
		return TaskInstanceResponse{}, err
	}
	version, err := ms.version(t.DagID, t.run.DagVersion)
	if err != nil {
		return TaskInstanceResponse{}, err
	}
	out := TaskInstanceResponse{
		ID: uuidOf("task_instance", t.DagID, t.RunID, t.TaskID, t.MapIndex, t.TryNumber, t.MaxTries), LogicalDate: AtPtr(t.run.LogicalDate), RunAfter: At(t.run.RunAfter),
		Note: orNil(note), RenderedFields: map[string]json.RawMessage{},
		TaskInstanceHistoryResponse: TaskInstanceHistoryResponse{
			TaskID: string(t.TaskID), DagID: string(t.DagID), DagRunID: string(t.RunID), MapIndex: t.MapIndex, StartDate: AtPtr(t.StartDate), EndDate: AtPtr(t.EndDate), Duration: t.Duration,
			State: stateText(t.State), TryNumber: t.TryNumber, MaxTries: t.MaxTries, TaskDisplayName: string(t.TaskID), DagDisplayName: displayName(m),
			Hostname: ptrTo(t.Hostname), Unixname: ptrTo(unixname()), Pool: t.Pool, PoolSlots: t.PoolSlots, Queue: ptrTo(orText(t.Queue, "default")), PriorityWeight: &t.PriorityWeight,
			Operator: orNil(t.Operator), OperatorName: orNil(t.Operator), QueuedWhen: AtPtr(t.QueuedWhen), ScheduledWhen: AtPtr(t.ScheduledWhen), Executor: orNil(t.Executor),
			ExecutorConfig: "{}", DagVersion: version,
		},
	}
	if task := t.task(); task != nil {
		out.TaskDisplayName = orText(task.DisplayName, string(t.TaskID))
		out.OperatorName = orNil(orText(task.OperatorName, t.Operator))
		if len(task.ExecutorConfig) > 0 && !isNull(task.ExecutorConfig) {
			out.ExecutorConfig = PythonRepr(plainDocument(task.ExecutorConfig))
		}
	}
	if t.MapIndex >= 0 {
		out.RenderedMapIndex = ptrTo(orText(t.RenderedMapIndex, strconv.Itoa(t.MapIndex)))
	}
	if t.row == nil || t.row.TryNumber != t.TryNumber {
		return out, nil
	}
	if t.row.Hostname != "" {
		out.Hostname = &t.row.Hostname
	}
	if t.row.Unixname != "" {
		out.Unixname = &t.row.Unixname
	}
	if t.row.PID != 0 {
		out.PID = &t.row.PID
	}
	if t.row.RenderedFields != nil {
		out.RenderedFields = t.row.RenderedFields
	}
	if t.State == airflow.TIDeferred {
		out.Trigger = triggerOf(t.row)
	}
	return out, nil
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// triggerOf is what a deferred dispatch left to wait for, nil if it is not known.
func triggerOf(a *store.Attempt) *TriggerResponse {
	var rep worker.Report
	if len(a.Report) == 0 || json.Unmarshal(a.Report, &rep) != nil || rep.Deferral == nil {
		return nil
	}
	kwargs, err := json.Marshal(rep.Deferral.Trigger)
	if err != nil {
		return nil
	}
	h := fnv.New32a()
	h.Write([]byte(a.Key.String()))
	return &TriggerResponse{ID: int64(h.Sum32()), Classpath: triggerClasses[rep.Deferral.Trigger.Kind], Kwargs: PythonRepr(kwargs), CreatedDate: At(rep.EndDate), Queue: orNil(a.Queue)}
}

// triggerClasses are Airflow's names of what the control plane waits for itself.
var triggerClasses = map[worker.TriggerKind]string{
	worker.TriggerTime:   "airflow.providers.standard.triggers.temporal.DateTimeTrigger",
	worker.TriggerDagRun: "airflow.providers.standard.triggers.external_task.DagStateTrigger",
	worker.TriggerTasks:  "airflow.providers.standard.triggers.external_task.WorkflowTrigger",
	worker.TriggerHITL:   "airflow.providers.standard.triggers.hitl.HITLTrigger",
}

// idKey orders instances as Airflow's ids do: by creation, where a try after the
// first has an id of its own, made when the one before ended.
func (t tiRow) idKey() SortKey {
	k := SortKey{I: t.run.RunAfter.UnixMicro(), F: float64(t.pos), S: string(t.DagID) + "\x00" + string(t.RunID)}
	if t.TryNumber > 1 {
		for _, at := range []*time.Time{t.ScheduledWhen, t.QueuedWhen, t.StartDate} {
			if at != nil {
				k.I = max(k.I, at.UnixMicro())
				break
			}
		}
	}
	return k
}

// mappedAt returns the instance of a task at a map index.
func find(ts []tiRow, task string, mapIndex int) *tiRow {
	for i := range ts {
		if string(ts[i].TaskID) == task && ts[i].MapIndex == mapIndex {
			return &ts[i]
		}
	}
	return nil
}

// mustRowsOfRun reads the instances of the path's run; without the run there are none.
func (r *Request) mustRowsOfRun() ([]tiRow, error) {
	run, err := r.API.Store.GetRun(r.Context(), store.RunKey{DagID: airflow.DagID(r.path["dag_id"]), RunID: airflow.RunID(r.path["dag_run_id"])})
	if errors.Is(err, airflow.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.viewRows(r.Context(), run)
}

// mustTI returns the instance of the path at a map index, or 404 in Airflow's words.
func (r *Request) mustTI(mapIndex int) (*tiRow, error) {
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return nil, err
	}
	if t := find(ts, r.path["task_id"], mapIndex); t != nil {
		return t, nil
	}
	if mapIndex >= 0 {
		return nil, NotFound("The Mapped Task Instance with dag_id: `%s`, run_id: `%s`, task_id: `%s`, and map_index: `%d` was not found", r.path["dag_id"], r.path["dag_run_id"], r.path["task_id"], mapIndex)
	}
	for i := range ts {
		if string(ts[i].TaskID) == r.path["task_id"] {
			return nil, NotFound("Task instance is mapped, add the map_index value to the URL")
		}
	}
	return nil, r.noTI()
}

func (r *Request) noTI() error {
	return NotFound("The Task Instance with dag_id: `%s`, run_id: `%s` and task_id: `%s` was not found", r.path["dag_id"], r.path["dag_run_id"], r.path["task_id"])
}

// groupTasks are the tasks of a group, nested ones too; ok is false if there is no such group.
func groupTasks(dag *airflow.DAG, id airflow.GroupID) (tasks map[airflow.TaskID]bool, ok bool) {
	tasks = map[airflow.TaskID]bool{}
	if dag.TaskGroup == nil {
		return tasks, false
	}
	dag.TaskGroup.Walk(func(g, _ *airflow.TaskGroup) {
		if g.GroupID != id {
			return
		}
		ok = true
		g.Walk(func(in, _ *airflow.TaskGroup) {
			for _, c := range in.Children {
				if c.Group == nil {
					tasks[c.TaskID] = true
				}
			}
		})
	})
	return tasks, ok
}

// tiStateNames are the states that a filter may name; none is null.
var tiStateNames = func() []string {
	l := []string{"none", "no_status", "awaiting_input"}
	for s := 1; s < airflow.NumTIStates; s++ {
		l = append(l, airflow.TIState(s).String())
	}
	return l
}()

// parseTIStates reads the states of a filter.
func parseTIStates(names []string) ([]airflow.TIState, error) {
	var out []airflow.TIState
	for _, n := range names {
		if !contains(tiStateNames, n) {
			return nil, badState("state", []string{strings.Join(tiStateNames, ", ")})
		}
		if n == "awaiting_input" {
			out = append(out, airflow.TIState(airflow.NumTIStates)) // waiting for an answer is deferred
			continue
		}
		s, err := airflow.ParseTIState(n)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
