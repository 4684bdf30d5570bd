package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// effectSnap is a callback that a step asked for.
type effectSnap struct {
	run       store.RunKey
	kind      string
	committed bool // its step was
	calls     int
	marked    bool // recorded as carried out
	dropped   bool // the run has succeeded before its deadline
	void      bool // the run was deleted
	at        time.Time
}

// background decides when what an engine does beside its steps happens: after a
// while, between any two calls of the store, or never if the process dies first.
func (p *proc) background(f func()) {
	w, gate := p.w, p.gate
	if w.backstop && w.sc.Calm {
		w.fail("a callback was found by the backstop only")
	}
	delay := w.between(time.Millisecond, 2*time.Second)
	if w.chance(0.1) {
		delay = w.between(2*time.Second, 40*time.Second)
	}
	w.after(delay, true, func() {
		if !gate.dead {
			f()
		}
	})
}

// callbacks carries out callbacks in one process.
type callbacks struct {
	p    *proc
	gate *gate
}

// RunDagCallback implements engine.Callbacks.
func (c callbacks) RunDagCallback(_ context.Context, dag *airflow.DAG, run airflow.DagRun, success bool, _, id string) error {
	if success && !dag.HasOnSuccessCallback || !success && !dag.HasOnFailureCallback {
		c.p.w.fail("callback %s of DAG %s, which has none", id, dag.DagID)
	}
	return c.called(id, store.RunKey{DagID: run.DagID, RunID: run.RunID})
}

// RunTaskCallback implements engine.Callbacks.
func (c callbacks) RunTaskCallback(_ context.Context, dag *airflow.DAG, run airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, id string) error {
	t := dag.Task(ti.TaskID)
	if t != nil && !t.Notifies(retry) {
		c.p.w.fail("callback %s of a task that has none", id)
	}
	if cause == "" {
		c.p.w.fail("callback %s does not say why the task was lost", id)
	}
	return c.called(id, store.RunKey{DagID: run.DagID, RunID: run.RunID})
}

// RunDeadline implements engine.Callbacks.
func (c callbacks) RunDeadline(_ context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, id string) error {
	if early := at.Sub(c.p.clock()); early >= 0 {
		c.p.w.fail("deadline %d of %s/%s is told %s before it was missed", alert, run.DagID, run.RunID, early)
	}
	return c.called(id, store.RunKey{DagID: run.DagID, RunID: run.RunID})
}

// called notes that a callback runs; it may fail, which changes nothing.
func (c callbacks) called(id string, run store.RunKey) error {
	w := c.p.w
	if c.gate.dead {
		return kv.ErrClosed
	}
	e := w.check.effects[id]
	switch {
	case c.p.passive:
		w.fail("callback %s was run by a tool beside the server", id)
	case e == nil || !e.committed:
		w.fail("callback %s was run before its step was committed", id)
	case e.run != run:
		w.fail("callback %s of %s was run for %s", id, e.run, run)
	case e.marked && !w.sc.Two:
		w.fail("callback %s was run again although it is recorded as carried out", id)
	case e.calls > 0 && w.sc.Calm && !e.marked:
		w.fail("callback %s was run twice and nothing had failed", id)
	}
	e.calls++
	w.stats.Callbacks++
	w.tracef("%s runs callback %s", c.p, id)
	if w.chance(0.1) {
		return errors.New("simulated failure of a callback")
	}
	return nil
}

const pendingPrefix = "pending#"

// effect sees a write of a callback's pending record, or of the record that it
// was carried out.
func (c *checker) effect(op kv.Op) {
	id := segments(op.ItemKey().PK)[1]
	if op.Kind == kv.OpDelete {
		id = strings.TrimPrefix(id, pendingPrefix)
		e := c.effects[id]
		if e != nil && isDeadline(id) && c.runs[e.run].info.State == airflow.RunSuccess {
			e.dropped = true
		} else if e == nil || !e.marked && !e.void && !c.deletion[e.run] {
			c.w.fail("callback %s was forgotten before it was carried out", id)
		}
		return
	}
	name := strings.TrimPrefix(id, pendingPrefix)
	var p store.PendingEffect
	unmarshal(c.w, op.Item, &p)
	c.w.tracef("callback %s is pending until %s", name, p.When)
	if e := c.effects[name]; e != nil && e.committed && !e.void {
		if isDeadline(name) { // what is left of the deadlines is asked for whenever the run fails
			e.at, e.dropped = c.w.now, false
			return
		}
		if !c.deletion[p.Run] {
			c.w.fail("callback %s is asked for twice", name)
		}
	}
	c.effects[name] = &effectSnap{run: p.Run, kind: p.Kind, at: c.w.now}
}

// effectDone sees the record that a callback was carried out.
func (c *checker) effectDone(sk string) {
	id := segments(sk)[1]
	e := c.effects[id]
	if e == nil || e.calls == 0 {
		c.w.fail("callback %s is recorded as carried out and never ran", id)
	}
	e.marked = true
}

func isDeadline(id string) bool { return strings.HasPrefix(id, "deadline#") }

// committedEffects marks the callbacks of a step that was committed.
func (c *checker) committedEffects(k store.RunKey) {
	for _, e := range c.effects {
		if e.run == k {
			e.committed = true
		}
	}
}

// asked fails unless the step that is being committed asks for a callback.
func (c *checker) asked(k store.RunKey, kind, part string) {
	for id, e := range c.effects {
		if e.run == k && e.at.Equal(c.w.now) && e.kind == kind && strings.Contains(id, part) {
			return
		}
	}
	c.w.fail("a step of %s lost a callback: %s of %s", k, kind, part)
}

// expectEffects checks that a commit records the callbacks that follow from what it
// changed: of a run that ended, and of deadlines that were missed.
func (c *checker) expectEffects(old, now *runSnap) {
	h := now.header
	if dag := now.graph.DAG; h.State.Finished() && (old.header.State != h.State || old.header.ClearNumber != h.ClearNumber) {
		switch h.Reason {
		case scheduler.CodeSuccess, scheduler.CodeTaskFailure, scheduler.CodeDeadlocked, scheduler.CodeTimedOut:
			if h.State == airflow.RunSuccess && dag.HasOnSuccessCallback || h.State == airflow.RunFailed && dag.HasOnFailureCallback {
				c.asked(now.key, "dag_callback", string(h.Reason))
			}
		}
	}
	if h.State == airflow.RunSuccess {
		return // success drops what is left of the deadlines
	}
	left := map[int]bool{}
	for _, d := range h.Deadlines {
		left[d.Index] = true
	}
	for _, d := range old.header.Deadlines {
		if !left[d.Index] {
			c.asked(now.key, "deadline", fmt.Sprint(d.Index))
			c.w.stats.Deadlines++
		}
	}
}

// expectLost checks that a step which took a worker for lost asks for the
// callback that the worker could not run.
func (c *checker) expectLost(rec engine.Record, graph *scheduler.Graph) {
	for _, in := range rec.Inputs {
		if in.Report == nil || in.Report.Kind != scheduler.ReportLost {
			continue
		}
		t := graph.DAG.Task(in.Report.Task)
		for _, tr := range rec.Transitions {
			if t == nil || tr.TaskID != in.Report.Task || tr.MapIndex != in.Report.MapIndex || tr.DispatchSeq != in.Report.DispatchSeq || tr.Why != scheduler.CodeReported && tr.Why != scheduler.CodeRetry {
				continue
			}
			if tr.From == airflow.TIRestarting {
				break // cleared before it was lost: stopping is what was asked of it
			}
			retry := tr.To == airflow.TIUpForRetry
			if (retry || tr.To == airflow.TIFailed) && t.Notifies(retry) {
				key := airflow.TaskInstanceKey{DagID: rec.Run.DagID, RunID: rec.Run.RunID, TaskID: tr.TaskID, MapIndex: tr.MapIndex}
				c.asked(rec.Run, "task_callback", worker.Dispatch{Key: key, DispatchSeq: tr.DispatchSeq}.String())
			}
			break // what follows in the same step is about other dispatches
		}
	}
}

// checkEffects checks at rest that every callback was carried out, and that no
// deadline has passed unnoticed.
func (w *World) checkEffects() {
	left, err := w.clean.ListPendingEffects(w.ctx)
	if err != nil {
		w.fail("%v", err)
	}
	pending := map[string]bool{}
	for _, p := range left {
		if pending[p.ID] = true; !p.When.After(w.now) {
			w.fail("callback %s is pending at rest", p.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.check.effects)) {
		e := w.check.effects[id]
		switch {
		case e.void, w.check.deletion[e.run]: // a deletion that is cut short forgets half of what was
		case !e.committed || e.dropped: // its step never was: another one was decided instead
		case isDeadline(id) && e.calls == 0 && pending[id]: // it is still to come
		case e.calls == 0:
			w.fail("callback %s was never run", id)
		case !e.marked:
			w.fail("callback %s was run and is not recorded as carried out", id)
		}
	}
	for _, k := range w.check.order {
		r := w.check.runs[k]
		if r.deleted || w.check.deletion[k] || r.version == 0 || r.header.State == airflow.RunSuccess {
			continue
		}
		for _, d := range r.header.Deadlines {
			e := w.check.effects[fmt.Sprintf("deadline#%s#%d", k, d.Index)]
			if late := w.now.Sub(d.At); late > 5*time.Minute && (e == nil || e.calls == 0) {
				w.fail("run %s (%s) missed its deadline %d by %s and nobody was told", k, r.header.State, d.Index, late)
			}
		}
	}
}
