package scheduler

import (
	"github.com/gustflow/gust/internal/airflow"
)

// stateCounts counts instances by state.
type stateCounts [airflow.NumTIStates]int32

func (c *stateCounts) unfinished() (n int32) {
	for s, k := range c {
		if !airflow.TIState(s).Finished() {
			n += k
		}
	}
	return n
}

// taskState holds what is derived from the instances of one task.
type taskState struct {
	// live counts instances by state; snap does so as of the beginning of the
	// pass that is running, as far as finished states are concerned.
	live, snap stateCounts
	total      int32
	// xcoms counts instances with a map index whose non-null result is stored.
	xcoms int32
	// unexpanded is the position of the instance with map_index -1, or -1.
	unexpanded int32
	// mapped are positions by map index, -1 = no instance; present counts the others.
	mapped  []int32
	present int32
	// class is what the task meant to those that depend on it as a whole when they
	// were last marked, 0 = unknown; see classOf.
	class uint32
}

func (t *taskState) unfinished() int32 { return t.live.unfinished() }

// position of an instance, or -1.
func (t *taskState) at(mapIndex int) int32 {
	switch {
	case mapIndex < 0:
		return t.unexpanded
	case mapIndex < len(t.mapped):
		return t.mapped[mapIndex]
	}
	return -1
}

func (t *taskState) place(mapIndex int32, pos int32) {
	if mapIndex < 0 {
		t.unexpanded = pos
		return
	}
	for int32(len(t.mapped)) <= mapIndex {
		t.mapped = append(t.mapped, -1)
	}
	if t.mapped[mapIndex] < 0 {
		t.present++
	}
	t.mapped[mapIndex] = pos
}

// runSets are the derived sets of a run.
type runSets struct {
	dirty   orderedSet // an input changed since last examined
	passing orderedSet // unfinished, and dependencies were met (waits aside) when last examined
	wakes   wakeHeap
	limited int32 // unfinished instances of tasks with Node.limited
	inPass  bool
	fresh   []int32 // became finished in the running pass
	log     *[]Transition
}

// Find returns the position of an instance, or -1.
func (rs *RunState) Find(g *Graph, task airflow.TaskID, mapIndex int) int {
	i, ok := g.byID[task]
	if !ok {
		for k, id := range rs.Gone {
			if id == task {
				return int(rs.tasks[len(g.Tasks)+k].at(mapIndex))
			}
		}
		return -1
	}
	return int(rs.tasks[i].at(mapIndex))
}

// add appends an instance.
func (rs *RunState) add(g *Graph, t TI) int32 {
	pos := rs.n
	rs.n++
	if pos%ChunkSize == 0 {
		rs.Chunks = append(rs.Chunks, &Chunk{})
	}
	c := rs.Chunks[pos/ChunkSize]
	c.TIs = append(c.TIs, t)
	c.Dirty = true
	rs.HeaderDirty = true
	rs.index(g, pos)
	rs.run.dirty.put(pos, true)
	rs.markBelow(g, t.Task)
	return pos
}

// index enters an instance into the derived data.
func (rs *RunState) index(g *Graph, pos int32) {
	t := rs.ti(pos)
	rs.run.dirty.grow(pos + 1)
	rs.run.passing.grow(pos + 1)
	ts := &rs.tasks[t.Task]
	ts.place(t.MapIndex, pos)
	ts.total++
	ts.live[t.State]++
	ts.snap[t.State]++
	rs.counts[t.State]++
	if t.Flags&FlagXCom != 0 && t.MapIndex >= 0 {
		ts.xcoms++
	}
	if int(t.Task) < len(g.Tasks) && g.Tasks[t.Task].limited && !t.State.Finished() {
		rs.run.limited++
	}
	rs.run.wakes.push(t.WakeAt, pos)
}

// reset drops the derived data and makes it again, for instance after Decode.
func (rs *RunState) reset(g *Graph) {
	rs.tasks = make([]taskState, len(g.Tasks)+len(rs.Gone))
	for i := range rs.tasks {
		rs.tasks[i].unexpanded = -1
	}
	rs.counts = stateCounts{}
	rs.run = runSets{}
	n := int32(0)
	for _, c := range rs.Chunks {
		for i := range c.TIs {
			rs.index(g, n)
			t := &c.TIs[i]
			rs.run.dirty.put(n, t.Flags&flagDirty != 0)
			rs.run.passing.put(n, t.Flags&flagPassing != 0)
			n++
		}
	}
	rs.n = n
}

// touch marks an instance's chunk as changed.
func (rs *RunState) touch(pos int32) { rs.Chunks[pos/ChunkSize].Dirty = true }

func (rs *RunState) setDirty(pos int32) {
	if !rs.run.dirty.has(pos) {
		rs.run.dirty.put(pos, true)
		rs.touch(pos)
	}
}

func (rs *RunState) clean(pos int32) {
	if rs.run.dirty.has(pos) {
		rs.run.dirty.put(pos, false)
		rs.touch(pos)
	}
}

func (rs *RunState) setPassing(pos int32, yes bool) {
	if rs.run.passing.has(pos) != yes {
		rs.run.passing.put(pos, yes)
		rs.touch(pos)
	}
}

// set changes the state of an instance and everything derived from it, logs the
// transition and marks what depends on it. It returns the transition, so that
// the caller may complete it.
func (rs *RunState) set(g *Graph, pos int32, to airflow.TIState, why Code) {
	t := rs.ti(pos)
	from := t.State
	if from == to {
		return
	}
	ts := &rs.tasks[t.Task]
	ts.live[from]--
	ts.live[to]++
	rs.counts[from]--
	rs.counts[to]++
	switch {
	case t.Flags&flagFresh != 0:
		// Already hidden from the running pass; it surfaces when the pass is over.
	case rs.run.inPass && !from.Finished() && to.Finished():
		t.Flags |= flagFresh
		rs.run.fresh = append(rs.run.fresh, pos)
		ts.snap[from]--
	default:
		ts.snap[from]--
		ts.snap[to]++
	}
	if int(t.Task) < len(g.Tasks) && g.Tasks[t.Task].limited && from.Finished() != to.Finished() {
		if to.Finished() {
			rs.run.limited--
		} else {
			rs.run.limited++
		}
	}
	t.State = to
	t.WakeAt = 0
	if to.Finished() {
		rs.setPassing(pos, false)
		rs.clean(pos)
	} else if to.Schedulable() {
		rs.setDirty(pos)
	}
	rs.touch(pos)
	if from.Finished() || to.Finished() {
		rs.markDependents(g, pos) // nobody looks at how far the unfinished are
	}
	rs.logChange(g, pos, from, why)
}

func (rs *RunState) logChange(g *Graph, pos int32, from airflow.TIState, why Code) *Transition {
	if rs.run.log == nil {
		return &Transition{}
	}
	t := rs.ti(pos)
	*rs.run.log = append(*rs.run.log, Transition{
		Pos: int(pos), TaskID: rs.TaskID(g, t), MapIndex: int(t.MapIndex), From: from, To: t.State,
		TryNumber: int(t.TryNumber), DispatchSeq: t.DispatchSeq, Why: why,
	})
	return &(*rs.run.log)[len(*rs.run.log)-1]
}

// markDependents marks the instances that may be judged differently now that
// one instance changed.
func (rs *RunState) markDependents(g *Graph, pos int32) {
	t := rs.ti(pos)
	if int(t.Task) >= len(g.Tasks) {
		return
	}
	n := &g.Tasks[t.Task]
	ts := &rs.tasks[t.Task]
	class := ts.classOf()
	same := class != 0 && class == ts.class
	ts.class = class
	for _, d := range n.Downstream {
		rs.markIn(g, t, d, same)
	}
	for _, d := range n.SetupOf {
		rs.markIn(g, t, d, same)
	}
	// What expands over this task looks at its unexpanded instance, or at the
	// whole once nothing of it is unfinished.
	if len(n.ExpandedBy) > 0 && (t.MapIndex < 0 || ts.unfinished() == 0) {
		for _, d := range n.ExpandedBy {
			rs.markTask(d)
		}
	}
}

// classOf sums up what the instances of a task mean to a rule that looks at all
// of them: which finished states there are, and whether all are finished. No
// rule asks for more, as long as none is removed; then it is 0.
func (t *taskState) classOf() uint32 {
	if t.snap[airflow.TIRemoved] > 0 {
		return 0
	}
	class, finished := uint32(1), int32(0)
	for i, s := range [...]airflow.TIState{airflow.TISuccess, airflow.TISkipped, airflow.TIFailed, airflow.TIUpstreamFailed} {
		if t.snap[s] > 0 {
			class |= 2 << i
		}
		finished += t.snap[s]
	}
	if finished == t.total {
		class |= 32
	}
	return class
}

// markIn marks the instances of a task that may depend on one instance above it.
// same says that the task above, seen as a whole, still means what it meant when
// its dependents were last marked.
func (rs *RunState) markIn(g *Graph, t *TI, down int32, same bool) {
	common := g.commonMappedGroup(down, t.Task)
	if common < 0 {
		if !same || contains(g.Tasks[down].SkipParents, t.Task) {
			rs.markTask(down)
		}
		return
	}
	// Both are in a mapped group: find the instances that look at this index, the
	// inverse of RunState.relevantOf.
	ts := &rs.tasks[down]
	count, ok := rs.mappedCount(g, down)
	groups, known := rs.groupCount(g, common)
	if t.MapIndex < 0 || !ok || !known || count == 0 || groups == 0 || int(ts.present) != len(ts.mapped) || len(ts.mapped) != count {
		rs.markTask(down)
		return
	}
	further := count / groups
	at := int(t.MapIndex)
	if g.furtherMappedInside(t.Task, common) {
		if further == 0 {
			return
		}
		at /= further
	}
	for i := at * further; i < min((at+1)*further, count); i++ {
		rs.markPos(ts.mapped[i])
	}
	if ts.unexpanded >= 0 {
		rs.markPos(ts.unexpanded)
	}
}

func (rs *RunState) markPos(pos int32) {
	if !rs.ti(pos).State.Finished() {
		rs.setDirty(pos)
	}
}

func (rs *RunState) markTask(task int32) {
	ts := &rs.tasks[task]
	if ts.unexpanded >= 0 {
		rs.markPos(ts.unexpanded)
	}
	if ts.live.unfinished() == 0 {
		return
	}
	for _, p := range ts.mapped {
		if p >= 0 {
			rs.markPos(p)
		}
	}
}

// markBelow marks everything that counts the instances of a task.
func (rs *RunState) markBelow(g *Graph, task int32) {
	if int(task) >= len(g.Tasks) {
		return
	}
	n := &g.Tasks[task]
	for _, l := range [][]int32{n.Downstream, n.SetupOf, n.ExpandedBy} {
		for _, d := range l {
			rs.markTask(d)
		}
	}
}

// MarkAllDirty makes the next Decide examine every unfinished instance.
func (rs *RunState) MarkAllDirty() {
	for p := int32(0); p < rs.n; p++ {
		rs.markPos(p)
	}
}

// setXCom records whether a non-null result is stored.
func (rs *RunState) setXCom(g *Graph, pos int32, stored bool) {
	t := rs.ti(pos)
	if (t.Flags&FlagXCom != 0) == stored {
		return
	}
	d := int32(1)
	if stored {
		t.Flags |= FlagXCom
	} else {
		t.Flags &^= FlagXCom
		d = -1
	}
	if t.MapIndex >= 0 {
		rs.tasks[t.Task].xcoms += d
	}
	rs.touch(pos)
	rs.markDependents(g, pos)
}

// setWake sets when time alone moves the instance.
func (rs *RunState) setWake(pos int32, at Micros) {
	t := rs.ti(pos)
	if t.WakeAt == at {
		return
	}
	t.WakeAt = at
	rs.run.wakes.push(at, pos)
	rs.touch(pos)
}
