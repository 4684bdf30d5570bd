package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// This file holds the signatures that are being filled in, file by file.

const pending = "scheduler: being written"

// NewRun makes the states of a run that starts: the instances that exist at start,
// literal expansions expanded, tasks whose start_date and end_date exclude the
// logical date left out (not in backfills).
func NewRun(g *Graph, h Header) *RunState { panic(pending) }

// FactsNeeded says which facts of the previous run the next Decide needs.
func FactsNeeded(g *Graph, rs *RunState) FactsWanted { panic(pending) }

// Pass is exactly one Airflow pass over the run.
func Pass(g *Graph, rs *RunState, f Facts, now time.Time) PassResult { panic(pending) }

// Decide fires what is due at now (timeouts of triggers and of the run) and
// repeats Pass until nothing changes.
func Decide(g *Graph, rs *RunState, f Facts, now time.Time) Decision { panic(pending) }

// Dispatch moves scheduled instances to queued, raising dispatch_seq. Positions
// that are not scheduled are left alone and missing from the result.
func Dispatch(g *Graph, rs *RunState, positions []int, now time.Time) []Transition { panic(pending) }

// Apply takes in what a worker or its supervisor says.
func Apply(g *Graph, rs *RunState, r Report, lim ReportLimits, now time.Time) ReportResult {
	panic(pending)
}

// StartRun moves a queued run to running.
func StartRun(rs *RunState, now time.Time) { panic(pending) }

// Admit is Airflow's critical section: which scheduled instances may be queued.
func Admit(c Capacity, candidates []Candidate, lim AdmitLimits) Admission { panic(pending) }

// StartQueued returns the indexes of the runs that may start, in order.
func StartQueued(runs []QueuedRun, lim StartLimits, now time.Time) []int { panic(pending) }

// Clear clears task instances of a run.
func Clear(g *Graph, rs *RunState, o ClearOptions, now time.Time) (ActionResult, error) {
	panic(pending)
}

// MarkTask sets the state of task instances by hand.
func MarkTask(g *Graph, rs *RunState, o MarkOptions, now time.Time) (ActionResult, error) {
	panic(pending)
}

// MarkRun sets the state of a run by hand: success, failed or queued.
func MarkRun(g *Graph, rs *RunState, s airflow.DagRunState, now time.Time) (ActionResult, error) {
	panic(pending)
}

// Rebase moves a run to another version of its DAG.
func Rebase(from, to *Graph, rs *RunState, now time.Time) ActionResult { panic(pending) }

// Encode writes the header and the indexes of a run, without its chunks.
func Encode(rs *RunState) []byte { panic(pending) }

// EncodeChunk writes one chunk with the sparse facts of its instances.
func EncodeChunk(rs *RunState, chunk int) []byte { panic(pending) }

// Decode reads what Encode and EncodeChunk wrote. It never panics.
func Decode(g *Graph, header []byte, chunks [][]byte) (*RunState, error) { panic(pending) }

// Reason says why something does not move.
type Reason struct {
	Pos     int // -1 = the run itself
	Key     airflow.TaskInstanceKey
	Code    Code
	Text    string    // a sentence
	WakesBy string    // what would move it
	WakeAt  time.Time // zero unless time alone moves it
}

// Reasons explains, for the run and each unfinished instance, why it is not
// moving. admission may be nil; it says why scheduled instances are not queued, by position.
func Reasons(g *Graph, rs *RunState, f Facts, now time.Time, admission map[int]Code) []Reason {
	panic(pending)
}

// AllowedTransition reports whether an instance may go from one state to another.
func AllowedTransition(from, to airflow.TIState) bool { panic(pending) }

// EvaluateAssets reports whether a condition holds over the queued assets.
func EvaluateAssets(c AssetCondition, queued []QueuedAsset) bool { panic(pending) }

// PlanAssetRun says whether an asset-triggered run is due and what it consumes.
// since is the run_after of the DAG's last asset-triggered run, zero if none.
func PlanAssetRun(c AssetCondition, queued []QueuedAsset, events []PendingAssetEvent, since time.Time) AssetRunPlan {
	panic(pending)
}

// Deadlines works out the deadlines of a new run.
func Deadlines(dag *airflow.DAG, h Header, f DeadlineFacts, now time.Time) ([]Deadline, error) {
	panic(pending)
}

// ConsecutiveFailures reports whether the DAG must be paused
// (max_consecutive_failed_dag_runs); recent are its newest runs by run_after, newest first.
func ConsecutiveFailures(dag *airflow.DAG, recent []airflow.DagRunState) bool { panic(pending) }
