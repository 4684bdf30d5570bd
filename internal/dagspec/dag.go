package dagspec

import (
	"math/big"
	"path"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// dagBuild is one DAG on its way from configuration to document.
type dagBuild struct {
	*loader
	id    value // the root key; text if the DAG is valid
	field string
	at    pos
	cfg   *dict // body, defaults.yml and default block merged

	start, end  *datetime
	zone        *timezone
	defaultArgs *dict
	ownDefaults *dict // as authored in the DAG itself
	tt          *timetable
	schedule    value
	params      []param
	maxRuns     int64
	maxTasks    int64
	catchup     bool
	docMD       value
	tags        []string
	macros      *dict
	filters     *dict
	deadlines   []*object
	searchpath  []string

	tasks  []*task          // in order of creation
	byKey  map[string]*task // by the name dependencies use, see key()
	byID   map[string]*task
	groups []*group
	root   *group
	byName map[string]*group

	before int // problems of the loader when this DAG began
}

// fail reports an error at a DAG-level key.
func (d *dagBuild) fail(err error, key string) {
	d.report(err, join(d.field, key), d.keyPos(key))
}

func (d *dagBuild) keyPos(key string) pos {
	if key != "" && d.cfg != nil {
		head, _, _ := strings.Cut(key, ".")
		if p := d.cfg.at(head); p.known() {
			return p
		}
	}
	return d.at
}

func (d *dagBuild) failed() bool { return len(d.problems) > d.before }

// dag builds the DAG of one root key. It reports all its problems and returns
// its document if there are none.
func (l *loader) dag(e entry, block, levels *dict, defText string) (DAG, bool) {
	d := &dagBuild{loader: l, id: e.key, field: pyStr(e.key), at: e.kpos, before: len(l.problems), byKey: map[string]*task{}, byID: map[string]*task{},
		byName: map[string]*group{}}
	body, ok := e.val.(*dict)
	if !ok {
		l.report(pyErr("TypeError", "'%s' object is not a mapping", typeName(e.val)).hint("a DAG is a mapping with schedule, tasks, …"), d.field, e.kpos)
		return DAG{}, false
	}
	cfg := levels.clone()
	for _, x := range body.entries {
		cfg.set(x)
	}
	if g, ok := cfg.lookup("task_groups"); ok {
		if m, ok := g.(*dict); ok && len(m.entries) == 0 {
			cfg.del("task_groups")
		}
	}
	text := defText + "\n" + dumpYAML(oneKey(e.key, cfg))
	d.ownDefaults, _ = body.get("default_args").(*dict)
	d.cfg = deepCopy(cfg).(*dict)
	mergeDeep(d.cfg, deepCopy(block).(*dict))

	if !l.opt.Strict {
		d.oldSeconds(d.cfg, d.field)
		if m, ok := d.cfg.get("default_args").(*dict); ok {
			d.oldSeconds(m, d.field+".default_args")
		}
	}
	d.dagParams()
	tasks := d.normalise("tasks", "task_id", "task definition", "task configs")
	if !l.opt.Strict {
		d.mwaaEdges(tasks)
	}
	groups := d.normalise("task_groups", "group_name", "task_group definition", "group configs")
	d.dagArguments()
	d.appendYAML(text)
	d.dagTags()
	d.makeGroups(groups)
	d.makeTasks(tasks)
	if !d.failed() {
		d.setDependencies(tasks, groups)
	}
	d.validate()
	if d.failed() {
		return DAG{}, false
	}
	doc := d.document()
	parsed, err := airflow.ParseDAG(doc)
	if err != nil {
		l.report(err, d.field, d.at)
		return DAG{}, false
	}
	return DAG{parsed.DagID, doc, parsed}, true
}

// dagParams resolves dates, callbacks and paths of the DAG and its default_args.
func (d *dagBuild) dagParams() {
	c := d.cfg
	if !c.has("default_args") {
		if v, present := c.lookup("default_args"); present && v == nil {
			d.fail(pyErr("TypeError", "argument of type 'NoneType' is not iterable").hint("default_args expects a mapping"), "default_args")
		}
		c.put("default_args", &dict{})
	}
	da, ok := c.get("default_args").(*dict)
	if !ok {
		d.fail(pyErr("TypeError", "'default_args' must be <class 'dict'> (got %s that is a %s).", pyRepr(c.get("default_args")), classRepr(c.get("default_args"))), "default_args")
		da = &dict{}
	}
	d.defaultArgs = da
	zone := func(m *dict) value {
		if v, ok := m.lookup("timezone"); ok {
			return v
		}
		return "UTC"
	}
	date := func(m *dict, key, field string, dst **datetime) {
		if !m.has(key) {
			return
		}
		t, err := d.getDatetime(m.get(key), zone(m))
		if err != nil {
			p := m.at(key)
			if e, ok := err.(*pyError); ok && e.class == "InvalidTimezone" && m.at("timezone").known() {
				p, field = m.at("timezone"), strings.TrimSuffix(field, key)+"timezone"
			}
			d.report(err, field, p)
			return
		}
		*dst = t
		e := m.entry(key)
		e.val = t
	}
	var daStart, daEnd *datetime
	date(c, "start_date", d.field+".start_date", &d.start)
	date(c, "end_date", d.field+".end_date", &d.end)
	date(da, "end_date", d.field+".default_args.end_date", &daEnd)
	for _, cb := range callbackNames {
		if cb != "on_retry_callback" && cb != "on_skipped_callback" {
			d.resolveCallback(c, cb, d.field, "")
		}
		d.resolveCallback(da, cb, d.field+".default_args", "")
	}
	if c.has("sla_miss_callback") || c.has("sla_miss_callback_name") && c.has("sla_miss_callback_file") {
		d.warn("", d.field+".sla_miss_callback", c.at("sla_miss_callback"), "The sla_miss_callback has been removed in Airflow 3.1.0.")
	}
	d.searchPaths()
	if v := c.get("render_template_as_native_obj"); v != nil {
		if _, ok := v.(bool); !ok {
			d.fail(pyErr("DagFactoryException", "render_template_as_native_obj should be bool type!").hint("expected true or false, found %s", pyRepr(v)), "render_template_as_native_obj")
		}
	}
	date(da, "start_date", d.field+".default_args.start_date", &daStart)
	// A start_date in default_args gives the zone, not the DAG's start.
	switch {
	case d.start != nil:
		d.zone = d.start.zone
	case daStart != nil:
		d.zone = daStart.zone
	default:
		z, err := d.defaultZone()
		if err != nil {
			d.fail(err, "")
		}
		d.zone = z
	}
}

func (d *dagBuild) searchPaths() {
	v := d.cfg.get("template_searchpath")
	check := func(v value, at pos) {
		s, ok := v.(string)
		switch {
		case !ok:
			d.report(pyErr("TypeError", "expected str, bytes or os.PathLike object, not %s", typeName(v)), d.field+".template_searchpath", at)
		case !strings.HasPrefix(s, "/"):
			d.report(pyErr("DagFactoryException", "template_searchpath must be absolute paths").hint("found %q", s), d.field+".template_searchpath", at)
		case !d.src.IsDir(s):
			d.report(pyErr("DagFactoryException", "template_searchpath must be existing paths").hint("there is no folder %q", s), d.field+".template_searchpath", at)
		default:
			d.searchpath = append(d.searchpath, s)
		}
	}
	switch x := v.(type) {
	case nil:
	case string:
		check(x, d.keyPos("template_searchpath"))
	case *list:
		for _, it := range x.items {
			check(it.val, it.pos)
		}
	default:
		d.fail(pyErr("DagFactoryException", "template_searchpath is not valid!").hint("expected a path or a list of paths, found %s", typeName(v)), "template_searchpath")
	}
}

// normalise turns the list form of tasks or task_groups into the mapping form.
func (d *dagBuild) normalise(key, idKey, what, configs string) *dict {
	v := d.cfg.get(key)
	switch v := v.(type) {
	case nil:
		return &dict{}
	case *dict:
		return v
	case *list:
		out := &dict{}
		for _, it := range v.items {
			m, ok := it.val.(*dict)
			var id value
			present := false
			if ok {
				id, present = m.lookup(idKey)
			}
			if !present {
				d.report(pyErr("DagFactoryConfigException", "Each %s in the list must be a mapping that contains a '%s' key", what, idKey), d.field+"."+key, it.pos)
				continue
			}
			if out.find(id) >= 0 {
				list := key
				d.report(pyErr("DagFactoryConfigException", "Duplicate %s detected in %s list: '%s'", idKey, list, pyStr(id)), d.field+"."+key+"."+pyStr(id), m.at(idKey))
				continue
			}
			body := &dict{}
			for _, e := range m.entries {
				if e.key != idKey {
					body.set(e)
				}
			}
			out.set(entry{id, body, m.at(idKey), it.pos})
		}
		return out
	}
	d.fail(pyErr("DagFactoryConfigException", "'%s' must be either a mapping or a list of %s", key, configs), key)
	return &dict{}
}

// droppedKeys are DAG arguments that dag-factory drops without a message; Gust
// honours those marked true.
var droppedKeys = map[string]bool{
	"fail_fast": true, "max_consecutive_failed_dag_runs": true, "owner_links": true, "user_defined_filters": true,
	"jinja_environment_kwargs": true, "template_undefined": true, "rerun_with_latest_version": true, "allowed_run_types": true,
	"deadline":      true,
	"auto_register": false, "disable_bundle_versioning": false,
}

// dagKeys are the keys a DAG's body may have.
var dagKeys = map[string]bool{"dag_id": true, "dag_display_name": true, "description": true, "schedule": true, "timetable": true, "start_date": true,
	"end_date": true, "timezone": true, "catchup": true, "max_active_runs": true, "max_active_tasks": true, "concurrency": true, "dagrun_timeout": true,
	"default_args": true, "params": true, "tags": true, "doc_md": true, "doc_md_file_path": true, "doc_md_python_callable_name": true,
	"doc_md_python_callable_file": true, "doc_md_python_arguments": true, "render_template_as_native_obj": true, "template_searchpath": true,
	"user_defined_macros": true, "is_paused_upon_creation": true, "access_control": true, "on_success_callback": true, "on_failure_callback": true,
	"on_execute_callback": true, "on_success_callback_name": true, "on_success_callback_file": true, "on_failure_callback_name": true,
	"on_failure_callback_file": true, "on_execute_callback_name": true, "on_execute_callback_file": true, "sla_miss_callback": true,
	"sla_miss_callback_name": true, "sla_miss_callback_file": true, "default_view": true, "orientation": true, "tasks": true, "task_groups": true,
	"schedule_interval": true}

func dagKeyNames() []string {
	var out []string
	for k := range dagKeys {
		out = append(out, k)
	}
	return out
}

// dagArguments checks what goes to Airflow's DAG constructor.
func (d *dagBuild) dagArguments() {
	c := d.cfg
	for _, e := range c.entries {
		name, _ := e.key.(string)
		honoured, dropped := droppedKeys[name]
		switch {
		case dagKeys[name]:
		case dropped && !d.opt.Strict && honoured:
			d.warn("", d.field+"."+name, e.kpos, "%s is honoured by Gust; dag-factory drops it", name)
		case dropped:
			d.warn("", d.field+"."+name, e.kpos, "%s is dropped, as by dag-factory", name)
		default:
			advice := expectedNames(name, dagKeyNames())
			if advice != "" {
				advice = ": " + advice
			}
			d.warn("", d.field+"."+pyStr(e.key), e.kpos, "%s is no argument of a DAG and is dropped%s", pyRepr(e.key), advice)
		}
	}
	if c.has("concurrency") {
		d.warn("builtins.DeprecationWarning", d.field+".concurrency", c.at("concurrency"), "`concurrency` param is deprecated. Please use max_active_tasks.")
	}
	if truthy(c.get("timetable")) {
		d.fail(pyErr("TypeError", "DAG.__init__() got an unexpected keyword argument 'timetable'").hint("move it to schedule:"), "timetable")
	}
	d.makeSchedule()
	if u, err := resolveMacros(d, c.get("user_defined_macros"), "user_defined_macros"); err != nil {
		d.fail(err, "user_defined_macros")
	} else {
		d.macros = u
	}
	d.makeParams()

	if id, ok := d.id.(string); !ok {
		d.report(pyErr("TypeError", "The key has to be a string and is %s:%s", classRepr(d.id), pyStr(d.id)).hint("quote the dag_id"), d.field, d.at)
	} else if err := checkKey(id, 250); err != nil {
		d.report(err, d.field, d.at)
	}
	d.instance("description", "str", func(v value) bool { _, ok := v.(string); return ok })
	d.maxTasks = d.limit("max_active_tasks", int64(d.loader.cfg.MaxActiveTasks))
	if v, ok := c.lookup("concurrency"); ok {
		c.put("max_active_tasks", v)
		d.maxTasks = d.limit("max_active_tasks", int64(d.loader.cfg.MaxActiveTasks))
	}
	d.maxRuns = d.limit("max_active_runs", int64(d.loader.cfg.MaxActiveRuns))
	if d.tt != nil && d.tt.typ == ttContinous && d.maxRuns > 1 {
		d.fail(pyErr("ValueError", "Invalid max_active_runs: ContinuousTimetable requires max_active_runs <= 1").hint("add max_active_runs: 1"), firstKey(c, "max_active_runs", "schedule"))
	}
	d.instance("dagrun_timeout", "datetime.timedelta", func(v value) bool { _, ok := v.(*timedelta); return ok })
	d.catchup = d.loader.cfg.CatchupByDefault
	if v, ok := c.lookup("catchup"); ok {
		d.catchup = truthy(v)
		if _, isBool := v.(bool); !isBool {
			d.warn("", d.field+".catchup", c.at("catchup"), "catchup: expected true or false, found %s; it counts as %v", pyRepr(v), d.catchup)
		}
	}
	if d.catchup && d.tt != nil && d.tt.canBeScheduled() && d.start == nil && !d.defaultArgs.has("start_date") {
		d.fail(pyErr("ValueError", "start_date is required when catchup=True"), firstKey(c, "catchup", "schedule"))
	}
	if !d.opt.Strict {
		d.instance("max_consecutive_failed_dag_runs", "int", func(v value) bool { n, ok := v.(int64); return ok && n >= 0 })
		d.instance("owner_links", "dict", func(v value) bool { _, ok := v.(*dict); return ok })
		d.instance("jinja_environment_kwargs", "dict", func(v value) bool { _, ok := v.(*dict); return ok })
		if f, err := resolveMacros(d, c.get("user_defined_filters"), "user_defined_filters"); err != nil {
			d.fail(err, "user_defined_filters")
		} else {
			d.filters = f
		}
	}
	d.makeDeadlines()
	d.checkParams()
	if v, ok := c.lookup("dag_display_name"); ok {
		if _, ok := v.(string); !ok {
			d.instance("dag_display_name", "str", func(v value) bool { return false })
		}
	}
	if ac, ok := c.lookup("access_control"); ok && ac != nil {
		if _, isMap := ac.(*dict); !isMap {
			d.fail(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(ac)).hint("access_control expects role: [permissions]"), "access_control")
		} else {
			d.warn("airflow.sdk.exceptions.RemovedInAirflow4Warning", d.field+".access_control", c.at("access_control"),
				"The airflow.security.permissions module is deprecated; please see https://airflow.apache.org/docs/apache-airflow/stable/security/deprecated_permissions.html")
		}
	}
	d.documentation()
}

func firstKey(c *dict, keys ...string) string {
	for _, k := range keys {
		if c.entry(k) != nil {
			return k
		}
	}
	return keys[0]
}

// instance is attrs' instance_of validator.
func (d *dagBuild) instance(key, want string, ok func(value) bool) {
	v := d.cfg.get(key)
	if v == nil && key != "dag_display_name" || v != nil && ok(v) {
		return
	}
	advice := "expected " + want
	if want == "datetime.timedelta" {
		advice = "write {__type__: datetime.timedelta, hours: 1}"
	}
	d.fail(pyErr("TypeError", "'%s' must be <class '%s'> (got %s that is a %s).", key, want, pyRepr(v), classRepr(v)).hint("%s", advice), key)
}

func (d *dagBuild) limit(key string, def int64) int64 {
	v := d.cfg.get(key)
	switch v := v.(type) {
	case nil:
		return def
	case int64:
		return v
	case bool:
		if v {
			return 1
		}
		return 0
	case *big.Int:
		return def
	}
	d.instance(key, "int", func(value) bool { return false })
	return def
}

// checkKey is Airflow's validate_key.
func checkKey(s string, maxLen int) error {
	if n := len([]rune(s)); n > maxLen {
		return pyErr("ValueError", "The key has to be less than %d characters, not %d", maxLen, n)
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_') {
			return pyErr("ValueError", "The key %s has to be made of alphanumeric characters, dashes, dots, and underscores exclusively", pyRepr(s))
		}
	}
	if s == "" {
		return pyErr("ValueError", "The key '' has to be made of alphanumeric characters, dashes, dots, and underscores exclusively")
	}
	return nil
}

// resolveMacros turns text leaves of user_defined_macros into what they import.
func resolveMacros(d *dagBuild, v value, field string) (*dict, error) {
	if !truthy(v) {
		return nil, nil
	}
	m, ok := v.(*dict)
	if !ok {
		return nil, pyErr("DagFactoryConfigException", "Invalid `%s` config: expected a mapping/dict, got %s.", field, typeName(v))
	}
	out := &dict{}
	for _, e := range m.entries {
		name := field + "." + pyStr(e.key)
		switch x := e.val.(type) {
		case string:
			c, err := d.importPath(x)
			if err != nil {
				return nil, located(err, d.field+"."+name, e.vpos)
			}
			if c.sym != nil && c.sym.Kind == PyValue && c.sym.Value != nil {
				if lit, err := fromJSON(c.sym.Value); err == nil {
					out.set(entry{e.key, &macroValue{c, lit}, e.kpos, e.vpos})
					continue
				}
			}
			out.set(entry{e.key, c, e.kpos, e.vpos})
		case *dict:
			sub, err := resolveMacros(d, x, name)
			if err != nil {
				return nil, err
			}
			if sub == nil {
				sub = &dict{}
			}
			out.set(entry{e.key, sub, e.kpos, e.vpos})
		default:
			out.set(e)
		}
	}
	return out, nil
}

// macroValue is a macro that names a constant of a module: the worker imports it.
type macroValue struct {
	from *callable
	val  value
}

// documentation resolves doc_md, doc_md_file_path and the doc_md callable.
func (d *dagBuild) documentation() {
	c := d.cfg
	if v := c.get("doc_md"); v != nil {
		s, ok := v.(string)
		if !ok {
			d.fail(pyErr("AttributeError", "'%s' object has no attribute 'endswith'", typeName(v)).hint("doc_md expects text"), "doc_md")
			return
		}
		d.docMD = s
		if strings.HasSuffix(s, ".md") {
			p := s
			if !strings.HasPrefix(p, "/") {
				p = path.Join(path.Dir(d.files[0].path), p)
			}
			if strings.HasPrefix(s, "/") || !d.opt.Strict {
				if b, err := d.read(p); err == nil {
					d.docMD = string(b)
				}
			}
		}
	}
	if v := c.get("doc_md_file_path"); truthy(v) {
		s, ok := v.(string)
		switch {
		case !ok:
			d.fail(pyErr("TypeError", "expected str, bytes or os.PathLike object, not %s", typeName(v)), "doc_md_file_path")
		case !strings.HasPrefix(s, "/"):
			d.fail(pyErr("DagFactoryException", "`doc_md_file_path` must be absolute path").hint("found %q", s), "doc_md_file_path")
		default:
			b, err := d.read(s)
			if err != nil {
				d.fail(pyErr("FileNotFoundError", "[Errno 2] No such file or directory: '%s'", s), "doc_md_file_path")
				return
			}
			d.docMD = strings.ReplaceAll(string(b), "\r\n", "\n")
		}
	}
	if truthy(c.get("doc_md_python_callable_file")) && truthy(c.get("doc_md_python_callable_name")) {
		fn, err := d.importFile(c.get("doc_md_python_callable_name"), c.get("doc_md_python_callable_file"))
		if err != nil {
			d.fail(err, "doc_md_python_callable_file")
			return
		}
		kw := &dict{}
		if v, ok := c.lookup("doc_md_python_arguments"); ok {
			if kw, ok = v.(*dict); !ok {
				d.fail(pyErr("TypeError", "%s() argument after ** must be a mapping, not %s", fn.name(), typeName(v)), "doc_md_python_arguments")
				return
			}
		}
		if d.py == nil {
			d.warn("", d.field+".doc_md", c.at("doc_md_python_callable_name"), "%s was not called: no python3; the DAG has no documentation of its own", fn.name())
			return
		}
		res, err := d.call(fn, nil, kw)
		if err != nil {
			d.fail(err, "doc_md_python_callable_name")
			return
		}
		v, err := fromJSON(res.Value)
		if _, ok := v.(string); err != nil || res.Class != "" || v != nil && !ok {
			what := typeName(v)
			if res.Class != "" {
				what = attrPart(res.Class)
			}
			d.fail(pyErr("AttributeError", "'%s' object has no attribute 'endswith'", what).hint("%s must return text", fn.name()), "doc_md_python_callable_name")
			return
		}
		d.docMD = v
	}
}

// appendYAML adds the DAG's YAML to its documentation, as dag-factory does.
func (d *dagBuild) appendYAML(text string) {
	block := "## YML DAG\n```yaml\n" + text + "\n```"
	if s, ok := d.docMD.(string); ok {
		d.docMD = s + "\n" + block
		return
	}
	d.docMD = block
}

func (d *dagBuild) dagTags() {
	v, present := d.cfg.lookup("tags")
	if !present {
		d.tags = []string{"dagfactory"}
		return
	}
	l, ok := v.(*list)
	switch {
	case v == nil:
		d.fail(pyErr("TypeError", "argument of type 'NoneType' is not iterable").hint("tags expects a list"), "tags")
		return
	case !ok:
		e := pyErr("AttributeError", "'%s' object has no attribute 'append'", typeName(v))
		if _, isInt := v.(int64); isInt {
			e = pyErr("TypeError", "argument of type 'int' is not iterable")
		}
		d.fail(e.hint("tags expects a list"), "tags")
		return
	}
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			d.tags = append(d.tags, s)
		}
	}
	for _, it := range l.items {
		s, ok := it.val.(string)
		switch {
		case !ok:
			d.report(pyErr("TypeError", "object of type '%s' has no len()", typeName(it.val)).hint("tags are text: quote it"), d.field+".tags", it.pos)
		case len([]rune(s)) > 100:
			d.report(pyErr("ValueError", "tag cannot be longer than 100 characters"), d.field+".tags", it.pos)
		default:
			add(s)
		}
	}
	add("dagfactory")
}
