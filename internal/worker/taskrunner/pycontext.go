package taskrunner

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
)

// ContextExtra is what a callback's context holds besides the task's.
type ContextExtra struct {
	State      string // of the instance, "" = running
	Exception  error
	ErrorClass string // the Python class of Exception, "" = derived from it
	Reason     string // of a DAG callback
	Hostname   string
	Allowed    []string
}

type pyAsset struct {
	Type  string          `json:"__type"`
	Name  string          `json:"name,omitempty"`
	URI   string          `json:"uri,omitempty"`
	Group string          `json:"group,omitempty"`
	Extra json.RawMessage `json:"extra,omitempty"`
}

type pyError struct {
	Class   string `json:"class"`
	Message string `json:"message"`
}

type pyTask struct {
	TaskType     string           `json:"task_type"`
	OperatorName string           `json:"operator_name"`
	Owner        string           `json:"owner"`
	Retries      int              `json:"retries"`
	TriggerRule  string           `json:"trigger_rule"`
	Pool         string           `json:"pool"`
	Queue        string           `json:"queue"`
	DocMD        string           `json:"doc_md,omitempty"`
	Upstream     []airflow.TaskID `json:"upstream_task_ids"`
	Downstream   []airflow.TaskID `json:"downstream_task_ids"`
}

type pyDag struct {
	Tags        []string `json:"tags"`
	Description string   `json:"description,omitempty"`
	Timezone    string   `json:"timezone"`
	Fileloc     string   `json:"fileloc,omitempty"`
	DisplayName string   `json:"dag_display_name"`
}

type pyContext struct {
	DagID                 airflow.DagID        `json:"dag_id"`
	RunID                 airflow.RunID        `json:"run_id"`
	TaskID                airflow.TaskID       `json:"task_id,omitempty"`
	MapIndex              int                  `json:"map_index"`
	TryNumber             int                  `json:"try_number"`
	MaxTries              int                  `json:"max_tries"`
	State                 string               `json:"state,omitempty"`
	Hostname              string               `json:"hostname,omitempty"`
	LogURL                string               `json:"log_url,omitempty"`
	StartDate             *time.Time           `json:"start_date,omitempty"`
	FirstReschedule       *time.Time           `json:"first_reschedule_date,omitempty"`
	RescheduleCount       int                  `json:"reschedule_count"`
	ExpandedTICount       *int                 `json:"expanded_ti_count"`
	MapIndexTemplate      string               `json:"map_index_template,omitempty"`
	KeyStr                string               `json:"task_instance_key_str,omitempty"`
	DagDir                string               `json:"dag_dir,omitempty"`
	DagRun                airflow.DagRun       `json:"dag_run"`
	Dag                   pyDag                `json:"dag"`
	Task                  *pyTask              `json:"task,omitempty"`
	Params                any                  `json:"params"`
	Inlets                []pyAsset            `json:"inlets,omitempty"`
	Outlets               []pyAsset            `json:"outlets,omitempty"`
	InletEvents           []airflow.AssetEvent `json:"inlet_events,omitempty"`
	TriggeringAssetEvents []airflow.AssetEvent `json:"triggering_asset_events,omitempty"`
	Exception             *pyError             `json:"exception,omitempty"`
	Reason                string               `json:"reason,omitempty"`
	AllowedClasses        []string             `json:"allowed_classes,omitempty"`
}

func pyAssets(refs []airflow.AssetRef) []pyAsset {
	out := make([]pyAsset, len(refs))
	for i, r := range refs {
		out[i] = pyAsset{r.Type, r.Name, r.URI, r.Group, r.Extra}
	}
	return out
}

// PythonContext returns the context of Python code, for python/runtime. tc.Task
// is nil for the callbacks of a DAG.
func PythonContext(tc *worker.TaskContext, mapIndex int, x ContextExtra) (json.RawMessage, error) {
	c := pyContext{
		DagID: tc.DAG.DagID, RunID: tc.Run.RunID, MapIndex: mapIndex, TryNumber: tc.TryNumber, MaxTries: tc.MaxTries,
		State: x.State, Hostname: x.Hostname, LogURL: tc.LogURL, FirstReschedule: tc.FirstRescheduleStart,
		RescheduleCount: tc.RescheduleCount, DagDir: dagDir(tc), DagRun: tc.Run,
		Dag:         pyDag{tc.DAG.Tags, tc.DAG.Description, tc.DAG.Timezone, tc.DAG.RelativeFileloc, tc.DAG.DagDisplayName},
		InletEvents: tc.InletEvents, TriggeringAssetEvents: tc.TriggeringAssetEvents, Reason: x.Reason, AllowedClasses: x.Allowed,
	}
	if !tc.StartDate.IsZero() {
		c.StartDate = &tc.StartDate
	}
	if tc.ExpandedTICount > 0 {
		c.ExpandedTICount = &tc.ExpandedTICount
	}
	if t := tc.Task; t != nil {
		c.TaskID, c.MapIndexTemplate = t.TaskID, t.MapIndexTemplate
		c.Task = &pyTask{t.TaskType, t.OperatorName, t.Owner, t.Retries, string(t.TriggerRule), t.Pool, t.Queue, t.DocMD, t.Upstream, t.Downstream}
		c.Inlets, c.Outlets = pyAssets(t.Inlets), pyAssets(t.Outlets)
		day := tc.Run.RunAfter
		if tc.Run.LogicalDate != nil {
			day = *tc.Run.LogicalDate
		}
		c.KeyStr = fmt.Sprintf("%s__%s__%s", tc.DAG.DagID, t.TaskID, day.UTC().Format("20060102"))
	}
	if x.Exception != nil {
		class := x.ErrorClass
		if class == "" {
			class = errorClass(x.Exception)
		}
		c.Exception = &pyError{class, x.Exception.Error()}
	}
	params, err := contextParams(tc)
	if err != nil && x.Exception == nil && x.Reason == "" {
		return nil, err
	}
	if err == nil { // a callback of invalid params still runs, without them
		c.Params = serde.Plain(params)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("context of %s: %w", tc.DAG.DagID, err)
	}
	return b, nil
}
