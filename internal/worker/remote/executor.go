package remote

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/worker"
)

// Name is Airflow's name of the executor whose workers pull over HTTP.
const Name = "EdgeExecutor"

// pulledFor is how long a dispatch that a worker took may stay unclaimed before
// it counts as lost on the way.
const pulledFor = 60 * time.Second

// Executor keeps dispatches until a worker pulls them. It is safe for concurrent
// use. Nothing is lost with it: the engine submits again what nobody claimed.
type Executor struct {
	defaultQueue string
	now          func() time.Time

	mu     sync.Mutex
	queues map[string][]worker.Dispatch
	// known are the dispatches that wait (zero time) or were pulled and not claimed yet.
	known  map[worker.Dispatch]time.Time
	signal chan struct{} // closed when something is submitted
	closed bool
}

var (
	_ executor.Executor = (*Executor)(nil)
	_ executor.Aliased  = (*Executor)(nil)
)

// NewExecutor returns an executor; defaultQueue takes dispatches without a queue.
func NewExecutor(defaultQueue string) *Executor {
	if defaultQueue == "" {
		defaultQueue = "default"
	}
	return &Executor{defaultQueue: defaultQueue, now: time.Now, queues: map[string][]worker.Dispatch{}, known: map[worker.Dispatch]time.Time{}, signal: make(chan struct{})}
}

// Name implements executor.Executor.
func (x *Executor) Name() string { return Name }

// Aliases are Airflow's names for it, and for CeleryExecutor, whose role it plays.
func (x *Executor) Aliases() []string {
	return []string{"edge", "airflow.providers.edge3.executors.EdgeExecutor", "airflow.providers.edge3.executors.edge_executor.EdgeExecutor",
		"celery", "CeleryExecutor", "airflow.providers.celery.executors.celery_executor.CeleryExecutor"}
}

func bare(d worker.Dispatch) worker.Dispatch {
	d.Queue, d.Executor, d.Offer = "", "", worker.Offer{}
	return d
}

// Submit implements executor.Executor.
func (x *Executor) Submit(_ context.Context, ds []worker.Dispatch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return fmt.Errorf("executor %s is closed", Name)
	}
	for _, d := range ds {
		if at, known := x.known[bare(d)]; known && (at.IsZero() || x.now().Sub(at) < pulledFor) {
			continue
		}
		x.known[bare(d)] = time.Time{}
		q := d.Queue
		if q == "" {
			q = x.defaultQueue
		}
		x.queues[q] = append(x.queues[q], d)
	}
	close(x.signal)
	x.signal = make(chan struct{})
	return nil
}

// Cancel implements executor.Executor: what waits is dropped; a worker that runs
// it reads its cancel flag.
func (x *Executor) Cancel(d worker.Dispatch, _ string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for q, ds := range x.queues {
		x.queues[q] = slices.DeleteFunc(ds, func(o worker.Dispatch) bool { return bare(o) == bare(d) })
	}
	delete(x.known, bare(d))
}

// Observe implements executor.Executor: a dispatch is known while it waits, and
// for a minute after it was pulled. Once it is claimed its heartbeats count.
func (x *Executor) Observe(d worker.Dispatch) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, known := x.known[bare(d)]
	return known && (at.IsZero() || x.now().Sub(at) < pulledFor)
}

// Close implements executor.Executor. What workers run goes on.
func (x *Executor) Close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.queues, x.known = map[string][]worker.Dispatch{}, map[worker.Dispatch]time.Time{}
}

// Waiting is how many dispatches wait in each queue.
func (x *Executor) Waiting() map[string]int {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[string]int{}
	for q, ds := range x.queues {
		if len(ds) > 0 {
			out[q] = len(ds)
		}
	}
	return out
}

// pull takes up to n dispatches of the queues, oldest first, and waits for one
// until ctx ends.
func (x *Executor) pull(ctx context.Context, queues []string, n int) []worker.Dispatch {
	for {
		x.mu.Lock()
		var out []worker.Dispatch
		for _, q := range queues {
			take := min(n-len(out), len(x.queues[q]))
			out = append(out, x.queues[q][:take]...)
			x.queues[q] = x.queues[q][take:]
		}
		for _, d := range out {
			x.known[bare(d)] = x.now()
		}
		signal := x.signal
		x.mu.Unlock()
		if len(out) > 0 {
			return out
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return nil
		}
	}
}

// claimed forgets a dispatch that a worker has claimed, or may not.
func (x *Executor) claimed(d worker.Dispatch) {
	x.mu.Lock()
	delete(x.known, bare(d))
	x.mu.Unlock()
}
