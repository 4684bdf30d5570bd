package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// ReportKind says what happened to a dispatch.
type ReportKind uint8

// The kinds of Report. The first group comes from the worker that holds the
// dispatch, the second from whoever supervises it.
const (
	ReportRunning     ReportKind = iota + 1 // claimed: queued -> running
	ReportSuccess                           // see XCom and Choice
	ReportFailed                            // an ordinary exception: retried if tries are left
	ReportFailedHard                        // AirflowFailException, sensor timeout: never retried
	ReportSkipped                           // AirflowSkipException
	ReportReschedule                        // until Until: the sensor wants to be started again
	ReportDeferred                          // the task waits for a trigger; Until = its timeout or zero
	ReportResume                            // the trigger fired: deferred -> scheduled
	ReportLost                              // no heartbeat: an ordinary failure, callbacks not run by a worker
	ReportKilled                            // stopped from outside (state mismatch, crash): as ReportLost
	ReportStopped                           // the worker of a restarting instance has yielded
	ReportNotAccepted                       // queued for too long or refused by the executor: send again or fail
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
	// ChoiceShortCircuit skips everything below except teardowns (a truthy value sends no choice).
	ChoiceShortCircuit
	// ChoiceSkipDirect skips every direct downstream (LatestOnlyOperator, rejected approvals).
	ChoiceSkipDirect
)

// ReportLimits are the settings that a report's outcome depends on.
type ReportLimits struct {
	MaxMapLength int // [core] max_map_length; 0 = 1024
	MaxRequeues  int // [scheduler] num_stuck_in_queued_retries; negative = none, 0 = 2
}

// ReportResult is what a report did.
type ReportResult struct {
	// Refused is "" if the report was taken; otherwise nothing was changed.
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
