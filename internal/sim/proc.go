package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/worker"
)

// proc is one process with an engine: the scheduler, a second one, or a tool
// beside it (passive).
type proc struct {
	w       *World
	name    string
	gen     int
	passive bool
	alive   bool
	busy    bool // inside a call of its engine
	skew    time.Duration

	gate   *gate
	faults *faultkv.Store
	store  *store.Store
	eng    *engine.Engine
	be     *engine.Backend
	wake   time.Time // when its ticker fires; zero = only by events

	born                    time.Time
	lastSweep, lastDiscover time.Time
	needRecover             bool
}

func (p *proc) String() string { return fmt.Sprintf("%s.%d", p.name, p.gen) }

func (p *proc) clock() time.Time { return p.w.now.Add(p.skew) }

// gate is between a process's faults and the shared store: it is where the
// process dies, and where the checker sees what was applied.
type gate struct {
	p     *proc
	inner kv.Driver
	dead  bool
	// crashIn counts calls down to the death of the process; -1 = it lives.
	crashIn int
	after   bool // dies when the call has been done
}

func (g *gate) pass(ctx context.Context, what string, key kv.Key, f func() error) error {
	if g.dead {
		return kv.ErrClosed
	}
	if g.crashIn >= 0 && !g.p.w.quiet {
		if g.crashIn--; g.crashIn < 0 {
			g.dead = true
			g.p.w.stats.Crashes++
			g.p.w.tracef("%s dies %s %s %v", g.p, map[bool]string{true: "after", false: "before"}[g.after], what, key)
			if g.after {
				_ = f()
			}
			return kv.ErrClosed
		}
	}
	return f()
}

// Get implements kv.Driver.
func (g *gate) Get(ctx context.Context, key kv.Key, consistent bool) (it kv.Item, err error) {
	err = g.pass(ctx, "get", key, func() (err error) { it, err = g.inner.Get(ctx, key, consistent); return err })
	return it, err
}

// BatchGet implements kv.Driver.
func (g *gate) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (out map[kv.Key]kv.Item, err error) {
	err = g.pass(ctx, "batch get", kv.Key{}, func() (err error) { out, err = g.inner.BatchGet(ctx, keys, consistent); return err })
	return out, err
}

// Query implements kv.Driver.
func (g *gate) Query(ctx context.Context, q kv.Query) (page kv.Page, err error) {
	err = g.pass(ctx, "query", kv.Key{PK: q.PK}, func() (err error) { page, err = g.inner.Query(ctx, q); return err })
	return page, err
}

// Write implements kv.Driver.
func (g *gate) Write(ctx context.Context, op kv.Op) error {
	return g.pass(ctx, op.Kind.String(), op.ItemKey(), func() error {
		return g.p.w.check.write(ctx, g.p, op, func() error { return g.inner.Write(ctx, op) })
	})
}

// Transact implements kv.Driver.
func (g *gate) Transact(ctx context.Context, token string, ops []kv.Op) error {
	return g.pass(ctx, "transact", ops[0].ItemKey(), func() error {
		return g.p.w.check.transact(ctx, g.p, ops, func() error { return g.inner.Transact(ctx, token, ops) })
	})
}

// Limits implements kv.Driver.
func (g *gate) Limits() kv.Limits { return g.inner.Limits() }

// Close implements kv.Driver.
func (g *gate) Close() error { return nil }

// Submit implements engine.Submitter: what a dead process sends is lost.
func (g *gate) Submit(_ context.Context, ds []worker.Dispatch) error {
	if g.dead {
		return kv.ErrClosed
	}
	return g.p.w.submit(g.p, ds)
}

// Cancel implements engine.Submitter.
func (g *gate) Cancel(d worker.Dispatch, cause string) {
	if !g.dead {
		g.p.w.cancel(d, cause)
	}
}

// spawn starts the process's next generation.
func (p *proc) spawn() {
	w := p.w
	p.gen++
	p.gate = &gate{p: p, inner: w.mem, crashIn: -1}
	if w.sc.CrashEvery > 0 && !p.passive && !w.quiet {
		p.gate.crashIn, p.gate.after = w.rng.IntN(2*w.sc.CrashEvery), w.chance(0.5)
	}
	p.faults = faultkv.New(p.gate, faultkv.Options{
		Seed: w.seed ^ uint64(p.gen)<<32 ^ uint64(len(p.name)), Read: w.sc.Reads, Write: w.sc.Writes, Transact: w.sc.Writes,
		Delay: func(context.Context, faultkv.Call) { w.interleave(p) },
	})
	p.faults.Pause(w.quiet)
	if w.sc.Skew > 0 {
		p.skew = w.between(0, 2*w.sc.Skew) - w.sc.Skew
	}
	p.store = store.New(p.faults, nil)
	gate := p.gate
	p.eng = engine.New(engine.Options{
		Callbacks: callbacks{p, gate}, Background: p.background,
		Store: p.store, Submitter: gate, Config: w.config(), Now: p.clock, NewID: w.newID, Passive: p.passive, PanicsEscape: true,
		Records: func(r engine.Record) { w.check.record(p, r) }, Log: w.logger(p),
	})
	p.be = engine.NewBackend(p.eng, nil, nil, nil)
	p.alive, p.needRecover = true, !p.passive
	p.born, p.lastSweep, p.lastDiscover = w.now, w.now, w.now
	p.wake = w.now
	w.tracef("%s starts, skew %s", p, p.skew)
}

// reap notices that the process has died; it comes back after a while.
func (p *proc) reap() bool {
	if !p.alive || !p.gate.dead {
		return false
	}
	w := p.w
	w.stats.Faults += faults(p.faults)
	p.alive = false
	w.procDied(p)
	delay := w.between(100*time.Millisecond, 20*time.Second)
	if w.chance(0.1) {
		delay = w.between(time.Minute, 10*time.Minute)
	}
	w.after(delay, false, func() { p.spawn() })
	return true
}

func faults(s *faultkv.Store) (n int) {
	for _, c := range s.Log() {
		if c.Fault != faultkv.None {
			n++
		}
	}
	return n
}

// do calls the engine and notices if the process died of it.
func (p *proc) do(f func()) {
	if !p.alive || p.busy {
		return
	}
	p.busy = true
	f()
	p.busy = false
	p.reap()
}

// turn is what the loop of package engine does between two sleeps.
func (p *proc) turn() {
	if !p.alive || p.passive || p.busy {
		return
	}
	p.do(func() {
		w := p.w
		if p.needRecover {
			if err := p.eng.Recover(w.ctx, engine.RecoverOptions{Lost: p.lost()}); err != nil {
				// The server would not start; its supervisor tries again.
				w.tracef("%s does not start: %v", p, err)
				p.wake = w.now.Add(time.Second)
				if !p.gate.dead {
					p.gate.dead = true
				}
				return
			}
			p.needRecover = false
		}
		p.eng.Drain(w.ctx)
		var next time.Time
		var err error
		for i := 0; ; i++ {
			next, err = p.eng.NextTick(w.ctx)
			if err != nil || next.IsZero() || next.After(p.clock()) || i == 3 {
				break
			}
			if _, err = p.eng.Tick(w.ctx, 1); err != nil {
				break
			}
			p.eng.Drain(w.ctx)
		}
		if err == nil && !w.now.Before(p.lastSweep.Add(w.sc.SweepEvery)) {
			p.lastSweep = w.now
			w.stats.Sweeps++
			w.backstop = true
			err = p.eng.Sweep(w.ctx)
			p.eng.Drain(w.ctx)
			w.backstop = false
			next, _ = p.eng.NextTick(w.ctx)
		}
		if !w.now.Before(p.lastDiscover.Add(w.sc.DiscoverEvery)) {
			p.lastDiscover = w.now
			w.backstop = true
			if derr := p.eng.Discover(w.ctx); derr != nil {
				err = derr
			}
			p.eng.Drain(w.ctx)
			w.backstop = false
			next, _ = p.eng.NextTick(w.ctx)
		}
		switch {
		case err != nil:
			p.wake = w.now.Add(time.Second)
		case next.IsZero():
			p.wake = time.Time{}
		default:
			p.wake = next.Add(-p.skew)
			if least := w.now.Add(10 * time.Millisecond); p.wake.Before(least) {
				p.wake = least
			}
		}
	})
}

// periodic is when the process sweeps or discovers next.
func (p *proc) periodic() time.Time {
	a, b := p.lastSweep.Add(p.w.sc.SweepEvery), p.lastDiscover.Add(p.w.sc.DiscoverEvery)
	if b.Before(a) {
		return b
	}
	return a
}

// host names what a worker started by the process says it runs on.
func (p *proc) host() string { return p.String() }

// lost tells which workers died with an earlier generation of the process.
func (p *proc) lost() func(store.Attempt) bool {
	if !p.w.sc.Embedded {
		return nil
	}
	host := p.host()
	return func(a store.Attempt) bool { return a.Hostname != host }
}

// active returns a living scheduler process, drawn if there are two, or nil.
func (w *World) active() *proc {
	var ps []*proc
	for _, p := range w.procs {
		if p.alive && !p.passive && !p.needRecover {
			ps = append(ps, p)
		}
	}
	if len(ps) == 0 {
		return nil
	}
	return ps[w.rng.IntN(len(ps))]
}
