package dagspec

import (
	"sort"
	"strings"

	schedules "github.com/gustflow/gust/internal/timetable"
)

// group is a task group; the root has no name.
type group struct {
	name        string // as authored
	id          string
	label       string
	parent      *group
	prefix      bool
	cfg         *dict
	at          pos
	defaultArgs *dict
	tooltip     string
	displayName string
	uiColor     string
	uiFgcolor   string
	docMD       string
	// expand and expandKwargs make a mapped group; one of them at most is set.
	expand       *dict
	expandKwargs value
	children     []groupChild
	childKeys    map[string]bool
	upGroups     map[string]bool
	downGroups   map[string]bool
	upTasks      map[string]bool
	downTasks    map[string]bool
}

type groupChild struct {
	task  *task
	group *group
}

func newGroup() *group {
	return &group{prefix: true, uiColor: "CornflowerBlue", uiFgcolor: "#000", childKeys: map[string]bool{}, upGroups: map[string]bool{},
		downGroups: map[string]bool{}, upTasks: map[string]bool{}, downTasks: map[string]bool{}}
}

// childID prefixes a label with the group's id.
func (g *group) childID(label string) string {
	if g.prefix && g.id != "" {
		return g.id + "." + label
	}
	return label
}

var groupKeys = []string{"tooltip", "prefix_group_id", "default_args", "ui_color", "ui_fgcolor", "add_suffix_on_collision", "group_display_name", "doc_md",
	"dependencies", "parent_group_name"}

// makeGroups creates the task groups, parents before children.
func (d *dagBuild) makeGroups(cfg *dict) {
	d.root = newGroup()
	used := map[string]bool{}
	for _, e := range cfg.entries {
		d.makeGroup(e, cfg, nil, used)
	}
}

func (d *dagBuild) makeGroup(e entry, cfg *dict, chain []string, used map[string]bool) *group {
	name := pyStr(e.key)
	field := d.field + ".task_groups." + name
	if g, ok := d.byName[name]; ok {
		return g
	}
	for i, c := range chain {
		if c == name {
			var b strings.Builder
			b.WriteString("Circular dependency detected:\n")
			for _, x := range chain[i:] {
				b.WriteString(x + " depends on " + name + "\n")
			}
			d.report(pyErr("Exception", "%s", b.String()).hint("break the chain of parent_group_name"), field+".parent_group_name", e.kpos)
			return nil
		}
	}
	m, ok := e.val.(*dict)
	if !ok {
		d.report(pyErr("AttributeError", "'%s' object has no attribute 'get'", typeName(e.val)).hint("a task group is a mapping: write {}"), field, e.kpos)
		d.byName[name] = nil
		return nil
	}
	g := newGroup()
	g.name, g.cfg, g.at, g.label = name, m, e.kpos, name
	g.parent = d.root
	if p := m.get("parent_group_name"); truthy(p) {
		i := cfg.find(p)
		if i < 0 {
			d.report(pyErr("KeyError", "%s", pyRepr(p)).hint("no task group of that name; %s", expectedNames(pyStr(p), cfg.keys())), field+".parent_group_name", m.at("parent_group_name"))
			return nil
		}
		if g.parent = d.makeGroup(cfg.entries[i], cfg, append(chain, name), used); g.parent == nil {
			return nil
		}
	}
	if da, ok := m.get("default_args").(*dict); ok {
		for _, cb := range callbackNames {
			d.resolveCallback(da, cb, field+".default_args", "")
		}
	}
	if !d.groupArguments(g, e, field) {
		return nil
	}
	if g.parent != d.root && g.parent.prefix {
		g.id = g.parent.childID(name)
	} else {
		g.id = name
	}
	if used[g.id] {
		d.report(pyErr("DuplicateTaskIdFound", "group_id '%s' has already been added to the DAG", name), field, e.kpos)
		return nil
	}
	used[g.id], used[g.id+".upstream_join_id"], used[g.id+".downstream_join_id"] = true, true, true
	if !d.addChild(g.parent, groupChild{group: g}, g.id, "Task Group", field, e.kpos) {
		return nil
	}
	if g.parent.defaultArgs != nil {
		merged := g.parent.defaultArgs.clone()
		if g.defaultArgs != nil {
			for _, x := range g.defaultArgs.entries {
				merged.set(x)
			}
		}
		g.defaultArgs = merged
	}
	d.byName[name] = g
	d.groups = append(d.groups, g)
	return g
}

func (d *dagBuild) addChild(g *group, c groupChild, key, kind, field string, at pos) bool {
	if g.childKeys[key] {
		d.report(pyErr("DuplicateTaskIdFound", "%s id '%s' has already been added to the Dag", kind, key), field, at)
		return false
	}
	g.childKeys[key] = true
	g.children = append(g.children, c)
	return true
}

// groupArguments checks what goes to TaskGroup's constructor.
func (d *dagBuild) groupArguments(g *group, e entry, field string) bool {
	before := len(d.problems)
	if _, ok := e.key.(string); !ok {
		d.report(pyErr("TypeError", "The key has to be a string and is %s:%s", classRepr(e.key), g.name), field, e.kpos)
	} else {
		for _, r := range g.name {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				d.report(pyErr("ValueError", "The key %s has to be made of alphanumeric characters, dashes, and underscores exclusively", pyRepr(g.name)), field, e.kpos)
				break
			}
		}
		if g.name == "" {
			d.report(pyErr("ValueError", "The key '' has to be made of alphanumeric characters, dashes, and underscores exclusively"), field, e.kpos)
		}
		if n := len([]rune(g.name)); n > 200 {
			d.report(pyErr("ValueError", "The key has to be less than 200 characters, not %d", n), field, e.kpos)
		}
	}
	text := func(x entry, dst *string) {
		s, ok := x.val.(string)
		if !ok {
			d.report(pyErr("TypeError", "'%s' must be <class 'str'> (got %s that is a %s).", pyStr(x.key), pyRepr(x.val), classRepr(x.val)), field+"."+pyStr(x.key), x.vpos)
			return
		}
		*dst = s
	}
	for _, x := range g.cfg.entries {
		switch x.key {
		case "tooltip":
			text(x, &g.tooltip)
		case "group_display_name":
			text(x, &g.displayName)
		case "ui_color":
			text(x, &g.uiColor)
		case "ui_fgcolor":
			text(x, &g.uiFgcolor)
		case "doc_md":
			if x.val != nil {
				text(x, &g.docMD)
			}
		case "prefix_group_id":
			g.prefix = truthy(x.val)
		case "default_args":
			m, ok := x.val.(*dict)
			if !ok {
				if truthy(x.val) {
					d.report(pyErr("TypeError", "default_args must be a mapping"), field+".default_args", x.vpos)
				}
				continue
			}
			g.defaultArgs = m
		case "expand", "expand_kwargs":
			if d.opt.Strict {
				d.unknownGroupKey(x, field)
				continue
			}
			d.groupExpansion(g, x, field)
		case "operator", "dependencies", "task_group_name", "parent_group_name", "parent_group", "group_id", "dag", "add_suffix_on_collision":
		default:
			d.unknownGroupKey(x, field)
		}
	}
	if g.displayName != "" {
		g.label = g.displayName
	}
	return len(d.problems) == before
}

func (d *dagBuild) unknownGroupKey(x entry, field string) {
	d.report(pyErr("TypeError", "TaskGroup.__init__() got an unexpected keyword argument %s", pyRepr(x.key)).
		hint("%s", expectedNames(pyStr(x.key), groupKeys)), field+"."+pyStr(x.key), x.kpos)
}

// eachTask calls f for the tasks of g and of the groups below it, in order.
func (g *group) eachTask(f func(*task)) {
	for _, c := range g.children {
		if c.task != nil {
			f(c.task)
		} else {
			c.group.eachTask(f)
		}
	}
}

func (g *group) members() ([]*task, map[*task]bool) {
	var all []*task
	in := map[*task]bool{}
	g.eachTask(func(t *task) { all, in[t] = append(all, t), true })
	return all, in
}

// roots are the tasks without an upstream inside the group.
func (g *group) roots() []*task {
	all, in := g.members()
	var out []*task
	for _, t := range all {
		if !anyIn(t.up, in) {
			out = append(out, t)
		}
	}
	return out
}

// leaves are the tasks without a downstream inside the group; in place of a
// teardown count the tasks before it.
func (g *group) leaves() []*task {
	all, in := g.members()
	var out []*task
	seen := map[*task]bool{}
	add := func(t *task) {
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	var before func(t *task, depth int)
	before = func(t *task, depth int) {
		for _, u := range sortedTasks(t.up) {
			switch {
			case !in[u] || depth > len(all):
			case u.teardown:
				before(u, depth+1)
			case t.teardown && u.setup:
			default:
				blocked := false
				for x := range u.down {
					if x != t && in[x] && !x.teardown {
						blocked = true
					}
				}
				if !blocked {
					add(u)
				}
			}
		}
	}
	for _, t := range all {
		if anyIn(t.down, in) {
			continue
		}
		if t.teardown {
			before(t, 0)
		} else {
			add(t)
		}
	}
	return out
}

func anyIn(a, in map[*task]bool) bool {
	for t := range a {
		if in[t] {
			return true
		}
	}
	return false
}

func sortedTasks(m map[*task]bool) []*task {
	out := make([]*task, 0, len(m))
	for t := range m {
		out = append(out, t)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// node is what a dependency can name.
type node struct {
	task  *task
	group *group
}

// lookupNode finds a task or group by its un-prefixed name, groups first. In
// strict mode it fails where dag-factory does: it always puts the group's id in
// front of a task's name.
func (d *dagBuild) lookupNode(name value) (node, error) {
	key := pyStr(name)
	if g := d.byName[key]; g != nil {
		return node{group: g}, nil
	}
	t := d.byKey[key]
	if t == nil {
		var names []string
		for n := range d.byKey {
			names = append(names, n)
		}
		for n := range d.byName {
			names = append(names, n)
		}
		return node{}, pyErr("KeyError", "%s", pyRepr(name)).hint("no task or task group of that name; %s", expectedNames(key, names))
	}
	if d.opt.Strict && t.group != d.root {
		if want := t.group.id + "." + key; t.decorated || t.id != want {
			return node{}, pyErr("KeyError", "'%s'", want).hint("dag-factory puts the group's id in front of the name")
		}
	}
	return node{task: t}, nil
}

// setDependencies draws the edges, tasks first, then groups.
func (d *dagBuild) setDependencies(tasks, groups *dict) {
	for i, cfg := range []*dict{tasks, groups} {
		for _, e := range cfg.entries {
			m, ok := e.val.(*dict)
			if !ok {
				continue
			}
			key := []string{"tasks", "task_groups"}[i]
			field := d.field + "." + key + "." + pyStr(e.key)
			if !truthy(m.get("dependencies")) {
				continue
			}
			src, err := d.lookupNode(e.key)
			if err != nil {
				d.report(err, field, e.kpos)
				continue
			}
			deps, perr := iterate(m.get("dependencies"))
			if perr != nil {
				d.report(perr.hint("dependencies expects a list"), field+".dependencies", m.at("dependencies"))
				continue
			}
			for j, name := range deps {
				at := m.at("dependencies")
				if l, ok := m.get("dependencies").(*list); ok && j < len(l.items) {
					at = l.items[j].pos
				}
				dep, err := d.lookupNode(name)
				if err != nil {
					d.report(err, field+".dependencies", at)
					continue
				}
				setUpstream(src, dep)
			}
		}
	}
	d.mappedEdges()
}

// setUpstream is src.set_upstream(dep) of the SDK.
func setUpstream(src, dep node) {
	if src.task != nil {
		if dep.group != nil {
			dep.group.downTasks[src.task.id] = true
			for _, t := range dep.group.leaves() {
				connect(t, src.task)
			}
			return
		}
		connect(dep.task, src.task)
		return
	}
	if dep.group != nil {
		src.group.upGroups[dep.group.id] = true
		dep.group.downGroups[src.group.id] = true
	} else {
		src.group.upTasks[dep.task.id] = true
	}
	for _, t := range src.group.roots() {
		setUpstream(node{task: t}, dep)
	}
}

func connect(up, down *task) {
	up.down[down] = true
	down.up[up] = true
}

// validate is what the DAG bag checks of a built DAG.
func (d *dagBuild) validate() {
	if d.tt != nil {
		if d.tt.noSummary {
			d.fail(pyErr("SerializationError", "Failed to serialize DAG %s: '_summary'", pyRepr(d.id)).
				hint("airflow.sdk.EventsTimetable cannot be serialized by Airflow 3.3: use airflow.timetables.events.EventsTimetable"), "schedule")
		}
		if err := d.tt.check(); err != nil {
			d.fail(err, "schedule")
		} else if !d.opt.Strict {
			// What Airflow loads but Gust's scheduler cannot evaluate must not wait to fail there.
			w := &jsonWriter{}
			w.timetable(d.tt)
			if _, err := schedules.Parse(w.raw()); err != nil {
				d.fail(pyErr("AirflowTimetableInvalid", "%v", err), "schedule")
			}
		}
	}
	if d.failed() {
		return // the graph is incomplete
	}
	for _, t := range d.tasks {
		if !t.setup {
			continue
		}
		for _, x := range sortedTasks(t.down) {
			if !x.teardown && x.text("trigger_rule", "all_success") != "all_success" {
				d.report(pyErr("ValueError", "Setup tasks must be followed with trigger rule ALL_SUCCESS.").
					hint("task %s follows the setup %s", x.id, t.id), x.field+".trigger_rule", x.at)
			}
		}
	}
	if truthy(d.cfg.get("fail_fast")) && !d.opt.Strict {
		for _, t := range d.tasks {
			if r := t.text("trigger_rule", "all_success"); r != "all_success" && !t.teardown {
				d.report(pyErr("FailFastDagInvalidTriggerRule", "A 'fail_fast' dag can only have all_success trigger rule").
					hint("task %s has %s", t.id, r), t.field+".trigger_rule", t.at)
			}
		}
	}
	if c := d.findCycle(); c != nil {
		var ids []string
		for _, t := range c {
			ids = append(ids, t.id)
		}
		d.report(pyErr("AirflowDagCycleException", "Cycle detected in Dag: %s. Faulty task: %s", pyStr(d.id), c[len(c)-1].id).
			hint("the cycle is %s", strings.Join(append(ids, ids[0]), " >> ")), c[0].field+".dependencies", c[0].at)
	}
	d.checkExternal()
}

// checkExternal reports weights that Airflow could not serialize.
func (d *dagBuild) checkExternal() {
	for _, t := range d.tasks {
		w, ok := t.attrs["weight_rule"].(string)
		if ok && w != "downstream" && w != "upstream" && w != "absolute" {
			d.report(pyErr("SerializationError", "Failed to serialize DAG %s: Unknown priority strategy %s", pyRepr(d.id), w).
				hint("expected downstream, upstream or absolute"), t.field+".weight_rule", t.keyPos("weight_rule"))
		}
	}
}

// findCycle returns the tasks of one cycle, or nil.
func (d *dagBuild) findCycle() []*task {
	state := map[*task]int{}
	var stack []*task
	var visit func(t *task) []*task
	visit = func(t *task) []*task {
		state[t] = 1
		stack = append(stack, t)
		for _, x := range sortedTasks(t.down) {
			switch state[x] {
			case 0:
				if c := visit(x); c != nil {
					return c
				}
			case 1:
				for i, s := range stack {
					if s == x {
						return append([]*task(nil), stack[i:]...)
					}
				}
			}
		}
		state[t] = 2
		stack = stack[:len(stack)-1]
		return nil
	}
	for _, t := range d.tasks {
		if state[t] == 0 {
			if c := visit(t); c != nil {
				return c
			}
		}
	}
	return nil
}

// expectedNames helps after an unknown name: the nearest known one, or the list.
func expectedNames(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	if len(known) == 0 || len(known) > 12 {
		return ""
	}
	sort.Strings(known)
	return "expected one of " + strings.Join(known, ", ")
}
