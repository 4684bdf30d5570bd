package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// facts collects what the next decision depends on outside the run.
func (e *Engine) facts(ctx context.Context, r *run) (scheduler.Facts, error) {
	f := scheduler.Facts{IgnoreFirstDependsOnPast: true, MaxRequeues: e.cfg.MaxRequeues}
	if p := e.cfg.IgnoreFirstDependsOnPast; p != nil {
		f.IgnoreFirstDependsOnPast = *p
	}
	m, err := e.dagModel(ctx, r.key.DagID)
	if err != nil {
		return f, err
	}
	f.Paused = m.IsPaused
	want := scheduler.FactsNeeded(r.graph, r.state)
	if !want.Needed || r.state.Header.LogicalDate == nil {
		return f, nil
	}
	prev, err := e.previousRun(ctx, r.key, *r.state.Header.LogicalDate, want.ScheduledOnly)
	if err != nil || prev == nil {
		return f, err
	}
	pr := &scheduler.PreviousRun{LogicalDate: *prev.LogicalDate, Earlier: map[airflow.TaskID]bool{}}
	if pr.Tasks, err = e.pastTasks(ctx, *prev); err != nil {
		return f, err
	}
	for _, id := range want.Tasks {
		if _, ok := pr.Tasks[id]; ok {
			continue
		}
		had, err := e.hadTaskBefore(ctx, r.key.DagID, id, *r.state.Header.LogicalDate)
		if err != nil {
			return f, err
		}
		if had {
			pr.Earlier[id] = true
		}
	}
	f.Previous = pr
	return f, nil
}

// dagModel returns the DAG's entry; a DAG that is unknown counts as not paused,
// so that its runs can end.
func (e *Engine) dagModel(ctx context.Context, id airflow.DagID) (airflow.DagModel, error) {
	if e.shared && e.knowsDag(id) {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.dagsSeen[id].model, nil
	}
	m, err := e.store.GetDag(ctx, id)
	if isNotFound(err) {
		m, err = airflow.DagModel{DagID: id}, nil
	}
	if e.shared && err == nil {
		e.sawDag(m)
	}
	return m, err
}

// sawDag keeps a DAG's entry for the steps that follow.
func (e *Engine) sawDag(m airflow.DagModel) {
	e.mu.Lock()
	e.dagsSeen[m.DagID] = dagSeen{m, e.now()}
	e.mu.Unlock()
}

// previousRun returns the run of the DAG with the largest logical date below ld,
// or nil. Runs are listed by run_after: the search ends when no later page can hold
// a better one. That leaves those whose run_after is before their logical date,
// which have a list of their own.
func (e *Engine) previousRun(ctx context.Context, key store.RunKey, ld time.Time, scheduledOnly bool) (*airflow.DagRun, error) {
	var best *airflow.DagRun
	better := func(c airflow.DagRun) bool {
		return c.RunID != key.RunID && c.LogicalDate != nil && c.LogicalDate.Before(ld) && !(scheduledOnly && c.RunType == airflow.RunTypeManual) &&
			(best == nil || c.LogicalDate.After(*best.LogicalDate))
	}
	err := e.eachRun(ctx, key.DagID, func(c airflow.DagRun) bool {
		if best != nil && c.RunAfter.Before(*best.LogicalDate) {
			return false
		}
		if better(c) {
			best = &c
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var inner error
	err = e.store.RunsAhead(ctx, key.DagID, ld, func(id airflow.RunID) bool {
		c, err := e.store.GetRun(ctx, store.RunKey{DagID: key.DagID, RunID: id})
		if isNotFound(err) {
			return true
		}
		if err != nil {
			inner = err
			return false
		}
		if better(c) {
			best = &c
		}
		// They come by logical date: the first that may count is the best of them.
		return c.LogicalDate == nil || scheduledOnly && c.RunType == airflow.RunTypeManual || !c.LogicalDate.Before(ld)
	})
	if err == nil {
		err = inner
	}
	return best, err
}

// eachRun calls f for the runs of a DAG, newest run_after first, until f returns false.
func (e *Engine) eachRun(ctx context.Context, dag airflow.DagID, f func(airflow.DagRun) bool) error {
	o := store.ListOptions{Descending: true, Limit: 50}
	for {
		runs, cursor, err := e.store.ListRuns(ctx, dag, o)
		if err != nil {
			return err
		}
		for _, c := range runs {
			if !f(c) {
				return nil
			}
		}
		if cursor == "" {
			return nil
		}
		o.Cursor = cursor
	}
}

// pastTasks summarises the instances of a run by task.
func (e *Engine) pastTasks(ctx context.Context, info airflow.DagRun) (map[airflow.TaskID]scheduler.PreviousTask, error) {
	key := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	if info.State.Finished() {
		e.mu.Lock()
		cached, ok := e.finishedFacts[key]
		e.mu.Unlock()
		if ok {
			return cached, nil
		}
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil {
		return nil, err
	}
	out := map[airflow.TaskID]scheduler.PreviousTask{}
	if rs == nil {
		// The previous run has not started: its instances exist in Airflow and are null.
		for _, t := range g.Tasks {
			out[t.ID] = scheduler.PreviousTask{Unsuccessful: 1}
		}
		return out, nil
	}
	for pos := 0; pos < rs.Len(); pos++ {
		ti := rs.At(pos)
		id := rs.TaskID(g, ti)
		pt := out[id]
		if !ti.State.SuccessSet() {
			pt.Unsuccessful++
		}
		out[id] = pt
	}
	if info.State.Finished() {
		e.mu.Lock()
		if len(e.finishedFacts) > 1000 {
			clear(e.finishedFacts)
		}
		e.finishedFacts[key] = out
		e.mu.Unlock()
	}
	return out, nil
}

// readState reads the stored state of a run, without touching what this process
// holds of it. rs is nil if the run has not started or is being deleted.
func (e *Engine) readState(ctx context.Context, info airflow.DagRun) (*scheduler.Graph, *scheduler.RunState, error) {
	key := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	g, err := e.docs.get(ctx, info.DagHash)
	if err != nil {
		return nil, nil, err
	}
	st, err := e.store.LoadRunState(ctx, key)
	if err != nil || st.Version == 0 || st.Deleting {
		return g, nil, err
	}
	return e.decodeState(ctx, key, g, st)
}

// decodeState decodes a stored state. It refers to the DAG version that its own
// header names: a clear may have moved the run to another one than INFO (g) says.
func (e *Engine) decodeState(ctx context.Context, key store.RunKey, g *scheduler.Graph, st store.RunState) (*scheduler.Graph, *scheduler.RunState, error) {
	hash, err := scheduler.EncodedDagHash(st.Header)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: state of run %s: %w", kv.ErrCorrupt, key, err)
	}
	if hash != "" {
		if g, err = e.docs.get(ctx, hash); err != nil {
			return nil, nil, fmt.Errorf("run %s: %w", key, err)
		}
	}
	rs, err := scheduler.Decode(g, st.Header, st.Chunks)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: state of run %s: %w", kv.ErrCorrupt, key, err)
	}
	return g, rs, nil
}

// hadTaskBefore reports whether a run with an earlier logical date has an
// instance of the task.
func (e *Engine) hadTaskBefore(ctx context.Context, dag airflow.DagID, task airflow.TaskID, ld time.Time) (bool, error) {
	found := false
	var inner error
	err := e.eachRun(ctx, dag, func(c airflow.DagRun) bool {
		if c.LogicalDate == nil || !c.LogicalDate.Before(ld) {
			return true
		}
		var tasks map[airflow.TaskID]scheduler.PreviousTask
		if tasks, inner = e.pastTasks(ctx, c); inner != nil {
			return false
		}
		_, found = tasks[task]
		return !found
	})
	if err == nil {
		err = inner
	}
	return found, err
}

// recentDurations are the durations of the newest successful runs, newest first.
func (e *Engine) recentDurations(ctx context.Context, dag airflow.DagID) ([]time.Duration, error) {
	var out []time.Duration
	err := e.eachRun(ctx, dag, func(c airflow.DagRun) bool {
		if c.State == airflow.RunSuccess && c.StartDate != nil && c.EndDate != nil {
			out = append(out, c.EndDate.Sub(*c.StartDate))
		}
		return len(out) < 100
	})
	return out, err
}
