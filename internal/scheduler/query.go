package scheduler

import "github.com/gustflow/gust/internal/airflow"

// InstancesOf returns the number of instances of a task, not counting removed ones.
func (rs *RunState) InstancesOf(task int) int {
	ts := &rs.tasks[task]
	return int(ts.total - ts.live[airflow.TIRemoved])
}

// DependsOnPast reports whether some task depends on the previous run.
func (g *Graph) DependsOnPast() bool { return g.hasPast }

// MayBeMapped reports whether instances of a task may carry a map_index.
func (g *Graph) MayBeMapped(task int) bool { return g.Tasks[task].needsExpansion() }

// UpstreamMapIndexes lists, for a mapped instance, which map indexes of each
// direct upstream it depends on; upstreams on which it depends as a whole are
// left out. nil when there are none.
func UpstreamMapIndexes(g *Graph, rs *RunState, pos int) map[airflow.TaskID][]int {
	t := rs.At(pos)
	if int(t.Task) >= len(g.Tasks) || t.MapIndex < 0 || len(g.Tasks[t.Task].MappedGroups) == 0 {
		return nil
	}
	count, ok := rs.mappedCount(g, t.Task)
	if !ok {
		return nil
	}
	var out map[airflow.TaskID][]int
	for _, up := range g.Tasks[t.Task].Upstream {
		r := rs.relevantOf(g, t.Task, int(t.MapIndex), count, up)
		if r.all {
			continue
		}
		indexes := make([]int, 0, r.hi-r.lo)
		for i := r.lo; i < r.hi; i++ {
			indexes = append(indexes, i)
		}
		if out == nil {
			out = map[airflow.TaskID][]int{}
		}
		out[g.Tasks[up].ID] = indexes
	}
	return out
}
