package jinja

import (
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

func (e *dataExpr) eval(*Eval) Value  { return e.text }
func (e *constExpr) eval(*Eval) Value { return e.v }

func (e *nameExpr) eval(ev *Eval) Value {
	ev.step(1)
	if v, ok := ev.lookup(e.name); ok {
		return v
	}
	switch e.name {
	case "self":
		if ev.ctx != nil {
			return &selfRef{ev, ev.ctx}
		}
	case "super":
		return ev.undefinedHint("there is no probable parent block")
	}
	return ev.undefinedName(e.name)
}

func evalAll(ev *Eval, es []expr) []Value {
	if len(es) == 0 {
		return nil
	}
	out := make([]Value, len(es))
	for i, e := range es {
		ev.step(1)
		out[i] = e.eval(ev)
	}
	return out
}

func (e *listExpr) eval(ev *Eval) Value {
	ev.alloc(16 * len(e.items))
	return &List{evalAll(ev, e.items)}
}

func (e *tupleExpr) eval(ev *Eval) Value {
	ev.alloc(16 * len(e.items))
	return &Tuple{evalAll(ev, e.items)}
}

func (e *dictExpr) eval(ev *Eval) Value {
	ev.alloc(48 * len(e.keys))
	d := NewDict()
	for i, k := range e.keys {
		key := k.eval(ev)
		d.Set(key, e.vals[i].eval(ev))
	}
	return d
}

func (e *condExpr) eval(ev *Eval) Value {
	if isTrue(e.test.eval(ev)) {
		return e.then.eval(ev)
	}
	if e.other != nil {
		return e.other.eval(ev)
	}
	// Whatever the environment's class is, this one prints as nothing.
	return &Undefined{kind: DefaultUndefined, hint: "the inline if-expression evaluated to false and no else section was defined.", exc: "UndefinedError"}
}

func (e *boolExpr) eval(ev *Eval) Value {
	l := e.left.eval(ev)
	if isTrue(l) == e.or {
		return l
	}
	return e.right.eval(ev)
}

func (e *notExpr) eval(ev *Eval) Value { return !isTrue(e.e.eval(ev)) }

func (e *unaryExpr) eval(ev *Eval) Value { return ev.unary(e.op, e.e.eval(ev)) }

func (e *binExpr) eval(ev *Eval) Value {
	ev.step(1)
	l := e.left.eval(ev)
	return ev.binop(e.op, l, e.right.eval(ev))
}

func (e *concatExpr) eval(ev *Eval) Value {
	vals := evalAll(ev, e.items)
	isMarkup := ev.autoescape
	for _, v := range vals {
		if _, ok := v.(Markup); ok && ev.autoescape {
			isMarkup = true
		}
	}
	var b strings.Builder
	for _, v := range vals {
		var s string
		if isMarkup {
			s = string(escape(v))
		} else {
			s = str(v)
		}
		ev.alloc(len(s))
		b.WriteString(s)
	}
	if isMarkup {
		return Markup(b.String())
	}
	return b.String()
}

func (e *compareExpr) eval(ev *Eval) Value {
	l := e.e.eval(ev)
	for _, o := range e.ops {
		ev.step(1)
		r := o.e.eval(ev)
		ok := false
		switch o.op {
		case "eq":
			ok = equal(l, r)
		case "ne":
			ok = !equal(l, r)
		case "in":
			ok = ev.contains(r, l)
		case "notin":
			ok = !ev.contains(r, l)
		default:
			ok = order(opSymbols[o.op], l, r)
		}
		if !ok {
			return false
		}
		l = r
	}
	return true
}

func (e *attrExpr) eval(ev *Eval) Value {
	ev.step(1)
	return ev.getattr(e.e.eval(ev), e.name)
}

func (e *itemExpr) eval(ev *Eval) Value {
	ev.step(1)
	v := e.e.eval(ev)
	key := e.key.eval(ev)
	if _, ok := key.(*Slice); ok && (ev.env.Native || ev.env.Undefined == StrictUndefined || !isConst(e)) {
		// Slices are compiled to plain indexing: their errors are Python's,
		// unless the optimizer computes them to an undefined that prints.
		return ev.subscript(v, key)
	}
	return ev.getitem(v, key)
}

func (e *sliceExpr) eval(ev *Eval) Value {
	part := func(x expr) Value {
		if x == nil {
			return nil
		}
		return x.eval(ev)
	}
	return &Slice{part(e.start), part(e.stop), part(e.step)}
}

func (a *callArgs) eval(ev *Eval) *Args {
	out := &Args{Pos: evalAll(ev, a.pos)}
	for i, n := range a.kwNames {
		v := a.kw[i].eval(ev)
		for _, k := range out.Kw {
			if k.Name == n {
				raise("SyntaxError", "keyword argument repeated: %s", n)
			}
		}
		out.Kw = append(out.Kw, KwArg{n, v})
	}
	if a.star != nil {
		v := a.star.eval(ev)
		if tryIter(v) == nil {
			typeError("Value after * must be an iterable, not %s", typeName(v))
		}
		out.Pos = append(out.Pos, ev.toSlice(v)...)
	}
	if a.starStar != nil {
		v := unwrap(a.starStar.eval(ev))
		d, ok := v.(*Dict)
		if !ok {
			if u, isU := v.(*Undefined); isU {
				u.fail()
			}
			typeError("argument after ** must be a mapping, not %s", typeName(v))
		}
		d.Each(func(k, val Value) bool {
			name, isS := strOf(k)
			if !isS {
				typeError("keywords must be strings")
			}
			if _, dup := out.Kwarg(name); dup {
				typeError("got multiple values for keyword argument '%s'", name)
			}
			out.Kw = append(out.Kw, KwArg{name, val})
			return true
		})
	}
	return out
}

func (e *callExpr) eval(ev *Eval) Value {
	ev.step(1)
	ev.line = e.line
	if n, ok := e.e.(*nameExpr); ok && n.name == "super" {
		if _, shadowed := ev.lookup("super"); !shadowed {
			ev.undefinedHint("there is no probable parent block").fail()
		}
	}
	f := e.e.eval(ev)
	return ev.call(f, e.args.eval(ev))
}

// call calls a value.
func (ev *Eval) call(f Value, a *Args) Value {
	ev.step(1)
	switch x := f.(type) {
	case *Func:
		ev.push()
		v := x.call(ev, a)
		ev.pop()
		return v
	case *Type:
		if x.Call == nil {
			typeError("cannot create '%s' instances in templates without the Python runtime", x.QualName())
		}
		return x.Call(ev, a)
	case *Undefined:
		x.fail()
	case Wrapper:
		return ev.call(unwrap(x), a)
	case interface {
		callEv(ev *Eval, a *Args) Value
	}:
		ev.push()
		defer ev.pop()
		return x.callEv(ev, a)
	case Callabler:
		v, err := x.PyCall(a)
		if err != nil {
			raiseErr(err)
		}
		return v
	}
	typeError("'%s' object is not callable", typeName(f))
	return nil
}

// Call lets context functions call a value.
func (ev *Eval) Call(f Value, a *Args) (v Value, err error) {
	defer guard(&err)
	return ev.call(f, a), nil
}

func isCallable(v Value) bool {
	switch x := v.(type) {
	case *Func, *Type:
		return true
	case *Undefined:
		return true
	case Wrapper:
		return isCallable(unwrap(x))
	case interface {
		callEv(ev *Eval, a *Args) Value
	}:
		return true
	case Callabler:
		_, isLoop := x.(*loopContext)
		return !isLoop || true
	}
	return false
}

func (e *filterExpr) eval(ev *Eval) Value {
	ev.step(1)
	return ev.callFilter(e, e.target.eval(ev))
}

func (ev *Eval) callFilter(e *filterExpr, v Value) Value {
	f := ev.env.filter(e.name)
	if f == nil {
		raise("TemplateRuntimeError", "No filter named '%s' found.", e.name)
	}
	a := e.args.eval(ev)
	a.Pos = append([]Value{v}, a.Pos...)
	ev.line = e.line
	return f.call(ev, a)
}

func (e *testExpr) eval(ev *Eval) Value {
	ev.step(1)
	v := e.target.eval(ev)
	f := ev.env.test(e.name)
	if f == nil {
		raise("TemplateRuntimeError", "No test named '%s' found.", e.name)
	}
	a := e.args.eval(ev)
	a.Pos = append([]Value{v}, a.Pos...)
	ev.line = e.line
	return f.call(ev, a)
}

// callNamedFilter applies a filter by name, for map().
func (ev *Eval) callNamedFilter(name string, a *Args) Value {
	f := ev.env.filter(name)
	if f == nil {
		raise("TemplateRuntimeError", "No filter named %s.", pyrepr.Str(name))
	}
	return f.call(ev, a)
}

func (ev *Eval) callNamedTest(name string, a *Args) bool {
	f := ev.env.test(name)
	if f == nil {
		raise("TemplateRuntimeError", "No test named %s.", pyrepr.Str(name))
	}
	return isTrue(f.call(ev, a))
}
