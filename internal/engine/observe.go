package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// slotsNow is who holds and who waits for slots. A passive engine does not hand
// out slots: it works the accounts out from the states of the unfinished runs.
func (e *Engine) slotsNow(ctx context.Context) (*admission, error) {
	if !e.passive && !e.shared {
		return e.admission, nil
	}
	a := newAdmission(e.cfg.Parallelism)
	newPoolCache(e.store, e.cfg.DefaultPoolSlots).refresh(ctx, a, e.utcNow())
	active, err := e.lists.ListActiveRuns(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, info := range active {
		g, rs, err := e.readState(ctx, info)
		if err != nil && transient(err) {
			return nil, err
		}
		if err != nil || rs == nil { // one that cannot be read holds nothing, in the server too
			continue
		}
		key := store.RunKey{DagID: info.DagID, RunID: info.RunID}
		a.load(key, g, rs)
		m, err := e.dagModel(ctx, info.DagID)
		if err != nil {
			return nil, err
		}
		a.hold(key, m.IsPaused)
	}
	return a, nil
}

// seeClaims corrects the reasons of instances that a worker has claimed since the
// last step: their rows say so, the run's state does not yet.
func (e *Engine) seeClaims(ctx context.Context, rs *scheduler.RunState, reasons []scheduler.Reason) error {
	var keys []airflow.TaskInstanceKey
	for _, r := range reasons {
		if r.Code == scheduler.CodeWaitsForWorker {
			keys = append(keys, r.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	rows, err := e.store.GetAttempts(ctx, keys)
	if err != nil {
		return err
	}
	for i := range reasons {
		r := &reasons[i]
		a, ok := rows[r.Key]
		if r.Code != scheduler.CodeWaitsForWorker || !ok || a.DispatchSeq != rs.At(r.Pos).DispatchSeq || a.Status != store.AttemptRunning {
			continue
		}
		r.State, r.Code, r.WakeAt, r.WakesBy = airflow.TIRunning, scheduler.CodeRunning, time.Time{}, "the worker's report or a lost heartbeat"
		r.Text = fmt.Sprintf("Running: try %d", a.TryNumber)
		if a.StartDate != nil {
			r.Text += fmt.Sprintf(" since %s", a.StartDate.UTC().Format(time.RFC3339))
		}
		r.Text += fmt.Sprintf(" on %s.", a.Hostname)
	}
	return nil
}
