package timetable

import (
	"fmt"
	"slices"
	"time"
)

// EventsTimetable runs at listed times.
type EventsTimetable struct {
	automated
	events           []time.Time
	restrictToEvents bool
	summary          string
	description      string
}

// NewEventsTimetable returns the timetable of the events, which keep their
// zones and are sorted unless presorted. A nil description is made from the
// events. With restrictToEvents a manual run takes the date of the newest past
// event.
func NewEventsTimetable(events []time.Time, restrictToEvents, presorted bool, description *string) *EventsTimetable {
	t := &EventsTimetable{events: slices.Clone(events), restrictToEvents: restrictToEvents}
	if !presorted {
		slices.SortStableFunc(t.events, time.Time.Compare)
	}
	switch n := len(t.events); {
	case description != nil:
		t.summary, t.description = *description, *description
	case n == 0:
		t.summary, t.description = "0 events", "No events"
	default:
		t.summary = fmt.Sprintf("%d events", n)
		t.description = fmt.Sprintf("%d events between %s and %s", n, isoFormat(t.events[0]), isoFormat(t.events[n-1]))
	}
	return t
}

func (*EventsTimetable) Class() string         { return "EventsTimetable" }
func (*EventsTimetable) importPath() string    { return "airflow.timetables.events.EventsTimetable" }
func (t *EventsTimetable) Summary() string     { return t.summary }
func (t *EventsTimetable) Description() string { return t.description }

// Validate accepts everything.
func (*EventsTimetable) Validate(time.Time) error { return nil }

// NextRunInfo returns the first event after the last run and not before the
// start date; without catchup not before now either.
func (t *EventsTimetable) NextRunInfo(last *DataInterval, r Restriction, now time.Time) (*RunInfo, error) {
	earliest := r.Earliest
	if !r.Catchup && (earliest == nil || now.After(*earliest)) {
		earliest = &now
	}
	for _, e := range t.events {
		if earliest != nil && e.Before(*earliest) || last != nil && !e.After(last.End) {
			continue
		}
		if r.Latest != nil && e.After(*r.Latest) {
			return nil, nil
		}
		return run(e, e), nil
	}
	return nil, nil
}

// InferManualDataInterval is runAfter itself, or an event; see
// NewEventsTimetable.
func (t *EventsTimetable) InferManualDataInterval(runAfter time.Time) (DataInterval, error) {
	if !t.restrictToEvents || len(t.events) == 0 {
		return Exact(runAfter), nil
	}
	for i := len(t.events) - 1; i >= 0; i-- {
		if !t.events[i].After(runAfter) {
			return Exact(t.events[i]), nil
		}
	}
	return Exact(t.events[0]), nil
}

func (t *EventsTimetable) serialize() map[string]any {
	dates := make([]any, len(t.events))
	for i, e := range t.events {
		dates[i] = isoFormat(e)
	}
	return map[string]any{
		"event_dates":        dates,
		"restrict_to_events": t.restrictToEvents,
		"description":        t.description,
		"_summary":           t.summary,
	}
}
