package sim

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// Violation is a broken invariant.
type Violation struct{ Text string }

func (v Violation) Error() string { return v.Text }

// event is something that happens at a time.
type event struct {
	at  time.Time
	seq int
	// apart: it touches no engine lock, so it may happen while a process waits for the store.
	apart bool
	f     func()
}

type eventHeap []*event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push and Pop implement heap.Interface.
func (h *eventHeap) Push(x any) { *h = append(*h, x.(*event)) }

// Pop implements heap.Interface.
func (h *eventHeap) Pop() any { o := *h; x := o[len(o)-1]; *h = o[:len(o)-1]; return x }

// World is one simulated installation.
type World struct {
	seed   uint64
	rng    *rand.Rand
	ctx    context.Context
	sc     *Scenario
	now    time.Time
	start  time.Time
	events eventHeap
	seq    int
	ids    int
	pids   int

	mem   *memkv.Store
	clean *store.Store // without faults, unseen by the checker
	procs []*proc
	main  *proc // the scheduler (of one or two)
	check *checker

	quiet      bool // the faults have stopped
	inside     int  // depth of interleaving
	backstop   bool // a sweep or discovery is going on
	lastChange time.Time
	lastWrite  time.Time
	trace      *trace
	stats      Stats
}

// Stats counts what happened, so that a simulation that exercises nothing shows.
type Stats struct {
	Runs, Commits, Claims, Reports, Crashes, Faults, Actions, Superseded, Interleaved, Sweeps int
	RunsWaiting, AssetRuns, Backfills, Edits                                                  int
	Callbacks, Deadlines, Broken, Teardowns, Grouped, Wide, Replayed                          int
}

func (s *Stats) add(o Stats) {
	s.Runs += o.Runs
	s.Commits += o.Commits
	s.Claims += o.Claims
	s.Reports += o.Reports
	s.Crashes += o.Crashes
	s.Faults += o.Faults
	s.Actions += o.Actions
	s.Superseded += o.Superseded
	s.Interleaved += o.Interleaved
	s.Sweeps += o.Sweeps
	s.RunsWaiting += o.RunsWaiting
	s.AssetRuns += o.AssetRuns
	s.Backfills += o.Backfills
	s.Edits += o.Edits
	s.Callbacks += o.Callbacks
	s.Deadlines += o.Deadlines
	s.Broken += o.Broken
	s.Teardowns += o.Teardowns
	s.Grouped += o.Grouped
	s.Wide += o.Wide
	s.Replayed += o.Replayed
}

// Result is how a simulation ended.
type Result struct {
	Err      error // a Violation, or nil
	Scenario *Scenario
	Trace    []string // only if it was asked for
	Dump     string   // digest of the store at the end
	Stats    Stats
}

// Run simulates the scenario of a seed.
func Run(seed uint64, traced bool) (res Result) {
	w := &World{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x6757)), ctx: context.Background(), now: enginetest.Epoch, start: enginetest.Epoch}
	if traced {
		w.trace = &trace{}
	}
	w.sc = w.newScenario()
	res.Scenario = w.sc
	w.mem = memkv.New(memkv.Options{Now: w.clock, IndexLag: w.sc.IndexLag, ReadLag: w.sc.ReadLag})
	w.clean = store.New(w.mem, nil)
	w.check = newChecker(w)
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(Violation)
			if !ok { // a bug of the product, or of the simulator
				v = Violation{fmt.Sprintf("panic: %v\n%s", r, debug.Stack())}
				w.tracef("%s", v.Text)
			}
			res.Err = v
		}
		res.Stats = w.stats
		res.Trace = w.trace.lines()
	}()
	w.setup()
	w.loop(w.start.Add(w.sc.Length))
	w.calmDown()
	w.loop(time.Time{})
	w.finalChecks()
	res.Dump = w.dump()
	return res
}

func (w *World) clock() time.Time { return w.now }

// fail ends the simulation.
func (w *World) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.tracef("VIOLATION: %s", text)
	panic(Violation{text})
}

// at schedules f.
func (w *World) at(t time.Time, apart bool, f func()) {
	w.seq++
	heap.Push(&w.events, &event{at: t, seq: w.seq, apart: apart, f: f})
}

func (w *World) after(d time.Duration, apart bool, f func()) { w.at(w.now.Add(d), apart, f) }

// chance is true with probability p.
func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between draws a duration.
func (w *World) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo))).Truncate(time.Millisecond)
}

func pick[T any](w *World, xs ...T) T { return xs[w.rng.IntN(len(xs))] }

// maxTurns bounds a simulation: beyond it the system never comes to rest.
const maxTurns = 200000

// loop lets time pass until the given time; zero: until nothing happens any more.
func (w *World) loop(until time.Time) {
	w.lastChange = w.now
	patience := 3*w.sc.Config.HeartbeatTimeout + 3*w.sc.Config.QueuedTimeout + 6*w.sc.SweepEvery
	for turns := 0; ; turns++ {
		if turns > maxTurns {
			w.fail("no rest after %d turns at %s", turns, w.now.Sub(w.start))
		}
		for _, p := range w.procs {
			p.turn()
		}
		next, idle := w.next()
		switch {
		case !until.IsZero() && next.After(until):
			if until.After(w.now) { // not after a jump
				w.now = until
			}
			return
		case until.IsZero() && idle && w.now.Sub(w.lastChange) > patience:
			return
		}
		if next.After(w.now) {
			w.now = next
			if w.sc.LagTime > 0 && next.Sub(w.lastWrite) > w.sc.LagTime {
				w.mem.Settle()
			}
		}
		for len(w.events) > 0 && !w.events[0].at.After(w.now) {
			e := heap.Pop(&w.events).(*event)
			e.f()
		}
	}
}

// next returns when something happens next; idle if that is only a sweep.
func (w *World) next() (next time.Time, idle bool) {
	idle = true
	take := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, p := range w.procs {
		if p.alive && !p.passive {
			take(p.periodic())
			if !p.wake.IsZero() {
				take(p.wake)
				idle = false
			}
		}
	}
	if len(w.events) > 0 {
		take(w.events[0].at)
		idle = false
	}
	return next, idle
}

// interleave lets others go on while p waits for the store.
func (w *World) interleave(p *proc) {
	if w.inside > 0 || w.quiet {
		return
	}
	w.inside++
	defer func() { w.inside-- }()
	for n := 1 + w.rng.IntN(3); n > 0; n-- {
		if w.chance(0.4) && len(w.procs) > 1 {
			q := w.procs[w.rng.IntN(len(w.procs))]
			if q != p && q.alive && !q.busy && !q.passive {
				w.stats.Interleaved++
				q.turn()
				continue
			}
		}
		limit := w.now.Add(5 * time.Second)
		var near []int
		for i, e := range w.events {
			if e.apart && e.at.Before(limit) {
				near = append(near, i)
			}
		}
		if len(near) == 0 {
			return
		}
		// The heap's own order is part of the history, so this is repeatable.
		e := heap.Remove(&w.events, near[w.rng.IntN(len(near))]).(*event)
		w.stats.Interleaved++
		e.f()
	}
}

func (w *World) newID() string {
	w.ids++
	return fmt.Sprintf("id%08d", w.ids)
}

// config returns the engine's settings.
func (w *World) config() engine.Config { return w.sc.Config }
