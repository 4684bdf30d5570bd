package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/timetable"
)

// planAssetRuns creates the run that a DAG's asset events ask for.
//
// A run takes the events of Airflow's window: later than the last run's
// run_after, not later than its own. The window alone would lose an event that
// is recorded after its time has passed (a late report, a clock that is behind),
// so the events that wait are also kept by id, and those that are too old for the
// window are taken as well.
//
// The decision is stored before the run is created (DagModel.PendingAssetRun), so
// that it survives a crash unchanged: no event is taken by two runs.
func (e *Engine) planAssetRuns(ctx context.Context, dag *airflow.DAG, m airflow.DagModel) error {
	if m.PendingAssetRun != nil {
		if err := e.createAssetRun(ctx, m); err != nil {
			return err
		}
		var err error
		if m, err = e.store.GetDag(ctx, dag.DagID); err != nil {
			return err
		}
	}
	cond, ok, err := scheduler.AssetConditionOf(dag)
	if err != nil || !ok {
		return err
	}
	queued, err := e.store.ListQueuedAssets(ctx, dag.DagID)
	if err != nil || len(queued) == 0 {
		return err
	}
	pending, err := e.decideAssetRun(ctx, cond, queued, m)
	if err != nil || pending == nil {
		return err
	}
	m, err = e.store.UpdateDag(ctx, dag.DagID, func(cur *airflow.DagModel) error {
		if cur.PendingAssetRun != nil || !sameMoment(cur.LastAssetRunAfter, m.LastAssetRunAfter) {
			return errDecidedElsewhere
		}
		cur.PendingAssetRun = pending
		if cur.LastAssetRunAfter == nil || pending.RunAfter.After(*cur.LastAssetRunAfter) {
			cur.LastAssetRunAfter = &pending.RunAfter
		}
		return nil
	})
	if errors.Is(err, errDecidedElsewhere) {
		e.dagMoved(dag.DagID)
		return nil
	}
	if err != nil {
		return err
	}
	if err := e.createAssetRun(ctx, m); err != nil {
		return err
	}
	e.dagMoved(dag.DagID) // what arrived meanwhile
	return nil
}

var errDecidedElsewhere = errors.New("another process has decided an asset-triggered run")

func sameMoment(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}

// decideAssetRun returns the run that the waiting updates ask for, nil if the
// condition does not hold.
func (e *Engine) decideAssetRun(ctx context.Context, cond scheduler.AssetCondition, queued []store.QueuedAsset, m airflow.DagModel) (*airflow.PendingAssetRun, error) {
	var since time.Time
	if m.LastAssetRunAfter != nil {
		since = *m.LastAssetRunAfter
	}
	var qs []scheduler.QueuedAsset
	newest := time.Time{}
	for _, q := range queued {
		qa := scheduler.QueuedAsset{Name: q.AssetName, URI: q.AssetURI, CreatedAt: q.CreatedAt}
		if q.Alias != "" {
			qa.Aliases = []string{q.Alias}
		}
		qs = append(qs, qa)
		if q.CreatedAt.After(newest) {
			newest = q.CreatedAt
		}
	}
	if !scheduler.EvaluateAssets(cond, qs) {
		return nil, nil
	}
	var events []scheduler.PendingAssetEvent
	for _, q := range queued {
		evs, err := e.store.ListAssetEvents(ctx, store.AssetKey{Name: q.AssetName, URI: q.AssetURI}, since, newest)
		if err != nil {
			return nil, err
		}
		for _, ev := range evs {
			events = append(events, scheduler.PendingAssetEvent{ID: ev.ID, Name: ev.AssetName, URI: ev.AssetURI, Timestamp: ev.Timestamp})
		}
	}
	plan := scheduler.PlanAssetRun(cond, qs, events, since)
	if !plan.Create {
		return nil, nil
	}
	run := &airflow.PendingAssetRun{RunAfter: plan.RunAfter.UTC()}
	var late []store.WaitingEvent
	// The random part of the id is a digest of what it takes.
	h := fnv.New64a()
	for _, q := range queued {
		fmt.Fprintf(h, "%s|%s|%s|%s;", q.AssetName, q.AssetURI, q.EventID, q.CreatedAt)
		for _, w := range q.Waiting {
			run.Seen = append(run.Seen, w.ID)
			if !since.IsZero() && !w.Timestamp.After(since) {
				late = append(late, w)
			}
		}
	}
	sort.SliceStable(late, func(i, j int) bool { return late[i].Timestamp.Before(late[j].Timestamp) })
	for _, w := range late {
		run.Consumed = append(run.Consumed, w.ID)
	}
	run.Consumed = append(run.Consumed, plan.Consumed...)
	if run.RunAfter.Before(since) {
		run.RunAfter = since.UTC()
	}
	run.RunID = airflow.RunID(timetable.DagRunID(string(airflow.RunTypeAssetTriggered), nil, run.RunAfter, letters(h.Sum64())))
	return run, nil
}

// letters writes a digest as the eight letters that ids of such runs end with.
func letters(x uint64) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var b [8]byte
	for i := range b {
		b[i] = alphabet[x%uint64(len(alphabet))]
		x /= uint64(len(alphabet))
	}
	return string(b[:])
}

// createAssetRun carries out the decision that a DAG's entry holds. It can be repeated.
func (e *Engine) createAssetRun(ctx context.Context, m airflow.DagModel) error {
	p := m.PendingAssetRun
	info := newRun(scheduler.NewDagRun{RunID: p.RunID, RunType: airflow.RunTypeAssetTriggered, RunAfter: p.RunAfter}, m, e.utcNow(), airflow.TriggeredByAsset)
	info.ConsumedAssetEvents = p.Consumed
	if err := e.createRun(ctx, info); err != nil {
		return err
	}
	if err := e.store.UnqueueAssets(ctx, m.DagID, append(append([]string(nil), p.Seen...), p.Consumed...)); err != nil {
		return err
	}
	_, err := e.store.UpdateDag(ctx, m.DagID, func(cur *airflow.DagModel) error {
		if cur.PendingAssetRun != nil && cur.PendingAssetRun.RunID == p.RunID {
			cur.PendingAssetRun = nil
		}
		return nil
	})
	return err
}
