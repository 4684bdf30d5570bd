package dagspec

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operatorspec"
	schedules "github.com/gustflow/gust/internal/timetable"
)

// factsOf derives what the vectors state of a DAG from its document alone:
// what cannot be derived from it is lost to the rest of Gust as well.
func factsOf(doc []byte, vecDir string) (map[string]any, error) {
	d, err := airflow.ParseDAG(doc)
	if err != nil {
		return nil, err
	}
	var env map[string]any
	if err := json.Unmarshal(doc, &env); err != nil {
		return nil, err
	}
	f := &factsMaker{d: d, raw: env["dag"].(map[string]any), vec: vecDir}
	return f.hide(f.dag()).(map[string]any), nil
}

type factsMaker struct {
	d   *airflow.DAG
	raw map[string]any
	vec string
}

// hide replaces the folder of the vectors by its variable.
func (f *factsMaker) hide(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, f.vec, "$VEC_DIR")
	case map[string]any:
		for k := range v {
			v[k] = f.hide(v[k])
		}
	case []any:
		for i := range v {
			v[i] = f.hide(v[i])
		}
	}
	return v
}

func iso(t *time.Time) any {
	if t == nil {
		return nil
	}
	s := t.UTC().Format("2006-01-02T15:04:05.000000")
	return strings.TrimSuffix(s, ".000000") + "+00:00"
}

func secs(d time.Duration) any {
	if d == 0 {
		return nil
	}
	return d.Seconds()
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func limit(n int) any {
	if n == 0 {
		return nil
	}
	return float64(n)
}

func ids[T ~string](in []T) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

func sorted(in []any) []any {
	sort.Slice(in, func(i, j int) bool { return fmt.Sprint(in[i]) < fmt.Sprint(in[j]) })
	return in
}

// tagged turns Airflow's type tags into those of the vectors.
func tagged(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = tagged(v[i])
		}
		return out
	case map[string]any:
		typ, isTag := v["__type"].(string)
		body, hasVar := v["__var"]
		if !isTag || !hasVar {
			out := map[string]any{}
			for k, x := range v {
				out[k] = tagged(x)
			}
			return out
		}
		switch typ {
		case "dict":
			out := map[string]any{}
			for k, x := range body.(map[string]any) {
				out[k] = tagged(x)
			}
			return out
		case "datetime":
			t := airflow.EpochTime(body.(float64))
			return map[string]any{"$datetime": iso(&t)}
		case "timedelta":
			return map[string]any{"$timedelta": body}
		case "tuple":
			return map[string]any{"$tuple": tagged(body)}
		case "set":
			return map[string]any{"$set": sorted(tagged(body).([]any))}
		case "xcomref":
			x := body.(map[string]any)
			return map[string]any{"$xcomarg": map[string]any{"type": "PlainXComArg", "task_id": x["task_id"], "key": x["key"]}}
		case "task":
			return map[string]any{"$task": body}
		case "class":
			return map[string]any{"$class": callablePath(body)}
		case "bytes":
			return map[string]any{"$object": "builtins.bytes"}
		case "callable":
			return map[string]any{"$callable": callablePath(body)}
		case "partial":
			x := body.(map[string]any)
			return map[string]any{"$partial": callablePath(x["callable"]), "args": []any{}, "kwargs": tagged(x["kwargs"])}
		case "object":
			return map[string]any{"$object": body.(map[string]any)["class"]}
		case "asset", "asset_alias", "asset_ref":
			return map[string]any{"$" + typ: body}
		case "asset_all", "asset_any":
			return map[string]any{strings.Replace(typ, "asset_", "$", 1): tagged(body.(map[string]any)["objects"])}
		case "time", "timezone":
			return map[string]any{"$object": map[string]string{"time": "datetime.time"}[typ]}
		}
		return map[string]any{"$" + typ: body}
	}
	return v
}

func callablePath(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		if file, ok := v["file"].(string); ok {
			stem := file[strings.LastIndexByte(file, '/')+1:]
			return strings.TrimSuffix(stem, ".py") + "." + v["name"].(string)
		}
		if _, ok := v["json"]; ok {
			return "dagfactory.utils.get_json_serialized_callable.<locals>.<lambda>"
		}
		return "None.<lambda>"
	}
	return ""
}

func decode(raw json.RawMessage) any {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	return tagged(v)
}

func callbackFacts(m map[string][]json.RawMessage) map[string]any {
	out := map[string]any{}
	for name, list := range m {
		var l []any
		for _, raw := range list {
			l = append(l, decode(raw))
		}
		out[name] = l
	}
	return out
}

func (f *factsMaker) dag() map[string]any {
	d := f.d
	out := map[string]any{
		"dag_id": string(d.DagID), "dag_display_name": d.DagDisplayName, "description": f.raw["description"], "doc_md": text(d.DocMD),
		"timetable": f.timetable(), "start_date": iso(d.StartDate), "end_date": iso(d.EndDate), "timezone": d.Timezone, "catchup": d.Catchup,
		"max_active_runs": float64(d.MaxActiveRuns), "max_active_tasks": float64(d.MaxActiveTasks),
		"max_consecutive_failed_dag_runs": float64(d.MaxConsecutiveFailedDagRuns), "dagrun_timeout": secs(d.DagrunTimeout), "fail_fast": d.FailFast,
		"render_template_as_native_obj": d.RenderTemplateAsNativeObj, "is_paused_upon_creation": nil, "tags": ids(d.Tags), "owner_links": map[string]any{},
		"access_control": tagged(f.raw["access_control"]), "params": f.params(d.Params), "default_args": map[string]any{}, "callbacks": callbackFacts(d.Gust.Callbacks),
		"edge_info": map[string]any{}, "topological_order": ids(f.order()),
	}
	out["asset_expression"] = f.assetExpression()
	if d.IsPausedUponCreation != nil {
		out["is_paused_upon_creation"] = *d.IsPausedUponCreation
	}
	if len(d.DefaultArgs) > 0 {
		out["default_args"] = decode(d.DefaultArgs)
	}
	if len(d.Gust.UserDefinedMacros) > 0 {
		m := map[string]any{}
		for k, raw := range d.Gust.UserDefinedMacros {
			m[k] = decode(raw)
		}
		out["user_defined_macros"] = m
	}
	owners := map[string]bool{}
	var roots, leaves, tasks []any
	earliest, latest := d.StartDate, (*time.Time)(nil)
	ends := 0
	for _, t := range d.Tasks {
		owners[t.Owner] = true
		if len(t.Upstream) == 0 {
			roots = append(roots, string(t.TaskID))
		}
		if len(t.Downstream) == 0 {
			leaves = append(leaves, string(t.TaskID))
		}
		if t.StartDate != nil && (earliest == nil || t.StartDate.Before(*earliest)) {
			earliest = t.StartDate
		}
		if e := f.end(t); e != nil {
			ends++
			if latest == nil || e.After(*latest) {
				latest = e
			}
		}
		tasks = append(tasks, f.task(t))
	}
	if ends < len(d.Tasks) {
		latest = nil
	} else if d.EndDate != nil && (latest == nil || d.EndDate.After(*latest)) {
		latest = d.EndDate
	}
	out["time_restriction"] = map[string]any{"earliest": iso(earliest), "latest": iso(latest), "catchup": d.Catchup}
	out["owner"] = strings.Join(sortedNames(owners), ", ")
	out["roots"], out["leaves"], out["tasks"] = sorted(orEmpty(roots)), sorted(orEmpty(leaves)), orEmpty(tasks)
	out["task_group"] = f.group(d.TaskGroup, "")
	return out
}

func orEmpty(v []any) []any {
	if v == nil {
		return []any{}
	}
	return v
}

func sortedNames(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (f *factsMaker) start(t *airflow.Task) *time.Time {
	if t.StartDate != nil {
		return t.StartDate
	}
	return f.d.StartDate
}

func (f *factsMaker) end(t *airflow.Task) *time.Time {
	if t.EndDate != nil {
		return t.EndDate
	}
	return f.d.EndDate
}

func (f *factsMaker) params(ps []airflow.Param) map[string]any {
	out := map[string]any{}
	for _, p := range ps {
		v := decode(p.Default)
		s := decode(p.Schema)
		if s == nil {
			s = map[string]any{}
		}
		if len(p.Default) == 0 {
			v = map[string]any{"$object": "airflow.serialization.definitions.notset.ArgNotSet"}
		}
		// dag-factory's deep copy makes the "no default" marker another object,
		// so that Airflow's has_value is true for it.
		out[p.Name] = map[string]any{"value": v, "has_value": string(p.Default) != "null", "description": text(p.Description), "schema": s}
	}
	return out
}

// timetable asks the scheduler's own timetable, read from the document.
func (f *factsMaker) timetable() map[string]any {
	t, err := schedules.Parse(f.d.Timetable)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return map[string]any{"class": t.Class(), "summary": t.Summary(), "description": t.Description(), "periodic": t.Periodic(),
		"can_be_scheduled": t.CanBeScheduled(), "serialized": f.raw["timetable"]}
}

func (f *factsMaker) assetExpression() any {
	v := f.raw["timetable"].(map[string]any)["__var"].(map[string]any)
	c, ok := v["asset_condition"].(map[string]any)
	if !ok {
		return nil
	}
	return expression(c)
}

func expression(c map[string]any) any {
	switch c["__type"] {
	case "asset_all", "asset_any":
		objs := []any{}
		for _, o := range c["objects"].([]any) {
			objs = append(objs, expression(o.(map[string]any)))
		}
		return map[string]any{strings.TrimPrefix(c["__type"].(string), "asset_"): objs}
	case "asset_alias":
		return map[string]any{"alias": map[string]any{"name": c["name"], "group": c["group"]}}
	case "asset_ref":
		body := map[string]any{}
		for _, k := range []string{"name", "uri"} {
			if v, ok := c[k]; ok {
				body[k] = v
			}
		}
		return map[string]any{"asset_ref": body}
	}
	return map[string]any{"asset": map[string]any{"uri": c["uri"], "name": c["name"], "group": c["group"]}}
}

func (f *factsMaker) group(g *airflow.TaskGroup, _ string) map[string]any {
	out := map[string]any{"group_id": text(string(g.GroupID)), "label": text(g.DisplayName), "tooltip": g.Tooltip, "prefix_group_id": g.PrefixGroupID,
		"mapped": g.IsMapped, "upstream_group_ids": ids(g.UpstreamGroupIDs), "downstream_group_ids": ids(g.DownstreamGroupIDs),
		"upstream_task_ids": ids(g.UpstreamTaskIDs), "downstream_task_ids": ids(g.DownstreamTaskIDs)}
	children := []any{}
	for _, c := range g.Children {
		if c.Group != nil {
			children = append(children, f.group(c.Group, string(g.GroupID)))
		} else {
			children = append(children, string(c.TaskID))
		}
	}
	out["children"] = children
	return out
}

// order is the topological order of the SDK: passes over the children of each
// group, a child is taken once everything it depends on is.
func (f *factsMaker) order() []airflow.TaskID {
	parent := map[airflow.GroupID]*airflow.TaskGroup{}
	byID := map[airflow.GroupID]*airflow.TaskGroup{}
	f.d.TaskGroup.Walk(func(g, p *airflow.TaskGroup) { parent[g.GroupID], byID[g.GroupID] = p, g })
	var out []airflow.TaskID
	var visit func(g *airflow.TaskGroup)
	visit = func(g *airflow.TaskGroup) {
		index := map[string]int{}
		for i, c := range g.Children {
			if c.Group != nil {
				index["g"+string(c.Group.GroupID)] = i
			} else {
				index["t"+string(c.TaskID)] = i
			}
		}
		child := func(t *airflow.Task) int {
			if i, ok := index["t"+string(t.TaskID)]; ok {
				return i
			}
			for p := byID[t.Group]; p != nil; p = parent[p.GroupID] {
				if i, ok := index["g"+string(p.GroupID)]; ok {
					return i
				}
			}
			return -1
		}
		deps := make([]map[int]bool, len(g.Children))
		for i := range deps {
			deps[i] = map[int]bool{}
		}
		groupChild := func(id airflow.GroupID) int {
			for p := byID[id]; p != nil; p = parent[p.GroupID] {
				if i, ok := index["g"+string(p.GroupID)]; ok {
					return i
				}
			}
			return -1
		}
		add := func(i, j int) {
			if j >= 0 && j != i {
				deps[i][j] = true
			}
		}
		for i, c := range g.Children {
			if c.Group != nil {
				for _, u := range c.Group.UpstreamTaskIDs {
					add(i, child(f.d.Task(u)))
				}
				for _, u := range c.Group.UpstreamGroupIDs {
					add(i, groupChild(u))
				}
				continue
			}
			for _, u := range f.d.Task(c.TaskID).Upstream {
				add(i, child(f.d.Task(u)))
			}
		}
		// A group depends also on what its tasks depend on outside of it.
		for _, t := range f.d.Tasks {
			i := child(t)
			if i < 0 || g.Children[i].Group == nil {
				continue
			}
			for _, u := range t.Upstream {
				add(i, child(f.d.Task(u)))
			}
		}
		done := make([]bool, len(g.Children))
		for left := len(g.Children); left > 0; {
			before := left
			for i, c := range g.Children {
				if done[i] {
					continue
				}
				ready := true
				for j := range deps[i] {
					ready = ready && done[j]
				}
				if !ready {
					continue
				}
				done[i] = true
				left--
				if c.Group != nil {
					visit(c.Group)
				} else {
					out = append(out, c.TaskID)
				}
			}
			if left == before {
				return
			}
		}
	}
	visit(f.d.TaskGroup)
	return out
}

var strategies = map[string]string{"downstream": "_DownstreamPriorityWeightStrategy", "upstream": "_UpstreamPriorityWeightStrategy", "absolute": "_AbsolutePriorityWeightStrategy"}

func (f *factsMaker) weight(t *airflow.Task) float64 {
	sum := t.PriorityWeight
	if t.WeightRule == "absolute" {
		return float64(sum)
	}
	next := func(t *airflow.Task) []airflow.TaskID {
		if t.WeightRule == "upstream" {
			return t.Upstream
		}
		return t.Downstream
	}
	up := t.WeightRule == "upstream"
	seen := map[airflow.TaskID]bool{}
	var walk func(l []airflow.TaskID)
	walk = func(l []airflow.TaskID) {
		for _, id := range l {
			if seen[id] {
				continue
			}
			seen[id] = true
			x := f.d.Task(id)
			sum += x.PriorityWeight
			if up {
				walk(x.Upstream)
			} else {
				walk(x.Downstream)
			}
		}
	}
	walk(next(t))
	return float64(sum)
}

func rawOr(t *airflow.Task, key string, def any) any {
	for _, m := range []map[string]json.RawMessage{t.PartialKwargs, t.Raw} {
		if v, ok := m[key]; ok {
			return decode(v)
		}
	}
	return def
}

func (f *factsMaker) task(t *airflow.Task) map[string]any {
	op := f.d.Gust.Operators[t.TaskID]
	spec, _ := operatorspec.Lookup(t.ClassPath())
	label := string(t.TaskID)
	var groupID any
	if t.Group != "" {
		groupID = string(t.Group)
		label = strings.TrimPrefix(label, string(t.Group)+".")
	}
	display := string(t.TaskID)
	if s, ok := rawOr(t, "task_display_name", nil).(string); ok {
		display = s
	} else if s, ok := rawOr(t, "_task_display_name", nil).(string); ok {
		display = s
	}
	if display != string(t.TaskID) {
		label = display
	}
	ext := []any{}
	if raw, ok := t.Raw["template_ext"]; ok {
		ext = decode(raw).([]any)
	}
	out := map[string]any{
		"task_id": string(t.TaskID), "label": label, "task_display_name": display, "operator_class": t.ClassPath(), "task_type": t.TaskType,
		"operator_name": t.OperatorName, "owner": t.Owner, "trigger_rule": string(t.TriggerRule), "retries": float64(t.Retries), "retry_delay": t.RetryDelay.Seconds(),
		"retry_exponential_backoff": rawOr(t, "retry_exponential_backoff", 0.0), "max_retry_delay": secs(t.MaxRetryDelay), "execution_timeout": secs(t.ExecutionTimeout),
		"pool": t.Pool, "pool_slots": float64(t.PoolSlots), "queue": t.Queue, "priority_weight": float64(t.PriorityWeight),
		"weight_rule": strategies[t.WeightRule], "depends_on_past": t.DependsOnPast, "wait_for_downstream": t.WaitForDownstream,
		"ignore_first_depends_on_past": t.IgnoreFirstDependsOnPast != nil && *t.IgnoreFirstDependsOnPast,
		"max_active_tis_per_dag":       limit(t.MaxActiveTIsPerDag), "max_active_tis_per_dagrun": limit(t.MaxActiveTIsPerDagRun),
		"start_date": iso(f.start(t)), "end_date": iso(f.end(t)), "is_mapped": t.IsMapped, "is_setup": t.IsSetup, "is_teardown": t.IsTeardown,
		"on_failure_fail_dagrun": t.OnFailureFailDagrun, "task_group": groupID, "upstream_task_ids": ids(t.Upstream), "downstream_task_ids": ids(t.Downstream),
		"template_fields": ids(t.TemplateFields), "template_ext": ext, "inlets": orList(rawOr(t, "inlets", nil)), "outlets": orList(rawOr(t, "outlets", nil)),
		"executor": text(t.Executor), "do_xcom_push": t.DoXComPush, "effective_priority_weight": f.weight(t),
	}
	if t.IsMapped && out["retry_exponential_backoff"] == true {
		out["retry_exponential_backoff"] = 2.0 // a mapped task answers the factor
	}
	docs := map[string]any{}
	for _, k := range docNames {
		if v := rawOr(t, k, nil); v != nil && v != "" {
			docs[k] = v
		}
	}
	if len(docs) > 0 {
		out["docs"] = docs
	}
	if len(t.Params) > 0 {
		own := map[string]any{}
		for name, v := range f.params(t.Params) {
			m := v.(map[string]any)
			own[name] = map[string]any{"value": m["value"], "schema": m["schema"]}
		}
		out["own_params"] = own
	}
	if cb := callbackFacts(op.Callbacks); len(cb) > 0 {
		out["callbacks"] = cb
	}
	if t.IsMapped {
		f.mapped(t, op, out)
		return out
	}
	values := map[string]any{}
	for _, name := range t.TemplateFields {
		values[name] = templateValue(t, op, spec, name)
	}
	out["template_values"] = values
	if raw, ok := op.Kwargs["python_callable"]; ok {
		out["python_callable"] = decode(raw).(map[string]any)["$callable"]
	}
	out["multiple_outputs"] = t.MultipleOutputs
	if t.IsSensor {
		out["sensor"] = sensorFacts(op, spec)
	}
	return out
}

func orList(v any) any {
	if v == nil {
		return []any{}
	}
	return v
}

// templateValue is the value as the constructor left it: the typed argument of
// the extension where one was given, else the document's, which is a default.
func templateValue(t *airflow.Task, op airflow.OperatorSpec, spec *operatorspec.Spec, name string) any {
	doc, inDoc := t.Raw[name]
	if raw, ok := op.Kwargs[name]; ok {
		v := decode(raw)
		if spec != nil && contains(spec.FalsyDefault, name) && emptyJSON(v) {
			return specValue(spec, name)
		}
		return v
	}
	if inDoc {
		if v := decode(doc); v != "DYNAMIC (set during execution)" {
			if spec != nil {
				if _, ok := spec.FieldValue(name); ok {
					return specValue(spec, name)
				}
			}
			return v
		}
		return map[string]any{"$object": "airflow.sdk.definitions._internal.types.SetDuringExecution"}
	}
	return nil
}

func emptyJSON(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	case string:
		return v == ""
	}
	return false
}

func specValue(spec *operatorspec.Spec, name string) any {
	var v any
	raw, _ := spec.FieldValue(name)
	_ = json.Unmarshal(raw, &v)
	return v
}

func sensorFacts(op airflow.OperatorSpec, spec *operatorspec.Spec) map[string]any {
	out := map[string]any{"poke_interval": 60.0, "timeout": 604800.0, "mode": "poke", "soft_fail": false, "deferrable": nil}
	if spec != nil {
		if p := spec.Param("deferrable"); p != nil {
			out["deferrable"] = false
		}
		for k, raw := range spec.SensorValues {
			var v any
			_ = json.Unmarshal(raw, &v)
			out[k] = v
		}
	}
	for k := range out {
		if raw, ok := op.Kwargs[k]; ok {
			v := decode(raw)
			if m, isMap := v.(map[string]any); isMap && m["$timedelta"] != nil {
				v = m["$timedelta"]
			}
			out[k] = v
		}
	}
	return out
}

func (f *factsMaker) mapped(t *airflow.Task, op airflow.OperatorSpec, out map[string]any) {
	value := map[string]any{}
	sources := map[string]bool{}
	for _, a := range t.Expand.Args {
		if a.XCom != nil {
			value[a.Name] = map[string]any{"$xcomarg": map[string]any{"type": "PlainXComArg", "task_id": string(a.XCom.TaskID), "key": a.XCom.Key}}
			a.XCom.Sources(func(id airflow.TaskID, _ string) { sources[string(id)] = true })
			continue
		}
		value[a.Name] = decode(a.Literal)
	}
	src := []any{}
	for _, s := range sortedNames(sources) {
		src = append(src, s)
	}
	out["expand"] = map[string]any{"type": string(t.Expand.Kind), "value": value, "xcom_sources": src}
	partial := map[string]any{}
	for k, raw := range op.Kwargs {
		if operatorspec.IsBaseParam(k) || t.OperatorName != t.TaskType && k == "python_callable" {
			continue
		}
		partial[k] = decode(raw)
	}
	out["partial_kwargs"] = partial
}
