// Package serde converts between the template engine's Python values and JSON:
// the type tags of DAG documents ({"__type", "__var"}) and those of XComs
// ({"__classname__", "__version__", "__data__"}, Airflow's task SDK form).
package serde

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/pyrepr"
)

// Callable is a reference to a Python callable: an import path, a name in a
// file, or the source of a lambda.
type Callable struct {
	Path   string
	File   string
	Name   string
	Lambda string
	// JSON is the text that the callable returns (dag-factory's HttpOperator.data).
	JSON string
	// Kwargs are given to it besides its other arguments (functools.partial,
	// the constructor of a notifier); nil = none.
	Kwargs *jinja.Dict
}

var (
	typeCallable  = &jinja.Type{Module: "builtins", Name: "function"}
	typeXComArg   = &jinja.Type{Module: "airflow.sdk.definitions.xcom_arg", Name: "PlainXComArg"}
	typeMappedArg = &jinja.Type{Module: "airflow.sdk.definitions.xcom_arg", Name: "PlainMappedArgument"}
	typeOpaque    = &jinja.Type{Module: "builtins", Name: "object"}
)

// PyType implements jinja.Object.
func (c *Callable) PyType() *jinja.Type { return typeCallable }

// Attr implements jinja.Object.
func (c *Callable) Attr(name string) (jinja.Value, bool, error) {
	if name != "__name__" {
		return nil, false, nil
	}
	if c.Lambda != "" {
		return "<lambda>", true, nil
	}
	if c.Name != "" {
		return c.Name, true, nil
	}
	return c.Path[strings.LastIndexByte(c.Path, '.')+1:], true, nil
}

// PyRepr implements jinja.Reprer.
func (c *Callable) PyRepr() string { return "<callable " + c.String() + ">" }

// String returns the import path, or file:name.
func (c *Callable) String() string {
	switch {
	case c.Lambda != "":
		return c.Lambda
	case c.File != "":
		return c.File + ":" + c.Name
	}
	return c.Path
}

// Object is an instance of a class that Python builds.
type Object struct {
	Class  string
	Args   *jinja.List
	Kwargs *jinja.Dict
}

// PyType implements jinja.Object.
func (o *Object) PyType() *jinja.Type {
	i := strings.LastIndexByte(o.Class, '.')
	return &jinja.Type{Module: o.Class[:max(i, 0)], Name: o.Class[i+1:]}
}

// Attr implements jinja.Object.
func (o *Object) Attr(name string) (jinja.Value, bool, error) {
	v, ok := o.Kwargs.Get(name)
	return v, ok, nil
}

// Decimal is a decimal.Decimal by its text; XComs carry it as a number.
type Decimal string

// PyType implements jinja.Object.
func (d Decimal) PyType() *jinja.Type { return &jinja.Type{Module: "decimal", Name: "Decimal"} }

// Attr implements jinja.Object.
func (d Decimal) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// PyStr implements jinja.Strer.
func (d Decimal) PyStr() string { return string(d) }

// PyRepr implements jinja.Reprer.
func (d Decimal) PyRepr() string { return "Decimal('" + string(d) + "')" }

// XComArg is an argument that is another task's XCom; the worker resolves it
// before templates are rendered.
type XComArg struct{ Ref *airflow.XComRef }

// PyType implements jinja.Object.
func (x *XComArg) PyType() *jinja.Type { return typeXComArg }

// Attr implements jinja.Object.
func (x *XComArg) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// MappedArg is an argument of the mapped task group around the task; the worker
// resolves it before rendering.
type MappedArg struct{ Group, Key string }

// PyType implements jinja.Object.
func (*MappedArg) PyType() *jinja.Type { return typeMappedArg }

// Attr implements jinja.Object.
func (*MappedArg) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// Opaque is a value of a type that the worker only passes on.
type Opaque struct {
	Type string
	Raw  json.RawMessage
}

// PyType implements jinja.Object.
func (o *Opaque) PyType() *jinja.Type { return typeOpaque }

// Attr implements jinja.Object.
func (o *Opaque) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// PyRepr implements jinja.Reprer.
func (o *Opaque) PyRepr() string { return string(o.Raw) }

// Encoded is an XCom-encoded value that is passed on as it is.
type Encoded json.RawMessage

// PyType implements jinja.Object.
func (e Encoded) PyType() *jinja.Type { return typeOpaque }

// Attr implements jinja.Object.
func (e Encoded) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

// PyRepr shows the value it encodes.
func (e Encoded) PyRepr() string {
	v, err := DecodeXCom(json.RawMessage(e))
	if err != nil {
		return string(e)
	}
	s, err := jinja.Repr(v)
	if err != nil {
		return string(e)
	}
	return s
}

// FromDocument reads an argument of a DAG document.
func FromDocument(raw json.RawMessage) (jinja.Value, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	v, err := jinja.ParseJSON(string(raw))
	if err != nil {
		return nil, err
	}
	return untag(v)
}

func untag(v jinja.Value) (jinja.Value, error) {
	switch x := v.(type) {
	case *jinja.List:
		for i, it := range x.Items {
			e, err := untag(it)
			if err != nil {
				return nil, err
			}
			x.Items[i] = e
		}
	case *jinja.Dict:
		if x.Len() == 2 {
			kind, isTag := x.Get("__type")
			body, hasBody := x.Get("__var")
			if name, ok := kind.(string); ok && isTag && hasBody {
				return typed(name, body)
			}
		}
		return untagDict(x)
	}
	return v, nil
}

func untagDict(x *jinja.Dict) (jinja.Value, error) {
	for _, k := range x.Keys() {
		e, _ := x.Get(k)
		u, err := untag(e)
		if err != nil {
			return nil, err
		}
		x.Set(k, u)
	}
	return x, nil
}

func typed(name string, body jinja.Value) (jinja.Value, error) {
	switch name {
	case "dict":
		if d, ok := body.(*jinja.Dict); ok {
			return untagDict(d)
		}
	case "tuple", "set", "frozenset":
		l, ok := body.(*jinja.List)
		if !ok {
			break
		}
		if _, err := untag(l); err != nil {
			return nil, err
		}
		if name == "tuple" {
			return jinja.NewTuple(l.Items...), nil
		}
		return jinja.NewSet(l.Items...), nil
	case "datetime":
		if s, ok := body.(string); ok {
			t, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				return nil, fmt.Errorf("datetime %q: expected ISO 8601 with a zone: %w", s, err)
			}
			return jinja.DateTimeOf(t, false), nil
		}
		if f, ok := Float(body); ok {
			return jinja.DateTimeOf(airflow.EpochTime(f), false), nil
		}
	case "timedelta":
		if f, ok := Float(body); ok {
			return Delta(airflow.SecondsDuration(f)), nil
		}
	case "timezone":
		if s, ok := body.(string); ok {
			if z, ok := jinja.Zone(jinja.TZPendulum, s); ok {
				return z, nil
			}
		}
	case "callable":
		if c := callable(body); c != nil {
			return c, nil
		}
	case "partial":
		d, ok := body.(*jinja.Dict)
		if !ok {
			break
		}
		fn, _ := d.Get("callable")
		c := callable(fn)
		if c == nil {
			break
		}
		var err error
		c.Kwargs, err = dictOf(d, "kwargs")
		return c, err
	case "object":
		d, ok := body.(*jinja.Dict)
		if !ok {
			break
		}
		class, _ := d.Get("class")
		path, ok := class.(string)
		if !ok {
			break
		}
		o := &Object{Class: path, Args: jinja.NewList()}
		if args, _ := d.Get("args"); args != nil {
			l, ok := args.(*jinja.List)
			if !ok {
				break
			}
			if _, err := untag(l); err != nil {
				return nil, err
			}
			o.Args = l
		}
		var err error
		o.Kwargs, err = dictOf(d, "kwargs")
		return o, err
	case "date":
		if s, ok := body.(string); ok {
			if t, err := time.Parse("2006-01-02", s); err == nil {
				return jinja.DateTimeOf(t, false).DatePart(), nil
			}
		}
	case "bytes":
		if s, ok := body.(string); ok {
			if b, err := base64.StdEncoding.DecodeString(s); err == nil {
				return jinja.Bytes(b), nil
			}
		}
	case "mapped_arg":
		if d, ok := body.(*jinja.Dict); ok {
			g, _ := d.Get("group")
			k, _ := d.Get("key")
			group, ok1 := g.(string)
			key, ok2 := k.(string)
			if ok1 && ok2 {
				return &MappedArg{group, key}, nil
			}
		}
	case "xcomref":
		ref, err := xcomRef(body)
		if err != nil {
			return nil, err
		}
		return &XComArg{Ref: ref}, nil
	default:
		raw, err := jinja.DumpJSON(body, jinja.JSONOptions{})
		if err != nil {
			return nil, err
		}
		return &Opaque{Type: name, Raw: json.RawMessage(raw)}, nil
	}
	text, _ := jinja.Repr(body)
	return nil, fmt.Errorf("a value tagged %q has an unexpected body: %.80s", name, text)
}

// callable reads the body of a callable tag, nil if it has another form.
func callable(body jinja.Value) *Callable {
	switch b := body.(type) {
	case string:
		return &Callable{Path: b}
	case *jinja.Dict:
		text := func(k string) string {
			v, _ := b.Get(k)
			s, _ := v.(string)
			return s
		}
		if l := text("lambda"); l != "" {
			return &Callable{Lambda: l}
		}
		if j := text("json"); j != "" {
			return &Callable{JSON: j}
		}
		if f, n := text("file"), text("name"); f != "" && n != "" {
			return &Callable{File: f, Name: n}
		}
	}
	return nil
}

func dictOf(d *jinja.Dict, key string) (*jinja.Dict, error) {
	v, _ := d.Get(key)
	kw, ok := v.(*jinja.Dict)
	if !ok {
		return jinja.NewDict(), nil
	}
	_, err := untagDict(kw)
	return kw, err
}

func xcomRef(body jinja.Value) (*airflow.XComRef, error) {
	d, ok := body.(*jinja.Dict)
	if !ok {
		return nil, fmt.Errorf("xcomref: expected an object")
	}
	text := func(k, def string) string {
		if v, _ := d.Get(k); v != nil {
			if s, ok := v.(string); ok {
				return s
			}
		}
		return def
	}
	switch kind := airflow.XComRefType(text("type", "")); kind {
	case airflow.XComPlain, "plain":
		return &airflow.XComRef{TaskID: airflow.TaskID(text("task_id", "")), Key: text("key", airflow.XComReturnKey)}, nil
	case airflow.XComZip, airflow.XComConcat:
		x := &airflow.XComRef{Type: kind}
		args, _ := d.Get("args")
		l, ok := args.(*jinja.List)
		if !ok {
			return nil, fmt.Errorf("xcomref %s: expected args", kind)
		}
		for _, a := range l.Items {
			if _, literal := a.(*jinja.List); literal {
				raw, err := jinja.DumpJSON(a, jinja.JSONOptions{})
				if err != nil {
					return nil, err
				}
				x.Args = append(x.Args, &airflow.XComRef{Literal: json.RawMessage(raw)})
				continue
			}
			r, err := xcomRef(a)
			if err != nil {
				return nil, err
			}
			x.Args = append(x.Args, r)
		}
		if fill, ok := d.Get("fillvalue"); ok {
			raw, err := jinja.DumpJSON(fill, jinja.JSONOptions{})
			if err != nil {
				return nil, err
			}
			x.HasFill, x.FillValue = true, json.RawMessage(raw)
		}
		return x, nil
	default:
		return nil, fmt.Errorf("an argument uses XCom %q, which needs the full Python runtime: compute the value in a task instead", kind)
	}
}

// Float reads an int or a float.
func Float(v jinja.Value) (float64, bool) {
	switch x := v.(type) {
	case int64:
		return float64(x), true
	case float64:
		return x, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(x).Float64()
		return f, true
	}
	return 0, false
}

// Delta makes a timedelta.
func Delta(d time.Duration) jinja.Value {
	v, err := jinja.FromGo(d)
	if err != nil {
		panic(err) // a duration always converts
	}
	return v
}

// EncodeXCom writes a value as XCom JSON. What cannot be stored is an error
// that names its type.
func EncodeXCom(v jinja.Value) (json.RawMessage, error) {
	b, err := appendXCom(nil, v, 0)
	return json.RawMessage(b), err
}

const maxDepth = 200

func appendXCom(b []byte, v jinja.Value, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the value is nested too deeply for an XCom")
	}
	var err error
	list := func(items []jinja.Value) {
		b = append(b, '[')
		for i, it := range items {
			if i > 0 {
				b = append(b, ',')
			}
			if err == nil {
				b, err = appendXCom(b, it, depth+1)
			}
		}
		b = append(b, ']')
	}
	wrapped := func(class string, version int, body func()) ([]byte, error) {
		b = append(b, `{"__classname__":"`+class+`","__version__":`+strconv.Itoa(version)+`,"__data__":`...)
		body()
		return append(b, '}'), err
	}
	switch x := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, x), nil
	case int64:
		return strconv.AppendInt(b, x, 10), nil
	case *big.Int:
		return append(b, x.String()...), nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("%v cannot be stored as an XCom: JSON has no such number", x)
		}
		return append(b, pyrepr.Float(x)...), nil
	case string:
		return appendString(b, x), nil
	case jinja.Markup:
		return appendString(b, string(x)), nil
	case *jinja.List:
		list(x.Items)
		return b, err
	case *jinja.Tuple:
		return wrapped("builtins.tuple", 1, func() { list(x.Items) })
	case *jinja.Set:
		return wrapped("builtins.set", 1, func() { list(x.Items()) })
	case *jinja.Dict:
		b = append(b, '{')
		first := true
		x.Each(func(k, e jinja.Value) bool {
			if !first {
				b = append(b, ',')
			}
			first = false
			s, ok := k.(string)
			if !ok {
				if s, err = jinja.Str(k); err != nil {
					return false
				}
			}
			if s == "__classname__" {
				err = fmt.Errorf("the key %q is reserved and cannot be in an XCom", s)
				return false
			}
			b = append(appendString(b, s), ':')
			b, err = appendXCom(b, e, depth+1)
			return err == nil
		})
		return append(b, '}'), err
	case *jinja.DateTime:
		class := "datetime.datetime"
		if x.IsPendulum() {
			class = "pendulum.datetime.DateTime"
		}
		return wrapped(class, 2, func() {
			t := x.Time()
			b = append(b, `{"timestamp":`...)
			b = append(b, pyrepr.Float(float64(t.UnixMicro())/1e6)...)
			b = append(b, `,"tz":`...)
			b = appendZone(b, x)
			b = append(b, '}')
		})
	case Decimal:
		return wrapped("decimal.Decimal", 1, func() {
			f, perr := strconv.ParseFloat(string(x), 64)
			switch {
			case perr != nil || math.IsNaN(f) || math.IsInf(f, 0):
				err = fmt.Errorf("Decimal %q cannot be stored as an XCom", string(x))
			case strings.ContainsAny(string(x), ".eE"):
				b = append(b, pyrepr.Float(f)...)
			default:
				b = append(b, x...)
			}
		})
	case Encoded:
		return append(b, x...), nil
	case *jinja.Date:
		return wrapped("datetime.date", 2, func() { b = appendString(b, x.ISO()) })
	case *jinja.TimeDelta:
		return wrapped("datetime.timedelta", 2, func() { b = append(b, pyrepr.Float(x.Seconds())...) })
	case jinja.Wrapper:
		u, err := x.PyUnwrap()
		if err != nil {
			return nil, err
		}
		return appendXCom(b, u, depth+1)
	}
	return nil, fmt.Errorf("a value of type %s cannot be stored as an XCom: use JSON-like data", jinja.TypeOf(v).QualName())
}

func appendZone(b []byte, d *jinja.DateTime) []byte {
	tz, _, _ := d.Attr("tzinfo") // a datetime always has it
	z, ok := tz.(*jinja.TZ)
	if !ok {
		return append(b, "null"...)
	}
	name, class := z.PyStr(), "zoneinfo.ZoneInfo"
	_, off := d.Time().Zone()
	switch {
	case name == "UTC":
		class = "pendulum.tz.timezone.FixedTimezone"
	case !strings.Contains(name, "/"): // a fixed offset such as +02:00
		return fmt.Appendf(b, `{"__classname__":"builtins.tuple","__version__":1,"__data__":[%d,"pendulum.tz.timezone.FixedTimezone",1,true]}`, off)
	}
	return fmt.Appendf(b, `{"__classname__":"builtins.tuple","__version__":1,"__data__":[%q,%q,1,true]}`, name, class)
}

// appendString writes JSON without the escapes for HTML.
func appendString(b []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return append(b, q...)
}

// DecodeXCom reads the JSON of an XCom. Classes the engine does not know stay
// dicts as stored.
func DecodeXCom(raw json.RawMessage) (jinja.Value, error) {
	v, err := jinja.ParseJSON(string(raw))
	if err != nil {
		return nil, fmt.Errorf("unreadable XCom: %w", err)
	}
	return Revive(v), nil
}

// Revive replaces the XCom tags below a parsed value by the objects they mean.
func Revive(v jinja.Value) jinja.Value {
	switch x := v.(type) {
	case *jinja.List:
		for i, it := range x.Items {
			x.Items[i] = Revive(it)
		}
	case *jinja.Dict:
		for _, k := range x.Keys() {
			e, _ := x.Get(k)
			x.Set(k, Revive(e))
		}
		class, _ := x.Get("__classname__")
		name, ok := class.(string)
		if !ok {
			return x
		}
		data, _ := x.Get("__data__")
		if r, ok := revive(name, data); ok {
			return r
		}
	}
	return v
}

func revive(class string, data jinja.Value) (jinja.Value, bool) {
	switch class {
	case "builtins.tuple", "builtins.set", "builtins.frozenset":
		l, ok := data.(*jinja.List)
		if !ok {
			return nil, false
		}
		if class == "builtins.tuple" {
			return jinja.NewTuple(l.Items...), true
		}
		return jinja.NewSet(l.Items...), true
	case "datetime.datetime", "pendulum.datetime.DateTime":
		d, ok := data.(*jinja.Dict)
		if !ok {
			return nil, false
		}
		ts, _ := d.Get("timestamp")
		f, ok := Float(ts)
		return jinja.DateTimeOf(airflow.EpochTime(f), class[0] == 'p'), ok
	case "datetime.date":
		s, _ := data.(string)
		t, err := time.Parse("2006-01-02", s)
		if err != nil {
			return nil, false
		}
		return jinja.DateTimeOf(t, false).DatePart(), true
	case "datetime.timedelta":
		f, ok := Float(data)
		return Delta(airflow.SecondsDuration(f)), ok
	case "decimal.Decimal":
		return data, true
	}
	if strings.HasPrefix(class, "numpy.") {
		return data, true
	}
	return nil, false
}

// Plain returns a value as JSON without tags: tuples and sets are arrays, dates
// ISO text, timedeltas seconds, the rest its text. For display and for bodies
// of HTTP requests.
func Plain(v jinja.Value) any {
	switch x := v.(type) {
	case *jinja.Set:
		return Plain(jinja.NewList(x.Items()...))
	case *jinja.Tuple:
		return Plain(jinja.NewList(x.Items...))
	case *jinja.List:
		out := make([]any, len(x.Items))
		for i, it := range x.Items {
			out[i] = Plain(it)
		}
		return out
	case *jinja.Dict:
		out := orderedMap{}
		x.Each(func(k, e jinja.Value) bool {
			s, ok := k.(string)
			if !ok {
				s, _ = jinja.Str(k) // a key that has no text is shown empty
			}
			out = append(out, orderedEntry{s, Plain(e)})
			return true
		})
		return out
	case *jinja.TimeDelta:
		return x.Seconds()
	}
	if g, err := jinja.ToGo(v); err == nil {
		return g
	}
	s, _ := jinja.Str(v) // shown empty if even that fails
	return s
}

type orderedEntry struct {
	key string
	val any
}

// orderedMap is a JSON object that keeps its order.
type orderedMap []orderedEntry

// MarshalJSON writes the object in order.
func (m orderedMap) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, e := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, e.key), ':')
		v, err := json.Marshal(e.val)
		if err != nil {
			return nil, err
		}
		b = append(b, v...)
	}
	return append(b, '}'), nil
}

// FromSpec reads a value of package operatorspec's table, whose tags are
// {"$tuple": […]}, {"$set": […]} and {"$timedelta": seconds}.
func FromSpec(raw json.RawMessage) (jinja.Value, error) {
	v, err := jinja.ParseJSON(string(raw))
	if err != nil {
		return nil, err
	}
	d, ok := v.(*jinja.Dict)
	if !ok || d.Len() != 1 {
		return v, nil
	}
	key := d.Keys()[0]
	body, _ := d.Get(key)
	switch b := body.(type) {
	case *jinja.List:
		switch key {
		case "$tuple":
			return jinja.NewTuple(b.Items...), nil
		case "$set":
			return jinja.NewSet(b.Items...), nil
		}
	default:
		if f, ok := Float(body); ok && key == "$timedelta" {
			return Delta(airflow.SecondsDuration(f)), nil
		}
	}
	return v, nil
}
