package dagspec

import (
	"encoding/json"
	"path"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operatorspec"
)

// extension is the part of the document that Airflow leaves in the file.
func (d *dagBuild) extension() json.RawMessage {
	raw := func(v value) json.RawMessage {
		w := &jsonWriter{rel: d.rel, dagID: pyStr(d.id)}
		w.free(v)
		return w.raw()
	}
	callbacks := func(v value) []json.RawMessage {
		if l, ok := v.(*list); ok {
			var out []json.RawMessage
			for _, it := range l.items {
				out = append(out, raw(it.val))
			}
			return out
		}
		return []json.RawMessage{raw(v)}
	}
	all := func(m *dict) map[string]json.RawMessage {
		if m == nil {
			return nil
		}
		out := map[string]json.RawMessage{}
		for _, e := range m.entries {
			out[pyStr(e.key)] = raw(e.val)
		}
		return out
	}
	ext := airflow.GustExtension{Producer: "yaml", Operators: map[airflow.TaskID]airflow.OperatorSpec{}, UserDefinedMacros: all(d.macros)}
	for _, p := range d.searchpath {
		ext.TemplateSearchpath = append(ext.TemplateSearchpath, d.rel(p))
	}
	for _, cb := range []string{"on_success_callback", "on_failure_callback"} {
		if v := d.cfg.get(cb); truthy(v) {
			if ext.Callbacks == nil {
				ext.Callbacks = map[string][]json.RawMessage{}
			}
			ext.Callbacks[cb] = callbacks(v)
		}
	}
	if !d.opt.Strict {
		ext.UserDefinedFilters = all(d.filters)
		if j, ok := d.cfg.get("jinja_environment_kwargs").(*dict); ok {
			w := &jsonWriter{}
			w.plain(j)
			ext.JinjaEnvironmentKwargs = w.raw()
		}
		if s, ok := d.cfg.get("template_undefined").(string); ok {
			ext.TemplateUndefined = s
		}
	}
	for _, t := range d.tasks {
		op := airflow.OperatorSpec{Class: t.class.Class, Kwargs: map[string]json.RawMessage{}}
		kw := t.kwargs
		if t.mapped && t.decorated {
			kw = t.partial.clone()
			kw.put("python_callable", t.callable)
		}
		for _, e := range kw.entries {
			n := pyStr(e.key)
			if strings.HasPrefix(n, "on_") && strings.HasSuffix(n, "_callback") {
				continue
			}
			if operatorspec.IsBaseParam(n) && t.class.Param(n) == nil && !extensionBase[n] {
				continue
			}
			op.Kwargs[n] = raw(e.val)
		}
		for _, cb := range callbackNames {
			if v := t.attrs[cb]; truthy(v) {
				if op.Callbacks == nil {
					op.Callbacks = map[string][]json.RawMessage{}
				}
				op.Callbacks[cb] = callbacks(v)
			}
		}
		ext.Operators[airflow.TaskID(t.id)] = op
		d.templateFiles(t)
		if !t.class.runnable {
			for _, n := range t.class.notes {
				if n.class == "" {
					ext.Warnings = append(ext.Warnings, t.id+": "+n.text)
				}
			}
		}
	}
	for _, u := range d.used {
		ext.SourceFiles = append(ext.SourceFiles, d.rel(u))
	}
	sort.Strings(ext.SourceFiles)
	b, err := json.Marshal(ext)
	if err != nil {
		panic("dagspec: extension: " + err.Error()) // RawMessages come out of jsonWriter
	}
	return b
}

// extensionBase are BaseOperator arguments that have no place in the document.
var extensionBase = map[string]bool{"resources": true, "pre_execute": true, "post_execute": true, "logger_name": true}

// templateFiles makes the DAG depend on the files its template fields name.
func (d *dagBuild) templateFiles(t *task) {
	ext := t.templateExt()
	if len(ext) == 0 {
		return
	}
	dirs := append([]string{path.Dir(d.files[0].path)}, d.searchpath...)
	var walk func(v value)
	walk = func(v value) {
		switch v := v.(type) {
		case string:
			for _, e := range ext {
				if !strings.HasSuffix(v, e) || strings.ContainsAny(v, "\n{") {
					continue
				}
				for _, dir := range dirs {
					p := path.Join(dir, v)
					if d.src.IsDir(p) {
						continue
					}
					if _, err := d.read(p); err == nil {
						return
					}
				}
			}
		case *list:
			for _, it := range v.items {
				walk(it.val)
			}
		case *dict:
			for _, e := range v.entries {
				walk(e.val)
			}
		}
	}
	for _, f := range t.class.TemplateFields {
		walk(t.kwargs.get(f))
		if t.expand != nil {
			walk(t.expand.get(f))
		}
	}
}
