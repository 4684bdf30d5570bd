package jinja

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/pyrepr"
)

// FromGo makes a Value of plain Go data: nil, booleans, numbers (json.Number
// keeps its size), strings, []byte, slices, maps with string keys (in sorted
// order, since Go's have none), OrderedMap, time.Time (a plain aware datetime)
// and anything that is a Value already.
func FromGo(v any) (Value, error) {
	switch x := v.(type) {
	case nil, bool, int64, float64, string, Markup, Bytes, *List, *Tuple, *Dict, *Set, *Range, *DateTime, *Date, *Time, *TimeDelta, *Interval, *Undefined, *Func, *Type:
		return x, nil
	case *big.Int:
		return normInt(x), nil
	case int:
		return int64(x), nil
	case int8:
		return int64(x), nil
	case int16:
		return int64(x), nil
	case int32:
		return int64(x), nil
	case uint:
		return normInt(new(big.Int).SetUint64(uint64(x))), nil
	case uint8:
		return int64(x), nil
	case uint16:
		return int64(x), nil
	case uint32:
		return int64(x), nil
	case uint64:
		return normInt(new(big.Int).SetUint64(x)), nil
	case float32:
		return float64(x), nil
	case json.Number:
		if n, ok := parseInt(x.String(), 10); ok {
			return n, nil
		}
		f, ok := parseFloat(x.String())
		if !ok {
			return nil, fmt.Errorf("jinja: %q is no number", x)
		}
		return f, nil
	case json.RawMessage:
		return ParseJSON(string(x))
	case []byte:
		return Bytes(x), nil
	case time.Time:
		return DateTimeOf(x, false), nil
	case time.Duration:
		return &TimeDelta{us: x.Microseconds()}, nil
	case []any:
		l := &List{Items: make([]Value, 0, len(x))}
		for _, it := range x {
			e, err := FromGo(it)
			if err != nil {
				return nil, err
			}
			l.Items = append(l.Items, e)
		}
		return l, nil
	case []string:
		return strList(x), nil
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		d := NewDict()
		for _, k := range keys {
			e, err := FromGo(x[k])
			if err != nil {
				return nil, err
			}
			d.Set(k, e)
		}
		return d, nil
	case map[string]string:
		m := make(map[string]any, len(x))
		for k, s := range x {
			m[k] = s
		}
		return FromGo(m)
	case Object:
		return x, nil
	}
	return nil, fmt.Errorf("jinja: cannot make a template value of Go type %T", v)
}

// ToGo makes plain Go data of a Value, as JSON would hold it: nil, bool, int64
// (json.Number beyond 64 bits), float64, string, []any and map[string]any.
// Dict keys become strings as json.dumps makes them. Dates become ISO text,
// other objects their str(); a strict undefined is an error.
func ToGo(v Value) (out any, err error) {
	defer guard(&err)
	return new(goWriter).value(v, 0), nil
}

// goWriter bounds the size of what ToGo makes, since a value may refer to the
// same list many times.
type goWriter struct{ n int }

const maxGoNodes = 5_000_000

func (g *goWriter) value(v Value, depth int) any {
	g.n++
	if g.n > maxGoNodes {
		raise(ClassLimit, "a value has more than %d parts", maxGoNodes)
	}
	if depth > 500 {
		raise("RecursionError", "maximum recursion depth exceeded")
	}
	seq := func(items []Value) any {
		out := make([]any, len(items))
		for i, it := range items {
			out[i] = g.value(it, depth+1)
		}
		return out
	}
	switch x := v.(type) {
	case nil, bool, int64, string:
		return x
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return pyrepr.Float(x)
		}
		return x
	case *big.Int:
		return json.Number(x.String())
	case Markup:
		return string(x)
	case Bytes:
		return string(x)
	case *List:
		return seq(x.Items)
	case *Tuple:
		return seq(x.Items)
	case *Set:
		return seq(x.Items())
	case *Dict:
		out := make(map[string]any, x.Len())
		x.Each(func(k, e Value) bool {
			key := str(k)
			if b, ok := k.(bool); ok {
				key = fmt.Sprint(b)
			} else if k == nil {
				key = "null"
			}
			out[key] = g.value(e, depth+1)
			return true
		})
		return out
	case *DateTime:
		return x.isoformat("T")
	case *Date:
		return x.isoformat()
	case *Time:
		return x.isoformat()
	case *TimeDelta:
		return float64(x.us) / 1e6
	case Wrapper:
		return g.value(unwrap(x), depth+1)
	}
	return str(v)
}

// StrAttr looks up a method of str on text, for objects that are subclasses
// of str.
func StrAttr(text, name string) (Value, bool) { return strMethods.get(text, name, true) }

// DictAttr looks up a method of dict, for objects that are mappings.
func DictAttr(d *Dict, name string) (Value, bool) { return dictMethods.get(d, name, true) }

// IsTrue is bool(v); an undefined value that forbids it is an error.
func IsTrue(v Value) (b bool, err error) {
	defer guard(&err)
	return isTrue(v), nil
}

// StrftimeValue formats a DateTime, Date or Time as its strftime method does.
func StrftimeValue(v Value, format string) (s string, err error) {
	defer guard(&err)
	v = unwrap(v)
	switch x := v.(type) {
	case *DateTime:
		return strftime(x, format), nil
	case *Date:
		return strftime(x.midnight(), format), nil
	case *Time:
		return x.pyFormat(format), nil
	case *Undefined:
		x.fail()
	}
	raise("AttributeError", "'%s' object has no attribute 'strftime'", typeName(v))
	return "", nil
}

// IsoformatValue is v.isoformat().
func IsoformatValue(v Value) (s string, err error) {
	defer guard(&err)
	v = unwrap(v)
	switch x := v.(type) {
	case *DateTime:
		return x.isoformat("T"), nil
	case *Date:
		return x.isoformat(), nil
	case *Time:
		return x.isoformat(), nil
	case *Undefined:
		x.fail()
	}
	raise("AttributeError", "'%s' object has no attribute 'isoformat'", typeName(v))
	return "", nil
}

// AddDays moves a datetime by whole days.
func AddDays(d *DateTime, days Value) (out *DateTime, err error) {
	defer guard(&err)
	us := makeDelta([]int64{usPerDay}, []Value{days})
	return addMicros(d, us), nil
}

// TypeName is type(v).__name__.
func TypeName(v Value) string { return typeName(v) }

// Unwrap resolves lazy proxies.
func Unwrap(v Value) (out Value, err error) {
	defer guard(&err)
	return unwrap(v), nil
}

// DatetimeType and TimedeltaType are the classes that templates reach through
// macros.datetime and macros.timedelta.
func DatetimeType() *Type { return typeDateTime }

// TimedeltaType is datetime.timedelta.
func TimedeltaType() *Type { return typeTimeDelta }

// Iterate is list(v).
func Iterate(v Value) (items []Value, err error) {
	defer guard(&err)
	ev := NewEnvironment().newEval()
	return ev.toSlice(v), nil
}

// DumpJSONWith is json.dumps with its Python keyword arguments.
func DumpJSONWith(b Bound, v Value, kw []KwArg) (s string, err error) {
	defer guard(&err)
	o := JSONOptions{}
	for _, k := range kw {
		switch k.Name {
		case "sort_keys":
			o.SortKeys = isTrue(k.Value)
		case "indent":
			o.setIndent(k.Value)
		case "ensure_ascii":
			o.NonASCII = !isTrue(k.Value)
		case "skipkeys":
			o.SkipKeys = isTrue(k.Value)
		case "allow_nan":
			o.ForbidNaN = !isTrue(k.Value)
		case "default":
			o.Default = k.Value
		case "separators":
			if k.Value != nil {
				sep := b.ev.toSlice(k.Value)
				if len(sep) != 2 {
					valueError("not enough values to unpack (expected 2, got %d)", len(sep))
				}
				o.ItemSep, o.KeySep, o.hasSeparators = argStr(sep[0]), argStr(sep[1]), true
			}
		case "cls", "check_circular":
		default:
			typeError("JSONEncoder.__init__() got an unexpected keyword argument '%s'", k.Name)
		}
	}
	return b.ev.dumpJSON(v, o), nil
}

// SetOf makes a set; an unhashable item is an error.
func SetOf(items []Value) (s *Set, err error) {
	defer guard(&err)
	return NewSet(items...), nil
}

// DatePart is d.date().
func (d *DateTime) DatePart() *Date { return &Date{days: d.days, pend: d.pend} }
