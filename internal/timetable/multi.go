package timetable

import (
	"strings"
	"time"
)

// MultipleCronTriggerTimetable fires whenever one of several cron expressions
// does, once where several do.
type MultipleCronTriggerTimetable struct {
	automated
	members []*CronTriggerTimetable
}

// NewMultipleCronTriggerTimetable returns the timetable of the expressions, of
// which there must be one at least. They are not validated, as in Airflow: a bad
// one fails when a run is computed. The error is an *Error.
func NewMultipleCronTriggerTimetable(expressions []string, zone Zone, interval Delta, immediately RunImmediately) (*MultipleCronTriggerTimetable, error) {
	if len(expressions) == 0 {
		return nil, &Error{Stage: StageConstruct, Class: "ValueError", Message: "cron expression required"}
	}
	t := &MultipleCronTriggerTimetable{}
	for _, e := range expressions {
		t.members = append(t.members, NewCronTriggerTimetable(e, zone, interval, immediately))
	}
	return t, nil
}

func (*MultipleCronTriggerTimetable) Class() string { return "MultipleCronTriggerTimetable" }
func (*MultipleCronTriggerTimetable) importPath() string {
	return "airflow.timetables.trigger.MultipleCronTriggerTimetable"
}

// Summary lists the expressions.
func (t *MultipleCronTriggerTimetable) Summary() string {
	return t.join((*CronTriggerTimetable).Summary)
}

// Description lists the members' descriptions.
func (t *MultipleCronTriggerTimetable) Description() string {
	return t.join((*CronTriggerTimetable).Description)
}

func (t *MultipleCronTriggerTimetable) join(text func(*CronTriggerTimetable) string) string {
	parts := make([]string, len(t.members))
	for i, m := range t.members {
		parts[i] = text(m)
	}
	return strings.Join(parts, ", ")
}

// Validate accepts everything.
func (*MultipleCronTriggerTimetable) Validate(time.Time) error { return nil }

// NextRunInfo returns the earliest of the members' runs. Without catchup a run
// that is due already comes first, the newest of those if several are. One
// failing member fails all.
func (t *MultipleCronTriggerTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	var best *RunInfo
	for _, m := range t.members {
		info, err := m.NextRunInfo(last, r, now)
		if err != nil {
			return nil, err
		}
		if info != nil && (best == nil || comesFirst(*info.LogicalDate, *best.LogicalDate, r.Catchup, now)) {
			best = info
		}
	}
	return best, nil
}

func comesFirst(a, b time.Time, catchup bool, now time.Time) bool {
	if catchup {
		return a.Before(b)
	}
	dueA, dueB := !a.After(now), !b.After(now)
	switch {
	case dueA != dueB:
		return dueA
	case dueA:
		return a.After(b)
	}
	return a.Before(b)
}

// InferManualDataInterval returns the members' interval that starts first.
func (t *MultipleCronTriggerTimetable) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	return t.members[0].InferManualDataInterval(runAfter) // all have the same interval
}

func (t *MultipleCronTriggerTimetable) serialize() map[string]any {
	first := t.members[0]
	expressions := make([]any, len(t.members))
	for i, m := range t.members {
		expressions[i] = m.expression
	}
	return map[string]any{
		"expressions":     expressions,
		"timezone":        first.zone.serialize(),
		"interval":        first.interval.serialize(),
		"run_immediately": first.runImmediately.serialize(),
	}
}
