// Package executor decides where dispatches run. Executor is the port (design
// 10); Local runs them in this process with a bounded number at once, and
// Sequential is Local with one. Router sends each dispatch to the executor its
// task names, so that executors mix freely within a DAG.
package executor

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/gustflow/gust/internal/worker"
)

// Airflow's executor names and the short forms of tasks' executor argument.
const (
	LocalExecutor      = "LocalExecutor"
	SequentialExecutor = "SequentialExecutor"
	AwsEcsExecutor     = "AwsEcsExecutor"
)

// Executor takes dispatches and sees that a worker claims them. Submitting a
// dispatch again is harmless: it is claimed once.
type Executor interface {
	// Name is what a task's executor argument calls it.
	Name() string
	// Submit takes dispatches over. It does not wait for them to start.
	Submit(ctx context.Context, ds []worker.Dispatch) error
	// Cancel stops a dispatch soon if it is here: best effort.
	Cancel(d worker.Dispatch, cause string)
	// Observe reports whether the executor knows the dispatch (it waits or runs here).
	Observe(d worker.Dispatch) bool
	// Close stops taking dispatches, stops what runs and waits for it.
	Close()
}

// Adopter is an Executor whose dispatches outlive the process that submitted them.
// Close leaves them running.
type Adopter interface {
	Executor
	// Adopt takes over what still runs and returns it. It is called once, after a
	// start, before Submit.
	Adopt(ctx context.Context) ([]worker.Dispatch, error)
}

// Logger is an Executor that keeps what workers write to their output, beside the
// tasks' own logs: the last words of a worker that died.
type Logger interface {
	Executor
	// Output opens what the dispatch's worker has written so far; unknown is
	// airflow.ErrNotFound. The caller closes it.
	Output(ctx context.Context, d worker.Dispatch) (io.ReadCloser, error)
}

// RunFunc executes one dispatch to its end. The context's cause says why it is
// cancelled.
type RunFunc func(ctx context.Context, d worker.Dispatch)

// Cancelled is the cause of a cancelled dispatch.
type Cancelled struct{ Cause string }

// Error returns the cause.
func (c *Cancelled) Error() string { return c.Cause }

// Local runs dispatches in goroutines of this process, at most slots at once, in
// the order of submission.
type Local struct {
	name  string
	slots int
	run   RunFunc

	mu      sync.Mutex
	queue   []worker.Dispatch
	idle    int // goroutines waiting on cond
	started int
	known   map[string]context.CancelCauseFunc // nil while it waits
	cond    *sync.Cond
	closed  bool
	wg      sync.WaitGroup
	ctx     context.Context
	stop    context.CancelCauseFunc
}

// NewLocal returns an executor with the given number of slots. Its goroutines
// start when there is work.
func NewLocal(slots int, run RunFunc) *Local { return newLocal(LocalExecutor, slots, run) }

// NewSequential returns an executor that runs one dispatch at a time.
func NewSequential(run RunFunc) *Local { return newLocal(SequentialExecutor, 1, run) }

func newLocal(name string, slots int, run RunFunc) *Local {
	l := &Local{name: name, slots: max(1, slots), run: run, known: map[string]context.CancelCauseFunc{}}
	l.cond = sync.NewCond(&l.mu)
	l.ctx, l.stop = context.WithCancelCause(context.Background())
	return l
}

// Name implements Executor.
func (l *Local) Name() string { return l.name }

// Submit implements Executor.
func (l *Local) Submit(_ context.Context, ds []worker.Dispatch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("executor %s is closed", l.name)
	}
	for _, d := range ds {
		id := d.String()
		if _, dup := l.known[id]; dup {
			continue
		}
		l.known[id] = nil
		l.queue = append(l.queue, d)
		switch {
		case l.idle > 0:
			l.idle--
			l.cond.Signal()
		case l.started < l.slots:
			l.started++
			l.wg.Add(1)
			go l.loop()
		}
	}
	return nil
}

func (l *Local) loop() {
	defer l.wg.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.queue) == 0 {
			if l.closed {
				return
			}
			l.idle++
			l.cond.Wait()
		}
		d := l.queue[0]
		l.queue = l.queue[1:]
		id := d.String()
		if l.closed {
			delete(l.known, id)
			continue
		}
		ctx, cancel := context.WithCancelCause(l.ctx)
		l.known[id] = cancel
		l.mu.Unlock()
		l.run(ctx, d)
		cancel(nil)
		l.mu.Lock()
		delete(l.known, id)
	}
}

// Cancel implements Executor.
func (l *Local) Cancel(d worker.Dispatch, cause string) {
	id := d.String()
	l.mu.Lock()
	cancel, known := l.known[id]
	if known && cancel == nil { // still waiting: drop it
		for i := range l.queue {
			if l.queue[i].String() == id {
				l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
				break
			}
		}
		delete(l.known, id)
	}
	l.mu.Unlock()
	if cancel != nil {
		cancel(&Cancelled{cause})
	}
}

// Load returns the number of slots, and of the dispatches that wait and that run.
func (l *Local) Load() (slots, queued, running int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slots, len(l.queue), len(l.known) - len(l.queue)
}

// Observe implements Executor.
func (l *Local) Observe(d worker.Dispatch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.known[d.String()]
	return ok
}

// Close implements Executor.
func (l *Local) Close() {
	l.mu.Lock()
	l.closed = true
	l.queue = nil
	l.cond.Broadcast()
	l.mu.Unlock()
	l.stop(&Cancelled{"the server is shutting down"})
	l.wg.Wait()
}

// Aliased is an Executor that tasks may call by other names, too.
type Aliased interface {
	Aliases() []string
}

// Kubernetes names Airflow's executors that need Kubernetes. They are accepted
// in DAG files and stored, with their pod_override; none of them can run yet.
var Kubernetes = map[string]bool{
	"KubernetesExecutor": true, "CeleryKubernetesExecutor": true, "LocalKubernetesExecutor": true,
	"airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor":            true,
	"airflow.providers.celery.executors.celery_kubernetes_executor.CeleryKubernetesExecutor":        true,
	"airflow.providers.cncf.kubernetes.executors.local_kubernetes_executor.LocalKubernetesExecutor": true,
}

// Refuse handles dispatches for executors that do not exist here.
type Refuse func(ctx context.Context, d worker.Dispatch, why string)

// Router sends dispatches to executors by name.
type Router struct {
	byName  map[string]Executor
	main    Executor
	refuse  Refuse
	aliases map[string]string
}

// NewRouter returns a router; the first executor is the default one. refuse is
// told of dispatches for an executor that is not there.
func NewRouter(refuse Refuse, executors ...Executor) *Router {
	r := &Router{byName: map[string]Executor{}, main: executors[0], refuse: refuse, aliases: map[string]string{
		"local": LocalExecutor, "sequential": SequentialExecutor,
		"airflow.executors.local_executor.LocalExecutor":           LocalExecutor,
		"airflow.executors.sequential_executor.SequentialExecutor": SequentialExecutor,
	}}
	for _, x := range executors {
		r.byName[x.Name()] = x
		if a, ok := x.(Aliased); ok {
			for _, name := range a.Aliases() {
				r.aliases[name] = x.Name()
			}
		}
	}
	return r
}

// why says what is the matter with a name that find does not know.
func (r *Router) why(name string) string {
	available := strings.Join(r.names(), ", ")
	if Kubernetes[name] {
		return fmt.Sprintf("%s needs Kubernetes, which this version of Gust cannot run tasks on: give the task another executor (available: %s) or none", name, available)
	}
	return fmt.Sprintf("executor %q is not available here; available: %s", name, available)
}

func (r *Router) find(name string) Executor {
	if name == "" {
		return r.main
	}
	if x := r.byName[name]; x != nil {
		return x // an executor's own name comes before another's alias
	}
	return r.byName[r.aliases[name]]
}

// Submit sends each dispatch to its executor, in order.
func (r *Router) Submit(ctx context.Context, ds []worker.Dispatch) error {
	var first error
	for len(ds) > 0 {
		n := 1
		for n < len(ds) && ds[n].Executor == ds[0].Executor {
			n++
		}
		if x := r.find(ds[0].Executor); x != nil {
			if err := x.Submit(ctx, ds[:n]); err != nil && first == nil {
				first = err
			}
		} else {
			for _, d := range ds[:n] {
				r.refuse(ctx, d, r.why(d.Executor))
			}
		}
		ds = ds[n:]
	}
	return first
}

func (r *Router) names() []string {
	var out []string
	for n := range r.byName {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// Cancel asks every executor: the dispatch may have been submitted before its
// task's executor changed.
func (r *Router) Cancel(d worker.Dispatch, cause string) {
	for _, n := range r.names() {
		r.byName[n].Cancel(d, cause)
	}
}

// Observe reports whether an executor knows the dispatch.
func (r *Router) Observe(d worker.Dispatch) bool {
	for _, x := range r.byName {
		if x.Observe(d) {
			return true
		}
	}
	return false
}

// Close closes all executors.
func (r *Router) Close() {
	for _, n := range r.names() {
		r.byName[n].Close()
	}
}
