package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// This file holds the signatures that are being filled in, file by file.

const pending = "scheduler: being written"

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

// ConsecutiveFailures reports whether the DAG must be paused
// (max_consecutive_failed_dag_runs); recent are its newest runs by run_after, newest first.
func ConsecutiveFailures(dag *airflow.DAG, recent []airflow.DagRunState) bool { panic(pending) }
