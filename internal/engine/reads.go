package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/timetable"
	"github.com/gustflow/gust/internal/worker"
)

// What tasks read while they run: XComs, variables and connections, runs, states and DAGs.

// GetXCom implements worker.Reader.
func (b *Backend) GetXCom(ctx context.Context, q worker.XComQuery) (json.RawMessage, error) {
	x, err := b.e.store.GetXCom(ctx, airflow.TaskInstanceKey{DagID: q.DagID, RunID: q.RunID, TaskID: q.TaskID, MapIndex: q.MapIndex}, q.Key)
	if err == nil {
		return x.Value, nil
	}
	if !isNotFound(err) || !q.IncludePriorDates {
		return nil, err
	}
	var found json.RawMessage
	perr := b.eachPrior(ctx, q, func(k store.RunKey) (bool, error) {
		x, err := b.e.store.GetXCom(ctx, airflow.TaskInstanceKey{DagID: k.DagID, RunID: k.RunID, TaskID: q.TaskID, MapIndex: q.MapIndex}, q.Key)
		if isNotFound(err) {
			return true, nil
		}
		found = x.Value
		return false, err
	})
	if perr != nil {
		return nil, perr
	}
	if found == nil {
		return nil, err
	}
	return found, nil
}

// eachPrior calls f for the runs with an earlier logical date, newest first.
func (b *Backend) eachPrior(ctx context.Context, q worker.XComQuery, f func(store.RunKey) (bool, error)) error {
	info, err := b.e.store.GetRun(ctx, store.RunKey{DagID: q.DagID, RunID: q.RunID})
	if err != nil || info.LogicalDate == nil {
		return err
	}
	var prior []airflow.DagRun
	err = b.e.eachRun(ctx, q.DagID, func(c airflow.DagRun) bool {
		if c.LogicalDate != nil && c.LogicalDate.Before(*info.LogicalDate) {
			prior = append(prior, c)
		}
		return true
	})
	if err != nil {
		return err
	}
	sort.SliceStable(prior, func(i, j int) bool { return prior[i].LogicalDate.After(*prior[j].LogicalDate) })
	for _, c := range prior {
		more, err := f(store.RunKey{DagID: c.DagID, RunID: c.RunID})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// ListXCom implements worker.Reader.
func (b *Backend) ListXCom(ctx context.Context, q worker.XComQuery) ([]worker.MappedXCom, error) {
	out, err := b.listXComOf(ctx, q, store.RunKey{DagID: q.DagID, RunID: q.RunID})
	if err != nil || len(out) > 0 || !q.IncludePriorDates {
		return out, err
	}
	err = b.eachPrior(ctx, q, func(k store.RunKey) (bool, error) {
		var err error
		out, err = b.listXComOf(ctx, q, k)
		return len(out) == 0, err
	})
	return out, err
}

func (b *Backend) listXComOf(ctx context.Context, q worker.XComQuery, k store.RunKey) ([]worker.MappedXCom, error) {
	indexes, err := b.e.mapIndexes(ctx, k, q.TaskID)
	if err != nil {
		return nil, err
	}
	keys := make([]airflow.TaskInstanceKey, len(indexes))
	for i, mi := range indexes {
		keys[i] = airflow.TaskInstanceKey{DagID: k.DagID, RunID: k.RunID, TaskID: q.TaskID, MapIndex: mi}
	}
	values, err := b.e.store.GetXComs(ctx, keys, q.Key)
	if err != nil {
		return nil, err
	}
	var out []worker.MappedXCom
	for i, v := range values {
		if v != nil {
			out = append(out, worker.MappedXCom{MapIndex: indexes[i], Value: v})
		}
	}
	return out, nil
}

// mapIndexes lists the map indexes of a task's instances in a run, ascending.
func (e *Engine) mapIndexes(ctx context.Context, k store.RunKey, task airflow.TaskID) ([]int, error) {
	info, err := e.store.GetRun(ctx, k)
	if err != nil {
		return nil, err
	}
	g, err := e.docs.get(ctx, info.DagHash)
	if err != nil {
		return nil, err
	}
	if i := g.TaskIndex(task); i < 0 || !g.MayBeMapped(i) {
		return []int{airflow.Unmapped}, nil
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil || rs == nil {
		return nil, err
	}
	var out []int
	for pos := 0; pos < rs.Len(); pos++ {
		ti := rs.At(pos)
		if ti.State != airflow.TIRemoved && rs.TaskID(g, ti) == task {
			out = append(out, int(ti.MapIndex))
		}
	}
	sort.Ints(out)
	return out, nil
}

// GetVariable implements worker.Reader: secrets backend, environment, store.
func (b *Backend) GetVariable(ctx context.Context, key string) (airflow.Variable, error) {
	if b.secrets != nil {
		if v, ok, err := b.secrets.Variable(ctx, key); err != nil || ok {
			return v, err
		}
	}
	return b.e.store.GetVariable(ctx, key)
}

// GetConnection implements worker.Reader: secrets backend, environment, store.
func (b *Backend) GetConnection(ctx context.Context, id string) (airflow.Connection, error) {
	if b.secrets != nil {
		if c, ok, err := b.secrets.Connection(ctx, id); err != nil || ok {
			return c, err
		}
	}
	return b.e.store.GetConnection(ctx, id)
}

// GetDagRun implements worker.Reader.
func (b *Backend) GetDagRun(ctx context.Context, dag airflow.DagID, runID airflow.RunID) (*airflow.DagRun, error) {
	info, err := b.e.store.GetRun(ctx, store.RunKey{DagID: dag, RunID: runID})
	if err != nil {
		return nil, err
	}
	return &info, nil
}

// PreviousDagRun implements worker.Reader.
func (b *Backend) PreviousDagRun(ctx context.Context, of airflow.DagRun, state airflow.DagRunState) (*airflow.DagRun, error) {
	var best *airflow.DagRun
	if of.LogicalDate != nil {
		err := b.e.eachRun(ctx, of.DagID, func(c airflow.DagRun) bool {
			if best != nil && c.RunAfter.Before(*best.LogicalDate) {
				return false
			}
			if c.LogicalDate == nil || !c.LogicalDate.Before(*of.LogicalDate) || state != "" && c.State != state {
				return true
			}
			if best == nil || c.LogicalDate.After(*best.LogicalDate) {
				best = &c
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: run before %s", airflow.ErrNotFound, of.RunID)
	}
	return best, nil
}

// FindDagRuns implements worker.Reader.
func (b *Backend) FindDagRuns(ctx context.Context, q worker.RunQuery) ([]airflow.DagRun, error) {
	var out []airflow.DagRun
	keep := func(c airflow.DagRun) {
		for _, s := range q.States {
			if s == c.State {
				out = append(out, c)
				return
			}
		}
		if len(q.States) == 0 {
			out = append(out, c)
		}
	}
	switch {
	case len(q.RunIDs) > 0:
		for _, id := range q.RunIDs {
			c, err := b.e.store.GetRun(ctx, store.RunKey{DagID: q.DagID, RunID: id})
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			keep(c)
		}
	case len(q.LogicalDates) > 0:
		for _, ld := range q.LogicalDates {
			id, err := b.e.store.RunOfLogicalDate(ctx, q.DagID, ld)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			c, err := b.e.store.GetRun(ctx, store.RunKey{DagID: q.DagID, RunID: id})
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			keep(c)
		}
	default:
		if err := b.e.eachRun(ctx, q.DagID, func(c airflow.DagRun) bool { keep(c); return true }); err != nil {
			return nil, err
		}
	}
	date := func(c airflow.DagRun) time.Time {
		if c.LogicalDate != nil {
			return *c.LogicalDate
		}
		return c.RunAfter
	}
	sort.SliceStable(out, func(i, j int) bool { return date(out[i]).Before(date(out[j])) })
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out, nil
}

// TaskStates implements worker.Reader.
func (b *Backend) TaskStates(ctx context.Context, q worker.TaskStatesQuery) (map[airflow.RunID]map[string]airflow.TIState, error) {
	runs, err := b.FindDagRuns(ctx, worker.RunQuery{DagID: q.DagID, RunIDs: q.RunIDs, LogicalDates: q.LogicalDates})
	if err != nil {
		return nil, err
	}
	want := map[airflow.TaskID]bool{}
	for _, id := range q.TaskIDs {
		want[id] = true
	}
	out := map[airflow.RunID]map[string]airflow.TIState{}
	for _, info := range runs {
		tis, err := b.e.TaskInstances(ctx, store.RunKey{DagID: info.DagID, RunID: info.RunID})
		if err != nil {
			return nil, err
		}
		states := map[string]airflow.TIState{}
		for _, ti := range tis {
			if len(want) == 0 || want[ti.TaskID] {
				states[airflow.TIName(ti.TaskID, ti.MapIndex)] = ti.State
			}
		}
		out[info.RunID] = states
	}
	return out, nil
}

// GetDag implements worker.Reader.
func (b *Backend) GetDag(ctx context.Context, dag airflow.DagID) (*airflow.DagModel, error) {
	m, err := b.e.store.GetDag(ctx, dag)
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// GetDagVersion implements worker.Reader.
func (b *Backend) GetDagVersion(ctx context.Context, dag airflow.DagID) (*airflow.DAG, error) {
	m, err := b.e.store.GetDag(ctx, dag)
	if err != nil {
		return nil, err
	}
	g, err := b.e.docs.get(ctx, m.LatestHash)
	if err != nil {
		return nil, err
	}
	return g.DAG, nil
}

// NextDataInterval implements worker.Reader.
func (b *Backend) NextDataInterval(_ context.Context, dag *airflow.DAG, after airflow.DagRun) (start, end time.Time, ok bool, err error) {
	tt, err := timetable.Parse(dag.Timetable)
	if err != nil {
		return start, end, false, err
	}
	var last *timetable.DataInterval
	if after.DataIntervalStart != nil && after.DataIntervalEnd != nil {
		last = &timetable.DataInterval{Start: *after.DataIntervalStart, End: *after.DataIntervalEnd}
	}
	s, e := scheduler.PlanBounds(dag)
	next, err := tt.NextRunInfo(last, timetable.Restriction{Earliest: s, Latest: e, Catchup: true}, b.e.utcNow())
	if err != nil || next == nil {
		return start, end, false, err
	}
	return next.DataInterval.Start, next.DataInterval.End, true, nil
}
