package airflow

import (
	"encoding/json"
	"time"
)

// DAG is one version of a DAG as read from its serialized form (ParseDAG).
// It is immutable after parsing and may be shared between goroutines.
type DAG struct {
	DagID           DagID
	DagDisplayName  string
	Description     string
	DocMD           string
	Fileloc         string // path on the machine that parsed it; never part of the hash
	RelativeFileloc string // path within its bundle
	Tags            []string
	OwnerLinks      map[string]string
	Timezone        string // IANA name or an offset in seconds as text

	// Timetable is the serialized timetable, {"__type": class path, "__var": {...}}.
	Timetable json.RawMessage

	StartDate, EndDate          *time.Time // UTC
	Catchup                     bool
	MaxActiveRuns               int
	MaxActiveTasks              int // per DagRun
	MaxConsecutiveFailedDagRuns int // 0 = off
	DagrunTimeout               time.Duration
	FailFast                    bool
	IsPausedUponCreation        *bool // nil = [core] dags_are_paused_at_creation
	RenderTemplateAsNativeObj   bool
	RerunWithLatestVersion      *bool
	AllowedRunTypes             []DagRunType // nil = all
	HasOnSuccessCallback        bool
	HasOnFailureCallback        bool
	DefaultArgs                 json.RawMessage
	Params                      []Param
	TaskGroup                   *TaskGroup // the root group
	EdgeInfo                    map[TaskID]map[TaskID]EdgeInfo
	Deadlines                   []json.RawMessage
	DagDependencies             json.RawMessage

	// Tasks are in order of definition.
	Tasks []*Task

	// Gust holds what Airflow leaves in the DAG file and a Go worker needs.
	Gust GustExtension

	byID map[TaskID]int
}

// Task returns the task of that id, or nil.
func (d *DAG) Task(id TaskID) *Task {
	if i, ok := d.byID[id]; ok {
		return d.Tasks[i]
	}
	return nil
}

// TaskIndex returns the position of a task in Tasks, or -1.
func (d *DAG) TaskIndex(id TaskID) int {
	if i, ok := d.byID[id]; ok {
		return i
	}
	return -1
}

// EdgeInfo is what authors attach to an edge.
type EdgeInfo struct {
	Label string `json:"label,omitempty"`
}

// Param is one entry of a DAG's or task's params.
type Param struct {
	Name        string
	Default     json.RawMessage // nil if the run's conf must supply it
	Description string
	Schema      json.RawMessage // JSON Schema (draft 2020-12), type tags removed
	Source      string          // "task" for a task's own params
}

// Task is one node of a DAG: an operator with its scheduling attributes. For a
// mapped task the attributes are those of its partial().
type Task struct {
	TaskID       TaskID
	TaskType     string // class name, e.g. BashOperator
	TaskModule   string // import path of the class's module
	OperatorName string // "@task" for decorated ones, else TaskType
	DisplayName  string
	Owner        string
	DocMD        string

	TriggerRule            TriggerRule
	Retries                int
	RetryDelay             time.Duration
	RetryExponentialFactor float64 // 0 or 1 = constant delay; 2.0 is the old "true"
	MaxRetryDelay          time.Duration
	ExecutionTimeout       time.Duration // 0 = none
	Queue                  string
	Executor               string // "" = the installation's default
	ExecutorConfig         json.RawMessage
	Pool                   string
	PoolSlots              int
	PriorityWeight         int64
	WeightRule             string // a WeightRule or a class path
	DependsOnPast          bool
	WaitForDownstream      bool
	// IgnoreFirstDependsOnPast is nil where the file leaves it to
	// [scheduler] ignore_first_depends_on_past_by_default.
	IgnoreFirstDependsOnPast         *bool
	WaitForPastDependsBeforeSkipping bool
	MaxActiveTIsPerDag               int // 0 = no limit
	MaxActiveTIsPerDagRun            int // 0 = no limit
	StartDate, EndDate               *time.Time
	IsSetup, IsTeardown              bool
	OnFailureFailDagrun              bool
	IsSensor                         bool
	IsEmpty                          bool // an EmptyOperator: no worker needed
	CanSkipDownstream                bool // branch and short-circuit family
	DoXComPush                       bool
	MultipleOutputs                  bool
	// Email are the addresses that are told of failures and retries, where
	// EmailOnFailure and EmailOnRetry say so.
	Email                        []string
	EmailOnFailure, EmailOnRetry bool
	// RunAsUser is the system user that the task's processes run as, "" for the server's.
	RunAsUser            string
	MapIndexTemplate     string
	Downstream           []TaskID // sorted; the only stored edges
	Upstream             []TaskID // inverse of Downstream, sorted
	Inlets, Outlets      []AssetRef
	HasOnExecuteCallback bool
	HasOnSuccessCallback bool
	HasOnFailureCallback bool
	HasOnRetryCallback   bool
	HasOnSkippedCallback bool
	TemplateFields       []string
	Params               []Param
	NeedsExpansion       bool
	IsMapped             bool
	Expand               *ExpandInput // of this task itself; nil for members of mapped groups
	PartialKwargs        map[string]json.RawMessage
	Group                GroupID // innermost task group
	StartFromTrigger     bool
	StartTriggerArgs     json.RawMessage
	Raw                  map[string]json.RawMessage // every field as serialized
}

// ClassPath returns the operator's import path.
func (t *Task) ClassPath() string {
	if t.TaskModule == "" {
		return t.TaskType
	}
	return t.TaskModule + "." + t.TaskType
}

// Mails reports whether a failure (or, with retry, one that is tried again) is
// told by mail.
func (t *Task) Mails(retry bool) bool {
	return len(t.Email) > 0 && (retry && t.EmailOnRetry || !retry && t.EmailOnFailure)
}

// Notifies reports whether a failure, or a retry, has callbacks or is told by mail.
func (t *Task) Notifies(retry bool) bool {
	return retry && t.HasOnRetryCallback || !retry && t.HasOnFailureCallback || t.Mails(retry)
}

// TaskGroup is a node of the tree of task groups.
type TaskGroup struct {
	GroupID       GroupID // "" for the root
	DisplayName   string
	Tooltip       string
	PrefixGroupID bool
	IsMapped      bool
	Expand        *ExpandInput // of a mapped group
	// Children are in order of definition; each is a task or a group.
	Children []GroupChild

	UpstreamGroupIDs, DownstreamGroupIDs []GroupID
	UpstreamTaskIDs, DownstreamTaskIDs   []TaskID
	Raw                                  map[string]json.RawMessage
}

// GroupChild is either a task or a nested group.
type GroupChild struct {
	TaskID TaskID     // set for a task
	Group  *TaskGroup // set for a group
}

// Walk calls f for g and every group below it, parents first, in order of definition.
func (g *TaskGroup) Walk(f func(g, parent *TaskGroup)) { g.walk(nil, f) }

func (g *TaskGroup) walk(parent *TaskGroup, f func(g, parent *TaskGroup)) {
	f(g, parent)
	for _, c := range g.Children {
		if c.Group != nil {
			c.Group.walk(g, f)
		}
	}
}

// ExpandKind is the form of an expansion input.
type ExpandKind string

// The two forms of expansion: expand(...) and expand_kwargs(...).
const (
	ExpandDictOfLists ExpandKind = "dict-of-lists"
	ExpandListOfDicts ExpandKind = "list-of-dicts"
)

// ExpandInput is what a mapped task or group expands over.
type ExpandInput struct {
	Kind ExpandKind
	// Args are the mapped arguments in order of definition (the first varies
	// slowest). A list-of-dicts input has exactly one, with an empty Name.
	Args []ExpandArg
}

// ExpandArg is one mapped argument.
type ExpandArg struct {
	Name    string
	Literal json.RawMessage // a literal list or dict (type tags kept), nil for XCom sources
	Length  int             // length of Literal
	XCom    *XComRef        // nil for literals
}

// XComRefType is the operation of an XComRef.
type XComRefType string

// The operations an XComRef can stand for.
const (
	XComPlain  XComRefType = ""
	XComMap    XComRefType = "map"
	XComZip    XComRefType = "zip"
	XComConcat XComRefType = "concat"
)

// XComRef is a serialized XComArg.
type XComRef struct {
	Type      XComRefType
	TaskID    TaskID // XComPlain
	Key       string // XComPlain
	Args      []*XComRef
	HasFill   bool            // XComZip: padded to the longest
	FillValue json.RawMessage // XComZip
	Callables []string        // XComMap: source text, for display
	// Literal is a literal operand of zip or concat; Length is its length.
	Literal json.RawMessage
	Length  int
}

// Sources calls f for every plain reference below x, in order.
func (x *XComRef) Sources(f func(TaskID, string)) {
	if x == nil {
		return
	}
	if x.Type == XComPlain && x.Literal == nil {
		f(x.TaskID, x.Key)
	}
	for _, a := range x.Args {
		a.Sources(f)
	}
}

// AssetRef is an inlet or outlet: an asset, an alias, or a reference by name or uri.
type AssetRef struct {
	Type  string          `json:"__type"` // asset, asset_alias, asset_ref
	Name  string          `json:"name,omitempty"`
	URI   string          `json:"uri,omitempty"`
	Group string          `json:"group,omitempty"`
	Extra json.RawMessage `json:"extra,omitempty"`
}

// GustExtension is the part of the document that Airflow has no place for: what
// a Go worker needs to run the operators of a YAML DAG without parsing the file
// again. It sits beside "dag" in the envelope and is part of the version hash.
type GustExtension struct {
	// Producer names who wrote the document: "yaml", "light" or "full".
	Producer string `json:"producer,omitempty"`
	// Operators holds, per task, the constructor's arguments.
	Operators map[TaskID]OperatorSpec `json:"operators,omitempty"`
	// Callbacks of the DAG itself by name (on_success_callback, on_failure_callback).
	Callbacks map[string][]json.RawMessage `json:"callbacks,omitempty"`
	// TemplateSearchpath, Macros … of the DAG, as authored.
	TemplateSearchpath     []string                   `json:"template_searchpath,omitempty"`
	TemplateUndefined      string                     `json:"template_undefined,omitempty"`
	JinjaEnvironmentKwargs json.RawMessage            `json:"jinja_environment_kwargs,omitempty"`
	UserDefinedMacros      map[string]json.RawMessage `json:"user_defined_macros,omitempty"`
	UserDefinedFilters     map[string]json.RawMessage `json:"user_defined_filters,omitempty"`
	// Warnings are shown with the DAG, e.g. an operator Gust cannot run yet.
	Warnings []string `json:"warnings,omitempty"`
	// SourceFiles are the bundle-relative paths this DAG depends on (its file,
	// callables, scripts, SQL), for the bundle snapshot.
	SourceFiles []string `json:"source_files,omitempty"`
}

// OperatorSpec is an operator call: the class as authored and its arguments.
// Values are JSON with Airflow's type tags ({"__type":"timedelta","__var":45});
// callables are {"__type":"callable","__var":"module.name"} or
// {"__type":"callable","__var":{"file":"…","name":"…"}}.
type OperatorSpec struct {
	Class     string                       `json:"class"`
	Kwargs    map[string]json.RawMessage   `json:"kwargs,omitempty"`
	Callbacks map[string][]json.RawMessage `json:"callbacks,omitempty"`
}
