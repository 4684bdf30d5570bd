package timetable

import "time"

// NullTimetable never runs by itself: schedule=None.
type NullTimetable struct{ triggered }

// OnceTimetable runs once: schedule="@once".
type OnceTimetable struct{ triggered }

// ContinuousTimetable starts a run when the last one has ended:
// schedule="@continuous".
type ContinuousTimetable struct{ triggered }

// AssetTriggeredTimetable runs when its asset condition is met; the scheduler
// makes those runs, not the timetable.
type AssetTriggeredTimetable struct {
	triggered
	condition any
}

// NewNullTimetable returns the timetable of schedule=None.
func NewNullTimetable() *NullTimetable { return &NullTimetable{} }

// NewOnceTimetable returns the timetable of "@once".
func NewOnceTimetable() *OnceTimetable { return &OnceTimetable{} }

// NewContinuousTimetable returns the timetable of "@continuous".
func NewContinuousTimetable() *ContinuousTimetable { return &ContinuousTimetable{} }

// NewAssetTriggeredTimetable returns the timetable that waits for condition, a
// serialized asset expression.
func NewAssetTriggeredTimetable(condition any) *AssetTriggeredTimetable {
	return &AssetTriggeredTimetable{condition: condition}
}

// triggered is what the timetables without a period have in common.
type triggered struct{}

func (triggered) Periodic() bool           { return false }
func (triggered) CanBeScheduled() bool     { return true }
func (triggered) ActiveRunsLimit() *int    { return nil }
func (triggered) RunOrdering() []string    { return append([]string(nil), orderByLogicalDate...) }
func (triggered) AssetCondition() any      { return nil }
func (triggered) Validate(time.Time) error { return nil }
func (triggered) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	return Exact(runAfter), nil
}
func (triggered) serialize() map[string]any { return map[string]any{} }

// NextRunInfo returns nil: somebody else makes the runs.
func (triggered) NextRunInfo(*DataInterval, Restriction, time.Time) (*RunInfo, error) {
	return nil, nil
}

func (*NullTimetable) Class() string        { return "NullTimetable" }
func (*NullTimetable) importPath() string   { return "airflow.timetables.simple.NullTimetable" }
func (*NullTimetable) Summary() string      { return "None" }
func (*NullTimetable) Description() string  { return "Never, external triggers only" }
func (*NullTimetable) CanBeScheduled() bool { return false }

func (*OnceTimetable) Class() string       { return "OnceTimetable" }
func (*OnceTimetable) importPath() string  { return "airflow.timetables.simple.OnceTimetable" }
func (*OnceTimetable) Summary() string     { return "@once" }
func (*OnceTimetable) Description() string { return "Once, as soon as possible" }

// NextRunInfo returns the one run, at the start date if there is one.
func (*OnceTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	if last != nil {
		return nil, nil
	}
	at := now.UTC()
	if r.Earliest != nil {
		at = *r.Earliest
	}
	if r.Latest != nil && at.After(*r.Latest) {
		return nil, nil
	}
	return run(at, at), nil
}

func (*ContinuousTimetable) Class() string { return "ContinuousTimetable" }
func (*ContinuousTimetable) importPath() string {
	return "airflow.timetables.simple.ContinuousTimetable"
}
func (*ContinuousTimetable) Summary() string { return "@continuous" }
func (*ContinuousTimetable) Description() string {
	return "As frequently as possible, but only one run at a time."
}

// ActiveRunsLimit is 1.
func (*ContinuousTimetable) ActiveRunsLimit() *int {
	one := 1
	return &one
}

// NextRunInfo returns the run from the end of the last one until now.
func (*ContinuousTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	now = now.UTC()
	first := now
	if r.Earliest != nil {
		first = *r.Earliest
	}
	var start, end time.Time
	switch {
	case last == nil:
		start, end = first, later(first, now)
	case last.End.After(now): // the start date lies ahead
		start = first
		end = start.Add(last.End.Sub(last.Start))
	default:
		start, end = last.End, now
	}
	if r.Latest != nil && end.After(*r.Latest) {
		return nil, nil
	}
	return run(start, end), nil
}

func (*AssetTriggeredTimetable) Class() string { return "AssetTriggeredTimetable" }
func (*AssetTriggeredTimetable) importPath() string {
	return "airflow.timetables.simple.AssetTriggeredTimetable"
}
func (*AssetTriggeredTimetable) Summary() string       { return "Asset" }
func (*AssetTriggeredTimetable) Description() string   { return "Triggered by assets" }
func (t *AssetTriggeredTimetable) AssetCondition() any { return t.condition }
func (t *AssetTriggeredTimetable) serialize() map[string]any {
	return map[string]any{"asset_condition": t.condition}
}

// AssetOrTimeSchedule runs when its asset condition is met and, independently,
// whenever its timetable says so.
type AssetOrTimeSchedule struct {
	Timetable
	condition any
}

// NewAssetOrTimeSchedule combines a timetable with a serialized asset
// expression.
func NewAssetOrTimeSchedule(t Timetable, condition any) *AssetOrTimeSchedule {
	return &AssetOrTimeSchedule{Timetable: t, condition: condition}
}

func (*AssetOrTimeSchedule) Class() string { return "AssetOrTimeSchedule" }
func (*AssetOrTimeSchedule) importPath() string {
	return "airflow.timetables.assets.AssetOrTimeSchedule"
}

// Summary names both parts.
func (t *AssetOrTimeSchedule) Summary() string { return "Asset or " + t.Timetable.Summary() }

// Description names both parts.
func (t *AssetOrTimeSchedule) Description() string {
	return "Triggered by assets or " + t.Timetable.Description()
}

// RunOrdering is by logical date, whatever the timetable says.
func (*AssetOrTimeSchedule) RunOrdering() []string {
	return append([]string(nil), orderByLogicalDate...)
}

func (t *AssetOrTimeSchedule) AssetCondition() any { return t.condition }

// Validate does not look into the timetable; only nesting is refused.
func (t *AssetOrTimeSchedule) Validate(time.Time) error {
	if _, nested := t.Timetable.(*AssetTriggeredTimetable); nested {
		return &Error{Stage: StageValidate, Class: "AirflowTimetableInvalid", Message: "cannot nest asset timetables"}
	}
	return nil
}

func (t *AssetOrTimeSchedule) serialize() map[string]any {
	return map[string]any{"asset_condition": t.condition, "timetable": Serialize(t.Timetable)}
}
