package airflow

import "fmt"

// TIState is the state of a task instance; the zero value is Airflow's null ("none").
type TIState uint8

// The twelve states of Airflow 3 and null. The numeric values are stored: append only.
const (
	TINone TIState = iota
	TIScheduled
	TIQueued
	TIRunning
	TISuccess
	TIFailed
	TISkipped
	TIUpstreamFailed
	TIUpForRetry
	TIUpForReschedule
	TIDeferred
	TIRestarting
	TIRemoved

	// NumTIStates is the number of states including null.
	NumTIStates = int(TIRemoved) + 1
)

var tiStateNames = [NumTIStates]string{
	"none", "scheduled", "queued", "running", "success", "failed", "skipped",
	"upstream_failed", "up_for_retry", "up_for_reschedule", "deferred", "restarting", "removed",
}

// String returns Airflow's name, "none" for null.
func (s TIState) String() string {
	if int(s) < NumTIStates {
		return tiStateNames[s]
	}
	return fmt.Sprintf("TIState(%d)", s)
}

// ParseTIState reads Airflow's name of a state; "", "none", "null" and
// "no_status" are null.
func ParseTIState(s string) (TIState, error) {
	switch s {
	case "", "null", "no_status":
		return TINone, nil
	}
	for i, n := range tiStateNames {
		if n == s {
			return TIState(i), nil
		}
	}
	return TINone, fmt.Errorf("task instance state %q is unknown: expected one of %v", s, tiStateNames[:])
}

// MarshalJSON writes Airflow's name, null for none.
func (s TIState) MarshalJSON() ([]byte, error) {
	if s == TINone {
		return []byte("null"), nil
	}
	return []byte(`"` + s.String() + `"`), nil
}

// UnmarshalJSON reads Airflow's name or null.
func (s *TIState) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*s = TINone
		return nil
	}
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("task instance state %s: expected a string or null", b)
	}
	v, err := ParseTIState(string(b[1 : len(b)-1]))
	*s = v
	return err
}

// Finished reports success, failed, skipped, upstream_failed and removed.
func (s TIState) Finished() bool {
	switch s {
	case TISuccess, TIFailed, TISkipped, TIUpstreamFailed, TIRemoved:
		return true
	}
	return false
}

// FailedSet reports failed and upstream_failed.
func (s TIState) FailedSet() bool { return s == TIFailed || s == TIUpstreamFailed }

// SuccessSet reports success and skipped.
func (s TIState) SuccessSet() bool { return s == TISuccess || s == TISkipped }

// Schedulable reports null, up_for_retry and up_for_reschedule: the states from
// which a pass may schedule an instance.
func (s TIState) Schedulable() bool {
	return s == TINone || s == TIUpForRetry || s == TIUpForReschedule
}

// HoldsSlot reports queued and running: the states that occupy pool slots.
func (s TIState) HoldsSlot() bool { return s == TIQueued || s == TIRunning }

// Active reports the states in which a dispatch may be outstanding at a worker.
func (s TIState) Active() bool {
	return s == TIQueued || s == TIRunning || s == TIRestarting
}

// DagRunState is the state of a DagRun.
type DagRunState string

// The states of a DagRun.
const (
	RunQueued  DagRunState = "queued"
	RunRunning DagRunState = "running"
	RunSuccess DagRunState = "success"
	RunFailed  DagRunState = "failed"
)

// Finished reports success and failed.
func (s DagRunState) Finished() bool { return s == RunSuccess || s == RunFailed }

// ParseDagRunState reads Airflow's name of a DagRun state.
func ParseDagRunState(s string) (DagRunState, error) {
	switch v := DagRunState(s); v {
	case RunQueued, RunRunning, RunSuccess, RunFailed:
		return v, nil
	}
	return "", fmt.Errorf("dag run state %q is unknown: expected queued, running, success or failed", s)
}

// DagRunType says what created a DagRun.
type DagRunType string

// The types of DagRun; each is also the prefix of generated run ids.
const (
	RunTypeScheduled            DagRunType = "scheduled"
	RunTypeManual               DagRunType = "manual"
	RunTypeBackfill             DagRunType = "backfill"
	RunTypeAssetTriggered       DagRunType = "asset_triggered"
	RunTypeAssetMaterialization DagRunType = "asset_materialization"
	RunTypeOperatorTriggered    DagRunType = "operator_triggered"
)

// TriggeredBy says through what a DagRun was created (Airflow's DagRunTriggeredByType).
type TriggeredBy string

// The origins of a DagRun.
const (
	TriggeredByCLI       TriggeredBy = "cli"
	TriggeredByOperator  TriggeredBy = "operator"
	TriggeredByRestAPI   TriggeredBy = "rest_api"
	TriggeredByUI        TriggeredBy = "ui"
	TriggeredByTest      TriggeredBy = "test"
	TriggeredByTimetable TriggeredBy = "timetable"
	TriggeredByAsset     TriggeredBy = "asset"
	TriggeredByBackfill  TriggeredBy = "backfill"
)

// TriggerRule says which states of its upstream tasks let a task run.
type TriggerRule string

// Airflow's trigger rules.
const (
	RuleAllSuccess              TriggerRule = "all_success"
	RuleAllFailed               TriggerRule = "all_failed"
	RuleAllDone                 TriggerRule = "all_done"
	RuleAllDoneMinOneSuccess    TriggerRule = "all_done_min_one_success"
	RuleAllDoneSetupSuccess     TriggerRule = "all_done_setup_success"
	RuleAllSkipped              TriggerRule = "all_skipped"
	RuleAlways                  TriggerRule = "always"
	RuleNoneFailed              TriggerRule = "none_failed"
	RuleNoneFailedMinOneSuccess TriggerRule = "none_failed_min_one_success"
	RuleNoneSkipped             TriggerRule = "none_skipped"
	RuleOneDone                 TriggerRule = "one_done"
	RuleOneFailed               TriggerRule = "one_failed"
	RuleOneSuccess              TriggerRule = "one_success"
)

// TriggerRules lists all rules in alphabetical order.
var TriggerRules = []TriggerRule{
	RuleAllDone, RuleAllDoneMinOneSuccess, RuleAllDoneSetupSuccess, RuleAllFailed, RuleAllSkipped, RuleAllSuccess,
	RuleAlways, RuleNoneFailed, RuleNoneFailedMinOneSuccess, RuleNoneSkipped, RuleOneDone, RuleOneFailed, RuleOneSuccess,
}

// ParseTriggerRule reads a rule by name, including the Airflow 2 aliases
// "dummy" and "none_failed_or_skipped"; "" is all_success.
func ParseTriggerRule(s string) (TriggerRule, error) {
	switch s {
	case "":
		return RuleAllSuccess, nil
	case "dummy":
		return RuleAlways, nil
	case "none_failed_or_skipped":
		return RuleNoneFailedMinOneSuccess, nil
	}
	for _, r := range TriggerRules {
		if string(r) == s {
			return r, nil
		}
	}
	return "", fmt.Errorf("trigger_rule %q is unknown: expected one of %v", s, TriggerRules)
}

// WeightRule says how the effective priority of a task follows from its neighbours.
type WeightRule string

// Airflow's built-in weight rules.
const (
	WeightDownstream WeightRule = "downstream"
	WeightUpstream   WeightRule = "upstream"
	WeightAbsolute   WeightRule = "absolute"
)
