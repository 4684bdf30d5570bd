package scheduler

import (
	"encoding/json"
	"time"

	"github.com/gustflow/gust/internal/airflow"
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
	// StartDate and EndDate are the earliest start and the latest end of DAG and
	// tasks (see PlanBounds).
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
