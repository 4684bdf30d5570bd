package restapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// PatchTaskInstanceBody is what may be changed of an instance.
type PatchTaskInstanceBody struct {
	Closed
	NewState          Opt[string] `json:"new_state" oneof:"success,failed,skipped"`
	Note              Opt[string] `json:"note" maxlen:"1000"`
	IncludeUpstream   bool        `json:"include_upstream" default:"false"`
	IncludeDownstream bool        `json:"include_downstream" default:"false"`
	IncludeFuture     bool        `json:"include_future" default:"false"`
	IncludePast       bool        `json:"include_past" default:"false"`
}

type patchTI struct {
	tiPath
	MapIndex   *int     `query:"map_index"`
	UpdateMask []string `query:"update_mask"`
	Body       PatchTaskInstanceBody
}

type patchMappedTI struct {
	tiPath
	MapIndex   int      `path:"map_index"`
	UpdateMask []string `query:"update_mask"`
	Body       PatchTaskInstanceBody
}

type patchGroup struct {
	runPath
	GroupID    string   `path:"group_id"`
	UpdateMask []string `query:"update_mask"`
	Body       PatchTaskInstanceBody
}

func registerPatchTI(a *API) {
	op := func(path, id, summary string) Op {
		o := Op{Method: "PATCH", Path: Base + "/dags/{dag_id}/dagRuns/{dag_run_id}" + path, ID: id, Tag: "Task Instance", Summary: summary, Action: auth.Edit, Resource: auth.ResourceTaskInstance}
		return o
	}
	dry := func(path, id string) Op {
		o := op(path, id, "Patch Task Instance Dry Run")
		o.Event = "-"
		return o
	}
	const one, mapped, group = "/taskInstances/{task_id}", "/taskInstances/{task_id}/{map_index}", "/taskGroupInstances/{group_id}"
	unmapped := func(dryRun bool) func(*Request, *patchTI) (TaskInstanceCollectionResponse, error) {
		return func(r *Request, in *patchTI) (TaskInstanceCollectionResponse, error) {
			return r.patchTask(in.TaskID, in.MapIndex, in.Body, in.UpdateMask, dryRun)
		}
	}
	byIndex := func(dryRun bool) func(*Request, *patchMappedTI) (TaskInstanceCollectionResponse, error) {
		return func(r *Request, in *patchMappedTI) (TaskInstanceCollectionResponse, error) {
			return r.patchTask(in.TaskID, &in.MapIndex, in.Body, in.UpdateMask, dryRun)
		}
	}
	byGroup := func(dryRun bool) func(*Request, *patchGroup) (TaskInstanceCollectionResponse, error) {
		return func(r *Request, in *patchGroup) (TaskInstanceCollectionResponse, error) {
			return r.patchGroup(in.GroupID, in.Body, in.UpdateMask, dryRun)
		}
	}
	Handle(a, op(one, "patch_task_instance", "Patch Task Instance"), unmapped(false))
	Handle(a, dry(one+"/dry_run", "patch_task_instance_dry_run"), unmapped(true))
	Handle(a, op(mapped, "patch_task_instance_by_map_index", "Patch Task Instance"), byIndex(false))
	Handle(a, dry(mapped+"/dry_run", "patch_task_instance_dry_run_by_map_index"), byIndex(true))
	Handle(a, op(group, "patch_task_group_instances", "Patch Task Group Instances"), byGroup(false))
	Handle(a, dry(group+"/dry_run", "patch_task_group_instances_dry_run"), byGroup(true))
}

// tiPatch is a change of instances of one run.
type tiPatch struct {
	tasks []scheduler.TaskSelection
	// named are the instances that the request names; notes are theirs.
	named  []tiRow
	state  *airflow.TIState
	note   *string
	up     bool
	down   bool
	past   bool
	future bool
	dry    bool
	what   string // in the text of a conflict
}

func (r *Request) newPatch(b PatchTaskInstanceBody, mask []string, dry bool) (tiPatch, error) {
	p := tiPatch{up: b.IncludeUpstream, down: b.IncludeDownstream, past: b.IncludePast, future: b.IncludeFuture, dry: dry}
	// A name that is not known changes nothing, as in Airflow.
	in := func(name string, set bool) bool { return set && (len(mask) == 0 || contains(mask, name)) }
	if in("new_state", b.NewState.Set) {
		if b.NewState.Null {
			return p, Invalid(FieldError{Type: "value_error", Loc: []any{"body", "new_state"}, Msg: "Value error, 'new_state' should not be empty", Input: json.RawMessage("null"), Ctx: map[string]any{"error": map[string]any{}}})
		}
		s, err := airflow.ParseTIState(b.NewState.V)
		if err != nil {
			return p, err
		}
		p.state = &s
	}
	if in("note", b.Note.Set) {
		p.note = &b.Note.V
	}
	return p, nil
}

// patchTask changes a task's instances: one, or all where no map index is given.
func (r *Request) patchTask(task string, mapIndex *int, b PatchTaskInstanceBody, mask []string, dry bool) (TaskInstanceCollectionResponse, error) {
	p, err := r.newPatch(b, mask, dry)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	if _, err := r.mustDag(); err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	sel := scheduler.TaskSelection{TaskID: airflow.TaskID(task)}
	for _, t := range ts {
		if string(t.TaskID) == task && (mapIndex == nil || t.MapIndex == *mapIndex) {
			p.named = append(p.named, t)
		}
	}
	if mapIndex != nil && *mapIndex >= 0 {
		sel.MapIndexes = []int{*mapIndex}
	}
	if len(p.named) == 0 {
		return TaskInstanceCollectionResponse{}, r.noTI()
	}
	p.tasks, p.what = []scheduler.TaskSelection{sel}, "Task id "+task
	return r.applyPatch(ts[0].run, ts, p)
}

// patchGroup changes the instances of all tasks of a group.
func (r *Request) patchGroup(group string, b PatchTaskInstanceBody, mask []string, dry bool) (TaskInstanceCollectionResponse, error) {
	p, err := r.newPatch(b, mask, dry)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	run, err := r.mustRun()
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	ts, err := r.viewRows(r.Context(), run)
	if err != nil {
		return TaskInstanceCollectionResponse{}, err
	}
	tasks, ok := map[airflow.TaskID]bool{}, false
	if len(ts) > 0 {
		tasks, ok = groupTasks(ts[0].view.Graph.DAG, airflow.GroupID(group))
	}
	if !ok {
		return TaskInstanceCollectionResponse{}, NotFound("Task group '%s' not found in Dag '%s'", group, run.DagID)
	}
	seen := map[airflow.TaskID]bool{}
	for _, t := range ts {
		if tasks[t.TaskID] {
			p.named = append(p.named, t)
			if !seen[t.TaskID] {
				seen[t.TaskID] = true
				p.tasks = append(p.tasks, scheduler.TaskSelection{TaskID: t.TaskID})
			}
		}
	}
	if len(p.named) == 0 {
		return r.collection(nil)
	}
	p.what = "Task group " + group
	return r.applyPatch(run, ts, p)
}

// applyPatch carries a change out, in the run and in those that past and future
// take in, and answers with the instances it is about, as they become.
func (r *Request) applyPatch(run airflow.DagRun, ts []tiRow, p tiPatch) (TaskInstanceCollectionResponse, error) {
	var out TaskInstanceCollectionResponse
	shown := p.named
	if p.state != nil {
		runs, err := r.neighbours(run, p.past, p.future)
		if err != nil {
			return out, err
		}
		shown = nil
		changes := false
		for _, x := range runs {
			rows := ts
			if x.RunID != run.RunID {
				if rows, err = r.viewRows(r.Context(), x); err != nil {
					return out, err
				}
			}
			marked, changed, err := r.markOf(x, rows, p)
			if err != nil {
				return out, err
			}
			shown = append(shown, marked...)
			changes = changes || changed
		}
		if !changes && !p.dry {
			return out, Conflict("%s is already in %s state", p.what, *p.state)
		}
	}
	if p.note != nil && !p.dry {
		for _, t := range p.named {
			if err := r.API.Store.PutTaskNote(r.Context(), t.TaskInstanceKey, *p.note, r.Who.Name); err != nil {
				return out, err
			}
		}
	}
	return r.collection(shown)
}

// markOf sets the state of instances of one run. It returns them, and whether
// anything changes.
func (r *Request) markOf(run airflow.DagRun, ts []tiRow, p tiPatch) ([]tiRow, bool, error) {
	if len(ts) == 0 {
		return nil, false, nil
	}
	v := ts[0].view
	o := scheduler.MarkOptions{State: *p.state}
	o.Upstream, o.Downstream = p.up, p.down
	for _, s := range p.tasks {
		if v.Graph.TaskIndex(s.TaskID) >= 0 {
			o.Tasks = append(o.Tasks, s)
		}
	}
	if len(o.Tasks) == 0 {
		return nil, false, nil
	}
	if err := r.fill(r.Context(), ts); err != nil {
		return nil, false, err
	}
	positions, err := v.Mark(o, r.API.now())
	if err != nil {
		return nil, false, err
	}
	seen := map[int]bool{}
	var out []tiRow
	changed := false
	for _, pos := range positions {
		if seen[pos] {
			continue
		}
		seen[pos] = true
		t := ts[pos]
		if t.State == *p.state {
			continue
		}
		changed = true
		if !p.dry {
			t.TaskInstance = instance(v, pos, t.row)
		}
		out = append(out, t)
	}
	if !changed || p.dry {
		return out, changed, nil
	}
	_, err = r.API.Engine.MarkTask(r.Context(), store.RunKey{DagID: run.DagID, RunID: run.RunID}, o, r.Who.Name)
	return out, true, err
}

// BulkTaskInstanceBody is one instance of a bulk change.
type BulkTaskInstanceBody struct {
	PatchTaskInstanceBody
	TaskID   string  `json:"task_id"`
	MapIndex *int    `json:"map_index"`
	DagID    *string `json:"dag_id"`
	DagRunID *string `json:"dag_run_id"`
}

// BulkActionResponse is what one action of a bulk change did.
type BulkActionResponse struct {
	Success []string         `json:"success"`
	Errors  []map[string]any `json:"errors"`
}

// BulkResponse is what a bulk change did, by action; null for those not asked for.
type BulkResponse struct {
	Create *BulkActionResponse `json:"create"`
	Update *BulkActionResponse `json:"update"`
	Delete *BulkActionResponse `json:"delete"`
}

// Of returns the part of an action, which is there from then on.
func (b *BulkResponse) Of(action string) *BulkActionResponse {
	p := map[string]**BulkActionResponse{"create": &b.Create, "update": &b.Update, "delete": &b.Delete}[action]
	if *p == nil {
		*p = &BulkActionResponse{Success: []string{}, Errors: []map[string]any{}}
	}
	return *p
}

// Fail records an error of an action.
func (b *BulkActionResponse) Fail(err error) error {
	e, internal := answerOf(err)
	if internal || e.Status >= 500 {
		return err
	}
	b.Errors = append(b.Errors, map[string]any{"error": e.Error(), "status_code": e.Status})
	return nil
}

// did records what became of one entity of an action; those not found are left out
// if that is what the action wants ("skip").
func (b *BulkActionResponse) did(name string, err error, onNonExistence string) error {
	var known *Error
	switch {
	case err == nil:
		b.Success = append(b.Success, name)
		return nil
	case errors.As(err, &known) && known.Status == http.StatusNotFound && onNonExistence == "skip":
		return nil
	}
	return b.Fail(err)
}

// BulkActionTIBody is one action of a bulk change of instances.
type BulkActionTIBody struct {
	Closed
	bulkMeans
	Entities []bulkTI `json:"entities"`
}

// bulkTI is an instance, or for a delete a task id.
type bulkTI struct{ BulkTaskInstanceBody }

func (b *bulkTI) bind(raw json.RawMessage, loc []any, ps *problems) bool {
	if isKind(raw, '"') {
		return json.Unmarshal(raw, &b.TaskID) == nil
	}
	return bindInto(&b.BulkTaskInstanceBody, raw, loc, ps)
}

func (b *bulkTI) schema(d *describer) any {
	return obj{"anyOf": []any{obj{"type": "string"}, d.object(typeOf[BulkTaskInstanceBody]())}}
}

// BulkBodyTI is a bulk change of instances.
type BulkBodyTI struct {
	Closed
	Actions []BulkActionTIBody `json:"actions"`
}

type bulkTIs struct {
	runPath
	Body BulkBodyTI
}

func registerBulkTI(a *API) {
	Handle(a, Op{Method: "PATCH", Path: Base + "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances", ID: "bulk_task_instances", Tag: "Task Instance", Summary: "Bulk Task Instances", Action: auth.Edit, Resource: auth.ResourceTaskInstance}, bulkTaskInstances)
}

// bulkTaskInstances changes instances one by one, in their order.
func bulkTaskInstances(r *Request, in *bulkTIs) (BulkResponse, error) {
	var out BulkResponse
	path := r.path
	defer func() { r.path, r.dag = path, nil }()
	for _, act := range in.Body.Actions {
		part := out.Of(act.Action)
		if act.Action != "update" {
			msg := "Task instances bulk create is not supported"
			if act.Action == "delete" {
				msg = "Task instances are part of their run in Gust: delete the run, or mark them skipped"
			}
			part.Errors = append(part.Errors, map[string]any{"error": msg, "status_code": http.StatusMethodNotAllowed})
			continue
		}
		for _, e := range act.Entities {
			dag, run := in.DagID, in.RunID
			if e.DagID != nil {
				dag = *e.DagID
			}
			if e.DagRunID != nil {
				run = *e.DagRunID
			}
			r.path, r.dag = map[string]string{"dag_id": dag, "dag_run_id": run, "task_id": e.TaskID}, nil
			name := fmt.Sprintf("%s.%s.%s[%d]", dag, run, e.TaskID, mapIndexOr(e.MapIndex))
			err := r.mayDo(auth.Edit)
			if err == nil {
				_, err = r.patchTask(e.TaskID, e.MapIndex, e.PatchTaskInstanceBody, act.UpdateMask, false)
			}
			if err := part.did(name, err, act.ActionOnNonExistence); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func mapIndexOr(n *int) int {
	if n == nil {
		return airflow.Unmapped
	}
	return *n
}
