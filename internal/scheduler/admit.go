package scheduler

import (
	"github.com/gustflow/gust/internal/airflow"
)

// Candidate is a scheduled instance that waits for a slot.
type Candidate struct {
	Key            airflow.TaskInstanceKey
	Pos            int // the caller's; not looked at
	Pool           string
	PoolSlots      int
	PriorityWeight int64
	LogicalDate    Micros // 0 = null, which sorts first as in SQLite and last elsewhere: first here
	Executor       string
	// Limits of its DAG and task.
	MaxActiveTasks        int // per run; 0 or less = none may run, as in Airflow
	MaxActiveTIsPerDag    int // 0 = none
	MaxActiveTIsPerDagRun int // 0 = none
}

// PoolUse is a pool and what of it is taken.
type PoolUse struct {
	Slots    int // airflow.UnlimitedSlots = no limit
	Occupied int // slots held by queued and running (and deferred, with include_deferred)
}

// Open returns the free slots; ok is false for an unlimited pool.
func (p PoolUse) Open() (open int, limited bool) {
	if p.Slots == airflow.UnlimitedSlots {
		return 0, false
	}
	return p.Slots - p.Occupied, true
}

// RunKey names a run.
type RunKey struct {
	DagID airflow.DagID
	RunID airflow.RunID
}

// TaskKey names a task of a DAG.
type TaskKey struct {
	DagID  airflow.DagID
	TaskID airflow.TaskID
}

// RunTaskKey names a task within a run.
type RunTaskKey struct {
	DagID  airflow.DagID
	RunID  airflow.RunID
	TaskID airflow.TaskID
}

// Capacity is what may be used when Admit is called.
type Capacity struct {
	Pools map[string]PoolUse
	// RunActive counts queued and running instances of a run; TaskActive and
	// RunTaskActive count queued, running and deferred ones.
	RunActive     map[RunKey]int
	TaskActive    map[TaskKey]int
	RunTaskActive map[RunTaskKey]int
	// ExecutorSlots are the free slots by executor name ("" = the default one);
	// an executor that is missing has no limit.
	ExecutorSlots map[string]int
}

// AdmitLimits are the settings of one round of admission.
type AdmitLimits struct {
	// MaxTIs cuts the list of candidates that is looked at, as [scheduler]
	// max_tis_per_query does in Airflow; 0 = no cut (Gust's own mode: a blocked
	// candidate never hides one behind it).
	MaxTIs int
}

// Admission is which candidates may be queued.
type Admission struct {
	// Queued are indexes into the candidates, most urgent first.
	Queued []int
	// Blocked says why a candidate that was looked at was not queued, by index.
	Blocked map[int]Code
}

// QueuedRun is a DagRun that waits to start.
type QueuedRun struct {
	Key             RunKey
	RunAfter        Micros
	LastDecision    Micros // last_scheduling_decision; 0 = never
	BackfillID      int64  // 0 = not of a backfill
	BackfillOrdinal int
	Paused          bool // its DAG is paused or stale
	BackfillPaused  bool
}

// RunSlot is what a limit on running runs applies to: a DAG's own runs, or those of one backfill.
type RunSlot struct {
	DagID      airflow.DagID
	BackfillID int64
}

// StartLimits are the limits on running runs.
type StartLimits struct {
	Running       map[RunSlot]int // running runs
	MaxActiveRuns map[RunSlot]int // missing = no limit
	Max           int             // most runs to start in one call; 0 = no limit
}
