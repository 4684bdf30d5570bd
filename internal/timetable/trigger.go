package timetable

import (
	"math"
	"time"
)

// RunImmediately says which tick a DAG without start date and without runs
// starts with. The zero value is False, Airflow's default.
type RunImmediately struct {
	// Kind selects which of the values below is meant.
	Kind RunImmediatelyKind
	// Within is the age up to which the past tick is taken, in microseconds, for
	// RunImmediatelyWithin.
	Within int64
}

// RunImmediatelyKind is the Python type of the value.
type RunImmediatelyKind int

// RunImmediatelyFalse and RunImmediatelyNone act alike: the past tick is taken if
// it is no older than a tenth of the gap, or five minutes. They are told apart
// because they are serialized apart.
const (
	RunImmediatelyFalse RunImmediatelyKind = iota
	RunImmediatelyNone
	RunImmediatelyTrue
	RunImmediatelyWithin
)

func (r RunImmediately) serialize() any {
	switch r.Kind {
	case RunImmediatelyTrue:
		return true
	case RunImmediatelyNone:
		return nil
	case RunImmediatelyWithin:
		return float64(r.Within) / 1e6
	}
	return false
}

// CronTriggerTimetable fires at the ticks of a cron expression. This is what a
// plain cron string becomes.
type CronTriggerTimetable struct {
	automated
	cronClock
	interval       Delta
	runImmediately RunImmediately
}

// NewCronTriggerTimetable returns the timetable whose runs are due at the ticks
// of expression in zone and cover the interval before them. A bad expression is
// reported by Validate.
func NewCronTriggerTimetable(expression string, zone Zone, interval Delta, immediately RunImmediately) *CronTriggerTimetable {
	return &CronTriggerTimetable{cronClock: newCronClock(expression, zone), interval: interval, runImmediately: immediately}
}

func (*CronTriggerTimetable) Class() string { return "CronTriggerTimetable" }
func (*CronTriggerTimetable) importPath() string {
	return "airflow.timetables.trigger.CronTriggerTimetable"
}

// NextRunInfo implements Timetable.
func (t *CronTriggerTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	return nextTriggered(&t.cronClock, t.interval, t.firstRun, last, r, now)
}

// InferManualDataInterval covers the interval before runAfter.
func (t *CronTriggerTimetable) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	return intervalBefore(t.interval, runAfter)
}

// firstRun picks the past or the next tick for a DAG without a start date.
func (t *CronTriggerTimetable) firstRun(now time.Time) (time.Time, error) {
	past, err := t.alignPrev(now)
	if err != nil {
		return past, err
	}
	next, err := t.alignNext(now)
	if err != nil {
		return next, err
	}
	var within int64
	switch t.runImmediately.Kind {
	case RunImmediatelyTrue:
		return past, nil
	case RunImmediatelyWithin:
		within = t.runImmediately.Within
	default:
		within = max(int64(math.RoundToEven(float64(next.Sub(past).Microseconds())/10)), (5 * time.Minute).Microseconds())
	}
	if now.Sub(past).Microseconds() <= within {
		return past, nil
	}
	return next, nil
}

func (t *CronTriggerTimetable) serialize() map[string]any {
	return map[string]any{
		"expression":      t.expression,
		"timezone":        t.zone.serialize(),
		"interval":        t.interval.serialize(),
		"run_immediately": t.runImmediately.serialize(),
	}
}

// DeltaTriggerTimetable fires every delta. This is what a plain timedelta
// becomes.
type DeltaTriggerTimetable struct {
	automated
	deltaClock
	interval Delta
}

// NewDeltaTriggerTimetable returns the timetable that is due every delta and
// covers the interval before.
func NewDeltaTriggerTimetable(delta, interval Delta) *DeltaTriggerTimetable {
	return &DeltaTriggerTimetable{deltaClock: deltaClock{delta}, interval: interval}
}

func (*DeltaTriggerTimetable) Class() string { return "DeltaTriggerTimetable" }
func (*DeltaTriggerTimetable) importPath() string {
	return "airflow.timetables.trigger.DeltaTriggerTimetable"
}

// NextRunInfo implements Timetable.
func (t *DeltaTriggerTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	first := func(now time.Time) (time.Time, error) { return now, nil }
	return nextTriggered(&t.deltaClock, t.interval, first, last, r, now)
}

// InferManualDataInterval covers the interval before runAfter.
func (t *DeltaTriggerTimetable) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	return intervalBefore(t.interval, runAfter)
}

func (t *DeltaTriggerTimetable) serialize() map[string]any {
	return map[string]any{"delta": t.delta.serialize(), "interval": t.interval.serialize()}
}

func intervalBefore(interval Delta, end time.Time) (DataInterval, error) {
	start, err := interval.before(end)
	return DataInterval{Start: start, End: end}, err
}

// nextTriggered is the rule of the trigger timetables. With catchup every tick
// after the last run counts; without, the newest of all candidates wins, so that
// missed ticks are dropped but the most recent one still fires.
func nextTriggered(c clock, interval Delta, firstRun func(time.Time) (time.Time, error),
	last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	now = now.UTC()
	var at time.Time
	var err error
	switch {
	case !r.Catchup:
		at, err = c.alignPrev(now)
		candidate := func(f func(time.Time) (time.Time, error), from time.Time) {
			if err != nil {
				return
			}
			var t time.Time
			if t, err = f(from); err == nil {
				at = later(at, t)
			}
		}
		if last != nil {
			candidate(c.next, last.End)
		} else if r.Earliest == nil {
			candidate(firstRun, now)
		}
		if r.Earliest != nil {
			candidate(c.alignNext, *r.Earliest)
		}
	case last != nil:
		at, err = c.next(last.End)
	case r.Earliest == nil:
		at, err = firstRun(now)
	default:
		at, err = c.alignNext(*r.Earliest)
	}
	if err != nil {
		return nil, err
	}
	if r.Latest != nil && r.Latest.Before(at) {
		return nil, nil
	}
	start, err := interval.before(at)
	if err != nil {
		return nil, err
	}
	return run(start, at), nil
}
