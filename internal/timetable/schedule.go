package timetable

import (
	"errors"
	"fmt"
	"time"
)

// ZoneRef is a zone as an author writes it: a name that may not exist, or a
// fixed offset.
type ZoneRef struct {
	Name   string // "" with Fixed
	Fixed  bool
	Offset int // seconds east, with Fixed
}

// load returns the zone.
func (r ZoneRef) load() (Zone, error) {
	if r.Fixed {
		return FixedZone(r.Offset), nil
	}
	return LoadZone(r.Name)
}

// Object is a timetable object as an author writes it: the class and the
// arguments it was made with. Arguments the class does not have are ignored.
type Object struct {
	// Class is the class name. Airflow's SDK and core have two classes called
	// EventsTimetable; the name alone means the SDK's, the core's is
	// "airflow.timetables.events.EventsTimetable".
	Class          string
	Crons          []string // one, for the classes with one expression
	Timezone       ZoneRef
	Delta          Delta
	Interval       Delta
	RunImmediately RunImmediately

	EventDates       []time.Time
	RestrictToEvents bool
	Presorted        bool
	Description      *string

	// Assets is the serialized asset expression of AssetOrTimeSchedule.
	Assets any
	// Timetable is the inner timetable of AssetOrTimeSchedule: an *Object.
	Timetable *Object
}

// Assets is a schedule that is an asset expression, in serialized form.
type Assets struct{ Condition any }

// Config is what FromSchedule has to know besides the schedule.
type Config struct {
	// DagID appears in messages.
	DagID string
	// DagTimezone is the zone of plain cron strings; see DagZone.
	DagTimezone Zone
	// CreateCronDataIntervals is [scheduler] create_cron_data_intervals, which
	// decides for plain cron strings and for plain deltas.
	CreateCronDataIntervals bool
	// Now is used to check that a calendar delta leads forward.
	Now time.Time
}

// FromSchedule makes the timetable that the scheduler will see from what an
// author gives as schedule: nil, a string, a Delta, a time.Duration, Assets, an
// *Object, or an Object.
//
// The error is an *Error with the stage at which Airflow refuses the DAG, or an
// *UnknownTimetableError for an Object of another class.
func FromSchedule(schedule any, c Config) (Timetable, error) {
	t, bad, err := construct(schedule, c)
	if err != nil {
		return nil, withStage(err, StageConstruct)
	}
	if err := t.Validate(c.Now); err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, &Error{
			Stage: StageSerialize, Class: "SerializationError",
			Message: fmt.Sprintf("Failed to serialize DAG '%s': %s", c.DagID, bad.Error()),
		}
	}
	seen, err := Deserialize(Serialize(t))
	if err != nil {
		return nil, withStage(err, StageDeserialize)
	}
	return seen, nil
}

// construct makes the timetable. unserializable is what will stop it from being
// serialized: Airflow looks at zones only then.
func construct(schedule any, c Config) (t Timetable, unserializable, err error) {
	switch v := schedule.(type) {
	case nil:
		return NewNullTimetable(), nil, nil
	case string:
		switch v {
		case "@once":
			return NewOnceTimetable(), nil, nil
		case "@continuous":
			return NewContinuousTimetable(), nil, nil
		}
		if c.CreateCronDataIntervals {
			return NewCronDataIntervalTimetable(v, c.DagTimezone), nil, nil
		}
		return NewCronTriggerTimetable(v, c.DagTimezone, Delta{}, RunImmediately{}), nil, nil
	case time.Duration:
		return construct(Delta{Micros: v.Microseconds()}, c)
	case Delta:
		if c.CreateCronDataIntervals {
			return NewDeltaDataIntervalTimetable(v), nil, nil
		}
		return NewDeltaTriggerTimetable(v, Delta{}), nil, nil
	case Assets:
		return NewAssetTriggeredTimetable(v.Condition), nil, nil
	case Object:
		return v.construct()
	case *Object:
		if v == nil {
			return NewNullTimetable(), nil, nil
		}
		return v.construct()
	}
	return nil, nil, &Error{Class: "ValueError", Message: fmt.Sprintf("%v is not a valid schedule", schedule)}
}

func (o *Object) construct() (t Timetable, unserializable, err error) {
	oneCron := func() (string, Zone, error) {
		if len(o.Crons) != 1 {
			return "", UTC, &Error{Class: "TypeError", Message: fmt.Sprintf("%s takes one cron expression, got %d", o.Class, len(o.Crons))}
		}
		zone, bad := o.Timezone.load()
		unserializable = bad
		return o.Crons[0], zone, nil
	}
	switch o.Class {
	case "NullTimetable":
		return NewNullTimetable(), nil, nil
	case "OnceTimetable":
		return NewOnceTimetable(), nil, nil
	case "ContinuousTimetable":
		return NewContinuousTimetable(), nil, nil
	case "CronTriggerTimetable":
		cron, zone, err := oneCron()
		return NewCronTriggerTimetable(cron, zone, o.Interval, o.RunImmediately), unserializable, err
	case "CronDataIntervalTimetable":
		cron, zone, err := oneCron()
		return NewCronDataIntervalTimetable(cron, zone), unserializable, err
	case "MultipleCronTriggerTimetable":
		zone, bad := o.Timezone.load()
		m, err := NewMultipleCronTriggerTimetable(o.Crons, zone, o.Interval, o.RunImmediately)
		if err != nil {
			return nil, nil, err
		}
		return m, bad, nil
	case "DeltaTriggerTimetable":
		return NewDeltaTriggerTimetable(o.Delta, o.Interval), nil, nil
	case "DeltaDataIntervalTimetable":
		return NewDeltaDataIntervalTimetable(o.Delta), nil, nil
	case "EventsTimetable":
		// The SDK's class does not keep the field that its serializer reads.
		return NewEventsTimetable(o.EventDates, o.RestrictToEvents, o.Presorted, o.Description), errors.New("'_summary'"), nil
	case "airflow.timetables.events.EventsTimetable":
		return NewEventsTimetable(o.EventDates, o.RestrictToEvents, o.Presorted, o.Description), nil, nil
	case "AssetOrTimeSchedule":
		if o.Timetable == nil {
			return nil, nil, &Error{Class: "TypeError", Message: "AssetOrTimeSchedule needs a timetable"}
		}
		inner, bad, err := o.Timetable.construct()
		if err != nil {
			return nil, nil, err
		}
		return NewAssetOrTimeSchedule(inner, o.Assets), bad, nil
	}
	return nil, nil, &UnknownTimetableError{Class: o.Class}
}

// Dag is what the dates of a DAG and the rules on its schedule depend on. Nil
// dates are not given. A start_date in default_args is the DAG's where it has
// none of its own; an end_date in default_args is not, it only goes to tasks.
type Dag struct {
	StartDate, EndDate *time.Time
	Catchup            bool
	MaxActiveRuns      int
	Tasks              []TaskDates
}

// TaskDates are the dates a task is given itself or by default_args.
type TaskDates struct{ StartDate, EndDate *time.Time }

// CheckSchedule makes the checks of the DAG object on the schedule as written:
// the run limit of @continuous, and a start date for catchup. The error is an
// *Error of StageConstruct.
func CheckSchedule(t Timetable, d Dag) error {
	if limit := t.ActiveRunsLimit(); limit != nil && d.MaxActiveRuns > *limit {
		return &Error{
			Stage: StageConstruct, Class: "ValueError",
			Message: fmt.Sprintf("Invalid max_active_runs: %s requires max_active_runs <= %d", t.Class(), *limit),
		}
	}
	if t.CanBeScheduled() && d.Catchup && d.StartDate == nil {
		return &Error{Stage: StageConstruct, Class: "ValueError", Message: "start_date is required when catchup=True"}
	}
	return nil
}

// Restrict returns the bounds the scheduler uses: the earliest start date, and
// the latest end date if nothing is left open. A task's dates never reach beyond
// the DAG's. The times are in UTC.
func Restrict(d Dag) Restriction {
	r := Restriction{Catchup: d.Catchup}
	earliest, latest, open := d.StartDate, d.EndDate, false
	for _, t := range d.Tasks {
		start, end := t.StartDate, t.EndDate
		if start != nil && (earliest == nil || d.StartDate == nil && start.Before(*earliest)) {
			earliest = start
		}
		switch {
		case d.EndDate != nil:
			// The DAG's own end is the latest there can be.
		case end == nil:
			open = true
		case latest == nil || end.After(*latest):
			latest = end
		}
	}
	if open {
		latest = nil
	}
	if earliest != nil {
		t := earliest.UTC()
		r.Earliest = &t
	}
	if latest != nil {
		t := latest.UTC()
		r.Latest = &t
	}
	return r
}
