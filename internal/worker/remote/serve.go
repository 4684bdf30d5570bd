package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// ServeOptions say what a worker pulls.
type ServeOptions struct {
	Queues []string
	// Concurrency is how many tasks run at once. Default 16.
	Concurrency int
	// StopAfter is how long running tasks may go on once the worker is told to
	// stop; 0 = as long as they take.
	StopAfter time.Duration
	// Run executes one dispatch to its end.
	Run func(ctx context.Context, d worker.Dispatch) error
	Log *slog.Logger
}

// errStopping is the cause with which tasks are ended that a stopping worker
// waited for in vain.
var errStopping = errors.New("the worker is being stopped")

// Serve pulls dispatches and runs them until stop is closed: then it pulls no more
// and returns when what runs has ended. The end of ctx ends the tasks as well. A
// server that does not answer is waited for; one that refuses the token is an error.
func (c *Client) Serve(ctx context.Context, stop <-chan struct{}, o ServeOptions) error {
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	tasks, endTasks := context.WithCancelCause(ctx)
	defer endTasks(nil)
	pulling, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-pulling.Done():
		}
	}()
	free := make(chan struct{}, o.Concurrency)
	for range o.Concurrency {
		free <- struct{}{}
	}
	var running sync.WaitGroup
	err := c.pullAll(pulling, free, o, func(d worker.Dispatch) {
		running.Add(1)
		go func() {
			defer running.Done()
			defer func() { free <- struct{}{} }()
			if err := o.Run(tasks, d); err != nil && !errors.Is(err, airflow.ErrSuperseded) && !errors.Is(err, airflow.ErrNotFound) {
				o.Log.Error("dispatch not reported", "dispatch", d.String(), "err", err)
			}
		}()
	})
	if o.StopAfter > 0 {
		t := time.AfterFunc(o.StopAfter, func() { endTasks(errStopping) })
		defer t.Stop()
	}
	running.Wait()
	return err
}

func (c *Client) pullAll(ctx context.Context, free chan struct{}, o ServeOptions, start func(worker.Dispatch)) error {
	pause := 500 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-free:
		}
		places := 1
	more:
		for {
			select {
			case <-free:
				places++
			default:
				break more
			}
		}
		ds, err := c.Pull(ctx, o.Queues, places, MaxWait)
		for range places - len(ds) {
			free <- struct{}{}
		}
		for _, d := range ds {
			start(d)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause = 500 * time.Millisecond
			continue
		case !errors.Is(err, airflow.ErrUnavailable) && !errors.Is(err, airflow.ErrThrottled):
			return fmt.Errorf("pull from %s: %w", c.base, err)
		}
		o.Log.Warn("the server does not answer, trying again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, 15*time.Second)
	}
}

// logInterval is how often the lines of a running task are sent; logBytes is how
// much is sent at once at most.
const (
	logInterval = time.Second
	logBytes    = 1 << 20
	// logKept bounds what waits for a server that does not answer.
	logKept = 16 << 20
)

// OpenLog opens the log of a dispatch: its lines are sent to the server about
// every second.
func (c *Client) OpenLog(d worker.Dispatch, tc *worker.TaskContext) (taskrunner.LogSink, error) {
	l := &logStream{c: c, key: d.Key, try: tc.TryNumber, stop: make(chan struct{}), done: make(chan struct{})}
	go l.work()
	return taskrunner.NewJSONLog(l), nil
}

// logStream sends lines; it is the writer of a JSONLog.
type logStream struct {
	c   *Client
	key airflow.TaskInstanceKey
	try int

	mu      sync.Mutex
	buf     bytes.Buffer
	dropped int
	once    sync.Once
	stop    chan struct{}
	done    chan struct{}
}

// Write implements io.Writer; p is whole lines.
func (l *logStream) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len()+len(p) > logKept {
		l.dropped++
		return len(p), nil
	}
	return l.buf.Write(p)
}

func (l *logStream) work() {
	defer close(l.done)
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			_ = l.send(10 * time.Second) // kept, and sent with the next
		}
	}
}

// send sends what waits, in pieces.
func (l *logStream) send(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		l.mu.Lock()
		if l.dropped > 0 {
			fmt.Fprintf(&l.buf, `{"timestamp":%q,"level":"warning","event":"Log truncated: %d lines left out here, the server did not take them in time","logger":"gust.tasklog"}`+"\n",
				time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), l.dropped)
			l.dropped = 0
		}
		b := l.buf.Bytes()
		if len(b) > logBytes {
			if i := bytes.LastIndexByte(b[:logBytes], '\n'); i >= 0 {
				b = b[:i+1]
			} else {
				b = b[:bytes.IndexByte(b, '\n')+1] // one long line
			}
		}
		b = bytes.Clone(b)
		l.mu.Unlock()
		if len(b) == 0 {
			return nil
		}
		if err := l.c.AppendLog(ctx, l.key, l.try, b); err != nil {
			return err
		}
		l.mu.Lock()
		l.buf.Next(len(b))
		l.mu.Unlock()
	}
}

// Close sends the rest; the report follows.
func (l *logStream) Close() error {
	var err error
	l.once.Do(func() {
		close(l.stop)
		<-l.done
		for attempt := 0; attempt < 5; attempt++ {
			if err = l.send(30 * time.Second); err == nil || !errors.Is(err, airflow.ErrUnavailable) {
				return
			}
			time.Sleep(time.Duration(attempt+1) * 500 * time.Millisecond)
		}
	})
	return err
}
