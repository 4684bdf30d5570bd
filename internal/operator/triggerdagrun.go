package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// triggerDagRun is TriggerDagRunOperator. Waiting for completion defers.
type triggerDagRun struct{}

// WholeTryTimeout implements taskrunner.WholeTryTimeout: Airflow holds the
// worker while it waits, unless the operator is deferrable.
func (triggerDagRun) WholeTryTimeout(t *taskrunner.Task) bool {
	return t.Args != nil && t.Args.Bool("wait_for_completion", false) && !t.Args.Bool("deferrable", false)
}

type awaitedRun struct {
	RunID airflow.RunID `json:"run_id"`
}

// Execute implements taskrunner.Operator.
func (o triggerDagRun) Execute(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	if t.NextMethod == worker.MethodFail {
		return nil, triggerFailure(t, 0)
	}
	target := airflow.DagID(t.Args.Required("trigger_dag_id"))
	if t.NextMethod == "wait_for_completion" {
		var w awaitedRun
		if err := json.Unmarshal(t.NextKwargs, &w); err != nil {
			return nil, fmt.Errorf("state of the operator: %w", err)
		}
		return o.await(ctx, t, target, w.RunID)
	}
	req, err := triggerRequest(t, target)
	if err != nil {
		return nil, err
	}
	if t.Args.Bool("fail_when_dag_is_paused", false) {
		d, err := t.Backend().GetDag(ctx, target)
		if err != nil {
			return nil, fmt.Errorf("DAG %s: %w", target, err)
		}
		if d.IsPaused {
			return nil, fmt.Errorf("Dag %s is paused", target)
		}
	}
	run, err := t.Backend().TriggerDagRun(ctx, t.Dispatch, req)
	switch {
	case err == nil && run == nil:
		return nil, fmt.Errorf("trigger DAG %s: the control plane returned no run", target)
	case err == nil:
		t.Log.Info("Dag Run triggered successfully. trigger_dag_id: " + string(target))
	case !errors.Is(err, airflow.ErrAlreadyExists):
		return nil, fmt.Errorf("trigger DAG %s: %w", target, err)
	case t.Args.Bool("reset_dag_run", false):
		id := req.RunID
		if run != nil {
			id = run.RunID
		}
		t.Log.Info("Dag Run already exists, Resetting Dag Run. dag_id: " + string(target))
		if err := t.Backend().ClearDagRun(ctx, t.Dispatch, target, id); err != nil {
			return nil, fmt.Errorf("reset run %s of DAG %s: %w", id, target, err)
		}
		if run == nil {
			run = &airflow.DagRun{DagID: target, RunID: id}
		}
	case t.Args.Bool("skip_when_already_exists", false):
		return nil, &taskrunner.SkipError{Message: "Dag Run already exists, skipping task as skip_when_already_exists is set to True."}
	default:
		return nil, &taskrunner.FailError{Message: "Dag Run already exists, marking task as failed", Cause: err}
	}
	t.PushXCom("trigger_run_id", taskrunner.XComText(string(run.RunID)))
	if !t.Args.Bool("wait_for_completion", false) && !t.Args.Bool("deferrable", false) {
		return &taskrunner.Result{}, t.Args.Err()
	}
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	return nil, o.wait(t, target, run.RunID)
}

func triggerRequest(t *taskrunner.Task, target airflow.DagID) (worker.TriggerRequest, error) {
	req := worker.TriggerRequest{
		DagID: target, RunID: airflow.RunID(t.Args.String("trigger_run_id", "")), Note: t.Args.String("note", ""),
		RequestID: t.RequestID("trigger_dag_run"), RunAfter: t.Now(),
	}
	if raw, given := t.Spec.Kwargs["logical_date"]; !given {
		now := t.Now().Truncate(time.Microsecond)
		req.LogicalDate = &now
	} else if string(raw) != "null" && t.Args.Has("logical_date") {
		at := t.Args.Time("logical_date")
		req.LogicalDate = &at
	}
	if req.LogicalDate != nil {
		req.RunAfter = *req.LogicalDate
	}
	if t.Args.Has("run_after") {
		req.RunAfter = t.Args.Time("run_after")
	}
	if conf := t.Args.Get("conf"); conf != nil {
		if s, ok := conf.(string); ok { // a rendered template
			v, err := jinja.ParseJSON(s)
			if err != nil {
				t.Args.Reject("conf", "conf parameter should be JSON Serializable: %v", err)
			}
			conf = v
		}
		raw, err := confJSON(conf)
		if err != nil {
			t.Args.Reject("conf", "conf parameter should be JSON Serializable: %v", err)
		}
		req.Conf = raw
	}
	return req, t.Args.Err()
}

func confJSON(v jinja.Value) (json.RawMessage, error) {
	if _, ok := v.(*jinja.Dict); !ok {
		return nil, fmt.Errorf("expected a dict, got %s", jinja.TypeOf(v).QualName())
	}
	// What only XCom tags can carry is no JSON.
	if err := onlyJSON(v); err != nil {
		return nil, err
	}
	return json.Marshal(serde.Plain(v))
}

func onlyJSON(v jinja.Value) (err error) {
	switch x := v.(type) {
	case *jinja.Dict:
		x.Each(func(_, e jinja.Value) bool { err = onlyJSON(e); return err == nil })
	case *jinja.List:
		for _, e := range x.Items {
			if err = onlyJSON(e); err != nil {
				return err
			}
		}
	case *jinja.DateTime, *jinja.Date, *jinja.TimeDelta, *jinja.Set, *serde.Opaque, *serde.Callable:
		return fmt.Errorf("a value of type %s is no JSON", jinja.TypeOf(v).QualName())
	}
	return err
}

// wait defers until the run ends, at the latest until the next poke.
func (o triggerDagRun) wait(t *taskrunner.Task, dag airflow.DagID, run airflow.RunID) error {
	at := t.Now().Add(t.Args.Seconds("poke_interval", 60*time.Second))
	if end, ok := t.Deadline(); ok && o.WholeTryTimeout(t) && end.Before(at) {
		at = end
	}
	kwargs, err := json.Marshal(awaitedRun{run})
	if err != nil {
		return err
	}
	t.Log.Info(fmt.Sprintf("Waiting for dag run to complete execution in allowed state. dag_id: %s run_id: %s", dag, run))
	return &taskrunner.Deferred{Deferral: worker.Deferral{
		Trigger: worker.Trigger{Kind: worker.TriggerDagRun, At: at, DagID: dag, RunIDs: []airflow.RunID{run}}, NextMethod: "wait_for_completion", NextKwargs: kwargs,
	}}
}

func (o triggerDagRun) await(ctx context.Context, t *taskrunner.Task, dag airflow.DagID, id airflow.RunID) (*taskrunner.Result, error) {
	allowed, failed := t.Args.Strings("allowed_states"), t.Args.Strings("failed_states")
	if len(allowed) == 0 {
		allowed = []string{"success"}
	}
	if !t.Args.Has("failed_states") {
		failed = []string{"failed"}
	}
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	run, err := t.Backend().GetDagRun(ctx, dag, id)
	if err != nil {
		return nil, fmt.Errorf("run %s of DAG %s: %w", id, dag, err)
	}
	state := string(run.State)
	switch {
	case slices.Contains(failed, state):
		msg := fmt.Sprintf("DagRun finished with failed state. dag_id: %s run_id: %s state: %s", dag, id, state)
		if t.Args.Bool("deferrable", false) {
			return nil, errors.New(msg)
		}
		return nil, &taskrunner.FailError{Message: msg}
	case slices.Contains(allowed, state):
		t.Log.Info(fmt.Sprintf("DagRun finished with allowed state. dag_id: %s run_id: %s state: %s", dag, id, state))
		return &taskrunner.Result{}, nil
	}
	return nil, o.wait(t, dag, id)
}
