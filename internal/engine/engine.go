package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// Submitter is the engine's view of executors: start these dispatches, stop that
// one. Both are effects: they may be repeated, and a dispatch that was submitted
// twice is claimed once.
type Submitter interface {
	// Submit hands dispatches over. An error means that some may not have been
	// taken; they are submitted again by Sweep.
	Submit(ctx context.Context, ds []worker.Dispatch) error
	// Cancel asks for a dispatch to be stopped soon. Best effort: the fence in
	// the store is what stops it.
	Cancel(d worker.Dispatch, cause string)
}

// Observer is a Submitter that knows what waits or runs in this very process.
// Such a dispatch is neither sent again nor taken for stuck or lost, however
// long it waits for a place and whatever the clock does.
type Observer interface {
	Observe(d worker.Dispatch) bool
}

// observed reports whether this process is known to have the dispatch.
func (e *Engine) observed(d worker.Dispatch) bool {
	o, ok := e.submitter.(Observer)
	return ok && o.Observe(d)
}

// Callbacks carries out callbacks that no worker can run.
type Callbacks interface {
	// RunDagCallback runs a DAG's on_success_callback or on_failure_callback.
	RunDagCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, success bool, reason, idempotencyKey string) error
	// RunTaskCallback runs on_failure_callback or on_retry_callback of an instance whose worker is lost.
	RunTaskCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, idempotencyKey string) error
	// RunDeadline runs the callback of a missed deadline.
	RunDeadline(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, idempotencyKey string) error
}

// Config holds the settings that decisions depend on, by Airflow's names. The
// zero value of a field means its default.
type Config struct {
	// Parallelism is the number of instances that may be queued or running at
	// once ([core] parallelism). Default 32.
	Parallelism int
	// MaxMapLength is [core] max_map_length. Default 1024.
	MaxMapLength int
	// MaxRequeues is [scheduler] num_stuck_in_queued_retries. Default 2.
	MaxRequeues int
	// MaxRetryDelay is [core] max_task_retry_delay. Default 24 h, negative for no delay.
	MaxRetryDelay time.Duration
	// QueuedTimeout is [scheduler] task_queued_timeout. Default 600 s.
	QueuedTimeout time.Duration
	// HeartbeatTimeout is how long a running instance may be silent
	// ([scheduler] task_instance_heartbeat_timeout). Default 300 s.
	HeartbeatTimeout time.Duration
	// IgnoreFirstDependsOnPast is [scheduler] ignore_first_depends_on_past_by_default. Default true (nil).
	IgnoreFirstDependsOnPast *bool
	// DefaultPoolSlots is [core] default_pool_task_slot_count. Default 128.
	DefaultPoolSlots int
	// UseJobSchedule is [scheduler] use_job_schedule. Default true (nil).
	UseJobSchedule *bool
	// DueBatch is how many due DAGs one tick takes; where schedulers share a store,
	// how many are handed to others with one request. Default 500.
	DueBatch int
	// DueHere is how many due DAGs a tick plans itself where schedulers share a
	// store. Default 50.
	DueHere int
	// DueRate is how many due DAGs a second are to be planned where schedulers share
	// a store: what the partition of an index takes. Default 450.
	DueRate int
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Parallelism, 32)
	def(&c.MaxMapLength, 1024)
	def(&c.MaxRequeues, 2)
	def(&c.DefaultPoolSlots, 128)
	def(&c.DueBatch, 500)
	def(&c.DueHere, 50)
	def(&c.DueRate, 450)
	if c.QueuedTimeout == 0 {
		c.QueuedTimeout = 600 * time.Second
	}
	if c.HeartbeatTimeout == 0 {
		c.HeartbeatTimeout = 300 * time.Second
	}
	return c
}

// Options are what an engine is built from.
type Options struct {
	Store     *store.Store
	Submitter Submitter
	Callbacks Callbacks // nil: callbacks are logged and dropped
	Config    Config
	Log       *slog.Logger     // nil: discarded
	Now       func() time.Time // nil: time.Now
	// NewID returns text that was never returned before, for run ids, asset
	// events and audit entries. nil: random.
	NewID func() string
	// Records receives every step's inputs and outcome, for replay. nil: none are kept.
	Records func(Record)
	// Listener is told what steps have changed. nil: nobody is.
	Listener Listener
	// Passive is for tools beside a running scheduler: interventions are committed,
	// but nothing is decided, admitted or dispatched; the scheduler is told
	// (Refresh, DagChanged) and does that.
	Passive bool
	// Background runs f beside what the engine does, for simulations that decide
	// when; f may never run, as when the process dies. nil: a goroutine.
	Background func(f func())
	// Outbox makes this the engine of schedulers that come and go (Lambda): limits
	// across runs, timers and watchers are kept in the store and in queues, and
	// Handle and TickServerless do the work. With Passive, it is the engine of
	// workers and tools beside such schedulers. nil: one process that is up all the time.
	Outbox Outbox
	// CallbackQueue, with Outbox, carries callbacks to workers. nil: Callbacks runs them here.
	CallbackQueue CallbackQueue
	// Route may change the queue and executor of a dispatch from what its task says.
	Route func(*airflow.Task, *worker.Dispatch)
	// Handlers is how many runs an invocation steps at once. Default 8; 1 keeps
	// everything on the caller's goroutine, for simulations.
	Handlers int
	// WideFrom is the number of instances from which the reports on a run are gathered,
	// where schedulers share a store. Default 300.
	WideFrom int
	// Pause waits between the steps of such a run. nil: time.Sleep.
	Pause func(time.Duration)
	// PanicsEscape lets a panic in a step end the process, for simulations whose
	// checks panic. By default it fails the step: other runs go on.
	PanicsEscape bool
}

// Engine schedules the runs of one installation.
type Engine struct {
	store     *store.Store
	lists     *store.Store // leaves out and reports what cannot be read
	submitter Submitter
	callbacks Callbacks
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	newID     func() string
	records   func(Record)
	listener  Listener
	passive   bool
	escape    bool

	outbox        Outbox
	callbackQueue CallbackQueue
	route         func(*airflow.Task, *worker.Dispatch)
	handlers      int
	name          string     // of this scheduler, in ledgers
	shared        bool       // decides, and others do on the same store
	one           sync.Mutex // one invocation at a time
	handling      *handling
	dagsSeen      map[airflow.DagID]dagSeen
	// dueRead is the last minute whose due items were handed on, dueSaved what the
	// store knows of that.
	dueRead, dueSaved time.Time
	leases            map[store.RunKey]store.Lease // of wide runs, as last read
	wideFrom          int
	pause             func(time.Duration)
	unsettled         map[store.RunKey]bool  // runs whose slots are to be stated again
	changed           map[airflow.DagID]bool // DAGs all of whose runs are to be looked at
	beside            func(func())

	docs      *documents
	admission *admission
	pools     *poolCache

	mu     sync.Mutex
	runs   map[store.RunKey]*run // unfinished runs known to this process
	byDag  map[airflow.DagID]map[store.RunKey]*run
	ready  []*run // runs with mail, in order of arrival
	signal chan struct{}
	replan chan struct{}
	woken  chan struct{}
	onLost func(worker.Dispatch, store.Attempt, string)
	wakes  wakeHeap
	// watchers are deferred instances that wait for runs or tasks of a DAG.
	watchers map[airflow.DagID]map[watcher]struct{}
	// finishedFacts caches what later runs ask of finished ones.
	finishedFacts map[store.RunKey]map[airflow.TaskID]scheduler.PreviousTask
	// moved are DAGs whose runs must be planned again, in order of arrival.
	moved      map[airflow.DagID]bool
	movedOrder []airflow.DagID
	// dueOnly are those of moved that need nothing done unless they are due.
	dueOnly map[airflow.DagID]bool
	// delayed are DAGs that could not be planned, with the time of the next try.
	delayed    map[airflow.DagID]delayedDag
	planning   dagLocks
	backfills  map[int64]airflow.Backfill // unfinished ones
	claims     map[claimKey]*claimable    // dispatched by this process, not claimed yet
	inFlight   map[string]bool            // callbacks being carried out
	corrupt    map[kv.Key]bool            // items that were reported as unreadable
	later      laterCallbacks
	background sync.WaitGroup
	closing    context.Context
	close      context.CancelFunc
}

// New returns an engine. It does nothing until Recover, Tick or Step are called.
func New(o Options) *Engine {
	e := &Engine{
		store:         o.Store,
		submitter:     o.Submitter,
		callbacks:     o.Callbacks,
		cfg:           o.Config.withDefaults(),
		log:           o.Log,
		now:           o.Now,
		newID:         o.NewID,
		records:       o.Records,
		listener:      o.Listener,
		passive:       o.Passive,
		escape:        o.PanicsEscape,
		outbox:        o.Outbox,
		callbackQueue: o.CallbackQueue,
		route:         o.Route,
		handlers:      o.Handlers,
		name:          randomID()[:8],
		shared:        o.Outbox != nil && !o.Passive,
		beside:        o.Background,
		runs:          map[store.RunKey]*run{},
		byDag:         map[airflow.DagID]map[store.RunKey]*run{},
		signal:        make(chan struct{}, 1),
		replan:        make(chan struct{}, 1),
		woken:         make(chan struct{}, 1),
		watchers:      map[airflow.DagID]map[watcher]struct{}{},
		finishedFacts: map[store.RunKey]map[airflow.TaskID]scheduler.PreviousTask{},
		moved:         map[airflow.DagID]bool{},
		dueOnly:       map[airflow.DagID]bool{},
		delayed:       map[airflow.DagID]delayedDag{},
		backfills:     map[int64]airflow.Backfill{},
		claims:        map[claimKey]*claimable{},
		inFlight:      map[string]bool{},
		corrupt:       map[kv.Key]bool{},
		changed:       map[airflow.DagID]bool{},
		dagsSeen:      map[airflow.DagID]dagSeen{},
		unsettled:     map[store.RunKey]bool{},
		leases:        map[store.RunKey]store.Lease{},
		wideFrom:      o.WideFrom,
		pause:         o.Pause,
	}
	if e.wideFrom <= 0 {
		e.wideFrom = wideFrom
	}
	if e.pause == nil {
		e.pause = time.Sleep
	}
	if e.handlers <= 0 {
		e.handlers = 8
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.newID == nil {
		e.newID = randomID
	}
	e.lists = o.Store.Lenient(e.unreadable)
	if e.beside == nil {
		e.beside = func(f func()) {
			e.background.Add(1)
			go func() {
				defer e.background.Done()
				f()
			}()
		}
	}
	e.docs = newDocuments(o.Store)
	e.pools = newPoolCache(o.Store, e.cfg.DefaultPoolSlots)
	e.planning = newDagLocks()
	e.admission = newAdmission(e.cfg.Parallelism)
	e.closing, e.close = context.WithCancel(context.Background())
	return e
}

// closeGrace bounds how long a server that stops waits for callbacks that it has
// told to end.
const closeGrace = 10 * time.Second

// Close stops background effects and waits for them, for callbacks that do not
// stop a limited time. Effects that were not carried out are found again by the
// next Recover.
func (e *Engine) Close() {
	e.close()
	done := make(chan struct{})
	go func() { e.background.Wait(); close(done) }()
	limit := time.NewTimer(closeGrace)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		e.log.Warn("callbacks did not stop; they run again after the next start", "waited", closeGrace)
	}
}

// Wait waits for background effects in progress.
func (e *Engine) Wait() { e.background.Wait() }

// SetSubmitter replaces the submitter; it must be called before Recover.
func (e *Engine) SetSubmitter(s Submitter) { e.submitter = s }

// utcNow returns the time to the microsecond, Airflow's resolution.
func (e *Engine) utcNow() time.Time { return e.now().UTC().Truncate(time.Microsecond) }

// run is what this process holds of an unfinished run. Its fields below mu are
// guarded by mu; mail and flags by Engine.mu.
type run struct {
	key store.RunKey

	mail     []Event
	queued   bool // in Engine.ready
	starting bool // told to start
	busy     bool // being stepped
	gone     bool // finished and forgotten
	wake     time.Time
	stale    bool           // the state must be read again before the next step
	made     bool           // this process has just created the run: it has no state yet
	info     airflow.DagRun // last known INFO, for limits and lists

	mu      sync.Mutex
	graph   *scheduler.Graph
	state   *scheduler.RunState // nil until loaded
	version int64
	known   store.Known[airflow.DagRun] // INFO as it was when the state was loaded
	encoded [][]byte                    // chunks as last encoded
	// chunks are the versions of those, and seen what the store last had of a wide
	// run: it outlives the state, so that what did not change is not read again.
	chunks   []int64
	seen     store.RunState
	written  int // units that steps have written of a wide run since this was last zero
	triggers map[int]trigger
	// recording is what the record of the next step needs.
	recording recording
	told      listening
	// refreshed is when the rows of queued instances were last read.
	refreshed time.Time
	failing

	// Where schedulers share a store: slots is the run's own authority, settled what
	// the ledgers know it to hold, owes those to be told; armed is when its timer
	// fires and arming the time to be sent; watched are the deferrals stored as watches.
	slots         *admission
	settled       map[string]slotsUse
	owes          []string
	refused       map[airflow.TaskID]refusal
	armed, arming time.Time
	watched       map[uint32]bool
}

// lookup returns the run, adding it when it is new.
func (e *Engine) lookup(info airflow.DagRun) *run {
	key := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runs[key]
	if r == nil {
		r = &run{key: key, info: info, triggers: map[int]trigger{}}
		e.trackLocked(r)
	}
	return r
}

// adoptLocked takes a run back that was forgotten while mail for it was under
// way. If the run has come back otherwise, that one gets the mail: two that step
// one run would both keep accounts of it, and what nobody looks up is stepped no more.
func (e *Engine) adoptLocked(r *run) bool {
	cur := e.runs[r.key]
	if cur == nil {
		r.gone = false
		e.trackLocked(r)
		return true
	}
	cur.mail = append(cur.mail, r.mail...)
	r.mail, r.queued = nil, false
	e.enqueueLocked(cur)
	return false
}

func (e *Engine) trackLocked(r *run) {
	e.runs[r.key] = r
	if e.byDag[r.key.DagID] == nil {
		e.byDag[r.key.DagID] = map[store.RunKey]*run{}
	}
	e.byDag[r.key.DagID][r.key] = r
}

// forget drops a finished run.
func (e *Engine) forget(r *run) {
	e.mu.Lock()
	r.gone = true
	delete(e.runs, r.key)
	delete(e.byDag[r.key.DagID], r.key)
	if len(e.byDag[r.key.DagID]) == 0 {
		delete(e.byDag, r.key.DagID)
	}
	e.mu.Unlock()
}

// forgetDeleted drops a run that was deleted: its slots, and what its dispatches
// would need to start.
func (e *Engine) forgetDeleted(key store.RunKey) {
	e.mu.Lock()
	r := e.runs[key]
	for ck := range e.claims {
		if ck.key.DagID == key.DagID && ck.key.RunID == key.RunID {
			delete(e.claims, ck)
		}
	}
	e.mu.Unlock()
	if !e.shared {
		e.admission.drop(key)
		e.slotsFreed(key)
	}
	if r != nil {
		e.forget(r)
	}
}

// Event is something that concerns one run.
type Event struct {
	// Start moves a queued run to running.
	Start bool
	// Report is a worker's report on Dispatch; nil with a Dispatch means: read the row.
	Dispatch *worker.Dispatch
	Report   *worker.Report
	// Core is a report made by the control plane itself (lost, not accepted …).
	Core *scheduler.Report
	// Cause explains Core in logs and callbacks.
	Cause string
	// Action is an operator's intervention; its result goes to Done, which must
	// have room for it. An action whose step fails is dropped, not tried again:
	// the caller knows whether it still wants it.
	Action func(*scheduler.Graph, *scheduler.RunState, time.Time) (scheduler.ActionResult, error)
	Done   chan<- error
	// Mark is written with the step that carries Action out.
	Mark *store.PendingEffect
	// Claimed says that the dispatch was claimed (kept in memory only), at Started;
	// zero is when the event is taken. With a Report, Started is when its dispatch was claimed.
	Claimed bool
	Started time.Time
	// Fire says that the trigger of the deferred instance Dispatch has an event.
	Fire  bool
	Value []byte

	wide bool // a report that may be left to another scheduler
}

// Post delivers an event to a run. Events are lost when the process dies: every
// one of them is found again in the store by Recover.
func (e *Engine) Post(info airflow.DagRun, ev Event) {
	if e.remote() {
		return // those who post there announce it
	}
	r := e.lookup(info)
	e.post(r, ev)
}

func (e *Engine) post(r *run, ev Event) {
	e.mu.Lock()
	r.mail = append(r.mail, ev)
	e.enqueueLocked(r)
	e.mu.Unlock()
}

// poke asks for a step without an event.
func (e *Engine) poke(r *run) {
	if e.remote() {
		e.sendAll(context.Background(), Message{Kind: MessageRun, DagID: r.key.DagID, RunID: r.key.RunID})
		return
	}
	e.mu.Lock()
	e.enqueueLocked(r)
	e.mu.Unlock()
}

func (e *Engine) enqueueLocked(r *run) {
	if r.queued || r.gone && len(r.mail) == 0 {
		return
	}
	r.queued = true
	if !r.busy {
		e.ready = append(e.ready, r)
		e.notify()
	}
}

func (e *Engine) notify() {
	select {
	case e.signal <- struct{}{}:
	default:
	}
}

// Ready is signalled when a run may have work; see Work.
func (e *Engine) Ready() <-chan struct{} { return e.signal }

// Work steps the next run that has mail, or plans the next DAG that moved, and
// reports whether there was one. Any number of goroutines may call it.
func (e *Engine) Work(ctx context.Context) bool {
	e.mu.Lock()
	if len(e.ready) == 0 {
		e.mu.Unlock()
		dag, dueOnly, ok := e.nextMoved()
		if !ok {
			return false
		}
		_ = e.planDag(ctx, dag, dueOnly) // logged, and tried again
		return true
	}
	r := e.ready[0]
	e.ready[0] = nil
	e.ready = e.ready[1:]
	if len(e.ready) > 0 {
		e.notify() // let another goroutine take the next one
	}
	if r.gone && !e.adoptLocked(r) {
		e.mu.Unlock()
		return true
	}
	r.queued, r.busy = false, true
	mail := r.mail
	r.mail = nil
	stale := r.stale
	r.stale = false
	e.mu.Unlock()
	if stale {
		r.mu.Lock()
		e.unload(r)
		r.mu.Unlock()
	}

	if err := e.step(ctx, r, mail); err != nil {
		e.log.ErrorContext(ctx, "step failed", "dag_id", r.key.DagID, "run_id", r.key.RunID, "err", err)
	}

	e.mu.Lock()
	r.busy = false
	if r.queued {
		e.ready = append(e.ready, r)
		e.notify()
	}
	e.mu.Unlock()
	return true
}

// Drain steps runs until none has mail.
func (e *Engine) Drain(ctx context.Context) {
	for e.Work(ctx) {
	}
}

// ActiveRuns returns the unfinished runs of a DAG known to this process, unordered.
func (e *Engine) activeRuns(dag airflow.DagID) []*run {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]*run, 0, len(e.byDag[dag]))
	for _, r := range e.byDag[dag] {
		out = append(out, r)
	}
	sortRuns(out)
	return out
}
