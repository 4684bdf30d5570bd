package dagspec

import (
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
)

// setID gives the task its id with the group's prefix and checks it.
func (t *task) setID() {
	name, ok := t.name.(string)
	if !ok {
		t.d.report(pyErr("TypeError", "The key has to be a string and is %s:%s", classRepr(t.name), pyStr(t.name)).hint("quote the task_id"), t.field, t.at)
		return
	}
	t.id = t.group.childID(name)
	if err := checkKey(t.id, 250); err != nil {
		t.d.report(err, t.field, t.at)
	}
}

// defaultArg finds an argument in the task's own default_args, the group's, or the DAG's.
func (t *task) defaults() *dict {
	out := t.d.defaultArgs
	merge := func(m *dict) {
		if m == nil || len(m.entries) == 0 {
			return
		}
		out = out.clone()
		for _, e := range m.entries {
			out.set(e)
		}
	}
	merge(t.group.defaultArgs)
	if t.kwargs != nil {
		if v, ok := t.kwargs.lookup("default_args"); ok {
			m, isMap := v.(*dict)
			if !isMap && v != nil {
				t.fail(pyErr("TypeError", "default_args must be a mapping, got %s", classRepr(v)), "default_args")
			}
			t.kwargs.del("default_args")
			merge(m)
		}
	}
	return out
}

// accepts reports whether the class's constructor takes an argument.
func (t *task) accepts(name string) bool {
	return operatorspec.IsBaseParam(name) || t.class.Param(name) != nil
}

// construct checks the constructor call of an unmapped task.
func (t *task) construct() {
	own := t.ownParams()
	defs := t.defaults()
	for _, e := range defs.entries {
		name, ok := e.key.(string)
		if ok && t.kwargs.find(name) < 0 && name != "params" && (t.accepts(name) || t.class.unchecked && operatorspec.IsBaseParam(name)) {
			t.kwargs.set(e)
		}
	}
	t.configured(defs)
	for _, level := range t.class.Required {
		var missing []string
		for _, n := range level {
			if t.kwargs.entry(n) == nil {
				missing = append(missing, n)
			}
		}
		if missing != nil {
			t.fail(missingArgs(missing).hint("%s requires %s", t.class.Type(), strings.Join(level, ", ")), "")
			t.unknownArguments()
			return
		}
	}
	t.unknownArguments()
	t.setID()
	t.baseArguments(own)
	t.classArguments()
}

func missingArgs(missing []string) *pyError {
	if len(missing) == 1 {
		return pyErr("TypeError", "missing keyword argument '%s'", missing[0])
	}
	q := make([]string, len(missing))
	for i, m := range missing {
		q[i] = "'" + m + "'"
	}
	return pyErr("TypeError", "missing keyword arguments %s", strings.Join(q, ", "))
}

// knownNames lists the constructor's arguments, for advice.
func (t *task) knownNames() []string {
	var out []string
	for _, p := range t.class.Params {
		out = append(out, p.Name)
	}
	for _, p := range operatorspec.BaseParams() {
		out = append(out, p.Name)
	}
	return append(out, "dependencies", "task_group_name", "expand", "expand_kwargs", "partial", "operator", "decorator")
}

func (t *task) unknownArguments() {
	if t.class.unchecked {
		return
	}
	for _, e := range t.kwargs.entries {
		name, ok := e.key.(string)
		if ok && t.accepts(name) {
			continue
		}
		at := e.kpos
		if !at.known() {
			at = t.keyPos(pyStr(e.key))
		}
		err := pyErr("TypeError", "Invalid arguments were passed to %s (task_id: %s). Invalid arguments were:\n**kwargs: {%s: %s}", t.class.Type(), pyStr(t.name), pyRepr(e.key), pyRepr(e.val))
		if near := nearest(name, t.knownNames()); near != "" {
			err = err.hint("did you mean %s?", near)
		}
		t.d.report(err, t.field+"."+pyStr(e.key), at)
	}
}

// ownParams takes params out of the arguments.
func (t *task) ownParams() value {
	v := t.kwargs.get("params")
	t.kwargs.del("params")
	return v
}

func (t *task) setParams(v value) {
	if !truthy(v) {
		return
	}
	m, ok := v.(*dict)
	if !ok {
		t.fail(pyErr("TypeError", "params must be a mapping, got %s", classRepr(v)), "params")
		return
	}
	ps, err := paramsOf(m)
	if err != nil {
		t.fail(err, "params")
		return
	}
	for i := range ps {
		ps[i].source = "task"
	}
	t.params = ps
}

var triggerRules = []string{"all_success", "all_failed", "all_done", "all_done_min_one_success", "all_done_setup_success", "one_success", "one_failed",
	"one_done", "none_failed", "none_skipped", "always", "none_failed_min_one_success", "all_skipped"}

// oldTriggerRules are Airflow 2's names, accepted outside of strict mode.
var oldTriggerRules = map[string]string{"dummy": "always", "none_failed_or_skipped": "none_failed_min_one_success"}

// baseArguments checks and converts what BaseOperator takes.
func (t *task) baseArguments(own value) {
	kw := t.kwargs
	get := func(k string) (value, bool) {
		v, ok := kw.lookup(k)
		return v, ok
	}
	for _, e := range kw.entries {
		if n, ok := e.key.(string); ok && operatorspec.IsBaseParam(n) {
			t.attrs[n] = e.val
		}
	}
	t.emailWarnings()
	if v := kw.get("execution_timeout"); v != nil {
		if _, ok := v.(*timedelta); !ok {
			e := pyErr("ValueError", "execution_timeout must be timedelta object but passed as type: %s", classRepr(v)).hint("write {__type__: datetime.timedelta, minutes: 5}")
			if d, ok := t.seconds(v); ok && !t.d.opt.Strict {
				t.attrs["execution_timeout"] = d
				t.d.warn("", t.field+".execution_timeout", t.keyPos("execution_timeout"), "execution_timeout: %s was read as seconds; dag-factory accepts a timedelta only", pyStr(v))
			} else {
				t.fail(e, "execution_timeout")
			}
		}
	}
	t.start, t.end = t.date("start_date"), t.date("end_date")
	t.retries()
	t.poolSlots()
	if v, ok := get("sla"); ok && v != nil {
		t.d.warn("builtins.UserWarning", t.field+".sla", t.keyPos("sla"), "The SLA feature is removed in Airflow 3.0, replaced with Deadline Alerts in >=3.1")
	}
	if v, ok := get("trigger_rule"); ok {
		s, isText := v.(string)
		if n, old := oldTriggerRules[s]; old && !t.d.opt.Strict {
			t.attrs["trigger_rule"], s = n, n
		}
		if !isText || !contains(triggerRules, s) {
			rules := make([]string, len(triggerRules))
			for i, r := range triggerRules {
				rules[i] = "'" + r + "'"
			}
			t.fail(pyErr("ValueError", "The trigger_rule must be one of [%s],'%s.%s'; received '%s'.", strings.Join(rules, ", "), pyStr(t.d.id), pyStr(t.name), pyStr(v)).
				hint("%s", nearestHint(s, triggerRules)), "trigger_rule")
		}
	}
	if t.teardown {
		t.attrs["trigger_rule"] = "all_done_setup_success"
	}
	t.delay("retry_delay")
	t.delay("max_retry_delay")
	t.setParams(own)
	if truthy(t.attrs["wait_for_downstream"]) {
		t.attrs["depends_on_past"] = true
	}
	t.types()
	if v, ok := t.attrs["priority_weight"]; ok {
		t.attrs["priority_weight"] = clampWeight(v)
	}
	if v, ok := t.attrs["owner"]; ok {
		if _, isText := v.(string); !isText {
			t.fail(pyErr("TypeError", "sequence item 0: expected str instance, %s found", typeName(v)).hint("owner expects text"), "owner")
		}
	}
}

func nearestHint(s string, known []string) string {
	if n := nearest(s, known); n != "" {
		return "did you mean " + n + "?"
	}
	return ""
}

func (t *task) emailWarnings() {
	email := t.kwargs.get("email")
	const class, text = "airflow.sdk.exceptions.RemovedInAirflow4Warning", "Setting %s on a task is deprecated; please migrate to SmtpNotifier."
	if email != nil {
		t.d.warn(class, t.field+".email", t.keyPos("email"), text, "email")
	}
	if truthy(email) {
		for _, k := range []string{"email_on_retry", "email_on_failure"} {
			if v, ok := t.kwargs.lookup(k); !ok || v != nil {
				t.d.warn(class, t.field+".email", t.keyPos("email"), text, k)
			}
		}
	}
}

func (t *task) seconds(v value) (*timedelta, bool) {
	if _, isBool := v.(bool); isBool {
		return nil, false
	}
	f, ok := number(v)
	if !ok {
		return nil, false
	}
	d, err := floatDelta(f)
	return d, err == nil
}

// date checks a task's start_date or end_date, which Airflow wants as datetimes.
func (t *task) date(key string) *datetime {
	v := t.kwargs.get(key)
	switch v := v.(type) {
	case nil:
		return nil
	case *datetime:
		if z, err := t.d.defaultZone(); v.zone == nil && err == nil { // else the DAG's zone reports it
			v = &datetime{date: v.date, timeOfDay: v.timeOfDay, zone: z, fold: v.fold}
		}
		return v
	case *date:
		if !t.d.opt.Strict {
			return &datetime{date: *v, zone: t.d.zone}
		}
		t.fail(pyErr("AttributeError", "'datetime.date' object has no attribute 'utcoffset'").hint("write a date and time: 2025-03-01 00:00:00"), key)
	case string:
		if !t.d.opt.Strict {
			if d, kind := parsePendulum(v, t.d.now); kind == parsedDate {
				d.zone = t.d.zone
				return d
			}
		}
		t.fail(pyErr("AttributeError", "'str' object has no attribute 'utcoffset'").hint("write an unquoted date and time: 2025-03-01 00:00:00"), key)
	default:
		t.fail(pyErr("AttributeError", "'%s' object has no attribute 'utcoffset'", typeName(v)).hint("expected a date and time"), key)
	}
	return nil
}

func (t *task) retries() {
	v, ok := t.kwargs.lookup("retries")
	if !ok {
		return
	}
	if v == nil {
		t.attrs["retries"] = int64(0)
		return
	}
	n, err := toInt(v)
	if err != nil {
		t.fail(pyErr("TypeError", "'retries' type must be int, not %s", typeName(v)).hint("expected a whole number, found %s", pyRepr(v)), "retries")
		delete(t.attrs, "retries")
		return
	}
	t.attrs["retries"] = n
}

func (t *task) poolSlots() {
	if v, ok := t.kwargs.lookup("pool_slots"); ok {
		f, isNum := number(v)
		if !isNum {
			t.fail(pyErr("TypeError", "'<' not supported between instances of '%s' and 'int'", typeName(v)).hint("pool_slots expects a whole number"), "pool_slots")
		} else if f < 1 {
			t.fail(pyErr("ValueError", "pool slots for %s in dag %s cannot be less than 1", t.id, pyStr(t.d.id)), "pool_slots")
		}
	}
}

// delay converts seconds to a timedelta.
func (t *task) delay(key string) {
	v, ok := t.kwargs.lookup(key)
	if !ok || v == nil {
		if ok && key == "retry_delay" {
			t.attrs[key] = secondsDelta(300)
		}
		return
	}
	if _, ok := v.(*timedelta); ok {
		return
	}
	if d, ok := t.seconds(v); ok {
		t.attrs[key] = d
		return
	}
	t.fail(pyErr("TypeError", "unsupported type for timedelta seconds component: %s", typeName(v)).hint("expected seconds or {__type__: datetime.timedelta, …}"), key)
}

func typeOK(v value, want operatorspec.PyType) bool {
	if v == nil {
		return true
	}
	switch want {
	case operatorspec.Str:
		_, ok := v.(string)
		return ok
	case operatorspec.Bool:
		_, ok := v.(bool)
		return ok
	case operatorspec.Int:
		n := typeName(v)
		return n == "int" || n == "bool"
	case operatorspec.Number:
		n := typeName(v)
		return n == "int" || n == "bool" || n == "float"
	case operatorspec.Email:
		switch v.(type) {
		case string, *list, *tuple:
			return true
		}
		return false
	case operatorspec.Datetime:
		_, ok := v.(*datetime)
		return ok
	}
	return true
}

func typeRepr(want operatorspec.PyType) string {
	switch want {
	case operatorspec.Number:
		return "(<class 'int'>, <class 'float'>)"
	case operatorspec.Email:
		return "(<class 'str'>, <class 'collections.abc.Sequence'>)"
	case operatorspec.Datetime:
		return "<class 'datetime.datetime'>"
	}
	return "<class '" + string(want) + "'>"
}

// types is Airflow's check of BaseOperator's argument types.
func (t *task) types() {
	for _, p := range operatorspec.BaseParams() {
		if p.Type == operatorspec.Any {
			break
		}
		v, ok := t.attrs[p.Name]
		if !ok || p.Name == "start_date" || p.Name == "end_date" || p.Name == "task_display_name" && t.d.opt.Strict {
			continue
		}
		if !typeOK(v, p.Type) {
			t.fail(pyErr("TypeError", "'%s' for task '%s' expects %s, got %s with value %s", p.Name, t.id, typeRepr(p.Type), classRepr(v), pyRepr(v)), p.Name)
		}
	}
}

// classArguments checks what some classes check of their own arguments.
func (t *task) classArguments() {
	c := t.class
	if c.Sensor {
		t.sensorArguments()
	}
	if s, ok := t.kwargs.get("requirements").(string); ok && strings.Contains(c.Class, "Virtualenv") {
		e := t.kwargs.entry("requirements")
		e.val = &list{items: []item{{s, e.vpos}}}
	}
	switch {
	case c.Derives(operatorspec.ExternalTask):
		t.externalTask()
	case strings.HasSuffix(c.Class, "operators.datetime.BranchDateTimeOperator"):
		if t.kwargs.get("target_lower") == nil && t.kwargs.get("target_upper") == nil {
			t.fail(pyErr("AirflowException", "Both target_upper and target_lower are None. At least one must be defined to be compared to the current datetime"), "target_lower")
		}
	case strings.HasSuffix(c.Class, "weekday.BranchDayOfWeekOperator") || strings.HasSuffix(c.Class, "weekday.DayOfWeekSensor"):
		t.weekDays()
	}
}

var weekdayNames = []string{"MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"}

func (t *task) weekDays() {
	v := t.kwargs.get("week_day")
	var days []value
	if s, ok := v.(string); ok {
		days = []value{s}
	} else if items, err := iterate(v); err == nil {
		days = items
	} else {
		t.fail(pyErr("TypeError", "Unsupported Type for week_day parameter: %s. Input should be iterable type: str, set, list, dict or Weekday enum type", classRepr(v)), "week_day")
		return
	}
	for _, x := range days {
		if s, ok := x.(string); !ok || !contains(weekdayNames, strings.ToUpper(s)) {
			t.fail(pyErr("AttributeError", "Invalid Week Day passed: \"%s\"", pyStr(x)).hint("expected Monday to Sunday"), "week_day")
		}
	}
}

func (t *task) sensorArguments() {
	for _, k := range []string{"poke_interval", "timeout", "max_wait"} {
		v, ok := t.kwargs.lookup(k)
		if !ok || v == nil && k != "poke_interval" {
			continue
		}
		if _, ok := v.(*timedelta); ok {
			continue
		}
		if f, ok := number(v); !ok || f < 0 {
			t.fail(pyErr("ValueError", "Operator arg `%s` must be timedelta object or a non-negative number", k).hint("found %s", pyRepr(v)), k)
		}
	}
	if t.kwargs.get("soft_fail") == true && t.kwargs.get("never_fail") == true {
		t.fail(pyErr("ValueError", "soft_fail and never_fail are mutually exclusive, you can not provide both."), "never_fail")
	}
	if v, ok := t.kwargs.lookup("mode"); ok && v != "poke" && v != "reschedule" {
		t.fail(pyErr("ValueError", "The mode must be one of ['poke', 'reschedule'],'%s .%s'; received '%s'.", pyStr(t.d.id), t.id, pyStr(v)).
			hint("%s", nearestHint(pyStr(v), []string{"poke", "reschedule"})), "mode")
	}
}

const (
	taskStates = "('removed', 'scheduled', 'queued', 'running', 'success', 'restarting', 'failed', 'up_for_retry', 'up_for_reschedule', 'upstream_failed', 'skipped', 'deferred')"
	dagStates  = "(<DagRunState.QUEUED: 'queued'>, <DagRunState.SUCCESS: 'success'>, <DagRunState.RUNNING: 'running'>, <DagRunState.FAILED: 'failed'>)"
)

func (t *task) externalTask() {
	kw := t.kwargs
	states := map[string]bool{}
	total := 0
	for _, k := range []string{"allowed_states", "skipped_states", "failed_states"} {
		items := []value{}
		if truthy(kw.get(k)) {
			var err *pyError
			if items, err = iterate(kw.get(k)); err != nil {
				t.fail(err, k)
				return
			}
		} else if k == "allowed_states" {
			items = []value{"success"}
		}
		for _, s := range items {
			states[pyStr(s)] = true
			total++
		}
	}
	if len(states) != total {
		t.fail(pyErr("DuplicateStateError", "Duplicate values provided across allowed_states, skipped_states and failed_states."), "allowed_states")
		return
	}
	one, many, group := kw.get("external_task_id"), kw.get("external_task_ids"), kw.get("external_task_group_id")
	const tail = "be provided to ExternalTaskSensor; use external_task_id or external_task_ids or external_task_group_id."
	switch {
	case one != nil && truthy(many):
		t.fail(pyErr("ValueError", "Only one of `external_task_id` or `external_task_ids` may %s", tail), "external_task_ids")
		return
	case group != nil && (one != nil || truthy(many)):
		t.fail(pyErr("ValueError", "Only one of `external_task_group_id` or `external_task_ids` may %s", tail), "external_task_group_id")
		return
	}
	ofTask := one != nil || truthy(many) || truthy(group)
	for s := range states {
		if ofTask && !strings.Contains(taskStates, "'"+s+"'") {
			t.fail(pyErr("ValueError", "Valid values for `allowed_states`, `skipped_states` and `failed_states` when `external_task_id` or `external_task_ids` or `external_task_group_id` is not `None`: %s", taskStates), "allowed_states")
			return
		}
		if !ofTask && !strings.Contains(dagStates, "'"+s+"'") {
			t.fail(pyErr("ValueError", "Valid values for `allowed_states`, `skipped_states` and `failed_states` when `external_task_id` and `external_task_group_id` is `None`: %s", dagStates), "allowed_states")
			return
		}
	}
	if kw.get("execution_delta") != nil && kw.get("execution_date_fn") != nil {
		t.fail(pyErr("ValueError", "Only one of `execution_delta` or `execution_date_fn` may be provided to ExternalTaskSensor; not both."), "execution_delta")
	}
}
