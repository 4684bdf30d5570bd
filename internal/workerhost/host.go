package workerhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/callback"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/sandbox"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/python"
)

// Bundles gives the files of a bundle snapshot (the engine's port of that name).
type Bundles interface {
	Materialize(ctx context.Context, hash string) (string, error)
}

// Parts are what a host lends to its control plane. They are those of the
// dispatch or callback under way.
type Parts struct {
	// Bundles are the files of runs.
	Bundles Bundles
	// Callbacks runs callbacks that no worker can run any more (the engine's port
	// of that name), within Host.RunCallback.
	Callbacks Callbacks
}

// Options configure a Host. Backend, Operators and OpenLog are required.
type Options struct {
	// Backend returns the control plane as workers see it; it is called once, with
	// the parts of the host that it may use.
	Backend func(p Parts) (worker.Backend, error)
	// OpenBundles opens the snapshots, to be materialised below dir. nil: runs
	// have no files.
	OpenBundles func(dir string) (Bundles, error)
	Operators   taskrunner.Resolver
	// OpenLog opens the log of a dispatch.
	OpenLog func(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error)
	// OpenCallbackLog opens the log of a callback of RunCallback; see
	// callback.Options.OpenLog. nil: it is discarded.
	OpenCallbackLog func(tc *worker.TaskContext, mapIndex int, name string) (taskrunner.LogSink, error)
	// Config are the settings; nil = the defaults.
	Config *config.Config
	// Identity of this process. Default: taskrunner.Self.
	Identity worker.Identity
	// Installation marks child processes. Default "gust-worker".
	Installation string
	// Python is the interpreter of Python tasks. Default: of the configuration,
	// else python3 of PATH.
	Python string
	// Environ is the environment of tasks. Default: sandbox.Environ of this
	// process's. HOME and TMPDIR are set by the host in a sandbox.
	Environ []string
	// Scratch is where tasks may write. Sandboxed hosts need one; others use the
	// folder CacheDir.
	Scratch  *sandbox.Scratch
	CacheDir string
	// Sandboxed hosts run one dispatch at a time and clean up after each.
	Sandboxed bool
	// CleanUpWithin is how long the processes of a dispatch may take to end when
	// they are killed. Default 3 s.
	CleanUpWithin time.Duration
	// CheckInterval is how often the cancel flag is read. Default 5 s.
	CheckInterval time.Duration
	// HeartbeatInterval defaults to that of the configuration, at most 60 s.
	HeartbeatInterval time.Duration
	// ClaimRetry is how long a claim is retried before the dispatch is handed
	// back. Default 15 s.
	ClaimRetry time.Duration
	// ReportRetry is how long a report is retried. Default 2 min.
	ReportRetry time.Duration
	Log         *slog.Logger
}

// Limit is the time that a dispatch has.
type Limit struct {
	// Deadline is when this process may be stopped from outside; zero = never.
	Deadline time.Time
	// Spare is how long before the deadline the task is told to end. Default 30 s.
	Spare time.Duration
	// Allowed is the longest execution_timeout that is accepted; 0 = any.
	Allowed time.Duration
	// Cause begins the error of a task that reached the limit, e.g. "lambda_deadline".
	Cause string
	// Advice says what to do about it.
	Advice string
}

// HandBack is the error of a dispatch that was not started and is to be
// delivered again.
type HandBack struct{ Err error }

// Error says why.
func (h *HandBack) Error() string { return "handed back: " + h.Err.Error() }

// DeadlineError is how a task ends that reached the limit of its host.
type DeadlineError struct{ Limit Limit }

// Error begins with the limit's cause.
func (e *DeadlineError) Error() string {
	s := e.Limit.Cause
	if s == "" {
		s = "deadline"
	}
	s = fmt.Sprintf("%s: the task was stopped %v before the time limit of its worker", s, e.Limit.Spare)
	if e.Limit.Advice != "" {
		s += ": " + e.Limit.Advice
	}
	return s
}

// Host runs dispatches. It is safe for concurrent use unless it is sandboxed:
// then one dispatch at a time.
type Host struct {
	o       Options
	cfg     *config.Config
	log     *slog.Logger
	backend *backend
	bundles *switchable
	shares  *proc.Shares // for run_as_user; nil in a sandbox, whose user can be no other

	mu  sync.Mutex
	gen *generation
	// worn is set when the sandbox could not be cleaned.
	worn error
}

// generation is what DAGs do not share in a sandbox: the worker with its Python
// processes, caches, and the secrets it masks.
type generation struct {
	dag       airflow.DagID
	worker    *taskrunner.Worker
	python    *pyproc.Host
	callbacks *callback.Runner
	masker    *mask.Masker
	bundles   Bundles
	// trusted is the zygote that was started before any code of a task ran.
	trusted int
}

// New returns a host.
func New(o Options) (*Host, error) {
	h := &Host{o: o, cfg: o.Config, log: o.Log, bundles: &switchable{}}
	if h.cfg == nil {
		cfg, err := config.Load(config.Input{})
		if err != nil {
			return nil, err
		}
		h.cfg = cfg
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&h.o.CleanUpWithin, 3*time.Second)
	def(&h.o.CheckInterval, 5*time.Second)
	def(&h.o.ClaimRetry, 15*time.Second)
	def(&h.o.ReportRetry, 2*time.Minute)
	if h.o.HeartbeatInterval <= 0 {
		h.o.HeartbeatInterval = 60 * time.Second
		if v := h.cfg.Workers.MinHeartbeatInterval; v > 0 && v < h.o.HeartbeatInterval {
			h.o.HeartbeatInterval = v
		}
	}
	if h.o.Sandboxed && h.o.Scratch == nil {
		return nil, errors.New("a sandboxed worker host needs a scratch folder")
	}
	if h.o.Identity == (worker.Identity{}) {
		h.o.Identity = taskrunner.Self()
	}
	if h.o.Installation == "" {
		h.o.Installation = "gust-worker"
	}
	if h.o.Python == "" {
		h.o.Python = h.cfg.Gust.Python
	}
	if !h.o.Sandboxed {
		h.shares = proc.NewShares(h.o.Installation)
	}
	if h.o.Environ == nil {
		h.o.Environ = sandbox.Environ(os.Environ())
	}
	b, err := o.Backend(Parts{Bundles: h.bundles, Callbacks: callbacks{h}})
	if err != nil {
		return nil, err
	}
	h.backend = &backend{Backend: b, h: h, sessions: map[worker.Dispatch]*session{}}
	return h, nil
}

// Backend is the control plane as this host uses it.
func (h *Host) Backend() worker.Backend { return h.backend.Backend }

// Identity is what dispatches are claimed with.
func (h *Host) Identity() worker.Identity { return h.o.Identity }

// Close ends idle Python processes.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen != nil {
		h.gen.python.Close()
		h.gen = nil
	}
}

// Worn returns why this process must not run another dispatch, nil if it may.
func (h *Host) Worn() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.worn
}

// Run executes one dispatch to its end. The error is nil when it was reported;
// wraps airflow.ErrSuperseded when it may not start or was stopped, so that its
// message is to be dropped; is a *HandBack when it was not started and must be
// delivered again; and another error when it was started and its report was not
// accepted: the control plane will notice.
func (h *Host) Run(ctx context.Context, d worker.Dispatch, limit Limit) (err error) {
	if limit.Spare <= 0 {
		limit.Spare = 30 * time.Second
	}
	g, err := h.generation(d.Key.DagID)
	if err != nil {
		return &HandBack{err}
	}
	if h.o.Sandboxed {
		before := proc.Started()
		defer func() { h.cleanUp(g, before) }()
	}
	s := h.backend.open(d, limit, g)
	if s == nil {
		return &worker.SupersededError{Cause: "it is running in this process already: the message came twice"}
	}
	defer h.backend.close(s)
	if !limit.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, limit.Deadline.Add(-limit.Spare), &DeadlineError{limit})
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("a worker panicked; this is a bug of gust", "dispatch", d.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = h.fail(ctx, s, fmt.Errorf("the worker panicked, which is a bug of gust: %v", p))
		}
	}()
	err = g.worker.Run(ctx, d)
	var back *HandBack
	if errors.As(err, &back) {
		return back
	}
	return err
}

// RunCallback runs f, which has the control plane carry out a callback through
// Parts.Callbacks, as a dispatch of its own: in a sandbox it shares nothing with
// tasks.
func (h *Host) RunCallback(ctx context.Context, id string, limit Limit, f func(context.Context) error) (err error) {
	g, err := h.generation(airflow.DagID("callback:" + id))
	if err != nil {
		return &HandBack{err}
	}
	if h.o.Sandboxed {
		before := proc.Started()
		defer func() { h.cleanUp(g, before) }()
	}
	if !limit.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, limit.Deadline.Add(-reportTime), errors.New("the time limit of the worker left no more time for the callback"))
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("a callback panicked; this is a bug of gust", "callback", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("the callback panicked, which is a bug of gust: %v", p)
		}
	}()
	if err := f(ctx); transient(err) {
		return &HandBack{err}
	} else {
		return err
	}
}

// fail reports a dispatch as failed on behalf of a worker that cannot.
func (h *Host) fail(ctx context.Context, s *session, cause error) error {
	if !s.isClaimed() {
		return &HandBack{cause}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := h.backend.Finish(ctx, s.d, &worker.Report{Outcome: worker.OutcomeFailed, EndDate: time.Now().UTC(), Error: cause.Error()})
	return errors.Join(cause, err)
}

// generation returns the worker for a DAG's dispatch.
func (h *Host) generation(dag airflow.DagID) (*generation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.worn != nil {
		return nil, h.worn
	}
	if h.gen != nil && (!h.o.Sandboxed || h.gen.dag == dag) {
		return h.gen, nil
	}
	if h.gen != nil { // another DAG: nothing is shared
		h.gen.python.Close()
		h.gen = nil
		if err := h.scrub(nil, true); err != nil {
			h.worn = err
			return nil, err
		}
	}
	var bundles Bundles
	if h.o.OpenBundles != nil {
		dir := filepath.Join(h.o.CacheDir, "bundles")
		if h.o.Scratch != nil {
			dir = h.o.Scratch.Bundles()
		}
		var err error
		if bundles, err = h.o.OpenBundles(dir); err != nil {
			return nil, err
		}
	}
	cfg := h.cfg
	m := mask.New(mask.Options{ShowSensitive: !cfg.Core.HideSensitiveVarConnFields, Names: cfg.Core.SensitiveVarConnNames, MinLength: cfg.Logging.MinLengthMaskedSecret})
	h.gen = h.newGeneration(dag, m, bundles)
	h.bundles.set(bundles)
	return h.gen, nil
}

func (h *Host) newGeneration(dag airflow.DagID, m *mask.Masker, bundles Bundles) *generation {
	cfg := h.cfg
	cache, env := h.o.CacheDir, h.o.Environ
	zygotes := cfg.Gust.PythonZygotes
	if s := h.o.Scratch; s != nil {
		cache = s.Cache()
		env = setEnv(env, "TMPDIR", s.Tmp())
		env = setEnv(env, "HOME", s.Home())
		// Operators make temporary files in this process, and zygotes inherit from it.
		os.Setenv("TMPDIR", s.Tmp())
		os.Setenv("HOME", s.Home())
		zygotes = min(1, zygotes)
	}
	g := &generation{dag: dag, masker: m, bundles: bundles, python: pyproc.NewHost(h.o.Python, cache, h.o.Installation, max(0, zygotes))}
	if h.o.Sandboxed {
		g.python.Protect()
	}
	b := masked{h.backend, g.masker}
	g.callbacks = callback.New(callback.Options{
		Reader: b, Python: g.python, Environ: env, Installation: h.o.Installation, Masker: g.masker, SMTP: smtpConfig(cfg),
		IgnoreConfInParams: !cfg.Core.DagRunConfOverridesParams, OpenLog: h.o.OpenCallbackLog,
		BundleDir: func(ctx context.Context, run airflow.DagRun) (string, error) {
			if run.BundleHash == "" {
				return "", nil
			}
			return h.bundles.Materialize(ctx, run.BundleHash)
		},
	})
	grace := cfg.Core.KilledTaskCleanupTime
	if h.o.Sandboxed {
		grace = min(grace, maxGrace)
	}
	g.worker = taskrunner.New(taskrunner.Options{
		Backend: b, Operators: h.o.Operators, Masker: g.masker, LogLevel: taskrunner.Level(strings.ToLower(cfg.Logging.LoggingLevel)),
		Python: g.python, Identity: h.o.Identity, Installation: h.o.Installation, CacheDir: cache, Environ: env, OpenLog: h.openLog,
		Callbacks: h.backend.limited(g.callbacks), HeartbeatInterval: h.o.HeartbeatInterval, KilledTaskCleanupTime: grace,
		MaxTemplatedFieldLength: cfg.Core.MaxTemplatedFieldLength, MaxMapLength: cfg.Core.MaxMapLength,
		MaxFailedHeartbeats: cfg.Workers.MaxFailedHeartbeats, AllowedClasses: cfg.Core.AllowedDeserializationClasses,
		IgnoreConfInParams: !cfg.Core.DagRunConfOverridesParams, RetryFor: h.o.ReportRetry, DefaultImpersonation: cfg.Core.DefaultImpersonation,
		Shares: h.shares,
	})
	return g
}

// maxGrace is the time between SIGTERM and SIGKILL at most where a time limit
// must leave room for the report.
const maxGrace = 15 * time.Second

func (h *Host) openLog(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error) {
	sink, err := h.o.OpenLog(d, tc)
	if err == nil {
		h.backend.logging(d, sink)
	}
	return sink, err
}

// cleanUp makes the sandbox fit for the next dispatch. A zygote is kept if no
// code of a task can have touched it: it was the first process of its dispatch.
func (h *Host) cleanUp(g *generation, before int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ran := proc.Started() > before
	var keep []int
	for _, z := range g.python.Zygotes() {
		if z.PID == g.trusted || g.trusted == 0 && z.Nth == before+1 {
			keep = append(keep[:0], z.PID)
		}
	}
	g.trusted = 0
	if len(keep) == 1 {
		g.trusted = keep[0]
	}
	renew := ran && g.trusted == 0
	if renew {
		// What a zygote would start from has been in reach of the task.
		g.python.Close()
	}
	err := h.scrub(keep, false)
	if err == nil && renew {
		err = h.o.Scratch.Forget(python.Prefix)
	}
	if err != nil {
		h.worn = err
		h.log.Error("the sandbox cannot be used again", "err", err)
		return
	}
	if renew {
		h.gen = h.newGeneration(g.dag, g.masker, g.bundles)
	}
}

// scrub ends all processes but those kept and removes what tasks left.
func (h *Host) scrub(keep []int, all bool) error {
	if err := sandbox.EndAll(keep, h.o.CleanUpWithin); err != nil {
		return err
	}
	return h.o.Scratch.Clean(all)
}

func setEnv(env []string, name, value string) []string {
	out := make([]string, 0, len(env)+1)
	for _, kv := range env {
		if n, _, _ := strings.Cut(kv, "="); n != name {
			out = append(out, kv)
		}
	}
	return append(out, name+"="+value)
}

func smtpConfig(cfg *config.Config) callback.SMTPConfig {
	from := cfg.SMTP.MailFrom
	if cfg.Email.FromEmail != "" {
		from = cfg.Email.FromEmail
	}
	return callback.SMTPConfig{
		Host: cfg.SMTP.Host, Port: cfg.SMTP.Port, User: cfg.SMTP.User, Password: cfg.SMTP.Password, From: from,
		StartTLS: cfg.SMTP.StartTLS, SSL: cfg.SMTP.SSL, Timeout: cfg.SMTP.Timeout,
		ConnID: cfg.Email.EmailConnID, NoVerify: cfg.Email.SSLContext == "none", Tries: cfg.SMTP.RetryLimit,
	}
}
