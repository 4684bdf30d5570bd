package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// limit is a finite limit across runs, kept in a ledger of the store.
type limit struct {
	name            string // of the ledger
	slots           int
	includeDeferred bool
	pool            string         // set for pools
	task            airflow.TaskID // set for max_active_tis_per_dag
}

// refusal is what a limit kept back of a task when the run last asked.
type refusal struct {
	limit string
	count int
}

// slotsUse is what a run has to do with one limit.
type slotsUse struct {
	held int
	want []scheduler.LedgerLane
}

// newRunAdmission is the authority over what limits a single run; limits across
// runs are set in it as the run's quota.
func newRunAdmission() *admission { return newAdmission(math.MaxInt) }

// slotsOf returns who hands out slots to a run: the authority of this process, or
// where ledgers are, the run's own.
func (e *Engine) slotsOf(r *run) *admission {
	if !e.shared {
		return e.admission
	}
	if r.slots == nil {
		r.slots = newRunAdmission()
	}
	return r.slots
}

// limitsOf lists the finite limits across runs that concern the tasks of a run, by name.
func (e *Engine) limitsOf(r *run) []limit {
	var out []limit
	seen := map[string]bool{}
	add := func(l limit) {
		if !seen[l.name] {
			seen[l.name] = true
			out = append(out, l)
		}
	}
	if e.cfg.Parallelism > 0 && len(r.graph.Tasks) > 0 {
		add(limit{name: "parallelism", slots: e.cfg.Parallelism})
	}
	for i := range r.graph.Tasks {
		n := &r.graph.Tasks[i]
		if p, ok := e.pools.get(n.Task.Pool); ok && p.Slots != airflow.UnlimitedSlots {
			add(limit{name: "pool:" + p.Name, slots: p.Slots, includeDeferred: p.IncludeDeferred, pool: p.Name})
		}
		if n.Task.MaxActiveTIsPerDag > 0 {
			add(limit{name: fmt.Sprintf("tis:%s:%s", r.key.DagID, n.ID), slots: n.Task.MaxActiveTIsPerDag, includeDeferred: true, task: n.ID})
		}
	}
	// The narrowest first: what one limit refuses is not asked of the next.
	sort.Slice(out, func(i, j int) bool {
		if a, b := out[i].width(), out[j].width(); a != b {
			return a < b
		}
		return out[i].name < out[j].name
	})
	return out
}

// width orders limits from those of a task to that of everything.
func (l limit) width() int {
	switch {
	case l.task != "":
		return 0
	case l.pool != "":
		return 1
	}
	return 2
}

func (l limit) concerns(n *scheduler.Node) bool {
	switch {
	case l.pool != "":
		return n.Task.Pool == l.pool
	case l.task != "":
		return n.ID == l.task
	}
	return true
}

// slotsEach is how many slots of the limit an instance takes.
func (l limit) slotsEach(n *scheduler.Node) int {
	if l.pool != "" {
		return n.Task.PoolSlots
	}
	return 1
}

// use works out what a run holds of each limit and what wants more.
func (e *Engine) use(r *run, limits []limit) []slotsUse {
	out := make([]slotsUse, len(limits))
	if len(limits) == 0 || r.state.Header.State.Finished() {
		return out
	}
	var date scheduler.Micros
	if d := r.state.Header.LogicalDate; d != nil {
		date = scheduler.At(*d)
	}
	lanes := make([]map[int32]int, len(limits)) // task -> index in want
	for pos := 0; pos < r.state.Len(); pos++ {
		ti := r.state.At(pos)
		holds, deferred, waits := ti.State.HoldsSlot(), ti.State == airflow.TIDeferred, ti.State == airflow.TIScheduled
		if !holds && !deferred && !waits || int(ti.Task) >= len(r.graph.Tasks) {
			continue
		}
		n := &r.graph.Tasks[ti.Task]
		for i, l := range limits {
			if !l.concerns(n) {
				continue
			}
			switch {
			case holds || deferred && l.includeDeferred:
				out[i].held += l.slotsEach(n)
			case waits:
				if lanes[i] == nil {
					lanes[i] = map[int32]int{}
				}
				at, ok := lanes[i][ti.Task]
				if !ok {
					at = len(out[i].want)
					lanes[i][ti.Task] = at
					out[i].want = append(out[i].want, scheduler.LedgerLane{Task: n.ID, Weight: n.Weight, Date: date, MapIndex: ti.MapIndex, Slots: l.slotsEach(n)})
				}
				lane := &out[i].want[at]
				lane.Count++
				lane.MapIndex = min(lane.MapIndex, ti.MapIndex)
			}
		}
	}
	return out
}

// ledgerAttempts bounds how often a ledger is read again because another
// scheduler wrote it meanwhile.
const ledgerAttempts = 40

// withLedger reads, changes and writes a ledger until nobody came in between.
// change reports whether there is anything to write.
func (e *Engine) withLedger(ctx context.Context, name string, change func(*scheduler.Ledger) bool) error {
	for attempt := 1; ; attempt++ {
		var l scheduler.Ledger
		v, err := e.store.GetSlots(ctx, name, &l)
		if err != nil {
			return fmt.Errorf("slots %s: %w", name, err)
		}
		if !change(&l) {
			return nil
		}
		err = e.store.PutSlots(ctx, name, v, &l)
		if err == nil || !errors.Is(err, airflow.ErrConflict) || attempt == ledgerAttempts {
			if err != nil {
				err = fmt.Errorf("slots %s: %w", name, err)
			}
			return err
		}
		time.Sleep(time.Duration(rand.Int64N(int64(min(attempt, 10)) * int64(2*time.Millisecond))))
	}
}

// admitShared queues what a run may start where limits across runs are kept in
// ledgers: slots are taken there before the step is committed.
func (e *Engine) admitShared(ctx context.Context, r *run, facts scheduler.Facts, o *outcome, now time.Time) error {
	a := e.slotsOf(r)
	held := facts.Paused || r.state.Header.State != airflow.RunRunning
	a.apply(r.key, r.graph, r.state, o.transitions)
	if r.state.Header.State.Finished() {
		a.end(r.key)
		return nil
	}
	a.hold(r.key, held)
	limits := e.limitsOf(r)
	uses := e.use(r, limits)
	var allowed map[airflow.TaskID]int
	if len(limits) > 0 {
		allowed = allowedInRun(r)
	}
	quotas := map[string]int{}
	r.refused = map[airflow.TaskID]refusal{}
	for i, l := range limits {
		u := &uses[i]
		if held {
			u.want = nil
		}
		quotas[l.name] = u.held
		if len(u.want) == 0 {
			continue
		}
		want := capLanes(u.want, allowed)
		if len(want) == 0 && len(r.settled[l.name].want) == 0 {
			continue
		}
		var given map[airflow.TaskID]int
		err := e.withLedger(ctx, l.name, func(led *scheduler.Ledger) bool {
			quota, granted, changed := led.Request(scheduler.RunKey(r.key), r.version, e.name, u.held, want, l.slots, scheduler.At(now))
			quotas[l.name] = quota
			given = granted
			return changed
		})
		if err != nil {
			return err
		}
		r.owes = append(r.owes, l.name)
		for _, lane := range want {
			allowed[lane.Task] = given[lane.Task]
			if n := lane.Count - given[lane.Task]; n > 0 && r.refused[lane.Task].count == 0 {
				r.refused[lane.Task] = refusal{l.name, n}
			}
		}
	}
	a.setQuotas(limits, quotas, e.pools.all(), r.key)
	if granted := a.pump(r.key); len(granted) > 0 {
		o.granted = slices.Clone(granted)
		trs := scheduler.Dispatch(r.graph, r.state, granted, 0, now)
		a.dispatched(r.key, granted, trs)
		o.transitions = append(o.transitions, trs...)
	}
	return nil
}

// allowedInRun is how many more instances of each task a run's own limits let
// be queued now: max_active_tasks, the most urgent tasks first, and
// max_active_tis_per_dagrun.
func allowedInRun(r *run) map[airflow.TaskID]int {
	open := r.graph.DAG.MaxActiveTasks
	busy, waits := map[int32]int{}, map[int32]int{}
	for pos := 0; pos < r.state.Len(); pos++ {
		ti := r.state.At(pos)
		switch {
		case ti.State.HoldsSlot():
			open--
			busy[ti.Task]++
		case ti.State == airflow.TIDeferred:
			busy[ti.Task]++
		case ti.State == airflow.TIScheduled:
			waits[ti.Task]++
		}
	}
	tasks := slices.Sorted(maps.Keys(waits))
	tasks = slices.DeleteFunc(tasks, func(t int32) bool { return int(t) >= len(r.graph.Tasks) })
	slices.SortStableFunc(tasks, func(a, b int32) int {
		return cmp.Compare(r.graph.Tasks[b].Weight, r.graph.Tasks[a].Weight)
	})
	allowed := map[airflow.TaskID]int{}
	for _, t := range tasks {
		n := &r.graph.Tasks[t]
		may := min(waits[t], max(0, open))
		if most := n.Task.MaxActiveTIsPerDagRun; most > 0 {
			may = min(may, max(0, most-busy[t]))
		}
		allowed[n.ID] = may
		open -= may
	}
	return allowed
}

// capLanes keeps of each lane what is allowed of its task.
func capLanes(lanes []scheduler.LedgerLane, allowed map[airflow.TaskID]int) []scheduler.LedgerLane {
	var out []scheduler.LedgerLane
	for _, l := range lanes {
		if l.Count = min(l.Count, allowed[l.Task]); l.Count > 0 {
			out = append(out, l)
		}
	}
	return out
}

// setQuotas makes limits across runs those of one run: what it may hold in all.
func (a *admission) setQuotas(limits []limit, quotas map[string]int, pools []airflow.Pool, key store.RunKey) {
	a.setPools(pools)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parallelism = math.MaxInt
	a.quotas = map[scheduler.TaskKey]int{}
	for _, l := range limits {
		switch q := quotas[l.name]; {
		case l.pool != "":
			p := a.pool(l.pool)
			p.ceiling, p.limited = q, true
		case l.task != "":
			a.quotas[scheduler.TaskKey{DagID: key.DagID, TaskID: l.task}] = q
		default:
			a.parallelism = q
		}
	}
}

// settle tells the ledgers what is true after a commit, and pokes the runs that
// were given slots..
func (e *Engine) settle(ctx context.Context, r *run) error {
	e.mu.Lock()
	force := e.unsettled[r.key]
	delete(e.unsettled, r.key)
	e.mu.Unlock()
	limits := e.limitsOf(r)
	uses := e.use(r, limits)
	var first error
	before := r.settled
	r.settled = map[string]slotsUse{}
	owed := map[string]bool{}
	for _, n := range r.owes {
		owed[n] = true
	}
	r.owes = nil
	for i, l := range limits {
		u := uses[i]
		var waiting []scheduler.LedgerLane
		for _, lane := range u.want {
			// What another limit keeps back does not wait for this one: given a slot, it
			// could not take it.
			if no := r.refused[lane.Task]; no.limit == l.name {
				lane.Count = min(lane.Count, no.count)
				waiting = append(waiting, lane)
			}
		}
		was := before[l.name]
		if !force && !owed[l.name] && was.held == u.held && len(was.want) == 0 && len(waiting) == 0 {
			r.settled[l.name] = u
			continue
		}
		var tell []scheduler.RunKey
		now := scheduler.At(e.utcNow())
		err := e.withLedger(ctx, l.name, func(led *scheduler.Ledger) (changed bool) {
			tell, changed = led.Settle(scheduler.RunKey(r.key), r.version, e.name, was.held, u.held, waiting, l.slots, now)
			return changed
		})
		if err != nil {
			r.owes = append(r.owes, l.name)
			if first == nil {
				first = err
			}
			continue
		}
		r.settled[l.name] = u
		for _, k := range tell {
			e.pokeFresh(store.RunKey(k))
		}
	}
	return first
}

// pokesHere is how often one invocation steps a run because others gave it slots.
const pokesHere = 10

// heldNow notes what a state that was just loaded holds, as settled by the step
// that wrote it. What waits in it may stand in a ledger, and may have been
// promised slots.
func (e *Engine) heldNow(r *run) {
	limits := e.limitsOf(r)
	r.settled = map[string]slotsUse{}
	for i, u := range e.use(r, limits) {
		r.settled[limits[i].name] = u
	}
}

// pokeFresh steps a run in this process, from the store.
func (e *Engine) pokeFresh(key store.RunKey) {
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.pokes[key]++
		n := h.pokes[key]
		h.mu.Unlock()
		if n > pokesHere { // who keeps being told is not the only one who wants to move
			e.sendAll(context.Background(), Message{Kind: MessageRun, DagID: key.DagID, RunID: key.RunID, At: e.utcNow().Add(time.Second)})
			return
		}
	}
	r := e.lookup(airflow.DagRun{DagID: key.DagID, RunID: key.RunID, State: airflow.RunRunning})
	e.mu.Lock()
	r.stale = true
	e.enqueueLocked(r)
	e.mu.Unlock()
}

// pokeWaiting wakes the runs that wait for a limit whose size has changed.
func (e *Engine) pokeWaiting(ctx context.Context, name string) error {
	var l scheduler.Ledger
	if _, err := e.store.GetSlots(ctx, name, &l); err != nil {
		return err
	}
	var ms []Message
	for _, r := range l.Runs {
		if len(r.Lanes) > 0 {
			ms = append(ms, Message{Kind: MessageRun, DagID: r.DagID, RunID: r.RunID})
		}
	}
	return e.announce(ctx, ms...)
}

// reconcileLedgers mends what dead schedulers left in the ledgers: runs that were
// given slots and never came, and entries of runs that have ended.
func (e *Engine) reconcileLedgers(ctx context.Context) error {
	names, err := e.store.ListSlots(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		var l scheduler.Ledger
		if _, err := e.store.GetSlots(ctx, name, &l); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, k := range l.Overdue(scheduler.At(e.utcNow().Add(-30 * time.Second))) {
			e.pokeFresh(store.RunKey(k))
		}
		for _, ent := range l.Runs {
			k := store.RunKey{DagID: ent.DagID, RunID: ent.RunID}
			info, err := e.store.GetRun(ctx, k)
			if err != nil && !isNotFound(err) {
				errs = append(errs, err)
				continue
			}
			if err == nil && !info.State.Finished() {
				// Said again by whoever steps it next, in case the last word was lost.
				e.mu.Lock()
				e.unsettled[k] = true
				e.mu.Unlock()
				e.pokeFresh(k)
				continue
			}
			var tell []scheduler.RunKey
			slots := e.slotsOfLimit(name)
			err = e.withLedger(ctx, name, func(led *scheduler.Ledger) (changed bool) {
				tell, changed = led.Settle(scheduler.RunKey(k), math.MaxInt64, e.name, 0, 0, nil, slots, scheduler.At(e.utcNow()))
				return changed
			})
			if err != nil {
				errs = append(errs, err)
			}
			for _, t := range tell {
				e.pokeFresh(store.RunKey(t))
			}
		}
	}
	return errors.Join(errs...)
}

// slotsOfLimit returns the size of a limit by the name of its ledger, 0 if only
// the runs it concerns know it: they are told when they next settle.
func (e *Engine) slotsOfLimit(name string) int {
	if name == "parallelism" {
		return e.cfg.Parallelism
	}
	if len(name) > 5 && name[:5] == "pool:" {
		if p, ok := e.pools.get(name[5:]); ok {
			return p.Slots
		}
	}
	return 0
}
