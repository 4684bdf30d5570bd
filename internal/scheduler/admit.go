package scheduler

import (
	"sort"

	"github.com/gustflow/gust/internal/airflow"
)

// Candidate is a scheduled instance that waits for a slot.
type Candidate struct {
	Key            airflow.TaskInstanceKey
	Pos            int // the caller's; not looked at
	Pool           string
	PoolSlots      int
	PriorityWeight int64
	LogicalDate    Micros // 0 = null, which sorts first as in SQLite and last elsewhere: first here
	Executor       string
	// Limits of its DAG and task.
	MaxActiveTasks        int // per run; 0 or less = none may run, as in Airflow
	MaxActiveTIsPerDag    int // 0 = none
	MaxActiveTIsPerDagRun int // 0 = none
}

// PoolUse is a pool and what of it is taken.
type PoolUse struct {
	Slots    int // airflow.UnlimitedSlots = no limit
	Occupied int // slots held by queued and running (and deferred, with include_deferred)
}

// Open returns the free slots; ok is false for an unlimited pool.
func (p PoolUse) Open() (open int, limited bool) {
	if p.Slots == airflow.UnlimitedSlots {
		return 0, false
	}
	return p.Slots - p.Occupied, true
}

// RunKey names a run.
type RunKey struct {
	DagID airflow.DagID
	RunID airflow.RunID
}

// TaskKey names a task of a DAG.
type TaskKey struct {
	DagID  airflow.DagID
	TaskID airflow.TaskID
}

// RunTaskKey names a task within a run.
type RunTaskKey struct {
	DagID  airflow.DagID
	RunID  airflow.RunID
	TaskID airflow.TaskID
}

// Capacity is what may be used when Admit is called.
type Capacity struct {
	Pools map[string]PoolUse
	// RunActive counts queued and running instances of a run; TaskActive and
	// RunTaskActive count queued, running and deferred ones.
	RunActive     map[RunKey]int
	TaskActive    map[TaskKey]int
	RunTaskActive map[RunTaskKey]int
	// ExecutorSlots are the free slots by executor name ("" = the default one);
	// an executor that is missing has no limit.
	ExecutorSlots map[string]int
}

// AdmitLimits are the settings of one round of admission.
type AdmitLimits struct {
	// MaxTIs cuts the list of candidates that is looked at, as [scheduler]
	// max_tis_per_query does in Airflow; 0 = no cut (Gust's own mode: a blocked
	// candidate never hides one behind it).
	MaxTIs int
}

// Admission is which candidates may be queued.
type Admission struct {
	// Queued are indexes into the candidates, most urgent first.
	Queued []int
	// Blocked says why a candidate that was looked at was not queued, by index.
	Blocked map[int]Code
}

// Admit is Airflow's critical section: which of the scheduled candidates may be
// queued, in order of priority (descending), logical date, map index; ties are
// broken by dag_id, run_id, task_id, which Airflow leaves to its database.
//
// With lim.MaxTIs it follows Airflow's query round by round: the list is cut to
// MaxTIs (and to the open slots of all pools together) before any candidate is
// checked, and only when nothing could be queued and something new was found
// starved is the next list drawn. Without MaxTIs every candidate gets its turn
// once, so that blocked ones never hide others.
//
// A candidate that needs more slots than are open does not hold up later ones
// that need fewer. Capacity is not changed.
func Admit(c Capacity, candidates []Candidate, lim AdmitLimits) Admission {
	a := admitter{c: c, cand: candidates, runs: map[RunKey]*runAdmit{}}
	a.open = make(map[string]int, len(c.Pools))
	free, unlimited := 0, false
	for name, p := range c.Pools { // only sums and copies: order does not matter
		open, limited := p.Open()
		if !limited {
			unlimited = true
			continue
		}
		a.open[name] = open
		free += max(0, open)
	}
	a.out.Blocked = map[int]Code{}
	a.slots = make(map[string]int, len(c.ExecutorSlots))
	for name, n := range c.ExecutorSlots {
		a.slots[name] = n
	}
	a.taskUsed, a.runTaskUsed = map[TaskKey]int{}, map[RunTaskKey]int{}
	a.starved = map[starvedKey]bool{}
	order := a.order()
	if free == 0 && !unlimited {
		return a.full(order)
	}
	cut := lim.MaxTIs
	if cut > 0 && !unlimited {
		cut = min(cut, free)
	}
	for name, open := range a.open {
		if open <= 0 {
			a.starved[starvedKey{pool: name}] = true
		}
	}
	if cut <= 0 {
		for _, i := range order {
			a.examine(i)
		}
		return a.out
	}
	a.rounds(order, cut)
	return a.out
}

// admitter is one Admit while it runs.
type admitter struct {
	c           Capacity
	cand        []Candidate
	out         Admission
	open        map[string]int // open slots of limited pools
	slots       map[string]int // of executors
	runs        map[RunKey]*runAdmit
	taskUsed    map[TaskKey]int // added to c.TaskActive
	runTaskUsed map[RunTaskKey]int
	starved     map[starvedKey]bool
}

type runAdmit struct{ active int }

// starvedKey names what further lists leave out: a pool, a run, a task, a task of a run.
type starvedKey struct {
	pool string
	dag  airflow.DagID
	run  airflow.RunID
	task airflow.TaskID
}

func (a *admitter) order() []int {
	order := make([]int, len(a.cand))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(i, j int) bool {
		x, y := &a.cand[order[i]], &a.cand[order[j]]
		switch {
		case x.PriorityWeight != y.PriorityWeight:
			return x.PriorityWeight > y.PriorityWeight
		case x.LogicalDate != y.LogicalDate:
			return x.LogicalDate < y.LogicalDate
		case x.Key.MapIndex != y.Key.MapIndex:
			return x.Key.MapIndex < y.Key.MapIndex
		case x.Key.DagID != y.Key.DagID:
			return x.Key.DagID < y.Key.DagID
		case x.Key.RunID != y.Key.RunID:
			return x.Key.RunID < y.Key.RunID
		}
		return x.Key.TaskID < y.Key.TaskID
	})
	return order
}

func (a *admitter) full(order []int) Admission {
	for _, i := range order {
		a.out.Blocked[i] = CodePoolFull
		if _, ok := a.c.Pools[a.cand[i].Pool]; !ok {
			a.out.Blocked[i] = CodePoolMissing
		}
	}
	return a.out
}

func (a *admitter) run(i int) *runAdmit {
	k := RunKey{a.cand[i].Key.DagID, a.cand[i].Key.RunID}
	r := a.runs[k]
	if r == nil {
		r = &runAdmit{active: a.c.RunActive[k]}
		a.runs[k] = r
	}
	return r
}

// rounds draws and checks lists as Airflow's query does: without what is known
// to be starved and without runs that are at max_active_tasks; of each run at
// most max_active_tasks candidates; at most cut in all.
func (a *admitter) rounds(order []int, cut int) {
	behind := make([]Code, len(a.cand))
	for {
		before := len(a.starved)
		ranked := map[RunKey]int{}
		var list []int
		for _, i := range order {
			c := &a.cand[i]
			key := RunKey{c.Key.DagID, c.Key.RunID}
			behind[i] = CodeNotLookedAt
			if a.leftOut(i) {
				continue
			}
			if ranked[key]++; ranked[key] > c.MaxActiveTasks || a.run(i).active >= c.MaxActiveTasks {
				behind[i] = CodeMaxActiveTasks
				continue
			}
			if len(list) < cut {
				list = append(list, i)
			}
		}
		for _, i := range list {
			a.examine(i)
		}
		if len(a.out.Queued) > 0 || len(list) < cut || len(a.starved) == before {
			break
		}
	}
	queued := make([]bool, len(a.cand))
	for _, i := range a.out.Queued {
		queued[i] = true
	}
	for _, i := range order {
		if a.out.Blocked[i] == "" && !queued[i] {
			a.out.Blocked[i] = behind[i]
			if a.starved[starvedKey{pool: a.cand[i].Pool}] {
				a.out.Blocked[i] = CodePoolFull
			}
		}
	}
}

// leftOut applies what was found starved to the next list.
func (a *admitter) leftOut(i int) bool {
	k := &a.cand[i].Key
	return a.starved[starvedKey{pool: a.cand[i].Pool}] || a.starved[starvedKey{dag: k.DagID, run: k.RunID}] ||
		a.starved[starvedKey{dag: k.DagID, task: k.TaskID}] || a.starved[starvedKey{dag: k.DagID, run: k.RunID, task: k.TaskID}]
}

// examine queues a candidate or says what is in its way.
func (a *admitter) examine(i int) {
	c := &a.cand[i]
	block := func(why Code, k starvedKey) {
		a.out.Blocked[i] = why
		a.starved[k] = true
	}
	task := starvedKey{dag: c.Key.DagID, task: c.Key.TaskID}
	pool, ok := a.c.Pools[c.Pool]
	if !ok {
		block(CodePoolMissing, starvedKey{pool: c.Pool})
		return
	}
	open, limited := a.open[c.Pool]
	if limited {
		switch {
		case open <= 0:
			block(CodePoolFull, starvedKey{pool: c.Pool})
			return
		case c.PoolSlots > pool.Slots:
			block(CodePoolTooSmall, task)
			return
		case c.PoolSlots > open:
			block(CodePoolFull, task)
			return
		}
	}
	r := a.run(i)
	if r.active >= c.MaxActiveTasks {
		block(CodeMaxActiveTasks, starvedKey{dag: c.Key.DagID, run: c.Key.RunID})
		return
	}
	tk := TaskKey{c.Key.DagID, c.Key.TaskID}
	if c.MaxActiveTIsPerDag > 0 && a.c.TaskActive[tk]+a.taskUsed[tk] >= c.MaxActiveTIsPerDag {
		block(CodeMaxTIsPerDag, task)
		return
	}
	rk := RunTaskKey{c.Key.DagID, c.Key.RunID, c.Key.TaskID}
	if c.MaxActiveTIsPerDagRun > 0 && a.c.RunTaskActive[rk]+a.runTaskUsed[rk] >= c.MaxActiveTIsPerDagRun {
		block(CodeMaxTIsPerDagRun, starvedKey{dag: c.Key.DagID, run: c.Key.RunID, task: c.Key.TaskID})
		return
	}
	if n, ok := a.slots[c.Executor]; ok {
		if n <= 0 {
			block(CodeExecutorFull, task)
			return
		}
		a.slots[c.Executor] = n - 1
	}
	a.out.Queued = append(a.out.Queued, i)
	delete(a.out.Blocked, i)
	r.active++
	a.taskUsed[tk]++
	a.runTaskUsed[rk]++
	if limited {
		a.open[c.Pool] = open - c.PoolSlots
	}
}
