package scheduler

import (
	"fmt"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Selection chooses task instances of one run.
type Selection struct {
	// Tasks are the chosen tasks; empty = all tasks of the DAG.
	Tasks []TaskSelection
	// Upstream and Downstream add all transitive relatives.
	Upstream, Downstream bool
}

// TaskSelection is one task, or some of its instances.
type TaskSelection struct {
	TaskID airflow.TaskID
	// MapIndexes limits the choice; nil = all instances.
	MapIndexes []int
}

// ClearOptions are Airflow's options of clearing task instances.
type ClearOptions struct {
	Selection
	OnlyFailed  bool // failed and upstream_failed
	OnlyRunning bool // running
	// ResetDagRun requeues a finished run.
	ResetDagRun bool
	// PreventRunning refuses to clear anything while a chosen instance is running
	// (prevent_running_task).
	PreventRunning bool
}

// ActionResult is what an intervention changed.
type ActionResult struct {
	Transitions []Transition
	RunBefore   airflow.DagRunState
	Run         airflow.DagRunState
	// Affected are the positions of the chosen instances, also of those that did
	// not change, ascending.
	Affected []int
	Effects  []Effect
}

// selected is a set of whole tasks and of single instances.
type selected struct {
	g     *Graph
	rs    *RunState
	whole bits
	some  map[int32]map[int]bool // task -> map indexes
}

func (g *Graph) newSelected(rs *RunState) *selected {
	return &selected{g: g, rs: rs, whole: newBits(len(g.Tasks)), some: map[int32]map[int]bool{}}
}

func (s *selected) addIndex(task int32, index int) bool {
	m := s.some[task]
	if m == nil {
		m = map[int]bool{}
		s.some[task] = m
	}
	if m[index] {
		return false
	}
	m[index] = true
	return true
}

// positions are the instances in the set, ascending.
func (s *selected) positions() (out []int32) {
	add := func(p int32) {
		if p >= 0 {
			out = append(out, p)
		}
	}
	for i := range s.g.Tasks {
		ts := &s.rs.tasks[i]
		if s.whole.has(int32(i)) {
			add(ts.unexpanded)
			for _, p := range ts.mapped {
				add(p)
			}
			continue
		}
		for k := range s.some[int32(i)] {
			add(ts.at(k))
		}
	}
	return sortUnique(out)
}

// resolve turns task ids into indexes, reporting all unknown ones at once.
func (g *Graph) resolve(sel []TaskSelection) ([]int32, error) {
	var out []int32
	var problems []airflow.Problem
	for _, t := range sel {
		i, ok := g.byID[t.TaskID]
		if !ok {
			problems = append(problems, airflow.Problem{Field: "task_ids", Message: fmt.Sprintf("task %q does not exist in DAG %q", t.TaskID, g.DAG.DagID)})
			continue
		}
		out = append(out, i)
	}
	if problems != nil {
		return nil, &airflow.InvalidError{Problems: problems}
	}
	return out, nil
}

// forClear is what clearing takes along with a choice: relatives, and always the
// relevant setups and teardowns.
func (s *selected) forClear(sel Selection) error {
	tasks, err := s.g.resolve(sel.Tasks)
	if err != nil {
		return err
	}
	if len(sel.Tasks) == 0 {
		for i := range s.g.Tasks {
			s.whole.set(int32(i))
		}
		return nil
	}
	normal := newBits(len(s.g.Tasks))
	for k, t := range sel.Tasks {
		if t.MapIndexes == nil {
			normal.set(tasks[k])
			continue
		}
		for _, i := range t.MapIndexes {
			s.addIndex(tasks[k], i)
		}
	}
	if sel.Upstream {
		s.relatives(normal, true)
	}
	if sel.Downstream {
		s.relatives(normal, false)
	}
	if !sel.Upstream && !sel.Downstream {
		s.g.subset(normal, false, false, s.whole)
	}
	s.whole.or(normal)
	return nil
}

// relatives adds what is above or below the chosen tasks and instances.
func (s *selected) relatives(normal bits, upstream bool) {
	found := newBits(len(s.g.Tasks))
	s.g.subset(normal, upstream, !upstream, found)
	type one struct {
		task  int32
		index int
	}
	var todo []one
	for _, task := range s.someTasks() {
		for _, i := range sortedKeys(s.some[task]) {
			todo = append(todo, one{task, i})
		}
	}
	for len(todo) > 0 {
		x := todo[0]
		todo = todo[1:]
		rel := s.g.down[x.task]
		if upstream {
			rel = s.g.up[x.task]
		}
		count, known := 0, false
		if s.g.Tasks[x.task].needsExpansion() {
			count, known = s.rs.mappedCount(s.g, x.task)
		}
		rel.each(func(r int32) {
			if found.has(r) {
				return
			}
			where := indexRange{all: true}
			if known {
				where = s.rs.relevantOf(s.g, x.task, x.index, count, r)
			}
			if where.all {
				add := newBits(len(s.g.Tasks))
				add.set(r)
				found.set(r)
				s.g.subset(add, upstream, !upstream, found)
				return
			}
			for i := where.lo; i < where.hi; i++ {
				if s.addIndex(r, i) {
					todo = append(todo, one{r, i})
				}
			}
		})
	}
	normal.or(found)
}

func (s *selected) someTasks() (out []int32) {
	for t := range s.some {
		out = append(out, t)
	}
	return sortUnique(out)
}

func sortedKeys(m map[int]bool) (out []int) {
	for k := range m {
		out = append(out, k)
	}
	sort.Ints(out)
	return out
}

// subset is Airflow's partial_subset: the given tasks, their relatives where
// asked for, and the setups and teardowns that go with them.
func (g *Graph) subset(tasks bits, upstream, downstream bool, into bits) {
	into.or(tasks)
	work := func(t int32) bool { return !g.Tasks[t].Task.IsSetup && !g.Tasks[t].Task.IsTeardown }
	teardowns := func(s, except int32) {
		for _, d := range g.Tasks[s].Downstream {
			if g.Tasks[d].Task.IsTeardown && d != except {
				into.set(d)
			}
		}
	}
	around := func(t int32) {
		g.up[t].each(func(s int32) {
			if g.relevantSetup(g.down[t], s) {
				into.set(s)
				teardowns(s, t)
			}
		})
	}
	tasks.each(func(t int32) {
		if downstream {
			g.down[t].each(func(r int32) {
				into.set(r)
				if !tasks.has(r) && work(r) {
					around(r)
				}
			})
		}
		if upstream {
			g.up[t].each(func(r int32) {
				into.set(r)
				if g.Tasks[r].Task.IsSetup {
					teardowns(r, t)
				}
			})
		} else if work(t) {
			around(t)
		}
		if g.Tasks[t].Task.IsSetup && !downstream {
			teardowns(t, -1)
		}
	})
}

// Clear makes task instances run again: their state becomes none (running ones
// become restarting until their worker has stopped), their try number stays and
// max_tries grows, so that they get as many retries as the first time. Results
// and branch choices stay until the instance runs again. A finished run of which
// something was cleared is queued again. past and future are the caller's: it
// calls Clear on several runs.
func Clear(g *Graph, rs *RunState, o ClearOptions, now time.Time) (ActionResult, error) {
	s := g.newSelected(rs)
	if err := s.forClear(o.Selection); err != nil {
		return ActionResult{}, err
	}
	var chosen []int32
	for _, pos := range s.positions() {
		st := rs.ti(pos).State
		if o.OnlyFailed || o.OnlyRunning {
			if !(o.OnlyFailed && st.FailedSet() || o.OnlyRunning && st == airflow.TIRunning) {
				continue
			}
		}
		if o.PreventRunning && st == airflow.TIRunning {
			return ActionResult{}, fmt.Errorf("task instance %s is running: wait until it is done, mark it, or clear without prevent_running_task: %w", rs.Key(g, int(pos)), airflow.ErrNotAllowed)
		}
		chosen = append(chosen, pos)
	}
	act := newAction(g, rs, now)
	act.clear(chosen, o.ResetDagRun)
	return act.done(), nil
}

// action is one intervention while it runs.
type action struct {
	g      *Graph
	rs     *RunState
	now    Micros
	res    ActionResult
	before *[]Transition
}

func newAction(g *Graph, rs *RunState, now time.Time) *action {
	a := &action{g: g, rs: rs, now: At(now), before: rs.run.log}
	a.res.RunBefore = rs.Header.State
	rs.run.log = &a.res.Transitions
	return a
}

func (a *action) done() ActionResult {
	a.rs.run.log = a.before
	a.res.Run = a.rs.Header.State
	return a.res
}

func (a *action) clear(chosen []int32, reset bool) {
	rs := a.rs
	for _, pos := range chosen {
		a.res.Affected = append(a.res.Affected, int(pos))
		t := rs.ti(pos)
		switch t.State {
		case airflow.TIRunning:
			a.res.Effects = append(a.res.Effects, rs.cancel(a.g, pos))
			rs.set(a.g, pos, airflow.TIRestarting, CodeCleared)
			continue
		case airflow.TIRestarting:
			continue
		case airflow.TIQueued:
			a.res.Effects = append(a.res.Effects, rs.cancel(a.g, pos))
		}
		t.MaxTries = maxTries(int(t.TryNumber) + a.g.Tasks[t.Task].Task.Retries)
		t.Flags &^= FlagResume | FlagTimedOut | FlagPastMet
		t.Scheduled, t.Queued, t.Start, t.End, t.Requeues = 0, 0, 0, 0, 0
		delete(rs.rescheduleStart, pos)
		rs.touch(pos)
		rs.set(a.g, pos, airflow.TINone, CodeCleared)
	}
	if len(chosen) > 0 && reset && rs.Header.State.Finished() {
		rs.requeue(a.now)
	}
}

// requeue sends a finished run back to the queue.
func (rs *RunState) requeue(now Micros) {
	h := &rs.Header
	h.State, h.Reason = airflow.RunQueued, ""
	h.QueuedAt = now.Time()
	h.StartDate, h.EndDate = time.Time{}, time.Time{}
	h.ClearNumber++
	rs.HeaderDirty = true
}
