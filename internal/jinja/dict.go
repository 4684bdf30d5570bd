package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

type dictEntry struct {
	key, val Value
	dead     bool
}

// Dict is Python's dict: keys keep their order of insertion; 1, 1.0 and True
// are one key.
type Dict struct {
	entries []dictEntry
	index   map[string]int
	n       int
	// factory, when set, makes the value of a missing key (defaultdict).
	factory *Type
}

// NewDict makes an empty dict.
func NewDict() *Dict { return &Dict{} }

// Len is the number of keys.
func (d *Dict) Len() int { return d.n }

// Get returns the value of a key; an unhashable key is absent.
func (d *Dict) Get(key Value) (Value, bool) {
	if d.n == 0 {
		return nil, false
	}
	i, ok := d.index[hashKey(key)]
	if !ok {
		return nil, false
	}
	return d.entries[i].val, true
}

// Set adds or replaces a key; a replaced key keeps its place and its old form.
func (d *Dict) Set(key, val Value) {
	k := hashKey(key)
	if i, ok := d.index[k]; ok {
		d.entries[i].val = val
		return
	}
	if d.index == nil {
		d.index = make(map[string]int)
	}
	d.index[k] = len(d.entries)
	d.entries = append(d.entries, dictEntry{key: key, val: val})
	d.n++
}

// Delete removes a key and reports whether it was there.
func (d *Dict) Delete(key Value) bool {
	k := hashKey(key)
	i, ok := d.index[k]
	if !ok {
		return false
	}
	delete(d.index, k)
	d.entries[i] = dictEntry{dead: true}
	d.n--
	if len(d.entries) > 32 && d.n < len(d.entries)/2 {
		d.compact()
	}
	return true
}

func (d *Dict) compact() {
	out := make([]dictEntry, 0, d.n)
	for _, e := range d.entries {
		if !e.dead {
			d.index[hashKey(e.key)] = len(out)
			out = append(out, e)
		}
	}
	d.entries = out
}

// Clear removes all keys.
func (d *Dict) Clear() { d.entries, d.index, d.n = nil, nil, 0 }

// Keys returns the keys in order.
func (d *Dict) Keys() []Value {
	out := make([]Value, 0, d.n)
	for i := range d.entries {
		if !d.entries[i].dead {
			out = append(out, d.entries[i].key)
		}
	}
	return out
}

// Each calls f for each pair in order until f returns false.
func (d *Dict) Each(f func(k, v Value) bool) {
	for i := range d.entries {
		if !d.entries[i].dead && !f(d.entries[i].key, d.entries[i].val) {
			return
		}
	}
}

func (d *Dict) iter(get func(*dictEntry) Value) func() (Value, bool) {
	i, n := 0, d.n
	return func() (Value, bool) {
		if d.n != n {
			raise("RuntimeError", "dictionary changed size during iteration")
		}
		for i < len(d.entries) {
			i++
			if !d.entries[i-1].dead {
				return get(&d.entries[i-1]), true
			}
		}
		return nil, false
	}
}

func (d *Dict) copyDict() *Dict {
	c := NewDict()
	c.factory = d.factory
	d.Each(func(k, v Value) bool { c.Set(k, v); return true })
	return c
}

// dictView is the result of keys(), values() and items().
type dictView struct {
	d    *Dict
	kind *Type
}

func (v *dictView) iter() func() (Value, bool) {
	switch v.kind {
	case typeDictKeys:
		return v.d.iter(func(e *dictEntry) Value { return e.key })
	case typeDictVals:
		return v.d.iter(func(e *dictEntry) Value { return e.val })
	}
	return v.d.iter(func(e *dictEntry) Value { return NewTuple(e.key, e.val) })
}

// Set is Python's set; iteration follows insertion, except that sets of small
// integers iterate in ascending order as CPython's do.
type Set struct {
	d      Dict
	frozen bool
}

// NewSet makes a set of the items.
func NewSet(items ...Value) *Set {
	s := &Set{}
	for _, it := range items {
		s.d.Set(it, nil)
	}
	return s
}

// Items returns the elements.
func (s *Set) Items() []Value { return s.d.Keys() }

// Has reports membership.
func (s *Set) Has(v Value) bool { _, ok := s.d.Get(v); return ok }

// hashKey maps a value to a text that is equal exactly for equal hashable
// values; it raises TypeError for unhashable ones.
func hashKey(v Value) string { return hashDepth(v, 0) }

// maxHashBytes bounds the text that stands for a tuple.
const maxHashBytes = 1 << 20

func hashDepth(v Value, depth int) string {
	if depth > maxCompareDepth {
		raise("RecursionError", "maximum recursion depth exceeded")
	}
	switch x := v.(type) {
	case string:
		return "s" + x
	case nil:
		return "n"
	case bool:
		if x {
			return "i1"
		}
		return "i0"
	case int64:
		return "i" + strconv.FormatInt(x, 10)
	case *big.Int:
		return "i" + x.String()
	case float64:
		if x == math.Trunc(x) && !math.IsInf(x, 0) {
			b, _ := new(big.Float).SetFloat64(x).Int(nil)
			return "i" + b.String()
		}
		return "f" + strconv.FormatFloat(x, 'g', -1, 64)
	case Markup:
		return "s" + string(x)
	case Bytes:
		return "b" + string(x)
	case *Tuple:
		var b strings.Builder
		b.WriteString("t")
		for _, it := range x.Items {
			k := hashDepth(it, depth+1)
			if b.Len()+len(k) > maxHashBytes {
				raise(ClassLimit, "a tuple used as a key is too large")
			}
			b.WriteString(strconv.Itoa(len(k)))
			b.WriteByte(':')
			b.WriteString(k)
		}
		return b.String()
	case *Set:
		if x.frozen {
			return "F" + repr(x)
		}
	case *List, *Dict, *dictView:
	case *DateTime:
		return "D" + x.hashText()
	case *Date:
		return "d" + x.isoformat()
	case *Time:
		return "T" + x.isoformat()
	case *TimeDelta:
		return "Z" + strconv.FormatInt(x.us, 10)
	case *Undefined:
		if x.kind == StrictUndefined {
			x.fail()
		}
		return "u"
	case *Range:
		return "r" + repr(x)
	case Wrapper:
		return hashKey(unwrap(x))
	case *Func:
		return "p" + x.id()
	case *Type:
		return "y" + x.QualName()
	case Object:
		if s, ok := x.(interface{ PyHash() string }); ok {
			return s.PyHash()
		}
		return "o" + repr(x)
	}
	typeError("unhashable type: '%s'", typeName(v))
	return ""
}
