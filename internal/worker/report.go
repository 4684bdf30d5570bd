package worker

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Outcome is how a dispatch ended.
type Outcome uint8

// The outcomes. The numeric values travel in messages: append only.
const (
	// OutcomeUnknown is the zero value and never reported.
	OutcomeUnknown Outcome = iota
	OutcomeSuccess
	// OutcomeFailed is retried while tries are left.
	OutcomeFailed
	// OutcomeFailedFinal is never retried: AirflowFailException, a sensor's
	// timeout, an operator that cannot run here.
	OutcomeFailedFinal
	OutcomeSkipped
	// OutcomeUpForReschedule: run the same try again at RescheduleAt.
	OutcomeUpForReschedule
	// OutcomeDeferred: run the same try again when Deferral.Trigger fires.
	OutcomeDeferred
)

var outcomeNames = [...]string{"unknown", "success", "failed", "failed_final", "skipped", "up_for_reschedule", "deferred"}

// String returns the outcome's name.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("Outcome(%d)", o)
}

// MarshalText writes the outcome's name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads an outcome's name.
func (o *Outcome) UnmarshalText(b []byte) error {
	for i, n := range outcomeNames {
		if n == string(b) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("outcome %q is unknown: expected one of %v", b, outcomeNames[1:])
}

// State returns the instance's state after the outcome; retry says whether a
// failure is retried.
func (o Outcome) State(retry bool) airflow.TIState {
	switch o {
	case OutcomeSuccess:
		return airflow.TISuccess
	case OutcomeFailed:
		if retry {
			return airflow.TIUpForRetry
		}
		return airflow.TIFailed
	case OutcomeFailedFinal:
		return airflow.TIFailed
	case OutcomeSkipped:
		return airflow.TISkipped
	case OutcomeUpForReschedule:
		return airflow.TIUpForReschedule
	case OutcomeDeferred:
		return airflow.TIDeferred
	}
	return airflow.TINone
}

// Report ends a dispatch. Everything a task leaves behind travels in it, so
// that the control plane can store it in one write.
type Report struct {
	Outcome Outcome   `json:"outcome"`
	EndDate time.Time `json:"end_date"`

	// XComs are the values not yet stored by SetXCom, in order of pushing; a
	// later one of the same key replaces an earlier one. They are stored
	// whatever the outcome.
	XComs []XComPush `json:"xcoms,omitempty"`
	// MappedLength is the length of the return value if another task of the
	// DAG expands over it and this instance is unmapped; nil otherwise. A value
	// that cannot be expanded over has already failed the task.
	MappedLength *int `json:"mapped_length,omitempty"`
	// PushedReturnValue says that a non-null return_value was pushed: lengths
	// over a mapped upstream count the instances for which it is true.
	PushedReturnValue bool `json:"pushed_return_value,omitempty"`

	// Skip is the choice of a branch or short circuit, nil for other operators.
	// It is also among XComs under SkipMixinKey.
	Skip *SkipChoice `json:"skip,omitempty"`

	// RescheduleAt is set for OutcomeUpForReschedule.
	RescheduleAt time.Time `json:"reschedule_at,omitzero"`
	// Deferral is set for OutcomeDeferred.
	Deferral *Deferral `json:"deferral,omitempty"`

	// RenderedFields are the template fields as rendered: secrets masked, long
	// values truncated. nil when there are none or they did not change since an
	// earlier dispatch of the try.
	RenderedFields json.RawMessage `json:"rendered_fields,omitempty"`
	// RenderedMapIndex is the result of map_index_template, at most 250 characters.
	RenderedMapIndex string `json:"rendered_map_index,omitempty"`

	// AssetEvents are the events to register, for OutcomeSuccess only: one per
	// outlet asset, and those added to aliases.
	AssetEvents []OutletEvent `json:"asset_events,omitempty"`

	// Error says in a sentence why the outcome is failed or skipped; masked.
	Error string `json:"error,omitempty"`
	// CallbacksDone says that the worker has run the callbacks of the outcome.
	// The control plane runs them for dispatches that ended without a report.
	CallbacksDone bool `json:"callbacks_done,omitempty"`
	// RetryDelay overrides the task's retry delay (a retry policy's verdict).
	RetryDelay *time.Duration `json:"retry_delay,omitempty"`
}

// SkipMixinKey is the XCom key under which skip choices are remembered.
const SkipMixinKey = "skipmixin_key"

// SkipChoice is what a branch or short-circuit operator decided, and what it
// skips at once.
type SkipChoice struct {
	// Exactly one of Followed (branch) and Skipped (short circuit) is non-nil
	// and forms the XCom; a choice that skips nothing has no XCom: both nil.
	Followed []airflow.TaskID `json:"followed,omitempty"`
	Skipped  []airflow.TaskID `json:"skipped,omitempty"`
	// Tasks are the tasks to set skipped now unless they are running, success
	// or failed, as in Airflow's skip-downstream call: at map_index -1 for an
	// unmapped operator.
	Tasks []airflow.TaskID `json:"tasks,omitempty"`
	// IgnoreDownstreamTriggerRules is the short circuit's flag, for display.
	IgnoreDownstreamTriggerRules bool `json:"ignore_downstream_trigger_rules,omitempty"`
}

// XCom returns the value stored under SkipMixinKey, nil if there is none.
func (s *SkipChoice) XCom() json.RawMessage {
	var v map[string][]airflow.TaskID
	switch {
	case s == nil:
		return nil
	case s.Followed != nil:
		v = map[string][]airflow.TaskID{"followed": s.Followed}
	case s.Skipped != nil:
		v = map[string][]airflow.TaskID{"skipped": s.Skipped}
	default:
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a map of strings always encodes
	}
	return b
}

// OutletEvent is one asset event produced by a task.
type OutletEvent struct {
	// Asset is the asset itself, also when it was added through an alias.
	Asset airflow.AssetRef `json:"asset"`
	// Alias is the name of the alias, "" for a plain outlet.
	Alias string          `json:"alias,omitempty"`
	Extra json.RawMessage `json:"extra,omitempty"` // a JSON object
}

// Deferral gives the worker back until a trigger fires.
type Deferral struct {
	Trigger Trigger `json:"trigger"`
	// Timeout, counted from the report's EndDate, resumes with MethodFail and
	// TriggerTimeout; 0 = none.
	Timeout time.Duration `json:"timeout,omitempty"`
	// NextMethod and NextKwargs come back in TaskContext.
	NextMethod string          `json:"next_method"`
	NextKwargs json.RawMessage `json:"next_kwargs,omitempty"`
}

// TriggerKind says what a deferred task waits for.
type TriggerKind string

// The triggers that the control plane hosts. None needs a process.
const (
	// TriggerTime fires at At.
	TriggerTime TriggerKind = "time"
	// TriggerDagRun fires when a run of DagID listed in RunIDs ends, and at the
	// latest at At. The resumed worker looks for itself, so firing too often is
	// harmless and At alone would do.
	TriggerDagRun TriggerKind = "dag_run"
	// TriggerTasks fires when a run of DagID at one of LogicalDates, or one of
	// its tasks TaskIDs, reaches one of the terminal states, and at the latest at At.
	TriggerTasks TriggerKind = "tasks"
	// TriggerHITL shows Request to people and fires when it is answered; the
	// event is HITLResponse.
	TriggerHITL TriggerKind = "hitl"
)

// Trigger is what a deferred task waits for.
type Trigger struct {
	Kind TriggerKind `json:"kind"`
	// At is the moment of TriggerTime and the backstop of the others; always
	// set, except for TriggerHITL without a time limit.
	At time.Time `json:"at,omitzero"`
	// EndState, for TriggerTime: the instance ends in this state (success) when
	// the trigger fires, without another worker. TINone resumes the task.
	EndState airflow.TIState `json:"end_state,omitempty"`

	DagID        airflow.DagID    `json:"dag_id,omitempty"`
	RunIDs       []airflow.RunID  `json:"run_ids,omitempty"`
	LogicalDates []time.Time      `json:"logical_dates,omitempty"`
	TaskIDs      []airflow.TaskID `json:"task_ids,omitempty"`
	Request      *HITLRequest     `json:"request,omitempty"`
}

// HITLRequest is a question to people.
type HITLRequest struct {
	Subject       string          `json:"subject"`
	Body          string          `json:"body,omitempty"`
	Options       []string        `json:"options"`
	Defaults      []string        `json:"defaults,omitempty"`
	Multiple      bool            `json:"multiple,omitempty"`
	Params        json.RawMessage `json:"params,omitempty"`
	AssignedUsers json.RawMessage `json:"assigned_users,omitempty"`
}

// HITLResponse is the event of an answered HITLRequest.
type HITLResponse struct {
	ChosenOptions   []string        `json:"chosen_options"`
	ParamsInput     json.RawMessage `json:"params_input,omitempty"`
	RespondedByUser json.RawMessage `json:"responded_by_user,omitempty"`
	RespondedAt     string          `json:"responded_at,omitempty"`
}
