package timetable

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Serialized is a timetable as it stands in a serialized DAG.
type Serialized struct {
	// Type is the import path of the class.
	Type string `json:"__type"`
	// Var holds the fields the class wrote.
	Var map[string]any `json:"__var"`
}

// UnknownTimetableError reports a class that Gust cannot evaluate: a user's own
// timetable, or a partition timetable.
type UnknownTimetableError struct {
	// Class is the import path.
	Class string
}

// Error names the class and what to do.
func (e *UnknownTimetableError) Error() string {
	return fmt.Sprintf("timetable %s is not one of Airflow's built-in timetables that Gust evaluates: use one of those, "+
		"such as airflow.timetables.trigger.MultipleCronTriggerTimetable or airflow.timetables.events.EventsTimetable", e.Class)
}

// Serialize returns the serialized form, which Parse and Deserialize read back.
func Serialize(t Timetable) Serialized {
	return Serialized{Type: t.importPath(), Var: t.serialize()}
}

// Parse reads the serialized form {"__type": …, "__var": {…}}. See Deserialize.
func Parse(data []byte) (Timetable, error) {
	var s Serialized
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, &Error{Stage: StageDeserialize, Class: "ValueError", Message: `timetable: expected {"__type": class, "__var": {…}}: ` + err.Error()}
	}
	return Deserialize(s)
}

// Deserialize makes the timetable of a serialized form. The error is an
// *UnknownTimetableError, or an *Error that names every field that is missing
// or wrong.
func Deserialize(s Serialized) (Timetable, error) {
	f := &fields{values: s.Var}
	var t Timetable
	switch s.Type {
	case "airflow.timetables.simple.NullTimetable":
		t = NewNullTimetable()
	case "airflow.timetables.simple.OnceTimetable":
		t = NewOnceTimetable()
	case "airflow.timetables.simple.ContinuousTimetable":
		t = NewContinuousTimetable()
	case "airflow.timetables.simple.AssetTriggeredTimetable":
		t = NewAssetTriggeredTimetable(f.assets())
	case "airflow.timetables.assets.AssetOrTimeSchedule":
		inner, err := f.timetable("timetable")
		var unknown *UnknownTimetableError
		if errors.As(err, &unknown) {
			return nil, err
		}
		t = NewAssetOrTimeSchedule(inner, f.assets())
	case "airflow.timetables.trigger.CronTriggerTimetable":
		t = NewCronTriggerTimetable(f.text("expression"), f.zone("timezone"), f.delta("interval"), f.runImmediately("run_immediately"))
	case "airflow.timetables.trigger.MultipleCronTriggerTimetable":
		expressions := f.texts("expressions")
		zone, interval, immediately := f.zone("timezone"), f.delta("interval"), f.runImmediately("run_immediately")
		m, err := NewMultipleCronTriggerTimetable(expressions, zone, interval, immediately)
		if err != nil {
			f.problem("expressions", err)
		}
		t = m
	case "airflow.timetables.trigger.DeltaTriggerTimetable":
		t = NewDeltaTriggerTimetable(f.delta("delta"), f.delta("interval"))
	case "airflow.timetables.interval.CronDataIntervalTimetable":
		t = NewCronDataIntervalTimetable(f.text("expression"), f.zone("timezone"))
	case "airflow.timetables.interval.DeltaDataIntervalTimetable":
		t = NewDeltaDataIntervalTimetable(f.delta("delta"))
	case "airflow.timetables.events.EventsTimetable":
		description := f.text("description")
		events := NewEventsTimetable(f.times("event_dates"), f.flag("restrict_to_events"), true, &description)
		events.summary = f.text("_summary")
		t = events
	default:
		return nil, &UnknownTimetableError{Class: s.Type}
	}
	if err := f.err(s.Type); err != nil {
		return nil, err
	}
	return t, nil
}

// fields reads the values of one serialized timetable and collects what is
// wrong with them.
type fields struct {
	values   map[string]any
	problems []string
	class    string // exception class of the first problem that has one
}

func (f *fields) problem(name string, err error) {
	f.problems = append(f.problems, name+": "+err.Error())
	var e *Error
	if f.class == "" && errors.As(err, &e) {
		f.class = e.Class
	}
}

func (f *fields) err(path string) error {
	if len(f.problems) == 0 {
		return nil
	}
	class := f.class
	if class == "" {
		class = "ValueError"
	}
	return &Error{Stage: StageDeserialize, Class: class, Message: path + ": " + strings.Join(f.problems, "; ")}
}

func (f *fields) expected(name, what string) {
	f.problem(name, fmt.Errorf("expected %s, got %v", what, f.values[name]))
}

func (f *fields) text(name string) string {
	s, ok := f.values[name].(string)
	if !ok {
		f.expected(name, "a string")
	}
	return s
}

func (f *fields) texts(name string) []string {
	list, ok := f.values[name].([]any)
	if !ok {
		f.expected(name, "a list of strings")
		return nil
	}
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			f.expected(name, "a list of strings")
			return nil
		}
		out = append(out, s)
	}
	return out
}

func (f *fields) flag(name string) bool {
	b, ok := f.values[name].(bool)
	if !ok {
		f.expected(name, "true or false")
	}
	return b
}

func (f *fields) zone(name string) Zone {
	if s, ok := f.values[name].(string); ok {
		z, err := LoadZone(s)
		if err != nil {
			f.problem(name, err)
		}
		return z
	}
	n, ok := wholeNumber(f.values[name])
	if !ok || n <= -86400 || n >= 86400 {
		f.expected(name, "a zone name or an offset in seconds")
		return UTC
	}
	return FixedZone(n)
}

func (f *fields) delta(name string) Delta {
	d, err := parseDelta(f.values[name])
	if err != nil {
		f.problem(name, err)
	}
	return d
}

func (f *fields) runImmediately(name string) RunImmediately {
	v, present := f.values[name]
	switch v := v.(type) {
	case nil:
		if present {
			return RunImmediately{Kind: RunImmediatelyNone}
		}
		return RunImmediately{}
	case bool:
		if v {
			return RunImmediately{Kind: RunImmediatelyTrue}
		}
		return RunImmediately{}
	}
	s, ok := number(v)
	if !ok {
		f.expected(name, "true, false, null or seconds")
	}
	return RunImmediately{Kind: RunImmediatelyWithin, Within: Seconds(s).Micros}
}

func (f *fields) times(name string) []time.Time {
	var out []time.Time
	for _, s := range f.texts(name) {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			f.problem(name, fmt.Errorf("expected an ISO 8601 time with an offset, got %q", s))
			return nil
		}
		if _, off := t.Zone(); off == 0 {
			t = t.UTC()
		} else {
			t = t.In(time.FixedZone("", off))
		}
		out = append(out, t)
	}
	return out
}

func (f *fields) assets() any {
	v := f.values["asset_condition"]
	if v == nil {
		f.expected("asset_condition", "an asset expression")
	}
	return v
}

// timetable reads a nested timetable; the error is also among the problems.
func (f *fields) timetable(name string) (Timetable, error) {
	var s Serialized
	switch v := f.values[name].(type) {
	case Serialized:
		s = v
	case map[string]any:
		s.Type, _ = v["__type"].(string)
		s.Var, _ = v["__var"].(map[string]any)
	default:
		f.expected(name, "a serialized timetable")
		return NewNullTimetable(), nil
	}
	t, err := Deserialize(s)
	if err != nil {
		f.problem(name, err)
		return NewNullTimetable(), err
	}
	return t, nil
}

// number reads a JSON number.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case json.Number:
		n, err := v.Float64()
		return n, err == nil
	}
	return 0, false
}

// wholeNumber reads a JSON number without a fraction.
func wholeNumber(v any) (int, bool) {
	n, ok := number(v)
	if !ok || n != float64(int(n)) {
		return 0, false
	}
	return int(n), true
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// withStage returns err, an *Error, at a stage.
func withStage(err error, stage Stage) error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Stage: stage, Class: e.Class, Message: e.Message}
	}
	return err
}

// pythonString is str() of a datetime.
func pythonString(t time.Time) string { return strings.Replace(isoFormat(t), "T", " ", 1) }
