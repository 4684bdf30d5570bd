package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// ChunkSize is the number of instances in a full Chunk.
const ChunkSize = 256

// Header is the part of a DagRun that decisions depend on.
type Header struct {
	DagID       airflow.DagID
	RunID       airflow.RunID
	RunType     airflow.DagRunType
	State       airflow.DagRunState
	LogicalDate *time.Time
	RunAfter    time.Time
	QueuedAt    time.Time
	StartDate   time.Time // when it last became running; zero = never
	EndDate     time.Time
	DagHash     string // content hash of the DAG version the task indexes refer to
	DagVersion  int
	// BackfillID and BackfillOrdinal are 0 outside backfills; the ordinal counts from 1.
	BackfillID      int64
	BackfillOrdinal int
	ClearNumber     int
	// Reason is why the run ended: success, task_failure, all_tasks_deadlocked,
	// timed_out, or marked; "" while it has not.
	Reason Code
	// Deadlines are what is left of the run's deadline alerts, soonest first.
	Deadlines []Deadline
}

// Flags are facts about an instance that fit a bit.
type Flags uint8

// The flags of an instance.
const (
	// FlagXCom: a non-null return_value is stored. Clearing keeps it; the next start deletes it.
	FlagXCom Flags = 1 << iota
	// FlagResume: the next dispatch resumes a deferred task, it does not start a try.
	FlagResume
	// FlagTimedOut: with FlagResume, the trigger timed out: the task must be resumed to fail.
	FlagTimedOut
	// FlagPastMet: the previous run's states have been found good
	// (wait_for_past_depends_before_skipping).
	FlagPastMet
	// FlagCancel: the dispatch outstanding at a worker must stop (restarting, failed by others).
	FlagCancel

	flagPassing // dependencies were met, waits aside, when last examined
	flagDirty   // an input changed since the last fixed point
	flagFresh   // became finished in the pass that is running; never stored
)

// TI is the scheduling state of one task instance. Its position in the run never
// changes: an unexpanded instance becomes index 0 in place.
type TI struct {
	Task        int32 // index in Graph.Tasks; len(Graph.Tasks)+i is RunState.Gone[i]
	MapIndex    int32 // airflow.Unmapped if not mapped or not expanded
	State       airflow.TIState
	Flags       Flags
	TryNumber   uint16 // 0 before the first try
	MaxTries    int16  // last permitted try minus 1
	Requeues    uint8  // times this try was sent again after a queued timeout
	DispatchSeq uint32 // grows with every dispatch: try, reschedule, resumption, requeue

	Scheduled, Queued, Start, End Micros
	// WakeAt is when time alone moves the instance: end of a retry delay, a
	// reschedule date, a trigger's timeout; 0 = never.
	WakeAt Micros
}

// Chunk is a run of at most ChunkSize consecutive instances, the unit in which
// states are stored. Dirty says that its stored form has changed; the caller
// clears it, and RunState.HeaderDirty, once what it encoded is committed.
type Chunk struct {
	TIs   []TI
	Dirty bool
}

// Skipped is what a branching or short-circuiting instance decided: Airflow's
// XCom skipmixin_key.
type Skipped struct {
	// Followed says that Tasks are the ones to keep; otherwise they are the ones to skip.
	Followed bool
	Tasks    []airflow.TaskID
}

// RunState is the scheduling state of one DagRun. It is not safe for concurrent use.
type RunState struct {
	Header Header
	// HeaderDirty says that something outside the chunks changed since it was last encoded.
	HeaderDirty bool
	Chunks      []*Chunk
	// Gone are tasks that have instances here but are not in the DAG version any more.
	Gone []airflow.TaskID

	skips map[int32]Skipped // by position
	// lengths are the recorded lengths of unmapped tasks that something expands over, by task.
	lengths map[int32]int32
	// rescheduleStart is when an instance in reschedule mode was first started in this try, by position.
	rescheduleStart map[int32]Micros

	n      int32
	tasks  []taskState
	counts stateCounts
	run    runSets
}

// Len returns the number of instances.
func (rs *RunState) Len() int { return int(rs.n) }

// At returns the instance at a position. The pointer is valid until the next
// call that changes the run; callers must not change what it points to.
func (rs *RunState) At(pos int) *TI { return rs.ti(int32(pos)) }

func (rs *RunState) ti(pos int32) *TI { return &rs.Chunks[pos/ChunkSize].TIs[pos%ChunkSize] }

// Count returns the number of instances in a state.
func (rs *RunState) Count(s airflow.TIState) int { return int(rs.counts[s]) }

// Unfinished returns the number of instances that are not finished.
func (rs *RunState) Unfinished() int {
	n := 0
	for s, c := range rs.counts {
		if !airflow.TIState(s).Finished() {
			n += int(c)
		}
	}
	return n
}

// TaskID returns the task id of an instance, also of a task that has gone.
func (rs *RunState) TaskID(g *Graph, t *TI) airflow.TaskID {
	if int(t.Task) < len(g.Tasks) {
		return g.Tasks[t.Task].ID
	}
	return rs.Gone[int(t.Task)-len(g.Tasks)]
}

// Key returns the key of the instance at a position.
func (rs *RunState) Key(g *Graph, pos int) airflow.TaskInstanceKey {
	t := rs.At(pos)
	return airflow.TaskInstanceKey{DagID: rs.Header.DagID, RunID: rs.Header.RunID, TaskID: rs.TaskID(g, t), MapIndex: int(t.MapIndex)}
}

// SkipMemory returns what a branching instance decided, if it did.
func (rs *RunState) SkipMemory(pos int) (Skipped, bool) {
	s, ok := rs.skips[int32(pos)]
	return s, ok
}

// MappedLength returns the recorded length of a task's result, -1 if none is recorded.
func (rs *RunState) MappedLength(task int) int {
	if n, ok := rs.lengths[int32(task)]; ok {
		return int(n)
	}
	return -1
}

// RescheduleStart returns when an instance in reschedule mode was first started
// in its current try, zero if it was not.
func (rs *RunState) RescheduleStart(pos int) time.Time { return rs.rescheduleStart[int32(pos)].Time() }
