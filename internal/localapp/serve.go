package localapp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/callback"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/operator"
	_ "github.com/gustflow/gust/internal/operator/sqldrivers" // the databases SQL tasks may use
	"github.com/gustflow/gust/internal/operator/sqlop"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/uiapi"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/remote"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// ServeOptions say what a server does besides scheduling.
type ServeOptions struct {
	// Addr is host:port of the HTTP endpoints; "" = none. Port 0 picks one.
	Addr string
	// NoProcessor leaves the DAG folder alone (gust scheduler with a separate
	// gust dag-processor).
	NoProcessor bool
	// Ready is told once when the server is up, with the address it listens on.
	Ready func(addr string, first dagprocessor.Summary)
	// Scanned is told of every scan of the DAG folder.
	Scanned func(dagprocessor.Summary)
	// Progress is told of long scans.
	Progress func(dagprocessor.Progress)
	// AdminPassword is GUST_ADMIN_PASSWORD: the password of the first admin; "" for a
	// generated one.
	AdminPassword string
	// SignIn is told with what the installation can first be signed in to, once.
	SignIn func(FirstSignIn)
	// Opened is given the app before the server starts; for benchmarks.
	Opened func(*App)
}

// Serve runs the server of a home until ctx ends: scheduler, executor, DAG
// processor and HTTP endpoints. Tasks that run when it stops are stopped, and
// retried by the next server where their retries allow.
func Serve(ctx context.Context, o Options, so ServeOptions) error {
	a, err := open(o, false)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.EnsurePools(ctx); err != nil {
		return fmt.Errorf("default pool: %w", err)
	}
	if err := a.startWorker(); err != nil {
		return err
	}
	if so.Opened != nil {
		so.Opened(a)
	}
	if err := a.recover(ctx); err != nil {
		return err
	}
	control, err := listenControl(a.Home)
	if err != nil {
		return err
	}
	defer control.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	run := func(f func()) {
		wg.Add(1)
		go func() { defer wg.Done(); f() }()
	}
	addr := ""
	if so.Addr != "" {
		l, err := net.Listen("tcp", so.Addr)
		if err != nil {
			return fmt.Errorf("HTTP address %s: %w; choose another with --host and --port", so.Addr, err)
		}
		addr = l.Addr().String()
		at := "http://" + strings.NewReplacer("[::]:", "localhost:", "0.0.0.0:", "localhost:").Replace(addr)
		a.served.Store(&at)
		handler, err := a.signedIn(ctx, so)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		run(func() {
			if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("HTTP server ended", "err", err)
			}
		})
		defer func() {
			c, stop := context.WithTimeout(context.Background(), 2*time.Second)
			defer stop()
			_ = srv.Shutdown(c)
		}()
	}
	run(func() { a.Engine.Run(ctx, engine.LoopOptions{}) })
	run(func() { a.steps.keepClean(ctx) })
	run(func() { a.retain(ctx) })
	run(func() { a.measure(ctx) })
	first := make(chan dagprocessor.Summary, 1)
	if so.NoProcessor || a.Options.Loader == nil {
		first <- dagprocessor.Summary{}
	} else {
		if err := a.startProcessor(so, first); err != nil {
			return err
		}
		run(func() {
			if err := a.Processor.Run(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("DAG processor ended", "err", err)
			}
		})
	}
	run(func() { a.serveControl(ctx, control) })
	select {
	case s := <-first:
		if so.Ready != nil {
			so.Ready(addr, s)
		}
	case <-ctx.Done():
	}
	<-ctx.Done()
	_ = control.Close()
	return nil
}

// startProcessor prepares the DAG processor; the first scan's outcome goes to first.
func (a *App) startProcessor(so ServeOptions, first chan<- dagprocessor.Summary) error {
	if err := os.MkdirAll(a.Options.DagsFolder, 0o755); err != nil {
		return fmt.Errorf("DAG folder %s: %w", a.Options.DagsFolder, err)
	}
	if err := os.MkdirAll(a.Home.path("cache"), 0o700); err != nil {
		return fmt.Errorf("cache folder: %w", err)
	}
	var once sync.Once
	p, err := dagprocessor.New(dagprocessor.Config{
		Folder: a.Options.DagsFolder, CacheFile: a.Home.path("cache", "dags.json"), Store: a.Store, Bundles: a.Bundles, Loader: a.Options.Loader,
		OnChange: func(ids []airflow.DagID) { a.Engine.DagChanged(ids...) },
		OnScan: func(s dagprocessor.Summary) {
			once.Do(func() { first <- s })
			if so.Scanned != nil {
				so.Scanned(s)
			}
		},
		Progress: so.Progress, PausedAtCreation: a.Options.PausedAtCreation, RefreshInterval: a.Options.RefreshInterval, Log: a.log,
		StaleThreshold: a.Options.StaleThreshold, Parallelism: a.Options.ParsingProcesses, LoadTimeout: a.Options.LoadTimeout, Scan: a.Options.Scan,
	})
	if err != nil {
		return err
	}
	a.Processor = p
	return nil
}

// startWorker makes the worker and the executors around it.
func (a *App) startWorker() error {
	zygotes := a.Options.PythonZygotes
	if zygotes == 0 {
		zygotes = 2
	}
	a.Python = pyproc.NewHost(a.Options.Python, a.Home.path("cache"), a.Home.Installation(), zygotes)
	a.shares = proc.NewShares(a.Home.Installation())
	o := taskrunner.Options{
		Backend: a.masked(a.Backend), Operators: Operators(), Masker: a.Options.Masker, LogLevel: a.Options.LogLevel, Python: a.Python,
		Identity: taskrunner.Self(), Installation: a.Home.Installation(), CacheDir: a.Home.path("cache"),
		HeartbeatInterval: a.Options.HeartbeatInterval, KilledTaskCleanupTime: a.Options.KilledTaskCleanupTime,
		MaxTemplatedFieldLength: a.Options.MaxTemplatedLength, MaxMapLength: a.Options.MaxMapLength,
		MaxFailedHeartbeats: a.Options.MaxFailedHeartbeats, AllowedClasses: a.Options.AllowedClasses,
		IgnoreConfInParams: a.Options.IgnoreConfInParams, DefaultImpersonation: a.Options.DefaultImpersonation, Shares: a.shares,
		OpenLog: func(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error) {
			w, err := a.Logs.Create(d.Key, tc.TryNumber)
			if err != nil {
				return nil, err
			}
			return taskrunner.NewJSONLog(w), nil
		},
	}
	a.Callbacks = callback.New(callback.Options{
		Reader: a.masked(a.Backend), Python: a.Python, Installation: a.Home.Installation(), SMTP: a.Options.SMTP, Masker: a.Options.Masker,
		OpenLog: a.openCallbackLog, IgnoreConfInParams: a.Options.IgnoreConfInParams, LogURL: a.logURL,
		BundleDir: func(ctx context.Context, run airflow.DagRun) (string, error) {
			if run.BundleHash == "" {
				return "", nil
			}
			return a.Bundles.Materialize(ctx, run.BundleHash)
		},
	})
	o.Callbacks = a.Callbacks
	a.Worker = taskrunner.New(o)
	run := func(ctx context.Context, d worker.Dispatch) {
		defer func() {
			if p := recover(); p != nil {
				a.log.Error("a worker panicked; this is a bug of gust", "dispatch", d.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
		}()
		if err := a.Worker.Run(ctx, d); err != nil && !errors.Is(err, airflow.ErrSuperseded) {
			a.log.Error("dispatch failed", "dispatch", d.String(), "err", err)
		}
	}
	slots := a.Options.Engine.Parallelism
	if slots == 0 {
		slots = 32
	}
	local, sequential := executor.NewLocal(slots, run), executor.NewSequential(run)
	executors := []executor.Executor{local, sequential}
	if a.Options.Executor == executor.SequentialExecutor {
		executors = []executor.Executor{sequential, local}
	}
	if a.Options.WorkerToken != "" {
		a.edge = remote.NewExecutor("")
		executors = append(executors, a.edge)
	}
	if remoteExecutor(a.Options.Executor) {
		if a.edge == nil {
			return fmt.Errorf("[core] executor is %s, whose workers run elsewhere, but no token lets them in: set [gust] worker_token (GUST_WORKER_TOKEN), here and on the workers", a.Options.Executor)
		}
		executors[0], executors[2] = executors[2], executors[0]
	}
	a.executors = executors
	a.router = executor.NewRouter(a.refuse, executors...)
	a.Engine.SetSubmitter(submitter{a})
	return nil
}

// Operators are those of this machine: all of Gust's, with SQL and its drivers.
func Operators() *operator.Registry {
	r := operator.Default()
	sqlop.Register(r)
	return r
}

// lateCallbacks gives the engine the runner that startWorker makes.
type lateCallbacks struct{ a *App }

func (l lateCallbacks) RunDagCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, success bool, reason, key string) error {
	return l.a.Callbacks.RunDagCallback(ctx, dag, run, success, reason, key)
}

func (l lateCallbacks) RunTaskCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, key string) error {
	return l.a.Callbacks.RunTaskCallback(ctx, dag, run, ti, retry, cause, key)
}

func (l lateCallbacks) RunDeadline(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, key string) error {
	return l.a.Callbacks.RunDeadline(ctx, dag, run, alert, at, key)
}

// openCallbackLog opens the log of a callback that the control plane runs: a
// task's goes to the log of its try, a DAG's to a file of its run.
func (a *App) openCallbackLog(tc *worker.TaskContext, mapIndex int, name string) (taskrunner.LogSink, error) {
	if tc.Task != nil {
		w, err := a.Logs.Create(airflow.TaskInstanceKey{DagID: tc.Run.DagID, RunID: tc.Run.RunID, TaskID: tc.Task.TaskID, MapIndex: mapIndex}, max(1, tc.TryNumber))
		if err != nil {
			return nil, err
		}
		return taskrunner.NewJSONLog(w), nil
	}
	w, err := a.Logs.CreateForRun(tc.Run.DagID, tc.Run.RunID, name)
	if err != nil {
		return nil, fmt.Errorf("callback log: %w", err)
	}
	return taskrunner.NewJSONLog(w), nil
}

// submitter lets the worker stop a dispatch before its context does, so that the
// log names the cause.
type submitter struct{ a *App }

func (s submitter) Submit(ctx context.Context, ds []worker.Dispatch) error {
	return s.a.router.Submit(ctx, ds)
}

func (s submitter) Cancel(d worker.Dispatch, cause string) {
	if !s.a.Worker.Cancel(d, cause) {
		s.a.router.Cancel(d, cause)
	}
}

// Observe implements engine.Observer.
func (s submitter) Observe(d worker.Dispatch) bool { return s.a.router.Observe(d) }

// refuse fails a dispatch whose executor does not exist here: claimed and
// reported like any other, so that its log says what to do.
func (a *App) refuse(ctx context.Context, d worker.Dispatch, why string) {
	tc, err := a.Backend.Claim(ctx, d, taskrunner.Self())
	if err != nil {
		return
	}
	a.appendLog(d.Key, tc.TryNumber, "error", why)
	r := worker.Report{Outcome: worker.OutcomeFailedFinal, EndDate: time.Now().UTC(), Error: why}
	if err := a.Backend.Finish(ctx, d, &r); err != nil {
		a.log.Error("refused dispatch not reported", "dispatch", d.String(), "err", err)
	}
}

// appendLog adds a line to a task's log on behalf of the control plane.
func (a *App) appendLog(k airflow.TaskInstanceKey, try int, level, event string) {
	if err := a.Logs.Append(k, try, level, "gust", event); err != nil {
		a.log.Error("task log not written", "task", k.String(), "err", err)
	}
}

// recover ends what a server that died left behind and takes its runs over.
func (a *App) recover(ctx context.Context) error {
	orphans, err := proc.EndOrphans(a.Home.Installation(), 2*time.Second)
	if err != nil {
		a.log.Error("task processes of a server that died could not all be ended", "err", err)
	}
	for _, o := range orphans {
		a.log.Info("ended the task process of a server that died", "pid", o.PID)
	}
	self := taskrunner.Self()
	a.Engine.OnLost(func(d worker.Dispatch, at store.Attempt, cause string) {
		a.appendLog(d.Key, at.TryNumber, "error", "Task ended without a report: "+cause)
	})
	return a.Engine.Recover(ctx, engine.RecoverOptions{Lost: func(at store.Attempt) bool { return at.Hostname == self.Hostname }})
}

// handler serves the REST API, the web UI, and remote workers where there are any.
func (a *App) handler() (http.Handler, error) {
	var api http.Handler = a.api()
	if a.Auth != nil {
		api = uiapi.Site{
			Options: uiapi.Options{Store: a.Store, Engine: a.Engine, Now: time.Now, Warn: a.log.Warn},
			API:     api, Auth: a.Auth.Middleware, BaseURL: a.Options.BaseURL,
		}.Handler()
	}
	if a.edge == nil {
		return api, nil
	}
	workers, err := a.workerServer()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(remote.Prefix+"/", workers)
	mux.Handle("/", api)
	return mux, nil
}

// followTime is how long an answer that follows a log or a run may last.
const followTime = time.Hour

// api is the REST API of this home.
func (a *App) api() *restapi.API {
	o := restapi.Options{
		Store: a.Store, Engine: a.Engine, Logs: a.Logs, Bundles: a.Bundles, CheckParams: taskrunner.CheckParams, Follow: followTime, Log: a.log,
		Health: func(context.Context) apishell.Parts {
			well := apishell.Part{Status: apishell.Healthy, Heartbeat: time.Now()} // they live in this process
			ps := apishell.Parts{Scheduler: well, Triggerer: well}
			if a.Processor != nil {
				ps.DagProcessor = well
			}
			return ps
		},
	}
	if a.Auth != nil {
		o.Auth = a.Auth.Middleware
	}
	self := taskrunner.Self()
	o.Process = &restapi.Process{Hostname: self.Hostname, Unixname: self.Unixname, Started: time.Now()}
	o.Settings, o.MaximumPageLimit, o.FallbackPageLimit = a.Options.Settings, a.Options.MaximumPageLimit, a.Options.PageSize
	// The processor is made after this handler.
	o.Reparse = func(path string) {
		if a.Processor != nil {
			a.Processor.Reparse(path)
		}
	}
	o.DagDeleted = func(ctx context.Context, id airflow.DagID) error {
		if a.Processor == nil {
			return nil
		}
		return a.Processor.Deleted(ctx, id)
	}
	return restapi.New(o)
}
