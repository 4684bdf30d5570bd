package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/timetable"
)

// dagMoved says that something changed which decides about a DAG's runs: a slot
// among its active runs, an asset event, its pause flag, its schedule.
func (e *Engine) dagMoved(dag airflow.DagID) {
	if e.remote() {
		e.sendAll(context.Background(), Message{Kind: MessageDag, DagID: dag})
		return
	}
	e.mu.Lock()
	delete(e.dueOnly, dag)
	if !e.moved[dag] {
		e.moved[dag] = true
		e.movedOrder = append(e.movedOrder, dag)
	}
	e.mu.Unlock()
	e.notify()
}

// DagChanged tells the engine that DAGs were added, changed, paused or un-paused.
func (e *Engine) DagChanged(dags ...airflow.DagID) {
	for _, d := range dags {
		e.dagMoved(d)
		if e.remote() {
			continue // it looks at their runs
		}
		for _, r := range e.activeRuns(d) {
			e.poke(r)
		}
	}
}

// dueMoved is dagMoved for a DAG that needs nothing done unless it is due: whoever
// is told late that it was finds it planned.
func (e *Engine) dueMoved(dag airflow.DagID) {
	e.mu.Lock()
	if !e.moved[dag] {
		e.moved[dag] = true
		e.movedOrder = append(e.movedOrder, dag)
		e.dueOnly[dag] = true
	}
	e.mu.Unlock()
	e.notify()
}

// nextMoved takes the next DAG to look at, dueOnly if that is so.
func (e *Engine) nextMoved() (dag airflow.DagID, dueOnly, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.movedOrder) == 0 {
		return "", false, false
	}
	dag = e.movedOrder[0]
	dueOnly = e.dueOnly[dag]
	e.movedOrder = e.movedOrder[1:]
	delete(e.moved, dag)
	delete(e.dueOnly, dag)
	if len(e.movedOrder) > 0 {
		e.notify()
	}
	return dag, dueOnly, true
}

// TickResult says what a tick did.
type TickResult struct {
	Due   int // DAGs that were due
	Woken int // runs whose time had come
	// Delayed are due DAGs that could not be planned and wait to be tried again.
	Delayed int
	// More says that more DAGs are due than one tick takes: tick again.
	More bool
}

// Tick creates the runs that are due and wakes the runs whose time has come. It
// reads due entries only, never idle DAGs. workers plan DAGs in parallel.
func (e *Engine) Tick(ctx context.Context, workers int) (TickResult, error) {
	now := e.utcNow()
	res := TickResult{Woken: e.wakeDue(now)}
	e.callbacksDue(now)
	if p := e.cfg.UseJobSchedule; p != nil && !*p {
		return res, nil
	}
	due, err := e.lists.ListDueDags(ctx, now, e.cfg.DueBatch)
	if err != nil {
		return res, err
	}
	res.Due, res.More = len(due), len(due) == e.cfg.DueBatch
	var (
		wg    sync.WaitGroup
		first sync.Once
		queue = make(chan airflow.DagID)
	)
	if workers = min(workers, len(due)); workers <= 1 {
		workers = 0 // on the caller's goroutine
	}
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for dag := range queue {
				if perr := e.planDag(ctx, dag, false); perr != nil {
					first.Do(func() { err = perr })
				}
			}
		}()
	}
	for _, m := range due {
		if e.delayedUntil(m.DagID).After(now) {
			res.Delayed++
			continue
		}
		if workers > 0 {
			queue <- m.DagID
		} else if perr := e.planDag(ctx, m.DagID, false); perr != nil && err == nil {
			err = perr
		}
	}
	close(queue)
	wg.Wait()
	return res, err
}

// NextTick returns when Tick should be called next, zero = when something happens.
func (e *Engine) NextTick(ctx context.Context) (time.Time, error) {
	next, _ := e.NextWake()
	if p := e.cfg.UseJobSchedule; p != nil && !*p {
		return next, nil
	}
	due, ok, err := e.store.NextDue(ctx)
	if err != nil {
		return next, err
	}
	if ok && (next.IsZero() || due.Before(next)) {
		next = due
	}
	return next, nil
}

// delayedDag is a DAG whose planning failed.
type delayedDag struct {
	failures int // in a row
	at       time.Time
}

// planDag is scheduleDag for a loop: a failure, also a panic, is logged and the
// DAG planned again later, since nothing else may ever ask for it.
func (e *Engine) planDag(ctx context.Context, dag airflow.DagID, dueOnly bool) (err error) {
	ctx = store.Current(ctx)
	defer func() {
		if !e.escape {
			if p := recover(); p != nil {
				err = &panicError{p, debug.Stack()}
				e.log.ErrorContext(ctx, "planning a DAG panicked; this is a bug of gust", "dag_id", dag, "stack", string(debug.Stack()))
			}
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.notePlan(dag, dueOnly, err)
		if err == nil {
			delete(e.delayed, dag)
			return
		}
		d := e.delayed[dag]
		d.failures++
		d.at = e.now().Add(retryAfter(d.failures, err))
		e.delayed[dag] = d
		e.log.ErrorContext(ctx, "DAG not scheduled; it is tried again", "dag_id", dag, "at", d.at, "err", err)
	}()
	return e.scheduleDag(ctx, dag, dueOnly)
}

// delayedUntil is when a DAG that could not be planned is planned again; zero for others.
func (e *Engine) delayedUntil(dag airflow.DagID) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.delayed[dag].at
}

// scheduleDag creates what is due of a DAG's runs, by time and by assets, and
// starts queued runs within their limits. It reads the DAG's entry itself, so
// that it plans from what the last call has left. With dueOnly it does nothing for
// a DAG that no date asks for.
func (e *Engine) scheduleDag(ctx context.Context, dag airflow.DagID, dueOnly bool) error {
	l := e.planning.of(dag)
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	have, err := e.store.ReadDag(ctx, dag)
	if isNotFound(err) {
		return nil
	}
	m := have.Value
	if dueOnly && errors.Is(err, kv.ErrCorrupt) {
		e.unreadable(store.DagItem(dag), err) // it stays due: other DAGs go on
		return nil
	}
	if err != nil {
		return err
	}
	model := &m
	if dueOnly && !isDue(m, e.utcNow()) {
		return nil
	}
	if e.shared {
		e.sawDag(m)
		if err := e.syncDag(ctx, dag); err != nil {
			return err
		}
	}
	if !model.IsStale && !model.HasImportErrors && model.LatestHash != "" {
		g, err := e.docs.get(ctx, model.LatestHash)
		if err != nil {
			return err
		}
		// Of a paused DAG only the dates shown to people are worked out.
		if err := e.planRuns(ctx, g.DAG, have, model); err != nil {
			return err
		}
		if !model.IsPaused {
			if err := e.planAssetRuns(ctx, g.DAG, *model); err != nil {
				return err
			}
		}
	}
	if err := e.startRuns(ctx, *model); err != nil {
		return err
	}
	if e.shared {
		e.planSoon(ctx, m)
	}
	return nil
}

// isDue reports whether the date has come that a DAG waits for.
func isDue(m airflow.DagModel, now time.Time) bool {
	return !m.IsPaused && !m.IsStale && !m.HasImportErrors && m.NextDagRunCreateAfter != nil && !m.NextDagRunCreateAfter.After(now)
}

// planSoon has a DAG planned again whose next run is due before the next tick.
func (e *Engine) planSoon(ctx context.Context, m airflow.DagModel) {
	if m.IsPaused || m.IsStale || m.HasImportErrors || m.NextDagRunCreateAfter == nil {
		return // the tick finds it
	}
	now := e.utcNow()
	tick := now.Truncate(time.Minute).Add(time.Minute)
	if at := *m.NextDagRunCreateAfter; at.After(now) && at.Before(tick) {
		e.sendAll(ctx, Message{Kind: MessageDag, DagID: m.DagID, At: at})
	}
}

// planRuns creates the DAG's scheduled runs that are due, and keeps the date of the
// next in its entry.
func (e *Engine) planRuns(ctx context.Context, dag *airflow.DAG, have store.Known[airflow.DagModel], model *airflow.DagModel) error {
	m := *model
	tt, err := timetable.Parse(dag.Timetable)
	if err != nil {
		return fmt.Errorf("DAG %q: %w", dag.DagID, err)
	}
	if !tt.CanBeScheduled() {
		if m.NextDagRunCreateAfter == nil {
			return nil
		}
		// It had a schedule once: left in place, that date would be due for ever.
		_, err := e.store.UpdateDag(ctx, dag.DagID, func(m *airflow.DagModel) error {
			m.NextDagRunLogicalDate, m.NextDagRunRunAfter, m.NextDagRunCreateAfter = nil, nil, nil
			m.NextDagRunDataIntervalStart, m.NextDagRunDataIntervalEnd = nil, nil
			return nil
		})
		return err
	}
	now := e.utcNow()
	start, end := scheduler.PlanBounds(dag)
	var lookup error
	s := scheduler.ScheduleState{
		Paused: m.IsPaused, Stale: m.IsStale, HasImportErrors: m.HasImportErrors,
		LastIntervalStart: m.LastAutomatedIntervalStart, LastIntervalEnd: m.LastAutomatedIntervalEnd,
		StartDate: start, EndDate: end,
		Exists: func(ld time.Time) bool {
			_, err := e.store.RunOfLogicalDate(ctx, dag.DagID, ld)
			if err != nil && !isNotFound(err) {
				lookup = err
			}
			return err == nil
		},
	}
	for _, r := range e.activeRuns(dag.DagID) {
		if e.infoOf(r).RunType != airflow.RunTypeBackfill {
			s.ActiveRuns++
		}
	}
	plan, err := scheduler.PlanRuns(dag, tt, s, scheduler.PlanLimits{MaxRuns: 100}, now)
	if lookup != nil {
		return lookup
	}
	if err != nil {
		// Airflow logs a timetable that fails and goes on as if there were no next run.
		e.log.WarnContext(ctx, "timetable failed: no next run", "dag_id", dag.DagID, "err", err)
	}
	for _, c := range plan.Create {
		if err := e.createRun(ctx, newRun(c, m, now, airflow.TriggeredByTimetable)); err != nil {
			return err
		}
	}
	if !planChanges(m, plan) {
		return nil
	}
	m, err = e.store.UpdateDagFrom(ctx, dag.DagID, have, func(m *airflow.DagModel) error {
		m.LastAutomatedIntervalStart, m.LastAutomatedIntervalEnd = plan.LastIntervalStart, plan.LastIntervalEnd
		m.NextDagRunLogicalDate, m.NextDagRunRunAfter = plan.NextLogicalDate, plan.NextRunAfter
		m.NextDagRunDataIntervalStart, m.NextDagRunDataIntervalEnd = plan.NextIntervalStart, plan.NextIntervalEnd
		m.NextDagRunCreateAfter = plan.NextCreateAfter
		return nil
	})
	if err != nil {
		return err
	}
	*model = m
	if plan.More {
		e.dagMoved(dag.DagID)
	}
	return nil
}

func planChanges(m airflow.DagModel, p scheduler.RunPlan) bool {
	same := func(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }
	return len(p.Create) > 0 || !same(m.LastAutomatedIntervalEnd, p.LastIntervalEnd) || !same(m.NextDagRunCreateAfter, p.NextCreateAfter) || !same(m.NextDagRunLogicalDate, p.NextLogicalDate) ||
		!same(m.NextDagRunRunAfter, p.NextRunAfter)
}

// newRun completes a planned run.
func newRun(c scheduler.NewDagRun, m airflow.DagModel, now time.Time, by airflow.TriggeredBy) airflow.DagRun {
	return airflow.DagRun{
		DagID: m.DagID, RunID: c.RunID, RunType: c.RunType, State: airflow.RunQueued,
		LogicalDate: c.LogicalDate, DataIntervalStart: c.DataIntervalStart, DataIntervalEnd: c.DataIntervalEnd,
		RunAfter: c.RunAfter, QueuedAt: &now, TriggeredBy: by, Conf: c.Conf, BackfillOrdinal: c.BackfillOrdinal,
		DagVersion: m.LatestVersion, DagHash: m.LatestHash, BundleHash: m.BundleHash,
	}
}

// createRun stores a run and takes it under management. A run that exists
// already is fine: an earlier, interrupted call made it.
func (e *Engine) createRun(ctx context.Context, info airflow.DagRun) error {
	err := e.store.CreateRun(ctx, info)
	if err != nil {
		if !errors.Is(err, airflow.ErrAlreadyExists) {
			return err
		}
		have, gerr := e.store.GetRun(ctx, store.RunKey{DagID: info.DagID, RunID: info.RunID})
		if gerr != nil || have.State.Finished() {
			return nil
		}
		info = have
	}
	r := e.adopt(ctx, info)
	if err == nil && e.shared {
		e.mu.Lock()
		r.made = true
		e.mu.Unlock()
		e.noteMade(r.key)
	}
	return nil
}

// startRuns starts queued runs of a DAG within max_active_runs and the limits of
// backfills.
func (e *Engine) startRuns(ctx context.Context, m airflow.DagModel) error {
	var (
		queued []scheduler.QueuedRun
		of     []*run
		lim    = scheduler.StartLimits{Running: map[scheduler.RunSlot]int{}, MaxActiveRuns: map[scheduler.RunSlot]int{}}
	)
	active := e.activeRuns(m.DagID)
	if len(active) == 0 {
		return nil
	}
	own := scheduler.RunSlot{DagID: m.DagID}
	lim.MaxActiveRuns[own] = 16
	if m.LatestHash != "" {
		g, err := e.docs.get(ctx, m.LatestHash)
		if err != nil {
			return err
		}
		lim.MaxActiveRuns[own] = g.DAG.MaxActiveRuns
	}
	paused := map[int64]bool{}
	for _, r := range active {
		e.mu.Lock()
		id := r.info.BackfillID
		e.mu.Unlock()
		slot := scheduler.RunSlot{DagID: m.DagID, BackfillID: id}
		if _, known := lim.MaxActiveRuns[slot]; known {
			continue
		}
		b, err := e.backfill(ctx, id)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		// Runs of a completed backfill that are started again keep its limit. Its
		// pause flag, which cancelling leaves behind, cannot be taken back: it is void.
		lim.MaxActiveRuns[slot] = b.MaxActiveRuns
		paused[id] = b.IsPaused && b.CompletedAt == nil
	}
	e.mu.Lock()
	for _, r := range active {
		slot := scheduler.RunSlot{DagID: m.DagID, BackfillID: r.info.BackfillID}
		switch {
		case r.info.State.Finished(): // not forgotten yet, or what a deletion that was cut short left
		case r.info.State == airflow.RunQueued && !r.starting:
			queued = append(queued, scheduler.QueuedRun{
				Key:      scheduler.RunKey{DagID: m.DagID, RunID: r.key.RunID},
				RunAfter: scheduler.At(r.info.RunAfter), BackfillID: r.info.BackfillID, BackfillOrdinal: r.info.BackfillOrdinal,
				Paused: m.IsPaused || m.IsStale, BackfillPaused: paused[r.info.BackfillID],
			})
			of = append(of, r)
		default:
			lim.Running[slot]++
		}
	}
	e.mu.Unlock()
	if len(queued) == 0 {
		return nil
	}
	now := e.utcNow()
	start := scheduler.StartQueued(queued, lim, now)
	if e.shared {
		var err error
		if start, err = e.startShared(ctx, m.DagID, queued, lim, now); err != nil {
			return err
		}
	}
	for _, i := range start {
		e.mu.Lock()
		of[i].starting = true
		e.mu.Unlock()
		e.post(of[i], Event{Start: true})
	}
	// A run whose run_after lies ahead starts when its time comes.
	for _, q := range of {
		if at := e.infoOf(q).RunAfter; at.After(now) {
			e.setWake(q, at)
			if e.shared {
				e.startAt(ctx, q.key, at)
			}
		}
	}
	return nil
}

// startShared is StartQueued where other schedulers start runs of the DAG too.
func (e *Engine) startShared(ctx context.Context, dag airflow.DagID, queued []scheduler.QueuedRun, lim scheduler.StartLimits, now time.Time) (start []int, err error) {
	err = e.claimSlots(ctx, dag, func(running map[airflow.RunID]int64) (taken []store.RunningRun, reused bool) {
		start = start[:0]
		// Counted anew: reading the list has brought news of its runs.
		l := scheduler.StartLimits{Running: map[scheduler.RunSlot]int{}, MaxActiveRuns: lim.MaxActiveRuns}
		known := map[airflow.RunID]bool{}
		for _, r := range e.activeRuns(dag) {
			if info := e.infoOf(r); info.State != airflow.RunQueued && !info.State.Finished() {
				known[r.key.RunID] = true
				l.Running[scheduler.RunSlot{DagID: dag, BackfillID: info.BackfillID}]++
			}
		}
		for id, backfill := range running { // only sums: order does not matter
			if !known[id] {
				l.Running[scheduler.RunSlot{DagID: dag, BackfillID: backfill}]++
			}
		}
		var free []scheduler.QueuedRun
		var at []int
		for i, q := range queued {
			if _, has := running[q.Key.RunID]; has && !q.Paused && !q.BackfillPaused {
				reused = true
				start = append(start, i) // it has its slot: who gave it did not get to start it
				continue
			}
			free = append(free, q)
			at = append(at, i)
		}
		for _, i := range scheduler.StartQueued(free, l, now) {
			start = append(start, at[i])
			taken = append(taken, store.RunningRun{RunID: free[i].Key.RunID, BackfillID: free[i].BackfillID})
		}
		return taken, reused
	})
	return start, err
}

// startAt has a DAG planned again when the time of a queued run has come.
func (e *Engine) startAt(ctx context.Context, key store.RunKey, at time.Time) {
	if at.Sub(e.utcNow()) <= MaxDelay-time.Minute {
		e.sendAll(ctx, Message{Kind: MessageDag, DagID: key.DagID, RunID: key.RunID, At: at})
		return
	}
	if err := e.store.PutDue(ctx, key, at); err != nil {
		e.log.ErrorContext(ctx, "due time not stored", "run", key.String(), "err", err)
		e.noteRun(key, err)
	}
}

// completeBackfill closes a backfill none of whose runs is left to do.
func (e *Engine) completeBackfill(ctx context.Context, id int64) {
	e.mu.Lock()
	b, ok := e.backfills[id]
	for _, r := range e.byDag[b.DagID] {
		if r.info.BackfillID == id {
			ok = false
			break
		}
	}
	e.mu.Unlock()
	if !ok {
		return
	}
	now := e.utcNow()
	_, err := e.store.UpdateBackfill(ctx, id, func(b *airflow.Backfill) error {
		if b.CompletedAt == nil {
			b.CompletedAt, b.UpdatedAt = &now, now
		}
		return nil
	})
	if err != nil {
		e.log.ErrorContext(ctx, "backfill not completed", "backfill_id", id, "err", err)
		return
	}
	e.mu.Lock()
	delete(e.backfills, id)
	e.mu.Unlock()
}

// confOf returns a run's conf as an object, {} if it has none.
func confOf(conf json.RawMessage) json.RawMessage {
	if len(conf) == 0 || string(conf) == "null" {
		return json.RawMessage("{}")
	}
	return conf
}
