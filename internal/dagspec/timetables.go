package dagspec

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/timetable/cron"
)

// timetable is what a schedule becomes, before serialization.
type timetable struct {
	typ            string // serialized class path below "airflow.timetables."
	crons          []string
	zone           string
	interval       value // *timedelta or *relativedelta
	runImmediately value // bool or *timedelta
	delta          value
	events         []*datetime
	restrict       bool
	description    value
	summary        string
	asset          *object
	inner          *timetable
	runOffset      value
	keyFormat      string
	noSummary      bool // SDK's EventsTimetable: cannot be serialized
}

const (
	ttNull      = "simple.NullTimetable"
	ttOnce      = "simple.OnceTimetable"
	ttContinous = "simple.ContinuousTimetable"
	ttAsset     = "simple.AssetTriggeredTimetable"
	ttAssetTime = "assets.AssetOrTimeSchedule"
	ttCron      = "trigger.CronTriggerTimetable"
	ttMultiCron = "trigger.MultipleCronTriggerTimetable"
	ttPartition = "trigger.CronPartitionTimetable"
	ttDelta     = "trigger.DeltaTriggerTimetable"
	ttCronData  = "interval.CronDataIntervalTimetable"
	ttDeltaData = "interval.DeltaDataIntervalTimetable"
	ttEvents    = "events.EventsTimetable"
	ttAtRuntime = "simple.PartitionedAtRuntime"
)

// canBeScheduled reports whether the timetable ever makes runs by itself.
func (t *timetable) canBeScheduled() bool { return t.typ != ttNull && t.typ != ttAtRuntime }

var presets = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
	"@quarterly": "0 0 1 */3 *", "@yearly": "0 0 1 1 *",
}

func expandCron(s string) string {
	if p, ok := presets[s]; ok {
		return p
	}
	return s
}

// checkCron is the validation DagBag does of a cron expression.
func checkCron(expr string) error {
	_, err := cron.Parse(expr)
	if err == nil {
		return nil
	}
	e := pyErr("AirflowTimetableInvalid", "%v", err)
	if strings.HasPrefix(expr, "@") {
		return e.hint("expected @once, @continuous, @hourly, @daily, @weekly, @monthly, @quarterly or @yearly")
	}
	var s *cron.SyntaxError
	if errors.As(err, &s) {
		return e.hint("expected five fields: minute hour day-of-month month day-of-week")
	}
	return e
}

// check is timetable.validate().
func (t *timetable) check() error {
	for _, c := range t.crons {
		if err := checkCron(c); err != nil {
			return err
		}
	}
	if t.inner != nil {
		return t.inner.check()
	}
	return nil
}

var (
	sdkTT  = "airflow.sdk.definitions.timetables."
	coreTT = "airflow.timetables."
)

type timetableMaker struct {
	path string
	sig  *signature
	make func(l *loader, c *class, core bool, a map[string]value, extra []value) (*object, error)
}

func sig(name string, pos []string, minPos int, kwOnly []string, need ...string) *signature {
	return &signature{name: name + ".__init__", pos: pos, minPos: minPos, kwOnly: kwOnly, needKw: need}
}

// timetableMakers are the built-in timetables of the SDK and of the core.
var timetableMakers = func() map[string]timetableMaker {
	m := map[string]timetableMaker{}
	add := func(path string, s *signature, f func(l *loader, c *class, core bool, a map[string]value, extra []value) (*object, error)) {
		m[path] = timetableMaker{path, s, f}
	}
	trig := []string{"timezone", "interval", "run_immediately"}
	add(sdkTT+"trigger.CronTriggerTimetable", sig("CronTriggerTimetable", []string{"expression", "timezone"}, 2, trig[1:]), makeCronTrigger)
	add(coreTT+"trigger.CronTriggerTimetable", sig("CronTriggerTimetable", []string{"cron"}, 1, trig, "timezone"), makeCronTrigger)
	multi := sig("MultipleCronTriggerTimetable", nil, 0, trig, "timezone")
	multi.varArgs = true
	add(sdkTT+"trigger.MultipleCronTriggerTimetable", multi, makeMultiCron)
	add(coreTT+"trigger.MultipleCronTriggerTimetable", multi, makeMultiCron)
	part := sig("CronPartitionTimetable", []string{"cron"}, 1, []string{"timezone", "run_offset", "run_immediately", "key_format"}, "timezone")
	add(sdkTT+"trigger.CronPartitionTimetable", part, makePartition)
	add(coreTT+"trigger.CronPartitionTimetable", part, makePartition)
	delta := sig("DeltaTriggerTimetable", []string{"delta"}, 1, []string{"interval"})
	add(sdkTT+"trigger.DeltaTriggerTimetable", delta, makeDelta)
	add(coreTT+"trigger.DeltaTriggerTimetable", delta, makeDelta)
	ddi := sig("DeltaDataIntervalTimetable", []string{"delta"}, 1, nil)
	add(sdkTT+"interval.DeltaDataIntervalTimetable", ddi, makeDelta)
	add(coreTT+"interval.DeltaDataIntervalTimetable", ddi, makeDelta)
	add(sdkTT+"interval.CronDataIntervalTimetable", sig("CronDataIntervalTimetable", []string{"expression", "timezone"}, 2, nil), makeCronData)
	add(coreTT+"interval.CronDataIntervalTimetable", sig("CronDataIntervalTimetable", []string{"cron", "timezone"}, 2, nil), makeCronData)
	add(sdkTT+"events.EventsTimetable", sig("EventsTimetable", []string{"event_dates"}, 1, []string{"restrict_to_events", "presorted", "description"}), makeEvents)
	add(coreTT+"events.EventsTimetable", sig("EventsTimetable", []string{"event_dates", "restrict_to_events", "presorted", "description"}, 1, nil), makeEvents)
	aot := sig("AssetOrTimeSchedule", nil, 0, []string{"assets", "timetable"}, "assets", "timetable")
	add(sdkTT+"assets.AssetOrTimeSchedule", aot, makeAssetOrTime)
	add(coreTT+"assets.AssetOrTimeSchedule", sig("AssetOrTimeSchedule", nil, 0, []string{"assets", "timetable"}, "timetable", "assets"), makeAssetOrTime)
	at := sig("AssetTriggeredTimetable", []string{"assets"}, 1, nil)
	add(sdkTT+"assets.AssetTriggeredTimetable", at, makeAssetTriggered)
	add(coreTT+"simple.AssetTriggeredTimetable", at, makeAssetTriggered)
	for _, n := range []string{"NullTimetable", "OnceTimetable", "ContinuousTimetable"} {
		typ := "simple." + n
		trivial := func(_ *loader, c *class, core bool, _ map[string]value, _ []value) (*object, error) {
			return &object{class: c, kind: kindTimetable, core: core, tt: &timetable{typ: typ}}, nil
		}
		add(sdkTT+typ, sig(n, nil, 0, nil), trivial)
		add(coreTT+typ, sig(n, nil, 0, nil), trivial)
	}
	return m
}()

// zoneOf reads the timezone argument of a timetable.
func (l *loader) zoneOf(v value) (string, *timezone, error) {
	if z, ok := v.(*timezone); ok {
		return z.name, z, nil
	}
	z, err := l.loadZone(v)
	if err != nil {
		return "", nil, err
	}
	return z.name, z, nil
}

func orValue(a map[string]value, name string, def value) value {
	if v, ok := a[name]; ok {
		return v
	}
	return def
}

// noInterval is the default of every interval argument: one shared object, as in Python.
var noInterval = &timedelta{}

// interval checks the type of interval and run_immediately.
func checkDelta(name string, v value, zeroOK bool) error {
	switch v.(type) {
	case *timedelta, *relativedelta:
		return nil
	case bool:
		if zeroOK {
			return nil
		}
	case nil:
		if zeroOK {
			return nil
		}
	}
	return pyErr("TypeError", "%s must be a timedelta, got %s", name, typeName(v)).hint("write {__type__: datetime.timedelta, hours: 1}")
}

func cronText(v value) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", pyErr("TypeError", "a cron expression must be text, got %s", typeName(v)).hint("quote it")
	}
	return expandCron(s), nil
}

func describe(expr string) string { return cron.Describe(expr) }

func cronTriggerAttrs(core bool, expr string, zone value, zoneObj *timezone, interval, imm value) []attr {
	if core {
		return []attr{{"_expression", expr}, {"_timezone", zoneObj}, {"description", describe(expr)}, {"_interval", interval}, {"_run_immediately", imm}}
	}
	return []attr{{"expression", expr}, {"timezone", zone}, {"interval", interval}, {"run_immediately", imm}}
}

func makeCronTrigger(l *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	name := "expression"
	if core {
		name = "cron"
	}
	expr, err := cronText(a[name])
	if err != nil {
		return nil, err
	}
	zone, zoneObj, err := l.zoneOf(a["timezone"])
	if err != nil {
		return nil, err
	}
	interval, imm := orValue(a, "interval", noInterval), orValue(a, "run_immediately", false)
	if err := checkDelta("interval", interval, false); err != nil {
		return nil, err
	}
	if err := checkDelta("run_immediately", imm, true); err != nil {
		return nil, err
	}
	tt := &timetable{typ: ttCron, crons: []string{expr}, zone: zone, interval: interval, runImmediately: imm}
	return &object{class: c, kind: kindTimetable, core: core, tt: tt, attrs: cronTriggerAttrs(core, expr, a["timezone"], zoneObj, interval, imm)}, nil
}

func makeMultiCron(l *loader, c *class, core bool, a map[string]value, extra []value) (*object, error) {
	if len(extra) == 0 {
		return nil, pyErr("ValueError", "cron expression required").hint("list them in __args__")
	}
	zone, zoneObj, err := l.zoneOf(a["timezone"])
	if err != nil {
		return nil, err
	}
	interval, imm := orValue(a, "interval", noInterval), orValue(a, "run_immediately", false)
	if err := checkDelta("interval", interval, false); err != nil {
		return nil, err
	}
	tt := &timetable{typ: ttMultiCron, zone: zone, interval: interval, runImmediately: imm}
	parts := &list{}
	var descriptions []string
	sub := &class{strings.Replace(c.path, "MultipleCron", "Cron", 1)}
	for _, x := range extra {
		expr, err := cronText(x)
		if err != nil {
			return nil, err
		}
		tt.crons = append(tt.crons, expr)
		descriptions = append(descriptions, describe(expr))
		parts.items = append(parts.items, item{val: &object{class: sub, kind: kindTimetable, core: core,
			attrs: cronTriggerAttrs(core, expr, a["timezone"], zoneObj, interval, imm)}})
	}
	o := &object{class: c, kind: kindTimetable, core: core, tt: tt, attrs: []attr{{"timetables", parts}}}
	if core {
		o.attrs = []attr{{"_timetables", parts}, {"description", strings.Join(descriptions, ", ")}}
	}
	return o, nil
}

func makePartition(l *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	expr, err := cronText(a["cron"])
	if err != nil {
		return nil, err
	}
	zone, zoneObj, err := l.zoneOf(a["timezone"])
	if err != nil {
		return nil, err
	}
	imm, off := orValue(a, "run_immediately", false), a["run_offset"]
	key := orValue(a, "key_format", "%Y-%m-%dT%H:%M:%S")
	tt := &timetable{typ: ttPartition, crons: []string{expr}, zone: zone, runImmediately: imm, runOffset: off, keyFormat: pyStr(key)}
	return &object{class: c, kind: kindTimetable, core: core, tt: tt,
		attrs: append(cronTriggerAttrs(core, expr, a["timezone"], zoneObj, noInterval, imm), attr{"run_offset", off}, attr{"key_format", key})}, nil
}

func makeDelta(_ *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	if err := checkDelta("delta", a["delta"], false); err != nil {
		return nil, err
	}
	prefix := ""
	if core {
		prefix = "_"
	}
	o := &object{class: c, kind: kindTimetable, core: core, attrs: []attr{{prefix + "delta", a["delta"]}}}
	if strings.Contains(c.path, "DataInterval") {
		o.tt = &timetable{typ: ttDeltaData, delta: a["delta"]}
		return o, nil
	}
	interval := orValue(a, "interval", noInterval)
	if err := checkDelta("interval", interval, false); err != nil {
		return nil, err
	}
	o.attrs = append(o.attrs, attr{prefix + "interval", interval})
	o.tt = &timetable{typ: ttDelta, delta: a["delta"], interval: interval}
	return o, nil
}

func makeCronData(l *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	name := "expression"
	if core {
		name = "cron"
	}
	expr, err := cronText(a[name])
	if err != nil {
		return nil, err
	}
	zone, zoneObj, err := l.zoneOf(a["timezone"])
	if err != nil {
		return nil, err
	}
	o := &object{class: c, kind: kindTimetable, core: core, tt: &timetable{typ: ttCronData, crons: []string{expr}, zone: zone},
		attrs: []attr{{"expression", expr}, {"timezone", a["timezone"]}}}
	if core {
		o.attrs = []attr{{"_expression", expr}, {"_timezone", zoneObj}, {"description", describe(expr)}}
	}
	return o, nil
}

func makeEvents(l *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	dates, ok := a["event_dates"].(*list)
	if !ok {
		return nil, pyErr("TypeError", "'%s' object is not iterable", typeName(a["event_dates"])).hint("event_dates expects a list of dates")
	}
	tt := &timetable{typ: ttEvents, restrict: truthy(a["restrict_to_events"]), description: a["description"], noSummary: !core}
	for _, it := range dates.items {
		d, ok := it.val.(*datetime)
		if core && !l.opt.Strict {
			var err error
			if d, ok, err = l.eventDate(it); err != nil {
				return nil, err
			}
		}
		if !ok {
			return nil, pyErr("TypeError", "event_dates: expected a date and time, got %s", typeName(it.val)).in("event_dates", it.pos)
		}
		tt.events = append(tt.events, d)
	}
	if !core {
		return &object{class: c, kind: kindTimetable, tt: tt,
			attrs: []attr{{"event_dates", dates}, {"restrict_to_events", orValue(a, "restrict_to_events", false)}, {"description", a["description"]}}}, nil
	}
	if !truthy(a["presorted"]) {
		for i := 1; i < len(tt.events); i++ {
			for j := i; j > 0 && tt.events[j].utc().Before(tt.events[j-1].utc()); j-- {
				tt.events[j], tt.events[j-1] = tt.events[j-1], tt.events[j]
			}
		}
	}
	sorted := &list{}
	for _, d := range tt.events {
		sorted.items = append(sorted.items, item{val: d})
	}
	n := len(tt.events)
	given := false
	if s, ok := a["description"].(string); ok && s != "" {
		tt.summary, tt.description, given = s, s, true
	} else if n == 0 {
		tt.summary, tt.description = "0 events", "0 events between None and None"
	} else {
		tt.summary = pyStr(int64(n)) + " events"
		tt.description = tt.summary + " between " + tt.events[0].iso("T") + " and " + tt.events[n-1].iso("T")
	}
	attrs := []attr{{"event_dates", sorted}, {"restrict_to_events", orValue(a, "restrict_to_events", false)}, {"_summary", tt.summary}, {"description", tt.description}}
	if !given {
		attrs[2], attrs[3] = attrs[3], attrs[2]
	}
	return &object{class: c, kind: kindTimetable, core: true, tt: tt, attrs: attrs}, nil
}

// eventDate reads a date of an EventsTimetable. One without an offset, which
// Airflow takes and then cannot compare, is of the default time zone.
func (l *loader) eventDate(it item) (*datetime, bool, error) {
	d, ok := it.val.(*datetime)
	switch v := it.val.(type) {
	case *date:
		d, ok = &datetime{date: *v}, true
	case string:
		if at, err := time.Parse(time.RFC3339Nano, strings.Replace(v, " ", "T", 1)); err == nil {
			d, ok = fromInstant(at.UTC(), utcZone), true
		} else if p, kind := parsePendulum(v, l.now); kind == parsedDate && !hasOffset.MatchString(v) {
			d, ok = p, true
		}
	}
	if !ok || d.zone != nil {
		return d, ok, nil
	}
	z, err := l.defaultZone()
	if err != nil {
		return nil, false, err
	}
	l.warn("", "", it.pos, "event_dates: %s has no offset and counts as %s; Airflow fails to schedule such a DAG", pyStr(it.val), z.name)
	return &datetime{date: d.date, timeOfDay: d.timeOfDay, zone: z, fold: d.fold}, true, nil
}

var hasOffset = regexp.MustCompile(`(Z|[+-]\d\d:?\d\d)$`)

func makeAssetOrTime(_ *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	inner, ok := a["timetable"].(*object)
	if !ok || inner.kind != kindTimetable || inner.tt == nil {
		return nil, pyErr("TypeError", "timetable must be a timetable, got %s", typeName(a["timetable"]))
	}
	cond, err := assetCondition(a["assets"])
	if err != nil {
		return nil, err
	}
	tt := &timetable{typ: ttAssetTime, asset: cond, inner: inner.tt}
	o := &object{class: c, kind: kindTimetable, core: core, tt: tt, attrs: []attr{{"asset_condition", cond}, {"timetable", inner}}}
	if core {
		d, _ := inner.get("description").(string)
		o.attrs = []attr{{"asset_condition", serializedAsset(cond)}, {"timetable", inner}, {"description", "Triggered by assets or " + d},
			{"periodic", inner.tt.typ != ttOnce && inner.tt.typ != ttNull}, {"can_be_scheduled", inner.tt.canBeScheduled()}, {"active_runs_limit", nil}}
	}
	return o, nil
}

func makeAssetTriggered(_ *loader, c *class, core bool, a map[string]value, _ []value) (*object, error) {
	cond, err := assetCondition(a["assets"])
	if err != nil {
		return nil, err
	}
	return &object{class: c, kind: kindTimetable, core: core, tt: &timetable{typ: ttAsset, asset: cond}, attrs: []attr{{"asset_condition", cond}}}, nil
}

// assetCondition turns one asset expression or a list of assets into one expression.
func assetCondition(v value) (*object, error) {
	if o, ok := v.(*object); ok && o.isAsset() {
		return o, nil
	}
	var items []value
	switch v := v.(type) {
	case *list:
		for _, it := range v.items {
			items = append(items, it.val)
		}
	case *tuple:
		items = v.items
	case *dict:
		for _, e := range v.entries {
			items = append(items, e.key)
		}
	default:
		return nil, pyErr("TypeError", "'%s' object is not iterable", typeName(v)).hint("assets expects an asset, an expression or a list of assets")
	}
	o, err := newCondition(classAll, kindAssetAll, items, nil)
	if err != nil {
		return nil, err
	}
	return o.(*object), nil
}

const serializedModule = "airflow.serialization.definitions.assets."

// serializedAsset is the scheduler's copy of an asset expression, as the core's
// AssetOrTimeSchedule keeps it.
func serializedAsset(o *object) *object {
	switch o.kind {
	case kindAssetAll, kindAssetAny:
		l := &list{}
		for _, x := range o.get("objects").(*tuple).items {
			l.items = append(l.items, item{val: serializedAsset(x.(*object))})
		}
		return &object{class: &class{serializedModule + "Serialized" + o.class.name()}, kind: kindOther, attrs: []attr{{"objects", l}}}
	case kindAsset:
		return &object{class: &class{serializedModule + "SerializedAsset"}, kind: kindOther, attrs: []attr{{"name", o.get("name")}, {"uri", o.get("uri")},
			{"group", o.get("group")}, {"extra", o.get("extra")}, {"watchers", o.get("watchers")}, {"access_control", &dict{}}}}
	}
	return &object{class: &class{serializedModule + "Serialized" + o.class.name()}, kind: kindOther, attrs: o.attrs}
}
