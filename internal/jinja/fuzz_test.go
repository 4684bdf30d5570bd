package jinja

import (
	"errors"
	"testing"
	"time"
)

var fuzzSeeds = []string{
	"", "{{ ds }}", "{% for a in [1,2] recursive %}{{ loop.index }}{{ loop([3]) }}{% else %}x{% endfor %}",
	"{% macro f(a, b=1) %}{{ a }}{{ caller() }}{% endmacro %}{% call f(1) %}x{% endcall %}", "{%- raw -%} {{ {%- endraw %}",
	"{{ '%05d|%s' % (1, 'a') }}{{ '{:>8,.2f}'.format(1e9) }}{{ d.format('YYYY') }}", "{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}",
	"{{ [1,2,3][::-1] | sort(reverse=true) | tojson(indent=2) }}", "{% block a scoped %}{{ super() }}{% endblock %}", "{{ 'x' * 99999999999 }}",
	"{{ 9 ** 9 ** 9 ** 9 }}", "{{ range(99999) | list | length }}", "{{ d.add(days=3) - d }}{{ d | string }}{{ d.strftime('%-d%999999Y') }}",
	"{% set l = [] %}{% do l.append(l) %}{{ l }}{{ l|tojson }}", "{% include 'a' %}{% import 'a' as m %}{% extends 'a' %}",
	"{{ 'a'|center(10**9) }}", "{% if a is divisibleby 0 %}{% endif %}", "{{ d.nth_of('month', 9, 9) }}{{ d.in_timezone('x') }}{{ 1e308|int|string }}",
}

// FuzzParse checks that any text parses or fails with a typed error.
func FuzzParse(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		env := NewEnvironment()
		env.Extensions = map[string]bool{"do": true, "loopcontrols": true}
		if _, err := env.Parse(src); err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Class == "" {
				t.Fatalf("error without class: %v", err)
			}
		}
		LiteralEval(src)
	})
}

// FuzzRender checks that rendering any text ends soon, in a value or a typed
// error.
func FuzzRender(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, src string, native bool) {
		env := NewEnvironment()
		env.Extensions = map[string]bool{"do": true, "loopcontrols": true}
		env.Sandboxed, env.Native, env.Undefined = !native, native, StrictUndefined
		env.Loader = MapLoader{"a": src}
		env.Random = func() float64 { return 0.5 }
		env.Limits = Limits{MaxSteps: 100_000, MaxAlloc: 16 << 20, MaxValueBytes: 4 << 20, MaxOutput: 1 << 20, MaxIntBits: 100_000, MaxTime: 2 * time.Second}
		tmpl, err := env.Parse(src)
		if err != nil {
			return
		}
		start := time.Now()
		v, err := tmpl.Render(map[string]Value{
			"ds": "2024-05-20", "d": DateTimeOf(time.Unix(1716163200, 329935000), true), "a": int64(7), "b": 2.5,
			"l": NewList(int64(1), "x", nil), "s": "it's",
		})
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %s", took)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Class == "") {
			t.Fatalf("error without class: %v", err)
		}
		if err == nil {
			_, _ = Str(v)
			_, _ = ToGo(v)
		}
	})
}
