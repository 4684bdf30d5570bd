package jinja

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func render(t *testing.T, env *Environment, src string, vars map[string]Value) (Value, error) {
	t.Helper()
	tmpl, err := env.Parse(src)
	if err != nil {
		return nil, err
	}
	return tmpl.Render(vars)
}

func class(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// TestLimits checks that templates that would hang or exhaust a worker end.
func TestLimits(t *testing.T) {
	hostile := map[string]string{
		"steps":           "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"repeat":          "{{ 'x' * 10 ** 12 }}",
		"list repeat":     "{{ [0] * 10 ** 12 }}",
		"power":           "{{ 9 ** (9 ** 9) }}",
		"growing integer": "{% set n = namespace(v=3) %}{% for i in range(99999) %}{% set n.v = n.v * n.v %}{% endfor %}",
		"growing text":    "{% set n = namespace(v='ab') %}{% for i in range(99999) %}{% set n.v = n.v ~ n.v %}{% endfor %}",
		"width":           "{{ '%999999999d' % 1 }}",
		"spec":            "{{ '{:>999999999}'.format(1) }}",
		"center":          "{{ 'x' | center(10 ** 12) }}",
		"output":          "{% set s = 'x' * 1000000 %}{% for i in range(100000) %}{{ s }}{% endfor %}",
		"nested equal":    "{% set n = namespace(v=[], w=[]) %}{% for i in range(64) %}{% set n.v = [n.v, n.v] %}{% set n.w = [n.w, n.w] %}{% endfor %}{{ n.v == n.w }}",
		"nested hash":     "{% set n = namespace(v=()) %}{% for i in range(64) %}{% set n.v = (n.v, n.v) %}{% endfor %}{{ {n.v: 1} }}",
		"nested json":     "{% set n = namespace(v=[]) %}{% for i in range(64) %}{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v | tojson }}",
		"nested repr":     "{% set n = namespace(v=[]) %}{% for i in range(64) %}{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v }}",
	}
	for name, src := range hostile {
		t.Run(name, func(t *testing.T) {
			env := NewEnvironment()
			env.Limits.MaxSteps = 2_000_000
			start := time.Now()
			_, err := render(t, env, src, nil)
			if c := class(err); c != ClassLimit {
				t.Errorf("error %v, want class %s", err, ClassLimit)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// TestRecursion checks that endless recursion is an error, not a crash.
func TestRecursion(t *testing.T) {
	env := NewEnvironment()
	env.Loader = MapLoader{"self": "{% include 'self' %}", "ext": "{% extends 'ext' %}", "imp": "{% import 'imp' as m %}"}
	for _, src := range []string{
		"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% include 'self' %}", "{% extends 'ext' %}", "{% import 'imp' as m %}",
		"{% block a %}{{ self.a() }}{% endblock %}", "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
	} {
		if _, err := render(t, env, src, nil); class(err) != "RecursionError" {
			t.Errorf("%s: error %v, want RecursionError", src, err)
		}
	}
	nest := "{% set n = namespace(v=[], w=[], t=()) %}{% for i in range(90000) %}{% set n.v = [n.v] %}{% set n.w = [n.w] %}{% set n.t = (n.t,) %}{% endfor %}"
	for _, src := range []string{"{{ n.v }}", "{{ n.v == n.w }}", "{{ {n.t: 1} }}", "{{ n.v | tojson }}", "{{ n.v < n.w }}", "{{ n.v | pprint }}"} {
		if _, err := render(t, env, nest+src, nil); class(err) != "RecursionError" {
			t.Errorf("%s: error %v, want RecursionError", src, err)
		}
	}
	deep := strings.Repeat("(", 100_000) + strings.Repeat(")", 100_000)
	if _, err := render(t, env, "{{ "+deep+" }}", nil); class(err) != "TemplateSyntaxError" {
		t.Errorf("nested parentheses: %v", err)
	}
	if _, ok := LiteralEval(deep); ok {
		t.Error("LiteralEval accepts 100000 parentheses")
	}
}

// TestErrorPlace checks line and template of errors.
func TestErrorPlace(t *testing.T) {
	env := NewEnvironment()
	env.Loader = MapLoader{"a.sql": "x\n\n{{ 1 / 0 }}"}
	for src, line := range map[string]int{"a\nb\n{{ 1 / 0 }}": 3, "a\n{% if %}": 2, "{{ 'a\nb' }}\n{{ x.y.z }}": 3} {
		_, err := render(t, env, src, nil)
		var e *Error
		if !errors.As(err, &e) || e.Line != line {
			t.Errorf("%q: error %v, want line %d", src, err, line)
		}
	}
	tmpl, err := env.Get("a.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, err = tmpl.Render(nil)
	if got, want := err.Error(), "ZeroDivisionError: division by zero (a.sql, line 3)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCacheBound checks that the cache of parsed templates stays bounded.
func TestCacheBound(t *testing.T) {
	env := NewEnvironment()
	for i := range 3 * cacheEntries {
		if _, err := env.Parse(strings.Repeat("x", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := env.cache.lru.Len(); n > cacheEntries || n != len(env.cache.byKey) {
		t.Errorf("cache holds %d templates, %d keys", n, len(env.cache.byKey))
	}
	a, _ := env.Parse("{{ a }}")
	if b, _ := env.Parse("{{ a }}"); a != b {
		t.Error("the same source was parsed twice")
	}
}
