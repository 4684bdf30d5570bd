package jinja

// builtinTests are the tests of Jinja ("is ...").
var builtinTests = map[string]*Func{}

func init() {
	add := func(sig string, f func(ev *Eval, b Bound) Value, names ...string) {
		for _, n := range names {
			builtinTests[n] = fn("test_"+n, sig, f)
		}
	}
	one := func(name string, f func(v Value) bool) {
		add("value", func(_ *Eval, b Bound) Value { return f(b.V(0)) }, name)
	}
	real := func(f func(v Value) bool) func(Value) bool { return func(v Value) bool { return f(unwrap(v)) } }
	one("boolean", func(v Value) bool { _, ok := v.(bool); return ok })
	one("callable", isCallable)
	one("defined", func(v Value) bool { _, ok := v.(*Undefined); return !ok })
	one("undefined", func(v Value) bool { _, ok := v.(*Undefined); return ok })
	one("none", func(v Value) bool { return v == nil })
	one("true", func(v Value) bool { x, ok := v.(bool); return ok && x })
	one("false", func(v Value) bool { x, ok := v.(bool); return ok && !x })
	one("integer", real(func(v Value) bool { _, isB := v.(bool); return isInt(v) && !isB }))
	one("float", real(func(v Value) bool { _, ok := v.(float64); return ok }))
	one("number", real(isNumber))
	one("string", real(func(v Value) bool { _, ok := strOf(v); return ok }))
	one("mapping", real(func(v Value) bool { _, ok := v.(*Dict); return ok }))
	one("escaped", func(v Value) bool {
		if u, ok := v.(*Undefined); ok {
			return u.kind == ChainableUndefined
		}
		_, ok := v.(Markup)
		return ok
	})
	one("lower", func(v Value) bool { return strMethods["islower"].f(nil, str(v), Bound{}).(bool) })
	one("upper", func(v Value) bool { return strMethods["isupper"].f(nil, str(v), Bound{}).(bool) })
	one("iterable", func(v Value) bool {
		if x, ok := v.(*loopContext); ok {
			return x != nil
		}
		return tryIter(v) != nil
	})
	one("sequence", real(func(v Value) bool {
		switch x := v.(type) {
		case string, Markup, Bytes, *List, *Tuple, *Dict, *Range:
			return true
		case *Undefined:
			// len() of a strict undefined raises; the test answers False
			// for any exception.
			return x.kind != StrictUndefined
		case Itemer:
			_, ok := tryLength(x)
			return ok
		}
		return false
	}))
	add("value num", func(ev *Eval, b Bound) Value {
		return equal(ev.binop("%", b.V(0), b.V(1)), int64(0))
	}, "divisibleby")
	add("value", func(ev *Eval, b Bound) Value { return equal(ev.binop("%", b.V(0), int64(2)), int64(1)) }, "odd")
	add("value", func(ev *Eval, b Bound) Value { return equal(ev.binop("%", b.V(0), int64(2)), int64(0)) }, "even")
	add("a b", func(_ *Eval, b Bound) Value { return equal(b.V(0), b.V(1)) }, "eq", "equalto", "==")
	add("a b", func(_ *Eval, b Bound) Value { return !equal(b.V(0), b.V(1)) }, "ne", "!=")
	add("a b", func(_ *Eval, b Bound) Value { return order("<", b.V(0), b.V(1)) }, "lt", "lessthan", "<")
	add("a b", func(_ *Eval, b Bound) Value { return order("<=", b.V(0), b.V(1)) }, "le", "<=")
	add("a b", func(_ *Eval, b Bound) Value { return order(">", b.V(0), b.V(1)) }, "gt", "greaterthan", ">")
	add("a b", func(_ *Eval, b Bound) Value { return order(">=", b.V(0), b.V(1)) }, "ge", ">=")
	add("value seq", func(ev *Eval, b Bound) Value { return ev.contains(b.V(1), b.V(0)) }, "in")
	add("value other", func(_ *Eval, b Bound) Value { return identical(b.V(0), b.V(1)) }, "sameas")
	add("value", func(ev *Eval, b Bound) Value { s, ok := strOf(b.V(0)); return ok && ev.env.filter(s) != nil }, "filter")
	add("value", func(ev *Eval, b Bound) Value { s, ok := strOf(b.V(0)); return ok && ev.env.test(s) != nil }, "test")
}
