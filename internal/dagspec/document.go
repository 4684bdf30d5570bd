package dagspec

import (
	"sort"

	"github.com/gustflow/gust/internal/operatorspec"
)

// document writes the serialized DAG with Gust's extension.
func (d *dagBuild) document() []byte {
	id := d.id.(string)
	w := &jsonWriter{rel: d.rel, dagID: id}
	w.obj(func(env *members) {
		env.key("__version").b.WriteString("3")
		env.key("dag").obj(func(m *members) { d.dagMembers(m, id) })
		env.key("gust").b.Write(d.extension())
	})
	return w.b.Bytes()
}

func (d *dagBuild) dagMembers(m *members, id string) {
	c := d.cfg
	m.str("dag_id", id)
	m.str("fileloc", d.files[0].path)
	m.str("relative_fileloc", d.rel(d.files[0].path))
	if s, ok := c.get("dag_display_name").(string); ok && s != id {
		m.str("dag_display_name", s)
	}
	if s, ok := c.get("description").(string); ok {
		m.str("description", s)
	}
	if s, ok := d.docMD.(string); ok {
		m.str("doc_md", s)
	}
	m.str("timezone", d.zone.name)
	m.key("timetable").timetable(d.tt)
	if d.start != nil {
		m.num("start_date", epoch(d.start.utc()))
	}
	if d.end != nil {
		m.num("end_date", epoch(d.end.utc()))
	}
	m.boolean("catchup", d.catchup)
	m.key("max_active_runs").scalar(d.maxRuns)
	m.key("max_active_tasks").scalar(d.maxTasks)
	failed := int64(0)
	if n, ok := c.get("max_consecutive_failed_dag_runs").(int64); ok && !d.opt.Strict {
		failed = n
	}
	if failed == 0 {
		failed = int64(d.loader.cfg.MaxConsecutiveFailedDagRuns)
	}
	m.key("max_consecutive_failed_dag_runs").scalar(failed)
	if t, ok := c.get("dagrun_timeout").(*timedelta); ok {
		m.num("dagrun_timeout", t.total())
	}
	m.boolean("disable_bundle_versioning", false)
	if !d.opt.Strict {
		if truthy(c.get("fail_fast")) {
			m.boolean("fail_fast", true)
		}
		if o, ok := c.get("owner_links").(*dict); ok && len(o.entries) > 0 {
			m.key("owner_links").plain(o)
		}
		if b, ok := c.get("rerun_with_latest_version").(bool); ok {
			m.boolean("rerun_with_latest_version", b)
		}
	}
	if v := c.get("is_paused_upon_creation"); v != nil {
		m.boolean("is_paused_upon_creation", truthy(v))
	}
	if truthy(c.get("render_template_as_native_obj")) {
		m.boolean("render_template_as_native_obj", true)
	}
	tags := append([]string(nil), d.tags...)
	sort.Strings(tags)
	m.strings("tags", tags)
	if ac, ok := c.get("access_control").(*dict); ok {
		m.free("access_control", accessControl(ac))
	}
	if truthy(c.get("on_success_callback")) {
		m.boolean("has_on_success_callback", true)
	}
	if truthy(c.get("on_failure_callback")) {
		m.boolean("has_on_failure_callback", true)
	}
	if len(d.defaultArgs.entries) > 0 {
		m.free("default_args", d.defaultArgs)
	}
	m.key("params").params(d.params, "")
	m.key("task_group").group(d.root)
	m.key("edge_info").b.WriteString("{}")
	d.dependencies(m, id)
	m.key("deadline").deadlines(d.deadlines)
	m.key("allowed_run_types")
	d.runTypes(m.w)
	w := m.key("tasks")
	w.seq(len(d.tasks), func(i int) {
		w.tag("operator", func() { w.obj(func(m *members) { d.tasks[i].members(m) }) })
	})
}

func (d *dagBuild) runTypes(w *jsonWriter) {
	v := d.cfg.get("allowed_run_types")
	if l, ok := v.(*list); ok && !d.opt.Strict {
		w.plain(l)
		return
	}
	if s, ok := v.(string); ok && !d.opt.Strict {
		w.strings([]string{s})
		return
	}
	w.b.WriteString("null")
}

// accessControl puts plain permission lists under "DAGs", as sets.
func accessControl(ac *dict) *dict {
	out := &dict{}
	asSet := func(v value) value {
		if items, err := iterate(v); err == nil {
			if _, isText := v.(string); !isText {
				seen, s := map[string]bool{}, &set{}
				for _, x := range items {
					if k := keyOf(x); !seen[k] {
						seen[k] = true
						s.items = append(s.items, x)
					}
				}
				return s
			}
		}
		return v
	}
	for _, e := range ac.entries {
		if m, ok := e.val.(*dict); ok {
			out.set(entry{key: e.key, val: m})
			continue
		}
		out.set(entry{key: e.key, val: oneKey("DAGs", asSet(e.val))})
	}
	return out
}

func (w *jsonWriter) timetable(t *timetable) {
	w.b.WriteString(`{"__type":"airflow.timetables.` + t.typ + `","__var":`)
	w.obj(func(m *members) {
		delta := func(k string, v value) {
			switch v := v.(type) {
			case *timedelta:
				m.num(k, v.total())
			case *relativedelta:
				m.key(k).relativedelta(v)
			default:
				m.key(k).plain(v)
			}
		}
		switch t.typ {
		case ttCron, ttMultiCron:
			if t.typ == ttCron {
				m.str("expression", t.crons[0])
			} else {
				m.strings("expressions", t.crons)
			}
			m.str("timezone", t.zone)
			delta("interval", t.interval)
			delta("run_immediately", t.runImmediately)
		case ttPartition:
			m.str("expression", t.crons[0])
			m.str("timezone", t.zone)
			delta("run_immediately", t.runImmediately)
			delta("run_offset", t.runOffset)
			m.str("key_format", t.keyFormat)
		case ttCronData:
			m.str("expression", t.crons[0])
			m.str("timezone", t.zone)
		case ttDelta:
			delta("delta", t.delta)
			delta("interval", t.interval)
		case ttDeltaData:
			delta("delta", t.delta)
		case ttEvents:
			w := m.key("event_dates")
			w.seq(len(t.events), func(i int) { w.str(t.events[i].iso("T")) })
			m.boolean("restrict_to_events", t.restrict)
			m.key("description").plain(t.description)
			m.str("_summary", t.summary)
		case ttAsset:
			m.key("asset_condition").condition(t.asset)
		case ttAssetTime:
			m.key("asset_condition").condition(t.asset)
			m.key("timetable").timetable(t.inner)
		}
	})
	w.b.WriteByte('}')
}

func (w *jsonWriter) params(ps []param, source string) {
	w.seq(len(ps), func(i int) {
		p := ps[i]
		w.b.WriteByte('[')
		w.str(p.name)
		w.b.WriteByte(',')
		w.obj(func(m *members) {
			m.str("__class", "airflow.sdk.definitions.param.Param")
			if p.def != value(notSet) {
				m.free("default", p.def)
			}
			m.free("description", p.desc)
			m.free("schema", p.schema)
			s := p.source
			if s == "" {
				s = source
			}
			if s == "" {
				m.free("source", nil)
			} else {
				m.str("source", s)
			}
		})
		w.b.WriteByte(']')
	})
}

func sortedKeys(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (w *jsonWriter) group(g *group) {
	w.obj(func(m *members) {
		if g.id == "" {
			m.free("_group_id", nil)
		} else {
			m.str("_group_id", g.name)
		}
		m.str("group_display_name", g.displayName)
		m.boolean("prefix_group_id", g.prefix)
		m.str("tooltip", g.tooltip)
		if g.docMD != "" {
			m.str("doc_md", g.docMD)
		}
		m.str("ui_color", g.uiColor)
		m.str("ui_fgcolor", g.uiFgcolor)
		m.key("children").obj(func(m *members) {
			for _, c := range g.children {
				if c.task != nil {
					m.strings(c.task.id, []string{"operator", c.task.id})
					continue
				}
				w := m.key(c.group.id)
				w.b.WriteString(`["taskgroup",`)
				w.group(c.group)
				w.b.WriteByte(']')
			}
		})
		if g.expand != nil || g.expandKwargs != nil {
			m.boolean("is_mapped", true)
			m.key("expand_input").expandInput(g.expand, g.expandKwargs)
		}
		m.strings("upstream_group_ids", sortedKeys(g.upGroups))
		m.strings("downstream_group_ids", sortedKeys(g.downGroups))
		m.strings("upstream_task_ids", sortedKeys(g.upTasks))
		m.strings("downstream_task_ids", sortedKeys(g.downTasks))
	})
}

// expandInput writes what a task or a group expands over: lists by argument, or
// one list of mappings.
func (w *jsonWriter) expandInput(lists *dict, kwargs value) {
	w.obj(func(x *members) {
		if kwargs != nil {
			x.str("type", "list-of-dicts")
			x.free("value", kwargs)
			return
		}
		x.str("type", "dict-of-lists")
		x.free("value", lists)
	})
}

// dependencies writes the DAG's edges to other DAGs and to assets.
func (d *dagBuild) dependencies(m *members, id string) {
	type dep struct{ source, target, label, typ, id string }
	var deps []dep
	for _, t := range d.tasks {
		text := func(k string) string {
			for _, kw := range []*dict{t.kwargs, t.partial} {
				if kw != nil {
					if s, ok := kw.get(k).(string); ok {
						return s
					}
				}
			}
			return ""
		}
		switch {
		case t.class.Derives(operatorspec.TriggerDagRun):
			if to := text("trigger_dag_id"); to != "" {
				deps = append(deps, dep{id, to, t.id, "trigger", t.id})
			}
		case t.class.Derives(operatorspec.ExternalTask):
			if from := text("external_dag_id"); from != "" {
				deps = append(deps, dep{from, id, t.id, "sensor", t.id})
			}
		}
	}
	asset := func(o *object, source, target string) {
		switch o.kind {
		case kindAsset:
			w := &jsonWriter{python: true}
			w.plain(&dict{entries: []entry{{key: "name", val: o.get("name")}, {key: "uri", val: o.get("uri")}}})
			deps = append(deps, dep{or(source, "asset"), or(target, "asset"), pyStr(o.get("name")), "asset", string(w.raw())})
		case kindAssetAlias:
			n := pyStr(o.get("name"))
			deps = append(deps, dep{or(source, "asset-alias"), or(target, "asset-alias"), n, "asset-alias", n})
		case kindAssetRef:
			for _, a := range o.attrs {
				typ := "asset-" + a.name + "-ref"
				deps = append(deps, dep{or(source, typ), or(target, typ), pyStr(a.val), typ, pyStr(a.val)})
			}
		}
	}
	var walk func(o *object)
	walk = func(o *object) {
		if objs, ok := o.get("objects").(*tuple); ok {
			for _, x := range objs.items {
				walk(x.(*object))
			}
			return
		}
		asset(o, "", id)
	}
	if d.tt.asset != nil {
		walk(d.tt.asset)
	}
	for _, t := range d.tasks {
		items, _ := iterate(t.attrs["outlets"])
		for _, x := range items {
			if o, ok := x.(*object); ok {
				asset(o, id, "")
			}
		}
	}
	w := m.key("dag_dependencies")
	w.seq(len(deps), func(i int) {
		w.obj(func(m *members) {
			m.str("source", deps[i].source)
			m.str("target", deps[i].target)
			m.str("label", deps[i].label)
			m.str("dependency_type", deps[i].typ)
			m.str("dependency_id", deps[i].id)
		})
	})
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// plainDefaults are attributes left out of the document when they have this value.
var plainDefaults = map[string]value{
	"owner": "airflow", "queue": "default", "pool": "default_pool", "pool_slots": int64(1), "priority_weight": int64(1), "weight_rule": "downstream",
	"retries": int64(0), "retry_exponential_backoff": int64(0), "trigger_rule": "all_success", "depends_on_past": false, "wait_for_downstream": false,
	"ignore_first_depends_on_past": false, "wait_for_past_depends_before_skipping": false, "do_xcom_push": true, "email_on_failure": true,
	"email_on_retry": true, "allow_nested_operators": true, "multiple_outputs": false,
}

// written are the BaseOperator attributes of the document, in its order.
var written = []string{"owner", "email", "email_on_retry", "email_on_failure", "retries", "retry_delay", "retry_exponential_backoff", "max_retry_delay",
	"execution_timeout", "trigger_rule", "depends_on_past", "wait_for_downstream", "ignore_first_depends_on_past",
	"wait_for_past_depends_before_skipping", "pool", "pool_slots", "queue", "priority_weight", "weight_rule", "max_active_tis_per_dag",
	"max_active_tis_per_dagrun", "executor", "executor_config", "run_as_user", "do_xcom_push", "map_index_template", "doc", "doc_md", "doc_json", "doc_yaml",
	"doc_rst", "logger_name", "allow_nested_operators", "render_template_as_native_obj", "task_display_name"}

// attributes writes the BaseOperator attributes that differ from their
// defaults; tagged says whether durations carry type tags (partial_kwargs).
func (t *task) attributes(m *members, tagged bool) {
	sub := func(v value) {
		if d, ok := v.(*timedelta); ok && !tagged {
			m.w.num(d.total())
			return
		}
		m.w.free(v)
	}
	for _, k := range written {
		v, ok := t.attrs[k]
		if raw, has := t.class.AttrValues[k]; has && !ok && !t.mapped {
			v, _ = fromJSON(raw)
			ok = true
		}
		if k == "retry_delay" && (v == nil || !ok) {
			if tagged && t.decorated {
				continue
			}
			v, ok = secondsDelta(300), true
		}
		if !ok || v == nil {
			continue
		}
		if def, has := plainDefaults[k]; has && v == def {
			continue
		}
		switch x := v.(type) {
		case *dict:
			if len(x.entries) == 0 {
				continue
			}
		case int64:
			if k == "retry_exponential_backoff" && x == 0 {
				continue
			}
		case float64:
			if k == "retry_exponential_backoff" && x == 0 {
				continue
			}
		}
		name := k
		if k == "task_display_name" && !tagged {
			name = "_task_display_name"
		}
		m.key(name)
		sub(v)
	}
	for _, cb := range callbackNames {
		if truthy(t.attrs[cb]) {
			m.boolean("has_"+cb, true)
		}
	}
	for _, k := range []string{"inlets", "outlets"} {
		items, _ := iterate(t.attrs[k])
		if o, ok := t.attrs[k].(*object); ok && items == nil {
			items = []value{o}
		}
		if len(items) > 0 {
			w := m.key(k)
			w.seq(len(items), func(i int) { w.free(items[i]) })
		}
	}
}

func (t *task) members(m *members) {
	s := t.class.Spec
	m.str("task_id", t.id)
	m.str("task_type", s.Type())
	m.str("_task_module", s.Module())
	if s.OperatorName != "" {
		m.str("_operator_name", s.OperatorName)
	}
	m.str("ui_color", s.UIColor)
	if s.UIFgcolor != "#000" {
		m.str("ui_fgcolor", s.UIFgcolor)
	}
	fields := s.TemplateFields
	if fields == nil {
		fields = []string{}
	}
	m.strings("template_fields", fields)
	ext := t.templateExt()
	if len(ext) > 0 {
		m.strings("template_ext", ext)
	}
	if len(s.Renderers) > 0 {
		m.key("template_fields_renderers").obj(func(r *members) {
			for _, k := range sortedStrings(s.Renderers) {
				r.str(k, s.Renderers[k])
			}
		})
	}
	if len(s.ExtraLinks) > 0 {
		m.key("_operator_extra_links").obj(func(r *members) {
			for _, k := range sortedStrings(s.ExtraLinks) {
				r.str(k, s.ExtraLinks[k])
			}
		})
	}
	if s.Sensor {
		m.boolean("_is_sensor", true)
	}
	if s.Empty {
		m.boolean("_is_empty", true)
	}
	if s.CanSkip {
		m.boolean("_can_skip_downstream", true)
	}
	if t.callable != nil {
		m.str("python_callable_name", t.callable.attr)
	}
	if t.start = t.effectiveStart(); t.start != nil && !sameInstant(t.start, t.d.start) {
		m.num("start_date", epoch(t.start.utc()))
	}
	if t.end = t.effectiveEnd(); t.end != nil && !sameInstant(t.end, t.d.end) {
		m.num("end_date", epoch(t.end.utc()))
	}
	t.taskParams(m)
	if len(t.down) > 0 {
		var ids []string
		for x := range t.down {
			ids = append(ids, x.id)
		}
		sort.Strings(ids)
		m.strings("downstream_task_ids", ids)
	}
	if t.setup {
		m.boolean("is_setup", true)
	}
	if t.teardown {
		m.boolean("is_teardown", true)
	}
	if t.failRun {
		m.boolean("on_failure_fail_dagrun", true)
	}
	if t.mapped {
		t.mappedMembers(m)
		return
	}
	m.boolean("has_retry_policy", false)
	m.boolean("_needs_expansion", t.group.mapped() != nil)
	if s.Sensor {
		m.boolean("reschedule", t.kwargs.get("mode") == "reschedule")
	}
	t.attributes(m, false)
	if t.multiple || truthy(t.attrs["multiple_outputs"]) {
		m.boolean("multiple_outputs", true)
	}
	for _, f := range s.TemplateFields {
		if v := t.fieldValue(f); v != nil && !reservedMember[f] {
			m.key(f).plain(v)
		}
	}
}

// reservedMember are members that a template field must not write again.
var reservedMember = map[string]bool{"params": true, "executor_config": true, "doc_md": true, "map_index_template": true}

func sortedStrings(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func sameInstant(a, b *datetime) bool {
	return a != nil && b != nil && a.utc().Equal(b.utc())
}

// effectiveStart is the later of the task's and the DAG's start.
func (t *task) effectiveStart() *datetime {
	switch {
	case t.start == nil:
		return t.d.start
	case t.d.start == nil || t.d.start.utc().Before(t.start.utc()):
		return t.start
	}
	return t.d.start
}

func (t *task) effectiveEnd() *datetime {
	switch {
	case t.end == nil:
		return t.d.end
	case t.d.end == nil || t.end.utc().Before(t.d.end.utc()):
		return t.end
	}
	return t.d.end
}

// templateExt is the class's, or PythonOperator's templates_exts.
func (t *task) templateExt() []string {
	if l, ok := t.kwargs.get("templates_exts").(*list); ok && len(l.items) > 0 {
		var out []string
		for _, it := range l.items {
			out = append(out, pyStr(it.val))
		}
		return out
	}
	return t.class.TemplateExt
}

func (t *task) mappedMembers(m *members) {
	m.boolean("_is_mapped", true)
	m.boolean("_disallow_kwargs_override", false)
	attr := "expand_input"
	if t.decorated {
		attr = "op_kwargs_expand_input"
	}
	m.str("_expand_input_attr", attr)
	m.key(attr).expandInput(t.expand, t.expandKwargs)
	if t.decorated && t.multiple {
		m.boolean("multiple_outputs", true)
	}
	m.key("partial_kwargs").obj(func(p *members) {
		t.attributes(p, true)
		for _, e := range t.partial.entries {
			switch n := pyStr(e.key); {
			case n == "python_callable":
			case plainDefaults[n] != nil:
			default:
				p.free(n, e.val)
			}
		}
		if t.callable != nil && !t.decorated {
			p.str("python_callable_name", t.callable.attr)
		}
	})
}

// taskParams writes the DAG's params overridden by the task's.
func (t *task) taskParams(m *members) {
	if len(t.params) == 0 {
		return
	}
	merged := append([]param(nil), t.d.params...)
	for i := range merged {
		if merged[i].source == "" {
			merged[i].source = "dag"
		}
	}
	for _, p := range t.params {
		found := false
		for i := range merged {
			if merged[i].name == p.name {
				merged[i], found = p, true
			}
		}
		if !found {
			merged = append(merged, p)
		}
	}
	m.key("params").params(merged, "")
}

// fieldValue is the value of a template field of an unmapped task.
func (t *task) fieldValue(f string) value {
	name := f
	if f == "bash_command" && t.decorated {
		return "DYNAMIC (set during execution)" // what the function returns
	}
	if a, ok := t.class.selfAttrs[f]; ok {
		name = a
	}
	v, given := t.kwargs.lookup(name)
	if t.class.Derives(operatorspec.ExternalTask) && f == "external_task_ids" {
		if one := t.kwargs.get("external_task_id"); one != nil {
			return newList(one)
		}
		if !truthy(v) {
			return nil
		}
	}
	if given && !(contains(t.class.FalsyDefault, f) && !truthy(v)) {
		return v
	}
	if raw, ok := t.class.FieldValue(f); ok {
		v, _ := fromJSON(raw)
		return untagSpec(v)
	}
	if p := t.class.Param(name); p != nil && len(p.Default) > 0 {
		v, _ := fromJSON(p.Default)
		return untagSpec(v)
	}
	return nil
}

// untagSpec turns the operator table's {"$tuple": …} into values.
func untagSpec(v value) value {
	d, ok := v.(*dict)
	if !ok || len(d.entries) != 1 {
		return v
	}
	l, isList := d.entries[0].val.(*list)
	switch d.entries[0].key {
	case "$tuple", "$set":
		if isList {
			t := &tuple{}
			for _, it := range l.items {
				t.items = append(t.items, it.val)
			}
			if d.entries[0].key == "$set" {
				return &set{t.items}
			}
			return t
		}
	case "$timedelta":
		if f, ok := number(d.entries[0].val); ok {
			td, _ := floatDelta(f)
			return td
		}
	}
	return v
}
