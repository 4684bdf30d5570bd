package operator

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// poked is the result of one look.
type poked struct {
	done  bool
	value json.RawMessage // XCom of a finished sensor
}

// sensor runs Airflow's sensor loop one poke per dispatch: between pokes no
// worker is held, in mode poke as in mode reschedule. The clock of timeout
// starts with the try.
type sensor struct {
	poke func(ctx context.Context, t *taskrunner.Task) (poked, error)
	// moment is for sensors that wait for a time: they look once and sleep until then.
	moment func(t *taskrunner.Task) (time.Time, error)
	async  bool // always deferrable
	// wait gives the worker back until at; nil reschedules. poke is the count so far.
	wait func(t *taskrunner.Task, at time.Time, poke int) error
}

type sensorOptions struct {
	interval, timeout, maxWait      time.Duration
	reschedule, exponential         bool
	softFail, neverFail, silentFail bool
	deferrable                      bool
}

const defaultSensorTimeout = 7 * 24 * time.Hour

func readSensor(t *taskrunner.Task) (sensorOptions, error) {
	a := t.Args
	o := sensorOptions{
		interval: a.Seconds("poke_interval", 60*time.Second), timeout: a.Seconds("timeout", defaultSensorTimeout), maxWait: a.Seconds("max_wait", 0),
		exponential: a.Bool("exponential_backoff", false), softFail: a.Bool("soft_fail", false), neverFail: a.Bool("never_fail", false),
		silentFail: a.Bool("silent_fail", false), deferrable: a.Bool("deferrable", false),
	}
	switch mode := a.String("mode", "poke"); mode {
	case "poke":
	case "reschedule":
		o.reschedule = true
	default:
		a.Reject("mode", "expected poke or reschedule, got %q", mode)
	}
	if o.interval < 0 {
		a.Reject("poke_interval", "must not be negative")
	}
	if o.timeout < 0 {
		a.Reject("timeout", "must not be negative")
	}
	if o.softFail && o.neverFail {
		a.Reject("soft_fail", "excludes never_fail: set one of them")
	}
	if err := a.Err(); err != nil {
		return o, err
	}
	return o, nil
}

// WholeTryTimeout implements taskrunner.WholeTryTimeout: in mode poke Airflow
// holds the worker, so execution_timeout counts the waiting.
func (s sensor) WholeTryTimeout(t *taskrunner.Task) bool {
	return t.Args != nil && t.Args.String("mode", "poke") == "poke" && !s.defers(t)
}

func (s sensor) defers(t *taskrunner.Task) bool {
	return s.async || t.Args.Bool("deferrable", false)
}

// pokeState travels through deferrals.
type pokeState struct {
	Poke int `json:"poke"`
}

// Execute implements taskrunner.Operator.
func (s sensor) Execute(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	o, err := readSensor(t)
	if err != nil {
		return nil, err
	}
	if t.NextMethod == worker.MethodFail {
		return nil, o.failure(triggerFailure(t, o.timeout))
	}
	if s.moment != nil {
		return s.waitFor(t, o)
	}
	count := t.RescheduleCount + 1
	if t.NextMethod != "" && len(t.NextKwargs) > 0 {
		var st pokeState
		if err := json.Unmarshal(t.NextKwargs, &st); err != nil {
			return nil, fmt.Errorf("state of the sensor: %w", err)
		}
		count += st.Poke
	}
	res, err := s.poke(ctx, t)
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), airflow.ErrSuperseded):
		return nil, err
	default:
		if err = o.pokeError(t, err); err != nil {
			return nil, err
		}
		res = poked{}
	}
	if res.done {
		t.Log.Info("Success criteria met. Exiting.")
		return &taskrunner.Result{Value: res.value}, nil
	}
	elapsed := t.Now().Sub(t.StartDate)
	if elapsed > o.timeout {
		return nil, o.timedOut(elapsed)
	}
	next := o.nextInterval(t, elapsed, count)
	at := t.Now().Add(next)
	if end, ok := t.Deadline(); ok && s.WholeTryTimeout(t) && end.Before(at) {
		at = end // so that execution_timeout strikes on time
	}
	if s.wait != nil {
		return nil, s.wait(t, at, count)
	}
	return nil, &taskrunner.Reschedule{At: at}
}

// pokeError is what an error of a poke does to the task; nil means "not yet".
func (o sensorOptions) pokeError(t *taskrunner.Task, err error) error {
	var (
		skip     *taskrunner.SkipError
		resched  *taskrunner.Reschedule
		deferred *taskrunner.Deferred
	)
	switch {
	case errors.As(err, &skip), errors.As(err, &resched), errors.As(err, &deferred):
		return err
	case isFinal(err):
		return o.failure(err)
	case o.silentFail:
		t.Log.Error("Sensor poke failed:\n" + errorText(err))
		return nil
	case o.neverFail:
		t.Log.Error(errorText(err))
		return &taskrunner.SkipError{Message: "Skipping due to never_fail is set to True."}
	}
	return err
}

func isFinal(err error) bool {
	var (
		fail    *taskrunner.FailError
		sens    *taskrunner.SensorTimeout
		timeout *taskrunner.TaskTimeout
	)
	return errors.As(err, &fail) || errors.As(err, &sens) || errors.As(err, &timeout)
}

func errorText(err error) string {
	var py *taskrunner.PythonError
	if errors.As(err, &py) && py.Traceback != "" {
		return py.Traceback
	}
	return err.Error()
}

// failure is a timeout or a fail exception: skipped with soft_fail.
func (o sensorOptions) failure(err error) error {
	if o.softFail {
		return &taskrunner.SkipError{Message: "Skipping due to soft_fail is set to True. Cause: " + err.Error()}
	}
	return err
}

func (o sensorOptions) timedOut(elapsed time.Duration) error {
	msg := fmt.Sprintf("Sensor has timed out; run duration of %v seconds exceeds the specified timeout of %v.", elapsed.Seconds(), o.timeout.Seconds())
	if o.softFail {
		return &taskrunner.SkipError{Message: msg}
	}
	return &taskrunner.SensorTimeout{Message: msg}
}

// triggerFailure is the error of a deferral that ended without an event.
func triggerFailure(t *taskrunner.Task, timeout time.Duration) error {
	var kw struct {
		Error     string   `json:"error"`
		Traceback []string `json:"traceback"`
	}
	if len(t.NextKwargs) > 0 {
		if err := json.Unmarshal(t.NextKwargs, &kw); err != nil {
			return err
		}
	}
	if kw.Error == worker.TriggerTimeout {
		return &taskrunner.SensorTimeout{Message: fmt.Sprintf("the trigger did not fire within %v", timeout)}
	}
	return fmt.Errorf("the trigger failed: %s %s", kw.Error, kw.Traceback)
}

// nextInterval is the time until the next poke; poke counts from 1.
func (o sensorOptions) nextInterval(t *taskrunner.Task, elapsed time.Duration, poke int) time.Duration {
	if !o.exponential {
		return o.interval
	}
	started := taskrunner.PyStr(t.StartDate)
	if o.reschedule {
		// Re-derived from the elapsed time, as Airflow does.
		n, sum := 0, 0.0
		for sum <= elapsed.Seconds() {
			n++
			sum += float64(o.backoff(t, started, n))
		}
		poke = max(n, 1)
	}
	next := float64(o.backoff(t, started, poke))
	next = min(o.timeout.Seconds()-float64(int64(elapsed.Seconds())), next)
	if o.maxWait > 0 {
		next = min(o.maxWait.Seconds(), next)
	}
	t.Log.Info(fmt.Sprintf("new interval is %v", next))
	return airflow.SecondsDuration(max(next, 0))
}

// backoff is the interval of one poke in seconds: doubled each time, with
// jitter that follows from the names.
func (o sensorOptions) backoff(t *taskrunner.Task, started string, poke int) int64 {
	secs := o.interval.Seconds()
	base := int64(1)
	for i := 2; i < poke && secs < 1<<40; i++ {
		secs *= 2
	}
	if poke < 2 {
		secs /= 2
	}
	if int64(secs) > base {
		base = int64(secs)
	}
	sum := sha1.Sum(fmt.Appendf(nil, "%s#%s#%s#%d", t.DAG.DagID, t.Task.TaskID, started, poke))
	h := new(big.Int).SetBytes(sum[:])
	return base + h.Mod(h, big.NewInt(base)).Int64()
}

// waitFor is a sensor whose condition is a moment.
func (s sensor) waitFor(t *taskrunner.Task, o sensorOptions) (*taskrunner.Result, error) {
	if t.NextMethod == "execute_complete" {
		t.Log.Info("Success criteria met. Exiting.")
		return &taskrunner.Result{}, nil
	}
	moment, err := s.moment(t)
	if err != nil {
		return nil, err
	}
	now := t.Now()
	if now.After(moment) {
		t.Log.Info("Success criteria met. Exiting.")
		return &taskrunner.Result{}, nil
	}
	t.Log.Info("Waiting until " + taskrunner.PyISO(moment))
	timer := worker.Trigger{Kind: worker.TriggerTime, At: moment.Add(time.Microsecond), EndState: airflow.TISuccess}
	if s.defers(t) {
		return nil, &taskrunner.Deferred{Deferral: worker.Deferral{Trigger: timer, Timeout: o.timeout, NextMethod: "execute_complete"}}
	}
	// The moment, or the end of patience, whichever comes first.
	limit := t.StartDate.Add(o.timeout)
	elapsed := now.Sub(t.StartDate)
	if elapsed > o.timeout {
		return nil, o.timedOut(elapsed)
	}
	end, limited := t.Deadline()
	limited = limited && s.WholeTryTimeout(t)
	switch {
	case limited && end.Before(moment) && end.Before(limit):
		return nil, &taskrunner.Reschedule{At: end}
	case limit.Before(moment):
		return nil, &taskrunner.Reschedule{At: limit.Add(time.Millisecond)}
	}
	return nil, &taskrunner.Deferred{Deferral: worker.Deferral{Trigger: timer, NextMethod: "execute_complete"}}
}
