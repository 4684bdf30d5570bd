package workerhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Checker is a Backend that says cheaply whether a running dispatch is still
// wanted. The answer may be a second old.
type Checker interface {
	// Check returns an error that wraps airflow.ErrSuperseded if the dispatch must
	// stop. Other errors mean that it is not known.
	Check(ctx context.Context, d worker.Dispatch) error
}

// backend stands before the control plane: it knows the dispatches of this host.
type backend struct {
	worker.Backend
	h *Host

	mu       sync.Mutex
	sessions map[worker.Dispatch]*session
}

// session is one dispatch on this host.
type session struct {
	d     worker.Dispatch
	limit Limit
	gen   *generation

	mu       sync.Mutex
	claimed  bool
	sink     taskrunner.LogSink
	began    time.Time // of the first claim that failed
	stopPoll func()
}

func (s *session) isClaimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed
}

func bare(d worker.Dispatch) worker.Dispatch {
	d.Queue, d.Executor, d.Offer = "", "", worker.Offer{}
	return d
}

// open begins a dispatch; nil if it is under way here already. Its claim would
// succeed, because the claim of a process may be repeated by that process.
func (b *backend) open(d worker.Dispatch, limit Limit, g *generation) *session {
	s := &session{d: d, limit: limit, gen: g}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions[bare(d)] != nil {
		return nil
	}
	b.sessions[bare(d)] = s
	return s
}

func (b *backend) close(s *session) {
	b.mu.Lock()
	delete(b.sessions, bare(s.d))
	b.mu.Unlock()
	s.mu.Lock()
	stop := s.stopPoll
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (b *backend) session(d worker.Dispatch) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[bare(d)]
}

func (b *backend) logging(d worker.Dispatch, sink taskrunner.LogSink) {
	if s := b.session(d); s != nil {
		s.mu.Lock()
		s.sink = sink
		s.mu.Unlock()
	}
}

// Claim implements worker.Backend. A control plane that does not answer for
// ClaimRetry makes a HandBack; a task that may run longer than this host fails
// at once, with advice.
func (b *backend) Claim(ctx context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	tc, err := b.Backend.Claim(ctx, d, who)
	s := b.session(d)
	if s == nil {
		return tc, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if transient(err) {
		if s.began.IsZero() {
			s.began = time.Now()
		}
		if time.Since(s.began) >= b.h.o.ClaimRetry || ctx.Err() != nil {
			return nil, &HandBack{err}
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	s.claimed = true
	if allowed := s.limit.Allowed; allowed > 0 && tc.Task.ExecutionTimeout > allowed {
		return nil, b.refuse(ctx, s, tc)
	}
	if c, ok := b.Backend.(Checker); ok && s.stopPoll == nil {
		s.stopPoll = b.poll(context.WithoutCancel(ctx), c, s)
	}
	return tc, nil
}

// refuse fails a claimed dispatch that this host would have to cut short.
func (b *backend) refuse(ctx context.Context, s *session, tc *worker.TaskContext) error {
	why := fmt.Sprintf("execution_timeout of %v is longer than a task may run here (%v)", tc.Task.ExecutionTimeout, s.limit.Allowed)
	if s.limit.Advice != "" {
		why += ": " + s.limit.Advice
	}
	now := time.Now().UTC()
	if sink, err := b.h.o.OpenLog(s.d, tc); err == nil {
		_ = sink.WriteRecord(taskrunner.Record{Time: now, Level: taskrunner.LevelError, Logger: "task", Event: why})
		_ = sink.Close() // the report says it too
	}
	err := b.Finish(ctx, s.d, &worker.Report{Outcome: worker.OutcomeFailedFinal, EndDate: now, Error: why})
	return errors.Join(&worker.SupersededError{Cause: why}, err)
}

// poll reads the cancel flag until the returned function is called.
func (b *backend) poll(ctx context.Context, c Checker, s *session) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(b.h.o.CheckInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := c.Check(ctx, s.d)
			if !errors.Is(err, airflow.ErrSuperseded) {
				continue // unknown: the heartbeat decides
			}
			cause := "the dispatch was superseded"
			var sup *worker.SupersededError
			if errors.As(err, &sup) && sup.Cause != "" {
				cause = sup.Cause
			}
			s.gen.worker.Cancel(s.d, cause)
			return
		}
	}()
	return func() { cancel(); <-done }
}

// Yield passes on what the worker asks of backends that have it.
func (b *backend) Yield(ctx context.Context, d worker.Dispatch, who worker.Identity) error {
	if y, ok := b.Backend.(interface {
		Yield(context.Context, worker.Dispatch, worker.Identity) error
	}); ok {
		return y.Yield(ctx, d, who)
	}
	return nil
}

func transient(err error) bool {
	return errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrThrottled)
}

// limited has callbacks end before the host's deadline.
func (b *backend) limited(c taskrunner.Callbacks) taskrunner.Callbacks { return limited{b, c} }

type limited struct {
	b     *backend
	inner taskrunner.Callbacks
}

// reportTime is what callbacks leave of the time before the deadline.
const reportTime = 5 * time.Second

// Run implements taskrunner.Callbacks.
func (l limited) Run(ctx context.Context, e taskrunner.CallbackEvent) {
	if at := l.deadline(e); !at.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, at.Add(-reportTime), errors.New("the time limit of the worker left no more time for callbacks"))
		defer cancel()
	}
	l.inner.Run(ctx, e)
}

// deadline is that of the dispatch whose task the event concerns.
func (l limited) deadline(e taskrunner.CallbackEvent) (at time.Time) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	for d, s := range l.b.sessions {
		if e.Context != nil && e.Context.Task != nil && d.Key.DagID == e.Context.Run.DagID && d.Key.RunID == e.Context.Run.RunID &&
			d.Key.TaskID == e.Context.Task.TaskID && d.Key.MapIndex == e.MapIndex {
			return s.limit.Deadline
		}
	}
	return at
}

// masked has the secrets of what tasks read masked before they see it.
type masked struct {
	*backend
	m *mask.Masker
}

// GetVariable implements worker.Reader.
func (b masked) GetVariable(ctx context.Context, key string) (airflow.Variable, error) {
	v, err := b.backend.GetVariable(ctx, key)
	if err == nil {
		b.m.AddVariable(v)
	}
	return v, err
}

// GetConnection implements worker.Reader.
func (b masked) GetConnection(ctx context.Context, id string) (airflow.Connection, error) {
	c, err := b.backend.GetConnection(ctx, id)
	if err == nil {
		b.m.AddConnection(c)
	}
	return c, err
}

// switchable are the bundles of the present generation.
type switchable struct {
	mu  sync.Mutex
	now Bundles
}

func (s *switchable) set(b Bundles) {
	s.mu.Lock()
	s.now = b
	s.mu.Unlock()
}

// Materialize implements Bundles.
func (s *switchable) Materialize(ctx context.Context, hash string) (string, error) {
	s.mu.Lock()
	b := s.now
	s.mu.Unlock()
	if b == nil {
		return "", errors.New("this worker has no store of bundles")
	}
	return b.Materialize(ctx, hash)
}
