// Package workerfn is the worker function: it takes events of a task queue, or
// dispatches of asynchronous invocations, and runs them in the sandbox that the
// function is.
package workerfn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsworker"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/awslabel"
	"github.com/gustflow/gust/internal/worker/sandbox"
)

// runtimeVariables are what the runtime client reads when it starts and between
// invocations. Tasks do not see them: sandbox.Environ takes them away.
var runtimeVariables = []string{"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_MAX_CONCURRENCY"}

// Run is the main of the worker function: it never returns. It is started
// by the Python runtime as AWS_LAMBDA_EXEC_WRAPPER and takes its place.
func Run() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	w, err := newWorkerFunction(os.Environ(), log)
	if err != nil {
		log.Error("the worker cannot start", "err", err)
		os.Exit(1)
	}
	lambda.Start(w.handle)
}

// workerFunction handles the events of a worker function.
type workerFunction struct {
	app    *awsapp.App
	worker *awsworker.Worker
	usage  *awsmeter.Reporter // nil: nothing is counted
	log    *slog.Logger
	exit   func(code int)
}

func newWorkerFunction(environ []string, log *slog.Logger) (*workerFunction, error) {
	// Before anything of a task can run.
	if err := sandbox.Harden(); err != nil {
		log.Warn("the worker is less protected from its tasks than it should be", "err", err)
	}
	c, err := awsapp.FromEnv(awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.DataBucket)
	settings, serr := awsapp.Settings(environ, os.Getenv("LAMBDA_TASK_ROOT"))
	if err := errors.Join(err, serr); err != nil {
		return nil, err
	}
	usage := awsmeter.NewReporter(awsenv.Worker, os.Stdout, os.Getenv, awslabel.Of)
	app, err := awsapp.Open(context.Background(), c, awsapp.Options{Log: log, Meter: usage.Meter})
	if err != nil {
		return nil, err
	}
	scratch, err := lambdaScratch()
	if err != nil {
		return nil, err
	}
	w, err := awsworker.Open(app, awsworker.Options{
		Identity: awsworker.LambdaIdentity(os.Getenv), Config: settings, Environ: environ, TaskEnviron: taskEnviron(environ),
		Python: awsworker.FindPython(settings), Scratch: scratch, Sandboxed: true, Log: log,
	})
	if err != nil {
		return nil, err
	}
	// The clients have what they need. From here on nothing started by this
	// process can inherit a right.
	sandbox.ScrubEnv(runtimeVariables...)
	return &workerFunction{app: app, worker: w, usage: usage, log: log, exit: os.Exit}, nil
}

// lambdaScratch is where tasks may write: TMPDIR where the platform gave one, and
// else /tmp, which in a function is the sandbox's own. A runtime that is started
// again after a crash finds what was there before, and removes it.
func lambdaScratch() (*sandbox.Scratch, error) {
	whole := os.Getenv("TMPDIR")
	if whole == "" && os.Getenv("LAMBDA_TASK_ROOT") == "/var/task" {
		whole = "/tmp"
	}
	root := filepath.Join(os.TempDir(), "gust")
	if whole != "" {
		root = filepath.Join(whole, "gust")
	}
	s, err := sandbox.NewScratch(root, whole)
	if err != nil {
		return nil, err
	}
	return s, s.Clean(true)
}

// taskEnviron is the environment of tasks: the function's, without its rights,
// with the paths on which the Python runtime would look for packages.
func taskEnviron(environ []string) []string {
	out := sandbox.Environ(environ)
	path := ""
	add := func(p string) {
		if p == "" {
			return
		}
		if path != "" {
			path += string(filepath.ListSeparator)
		}
		path += p
	}
	add(os.Getenv("PYTHONPATH"))
	exists := func(p string) string {
		if fi, err := os.Stat(p); err == nil && fi.IsDir() {
			return p
		}
		return ""
	}
	add(exists("/opt/python"))
	if all, err := filepath.Glob("/opt/python/lib/python3.*/site-packages"); err == nil {
		for _, p := range all {
			add(p)
		}
	}
	add(exists("/var/runtime")) // boto3 of the managed runtime
	if path != "" {
		kept := out[:0]
		for _, kv := range out {
			if len(kv) < 11 || kv[:11] != "PYTHONPATH=" {
				kept = append(kept, kv)
			}
		}
		out = append(kept, "PYTHONPATH="+path)
	}
	return out
}

// redeliverAfter is when a dispatch that was handed back comes again; some
// randomness keeps many of them apart.
func redeliverAfter() time.Duration { return 5*time.Second + rand.N(10*time.Second) }

// handle takes an event of the task queue, or a dispatch of an asynchronous
// invocation.
func (f *workerFunction) handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	began := time.Now()
	limit := awsworker.LambdaLimit(began.Add(15*time.Minute), began)
	if at, ok := ctx.Deadline(); ok {
		limit = awsworker.LambdaLimit(at, began)
	}
	// The limit is the worker's business: it needs the time between the end of a
	// task and that of the function.
	ctx = context.WithoutCancel(ctx)
	var ev events.SQSEvent
	if err := json.Unmarshal(raw, &ev); err != nil {
		return events.SQSEventResponse{}, fmt.Errorf("event: %w", err)
	}
	var res events.SQSEventResponse
	if len(ev.Records) == 0 {
		defer f.usage.Begin(0, awslabel.Message(string(raw)))()
		if f.worker.Message(ctx, string(raw), limit, f.log) == awsworker.Redeliver {
			return res, errors.New("the dispatch could not be started: the control plane does not answer")
		}
		f.leaveIfWorn()
		return res, nil
	}
	size, labels := 0, make([]awsmeter.Label, 0, len(ev.Records))
	for _, r := range ev.Records {
		size += len(r.Body)
		labels = append(labels, awslabel.Message(r.Body))
	}
	defer f.usage.Begin(size, labels...)()
	for _, r := range ev.Records {
		if f.worker.Message(ctx, r.Body, limit, f.log) == awsworker.Redeliver {
			f.comeAgainSoon(ctx, r)
			res.BatchItemFailures = append(res.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
		}
	}
	f.leaveIfWorn()
	return res, nil
}

// comeAgainSoon shortens the visibility timeout of a message, which is longer
// than the function may run. Best effort: it comes again in any case.
func (f *workerFunction) comeAgainSoon(ctx context.Context, r events.SQSMessage) {
	url := f.app.Config.TaskQueues[f.app.Config.WorkerQueue]
	if url == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := f.app.Queues().ChangeVisibility(ctx, url, r.ReceiptHandle, redeliverAfter()); err != nil {
		f.log.Warn("a message comes again later than it could", "err", err)
	}
}

// leaveIfWorn ends the process when its sandbox could not be cleaned: the
// platform starts another one. What ran has been reported; its message comes
// again and is dropped.
func (f *workerFunction) leaveIfWorn() {
	if err := f.worker.Host.Worn(); err != nil {
		f.log.Error("this sandbox is given up: a task left something that cannot be removed", "err", err)
		f.exit(1)
	}
}
