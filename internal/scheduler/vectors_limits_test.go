package scheduler

import (
	"fmt"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// limitsTI is an instance of a limits case.
type limitsTI struct {
	dag   *vecDAG
	run   *vecRun
	graph *Graph
	node  *Node
	key   airflow.TaskInstanceKey
	state airflow.TIState
}

func limitsTIs(c *vecCase) (map[string]*limitsTI, []string, error) {
	all := map[string]*limitsTI{}
	var names []string
	for i := range c.DAGs {
		v := &c.DAGs[i]
		d, err := buildDAG(v)
		if err != nil {
			return nil, nil, err
		}
		g, err := Compile(d)
		if err != nil {
			return nil, nil, err
		}
		for k := range v.Runs {
			r := &v.Runs[k]
			ld := r.LogicalDate
			rs := NewRun(g, Header{DagID: d.DagID, RunID: airflow.RunID(r.ID), LogicalDate: &ld})
			for p := range rs.Len() {
				key := rs.Key(g, p)
				name := v.ID + ":" + r.ID + ":" + airflow.TIName(key.TaskID, key.MapIndex)
				st, ok := c.States[name]
				if !ok {
					return nil, nil, fmt.Errorf("no state is given for %s", name)
				}
				all[name] = &limitsTI{dag: v, run: r, graph: g, node: &g.Tasks[rs.At(p).Task], key: key, state: parseState(st)}
				names = append(names, name)
			}
		}
	}
	if len(all) != len(c.States) {
		return nil, nil, fmt.Errorf("%d instances, %d states are given", len(all), len(c.States))
	}
	sort.Strings(names)
	return all, names, nil
}

// capacity counts what is in use.
func limitsCapacity(c *vecCase, all map[string]*limitsTI, slots int) Capacity {
	k := Capacity{Pools: map[string]PoolUse{}, RunActive: map[RunKey]int{}, TaskActive: map[TaskKey]int{}, RunTaskActive: map[RunTaskKey]int{}, ExecutorSlots: map[string]int{"": slots}}
	for name, p := range c.Pools {
		k.Pools[name] = PoolUse{Slots: p.Slots}
	}
	for _, x := range all {
		deferred := x.state == airflow.TIDeferred
		if !deferred && !x.state.HoldsSlot() {
			continue
		}
		if p, ok := k.Pools[x.node.Task.Pool]; ok && (!deferred || c.Pools[x.node.Task.Pool].IncludeDeferred) {
			p.Occupied += x.node.Task.PoolSlots
			k.Pools[x.node.Task.Pool] = p
		}
		if !deferred {
			k.RunActive[RunKey{x.key.DagID, x.key.RunID}]++
		}
		k.TaskActive[TaskKey{x.key.DagID, x.key.TaskID}]++
		k.RunTaskActive[RunTaskKey{x.key.DagID, x.key.RunID, x.key.TaskID}]++
	}
	return k
}

// replayLimits replays rounds of the critical section.
func replayLimits(c *vecCase) error {
	all, names, err := limitsTIs(c)
	if err != nil {
		return err
	}
	for i, round := range c.Rounds {
		var cand []Candidate
		var at []string
		for _, name := range names {
			x := all[name]
			// The recorder paused DAGs one after the other and each new DAG un-paused
			// the others: a pause is effective on the last DAG only.
			if x.state != airflow.TIScheduled || x.run.State != "running" || x.dag.Paused && x.dag == &c.DAGs[len(c.DAGs)-1] {
				continue
			}
			t := x.node.Task
			cand = append(cand, Candidate{
				Key: x.key, Pool: t.Pool, PoolSlots: t.PoolSlots, PriorityWeight: x.node.Weight, LogicalDate: At(x.run.LogicalDate),
				MaxActiveTasks: x.dag.MaxActiveTasks, MaxActiveTIsPerDag: t.MaxActiveTIsPerDag, MaxActiveTIsPerDagRun: t.MaxActiveTIsPerDagRun,
			})
			at = append(at, name)
		}
		k := limitsCapacity(c, all, round.ExecutorSlots)
		res := Admit(k, cand, AdmitLimits{MaxTIs: round.MaxTIs})
		var got []string
		for _, q := range res.Queued {
			got = append(got, at[q])
		}
		if fmt.Sprint(got) != fmt.Sprint(round.Queued) {
			return fmt.Errorf("round %d (max_tis %d, slots %d) queues %v, want %v", i, round.MaxTIs, round.ExecutorSlots, got, round.Queued)
		}
		if err := checkAdmission(k, cand, Admit(k, cand, AdmitLimits{})); err != nil {
			return fmt.Errorf("round %d without a cut: %w", i, err)
		}
		for _, name := range got {
			all[name].state = airflow.TIQueued
		}
		for _, name := range round.ThenSuccess {
			all[name].state = airflow.TISuccess
		}
	}
	return nil
}

// replayStarts replays rounds of queued -> running runs.
func replayStarts(c *vecCase) error {
	for i, round := range c.Rounds {
		lim := StartLimits{Running: map[RunSlot]int{}, MaxActiveRuns: map[RunSlot]int{}}
		var queued []QueuedRun
		for _, d := range c.DAGs {
			slot := RunSlot{DagID: airflow.DagID(d.ID)}
			lim.MaxActiveRuns[slot] = d.MaxActiveRuns
			for _, r := range d.Runs {
				switch r.State {
				case "running":
					lim.Running[slot]++
				case "queued":
					queued = append(queued, QueuedRun{Key: RunKey{slot.DagID, airflow.RunID(r.ID)}, RunAfter: At(r.RunAfter), Paused: d.Paused})
				}
			}
		}
		var got []string
		for _, k := range StartQueued(queued, lim, vecEpoch.AddDate(1, 0, 0)) {
			got = append(got, string(queued[k].Key.DagID)+":"+string(queued[k].Key.RunID))
		}
		sort.Strings(got)
		sort.Strings(round.Started)
		if fmt.Sprint(got) != fmt.Sprint(round.Started) {
			return fmt.Errorf("round %d starts %v, want %v", i, got, round.Started)
		}
		set := func(name, state string) {
			dag, run, _ := strings.Cut(name, ":")
			for k := range c.DAGs {
				for l := range c.DAGs[k].Runs {
					if c.DAGs[k].ID == dag && c.DAGs[k].Runs[l].ID == run {
						c.DAGs[k].Runs[l].State = state
					}
				}
			}
		}
		for _, name := range got {
			set(name, "running")
		}
		for _, name := range round.ThenSuccess {
			set(name, "success")
		}
	}
	return nil
}

// replayWeights compares effective priority weights.
func replayWeights(c *vecCase) error {
	r, err := newReplay(c, false)
	if err != nil {
		return err
	}
	rs := r.runs[""]
	if rs.Len() != len(c.EffectiveWeights) {
		return fmt.Errorf("%d instances, want %d", rs.Len(), len(c.EffectiveWeights))
	}
	for name, want := range c.EffectiveWeights {
		_, pos, err := r.find(name)
		if err != nil {
			return err
		}
		if got := r.g.Tasks[rs.At(pos).Task].Weight; got != want {
			return fmt.Errorf("weight of %s is %d, want %d", name, got, want)
		}
	}
	return nil
}
