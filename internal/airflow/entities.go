package airflow

import (
	"encoding/json"
	"time"
)

// DefaultPool is the pool of tasks that name none; it cannot be deleted.
const DefaultPool = "default_pool"

// UnlimitedSlots is the size of a pool without a limit.
const UnlimitedSlots = -1

// DagRun is one run of a DAG: what the API shows and what a worker may read.
// The states of its task instances are kept by the scheduler core (RunState).
type DagRun struct {
	DagID                  DagID           `json:"dag_id"`
	RunID                  RunID           `json:"dag_run_id"`
	RunType                DagRunType      `json:"run_type"`
	State                  DagRunState     `json:"state"`
	LogicalDate            *time.Time      `json:"logical_date"`
	DataIntervalStart      *time.Time      `json:"data_interval_start"`
	DataIntervalEnd        *time.Time      `json:"data_interval_end"`
	RunAfter               time.Time       `json:"run_after"`
	QueuedAt               *time.Time      `json:"queued_at"`
	StartDate              *time.Time      `json:"start_date"`
	EndDate                *time.Time      `json:"end_date"`
	LastSchedulingDecision *time.Time      `json:"last_scheduling_decision"`
	TriggeredBy            TriggeredBy     `json:"triggered_by"`
	TriggeringUserName     string          `json:"triggering_user_name,omitempty"`
	Conf                   json.RawMessage `json:"conf,omitempty"`
	Note                   string          `json:"note,omitempty"`
	BackfillID             int64           `json:"backfill_id,omitempty"`
	BackfillOrdinal        int             `json:"backfill_ordinal,omitempty"` // 1-based, 0 = not of a backfill
	ClearNumber            int             `json:"clear_number,omitempty"`
	DagVersion             int             `json:"dag_version"`
	DagHash                string          `json:"dag_hash"`    // content hash of the pinned DAG version
	BundleHash             string          `json:"bundle_hash"` // content hash of the pinned bundle snapshot
	ConsumedAssetEvents    []string        `json:"consumed_asset_events,omitempty"`
	// RequestID is the request that created the run, "" if it had no id: repeating
	// it gets this run, where another request for the same run_id is refused.
	RequestID string `json:"request_id,omitempty"`
	// MetaVersion is the version of the run's state that the state and dates above
	// come from, so that an older step, late, does not overwrite them.
	MetaVersion int64 `json:"meta_version,omitempty"`
}

// TaskInstance is one instance of a task in a run, as the API and CLI show it.
type TaskInstance struct {
	TaskInstanceKey
	State            TIState    `json:"state"`
	TryNumber        int        `json:"try_number"`
	MaxTries         int        `json:"max_tries"`
	Operator         string     `json:"operator"`
	Queue            string     `json:"queue"`
	Executor         string     `json:"executor,omitempty"`
	Pool             string     `json:"pool"`
	PoolSlots        int        `json:"pool_slots"`
	PriorityWeight   int64      `json:"priority_weight"`
	ScheduledWhen    *time.Time `json:"scheduled_when"`
	QueuedWhen       *time.Time `json:"queued_when"`
	StartDate        *time.Time `json:"start_date"`
	EndDate          *time.Time `json:"end_date"`
	Duration         *float64   `json:"duration"` // seconds
	Hostname         string     `json:"hostname"`
	PID              int        `json:"pid"`
	RenderedMapIndex string     `json:"rendered_map_index,omitempty"`
	Note             string     `json:"note,omitempty"`
	// Reason says why an unfinished instance is not moving, in a sentence.
	Reason string `json:"reason,omitempty"`
}

// XCom is one value pushed by a task instance.
type XCom struct {
	TaskInstanceKey
	Key         string          `json:"key"`
	Value       json.RawMessage `json:"value"`
	Timestamp   time.Time       `json:"timestamp"`
	LogicalDate *time.Time      `json:"logical_date"`
}

// XComReturnKey is the key of what a task returns.
const XComReturnKey = "return_value"

// Pool limits how many task instances run at once across all runs.
type Pool struct {
	Name            string `json:"name"`
	Slots           int    `json:"slots"` // UnlimitedSlots = no limit
	Description     string `json:"description"`
	IncludeDeferred bool   `json:"include_deferred"`
}

// Variable is a named text that DAGs read.
type Variable struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Description string `json:"description"`
}

// Connection is how to reach an external system.
type Connection struct {
	ConnID      string `json:"connection_id"`
	ConnType    string `json:"conn_type"`
	Description string `json:"description"`
	Host        string `json:"host"`
	Login       string `json:"login"`
	Password    string `json:"password"`
	Schema      string `json:"schema"`
	Port        int    `json:"port"`  // 0 = none
	Extra       string `json:"extra"` // JSON text or ""
}

// Asset is something that tasks produce and DAGs wait for.
type Asset struct {
	Name  string          `json:"name"`
	URI   string          `json:"uri"`
	Group string          `json:"group"`
	Extra json.RawMessage `json:"extra,omitempty"`
}

// AssetEvent is one update of an asset.
type AssetEvent struct {
	ID             string          `json:"id"`
	AssetName      string          `json:"asset_name"`
	AssetURI       string          `json:"asset_uri"`
	Extra          json.RawMessage `json:"extra,omitempty"`
	SourceDagID    DagID           `json:"source_dag_id,omitempty"`
	SourceRunID    RunID           `json:"source_run_id,omitempty"`
	SourceTaskID   TaskID          `json:"source_task_id,omitempty"`
	SourceMapIndex int             `json:"source_map_index"`
	Timestamp      time.Time       `json:"timestamp"`
}

// ReprocessBehavior says what a backfill does with runs that exist.
type ReprocessBehavior string

// The behaviours of a backfill towards existing runs.
const (
	ReprocessNone      ReprocessBehavior = "none"
	ReprocessFailed    ReprocessBehavior = "failed"
	ReprocessCompleted ReprocessBehavior = "completed"
)

// Backfill is a set of runs over a range of logical dates.
type Backfill struct {
	ID                 int64             `json:"id"`
	DagID              DagID             `json:"dag_id"`
	FromDate           time.Time         `json:"from_date"`
	ToDate             time.Time         `json:"to_date"`
	DagRunConf         json.RawMessage   `json:"dag_run_conf"`
	IsPaused           bool              `json:"is_paused"`
	ReprocessBehavior  ReprocessBehavior `json:"reprocess_behavior"`
	Reverse            bool              `json:"run_backwards"`
	RunOnLatestVersion bool              `json:"run_on_latest_version"`
	MaxActiveRuns      int               `json:"max_active_runs"`
	CreatedAt          time.Time         `json:"created_at"`
	UpdatedAt          time.Time         `json:"updated_at"`
	CompletedAt        *time.Time        `json:"completed_at"`
	TriggeringUserName string            `json:"triggering_user_name,omitempty"`
}

// DagVersion is one version of a DAG's document.
type DagVersion struct {
	DagID      DagID     `json:"dag_id"`
	Number     int       `json:"version_number"`
	Hash       string    `json:"dag_hash"`
	BundleHash string    `json:"bundle_hash"`
	CreatedAt  time.Time `json:"created_at"`
}

// DagModel is what is known of a DAG besides its document: whether it is
// paused, where it came from, when it runs next.
type DagModel struct {
	DagID           DagID      `json:"dag_id"`
	IsPaused        bool       `json:"is_paused"`
	IsStale         bool       `json:"is_stale"` // its file no longer defines it
	HasImportErrors bool       `json:"has_import_errors"`
	RelativeFileloc string     `json:"relative_fileloc"`
	Fileloc         string     `json:"fileloc"`
	LatestVersion   int        `json:"latest_version"`
	LatestHash      string     `json:"latest_hash"`
	BundleHash      string     `json:"bundle_hash"`
	LastParsedTime  *time.Time `json:"last_parsed_time"`
	// Summary for lists, so that they need no document.
	DagDisplayName       string   `json:"dag_display_name"`
	Description          string   `json:"description"`
	Owners               []string `json:"owners"`
	Tags                 []string `json:"tags"`
	TimetableSummary     string   `json:"timetable_summary"`
	TimetableDescription string   `json:"timetable_description"`
	// Schedule state (PlanRuns). LastAutomated* is the data interval of the newest
	// scheduled run, from which the next one follows.
	LastAutomatedIntervalStart  *time.Time `json:"last_automated_interval_start,omitempty"`
	LastAutomatedIntervalEnd    *time.Time `json:"last_automated_interval_end,omitempty"`
	NextDagRunLogicalDate       *time.Time `json:"next_dagrun_logical_date"`
	NextDagRunDataIntervalStart *time.Time `json:"next_dagrun_data_interval_start"`
	NextDagRunDataIntervalEnd   *time.Time `json:"next_dagrun_data_interval_end"`
	NextDagRunRunAfter          *time.Time `json:"next_dagrun_run_after"`
	// NextDagRunCreateAfter is when the next run may be created; nil while
	// max_active_runs holds it back or nothing is scheduled.
	NextDagRunCreateAfter *time.Time `json:"next_dagrun_create_after"`
	// LastAssetRunAfter is the run_after of the newest asset-triggered run: the
	// next one consumes the events after it.
	LastAssetRunAfter *time.Time `json:"last_asset_run_after,omitempty"`
	// PendingAssetRun is an asset-triggered run that was decided and may not have
	// been created yet: nothing else is decided before it is.
	PendingAssetRun *PendingAssetRun `json:"pending_asset_run,omitempty"`
}

// PendingAssetRun is an asset-triggered run between its decision and its creation.
type PendingAssetRun struct {
	RunID    RunID     `json:"run_id"`
	RunAfter time.Time `json:"run_after"`
	// Consumed are the ids of the events it consumes, oldest first.
	Consumed []string `json:"consumed"`
	// Seen are the ids of the events that waited when it was decided, consumed or
	// not: they do not ask for another run.
	Seen []string `json:"seen,omitempty"`
}

// ImportError is why a DAG file could not be loaded.
type ImportError struct {
	Filename  string    `json:"filename"` // bundle-relative path
	Timestamp time.Time `json:"timestamp"`
	Problems  []Problem `json:"problems"`
	DagIDs    []DagID   `json:"dag_ids,omitempty"` // DAGs of that file that keep their last good version
}
