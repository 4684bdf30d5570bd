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
	// class sums up how the instances of an expanded task stood when they were
	// last marked, 0 = unknown; see RunState.classOf.
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
	for _, d := range n.Downstream {
		rs.markIn(g, t, d)
	}
	for _, d := range n.SetupOf {
		rs.markIn(g, t, d)
	}
	// What expands over this task looks at its unexpanded instance, or at the
	// whole once nothing of it is unfinished.
	if len(n.ExpandedBy) > 0 && (t.MapIndex < 0 || rs.tasks[t.Task].unfinished() == 0) {
		for _, d := range n.ExpandedBy {
			rs.markTask(d)
		}
	}
}

// markIn marks the instances of a task that may depend on one instance above it.
func (rs *RunState) markIn(g *Graph, t *TI, down int32) {
	ts := &rs.tasks[down]
	n := &g.Tasks[down]
	if t.MapIndex >= 0 && len(n.MappedGroups) > 0 && !n.Mapped && len(n.MappedGroups) == 1 &&
		!g.Tasks[t.Task].Mapped && len(g.Tasks[t.Task].MappedGroups) == 1 && g.Tasks[t.Task].MappedGroups[0] == n.MappedGroups[0] {
		// Both are plain members of the same mapped group: index by index.
		if p := ts.at(int(t.MapIndex)); p >= 0 {
			rs.markPos(p)
		}
		if ts.unexpanded >= 0 {
			rs.markPos(ts.unexpanded)
		}
		return
	}
	if ts.present > 1 && len(n.MappedGroups) == 0 {
		// All instances look at the same counts: unless those lead elsewhere,
		// none of them is judged differently.
		c := rs.classOf(g, down)
		if c != 0 && c == ts.class {
			return
		}
		ts.class = c
	}
	rs.markTask(down)
}

// classOf sums up what the counts of its upstreams mean for every instance of an
// expanded task outside mapped groups; 0 if its instances may differ.
func (rs *RunState) classOf(g *Graph, task int32) uint32 {
	n := &g.Tasks[task]
	if len(n.SkipParents) > 0 {
		return 0 // each looks up its own parent's choice
	}
	p := pass{g: g, rs: rs}
	t := TI{Task: task, MapIndex: airflow.Unmapped}
	c := p.counts(&t, n.Upstream, n.simpleUpstream)
	v := EvaluateRule(n.Task.TriggerRule, c, airflow.Unmapped)
	class := 1 | uint32(v.Set)<<1
	flag := func(bit int, set bool) {
		if set {
			class |= 1 << bit
		}
	}
	flag(8, v.Met)
	removed := c.Removed
	if len(n.Setups) > 0 {
		c := p.counts(&t, n.Setups, n.simpleSetups)
		flag(9, c.Failed+c.UpstreamFailed > 0)
		flag(10, c.Skipped > 0)
		flag(11, c.Upstream-c.Success-c.Removed > 0)
		removed += c.Removed
	}
	if len(n.Scope) > 0 {
		c := p.counts(&t, n.Scope, n.simpleSetups)
		flag(12, c.Done() < c.Upstream)
	}
	if removed > 0 {
		return 0 // what is removed depends on the map index
	}
	return class
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
