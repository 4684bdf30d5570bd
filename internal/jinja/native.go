package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nativeConcat joins the parts of a native render: a lone value stays itself;
// text, joined or alone, is read as a Python literal if it is one.
func nativeConcat(parts []Value) Value {
	if len(parts) == 0 {
		return nil
	}
	raw := ""
	if len(parts) == 1 {
		s, ok := strOf(parts[0])
		if !ok {
			return parts[0]
		}
		raw = s
		if v, ok := literalEval(raw); ok {
			return v
		}
		return parts[0]
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(str(p))
	}
	raw = b.String()
	if v, ok := literalEval(raw); ok {
		return v
	}
	return raw
}

// LiteralEval is ast.literal_eval(ast.parse(text, mode="eval")): ok is false
// where Python raises. Leading blanks make it fail, trailing ones do not.
func LiteralEval(text string) (v Value, ok bool) {
	if catch(func() { v, ok = literalEval(text) }, "Exception") != nil {
		return nil, false
	}
	return v, ok
}

// literalEval raises TypeError for an unhashable key, which the native
// environment does not catch.
func literalEval(text string) (v Value, ok bool) {
	if len(text) > 8<<20 || strings.IndexByte(text, 0) >= 0 {
		return nil, false
	}
	p := &litParser{s: strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")}
	defer func() {
		if r := recover(); r != nil {
			if _, isLit := r.(litError); !isLit {
				panic(r)
			}
			v, ok = nil, false
		}
	}()
	// Blank and comment lines may come first; indentation may not.
	for {
		line := p.s[p.i:]
		t := strings.TrimLeft(line, " \t\f")
		if t != "" && (t[0] == '\n' || t[0] == '#') {
			n := strings.IndexByte(line, '\n')
			if n < 0 {
				return nil, false
			}
			p.i += n + 1
			continue
		}
		if len(t) != len(line) && strings.Trim(line[:len(line)-len(t)], "\f") != "" {
			return nil, false
		}
		break
	}
	v = p.tuple(0)
	p.space()
	for p.i < len(p.s) {
		if p.s[p.i] != '\n' {
			return nil, false
		}
		p.i++
		p.space()
	}
	if p.unhashable != nil {
		panic(p.unhashable)
	}
	return v, true
}

type litError struct{}

// litParser parses the literals that literal_eval accepts. depth counts open
// brackets, inside of which newlines are blanks.
type litParser struct {
	s     string
	i     int
	depth int
	level int
	// unhashable is the TypeError of a dict key or set element; it counts
	// only if the whole text is a literal.
	unhashable *Error
}

func (p *litParser) put(d *Dict, k, v Value) {
	if e := catch(func() { d.Set(k, v) }, "TypeError"); e != nil && p.unhashable == nil {
		p.unhashable = e
	}
}

func (p *litParser) fail() { panic(litError{}) }

func (p *litParser) space() {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == ' ' || c == '\t' || c == '\f' || c == '\n' && p.depth > 0:
			p.i++
		case c == '#':
			for p.i < len(p.s) && p.s[p.i] != '\n' {
				p.i++
			}
		case c == '\\' && p.i+1 < len(p.s) && p.s[p.i+1] == '\n':
			p.i += 2
			if p.i >= len(p.s) {
				p.fail()
			}
		default:
			return
		}
	}
}

func (p *litParser) peek() byte {
	p.space()
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *litParser) take(c byte) bool {
	if p.peek() == c {
		p.i++
		return true
	}
	return false
}

// tuple parses value {"," value} [","] up to the closing byte.
func (p *litParser) tuple(end byte) Value {
	first := p.sum()
	if p.peek() != ',' {
		return first
	}
	items := []Value{first}
	for p.take(',') {
		c := p.peek()
		if c == end || c == '\n' || c == 0 {
			break
		}
		items = append(items, p.sum())
	}
	return &Tuple{items}
}

// sum parses a value, or real ± imaginary, which is a complex number.
func (p *litParser) sum() Value {
	v := p.signed()
	c := p.peek()
	if c != '+' && c != '-' {
		return v
	}
	p.i++
	re, ok := floatOf(v)
	im, isComplex := p.atom().(complex128)
	if _, isB := v.(bool); !ok || isB || !isComplex {
		p.fail()
	}
	if c == '-' {
		im = -im
	}
	return complex(re, imag(im))
}

func (p *litParser) signed() Value {
	p.level++
	if p.level > 100 {
		p.fail()
	}
	defer func() { p.level-- }()
	sign := ""
	if c := p.peek(); c == '+' || c == '-' {
		sign = string(c)
		p.i++
	}
	if sign == "" {
		return p.atom()
	}
	if c := p.peek(); !isDigit(c) && c != '.' && c != '(' {
		p.fail()
	}
	v := p.atom()
	if c, ok := v.(complex128); ok {
		if sign == "-" {
			c = -c
		}
		return c
	}
	if _, isB := v.(bool); isB || !isNumber(v) {
		p.fail()
	}
	if sign == "-" {
		if f, ok := v.(float64); ok {
			return -f
		}
		b, _ := bigOf(v)
		return normInt(new(big.Int).Neg(b))
	}
	return v
}

func (p *litParser) atom() Value {
	c := p.peek()
	switch {
	case c == '(':
		p.i++
		p.depth++
		var v Value
		if p.peek() == ')' {
			v = NewTuple()
		} else {
			v = p.tuple(')')
		}
		if !p.take(')') {
			p.fail()
		}
		p.depth--
		return v
	case c == '[':
		p.i++
		p.depth++
		l := NewList()
		for p.peek() != ']' {
			l.Items = append(l.Items, p.sum())
			if !p.take(',') {
				break
			}
		}
		if !p.take(']') {
			p.fail()
		}
		p.depth--
		return l
	case c == '{':
		return p.braces()
	case strings.HasPrefix(p.s[p.i:], "..."):
		p.i += 3
		return ellipsis
	case isDigit(c) || c == '.':
		return p.number()
	case c == '\'' || c == '"':
		return p.strings()
	}
	word := p.word()
	switch word {
	case "None":
		return nil
	case "True":
		return true
	case "False":
		return false
	case "set":
		if p.take('(') {
			p.depth++
			if p.take(')') {
				p.depth--
				return NewSet()
			}
		}
	}
	switch strings.ToLower(word) {
	case "b", "r", "u", "br", "rb":
		if p.i < len(p.s) && (p.s[p.i] == '\'' || p.s[p.i] == '"') {
			p.i -= len(word)
			return p.strings()
		}
	}
	p.fail()
	return nil
}

func (p *litParser) word() string {
	j := p.i
	for j < len(p.s) {
		r, n := utf8.DecodeRuneInString(p.s[j:])
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		j += n
	}
	w := p.s[p.i:j]
	p.i = j
	return w
}

func (p *litParser) braces() Value {
	p.i++
	p.depth++
	if p.take('}') {
		p.depth--
		return NewDict()
	}
	first := p.sum()
	if p.take(':') {
		d := NewDict()
		p.put(d, first, p.sum())
		for p.take(',') {
			if p.peek() == '}' {
				break
			}
			k := p.sum()
			if !p.take(':') {
				p.fail()
			}
			p.put(d, k, p.sum())
		}
		if !p.take('}') {
			p.fail()
		}
		p.depth--
		return d
	}
	s := NewSet()
	p.put(&s.d, first, nil)
	for p.take(',') {
		if p.peek() == '}' {
			break
		}
		p.put(&s.d, p.sum(), nil)
	}
	if !p.take('}') {
		p.fail()
	}
	p.depth--
	return s
}

func (p *litParser) number() Value {
	s := p.s[p.i:]
	dec := func(c byte) bool { return isDigit(c) }
	if len(s) > 1 && s[0] == '0' && strings.IndexByte("xXoObB", s[1]) >= 0 {
		j := 2
		for j < len(s) && (s[j] == '_' || isDigit(s[j]) || s[j]|0x20 >= 'a' && s[j]|0x20 <= 'z') {
			j++
		}
		v, ok := parseInt(s[:j], 0)
		if !ok {
			p.fail()
		}
		p.i += j
		return v
	}
	n := digits(s, dec)
	j, isFloat := n, false
	if j < len(s) && s[j] == '.' {
		j++
		isFloat = true
		k := digits(s[j:], dec)
		if n == 0 && k == 0 {
			p.fail()
		}
		j += k
	}
	if j < len(s) && s[j]|0x20 == 'e' {
		k := j + 1
		if k < len(s) && (s[k] == '+' || s[k] == '-') {
			k++
		}
		if d := digits(s[k:], dec); d > 0 {
			j, isFloat = k+d, true
		}
	}
	if j < len(s) && s[j]|0x20 == 'j' {
		f, err := strconv.ParseFloat(strings.ReplaceAll(s[:j], "_", ""), 64)
		if err != nil {
			p.fail()
		}
		p.i += j + 1
		if r, _ := utf8.DecodeRuneInString(p.s[p.i:]); r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) {
			p.fail()
		}
		return complex(0, f)
	}
	// A number must not run into a name.
	if j < len(s) && (s[j] == '_' || s[j] >= 0x80 || isDigit(s[j]) || s[j]|0x20 >= 'a' && s[j]|0x20 <= 'z') {
		p.fail()
	}
	text := strings.ReplaceAll(s[:j], "_", "")
	p.i += j
	if isFloat {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && !math.IsInf(f, 0) {
			p.fail()
		}
		return f
	}
	if len(text) > 1 && text[0] == '0' && strings.Trim(text, "0") != "" {
		p.fail()
	}
	if len(text) > maxIntDigits {
		p.fail()
	}
	b, _ := new(big.Int).SetString(text, 10)
	return normInt(b)
}

// strings parses adjacent string literals.
func (p *litParser) strings() Value {
	var b strings.Builder
	isBytes, first := false, true
	for {
		save := p.i
		c := p.peek()
		prefix := ""
		if c != '\'' && c != '"' {
			prefix = strings.ToLower(p.word())
			if p.i >= len(p.s) || p.s[p.i] != '\'' && p.s[p.i] != '"' || !contains([]string{"b", "r", "u", "br", "rb"}, prefix) {
				p.i = save
				break
			}
		}
		by := strings.Contains(prefix, "b")
		if !first && by != isBytes {
			p.fail()
		}
		isBytes, first = by, false
		b.WriteString(p.oneString(strings.Contains(prefix, "r"), by))
	}
	if isBytes {
		return Bytes(b.String())
	}
	return b.String()
}

func (p *litParser) oneString(raw, isBytes bool) string {
	q := p.s[p.i]
	end := string(q)
	if strings.HasPrefix(p.s[p.i:], strings.Repeat(end, 3)) {
		end = strings.Repeat(end, 3)
	}
	p.i += len(end)
	start := p.i
	for {
		if p.i >= len(p.s) {
			p.fail()
		}
		if strings.HasPrefix(p.s[p.i:], end) {
			break
		}
		if p.s[p.i] == '\n' && len(end) == 1 {
			p.fail()
		}
		if p.s[p.i] == '\\' {
			p.i++
			if p.i >= len(p.s) {
				p.fail()
			}
		}
		p.i++
	}
	body := p.s[start:p.i]
	p.i += len(end)
	if isBytes && !isASCII(body) {
		p.fail()
	}
	if raw {
		return body
	}
	if isBytes {
		body = strings.NewReplacer(`\\`, `\\`, `\u`, `\\u`, `\U`, `\\U`, `\N`, `\\N`).Replace(body)
	}
	s, msg := unescapeString(body)
	if msg != "" {
		p.fail()
	}
	if isBytes {
		out := make([]byte, 0, len(s))
		for _, r := range s {
			out = append(out, byte(r))
		}
		return string(out)
	}
	return s
}
