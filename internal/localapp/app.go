// Package localapp wires Gust for one machine: the embedded store, the engine,
// the local executor, the DAG processor and the control socket, around one home
// folder. It is the only place that knows all of them; every command of the CLI
// starts here.
package localapp

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/callback"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/observe"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/retention"
	"github.com/gustflow/gust/internal/secrets"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/remote"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Options configure an App. Home is required; other zero values are Airflow's defaults.
type Options struct {
	Home       string
	DagsFolder string // "" = <home>/dags
	// Executor is LocalExecutor (default), SequentialExecutor or EdgeExecutor.
	Executor string
	// WorkerToken lets workers on other machines pull tasks; "" = none may.
	WorkerToken string
	Engine      engine.Config
	// LogFolder is [logging] base_log_folder. Default: <home>/logs.
	LogFolder string
	LogLevel  taskrunner.Level
	// MaxTaskLogBytes bounds the log of one try. Default 64 MiB, negative for no bound.
	MaxTaskLogBytes int64
	// Retention says how long runs, logs and XComs are kept; the zero value keeps
	// all. It is applied every RetentionInterval (default 1 h) by the server.
	Retention         retention.Policy
	RetentionInterval time.Duration
	// PausedAtCreation is [core] dags_are_paused_at_creation. Default true (nil).
	PausedAtCreation      *bool
	RefreshInterval       time.Duration // [dag_processor] refresh_interval
	StaleThreshold        time.Duration // [dag_processor] stale_dag_threshold; negative = at once
	ParsingProcesses      int           // [dag_processor] parsing_processes; 0 = one per processor
	LoadTimeout           time.Duration // [core] dagbag_import_timeout
	Scan                  dagprocessor.ScanOptions
	KilledTaskCleanupTime time.Duration // [core] killed_task_cleanup_time
	HeartbeatInterval     time.Duration // [scheduler] task heartbeat, default 60 s
	MaxTemplatedLength    int           // [core] max_templated_field_length
	MaxMapLength          int           // [core] max_map_length
	Loader                dagprocessor.Loader
	// Masker hides secrets in logs and rendered fields; nil hides nothing.
	Masker taskrunner.Masker
	// Secrets are looked at before the store (environment, secrets backend); may be nil.
	Secrets engine.Secrets
	// Python is the interpreter of Python tasks. Default python3 of PATH.
	Python string
	// PythonZygotes is how many pre-imported Python processes are kept. Default 2,
	// negative for none.
	PythonZygotes int
	// MaxFailedHeartbeats is after how many failed heartbeats a task ends itself. Default 3.
	MaxFailedHeartbeats int
	// AllowedClasses are [core] allowed_deserialization_classes.
	AllowedClasses []string
	// IgnoreConfInParams is [core] dag_run_conf_overrides_params set to False.
	IgnoreConfInParams bool
	// NoRecords keeps no steps for gust replay ([gust] record_decisions = False).
	NoRecords bool
	// Records receives every step beside the file for gust replay; may be nil.
	Records func(engine.Record)
	// SMTP is how e-mail is sent by callbacks that name no connection.
	SMTP callback.SMTPConfig
	// DefaultImpersonation is [core] default_impersonation.
	DefaultImpersonation string
	// Auth says how people sign in; its Store is the home's.
	Auth auth.Options
	// BaseURL is [api] base_url, for ti.log_url. Default: the address served.
	BaseURL string
	// Settings is what the API shows of the configuration; nil: nothing.
	Settings func() []restapi.Setting
	// MaximumPageLimit and PageSize are [api] maximum_page_limit and page_size.
	// Defaults 100 and 50.
	MaximumPageLimit, PageSize int
	// Observe says what the server exports about its work; the zero value is nothing.
	Observe observe.Options
	Log     *slog.Logger
	// WrapDriver puts something around the store's driver (a meter, faults); may be nil.
	WrapDriver func(kv.Driver) kv.Driver
}

// App is an opened home.
type App struct {
	Home      Home
	Options   Options
	Store     *store.Store
	Engine    *engine.Engine
	Backend   *engine.Backend
	Bundles   *bundle.Store
	Processor *dagprocessor.Processor // while serving
	Worker    *taskrunner.Worker
	Python    *pyproc.Host
	Callbacks *callback.Runner
	Keys      *secrets.Keys
	Logs      *tasklog.Logs
	Auth      *auth.Service // while serving HTTP

	log    *slog.Logger
	driver *sqlitekv.Store
	router *executor.Router
	// executors are those of the router, the default one first.
	executors []executor.Executor
	edge      *remote.Executor // nil without WorkerToken
	blobs     blob.Store
	shares    *proc.Shares
	lock      *Lock
	steps     *recorder
	export    *observe.Observer      // nil for tools
	served    atomic.Pointer[string] // the URL that Serve listens on
}

// Open opens a home for tools: its engine is passive, so that commands work
// beside a running server and without one. Serve is for the server.
func Open(_ context.Context, o Options) (*App, error) { return open(o, true) }

func open(o Options, passive bool) (*App, error) {
	home, err := OpenHome(o.Home)
	if err != nil {
		return nil, err
	}
	a := &App{Home: home, Options: o, log: o.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.Options.DagsFolder == "" {
		a.Options.DagsFolder = home.path("dags")
	}
	if a.Options.LogFolder == "" {
		a.Options.LogFolder = home.Logs()
	}
	a.Logs = tasklog.New(a.Options.LogFolder, tasklog.Options{MaxBytes: a.Options.MaxTaskLogBytes})
	if !passive {
		if a.lock, err = home.Lock(); err != nil {
			return nil, err
		}
	}
	if err := a.wire(passive); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) wire(passive bool) error {
	var err error
	if a.Keys, err = a.Home.keys(); err != nil {
		return err
	}
	if a.driver, err = sqlitekv.Open(a.Home.Database(), sqlitekv.Options{}); err != nil {
		return err
	}
	var d kv.Driver = a.driver
	if a.Options.WrapDriver != nil {
		d = a.Options.WrapDriver(d)
	}
	a.Store = store.New(d, a.Keys)
	blobs, err := fileblob.Open(a.Home.path("blobs"), fileblob.Options{})
	a.blobs = blobs
	if err != nil {
		return err
	}
	if a.Bundles, err = bundle.New(blobs, a.Home.path("bundles"), bundle.Options{}); err != nil {
		return err
	}
	a.steps = newRecorder(a.Home.path("records"), a.log)
	records := a.record
	if a.Options.NoRecords && a.Options.Records == nil {
		records = nil // the engine need not even make them
	}
	if !passive {
		o := a.Options.Observe
		o.Log = a.log
		a.export = observe.New(o)
	}
	a.Engine = engine.New(engine.Options{
		Store: a.Store, Config: a.Options.Engine, Log: a.log, Records: records, Passive: passive, Callbacks: lateCallbacks{a}, Listener: a.export.Listener(),
	})
	a.Backend = engine.NewBackend(a.Engine, a.Bundles, a.Options.Secrets, a.logURL)
	return nil
}

// logURL is ti.log_url.
func (a *App) logURL(k airflow.TaskInstanceKey, try int) string {
	base := a.Options.BaseURL
	if at := a.served.Load(); base == "" && at != nil {
		base = *at
	}
	return worker.LogURL(base, k, try)
}

// Close releases the home. Runs go on when a server is started again.
func (a *App) Close() {
	if a.router != nil {
		a.router.Close()
	}
	if a.Engine != nil {
		a.Engine.Close()
	}
	if a.shares != nil {
		a.shares.Close()
	}
	a.steps.close()
	a.export.Close()
	if a.Python != nil {
		a.Python.Close()
	}
	if a.driver != nil {
		if err := a.driver.Close(); err != nil {
			a.log.Error("store not closed cleanly", "err", err)
		}
	}
	a.lock.Release()
}

// EnsurePools creates the default pool on first start.
func (a *App) EnsurePools(ctx context.Context) error {
	_, err := a.Store.GetPool(ctx, airflow.DefaultPool)
	if err == nil || !errors.Is(err, airflow.ErrNotFound) {
		return err
	}
	slots := a.Options.Engine.DefaultPoolSlots
	if slots == 0 {
		slots = 128
	}
	return a.Store.PutPool(ctx, airflow.Pool{Name: airflow.DefaultPool, Slots: slots, Description: "Default pool"})
}

// TaskLogPath is where the log of a try lies, in Airflow's layout.
func (a *App) TaskLogPath(k airflow.TaskInstanceKey, try int) string { return a.Logs.Path(k, try) }

// record keeps a step for gust replay.
func (a *App) record(rec engine.Record) {
	if !a.Options.NoRecords {
		a.steps.put(rec)
	}
	if a.Options.Records != nil {
		a.Options.Records(rec)
	}
}
