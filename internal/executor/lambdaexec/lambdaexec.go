// Package lambdaexec is the executor that plays Celery's role on AWS: it puts
// each dispatch into the SQS queue of its Airflow queue, from which worker Lambda
// functions, or workers on other machines (gust worker --queue), take it.
package lambdaexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/worker"
)

// Name is what a task's executor argument calls it.
const Name = "LambdaExecutor"

// Options configure an Executor. Queues, URLs and Refuse are required.
type Options struct {
	Queues queue.Queues
	// URLs maps Airflow queue names to SQS queue URLs.
	URLs map[string]string
	// DefaultQueue takes dispatches without a queue ([operators] default_queue).
	// Default "default".
	DefaultQueue string
	// Refuse fails a dispatch for a queue that does not exist.
	Refuse executor.Refuse
	// Functions maps Airflow queue names to worker functions that may be invoked past
	// their queue, and Invoke starts one asynchronously. A mapping from SQS begins
	// with five invocations at once and adds some every second; a burst of dispatches
	// would wait for that. nil: every dispatch goes through its queue.
	Functions map[string]string
	Invoke    func(ctx context.Context, function string, payload []byte) error
	// BurstAbove is how many dispatches of one Submit a queue takes before the whole
	// of them is invoked. Default 5.
	BurstAbove int
}

// parallelInvokes is how many functions are invoked at a time: an invocation is
// accepted within some 20 ms.
const parallelInvokes = 32

// Of a burst the first freeBurst start as fast as they can, the others at burstRate
// a second: each task writes some three units, and a new table takes 4,000.
const (
	freeBurst = 1000
	burstRate = 1200
)

// Executor sends dispatches to queues. It holds no state: whether a dispatch
// waits or runs, the store knows.
type Executor struct{ o Options }

var (
	_ executor.Executor = (*Executor)(nil)
	_ executor.Aliased  = (*Executor)(nil)
)

// New returns an executor.
func New(o Options) *Executor {
	if o.DefaultQueue == "" {
		o.DefaultQueue = "default"
	}
	if o.BurstAbove <= 0 {
		o.BurstAbove = 5
	}
	return &Executor{o}
}

// Name implements executor.Executor.
func (x *Executor) Name() string { return Name }

// Aliases are Airflow's names for it, and for CeleryExecutor, whose role it plays.
func (x *Executor) Aliases() []string {
	return []string{
		"lambda", "AwsLambdaExecutor", "airflow.providers.amazon.aws.executors.aws_lambda.lambda_executor.AwsLambdaExecutor",
		"airflow.providers.amazon.aws.executors.aws_lambda.AwsLambdaExecutor",
		"celery", "CeleryExecutor", "airflow.providers.celery.executors.celery_executor.CeleryExecutor",
	}
}

// Submit implements executor.Executor: every dispatch is durable in its queue
// when it returns nil. An error says that some may not be; sending all of them
// again is harmless.
func (x *Executor) Submit(ctx context.Context, ds []worker.Dispatch) error {
	byURL := map[string][]queue.Outgoing{}
	functions := map[string]string{}
	var urls []string // in order of appearance
	for _, d := range ds {
		name := d.Queue
		if name == "" {
			name = x.o.DefaultQueue
		}
		url, ok := x.o.URLs[name]
		if !ok {
			x.o.Refuse(ctx, d, fmt.Sprintf("queue %q does not exist in this deployment, so no worker would ever take the task; its queues are: %s. Give the task one of these, or add the queue to the deployment", name, strings.Join(slices.Sorted(maps.Keys(x.o.URLs)), ", ")))
			continue
		}
		body, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("dispatch %s: %w", d, err)
		}
		if byURL[url] == nil {
			urls = append(urls, url)
			functions[url] = x.o.Functions[name]
		}
		byURL[url] = append(byURL[url], queue.Outgoing{Body: string(body)})
	}
	var errs []error
	for _, url := range urls {
		ms := byURL[url]
		if f := functions[url]; f != "" && x.o.Invoke != nil && len(ms) > x.o.BurstAbove {
			ms = x.burst(ctx, f, ms)
		}
		if len(ms) > 0 {
			errs = append(errs, x.o.Queues.Send(ctx, url, ms))
		}
	}
	return errors.Join(errs...)
}

// burst invokes a function for each message and returns those that were not
// accepted, for the queue.
func (x *Executor) burst(ctx context.Context, function string, ms []queue.Outgoing) (rest []queue.Outgoing) {
	failed := make([]bool, len(ms))
	places := make(chan struct{}, parallelInvokes)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range ms {
		if i > freeBurst {
			time.Sleep(time.Until(began.Add(time.Duration(i-freeBurst) * time.Second / burstRate)))
		}
		wg.Add(1)
		places <- struct{}{}
		go func() {
			defer wg.Done()
			failed[i] = x.o.Invoke(ctx, function, []byte(ms[i].Body)) != nil
			<-places
		}()
	}
	wg.Wait()
	for i, bad := range failed {
		if bad {
			rest = append(rest, ms[i])
		}
	}
	return rest
}

// Cancel does nothing: a message cannot be found in its queue. The fence in the
// store keeps the dispatch from starting, and a worker that runs it reads that
// within seconds.
func (x *Executor) Cancel(worker.Dispatch, string) {}

// Observe returns false: nothing waits or runs in this process.
func (x *Executor) Observe(worker.Dispatch) bool { return false }

// Close does nothing.
func (x *Executor) Close() {}

// ParseMessage reads the body of a message that Submit sent.
func ParseMessage(body string) (worker.Dispatch, error) {
	var d worker.Dispatch
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		return d, fmt.Errorf("task message: expected a dispatch as JSON: %w", err)
	}
	if d.Key.DagID == "" || d.Key.RunID == "" || d.Key.TaskID == "" || d.DispatchSeq == 0 {
		return d, fmt.Errorf("task message %.200q names no dispatch: expected key (dag_id, run_id, task_id, map_index) and dispatch_seq", body)
	}
	return d, nil
}
