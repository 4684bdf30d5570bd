package dagspec

import (
	"math"
	"regexp"
	"strings"
)

// Deadline alerts: the SDK's DeadlineAlert, its references and callbacks.

var (
	classAlert = &class{"airflow.sdk.definitions.deadline.DeadlineAlert"}
	classAsync = &class{"airflow.sdk.definitions.callback.AsyncCallback"}
	classSync  = &class{"airflow.sdk.definitions.callback.SyncCallback"}
)

// deadlineReferences are the classes behind DeadlineReference's names.
var deadlineReferences = map[string]string{
	"DAGRUN_LOGICAL_DATE": "DagRunLogicalDateDeadline", "DAGRUN_QUEUED_AT": "DagRunQueuedAtDeadline",
	"FIXED_DATETIME": "FixedDatetimeDeadline", "AVERAGE_RUNTIME": "AverageRuntimeDeadline",
}

const deadlineModule = "airflow.sdk.definitions.deadline"

var (
	alertSig     = sig("DeadlineAlert", []string{"reference", "interval", "callback", "name"}, 3, nil)
	asyncSig     = sig("AsyncCallback", []string{"callback_callable", "kwargs"}, 1, nil)
	syncSig      = sig("SyncCallback", []string{"callback_callable", "kwargs", "executor"}, 1, nil)
	referenceSig = map[string]*signature{
		"DagRunLogicalDateDeadline": sig("DagRunLogicalDateDeadline", nil, 0, nil),
		"DagRunQueuedAtDeadline":    sig("DagRunQueuedAtDeadline", nil, 0, nil),
		"FixedDatetimeDeadline":     sig("FixedDatetimeDeadline", []string{"_datetime"}, 1, nil),
		"AverageRuntimeDeadline":    sig("AverageRuntimeDeadline", []string{"max_runs", "min_runs"}, 1, nil),
	}
)

func init() {
	for _, base := range []string{"airflow.sdk.", deadlineModule + "."} {
		makers[base+"DeadlineAlert"] = makeAlert
		for name, class := range deadlineReferences {
			makers[base+"DeadlineReference."+name] = makeNamedReference(name)
			makers[deadlineModule+"."+class] = makeReference(class)
		}
	}
	for _, base := range []string{"airflow.sdk.", "airflow.sdk.definitions.callback."} {
		makers[base+"AsyncCallback"] = makeDeadlineCallback(classAsync, asyncSig)
		makers[base+"SyncCallback"] = makeDeadlineCallback(classSync, syncSig)
	}
}

// makeNamedReference is DeadlineReference.NAME, which dag-factory cannot reach:
// __type__ names a module and a class there.
func makeNamedReference(name string) maker {
	return func(l *loader, args []value, kw *dict) (value, error) {
		if l.opt.Strict {
			return nil, noModule("airflow.sdk.DeadlineReference")
		}
		class := deadlineReferences[name]
		kw = kw.clone()
		switch class {
		case "AverageRuntimeDeadline":
			if n := len(args); n == 0 && !truthy(kw.get("max_runs")) || n > 0 && args[0] == value(int64(0)) {
				kw.put("max_runs", int64(10))
				if n > 0 {
					args = args[1:]
				}
			}
		case "FixedDatetimeDeadline":
			for _, k := range []string{"dt", "datetime"} {
				if e := kw.entry(k); e != nil {
					x := *e
					kw.del(k)
					x.key = "_datetime"
					kw.set(x)
				}
			}
		}
		return makeReference(class)(l, args, kw)
	}
}

func makeReference(name string) maker {
	return func(l *loader, args []value, kw *dict) (value, error) {
		a, _, err := referenceSig[name].bind(args, kw)
		if err != nil {
			return nil, err
		}
		o := &object{class: &class{deadlineModule + "." + name}, kind: kindDeadlineReference, kw: kw}
		switch name {
		case "FixedDatetimeDeadline":
			t, ok := a["_datetime"].(*datetime)
			if !ok {
				return nil, pyErr("AttributeError", "'%s' object has no attribute 'timestamp'", typeName(a["_datetime"])).
					hint("expected a date and time, unquoted: 2026-01-31 06:00:00+00:00")
			}
			if t.zone == nil {
				z, err := l.defaultZone()
				if err != nil {
					return nil, err
				}
				t = &datetime{date: t.date, timeOfDay: t.timeOfDay, zone: z, fold: t.fold}
			}
			o.attrs = []attr{{"_datetime", t}}
		case "AverageRuntimeDeadline":
			most, ok := a["max_runs"].(int64)
			if !ok {
				return nil, pyErr("TypeError", "max_runs must be int, not %s", typeName(a["max_runs"]))
			}
			least := most
			if v := a["min_runs"]; v != nil {
				if least, ok = v.(int64); !ok {
					return nil, pyErr("TypeError", "min_runs must be int, not %s", typeName(v))
				}
			}
			if least < 1 {
				return nil, pyErr("ValueError", "min_runs must be at least 1")
			}
			o.attrs = []attr{{"max_runs", most}, {"min_runs", least}}
		}
		return o, nil
	}
}

var dotPath = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$`)

func makeDeadlineCallback(c *class, s *signature) maker {
	return func(l *loader, args []value, kw *dict) (value, error) {
		if e := kw.entry("path"); e != nil && !l.opt.Strict && kw.entry("callback_callable") == nil {
			x := *e
			kw = kw.clone()
			kw.del("path")
			x.key = "callback_callable"
			kw.set(x)
		}
		a, _, err := s.bind(args, kw)
		if err != nil {
			return nil, err
		}
		kwargs, ok := a["kwargs"].(*dict)
		switch {
		case !truthy(a["kwargs"]):
			kwargs = &dict{}
		case !ok:
			return nil, pyErr("TypeError", "kwargs must be a mapping, not %s", typeName(a["kwargs"]))
		}
		return l.deadlineCallback(c, a["callback_callable"], kwargs, a["executor"])
	}
}

// deadlineCallback builds an AsyncCallback or a SyncCallback. Like Airflow it
// takes a path that cannot be imported here, since it may exist where it runs.
func (l *loader) deadlineCallback(c *class, what value, kwargs *dict, executor value) (*object, error) {
	path := ""
	switch x := what.(type) {
	case string:
		path = strings.TrimSpace(x)
	case *callable:
		if path = x.name(); x.file != "" || x.lambda != "" {
			path = ""
		}
	}
	if !dotPath.MatchString(path) {
		return nil, pyErr("ImportError", "`%s` doesn't look like a valid dot path.", pyStr(what)).hint("expected module.function")
	}
	if kwargs.entry("context") != nil {
		return nil, pyErr("ValueError", "context is a reserved kwarg for this class")
	}
	fn, err := l.importPath(path)
	switch {
	case err != nil:
		l.warn("", "", pos{}, "the callback of a deadline cannot be imported here, and fails when it is needed unless that changes: %v", err)
	case fn.sym == nil:
	case fn.sym.Kind == PyValue && fn.sym.Value != nil:
		return nil, pyErr("AttributeError", "Provided callback %s is not callable.", path)
	case c == classAsync && fn.sym.Kind == PyFunction && !fn.sym.Async:
		return nil, pyErr("AttributeError", "Provided callback %s is not awaitable.", path).hint("define it with async def, or use airflow.sdk.SyncCallback")
	case c == classAsync && fn.sym.Kind == PyClass && !l.isNotifier(fn) && !l.hasMethod(fn.sym, "__await__", 0):
		return nil, pyErr("AttributeError", "Provided callback %s is not awaitable.", path)
	}
	if err := serdeAble(kwargs, "kwargs"); err != nil {
		return nil, err
	}
	o := &object{class: c, kind: kindDeadlineCallback, attrs: []attr{{"path", path}, {"kwargs", kwargs}}}
	if c == classSync {
		if executor != nil {
			l.warn("", "", pos{}, "SyncCallback.executor %s has no effect: Gust runs the callbacks of deadlines in the control plane", pyRepr(executor))
		}
		o.attrs = append(o.attrs, attr{"executor", executor})
	}
	return o, nil
}

func makeAlert(l *loader, args []value, kw *dict) (value, error) {
	a, _, err := alertSig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	if o, ok := a["callback"].(*object); l.opt.Strict && (!ok || o.kind != kindDeadlineCallback) {
		return nil, pyErr("ValueError", "Callbacks of type %s are not currently supported", typeName(a["callback"]))
	}
	return &object{class: classAlert, kind: kindDeadlineAlert, kw: kw,
		attrs: []attr{{"reference", a["reference"]}, {"interval", a["interval"]}, {"name", a["name"]}, {"callback", a["callback"]}}}, nil
}

// deadlines reads the DAG's deadline argument: one alert or a list of them. Each
// is a DeadlineAlert, or a mapping with its arguments.
func (d *dagBuild) makeDeadlines() {
	v := d.cfg.get("deadline")
	if v == nil || d.opt.Strict {
		return
	}
	field, at := d.field+".deadline", d.keyPos("deadline")
	items := []item{{v, at}}
	if l, ok := v.(*list); ok {
		items = l.items
	}
	for _, it := range items {
		o, ok := it.val.(*object)
		if m, isMap := it.val.(*dict); isMap {
			x, err := makeAlert(d.loader, nil, m)
			if err != nil {
				d.report(err, field, it.pos)
				continue
			}
			o, ok = x.(*object), true
		}
		if !ok || o.kind != kindDeadlineAlert {
			d.report(pyErr("TypeError", "deadline expects a DeadlineAlert or a list of them, found %s", typeName(it.val)).
				hint("write {__type__: airflow.sdk.DeadlineAlert, reference: …, interval: …, callback: …}"), field, it.pos)
			continue
		}
		if a := d.settleAlert(o, field, it.pos); a != nil {
			d.deadlines = append(d.deadlines, a)
		}
	}
}

// settleAlert turns the short forms that Gust takes into the SDK's objects and
// reports what cannot be evaluated; nil if there is a problem.
func (d *dagBuild) settleAlert(o *object, field string, at pos) *object {
	bad := false
	fail := func(err error, key string) value {
		p := at
		if o.kw != nil && o.kw.at(key).known() {
			p = o.kw.at(key)
		}
		d.report(err, field+"."+key, p)
		bad = true
		return nil
	}
	ref := o.get("reference")
	if s, ok := ref.(string); ok {
		name := s[strings.LastIndexByte(s, '.')+1:]
		switch {
		case deadlineReferences[name] == "":
			var names []string
			for n := range deadlineReferences {
				names = append(names, n)
			}
			ref = fail(pyErr("AttributeError", "type object 'DeadlineReference' has no attribute %s", pyRepr(name)).hint("%s", expectedNames(name, names)), "reference")
		case name == "FIXED_DATETIME":
			ref = fail(pyErr("TypeError", "FIXED_DATETIME needs a date").hint("write {__type__: airflow.sdk.DeadlineReference.FIXED_DATETIME, dt: 2026-01-31 06:00:00}"), "reference")
		default:
			r, err := makeNamedReference(name)(d.loader, nil, &dict{})
			if err != nil {
				r = fail(err, "reference")
			}
			ref = r
		}
	}
	if r, ok := ref.(*object); !bad && (!ok || r.kind != kindDeadlineReference) {
		e := pyErr("TypeError", "reference expects a DeadlineReference, found %s", typeName(ref))
		if ok {
			e = pyErr("DeadlineReferenceNotRegistered", "%s cannot be evaluated by Gust", r.class.path)
		}
		fail(e.hint("expected DAGRUN_LOGICAL_DATE, DAGRUN_QUEUED_AT, FIXED_DATETIME or AVERAGE_RUNTIME"), "reference")
	}
	interval := o.get("interval")
	if _, ok := interval.(*timedelta); !ok {
		f, isNum := number(interval)
		if _, isBool := interval.(bool); isBool || !isNum {
			fail(pyErr("TypeError", "interval expects a timedelta, found %s", typeName(interval)).hint("write {__type__: datetime.timedelta, minutes: 30}, or seconds"), "interval")
		} else if td, err := floatDelta(f); err != nil {
			fail(err, "interval")
		} else {
			interval = td
		}
	}
	name := o.get("name")
	if _, ok := name.(string); name != nil && !ok {
		fail(pyErr("TypeError", "name expects text, found %s", typeName(name)), "name")
	}
	call, err := d.alertCallback(o.get("callback"))
	if err != nil {
		fail(err, "callback")
	}
	if bad {
		return nil
	}
	return &object{class: classAlert, kind: kindDeadlineAlert, attrs: []attr{{"reference", ref}, {"interval", interval}, {"name", name}, {"callback", call}}}
}

// alertCallback reads a callback in the SDK's form or in one of those that Gust
// takes elsewhere: an import path, {callback: path, argument: value}, a notifier,
// or one that Gust runs itself, {type: command | webhook | slack | email, …}.
func (d *dagBuild) alertCallback(v value) (value, error) {
	const forms = "expected airflow.sdk.SyncCallback or AsyncCallback, an import path, {callback: path, argument: value} or {type: command | webhook | slack | email, …}"
	switch x := v.(type) {
	case *object:
		if x.kind == kindDeadlineCallback {
			return x, nil
		}
		if x.kind == kindInstance && len(x.args) == 0 {
			kw := x.kw
			if kw == nil {
				kw = &dict{}
			}
			return d.deadlineCallback(classSync, x.class.path, kw, nil)
		}
	case string:
		return d.deadlineCallback(classSync, x, &dict{}, nil)
	case *callable:
		return d.deadlineCallback(classSync, x, &dict{}, nil)
	case *dict:
		if kind, ok := x.get("type").(string); ok && !x.has("callback") {
			return x, builtinCallback(kind, x)
		}
		if path := x.get("callback"); path != nil {
			kw := x.clone()
			kw.del("callback")
			if s, ok := path.(string); ok {
				path = notifierClass(s)
			}
			return d.deadlineCallback(classSync, path, kw, nil)
		}
	}
	return nil, pyErr("ValueError", "Callbacks of type %s are not currently supported", typeName(v)).hint(forms)
}

// serdeAble reports what the SDK's serde could not store.
func serdeAble(v value, where string) error {
	switch x := v.(type) {
	case nil, bool, string, int64, *timedelta, *datetime:
		return nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return pyErr("ValueError", "%s: %v is no JSON number", where, x)
		}
		return nil
	case *list:
		for _, it := range x.items {
			if err := serdeAble(it.val, where); err != nil {
				return located(err, "", it.pos)
			}
		}
		return nil
	case *tuple:
		for _, it := range x.items {
			if err := serdeAble(it, where); err != nil {
				return err
			}
		}
		return nil
	case *dict:
		for _, e := range x.entries {
			if err := serdeAble(e.val, where+"."+pyStr(e.key)); err != nil {
				return located(err, "", e.vpos)
			}
		}
		return nil
	}
	return pyErr("TypeError", "cannot serialize object of type %s", classRepr(v)).hint("%s of a deadline's callback takes texts, numbers, dates, timedeltas, lists and mappings", where)
}

// deadlines writes the alerts as the SDK's encoder does.
func (w *jsonWriter) deadlines(alerts []*object) {
	if alerts == nil {
		w.b.WriteString("null")
		return
	}
	w.seq(len(alerts), func(i int) {
		w.obj(func(m *members) {
			a := alerts[i]
			m.key("name").scalar(a.get("name"))
			ref := a.get("reference").(*object)
			m.key("reference").obj(func(m *members) {
				m.str("reference_type", ref.class.name())
				for _, x := range ref.attrs {
					if t, ok := x.val.(*datetime); ok {
						m.num("datetime", epoch(t.utc()))
						continue
					}
					m.key(x.name).scalar(x.val)
				}
			})
			m.key("interval").serde(a.get("interval"))
			m.key("callback")
			o, ok := a.get("callback").(*object)
			if !ok {
				w.free(a.get("callback")) // Gust's own
				return
			}
			w.serdeObject(o.class.path, 0, func() {
				w.obj(func(m *members) {
					for _, x := range o.attrs {
						m.key(x.name).serde(x.val)
					}
				})
			})
		})
	})
}

func (w *jsonWriter) serdeObject(class string, version int, data func()) {
	w.obj(func(m *members) {
		m.str("__classname__", class)
		m.key("__version__").scalar(int64(version))
		m.key("__data__")
		data()
	})
}

// serde writes a value as airflow.sdk.serde does; see serdeAble.
func (w *jsonWriter) serde(v value) {
	switch v := v.(type) {
	case *timedelta:
		w.serdeObject("datetime.timedelta", 2, func() { w.num(v.total()) })
	case *datetime:
		class, zone := "datetime.datetime", "UTC"
		if v.pendulum {
			class = "pendulum.datetime.DateTime"
		}
		if v.zone != nil && v.zone.loc != nil {
			zone = v.zone.name
		}
		w.serdeObject(class, 2, func() {
			w.obj(func(m *members) {
				m.num("timestamp", epoch(v.utc()))
				m.key("tz")
				w.serdeObject("builtins.tuple", 1, func() { w.plain(newList(zone, "pendulum.tz.timezone.Timezone", int64(1), true)) })
			})
		})
	case *tuple:
		w.serdeObject("builtins.tuple", 1, func() { w.seq(len(v.items), func(i int) { w.serde(v.items[i]) }) })
	case *list:
		w.seq(len(v.items), func(i int) { w.serde(v.items[i].val) })
	case *dict:
		w.obj(func(m *members) {
			for _, e := range v.entries {
				m.key(jsonKey(e.key)).serde(e.val)
			}
		})
	default:
		w.scalar(v)
	}
}
