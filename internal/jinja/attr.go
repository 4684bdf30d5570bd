package jinja

import (
	"math/big"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// objectDunders are the special attributes that every object has; templates
// meet them only as SecurityError (sandbox) or as opaque values (native).
var objectDunders = stringSet("__class__ __delattr__ __dir__ __doc__ __eq__ __format__ __ge__ __getattribute__ __getstate__ __gt__ __hash__ __init__ __init_subclass__ __le__ __lt__ __ne__ __new__ __reduce__ __reduce_ex__ __repr__ __setattr__ __sizeof__ __str__ __subclasshook__")

// typeDunders are the special attributes of single classes.
var typeDunders = map[*Type]map[string]bool{
	typeStr:       stringSet("__add__ __contains__ __getitem__ __getnewargs__ __iter__ __len__ __mod__ __mul__ __rmod__ __rmul__"),
	typeBytes:     stringSet("__add__ __contains__ __getitem__ __getnewargs__ __iter__ __len__ __mod__ __mul__ __rmod__ __rmul__"),
	typeList:      stringSet("__add__ __class_getitem__ __contains__ __delitem__ __getitem__ __iadd__ __imul__ __iter__ __len__ __mul__ __reversed__ __rmul__ __setitem__"),
	typeTuple:     stringSet("__add__ __class_getitem__ __contains__ __getitem__ __getnewargs__ __iter__ __len__ __mul__ __rmul__"),
	typeDict:      stringSet("__class_getitem__ __contains__ __delitem__ __getitem__ __ior__ __iter__ __len__ __or__ __reversed__ __ror__ __setitem__"),
	typeInt:       stringSet("__abs__ __add__ __and__ __bool__ __ceil__ __divmod__ __float__ __floor__ __floordiv__ __getnewargs__ __index__ __int__ __invert__ __lshift__ __mod__ __mul__ __neg__ __or__ __pos__ __pow__ __round__ __sub__ __truediv__ __trunc__ __xor__"),
	typeFloat:     stringSet("__abs__ __add__ __bool__ __ceil__ __divmod__ __float__ __floor__ __floordiv__ __getformat__ __getnewargs__ __int__ __mod__ __mul__ __neg__ __pos__ __pow__ __round__ __sub__ __truediv__ __trunc__"),
	typeBuiltinFn: stringSet("__call__ __module__ __name__ __qualname__ __self__ __text_signature__"),
	typeMethod:    stringSet("__call__ __func__ __self__ __module__ __name__ __qualname__ __dict__"),
	typeFunction:  stringSet("__annotations__ __call__ __closure__ __code__ __defaults__ __dict__ __get__ __globals__ __kwdefaults__ __module__ __name__ __qualname__"),
	typeType:      stringSet("__bases__ __base__ __basicsize__ __call__ __dict__ __module__ __mro__ __name__ __qualname__ __subclasses__ __subclasscheck__ __instancecheck__"),
}

func stringSet(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// dunder returns a special attribute of v.
func dunder(v Value, name string) (Value, bool) {
	t := TypeOf(v)
	if !objectDunders[name] && !typeDunders[t][name] {
		if _, ok := v.(Object); ok && (name == "__dict__" || name == "__module__" || name == "__weakref__") {
			if name == "__module__" {
				return t.Module, true
			}
			return &singleton{"<" + name + ">"}, true
		}
		return nil, false
	}
	switch x := v.(type) {
	case *Type:
		switch name {
		case "__name__", "__qualname__":
			return x.Name, true
		case "__module__":
			return x.Module, true
		case "__mro__":
			if x == typeObject {
				return NewTuple(x), true
			}
			return NewTuple(x, typeObject), true
		case "__bases__":
			return NewTuple(typeObject), true
		case "__base__":
			return typeObject, true
		}
	case *Func:
		switch name {
		case "__name__":
			return x.Name, true
		case "__qualname__":
			return x.qual(), true
		case "__self__":
			return x.Self, true
		}
	}
	switch name {
	case "__class__":
		return t, true
	case "__doc__":
		return nil, true
	case "__len__":
		return &Func{Name: name, Self: v, Builtin: true, call: func(*Eval, *Args) Value { return length(v) }}, true
	case "__str__":
		return &Func{Name: name, Self: v, Builtin: true, call: func(*Eval, *Args) Value { return str(v) }}, true
	case "__repr__":
		return &Func{Name: name, Self: v, Builtin: true, call: func(*Eval, *Args) Value { return repr(v) }}, true
	}
	return &Func{Name: name, Self: v, Builtin: true, call: func(*Eval, *Args) Value {
		raise("SecurityError", "special method %s is not available in templates without the Python runtime", name)
		return nil
	}}, true
}

// method is an entry of a method table.
type method struct {
	sig *Signature
	f   func(ev *Eval, self Value, b Bound) Value
}

type methodTable map[string]*method

func (t methodTable) add(name, sig string, f func(ev *Eval, self Value, b Bound) Value) {
	t[name] = &method{ParseSignature(name, sig), f}
}

// addQ adds a method whose errors name its class ("DateTime.add()").
func (t methodTable) addQ(class, name, sig string, f func(ev *Eval, self Value, b Bound) Value) {
	t[name] = &method{ParseSignature(class+"."+name, sig), f}
}

func (t methodTable) get(self Value, name string, builtin bool) (Value, bool) {
	m, ok := t[name]
	if !ok {
		return nil, false
	}
	return &Func{Name: name, QualName: m.sig.name, Self: self, Builtin: builtin, call: func(ev *Eval, a *Args) Value {
		b := m.sig.bind(a)
		b.ev = ev
		return m.f(ev, self, b)
	}}, true
}

// getAttr is Python's getattr(v, name); ok false is AttributeError.
func (ev *Eval) getAttr(v Value, name string) (Value, bool) {
	if strings.HasPrefix(name, "__") {
		if o, ok := v.(Object); ok {
			if _, isW := v.(Wrapper); !isW {
				if r, ok := ev.objectAttr(o, name); ok {
					return r, true
				}
			}
		}
		return dunder(v, name)
	}
	switch x := v.(type) {
	case string, Markup:
		if _, ok := x.(Markup); ok {
			if r, ok := markupMethods.get(v, name, false); ok {
				return r, true
			}
		}
		return strMethods.get(v, name, true)
	case Bytes:
		return bytesMethods.get(v, name, true)
	case *List:
		return listMethods.get(v, name, true)
	case *Tuple:
		return tupleMethods.get(v, name, true)
	case *Dict:
		return dictMethods.get(v, name, true)
	case *Set:
		return setMethods.get(v, name, true)
	case *Range:
		switch name {
		case "start":
			return x.Start, true
		case "stop":
			return x.Stop, true
		case "step":
			return x.Step, true
		}
		return rangeMethods.get(v, name, true)
	case bool, int64, *big.Int:
		switch name {
		case "real", "numerator":
			return toInt(v), true
		case "imag":
			return int64(0), true
		case "denominator":
			return int64(1), true
		}
		return intMethods.get(v, name, true)
	case float64:
		switch name {
		case "real":
			return v, true
		case "imag":
			return 0.0, true
		}
		return floatMethods.get(v, name, true)
	case *Type:
		r, ok := x.Statics[name]
		return r, ok
	case Wrapper:
		return ev.getAttr(unwrap(x), name)
	case Object:
		return ev.objectAttr(x, name)
	}
	return nil, false
}

func (ev *Eval) objectAttr(o Object, name string) (Value, bool) {
	if e, ok := o.(interface {
		attrEv(ev *Eval, name string) (Value, bool)
	}); ok {
		return e.attrEv(ev, name)
	}
	r, ok, err := o.Attr(name)
	if err != nil {
		raiseErr(err)
	}
	return r, ok
}

// Slice is a slice object.
type Slice struct{ Start, Stop, Step Value }

// subscript is v[key]; it raises TypeError, KeyError or IndexError.
func (ev *Eval) subscript(v, key Value) Value {
	key = unwrap(key)
	switch x := v.(type) {
	case *Dict:
		if r, ok := x.Get(hashable(key)); ok {
			return r
		}
		if x.factory != nil && x.factory.Call != nil {
			r := x.factory.Call(ev, &Args{})
			x.Set(key, r)
			return r
		}
		raise("KeyError", "%s", repr(key))
	case string:
		return ev.subStr(x, key)
	case Markup:
		return Markup(ev.subStr(string(x), key).(string))
	case Bytes:
		if s, ok := key.(*Slice); ok {
			idx := sliceIndices(s, len(x))
			out := make([]byte, len(idx))
			for i, j := range idx {
				out[i] = x[j]
			}
			return Bytes(out)
		}
		return int64(x[seqIndex("index", key, len(x), "byte")])
	case *List:
		if s, ok := key.(*Slice); ok {
			return &List{ev.sliceItems(x.Items, s)}
		}
		return x.Items[seqIndex("list index", key, len(x.Items), "list")]
	case *Tuple:
		if s, ok := key.(*Slice); ok {
			return &Tuple{ev.sliceItems(x.Items, s)}
		}
		return x.Items[seqIndex("tuple index", key, len(x.Items), "tuple")]
	case *Range:
		if s, ok := key.(*Slice); ok {
			n := int(x.Len())
			start, stop, step := sliceBounds(s, n)
			return &Range{x.Start + int64(start)*x.Step, x.Start + int64(stop)*x.Step, x.Step * int64(step)}
		}
		i := seqIndex("range object index", key, int(x.Len()), "range")
		return x.Start + int64(i)*x.Step
	case *Undefined:
		if x.kind == ChainableUndefined {
			return x
		}
		x.fail()
	case Wrapper:
		return ev.subscript(unwrap(x), key)
	case Itemer:
		r, ok, err := x.PyItem(key)
		if err != nil {
			raiseErr(err)
		}
		if !ok {
			raise("KeyError", "%s", repr(key))
		}
		return r
	}
	typeError("'%s' object is not subscriptable", typeName(v))
	return nil
}

func seqIndex(what string, key Value, n int, kind string) int {
	i, ok := smallInt(key)
	if !ok {
		if _, big := bigOf(key); big {
			raise("IndexError", "cannot fit 'int' into an index-sized integer")
		}
		typeError("%s indices must be integers or slices, not %s", kind, typeName(key))
	}
	if i < 0 {
		i += int64(n)
	}
	if i < 0 || i >= int64(n) {
		raise("IndexError", "%s out of range", what)
	}
	return int(i)
}

// sliceBounds clips a slice to a length, as slice.indices does.
func sliceBounds(s *Slice, n int) (start, stop, step int) {
	get := func(v Value, def int) (int, bool) {
		v = unwrap(v)
		if v == nil {
			return def, false
		}
		if i, ok := smallInt(v); ok {
			if i > 1<<40 {
				i = 1 << 40
			}
			if i < -(1 << 40) {
				i = -(1 << 40)
			}
			return int(i), true
		}
		if b, ok := bigOf(v); ok {
			return b.Sign() * (1 << 40), true
		}
		if u, ok := v.(*Undefined); ok {
			u.fail()
		}
		typeError("slice indices must be integers or None or have an __index__ method")
		return 0, false
	}
	step, _ = get(s.Step, 1)
	if step == 0 {
		valueError("slice step cannot be zero")
	}
	lo, hi := 0, n
	if step < 0 {
		lo, hi = -1, n-1
	}
	clip := func(v Value, def int) int {
		i, given := get(v, def)
		if !given {
			return def
		}
		if i < 0 {
			i += n
		}
		return max(lo, min(i, hi))
	}
	if step > 0 {
		return clip(s.Start, lo), clip(s.Stop, hi), step
	}
	return clip(s.Start, hi), clip(s.Stop, lo), step
}

func sliceIndices(s *Slice, n int) []int {
	start, stop, step := sliceBounds(s, n)
	var out []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, i)
	}
	return out
}

func (ev *Eval) sliceItems(items []Value, s *Slice) []Value {
	idx := sliceIndices(s, len(items))
	ev.alloc(16 * len(idx))
	out := make([]Value, len(idx))
	for i, j := range idx {
		out[i] = items[j]
	}
	return out
}

func (ev *Eval) subStr(x string, key Value) Value {
	if s, ok := key.(*Slice); ok {
		if isASCII(x) {
			start, stop, step := sliceBounds(s, len(x))
			if step == 1 {
				if stop < start {
					return ""
				}
				return x[start:stop]
			}
		}
		r := []rune(x)
		ev.alloc(4 * len(r))
		var b strings.Builder
		for _, i := range sliceIndices(s, len(r)) {
			b.WriteRune(r[i])
		}
		return b.String()
	}
	if isASCII(x) {
		i := seqIndex("string index", key, len(x), "string")
		return x[i : i+1]
	}
	r := []rune(x)
	return string(r[seqIndex("string index", key, len(r), "string")])
}

// safeAttr tells whether the sandbox lets a template read an attribute.
// Airflow narrows Jinja's rule to internal attributes, so that _private names
// of context objects stay readable.
func safeAttr(v Value, name string) bool {
	switch v.(type) {
	case *Type:
		if name == "mro" {
			return false
		}
	case *Generator:
		if name == "gi_frame" || name == "gi_code" {
			return false
		}
	}
	return !strings.HasPrefix(name, "__")
}

func (ev *Eval) checked(v Value, name string, attr Value) Value {
	if !ev.env.Sandboxed || safeAttr(v, name) {
		return attr
	}
	return &Undefined{
		kind: ev.env.Undefined,
		hint: "access to attribute " + pyrepr.Str(name) + " of " + pyrepr.Str(typeName(v)) + " object is unsafe.",
		obj:  v, hasObj: true, name: name, exc: "SecurityError",
	}
}

// getattr evaluates v.name in a template: attribute first, then item.
func (ev *Eval) getattr(v Value, name string) Value {
	if r, ok := ev.getAttr(v, name); ok {
		return ev.checked(v, name, r)
	}
	if d, ok := v.(*Dict); ok && d.factory == nil {
		if r, ok := d.Get(name); ok {
			return r
		}
		return ev.undefinedAttr(v, name)
	}
	var r Value
	if catch(func() { r = ev.subscript(v, name) }, "TypeError", "LookupError") == nil {
		return r
	}
	return ev.undefinedAttr(v, name)
}

// getitem evaluates v[key] in a template: item first, then attribute.
func (ev *Eval) getitem(v, key Value) Value {
	var r Value
	if catch(func() { r = ev.subscript(v, key) }, "TypeError", "LookupError") == nil {
		return r
	}
	if name, ok := strOf(key); ok {
		if a, ok := ev.getAttr(v, name); ok {
			return ev.checked(v, name, a)
		}
	}
	return ev.undefinedAttr(v, key)
}
