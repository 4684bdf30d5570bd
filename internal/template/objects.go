package template

import (
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/jinja"
)

// entity is an object with fixed attributes.
type entity struct {
	typ   *jinja.Type
	repr  string
	attrs map[string]jinja.Value
}

func newEntity(t *jinja.Type, repr string, attrs map[string]any) (*entity, error) {
	e := &entity{typ: t, repr: repr, attrs: map[string]jinja.Value{}}
	for k, v := range attrs {
		x, err := jinja.FromGo(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		e.attrs[k] = x
	}
	return e, nil
}

// PyType is the class.
func (e *entity) PyType() *jinja.Type { return e.typ }

// PyRepr is repr() and str().
func (e *entity) PyRepr() string { return e.repr }

// Attr gives an attribute.
func (e *entity) Attr(name string) (jinja.Value, bool, error) {
	v, ok := e.attrs[name]
	return v, ok, nil
}

// opaque is an object that templates can only name.
type opaque struct{ typ *jinja.Type }

// PyType is the class.
func (o *opaque) PyType() *jinja.Type { return o.typ }

// Attr fails.
func (o *opaque) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// enum is a member of a str enum: it prints as Class.MEMBER and equals its
// value.
type enum struct{ class, value string }

// PyType is the class.
func (e *enum) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.api.datamodels._generated", Name: e.class}
}

// PyStr is str().
func (e *enum) PyStr() string { return e.class + "." + strings.ToUpper(e.value) }

// PyRepr is repr().
func (e *enum) PyRepr() string {
	return fmt.Sprintf("<%s.%s: '%s'>", e.class, strings.ToUpper(e.value), e.value)
}

// PyBool is false for the empty text.
func (e *enum) PyBool() bool { return e.value != "" }

// PyEqual compares as text.
func (e *enum) PyEqual(other jinja.Value) (bool, bool) {
	switch x := other.(type) {
	case string:
		return x == e.value, true
	case *enum:
		return *x == *e, true
	}
	return false, true
}

// PyHash makes the member the same dict key as its value.
func (e *enum) PyHash() string { return "s" + e.value }

// PyJSON is the value that json.dumps writes.
func (e *enum) PyJSON() jinja.Value { return e.value }

// PyContains is "in".
func (e *enum) PyContains(v jinja.Value) (bool, error) {
	s, ok := v.(string)
	if !ok {
		return false, jinja.Errorf("TypeError", "'in <string>' requires string as left operand, not %s", jinja.TypeName(v))
	}
	return strings.Contains(e.value, s), nil
}

// Attr gives name and value, and the methods of str.
func (e *enum) Attr(name string) (jinja.Value, bool, error) {
	switch name {
	case "value", "_value_":
		return e.value, true, nil
	case "name", "_name_":
		return strings.ToUpper(e.value), true, nil
	}
	v, ok := jinja.StrAttr(e.value, name)
	return v, ok, nil
}

// dagRun is Airflow's DagRun API model.
type dagRun struct {
	names []string
	attrs map[string]jinja.Value
}

func newDagRun(r DagRun, conf jinja.Value) (*dagRun, error) {
	d := &dagRun{attrs: map[string]jinja.Value{}}
	add := func(name string, v jinja.Value) {
		d.names = append(d.names, name)
		d.attrs[name] = v
	}
	events := jinja.NewList()
	for _, e := range r.AssetEvents {
		v, err := parseOptional(e.Fields)
		if err != nil {
			return nil, fmt.Errorf("consumed asset event: %w", err)
		}
		events.Items = append(events.Items, v)
	}
	add("dag_id", r.DagID)
	add("run_id", r.RunID)
	add("logical_date", datePlain(r.LogicalDate))
	add("data_interval_start", datePlain(r.DataIntervalStart))
	add("data_interval_end", datePlain(r.DataIntervalEnd))
	add("run_after", datePlain(&r.RunAfter))
	add("start_date", datePlain(r.StartDate))
	add("end_date", datePlain(r.EndDate))
	add("clear_number", int64(r.ClearNumber))
	add("run_type", &enum{"DagRunType", r.RunType})
	add("state", &enum{"DagRunState", r.State})
	add("conf", conf)
	add("triggering_user_name", optText(r.TriggeringUserName))
	add("consumed_asset_events", events)
	add("partition_key", optText(r.PartitionKey))
	add("partition_date", datePlain(r.PartitionDate))
	add("note", optText(r.Note))
	return d, nil
}

// PyType is the class.
func (d *dagRun) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.api.datamodels._generated", Name: "DagRun"}
}

func (d *dagRun) fields(sep string) string {
	var out []string
	for _, n := range d.names {
		r, err := jinja.Repr(d.attrs[n])
		if err != nil {
			r = "..."
		}
		out = append(out, n+"="+r)
	}
	return strings.Join(out, sep)
}

// PyStr is str().
func (d *dagRun) PyStr() string { return d.fields(" ") }

// PyRepr is repr().
func (d *dagRun) PyRepr() string { return "DagRun(" + d.fields(", ") + ")" }

// Attr gives a field.
func (d *dagRun) Attr(name string) (jinja.Value, bool, error) {
	v, ok := d.attrs[name]
	return v, ok, nil
}

// --- lazy previous run ----------------------------------------------------

type prevSuccess struct {
	get  func() (*PrevRun, error)
	done bool
	run  *PrevRun
}

func newPrevSuccess(get func() (*PrevRun, error)) *prevSuccess { return &prevSuccess{get: get} }

func (p *prevSuccess) load() (*PrevRun, error) {
	if !p.done && p.get != nil {
		r, err := p.get()
		if err != nil {
			return nil, err
		}
		p.run = r
	}
	p.done = true
	return p.run, nil
}

func (p *prevSuccess) proxy(field func(*PrevRun) *time.Time) *proxy {
	return &proxy{get: func() (jinja.Value, error) {
		r, err := p.load()
		if err != nil || r == nil {
			return nil, err
		}
		return dateUTC(field(r)), nil
	}}
}

// proxy is a lazy_object_proxy.Proxy: it stands for its value in all but
// identity, so a proxy of None is not None.
type proxy struct {
	get  func() (jinja.Value, error)
	done bool
	v    jinja.Value
}

// PyType is the class.
func (p *proxy) PyType() *jinja.Type { return &jinja.Type{Module: "builtins", Name: "Proxy"} }

// PyUnwrap is the value.
func (p *proxy) PyUnwrap() (jinja.Value, error) {
	if !p.done {
		v, err := p.get()
		if err != nil {
			return nil, err
		}
		p.v, p.done = v, true
	}
	return p.v, nil
}

// Attr is never used: attributes are the value's.
func (p *proxy) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// --- asset events ---------------------------------------------------------

// triggeringEvents maps assets to the events that triggered the run.
type triggeringEvents struct {
	events *jinja.Dict
	byName map[string]jinja.Value
}

func newTriggeringEvents(in []AssetEvent) (*triggeringEvents, error) {
	t := &triggeringEvents{events: jinja.NewDict(), byName: map[string]jinja.Value{}}
	for _, e := range in {
		v, err := parseOptional(e.Fields)
		if err != nil {
			return nil, fmt.Errorf("asset event of %s: %w", e.AssetURI, err)
		}
		key := e.AssetURI
		if key == "" {
			key = e.AssetName
		}
		if l, ok := t.events.Get(key); ok {
			l.(*jinja.List).Items = append(l.(*jinja.List).Items, v)
			continue
		}
		l := jinja.NewList(v)
		t.events.Set(key, l)
		t.byName[e.AssetName] = l
	}
	return t, nil
}

// PyType is the class.
func (t *triggeringEvents) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.execution_time.context", Name: "TriggeringAssetEventAccessor"}
}

// PyRepr is repr().
func (t *triggeringEvents) PyRepr() string {
	r, err := jinja.Repr(t.events)
	if err != nil {
		r = "{...}"
	}
	return "TriggeringAssetEventAccessor(_events=defaultdict(<class 'list'>, " + r + "))"
}

// PyLen is the number of assets.
func (t *triggeringEvents) PyLen() int { return t.events.Len() }

// PyIter gives the assets.
func (t *triggeringEvents) PyIter() []jinja.Value { return t.events.Keys() }

// PyItem gives the events of an asset, by URI or name.
func (t *triggeringEvents) PyItem(key jinja.Value) (jinja.Value, bool, error) {
	if v, ok := t.events.Get(key); ok {
		return v, true, nil
	}
	s, _ := key.(string)
	v, ok := t.byName[s]
	return v, ok, nil
}

// Attr gives the methods of mappings.
func (t *triggeringEvents) Attr(name string) (jinja.Value, bool, error) {
	switch name {
	case "items", "keys", "values", "get":
		v, ok := jinja.DictAttr(t.events, name)
		return v, ok, nil
	case "_events":
		return t.events, true, nil
	}
	return nil, false, nil
}
