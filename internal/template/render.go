package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/pyrepr"
)

// SearchDir is one folder in which template files are looked up.
type SearchDir struct {
	// Name is the folder as messages show it.
	Name string
	FS   fs.FS
}

// Options are the parts of a DAG and an operator that decide how fields are
// rendered.
type Options struct {
	// SearchPath is the DAG's folder, then its template_searchpath.
	SearchPath []SearchDir
	// TemplateExt is the operator's template_ext: a text that ends in one of
	// them is a file name. The comparison is case-sensitive.
	TemplateExt []string
	// Native is the DAG's render_template_as_native_obj.
	Native bool
	// Undefined is the DAG's template_undefined class, "" for StrictUndefined.
	Undefined string
	// EnvironmentKwargs is the DAG's jinja_environment_kwargs.
	EnvironmentKwargs map[string]any
	// UserMacros and UserFilters name the DAG's user_defined_macros and
	// user_defined_filters. They are Python callables: a template that uses
	// one fails with an error of class ClassNeedsPython, unless its context has
	// a macro of that name.
	UserMacros, UserFilters []string
	// UserValues are the user_defined_macros that are plain data.
	UserValues map[string]any
	Limits     jinja.Limits
	Sources    Sources
}

// ClassNeedsPython is the class of errors for what only the Python runtime can
// do, such as calling a user-defined macro.
const ClassNeedsPython = "NeedsPythonRuntime"

// Renderer renders the templated fields of one operator. It is safe for
// concurrent use and keeps parsed templates; keep it as long as its DAG
// version.
type Renderer struct {
	env *jinja.Environment
	ext []string
}

// pythonOnly is a user-defined macro: naming it is harmless, using it is not.
type pythonOnly struct{ kind, name string }

func (p *pythonOnly) err() *jinja.Error {
	return jinja.Errorf(ClassNeedsPython, "the %s %q is a Python callable; it cannot be called here: replace it by a built-in macro or filter, or compute the value in a task and pull its XCom", p.kind, p.name)
}

// PyType is the class.
func (p *pythonOnly) PyType() *jinja.Type { return &jinja.Type{Module: "builtins", Name: "function"} }

// PyRepr is repr().
func (p *pythonOnly) PyRepr() string { return "<function " + p.name + ">" }

// Attr fails: the object's attributes are unknown here.
func (p *pythonOnly) Attr(string) (jinja.Value, bool, error) { return nil, false, p.err() }

// PyCall fails.
func (p *pythonOnly) PyCall(*jinja.Args) (jinja.Value, error) { return nil, p.err() }

// NewRenderer prepares a renderer. The error lists every option that is not
// understood.
func NewRenderer(o Options) (*Renderer, error) {
	env := jinja.NewEnvironment()
	env.Sandboxed = !o.Native
	env.Native = o.Native
	env.Extensions = map[string]bool{"do": true}
	env.Limits = o.Limits
	env.Random = o.Sources.Random
	env.Clock = o.Sources.Now
	env.Filters = filters()
	env.Globals = map[string]jinja.Value{}
	env.Loader = &fileLoader{o.SearchPath}
	var problems []error
	u, err := jinja.ParseUndefinedKind(o.Undefined)
	if err != nil {
		problems = append(problems, fmt.Errorf("template_undefined: %w", err))
	}
	env.Undefined = u
	keys := make([]string, 0, len(o.EnvironmentKwargs))
	for k := range o.EnvironmentKwargs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if err := setEnvOption(env, k, o.EnvironmentKwargs[k]); err != nil {
			problems = append(problems, fmt.Errorf("jinja_environment_kwargs %s: %w", k, err))
		}
	}
	for name, v := range o.UserValues {
		x, err := jinja.FromGo(v)
		if err != nil {
			problems = append(problems, fmt.Errorf("user_defined_macros %s: %w", name, err))
			continue
		}
		env.Globals[name] = x
	}
	for _, name := range o.UserMacros {
		env.Globals[name] = &pythonOnly{"user-defined macro", name}
	}
	for _, name := range o.UserFilters {
		p := &pythonOnly{"user-defined filter", name}
		env.Filters[name] = jinja.NewFunc(name, "*args **kwargs", func(jinja.Bound) (jinja.Value, error) { return nil, p.err() })
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Renderer{env: env, ext: o.TemplateExt}, nil
}

func setEnvOption(env *jinja.Environment, key string, v any) error {
	texts := map[string]*string{
		"block_start_string": &env.BlockStart, "block_end_string": &env.BlockEnd,
		"variable_start_string": &env.VariableStart, "variable_end_string": &env.VariableEnd,
		"comment_start_string": &env.CommentStart, "comment_end_string": &env.CommentEnd,
		"line_statement_prefix": &env.LineStatementPrefix, "line_comment_prefix": &env.LineCommentPrefix,
		"newline_sequence": &env.NewlineSequence,
	}
	bools := map[string]*bool{
		"trim_blocks": &env.TrimBlocks, "lstrip_blocks": &env.LstripBlocks,
		"keep_trailing_newline": &env.KeepTrailingNewline, "autoescape": &env.Autoescape,
	}
	if p, ok := texts[key]; ok {
		if v == nil {
			v = ""
		}
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("expected text, got %T", v)
		}
		if s == "" && !strings.HasPrefix(key, "line_") {
			return errors.New("expected a text that is not empty")
		}
		*p = s
		return nil
	}
	if p, ok := bools[key]; ok {
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("expected true or false, got %T", v)
		}
		*p = b
		return nil
	}
	switch key {
	case "extensions":
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("expected a list of names, got %T", v)
		}
		// A given list replaces Airflow's own.
		env.Extensions = map[string]bool{}
		for _, e := range list {
			switch e {
			case "jinja2.ext.do":
				env.Extensions["do"] = true
			case "jinja2.ext.loopcontrols":
				env.Extensions["loopcontrols"] = true
			default:
				return fmt.Errorf("the extension %v is not available: only jinja2.ext.do and jinja2.ext.loopcontrols work without the Python runtime", e)
			}
		}
		return nil
	case "undefined":
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("expected a class name, got %T", v)
		}
		u, err := jinja.ParseUndefinedKind(s)
		env.Undefined = u
		return err
	case "cache_size", "auto_reload", "optimized", "enable_async":
		return nil
	}
	return errors.New("unknown option; expected one of Jinja's Environment options")
}

// Render renders plain Go data and returns plain Go data (see jinja.FromGo and
// jinja.ToGo). Use RenderValue to keep Python types and the order of keys.
func (r *Renderer) Render(c *Context, value any) (any, error) {
	v, err := jinja.FromGo(value)
	if err != nil {
		return nil, err
	}
	out, err := r.RenderValue(c, v)
	if err != nil {
		return nil, err
	}
	return jinja.ToGo(out)
}

// RenderJSON renders a field given as JSON, keeping the order of keys. The
// result is Python's JSON; a value that JSON lacks (a datetime in native mode)
// is an error of class TypeError.
func (r *Renderer) RenderJSON(c *Context, raw json.RawMessage) (json.RawMessage, error) {
	v, err := jinja.ParseJSON(string(raw))
	if err != nil {
		return nil, err
	}
	out, err := r.RenderValue(c, v)
	if err != nil {
		return nil, err
	}
	return ToJSON(out)
}

// ToJSON is json.dumps of a rendered value.
func ToJSON(v jinja.Value) (json.RawMessage, error) {
	s, err := jinja.DumpJSON(v, jinja.JSONOptions{})
	if err != nil {
		return nil, err
	}
	return json.RawMessage(s), nil
}

// RenderValue renders one templated field: texts in it and in its lists,
// tuples, sets and dict values. A field that is false (empty, zero, None)
// stays as it is.
func (r *Renderer) RenderValue(c *Context, v jinja.Value) (jinja.Value, error) {
	if b, err := jinja.IsTrue(v); err != nil || !b {
		return v, err
	}
	return r.render(c, v, 0)
}

// maxFieldDepth bounds the nesting of a field.
const maxFieldDepth = 500

func (r *Renderer) render(c *Context, v jinja.Value, depth int) (jinja.Value, error) {
	if depth > maxFieldDepth {
		return nil, jinja.Errorf("RecursionError", "the templated field is nested more than %d levels deep", maxFieldDepth)
	}
	all := func(in []jinja.Value) ([]jinja.Value, error) {
		out := make([]jinja.Value, len(in))
		for i, it := range in {
			x, err := r.render(c, it, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = x
		}
		return out, nil
	}
	switch x := v.(type) {
	case string:
		return r.text(c, x)
	case *jinja.List:
		out, err := all(x.Items)
		if err != nil {
			return nil, err
		}
		return &jinja.List{Items: out}, nil
	case *jinja.Tuple:
		out, err := all(x.Items)
		if err != nil {
			return nil, err
		}
		return &jinja.Tuple{Items: out}, nil
	case *jinja.Set:
		out, err := all(x.Items())
		if err != nil {
			return nil, err
		}
		return jinja.SetOf(out)
	case *jinja.Dict:
		out := jinja.NewDict()
		var err error
		x.Each(func(k, e jinja.Value) bool {
			var y jinja.Value
			if y, err = r.render(c, e, depth+1); err != nil {
				return false
			}
			out.Set(k, y)
			return true
		})
		if err != nil {
			return nil, err
		}
		return out, nil
	}
	return v, nil
}

func (r *Renderer) text(c *Context, s string) (jinja.Value, error) {
	for _, ext := range r.ext {
		if ext != "" && strings.HasSuffix(s, ext) {
			t, err := r.env.Get(s)
			if err != nil {
				return nil, err
			}
			return t.Render(c.vars)
		}
	}
	t, err := r.env.Parse(s)
	if err != nil {
		return nil, err
	}
	return t.Render(c.vars)
}

// RenderMapIndexTemplate renders map_index_template after a task has run; the
// result is always text (rendered_map_index).
func (r *Renderer) RenderMapIndexTemplate(c *Context, template string) (string, error) {
	t, err := r.env.Parse(template)
	if err != nil {
		return "", err
	}
	v, err := t.Render(c.vars)
	if err != nil {
		return "", err
	}
	return jinja.Str(v)
}

// fileLoader reads templates from the search path.
type fileLoader struct{ dirs []SearchDir }

// Load finds a template. Names never leave the search path.
func (l *fileLoader) Load(name string) (string, error) {
	var parts []string
	for _, p := range strings.Split(name, "/") {
		switch {
		case p == "..":
			return "", l.notFound(name)
		case p != "" && p != ".":
			parts = append(parts, p)
		}
	}
	if path := strings.Join(parts, "/"); fs.ValidPath(path) && path != "" && path != "." {
		for _, d := range l.dirs {
			if b, err := fs.ReadFile(d.FS, path); err == nil {
				return string(b), nil
			}
		}
	}
	return "", l.notFound(name)
}

func (l *fileLoader) notFound(name string) error {
	var names []string
	for _, d := range l.dirs {
		names = append(names, pyrepr.Str(d.Name))
	}
	s := "s"
	if len(names) == 1 {
		s = ""
	}
	return jinja.Errorf("TemplateNotFound", "%s not found in search path%s: %s", pyrepr.Str(name), s, strings.Join(names, ", "))
}
