package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Options configure a Runner. Reader is required.
type Options struct {
	Reader worker.Reader
	// Python runs Python callbacks; nil makes them fail with advice.
	Python *pyproc.Host
	// Environ is the environment of commands and Python callbacks. Default: this
	// process's, cleaned by proc.CleanEnviron.
	Environ []string
	// Installation marks child processes; see package proc. Default "gust".
	Installation string
	// SysPath and OwnAirflow are as in taskrunner.Options.
	SysPath    []string
	OwnAirflow bool
	// Timeout bounds one callback. Default 5 min.
	Timeout time.Duration
	// HTTP is the client of webhooks. Default: one with a timeout of 30 s.
	HTTP *http.Client
	// SMTP is used by e-mails that name no connection ([smtp] of Airflow's configuration).
	SMTP SMTPConfig
	// Masker masks secrets in messages; nil masks nothing.
	Masker taskrunner.Masker
	// OpenLog opens the log of callbacks run by the control plane; mapIndex is that of
	// the task instance, airflow.Unmapped for a DAG's callbacks. Default: discarded.
	OpenLog func(tc *worker.TaskContext, mapIndex int, name string) (taskrunner.LogSink, error)
	// BundleDir returns the folder of a run's files for callbacks run by the control plane.
	BundleDir func(ctx context.Context, run airflow.DagRun) (string, error)
	// LogURL is ti.log_url of callbacks run by the control plane; nil for none.
	LogURL func(k airflow.TaskInstanceKey, try int) string
	// IgnoreConfInParams is [core] dag_run_conf_overrides_params set to False.
	IgnoreConfInParams bool
	Clock              func() time.Time
}

// Runner runs callbacks. It implements taskrunner.Callbacks and the engine's
// port for callbacks that no worker can run. It is safe for concurrent use.
type Runner struct {
	o Options

	mu   sync.Mutex
	seen map[string]time.Time
}

// New returns a Runner.
func New(o Options) *Runner {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Minute
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	if o.Environ == nil {
		o.Environ = proc.CleanEnviron(os.Environ())
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Installation == "" {
		o.Installation = "gust"
	}
	return &Runner{o: o, seen: map[string]time.Time{}}
}

var _ taskrunner.Callbacks = (*Runner)(nil)

// remember is how long a key is kept; repetitions come within minutes.
const remember = time.Hour

// first reports whether an event is new to this process.
func (r *Runner) first(key string) bool {
	if key == "" {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.o.Clock()
	if at, ok := r.seen[key]; ok && now.Sub(at) < remember {
		return false
	}
	if len(r.seen) > 4096 {
		for k, at := range r.seen {
			if now.Sub(at) >= remember {
				delete(r.seen, k)
			}
		}
	}
	r.seen[key] = now
	return true
}

// Run implements taskrunner.Callbacks.
func (r *Runner) Run(ctx context.Context, e taskrunner.CallbackEvent) {
	if err := r.run(ctx, e); err != nil {
		e.Log.Error(fmt.Sprintf("%s failed (the task's state does not change): %v", e.Name, err))
	}
}

func (r *Runner) run(ctx context.Context, e taskrunner.CallbackEvent) error {
	if !r.first(e.Key) {
		return nil
	}
	var errs []error
	for i, raw := range e.Specs {
		key := e.Key
		if len(e.Specs) > 1 {
			key = fmt.Sprintf("%s#%d", e.Key, i)
		}
		cctx, cancel := context.WithTimeoutCause(ctx, r.o.Timeout, fmt.Errorf("the callback ran longer than %v", r.o.Timeout))
		if err := r.one(cctx, e, raw, key); err != nil {
			errs = append(errs, err)
		}
		cancel()
	}
	return errors.Join(errs...)
}

// one runs one callback. Its forms: a callable (tagged, or an import path), an
// instance of a notifier class, the SDK's AsyncCallback or SyncCallback, or an
// object {"type": command | webhook | slack | email, …} of Gust's own.
func (r *Runner) one(ctx context.Context, e taskrunner.CallbackEvent, raw json.RawMessage, key string) error {
	if path, kwargs, ok, err := sdkCallback(raw); err != nil {
		return err
	} else if ok && goNotifiers[path] != nil {
		return r.notifier(ctx, e, &serde.Object{Class: path, Kwargs: kwargs}, key)
	} else if ok {
		return r.python(ctx, e, &serde.Callable{Path: path}, kwargs, key)
	}
	v, err := serde.FromDocument(raw)
	if err != nil {
		return err
	}
	switch x := v.(type) {
	case string:
		return r.python(ctx, e, &serde.Callable{Path: x}, nil, key)
	case *serde.Callable:
		return r.python(ctx, e, x, x.Kwargs, key)
	case *serde.Object:
		return r.notifier(ctx, e, x, key)
	case *jinja.Dict:
		return r.plain(ctx, e, x, key)
	case *jinja.List: // a list inside the list
		var errs []error
		for _, it := range x.Items {
			switch c := it.(type) {
			case *serde.Callable:
				errs = append(errs, r.python(ctx, e, c, c.Kwargs, key))
			case *serde.Object:
				errs = append(errs, r.notifier(ctx, e, c, key))
			default:
				errs = append(errs, fmt.Errorf("a list of callbacks may hold callables and notifiers, not %s", jinja.TypeOf(it).QualName()))
			}
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("%.80s is no callback: expected an import path, {callback: path, …} or {type: command | webhook | slack | email, …}", raw)
}

// plain runs a callback written as a mapping.
func (r *Runner) plain(ctx context.Context, e taskrunner.CallbackEvent, d *jinja.Dict, key string) error {
	rest := jinja.NewDict()
	if strings.HasPrefix(e.Name, "email_on_") {
		rest.Set("subject", or(r.o.SMTP.Subject, errorSubject))
		rest.Set("html_content", or(r.o.SMTP.HTMLContent, errorHTML))
	}
	d.Each(func(k, v jinja.Value) bool {
		if k != "type" && k != "callback" {
			rest.Set(k, v)
		}
		return true
	})
	if path, ok := d.Get("callback"); ok {
		switch c := path.(type) {
		case string:
			return r.python(ctx, e, &serde.Callable{Path: c}, rest, key)
		case *serde.Callable:
			return r.python(ctx, e, c, rest, key)
		}
	}
	kind, _ := d.Get("type")
	args, err := r.renderArgs(e, rest)
	if err != nil {
		return err
	}
	switch kind {
	case "command", "bash":
		return r.command(ctx, e, args, key)
	case "webhook", "http":
		return r.webhook(ctx, e, args, key)
	case "slack":
		return r.slack(ctx, e, args, key)
	case "email", "smtp":
		return r.email(ctx, e, args, key)
	}
	text, err := jinja.Repr(kind)
	if err != nil {
		return err
	}
	return fmt.Errorf("callback type %s is unknown: expected command, webhook, slack or email", text)
}

// The notifier classes that run without Python.
var goNotifiers = map[string]func(*Runner, context.Context, taskrunner.CallbackEvent, *taskrunner.Args, string) error{
	"airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier": (*Runner).slack,
	"airflow.providers.slack.notifications.slack.SlackNotifier":                (*Runner).slackAPI,
	"airflow.providers.smtp.notifications.smtp.SmtpNotifier":                   (*Runner).email,
}

func (r *Runner) notifier(ctx context.Context, e taskrunner.CallbackEvent, o *serde.Object, key string) error {
	if f, ok := goNotifiers[o.Class]; ok {
		args, err := r.renderArgs(e, o.Kwargs)
		if err != nil {
			return err
		}
		return f(r, ctx, e, args, key)
	}
	if strings.HasPrefix(o.Class, "airflow.providers.") {
		return fmt.Errorf("the notifier %s is not built in: use {type: webhook, url: …}, {type: slack, …}, {type: email, …} or a function of your own", o.Class)
	}
	return r.python(ctx, e, &serde.Callable{Path: o.Class}, o.Kwargs, key)
}

// renderArgs renders every text of a built-in callback in the task's context.
func (r *Runner) renderArgs(e taskrunner.CallbackEvent, d *jinja.Dict) (*taskrunner.Args, error) {
	vals := map[string]jinja.Value{}
	var bad error
	if d != nil {
		d.Each(func(k, v jinja.Value) bool {
			name, ok := k.(string)
			if !ok {
				bad = fmt.Errorf("argument names must be texts")
				return false
			}
			vals[name], bad = renderValue(e, v)
			return bad == nil
		})
	}
	return taskrunner.NewArgs(vals), bad
}

func renderValue(e taskrunner.CallbackEvent, v jinja.Value) (jinja.Value, error) {
	switch x := v.(type) {
	case string:
		if e.Render == nil || !strings.Contains(x, "{{") && !strings.Contains(x, "{%") {
			return x, nil
		}
		return e.Render(x)
	case *jinja.List:
		out := jinja.NewList()
		for _, it := range x.Items {
			y, err := renderValue(e, it)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, y)
		}
		return out, nil
	case *jinja.Dict:
		out := jinja.NewDict()
		var err error
		x.Each(func(k, it jinja.Value) bool {
			var y jinja.Value
			if y, err = renderValue(e, it); err == nil {
				out.Set(k, y)
			}
			return err == nil
		})
		return out, err
	}
	return v, nil
}

// python calls func(context, **kwargs), or the notify method of a class.
func (r *Runner) python(ctx context.Context, e taskrunner.CallbackEvent, c *serde.Callable, kwargs *jinja.Dict, key string) error {
	if r.o.Python == nil {
		return fmt.Errorf("the callback %s is Python, which this process cannot run", c)
	}
	pc, err := taskrunner.PythonContext(e.Context, e.MapIndex, taskrunner.ContextExtra{State: e.State, Exception: e.Err, ErrorClass: e.Class, Reason: e.Reason})
	if err != nil {
		return err
	}
	job := pyproc.Job{
		Kind: "callback", Callable: taskrunner.LocateCallable(e.Context, *c), SysPath: taskrunner.SysPath(e.Context, r.o.SysPath),
		OwnAirflow: r.o.OwnAirflow, Context: pc,
	}
	if kwargs != nil && kwargs.Len() > 0 {
		if job.OpKwargs, err = serde.EncodeXCom(kwargs); err != nil {
			return err
		}
	}
	if e.Deadline != nil {
		if job.KeywordContext, err = deadlineContext(e); err != nil {
			return err
		}
	}
	trust := e.Context.BundleDir
	if trust == "" {
		trust = "dag:" + string(e.Context.DAG.DagID)
	}
	res, err := r.o.Python.Run(ctx, pyproc.Run{
		Job: job, Server: &server{r, e}, Trust: trust, Grace: 5 * time.Second,
		Env: r.environ(e, key), As: e.As, Share: e.Share,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	if res.Outcome != "success" {
		text := res.Traceback
		if text == "" {
			text = res.Outcome + " " + res.Message
		}
		return fmt.Errorf("%s: %s", c, text)
	}
	return nil
}

// environ is the environment of a callback's process, with its markers.
func (r *Runner) environ(e taskrunner.CallbackEvent, key string) []string {
	own := r.o.Environ
	if e.As != nil {
		own = e.As.Environ(own)
	}
	return append(append([]string{}, own...), proc.EnvInstallation+"="+r.o.Installation, proc.EnvDispatch+"="+key, "GUST_IDEMPOTENCY_KEY="+key)
}

// server answers a callback's Python code: it may read and log.
type server struct {
	r *Runner
	e taskrunner.CallbackEvent
}

// Log implements pyproc.Server.
func (s *server) Log(level, logger, event string) {
	s.e.Log.Write(taskrunner.Level(level), logger, event)
}

// Serve implements pyproc.Server.
func (s *server) Serve(ctx context.Context, kind string, raw json.RawMessage) (any, error) {
	var q struct {
		worker.XComQuery
		ConnID       string           `json:"conn_id"`
		Template     string           `json:"template"`
		State        string           `json:"state"`
		TaskIDs      []airflow.TaskID `json:"task_ids"`
		RunIDs       []airflow.RunID  `json:"run_ids"`
		LogicalDates []time.Time      `json:"logical_dates"`
		Value        json.RawMessage  `json:"value"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, err
	}
	switch kind {
	case "get_xcom":
		v, err := s.r.o.Reader.GetXCom(ctx, q.XComQuery)
		if errors.Is(err, airflow.ErrNotFound) || err == nil && v == nil {
			return nil, nil
		}
		return map[string]json.RawMessage{"value": v}, err
	case "list_xcom":
		v, err := s.r.o.Reader.ListXCom(ctx, q.XComQuery)
		if errors.Is(err, airflow.ErrNotFound) {
			return nil, nil
		}
		return v, err
	case "render":
		if s.e.Render == nil {
			return q.Template, nil
		}
		return s.e.Render(q.Template)
	case "mask_secret":
		var text string
		if json.Unmarshal(q.Value, &text) == nil {
			s.r.secret(text)
		}
		return nil, nil
	case "set_xcom", "set_variable", "delete_variable":
		return nil, &pyproc.RemoteError{Class: "AirflowException", Message: "a callback cannot write (" + kind + "): do it in a task"}
	}
	return taskrunner.Lookup(ctx, s.r.o.Reader, s.e.Context.Run, s.r.o.Masker, kind, q.Key, q.ConnID,
		worker.TaskStatesQuery{DagID: q.DagID, TaskIDs: q.TaskIDs, RunIDs: q.RunIDs, LogicalDates: q.LogicalDates}, q.RunID, q.State)
}

func (r *Runner) secret(s string) {
	if r.o.Masker != nil && s != "" {
		r.o.Masker.Add(s)
	}
}
