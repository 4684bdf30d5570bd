package jinja

import (
	"math/big"
	"regexp"
	"sort"
	"strings"
	"unicode"

	"github.com/gustflow/gust/internal/pyrepr"
)

func ratOf(a, b *big.Int) *big.Rat { return new(big.Rat).SetFrac(a, b) }

// soft keeps Markup and turns everything else into text.
func soft(v Value) (s string, markup bool) {
	if m, ok := v.(Markup); ok {
		return string(m), true
	}
	return str(v), false
}

func like(markup bool, s string) Value {
	if markup {
		return Markup(s)
	}
	return s
}

func textFilter(name string, f func(string) string) {
	addFilter(name, "s", func(ev *Eval, b Bound) Value {
		s, m := soft(b.V(0))
		ev.alloc(len(s))
		return like(m, f(s))
	})
}

func wordTitle(s string) string {
	sep := func(r rune) bool { return isSpace(r) || strings.ContainsRune("-({[<", r) }
	var b strings.Builder
	start := true
	for _, r := range s {
		switch {
		case sep(r):
			b.WriteRune(r)
			start = true
			continue
		case start:
			b.WriteString(upper(string(r)))
		default:
			b.WriteString(lower(string(r)))
		}
		start = false
	}
	return b.String()
}

func countWords(s string) int64 {
	n, in := int64(0), false
	for _, r := range s {
		w := r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r)
		if w && !in {
			n++
		}
		in = w
	}
	return n
}

// urlQuote is urllib.parse.quote.
func urlQuote(s string, forQS bool) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("_.-~", c) >= 0 || c == '/' && !forQS:
			b.WriteByte(c)
		case c == ' ' && forQS:
			b.WriteByte('+')
		default:
			b.WriteString("%" + strings.ToUpper(pad0(uint64(c), 2)))
		}
	}
	return b.String()
}

func quoteValue(v Value, forQS bool) string {
	if x, ok := v.(Bytes); ok {
		return urlQuote(string(x), forQS)
	}
	return urlQuote(str(v), forQS)
}

func init() {
	textFilter("capitalize", capitalize)
	textFilter("upper", upper)
	textFilter("lower", lower)
	textFilter("title", wordTitle)
	addFilter("center", "value width=", func(ev *Eval, b Bound) Value {
		s, m := soft(b.V(0))
		return like(m, ev.pad(s, argInt(b.Or(1, int64(80))), " ", true, true))
	})
	addFilter("e", "value", func(ev *Eval, b Bound) Value { return escape(unwrap(b.V(0))) })
	builtinFilters["escape"] = builtinFilters["e"]
	addFilter("forceescape", "value", func(ev *Eval, b Bound) Value { return escape(str(b.V(0))) })
	addFilter("safe", "value", func(ev *Eval, b Bound) Value { return Markup(str(b.V(0))) })
	addFilter("string", "object", func(ev *Eval, b Bound) Value {
		s, m := soft(b.V(0))
		return like(m, s)
	})
	addFilter("striptags", "value", func(ev *Eval, b Bound) Value {
		s, _ := soft(b.V(0))
		return stripTags(s)
	})
	addFilter("trim", "value chars=", func(ev *Eval, b Bound) Value {
		s, m := soft(b.V(0))
		return like(m, stripText(s, b.V(1), true, true))
	})
	addFilter("format", "value *args **kwargs", func(ev *Eval, b Bound) Value {
		if len(b.Rest()) > 0 && len(b.Kw()) > 0 {
			raise("FilterArgumentError", "can't handle positional and keyword arguments at the same time")
		}
		var arg Value = NewTuple(b.Rest()...)
		if len(b.Kw()) > 0 {
			d := NewDict()
			for _, k := range b.Kw() {
				d.Set(k.Name, k.Value)
			}
			arg = d
		}
		s, m := soft(b.V(0))
		return ev.binop("%", like(m, s), arg)
	})
	addFilter("filesizeformat", "value binary=", func(ev *Eval, b Bound) Value {
		return fileSize(toFloat(b.V(0)), isTrue(b.Or(1, false)))
	})
	addFilter("indent", "s width= first= blank=", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		failUndefined(v)
		s, isText := strOf(v)
		_, m := v.(Markup)
		if !isText {
			if _, ok := v.(*List); ok {
				raise("AttributeError", "'list' object has no attribute 'splitlines'")
			}
			typeError("unsupported operand type(s) for +=: '%s' and 'str'", typeName(v))
		}
		w := ""
		if t, ok := strOf(b.Or(1, int64(4))); ok {
			w = t
		} else {
			w = ev.repeat(" ", argIntValue(b.Or(1, int64(4)))).(string)
		}
		s += "\n"
		ev.alloc(len(s) + len(w)*strings.Count(s, "\n"))
		var out string
		if isTrue(b.Or(3, false)) {
			out = strings.Join(splitLines(s, false), "\n"+w)
			if strings.HasSuffix(s, "\n") && !isLineEndBefore(s) {
				out = strings.Join(strings.Split(strings.TrimSuffix(s, "\n"), "\n"), "\n"+w)
			}
		} else {
			lines := splitLines(s, false)
			out = lines[0]
			for _, l := range lines[1:] {
				out += "\n"
				if l != "" {
					out += w + l
				}
			}
		}
		if isTrue(b.Or(2, false)) {
			out = w + out
		}
		return like(m, out)
	})
	addFilter("join", "value d= attribute=", func(ev *Eval, b Bound) Value {
		v := b.V(0)
		it := iterate(v)
		get := ev.attrGetter(b.V(2), false, nil)
		d := b.Or(1, "")
		var items []Value
		isMarkup := false
		for {
			x, ok := it()
			if !ok {
				break
			}
			ev.step(1)
			if b.V(2) != nil {
				x = get(x)
			}
			if _, ok := x.(Markup); ok {
				isMarkup = true
			}
			items = append(items, x)
		}
		if _, ok := d.(Markup); ok {
			isMarkup = true
		}
		isMarkup = isMarkup && ev.autoescape
		sep := str(d)
		if isMarkup {
			sep = string(escape(d))
		}
		var out strings.Builder
		for i, x := range items {
			s := ""
			if isMarkup {
				s = string(escape(x))
			} else {
				s = str(x)
			}
			if i > 0 {
				out.WriteString(sep)
			}
			ev.alloc(len(s) + len(sep))
			out.WriteString(s)
		}
		return like(isMarkup, out.String())
	})
	addFilter("replace", "s old new count=", func(ev *Eval, b Bound) Value {
		n := int64(-1)
		if c := unwrap(b.V(3)); c != nil {
			n = argInt(c)
		}
		if ev.autoescape {
			s, _ := soft(b.V(0))
			_, anyMarkup := b.V(0).(Markup)
			for _, i := range []int{1, 2} {
				if _, ok := b.V(i).(Markup); ok {
					anyMarkup = true
				}
			}
			if anyMarkup {
				return Markup(replaceText(ev, string(escape(b.V(0))), string(escape(b.V(1))), string(escape(b.V(2))), n))
			}
			return replaceText(ev, s, str(b.V(1)), str(b.V(2)), n)
		}
		return replaceText(ev, str(b.V(0)), str(b.V(1)), str(b.V(2)), n)
	})
	addFilter("truncate", "s length= killwords= end= leeway=", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		n := argInt(b.Or(1, int64(255)))
		end := str(b.Or(3, "..."))
		leeway := int64(5)
		if b.V(4) != nil {
			leeway = argInt(b.V(4))
		}
		if n < int64(strLen(end)) {
			raise("AssertionError", "expected length >= %d, got %d", strLen(end), n)
		}
		if leeway < 0 {
			raise("AssertionError", "expected leeway >= 0, got %d", leeway)
		}
		if length(v) <= n+leeway {
			return v
		}
		s, m := strOf(v)
		if !m {
			typeError("truncate needs text, not %s", typeName(v))
		}
		_, isMarkup := v.(Markup)
		s = cutRunes(s, int(n)-strLen(end))
		if !isTrue(b.Or(2, false)) {
			if i := strings.LastIndex(s, " "); i >= 0 {
				s = s[:i]
			}
		}
		return like(isMarkup, s+end)
	})
	addFilter("wordcount", "s", func(ev *Eval, b Bound) Value {
		s, _ := soft(b.V(0))
		return countWords(s)
	})
	addFilter("wordwrap", "s width= break_long_words= wrapstring= break_on_hyphens=", func(ev *Eval, b Bound) Value {
		failUndefined(b.V(0))
		s, isText := strOf(unwrap(b.V(0)))
		if !isText {
			raise("AttributeError", "'%s' object has no attribute 'splitlines'", typeName(b.V(0)))
		}
		sep := ev.env.NewlineSequence
		if b.V(3) != nil && isTrue(b.V(3)) {
			sep = str(b.V(3))
		}
		width := argInt(b.Or(1, int64(79)))
		if width <= 0 {
			valueError("invalid width %d (must be > 0)", width)
		}
		ev.alloc(2 * len(s))
		var out []string
		for _, line := range splitLines(s, false) {
			out = append(out, strings.Join(wrapText(line, int(min(width, 1<<30)), isTrue(b.Or(2, true)), isTrue(b.Or(4, true))), sep))
		}
		return strings.Join(out, sep)
	})
	addFilter("urlencode", "value", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		if _, ok := strOf(v); ok || tryIter(v) == nil {
			return quoteValue(v, false)
		}
		var pairs []Value
		if d, ok := v.(*Dict); ok {
			pairs = ev.toSlice(&dictView{d, typeDictItems})
		} else {
			pairs = ev.toSlice(v)
		}
		var out []string
		for _, p := range pairs {
			kv := ev.toSlice(p)
			if len(kv) != 2 {
				valueError("not enough values to unpack (expected 2, got %d)", len(kv))
			}
			out = append(out, quoteValue(kv[0], true)+"="+quoteValue(kv[1], true))
		}
		return strings.Join(out, "&")
	})
	addFilter("urlize", "value trim_url_limit= nofollow= target= rel= extra_schemes=", func(ev *Eval, b Bound) Value {
		limit := -1
		if b.V(1) != nil {
			limit = int(argInt(b.V(1)))
		}
		rel := map[string]bool{"noopener": true}
		if isTrue(b.Or(2, false)) {
			rel["nofollow"] = true
		}
		for _, w := range strings.Fields(optStr(b.V(4))) {
			rel[w] = true
		}
		var words []string
		for _, w := range []string{"nofollow", "noopener", "noreferrer"} {
			if rel[w] {
				words = append(words, w)
				delete(rel, w)
			}
		}
		for w := range rel {
			words = append(words, w)
		}
		sort.Strings(words)
		out := urlize(string(escape(b.V(0))), limit, strings.Join(words, " "), optStr(b.V(3)))
		return like(ev.autoescape, out)
	})
	addFilter("xmlattr", "d autospace=", func(ev *Eval, b Bound) Value {
		failUndefined(b.V(0))
		d, ok := mapping(b.V(0))
		if !ok {
			raise("AttributeError", "'%s' object has no attribute 'items'", typeName(b.V(0)))
		}
		var items []string
		d.Each(func(k, v Value) bool {
			if _, undef := v.(*Undefined); v == nil || undef {
				return true
			}
			key := str(k)
			if strings.ContainsAny(key, " \t\n\r\f\v/>=") {
				valueError("Invalid character in attribute name: %s", pyrepr.Str(key))
			}
			items = append(items, string(escape(k))+`="`+string(escape(v))+`"`)
			return true
		})
		out := strings.Join(items, " ")
		if isTrue(b.Or(1, true)) && out != "" {
			out = " " + out
		}
		return like(ev.autoescape, out)
	})
	addFilter("tojson", "value indent=", func(ev *Eval, b Bound) Value {
		o := JSONOptions{SortKeys: ev.env.SortJSONKeys}
		o.setIndent(b.V(1))
		s := ev.dumpJSON(b.V(0), o)
		s = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`, "'", `\u0027`).Replace(s)
		return Markup(s)
	})
	addFilter("pprint", "value", func(ev *Eval, b Bound) Value { return pformat(b.V(0)) })
}

func argIntValue(v Value) Value { return argInt(v) }

func optStr(v Value) string {
	if v == nil {
		return ""
	}
	return str(v)
}

// isLineEndBefore tells whether the text has line ends other than "\n".
func isLineEndBefore(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && isLineEnd(r) })
}

func fileSize(bytes float64, binary bool) string {
	base, prefixes := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if binary {
		base, prefixes = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	if bytes == 1 {
		return "1 Byte"
	}
	if bytes < base {
		return str(toInt(bytes)) + " Bytes"
	}
	unit := base
	for i, p := range prefixes {
		next := unit * base
		if bytes < next || i == len(prefixes)-1 {
			sp := formatSpec{typ: 'f', prec: 1, fill: " "}
			return sp.formatFloat(base*bytes/next) + " " + p
		}
		unit = next
	}
	return ""
}

// wrapText is textwrap.wrap without tab expansion and whitespace replacement.
func wrapText(text string, width int, breakLong, breakHyphens bool) []string {
	chunks := wrapChunks(text, breakHyphens)
	var lines []string
	for i := 0; i < len(chunks); {
		var cur []string
		n := 0
		if len(lines) > 0 && strings.TrimFunc(chunks[i], isSpace) == "" {
			i++
			if i >= len(chunks) {
				break
			}
		}
		for i < len(chunks) && n+strLen(chunks[i]) <= width {
			cur = append(cur, chunks[i])
			n += strLen(chunks[i])
			i++
		}
		if i < len(chunks) && strLen(chunks[i]) > width {
			if breakLong {
				room := max(1, width-n)
				c := chunks[i]
				end := room
				if breakHyphens && strLen(c) > room {
					head := cutRunes(c, room)
					if h := strings.LastIndexByte(head, '-'); h > 0 && strings.Trim(head[:h], "-") != "" {
						end = strLen(head[:h+1])
					}
				}
				head := cutRunes(c, end)
				cur = append(cur, head)
				chunks[i] = c[len(head):]
				if chunks[i] == "" {
					i++
				}
			} else if len(cur) == 0 {
				cur = append(cur, chunks[i])
				i++
			}
		}
		if len(cur) > 0 && strings.TrimFunc(cur[len(cur)-1], isSpace) == "" {
			cur = cur[:len(cur)-1]
		}
		if len(cur) > 0 {
			lines = append(lines, strings.Join(cur, ""))
		}
	}
	return lines
}

var hyphenBreak = regexp.MustCompile(`[\pL\d_][\pL\d_!"'&.,?]*?[\pL_]-+`)

// wrapChunks splits text into words and blanks, words also after hyphens
// between letters.
func wrapChunks(text string, hyphens bool) []string {
	var out []string
	isWS := func(r rune) bool { return strings.ContainsRune("\t\n\v\f\r ", r) }
	for text != "" {
		i := strings.IndexFunc(text, func(r rune) bool { return !isWS(r) })
		if i != 0 {
			if i < 0 {
				i = len(text)
			}
			out = append(out, text[:i])
			text = text[i:]
			continue
		}
		i = strings.IndexFunc(text, isWS)
		if i < 0 {
			i = len(text)
		}
		word := text[:i]
		text = text[i:]
		for hyphens {
			loc := hyphenBreak.FindStringIndex(word)
			if loc == nil || loc[1] >= len(word) {
				break
			}
			next := []rune(word[loc[1]:])
			if len(next) < 2 || !unicode.IsLetter(next[0]) || !unicode.IsLetter(next[1]) && next[1] != '-' {
				break
			}
			out = append(out, word[:loc[1]])
			word = word[loc[1]:]
		}
		out = append(out, word)
	}
	return out
}

var (
	httpRe  = regexp.MustCompile(`(?i)^((https?://|www\.)(([\w%-]+\.)+)?([a-z]{2,63}|xn--[\w%]{2,59})|([\w%-]{2,63}\.)+(com|net|int|edu|gov|org|info|mil)|(https?://)((([\d]{1,3})(\.[\d]{1,3}){3})|(\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}\])))(?::[\d]{1,5})?(?:[/?#]\S*)?$`)
	emailRe = regexp.MustCompile(`^\S+@\w[\w.-]*\.\w+$`)
)

// urlize links the addresses in escaped text.
func urlize(text string, limit int, rel, target string) string {
	attrs := ""
	if rel != "" {
		attrs += ` rel="` + string(escape(rel)) + `"`
	}
	tgt := ""
	if target != "" {
		tgt = ` target="` + string(escape(target)) + `"`
	}
	trim := func(s string) string {
		if limit >= 0 && strLen(s) > limit {
			return cutRunes(s, limit) + "..."
		}
		return s
	}
	var b strings.Builder
	for text != "" {
		i := strings.IndexFunc(text, func(r rune) bool { return !isSpace(r) })
		if i < 0 {
			i = len(text)
		}
		b.WriteString(text[:i])
		text = text[i:]
		j := strings.IndexFunc(text, isSpace)
		if j < 0 {
			j = len(text)
		}
		word := text[:j]
		text = text[j:]
		head, tail := "", ""
		for {
			n := 0
			for _, p := range []string{"(", "<", "&lt;"} {
				if strings.HasPrefix(word, p) {
					n = len(p)
				}
			}
			if n == 0 {
				break
			}
			head, word = head+word[:n], word[n:]
		}
		for {
			n := 0
			for _, p := range []string{")", ">", ".", ",", "\n", "&gt;"} {
				if strings.HasSuffix(word, p) {
					n = len(p)
				}
			}
			if n == 0 {
				break
			}
			word, tail = word[:len(word)-n], word[len(word)-n:]+tail
		}
		for _, pr := range [][2]string{{"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}} {
			for strings.Count(word, pr[0]) > strings.Count(word, pr[1]) && strings.Contains(tail, pr[1]) {
				k := strings.Index(tail, pr[1]) + len(pr[1])
				word, tail = word+tail[:k], tail[k:]
			}
		}
		switch {
		case httpRe.MatchString(word):
			href := word
			if !strings.HasPrefix(word, "https://") && !strings.HasPrefix(word, "http://") {
				href = "https://" + word
			}
			word = `<a href="` + href + `"` + attrs + tgt + `>` + trim(word) + `</a>`
		case strings.HasPrefix(word, "mailto:") && emailRe.MatchString(word[7:]):
			word = `<a href="` + word + `">` + word[7:] + `</a>`
		case strings.Contains(word, "@") && !strings.HasPrefix(word, "www.") && !strings.HasPrefix(word, "@") && !strings.Contains(word, ":") && emailRe.MatchString(word):
			word = `<a href="mailto:` + word + `">` + word + `</a>`
		}
		b.WriteString(head + word + tail)
	}
	return b.String()
}
