package dagspec

import "strings"

// makeSchedule turns the schedule key into a timetable.
func (d *dagBuild) makeSchedule() {
	if d.cfg.has("schedule_interval") {
		d.fail(pyErr("DagFactoryException", "The `schedule_interval` key is no longer supported in Airflow 3.0+. Use `schedule` instead."), "schedule_interval")
		return
	}
	v := d.cfg.get("schedule")
	if s, ok := v.(string); ok && strings.ToLower(strings.TrimSpace(s)) == "none" {
		v = nil
	}
	if l, ok := v.(*list); ok {
		norm := &list{}
		for _, it := range l.items {
			if it.val == nil {
				continue
			}
			if s, ok := it.val.(string); ok {
				if s = strings.TrimSpace(s); s == "" {
					continue
				}
				a, err := d.newAsset(classAsset, "asset", []value{s}, &dict{})
				if err != nil {
					d.report(err, d.field+".schedule", it.pos)
					return
				}
				it.val = a
			}
			norm.items = append(norm.items, it)
		}
		v = norm
	}
	tt, err := d.timetableOf(v)
	if err != nil {
		d.fail(err, "schedule")
		return
	}
	d.tt, d.schedule = tt, v
}

// timetableOf is the SDK's _default_timetable.
func (d *dagBuild) timetableOf(v value) (*timetable, error) {
	switch x := v.(type) {
	case nil:
		return &timetable{typ: ttNull}, nil
	case string:
		switch x {
		case "@once":
			return &timetable{typ: ttOnce}, nil
		case "@continuous":
			return &timetable{typ: ttContinous}, nil
		}
		if d.loader.cfg.CreateCronDataIntervals {
			return &timetable{typ: ttCronData, crons: []string{expandCron(x)}, zone: d.zone.name}, nil
		}
		return &timetable{typ: ttCron, crons: []string{expandCron(x)}, zone: d.zone.name, interval: noInterval, runImmediately: false}, nil
	case *timedelta, *relativedelta:
		// Airflow 3.3 tests the option of cron texts here; the documented one counts too.
		if c := d.loader.cfg; c.CreateCronDataIntervals || c.CreateDeltaDataIntervals && !d.opt.Strict {
			return &timetable{typ: ttDeltaData, delta: v}, nil
		}
		return &timetable{typ: ttDelta, delta: v, interval: noInterval}, nil
	case *object:
		if x.isAsset() {
			return &timetable{typ: ttAsset, asset: x}, nil
		}
		if x.kind == kindTimetable && x.tt != nil {
			return x.tt, nil
		}
	case *list, *tuple, *set, *dict:
		items, _ := iterate(v)
		for _, it := range items {
			if !isAsset(it) {
				e := pyErr("ValueError", "All elements in 'schedule' should be either assets, asset references, or asset aliases")
				if m, ok := v.(*dict); ok && m.entry("datasets") != nil {
					return nil, e.hint("datasets: is dag-factory's form for Airflow 2; list the URIs or use __and__ / __or__ with airflow.sdk.Asset")
				}
				return nil, e.hint("found %s", typeName(it))
			}
		}
		o, err := newCondition(classAll, kindAssetAll, items, nil)
		if err != nil {
			return nil, err
		}
		return &timetable{typ: ttAsset, asset: o.(*object)}, nil
	}
	return nil, pyErr("ValueError", "%s is not a valid schedule.", pyRepr(v)).
		hint("expected a cron text, a preset, a timedelta, a timetable, assets or null")
}
