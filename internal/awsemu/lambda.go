package awsemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"
)

// Handler is a function's code: one value per execution environment.
type Handler interface {
	Handle(ctx context.Context, event json.RawMessage) (any, error)
}

// HandlerFunc makes a Handler of a function.
type HandlerFunc func(ctx context.Context, event json.RawMessage) (any, error)

// Handle implements Handler.
func (f HandlerFunc) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	return f(ctx, event)
}

// FunctionOptions configure a function.
type FunctionOptions struct {
	// New starts the function in a new environment.
	New     func() (Handler, error)
	Timeout time.Duration
	// Reserved bounds how many run at once; 0 = the account's 1,000.
	Reserved int
	// MemoryMB is for the bill.
	MemoryMB int
}

// Function is a Lambda function: environments that each run one invocation at a
// time. They are never taken away.
type Function struct {
	Name string
	c    *Cloud
	o    FunctionOptions

	mu     sync.Mutex
	idle   []*environment
	made   int
	busy   int
	starts bucket // of environments
	Counts FunctionCounts
}

// FunctionCounts is what Lambda bills, and how.
type FunctionCounts struct {
	Invocations, Cold, Throttled, Errors, Killed, MostBusy int
	Billed                                                 time.Duration
}

type environment struct {
	id int
	h  Handler
}

// AddFunction makes a function.
func (c *Cloud) AddFunction(name string, o FunctionOptions) (*Function, error) {
	if o.Reserved == 0 {
		o.Reserved = 1000
	}
	f := &Function{Name: name, c: c, o: o}
	for range max(c.o.Warm, 0) {
		e, err := f.environment()
		if err != nil {
			return nil, err
		}
		f.idle = append(f.idle, e)
	}
	c.mu.Lock()
	c.functions[name] = f
	c.mu.Unlock()
	return f, nil
}

func (f *Function) environment() (*environment, error) {
	h, err := f.o.New()
	if err != nil {
		return nil, fmt.Errorf("function %s does not start: %w", f.Name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	return &environment{id: f.made, h: h}, nil
}

// invocation is one run of a handler.
type invocation struct {
	function string
	id       int

	mu   sync.Mutex
	real time.Time // when it last went on computing
	dead bool
	end  context.CancelFunc
}

// errKilled is what calls of a dead environment get; nobody sees it.
var errKilled = errors.New("the environment was killed")

func (i *invocation) isDead() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.dead
}

// die ends the environment: nothing that its code still does has an effect.
func (i *invocation) die() {
	i.mu.Lock()
	i.dead = true
	i.mu.Unlock()
	i.end()
}

type invocationKey struct{}

func invocationOf(ctx context.Context) *invocation {
	inv, _ := ctx.Value(invocationKey{}).(*invocation)
	return inv
}

func (i *invocation) resume() {
	i.mu.Lock()
	i.real = wallClock()
	i.mu.Unlock()
}

// compute lets the time pass that the handler has computed since it last went on.
func (i *invocation) compute(cpu CPU, operation string) {
	if cpu == nil {
		return
	}
	i.mu.Lock()
	real := wallClock().Sub(i.real)
	i.mu.Unlock()
	time.Sleep(cpu(i.function, operation, real))
}

// wallClock is the machine's clock, also inside a bubble.
func wallClock() time.Time { return time.Unix(0, monotonic()) }

// AddRate has a function invoked at every minute with an input, through the bus.
func (c *Cloud) AddRate(function string, input any) {
	event, err := json.Marshal(input)
	if err != nil {
		panic(err)
	}
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		for {
			next := time.Now().Truncate(time.Minute).Add(time.Minute)
			t := time.NewTimer(time.Until(next.Add(c.draw(pathBus, function))))
			select {
			case <-c.stop:
				t.Stop()
				return
			case <-t.C:
			}
			c.running.Add(1)
			go func() {
				defer c.running.Done()
				_, _ = c.invoke(function, event, nil) // its own log says what went wrong
			}()
			// The next one is that of the next minute, however late this one was.
			t = time.NewTimer(time.Until(next.Add(time.Second)))
			select {
			case <-c.stop:
				t.Stop()
				return
			case <-t.C:
			}
		}
	}()
}

// InvokeAsync invokes a function as an event; it returns at once.
func (c *Cloud) InvokeAsync(function string, event json.RawMessage) {
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		time.Sleep(c.draw(pathAsync, function))
		_, _ = c.invoke(function, event, nil)
	}()
}

// lambdaInvoke takes an event for a function; the time until its handler starts
// runs from the caller's call.
func (c *Cloud) lambdaInvoke(r *http.Request, body []byte, began time.Time) (any, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/2015-03-31/functions/"), "/invocations")
	if r.Header.Get("X-Amz-Invocation-Type") != "Event" {
		return nil, &awsError{501, "NotImplemented", "only asynchronous invocations are modelled", nil}
	}
	c.mu.Lock()
	f := c.functions[name]
	c.asyncs++
	id := fmt.Sprint("async-", c.asyncs)
	c.running.Add(1)
	c.mu.Unlock()
	if f == nil {
		c.running.Done()
		return nil, &awsError{404, "ResourceNotFoundException", "Function not found: " + name, nil}
	}
	c.Trace.sent("lambda:"+name, id, string(body), began)
	go func() {
		defer c.running.Done()
		time.Sleep(time.Until(began.Add(c.draw(pathAsync, string(body)))))
		for try := range 3 {
			if _, err := c.invoke(name, body, []string{id}); err == nil {
				return
			}
			time.Sleep(time.Duration(try+1) * time.Minute)
		}
	}()
	return nil, nil
}

// invoke runs a function to its end; messages are those of the event.
func (c *Cloud) invoke(name string, event json.RawMessage, messages []string) (json.RawMessage, error) {
	c.mu.Lock()
	f := c.functions[name]
	c.mu.Unlock()
	if f == nil {
		return nil, fmt.Errorf("there is no function %s", name)
	}
	e, cold, err := f.acquire()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.Counts.Invocations++
	inv := &invocation{function: name, id: f.Counts.Invocations}
	f.mu.Unlock()
	began := time.Now()
	c.Trace.invoked(name, inv.id, e.id, cold, messages, began)
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), invocationKey{}, inv), f.o.Timeout)
	inv.end = cancel
	inv.resume()
	out, err := e.h.Handle(ctx, event)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	cancel()
	dead := inv.isDead()
	if dead {
		err = errKilled
	}
	inv.compute(c.o.CPU, "")
	took := time.Since(began)
	c.Trace.returned(name, inv.id, time.Now())
	f.mu.Lock()
	f.busy--
	if dead {
		f.Counts.Killed++
	} else {
		f.idle = append(f.idle, e)
	}
	f.Counts.Billed += took
	if err != nil {
		f.Counts.Errors++
	}
	f.mu.Unlock()
	if err != nil {
		c.o.Log.Error("invocation failed", "function", name, "err", err)
		return nil, err
	}
	return json.Marshal(out)
}

// acquire returns an environment: an idle one, or a new one after a cold start,
// of which there are so many at a time.
func (f *Function) acquire() (*environment, bool, error) {
	for {
		f.mu.Lock()
		if n := len(f.idle); n > 0 {
			e := f.idle[n-1]
			f.idle = f.idle[:n-1]
			f.use()
			f.mu.Unlock()
			return e, false, nil
		}
		r := f.c.o.Latencies.Ramps.Lambda
		if f.busy < f.o.Reserved && f.starts.take(time.Now(), 1, r.Add/r.PerSeconds, r.Add) {
			f.use()
			warm := f.c.o.Warm < 0
			if !warm {
				f.Counts.Cold++
			}
			f.mu.Unlock()
			e, err := f.environment()
			if err != nil {
				return nil, false, err
			}
			if !warm {
				time.Sleep(f.c.draw(pathCold, f.Name))
			}
			return e, !warm, nil
		}
		f.Counts.Throttled++
		f.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
}

func (f *Function) use() {
	f.busy++
	f.Counts.MostBusy = max(f.Counts.MostBusy, f.busy)
}

// GBSeconds is what Lambda bills for the time of all invocations.
func (f *Function) GBSeconds() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Counts.Billed.Seconds() * float64(f.o.MemoryMB) / 1024
}

// String summarises the function.
func (f *Function) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%s: %d invocations, %d cold, at most %d at once, %.0f ms billed, %d throttled, %d errors",
		f.Name, f.Counts.Invocations, f.Counts.Cold, f.Counts.MostBusy, float64(f.Counts.Billed)/1e6, f.Counts.Throttled, f.Counts.Errors)
}

// Functions returns all functions by name.
func (c *Cloud) Functions() []*Function {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Function, 0, len(c.functions))
	for _, f := range c.functions {
		out = append(out, f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
