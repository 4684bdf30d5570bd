package observe

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gustflow/gust/internal/engine"
)

// exporter sends changes and measurements somewhere. Its methods are called by one
// goroutine.
type exporter interface {
	// name is what warnings call it.
	name() string
	// change takes a committed step, samples what was measured.
	change(c engine.Change)
	samples(ss []Sample)
	// flush sends what it has kept; idle is called when nothing more waits, at
	// intervals of idleEvery at most.
	flush(ctx context.Context)
	idle(ctx context.Context)
	close()
}

const (
	// queueLength is how many changes may wait for an exporter.
	queueLength = 8192
	// idleEvery is how often an exporter may send what it has kept.
	idleEvery = 100 * time.Millisecond
)

// Observer hands what the engine does to exporters. The zero value and nil are
// observers without any.
type Observer struct {
	pumps   []*pump
	metrics bool
	log     *slog.Logger
}

var _ engine.Listener = (*Observer)(nil)

// Listener returns the observer for engine.Options, nil if nothing is exported.
func (o *Observer) Listener() engine.Listener {
	if !o.On() {
		return nil
	}
	return o
}

// On reports whether anything is exported.
func (o *Observer) On() bool { return o != nil && len(o.pumps) > 0 }

// Measures reports whether gauges are wanted (see Sample).
func (o *Observer) Measures() bool { return o.On() && o.metrics }

// Changed implements engine.Listener.
func (o *Observer) Changed(c engine.Change) {
	for _, p := range o.pumps {
		p.put(item{change: &c})
	}
}

// Sample exports measurements.
func (o *Observer) Sample(ss ...Sample) {
	if o == nil {
		return
	}
	for _, p := range o.pumps {
		p.put(item{samples: ss})
	}
}

// Flush sends what has been observed until now, or gives up when ctx ends: for
// functions, whose process may be frozen after an invocation.
func (o *Observer) Flush(ctx context.Context) {
	if o == nil {
		return
	}
	var wg sync.WaitGroup
	for _, p := range o.pumps {
		wg.Add(1)
		go func() { defer wg.Done(); p.flush(ctx) }()
	}
	wg.Wait()
}

// Close flushes for a limited time and ends the exporters.
func (o *Observer) Close() {
	if o == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	o.Flush(ctx)
	for _, p := range o.pumps {
		p.stop()
	}
}

// item is one thing in a queue.
type item struct {
	change  *engine.Change
	samples []Sample
	flush   context.Context
	done    chan<- struct{}
}

// pump feeds one exporter.
type pump struct {
	to     exporter
	queue  chan item
	ended  chan struct{}
	log    *slog.Logger
	lost   atomic.Int64
	mu     sync.RWMutex
	closed bool
}

func newPump(to exporter, log *slog.Logger) *pump {
	p := &pump{to: to, queue: make(chan item, queueLength), ended: make(chan struct{}), log: log}
	go p.work()
	return p
}

// put never waits.
func (p *pump) put(it item) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return
	}
	select {
	case p.queue <- it:
	default:
		if p.lost.Add(1) == 1 {
			p.log.Warn("observations are made faster than they can be exported: some are lost", "exporter", p.to.name())
		}
	}
}

func (p *pump) flush(ctx context.Context) {
	done := make(chan struct{})
	p.mu.RLock()
	if p.closed {
		p.mu.RUnlock()
		return
	}
	select {
	case p.queue <- item{flush: ctx, done: done}:
		p.mu.RUnlock()
	case <-ctx.Done():
		p.mu.RUnlock()
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (p *pump) stop() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.queue)
	}
	p.mu.Unlock()
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C: // it waits for a collector; the process ends without it
	}
}

func (p *pump) work() {
	defer close(p.ended)
	defer p.to.close()
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for {
		select {
		case it, ok := <-p.queue:
			if !ok {
				return
			}
			switch {
			case it.done != nil:
				p.to.flush(it.flush)
				close(it.done)
			case it.change != nil:
				p.to.change(*it.change)
			default:
				p.to.samples(it.samples)
			}
		case <-tick.C:
			p.to.idle(context.Background())
		}
	}
}
