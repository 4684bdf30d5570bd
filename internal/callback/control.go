package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
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
// instance whose worker was lost or killed, and sends its mails. The key should
// be the worker's, dispatch#name, so that both count as one.
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
	if r.o.LogURL != nil {
		tc.LogURL = r.o.LogURL(ti.TaskInstanceKey, ti.TryNumber)
	}
	err := r.control(ctx, tc, taskrunner.CallbackEvent{
		Name: name, Specs: dag.Gust.Operators[ti.TaskID].Callbacks[name], MapIndex: ti.MapIndex, State: state, Err: errors.New(cause), Key: idempotencyKey,
	})
	if t.Mails(retry) {
		e := taskrunner.ErrorMail(tc, ti.MapIndex, retry, errors.New(cause))
		e.Key, e.Hostname = strings.TrimSuffix(idempotencyKey, "#"+name)+"#"+e.Name, ti.Hostname
		err = errors.Join(err, r.control(ctx, tc, e))
	}
	return err
}

// RunDeadline runs the callback of the DAG's alert-th deadline, missed at at.
func (r *Runner) RunDeadline(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, idempotencyKey string) error {
	if alert < 0 || alert >= len(dag.Deadlines) {
		return fmt.Errorf("DAG %q has no deadline %d", dag.DagID, alert)
	}
	var a struct {
		Callback json.RawMessage `json:"callback"`
	}
	if err := json.Unmarshal(airflow.Untag(dag.Deadlines[alert]), &a); err != nil || len(a.Callback) == 0 || string(a.Callback) == "null" {
		return fmt.Errorf("deadline %d of DAG %q names no callback", alert, dag.DagID)
	}
	return r.control(ctx, &worker.TaskContext{DAG: dag, Run: run}, taskrunner.CallbackEvent{
		Name: "deadline_callback", Specs: []json.RawMessage{a.Callback}, MapIndex: airflow.Unmapped, State: string(run.State),
		Reason: "deadline missed at " + taskrunner.PyISO(at), Key: idempotencyKey,
		Deadline: map[string]any{"id": idempotencyKey, "deadline_time": taskrunner.PyISO(at)},
	})
}

// sdkCallback reads the SDK's form of a deadline's callback, AsyncCallback or
// SyncCallback; ok is false for another form.
func sdkCallback(raw json.RawMessage) (path string, kwargs *jinja.Dict, ok bool, err error) {
	type body struct {
		Path   string          `json:"path"`
		Kwargs json.RawMessage `json:"kwargs"`
	}
	var c struct {
		body
		Data *body `json:"__data__"`
	}
	if json.Unmarshal(raw, &c) != nil {
		return "", nil, false, nil
	}
	if c.Data != nil {
		c.body = *c.Data
	}
	if c.Path == "" {
		return "", nil, false, nil
	}
	kwargs = jinja.NewDict()
	if len(c.Kwargs) > 0 && string(c.Kwargs) != "null" {
		v, err := serde.DecodeXCom(c.Kwargs)
		if err != nil {
			return "", nil, false, err
		}
		if d, isDict := v.(*jinja.Dict); isDict {
			kwargs = d
		}
	}
	return c.Path, kwargs, true, nil
}

// deadlineContext is the small context that Airflow gives to a deadline's
// callback: the run as the REST API shows it, and the deadline.
func deadlineContext(e taskrunner.CallbackEvent) (json.RawMessage, error) {
	run := e.Context.Run
	var duration any
	if run.StartDate != nil && run.EndDate != nil {
		duration = run.EndDate.Sub(*run.StartDate).Seconds()
	}
	conf := run.Conf
	if len(conf) == 0 {
		conf = json.RawMessage("{}")
	}
	orNull := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	name := e.Context.DAG.DagDisplayName
	if name == "" {
		name = string(run.DagID)
	}
	return json.Marshal(map[string]any{
		"dag_run": map[string]any{
			"dag_run_id": run.RunID, "dag_id": run.DagID, "logical_date": run.LogicalDate, "queued_at": run.QueuedAt, "start_date": run.StartDate,
			"end_date": run.EndDate, "duration": duration, "data_interval_start": run.DataIntervalStart, "data_interval_end": run.DataIntervalEnd,
			"run_after": run.RunAfter, "last_scheduling_decision": run.LastSchedulingDecision, "run_type": run.RunType, "state": run.State,
			"triggered_by": run.TriggeredBy, "triggering_user_name": orNull(run.TriggeringUserName), "conf": conf, "note": orNull(run.Note),
			"dag_versions": []any{}, "bundle_version": nil, "dag_display_name": name, "partition_key": nil,
		},
		"deadline": e.Deadline,
	})
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
			maps.Copy(extra, e.Extra)
			if e.Err != nil {
				extra["exception"] = e.Err.Error()
			}
			if e.Reason != "" {
				extra["reason"] = e.Reason
			}
			if e.Deadline != nil {
				extra["deadline"] = e.Deadline
			}
			t, err := taskrunner.NewTemplates(ctx, taskrunner.TemplateInput{
				Context: tc, MapIndex: e.MapIndex, Reader: r.o.Reader, Masker: r.o.Masker, Now: r.o.Clock, Extra: extra, Hostname: e.Hostname,
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
