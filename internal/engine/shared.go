package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// This file is the engine of schedulers that come and go: many invocations on one
// store, each knowing nothing of the others. What one process keeps in memory is
// in the store instead: limits across runs in ledgers, timers in queues and due
// items, watchers in items. What an invocation keeps is a cache that it checks.

// handling is what one call of Handle or Minute has met.
type handling struct {
	mu    sync.Mutex
	errs  []error
	runs  map[store.RunKey]error
	plans map[airflow.DagID]error
	pokes map[store.RunKey]int
	// gather are wide runs to be stepped under their lease, with reports in hand.
	gather gathered
	// tries are of messages that asked for DAGs to be planned, how often that failed
	// before; due are DAGs planned only because they are due, ticked those that the
	// next tick asks for again, and resent those for which end has sent a message.
	tries               map[airflow.DagID]int
	due, ticked, resent map[airflow.DagID]bool
	backfills           bool                  // have been read
	made                map[store.RunKey]bool // runs that the invocation has created
}

func (e *Engine) noteFailure(err error) {
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.errs = append(h.errs, err)
		h.mu.Unlock()
	}
}

func (e *Engine) noteRun(k store.RunKey, err error) {
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.runs[k] = err
		h.mu.Unlock()
	}
}

func (e *Engine) notePlan(d airflow.DagID, dueOnly bool, err error) {
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.plans[d], h.due[d] = err, dueOnly
		h.mu.Unlock()
	}
}

// noteMade says that this invocation has created a run.
func (e *Engine) noteMade(k store.RunKey) {
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.made[k] = true
		h.mu.Unlock()
	}
}

// justMade reports whether this invocation has created a run, and nothing has gone
// wrong with it.
func (h *handling) justMade(k store.RunKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.made[k] && h.runs[k] == nil && h.plans[k.DagID] == nil
}

// noteTicked says that the next tick will ask for a DAG again, as this one does.
func (e *Engine) noteTicked(d airflow.DagID) {
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.ticked[d] = true
		h.mu.Unlock()
	}
}

// reserve is what an invocation keeps of its time for what must be said at its end.
const reserve = 4 * time.Second

// Handle takes a batch of messages in: runs are stepped, DAGs planned, and what
// follows is carried out before it returns. It returns the indexes of the
// messages that must be delivered again, among them those of kinds that only a
// newer version knows. Only engines with an Outbox have it;
// calls are taken one after the other.
func (e *Engine) Handle(ctx context.Context, ds []Delivery) (failed []int) {
	e.one.Lock()
	defer e.one.Unlock()
	ctx = kv.WithLabel(ctx, "engine.handle")
	h := e.begin()
	all := func(err error) []int {
		e.log.ErrorContext(ctx, "messages not handled", "count", len(ds), "err", err)
		out := make([]int, len(ds))
		for i := range out {
			out[i] = i
		}
		return out
	}
	rest := e.wideReports(ctx, ds)
	// What a report leads to is a commit on what was read, or is decided again. Other
	// messages may rightly lead to nothing, and no write would tell that they were
	// judged by what is out of date.
	want := store.Prefetch{Eventually: !slices.ContainsFunc(rest, func(d Delivery) bool {
		return d.Kind != MessageReport || d.Wide || d.ReceiveCount > 1
	})}
	for _, d := range rest {
		if err := d.Check(); err != nil {
			if d.newer() {
				e.log.WarnContext(ctx, "message left to a newer scheduler", "kind", d.Kind)
			} else {
				e.log.ErrorContext(ctx, "message dropped", "err", err)
			}
			continue
		}
		// Also of a run that this process knows: between two of its steps another
		// process has mostly taken one, and a commit on an old state costs more than
		// the read.
		if d.RunID != "" {
			want.Runs = append(want.Runs, d.run())
		}
		switch {
		case d.Kind == MessageDue:
			want.Dags = append(want.Dags, d.Dags...)
		case !e.knowsDag(d.DagID) || d.Kind == MessageDag:
			want.Dags = append(want.Dags, d.DagID)
		}
		if d.TaskID != "" {
			want.TIs = append(want.TIs, d.dispatch().Key)
		}
		if d.Wide {
			want.Leases = append(want.Leases, d.run())
		}
	}
	ctx, err := e.store.Prefetch(ctx, want)
	if err != nil {
		return all(err)
	}
	var again []store.RunKey
	for _, d := range e.leaveHeld(ctx, rest) {
		if d.Check() != nil {
			continue
		}
		e.take(ctx, d)
		if d.RunID != "" && d.ReceiveCount > 1 && !slices.Contains(again, d.run()) {
			again = append(again, d.run())
		}
	}
	unfinished := e.drainWithin(ctx)
	e.gatherAll(ctx)
	for _, k := range again {
		// An invocation before this one may have committed and died: its effects
		// are derived again.
		if err := e.redo(ctx, k); err != nil {
			e.noteRun(k, err)
		}
	}
	unfinished = e.drainWithin(ctx) || unfinished
	e.gatherAll(ctx)
	e.end(ctx, unfinished)
	for i, d := range ds {
		if d.Check() != nil {
			if d.newer() {
				failed = append(failed, i)
			}
			continue
		}
		// A DAG that could not be planned has got a message of its own, or the tick
		// asks for it again.
		again := d.Kind == MessageDag && h.plans[d.DagID] != nil && !h.resent[d.DagID]
		if h.runs[d.run()] != nil || again || len(h.errs) > 0 {
			failed = append(failed, i)
		}
	}
	return failed
}

// early is how much before its time a message is taken: what a queue that counts
// in seconds, and clocks, may differ.
const early = 50 * time.Millisecond

// dagSeen is a DAG's entry as it was read at a time.
type dagSeen struct {
	model airflow.DagModel
	at    time.Time
}

// dagFresh is how long a scheduler function decides on a DAG's entry that it has
// read: pausing may take so long to reach it.
const dagFresh = 5 * time.Second

func (e *Engine) knowsDag(id airflow.DagID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.dagsSeen[id]
	return ok && e.now().Sub(s.at) < dagFresh
}

// begin starts the account of an invocation.
func (e *Engine) begin() *handling {
	h := &handling{
		runs: map[store.RunKey]error{}, plans: map[airflow.DagID]error{}, pokes: map[store.RunKey]int{}, tries: map[airflow.DagID]int{},
		due: map[airflow.DagID]bool{}, ticked: map[airflow.DagID]bool{}, resent: map[airflow.DagID]bool{}, gather: gathered{}, made: map[store.RunKey]bool{},
	}
	e.handling = h
	return h
}

// take turns a message into work of this process.
func (e *Engine) take(ctx context.Context, d Delivery) {
	if d.At.After(e.utcNow().Add(early)) { // a queue holds back for 15 minutes only
		e.sendAll(ctx, d.Message)
		return
	}
	if d.Kind == MessageDue {
		for _, dag := range d.Dags {
			e.handling.tries[dag] = max(e.handling.tries[dag], d.Try)
			if d.ReceiveCount > 1 { // who died may have left a run that was not started
				e.dagMoved(dag)
			} else {
				e.dueMoved(dag)
			}
		}
		return
	}
	if d.Kind == MessageDag {
		if d.RunID != "" {
			if info, err := e.store.GetRun(ctx, d.run()); err == nil && !info.State.Finished() {
				e.setInfo(e.lookup(info), info)
			} else if err != nil && !isNotFound(err) {
				e.notePlan(d.DagID, false, err)
			}
		}
		e.handling.tries[d.DagID] = max(e.handling.tries[d.DagID], d.Try)
		e.mu.Lock()
		delete(e.dagsSeen, d.DagID)
		if d.RunID == "" {
			e.changed[d.DagID] = true
		}
		e.mu.Unlock()
		e.dagMoved(d.DagID)
		return
	}
	key := d.run()
	if d.Kind == MessageCalled || d.Kind == MessageUncalled {
		record := e.called
		if d.Kind == MessageUncalled {
			record = e.uncalled
		}
		if err := record(ctx, key, d.Cause); err != nil {
			e.noteRun(key, err)
		}
		return
	}
	r := e.lookup(airflow.DagRun{DagID: key.DagID, RunID: key.RunID, State: airflow.RunRunning})
	v, known := e.store.PrefetchedVersion(ctx, key)
	e.mu.Lock()
	if !known || r.version != v {
		r.stale = true
	}
	e.mu.Unlock()
	dispatch := d.dispatch()
	switch d.Kind {
	case MessageReport:
		e.post(r, Event{Dispatch: &dispatch, wide: e.mayLeave(d)})
	case MessageFire:
		e.post(r, Event{Dispatch: &dispatch, Fire: true})
	case MessageRun:
		if d.Wide { // who stepped it ran out of time
			if _, known := e.handling.gather[key]; !known {
				e.handling.gather[key] = nil
			}
			return
		}
		e.poke(r)
	case MessageSweep:
		e.noteTicked(key.DagID)
		if err := e.sweepRun(ctx, r, RecoverOptions{}); err != nil && !isNotFound(err) {
			e.noteRun(key, err)
		}
		e.poke(r)
	case MessageAsk:
		if err := e.answerAsk(ctx, dispatch, d.Cause); err != nil {
			e.noteRun(key, err)
		}
	case MessageLost:
		if err := e.endDispatch(ctx, r, dispatch, d.Cause); err != nil {
			e.noteRun(key, err)
		}
	}
}

// drainWithin works until nothing is left or the invocation's time is up; it
// reports whether something is left.
func (e *Engine) drainWithin(ctx context.Context) bool {
	over := func() bool { return timeUp(ctx, reserve) }
	var wg sync.WaitGroup
	for range e.handlers - 1 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !over() && e.Work(ctx) {
			}
		}()
	}
	for !over() && e.Work(ctx) {
	}
	wg.Wait()
	for !over() && e.Work(ctx) { // what the last ones have made
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.ready)+len(e.movedOrder) > 0
}

// timeUp reports whether an invocation has no more time than is reserved.
func timeUp(ctx context.Context, reserved time.Duration) bool {
	end, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && time.Until(end) < reserved
}

// end sends what could not be done in time to a later invocation, and trims what
// this process keeps.
func (e *Engine) end(ctx context.Context, unfinished bool) {
	e.background.Wait()
	var ms []Message
	e.mu.Lock()
	if unfinished {
		for _, r := range e.ready {
			if r != nil && len(r.mail) == 0 {
				ms = append(ms, Message{Kind: MessageRun, DagID: r.key.DagID, RunID: r.key.RunID})
			}
		}
		var due []airflow.DagID
		for _, d := range e.movedOrder {
			if e.dueOnly[d] {
				due = append(due, d)
				continue
			}
			ms = append(ms, Message{Kind: MessageDag, DagID: d})
		}
		for ds := range slices.Chunk(due, duePerMessage) {
			ms = append(ms, Message{Kind: MessageDue, Dags: ds})
		}
	}
	for _, r := range e.runs {
		if len(r.mail) > 0 { // its messages come again
			e.handling.runs[r.key] = fmt.Errorf("%w: no time left", airflow.ErrUnavailable)
		}
		r.mail, r.queued, r.starting, r.made = nil, false, false, false
	}
	ms = append(ms, e.handling.planAgain(e.utcNow())...)
	e.ready, e.movedOrder = nil, nil
	clear(e.moved)
	clear(e.dueOnly)
	clear(e.delayed)
	if len(e.dagsSeen) > keepRuns {
		clear(e.dagsSeen)
	}
	if len(e.leases) > keepRuns {
		clear(e.leases)
	}
	if len(e.runs) > keepRuns {
		clear(e.runs)
		clear(e.byDag)
		clear(e.watchers)
	}
	e.wakes = nil
	for _, r := range e.runs {
		r.wake = time.Time{}
	}
	e.mu.Unlock()
	e.sendAll(context.WithoutCancel(ctx), ms...)
}

const (
	// planTries is how often planning a DAG is tried again soon. After that a message
	// that asked for it comes again at its queue's pace, and what is due, or has
	// queued runs, with the tick.
	planTries = 3
	// planPause is the wait before the first of these; it doubles.
	planPause = 5 * time.Second
)

// planAgain asks for the DAGs that could not be planned once more. Each failure
// leads to one message at most, whoever asked: with more, a DAG that can never be
// planned would have ever more of them under way.
func (h *handling) planAgain(now time.Time) (ms []Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, dag := range slices.Sorted(maps.Keys(h.plans)) {
		n := h.tries[dag]
		if h.plans[dag] == nil || h.ticked[dag] || n >= planTries {
			continue
		}
		m := Message{Kind: MessageDag, DagID: dag, At: now.Add(planPause << n), Try: n + 1}
		if h.due[dag] {
			m.Kind, m.DagID, m.Dags = MessageDue, "", []airflow.DagID{dag}
		}
		ms = append(ms, m)
		h.resent[dag] = true
	}
	return ms
}

// keepRuns is how many runs an invocation leaves in memory for the next one.
const keepRuns = 200

// redo carries out again what committed steps of a run asked for.
func (e *Engine) redo(ctx context.Context, k store.RunKey) error {
	e.mu.Lock()
	r := e.runs[k]
	e.mu.Unlock()
	if r == nil { // it has ended: what follows from that
		info, err := e.store.GetRun(ctx, k)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		r = e.lookup(info)
		e.poke(r)
		return nil
	}
	if err := e.sweepRun(ctx, r, RecoverOptions{Lost: func(store.Attempt) bool { return false }}); err != nil && !isNotFound(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil {
		e.dagMoved(k.DagID)
		return nil
	}
	e.armAgain(ctx, r)
	// The step asks for slots again and says what it holds.
	e.mu.Lock()
	e.unsettled[k] = true
	e.mu.Unlock()
	e.poke(r)
	return nil
}

// endDispatch ends a dispatch that will not report: nobody took its message, its
// sandbox is gone.
func (e *Engine) endDispatch(ctx context.Context, r *run, d worker.Dispatch, cause string) error {
	a, err := e.store.GetAttempt(ctx, d.Key)
	if err != nil && !isNotFound(err) {
		return err
	}
	if err == nil && a.DispatchSeq > d.DispatchSeq {
		return nil
	}
	if err := e.store.Fence(ctx, d.Key, d.DispatchSeq+1); err != nil {
		return err
	}
	if a, err = e.store.GetAttempt(ctx, d.Key); err != nil {
		return err
	}
	claimed := a.DispatchSeq == d.DispatchSeq
	if claimed && (a.Status == store.AttemptDone || a.Status == store.AttemptYielded) {
		e.post(r, Event{Dispatch: &d})
		return nil
	}
	e.post(r, Event{Cause: cause, Core: &scheduler.Report{Kind: scheduler.ReportLost, Task: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: d.DispatchSeq}})
	if claimed && e.onLost != nil {
		e.onLost(d, a, cause)
	}
	return nil
}

// syncDag makes what this process knows of a DAG's unfinished runs true. The
// index may be behind, so runs known here and those that hold a slot are read
// themselves.
func (e *Engine) syncDag(ctx context.Context, dag airflow.DagID) error {
	active, err := e.lists.ListActiveRuns(ctx, dag)
	if err != nil {
		return err
	}
	listed := map[store.RunKey]bool{}
	for _, info := range active {
		listed[store.RunKey{DagID: info.DagID, RunID: info.RunID}] = true
		if !info.State.Finished() {
			e.setInfo(e.lookup(info), info)
		}
	}
	for _, r := range e.activeRuns(dag) {
		if listed[r.key] {
			if e.infoOf(r).State.Finished() {
				e.forget(r)
			}
			continue
		}
		info, err := e.store.GetRun(ctx, r.key)
		if isNotFound(err) || err == nil && info.State.Finished() {
			e.forget(r)
			continue
		}
		if errors.Is(err, kv.ErrCorrupt) { // nobody can start it; other runs go on
			e.unreadable(store.RunItem(r.key), err)
			e.forget(r)
			continue
		}
		if err != nil {
			return err
		}
		e.setInfo(r, info)
	}
	e.mu.Lock()
	changed := e.changed[dag]
	delete(e.changed, dag)
	e.mu.Unlock()
	if changed { // un-paused, perhaps: what waited for it is looked at
		for _, r := range e.activeRuns(dag) {
			if e.infoOf(r).State == airflow.RunRunning {
				e.pokeFresh(r.key)
			}
		}
	}
	// What changes while an invocation lasts is told to one that comes after it.
	if h := e.handling; h != nil {
		h.mu.Lock()
		done := h.backfills
		h.mu.Unlock()
		if done {
			return nil
		}
	}
	return e.refreshBackfills(ctx)
}

// claimSlots gives runs that start a slot among the running runs of their DAG.
// The list in the store is the authority: an index that is behind must not start
// one run too many. choose is called with what the list says is running.
func (e *Engine) claimSlots(ctx context.Context, dag airflow.DagID, choose func(running map[airflow.RunID]int64) (start []store.RunningRun, reused bool)) error {
	for attempt := 0; ; attempt++ {
		have, version, err := e.store.GetRunning(ctx, dag)
		if err != nil {
			return err
		}
		running := map[airflow.RunID]int64{}
		var kept []store.RunningRun
		for _, h := range have {
			info, err := e.store.GetRun(ctx, store.RunKey{DagID: dag, RunID: h.RunID})
			if errors.Is(err, kv.ErrCorrupt) { // it may run: it keeps its slot
				kept = append(kept, h)
				running[h.RunID] = h.BackfillID
				continue
			}
			if err != nil && !isNotFound(err) {
				return err
			}
			if err != nil || info.State.Finished() {
				continue
			}
			e.setInfo(e.lookup(info), info)
			kept = append(kept, h)
			running[h.RunID] = h.BackfillID
		}
		start, reused := choose(running)
		if len(start) == 0 && !reused {
			return nil // those that ended stay listed until somebody needs their place
		}
		// A run that ended and was cleared may find its old entry: writing it keeps
		// whoever has just seen the run ended from giving its place away.
		err = e.store.PutRunning(ctx, dag, version, append(kept, start...))
		if err == nil || !errors.Is(err, airflow.ErrConflict) || attempt == ledgerAttempts {
			return err
		}
	}
}

// arm sets the run's timer in the store's terms: due items and queues, not memory.
// It is called before the commit, which keeps the time.
func (e *Engine) arm(r *run, next, now time.Time) {
	r.arming = time.Time{}
	if next.IsZero() || r.state.Header.State.Finished() {
		return
	}
	if r.armed.IsZero() || next.Before(r.armed) || !r.armed.After(now) {
		r.armed, r.arming = next.Truncate(time.Millisecond), next
	}
}

// sendTimer makes the time that arm chose wake the run.
func (e *Engine) sendTimer(ctx context.Context, r *run) {
	at := r.arming
	r.arming = time.Time{}
	if at.IsZero() {
		return
	}
	if at.Sub(e.utcNow()) <= MaxDelay-time.Minute {
		e.sendAll(ctx, Message{Kind: MessageRun, DagID: r.key.DagID, RunID: r.key.RunID, At: at})
		return
	}
	if err := e.store.PutDue(ctx, r.key, at); err != nil {
		e.log.ErrorContext(ctx, "due time not stored", "run", r.key.String(), "err", err)
		e.noteRun(r.key, err)
	}
}

// armAgain sends the timer of a run once more.
func (e *Engine) armAgain(ctx context.Context, r *run) {
	switch {
	case r.armed.IsZero():
	case r.armed.After(e.utcNow()):
		r.arming = r.armed
		e.sendTimer(ctx, r)
	default:
		e.poke(r) // its time came while nobody had set the timer
	}
}

// watch stores who waits for runs of other DAGs, for the ends of these to find.
func (e *Engine) watch(ctx context.Context, r *run) {
	for _, pos := range slices.Sorted(maps.Keys(r.triggers)) {
		t := r.triggers[pos]
		if k := t.deferral.Trigger.Kind; k != worker.TriggerDagRun && k != worker.TriggerTasks || r.watched[t.dispatch.DispatchSeq] {
			continue
		}
		until := e.utcNow().Add(30 * 24 * time.Hour)
		if t.deferral.Timeout > 0 {
			until = e.utcNow().Add(t.deferral.Timeout + time.Hour)
		}
		w := store.Watch{Run: r.key, TI: t.dispatch.Key, DispatchSeq: t.dispatch.DispatchSeq}
		if err := e.store.PutWatch(ctx, t.deferral.Trigger.DagID, w, until); err != nil {
			// It wakes by its timer, later.
			e.log.WarnContext(ctx, "watch not stored", "dispatch", t.dispatch.String(), "err", err)
			continue
		}
		if r.watched == nil {
			r.watched = map[uint32]bool{}
		}
		r.watched[t.dispatch.DispatchSeq] = true
	}
}

// notifyStored wakes the instances that wait for a DAG's runs, found in the store.
func (e *Engine) notifyStored(ctx context.Context, dag airflow.DagID) {
	ws, err := e.lists.ListWatches(ctx, dag)
	if err != nil {
		e.log.ErrorContext(ctx, "watchers not read", "dag_id", dag, "err", err)
		e.noteFailure(err)
		return
	}
	for _, w := range ws {
		r := e.lookup(airflow.DagRun{DagID: w.Run.DagID, RunID: w.Run.RunID, State: airflow.RunRunning})
		d := worker.Dispatch{Key: w.TI, DispatchSeq: w.DispatchSeq}
		e.mu.Lock()
		r.stale = true
		e.mu.Unlock()
		e.post(r, Event{Dispatch: &d, Fire: true})
		if err := e.store.DeleteWatch(ctx, dag, w); err != nil {
			e.log.WarnContext(ctx, "watch not removed", "dispatch", d.String(), "err", err)
		}
	}
}

// CallbackQueue carries callbacks to workers: a scheduler runs no code of users.
type CallbackQueue interface {
	// SubmitCallbacks hands over the ids of pending callbacks; a worker calls
	// RunPendingCallback for each.
	SubmitCallbacks(ctx context.Context, ids []string) error
}

// RunPendingCallback carries out a pending callback in a worker; one that was
// carried out before is fine.
func (e *Engine) RunPendingCallback(ctx context.Context, id string) error {
	p, err := e.store.GetPendingEffect(ctx, id)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.runCallback(ctx, p)
}

// askKept is longer than any message about a question comes again.
const askKept = 15 * 24 * time.Hour

// resendCallbacks submits again the callbacks that have been pending for long.
func (e *Engine) resendCallbacks(ctx context.Context) error {
	if e.callbackQueue == nil {
		return nil
	}
	ps, err := e.lists.ListPendingEffects(ctx)
	if err != nil {
		return fmt.Errorf("pending callbacks: %w", err)
	}
	var ids []string
	now := e.utcNow()
	for _, p := range ps {
		if p.Kind == effectAsked {
			if now.Sub(p.When) > askKept { // whoever answered died before the mark was gone
				if err := e.store.DeletePendingEffect(ctx, p.ID); err != nil {
					return err
				}
			}
			continue
		}
		if now.Sub(p.When) > 5*time.Minute || p.Kind == effectDeadline && !p.When.After(now) {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return e.callbackQueue.SubmitCallbacks(ctx, ids)
}
