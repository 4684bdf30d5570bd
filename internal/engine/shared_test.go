package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

var (
	sharedSeeds = flag.Int("shared.seeds", 40, "seeds of TestManySchedulers")
	sharedSeed  = flag.Int64("shared.seed", -1, "only this seed")
)

// crash is the death of an invocation.
type crash struct{}

// cloud is many schedulers and workers on one store with the delivery of AWS: at
// least once, in any order, indexes behind, invocations that die anywhere and
// others that run in the middle of them.
type cloud struct {
	t     *testing.T
	rng   *rand.Rand
	clock *enginetest.Clock
	mem   *memkv.Store
	store *store.Store // without faults
	fault *faultkv.Store
	calm  bool
	depth int
	dying int // invocations that may die now: calls until then, 0 = none

	events     []engine.Delivery
	dispatches []worker.Dispatch
	warm       []*engine.Engine // that keep what they knew
	started    map[string]int
	busy       map[string]task // claimed and not ended
	pools      map[string]int
	maxRuns    map[string]int
	many       []string // DAGs that are all due at the same times
	ids        int
	wideFrom   int // instances from which the reports on a run are gathered
	left       int // reports left to who steps a run
	gathered   int // writes of leases
	hurried    int // how much shorter tasks are
	trouble    []string
}

type task struct {
	d    worker.Dispatch
	who  worker.Identity
	tc   *worker.TaskContext
	b    *engine.Backend
	dead bool
	end  time.Time
}

func (c *cloud) fail(format string, args ...any) {
	c.trouble = append(c.trouble, fmt.Sprintf(format, args...))
}

// Send implements engine.Outbox.
func (c *cloud) Send(_ context.Context, ms []engine.Message) error {
	if !c.calm && c.rng.IntN(60) == 0 {
		return errors.New("queue: no answer")
	}
	for _, m := range ms {
		if err := m.Check(); err != nil {
			c.fail("message %+v: %v", m, err)
		}
		if d := m.At.Sub(c.clock.Now()); d > engine.MaxDelay {
			c.fail("message %v ahead", d)
		}
		c.events = append(c.events, engine.Delivery{Message: m})
		if !c.calm && c.rng.IntN(20) == 0 {
			c.events = append(c.events, engine.Delivery{Message: m})
		}
	}
	return nil
}

// Submit implements engine.Submitter.
func (c *cloud) Submit(_ context.Context, ds []worker.Dispatch) error {
	for i, d := range ds {
		if !c.calm && c.rng.IntN(80) == 0 && i > 0 {
			return errors.New("queue: no answer")
		}
		c.dispatches = append(c.dispatches, d)
		if !c.calm && c.rng.IntN(20) == 0 {
			c.dispatches = append(c.dispatches, d)
		}
	}
	return nil
}

// Cancel implements engine.Submitter.
func (c *cloud) Cancel(worker.Dispatch, string) {}

func (c *cloud) newEngine(passive bool) *engine.Engine {
	return engine.New(engine.Options{
		Store: store.New(c.fault, nil), Submitter: c, Outbox: c, Passive: passive, Now: c.clock.Now, Handlers: 1, PanicsEscape: true,
		WideFrom: c.wideFrom, Pause: c.pause,
		Config: engine.Config{Parallelism: -1, DefaultPoolSlots: -1, MaxMapLength: 2000, HeartbeatTimeout: 3 * time.Minute, DueHere: 3, DueBatch: 15, DueRate: 4},
		NewID:  func() string { c.ids++; return fmt.Sprintf("id%08d", c.ids) },
	})
}

// pause lets others work while one gathers.
func (c *cloud) pause(time.Duration) {
	for range c.rng.IntN(4) {
		if c.depth < 3 {
			c.one()
		}
	}
}

// invoke runs f as an invocation that may die.
func (c *cloud) invoke(f func(*engine.Engine)) (died bool) {
	var e *engine.Engine
	at := -1
	if n := len(c.warm); n > 0 && c.rng.IntN(3) > 0 {
		at = c.rng.IntN(n)
		e = c.warm[at]
		c.warm = slices.Delete(c.warm, at, at+1) // a sandbox takes one invocation at a time
	} else {
		e = c.newEngine(false)
	}
	before := c.dying
	c.dying = 0
	if !c.calm && c.rng.IntN(12) == 0 {
		c.dying = 1 + c.rng.IntN(25)
	}
	c.depth++
	defer func() {
		c.depth--
		c.dying = before
		if p := recover(); p != nil {
			if _, ok := p.(crash); !ok {
				panic(p)
			}
			died = true
			return
		}
		if len(c.warm) < 4 {
			c.warm = append(c.warm, e)
		}
	}()
	f(e)
	return false
}

func newCloud(t *testing.T, seed int64) *cloud {
	c := &cloud{t: t, rng: rand.New(rand.NewPCG(uint64(seed), 7)), clock: enginetest.NewClock(), started: map[string]int{}, busy: map[string]task{}, pools: map[string]int{}, maxRuns: map[string]int{}}
	c.mem = memkv.New(memkv.Options{IndexLag: c.rng.IntN(8), ReadLag: c.rng.IntN(8), Now: c.clock.Now})
	c.store = store.New(c.mem, nil)
	if seed%2 == 1 { // most runs are wide
		c.wideFrom, c.hurried = 1+c.rng.IntN(6), 30
	}
	odds := faultkv.Odds{FailBefore: 0.004, TimeoutAfter: 0.006, Throttle: 0.004, Delay: 0.03}
	c.fault = faultkv.New(c.mem, faultkv.Options{
		Seed: uint64(seed), Odds: func(faultkv.Call) faultkv.Odds {
			if c.wideFrom > 0 || c.hurried > 0 {
				odds.Delay = 0.3 // they meet more often
			}
			if c.calm {
				return faultkv.Odds{Delay: odds.Delay}
			}
			return odds
		},
		Delay: func(context.Context, faultkv.Call) {
			if c.depth > 0 && c.depth < 3 {
				c.one() // another invocation runs meanwhile
			}
		},
		Before: c.maybeDie, After: func(call faultkv.Call, err error) {
			switch {
			case err == nil && call.Method == "write" && call.Key.SK == "LEASE":
				c.gathered++
			case err == nil && call.Method == "write" && strings.HasPrefix(call.Key.PK, "MAIL#"):
				c.left++
			}
			c.maybeDie(call)
		},
	})
	return c
}

func (c *cloud) maybeDie(faultkv.Call) {
	if c.dying > 0 {
		if c.dying--; c.dying == 0 {
			panic(crash{})
		}
	}
}

// one lets one thing happen; false if nothing is due now.
func (c *cloud) one() bool {
	now := c.clock.Now()
	var due []int
	for i, d := range c.events {
		if !d.At.After(now) {
			due = append(due, i)
		}
	}
	switch {
	case c.hurried > 0 && c.rng.IntN(3) > 0 && c.finishOne(now):
		return true // reports pile up
	case len(due) > 0 && (len(c.dispatches) == 0 || c.rng.IntN(2) == 0):
		n := 1 + c.rng.IntN(min(10, len(due)))
		if c.hurried > 0 {
			n = min(n, 3)
		}
		c.rng.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
		due = due[:n]
		slices.Sort(due)
		batch := make([]engine.Delivery, n)
		for i := n - 1; i >= 0; i-- {
			batch[i] = c.events[due[i]]
			c.events = slices.Delete(c.events, due[i], due[i]+1)
			batch[i].ReceiveCount++
		}
		var failed []int
		died := c.invoke(func(e *engine.Engine) { failed = e.Handle(context.Background(), batch) })
		for i, d := range batch {
			if died || slices.Contains(failed, i) || !c.calm && c.rng.IntN(60) == 0 {
				d.At = now.Add(time.Duration(1+c.rng.IntN(30)) * time.Second) // visibility
				c.events = append(c.events, d)
			}
		}
		return true
	case len(c.dispatches) > 0:
		i := c.rng.IntN(len(c.dispatches))
		d := c.dispatches[i]
		c.dispatches = slices.Delete(c.dispatches, i, i+1)
		c.start(d)
		return true
	}
	return c.finishOne(now)
}

// finishOne ends a task whose time has come; false if there is none.
func (c *cloud) finishOne(now time.Time) bool {
	for _, k := range c.due(now) {
		t := c.busy[k]
		delete(c.busy, k)
		if t.dead {
			continue
		}
		c.finish(t)
		return true
	}
	return false
}

func (c *cloud) due(now time.Time) (ks []string) {
	for k, t := range c.busy {
		if !t.end.After(now) {
			ks = append(ks, k)
		}
	}
	slices.Sort(ks)
	return ks
}

// start claims a dispatch.
func (c *cloud) start(d worker.Dispatch) {
	b := engine.NewBackend(c.newEngine(true), nil, nil, nil)
	c.ids++
	who := worker.Identity{Hostname: "w", PID: c.ids, Unixname: "u"}
	var tc *worker.TaskContext
	var err error
	for range 8 {
		c.depth += 3 // nothing runs inside of it
		tc, err = b.Claim(context.Background(), d, who)
		c.depth -= 3
		if err == nil || !errors.Is(err, airflow.ErrThrottled) && !errors.Is(err, airflow.ErrUnavailable) {
			break
		}
	}
	if errors.Is(err, airflow.ErrThrottled) || errors.Is(err, airflow.ErrUnavailable) {
		c.dispatches = append(c.dispatches, d)
		return
	}
	if err != nil {
		if !errors.Is(err, airflow.ErrSuperseded) {
			c.fail("claim of %s: %v", d, err)
		}
		return
	}
	id := d.String()
	if c.started[id]++; c.started[id] > 1 {
		c.fail("%s started %d times", id, c.started[id])
	}
	t := task{d: d, who: who, tc: tc, b: b, end: c.clock.Now().Add(time.Duration(c.rng.IntN(90)) * time.Second / time.Duration(max(1, c.hurried))), dead: !c.calm && c.rng.IntN(25) == 0}
	c.busy[id] = t
	c.check(d)
}

// check counts what runs against the limits across runs.
func (c *cloud) check(d worker.Dispatch) {
	if len(c.pools) == 0 {
		return // nothing is limited, and it is asked of hundreds
	}
	used, perTask := map[string]int{}, map[string]int{}
	for _, t := range c.busy {
		if t.dead {
			continue // nobody knows yet, its slot may be given on once it is lost
		}
		if a, err := c.store.GetAttempt(context.Background(), t.d.Key); err != nil || a.MinDispatchSeq > t.d.DispatchSeq || a.DispatchSeq > t.d.DispatchSeq {
			continue // cleared or marked while it runs: its slot was given back, as in Airflow
		}
		used[t.tc.Task.Pool] += t.tc.Task.PoolSlots
		perTask[string(t.d.Key.DagID)+"/"+string(t.d.Key.TaskID)]++
		if m := t.tc.Task.MaxActiveTIsPerDag; m > 0 && perTask[string(t.d.Key.DagID)+"/"+string(t.d.Key.TaskID)] > m {
			c.fail("more than %d instances of %s run", m, t.d.Key.TaskID)
		}
	}
	for p, n := range used {
		if size := c.pools[p]; size > 0 && n > size {
			c.fail("%d of %d slots of pool %s are used after the start of %s", n, size, p, d)
		}
	}
}

func (c *cloud) finish(t task) {
	r := worker.Report{EndDate: c.clock.Now(), Outcome: worker.OutcomeSuccess}
	if c.rng.IntN(6) == 0 {
		r.Outcome, r.Error = worker.OutcomeFailed, "boom"
	}
	for range 10 {
		c.depth += 3
		err := t.b.Finish(context.Background(), t.d, &r)
		c.depth -= 3
		if err == nil || errors.Is(err, airflow.ErrSuperseded) {
			return
		}
		if !errors.Is(err, airflow.ErrThrottled) && !errors.Is(err, airflow.ErrUnavailable) {
			c.fail("finish of %s: %v", t.d, err)
			return
		}
	}
}

func (c *cloud) register(d enginetest.DAG) {
	h := &enginetest.Harness{Store: c.store, Clock: c.clock, Queue: &enginetest.Queue{}, Outbox: &enginetest.Outbox{}}
	h.Engine = h.NewEngine(true)
	if _, err := h.Register(context.Background(), d); err != nil {
		c.t.Fatal(err)
	}
}

// build registers random DAGs.
func (c *cloud) build() (dags []string) {
	for p := range 2 {
		name := fmt.Sprint("p", p)
		c.pools[name] = 1 + c.rng.IntN(4)
		if err := c.store.PutPool(context.Background(), airflow.Pool{Name: name, Slots: c.pools[name], IncludeDeferred: c.rng.IntN(2) == 0}); err != nil {
			c.t.Fatal(err)
		}
	}
	for i := range 1 + c.rng.IntN(4) {
		d := enginetest.DAG{ID: fmt.Sprint("d", i), Fields: map[string]any{"max_active_runs": 1 + c.rng.IntN(3), "max_active_tasks": 1 + c.rng.IntN(6)}}
		c.maxRuns[d.ID] = d.Fields["max_active_runs"].(int)
		if c.rng.IntN(3) == 0 {
			d.Cron = "*/5 * * * *"
			d.Fields["catchup"] = false
			d.Fields["end_date"] = float64(enginetest.Epoch.Add(2 * time.Hour).Unix())
		}
		for j := range 1 + c.rng.IntN(7) {
			f := map[string]any{"retries": c.rng.IntN(3), "retry_delay": float64(1 + c.rng.IntN(120)), "priority_weight": 1 + c.rng.IntN(4)}
			if c.rng.IntN(2) == 0 {
				f["pool"] = fmt.Sprint("p", c.rng.IntN(2))
				f["pool_slots"] = 1 + c.rng.IntN(min(2, c.pools[f["pool"].(string)]))
			}
			if c.rng.IntN(4) == 0 {
				f["max_active_tis_per_dag"] = 1 + c.rng.IntN(2)
			}
			if c.rng.IntN(6) == 0 && d.Cron == "" {
				f["trigger_rule"] = "all_done"
			}
			task := enginetest.Task{ID: fmt.Sprint("t", j), Fields: f}
			if c.rng.IntN(5) == 0 {
				task.ExpandLit = 1 + c.rng.IntN(6)
			}
			if c.wideFrom > 0 && c.rng.IntN(4) == 0 {
				task.ExpandLit = 10 + c.rng.IntN(20)
				d.Fields["max_active_tasks"] = 30
			}
			for k := range j {
				if c.rng.IntN(3) == 0 {
					task.Upstream = append(task.Upstream, fmt.Sprint("t", k))
				}
			}
			d.Tasks = append(d.Tasks, task)
		}
		c.register(d)
		dags = append(dags, d.ID)
	}
	if c.rng.IntN(3) == 0 {
		dags = append(dags, c.buildMany()...)
	}
	return dags
}

// manyDates are the dates of the DAGs of buildMany.
var manyDates = []time.Time{enginetest.Epoch.Add(10 * time.Minute), enginetest.Epoch.Add(40 * time.Minute)}

// buildMany registers DAGs that are all due at once, more than a tick plans itself
// or hands on with one request. They are un-paused for ever, so that each has one
// run of every date in the end.
func (c *cloud) buildMany() []string {
	for i := range 10 + c.rng.IntN(40) {
		d := enginetest.DAG{ID: fmt.Sprintf("many%02d", i), Cron: "10,40 0 1 3 *", Tasks: []enginetest.Task{{ID: "t", Empty: c.rng.IntN(4) > 0}}}
		d.Fields = map[string]any{"max_active_runs": 4, "catchup": true, "start_date": float64(enginetest.Epoch.Unix()), "end_date": float64(enginetest.Epoch.Add(2 * time.Hour).Unix())}
		c.maxRuns[d.ID] = 4
		c.register(d)
		c.many = append(c.many, d.ID)
		c.events = append(c.events, engine.Delivery{Message: engine.Message{Kind: engine.MessageDag, DagID: airflow.DagID(d.ID)}})
	}
	return c.many
}

// manyDue is how many DAGs of buildMany still wait for a date.
func (c *cloud) manyDue() (n int) {
	for _, dag := range c.many {
		m, err := c.store.GetDag(context.Background(), airflow.DagID(dag))
		if err != nil {
			c.t.Fatal(err)
		}
		if m.NextDagRunCreateAfter != nil || m.LastAutomatedIntervalEnd == nil {
			n++
		}
	}
	return n
}

// manyPlanned checks that no date of the DAGs of buildMany was lost or had twice.
func (c *cloud) manyPlanned() {
	for _, dag := range c.many {
		runs, _, err := c.store.ListRuns(context.Background(), airflow.DagID(dag), store.ListOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		var got []time.Time
		for _, r := range runs {
			if r.RunType == airflow.RunTypeScheduled {
				got = append(got, r.LogicalDate.UTC())
			}
		}
		if !slices.Equal(got, manyDates) {
			c.fail("DAG %s has scheduled runs of %v", dag, got)
		}
	}
}

// runsWithinLimits checks max_active_runs.
func (c *cloud) runsWithinLimits(dags []string) {
	for _, dag := range dags {
		running := 0
		runs, _, err := c.store.ListRuns(context.Background(), airflow.DagID(dag), store.ListOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range runs {
			if r.State == airflow.RunRunning {
				running++
			}
		}
		if running > c.maxRuns[dag] {
			c.fail("%d runs of %s are running, %d may", running, dag, c.maxRuns[dag])
		}
	}
}

// TestManySchedulers runs random DAGs on schedulers that come and go. Nothing is
// lost, no dispatch starts twice, no limit is exceeded, and in the end every run
// has ended and no ledger holds anything.
func TestManySchedulers(t *testing.T) {
	first, n := int64(0), int64(*sharedSeeds)
	if *sharedSeed >= 0 {
		first, n = *sharedSeed, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { manySchedulers(t, seed, 12, (*cloud).build) })
	}
}

// TestManySchedulersWide is TestManySchedulers with runs whose state is many
// items: hundreds of mapped instances that report at the same time.
func TestManySchedulersWide(t *testing.T) {
	first, n := int64(0), int64(max(2, *sharedSeeds/20))
	if *sharedSeed >= 0 {
		first, n = *sharedSeed, 1
	}
	left := 0
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { left += manySchedulers(t, seed, 2, (*cloud).buildWide).left })
	}
	if left == 0 && n > 2 {
		t.Error("nobody left a report to another scheduler: nothing was tested")
	}
}

// buildWide registers a DAG that maps hundreds of instances over each other.
func (c *cloud) buildWide() (dags []string) {
	c.wideFrom = 100
	n := 270 + c.rng.IntN(200)
	f := func() map[string]any { return map[string]any{"retries": c.rng.IntN(2), "retry_delay": 30.0} }
	d := enginetest.DAG{ID: "wide", Fields: map[string]any{"max_active_runs": 2, "max_active_tasks": 100 + c.rng.IntN(1000)}, Tasks: []enginetest.Task{
		{ID: "first", Fields: f()}, {ID: "map", Fields: f(), ExpandLit: n, Upstream: []string{"first"}},
		{ID: "last", Fields: map[string]any{"trigger_rule": "all_done"}, Upstream: []string{"map"}},
	}}
	c.maxRuns[d.ID] = 2
	c.hurried = 8
	c.register(d)
	return []string{d.ID}
}

func manySchedulers(t *testing.T, seed int64, most int, build func(*cloud) []string) *cloud {
	c := newCloud(t, seed)
	ctx := context.Background()
	dags := build(c)
	tool := c.newEngine(true)
	runs := 0
	for step := 0; step < 400 && len(c.trouble) == 0; step++ {
		if runs < most && c.rng.IntN(8) == 0 {
			runs++
			dag := dags[c.rng.IntN(len(dags))]
			now := c.clock.Now().Add(time.Duration(runs) * time.Millisecond)
			c.depth += 3
			_, err := tool.Trigger(ctx, engine.TriggerOptions{DagID: airflow.DagID(dag), RunID: airflow.RunID(fmt.Sprint("m", runs)), LogicalDate: &now, TriggeredBy: airflow.TriggeredByTest})
			c.depth -= 3
			_ = err // injected faults; the run may exist all the same
		}
		if c.rng.IntN(25) == 0 {
			c.intervene(tool, dags)
		}
		if !c.one() {
			c.advance()
		}
		c.runsWithinLimits(dags)
	}
	c.calm = true
	end := c.clock.Now().Add(20 * time.Hour)
	for c.clock.Now().Before(end) && len(c.trouble) == 0 {
		for c.one() && len(c.trouble) == 0 {
		}
		c.runsWithinLimits(dags)
		if c.over() && c.manyDue() == 0 {
			break
		}
		c.advance()
	}
	if !c.over() && len(c.trouble) == 0 {
		c.explain()
	}
	c.manyPlanned()
	for _, name := range func() []string { n, _ := c.store.ListSlots(ctx); return n }() {
		var l scheduler.Ledger
		if _, err := c.store.GetSlots(ctx, name, &l); err != nil || l.Used() != 0 {
			c.fail("ledger %s still holds %+v (%v)", name, l, err)
		}
	}
	for _, s := range c.trouble {
		t.Error(s)
	}
	if testing.Verbose() {
		t.Logf("reports left %d times, leases written %d times", c.left, c.gathered)
	}
	return c
}

// over reports whether all runs have ended.
func (c *cloud) over() bool {
	active, err := c.store.ListActiveRuns(context.Background(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	if len(c.busy) > 0 || len(c.dispatches) > 0 {
		return false
	}
	for _, r := range active {
		if !r.State.Finished() {
			return false
		}
	}
	return true
}

func (c *cloud) explain() {
	active, _ := c.store.ListActiveRuns(context.Background(), "")
	e := engine.New(engine.Options{Store: c.store, Passive: true, Now: c.clock.Now, Config: engine.Config{Parallelism: 1000, DefaultPoolSlots: -1}})
	for _, r := range active {
		key := store.RunKey{DagID: r.DagID, RunID: r.RunID}
		reasons, err := e.Explain(context.Background(), key)
		c.fail("run %s is %s (%v)", key, r.State, err)
		for _, why := range reasons {
			c.fail("  %s %s: %s", why.Key.TaskID, why.Code, why.Text)
		}
	}
	for _, name := range func() []string { n, _ := c.store.ListSlots(context.Background()); return n }() {
		var l scheduler.Ledger
		_, _ = c.store.GetSlots(context.Background(), name, &l)
		c.fail("ledger %s: %+v", name, l)
	}
}

// advance moves the clock to what comes next: an event, a task's end, the minute.
func (c *cloud) advance() {
	now := c.clock.Now()
	next := now.Truncate(time.Minute).Add(time.Minute)
	minute := next
	for _, d := range c.events {
		if d.At.After(now) && d.At.Before(next) {
			next = d.At
		}
	}
	for _, t := range c.busy {
		if t.end.After(now) && t.end.Before(next) {
			next = t.end
		}
	}
	c.clock.Set(next)
	if next.Equal(minute) {
		c.invoke(func(e *engine.Engine) {
			if err := e.TickServerless(context.Background()); err != nil && c.calm {
				c.fail("tick: %v", err)
			}
		})
	}
	for k, t := range c.busy {
		if t.dead {
			continue
		}
		if next.Equal(minute) {
			c.depth += 3
			err := t.b.Heartbeat(context.Background(), t.d, t.who)
			c.depth -= 3
			if errors.Is(err, airflow.ErrSuperseded) {
				delete(c.busy, k)
				for range 10 {
					c.depth += 3
					err := t.b.Yield(context.Background(), t.d, t.who)
					c.depth -= 3
					if err == nil {
						break
					}
				}
			}
		}
	}
}

// intervene does what people do.
func (c *cloud) intervene(tool *engine.Engine, dags []string) {
	ctx := context.Background()
	dag := airflow.DagID(dags[c.rng.IntN(len(dags))])
	c.depth += 3
	defer func() { c.depth -= 3 }()
	switch c.rng.IntN(4) {
	case 0:
		for range 12 { // un-paused again whatever the store does
			if _, err := tool.SetPaused(ctx, dag, true, "p"); err != nil {
				continue
			}
		}
		for range 12 {
			if _, err := tool.SetPaused(ctx, dag, false, "p"); err == nil {
				break
			}
		}
	case 1:
		p := fmt.Sprint("p", c.rng.IntN(2))
		size := c.pools[p] + c.rng.IntN(3) // never smaller: what runs may go on
		for range 12 {
			if err := tool.PutPool(ctx, airflow.Pool{Name: p, Slots: size}); err == nil {
				break
			}
		}
		if have, err := c.store.GetPool(ctx, p); err == nil {
			c.pools[p] = max(c.pools[p], have.Slots)
		}
	default:
		runs, _, err := c.store.ListRuns(ctx, dag, store.ListOptions{})
		if err != nil || len(runs) == 0 {
			return
		}
		key := store.RunKey{DagID: dag, RunID: runs[c.rng.IntN(len(runs))].RunID}
		if c.rng.IntN(2) == 0 {
			_, _ = tool.Clear(ctx, key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{ResetDagRun: true, OnlyFailed: c.rng.IntN(2) == 0}})
		} else {
			_, _ = tool.MarkRun(ctx, key, []airflow.DagRunState{airflow.RunSuccess, airflow.RunFailed}[c.rng.IntN(2)], "p")
		}
	}
}
