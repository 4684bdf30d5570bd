package engine

import (
	"context"
	"sync"
	"time"
)

// LoopOptions tune Run.
type LoopOptions struct {
	// Steppers is how many runs are stepped at once. Default 4.
	Steppers int
	// SweepEvery is the pause between sweeps. Default 60 s.
	SweepEvery time.Duration
	// Idle bounds how long the loop sleeps when nothing is due: the backstop for
	// runs created by other processes. Default 30 s.
	Idle time.Duration
}

// Run is the loop of a process that is up all the time: what EventBridge and SQS
// do on AWS. It returns when ctx ends, after the steps in progress.
func (e *Engine) Run(ctx context.Context, o LoopOptions) {
	if o.Steppers <= 0 {
		o.Steppers = 4
	}
	if o.SweepEvery <= 0 {
		o.SweepEvery = time.Minute
	}
	if o.Idle <= 0 {
		o.Idle = 30 * time.Second
	}
	work := context.WithoutCancel(ctx) // a step that has begun is finished
	var wg sync.WaitGroup
	for i := 0; i < o.Steppers; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-ctx.Done():
					return
				case <-e.signal:
				}
				for ctx.Err() == nil && e.Work(work) {
				}
				e.tickle()
			}
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		e.ticks(ctx, o)
	}()
	e.notify()
	wg.Wait()
}

// tickle makes the ticker look again at what is due next.
func (e *Engine) tickle() {
	select {
	case e.replan <- struct{}{}:
	default:
	}
}

// Wake makes the loop look at once for runs that another process created or
// changed.
func (e *Engine) Wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}

// ticks sleeps until something is due by time.
func (e *Engine) ticks(ctx context.Context, o LoopOptions) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	lastSweep, lastDiscover := e.now(), e.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.replan:
		case <-e.woken:
			if err := e.Discover(ctx); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "unfinished runs not read", "err", err)
			}
		}
		if ctx.Err() != nil {
			return
		}
		now := e.now()
		sleep, floor := o.Idle, 10*time.Millisecond
		next, err := e.NextTick(ctx)
		if err == nil && !next.IsZero() && !next.After(now) {
			res, terr := e.Tick(ctx, 4)
			if terr != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "tick failed", "err", terr)
			}
			if terr != nil || res.Delayed > 0 {
				floor = time.Second // a due DAG that cannot be planned must not spin
			}
			if res.More {
				e.tickle()
			}
			next, err = e.NextTick(ctx)
		}
		if err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "what is due could not be read", "err", err)
			sleep = time.Second
		}
		if !next.IsZero() {
			sleep = min(sleep, max(next.Sub(e.now()), floor))
		}
		if now.Sub(lastSweep) >= o.SweepEvery {
			lastSweep = now
			if err := e.Sweep(ctx); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "sweep failed", "err", err)
			}
		}
		if now.Sub(lastDiscover) >= o.Idle {
			lastDiscover = now
			if err := e.Discover(ctx); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "unfinished runs not read", "err", err)
			}
		}
		timer.Reset(sleep)
	}
}
