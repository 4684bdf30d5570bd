package taskrunner

import (
	"context"
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
)

// mappedGroups are the mapped task groups around the task, the innermost first.
func (t *Task) mappedGroups() []*airflow.TaskGroup {
	if t.groups == nil {
		t.groups = []*airflow.TaskGroup{}
		t.DAG.TaskGroup.Walk(func(g, _ *airflow.TaskGroup) { // parents first
			if g.IsMapped && g.Expand != nil && contains(g, t.Key().TaskID) {
				t.groups = append([]*airflow.TaskGroup{g}, t.groups...)
			}
		})
	}
	return t.groups
}

func contains(g *airflow.TaskGroup, id airflow.TaskID) bool {
	for _, c := range g.Children {
		if c.Group == nil && c.TaskID == id || c.Group != nil && contains(c.Group, id) {
			return true
		}
	}
	return false
}

// groupValues evaluates the arguments of the mapped groups around this instance.
// Of nested groups the innermost varies fastest, as their map indexes do.
func (t *Task) groupValues(ctx context.Context) (map[airflow.GroupID]*jinja.Dict, error) {
	if t.groupArgs != nil {
		return t.groupArgs, nil
	}
	out := map[airflow.GroupID]*jinja.Dict{}
	rest := t.Key().MapIndex
	if rest == airflow.Unmapped {
		return out, nil
	}
	groups := t.mappedGroups()
	for i, g := range groups {
		at := rest
		if i < len(groups)-1 {
			n := 1
			for _, a := range g.Expand.Args {
				s, err := t.source(ctx, a)
				if err != nil {
					return nil, fmt.Errorf("task group %q: %w", g.GroupID, err)
				}
				n *= s.n
			}
			if n == 0 {
				return nil, fmt.Errorf("task group %q: the values to expand over are empty now: they changed after it was expanded", g.GroupID)
			}
			at, rest = rest%n, rest/n
		}
		vals, err := t.expandAt(ctx, g.Expand, at)
		if err != nil {
			return nil, fmt.Errorf("task group %q: %w", g.GroupID, err)
		}
		d := jinja.NewDict()
		for _, v := range vals {
			d.Set(v.name, v.val)
		}
		out[g.GroupID] = d
	}
	t.groupArgs = out
	return out, nil
}

// groupArg returns one argument of a mapped group around the task.
func (t *Task) groupArg(ctx context.Context, a *serde.MappedArg) (jinja.Value, error) {
	vals, err := t.groupValues(ctx)
	if err != nil {
		return nil, err
	}
	d := vals[airflow.GroupID(a.Group)]
	if d == nil {
		return nil, Failf("the argument %s of task group %q is used by task %q, which is no mapped task of that group", a.Key, a.Group, t.Key().TaskID)
	}
	v, ok := d.Get(a.Key)
	if !ok {
		return nil, Failf("task group %q has no argument %q at map index %d", a.Group, a.Key, t.Key().MapIndex)
	}
	return v, nil
}

// setGroupArgs gives templates the arguments of the groups as group_args; of two
// with one name that of the inner group counts.
func (t *Task) setGroupArgs(ctx context.Context, tpl Templates) error {
	r, ok := tpl.(*renderer)
	if !ok || len(t.mappedGroups()) == 0 {
		return nil
	}
	vals, err := t.groupValues(ctx)
	if err != nil {
		return err
	}
	all := jinja.NewDict()
	groups := t.mappedGroups()
	for i := len(groups) - 1; i >= 0; i-- {
		if d := vals[groups[i].GroupID]; d != nil {
			d.Each(func(k, v jinja.Value) bool {
				all.Set(k, v)
				return true
			})
		}
	}
	return r.set("group_args", all)
}
