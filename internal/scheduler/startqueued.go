package scheduler

import (
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// QueuedRun is a DagRun that waits to start.
type QueuedRun struct {
	Key             RunKey
	RunAfter        Micros
	LastDecision    Micros // last_scheduling_decision; 0 = never
	BackfillID      int64  // 0 = not of a backfill
	BackfillOrdinal int
	Paused          bool // its DAG is paused or stale
	BackfillPaused  bool
}

// RunSlot is what a limit on running runs applies to: a DAG's own runs, or those of one backfill.
type RunSlot struct {
	DagID      airflow.DagID
	BackfillID int64
}

// StartLimits are the limits on running runs.
type StartLimits struct {
	Running       map[RunSlot]int // running runs
	MaxActiveRuns map[RunSlot]int // missing = no limit
	Max           int             // most runs to start in one call; 0 = no limit
}

// StartQueued returns the indexes of the runs that may start, in the order in
// which Airflow takes them: runs of the DAG itself before those of backfills,
// these by ordinal; then the least recently examined, then those whose DAG has
// fewest running runs, then by run_after. A run starts if its DAG is not paused
// or stale, its backfill is not paused, its run_after has come, and fewer runs
// than the limit are running: max_active_runs for a DAG's own runs, the
// backfill's own limit for its runs.
func StartQueued(runs []QueuedRun, lim StartLimits, now time.Time) []int {
	at := At(now)
	slot := func(i int) RunSlot { return RunSlot{runs[i].Key.DagID, runs[i].BackfillID} }
	var order []int
	for i, r := range runs {
		if !r.Paused && !r.BackfillPaused && r.RunAfter <= at {
			order = append(order, i)
		}
	}
	sort.Slice(order, func(i, j int) bool {
		x, y := &runs[order[i]], &runs[order[j]]
		nx, ny := lim.Running[slot(order[i])], lim.Running[slot(order[j])]
		switch {
		case x.BackfillOrdinal != y.BackfillOrdinal:
			return x.BackfillOrdinal < y.BackfillOrdinal // 0 = not of a backfill
		case x.LastDecision != y.LastDecision:
			return x.LastDecision < y.LastDecision
		case nx != ny:
			return nx < ny
		case x.RunAfter != y.RunAfter:
			return x.RunAfter < y.RunAfter
		case x.Key.DagID != y.Key.DagID:
			return x.Key.DagID < y.Key.DagID
		}
		return x.Key.RunID < y.Key.RunID
	})
	started := map[RunSlot]int{}
	var out []int
	for _, i := range order {
		if lim.Max > 0 && len(out) == lim.Max {
			break
		}
		s := slot(i)
		if most, ok := lim.MaxActiveRuns[s]; ok && lim.Running[s]+started[s] >= most {
			continue
		}
		started[s]++
		out = append(out, i)
	}
	return out
}
