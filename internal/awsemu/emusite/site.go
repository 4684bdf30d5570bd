// Package emusite is a deployment of Gust on the emulated cloud: the handlers of
// the scheduler and worker functions, wired as on AWS, with the queues and the
// tick of the infrastructure. Only operators are others: tasks take virtual time.
package emusite

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsburst"
	"github.com/gustflow/gust/internal/awsapp/awsworker"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/awslabel"
	"github.com/gustflow/gust/internal/awsmeter/sdkmeter"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/lambdaentry/schedulerfn"
	"github.com/gustflow/gust/internal/lambdaentry/workerfn"
	"github.com/gustflow/gust/internal/observe"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Work is what a task does; it may let time pass.
type Work func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error)

// Options configure a site.
type Options struct {
	Cloud awsemu.Options
	// Reserved bounds how many of each function run at once; 0 = no bound.
	Reserved int
	// Table is the name of the table; default "gust".
	Table string
	// Work is what every task does.
	Work Work
	// TaskPollers is provisioned mode for the task queue; 0 = default.
	TaskPollers int
	// Burst lets the scheduler invoke workers past their queue.
	Burst bool
	// TickOff leaves the minute's tick out.
	TickOff bool
	// Handlers is how many runs an invocation of the scheduler works on side by side;
	// default 1, on AWS 8. With more, nothing may wait for a mutex whose holder waits for
	// an answer: to synctest that is not waiting, and the clock of a bubble stands still.
	Handlers int
	// Folder is where workers keep what they unpack.
	Folder string
	// Logs receives the logs of functions, as CloudWatch Logs does; nil discards them.
	Logs io.Writer
	// Observe has the scheduler export what it does to its log, with the default
	// metrics, as in profile prod.
	Observe bool
	// SchedulerMB and WorkerMB are the memory of the functions; default awsenv.MemoryMB.
	SchedulerMB, WorkerMB int
	// EngineConfig are changes to the scheduler's settings; may be nil.
	EngineConfig func(*engine.Config)
}

// Site is a running deployment.
type Site struct {
	Cloud  *awsemu.Cloud
	Meter  *awsmeter.Meter
	Tools  *engine.Engine // as the API has it
	Store  *store.Store
	config awsapp.Config

	observers []*observe.Observer // guarded by mu
	mu        sync.Mutex
	Starts    map[airflow.TaskInstanceKey]time.Time // of the work itself
	Ends      map[airflow.TaskInstanceKey]time.Time
	Logged    int64 // bytes of the functions' logs
}

// Names of the parts.
const (
	Events = "events"
	Timers = "timers"
	Tasks  = "tasks-default"
)

// New deploys a site. Inside a bubble of synctest it has a clock of its own.
func New(o Options) (*Site, error) {
	if o.Work == nil {
		o.Work = func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) { return nil, nil }
	}
	if o.Table == "" {
		o.Table = "gust"
	}
	s := &Site{Cloud: awsemu.New(o.Cloud), Meter: awsmeter.New(awslabel.Of), Starts: map[airflow.TaskInstanceKey]time.Time{}, Ends: map[airflow.TaskInstanceKey]time.Time{}}
	log := o.Cloud.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	events := s.Cloud.AddQueue(Events, awsemu.QueueOptions{Function: awsenv.Scheduler, BatchSize: 10, Visibility: 330 * time.Second})
	timers := s.Cloud.AddQueue(Timers, awsemu.QueueOptions{Function: awsenv.Scheduler, BatchSize: 10, Visibility: 330 * time.Second})
	tasks := s.Cloud.AddQueue(Tasks, awsemu.QueueOptions{Function: awsenv.Worker, BatchSize: 1, Visibility: 5400 * time.Second, Pollers: o.TaskPollers, MaxReceives: 100})
	s.config = awsapp.Config{
		Stage: "emulated", Table: o.Table, EventsQueueURL: events.URL(), TimersQueueURL: timers.URL(), TaskQueues: map[string]string{"default": tasks.URL()},
		DefaultQueue: "default", DataBucket: "data", WorkerQueue: "default", SchedulerHandlers: max(1, o.Handlers),
	}
	if o.Burst {
		s.config.WorkerFunctions = map[string]string{"default": awsenv.Worker}
	}
	settings, err := config.Load(config.Input{Home: o.Folder, Environ: []string{"AIRFLOW__CORE__MAX_MAP_LENGTH=100000"}})
	if err != nil {
		return nil, err
	}
	engineConfig := awsapp.EngineConfig(settings)
	if o.EngineConfig != nil {
		o.EngineConfig(&engineConfig)
	}
	open := func(m *awsmeter.Meter) (*awsapp.App, error) {
		cfg := s.Cloud.Config()
		sdkmeter.Install(&cfg, s.Meter)
		return awsapp.Open(context.Background(), s.config, awsapp.Options{AWS: &cfg, Log: log, Meter: m})
	}
	out := counting{s, o.Logs}
	if o.SchedulerMB == 0 {
		o.SchedulerMB = awsenv.MemoryMB(awsenv.Scheduler)
	}
	if o.WorkerMB == 0 {
		o.WorkerMB = awsenv.MemoryMB(awsenv.Worker)
	}
	usage := func(function string, mb int) *awsmeter.Reporter {
		return awsmeter.NewReporter(function, out, func(string) string { return strconv.Itoa(mb) }, awslabel.Of)
	}
	_, err = s.Cloud.AddFunction(awsenv.Scheduler, awsemu.FunctionOptions{Timeout: 55 * time.Second, MemoryMB: o.SchedulerMB, Reserved: o.Reserved, New: func() (awsemu.Handler, error) {
		u := usage(awsenv.Scheduler, o.SchedulerMB)
		a, err := open(u.Meter)
		if err != nil {
			return nil, err
		}
		awsburst.Enable(a)
		var obs *observe.Observer
		if o.Observe {
			obs = observe.New(observe.Options{Log: log, CloudWatch: &observe.CloudWatch{To: out, Deployment: "gust-emulated", Metrics: awsenv.DefaultMetrics()}})
			s.mu.Lock()
			s.observers = append(s.observers, obs)
			s.mu.Unlock()
			a.Listener = obs.Listener()
		}
		e, err := a.Scheduler(engineConfig)
		if err != nil {
			return nil, err
		}
		h := schedulerfn.NewHandler(e, obs, u, log)
		return awsemu.HandlerFunc(func(ctx context.Context, event json.RawMessage) (any, error) { return h(ctx, event) }), nil
	}})
	if err != nil {
		return nil, err
	}
	hosts := 0
	_, err = s.Cloud.AddFunction(awsenv.Worker, awsemu.FunctionOptions{Timeout: 900 * time.Second, MemoryMB: o.WorkerMB, Reserved: o.Reserved, New: func() (awsemu.Handler, error) {
		u := usage(awsenv.Worker, o.WorkerMB)
		a, err := open(u.Meter)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		hosts++
		n := hosts
		s.mu.Unlock()
		w, err := awsworker.Open(a, awsworker.Options{
			Identity: worker.Identity{Hostname: fmt.Sprintf("lambda/%d", n), PID: n, Unixname: "emulated"}, Config: settings, Operators: resolver{s, o.Work},
			CacheDir: o.Folder, Environ: []string{"PATH=/usr/bin:/bin"}, Logs: out, Log: log,
		})
		if err != nil {
			return nil, err
		}
		h := workerfn.NewHandler(a, w, u, log, func(int) {})
		return awsemu.HandlerFunc(func(ctx context.Context, event json.RawMessage) (any, error) { return h(ctx, event) }), nil
	}})
	if err != nil {
		return nil, err
	}
	a, err := open(nil)
	if err != nil {
		return nil, err
	}
	if s.Store, err = a.Store(); err != nil {
		return nil, err
	}
	outbox, err := a.Outbox()
	if err != nil {
		return nil, err
	}
	s.Tools = engine.New(engine.Options{Store: s.Store, Outbox: outbox, Passive: true, Config: engineConfig, Log: log})
	if !o.TickOff {
		var input any
		if err := json.Unmarshal([]byte(awsenv.TickInput), &input); err != nil {
			return nil, err
		}
		s.Cloud.AddRate(awsenv.Scheduler, input)
	}
	return s, nil
}

// Close ends the cloud and what runs on it.
func (s *Site) Close() {
	s.Cloud.Close()
	s.mu.Lock()
	observers := s.observers
	s.mu.Unlock()
	for _, o := range observers {
		o.Close()
	}
}

// resolver gives every class the same work, and notes when it is done.
type resolver struct {
	s    *Site
	work Work
}

// Resolve implements taskrunner.Resolver.
func (r resolver) Resolve(string) (taskrunner.Operator, error) {
	return taskrunner.OperatorFunc(func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		k := t.Dispatch.Key
		r.s.note(r.s.Starts, k)
		res, err := r.work(ctx, t)
		r.s.note(r.s.Ends, k)
		return res, err
	}), nil
}

func (s *Site) note(m map[airflow.TaskInstanceKey]time.Time, k airflow.TaskInstanceKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m[k] = time.Now()
}

type counting struct {
	s *Site
	w io.Writer
}

// Write implements io.Writer.
func (c counting) Write(b []byte) (int, error) {
	c.s.mu.Lock()
	c.s.Logged += int64(len(b))
	c.s.mu.Unlock()
	if c.w == nil {
		return len(b), nil
	}
	return c.w.Write(b)
}

// Register stores a DAG, un-paused.
func (s *Site) Register(ctx context.Context, ds ...enginetest.DAG) error {
	h := enginetest.Harness{Store: s.Store, Engine: s.Tools, Clock: enginetest.NewClock()}
	h.Clock.Set(time.Now())
	for _, d := range ds {
		if _, err := h.Register(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// Trigger starts a run by hand, as the API would.
func (s *Site) Trigger(ctx context.Context, dag, run string) (store.RunKey, error) {
	now := time.Now()
	info, err := s.Tools.Trigger(ctx, engine.TriggerOptions{DagID: airflow.DagID(dag), RunID: airflow.RunID(run), LogicalDate: &now, TriggeredBy: airflow.TriggeredByTest})
	return store.RunKey{DagID: info.DagID, RunID: info.RunID}, err
}

// Wait waits until a run has ended and returns its state. It looks without the
// services' knowing.
func (s *Site) Wait(ctx context.Context, k store.RunKey, limit time.Duration) (airflow.DagRun, error) {
	quiet := store.New(s.Cloud.Table.Driver(), nil)
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		r, err := quiet.GetRun(ctx, k)
		if err != nil {
			return r, err
		}
		if r.State.Finished() {
			return r, nil
		}
		if time.Now().After(end) {
			return r, fmt.Errorf("run %s is %s after %v", k, r.State, limit)
		}
	}
}

// Settle waits until nothing is under way.
func (s *Site) Settle() {
	for {
		idle := true
		for _, q := range s.Cloud.Queues() {
			if q.Name != Timers {
				idle = idle && q.Idle()
			}
		}
		if idle {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// String summarises what the services did.
func (s *Site) String() string {
	var b strings.Builder
	for _, q := range s.Cloud.Queues() {
		fmt.Fprintln(&b, q)
	}
	for _, f := range s.Cloud.Functions() {
		fmt.Fprintln(&b, f)
	}
	u := s.Cloud.Table.Units
	fmt.Fprintf(&b, "table: %.0f write units, %.0f in indexes, %.1f read units, %d throttled, %d refused\n", u.Write, u.IndexWrite, u.Read, u.Throttled, u.Refused)
	return b.String()
}
