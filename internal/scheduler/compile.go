package scheduler

import (
	"fmt"
	"sort"

	"github.com/gustflow/gust/internal/airflow"
)

// Compile prepares a DAG version. It fails with an InvalidError that lists every
// dangling reference, duplicate id and cycle.
func Compile(dag *airflow.DAG) (*Graph, error) {
	c := compiler{g: &Graph{
		DAG: dag, byID: make(map[airflow.TaskID]int32, len(dag.Tasks)), groupByID: map[airflow.GroupID]int32{},
	}}
	c.nodes()
	c.groups()
	c.edges()
	if len(c.problems) == 0 {
		c.order()
	}
	if len(c.problems) > 0 {
		return nil, &airflow.InvalidError{Problems: c.problems}
	}
	c.relatives()
	c.expansions()
	if len(c.problems) > 0 {
		return nil, &airflow.InvalidError{Problems: c.problems}
	}
	c.finish()
	return c.g, nil
}

type compiler struct {
	g        *Graph
	problems []airflow.Problem
	topo     []int32 // upstream first
	setups   bool    // some task is a setup
	up, down []bits  // transitive relatives by task
}

func (c *compiler) fail(field, format string, args ...any) {
	c.problems = append(c.problems, airflow.Problem{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (c *compiler) nodes() {
	g := c.g
	for i, t := range g.DAG.Tasks {
		if _, dup := g.byID[t.TaskID]; dup {
			c.fail("dag.tasks", "task_id %q is used twice", t.TaskID)
		}
		g.byID[t.TaskID] = int32(i)
		g.Tasks = append(g.Tasks, Node{Task: t, ID: t.TaskID})
		c.setups = c.setups || t.IsSetup
	}
}

func (c *compiler) groups() {
	g := c.g
	root := g.DAG.TaskGroup
	if root == nil {
		root = &airflow.TaskGroup{}
		for _, t := range g.DAG.Tasks {
			root.Children = append(root.Children, airflow.GroupChild{TaskID: t.TaskID})
		}
	}
	root.Walk(func(tg, parent *airflow.TaskGroup) {
		p := int32(-1)
		if parent != nil {
			p = g.groupByID[parent.GroupID]
		}
		me := int32(len(g.Groups))
		if _, dup := g.groupByID[tg.GroupID]; dup {
			c.fail("dag.task_group", "group_id %q is used twice", tg.GroupID)
		}
		g.groupByID[tg.GroupID] = me
		gr := Group{ID: tg.GroupID, Parent: p, Mapped: tg.IsMapped}
		if gr.Mapped {
			gr.MappedGroups = append(gr.MappedGroups, me)
		}
		if p >= 0 {
			gr.MappedGroups = append(gr.MappedGroups, g.Groups[p].MappedGroups...)
			g.Groups[p].Children = append(g.Groups[p].Children, me)
		}
		for _, ch := range tg.Children {
			if ch.Group != nil {
				continue
			}
			i := g.TaskIndex(ch.TaskID)
			if i < 0 {
				c.fail("dag.task_group", "task %q of group %q does not exist", ch.TaskID, tg.GroupID)
				continue
			}
			gr.Tasks = append(gr.Tasks, int32(i))
		}
		g.Groups = append(g.Groups, gr)
		if gr.Mapped {
			if tg.Expand == nil {
				c.fail("group "+string(tg.GroupID), "is mapped but has no expand_input")
				return
			}
			g.Groups[me].Expand = c.expansion("group "+string(tg.GroupID), tg.Expand)
		}
	})
	for i := range g.Groups {
		for _, t := range g.Groups[i].Tasks {
			n := &g.Tasks[t]
			n.Group = int32(i)
			n.MappedGroups = g.Groups[i].MappedGroups
			n.DirectGroupMapped = g.Groups[i].Mapped
		}
	}
}

func (c *compiler) edges() {
	g := c.g
	for i := range g.Tasks {
		n := &g.Tasks[i]
		for _, id := range n.Task.Downstream {
			j := g.TaskIndex(id)
			if j < 0 {
				c.fail("task "+string(n.ID)+".downstream_task_ids", "task %q does not exist in DAG %q", id, g.DAG.DagID)
				continue
			}
			n.Downstream = append(n.Downstream, int32(j))
			g.Tasks[j].Upstream = append(g.Tasks[j].Upstream, int32(i))
		}
	}
	for i := range g.Tasks {
		n := &g.Tasks[i]
		n.Upstream, n.Downstream = sortUnique(n.Upstream), sortUnique(n.Downstream)
	}
}

// order sorts the tasks topologically and reports a cycle.
func (c *compiler) order() {
	g := c.g
	open := make([]int, len(g.Tasks))
	for i := range g.Tasks {
		open[i] = len(g.Tasks[i].Upstream)
		if open[i] == 0 {
			c.topo = append(c.topo, int32(i))
		}
	}
	for k := 0; k < len(c.topo); k++ {
		for _, d := range g.Tasks[c.topo[k]].Downstream {
			if open[d]--; open[d] == 0 {
				c.topo = append(c.topo, d)
			}
		}
	}
	if len(c.topo) < len(g.Tasks) {
		var in []airflow.TaskID
		for i, k := range open {
			if k > 0 {
				in = append(in, g.Tasks[i].ID)
			}
		}
		c.fail("dag.tasks", "DAG %q has a cycle among the tasks %v or below it", g.DAG.DagID, in)
	}
}

func (c *compiler) relatives() {
	g := c.g
	n := len(g.Tasks)
	c.up, c.down = make([]bits, n), make([]bits, n)
	for _, i := range c.topo {
		c.up[i] = newBits(n)
		for _, u := range g.Tasks[i].Upstream {
			c.up[i].set(u)
			c.up[i].or(c.up[u])
		}
	}
	for k := n - 1; k >= 0; k-- {
		i := c.topo[k]
		c.down[i] = newBits(n)
		for _, d := range g.Tasks[i].Downstream {
			c.down[i].set(d)
			c.down[i].or(c.down[d])
		}
	}
	for i := range g.Tasks {
		nd := &g.Tasks[i]
		nd.Weight = nd.Task.PriorityWeight
		var rel bits
		switch airflow.WeightRule(nd.Task.WeightRule) {
		case airflow.WeightUpstream:
			rel = c.up[i]
		case airflow.WeightDownstream, "":
			rel = c.down[i]
		}
		// Each relative counts once, mapped or not; the sum is not clamped. A
		// custom strategy (a class path) needs Python and counts as absolute.
		rel.each(func(j int32) { nd.Weight += g.Tasks[j].Task.PriorityWeight })
	}
	for i := range g.Groups {
		members := newBits(n)
		c.members(int32(i), members)
		members.each(func(t int32) {
			for _, u := range g.Tasks[t].Upstream {
				if members.has(u) {
					return
				}
			}
			g.Groups[i].Roots = append(g.Groups[i].Roots, t)
		})
	}
}

func (c *compiler) members(group int32, into bits) {
	for _, t := range c.g.Groups[group].Tasks {
		into.set(t)
	}
	for _, ch := range c.g.Groups[group].Children {
		c.members(ch, into)
	}
}

func (c *compiler) expansion(at string, in *airflow.ExpandInput) *expansion {
	x := &expansion{}
	for _, a := range in.Args {
		if a.XCom == nil {
			x.args = append(x.args, lengthExpr{op: lenLiteral, n: int32(a.Length)})
			continue
		}
		x.args = append(x.args, c.lengthOf(at, a.XCom))
	}
	return x
}

func (c *compiler) lengthOf(at string, r *airflow.XComRef) lengthExpr {
	if r.Literal != nil {
		return lengthExpr{op: lenLiteral, n: int32(r.Length)}
	}
	e := lengthExpr{fill: r.HasFill}
	switch r.Type {
	case airflow.XComPlain:
		i := c.g.TaskIndex(r.TaskID)
		if i < 0 {
			c.fail(at, "expands over the result of task %q, which does not exist in DAG %q", r.TaskID, c.g.DAG.DagID)
			i = 0
		}
		return lengthExpr{op: lenTask, n: int32(i)}
	case airflow.XComMap:
		e.op = lenSame
	case airflow.XComZip:
		e.op = lenZip
	case airflow.XComConcat:
		e.op = lenConcat
	default:
		c.fail(at, "xcomref type %q is unknown: expected map, zip, concat or none", r.Type)
	}
	for _, a := range r.Args {
		e.args = append(e.args, c.lengthOf(at, a))
	}
	return e
}

func (c *compiler) expansions() {
	g := c.g
	for i := range g.Tasks {
		n := &g.Tasks[i]
		collect := func(x *expansion) (out []int32) {
			x.tasks(func(t int32) { out = append(out, t) })
			return sortUnique(out)
		}
		if n.Task.IsMapped {
			if n.Task.Expand == nil {
				c.fail("task "+string(n.ID), "is mapped but has no expand_input")
				continue
			}
			n.Mapped = true
			n.expand = c.expansion("task "+string(n.ID), n.Task.Expand)
			n.Sources = collect(n.expand)
			n.allSources = append(n.allSources, n.Sources...)
		}
		for k, m := range n.MappedGroups {
			if g.Groups[m].Expand == nil {
				continue
			}
			src := collect(g.Groups[m].Expand)
			if k == 0 && !n.Mapped {
				n.Sources = src
			}
			n.allSources = append(n.allSources, src...)
		}
		n.allSources = sortUnique(n.allSources)
	}
}

func (c *compiler) finish() {
	g := c.g
	for i := range g.Tasks {
		n, t := &g.Tasks[i], g.Tasks[i].Task
		me := int32(i)
		for _, s := range n.allSources {
			g.Tasks[s].ExpandedBy = append(g.Tasks[s].ExpandedBy, me)
		}
		n.simpleUpstream, n.simpleSetups = true, true
		for _, u := range n.Upstream {
			up := &g.Tasks[u]
			n.simpleUpstream = n.simpleUpstream && !up.needsExpansion()
			if up.Task.IsSetup {
				n.setupUpstream++
			}
			if up.Task.CanSkipDownstream {
				n.SkipParents = append(n.SkipParents, u)
			}
		}
		if !c.setups {
			// Nothing to look for, in what may be a DAG of thousands of tasks.
		} else if t.IsTeardown {
			n.Scope = c.scope(me)
		} else {
			n.Setups = c.indirectSetups(me)
		}
		for _, s := range n.Setups {
			n.simpleSetups = n.simpleSetups && !g.Tasks[s].needsExpansion()
			g.Tasks[s].SetupOf = append(g.Tasks[s].SetupOf, me)
		}
		for _, s := range n.Scope {
			n.simpleSetups = n.simpleSetups && !g.Tasks[s].needsExpansion()
			g.Tasks[s].SetupOf = append(g.Tasks[s].SetupOf, me)
		}
		switch t.TriggerRule {
		case airflow.RuleOneSuccess, airflow.RuleOneFailed, airflow.RuleOneDone:
			n.fast = true
		}
		n.limited = t.DependsOnPast || t.MaxActiveTIsPerDag > 0 || t.MaxActiveTIsPerDagRun > 0
		g.hasPast = g.hasPast || t.DependsOnPast
		n.shortcut = t.IsEmpty && !t.HasOnExecuteCallback && !t.HasOnSuccessCallback && len(t.Inlets) == 0 && len(t.Outlets) == 0
		if n.leaf = c.isLeaf(me); n.leaf {
			g.leaves = append(g.leaves, me)
		}
	}
	if len(g.leaves) == 0 { // a DAG of teardowns only
		for i := range g.Tasks {
			if len(g.Tasks[i].Downstream) == 0 {
				g.Tasks[i].leaf = true
				g.leaves = append(g.leaves, int32(i))
			}
		}
	}
	g.up, g.down = c.up, c.down
}

// indirectSetups are the setups above a task, not directly, that have no
// teardown or one below the task.
func (c *compiler) indirectSetups(task int32) (out []int32) {
	c.up[task].each(func(u int32) {
		if contains(c.g.Tasks[task].Upstream, u) {
			return
		}
		if c.g.relevantSetup(c.down[task], u) {
			out = append(out, u)
		}
	})
	return out
}

// relevantSetup reports whether s is a setup whose scope reaches a task, below
// being everything downstream of that task.
func (g *Graph) relevantSetup(below bits, s int32) bool {
	if !g.Tasks[s].Task.IsSetup {
		return false
	}
	none := true
	for _, d := range g.Tasks[s].Downstream {
		if g.Tasks[d].Task.IsTeardown {
			if below.has(d) {
				return true
			}
			none = false
		}
	}
	return none
}

// scope are the tasks between the setups of a teardown and the teardown that
// are not directly above it: it waits for them too.
func (c *compiler) scope(task int32) (out []int32) {
	g := c.g
	between := newBits(len(g.Tasks))
	for _, u := range g.Tasks[task].Upstream {
		if g.Tasks[u].Task.IsSetup {
			between.or(c.down[u])
		}
	}
	between.each(func(t int32) {
		if c.up[task].has(t) && !contains(g.Tasks[task].Upstream, t) {
			out = append(out, t)
		}
	})
	return out
}

// isLeaf: nothing below that counts, and it counts itself.
func (c *compiler) isLeaf(task int32) bool {
	n := &c.g.Tasks[task]
	for _, d := range n.Downstream {
		if t := c.g.Tasks[d].Task; !t.IsTeardown || t.OnFailureFailDagrun {
			return false
		}
	}
	return !n.Task.IsTeardown || n.Task.OnFailureFailDagrun
}

func sortUnique(v []int32) []int32 {
	sort.Slice(v, func(i, j int) bool { return v[i] < v[j] })
	out := v[:0]
	for i, x := range v {
		if i == 0 || x != v[i-1] {
			out = append(out, x)
		}
	}
	return out
}

// contains searches an ascending list.
func contains(sorted []int32, x int32) bool {
	i := sort.Search(len(sorted), func(i int) bool { return sorted[i] >= x })
	return i < len(sorted) && sorted[i] == x
}
