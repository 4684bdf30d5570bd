package dagspec

import (
	"math"
	"math/big"

	"github.com/gustflow/gust/internal/pyrepr"
)

var deltaUnits = []struct {
	name string
	us   int64
}{{"days", 86400e6}, {"seconds", 1e6}, {"microseconds", 1}, {"milliseconds", 1e3}, {"minutes", 60e6}, {"hours", 3600e6}, {"weeks", 7 * 86400e6}}

// makeTimedelta is datetime.timedelta(...).
func makeTimedelta(_ *loader, args []value, kw *dict) (value, error) {
	total := new(big.Rat)
	add := func(i int, v value) error {
		u := deltaUnits[i]
		switch v := v.(type) {
		case int64:
			total.Add(total, new(big.Rat).SetInt(new(big.Int).Mul(big.NewInt(v), big.NewInt(u.us))))
		case bool:
			if v {
				total.Add(total, new(big.Rat).SetInt64(u.us))
			}
		case *big.Int:
			return pyErr("OverflowError", "Python int too large to convert to C int")
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return pyErr("ValueError", "cannot convert float %s to integer", pyrepr.Float(v))
			}
			r := new(big.Rat).SetFloat64(v)
			total.Add(total, r.Mul(r, new(big.Rat).SetInt64(u.us)))
		default:
			return pyErr("TypeError", "unsupported type for timedelta %s component: %s", u.name, typeName(v)).hint("expected a number")
		}
		return nil
	}
	if len(args) > len(deltaUnits) {
		return nil, pyErr("TypeError", "timedelta() takes at most 7 arguments (%d given)", len(args))
	}
	for i, a := range args {
		if err := add(i, a); err != nil {
			return nil, err
		}
	}
	for _, e := range kw.entries {
		i := -1
		var names []string
		for j, u := range deltaUnits {
			names = append(names, u.name)
			if u.name == e.key {
				i = j
			}
		}
		if i < 0 {
			return nil, pyErr("TypeError", "'%s' is an invalid keyword argument for __new__()", pyStr(e.key)).
				hint("%s", expectedNames(pyStr(e.key), names)).in(pyStr(e.key), e.kpos)
		}
		if err := add(i, e.val); err != nil {
			return nil, located(err, pyStr(e.key), e.vpos)
		}
	}
	// Round half to even to whole microseconds, as Python does.
	q := roundEven(total)
	days, rest := new(big.Int), new(big.Int)
	days.DivMod(q, big.NewInt(86400e6), rest)
	if !days.IsInt64() || days.Int64() > 999999999 || days.Int64() < -999999999 {
		return nil, pyErr("OverflowError", "days=%s; must have magnitude <= 999999999", days)
	}
	return &timedelta{days.Int64(), rest.Int64() / 1e6, rest.Int64() % 1e6}, nil
}

func roundEven(r *big.Rat) *big.Int {
	if r.IsInt() {
		return new(big.Int).Set(r.Num())
	}
	q, m := new(big.Int), new(big.Int)
	q.DivMod(r.Num(), r.Denom(), m) // floor
	twice := new(big.Int).Lsh(m, 1)
	switch c := twice.Cmp(r.Denom()); {
	case c > 0 || c == 0 && q.Bit(0) == 1:
		q.Add(q, big.NewInt(1))
	}
	return q
}

// ints reads positional or named integers with defaults; need of them are required.
func ints(name string, fields []string, need int, args []value, kw *dict, others ...string) ([]int, map[string]value, error) {
	s := &signature{name: name, pos: fields, minPos: need, kwOnly: others}
	a, _, err := s.bind(args, kw)
	if err != nil {
		return nil, nil, err
	}
	out := make([]int, len(fields))
	for i, f := range fields {
		v, ok := a[f]
		if !ok {
			continue
		}
		switch n := v.(type) {
		case int64:
			out[i] = int(n)
		case bool:
			if n {
				out[i] = 1
			}
		default:
			return nil, nil, pyErr("TypeError", "'%s' object cannot be interpreted as an integer", typeName(v)).hint("%s expects a whole number", f)
		}
	}
	return out, a, nil
}

func makeDate(_ *loader, args []value, kw *dict) (value, error) {
	n, _, err := ints("date", []string{"year", "month", "day"}, 3, args, kw)
	if err != nil {
		return nil, err
	}
	return &date{n[0], n[1], n[2]}, checkDate(n[0], n[1], n[2])
}

func makeTime(_ *loader, args []value, kw *dict) (value, error) {
	n, _, err := ints("time", []string{"hour", "minute", "second", "microsecond"}, 0, args, kw, "tzinfo", "fold")
	if err != nil {
		return nil, err
	}
	return &timeOfDay{n[0], n[1], n[2], n[3]}, checkTime(n[0], n[1], n[2], n[3])
}

var datetimeFields = []string{"year", "month", "day", "hour", "minute", "second", "microsecond"}

func makeDatetime(l *loader, args []value, kw *dict) (value, error) {
	var tz value
	if len(args) == 8 {
		args, tz = args[:7], args[7]
	}
	n, a, err := ints("datetime", datetimeFields, 3, args, kw, "tzinfo", "fold")
	if err != nil {
		return nil, err
	}
	if v, ok := a["tzinfo"]; ok {
		tz = v
	}
	d := &datetime{date: date{n[0], n[1], n[2]}, timeOfDay: timeOfDay{n[3], n[4], n[5], n[6]}}
	if err := checkDate(d.y, d.m, d.d); err != nil {
		return nil, err
	}
	if err := checkTime(d.h, d.mi, d.s, d.us); err != nil {
		return nil, err
	}
	if tz != nil {
		z, ok := tz.(*timezone)
		if !ok {
			return nil, pyErr("TypeError", "tzinfo argument must be None or of a tzinfo subclass, not type '%s'", typeName(tz)).
				hint("write {__type__: pendulum.timezone, __args__: [Europe/Berlin]}")
		}
		d.zone = z
	}
	return d, nil
}

func makePendulum(l *loader, args []value, kw *dict) (value, error) {
	n, a, err := ints("datetime", datetimeFields, 3, args, kw, "tz", "fold")
	if err != nil {
		return nil, err
	}
	d := &datetime{date: date{n[0], n[1], n[2]}, timeOfDay: timeOfDay{n[3], n[4], n[5], n[6]}, zone: utcZone, pendulum: true, fold: 1}
	if err := checkDate(d.y, d.m, d.d); err != nil {
		return nil, err
	}
	if err := checkTime(d.h, d.mi, d.s, d.us); err != nil {
		return nil, err
	}
	if tz, ok := a["tz"]; ok {
		if d.zone, ok = tz.(*timezone); !ok && tz != nil {
			if d.zone, err = l.loadZone(tz); err != nil {
				return nil, err
			}
		}
	}
	return d.normalised(), nil
}

func makeZone(l *loader, args []value, kw *dict) (value, error) {
	if len(args) == 0 {
		for _, e := range kw.entries {
			args = append(args, e.val)
		}
	}
	if len(args) != 1 {
		return nil, pyErr("TypeError", "timezone() takes 1 positional argument but %d were given", len(args))
	}
	return l.loadZone(args[0])
}

func makeRelativedelta(_ *loader, args []value, kw *dict) (value, error) {
	r := &relativedelta{}
	if len(args) > 0 {
		return nil, pyErr("TypeError", "relativedelta only diffs datetime/date").hint("name the units: months: 1")
	}
	rel := map[string]*int64{"years": &r.years, "months": &r.months, "days": &r.days, "leapdays": &r.leapdays, "hours": &r.hours, "minutes": &r.minutes,
		"seconds": &r.seconds, "microseconds": &r.microseconds}
	var known []string
	for _, p := range r.relatives() {
		known = append(known, p.name)
	}
	known = append(append(known, relativeAbs[:]...), "weeks", "weekday", "yearday", "nlyearday")
	for _, e := range kw.entries {
		name := pyStr(e.key)
		if !contains(known, name) {
			return nil, pyErr("TypeError", "relativedelta.__init__() got an unexpected keyword argument '%s'", name).hint("%s", expectedNames(name, known)).in(name, e.kpos)
		}
		if name == "weekday" {
			switch w := e.val.(type) {
			case nil, *weekday:
				r.weekday = w
			case int64:
				if w < -7 || w > 6 {
					return nil, pyErr("IndexError", "tuple index out of range").hint("weekday expects 0 (Monday) to 6").in(name, e.vpos)
				}
				r.weekday = &weekday{day: (w + 7) % 7}
			default:
				return nil, pyErr("TypeError", "weekday expects a number or a dateutil weekday, got %s", typeName(e.val)).in(name, e.vpos)
			}
			continue
		}
		f, ok := number(e.val)
		if !ok {
			if e.val == nil {
				continue
			}
			return nil, pyErr("TypeError", "%s expects a number, got %s", name, typeName(e.val)).in(name, e.vpos)
		}
		if (name == "years" || name == "months") && f != math.Trunc(f) {
			return nil, pyErr("ValueError", "Non-integer years and months are ambiguous and not currently supported.").in(name, e.vpos)
		}
		switch {
		case name == "weeks":
			r.days += 7 * int64(f)
		case rel[name] != nil:
			*rel[name] += int64(f)
		default:
			for i, n := range relativeAbs {
				if n == name {
					r.abs[i] = e.val
				}
			}
		}
	}
	r.fix()
	return r, nil
}

// makeWeekday is dateutil.relativedelta.FR(2).
func makeWeekday(day int) maker {
	return func(_ *loader, args []value, kw *dict) (value, error) {
		w := &weekday{day: int64(day)}
		if len(args) > 0 {
			w.n = args[0]
		} else if n, ok := kw.lookup("n"); ok {
			w.n = n
		}
		if n, ok := w.n.(int64); w.n != nil && (!ok || n == 0) {
			return nil, pyErr("ValueError", "Can't create weekday with n==0")
		}
		return w, nil
	}
}

func makeWatcher(l *loader, args []value, kw *dict) (value, error) {
	a, _, err := watcherSig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	if o, ok := a["trigger"].(*object); !ok || o.kind != kindInstance {
		return nil, pyErr("ValueError", "Asset watcher trigger must inherit BaseEventTrigger").hint("write the trigger as {__type__: module.TriggerClass, …}")
	}
	return &object{class: classWatcher, kind: kindWatcher, attrs: []attr{{"name", a["name"]}, {"trigger", a["trigger"]}}}, nil
}

func makeAccess(_ *loader, args []value, kw *dict) (value, error) {
	a, _, err := accessSig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	o := newAccessControl()
	for i := range o.attrs {
		if v, ok := a[o.attrs[i].name]; ok {
			o.attrs[i].val = v
		}
	}
	return o, nil
}

var (
	classParam  = &class{"airflow.sdk.definitions.param.Param"}
	classNotSet = &class{"airflow.serialization.definitions.notset.ArgNotSet"}
	notSet      = &object{class: classNotSet, kind: kindOther}
	paramSig    = &signature{name: "Param.__init__", pos: []string{"default", "description", "source"}, varKw: true}
)

// makeParam is Param(default, description, **schema).
func makeParam(_ *loader, args []value, kw *dict) (value, error) {
	a, _, err := paramSig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	var def value = notSet
	if v, ok := a["default"]; ok {
		if err := checkJSON(v); err != nil {
			return nil, located(err, "default", kw.at("default"))
		}
		def = v
	}
	var schema value
	if s, ok := kw.lookup("schema"); ok {
		schema = s
	} else {
		d := &dict{}
		for _, e := range kw.entries {
			switch e.key {
			case "default", "description", "source":
			default:
				d.set(e)
			}
		}
		schema = d
	}
	return &object{class: classParam, kind: kindParam, attrs: []attr{{"value", def}, {"description", a["description"]}, {"schema", schema}, {"source", a["source"]}}}, nil
}

// checkJSON is Param's demand that a value is JSON.
func checkJSON(v value) error {
	if jsonable(v) {
		return nil
	}
	return pyErr("ParamValidationError", "All provided parameters must be json-serializable. The value '%s' is not serializable.", pyStr(v)).
		hint("quote a date; write other values as text, numbers, lists or mappings")
}

func jsonable(v value) bool {
	switch v := v.(type) {
	case nil, bool, int64, *big.Int, float64, string:
		return true
	case *list:
		for _, it := range v.items {
			if !jsonable(it.val) {
				return false
			}
		}
		return true
	case *tuple:
		for _, x := range v.items {
			if !jsonable(x) {
				return false
			}
		}
		return true
	case *dict:
		for _, e := range v.entries {
			switch e.key.(type) {
			case nil, bool, int64, float64, string:
			default:
				return false
			}
			if !jsonable(e.val) {
				return false
			}
		}
		return true
	}
	return false
}
