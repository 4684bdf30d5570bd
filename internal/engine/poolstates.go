package engine

import (
	"context"

	"github.com/gustflow/gust/internal/airflow"
)

// PoolStates are the slots of a pool that instances in each state take, or will
// take (scheduled).
type PoolStates struct{ Running, Queued, Scheduled, Deferred int }

// PoolStates counts the slots of the pools by the states of the instances of all
// running runs. It reads each of those runs, and the rows of queued instances.
func (e *Engine) PoolStates(ctx context.Context) (map[string]PoolStates, error) {
	active, err := e.lists.ListActiveRuns(ctx, "")
	if err != nil {
		return nil, err
	}
	out := map[string]PoolStates{}
	for _, info := range active {
		if info.State != airflow.RunRunning { // nothing of it takes a slot yet
			continue
		}
		g, cells, err := e.Cells(ctx, info)
		if err != nil && transient(err) {
			return nil, err
		}
		if err != nil { // one that cannot be read holds nothing, in the scheduler too
			continue
		}
		tasks := map[airflow.TaskID]*airflow.Task{}
		for i := range g.Tasks {
			tasks[g.Tasks[i].ID] = g.Tasks[i].Task
		}
		for _, c := range cells {
			t := tasks[c.TaskID]
			if t == nil {
				continue
			}
			p := out[t.Pool]
			switch c.State {
			case airflow.TIRunning:
				p.Running += t.PoolSlots
			case airflow.TIQueued:
				p.Queued += t.PoolSlots
			case airflow.TIScheduled:
				p.Scheduled += t.PoolSlots
			case airflow.TIDeferred:
				p.Deferred += t.PoolSlots
			default:
				continue
			}
			out[t.Pool] = p
		}
	}
	return out, nil
}
