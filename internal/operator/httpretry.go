package operator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// retryPolicy is what HttpHook.run_with_advanced_retry gives to tenacity.
type retryPolicy struct {
	stop    func(attempt int, elapsed, next time.Duration) bool
	wait    func(attempt int) time.Duration
	retry   func(error) bool
	reraise bool
}

// readRetry reads retry_args: objects of the tenacity package by keyword.
func readRetry(a *taskrunner.Args, name string) *retryPolicy {
	if !a.Has(name) {
		return nil
	}
	d := a.Dict(name)
	if d == nil {
		return nil
	}
	p := &retryPolicy{
		stop:  func(int, time.Duration, time.Duration) bool { return false },
		wait:  func(int) time.Duration { return 0 },
		retry: func(error) bool { return true },
	}
	d.Each(func(k, v jinja.Value) bool {
		var err error
		switch k {
		case "stop":
			p.stop, err = readStop(v)
		case "wait":
			p.wait, err = readWait(v)
		case "retry":
			p.retry, err = readRetryIf(v)
		case "reraise":
			b, ok := v.(bool)
			if !ok {
				err = errors.New("expected True or False")
			}
			p.reraise = b
		default:
			err = errors.New("is not supported: expected stop, wait, retry or reraise")
		}
		if err != nil {
			a.Reject(fmt.Sprintf("%s[%v]", name, k), "%v", err)
		}
		return true
	})
	return p
}

// do calls f until it succeeds or the policy gives up.
func (p *retryPolicy) do(ctx context.Context, f func() (*httpAnswer, error)) (*httpAnswer, error) {
	begin := time.Now()
	for attempt := 1; ; attempt++ {
		res, err := f()
		if err == nil || context.Cause(ctx) != nil || !p.retry(err) {
			return res, err
		}
		next := p.wait(attempt)
		if p.stop(attempt, time.Since(begin), next) {
			if p.reraise {
				return nil, err
			}
			return nil, fmt.Errorf("RetryError: attempt %d: %w", attempt, err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(next):
		}
	}
}

// tenacityObject is an object of the tenacity package with its arguments by name.
func tenacityObject(v jinja.Value, want string) (name string, arg func(key string, at int) jinja.Value, all []jinja.Value, err error) {
	o, ok := v.(*serde.Object)
	rest, tenacity := "", false
	if ok {
		rest, tenacity = strings.CutPrefix(o.Class, "tenacity.")
	}
	if !tenacity {
		return "", nil, nil, fmt.Errorf("expected an object such as {__type__: tenacity.%s}, got %s", want, jinja.TypeOf(v).QualName())
	}
	if o.Args != nil {
		all = o.Args.Items
	}
	arg = func(key string, at int) jinja.Value {
		if o.Kwargs != nil {
			if v, ok := o.Kwargs.Get(key); ok {
				return v
			}
		}
		if at < len(all) {
			return all[at]
		}
		return nil
	}
	return rest[strings.LastIndexByte(rest, '.')+1:], arg, all, nil
}

// secondsOf reads a number of seconds or a timedelta.
func secondsOf(v jinja.Value, def float64) (float64, error) {
	switch x := v.(type) {
	case nil:
		return def, nil
	case *jinja.TimeDelta:
		return x.Seconds(), nil
	}
	f, ok := serde.Float(v)
	if !ok {
		return 0, fmt.Errorf("expected a number of seconds, got %s", jinja.TypeOf(v).QualName())
	}
	return f, nil
}

func readStop(v jinja.Value) (func(int, time.Duration, time.Duration) bool, error) {
	name, arg, all, err := tenacityObject(v, "stop_after_attempt, max_attempt_number: 3")
	if err != nil {
		return nil, err
	}
	switch name {
	case "stop_after_attempt":
		n, ok := arg("max_attempt_number", 0).(int64)
		if !ok {
			return nil, errors.New("stop_after_attempt expects max_attempt_number, a whole number")
		}
		return func(attempt int, _, _ time.Duration) bool { return int64(attempt) >= n }, nil
	case "stop_after_delay", "stop_before_delay":
		s, err := secondsOf(arg("max_delay", 0), math.NaN())
		if err != nil || math.IsNaN(s) {
			return nil, fmt.Errorf("%s expects max_delay, a number of seconds", name)
		}
		limit := airflow.SecondsDuration(s)
		return func(_ int, elapsed, next time.Duration) bool {
			if name == "stop_before_delay" {
				elapsed += next
			}
			return elapsed >= limit
		}, nil
	case "stop_never":
		return func(int, time.Duration, time.Duration) bool { return false }, nil
	case "stop_any", "stop_all":
		var stops []func(int, time.Duration, time.Duration) bool
		for _, v := range all {
			s, err := readStop(v)
			if err != nil {
				return nil, err
			}
			stops = append(stops, s)
		}
		return func(attempt int, elapsed, next time.Duration) bool {
			for _, s := range stops {
				if s(attempt, elapsed, next) == (name == "stop_any") {
					return name == "stop_any"
				}
			}
			return name == "stop_all"
		}, nil
	}
	return nil, fmt.Errorf("tenacity.%s is not supported: expected stop_after_attempt, stop_after_delay, stop_before_delay, stop_never, stop_any or stop_all", name)
}

func readWait(v jinja.Value) (func(int) time.Duration, error) {
	name, arg, all, err := tenacityObject(v, "wait_fixed, wait: 5")
	if err != nil {
		return nil, err
	}
	var bad error
	num := func(key string, at int, def float64) float64 {
		f, err := secondsOf(arg(key, at), def)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s: %s: %w", name, key, err))
		}
		return f
	}
	const longest = 1 << 30 // seconds; tenacity has no bound either
	power := func(mult, base float64, attempt int) float64 {
		return math.Min(longest, mult*math.Pow(base, float64(attempt-1)))
	}
	var seconds func(attempt int) float64
	switch name {
	case "wait_none":
		seconds = func(int) float64 { return 0 }
	case "wait_fixed":
		s := num("wait", 0, 0)
		seconds = func(int) float64 { return s }
	case "wait_random":
		lo, hi := num("min", 0, 0), num("max", 1, 1)
		seconds = func(int) float64 { return lo + rand.Float64()*(hi-lo) }
	case "wait_incrementing":
		start, inc, most := num("start", 0, 0), num("increment", 1, 100), num("max", 2, longest)
		seconds = func(n int) float64 { return math.Max(0, math.Min(start+inc*float64(n-1), most)) }
	case "wait_exponential", "wait_random_exponential":
		mult, most, base, least := num("multiplier", 0, 1), num("max", 1, longest), num("exp_base", 2, 2), num("min", 3, 0)
		seconds = func(n int) float64 {
			s := math.Max(math.Max(0, least), math.Min(power(mult, base, n), most))
			if name == "wait_random_exponential" {
				s = least + rand.Float64()*(s-least)
			}
			return s
		}
	case "wait_exponential_jitter":
		initial, most, base, jitter := num("initial", 0, 1), num("max", 1, longest), num("exp_base", 2, 2), num("jitter", 3, 1)
		seconds = func(n int) float64 {
			return math.Max(0, math.Min(power(initial, base, n)+rand.Float64()*jitter, most))
		}
	case "wait_chain", "wait_combine":
		var waits []func(int) time.Duration
		for _, v := range all {
			w, err := readWait(v)
			if err != nil {
				return nil, err
			}
			waits = append(waits, w)
		}
		if len(waits) == 0 {
			return nil, fmt.Errorf("%s expects strategies in __args__", name)
		}
		if name == "wait_chain" {
			return func(n int) time.Duration { return waits[min(n, len(waits))-1](n) }, nil
		}
		return func(n int) (sum time.Duration) {
			for _, w := range waits {
				sum += w(n)
			}
			return sum
		}, nil
	default:
		return nil, fmt.Errorf("tenacity.%s is not supported: expected wait_none, wait_fixed, wait_random, wait_incrementing, wait_exponential, wait_random_exponential, wait_exponential_jitter, wait_chain or wait_combine", name)
	}
	return func(n int) time.Duration { return airflow.SecondsDuration(seconds(n)) }, bad
}

func readRetryIf(v jinja.Value) (func(error) bool, error) {
	name, arg, _, err := tenacityObject(v, "retry_if_exception_type")
	if err != nil {
		return nil, err
	}
	switch name {
	case "retry_always":
		return func(error) bool { return true }, nil
	case "retry_never":
		return func(error) bool { return false }, nil
	case "retry_if_exception_type", "retry_if_not_exception_type":
	default:
		return nil, fmt.Errorf("tenacity.%s is not supported: expected retry_if_exception_type, retry_if_not_exception_type, retry_always or retry_never", name)
	}
	var classes []string
	add := func(v jinja.Value) error {
		var path string
		switch x := v.(type) {
		case string:
			path = x
		case *serde.Callable:
			path = x.Path
		}
		short := path[strings.LastIndexByte(path, '.')+1:]
		switch short {
		case "Exception", "BaseException", "AirflowException", "HttpErrorException", "HTTPError", "RequestException", "ConnectionError", "ConnectTimeout", "ReadTimeout",
			"Timeout", "TimeoutError", "OSError", "IOError":
			classes = append(classes, short)
			return nil
		}
		return fmt.Errorf("%s: the class %q is not known here: expected one of requests.exceptions, AirflowException or Exception", name, path)
	}
	switch x := arg("exception_types", 0).(type) {
	case nil:
		classes = []string{"Exception"}
	case *jinja.List:
		for _, it := range x.Items {
			if err := add(it); err != nil {
				return nil, err
			}
		}
	case *jinja.Tuple:
		for _, it := range x.Items {
			if err := add(it); err != nil {
				return nil, err
			}
		}
	default:
		if err := add(x); err != nil {
			return nil, err
		}
	}
	return func(err error) bool {
		is := false
		for _, c := range classes {
			is = is || raises(err, c)
		}
		return is == (name == "retry_if_exception_type")
	}, nil
}

// raises reports whether Airflow's hook would raise an exception of a class, or of
// one derived from it, where this error happens.
func raises(err error, class string) bool {
	var status *httpStatusError
	if errors.As(err, &status) {
		switch class {
		case "Exception", "BaseException", "AirflowException", "HttpErrorException":
			return true
		}
		return false
	}
	var ne net.Error
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
	switch class {
	case "Exception", "BaseException", "RequestException", "OSError", "IOError":
		return true
	case "Timeout", "ReadTimeout":
		return timeout
	case "ConnectTimeout":
		var op *net.OpError
		return timeout && errors.As(err, &op) && op.Op == "dial"
	case "ConnectionError":
		return !timeout
	}
	return false
}
