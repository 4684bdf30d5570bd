package dagspec

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// dumpYAML writes v as yaml.dump(v, default_flow_style=False,
// allow_unicode=True, sort_keys=False) of PyYAML does: same styles, same folds,
// same anchors for objects that occur twice. dag-factory appends this text to a
// DAG's doc_md.
func dumpYAML(v value) string {
	r := &representer{seen: map[any]*yamlNode{}}
	root := r.node(v)
	r.number(root, map[*yamlNode]bool{})
	e := &emitter{indent: -1, whitespace: true, indention: true}
	e.node(root, false, false, false)
	if e.column > 0 {
		e.breakLine("\n")
	}
	return e.b.String()
}

type nodeKind int

const (
	scalarNode nodeKind = iota
	seqNode
	mapNode
)

type yamlNode struct {
	kind   nodeKind
	tag    string // "" = implicit
	text   string // scalars
	plain  bool   // the plain text resolves to the right tag
	block  bool   // literal style
	quoted bool   // never plain
	items  []*yamlNode
	anchor string
	done   bool
}

type representer struct {
	seen map[any]*yamlNode
	next int
}

// number gives anchors in the order in which nodes are met a second time.
func (r *representer) number(n *yamlNode, met map[*yamlNode]bool) {
	if met[n] {
		if n.anchor == "" {
			r.next++
			n.anchor = fmt.Sprintf("id%03d", r.next)
		}
		return
	}
	met[n] = true
	for _, c := range n.items {
		r.number(c, met)
	}
}

func plainScalar(text string) *yamlNode { return &yamlNode{text: text, plain: true} }

func (r *representer) node(v value) *yamlNode {
	switch v := v.(type) {
	case nil:
		return plainScalar("null")
	case bool:
		return plainScalar(strconv.FormatBool(v))
	case int64:
		return plainScalar(strconv.FormatInt(v, 10))
	case *big.Int:
		return plainScalar(v.String())
	case float64:
		return plainScalar(yamlFloat(v))
	case string:
		return &yamlNode{text: v, plain: implicitKind(v) == kindStr}
	case *tuple:
		if len(v.items) == 0 {
			return &yamlNode{kind: seqNode, tag: "!!python/tuple"}
		}
	}
	if n, ok := r.seen[v]; ok {
		return n
	}
	n := &yamlNode{}
	r.seen[v] = n
	r.fill(n, v)
	return n
}

func yamlFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	}
	s := pyrepr.Float(f)
	if !strings.Contains(s, ".") {
		s = strings.Replace(s, "e", ".0e", 1)
	}
	return s
}

func (r *representer) seq(n *yamlNode, tag string, vs ...value) {
	n.kind, n.tag = seqNode, tag
	for _, v := range vs {
		n.items = append(n.items, r.node(v))
	}
}

func (r *representer) attrs(n *yamlNode, class string, as []attr) {
	n.kind, n.tag = mapNode, "!!python/object:"+class
	for _, a := range as {
		n.items = append(n.items, r.node(a.name), r.node(a.val))
	}
}

func (r *representer) fill(n *yamlNode, v value) {
	switch v := v.(type) {
	case *list:
		n.kind = seqNode
		for _, it := range v.items {
			n.items = append(n.items, r.node(it.val))
		}
	case *tuple:
		r.seq(n, "!!python/tuple", v.items...)
	case *set:
		n.kind, n.tag = mapNode, "!!set"
		for _, x := range v.items {
			n.items = append(n.items, r.node(x), plainScalar("null"))
		}
	case *dict:
		n.kind = mapNode
		for _, e := range v.entries {
			n.items = append(n.items, r.node(e.key), r.node(e.val))
		}
	case *pyBytes:
		n.tag, n.block, n.text = "!!binary", true, base64Lines(v.b)
	case *date:
		n.text, n.plain = v.String(), true
	case *datetime:
		if v.pendulum {
			r.seq(n, "!!python/object/apply:pendulum.datetime.DateTime", int64(v.y), int64(v.m), int64(v.d), int64(v.h), int64(v.mi), int64(v.s), int64(v.us), v.zone)
			return
		}
		n.text, n.plain = v.iso(" "), true
	case *timedelta:
		r.seq(n, "!!python/object/apply:datetime.timedelta", v.days, v.seconds, v.us)
	case *timeOfDay:
		b := []byte{byte(v.h), byte(v.mi), byte(v.s), byte(v.us >> 16), byte(v.us >> 8), byte(v.us)}
		r.seq(n, "!!python/object/apply:datetime.time", &pyBytes{b})
	case *timezone:
		if v.pendulum {
			r.seq(n, "!!python/object/apply:None._unpickle", v.name, int64(1))
			return
		}
		r.seq(n, "!!python/object/apply:datetime.timezone", secondsDelta(int64(v.offset)))
	case *relativedelta:
		var as []attr
		for _, p := range v.relatives() {
			as = append(as, attr{p.name, p.v})
		}
		for i, name := range relativeAbs {
			as = append(as, attr{name, v.abs[i]})
		}
		r.attrs(n, "dateutil.relativedelta.relativedelta", append(as, attr{"weekday", v.weekday}, attr{"_has_time", v.hasTime()}))
	case *weekday:
		state := &dict{}
		state.put("weekday", v.day)
		state.put("n", v.n)
		n.kind, n.tag = mapNode, "!!python/object/new:dateutil._common.weekday"
		n.items = []*yamlNode{r.node("state"), r.node(&tuple{[]value{nil, state}})}
	case *object:
		if v == packageLogger || v == urllib3Logger {
			r.seq(n, "!!python/object/apply:logging.getLogger", v.args...)
			return
		}
		r.attrs(n, v.class.path, v.attrs)
	case *callable:
		n.tag, n.quoted = "!!python/name:"+v.name(), true
	default:
		n.text, n.plain = pyStr(v), true
	}
}

func base64Lines(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	out.WriteString(s + "\n")
	return out.String()
}

const bestWidth = 80

// emitter follows PyYAML's: column and whitespace state decide spaces, breaks
// and folds.
type emitter struct {
	b          strings.Builder
	column     int
	indent     int // -1 = none yet
	whitespace bool
	indention  bool
}

func (e *emitter) write(s string) {
	e.column += len([]rune(s))
	e.b.WriteString(s)
}

func (e *emitter) breakLine(br string) {
	e.whitespace, e.indention, e.column = true, true, 0
	e.b.WriteString(br)
}

func (e *emitter) writeIndent() {
	indent := max(e.indent, 0)
	if !e.indention || e.column > indent || e.column == indent && !e.whitespace {
		e.breakLine("\n")
	}
	if e.column < indent {
		e.whitespace = true
		e.b.WriteString(strings.Repeat(" ", indent-e.column))
		e.column = indent
	}
}

func (e *emitter) indicator(s string, needSpace, whitespace, indention bool) {
	if needSpace && !e.whitespace {
		s = " " + s
	}
	e.whitespace = whitespace
	e.indention = e.indention && indention
	e.write(s)
}

func (e *emitter) node(n *yamlNode, inMap, inSeq, simpleKey bool) {
	if n.anchor != "" {
		if n.done {
			e.indicator("*"+n.anchor, true, false, false)
			return
		}
		n.done = true
		e.indicator("&"+n.anchor, true, false, false)
	}
	if n.tag != "" {
		e.indicator(n.tag, true, false, false)
	}
	switch n.kind {
	case scalarNode:
		e.scalar(n, simpleKey)
	case seqNode:
		if len(n.items) == 0 {
			e.indicator("[", true, true, false)
			e.indicator("]", false, false, false)
			return
		}
		old := e.indent
		if e.indent < 0 {
			e.indent = 0
		} else if !(inMap && !e.indention) {
			e.indent += 2
		}
		for _, c := range n.items {
			e.writeIndent()
			e.indicator("-", true, false, true)
			e.node(c, false, true, false)
		}
		e.indent = old
	case mapNode:
		if len(n.items) == 0 {
			e.indicator("{", true, true, false)
			e.indicator("}", false, false, false)
			return
		}
		old := e.indent
		if e.indent < 0 {
			e.indent = 0
		} else {
			e.indent += 2
		}
		for i := 0; i+1 < len(n.items); i += 2 {
			k, v := n.items[i], n.items[i+1]
			e.writeIndent()
			if e.simpleKey(k) {
				e.node(k, true, false, true)
				e.indicator(":", false, false, false)
			} else {
				e.indicator("?", true, false, true)
				e.node(k, true, false, false)
				e.writeIndent()
				e.indicator(":", true, false, true)
			}
			e.node(v, true, false, false)
		}
		e.indent = old
	}
}

func (e *emitter) simpleKey(n *yamlNode) bool {
	length := len(n.tag)
	if n.anchor != "" {
		if n.done {
			return len(n.anchor) < 128
		}
		length += len(n.anchor)
	}
	switch n.kind {
	case scalarNode:
		a := analyse(n.text)
		return length+len([]rune(n.text)) < 128 && !a.empty && !a.multiline
	default:
		return length < 128 && len(n.items) == 0
	}
}

func (e *emitter) scalar(n *yamlNode, simpleKey bool) {
	a := analyse(n.text)
	old := e.indent // continuation lines stand one level deeper
	e.indent = max(e.indent, 0) + 2
	defer func() { e.indent = old }()
	switch {
	case n.block:
		e.literal(n.text)
	case !n.quoted && n.plain && !(simpleKey && (a.empty || a.multiline)) && a.blockPlain:
		e.plain(n.text, !simpleKey)
	case a.single && !(simpleKey && a.multiline):
		e.singleQuoted(n.text, !simpleKey)
	default:
		e.doubleQuoted(n.text, !simpleKey)
	}
}

type analysis struct{ empty, multiline, blockPlain, single bool }

func isBreak(r rune) bool { return r == '\n' || r == 0x85 || r == 0x2028 || r == 0x2029 }

func isBlank(r rune) bool { return r == 0 || r == ' ' || r == '\t' || r == '\r' || isBreak(r) }

// analyse finds which styles can carry the text.
func analyse(text string) analysis {
	if text == "" {
		return analysis{empty: true, blockPlain: true, single: true}
	}
	rs := []rune(text)
	blockInd := strings.HasPrefix(text, "---") || strings.HasPrefix(text, "...")
	var lineBreaks, special, leadSpace, leadBreak, trailSpace, trailBreak, breakSpace, spaceBreak bool
	preceded, followed := true, len(rs) == 1 || isBlank(rs[1])
	prevSpace, prevBreak := false, false
	for i, ch := range rs {
		if i == 0 {
			if strings.ContainsRune("#,[]{}&*!|>'\"%@`", ch) || (ch == '?' || ch == ':' || ch == '-') && followed {
				blockInd = true
			}
		} else if ch == ':' && followed || ch == '#' && preceded {
			blockInd = true
		}
		if isBreak(ch) {
			lineBreaks = true
		}
		if !(ch == '\n' || ch >= 0x20 && ch <= 0x7e) {
			printable := ch == 0x85 || ch >= 0xa0 && ch <= 0xd7ff || ch >= 0xe000 && ch <= 0xfffd || ch >= 0x10000 && ch < 0x10ffff
			if !printable || ch == 0xfeff {
				special = true
			}
		}
		switch {
		case ch == ' ':
			leadSpace = leadSpace || i == 0
			trailSpace = trailSpace || i == len(rs)-1
			breakSpace = breakSpace || prevBreak
			prevSpace, prevBreak = true, false
		case isBreak(ch):
			leadBreak = leadBreak || i == 0
			trailBreak = trailBreak || i == len(rs)-1
			spaceBreak = spaceBreak || prevSpace
			prevSpace, prevBreak = false, true
		default:
			prevSpace, prevBreak = false, false
		}
		preceded = isBlank(ch)
		followed = i+2 >= len(rs) || isBlank(rs[i+2])
	}
	a := analysis{multiline: lineBreaks, blockPlain: true, single: true}
	if leadSpace || leadBreak || trailSpace || trailBreak || lineBreaks || blockInd {
		a.blockPlain = false
	}
	if breakSpace || spaceBreak || special {
		a.blockPlain, a.single = false, false
	}
	return a
}

func (e *emitter) fold() {
	e.writeIndent()
	e.whitespace, e.indention = false, false
}

func (e *emitter) plain(text string, split bool) {
	if text == "" {
		return
	}
	if !e.whitespace {
		e.write(" ")
	}
	e.whitespace, e.indention = false, false
	rs := []rune(text)
	spaces, start := false, 0
	for end := 0; end <= len(rs); end++ {
		last := end == len(rs)
		switch {
		case spaces:
			if last || rs[end] != ' ' {
				if start+1 == end && e.column > bestWidth && split {
					e.fold()
				} else {
					e.write(string(rs[start:end]))
				}
				start = end
			}
		case last || rs[end] == ' ':
			e.write(string(rs[start:end]))
			start = end
		}
		if !last {
			spaces = rs[end] == ' '
		}
	}
}

func (e *emitter) singleQuoted(text string, split bool) {
	e.indicator("'", true, false, false)
	rs := []rune(text)
	spaces, breaks, start := false, false, 0
	for end := 0; end <= len(rs); end++ {
		last := end == len(rs)
		var ch rune
		if !last {
			ch = rs[end]
		}
		switch {
		case spaces:
			if last || ch != ' ' {
				if start+1 == end && e.column > bestWidth && split && start != 0 && end != len(rs) {
					e.writeIndent()
				} else {
					e.write(string(rs[start:end]))
				}
				start = end
			}
		case breaks:
			if last || !isBreak(ch) {
				if rs[start] == '\n' {
					e.breakLine("\n")
				}
				for _, br := range rs[start:end] {
					e.breakLine(string(br))
				}
				e.writeIndent()
				start = end
			}
		default:
			if last || ch == ' ' || isBreak(ch) || ch == '\'' {
				if start < end {
					e.write(string(rs[start:end]))
					start = end
				}
			}
		}
		if !last {
			if ch == '\'' {
				e.write("''")
				start = end + 1
			}
			spaces, breaks = ch == ' ', isBreak(ch)
		}
	}
	e.indicator("'", false, false, false)
}

var yamlEscapes = map[rune]string{0: "0", 7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 0x1b: "e", '"': `"`, '\\': `\`,
	0x85: "N", 0xa0: "_", 0x2028: "L", 0x2029: "P"}

func (e *emitter) doubleQuoted(text string, split bool) {
	e.indicator(`"`, true, false, false)
	rs := []rune(text)
	start := 0
	for end := 0; end <= len(rs); end++ {
		last := end == len(rs)
		var ch rune
		if !last {
			ch = rs[end]
		}
		raw := ch >= 0x20 && ch <= 0x7e || ch >= 0xa0 && ch <= 0xd7ff || ch >= 0xe000 && ch <= 0xfffd
		if last || ch == '"' || ch == '\\' || ch == 0x85 || ch == 0x2028 || ch == 0x2029 || ch == 0xfeff || !raw {
			if start < end {
				e.write(string(rs[start:end]))
				start = end
			}
			if !last {
				s, ok := yamlEscapes[ch]
				switch {
				case ok:
					s = `\` + s
				case ch <= 0xff:
					s = fmt.Sprintf(`\x%02X`, ch)
				case ch <= 0xffff:
					s = fmt.Sprintf(`\u%04X`, ch)
				default:
					s = fmt.Sprintf(`\U%08X`, ch)
				}
				e.write(s)
				start = end + 1
			}
		}
		if end > 0 && end < len(rs)-1 && (ch == ' ' || start >= end) && e.column+(end-start) > bestWidth && split {
			data := `\`
			if start < end {
				data = string(rs[start:end]) + `\`
				start = end
			}
			e.write(data)
			e.fold()
			if rs[start] == ' ' {
				e.write(`\`)
			}
		}
	}
	e.indicator(`"`, false, false, false)
}

// literal writes base64 text, which never needs an indentation hint.
func (e *emitter) literal(text string) {
	e.indicator("|", true, false, false)
	e.breakLine("\n")
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		e.writeIndent()
		e.write(line)
		e.breakLine("\n")
	}
}
