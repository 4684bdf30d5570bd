package engine

import (
	"context"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// Cell is the state of one task instance, without what only its row knows.
type Cell struct {
	TaskID   airflow.TaskID
	MapIndex int
	State    airflow.TIState
}

// Cells lists the states of a run's instances in order of creation. It reads the
// rows of queued instances only: a finished run costs one read, however wide (or
// one per chunk). The graph is that of the DAG version which the run follows.
func (e *Engine) Cells(ctx context.Context, info airflow.DagRun) (*scheduler.Graph, []Cell, error) {
	key := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	g, rs, err := e.readState(ctx, info)
	if err != nil {
		return nil, nil, err
	}
	if rs == nil {
		h, err := e.headerOf(ctx, g, info)
		if err != nil {
			return nil, nil, err
		}
		rs = scheduler.NewRun(g, h)
	}
	out := make([]Cell, rs.Len())
	var queued []airflow.TaskInstanceKey
	for pos := range out {
		k := rs.Key(g, pos)
		out[pos] = Cell{TaskID: k.TaskID, MapIndex: k.MapIndex, State: rs.At(pos).State}
		if out[pos].State == airflow.TIQueued {
			queued = append(queued, k)
		}
	}
	if len(queued) == 0 {
		return g, out, nil
	}
	rows, err := e.store.GetAttempts(ctx, queued)
	if err != nil {
		return nil, nil, err
	}
	for pos := range out {
		if out[pos].State != airflow.TIQueued {
			continue
		}
		if a, ok := rows[airflow.TaskInstanceKey{DagID: key.DagID, RunID: key.RunID, TaskID: out[pos].TaskID, MapIndex: out[pos].MapIndex}]; ok {
			out[pos].State = viewOf(g, rs, pos, &a).State // the row is ahead between a claim and the next step
		}
	}
	return g, out, nil
}
