package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// tiSnap is what the checker remembers of an instance.
type tiSnap struct {
	key        airflow.TaskInstanceKey
	state      airflow.TIState
	try, limit int
	seq        uint32
	end, wake  scheduler.Micros
}

// runSnap is a run as last committed.
type runSnap struct {
	key     store.RunKey
	version int64
	header  scheduler.Header
	graph   *scheduler.Graph
	tis     []tiSnap
	prev    *runSnap // the commit before
	info    airflow.DagRun
	raw     store.RunState // as stored
	deleted bool
	ending  bool // its deletion has begun
}

type dispatchKey struct {
	key airflow.TaskInstanceKey
	seq uint32
}

// checker holds what must be true, and checks it at every write.
type checker struct {
	w      *World
	keys   map[kv.Key]struct{}
	graphs map[string]*scheduler.Graph
	runs   map[store.RunKey]*runSnap
	order  []store.RunKey // in order of creation
	// claims are the claims that were written, by dispatch.
	claims map[dispatchKey]string
	begun  map[dispatchKey]worker.Identity
	acked  map[dispatchKey]*worker.Report
	// sizes are what a pool's size was, with the time of change.
	sizes    map[string][]poolSize
	consumed map[airflow.DagID]map[string]airflow.RunID
	events   map[string]airflow.AssetEvent
	reach    [airflow.NumTIStates][airflow.NumTIStates]bool
	deletion map[store.RunKey]bool
	restarts map[airflow.TaskInstanceKey]int
	effects  map[string]*effectSnap
	replays  map[replayKey]*replay
	touched  map[store.RunKey]bool // a person intervened
	// succeeded are the dispatches that ended their instance by their own report.
	succeeded map[dispatchKey]bool
}

type poolSize struct {
	at   time.Time
	pool airflow.Pool
}

func newChecker(w *World) *checker {
	c := &checker{
		w: w, keys: map[kv.Key]struct{}{}, graphs: map[string]*scheduler.Graph{}, runs: map[store.RunKey]*runSnap{},
		claims: map[dispatchKey]string{}, begun: map[dispatchKey]worker.Identity{}, acked: map[dispatchKey]*worker.Report{},
		sizes: map[string][]poolSize{}, consumed: map[airflow.DagID]map[string]airflow.RunID{}, events: map[string]airflow.AssetEvent{},
		reach: reachable(), deletion: map[store.RunKey]bool{}, restarts: map[airflow.TaskInstanceKey]int{}, succeeded: map[dispatchKey]bool{},
		effects: map[string]*effectSnap{}, replays: map[replayKey]*replay{}, touched: map[store.RunKey]bool{},
	}
	c.poolIs(airflow.Pool{Name: airflow.DefaultPool, Slots: w.sc.Config.DefaultPoolSlots})
	return c
}

// reachable closes the allowed transitions: one commit may hold several.
func reachable() (r [airflow.NumTIStates][airflow.NumTIStates]bool) {
	for i := range r {
		r[i][i] = true
		for j := range r {
			r[i][j] = r[i][j] || scheduler.AllowedTransition(airflow.TIState(i), airflow.TIState(j))
		}
	}
	for k := range r {
		for i := range r {
			for j := range r {
				r[i][j] = r[i][j] || r[i][k] && r[k][j]
			}
		}
	}
	return r
}

func (c *checker) poolIs(p airflow.Pool) {
	c.sizes[p.Name] = append(c.sizes[p.Name], poolSize{c.w.now, p})
}

// slots is the largest size that a scheduler may still believe the pool to have.
func (c *checker) slots(name string) int {
	most := 0
	hist := c.sizes[name]
	for i, s := range hist {
		if i+1 < len(hist) && c.w.now.Sub(hist[i+1].at) > 30*time.Second+2*c.w.sc.Skew {
			continue
		}
		if s.pool.Slots == airflow.UnlimitedSlots {
			return 1 << 30
		}
		most = max(most, s.pool.Slots)
	}
	return most
}

// segments splits a key of package store.
func segments(key string) []string {
	parts := strings.Split(key, "#")
	for i, p := range parts {
		if strings.Contains(p, "%") {
			parts[i] = unescaper.Replace(p)
		}
	}
	return parts
}

var (
	escaper   = strings.NewReplacer("%", "%25", "#", "%23")
	unescaper = strings.NewReplacer("%23", "#", "%25", "%")
)

// rowState is the part of an instance's row that the checks need.
type rowState struct {
	seq, min uint32
	status   string
	claim    string
}

func rowOf(it kv.Item) rowState {
	return rowState{uint32(it.Int("seq")), uint32(it.Int("min")), it.Str("st"), it.Str("cl")}
}

func (c *checker) row(k airflow.TaskInstanceKey) rowState {
	it, err := c.w.mem.Get(c.w.ctx, rowKey(k), true)
	if err != nil {
		return rowState{}
	}
	return rowOf(it)
}

func rowKey(k airflow.TaskInstanceKey) kv.Key {
	return kv.Key{PK: "TI#" + escaper.Replace(string(k.DagID)) + "#" + escaper.Replace(string(k.RunID)) + "#" + escaper.Replace(string(k.TaskID)) + "#" + strconv.Itoa(k.MapIndex), SK: "ROW"}
}

func tiKey(pk string) airflow.TaskInstanceKey {
	p := segments(pk)
	k := airflow.TaskInstanceKey{DagID: airflow.DagID(p[1]), RunID: airflow.RunID(p[2]), TaskID: airflow.TaskID(p[3])}
	k.MapIndex, _ = strconv.Atoi(p[4]) // a number, or the key is not a key
	return k
}

// write sees one write of a process.
func (c *checker) write(ctx context.Context, p *proc, op kv.Op, do func() error) error {
	key := op.ItemKey()
	var before rowState
	isRow := key.SK == "ROW" && strings.HasPrefix(key.PK, "TI#")
	if isRow {
		if it, err := c.w.mem.Get(ctx, key, true); err == nil {
			before = rowOf(it)
		}
	}
	if err := do(); err != nil {
		return err
	}
	if isRow && op.Kind != kv.OpDelete {
		it, err := c.w.mem.Get(ctx, key, true)
		if err != nil {
			return nil
		}
		c.wroteRow(tiKey(key.PK), before, rowOf(it))
	}
	c.applied(p, op)
	return nil
}

// transact sees a transaction.
func (c *checker) transact(_ context.Context, p *proc, ops []kv.Op, do func() error) error {
	if err := do(); err != nil {
		return err
	}
	// META last: what the step asks for is there when it is looked at.
	for _, meta := range []bool{false, true} {
		for _, op := range ops {
			if op.Kind != kv.OpCheck && (op.ItemKey().SK == "META" && strings.HasPrefix(op.ItemKey().PK, "RUN#")) == meta {
				c.applied(p, op)
			}
		}
	}
	return nil
}

// applied is called after a write was applied.
func (c *checker) applied(p *proc, op kv.Op) {
	key := op.ItemKey()
	c.keys[key] = struct{}{}
	c.w.lastChange, c.w.lastWrite = c.w.now, c.w.now
	kind, _, _ := strings.Cut(key.PK, "#")
	switch {
	case kind == "TI" && op.Kind == kv.OpDelete:
		if key.SK == "ROW" { // a run of the same id may be made again, and count from 1
			k := tiKey(key.PK)
			for seq := uint32(1); seq < 1000; seq++ {
				d := dispatchKey{k, seq}
				if _, ok := c.claims[d]; !ok && seq > 50 {
					break
				}
				delete(c.claims, d)
				delete(c.begun, d)
				delete(c.acked, d)
			}
			delete(c.restarts, k)
		}
	case kind == "RUN" && op.Kind == kv.OpDelete:
		s := segments(key.PK)
		c.deletedPart(store.RunKey{DagID: airflow.DagID(s[1]), RunID: airflow.RunID(s[2])}, key.SK)
	case kind == "RUN" && key.SK == "META":
		s := segments(key.PK)
		c.meta(p, store.RunKey{DagID: airflow.DagID(s[1]), RunID: airflow.RunID(s[2])})
	case kind == "RUN" && strings.HasPrefix(key.SK, "DONE#"):
		c.effectDone(key.SK)
	case kind == "RUN" && key.SK == "INFO":
		c.info(op.Item)
	case kind == "POOL" && op.Kind == kv.OpPut:
		var pool airflow.Pool
		unmarshal(c.w, op.Item, &pool)
		c.poolIs(pool)
	case kind == "EFFECT":
		c.effect(op)
	case kind == "ASSETEVENT":
		var ev airflow.AssetEvent
		unmarshal(c.w, op.Item, &ev)
		if _, twice := c.events[ev.ID]; twice && !c.deletion[store.RunKey{DagID: ev.SourceDagID, RunID: ev.SourceRunID}] {
			c.w.fail("asset event %s was recorded twice", ev.ID)
		}
		c.events[ev.ID] = ev
	}
}

// unmarshal reads the document of an item.
func unmarshal(w *World, it kv.Item, dst any) {
	if err := json.Unmarshal(it.Bytes("d"), dst); err != nil {
		w.fail("item %v: %v", it.Key, err)
	}
}

func (c *checker) run(k store.RunKey) *runSnap {
	r := c.runs[k]
	if r == nil {
		r = &runSnap{key: k}
		c.runs[k] = r
		c.order = append(c.order, k)
		c.w.stats.Runs++
	}
	return r
}

func (c *checker) deleting(k store.RunKey) { c.deletion[k] = true }

func (c *checker) deletedPart(k store.RunKey, sk string) {
	r := c.run(k)
	if !c.deletion[k] {
		c.w.fail("%s of run %s was deleted, and nobody asked for that", sk, k)
	}
	if sk == "META" {
		r.version, r.tis, r.prev = 0, nil, nil
	}
	if sk == "INFO" {
		r.deleted, r.ending = true, false
		for _, e := range c.effects {
			e.void = e.void || e.run == k
		}
		r.version, r.tis, r.prev = 0, nil, nil
	}
}

// info sees a run's INFO item.
func (c *checker) info(it kv.Item) {
	var info airflow.DagRun
	unmarshal(c.w, it, &info)
	k := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	r := c.run(k)
	fresh := r.info.RunID == "" || r.deleted
	r.deleted = false
	r.info = info
	if !fresh {
		return
	}
	c.w.tracef("run %s created, after %s", k, info.RunAfter.Sub(c.w.start))
	if d := c.w.dag(string(k.DagID)); c.w.sc.Calm && (d.broken || d.gone) && (info.RunType == airflow.RunTypeScheduled || info.RunType == airflow.RunTypeAssetTriggered) {
		c.w.fail("run %s was created although the file of its DAG is broken (%t) or gone (%t)", k, d.broken, d.gone)
	}
	if info.RunType == airflow.RunTypeAssetTriggered {
		c.w.stats.AssetRuns++
	}
	m := c.consumed[info.DagID]
	if m == nil {
		m = map[string]airflow.RunID{}
		c.consumed[info.DagID] = m
	}
	for _, id := range info.ConsumedAssetEvents {
		if other, twice := m[id]; twice && other != info.RunID && !c.resurrected(id) {
			c.w.fail("asset event %s was consumed twice by %s: by %s and by %s", id, info.DagID, other, info.RunID)
		}
		m[id] = info.RunID
		if _, ok := c.events[id]; !ok {
			c.w.fail("run %s consumed asset event %s, which does not exist", k, id)
		}
	}
}

// resurrected reports whether an asset event is of a run whose deletion was asked
// for: where it was cut short and the run goes on, it makes its events again.
func (c *checker) resurrected(event string) bool {
	ev := c.events[event]
	return c.deletion[store.RunKey{DagID: ev.SourceDagID, RunID: ev.SourceRunID}]
}

// snapshot reads a run as it is stored.
func (c *checker) snapshot(k store.RunKey) *runSnap {
	st, err := c.w.clean.LoadRunState(c.w.ctx, k)
	if err != nil {
		c.w.fail("state of %s: %v", k, err)
	}
	if st.Version == 0 || st.Deleting {
		return nil
	}
	g, rs, err := c.decode(k, st.Header, st.Chunks)
	if err != nil {
		c.w.fail("state of %s cannot be read: %v", k, err)
	}
	s := &runSnap{key: k, raw: st, version: st.Version, header: rs.Header, graph: g, tis: make([]tiSnap, rs.Len())}
	for i := range s.tis {
		t := rs.At(i)
		s.tis[i] = tiSnap{rs.Key(g, i), t.State, int(t.TryNumber), int(t.MaxTries), t.DispatchSeq, t.End, t.WakeAt}
	}
	return s
}

func (c *checker) decode(k store.RunKey, header []byte, chunks [][]byte) (*scheduler.Graph, *scheduler.RunState, error) {
	var first error
	d := c.w.dag(string(k.DagID))
	for i := len(d.graphs) - 1; i >= 0; i-- {
		rs, err := scheduler.Decode(d.graphs[i], header, chunks)
		if err == nil && c.graphs[rs.Header.DagHash] == d.graphs[i] {
			return d.graphs[i], rs, nil
		}
		if err != nil && first == nil {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("no version of the DAG has the hash in its header")
	}
	return nil, nil, first
}

// meta sees a committed step.
func (c *checker) meta(p *proc, k store.RunKey) {
	w := c.w
	w.stats.Commits++
	now := c.snapshot(k)
	r := c.run(k)
	old := &runSnap{key: k, version: r.version, header: r.header, graph: r.graph, tis: r.tis}
	if now == nil {
		if !c.deletion[k] {
			w.fail("the deletion of run %s has begun, and nobody asked for that", k)
		}
		r.ending = true
		r.version, r.tis, r.prev = 0, nil, nil
		return
	}
	if r.ending {
		w.fail("a step of run %s was committed after its deletion had begun", k)
	}
	if now.version != old.version+1 {
		w.fail("run %s went from version %d to %d", k, old.version, now.version)
	}
	r.version, r.header, r.graph, r.tis, r.raw, r.prev = now.version, now.header, now.graph, now.tis, now.raw, old
	if w.trace != nil {
		w.traceCommit(p, old, now)
	}
	if w.backstop && w.sc.Calm {
		w.fail("run %s was moved by the backstop only: a wake-up was lost", k)
	}
	if len(now.tis) < len(old.tis) {
		w.fail("run %s lost task instances: %d, before %d", k, len(now.tis), len(old.tis))
	}
	from := old.header.State
	if old.version == 0 {
		from = airflow.RunQueued
	}
	if !allowedRunMove(from, now.header.State) {
		w.fail("run %s went from %s to %s", k, from, now.header.State)
	}
	for i, t := range now.tis {
		// A running instance that is cleared is tried again, with or without tries left.
		if t.state == airflow.TIRestarting && (i >= len(old.tis) || old.tis[i].state != airflow.TIRestarting) {
			c.restarts[t.key]++
		}
		// … also when it was cleared and reported within one step.
		if t.state == airflow.TIUpForRetry && t.try > t.limit+c.restarts[t.key] && i < len(old.tis) && old.tis[i].state.Active() && old.tis[i].state != airflow.TIRestarting {
			c.restarts[t.key]++
		}
		if t.try > t.limit+1+c.restarts[t.key] {
			w.fail("%s is in try %d, max_tries is %d", t.key, t.try, t.limit)
		}
		if i >= len(old.tis) {
			continue
		}
		o := old.tis[i]
		switch {
		case t.seq < o.seq:
			w.fail("dispatch_seq of %s fell from %d to %d", t.key, o.seq, t.seq)
		case t.seq > o.seq+1:
			w.fail("dispatch_seq of %s rose from %d to %d in one step", t.key, o.seq, t.seq)
		case t.try < o.try:
			w.fail("try_number of %s fell from %d to %d", t.key, o.try, t.try)
		case !c.reach[o.state][t.state]:
			w.fail("%s went from %s to %s", t.key, o.state, t.state)
		}
		if o.state.Active() && (!t.state.Active() || t.seq > o.seq) {
			// The dispatch that was outstanding must have ended, or be kept from
			// starting and from writing.
			row := c.row(o.key)
			ended := row.seq >= o.seq && row.status != "running"
			if !ended && row.min <= o.seq {
				w.fail("%s went from %s to %s while dispatch %d could still write (row %+v)", t.key, o.state, t.state, o.seq, row)
			}
		}
	}
	c.expectEffects(old, now)
	c.committedEffects(k)
	c.limits(p, old, now)
}

// allowedRunMove is the diagram of docs/state-machines.md; one step may hold
// several of its moves.
func allowedRunMove(from, to airflow.DagRunState) bool {
	switch from {
	case to, airflow.RunQueued, airflow.RunRunning:
		return true
	}
	return to == airflow.RunQueued || to.Finished()
}

// limits checks what a step that dispatched something, or started its run, had to keep.
func (c *checker) limits(p *proc, old, now *runSnap) {
	w := c.w
	if w.sc.Two || w.sc.IndexLag > 0 && w.now.Sub(p.born) < w.sc.DiscoverEvery+w.sc.LagTime+10*time.Second {
		return // two schedulers that know nothing of each other's slots, or one that has just started and has not found all runs yet
	}
	dispatched := map[int]bool{}
	for i, t := range now.tis {
		if t.state == airflow.TIQueued && (i >= len(old.tis) || t.seq > old.tis[i].seq) {
			dispatched[i] = true
		}
	}
	if now.header.State == airflow.RunRunning && (old.version == 0 || old.header.State != airflow.RunRunning) {
		c.maxActiveRuns(now)
	}
	if len(dispatched) == 0 {
		return
	}
	type perTask struct {
		dag  airflow.DagID
		task airflow.TaskID
	}
	occupied, deferred, active := map[string]int{}, map[string]int{}, 0
	tasks := map[perTask]int{}
	var holders []string
	ofRun, ofRunTask := 0, map[airflow.TaskID]int{}
	for _, k := range c.order {
		r := c.runs[k]
		if r.deleted {
			continue
		}
		for _, t := range r.tis {
			if !t.state.HoldsSlot() && t.state != airflow.TIDeferred {
				continue
			}
			task := r.graph.DAG.Task(t.key.TaskID)
			if task == nil {
				continue
			}
			tasks[perTask{k.DagID, t.key.TaskID}]++
			if k == now.key {
				ofRunTask[t.key.TaskID]++
			}
			if w.trace != nil {
				holders = append(holders, fmt.Sprintf("%s %s(%d) pool %s", t.key, t.state, t.seq, task.Pool))
			}
			if t.state == airflow.TIDeferred {
				deferred[task.Pool] += task.PoolSlots
				continue
			}
			occupied[task.Pool] += task.PoolSlots
			active++
			if k == now.key {
				ofRun++
			}
		}
	}
	fail := func(format string, args ...any) {
		for _, h := range holders {
			w.tracef("holds a slot: %s", h)
		}
		w.fail(format, args...)
	}
	for i := range now.tis {
		if !dispatched[i] {
			continue
		}
		t := now.tis[i]
		task := now.graph.DAG.Task(t.key.TaskID)
		used := occupied[task.Pool]
		if h := c.sizes[task.Pool]; h[len(h)-1].pool.IncludeDeferred {
			used += deferred[task.Pool]
		}
		switch {
		case used > c.slots(task.Pool):
			fail("%s was queued although pool %s then has %d of %d slots occupied", t.key, task.Pool, used, c.slots(task.Pool))
		case active > w.sc.Config.Parallelism:
			fail("%s was queued although then %d instances are queued or running, parallelism is %d", t.key, active, w.sc.Config.Parallelism)
		case ofRun > now.graph.DAG.MaxActiveTasks:
			fail("%s was queued although its run then has %d active instances, max_active_tasks is %d", t.key, ofRun, now.graph.DAG.MaxActiveTasks)
		case task.MaxActiveTIsPerDag > 0 && tasks[perTask{now.key.DagID, t.key.TaskID}] > task.MaxActiveTIsPerDag:
			fail("%s was queued although then %d of the task are active, max_active_tis_per_dag is %d", t.key, tasks[perTask{now.key.DagID, t.key.TaskID}], task.MaxActiveTIsPerDag)
		case task.MaxActiveTIsPerDagRun > 0 && ofRunTask[t.key.TaskID] > task.MaxActiveTIsPerDagRun:
			fail("%s was queued although then %d of the task are active in its run, max_active_tis_per_dagrun is %d", t.key, ofRunTask[t.key.TaskID], task.MaxActiveTIsPerDagRun)
		}
	}
}

// maxActiveRuns checks the limit of a run that has just started.
func (c *checker) maxActiveRuns(now *runSnap) {
	limit := c.w.dag(string(now.key.DagID)).maxRuns
	id := c.runs[now.key].info.BackfillID
	if id != 0 {
		b, err := c.w.clean.GetBackfill(c.w.ctx, id)
		if err != nil {
			c.w.fail("backfill %d of run %s: %v", id, now.key, err)
		}
		limit = b.MaxActiveRuns
	}
	running := 0
	for _, k := range c.order {
		r := c.runs[k]
		if k.DagID == now.key.DagID && !r.deleted && r.version > 0 && r.header.State == airflow.RunRunning && r.info.BackfillID == id {
			running++
		}
	}
	if running > limit {
		c.w.fail("run %s was started as the %dth running one, max_active_runs is %d (backfill %d)", now.key, running, limit, id)
	}
}

// wroteRow sees a write to an instance's row.
func (c *checker) wroteRow(k airflow.TaskInstanceKey, before, after rowState) {
	w := c.w
	run := store.RunKey{DagID: k.DagID, RunID: k.RunID}
	ti, found := c.find(run, k)
	switch {
	case after.seq < before.seq:
		w.fail("the row of %s went back from dispatch %d to %d", k, before.seq, after.seq)
	case after.min < before.min:
		w.fail("the fence of %s fell from %d to %d", k, before.min, after.min)
	case after.seq > before.seq || after.status == "running" && (before.status != "running" || after.claim != before.claim):
		d := dispatchKey{k, after.seq}
		if who, twice := c.claims[d]; twice {
			w.fail("dispatch %d of %s started twice: for %s and for %s", after.seq, k, who, after.claim)
		}
		c.claims[d] = after.claim
		if after.min > after.seq {
			w.fail("dispatch %d of %s started although it was fenced (%d)", after.seq, k, after.min)
		}
		if !found || ti.seq != after.seq || ti.state != airflow.TIQueued {
			w.fail("dispatch %d of %s started, but it is %s with dispatch %d", after.seq, k, ti.state, ti.seq)
		}
	case after.status == "done" && before.status != "done":
		if after.min > after.seq {
			w.fail("dispatch %d of %s reported although it was fenced (%d)", after.seq, k, after.min)
		}
		if before.status != "running" {
			w.fail("dispatch %d of %s reported twice (it was %s)", after.seq, k, before.status)
		}
		if !found || ti.seq != after.seq || !ti.state.Active() {
			w.fail("dispatch %d of %s reported, but it is %s with dispatch %d: a superseded dispatch could write", after.seq, k, ti.state, ti.seq)
		}
	}
}

func (c *checker) find(run store.RunKey, k airflow.TaskInstanceKey) (tiSnap, bool) {
	if r := c.runs[run]; r != nil {
		for _, t := range r.tis {
			if t.key == k {
				return t, true
			}
		}
	}
	return tiSnap{}, false
}

// submitted sees a message on its way to a worker.
func (c *checker) submitted(d worker.Dispatch) {
	ti, ok := c.find(store.RunKey{DagID: d.Key.DagID, RunID: d.Key.RunID}, d.Key)
	if !ok || ti.seq < d.DispatchSeq {
		c.w.fail("dispatch %s was sent before it was committed", d)
	}
}

// started sees a worker begin.
func (c *checker) started(d worker.Dispatch, who worker.Identity, tc *worker.TaskContext) {
	k := dispatchKey{d.Key, d.DispatchSeq}
	if other, twice := c.begun[k]; twice && other != who {
		c.w.fail("dispatch %s started twice: by %+v and by %+v", d, other, who)
	}
	c.begun[k] = who
	if tc.TryNumber < 1 || tc.TryNumber > tc.MaxTries+1+c.restarts[d.Key] {
		c.w.fail("dispatch %s is try %d of %d", d, tc.TryNumber, tc.MaxTries+1)
	}
}

// reported sees whether a worker's report was acknowledged.
func (c *checker) reported(j *job, err error) {
	if err == nil {
		c.acked[dispatchKey{j.d.Key, j.d.DispatchSeq}] = j.report
	}
}

// record sees what a step says it did: it must be allowed, and explain what changed.
func (c *checker) record(p *proc, rec engine.Record) {
	w := c.w
	r := c.runs[rec.Run]
	written := r != nil && r.version == rec.Version && rec.Version == rec.Base+1 // else another step came after it, or only memory changed
	c.replay(p, rec, written)
	for _, t := range rec.Transitions {
		if !t.Created && !t.Expanded && t.From != t.To && !scheduler.AllowedTransition(t.From, t.To) {
			w.fail("%s of %s went from %s to %s (%s): not in docs/state-machines.md", airflow.TIName(t.TaskID, t.MapIndex), rec.Run, t.From, t.To, t.Why)
		}
	}
	if p.gate.dead || !written || r.prev == nil {
		return
	}
	states := make([]airflow.TIState, 0, len(r.tis))
	for _, t := range r.prev.tis {
		states = append(states, t.state)
	}
	c.expectLost(rec, r.graph)
	c.dependencies(rec, r)
	fresh := r.prev.version == 0
	for _, t := range rec.Transitions {
		for len(states) <= t.Pos {
			states = append(states, airflow.TINone)
		}
		have := states[t.Pos]
		if have != t.From && !t.Created && !(have == airflow.TIQueued && t.From == airflow.TIRunning) {
			w.fail("step %d of %s took %s from %s to %s, but it was %s", rec.Version, rec.Run, airflow.TIName(t.TaskID, t.MapIndex), t.From, t.To, have)
		}
		states[t.Pos] = t.To
		if t.Pos < len(r.prev.tis) {
			c.delays(rec, r, t)
		}
		c.applies(rec, t)
	}
	for i, t := range r.tis {
		have := airflow.TINone
		if i < len(states) {
			have = states[i]
		}
		if have != t.state && !(fresh && t.state == airflow.TINone) && !(have == airflow.TIQueued && t.state == airflow.TIRunning) {
			w.fail("step %d of %s left %s %s, but its transitions lead to %s", rec.Version, rec.Run, t.key, t.state, have)
		}
	}
}

// delays checks that nothing starts again too early.
func (c *checker) delays(rec engine.Record, r *runSnap, t scheduler.Transition) {
	if t.To != airflow.TIScheduled || c.w.sc.Skew > 0 {
		return
	}
	prev := r.prev.tis[t.Pos]
	if prev.state != t.From {
		return // it went through that state within this step
	}
	switch t.From {
	case airflow.TIUpForRetry:
		task := r.graph.DAG.Task(t.TaskID)
		delay := task.RetryDelay
		if task.MaxRetryDelay > 0 {
			delay = min(delay, task.MaxRetryDelay)
		}
		if early := prev.end.Time().Add(delay).Sub(rec.At); early > 0 {
			c.w.fail("%s of %s is tried again %s before its retry_delay is over", airflow.TIName(t.TaskID, t.MapIndex), rec.Run, early)
		}
	case airflow.TIUpForReschedule:
		rep := c.acked[dispatchKey{prev.key, prev.seq}]
		if rep != nil && rec.At.Before(rep.RescheduleAt) {
			c.w.fail("%s of %s is started again %s before the date it asked for", airflow.TIName(t.TaskID, t.MapIndex), rec.Run, rep.RescheduleAt.Sub(rec.At))
		}
	case airflow.TIDeferred:
		rep := c.acked[dispatchKey{prev.key, prev.seq}]
		if rep != nil && rep.Deferral != nil && rep.Deferral.Trigger.Kind == worker.TriggerTime && rep.Deferral.Timeout == 0 && rec.At.Before(rep.Deferral.Trigger.At) {
			c.w.fail("%s of %s is resumed %s before its trigger", airflow.TIName(t.TaskID, t.MapIndex), rec.Run, rep.Deferral.Trigger.At.Sub(rec.At))
		}
	}
}

// applies checks that a report that was acknowledged is what decides the dispatch.
func (c *checker) applies(rec engine.Record, t scheduler.Transition) {
	if t.From != airflow.TIRunning || t.Why != scheduler.CodeReported && t.Why != scheduler.CodeRetry {
		return
	}
	k := dispatchKey{airflow.TaskInstanceKey{DagID: rec.Run.DagID, RunID: rec.Run.RunID, TaskID: t.TaskID, MapIndex: t.MapIndex}, t.DispatchSeq}
	rep := c.acked[k]
	if t.To == airflow.TISuccess {
		c.succeeded[k] = true
	}
	if rep == nil {
		return
	}
	ok := false
	switch t.To {
	case airflow.TISuccess:
		ok = rep.Outcome == worker.OutcomeSuccess
	case airflow.TIFailed:
		ok = rep.Outcome == worker.OutcomeFailed || rep.Outcome == worker.OutcomeFailedFinal || rep.Outcome == worker.OutcomeSuccess && rep.Skip != nil || rep.Outcome == worker.OutcomeSuccess && c.edited(rec.Run)
	case airflow.TIUpForRetry:
		ok = rep.Outcome == worker.OutcomeFailed || rep.Outcome == worker.OutcomeSuccess && (rep.Skip != nil || c.edited(rec.Run))
	case airflow.TISkipped:
		ok = rep.Outcome == worker.OutcomeSkipped
	case airflow.TIUpForReschedule:
		ok = rep.Outcome == worker.OutcomeUpForReschedule
	case airflow.TIDeferred:
		ok = rep.Outcome == worker.OutcomeDeferred
	}
	if !ok {
		c.w.fail("%s of %s went to %s, although its worker was told that its report of %s is stored", airflow.TIName(t.TaskID, t.MapIndex), rec.Run, t.To, rep.Outcome)
	}
}

// edited reports whether the DAG of a run ever changed: then a task may be asked
// for a list that it was not made to return.
func (c *checker) edited(k store.RunKey) bool { return len(c.w.dag(string(k.DagID)).graphs) > 1 }

// traceCommit shows what a commit changed.
func (w *World) traceCommit(p *proc, old, now *runSnap) {
	var b strings.Builder
	for i, t := range now.tis {
		from := airflow.TINone
		if i < len(old.tis) {
			from = old.tis[i].state
			if from == t.state && old.tis[i].seq == t.seq {
				continue
			}
		} else if t.state == airflow.TINone {
			continue
		}
		fmt.Fprintf(&b, " %s:%s>%s(%d)", airflow.TIName(t.key.TaskID, t.key.MapIndex), from, t.state, t.seq)
	}
	w.tracef("%s commits %s v%d %s%s", p, now.key, now.version, now.header.State, b.String())
}
