package dagspec

import (
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
)

// task is one task on its way into the document.
type task struct {
	d         *dagBuild
	name      value // as authored, without the group's prefix
	id        string
	field     string
	at        pos
	cfg       *dict // as authored
	group     *group
	class     *opClass
	decorated bool
	kwargs    *dict // constructor arguments, default_args folded in
	given     *dict // kwargs as authored, for places
	attrs     map[string]value
	callable  *callable
	multiple  bool
	params    []param // of the task itself

	mapped       bool
	expand       *dict
	expandKwargs value // in place of expand: a list of mappings, or an output
	partial      *dict // mapped: fixed arguments that are not BaseOperator's

	setup, teardown, failRun bool

	up, down map[*task]bool
	start    *datetime
	end      *datetime
}

func (t *task) keyPos(key string) pos {
	for _, m := range []*dict{t.given, t.cfg} {
		if m != nil {
			if p := m.at(key); p.known() {
				return p
			}
		}
	}
	if p := t.d.defaultArgs.at(key); p.known() {
		return p
	}
	return t.at
}

func (t *task) fail(err error, key string) {
	t.d.report(err, join(t.field, key), t.keyPos(key))
}

// text returns a text attribute or its default.
func (t *task) text(name, def string) string {
	if s, ok := t.attrs[name].(string); ok {
		return s
	}
	return def
}

// makeTasks creates the tasks in topological order of their dependencies.
func (d *dagBuild) makeTasks(cfg *dict) {
	if n := len(cfg.entries); n > d.limits.Tasks {
		d.fail(pyErr("ValueError", "the DAG has %d tasks: at most %d are loaded", n, d.limits.Tasks), "tasks")
		return
	}
	for _, e := range d.sortTasks(cfg) {
		d.makeTask(e)
	}
	d.mapGroups()
	d.unusedDefaults()
}

// sortTasks orders tasks as dag-factory does (Kahn, first in first out; group
// names among the dependencies do not count).
func (d *dagBuild) sortTasks(cfg *dict) []entry {
	index := map[string]int{}
	var tasks []entry
	for _, e := range cfg.entries {
		if _, ok := e.val.(*dict); !ok {
			d.report(pyErr("AttributeError", "'%s' object has no attribute 'get'", typeName(e.val)).hint("a task is a mapping with operator or decorator"),
				d.field+".tasks."+pyStr(e.key), e.kpos)
			continue
		}
		index[keyOf(e.key)] = len(tasks)
		tasks = append(tasks, e)
	}
	children, degree := make([][]int, len(tasks)), make([]int, len(tasks))
	for i, e := range tasks {
		m := e.val.(*dict)
		v, ok := m.lookup("dependencies")
		if !ok {
			continue
		}
		deps, err := iterate(v)
		if err != nil {
			d.report(err.hint("dependencies expects a list of task ids and group names"), d.field+".tasks."+pyStr(e.key)+".dependencies", m.at("dependencies"))
			continue
		}
		for _, x := range deps {
			if j, ok := index[keyOf(x)]; ok {
				children[j] = append(children[j], i)
				degree[i]++
			}
		}
	}
	var queue []int
	for i := range tasks {
		if degree[i] == 0 {
			queue = append(queue, i)
		}
	}
	var out []entry
	done := make([]bool, len(tasks))
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		done[i] = true
		out = append(out, tasks[i])
		for _, c := range children[i] {
			if degree[c]--; degree[c] == 0 {
				queue = append(queue, c)
			}
		}
	}
	if len(out) != len(tasks) {
		var ids []string
		at := d.at
		for i, e := range tasks {
			if !done[i] {
				if ids == nil {
					if p := e.val.(*dict).at("dependencies"); p.known() {
						at = p
					}
				}
				ids = append(ids, pyStr(e.key))
			}
		}
		d.report(pyErr("ValueError", "Cycle detected in task dependencies!").hint("among %s", strings.Join(ids, ", ")), d.field+".tasks", at)
		return nil
	}
	return out
}

func (d *dagBuild) makeTask(e entry) {
	cfg := e.val.(*dict)
	t := &task{d: d, name: e.key, field: d.field + ".tasks." + pyStr(e.key), at: e.kpos, cfg: cfg, group: d.root, attrs: map[string]value{},
		up: map[*task]bool{}, down: map[*task]bool{}}
	before := len(d.problems)
	if len(d.groups) > 0 && truthy(cfg.get("task_group_name")) {
		g, ok := d.byName[pyStr(cfg.get("task_group_name"))]
		switch {
		case !ok:
			var names []string
			for n := range d.byName {
				names = append(names, n)
			}
			t.fail(pyErr("KeyError", "%s", pyRepr(cfg.get("task_group_name"))).hint("no task group of that name; %s", expectedNames(pyStr(cfg.get("task_group_name")), names)), "task_group_name")
			return
		case g == nil:
			return // reported with the group
		}
		t.group = g
	} else if n := cfg.get("task_group_name"); truthy(n) {
		d.warn("", t.field+".task_group_name", cfg.at("task_group_name"), "there is no task group %s: the task stands outside of groups", pyRepr(n))
	}
	kw := &dict{}
	for _, x := range cfg.entries {
		switch x.key {
		case "operator", "dependencies", "task_group_name", "parent_group_name", "task_id", "dag", "task_group":
		default:
			kw.set(x)
		}
	}
	kw = deepCopy(kw).(*dict)
	t.given = kw
	if !d.opt.Strict {
		d.oldSeconds(kw, t.field)
		t.setupKeys(kw)
		t.mwaaParameters(kw)
		if !t.mappingKeys(kw) {
			d.byKey[pyStr(e.key)] = t
			return
		}
	}
	if _, ok := cfg.lookup("operator"); ok {
		t.operator(kw)
	} else if _, ok := cfg.lookup("decorator"); ok {
		t.decorator(kw)
	} else {
		t.fail(pyErr("DagFactoryConfigException", "Tasks must define either 'operator' or 'decorator").hint("add operator: with a class path"), "")
		return
	}
	if len(d.problems) > before {
		d.byKey[pyStr(e.key)] = t // so that dependencies on it are not reported as well
		return
	}
	d.byKey[pyStr(e.key)] = t
	if !d.addChild(t.group, groupChild{task: t}, t.id, "Task", t.field, t.at) {
		return
	}
	if d.byID[t.id] != nil {
		d.report(pyErr("DuplicateTaskIdFound", "Task id '%s' has already been added to the DAG", t.id), t.field, t.at)
		return
	}
	d.tasks = append(d.tasks, t)
	d.byID[t.id] = t
	for src := range t.references() {
		connect(src, t)
	}
}

// setupKeys reads Gust's own keys for setup and teardown tasks, which
// dag-factory has no way to express.
func (t *task) setupKeys(kw *dict) {
	flag := func(key string, dst *bool) {
		if v, ok := kw.lookup(key); ok {
			b, isBool := v.(bool)
			if !isBool {
				t.fail(pyErr("TypeError", "%s expects true or false, found %s", key, pyRepr(v)), key)
			}
			*dst = b
			kw.del(key)
		}
	}
	flag("is_setup", &t.setup)
	flag("is_teardown", &t.teardown)
	flag("on_failure_fail_dagrun", &t.failRun)
	switch {
	case t.setup && t.teardown:
		t.fail(pyErr("ValueError", "Cannot mark task '%s' as teardown; task is already a setup.", pyStr(t.name)), "is_teardown")
	case t.failRun && !t.teardown:
		t.fail(pyErr("ValueError", "Cannot set task on_failure_fail_dagrun for '%s' because it is not a teardown task.", pyStr(t.name)), "on_failure_fail_dagrun")
	case t.teardown && kw.entry("trigger_rule") != nil:
		t.fail(pyErr("ValueError", "Trigger rule not configurable for teardown tasks."), "trigger_rule")
	}
}

// mwaaEdges turns upstream_tasks and downstream_tasks of AWS's samples into
// dependencies.
func (d *dagBuild) mwaaEdges(tasks *dict) {
	add := func(cfg *dict, name value, at pos) {
		deps, _ := cfg.get("dependencies").(*list)
		if deps == nil {
			deps = &list{}
		}
		deps.items = append(deps.items, item{name, at})
		cfg.set(entry{"dependencies", deps, at, at})
	}
	for _, e := range tasks.entries {
		cfg, ok := e.val.(*dict)
		if !ok {
			continue
		}
		for _, key := range []string{"upstream_tasks", "downstream_tasks"} {
			l, ok := cfg.get(key).(*list)
			if !ok {
				continue
			}
			for _, it := range l.items {
				if key == "upstream_tasks" {
					add(cfg, it.val, it.pos)
				} else if i := tasks.find(it.val); i >= 0 {
					if other, ok := tasks.entries[i].val.(*dict); ok {
						add(other, e.key, it.pos)
					}
				} else {
					d.report(pyErr("KeyError", "%s", pyRepr(it.val)).hint("no task of that name; %s", expectedNames(pyStr(it.val), tasks.keys())),
						d.field+".tasks."+pyStr(e.key)+"."+key, it.pos)
				}
			}
			d.warn("", d.field+".tasks."+pyStr(e.key)+"."+key, cfg.at(key), "%s was read as dependencies; dag-factory does not know this key", key)
			cfg.del(key)
		}
	}
}

// mwaaParameters flattens the nested parameters mapping of AWS's samples.
func (t *task) mwaaParameters(kw *dict) {
	m, ok := kw.get("parameters").(*dict)
	if !ok || t.cfg.entry("operator") == nil {
		return
	}
	c, err := t.d.operatorClass(t.cfg.get("operator"))
	if err != nil || c.unchecked || c.Param("parameters") != nil {
		return
	}
	kw.del("parameters")
	for _, e := range m.entries {
		kw.set(e)
	}
	t.d.warn("", t.field+".parameters", t.cfg.at("parameters"), "parameters: was flattened into the task; dag-factory does not know this form")
}

func (t *task) notes(key string) {
	for _, n := range t.class.notes {
		t.d.warn(n.class, t.field+"."+key, t.cfg.at(key), "%s", n.text)
	}
}

// operator builds a task of a classic operator.
func (t *task) operator(kw *dict) {
	d := t.d
	if x, ok := kw.get("expand").(*dict); ok {
		if err := d.expandValues(x, t); err != nil {
			t.fail(err, "expand")
			return
		}
	} else if v := kw.get("expand"); truthy(v) {
		t.fail(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(v)).hint("expand expects a mapping of argument to values"), "expand")
		return
	}
	c, err := d.operatorClass(t.cfg.get("operator"))
	if err != nil {
		t.fail(err, "operator")
		return
	}
	t.class = c
	t.notes("operator")
	if c.Derives(operatorspec.Python) || c.Derives(operatorspec.PythonSensor) {
		if !t.pythonCallable(kw) {
			return
		}
	}
	t.checkFiles(kw)
	if c.Derives(operatorspec.HTTPOperator) || c.Derives(operatorspec.HTTPSensor) {
		t.http(kw)
	}
	t.general(kw)
	expand := &dict{}
	if kw.has("expand") || kw.has("partial") && t.expandKwargs == nil {
		if kw.entry("expand") == nil {
			t.fail(pyErr("KeyError", "'expand'").hint("partial needs expand"), "partial")
			return
		}
		x, ok := kw.get("expand").(*dict)
		if !ok {
			t.fail(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(kw.get("expand"))).hint("expand expects a mapping"), "expand")
			return
		}
		expand = x
		kw.del("expand")
	}
	if kw.has("partial") {
		p, ok := kw.get("partial").(*dict)
		if !ok {
			t.fail(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(kw.get("partial"))).hint("partial expects a mapping"), "partial")
			return
		}
		kw.del("partial")
		if n := len(p.entries); n > 0 {
			for i, e := range p.entries {
				if i != n-1 && d.opt.Strict {
					continue // dag-factory looks at the last key only
				}
				if kw.find(e.key) >= 0 && kw.entries[kw.find(e.key)].val != nil {
					t.d.report(pyErr("DagFactoryException", "Duplicated partial kwarg! It's already in task_params."), t.field+".partial."+pyStr(e.key), e.kpos)
					return
				}
			}
			for _, e := range p.entries {
				kw.set(e)
			}
		}
	}
	t.kwargs = kw
	if len(expand.entries) > 0 || t.expandKwargs != nil {
		t.mapOperator(expand)
		return
	}
	t.construct()
}

// pythonCallable resolves python_callable or the name and file pair.
func (t *task) pythonCallable(kw *dict) bool {
	if !truthy(kw.get("python_callable")) && !truthy(kw.get("python_callable_name")) && !truthy(kw.get("python_callable_file")) {
		t.fail(pyErr("DagFactoryException", "Failed to create task. PythonOperator, BranchPythonOperator and PythonSensor requires                     `python_callable_name` and `python_callable_file` parameters.\nOptionally you can load python_callable from a file. with the special pyyaml notation:\n  python_callable_file: !!python/name:my_module.my_func").
			hint("add python_callable: with an import path"), "")
		return false
	}
	if !truthy(kw.get("python_callable")) {
		for _, k := range []string{"python_callable_name", "python_callable_file"} {
			if kw.entry(k) == nil {
				t.fail(pyErr("KeyError", "'%s'", k).hint("python_callable_name and python_callable_file go together"), "python_callable_name")
				return false
			}
		}
		c, err := t.d.importFile(kw.get("python_callable_name"), kw.get("python_callable_file"))
		if err != nil {
			key := "python_callable_file"
			if strings.HasPrefix(err.Error(), "AttributeError") {
				key = "python_callable_name"
			}
			t.fail(err, key)
			return false
		}
		e := kw.entry("python_callable_name")
		at := e.vpos
		kw.del("python_callable_name")
		kw.del("python_callable_file")
		kw.set(entry{"python_callable", c, at, at})
	} else if s, ok := kw.get("python_callable").(string); ok {
		c, err := t.d.importPath(s)
		if err != nil {
			t.fail(err, "python_callable")
			return false
		}
		kw.entry("python_callable").val = c
	}
	t.callable, _ = kw.get("python_callable").(*callable)
	if c := t.callable; c != nil && c.byYAML {
		if r, err := t.d.importPath(c.name()); err != nil {
			t.fail(err, "python_callable")
			return false
		} else {
			t.callable = r
			kw.entry("python_callable").val = r
		}
	}
	if t.class.Derives(operatorspec.Python) {
		if t.callable == nil || t.callable.sym != nil && t.callable.sym.Kind == PyValue && t.callable.sym.Value != nil {
			t.fail(pyErr("AirflowException", "`python_callable` param must be callable"), "python_callable")
			return false
		}
	}
	return true
}

// checkFiles resolves SqlSensor's success and failure checks.
func (t *task) checkFiles(kw *dict) {
	if !t.class.Derives(operatorspec.SQLSensor) {
		return
	}
	for _, what := range []string{"success", "failure"} {
		name, file, lambda := what+"_check_name", what+"_check_file", what+"_check_lambda"
		switch {
		case truthy(kw.get(file)) && truthy(kw.get(name)):
			c, err := t.d.importFile(kw.get(name), kw.get(file))
			if err != nil {
				t.fail(err, file)
				continue
			}
			kw.del(name)
			kw.del(file)
			kw.put(what, c)
		case truthy(kw.get(lambda)):
			if c := t.lambda(kw, lambda); c != nil {
				kw.del(lambda)
				kw.put(what, c)
			}
		}
	}
}

var lambdaText = regexp.MustCompile(`^\s*\(*\s*lambda\b`)

func (t *task) lambda(kw *dict, key string) *callable {
	s, ok := kw.get(key).(string)
	if !ok || !lambdaText.MatchString(s) {
		t.fail(pyErr("DagFactoryException", "`lambda_expr` must be a single lambda").hint("found %s", pyRepr(kw.get(key))), key)
		return nil
	}
	return &callable{lambda: s}
}

// http applies dag-factory's help for the HTTP operator and sensor.
func (t *task) http(kw *dict) {
	if t.class.Derives(operatorspec.HTTPSensor) {
		pop := func(k string) value {
			v := kw.get(k)
			kw.del(k)
			return v
		}
		name, file, lambda := pop("response_check_name"), pop("response_check_file"), kw.get("response_check_lambda")
		if truthy(name) {
			c, err := t.d.importFile(name, file)
			if err != nil {
				t.fail(err, "response_check_file")
				return
			}
			kw.del("response_check_lambda")
			kw.put("response_check", c)
		} else if truthy(lambda) {
			if c := t.lambda(kw, "response_check_lambda"); c != nil {
				kw.put("response_check", c)
			}
			kw.del("response_check_lambda")
		} else {
			kw.del("response_check_lambda")
		}
		return
	}
	headers := &dict{}
	if v, ok := kw.lookup("headers"); ok {
		if headers, ok = v.(*dict); !ok {
			t.fail(pyErr("AttributeError", "'%s' object has no attribute 'get'", typeName(v)).hint("headers expects a mapping"), "headers")
			return
		}
	}
	ct, _ := headers.get("Content-Type").(string)
	if kw.entry("data") == nil || !strings.Contains(strings.ToLower(ct), "application/json") {
		return
	}
	switch v := kw.get("data").(type) {
	case *dict:
		text, err := pythonJSON(v)
		if err != nil {
			t.fail(err, "data")
			return
		}
		kw.entry("data").val = &callable{json: text}
	case string:
		if !json.Valid([]byte(v)) {
			t.fail(pyErr("ValueError", "Invalid JSON provided: %s", jsonErrorText(v)), "data")
			return
		}
		kw.entry("data").val = &callable{json: v}
	default:
		t.fail(pyErr("TypeError", "data_obj must be a dict or str, not %s", classRepr(v)), "data")
	}
}

// general is dag-factory's adjust_general_task_params.
func (t *task) general(kw *dict) {
	d := t.d
	switch {
	case kw.has("execution_date_fn"):
		if s, ok := kw.get("execution_date_fn").(string); ok {
			c, err := d.importPath(s)
			if err != nil {
				t.fail(err, "execution_date_fn")
				return
			}
			kw.entry("execution_date_fn").val = c
		}
	case kw.has("execution_delta"):
		s, ok := kw.get("execution_delta").(string)
		if !ok {
			if td, isDelta := kw.get("execution_delta").(*timedelta); isDelta && !d.opt.Strict {
				kw.entry("execution_delta").val = td
				break
			}
			t.fail(pyErr("TypeError", "expected string or bytes-like object, got '%s'", qualified(kw.get("execution_delta"))).hint("write text such as 1 hours"), "execution_delta")
			return
		}
		delta, err := relativeTime(s)
		if err != nil {
			t.fail(err, "execution_delta")
			return
		}
		kw.entry("execution_delta").val = delta
	case kw.has("execution_date_fn_name") && kw.has("execution_date_fn_file"):
		c, err := d.importFile(kw.get("execution_date_fn_name"), kw.get("execution_date_fn_file"))
		if err != nil {
			t.fail(err, "execution_date_fn_file")
			return
		}
		kw.del("execution_date_fn_name")
		kw.del("execution_date_fn_file")
		kw.put("execution_date_fn", c)
	}
	for _, cb := range callbackNames {
		d.resolveCallback(kw, cb, t.field, "")
	}
	t.variables(kw)
	t.lineage(kw, "inlets")
	t.lineage(kw, "outlets")
}

func qualified(v value) string {
	c := classRepr(v)
	return strings.TrimSuffix(strings.TrimPrefix(c, "<class '"), "'>")
}

// variables applies variables_as_arguments: Airflow Variables read at load.
func (t *task) variables(kw *dict) {
	v := kw.get("variables_as_arguments")
	if v == nil {
		return
	}
	items, err := iterate(v)
	if err != nil {
		t.fail(err.hint("expected a list of {variable, attribute}"), "variables_as_arguments")
		return
	}
	for _, it := range items {
		m, ok := it.(*dict)
		if !ok {
			t.fail(pyErr("TypeError", "string indices must be integers, not 'str'").hint("expected a list of {variable, attribute}"), "variables_as_arguments")
			return
		}
		name, ok1 := m.get("variable").(string)
		attrName, ok2 := m.get("attribute").(string)
		if !ok1 || !ok2 {
			missing := "variable"
			if ok1 {
				missing = "attribute"
			}
			t.fail(pyErr("KeyError", "'%s'", missing).hint("expected {variable: NAME, attribute: argument}"), "variables_as_arguments")
			return
		}
		if s, ok := t.d.src.Variable(name); ok {
			kw.set(entry{attrName, s, m.at("attribute"), m.at("variable")})
		}
	}
	kw.del("variables_as_arguments")
}

// lineage turns URI strings of inlets and outlets into assets.
func (t *task) lineage(kw *dict, key string) {
	v := kw.get(key)
	if v == nil {
		return
	}
	if m, ok := v.(*dict); ok && m.has("file") && m.has("datasets") {
		uris, err := t.d.datasetsFile(m.get("file"), m.get("datasets"))
		if err != nil {
			t.fail(err, key)
			return
		}
		m.del("file")
		m.del("datasets")
		if len(uris) == 0 {
			return
		}
		v = newList(uris...)
	}
	if !truthy(v) {
		return
	}
	items, perr := iterate(v)
	if perr != nil {
		if o, ok := v.(*object); ok && o.isAsset() { // an asset alone is iterable in the SDK's base class
			items = []value{o}
		} else {
			t.fail(perr.hint("%s expects a list of URIs or assets", key), key)
			return
		}
	}
	out := &list{}
	for _, it := range items {
		if s, ok := it.(string); ok {
			a, err := t.d.newAsset(classAsset, "asset", []value{s}, &dict{})
			if err != nil {
				t.fail(err, key)
				return
			}
			it = a
		}
		out.items = append(out.items, item{val: it})
	}
	kw.entry(key).val = out
}

// datasetsFile reads {file, datasets}: names looked up in a file's datasets list.
func (l *loader) datasetsFile(file, names value) ([]value, error) {
	p, ok := file.(string)
	if !ok {
		return nil, pyErr("TypeError", "expected str, bytes or os.PathLike object, not %s", typeName(file))
	}
	b, err := l.read(p)
	if err != nil {
		return nil, pyErr("FileNotFoundError", "[Errno 2] No such file or directory: '%s'", p)
	}
	l.files = append(l.files, &sourceFile{name: l.rel(p), path: p, text: string(b), raw: string(b)})
	v, err := l.readYAML(int32(len(l.files)), string(b))
	if err != nil {
		return nil, err
	}
	root, ok := v.(*dict)
	if !ok {
		return nil, pyErr("AttributeError", "'%s' object has no attribute 'get'", typeName(v)).hint("%s must hold a datasets list", p)
	}
	wanted := func(name value) bool {
		if s, ok := names.(string); ok {
			n, ok := name.(string)
			return ok && strings.Contains(s, n)
		}
		items, err := iterate(names)
		if err != nil {
			return false
		}
		for _, x := range items {
			if keyOf(x) == keyOf(name) {
				return true
			}
		}
		return false
	}
	var out []value
	list, _ := root.get("datasets").(*list)
	if list == nil {
		return nil, nil
	}
	for _, it := range list.items {
		m, ok := it.val.(*dict)
		if !ok || m.entry("name") == nil {
			return nil, pyErr("KeyError", "'name'").in("", it.pos)
		}
		if wanted(m.get("name")) && m.entry("uri") != nil {
			out = append(out, m.get("uri"))
		}
	}
	return out, nil
}

// references are the tasks whose outputs the arguments use.
func (t *task) references() map[*task]bool {
	out := map[*task]bool{}
	var walk func(v value)
	walk = func(v value) {
		switch v := v.(type) {
		case *xcomArg:
			out[v.task] = true
		case *xcomOp:
			for _, a := range v.args {
				walk(a)
			}
		case *list:
			for _, it := range v.items {
				walk(it.val)
			}
		case *tuple:
			for _, x := range v.items {
				walk(x)
			}
		case *dict:
			for _, e := range v.entries {
				walk(e.val)
			}
		}
	}
	if t.expand != nil {
		walk(t.expand)
	}
	walk(t.expandKwargs)
	for _, m := range []*dict{t.kwargs, t.partial} {
		if m != nil {
			for _, f := range t.class.TemplateFields {
				walk(m.get(f))
			}
		}
	}
	return out
}

// expandValues replaces "task.output" and "XcomArg(task)" by the task's output.
func (d *dagBuild) expandValues(x *dict, t *task) error {
	for i := range x.entries {
		e := &x.entries[i]
		s, ok := e.val.(string)
		if !ok {
			switch e.val.(type) {
			case *list, *dict, *tuple, *set, *xcomArg, *xcomOp, *mappedArg:
			default:
				return pyErr("TypeError", "argument of type '%s' is not iterable", typeName(e.val)).
					hint("expand expects a list, a mapping or task.output").in(t.field+".expand."+pyStr(e.key), e.vpos)
			}
			continue
		}
		id := ""
		if i := strings.Index(s, ".output"); i >= 0 {
			id = s[:i]
		} else if strings.Contains(s, "XcomArg") {
			m := xcomArgText.FindStringSubmatch(s)
			if m == nil {
				return pyErr("IndexError", "list index out of range").hint("write XcomArg(task_id)").in(t.field+".expand."+pyStr(e.key), e.vpos)
			}
			id = m[1]
		} else {
			continue
		}
		src := d.byID[id]
		if src != nil && d.opt.Strict && src.decorated {
			return pyErr("AttributeError", "'PlainXComArg' object has no attribute 'output'").in(t.field+".expand."+pyStr(e.key), e.vpos)
		}
		if src == nil && !d.opt.Strict {
			src = d.byKey[id]
		}
		if src != nil {
			e.val = &xcomArg{src, "return_value"}
		}
	}
	return nil
}

var xcomArgText = regexp.MustCompile(`\(+(.*?)\)`)

func clampWeight(v value) value {
	const maxInt, minInt = math.MaxInt32, math.MinInt32
	switch n := v.(type) {
	case int64:
		return max(min(n, maxInt), minInt)
	case *big.Int:
		if n.Sign() < 0 {
			return int64(minInt)
		}
		return int64(maxInt)
	}
	return v
}
