package dagspec

import (
	"github.com/gustflow/gust/internal/operatorspec"
)

// secondsKeys are keys in seconds that dag-factory knew before 1.0, by what they
// are called now.
var secondsKeys = []struct{ old, now string }{
	{"retry_delay_sec", "retry_delay"}, {"execution_timeout_secs", "execution_timeout"}, {"dagrun_timeout_sec", "dagrun_timeout"},
}

// oldSeconds reads the keys in seconds of dag-factory 0.x. In 1.x they are errors
// at a task and without effect in default_args, where nobody would notice.
func (d *dagBuild) oldSeconds(m *dict, field string) {
	for _, k := range secondsKeys {
		e := m.entry(k.old)
		if e == nil {
			continue
		}
		f, ok := number(e.val)
		if _, isBool := e.val.(bool); !ok || isBool {
			d.report(pyErr("TypeError", "%s expects a number of seconds, found %s", k.old, typeName(e.val)).hint("write %s: {__type__: datetime.timedelta, seconds: 300}", k.now), field+"."+k.old, e.vpos)
			continue
		}
		td, err := floatDelta(f)
		if err != nil {
			d.report(err, field+"."+k.old, e.vpos)
			continue
		}
		if m.has(k.now) {
			d.warn("", field+"."+k.old, e.kpos, "%s has no effect beside %s", k.old, k.now)
		} else {
			d.warn("", field+"."+k.old, e.kpos, "%s is read as %s; dag-factory 1.x does not know it: write %s: {__type__: datetime.timedelta, seconds: %s}", k.old, k.now, k.now, pyStr(e.val))
			x := *e
			x.key, x.val = k.now, td
			m.set(x)
		}
		m.del(k.old)
	}
}

func isSecondsKey(name string) bool {
	for _, k := range secondsKeys {
		if k.old == name {
			return true
		}
	}
	return false
}

// variants reports callbacks given by the name of a function and its file.
func variants(name string) bool {
	for _, cb := range callbackNames {
		if name == cb+"_name" || name == cb+"_file" {
			return true
		}
	}
	return false
}

// readByDag are keys of default_args that the DAG reads, not its tasks.
var readByDag = map[string]bool{"timezone": true, "start_date": true, "end_date": true, "params": true}

// unusedDefaults warns of keys in default_args that no task takes: Airflow ignores
// them without a word, since each operator picks those it knows.
func (d *dagBuild) unusedDefaults() {
	if d.opt.Strict || len(d.tasks) == 0 {
		return
	}
	check := func(m *dict, tasks []*task, field string) {
		if m == nil {
			return
		}
		for _, e := range m.entries {
			name, ok := e.key.(string)
			if ok && (operatorspec.IsBaseParam(name) || readByDag[name] || contains(callbackNames, name)) || isSecondsKey(name) || variants(name) {
				continue
			}
			used := false
			var names []string
			for _, p := range operatorspec.BaseParams() {
				names = append(names, p.Name)
			}
			for _, t := range tasks {
				used = used || t.class.unchecked || t.class.Param(name) != nil
				if t.callable != nil && t.callable.sym != nil {
					for _, a := range t.callable.sym.Args {
						used = used || a.Name == name
					}
				}
				for _, p := range t.class.Params {
					names = append(names, p.Name)
				}
			}
			if used {
				continue
			}
			advice := ""
			if near := nearest(name, names); near != "" {
				advice = ": did you mean " + near + "?"
			}
			d.warn("", field+"."+pyStr(e.key), e.kpos, "no task takes %s: it has no effect%s", pyRepr(e.key), advice)
		}
	}
	check(d.ownDefaults, d.tasks, // what the file's DAGs share need not fit each
		d.field+".default_args")
	for _, g := range d.groups {
		if own, ok := g.cfg.get("default_args").(*dict); ok {
			all, _ := g.members()
			check(own, all, d.field+".task_groups."+g.name+".default_args")
		}
	}
}
