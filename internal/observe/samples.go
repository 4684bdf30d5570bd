package observe

import (
	"regexp"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
)

// Kind is what a measurement is.
type Kind byte

// The kinds of measurements.
const (
	Counter Kind = iota // Value is added
	Gauge               // Value replaces the last one
	Timer               // Value is a duration in milliseconds
)

// Tag is a label of a measurement.
type Tag struct{ Key, Value string }

// Sample is one measurement, by Airflow's name.
type Sample struct {
	Kind  Kind
	Name  string
	Value float64
	Tags  []Tag
	// Legacy is the name that has some of the tags in it ("" = there is none), LegacyTags
	// are the tags that are not: what Airflow exports besides while [metrics]
	// legacy_names_on is set.
	Legacy     string
	LegacyTags []Tag
}

// legacyNames are Airflow's names with variables in them, by name.
var legacyNames = map[string]string{
	"ti.start": "ti.start.{dag_id}.{task_id}", "ti.finish": "ti.finish.{dag_id}.{task_id}.{state}",
	"task.duration": "dag.{dag_id}.{task_id}.duration", "task.scheduled_duration": "dag.{dag_id}.{task_id}.scheduled_duration",
	"task.queued_duration": "dag.{dag_id}.{task_id}.queued_duration", "operator_failures": "operator_failures_{operator_name}",
	"operator_successes": "operator_successes_{operator_name}", "dagrun.duration.success": "dagrun.duration.success.{dag_id}",
	"dagrun.duration.failed": "dagrun.duration.failed.{dag_id}", "dagrun.schedule_delay": "dagrun.schedule_delay.{dag_id}",
	"dagrun.first_task_scheduling_delay": "dagrun.{dag_id}.first_task_scheduling_delay",
	"executor.open_slots":                "executor.open_slots.{executor_class_name}", "executor.queued_tasks": "executor.queued_tasks.{executor_class_name}",
	"executor.running_tasks": "executor.running_tasks.{executor_class_name}", "pool.open_slots": "pool.open_slots.{pool_name}",
	"pool.queued_slots": "pool.queued_slots.{pool_name}", "pool.running_slots": "pool.running_slots.{pool_name}",
	"pool.deferred_slots": "pool.deferred_slots.{pool_name}", "pool.scheduled_slots": "pool.scheduled_slots.{pool_name}",
}

var variable = regexp.MustCompile(`\{(\w+)\}`)

// NewSample makes a measurement with Airflow's legacy name, if it has one.
func NewSample(kind Kind, name string, value float64, tags ...Tag) Sample {
	s := Sample{Kind: kind, Name: name, Value: value, Tags: tags}
	pattern := legacyNames[name]
	if pattern == "" {
		return s
	}
	used := map[string]bool{}
	s.Legacy = variable.ReplaceAllStringFunc(pattern, func(v string) string {
		key := v[1 : len(v)-1]
		for _, t := range tags {
			if t.Key == key {
				used[key] = true
				return strings.ReplaceAll(t.Value, ".", "__") // a dot divides the parts of a name
			}
		}
		return "_"
	})
	for _, t := range tags {
		if !used[t.Key] {
			s.LegacyTags = append(s.LegacyTags, t)
		}
	}
	return s
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measure lists what Airflow would measure of a step.
func measure(c engine.Change) []Sample {
	var out []Sample
	add := func(kind Kind, name string, value float64, tags ...Tag) {
		out = append(out, NewSample(kind, name, value, tags...))
	}
	for _, t := range c.Tasks {
		dag, task := Tag{"dag_id", string(t.DagID)}, Tag{"task_id", string(t.TaskID)}
		// Airflow looks at the first round only.
		first := t.DispatchSeq == 1
		switch t.To {
		case airflow.TIQueued:
			if first && !t.ScheduledWhen.IsZero() {
				add(Timer, "task.scheduled_duration", millis(max(0, t.QueuedWhen.Sub(t.ScheduledWhen))), dag, task, Tag{"queue", t.Queue})
			}
			continue
		case airflow.TIRunning:
			if first && !t.QueuedWhen.IsZero() && !t.StartDate.IsZero() {
				add(Timer, "task.queued_duration", millis(max(0, t.StartDate.Sub(t.QueuedWhen))), dag, task, Tag{"queue", t.Queue})
			}
			add(Counter, "ti.start", 1, dag, task)
			continue
		}
		if t.From == airflow.TIRunning && ended(t.To) {
			add(Counter, "ti.finish", 1, dag, task, Tag{"state", t.To.String()})
		}
		if t.From == airflow.TIRunning && (t.To.Finished() || t.To == airflow.TIUpForRetry) && !t.StartDate.IsZero() && !t.EndDate.IsZero() {
			add(Timer, "task.duration", millis(max(0, t.EndDate.Sub(t.StartDate))), dag, task)
		}
		switch {
		case t.To == airflow.TISuccess && t.From == airflow.TIRunning:
			add(Counter, "operator_successes", 1, dag, task, Tag{"operator_name", t.Operator})
			add(Counter, "ti_successes", 1, dag, task)
		case t.To == airflow.TIUpForRetry && t.From == airflow.TIRunning, t.To == airflow.TIFailed && (t.From == airflow.TIRunning || t.From == airflow.TIQueued):
			add(Counter, "operator_failures", 1, dag, task, Tag{"operator_name", t.Operator})
			add(Counter, "ti_failures", 1, dag, task)
		}
	}
	return append(out, measureRun(c)...)
}

// ended reports whether a state ends a dispatch.
func ended(s airflow.TIState) bool {
	switch s {
	case airflow.TISuccess, airflow.TIFailed, airflow.TISkipped, airflow.TIUpForRetry, airflow.TIUpForReschedule, airflow.TIDeferred:
		return true
	}
	return false
}

func measureRun(c engine.Change) []Sample {
	r := c.Run
	if c.From == r.State {
		return nil
	}
	dag, typ := Tag{"dag_id", string(r.DagID)}, Tag{"run_type", string(r.RunType)}
	var out []Sample
	switch {
	case r.State == airflow.RunRunning:
		if (r.RunType == airflow.RunTypeScheduled || r.RunType == airflow.RunTypeBackfill) && r.ClearNumber == 0 && r.StartDate != nil {
			out = append(out, NewSample(Timer, "dagrun.schedule_delay", millis(r.StartDate.Sub(r.RunAfter)), dag))
		}
	case r.State.Finished():
		if r.StartDate != nil && r.EndDate != nil {
			out = append(out, NewSample(Timer, "dagrun.duration."+string(r.State), millis(r.EndDate.Sub(*r.StartDate)), dag, typ))
		}
		if r.RunType != airflow.RunTypeScheduled || r.ClearNumber > 0 || c.FirstStart.IsZero() {
			break
		}
		if d := c.FirstStart.Sub(r.RunAfter); d > 0 {
			out = append(out, NewSample(Timer, "dagrun.first_task_scheduling_delay", millis(d), dag, typ))
		}
		if r.QueuedAt != nil && c.FirstStart.After(*r.QueuedAt) {
			out = append(out, NewSample(Timer, "dagrun.first_task_start_delay", millis(c.FirstStart.Sub(*r.QueuedAt)), dag, typ))
		}
	}
	return out
}
