package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// Kinds of pending effects.
const (
	effectDagCallback  = "dag_callback"
	effectDeadline     = "deadline"
	effectTaskCallback = "task_callback"
	// effectAsked is not to be carried out: it says that what a task asked for was
	// done, until the task has its answer.
	effectAsked = "asked"
)

// callbackDoc is what a pending callback needs to run, also in another process.
type callbackDoc struct {
	Success bool   `json:"success,omitempty"`
	Reason  string `json:"reason,omitempty"`

	Alert int       `json:"alert,omitempty"`
	At    time.Time `json:"at,omitzero"`
	// UnlessSuccess drops the callback if the run has succeeded when it is due.
	UnlessSuccess bool `json:"unless_success,omitempty"`

	TaskInstance *airflow.TaskInstance `json:"task_instance,omitempty"`
	Retry        bool                  `json:"retry,omitempty"`
	Cause        string                `json:"cause,omitempty"`
}

// pendingCallbacks lists the callbacks that a step asks for. Their ids name what
// they are about, so that the same callback is recognised when it comes again.
func (e *Engine) pendingCallbacks(r *run, o *outcome, now time.Time) []store.PendingEffect {
	if e.callbacks == nil && e.callbackQueue == nil {
		return nil
	}
	var out []store.PendingEffect
	add := func(kind, id string, d callbackDoc) {
		b, err := json.Marshal(d)
		if err != nil {
			panic(fmt.Sprintf("engine: %v", err)) // plain data always encodes
		}
		out = append(out, store.PendingEffect{ID: id, Kind: kind, Run: r.key, Doc: b, When: now})
	}
	for _, eff := range o.effects {
		switch eff := eff.(type) {
		case scheduler.DagCallback:
			add(effectDagCallback, fmt.Sprintf("dag#%s#%d#%s", r.key, r.state.Header.ClearNumber, eff.Reason), callbackDoc{Success: eff.Success, Reason: eff.Reason})
		case scheduler.DeadlineMissed:
			add(effectDeadline, fmt.Sprintf("deadline#%s#%d", r.key, eff.Deadline.Index), callbackDoc{Alert: eff.Deadline.Index, At: eff.Deadline.At})
		case scheduler.TaskCallback:
			t := r.graph.DAG.Task(eff.Key.TaskID)
			if t == nil || !t.Notifies(eff.Retry) {
				continue
			}
			v := e.taskInstance(r, eff.Pos, nil)
			name := "on_failure_callback"
			if eff.Retry {
				name = "on_retry_callback"
			}
			// The worker's key of the same event: what it did already is recognised.
			id := worker.Dispatch{Key: eff.Key, DispatchSeq: v.dispatchSeq}.String() + "#" + name
			add(effectTaskCallback, id, callbackDoc{
				TaskInstance: &v.TaskInstance, Retry: eff.Retry,
				Cause: o.causes[dispatchID(r.key, eff.Key.TaskID, eff.Key.MapIndex, v.dispatchSeq)],
			})
		}
	}
	for _, d := range e.laterDeadlines(r) {
		add(effectDeadline, fmt.Sprintf("deadline#%s#%d", r.key, d.Alert), d)
		out[len(out)-1].When = d.At.Add(time.Microsecond)
	}
	return out
}

// runCallbacks carries pending callbacks out in the background, each not before
// its time.
func (e *Engine) runCallbacks(ps []store.PendingEffect) {
	ps = e.putOff(ps)
	if e.callbackQueue != nil {
		if len(ps) == 0 {
			return
		}
		ids := make([]string, len(ps))
		for i, p := range ps {
			ids[i] = p.ID
		}
		if err := e.callbackQueue.SubmitCallbacks(e.closing, ids); err != nil {
			e.log.Error("callbacks not submitted; they are sent again by the sweep", "count", len(ids), "err", err)
		}
		return
	}
	for _, p := range ps {
		e.mu.Lock()
		busy := e.inFlight[p.ID]
		e.inFlight[p.ID] = true
		e.mu.Unlock()
		if busy {
			continue
		}
		e.beside(func() {
			defer func() {
				e.mu.Lock()
				delete(e.inFlight, p.ID)
				e.mu.Unlock()
			}()
			if err := e.runCallback(e.closing, p); err != nil {
				e.log.Error("callback failed", "callback", p.ID, "err", err)
			}
		})
	}
}

// runCallback carries one pending callback out. An error of the callback itself
// changes nothing, as in Airflow: it is logged, and the callback counts as done.
func (e *Engine) runCallback(ctx context.Context, p store.PendingEffect) error {
	if done, err := e.store.DoneEffect(ctx, p.Run, p.ID); err != nil || done {
		if done {
			err = e.called(ctx, p.Run, p.ID)
		}
		return err
	}
	var d callbackDoc
	if err := json.Unmarshal(p.Doc, &d); err != nil {
		return fmt.Errorf("pending callback %s: %w", p.ID, err)
	}
	info, err := e.store.GetRun(ctx, p.Run)
	if isNotFound(err) { // deleted meanwhile
		return e.called(ctx, p.Run, p.ID)
	}
	if err != nil {
		return err
	}
	if d.UnlessSuccess && info.State == airflow.RunSuccess {
		return e.uncalled(ctx, p.Run, p.ID)
	}
	g, err := e.docs.get(ctx, info.DagHash)
	if err != nil {
		return err
	}
	switch p.Kind {
	case effectDagCallback:
		err = e.callbacks.RunDagCallback(ctx, g.DAG, info, d.Success, d.Reason, p.ID)
	case effectDeadline:
		err = e.callbacks.RunDeadline(ctx, g.DAG, info, d.Alert, d.At, p.ID)
	case effectTaskCallback:
		err = e.callbacks.RunTaskCallback(ctx, g.DAG, info, *d.TaskInstance, d.Retry, d.Cause, p.ID)
	default:
		err = fmt.Errorf("pending effect %s has the unknown kind %q", p.ID, p.Kind)
	}
	if ctx.Err() != nil {
		return ctx.Err() // closing: it runs again after the next start
	}
	if merr := e.called(context.WithoutCancel(ctx), p.Run, p.ID); merr != nil {
		return merr
	}
	return err
}

// uncalled forgets a callback that is not wanted while its run is a success: if
// the run is cleared and fails, it is asked for again.
func (e *Engine) uncalled(ctx context.Context, run store.RunKey, id string) error {
	if e.remote() {
		return e.announce(ctx, Message{Kind: MessageUncalled, DagID: run.DagID, RunID: run.RunID, Cause: id})
	}
	return e.store.DropPendingEffect(ctx, run, id, func(info airflow.DagRun) bool { return info.State == airflow.RunSuccess })
}

// called records that a callback was carried out, or that its run is gone. A
// worker may not write that: it tells the scheduler, and until that has heard of
// it the callback may run again.
func (e *Engine) called(ctx context.Context, run store.RunKey, id string) error {
	if e.remote() {
		return e.announce(ctx, Message{Kind: MessageCalled, DagID: run.DagID, RunID: run.RunID, Cause: id})
	}
	if _, err := e.store.GetRun(ctx, run); err == nil {
		if err := e.store.MarkEffect(ctx, run, id, e.now().Add(7*24*time.Hour)); err != nil {
			return err
		}
	} else if !isNotFound(err) {
		return err
	}
	return e.store.DeletePendingEffect(ctx, id)
}

// recoverCallbacks carries out what another process left pending: one that died,
// or a tool that does not run callbacks itself.
func (e *Engine) recoverCallbacks(ctx context.Context) error {
	if e.callbacks == nil && e.callbackQueue == nil || e.passive {
		return nil
	}
	ps, err := e.lists.ListPendingEffects(ctx)
	if err != nil {
		return fmt.Errorf("pending callbacks: %w", err)
	}
	ps = slices.DeleteFunc(ps, func(p store.PendingEffect) bool { return p.Kind == effectAsked })
	e.runCallbacks(ps)
	return nil
}
