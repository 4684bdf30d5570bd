package awsworker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operator"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/queue/memqueue"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
	"github.com/gustflow/gust/internal/workerhost"
)

// once refuses what has been reported, as the store does.
type once struct{ *workertest.Backend }

func (o once) Claim(ctx context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	if len(o.Reports(d)) > 0 {
		return nil, &worker.SupersededError{Cause: "it has been reported"}
	}
	return o.Backend.Claim(ctx, d, who)
}

// polling is a worker on queues in memory, with n bash tasks in each.
func polling(t *testing.T, n int, command string) (w *Worker, b *workertest.Backend, q *memqueue.Queues, ds []worker.Dispatch) {
	t.Helper()
	b = workertest.NewBackend()
	q = memqueue.New(nil)
	dag := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: "airflow.providers.standard.operators.bash.BashOperator", Kwargs: fmt.Sprintf(`{"bash_command": %q}`, command), Fields: `{"retries": 1}`})
	for _, url := range []string{"a", "b"} {
		q.Create(url, memqueue.Options{})
		for i := range n {
			d := worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(url), TaskID: "t", MapIndex: i}, DispatchSeq: 1, Queue: url}
			b.Contexts[d] = workertest.Context(dag, "t")
			ds = append(ds, d)
			body, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if err := q.Send(t.Context(), url, []queue.Outgoing{{Body: string(body)}, {Body: string(body)}}); err != nil { // everything comes twice
				t.Fatal(err)
			}
		}
	}
	h, err := workerhost.New(workerhost.Options{
		Backend:   func(workerhost.Parts) (worker.Backend, error) { return once{b}, nil },
		Operators: operator.Default(), CacheDir: t.TempDir(),
		OpenLog: func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) { return &workertest.Log{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return &Worker{Host: h}, b, q, ds
}

func empty(q *memqueue.Queues, urls ...string) bool {
	for _, u := range urls {
		if v, f, d := q.Len(u); v+f+d > 0 {
			return false
		}
	}
	return true
}

func TestPoll(t *testing.T) {
	w, b, q, ds := polling(t, 8, "true")
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		done <- w.Poll(t.Context(), stop, PollOptions{Queues: q, URLs: []string{"a", "b"}, Concurrency: 4, Log: slog.New(slog.DiscardHandler)})
	}()
	for end := time.Now().Add(30 * time.Second); !empty(q, "a", "b") && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !empty(q, "a", "b") {
		t.Error("messages are left")
	}
	for _, d := range ds {
		if r := b.Reports(d); len(r) != 1 || r[0].Outcome != worker.OutcomeSuccess {
			t.Errorf("%s: %+v", d, r)
		}
	}
}

// A worker that is told to stop lets tasks end for a while, and then ends them.
func TestPollStops(t *testing.T) {
	w, b, q, ds := polling(t, 1, "sleep 60")
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		done <- w.Poll(t.Context(), stop, PollOptions{Queues: q, URLs: []string{"a"}, StopAfter: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	}()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, inFlight, _ := q.Len("a"); inFlight > 0 {
			break
		}
	}
	close(stop)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not stop")
	}
	if r := b.Reports(ds[0]); len(r) != 1 || r[0].Outcome != worker.OutcomeFailed || r[0].Error != errStopping.Error() {
		t.Errorf("%+v", r)
	}
}

func TestPollUnknownQueue(t *testing.T) {
	w, _, q, _ := polling(t, 0, "true")
	err := w.Poll(t.Context(), nil, PollOptions{Queues: q, URLs: []string{"a", "nowhere"}, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
