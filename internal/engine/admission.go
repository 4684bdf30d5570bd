package engine

import (
	"container/heap"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// admission is the authority over slots in this process: parallelism, pools,
// max_active_tasks per run, max_active_tis_per_dag and _per_dagrun. It holds the
// scheduled instances as waiters and hands out slots in the order of
// scheduler.Admit (priority, logical date, map_index), but incrementally: a
// freed slot costs time in the number of lanes, not of waiters. A lane is the
// waiters of one task in one run, which share priority, pool and limits.
//
// What a step takes counts at once, what it gives back counts for other runs only
// when the step is committed: until then, and for ever if the process dies, the
// store says that the slot is taken. Slots that a step passes on to other runs
// are promised to them and theirs after the commit. A run whose commit failed
// keeps everything it may hold until its state has been read again.
//
// It can be rebuilt from the states of the unfinished runs at any time (load).
type admission struct {
	mu          sync.Mutex
	parallelism int
	active      int
	pools       map[string]*poolState
	runs        map[store.RunKey]*runAdmission
	perTask     map[scheduler.TaskKey]int // queued, running and deferred over all runs
	lanes       map[laneKey]*lane
	order       laneHeap // lanes that have waiters
	// quotas take the place of max_active_tis_per_dag where a ledger is the authority.
	quotas map[scheduler.TaskKey]int
}

// perDagFull reports whether a task has as many instances over all runs as it may.
func (a *admission) perDagFull(l *lane) bool {
	most := l.node.Task.MaxActiveTIsPerDag
	if most <= 0 {
		return false
	}
	k := scheduler.TaskKey{DagID: l.key.run.DagID, TaskID: l.node.ID}
	if q, ok := a.quotas[k]; ok {
		most = q
	}
	return a.perTask[k] >= most
}

type poolState struct {
	exists          bool
	slots           int
	includeDeferred bool
	occupied        int
	deferred        int
	// ceiling, where limited, is what the run may hold in all; see setQuotas.
	ceiling int
	limited bool
}

func (p *poolState) open(slots int) bool {
	if !p.exists {
		return false
	}
	if p.limited {
		used := p.occupied
		if p.includeDeferred {
			used += p.deferred
		}
		return slots <= p.ceiling-used
	}
	if p.slots == airflow.UnlimitedSlots {
		return true
	}
	used := p.occupied
	if p.includeDeferred {
		used += p.deferred
	}
	return slots <= p.slots-used
}

type runAdmission struct {
	graph   *scheduler.Graph
	date    scheduler.Micros
	held    bool          // paused: its waiters stay
	active  int           // queued + running
	perTask map[int32]int // queued, running and deferred
	holding map[int]slot  // by position
	granted []waiter      // slots handed out, not yet dispatched
	leaving []slot        // given back by a step that is not committed yet
	// promised are slots handed to other runs by a step that is not committed yet;
	// reserved are those of this run that another one has promised.
	promised []promise
	reserved map[int]store.RunKey // by whom
}

type promise struct {
	run    store.RunKey
	task   int32
	waiter waiter
}

type slot struct {
	task     int32
	deferred bool
}

type laneKey struct {
	run  store.RunKey
	task int32
}

// lane is a queue of positions by map_index.
type lane struct {
	key     laneKey
	node    *scheduler.Node
	run     *runAdmission
	waiting waiterHeap
	in      map[int]bool // positions that wait; the heap may hold stale ones
	at      int          // index in order, -1 if absent
}

type waiter struct {
	mapIndex int32
	pos      int
}

type waiterHeap []waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].mapIndex < h[j].mapIndex }
func (h waiterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *waiterHeap) Push(x any)        { *h = append(*h, x.(waiter)) }
func (h *waiterHeap) Pop() any          { o := *h; x := o[len(o)-1]; *h = o[:len(o)-1]; return x }

type laneHeap []*lane

func (h laneHeap) Len() int { return len(h) }
func (h laneHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.node.Weight != b.node.Weight {
		return a.node.Weight > b.node.Weight
	}
	if a.run.date != b.run.date {
		return a.run.date < b.run.date
	}
	if am, bm := a.waiting[0].mapIndex, b.waiting[0].mapIndex; am != bm {
		return am < bm
	}
	if a.key.run != b.key.run { // no order in Airflow; here one that is always the same
		return lessKey(a.key.run, b.key.run)
	}
	return a.key.task < b.key.task
}
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.at = len(*h)
	*h = append(*h, l)
}
func (h *laneHeap) Pop() any {
	o := *h
	l := o[len(o)-1]
	*h = o[:len(o)-1]
	l.at = -1
	return l
}

func newAdmission(parallelism int) *admission {
	return &admission{
		parallelism: parallelism,
		pools:       map[string]*poolState{},
		runs:        map[store.RunKey]*runAdmission{},
		perTask:     map[scheduler.TaskKey]int{},
		lanes:       map[laneKey]*lane{},
	}
}

func (a *admission) pool(name string) *poolState {
	p := a.pools[name]
	if p == nil {
		p = &poolState{}
		a.pools[name] = p
	}
	return p
}

// setPools replaces the sizes of all pools.
func (a *admission) setPools(pools []airflow.Pool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pools {
		p.exists = false
	}
	for _, p := range pools {
		s := a.pool(p.Name)
		s.exists, s.slots, s.includeDeferred = true, p.Slots, p.IncludeDeferred
	}
}

func (a *admission) runOf(key store.RunKey, g *scheduler.Graph, rs *scheduler.RunState) *runAdmission {
	ra := a.runs[key]
	if ra == nil {
		ra = &runAdmission{perTask: map[int32]int{}, holding: map[int]slot{}, reserved: map[int]store.RunKey{}}
		if d := rs.Header.LogicalDate; d != nil {
			ra.date = scheduler.At(*d)
		}
		a.runs[key] = ra
	}
	ra.graph = g
	return ra
}

// load rebuilds the accounts of a run from its state.
func (a *admission) load(key store.RunKey, g *scheduler.Graph, rs *scheduler.RunState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropLocked(key)
	a.runOf(key, g, rs)
	for pos := 0; pos < rs.Len(); pos++ {
		a.settle(key, g, rs, pos)
	}
}

// apply brings the accounts of a run up to date with the instances that changed.
func (a *admission) apply(key store.RunKey, g *scheduler.Graph, rs *scheduler.RunState, ts []scheduler.Transition) {
	if len(ts) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if ra := a.runs[key]; ra != nil && ra.graph != g { // moved to another DAG version: task indexes changed
		a.dropLocked(key)
		a.runOf(key, g, rs)
		for pos := 0; pos < rs.Len(); pos++ {
			a.settle(key, g, rs, pos)
		}
		return
	}
	a.runOf(key, g, rs)
	for _, t := range ts {
		a.settle(key, g, rs, t.Pos)
	}
}

// settle makes the account of one instance equal to its state.
func (a *admission) settle(key store.RunKey, g *scheduler.Graph, rs *scheduler.RunState, pos int) {
	ti := rs.At(pos)
	ra := a.runs[key]
	s := ti.State
	known := int(ti.Task) < len(g.Tasks)
	wants := known && (s.HoldsSlot() || s == airflow.TIDeferred)
	granted := false
	if s == airflow.TIScheduled {
		for _, w := range ra.granted {
			granted = granted || w.pos == pos
		}
	}
	if held, ok := ra.holding[pos]; ok && !granted {
		if wants && held.task == ti.Task && held.deferred == (s == airflow.TIDeferred) {
			return
		}
		ra.leaving = append(ra.leaving, held)
		delete(ra.holding, pos)
		delete(ra.reserved, pos)
	}
	if wants {
		sl := slot{ti.Task, s == airflow.TIDeferred}
		ra.holding[pos] = sl
		a.account(key, ra, sl, 1)
	}
	lk := laneKey{key, ti.Task}
	l := a.lanes[lk]
	waits := known && s == airflow.TIScheduled && !granted
	switch {
	case waits:
		a.wait(key, ra, ti.Task, waiter{ti.MapIndex, pos})
	case l != nil && l.in[pos]:
		delete(l.in, pos)
		a.place(l)
	}
}

// wait puts a waiter into its lane.
func (a *admission) wait(key store.RunKey, ra *runAdmission, task int32, w waiter) {
	lk := laneKey{key, task}
	l := a.lanes[lk]
	if l == nil {
		l = &lane{key: lk, node: &ra.graph.Tasks[task], run: ra, in: map[int]bool{}, at: -1}
		a.lanes[lk] = l
	}
	if !l.in[w.pos] {
		l.in[w.pos] = true
		heap.Push(&l.waiting, w)
		a.place(l)
	}
}

// account adds (sign 1) or removes (-1) what an instance occupies.
func (a *admission) account(key store.RunKey, ra *runAdmission, s slot, sign int) {
	n := &ra.graph.Tasks[s.task]
	p := a.pool(n.Task.Pool)
	if s.deferred {
		p.deferred += sign * n.Task.PoolSlots
	} else {
		p.occupied += sign * n.Task.PoolSlots
		a.active += sign
		ra.active += sign
	}
	ra.perTask[s.task] += sign
	tk := scheduler.TaskKey{DagID: key.DagID, TaskID: n.ID}
	if a.perTask[tk] += sign; a.perTask[tk] == 0 {
		delete(a.perTask, tk)
	}
}

// place drops stale heads of a lane and puts it where it belongs in the order.
func (a *admission) place(l *lane) {
	for len(l.waiting) > 0 && !l.in[l.waiting[0].pos] {
		heap.Pop(&l.waiting)
	}
	switch {
	case len(l.waiting) == 0:
		if l.at >= 0 {
			heap.Remove(&a.order, l.at)
		}
		delete(a.lanes, l.key)
	case l.at < 0:
		heap.Push(&a.order, l)
	default:
		heap.Fix(&a.order, l.at)
	}
}

// hold keeps the waiters of a run (its DAG is paused) from getting slots.
func (a *admission) hold(key store.RunKey, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ra := a.runs[key]
	if ra == nil {
		return
	}
	ra.held = held
	if !held {
		return
	}
	// Slots that it was given and has not used go back; their waiters wait on.
	given := ra.granted
	ra.granted = nil
	for _, w := range given {
		sl, ok := ra.holding[w.pos]
		if !ok {
			continue
		}
		a.account(key, ra, sl, -1)
		delete(ra.holding, w.pos)
		delete(ra.reserved, w.pos)
		a.wait(key, ra, sl.task, w)
	}
}

// why says what keeps the head of a lane from a slot; "" = nothing.
func (a *admission) why(l *lane) scheduler.Code {
	t := l.node.Task
	p := a.pool(t.Pool)
	switch {
	case l.run.held:
		return scheduler.CodePaused
	case !p.exists:
		return scheduler.CodePoolMissing
	case p.slots != airflow.UnlimitedSlots && t.PoolSlots > p.slots:
		return scheduler.CodePoolTooSmall
	case !p.open(t.PoolSlots):
		return scheduler.CodePoolFull
	case l.run.active >= l.run.graph.DAG.MaxActiveTasks:
		return scheduler.CodeMaxActiveTasks
	case a.perDagFull(l):
		return scheduler.CodeMaxTIsPerDag
	case t.MaxActiveTIsPerDagRun > 0 && l.run.perTask[l.key.task] >= t.MaxActiveTIsPerDagRun:
		return scheduler.CodeMaxTIsPerDagRun
	case a.active >= a.parallelism:
		return scheduler.CodeExecutorFull
	}
	return ""
}

// pump hands out free slots, those that the given run's step gives back among
// them. It returns the positions of that run that got one, now or earlier; what
// other runs get they learn when the step is committed.
func (a *admission) pump(key store.RunKey) (granted []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ra := a.runs[key]
	if ra == nil {
		return nil
	}
	for _, sl := range ra.leaving {
		a.account(key, ra, sl, -1)
	}
	a.hand(func(l *lane, w waiter) {
		if l.key.run != key {
			l.run.reserved[w.pos] = key
			ra.promised = append(ra.promised, promise{l.key.run, l.key.task, w})
		}
	})
	for _, sl := range ra.leaving {
		a.account(key, ra, sl, 1)
	}
	for _, w := range ra.granted {
		if _, promised := ra.reserved[w.pos]; !promised {
			granted = append(granted, w.pos)
		}
	}
	return granted
}

// hand gives free slots to waiters in their order and tells to whom.
func (a *admission) hand(told func(*lane, waiter)) {
	var blocked []*lane
	for len(a.order) > 0 && a.active < a.parallelism {
		l := a.order[0]
		if a.why(l) != "" {
			// Set aside: a blocked lane does not hold up others.
			blocked = append(blocked, l)
			heap.Pop(&a.order)
			continue
		}
		w := heap.Pop(&l.waiting).(waiter)
		delete(l.in, w.pos)
		sl := slot{task: l.key.task}
		l.run.holding[w.pos] = sl
		l.run.granted = append(l.run.granted, w)
		a.account(l.key.run, l.run, sl, 1)
		told(l, w)
		a.place(l)
	}
	for _, l := range blocked {
		if len(l.waiting) > 0 {
			heap.Push(&a.order, l)
		}
	}
}

// committed makes what a run's step gave back free for all. It returns the runs
// that got slots: they must be stepped, and take them then.
func (a *admission) committed(key store.RunKey) (others []store.RunKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	told := map[store.RunKey]bool{}
	tell := func(k store.RunKey) {
		if !told[k] {
			told[k] = true
			others = append(others, k)
		}
	}
	if ra := a.runs[key]; ra != nil {
		for _, sl := range ra.leaving {
			a.account(key, ra, sl, -1)
		}
		ra.leaving = ra.leaving[:0]
		for _, p := range ra.promised {
			if o := a.runs[p.run]; o != nil && o.reserved[p.waiter.pos] == key {
				delete(o.reserved, p.waiter.pos)
				tell(p.run)
			}
		}
		ra.promised = ra.promised[:0]
	}
	a.hand(func(l *lane, _ waiter) { tell(l.key.run) })
	return others
}

// handOut gives free slots to waiters after the limits have changed; it returns
// the runs that got some: they must be stepped.
func (a *admission) handOut() (others []store.RunKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	told := map[store.RunKey]bool{}
	a.hand(func(l *lane, _ waiter) {
		if k := l.key.run; !told[k] {
			told[k] = true
			others = append(others, k)
		}
	})
	return others
}

// unload is called when a run's step could not be committed, or nobody knows
// whether it was: the run keeps what it may hold until load, waits for nothing,
// and takes back what it promised.
func (a *admission) unload(key store.RunKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ra := a.runs[key]
	if ra == nil {
		return
	}
	a.removeLanes(key, ra)
	a.takeBack(key, ra)
}

// takeBack makes those wait again to whom a run has promised slots.
func (a *admission) takeBack(key store.RunKey, ra *runAdmission) {
	for _, p := range ra.promised {
		o := a.runs[p.run]
		if o == nil || o.reserved[p.waiter.pos] != key {
			continue
		}
		delete(o.reserved, p.waiter.pos)
		for i, w := range o.granted {
			if w.pos == p.waiter.pos {
				o.granted = append(o.granted[:i], o.granted[i+1:]...)
				break
			}
		}
		a.account(p.run, o, o.holding[p.waiter.pos], -1)
		delete(o.holding, p.waiter.pos)
		a.wait(p.run, o, p.task, p.waiter)
	}
	ra.promised = ra.promised[:0]
}

// dispatched takes the granted positions of a run off the list; those that could
// not be dispatched give their slot back.
func (a *admission) dispatched(key store.RunKey, granted []int, ts []scheduler.Transition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ra := a.runs[key]
	if ra == nil {
		return
	}
	done := map[int]bool{}
	for _, pos := range granted {
		done[pos] = true
	}
	kept := ra.granted[:0]
	for _, w := range ra.granted {
		if !done[w.pos] {
			kept = append(kept, w)
		}
	}
	ra.granted = kept
	for _, t := range ts {
		delete(done, t.Pos)
	}
	for _, pos := range granted {
		if sl, held := ra.holding[pos]; held && done[pos] {
			a.account(key, ra, sl, -1)
			delete(ra.holding, pos)
		}
	}
}

// end gives back everything of a run that has ended.
func (a *admission) end(key store.RunKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ra := a.runs[key]
	if ra == nil {
		return
	}
	for pos, sl := range ra.holding { // only sums: order does not matter
		ra.leaving = append(ra.leaving, sl)
		delete(ra.holding, pos)
	}
	ra.granted = ra.granted[:0]
	clear(ra.reserved)
	a.removeLanes(key, ra)
}

// drop removes everything of a run.
func (a *admission) drop(key store.RunKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropLocked(key)
}

func (a *admission) dropLocked(key store.RunKey) {
	ra := a.runs[key]
	if ra == nil {
		return
	}
	a.takeBack(key, ra)
	for _, sl := range ra.holding {
		a.account(key, ra, sl, -1)
	}
	for _, sl := range ra.leaving {
		a.account(key, ra, sl, -1)
	}
	a.removeLanes(key, ra)
	delete(a.runs, key)
}

func (a *admission) removeLanes(key store.RunKey, ra *runAdmission) {
	for task := range ra.graph.Tasks {
		if l := a.lanes[laneKey{key, int32(task)}]; l != nil {
			if l.at >= 0 {
				heap.Remove(&a.order, l.at)
			}
			delete(a.lanes, l.key)
		}
	}
}

// reasons says, by position, why the waiting instances of a run are not queued.
func (a *admission) reasons(key store.RunKey) map[int]scheduler.Code {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[int]scheduler.Code{}
	ra := a.runs[key]
	if ra == nil {
		return out
	}
	for task := range ra.graph.Tasks {
		l := a.lanes[laneKey{key, int32(task)}]
		if l == nil {
			continue
		}
		why := a.why(l)
		if why == "" {
			why = scheduler.CodeWaitsForSlot
		}
		for pos := range l.in {
			out[pos] = why
		}
	}
	return out
}

// usage returns the queued+running and the deferred slots of a pool.
func (a *admission) usage(pool string) (occupied, deferred int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pools[pool]; p != nil {
		return p.occupied, p.deferred
	}
	return 0, 0
}
