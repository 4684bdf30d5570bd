package scheduler

import (
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Reason says why something does not move.
type Reason struct {
	Pos     int                     `json:"-"` // -1 = the run itself
	Key     airflow.TaskInstanceKey `json:"task_instance"`
	State   airflow.TIState         `json:"state"`
	Code    Code                    `json:"code"`
	Text    string                  `json:"reason"`             // a sentence
	WakesBy string                  `json:"wakes_by,omitempty"` // what would move it
	WakeAt  time.Time               `json:"wake_at,omitzero"`   // zero unless time alone moves it
}

// Reasons explains, for the run and then for each unfinished instance in order of
// creation, why it is not moving. admission may be nil; it says why scheduled
// instances are not queued, by position.
func Reasons(g *Graph, rs *RunState, f Facts, now time.Time, admission map[int]Code) []Reason {
	e := explainer{g: g, rs: rs, f: &f, now: now, admission: admission}
	out := []Reason{e.runReason()}
	if out[0].Code == "" {
		out = out[:0]
	}
	for pos := int32(0); pos < rs.n; pos++ {
		if !rs.ti(pos).State.Finished() {
			out = append(out, e.reason(pos))
		}
	}
	return out
}

type explainer struct {
	g         *Graph
	rs        *RunState
	f         *Facts
	now       time.Time
	admission map[int]Code
}

func (e *explainer) runReason() Reason {
	h := &e.rs.Header
	r := Reason{Pos: -1, Key: airflow.TaskInstanceKey{DagID: h.DagID, RunID: h.RunID, MapIndex: airflow.Unmapped}}
	at := At(e.now)
	switch {
	case h.State.Finished():
	case e.f.Paused:
		r.Code, r.Text, r.WakesBy = CodePaused, "The DAG is paused: what is running goes on, nothing new is scheduled.", "un-pausing the DAG"
	case h.State == airflow.RunQueued && At(h.RunAfter) > at:
		r.Code, r.WakeAt = CodeFuture, h.RunAfter
		r.Text, r.WakesBy = fmt.Sprintf("The run is queued and may start after %s.", stamp(h.RunAfter)), "time"
	case h.State == airflow.RunQueued:
		r.Code, r.Text, r.WakesBy = CodeRunQueued, "The run is queued: it starts when fewer than max_active_runs runs are running.", "another run of the DAG or backfill ending"
	case e.rs.inFuture(at):
		r.Code, r.WakeAt = CodeFuture, *h.LogicalDate
		r.Text, r.WakesBy = fmt.Sprintf("The logical date %s has not come yet.", stamp(*h.LogicalDate)), "time"
	}
	return r
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (e *explainer) reason(pos int32) Reason {
	t := e.rs.ti(pos)
	r := Reason{Pos: int(pos), Key: e.rs.Key(e.g, int(pos)), State: t.State}
	if t.WakeAt != 0 {
		r.WakeAt = t.WakeAt.Time()
	}
	set := func(c Code, by, format string, args ...any) {
		r.Code, r.Text, r.WakesBy = c, fmt.Sprintf(format, args...), by
	}
	switch t.State {
	case airflow.TIQueued:
		set(CodeWaitsForWorker, "a worker claiming it", "Sent to the executor as dispatch %d; no worker has claimed it yet.", t.DispatchSeq)
	case airflow.TIRunning:
		set(CodeRunning, "the worker's report or a lost heartbeat", "Running: try %d.", t.TryNumber)
	case airflow.TIRestarting:
		set(CodeRestarting, "the worker stopping or a lost heartbeat", "Cleared while running: it is tried again as soon as its worker has stopped.")
	case airflow.TIDeferred:
		set(CodeDeferred, "the trigger", "Deferred: waiting for its trigger to fire.")
		if t.WakeAt != 0 {
			r.Text = fmt.Sprintf("Deferred: waiting for its trigger to fire, at the latest until %s.", stamp(r.WakeAt))
		}
	case airflow.TIScheduled:
		e.slot(pos, t, set)
	default:
		if int(t.Task) < len(e.g.Tasks) {
			e.waiting(pos, t, &r, set)
		}
	}
	return r
}

// slot explains a scheduled instance that is not queued.
func (e *explainer) slot(pos int32, t *TI, set func(Code, string, string, ...any)) {
	n := e.g.Tasks[t.Task].Task
	why := e.admission[int(pos)]
	switch why {
	case CodePoolMissing:
		set(why, "creating the pool", "Its pool %q does not exist.", n.Pool)
	case CodePoolTooSmall:
		set(why, "enlarging the pool", "It needs %d slots of pool %q, which has fewer in all.", n.PoolSlots, n.Pool)
	case CodePoolFull:
		set(why, "a slot becoming free", "It needs %d free slots of pool %q.", n.PoolSlots, n.Pool)
	case CodeMaxActiveTasks:
		set(why, "another task of the run ending", "The run already has max_active_tasks = %d tasks queued or running.", e.g.DAG.MaxActiveTasks)
	case CodeMaxTIsPerDag:
		set(why, "another instance of the task ending", "max_active_tis_per_dag = %d instances of the task are active.", n.MaxActiveTIsPerDag)
	case CodeMaxTIsPerDagRun:
		set(why, "another instance of the task ending", "max_active_tis_per_dagrun = %d instances of the task are active in this run.", n.MaxActiveTIsPerDagRun)
	case CodeExecutorFull:
		set(why, "a free executor slot", "The executor has no free slot.")
	case CodePaused:
		set(why, "un-pausing the DAG", "The DAG is paused.")
	default:
		set(CodeWaitsForSlot, "a free slot", "Its dependencies are met; it waits for a slot by priority.")
	}
}

// waiting explains an instance that is none, up_for_retry or up_for_reschedule.
// It asks the same questions as a pass, without changing anything.
func (e *explainer) waiting(pos int32, t *TI, r *Reason, set func(Code, string, string, ...any)) {
	h := &e.rs.Header
	n := &e.g.Tasks[t.Task]
	p := pass{g: e.g, rs: e.rs, facts: e.f, now: At(e.now)}
	if h.State.Finished() {
		set(CodeRunFinished, "clearing", "The run is %s: nothing of it is scheduled any more.", h.State)
		return
	}
	if len(n.Setups) > 0 && n.Task.TriggerRule != airflow.RuleAlways && len(n.Upstream) > 0 {
		if c := p.counts(t, n.Setups, n.simpleSetups); c.Upstream-c.Success-c.Removed > 0 {
			set(CodeSetupNotDone, "the setups", "Its setup tasks are not done: %s.", e.open(t, n.Setups))
			return
		}
	}
	if len(n.Scope) > 0 {
		if c := p.counts(t, n.Scope, n.simpleSetups); c.Done() < c.Upstream {
			set(CodeUpstream, "the tasks in its scope", "A teardown waits for all tasks between its setups and itself: %s.", e.open(t, n.Scope))
			return
		}
	}
	if len(n.Upstream) > 0 {
		c := p.counts(t, n.Upstream, n.simpleUpstream)
		if !EvaluateRule(n.Task.TriggerRule, c, int(t.MapIndex)).Met {
			e.upstream(t, n, c, set)
			return
		}
	}
	if _, bad := e.rs.sourceStates(n); bad {
		set(CodeExpansionUnsolved, "what it expands over", "What it expands over has not succeeded: %s.", e.open(t, n.Sources))
		return
	}
	switch past(e.g, e.rs, e.f, n) {
	case pastNotRun:
		set(CodePast, "an instance of the task in the previous run", "depends_on_past: the task has no instance in the previous run.")
		return
	case pastUnsuccessful:
		set(CodePast, "the previous run", "depends_on_past: the task has not succeeded in the previous run.")
		return
	case pastDownstream:
		set(CodePast, "the previous run", "wait_for_downstream: what is directly below the task has not succeeded in the previous run.")
		return
	}
	switch {
	case t.State == airflow.TIUpForRetry && t.WakeAt > p.now:
		set(CodeRetryDelay, "time", "Try %d failed; the next one may start after %s.", t.TryNumber, stamp(r.WakeAt))
	case t.State == airflow.TIUpForReschedule && t.WakeAt > p.now:
		set(CodeReschedule, "time", "The sensor asked to be started again at %s.", stamp(r.WakeAt))
	case h.State == airflow.RunQueued:
		set(CodeRunQueued, "the run starting", "The run has not started yet.")
	case e.f.Paused:
		set(CodePaused, "un-pausing the DAG", "The DAG is paused.")
	default:
		set(CodeDepsMet, "the next pass of the scheduler", "Its dependencies are met: the next pass schedules it.")
	}
}

// upstream explains a trigger rule that is not met.
func (e *explainer) upstream(t *TI, n *Node, c UpstreamCounts, set func(Code, string, string, ...any)) {
	if absent := e.absent(n.Upstream); n.simpleUpstream && absent != "" {
		set(CodeUpstreamAbsent, "nothing in this run: the task's start_date or end_date excludes it", "Its upstream %s has no instance in this run, so the rule %s is never met.", absent, n.Task.TriggerRule)
		return
	}
	if c.Done() >= c.Upstream {
		set(CodeStuck, "clearing or marking upstream tasks", "All %d upstream instances are done, but the rule %s is not met: %d success, %d skipped, %d failed, %d upstream_failed, %d removed.",
			c.Upstream, n.Task.TriggerRule, c.Success, c.Skipped, c.Failed, c.UpstreamFailed, c.Removed)
		return
	}
	set(CodeUpstream, "upstream tasks", "The rule %s waits for upstream tasks (%d of %d done): %s.", n.Task.TriggerRule, c.Done(), c.Upstream, e.open(t, n.Upstream))
}

func (e *explainer) absent(tasks []int32) string {
	var ids []string
	for _, u := range tasks {
		if e.rs.tasks[u].total == 0 {
			ids = append(ids, string(e.g.Tasks[u].ID))
		}
	}
	return strings.Join(ids, ", ")
}

// open names unfinished upstream instances, a few of them.
func (e *explainer) open(t *TI, tasks []int32) string {
	const most = 5
	var names []string
	add := func(pos int32) {
		if pos < 0 || len(names) > most || e.rs.ti(pos).State == airflow.TISuccess {
			return
		}
		x := e.rs.ti(pos)
		if len(names) == most {
			names = append(names, "and others")
			return
		}
		names = append(names, fmt.Sprintf("%s is %s", airflow.TIName(e.rs.TaskID(e.g, x), int(x.MapIndex)), x.State))
	}
	for _, u := range tasks {
		ts := &e.rs.tasks[u]
		r := e.rs.relevant(e.g, t, u)
		add(ts.unexpanded)
		lo, hi := 0, len(ts.mapped)
		if !r.all {
			lo, hi = max(r.lo, 0), min(r.hi, hi)
		}
		for i := lo; i < hi && len(names) <= most; i++ {
			add(ts.mapped[i])
		}
	}
	return strings.Join(names, ", ")
}
