package scheduler

import (
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Facts are what a decision about one run depends on outside that run.
type Facts struct {
	// Paused says that the DAG is paused: what runs goes on, nothing new is scheduled.
	Paused bool
	// Previous is the run before this one; nil when there is none or FactsNeeded does not ask for it.
	Previous *PreviousRun
	// IgnoreFirstDependsOnPast is [scheduler] ignore_first_depends_on_past_by_default,
	// for tasks that leave it open. Airflow's default is true.
	IgnoreFirstDependsOnPast bool
	// MaxRequeues is [scheduler] num_stuck_in_queued_retries: 0 = 2, negative = none.
	MaxRequeues int
	// Held are positions of queued instances that an executor is known to have
	// waiting for a place: they are not stuck, and wait on until HeldUntil.
	Held      []int     `json:",omitempty"`
	HeldUntil time.Time `json:",omitzero"`
	// Full makes Decide examine every instance instead of the dirty ones: the
	// repair path, and the yardstick of the property tests.
	Full bool
}

// PreviousRun holds the facts of the previous run that FactsNeeded asks for.
type PreviousRun struct {
	LogicalDate time.Time
	// Tasks are the tasks asked for that have instances in the previous run.
	Tasks map[airflow.TaskID]PreviousTask
	// Earlier are the tasks asked for that have an instance in any run with an
	// earlier logical date than this run. It is read only for tasks absent from Tasks.
	Earlier map[airflow.TaskID]bool
}

// PreviousTask says how the instances of a task in the previous run stand.
type PreviousTask struct {
	// Unsuccessful is the number of its instances (all map indexes) that are
	// neither success nor skipped.
	Unsuccessful int
}

// FactsWanted says which facts of the previous run a decision needs.
type FactsWanted struct {
	// Needed is false when no unfinished instance depends on the past; the rest is then empty.
	Needed bool
	// ScheduledOnly: the previous run is the latest with a smaller logical date
	// that is not a manual one; otherwise the latest of any type.
	ScheduledOnly bool
	// Tasks to report in PreviousRun.Tasks, in order of definition.
	Tasks []airflow.TaskID
}

// Transition is one change of one instance.
type Transition struct {
	Pos         int             `json:"pos"` // position in the run
	TaskID      airflow.TaskID  `json:"task_id"`
	MapIndex    int             `json:"map_index"` // after the change
	From        airflow.TIState `json:"from"`
	To          airflow.TIState `json:"to"`
	Created     bool            `json:"created,omitempty"`    // the instance came into being
	Expanded    bool            `json:"expanded,omitempty"`   // the unexpanded instance became MapIndex 0
	TryNumber   int             `json:"try_number,omitempty"` // after the change
	DispatchSeq uint32          `json:"dispatch_seq,omitempty"`
	Why         Code            `json:"why,omitempty"`
}

// PassResult is what one pass changed.
type PassResult struct {
	Transitions []Transition
	// Run is the new state of the run, or its old one.
	Run     airflow.DagRunState
	Reason  Code // why the run ended, "" if it did not
	Changed bool // something changed: another pass may change more
	// Examined is how many instances the pass looked at.
	Examined int
	Effects  []Effect
}

// Decision is the outcome of passes to the fixed point.
type Decision struct {
	Transitions []Transition // of all passes, in order
	RunBefore   airflow.DagRunState
	Run         airflow.DagRunState
	RunReason   Code // why the run ended, "" if it did not
	Effects     []Effect
	// Wake is the earliest time at which time alone changes the answer; zero = never.
	Wake   time.Time
	Passes int
	// Examined is how many instances the passes looked at: the cost of the decision.
	Examined int
}

// Effect is something to do after the commit. Outstanding derives DagCallback,
// StartTrigger and CancelDispatch again from stored state, so that a lost one is
// sent again; DeadlineMissed and TaskCallback the caller keeps with its commit
// until they are sent. Doing an effect twice is harmless if the caller passes on
// what identifies it: the run, the instance and its dispatch.
type Effect interface{ effect() }

// DagCallback asks for a DAG's on_success_callback or on_failure_callback.
type DagCallback struct {
	Success bool
	// Reason is Airflow's: success, task_failure, all_tasks_deadlocked, timed_out.
	Reason string
}

// DeadlineMissed asks for the callback of a deadline alert.
type DeadlineMissed struct{ Deadline Deadline }

// StartTrigger asks for the trigger of a task that starts in the triggerer (start_from_trigger).
type StartTrigger struct {
	Pos int
	Key airflow.TaskInstanceKey
}

// CancelDispatch tells that the worker of a dispatch should stop: it learns so
// at its next heartbeat, executors that can kill may do it at once.
type CancelDispatch struct {
	Pos         int
	Key         airflow.TaskInstanceKey
	DispatchSeq uint32
}

// TaskCallback asks for a task callback that no worker can run, because the
// worker is lost.
type TaskCallback struct {
	Pos   int
	Key   airflow.TaskInstanceKey
	Retry bool // on_retry_callback instead of on_failure_callback
}

func (DagCallback) effect()    {}
func (DeadlineMissed) effect() {}
func (StartTrigger) effect()   {}
func (CancelDispatch) effect() {}
func (TaskCallback) effect()   {}

// maxPasses bounds the passes of one Decide far above what any DAG needs: each
// pass but the last changes something, and an instance changes at most a few
// times between two reports. It turns an oversight into a visible stop.
const maxPasses = 1 << 20

// Decide fires what is due at now (timeouts of the run, of triggers, of queued
// instances), then repeats Pass until nothing changes.
func Decide(g *Graph, rs *RunState, f Facts, now time.Time) Decision {
	d := Decision{RunBefore: rs.Header.State, Run: rs.Header.State}
	before := rs.run.log
	rs.run.log = &d.Transitions
	defer func() { rs.run.log = before }()
	at := At(now)
	d.Effects = append(d.Effects, rs.missedDeadlines(at)...)
	if rs.Header.State != airflow.RunRunning {
		d.Wake = rs.deadlineWake()
		return d
	}
	if end := rs.timeout(g); end != 0 && end <= at {
		rs.timeOutRun(g, &d, at)
		return d
	}
	d.Effects = append(d.Effects, rs.fireTimers(g, f, at)...)
	if rs.inFuture(at) {
		d.Wake = earliest(rs.Header.LogicalDate.UTC(), rs.deadlineWake())
		return d
	}
	if f.Full {
		rs.MarkAllDirty()
	} else if g.hasPast {
		rs.markPast(g)
	}
	for d.Passes < maxPasses {
		r := Pass(g, rs, f, now)
		d.Passes++
		d.Examined += r.Examined
		d.Transitions = append(d.Transitions, r.Transitions...)
		d.Effects = append(d.Effects, r.Effects...)
		d.Run, d.RunReason = r.Run, r.Reason
		if !r.Changed || r.Run.Finished() {
			break
		}
	}
	d.Wake = rs.wake(g)
	return d
}

// wake is the earliest time at which time alone changes the answer.
func (rs *RunState) wake(g *Graph) time.Time {
	w := rs.deadlineWake()
	if rs.Header.State != airflow.RunRunning {
		return w
	}
	if next, ok := rs.nextWake(); ok {
		w = earliest(w, next.at.Time())
	}
	return earliest(w, rs.timeout(g).Time())
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// timeout is the first instant at which the run has timed out, 0 = never.
func (rs *RunState) timeout(g *Graph) Micros {
	if g.DAG.DagrunTimeout <= 0 || rs.Header.StartDate.IsZero() {
		return 0
	}
	return At(rs.Header.StartDate.Add(g.DAG.DagrunTimeout)) + 1
}

func (rs *RunState) inFuture(now Micros) bool {
	return rs.Header.LogicalDate != nil && At(*rs.Header.LogicalDate) > now
}

// timeOutRun fails the run; whatever is unfinished is skipped, running instances too.
func (rs *RunState) timeOutRun(g *Graph, d *Decision, now Micros) {
	for pos := int32(0); pos < rs.n; pos++ {
		t := rs.ti(pos)
		if t.State.Finished() {
			continue
		}
		if t.State.Active() {
			d.Effects = append(d.Effects, rs.cancel(g, pos))
		}
		t.End = now
		rs.set(g, pos, airflow.TISkipped, CodeTimedOut)
	}
	rs.endRun(airflow.RunFailed, CodeTimedOut, now)
	d.Run, d.RunReason = airflow.RunFailed, CodeTimedOut
	d.Effects = append(d.Effects, g.endEffects(airflow.RunFailed, CodeTimedOut)...)
	d.Wake = rs.deadlineWake()
}

// fireTimers fires what is due on instances that no pass looks at: timeouts of
// triggers and of the wait for a worker.
func (rs *RunState) fireTimers(g *Graph, f Facts, now Micros) (out []Effect) {
	var keep []wake
	for {
		w, ok := rs.nextWake()
		if !ok || w.at > now {
			break
		}
		rs.run.wakes.pop()
		t := rs.ti(w.pos)
		switch t.State {
		case airflow.TIDeferred:
			// The task is resumed by a method that fails; the try goes on.
			t.WakeAt = 0
			t.Flags |= FlagResume | FlagTimedOut
			t.Scheduled = now
			rs.set(g, w.pos, airflow.TIScheduled, CodeTriggerTimeout)
		case airflow.TIQueued:
			if slices.Contains(f.Held, int(w.pos)) && At(f.HeldUntil) > now {
				rs.setWake(w.pos, At(f.HeldUntil))
				continue
			}
			out = append(out, rs.cancel(g, w.pos))
			rs.notAccepted(g, w.pos, f.MaxRequeues, now)
		default:
			keep = append(keep, w)
		}
	}
	for _, w := range keep {
		rs.run.wakes.push(w.at, w.pos)
	}
	return out
}

// wakeWaiting makes the next pass examine the instances whose wait is over.
func (rs *RunState) wakeWaiting(now Micros) {
	var keep []wake
	for {
		w, ok := rs.nextWake()
		if !ok || w.at > now {
			break
		}
		rs.run.wakes.pop()
		if rs.ti(w.pos).State.Schedulable() {
			rs.setDirty(w.pos)
			continue
		}
		keep = append(keep, w)
	}
	for _, w := range keep {
		rs.run.wakes.push(w.at, w.pos)
	}
}

// markPast marks what depends on the previous run, whose states the caller may
// have read anew.
func (rs *RunState) markPast(g *Graph) {
	for i := range g.Tasks {
		if g.Tasks[i].Task.DependsOnPast {
			rs.markTask(int32(i))
		}
	}
}

// Outstanding derives from stored state the effects that may not have been sent
// when a caller died between its commit and sending: the callback of a run that
// has ended, triggers of tasks that start in the triggerer, workers to stop.
// Dispatches are the queued instances themselves.
func Outstanding(g *Graph, rs *RunState) (out []Effect) {
	switch rs.Header.Reason {
	case CodeSuccess, CodeTaskFailure, CodeDeadlocked, CodeTimedOut:
		out = append(out, g.endEffects(rs.Header.State, rs.Header.Reason)...)
	}
	for pos := int32(0); pos < rs.n; pos++ {
		t := rs.ti(pos)
		switch {
		case t.Flags&FlagCancel != 0:
			out = append(out, CancelDispatch{Pos: int(pos), Key: rs.Key(g, int(pos)), DispatchSeq: t.DispatchSeq})
		case t.State == airflow.TIDeferred && t.Queued == 0:
			out = append(out, StartTrigger{Pos: int(pos), Key: rs.Key(g, int(pos))})
		}
	}
	return out
}
