package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// Clock is a clock that moves when told to.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock returns a clock at Epoch.
func NewClock() *Clock { return &Clock{t: Epoch} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	c.t = c.t.Add(d)
	c.mu.Unlock()
}

// Set moves the clock to t, never back.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	if t.After(c.t) {
		c.t = t
	}
	c.mu.Unlock()
}

// Queue is a Submitter that keeps dispatches for the test to run.
type Queue struct {
	mu        sync.Mutex
	Waiting   []worker.Dispatch
	Cancelled []worker.Dispatch
}

// Submit implements engine.Submitter.
func (q *Queue) Submit(_ context.Context, ds []worker.Dispatch) error {
	q.mu.Lock()
	q.Waiting = append(q.Waiting, ds...)
	q.mu.Unlock()
	return nil
}

// Cancel implements engine.Submitter.
func (q *Queue) Cancel(d worker.Dispatch, _ string) {
	q.mu.Lock()
	q.Cancelled = append(q.Cancelled, d)
	q.mu.Unlock()
}

// Take removes and returns the dispatches that wait.
func (q *Queue) Take() []worker.Dispatch {
	q.mu.Lock()
	defer q.mu.Unlock()
	ds := q.Waiting
	q.Waiting = nil
	return ds
}

// Outbox keeps the messages that an engine sends.
type Outbox struct {
	mu      sync.Mutex
	Waiting []engine.Message
}

// Send implements engine.Outbox.
func (o *Outbox) Send(_ context.Context, ms []engine.Message) error {
	o.mu.Lock()
	o.Waiting = append(o.Waiting, ms...)
	o.mu.Unlock()
	return nil
}

// Take removes and returns the messages whose time has come.
func (o *Outbox) Take(now time.Time) (due []engine.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var later []engine.Message
	for _, m := range o.Waiting {
		if m.At.After(now) {
			later = append(later, m)
		} else {
			due = append(due, m)
		}
	}
	o.Waiting = later
	return due
}

// Next returns when the first message is due; ok is false if there is none.
func (o *Outbox) Next() (at time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.Waiting {
		if !ok || m.At.Before(at) {
			at, ok = m.At, true
		}
	}
	return at, ok
}

// Harness is an engine with a store, a clock and a queue.
type Harness struct {
	Store   *store.Store
	Engine  *engine.Engine
	Backend *engine.Backend
	Clock   *Clock
	Queue   *Queue
	Log     *slog.Logger
	Config  engine.Config
	// Callbacks are given to engines made by Restart; nil = none.
	Callbacks engine.Callbacks
	// Listener is given to engines made by Restart; nil = none.
	Listener engine.Listener
	Who      worker.Identity
	// Outbox, if set, makes Engine one of those that share a store; its messages lie there.
	Outbox *Outbox
	ids    int
}

// NewShared is New with an engine that keeps in the store what schedulers share.
func NewShared(d kv.Driver, cfg engine.Config, log *slog.Logger) *Harness {
	h := &Harness{Store: store.New(d, nil), Clock: NewClock(), Log: log, Config: cfg, Who: worker.Identity{Hostname: "host", PID: 1, Unixname: "user"}, Outbox: &Outbox{}}
	h.Restart()
	return h
}

// NewEngine returns another engine on the harness's store: what a fresh
// invocation has, or with passive what a worker or a tool has.
func (h *Harness) NewEngine(passive bool) *engine.Engine {
	o := engine.Options{
		Store: h.Store, Submitter: h.Queue, Callbacks: h.Callbacks, Config: h.Config, Log: h.Log, Now: h.Clock.Now, Passive: passive, Listener: h.Listener,
		NewID: func() string { h.ids++; return fmt.Sprintf("id%08d", h.ids) },
	}
	if h.Outbox != nil {
		o.Outbox = h.Outbox
	}
	return engine.New(o)
}

// New returns a harness over a driver.
func New(d kv.Driver, cfg engine.Config, log *slog.Logger) *Harness {
	h := &Harness{Store: store.New(d, nil), Clock: NewClock(), Log: log, Config: cfg, Who: worker.Identity{Hostname: "host", PID: 1, Unixname: "user"}}
	h.Restart()
	return h
}

// Restart replaces the engine by a new one on the same store, as after a crash:
// everything in memory and in the queue is gone.
func (h *Harness) Restart() {
	h.Queue = &Queue{}
	h.Engine = h.NewEngine(false)
	h.Backend = engine.NewBackend(h.Engine, nil, nil, nil)
}

// Register stores a DAG version, un-paused unless paused.
func (h *Harness) Register(ctx context.Context, d DAG) (airflow.DagModel, error) {
	doc, hash, err := airflow.CanonicalDAG(d.Document())
	if err != nil {
		return airflow.DagModel{}, err
	}
	dag, err := airflow.ParseDAG(doc)
	if err != nil {
		return airflow.DagModel{}, err
	}
	if err := h.Store.PutDocument(ctx, hash, doc); err != nil {
		return airflow.DagModel{}, err
	}
	for _, a := range d.Assets {
		if _, err := h.Store.UpsertAsset(ctx, airflow.Asset{Name: a, URI: a, Group: "asset"}, func(r *store.AssetRecord) error {
			r.ScheduledDags = append(r.ScheduledDags, dag.DagID)
			return nil
		}); err != nil {
			return airflow.DagModel{}, err
		}
	}
	m := airflow.DagModel{DagID: dag.DagID, RelativeFileloc: dag.RelativeFileloc, LatestVersion: 1, LatestHash: hash}
	err = h.Store.CreateDag(ctx, m)
	if errors.Is(err, airflow.ErrAlreadyExists) {
		m, err = h.Store.UpdateDag(ctx, dag.DagID, func(m *airflow.DagModel) error {
			if m.LatestHash != hash {
				m.LatestVersion++
				m.LatestHash = hash
			}
			return nil
		})
	}
	if err != nil {
		return m, err
	}
	if err := h.Store.PutDagVersion(ctx, airflow.DagVersion{DagID: m.DagID, Number: m.LatestVersion, Hash: hash, CreatedAt: h.Clock.Now()}); err != nil {
		return m, err
	}
	h.Engine.DagChanged(m.DagID)
	return m, nil
}

// Trigger starts a manual run with the present time as its logical date.
func (h *Harness) Trigger(ctx context.Context, dag, runID string) (store.RunKey, error) {
	now := h.Clock.Now()
	info, err := h.Engine.Trigger(ctx, engine.TriggerOptions{DagID: airflow.DagID(dag), RunID: airflow.RunID(runID), LogicalDate: &now, TriggeredBy: airflow.TriggeredByTest})
	h.Engine.Drain(ctx)
	return store.RunKey{DagID: info.DagID, RunID: info.RunID}, err
}

// Outcome is what a test's worker reports.
type Outcome struct {
	worker.Report
	// Value is the return value; a list or dict records its length.
	Value any
}

// Success reports success with a return value (nil pushes nothing).
func Success(value any) Outcome {
	return Outcome{Report: worker.Report{Outcome: worker.OutcomeSuccess}, Value: value}
}

// Fail reports an ordinary failure.
func Fail() Outcome {
	return Outcome{Report: worker.Report{Outcome: worker.OutcomeFailed, Error: "boom"}}
}

// Run claims a dispatch and reports, then lets the engine react.
func (h *Harness) Run(ctx context.Context, d worker.Dispatch, out Outcome) error {
	tc, err := h.Backend.Claim(ctx, d, h.Who)
	if err != nil {
		return err
	}
	return h.Finish(ctx, d, tc, out)
}

// Finish reports the outcome of a claimed dispatch.
func (h *Harness) Finish(ctx context.Context, d worker.Dispatch, tc *worker.TaskContext, out Outcome) error {
	r := out.Report
	r.EndDate = h.Clock.Now()
	if out.Value != nil {
		v, err := json.Marshal(out.Value)
		if err != nil {
			return err
		}
		r.XComs = append(r.XComs, worker.XComPush{Key: airflow.XComReturnKey, Value: v})
		r.PushedReturnValue = true
		var list []json.RawMessage
		if json.Unmarshal(v, &list) == nil {
			n := len(list)
			r.MappedLength = &n
		}
	}
	if r.Outcome == worker.OutcomeSuccess {
		for _, o := range tc.Task.Outlets {
			r.AssetEvents = append(r.AssetEvents, worker.OutletEvent{Asset: o})
		}
	}
	err := h.Backend.Finish(ctx, d, &r)
	h.Engine.Drain(ctx)
	return err
}

// RunAll runs dispatches as they come, with the outcome that pick chooses, until
// none waits. It returns them in order.
func (h *Harness) RunAll(ctx context.Context, pick func(worker.Dispatch, *worker.TaskContext) Outcome) ([]worker.Dispatch, error) {
	var ran []worker.Dispatch
	h.Engine.Drain(ctx)
	for {
		ds := h.Queue.Take()
		if len(ds) == 0 {
			return ran, nil
		}
		for _, d := range ds {
			tc, err := h.Backend.Claim(ctx, d, h.Who)
			if err != nil {
				return ran, err
			}
			ran = append(ran, d)
			if err := h.Finish(ctx, d, tc, pick(d, tc)); err != nil {
				return ran, err
			}
		}
	}
}

// Succeed picks success for everything.
func Succeed(worker.Dispatch, *worker.TaskContext) Outcome { return Success(nil) }

// States returns the states of a run's instances by name, and the run's state.
func (h *Harness) States(ctx context.Context, k store.RunKey) (airflow.DagRunState, map[string]airflow.TIState, error) {
	info, err := h.Store.GetRun(ctx, k)
	if err != nil {
		return "", nil, err
	}
	tis, err := h.Engine.TaskInstances(ctx, k)
	if err != nil {
		return "", nil, err
	}
	out := map[string]airflow.TIState{}
	for _, ti := range tis {
		out[airflow.TIName(ti.TaskID, ti.MapIndex)] = ti.State
	}
	return info.State, out, nil
}
