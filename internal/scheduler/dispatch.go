package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// DefaultMaxRequeues is [scheduler] num_stuck_in_queued_retries.
const DefaultMaxRequeues = 2

// Dispatch moves scheduled instances to queued, raising dispatch_seq: the number
// that the worker must show to claim, to beat and to report. After timeout (0 =
// never) without a claim Decide sends the instance again or fails it. Positions
// that are not scheduled, or whose run is not running, are left alone and missing
// from the result.
func Dispatch(g *Graph, rs *RunState, positions []int, timeout time.Duration, now time.Time) []Transition {
	var log []Transition
	before := rs.run.log
	rs.run.log = &log
	defer func() { rs.run.log = before }()
	for _, pos := range positions {
		if pos < 0 || pos >= rs.Len() || rs.Header.State != airflow.RunRunning {
			continue
		}
		t := rs.ti(int32(pos))
		if t.State != airflow.TIScheduled {
			continue
		}
		t.DispatchSeq++
		t.Queued = At(now)
		t.Flags &^= FlagCancel
		rs.set(g, int32(pos), airflow.TIQueued, CodeAdmitted)
		if timeout > 0 {
			rs.setWake(int32(pos), At(now.Add(timeout)))
		}
	}
	return log
}

// notAccepted is the fate of a dispatch that no worker took in time: it is sent
// again a few times, then the instance fails outright, whatever its retries.
func (rs *RunState) notAccepted(g *Graph, pos int32, maxRequeues int, now Micros) {
	t := rs.ti(pos)
	switch {
	case maxRequeues == 0:
		maxRequeues = DefaultMaxRequeues
	case maxRequeues < 0:
		maxRequeues = 0
	}
	t.WakeAt = 0
	if int(t.Requeues) < maxRequeues {
		t.Requeues++
		t.Scheduled = now
		rs.set(g, pos, airflow.TIScheduled, CodeQueuedTimeout)
		return
	}
	t.End = now
	rs.set(g, pos, airflow.TIFailed, CodeQueuedTimeout)
}
