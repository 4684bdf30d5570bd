package dagspec

import (
	"strings"
)

// Mapping that Airflow's Python API has and dag-factory lacks: expand_kwargs, zip
// and concat of outputs, and mapped task groups. Each use is a warning.
//
//	expand_kwargs: [{bash_command: echo a}, {bash_command: echo b}]     # or +task, task.output
//	expand: {x: {__zip__: [+one, [1, 2]], fillvalue: 0}, y: {__concat__: [+one, +two]}}
//	task_groups: {g: {expand: {x: [1, 2]}}}      # a task in it: x: "+g['x']", or {{ group_args.x }}

// joinKeys are the keys of a mapping that joins outputs.
var joinKeys = map[string]string{"__zip__": "zip", "__concat__": "concat"}

func (d *dagBuild) notInFactory(what, field string, at pos) {
	d.warn("", field, at, "%s is Gust's own: dag-factory does not know it", what)
}

// mapped is the innermost mapped group that is g or around it, or nil.
func (g *group) mapped() *group {
	for ; g != nil; g = g.parent {
		if g.expand != nil || g.expandKwargs != nil {
			return g
		}
	}
	return nil
}

// mappingKeys reads what dag-factory has no keys for: expand_kwargs, joined
// outputs in expand, and arguments of the mapped groups around the task.
func (t *task) mappingKeys(kw *dict) bool {
	d, before := t.d, len(t.d.problems)
	if t.group.mapped() != nil {
		for i := range kw.entries {
			e := &kw.entries[i]
			v, err := t.groupReferences(e.val)
			if err != nil {
				d.report(err, t.field+"."+pyStr(e.key), e.vpos)
				continue
			}
			e.val = v
		}
		for _, k := range []string{"expand", "expand_kwargs"} {
			if truthy(kw.get(k)) {
				t.fail(pyErr("NotImplementedError", "operator expansion in an expanded task group is not yet supported").
					hint("map the group over the pairs, or take the task out of the group"), k)
			}
		}
	}
	if x, ok := kw.get("expand").(*dict); ok {
		d.expandRefs(x, t.field+".expand")
	}
	if e := kw.entry("expand_kwargs"); e != nil {
		field := t.field + ".expand_kwargs"
		d.notInFactory("expand_kwargs", field, e.kpos)
		if truthy(kw.get("expand")) {
			d.report(pyErr("TypeError", "expand and expand_kwargs exclude each other"), field, e.kpos)
		}
		t.expandKwargs = d.kwargsToExpand(e.val, field, e.vpos)
		kw.del("expand_kwargs")
	}
	return len(d.problems) == before
}

// kwargsToExpand reads the argument of expand_kwargs: an output, or a list of mappings.
func (d *dagBuild) kwargsToExpand(v value, field string, at pos) value {
	r, err := d.expandRef(v)
	if err != nil {
		d.report(err, field, at)
		return nil
	}
	switch x := r.(type) {
	case *xcomArg, *xcomOp:
		return r
	case *list:
		out := &list{}
		for _, it := range x.items {
			m, ok := it.val.(*dict)
			if !ok {
				d.report(pyErr("TypeError", "expected XComArg or list[dict], not list[%s]", typeName(it.val)).hint("each element is a mapping of argument to value"), field, it.pos)
				continue
			}
			m = m.clone()
			for i := range m.entries {
				e := &m.entries[i]
				if e.val, err = d.expandRef(e.val); err != nil {
					d.report(err, field+"."+pyStr(e.key), e.vpos)
				}
			}
			out.items = append(out.items, item{m, it.pos})
		}
		if len(x.items) > 0 {
			return out
		}
		d.report(pyErr("TypeError", "no arguments to expand against").hint("give at least one mapping"), field, at)
		return nil
	}
	d.report(pyErr("TypeError", "expected XComArg or list[dict], not %s", typeName(v)).hint("give a list of mappings, or the output of a task: +task"), field, at)
	return nil
}

// eachExpandKwarg calls f for the arguments of a literal expand_kwargs.
func (t *task) eachExpandKwarg(f func(entry)) {
	l, _ := t.expandKwargs.(*list)
	if l == nil {
		return
	}
	for _, it := range l.items {
		for _, e := range it.val.(*dict).entries {
			f(e)
		}
	}
}

// expandRefs replaces outputs and joins among the values of expand.
func (d *dagBuild) expandRefs(m *dict, field string) {
	for i := range m.entries {
		e := &m.entries[i]
		v, err := d.expandRef(e.val)
		if err != nil {
			d.report(err, field+"."+pyStr(e.key), e.vpos)
			continue
		}
		if o, ok := v.(*xcomOp); ok {
			d.notInFactory("__"+o.kind+"__", field+"."+pyStr(e.key), e.vpos)
		}
		e.val = v
	}
}

// expandRef reads an output, written +task, task.output or XcomArg(task), or a
// join of several; any other value is returned as it is.
func (d *dagBuild) expandRef(v value) (value, error) {
	switch x := v.(type) {
	case string:
		return d.output(x)
	case *dict:
		for key, kind := range joinKeys {
			e := x.entry(key)
			if e == nil {
				continue
			}
			l, ok := e.val.(*list)
			if !ok || len(l.items) == 0 {
				return nil, pyErr("TypeError", "%s expects a list of outputs and lists, found %s", key, typeName(e.val)).in("", e.vpos)
			}
			op := &xcomOp{kind: kind}
			for _, it := range l.items {
				a, err := d.expandRef(it.val)
				if err != nil {
					return nil, located(err, "", it.pos)
				}
				switch a.(type) {
				case *xcomArg, *xcomOp, *list:
				default:
					return nil, pyErr("TypeError", "%s joins outputs of tasks and lists, not %s", key, typeName(it.val)).hint("write +task, task.output or a list").in("", it.pos)
				}
				op.args = append(op.args, a)
			}
			for _, o := range x.entries {
				switch {
				case o.key == value(key):
				case o.key == value("fillvalue") && kind == "zip":
					op.fill, op.pads = o.val, true
				default:
					return nil, pyErr("TypeError", "%s() got an unexpected keyword argument %s", kind, pyRepr(o.key)).in("", o.kpos)
				}
			}
			if len((&dagBuild{}).outputsOf(nil, op)) == 0 {
				return nil, pyErr("TypeError", "%s needs the output of a task; join lists by writing them as one", key).in("", e.vpos)
			}
			return op, nil
		}
	}
	return v, nil
}

// output reads text that names a task's output.
func (d *dagBuild) output(s string) (value, error) {
	id, key := "", "return_value"
	if m := taskRef.FindStringSubmatch(s); m != nil {
		id = m[1]
		if m[3] != "" {
			key = m[3]
		}
	} else if head, ok := strings.CutSuffix(s, ".output"); ok {
		id = head
	} else if m := xcomArgText.FindStringSubmatch(s); m != nil && strings.HasPrefix(s, "XcomArg") {
		id = m[1]
	} else {
		return s, nil
	}
	src := d.byID[id]
	if src == nil {
		src = d.byKey[id]
	}
	switch {
	case src == nil && strings.HasPrefix(s, "+"):
		return nil, pyErr("KeyError", "'%s'", id).hint("no earlier task of that name; list it in dependencies so that it is made first")
	case src == nil || src.class == nil || src.id == "":
		return s, nil // no task, or one whose own problem is reported
	}
	return &xcomArg{src, key}, nil
}

// outputsOf lists the tasks whose outputs an expansion uses, each once.
func (d *dagBuild) outputsOf(lists *dict, kwargs value) []*task {
	var out []*task
	seen := map[*task]bool{}
	var walk func(v value)
	walk = func(v value) {
		switch v := v.(type) {
		case *xcomArg:
			if !seen[v.task] {
				seen[v.task] = true
				out = append(out, v.task)
			}
		case *xcomOp:
			for _, a := range v.args {
				walk(a)
			}
		case *list:
			for _, it := range v.items {
				walk(it.val)
			}
		case *dict:
			for _, e := range v.entries {
				walk(e.val)
			}
		}
	}
	if lists != nil {
		walk(lists)
	}
	walk(kwargs)
	return out
}

// checkReturnValue refuses to map over anything but return values.
func (d *dagBuild) checkReturnValue(v value, field string, at pos) {
	switch x := v.(type) {
	case *xcomArg:
		if x.key != "return_value" {
			d.report(pyErr("ValueError", "cannot map over XCom with custom key '%s' from <Task(%s): %s>", x.key, x.task.class.Type(), x.task.id), field, at)
		}
	case *xcomOp:
		for _, a := range x.args {
			d.checkReturnValue(a, field, at)
		}
	}
}

// groupReferences replaces "+group['argument']" anywhere in v by the argument of
// a mapped group around the task.
func (t *task) groupReferences(v value) (value, error) {
	switch x := v.(type) {
	case string:
		m := taskRef.FindStringSubmatch(x)
		if m == nil || m[3] == "" || t.d.byKey[m[1]] != nil {
			return v, nil
		}
		for g := t.group.mapped(); g != nil; g = g.parent.mapped() {
			if g.name != m[1] {
				continue
			}
			if g.expand != nil && g.expand.entry(m[3]) == nil {
				return nil, pyErr("KeyError", "%s", pyRepr(m[3])).hint("task group %s expands over no argument of that name; %s", g.name, expectedNames(m[3], g.expand.keys()))
			}
			return &mappedArg{g, m[3]}, nil
		}
		return v, nil
	case *list:
		for i := range x.items {
			r, err := t.groupReferences(x.items[i].val)
			if err != nil {
				return nil, located(err, "", x.items[i].pos)
			}
			x.items[i].val = r
		}
	case *dict:
		for i := range x.entries {
			e := &x.entries[i]
			r, err := t.groupReferences(e.val)
			if err != nil {
				return nil, located(err, "", e.vpos)
			}
			e.val = r
		}
	}
	return v, nil
}

// groupExpansion takes expand or expand_kwargs of a task group; the outputs it
// names are looked up when all tasks are made.
func (d *dagBuild) groupExpansion(g *group, x entry, field string) {
	name := pyStr(x.key)
	d.notInFactory(name+" on a task group", field+"."+name, x.kpos)
	other := "expand_kwargs"
	if name == other {
		other = "expand"
		g.expandKwargs = x.val
	} else if m, ok := x.val.(*dict); ok && len(m.entries) > 0 {
		g.expand = deepCopy(m).(*dict)
	} else {
		d.report(pyErr("TypeError", "no arguments to expand against").hint("expand expects a mapping of argument to a list, a mapping or the output of a task"), field+"."+name, x.vpos)
	}
	if name == "expand" && g.cfg.entry(other) != nil {
		d.report(pyErr("TypeError", "expand and expand_kwargs exclude each other"), field+"."+other, g.cfg.at(other))
	}
}

// mapGroups looks up the outputs over which task groups expand.
func (d *dagBuild) mapGroups() {
	for _, g := range d.groups {
		field := d.field + ".task_groups." + g.name
		switch {
		case g.expand != nil:
			d.expandRefs(g.expand, field+".expand")
			for _, e := range g.expand.entries {
				at := field + ".expand." + pyStr(e.key)
				if !mappable(e.val) {
					d.report(pyErr("ValueError", "expand() got an unexpected type '%s' for keyword argument '%s'", typeName(e.val), pyStr(e.key)).
						hint("expected a list, a mapping or the output of a task: +task"), at, e.vpos)
				}
				d.checkReturnValue(e.val, at, e.vpos)
			}
		case g.expandKwargs != nil:
			g.expandKwargs = d.kwargsToExpand(g.expandKwargs, field+".expand_kwargs", g.cfg.at("expand_kwargs"))
			d.checkReturnValue(g.expandKwargs, field+".expand_kwargs", g.cfg.at("expand_kwargs"))
		}
		all, in := g.members()
		outputs := d.outputsOf(g.expand, g.expandKwargs)
		for _, t := range all {
			if len(outputs) > 0 && t.attrs["trigger_rule"] == value("always") {
				t.fail(pyErr("ValueError", "Task-generated mapping within a mapped task group is not allowed with trigger rule 'always'"), "trigger_rule")
			}
		}
		for _, src := range outputs {
			if in[src] {
				d.report(pyErr("ValueError", "task group %s expands over the output of its own task %s", g.name, src.id), field, g.at)
			}
			if m := src.group.mapped(); m != nil && g.parent.mapped() == m {
				d.report(pyErr("NotImplementedError", "task group %s expands over the output of task %s, which is mapped by the group around both", g.name, src.id).
					hint("how often an inner group is mapped must not depend on the outer one's map index"), field, g.at)
			}
		}
	}
}

// mappedEdges makes mapped groups follow the tasks over whose outputs they expand.
func (d *dagBuild) mappedEdges() {
	for _, g := range d.groups {
		for _, src := range d.outputsOf(g.expand, g.expandKwargs) {
			setUpstream(node{group: g}, node{task: src})
		}
	}
}
