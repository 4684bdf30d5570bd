package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// A worker on AWS may write the rows of task instances and nothing else. What a
// task asks beyond that (a run of another DAG, a variable) it writes into its own
// partition and tells the scheduler, which does it and writes the answer there.

// question is what a running task asks of the scheduler.
type question struct {
	DispatchSeq uint32                 `json:"dispatch_seq"`
	Trigger     *worker.TriggerRequest `json:"trigger,omitempty"`
	Clear       *store.RunKey          `json:"clear,omitempty"`
	// Variable is set to the sealed value, or deleted if there is none.
	Variable string `json:"variable,omitempty"`
	Sealed   []byte `json:"sealed,omitempty"`
}

// askAnswer is what came of a question.
type askAnswer struct {
	Run   *airflow.DagRun `json:"run,omitempty"`
	Error string          `json:"error,omitempty"`
	// Kind is the sentinel that Error wraps.
	Kind string `json:"kind,omitempty"`
}

// answerKinds are the errors that keep their meaning on the way to the task.
var answerKinds = map[string]error{
	"not_found": airflow.ErrNotFound, "already_exists": airflow.ErrAlreadyExists, "not_allowed": airflow.ErrNotAllowed, "superseded": airflow.ErrSuperseded,
}

// MessageAsk: a running dispatch asks for what its question says. Cause is the
// question's id.
const MessageAsk MessageKind = "ask"

// AskScheduler makes the backend ask a scheduler for what its process has no right
// to do itself: runs of other DAGs, clearing, variables. The engine must have an
// Outbox.
func (b *Backend) AskScheduler() *Backend {
	b.asks = true
	return b
}

// How often a worker looks for an answer, and for how long.
const (
	askPauseMin = 40 * time.Millisecond
	askPauseMax = 500 * time.Millisecond
	askTimeout  = 90 * time.Second
)

// ask asks and waits. Asking again under the same id gets the same answer.
func (b *Backend) ask(ctx context.Context, d worker.Dispatch, id string, q question) (*airflow.DagRun, error) {
	e := b.e
	q.DispatchSeq = d.DispatchSeq
	doc, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("question of %s: %w", d, err)
	}
	if err := e.store.PutAsk(ctx, d.Key, id, doc, e.utcNow()); err != nil {
		return nil, err
	}
	m := ReportOf(d)
	m.Kind, m.Cause = MessageAsk, id
	if err := e.announce(ctx, m); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for pause := askPauseMin; ; pause = min(pause*3/2, askPauseMax) {
		_, raw, err := e.store.GetAsk(ctx, d.Key, id)
		if err != nil && !transient(err) && ctx.Err() == nil {
			return nil, err
		}
		if raw != nil {
			var a askAnswer
			if err := json.Unmarshal(raw, &a); err != nil {
				return nil, fmt.Errorf("answer to %s: %w", d, err)
			}
			if a.Error == "" {
				return a.Run, nil
			}
			if k := answerKinds[a.Kind]; k != nil {
				return a.Run, fmt.Errorf("%w: %s", k, a.Error)
			}
			return a.Run, errors.New(a.Error)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the scheduler has not answered a question of %s", airflow.ErrUnavailable, d)
		case <-time.After(pause):
		}
	}
}

// answerAsk does what a running dispatch asks for. An error means that the
// message must come again.
func (e *Engine) answerAsk(ctx context.Context, d worker.Dispatch, id string) error {
	raw, done, err := e.store.GetAsk(ctx, d.Key, id)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var q question
	if done != nil {
		if json.Unmarshal(raw, &q) == nil && q.Clear != nil {
			return e.store.DeletePendingEffect(ctx, askMark(d, id)) // who answered may have died before
		}
		return nil
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return e.reply(ctx, d, id, nil, fmt.Errorf("question of %s: %w", d, err))
	}
	a, err := e.store.GetAttempt(ctx, d.Key)
	if err != nil && !isNotFound(err) {
		return err
	}
	if err != nil || a.DispatchSeq != d.DispatchSeq || q.DispatchSeq != d.DispatchSeq || a.Status != store.AttemptRunning || a.MinDispatchSeq > d.DispatchSeq {
		return e.reply(ctx, d, id, nil, fmt.Errorf("%w: %s does not run any more", airflow.ErrSuperseded, d))
	}
	var run *airflow.DagRun
	switch {
	case q.Trigger != nil:
		var info airflow.DagRun
		info, err = e.Trigger(ctx, triggerOptions(*q.Trigger))
		run = &info
	case q.Clear != nil:
		return e.clearAsked(ctx, d, id, *q.Clear)
	case q.Variable != "" && q.Sealed != nil:
		err = e.store.PutSealedVariable(ctx, q.Variable, q.Sealed)
	case q.Variable != "":
		err = e.store.DeleteVariable(ctx, q.Variable)
	default:
		err = airflow.Invalid("question", "asks for nothing")
	}
	if transient(err) {
		return err
	}
	return e.reply(ctx, d, id, run, err)
}

// errCleared says that a clear was carried out for the same question before.
var errCleared = errors.New("cleared before")

// askMark is the id of the mark that what a dispatch asked for was done.
func askMark(d worker.Dispatch, id string) string { return "asked#" + d.String() + "#" + id }

// clearAsked clears a run because a task asked for it, once: cleared a second time,
// by a message that came again, the run would lose what it has done since. The
// clear is written together with a mark, which stays until the answer is there.
func (e *Engine) clearAsked(ctx context.Context, d worker.Dispatch, id string, run store.RunKey) error {
	mark := store.PendingEffect{ID: askMark(d, id), Run: run, Kind: effectAsked, When: e.utcNow()}
	_, err := e.Clear(ctx, run, ClearRequest{
		ClearOptions: scheduler.ClearOptions{ResetDagRun: true}, mark: &mark,
		// In this order: the mark goes when the answer has come.
		once: func(ctx context.Context) error {
			if _, err := e.store.GetPendingEffect(ctx, mark.ID); !isNotFound(err) {
				return cmp.Or(err, errCleared)
			}
			_, done, err := e.store.GetAsk(ctx, d.Key, id)
			if err == nil && done != nil {
				err = errCleared
			}
			return err
		},
	})
	if errors.Is(err, errCleared) {
		err = nil
	}
	if transient(err) {
		return err
	}
	if err := e.reply(ctx, d, id, nil, err); err != nil {
		return err
	}
	return e.store.DeletePendingEffect(ctx, mark.ID)
}

func (e *Engine) reply(ctx context.Context, d worker.Dispatch, id string, run *airflow.DagRun, err error) error {
	a := askAnswer{Run: run}
	if err != nil {
		a.Error = err.Error()
		for name, k := range answerKinds {
			if errors.Is(err, k) {
				a.Kind = name
			}
		}
	}
	doc, merr := json.Marshal(a)
	if merr != nil {
		return merr
	}
	return e.store.AnswerAsk(ctx, d.Key, id, doc)
}

func triggerOptions(r worker.TriggerRequest) TriggerOptions {
	return TriggerOptions{
		DagID: r.DagID, RunID: r.RunID, LogicalDate: r.LogicalDate, RunAfter: r.RunAfter, Conf: r.Conf, Note: r.Note,
		RequestID: r.RequestID, TriggeredBy: airflow.TriggeredByOperator, Type: airflow.RunTypeManual,
		NoLogicalDate: r.LogicalDate == nil,
	}
}
