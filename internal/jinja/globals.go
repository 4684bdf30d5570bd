package jinja

import (
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// maxSandboxRange is the sandbox's limit for range().
const maxSandboxRange = 100000

// builtinGlobals are the globals of Jinja.
var builtinGlobals = map[string]Value{}

// namespace is Jinja's namespace object.
type namespace struct{ attrs *Dict }

// PyType is the namespace's class.
func (n *namespace) PyType() *Type { return &Type{Module: "jinja2.utils", Name: "Namespace"} }

// PyRepr shows the attributes.
func (n *namespace) PyRepr() string { return "<Namespace " + repr(n.attrs) + ">" }

// Attr gives an attribute.
func (n *namespace) Attr(name string) (Value, bool, error) {
	v, ok := n.attrs.Get(name)
	return v, ok, nil
}

// cycler is Jinja's cycler object.
type cycler struct {
	items []Value
	pos   int
}

// PyType is the cycler's class.
func (c *cycler) PyType() *Type { return &Type{Module: "jinja2.utils", Name: "Cycler"} }

// Attr gives the cycler's methods.
func (c *cycler) Attr(name string) (Value, bool, error) {
	switch name {
	case "current":
		return c.items[c.pos], true, nil
	case "items":
		return NewTuple(c.items...), true, nil
	case "pos":
		return int64(c.pos), true, nil
	case "next":
		return fn("next", "", func(*Eval, Bound) Value {
			v := c.items[c.pos]
			c.pos = (c.pos + 1) % len(c.items)
			return v
		}), true, nil
	case "reset":
		return fn("reset", "", func(*Eval, Bound) Value { c.pos = 0; return nil }), true, nil
	}
	return nil, false, nil
}

// joiner is Jinja's joiner object.
type joiner struct {
	sep  Value
	used bool
}

// PyType is the joiner's class.
func (j *joiner) PyType() *Type { return &Type{Module: "jinja2.utils", Name: "Joiner"} }

// Attr gives the joiner's fields.
func (j *joiner) Attr(name string) (Value, bool, error) {
	switch name {
	case "sep":
		return j.sep, true, nil
	case "used":
		return j.used, true, nil
	}
	return nil, false, nil
}

// PyCall gives the separator, the first time nothing.
func (j *joiner) PyCall(*Args) (Value, error) {
	if !j.used {
		j.used = true
		return "", nil
	}
	return j.sep, nil
}

// makeRange is range(...).
func makeRange(ev *Eval, a *Args) Value {
	if len(a.Kw) > 0 {
		typeError("range() takes no keyword arguments")
	}
	if len(a.Pos) < 1 || len(a.Pos) > 3 {
		typeError("range expected at least 1 argument, got %d", len(a.Pos))
	}
	var n []int64
	for _, v := range a.Pos {
		n = append(n, argInt(v))
	}
	r := &Range{0, n[0], 1}
	if len(n) > 1 {
		r.Start, r.Stop = n[0], n[1]
	}
	if len(n) > 2 {
		r.Step = n[2]
		if r.Step == 0 {
			valueError("range() arg 3 must not be zero")
		}
	}
	if ev.env.Sandboxed && (r.Len() > maxSandboxRange || r.Len() < 0) {
		raise("OverflowError", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", maxSandboxRange)
	}
	return r
}

const lipsumWords = "ac accumsan ad adipiscing aenean aliquam aliquet amet ante aptent arcu at auctor augue bibendum blandit class commodo condimentum congue consectetuer consequat conubia convallis cras cubilia cum curabitur curae cursus dapibus diam dictum dictumst dignissim dis dolor donec dui duis egestas eget eleifend elementum elit enim erat eros est et etiam eu euismod facilisi facilisis fames faucibus felis fermentum feugiat fringilla fusce gravida habitant hendrerit hymenaeos iaculis id imperdiet in inceptos integer interdum ipsum justo lacinia lacus laoreet lectus leo libero ligula litora lobortis lorem luctus maecenas magna malesuada massa mattis mauris metus mi molestie mollis montes morbi mus nam nascetur natoque nec neque netus nibh nisi nisl non nonummy nostra nulla nullam nunc odio orci ornare parturient pede pellentesque penatibus per pharetra phasellus placerat platea porta porttitor posuere potenti praesent pretium primis proin pulvinar purus quam quis quisque rhoncus ridiculus risus rutrum sagittis sapien scelerisque sed sem semper senectus sit sociis sociosqu sodales sollicitudin suscipit suspendisse taciti tellus tempor tempus tincidunt torquent tortor tristique turpis ullamcorper ultrices ultricies urna ut varius vehicula vel velit venenatis vestibulum vitae vivamus viverra volutpat vulputate"

// lipsum makes placeholder text.
func lipsum(ev *Eval, n int64, asHTML bool, lo, hi int64) Value {
	words := strings.Fields(lipsumWords)
	var out []string
	for range n {
		count := lo
		if hi > lo {
			count += int64(ev.random() * float64(hi-lo))
		}
		var b strings.Builder
		start := true
		for i := int64(0); i < count; i++ {
			ev.step(1)
			w := words[int(ev.random()*float64(len(words)))]
			if start {
				w, start = capitalize(w), false
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(w)
			if i < count-1 && i%9 == 8 {
				b.WriteByte('.')
				start = true
			}
		}
		p := b.String() + "."
		ev.alloc(len(p))
		if asHTML {
			p = "<p>" + p + "</p>"
		}
		out = append(out, p)
	}
	if asHTML {
		return Markup(strings.Join(out, "\n"))
	}
	return strings.Join(out, "\n\n")
}

// dictNew is dict(...).
func dictNew(ev *Eval, a *Args) Value {
	if len(a.Pos) > 1 {
		typeError("dict expected at most 1 argument, got %d", len(a.Pos))
	}
	d := NewDict()
	if len(a.Pos) == 1 {
		ev.dictUpdate(d, a.Pos[0], true, a.Kw)
	} else {
		ev.dictUpdate(d, nil, false, a.Kw)
	}
	return d
}

func init() {
	typeDict.Call = dictNew
	typeRange.Call = makeRange
	typeList.Call = func(ev *Eval, a *Args) Value {
		if len(a.Pos) == 0 {
			return NewList()
		}
		return &List{Items: ev.toSlice(a.Pos[0])}
	}
	typeStr.Call = func(_ *Eval, a *Args) Value {
		if len(a.Pos) == 0 {
			return ""
		}
		return str(a.Pos[0])
	}
	typeInt.Call = func(_ *Eval, a *Args) Value {
		if len(a.Pos) == 0 {
			return int64(0)
		}
		return toInt(a.Pos[0])
	}
	builtinGlobals["range"] = &Func{Name: "range", call: makeRange}
	builtinGlobals["dict"] = typeDict
	builtinGlobals["lipsum"] = fn("lipsum", "n= html= min= max=", func(ev *Eval, b Bound) Value {
		return lipsum(ev, argInt(b.Or(0, int64(5))), isTrue(b.Or(1, true)), argInt(b.Or(2, int64(20))), argInt(b.Or(3, int64(100))))
	})
	builtinGlobals["cycler"] = &Type{Module: "jinja2.utils", Name: "Cycler", Call: func(_ *Eval, a *Args) Value {
		if len(a.Pos) == 0 {
			raise("RuntimeError", "at least one item has to be provided")
		}
		return &cycler{items: a.Pos}
	}}
	builtinGlobals["joiner"] = &Type{Module: "jinja2.utils", Name: "Joiner", Call: func(_ *Eval, a *Args) Value {
		b := ParseSignature("Joiner.__init__", "sep=").bind(a)
		return &joiner{sep: b.Or(0, ", ")}
	}}
	builtinGlobals["namespace"] = &Type{Module: "jinja2.utils", Name: "Namespace", Call: func(ev *Eval, a *Args) Value {
		return &namespace{dictNew(ev, a).(*Dict)}
	}}
}

// sortedKeys orders by Python's "safe key": by value if comparable, else by
// type and text.
func sortedKeys(d *Dict) []Value {
	keys := d.Keys()
	sort.SliceStable(keys, func(i, j int) bool {
		lt := false
		if catch(func() { lt = less(keys[i], keys[j]) }, "TypeError") != nil {
			return typeName(keys[i])+repr(keys[i]) < typeName(keys[j])+repr(keys[j])
		}
		return lt
	})
	return keys
}

// pformat is pprint.pformat(v) at its default width of 80.
func pformat(v Value) string {
	var b strings.Builder
	pp(&b, v, 0, 0, 0)
	return b.String()
}

func sortedRepr(v Value) string {
	switch x := v.(type) {
	case *Dict:
		var parts []string
		for _, k := range sortedKeys(x) {
			e, _ := x.Get(k)
			parts = append(parts, sortedRepr(k)+": "+sortedRepr(e))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case *List:
		var parts []string
		for _, e := range x.Items {
			parts = append(parts, sortedRepr(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *Tuple:
		var parts []string
		for _, e := range x.Items {
			parts = append(parts, sortedRepr(e))
		}
		if len(parts) == 1 {
			return "(" + parts[0] + ",)"
		}
		return "(" + strings.Join(parts, ", ") + ")"
	}
	return repr(v)
}

const ppWidth = 80

func pp(b *strings.Builder, v Value, indent, allowance, level int) {
	if level > 200 {
		raise("RecursionError", "maximum recursion depth exceeded")
	}
	r := repr(v) // raises for what has no text and guards against cycles
	if !strings.Contains(r, "...") {
		r = sortedRepr(v)
	}
	if strLen(r) <= ppWidth-indent-allowance {
		b.WriteString(r)
		return
	}
	seq := func(items []Value, open, end string) {
		b.WriteString(open)
		for i, it := range items {
			last := i == len(items)-1
			al := 1
			if last {
				al = allowance + len(end)
			}
			pp(b, it, indent+1, al, level+1)
			if !last {
				b.WriteString(",\n" + strings.Repeat(" ", indent+1))
			}
		}
		b.WriteString(end)
	}
	switch x := v.(type) {
	case *List:
		seq(x.Items, "[", "]")
	case *Tuple:
		end := ")"
		if len(x.Items) == 1 {
			end = ",)"
		}
		seq(x.Items, "(", end)
	case *Dict:
		b.WriteByte('{')
		keys := sortedKeys(x)
		for i, k := range keys {
			e, _ := x.Get(k)
			kr := sortedRepr(k)
			b.WriteString(kr + ": ")
			last := i == len(keys)-1
			al := 1
			if last {
				al = allowance + 1
			}
			pp(b, e, indent+1+strLen(kr)+2, al, level+1)
			if !last {
				b.WriteString(",\n" + strings.Repeat(" ", indent+1))
			}
		}
		b.WriteByte('}')
	case string:
		ppString(b, x, indent, allowance, level)
	default:
		b.WriteString(r)
	}
}

// ppString breaks a long text at blanks, as pprint does.
func ppString(b *strings.Builder, s string, indent, allowance, level int) {
	lines := splitLines(s, true)
	if level == 0 {
		indent++
		allowance++
	}
	maxWidth := ppWidth - indent
	var chunks []string
	rep := ""
	for i, line := range lines {
		rep = pyrepr.Str(line)
		mw := maxWidth
		if i == len(lines)-1 {
			mw -= allowance
		}
		if strLen(rep) <= mw {
			chunks = append(chunks, rep)
			continue
		}
		var parts []string
		rest := line
		for rest != "" {
			j := strings.IndexFunc(rest, isSpace)
			if j < 0 {
				parts = append(parts, rest)
				break
			}
			k := j
			for k < len(rest) && isSpace(rune(rest[k])) {
				k++
			}
			parts = append(parts, rest[:k])
			rest = rest[k:]
		}
		cur := ""
		for j, part := range parts {
			cand := cur + part
			mw := maxWidth
			if j == len(parts)-1 && i == len(lines)-1 {
				mw -= allowance
			}
			if strLen(pyrepr.Str(cand)) > mw {
				if cur != "" {
					chunks = append(chunks, pyrepr.Str(cur))
				}
				cur = part
			} else {
				cur = cand
			}
		}
		if cur != "" {
			chunks = append(chunks, pyrepr.Str(cur))
		}
	}
	if len(chunks) == 1 {
		b.WriteString(rep)
		return
	}
	if level == 0 {
		b.WriteByte('(')
	}
	b.WriteString(strings.Join(chunks, "\n"+strings.Repeat(" ", indent)))
	if level == 0 {
		b.WriteByte(')')
	}
}
