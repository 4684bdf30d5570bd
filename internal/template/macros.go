package template

import (
	"github.com/gustflow/gust/internal/jinja"
)

// macrosAccessor is macros.
type macrosAccessor struct{ vars map[string]jinja.Value }

// PyType is the class.
func (m *macrosAccessor) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.execution_time.context", Name: "MacrosAccessor"}
}

// PyRepr is repr().
func (m *macrosAccessor) PyRepr() string { return "<MacrosAccessor (dynamic access to macros)>" }

// Attr gives a macro.
func (m *macrosAccessor) Attr(name string) (jinja.Value, bool, error) {
	v, ok := m.vars[name]
	return v, ok, nil
}

func noSource(what string) error {
	return jinja.Errorf("RuntimeError", "no %s was given to the template context", what)
}

func newMacros(src Sources) map[string]jinja.Value {
	m := map[string]jinja.Value{
		"datetime":  jinja.DatetimeType(),
		"timedelta": jinja.TimedeltaType(),
		"dateutil":  jinja.DateutilModule(),
	}
	m["ds_add"] = jinja.NewFunc("ds_add", "ds days", func(b jinja.Bound) (jinja.Value, error) {
		ds, err := jinja.Str(b.V(0))
		if err != nil {
			return nil, err
		}
		if ok, err := jinja.IsTrue(b.V(1)); err != nil || !ok {
			return ds, err
		}
		d, err := jinja.ParseTime(ds, "%Y-%m-%d")
		if err != nil {
			return nil, err
		}
		if d, err = jinja.AddDays(d, b.V(1)); err != nil {
			return nil, err
		}
		return jinja.StrftimeValue(d, "%Y-%m-%d")
	})
	m["ds_format"] = jinja.NewFunc("ds_format", "ds input_format output_format", func(b jinja.Bound) (jinja.Value, error) {
		d, err := parseDS(b)
		if err != nil {
			return nil, err
		}
		out, err := jinja.Str(b.V(2))
		if err != nil {
			return nil, err
		}
		return jinja.StrftimeValue(d, out)
	})
	m["ds_format_locale"] = jinja.NewFunc("ds_format_locale", "ds input_format output_format locale=", func(b jinja.Bound) (jinja.Value, error) {
		d, err := parseDS(b)
		if err != nil {
			return nil, err
		}
		out, err := jinja.Str(b.V(2))
		if err != nil {
			return nil, err
		}
		locale := "en_US"
		if v := b.V(3); v != nil {
			if locale, err = jinja.Str(v); err != nil {
				return nil, err
			}
		}
		return formatLocale(d, out, locale)
	})
	m["datetime_diff_for_humans"] = jinja.NewFunc("datetime_diff_for_humans", "dt since=", func(b jinja.Bound) (jinja.Value, error) {
		get := func(v jinja.Value) (*jinja.DateTime, error) {
			v, err := jinja.Unwrap(v)
			if err != nil || v == nil {
				return nil, err
			}
			d, ok := v.(*jinja.DateTime)
			if !ok {
				return nil, jinja.Errorf("ValueError", "instance() expects a datetime, date or time, got %s", jinja.TypeName(v))
			}
			return jinja.Instance(d), nil
		}
		d, err := get(b.V(0))
		if err != nil {
			return nil, err
		}
		if d == nil {
			return nil, jinja.Errorf("ValueError", "instance() expects a datetime, date or time, got NoneType")
		}
		since, err := get(b.V(1))
		if err != nil {
			return nil, err
		}
		if since == nil && src.Now == nil {
			return nil, noSource("clock")
		}
		return b.Eval().DiffForHumans(d, since), nil
	})
	m["random"] = jinja.NewFunc("random", "", func(jinja.Bound) (jinja.Value, error) {
		if src.Random == nil {
			return nil, noSource("source of random numbers")
		}
		return src.Random(), nil
	})
	m["json"] = &jinja.Module{Name: "json", Vars: map[string]jinja.Value{
		"dumps": jinja.NewFunc("dumps", "obj * **kw", func(b jinja.Bound) (jinja.Value, error) {
			return jinja.DumpJSONWith(b, b.V(0), b.Kw())
		}),
		"loads": jinja.NewFunc("loads", "s * **kw", func(b jinja.Bound) (jinja.Value, error) {
			v, err := jinja.Unwrap(b.V(0))
			if err != nil {
				return nil, err
			}
			switch x := v.(type) {
			case string:
				return jinja.ParseJSON(x)
			case jinja.Markup:
				return jinja.ParseJSON(string(x))
			case jinja.Bytes:
				return jinja.ParseJSON(string(x))
			}
			return nil, jinja.Errorf("TypeError", "the JSON object must be str, bytes or bytearray, not %s", jinja.TypeName(v))
		}),
	}}
	m["yaml"] = &jinja.Module{Name: "airflow.sdk.yaml", Vars: map[string]jinja.Value{
		"safe_load": jinja.NewFunc("safe_load", "stream", yamlLoad),
		"load":      jinja.NewFunc("load", "stream Loader=", yamlLoad),
		"dump":      jinja.NewFunc("dump", "data stream= **kw", yamlDump),
		"safe_dump": jinja.NewFunc("safe_dump", "data stream= **kw", yamlDump),
	}}
	m["uuid"] = &jinja.Module{Name: "uuid", Vars: map[string]jinja.Value{
		"uuid4": jinja.NewFunc("uuid4", "", func(jinja.Bound) (jinja.Value, error) {
			if src.UUID == nil {
				return nil, noSource("source of UUIDs")
			}
			return &uuidValue{src.UUID()}, nil
		}),
	}}
	now := func() (float64, error) {
		if src.Now == nil {
			return 0, noSource("clock")
		}
		return float64(src.Now().UnixNano()) / 1e9, nil
	}
	m["time"] = &jinja.Module{Name: "time", Vars: map[string]jinja.Value{
		"time": jinja.NewFunc("time", "", func(jinja.Bound) (jinja.Value, error) { return now() }),
		"strftime": jinja.NewFunc("strftime", "format", func(b jinja.Bound) (jinja.Value, error) {
			if src.Now == nil {
				return nil, noSource("clock")
			}
			f, err := jinja.Str(b.V(0))
			if err != nil {
				return nil, err
			}
			return jinja.StrftimeValue(jinja.DateTimeOf(src.Now(), false), f)
		}),
	}}
	return m
}

func parseDS(b jinja.Bound) (*jinja.DateTime, error) {
	ds, err := jinja.Str(b.V(0))
	if err != nil {
		return nil, err
	}
	in, err := jinja.Str(b.V(1))
	if err != nil {
		return nil, err
	}
	return jinja.ParseTime(ds, in)
}

// uuidValue is a uuid.UUID.
type uuidValue struct{ s string }

// PyType is the class.
func (u *uuidValue) PyType() *jinja.Type { return &jinja.Type{Module: "uuid", Name: "UUID"} }

// PyStr is str().
func (u *uuidValue) PyStr() string { return u.s }

// PyRepr is repr().
func (u *uuidValue) PyRepr() string { return "UUID('" + u.s + "')" }

// Attr gives hex.
func (u *uuidValue) Attr(name string) (jinja.Value, bool, error) {
	if name == "hex" {
		out := ""
		for _, r := range u.s {
			if r != '-' {
				out += string(r)
			}
		}
		return out, true, nil
	}
	return nil, false, nil
}

// filters are the filters that Airflow adds.
func filters() map[string]*jinja.Func {
	m := map[string]*jinja.Func{}
	add := func(name string, f func(v jinja.Value) (string, error)) {
		m[name] = jinja.NewFunc(name+"_filter", "value", func(b jinja.Bound) (jinja.Value, error) {
			// Only None itself passes; a lazy None does not.
			if b.V(0) == nil {
				return nil, nil
			}
			return f(b.V(0))
		})
	}
	format := func(f string) func(jinja.Value) (string, error) {
		return func(v jinja.Value) (string, error) { return jinja.StrftimeValue(v, f) }
	}
	add("ds", format("%Y-%m-%d"))
	add("ds_nodash", format("%Y%m%d"))
	add("ts", jinja.IsoformatValue)
	add("ts_nodash", format("%Y%m%dT%H%M%S"))
	add("ts_nodash_with_tz", func(v jinja.Value) (string, error) {
		s, err := jinja.IsoformatValue(v)
		out := ""
		for _, r := range s {
			if r != '-' && r != ':' {
				out += string(r)
			}
		}
		return out, err
	})
	return m
}
