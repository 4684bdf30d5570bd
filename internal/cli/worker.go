package cli

import (
	"context"
	"errors"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/awsenv"
)

// WorkerOptions are those of a worker that takes tasks from queues.
type WorkerOptions struct {
	Home        string
	Queues      []string
	Concurrency int
	// StopAfter is how long running tasks may go on after Stop was closed; 0 = as
	// long as they take.
	StopAfter time.Duration
	Environ   []string
	Stop      <-chan struct{}
	Log       *slog.Logger
}

// worker takes tasks from the queues of a deployment on AWS. Without one it stands
// for Airflow's Celery worker, which is part of the server here.
func (c *command) worker() *cobra.Command {
	var (
		queues, queue string
		apiURL        string
		concurrency   int
		stopAfter     time.Duration
	)
	cmd := c.companion("worker", "Run tasks of queues: of a server on another machine, or of a deployment on AWS",
		"neither --api-url nor a deployment on AWS ("+awsenv.Table+") is given, so tasks run in the process of `gust standalone` or `gust scheduler` (LocalExecutor): ")
	idle := cmd.RunE
	cmd.Long = `With --api-url it pulls tasks from a server on another machine (gust standalone
or gust scheduler with EdgeExecutor), with the token GUST_WORKER_TOKEN. Use https
where the network is not yours.

Else it takes tasks from the queues of a deployment on AWS, on any machine with
AWS credentials. The variables of the deployment's functions say where it is
(` + awsenv.Table + `, ` + awsenv.TaskQueues + `, …); with ` + awsenv.ECSDispatch + ` set it runs that one dispatch and ends.

The first SIGTERM or Ctrl-C lets running tasks end, for --stop-after at most; the
second ends them at once. They are then reported as failed, and retried.

Without either it has nothing to do, as the server runs the tasks itself,
and waits to be stopped, so that service files written for Airflow keep working.`
	cmd.Example = "  gust worker --queue python --concurrency 4\n  gust worker -q default,python --stop-after 100s\n  GUST_WORKER_TOKEN=… gust worker --api-url http://scheduler:8080"
	f := cmd.Flags()
	f.StringVarP(&queues, "queues", "q", "", "queues to serve, separated by commas (default "+awsenv.WorkerQueue+", then "+awsenv.DefaultQueue+")")
	f.StringVar(&queue, "queue", "", "same as --queues")
	f.StringVar(&apiURL, "api-url", "", "server to pull tasks from, such as http://host:8080")
	f.IntVarP(&concurrency, "concurrency", "c", 0, "how many tasks run at once (default 16)")
	f.DurationVar(&stopAfter, "stop-after", 0, "how long running tasks may go on after a signal to stop; 0 = as long as they take")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if apiURL == "" && c.env.Getenv(awsenv.Table) == "" {
			return idle(cmd, args)
		}
		if apiURL == "" && c.env.RunWorker == nil {
			return errors.New(awsenv.Table + " names a deployment on AWS, but this program was built without AWS: build it with the tag aws (go build -tags aws ./cmd/gust), or use the image")
		}
		if concurrency < 0 || stopAfter < 0 {
			return usagef("--concurrency and --stop-after must not be negative")
		}
		o := WorkerOptions{Home: c.home, Concurrency: concurrency, StopAfter: stopAfter, Environ: c.environ(), Log: c.logger()}
		for _, list := range []string{queues, queue} {
			for q := range strings.SplitSeq(list, ",") {
				if q = strings.TrimSpace(q); q != "" {
					o.Queues = append(o.Queues, q)
				}
			}
		}
		if len(o.Queues) == 0 {
			q := c.env.Getenv(awsenv.WorkerQueue)
			if q == "" {
				q = c.env.Getenv(awsenv.DefaultQueue)
			}
			if q == "" {
				q = "default"
			}
			o.Queues = []string{q}
		}
		run := c.env.RunWorker
		if apiURL != "" {
			run = func(ctx context.Context, o WorkerOptions) error { return c.pullWorker(ctx, apiURL, o) }
		}
		return c.serveQueues(cmd.Context(), o, run)
	}
	return cmd
}

// serveQueues runs the worker until it is told to stop once (no more tasks) or
// twice (end what runs).
func (c *command) serveQueues(ctx context.Context, o WorkerOptions, run func(context.Context, WorkerOptions) error) error {
	first, stopFirst := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stopFirst()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	o.Stop = first.Done()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
			return
		case <-first.Done():
		}
		if ctx.Err() == nil {
			c.hint("stopping: no more tasks are taken; again to end those that run")
		}
		second, stopSecond := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stopSecond()
		select {
		case <-done:
		case <-second.Done():
			end(errors.New("the worker was stopped"))
		}
	}()
	return run(ctx, o)
}
