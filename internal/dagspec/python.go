package dagspec

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
)

// ErrNoPython is returned by a Python that has no interpreter: callables are
// then not checked at load.
var ErrNoPython = errors.New("no python3 found")

// Python answers questions about Python sources without importing them.
// Implementations are safe for concurrent use.
type Python interface {
	// Module finds a module by dotted name on the search path and describes its
	// source. A module that does not exist has Found false and Missing set to
	// the first part of the name that was not found.
	Module(name string) (*PyModule, error)
	// File describes the source of one file.
	File(path string) (*PyModule, error)
	// Call imports a function in a short-lived sandbox, calls it, and returns
	// its result as JSON. It is used for the few values that DAG files ask to
	// be computed at load (doc_md callables, __type__ of a user's function).
	Call(call PyCall) (PyResult, error)
}

// PyModule is what a module's source says.
type PyModule struct {
	Name    string              `json:"name"`
	Found   bool                `json:"found"`
	Missing string              `json:"missing,omitempty"` // what Python would name in "No module named"
	Parent  string              `json:"parent,omitempty"`  // set if Missing's parent is a module, not a package
	File    string              `json:"file,omitempty"`    // "" for built-in modules
	Opaque  bool                `json:"opaque,omitempty"`  // compiled or built-in: symbols unknown
	Error   string              `json:"error,omitempty"`   // SyntaxError text
	Line    int                 `json:"line,omitempty"`    // of Error
	Symbols map[string]PySymbol `json:"symbols,omitempty"`
	// Star is true if the module may define names the source does not show
	// (import *, __getattr__, exec).
	Star    bool     `json:"star,omitempty"`
	Imports []string `json:"imports,omitempty"` // modules it imports, for the bundle
}

// Kinds of PySymbol.
const (
	PyFunction = "function"
	PyClass    = "class"
	PyImport   = "import" // From names module.attribute it is imported from
	PyValue    = "value"
)

// PySymbol is one top-level name of a module.
type PySymbol struct {
	Kind string `json:"kind"`
	Line int    `json:"line,omitempty"`
	From string `json:"from,omitempty"`
	Doc  string `json:"doc,omitempty"`
	// Functions, and __init__ of classes:
	Args    []PyArg `json:"args,omitempty"`
	VarArgs bool    `json:"var_args,omitempty"`
	KwArgs  bool    `json:"kw_args,omitempty"`
	Mapping bool    `json:"mapping,omitempty"` // return annotation is a mapping
	Async   bool    `json:"async,omitempty"`   // async def
	HasInit bool    `json:"has_init,omitempty"`
	// Classes:
	Bases     []string                   `json:"bases,omitempty"` // resolved through the module's imports
	Methods   []string                   `json:"methods,omitempty"`
	Attrs     map[string]json.RawMessage `json:"attrs,omitempty"` // literal class attributes
	SuperKeys []string                   `json:"super_keys,omitempty"`
	SelfAttrs map[string]string          `json:"self_attrs,omitempty"` // self.x = argument
	// Values:
	Value json.RawMessage `json:"value,omitempty"` // if it is a literal
}

// PyArg is one parameter.
type PyArg struct {
	Name    string          `json:"name"`
	KwOnly  bool            `json:"kw_only,omitempty"`
	PosOnly bool            `json:"pos_only,omitempty"`
	Default json.RawMessage `json:"default,omitempty"` // a literal default
	HasDef  bool            `json:"has_default,omitempty"`
}

// PyCall names a function and its arguments (JSON with type tags).
type PyCall struct {
	Module string          `json:"module,omitempty"`
	File   string          `json:"file,omitempty"`
	Name   string          `json:"name"`
	Args   json.RawMessage `json:"args,omitempty"`   // list
	Kwargs json.RawMessage `json:"kwargs,omitempty"` // object
}

// PyResult is a call's outcome: a JSON value, an object of a class that JSON
// cannot carry, or an exception.
type PyResult struct {
	Value   json.RawMessage `json:"value,omitempty"`
	Class   string          `json:"class,omitempty"` // of an object
	Attrs   json.RawMessage `json:"attrs,omitempty"` // its attributes, where they are JSON
	Error   string          `json:"error,omitempty"` // exception class
	Message string          `json:"message,omitempty"`
}

// importPath is import_string: module path and attribute.
func (l *loader) importPath(path string) (*callable, error) {
	module, name := modulePart(path), attrPart(path)
	if !strings.Contains(path, ".") {
		return nil, pyErr("ImportError", "%s doesn't look like a module path", path).hint("expected module.name")
	}
	c := &callable{module: module, attr: name}
	if strings.HasPrefix(path, "airflow.") {
		return c, l.airflowName(c)
	}
	if l.py == nil {
		l.noPython(path)
		return c, nil
	}
	m, err := l.py.Module(module)
	if err != nil {
		l.noPython(path)
		return c, nil
	}
	if !m.Found {
		e := pyErr("ModuleNotFoundError", "No module named '%s'", m.Missing)
		if m.Parent != "" {
			e = pyErr("ModuleNotFoundError", "No module named '%s'; '%s' is not a package", m.Missing, m.Parent)
		}
		return nil, e.hint("looked for %s.py on the Python path of the DAG bundle", strings.ReplaceAll(m.Missing, ".", "/"))
	}
	if m.Error != "" {
		return nil, pyErr("SyntaxError", "%s (%s, line %d)", m.Error, attrPart(strings.ReplaceAll(m.File, "/", "."))+".py", m.Line)
	}
	l.dependOn(m)
	sym, err := l.symbol(m, name, 0)
	if err != nil {
		return nil, err
	}
	if sym == nil && !m.Opaque && !m.Star {
		return nil, pyErr("ImportError", "Module \"%s\" does not define a \"%s\" attribute/class", module, name).hint("%s", suggestSymbol(m, name))
	}
	l.settle(c, m, sym)
	return c, nil
}

// airflowName checks a function or class of Airflow itself, whose sources need
// not be installed where DAG files are parsed.
func (l *loader) airflowName(c *callable) error {
	c.class = c.attr != "" && c.attr[0] >= 'A' && c.attr[0] <= 'Z'
	switch {
	case operatorspec.KnownModule(c.module):
		return nil
	case unknownProvider(c.module):
	default:
		for _, known := range []string{"airflow.sdk.", "airflow.timetables.", "airflow.operators.", "airflow.sensors.", "airflow.decorators.", "airflow.providers."} {
			if strings.HasPrefix(c.module+".", known) {
				return noModule(c.module)
			}
		}
	}
	l.warn("", "", pos{}, "%s is looked up when its task runs, not at load", c.name())
	return nil
}

// importFile is dag-factory's get_python_callable(name, file).
func (l *loader) importFile(name, file value) (*callable, error) {
	path, ok := file.(string)
	if !ok {
		return nil, pyErr("TypeError", "expected str, bytes or os.PathLike object, not %s", typeName(file)).hint("expected the absolute path of a Python file")
	}
	if !strings.HasPrefix(path, "/") {
		return nil, pyErr("DagFactoryException", "`python_callable_file` must be absolute path").hint("found %q; environment variables are expanded: $DAGS_FOLDER/%s", path, path)
	}
	attrName, ok := name.(string)
	if !ok {
		return nil, pyErr("TypeError", "attribute name must be string, not '%s'", typeName(name))
	}
	stem := path[strings.LastIndexByte(path, '/')+1:]
	if i := strings.LastIndexByte(stem, '.'); i > 0 {
		stem = stem[:i]
	}
	c := &callable{module: stem, attr: attrName, file: path}
	if _, err := l.read(path); err != nil {
		return nil, pyErr("FileNotFoundError", "[Errno 2] No such file or directory: '%s'", path)
	}
	if l.py == nil {
		l.noPython(path)
		return c, nil
	}
	m, err := l.py.File(path)
	if err != nil {
		l.noPython(path)
		return c, nil
	}
	if m.Error != "" {
		return nil, pyErr("SyntaxError", "%s (%s, line %d)", m.Error, stem+".py", m.Line)
	}
	l.dependOn(m)
	sym, err := l.symbol(m, attrName, 0)
	if err != nil {
		return nil, err
	}
	if sym == nil && !m.Star {
		return nil, pyErr("AttributeError", "module '%s' has no attribute '%s'", stem, attrName).hint("%s", suggestSymbol(m, attrName))
	}
	l.settle(c, m, sym)
	return c, nil
}

// settle stores what is known of the symbol; a name imported from elsewhere is
// known by where it is defined.
func (l *loader) settle(c *callable, m *PyModule, sym *PySymbol) {
	if sym == nil {
		return
	}
	c.sym, c.class = sym, sym.Kind == PyClass
}

// symbol finds a name of a module, following imports.
func (l *loader) symbol(m *PyModule, name string, depth int) (*PySymbol, error) {
	s, ok := m.Symbols[name]
	if !ok {
		return nil, nil
	}
	if s.Kind != PyImport || depth > 8 {
		return &s, nil
	}
	if strings.HasPrefix(s.From, "airflow.") || l.py == nil {
		return &s, nil
	}
	src, err := l.py.Module(modulePart(s.From))
	if err != nil || !src.Found || src.Error != "" {
		return &s, nil
	}
	l.dependOn(src)
	if t, err := l.symbol(src, attrPart(s.From), depth+1); err != nil || t != nil {
		return t, err
	}
	return &s, nil
}

func suggestSymbol(m *PyModule, name string) string {
	var names []string
	for n, s := range m.Symbols {
		if s.Kind != PyImport {
			names = append(names, n)
		}
	}
	return expectedNames(name, names)
}

func (l *loader) noPython(what string) {
	if !l.warnedPython {
		l.warnedPython = true
		l.warn("", "", pos{}, "python3 was not found: %s and other Python callables are checked when their task runs, not at load", what)
	}
}

// dependOn adds a module's file, and the modules of the bundle it imports, to
// the files of the DAG.
func (l *loader) dependOn(m *PyModule) {
	if m.File == "" || l.depended[m.File] || !l.inBundle(m.File) {
		return
	}
	l.depended[m.File] = true
	l.use(m.File)
	for _, name := range m.Imports {
		if strings.HasPrefix(name, "airflow") || l.py == nil {
			continue
		}
		if sub, err := l.py.Module(name); err == nil && sub.Found {
			l.dependOn(sub)
		}
	}
}

// callSymbol calls a user's class or function named by __type__.
func (l *loader) callSymbol(c *callable, path string, args []value, kw *dict) (value, error) {
	if c.sym != nil && c.sym.Kind == PyClass {
		if err := l.checkInit(c, args, kw); err != nil {
			return nil, err
		}
		return newInstance(&class{path}, args, kw), nil
	}
	if l.py == nil {
		return newInstance(&class{path}, args, kw), nil
	}
	res, err := l.call(c, args, kw)
	if err != nil {
		return nil, err
	}
	if res.Class != "" {
		return newInstance(&class{res.Class}, args, kw), nil
	}
	return fromJSON(res.Value)
}

// call runs a function in the sandbox.
func (l *loader) call(c *callable, args []value, kw *dict) (PyResult, error) {
	a, b := &jsonWriter{}, &jsonWriter{}
	a.free(newList(args...))
	b.plainDict(kw)
	res, err := l.py.Call(PyCall{Module: c.module, File: c.file, Name: c.attr, Args: a.raw(), Kwargs: b.raw()})
	if errors.Is(err, ErrNoPython) {
		return PyResult{}, pyErr("ImportError", "%s has to be called at load, which needs python3", c.name()).hint("install python3 or write the value itself")
	}
	if err != nil {
		return PyResult{}, pyErr("RuntimeError", "calling %s: %v", c.name(), err)
	}
	if res.Error != "" {
		return res, pyErr(res.Error, "%s", res.Message).hint("raised by %s, which the file asks to be called at load", c.name())
	}
	return res, nil
}

// checkInit checks a call of a class against its __init__.
func (l *loader) checkInit(c *callable, args []value, kw *dict) error {
	s := c.sym
	if s == nil || !s.HasInit {
		return nil
	}
	_, _, err := pySignature(c.attr+".__init__", s).bind(args, kw)
	return err
}

func pySignature(name string, s *PySymbol) *signature {
	out := &signature{name: name, varArgs: s.VarArgs, varKw: s.KwArgs}
	for _, a := range s.Args {
		if a.KwOnly {
			out.kwOnly = append(out.kwOnly, a.Name)
			if !a.HasDef {
				out.needKw = append(out.needKw, a.Name)
			}
			continue
		}
		out.pos = append(out.pos, a.Name)
		if !a.HasDef {
			out.minPos = len(out.pos)
		}
	}
	return out
}
