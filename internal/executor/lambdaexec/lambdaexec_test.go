package lambdaexec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/worker"
)

// sent is a queue.Queues that remembers what is sent.
type sent struct {
	queue.Queues
	bodies map[string][]string
	err    error
}

func (s *sent) Send(_ context.Context, url string, ms []queue.Outgoing) error {
	for _, m := range ms {
		s.bodies[url] = append(s.bodies[url], m.Body)
	}
	return s.err
}

func dispatch(i int, queue, exec string) worker.Dispatch {
	return worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: airflow.TaskID(fmt.Sprint("t", i)), MapIndex: -1}, DispatchSeq: 1, Queue: queue, Executor: exec}
}

func TestSubmit(t *testing.T) {
	q := &sent{bodies: map[string][]string{}}
	refused := map[string]string{}
	refuse := func(_ context.Context, d worker.Dispatch, why string) { refused[string(d.Key.TaskID)] = why }
	x := New(Options{Queues: q, URLs: map[string]string{"default": "u1", "python": "u2"}, Refuse: refuse})
	r := executor.NewRouter(refuse, x)
	ds := []worker.Dispatch{
		dispatch(0, "", ""), dispatch(1, "python", "LambdaExecutor"), dispatch(2, "default", "CeleryExecutor"),
		dispatch(3, "nowhere", ""), dispatch(4, "python", "airflow.providers.amazon.aws.executors.aws_lambda.lambda_executor.AwsLambdaExecutor"),
		dispatch(5, "", "KubernetesExecutor"), dispatch(6, "", "LocalExecutor"),
	}
	if err := r.Submit(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string][]int{"u1": {0, 2}, "u2": {1, 4}} {
		if len(q.bodies[url]) != len(want) {
			t.Fatalf("%s: %q", url, q.bodies[url])
		}
		for i, n := range want {
			got, err := ParseMessage(q.bodies[url][i])
			if err != nil || got != ds[n] {
				t.Errorf("%s message %d: %+v, %v; want %+v", url, i, got, err, ds[n])
			}
		}
	}
	for task, parts := range map[string][]string{"t3": {`"nowhere"`, "default, python"}, "t5": {"Kubernetes", "LambdaExecutor"}, "t6": {`"LocalExecutor"`}} {
		for _, p := range parts {
			if !strings.Contains(refused[task], p) {
				t.Errorf("refusal of %s: %q lacks %s", task, refused[task], p)
			}
		}
	}
	if len(refused) != 3 {
		t.Errorf("refused: %v", refused)
	}
	if r.Observe(ds[0]) {
		t.Error("a queue observes nothing")
	}
	r.Cancel(ds[0], "cleared")
	q.err = errors.New("no route")
	if err := r.Submit(t.Context(), ds[:1]); !errors.Is(err, q.err) {
		t.Errorf("a send that failed: %v", err)
	}
}

// A burst goes past the queue; what is not accepted goes through it.
func TestBurst(t *testing.T) {
	q := &sent{bodies: map[string][]string{}}
	var mu sync.Mutex
	invoked := map[string]int{}
	x := New(Options{
		Queues: q, URLs: map[string]string{"default": "u1", "ecs": "u2"}, Functions: map[string]string{"default": "f"}, BurstAbove: 3,
		Invoke: func(_ context.Context, f string, payload []byte) error {
			mu.Lock()
			defer mu.Unlock()
			d, err := ParseMessage(string(payload))
			if err != nil || f != "f" {
				t.Errorf("%s: %v", f, err)
			}
			if d.Key.TaskID == "t7" {
				return errors.New("throttled")
			}
			invoked[string(d.Key.TaskID)]++
			return nil
		},
	})
	var ds []worker.Dispatch
	for i := range 40 {
		ds = append(ds, dispatch(i, "default", ""))
	}
	for i := range 5 {
		ds = append(ds, dispatch(100+i, "ecs", ""))
	}
	if err := x.Submit(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	if len(invoked) != 39 || len(q.bodies["u1"]) != 1 || !strings.Contains(q.bodies["u1"][0], `"t7"`) || len(q.bodies["u2"]) != 5 {
		t.Errorf("%d invoked, queues %q", len(invoked), q.bodies)
	}
	if err := x.Submit(t.Context(), ds[:3]); err != nil || len(q.bodies["u1"]) != 4 {
		t.Errorf("three are no burst: %v %q", err, q.bodies["u1"])
	}
}

func TestParseMessage(t *testing.T) {
	for _, body := range []string{"", "{}", "x", `{"key":{"dag_id":"d","run_id":"r","task_id":"t","map_index":-1}}`} {
		if _, err := ParseMessage(body); err == nil {
			t.Errorf("%q is accepted", body)
		}
	}
}
