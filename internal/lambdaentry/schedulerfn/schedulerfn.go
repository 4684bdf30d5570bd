// Package schedulerfn is the scheduler function. It is a package of its own so that
// its binary carries nothing that only workers need.
package schedulerfn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsburst"
	"github.com/gustflow/gust/internal/awsapp/awsecs"
	"github.com/gustflow/gust/internal/awsapp/awslogs"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/awslabel"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/observe"
	"github.com/gustflow/gust/internal/retention"
	"github.com/gustflow/gust/internal/version"
)

// Run is the main of the scheduler function: it never returns.
func Run() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	f, err := newSchedulerFunction(os.Environ(), log)
	if err != nil {
		log.Error("the scheduler cannot start", "err", err)
		os.Exit(1)
	}
	lambda.Start(f.handle)
}

// Scheduler is what the scheduler function needs of an engine.
type Scheduler interface {
	Handle(ctx context.Context, ds []engine.Delivery) (failed []int)
	TickServerless(ctx context.Context) error
}

// schedulerFunction takes the minute's tick and batches of the events and timers queues.
type schedulerFunction struct {
	engine   Scheduler
	log      *slog.Logger
	observer *observe.Observer  // nil: nothing is exported
	usage    *awsmeter.Reporter // nil: nothing is counted
	services *awsecs.Services   // nil: no queue is served by one
	cleaning *Cleaning          // nil: nothing is removed
}

func newSchedulerFunction(environ []string, log *slog.Logger) (*schedulerFunction, error) {
	c, err := awsapp.FromEnv(awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.TaskQueues)
	settings, serr := awsapp.Settings(environ, os.Getenv("LAMBDA_TASK_ROOT"))
	if err := errors.Join(err, serr); err != nil {
		return nil, err
	}
	usage := awsmeter.NewReporter(awsenv.Scheduler, os.Stdout, os.Getenv, awslabel.Of)
	app, err := awsapp.Open(context.Background(), c, awsapp.Options{Log: log, Meter: usage.Meter})
	if err != nil {
		return nil, err
	}
	awsburst.Enable(app)
	observer, err := observerOf(settings, log)
	if err != nil {
		return nil, err
	}
	app.Listener = observer.Listener()
	cfg := awsapp.EngineConfig(settings)
	more, err := awsecs.Open(app, cfg)
	if err != nil {
		return nil, err
	}
	e, err := app.Scheduler(cfg, more...)
	if err != nil {
		return nil, err
	}
	awslogs.EndLost(app, e)
	services, err := awsecs.OpenServices(app)
	if err != nil {
		return nil, err
	}
	return &schedulerFunction{engine: e, log: log, observer: observer, usage: usage, services: services, cleaning: newCleaning(app, retention.PolicyOf(settings), cfg)}, nil
}

// flushTime bounds what an invocation waits for collectors outside of AWS.
const flushTime = 2 * time.Second

// observerOf exports to CloudWatch through the function's output, and to what else
// the settings name.
func observerOf(settings *config.Config, log *slog.Logger) (*observe.Observer, error) {
	metrics, err := observe.ParseMetrics(os.Getenv(awsenv.Metrics))
	o, oerr := observe.FromConfig(settings, os.Getenv, version.String())
	if err := errors.Join(err, oerr); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		o.Metrics.Delta = true // no process of a function is the one that counts
	}
	o.Log = log
	o.CloudWatch = &observe.CloudWatch{To: os.Stdout, Deployment: os.Getenv(awsenv.Deployment), Metrics: metrics}
	return observe.New(o), nil
}

// handle tells the kinds of invocation apart. A message that could not be
// dealt with comes again; one that nobody can read does not.
func (f *schedulerFunction) handle(ctx context.Context, raw json.RawMessage) (res events.SQSEventResponse, err error) {
	var ev struct {
		cleanInput
		Records []events.SQSMessage `json:"Records"`
	}
	if err := json.Unmarshal(raw, &ev); err != nil {
		return res, fmt.Errorf("event: %w", err)
	}
	size, labels := 0, make([]awsmeter.Label, 0, len(ev.Records))
	for _, r := range ev.Records {
		size += len(r.Body)
		labels = append(labels, awslabel.Message(r.Body))
	}
	defer f.usage.Begin(size, labels...)()
	// A frozen process exports nothing.
	defer func() {
		if f.observer.On() {
			c, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
			defer cancel()
			f.observer.Flush(c)
		}
	}()
	switch {
	case len(ev.Records) > 0:
	case ev.Gust == "tick":
		if f.observer.Measures() {
			f.observer.Sample(observe.NewSample(observe.Counter, "scheduler_heartbeat", 1))
		}
		err := f.engine.TickServerless(ctx)
		if serr := f.services.Look(ctx); serr != nil {
			f.log.WarnContext(ctx, "the length of a queue could not be read; it is tried again in a minute", "err", serr)
		}
		return res, err
	case ev.Gust == "clean":
		return res, f.cleaning.run(ctx, ev.cleanInput)
	default:
		return res, fmt.Errorf("event: expected %s, %s or a batch of a queue, got %.200s", awsenv.TickInput, awsenv.CleanInput, raw)
	}
	var clean *cleanInput
	var ds []engine.Delivery
	var ids []string
	for _, r := range ev.Records {
		var m engine.Message
		if err := json.Unmarshal([]byte(r.Body), &m); err != nil {
			f.log.ErrorContext(ctx, "a message that cannot be read is dropped", "message_id", r.MessageId, "err", err)
			continue
		}
		if m.Kind == "" {
			var in cleanInput
			if json.Unmarshal([]byte(r.Body), &in) == nil && in.Gust == "clean" {
				clean = &in
				continue
			}
		}
		n, err := strconv.Atoi(r.Attributes["ApproximateReceiveCount"])
		if err != nil {
			n = 1
		}
		ds = append(ds, engine.Delivery{Message: m, ReceiveCount: n})
		ids = append(ids, r.MessageId)
	}
	if len(ds) > 0 {
		for _, i := range f.engine.Handle(ctx, ds) {
			res.BatchItemFailures = append(res.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: ids[i]})
		}
	}
	if clean != nil { // runs come first
		if err := f.cleaning.run(ctx, *clean); err != nil {
			f.log.ErrorContext(ctx, "the removal of old data stopped: the next day goes on", "err", err)
		}
	}
	return res, nil
}
