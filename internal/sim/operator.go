package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// setup registers pools and DAGs, starts the processes and schedules what people do.
func (w *World) setup() {
	seen := &seenDriver{Driver: w.mem, c: w.check}
	w.clean = store.New(seen, nil)
	if w.sc.Two {
		w.sc.Embedded = false
	}
	w.main = &proc{w: w, name: "scheduler"}
	w.procs = append(w.procs, w.main)
	if w.sc.Two {
		w.procs = append(w.procs, &proc{w: w, name: "scheduler-b"})
	}
	if w.sc.Tool {
		w.procs = append(w.procs, &proc{w: w, name: "tool", passive: true})
	}
	for _, p := range w.sc.Pools {
		w.putPool(p)
	}
	for _, p := range w.procs {
		p.spawn()
	}
	for _, d := range w.sc.Dags {
		w.register(d)
	}
	// Runs that a person starts.
	for _, d := range w.sc.Dags {
		if d.spec.Cron != "" && !w.chance(0.3) || d.assets != nil && !w.chance(0.2) {
			continue
		}
		runs := 1 + w.rng.IntN(4)
		if d.wide {
			runs = 1
		}
		for ; runs > 0; runs-- {
			w.after(w.between(0, w.sc.Length/2), false, func() { w.act(func(p *proc) { w.trigger(p, d) }) })
		}
	}
	for i := 0; i < w.sc.Actions; i++ {
		w.after(w.between(time.Second, w.sc.Length), false, func() { w.act(w.intervene) })
	}
	if w.sc.Jumps {
		w.after(w.between(time.Minute, w.sc.Length), false, func() {
			// A suspended machine: nothing happened meanwhile, everything is late.
			w.now = w.now.Add(w.between(5*time.Minute, 2*time.Hour))
			w.tracef("the clock jumps")
		})
	}
}

// seenDriver notes what the harness itself writes, for the digest.
type seenDriver struct {
	kv.Driver
	c *checker
}

func (s *seenDriver) note(op kv.Op) { s.c.keys[op.ItemKey()] = struct{}{} }

// putPool sets a pool's size behind the engine's back, as the first setup does.
func (w *World) putPool(p airflow.Pool) {
	if err := w.clean.PutPool(w.ctx, p); err != nil {
		panic(err)
	}
	w.check.poolIs(p)
}

// register stores the present version of a DAG, as the DAG processor does, and
// tells the schedulers.
func (w *World) register(d *simDag) {
	doc, hash, err := airflow.CanonicalDAG(d.spec.Document())
	if err != nil {
		panic(fmt.Sprintf("DAG of the scenario: %v", err))
	}
	dag, err := airflow.ParseDAG(doc)
	if err != nil {
		panic(fmt.Sprintf("DAG of the scenario: %v", err))
	}
	g, err := scheduler.Compile(dag)
	if err != nil {
		panic(fmt.Sprintf("DAG of the scenario: %v", err))
	}
	d.version++
	d.graphs = append(d.graphs, g)
	d.maxRuns = max(d.maxRuns, dag.MaxActiveRuns)
	w.check.graphs[hash] = g
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(w.clean.PutDocument(w.ctx, hash, doc))
	for _, a := range d.assets {
		_, err := w.clean.UpsertAsset(w.ctx, airflow.Asset{Name: a, URI: a, Group: "asset"}, func(r *store.AssetRecord) error {
			for _, have := range r.ScheduledDags {
				if have == dag.DagID {
					return nil
				}
			}
			r.ScheduledDags = append(r.ScheduledDags, dag.DagID)
			return nil
		})
		must(err)
	}
	must(w.clean.PutDagVersion(w.ctx, airflow.DagVersion{DagID: dag.DagID, Number: d.version, Hash: hash, CreatedAt: w.now}))
	if d.version == 1 {
		must(w.clean.CreateDag(w.ctx, airflow.DagModel{DagID: dag.DagID, RelativeFileloc: dag.RelativeFileloc, LatestVersion: 1, LatestHash: hash}))
	} else {
		_, err := w.clean.UpdateDag(w.ctx, dag.DagID, func(m *airflow.DagModel) error {
			m.LatestVersion, m.LatestHash = d.version, hash
			m.HasImportErrors, m.IsStale = false, false
			return nil
		})
		must(err)
		d.broken, d.gone = false, false
	}
	for _, p := range w.procs {
		if p.alive {
			p.eng.DagChanged(dag.DagID) // only notes it
		}
	}
}

// act lets a person do something, with the tool or through the scheduler.
func (w *World) act(f func(*proc)) {
	p := w.main
	if len(w.procs) > 1 && !w.quiet {
		p = w.procs[w.rng.IntN(len(w.procs))]
	}
	if !p.alive || p.busy || p.needRecover {
		w.after(3*time.Second, false, func() { w.act(f) })
		return
	}
	w.stats.Actions++
	p.do(func() { f(p) })
}

// tell wakes the scheduler after the tool did something; the message may be lost.
func (w *World) tell(p *proc, dag airflow.DagID, key *store.RunKey) {
	if !p.passive || !w.quiet && w.chance(w.sc.Lossy) {
		return
	}
	w.after(w.between(time.Millisecond, time.Second), false, func() {
		for _, q := range w.procs {
			if !q.passive {
				q.do(func() {
					if key != nil {
						_ = q.eng.Refresh(w.ctx, *key)
					}
					q.eng.DagChanged(dag)
				})
			}
		}
	})
}

func (w *World) trigger(p *proc, d *simDag) {
	o := engine.TriggerOptions{DagID: airflow.DagID(d.spec.ID), TriggeredBy: airflow.TriggeredByCLI}
	w.pids++
	o.RunID = airflow.RunID(fmt.Sprintf("manual%d", w.pids))
	switch {
	case w.chance(0.3):
		o.NoLogicalDate = true
	default:
		t := w.now
		o.LogicalDate = &t
	}
	if w.chance(0.2) {
		o.RunAfter = w.now.Add(w.between(time.Second, 10*time.Minute))
	}
	info, err := p.eng.Trigger(w.ctx, o)
	w.tracef("%s: trigger %s %s: %v", p, o.DagID, o.RunID, err)
	if err == nil {
		w.tell(p, o.DagID, &store.RunKey{DagID: info.DagID, RunID: info.RunID})
	}
}

// someRun draws a run that exists.
func (w *World) someRun() (store.RunKey, bool) {
	if len(w.check.order) == 0 {
		return store.RunKey{}, false
	}
	k := w.check.order[w.rng.IntN(len(w.check.order))]
	return k, !w.check.runs[k].deleted
}

// intervene is one random intervention.
func (w *World) intervene(p *proc) {
	if w.quiet {
		return // it came too late
	}
	d := w.sc.Dags[w.rng.IntN(len(w.sc.Dags))]
	dag := airflow.DagID(d.spec.ID)
	key, ok := w.someRun()
	expected := func(err error) {
		for _, e := range []error{airflow.ErrNotFound, airflow.ErrAlreadyExists, airflow.ErrConflict, airflow.ErrThrottled, airflow.ErrUnavailable, airflow.ErrNotAllowed, kv.ErrClosed} {
			if errors.Is(err, e) {
				return
			}
		}
		var invalid *airflow.InvalidError
		if err != nil && !errors.As(err, &invalid) {
			w.fail("an intervention failed with an unexpected error: %v", err)
		}
	}
	switch x := w.rng.IntN(100); {
	case x < 25 && ok:
		w.check.touched[key] = true
		q := engine.ClearRequest{LatestVersion: w.chance(0.4)}
		q.ResetDagRun = w.chance(0.8)
		q.OnlyFailed, q.OnlyRunning = w.chance(0.3), w.chance(0.1)
		q.Selection = w.selection(key, 0.3)
		_, err := p.eng.Clear(w.ctx, key, q)
		w.tracef("%s: clear %s %+v: %v", p, key, q, err)
		expected(err)
		w.tell(p, key.DagID, &key)
	case x < 37 && ok:
		w.check.touched[key] = true
		o := scheduler.MarkOptions{Selection: w.selection(key, 0), State: pick(w, airflow.TISuccess, airflow.TIFailed, airflow.TISkipped)}
		_, err := p.eng.MarkTask(w.ctx, key, o, "person")
		w.tracef("%s: mark tasks of %s %+v: %v", p, key, o, err)
		expected(err)
		w.tell(p, key.DagID, &key)
	case x < 47 && ok:
		w.check.touched[key] = true
		s := pick(w, airflow.RunSuccess, airflow.RunFailed, airflow.RunQueued)
		_, err := p.eng.MarkRun(w.ctx, key, s, "person")
		w.tracef("%s: mark run %s %s: %v", p, key, s, err)
		expected(err)
		w.tell(p, key.DagID, &key)
	case x < 60:
		_, err := p.eng.SetPaused(w.ctx, dag, true, "person")
		w.tracef("%s: pause %s: %v", p, dag, err)
		expected(err)
		d.pausedAt = w.now
		w.tell(p, dag, nil)
		w.after(w.between(time.Second, 10*time.Minute), false, func() { w.act(func(p *proc) { w.unpause(p, d) }) })
	case x < 70 && len(w.sc.Pools) > 0:
		i := w.rng.IntN(len(w.sc.Pools))
		pool := w.sc.Pools[i]
		pool.Slots = w.rng.IntN(pool.Slots + 2)
		err := p.eng.PutPool(w.ctx, pool)
		w.tracef("%s: pool %s has %d slots: %v", p, pool.Name, pool.Slots, err)
		expected(err)
	case x < 76:
		w.edit(d)
	case x < 80:
		w.breakFile(d)
	case x < 85 && ok && !w.sc.Two: // two schedulers do not tell each other of deletions
		w.check.deleting(key)
		err := p.eng.DeleteRun(w.ctx, key)
		w.tracef("%s: delete %s: %v", p, key, err)
		expected(err)
		w.tell(p, key.DagID, &key)
	case x < 94 && d.spec.Cron != "":
		b := airflow.Backfill{DagID: dag, FromDate: w.start.Add(-30 * time.Minute), ToDate: w.start.Add(w.between(-20*time.Minute, 10*time.Minute)),
			Reverse: w.chance(0.3), MaxActiveRuns: 1 + w.rng.IntN(3), RunOnLatestVersion: w.chance(0.5),
			ReprocessBehavior: pick(w, airflow.ReprocessNone, airflow.ReprocessFailed, airflow.ReprocessCompleted)}
		b, runs, err := p.eng.CreateBackfill(w.ctx, engine.BackfillRequest{Backfill: b, User: "person"})
		w.tracef("%s: backfill %d of %s, %d runs: %v", p, b.ID, dag, len(runs), err)
		expected(err)
		if err != nil {
			return
		}
		w.stats.Backfills++
		w.tell(p, dag, nil)
		if w.chance(0.4) {
			w.after(w.between(time.Second, 2*time.Minute), false, func() {
				w.act(func(p *proc) {
					if w.quiet {
						return
					}
					if w.chance(0.3) {
						_, err := p.eng.CancelBackfill(w.ctx, b.ID, "person")
						w.tracef("%s: cancel backfill %d: %v", p, b.ID, err)
						expected(err)
						w.tell(p, dag, nil)
						return
					}
					_, err := p.eng.PauseBackfill(w.ctx, b.ID, true)
					w.tracef("%s: pause backfill %d: %v", p, b.ID, err)
					expected(err)
					w.tell(p, dag, nil)
				})
			})
			w.after(w.between(2*time.Minute, 8*time.Minute), false, func() { w.act(func(p *proc) { w.resumeBackfill(p, b) }) })
		}
	case x < 97 && d.assets != nil:
		a := d.assets[0]
		_, err := p.eng.CreateAssetEvent(w.ctx, store.AssetKey{Name: a, URI: a}, json.RawMessage(`{}`))
		w.tracef("%s: asset event of %s: %v", p, a, err)
		expected(err)
		w.tell(p, dag, nil)
	case ok:
		w.explain(p, key)
	}
}

// explain asks why a run does not move, and checks that each reason says
// something and what ends the wait.
func (w *World) explain(p *proc, key store.RunKey) {
	reasons, err := p.eng.Explain(w.ctx, key)
	if err != nil {
		return
	}
	for _, r := range reasons {
		if r.Code == "" || r.Text == "" || r.WakesBy == "" {
			w.fail("explain %s: a reason says nothing: %+v", key, r)
		}
	}
}

func (w *World) unpause(p *proc, d *simDag) {
	_, err := p.eng.SetPaused(w.ctx, airflow.DagID(d.spec.ID), false, "person")
	w.tracef("%s: un-pause %s: %v", p, d.spec.ID, err)
	w.tell(p, airflow.DagID(d.spec.ID), nil)
}

func (w *World) resumeBackfill(p *proc, b airflow.Backfill) {
	_, err := p.eng.PauseBackfill(w.ctx, b.ID, false)
	w.tracef("%s: resume backfill %d: %v", p, b.ID, err)
	w.tell(p, b.DagID, nil)
}

// selection draws tasks of a run; all of them with probability all.
func (w *World) selection(key store.RunKey, all float64) scheduler.Selection {
	var s scheduler.Selection
	if w.chance(all) {
		return s
	}
	d := w.dag(string(key.DagID))
	for n := 1 + w.rng.IntN(2); n > 0; n-- {
		t := scheduler.TaskSelection{TaskID: airflow.TaskID(d.spec.Tasks[w.rng.IntN(len(d.spec.Tasks))].ID)}
		if w.chance(0.15) {
			t.MapIndexes = []int{w.rng.IntN(3)}
		}
		s.Tasks = append(s.Tasks, t)
	}
	s.Downstream, s.Upstream = w.chance(0.5), w.chance(0.1)
	return s
}

// edit makes a new version of a DAG.
func (w *World) edit(d *simDag) {
	w.stats.Edits++
	// Versions share nothing: earlier ones are pinned by runs.
	tasks := make([]enginetest.Task, len(d.spec.Tasks))
	for i, t := range d.spec.Tasks {
		t.Upstream = append([]string(nil), t.Upstream...)
		f := map[string]any{}
		for k, v := range t.Fields {
			f[k] = v
		}
		t.Fields = f
		tasks[i] = t
	}
	fields := map[string]any{}
	for k, v := range d.spec.Fields {
		fields[k] = v
	}
	d.spec.Tasks, d.spec.Fields = tasks, fields
	d.spec.Groups = append([]enginetest.Group(nil), d.spec.Groups...)
	switch x := w.rng.IntN(4); {
	case x == 0 && len(d.spec.Tasks) > 1:
		k := w.rng.IntN(len(d.spec.Tasks))
		id := d.spec.Tasks[k].ID
		d.spec.Tasks = append(d.spec.Tasks[:k:k], d.spec.Tasks[k+1:]...)
		for i := range d.spec.Tasks {
			t := &d.spec.Tasks[i]
			t.Upstream = without(t.Upstream, id)
			if t.ExpandOver == id {
				t.ExpandOver = ""
			}
		}
		for i := range d.spec.Groups {
			if g := &d.spec.Groups[i]; g.ExpandOver == id {
				g.ExpandOver = ""
			}
		}
		w.tracef("edit %s: without %s", d.spec.ID, id)
	case x == 1:
		w.addTask(w.sc, d, "layers", w.chance(0.2))
		w.tracef("edit %s: with %s", d.spec.ID, d.spec.Tasks[len(d.spec.Tasks)-1].ID)
	case x == 2 && !d.wide:
		d.spec.Fields["max_active_tasks"] = 1 + w.rng.IntN(6)
		d.spec.Fields["max_active_runs"] = 1 + w.rng.IntN(4)
		w.tracef("edit %s: %v", d.spec.ID, d.spec.Fields)
	default:
		t := &d.spec.Tasks[w.rng.IntN(len(d.spec.Tasks))]
		t.Fields["retries"] = w.rng.IntN(3)
		w.tracef("edit %s: %s has %d retries", d.spec.ID, t.ID, t.Fields["retries"])
	}
	w.register(d)
}

// breakFile makes the file of a DAG unreadable, or takes it away, until it is
// mended: by an edit, or as it was.
func (w *World) breakFile(d *simDag) {
	w.stats.Broken++
	d.broken, d.gone = true, false
	if w.chance(0.4) {
		d.broken, d.gone, d.missed = false, true, true
	}
	w.tracef("the file of %s is broken (%t) or gone (%t)", d.spec.ID, d.broken, d.gone)
	w.fileIs(d)
	w.after(w.between(time.Second, 10*time.Minute), false, func() { w.mend(d) })
}

// mend makes the file of a DAG good again.
func (w *World) mend(d *simDag) {
	switch {
	case !d.broken && !d.gone:
	case w.chance(0.3) && !w.quiet:
		w.edit(d)
	default:
		d.broken, d.gone = false, false
		w.tracef("the file of %s is mended", d.spec.ID)
		w.fileIs(d)
	}
}

// fileIs records what has become of a DAG's file, as the DAG processor does.
func (w *World) fileIs(d *simDag) {
	dag := airflow.DagID(d.spec.ID)
	_, err := w.clean.UpdateDag(w.ctx, dag, func(m *airflow.DagModel) error {
		m.HasImportErrors, m.IsStale = d.broken, d.gone
		return nil
	})
	if err != nil {
		panic(err)
	}
	for _, p := range w.procs {
		if p.alive {
			p.eng.DagChanged(dag) // only notes it
		}
	}
}

// calmDown ends all faults: from here on, whatever is left to do must get done.
func (w *World) calmDown() {
	w.quiet = true
	w.mem.Settle()
	w.tracef("the faults stop")
	for _, d := range w.sc.Dags {
		w.mend(d)
	}
	for _, p := range w.procs {
		if p.alive {
			p.faults.Pause(true)
			p.gate.crashIn = -1
		}
	}
	for _, pool := range w.sc.Pools {
		w.after(0, false, func() { w.act(func(p *proc) { _ = p.eng.PutPool(w.ctx, pool) }) })
	}
	w.after(time.Second, false, func() {
		w.act(func(p *proc) {
			for _, d := range w.sc.Dags {
				w.unpause(p, d)
			}
			bs, err := w.clean.ListActiveBackfills(w.ctx)
			if err != nil {
				panic(err)
			}
			for _, b := range bs {
				if b.IsPaused {
					w.resumeBackfill(p, b)
				}
			}
		})
	})
}

// Get implements kv.Driver. What the harness reads is up to date.
func (s *seenDriver) Get(ctx context.Context, key kv.Key, _ bool) (kv.Item, error) {
	return s.Driver.Get(ctx, key, true)
}

// BatchGet implements kv.Driver.
func (s *seenDriver) BatchGet(ctx context.Context, keys []kv.Key, _ bool) (map[kv.Key]kv.Item, error) {
	return s.Driver.BatchGet(ctx, keys, true)
}

// Write implements kv.Driver.
func (s *seenDriver) Write(ctx context.Context, op kv.Op) error {
	s.note(op)
	return s.Driver.Write(ctx, op)
}

// Transact implements kv.Driver.
func (s *seenDriver) Transact(ctx context.Context, token string, ops []kv.Op) error {
	for _, op := range ops {
		s.note(op)
	}
	return s.Driver.Transact(ctx, token, ops)
}
