package taskrunner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
)

// Options configure a Worker. Only Backend, Operators and OpenLog are required.
type Options struct {
	Backend   worker.Backend
	Operators Resolver
	// OpenLog opens the log of a dispatch; it is closed before the report.
	OpenLog func(d worker.Dispatch, tc *worker.TaskContext) (LogSink, error)
	// Masker masks secrets; nil masks nothing.
	Masker Masker
	// LogLevel is [logging] logging_level. Default info.
	LogLevel Level
	// Callbacks runs callbacks; nil leaves them to the control plane.
	Callbacks Callbacks
	// Python runs Python jobs; nil makes one that spawns python3.
	Python *pyproc.Host
	// Identity defaults to this process.
	Identity worker.Identity
	// Installation marks child processes; see package proc. Default "gust".
	Installation string
	// Environ is the environment of child processes. Default: this process's,
	// cleaned by proc.CleanEnviron.
	Environ []string
	// SysPath is put before the bundle's folders on Python's path. OwnAirflow
	// says that an airflow package is on it.
	SysPath    []string
	OwnAirflow bool
	// CacheDir is for virtual environments and the like. Default: the user's.
	CacheDir string
	// HeartbeatInterval defaults to 60 s, MaxFailedHeartbeats to 3.
	HeartbeatInterval   time.Duration
	MaxFailedHeartbeats int
	// KilledTaskCleanupTime is between SIGTERM and SIGKILL. Default 60 s.
	KilledTaskCleanupTime time.Duration
	// MaxTemplatedFieldLength truncates rendered fields. Default 4096.
	MaxTemplatedFieldLength int
	// MaxMapLength is [core] max_map_length. Default 1024.
	MaxMapLength int
	// InlineXComBytes is the size up to which values travel in the report;
	// bigger ones go through SetXCom first. Default 64 KiB.
	InlineXComBytes int
	// RetryFor bounds how long a claim or report is retried while the control
	// plane is unavailable. Default 2 min.
	RetryFor time.Duration
	// AllowedClasses are [core] allowed_deserialization_classes.
	AllowedClasses []string
	// IgnoreConfInParams is [core] dag_run_conf_overrides_params set to False.
	IgnoreConfInParams bool
	// DefaultImpersonation is run_as_user of tasks that set none ([core]
	// default_impersonation). Shares hold what such users need of ours; nil makes one.
	DefaultImpersonation string
	Shares               *proc.Shares
	// Clock is for tests. Default time.Now.
	Clock func() time.Time
}

// Worker runs dispatches. It is safe for concurrent use; how many run at once
// is the caller's business.
type Worker struct {
	o       Options
	mu      sync.Mutex
	running map[worker.Dispatch]context.CancelCauseFunc
}

// New returns a Worker.
func New(o Options) *Worker {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	defInt := func(i *int, v int) {
		if *i <= 0 {
			*i = v
		}
	}
	def(&o.HeartbeatInterval, 60*time.Second)
	def(&o.KilledTaskCleanupTime, 60*time.Second)
	def(&o.RetryFor, 2*time.Minute)
	defInt(&o.MaxFailedHeartbeats, 3)
	defInt(&o.MaxTemplatedFieldLength, 4096)
	defInt(&o.MaxMapLength, 1024)
	defInt(&o.InlineXComBytes, 64<<10)
	if o.Installation == "" {
		o.Installation = "gust"
	}
	if o.Shares == nil {
		o.Shares = proc.NewShares(o.Installation)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Installation == "" {
		o.Installation = "gust"
	}
	if o.LogLevel == "" {
		o.LogLevel = LevelInfo
	}
	if o.Environ == nil {
		o.Environ = proc.CleanEnviron(os.Environ())
	}
	if o.Python == nil {
		o.Python = pyproc.NewHost("", o.CacheDir, o.Installation, 0)
	}
	if o.Identity == (worker.Identity{}) {
		o.Identity = Self()
	}
	return &Worker{o: o, running: map[worker.Dispatch]context.CancelCauseFunc{}}
}

// Self is the identity of this process.
func Self() worker.Identity {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return worker.Identity{Hostname: host, PID: os.Getpid(), Unixname: name}
}

// Cancel stops a running dispatch as if its next heartbeat had been refused.
// It returns false if the dispatch does not run here.
func (w *Worker) Cancel(d worker.Dispatch, cause string) bool {
	d.Queue, d.Executor, d.Offer = "", "", worker.Offer{}
	w.mu.Lock()
	cancel := w.running[d]
	w.mu.Unlock()
	if cancel == nil {
		return false
	}
	cancel(&worker.SupersededError{Cause: cause})
	return true
}

// CheckLeases beats at once for the running dispatches that of chooses, so that
// those which were taken away stop now and not with their next heartbeat.
func (w *Worker) CheckLeases(ctx context.Context, of func(worker.Dispatch) bool) {
	w.mu.Lock()
	chosen := map[worker.Dispatch]context.CancelCauseFunc{}
	for d, cancel := range w.running {
		if of(d) {
			chosen[d] = cancel
		}
	}
	w.mu.Unlock()
	for d, cancel := range chosen {
		if err := w.o.Backend.Heartbeat(ctx, d, w.o.Identity); errors.Is(err, airflow.ErrSuperseded) {
			cancel(err)
		}
	}
}

// yielder is a Backend that wants to know when a superseded dispatch stopped.
type yielder interface {
	Yield(ctx context.Context, d worker.Dispatch, who worker.Identity) error
}

// Run executes one dispatch to its report. It returns nil when the report was
// accepted, an error that wraps airflow.ErrSuperseded when the dispatch may not
// start or was stopped, and another error when the control plane could not be
// reached. When ctx ends the task is stopped and reported as failed with ctx's
// cause.
func (w *Worker) Run(ctx context.Context, d worker.Dispatch) error {
	tc, err := w.claim(ctx, d)
	if err != nil {
		return err
	}
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	id := d
	id.Queue, id.Executor, id.Offer = "", "", worker.Offer{}
	w.mu.Lock()
	w.running[id] = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, id)
		w.mu.Unlock()
	}()

	sink, logErr := w.o.OpenLog(d, tc)
	if logErr != nil {
		// The task must not vanish because its log cannot be written.
		sink, logErr = discard{}, fmt.Errorf("open the log of %s: %w", d, logErr)
	}
	t := w.newTask(d, tc, sink)
	beats := w.startHeartbeats(runCtx, cancel, t)
	r, taskErr := w.execute(runCtx, t)
	detached := context.WithoutCancel(ctx) // a shutdown must not lose the report
	if !errors.Is(context.Cause(runCtx), airflow.ErrSuperseded) {
		w.runCallbacks(detached, t, r, taskErr) // the lease is kept meanwhile
	}
	beats()
	closeLog := func() {
		if err := sink.Close(); err != nil {
			logErr = errors.Join(logErr, fmt.Errorf("close the log of %s: %w", d, err))
		}
	}
	// Shutdown of this worker is a failure of the task; supersession is not.
	if cause := context.Cause(runCtx); errors.Is(cause, airflow.ErrSuperseded) {
		t.Log.Warn("The task was stopped: " + causeText(cause))
		closeLog()
		return errors.Join(cause, w.yield(detached, d), logErr)
	}
	t.finishLog(r, taskErr)
	closeLog()
	err = w.finish(detached, t, r)
	if errors.Is(err, airflow.ErrSuperseded) {
		err = errors.Join(err, w.yield(detached, d))
	}
	return errors.Join(err, logErr)
}

// yield tells the control plane that a superseded dispatch has stopped.
func (w *Worker) yield(ctx context.Context, d worker.Dispatch) error {
	y, ok := w.o.Backend.(yielder)
	if !ok {
		return nil
	}
	return w.retry(ctx, func(c context.Context) error { return y.Yield(c, d, w.o.Identity) })
}

func causeText(err error) string {
	var s *worker.SupersededError
	if errors.As(err, &s) && s.Cause != "" {
		return s.Cause
	}
	return err.Error()
}

type discard struct{}

func (discard) WriteRecord(Record) error { return nil }
func (discard) Close() error             { return nil }

func (w *Worker) claim(ctx context.Context, d worker.Dispatch) (tc *worker.TaskContext, err error) {
	err = w.retry(ctx, func(c context.Context) error {
		tc, err = w.o.Backend.Claim(c, d, w.o.Identity)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", d, err)
	}
	if tc.DAG == nil || tc.Task == nil {
		return nil, fmt.Errorf("claim %s: the control plane sent no DAG or task", d)
	}
	tc.IgnoreConfInParams = tc.IgnoreConfInParams || w.o.IgnoreConfInParams
	return tc, nil
}

// retry repeats f while the control plane is unavailable or throttles: after
// 50 ms, doubling to 5 s.
func (w *Worker) retry(ctx context.Context, f func(context.Context) error) error {
	start, wait := time.Now(), 50*time.Millisecond
	for {
		err := f(ctx)
		if err == nil || !errors.Is(err, airflow.ErrUnavailable) && !errors.Is(err, airflow.ErrThrottled) || time.Since(start) > w.o.RetryFor {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// startHeartbeats beats until the returned function is called. Between beats
// it stores what the task has pushed, so that others can read it.
func (w *Worker) startHeartbeats(ctx context.Context, cancel context.CancelCauseFunc, t *Task) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var beat func()
	failed := 0
	var timer *time.Timer
	beat = func() {
		defer wg.Done()
		err := w.o.Backend.Heartbeat(ctx, t.Dispatch, w.o.Identity)
		if err == nil {
			err = t.flushXComs(ctx, 0)
		}
		switch {
		case err == nil:
			failed = 0
		case errors.Is(err, airflow.ErrSuperseded):
			cancel(err)
			return
		case ctx.Err() != nil:
			return
		default:
			failed++
			t.Log.Warn(fmt.Sprintf("Heartbeat failed (%d of %d in a row): %v", failed, w.o.MaxFailedHeartbeats, err))
			if failed >= w.o.MaxFailedHeartbeats {
				cancel(errLostLease)
				return
			}
		}
		select {
		case <-done:
		default:
			wg.Add(1)
			timer.Reset(w.o.HeartbeatInterval)
		}
	}
	// A timer instead of a goroutine: tasks shorter than the interval cost nothing.
	wg.Add(1)
	ready := make(chan struct{})
	timer = time.AfterFunc(w.o.HeartbeatInterval, func() { <-ready; beat() })
	close(ready)
	return func() {
		close(done)
		if timer.Stop() {
			wg.Done()
		}
		wg.Wait()
	}
}

// execute prepares and runs the task; it never panics.
func (w *Worker) execute(ctx context.Context, t *Task) (r *worker.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			t.Log.Error(fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
			err = fmt.Errorf("the operator panicked: %v", p)
			r = t.report(nil, err)
		}
	}()
	res, err := w.run(ctx, t)
	if err == nil {
		err = t.push(res)
	}
	if !waits(err) {
		t.renderMapIndex(context.WithoutCancel(ctx))
	}
	if err != nil {
		res = nil
	}
	return t.report(res, err), err
}

// waits reports whether err gives the worker back to run the try again later.
func waits(err error) bool {
	var (
		resched  *Reschedule
		deferred *Deferred
	)
	return errors.As(err, &resched) || errors.As(err, &deferred)
}

func (w *Worker) run(ctx context.Context, t *Task) (*Result, error) {
	op, err := w.o.Operators.Resolve(t.Class)
	if err != nil {
		return nil, &FailError{Cause: err}
	}
	if err := t.become(); err != nil {
		return nil, err
	}
	if err := t.prepare(ctx, op); err != nil {
		return nil, err
	}
	if t.NextMethod == "" && t.RescheduleCount == 0 {
		w.runCallback(ctx, t, "on_execute_callback", nil)
	}
	if limit := t.Task.ExecutionTimeout; limit > 0 {
		left := limit
		if o, ok := op.(WholeTryTimeout); ok && o.WholeTryTimeout(t) {
			left -= t.Now().Sub(t.StartDate)
		}
		if left <= 0 {
			return nil, &TaskTimeout{After: limit}
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, left, &TaskTimeout{After: limit})
		defer cancel()
		t.deadline = t.Now().Add(left)
	}
	res, err := op.Execute(ctx, t)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			err = cause
		}
		return nil, err
	}
	if res == nil {
		res = &Result{}
	}
	return res, nil
}

func (w *Worker) finish(ctx context.Context, t *Task, r *worker.Report) error {
	send := func(c context.Context) error { return w.o.Backend.Finish(c, t.Dispatch, r) }
	err := t.flushXComs(ctx, w.o.InlineXComBytes)
	if err == nil {
		r.XComs = t.takeXComs()
		err = w.retry(ctx, send)
	}
	if errors.Is(err, airflow.ErrTooLarge) && r.Outcome != worker.OutcomeFailedFinal {
		// The value cannot be stored however often the task runs.
		*r = worker.Report{Outcome: worker.OutcomeFailed, EndDate: r.EndDate, RenderedFields: r.RenderedFields,
			Error: "the XCom is too large to be stored: write it to storage and return its address"}
		err = w.retry(ctx, send)
	}
	if err != nil {
		return fmt.Errorf("report %s: %w", t.Dispatch, err)
	}
	return nil
}
