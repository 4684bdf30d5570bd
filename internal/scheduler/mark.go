package scheduler

import (
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// MarkOptions are Airflow's options of marking task instances.
type MarkOptions struct {
	Selection
	State airflow.TIState // success, failed or skipped
}

// MarkTask sets the state of task instances by hand. Afterwards failed and
// upstream_failed instances below the chosen tasks are cleared, so that the run
// can go on; a finished run is queued again only if there were some. past and
// future are the caller's: it calls MarkTask on several runs.
func MarkTask(g *Graph, rs *RunState, o MarkOptions, now time.Time) (ActionResult, error) {
	switch o.State {
	case airflow.TISuccess, airflow.TIFailed, airflow.TISkipped:
	default:
		return ActionResult{}, airflow.Invalid("new_state", "a task instance cannot be marked %s: expected success, failed or skipped", o.State)
	}
	if len(o.Tasks) == 0 {
		return ActionResult{}, airflow.Invalid("task_id", "no task is named: expected at least one task id")
	}
	tasks, err := g.resolve(o.Tasks)
	if err != nil {
		return ActionResult{}, err
	}
	s := g.newSelected(rs)
	named := g.newSelected(rs) // not to be cleared afterwards
	below := newBits(len(g.Tasks))
	for k, t := range o.Tasks {
		task := tasks[k]
		below.set(task)
		if t.MapIndexes == nil {
			s.whole.set(task)
			named.whole.set(task)
		}
		for _, i := range t.MapIndexes {
			s.addIndex(task, i)
			named.addIndex(task, i)
		}
		// Relatives that are teardowns are left alone: they still have to run.
		relative := func(r int32) {
			if !g.Tasks[r].Task.IsTeardown {
				s.whole.set(r)
			}
		}
		if o.Upstream {
			g.up[task].each(relative)
		}
		if o.Downstream {
			g.down[task].each(relative)
		}
	}
	a := newAction(g, rs, now)
	for _, pos := range s.positions() {
		a.res.Affected = append(a.res.Affected, int(pos))
		a.mark(pos, o.State)
	}
	resume := g.newSelected(rs)
	g.subset(below, false, true, resume.whole)
	var chosen []int32
	for _, pos := range resume.positions() {
		t := rs.ti(pos)
		if t.State.FailedSet() && !named.whole.has(t.Task) && !named.some[t.Task][int(t.MapIndex)] {
			chosen = append(chosen, pos)
		}
	}
	a.clear(chosen, true)
	return a.done(), nil
}

// mark sets a state as a person does.
func (a *action) mark(pos int32, to airflow.TIState) {
	t := a.rs.ti(pos)
	if t.State == to {
		return
	}
	if t.State.Active() {
		a.res.Effects = append(a.res.Effects, a.rs.cancel(a.g, pos))
	}
	if t.Start == 0 {
		t.Start = a.now
	}
	if t.End == 0 || !t.State.Finished() {
		t.End = a.now
	}
	delete(a.rs.rescheduleStart, pos)
	a.rs.set(a.g, pos, to, CodeMarked)
}

// MarkRun sets the state of a run by hand: success, failed or queued.
//
// Queued changes the run's state only. Otherwise tasks that have an instance at
// work (running, deferred, up_for_reschedule) get that state, all their instances
// alike as in Airflow; what else is unfinished is skipped; teardowns go on. While
// a teardown is unfinished the run's state is not changed, and the run may then
// end the other way.
func MarkRun(g *Graph, rs *RunState, to airflow.DagRunState, now time.Time) (ActionResult, error) {
	a := newAction(g, rs, now)
	var state airflow.TIState
	switch to {
	case airflow.RunQueued:
		if rs.Header.State != airflow.RunQueued {
			rs.requeue(a.now)
		}
		return a.done(), nil
	case airflow.RunSuccess:
		state = airflow.TISuccess
	case airflow.RunFailed:
		state = airflow.TIFailed
	default:
		a.done()
		return ActionResult{}, airflow.Invalid("state", "a run cannot be marked %s: expected queued, success or failed", to)
	}
	working := newBits(len(g.Tasks))
	teardown := false
	var pending []int32
	for pos := int32(0); pos < rs.n; pos++ {
		t := rs.ti(pos)
		switch {
		case t.State.Finished() || int(t.Task) >= len(g.Tasks):
		case g.Tasks[t.Task].Task.IsTeardown:
			teardown = true
		case t.State == airflow.TIRunning || t.State == airflow.TIDeferred || t.State == airflow.TIUpForReschedule:
			working.set(t.Task)
		default:
			pending = append(pending, pos)
		}
	}
	for _, pos := range pending {
		if !working.has(rs.ti(pos).Task) {
			a.mark(pos, airflow.TISkipped)
		}
	}
	s := g.newSelected(rs)
	s.whole = working
	for _, pos := range s.positions() {
		a.mark(pos, state)
	}
	if !teardown {
		rs.endRun(to, CodeMarked, a.now)
	}
	return a.done(), nil
}

// CheckSelection reports why a selection cannot be applied to a DAG version.
func CheckSelection(g *Graph, s Selection) error {
	_, err := g.resolve(s.Tasks)
	if err != nil {
		return fmt.Errorf("selection: %w", err)
	}
	return nil
}
