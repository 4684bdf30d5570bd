package operatorspec

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"sort"
	"strings"
	"sync"
)

//go:embed operators.jsonl
var table []byte

//go:embed modules.txt
var moduleList string

// Param is one argument of a constructor.
type Param struct {
	Name     string          `json:"name"`
	Required bool            `json:"required"`
	Default  json.RawMessage `json:"default"` // nil = None or unknown
}

// Spec describes one operator class. Values are JSON, with {"$tuple": […]},
// {"$set": […]} and {"$timedelta": seconds} for what JSON lacks.
type Spec struct {
	Class          string            `json:"class"` // module path + "." + class name
	Bases          []string          `json:"bases"` // provider classes it derives from, nearest first
	Params         []Param           `json:"params"`
	TemplateFields []string          `json:"template_fields"`
	TemplateExt    []string          `json:"template_ext"`
	Renderers      map[string]string `json:"renderers"`
	UIColor        string            `json:"ui_color"`
	UIFgcolor      string            `json:"ui_fgcolor"`
	OperatorName   string            `json:"operator_name"` // "@task.bash"; "" = the class name
	Sensor         bool              `json:"sensor"`
	Empty          bool              `json:"empty"` // an EmptyOperator: needs no worker
	CanSkip        bool              `json:"can_skip_downstream"`
	ExtraLinks     map[string]string `json:"extra_links"`
	// Required lists the arguments that must be given, one list per class of
	// the hierarchy in the order Airflow checks them.
	Required [][]string `json:"required"`
	// FieldValues are the values of template fields whose argument is not given
	// (fields that are then None are left out).
	FieldValues map[string]json.RawMessage `json:"field_values"`
	// FalsyDefault are the arguments for which an empty value means "not given".
	FalsyDefault []string `json:"falsy_default"`
	// SensorValues are poke_interval, timeout, mode, soft_fail, deferrable when not given.
	SensorValues map[string]json.RawMessage `json:"sensor_values"`
	// AttrValues are BaseOperator attributes whose default the class changes.
	AttrValues map[string]json.RawMessage `json:"attr_values"`

	// Decorator rows only: the operator class a decorator function makes.
	Decorator string   `json:"decorator"`
	Operator  string   `json:"operator"`
	Name      string   `json:"name"`
	Named     []string `json:"named"`

	params map[string]*Param
}

// Module returns the import path of the class's module.
func (s *Spec) Module() string {
	m, _ := splitPath(s.Class)
	return m
}

// Type returns the class name.
func (s *Spec) Type() string {
	_, c := splitPath(s.Class)
	return c
}

// FieldValue returns the value of a template field whose argument is not
// given, the class's own or an inherited one.
func (s *Spec) FieldValue(field string) (json.RawMessage, bool) {
	if v, ok := s.FieldValues[field]; ok || s.FieldValues != nil {
		return v, ok
	}
	for _, b := range s.Bases {
		if base, ok := Lookup(b); ok && base.FieldValues != nil {
			v, ok := base.FieldValues[field]
			return v, ok
		}
	}
	return nil, false
}

// Param returns the constructor argument of that name that the class adds to
// BaseOperator's, or nil.
func (s *Spec) Param(name string) *Param { return s.params[name] }

// Derives reports whether the class is, or derives from, the class of that path.
func (s *Spec) Derives(class string) bool {
	if s.Class == class {
		return true
	}
	for _, b := range s.Bases {
		if b == class {
			return true
		}
	}
	return false
}

func splitPath(path string) (module, name string) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

type index struct {
	lines      map[string][]byte // class or decorator path → line
	short      map[string]string // class name → path, "" if ambiguous
	snake      map[string]string // folded class name, also without "operator" → path, "" if ambiguous
	decorators map[string]string // TaskFlow name ("bash") → decorator path
	classes    []string
	modules    map[string]bool
}

var loadIndex = sync.OnceValue(func() *index {
	ix := &index{lines: map[string][]byte{}, short: map[string]string{}, snake: map[string]string{}, decorators: map[string]string{}, modules: map[string]bool{}}
	for _, line := range bytes.Split(table, []byte("\n")) {
		key := quoted(line, 1)
		if key == "" {
			continue
		}
		ix.lines[key] = line
		if bytes.HasPrefix(line, []byte(`{"decorator"`)) {
			if i := bytes.LastIndex(line, []byte(`"name":`)); i >= 0 {
				ix.decorators[quoted(line[i+7:], 0)] = key
			}
			continue
		}
		ix.classes = append(ix.classes, key)
		module, name := splitPath(key)
		ix.modules[module] = true
		if strings.HasPrefix(name, "_") {
			continue
		}
		add := func(m map[string]string, name string) {
			if _, dup := m[name]; dup {
				m[name] = ""
			} else {
				m[name] = key
			}
		}
		add(ix.short, name)
		folded := strings.ToLower(name)
		add(ix.snake, folded)
		if bare, ok := strings.CutSuffix(folded, "operator"); ok && bare != "" {
			add(ix.snake, bare)
		}
	}
	ix.snake["dummy"], ix.snake["sql"] = Empty, SQLExecuteQuery
	for _, m := range strings.Fields(moduleList) {
		for m != "" && !ix.modules[m] {
			ix.modules[m] = true
			m, _ = splitPath(m)
		}
	}
	for old := range legacy {
		m, _ := splitPath(old)
		ix.modules[m] = true
		m, _ = splitPath(m)
		ix.modules[m] = true
	}
	ix.modules["airflow"], ix.modules["airflow.models"] = true, true
	sort.Strings(ix.classes)
	return ix
})

// quoted returns the n-th quoted string after the first key of a compact JSON line.
func quoted(line []byte, n int) string {
	for ; n >= 0; n-- {
		i := bytes.IndexByte(line, '"')
		if i < 0 {
			return ""
		}
		line = line[i+1:]
		j := bytes.IndexByte(line, '"')
		if j < 0 {
			return ""
		}
		if n == 0 {
			return string(line[:j])
		}
		line = line[j+1:]
	}
	return ""
}

var decoded sync.Map // path → *Spec

// Lookup returns the row of a class or decorator by its canonical path.
func Lookup(path string) (*Spec, bool) {
	if s, ok := decoded.Load(path); ok {
		return s.(*Spec), true
	}
	line, ok := loadIndex().lines[path]
	if !ok {
		return nil, false
	}
	s := &Spec{}
	if err := json.Unmarshal(line, s); err != nil {
		panic("operatorspec: operators.jsonl: " + path + ": " + err.Error()) // checked by TestTable
	}
	s.params = make(map[string]*Param, len(s.Params))
	for i := range s.Params {
		s.params[s.Params[i].Name] = &s.Params[i]
	}
	decoded.Store(path, s)
	return s, true
}

// KnownModule reports whether Airflow 3.3 or a provider in the table has a
// Python module of that name.
func KnownModule(module string) bool { return loadIndex().modules[module] }

// Classes returns the paths of all classes in the table, sorted.
func Classes() []string { return loadIndex().classes }

// Indexed returns s ready for Param, for specs that are not of the table.
func (s *Spec) Indexed() *Spec {
	s.params = make(map[string]*Param, len(s.Params))
	for i := range s.Params {
		if s.params[s.Params[i].Name] == nil {
			s.params[s.Params[i].Name] = &s.Params[i]
		}
	}
	return s
}
