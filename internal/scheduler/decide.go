package scheduler

import (
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
	Pos         int // position in the run
	TaskID      airflow.TaskID
	MapIndex    int // after the change
	From, To    airflow.TIState
	Created     bool // the instance came into being
	Expanded    bool // the unexpanded instance became MapIndex 0
	TryNumber   int  // after the change
	DispatchSeq uint32
	Why         Code
}

// PassResult is what one pass changed.
type PassResult struct {
	Transitions []Transition
	// Run is the new state of the run, or its old one.
	Run     airflow.DagRunState
	Changed bool // something changed: another pass may change more
	Effects []Effect
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
}

// Effect is something to do after the commit. Every effect can be derived again
// from stored state, so that a lost one is sent again by the sweep.
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
