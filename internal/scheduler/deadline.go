package scheduler

import "time"

// Deadline is one deadline of a run, worked out when the run was created.
type Deadline struct {
	// Index is the position of the alert in DAG.Deadlines.
	Index int
	At    time.Time
}

// DeadlineFacts are what deadline references look at besides the run.
type DeadlineFacts struct {
	// RecentDurations are the durations of the DAG's newest finished successful
	// runs, newest first, for AverageRuntime references.
	RecentDurations []time.Duration
}
