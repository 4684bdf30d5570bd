package dagspec

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// sourceFile is one text of a load: positions in the expanded text lead back
// to the text on disk.
type sourceFile struct {
	name string // as reported
	path string
	repl []replacement
	text string // expanded
	raw  string
	line []int // offsets of the expanded text's lines, built on first use
	rawl []int
}

// replacement is one expanded variable: bytes [at, at+n) of the expanded text
// stand for [rawAt, rawAt+rawN) of the original.
type replacement struct{ at, n, rawAt, rawN int }

// expandEnv replaces $NAME and ${NAME} as os.path.expandvars does: names are
// ASCII word characters, unknown variables stay, replaced text is not expanded
// again and there is no escape.
func expandEnv(s string, lookup func(string) (string, bool)) (string, []replacement) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var b strings.Builder
	var repl []replacement
	last := 0
	for i := 0; i < len(s); {
		if s[i] != '$' {
			i++
			continue
		}
		name, end := "", 0
		if i+1 < len(s) && s[i+1] == '{' {
			if j := strings.IndexByte(s[i+2:], '}'); j >= 0 {
				name, end = s[i+2:i+2+j], i+3+j
			}
		} else {
			j := i + 1
			for j < len(s) && isWord(s[j]) {
				j++
			}
			if j > i+1 {
				name, end = s[i+1:j], j
			}
		}
		if end == 0 {
			i++
			continue
		}
		if v, ok := lookup(name); ok {
			b.WriteString(s[last:i])
			repl = append(repl, replacement{b.Len(), len(v), i, end - i})
			b.WriteString(v)
			last = end
		}
		i = end
	}
	if repl == nil {
		return s, nil
	}
	b.WriteString(s[last:])
	return b.String(), repl
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func lineOffsets(s string) []int {
	out := []int{0}
	for i := 0; i < len(s); i++ {
		if s[i] == '\n' {
			out = append(out, i+1)
		}
	}
	return out
}

// original maps a place in the expanded text to the text on disk.
func (f *sourceFile) original(line, col int) (int, int) {
	if line <= 0 {
		return 1, 1
	}
	if len(f.repl) == 0 {
		return line, max(col, 1)
	}
	if f.line == nil {
		f.line, f.rawl = lineOffsets(f.text), lineOffsets(f.raw)
	}
	if line > len(f.line) {
		line = len(f.line)
	}
	off := f.line[line-1]
	for c := 1; c < col && off < len(f.text); c++ {
		_, n := utf8.DecodeRuneInString(f.text[off:])
		off += n
	}
	raw := off
	for _, r := range f.repl {
		if r.at > off {
			break
		}
		if off < r.at+r.n {
			raw = r.rawAt
			break
		}
		raw = off - (r.at + r.n) + r.rawAt + r.rawN
	}
	l := sort.SearchInts(f.rawl, raw+1)
	return l, utf8.RuneCountInString(f.raw[f.rawl[l-1]:min(raw, len(f.raw))]) + 1
}
