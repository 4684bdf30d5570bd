package scheduler

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

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

// TestAdmissionKeepsLimits draws candidates and capacities. Without a cut every
// candidate that could have been queued is; with a cut what is queued is still
// within all limits and in order, and the input is never changed.
func TestAdmissionKeepsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Capacity{Pools: map[string]PoolUse{}, RunActive: map[RunKey]int{}, TaskActive: map[TaskKey]int{}, RunTaskActive: map[RunTaskKey]int{}, ExecutorSlots: map[string]int{"": rapid.IntRange(0, 6).Draw(t, "slots")}}
		for _, p := range []string{"p", "q"} {
			c.Pools[p] = PoolUse{Slots: rapid.IntRange(-1, 5).Draw(t, "pool"), Occupied: rapid.IntRange(0, 6).Draw(t, "occupied")}
		}
		var cand []Candidate
		for i := range rapid.IntRange(0, 12).Draw(t, "candidates") {
			key := airflow.TaskInstanceKey{
				DagID: airflow.DagID(rapid.SampledFrom([]string{"d", "e"}).Draw(t, "dag")), RunID: airflow.RunID(rapid.SampledFrom([]string{"r", "s"}).Draw(t, "run")),
				TaskID: airflow.TaskID(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "task")), MapIndex: i,
			}
			x := Candidate{
				Key: key, Pool: rapid.SampledFrom([]string{"p", "q", "none"}).Draw(t, "in"), PoolSlots: rapid.IntRange(1, 3).Draw(t, "needs"),
				PriorityWeight: rapid.Int64Range(0, 3).Draw(t, "weight"), LogicalDate: Micros(rapid.IntRange(0, 2).Draw(t, "date")),
				MaxActiveTasks: rapid.IntRange(1, 4).Draw(t, "max active"), Executor: rapid.SampledFrom([]string{"", "x"}).Draw(t, "executor"),
			}
			if key.TaskID == "b" {
				x.MaxActiveTIsPerDag, x.MaxActiveTIsPerDagRun = 2, 1
			}
			cand = append(cand, x)
			c.RunActive[RunKey{key.DagID, key.RunID}] = rapid.IntRange(0, 2).Draw(t, "run active")
			c.TaskActive[TaskKey{key.DagID, key.TaskID}] = rapid.IntRange(0, 2).Draw(t, "task active")
		}
		if err := checkAdmission(c, cand, Admit(c, cand, AdmitLimits{})); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(c, cand)
		cut := rapid.IntRange(1, 4).Draw(t, "cut")
		a := Admit(c, cand, AdmitLimits{MaxTIs: cut})
		if fmt.Sprint(c, cand) != before {
			t.Fatal("the input was changed")
		}
		if len(a.Queued) > cut {
			t.Fatalf("%d queued, the cut is %d", len(a.Queued), cut)
		}
		for i, q := range a.Queued {
			if i > 0 && cand[a.Queued[i-1]].PriorityWeight < cand[q].PriorityWeight {
				t.Fatal("out of order")
			}
		}
		// What was queued first may go again when asked alone.
		var again []Candidate
		for _, q := range a.Queued {
			again = append(again, cand[q])
		}
		if b := Admit(c, again, AdmitLimits{}); len(b.Queued) != len(again) {
			t.Fatalf("%v of %d fit", b.Queued, len(again))
		}
	})
}

// BenchmarkAdmit: 100,000 candidates for 1,000 slots.
func BenchmarkAdmit(b *testing.B) {
	c := Capacity{Pools: map[string]PoolUse{"p": {Slots: 1000}}}
	cand := make([]Candidate, 100_000)
	for i := range cand {
		cand[i] = Candidate{Key: airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(fmt.Sprint(i % 1000)), TaskID: "a", MapIndex: i / 1000}, Pool: "p", PoolSlots: 1, PriorityWeight: int64(i % 7), MaxActiveTasks: 16}
	}
	for b.Loop() {
		if n := len(Admit(c, cand, AdmitLimits{}).Queued); n != 1000 {
			b.Fatal(n)
		}
	}
}
