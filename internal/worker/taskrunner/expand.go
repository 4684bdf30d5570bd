package taskrunner

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
)

// resolveArgs reads the arguments of the document, adds those of this map
// index, and replaces XCom references by their values.
func (t *Task) resolveArgs(ctx context.Context) (map[string]jinja.Value, error) {
	vals := make(map[string]jinja.Value, len(t.Spec.Kwargs))
	for name, raw := range t.Spec.Kwargs {
		v, err := serde.FromDocument(raw)
		if err != nil {
			return nil, fmt.Errorf("argument %q: %w", name, err)
		}
		if vals[name], err = t.resolve(ctx, v); err != nil {
			return nil, fmt.Errorf("argument %q: %w", name, err)
		}
	}
	if t.Task.Expand == nil || t.Key().MapIndex == airflow.Unmapped {
		return vals, nil
	}
	mapped, err := t.expandAt(ctx, t.Task.Expand, t.Key().MapIndex)
	if err != nil {
		return nil, fmt.Errorf("mapped arguments of index %d: %w", t.Key().MapIndex, err)
	}
	var attr string
	if raw := t.Task.Raw["_expand_input_attr"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &attr); err != nil {
			return nil, err
		}
	}
	into := vals
	var kwargs *jinja.Dict
	if attr == "op_kwargs_expand_input" { // a decorated function: its own parameters are mapped
		if d, ok := vals["op_kwargs"].(*jinja.Dict); ok {
			kwargs = d
		} else {
			kwargs = jinja.NewDict()
		}
		into["op_kwargs"] = kwargs
	}
	for _, kv := range mapped {
		if kwargs != nil {
			kwargs.Set(kv.name, kv.val)
			continue
		}
		into[kv.name] = kv.val
	}
	return vals, nil
}

// resolve replaces XCom references inside v.
func (t *Task) resolve(ctx context.Context, v jinja.Value) (jinja.Value, error) {
	each := func(items []jinja.Value) error {
		for i, it := range items {
			r, err := t.resolve(ctx, it)
			if err != nil {
				return err
			}
			items[i] = r
		}
		return nil
	}
	switch x := v.(type) {
	case *serde.XComArg:
		return t.resolveRef(ctx, x.Ref)
	case *serde.MappedArg:
		return t.groupArg(ctx, x)
	case *jinja.List:
		return x, each(x.Items)
	case *jinja.Tuple:
		return x, each(x.Items)
	case *jinja.Dict:
		for _, k := range x.Keys() {
			e, _ := x.Get(k)
			r, err := t.resolve(ctx, e)
			if err != nil {
				return nil, err
			}
			x.Set(k, r)
		}
	}
	return v, nil
}

// resolveRef returns the value of an XCom reference for this instance.
func (t *Task) resolveRef(ctx context.Context, ref *airflow.XComRef) (jinja.Value, error) {
	if ref.Literal != nil {
		return serde.FromDocument(ref.Literal)
	}
	switch ref.Type {
	case airflow.XComPlain:
		return t.resolvePlain(ctx, ref)
	case airflow.XComConcat, airflow.XComZip:
		var lists [][]jinja.Value
		for _, a := range ref.Args {
			v, err := t.resolveRef(ctx, a)
			if err != nil {
				return nil, err
			}
			items, err := elements(v)
			if err != nil {
				return nil, err
			}
			lists = append(lists, items)
		}
		if ref.Type == airflow.XComConcat {
			out := jinja.NewList()
			for _, l := range lists {
				out.Items = append(out.Items, l...)
			}
			return out, nil
		}
		return zip(lists, ref)
	}
	return nil, Failf("the task expands over %s(…), whose function exists in the Python file only: it needs the full Python runtime; "+
		"compute the mapped values in an upstream task instead", ref.Type)
}

func zip(lists [][]jinja.Value, ref *airflow.XComRef) (jinja.Value, error) {
	n := -1
	for _, l := range lists {
		if n < 0 || ref.HasFill && len(l) > n || !ref.HasFill && len(l) < n {
			n = len(l)
		}
	}
	fill, err := serde.FromDocument(ref.FillValue)
	if err != nil {
		return nil, err
	}
	out := jinja.NewList()
	for i := range max(n, 0) {
		row := jinja.NewTuple()
		for _, l := range lists {
			if i < len(l) {
				row.Items = append(row.Items, l[i])
			} else {
				row.Items = append(row.Items, fill)
			}
		}
		out.Items = append(out.Items, row)
	}
	return out, nil
}

func (t *Task) resolvePlain(ctx context.Context, ref *airflow.XComRef) (jinja.Value, error) {
	src := t.DAG.Task(ref.TaskID)
	if src == nil {
		return nil, Failf("an argument refers to task %q, which is not in DAG %q", ref.TaskID, t.DAG.DagID)
	}
	q := worker.XComQuery{DagID: t.DAG.DagID, RunID: t.Run.RunID, TaskID: ref.TaskID, Key: ref.Key, MapIndex: airflow.Unmapped}
	indexes, limited := t.UpstreamMapIndexes[ref.TaskID]
	if !src.IsMapped && !src.NeedsExpansion || limited && len(indexes) == 1 {
		if limited && len(indexes) == 1 {
			q.MapIndex = indexes[0]
		}
		raw, err := t.GetXCom(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("XCom %q of task %q: %w", ref.Key, ref.TaskID, err)
		}
		if raw == nil {
			if ref.Key == airflow.XComReturnKey {
				return nil, nil
			}
			return nil, &PythonError{Class: "XComNotFound", Message: fmt.Sprintf("XComArg result from %s at %s with key=%q is not found!", ref.TaskID, t.DAG.DagID, ref.Key)}
		}
		return serde.DecodeXCom(raw)
	}
	vals, err := t.ListXCom(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("XComs %q of task %q: %w", ref.Key, ref.TaskID, err)
	}
	wanted := map[int]bool{}
	for _, i := range indexes {
		wanted[i] = true
	}
	out := jinja.NewList()
	for _, x := range vals {
		if limited && !wanted[x.MapIndex] || isNull(x.Value) {
			continue
		}
		v, err := serde.DecodeXCom(x.Value)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, v)
	}
	return out, nil
}

// elements lists what expansion makes of a value: the items of a list or tuple,
// the (key, value) pairs of a dict.
func elements(v jinja.Value) ([]jinja.Value, error) {
	switch x := v.(type) {
	case *jinja.List:
		return x.Items, nil
	case *jinja.Tuple:
		return x.Items, nil
	case *jinja.Set:
		return x.Items(), nil
	case *jinja.Dict:
		out := make([]jinja.Value, 0, x.Len())
		x.Each(func(k, e jinja.Value) bool {
			out = append(out, jinja.NewTuple(k, e))
			return true
		})
		return out, nil
	}
	return nil, fmt.Errorf("cannot expand over a value of type %s: expected a list, tuple or dict", jinja.TypeOf(v).QualName())
}

type namedValue struct {
	name string
	val  jinja.Value
}

// expandAt returns the arguments of one map index. Several arguments form a
// cross product in which the last varies fastest.
func (t *Task) expandAt(ctx context.Context, in *airflow.ExpandInput, index int) ([]namedValue, error) {
	lists := make([]*source, len(in.Args))
	for i, a := range in.Args {
		var err error
		if lists[i], err = t.source(ctx, a); err != nil {
			return nil, err
		}
		if lists[i].n == 0 {
			return nil, fmt.Errorf("the values to expand over are empty now: they changed after the task was expanded")
		}
	}
	picked := make([]jinja.Value, len(lists))
	rest := index
	for i := len(lists) - 1; i >= 0; i-- {
		var err error
		if picked[i], err = lists[i].at(rest % lists[i].n); err != nil {
			return nil, err
		}
		rest /= lists[i].n
	}
	if rest > 0 {
		return nil, fmt.Errorf("there are fewer values than %d: they changed after the task was expanded", index+1)
	}
	if in.Kind == airflow.ExpandListOfDicts {
		d, ok := picked[0].(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("expand_kwargs needs dicts, got %s", jinja.TypeOf(picked[0]).QualName())
		}
		var out []namedValue
		var bad error
		d.Each(func(k, v jinja.Value) bool {
			s, ok := k.(string)
			if !ok {
				bad = fmt.Errorf("expand_kwargs needs dicts with text keys")
				return false
			}
			out = append(out, namedValue{s, v})
			return true
		})
		return out, bad
	}
	out := make([]namedValue, len(lists))
	for i, a := range in.Args {
		out[i] = namedValue{a.Name, picked[i]}
	}
	return out, nil
}

func (t *Task) expandSource(ctx context.Context, a airflow.ExpandArg) (jinja.Value, error) {
	if a.XCom != nil {
		return t.resolveRef(ctx, a.XCom)
	}
	v, err := serde.FromDocument(a.Literal)
	if err != nil {
		return nil, err
	}
	return t.resolve(ctx, v)
}
