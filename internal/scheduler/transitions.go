package scheduler

import "github.com/gustflow/gust/internal/airflow"

// Move is one way in which a task instance changes its state.
type Move struct {
	From, To airflow.TIState
	By       string // what causes it, for people
}

const (
	byPass     = "scheduler pass"
	byReport   = "report of the worker"
	byBranch   = "branch or fail_fast above"
	byTimeout  = "timeout"
	byClear    = "clear"
	byMark     = "mark"
	byVersion  = "other DAG version or shorter expansion"
	bySlot     = "admission"
	byRunEnd   = "end of the run"
	byTrigger  = "trigger"
	byDispatch = "dispatch not taken"
)

// Moves lists the allowed transitions of task instances by cause. Whatever is not
// derived from it is a bug: the simulator checks every transition against it, and
// docs/state-machines.md is made from it.
func Moves() []Move {
	unfinished := []airflow.TIState{
		airflow.TINone, airflow.TIScheduled, airflow.TIQueued, airflow.TIRunning, airflow.TIUpForRetry,
		airflow.TIUpForReschedule, airflow.TIDeferred, airflow.TIRestarting,
	}
	finished := []airflow.TIState{airflow.TISuccess, airflow.TIFailed, airflow.TISkipped, airflow.TIUpstreamFailed, airflow.TIRemoved}
	var out []Move
	add := func(by string, from airflow.TIState, to ...airflow.TIState) {
		for _, t := range to {
			if t != from {
				out = append(out, Move{from, t, by})
			}
		}
	}
	for _, s := range []airflow.TIState{airflow.TINone, airflow.TIUpForRetry, airflow.TIUpForReschedule} {
		add(byPass, s, airflow.TIScheduled, airflow.TISuccess, airflow.TIDeferred)
	}
	// The rules judge unfinished instances; the last look before a deadlock also
	// reaches those at work.
	for _, s := range unfinished {
		add(byPass, s, airflow.TISkipped, airflow.TIUpstreamFailed)
	}
	// Two dependencies may disagree within one pass.
	add(byPass, airflow.TIUpstreamFailed, airflow.TISkipped, airflow.TIRemoved)
	add(byPass, airflow.TISkipped, airflow.TIUpstreamFailed, airflow.TIRemoved)
	add(byPass, airflow.TIRemoved, airflow.TISkipped, airflow.TIUpstreamFailed)
	add(bySlot, airflow.TIScheduled, airflow.TIQueued)
	add(byReport, airflow.TIQueued, airflow.TIRunning)
	add(byRunEnd, airflow.TIQueued, airflow.TINone)
	add(byDispatch, airflow.TIQueued, airflow.TIScheduled, airflow.TIFailed)
	add(byReport, airflow.TIRunning, airflow.TISuccess, airflow.TIFailed, airflow.TISkipped, airflow.TIUpForRetry, airflow.TIUpForReschedule, airflow.TIDeferred)
	add(byReport, airflow.TIRestarting, airflow.TIUpForRetry)
	add(byTrigger, airflow.TIDeferred, airflow.TIScheduled, airflow.TISuccess)
	for _, s := range append(append([]airflow.TIState{}, unfinished...), airflow.TIUpstreamFailed, airflow.TIRemoved) {
		add(byBranch, s, airflow.TISkipped)
	}
	add(byBranch, airflow.TIRunning, airflow.TIFailed)
	for _, s := range unfinished {
		add(byTimeout, s, airflow.TISkipped)
		add(byMark, s, airflow.TISuccess, airflow.TIFailed, airflow.TISkipped)
		add(byVersion, s, airflow.TIRemoved)
	}
	for _, s := range finished {
		add(byClear, s, airflow.TINone)
		add(byMark, s, airflow.TISuccess, airflow.TIFailed, airflow.TISkipped)
		add(byVersion, s, airflow.TIRemoved)
	}
	for _, s := range unfinished {
		switch s {
		case airflow.TIRunning:
			add(byClear, s, airflow.TIRestarting)
		case airflow.TIRestarting:
		default:
			add(byClear, s, airflow.TINone)
		}
	}
	add(byVersion, airflow.TIRemoved, airflow.TINone)
	return out
}

var allowed = func() (m [airflow.NumTIStates][airflow.NumTIStates]bool) {
	for _, t := range Moves() {
		m[t.From][t.To] = true
	}
	return m
}()

// AllowedTransition reports whether an instance may go from one state to another.
func AllowedTransition(from, to airflow.TIState) bool { return allowed[from][to] }
