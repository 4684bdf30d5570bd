package scheduler

import "github.com/gustflow/gust/internal/airflow"

// verdict is the outcome of all dependency checks of one instance.
type verdict struct {
	met  bool // apart from waits
	wait bool // a retry delay or a reschedule date has not come yet
	// noted says that a fact about the instance was recorded, which another pass may use.
	noted bool
}

// check evaluates every dependency of an instance, as Airflow does: all of them,
// even after one has failed, in a fixed order (trigger rule with setups,
// previously skipped, mapped upstream, previous run, waits), each of which may
// set the instance's state.
func (p *pass) check(pos int32) verdict {
	t := p.rs.ti(pos)
	n := &p.g.Tasks[t.Task]
	v := verdict{met: true}
	if len(n.Upstream) > 0 && n.Task.TriggerRule != airflow.RuleAlways && !p.triggerRule(pos, t, n) {
		v.met = false
	}
	if !p.notPreviouslySkipped(pos, t, n) {
		v.met = false
	}
	if !p.mappedUpstream(pos, t, n) {
		v.met = false
	}
	if past := p.past(t, n); past != pastMet {
		v.met = false
	} else if n.Task.WaitForPastDependsBeforeSkipping && t.Flags&FlagPastMet == 0 {
		t.Flags |= FlagPastMet
		p.rs.touch(pos)
		v.noted = true
	}
	switch t.State {
	case airflow.TIUpForRetry, airflow.TIUpForReschedule:
		v.wait = t.WakeAt > p.now
	}
	return v
}

// setFrom sets a state that a dependency demands.
func (p *pass) setFrom(pos int32, to airflow.TIState, why Code) bool {
	t := p.rs.ti(pos)
	if t.State == to {
		return false
	}
	if t.State.Active() {
		p.effects = append(p.effects, p.rs.cancel(p.g, pos))
	}
	if t.Start == 0 {
		t.Start = p.now
	}
	if to.Finished() && t.End == 0 {
		t.End = p.now
	}
	p.rs.set(p.g, pos, to, why)
	return true
}

// triggerRule evaluates setups, teardown scope and the rule itself.
func (p *pass) triggerRule(pos int32, t *TI, n *Node) bool {
	met := true
	if len(n.Setups) > 0 {
		c := p.counts(t, n.Setups, n.simpleSetups)
		to := airflow.TINone
		switch {
		case c.UpstreamFailed > 0 || c.Failed > 0:
			to = airflow.TIUpstreamFailed
		case c.Skipped > 0:
			to = airflow.TISkipped
		case c.Removed > 0 && c.Success > 0 && t.MapIndex >= 0 && int(t.MapIndex) >= c.Success:
			to = airflow.TIRemoved
		}
		if to == airflow.TISkipped && p.mustWaitForPast(t, n) {
			met = false
		} else {
			changed := to != airflow.TINone && p.setFrom(pos, to, CodeSetup)
			if c.Upstream-c.Success-c.Removed > 0 {
				met = false
				if changed {
					return false // decided: the rule is not asked any more
				}
			}
		}
	}
	if len(n.Scope) > 0 {
		// A teardown does not run before what is in its scope, but it is skipped
		// or failed without waiting.
		if c := p.counts(t, n.Scope, n.simpleSetups); c.Done() < c.Upstream {
			met = false
		}
	}
	c := p.counts(t, n.Upstream, n.simpleUpstream)
	v := EvaluateRule(n.Task.TriggerRule, c, int(t.MapIndex))
	if v.Set != airflow.TINone {
		if v.Set == airflow.TISkipped && p.mustWaitForPast(t, n) {
			return false
		}
		p.setFrom(pos, v.Set, CodeTriggerRule)
	}
	return met && v.Met
}

// mustWaitForPast: wait_for_past_depends_before_skipping holds a skip back until
// the previous run has been found good.
func (p *pass) mustWaitForPast(t *TI, n *Node) bool {
	return n.Task.WaitForPastDependsBeforeSkipping && t.Flags&FlagPastMet == 0
}

// counts counts the relevant instances of some upstream tasks: how they ended by
// the pass's snapshot, how many there are by the live table. With simple
// upstreams each counts as one even if it has no instance, so that a task whose
// upstream does not exist in the run waits for ever.
func (p *pass) counts(t *TI, upstream []int32, simple bool) (c UpstreamCounts) {
	if simple {
		c.Upstream = len(upstream)
	}
	for _, u := range upstream {
		setup := p.g.Tasks[u].Task.IsSetup
		if setup && simple {
			c.Setups++
		}
		ts := &p.rs.tasks[u]
		r := p.rs.relevant(p.g, t, u)
		if r.all {
			c.add(&ts.snap, setup)
			if !simple {
				c.Upstream += int(ts.total)
				if setup {
					c.Setups += int(ts.total)
				}
			}
			continue
		}
		one := func(pos int32) {
			if pos < 0 {
				return
			}
			if !simple {
				c.Upstream++
				if setup {
					c.Setups++
				}
			}
			if x := p.rs.ti(pos); x.Flags&flagFresh == 0 && x.State.Finished() {
				var s stateCounts
				s[x.State] = 1
				c.add(&s, setup)
			}
		}
		one(ts.unexpanded)
		for i := max(r.lo, 0); i < min(r.hi, len(ts.mapped)); i++ {
			one(ts.at(i))
		}
	}
	return c
}

func (c *UpstreamCounts) add(s *stateCounts, setup bool) {
	c.Success += int(s[airflow.TISuccess])
	c.Skipped += int(s[airflow.TISkipped])
	c.Failed += int(s[airflow.TIFailed])
	c.UpstreamFailed += int(s[airflow.TIUpstreamFailed])
	c.Removed += int(s[airflow.TIRemoved])
	if setup {
		c.SetupsSuccess += int(s[airflow.TISuccess])
		c.SetupsSkipped += int(s[airflow.TISkipped])
	}
}

// notPreviouslySkipped looks up what branching parents decided: an instance that
// one of them skipped is skipped again, for instance after a clear. A mapped
// parent's decision is looked up under the instance's own map index, any other
// under -1; Airflow 3.3.2 does so even inside a mapped group, where nothing is
// stored under -1.
func (p *pass) notPreviouslySkipped(pos int32, t *TI, n *Node) bool {
	for _, u := range n.SkipParents {
		ts := &p.rs.tasks[u]
		if !ts.snapFinished() {
			continue
		}
		at := ts.unexpanded
		if p.g.Tasks[u].Mapped {
			at = ts.at(int(t.MapIndex))
		}
		if at < 0 {
			continue
		}
		m, ok := p.rs.skips[at]
		if !ok {
			continue
		}
		named := false
		for _, id := range m.Tasks {
			named = named || id == n.ID
		}
		if named == m.Followed {
			continue
		}
		if p.mustWaitForPast(t, n) {
			return false
		}
		p.setFrom(pos, airflow.TISkipped, CodePreviouslySkip)
		return false
	}
	return true
}

// snapFinished reports whether some instance was finished when the pass began.
func (t *taskState) snapFinished() bool {
	for s, k := range t.snap {
		if k > 0 && airflow.TIState(s).Finished() {
			return true
		}
	}
	return false
}

// mappedUpstream looks at what the instance's expansion is made from: a source
// that failed or was skipped as a whole decides, whatever the trigger rule. It
// reads the live table.
func (p *pass) mappedUpstream(pos int32, t *TI, n *Node) bool {
	seen, bad := p.rs.sourceStates(n)
	if !bad {
		return true
	}
	if !t.State.FailedSet() {
		switch {
		case seen[airflow.TIFailed], seen[airflow.TIUpstreamFailed]:
			p.setFrom(pos, airflow.TIUpstreamFailed, CodeMappedUpstream)
		case seen[airflow.TISkipped]:
			p.setFrom(pos, airflow.TISkipped, CodeMappedUpstream)
		}
	}
	return false
}

type pastVerdict uint8

const (
	pastMet pastVerdict = iota
	pastNotRun
	pastUnsuccessful
	pastDownstream
)

// past evaluates depends_on_past and wait_for_downstream.
func (p *pass) past(t *TI, n *Node) pastVerdict { return past(p.g, p.rs, p.facts, n) }

func past(g *Graph, rs *RunState, f *Facts, n *Node) pastVerdict {
	h := &rs.Header
	if !n.Task.DependsOnPast || h.BackfillOrdinal == 1 || h.LogicalDate == nil || f.Previous == nil {
		return pastMet
	}
	prev := f.Previous
	start := n.Task.StartDate
	if start == nil {
		start = g.DAG.StartDate
	}
	if g.DAG.Catchup && start != nil && prev.LogicalDate.Before(*start) {
		return pastMet
	}
	own, ok := prev.Tasks[n.ID]
	if !ok {
		ignore := f.IgnoreFirstDependsOnPast
		if v := n.Task.IgnoreFirstDependsOnPast; v != nil {
			ignore = *v
		}
		if ignore && !prev.Earlier[n.ID] {
			return pastMet
		}
		return pastNotRun
	}
	if own.Unsuccessful > 0 {
		return pastUnsuccessful
	}
	if n.Task.WaitForDownstream {
		for _, d := range n.Downstream {
			if prev.Tasks[g.Tasks[d].ID].Unsuccessful > 0 {
				return pastDownstream
			}
		}
	}
	return pastMet
}

// sourceStates looks at the unexpanded instances of what a task expands over:
// which finished states they have, and whether any is not success.
func (rs *RunState) sourceStates(n *Node) (seen [airflow.NumTIStates]bool, bad bool) {
	for _, s := range n.Sources {
		at := rs.tasks[s].unexpanded
		if at < 0 {
			continue
		}
		if st := rs.ti(at).State; st.Finished() {
			seen[st] = true
			bad = bad || st != airflow.TISuccess
		}
	}
	return seen, bad
}
