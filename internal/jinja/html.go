package jinja

import (
	"html"
	"strings"
)

var htmlEscaper = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

// escape is markupsafe.escape.
func escape(v Value) Markup {
	switch x := v.(type) {
	case Markup:
		return x
	case string:
		return Markup(htmlEscaper.Replace(x))
	case *module:
		return Markup(str(x))
	case *Undefined:
		if x.kind == ChainableUndefined {
			return ""
		}
	}
	return Markup(htmlEscaper.Replace(str(v)))
}

// unescapeHTML is html.unescape.
func unescapeHTML(s string) string { return html.UnescapeString(s) }

// stripTags is Markup.striptags.
func stripTags(s string) string {
	for {
		i := strings.Index(s, "<!--")
		if i < 0 {
			break
		}
		j := strings.Index(s[i:], "-->")
		if j < 0 {
			break
		}
		s = s[:i] + s[i+j+3:]
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		j := strings.IndexByte(s[i:], '>')
		if j < 0 {
			break
		}
		b.WriteString(s[:i])
		s = s[i+j+1:]
	}
	b.WriteString(s)
	return unescapeHTML(strings.Join(splitSpace(b.String(), -1), " "))
}
