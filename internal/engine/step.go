package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// stepAttempts bounds how often a step starts over because somebody else
// committed one meanwhile.
const stepAttempts = 8

// outcome collects what one attempt at a step decided.
type outcome struct {
	transitions []scheduler.Transition
	effects     []scheduler.Effect
	decision    scheduler.Decision
	assets      []producedAsset
	causes      map[string]string // dispatch -> why the control plane ended it
	// behind: a dispatch spoke that the state in memory does not know: somebody
	// else committed a step.
	behind bool
	// accepted counts the reports that changed the state.
	accepted int
	pending  []store.PendingEffect
	marks    []store.PendingEffect // of actions that the step carries out
	// inputs, facts and granted are kept for the record of the step.
	inputs  []Input
	facts   *scheduler.Facts
	granted []int
	errors  map[string]string // dispatch -> what its worker said of its failure; for the listener
}

type producedAsset struct {
	key     airflow.TaskInstanceKey
	seq     uint32
	events  []worker.OutletEvent
	endDate time.Time
}

// step takes the mail of a run, decides, commits and carries out the effects.
// On a conflict it loads and decides again; on any other error the mail is put
// back, so that nothing is lost while the process lives.
func (e *Engine) step(ctx context.Context, r *run, mail []Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = kv.WithLabel(ctx, "engine.step")
	// A caller that gives up must not leave a commit without its effects.
	ctx = context.WithoutCancel(ctx)
	early := ctx
	if ctx = store.Current(ctx); !onlyReports(mail) {
		early = ctx
	}
	var err error
	for attempt := 0; attempt < stepAttempts; attempt++ {
		var o *outcome
		version := r.version
		if o, err = e.guarded(early, r, mail); err == nil {
			e.recovered(ctx, r)
			if e.shared && r.state != nil {
				if serr := e.settle(ctx, r); serr != nil {
					e.log.ErrorContext(ctx, "slots not given back; the sweep repairs it", "run", r.key.String(), "err", serr)
					e.noteRun(r.key, serr)
				}
			}
			e.guardEffects(ctx, r, o)
			e.started(r, mail)
			answer(mail, nil)
			return nil
		}
		version = max(version, r.version)
		e.unload(r)
		if store.Eventually(early) {
			early = ctx // whatever it was, what was read may be to blame
			continue
		}
		var refused *refusedAction
		if errors.As(err, &refused) {
			// What it did to the state before it gave up is forgotten with the state.
			answer(mail[refused.at:refused.at+1], refused.err)
			mail = slices.Delete(slices.Clone(mail), refused.at, refused.at+1)
			attempt--
			continue
		}
		if (errors.Is(err, airflow.ErrConflict) || errors.Is(err, kv.ErrTransactionConflict)) && e.overtaken(r, mail) {
			return nil
		}
		if !errors.Is(err, airflow.ErrConflict) {
			r.failedAt = version
			break
		}
	}
	if errors.Is(err, airflow.ErrNotFound) {
		if _, gerr := e.store.GetRun(ctx, r.key); isNotFound(gerr) { // another process has deleted it
			e.forgetDeleted(r.key)
			answer(mail, err)
			return nil
		}
	}
	e.putBack(ctx, r, mail, err)
	return err
}

// onlyReports says that each event is a report to be found in its row: a step that
// was decided on what is out of date either cannot commit or refuses one of them.
func onlyReports(mail []Event) bool {
	for _, ev := range mail {
		if ev.Dispatch == nil || ev.Report != nil || ev.Core != nil || ev.Action != nil || ev.Start || ev.Fire || ev.Claimed || ev.Value != nil {
			return false
		}
	}
	return len(mail) > 0
}

// errOutdated ends an attempt on items that were read eventually.
var errOutdated = fmt.Errorf("%w: decided on what may be out of date", airflow.ErrConflict)

// started lets a run be started again that an action in the same step has queued
// once more: INFO, which ends the starting otherwise, says queued all along.
func (e *Engine) started(r *run, mail []Event) {
	if r.state == nil || r.state.Header.State != airflow.RunQueued || !slices.ContainsFunc(mail, func(ev Event) bool { return ev.Start }) {
		return
	}
	e.mu.Lock()
	r.starting = false
	e.mu.Unlock()
	e.dagMoved(r.key.DagID)
}

// unload forgets the state held in memory: the next step reads the store.
func (e *Engine) unload(r *run) {
	r.state, r.encoded, r.chunks, r.version = nil, nil, nil, 0
	r.known = store.Known[airflow.DagRun]{}
	r.refreshed = time.Time{}
	r.triggers = map[int]trigger{}
	if e.shared {
		r.slots, r.settled, r.armed, r.arming = nil, nil, time.Time{}, time.Time{}
		return
	}
	e.admission.unload(r.key)
}

// load makes the run's state present. A run that has not started has no state
// until create is set.
func (e *Engine) load(ctx context.Context, r *run, create bool) error {
	if r.state != nil {
		return nil
	}
	err := e.loadState(ctx, r, create)
	if err != nil {
		e.unload(r) // half a state would pass for a whole one
	}
	return err
}

func (e *Engine) loadState(ctx context.Context, r *run, create bool) error {
	e.mu.Lock()
	made := create && r.made
	have := store.CreatedRun(r.info)
	r.made = r.made && !create
	e.mu.Unlock()
	var err error
	if !made {
		if have, err = e.store.ReadRun(ctx, r.key); err != nil {
			return fmt.Errorf("run %s: %w", r.key, err)
		}
	}
	info := have.Value
	r.known = have
	e.setInfo(r, info)
	g, err := e.docs.get(ctx, info.DagHash)
	if err != nil {
		return fmt.Errorf("run %s: %w", r.key, err)
	}
	// Whoever has started or deleted a run since it was made has written META: then
	// the first step cannot be committed, and the run is read.
	var stored store.RunState
	if !made {
		if stored, err = e.store.LoadRunStateSince(ctx, r.key, r.seen); err != nil {
			return fmt.Errorf("run %s: %w", r.key, err)
		}
	}
	if stored.Deleting {
		if store.Eventually(ctx) {
			return errOutdated
		}
		if !e.passive { // it may have been cut short
			if err := e.deleteStored(ctx, r.key); err != nil && !isNotFound(err) {
				return err
			}
		}
		return fmt.Errorf("run %s: %w: it is being deleted", r.key, airflow.ErrNotFound)
	}
	r.graph = g
	r.version = stored.Version
	if stored.Version == 0 {
		// A run that waits to start has a state of its own only where a deadline may
		// be missed meanwhile.
		if !create && (len(g.DAG.Deadlines) == 0 || info.State.Finished()) {
			return nil
		}
		h, err := e.headerOf(ctx, g, info)
		if err != nil {
			return err
		}
		r.state = scheduler.NewRun(g, h)
		r.encoded = make([][]byte, len(r.state.Chunks))
		return nil
	}
	g, rs, err := e.decodeState(ctx, r.key, g, stored)
	if err != nil {
		return err
	}
	r.graph, r.state, r.encoded, r.chunks = g, rs, stored.Chunks, stored.ChunkVersions
	r.see()
	if info.MetaVersion > r.version {
		// A step that was to reopen the run was not committed: INFO says more than
		// META, and only a later version may take it back.
		rs.HeaderDirty = true
	}
	r.armed = stored.Wake
	if e.shared {
		e.pools.refresh(ctx, nil, e.utcNow())
		e.heldNow(r)
	}
	e.slotsOf(r).load(r.key, r.graph, rs)
	err = e.loadTriggers(ctx, r)
	e.dropWatchers(r)
	return err
}

// headerOf makes the core's header of a run that starts.
func (e *Engine) headerOf(ctx context.Context, g *scheduler.Graph, info airflow.DagRun) (scheduler.Header, error) {
	h := scheduler.Header{
		DagID: info.DagID, RunID: info.RunID, RunType: info.RunType, State: airflow.RunQueued,
		LogicalDate: info.LogicalDate, RunAfter: info.RunAfter,
		DagHash: info.DagHash, DagVersion: info.DagVersion,
		BackfillID: info.BackfillID, BackfillOrdinal: info.BackfillOrdinal, ClearNumber: info.ClearNumber,
	}
	if info.QueuedAt != nil {
		h.QueuedAt = *info.QueuedAt
	}
	if len(g.DAG.Deadlines) > 0 {
		durations, err := e.recentDurations(ctx, info.DagID)
		if err != nil {
			return h, err
		}
		if h.Deadlines, err = scheduler.Deadlines(g.DAG, h, scheduler.DeadlineFacts{RecentDurations: durations}, e.utcNow()); err != nil {
			e.log.WarnContext(ctx, "deadline alert ignored", "dag_id", info.DagID, "err", err)
		}
	}
	return h, nil
}

// attempt applies the mail, decides and commits once.
func (e *Engine) attempt(ctx context.Context, r *run, mail []Event) (*outcome, error) {
	create := false
	for _, ev := range mail {
		create = create || ev.Start || ev.Action != nil
	}
	kept := r.state != nil
	if err := e.load(ctx, r, create); err != nil {
		return nil, err
	}
	eventually, base := store.Eventually(ctx), r.version
	if eventually && r.state == nil {
		return nil, errOutdated
	}
	o := &outcome{causes: map[string]string{}}
	if r.state == nil { // queued, and nothing to do before it starts
		if e.infoOf(r).State.Finished() {
			e.forgetDeleted(r.key) // its state was deleted, the rest was not yet
		}
		e.dagMoved(r.key.DagID)
		return o, nil
	}
	if r.state.Header.State == airflow.RunQueued {
		e.dagMoved(r.key.DagID) // a run that was looked at before it could start must not miss its time
	}
	now := e.utcNow()
	before, state := e.recordBefore(r), r.state.Header.State
	for i, ev := range mail {
		if err := e.applyEvent(ctx, r, ev, o, now); err != nil {
			var refused *refusedAction
			if errors.As(err, &refused) {
				refused.at = i
			}
			return nil, err
		}
	}
	if eventually {
		if o.accepted < len(mail) {
			return nil, errOutdated
		}
		// A pause may be noticed a moment late. Everything else is read as it is.
		if _, err := e.dagModel(ctx, r.key.DagID); err != nil {
			return nil, err
		}
		ctx = store.Current(ctx)
	}
	if o.behind && kept {
		return nil, fmt.Errorf("run %s: %w: a dispatch reported that this process does not know", r.key, airflow.ErrConflict)
	}
	if e.passive {
		o.decision.Run, o.decision.RunBefore = r.state.Header.State, r.state.Header.State
		if err := e.reopen(ctx, r); err != nil {
			return nil, err
		}
		if err := e.commit(ctx, r, o); err != nil {
			return nil, err
		}
		e.record(r, before, mail, o, now)
		e.tell(r, state, o, now)
		return o, nil
	}
	e.fireTriggers(r, o, now)
	if r.state.Count(airflow.TIQueued) == 0 {
		r.refreshed = now // what is queued later is younger than this
	}
	if !e.shared && now.Sub(r.refreshed) > e.cfg.QueuedTimeout/2 {
		// Before an instance counts as stuck in queued: was it claimed? META does
		// not tell, so a state that was just loaded never does (refreshed is zero).
		if err := e.refreshRunning(ctx, r, o, now); err != nil {
			return nil, err
		}
		r.refreshed = now
	}
	facts, err := e.facts(ctx, r)
	if err != nil {
		return nil, err
	}
	if _, ok := e.submitter.(Observer); ok && r.state.Count(airflow.TIQueued) > 0 && r.state.DueByTime(now) {
		facts.Held, facts.HeldUntil = e.held(r), now.Add(e.cfg.QueuedTimeout)
	}
	o.facts = &facts
	o.decision = scheduler.Decide(r.graph, r.state, facts, now)
	o.transitions = append(o.transitions, o.decision.Transitions...)
	o.effects = append(o.effects, o.decision.Effects...)
	if err := e.admit(ctx, r, facts, o, now); err != nil {
		return nil, err
	}
	if e.shared {
		e.arm(r, e.nextWake(r, o), now)
	}
	if err := e.produceAssets(ctx, o.assets); err != nil {
		return nil, err
	}
	if err := e.reopen(ctx, r); err != nil {
		return nil, err
	}
	if err := e.commit(ctx, r, o); err != nil {
		return nil, err
	}
	if !e.shared {
		e.slotsFreed(r.key)
	}
	if eventually && r.version == base {
		return nil, errOutdated // no write has shown that the state is the current one
	}
	e.record(r, before, mail, o, now)
	e.tell(r, state, o, now)
	return o, nil
}

// held lists the queued instances whose dispatches this process has.
func (e *Engine) held(r *run) (positions []int) {
	for pos := 0; pos < r.state.Len(); pos++ {
		if r.state.At(pos).State == airflow.TIQueued && e.observed(e.dispatchOf(r, pos)) {
			positions = append(positions, pos)
		}
	}
	return positions
}

// applyEvent applies one event to the state in memory.
func (e *Engine) applyEvent(ctx context.Context, r *run, ev Event, o *outcome, now time.Time) error {
	switch {
	case ev.Start:
		if r.state.Header.State == airflow.RunQueued {
			scheduler.StartRun(r.state, now)
			o.inputs = append(o.inputs, Input{Start: true})
		}
	case ev.Action != nil:
		if err := e.refreshRunning(ctx, r, o, now); err != nil {
			return err
		}
		o.inputs = append(o.inputs, Input{Action: true})
		res, err := ev.Action(r.graph, r.state, now)
		if err != nil {
			return &refusedAction{err: err}
		}
		if r.state.Header.DagHash != "" {
			g, err := e.docs.get(ctx, r.state.Header.DagHash)
			if err != nil {
				return err
			}
			r.graph = g
		}
		o.transitions = append(o.transitions, res.Transitions...)
		o.effects = append(o.effects, res.Effects...)
		if ev.Mark != nil {
			o.marks = append(o.marks, *ev.Mark)
		}
	case ev.Core != nil:
		rep := *ev.Core
		e.applyCore(r, rep, o, now)
		o.causes[dispatchID(r.key, rep.Task, rep.MapIndex, rep.DispatchSeq)] = ev.Cause
	case ev.Fire:
		return e.fire(ctx, r, *ev.Dispatch, ev.Value, o, now)
	case ev.Claimed:
		started := ev.Started
		if started.IsZero() {
			started = now
		}
		e.applyCore(r, scheduler.Report{Kind: scheduler.ReportRunning, Task: ev.Dispatch.Key.TaskID, MapIndex: ev.Dispatch.Key.MapIndex, DispatchSeq: ev.Dispatch.DispatchSeq, Started: started}, o, now)
	case ev.Dispatch != nil:
		rep, started := ev.Report, ev.Started
		if rep == nil {
			a, err := e.store.GetAttempt(ctx, ev.Dispatch.Key)
			if isNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			told, ok, err := reportEvent(a, *ev.Dispatch)
			switch {
			case err != nil:
				return err
			case !ok:
				return nil // nothing was reported, or something newer was
			case told.Core != nil:
				e.applyCore(r, *told.Core, o, now)
				return nil
			}
			rep, started = told.Report, told.Started
		}
		e.applyReport(r, *ev.Dispatch, rep, started, o, now)
	}
	return nil
}

func dispatchID(k store.RunKey, task airflow.TaskID, mapIndex int, seq uint32) string {
	return fmt.Sprintf("%s/%s/%d", k, airflow.TIName(task, mapIndex), seq)
}

// applyReport translates a worker's report for the core. started is when the
// dispatch was claimed, for a state that does not know of the claim; zero = unknown.
func (e *Engine) applyReport(r *run, d worker.Dispatch, rep *worker.Report, started time.Time, o *outcome, now time.Time) {
	c := scheduler.Report{Task: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: d.DispatchSeq, Started: started, Ended: rep.EndDate}
	if e.listener != nil && rep.Error != "" {
		if o.errors == nil {
			o.errors = map[string]string{}
		}
		o.errors[dispatchID(r.key, d.Key.TaskID, d.Key.MapIndex, d.DispatchSeq)] = rep.Error
	}
	c.XCom = scheduler.XComInfo{Pushed: rep.PushedReturnValue, Length: -1}
	if rep.MappedLength != nil {
		c.XCom.Length = *rep.MappedLength
	}
	switch rep.Outcome {
	case worker.OutcomeSuccess:
		c.Kind = scheduler.ReportSuccess
		c.Choice = skipChoice(r.graph, d.Key.TaskID, rep.Skip)
	case worker.OutcomeFailed:
		c.Kind = scheduler.ReportFailed
		if rep.RetryDelay != nil {
			c.RetryDelay = *rep.RetryDelay
		}
	case worker.OutcomeFailedFinal:
		c.Kind = scheduler.ReportFailedHard
	case worker.OutcomeSkipped:
		c.Kind = scheduler.ReportSkipped
	case worker.OutcomeUpForReschedule:
		c.Kind, c.Until = scheduler.ReportReschedule, rep.RescheduleAt
	case worker.OutcomeDeferred:
		c.Kind = scheduler.ReportDeferred
		if rep.Deferral.Timeout > 0 {
			c.Until = rep.EndDate.Add(rep.Deferral.Timeout)
		}
	default:
		e.log.Error("report without an outcome", "dispatch", d.String())
		c.Kind = scheduler.ReportFailed
	}
	if !e.applyCore(r, c, o, now) {
		return
	}
	switch rep.Outcome {
	case worker.OutcomeDeferred:
		e.addTrigger(r, d, *rep.Deferral)
		if rep.Deferral.Trigger.Kind == worker.TriggerHITL {
			// People may have answered before this was known.
			e.post(r, Event{Dispatch: &worker.Dispatch{Key: d.Key, DispatchSeq: d.DispatchSeq}, Fire: true})
		}
	case worker.OutcomeSuccess:
		if len(rep.AssetEvents) > 0 {
			o.assets = append(o.assets, producedAsset{d.Key, d.DispatchSeq, rep.AssetEvents, rep.EndDate})
		}
	}
}

// skipChoice translates a worker's choice for the core.
func skipChoice(g *scheduler.Graph, task airflow.TaskID, s *worker.SkipChoice) *scheduler.SkipChoice {
	switch {
	case s == nil:
		return nil
	case s.Followed != nil:
		c := &scheduler.SkipChoice{Kind: scheduler.ChoiceBranch}
		for _, id := range s.Followed {
			c.Follow = append(c.Follow, string(id))
		}
		return c
	case s.Skipped == nil:
		return nil
	case s.IgnoreDownstreamTriggerRules:
		return &scheduler.SkipChoice{Kind: scheduler.ChoiceShortCircuit}
	}
	// A direct-only short circuit leaves teardowns alone, a plain skip does not:
	// what the operator listed tells them apart.
	listed := map[airflow.TaskID]bool{}
	for _, id := range s.Skipped {
		listed[id] = true
	}
	if i := g.TaskIndex(task); i >= 0 {
		for _, down := range g.Tasks[i].Downstream {
			if g.Tasks[down].Task.IsTeardown && listed[g.Tasks[down].ID] {
				return &scheduler.SkipChoice{Kind: scheduler.ChoiceSkipDirect}
			}
		}
	}
	return &scheduler.SkipChoice{Kind: scheduler.ChoiceShortCircuit, DirectOnly: true}
}

// applyCore applies a report and collects what it did; false if it was refused.
func (e *Engine) applyCore(r *run, rep scheduler.Report, o *outcome, now time.Time) bool {
	res := scheduler.Apply(r.graph, r.state, rep, e.reportLimits(), now)
	if res.Refused != "" {
		if pos := r.state.Find(r.graph, rep.Task, rep.MapIndex); pos < 0 || rep.DispatchSeq > r.state.At(pos).DispatchSeq {
			o.behind = true
		}
		e.log.Debug("report refused", "run", r.key.String(), "task_id", rep.Task, "map_index", rep.MapIndex, "dispatch_seq", rep.DispatchSeq, "refusal", res.Refused)
		return false
	}
	o.accepted++
	if e.records != nil {
		c := rep
		o.inputs = append(o.inputs, Input{Report: &c})
	}
	if res.Message != "" {
		e.log.Warn(res.Message, "run", r.key.String(), "task_id", rep.Task, "map_index", rep.MapIndex)
	}
	o.transitions = append(o.transitions, res.Transitions...)
	o.effects = append(o.effects, res.Effects...)
	return true
}

// refreshRunning reads which queued instances were claimed: operations on a run
// treat running ones differently, and META does not know them.
func (e *Engine) refreshRunning(ctx context.Context, r *run, o *outcome, now time.Time) error {
	if r.state.Count(airflow.TIQueued) == 0 {
		return nil
	}
	var keys []airflow.TaskInstanceKey
	for pos := 0; pos < r.state.Len(); pos++ {
		if r.state.At(pos).State == airflow.TIQueued {
			keys = append(keys, r.state.Key(r.graph, pos))
		}
	}
	rows, err := e.store.GetAttempts(ctx, keys)
	if err != nil {
		return err
	}
	for _, k := range keys {
		a, ok := rows[k]
		if !ok {
			continue
		}
		started := now
		if a.StartDate != nil {
			started = *a.StartDate
		}
		e.applyCore(r, scheduler.Report{Kind: scheduler.ReportRunning, Task: k.TaskID, MapIndex: k.MapIndex, DispatchSeq: a.DispatchSeq, Started: started}, o, now)
	}
	return nil
}

// admit keeps the waiters of this run current and queues what got a slot.
func (e *Engine) admit(ctx context.Context, r *run, facts scheduler.Facts, o *outcome, now time.Time) error {
	if e.shared {
		e.pools.refresh(ctx, nil, now)
		return e.admitShared(ctx, r, facts, o, now)
	}
	e.pools.refresh(ctx, e.admission, now)
	e.admission.apply(r.key, r.graph, r.state, o.transitions)
	if r.state.Header.State.Finished() {
		e.admission.end(r.key)
	} else {
		// A run that was queued again keeps its waiters until it runs.
		e.admission.hold(r.key, facts.Paused || r.state.Header.State != airflow.RunRunning)
	}
	if granted := e.admission.pump(r.key); len(granted) > 0 {
		o.granted = slices.Clone(granted)
		trs := scheduler.Dispatch(r.graph, r.state, granted, e.cfg.QueuedTimeout, now)
		e.admission.dispatched(r.key, granted, trs)
		o.transitions = append(o.transitions, trs...)
	}
	return nil
}

// slotsFreed steps the runs that got slots which a committed step gave back.
func (e *Engine) slotsFreed(key store.RunKey) {
	for _, k := range e.admission.committed(key) {
		e.mu.Lock()
		if other := e.runs[k]; other != nil {
			e.enqueueLocked(other)
		}
		e.mu.Unlock()
	}
}

// commit writes what changed. Fences go first: a dispatch that is told to stop
// must not be able to finish after the commit.
func (e *Engine) commit(ctx context.Context, r *run, o *outcome) error {
	for _, eff := range o.effects {
		if c, ok := eff.(scheduler.CancelDispatch); ok {
			if err := e.store.Fence(ctx, c.Key, c.DispatchSeq+1); err != nil {
				return err
			}
		}
	}
	rs := r.state
	if len(o.marks) == 0 && !rs.HeaderDirty && (len(o.transitions) == 0 && r.version > 0 || len(o.transitions) > 0 && onlyClaims(o)) {
		return nil
	}
	for len(r.encoded) < len(rs.Chunks) {
		r.encoded = append(r.encoded, nil)
	}
	var dirty []int
	for i, c := range rs.Chunks {
		if c.Dirty || r.encoded[i] == nil {
			dirty = append(dirty, i)
		}
	}
	if len(rs.Chunks) > 1 && len(dirty) > 0 {
		r.encoded = slices.Clone(r.encoded) // what was seen stays as it is stored
	}
	units := 0
	for _, i := range dirty {
		r.encoded[i] = scheduler.EncodeChunk(rs, i)
		units += blocks(len(r.encoded[i]))
	}
	if len(dirty) == 0 && !rs.HeaderDirty && r.version > 0 && len(o.marks) == 0 {
		return nil
	}
	o.pending = e.pendingCallbacks(r, o, e.utcNow())
	v, err := e.store.CommitRun(ctx, r.key, store.RunCommit{
		Base: r.version, Header: scheduler.Encode(rs), Chunks: r.encoded, Dirty: dirty, ChunkVersions: r.chunks,
		Effects: slices.Concat(o.pending, o.marks), Wake: r.armed,
	})
	if err != nil {
		return err
	}
	if len(rs.Chunks) > 1 {
		r.chunks = store.NextChunkVersions(r.chunks, len(rs.Chunks), dirty, r.version)
		r.see()
		r.written += units
	}
	r.version = v
	rs.HeaderDirty = false
	for _, i := range dirty {
		rs.Chunks[i].Dirty = false
	}
	return nil
}

// onlyClaims reports whether a step did nothing but learn that dispatches were
// claimed: the rows say so already, so META is not written for it.
func onlyClaims(o *outcome) bool {
	for _, t := range o.transitions {
		if t.From != airflow.TIQueued || t.To != airflow.TIRunning {
			return false
		}
	}
	return true
}
