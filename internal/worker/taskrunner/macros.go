package taskrunner

import (
	"context"
	"fmt"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
)

// pyMacro is a user-defined macro: a Python function that a template calls. Each
// call runs in the task's Python.
type pyMacro struct {
	name string
	call func(*jinja.Args) (jinja.Value, error)
}

// PyType is the class.
func (m *pyMacro) PyType() *jinja.Type { return &jinja.Type{Module: "builtins", Name: "function"} }

// PyRepr is repr().
func (m *pyMacro) PyRepr() string { return "<function " + m.name + ">" }

// Attr finds nothing: functions have no attributes here.
func (m *pyMacro) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// PyCall calls the function.
func (m *pyMacro) PyCall(a *jinja.Args) (jinja.Value, error) { return m.call(a) }

// setMacros gives the templates of a task the DAG's user_defined_macros that are
// Python functions. A callback of the control plane has no task to run them in:
// its templates say so when they use one.
func (t *Task) setMacros(ctx context.Context, tpl Templates) error {
	r, ok := tpl.(*renderer)
	if !ok || t.w.o.Python == nil {
		return nil
	}
	for name, raw := range t.DAG.Gust.UserDefinedMacros {
		v, err := serde.FromDocument(raw)
		if err != nil {
			return fmt.Errorf("user_defined_macros %s: %w", name, err)
		}
		if v, found := t.callable(ctx, name, v); found {
			if err := r.set(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// callable replaces the functions in v, also those inside mappings, by ones that
// can be called; found says whether there were any.
func (t *Task) callable(ctx context.Context, name string, v jinja.Value) (out jinja.Value, found bool) {
	switch x := v.(type) {
	case *serde.Callable:
		return &pyMacro{name, func(a *jinja.Args) (jinja.Value, error) {
			kw := jinja.NewDict()
			for _, k := range a.Kw {
				kw.Set(k.Name, k.Value)
			}
			res, err := t.Python(ctx, PythonCall{Kind: "python", Callable: x, Args: jinja.NewList(a.Pos...), Kwargs: kw})
			if err != nil {
				return nil, fmt.Errorf("user-defined macro %s: %w", name, err)
			}
			return serde.DecodeXCom(res.Value)
		}}, true
	case *jinja.Dict:
		d := jinja.NewDict()
		x.Each(func(k, e jinja.Value) bool {
			e2, f := t.callable(ctx, fmt.Sprintf("%s.%v", name, k), e)
			d.Set(k, e2)
			found = found || f
			return true
		})
		return d, found
	}
	return v, false
}
