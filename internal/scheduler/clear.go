package scheduler

import (
	"github.com/gustflow/gust/internal/airflow"
)

// Selection chooses task instances of one run.
type Selection struct {
	// Tasks are the chosen tasks; empty = all tasks of the DAG.
	Tasks []TaskSelection
	// Upstream and Downstream add all transitive relatives.
	Upstream, Downstream bool
}

// TaskSelection is one task, or some of its instances.
type TaskSelection struct {
	TaskID airflow.TaskID
	// MapIndexes limits the choice; nil = all instances.
	MapIndexes []int
}

// ClearOptions are Airflow's options of clearing task instances.
type ClearOptions struct {
	Selection
	OnlyFailed  bool // failed and upstream_failed
	OnlyRunning bool // running
	// ResetDagRun requeues a finished run.
	ResetDagRun bool
	// PreventRunning refuses to clear a running instance (prevent_running_task).
	PreventRunning bool
}

// ActionResult is what an intervention changed.
type ActionResult struct {
	Transitions []Transition
	RunBefore   airflow.DagRunState
	Run         airflow.DagRunState
	Effects     []Effect
}

// MarkOptions are Airflow's options of marking task instances.
type MarkOptions struct {
	Selection
	State airflow.TIState // success, failed or skipped
}
