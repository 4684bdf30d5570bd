package dagprocessor

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// IgnoreFile is the name of the files that exclude paths from a scan.
const IgnoreFile = ".airflowignore"

// IgnoreSyntax is the syntax of .airflowignore ([core] dag_ignore_file_syntax).
type IgnoreSyntax string

// The syntaxes: gitignore patterns, or regular expressions that are searched in
// the path relative to the ignore file's folder.
const (
	IgnoreGlob   IgnoreSyntax = "glob"
	IgnoreRegexp IgnoreSyntax = "regexp"
)

// ignoreRule is one line of an ignore file.
type ignoreRule struct {
	re *regexp.Regexp
	// base is the folder the path is taken relative to; byName rules look at the
	// last element only.
	base    string
	byName  bool
	dirOnly bool
	negate  bool
}

// ignoreRules are the rules in force for a folder: its ancestors' first. The
// last rule that matches decides.
type ignoreRules []ignoreRule

var ignoreComment = regexp.MustCompile(`\s*#.*`)

// parseIgnore reads an ignore file in folder base (relative to the root, "" for
// the root). Lines that cannot be understood are left out and described.
func parseIgnore(syntax IgnoreSyntax, base, text string) (rules ignoreRules, problems []string) {
	for n, line := range strings.Split(text, "\n") {
		line = ignoreComment.ReplaceAllString(strings.TrimSuffix(line, "\r"), "")
		if line == "" {
			continue
		}
		var r ignoreRule
		var err error
		if syntax == IgnoreRegexp {
			r.re, err = regexp.Compile(line)
		} else {
			r, err = globRule(line)
			if r.re == nil && err == nil {
				continue
			}
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s line %d: pattern %q is ignored: %v", path.Join(base, IgnoreFile), n+1, line, err))
			continue
		}
		r.base = base
		rules = append(rules, r)
	}
	return rules, problems
}

// match reports whether the rules exclude a path relative to the root.
func (rs ignoreRules) match(p string, isDir bool) bool {
	ignored := false
	for _, r := range rs {
		if r.dirOnly && !isDir {
			continue
		}
		rel := p
		switch {
		case r.byName:
			rel = path.Base(p)
		case r.base != "":
			rel = strings.TrimPrefix(p, r.base+"/")
		}
		if r.re.MatchString(rel) {
			ignored = !r.negate
		}
	}
	return ignored
}

// globRule compiles a gitignore pattern; a rule without re excludes nothing.
func globRule(pattern string) (ignoreRule, error) {
	var r ignoreRule
	for strings.HasSuffix(pattern, " ") && !strings.HasSuffix(pattern, `\ `) {
		pattern = strings.TrimSuffix(pattern, " ")
	}
	if rest, ok := strings.CutPrefix(pattern, "!"); ok {
		r.negate, pattern = true, rest
	}
	if rest, ok := strings.CutSuffix(pattern, "/"); ok {
		r.dirOnly, pattern = true, rest
	}
	anchored := strings.Contains(pattern, "/")
	r.byName = !anchored
	pattern = strings.TrimPrefix(pattern, "/")
	if pattern == "" {
		return ignoreRule{}, nil
	}
	var b strings.Builder
	b.WriteString("^")
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		if s == "**" {
			if last {
				b.WriteString(".+")
			} else {
				b.WriteString("(?:.+/)?")
			}
			continue
		}
		globSegment(&b, s)
		if !last {
			b.WriteString("/")
		}
	}
	b.WriteString("(?:/.*)?$")
	re, err := regexp.Compile(b.String())
	r.re = re
	return r, err
}

// globSegment writes the regular expression of one path segment.
func globSegment(b *strings.Builder, s string) {
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case '*':
			for i < len(s) && s[i] == '*' {
				i++
			}
			b.WriteString("[^/]*")
			continue
		case '?':
			b.WriteString("[^/]")
		case '\\':
			if i+1 < len(s) {
				i++
			}
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		case '[':
			if end := classEnd(s, i); end > 0 {
				globClass(b, s[i+1:end])
				i = end + 1
				continue
			}
			b.WriteString(`\[`)
		default:
			// Bytes of a multi-byte character are quoted one by one; none of them is special.
			if c < 0x80 {
				b.WriteString(regexp.QuoteMeta(string(rune(c))))
			} else {
				b.WriteByte(c)
			}
		}
		i++
	}
}

// globClass writes a class of characters, given without its brackets.
func globClass(b *strings.Builder, class string) {
	b.WriteString("[")
	if class[0] == '!' || class[0] == '^' {
		b.WriteString("^/")
		class = class[1:]
	}
	for i := 0; i < len(class); i++ {
		c := class[i]
		if c == '\\' && i+1 < len(class) {
			i++
			c = class[i]
			b.WriteString(regexp.QuoteMeta(class[i : i+1]))
			continue
		}
		if strings.IndexByte(`[]^&~\`, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	b.WriteString("]")
}

// classEnd returns the index of the ] that ends the class at s[i], or 0. A ]
// right after the opening (and its negation) belongs to the class.
func classEnd(s string, i int) int {
	j := i + 1
	if j < len(s) && (s[j] == '!' || s[j] == '^') {
		j++
	}
	if j < len(s) && s[j] == ']' {
		j++
	}
	for ; j < len(s); j++ {
		if s[j] == '\\' {
			j++
			continue
		}
		if s[j] == ']' {
			return j
		}
	}
	return 0
}
