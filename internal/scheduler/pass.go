package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// pass is one pass while it runs.
type pass struct {
	g     *Graph
	rs    *RunState
	facts *Facts
	now   Micros

	log        []Transition
	effects    []Effect
	ready      []int32
	additional []int32 // instances of expansions, examined after all others
	revised    map[int32]bool
	removed    map[int32]bool // schedulable instances that a revision removed in this pass
	changed    bool           // an instance that may not run changed its state
	expanded   bool
	noted      bool

	examined    int
	cur         int32 // position being examined
	startCount  int32 // instances when the pass began
	leftOld     int32 // unfinished among those
	limitedOld  int32 // of them, of tasks that forbid the deadlock test
	deferredOld int32
}

// Pass is exactly one Airflow pass over a running run: schedulable instances in
// order of creation, judged against those finished when the pass began; then the
// state of the run; then scheduling. It examines dirty instances only, unless
// f.Full is set, with the same result.
func Pass(g *Graph, rs *RunState, f Facts, now time.Time) PassResult {
	if rs.Header.State != airflow.RunRunning {
		return PassResult{Run: rs.Header.State}
	}
	p := pass{g: g, rs: rs, facts: &f, now: At(now)}
	rs.wakeWaiting(At(now))
	return p.run()
}

func (p *pass) run() PassResult {
	rs := p.rs
	before := rs.run.log
	rs.run.log = &p.log
	rs.run.inPass = true
	p.startCount = rs.n
	p.leftOld = int32(rs.Unfinished())
	p.limitedOld = rs.run.limited
	p.deferredOld = rs.counts[airflow.TIDeferred]

	p.examineAll()
	res := p.runState()
	// Also when the run has just ended: an expansion may have decided the run
	// while some of its instances were still to run.
	p.schedule()
	p.flush()
	rs.run.log = before
	res.Transitions = p.log
	res.Effects = p.effects
	res.Examined = p.examined
	res.Changed = len(p.log) > 0 || p.noted || res.Run != airflow.RunRunning
	return res
}

// examineAll is _get_ready_tis: every schedulable instance, then those that
// expansion added.
func (p *pass) examineAll() {
	rs := p.rs
	if p.facts.Full {
		// Everything that is schedulable now, whatever happens to it meanwhile.
		var list []int32
		for pos := int32(0); pos < p.startCount; pos++ {
			if rs.ti(pos).State.Schedulable() {
				list = append(list, pos)
			}
		}
		for _, pos := range list {
			p.examine(pos)
		}
	} else {
		for pos := rs.run.dirty.next(0); pos >= 0 && pos < p.startCount; pos = rs.run.dirty.next(pos + 1) {
			st := rs.ti(pos).State
			if st.Schedulable() || p.removed[pos] {
				p.examine(pos)
			}
		}
	}
	for i := 0; i < len(p.additional); i++ {
		p.examine(p.additional[i])
	}
}

func (p *pass) examine(pos int32) {
	rs := p.rs
	p.cur = pos
	p.examined++
	t := rs.ti(pos)
	if int(t.Task) >= len(p.g.Tasks) {
		rs.clean(pos)
		return
	}
	old := t.State
	rs.clean(pos)
	v := p.check(pos)
	p.noted = p.noted || v.noted
	rs.setPassing(pos, v.met && !t.State.Finished())
	if t.State != old {
		p.changed = true
	}
	if v.noted {
		rs.setDirty(pos)
	}
	if !v.met || v.wait {
		return
	}
	n := &p.g.Tasks[t.Task]
	if n.needsExpansion() && t.MapIndex < 0 {
		p.expand(pos)
		return
	}
	if !t.State.Schedulable() {
		return
	}
	if n.needsExpansion() && !p.revised[t.Task] {
		if p.revised == nil {
			p.revised = map[int32]bool{}
		}
		p.revised[t.Task] = true
		p.revise(t.Task)
		t = rs.ti(pos)
	}
	if t.State.Schedulable() {
		p.ready = append(p.ready, pos)
	}
}

// expand turns the unexpanded instance of a mapped task whose dependencies are
// met into as many instances as its expansion asks for. If the length is not
// known by now the instance is upstream_failed; if it is 0 it is skipped.
func (p *pass) expand(pos int32) {
	rs := p.rs
	task := rs.ti(pos).Task
	p.expanded = true
	count, known := rs.mappedCount(p.g, task)
	ts := &rs.tasks[task]
	var fresh []int32
	state := airflow.TINone
	if t := rs.ti(pos); !t.State.Finished() {
		switch {
		case !known:
			rs.set(p.g, pos, airflow.TIUpstreamFailed, CodeNotExpandable)
			rs.ti(pos).End = p.now
		case count < 1:
			rs.set(p.g, pos, airflow.TISkipped, CodeEmptyExpansion)
			rs.ti(pos).End = p.now
		case ts.at(0) >= 0:
			rs.set(p.g, pos, airflow.TIRemoved, CodeShrunk)
		default:
			p.becomeFirst(pos)
			fresh = append(fresh, pos)
		}
		state = rs.ti(pos).State
	}
	if known && count >= 1 {
		from := max(len(ts.mapped), 1)
		for i := from; i < count; i++ {
			fresh = append(fresh, p.create(task, i, state))
		}
	}
	for i := count; i < len(rs.tasks[task].mapped); i++ {
		if at := rs.tasks[task].mapped[i]; at >= 0 {
			p.remove(at)
		}
	}
	p.additional = append(p.additional, fresh...)
}

// becomeFirst gives the unexpanded instance map index 0, in place.
func (p *pass) becomeFirst(pos int32) {
	rs := p.rs
	t := rs.ti(pos)
	ts := &rs.tasks[t.Task]
	ts.unexpanded = -1
	t.MapIndex = 0
	ts.place(0, pos)
	if t.Flags&FlagXCom != 0 {
		ts.xcoms++
	}
	rs.touch(pos)
	rs.logChange(p.g, pos, t.State, CodeExpanded).Expanded = true
	rs.markBelow(p.g, t.Task)
}

func (p *pass) create(task int32, mapIndex int, state airflow.TIState) int32 {
	rs := p.rs
	t := p.g.newTI(task, mapIndex)
	t.State = state
	pos := rs.add(p.g, t)
	rs.logChange(p.g, pos, state, CodeExpanded).Created = true
	return pos
}

// remove marks an instance beyond the length of its expansion.
func (p *pass) remove(pos int32) {
	t := p.rs.ti(pos)
	if t.State == airflow.TIRemoved {
		return
	}
	if t.State.Schedulable() {
		if pos < p.cur {
			p.changed = true
		} else {
			if p.removed == nil {
				p.removed = map[int32]bool{}
			}
			p.removed[pos] = true
		}
	}
	if t.State.Active() {
		p.effects = append(p.effects, p.rs.cancel(p.g, pos))
	}
	p.rs.set(p.g, pos, airflow.TIRemoved, CodeShrunk)
	if p.removed[pos] {
		p.rs.setDirty(pos) // Airflow still examines it in this pass
	}
}

// revise compares the instances of an expanded task with the length its
// expansion has now, for instance after its source ran again.
func (p *pass) revise(task int32) {
	rs := p.rs
	count, known := rs.mappedCount(p.g, task)
	ts := &rs.tasks[task]
	if !known || ts.unexpanded < 0 && int(ts.present) == count && len(ts.mapped) == count {
		return
	}
	if ts.unexpanded >= 0 {
		p.remove(ts.unexpanded)
	}
	for i := count; i < len(rs.tasks[task].mapped); i++ {
		if at := rs.tasks[task].mapped[i]; at >= 0 {
			p.remove(at)
		}
	}
	for i := 0; i < count; i++ {
		if rs.tasks[task].at(i) < 0 {
			p.ready = append(p.ready, p.create(task, i, airflow.TINone))
		}
	}
}

// runState is the second half of DagRun.update_state.
func (p *pass) runState() PassResult {
	res := PassResult{Run: airflow.RunRunning}
	left, limited := p.leftOld, p.limitedOld
	if p.expanded {
		p.changed = true
		left, limited = p.oldLeft()
	}
	deadlockTest := left > 0 && limited == 0 && p.deferredOld == 0
	runnable := len(p.ready) > 0 || p.changed
	if deadlockTest && !runnable {
		var changed bool
		if runnable, changed = p.premature(); changed {
			left, _ = p.oldLeft()
		}
	}
	switch {
	case left == 0:
		failed, good := p.leafStates()
		switch {
		case failed:
			p.finish(&res, airflow.RunFailed, CodeTaskFailure)
		case good:
			p.finish(&res, airflow.RunSuccess, CodeSuccess)
		}
	case deadlockTest && !runnable:
		p.finish(&res, airflow.RunFailed, CodeDeadlocked)
	}
	return res
}

// oldLeft counts again the instances that existed when the pass began and are
// still unfinished, and those of them that forbid the deadlock test.
func (p *pass) oldLeft() (left, limited int32) {
	left, limited = p.leftOld, p.limitedOld
	for _, pos := range p.rs.run.fresh {
		if pos < p.startCount {
			left--
			if p.g.Tasks[p.rs.ti(pos).Task].limited {
				limited--
			}
		}
	}
	return left, limited
}

// premature is the last look before a deadlock: would any unfinished instance
// run, retry delays and reschedule dates aside? Instances examined before the
// first that would may change their states.
func (p *pass) premature() (runnable, changed bool) {
	rs := p.rs
	logged := len(p.log)
	look := func(pos int32) bool {
		p.examined++
		rs.clean(pos)
		v := p.check(pos)
		p.noted = p.noted || v.noted
		if v.noted {
			rs.setDirty(pos)
		}
		rs.setPassing(pos, v.met && !rs.ti(pos).State.Finished())
		return v.met
	}
	if p.facts.Full {
		for pos := int32(0); pos < p.startCount; pos++ {
			t := rs.ti(pos)
			if int(t.Task) < len(p.g.Tasks) && (!t.State.Finished() || t.Flags&flagFresh != 0) && look(pos) {
				return true, len(p.log) > logged
			}
		}
		return false, len(p.log) > logged
	}
	// Airflow's list is that of the beginning of the pass: it still holds what was
	// removed meanwhile.
	gone := sortUnique(append([]int32(nil), rs.run.fresh...))
	for from := int32(0); ; {
		d, ok := rs.run.dirty.next(from), rs.run.passing.next(from)
		if len(gone) > 0 && (d < 0 || gone[0] <= d) {
			d, gone = gone[0], gone[1:]
		}
		if d < 0 && ok < 0 || d >= p.startCount && (ok < 0 || ok >= p.startCount) {
			return false, len(p.log) > logged
		}
		if d < 0 || ok >= 0 && ok < d {
			return true, len(p.log) > logged
		}
		t := rs.ti(d)
		if t.State.Finished() && t.Flags&flagFresh == 0 {
			rs.clean(d)
		} else if look(d) {
			return true, len(p.log) > logged
		}
		from = d + 1
	}
}

// leafStates looks at the leaves: failed if any of their instances is failed or
// upstream_failed, good if all are success or skipped; removed ones do not count.
func (p *pass) leafStates() (failed, good bool) {
	good = true
	for _, l := range p.g.leaves {
		c := &p.rs.tasks[l].live
		if c[airflow.TIFailed]+c[airflow.TIUpstreamFailed] > 0 {
			failed = true
		}
		if c.unfinished() > 0 {
			good = false
		}
	}
	return failed, good && !failed
}

func (p *pass) finish(res *PassResult, s airflow.DagRunState, why Code) {
	res.Run = s
	res.Reason = why
	p.rs.endRun(s, why, p.now)
	p.effects = append(p.effects, p.g.endEffects(s, why)...)
}

// endRun closes a run.
func (rs *RunState) endRun(s airflow.DagRunState, why Code, now Micros) {
	rs.Header.State, rs.Header.Reason = s, why
	rs.Header.EndDate = now.Time()
	if s == airflow.RunSuccess {
		rs.Header.Deadlines = nil // a deadline is only dropped by success
	}
	rs.HeaderDirty = true
}

// endEffects are what is to be done when a run ends.
func (g *Graph) endEffects(s airflow.DagRunState, why Code) []Effect {
	if s == airflow.RunSuccess && g.DAG.HasOnSuccessCallback || s == airflow.RunFailed && g.DAG.HasOnFailureCallback {
		return []Effect{DagCallback{Success: s == airflow.RunSuccess, Reason: string(why)}}
	}
	return nil
}

// schedule is schedule_tis: what is ready becomes scheduled and enters its next
// try; an EmptyOperator without callbacks and assets succeeds at once.
func (p *pass) schedule() {
	rs := p.rs
	for _, pos := range p.ready {
		t := rs.ti(pos)
		if !t.State.Schedulable() {
			continue
		}
		if p.facts.Paused {
			rs.setDirty(pos) // so that the first pass after the pause examines it
			continue
		}
		n := &p.g.Tasks[t.Task]
		if t.State != airflow.TIUpForReschedule {
			t.TryNumber++
			t.Requeues = 0
		}
		t.WakeAt = 0
		switch {
		case n.shortcut:
			t.Scheduled, t.Start, t.End = 0, p.now, p.now
			rs.set(p.g, pos, airflow.TISuccess, CodeNoWorkNeeded)
		case n.Task.StartFromTrigger && t.State != airflow.TIUpForReschedule:
			t.Start, t.Queued = p.now, 0
			t.Flags |= FlagResume
			t.DispatchSeq++
			rs.set(p.g, pos, airflow.TIDeferred, CodeStartFromTrigger)
			p.effects = append(p.effects, StartTrigger{Pos: int(pos), Key: rs.Key(p.g, int(pos))})
		default:
			t.Scheduled = p.now
			rs.set(p.g, pos, airflow.TIScheduled, CodeDepsMet)
		}
	}
}

// flush ends the pass: what became finished becomes visible.
func (p *pass) flush() {
	rs := p.rs
	rs.run.inPass = false
	for _, pos := range rs.run.fresh {
		t := rs.ti(pos)
		t.Flags &^= flagFresh
		if t.State.Finished() {
			rs.tasks[t.Task].snap[t.State]++
		}
	}
	for _, pos := range rs.run.fresh {
		rs.markDependents(p.g, pos)
	}
	rs.run.fresh = rs.run.fresh[:0]
}

// cancel takes an instance away from its worker, which must be told.
func (rs *RunState) cancel(g *Graph, pos int32) Effect {
	rs.ti(pos).Flags |= FlagCancel
	rs.touch(pos)
	return CancelDispatch{Pos: int(pos), Key: rs.Key(g, int(pos)), DispatchSeq: rs.ti(pos).DispatchSeq}
}
