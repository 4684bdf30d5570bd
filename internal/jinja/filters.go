package jinja

import (
	"math"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// builtinFilters are the filters of Jinja. The text filters are in
// filters_text.go.
var builtinFilters = map[string]*Func{}

func addFilter(name, sig string, f func(ev *Eval, b Bound) Value) {
	x := fn("do_"+name, sig, f)
	x.Name = name
	builtinFilters[name] = x
}

// attrPath is an attribute path such as "a.0.b", split.
type attrPath []Value

func parsePath(v Value) attrPath {
	v = unwrap(v)
	if v == nil {
		return nil
	}
	if s, ok := strOf(v); ok {
		var out attrPath
		for _, p := range strings.Split(s, ".") {
			if allRunes(p, func(r rune) bool { return r >= '0' && r <= '9' }) && len(p) < 18 {
				n, _ := parseInt(p, 10)
				out = append(out, n)
			} else {
				out = append(out, p)
			}
		}
		return out
	}
	return attrPath{v}
}

// attrGetter is Jinja's make_attrgetter.
func (ev *Eval) attrGetter(attr Value, fold bool, def Value) func(Value) Value {
	path := parsePath(attr)
	return func(v Value) Value {
		for _, p := range path {
			v = ev.getitem(v, p)
			if _, ok := v.(*Undefined); ok && def != nil {
				v = def
			}
		}
		if fold {
			v = foldCase(v)
		}
		return v
	}
}

// multiGetter is the getter of sort: several attributes separated by commas.
func (ev *Eval) multiGetter(attr Value, fold bool) func(Value) Value {
	s, ok := strOf(unwrap(attr))
	if !ok || !strings.Contains(s, ",") {
		one := ev.attrGetter(attr, fold, nil)
		return func(v Value) Value { return NewList(one(v)) }
	}
	var gets []func(Value) Value
	for _, p := range strings.Split(s, ",") {
		gets = append(gets, ev.attrGetter(p, fold, nil))
	}
	return func(v Value) Value {
		l := NewList()
		for _, g := range gets {
			l.Items = append(l.Items, g(v))
		}
		return l
	}
}

func foldCase(v Value) Value {
	if s, ok := strOf(v); ok {
		return lower(s)
	}
	return v
}

func mapping(v Value) (*Dict, bool) {
	d, ok := unwrap(v).(*Dict)
	return d, ok
}

func lazily(next func() (Value, bool)) *Generator {
	return &Generator{next: next, kind: typeGenerator}
}

func reversed(ev *Eval, v Value) []Value {
	items := ev.toSlice(v)
	for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
		items[i], items[j] = items[j], items[i]
	}
	return items
}

func failUndefined(v Value) {
	if u, ok := unwrap(v).(*Undefined); ok {
		u.fail()
	}
}

// selector builds select, reject, selectattr and rejectattr.
func selector(ev *Eval, b Bound, byAttr, keep bool) Value {
	seq, rest := b.V(0), b.Rest()
	get := func(v Value) Value { return v }
	if byAttr {
		if len(rest) == 0 {
			raise("FilterArgumentError", "Missing parameter for attribute name")
		}
		get = ev.attrGetter(rest[0], false, nil)
		rest = rest[1:]
	}
	test := isTrue
	if len(rest) > 0 {
		name := str(rest[0])
		args := rest[1:]
		test = func(v Value) bool {
			return ev.callNamedTest(name, &Args{Pos: append([]Value{v}, args...), Kw: b.Kw()})
		}
	}
	if !isTrueOrDefined(seq) {
		return lazily(sliceIter(nil))
	}
	it := iterate(seq)
	return lazily(func() (Value, bool) {
		for {
			v, ok := it()
			if !ok {
				return nil, false
			}
			ev.step(1)
			if test(get(v)) == keep {
				return v, true
			}
		}
	})
}

// isTrueOrDefined is the "if seq:" of map and select: it raises for strict
// undefined values.
func isTrueOrDefined(v Value) bool { return isTrue(v) }

func extreme(ev *Eval, b Bound, name string, better func(a, b Value) bool) Value {
	it := iterate(b.V(0))
	get := ev.attrGetter(b.V(2), !isTrue(b.Or(1, false)), nil)
	best, ok := it()
	if !ok {
		return ev.undefinedHint("No aggregated item, sequence was empty.")
	}
	bestKey := get(best)
	for {
		v, ok := it()
		if !ok {
			return best
		}
		ev.step(1)
		if k := get(v); better(k, bestKey) {
			best, bestKey = v, k
		}
	}
}

func init() {
	addFilter("abs", "x", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		if f, ok := v.(float64); ok {
			return math.Abs(f)
		}
		if td, ok := v.(*TimeDelta); ok {
			if td.us < 0 {
				return td.with(-td.us)
			}
			return td
		}
		if n, ok := bigOf(v); ok {
			if n.Sign() < 0 {
				return ev.unary("-", v)
			}
			return normInt(n)
		}
		typeError("bad operand type for abs(): '%s'", typeName(v))
		return nil
	})
	addFilter("attr", "obj name", func(ev *Eval, b Bound) Value {
		name := str(b.V(1))
		if v, ok := ev.getAttr(b.V(0), name); ok {
			return ev.checked(b.V(0), name, v)
		}
		return ev.undefinedAttr(b.V(0), name)
	})
	addFilter("batch", "value linecount fill_with=", func(ev *Eval, b Bound) Value {
		n := int(argInt(b.V(1)))
		it := iterate(b.V(0))
		done := false
		return lazily(func() (Value, bool) {
			if done {
				return nil, false
			}
			row := NewList()
			for len(row.Items) < n || n <= 0 {
				v, ok := it()
				if !ok {
					done = true
					break
				}
				ev.step(1)
				row.Items = append(row.Items, v)
			}
			if len(row.Items) == 0 {
				return nil, false
			}
			if b.V(2) != nil {
				for len(row.Items) < n {
					ev.alloc(16)
					row.Items = append(row.Items, b.V(2))
				}
			}
			return row, true
		})
	})
	addFilter("slice", "value slices fill_with=", func(ev *Eval, b Bound) Value {
		items := ev.toSlice(b.V(0))
		n := int(argInt(b.V(1)))
		if n == 0 {
			raise("ZeroDivisionError", "integer division or modulo by zero")
		}
		if n < 0 {
			return lazily(sliceIter(nil))
		}
		per, extra := len(items)/n, len(items)%n
		i, offset := 0, 0
		return lazily(func() (Value, bool) {
			if i >= n {
				return nil, false
			}
			ev.step(1)
			start := offset + i*per
			if i < extra {
				offset++
			}
			end := offset + (i+1)*per
			row := NewList(append([]Value(nil), items[start:end]...)...)
			if b.V(2) != nil && i >= extra {
				row.Items = append(row.Items, b.V(2))
			}
			i++
			return row, true
		})
	})
	def := func(ev *Eval, b Bound) Value {
		v := b.V(0)
		if _, ok := v.(*Undefined); ok || isTrue(b.Or(2, false)) && !isTrue(v) {
			return b.Or(1, "")
		}
		return v
	}
	addFilter("default", "value default_value= boolean=", def)
	addFilter("d", "value default_value= boolean=", def)
	addFilter("dictsort", "value case_sensitive= by= reverse=", func(ev *Eval, b Bound) Value {
		i := 0
		switch by := b.Or(2, "key"); {
		case equal(by, "key"):
		case equal(by, "value"):
			i = 1
		default:
			raise("FilterArgumentError", "You can only sort by either \"key\" or \"value\"")
		}
		failUndefined(b.V(0))
		d, ok := mapping(b.V(0))
		if !ok {
			raise("AttributeError", "'%s' object has no attribute 'items'", typeName(b.V(0)))
		}
		var items []Value
		d.Each(func(k, v Value) bool { items = append(items, NewTuple(k, v)); return true })
		fold := !isTrue(b.Or(1, false))
		return NewList(ev.sortValues(items, func(v Value) Value {
			k := v.(*Tuple).Items[i]
			if fold {
				return foldCase(k)
			}
			return k
		}, isTrue(b.Or(3, false)))...)
	})
	addFilter("first", "seq", func(ev *Eval, b Bound) Value {
		if v, ok := iterate(b.V(0))(); ok {
			return v
		}
		return ev.undefinedHint("No first item, sequence was empty.")
	})
	addFilter("last", "seq", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		if g, ok := v.(*Generator); ok {
			typeError("'%s' object is not reversible", g.kind.Name)
		}
		if _, ok := v.(*Set); ok {
			typeError("'set' object is not reversible")
		}
		items := reversed(ev, v)
		if len(items) > 0 {
			return items[0]
		}
		return ev.undefinedHint("No last item, sequence was empty.")
	})
	addFilter("random", "seq", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		n := length(v)
		if n == 0 {
			return ev.undefinedHint("No random item, sequence was empty.")
		}
		return ev.subscript(v, int64(ev.random()*float64(n)))
	})
	addFilter("float", "value default=", func(ev *Eval, b Bound) Value {
		var out Value = b.Or(1, 0.0)
		catch(func() { out = toFloat(b.V(0)) }, "TypeError", "ValueError")
		return out
	})
	addFilter("int", "value default= base=", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		var out Value
		if catch(func() {
			if s, ok := strOf(v); ok {
				n, ok := parseInt(s, int(argInt(b.Or(2, int64(10)))))
				if !ok {
					valueError("invalid literal for int()")
				}
				out = n
				return
			}
			out = toInt(v)
		}, "TypeError", "ValueError") == nil {
			return out
		}
		if catch(func() { out = toInt(toFloat(v)) }, "TypeError", "ValueError", "OverflowError") == nil {
			return out
		}
		return b.Or(1, int64(0))
	})
	addFilter("groupby", "value attribute default= case_sensitive=", func(ev *Eval, b Bound) Value {
		fold := !isTrue(b.Or(3, false))
		get := ev.attrGetter(b.V(1), fold, b.V(2))
		raw := ev.attrGetter(b.V(1), false, b.V(2))
		out := NewList()
		var cur *List
		var last Value
		for _, v := range ev.sortValues(ev.toSlice(b.V(0)), get, false) {
			k := get(v)
			if cur == nil || !equal(k, last) {
				cur, last = NewList(), k
				out.Items = append(out.Items, &Tuple{Items: []Value{raw(v), cur}})
			}
			cur.Items = append(cur.Items, v)
		}
		return out
	})
	addFilter("items", "value", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		if _, ok := v.(*Undefined); ok {
			return lazily(sliceIter(nil))
		}
		var it func() (Value, bool)
		return lazily(func() (Value, bool) {
			if it == nil {
				d, ok := v.(*Dict)
				if !ok {
					typeError("Can only get item pairs from a mapping.")
				}
				it = (&dictView{d, typeDictItems}).iter()
			}
			return it()
		})
	})
	count := func(_ *Eval, b Bound) Value { return length(b.V(0)) }
	addFilter("length", "obj", count)
	addFilter("count", "obj", count)
	addFilter("list", "value", func(ev *Eval, b Bound) Value {
		l := &List{Items: ev.toSlice(b.V(0))}
		ev.alloc(16 * len(l.Items))
		return l
	})
	addFilter("map", "seq *args **kwargs", func(ev *Eval, b Bound) Value {
		seq, rest, kw := b.V(0), b.Rest(), b.Kw()
		var f func(Value) Value
		if len(rest) == 0 && len(kw) > 0 && hasKw(kw, "attribute") {
			var attr, def Value
			for _, k := range kw {
				switch k.Name {
				case "attribute":
					attr = k.Value
				case "default":
					def = k.Value
				default:
					raise("FilterArgumentError", "Unexpected keyword argument %s", pyrepr.Str(k.Name))
				}
			}
			f = ev.attrGetter(attr, false, def)
		} else {
			if len(rest) == 0 {
				raise("FilterArgumentError", "map requires a filter argument")
			}
			name := str(rest[0])
			f = func(v Value) Value {
				return ev.callNamedFilter(name, &Args{Pos: append([]Value{v}, rest[1:]...), Kw: kw})
			}
		}
		if !isTrueOrDefined(seq) {
			return lazily(sliceIter(nil))
		}
		it := iterate(seq)
		return lazily(func() (Value, bool) {
			v, ok := it()
			if !ok {
				return nil, false
			}
			ev.step(1)
			return f(v), true
		})
	})
	for _, n := range []string{"select", "reject", "selectattr", "rejectattr"} {
		addFilter(n, "seq *args **kwargs", func(ev *Eval, b Bound) Value {
			return selector(ev, b, strings.HasSuffix(n, "attr"), strings.HasPrefix(n, "select"))
		})
	}
	addFilter("max", "value case_sensitive= attribute=", func(ev *Eval, b Bound) Value {
		return extreme(ev, b, "max", func(a, c Value) bool { return order(">", a, c) })
	})
	addFilter("min", "value case_sensitive= attribute=", func(ev *Eval, b Bound) Value {
		return extreme(ev, b, "min", func(a, c Value) bool { return order("<", a, c) })
	})
	addFilter("reverse", "value", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		switch x := v.(type) {
		case string, Markup:
			s, _ := strOf(x)
			r := []rune(s)
			ev.alloc(4 * len(r))
			for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
				r[i], r[j] = r[j], r[i]
			}
			if _, ok := x.(Markup); ok {
				return Markup(r)
			}
			return string(r)
		}
		if tryIter(v) == nil {
			raise("FilterArgumentError", "argument must be iterable")
		}
		return &Generator{next: sliceIter(reversed(ev, v)), kind: builtin("list_reverseiterator")}
	})
	addFilter("round", "value precision= method=", func(ev *Eval, b Bound) Value {
		method := str(b.Or(2, "common"))
		if method != "common" && method != "ceil" && method != "floor" {
			raise("FilterArgumentError", "method must be common, ceil or floor")
		}
		v := unwrap(b.V(0))
		prec := argInt(b.Or(1, int64(0)))
		if !isNumber(v) {
			if method == "common" {
				typeError("type %s doesn't define __round__ method", typeName(v))
			}
			failUndefined(v)
			typeError("must be real number, not %s", typeName(v))
		}
		if method != "common" {
			p := ev.numOp("**", int64(10), prec)
			x, _ := floatOf(ev.numOp("*", v, p))
			if method == "ceil" {
				x = math.Ceil(x)
			} else {
				x = math.Floor(x)
			}
			return ev.numOp("/", toInt(x), p)
		}
		if f, ok := v.(float64); ok {
			return roundFloat(f, int(max(-400, min(prec, 400))))
		}
		n, _ := bigOf(v)
		if prec >= 0 {
			return normInt(n)
		}
		p := ev.numOp("**", int64(10), -prec)
		pb, _ := bigOf(p)
		return ev.numOp("*", normInt(roundRat(ratOf(n, pb))), p)
	})
	addFilter("sort", "value reverse= case_sensitive= attribute=", func(ev *Eval, b Bound) Value {
		get := ev.multiGetter(b.V(3), !isTrue(b.Or(2, false)))
		return NewList(ev.sortValues(ev.toSlice(b.V(0)), get, isTrue(b.Or(1, false)))...)
	})
	addFilter("sum", "iterable attribute= start=", func(ev *Eval, b Bound) Value {
		get := ev.attrGetter(b.V(1), false, nil)
		sum := b.Or(2, int64(0))
		if _, ok := strOf(sum); ok {
			typeError("sum() can't sum strings [use ''.join(seq) instead]")
		}
		it := iterate(b.V(0))
		for {
			v, ok := it()
			if !ok {
				return sum
			}
			ev.step(1)
			sum = ev.binop("+", sum, get(v))
		}
	})
	addFilter("unique", "value case_sensitive= attribute=", func(ev *Eval, b Bound) Value {
		get := ev.attrGetter(b.V(2), !isTrue(b.Or(1, false)), nil)
		seen := NewDict()
		it := iterate(b.V(0))
		return lazily(func() (Value, bool) {
			for {
				v, ok := it()
				if !ok {
					return nil, false
				}
				ev.step(1)
				k := get(v)
				if _, dup := seen.Get(k); !dup {
					seen.Set(k, nil)
					return v, true
				}
			}
		})
	})
}

func hasKw(kw []KwArg, name string) bool {
	for _, k := range kw {
		if k.Name == name {
			return true
		}
	}
	return false
}

func (ev *Eval) random() float64 {
	if ev.env.Random == nil {
		raise("RuntimeError", "no source of random numbers was given to the template environment")
	}
	f := ev.env.Random()
	if f < 0 || f >= 1 {
		return 0
	}
	return f
}
