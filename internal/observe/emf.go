package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
)

// CloudWatch writes a line of JSON for every change, and metrics in the embedded
// metric format, which CloudWatch takes out of the log. Failures are counted at
// once, because alarms wait for them. Durations are kept until there are a hundred
// or the oldest is a minute old: the frame of a line is thirty times as long as a
// value. What a sandbox has kept when it is taken away is lost; they are samples.
type CloudWatch struct {
	// To is the function's standard output; writes are whole lines.
	To io.Writer
	// Deployment is the value of awsenv.MetricDimension.
	Deployment string
	// Metrics are names of awsenv.DefaultMetrics and awsenv.OptInMetrics.
	Metrics []string
}

// ParseMetrics reads the environment variable awsenv.Metrics: "" are the default
// metrics.
func ParseMetrics(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return awsenv.DefaultMetrics(), nil
	}
	var names []string
	if err := json.Unmarshal([]byte(text), &names); err != nil {
		return nil, fmt.Errorf("%s: expected a JSON list of names, [] for none: %w", awsenv.Metrics, err)
	}
	known := append(awsenv.DefaultMetrics(), awsenv.OptInMetrics()...)
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("%s: there is no metric %q; there are %s", awsenv.Metrics, n, strings.Join(known, ", "))
		}
	}
	return names, nil
}

type cloudWatch struct {
	o   CloudWatch
	log *slog.Logger
	now func() time.Time
	on  map[string]bool
	// kept are durations that wait, by metric, and since when.
	kept  map[string][]float64
	since time.Time
}

func newCloudWatch(o CloudWatch, log *slog.Logger, now func() time.Time) *cloudWatch {
	w := &cloudWatch{o: o, log: log, now: now, on: map[string]bool{}, kept: map[string][]float64{}}
	for _, n := range o.Metrics {
		w.on[n] = true
	}
	return w
}

func (w *cloudWatch) name() string     { return "cloudwatch" }
func (w *cloudWatch) samples([]Sample) {}

// flush comes at the end of each invocation, also of ticks.
func (w *cloudWatch) flush(context.Context) { w.emitOld(w.now()) }
func (w *cloudWatch) idle(context.Context)  {}
func (w *cloudWatch) close()                { w.emit(w.kept, w.since) }

// keepMetrics is how long durations may wait for more of them.
const keepMetrics = time.Minute

// emitOld writes the durations that have waited for long.
func (w *cloudWatch) emitOld(now time.Time) {
	if len(w.kept) > 0 && now.Sub(w.since) >= keepMetrics {
		w.emit(w.kept, w.since)
		clear(w.kept)
	}
}

// isCount reports whether a metric counts something; the others are durations.
func isCount(metric string) bool {
	switch metric {
	case awsenv.MetricTaskInstancesFailed, awsenv.MetricDagRunsFailed, awsenv.MetricTaskInstancesSucceeded:
		return true
	}
	return false
}

// logged reports whether a state of a task instance is worth a line: what ends a
// dispatch or the instance. That it was scheduled, queued and started stands in the
// dates of that line: a line for each would triple the bytes that are paid for.
func logged(t engine.TaskChange) bool {
	switch t.To {
	case airflow.TINone, airflow.TIScheduled, airflow.TIQueued, airflow.TIRunning:
		return false
	}
	return true
}

func (w *cloudWatch) change(c engine.Change) {
	counts, full := map[string][]float64{}, false
	count := func(metric string, v float64) {
		switch {
		case !w.on[metric]:
		case isCount(metric):
			counts[metric] = append(counts[metric], v)
		default:
			if len(w.kept) == 0 {
				w.since = c.At
			}
			w.kept[metric] = append(w.kept[metric], v)
			full = full || len(w.kept[metric]) >= maxValues
		}
	}
	hops := map[airflow.TaskInstanceKey]float64{}
	for _, t := range c.Tasks {
		if t.HopKnown {
			ms := millis(max(0, t.Hop))
			hops[t.TaskInstanceKey] = ms
			count(awsenv.MetricHop, tenth(ms))
		}
		if !logged(t) {
			continue
		}
		line := taskLine{
			Event: awsenv.LogTaskInstance, State: t.To.String(), DagID: t.DagID, RunID: t.RunID, TaskID: t.TaskID, TryNumber: t.TryNumber,
			Queue: t.Queue, Pool: t.Pool, Operator: t.Operator, StartDate: t.StartDate.UTC().Truncate(time.Millisecond),
		}
		if t.StartDate.IsZero() {
			line.StartDate = time.Time{}
		}
		if line.Queue == usualQueue {
			line.Queue = ""
		}
		if line.Pool == airflow.DefaultPool {
			line.Pool = ""
		}
		if !t.QueuedWhen.IsZero() && !t.StartDate.IsZero() {
			d := tenth(millis(max(0, t.StartDate.Sub(t.QueuedWhen))))
			line.Queued = &d
		}
		if t.MapIndex >= 0 {
			line.MapIndex = &t.MapIndex
		}
		if t.From == airflow.TIRunning && !t.EndDate.IsZero() && !t.StartDate.IsZero() && (t.To.Finished() || t.To == airflow.TIUpForRetry) {
			d := round(millis(max(0, t.EndDate.Sub(t.StartDate))))
			line.Duration = &d
			count(awsenv.MetricTaskDuration, d)
		}
		if h, ok := hops[t.TaskInstanceKey]; ok {
			h = tenth(h)
			line.Hop = &h
		}
		w.line(line)
		if t.To == airflow.TIFailed {
			count(awsenv.MetricTaskInstancesFailed, 1)
		}
		if t.To == airflow.TISuccess {
			count(awsenv.MetricTaskInstancesSucceeded, 1)
		}
	}
	if r := c.Run; c.From != r.State {
		line := runLine{Event: awsenv.LogDagRun, State: string(r.State), DagID: r.DagID, RunID: r.RunID, RunType: r.RunType, Reason: c.Reason}
		if r.State.Finished() && r.StartDate != nil && r.EndDate != nil {
			d := round(millis(r.EndDate.Sub(*r.StartDate)))
			line.Duration = &d
			count(awsenv.MetricDagRunDuration, d)
		}
		if r.State == airflow.RunRunning && r.StartDate != nil && r.RunType == airflow.RunTypeScheduled && r.ClearNumber == 0 {
			d := round(millis(r.StartDate.Sub(r.RunAfter)))
			line.ScheduleDelay = &d
			count(awsenv.MetricScheduleDelay, d)
		}
		if r.State == airflow.RunFailed {
			count(awsenv.MetricDagRunsFailed, 1)
		}
		w.line(line)
	}
	switch {
	case full || len(counts) > 0: // the frame is paid for: all go along
		for name, vs := range w.kept {
			counts[name] = vs
		}
		w.emit(counts, c.At)
		clear(w.kept)
	default:
		w.emitOld(c.At)
	}
}

// usualQueue is the Airflow queue of most tasks.
const usualQueue = "default"

func round(ms float64) float64 { return float64(int64(ms*1000+0.5)) / 1000 }
func tenth(ms float64) float64 { return float64(int64(ms*10+0.5)) / 10 }

type taskLine struct {
	Event     string         `json:"event"`
	State     string         `json:"state"`
	DagID     airflow.DagID  `json:"dag_id"`
	RunID     airflow.RunID  `json:"run_id"`
	TaskID    airflow.TaskID `json:"task_id"`
	MapIndex  *int           `json:"map_index,omitempty"`
	TryNumber int            `json:"try_number,omitempty"`
	// Queue and Pool are left out where they are what most tasks have.
	Queue     string    `json:"queue,omitempty"`
	Pool      string    `json:"pool,omitempty"`
	Operator  string    `json:"operator,omitempty"`
	StartDate time.Time `json:"start_date,omitzero"`
	// Queued is from queued_when to start_date.
	Queued   *float64 `json:"queued_ms,omitempty"`
	Duration *float64 `json:"duration_ms,omitempty"`
	Hop      *float64 `json:"hop_ms,omitempty"`
}

type runLine struct {
	Event         string             `json:"event"`
	State         string             `json:"state"`
	DagID         airflow.DagID      `json:"dag_id"`
	RunID         airflow.RunID      `json:"run_id"`
	RunType       airflow.DagRunType `json:"run_type"`
	Reason        string             `json:"reason,omitempty"`
	Duration      *float64           `json:"duration_ms,omitempty"`
	ScheduleDelay *float64           `json:"schedule_delay_ms,omitempty"`
}

func (w *cloudWatch) line(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = w.o.To.Write(append(b, '\n'))
	}
	if err != nil {
		w.log.Error("line of the log not written", "err", err)
	}
}

// maxValues is how many values of a metric one line may hold.
const maxValues = 100

// emit writes metrics. There is one dimension, so that a metric stays
// one metric ($0.30 a month) however many DAGs there are.
func (w *cloudWatch) emit(values map[string][]float64, at time.Time) {
	names := make([]string, 0, len(values))
	for n := range values {
		names = append(names, n)
	}
	sort.Strings(names)
	type definition struct {
		Name string
		Unit string
	}
	for len(names) > 0 {
		line := map[string]any{awsenv.MetricDimension: w.o.Deployment}
		var defs []definition
		var more []string
		for _, n := range names {
			vs := values[n]
			unit := "Milliseconds"
			if isCount(n) {
				unit = "Count"
				sum := 0.0
				for _, v := range vs {
					sum += v
				}
				vs = []float64{sum}
			}
			if len(vs) > maxValues {
				values[n] = vs[maxValues:]
				more = append(more, n)
				vs = vs[:maxValues]
			}
			defs = append(defs, definition{n, unit})
			if len(vs) == 1 {
				line[n] = vs[0]
			} else {
				line[n] = vs
			}
		}
		line["_aws"] = map[string]any{
			"Timestamp": at.UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace": awsenv.MetricNamespace, "Dimensions": [][]string{{awsenv.MetricDimension}}, "Metrics": defs,
			}},
		}
		w.line(line)
		names = more
	}
}
