package workerhost_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operator"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
	"github.com/gustflow/gust/internal/workerhost"
)

const bash = "airflow.providers.standard.operators.bash.BashOperator"

// checked is a backend with a cancel flag.
type checked struct {
	*workertest.Backend
	wanted atomic.Bool
	checks atomic.Int64
	// afterClaim runs when a claim succeeded.
	afterClaim func()
}

func (c *checked) Claim(ctx context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	tc, err := c.Backend.Claim(ctx, d, who)
	if err == nil && c.afterClaim != nil {
		c.afterClaim()
	}
	return tc, err
}

func (c *checked) Check(context.Context, worker.Dispatch) error {
	switch n := c.checks.Add(1); {
	case n == 1:
		return fmt.Errorf("%w: no answer", airflow.ErrUnavailable) // must not end the task
	case c.wanted.Load():
		return nil
	}
	return &worker.SupersededError{Cause: "cleared by a test"}
}

// host returns a host over a backend in memory and a dispatch of a bash task.
func host(t *testing.T, command, fields string, change func(*workerhost.Options)) (*workerhost.Host, *checked, worker.Dispatch, *workertest.Log) {
	t.Helper()
	b := &checked{Backend: workertest.NewBackend()}
	b.wanted.Store(true)
	dag := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: bash, Kwargs: fmt.Sprintf(`{"bash_command": %q}`, command), Fields: fields})
	d := worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}, DispatchSeq: 1, Queue: "q"}
	b.Contexts[d] = workertest.Context(dag, "t")
	log := &workertest.Log{}
	o := workerhost.Options{
		Backend:   func(workerhost.Parts) (worker.Backend, error) { return b, nil },
		Operators: operator.Default(), CacheDir: t.TempDir(), CheckInterval: 10 * time.Millisecond,
		OpenLog: func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) { return log, nil },
	}
	if change != nil {
		change(&o)
	}
	h, err := workerhost.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, b, d, log
}

func TestRun(t *testing.T) {
	h, b, d, log := host(t, "echo hi; exit 0", "", nil)
	if err := h.Run(t.Context(), d, workerhost.Limit{}); err != nil {
		t.Fatal(err)
	}
	if r := b.Reports(d); len(r) != 1 || r[0].Outcome != worker.OutcomeSuccess || !strings.Contains(log.Text(), "hi") {
		t.Errorf("%+v\n%s", r, log.Text())
	}
}

func TestCancelFlag(t *testing.T) {
	h, b, d, log := host(t, "echo started; sleep 60", "", nil)
	b.wanted.Store(false)
	began := time.Now()
	err := h.Run(t.Context(), d, workerhost.Limit{})
	if !errors.Is(err, airflow.ErrSuperseded) || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if len(b.Reports(d)) != 0 || len(b.Yielded) != 1 {
		t.Errorf("reports %v, yielded %v", b.Reports(d), b.Yielded)
	}
	if !strings.Contains(log.Text(), "cleared by a test") {
		t.Errorf("log:\n%s", log.Text())
	}
}

func TestDeadline(t *testing.T) {
	h, b, d, _ := host(t, "sleep 60", `{"retries": 1}`, nil)
	began := time.Now()
	if err := h.Run(t.Context(), d, workerhost.Limit{Deadline: began.Add(time.Second), Spare: 800 * time.Millisecond, Cause: "lambda_deadline", Advice: "split it"}); err != nil {
		t.Fatal(err)
	}
	r := b.Reports(d)
	if len(r) != 1 || r[0].Outcome != worker.OutcomeFailed || !strings.HasPrefix(r[0].Error, "lambda_deadline: ") || !strings.HasSuffix(r[0].Error, "split it") {
		t.Errorf("%+v", r)
	}
	if time.Since(began) > 20*time.Second {
		t.Errorf("ended after %v", time.Since(began))
	}
}

func TestTooLong(t *testing.T) {
	h, b, d, log := host(t, "echo never", `{"execution_timeout": 3600.0}`, nil)
	err := h.Run(t.Context(), d, workerhost.Limit{Allowed: 14 * time.Minute, Advice: "use ECS"})
	if !errors.Is(err, airflow.ErrSuperseded) {
		t.Errorf("%v", err)
	}
	r := b.Reports(d)
	if len(r) != 1 || r[0].Outcome != worker.OutcomeFailedFinal || !strings.Contains(r[0].Error, "1h0m0s") || !strings.Contains(log.Text(), "use ECS") || strings.Contains(log.Text(), "never") {
		t.Errorf("%+v\n%s", r, log.Text())
	}
}

func TestHandBack(t *testing.T) {
	h, b, d, _ := host(t, "echo hi", "", func(o *workerhost.Options) { o.ClaimRetry = 200 * time.Millisecond })
	b.Fail["Claim"] = 1000
	err := h.Run(t.Context(), d, workerhost.Limit{})
	var back *workerhost.HandBack
	if !errors.As(err, &back) {
		t.Fatalf("%v is no HandBack", err)
	}
	b.Fail["Claim"] = 2 // a short one is ridden out
	if err := h.Run(t.Context(), d, workerhost.Limit{}); err != nil || len(b.Reports(d)) != 1 {
		t.Errorf("%v %v", err, b.Reports(d))
	}
	if err := h.Run(t.Context(), d, workerhost.Limit{}); err != nil && !errors.Is(err, airflow.ErrSuperseded) {
		t.Errorf("again: %v", err)
	}
}

// A panic outside of the operator must not lose the dispatch.
func TestPanicIsReported(t *testing.T) {
	h, b, d, _ := host(t, "echo hi", "", func(o *workerhost.Options) {
		o.OpenLog = func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) { panic("no log") }
	})
	err := h.Run(t.Context(), d, workerhost.Limit{})
	r := b.Reports(d)
	if err == nil || len(r) != 1 || r[0].Outcome != worker.OutcomeFailed || !strings.Contains(r[0].Error, "no log") {
		t.Errorf("%v %+v", err, r)
	}
	// Before the claim there is nothing to report: the message comes again.
	h, b, d, _ = host(t, "echo hi", "", nil)
	b.afterClaim = nil
	b.Contexts = nil
	func() {
		b.Backend = nil // Claim panics
		var back *workerhost.HandBack
		if err := h.Run(t.Context(), d, workerhost.Limit{}); !errors.As(err, &back) {
			t.Errorf("%v is no HandBack", err)
		}
	}()
}

// Several dispatches at once, as on a machine that polls.
func TestConcurrent(t *testing.T) {
	h, b, d, _ := host(t, "sleep 0.05", "", nil)
	tc := b.Contexts[d]
	errs := make(chan error, 4)
	var ds []worker.Dispatch
	for i := range 4 {
		dd := d
		dd.DispatchSeq = uint32(i + 10)
		c := *tc
		b.Contexts[dd] = &c
		ds = append(ds, dd)
	}
	for _, dd := range ds {
		go func() { errs <- h.Run(context.Background(), dd, workerhost.Limit{}) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
