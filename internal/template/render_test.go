package template

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gustflow/gust/internal/jinja"
)

func sampleContext(t testing.TB) *Context {
	ld := time.Date(2024, 5, 20, 0, 0, 0, 0, time.UTC)
	end := ld.AddDate(0, 0, 1)
	c, err := NewContext(Input{
		Dag: Dag{DagID: "d"}, Task: Task{TaskID: "t", OperatorClass: "BashOperator"},
		TaskInstance: TaskInstance{DagID: "d", TaskID: "t", MapIndex: -1, TryNumber: 1},
		DagRun:       DagRun{DagID: "d", RunID: "r", RunType: "scheduled", State: "running", LogicalDate: &ld, DataIntervalStart: &ld, DataIntervalEnd: &end, RunAfter: end},
		Params:       []byte(`{"b": 1, "a": [1.0, null]}`),
		Lookups:      Lookups{Variable: func(string) (string, bool, error) { return "", false, errors.New("store is down") }},
		Sources:      Sources{Now: func() time.Time { return end }, Random: rand.Float64, UUID: func() string { return "6fa459ea-ee8a-4ca4-894e-db77e160355e" }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newRenderer(t testing.TB, o Options) *Renderer {
	r, err := NewRenderer(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func errClass(err error) string {
	var e *jinja.Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

func TestUserDefinedCallablesNeedPython(t *testing.T) {
	r := newRenderer(t, Options{UserMacros: []string{"my_macro"}, UserFilters: []string{"my_filter"}, UserValues: map[string]any{"team": "x"}})
	c := sampleContext(t)
	for _, src := range []string{"{{ my_macro(1) }}", "{{ ds | my_filter }}", "{{ my_macro.attr }}"} {
		_, err := r.Render(c, src)
		if errClass(err) != ClassNeedsPython || !strings.Contains(err.Error(), `"my_`) {
			t.Errorf("%s: error %v, want class %s that names the callable", src, err, ClassNeedsPython)
		}
	}
	if got, err := r.Render(c, "{{ team }}{{ ds if false else my_macro is defined }}"); err != nil || got != "xTrue" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestRenderJSONKeepsOrder(t *testing.T) {
	got, err := newRenderer(t, Options{}).RenderJSON(sampleContext(t), []byte(`{"z": "{{ ds }}", "a": ["{{ params }}", 1, 1.0]}`))
	if want := `{"z": "2024-05-20", "a": ["{'b': 1, 'a': [1.0, None]}", 1, 1.0]}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestMapIndexTemplate(t *testing.T) {
	c := sampleContext(t)
	if err := c.Set("my_name", []any{"a", 1}); err != nil {
		t.Fatal(err)
	}
	for _, native := range []bool{false, true} {
		got, err := newRenderer(t, Options{Native: native}).RenderMapIndexTemplate(c, "{{ my_name[0] }}-{{ ti.map_index }}")
		if err != nil || got != "a--1" {
			t.Errorf("native %v: got %q, %v", native, got, err)
		}
	}
}

// TestLookupErrors checks that a failing store fails the template with its
// error, and is not taken for a missing value.
func TestLookupErrors(t *testing.T) {
	r := newRenderer(t, Options{})
	for _, src := range []string{"{{ var.value.x }}", "{{ var.value.get('x', 'd') }}", "{{ var.json.x }}"} {
		if _, err := r.Render(sampleContext(t), src); err == nil || !strings.Contains(err.Error(), "store is down") {
			t.Errorf("%s: error %v", src, err)
		}
	}
}

func TestFilesStayInSearchPath(t *testing.T) {
	r := newRenderer(t, Options{TemplateExt: []string{".sql"}, SearchPath: []SearchDir{{"dags", fstest.MapFS{"a.sql": {Data: []byte("{% include '../a.sql' %}")}}}}})
	for _, name := range []string{"../a.sql", "x/../a.sql", "/../a.sql", ".sql", "a.sql"} {
		if _, err := r.Render(sampleContext(t), name); errClass(err) != "TemplateNotFound" {
			t.Errorf("%s: error %v, want TemplateNotFound", name, err)
		}
	}
}

func TestBadOptionsAreAllReported(t *testing.T) {
	_, err := NewRenderer(Options{Undefined: "X", EnvironmentKwargs: map[string]any{"trim_blocks": 1, "nope": true, "extensions": []any{"jinja2.ext.i18n"}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range []string{"template_undefined", "trim_blocks", "nope", "jinja2.ext.i18n"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not name %s: %v", w, err)
		}
	}
}

func TestMacrosWithSources(t *testing.T) {
	r := newRenderer(t, Options{Sources: Sources{Now: func() time.Time { return time.Date(2024, 5, 21, 0, 0, 0, 0, time.UTC) }}})
	for src, want := range map[string]string{
		"{{ macros.uuid.uuid4() }}":                                          "6fa459ea-ee8a-4ca4-894e-db77e160355e",
		"{{ macros.time.time() }}":                                           "1716249600.0",
		"{{ macros.datetime.now() }}":                                        "2024-05-21 00:00:00",
		"{{ logical_date.diff_for_humans() }}":                               "1 day ago",
		"{{ macros.random() < 1 }}":                                          "True",
		"{{ macros.yaml.dump({'b': [1, 'x'], 'a': None}) }}":                 "a: null\nb:\n- 1\n- x\n",
		"{{ macros.json.loads('[1, 2.0]') }}":                                "[1, 2.0]",
		"{{ logical_date in [logical_date] }}{{ dag_run.run_type | upper }}": "TrueDAGRUNTYPE.SCHEDULED",
	} {
		if got, err := r.Render(sampleContext(t), src); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", src, got, err, want)
		}
	}
}

func BenchmarkRenderEcho(b *testing.B) {
	r, c := newRenderer(b, Options{}), sampleContext(b)
	for b.Loop() {
		if _, err := r.Render(c, "echo {{ ds }}"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContextAndRenderSQL(b *testing.B) {
	r := newRenderer(b, Options{})
	for b.Loop() {
		c := sampleContext(b)
		if _, err := r.Render(c, "SELECT * FROM t WHERE d >= '{{ data_interval_start | ds }}' AND d < '{{ data_interval_end.format('YYYY-MM-DD') }}'{% for k, v in params.items() %} AND {{ k }} = {{ v | tojson }}{% endfor %}"); err != nil {
			b.Fatal(err)
		}
	}
}
