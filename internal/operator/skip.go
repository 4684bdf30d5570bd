package operator

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// downstream returns all tasks below the given ones, without them.
func downstream(d *airflow.DAG, from []airflow.TaskID) map[airflow.TaskID]bool {
	seen := map[airflow.TaskID]bool{}
	stack := append([]airflow.TaskID{}, from...)
	for len(stack) > 0 {
		t := d.Task(stack[len(stack)-1])
		stack = stack[:len(stack)-1]
		if t == nil {
			continue
		}
		for _, id := range t.Downstream {
			if !seen[id] {
				seen[id] = true
				stack = append(stack, id)
			}
		}
	}
	return seen
}

// groupRoots returns the tasks of a group without an upstream inside it; ok is
// false if there is no such group.
func groupRoots(d *airflow.DAG, id airflow.GroupID) (roots []airflow.TaskID, ok bool) {
	members := map[airflow.TaskID]bool{}
	d.TaskGroup.Walk(func(g, _ *airflow.TaskGroup) {
		if g.GroupID != id || id == "" {
			return
		}
		ok = true
		g.Walk(func(g, _ *airflow.TaskGroup) {
			for _, c := range g.Children {
				if c.Group == nil {
					members[c.TaskID] = true
				}
			}
		})
	})
	for _, t := range d.Tasks {
		if !members[t.TaskID] {
			continue
		}
		inner := false
		for _, u := range t.Upstream {
			inner = inner || members[u]
		}
		if !inner {
			roots = append(roots, t.TaskID)
		}
	}
	return roots, ok
}

// follow is Airflow's skip_all_except: what a branch skips when it chose ids
// (of tasks or groups).
func follow(t *taskrunner.Task, ids []string) (*worker.SkipChoice, error) {
	var invalid []string
	var chosen []airflow.TaskID
	for _, id := range ids {
		if t.DAG.Task(airflow.TaskID(id)) != nil {
			chosen = append(chosen, airflow.TaskID(id))
		} else if roots, ok := groupRoots(t.DAG, airflow.GroupID(id)); ok {
			chosen = append(chosen, roots...)
		} else {
			invalid = append(invalid, id)
		}
	}
	if len(invalid) > 0 {
		sort.Strings(invalid)
		return nil, fmt.Errorf("'branch_task_ids' must contain only valid task_ids. Invalid tasks found: %q", invalid)
	}
	if len(t.Task.Downstream) == 0 {
		return nil, nil
	}
	keep := downstream(t.DAG, chosen)
	for _, id := range chosen {
		keep[id] = true
	}
	c := &worker.SkipChoice{Followed: []airflow.TaskID{}}
	var skip []airflow.TaskID
	for _, id := range t.Task.Downstream {
		if keep[id] {
			c.Followed = append(c.Followed, id)
		} else {
			skip = append(skip, id)
		}
	}
	// A mapped branch leaves it to the remembered choice.
	if t.Key().MapIndex == airflow.Unmapped {
		c.Tasks = skip
	}
	t.Log.Info(fmt.Sprintf("Following branch %v, skipping %v", c.Followed, skip))
	return c, nil
}

// branchResult ends a branch that chose ids; value is its return value.
func branchResult(t *taskrunner.Task, ids []string, value json.RawMessage) (*taskrunner.Result, error) {
	c, err := follow(t, ids)
	if err != nil {
		return nil, err
	}
	return skipResult(c, value), nil
}

// skipResult drops the return value where Airflow does: skipping others leaves
// the operator by an exception.
func skipResult(c *worker.SkipChoice, value json.RawMessage) *taskrunner.Result {
	if c != nil && len(c.Tasks) > 0 {
		value = nil
	}
	return &taskrunner.Result{Skip: c, Value: value}
}

// branchIDs reads what a branch callable returned.
func branchIDs(value json.RawMessage) ([]string, error) {
	v, err := serde.DecodeXCom(value)
	if err != nil {
		return nil, err
	}
	var items []jinja.Value
	switch x := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{x}, nil
	case *jinja.List:
		items = x.Items
	case *jinja.Tuple:
		items = x.Items
	case *jinja.Set:
		items = x.Items()
	default:
		return nil, fmt.Errorf("'branch_task_ids' must be either None, a task ID, or an Iterable of IDs, but got %q", jinja.TypeOf(v).QualName())
	}
	out := make([]string, 0, len(items))
	for _, it := range items {
		s, ok := it.(string)
		if !ok {
			return nil, fmt.Errorf("'branch_task_ids' expected all task IDs are strings. Invalid type found: %s", jinja.TypeOf(it).QualName())
		}
		out = append(out, s)
	}
	return out, nil
}

// shortCircuitSkip is what a short circuit with a falsy value skips.
func shortCircuitSkip(t *taskrunner.Task, ignoreRules bool) *worker.SkipChoice {
	var ids []airflow.TaskID
	if ignoreRules {
		below := downstream(t.DAG, []airflow.TaskID{t.Task.TaskID})
		for _, o := range t.DAG.Tasks {
			if below[o.TaskID] && !o.IsTeardown {
				ids = append(ids, o.TaskID)
			}
		}
	} else {
		for _, id := range t.Task.Downstream {
			if !t.DAG.Task(id).IsTeardown {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	c := &worker.SkipChoice{Skipped: ids, IgnoreDownstreamTriggerRules: ignoreRules}
	if t.Key().MapIndex == airflow.Unmapped {
		c.Tasks = ids
	}
	return c
}

// direct returns the direct downstream as texts.
func direct(t *taskrunner.Task) []string {
	out := make([]string, len(t.Task.Downstream))
	for i, id := range t.Task.Downstream {
		out[i] = string(id)
	}
	return out
}

func stringsXCom(ids []string) json.RawMessage {
	b, err := json.Marshal(ids)
	if err != nil {
		panic(err) // texts always encode
	}
	return b
}
