package dagspec

import (
	"encoding/json"
	"regexp"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
)

// alwaysPartial are the arguments that partial() always fills, so that they
// cannot be mapped (OPERATOR_DEFAULTS and the task's own place).
var alwaysPartial = map[string]bool{"allow_nested_operators": true, "depends_on_past": true, "email_on_failure": true, "email_on_retry": true,
	"execution_timeout": true, "executor_config": true, "ignore_first_depends_on_past": true, "inlets": true, "map_index_template": true,
	"on_execute_callback": true, "on_failure_callback": true, "on_retry_callback": true, "on_skipped_callback": true, "on_success_callback": true,
	"outlets": true, "owner": true, "pool_slots": true, "priority_weight": true, "queue": true, "retries": true, "retry_delay": true,
	"retry_exponential_backoff": true, "retry_policy": true, "trigger_rule": true, "wait_for_past_depends_before_skipping": true,
	"wait_for_downstream": true, "weight_rule": true, "task_id": true, "dag": true, "task_group": true, "max_retry_delay": true}

// mapOperator checks Operator.partial(**kwargs).expand(**expand).
func (t *task) mapOperator(expand *dict) {
	t.mapped, t.expand = true, expand
	own := t.ownParams()
	if !t.class.unchecked {
		for _, e := range t.kwargs.entries {
			if n, ok := e.key.(string); !ok || !t.accepts(n) {
				t.d.report(pyErr("TypeError", "%s.partial() got an unexpected keyword argument %s", t.class.Type(), pyRepr(e.key)).
					hint("%s", nearestHint(pyStr(e.key), t.knownNames())), t.field+".partial."+pyStr(e.key), t.keyPos(pyStr(e.key)))
			}
		}
	}
	t.setID()
	authored := map[string]bool{}
	for _, k := range t.kwargs.keys() {
		authored[k] = true
	}
	defs := t.defaults()
	for _, e := range defs.entries {
		if n, ok := e.key.(string); ok && operatorspec.IsBaseParam(n) && n != "params" && t.kwargs.find(n) < 0 {
			t.kwargs.set(e)
		}
	}
	t.configured(defs)
	t.mappedBase(own)
	for _, e := range expand.entries {
		n, ok := e.key.(string)
		at := e.kpos
		switch {
		case !ok || !t.class.unchecked && !t.accepts(n):
			t.d.report(pyErr("TypeError", "%s.expand() got an unexpected keyword argument %s", t.class.Type(), pyRepr(e.key)).
				hint("%s", nearestHint(pyStr(e.key), t.knownNames())), t.field+".expand."+pyStr(e.key), at)
		case !mappable(e.val):
			t.d.report(pyErr("ValueError", "%s.expand() got an unexpected type '%s' for keyword argument %s", t.class.Type(), typeName(e.val), n).
				hint("expected a list, a mapping or the output of an earlier task: task_id.output"), t.field+".expand."+n, e.vpos)
		case alwaysPartial[n] || authored[n]:
			t.d.report(pyErr("TypeError", "unmappable or already specified argument: %s", n), t.field+".expand."+n, at)
		}
	}
	t.eachExpandKwarg(func(e entry) {
		switch n := pyStr(e.key); {
		case !t.class.unchecked && !t.accepts(n):
			t.d.report(pyErr("TypeError", "%s.expand_kwargs() got an unexpected keyword argument %s", t.class.Type(), pyRepr(e.key)).
				hint("%s", nearestHint(n, t.knownNames())), t.field+".expand_kwargs."+n, e.kpos)
		case alwaysPartial[n] || authored[n]:
			t.d.report(pyErr("TypeError", "unmappable or already specified argument: %s", n), t.field+".expand_kwargs."+n, e.kpos)
		}
	})
	t.checkReturnValues(expand)
	t.partial = &dict{}
	for _, e := range t.kwargs.entries {
		if n, ok := e.key.(string); !ok || !operatorspec.IsBaseParam(n) || t.class.Param(n) != nil && !alwaysPartial[n] {
			t.partial.set(e)
		}
	}
}

// mappedBase checks the BaseOperator arguments of a mapped task; their types
// are not checked before the task is unmapped.
func (t *task) mappedBase(own value) {
	for _, e := range t.kwargs.entries {
		if n, ok := e.key.(string); ok && operatorspec.IsBaseParam(n) {
			t.attrs[n] = e.val
		}
	}
	t.start, t.end = t.date("start_date"), t.date("end_date")
	t.poolSlots()
	if truthy(t.kwargs.get("retries")) || t.decorated {
		t.retries()
	}
	t.delay("retry_delay")
	t.delay("max_retry_delay")
	if truthy(t.attrs["wait_for_downstream"]) && (t.decorated || !t.d.opt.Strict) {
		t.attrs["depends_on_past"] = true
	}
	if t.teardown {
		t.attrs["trigger_rule"] = "all_done_setup_success"
	}
	t.setParams(own)
	if r, ok := t.attrs["trigger_rule"]; ok {
		if s, isText := r.(string); !isText || !contains(triggerRules, s) {
			t.fail(pyErr("ValueError", "'%s' is not a valid TriggerRule", pyStr(r)).hint("%s", nearestHint(pyStr(r), triggerRules)), "trigger_rule")
		}
	}
	for _, k := range []string{"priority_weight", "pool_slots", "max_active_tis_per_dag", "max_active_tis_per_dagrun", "retries"} {
		if v, ok := t.attrs[k]; ok && !typeOK(v, operatorspec.Int) {
			t.fail(pyErr("TypeError", "'%s' for task '%s' expects <class 'int'>, got %s with value %s", k, t.id, classRepr(v), pyRepr(v)), k)
		}
	}
	for _, k := range []string{"owner", "queue", "pool", "executor", "weight_rule", "map_index_template"} {
		if v, ok := t.attrs[k]; ok && v != nil && !typeOK(v, operatorspec.Str) {
			t.fail(pyErr("TypeError", "'%s' for task '%s' expects <class 'str'>, got %s with value %s", k, t.id, classRepr(v), pyRepr(v)), k)
		}
	}
}

func mappable(v value) bool {
	switch v.(type) {
	case *list, *tuple, *dict, *xcomArg, *xcomOp:
		return true
	}
	return false
}

// checkReturnValues refuses to map over anything but return values.
func (t *task) checkReturnValues(expand *dict) {
	for _, e := range expand.entries {
		t.d.checkReturnValue(e.val, t.field+".expand."+pyStr(e.key), e.vpos)
	}
	t.d.checkReturnValue(t.expandKwargs, t.field+".expand_kwargs", t.keyPos("expand_kwargs"))
}

// contextKeys are the names a decorated function may ask the context for.
var contextKeys = map[string]bool{"conn": true, "dag": true, "dag_run": true, "data_interval_end": true, "data_interval_start": true, "outlet_events": true,
	"ds": true, "ds_nodash": true, "expanded_ti_count": true, "exception": true, "inlets": true, "inlet_events": true, "logical_date": true, "macros": true,
	"map_index_template": true, "outlets": true, "params": true, "prev_data_interval_start_success": true, "prev_data_interval_end_success": true,
	"prev_start_date_success": true, "prev_end_date_success": true, "reason": true, "run_id": true, "start_date": true, "task": true,
	"task_reschedule_count": true, "task_instance": true, "task_instance_key_str": true, "templates_dict": true, "test_mode": true, "ti": true,
	"triggering_asset_events": true, "ts": true, "ts_nodash": true, "ts_nodash_with_tz": true, "var": true, "try_number": true}

// decorator builds a TaskFlow task.
func (t *task) decorator(kw *dict) {
	d := t.d
	t.decorated = true
	var fn *callable
	var err error
	key := "python_callable"
	switch {
	case kw.entry("python_callable_name") != nil && kw.entry("python_callable_file") != nil:
		key = "python_callable_file"
		fn, err = d.importFile(kw.get("python_callable_name"), kw.get("python_callable_file"))
		kw.del("python_callable_name")
		kw.del("python_callable_file")
	case kw.entry("python_callable") != nil:
		s, ok := kw.get("python_callable").(string)
		if c, byYAML := kw.get("python_callable").(*callable); byYAML {
			s, ok = c.name(), true
		}
		if !ok {
			err = pyErr("AttributeError", "'%s' object has no attribute 'rsplit'", typeName(kw.get("python_callable")))
			break
		}
		fn, err = d.importPath(s)
	default:
		err = pyErr("DagFactoryException", "Failed to create task. Decorator-based tasks require                 `python_callable_name` and `python_callable_file` parameters.\nOptionally you can load python_callable from a file. with the special pyyaml notation:\n  python_callable: !!python/name:my_module.my_func").
			hint("add python_callable: with an import path")
		key = "decorator"
	}
	if err != nil {
		t.fail(err, key)
		return
	}
	if fn.sym != nil && fn.sym.Kind == PyValue {
		t.fail(pyErr("TypeError", "unsupported callable").hint("%s is not a function", fn.name()), key)
		return
	}
	t.callable = fn
	kw.del("python_callable")
	c, err := d.decoratorClass(kw.get("decorator"))
	if err != nil {
		t.fail(err, "decorator")
		return
	}
	t.class = c
	t.notes("decorator")
	kw.del("decorator")
	t.general(kw)
	call, rest := t.splitCall(kw)
	if call == nil {
		return
	}
	expand, partial := mapArg(rest, "expand"), mapArg(rest, "partial")
	if expand == nil || partial == nil {
		bad := "expand"
		if expand != nil {
			bad = "partial"
		}
		t.fail(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(kw.get(bad))).hint("%s expects a mapping", bad), bad)
		return
	}
	t.kwargs = rest
	t.kwargs.put("python_callable", fn)
	t.multiple = fn.sym != nil && fn.sym.Mapping
	if v, ok := rest.lookup("multiple_outputs"); ok {
		if v != nil {
			t.multiple = truthy(v)
		}
		rest.del("multiple_outputs")
	}
	if !t.factoryTypes() {
		return
	}
	switch {
	case len(expand.entries) > 0 || t.expandKwargs != nil:
		if len(partial.entries) > 0 && len(call.entries) > 0 {
			t.fail(pyErr("DagFactoryConfigException", "When using dynamic task mapping, all the task arguments should be defined in expand and partial."), "expand")
			return
		}
		if len(partial.entries) == 0 && len(call.entries) > 0 && !d.opt.Strict {
			t.d.warn("", t.field, t.at, "%s: with expand and no partial, dag-factory ignores call arguments at task level", strings.Join(call.keys(), ", "))
		}
		if !t.substitute(expand, "expand") || !t.substitute(partial, "partial") {
			return
		}
		t.mapDecorated(expand, partial)
	default:
		t.callDecorated(call)
	}
}

func mapArg(kw *dict, key string) *dict {
	v, ok := kw.lookup(key)
	kw.del(key)
	if !ok || !truthy(v) {
		return &dict{}
	}
	m, _ := v.(*dict)
	return m
}

// splitCall parts the arguments of the function from those of the decorator.
func (t *task) splitCall(kw *dict) (call, rest *dict) {
	call, rest = &dict{}, &dict{}
	isArg := func(name string) bool {
		if t.callable.sym == nil {
			return !operatorspec.IsBaseParam(name) && t.class.Param(name) == nil && name != "expand" && name != "partial" && name != "multiple_outputs"
		}
		for _, a := range t.callable.sym.Args {
			if a.Name == name {
				return !a.KwOnly || !t.d.opt.Strict
			}
		}
		return false
	}
	for _, e := range kw.entries {
		name, ok := e.key.(string)
		if !ok || !isArg(name) {
			rest.set(e)
			continue
		}
		v, err := t.xcomRef(e.val)
		if err != nil {
			t.d.report(err, t.field+"."+name, e.vpos)
			return nil, nil
		}
		e.val = v
		call.set(e)
	}
	return call, rest
}

var taskRef = regexp.MustCompile(`^\+([\p{L}\p{N}_]*)(\[['"](.*)['"]\])?$`)

// xcomRef turns "+task" and "+task['key']" into the task's output.
func (t *task) xcomRef(v value) (value, error) {
	s, ok := v.(string)
	if !ok {
		return v, nil
	}
	m := taskRef.FindStringSubmatch(s)
	if m == nil {
		return v, nil
	}
	src := t.d.byKey[m[1]]
	if src != nil && src.class == nil || src != nil && src.id == "" {
		return v, nil // its own problem is reported
	}
	if src == nil || t.d.opt.Strict && !src.decorated && src.id != m[1] {
		return nil, pyErr("KeyError", "'%s'", m[1]).hint("no earlier task of that name; list it in dependencies so that it is made first")
	}
	key := m[3]
	if t.d.opt.Strict && !src.decorated {
		if key != "" {
			return nil, pyErr("TypeError", "'%s' object is not subscriptable", src.class.Type())
		}
		return &operatorArg{src}, nil
	}
	if key == "" {
		key = "return_value"
	}
	return &xcomArg{src, key}, nil
}

func (t *task) substitute(m *dict, what string) bool {
	for i := range m.entries {
		v, err := t.xcomRef(m.entries[i].val)
		if err != nil {
			t.d.report(err, t.field+"."+what+"."+pyStr(m.entries[i].key), m.entries[i].vpos)
			return false
		}
		m.entries[i].val = v
	}
	return true
}

// factoryTypes is the decorator's own check of argument types.
func (t *task) factoryTypes() bool {
	ok := true
	for _, p := range operatorspec.BaseParams() {
		if p.Type == operatorspec.Any {
			break
		}
		v := t.kwargs.get(p.Name)
		if v == nil || typeOK(v, p.Type) {
			continue
		}
		t.fail(pyErr("TypeError", "Expected '%s' to be %s, got %s: %s", p.Name, typeRepr(p.Type), typeName(v), pyRepr(v)), p.Name)
		ok = false
	}
	return ok
}

// bindCall checks the call against the function's signature.
func (t *task) bindCall(kwargs *dict, partially bool) error {
	s := t.callable.sym
	if s == nil || s.Kind != PyFunction {
		return nil
	}
	known := map[string]bool{}
	var missing string
	var names []string
	for _, a := range s.Args {
		known[a.Name] = true
		names = append(names, a.Name)
		if contextKeys[a.Name] && a.HasDef && len(a.Default) > 0 && string(a.Default) != "null" {
			return pyErr("ValueError", "Context key parameter %s can't have a default other than None", a.Name)
		}
		if !partially && missing == "" && !a.HasDef && !contextKeys[a.Name] && kwargs.entry(a.Name) == nil {
			missing = a.Name
		}
	}
	if missing != "" {
		return pyErr("TypeError", "missing a required argument: '%s'", missing).hint("%s takes %s", t.callable.name(), strings.Join(names, ", "))
	}
	if !s.KwArgs {
		for _, e := range kwargs.entries {
			if n := pyStr(e.key); !known[n] {
				return pyErr("TypeError", "got an unexpected keyword argument '%s'", n).hint("%s", expectedNames(n, names)).in(t.field+"."+n, e.kpos)
			}
		}
	}
	return nil
}

// callDecorated is decorator(**kwargs)(**call).
func (t *task) callDecorated(call *dict) {
	own := t.ownParams()
	defs := t.defaults()
	if s := t.callable.sym; s != nil {
		for _, a := range s.Args {
			if e := defs.entry(a.Name); e != nil && call.entry(a.Name) == nil {
				call.set(*e)
			}
		}
	}
	for _, e := range defs.entries {
		if n, ok := e.key.(string); ok && t.kwargs.find(n) < 0 && n != "params" && t.accepts(n) {
			t.kwargs.set(e)
		}
	}
	t.configured(defs)
	if err := t.bindCall(call, false); err != nil {
		t.fail(err, "python_callable")
		return
	}
	var opArgs value = &list{}
	if t.class.Derives(operatorspec.Python) {
		opArgs = &tuple{}
	}
	t.kwargs.put("op_args", opArgs)
	t.kwargs.put("op_kwargs", call)
	t.decoratedUnknown()
	t.setID()
	t.baseArguments(own)
	if t.class.Sensor {
		t.sensorArguments()
	}
	t.docString()
}

// decoratedUnknown reports arguments that neither function nor operator take.
func (t *task) decoratedUnknown() {
	if t.callable.sym != nil && !t.class.unchecked {
		t.unknownArguments()
	}
}

// docString makes the function's docstring the task's documentation.
func (t *task) docString() {
	for _, k := range docNames {
		if truthy(t.attrs[k]) {
			return
		}
	}
	if s := t.callable.sym; s != nil && s.Doc != "" {
		t.attrs["doc_md"] = s.Doc
	}
}

var docNames = []string{"doc", "doc_md", "doc_json", "doc_yaml", "doc_rst"}

// mapDecorated is decorator(**kwargs).partial(**partial).expand(**expand).
func (t *task) mapDecorated(expand, partial *dict) {
	t.mapped, t.expand = true, expand
	own := t.ownParams()
	for what, m := range map[string]*dict{"partial": partial, "expand": expand} {
		var bad []string
		for _, k := range m.keys() {
			if contextKeys[k] {
				bad = append(bad, k)
			}
		}
		sort.Strings(bad)
		if len(bad) == 1 {
			t.d.report(pyErr("ValueError", "cannot call %s() on task context variable '%s'", what, bad[0]), t.field+"."+what, m.at(bad[0]))
			return
		} else if bad != nil {
			t.d.report(pyErr("ValueError", "cannot call %s() on task context variables %s", what, "'"+strings.Join(bad, "', '")+"'"), t.field+"."+what, m.at(bad[0]))
			return
		}
	}
	for _, e := range expand.entries {
		if !mappable(e.val) {
			t.d.report(pyErr("ValueError", "expand() got an unexpected type '%s' for keyword argument '%s'", typeName(e.val), pyStr(e.key)).
				hint("expected a list, a mapping or +task"), t.field+".expand."+pyStr(e.key), e.vpos)
			return
		}
		if r := t.kwargs.get("trigger_rule"); r == "always" {
			if _, ok := e.val.(*xcomArg); ok {
				t.d.report(pyErr("ValueError", "Task-generated mapping within a task using 'expand' is not allowed with trigger rule 'always'."), t.field+".trigger_rule", t.keyPos("trigger_rule"))
				return
			}
		}
		if partial.entry(pyStr(e.key)) != nil {
			t.d.warn("", t.field+".expand."+pyStr(e.key), e.kpos, "%s stands in partial as well: the mapped values win", pyStr(e.key))
		}
	}
	if s := t.callable.sym; s != nil && !s.KwArgs {
		for what, m := range map[string]*dict{"expand": expand, "partial": partial} {
			for _, e := range m.entries {
				known := false
				var names []string
				for _, a := range s.Args {
					names = append(names, a.Name)
					known = known || a.Name == pyStr(e.key)
				}
				if !known {
					t.d.report(pyErr("TypeError", "%s() got an unexpected keyword argument '%s'", what, pyStr(e.key)).hint("%s", expectedNames(pyStr(e.key), names)),
						t.field+"."+what+"."+pyStr(e.key), e.kpos)
				}
			}
		}
	}
	t.eachExpandKwarg(func(e entry) {
		n := pyStr(e.key)
		if contextKeys[n] {
			t.d.report(pyErr("ValueError", "cannot call expand_kwargs() on task context variable '%s'", n), t.field+".expand_kwargs."+n, e.kpos)
		}
		if s := t.callable.sym; s != nil && !s.KwArgs {
			known, names := false, []string(nil)
			for _, a := range s.Args {
				names, known = append(names, a.Name), known || a.Name == n
			}
			if !known {
				t.d.report(pyErr("TypeError", "expand_kwargs() got an unexpected keyword argument '%s'", n).hint("%s", expectedNames(n, names)), t.field+".expand_kwargs."+n, e.kpos)
			}
		}
	})
	t.checkReturnValues(expand)
	t.decoratedUnknown()
	defs := t.defaults()
	for _, e := range defs.entries {
		if n, ok := e.key.(string); ok && operatorspec.IsBaseParam(n) && n != "params" && n != "do_xcom_push" && t.kwargs.find(n) < 0 {
			t.kwargs.set(e)
		}
	}
	t.configured(defs)
	t.setID()
	t.mappedBase(own)
	t.partial = &dict{}
	for _, e := range t.kwargs.entries {
		if n, ok := e.key.(string); ok && n != "python_callable" && !operatorspec.IsBaseParam(n) {
			t.partial.set(e)
		}
	}
	t.partial.put("op_args", &list{})
	t.partial.put("op_kwargs", partial)
}

// pythonJSON is json.dumps(v).
func pythonJSON(v value) (string, error) {
	if !jsonable(v) {
		return "", pyErr("TypeError", "Object of type %s is not JSON serializable", firstUnserializable(v))
	}
	w := &jsonWriter{python: true}
	w.plain(v)
	return string(w.raw()), nil
}

func firstUnserializable(v value) string {
	switch v := v.(type) {
	case *dict:
		for _, e := range v.entries {
			if !jsonable(e.val) {
				return firstUnserializable(e.val)
			}
		}
	case *list:
		for _, it := range v.items {
			if !jsonable(it.val) {
				return firstUnserializable(it.val)
			}
		}
	}
	return typeName(v)
}

// jsonErrorText gives Python's wording for the start of a syntax error.
func jsonErrorText(s string) string {
	var x any
	err := json.Unmarshal([]byte(s), &x)
	at := int64(0)
	if e, ok := err.(*json.SyntaxError); ok {
		at = max(e.Offset-1, 0)
	}
	trim := strings.TrimLeft(s, " \t\r\n")
	what := "Expecting value"
	if strings.HasPrefix(trim, "{") && int(at) < len(s) && s[at] != '"' && at <= int64(len(s)-len(trim)+1) {
		what = "Expecting property name enclosed in double quotes"
	}
	line := strings.Count(s[:at], "\n") + 1
	col := int(at) - strings.LastIndexByte(s[:at], '\n')
	return what + ": line " + pyStr(int64(line)) + " column " + pyStr(int64(col)) + " (char " + pyStr(at) + ")"
}
