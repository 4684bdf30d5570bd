package timetable

import "time"

// DataInterval is the period a run covers: Start inclusive, End exclusive. Both
// are equal for a run that covers no time. The zone of the times is kept where
// Airflow keeps it, because backfill run ids show it.
type DataInterval struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Exact returns the empty interval at t.
func Exact(t time.Time) DataInterval { return DataInterval{Start: t, End: t} }

// RunInfo says when a run may start and what it covers.
type RunInfo struct {
	// LogicalDate is nil for a run made for assets and for a manual run asked
	// for without one; otherwise it is the start of the interval, unless the
	// user gave another.
	LogicalDate *time.Time `json:"logical_date"`
	// DataInterval is nil exactly where LogicalDate is.
	DataInterval *DataInterval `json:"data_interval"`
	// RunAfter is the earliest moment the run may start; the run id shows it.
	RunAfter time.Time `json:"run_after"`
}

// run returns the info of a scheduled run over start to end.
func run(start, end time.Time) *RunInfo {
	return &RunInfo{
		LogicalDate:  &start,
		DataInterval: &DataInterval{Start: start, End: end},
		RunAfter:     end,
	}
}

// Restriction bounds the runs of a DAG; see [Restrict].
type Restriction struct {
	Earliest *time.Time `json:"earliest"`
	Latest   *time.Time `json:"latest"` // inclusive
	Catchup  bool       `json:"catchup"`
}

// Timetable is one of Airflow's built-in timetables. A user's own timetable
// needs Python and is reported as *UnknownTimetableError by Parse.
type Timetable interface {
	// Class is Airflow's class name, such as "CronTriggerTimetable".
	Class() string
	// Summary is the short text of the schedule column.
	Summary() string
	// Description is a sentence for users; often "".
	Description() string
	// Periodic reports whether the DAG can be backfilled.
	Periodic() bool
	// CanBeScheduled is false for the schedule None only.
	CanBeScheduled() bool
	// ActiveRunsLimit caps max_active_runs; nil is no limit.
	ActiveRunsLimit() *int
	// RunOrdering names the run columns that order the runs in views.
	RunOrdering() []string
	// AssetCondition is the condition as decoded from JSON, opaque here; nil
	// for timetables that wait for no asset.
	AssetCondition() any
	// Validate makes Airflow's check at load time. The error is an *Error.
	Validate(now time.Time) error
	// NextRunInfo returns the run after last, the interval of the newest
	// automated run (nil: there was none), or nil when none is to come under r
	// as of now. An *Error says that the computation failed; Airflow logs it and
	// acts as if there were no next run, but asks again later.
	NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error)
	// InferManualDataInterval returns the interval of a manual run at runAfter.
	// The error is an *Error (a cron that never fires).
	InferManualDataInterval(runAfter time.Time) (DataInterval, error)

	// importPath is Airflow's path of the core class.
	importPath() string
	// serialize returns the fields of the serialized form.
	serialize() map[string]any
}

// Error is a failure with Airflow's exception class.
type Error struct {
	// Stage is where loading stopped; "" for a failure while computing runs.
	Stage Stage `json:"stage,omitempty"`
	// Class is the exception class without its module.
	Class   string `json:"class"`
	Message string `json:"message"`
}

// Error returns Airflow's message.
func (e *Error) Error() string { return e.Message }

// Stage is the point of a DAG file's load, or of a request, at which an error
// shows.
type Stage string

// The stages in the order in which Airflow passes them. An error at any but
// StageBackfill makes the DAG file an import error.
const (
	StageConstruct   Stage = "construct"
	StageValidate    Stage = "validate"
	StageSerialize   Stage = "serialize"
	StageDeserialize Stage = "deserialize"
	StageBackfill    Stage = "backfill"
)

var (
	orderByInterval    = []string{"data_interval_end", "logical_date"}
	orderByLogicalDate = []string{"logical_date"}
)

// automated is what the timetables driven by time alone have in common.
type automated struct{}

func (automated) Periodic() bool        { return true }
func (automated) CanBeScheduled() bool  { return true }
func (automated) ActiveRunsLimit() *int { return nil }
func (automated) RunOrdering() []string { return append([]string(nil), orderByInterval...) }
func (automated) AssetCondition() any   { return nil }

// later returns the later of two times, the first when equal.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
