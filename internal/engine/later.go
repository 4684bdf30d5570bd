package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// A run that has failed may still miss its deadlines: only success drops them. As
// nothing steps a finished run, the step that ends it leaves their callbacks
// pending with the time at which they are due. One process keeps these in memory
// and finds them again by Recover; schedulers that come and go look for them in
// each minute's tick.

// laterCallbacks are pending callbacks whose time has not come. Engine.mu guards it.
type laterCallbacks struct {
	byID map[string]store.PendingEffect
	next time.Time // the earliest, zero = none
}

// putOff keeps what is not due yet for later and returns the rest.
func (e *Engine) putOff(ps []store.PendingEffect) (due []store.PendingEffect) {
	now := e.utcNow()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range ps {
		switch {
		case !p.When.After(now):
			due = append(due, p)
		case e.shared: // resendCallbacks finds it in the store
		default:
			if e.later.byID == nil {
				e.later.byID = map[string]store.PendingEffect{}
			}
			e.later.byID[p.ID] = p
			if e.later.next.IsZero() || p.When.Before(e.later.next) {
				e.later.next = p.When
				e.notify()
			}
		}
	}
	return due
}

// callbacksDue carries out the callbacks whose time has come.
func (e *Engine) callbacksDue(now time.Time) {
	e.mu.Lock()
	if e.later.next.IsZero() || e.later.next.After(now) {
		e.mu.Unlock()
		return
	}
	var due []store.PendingEffect
	e.later.next = time.Time{}
	for _, id := range slices.Sorted(maps.Keys(e.later.byID)) {
		switch p := e.later.byID[id]; {
		case !p.When.After(now):
			due = append(due, p)
			delete(e.later.byID, id)
		case e.later.next.IsZero() || p.When.Before(e.later.next):
			e.later.next = p.When
		}
	}
	e.mu.Unlock()
	e.runCallbacks(due)
}

// adopt takes a run that was just created under management.
func (e *Engine) adopt(ctx context.Context, info airflow.DagRun) *run {
	r := e.lookup(info)
	if g, err := e.docs.get(ctx, info.DagHash); err == nil && len(g.DAG.Deadlines) > 0 {
		e.poke(r) // a deadline may be missed before the run starts
	}
	return r
}

// laterDeadlines lists what is left of the deadlines of a run that this step
// makes failed.
func (e *Engine) laterDeadlines(r *run) []callbackDoc {
	h := r.state.Header
	if h.State != airflow.RunFailed || len(h.Deadlines) == 0 || e.infoOf(r).State == airflow.RunFailed {
		return nil
	}
	var out []callbackDoc
	for _, d := range h.Deadlines {
		out = append(out, callbackDoc{Alert: d.Index, At: d.At, UnlessSuccess: true})
	}
	return out
}
