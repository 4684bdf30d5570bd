package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// hitlKind is one of the human-in-the-loop operators.
type hitlKind int

const (
	hitlPlain hitlKind = iota
	hitlApproval
	hitlBranch
	hitlEntry
)

// hitl asks people and waits for the answer without a worker.
type hitl struct{ kind hitlKind }

const approve = "Approve"

// Execute implements taskrunner.Operator.
func (h hitl) Execute(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	req, err := h.request(t)
	if err != nil {
		return nil, err
	}
	switch t.NextMethod {
	case "":
		timeout := t.Args.Seconds("response_timeout", 0)
		if timeout == 0 {
			timeout = t.Task.ExecutionTimeout
		}
		d := worker.Deferral{Trigger: worker.Trigger{Kind: worker.TriggerHITL, Request: req}, NextMethod: "execute_complete", Timeout: timeout}
		if timeout > 0 {
			d.Trigger.At = t.Now().Add(timeout)
		}
		t.Log.Info("Waiting for response")
		return nil, &taskrunner.Deferred{Deferral: d}
	case worker.MethodFail:
		err := triggerFailure(t, t.Args.Seconds("response_timeout", t.Task.ExecutionTimeout))
		if _, timeout := err.(*taskrunner.SensorTimeout); !timeout {
			return nil, err
		}
		if len(req.Defaults) == 0 {
			return nil, fmt.Errorf("nobody answered in time and there are no defaults")
		}
		t.Log.Info(fmt.Sprintf("[HITL] Timed out, taking the defaults %v", req.Defaults))
		return h.complete(t, req, worker.HITLResponse{ChosenOptions: req.Defaults, ParamsInput: req.DefaultInput()})
	}
	var ev worker.HITLResponse
	if err := json.Unmarshal(t.TriggerEvent, &ev); err != nil {
		return nil, fmt.Errorf("the answer is unreadable: %w", err)
	}
	return h.complete(t, req, ev)
}

func (h hitl) request(t *taskrunner.Task) (*worker.HITLRequest, error) {
	a := t.Args
	r := &worker.HITLRequest{
		Subject: a.Required("subject"), Body: a.String("body", ""), Options: a.Strings("options"), Defaults: a.Strings("defaults"), Multiple: a.Bool("multiple", false),
	}
	switch h.kind {
	case hitlApproval:
		r.Options, r.Multiple = []string{approve, "Reject"}, false
	case hitlEntry:
		if len(r.Options) == 0 {
			r.Options, r.Defaults = []string{"OK"}, []string{"OK"}
		}
	}
	if len(r.Options) == 0 {
		a.Reject("options", "\"options\" cannot be empty.")
	}
	for _, d := range r.Defaults {
		if !slices.Contains(r.Options, d) {
			a.Reject("defaults", "defaults %q should be a subset of options %q", r.Defaults, r.Options)
		}
	}
	if len(r.Defaults) > 1 && !r.Multiple {
		a.Reject("defaults", "More than one defaults given when \"multiple\" is set to False.")
	}
	for name, dst := range map[string]*json.RawMessage{"params": &r.Params, "assigned_users": &r.AssignedUsers} {
		if v := a.Get(name); v != nil {
			b, err := json.Marshal(serde.Plain(v))
			if err != nil {
				return nil, err
			}
			*dst = b
		}
	}
	if r.Params == nil && len(t.Task.Params) > 0 {
		ps := map[string]any{}
		for _, p := range t.Task.Params {
			schema := p.Schema
			if len(schema) == 0 {
				schema = json.RawMessage("{}")
			}
			ps[p.Name] = map[string]any{"value": p.Default, "description": p.Description, "schema": schema}
		}
		b, err := json.Marshal(ps)
		if err != nil {
			return nil, err
		}
		r.Params = b
	}
	return r, a.Err()
}

func (h hitl) complete(t *taskrunner.Task, req *worker.HITLRequest, ev worker.HITLResponse) (*taskrunner.Result, error) {
	if err := req.Check(ev.ChosenOptions, ev.ParamsInput); err != nil {
		return nil, err
	}
	if len(ev.ParamsInput) == 0 {
		ev.ParamsInput = json.RawMessage("{}")
	}
	if ev.RespondedAt == "" {
		ev.RespondedAt = t.Now().Format(time.RFC3339Nano)
	}
	value, err := json.Marshal(ev)
	if err != nil {
		return nil, err
	}
	switch h.kind {
	case hitlApproval:
		if slices.Contains(ev.ChosenOptions, approve) {
			t.Log.Info("Approved. Proceeding with downstream tasks...")
			break
		}
		if t.Args.Bool("fail_on_reject", false) {
			return nil, taskrunner.Failf("Rejected")
		}
		t.Log.Info("Rejected. Skipping downstream tasks...")
		return skipResult(shortCircuitSkip(t, t.Args.Bool("ignore_downstream_trigger_rules", false)), value), nil
	case hitlBranch:
		mapping := t.Args.Dict("options_mapping")
		ids := make([]string, len(ev.ChosenOptions))
		for i, c := range ev.ChosenOptions {
			ids[i] = c
			if mapping != nil {
				if id, ok := mapping.Get(jinja.Value(c)); ok {
					ids[i], _ = id.(string) // a task id; "" is reported as invalid
				}
			}
		}
		return branchResult(t, ids, value)
	}
	return &taskrunner.Result{Value: value}, nil
}
