package scheduler

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Deadline is one deadline of a run, worked out when the run was created.
type Deadline struct {
	// Index is the position of the alert in DAG.Deadlines.
	Index int
	At    time.Time
}

// DeadlineFacts are what deadline references look at besides the run.
type DeadlineFacts struct {
	// RecentDurations are the durations of the DAG's newest successfully
	// finished runs, newest first, for AverageRuntime references.
	RecentDurations []time.Duration
}

// Deadlines works out the deadlines of a new run, soonest first: reference plus
// interval. A reference without a value (no logical date, too few runs to
// average) gives none; one that Gust cannot evaluate is reported in the error,
// beside the deadlines of the others.
func Deadlines(dag *airflow.DAG, h Header, f DeadlineFacts, now time.Time) ([]Deadline, error) {
	var out []Deadline
	var problems []airflow.Problem
	for i, raw := range dag.Deadlines {
		at, ok, err := deadlineAt(raw, h, f, now)
		if err != nil {
			problems = append(problems, airflow.Problem{Field: fmt.Sprintf("dag.deadline[%d]", i), Message: err.Error()})
		} else if ok {
			out = append(out, Deadline{Index: i, At: at})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].At.Before(out[j].At) })
	if problems != nil {
		return out, &airflow.InvalidError{Problems: problems}
	}
	return out, nil
}

func deadlineAt(raw json.RawMessage, h Header, f DeadlineFacts, now time.Time) (at time.Time, ok bool, err error) {
	var d struct {
		Reference struct {
			Type     string          `json:"reference_type"`
			Datetime json.RawMessage `json:"datetime"`
			MaxRuns  int             `json:"max_runs"`
			MinRuns  *int            `json:"min_runs"`
		} `json:"reference"`
		Interval json.RawMessage `json:"interval"`
	}
	if err := json.Unmarshal(airflow.Untag(raw), &d); err != nil {
		return at, false, fmt.Errorf("a deadline is not of the expected shape {reference, interval, callback}: %v", err)
	}
	interval, err := deadlineInterval(d.Interval)
	if err != nil {
		return at, false, err
	}
	switch name := strings.TrimSuffix(d.Reference.Type, "Deadline"); name {
	case "DagRunQueuedAt":
		at, ok = h.QueuedAt, !h.QueuedAt.IsZero()
	case "DagRunLogicalDate":
		if h.LogicalDate != nil {
			at, ok = *h.LogicalDate, true
		}
	case "FixedDatetime":
		at, err = deadlineTime(d.Reference.Datetime)
		ok = err == nil
	case "AverageRuntime":
		limit := d.Reference.MaxRuns
		if limit <= 0 {
			limit = 10
		}
		least := limit
		if d.Reference.MinRuns != nil {
			least = *d.Reference.MinRuns
		}
		runs := f.RecentDurations[:min(limit, len(f.RecentDurations))]
		if len(runs) == 0 || len(runs) < least {
			return at, false, nil
		}
		var sum time.Duration
		for _, r := range runs {
			sum += r
		}
		at, ok = now.Add(sum/time.Duration(len(runs))), true
	default:
		return at, false, fmt.Errorf("deadline reference %q is unknown: expected DagRunQueuedAtDeadline, DagRunLogicalDateDeadline, FixedDatetimeDeadline or AverageRuntimeDeadline", d.Reference.Type)
	}
	return at.Add(interval).UTC(), ok, err
}

// deadlineInterval reads seconds, plain or in either of Airflow's encodings of a timedelta.
func deadlineInterval(raw json.RawMessage) (time.Duration, error) {
	var tagged struct {
		Data json.RawMessage `json:"__data__"`
	}
	v := airflow.Untag(raw)
	if json.Unmarshal(v, &tagged) == nil && tagged.Data != nil {
		v = tagged.Data
	}
	var s float64
	if err := json.Unmarshal(v, &s); err != nil {
		return 0, fmt.Errorf("deadline interval %s: expected a number of seconds or a timedelta", raw)
	}
	return airflow.SecondsDuration(s), nil
}

func deadlineTime(raw json.RawMessage) (time.Time, error) {
	var tagged struct {
		Data json.RawMessage `json:"__data__"`
	}
	v := airflow.Untag(raw)
	if json.Unmarshal(v, &tagged) == nil && tagged.Data != nil {
		v = tagged.Data
	}
	var epoch float64
	if json.Unmarshal(v, &epoch) == nil {
		return airflow.EpochTime(epoch), nil
	}
	var obj struct {
		Timestamp *float64 `json:"timestamp"`
	}
	if json.Unmarshal(v, &obj) == nil && obj.Timestamp != nil {
		return airflow.EpochTime(*obj.Timestamp), nil
	}
	var text string
	if json.Unmarshal(v, &text) == nil {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("deadline datetime %s: expected epoch seconds or an ISO 8601 date with offset", raw)
}

// missedDeadlines takes the deadlines that have passed. They fire once, also for
// a run that failed; success drops what is left.
func (rs *RunState) missedDeadlines(now Micros) (out []Effect) {
	h := &rs.Header
	if h.State == airflow.RunSuccess {
		return nil
	}
	for len(h.Deadlines) > 0 && At(h.Deadlines[0].At) < now {
		out = append(out, DeadlineMissed{Deadline: h.Deadlines[0]})
		h.Deadlines = h.Deadlines[1:]
		rs.HeaderDirty = true
	}
	return out
}

func (rs *RunState) deadlineWake() time.Time {
	if len(rs.Header.Deadlines) == 0 || rs.Header.State == airflow.RunSuccess {
		return time.Time{}
	}
	return rs.Header.Deadlines[0].At.Add(time.Microsecond)
}
