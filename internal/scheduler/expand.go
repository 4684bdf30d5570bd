package scheduler

import (
	"github.com/gustflow/gust/internal/airflow"
)

// expansion is an ExpandInput compiled to what scheduling needs: a length.
type expansion struct{ args []lengthExpr }

// lengthExpr computes the length of one mapped argument.
type lengthExpr struct {
	op   lengthOp
	n    int32 // lenLiteral: the length; lenTask: the task
	fill bool  // lenZip: longest instead of shortest
	args []lengthExpr
}

type lengthOp uint8

const (
	lenLiteral lengthOp = iota
	lenTask
	lenSame // of its only argument: map()
	lenZip
	lenConcat
)

// tasks calls f for every task the expression refers to, in order.
func (e *lengthExpr) tasks(f func(int32)) {
	if e.op == lenTask {
		f(e.n)
	}
	for i := range e.args {
		e.args[i].tasks(f)
	}
}

func (x *expansion) tasks(f func(int32)) {
	for i := range x.args {
		x.args[i].tasks(f)
	}
}

// parseTime returns the length of an expansion that needs literals only.
func (x *expansion) parseTime() (int, bool) {
	return x.length(nil)
}

// length evaluates the expression; of gives the length a task contributes, nil
// if none is known yet.
func (e *lengthExpr) length(of func(task int32) (int, bool)) (int, bool) {
	switch e.op {
	case lenLiteral:
		return int(e.n), true
	case lenTask:
		if of == nil {
			return 0, false
		}
		return of(e.n)
	}
	total := 0
	for i := range e.args {
		k, ok := e.args[i].length(of)
		if !ok {
			return 0, false
		}
		switch {
		case e.op == lenConcat:
			total = min(total+k, MaxMapIndex+1)
		case i == 0, e.fill && k > total, !e.fill && k < total:
			total = k
		}
	}
	return total, true
}

func (x *expansion) length(of func(task int32) (int, bool)) (int, bool) {
	n := 1
	for i := range x.args {
		k, ok := x.args[i].length(of)
		if !ok {
			return 0, false
		}
		n = min(n*k, MaxMapIndex+1) // beyond it nothing is expanded
	}
	return n, true
}

// sourceLength is the length that a task contributes to an expansion over it,
// read live: the recorded length of an unmapped task; the number of non-null
// results of a mapped one, once none of its instances is unfinished.
func (rs *RunState) sourceLength(g *Graph, task int32) (int, bool) {
	if !g.Tasks[task].needsExpansion() {
		n, ok := rs.lengths[task]
		return int(n), ok
	}
	ts := &rs.tasks[task]
	if ts.unfinished() > 0 {
		return 0, false
	}
	return int(ts.xcoms), true
}

// mappedCount is how many instances a task in expansion must have; ok is false
// while that is unknown. The task must need expansion.
func (rs *RunState) mappedCount(g *Graph, task int32) (int, bool) {
	n := &g.Tasks[task]
	of := func(t int32) (int, bool) { return rs.sourceLength(g, t) }
	total := 1
	if n.Mapped {
		k, ok := n.expand.length(of)
		if !ok {
			return 0, false
		}
		total = k
	}
	if len(n.MappedGroups) > 0 {
		k, ok := rs.groupCount(g, n.MappedGroups[0])
		if !ok {
			return 0, false
		}
		total *= k
	}
	return total, total <= MaxMapIndex
}

// groupCount is how many times the members of a mapped group are repeated.
func (rs *RunState) groupCount(g *Graph, group int32) (int, bool) {
	of := func(t int32) (int, bool) { return rs.sourceLength(g, t) }
	total := 1
	for _, m := range g.Groups[group].MappedGroups {
		k, ok := g.Groups[m].Expand.length(of)
		if !ok {
			return 0, false
		}
		total *= k
	}
	return total, true
}

// parseTimeCount is the number of instances of a task that literals alone
// decide; ok is false if the task is not mapped or needs a result.
func (g *Graph) parseTimeCount(task int32) (int, bool) {
	n := &g.Tasks[task]
	if !n.needsExpansion() {
		return 0, false
	}
	total := 1
	if n.Mapped {
		k, ok := n.expand.parseTime()
		if !ok {
			return 0, false
		}
		total = k
	}
	for _, m := range n.MappedGroups {
		k, ok := g.Groups[m].Expand.parseTime()
		if !ok {
			return 0, false
		}
		total *= k
	}
	return total, total <= MaxMapIndex
}

// indexRange is a set of map indexes of one upstream task that an instance
// depends on; all overrides the bounds. The unexpanded instance always counts.
type indexRange struct {
	all    bool
	lo, hi int // half open
}

// relevant says which instances of an upstream matter to an instance: all of
// them, unless both are in the same mapped group.
func (rs *RunState) relevant(g *Graph, t *TI, up int32) indexRange {
	n := &g.Tasks[t.Task]
	if len(n.MappedGroups) == 0 {
		return indexRange{all: true}
	}
	if t.MapIndex < 0 && n.DirectGroupMapped && n.fast && !contains(n.allSources, up) {
		return indexRange{all: true}
	}
	count, ok := rs.mappedCount(g, t.Task)
	if !ok {
		return indexRange{all: true}
	}
	return rs.relevantOf(g, t.Task, int(t.MapIndex), count, up)
}

func (rs *RunState) relevantOf(g *Graph, task int32, mapIndex, count int, up int32) indexRange {
	common := g.commonMappedGroup(task, up)
	if common < 0 || count == 0 {
		return indexRange{all: true}
	}
	ancestors, ok := rs.groupCount(g, common)
	if !ok || ancestors == 0 {
		return indexRange{all: true}
	}
	at := floorDiv(mapIndex*ancestors, count)
	if !g.furtherMappedInside(up, common) {
		return indexRange{lo: at, hi: at + 1}
	}
	further := count / ancestors
	return indexRange{lo: at * further, hi: at*further + further}
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// commonMappedGroup is the innermost mapped group around both tasks, or -1.
func (g *Graph) commonMappedGroup(a, b int32) int32 {
	for _, m := range g.Tasks[b].MappedGroups {
		for _, k := range g.Tasks[a].MappedGroups {
			if m == k {
				return m
			}
		}
	}
	return -1
}

// furtherMappedInside reports whether a task is mapped again below a group around it.
func (g *Graph) furtherMappedInside(task, group int32) bool {
	n := &g.Tasks[task]
	return n.Mapped || (len(n.MappedGroups) > 0 && n.MappedGroups[0] != group)
}

// newTI is an instance as Airflow creates it.
func (g *Graph) newTI(task int32, mapIndex int) TI {
	return TI{Task: task, MapIndex: int32(mapIndex), State: airflow.TINone, MaxTries: maxTries(g.Tasks[task].Task.Retries)}
}

// maxTries stores a number of retries; beyond 32767 nobody counts.
func maxTries(n int) int16 { return int16(max(0, min(n, 1<<15-1))) }
