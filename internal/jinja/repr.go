package jinja

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// maxIntDigits is CPython's default limit for int <-> str conversion.
const maxIntDigits = 4300

func reprInt(b *big.Int) string {
	if b.BitLen() > maxIntDigits*10/3 {
		s := b.Text(10)
		if len(strings.TrimPrefix(s, "-")) > maxIntDigits {
			valueError("Exceeds the limit (%d digits) for integer string conversion; use sys.set_int_max_str_digits() to increase the limit", maxIntDigits)
		}
		return s
	}
	return b.Text(10)
}

// maxReprBytes bounds the text of one value: nested references to one list can
// make a text exponentially longer than the template.
const maxReprBytes = 16 << 20

type reprWriter struct {
	strings.Builder
	open []Value
}

// Repr is repr(v). It panics with *Error where Python raises; use it only for
// values that came out of a render.
func Repr(v Value) (s string, err error) {
	defer guard(&err)
	return repr(v), nil
}

// Str is str(v).
func Str(v Value) (s string, err error) {
	defer guard(&err)
	return str(v), nil
}

func repr(v Value) string {
	switch x := v.(type) {
	case string:
		return pyrepr.Str(x)
	case int64:
		return strconv.FormatInt(x, 10)
	}
	var w reprWriter
	w.repr(v)
	return w.String()
}

func (w *reprWriter) enter(v Value) bool {
	for _, o := range w.open {
		if o == v {
			return false
		}
	}
	if len(w.open) > 500 {
		raise("RecursionError", "maximum recursion depth exceeded while getting the repr of an object")
	}
	if w.Len() > maxReprBytes {
		raise(ClassLimit, "the text of a value is larger than %d bytes", maxReprBytes)
	}
	w.open = append(w.open, v)
	return true
}

func (w *reprWriter) leave() { w.open = w.open[:len(w.open)-1] }

func (w *reprWriter) items(items []Value) {
	for i, it := range items {
		if i > 0 {
			w.WriteString(", ")
		}
		w.repr(it)
	}
}

func (w *reprWriter) repr(v Value) {
	switch x := v.(type) {
	case nil:
		w.WriteString("None")
	case bool:
		if x {
			w.WriteString("True")
		} else {
			w.WriteString("False")
		}
	case int64:
		w.WriteString(strconv.FormatInt(x, 10))
	case *big.Int:
		w.WriteString(reprInt(x))
	case float64:
		w.WriteString(pyrepr.Float(x))
	case string:
		w.WriteString(pyrepr.Str(x))
	case Markup:
		w.WriteString("Markup(" + pyrepr.Str(string(x)) + ")")
	case Bytes:
		w.WriteString(pyrepr.Bytes(string(x)))
	case *List:
		if !w.enter(v) {
			w.WriteString("[...]")
			return
		}
		w.WriteByte('[')
		w.items(x.Items)
		w.WriteByte(']')
		w.leave()
	case *Tuple:
		if !w.enter(v) {
			w.WriteString("(...)")
			return
		}
		w.WriteByte('(')
		w.items(x.Items)
		if len(x.Items) == 1 {
			w.WriteByte(',')
		}
		w.WriteByte(')')
		w.leave()
	case *Dict:
		if !w.enter(v) {
			w.WriteString("{...}")
			return
		}
		if x.factory != nil {
			w.WriteString("defaultdict(")
			w.repr(x.factory)
			w.WriteString(", ")
		}
		w.WriteByte('{')
		first := true
		x.Each(func(k, val Value) bool {
			if !first {
				w.WriteString(", ")
			}
			first = false
			w.repr(k)
			w.WriteString(": ")
			w.repr(val)
			return true
		})
		w.WriteByte('}')
		if x.factory != nil {
			w.WriteByte(')')
		}
		w.leave()
	case *dictView:
		if !w.enter(v) {
			w.WriteString("...")
			return
		}
		w.WriteString(x.kind.Name + "([")
		it := x.iter()
		for i := 0; ; i++ {
			e, ok := it()
			if !ok {
				break
			}
			if i > 0 {
				w.WriteString(", ")
			}
			w.repr(e)
		}
		w.WriteString("])")
		w.leave()
	case *Set:
		w.reprSet(x)
	case *Range:
		if x.Step == 1 {
			fmt.Fprintf(w, "range(%d, %d)", x.Start, x.Stop)
		} else {
			fmt.Fprintf(w, "range(%d, %d, %d)", x.Start, x.Stop, x.Step)
		}
	case *Generator:
		w.WriteString("<" + x.kind.Name + " object>")
	case *Func:
		w.WriteString(x.repr())
	case *Type:
		w.WriteString("<class '" + x.QualName() + "'>")
	case *Undefined:
		w.WriteString("Undefined")
	case *singleton:
		w.WriteString(x.name)
	case complex128:
		re, im := strings.TrimSuffix(pyrepr.Float(real(x)), ".0"), strings.TrimSuffix(pyrepr.Float(imag(x)), ".0")
		switch {
		case re == "0":
			w.WriteString(im + "j")
		case im[0] == '-':
			w.WriteString("(" + re + im + "j)")
		default:
			w.WriteString("(" + re + "+" + im + "j)")
		}
	case *Slice:
		w.WriteString("slice(")
		w.items([]Value{x.Start, x.Stop, x.Step})
		w.WriteByte(')')
	case Reprer:
		w.WriteString(x.PyRepr())
	case Wrapper:
		w.repr(unwrap(x))
	case Object:
		w.WriteString("<" + TypeOf(v).QualName() + " object>")
	default:
		fmt.Fprintf(w, "<%T>", v)
	}
}

func (w *reprWriter) reprSet(s *Set) {
	items := s.Items()
	if len(items) == 0 {
		if s.frozen {
			w.WriteString("frozenset()")
		} else {
			w.WriteString("set()")
		}
		return
	}
	if !w.enter(s) {
		w.WriteString("set(...)")
		return
	}
	if s.frozen {
		w.WriteString("frozenset(")
	}
	w.WriteByte('{')
	w.items(items)
	w.WriteByte('}')
	if s.frozen {
		w.WriteByte(')')
	}
	w.leave()
}

// str is str(v).
func str(v Value) string {
	switch x := v.(type) {
	case string:
		return x
	case Markup:
		return string(x)
	case int64:
		return strconv.FormatInt(x, 10)
	case *Undefined:
		return x.str()
	case Wrapper:
		return str(unwrap(x))
	case Strer:
		return x.PyStr()
	}
	return repr(v)
}
