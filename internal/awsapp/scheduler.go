package awsapp

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/executor/lambdaexec"
	"github.com/gustflow/gust/internal/worker"
)

// leaseTimeout is how long a worker may be silent: three heartbeats. With the
// minute's sweep a lost worker is noticed within four minutes.
const leaseTimeout = 180 * time.Second

// EngineConfig are the settings that decisions depend on. What Airflow bounds
// because one machine runs everything is unlimited here unless it is configured:
// a finite default_pool or parallelism is one item that every task instance of
// the installation writes.
func EngineConfig(c *config.Config) engine.Config {
	first, schedule := c.Scheduler.IgnoreFirstDependsOnPastByDefault, c.Scheduler.UseJobSchedule
	e := engine.Config{
		Parallelism: c.Core.Parallelism, MaxMapLength: c.Core.MaxMapLength, QueuedTimeout: c.Scheduler.TaskQueuedTimeout,
		HeartbeatTimeout: c.Scheduler.TaskInstanceHeartbeatTimeout, IgnoreFirstDependsOnPast: &first,
		DefaultPoolSlots: c.Core.DefaultPoolTaskSlotCount, UseJobSchedule: &schedule, MaxRequeues: c.Scheduler.NumStuckInQueuedRetries, MaxRetryDelay: c.Core.MaxTaskRetryDelay,
	}
	for _, o := range c.Options() {
		if o.Source != "default" {
			continue
		}
		switch o.Section + "." + o.Key {
		case "core.parallelism":
			e.Parallelism = -1
		case "core.default_pool_task_slot_count":
			e.DefaultPoolSlots = -1
		case "scheduler.task_instance_heartbeat_timeout":
			e.HeartbeatTimeout = leaseTimeout
		}
	}
	return e
}

// refuser fails dispatches that no executor here can run. It claims and reports
// them like a worker, so that the task's record says what to do.
type refuser struct {
	app     *App
	backend *engine.Backend
}

func (r *refuser) refuse(ctx context.Context, d worker.Dispatch, why string) {
	host, err := os.Hostname()
	if err != nil {
		host = "scheduler"
	}
	if _, err := r.backend.Claim(ctx, d, worker.Identity{Hostname: host, PID: os.Getpid()}); err != nil {
		return
	}
	rep := worker.Report{Outcome: worker.OutcomeFailedFinal, EndDate: time.Now().UTC(), Error: why}
	if err := r.backend.Finish(ctx, d, &rep); err != nil {
		r.app.Log.ErrorContext(ctx, "refused dispatch not reported", "dispatch", d.String(), "err", err)
	}
}

// Refuser returns what fails dispatches that no executor can run, and the passive
// engine that does so.
func (a *App) Refuser(cfg engine.Config) (*engine.Engine, executor.Refuse, error) {
	s, err := a.Store()
	if err != nil {
		return nil, nil, err
	}
	out, err := a.Outbox()
	if err != nil {
		return nil, nil, err
	}
	e := engine.New(engine.Options{Store: s, Outbox: out, Passive: true, Log: a.Log, Config: cfg})
	r := &refuser{app: a, backend: engine.NewBackend(e, nil, nil, nil)}
	return e, r.refuse, nil
}

// MaxLambdaTimeout is the longest execution_timeout that a task on Lambda may have:
// its worker ends it before the function's own deadline.
const MaxLambdaTimeout = 14 * time.Minute

// routeLong sends tasks that may run longer than a function can to ECS, unless they
// name another executor than Lambda's.
func routeLong(t *airflow.Task, d *worker.Dispatch) {
	if t.ExecutionTimeout > MaxLambdaTimeout && OnLambda(d.Executor) {
		d.Executor = executor.AwsEcsExecutor
	}
}

// OnLambda reports whether a task's executor argument means the lambda executor.
func OnLambda(name string) bool {
	return name == "" || name == lambdaexec.Name || slices.Contains((*lambdaexec.Executor)(nil).Aliases(), name)
}

// Scheduler wires the engine that decides. more are executors beside the lambda
// one. It makes no network call.
func (a *App) Scheduler(cfg engine.Config, more ...executor.Executor) (*engine.Engine, error) {
	s, err := a.Store()
	if err != nil {
		return nil, err
	}
	out, err := a.Outbox()
	if err != nil {
		return nil, err
	}
	callbacks, err := a.CallbackQueue()
	if err != nil {
		return nil, err
	}
	_, refuse, err := a.Refuser(cfg)
	if err != nil {
		return nil, err
	}
	executors := append([]executor.Executor{a.LambdaExecutor(refuse)}, more...)
	var route func(*airflow.Task, *worker.Dispatch)
	for _, x := range more {
		if x.Name() == executor.AwsEcsExecutor {
			route = routeLong
		}
	}
	return engine.New(engine.Options{
		Handlers: a.Config.SchedulerHandlers, Store: s, Submitter: submitter{executor.NewRouter(refuse, executors...)}, Outbox: out, CallbackQueue: callbacks, Config: cfg, Log: a.Log, Route: route, Listener: a.Listener,
	}), nil
}

// submitter hides the router's Observe: no executor here knows what waits.
type submitter struct{ router *executor.Router }

// Submit implements engine.Submitter.
func (s submitter) Submit(ctx context.Context, ds []worker.Dispatch) error {
	return s.router.Submit(ctx, ds)
}

// Cancel implements engine.Submitter.
func (s submitter) Cancel(d worker.Dispatch, cause string) { s.router.Cancel(d, cause) }
