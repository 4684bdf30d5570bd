package jinja

import (
	"fmt"
	"strings"
)

// KwArg is one keyword argument.
type KwArg struct {
	Name  string
	Value Value
}

// Args are the arguments of a call.
type Args struct {
	Pos []Value
	Kw  []KwArg
}

// Kwarg returns a keyword argument.
func (a *Args) Kwarg(name string) (Value, bool) {
	for _, k := range a.Kw {
		if k.Name == name {
			return k.Value, true
		}
	}
	return nil, false
}

func posArgs(v ...Value) *Args { return &Args{Pos: v} }

// Func is a callable.
type Func struct {
	// Name is __name__; QualName, if set, appears in error messages and repr.
	Name     string
	QualName string
	// Self is the object a method is bound to.
	Self Value
	// Builtin marks a function implemented in C in CPython.
	Builtin bool
	// Doc names what kind of function it is for repr.
	call func(ev *Eval, a *Args) Value
}

// NewFunc makes a callable from a Go function; signature is a space-separated
// parameter list in which "x=" marks an optional parameter, "*" starts the
// keyword-only ones, "*args" and "**kw" collect the rest (see Signature).
func NewFunc(name, signature string, f func(a Bound) (Value, error)) *Func {
	sig := ParseSignature(name, signature)
	return &Func{Name: name, call: func(ev *Eval, a *Args) Value {
		b := sig.bind(a)
		b.ev = ev
		v, err := f(b)
		if err != nil {
			raiseErr(err)
		}
		return v
	}}
}

// fn is NewFunc for functions of this package, which raise by panic.
func fn(name, signature string, f func(ev *Eval, b Bound) Value) *Func {
	sig := ParseSignature(name, signature)
	return &Func{Name: name, Builtin: true, call: func(ev *Eval, a *Args) Value {
		b := sig.bind(a)
		b.ev = ev
		return f(ev, b)
	}}
}

func (f *Func) pyType() *Type {
	switch {
	case f.Builtin:
		return typeBuiltinFn
	case f.Self != nil:
		return typeMethod
	}
	return typeFunction
}

func (f *Func) qual() string {
	if f.QualName != "" {
		return f.QualName
	}
	return f.Name
}

func (f *Func) id() string { return fmt.Sprintf("%p", f) }

func (f *Func) repr() string {
	switch {
	case f.Builtin && f.Self != nil:
		return fmt.Sprintf("<built-in method %s of %s object>", f.Name, typeName(f.Self))
	case f.Builtin:
		return fmt.Sprintf("<built-in function %s>", f.Name)
	case f.Self != nil:
		return fmt.Sprintf("<bound method %s of %s>", f.qual(), repr(f.Self))
	}
	return fmt.Sprintf("<function %s>", f.qual())
}

// Signature is a Python parameter list.
type Signature struct {
	name   string
	params []sigParam
	npos   int
	varPos int // index of *args, -1
	varKw  int // index of **kw, -1
	nreq   int
	posKw  map[string]int
}

type sigParam struct {
	name     string
	optional bool
	kwOnly   bool
}

// ParseSignature parses a parameter list such as "s width=, *, first=, **kw".
func ParseSignature(name, spec string) *Signature {
	s := &Signature{name: name, varPos: -1, varKw: -1, posKw: map[string]int{}}
	kwOnly := false
	for _, w := range strings.FieldsFunc(spec, func(r rune) bool { return r == ' ' || r == ',' }) {
		switch {
		case w == "*":
			kwOnly = true
		case strings.HasPrefix(w, "**"):
			s.varKw = len(s.params)
			s.params = append(s.params, sigParam{name: w[2:], optional: true, kwOnly: true})
		case strings.HasPrefix(w, "*"):
			s.varPos = len(s.params)
			kwOnly = true
			s.params = append(s.params, sigParam{name: w[1:], optional: true, kwOnly: true})
		default:
			p := sigParam{name: strings.TrimSuffix(w, "="), kwOnly: kwOnly}
			p.optional = p.name != w
			s.posKw[p.name] = len(s.params)
			if !kwOnly {
				s.npos++
				if !p.optional {
					s.nreq++
				}
			}
			s.params = append(s.params, p)
		}
	}
	return s
}

// Bound holds arguments matched to a signature, by position of the parameter.
type Bound struct {
	sig  *Signature
	vals []Value
	set  []bool
	ev   *Eval
}

// Has reports whether parameter i was given.
func (b Bound) Has(i int) bool { return b.set[i] }

// V is the value of parameter i, nil if not given.
func (b Bound) V(i int) Value { return b.vals[i] }

// Or is the value of parameter i, def if not given.
func (b Bound) Or(i int, def Value) Value {
	if b.set[i] {
		return b.vals[i]
	}
	return def
}

// Eval is the evaluation that makes the call.
func (b Bound) Eval() *Eval { return b.ev }

// Rest is the values collected by *args.
func (b Bound) Rest() []Value {
	if b.sig.varPos < 0 || b.vals[b.sig.varPos] == nil {
		return nil
	}
	return b.vals[b.sig.varPos].(*Tuple).Items
}

// Kw is the keywords collected by **kw.
func (b Bound) Kw() []KwArg {
	if b.sig.varKw < 0 || b.vals[b.sig.varKw] == nil {
		return nil
	}
	return b.vals[b.sig.varKw].([]KwArg)
}

func (s *Signature) bind(a *Args) Bound {
	b := Bound{sig: s, vals: make([]Value, len(s.params)), set: make([]bool, len(s.params))}
	if len(a.Pos) > s.npos {
		if s.varPos < 0 {
			if s.nreq < s.npos {
				typeError("%s() takes from %d to %d positional arguments but %d were given", s.name, s.nreq, s.npos, len(a.Pos))
			}
			was := "were"
			if len(a.Pos) == 1 {
				was = "was"
			}
			typeError("%s() takes %d positional argument%s but %d %s given", s.name, s.npos, pluralS(s.npos), len(a.Pos), was)
		}
		b.vals[s.varPos] = NewTuple(a.Pos[s.npos:]...)
		b.set[s.varPos] = true
	}
	pos := 0
	for i, p := range s.params {
		if p.kwOnly || i == s.varPos {
			continue
		}
		if pos >= len(a.Pos) {
			break
		}
		b.vals[i], b.set[i] = a.Pos[pos], true
		pos++
	}
	var extra []KwArg
	for _, k := range a.Kw {
		i, ok := s.posKw[k.Name]
		if !ok {
			if s.varKw < 0 {
				typeError("%s() got an unexpected keyword argument '%s'", s.name, k.Name)
			}
			extra = append(extra, k)
			continue
		}
		if b.set[i] {
			typeError("%s() got multiple values for argument '%s'", s.name, k.Name)
		}
		b.vals[i], b.set[i] = k.Value, true
	}
	if s.varKw >= 0 {
		b.vals[s.varKw] = extra
	}
	var missing []string
	kwMissing := false
	for i, p := range s.params {
		if !b.set[i] && !p.optional {
			missing = append(missing, p.name)
			kwMissing = kwMissing || p.kwOnly
		}
	}
	if len(missing) > 0 {
		kind := "positional"
		if kwMissing {
			kind = "keyword-only"
		}
		typeError("%s() missing %d required %s argument%s: %s", s.name, len(missing), kind, pluralS(len(missing)), quoteJoin(missing, "and"))
	}
	return b
}

// argInt is an argument that must be an int.
func argInt(v Value) int64 {
	v = unwrap(v)
	if n, ok := smallInt(v); ok {
		return n
	}
	if _, ok := bigOf(v); ok {
		raise("OverflowError", "Python int too large to convert to C ssize_t")
	}
	typeError("'%s' object cannot be interpreted as an integer", typeName(v))
	return 0
}

// argStr is an argument that must be a str.
func argStr(v Value) string {
	v = unwrap(v)
	if s, ok := strOf(v); ok {
		return s
	}
	typeError("expected str, got %s", typeName(v))
	return ""
}
