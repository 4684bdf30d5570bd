package timetable

import (
	"math"
	"time"
)

// CronDataIntervalTimetable runs at the end of each period between two ticks of
// a cron expression, the 2.x behaviour.
type CronDataIntervalTimetable struct {
	automated
	cronClock
}

// NewCronDataIntervalTimetable returns the timetable of expression on the wall
// clock of zone. A bad expression is reported by Validate.
func NewCronDataIntervalTimetable(expression string, zone Zone) *CronDataIntervalTimetable {
	return &CronDataIntervalTimetable{cronClock: newCronClock(expression, zone)}
}

func (*CronDataIntervalTimetable) Class() string { return "CronDataIntervalTimetable" }
func (*CronDataIntervalTimetable) importPath() string {
	return "airflow.timetables.interval.CronDataIntervalTimetable"
}

// NextRunInfo implements Timetable.
func (t *CronDataIntervalTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	return nextInterval(t.Class(), &t.cronClock, t.skipToLatest, last, r, now)
}

// skipToLatest returns the start of the newest complete period, or the start
// date if that is later. On a boundary the period that has just ended counts.
func (t *CronDataIntervalTimetable) skipToLatest(earliest *time.Time, now time.Time) (time.Time, error) {
	last, err := t.prev(now)
	if err != nil {
		return last, err
	}
	next, err := t.next(last)
	if err != nil {
		return next, err
	}
	start := last
	switch {
	case next.Equal(now):
	case next.After(now):
		if start, err = t.prev(last); err != nil {
			return start, err
		}
	default:
		// Adding wall-clock distances over a change of offset can miss now.
		return time.Time{}, &Error{Class: "AssertionError", Message: "next schedule shouldn't be earlier"}
	}
	if earliest == nil {
		return start, nil
	}
	aligned, err := t.alignNext(*earliest)
	if err != nil {
		return aligned, err
	}
	return later(start, aligned), nil
}

// InferManualDataInterval returns the last complete period before runAfter.
func (t *CronDataIntervalTimetable) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	end, err := t.alignPrev(runAfter)
	if err != nil {
		return DataInterval{}, err
	}
	start, err := t.prev(end)
	return DataInterval{Start: start, End: end}, err
}

func (t *CronDataIntervalTimetable) serialize() map[string]any {
	return map[string]any{"expression": t.expression, "timezone": t.zone.serialize()}
}

// DeltaDataIntervalTimetable runs at the end of each period of a delta.
type DeltaDataIntervalTimetable struct {
	automated
	deltaClock
}

// NewDeltaDataIntervalTimetable returns the timetable with periods of delta.
func NewDeltaDataIntervalTimetable(delta Delta) *DeltaDataIntervalTimetable {
	return &DeltaDataIntervalTimetable{deltaClock: deltaClock{delta}}
}

func (*DeltaDataIntervalTimetable) Class() string { return "DeltaDataIntervalTimetable" }
func (*DeltaDataIntervalTimetable) importPath() string {
	return "airflow.timetables.interval.DeltaDataIntervalTimetable"
}

// NextRunInfo implements Timetable.
func (t *DeltaDataIntervalTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	return nextInterval(t.Class(), &t.deltaClock, t.skipToLatest, last, r, now)
}

// skipToLatest returns the start of the newest complete period of the grid, or
// the start date if that is later.
func (t *DeltaDataIntervalTimetable) skipToLatest(earliest *time.Time, now time.Time) (time.Time, error) {
	anchor := now
	if earliest != nil {
		anchor = *earliest
	}
	boundary, err := t.round(now, anchor)
	if err != nil {
		return boundary, err
	}
	start, err := t.prev(boundary)
	if err != nil {
		return start, err
	}
	if earliest == nil {
		return start, nil
	}
	return later(start, *earliest), nil
}

// maxPeriods bounds the walk over months and years from the start date.
const maxPeriods = 200000

// round returns the newest boundary at or before now. Deltas with months or
// years step from anchor, because the length of a month depends on the path; all
// others lie on the grid of the Unix epoch.
func (t *DeltaDataIntervalTimetable) round(now, anchor time.Time) (time.Time, error) {
	if r := t.delta.Relative; r != nil && (r.Months != 0 || r.Years != 0) {
		boundary := anchor
		for i := 0; ; i++ {
			next, err := t.next(boundary)
			if err != nil {
				return next, err
			}
			if next.After(now) {
				return boundary, nil
			}
			if !next.After(boundary) || i == maxPeriods {
				return next, &Error{Class: "ValueError", Message: "the schedule " + t.delta.String() + " does not lead from its start date to now"}
			}
			boundary = next
		}
	}
	// In floating point, because Airflow does so: fractions of a second show it.
	length := t.delta.seconds()
	if length == 0 {
		return time.Time{}, &Error{Class: "ZeroDivisionError", Message: "float modulo"}
	}
	stamp := float64(now.UnixMicro()) / 1e6
	rest := math.Mod(stamp, length)
	if rest != 0 && (rest < 0) != (length < 0) {
		rest += length
	}
	whole, fraction := math.Modf(stamp - rest)
	return time.UnixMicro(int64(whole)*1e6 + int64(math.RoundToEven(fraction*1e6))).UTC(), nil
}

// InferManualDataInterval returns the period that ends at runAfter.
func (t *DeltaDataIntervalTimetable) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	start, err := t.prev(runAfter)
	return DataInterval{Start: start, End: runAfter}, err
}

func (t *DeltaDataIntervalTimetable) serialize() map[string]any {
	return map[string]any{"delta": t.delta.serialize()}
}

// nextInterval is the rule of the data-interval timetables.
func nextInterval(class string, c clock, skipToLatest func(*time.Time, time.Time) (time.Time, error),
	last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	now = now.UTC()
	var start time.Time
	var err error
	bounded := true // start is a lower bound
	switch {
	case !r.Catchup:
		start, err = skipToLatest(r.Earliest, now)
	case r.Earliest != nil:
		start, err = c.alignNext(*r.Earliest)
	default:
		bounded = false
	}
	if err != nil {
		return nil, err
	}
	if last == nil {
		if !bounded {
			return nil, nil
		}
	} else {
		// Aligned, because the schedule may have changed since.
		aligned, err := c.alignPrev(last.End)
		if err != nil {
			return nil, err
		}
		if bounded {
			aligned = later(aligned, start)
		}
		start = aligned
		// A coarser schedule can align the start back onto the last run.
		if !start.After(last.Start) {
			if start, err = c.next(start); err != nil {
				return nil, err
			}
			if !start.After(last.Start) {
				return nil, &Error{Class: "ValueError", Message: class + " timetable did not advance past " + pythonString(last.Start) + " after one retry"}
			}
		}
	}
	if r.Latest != nil && start.After(*r.Latest) {
		return nil, nil
	}
	end, err := c.next(start)
	if err != nil {
		return nil, err
	}
	return run(start, end), nil
}
