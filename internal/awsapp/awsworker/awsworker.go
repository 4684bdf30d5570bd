// Package awsworker wires the worker on AWS: package workerhost with the engine's
// backend on the shared store, snapshots from the data bucket, and logs on
// standard output, from where CloudWatch Logs takes them.
package awsworker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awskeys"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor/lambdaexec"
	"github.com/gustflow/gust/internal/operator"
	"github.com/gustflow/gust/internal/operator/sqlop"
	"github.com/gustflow/gust/internal/tasklog/taglog"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/sandbox"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/workerhost"
)

// Options say where a worker runs.
type Options struct {
	Identity worker.Identity
	Config   *config.Config
	// Environ is the environment that the worker was started with: connections and
	// variables in it are seen before those of the store.
	Environ []string
	// TaskEnviron is that of tasks; nil = sandbox.Environ(Environ).
	TaskEnviron []string
	Python      string
	// Scratch and Sandboxed are as in workerhost.Options.
	Scratch   *sandbox.Scratch
	Sandboxed bool
	CacheDir  string
	// Installation marks child processes. Default: one for this process.
	Installation string
	// Operators are those of operator.Default and package sqlop if nil.
	Operators taskrunner.Resolver
	// Logs receives the tagged lines of tasks. Default os.Stdout.
	Logs io.Writer
	// OpenLog replaces Logs for dispatches.
	OpenLog func(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error)
	Log     *slog.Logger
}

// Worker runs the messages of task queues.
type Worker struct {
	Host   *workerhost.Host
	Engine *engine.Engine
}

// Open wires a worker. It makes no network call.
func Open(a *awsapp.App, o Options) (*Worker, error) {
	s, err := a.Store()
	if err != nil {
		return nil, err
	}
	out, err := a.Outbox()
	if err != nil {
		return nil, err
	}
	if o.Logs == nil {
		o.Logs = &lockedWriter{w: os.Stdout}
	}
	if o.TaskEnviron == nil {
		o.TaskEnviron = sandbox.Environ(o.Environ)
	}
	if o.Installation == "" {
		o.Installation = "gust-" + strconv.Itoa(os.Getpid())
	}
	awskeys.Enable(a)
	secrets, err := a.Secrets(o.Environ)
	if err != nil {
		return nil, err
	}
	if o.Operators == nil {
		registry := operator.Default()
		sqlop.Register(registry)
		o.Operators = registry
	}
	w := &Worker{}
	tagged := func(k airflow.TaskInstanceKey, try int) taskrunner.LogSink {
		return taglog.New(o.Logs, taglog.TagOf(k, try), taglog.Options{MaxBytes: int64(o.Config.Gust.MaxTaskLogBytes)})
	}
	if o.OpenLog == nil {
		o.OpenLog = func(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error) {
			return tagged(d.Key, tc.TryNumber), nil
		}
	}
	w.Host, err = workerhost.New(workerhost.Options{
		Backend: func(p workerhost.Parts) (worker.Backend, error) {
			w.Engine = engine.New(engine.Options{Store: s, Outbox: out, Passive: true, Callbacks: p.Callbacks, Log: o.Log, Config: awsapp.EngineConfig(o.Config)})
			return engine.NewBackend(w.Engine, p.Bundles, secrets, func(k airflow.TaskInstanceKey, try int) string {
				return worker.LogURL(o.Config.API.BaseURL, k, try)
			}).AskScheduler(), nil
		},
		OpenBundles: func(dir string) (workerhost.Bundles, error) { return a.Bundles(dir) },
		Operators:   o.Operators, OpenLog: o.OpenLog,
		OpenCallbackLog: func(tc *worker.TaskContext, mapIndex int, name string) (taskrunner.LogSink, error) {
			k := airflow.TaskInstanceKey{DagID: tc.Run.DagID, RunID: tc.Run.RunID, MapIndex: mapIndex}
			if tc.Task != nil {
				k.TaskID = tc.Task.TaskID
			}
			return tagged(k, max(1, tc.TryNumber)), nil
		},
		Config: o.Config, Identity: o.Identity, Installation: o.Installation, Python: o.Python, Environ: o.TaskEnviron,
		Scratch: o.Scratch, Sandboxed: o.Sandboxed, CacheDir: o.CacheDir, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Outcome is what becomes of a message.
type Outcome uint8

// The outcomes of messages.
const (
	// Delete: it was dealt with, or can never be.
	Delete Outcome = iota
	// Redeliver: it is to come again.
	Redeliver
)

// Message runs one message of a task queue: a dispatch, or a callback. What it
// came to is logged.
func (w *Worker) Message(ctx context.Context, body string, limit workerhost.Limit, log *slog.Logger) Outcome {
	if id, ok := callbackID(body); ok {
		err := w.Host.RunCallback(ctx, id, limit, func(ctx context.Context) error { return w.Engine.RunPendingCallback(ctx, id) })
		var back *workerhost.HandBack
		switch {
		case errors.As(err, &back):
			log.Warn("callback handed back", "callback", id, "err", err)
			return Redeliver
		case err != nil:
			log.Error("callback failed", "callback", id, "err", err)
		}
		return Delete
	}
	d, err := lambdaexec.ParseMessage(body)
	if err != nil {
		log.Error("a message that names no task is dropped", "err", err)
		return Delete
	}
	err = w.Host.Run(ctx, d, limit)
	var back *workerhost.HandBack
	switch {
	case err == nil:
	case errors.As(err, &back):
		log.Warn("dispatch handed back", "dispatch", d.String(), "err", err)
		return Redeliver
	case errors.Is(err, airflow.ErrSuperseded), errors.Is(err, airflow.ErrNotFound):
		log.Debug("dispatch dropped", "dispatch", d.String(), "err", err)
	default:
		// It was started: the lease ends it if the report did not arrive.
		log.Error("dispatch not reported", "dispatch", d.String(), "err", err)
	}
	return Delete
}

// LambdaIdentity is that of this process in a Lambda function.
func LambdaIdentity(getenv func(string) string) worker.Identity {
	group, stream := getenv("AWS_LAMBDA_LOG_GROUP_NAME"), getenv("AWS_LAMBDA_LOG_STREAM_NAME")
	if group == "" || stream == "" {
		return workerhost.NewIdentity("")
	}
	return workerhost.NewIdentity(taglog.Host(taglog.KindLambda, group, stream))
}

// FindPython is the interpreter of the Lambda runtime, or what the settings say.
func FindPython(c *config.Config) string {
	if c.Gust.Python != "" && c.Gust.Python != "python3" {
		return c.Gust.Python
	}
	for _, dir := range []string{"/var/lang/bin"} {
		if all, err := filepath.Glob(filepath.Join(dir, "python3.[0-9]*")); err == nil {
			for _, p := range all {
				if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && filepath.Ext(p) != ".py" && !isConfig(p) {
					return p
				}
			}
		}
	}
	return "python3"
}

// isConfig tells python3.13-config from python3.13.
func isConfig(path string) bool {
	_, err := strconv.Atoi(filepath.Ext(path)[1:])
	return err != nil
}

// lockedWriter keeps lines of several tasks apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// LambdaLimit is the limit of an invocation with this deadline that began at a time.
func LambdaLimit(deadline, began time.Time) workerhost.Limit {
	total := deadline.Sub(began).Round(time.Second)
	allowed := max(total-time.Minute, time.Second)
	return workerhost.Limit{
		Deadline: deadline, Spare: 30 * time.Second, Allowed: allowed, Cause: "lambda_deadline",
		Advice: fmt.Sprintf("a Lambda function ends after %v; give the task an execution_timeout of %v at most, split it, or run it on ECS (executor: EcsExecutor) where the deployment has that", total, allowed),
	}
}
