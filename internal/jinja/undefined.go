package jinja

import (
	"fmt"

	"github.com/gustflow/gust/internal/pyrepr"
)

// UndefinedKind is the class that stands for an undefined value
// (the DAG's template_undefined).
type UndefinedKind int

// The undefined classes of Jinja. StrictUndefined is Airflow's default.
const (
	StrictUndefined UndefinedKind = iota
	DefaultUndefined
	ChainableUndefined
	DebugUndefined
)

// ParseUndefinedKind maps a class name (with or without its module) to a kind.
func ParseUndefinedKind(name string) (UndefinedKind, error) {
	switch name {
	case "", "StrictUndefined", "jinja2.StrictUndefined", "jinja2.runtime.StrictUndefined":
		return StrictUndefined, nil
	case "Undefined", "jinja2.Undefined", "jinja2.runtime.Undefined":
		return DefaultUndefined, nil
	case "ChainableUndefined", "jinja2.ChainableUndefined", "jinja2.runtime.ChainableUndefined":
		return ChainableUndefined, nil
	case "DebugUndefined", "jinja2.DebugUndefined", "jinja2.runtime.DebugUndefined":
		return DebugUndefined, nil
	}
	return 0, fmt.Errorf("unknown undefined class %q: expected Undefined, StrictUndefined, ChainableUndefined or DebugUndefined", name)
}

// String is the class name.
func (k UndefinedKind) String() string {
	return [...]string{"StrictUndefined", "Undefined", "ChainableUndefined", "DebugUndefined"}[k]
}

// Undefined is a missing name, attribute or item.
type Undefined struct {
	kind   UndefinedKind
	hint   string
	obj    Value
	hasObj bool
	name   Value
	exc    string
}

// Kind is the undefined's class.
func (u *Undefined) Kind() UndefinedKind { return u.kind }

// Message is the text of the error that using the value raises.
func (u *Undefined) Message() string {
	if u.hint != "" {
		return u.hint
	}
	if !u.hasObj {
		return repr(u.name) + " is undefined"
	}
	if s, ok := u.name.(string); ok {
		return fmt.Sprintf("%s has no attribute %s", pyrepr.Str(objectTypeRepr(u.obj)), pyrepr.Str(s))
	}
	return fmt.Sprintf("%s has no element %s", objectTypeRepr(u.obj), repr(u.name))
}

func (u *Undefined) fail() {
	panic(&Error{Class: u.exc, Message: u.Message()})
}

func (u *Undefined) str() string {
	switch u.kind {
	case StrictUndefined:
		u.fail()
	case DebugUndefined:
		switch {
		case u.hint != "":
			return "{{ undefined value printed: " + u.hint + " }}"
		case !u.hasObj:
			return "{{ " + str(u.name) + " }}"
		}
		return fmt.Sprintf("{{ no such element: %s[%s] }}", objectTypeRepr(u.obj), repr(u.name))
	}
	return ""
}

// PyType is the undefined's class.
func (u *Undefined) PyType() *Type {
	return &Type{Module: "jinja2.runtime", Name: u.kind.String()}
}

// Attr fails for all but dunder names, as in Jinja.
func (u *Undefined) Attr(name string) (Value, bool, error) {
	if len(name) >= 4 && name[:2] == "__" && name[len(name)-2:] == "__" {
		return nil, false, nil
	}
	if u.kind == ChainableUndefined {
		return u, true, nil
	}
	u.fail()
	return nil, false, nil
}

// undefinedName makes the undefined of a missing variable.
func (ev *Eval) undefinedName(name string) *Undefined {
	return &Undefined{kind: ev.env.Undefined, name: name, exc: "UndefinedError"}
}

func (ev *Eval) undefinedAttr(obj, name Value) *Undefined {
	return &Undefined{kind: ev.env.Undefined, obj: obj, hasObj: true, name: name, exc: "UndefinedError"}
}

func (ev *Eval) undefinedHint(hint string) *Undefined {
	return &Undefined{kind: ev.env.Undefined, hint: hint, exc: "UndefinedError"}
}
