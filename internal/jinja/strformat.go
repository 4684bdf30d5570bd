package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/pyrepr"
)

// formatSpec is the format mini-language.
type formatSpec struct {
	fill   string
	align  byte
	sign   byte
	z, alt bool
	width  int
	group  byte
	prec   int
	typ    byte
}

func parseSpec(s, kind string) formatSpec {
	sp := formatSpec{fill: " ", prec: -1}
	bad := func() { valueError("Invalid format specifier '%s' for object of type '%s'", s, kind) }
	in := s
	isAlign := func(c byte) bool { return strings.IndexByte("<>=^", c) >= 0 }
	if in != "" {
		_, n := utf8.DecodeRuneInString(in)
		if len(in) > n && isAlign(in[n]) {
			sp.fill, sp.align, in = in[:n], in[n], in[n+1:]
		} else if isAlign(in[0]) {
			sp.align, in = in[0], in[1:]
		}
	}
	if in != "" && strings.IndexByte("+- ", in[0]) >= 0 {
		sp.sign, in = in[0], in[1:]
	}
	if in != "" && in[0] == 'z' {
		sp.z, in = true, in[1:]
	}
	if in != "" && in[0] == '#' {
		sp.alt, in = true, in[1:]
	}
	if in != "" && in[0] == '0' {
		if sp.align == 0 {
			sp.fill = "0"
			if kind != "str" {
				sp.align = '='
			} else {
				sp.align = '<'
			}
		}
		in = in[1:]
	}
	num := func() (int, bool) {
		i := 0
		for i < len(in) && isDigit(in[i]) {
			i++
		}
		if i == 0 {
			return 0, false
		}
		n, err := strconv.Atoi(in[:i])
		if err != nil {
			valueError("Too many decimal digits in format string")
		}
		in = in[i:]
		return n, true
	}
	sp.width, _ = num()
	if in != "" && (in[0] == ',' || in[0] == '_') {
		sp.group, in = in[0], in[1:]
		if in != "" && (in[0] == ',' || in[0] == '_') {
			valueError("Cannot specify both ',' and '_'.")
		}
	}
	if in != "" && in[0] == '.' {
		in = in[1:]
		p, ok := num()
		if !ok {
			valueError("Format specifier missing precision")
		}
		sp.prec = p
	}
	if in != "" {
		if len(in) > 1 {
			bad()
		}
		sp.typ = in[0]
	}
	return sp
}

func (sp formatSpec) padText(s string) string {
	n := sp.width - strLen(s)
	if n <= 0 {
		return s
	}
	fill := sp.fill
	switch sp.align {
	case '>', '=':
		return strings.Repeat(fill, n) + s
	case '^':
		return strings.Repeat(fill, n/2) + s + strings.Repeat(fill, n-n/2)
	}
	return s + strings.Repeat(fill, n)
}

// number pads and groups a number given as sign, prefix and digits; rest is
// what follows the integer digits (".50", "e+10", "%").
func (sp formatSpec) number(neg bool, prefix, digits, rest string) string {
	sign := ""
	switch {
	case neg:
		sign = "-"
	case sp.sign == '+' || sp.sign == ' ':
		sign = string(sp.sign)
	}
	if sp.group != 0 {
		step := 3
		if strings.IndexByte("bxXo", sp.typ) >= 0 && sp.typ != 0 {
			step = 4
		}
		if sp.fill == "0" && sp.align == '=' {
			want := sp.width - len(sign) - len(prefix) - len(rest)
			for len(groupDigits(digits, step, sp.group)) < want {
				digits = "0" + digits
			}
		}
		digits = groupDigits(digits, step, sp.group)
	}
	body := digits + rest
	if sp.align == '=' {
		if n := sp.width - len(sign) - len(prefix) - len(body); n > 0 {
			body = strings.Repeat(sp.fill, n) + body
		}
		return sign + prefix + body
	}
	if sp.align == 0 {
		sp.align = '>'
	}
	return sp.padText(sign + prefix + body)
}

func groupDigits(d string, step int, sep byte) string {
	var b strings.Builder
	for i := range len(d) {
		if i > 0 && (len(d)-i)%step == 0 {
			b.WriteByte(sep)
		}
		b.WriteByte(d[i])
	}
	return b.String()
}

// formatInt formats an integer; minDigits is %-formatting's precision.
func (sp formatSpec) formatInt(n *big.Int, minDigits int) string {
	neg := n.Sign() < 0
	a := new(big.Int).Abs(n)
	prefix, digits := "", ""
	switch sp.typ {
	case 'b':
		prefix, digits = "0b", a.Text(2)
	case 'o':
		prefix, digits = "0o", a.Text(8)
	case 'x':
		prefix, digits = "0x", a.Text(16)
	case 'X':
		prefix, digits = "0X", strings.ToUpper(a.Text(16))
	default:
		digits = reprInt(a)
	}
	if !sp.alt {
		prefix = ""
	}
	if minDigits > len(digits) {
		digits = strings.Repeat("0", minDigits-len(digits)) + digits
	}
	return sp.number(neg, prefix, digits, "")
}

func (sp formatSpec) formatFloat(f float64) string {
	typ, prec, rest := sp.typ, sp.prec, ""
	if typ == '%' {
		f, typ, rest = f*100, 'f', "%"
	}
	isUpper := typ == 'E' || typ == 'F' || typ == 'G'
	low := typ | 0x20
	text := ""
	neg := false
	if s := pyrepr.Float(f); strings.HasSuffix(s, "inf") || s == "nan" {
		neg = s[0] == '-'
		text = strings.TrimPrefix(s, "-")
	} else {
		switch {
		case sp.typ == 0 && prec < 0:
			text = s
		case sp.typ == 0 || low == 'g' || sp.typ == 'n':
			if prec < 0 {
				prec = 6
			}
			if prec == 0 {
				prec = 1
			}
			text = formatG(f, prec, sp.alt, sp.typ == 0)
		default:
			if prec < 0 {
				prec = 6
			}
			text = strconv.FormatFloat(f, low, prec, 64)
			if sp.alt && prec == 0 && low == 'f' {
				text += "."
			}
		}
		neg = strings.HasPrefix(text, "-")
		text = strings.TrimPrefix(text, "-")
		if sp.z && neg && strings.Trim(text, "0.e+-") == "" {
			neg = false
		}
	}
	if isUpper {
		text = strings.ToUpper(text)
	}
	cut := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if cut < 0 {
		cut = len(text)
	}
	return sp.number(neg, "", text[:cut], text[cut:]+rest)
}

// formatG is C's %g; with repr true, a float presentation without type that
// keeps at least one digit after the point.
func formatG(f float64, prec int, alt, asRepr bool) string {
	e := strconv.FormatFloat(f, 'e', prec-1, 64)
	mant, exps, _ := strings.Cut(e, "e")
	exp, _ := strconv.Atoi(exps)
	limit := prec
	if asRepr {
		limit = prec - 1
		if limit < 1 {
			limit = 1
		}
	}
	trim := func(s string) string {
		if alt || !strings.Contains(s, ".") {
			return s
		}
		return strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if exp < -4 || exp >= limit && !(asRepr && exp < limit) {
		sign := "+"
		if exp < 0 {
			sign, exp = "-", -exp
		}
		x := strconv.Itoa(exp)
		if len(x) < 2 {
			x = "0" + x
		}
		return trim(mant) + "e" + sign + x
	}
	s := trim(strconv.FormatFloat(f, 'f', max(0, prec-1-exp), 64))
	if asRepr && !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// formatValue is format(v, spec).
func (ev *Eval) formatValue(v Value, spec string) string {
	v = unwrap(v)
	switch x := v.(type) {
	case string, Markup:
		s, _ := strOf(x)
		if spec == "" {
			return s
		}
		sp := parseSpec(spec, "str")
		if sp.typ != 0 && sp.typ != 's' {
			valueError("Unknown format code '%c' for object of type 'str'", sp.typ)
		}
		if sp.align == '=' {
			valueError("'=' alignment not allowed in string format specifier")
		}
		if sp.sign != 0 {
			valueError("Sign not allowed in string format specifier")
		}
		if sp.group != 0 {
			valueError("Cannot specify '%c' with 's'.", sp.group)
		}
		if sp.prec >= 0 {
			s = cutRunes(s, sp.prec)
		}
		ev.width(sp)
		return sp.padText(s)
	case bool, int64, *big.Int:
		if spec == "" {
			return str(v)
		}
		kind := typeName(v)
		sp := parseSpec(spec, kind)
		n, _ := bigOf(x)
		ev.width(sp)
		switch sp.typ {
		case 0, 'd', 'b', 'o', 'x', 'X', 'n':
			if sp.prec >= 0 {
				valueError("Precision not allowed in integer format specifier")
			}
			if sp.group == ',' && sp.typ != 0 && sp.typ != 'd' {
				valueError("Cannot specify ',' with '%c'.", sp.typ)
			}
			return sp.formatInt(n, 0)
		case 'c':
			if sp.align == 0 {
				sp.align = '<'
			}
			if !n.IsInt64() {
				raise("OverflowError", "Python int too large to convert to C long")
			}
			return sp.padText(chr(n.Int64(), "%c arg not in range(0x110000)"))
		case 'e', 'E', 'f', 'F', 'g', 'G', '%':
			f, _ := floatOf(v)
			return sp.formatFloat(f)
		}
		valueError("Unknown format code '%c' for object of type '%s'", sp.typ, kind)
	case float64:
		if spec == "" {
			return pyrepr.Float(x)
		}
		sp := parseSpec(spec, "float")
		ev.width(sp)
		switch sp.typ {
		case 0, 'e', 'E', 'f', 'F', 'g', 'G', '%', 'n':
			return sp.formatFloat(x)
		}
		valueError("Unknown format code '%c' for object of type 'float'", sp.typ)
	case *Undefined:
		if spec == "" {
			return x.str()
		}
	case interface{ pyFormat(string) string }:
		if spec != "" {
			return x.pyFormat(spec)
		}
	}
	if spec != "" {
		typeError("unsupported format string passed to %s.__format__", typeName(v))
	}
	return str(v)
}

func (ev *Eval) width(sp formatSpec) {
	if sp.width > ev.limits.MaxValueBytes || sp.prec > ev.limits.MaxValueBytes {
		raise(ClassLimit, "a formatted width is too large")
	}
	ev.alloc(sp.width + max(0, sp.prec))
}

// strFormat is s.format(*pos, **kw).
func (ev *Eval) strFormat(s string, pos []Value, kw []KwArg) string {
	auto := 0
	return ev.vformat(s, pos, kw, &auto, 2, ev.formatValue)
}

func (ev *Eval) markupFormat(s string, pos []Value, kw []KwArg) string {
	auto := 0
	return ev.vformat(s, pos, kw, &auto, 2, func(v Value, spec string) string {
		if m, ok := v.(Markup); ok && spec == "" {
			return string(m)
		}
		return string(escape(ev.formatValue(v, spec)))
	})
}

func (ev *Eval) vformat(s string, pos []Value, kw []KwArg, auto *int, depth int, format func(Value, string) string) string {
	if depth < 0 {
		valueError("Max string recursion exceeded")
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '{' && i+1 < len(s) && s[i+1] == '{', c == '}' && i+1 < len(s) && s[i+1] == '}':
			b.WriteByte(c)
			i += 2
			continue
		case c == '}':
			valueError("Single '}' encountered in format string")
		case c != '{':
			b.WriteByte(c)
			i++
			continue
		}
		j, level := i+1, 1
		for ; j < len(s) && level > 0; j++ {
			switch s[j] {
			case '{':
				level++
			case '}':
				level--
			}
		}
		if level > 0 {
			if i+1 >= len(s) {
				valueError("Single '{' encountered in format string")
			}
			valueError("expected '}' before end of string")
		}
		field := s[i+1 : j-1]
		i = j
		spec, conv := "", byte(0)
		// The field name ends at the first ! or : outside brackets.
		name := field
		for k, br := 0, 0; k < len(field); k++ {
			if field[k] == '[' {
				br++
			}
			if field[k] == ']' && br > 0 {
				br--
			}
			if br > 0 {
				continue
			}
			if field[k] == '!' || field[k] == ':' {
				name = field[:k]
				if field[k] == '!' {
					if k+1 >= len(field) {
						valueError("end of string while looking for conversion specifier")
					}
					conv = field[k+1]
					tail := field[k+2:]
					if tail != "" && tail[0] != ':' {
						valueError("expected ':' after conversion specifier")
					}
					spec = strings.TrimPrefix(tail, ":")
				} else {
					spec = field[k+1:]
				}
				break
			}
		}
		v := ev.formatField(name, pos, kw, auto)
		switch conv {
		case 0:
		case 's':
			v = str(v)
		case 'r':
			v = repr(v)
		case 'a':
			v = asciiEscape(repr(v))
		default:
			valueError("Unknown conversion specifier %s", string(conv))
		}
		if strings.ContainsAny(spec, "{}") {
			spec = ev.vformat(spec, pos, kw, auto, depth-1, ev.formatValue)
		}
		out := format(v, spec)
		ev.alloc(len(out))
		b.WriteString(out)
	}
	return b.String()
}

func (ev *Eval) formatField(name string, pos []Value, kw []KwArg, auto *int) Value {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	first, rest := name[:end], name[end:]
	var v Value
	at := func(i int) {
		if i >= len(pos) {
			raise("IndexError", "Replacement index %d out of range for positional args tuple", i)
		}
		v = pos[i]
	}
	if first == "" {
		if *auto < 0 {
			valueError("cannot switch from manual field specification to automatic field numbering")
		}
		*auto++
		at(*auto - 1)
	} else if n, err := strconv.Atoi(first); err == nil && isDigit(first[0]) {
		if *auto > 0 {
			valueError("cannot switch from automatic field numbering to manual field specification")
		}
		*auto = -1
		at(n)
	} else {
		found := false
		for _, k := range kw {
			if k.Name == first {
				v, found = k.Value, true
			}
		}
		if !found {
			raise("KeyError", "%s", pyrepr.Str(first))
		}
	}
	for rest != "" {
		if rest[0] == '.' {
			rest = rest[1:]
			n := strings.IndexAny(rest, ".[")
			if n < 0 {
				n = len(rest)
			}
			if n == 0 {
				valueError("Empty attribute in format string")
			}
			if ev.env.Sandboxed {
				v = ev.getattr(v, rest[:n])
			} else if a, ok := ev.getAttr(v, rest[:n]); ok {
				v = a
			} else {
				raise("AttributeError", "'%s' object has no attribute '%s'", typeName(v), rest[:n])
			}
			rest = rest[n:]
			continue
		}
		n := strings.IndexByte(rest, ']')
		if n < 0 {
			valueError("Missing ']' in format string")
		}
		var key Value = rest[1:n]
		if i, err := strconv.Atoi(rest[1:n]); err == nil && isDigit(rest[1]) {
			key = int64(i)
		}
		if ev.env.Sandboxed {
			v = ev.getitem(v, key)
		} else {
			v = ev.subscript(v, key)
		}
		rest = rest[n+1:]
		if rest != "" && rest[0] != '.' && rest[0] != '[' {
			valueError("Only '.' or '[' may follow ']' in format field specifier")
		}
	}
	return v
}

// asciiDigits maps other scripts' decimal digits to ASCII.
func asciiDigits(s string) string {
	if isASCII(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if d, ok := digitValue(r); ok {
			return '0' + rune(d)
		}
		return r
	}, s)
}
