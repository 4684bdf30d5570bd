package taskrunner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/serde"
)

// Task is one dispatch as its operator sees it.
type Task struct {
	*worker.TaskContext
	Dispatch worker.Dispatch
	// Class is the operator's canonical class path.
	Class string
	Spec  airflow.OperatorSpec
	// Args are the operator's arguments, mapped, resolved and rendered.
	Args *Args
	Log  *Logger

	w *Worker
	// deadline is when execution_timeout passes; zero = never.
	deadline time.Time
	params   *jinja.Dict
	rendered json.RawMessage
	mapIndex string // rendered map_index_template
	// added are names that Python code put into the context.
	added map[string]json.RawMessage

	as        *proc.User // run_as_user, nil = the worker's
	templates Templates
	pyContext json.RawMessage

	groups    []*airflow.TaskGroup // mapped ones around the task, nil = not looked up
	groupArgs map[airflow.GroupID]*jinja.Dict

	xcomMu sync.Mutex
	xcoms  []worker.XComPush
	pushed map[string]json.RawMessage
}

func (w *Worker) newTask(d worker.Dispatch, tc *worker.TaskContext, sink LogSink) *Task {
	spec := tc.DAG.Gust.Operators[tc.Task.TaskID]
	class := spec.Class
	if class == "" {
		class = tc.Task.ClassPath()
	}
	return &Task{
		TaskContext: tc, Dispatch: d, Class: class, Spec: spec, w: w,
		Log: &Logger{sink: sink, mask: w.o.Masker, clock: w.o.Clock, name: "task", min: severity[w.o.LogLevel]},
	}
}

// Backend is the control plane.
func (t *Task) Backend() worker.Backend { return t.w.o.Backend }

// Now is the current time in UTC.
func (t *Task) Now() time.Time { return t.w.o.Clock().UTC() }

// Grace is the time between SIGTERM and SIGKILL.
func (t *Task) Grace() time.Duration { return t.w.o.KilledTaskCleanupTime }

// Deadline is when execution_timeout passes; ok is false without one.
func (t *Task) Deadline() (at time.Time, ok bool) { return t.deadline, !t.deadline.IsZero() }

// CacheDir is where the worker keeps things over tasks; "" means the user's cache folder.
func (t *Task) CacheDir() string { return t.w.o.CacheDir }

// Key identifies the task instance.
func (t *Task) Key() airflow.TaskInstanceKey { return t.Dispatch.Key }

// RequestID is an idempotency key for something the task does once per try.
func (t *Task) RequestID(what string) string {
	return fmt.Sprintf("%s#%d#%d#%s", t.Dispatch.Key, t.TryNumber, t.Run.ClearNumber, what)
}

// DagDir is the folder of the DAG file; "" without a bundle.
func (t *Task) DagDir() string { return dagDir(t.TaskContext) }

func dagDir(tc *worker.TaskContext) string {
	if tc.BundleDir == "" {
		return ""
	}
	return filepath.Join(tc.BundleDir, filepath.Dir(filepath.FromSlash(tc.DAG.RelativeFileloc)))
}

// Mask hides secrets in text.
func (t *Task) Mask(s string) string {
	if t.w.o.Masker == nil {
		return s
	}
	return t.w.o.Masker.Mask(s)
}

// AddSecret has a text masked from now on.
func (t *Task) AddSecret(s string) {
	if t.w.o.Masker != nil && s != "" {
		t.w.o.Masker.Add(s)
	}
}

// Connection looks a connection up and has its password masked.
func (t *Task) Connection(ctx context.Context, id string) (airflow.Connection, error) {
	c, err := t.Backend().GetConnection(ctx, id)
	if errors.Is(err, airflow.ErrNotFound) {
		return c, fmt.Errorf("the conn_id `%s` isn't defined: create it, or set %s", id, "AIRFLOW_CONN_"+strings.ToUpper(id))
	}
	if err != nil {
		return c, fmt.Errorf("connection %q: %w", id, err)
	}
	ConnectionSecrets(c, t.w.o.Masker)
	return c, nil
}

// ConnectionSecrets has what must not be shown of a connection masked: its
// password and the values of sensitive keys of its extra. m may be nil.
func ConnectionSecrets(c airflow.Connection, m Masker) {
	if m == nil {
		return
	}
	if c.Password != "" {
		m.Add(c.Password)
	}
	if c.Extra == "" {
		return
	}
	var extra map[string]any
	if json.Unmarshal([]byte(c.Extra), &extra) != nil {
		return // no object: nothing in it has a name
	}
	for k, v := range extra {
		if s, ok := v.(string); ok {
			addNamed(m, k, s)
		}
	}
}

// ContextVars are Airflow's AIRFLOW_CTX_… environment variables.
func (t *Task) ContextVars() []string {
	vars := []string{
		"AIRFLOW_CTX_DAG_OWNER=" + t.Task.Owner,
		"AIRFLOW_CTX_DAG_ID=" + string(t.DAG.DagID),
		"AIRFLOW_CTX_TASK_ID=" + string(t.Task.TaskID),
		"AIRFLOW_CTX_TRY_NUMBER=" + strconv.Itoa(t.TryNumber),
		"AIRFLOW_CTX_DAG_RUN_ID=" + string(t.Run.RunID),
	}
	if ld := t.Run.LogicalDate; ld != nil {
		vars = append(vars, "AIRFLOW_CTX_LOGICAL_DATE="+PyISO(*ld))
	}
	if raw := t.Task.Raw["email"]; len(raw) > 0 && string(raw) != "null" {
		var one string
		var many []string
		if json.Unmarshal(raw, &one) == nil {
			many = []string{one}
		} else if json.Unmarshal(airflow.Untag(raw), &many) != nil {
			many = nil
		}
		if len(many) > 0 {
			vars = append(vars, "AIRFLOW_CTX_DAG_EMAIL="+strings.Join(many, ","))
		}
	}
	return vars
}

// Markers are the variables that tell whose child a process is.
func (t *Task) Markers() []string {
	return []string{proc.EnvDispatch + "=" + t.Dispatch.String(), proc.EnvInstallation + "=" + t.w.o.Installation}
}

// Environ is the worker's environment for child processes, without markers.
func (t *Task) Environ() []string {
	if t.as != nil {
		return t.as.Environ(t.w.o.Environ)
	}
	return t.w.o.Environ
}

// RunAs is the user that the task's processes run as; nil is the worker's.
func (t *Task) RunAs() *proc.User { return t.as }

// share returns where the user of RunAs can read a folder of ours.
func (t *Task) share(dir string) (string, error) { return t.w.o.Shares.For(t.as, dir) }

// become finds the user that the task's processes run as, and puts what they need
// where that user can read it.
func (t *Task) become() (err error) {
	name := t.Task.RunAsUser
	if name == "" {
		name = t.w.o.DefaultImpersonation
	}
	if name == "" {
		return nil
	}
	if t.as, err = proc.Become(name); err != nil || t.as == nil {
		return err
	}
	dir, err := t.share(t.BundleDir)
	if err != nil {
		return fmt.Errorf("run_as_user %q: %w", name, err)
	}
	tc := *t.TaskContext
	tc.BundleDir = dir
	t.TaskContext = &tc
	return nil
}

// PyISO is Python's isoformat of a UTC datetime.
func PyISO(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond()/1000 != 0 {
		return t.Format("2006-01-02T15:04:05.000000+00:00")
	}
	return t.Format("2006-01-02T15:04:05+00:00")
}

// PyStr is Python's str of a UTC datetime.
func PyStr(t time.Time) string { return strings.Replace(PyISO(t), "T", " ", 1) }

// PushXCom stores a value of the task: with the report, or at the next
// heartbeat if the task runs longer.
func (t *Task) PushXCom(key string, value json.RawMessage) {
	t.xcomMu.Lock()
	defer t.xcomMu.Unlock()
	if t.pushed == nil {
		t.pushed = map[string]json.RawMessage{}
	}
	t.pushed[key] = value
	for i := range t.xcoms {
		if t.xcoms[i].Key == key {
			t.xcoms[i].Value = value
			return
		}
	}
	t.xcoms = append(t.xcoms, worker.XComPush{Key: key, Value: value})
}

// ownXCom returns what this dispatch pushed itself.
func (t *Task) ownXCom(key string) (json.RawMessage, bool) {
	t.xcomMu.Lock()
	defer t.xcomMu.Unlock()
	v, ok := t.pushed[key]
	return v, ok
}

// flushXComs stores pending values bigger than limit.
func (t *Task) flushXComs(ctx context.Context, limit int) error {
	t.xcomMu.Lock()
	var out []worker.XComPush
	for _, x := range t.xcoms {
		if len(x.Value) > limit {
			out = append(out, x)
		}
	}
	t.xcomMu.Unlock()
	if len(out) == 0 {
		return nil
	}
	if err := t.w.retry(ctx, func(c context.Context) error { return t.Backend().SetXCom(c, t.Dispatch, out) }); err != nil {
		return err
	}
	t.xcomMu.Lock()
	defer t.xcomMu.Unlock()
	rest := t.xcoms[:0]
	for _, x := range t.xcoms {
		stored := false
		for _, o := range out {
			// A value that was replaced meanwhile is still pending.
			stored = stored || o.Key == x.Key && bytes.Equal(o.Value, x.Value)
		}
		if !stored {
			rest = append(rest, x)
		}
	}
	t.xcoms = rest
	return nil
}

func (t *Task) takeXComs() []worker.XComPush {
	t.xcomMu.Lock()
	defer t.xcomMu.Unlock()
	x := t.xcoms
	t.xcoms = nil
	return x
}

// GetXCom returns one value, nil if there is none.
func (t *Task) GetXCom(ctx context.Context, q worker.XComQuery) (json.RawMessage, error) {
	if q.DagID == t.DAG.DagID && q.RunID == t.Run.RunID && q.TaskID == t.Task.TaskID && q.MapIndex == t.Key().MapIndex {
		if v, ok := t.ownXCom(q.Key); ok {
			return v, nil
		}
	}
	v, err := t.Backend().GetXCom(ctx, q)
	if errors.Is(err, airflow.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// ListXCom returns the values of all map indexes of a task.
func (t *Task) ListXCom(ctx context.Context, q worker.XComQuery) ([]worker.MappedXCom, error) {
	vals, err := t.Backend().ListXCom(ctx, q)
	if errors.Is(err, airflow.ErrNotFound) {
		err = nil
	}
	if q.DagID == t.DAG.DagID && q.RunID == t.Run.RunID && q.TaskID == t.Task.TaskID {
		if v, ok := t.ownXCom(q.Key); ok && err == nil {
			for i := range vals {
				if vals[i].MapIndex == t.Key().MapIndex {
					vals[i].Value = v
					return vals, nil
				}
			}
			vals = append(vals, worker.MappedXCom{MapIndex: t.Key().MapIndex, Value: v})
		}
	}
	return vals, err
}

func isNull(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// push stores the return value: whole, key by key with multiple_outputs, and
// checks that it can be expanded over if another task does.
func (t *Task) push(res *Result) error {
	if res == nil {
		return nil
	}
	if x := res.Skip.XCom(); x != nil {
		t.PushXCom(worker.SkipMixinKey, x)
	}
	if !t.Task.DoXComPush {
		return t.checkMappable(nil)
	}
	if !isNull(res.Value) {
		if t.multipleOutputs() {
			if err := t.pushOutputs(res.Value); err != nil {
				return err
			}
		}
		t.PushXCom(airflow.XComReturnKey, res.Value)
	}
	return t.checkMappable(res.Value)
}

func (t *Task) multipleOutputs() bool {
	if t.Task.MultipleOutputs {
		return true
	}
	v, ok := t.Spec.Kwargs["multiple_outputs"]
	return ok && string(v) == "true"
}

func (t *Task) pushOutputs(value json.RawMessage) error {
	v, err := jinja.ParseJSON(string(value))
	if err != nil {
		return err
	}
	d, ok := v.(*jinja.Dict)
	if class, tagged := jinja.Value(nil), false; ok {
		if class, tagged = d.Get("__classname__"); tagged {
			return fmt.Errorf("Returned output was type %v expected dictionary for multiple_outputs", class)
		}
	}
	if !ok {
		return fmt.Errorf("Returned output was type %s expected dictionary for multiple_outputs", jinja.TypeOf(v).QualName())
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return err
	}
	for _, k := range d.Keys() {
		name := k.(string) // keys of JSON objects are texts
		t.PushXCom(name, fields[name])
	}
	return nil
}

// mappedOver reports whether a task of the DAG expands over this task's return value.
func (t *Task) mappedOver() bool {
	uses := func(x *airflow.ExpandInput) bool {
		found := false
		if x != nil {
			for _, a := range x.Args {
				a.XCom.Sources(func(id airflow.TaskID, key string) {
					found = found || id == t.Task.TaskID && key == airflow.XComReturnKey
				})
			}
		}
		return found
	}
	for _, o := range t.DAG.Tasks {
		if uses(o.Expand) {
			return true
		}
	}
	found := false
	t.DAG.TaskGroup.Walk(func(g, _ *airflow.TaskGroup) { found = found || uses(g.Expand) })
	return found
}

func (t *Task) checkMappable(value json.RawMessage) error {
	if t.Key().MapIndex != airflow.Unmapped || !t.mappedOver() {
		return nil
	}
	n, err := mappableLength(value)
	if err != nil {
		return err
	}
	if n > t.w.o.MaxMapLength {
		return fmt.Errorf("unmappable return value length: %d > %d ([core] max_map_length)", n, t.w.o.MaxMapLength)
	}
	return nil
}

// mappableLength is the length of a list, tuple or dict in XCom form.
func mappableLength(value json.RawMessage) (int, error) {
	if isNull(value) {
		return 0, fmt.Errorf("did not push XCom for task mapping: another task expands over the return value, which is None")
	}
	body := value
	if value[0] == '{' {
		var tag struct {
			Class string          `json:"__classname__"`
			Data  json.RawMessage `json:"__data__"`
		}
		if err := json.Unmarshal(value, &tag); err != nil {
			return 0, err
		}
		switch tag.Class {
		case "":
			var m map[string]json.RawMessage
			err := json.Unmarshal(value, &m)
			return len(m), err
		case "builtins.tuple":
			body = tag.Data
		default:
			return 0, fmt.Errorf("unmappable return type %q: another task expands over the return value, which must be a list, tuple or dict", tag.Class)
		}
	}
	if len(body) == 0 || body[0] != '[' {
		return 0, fmt.Errorf("unmappable return type: another task expands over the return value, which must be a list, tuple or dict; got %.40s", value)
	}
	var l []json.RawMessage
	err := json.Unmarshal(body, &l)
	return len(l), err
}

// report makes the report of an execution.
func (t *Task) report(res *Result, err error) *worker.Report {
	r := &worker.Report{EndDate: t.Now(), RenderedFields: t.rendered, RenderedMapIndex: t.mapIndex}
	var (
		skip     *SkipError
		fail     *FailError
		sensor   *SensorTimeout
		resched  *Reschedule
		deferred *Deferred
	)
	switch {
	case err == nil:
		r.Outcome = worker.OutcomeSuccess
		if v, ok := t.ownXCom(airflow.XComReturnKey); ok && !isNull(v) {
			r.PushedReturnValue = true
		}
		if t.Key().MapIndex == airflow.Unmapped && res != nil && t.mappedOver() {
			if n, err := mappableLength(res.Value); err == nil {
				r.MappedLength = &n
			}
		}
		if res != nil {
			r.Skip = res.Skip
			r.AssetEvents = t.assetEvents(res)
		}
		return r
	case errors.As(err, &skip):
		r.Outcome = worker.OutcomeSkipped
	case errors.As(err, &resched):
		r.Outcome, r.RescheduleAt = worker.OutcomeUpForReschedule, resched.At
		return r
	case errors.As(err, &deferred):
		r.Outcome, r.Deferral = worker.OutcomeDeferred, &deferred.Deferral
		return r
	case errors.As(err, &fail), errors.As(err, &sensor):
		r.Outcome = worker.OutcomeFailedFinal
	default:
		r.Outcome = worker.OutcomeFailed
	}
	r.Error = t.Mask(err.Error())
	return r
}

// finishLog writes the last line: how the task ended and why.
func (t *Task) finishLog(r *worker.Report, err error) {
	var py *PythonError
	switch r.Outcome {
	case worker.OutcomeSuccess:
		t.Log.Info("Task ended with success")
	case worker.OutcomeSkipped:
		t.Log.Info("Task was skipped: " + r.Error)
	case worker.OutcomeUpForReschedule:
		t.Log.Info("Rescheduling the task, run again at " + PyISO(r.RescheduleAt))
	case worker.OutcomeDeferred:
		t.Log.Info("Pausing the task until its trigger fires: " + string(r.Deferral.Trigger.Kind))
	default:
		text := "Task failed"
		if errors.As(err, &py) && py.Traceback != "" {
			t.Log.Error(text + " with exception\n" + py.Traceback)
		} else {
			t.Log.Error(text + ": " + err.Error())
		}
		if t.ShouldRetry && r.Outcome == worker.OutcomeFailed {
			t.Log.Info("The task will be retried")
		}
	}
}

// assetEvents lists the events of a success: one per outlet asset, with what
// the task added, and those added through aliases.
func (t *Task) assetEvents(res *Result) []worker.OutletEvent {
	var out []worker.OutletEvent
	for _, ref := range t.Task.Outlets {
		var add *OutletAddition
		for i := range res.Outlets {
			a := &res.Outlets[i]
			if a.Alias == (ref.Type == "asset_alias") && (a.Name == ref.Name || a.Name == ref.URI) {
				add = a
			}
		}
		if ref.Type == "asset_alias" {
			if add == nil {
				continue
			}
			for _, x := range add.Added {
				out = append(out, worker.OutletEvent{Asset: airflow.AssetRef{Type: "asset", Name: x.Name, URI: x.URI}, Alias: ref.Name, Extra: x.Extra})
			}
			continue
		}
		ev := worker.OutletEvent{Asset: ref}
		if add != nil {
			ev.Extra = add.Extra
		}
		out = append(out, ev)
	}
	return out
}

// XComValue encodes a value of the template engine as XCom JSON.
func XComValue(v jinja.Value) (json.RawMessage, error) { return serde.EncodeXCom(v) }

// XComText encodes a text as XCom JSON.
func XComText(s string) json.RawMessage { return json.RawMessage(appendJSONString(nil, s)) }
