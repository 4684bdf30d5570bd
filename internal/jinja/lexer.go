package jinja

import (
	"fmt"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/pyrepr"
)

type tokenKind string

// Token kinds carry Jinja's names, which appear in its messages.
const (
	tokData          tokenKind = "data"
	tokVariableBegin tokenKind = "variable_begin"
	tokVariableEnd   tokenKind = "variable_end"
	tokBlockBegin    tokenKind = "block_begin"
	tokBlockEnd      tokenKind = "block_end"
	tokName          tokenKind = "name"
	tokString        tokenKind = "string"
	tokInteger       tokenKind = "integer"
	tokFloat         tokenKind = "float"
	tokEOF           tokenKind = "eof"
	tokError         tokenKind = "error"
)

type token struct {
	kind tokenKind
	text string // data, name, or the decoded string; the message of tokError
	num  Value
	line int
}

var operatorKinds = map[string]tokenKind{
	"+": "add", "-": "sub", "/": "div", "//": "floordiv", "*": "mul", "%": "mod", "**": "pow", "~": "tilde",
	"[": "lbracket", "]": "rbracket", "(": "lparen", ")": "rparen", "{": "lbrace", "}": "rbrace",
	"==": "eq", "!=": "ne", ">": "gt", ">=": "gteq", "<": "lt", "<=": "lteq", "=": "assign",
	".": "dot", ":": "colon", "|": "pipe", ",": "comma", ";": "semicolon",
}

var kindSymbols = func() map[tokenKind]string {
	m := map[tokenKind]string{}
	for s, k := range operatorKinds {
		m[k] = s
	}
	return m
}()

// describe names a token kind in messages.
func describeKind(k tokenKind) string {
	if s, ok := kindSymbols[k]; ok {
		return s
	}
	switch k {
	case tokBlockBegin:
		return "begin of statement block"
	case tokBlockEnd:
		return "end of statement block"
	case tokVariableBegin:
		return "begin of print statement"
	case tokVariableEnd:
		return "end of print statement"
	case tokData:
		return "template data / text"
	case tokEOF:
		return "end of template"
	}
	return string(k)
}

func (t token) describe() string {
	switch t.kind {
	case tokName:
		return t.text
	case tokString:
		return t.text
	case tokInteger, tokFloat:
		return str(t.num)
	}
	return describeKind(t.kind)
}

// opener is one kind of tag that ends a run of template data.
type opener struct {
	start string
	kind  string // variable, block, comment, linestatement, linecomment
}

type lexer struct {
	env          *Environment
	src          string
	pos          int
	line         int
	tokens       []token
	openers      []opener
	lineStarting bool
}

// lex turns a template into tokens. A lexical error becomes a tokError token at
// its place, so that the parser meets it in the order Jinja does.
func lex(env *Environment, source string) []token {
	src := source
	if strings.ContainsRune(src, '\r') {
		src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	}
	if !env.KeepTrailingNewline {
		src = strings.TrimSuffix(src, "\n")
	}
	l := &lexer{env: env, src: src, line: 1, lineStarting: true}
	l.openers = []opener{{env.VariableStart, "variable"}, {env.CommentStart, "comment"}, {env.BlockStart, "block"}}
	if env.LineStatementPrefix != "" {
		l.openers = append(l.openers, opener{env.LineStatementPrefix, "linestatement"})
	}
	if env.LineCommentPrefix != "" {
		l.openers = append(l.openers, opener{env.LineCommentPrefix, "linecomment"})
	}
	// The longest opener wins, then Jinja's reverse order of names.
	sort.SliceStable(l.openers, func(i, j int) bool {
		a, b := l.openers[i], l.openers[j]
		if len(a.start) != len(b.start) {
			return len(a.start) > len(b.start)
		}
		return a.kind > b.kind
	})
	if msg := l.run(); msg != "" {
		l.add(tokError, msg)
	}
	l.add(tokEOF, "")
	return l.tokens
}

func (l *lexer) add(k tokenKind, text string) {
	if seq := l.env.NewlineSequence; seq != "\n" && seq != "" && (k == tokData || k == tokString) {
		text = strings.ReplaceAll(text, "\n", seq)
	}
	l.tokens = append(l.tokens, token{kind: k, text: text, line: l.line})
}

// advance moves past n bytes and counts lines.
func (l *lexer) advance(n int) {
	l.line += strings.Count(l.src[l.pos:l.pos+n], "\n")
	l.pos += n
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\v' }

// match tells whether opener o matches with its tag text beginning at i, and
// where the match starts (line tags take the blanks before them).
func (l *lexer) match(o opener, i int) (start int, ok bool) {
	if !strings.HasPrefix(l.src[i:], o.start) {
		return 0, false
	}
	switch o.kind {
	case "linestatement":
		j := i
		for j > l.pos && isBlank(l.src[j-1]) {
			j--
		}
		return j, j == 0 || l.src[j-1] == '\n'
	case "linecomment":
		j := i
		for j > l.pos {
			c, n := utf8.DecodeLastRuneInString(l.src[:j])
			if c == '\n' || c == '\r' || !isSpace(c) {
				break
			}
			j -= n
		}
		if j == 0 || l.src[j-1] == '\n' {
			return j, true
		}
		c, _ := utf8.DecodeLastRuneInString(l.src[:j])
		return j, !isSpace(c)
	}
	return i, true
}

// find returns the leftmost opener from the current position.
func (l *lexer) find() (start, tag int, o opener, found bool) {
	lineTags := len(l.openers) > 3
	best := -1
	for i := l.pos; i < len(l.src); i++ {
		if best >= 0 && (!lineTags || i > best+256) && i > best {
			break
		}
		for _, c := range l.openers {
			if c.start == "" {
				continue
			}
			if l.src[i] != c.start[0] {
				continue
			}
			if s, ok := l.match(c, i); ok && (best < 0 || s < best) {
				best, start, tag, o, found = s, s, i, c, true
			}
		}
	}
	return start, tag, o, found
}

func (l *lexer) run() string {
	for l.pos < len(l.src) {
		start, tag, o, found := l.find()
		if !found {
			l.add(tokData, l.src[l.pos:])
			l.advance(len(l.src) - l.pos)
			return ""
		}
		text := l.src[l.pos:start]
		sign := byte(0)
		after := tag + len(o.start)
		if after < len(l.src) && (l.src[after] == '-' || l.src[after] == '+') {
			sign = l.src[after]
			after++
		}
		data := text
		switch {
		case sign == '-':
			data = strings.TrimRightFunc(text, isSpace)
		case sign != '+' && l.env.LstripBlocks && o.kind != "variable":
			cut := strings.LastIndexByte(text, '\n') + 1
			if (cut > 0 || l.lineStarting) && strings.TrimFunc(text[cut:], isSpace) == "" {
				data = text[:cut]
			}
		}
		if data != "" {
			l.add(tokData, data)
		}
		l.advance(after - l.pos)
		l.lineStarting = false
		var msg string
		switch o.kind {
		case "comment":
			msg = l.comment()
		case "linecomment":
			n := strings.IndexByte(l.src[l.pos:], '\n')
			if n < 0 {
				n = len(l.src) - l.pos
			}
			l.advance(n)
		case "variable":
			l.add(tokVariableBegin, "")
			msg = l.expression(tokVariableEnd)
		case "linestatement":
			l.add(tokBlockBegin, "")
			msg = l.expression("linestatement_end")
		default:
			if n := l.rawTag("raw"); n > 0 {
				l.advance(n)
				msg = l.raw()
			} else {
				l.add(tokBlockBegin, "")
				msg = l.expression(tokBlockEnd)
			}
		}
		if msg != "" {
			return msg
		}
		l.lineStarting = l.pos > 0 && l.src[l.pos-1] == '\n'
	}
	return ""
}

// rawTag measures "raw -%}" after the block start; 0 if it is another tag.
func (l *lexer) rawTag(name string) int {
	rest := l.src[l.pos:]
	in := strings.TrimLeftFunc(rest, isSpace)
	if !strings.HasPrefix(in, name) {
		return 0
	}
	in = strings.TrimLeftFunc(in[len(name):], isSpace)
	if strings.HasPrefix(in, "-"+l.env.BlockEnd) {
		in = strings.TrimLeftFunc(in[1+len(l.env.BlockEnd):], isSpace)
		return len(rest) - len(in)
	}
	if strings.HasPrefix(in, l.env.BlockEnd) {
		return len(rest) - len(in) + len(l.env.BlockEnd)
	}
	return 0
}

func (l *lexer) raw() string {
	if l.pos >= len(l.src) {
		return "" // Jinja minds a missing end only if text follows
	}
	for i := l.pos; ; {
		j := strings.Index(l.src[i:], l.env.BlockStart)
		if j < 0 {
			return "Missing end of raw directive"
		}
		j += i
		k := j + len(l.env.BlockStart)
		sign := byte(0)
		if k < len(l.src) && (l.src[k] == '-' || l.src[k] == '+') {
			sign = l.src[k]
			k++
		}
		in := strings.TrimLeftFunc(l.src[k:], isSpace)
		if !strings.HasPrefix(in, "endraw") {
			i = j + 1
			continue
		}
		in = strings.TrimLeftFunc(in[len("endraw"):], isSpace)
		n := l.tagEnd(in, l.env.BlockEnd, true)
		if n == 0 {
			i = j + 1
			continue
		}
		data := l.src[l.pos:j]
		if sign == '-' {
			data = strings.TrimRightFunc(data, isSpace)
		} else if sign != '+' && l.env.LstripBlocks {
			cut := strings.LastIndexByte(data, '\n') + 1
			if cut > 0 && strings.TrimFunc(data[cut:], isSpace) == "" {
				data = data[:cut]
			}
		}
		if data != "" {
			l.add(tokData, data)
		}
		l.advance(len(l.src) - len(in) + n - l.pos)
		return ""
	}
}

// tagEnd measures "%}", "+%}" or "-%}   " at the start of s; 0 for none.
func (l *lexer) tagEnd(s, end string, block bool) int {
	if strings.HasPrefix(s, "-"+end) {
		rest := strings.TrimLeftFunc(s[1+len(end):], isSpace)
		return len(s) - len(rest)
	}
	if block && strings.HasPrefix(s, "+"+end) {
		return 1 + len(end)
	}
	if strings.HasPrefix(s, end) {
		n := len(end)
		if block && l.env.TrimBlocks && strings.HasPrefix(s[n:], "\n") {
			n++
		}
		return n
	}
	return 0
}

func (l *lexer) comment() string {
	if l.pos >= len(l.src) {
		return ""
	}
	end := l.env.CommentEnd
	j := strings.Index(l.src[l.pos:], end)
	if j < 0 {
		return "Missing end of comment tag"
	}
	at := l.pos + j
	if j > 0 && (l.src[at-1] == '-' || l.src[at-1] == '+') {
		at--
	}
	l.advance(at + l.tagEnd(l.src[at:], end, true) - l.pos)
	return ""
}

// expression lexes the inside of a tag up to its end.
func (l *lexer) expression(end tokenKind) string {
	var stack []byte
	for {
		if len(stack) == 0 {
			switch end {
			case "linestatement_end":
				rest := l.src[l.pos:]
				in := strings.TrimLeft(rest, " \t\v\f")
				if in == "" || in[0] == '\n' {
					// \s*(\n|$): takes blank lines up to the last newline.
					n := len(rest)
					sp := rest[:len(rest)-len(strings.TrimLeftFunc(rest, isSpace))]
					if len(sp) < len(rest) {
						n = strings.LastIndexByte(sp, '\n') + 1
					}
					l.add(tokBlockEnd, "")
					l.advance(n)
					return ""
				}
			case tokVariableEnd:
				if n := l.tagEnd(l.src[l.pos:], l.env.VariableEnd, false); n > 0 {
					l.add(end, "")
					l.advance(n)
					return ""
				}
			default:
				if n := l.tagEnd(l.src[l.pos:], l.env.BlockEnd, true); n > 0 {
					l.add(end, "")
					l.advance(n)
					return ""
				}
			}
		}
		if l.pos >= len(l.src) {
			return ""
		}
		rest := l.src[l.pos:]
		c, n := utf8.DecodeRuneInString(rest)
		switch {
		case isSpace(c):
			l.advance(n)
			continue
		case isDigit(rest[0]):
			if err := l.number(rest); err != "" {
				return err
			}
			continue
		case c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c):
			j := strings.IndexFunc(rest, func(r rune) bool {
				return r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.Mn, r) && !unicode.Is(unicode.Mc, r)
			})
			if j < 0 {
				j = len(rest)
			}
			if !isIdentifier(rest[:j]) {
				return "Invalid character in identifier"
			}
			l.add(tokName, rest[:j])
			l.advance(j)
			continue
		case c == '\'' || c == '"':
			j := 1
			for j < len(rest) && rest[j] != byte(c) {
				if rest[j] == '\\' {
					j++
				}
				j++
			}
			if j >= len(rest) {
				return fmt.Sprintf("unexpected char %s at %d", pyrepr.Str(string(c)), strLen(l.src[:l.pos]))
			}
			s, err := unescapeString(rest[1:j])
			if err != "" {
				return err
			}
			l.add(tokString, s)
			l.advance(j + 1)
			continue
		}
		op := ""
		if len(rest) > 1 {
			if _, ok := operatorKinds[rest[:2]]; ok {
				op = rest[:2]
			}
		}
		if op == "" {
			if _, ok := operatorKinds[rest[:1]]; ok {
				op = rest[:1]
			}
		}
		switch op {
		case "":
			return fmt.Sprintf("unexpected char %s at %d", pyrepr.Str(string(c)), strLen(l.src[:l.pos]))
		case "{":
			stack = append(stack, '}')
		case "(":
			stack = append(stack, ')')
		case "[":
			stack = append(stack, ']')
		case "}", ")", "]":
			if len(stack) == 0 {
				return fmt.Sprintf("unexpected '%s'", op)
			}
			if want := stack[len(stack)-1]; want != op[0] {
				return fmt.Sprintf("unexpected '%s', expected '%c'", op, want)
			}
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 400 {
			return "too many nested parentheses"
		}
		l.add(operatorKinds[op], op)
		l.advance(len(op))
	}
}

// digits measures a run of digits with single underscores between them.
func digits(s string, ok func(byte) bool) int {
	i := 0
	for i < len(s) {
		if ok(s[i]) {
			i++
		} else if s[i] == '_' && i > 0 && s[i-1] != '_' && i+1 < len(s) && ok(s[i+1]) {
			i++
		} else {
			break
		}
	}
	return i
}

func (l *lexer) number(s string) string {
	dec := func(c byte) bool { return isDigit(c) }
	// A float needs a fraction or an exponent, and may not follow a dot.
	if l.pos == 0 || l.src[l.pos-1] != '.' {
		n := digits(s, dec)
		j, frac, exp := n, false, false
		if j < len(s) && s[j] == '.' {
			if k := digits(s[j+1:], dec); k > 0 {
				j += 1 + k
				frac = true
			}
		}
		if j < len(s) && (s[j] == 'e' || s[j] == 'E') {
			k := j + 1
			if k < len(s) && (s[k] == '+' || s[k] == '-') {
				k++
			}
			if d := digits(s[k:], dec); d > 0 {
				j = k + d
				exp = true
			}
		}
		if frac || exp {
			f, err := strconv.ParseFloat(strings.ReplaceAll(s[:j], "_", ""), 64)
			if err != nil && !math.IsInf(f, 0) {
				return "invalid float literal"
			}
			l.tokens = append(l.tokens, token{kind: tokFloat, num: f, line: l.line})
			l.advance(j)
			return ""
		}
	}
	n, base := 0, 10
	if len(s) > 2 && s[0] == '0' {
		var ok func(byte) bool
		switch s[1] | 0x20 {
		case 'b':
			base, ok = 2, func(c byte) bool { return c == '0' || c == '1' }
		case 'o':
			base, ok = 8, func(c byte) bool { return c >= '0' && c <= '7' }
		case 'x':
			base, ok = 16, func(c byte) bool {
				return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f'
			}
		}
		if ok != nil {
			off := 2
			if s[2] == '_' {
				off = 3
			}
			if d := digits(s[off:], ok); d > 0 {
				n = off + d
			} else {
				base = 10
			}
		}
	}
	if n == 0 {
		if s[0] == '0' {
			n = digits(s, func(c byte) bool { return c == '0' })
		} else {
			n = digits(s, dec)
		}
	}
	text := strings.ReplaceAll(s[:n], "_", "")
	if base != 10 {
		text = text[2:]
	} else if len(text) > maxIntDigits {
		return "integer literal has too many digits"
	}
	b, ok := new(big.Int).SetString(text, base)
	if !ok {
		return "invalid integer literal"
	}
	l.tokens = append(l.tokens, token{kind: tokInteger, num: normInt(b), line: l.line})
	l.advance(n)
	return ""
}

// unescapeString decodes the escapes of a Python string literal.
func unescapeString(s string) (string, string) {
	if !strings.Contains(s, `\`) {
		return s, ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i >= len(s) {
			return "", `\ at end of string`
		}
		switch c := s[i]; c {
		case '\n':
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'a':
			b.WriteByte('\a')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'v':
			b.WriteByte('\v')
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'x', 'u', 'U':
			n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			if i+n >= len(s) {
				return "", "truncated \\" + string(c) + " escape"
			}
			r, err := strconv.ParseUint(s[i+1:i+1+n], 16, 32)
			if err != nil || r > unicode.MaxRune {
				return "", "illegal \\" + string(c) + " escape"
			}
			b.WriteRune(rune(r))
			i += n
		case 'N':
			return "", `\N{...} escapes need the Python runtime`
		case '0', '1', '2', '3', '4', '5', '6', '7':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			r, _ := strconv.ParseUint(s[i:i+n], 8, 32)
			b.WriteRune(rune(r))
			i += n - 1
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}
