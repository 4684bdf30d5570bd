package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// percentFormat is s % arg.
func (ev *Eval) percentFormat(s string, arg Value, markup bool) string {
	var b strings.Builder
	args := []Value{arg}
	isTuple := false
	if t, ok := arg.(*Tuple); ok {
		args, isTuple = t.Items, true
	}
	var mapping *Dict
	if d, ok := arg.(*Dict); ok {
		mapping = d
	}
	next := 0
	take := func() Value {
		if next >= len(args) {
			typeError("not enough arguments for format string")
		}
		next++
		return args[next-1]
	}
	text := func(v Value, r bool) string {
		t := ""
		if r {
			t = repr(v)
		} else {
			t = str(v)
		}
		if markup {
			return string(escape(asMarkupText(v, t)))
		}
		return t
	}
	usedKey := false
	for i := 0; i < len(s); {
		if s[i] != '%' {
			j := strings.IndexByte(s[i:], '%')
			if j < 0 {
				j = len(s) - i
			}
			b.WriteString(s[i : i+j])
			i += j
			continue
		}
		i++
		if i >= len(s) {
			valueError("incomplete format")
		}
		var v Value
		haveV := false
		if s[i] == '(' {
			depth, j := 1, i+1
			for ; j < len(s) && depth > 0; j++ {
				switch s[j] {
				case '(':
					depth++
				case ')':
					depth--
				}
			}
			if depth > 0 {
				valueError("incomplete format key")
			}
			key := s[i+1 : j-1]
			i = j
			if mapping == nil {
				typeError("format requires a mapping")
			}
			v, haveV = ev.subscript(mapping, key), true
			usedKey = true
		}
		sp := formatSpec{fill: " ", prec: -1}
		minus, zero := false, false
	flags:
		for ; i < len(s); i++ {
			switch s[i] {
			case '-':
				minus = true
			case '+':
				sp.sign = '+'
			case ' ':
				if sp.sign != '+' {
					sp.sign = ' '
				}
			case '#':
				sp.alt = true
			case '0':
				zero = true
			default:
				break flags
			}
		}
		num := func() int {
			if i < len(s) && s[i] == '*' {
				i++
				return int(argInt(take()))
			}
			j := i
			for i < len(s) && isDigit(s[i]) {
				i++
			}
			n, err := strconv.Atoi("0" + s[j:i])
			if err != nil || n > ev.limits.MaxValueBytes {
				raise(ClassLimit, "a formatted width is too large")
			}
			return n
		}
		sp.width = num()
		if sp.width < 0 {
			minus, sp.width = true, -sp.width
		}
		if i < len(s) && s[i] == '.' {
			i++
			sp.prec = max(0, num())
		}
		for i < len(s) && strings.IndexByte("hlL", s[i]) >= 0 {
			i++
		}
		if i >= len(s) {
			valueError("incomplete format")
		}
		c, n := utf8.DecodeRuneInString(s[i:])
		at := i
		i += n
		if c == '%' {
			b.WriteByte('%')
			continue
		}
		if !haveV {
			v = take()
		}
		v = unwrap(v)
		sp.align = '>'
		if minus {
			sp.align = '<'
		}
		ev.alloc(sp.width + sp.prec + 16)
		switch c {
		case 's', 'r', 'a':
			t := text(v, c != 's')
			if c == 'a' {
				t = asciiEscape(t)
			}
			if sp.prec >= 0 {
				t = cutRunes(t, sp.prec)
			}
			b.WriteString(sp.padText(t))
		case 'c':
			if t, ok := strOf(v); ok {
				if strLen(t) != 1 {
					typeError("%%c requires int or char")
				}
				b.WriteString(sp.padText(t))
			} else if r, ok := smallInt(v); ok {
				b.WriteString(sp.padText(chr(r, "%c arg not in range(0x110000)")))
			} else if _, ok := bigOf(v); ok {
				raise("OverflowError", "%%c arg not in range(0x110000)")
			} else {
				typeError("%%c requires int or char")
			}
		case 'd', 'i', 'u', 'x', 'X', 'o':
			if zero && !minus {
				sp.fill, sp.align = "0", '='
			}
			sp.typ = byte(c)
			if c == 'i' || c == 'u' {
				sp.typ = 'd'
			}
			var n *big.Int
			if f, ok := v.(float64); ok && sp.typ == 'd' {
				n, _ = bigOf(toInt(f))
			} else if x, ok := bigOf(v); ok {
				n = x
			} else {
				if u, ok := v.(*Undefined); ok && sp.typ == 'd' {
					u.fail()
				}
				want := "a real number is required"
				if sp.typ != 'd' {
					want = "an integer is required"
				}
				typeError("%%%c format: %s, not %s", c, want, typeName(v))
			}
			digits := sp.prec
			sp.prec = -1
			b.WriteString(sp.formatInt(n, digits))
		case 'e', 'E', 'f', 'F', 'g', 'G':
			if zero && !minus {
				sp.fill, sp.align = "0", '='
			}
			sp.typ = byte(c)
			var f float64
			if x, ok := floatOf(v); ok {
				f = x
			} else if u, ok := v.(*Undefined); ok {
				u.fail()
			} else {
				typeError("must be real number, not %s", typeName(v))
			}
			b.WriteString(sp.formatFloat(f))
		default:
			valueError("unsupported format character '%c' (0x%x) at index %d", c, c, strLen(s[:at]))
		}
	}
	if next < len(args) && !(mapping != nil && !isTuple) && !usedKey {
		if isTuple || !hasItems(arg) {
			typeError("not all arguments converted during string formatting")
		}
	}
	return b.String()
}

// hasItems tells whether % accepts v as an unused mapping.
func hasItems(v Value) bool {
	switch v.(type) {
	case *Dict, *List, *Range, Bytes:
		return true
	}
	return false
}

func chr(r int64, msg string) string {
	if r < 0 || r > 0x10ffff {
		raise("OverflowError", "%s", msg)
	}
	return string(rune(r))
}

func asMarkupText(v Value, t string) Value {
	if m, ok := v.(Markup); ok {
		return m
	}
	return t
}

func cutRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func asciiEscape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x100:
			b.WriteString(`\x` + pad0(uint64(r), 2))
		case r < 0x10000:
			b.WriteString(`\u` + pad0(uint64(r), 4))
		default:
			b.WriteString(`\U` + pad0(uint64(r), 8))
		}
	}
	return b.String()
}
