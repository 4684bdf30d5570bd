package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

func isSuperseded(err error) bool { return errors.Is(err, airflow.ErrSuperseded) }

// taskView is a task instance with the dispatch it stands for.
type taskView struct {
	airflow.TaskInstance
	dispatchSeq uint32
}

// taskInstance merges what the scheduler and the worker know of an instance.
// a may be nil.
func (e *Engine) taskInstance(r *run, pos int, a *store.Attempt) taskView {
	return viewOf(r.graph, r.state, pos, a)
}

func viewOf(g *scheduler.Graph, rs *scheduler.RunState, pos int, a *store.Attempt) taskView {
	ti := rs.At(pos)
	v := taskView{dispatchSeq: ti.DispatchSeq}
	v.TaskInstanceKey = rs.Key(g, pos)
	v.State, v.TryNumber, v.MaxTries = ti.State, int(ti.TryNumber), int(ti.MaxTries)
	v.ScheduledWhen, v.QueuedWhen = timePtr(ti.Scheduled.Time()), timePtr(ti.Queued.Time())
	v.StartDate, v.EndDate = timePtr(ti.Start.Time()), timePtr(ti.End.Time())
	if int(ti.Task) < len(g.Tasks) {
		n := &g.Tasks[ti.Task]
		t := n.Task
		v.Operator, v.Queue, v.Executor, v.Pool, v.PoolSlots, v.PriorityWeight = t.TaskType, t.Queue, t.Executor, t.Pool, t.PoolSlots, n.Weight
	}
	if a == nil || a.TryNumber != v.TryNumber {
		return v.withDuration()
	}
	v.Hostname, v.PID, v.RenderedMapIndex = a.Hostname, a.PID, a.RenderedMapIndex
	if v.StartDate == nil {
		v.StartDate = a.FirstStart
	}
	// The row is ahead of META between a claim and the next step.
	if a.DispatchSeq == ti.DispatchSeq && v.State == airflow.TIQueued && a.Status == store.AttemptRunning {
		v.State = airflow.TIRunning
	}
	return v.withDuration()
}

func (v taskView) withDuration() taskView {
	if v.StartDate != nil && v.EndDate != nil {
		d := v.EndDate.Sub(*v.StartDate).Seconds()
		v.Duration = &d
	}
	return v
}

// TaskInstances lists the instances of a run in order of creation. A run that
// has not started has those it will start with.
func (e *Engine) TaskInstances(ctx context.Context, key store.RunKey) ([]airflow.TaskInstance, error) {
	info, err := e.store.GetRun(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", key, err)
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil {
		return nil, err
	}
	if rs == nil {
		h, err := e.headerOf(ctx, g, info)
		if err != nil {
			return nil, err
		}
		rs = scheduler.NewRun(g, h)
	}
	var keys []airflow.TaskInstanceKey
	for pos := 0; pos < rs.Len(); pos++ {
		if rs.At(pos).DispatchSeq > 0 {
			keys = append(keys, rs.Key(g, pos))
		}
	}
	rows, err := e.store.GetAttempts(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]airflow.TaskInstance, rs.Len())
	for pos := range out {
		var a *store.Attempt
		if row, ok := rows[rs.Key(g, pos)]; ok {
			a = &row
		}
		out[pos] = viewOf(g, rs, pos, a).TaskInstance
	}
	return out, nil
}

// Explain says, for a run and its unfinished instances, why they are not moving.
func (e *Engine) Explain(ctx context.Context, key store.RunKey) ([]scheduler.Reason, error) {
	info, err := e.store.GetRun(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", key, err)
	}
	trouble, err := e.troubleReason(ctx, key)
	if err != nil {
		return nil, err
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil && !transient(err) {
		// Nothing can be said of its instances; that much can be said of the run.
		return []scheduler.Reason{*failingReason(key, fmt.Sprintf("Its state cannot be read: %v.", err))}, nil
	}
	if err != nil {
		return nil, err
	}
	if rs == nil {
		h, err := e.headerOf(ctx, g, info)
		if err != nil {
			return nil, err
		}
		rs = scheduler.NewRun(g, h)
	}
	tmp := &run{key: key, graph: g, state: rs, info: info}
	f, err := e.facts(ctx, tmp)
	if err != nil {
		return nil, err
	}
	slots, err := e.slotsNow(ctx)
	if err != nil {
		return nil, err
	}
	reasons := scheduler.Reasons(g, rs, f, e.utcNow(), slots.reasons(key))
	if err := e.seeClaims(ctx, rs, reasons); err != nil {
		return nil, err
	}
	if trouble != nil && !rs.Header.State.Finished() {
		reasons = append([]scheduler.Reason{*trouble}, reasons...)
	}
	return reasons, nil
}

// PoolUsage is a pool with what is taken of it.
type PoolUsage struct {
	airflow.Pool
	OccupiedSlots int `json:"occupied_slots"` // queued and running
	DeferredSlots int `json:"deferred_slots"`
	OpenSlots     int `json:"open_slots"` // -1 = unlimited
}

// Pools lists the pools with their use by this installation's unfinished runs.
func (e *Engine) Pools(ctx context.Context) ([]PoolUsage, error) {
	pools, err := e.store.ListPools(ctx)
	if err != nil {
		return nil, err
	}
	slots, err := e.slotsNow(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]PoolUsage, len(pools))
	for i, p := range pools {
		u := PoolUsage{Pool: p, OpenSlots: airflow.UnlimitedSlots}
		u.OccupiedSlots, u.DeferredSlots = slots.usage(p.Name)
		if p.Slots != airflow.UnlimitedSlots {
			u.OpenSlots = p.Slots - u.OccupiedSlots
			if p.IncludeDeferred {
				u.OpenSlots -= u.DeferredSlots
			}
		}
		out[i] = u
	}
	return out, nil
}

// PutPool creates or changes a pool; waiting instances are looked at again.
func (e *Engine) PutPool(ctx context.Context, p airflow.Pool) error {
	if err := e.store.PutPool(ctx, p); err != nil {
		return err
	}
	e.pools.invalidate()
	if e.outbox != nil {
		return e.pokeWaiting(ctx, "pool:"+p.Name)
	}
	e.pokeAll()
	return nil
}

// DeletePool removes a pool.
func (e *Engine) DeletePool(ctx context.Context, name string) error {
	if err := e.store.DeletePool(ctx, name); err != nil {
		return err
	}
	e.pools.invalidate()
	return nil
}

// pokeAll steps every unfinished run.
func (e *Engine) pokeAll() {
	e.mu.Lock()
	rs := make([]*run, 0, len(e.runs))
	for _, r := range e.runs {
		rs = append(rs, r)
	}
	sortRuns(rs)
	for _, r := range rs {
		e.enqueueLocked(r)
	}
	e.mu.Unlock()
}

// Graph returns the compiled DAG version of a content hash.
func (e *Engine) Graph(ctx context.Context, hash string) (*scheduler.Graph, error) {
	return e.docs.get(ctx, hash)
}

// Store returns the store the engine works on.
func (e *Engine) Store() *store.Store { return e.store }

// ActiveRunCount returns how many unfinished runs this process holds.
func (e *Engine) ActiveRunCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.runs)
}

// Now returns the engine's clock.
func (e *Engine) Now() time.Time { return e.utcNow() }
