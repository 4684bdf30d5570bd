package engine

import (
	"context"

	"github.com/gustflow/gust/internal/airflow"
)

// PoolStates counts the slots of the pools by the states of the instances of all
// running runs. It reads each of those runs, and the rows of queued instances.
func (e *Engine) PoolStates(ctx context.Context) (map[string]PoolSlots, error) {
	active, err := e.lists.ListActiveRuns(ctx, "")
	if err != nil {
		return nil, err
	}
	out := map[string]PoolSlots{}
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
			if !p.add(c.State, t.PoolSlots) {
				continue
			}
			out[t.Pool] = p
		}
	}
	return out, nil
}
