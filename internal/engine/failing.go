package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// failing is what a run keeps of its steps that failed; guarded by run.mu.
type failing struct {
	failures int    // in a row
	failedAt int64  // version of the state then
	trouble  string // as recorded in the store, "" if nothing is
}

// refusedAction is returned for a step one of whose actions gave an error: the
// action changes nothing, the rest of the mail goes on.
type refusedAction struct {
	at  int // in the mail
	err error
}

// Error returns the action's error.
func (r *refusedAction) Error() string { return r.err.Error() }

// Unwrap returns the action's error.
func (r *refusedAction) Unwrap() error { return r.err }

// panicError is a panic in a step: a bug that must not stop other runs.
type panicError struct {
	value any
	stack []byte
}

// Error returns the panic's value.
func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// answer tells the callers of actions how their step ended. It never waits.
func answer(mail []Event, err error) {
	for _, ev := range mail {
		if ev.Done == nil {
			continue
		}
		select {
		case ev.Done <- err:
		default:
		}
	}
}

// guarded is attempt with panics turned into errors.
func (e *Engine) guarded(ctx context.Context, r *run, mail []Event) (o *outcome, err error) {
	if !e.escape {
		defer func() {
			if p := recover(); p != nil {
				pe := &panicError{p, debug.Stack()}
				e.log.ErrorContext(ctx, "a step panicked; this is a bug of gust", "dag_id", r.key.DagID, "run_id", r.key.RunID, "err", pe, "stack", string(pe.stack))
				o, err = nil, pe
			}
		}()
	}
	return e.attempt(ctx, r, mail)
}

// guardEffects is effects with panics logged: the step is committed, and what is
// missing of its effects is found by the sweep.
func (e *Engine) guardEffects(ctx context.Context, r *run, o *outcome) {
	if !e.escape {
		defer func() {
			if p := recover(); p != nil {
				e.log.ErrorContext(ctx, "the effects of a step panicked; this is a bug of gust", "dag_id", r.key.DagID, "run_id", r.key.RunID, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
				e.unload(r)
			}
		}()
	}
	e.effects(ctx, r, o)
}

func transient(err error) bool {
	return errors.Is(err, airflow.ErrThrottled) || errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrConflict)
}

// retryAfter is the pause after the n-th failure in a row.
func retryAfter(n int, err error) time.Duration {
	if transient(err) {
		return time.Second
	}
	return min(time.Second<<min(n-1, 10), time.Minute)
}

// putBack keeps the mail of a step that failed, so that nothing is lost while
// the process lives, and steps the run again later: soon if the store was not to
// be had, ever more seldom if the run itself is what fails. Of the latter the
// store keeps a note, which Explain shows.
func (e *Engine) putBack(ctx context.Context, r *run, mail []Event, err error) {
	answer(mail, err)
	e.noteRun(r.key, err)
	if e.passive {
		return
	}
	kept := make([]Event, 0, len(mail))
	for _, ev := range mail {
		if ev.Action == nil {
			kept = append(kept, ev)
		}
	}
	r.failures++
	e.mu.Lock()
	if e.shared {
		e.mu.Unlock() // its messages come again
		e.noteTrouble(ctx, r, err)
		return
	}
	r.mail = append(kept, r.mail...)
	r.wake = e.now().Add(retryAfter(r.failures, err))
	e.wakes.push(r.wake, r)
	e.mu.Unlock()
	e.notify()
	e.noteTrouble(ctx, r, err)
}

// noteTrouble leaves a note of a failing run in the store.
func (e *Engine) noteTrouble(ctx context.Context, r *run, err error) {
	if text := err.Error(); !transient(err) && text != r.trouble {
		t := store.Trouble{Since: e.utcNow(), Version: r.failedAt, Error: text}
		if perr := e.store.PutTrouble(ctx, r.key, t); perr != nil {
			e.log.WarnContext(ctx, "the failure of a run could not be recorded", "run", r.key.String(), "err", perr)
			return
		}
		r.trouble = text
	}
}

// recovered forgets earlier failures of a run's steps.
func (e *Engine) recovered(ctx context.Context, r *run) {
	r.failures = 0
	if r.trouble == "" {
		return
	}
	if err := e.store.DeleteTrouble(ctx, r.key); err != nil {
		e.log.WarnContext(ctx, "the record of a run's failure could not be removed", "run", r.key.String(), "err", err)
		return
	}
	r.trouble = ""
}

// troubleReason explains a run whose steps fail, nil if none is known to.
func (e *Engine) troubleReason(ctx context.Context, key store.RunKey) (*scheduler.Reason, error) {
	t, err := e.store.GetTrouble(ctx, key)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := e.store.RunStateVersion(ctx, key)
	if err != nil || v > t.Version { // a later step was committed
		return nil, err
	}
	return failingReason(key, fmt.Sprintf("Its steps have failed since %s: %s.", t.Since.Format(time.RFC3339), t.Error)), nil
}

func failingReason(key store.RunKey, text string) *scheduler.Reason {
	return &scheduler.Reason{
		Pos: -1, Key: airflow.TaskInstanceKey{DagID: key.DagID, RunID: key.RunID, MapIndex: airflow.Unmapped},
		Code: scheduler.CodeFailing, Text: text, WakesBy: "mending the cause (it is tried again every minute), or deleting the run",
	}
}
