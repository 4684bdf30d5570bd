package sim

import (
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// finalChecks is what must be true once nothing happens any more.
func (w *World) finalChecks() {
	w.mem.Settle()
	for _, k := range w.check.order {
		w.checkRun(k)
	}
	w.checkAssets()
	w.checkBackfills()
	w.checkEffects()
	w.checkRestart()
}

// checkRun checks one run at rest.
func (w *World) checkRun(k store.RunKey) {
	info, err := w.clean.GetRun(w.ctx, k)
	if err != nil {
		if !w.check.runs[k].deleted {
			w.fail("run %s is gone: %v", k, err)
		}
		return
	}
	s := w.check.snapshot(k)
	if s == nil && w.check.deletion[k] {
		return // a deletion was cut short, and whoever asked for it was told
	}
	if s != nil {
		h := s.header
		if info.State != h.State || info.ClearNumber != h.ClearNumber || h.DagHash != "" && info.DagHash != h.DagHash ||
			(info.StartDate == nil) != h.StartDate.IsZero() || info.StartDate != nil && !info.StartDate.Equal(h.StartDate) ||
			(info.EndDate == nil) != h.EndDate.IsZero() || info.EndDate != nil && !info.EndDate.Equal(h.EndDate) {
			w.fail("INFO of %s does not agree with META: %+v, %+v", k, info, h)
		}
	}
	if info.State.Finished() {
		if s == nil {
			w.fail("run %s is %s and has no state", k, info.State)
		}
		for _, t := range s.tis {
			if t.state.Active() {
				w.fail("run %s is %s, but %s is %s at rest", k, info.State, t.key, t.state)
			}
			if row := w.check.row(t.key); row.status == "running" && row.min <= row.seq {
				w.fail("run %s is %s, but dispatch %d of %s could still write", k, info.State, row.seq, t.key)
			}
		}
		w.checkShape(s)
		w.checkTeardowns(s)
		return
	}
	w.stats.RunsWaiting++
	w.legitimate(k, info)
}

// legitimate checks that an unfinished run waits for a person or for a run that does.
func (w *World) legitimate(k store.RunKey, info airflow.DagRun) {
	reasons, err := w.main.eng.Explain(w.ctx, k)
	if err != nil {
		w.fail("explain %s: %v", k, err)
	}
	if len(reasons) == 0 {
		w.fail("run %s is %s at rest and nothing says why", k, info.State)
	}
	if info.State == airflow.RunQueued {
		w.checkQueued(k, info, reasons)
		return
	}
	s := w.check.snapshot(k)
	if s == nil {
		w.fail("run %s is %s and has no state", k, info.State)
	}
	limited := false
	for _, t := range s.graph.DAG.Tasks {
		limited = limited || t.DependsOnPast || t.MaxActiveTIsPerDag > 0 || t.MaxActiveTIsPerDagRun > 0
	}
	root := false
	d := w.dag(string(k.DagID))
	if m, err := w.clean.GetDag(w.ctx, k.DagID); err == nil && m.IsPaused && d.autoPauses() {
		return // paused after max_consecutive_failed_dag_runs: a person has to look
	}
	for _, r := range reasons {
		if r.Pos < 0 {
			w.fail("run %s is %s at rest: %s", k, info.State, r.Text)
		}
		switch r.Code {
		case scheduler.CodePast:
			root = true
		case scheduler.CodeUpstream, scheduler.CodeExpansionUnsolved, scheduler.CodeSetupNotDone:
		case scheduler.CodeStuck, scheduler.CodeUpstreamAbsent:
			// Airflow declares no deadlock while such tasks are unfinished.
			if !limited {
				w.fail("%s is stuck at rest and the run was not declared deadlocked: %s", r.Key, r.Text)
			}
			root = true
		default:
			w.fail("%s is %s at rest: %s: %s", r.Key, r.State, r.Code, r.Text)
		}
		if r.Text == "" || r.WakesBy == "" {
			w.fail("%s is %s and its reason is empty: %+v", r.Key, r.State, r)
		}
	}
	if !root {
		w.fail("run %s is at rest, and all its instances wait for each other: %+v", k, reasons)
	}
}

// autoPauses says that the DAG may have been paused by its failures.
func (d *simDag) autoPauses() bool {
	_, ok := d.spec.Fields["max_consecutive_failed_dag_runs"]
	return ok
}

// checkQueued checks that a queued run is kept from starting by running ones.
func (w *World) checkQueued(k store.RunKey, info airflow.DagRun, reasons []scheduler.Reason) {
	d := w.dag(string(k.DagID))
	if reasons[0].Pos >= 0 || reasons[0].Code != scheduler.CodeRunQueued && !d.autoPauses() {
		w.fail("run %s is queued at rest: %+v", k, reasons[0])
	}
	limit := d.graphs[len(d.graphs)-1].DAG.MaxActiveRuns
	if info.BackfillID != 0 {
		b, err := w.clean.GetBackfill(w.ctx, info.BackfillID)
		if err != nil {
			w.fail("backfill %d: %v", info.BackfillID, err)
		}
		limit = b.MaxActiveRuns
	}
	running := 0
	for _, other := range w.check.order {
		r := w.check.runs[other]
		if other.DagID == k.DagID && !r.deleted && r.info.State == airflow.RunRunning && r.info.BackfillID == info.BackfillID {
			running++
		}
	}
	if m, err := w.clean.GetDag(w.ctx, k.DagID); err == nil && m.IsPaused && d.autoPauses() {
		return
	}
	if running < limit {
		w.fail("run %s is queued at rest, but only %d of %d runs are running (backfill %d)", k, running, limit, info.BackfillID)
	}
}

// checkAssets checks that every event reached every DAG that waits for its asset.
func (w *World) checkAssets() {
	for _, d := range w.sc.Dags {
		if d.assets == nil {
			continue
		}
		dag := airflow.DagID(d.spec.ID)
		m, err := w.clean.GetDag(w.ctx, dag)
		if err != nil {
			w.fail("%v", err)
		}
		queued, err := w.clean.ListQueuedAssets(w.ctx, dag)
		if err != nil {
			w.fail("%v", err)
		}
		if len(queued) == len(d.assets) {
			w.fail("all assets of %s are queued and no run was made of them: %+v", dag, queued)
		}
		if !d.pausedAt.IsZero() || d.missed || d.autoPauses() {
			continue // what happens during a pause, or while the file is away, is dropped, as in Airflow
		}
		waits := map[string]bool{}
		for _, q := range queued {
			waits[q.AssetName] = true
		}
		for _, a := range d.assets {
			evs, err := w.clean.ListAssetEvents(w.ctx, store.AssetKey{Name: a, URI: a}, w.start.AddDate(-1, 0, 0), w.now.AddDate(1, 0, 0))
			if err != nil {
				w.fail("%v", err)
			}
			for _, ev := range evs {
				_, used := w.check.consumed[dag][ev.ID]
				// Not used yet: it is queued, or later than the last run and part of the next one.
				pending := m.LastAssetRunAfter == nil || ev.Timestamp.After(*m.LastAssetRunAfter)
				for _, q := range queued {
					for _, wait := range q.Waiting {
						pending = pending || wait.ID == ev.ID
					}
				}
				if !used && !pending {
					w.fail("asset event %s of %s was never consumed by %s (its last run took events until %s)", ev.ID, ev.Timestamp, dag, m.LastAssetRunAfter)
				}
				if !used && !waits[a] && m.LastAssetRunAfter == nil {
					w.fail("asset event %s is not queued for %s", ev.ID, dag)
				}
			}
		}
	}
	// Every success of a producer made its event.
	for k, rep := range w.check.acked {
		if len(rep.AssetEvents) == 0 || w.check.runs[store.RunKey{DagID: k.key.DagID, RunID: k.key.RunID}].deleted {
			continue
		}
		if !w.check.succeeded[k] {
			continue // marked, cleared or removed before its report was looked at
		}
		for _, ev := range rep.AssetEvents {
			id := store.AssetEventID(k.key, k.seq, store.AssetKey{Name: ev.Asset.Name, URI: ev.Asset.URI})
			if _, ok := w.check.events[id]; !ok {
				w.fail("%s succeeded and its asset event was lost", k.key)
			}
		}
	}
}

// checkBackfills checks that a backfill without unfinished runs is completed.
func (w *World) checkBackfills() {
	bs, err := w.clean.ListActiveBackfills(w.ctx)
	if err != nil {
		w.fail("%v", err)
	}
	for _, b := range bs {
		open := false
		for _, k := range w.check.order {
			r := w.check.runs[k]
			open = open || !r.deleted && r.info.BackfillID == b.ID && !r.info.State.Finished()
		}
		if !open {
			w.fail("backfill %d of %s has no unfinished run and is not completed", b.ID, b.DagID)
		}
	}
}

// checkRestart checks that a fresh engine finds nothing to do.
func (w *World) checkRestart() {
	// What is shown of a DAG's next run depends on the time at which it was worked out.
	for key := range w.check.keys {
		if strings.HasPrefix(key.PK, "DAG#") {
			delete(w.check.keys, key)
		}
	}
	before, items := w.dump(), w.items()
	for _, p := range w.procs {
		p.gate.dead = true
		p.alive = false
	}
	w.tracef("a fresh engine")
	w.main.spawn()
	w.main.lastSweep = w.now.Add(-w.sc.SweepEvery)
	w.main.turn()
	w.main.turn()
	for key := range w.check.keys {
		if strings.HasPrefix(key.PK, "DAG#") {
			delete(w.check.keys, key)
		}
	}
	if w.dump() != before {
		for key, text := range w.items() {
			if items[key] != text {
				w.tracef("changed: %v\n  %s\n  %s", key, items[key], text)
			}
		}
		w.fail("a fresh engine changed the store of a system at rest")
	}
}
