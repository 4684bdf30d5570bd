package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// RecoverOptions say what is known about dispatches that were running when the
// process died.
type RecoverOptions struct {
	// Lost reports whether a claimed dispatch can no longer be running, for
	// example because its worker was a child of the process that died and was
	// ended. nil: only its heartbeat tells.
	Lost func(store.Attempt) bool
}

// Recover takes all unfinished runs under management and finds every event that
// was lost: it is called once after a start, before the loop.
func (e *Engine) Recover(ctx context.Context, o RecoverOptions) error {
	ctx = kv.WithLabel(ctx, "engine.recover")
	backfills, err := e.lists.ListActiveBackfills(ctx)
	if err != nil {
		return fmt.Errorf("unfinished backfills: %w", err)
	}
	e.mu.Lock()
	for _, b := range backfills {
		e.backfills[b.ID] = b
	}
	e.mu.Unlock()
	if err := e.discover(ctx, o, true); err != nil {
		return err
	}
	queued, err := e.lists.ListAllQueuedAssets(ctx)
	if err != nil {
		return fmt.Errorf("queued assets: %w", err)
	}
	for _, q := range queued {
		e.dagMoved(q.DagID)
	}
	for _, b := range backfills {
		e.completeBackfill(ctx, b.ID)
	}
	return e.recoverCallbacks(ctx)
}

// Discover takes runs and backfills under management that another process
// created or changed.
func (e *Engine) Discover(ctx context.Context) error {
	if e.shared {
		e.pools.invalidate()
		err := errors.Join(e.refreshBackfills(ctx), e.sweepAll(ctx), e.resendCallbacks(ctx))
		e.completeBackfills(ctx)
		return err
	}
	err := errors.Join(e.refreshBackfills(ctx), e.discover(ctx, RecoverOptions{}, false), e.recoverCallbacks(ctx))
	if err == nil {
		e.completeBackfills(ctx)
	}
	e.refreshPools(ctx)
	return err
}

// refreshPools reads the pools again and steps the runs that wait for slots which
// another process has added: nothing else may ever step them.
func (e *Engine) refreshPools(ctx context.Context) {
	if e.passive {
		return
	}
	e.pools.invalidate()
	e.pools.refresh(ctx, e.admission, e.utcNow())
	for _, k := range e.admission.handOut() {
		e.mu.Lock()
		if r := e.runs[k]; r != nil {
			e.enqueueLocked(r)
		}
		e.mu.Unlock()
	}
}

// unreadable reports an item that cannot be read, once: in the log and in the
// audit log. It is left alone, for people to look at, and everything else goes on.
func (e *Engine) unreadable(key kv.Key, err error) {
	e.mu.Lock()
	known := e.corrupt[key]
	e.corrupt[key] = true
	e.mu.Unlock()
	if known {
		return
	}
	ctx := context.WithoutCancel(e.closing)
	e.log.ErrorContext(ctx, "an item of the store cannot be read; it is left alone, and what it is about stands still", "item", key.String(), "err", err)
	var dag airflow.DagID
	var run airflow.RunID
	if k, ok := store.RunOfItem(key); ok {
		dag, run = k.DagID, k.RunID
	}
	e.audit(ctx, "unreadable_item", "scheduler", dag, run, err.Error())
}

// discover reads the unfinished runs. When strict, it fails if the store does not
// tell one of them: the slots that the run holds would be given away.
func (e *Engine) discover(ctx context.Context, o RecoverOptions, strict bool) error {
	active, err := e.lists.ListActiveRuns(ctx, "")
	if err != nil {
		return fmt.Errorf("unfinished runs: %w", err)
	}
	// All first: which queued run of a DAG starts is decided among those known.
	for _, info := range active {
		e.lookup(info)
	}
	for _, info := range active {
		r := e.lookup(info)
		e.dagMoved(info.DagID)
		r.mu.Lock()
		fresh := r.state == nil
		r.mu.Unlock()
		if fresh {
			e.poke(r) // sets its wake, and finishes what a crash cut off
		}
		if err := e.sweepRun(ctx, r, o); err != nil {
			if strict && (errors.Is(err, airflow.ErrThrottled) || errors.Is(err, airflow.ErrUnavailable)) {
				return fmt.Errorf("run %s: %w", r.key, err)
			}
			e.log.ErrorContext(ctx, "run not recovered", "run", r.key.String(), "err", err)
		}
	}
	return nil
}

// Refresh makes the engine read a run again that another process changed.
func (e *Engine) Refresh(ctx context.Context, key store.RunKey) error {
	info, err := e.store.GetRun(ctx, key)
	if isNotFound(err) {
		e.forgetDeleted(key)
		return nil
	}
	if err != nil {
		return err
	}
	r := e.lookup(info)
	r.mu.Lock()
	e.unload(r)
	e.setInfo(r, info)
	r.mu.Unlock()
	e.poke(r)
	e.dagMoved(key.DagID)
	return errors.Join(e.sweepRun(ctx, r, RecoverOptions{}), e.recoverCallbacks(ctx))
}

// refreshChanged reads again the runs whose state another process committed.
func (e *Engine) refreshChanged(ctx context.Context, rs []*run) error {
	for _, r := range rs {
		v, err := e.store.RunStateVersion(ctx, r.key)
		if err != nil {
			return err
		}
		r.mu.Lock()
		stale := r.state != nil && (r.version < v || v == 0) // 0: deleted
		r.mu.Unlock()
		if stale {
			if err := e.Refresh(ctx, r.key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sweep looks for what was lost while the process lived: reports that were
// stored but not applied, dispatches nobody took, workers that fell silent. It
// reads the rows of outstanding dispatches only.
func (e *Engine) Sweep(ctx context.Context) error {
	ctx = kv.WithLabel(ctx, "engine.sweep")
	e.mu.Lock()
	rs := make([]*run, 0, len(e.runs))
	for _, r := range e.runs {
		rs = append(rs, r)
	}
	e.mu.Unlock()
	sortRuns(rs)
	first := e.refreshChanged(ctx, rs)
	for _, r := range rs {
		if err := e.sweepRun(ctx, r, RecoverOptions{}); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// outstanding is a dispatch that META thinks is on its way or running.
type outstanding struct {
	dispatch worker.Dispatch
	state    airflow.TIState
	queued   time.Time
}

// sweepRun posts the events that the rows of a run's outstanding dispatches call for.
func (e *Engine) sweepRun(ctx context.Context, r *run, o RecoverOptions) error {
	r.mu.Lock()
	e.mu.Lock()
	stale := r.stale
	r.stale = false
	e.mu.Unlock()
	if stale {
		e.unload(r)
	}
	if err := e.load(ctx, r, false); err != nil {
		r.mu.Unlock()
		return err
	}
	var outs []outstanding
	ended := r.state != nil && r.state.Header.State.Finished()
	if r.state != nil {
		for pos := 0; pos < r.state.Len(); pos++ {
			if ti := r.state.At(pos); ti.State.Active() && int(ti.Task) < len(r.graph.Tasks) {
				outs = append(outs, outstanding{dispatch: e.dispatchOf(r, pos), state: ti.State, queued: ti.Queued.Time()})
			}
		}
	}
	asked := r.hitlAsked()
	if r.failures > 0 {
		outs, asked = nil, nil // its mail waits already: it would only grow
	}
	info := e.infoOf(r)
	mismatch := r.state != nil && !infoMatches(info, r.state.Header)
	r.mu.Unlock()

	if ended || mismatch {
		e.poke(r) // finishes what a crash cut off: INFO, callbacks, the next step
	}
	if err := e.sweepHITL(ctx, r, asked); err != nil {
		return err
	}
	if len(outs) == 0 {
		return nil
	}
	keys := make([]airflow.TaskInstanceKey, len(outs))
	for i, x := range outs {
		keys[i] = x.dispatch.Key
	}
	rows, err := e.store.GetAttempts(ctx, keys)
	if err != nil {
		return err
	}
	now := e.utcNow()
	var again []worker.Dispatch
	for _, x := range outs {
		a, ok := rows[x.dispatch.Key]
		d := x.dispatch
		core := func(kind scheduler.ReportKind, cause string) {
			e.post(r, Event{Cause: cause, Core: &scheduler.Report{Kind: kind, Task: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: d.DispatchSeq}})
		}
		switch {
		case !ok || a.DispatchSeq < d.DispatchSeq:
			if a.MinDispatchSeq > d.DispatchSeq {
				// Fenced for a step that was never committed: nobody can claim it any more.
				core(scheduler.ReportNotAccepted, "the dispatch was withdrawn by a step that was not committed")
			} else if (o.Lost != nil || e.overdue(now.Sub(x.queued))) && !e.observed(d) {
				again = append(again, d)
			}
		case a.DispatchSeq > d.DispatchSeq:
			// A newer dispatch than META knows cannot exist; META is behind this read.
		case a.Status == store.AttemptDone:
			e.post(r, Event{Dispatch: &d})
		case a.Status == store.AttemptYielded:
			core(scheduler.ReportStopped, "stopped after it was cleared")
		case o.Lost != nil && o.Lost(a), now.Sub(a.Heartbeat) > e.cfg.HeartbeatTimeout && !e.observed(d):
			cause := fmt.Sprintf("no heartbeat from %s since %s", a.Hostname, a.Heartbeat.Format(time.RFC3339))
			if o.Lost != nil && o.Lost(a) {
				cause = "the server that ran it was stopped or killed"
			}
			if err := e.store.Fence(ctx, d.Key, d.DispatchSeq+1); err != nil {
				return err
			}
			// It may have reported just before the fence.
			if a, err := e.store.GetAttempt(ctx, d.Key); err != nil {
				return err
			} else if a.DispatchSeq == d.DispatchSeq && a.Status == store.AttemptDone {
				e.post(r, Event{Dispatch: &d})
				continue
			}
			if x.state == airflow.TIRestarting {
				core(scheduler.ReportStopped, cause)
			} else {
				core(scheduler.ReportLost, cause)
			}
			if e.onLost != nil {
				e.onLost(d, a, cause)
			}
		case x.state == airflow.TIQueued:
			ev := Event{Dispatch: &d, Claimed: true}
			if a.StartDate != nil {
				ev.Started = *a.StartDate
			}
			e.post(r, ev)
		}
	}
	if len(again) > 0 && e.submitter != nil {
		e.log.InfoContext(ctx, "dispatches sent again", "run", r.key.String(), "count", len(again))
		return e.submitter.Submit(ctx, again)
	}
	return nil
}

// overdue reports whether a dispatch that was queued so long ago and not claimed
// is to be sent again. A queue outside this process keeps what it was given, so
// there it is sent again seldom.
func (e *Engine) overdue(waited time.Duration) bool {
	if !e.shared {
		return waited > time.Minute
	}
	return waited > e.cfg.QueuedTimeout && waited%e.cfg.QueuedTimeout < time.Minute
}

// OnLost sets what is told about dispatches whose worker is lost, for instance to
// end their log with the cause. It must be set before Recover.
func (e *Engine) OnLost(f func(d worker.Dispatch, a store.Attempt, cause string)) { e.onLost = f }
