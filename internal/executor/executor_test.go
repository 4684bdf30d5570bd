package executor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
)

func dispatch(i int, executor string) worker.Dispatch {
	return worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: airflow.TaskID(fmt.Sprint("t", i)), MapIndex: -1}, DispatchSeq: 1, Executor: executor}
}

func TestLocalBoundsWhatRunsAtOnce(t *testing.T) {
	var mu sync.Mutex
	running, most, done := 0, 0, 0
	all := make(chan struct{})
	l := NewLocal(3, func(context.Context, worker.Dispatch) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		for i := 0; i < 100; i++ {
			runtime.Gosched()
		}
		mu.Lock()
		running--
		if done++; done == 50 {
			close(all)
		}
		mu.Unlock()
	})
	for i := 0; i < 50; i++ {
		if err := l.Submit(t.Context(), []worker.Dispatch{dispatch(i, ""), dispatch(i, "")}); err != nil {
			t.Fatal(err)
		}
	}
	<-all
	l.Close()
	if most > 3 || done != 50 {
		t.Errorf("at most 3 at once and each dispatch once: saw %d at once, %d runs", most, done)
	}
	if err := l.Submit(t.Context(), []worker.Dispatch{dispatch(1, "")}); err == nil {
		t.Error("a closed executor took a dispatch")
	}
}

func TestCancel(t *testing.T) {
	started := make(chan struct{})
	var cause error
	l := NewSequential(func(ctx context.Context, d worker.Dispatch) {
		if d.Key.TaskID != "t0" {
			t.Errorf("%s ran although it was cancelled while it waited", d)
		}
		close(started)
		<-ctx.Done()
		cause = context.Cause(ctx)
	})
	if err := l.Submit(t.Context(), []worker.Dispatch{dispatch(0, ""), dispatch(1, "")}); err != nil {
		t.Fatal(err)
	}
	<-started
	l.Cancel(dispatch(1, ""), "cleared")
	if l.Observe(dispatch(1, "")) || !l.Observe(dispatch(0, "")) {
		t.Error("Observe does not tell what is here")
	}
	l.Cancel(dispatch(0, ""), "marked")
	l.Close()
	var c *Cancelled
	if !errors.As(cause, &c) || c.Cause != "marked" {
		t.Errorf("cause: %v", cause)
	}
}

func TestRouter(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{}
	put := func(name string) RunFunc {
		return func(_ context.Context, d worker.Dispatch) {
			mu.Lock()
			got[string(d.Key.TaskID)] = name
			mu.Unlock()
		}
	}
	r := NewRouter(func(_ context.Context, d worker.Dispatch, why string) {
		mu.Lock()
		got[string(d.Key.TaskID)] = why
		mu.Unlock()
	}, NewLocal(2, put("local")), NewSequential(put("sequential")))
	err := r.Submit(t.Context(), []worker.Dispatch{dispatch(0, ""), dispatch(1, "SequentialExecutor"), dispatch(2, "sequential"), dispatch(3, "EdgeExecutor"), dispatch(4, "KubernetesExecutor")})
	if err != nil {
		t.Fatal(err)
	}
	for {
		mu.Lock()
		n := len(got)
		mu.Unlock()
		if n == 5 {
			break
		}
		runtime.Gosched()
	}
	r.Close()
	want := map[string]string{"t0": "local", "t1": "sequential", "t2": "sequential",
		"t3": `executor "EdgeExecutor" is not available here; available: LocalExecutor, SequentialExecutor`,
		"t4": `KubernetesExecutor needs Kubernetes, which this version of Gust cannot run tasks on: give the task another executor (available: LocalExecutor, SequentialExecutor) or none`}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s went to %q, want %q", k, got[k], v)
		}
	}
}
