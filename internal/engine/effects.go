package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

func isNotFound(err error) bool { return errors.Is(err, airflow.ErrNotFound) }

func randomID() string {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // the system has no randomness
	}
	return hex.EncodeToString(b[:])
}

// effects carries out what a committed step asks for. Each effect can be
// repeated, and is found again by Recover if it is lost.
func (e *Engine) effects(ctx context.Context, r *run, o *outcome) {
	rs := r.state
	if rs == nil {
		return
	}
	ds := e.dispatches(r, o)
	for _, eff := range o.effects {
		switch eff := eff.(type) {
		case scheduler.CancelDispatch:
			if e.submitter != nil {
				e.submitter.Cancel(worker.Dispatch{Key: eff.Key, DispatchSeq: eff.DispatchSeq}, cancelCause(o))
			}
		case scheduler.StartTrigger:
			e.log.Warn("start_from_trigger needs the Python trigger host; the task is started in a worker instead", "task", eff.Key.String())
		}
	}
	if len(ds) > 0 && e.submitter != nil {
		if !e.shared {
			e.offer(r, ds)
		}
		if err := e.submitter.Submit(ctx, ds); err != nil {
			e.log.ErrorContext(ctx, "dispatches not submitted; they are sent again by the sweep", "run", r.key.String(), "count", len(ds), "err", err)
			e.noteRun(r.key, err)
		}
	}
	if !e.syncInfo(ctx, r) {
		return
	}
	if e.passive {
		if e.remote() {
			e.sendAll(ctx, Message{Kind: MessageRun, DagID: r.key.DagID, RunID: r.key.RunID})
		}
		return // the running server finds the callbacks pending
	}
	e.runCallbacks(o.pending)
	if e.shared {
		e.sendTimer(ctx, r)
		e.watch(ctx, r)
	}
	if rs.Header.State.Finished() {
		e.finished(ctx, r, o)
	} else {
		e.setWake(r, e.nextWake(r, o))
	}
	if len(o.transitions) > 0 {
		e.wakeFollowers(ctx, r, o)
	}
}

// nextWake is the earliest time at which time alone moves the run.
func (e *Engine) nextWake(r *run, o *outcome) time.Time {
	next := o.decision.Wake
	if t := r.nextTrigger(); !t.IsZero() && (next.IsZero() || t.Before(next)) {
		next = t
	}
	return next
}

func cancelCause(o *outcome) string {
	for _, t := range o.transitions {
		switch t.Why {
		case scheduler.CodeTimedOut:
			return "the run exceeded dagrun_timeout"
		case scheduler.CodeFailFast:
			return "another task of this fail_fast DAG failed"
		case scheduler.CodeCleared:
			return "the task instance was cleared"
		case scheduler.CodeMarked:
			return "the task instance or its run was marked by hand"
		}
	}
	return "the task instance was taken away"
}

// dispatches lists the messages for the instances a step queued.
func (e *Engine) dispatches(r *run, o *outcome) []worker.Dispatch {
	var out []worker.Dispatch
	for _, t := range o.transitions {
		if t.To != airflow.TIQueued {
			continue
		}
		ti := r.state.At(t.Pos)
		if ti.State != airflow.TIQueued || ti.DispatchSeq != t.DispatchSeq {
			continue
		}
		out = append(out, e.dispatchOf(r, t.Pos))
	}
	return out
}

func (e *Engine) dispatchOf(r *run, pos int) worker.Dispatch {
	ti := r.state.At(pos)
	d := worker.Dispatch{Key: r.state.Key(r.graph, pos), DispatchSeq: ti.DispatchSeq}
	if int(ti.Task) < len(r.graph.Tasks) {
		t := r.graph.Tasks[ti.Task].Task
		d.Queue, d.Executor = t.Queue, t.Executor
		if e.route != nil {
			e.route(t, &d)
		}
	}
	if e.shared {
		d.Offer = e.offerOf(r, d)
	}
	return d
}

// infoOf returns what is known of the run's INFO item.
func (e *Engine) infoOf(r *run) airflow.DagRun {
	e.mu.Lock()
	defer e.mu.Unlock()
	return r.info
}

// setInfo replaces what is known of the run's INFO item.
func (e *Engine) setInfo(r *run, info airflow.DagRun) {
	e.mu.Lock()
	r.info = info
	e.mu.Unlock()
}

var errBehind = errors.New("a later step has written the run's INFO")

// syncInfo makes the INFO item agree with META where its run-level facts
// changed. INFO leaves the list of unfinished runs here, last of all. It reports
// whether there is such a run: it may have been deleted.
func (e *Engine) syncInfo(ctx context.Context, r *run) bool {
	h := r.state.Header
	if infoMatches(e.infoOf(r), h) {
		return true
	}
	have := r.known
	r.known = store.Known[airflow.DagRun]{}
	info, err := e.store.UpdateRunFrom(ctx, r.key, have, func(i *airflow.DagRun) error {
		if i.MetaVersion > r.version {
			return errBehind
		}
		i.MetaVersion = r.version
		i.State = h.State
		i.StartDate, i.EndDate = timePtr(h.StartDate), timePtr(h.EndDate)
		if !h.QueuedAt.IsZero() {
			i.QueuedAt = timePtr(h.QueuedAt)
		}
		i.ClearNumber = h.ClearNumber
		if h.DagHash != "" {
			i.DagHash, i.DagVersion = h.DagHash, h.DagVersion
		}
		now := e.utcNow()
		i.LastSchedulingDecision = &now
		return nil
	})
	if errors.Is(err, errBehind) {
		return true // a later step has said more
	}
	if isNotFound(err) {
		// The run was deleted after this step had looked at it, and before it was
		// committed: nobody else knows of the state that it made.
		if err := e.store.DeleteRun(ctx, e.infoOf(r)); err != nil {
			e.log.ErrorContext(ctx, "what a deleted run left behind was not removed", "run", r.key.String(), "err", err)
		}
		e.unload(r)
		e.forgetDeleted(r.key)
		return false
	}
	if err != nil {
		e.log.ErrorContext(ctx, "run header not updated; the sweep repairs it", "run", r.key.String(), "err", err)
		e.noteRun(r.key, err)
		return true
	}
	e.mu.Lock()
	r.info, r.starting = info, false
	e.mu.Unlock()
	return true
}

// reopen puts a finished run back into the list of unfinished ones before a step
// is committed that changes what INFO says of it: if the process dies between the
// two writes, the run is found there and INFO is made to agree with META.
func (e *Engine) reopen(ctx context.Context, r *run) error {
	if info := e.infoOf(r); !info.State.Finished() || infoMatches(info, r.state.Header) {
		return nil
	}
	info, err := e.store.UpdateRun(ctx, r.key, func(i *airflow.DagRun) error {
		if i.MetaVersion > r.version+1 {
			return fmt.Errorf("run %s: %w: a later step was committed", r.key, airflow.ErrConflict)
		}
		// What an earlier step has still to say of the run's end is void from here on.
		i.MetaVersion = r.version + 1
		i.State = airflow.RunQueued
		return nil
	})
	if err != nil {
		return err
	}
	e.setInfo(r, info)
	return nil
}

func infoMatches(i airflow.DagRun, h scheduler.Header) bool {
	return i.State == h.State && sameTime(i.StartDate, h.StartDate) && sameTime(i.EndDate, h.EndDate) &&
		i.ClearNumber == h.ClearNumber && (h.DagHash == "" || i.DagHash == h.DagHash)
}

func sameTime(p *time.Time, t time.Time) bool {
	if p == nil {
		return t.IsZero()
	}
	return p.Equal(t)
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// finished does what follows from the end of a run.
func (e *Engine) finished(ctx context.Context, r *run, o *outcome) {
	h := r.state.Header
	if e.infoOf(r).State != h.State {
		return // INFO could not be written: the run stays listed and Sweep comes back
	}
	if !e.shared {
		e.admission.drop(r.key)
	}
	clear(r.triggers)
	e.dropWatchers(r)
	e.mu.Lock()
	delete(e.finishedFacts, r.key)
	e.mu.Unlock()
	// Instances that outlive their run (a failed leaf decided it) still report;
	// the run is stepped again then, from the store.
	e.forget(r)
	if h.State == airflow.RunFailed && o.decision.RunReason != "" && r.graph.DAG.MaxConsecutiveFailedDagRuns > 0 {
		e.pauseAfterFailures(ctx, r)
	}
	// A backfill may have taken over a run whose state knows nothing of it.
	if id := e.infoOf(r).BackfillID; id != 0 {
		if e.shared {
			if err := e.syncDag(ctx, r.key.DagID); err != nil {
				e.noteRun(r.key, err)
			}
		}
		e.completeBackfill(ctx, id)
	}
	e.dagMoved(r.key.DagID)
	if e.shared {
		e.notifyStored(ctx, r.key.DagID)
		return
	}
	e.notifyWatchers(r.key.DagID)
}

// pauseAfterFailures pauses the DAG when its newest runs all failed.
func (e *Engine) pauseAfterFailures(ctx context.Context, r *run) {
	var recent []airflow.DagRunState
	n := r.graph.DAG.MaxConsecutiveFailedDagRuns
	err := e.eachRun(ctx, r.key.DagID, func(c airflow.DagRun) bool {
		recent = append(recent, c.State)
		return len(recent) < n
	})
	if err != nil || !scheduler.ConsecutiveFailures(r.graph.DAG, recent) {
		return
	}
	if _, err := e.store.UpdateDag(ctx, r.key.DagID, func(m *airflow.DagModel) error { m.IsPaused = true; return nil }); err != nil {
		e.log.ErrorContext(ctx, "DAG not paused after consecutive failures", "dag_id", r.key.DagID, "err", err)
		return
	}
	e.audit(ctx, "paused", "scheduler", r.key.DagID, r.key.RunID, fmt.Sprintf("the last %d runs failed (max_consecutive_failed_dag_runs)", n))
}

// audit appends to the audit log; failures are logged only.
func (e *Engine) audit(ctx context.Context, event, owner string, dag airflow.DagID, run airflow.RunID, text string) {
	extra, err := json.Marshal(map[string]string{"message": text})
	if err != nil {
		panic(err) // strings always encode
	}
	ev := store.AuditEvent{ID: e.newID(), When: e.utcNow(), Event: event, Owner: owner, DagID: dag, RunID: run, Extra: extra}
	if err := e.store.PutAudit(ctx, ev); err != nil {
		e.log.ErrorContext(ctx, "audit event not stored", "event", event, "err", err)
	}
}

// wakeFollowers steps the runs that may wait for what changed in this one: later
// runs of the DAG whose tasks depend on the past.
func (e *Engine) wakeFollowers(ctx context.Context, r *run, o *outcome) {
	if !r.graph.DependsOnPast() || r.state.Header.LogicalDate == nil {
		return
	}
	done := false
	for _, t := range o.transitions {
		done = done || t.To.Finished() || t.From.Finished()
	}
	if !done {
		return
	}
	if e.shared {
		if err := e.syncDag(ctx, r.key.DagID); err != nil {
			e.noteRun(r.key, err)
			return
		}
	}
	for _, other := range e.activeRuns(r.key.DagID) {
		if ld := e.infoOf(other).LogicalDate; other != r && ld != nil && ld.After(*r.state.Header.LogicalDate) {
			if e.shared {
				e.pokeFresh(other.key)
				continue
			}
			e.poke(other)
		}
	}
}

// produceAssets records the asset events of reports that were accepted, with the
// DAGs that wait for them, before the step is committed: an event's id comes from
// its dispatch, so doing it again changes nothing.
func (e *Engine) produceAssets(ctx context.Context, produced []producedAsset) error {
	var consumers []airflow.DagID // in order: dagMoved drops doubles
	for _, p := range produced {
		for _, ev := range p.events {
			waiting, err := e.recordAssetEvent(ctx, airflow.AssetEvent{
				ID:        store.AssetEventID(p.key, p.seq, store.AssetKey{Name: ev.Asset.Name, URI: ev.Asset.URI}),
				AssetName: ev.Asset.Name, AssetURI: ev.Asset.URI, Extra: ev.Extra,
				SourceDagID: p.key.DagID, SourceRunID: p.key.RunID, SourceTaskID: p.key.TaskID, SourceMapIndex: p.key.MapIndex,
				Timestamp: p.endDate,
			}, ev.Alias)
			if err != nil {
				return err
			}
			consumers = append(consumers, waiting...)
		}
	}
	for _, dag := range consumers {
		e.dagMoved(dag)
	}
	return nil
}

// recordAssetEvent stores one asset event and queues it for the DAGs that are
// scheduled on the asset and not paused. It returns those DAGs.
func (e *Engine) recordAssetEvent(ctx context.Context, ev airflow.AssetEvent, alias string) ([]airflow.DagID, error) {
	if ev.Timestamp.IsZero() {
		ev.Timestamp = e.utcNow()
	}
	rec, err := e.store.GetAsset(ctx, store.AssetKey{Name: ev.AssetName, URI: ev.AssetURI})
	if isNotFound(err) {
		rec, err = e.store.UpsertAsset(ctx, airflow.Asset{Name: ev.AssetName, URI: ev.AssetURI, Group: "asset"}, func(*store.AssetRecord) error { return nil })
	}
	if err != nil {
		return nil, err
	}
	dags := append([]airflow.DagID(nil), rec.ScheduledDags...)
	if alias != "" {
		if al, err := e.store.GetAsset(ctx, store.AssetKey{Name: alias, URI: aliasURI}); err == nil {
			dags = append(dags, al.ScheduledDags...)
		} else if !isNotFound(err) {
			return nil, err
		}
	}
	var queue []store.QueuedAsset
	var waiting []airflow.DagID
	seen := map[airflow.DagID]bool{}
	for _, dag := range dags {
		if seen[dag] {
			continue
		}
		seen[dag] = true
		m, err := e.store.GetDag(ctx, dag)
		if isNotFound(err) || err == nil && (m.IsPaused || m.IsStale) {
			continue // an event that happens while a DAG is paused never queues it
		}
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, dag)
		queue = append(queue, store.QueuedAsset{DagID: dag, AssetName: ev.AssetName, AssetURI: ev.AssetURI, Alias: alias, CreatedAt: ev.Timestamp, EventID: ev.ID})
	}
	_, err = e.store.RecordAssetEvent(ctx, ev, queue)
	return waiting, err
}

// aliasURI is the uri under which an asset alias is registered among the assets.
const aliasURI = "airflow-alias:"
