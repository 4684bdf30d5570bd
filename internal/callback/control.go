package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// RunDagCallback runs a DAG's on_success_callback or on_failure_callback.
// reason is Airflow's: success, task_failure, all_tasks_deadlocked, timed_out.
func (r *Runner) RunDagCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, success bool, reason, idempotencyKey string) error {
	name, state := "on_failure_callback", "failed"
	if success {
		name, state = "on_success_callback", "success"
	}
	return r.control(ctx, &worker.TaskContext{DAG: dag, Run: run}, taskrunner.CallbackEvent{
		Name: name, Specs: dag.Gust.Callbacks[name], MapIndex: airflow.Unmapped, State: state, Reason: reason, Key: idempotencyKey,
	})
}

// RunTaskCallback runs on_failure_callback, or on_retry_callback, of an
// instance whose worker was lost or killed.
func (r *Runner) RunTaskCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, idempotencyKey string) error {
	t := dag.Task(ti.TaskID)
	if t == nil {
		return fmt.Errorf("task %q is not in DAG %q", ti.TaskID, dag.DagID)
	}
	name, state := "on_failure_callback", "failed"
	if retry {
		name, state = "on_retry_callback", "up_for_retry"
	}
	tc := &worker.TaskContext{DAG: dag, Task: t, Run: run, TryNumber: ti.TryNumber, MaxTries: ti.MaxTries, ShouldRetry: retry}
	if ti.StartDate != nil {
		tc.StartDate = *ti.StartDate
	}
	return r.control(ctx, tc, taskrunner.CallbackEvent{
		Name: name, Specs: dag.Gust.Operators[ti.TaskID].Callbacks[name], MapIndex: ti.MapIndex, State: state, Err: errors.New(cause), Key: idempotencyKey,
	})
}

// RunDeadline runs the callback of the DAG's alert-th deadline, missed at at.
func (r *Runner) RunDeadline(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, idempotencyKey string) error {
	if alert < 0 || alert >= len(dag.Deadlines) {
		return fmt.Errorf("DAG %q has no deadline %d", dag.DagID, alert)
	}
	spec, err := deadlineCallback(dag.Deadlines[alert])
	if err != nil {
		return fmt.Errorf("deadline %d of DAG %q: %w", alert, dag.DagID, err)
	}
	return r.control(ctx, &worker.TaskContext{DAG: dag, Run: run}, taskrunner.CallbackEvent{
		Name: "deadline_callback", Specs: []json.RawMessage{spec}, MapIndex: airflow.Unmapped, State: string(run.State),
		Reason: "deadline missed at " + taskrunner.PyISO(at), Key: idempotencyKey,
	})
}

// deadlineCallback reads the callback of a serialized DeadlineAlert.
func deadlineCallback(raw json.RawMessage) (json.RawMessage, error) {
	type body struct {
		Path   string          `json:"path"`
		Kwargs json.RawMessage `json:"kwargs"`
	}
	var alert struct {
		Callback struct {
			body
			Data body `json:"__data__"`
		} `json:"callback"`
	}
	if err := json.Unmarshal(airflow.Untag(raw), &alert); err != nil {
		return nil, err
	}
	c := alert.Callback.body
	if alert.Callback.Data.Path != "" {
		c = alert.Callback.Data
	}
	if c.Path == "" {
		return nil, fmt.Errorf("it names no callback")
	}
	kwargs := json.RawMessage("{}")
	if len(c.Kwargs) > 0 && string(c.Kwargs) != "null" {
		v, err := serde.DecodeXCom(c.Kwargs)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(serde.Plain(v))
		if err != nil {
			return nil, err
		}
		kwargs = b
	}
	if i := strings.LastIndexByte(c.Path, '.'); i > 0 && (strings.HasSuffix(c.Path, "Notifier") || goNotifiers[c.Path] != nil) {
		return json.Marshal(map[string]any{"__type": "object", "__var": map[string]any{"class": c.Path, "kwargs": kwargs}})
	}
	return json.Marshal(map[string]any{"__type": "partial", "__var": map[string]any{"callable": c.Path, "kwargs": kwargs}})
}

// control runs an event outside a worker: with a log and a context of its own.
func (r *Runner) control(ctx context.Context, tc *worker.TaskContext, e taskrunner.CallbackEvent) (err error) {
	if len(e.Specs) == 0 {
		return nil
	}
	if r.o.BundleDir != nil {
		if tc.BundleDir, err = r.o.BundleDir(ctx, tc.Run); err != nil {
			return fmt.Errorf("files of run %s: %w", tc.Run.RunID, err)
		}
	}
	tc.IgnoreConfInParams = r.o.IgnoreConfInParams
	log, closeLog, err := r.log(tc, e.MapIndex, e.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	e.Context, e.Log = tc, log
	var tpl taskrunner.Templates
	e.Render = func(s string) (string, error) {
		if tpl == nil {
			extra := map[string]any{}
			if e.Err != nil {
				extra["exception"] = e.Err.Error()
			}
			if e.Reason != "" {
				extra["reason"] = e.Reason
			}
			t, err := taskrunner.NewTemplates(ctx, taskrunner.TemplateInput{
				Context: tc, MapIndex: e.MapIndex, Reader: r.o.Reader, Secret: r.secret, Now: r.o.Clock, Extra: extra,
			})
			if err != nil {
				return "", err
			}
			tpl = t
		}
		return tpl.RenderText(s)
	}
	if err := r.run(ctx, e); err != nil {
		log.Error(fmt.Sprintf("%s failed: %v", e.Name, err))
		return fmt.Errorf("%s of %s: %w", e.Name, e.Context.DAG.DagID, err)
	}
	return nil
}

func (r *Runner) log(tc *worker.TaskContext, mapIndex int, name string) (*taskrunner.Logger, func() error, error) {
	var sink taskrunner.LogSink = discard{}
	if r.o.OpenLog != nil {
		s, err := r.o.OpenLog(tc, mapIndex, name)
		if err != nil {
			return nil, nil, err
		}
		sink = s
	}
	return taskrunner.NewLogger(sink, r.o.Masker, r.o.Clock, "task.callback"), sink.Close, nil
}

type discard struct{}

func (discard) WriteRecord(taskrunner.Record) error { return nil }
func (discard) Close() error                        { return nil }
