package engine

import (
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
)

// Listener is told what steps have changed, after they were committed: for
// metrics, traces, lineage. It is best effort: a process that dies between a commit
// and Changed tells nobody, and no later step does so in its place.
type Listener interface {
	// Changed is called once for a step that changed something, in the order of the
	// run's steps, by several goroutines for different runs. It holds the run up: it
	// must not block, nor call the engine. The change is the listener's to keep; what
	// DAG points to is not to be written.
	Changed(c Change)
}

// Change is what a committed step did.
type Change struct {
	// Run is the run after the step, without what its creator gave it: conf and note
	// may hold secrets.
	Run airflow.DagRun
	// From is the run's state before the step; equal to Run.State if that did not change.
	From airflow.DagRunState
	// Reason is why the run ended, "" if it did not.
	Reason string
	// FirstStart is, in the step that ends a run, when its first instance started; zero
	// if none did.
	FirstStart time.Time
	DAG        *airflow.DAG
	// At is the step's clock.
	At time.Time
	// Tasks are the transitions of task instances, in order.
	Tasks []TaskChange
}

// TaskChange is a transition of a task instance. Of one that is queued, claimed and
// reported between two steps, every state is told by the later step.
type TaskChange struct {
	airflow.TaskInstanceKey
	From, To airflow.TIState
	// TryNumber is 0 before the first try.
	TryNumber   int
	DispatchSeq uint32
	// Operator, Queue, Executor and Pool are those of its task; "" if the task has gone.
	Operator, Queue, Executor, Pool string
	// ScheduledWhen, QueuedWhen, StartDate and EndDate are what is known after the
	// step; zero where it did not happen. StartDate is the worker's claim, by its
	// clock. A later try, or a resumed dispatch, has those of its own.
	ScheduledWhen, QueuedWhen, StartDate, EndDate time.Time
	// Resumed says that a transition to running goes on with a task that was deferred.
	Resumed bool
	// Hop is, in the transition to running, the time from the end of the last of the
	// instances above to the worker's claim: what the control plane took. It is known
	// (HopKnown) of first dispatches whose upstreams were all finished, and that got
	// their slot in the step that made them ready: else it would be the time of a
	// queue for slots.
	Hop      time.Duration
	HopKnown bool
	// Error is, where a report made the instance end or be tried again, what its worker
	// said: a sentence with secrets masked.
	Error string
}

// listening is what a run keeps for its listener.
type listening struct {
	// started is the dispatch whose start was told, by position: a claim that is learnt
	// twice, because the state was read again meanwhile, is told once.
	started map[int]uint32
}

// tell hands a committed step to the listener.
func (e *Engine) tell(r *run, before airflow.DagRunState, o *outcome, now time.Time) {
	h := r.state.Header
	if e.listener == nil || len(o.transitions) == 0 && before == h.State {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("a listener panicked; the step is not affected", "run", r.key.String(), "panic", fmt.Sprint(p))
		}
	}()
	c := Change{Run: e.infoOf(r), From: before, DAG: r.graph.DAG, At: now}
	c.Run.Conf, c.Run.Note, c.Run.TriggeringUserName = nil, "", ""
	c.Run.State, c.Run.StartDate, c.Run.EndDate, c.Run.ClearNumber = h.State, timePtr(h.StartDate), timePtr(h.EndDate), h.ClearNumber
	if !h.QueuedAt.IsZero() {
		c.Run.QueuedAt = timePtr(h.QueuedAt)
	}
	if h.State.Finished() && before != h.State {
		c.Reason = string(h.Reason)
		for pos := range r.state.Len() {
			if t := r.state.At(pos).Start.Time(); !t.IsZero() && (c.FirstStart.IsZero() || t.Before(c.FirstStart)) {
				c.FirstStart = t
			}
		}
	}
	if r.told.started == nil {
		r.told.started = map[int]uint32{}
	}
	ends := map[int32]lastEnd{}
	for _, t := range o.transitions {
		tc, ok := r.told.change(r.graph, r.state, t, ends)
		if !ok {
			continue
		}
		tc.Error = o.errors[dispatchID(r.key, t.TaskID, t.MapIndex, tc.DispatchSeq)]
		c.Tasks = append(c.Tasks, tc)
	}
	if len(c.Tasks) > 0 || c.From != c.Run.State {
		e.listener.Changed(c)
	}
}

// change describes a transition; false if it was told before.
func (l *listening) change(g *scheduler.Graph, rs *scheduler.RunState, t scheduler.Transition, ends map[int32]lastEnd) (TaskChange, bool) {
	ti := rs.At(t.Pos)
	c := TaskChange{
		TaskInstanceKey: airflow.TaskInstanceKey{DagID: rs.Header.DagID, RunID: rs.Header.RunID, TaskID: t.TaskID, MapIndex: t.MapIndex},
		From:            t.From, To: t.To, TryNumber: t.TryNumber, DispatchSeq: t.DispatchSeq,
		ScheduledWhen: ti.Scheduled.Time(), QueuedWhen: ti.Queued.Time(), StartDate: ti.Start.Time(), EndDate: ti.End.Time(),
	}
	if int(ti.Task) < len(g.Tasks) {
		task := g.Tasks[ti.Task].Task
		c.Operator, c.Queue, c.Executor, c.Pool = task.TaskType, task.Queue, task.Executor, task.Pool
	}
	if t.To == airflow.TIRunning {
		if l.started[t.Pos] == t.DispatchSeq {
			return c, false
		}
		l.started[t.Pos] = t.DispatchSeq
		// What is resumed keeps the start of its try.
		c.Resumed = t.DispatchSeq > 1 && ti.Start < ti.Queued
		c.Hop, c.HopKnown = hop(g, rs, ti, ends)
	}
	return c, true
}

// lastEnd is when the last instance of a task ended.
type lastEnd struct {
	at   scheduler.Micros
	done bool // all of them are finished
}

// hop is the time from the end of what an instance waited for to its start.
func hop(g *scheduler.Graph, rs *scheduler.RunState, ti *scheduler.TI, ends map[int32]lastEnd) (time.Duration, bool) {
	if ti.DispatchSeq != 1 || ti.Scheduled != ti.Queued || ti.Start == 0 || int(ti.Task) >= len(g.Tasks) {
		return 0, false
	}
	n := &g.Tasks[ti.Task]
	// An instance in a mapped group waits for the one beside it, not for all.
	if len(n.Upstream) == 0 || len(n.MappedGroups) > 0 {
		return 0, false
	}
	var last scheduler.Micros
	for _, up := range n.Upstream {
		end, ok := ends[up]
		if !ok {
			end = endOf(rs, up)
			ends[up] = end
		}
		if !end.done {
			return 0, false
		}
		last = max(last, end.at)
	}
	if last == 0 || last > ti.Queued {
		return 0, false // cleared and run again since, or ended by another clock
	}
	return ti.Start.Time().Sub(last.Time()), true
}

func endOf(rs *scheduler.RunState, task int32) lastEnd {
	e := lastEnd{done: true}
	for pos := range rs.Len() {
		ti := rs.At(pos)
		if ti.Task != task {
			continue
		}
		if !ti.State.Finished() || ti.End == 0 {
			return lastEnd{}
		}
		e.at = max(e.at, ti.End)
	}
	return e
}

// PoolSlots counts the slots of a pool by the state of who has them or wants them.
type PoolSlots struct{ Queued, Running, Deferred, Scheduled int }

// add counts the slots of an instance, if its state is one of those counted.
func (p *PoolSlots) add(state airflow.TIState, slots int) bool {
	switch state {
	case airflow.TIQueued:
		p.Queued += slots
	case airflow.TIRunning:
		p.Running += slots
	case airflow.TIDeferred:
		p.Deferred += slots
	case airflow.TIScheduled:
		p.Scheduled += slots
	default:
		return false
	}
	return true
}

// Load is what the unfinished runs known to this process amount to.
type Load struct {
	RunningDagRuns int
	Pools          map[string]PoolSlots
}

// Load counts. It looks at every instance of the runs that have one queued, running,
// deferred or scheduled, and waits for the steps of those runs in progress.
func (e *Engine) Load() Load {
	e.mu.Lock()
	runs := make([]*run, 0, len(e.runs))
	for _, r := range e.runs {
		runs = append(runs, r)
	}
	e.mu.Unlock()
	l := Load{Pools: map[string]PoolSlots{}}
	for _, r := range runs {
		r.mu.Lock()
		if rs := r.state; rs != nil {
			if rs.Header.State == airflow.RunRunning {
				l.RunningDagRuns++
			}
			l.count(r.graph, rs)
		}
		r.mu.Unlock()
	}
	return l
}

func (l *Load) count(g *scheduler.Graph, rs *scheduler.RunState) {
	left := rs.Count(airflow.TIQueued) + rs.Count(airflow.TIRunning) + rs.Count(airflow.TIDeferred) + rs.Count(airflow.TIScheduled)
	for pos := 0; pos < rs.Len() && left > 0; pos++ {
		ti := rs.At(pos)
		switch ti.State {
		case airflow.TIQueued, airflow.TIRunning, airflow.TIDeferred, airflow.TIScheduled:
		default:
			continue
		}
		left--
		if int(ti.Task) >= len(g.Tasks) {
			continue
		}
		t := g.Tasks[ti.Task].Task
		p := l.Pools[t.Pool]
		p.add(ti.State, t.PoolSlots)
		l.Pools[t.Pool] = p
	}
}
