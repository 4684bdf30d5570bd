package timetable

import "time"

// ManualRun is a manual run about to be made.
type ManualRun struct {
	RunID string `json:"run_id"`
	RunInfo
}

// TriggerRequest is the body of the API's POST dagRuns, as far as dates go.
type TriggerRequest struct {
	// RunID is the id asked for, nil to have one made.
	RunID *string
	// LogicalDate is nil for a run without one.
	LogicalDate *time.Time
	// RunAfter is nil for now.
	RunAfter *time.Time
	// DataIntervalStart and DataIntervalEnd are given together or not at all.
	DataIntervalStart, DataIntervalEnd *time.Time
}

// APITrigger returns the run that the API makes. Its interval is inferred from
// the logical date, unless given; a run without a logical date has none.
func APITrigger(t Timetable, r TriggerRequest, now time.Time) (ManualRun, error) {
	if (r.DataIntervalStart == nil) != (r.DataIntervalEnd == nil) {
		return ManualRun{}, &Error{Class: "ValueError", Message: "Either both data_interval_start and data_interval_end must be provided or both must be None"}
	}
	out := ManualRun{RunInfo: RunInfo{LogicalDate: r.LogicalDate, RunAfter: orTime(r.RunAfter, now)}}
	if r.LogicalDate != nil {
		interval, err := DataInterval{}, error(nil)
		if r.DataIntervalStart != nil {
			interval = DataInterval{Start: *r.DataIntervalStart, End: *r.DataIntervalEnd}
		} else if interval, err = t.InferManualDataInterval(*r.LogicalDate); err != nil {
			return ManualRun{}, err
		}
		out.DataInterval = &interval
	}
	if r.RunID != nil {
		out.RunID = *r.RunID
	} else {
		out.RunID = RunID("manual", out.RunAfter)
	}
	return out, nil
}

// TriggerDag returns the run that the CLI and TriggerDagRunOperator make. Unlike
// the API it infers the interval from runAfter (nil is now), while the logical
// date is kept as given, cut to the second if replaceMicroseconds is set.
func TriggerDag(t Timetable, runID *string, runAfter, logicalDate *time.Time, replaceMicroseconds bool, now time.Time) (ManualRun, error) {
	out := ManualRun{RunInfo: RunInfo{RunAfter: orTime(runAfter, now)}}
	if logicalDate != nil {
		date := *logicalDate
		if replaceMicroseconds {
			date = date.Add(-time.Duration(date.Nanosecond()))
		}
		interval, err := t.InferManualDataInterval(out.RunAfter)
		if err != nil {
			return ManualRun{}, err
		}
		out.LogicalDate, out.DataInterval = &date, &interval
	}
	if runID != nil {
		out.RunID = *runID
	} else {
		out.RunID = RunID("manual", out.RunAfter)
	}
	return out, nil
}

func orTime(t *time.Time, now time.Time) time.Time {
	if t != nil {
		return *t
	}
	return now
}
