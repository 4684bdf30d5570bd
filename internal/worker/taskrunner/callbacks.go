package taskrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
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
	// As is the user of the task, whom its callbacks run as too; nil is the
	// worker's. Share returns where that user can read a folder of ours.
	As    *proc.User
	Share func(dir string) (string, error)
	// Extra are more names for templates; Hostname is where the task ran.
	Extra    map[string]any
	Hostname string
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
	failed := r.Outcome == worker.OutcomeFailed || r.Outcome == worker.OutcomeFailedFinal
	mails := failed && t.Task.Mails(name == "on_retry_callback")
	r.CallbacksDone = w.o.Callbacks != nil || len(t.Spec.Callbacks[name]) == 0 && !mails
	w.runCallback(ctx, t, name, err)
	if mails {
		w.mail(ctx, t, name == "on_retry_callback", err)
	}
}

// mail tells of a failure or a retry by mail.
func (w *Worker) mail(ctx context.Context, t *Task, retry bool, cause error) {
	if w.o.Callbacks == nil {
		return
	}
	e := ErrorMail(t.TaskContext, t.Key().MapIndex, retry, cause)
	e.Key, e.Log, e.Hostname = t.Dispatch.String()+"#"+e.Name, t.Log.Named("task.callback"), w.o.Identity.Hostname
	e.Render = func(s string) (string, error) {
		tpl, err := t.Templates(ctx)
		if err != nil {
			return "", err
		}
		if r, ok := tpl.(*renderer); ok {
			for k, v := range e.Extra {
				if err := r.set(k, v); err != nil {
					return "", err
				}
			}
		}
		return tpl.RenderText(s)
	}
	defer func() {
		if p := recover(); p != nil {
			t.Log.Error(fmt.Sprintf("%s panicked: %v", e.Name, p))
		}
	}()
	w.o.Callbacks.Run(ctx, e)
}

// ErrorMail is the event of a mail about a failure: email_on_failure or, if the
// task is tried again, email_on_retry. Subject and text are the Callbacks' choice;
// for them Extra has what Airflow's templates of such mails know.
func ErrorMail(tc *worker.TaskContext, mapIndex int, retry bool, cause error) CallbackEvent {
	name, state := "email_on_failure", "failed"
	if retry {
		name, state = "email_on_retry", "up_for_retry"
	}
	if cause == nil {
		cause = errors.New("the task failed")
	}
	spec, err := json.Marshal(map[string]any{"type": "email", "to": tc.Task.Email})
	if err != nil {
		panic(err) // texts always encode
	}
	text := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;", "\n", "<br>").Replace(cause.Error())
	return CallbackEvent{
		Name: name, Specs: []json.RawMessage{spec}, Context: tc, MapIndex: mapIndex, Err: cause, State: state,
		Extra: map[string]any{"exception": cause.Error(), "exception_html": text, "try_number": int64(tc.TryNumber), "max_tries": int64(tc.MaxTries)},
	}
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
		Key: t.Dispatch.String() + "#" + name, Log: t.Log.Named("task.callback"), As: t.as, Share: t.share,
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
