package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// claimKey names a dispatch.
type claimKey struct {
	key airflow.TaskInstanceKey
	seq uint32
}

// claimable is what a claim of a dispatch needs to know of its run, kept from
// the step that queued it so that claiming neither waits for the run's lock nor
// reads META.
type claimable struct {
	graph     *scheduler.Graph
	info      airflow.DagRun
	try       int
	maxTries  int
	expanded  int
	upstreams map[airflow.TaskID][]int
	offered   time.Time
	wide      bool // reports on the run are gathered
	// scheduled and queued are when the try was; a clear forgets them in the state.
	scheduled, queued scheduler.Micros
}

// offer remembers what the claims of these dispatches will need.
func (e *Engine) offer(r *run, ds []worker.Dispatch) {
	for _, d := range ds {
		c := e.claimableOf(r.graph, r.state, e.infoOf(r), d)
		if c == nil {
			continue
		}
		c.offered = e.now()
		e.mu.Lock()
		e.claims[claimKey{d.Key, d.DispatchSeq}] = c
		e.mu.Unlock()
	}
}

// claimableOf describes a dispatch, nil if it is not the current one.
func (e *Engine) claimableOf(g *scheduler.Graph, rs *scheduler.RunState, info airflow.DagRun, d worker.Dispatch) *claimable {
	pos := rs.Find(g, d.Key.TaskID, d.Key.MapIndex)
	if pos < 0 || rs.At(pos).DispatchSeq != d.DispatchSeq || !rs.At(pos).State.Active() {
		return nil
	}
	ti := rs.At(pos)
	// INFO follows the step that queued the dispatch.
	h := rs.Header
	info.State, info.StartDate, info.ClearNumber = h.State, timePtr(h.StartDate), h.ClearNumber
	c := &claimable{graph: g, info: info, try: int(ti.TryNumber), maxTries: int(ti.MaxTries), scheduled: ti.Scheduled, queued: ti.Queued}
	if ti.MapIndex >= 0 {
		c.expanded = rs.InstancesOf(int(ti.Task))
		c.upstreams = scheduler.UpstreamMapIndexes(g, rs, pos)
	}
	return c
}

// claimableFor returns what a claim needs, from memory or from the store.
func (e *Engine) claimableFor(ctx context.Context, d worker.Dispatch) (*claimable, error) {
	ck := claimKey{d.Key, d.DispatchSeq}
	e.mu.Lock()
	c := e.claims[ck]
	delete(e.claims, ck)
	e.mu.Unlock()
	// A message that took long may be of a run that somebody deleted meanwhile,
	// rows and fences with it: only the store knows.
	if c != nil && e.now().Sub(c.offered) < time.Minute {
		return c, nil
	}
	if d.Offer.Made() {
		return e.offered(ctx, d)
	}
	key := store.RunKey{DagID: d.Key.DagID, RunID: d.Key.RunID}
	ctx, err := e.store.Prefetch(ctx, store.Prefetch{Runs: []store.RunKey{key}})
	if err != nil {
		return nil, err
	}
	info, err := e.store.GetRun(ctx, key)
	if err != nil {
		return nil, err
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil {
		return nil, err
	}
	if rs != nil {
		if c = e.claimableOf(g, rs, info, d); c != nil {
			c.wide = e.remote() && rs.Len() >= e.wideFrom
		}
	}
	if c == nil {
		return nil, fmt.Errorf("%w: %s is not the current dispatch", airflow.ErrSuperseded, d)
	}
	return c, nil
}

// Bundles gives workers the files of a bundle snapshot.
type Bundles interface {
	// Materialize returns the folder with the files of a snapshot.
	Materialize(ctx context.Context, hash string) (string, error)
}

// Secrets are the places that variables and connections are looked up in before
// the store (environment variables, a secrets backend).
type Secrets interface {
	// Variable and Connection return ok = false if they do not have it.
	Variable(ctx context.Context, key string) (airflow.Variable, bool, error)
	Connection(ctx context.Context, id string) (airflow.Connection, bool, error)
}

// Backend is the engine as its workers see it; it implements worker.Backend.
type Backend struct {
	e       *Engine
	bundles Bundles
	secrets Secrets
	logURL  func(airflow.TaskInstanceKey, int) string
	asks    bool // see AskScheduler

	mu sync.Mutex
	// claimed are the rows as this process claimed them, so that finishing need
	// not read them: nobody else writes their document meanwhile.
	claimed map[claimKey]claimedDispatch
}

// claimedDispatch is a row as this process claimed it.
type claimedDispatch struct {
	store.Attempt
	wide bool
}

var _ worker.Backend = (*Backend)(nil)

// NewBackend returns the worker's side of the engine. bundles, secrets and
// logURL may be nil.
func NewBackend(e *Engine, bundles Bundles, secrets Secrets, logURL func(airflow.TaskInstanceKey, int) string) *Backend {
	return &Backend{e: e, bundles: bundles, secrets: secrets, logURL: logURL, claimed: map[claimKey]claimedDispatch{}}
}

func claimID(who worker.Identity) string { return who.Hostname + "/" + strconv.Itoa(who.PID) }

// Claim implements worker.Backend.
func (b *Backend) Claim(ctx context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	ctx = kv.WithLabel(ctx, "worker.claim")
	e := b.e
	if e.remote() && d.DispatchSeq == 1 && e.handlers > 1 {
		return b.claimFirst(ctx, d, who)
	}
	c, err := e.claimableFor(ctx, d)
	if err != nil {
		return nil, err
	}
	task := c.graph.DAG.Task(d.Key.TaskID)
	if task == nil {
		return nil, fmt.Errorf("%w: task %q is not in the DAG version of its run", airflow.ErrSuperseded, d.Key.TaskID)
	}
	now := e.utcNow()
	doc := store.AttemptDoc{Hostname: who.Hostname, PID: who.PID, Unixname: who.Unixname, StartDate: &now, FirstStart: &now, Queue: d.Queue, Executor: d.Executor}
	doc.Scheduled, doc.Queued = int64(c.scheduled), int64(c.queued)
	tc := &worker.TaskContext{
		DAG: c.graph.DAG, Task: task, Run: c.info, TryNumber: c.try, MaxTries: c.maxTries,
		ShouldRetry: task.Retries > 0 && c.try <= c.maxTries, StartDate: now,
		ExpandedTICount: c.expanded, UpstreamMapIndexes: c.upstreams,
	}
	if d.DispatchSeq > 1 {
		if err := b.resume(ctx, d, c, tc, &doc); err != nil {
			return nil, err
		}
	}
	if err := e.store.Claim(ctx, d.Key, d.DispatchSeq, c.try, claimID(who), now, doc); err != nil {
		return nil, err
	}
	return b.start(ctx, d, who, c, tc, doc, now)
}

// claimFirst claims the first dispatch of an instance while it reads what the
// worker needs: nothing of the claim depends on that, since the first dispatch is
// that of try 1 and a fence keeps one that was taken away from being claimed.
func (b *Backend) claimFirst(ctx context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	e := b.e
	now := e.utcNow()
	doc := store.AttemptDoc{Hostname: who.Hostname, PID: who.PID, Unixname: who.Unixname, StartDate: &now, FirstStart: &now, Queue: d.Queue, Executor: d.Executor}
	claimed := make(chan error, 1)
	go func() { claimed <- e.store.Claim(ctx, d.Key, d.DispatchSeq, 1, claimID(who), now, doc) }()
	c, err := e.claimableFor(ctx, d)
	if cerr := <-claimed; cerr != nil {
		return nil, cerr
	}
	if err == nil && c.graph.DAG.Task(d.Key.TaskID) == nil {
		err = fmt.Errorf("%w: task %q is not in the DAG version of its run", airflow.ErrSuperseded, d.Key.TaskID)
	}
	if err == nil && c.try != 1 {
		err = fmt.Errorf("the first dispatch of %s is of try %d; this is a bug of gust", d, c.try)
		b.fail(ctx, d, doc, err)
		return nil, err
	}
	if err != nil {
		if isNotFound(err) { // a message of a run that was deleted must not leave a row
			if derr := e.store.DeleteTaskInstance(ctx, d.Key); derr != nil {
				return nil, derr
			}
		}
		return nil, err // claimed, but the same worker may claim it again
	}
	doc.Scheduled, doc.Queued = int64(c.scheduled), int64(c.queued)
	task := c.graph.DAG.Task(d.Key.TaskID)
	tc := &worker.TaskContext{
		DAG: c.graph.DAG, Task: task, Run: c.info, TryNumber: 1, MaxTries: c.maxTries,
		ShouldRetry: task.Retries > 0 && 1 <= c.maxTries, StartDate: now,
		ExpandedTICount: c.expanded, UpstreamMapIndexes: c.upstreams,
	}
	return b.start(ctx, d, who, c, tc, doc, now)
}

// start equips a dispatch that was claimed.
func (b *Backend) start(ctx context.Context, d worker.Dispatch, who worker.Identity, c *claimable, tc *worker.TaskContext, doc store.AttemptDoc, now time.Time) (*worker.TaskContext, error) {
	e := b.e
	b.mu.Lock()
	b.claimed[claimKey{d.Key, d.DispatchSeq}] = claimedDispatch{store.Attempt{TryNumber: c.try, ClaimID: claimID(who), AttemptDoc: doc}, c.wide}
	b.mu.Unlock()
	if err := b.equip(ctx, d, c, tc, now); err != nil {
		if transient(err) || ctx.Err() != nil {
			return nil, err // claimed, but the same worker may claim it again
		}
		// Claimed and without a worker, it would count as running until its lease ends.
		b.fail(ctx, d, doc, err)
		return nil, err
	}
	dd := d
	e.Post(c.info, Event{Dispatch: &dd, Claimed: true, Started: now})
	return tc, nil
}

// fail reports a claimed dispatch that its worker could not be equipped for.
func (b *Backend) fail(ctx context.Context, d worker.Dispatch, doc store.AttemptDoc, cause error) {
	now := b.e.utcNow()
	if err := b.Finish(ctx, d, &worker.Report{Outcome: worker.OutcomeFailed, EndDate: now, Error: cause.Error()}); err != nil {
		b.e.log.ErrorContext(ctx, "dispatch that could not be prepared not reported", "dispatch", d.String(), "err", err)
		return
	}
	if b.e.onLost != nil {
		b.e.onLost(d, store.Attempt{Key: d.Key, DispatchSeq: d.DispatchSeq, TryNumber: b.tryOf(ctx, d), AttemptDoc: doc}, cause.Error())
	}
}

func (b *Backend) tryOf(ctx context.Context, d worker.Dispatch) int {
	a, err := b.e.store.GetAttempt(ctx, d.Key)
	if err != nil {
		return 1
	}
	return a.TryNumber
}

// equip adds to a claimed dispatch what its worker needs from elsewhere.
func (b *Backend) equip(ctx context.Context, d worker.Dispatch, c *claimable, tc *worker.TaskContext, now time.Time) (err error) {
	e := b.e
	if len(c.info.ConsumedAssetEvents) > 0 {
		if tc.TriggeringAssetEvents, err = e.consumedEvents(ctx, c.info); err != nil {
			return err
		}
	}
	for _, in := range tc.Task.Inlets {
		evs, err := e.store.ListAssetEvents(ctx, store.AssetKey{Name: in.Name, URI: in.URI}, time.Time{}, now)
		if err != nil {
			return err
		}
		tc.InletEvents = append(tc.InletEvents, evs...)
	}
	if b.bundles != nil && c.info.BundleHash != "" {
		if tc.BundleDir, err = b.bundles.Materialize(ctx, c.info.BundleHash); err != nil {
			return fmt.Errorf("bundle snapshot %s of the run: %w", c.info.BundleHash, err)
		}
	}
	if b.logURL != nil {
		tc.LogURL = b.logURL(d.Key, c.try)
	}
	return nil
}

// resume carries over what earlier dispatches of the same try left in the row.
func (b *Backend) resume(ctx context.Context, d worker.Dispatch, c *claimable, tc *worker.TaskContext, doc *store.AttemptDoc) error {
	a, err := b.e.store.GetAttempt(ctx, d.Key)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if a.TryNumber != c.try || len(a.Report) == 0 {
		return nil
	}
	var rep worker.Report
	if err := json.Unmarshal(a.Report, &rep); err != nil {
		return fmt.Errorf("%w: report of %s: %w", kv.ErrCorrupt, d.Key, err)
	}
	if a.FirstStart != nil {
		doc.FirstStart, tc.StartDate = a.FirstStart, *a.FirstStart
	}
	// The row keeps the report until this dispatch ends, so that a claim that is
	// repeated resumes the same.
	doc.Report, doc.Resume = a.Report, a.Resume
	again := a.DispatchSeq == d.DispatchSeq
	doc.RescheduleCount = a.RescheduleCount
	switch rep.Outcome {
	case worker.OutcomeDeferred:
		doc.XComs, doc.LargeXComs, doc.RenderedFields, doc.RenderedMapIndex = a.XComs, a.LargeXComs, a.RenderedFields, a.RenderedMapIndex
		tc.NextMethod, tc.NextKwargs, tc.TriggerEvent = rep.Deferral.NextMethod, rep.Deferral.NextKwargs, a.Resume
		if rep.Deferral.Trigger.Kind == worker.TriggerHITL {
			if ok, err := b.resumeHITL(ctx, d, c.try, tc); err != nil || ok {
				tc.RescheduleCount = doc.RescheduleCount
				return err
			}
		}
		if rep.Deferral.Timeout > 0 && !b.e.utcNow().Before(rep.EndDate.Add(rep.Deferral.Timeout)) && a.Resume == nil {
			tc.NextMethod = worker.MethodFail
			tc.NextKwargs = json.RawMessage(`{"error":"` + worker.TriggerTimeout + `"}`)
		}
	case worker.OutcomeUpForReschedule:
		if !again {
			doc.RescheduleCount++
		}
		doc.XComs, doc.LargeXComs = a.XComs, a.LargeXComs
		tc.FirstRescheduleStart = a.FirstStart
	}
	tc.RescheduleCount = doc.RescheduleCount
	return nil
}

// consumedEvents reads the asset events a run consumed, by time.
func (e *Engine) consumedEvents(ctx context.Context, info airflow.DagRun) ([]airflow.AssetEvent, error) {
	want := map[string]bool{}
	for _, id := range info.ConsumedAssetEvents {
		want[id] = true
	}
	var out []airflow.AssetEvent
	assets, err := e.store.ListAssets(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range assets {
		evs, err := e.store.ListAssetEvents(ctx, store.AssetKey{Name: a.Name, URI: a.URI}, time.Time{}, info.RunAfter)
		if err != nil {
			return nil, err
		}
		for _, ev := range evs {
			if want[ev.ID] {
				out = append(out, ev)
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Timestamp.Before(out[j].Timestamp) })
	return out, nil
}

// Heartbeat implements worker.Backend.
func (b *Backend) Heartbeat(ctx context.Context, d worker.Dispatch, _ worker.Identity) error {
	err := b.e.store.Heartbeat(kv.WithLabel(ctx, "worker.heartbeat"), d.Key, d.DispatchSeq, b.e.utcNow())
	if isSuperseded(err) {
		return &worker.SupersededError{Cause: b.supersededBy(ctx, d)}
	}
	return err
}

// supersededBy says in words, for the task's log, what took a dispatch away.
func (b *Backend) supersededBy(ctx context.Context, d worker.Dispatch) string {
	const what = "the task instance was cleared or its state was set while it ran"
	info, err := b.e.store.GetRun(ctx, store.RunKey{DagID: d.Key.DagID, RunID: d.Key.RunID})
	if isNotFound(err) {
		return "the run was deleted"
	}
	if err != nil {
		return what
	}
	g, rs, err := b.e.readState(ctx, info)
	if err != nil || rs == nil {
		return what
	}
	pos := rs.Find(g, d.Key.TaskID, d.Key.MapIndex)
	if pos < 0 {
		return what
	}
	if s := rs.At(pos).State; s.Finished() {
		return fmt.Sprintf("the task instance was set to %s while it ran", s)
	}
	return "the task instance was cleared while it ran"
}

// Finish implements worker.Backend.
func (b *Backend) Finish(ctx context.Context, d worker.Dispatch, r *worker.Report) error {
	ctx = kv.WithLabel(ctx, "worker.finish")
	e := b.e
	b.mu.Lock()
	a, ok := b.claimed[claimKey{d.Key, d.DispatchSeq}]
	delete(b.claimed, claimKey{d.Key, d.DispatchSeq})
	b.mu.Unlock()
	var err error
	if !ok { // claimed by an earlier process, or finished before
		if a.Attempt, err = e.store.GetAttempt(ctx, d.Key); err != nil {
			return err
		}
	}
	doc := a.AttemptDoc
	doc.Resume = nil
	slim := *r
	slim.XComs, slim.RenderedFields, slim.RenderedMapIndex = nil, nil, ""
	if doc.Report, err = json.Marshal(&slim); err != nil {
		return fmt.Errorf("report of %s: %w", d, err)
	}
	end := r.EndDate.UTC()
	doc.EndDate = &end
	doc.Error = r.Error
	if r.RenderedFields != nil {
		if err := json.Unmarshal(r.RenderedFields, &doc.RenderedFields); err != nil {
			return fmt.Errorf("rendered fields of %s: %w", d, err)
		}
	}
	if r.RenderedMapIndex != "" {
		doc.RenderedMapIndex = r.RenderedMapIndex
	}
	inline := 0
	for k, v := range doc.XComs {
		inline += len(k) + len(v)
	}
	for _, x := range r.XComs {
		if inline += len(x.Key) + len(x.Value); inline > store.InlineXComBytes {
			if err := e.store.PutXCom(ctx, d.Key, a.TryNumber, x.Key, x.Value, end); err != nil {
				return err
			}
			delete(doc.XComs, x.Key)
			doc.LargeXComs = append(doc.LargeXComs, x.Key)
			continue
		}
		if doc.XComs == nil {
			doc.XComs = map[string]json.RawMessage{}
		}
		doc.XComs[x.Key] = x.Value
	}
	if err := b.storeHITL(ctx, d, a.TryNumber, r); err != nil {
		return err
	}
	if err := e.store.Finish(ctx, d.Key, d.DispatchSeq, a.ClaimID, doc); err != nil {
		return err
	}
	if e.remote() {
		m := ReportOf(d)
		m.Wide = m.Wide || a.wide
		return e.announce(ctx, m)
	}
	dd, ev := d, Event{Report: r}
	ev.Dispatch = &dd
	if doc.StartDate != nil {
		ev.Started = *doc.StartDate
	}
	e.Post(airflow.DagRun{DagID: d.Key.DagID, RunID: d.Key.RunID}, ev)
	return nil
}

// Yield tells the engine that a superseded dispatch has stopped.
func (b *Backend) Yield(ctx context.Context, d worker.Dispatch, who worker.Identity) error {
	b.mu.Lock()
	delete(b.claimed, claimKey{d.Key, d.DispatchSeq})
	b.mu.Unlock()
	run := airflow.DagRun{DagID: d.Key.DagID, RunID: d.Key.RunID}
	switch err := b.e.store.Yield(ctx, d.Key, d.DispatchSeq, claimID(who)); {
	case isSuperseded(err):
		// It does not run any more: its report, whose answer it missed, is stored.
		if b.e.remote() {
			return b.e.announce(ctx, ReportOf(d))
		}
		dd := d
		b.e.Post(run, Event{Dispatch: &dd})
		return nil
	case err != nil:
		return err
	}
	if b.e.remote() {
		return b.e.announce(ctx, ReportOf(d))
	}
	b.e.Post(run, Event{
		Core:  &scheduler.Report{Kind: scheduler.ReportStopped, Task: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: d.DispatchSeq},
		Cause: "stopped after it was cleared",
	})
	return nil
}

// SetXCom implements worker.Backend.
func (b *Backend) SetXCom(ctx context.Context, d worker.Dispatch, xs []worker.XComPush) error {
	a, err := b.e.store.GetAttempt(ctx, d.Key)
	if err != nil {
		return err
	}
	if a.DispatchSeq != d.DispatchSeq || a.Status != store.AttemptRunning || a.MinDispatchSeq > d.DispatchSeq {
		return fmt.Errorf("%w: %s may not push XComs any more", airflow.ErrSuperseded, d)
	}
	for _, x := range xs {
		if err := b.e.store.PutXCom(ctx, d.Key, a.TryNumber, x.Key, x.Value, b.e.utcNow()); err != nil {
			return err
		}
	}
	return nil
}

// TriggerDagRun implements worker.Backend.
func (b *Backend) TriggerDagRun(ctx context.Context, d worker.Dispatch, r worker.TriggerRequest) (*airflow.DagRun, error) {
	if b.asks {
		return b.ask(ctx, d, "trigger#"+r.RequestID, question{Trigger: &r})
	}
	info, err := b.e.Trigger(ctx, triggerOptions(r))
	return &info, err
}

// ClearDagRun implements worker.Backend.
func (b *Backend) ClearDagRun(ctx context.Context, d worker.Dispatch, dag airflow.DagID, runID airflow.RunID) error {
	if b.asks {
		_, err := b.ask(ctx, d, "clear#"+b.e.newID(), question{Clear: &store.RunKey{DagID: dag, RunID: runID}})
		return err
	}
	_, err := b.e.Clear(ctx, store.RunKey{DagID: dag, RunID: runID}, ClearRequest{ClearOptions: scheduler.ClearOptions{ResetDagRun: true}})
	return err
}

// SetVariable implements worker.Backend.
func (b *Backend) SetVariable(ctx context.Context, d worker.Dispatch, v airflow.Variable) error {
	if b.asks {
		sealed, err := b.e.store.SealVariable(v)
		if err == nil {
			_, err = b.ask(ctx, d, "variable#"+b.e.newID(), question{Variable: v.Key, Sealed: sealed})
		}
		return err
	}
	return b.e.store.PutVariable(ctx, v)
}

// DeleteVariable implements worker.Backend.
func (b *Backend) DeleteVariable(ctx context.Context, d worker.Dispatch, key string) error {
	if b.asks {
		_, err := b.ask(ctx, d, "variable#"+b.e.newID(), question{Variable: key})
		return err
	}
	return b.e.store.DeleteVariable(ctx, key)
}
