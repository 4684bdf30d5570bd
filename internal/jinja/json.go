package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/pyrepr"
)

// JSONOptions are the options of Python's json.dumps.
type JSONOptions struct {
	SortKeys bool
	// Indent is the text of one level; HasIndent makes the output multi-line.
	Indent        string
	HasIndent     bool
	NonASCII      bool // ensure_ascii=False
	ItemSep       string
	KeySep        string
	SkipKeys      bool
	ForbidNaN     bool
	Default       Value
	hasSeparators bool
}

func (o *JSONOptions) setIndent(v Value) {
	v = unwrap(v)
	if v == nil {
		return
	}
	o.HasIndent = true
	if s, ok := strOf(v); ok {
		o.Indent = s
		return
	}
	n := argInt(v)
	if n > 1000 {
		raise(ClassLimit, "an indent of more than 1000")
	}
	o.Indent = strings.Repeat(" ", int(max(0, n)))
}

// DumpJSON is json.dumps(v).
func DumpJSON(v Value, o JSONOptions) (s string, err error) {
	defer guard(&err)
	ev := NewEnvironment().newEval()
	return ev.dumpJSON(v, o), nil
}

type jsonWriter struct {
	strings.Builder
	ev   *Eval
	o    JSONOptions
	open []Value
}

func (ev *Eval) dumpJSON(v Value, o JSONOptions) string {
	if !o.hasSeparators {
		o.ItemSep, o.KeySep = ", ", ": "
		if o.HasIndent {
			o.ItemSep = ","
		}
	}
	w := &jsonWriter{ev: ev, o: o}
	w.value(v)
	return w.String()
}

func (w *jsonWriter) enter(v Value) {
	for _, o := range w.open {
		if o == v {
			valueError("Circular reference detected")
		}
	}
	if len(w.open) > 900 {
		raise("RecursionError", "maximum recursion depth exceeded while encoding a JSON object")
	}
	w.open = append(w.open, v)
}

func (w *jsonWriter) leave() { w.open = w.open[:len(w.open)-1] }

func (w *jsonWriter) newline() {
	if w.o.HasIndent {
		w.WriteByte('\n')
		for range w.open {
			w.WriteString(w.o.Indent)
		}
	}
}

func (w *jsonWriter) float(f float64) string {
	s := pyrepr.Float(f)
	switch {
	case math.IsNaN(f):
		s = "NaN"
	case math.IsInf(f, 1):
		s = "Infinity"
	case math.IsInf(f, -1):
		s = "-Infinity"
	default:
		return s
	}
	if w.o.ForbidNaN {
		valueError("Out of range float values are not JSON compliant: %s", pyrepr.Float(f))
	}
	return s
}

func (w *jsonWriter) value(v Value) {
	if w.Len() > w.ev.limits.MaxValueBytes {
		raise(ClassLimit, "JSON text larger than %d bytes", w.ev.limits.MaxValueBytes)
	}
	w.ev.step(1)
	switch x := v.(type) {
	case nil:
		w.WriteString("null")
	case bool:
		w.WriteString(strconv.FormatBool(x))
	case int64:
		w.WriteString(strconv.FormatInt(x, 10))
	case *big.Int:
		w.WriteString(reprInt(x))
	case float64:
		w.WriteString(w.float(x))
	case string:
		w.WriteString(jsonString(x, w.o.NonASCII))
	case Markup:
		w.WriteString(jsonString(string(x), w.o.NonASCII))
	case *List:
		w.array(v, x.Items)
	case *Tuple:
		w.array(v, x.Items)
	case *Dict:
		w.object(x)
	case *dictView:
		w.unknown(v)
	case Wrapper:
		w.value(unwrap(x))
	case interface{ PyJSON() Value }:
		w.value(x.PyJSON())
	default:
		w.unknown(v)
	}
}

func (w *jsonWriter) unknown(v Value) {
	if w.o.Default != nil {
		w.enter(v)
		r := w.ev.call(w.o.Default, posArgs(v))
		w.value(r)
		w.leave()
		return
	}
	typeError("Object of type %s is not JSON serializable", typeName(v))
}

func (w *jsonWriter) array(v Value, items []Value) {
	if len(items) == 0 {
		w.WriteString("[]")
		return
	}
	w.enter(v)
	w.WriteByte('[')
	for i, it := range items {
		if i > 0 {
			w.WriteString(w.o.ItemSep)
		}
		w.newline()
		w.value(it)
	}
	w.leave()
	w.newline()
	w.WriteByte(']')
}

func (w *jsonWriter) object(d *Dict) {
	if d.Len() == 0 {
		w.WriteString("{}")
		return
	}
	keys := d.Keys()
	if w.o.SortKeys {
		keys = w.ev.sortValues(keys, nil, false)
	}
	w.enter(d)
	w.WriteByte('{')
	n := 0
	for _, k := range keys {
		var ks string
		switch x := k.(type) {
		case string:
			ks = x
		case Markup:
			ks = string(x)
		case nil:
			ks = "null"
		case bool:
			ks = strconv.FormatBool(x)
		case int64, *big.Int:
			ks = repr(x)
		case float64:
			ks = w.float(x)
		default:
			if w.o.SkipKeys {
				continue
			}
			typeError("keys must be str, int, float, bool or None, not %s", typeName(k))
		}
		if n > 0 {
			w.WriteString(w.o.ItemSep)
		}
		n++
		w.newline()
		w.WriteString(jsonString(ks, w.o.NonASCII))
		w.WriteString(w.o.KeySep)
		val, _ := d.Get(k)
		w.value(val)
	}
	w.leave()
	w.newline()
	w.WriteByte('}')
}

func jsonString(s string, nonASCII bool) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"':
			b.WriteString(`\"`)
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\b':
			b.WriteString(`\b`)
		case r < 0x20 || r >= 0x7f && !nonASCII && r < 0x10000 && r != 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r >= 0x10000 && !nonASCII:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// ParseJSON is json.loads(s): objects keep their order, integers their size.
// The error is of class JSONDecodeError.
func ParseJSON(s string) (v Value, err error) {
	defer guard(&err)
	p := &jsonParser{s: s}
	p.space()
	v = p.value(0)
	p.space()
	if p.i != len(s) {
		p.fail("Extra data", p.i)
	}
	return v, nil
}

type jsonParser struct {
	s string
	i int
}

func (p *jsonParser) fail(msg string, at int) {
	at = min(at, len(p.s))
	line := strings.Count(p.s[:at], "\n") + 1
	col := at - strings.LastIndexByte(p.s[:at], '\n')
	raise("JSONDecodeError", "%s: line %d column %d (char %d)", msg, line, col, at)
}

func (p *jsonParser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\n\r", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *jsonParser) value(depth int) Value {
	if depth > 900 {
		raise("RecursionError", "maximum recursion depth exceeded while decoding a JSON document")
	}
	rest := p.s[p.i:]
	for lit, v := range map[string]Value{"null": nil, "true": true, "false": false, "NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)} {
		if strings.HasPrefix(rest, lit) {
			p.i += len(lit)
			return v
		}
	}
	if rest == "" {
		p.fail("Expecting value", p.i)
	}
	switch c := rest[0]; {
	case c == '"':
		return p.str()
	case c == '[':
		p.i++
		l := NewList()
		p.space()
		if p.i < len(p.s) && p.s[p.i] == ']' {
			p.i++
			return l
		}
		for {
			p.space()
			l.Items = append(l.Items, p.value(depth+1))
			p.space()
			if p.i < len(p.s) && p.s[p.i] == ',' {
				p.i++
				continue
			}
			if p.i < len(p.s) && p.s[p.i] == ']' {
				p.i++
				return l
			}
			p.fail("Expecting ',' delimiter", p.i)
		}
	case c == '{':
		p.i++
		d := NewDict()
		p.space()
		if p.i < len(p.s) && p.s[p.i] == '}' {
			p.i++
			return d
		}
		for {
			p.space()
			if p.i >= len(p.s) || p.s[p.i] != '"' {
				p.fail("Expecting property name enclosed in double quotes", p.i)
			}
			k := p.str()
			p.space()
			if p.i >= len(p.s) || p.s[p.i] != ':' {
				p.fail("Expecting ':' delimiter", p.i)
			}
			p.i++
			p.space()
			d.Set(k, p.value(depth+1))
			p.space()
			if p.i < len(p.s) && p.s[p.i] == ',' {
				p.i++
				continue
			}
			if p.i < len(p.s) && p.s[p.i] == '}' {
				p.i++
				return d
			}
			p.fail("Expecting ',' delimiter", p.i)
		}
	case c == '-' || isDigit(c):
		return p.number()
	}
	p.fail("Expecting value", p.i)
	return nil
}

func (p *jsonParser) number() Value {
	start, i := p.i, p.i
	if p.s[i] == '-' {
		i++
	}
	run := func() bool {
		j := i
		for i < len(p.s) && isDigit(p.s[i]) {
			i++
		}
		return i > j
	}
	if i < len(p.s) && p.s[i] == '0' {
		i++
	} else if !run() {
		p.fail("Expecting value", start)
	}
	isFloat := false
	if i+1 < len(p.s) && p.s[i] == '.' && isDigit(p.s[i+1]) {
		i++
		run()
		isFloat = true
	}
	if i < len(p.s) && p.s[i]|0x20 == 'e' {
		save := i
		i++
		if i < len(p.s) && (p.s[i] == '+' || p.s[i] == '-') {
			i++
		}
		if run() {
			isFloat = true
		} else {
			i = save
		}
	}
	p.i = i
	if isFloat {
		f, _ := strconv.ParseFloat(p.s[start:i], 64)
		return f
	}
	v, ok := parseInt(p.s[start:i], 10)
	if !ok {
		p.fail("Expecting value", start)
	}
	return v
}

func (p *jsonParser) str() string {
	start := p.i
	p.i++
	var b strings.Builder
	for {
		if p.i >= len(p.s) {
			p.fail("Unterminated string starting at", start)
		}
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return b.String()
		case c < 0x20:
			p.fail("Invalid control character at", p.i)
		case c != '\\':
			_, n := utf8.DecodeRuneInString(p.s[p.i:])
			b.WriteString(p.s[p.i : p.i+n])
			p.i += n
			continue
		}
		p.i++
		if p.i >= len(p.s) {
			p.fail("Unterminated string starting at", start)
		}
		c = p.s[p.i]
		if k := strings.IndexByte(`"\/bfnrt`, c); k >= 0 {
			b.WriteByte("\"\\/\b\f\n\r\t"[k])
			p.i++
			continue
		}
		if c != 'u' {
			p.fail("Invalid \\escape", p.i-1)
		}
		hex := func(at int) (rune, bool) {
			if at+4 > len(p.s) {
				return 0, false
			}
			n, err := strconv.ParseUint(p.s[at:at+4], 16, 32)
			return rune(n), err == nil
		}
		r, ok := hex(p.i + 1)
		if !ok {
			p.fail("Invalid \\uXXXX escape", p.i)
		}
		p.i += 5
		if r >= 0xd800 && r < 0xdc00 && strings.HasPrefix(p.s[p.i:], `\u`) {
			if lo, ok := hex(p.i + 2); ok && lo >= 0xdc00 && lo < 0xe000 {
				r = 0x10000 + (r-0xd800)<<10 + (lo - 0xdc00)
				p.i += 6
			}
		}
		b.WriteRune(r)
	}
}
