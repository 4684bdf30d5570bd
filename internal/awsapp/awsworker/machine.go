package awsworker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/executor/lambdaexec"
	"github.com/gustflow/gust/internal/tasklog/objlog"
	"github.com/gustflow/gust/internal/tasklog/taglog"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/sandbox"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/workerhost"
)

// MachineOptions are those of a worker that is no Lambda function: an ECS
// container, or any machine with AWS credentials.
type MachineOptions struct {
	// Home is the folder for caches, bundles and logs under way.
	Home string
	// Queues are the Airflow queues to serve.
	Queues      []string
	Concurrency int
	StopAfter   time.Duration
	Environ     []string
	// Stop is closed when the worker is to take no more tasks.
	Stop <-chan struct{}
	Log  *slog.Logger
}

// RunMachine serves queues until Stop is closed, or runs the one dispatch that
// the environment names (awsenv.ECSDispatch) and returns. load is awsgeneral.Load:
// this package is in the worker function too, which must not carry it.
func RunMachine(ctx context.Context, o MachineOptions, load awsapp.Load) error {
	env := map[string]string{}
	for _, kv := range o.Environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	need := []string{awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.DataBucket}
	one := env[awsenv.ECSDispatch]
	if one == "" {
		need = append(need, awsenv.TaskQueues)
	}
	c, err := awsapp.FromLookup(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, need...)
	if err != nil {
		return err
	}
	if len(o.Queues) == 0 && c.WorkerQueue != "" {
		o.Queues = []string{c.WorkerQueue}
	}
	var urls []string
	for _, q := range o.Queues {
		url, ok := c.TaskQueues[q]
		if !ok && one == "" {
			return fmt.Errorf("queue %q does not exist in this deployment; its queues are: %s", q, strings.Join(sortedKeys(c.TaskQueues), ", "))
		}
		urls = append(urls, url)
	}
	settings, err := awsapp.Settings(o.Environ, o.Home)
	if err != nil {
		return err
	}
	app, err := awsapp.Open(ctx, c, awsapp.Options{Log: o.Log, Load: load})
	if err != nil {
		return err
	}
	wo := Options{
		Identity: workerhost.NewIdentity(""), Config: settings, Environ: o.Environ, Python: settings.Gust.Python,
		CacheDir: filepath.Join(o.Home, "cache"), Log: o.Log,
	}
	installation := "gust-worker-" + fmt.Sprintf("%x", hash(o.Home))
	if host, ok := containerHost(ctx, env["ECS_CONTAINER_METADATA_URI_V4"]); ok {
		wo.Identity.Hostname = host
	} else {
		objects, err := app.Objects(awsenv.LogPrefix)
		if err != nil {
			return err
		}
		logs := objlog.New(objects, filepath.Join(o.Home, "logs"), objlog.Options{MaxBytes: int64(settings.Gust.MaxTaskLogBytes)})
		wo.OpenLog = func(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error) {
			w, err := logs.Create(context.Background(), d.Key, tc.TryNumber)
			if err != nil {
				return nil, err
			}
			return taskrunner.NewJSONLog(w), nil
		}
		// Tasks of a worker that died here run on without a lease: end them.
		if _, err := proc.EndOrphans(installation, 2*time.Second); err != nil {
			o.Log.Warn("task processes of an earlier worker could not all be ended", "err", err)
		}
	}
	wo.Installation = installation
	w, err := Open(app, wo)
	if err != nil {
		return err
	}
	defer w.Host.Close()
	if err := sandbox.Protect(); err != nil {
		o.Log.Warn("the worker is less protected from its tasks than it should be", "err", err)
	}
	sandbox.ScrubEnv()
	if one != "" {
		return w.one(ctx, one, o)
	}
	o.Log.Info("worker started", "queues", o.Queues, "hostname", wo.Identity.Hostname)
	return w.Poll(ctx, o.Stop, PollOptions{Queues: app.Queues(), URLs: urls, Concurrency: o.Concurrency, StopAfter: o.StopAfter, Log: o.Log})
}

// one runs a single dispatch. An error makes the container fail, which is how the
// control plane learns that it was not run.
func (w *Worker) one(ctx context.Context, body string, o MachineOptions) error {
	if _, err := lambdaexec.ParseMessage(body); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-o.Stop:
			cancel(errStopping)
		case <-done:
		}
	}()
	if w.Message(ctx, body, workerhost.Limit{}, o.Log) == Redeliver {
		return fmt.Errorf("%w: the dispatch could not be started", airflow.ErrUnavailable)
	}
	return nil
}

// containerHost asks the ECS agent where this container's output goes, so that a
// reader finds the log; ok is false outside of ECS or with another log driver.
func containerHost(ctx context.Context, uri string) (string, bool) {
	if uri == "" {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return "", false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", false
	}
	defer res.Body.Close()
	var meta struct {
		LogDriver  string
		LogOptions map[string]string
	}
	if json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&meta) != nil || meta.LogDriver != "awslogs" {
		return "", false
	}
	group, stream := meta.LogOptions["awslogs-group"], meta.LogOptions["awslogs-stream"]
	return taglog.Host("ecs", group, stream), group != "" && stream != ""
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
