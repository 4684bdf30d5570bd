package engine

import (
	"container/heap"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// wakeHeap orders the times at which runs want to be stepped. An entry counts
// only while it is the run's present wake; others are stale.
type wakeHeap []wakeEntry

type wakeEntry struct {
	at time.Time
	r  *run
}

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop implement heap.Interface; use push.
func (h *wakeHeap) Push(x any) { *h = append(*h, x.(wakeEntry)) }

// Pop implements heap.Interface.
func (h *wakeHeap) Pop() any { o := *h; x := o[len(o)-1]; *h = o[:len(o)-1]; return x }

func (h *wakeHeap) push(at time.Time, r *run) { heap.Push(h, wakeEntry{at, r}) }

// compact drops the stale entries: runs whose wake keeps moving leave them behind.
func (h *wakeHeap) compact() {
	*h = slices.DeleteFunc(*h, func(w wakeEntry) bool { return w.r.gone || !w.r.wake.Equal(w.at) })
	heap.Init(h)
}

// setWake records when a run wants to be stepped next; zero = not by time.
func (e *Engine) setWake(r *run, at time.Time) {
	if e.passive {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.wake.Equal(at) {
		return
	}
	r.wake = at
	if !at.IsZero() {
		if len(e.wakes) > 2*len(e.runs)+64 {
			e.wakes.compact()
		}
		e.wakes.push(at, r)
		e.notify()
	}
}

// NextWake returns the earliest time at which a run wants to be stepped, or a DAG
// to be planned again.
func (e *Engine) NextWake() (time.Time, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.later.next
	for _, d := range e.delayed {
		if next.IsZero() || d.at.Before(next) {
			next = d.at
		}
	}
	for len(e.wakes) > 0 {
		w := e.wakes[0]
		if !w.r.gone && w.r.wake.Equal(w.at) {
			if next.IsZero() || w.at.Before(next) {
				next = w.at
			}
			break
		}
		heap.Pop(&e.wakes)
	}
	return next, !next.IsZero()
}

// wakeDue enqueues the runs whose time has come.
func (e *Engine) wakeDue(now time.Time) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, dag := range slices.Sorted(maps.Keys(e.delayed)) {
		if d := e.delayed[dag]; !d.at.After(now) && !e.moved[dag] {
			e.moved[dag] = true
			e.movedOrder = append(e.movedOrder, dag)
			e.notify()
		}
	}
	for len(e.wakes) > 0 {
		w := e.wakes[0]
		stale := w.r.gone || !w.r.wake.Equal(w.at)
		if !stale && w.at.After(now) {
			break
		}
		heap.Pop(&e.wakes)
		if stale {
			continue
		}
		w.r.wake = time.Time{}
		e.enqueueLocked(w.r)
		n++
	}
	return n
}

// trigger is what a deferred instance waits for.
type trigger struct {
	dispatch worker.Dispatch
	deferral worker.Deferral
}

// watcher is a deferred instance that wants to hear of a DAG's runs.
type watcher struct {
	run      store.RunKey
	dispatch worker.Dispatch
}

// addTrigger hosts a trigger until it fires.
func (e *Engine) addTrigger(r *run, d worker.Dispatch, def worker.Deferral) {
	pos := r.state.Find(r.graph, d.Key.TaskID, d.Key.MapIndex)
	if pos < 0 {
		return
	}
	d.Queue, d.Executor, d.Offer = "", "", worker.Offer{} // the same whether it comes from a report or from a row
	r.triggers[pos] = trigger{d, def}
	switch def.Trigger.Kind {
	case worker.TriggerDagRun, worker.TriggerTasks:
		e.mu.Lock()
		if e.watchers[def.Trigger.DagID] == nil {
			e.watchers[def.Trigger.DagID] = map[watcher]struct{}{}
		}
		e.watchers[def.Trigger.DagID][watcher{r.key, d}] = struct{}{}
		e.mu.Unlock()
	}
}

// dropWatchers forgets the watchers of a run whose triggers are not hosted any more.
func (e *Engine) dropWatchers(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.watchers) == 0 {
		return
	}
	hosted := map[worker.Dispatch]bool{}
	for _, t := range r.triggers {
		hosted[t.dispatch] = true
	}
	for dag, ws := range e.watchers {
		for w := range ws {
			if w.run == r.key && !hosted[w.dispatch] {
				delete(ws, w)
			}
		}
		if len(ws) == 0 {
			delete(e.watchers, dag)
		}
	}
}

func (e *Engine) removeTrigger(r *run, pos int) {
	t, ok := r.triggers[pos]
	if !ok {
		return
	}
	delete(r.triggers, pos)
	e.mu.Lock()
	if ws := e.watchers[t.deferral.Trigger.DagID]; ws != nil {
		delete(ws, watcher{r.key, t.dispatch})
		if len(ws) == 0 {
			delete(e.watchers, t.deferral.Trigger.DagID)
		}
	}
	e.mu.Unlock()
}

// loadTriggers hosts again the triggers of a run's deferred instances.
func (e *Engine) loadTriggers(ctx context.Context, r *run) error {
	if r.state.Count(airflow.TIDeferred) == 0 {
		return nil
	}
	var keys []airflow.TaskInstanceKey
	for pos := 0; pos < r.state.Len(); pos++ {
		if r.state.At(pos).State == airflow.TIDeferred {
			keys = append(keys, r.state.Key(r.graph, pos))
		}
	}
	rows, err := e.store.GetAttempts(ctx, keys)
	if err != nil {
		return err
	}
	for _, k := range keys {
		a, ok := rows[k]
		if !ok || len(a.Report) == 0 {
			continue
		}
		var rep worker.Report
		if err := json.Unmarshal(a.Report, &rep); err != nil || rep.Deferral == nil {
			continue
		}
		e.addTrigger(r, worker.Dispatch{Key: k, DispatchSeq: a.DispatchSeq}, *rep.Deferral)
	}
	return nil
}

// fireTriggers fires the time triggers that are due and drops those whose
// instance does not wait any more.
func (e *Engine) fireTriggers(r *run, o *outcome, now time.Time) {
	if len(r.triggers) == 0 {
		return
	}
	positions := make([]int, 0, len(r.triggers))
	for pos := range r.triggers {
		positions = append(positions, pos)
	}
	sort.Ints(positions)
	for _, pos := range positions {
		t := r.triggers[pos]
		ti := r.state.At(pos)
		switch {
		case ti.State != airflow.TIDeferred || ti.DispatchSeq != t.dispatch.DispatchSeq:
			e.removeTrigger(r, pos)
		case !t.deferral.Trigger.At.IsZero() && !t.deferral.Trigger.At.After(now):
			e.fireAt(r, pos, t, nil, o, now)
		}
	}
}

// fire resumes a deferred instance because its trigger has an event.
func (e *Engine) fire(ctx context.Context, r *run, d worker.Dispatch, value []byte, o *outcome, now time.Time) error {
	pos := r.state.Find(r.graph, d.Key.TaskID, d.Key.MapIndex)
	t, ok := r.triggers[pos]
	if !ok || t.dispatch.DispatchSeq != d.DispatchSeq {
		return nil
	}
	if t.deferral.Trigger.Kind == worker.TriggerHITL {
		if ok, err := e.answered(ctx, r, pos); err != nil || !ok {
			return err
		}
	}
	e.fireAt(r, pos, t, value, o, now)
	return nil
}

func (e *Engine) fireAt(r *run, pos int, t trigger, value []byte, o *outcome, now time.Time) {
	rep := scheduler.Report{Kind: scheduler.ReportResume, Task: t.dispatch.Key.TaskID, MapIndex: t.dispatch.Key.MapIndex, DispatchSeq: t.dispatch.DispatchSeq, Ended: now}
	if t.deferral.Trigger.EndState == airflow.TISuccess {
		rep.Kind = scheduler.ReportTriggerSuccess
	}
	e.applyCore(r, rep, o, now)
	e.removeTrigger(r, pos)
	if value != nil {
		if err := e.store.SetResume(context.WithoutCancel(e.closing), t.dispatch.Key, t.dispatch.DispatchSeq, value); err != nil {
			e.log.Warn("trigger event not stored", "dispatch", t.dispatch.String(), "err", err)
		}
	}
}

// nextTrigger returns when the first trigger of the run fires by time.
func (r *run) nextTrigger() time.Time {
	var next time.Time
	for _, t := range r.triggers {
		at := t.deferral.Trigger.At
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// notifyWatchers wakes the deferred instances that wait for a DAG's runs.
func (e *Engine) notifyWatchers(dag airflow.DagID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ws := make([]watcher, 0, len(e.watchers[dag]))
	for w := range e.watchers[dag] {
		ws = append(ws, w)
	}
	sort.Slice(ws, func(i, j int) bool { return ws[i].dispatch.String() < ws[j].dispatch.String() })
	for _, w := range ws {
		r := e.runs[w.run]
		if r == nil {
			continue
		}
		d := w.dispatch
		r.mail = append(r.mail, Event{Dispatch: &d, Fire: true})
		e.enqueueLocked(r)
	}
}

// lessKey orders runs; it makes no text of them, as it is called often.
func lessKey(a, b store.RunKey) bool {
	if a.DagID != b.DagID {
		return a.DagID < b.DagID
	}
	return a.RunID < b.RunID
}

func sortRuns(rs []*run) {
	sort.Slice(rs, func(i, j int) bool { return lessKey(rs[i].key, rs[j].key) })
}
