package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// RunView is the state of a run as it is stored, for reading: nothing done to it
// is kept.
type RunView struct {
	Run   airflow.DagRun
	Graph *scheduler.Graph
	State *scheduler.RunState
}

// ViewRun reads the state of a run. A run that has not started has the instances
// that it will start with.
func (e *Engine) ViewRun(ctx context.Context, info airflow.DagRun) (RunView, error) {
	g, rs, err := e.readState(ctx, info)
	if err != nil {
		return RunView{}, fmt.Errorf("run %s/%s: %w", info.DagID, info.RunID, err)
	}
	if rs == nil {
		h, err := e.headerOf(ctx, g, info)
		if err != nil {
			return RunView{}, err
		}
		rs = scheduler.NewRun(g, h)
	}
	return RunView{info, g, rs}, nil
}

// Len returns the number of instances; they are in order of creation.
func (v RunView) Len() int { return v.State.Len() }

// Key returns the key of the instance at a position.
func (v RunView) Key(pos int) airflow.TaskInstanceKey { return v.State.Key(v.Graph, pos) }

// HasRow reports whether the instance at a position was ever dispatched, so that
// it may have a row.
func (v RunView) HasRow(pos int) bool { return v.State.At(pos).DispatchSeq > 0 }

// Instance merges the state of an instance with its row; row may be nil.
func (v RunView) Instance(pos int, row *store.Attempt) airflow.TaskInstance {
	return viewOf(v.Graph, v.State, pos, row).TaskInstance
}

// WakeAt is when time alone moves an instance (end of a retry delay, a
// reschedule, a trigger's timeout); zero if none does.
func (v RunView) WakeAt(pos int) time.Time { return v.State.At(pos).WakeAt.Time() }

// Clear says what Clear would clear: positions, ascending.
func (v RunView) Clear(o scheduler.ClearOptions, now time.Time) ([]int, error) {
	res, err := scheduler.Clear(v.Graph, v.State, o, now)
	return res.Affected, err
}

// Mark says which instances MarkTask would set: positions, ascending.
func (v RunView) Mark(o scheduler.MarkOptions, now time.Time) ([]int, error) {
	res, err := scheduler.MarkTask(v.Graph, v.State, o, now)
	return res.Affected, err
}
