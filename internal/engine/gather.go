package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// Of a run with very many instances thousands of reports arrive within seconds,
// and every batch of them at another scheduler. Each may step the run; but of those
// who try at the same time one commits and the others have read a wide state for
// nothing. So whoever loses takes the run's lease and steps it for all; the others
// leave the keys of their reports in a box, which costs one write, and are done.
// The holder works off box after box until one is empty.
//
// A lease decides nothing: steps are conditioned on META as ever. A holder that
// dies leaves reports in rows and boxes: they are found by who takes the lease
// next, by the messages that it had not finished with, by the minute's tick.

// wideFrom is the number of instances from which a run counts as wide: about when
// its state does not fit one item any more.
const wideFrom = 300

// leaseFor is how long a holder that says nothing keeps the run. It is extended
// with every box.
const leaseFor = 30 * time.Second

// gatherUnits is how many write units a second the steps of a wide run may take
// together: a partition takes 1,000, and INFO is in it, too.
const gatherUnits = 400

// gatherPause bounds the pause between two steps.
const gatherPause = 5 * time.Second

// gatherAttempts bounds how often a run's lease changes hands before a scheduler
// that only wants to leave reports gives up.
const gatherAttempts = 20

// wide reports whether reports on a run are gathered.
func (e *Engine) wide(rs *scheduler.RunState) bool { return e.shared && rs.Len() >= e.wideFrom }

// offerOf is what the claim of a dispatch will need, for the message.
func (e *Engine) offerOf(r *run, d worker.Dispatch) worker.Offer {
	c := e.claimableOf(r.graph, r.state, airflow.DagRun{}, d)
	if c == nil {
		return worker.Offer{}
	}
	o := worker.Offer{TryNumber: c.try, MaxTries: c.maxTries, ExpandedTICount: c.expanded, ClearNumber: c.info.ClearNumber, Scheduled: int64(c.scheduled), Queued: int64(c.queued), Wide: e.wide(r.state)}
	if h := r.state.Header; h.DagHash != "" && h.DagHash != e.infoOf(r).DagHash {
		o.DagHash, o.DagVersion = h.DagHash, h.DagVersion // INFO follows
	}
	if c.info.StartDate != nil {
		o.StartDate = c.info.StartDate.UnixMicro()
	}
	if len(c.upstreams) > 0 {
		b, err := json.Marshal(c.upstreams)
		if err != nil {
			panic(err) // numbers under texts
		}
		o.Upstreams = string(b)
	}
	return o
}

// offered is what a claim needs, from the dispatch and the run's INFO. A dispatch
// that was taken away is fenced; one of a run that was deleted has no INFO.
func (e *Engine) offered(ctx context.Context, d worker.Dispatch) (*claimable, error) {
	info, err := e.store.GetRun(ctx, store.RunKey{DagID: d.Key.DagID, RunID: d.Key.RunID})
	if err != nil {
		return nil, err
	}
	if d.Offer.DagHash != "" {
		info.DagHash, info.DagVersion = d.Offer.DagHash, d.Offer.DagVersion
	}
	g, err := e.docs.get(ctx, info.DagHash)
	if err != nil {
		return nil, err
	}
	// INFO follows the step that queued the dispatch.
	info.State, info.ClearNumber = airflow.RunRunning, d.Offer.ClearNumber
	if d.Offer.StartDate != 0 {
		info.StartDate = timePtr(time.UnixMicro(d.Offer.StartDate))
	}
	c := &claimable{
		graph: g, info: info, try: d.Offer.TryNumber, maxTries: d.Offer.MaxTries, expanded: d.Offer.ExpandedTICount, wide: d.Offer.Wide,
		scheduled: scheduler.Micros(d.Offer.Scheduled), queued: scheduler.Micros(d.Offer.Queued),
	}
	if d.Offer.Upstreams != "" {
		if err := json.Unmarshal([]byte(d.Offer.Upstreams), &c.upstreams); err != nil {
			return nil, fmt.Errorf("offer of dispatch %s: %w", d, err)
		}
	}
	return c, nil
}

// reportEvent is the event that a row tells of a dispatch; ok is false if there is none.
func reportEvent(a store.Attempt, d worker.Dispatch) (ev Event, ok bool, err error) {
	if a.DispatchSeq != d.DispatchSeq {
		return ev, false, nil
	}
	switch a.Status {
	case store.AttemptYielded:
		return Event{Core: &scheduler.Report{Kind: scheduler.ReportStopped, Task: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: a.DispatchSeq}}, true, nil
	case store.AttemptDone:
		ev = Event{Dispatch: &d, Report: &worker.Report{}}
		if err := json.Unmarshal(a.Report, ev.Report); err != nil {
			return ev, false, corruptReport(d, err)
		}
		if a.StartDate != nil {
			ev.Started = *a.StartDate
		}
		return ev, true, nil
	}
	return ev, false, nil
}

// gathered are the reports on a wide run that an invocation has in hand.
type gathered map[store.RunKey][]store.Mail

// wideReports takes from a batch the reports on wide runs that somebody else is
// known to step, and leaves them to that one. It returns the rest. A message that
// comes again is not among them: who had it may have died.
func (e *Engine) wideReports(ctx context.Context, ds []Delivery) (rest []Delivery) {
	reports := gathered{}
	for _, d := range ds {
		if e.mayLeave(d) && e.leases[d.run()].Held(e.utcNow()) {
			reports[d.run()] = append(reports[d.run()], mailOf(d))
			continue
		}
		rest = append(rest, d)
	}
	for _, k := range sortedRuns(reports) {
		left, err := e.leaveMail(ctx, k, e.leases[k], reports[k])
		if err == nil && !left {
			err = e.gather(ctx, k, reports[k])
		}
		if err != nil {
			e.noteRun(k, err)
		}
	}
	return rest
}

// mayLeave reports whether a message may be left to who steps the run.
func (e *Engine) mayLeave(d Delivery) bool {
	return d.Wide && d.Kind == MessageReport && d.ReceiveCount <= 1 && d.Check() == nil && !d.At.After(e.utcNow().Add(early))
}

func mailOf(d Delivery) store.Mail {
	return store.Mail{TaskID: d.TaskID, MapIndex: d.MapIndex, DispatchSeq: d.DispatchSeq}
}

func sortedRuns[T any](m map[store.RunKey]T) []store.RunKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b store.RunKey) int {
		if lessKey(a, b) {
			return -1
		}
		return 1
	})
}

// leaveHeld takes from a batch the reports on wide runs whose lease, as it was
// prefetched, somebody holds, and leaves them there.
func (e *Engine) leaveHeld(ctx context.Context, ds []Delivery) (rest []Delivery) {
	held := map[store.RunKey]bool{}
	reports := gathered{}
	for _, d := range ds {
		k := d.run()
		if !e.mayLeave(d) {
			rest = append(rest, d)
			continue
		}
		if _, known := held[k]; !known {
			l, err := e.store.GetLease(ctx, k)
			held[k] = err == nil && l.Held(e.utcNow()) && l.Owner != e.name
			if held[k] {
				e.leases[k] = l
			}
		}
		if !held[k] {
			rest = append(rest, d)
			continue
		}
		reports[k] = append(reports[k], mailOf(d))
	}
	for _, k := range sortedRuns(reports) {
		if err := e.gather(ctx, k, reports[k]); err != nil {
			e.noteRun(k, err)
		}
	}
	return rest
}

// leaveMail leaves reports to who held the lease when it was read. left is false
// if that one may have looked into the box for the last time before.
func (e *Engine) leaveMail(ctx context.Context, k store.RunKey, l store.Lease, ms []store.Mail) (left bool, err error) {
	if err := e.store.PutMail(ctx, k, l.Box, ms, e.utcNow()); err != nil {
		return false, err
	}
	now, err := e.store.GetLease(ctx, k)
	if err != nil {
		return false, err
	}
	e.leases[k] = now
	// Held after the mail was there, with the same box open: the holder closes the
	// box, or gives the lease back, only later, and looks into the box after that.
	return now.Held(e.utcNow()) && now.Box == l.Box, nil
}

// overtaken keeps the mail of a step that somebody else has overtaken, if all of
// it can be left to who steps the run.
func (e *Engine) overtaken(r *run, mail []Event) bool {
	h := e.handling
	if !e.shared || h == nil || len(mail) == 0 {
		return false
	}
	var ms []store.Mail
	for _, ev := range mail {
		if !ev.wide {
			return false
		}
		k := ev.Dispatch.Key
		ms = append(ms, store.Mail{TaskID: k.TaskID, MapIndex: k.MapIndex, DispatchSeq: ev.Dispatch.DispatchSeq})
	}
	h.mu.Lock()
	h.gather[r.key] = append(h.gather[r.key], ms...)
	h.mu.Unlock()
	return true
}

// gatherAll steps the wide runs of an invocation that were overtaken.
func (e *Engine) gatherAll(ctx context.Context) {
	h := e.handling
	for {
		h.mu.Lock()
		todo := h.gather
		h.gather = gathered{}
		h.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		for _, k := range sortedRuns(todo) {
			if err := e.gather(ctx, k, todo[k]); err != nil {
				e.noteRun(k, err)
			}
		}
	}
}

// gather steps a wide run for everybody, or leaves the reports to who does.
func (e *Engine) gather(ctx context.Context, k store.RunKey, own []store.Mail) error {
	for range gatherAttempts {
		now := e.utcNow()
		l, mine, err := e.store.TakeLease(ctx, k, e.name, now, now.Add(leaseFor))
		if err != nil {
			return fmt.Errorf("lease of run %s: %w", k, err)
		}
		if mine {
			delete(e.leases, k)
			return e.hold(ctx, k, l, own)
		}
		e.leases[k] = l
		if len(own) == 0 {
			return nil
		}
		left, err := e.leaveMail(ctx, k, l, own)
		if err != nil || left {
			return err
		}
	}
	return fmt.Errorf("lease of run %s: %w: it changes hands too fast", k, airflow.ErrThrottled)
}

// hold steps a run whose lease this scheduler has, until nothing is left in the
// boxes or its time is up.
func (e *Engine) hold(ctx context.Context, k store.RunKey, l store.Lease, own []store.Mail) error {
	h := e.handling
	fresh := true
	giveUp := func(err error) error {
		again := Message{Kind: MessageRun, DagID: k.DagID, RunID: k.RunID, Wide: true}
		if err != nil {
			again.At = e.utcNow().Add(time.Second)
		}
		if rerr := e.store.ReleaseLease(ctx, k, l, false); rerr != nil {
			e.log.WarnContext(ctx, "lease not given back; it ends by itself", "run", k.String(), "err", rerr)
			again.At = l.Until
		}
		e.sendAll(context.WithoutCancel(ctx), again) // what is in the boxes has no other message
		return err
	}
	for {
		ms := own
		own = nil
		for box := l.From; box < l.Box; box++ {
			more, err := e.store.ListMail(ctx, k, box)
			if err != nil {
				return giveUp(err)
			}
			ms = append(ms, more...)
		}
		// It may have ended and been forgotten since the last step.
		r := e.lookup(airflow.DagRun{DagID: k.DagID, RunID: k.RunID, State: airflow.RunRunning})
		if fresh {
			e.mu.Lock()
			r.stale = true
			e.mu.Unlock()
			fresh = false
		}
		if err := e.stepMail(ctx, r, ms); err != nil {
			return giveUp(err)
		}
		h.mu.Lock()
		failed := h.runs[k]
		h.mu.Unlock()
		if failed != nil {
			return giveUp(failed)
		}
		has, err := e.store.HasMail(ctx, k, l.Box)
		if err != nil {
			return giveUp(err)
		}
		if !has {
			if err := e.store.ReleaseLease(ctx, k, l, true); err != nil {
				return fmt.Errorf("lease of run %s: %w", k, err)
			}
			// Who found the lease held before that may have left something since.
			if has, err = e.store.HasMail(ctx, k, l.Box); err != nil || !has {
				return err
			}
			now := e.utcNow()
			var mine bool
			if l, mine, err = e.store.TakeLease(ctx, k, e.name, now, now.Add(leaseFor)); err != nil || !mine {
				return err
			}
			fresh = true
			continue
		}
		if timeUp(ctx, 2*reserve) {
			return giveUp(nil)
		}
		r.mu.Lock()
		units := r.written
		r.written = 0
		r.mu.Unlock()
		// More reports arrive meanwhile, and share the next step.
		e.pause(min(time.Duration(units)*time.Second/gatherUnits, gatherPause))
		if l, err = e.store.NextBox(ctx, k, l, e.utcNow().Add(leaseFor)); err != nil {
			return fmt.Errorf("lease of run %s: %w", k, err)
		}
	}
}

// stepMail takes what rows say of dispatches into one step.
func (e *Engine) stepMail(ctx context.Context, r *run, ms []store.Mail) error {
	keys := make([]airflow.TaskInstanceKey, len(ms))
	for i, m := range ms {
		keys[i] = airflow.TaskInstanceKey{DagID: r.key.DagID, RunID: r.key.RunID, TaskID: m.TaskID, MapIndex: m.MapIndex}
	}
	rows, err := e.store.GetAttempts(ctx, keys)
	if err != nil {
		return err
	}
	var evs []Event
	for i, m := range ms {
		a, ok := rows[keys[i]]
		if !ok {
			continue
		}
		ev, ok, err := reportEvent(a, worker.Dispatch{Key: keys[i], DispatchSeq: m.DispatchSeq})
		if err != nil {
			return err
		}
		if ok {
			evs = append(evs, ev)
		}
	}
	e.mu.Lock()
	r.mail = append(r.mail, evs...)
	e.enqueueLocked(r)
	e.mu.Unlock()
	e.drainWithin(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(r.mail) > 0 {
		return fmt.Errorf("%w: no time left", airflow.ErrUnavailable)
	}
	return nil
}

// blocks are the write units of an item of so many bytes in a transaction.
func blocks(n int) int { return 2 * (n/1024 + 1) }

// see keeps what the store has of a wide run.
func (r *run) see() {
	r.seen = store.RunState{}
	if len(r.chunks) > 1 && len(r.chunks) == len(r.encoded) {
		r.seen = store.RunState{Chunks: r.encoded, ChunkVersions: r.chunks}
	}
}

func corruptReport(d worker.Dispatch, err error) error {
	return fmt.Errorf("%w: report of %s: %w", kv.ErrCorrupt, d, err)
}
