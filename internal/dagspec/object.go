package dagspec

import (
	"strings"
)

// class is a Python class by its canonical path.
type class struct{ path string }

func (c *class) name() string { return attrPart(c.path) }

// objectKind tells what an object means to Airflow.
type objectKind int

const (
	kindInstance objectKind = iota // of a class Gust knows nothing of
	kindAsset
	kindAssetAlias
	kindAssetRef
	kindAssetAll
	kindAssetAny
	kindWatcher
	kindParam
	kindTimetable
	kindDeadlineAlert
	kindDeadlineReference
	kindDeadlineCallback
	kindOther // known, without a meaning of its own (access control, "not set")
)

// object is an instance of a Python class: the attributes in the order in
// which PyYAML would dump them, and what it was made from.
type object struct {
	class *class
	kind  objectKind
	attrs []attr
	args  []value
	kw    *dict
	tt    *timetable // kindTimetable
	core  bool       // a class of the scheduler's package rather than of the SDK
}

type attr struct {
	name string
	val  value
}

func (o *object) get(name string) value {
	for _, a := range o.attrs {
		if a.name == name {
			return a.val
		}
	}
	return nil
}

func (o *object) repr() string {
	var b strings.Builder
	b.WriteString(o.class.name() + "(")
	for i, a := range o.attrs {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.name + "=" + pyRepr(a.val))
	}
	return b.String() + ")"
}

func (o *object) isAsset() bool {
	switch o.kind {
	case kindAsset, kindAssetAlias, kindAssetRef, kindAssetAll, kindAssetAny:
		return true
	}
	return false
}

func isAsset(v value) bool {
	o, ok := v.(*object)
	return ok && o.isAsset()
}

// callable is a function (or other importable thing) named by a DAG file.
type callable struct {
	module string // dotted module, or the stem of file
	attr   string
	file   string // set when loaded from a file
	lambda string // source of a lambda expression
	json   string // HttpOperator.data: a function that returns this text
	byYAML bool   // !!python/name
	class  bool   // a class rather than a function
	sym    *PySymbol
}

func (c *callable) name() string {
	switch {
	case c.lambda != "" || c.json != "":
		return "<lambda>"
	case c.module == "":
		return c.attr
	}
	return c.module + "." + c.attr
}

// partial is functools.partial(fn, **kw).
type partial struct {
	fn *callable
	kw *dict
}

// operatorArg is a classic operator passed where its output was meant: what
// dag-factory makes of "+task" when task is no TaskFlow task.
type operatorArg struct{ task *task }

// xcomArg is a task's output: PlainXComArg.
type xcomArg struct {
	task *task
	key  string
}

// xcomOp joins lists to expand over: zip or concat of outputs and literals.
type xcomOp struct {
	kind string
	args []value // *xcomArg, *xcomOp or *list
	fill value
	pads bool // zip: to the longest, with fill
}

// mappedArg is an argument of a mapped task group, used by a task inside it.
type mappedArg struct {
	group *group
	key   string
}

// signature describes how a Python callable takes arguments.
type signature struct {
	name    string   // as in messages: "Asset.__init__"
	pos     []string // positional or keyword
	minPos  int      // how many of pos are required
	varArgs bool
	kwOnly  []string
	needKw  []string // required among kwOnly
	varKw   bool
}

// bind matches a call against the signature with Python's errors; varargs are
// returned apart.
func (s *signature) bind(args []value, kw *dict) (map[string]value, []value, error) {
	out := map[string]value{}
	var extra []value
	for i, a := range args {
		switch {
		case i < len(s.pos):
			out[s.pos[i]] = a
		case s.varArgs:
			extra = append(extra, a)
		default:
			want := len(s.pos)
			noun := "arguments"
			if want == 0 {
				noun = "argument"
			}
			return nil, nil, pyErr("TypeError", "%s() takes %d positional %s but %d were given", s.name, want+1, noun, len(args)+1)
		}
	}
	if kw != nil {
		for _, e := range kw.entries {
			name, _ := e.key.(string)
			known := contains(s.pos, name) || contains(s.kwOnly, name)
			if !known {
				if s.varKw {
					continue
				}
				return nil, nil, pyErr("TypeError", "%s() got an unexpected keyword argument %s", s.name, pyRepr(e.key)).
					hint("%s", expectedNames(name, append(append([]string(nil), s.pos...), s.kwOnly...))).in(name, e.kpos)
			}
			if _, dup := out[name]; dup {
				return nil, nil, pyErr("TypeError", "%s() got multiple values for argument '%s'", s.name, name)
			}
			out[name] = e.val
		}
	}
	var missing []string
	for _, n := range s.pos[:s.minPos] {
		if _, ok := out[n]; !ok {
			missing = append(missing, n)
		}
	}
	if missing != nil {
		return nil, nil, pyErr("TypeError", "%s() missing %d required positional argument%s: %s", s.name, len(missing), plural(len(missing)), quoteList(missing))
	}
	for _, n := range s.needKw {
		if _, ok := out[n]; !ok {
			missing = append(missing, n)
		}
	}
	if missing != nil {
		return nil, nil, pyErr("TypeError", "%s() missing %d required keyword-only argument%s: %s", s.name, len(missing), plural(len(missing)), quoteList(missing))
	}
	return out, extra, nil
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// quoteList is Python's "'a', 'b', and 'c'".
func quoteList(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = "'" + n + "'"
	}
	switch len(q) {
	case 1:
		return q[0]
	case 2:
		return q[0] + " and " + q[1]
	}
	return strings.Join(q[:len(q)-1], ", ") + ", and " + q[len(q)-1]
}

func contains(l []string, s string) bool {
	for _, x := range l {
		if x == s {
			return true
		}
	}
	return false
}
