// Package enginetest drives an engine in tests and in the simulator: it builds
// DAGs without files, plays the worker, and moves the clock.
package enginetest

import (
	"encoding/json"
	"fmt"
	"time"
)

// DAG is a DAG to be built in a test.
type DAG struct {
	ID       string
	Fields   map[string]any // further fields of the serialized DAG
	Tasks    []Task
	Cron     string // "" = no schedule
	Timezone string
	Assets   []string // scheduled on all of these
	Groups   []Group
}

// Group is a task group; its tasks name it.
type Group struct {
	ID         string
	Parent     string // "" = the root; a parent comes before its groups
	ExpandOver string // task whose result the group expands over
	ExpandLit  int    // or a literal list of that length
}

// Task is one task of a DAG.
type Task struct {
	ID         string
	Upstream   []string
	Fields     map[string]any // further fields of the serialized task
	ExpandOver string         // task whose result it expands over
	ExpandLit  int            // or a literal list of that length
	Empty      bool
	Outlets    []string
	Group      string
}

// Document returns the serialized form.
func (d DAG) Document() []byte {
	dag := map[string]any{"dag_id": d.ID, "fileloc": d.ID + ".yml", "relative_fileloc": d.ID + ".yml", "timezone": "UTC"}
	switch {
	case d.Cron != "":
		tz := d.Timezone
		if tz == "" {
			tz = "UTC"
		}
		dag["timetable"] = map[string]any{"__type": "airflow.timetables.trigger.CronTriggerTimetable", "__var": map[string]any{
			"expression": d.Cron, "timezone": tz, "interval": 0.0, "run_immediately": false}}
	case len(d.Assets) > 0:
		var objs []any
		for _, a := range d.Assets {
			objs = append(objs, map[string]any{"__type": "asset", "name": a, "uri": a, "group": "asset", "extra": map[string]any{}})
		}
		dag["timetable"] = map[string]any{"__type": "airflow.timetables.simple.AssetTriggeredTimetable", "__var": map[string]any{
			"asset_condition": map[string]any{"__type": "asset_all", "objects": objs}}}
	}
	for k, v := range d.Fields {
		dag[k] = v
	}
	if len(d.Groups) > 0 {
		dag["task_group"] = d.group(Group{})
	}
	down := d.groupEdges()
	for _, t := range d.Tasks {
		for _, u := range t.Upstream {
			down[u] = append(down[u], t.ID)
		}
		if t.ExpandOver != "" {
			down[t.ExpandOver] = append(down[t.ExpandOver], t.ID)
		}
	}
	var tasks []any
	for _, t := range d.Tasks {
		v := map[string]any{"task_id": t.ID, "task_type": "BashOperator", "_task_module": "airflow.providers.standard.operators.bash", "downstream_task_ids": down[t.ID]}
		if down[t.ID] == nil {
			delete(v, "downstream_task_ids")
		}
		if t.Empty {
			v["task_type"], v["_task_module"], v["_is_empty"] = "EmptyOperator", "airflow.providers.standard.operators.empty", true
		}
		var outlets []any
		for _, o := range t.Outlets {
			outlets = append(outlets, map[string]any{"__type": "asset", "__var": map[string]any{"name": o, "uri": o, "group": "asset", "extra": map[string]any{}}})
		}
		if outlets != nil {
			v["outlets"] = outlets
		}
		partial := map[string]any{}
		for k, f := range t.Fields {
			v[k], partial[k] = f, f
		}
		if t.ExpandOver != "" || t.ExpandLit > 0 {
			v["_is_mapped"], v["_expand_input_attr"], v["partial_kwargs"] = true, "expand_input", partial
			v["expand_input"] = expandInput(t.ExpandOver, t.ExpandLit)
		}
		tasks = append(tasks, map[string]any{"__type": "operator", "__var": v})
	}
	dag["tasks"] = tasks
	doc, err := json.Marshal(map[string]any{"__version": 3, "dag": dag})
	if err != nil {
		panic(fmt.Sprintf("enginetest: %v", err))
	}
	return doc
}

// expandInput is the serialized form of expand(x=…) over a task's result or a
// literal list.
func expandInput(over string, lit int) map[string]any {
	var arg any = make([]int, lit)
	if over != "" {
		arg = map[string]any{"__type": "xcomref", "__var": map[string]any{"task_id": over, "key": "return_value"}}
	}
	return map[string]any{"type": "dict-of-lists", "value": map[string]any{"__type": "dict", "__var": map[string]any{"x": arg}}}
}

// group is the serialized form of a group with what is in it.
func (d DAG) group(g Group) map[string]any {
	children := map[string]any{}
	for _, t := range d.Tasks {
		if t.Group == g.ID {
			children[t.ID] = []any{"operator", t.ID}
		}
	}
	for _, sub := range d.Groups {
		if sub.Parent == g.ID {
			children[sub.ID] = []any{"taskgroup", d.group(sub)}
		}
	}
	out := map[string]any{"_group_id": nil, "prefix_group_id": false, "children": children}
	if g.ID != "" {
		out["_group_id"] = g.ID
	}
	if g.ExpandOver != "" || g.ExpandLit > 0 {
		out["is_mapped"], out["expand_input"] = true, expandInput(g.ExpandOver, g.ExpandLit)
	}
	return out
}

// groupEdges are the edges from what a group expands over to the tasks of the
// group that have nothing above them there.
func (d DAG) groupEdges() map[string][]string {
	down := map[string][]string{}
	in := map[string]string{}
	for _, t := range d.Tasks {
		in[t.ID] = t.Group
	}
	for _, g := range d.Groups {
		if g.ExpandOver == "" {
			continue
		}
		for _, t := range d.Tasks {
			root := t.Group == g.ID
			for _, u := range t.Upstream {
				root = root && in[u] != g.ID && u != g.ExpandOver
			}
			if root && t.ExpandOver != g.ExpandOver {
				down[g.ExpandOver] = append(down[g.ExpandOver], t.ID)
			}
		}
	}
	return down
}

// Chain returns a DAG of n tasks in a row.
func Chain(id string, n int) DAG {
	d := DAG{ID: id}
	for i := 0; i < n; i++ {
		t := Task{ID: fmt.Sprintf("t%03d", i)}
		if i > 0 {
			t.Upstream = []string{d.Tasks[i-1].ID}
		}
		d.Tasks = append(d.Tasks, t)
	}
	return d
}

// Epoch is the time at which test clocks start.
var Epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
