package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// This file is the minute's invocation of schedulers that come and go. It reads
// lists that may be of any length, so it goes through each in pages, hands the work
// to other invocations where there is much, and keeps in the store how far it came:
// an invocation that is killed, or has no time left, goes on in the next minute.

// TickServerless is the minute's invocation: due DAGs, due times, a look at
// unfinished runs. It does what its time allows; the rest is still due a minute
// later. Only engines with an Outbox have it.
func (e *Engine) TickServerless(ctx context.Context) error {
	e.one.Lock()
	defer e.one.Unlock()
	ctx = kv.WithLabel(ctx, "engine.tick")
	h := e.begin()
	errs := []error{e.planDue(ctx), e.fireDue(ctx), e.refreshBackfills(ctx), e.sweepAll(ctx), e.reconcileLedgers(ctx), e.resendCallbacks(ctx)}
	e.completeBackfills(ctx)
	e.end(ctx, e.drainWithin(ctx))
	errs = append(errs, h.errs...)
	for k, err := range h.runs {
		if err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", k, err))
		}
	}
	for d, err := range h.plans {
		if err != nil {
			errs = append(errs, fmt.Errorf("DAG %s: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

const (
	// walkReserve is what a tick keeps of its time for what comes after a long list.
	walkReserve = 15 * time.Second
	// duePerMessage is how many due DAGs travel in one message.
	duePerMessage = 10
	// dueGrace is how long after its time a DAG that was handed on counts as on its
	// way; still due after that, it is handed on again.
	dueGrace = 30 * time.Second
	// dueAgain bounds how many requests a tick hands on a second time. More that are
	// late are not lost: those who plan are behind.
	dueAgain = 4
	// dueAhead bounds for when a tick hands on: no message waits longer.
	dueAhead = MaxDelay - 2*time.Minute
	// dueMark is how far apart in time marks are.
	dueMark = 15 * time.Second
)

// walkTime returns what reports that a long list must be left for the next minute.
func walkTime(ctx context.Context) func() bool {
	end, limited := ctx.Deadline()
	return func() bool { return ctx.Err() != nil || limited && time.Until(end) < walkReserve }
}

// planDue plans the DAGs that are due. A few are planned here; many are handed to
// others, with how far that came kept in the store.
func (e *Engine) planDue(ctx context.Context) error {
	now := e.utcNow()
	e.wakeDue(now)
	if p := e.cfg.UseJobSchedule; p != nil && !*p {
		return nil
	}
	page, err := e.store.DuePage(ctx, now, "", "", e.cfg.DueHere+1)
	if err != nil {
		return fmt.Errorf("due DAGs: %w", err)
	}
	if len(page.Dags) > e.cfg.DueHere {
		return e.fanOut(ctx, now)
	}
	if len(page.Dags) == 0 {
		return nil
	}
	if len(page.Dags) > 1 {
		if ctx, err = e.store.Prefetch(ctx, store.Prefetch{Dags: page.Dags}); err != nil {
			return fmt.Errorf("due DAGs: %w", err)
		}
	}
	for _, dag := range page.Dags {
		e.dueMoved(dag)
	}
	e.drainWithin(ctx) // what is left when time is up is handed on at the end
	return nil
}

// fanOut hands the DAGs that are due to other invocations, at no more than DueRate
// a second: all at once they would only keep each other waiting at the index that
// every run and every DAG's next date is entered in.
//
// Each page is sent first and recorded then. Who dies in between sends it again,
// which costs the reading of DAGs that are not due any more. What was handed on and
// is due all the same when its time is long over was lost, and is handed on again.
func (e *Engine) fanOut(ctx context.Context, now time.Time) error {
	st, version, err := e.store.GetTickState(ctx)
	if err != nil {
		return fmt.Errorf("due DAGs: %w", err)
	}
	over := walkTime(ctx)
	f := &st.FanOut
	if !f.Until.Add(dueGrace).After(now) { // nothing is on its way: from the beginning
		*f = store.FanOut{}
	}
	late := ""
	for len(f.Marks) > 0 && !f.Marks[0].At.Add(dueGrace).After(now) {
		late = f.Marks[0].To
		if len(f.Marks) == 1 || f.Marks[1].At.Add(dueGrace).After(now) {
			break // the others say no more than this one
		}
		f.Marks = f.Marks[1:]
	}
	if late != "" {
		at, after := now, ""
		for range dueAgain {
			page, err := e.store.DuePage(ctx, now, after, late, e.cfg.DueBatch)
			if err != nil {
				return fmt.Errorf("due DAGs: %w", err)
			}
			if at, err = e.handOn(ctx, page.Dags, at, now); err != nil {
				return err
			}
			if after = page.Last; !page.More || over() {
				break
			}
		}
	}
	at := now
	if f.Until.After(at) {
		at = f.Until
	}
	for at.Sub(now) < dueAhead {
		page, err := e.store.DuePage(ctx, now, f.To, "", e.cfg.DueBatch)
		if err != nil {
			return fmt.Errorf("due DAGs: %w", err)
		}
		if len(page.Dags) == 0 {
			return nil
		}
		if at, err = e.handOn(ctx, page.Dags, at, now); err != nil {
			return err
		}
		f.To, f.Until = page.Last, at
		if n := len(f.Marks); n == 0 || at.Sub(f.Marks[n-1].At) >= dueMark {
			f.Marks = append(f.Marks, store.FanOutMark{To: f.To, At: at})
		}
		err = e.store.PutTickState(ctx, version, st)
		if errors.Is(err, airflow.ErrConflict) {
			return nil // another tick is at it
		}
		if err != nil {
			return fmt.Errorf("due DAGs: %w", err)
		}
		version++
		if !page.More || over() {
			return nil
		}
	}
	return nil
}

// handOn sends DAGs to be planned from a time on, at the rate that is allowed, and
// returns when the next ones may be. What is to be planned within a second is sent
// without a delay.
func (e *Engine) handOn(ctx context.Context, dags []airflow.DagID, at, now time.Time) (time.Time, error) {
	var ms []Message
	for ds := range slices.Chunk(dags, duePerMessage) {
		m := Message{Kind: MessageDue, Dags: ds}
		if when := at.Add(-time.Second); when.After(now) {
			m.At = when
		}
		ms = append(ms, m)
		at = at.Add(time.Duration(len(ds)) * time.Second / time.Duration(e.cfg.DueRate))
	}
	return at, e.announce(ctx, ms...)
}

// fireDue hands on the due times of this minute and the next: the timer queue
// delivers them to the second.
func (e *Engine) fireDue(ctx context.Context) error {
	now := e.utcNow()
	last := now.Truncate(time.Minute).Add(time.Minute)
	if e.dueRead.IsZero() {
		st, _, err := e.store.GetTickState(ctx)
		if err != nil {
			return err
		}
		if e.dueRead = st.Due; st.Due.IsZero() {
			e.dueRead = now.Truncate(time.Minute).Add(-time.Hour)
		}
		e.dueSaved = e.dueRead
	}
	from := e.dueRead.Add(time.Minute)
	for minute := from; !minute.After(last); minute = minute.Add(time.Minute) {
		due, err := e.lists.ListDue(ctx, minute)
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(due, 100) {
			var ms []Message
			for _, d := range chunk {
				ms = append(ms, Message{Kind: MessageRun, DagID: d.Run.DagID, RunID: d.Run.RunID, At: d.At})
			}
			if err := e.announce(ctx, ms...); err != nil {
				return err
			}
			for _, d := range chunk {
				if err := e.store.DeleteDue(ctx, d); err != nil {
					return err
				}
			}
		}
	}
	// The minute after this one may still get entries: it is read once more.
	e.dueRead = last.Add(-2 * time.Minute)
	if e.dueRead.Sub(e.dueSaved) < saveDue {
		return nil
	}
	st, version, err := e.store.GetTickState(ctx)
	if err != nil {
		return err
	}
	st.Due = e.dueRead
	if err := e.store.PutTickState(ctx, version, st); err != nil && !errors.Is(err, airflow.ErrConflict) {
		return err
	}
	e.dueSaved = e.dueRead
	return nil
}

// saveDue is how many minutes a fresh invocation may have to read again: a write
// every minute would cost more than that.
const saveDue = 20 * time.Minute

const (
	// sweepHere is how many unfinished runs a tick looks at itself.
	sweepHere = 100
	// sweepPage is how many it reads at once when there are more, and sweepMost how
	// many in all: with more, the next tick goes on where this one stopped.
	sweepPage = 500
	sweepMost = 5000
	// sweepYoung is how old a run is when it is first looked at by others: what was
	// said of it before is on its way.
	sweepYoung = time.Minute
)

// sweepAll looks for what was lost: reports that no message told of, silent
// workers, runs that nobody started.
func (e *Engine) sweepAll(ctx context.Context) error {
	page, err := e.lists.ActivePage(ctx, "", sweepHere)
	if err != nil {
		return fmt.Errorf("unfinished runs: %w", err)
	}
	if page.More {
		return e.sweepMany(ctx)
	}
	var errs []error
	for _, info := range page.Runs {
		if h := e.handling; h != nil && info.State != airflow.RunQueued && h.justMade(store.RunKey{DagID: info.DagID, RunID: info.RunID}) {
			continue // what has become of it since is on its way
		}
		r := e.lookup(info)
		e.mu.Lock()
		r.stale = true
		e.mu.Unlock()
		if info.State == airflow.RunQueued {
			e.noteTicked(info.DagID)
			e.dagMoved(info.DagID)
		}
		if err := e.sweepRun(ctx, r, RecoverOptions{}); err != nil && !isNotFound(err) {
			errs = append(errs, fmt.Errorf("run %s: %w", r.key, err))
			continue
		}
		r.mu.Lock()
		now := e.utcNow()
		waits := r.state != nil && (r.state.Count(airflow.TIScheduled) > 0 || r.state.DueByTime(now) || !r.armed.IsZero() && !r.armed.After(now))
		r.mu.Unlock()
		if waits {
			e.poke(r)
		}
	}
	return errors.Join(errs...)
}

// sweepMany has others look at unfinished runs: as many as a tick may hand on, from
// where the last one stopped.
func (e *Engine) sweepMany(ctx context.Context) error {
	st, version, err := e.store.GetTickState(ctx)
	if err != nil {
		return fmt.Errorf("unfinished runs: %w", err)
	}
	over, now := walkTime(ctx), e.utcNow()
	from, after := st.Swept, st.Swept
	for read := 0; read < sweepMost; read += sweepPage {
		page, err := e.lists.ActivePage(ctx, after, sweepPage)
		if err != nil {
			return fmt.Errorf("unfinished runs: %w", err)
		}
		var ms []Message
		for i, info := range page.Runs {
			if changed := lastChange(info); now.Sub(changed) >= sweepYoung {
				// Spread over the minute: they need not all be looked at at once.
				at := now.Add(time.Duration(read+i) * 45 * time.Second / sweepMost)
				ms = append(ms, Message{Kind: MessageSweep, DagID: info.DagID, RunID: info.RunID, At: at})
			}
		}
		if err := e.announce(ctx, ms...); err != nil {
			return err
		}
		if after = page.Last; !page.More {
			after = ""
			break
		}
		if over() {
			break
		}
	}
	if after == from {
		return nil
	}
	st.Swept = after
	if err := e.store.PutTickState(ctx, version, st); err != nil && !errors.Is(err, airflow.ErrConflict) {
		return fmt.Errorf("unfinished runs: %w", err)
	}
	return nil
}

// lastChange is when a run that has not ended was queued or started.
func lastChange(info airflow.DagRun) (at time.Time) {
	for _, t := range []*time.Time{info.QueuedAt, info.StartDate} {
		if t != nil && t.After(at) {
			at = *t
		}
	}
	return at
}
