package scheduler

import (
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// ReportKind says what happened to a dispatch.
type ReportKind uint8

// The kinds of Report. The first group comes from the worker that holds the
// dispatch, the second from whoever supervises it.
const (
	ReportRunning        ReportKind = iota + 1 // claimed: queued -> running
	ReportSuccess                              // see XCom and Choice
	ReportFailed                               // an ordinary exception: retried if tries are left
	ReportFailedHard                           // AirflowFailException, sensor timeout: never retried
	ReportSkipped                              // AirflowSkipException
	ReportReschedule                           // until Until: the sensor wants to be started again
	ReportDeferred                             // the task waits for a trigger; Until = its timeout or zero
	ReportResume                               // the trigger fired: deferred -> scheduled
	ReportTriggerSuccess                       // the trigger fired and ends the instance without a worker: deferred -> success
	ReportLost                                 // no heartbeat: an ordinary failure, callbacks not run by a worker
	ReportKilled                               // stopped from outside (state mismatch, crash): as ReportLost
	ReportStopped                              // a worker that was told to stop has stopped
	ReportNotAccepted                          // queued for too long or refused by the executor: send again or fail
)

// Report is what is said about one dispatch of one instance.
type Report struct {
	Kind ReportKind
	Task airflow.TaskID
	// MapIndex is airflow.Unmapped for unmapped instances.
	MapIndex int
	// DispatchSeq is the dispatch that speaks. A report of any other than the
	// current one is refused as superseded.
	DispatchSeq uint32
	// Started and Ended, where the worker knows them better than the caller's now.
	Started, Ended time.Time
	Until          time.Time
	XCom           XComInfo
	Choice         *SkipChoice
	// TryAgain forbids (-1) or forces (+1) a retry on ReportFailed: the verdict of a
	// retry policy that only the worker can evaluate; 0 leaves it to retries.
	TryAgain int8
	// RetryDelay replaces retry_delay and backoff where positive (retry policy).
	RetryDelay time.Duration
}

// XComInfo describes the return_value that came with a success.
type XComInfo struct {
	// Pushed says that a non-null return_value was stored.
	Pushed bool
	// Length is the number of elements of a list, tuple or dict; -1 for values one cannot expand over.
	Length int
}

// SkipChoice is what a branching task chose; it takes effect with ReportSuccess.
type SkipChoice struct {
	Kind ChoiceKind
	// Follow are the chosen tasks or task groups (ChoiceBranch).
	Follow []string
	// DirectOnly limits a short circuit to direct downstream tasks
	// (ignore_downstream_trigger_rules=False).
	DirectOnly bool
}

// ChoiceKind is the kind of a SkipChoice.
type ChoiceKind uint8

// The kinds of SkipChoice.
const (
	// ChoiceBranch skips every direct downstream that is neither chosen nor below a chosen one.
	ChoiceBranch ChoiceKind = iota + 1
	// ChoiceShortCircuit skips everything below except teardowns. A truthy value
	// sends no choice.
	ChoiceShortCircuit
	// ChoiceSkipDirect skips every direct downstream (LatestOnlyOperator, rejected approvals).
	ChoiceSkipDirect
)

// ReportLimits are the settings that a report's outcome depends on.
type ReportLimits struct {
	MaxMapLength int // [core] max_map_length; 0 = 1024
	MaxRequeues  int // [scheduler] num_stuck_in_queued_retries; negative = none, 0 = 2
	// MaxRetryDelay is [core] max_task_retry_delay; 0 = 24 h, negative = no delay.
	MaxRetryDelay time.Duration `json:",omitempty"`
}

// ReportResult is what a report did.
type ReportResult struct {
	// Refused is "" if the report was taken; otherwise nothing was changed, except
	// that a queued instance of a finished run becomes none (see Transitions).
	Refused     Refusal
	State       airflow.TIState // of the instance afterwards
	Message     string          // why a success became a failure, or what was refused
	Transitions []Transition
	Effects     []Effect
}

// Refusal says why a report was not taken.
type Refusal string

// The refusals of a report.
const (
	RefusedUnknown    Refusal = "unknown_task_instance"
	RefusedSuperseded Refusal = "superseded"  // another dispatch is the current one
	RefusedDuplicate  Refusal = "duplicate"   // this dispatch has already reported that
	RefusedState      Refusal = "wrong_state" // the instance was taken away meanwhile (cleared, marked, failed)
	RefusedInvalid    Refusal = "invalid"     // the report lacks something
)

// Apply takes in what a worker or its supervisor says about one dispatch.
//
// A report counts only if it names the current dispatch of the instance. A
// terminal report of a dispatch that never claimed claims first. What a worker
// says of an instance that was taken away from it (failed by fail_fast, cleared,
// marked) is refused; of a restarting one any end means that it may now be tried
// again.
func Apply(g *Graph, rs *RunState, r Report, lim ReportLimits, now time.Time) (res ReportResult) {
	pos := int32(rs.Find(g, r.Task, r.MapIndex))
	if pos < 0 {
		return refuse(RefusedUnknown, "no instance %s in run %s", airflow.TIName(r.Task, r.MapIndex), rs.Header.RunID)
	}
	t := rs.ti(pos)
	res.State = t.State
	if int(t.Task) >= len(g.Tasks) {
		return refuse(RefusedState, "task %s is not in the DAG any more", r.Task)
	}
	if r.DispatchSeq != t.DispatchSeq {
		return refuse(RefusedSuperseded, "dispatch %d speaks, the current one is %d", r.DispatchSeq, t.DispatchSeq)
	}
	a := applier{g: g, rs: rs, pos: pos, r: &r, lim: lim, now: At(now)}
	before := rs.run.log
	rs.run.log = &res.Transitions
	defer func() { rs.run.log = before }()
	no := a.apply()
	res.State = rs.ti(pos).State
	if no.Refused != "" {
		res.Refused, res.Message = no.Refused, no.Message
		return res
	}
	res.Message = a.message
	res.Effects = a.effects
	return res
}

func refuse(why Refusal, format string, args ...any) ReportResult {
	return ReportResult{Refused: why, Message: fmt.Sprintf(format, args...)}
}

// applier is one Apply while it runs.
type applier struct {
	g       *Graph
	rs      *RunState
	pos     int32
	r       *Report
	lim     ReportLimits
	now     Micros
	message string
	effects []Effect
}

func (a *applier) ti() *TI { return a.rs.ti(a.pos) }

func (a *applier) apply() ReportResult {
	t := a.ti()
	switch a.r.Kind {
	case ReportResume:
		if t.State != airflow.TIDeferred {
			return refuse(RefusedState, "a trigger fired for an instance that is %s, not deferred", t.State)
		}
		t.Flags |= FlagResume
		t.Scheduled = a.now
		a.rs.set(a.g, a.pos, airflow.TIScheduled, CodeReported)
		return ReportResult{}
	case ReportTriggerSuccess:
		if t.State != airflow.TIDeferred {
			return refuse(RefusedState, "a trigger fired for an instance that is %s, not deferred", t.State)
		}
		t.Flags &^= FlagResume | FlagTimedOut
		t.End = a.end()
		a.rs.set(a.g, a.pos, airflow.TISuccess, CodeReported)
		return ReportResult{}
	case ReportNotAccepted:
		if t.State != airflow.TIQueued {
			return refuse(RefusedState, "a dispatch was not accepted, but its instance is %s, not queued", t.State)
		}
		a.rs.notAccepted(a.g, a.pos, a.lim.MaxRequeues, a.now)
		return ReportResult{}
	case ReportRunning:
		switch t.State {
		case airflow.TIQueued:
			return a.claim()
		case airflow.TIRunning:
			return refuse(RefusedDuplicate, "dispatch %d has been claimed already", t.DispatchSeq)
		}
		return refuse(RefusedState, "only a queued instance can be claimed, this one is %s", t.State)
	}
	if a.r.Kind == ReportStopped && t.Flags&FlagCancel != 0 && t.State != airflow.TIRestarting {
		t.Flags &^= FlagCancel // taken away, and now its worker knows
		a.rs.touch(a.pos)
		return ReportResult{}
	}
	switch t.State {
	case airflow.TIQueued:
		if r := a.claim(); r.Refused != "" {
			return r
		}
	case airflow.TIRunning:
	case airflow.TIRestarting:
		// Its worker has stopped, whatever it says: it is tried again, with or
		// without tries left.
		return a.retry(a.end())
	case airflow.TISuccess, airflow.TIFailed, airflow.TISkipped, airflow.TIUpForRetry, airflow.TIUpForReschedule, airflow.TIDeferred:
		if t.Flags&FlagCancel == 0 {
			return refuse(RefusedDuplicate, "dispatch %d has reported already: the instance is %s", t.DispatchSeq, t.State)
		}
		return refuse(RefusedState, "the instance was taken away from its worker: it is %s", t.State)
	default:
		return refuse(RefusedState, "the instance was taken away from its worker: it is %s", t.State)
	}
	return a.outcome()
}

// claim begins the dispatch. The results of an earlier try are dropped, unless a
// deferred task is resumed.
func (a *applier) claim() ReportResult {
	rs, t := a.rs, a.ti()
	if rs.Header.State.Finished() {
		rs.set(a.g, a.pos, airflow.TINone, CodeRunFinished)
		return refuse(RefusedState, "the run is finished: %s", rs.Header.State)
	}
	start := a.now
	if !a.r.Started.IsZero() {
		start = At(a.r.Started)
	}
	if t.Flags&FlagResume == 0 {
		rs.dropResults(a.g, a.pos)
		t.Start = start
	} else if t.Start == 0 {
		t.Start = start
	}
	t.End = 0
	t.Flags &^= FlagResume | FlagTimedOut | FlagCancel
	rs.set(a.g, a.pos, airflow.TIRunning, CodeReported)
	return ReportResult{}
}

// dropResults deletes what a former try left: result, choice.
func (rs *RunState) dropResults(g *Graph, pos int32) {
	rs.setXCom(g, pos, false)
	if _, ok := rs.skips[pos]; ok {
		delete(rs.skips, pos)
		rs.touch(pos)
		rs.markDependents(g, pos)
	}
}

// end is when the dispatch ended.
func (a *applier) end() Micros {
	if !a.r.Ended.IsZero() {
		return At(a.r.Ended)
	}
	return a.now
}

func (a *applier) outcome() ReportResult {
	rs, t, end := a.rs, a.ti(), a.end()
	n := &a.g.Tasks[t.Task]
	if a.r.Kind != ReportReschedule {
		delete(rs.rescheduleStart, a.pos)
	}
	switch a.r.Kind {
	case ReportSuccess:
		return a.success(n, end)
	case ReportFailed, ReportLost, ReportKilled:
		if a.r.Kind != ReportFailed {
			a.lostCallback(n)
		}
		return a.fail(false, end)
	case ReportFailedHard:
		return a.fail(true, end)
	case ReportStopped:
		return a.fail(false, end)
	case ReportSkipped:
		t.End = end
		rs.set(a.g, a.pos, airflow.TISkipped, CodeReported)
	case ReportReschedule:
		if a.r.Until.IsZero() {
			return refuse(RefusedInvalid, "a reschedule report needs the date at which the sensor wants to be started again")
		}
		if _, ok := rs.rescheduleStart[a.pos]; !ok {
			if rs.rescheduleStart == nil {
				rs.rescheduleStart = map[int32]Micros{}
			}
			rs.rescheduleStart[a.pos] = t.Start
		}
		t.End = end
		rs.set(a.g, a.pos, airflow.TIUpForReschedule, CodeReported)
		rs.setWake(a.pos, At(a.r.Until))
	case ReportDeferred:
		t.Flags |= FlagResume
		rs.set(a.g, a.pos, airflow.TIDeferred, CodeReported)
		if !a.r.Until.IsZero() {
			rs.setWake(a.pos, At(a.r.Until)+1)
		}
	default:
		return refuse(RefusedInvalid, "report kind %d is unknown", a.r.Kind)
	}
	return ReportResult{}
}

// lostCallback asks for the callback that a lost worker could not run.
func (a *applier) lostCallback(n *Node) {
	retry := a.canRetry(false)
	if n.Task.Notifies(retry) {
		a.effects = append(a.effects, TaskCallback{Pos: int(a.pos), Key: a.rs.Key(a.g, int(a.pos)), Retry: retry})
	}
}

// DefaultMaxMapLength is [core] max_map_length.
const DefaultMaxMapLength = 1024

func (a *applier) success(n *Node, end Micros) ReportResult {
	rs := a.rs
	if c := a.r.Choice; c != nil {
		if problem := a.choose(n, c, end); problem != "" {
			a.message = problem
			return a.fail(false, end)
		}
	}
	if problem := a.push(n); problem != "" {
		a.message = problem
		return a.fail(false, end)
	}
	t := a.ti()
	t.End = end
	rs.set(a.g, a.pos, airflow.TISuccess, CodeReported)
	return ReportResult{}
}

// push records the result. An unmapped task that something expands over must
// return a list, tuple or dict that is not too long, or it fails.
func (a *applier) push(n *Node) string {
	rs, t := a.rs, a.ti()
	x := a.r.XCom
	if len(n.ExpandedBy) > 0 && !n.needsExpansion() {
		limit := a.lim.MaxMapLength
		if limit == 0 {
			limit = DefaultMaxMapLength
		}
		switch {
		case !x.Pushed:
			return fmt.Sprintf("task %s returned nothing, but tasks below expand over its result: return a list or dict", n.ID)
		case x.Length < 0:
			return fmt.Sprintf("task %s returned something that cannot be expanded over: return a list or dict", n.ID)
		case x.Length > limit:
			return fmt.Sprintf("task %s returned %d elements to expand over: at most %d are allowed ([core] max_map_length)", n.ID, x.Length, limit)
		}
		if rs.lengths == nil {
			rs.lengths = map[int32]int32{}
		}
		rs.lengths[t.Task] = int32(min(x.Length, MaxMapIndex+1))
		rs.HeaderDirty = true
		rs.markDependents(a.g, a.pos)
	}
	rs.setXCom(a.g, a.pos, x.Pushed)
	return ""
}

// fail ends a try: the instance is tried again if it may, else it has failed.
func (a *applier) fail(hard bool, end Micros) ReportResult {
	if a.canRetry(hard) {
		return a.retry(end)
	}
	a.ti().End = end
	a.rs.set(a.g, a.pos, airflow.TIFailed, CodeReported)
	if a.g.DAG.FailFast {
		a.failFast(end)
	}
	return ReportResult{}
}

func (a *applier) canRetry(hard bool) bool {
	t := a.ti()
	switch {
	case t.State == airflow.TIRestarting:
		return true
	case hard || a.r.TryAgain < 0:
		return false
	}
	return a.r.TryAgain > 0 || t.MaxTries != 0 && int(t.TryNumber) <= int(t.MaxTries)
}

func (a *applier) retry(end Micros) ReportResult {
	t := a.ti()
	n := &a.g.Tasks[t.Task]
	t.End = end
	t.Flags &^= FlagResume | FlagTimedOut | FlagCancel
	delete(a.rs.rescheduleStart, a.pos)
	delay := a.r.RetryDelay
	if delay <= 0 {
		delay = RetryDelay(n.Task, a.rs.Header.DagID, a.rs.Header.LogicalDate, int(t.TryNumber), a.lim.MaxRetryDelay)
	}
	a.rs.set(a.g, a.pos, airflow.TIUpForRetry, CodeRetry)
	a.rs.setWake(a.pos, At(end.Time().Add(delay))+1)
	return ReportResult{}
}

// failFast stops the rest of the run when an instance has failed for good:
// running ones fail, all others but successful and failed ones are skipped.
// Teardowns and the other instances of the same task go on.
func (a *applier) failFast(end Micros) {
	rs, task := a.rs, a.ti().Task
	for pos := int32(0); pos < rs.n; pos++ {
		t := rs.ti(pos)
		if t.Task == task || int(t.Task) >= len(a.g.Tasks) || a.g.Tasks[t.Task].Task.IsTeardown {
			continue
		}
		switch t.State {
		case airflow.TISuccess, airflow.TIFailed, airflow.TISkipped:
		case airflow.TIRunning:
			a.take(pos, airflow.TIFailed, CodeFailFast, end)
		default:
			a.take(pos, airflow.TISkipped, CodeFailFast, end)
		}
	}
}

// take sets another instance's state, telling its worker to stop if it has one.
func (a *applier) take(pos int32, to airflow.TIState, why Code, end Micros) {
	t := a.rs.ti(pos)
	if t.State.Active() {
		a.effects = append(a.effects, a.rs.cancel(a.g, pos))
	}
	if t.Start == 0 {
		t.Start = end
	}
	t.End = end
	a.rs.set(a.g, pos, to, why)
}
