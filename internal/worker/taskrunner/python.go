package taskrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/serde"
)

// PythonCall is one use of Python by an operator.
type PythonCall struct {
	Kind     string // see pyproc.Job
	Callable *serde.Callable
	Args     jinja.Value // list or tuple
	Kwargs   jinja.Value // dict
	// TemplatesDict is shown in the context.
	TemplatesDict jinja.Value
	Inject        bool
	AcceptedOnly  bool
	Isolated      bool
	LogValue      bool
	Response      *pyproc.Response
	Responses     []*pyproc.Response
	Cursor        *pyproc.Cursor
	// Interpreter is another Python than the worker's.
	Interpreter string
	// Env replaces the environment; nil is the task's.
	Env []string
}

// timeoutSlack is how long a callable may take to unwind after its timeout was
// raised in it before its process gets SIGTERM.
const timeoutSlack = 2 * time.Second

// Python runs Python code for the task. An exception becomes the error that
// decides the outcome; exit (Python's SystemExit) is left to the caller.
func (t *Task) Python(ctx context.Context, c PythonCall) (*pyproc.Result, error) {
	job := pyproc.Job{
		Kind: c.Kind, Callable: t.locate(*c.Callable), Inject: c.Inject, AcceptedOnly: c.AcceptedOnly, Isolated: c.Isolated,
		LogValue: c.LogValue, Response: c.Response, Responses: c.Responses, Cursor: c.Cursor, SysPath: t.sysPath(), OwnAirflow: t.w.o.OwnAirflow, LogLevel: string(t.w.o.LogLevel),
	}
	var err error
	if t.pyContext == nil {
		if t.pyContext, err = PythonContext(t.TaskContext, t.Key().MapIndex, ContextExtra{Hostname: t.w.o.Identity.Hostname, Allowed: t.w.o.AllowedClasses}); err != nil {
			return nil, err
		}
	}
	job.Context = t.pyContext
	if kw := c.Callable.Kwargs; kw != nil && kw.Len() > 0 { // functools.partial
		merged := jinja.NewDict()
		kw.Each(func(k, v jinja.Value) bool { merged.Set(k, v); return true })
		if d, ok := c.Kwargs.(*jinja.Dict); ok {
			d.Each(func(k, v jinja.Value) bool { merged.Set(k, v); return true })
		}
		c.Kwargs = merged
	}
	for _, f := range []struct {
		dst *json.RawMessage
		v   jinja.Value
	}{{&job.OpArgs, plainList(c.Args)}, {&job.OpKwargs, c.Kwargs}, {&job.TemplatesDict, c.TemplatesDict}} {
		if f.v == nil {
			continue
		}
		if *f.dst, err = serde.EncodeXCom(f.v); err != nil {
			return nil, fmt.Errorf("an argument of %s: %w", c.Callable, err)
		}
	}
	pctx, cancel := ctx, context.CancelFunc(func() {})
	if at, ok := t.Deadline(); ok {
		// The timeout is raised inside the callable, so that it can clean up;
		// only if it does not end then is it killed.
		job.Timeout = max(at.Sub(t.Now()).Seconds(), 0.001)
		var stop context.CancelCauseFunc
		pctx, stop = context.WithCancelCause(context.WithoutCancel(ctx))
		release := context.AfterFunc(ctx, func() {
			cause := context.Cause(ctx)
			var timeout *TaskTimeout
			if errors.As(cause, &timeout) {
				time.AfterFunc(timeoutSlack, func() { stop(cause) })
				return
			}
			stop(cause)
		})
		cancel = func() { release(); stop(nil) }
	}
	defer cancel()
	env := c.Env
	if env == nil {
		env = append(append([]string{}, t.Environ()...), t.ContextVars()...)
	}
	trust := t.BundleDir
	if trust == "" {
		trust = "dag:" + string(t.DAG.DagID)
	}
	if c.Interpreter != "" {
		trust = "" // another interpreter is rare: a process of its own
	}
	res, err := t.w.o.Python.Run(pctx, pyproc.Run{
		Job: job, Server: &pyServer{t}, Python: c.Interpreter, Trust: trust, Grace: t.Grace(), As: t.as, Share: t.share,
		Env: append(append([]string{}, env...), append(t.Markers(), "PYTHONUNBUFFERED=1")...),
	})
	if err != nil {
		return nil, err
	}
	for k, v := range res.ContextAdded {
		if t.added == nil {
			t.added = map[string]json.RawMessage{}
		}
		t.added[k] = v
	}
	return res, t.pythonError(ctx, res)
}

func plainList(v jinja.Value) jinja.Value {
	if tup, ok := v.(*jinja.Tuple); ok {
		return jinja.NewList(tup.Items...)
	}
	return v
}

// pythonError is the error of a result, nil for success and exit.
func (t *Task) pythonError(ctx context.Context, res *pyproc.Result) error {
	py := &PythonError{Class: res.Class, Message: res.Message, Bases: res.Bases, Traceback: res.Traceback}
	switch res.Outcome {
	case "success", "exit":
		return nil
	case "skipped":
		return &SkipError{Message: res.Message}
	case "up_for_reschedule":
		return &Reschedule{At: res.At}
	case "failed_final":
		if res.Is("AirflowSensorTimeout") {
			return errors.Join(&SensorTimeout{Message: res.Message}, py)
		}
		return &FailError{Cause: py}
	case "failed":
		if res.Class == "AirflowTaskTimeout" || res.Class == "AirflowTaskTerminated" {
			var timeout *TaskTimeout
			if errors.As(context.Cause(ctx), &timeout) || t.Task.ExecutionTimeout > 0 && res.Class == "AirflowTaskTimeout" {
				return errors.Join(&TaskTimeout{After: t.Task.ExecutionTimeout}, py)
			}
		}
		return py
	}
	return fmt.Errorf("the Python task runner reported an unknown outcome %q", res.Outcome)
}

func (t *Task) sysPath() []string { return sysPath(t.TaskContext, t.w.o.SysPath) }

func sysPath(tc *worker.TaskContext, first []string) []string {
	out := append([]string{}, first...)
	if tc.BundleDir != "" {
		out = append(out, tc.BundleDir)
		if d := dagDir(tc); d != tc.BundleDir {
			out = append(out, d)
		}
	}
	return out
}

// locate makes a callable's file absolute: relative ones are looked up beside
// the DAG file, then at the root of the bundle.
func (t *Task) locate(c serde.Callable) pyproc.Callable {
	return LocateCallable(t.TaskContext, c)
}

// LocateCallable makes a callable's file absolute.
func LocateCallable(tc *worker.TaskContext, c serde.Callable) pyproc.Callable {
	out := pyproc.Callable{Path: c.Path, File: c.File, Name: c.Name, Lambda: c.Lambda}
	if c.File != "" && !filepath.IsAbs(c.File) {
		out.File = findFile(tc, c.File)
	}
	return out
}

// SysPath is the module search path of a task's Python code.
func SysPath(tc *worker.TaskContext, first []string) []string { return sysPath(tc, first) }

// pyServer answers a task's Python code.
type pyServer struct{ t *Task }

// Log implements pyproc.Server.
func (s *pyServer) Log(level, logger, event string) { s.t.Log.Write(Level(level), logger, event) }

// Serve implements pyproc.Server.
func (s *pyServer) Serve(ctx context.Context, kind string, raw json.RawMessage) (any, error) {
	t := s.t
	var q struct {
		DagID             airflow.DagID    `json:"dag_id"`
		RunID             airflow.RunID    `json:"run_id"`
		TaskID            airflow.TaskID   `json:"task_id"`
		MapIndex          int              `json:"map_index"`
		Key               string           `json:"key"`
		IncludePriorDates bool             `json:"include_prior_dates"`
		Value             json.RawMessage  `json:"value"`
		Description       string           `json:"description"`
		TaskIDs           []airflow.TaskID `json:"task_ids"`
		RunIDs            []airflow.RunID  `json:"run_ids"`
		LogicalDates      []time.Time      `json:"logical_dates"`
		Template          string           `json:"template"`
		State             string           `json:"state"`
		ConnID            string           `json:"conn_id"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, fmt.Errorf("request %s: %w", kind, err)
	}
	xq := worker.XComQuery{DagID: q.DagID, RunID: q.RunID, TaskID: q.TaskID, Key: q.Key, MapIndex: q.MapIndex, IncludePriorDates: q.IncludePriorDates}
	text := func() string {
		var v string
		if json.Unmarshal(q.Value, &v) != nil {
			v = string(q.Value)
		}
		return v
	}
	switch kind {
	case "set_xcom":
		t.PushXCom(q.Key, q.Value)
		return nil, nil
	case "get_xcom":
		v, err := t.GetXCom(ctx, xq)
		if v == nil || err != nil {
			return nil, err
		}
		return map[string]json.RawMessage{"value": v}, nil
	case "list_xcom":
		return t.ListXCom(ctx, xq)
	case "render":
		return t.RenderText(ctx, q.Template)
	case "mask_secret":
		t.AddSecret(text())
		return nil, nil
	case "set_variable":
		return nil, t.Backend().SetVariable(ctx, t.Dispatch, airflow.Variable{Key: q.Key, Value: text(), Description: q.Description})
	case "delete_variable":
		err := t.Backend().DeleteVariable(ctx, t.Dispatch, q.Key)
		if errors.Is(err, airflow.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	return Lookup(ctx, t.Backend(), t.Run, t.w.o.Masker, kind, q.Key, q.ConnID, worker.TaskStatesQuery{DagID: q.DagID, TaskIDs: q.TaskIDs, RunIDs: q.RunIDs, LogicalDates: q.LogicalDates}, q.RunID, q.State)
}

// Lookup answers the requests of Python code that only read. secret is called
// with every secret that is handed out.
func Lookup(ctx context.Context, r worker.Reader, run airflow.DagRun, m Masker, kind, key, connID string, q worker.TaskStatesQuery, runID airflow.RunID, state string) (any, error) {
	absent := func(v any, err error) (any, error) {
		if errors.Is(err, airflow.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return v, nil
	}
	switch kind {
	case "get_variable":
		v, err := r.GetVariable(ctx, key)
		if err == nil {
			addNamed(m, key, v.Value)
		}
		return absent(v, err)
	case "get_connection":
		c, err := r.GetConnection(ctx, connID)
		ConnectionSecrets(c, m)
		return absent(c, err)
	case "previous_dag_run":
		return absent(r.PreviousDagRun(ctx, run, airflow.DagRunState(state)))
	case "get_dag_run":
		return absent(r.GetDagRun(ctx, q.DagID, runID))
	case "task_states":
		return absent(r.TaskStates(ctx, q))
	}
	return nil, &pyproc.RemoteError{Class: "NotImplementedError", Message: "this worker does not answer " + kind}
}

// names knows the parts of names that are secret without any configuration.
var names = mask.New(mask.Options{})

// addNamed has a value masked whose name says that it is secret: by the
// installation's configuration if the masker knows it, else by Airflow's list.
func addNamed(m Masker, name, value string) {
	if m == nil || value == "" {
		return
	}
	sensitive := names.Sensitive
	if own, ok := m.(interface{ Sensitive(name string) bool }); ok {
		sensitive = own.Sensitive
	}
	if sensitive(name) {
		m.Add(value)
	}
}
