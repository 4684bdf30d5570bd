package sim

import (
	"slices"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
)

// dependencies checks, apart from the core, that what a step scheduled for the
// first time had its upstreams where its trigger rule wants them: of the same map
// index inside a mapped group, all instances elsewhere; for a teardown also
// everything between its setups and itself.
func (c *checker) dependencies(rec engine.Record, r *runSnap) {
	dag := r.graph.DAG
	var byTask map[airflow.TaskID][]tiSnap
	mapped := map[airflow.TaskID]*airflow.TaskGroup{}
	created := map[int]bool{}
	for _, t := range rec.Transitions {
		created[t.Pos] = created[t.Pos] || t.Created
		if t.To != airflow.TIScheduled || t.From != airflow.TINone || t.Pos >= len(r.tis) || created[t.Pos] {
			continue // as in Airflow, instances that are added later are ready without being asked
		}
		task := dag.Task(t.TaskID)
		if task == nil {
			continue
		}
		if byTask == nil {
			byTask = map[airflow.TaskID][]tiSnap{}
			for _, s := range r.tis {
				byTask[s.key.TaskID] = append(byTask[s.key.TaskID], s)
			}
			mapped = mappedGroups(dag)
		}
		ups := task.Upstream
		if task.IsTeardown {
			c.w.stats.Teardowns++
			ups = append(append([]airflow.TaskID(nil), ups...), between(dag, task)...)
		}
		if mapped[task.TaskID] != nil {
			c.w.stats.Grouped++
		}
		for _, up := range ups {
			if mapped[up] == nil && dag.Task(up).Expand == nil && slices.ContainsFunc(byTask[up], func(s tiSnap) bool { return s.key.MapIndex >= 0 }) {
				// Mapped in the version before, and now one task: Airflow counts each of
				// its instances as if it were all of it.
				ups = nil
			}
		}
		for _, up := range ups {
			for _, s := range byTask[up] {
				if g := mapped[up]; g != nil && g == mapped[task.TaskID] && s.key.MapIndex >= 0 && t.MapIndex >= 0 && s.key.MapIndex != t.MapIndex {
					continue
				}
				if !permits(task.TriggerRule, s.state) {
					c.w.fail("%s of %s (%s) was scheduled although %s is %s", airflow.TIName(t.TaskID, t.MapIndex), rec.Run, task.TriggerRule, s.key, s.state)
				}
			}
		}
	}
}

// permits reports whether one upstream instance in a state leaves it open that a
// rule is met. Rules that are met by some of the upstreams permit everything.
func permits(rule airflow.TriggerRule, s airflow.TIState) bool {
	switch rule {
	case airflow.RuleAllSuccess:
		return s == airflow.TISuccess || s == airflow.TIRemoved
	case airflow.RuleAllDone, airflow.RuleAllDoneSetupSuccess, airflow.RuleAllDoneMinOneSuccess:
		return s.Finished()
	case airflow.RuleNoneFailed, airflow.RuleNoneFailedMinOneSuccess:
		return s.Finished() && s != airflow.TIFailed && s != airflow.TIUpstreamFailed
	case airflow.RuleNoneSkipped:
		return s.Finished() && s != airflow.TISkipped
	}
	return true
}

// mappedGroups returns the mapped group that each task is in, if it is in one.
func mappedGroups(dag *airflow.DAG) map[airflow.TaskID]*airflow.TaskGroup {
	out := map[airflow.TaskID]*airflow.TaskGroup{}
	dag.TaskGroup.Walk(func(g, parent *airflow.TaskGroup) {
		if !g.IsMapped {
			return
		}
		g.Walk(func(in, _ *airflow.TaskGroup) {
			for _, ch := range in.Children {
				if ch.Group == nil {
					out[ch.TaskID] = g
				}
			}
		})
	})
	return out
}

// between lists the tasks on the paths from the setups above a teardown to it.
func between(dag *airflow.DAG, teardown *airflow.Task) (out []airflow.TaskID) {
	above := map[airflow.TaskID]bool{}
	var up func(id airflow.TaskID)
	up = func(id airflow.TaskID) {
		if !above[id] {
			above[id] = true
			for _, u := range dag.Task(id).Upstream {
				up(u)
			}
		}
	}
	up(teardown.TaskID)
	seen := map[airflow.TaskID]bool{teardown.TaskID: true}
	var down func(id airflow.TaskID)
	down = func(id airflow.TaskID) {
		if seen[id] || !above[id] {
			return
		}
		seen[id] = true
		out = append(out, id)
		for _, d := range dag.Task(id).Downstream {
			down(d)
		}
	}
	for _, u := range teardown.Upstream {
		if dag.Task(u).IsSetup {
			down(u)
		}
	}
	return out
}

// checkShape checks of a run that has ended that every literal expansion made as
// many instances as it is long. Where instances upstream were removed, Airflow
// removes those whose map index has no upstream of its own.
func (w *World) checkShape(s *runSnap) {
	count, removed := map[airflow.TaskID]int{}, map[airflow.TaskID]bool{}
	for _, t := range s.tis {
		if t.state != airflow.TIRemoved {
			count[t.key.TaskID]++
		} else {
			removed[t.key.TaskID] = true
		}
	}
	want := func(id airflow.TaskID, x *airflow.ExpandInput) {
		n := 1
		for _, a := range x.Args {
			if a.XCom != nil {
				return
			}
			n *= a.Length
		}
		if count[id] != n {
			w.fail("run %s has %d instances of %s, which expands over %d", s.key, count[id], id, n)
		}
	}
	groups := mappedGroups(s.graph.DAG)
	for _, t := range s.graph.DAG.Tasks {
		if removed[t.TaskID] && slices.ContainsFunc(t.Upstream, func(up airflow.TaskID) bool { return removed[up] }) {
			continue
		}
		if t.Expand != nil {
			want(t.TaskID, t.Expand)
		} else if g := groups[t.TaskID]; g != nil && g.Expand != nil {
			want(t.TaskID, g.Expand)
		}
	}
	if len(s.tis) > scheduler.ChunkSize {
		w.stats.Wide++
	}
}

// checkTeardowns checks of a run that ended by itself that what was set up was
// torn down, whatever became of the work in between.
func (w *World) checkTeardowns(s *runSnap) {
	if w.check.touched[s.key] || s.graph.DAG.FailFast {
		return // a person or fail_fast may have decided otherwise
	}
	switch s.header.Reason {
	case scheduler.CodeSuccess, scheduler.CodeTaskFailure:
	default:
		return
	}
	state := map[airflow.TaskID]airflow.TIState{}
	for _, t := range s.tis {
		state[t.key.TaskID] = t.state
	}
	d := w.dag(string(s.key.DagID))
	for _, t := range s.graph.DAG.Tasks {
		if !t.IsTeardown {
			continue
		}
		up, chosen := true, false
		for _, u := range t.Upstream {
			up = up && (!s.graph.DAG.Task(u).IsSetup || state[u] == airflow.TISuccess)
			chosen = chosen || d.kinds[string(u)] == kindBranch || d.kinds[string(u)] == kindShortCircuit
		}
		// A teardown that does not count for the run may outlive it.
		if got := state[t.TaskID]; up && !chosen && got.Finished() && got != airflow.TISuccess && got != airflow.TIFailed && got != airflow.TISkipped {
			w.fail("run %s ended %s, its setup succeeded and its teardown %s is %s", s.key, s.header.State, t.TaskID, got)
		}
	}
}
