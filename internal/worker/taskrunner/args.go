package taskrunner

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
)

// Args are the constructor arguments of an operator: as authored, and rendered
// where the argument is a template field. Readers collect problems; Err returns
// them all.
type Args struct {
	vals     map[string]jinja.Value
	problems []airflow.Problem
}

// NewArgs returns Args over vals, which it keeps.
func NewArgs(vals map[string]jinja.Value) *Args {
	if vals == nil {
		vals = map[string]jinja.Value{}
	}
	return &Args{vals: vals}
}

// Get returns an argument; nil if it is None or not given.
func (a *Args) Get(name string) jinja.Value { return a.vals[name] }

// Has reports whether an argument was given and is not None.
func (a *Args) Has(name string) bool { return a.vals[name] != nil }

// Set replaces an argument.
func (a *Args) Set(name string, v jinja.Value) { a.vals[name] = v }

// Names returns the names of the arguments given, sorted.
func (a *Args) Names() []string {
	out := make([]string, 0, len(a.vals))
	for k := range a.vals {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Err returns everything that was wrong with the arguments read so far.
func (a *Args) Err() error {
	if len(a.problems) == 0 {
		return nil
	}
	return &airflow.InvalidError{Problems: a.problems}
}

// Reject records a problem with an argument.
func (a *Args) Reject(name, format string, args ...any) {
	a.problems = append(a.problems, airflow.Problem{Field: name, Message: fmt.Sprintf(format, args...)})
}

func (a *Args) wrong(name, want string) {
	text, err := jinja.Repr(a.vals[name])
	if err != nil {
		text = "a value that cannot be shown"
	}
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	a.Reject(name, "expected %s, got %s", want, text)
}

// String returns a text argument; a missing one is def.
func (a *Args) String(name, def string) string {
	switch v := a.vals[name].(type) {
	case nil:
		return def
	case string:
		return v
	case jinja.Markup:
		return string(v)
	}
	a.wrong(name, "text")
	return def
}

// Required returns a text argument that must be given and not be empty.
func (a *Args) Required(name string) string {
	s := a.String(name, "")
	if s == "" && a.Err() == nil {
		a.Reject(name, "is missing or empty: give a text")
	}
	return s
}

// Bool returns a truth value; any Python value has one.
func (a *Args) Bool(name string, def bool) bool {
	switch v := a.vals[name].(type) {
	case nil:
		return def
	case bool:
		return v
	case string: // a rendered template
		switch strings.ToLower(v) {
		case "true", "t", "1", "yes":
			return true
		case "false", "f", "0", "no", "", "none":
			return false
		}
		a.wrong(name, "True or False")
	default:
		if f, ok := serde.Float(v); ok {
			return f != 0
		}
		a.wrong(name, "True or False")
	}
	return def
}

// Int returns a whole number.
func (a *Args) Int(name string, def int) int {
	switch v := a.vals[name].(type) {
	case nil:
		return def
	case int64:
		return int(v)
	}
	a.wrong(name, "a whole number")
	return def
}

// Seconds returns a duration given as a number of seconds or a timedelta.
func (a *Args) Seconds(name string, def time.Duration) time.Duration {
	switch v := a.vals[name].(type) {
	case nil:
		return def
	case *jinja.TimeDelta:
		return airflow.SecondsDuration(v.Seconds())
	default:
		if f, ok := serde.Float(v); ok {
			return airflow.SecondsDuration(f)
		}
	}
	a.wrong(name, "seconds or a timedelta")
	return def
}

// Strings returns a list of texts; one text is a list of itself.
func (a *Args) Strings(name string) []string {
	var items []jinja.Value
	switch v := a.vals[name].(type) {
	case nil:
		return nil
	case string:
		return []string{v}
	case *jinja.List:
		items = v.Items
	case *jinja.Tuple:
		items = v.Items
	case *jinja.Set:
		items = v.Items()
	default:
		a.wrong(name, "a text or a list of texts")
		return nil
	}
	out := make([]string, 0, len(items))
	for _, it := range items {
		s, ok := it.(string)
		if !ok {
			a.wrong(name, "a text or a list of texts")
			return nil
		}
		out = append(out, s)
	}
	return out
}

// Ints returns a list of whole numbers; one number is a list of itself.
func (a *Args) Ints(name string) []int {
	var items []jinja.Value
	switch v := a.vals[name].(type) {
	case nil:
		return nil
	case int64:
		return []int{int(v)}
	case *jinja.List:
		items = v.Items
	case *jinja.Tuple:
		items = v.Items
	case *jinja.Set:
		items = v.Items()
	}
	out := make([]int, 0, len(items))
	for _, it := range items {
		n, ok := it.(int64)
		if !ok {
			items = nil
			break
		}
		out = append(out, int(n))
	}
	if len(items) == 0 && len(out) == 0 {
		if l, ok := a.vals[name].(*jinja.List); !ok || len(l.Items) > 0 {
			a.wrong(name, "a whole number or a list of them")
		}
	}
	return out
}

// Dict returns a dict argument, nil if it is not given.
func (a *Args) Dict(name string) *jinja.Dict {
	switch v := a.vals[name].(type) {
	case nil:
		return nil
	case *jinja.Dict:
		return v
	}
	a.wrong(name, "a dict")
	return nil
}

// StringMap returns a dict of texts in order; values that are no texts become
// their str(), as environment variables and headers do.
func (a *Args) StringMap(name string) [][2]string {
	d := a.Dict(name)
	if d == nil {
		return nil
	}
	var out [][2]string
	d.Each(func(k, v jinja.Value) bool {
		ks, err := jinja.Str(k)
		if err != nil {
			a.Reject(name, "%v", err)
			return false
		}
		vs := ""
		if v != nil {
			if vs, err = jinja.Str(v); err != nil {
				a.Reject(name, "%v", err)
				return false
			}
		}
		out = append(out, [2]string{ks, vs})
		return true
	})
	return out
}

// Callable returns a reference to a Python callable, nil if it is not given.
func (a *Args) Callable(name string) *serde.Callable {
	switch v := a.vals[name].(type) {
	case nil:
		return nil
	case *serde.Callable:
		return v
	case string:
		if v != "" && !strings.ContainsAny(v, " {}()\n") && strings.Contains(v, ".") {
			return &serde.Callable{Path: v}
		}
	}
	a.wrong(name, "a callable: an import path such as package.module.function, or a name in a file")
	return nil
}

// Time returns a moment given as a datetime or ISO 8601 text (UTC if it has no
// zone); the zero time if it is not given.
func (a *Args) Time(name string) time.Time {
	switch v := a.vals[name].(type) {
	case nil:
		return time.Time{}
	case *jinja.DateTime:
		return v.Time().UTC()
	case string:
		if t, err := ParseTime(v); err == nil {
			return t
		}
	}
	a.wrong(name, "a datetime or ISO 8601 text")
	return time.Time{}
}

var timeForms = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02", "20060102T150405", "20060102T150405-0700", "20060102",
}

// ParseTime reads ISO 8601 text as Airflow's timezone.parse does: UTC if it has no zone.
func ParseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, f := range timeForms {
		if t, err := time.Parse(f, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date and time: expected ISO 8601 such as 2026-01-31T08:00:00+00:00", s)
}
