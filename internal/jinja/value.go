package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Value is a Python value; see the package comment for the Go types.
type Value = any

// Type is a Python class. Call, when set, makes instances.
type Type struct {
	Module string
	Name   string
	// Call makes an instance; nil for a class that templates cannot call.
	Call func(ev *Eval, a *Args) Value
	// Statics are class attributes and class methods.
	Statics map[string]Value
}

// QualName is the name that repr shows: builtins have no module.
func (t *Type) QualName() string {
	if t.Module == "" || t.Module == "builtins" {
		return t.Name
	}
	return t.Module + "." + t.Name
}

// Object is a value of a class that this package does not know.
type Object interface {
	// PyType is the object's class.
	PyType() *Type
	// Attr returns an attribute; ok false means AttributeError. err is raised.
	Attr(name string) (v Value, ok bool, err error)
}

// The optional interfaces of an Object.
type (
	// Reprer gives repr().
	Reprer interface{ PyRepr() string }
	// Strer gives str(); without it str() is repr().
	Strer interface{ PyStr() string }
	// Truther gives bool(); without it an object is true.
	Truther interface{ PyBool() bool }
	// Itemer is indexing; ok false means KeyError.
	Itemer interface {
		PyItem(key Value) (v Value, ok bool, err error)
	}
	// Iterabler is iteration and length.
	Iterabler interface{ PyIter() []Value }
	// Lener is len().
	Lener interface{ PyLen() int }
	// Callabler is a call.
	Callabler interface {
		PyCall(a *Args) (Value, error)
	}
	// AttrSetter is assignment to an attribute ({% set ns.x = 1 %}).
	AttrSetter interface {
		PySetAttr(name string, v Value) error
	}
	// Equaler is ==; ok false means not comparable.
	Equaler interface {
		PyEqual(other Value) (eq, ok bool)
	}
	// Wrapper stands for another value in every operation but type() and
	// "is"; lazy proxies are wrappers.
	Wrapper interface{ PyUnwrap() (Value, error) }
)

// Markup is text that is safe in HTML (markupsafe.Markup).
type Markup string

// Bytes is Python's bytes.
type Bytes string

// List is Python's list.
type List struct{ Items []Value }

// Tuple is Python's tuple.
type Tuple struct{ Items []Value }

// Range is Python's range.
type Range struct{ Start, Stop, Step int64 }

// Len is the number of elements.
func (r *Range) Len() int64 {
	if r.Step > 0 && r.Start < r.Stop {
		return (r.Stop-r.Start-1)/r.Step + 1
	}
	if r.Step < 0 && r.Start > r.Stop {
		return (r.Start-r.Stop-1)/(-r.Step) + 1
	}
	return 0
}

// Generator is a lazily evaluated iterable that can be read once.
type Generator struct {
	next func() (Value, bool)
	kind *Type
}

// singleton is an object of which there is one, such as Ellipsis.
type singleton struct{ name string }

var ellipsis = &singleton{"Ellipsis"}

// NewList makes a list of the items.
func NewList(items ...Value) *List { return &List{Items: items} }

// NewTuple makes a tuple of the items.
func NewTuple(items ...Value) *Tuple { return &Tuple{Items: items} }

func builtin(name string) *Type { return &Type{Module: "builtins", Name: name} }

// The classes of the built-in values.
var (
	typeType      = builtin("type")
	typeObject    = builtin("object")
	typeNone      = builtin("NoneType")
	typeBool      = builtin("bool")
	typeInt       = builtin("int")
	typeFloat     = builtin("float")
	typeStr       = builtin("str")
	typeBytes     = builtin("bytes")
	typeList      = builtin("list")
	typeTuple     = builtin("tuple")
	typeDict      = builtin("dict")
	typeDictKeys  = builtin("dict_keys")
	typeDictVals  = builtin("dict_values")
	typeDictItems = builtin("dict_items")
	typeSet       = builtin("set")
	typeFrozenset = builtin("frozenset")
	typeRange     = builtin("range")
	typeGenerator = builtin("generator")
	typeIterator  = builtin("iterator")
	typeBuiltinFn = builtin("builtin_function_or_method")
	typeFunction  = builtin("function")
	typeMethod    = builtin("method")
	typeModule    = builtin("module")
	typeSlice     = builtin("slice")
	typeMarkup    = &Type{Module: "markupsafe", Name: "Markup"}
)

// TypeOf returns the class of a value.
func TypeOf(v Value) *Type {
	switch x := v.(type) {
	case nil:
		return typeNone
	case bool:
		return typeBool
	case int64, *big.Int:
		return typeInt
	case float64:
		return typeFloat
	case string:
		return typeStr
	case Markup:
		return typeMarkup
	case Bytes:
		return typeBytes
	case *List:
		return typeList
	case *Tuple:
		return typeTuple
	case *Dict:
		return typeDict
	case *dictView:
		return x.kind
	case *Set:
		if x.frozen {
			return typeFrozenset
		}
		return typeSet
	case *Range:
		return typeRange
	case *Generator:
		return x.kind
	case *Func:
		return x.pyType()
	case *Type:
		return typeType
	case *singleton:
		return builtin(strings.ToLower(x.name))
	case complex128:
		return builtin("complex")
	case *Slice:
		return typeSlice
	case Object:
		return x.PyType()
	}
	return builtin(fmt.Sprintf("%T", v))
}

func typeName(v Value) string { return TypeOf(v).Name }

// objectTypeRepr is how Jinja names an object in undefined messages.
func objectTypeRepr(v Value) string {
	if v == nil {
		return "None"
	}
	if v == ellipsis {
		return "Ellipsis"
	}
	return TypeOf(v).QualName() + " object"
}

// unwrap resolves lazy proxies.
func unwrap(v Value) Value {
	for i := 0; i < 32; i++ {
		w, ok := v.(Wrapper)
		if !ok {
			return v
		}
		in, err := w.PyUnwrap()
		if err != nil {
			raiseErr(err)
		}
		v = in
	}
	raise("RecursionError", "maximum recursion depth exceeded")
	return nil
}

// normInt gives the canonical form of an integer.
func normInt(b *big.Int) Value {
	if b.IsInt64() {
		return b.Int64()
	}
	return b
}

// bigOf returns the integer value of a bool or int.
func bigOf(v Value) (*big.Int, bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	case int64:
		return big.NewInt(x), true
	case *big.Int:
		return x, true
	}
	return nil, false
}

// smallInt returns the value of a bool or int that fits 64 bits.
func smallInt(v Value) (int64, bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	case int64:
		return x, true
	}
	return 0, false
}

func isInt(v Value) bool {
	switch v.(type) {
	case bool, int64, *big.Int:
		return true
	}
	return false
}

func isNumber(v Value) bool {
	if isInt(v) {
		return true
	}
	_, ok := v.(float64)
	return ok
}

// floatOf returns the float value of a number.
func floatOf(v Value) (float64, bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	case int64:
		return float64(x), true
	case *big.Int:
		f, _ := new(big.Float).SetInt(x).Float64()
		if math.IsInf(f, 0) {
			raise("OverflowError", "int too large to convert to float")
		}
		return f, true
	case float64:
		return x, true
	}
	return 0, false
}

// strOf returns the text of a str or Markup.
func strOf(v Value) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case Markup:
		return string(x), true
	}
	return "", false
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// strLen is len() of a str: code points.
func strLen(s string) int {
	if isASCII(s) {
		return len(s)
	}
	return utf8.RuneCountInString(s)
}

// isTrue is bool(v).
func isTrue(v Value) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case int64:
		return x != 0
	case *big.Int:
		return x.Sign() != 0
	case float64:
		return x != 0
	case string:
		return x != ""
	case Markup:
		return x != ""
	case Bytes:
		return x != ""
	case *List:
		return len(x.Items) > 0
	case *Tuple:
		return len(x.Items) > 0
	case *Dict:
		return x.Len() > 0
	case *dictView:
		return x.d.Len() > 0
	case *Set:
		return x.d.Len() > 0
	case *Range:
		return x.Len() > 0
	case *TimeDelta:
		return x.us != 0
	case *Undefined:
		if x.kind == StrictUndefined {
			x.fail()
		}
		return false
	case Wrapper:
		return isTrue(unwrap(x))
	case Truther:
		return x.PyBool()
	case Lener:
		return x.PyLen() > 0
	}
	return true
}

// length is len(v).
func length(v Value) int64 {
	n, ok := tryLength(v)
	if !ok {
		typeError("object of type '%s' has no len()", typeName(v))
	}
	return n
}

func tryLength(v Value) (int64, bool) {
	switch x := v.(type) {
	case string:
		return int64(strLen(x)), true
	case Markup:
		return int64(strLen(string(x))), true
	case Bytes:
		return int64(len(x)), true
	case *List:
		return int64(len(x.Items)), true
	case *Tuple:
		return int64(len(x.Items)), true
	case *Dict:
		return int64(x.Len()), true
	case *dictView:
		return int64(x.d.Len()), true
	case *Set:
		return int64(x.d.Len()), true
	case *Range:
		return x.Len(), true
	case *Undefined:
		if x.kind == StrictUndefined {
			x.fail()
		}
		return 0, true
	case Wrapper:
		return tryLength(unwrap(x))
	case Lener:
		return int64(x.PyLen()), true
	case Iterabler:
		return int64(len(x.PyIter())), true
	}
	return 0, false
}

// sliceIter iterates over a snapshot-free view of a slice: a list that grows
// while it is iterated yields the new elements, as in Python.
func listIter(l *List) func() (Value, bool) {
	i := 0
	return func() (Value, bool) {
		if i >= len(l.Items) {
			return nil, false
		}
		i++
		return l.Items[i-1], true
	}
}

func sliceIter(items []Value) func() (Value, bool) {
	i := 0
	return func() (Value, bool) {
		if i >= len(items) {
			return nil, false
		}
		i++
		return items[i-1], true
	}
}

// tryIter is iter(v); nil when v is not iterable.
func tryIter(v Value) func() (Value, bool) {
	switch x := v.(type) {
	case string:
		return strIter(x)
	case Markup:
		return strIter(string(x))
	case Bytes:
		i := 0
		return func() (Value, bool) {
			if i >= len(x) {
				return nil, false
			}
			i++
			return int64(x[i-1]), true
		}
	case *List:
		return listIter(x)
	case *Tuple:
		return sliceIter(x.Items)
	case *Dict:
		return x.iter(func(e *dictEntry) Value { return e.key })
	case *dictView:
		return x.iter()
	case *Set:
		return x.d.iter(func(e *dictEntry) Value { return e.key })
	case *Range:
		i, n := int64(0), x.Len()
		return func() (Value, bool) {
			if i >= n {
				return nil, false
			}
			i++
			return x.Start + (i-1)*x.Step, true
		}
	case *Generator:
		return x.next
	case *Undefined:
		if x.kind == StrictUndefined {
			x.fail()
		}
		return sliceIter(nil)
	case Wrapper:
		return tryIter(unwrap(x))
	case Iterabler:
		return sliceIter(x.PyIter())
	}
	return nil
}

func strIter(s string) func() (Value, bool) {
	i := 0
	return func() (Value, bool) {
		if i >= len(s) {
			return nil, false
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		i += n
		return s[i-n : i], true
	}
}

// iterate is iter(v) or a TypeError.
func iterate(v Value) func() (Value, bool) {
	it := tryIter(v)
	if it == nil {
		typeError("'%s' object is not iterable", typeName(v))
	}
	return it
}

// toSlice is list(v) as a new Go slice.
func (ev *Eval) toSlice(v Value) []Value {
	it := iterate(v)
	var out []Value
	if n, ok := v.(*List); ok {
		out = make([]Value, 0, len(n.Items))
	}
	for {
		x, ok := it()
		if !ok {
			return out
		}
		ev.step(1)
		out = append(out, x)
	}
}

// identical is Python's "is", for tests and None checks.
func identical(a, b Value) bool {
	switch x := a.(type) {
	case nil:
		return b == nil
	case float64:
		y, ok := b.(float64)
		return ok && math.Float64bits(x) == math.Float64bits(y)
	case *big.Int:
		y, ok := b.(*big.Int)
		return ok && x == y
	case *Func:
		return x == b
	}
	return comparable2(a, b)
}

// comparable2 compares by Go identity without panicking on odd types.
func comparable2(a, b Value) (eq bool) {
	defer func() {
		if recover() != nil {
			eq = false
		}
	}()
	return a == b
}

func pluralS(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func quoteJoin(names []string, and string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = "'" + n + "'"
	}
	switch len(q) {
	case 0:
		return ""
	case 1:
		return q[0]
	case 2:
		return q[0] + " " + and + " " + q[1]
	}
	return strings.Join(q[:len(q)-1], ", ") + ", " + and + " " + q[len(q)-1]
}
