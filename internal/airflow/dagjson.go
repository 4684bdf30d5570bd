package airflow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// SerializedVersion is the only version of Airflow's serialized DAG that Gust reads.
const SerializedVersion = 3

type envelope struct {
	Version        int                        `json:"__version"`
	DAG            map[string]json.RawMessage `json:"dag"`
	ClientDefaults struct {
		Tasks map[string]json.RawMessage `json:"tasks"`
	} `json:"client_defaults"`
	Gust GustExtension `json:"gust"`
}

// ParseDAG reads a DAG from Airflow's serialized form, version 3, applying
// client_defaults and then the schema's defaults. It verifies that every edge
// ends at a task and that the graph has no cycle; all problems are reported at
// once in an InvalidError.
func ParseDAG(doc []byte) (*DAG, error) {
	var env envelope
	if err := json.Unmarshal(doc, &env); err != nil {
		return nil, Invalid("", "serialized DAG is not JSON of the expected shape: %v", err)
	}
	if env.Version != SerializedVersion {
		return nil, Invalid("__version", "serialized DAG has version %d: only version %d is read; parse the file again with Airflow 3.3 or Gust", env.Version, SerializedVersion)
	}
	p := &docReader{}
	d := p.dag(env)
	if len(p.problems) == 0 {
		p.link(d)
	}
	if len(p.problems) > 0 {
		return nil, &InvalidError{Problems: p.problems}
	}
	return d, nil
}

type docReader struct{ problems []Problem }

func (p *docReader) fail(field, format string, args ...any) {
	p.problems = append(p.problems, Problem{Field: field, Message: fmt.Sprintf(format, args...)})
}

// fields reads attributes of one object, remembering where it is for messages.
type fields struct {
	p        *docReader
	at       string
	m        map[string]json.RawMessage
	fallback []map[string]json.RawMessage
}

func (f fields) raw(key string) json.RawMessage {
	if v, ok := f.m[key]; ok {
		return v
	}
	for _, m := range f.fallback {
		if v, ok := m[key]; ok {
			return v
		}
	}
	return nil
}

func isNull(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

func (f fields) into(key string, dst any) bool {
	v := f.raw(key)
	if isNull(v) {
		return false
	}
	if err := json.Unmarshal(v, dst); err != nil {
		f.p.fail(f.at+"."+key, "%v", err)
		return false
	}
	return true
}

func (f fields) str(key, def string) string {
	s := def
	f.into(key, &s)
	return s
}

func (f fields) boolean(key string, def bool) bool {
	b := def
	f.into(key, &b)
	return b
}

func (f fields) boolPtr(key string) *bool {
	var b bool
	if f.into(key, &b) {
		return &b
	}
	return nil
}

func (f fields) integer(key string, def int64) int64 {
	n := float64(def)
	if !f.into(key, &n) {
		return def
	}
	return int64(n)
}

// number reads a JSON number, a bool (true is 2: the old retry_exponential_backoff) or a typed value.
func (f fields) number(key string, def float64) float64 {
	v := f.raw(key)
	if isNull(v) {
		return def
	}
	switch string(v) {
	case "true":
		return 2
	case "false":
		return 0
	}
	n, err := strconv.ParseFloat(string(Untag(v)), 64)
	if err != nil {
		f.p.fail(f.at+"."+key, "expected a number, got %s", v)
		return def
	}
	return n
}

func (f fields) seconds(key string, def time.Duration) time.Duration {
	n := f.number(key, math.NaN())
	if math.IsNaN(n) {
		return def
	}
	return SecondsDuration(n)
}

func (f fields) date(key string) *time.Time {
	n := f.number(key, math.NaN())
	if math.IsNaN(n) {
		return nil
	}
	t := EpochTime(n)
	return &t
}

// SecondsDuration converts seconds to a duration, to the microsecond as Airflow keeps it.
func SecondsDuration(s float64) time.Duration {
	return time.Duration(math.Round(s*1e6)) * time.Microsecond
}

// EpochTime converts seconds since the epoch to UTC, to the microsecond.
func EpochTime(s float64) time.Time {
	whole, frac := math.Modf(s)
	return time.Unix(int64(whole), int64(math.Round(frac*1e6))*1000).UTC()
}

// Untag returns the payload of a {"__type": …, "__var": …} value, or v itself.
func Untag(v json.RawMessage) json.RawMessage {
	if len(v) == 0 || v[0] != '{' {
		return v
	}
	var t struct {
		Type string          `json:"__type"`
		Var  json.RawMessage `json:"__var"`
	}
	if json.Unmarshal(v, &t) == nil && t.Type != "" && t.Var != nil {
		return t.Var
	}
	return v
}

// orderedKeys returns the keys of a JSON object in document order.
func orderedKeys(obj json.RawMessage) []string {
	dec := json.NewDecoder(bytes.NewReader(obj))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var keys []string
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return keys
		}
		keys = append(keys, t.(string))
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			return keys
		}
	}
	return keys
}

func (p *docReader) dag(env envelope) *DAG {
	f := fields{p: p, at: "dag", m: env.DAG}
	d := &DAG{
		DagID:                       DagID(f.str("dag_id", "")),
		Description:                 f.str("description", ""),
		DocMD:                       f.str("doc_md", ""),
		Fileloc:                     f.str("fileloc", ""),
		RelativeFileloc:             f.str("relative_fileloc", ""),
		Timezone:                    strings.Trim(string(orDefault(f.raw("timezone"), `"UTC"`)), `"`),
		Timetable:                   f.raw("timetable"),
		StartDate:                   f.date("start_date"),
		EndDate:                     f.date("end_date"),
		Catchup:                     f.boolean("catchup", false),
		MaxActiveRuns:               int(f.integer("max_active_runs", 16)),
		MaxActiveTasks:              int(f.integer("max_active_tasks", 16)),
		MaxConsecutiveFailedDagRuns: int(f.integer("max_consecutive_failed_dag_runs", 0)),
		DagrunTimeout:               f.seconds("dagrun_timeout", 0),
		FailFast:                    f.boolean("fail_fast", false),
		IsPausedUponCreation:        f.boolPtr("is_paused_upon_creation"),
		RenderTemplateAsNativeObj:   f.boolean("render_template_as_native_obj", false),
		RerunWithLatestVersion:      f.boolPtr("rerun_with_latest_version"),
		HasOnSuccessCallback:        f.boolean("has_on_success_callback", false),
		HasOnFailureCallback:        f.boolean("has_on_failure_callback", false),
		DefaultArgs:                 f.raw("default_args"),
		Params:                      p.params("dag.params", f.raw("params"), ""),
		DagDependencies:             f.raw("dag_dependencies"),
		Gust:                        env.Gust,
	}
	if err := CheckID("dag_id", string(d.DagID)); err != nil {
		p.fail("dag.dag_id", "%v", err)
	}
	d.DagDisplayName = f.str("dag_display_name", string(d.DagID))
	f.into("tags", &d.Tags)
	sort.Strings(d.Tags)
	f.into("owner_links", &d.OwnerLinks)
	f.into("edge_info", &d.EdgeInfo)
	f.into("allowed_run_types", &d.AllowedRunTypes)
	if dl := f.raw("deadline"); !isNull(dl) {
		f.into("deadline", &d.Deadlines)
	}
	if isNull(d.Timetable) {
		d.Timetable = json.RawMessage(`{"__type":"airflow.timetables.simple.NullTimetable","__var":{}}`)
	}
	var tasks []json.RawMessage
	f.into("tasks", &tasks)
	d.byID = make(map[TaskID]int, len(tasks))
	for i, raw := range tasks {
		t := p.task(fmt.Sprintf("dag.tasks[%d]", i), raw, env.ClientDefaults.Tasks)
		if t == nil {
			continue
		}
		if _, dup := d.byID[t.TaskID]; dup {
			p.fail("dag.tasks", "task_id %q is used twice", t.TaskID)
			continue
		}
		d.byID[t.TaskID] = len(d.Tasks)
		d.Tasks = append(d.Tasks, t)
	}
	if tg := f.raw("task_group"); !isNull(tg) {
		d.TaskGroup = p.group("dag.task_group", tg)
	} else {
		d.TaskGroup = &TaskGroup{PrefixGroupID: true}
		for _, t := range d.Tasks {
			d.TaskGroup.Children = append(d.TaskGroup.Children, GroupChild{TaskID: t.TaskID})
		}
	}
	return d
}

func orDefault(v json.RawMessage, def string) json.RawMessage {
	if isNull(v) {
		return json.RawMessage(def)
	}
	return v
}

func (p *docReader) params(at string, v json.RawMessage, source string) []Param {
	if isNull(v) {
		return nil
	}
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(v, &pairs); err != nil {
		p.fail(at, "expected a list of [name, param] pairs: %v", err)
		return nil
	}
	var out []Param
	for _, pair := range pairs {
		var name string
		var body struct {
			Default     json.RawMessage `json:"default"`
			Description string          `json:"description"`
			Schema      json.RawMessage `json:"schema"`
			Source      string          `json:"source"`
		}
		if err := json.Unmarshal(pair[0], &name); err != nil {
			p.fail(at, "param name: %v", err)
			continue
		}
		if err := json.Unmarshal(pair[1], &body); err != nil {
			p.fail(at+"."+name, "%v", err)
			continue
		}
		if source != "" && body.Source != source {
			continue
		}
		out = append(out, Param{Name: name, Default: body.Default, Description: body.Description, Schema: Untag(body.Schema), Source: body.Source})
	}
	return out
}

func (p *docReader) task(at string, raw json.RawMessage, defaults map[string]json.RawMessage) *Task {
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal(Untag(raw), &m); err != nil {
		p.fail(at, "%v", err)
		return nil
	}
	top := fields{p: p, at: at, m: m}
	t := &Task{
		TaskID:         TaskID(top.str("task_id", "")),
		IsMapped:       top.boolean("_is_mapped", false),
		NeedsExpansion: top.boolean("_needs_expansion", false),
		Raw:            m,
	}
	if err := CheckID("task_id", string(t.TaskID)); err != nil {
		p.fail(at+".task_id", "%v", err)
	}
	f := fields{p: p, at: "task " + string(t.TaskID), m: m, fallback: []map[string]json.RawMessage{defaults}}
	if t.IsMapped {
		top.into("partial_kwargs", &t.PartialKwargs)
		f = fields{p: p, at: f.at, m: t.PartialKwargs, fallback: []map[string]json.RawMessage{m, defaults}}
	}
	t.TaskType = f.str("task_type", "")
	t.TaskModule = f.str("_task_module", "")
	t.OperatorName = f.str("_operator_name", t.TaskType)
	t.DisplayName = f.str("_task_display_name", string(t.TaskID))
	t.Owner = f.str("owner", "airflow")
	t.DocMD = f.str("doc_md", "")
	rule, err := ParseTriggerRule(f.str("trigger_rule", ""))
	if err != nil {
		p.fail(f.at+".trigger_rule", "%v", err)
	}
	t.TriggerRule = rule
	t.Retries = int(f.integer("retries", 0))
	t.RetryDelay = f.seconds("retry_delay", 300*time.Second)
	t.RetryExponentialFactor = f.number("retry_exponential_backoff", 0)
	t.MaxRetryDelay = f.seconds("max_retry_delay", 0)
	t.ExecutionTimeout = f.seconds("execution_timeout", 0)
	t.Queue = f.str("queue", "default")
	t.Executor = f.str("executor", "")
	t.ExecutorConfig = Untag(f.raw("executor_config"))
	t.Pool = f.str("pool", DefaultPool)
	t.PoolSlots = int(f.integer("pool_slots", 1))
	t.PriorityWeight = f.integer("priority_weight", 1)
	t.WeightRule = f.str("weight_rule", string(WeightDownstream))
	t.DependsOnPast = f.boolean("depends_on_past", false)
	t.WaitForDownstream = f.boolean("wait_for_downstream", false)
	if t.WaitForDownstream {
		t.DependsOnPast = true
	}
	t.IgnoreFirstDependsOnPast = f.boolPtr("ignore_first_depends_on_past")
	t.WaitForPastDependsBeforeSkipping = f.boolean("wait_for_past_depends_before_skipping", false)
	t.MaxActiveTIsPerDag = int(f.integer("max_active_tis_per_dag", 0))
	t.MaxActiveTIsPerDagRun = int(f.integer("max_active_tis_per_dagrun", 0))
	t.StartDate, t.EndDate = f.date("start_date"), f.date("end_date")
	t.IsSetup, t.IsTeardown = f.boolean("is_setup", false), f.boolean("is_teardown", false)
	t.OnFailureFailDagrun = f.boolean("on_failure_fail_dagrun", false)
	t.IsSensor, t.IsEmpty = f.boolean("_is_sensor", false), f.boolean("_is_empty", false)
	t.CanSkipDownstream = f.boolean("_can_skip_downstream", false)
	t.DoXComPush, t.MultipleOutputs = f.boolean("do_xcom_push", true), f.boolean("multiple_outputs", false)
	t.MapIndexTemplate = f.str("map_index_template", "")
	t.Email = addresses(f.raw("email"))
	t.EmailOnFailure, t.EmailOnRetry = f.boolean("email_on_failure", true), f.boolean("email_on_retry", true)
	t.RunAsUser = f.str("run_as_user", "")
	t.HasOnExecuteCallback = f.boolean("has_on_execute_callback", false)
	t.HasOnSuccessCallback = f.boolean("has_on_success_callback", false)
	t.HasOnFailureCallback = f.boolean("has_on_failure_callback", false)
	t.HasOnRetryCallback = f.boolean("has_on_retry_callback", false)
	t.HasOnSkippedCallback = f.boolean("has_on_skipped_callback", false)
	t.StartFromTrigger = f.boolean("start_from_trigger", false)
	t.StartTriggerArgs = f.raw("start_trigger_args")
	f.into("template_fields", &t.TemplateFields)
	top.into("downstream_task_ids", &t.Downstream)
	sort.Slice(t.Downstream, func(i, j int) bool { return t.Downstream[i] < t.Downstream[j] })
	t.Inlets, t.Outlets = p.assetRefs(f, "inlets"), p.assetRefs(f, "outlets")
	t.Params = p.params(f.at+".params", Untag(f.raw("params")), "task")
	if t.IsMapped {
		attr := top.str("_expand_input_attr", "expand_input")
		if v := top.raw(attr); !isNull(v) {
			t.Expand = p.expand(f.at+"."+attr, v)
		} else {
			p.fail(f.at, "is mapped but has no %s", attr)
		}
	}
	return t
}

// addresses reads an email argument: a text with commas or semicolons, or a list.
func addresses(v json.RawMessage) []string {
	v = Untag(v)
	var one string
	var many []string
	if json.Unmarshal(v, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(v, &many) != nil {
		return nil
	}
	var out []string
	for _, s := range many {
		for _, a := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' }) {
			if a = strings.TrimSpace(a); a != "" {
				out = append(out, a)
			}
		}
	}
	return out
}

func (p *docReader) assetRefs(f fields, key string) []AssetRef {
	v := Untag(f.raw(key))
	if isNull(v) {
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(v, &items); err != nil {
		p.fail(f.at+"."+key, "expected a list: %v", err)
		return nil
	}
	var out []AssetRef
	for _, it := range items {
		var tag AssetRef
		if err := json.Unmarshal(it, &tag); err != nil {
			p.fail(f.at+"."+key, "%v", err)
			continue
		}
		ref := tag
		if err := json.Unmarshal(Untag(it), &ref); err != nil {
			p.fail(f.at+"."+key, "%v", err)
			continue
		}
		ref.Type = tag.Type
		out = append(out, ref)
	}
	return out
}

func (p *docReader) group(at string, v json.RawMessage) *TaskGroup {
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal(v, &m); err != nil {
		p.fail(at, "%v", err)
		return &TaskGroup{}
	}
	f := fields{p: p, at: at, m: m}
	g := &TaskGroup{
		GroupID:       GroupID(f.str("_group_id", "")),
		Tooltip:       f.str("tooltip", ""),
		PrefixGroupID: f.boolean("prefix_group_id", true),
		IsMapped:      f.boolean("is_mapped", false),
		Raw:           m,
	}
	if g.DisplayName = f.str("group_display_name", ""); g.DisplayName == "" {
		g.DisplayName = string(g.GroupID) // the label, without the groups around it
	}
	f.into("upstream_group_ids", &g.UpstreamGroupIDs)
	f.into("downstream_group_ids", &g.DownstreamGroupIDs)
	f.into("upstream_task_ids", &g.UpstreamTaskIDs)
	f.into("downstream_task_ids", &g.DownstreamTaskIDs)
	if x := f.raw("expand_input"); g.IsMapped && !isNull(x) {
		g.Expand = p.expand(at+".expand_input", x)
	}
	children := f.raw("children")
	var byName map[string][2]json.RawMessage
	if !isNull(children) {
		if err := json.Unmarshal(children, &byName); err != nil {
			p.fail(at+".children", "%v", err)
		}
	}
	for _, name := range orderedKeys(children) {
		pair := byName[name]
		switch string(pair[0]) {
		case `"operator"`:
			var id TaskID
			if err := json.Unmarshal(pair[1], &id); err != nil {
				p.fail(at+".children."+name, "%v", err)
			}
			g.Children = append(g.Children, GroupChild{TaskID: id})
		case `"taskgroup"`:
			sub := p.group(at+".children."+name, pair[1])
			sub.GroupID = GroupID(name) // _group_id is the label; the key is the full id
			g.Children = append(g.Children, GroupChild{Group: sub})
		default:
			p.fail(at+".children."+name, "expected [\"operator\", id] or [\"taskgroup\", {…}], got %s", pair[0])
		}
	}
	return g
}

func (p *docReader) expand(at string, v json.RawMessage) *ExpandInput {
	var in struct {
		Type  ExpandKind      `json:"type"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(v, &in); err != nil {
		p.fail(at, "%v", err)
		return nil
	}
	x := &ExpandInput{Kind: in.Type}
	switch in.Type {
	case ExpandDictOfLists:
		args := Untag(in.Value)
		var byName map[string]json.RawMessage
		if err := json.Unmarshal(args, &byName); err != nil {
			p.fail(at+".value", "%v", err)
			return x
		}
		for _, name := range orderedKeys(args) {
			x.Args = append(x.Args, p.expandArg(at+"."+name, name, byName[name]))
		}
	case ExpandListOfDicts:
		x.Args = []ExpandArg{p.expandArg(at+".value", "", in.Value)}
	default:
		p.fail(at+".type", "expansion %q is unknown: expected dict-of-lists or list-of-dicts", in.Type)
	}
	return x
}

func (p *docReader) expandArg(at, name string, v json.RawMessage) ExpandArg {
	if ref, ok := p.xcomRef(at, v); ok {
		return ExpandArg{Name: name, XCom: ref}
	}
	n, err := literalLength(v)
	if err != nil {
		p.fail(at, "%v", err)
	}
	return ExpandArg{Name: name, Literal: v, Length: n}
}

// literalLength returns the number of elements of a literal list, tuple, set or dict.
func literalLength(v json.RawMessage) (int, error) {
	body := bytes.TrimSpace(Untag(v))
	switch {
	case len(body) > 0 && body[0] == '[':
		var l []json.RawMessage
		err := json.Unmarshal(body, &l)
		return len(l), err
	case len(body) > 0 && body[0] == '{':
		var m map[string]json.RawMessage
		err := json.Unmarshal(body, &m)
		return len(m), err
	}
	return 0, fmt.Errorf("expected a list, a dict or an XCom to expand over, got %.60s", body)
}

func (p *docReader) xcomRef(at string, v json.RawMessage) (*XComRef, bool) {
	if len(v) == 0 || v[0] != '{' {
		return nil, false
	}
	var tag struct {
		Type string          `json:"__type"`
		Var  json.RawMessage `json:"__var"`
	}
	if json.Unmarshal(v, &tag) != nil || tag.Type != "xcomref" {
		return nil, false
	}
	return p.xcomBody(at, tag.Var), true
}

func (p *docReader) xcomBody(at string, v json.RawMessage) *XComRef {
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal(Untag(v), &m); err != nil {
		p.fail(at, "%v", err)
		return &XComRef{}
	}
	f := fields{p: p, at: at, m: m}
	x := &XComRef{Type: XComRefType(f.str("type", ""))}
	operand := func(at string, v json.RawMessage) *XComRef {
		if len(v) > 0 && v[0] == '[' {
			n, err := literalLength(v)
			if err != nil {
				p.fail(at, "%v", err)
			}
			return &XComRef{Literal: v, Length: n}
		}
		return p.xcomBody(at, v)
	}
	switch x.Type {
	case XComPlain, "plain":
		x.Type = XComPlain
		x.TaskID = TaskID(f.str("task_id", ""))
		x.Key = f.str("key", "return_value")
	case XComMap:
		x.Args = []*XComRef{operand(at+".arg", f.raw("arg"))}
		f.into("callables", &x.Callables)
	case XComZip, XComConcat:
		var args []json.RawMessage
		f.into("args", &args)
		for i, a := range args {
			x.Args = append(x.Args, operand(fmt.Sprintf("%s.args[%d]", at, i), a))
		}
		if v, ok := m["fillvalue"]; ok {
			x.HasFill, x.FillValue = true, v
		}
	default:
		p.fail(at+".type", "xcomref type %q is unknown: expected map, zip, concat or none", x.Type)
	}
	return x
}

// link fills upstreams and groups and rejects dangling edges and cycles.
func (p *docReader) link(d *DAG) {
	for _, t := range d.Tasks {
		for _, down := range t.Downstream {
			j, ok := d.byID[down]
			if !ok {
				p.fail("task "+string(t.TaskID)+".downstream_task_ids", "task %q does not exist in DAG %q", down, d.DagID)
				continue
			}
			d.Tasks[j].Upstream = append(d.Tasks[j].Upstream, t.TaskID)
		}
	}
	for _, t := range d.Tasks {
		sort.Slice(t.Upstream, func(i, j int) bool { return t.Upstream[i] < t.Upstream[j] })
	}
	d.TaskGroup.Walk(func(g, _ *TaskGroup) {
		for _, c := range g.Children {
			if c.Group != nil {
				continue
			}
			t := d.Task(c.TaskID)
			if t == nil {
				p.fail("dag.task_group", "task %q of group %q does not exist", c.TaskID, g.GroupID)
				continue
			}
			t.Group = g.GroupID
		}
	})
	if cyc := d.cycle(); cyc != nil {
		p.fail("dag.tasks", "DAG %q has a cycle: %s", d.DagID, strings.Join(cyc, " >> "))
	}
}

// cycle returns the task ids along one cycle, or nil.
func (d *DAG) cycle() []string {
	const (
		unseen = iota
		open
		done
	)
	mark := make([]int, len(d.Tasks))
	type frame struct{ task, next int }
	for start := range d.Tasks {
		if mark[start] != unseen {
			continue
		}
		stack := []frame{{task: start}}
		mark[start] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(d.Tasks[top.task].Downstream) {
				mark[top.task] = done
				stack = stack[:len(stack)-1]
				continue
			}
			j, ok := d.byID[d.Tasks[top.task].Downstream[top.next]]
			top.next++
			if !ok {
				continue
			}
			switch mark[j] {
			case unseen:
				mark[j] = open
				stack = append(stack, frame{task: j})
			case open:
				var path []string
				for i := range stack {
					if len(path) > 0 || stack[i].task == j {
						path = append(path, string(d.Tasks[stack[i].task].TaskID))
					}
				}
				return append(path, string(d.Tasks[j].TaskID))
			}
		}
	}
	return nil
}
