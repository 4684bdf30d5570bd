package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIntDigits is CPython's default limit for int <-> str conversion.
const maxIntDigits = 4300

// ReprFloat is repr() of a float.
func ReprFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	mant, exps, _ := strings.Cut(s, "e")
	exp, _ := strconv.Atoi(exps)
	if exp < -4 || exp >= 16 {
		sign := "+"
		if exp < 0 {
			sign, exp = "-", -exp
		}
		return fmt.Sprintf("%se%s%02d", mant, sign, exp)
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

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

// isPrintable is str.isprintable for one code point.
func isPrintable(r rune) bool {
	if r < 0x7f {
		return r >= 0x20
	}
	if r == utf8.RuneError {
		return true
	}
	// Go counts no space but U+0020 as printable, as Python does, and knows
	// the same categories (L, M, N, P, S).
	return unicode.IsPrint(r)
}

// ReprStr is repr() of a str.
func ReprStr(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case isPrintable(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}

func reprBytes(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte('b')
	b.WriteByte(quote)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte(quote)
	return b.String()
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
		return ReprStr(x)
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
		w.WriteString(ReprFloat(x))
	case string:
		w.WriteString(ReprStr(x))
	case Markup:
		w.WriteString("Markup(" + ReprStr(string(x)) + ")")
	case Bytes:
		w.WriteString(reprBytes(string(x)))
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
		re, im := strings.TrimSuffix(ReprFloat(real(x)), ".0"), strings.TrimSuffix(ReprFloat(imag(x)), ".0")
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
