package scheduler

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/timetable"
)

// NewDagRun is a run to create.
type NewDagRun struct {
	RunID             airflow.RunID
	RunType           airflow.DagRunType
	LogicalDate       *time.Time
	DataIntervalStart *time.Time
	DataIntervalEnd   *time.Time
	RunAfter          time.Time
	Conf              json.RawMessage
	BackfillOrdinal   int
}

// ScheduleState is what is known of a DAG's schedule before PlanRuns.
type ScheduleState struct {
	Paused, Stale, HasImportErrors bool
	// Last is the data interval of the newest automated run; nil = none yet.
	LastIntervalStart, LastIntervalEnd *time.Time
	// ActiveRuns counts queued and running runs that are not of a backfill.
	ActiveRuns int
	// Exists reports whether a run with that logical date exists. May be nil.
	Exists func(logicalDate time.Time) bool
	// StartDate and EndDate bound the logical dates (see PlanBounds).
	StartDate, EndDate *time.Time
}

// PlanLimits bound one call of PlanRuns.
type PlanLimits struct {
	// MaxRuns is the most runs to create in this call; 0 = no limit.
	MaxRuns int
}

// RunPlan is which runs to create now and when to look again.
type RunPlan struct {
	Create []NewDagRun
	// Last* are the interval of the newest run that is created or was found to
	// exist: the "last" of the next PlanRuns. Unchanged from the state if there is none.
	LastIntervalStart, LastIntervalEnd *time.Time
	// Next* describe the first run that is not created yet: DagModel's next_dagrun.
	NextLogicalDate, NextIntervalStart, NextIntervalEnd, NextRunAfter *time.Time
	// NextCreateAfter is when PlanRuns must be called again; nil = when a run of
	// the DAG finishes (Blocked) or when the DAG changes.
	NextCreateAfter *time.Time
	// Blocked says that max_active_runs holds runs back.
	Blocked bool
	// More says that MaxRuns was reached and more runs are due.
	More bool
	// Reason says why nothing is created although something might be due.
	Reason Code
}

// maxExistingSkipped bounds how many runs that exist already one PlanRuns steps over.
const maxExistingSkipped = 10_000

// PlanBounds returns the earliest start date and the latest end date of a DAG and
// its tasks, in UTC; nil = open.
func PlanBounds(dag *airflow.DAG) (start, end *time.Time) {
	d := timetable.Dag{StartDate: dag.StartDate, EndDate: dag.EndDate}
	for _, t := range dag.Tasks {
		d.Tasks = append(d.Tasks, timetable.TaskDates{StartDate: t.StartDate, EndDate: t.EndDate})
	}
	r := timetable.Restrict(d)
	return r.Earliest, r.Latest
}

// PlanRuns says which scheduled runs of a DAG to create now. Runs whose logical
// date exists already are passed over. It creates run after run until the next
// one is not due yet, max_active_runs is reached (queued runs count) or
// lim.MaxRuns is; the call can be repeated with the state it leads to. A paused
// or stale DAG or one with import errors gets none.
//
// The error is that of a timetable that could not be computed; the plan up to
// there stands, and there is no next run.
func PlanRuns(dag *airflow.DAG, tt timetable.Timetable, s ScheduleState, lim PlanLimits, now time.Time) (RunPlan, error) {
	plan := RunPlan{LastIntervalStart: s.LastIntervalStart, LastIntervalEnd: s.LastIntervalEnd}
	switch {
	case s.Paused:
		plan.Reason = CodePaused
	case s.Stale:
		plan.Reason = CodeDagStale
	case s.HasImportErrors:
		plan.Reason = CodeImportErrors
	case dag.AllowedRunTypes != nil && !slices.Contains(dag.AllowedRunTypes, airflow.RunTypeScheduled):
		plan.Reason = CodeRunTypeNotAllowed
		return plan, nil
	}
	within := timetable.Restriction{Earliest: s.StartDate, Latest: s.EndDate, Catchup: dag.Catchup}
	active, passed := s.ActiveRuns, 0
	for {
		var last *timetable.DataInterval
		if plan.LastIntervalStart != nil && plan.LastIntervalEnd != nil {
			last = &timetable.DataInterval{Start: *plan.LastIntervalStart, End: *plan.LastIntervalEnd}
		}
		next, err := tt.NextRunInfo(last, within, now)
		plan.next(next)
		if err != nil || next == nil || next.DataInterval == nil {
			plan.next(nil)
			return plan, err
		}
		if last != nil && !next.DataInterval.End.After(last.End) && !next.DataInterval.Start.After(last.Start) {
			return plan, nil // a schedule that does not lead forward would never end
		}
		switch {
		case dag.MaxActiveRuns > 0 && active >= dag.MaxActiveRuns:
			plan.Blocked = true
			if plan.Reason == "" {
				plan.Reason = CodeMaxActiveRuns
			}
			return plan, nil
		case next.RunAfter.After(now) || plan.Reason != "":
			plan.NextCreateAfter = plan.NextRunAfter
			return plan, nil
		case lim.MaxRuns > 0 && len(plan.Create) >= lim.MaxRuns, passed >= maxExistingSkipped:
			plan.More = true
			plan.NextCreateAfter = plan.NextRunAfter
			return plan, nil
		}
		plan.LastIntervalStart, plan.LastIntervalEnd = &next.DataInterval.Start, &next.DataInterval.End
		if s.Exists != nil && next.LogicalDate != nil && s.Exists(*next.LogicalDate) {
			passed++
			continue
		}
		active++
		plan.Create = append(plan.Create, NewDagRun{
			RunID:   airflow.RunID(timetable.RunID(string(airflow.RunTypeScheduled), next.RunAfter.UTC())),
			RunType: airflow.RunTypeScheduled, LogicalDate: utc(next.LogicalDate),
			DataIntervalStart: utc(&next.DataInterval.Start), DataIntervalEnd: utc(&next.DataInterval.End), RunAfter: next.RunAfter.UTC(),
		})
	}
}

// next records the next run, nil = none.
func (p *RunPlan) next(r *timetable.RunInfo) {
	p.NextLogicalDate, p.NextIntervalStart, p.NextIntervalEnd, p.NextRunAfter = nil, nil, nil, nil
	if r == nil {
		return
	}
	p.NextLogicalDate, p.NextRunAfter = utc(r.LogicalDate), utc(&r.RunAfter)
	if r.DataInterval != nil {
		p.NextIntervalStart, p.NextIntervalEnd = utc(&r.DataInterval.Start), utc(&r.DataInterval.End)
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// ConsecutiveFailures reports whether the DAG must be paused after a failure
// (max_consecutive_failed_dag_runs): its newest runs by run_after, of any type,
// newest first, have all failed.
func ConsecutiveFailures(dag *airflow.DAG, recent []airflow.DagRunState) bool {
	n := dag.MaxConsecutiveFailedDagRuns
	if n <= 0 || len(recent) < n {
		return false
	}
	for _, s := range recent[:n] {
		if s != airflow.RunFailed {
			return false
		}
	}
	return true
}
