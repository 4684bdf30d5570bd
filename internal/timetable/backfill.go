package timetable

import (
	"fmt"
	"slices"
	"time"
)

// ReprocessBehavior says which existing runs a backfill runs again.
type ReprocessBehavior string

// What a backfill does where a run of the logical date exists. Unfinished runs
// are never touched.
const (
	ReprocessNone      ReprocessBehavior = "none"      // leave it
	ReprocessFailed    ReprocessBehavior = "failed"    // run it again if it failed
	ReprocessCompleted ReprocessBehavior = "completed" // run it again
)

// BackfillRequest asks for the runs between two logical dates.
type BackfillRequest struct {
	DagID string
	// From and To bound the logical dates, both inclusive. From keeps its zone:
	// the first run id of a delta timetable shows it.
	From, To time.Time
	// Reverse turns the order of the runs around.
	Reverse           bool
	ReprocessBehavior ReprocessBehavior
	// DependsOnPast is set if any task of the DAG has depends_on_past.
	DependsOnPast bool
	// ExistingRun returns the state of the run with a logical date; ok is false
	// if there is none. Nil means that there are no runs.
	ExistingRun func(logicalDate time.Time) (state string, ok bool)
	Now         time.Time
}

// BackfillRuns returns the runs a backfill makes or runs again, in the order of
// their creation: what Airflow calls the dry run. Dates and catchup of the DAG do
// not matter. An empty result makes the real request fail with
// NoBackfillRunsToCreate.
//
// The error is an *Error of StageBackfill. A timetable that fails on the way ends
// the list there, as in Airflow.
func BackfillRuns(t Timetable, r BackfillRequest) ([]RunInfo, error) {
	if err := CheckBackfill(t, r); err != nil {
		return nil, err
	}
	var out []RunInfo
	within := Restriction{Earliest: &r.From, Latest: &r.To, Catchup: true}
	var last *DataInterval
	for {
		info, err := t.NextRunInfo(last, within, r.Now)
		if err != nil || info == nil {
			break
		}
		if last != nil && !info.DataInterval.End.After(last.End) && !info.DataInterval.Start.After(last.Start) {
			break // a schedule that does not lead forward would never end
		}
		last = info.DataInterval
		if last.End.Before(r.Now) && r.creates(*info.LogicalDate) {
			out = append(out, *info)
		}
		if !last.Start.Before(r.Now) {
			break // all that follow end later still
		}
	}
	if r.Reverse {
		slices.Reverse(out)
	}
	return out, nil
}

// creates reports whether the run of a logical date is made or run again.
func (r *BackfillRequest) creates(logicalDate time.Time) bool {
	if r.ExistingRun == nil {
		return true
	}
	state, exists := r.ExistingRun(logicalDate)
	switch {
	case !exists:
		return true
	case state == "failed":
		return r.ReprocessBehavior == ReprocessFailed || r.ReprocessBehavior == ReprocessCompleted
	case state == "success":
		return r.ReprocessBehavior == ReprocessCompleted
	}
	return false
}

// CheckBackfill reports why a backfill is refused; nil if it is not. The error
// is an *Error of StageBackfill.
func CheckBackfill(t Timetable, r BackfillRequest) error {
	refuse := func(class, format string, args ...any) error {
		return &Error{Stage: StageBackfill, Class: class, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case !t.Periodic():
		return refuse("DagNonPeriodicScheduleException", "%s has a non-periodic schedule that does not support backfills", r.DagID)
	case r.From.After(r.To):
		return refuse("InvalidBackfillDateRange", "from_date (%s) must not be after to_date (%s).", isoFormat(r.From), isoFormat(r.To))
	case !r.From.Before(r.Now) && !r.To.Before(r.Now):
		return refuse("InvalidBackfillDate", "Backfill cannot be executed for future dates.")
	case r.DependsOnPast && r.Reverse:
		return refuse("InvalidBackfillDirection", "Backfill cannot be run in reverse when the Dag has tasks where depends_on_past=True.")
	case r.DependsOnPast && (r.ReprocessBehavior == ReprocessNone || r.ReprocessBehavior == ""):
		return refuse("InvalidReprocessBehavior", "Dag has tasks for which depends_on_past=True. You must set reprocess behavior to reprocess completed or reprocess failed.")
	}
	return nil
}
