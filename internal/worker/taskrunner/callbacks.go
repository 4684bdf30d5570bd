package taskrunner

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gustflow/gust/internal/worker"
)

// CallbackEvent is an occasion to run callbacks.
type CallbackEvent struct {
	// Name is the argument that held them, e.g. on_failure_callback.
	Name  string
	Specs []json.RawMessage
	// Context is the task's or, with a nil Task, the run's.
	Context  *worker.TaskContext
	MapIndex int
	// Err is the failure or skip; Class its Python exception class.
	Err    error
	Class  string
	State  string
	Reason string // of a DAG callback
	// Deadline is the deadline that was missed: the name deadline of templates.
	Deadline map[string]any
	// Key makes repeating the event harmless for receivers that remember it.
	Key string
	Log *Logger
	// Render renders a template in the task's context.
	Render func(template string) (string, error)
}

// Callbacks runs callbacks. Errors are logged and change nothing.
type Callbacks interface {
	Run(ctx context.Context, e CallbackEvent)
}

var outcomeCallbacks = map[worker.Outcome]string{
	worker.OutcomeSuccess:     "on_success_callback",
	worker.OutcomeFailedFinal: "on_failure_callback",
	worker.OutcomeSkipped:     "on_skipped_callback",
}

// runCallbacks runs the callbacks of an outcome.
func (w *Worker) runCallbacks(ctx context.Context, t *Task, r *worker.Report, err error) {
	name := outcomeCallbacks[r.Outcome]
	if r.Outcome == worker.OutcomeFailed {
		name = "on_failure_callback"
		if t.ShouldRetry {
			name = "on_retry_callback"
		}
	}
	if name == "" {
		return
	}
	r.CallbacksDone = w.o.Callbacks != nil || len(t.Spec.Callbacks[name]) == 0
	w.runCallback(ctx, t, name, err)
}

func (w *Worker) runCallback(ctx context.Context, t *Task, name string, cause error) {
	specs := t.Spec.Callbacks[name]
	if len(specs) == 0 || w.o.Callbacks == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			t.Log.Error(fmt.Sprintf("%s panicked: %v", name, p))
		}
	}()
	e := CallbackEvent{
		Name: name, Specs: specs, Context: t.TaskContext, MapIndex: t.Key().MapIndex, Err: cause, State: callbackState[name],
		Key: t.Dispatch.String() + "#" + name, Log: t.Log.Named("task.callback"),
		Render: func(s string) (string, error) { return t.RenderText(ctx, s) },
	}
	if cause != nil {
		e.Class = errorClass(cause)
	}
	w.o.Callbacks.Run(ctx, e)
}

var callbackState = map[string]string{
	"on_success_callback": "success", "on_failure_callback": "failed", "on_retry_callback": "up_for_retry", "on_skipped_callback": "skipped",
}
