package jinja

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/pyrepr"
)

var (
	strMethods    = methodTable{}
	bytesMethods  = methodTable{}
	markupMethods = methodTable{}
)

// isSpace is str.isspace for one code point.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}

func lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	r := []rune(s)
	var b strings.Builder
	for i, c := range r {
		switch {
		case c == 'İ':
			b.WriteString("i̇")
		case c == 'Σ' && finalSigma(r, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(c))
		}
	}
	return b.String()
}

func finalSigma(r []rune, i int) bool {
	cased := func(c rune) bool { return unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c) }
	skip := func(c rune) bool {
		return c == '\'' || c == '.' || c == ':' || c == '·' || c == '’' || unicode.Is(unicode.Mn, c)
	}
	j := i - 1
	for j >= 0 && skip(r[j]) {
		j--
	}
	if j < 0 || !cased(r[j]) {
		return false
	}
	j = i + 1
	for j < len(r) && skip(r[j]) {
		j++
	}
	return j >= len(r) || !cased(r[j])
}

// specialUpper are the full upper-case mappings longer than one code point.
var specialUpper = map[rune]string{
	'ß': "SS", 'ŉ': "ʼN", 'ǰ': "J̌", 'ΐ': "Ϊ́", 'ΰ': "Ϋ́", 'և': "ԵՒ",
	'ẖ': "H̱", 'ẗ': "T̈", 'ẘ': "W̊", 'ẙ': "Y̊", 'ẚ': "Aʾ",
	'ﬀ': "FF", 'ﬁ': "FI", 'ﬂ': "FL", 'ﬃ': "FFI", 'ﬄ': "FFL", 'ﬅ': "ST", 'ﬆ': "ST",
}

var specialTitle = map[rune]string{
	'ß': "Ss", 'ﬀ': "Ff", 'ﬁ': "Fi", 'ﬂ': "Fl", 'ﬃ': "Ffi", 'ﬄ': "Ffl", 'ﬅ': "St", 'ﬆ': "St",
}

func upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	var b strings.Builder
	for _, c := range s {
		if u, ok := specialUpper[c]; ok {
			b.WriteString(u)
		} else {
			b.WriteRune(unicode.ToUpper(c))
		}
	}
	return b.String()
}

func titleRune(c rune) string {
	if u, ok := specialTitle[c]; ok {
		return u
	}
	return string(unicode.ToTitle(c))
}

func capitalize(s string) string {
	if s == "" {
		return s
	}
	c, n := utf8.DecodeRuneInString(s)
	return titleRune(c) + lower(s[n:])
}

func isCased(c rune) bool {
	return unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c) || unicode.Is(unicode.Other_Lowercase, c) || unicode.Is(unicode.Other_Uppercase, c)
}

func titleCase(s string) string {
	var b strings.Builder
	prev := false
	for _, c := range s {
		if prev {
			b.WriteRune(unicode.ToLower(c))
		} else {
			b.WriteString(titleRune(c))
		}
		prev = isCased(c)
	}
	return b.String()
}

func swapCase(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case unicode.IsUpper(c):
			b.WriteString(lower(string(c)))
		case unicode.IsLower(c):
			b.WriteString(upper(string(c)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func isTitleText(s string) bool {
	prev, any := false, false
	for _, c := range s {
		switch {
		case unicode.IsUpper(c) || unicode.IsTitle(c):
			if prev {
				return false
			}
			prev, any = true, true
		case unicode.IsLower(c):
			if !prev {
				return false
			}
			any = true
		default:
			prev = false
		}
	}
	return any
}

// isLineEnd holds the line boundaries of str.splitlines.
func isLineEnd(c rune) bool {
	switch c {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

func splitLines(s string, keep bool) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		if !isLineEnd(c) {
			i += n
			continue
		}
		end := i + n
		if c == '\r' && end < len(s) && s[end] == '\n' {
			end++
		}
		if keep {
			out = append(out, s[start:end])
		} else {
			out = append(out, s[start:i])
		}
		i, start = end, end
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

func splitSpace(s string, maxsplit int) []string {
	var out []string
	s = strings.TrimLeftFunc(s, isSpace)
	for s != "" {
		if maxsplit >= 0 && len(out) == maxsplit {
			return append(out, strings.TrimRightFunc(s, isSpace))
		}
		i := strings.IndexFunc(s, isSpace)
		if i < 0 {
			return append(out, s)
		}
		out = append(out, s[:i])
		s = strings.TrimLeftFunc(s[i:], isSpace)
	}
	return out
}

func rsplitSpace(s string, maxsplit int) []string {
	var out []string
	s = strings.TrimRightFunc(s, isSpace)
	for s != "" {
		if maxsplit >= 0 && len(out) == maxsplit {
			out = append(out, strings.TrimLeftFunc(s, isSpace))
			break
		}
		i := strings.LastIndexFunc(s, isSpace)
		if i < 0 {
			out = append(out, s)
			break
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		out = append(out, s[i+n:])
		s = strings.TrimRightFunc(s[:i], isSpace)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func splitText(s string, sep Value, maxsplit int64) []string {
	if sep == nil {
		return splitSpace(s, int(maxsplit))
	}
	d := argStr(sep)
	if d == "" {
		valueError("empty separator")
	}
	n := -1
	if maxsplit >= 0 {
		n = int(min(maxsplit, 1<<30)) + 1
	}
	return strings.SplitN(s, d, n)
}

func rsplitText(s string, sep Value, maxsplit int64) []string {
	if sep == nil {
		return rsplitSpace(s, int(maxsplit))
	}
	d := argStr(sep)
	if d == "" {
		valueError("empty separator")
	}
	parts := strings.Split(s, d)
	if maxsplit < 0 || int64(len(parts)) <= maxsplit+1 {
		return parts
	}
	k := len(parts) - int(maxsplit)
	return append([]string{strings.Join(parts[:k], d)}, parts[k:]...)
}

func strList(parts []string) *List {
	l := &List{Items: make([]Value, len(parts))}
	for i, p := range parts {
		l.Items[i] = p
	}
	return l
}

func stripText(s string, chars Value, left, right bool) string {
	f := isSpace
	if chars != nil {
		set := argStr(chars)
		f = func(r rune) bool { return strings.ContainsRune(set, r) }
	}
	if left {
		s = strings.TrimLeftFunc(s, f)
	}
	if right {
		s = strings.TrimRightFunc(s, f)
	}
	return s
}

// clipRange gives the substring s[start:end] and the code point offset.
func clipRange(s string, start, end Value) (string, int, bool) {
	if start == nil && end == nil {
		return s, 0, true
	}
	r := []rune(s)
	lo, hi, _ := sliceBounds(&Slice{start, end, nil}, len(r))
	if st, ok := smallInt(start); ok && st > int64(len(r)) {
		return "", 0, false
	}
	if hi < lo {
		return "", lo, false
	}
	return string(r[lo:hi]), lo, true
}

func findText(s string, b Bound, last bool) int64 {
	sub := argStr(b.V(0))
	text, off, ok := clipRange(s, b.V(1), b.V(2))
	if !ok {
		return -1
	}
	i := strings.Index(text, sub)
	if last {
		i = strings.LastIndex(text, sub)
	}
	if i < 0 {
		return -1
	}
	return int64(off + strLen(text[:i]))
}

// affix is startswith/endswith, whose argument may be a tuple.
func affix(name, s string, b Bound, has func(string, string) bool) Value {
	text, _, ok := clipRange(s, b.V(1), b.V(2))
	if t, isT := unwrap(b.V(0)).(*Tuple); isT {
		for _, it := range t.Items {
			if ok && has(text, argStr(it)) {
				return true
			}
		}
		return false
	}
	p, isS := strOf(unwrap(b.V(0)))
	if !isS {
		if u, isU := b.V(0).(*Undefined); isU {
			u.fail()
		}
		typeError("%s first arg must be str or a tuple of str, not %s", name, typeName(b.V(0)))
	}
	return ok && has(text, p)
}

func (ev *Eval) pad(s string, width int64, fill string, left, right bool) string {
	n := int64(strLen(s))
	if width <= n {
		return s
	}
	d := width - n
	if d > int64(ev.limits.MaxValueBytes) {
		raise(ClassLimit, "a padded text would be larger than %d bytes", ev.limits.MaxValueBytes)
	}
	ev.alloc(int(width))
	switch {
	case left && right:
		l := d/2 + (d & width & 1)
		return strings.Repeat(fill, int(l)) + s + strings.Repeat(fill, int(d-l))
	case left:
		return strings.Repeat(fill, int(d)) + s
	}
	return s + strings.Repeat(fill, int(d))
}

func fillChar(v Value) string {
	f := argStr(v)
	if strLen(f) != 1 {
		typeError("The fill character must be exactly one character long")
	}
	return f
}

func replaceText(ev *Eval, s, old, repl string, count int64) string {
	n := -1
	if count >= 0 {
		n = int(min(count, 1<<40))
	}
	if len(repl) > len(old) {
		hits := strings.Count(s, old)
		if n >= 0 && hits > n {
			hits = n
		}
		ev.alloc(len(s) + hits*(len(repl)-len(old)))
	}
	return strings.Replace(s, old, repl, n)
}

func allRunes(s string, f func(rune) bool) bool {
	for _, c := range s {
		if !f(c) {
			return false
		}
	}
	return s != ""
}

func isIdentifier(s string) bool {
	for i, c := range s {
		ok := c == '_' || unicode.IsLetter(c) || unicode.Is(unicode.Nl, c) || unicode.Is(unicode.Other_ID_Start, c)
		if i > 0 {
			ok = ok || unicode.IsDigit(c) || unicode.Is(unicode.Mn, c) || unicode.Is(unicode.Mc, c) || unicode.Is(unicode.Pc, c) || unicode.Is(unicode.Other_ID_Continue, c)
		}
		if !ok {
			return false
		}
	}
	return s != ""
}

func init() {
	m := strMethods
	s0 := func(v Value) string { s, _ := strOf(v); return s }
	// same gives a method without arguments that maps text to text.
	same := func(name string, f func(string) string) {
		m.add(name, "", func(_ *Eval, self Value, _ Bound) Value { return f(s0(self)) })
	}
	is := func(name string, f func(string) bool) {
		m.add(name, "", func(_ *Eval, self Value, _ Bound) Value { return f(s0(self)) })
	}
	same("upper", upper)
	same("lower", lower)
	same("casefold", func(s string) string { return strings.ReplaceAll(lower(s), "ß", "ss") })
	same("title", titleCase)
	same("capitalize", capitalize)
	same("swapcase", swapCase)
	is("isdigit", func(s string) bool {
		return allRunes(s, func(r rune) bool {
			return unicode.IsDigit(r) || strings.ContainsRune("²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", r)
		})
	})
	is("isdecimal", func(s string) bool { return allRunes(s, unicode.IsDigit) })
	is("isnumeric", func(s string) bool { return allRunes(s, unicode.IsNumber) })
	is("isalpha", func(s string) bool { return allRunes(s, unicode.IsLetter) })
	is("isalnum", func(s string) bool {
		return allRunes(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })
	})
	is("isspace", func(s string) bool { return allRunes(s, isSpace) })
	is("isascii", isASCII)
	is("isidentifier", isIdentifier)
	is("isprintable", func(s string) bool { return s == "" || allRunes(s, pyrepr.Printable) })
	is("istitle", isTitleText)
	is("isupper", func(s string) bool {
		return strings.ContainsFunc(s, unicode.IsUpper) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLower(r) || unicode.IsTitle(r) })
	})
	is("islower", func(s string) bool {
		return strings.ContainsFunc(s, unicode.IsLower) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsUpper(r) || unicode.IsTitle(r) })
	})
	m.add("strip", "chars=", func(_ *Eval, self Value, b Bound) Value { return stripText(s0(self), b.V(0), true, true) })
	m.add("lstrip", "chars=", func(_ *Eval, self Value, b Bound) Value { return stripText(s0(self), b.V(0), true, false) })
	m.add("rstrip", "chars=", func(_ *Eval, self Value, b Bound) Value { return stripText(s0(self), b.V(0), false, true) })
	m.add("split", "sep= maxsplit=", func(ev *Eval, self Value, b Bound) Value {
		ev.alloc(len(s0(self)))
		return strList(splitText(s0(self), b.V(0), argInt(b.Or(1, int64(-1)))))
	})
	m.add("rsplit", "sep= maxsplit=", func(ev *Eval, self Value, b Bound) Value {
		ev.alloc(len(s0(self)))
		return strList(rsplitText(s0(self), b.V(0), argInt(b.Or(1, int64(-1)))))
	})
	m.add("splitlines", "keepends=", func(ev *Eval, self Value, b Bound) Value {
		ev.alloc(len(s0(self)))
		return strList(splitLines(s0(self), isTrue(b.Or(0, false))))
	})
	m.add("join", "iterable", func(ev *Eval, self Value, b Bound) Value {
		it := tryIter(b.V(0))
		if it == nil {
			typeError("can only join an iterable")
		}
		var out []string
		for i := 0; ; i++ {
			v, ok := it()
			if !ok {
				break
			}
			s, isS := strOf(unwrap(v))
			if !isS {
				typeError("sequence item %d: expected str instance, %s found", i, typeName(v))
			}
			ev.alloc(len(s) + len(s0(self)))
			out = append(out, s)
		}
		return strings.Join(out, s0(self))
	})
	m.add("replace", "old new count=", func(ev *Eval, self Value, b Bound) Value {
		return replaceText(ev, s0(self), argStr(b.V(0)), argStr(b.V(1)), argInt(b.Or(2, int64(-1))))
	})
	m.add("startswith", "prefix start= end=", func(_ *Eval, self Value, b Bound) Value {
		return affix("startswith", s0(self), b, strings.HasPrefix)
	})
	m.add("endswith", "suffix start= end=", func(_ *Eval, self Value, b Bound) Value {
		return affix("endswith", s0(self), b, strings.HasSuffix)
	})
	m.add("removeprefix", "prefix", func(_ *Eval, self Value, b Bound) Value { return strings.TrimPrefix(s0(self), argStr(b.V(0))) })
	m.add("removesuffix", "suffix", func(_ *Eval, self Value, b Bound) Value { return strings.TrimSuffix(s0(self), argStr(b.V(0))) })
	m.add("find", "sub start= end=", func(_ *Eval, self Value, b Bound) Value { return findText(s0(self), b, false) })
	m.add("rfind", "sub start= end=", func(_ *Eval, self Value, b Bound) Value { return findText(s0(self), b, true) })
	for _, name := range []string{"index", "rindex"} {
		m.add(name, "sub start= end=", func(_ *Eval, self Value, b Bound) Value {
			i := findText(s0(self), b, name == "rindex")
			if i < 0 {
				valueError("substring not found")
			}
			return i
		})
	}
	m.add("count", "sub start= end=", func(_ *Eval, self Value, b Bound) Value {
		text, _, ok := clipRange(s0(self), b.V(1), b.V(2))
		if !ok {
			return int64(0)
		}
		return int64(strings.Count(text, argStr(b.V(0))))
	})
	m.add("zfill", "width", func(ev *Eval, self Value, b Bound) Value {
		s := s0(self)
		sign := ""
		if s != "" && (s[0] == '+' || s[0] == '-') {
			sign, s = s[:1], s[1:]
		}
		return sign + ev.pad(s, argInt(b.V(0))-int64(len(sign)), "0", true, false)
	})
	m.add("center", "width fillchar=", func(ev *Eval, self Value, b Bound) Value {
		return ev.pad(s0(self), argInt(b.V(0)), fillChar(b.Or(1, " ")), true, true)
	})
	m.add("ljust", "width fillchar=", func(ev *Eval, self Value, b Bound) Value {
		return ev.pad(s0(self), argInt(b.V(0)), fillChar(b.Or(1, " ")), false, true)
	})
	m.add("rjust", "width fillchar=", func(ev *Eval, self Value, b Bound) Value {
		return ev.pad(s0(self), argInt(b.V(0)), fillChar(b.Or(1, " ")), true, false)
	})
	m.add("partition", "sep", func(_ *Eval, self Value, b Bound) Value {
		sep := argStr(b.V(0))
		if sep == "" {
			valueError("empty separator")
		}
		l, r, ok := strings.Cut(s0(self), sep)
		if !ok {
			return NewTuple(s0(self), "", "")
		}
		return NewTuple(l, sep, r)
	})
	m.add("rpartition", "sep", func(_ *Eval, self Value, b Bound) Value {
		sep := argStr(b.V(0))
		if sep == "" {
			valueError("empty separator")
		}
		i := strings.LastIndex(s0(self), sep)
		if i < 0 {
			return NewTuple("", "", s0(self))
		}
		return NewTuple(s0(self)[:i], sep, s0(self)[i+len(sep):])
	})
	m.add("expandtabs", "tabsize=", func(ev *Eval, self Value, b Bound) Value {
		size := int(argInt(b.Or(0, int64(8))))
		var out strings.Builder
		col := 0
		for _, c := range s0(self) {
			switch c {
			case '\t':
				if size > 0 {
					n := size - col%size
					ev.alloc(n)
					out.WriteString(strings.Repeat(" ", n))
					col += n
				}
			case '\n', '\r':
				col = 0
				out.WriteRune(c)
			default:
				col++
				out.WriteRune(c)
			}
		}
		return out.String()
	})
	m.add("encode", "encoding= errors=", func(_ *Eval, self Value, b Bound) Value {
		switch enc := strings.ToLower(strings.ReplaceAll(argStr(b.Or(0, "utf-8")), "_", "-")); enc {
		case "utf-8", "utf8":
			return Bytes(s0(self))
		case "ascii", "latin-1", "latin1", "iso-8859-1":
			limit := rune(0x80)
			if enc != "ascii" {
				limit = 0x100
			}
			var out []byte
			for i, c := range []rune(s0(self)) {
				if c >= limit {
					switch argStr(b.Or(1, "strict")) {
					case "ignore":
						continue
					case "replace":
						c = '?'
					default:
						raise("UnicodeEncodeError", "'%s' codec can't encode character %s in position %d: ordinal not in range(%d)", enc, pyrepr.Str(string(c)), i, limit)
					}
				}
				out = append(out, byte(c))
			}
			return Bytes(out)
		default:
			raise("LookupError", "unknown encoding: %s", enc)
		}
		return nil
	})
	m.add("translate", "table", func(ev *Eval, self Value, b Bound) Value {
		var out strings.Builder
		for _, c := range s0(self) {
			var r Value
			if catch(func() { r = ev.subscript(b.V(0), int64(c)) }, "LookupError") != nil {
				out.WriteRune(c)
				continue
			}
			switch x := r.(type) {
			case nil:
			case int64:
				out.WriteRune(rune(x))
			default:
				out.WriteString(argStr(x))
			}
		}
		return out.String()
	})
	m.add("format", "*args **kwargs", func(ev *Eval, self Value, b Bound) Value {
		return ev.strFormat(s0(self), b.Rest(), b.Kw())
	})
	m.add("format_map", "mapping", func(ev *Eval, self Value, b Bound) Value {
		d, ok := unwrap(b.V(0)).(*Dict)
		if !ok {
			typeError("format_map() argument must be a mapping")
		}
		var kw []KwArg
		d.Each(func(k, v Value) bool { kw = append(kw, KwArg{str(k), v}); return true })
		return ev.strFormat(s0(self), nil, kw)
	})

	// Markup keeps its class through the text methods.
	for _, name := range strings.Fields("upper lower title capitalize swapcase strip lstrip rstrip replace center ljust rjust zfill expandtabs casefold removeprefix removesuffix") {
		inner := m[name]
		markupMethods[name] = &method{inner.sig, func(ev *Eval, self Value, b Bound) Value {
			for i, v := range b.vals {
				if s, ok := v.(string); ok {
					b.vals[i] = string(escape(s))
				}
			}
			return Markup(str(inner.f(ev, self, b)))
		}}
	}
	markupMethods.add("format", "*args **kwargs", func(ev *Eval, self Value, b Bound) Value {
		return Markup(ev.markupFormat(s0(self), b.Rest(), b.Kw()))
	})
	markupMethods.add("join", "iterable", func(ev *Eval, self Value, b Bound) Value {
		var out []string
		for _, v := range ev.toSlice(b.V(0)) {
			out = append(out, string(escape(v)))
		}
		return Markup(strings.Join(out, s0(self)))
	})
	markupMethods.add("unescape", "", func(_ *Eval, self Value, _ Bound) Value { return unescapeHTML(s0(self)) })
	markupMethods.add("striptags", "", func(_ *Eval, self Value, _ Bound) Value { return stripTags(s0(self)) })

	bytesMethods.add("decode", "encoding= errors=", func(_ *Eval, self Value, b Bound) Value {
		s := string(self.(Bytes))
		switch enc := strings.ToLower(argStr(b.Or(0, "utf-8"))); enc {
		case "utf-8", "utf8", "ascii":
			if !utf8.ValidString(s) {
				if argStr(b.Or(1, "strict")) == "strict" {
					raise("UnicodeDecodeError", "'utf-8' codec can't decode bytes")
				}
				return strings.ToValidUTF8(s, "�")
			}
			return s
		case "latin-1", "latin1", "iso-8859-1":
			r := make([]rune, len(s))
			for i := 0; i < len(s); i++ {
				r[i] = rune(s[i])
			}
			return string(r)
		default:
			raise("LookupError", "unknown encoding: %s", enc)
		}
		return nil
	})
	bytesMethods.add("hex", "", func(_ *Eval, self Value, _ Bound) Value { return hex.EncodeToString([]byte(self.(Bytes))) })
	bytesMethods.add("upper", "", func(_ *Eval, self Value, _ Bound) Value { return Bytes(strings.ToUpper(string(self.(Bytes)))) })
	bytesMethods.add("lower", "", func(_ *Eval, self Value, _ Bound) Value { return Bytes(strings.ToLower(string(self.(Bytes)))) })
}
