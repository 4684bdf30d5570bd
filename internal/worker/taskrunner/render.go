package taskrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/operatorspec"
	"github.com/gustflow/gust/internal/pyrepr"
	"github.com/gustflow/gust/internal/worker/serde"
)

// Templates renders a task's templates in its context.
type Templates interface {
	// Render renders every text inside v; a text that ends in one of exts is
	// the name of a file to render.
	Render(v jinja.Value, exts []string) (jinja.Value, error)
	// RenderText renders one template to text.
	RenderText(template string) (string, error)
}

// prepare makes everything ready for the operator: params, arguments, rendering.
func (t *Task) prepare(ctx context.Context, op Operator) error {
	if len(t.InactiveAssets) > 0 {
		names := make([]string, len(t.InactiveAssets))
		for i, a := range t.InactiveAssets {
			names[i] = a.Name + " (" + a.URI + ")"
		}
		return &PythonError{Class: "AirflowInactiveAssetInInletOrOutletException", Message: "these inlets or outlets are inactive: " + strings.Join(names, ", ")}
	}
	var err error
	if t.params, err = contextParams(t.TaskContext); err != nil {
		return err
	}
	vals, err := t.resolveArgs(ctx)
	if err != nil {
		return err
	}
	t.Args = NewArgs(vals)
	if len(t.Task.TemplateFields) == 0 && t.Task.MapIndexTemplate == "" {
		return nil
	}
	return t.render(ctx)
}

// Params are the merged params.
func (t *Task) Params() *jinja.Dict { return t.params }

func (t *Task) render(ctx context.Context) error {
	spec, known := operatorspec.Lookup(t.Class)
	var exts []string
	if known {
		exts = spec.TemplateExt
	}
	fields := make(map[string]any, len(t.Task.TemplateFields))
	for _, name := range t.Task.TemplateFields {
		v, given := t.Args.vals[name]
		if !given && known {
			if raw, ok := spec.FieldValues[name]; ok {
				d, err := serde.FromSpec(raw)
				if err != nil {
					return fmt.Errorf("default of %q: %w", name, err)
				}
				v, given = d, true
			}
		}
		r, err := t.renderValue(ctx, v, exts)
		if err != nil {
			return fmt.Errorf("template field %q: %w", name, err)
		}
		if given {
			t.Args.vals[name] = r
		}
		fields[name] = t.displayField(r)
	}
	if len(fields) > 0 && t.NextMethod == "" && t.RescheduleCount == 0 {
		b, err := json.Marshal(fields)
		if err != nil {
			return fmt.Errorf("rendered fields: %w", err)
		}
		t.rendered = b
	}
	return nil
}

func (t *Task) native() bool { return t.DAG.RenderTemplateAsNativeObj }

// needsRender reports whether rendering could change a text.
func needsRender(s string, native bool, exts []string) bool {
	if s == "" {
		return false
	}
	if native || strings.Contains(s, "{{") || strings.Contains(s, "{%") || strings.Contains(s, "{#") || strings.ContainsRune(s, '\r') || strings.HasSuffix(s, "\n") {
		return true
	}
	for _, e := range exts {
		if strings.HasSuffix(s, e) {
			return true
		}
	}
	return false
}

// hasTemplate reports whether rendering could change anything inside v, so that
// tasks without templates pay nothing for them.
func (t *Task) hasTemplate(v jinja.Value, exts []string) bool {
	anyOf := func(items []jinja.Value) bool {
		for _, it := range items {
			if t.hasTemplate(it, exts) {
				return true
			}
		}
		return false
	}
	switch x := v.(type) {
	case string:
		return needsRender(x, t.native(), exts)
	case *jinja.List:
		return t.native() || anyOf(x.Items)
	case *jinja.Tuple:
		return t.native() || anyOf(x.Items)
	case *jinja.Set:
		return t.native() || anyOf(x.Items())
	case *jinja.Dict:
		found := false
		x.Each(func(_, e jinja.Value) bool {
			found = t.hasTemplate(e, exts)
			return !found
		})
		return found || t.native() && x.Len() > 0
	}
	return false
}

func (t *Task) renderValue(ctx context.Context, v jinja.Value, exts []string) (jinja.Value, error) {
	custom := len(t.DAG.Gust.JinjaEnvironmentKwargs) > 0 && string(t.DAG.Gust.JinjaEnvironmentKwargs) != "null"
	if v == nil || !custom && !t.hasTemplate(v, exts) {
		return v, nil
	}
	tpl, err := t.Templates(ctx)
	if err != nil {
		return nil, err
	}
	return tpl.Render(v, exts)
}

// RenderText renders a template in the task's context.
func (t *Task) RenderText(ctx context.Context, s string) (string, error) {
	tpl, err := t.Templates(ctx)
	if err != nil {
		return "", err
	}
	return tpl.RenderText(s)
}

// displayField is a rendered field as it is shown: masked, and truncated when long.
func (t *Task) displayField(v jinja.Value) any {
	shown := t.maskPlain(showable(v))
	b, err := json.Marshal(shown)
	if err != nil {
		return "a value that cannot be shown"
	}
	limit := t.w.o.MaxTemplatedFieldLength
	if len(b) <= limit {
		return shown
	}
	text, isText := shown.(string)
	if !isText {
		text = string(b)
	}
	if utf8.RuneCountInString(text) <= limit {
		return shown
	}
	r := []rune(text)
	return "Truncated. You can change this behaviour in [core]max_templated_field_length. " + pyrepr.Str(string(r[:max(limit-79, 0)])) + "... "
}

// showable replaces what JSON cannot hold by its text.
func showable(v jinja.Value) jinja.Value {
	switch x := v.(type) {
	case *jinja.DateTime, *jinja.Date, *jinja.TimeDelta, *serde.Callable, *serde.Opaque:
		s, err := jinja.Str(x)
		if err != nil {
			return "a value that cannot be shown"
		}
		return s
	}
	return v
}

func (t *Task) maskPlain(v jinja.Value) any {
	b, err := json.Marshal(serde.Plain(v))
	if err != nil {
		return "a value that cannot be shown"
	}
	masked := t.Mask(string(b))
	if masked != string(b) && json.Valid([]byte(masked)) {
		b = []byte(masked)
	} else if masked != string(b) {
		return "***"
	}
	if len(b) > 0 && b[0] == '"' {
		var s string
		if json.Unmarshal(b, &s) == nil {
			return s
		}
	}
	return json.RawMessage(b)
}

// renderMapIndex renders map_index_template; Airflow does it after the task ran.
func (t *Task) renderMapIndex(ctx context.Context) {
	if t.Task.MapIndexTemplate == "" || t.Key().MapIndex == airflow.Unmapped {
		return
	}
	tpl, err := t.Templates(ctx)
	if r, ok := tpl.(*renderer); err == nil && ok {
		for k, raw := range t.added {
			v, derr := serde.DecodeXCom(raw)
			if derr == nil {
				derr = r.set(k, v)
			}
			err = errors.Join(err, derr)
		}
	}
	var s string
	if err == nil {
		s, err = tpl.RenderText(t.Task.MapIndexTemplate)
	}
	if err != nil {
		t.Log.Warn("map_index_template could not be rendered: " + err.Error())
		return
	}
	if r := []rune(s); len(r) > 250 {
		s = string(r[:250])
	}
	t.mapIndex = s
}
