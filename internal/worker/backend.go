package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Dispatch is the queue message that starts a task instance: keys, and what does
// not change as long as they may start it, so that an old message can do no harm.
type Dispatch struct {
	Key airflow.TaskInstanceKey `json:"key"`
	// DispatchSeq grows with every dispatch of the instance: tries, reschedules,
	// resumptions from deferral and requeues.
	DispatchSeq uint32 `json:"dispatch_seq"`
	Queue       string `json:"queue,omitempty"`
	Executor    string `json:"executor,omitempty"`
	// Offer spares the claim a look at the state of the run, where many schedulers
	// share a store.
	Offer Offer `json:"offer,omitzero"`
}

// Offer is what a claim needs to know of a run's state, as of the step that
// queued the dispatch: another state takes another dispatch.
type Offer struct {
	TryNumber       int `json:"try_number"`
	MaxTries        int `json:"max_tries,omitempty"`
	ExpandedTICount int `json:"expanded_ti_count,omitempty"`
	ClearNumber     int `json:"clear_number,omitempty"`
	// Times in Unix microseconds: when the run started, and when the try was
	// scheduled and queued.
	StartDate int64 `json:"start_date,omitempty"`
	Scheduled int64 `json:"scheduled,omitempty"`
	Queued    int64 `json:"queued,omitempty"`
	// Wide says that reports on the run are gathered: it has very many instances.
	Wide bool `json:"wide,omitempty"`
	// DagHash and DagVersion are the DAG version that the run was given by the step
	// which queued the dispatch; empty if INFO had it before.
	DagHash    string `json:"dag_hash,omitempty"`
	DagVersion int    `json:"dag_version,omitempty"`
	// Upstreams is TaskContext.UpstreamMapIndexes as JSON: a Dispatch is compared.
	Upstreams string `json:"upstreams,omitempty"`
}

// Made reports whether there is an offer.
func (o Offer) Made() bool { return o.TryNumber > 0 }

// String returns dag/run/task[map]/seq, the value of the environment marker of
// child processes (EnvDispatch); ParseDispatch reads it.
func (d Dispatch) String() string {
	return fmt.Sprintf("%s/%s/%s/%d/%d", d.Key.DagID, d.Key.RunID, d.Key.TaskID, d.Key.MapIndex, d.DispatchSeq)
}

// ParseDispatch reads what Dispatch.String wrote. Ids contain no slash.
func ParseDispatch(s string) (Dispatch, error) {
	p := strings.Split(s, "/")
	if len(p) != 5 {
		return Dispatch{}, fmt.Errorf("dispatch %q: expected dag/run/task/map_index/dispatch_seq", s)
	}
	mi, err1 := strconv.Atoi(p[3])
	seq, err2 := strconv.ParseUint(p[4], 10, 32)
	if err1 != nil || err2 != nil {
		return Dispatch{}, fmt.Errorf("dispatch %q: map_index and dispatch_seq must be numbers", s)
	}
	return Dispatch{
		Key:         airflow.TaskInstanceKey{DagID: airflow.DagID(p[0]), RunID: airflow.RunID(p[1]), TaskID: airflow.TaskID(p[2]), MapIndex: mi},
		DispatchSeq: uint32(seq),
	}, nil
}

// Identity says which process runs a dispatch.
type Identity struct {
	Hostname string `json:"hostname"`
	PID      int    `json:"pid"`
	Unixname string `json:"unixname"`
}

// SupersededError is ErrSuperseded with its cause. A Backend returns it (or
// anything that wraps airflow.ErrSuperseded) to stop a worker.
type SupersededError struct {
	// Cause is shown in the task's log, e.g. "cleared by admin" or "the run was
	// marked failed".
	Cause string
}

// Error returns the cause.
func (e *SupersededError) Error() string { return "dispatch superseded: " + e.Cause }

// Unwrap makes errors.Is(err, airflow.ErrSuperseded) true.
func (e *SupersededError) Unwrap() error { return airflow.ErrSuperseded }

// Backend is the control plane as a worker sees it. All methods may be called
// concurrently. Errors wrap the sentinels of package airflow: ErrNotFound,
// ErrAlreadyExists, ErrSuperseded, ErrNotAllowed; ErrThrottled and
// ErrUnavailable are retried by the worker, everything else is not. Every write
// must be idempotent: the worker repeats a call whose answer it did not get.
type Backend interface {
	// Claim starts a dispatch; at most one claim of a dispatch ever succeeds,
	// except that the same Identity may repeat it. ErrSuperseded: the dispatch
	// may no longer start and its message is to be dropped. Unless it resumes a
	// deferral, a claim forgets the XComs of an earlier try.
	Claim(ctx context.Context, d Dispatch, who Identity) (*TaskContext, error)
	// Heartbeat extends the lease. ErrSuperseded (with a cause, see
	// SupersededError) means stop now and report nothing: the instance was
	// cleared or marked, or its run ended.
	Heartbeat(ctx context.Context, d Dispatch, who Identity) error
	// Finish ends the dispatch. ErrSuperseded: somebody else decided meanwhile.
	// The same report may be sent again. airflow.ErrTooLarge: the XComs exceed
	// what can be stored.
	Finish(ctx context.Context, d Dispatch, r *Report) error
	// SetXCom stores values of a running dispatch ahead of its report: those
	// too big for it, and those pushed by a task that runs on.
	SetXCom(ctx context.Context, d Dispatch, x []XComPush) error
	// TriggerDagRun creates a run. ErrAlreadyExists: a run with that run_id or
	// logical date exists (its key is returned with the error, if known), unless
	// RequestID is the one that created it: then that run is returned.
	TriggerDagRun(ctx context.Context, d Dispatch, r TriggerRequest) (*airflow.DagRun, error)
	// ClearDagRun clears all instances of a run (reset_dag_run).
	ClearDagRun(ctx context.Context, d Dispatch, dag airflow.DagID, run airflow.RunID) error
	// SetVariable creates or replaces, DeleteVariable removes a variable.
	SetVariable(ctx context.Context, d Dispatch, v airflow.Variable) error
	DeleteVariable(ctx context.Context, d Dispatch, key string) error
	Reader
}

// Reader is what tasks, templates and callbacks may look up.
type Reader interface {
	// GetXCom returns one value as stored, or ErrNotFound.
	GetXCom(ctx context.Context, q XComQuery) (json.RawMessage, error)
	// ListXCom returns the values of one key over all map indexes of a task
	// that have it, by map_index; an unmapped task has at most one, at
	// airflow.Unmapped. With IncludePriorDates, those of the newest run that
	// has any.
	ListXCom(ctx context.Context, q XComQuery) ([]MappedXCom, error)
	// GetVariable and GetConnection follow the lookup order of secrets
	// backends; ErrNotFound if there is none.
	GetVariable(ctx context.Context, key string) (airflow.Variable, error)
	GetConnection(ctx context.Context, connID string) (airflow.Connection, error)
	// GetDagRun returns a run, or ErrNotFound.
	GetDagRun(ctx context.Context, dag airflow.DagID, run airflow.RunID) (*airflow.DagRun, error)
	// PreviousDagRun returns the newest run of the DAG with a logical date
	// before that of the given run, in the given state if that is not "";
	// ErrNotFound if there is none or the run has no logical date.
	PreviousDagRun(ctx context.Context, of airflow.DagRun, state airflow.DagRunState) (*airflow.DagRun, error)
	// FindDagRuns returns the runs of q, by logical date (by run_after for those without).
	FindDagRuns(ctx context.Context, q RunQuery) ([]airflow.DagRun, error)
	// TaskStates returns the states of instances by run and then by
	// airflow.TIName. A run that does not exist is absent.
	TaskStates(ctx context.Context, q TaskStatesQuery) (map[airflow.RunID]map[string]airflow.TIState, error)
	// GetDag returns what is known of a DAG (paused, or gone), or ErrNotFound.
	GetDag(ctx context.Context, dag airflow.DagID) (*airflow.DagModel, error)
	// GetDagVersion returns the current version of a DAG, for the tasks of a
	// group in another DAG; ErrNotFound if there is none.
	GetDagVersion(ctx context.Context, dag airflow.DagID) (*airflow.DAG, error)
	// NextDataInterval returns the data interval of the run that the DAG's
	// timetable makes after the given run; ok is false if there is none.
	NextDataInterval(ctx context.Context, dag *airflow.DAG, after airflow.DagRun) (start, end time.Time, ok bool, err error)
}

// XComQuery names one value, or with ListXCom all map indexes of a task.
type XComQuery struct {
	DagID    airflow.DagID  `json:"dag_id"`
	RunID    airflow.RunID  `json:"run_id"`
	TaskID   airflow.TaskID `json:"task_id"`
	Key      string         `json:"key"`
	MapIndex int            `json:"map_index"` // ignored by ListXCom
	// IncludePriorDates also searches runs with an earlier logical date, newest first.
	IncludePriorDates bool `json:"include_prior_dates,omitempty"`
}

// MappedXCom is the value of one map index.
type MappedXCom struct {
	MapIndex int             `json:"map_index"`
	Value    json.RawMessage `json:"value"`
}

// XComPush is one value pushed by the running instance.
type XComPush struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// RunQuery selects runs of one DAG. Dates and ids are alternatives; with
// neither all runs match. Limit 0 means no limit.
type RunQuery struct {
	DagID        airflow.DagID         `json:"dag_id"`
	RunIDs       []airflow.RunID       `json:"run_ids,omitempty"`
	LogicalDates []time.Time           `json:"logical_dates,omitempty"`
	States       []airflow.DagRunState `json:"states,omitempty"`
	Limit        int                   `json:"limit,omitempty"`
}

// TaskStatesQuery selects instances of one DAG; empty TaskIDs means all tasks.
type TaskStatesQuery struct {
	DagID        airflow.DagID    `json:"dag_id"`
	TaskIDs      []airflow.TaskID `json:"task_ids,omitempty"`
	RunIDs       []airflow.RunID  `json:"run_ids,omitempty"`
	LogicalDates []time.Time      `json:"logical_dates,omitempty"`
}

// TriggerRequest asks for a run of another DAG.
type TriggerRequest struct {
	DagID airflow.DagID `json:"dag_id"`
	// RunID is "" for a generated one.
	RunID       airflow.RunID   `json:"run_id,omitempty"`
	LogicalDate *time.Time      `json:"logical_date"` // nil = a run without one
	RunAfter    time.Time       `json:"run_after"`
	Conf        json.RawMessage `json:"conf,omitempty"`
	Note        string          `json:"note,omitempty"`
	// RequestID makes repeating the request harmless. It is derived from the
	// try, not from the dispatch.
	RequestID string `json:"request_id"`
}

// TaskContext is what Claim hands to the worker: Airflow's TIRunContext plus
// the DAG version the run is pinned to. The worker does not modify it.
type TaskContext struct {
	DAG  *airflow.DAG  `json:"-"`
	Task *airflow.Task `json:"-"` // of DAG
	Run  airflow.DagRun
	// TryNumber counts from 1; MaxTries is the last try that is followed by another.
	TryNumber, MaxTries int
	// ShouldRetry says that a failure of this try would be retried.
	ShouldRetry bool
	// StartDate is when this try first started: kept over reschedules and deferrals.
	StartDate time.Time
	// FirstRescheduleStart is the start of the first poke of this try, nil at
	// the first; RescheduleCount is how often the try was rescheduled.
	FirstRescheduleStart *time.Time
	RescheduleCount      int
	// NextMethod and NextKwargs resume a deferral exactly as the worker wrote
	// them; TriggerEvent is the payload of the event, or null. NextMethod is
	// MethodFail when the trigger failed or its timeout passed; then NextKwargs
	// is {"error": TriggerFailure or TriggerTimeout, "traceback": [...]}.
	NextMethod   string
	NextKwargs   json.RawMessage
	TriggerEvent json.RawMessage
	// ExpandedTICount is the number of instances of a mapped task, 0 if unmapped.
	ExpandedTICount int
	// UpstreamMapIndexes lists, for tasks in a mapped task group, which map
	// indexes of an upstream count for this instance; tasks not listed count whole.
	UpstreamMapIndexes map[airflow.TaskID][]int
	// TriggeringAssetEvents are the events this run consumed.
	TriggeringAssetEvents []airflow.AssetEvent
	// InletEvents are the events of the task's inlets, oldest first.
	InletEvents []airflow.AssetEvent
	// InactiveAssets are inlets and outlets that no DAG declares any more; the
	// task then fails before it starts.
	InactiveAssets []airflow.AssetRef
	// IgnoreConfInParams keeps the run's conf out of params ([core]
	// dag_run_conf_overrides_params = False). It is set where the task runs.
	IgnoreConfInParams bool
	// BundleDir holds the files of the run's bundle snapshot; "" if there are none.
	BundleDir string
	// LogURL is shown to users as ti.log_url.
	LogURL string
}

// The resumption method and the errors of a deferral that did not end in an event.
const (
	MethodFail     = "__fail__"
	TriggerFailure = "Trigger failure"
	TriggerTimeout = "Trigger timeout"
)
