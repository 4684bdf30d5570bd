package template

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/jinja"
)

// Lookups are what templates may ask the control plane for. A nil function
// behaves as an empty store.
type Lookups struct {
	// Variable returns a variable's text; found is false when there is none.
	Variable func(key string) (value string, found bool, err error)
	// Connection returns a connection, nil when there is none.
	Connection func(connID string) (*Connection, error)
	// XComAll returns the values of all map indexes in order; ok is false
	// when there is no value at all.
	XComAll func(q XComQuery) (values []jinja.Value, ok bool, err error)
	// XComOne returns the value of q.MapIndex; None and absent are the same.
	XComOne func(q XComQuery) (jinja.Value, error)
	// PrevSuccess returns the latest successful run with a smaller logical
	// date, nil when there is none. It is asked only when a template uses it.
	PrevSuccess func() (*PrevRun, error)
}

// XComQuery names XCom values.
type XComQuery struct {
	DagID, RunID, TaskID, Key string
	MapIndex                  int
	IncludePriorDates         bool
}

// PrevRun holds the dates of the previous successful run.
type PrevRun struct {
	DataIntervalStart, DataIntervalEnd, StartDate, EndDate *time.Time
}

// DagRun is the run as the context shows it. Nil times are None.
type DagRun struct {
	DagID, RunID      string
	RunType, State    string
	LogicalDate       *time.Time
	DataIntervalStart *time.Time
	DataIntervalEnd   *time.Time
	RunAfter          time.Time
	StartDate         *time.Time
	EndDate           *time.Time
	ClearNumber       int
	// Conf is the run's conf as JSON; empty or null is None.
	Conf               json.RawMessage
	PartitionKey       *string
	PartitionDate      *time.Time
	TriggeringUserName *string
	Note               *string
	// AssetEvents are the consumed asset events.
	AssetEvents []AssetEvent
}

// AssetEvent is one consumed asset event.
type AssetEvent struct {
	AssetURI, AssetName string
	// Fields is the event as JSON object (id, timestamp, extra, source_*).
	Fields json.RawMessage
}

// TaskInstance is the TI as the context shows it.
type TaskInstance struct {
	ID                  string
	DagID, TaskID       string
	MapIndex            int // -1 when not mapped
	TryNumber, MaxTries int
	StartDate           *time.Time
	State               string
	Hostname            string
	// Attrs are further attributes for templates.
	Attrs map[string]any
}

// Task is the task as the context shows it. Attrs holds the operator's
// attributes (owner, retries, ...) as plain data.
type Task struct {
	TaskID        string
	OperatorClass string
	Attrs         map[string]any
}

// Dag is the DAG as the context shows it.
type Dag struct {
	DagID string
	Attrs map[string]any
}

// Input is everything a context is made of.
type Input struct {
	Dag          Dag
	Task         Task
	TaskInstance TaskInstance
	DagRun       DagRun
	// Params are the effective defaults (DAG's, overridden by the task's) as
	// a JSON object, in order. Keys of the run's conf replace those of the
	// same name.
	Params json.RawMessage
	// IgnoreConfInParams keeps the conf of the run from overriding them.
	IgnoreConfInParams bool
	// Inlets and Outlets as plain data.
	Inlets, Outlets     []any
	TaskRescheduleCount int
	MapIndexTemplate    *string
	ExpandedTICount     *int
	// Extra adds names, such as exception and reason in callbacks, or
	// op_kwargs. They win over Airflow's.
	Extra   map[string]any
	Lookups Lookups
	Sources Sources
}

// Sources are the impure things behind macros.
type Sources struct {
	// Now is the clock; nil makes macros that need it fail.
	Now func() time.Time
	// Random gives numbers in [0, 1).
	Random func() float64
	// UUID makes a random (version 4) UUID.
	UUID func() string
}

// Context is what templates see. It belongs to one task instance and must not
// be used by two renders at a time.
type Context struct {
	vars    map[string]jinja.Value
	sources Sources
}

// Vars are the context's names.
func (c *Context) Vars() map[string]jinja.Value { return c.vars }

// Set adds or replaces a name, as PythonOperator's op_kwargs and callbacks do.
func (c *Context) Set(name string, v any) error {
	x, err := jinja.FromGo(v)
	if err != nil {
		return fmt.Errorf("template context %s: %w", name, err)
	}
	c.vars[name] = x
	return nil
}

// dateUTC is a pendulum DateTime in UTC, None for nil.
func dateUTC(t *time.Time) jinja.Value {
	if t == nil {
		return nil
	}
	return jinja.DateTimeOf(*t, true)
}

// datePlain is the datetime that Airflow's API models carry.
func datePlain(t *time.Time) jinja.Value {
	if t == nil {
		return nil
	}
	return jinja.DateTimeOf(*t, false).WithTZ(jinja.PydanticUTC)
}

func optText(s *string) jinja.Value {
	if s == nil {
		return nil
	}
	return *s
}

// NewContext builds the context of a task instance.
func NewContext(in Input) (*Context, error) {
	c := &Context{vars: map[string]jinja.Value{}, sources: in.Sources}
	conf, err := parseOptional(in.DagRun.Conf)
	if err != nil {
		return nil, fmt.Errorf("dag_run.conf: expected JSON: %w", err)
	}
	paramsValue, err := parseOptional(in.Params)
	if err != nil {
		return nil, fmt.Errorf("params: expected a JSON object: %w", err)
	}
	params, ok := paramsValue.(*jinja.Dict)
	if !ok {
		if paramsValue != nil {
			return nil, fmt.Errorf("params: expected a JSON object, got %s", jinja.TypeName(paramsValue))
		}
		params = jinja.NewDict()
	}
	if d, ok := conf.(*jinja.Dict); ok && !in.IgnoreConfInParams {
		d.Each(func(k, v jinja.Value) bool {
			if _, has := params.Get(k); has {
				params.Set(k, v)
			}
			return true
		})
	}
	run, err := newDagRun(in.DagRun, conf)
	if err != nil {
		return nil, err
	}
	task, err := newEntity(taskType(in.Task.OperatorClass), fmt.Sprintf("<Task(%s): %s>", in.Task.OperatorClass, in.Task.TaskID), in.Task.Attrs)
	if err != nil {
		return nil, fmt.Errorf("task attributes: %w", err)
	}
	task.attrs["task_id"] = in.Task.TaskID
	task.attrs["dag_id"] = in.Dag.DagID
	task.attrs["task_type"] = in.Task.OperatorClass
	task.attrs["operator_name"] = in.Task.OperatorClass
	dag, err := newEntity(&jinja.Type{Module: "airflow.sdk.definitions.dag", Name: "DAG"}, "<DAG: "+in.Dag.DagID+">", in.Dag.Attrs)
	if err != nil {
		return nil, fmt.Errorf("dag attributes: %w", err)
	}
	dag.attrs["dag_id"] = in.Dag.DagID
	task.attrs["dag"] = dag
	ti, err := newTaskInstance(in, task)
	if err != nil {
		return nil, err
	}
	inlets, err := jinja.FromGo(append([]any{}, in.Inlets...))
	if err != nil {
		return nil, fmt.Errorf("inlets: %w", err)
	}
	outlets, err := jinja.FromGo(append([]any{}, in.Outlets...))
	if err != nil {
		return nil, fmt.Errorf("outlets: %w", err)
	}
	events, err := newTriggeringEvents(in.DagRun.AssetEvents)
	if err != nil {
		return nil, err
	}
	vr := jinja.NewDict()
	vr.Set("json", &variableAccessor{get: in.Lookups.Variable, json: true})
	vr.Set("value", &variableAccessor{get: in.Lookups.Variable})
	v := c.vars
	v["dag"], v["task"], v["ti"], v["task_instance"], v["dag_run"] = dag, task, ti, ti, run
	v["run_id"] = in.DagRun.RunID
	v["params"] = params
	v["inlets"], v["outlets"] = inlets, outlets
	v["inlet_events"] = &opaque{&jinja.Type{Module: "airflow.sdk.execution_time.context", Name: "InletEventsAccessors"}}
	v["outlet_events"] = &opaque{&jinja.Type{Module: "airflow.sdk.execution_time.context", Name: "OutletEventAccessors"}}
	v["var"] = vr
	v["conn"] = &connectionAccessor{get: in.Lookups.Connection}
	v["macros"] = &macrosAccessor{vars: newMacros(in.Sources)}
	v["triggering_asset_events"] = events
	v["task_reschedule_count"] = int64(in.TaskRescheduleCount)
	v["partition_key"] = optText(in.DagRun.PartitionKey)
	v["partition_date"] = dateUTC(in.DagRun.PartitionDate)
	v["map_index_template"] = optText(in.MapIndexTemplate)
	if in.ExpandedTICount != nil {
		v["expanded_ti_count"] = int64(*in.ExpandedTICount)
	}
	prev := newPrevSuccess(in.Lookups.PrevSuccess)
	v["prev_start_date_success"] = prev.proxy(func(p *PrevRun) *time.Time { return p.StartDate })
	v["prev_end_date_success"] = prev.proxy(func(p *PrevRun) *time.Time { return p.EndDate })
	key := in.Dag.DagID + "__" + in.Task.TaskID + "__"
	v["task_instance_key_str"] = key + in.DagRun.RunID
	// Without a logical date the names that depend on it do not exist.
	if ld := in.DagRun.LogicalDate; ld != nil {
		d := jinja.DateTimeOf(*ld, true)
		ds := jinja.Strftime(d, "%Y-%m-%d")
		if len(ds) < 10 { // glibc writes years before 1000 without zeros
			ds = d.ISO()[:10]
		}
		ts := d.ISO()
		v["logical_date"] = d
		v["ds"] = ds
		v["ds_nodash"] = strings.ReplaceAll(ds, "-", "")
		v["ts"] = ts
		v["ts_nodash"] = jinja.Strftime(d, "%Y%m%dT%H%M%S")
		v["ts_nodash_with_tz"] = strings.NewReplacer("-", "", ":", "").Replace(ts)
		v["task_instance_key_str"] = key + strings.ReplaceAll(ds, "-", "")
		v["data_interval_start"] = dateUTC(in.DagRun.DataIntervalStart)
		v["data_interval_end"] = dateUTC(in.DagRun.DataIntervalEnd)
		v["prev_data_interval_start_success"] = prev.proxy(func(p *PrevRun) *time.Time { return p.DataIntervalStart })
		v["prev_data_interval_end_success"] = prev.proxy(func(p *PrevRun) *time.Time { return p.DataIntervalEnd })
	}
	for name, x := range in.Extra {
		if err := c.Set(name, x); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func parseOptional(raw json.RawMessage) (jinja.Value, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return jinja.ParseJSON(string(raw))
}

func taskType(class string) *jinja.Type { return &jinja.Type{Module: "airflow", Name: class} }
