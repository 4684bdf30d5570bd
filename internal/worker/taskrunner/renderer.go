package taskrunner

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/template"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
)

// renderer is Templates over package template. Its context belongs to one
// task; the parsed templates are shared by all tasks of a DAG version.
type renderer struct {
	mu  sync.Mutex
	ctx *template.Context
	tc  *worker.TaskContext
}

func newRenderer(c *template.Context, tc *worker.TaskContext) (Templates, error) {
	r := &renderer{ctx: c, tc: tc}
	_, err := r.of(nil) // report unusable options now
	return r, err
}

// Render implements Templates.
func (r *renderer) Render(v jinja.Value, exts []string) (jinja.Value, error) {
	t, err := r.of(exts)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.RenderValue(r.ctx, v)
}

// RenderText implements Templates.
func (r *renderer) RenderText(s string) (string, error) {
	t, err := r.of(nil)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.RenderMapIndexTemplate(r.ctx, s)
}

// set adds a name to the context.
func (r *renderer) set(name string, v jinja.Value) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ctx.Set(name, v)
}

type rendererKey struct {
	dag    *airflow.DAG
	bundle string
	exts   string
}

// renderers keeps the renderers of recent DAG versions.
var renderers = struct {
	sync.Mutex
	m map[rendererKey]*template.Renderer
}{m: map[rendererKey]*template.Renderer{}}

const maxRenderers = 256

func (r *renderer) of(exts []string) (*template.Renderer, error) {
	key := rendererKey{r.tc.DAG, r.tc.BundleDir, strings.Join(exts, " ")}
	renderers.Lock()
	t := renderers.m[key]
	renderers.Unlock()
	if t != nil {
		return t, nil
	}
	o, err := rendererOptions(r.tc, exts)
	if err != nil {
		return nil, err
	}
	if t, err = template.NewRenderer(o); err != nil {
		return nil, fmt.Errorf("template options of DAG %s: %w", r.tc.DAG.DagID, err)
	}
	renderers.Lock()
	defer renderers.Unlock()
	if len(renderers.m) >= maxRenderers {
		clear(renderers.m)
	}
	renderers.m[key] = t
	return t, nil
}

func rendererOptions(tc *worker.TaskContext, exts []string) (template.Options, error) {
	g := tc.DAG.Gust
	o := template.Options{TemplateExt: exts, Native: tc.DAG.RenderTemplateAsNativeObj, Undefined: g.TemplateUndefined, UserValues: map[string]any{}}
	for _, dir := range searchPath(tc) {
		o.SearchPath = append(o.SearchPath, template.SearchDir{Name: dir, FS: os.DirFS(dir)})
	}
	if raw := airflow.Untag(g.JinjaEnvironmentKwargs); len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &o.EnvironmentKwargs); err != nil {
			return o, fmt.Errorf("jinja_environment_kwargs: expected an object: %w", err)
		}
	}
	for name, raw := range g.UserDefinedMacros {
		v, err := serde.FromDocument(raw)
		if err != nil {
			return o, fmt.Errorf("user_defined_macros %s: %w", name, err)
		}
		switch v.(type) {
		case *serde.Callable, *serde.Opaque:
			o.UserMacros = append(o.UserMacros, name)
		default:
			o.UserValues[name] = v
		}
	}
	for name := range g.UserDefinedFilters {
		o.UserFilters = append(o.UserFilters, name)
	}
	return o, nil
}

func templateConnection(c airflow.Connection) *template.Connection {
	opt := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	out := &template.Connection{
		ConnID: c.ConnID, ConnType: c.ConnType, Description: opt(c.Description), Host: opt(c.Host), Schema: opt(c.Schema),
		Login: opt(c.Login), Password: opt(c.Password), Extra: opt(c.Extra),
	}
	if c.Port != 0 {
		out.Port = &c.Port
	}
	return out
}
