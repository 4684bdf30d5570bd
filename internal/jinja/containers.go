package jinja

import (
	"math"
	"math/big"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

var (
	listMethods  = methodTable{}
	tupleMethods = methodTable{}
	dictMethods  = methodTable{}
	setMethods   = methodTable{}
	rangeMethods = methodTable{}
	intMethods   = methodTable{}
	floatMethods = methodTable{}
)

// sortValues sorts stably by key; key may be nil.
func (ev *Eval) sortValues(items []Value, key func(Value) Value, reverse bool) []Value {
	keys := make([]Value, len(items))
	idx := make([]int, len(items))
	for i, it := range items {
		idx[i] = i
		keys[i] = it
		if key != nil {
			keys[i] = key(it)
		}
	}
	sort.SliceStable(idx, func(a, b int) bool {
		ev.step(1)
		if reverse {
			return less(keys[idx[b]], keys[idx[a]])
		}
		return less(keys[idx[a]], keys[idx[b]])
	})
	out := make([]Value, len(items))
	for i, j := range idx {
		out[i] = items[j]
	}
	return out
}

func keyFunc(ev *Eval, v Value) func(Value) Value {
	if v == nil {
		return nil
	}
	return func(x Value) Value { return ev.call(v, posArgs(x)) }
}

func indexOf(items []Value, v Value) int {
	for i, it := range items {
		if identical(it, v) || equal(it, v) {
			return i
		}
	}
	return -1
}

func countOf(items []Value, v Value) Value {
	n := int64(0)
	for _, it := range items {
		if identical(it, v) || equal(it, v) {
			n++
		}
	}
	return n
}

// dictUpdate is dict.update(v, **kw).
func (ev *Eval) dictUpdate(d *Dict, v Value, given bool, kw []KwArg) {
	if given {
		switch x := unwrap(v).(type) {
		case *Dict:
			x.Each(func(k, val Value) bool { d.Set(k, val); return true })
		case *Undefined:
			x.fail()
		default:
			for i, it := range ev.toSlice(x) {
				pair := ev.toSlice(it)
				if len(pair) != 2 {
					valueError("dictionary update sequence element #%d has length %d; 2 is required", i, len(pair))
				}
				d.Set(pair[0], pair[1])
			}
		}
	}
	for _, k := range kw {
		d.Set(k.Name, k.Value)
	}
	ev.alloc(32 * d.Len())
}

func init() {
	list := func(v Value) *List { return v.(*List) }
	m := listMethods
	m.add("append", "object", func(ev *Eval, self Value, b Bound) Value {
		ev.alloc(16)
		l := list(self)
		l.Items = append(l.Items, b.V(0))
		return nil
	})
	m.add("extend", "iterable", func(ev *Eval, self Value, b Bound) Value {
		l := list(self)
		add := ev.toSlice(b.V(0))
		ev.alloc(16 * len(add))
		l.Items = append(l.Items, add...)
		return nil
	})
	m.add("insert", "index object", func(ev *Eval, self Value, b Bound) Value {
		l := list(self)
		i, _, _ := sliceBounds(&Slice{b.V(0), nil, nil}, len(l.Items))
		ev.alloc(16)
		l.Items = append(l.Items, nil)
		copy(l.Items[i+1:], l.Items[i:])
		l.Items[i] = b.V(1)
		return nil
	})
	m.add("pop", "index=", func(_ *Eval, self Value, b Bound) Value {
		l := list(self)
		if len(l.Items) == 0 {
			raise("IndexError", "pop from empty list")
		}
		i := seqIndex("pop index", b.Or(0, int64(-1)), len(l.Items), "list")
		v := l.Items[i]
		l.Items = append(l.Items[:i:i], l.Items[i+1:]...)
		return v
	})
	m.add("remove", "value", func(_ *Eval, self Value, b Bound) Value {
		l := list(self)
		i := indexOf(l.Items, b.V(0))
		if i < 0 {
			valueError("list.remove(x): x not in list")
		}
		l.Items = append(l.Items[:i:i], l.Items[i+1:]...)
		return nil
	})
	m.add("clear", "", func(_ *Eval, self Value, _ Bound) Value { list(self).Items = nil; return nil })
	m.add("copy", "", func(ev *Eval, self Value, _ Bound) Value {
		ev.alloc(16 * len(list(self).Items))
		return NewList(append([]Value(nil), list(self).Items...)...)
	})
	m.add("reverse", "", func(_ *Eval, self Value, _ Bound) Value {
		it := list(self).Items
		for i, j := 0, len(it)-1; i < j; i, j = i+1, j-1 {
			it[i], it[j] = it[j], it[i]
		}
		return nil
	})
	m.add("sort", "* key= reverse=", func(ev *Eval, self Value, b Bound) Value {
		l := list(self)
		l.Items = ev.sortValues(l.Items, keyFunc(ev, b.V(0)), isTrue(b.Or(1, false)))
		return nil
	})
	index := func(kind string, items []Value, b Bound) Value {
		lo, hi, _ := sliceBounds(&Slice{b.V(1), b.V(2), nil}, len(items))
		if lo < hi {
			if i := indexOf(items[lo:hi], b.V(0)); i >= 0 {
				return int64(lo + i)
			}
		}
		if kind == "list" {
			valueError("%s is not in list", repr(b.V(0)))
		}
		valueError("tuple.index(x): x not in tuple")
		return nil
	}
	m.add("index", "value start= stop=", func(_ *Eval, self Value, b Bound) Value { return index("list", list(self).Items, b) })
	m.add("count", "value", func(_ *Eval, self Value, b Bound) Value { return countOf(list(self).Items, b.V(0)) })
	tupleMethods.add("index", "value start= stop=", func(_ *Eval, self Value, b Bound) Value { return index("tuple", self.(*Tuple).Items, b) })
	tupleMethods.add("count", "value", func(_ *Eval, self Value, b Bound) Value { return countOf(self.(*Tuple).Items, b.V(0)) })
	rangeMethods.add("index", "value", func(ev *Eval, self Value, b Bound) Value {
		if !ev.contains(self, b.V(0)) {
			valueError("%s is not in range", repr(b.V(0)))
		}
		n, _ := smallInt(b.V(0))
		return (n - self.(*Range).Start) / self.(*Range).Step
	})
	rangeMethods.add("count", "value", func(ev *Eval, self Value, b Bound) Value {
		if ev.contains(self, b.V(0)) {
			return int64(1)
		}
		return int64(0)
	})

	d := dictMethods
	dict := func(v Value) *Dict { return v.(*Dict) }
	d.add("keys", "", func(_ *Eval, self Value, _ Bound) Value { return &dictView{dict(self), typeDictKeys} })
	d.add("values", "", func(_ *Eval, self Value, _ Bound) Value { return &dictView{dict(self), typeDictVals} })
	d.add("items", "", func(_ *Eval, self Value, _ Bound) Value { return &dictView{dict(self), typeDictItems} })
	d.add("get", "key default=", func(_ *Eval, self Value, b Bound) Value {
		if v, ok := dict(self).Get(hashable(b.V(0))); ok {
			return v
		}
		return b.V(1)
	})
	d.add("pop", "key default=", func(_ *Eval, self Value, b Bound) Value {
		v, ok := dict(self).Get(hashable(b.V(0)))
		if !ok {
			if b.Has(1) {
				return b.V(1)
			}
			raise("KeyError", "%s", repr(b.V(0)))
		}
		dict(self).Delete(b.V(0))
		return v
	})
	d.add("popitem", "", func(_ *Eval, self Value, _ Bound) Value {
		keys := dict(self).Keys()
		if len(keys) == 0 {
			raise("KeyError", "'popitem(): dictionary is empty'")
		}
		k := keys[len(keys)-1]
		v, _ := dict(self).Get(k)
		dict(self).Delete(k)
		return NewTuple(k, v)
	})
	d.add("setdefault", "key default=", func(ev *Eval, self Value, b Bound) Value {
		if v, ok := dict(self).Get(hashable(b.V(0))); ok {
			return v
		}
		ev.alloc(32)
		dict(self).Set(b.V(0), b.V(1))
		return b.V(1)
	})
	d.add("update", "*other **kw", func(ev *Eval, self Value, b Bound) Value {
		if len(b.Rest()) > 1 {
			typeError("update expected at most 1 argument, got %d", len(b.Rest()))
		}
		if len(b.Rest()) == 1 {
			ev.dictUpdate(dict(self), b.Rest()[0], true, b.Kw())
		} else {
			ev.dictUpdate(dict(self), nil, false, b.Kw())
		}
		return nil
	})
	d.add("clear", "", func(_ *Eval, self Value, _ Bound) Value { dict(self).Clear(); return nil })
	d.add("copy", "", func(ev *Eval, self Value, _ Bound) Value {
		ev.alloc(32 * dict(self).Len())
		return dict(self).copyDict()
	})
	d.add("fromkeys", "iterable value=", func(ev *Eval, _ Value, b Bound) Value {
		out := NewDict()
		for _, k := range ev.toSlice(b.V(0)) {
			out.Set(k, b.V(1))
		}
		return out
	})

	s := setMethods
	set := func(v Value) *Set { return v.(*Set) }
	toSet := func(ev *Eval, v Value) *Set {
		if x, ok := asSet(unwrap(v)); ok {
			return x
		}
		return NewSet(ev.toSlice(v)...)
	}
	s.add("add", "elem", func(_ *Eval, self Value, b Bound) Value { set(self).d.Set(b.V(0), nil); return nil })
	s.add("discard", "elem", func(_ *Eval, self Value, b Bound) Value { set(self).d.Delete(b.V(0)); return nil })
	s.add("remove", "elem", func(_ *Eval, self Value, b Bound) Value {
		if !set(self).d.Delete(b.V(0)) {
			raise("KeyError", "%s", repr(b.V(0)))
		}
		return nil
	})
	s.add("copy", "", func(_ *Eval, self Value, _ Bound) Value { return NewSet(set(self).Items()...) })
	s.add("update", "*others", func(ev *Eval, self Value, b Bound) Value {
		for _, o := range b.Rest() {
			for _, it := range ev.toSlice(o) {
				set(self).d.Set(it, nil)
			}
		}
		return nil
	})
	s.add("union", "*others", func(ev *Eval, self Value, b Bound) Value {
		out := NewSet(set(self).Items()...)
		for _, o := range b.Rest() {
			for _, it := range ev.toSlice(o) {
				out.d.Set(it, nil)
			}
		}
		return out
	})
	filter := func(self *Set, keep func(Value) bool) *Set {
		out := NewSet()
		for _, it := range self.Items() {
			if keep(it) {
				out.d.Set(it, nil)
			}
		}
		return out
	}
	s.add("difference", "other", func(ev *Eval, self Value, b Bound) Value {
		o := toSet(ev, b.V(0))
		return filter(set(self), func(v Value) bool { return !o.Has(v) })
	})
	s.add("intersection", "other", func(ev *Eval, self Value, b Bound) Value {
		o := toSet(ev, b.V(0))
		return filter(set(self), o.Has)
	})
	s.add("symmetric_difference", "other", func(ev *Eval, self Value, b Bound) Value {
		o := toSet(ev, b.V(0))
		out := filter(set(self), func(v Value) bool { return !o.Has(v) })
		for _, it := range o.Items() {
			if !set(self).Has(it) {
				out.d.Set(it, nil)
			}
		}
		return out
	})
	s.add("issubset", "other", func(ev *Eval, self Value, b Bound) Value { return subset(set(self), toSet(ev, b.V(0))) })
	s.add("issuperset", "other", func(ev *Eval, self Value, b Bound) Value { return subset(toSet(ev, b.V(0)), set(self)) })
	s.add("isdisjoint", "other", func(ev *Eval, self Value, b Bound) Value {
		return filter(set(self), toSet(ev, b.V(0)).Has).d.Len() == 0
	})

	intMethods.add("bit_length", "", func(_ *Eval, self Value, _ Bound) Value {
		b, _ := bigOf(self)
		return int64(b.BitLen())
	})
	intMethods.add("bit_count", "", func(_ *Eval, self Value, _ Bound) Value {
		b, _ := bigOf(self)
		return int64(strings.Count(new(big.Int).Abs(b).Text(2), "1"))
	})
	intMethods.add("conjugate", "", func(_ *Eval, self Value, _ Bound) Value { return toInt(self) })
	intMethods.add("is_integer", "", func(*Eval, Value, Bound) Value { return true })
	intMethods.add("as_integer_ratio", "", func(_ *Eval, self Value, _ Bound) Value { return NewTuple(toInt(self), int64(1)) })
	floatMethods.add("is_integer", "", func(_ *Eval, self Value, _ Bound) Value {
		f := self.(float64)
		return f == math.Trunc(f) && !math.IsInf(f, 0)
	})
	floatMethods.add("conjugate", "", func(_ *Eval, self Value, _ Bound) Value { return self })
	floatMethods.add("as_integer_ratio", "", func(_ *Eval, self Value, _ Bound) Value {
		r := new(big.Rat).SetFloat64(self.(float64))
		if r == nil {
			valueError("cannot convert this float to an integer ratio")
		}
		return NewTuple(normInt(r.Num()), normInt(r.Denom()))
	})
	floatMethods.add("hex", "", func(_ *Eval, self Value, _ Bound) Value { return hexFloat(self.(float64)) })
}

func hexFloat(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return pyrepr.Float(f)
	}
	sign := ""
	bitsv := math.Float64bits(f)
	if bitsv>>63 == 1 {
		sign = "-"
	}
	exp := int(bitsv >> 52 & 0x7ff)
	mant := bitsv & (1<<52 - 1)
	lead := "1"
	switch {
	case exp == 0 && mant == 0:
		return sign + "0x0.0p+0"
	case exp == 0:
		lead, exp = "0", -1022
	default:
		exp -= 1023
	}
	return sign + "0x" + lead + "." + pad0(mant, 13) + "p" + signed(exp)
}

func pad0(m uint64, n int) string {
	s := new(big.Int).SetUint64(m).Text(16)
	return strings.Repeat("0", n-len(s)) + s
}

func signed(n int) string {
	s := big.NewInt(int64(n)).String()
	if n >= 0 {
		s = "+" + s
	}
	return s
}
