package scheduler

import (
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
)

// checkAdmission checks an admission against the limits by counting anew: no
// limit is exceeded, and whatever was not queued could not have been.
func checkAdmission(c Capacity, cand []Candidate, a Admission) error {
	used := map[string]int{}
	run := map[RunKey]int{}
	task := map[TaskKey]int{}
	runTask := map[RunTaskKey]int{}
	exec := map[string]int{}
	fits := func(x *Candidate) bool {
		p, ok := c.Pools[x.Pool]
		if !ok {
			return false
		}
		if p.Slots != airflow.UnlimitedSlots && p.Occupied+used[x.Pool]+x.PoolSlots > p.Slots {
			return false
		}
		rk, tk := RunKey{x.Key.DagID, x.Key.RunID}, TaskKey{x.Key.DagID, x.Key.TaskID}
		k := RunTaskKey{x.Key.DagID, x.Key.RunID, x.Key.TaskID}
		if c.RunActive[rk]+run[rk] >= x.MaxActiveTasks {
			return false
		}
		if x.MaxActiveTIsPerDag > 0 && c.TaskActive[tk]+task[tk] >= x.MaxActiveTIsPerDag {
			return false
		}
		if x.MaxActiveTIsPerDagRun > 0 && c.RunTaskActive[k]+runTask[k] >= x.MaxActiveTIsPerDagRun {
			return false
		}
		if n, ok := c.ExecutorSlots[x.Executor]; ok && exec[x.Executor] >= n {
			return false
		}
		return true
	}
	queued := map[int]bool{}
	for _, i := range a.Queued {
		x := &cand[i]
		if queued[i] || !fits(x) {
			return fmt.Errorf("%s was queued twice or beyond a limit", x.Key)
		}
		queued[i] = true
		used[x.Pool] += x.PoolSlots
		run[RunKey{x.Key.DagID, x.Key.RunID}]++
		task[TaskKey{x.Key.DagID, x.Key.TaskID}]++
		runTask[RunTaskKey{x.Key.DagID, x.Key.RunID, x.Key.TaskID}]++
		exec[x.Executor]++
	}
	for i := range cand {
		if queued[i] {
			continue
		}
		if a.Blocked[i] == "" {
			return fmt.Errorf("%s was not queued, and no reason is given", cand[i].Key)
		}
		if fits(&cand[i]) {
			return fmt.Errorf("%s was not queued (%s) although everything it needs is free", cand[i].Key, a.Blocked[i])
		}
	}
	return nil
}
