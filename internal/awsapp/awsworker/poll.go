package awsworker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/workerhost"
)

// PollOptions say what a polling worker takes. Queues and URLs are required.
type PollOptions struct {
	Queues queue.Queues
	// URLs are the queues to take messages from.
	URLs []string
	// Concurrency is how many tasks run at once. Default 16, Airflow's
	// worker_concurrency.
	Concurrency int
	// StopAfter is how long running tasks may go on once the worker is told to stop;
	// then they are ended and reported as failed, so that they are retried. 0 = as
	// long as they take.
	StopAfter time.Duration
	Log       *slog.Logger
}

// errStopping is the cause with which tasks are ended that a stopping worker
// waited for in vain.
var errStopping = errors.New("the worker is being stopped")

// Poll takes messages from queues and runs them until stop is closed: then it
// takes no more and returns when what runs has ended. The end of ctx ends the
// tasks as well.
func (w *Worker) Poll(ctx context.Context, stop <-chan struct{}, o PollOptions) error {
	if len(o.URLs) == 0 {
		return errors.New("a worker needs at least one queue")
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	tasks, cancelTasks := context.WithCancelCause(ctx)
	defer cancelTasks(nil)
	polling, cancelPolling := context.WithCancel(ctx)
	defer cancelPolling()
	go func() {
		select {
		case <-stop:
			cancelPolling()
		case <-polling.Done():
		}
	}()
	free := make(chan struct{}, o.Concurrency)
	for range o.Concurrency {
		free <- struct{}{}
	}
	var running, pollers sync.WaitGroup
	errs := make([]error, len(o.URLs))
	for i, url := range o.URLs {
		pollers.Add(1)
		go func() {
			defer pollers.Done()
			errs[i] = w.pollQueue(polling, tasks, url, free, &running, o)
			if errs[i] != nil {
				cancelPolling() // a queue that cannot be read at all: say so
			}
		}()
	}
	pollers.Wait()
	if o.StopAfter > 0 {
		t := time.AfterFunc(o.StopAfter, func() { cancelTasks(errStopping) })
		defer t.Stop()
	}
	running.Wait()
	return errors.Join(errs...)
}

// pollQueue receives from one queue while a place is free.
func (w *Worker) pollQueue(polling, tasks context.Context, url string, free chan struct{}, running *sync.WaitGroup, o PollOptions) error {
	wait := time.Second
	for {
		// One place is held while polling; more are taken if they are free.
		select {
		case <-polling.Done():
			return nil
		case <-free:
		}
		places := 1
		for places < queue.MaxBatch && places <= len(free) { // leave some for other queues
			select {
			case <-free:
				places++
				continue
			default:
			}
			break
		}
		ms, err := o.Queues.Receive(polling, url, queue.ReceiveOptions{Max: places, Wait: queue.MaxWait})
		for range places - len(ms) {
			free <- struct{}{}
		}
		switch {
		case polling.Err() != nil && len(ms) == 0:
			return nil
		case errors.Is(err, airflow.ErrNotFound), errors.Is(err, airflow.ErrNotAllowed):
			return fmt.Errorf("queue %s: %w", url, err)
		case err != nil:
			o.Log.Warn("queue not read, trying again", "queue", url, "err", err)
			select {
			case <-polling.Done():
				return nil
			case <-time.After(wait):
			}
			wait = min(2*wait, 30*time.Second)
			continue
		}
		wait = time.Second
		for _, m := range ms {
			running.Add(1)
			go func() {
				defer running.Done()
				defer func() { free <- struct{}{} }()
				w.polled(tasks, url, m, o)
			}()
		}
	}
}

// polled runs a message and deletes it, or has it come again.
func (w *Worker) polled(ctx context.Context, url string, m queue.Message, o PollOptions) {
	outcome := w.Message(ctx, m.Body, workerhost.Limit{}, o.Log)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var err error
	if outcome == Redeliver {
		err = o.Queues.ChangeVisibility(ctx, url, m.Receipt, 10*time.Second)
	} else {
		err = o.Queues.Delete(ctx, url, []string{m.Receipt})
	}
	if err != nil && !errors.Is(err, queue.ErrReceipt) {
		o.Log.Warn("message not ended: it comes again and is dropped", "queue", url, "err", err)
	}
}
