package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Rebase moves a run from one version of its DAG to another. Instances of tasks
// that are gone become removed (their workers are told to stop); those of tasks
// that are back become none again; tasks that are new get instances, as far as
// their dates admit the run. Map indexes that the new version no longer makes
// are removed too; those it adds come with the next pass. The caller sets the
// version and hash in the header.
//
// Position in the run and everything that is known of an instance stay.
func Rebase(from, to *Graph, rs *RunState, now time.Time) ActionResult {
	a := newAction(to, rs, now)
	ids := make([]airflow.TaskID, len(from.Tasks), len(from.Tasks)+len(rs.Gone))
	for i := range from.Tasks {
		ids[i] = from.Tasks[i].ID
	}
	ids = append(ids, rs.Gone...)
	index := make([]int32, len(ids))
	rs.Gone = nil
	for i, id := range ids {
		if k, ok := to.byID[id]; ok {
			index[i] = k
			continue
		}
		if rs.tasks[i].total == 0 {
			index[i] = -1 // nothing refers to it
			continue
		}
		index[i] = int32(len(to.Tasks) + len(rs.Gone))
		rs.Gone = append(rs.Gone, id)
	}
	lengths := map[int32]int32{}
	for t, n := range rs.lengths {
		if int(t) < len(index) && index[t] >= 0 && int(index[t]) < len(to.Tasks) {
			lengths[index[t]] = n
		}
	}
	rs.lengths = lengths
	for _, c := range rs.Chunks {
		for i := range c.TIs {
			c.TIs[i].Task = index[c.TIs[i].Task]
		}
		c.Dirty = true
	}
	rs.HeaderDirty = true
	rs.reset(to)
	rs.run.log = &a.res.Transitions // reset has dropped it
	had := make([]bool, len(to.Tasks))
	for i := range to.Tasks {
		had[i] = rs.tasks[i].total > 0
	}
	for pos := int32(0); pos < rs.n; pos++ {
		a.rebaseTI(pos)
	}
	for i := range to.Tasks {
		if !had[i] && to.admits(int32(i), &rs.Header) {
			rs.createTask(to, int32(i))
		}
	}
	rs.MarkAllDirty()
	return a.done()
}

func (a *action) rebaseTI(pos int32) {
	t := a.rs.ti(pos)
	if int(t.Task) >= len(a.g.Tasks) {
		a.removeTI(pos, CodeTaskGone)
		return
	}
	if t.State == airflow.TIRemoved {
		a.rs.set(a.g, pos, airflow.TINone, CodeTaskBack)
	}
	if !a.g.Tasks[t.Task].needsExpansion() {
		return
	}
	if n, ok := a.g.parseTimeCount(t.Task); ok {
		// Literals alone decide: no unexpanded instance, none beyond the length.
		if t.MapIndex >= int32(n) || t.MapIndex < 0 && n > 0 {
			a.removeTI(pos, CodeShrunk)
		}
		return
	}
	n, ok := a.rs.mappedCount(a.g, t.Task)
	if ok && t.MapIndex >= int32(n) {
		a.removeTI(pos, CodeShrunk)
	}
}

func (a *action) removeTI(pos int32, why Code) {
	t := a.rs.ti(pos)
	if t.State.Active() {
		a.res.Effects = append(a.res.Effects, a.rs.cancel(a.g, pos))
	}
	a.rs.set(a.g, pos, airflow.TIRemoved, why)
}
