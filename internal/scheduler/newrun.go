package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// NewRun makes the states of a run that starts: one instance per task in order of
// definition; as many as its expansion asks for where literals alone decide that
// (an empty one: one unexpanded instance). Tasks whose own start_date or end_date
// excludes the logical date get none, except in backfills.
func NewRun(g *Graph, h Header) *RunState {
	rs := &RunState{Header: h, HeaderDirty: true}
	rs.reset(g)
	for i := range g.Tasks {
		if g.admits(int32(i), &h) {
			rs.createTask(g, int32(i))
		}
	}
	return rs
}

// admits applies a task's start_date and end_date to the run.
func (g *Graph) admits(task int32, h *Header) bool {
	t := g.Tasks[task].Task
	if h.LogicalDate == nil || h.RunType == airflow.RunTypeBackfill || h.BackfillOrdinal > 0 {
		return true
	}
	return (t.StartDate == nil || !h.LogicalDate.Before(*t.StartDate)) &&
		(t.EndDate == nil || !h.LogicalDate.After(*t.EndDate))
}

func (rs *RunState) createTask(g *Graph, task int32) {
	count, ok := g.parseTimeCount(task)
	if !ok || count == 0 {
		pos := rs.add(g, g.newTI(task, airflow.Unmapped))
		rs.logChange(g, pos, airflow.TINone, CodeTaskAdded).Created = true
		return
	}
	for k := range count {
		pos := rs.add(g, g.newTI(task, k))
		rs.logChange(g, pos, airflow.TINone, CodeTaskAdded).Created = true
	}
}

// StartRun moves a queued run to running.
func StartRun(rs *RunState, now time.Time) {
	if rs.Header.State != airflow.RunQueued {
		return
	}
	rs.Header.State = airflow.RunRunning
	rs.Header.StartDate = now
	rs.Header.EndDate = time.Time{}
	rs.HeaderDirty = true
}

// FactsNeeded says which facts of the previous run the next Decide needs: of the
// tasks with depends_on_past that have an unfinished instance, and of what is
// directly below those with wait_for_downstream.
func FactsNeeded(g *Graph, rs *RunState) FactsWanted {
	w := FactsWanted{ScheduledOnly: g.DAG.Catchup}
	if !g.hasPast || rs.Header.LogicalDate == nil || rs.Header.BackfillOrdinal == 1 || rs.Header.State != airflow.RunRunning {
		return w
	}
	ask := newBits(len(g.Tasks))
	for i := range g.Tasks {
		n := &g.Tasks[i]
		if !n.Task.DependsOnPast || rs.tasks[i].unfinished() == 0 {
			continue
		}
		w.Needed = true
		ask.set(int32(i))
		if n.Task.WaitForDownstream {
			for _, d := range n.Downstream {
				ask.set(d)
			}
		}
	}
	ask.each(func(i int32) { w.Tasks = append(w.Tasks, g.Tasks[i].ID) })
	return w
}

// PreviousStates says how the instances of a task stand in a run that is another
// run's previous one; any is false if it has none there.
func PreviousStates(g *Graph, rs *RunState, task airflow.TaskID) (p PreviousTask, any bool) {
	i, ok := g.byID[task]
	if !ok {
		return p, false
	}
	ts := &rs.tasks[i]
	p.Unsuccessful = int(ts.total - ts.live[airflow.TISuccess] - ts.live[airflow.TISkipped])
	return p, ts.total > 0
}
