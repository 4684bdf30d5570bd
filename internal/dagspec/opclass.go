package dagspec

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
)

func nearest(name string, known []string) string { return operatorspec.Nearest(name, known) }

// opClass is an operator class as a task uses it.
type opClass struct {
	*operatorspec.Spec
	runnable  bool
	unchecked bool // constructor unknown: any argument passes
	custom    bool // a class of the user's Python code
	selfAttrs map[string]string
	notes     []note
	err       error
}

// note is a warning to repeat for every task of the class.
type note struct{ class, text string }

const deprecatedImport = "airflow.utils.deprecation_tools.DeprecatedImportWarning"

// operatorClass resolves the operator key of a task.
func (l *loader) operatorClass(v value) (*opClass, error) {
	path, ok := v.(string)
	if !ok {
		return nil, pyErr("AttributeError", "'%s' object has no attribute 'rsplit'", typeName(v)).hint("operator expects a class path")
	}
	c, ok := l.classes[path]
	if !ok {
		c = &opClass{}
		c.err = l.resolveOperator(path, c)
		l.classes[path] = c
	}
	if c.err != nil {
		var e *pyError
		if errors.As(c.err, &e) {
			copied := *e // callers add their own place
			return nil, &copied
		}
		return nil, c.err
	}
	return c, nil
}

func (l *loader) resolveOperator(path string, c *opClass) error {
	module, name := modulePart(path), attrPart(path)
	if s, spelling, ok := operatorspec.Resolve(path); ok {
		c.Spec, c.runnable = s, operatorspec.Runnable(s.Class)
		switch spelling {
		case operatorspec.Shim:
			c.notes = append(c.notes, note{deprecatedImport, "The `" + path + "` attribute is deprecated. Please use `'" + s.Class + "'`."})
		case operatorspec.Gone, operatorspec.Short:
			if l.opt.Strict {
				if module == "" {
					return pyErr("ImportError", "%s doesn't look like a module path", path).hint("write %s", s.Class)
				}
				return noModule(module).hint("write %s", s.Class)
			}
			c.notes = append(c.notes, note{"", path + " is not an import path of Airflow 3; it counts as " + s.Class})
		}
		if !c.runnable {
			c.notes = append(c.notes, note{"", s.Type() + " is known but a Gust worker cannot run it yet: its tasks will fail when they are dispatched"})
		}
		return nil
	}
	if module == "" {
		return pyErr("ImportError", "%s doesn't look like a module path", path).hint("%s", suggestClass(path))
	}
	if strings.HasPrefix(path, "airflow.") {
		switch {
		case unknownProvider(module):
			c.Spec = &operatorspec.Spec{Class: path, UIColor: "#fff", UIFgcolor: "#000", Sensor: strings.Contains(module, ".sensors.")}
			c.unchecked = true
			c.notes = append(c.notes, note{"", name + " is of a provider Gust does not know: its arguments are not checked and its tasks will fail when they are dispatched"})
			return nil
		case operatorspec.KnownModule(module):
			return pyErr("ImportError", "Module \"%s\" does not define a \"%s\" attribute/class", module, name).hint("%s", suggestClass(path))
		}
		return noModule(module).hint("%s", suggestClass(path))
	}
	fn, err := l.importPath(path)
	if err != nil {
		var e *pyError
		if errors.As(err, &e) && e.class == "ModuleNotFoundError" {
			if s := suggestClass(path); s != "" {
				return e.hint("%s", s)
			}
		}
		return err
	}
	c.custom, c.runnable = true, true
	if fn.sym == nil {
		c.Spec, c.unchecked = &operatorspec.Spec{Class: path, UIColor: "#fff", UIFgcolor: "#000"}, true
		return nil
	}
	if fn.sym.Kind != PyClass {
		return pyErr("TypeError", "issubclass() arg 1 must be a class").hint("%s is a %s, not an operator class", path, fn.sym.Kind)
	}
	return l.customClass(path, fn.sym, c, 0)
}

func suggestClass(path string) string {
	if s := operatorspec.Suggest(path); s != "" {
		return "did you mean " + s + "?"
	}
	return "expected the import path of an operator class, such as airflow.providers.standard.operators.bash.BashOperator"
}

// customClass derives a spec from the source of a user's operator.
func (l *loader) customClass(path string, sym *PySymbol, c *opClass, depth int) error {
	s := &operatorspec.Spec{Class: path, UIColor: "#fff", UIFgcolor: "#000"}
	known := false
	for _, b := range sym.Bases {
		switch b {
		case "airflow.sdk.BaseOperator", "airflow.models.BaseOperator", "airflow.models.baseoperator.BaseOperator", "airflow.sdk.bases.operator.BaseOperator":
			known = true
			continue
		case "airflow.sdk.BaseSensorOperator", "airflow.sensors.base.BaseSensorOperator", "airflow.sdk.bases.sensor.BaseSensorOperator":
			known = true
			sensor, _ := operatorspec.Lookup(operatorspec.PythonSensor)
			s.Sensor, s.UIColor, s.SensorValues = true, sensor.UIColor, sensor.SensorValues
			for _, p := range sensor.Params {
				switch p.Name {
				case "python_callable", "op_args", "op_kwargs", "templates_dict":
				default:
					s.Params = append(s.Params, p)
				}
			}
			continue
		case "airflow.sdk.BaseBranchOperator", "airflow.sdk.bases.branch.BaseBranchOperator", "airflow.operators.branch.BaseBranchOperator":
			known = true
			s.CanSkip = true
			continue
		}
		if strings.HasSuffix(b, ".SkipMixin") {
			s.CanSkip = true
			continue
		}
		var base *operatorspec.Spec
		if bs, _, ok := operatorspec.Resolve(b); ok {
			base = bs
		} else if !strings.HasPrefix(b, "airflow.") && depth < 16 {
			sub := &opClass{}
			m, err := l.importPath(b)
			if err != nil || m.sym == nil || m.sym.Kind != PyClass {
				c.unchecked = true
				continue
			}
			if l.customClass(b, m.sym, sub, depth+1) == nil {
				base = sub.Spec
				c.unchecked = c.unchecked || sub.unchecked
				if c.selfAttrs == nil {
					c.selfAttrs = sub.selfAttrs
				}
			}
		} else {
			c.unchecked = true // a mixin or base of Airflow that is not in the table
			known = true
			continue
		}
		if base != nil {
			known = true
			inherit(s, base)
		}
	}
	if !known && !c.unchecked {
		return pyErr("TypeError", "%s is not an operator: it does not derive from BaseOperator", path)
	}
	if raw, ok := sym.Attrs["template_fields"]; ok {
		var fields []string
		if json.Unmarshal(raw, &fields) == nil {
			s.TemplateFields = fields
		}
	}
	if raw, ok := sym.Attrs["template_ext"]; ok {
		var ext []string
		if json.Unmarshal(raw, &ext) == nil {
			s.TemplateExt = ext
		}
	}
	str := func(name string, dst *string) {
		if raw, ok := sym.Attrs[name]; ok {
			_ = json.Unmarshal(raw, dst) // not text: keep the inherited one
		}
	}
	str("ui_color", &s.UIColor)
	str("ui_fgcolor", &s.UIFgcolor)
	str("custom_operator_name", &s.OperatorName)
	if sym.HasInit {
		var own []operatorspec.Param
		var required []string
		mine := map[string]bool{}
		for _, a := range sym.Args {
			mine[a.Name] = true
			own = append(own, operatorspec.Param{Name: a.Name, Required: !a.HasDef, Default: a.Default})
			if !a.HasDef && a.Name != "task_id" {
				required = append(required, a.Name)
			}
		}
		given := map[string]bool{}
		for _, k := range sym.SuperKeys {
			given[k] = true
		}
		if sym.KwArgs {
			for _, p := range s.Params {
				if !mine[p.Name] && !given[p.Name] {
					own = append(own, p)
				}
			}
		} else {
			c.unchecked = false
		}
		var levels [][]string
		if required != nil {
			levels = append(levels, required)
		}
		for _, l := range s.Required {
			var keep []string
			for _, n := range l {
				if !given[n] && !mine[n] {
					keep = append(keep, n)
				}
			}
			if keep != nil {
				levels = append(levels, keep)
			}
		}
		s.Params, s.Required = own, levels
		if len(sym.SelfAttrs) > 0 {
			c.selfAttrs = sym.SelfAttrs
		}
	}
	c.Spec = s.Indexed()
	return nil
}

// inherit copies a base's facts that s does not have yet.
func inherit(s, base *operatorspec.Spec) {
	s.Params = append(s.Params, base.Params...)
	s.Required = append(s.Required, base.Required...)
	if s.TemplateFields == nil {
		s.TemplateFields, s.Renderers, s.FieldValues, s.FalsyDefault = base.TemplateFields, base.Renderers, base.FieldValues, base.FalsyDefault
	}
	if s.TemplateExt == nil {
		s.TemplateExt = base.TemplateExt
	}
	s.UIColor, s.UIFgcolor = base.UIColor, base.UIFgcolor
	s.Sensor, s.CanSkip, s.Empty = s.Sensor || base.Sensor, s.CanSkip || base.CanSkip, s.Empty || base.Empty
	if s.SensorValues == nil {
		s.SensorValues = base.SensorValues
	}
	if base.Class != "" {
		s.Bases = append(append(s.Bases, base.Class), base.Bases...)
	}
}

// decoratorClass resolves the decorator key of a task.
func (l *loader) decoratorClass(v value) (*opClass, error) {
	path, ok := v.(string)
	if !ok {
		return nil, pyErr("AttributeError", "'%s' object has no attribute 'rsplit'", typeName(v)).hint("decorator expects a path such as airflow.sdk.task")
	}
	module, name := modulePart(path), attrPart(path)
	s, spelling, attribute, ok := operatorspec.ResolveDecorator(path)
	c := &opClass{Spec: s}
	switch {
	case ok && !attribute && spelling == operatorspec.Current:
	case ok && spelling == operatorspec.Shim && !attribute:
		c.notes = append(c.notes, note{deprecatedImport, "The `" + path + "` attribute is deprecated. Please use `'airflow.sdk.task'`."})
	case ok && !l.opt.Strict:
		c.notes = append(c.notes, note{"", "dag-factory cannot import the decorator " + path + "; Gust takes it for " + s.OperatorName})
	case module == "":
		return nil, pyErr("ImportError", "%s doesn't look like a module path", path).hint("expected airflow.sdk.task")
	case operatorspec.KnownModule(module):
		if name == "setup" || name == "teardown" {
			return nil, pyErr("TypeError", "%s_task() got an unexpected keyword argument 'python_callable'", name).
				hint("mark the task with is_%s: true", name)
		}
		return nil, pyErr("ImportError", "Module \"%s\" does not define a \"%s\" attribute/class", module, name).hint("expected airflow.sdk.task")
	case strings.HasPrefix(path, "airflow."):
		return nil, noModule(module).hint("expected airflow.sdk.task or the path of a decorator function")
	default:
		if _, err := l.importPath(path); err != nil {
			return nil, err
		}
		c.Spec, _ = operatorspec.Lookup(operatorspec.DecoratedPython)
		c.unchecked = true
		c.notes = append(c.notes, note{"", path + " is a decorator of your own: Gust treats its tasks as @task"})
	}
	c.runnable = operatorspec.Runnable(c.Class)
	if !c.runnable {
		c.notes = append(c.notes, note{"", c.OperatorName + " is known but a Gust worker cannot run it yet: its tasks will fail when they are dispatched"})
	}
	return c, nil
}
