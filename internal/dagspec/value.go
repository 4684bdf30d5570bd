package dagspec

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// value is a Python value: nil, bool, int64, *big.Int, float64, string, bytes,
// or a pointer to one of the types below (whose identity matters to anchors).
type value = any

// bytes is a Python bytes object.
type pyBytes struct{ b []byte }

// pos is a place in one of the files of a load; the zero pos is unknown.
type pos struct {
	file      int32 // index into loader.files, 1-based
	line, col int32 // 1-based, in the text after environment expansion
}

func (p pos) known() bool { return p.line > 0 }

// dict is a Python dict: ordered, with the place of each key and value.
type dict struct {
	entries []entry
	index   map[string]int // built when the dict is large
}

type entry struct {
	key        value
	val        value
	kpos, vpos pos
}

const indexFrom = 12

// keyOf gives equal texts to keys that Python takes for equal.
func keyOf(k value) string {
	switch k := k.(type) {
	case string:
		return "s" + k
	case bool:
		if k {
			return "n1"
		}
		return "n0"
	case int64:
		return "n" + strconv.FormatInt(k, 10)
	case float64:
		if k == math.Trunc(k) && math.Abs(k) < 1e15 {
			return "n" + strconv.FormatInt(int64(k), 10)
		}
	}
	return typeName(k) + ":" + pyRepr(k)
}

func (d *dict) find(k value) int {
	if d.index != nil {
		if i, ok := d.index[keyOf(k)]; ok {
			return i
		}
		return -1
	}
	if s, ok := k.(string); ok {
		for i := range d.entries {
			if t, ok := d.entries[i].key.(string); ok && t == s {
				return i
			}
		}
		return -1
	}
	want := keyOf(k)
	for i := range d.entries {
		if keyOf(d.entries[i].key) == want {
			return i
		}
	}
	return -1
}

// set stores e; a key that exists keeps its place in the order.
func (d *dict) set(e entry) {
	if i := d.find(e.key); i >= 0 {
		d.entries[i].val, d.entries[i].vpos = e.val, e.vpos
		if e.kpos.known() {
			d.entries[i].kpos = e.kpos
		}
		return
	}
	d.entries = append(d.entries, e)
	if d.index != nil {
		d.index[keyOf(e.key)] = len(d.entries) - 1
	} else if len(d.entries) == indexFrom {
		d.reindex()
	}
}

func (d *dict) reindex() {
	d.index = make(map[string]int, 2*len(d.entries))
	for i := range d.entries {
		d.index[keyOf(d.entries[i].key)] = i
	}
}

func (d *dict) put(k string, v value) { d.set(entry{key: k, val: v}) }

func (d *dict) lookup(k string) (value, bool) {
	if i := d.find(k); i >= 0 {
		return d.entries[i].val, true
	}
	return nil, false
}

// get returns the value of k, or nil (None) if absent.
func (d *dict) get(k string) value {
	v, _ := d.lookup(k)
	return v
}

// has reports whether k is present with a value other than None.
func (d *dict) has(k string) bool { return d.get(k) != nil }

func (d *dict) entry(k string) *entry {
	if i := d.find(k); i >= 0 {
		return &d.entries[i]
	}
	return nil
}

// at returns the place of k's value, or of its key.
func (d *dict) at(k string) pos {
	if e := d.entry(k); e != nil {
		if e.vpos.known() {
			return e.vpos
		}
		return e.kpos
	}
	return pos{}
}

func (d *dict) del(k string) {
	i := d.find(k)
	if i < 0 {
		return
	}
	d.entries = append(d.entries[:i:i], d.entries[i+1:]...)
	if d.index != nil {
		d.reindex()
	}
}

// clone returns a shallow copy.
func (d *dict) clone() *dict {
	c := &dict{entries: append([]entry(nil), d.entries...)}
	if len(c.entries) >= indexFrom {
		c.reindex()
	}
	return c
}

// keys returns the keys that are text, in order.
func (d *dict) keys() []string {
	out := make([]string, 0, len(d.entries))
	for _, e := range d.entries {
		if s, ok := e.key.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// list is a Python list.
type list struct{ items []item }

type item struct {
	val value
	pos pos
}

func newList(vs ...value) *list {
	l := &list{items: make([]item, len(vs))}
	for i, v := range vs {
		l.items[i].val = v
	}
	return l
}

// tuple and set are Python's; their items are values.
type tuple struct{ items []value }
type set struct{ items []value }

// deepCopy copies containers and keeps everything else (which nobody changes).
// Containers that are shared stay shared, as with copy.deepcopy.
func deepCopy(v value) value { return copier{}.copy(v) }

type copier map[any]value

func (c copier) copy(v value) value {
	switch v := v.(type) {
	case *dict:
		if x, ok := c[v]; ok {
			return x
		}
		d := &dict{entries: make([]entry, len(v.entries))}
		c[v] = d
		for i, e := range v.entries {
			e.val = c.copy(e.val)
			d.entries[i] = e
		}
		if len(d.entries) >= indexFrom {
			d.reindex()
		}
		return d
	case *list:
		if x, ok := c[v]; ok {
			return x
		}
		l := &list{items: make([]item, len(v.items))}
		c[v] = l
		for i, it := range v.items {
			it.val = c.copy(it.val)
			l.items[i] = it
		}
		return l
	}
	return v
}

// truthy is Python's bool(v).
func truthy(v value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case *big.Int:
		return v.Sign() != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *pyBytes:
		return len(v.b) > 0
	case *dict:
		return len(v.entries) > 0
	case *list:
		return len(v.items) > 0
	case *tuple:
		return len(v.items) > 0
	case *set:
		return len(v.items) > 0
	case *timedelta:
		return *v != timedelta{}
	}
	return true
}

// typeName is the name of v's Python type, as in error messages.
func typeName(v value) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *pyBytes:
		return "bytes"
	case *dict:
		return "dict"
	case *list:
		return "list"
	case *tuple:
		return "tuple"
	case *set:
		return "set"
	case *date:
		return "date"
	case *datetime:
		if v.pendulum {
			return "DateTime"
		}
		return "datetime"
	case *timeOfDay:
		return "time"
	case *timedelta:
		return "timedelta"
	case *relativedelta:
		return "relativedelta"
	case *timezone:
		return "Timezone"
	case *callable:
		return "function"
	case *partial:
		return "partial"
	case *object:
		return v.class.name()
	case *xcomArg:
		return "PlainXComArg"
	case *xcomOp:
		return map[string]string{"zip": "ZipXComArg", "concat": "ConcatXComArg"}[v.kind]
	case *mappedArg:
		return "MappedArgument"
	case *operatorArg:
		return v.task.class.Type()
	}
	return "object"
}

// classRepr is repr(type(v)): <class 'datetime.date'>.
func classRepr(v value) string {
	switch v := v.(type) {
	case *date, *timeOfDay, *timedelta:
		return "<class 'datetime." + typeName(v) + "'>"
	case *datetime:
		if v.pendulum {
			return "<class 'pendulum.datetime.DateTime'>"
		}
		return "<class 'datetime.datetime'>"
	case *relativedelta:
		return "<class 'dateutil.relativedelta.relativedelta'>"
	case *object:
		return "<class '" + v.class.path + "'>"
	}
	return "<class '" + typeName(v) + "'>"
}

// pyRepr is repr(v).
func pyRepr(v value) string {
	var b strings.Builder
	writeRepr(&b, v, 0)
	return b.String()
}

// pyStr is str(v).
func pyStr(v value) string {
	switch v := v.(type) {
	case string:
		return v
	case *date:
		return v.String()
	case *datetime:
		return v.String()
	case *timeOfDay:
		return v.String()
	case *timedelta:
		return v.String()
	}
	return pyRepr(v)
}

func writeRepr(b *strings.Builder, v value, depth int) {
	if depth > 50 {
		b.WriteString("...")
		return
	}
	seq := func(open, closing string, items []value) {
		b.WriteString(open)
		for i, x := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, x, depth+1)
		}
		b.WriteString(closing)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case *big.Int:
		b.WriteString(v.String())
	case float64:
		b.WriteString(pyrepr.Float(v))
	case string:
		b.WriteString(pyrepr.Str(v))
	case *pyBytes:
		b.WriteString(pyrepr.Bytes(string(v.b)))
	case *list:
		items := make([]value, len(v.items))
		for i := range v.items {
			items[i] = v.items[i].val
		}
		seq("[", "]", items)
	case *tuple:
		if len(v.items) == 1 {
			seq("(", ",)", v.items)
		} else {
			seq("(", ")", v.items)
		}
	case *set:
		seq("{", "}", v.items)
	case *dict:
		b.WriteByte('{')
		for i, e := range v.entries {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, e.key, depth+1)
			b.WriteString(": ")
			writeRepr(b, e.val, depth+1)
		}
		b.WriteByte('}')
	case *date:
		b.WriteString(v.repr())
	case *datetime:
		b.WriteString(v.repr())
	case *timedelta:
		b.WriteString(v.repr())
	case *relativedelta:
		b.WriteString(v.repr())
	case *weekday:
		b.WriteString(v.repr())
	case *object:
		b.WriteString(v.repr())
	case *callable:
		b.WriteString("<function " + v.name() + ">")
	default:
		b.WriteString("<" + typeName(v) + " object>")
	}
}
