package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

// listener keeps what it is told.
type listener struct {
	mu      sync.Mutex
	changes []engine.Change
}

func (l *listener) Changed(c engine.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
}

// lines is what was told of an instance, or of the run for "".
func (l *listener) lines(task string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.changes {
		if task == "" && c.From != c.Run.State {
			out = append(out, fmt.Sprintf("%s>%s", c.From, c.Run.State))
		}
		for _, t := range c.Tasks {
			if string(t.TaskID) == task {
				out = append(out, fmt.Sprintf("%s>%s#%d.%d", t.From, t.To, t.TryNumber, t.DispatchSeq))
			}
		}
	}
	return out
}

// last returns what was told of an instance when it took a state.
func (l *listener) last(t *testing.T, task airflow.TaskID, to airflow.TIState) (engine.Change, engine.TaskChange) {
	t.Helper()
	for _, c := range slices.Backward(l.changes) {
		for _, tc := range slices.Backward(c.Tasks) {
			if tc.TaskID == task && tc.To == to {
				return c, tc
			}
		}
	}
	t.Fatalf("nothing was told of %s becoming %s", task, to)
	panic("unreachable")
}

func TestListenerIsToldOfEveryTransition(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		l := &listener{}
		h.Listener = l
		h.Restart()
		register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{
			{ID: "a", Fields: map[string]any{"retries": 1, "retry_delay": 60.0}}, {ID: "b", Upstream: []string{"a"}}, {ID: "c", Upstream: []string{"b"}}}})
		k := trigger(t, h, "d", "r")
		pick := func(d worker.Dispatch, tc *worker.TaskContext) enginetest.Outcome {
			h.Clock.Advance(3 * time.Second)
			if d.Key.TaskID == "a" && tc.TryNumber == 1 || d.Key.TaskID == "b" {
				return enginetest.Fail()
			}
			return enginetest.Success(nil)
		}
		runAll(t, h, pick)
		at, ok := h.Engine.NextWake()
		if h.Outbox != nil {
			at, ok = h.Outbox.Next()
		}
		if !ok {
			t.Fatal("nothing waits for the retry")
		}
		h.Clock.Set(at.Add(time.Minute))
		if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if h.Outbox != nil {
			for _, m := range h.Outbox.Take(h.Clock.Now()) {
				h.Engine.Handle(t.Context(), []engine.Delivery{{Message: m, ReceiveCount: 1}})
			}
		}
		runAll(t, h, pick)
		wantStates(t, h, k, airflow.RunFailed, nil)
		for task, want := range map[string]string{
			"": "queued>running running>failed",
			"a": "none>scheduled#1.0 scheduled>queued#1.1 queued>running#1.1 running>up_for_retry#1.1 " +
				"up_for_retry>scheduled#2.1 scheduled>queued#2.2 queued>running#2.2 running>success#2.2",
			"b": "none>scheduled#1.0 scheduled>queued#1.1 queued>running#1.1 running>failed#1.1",
			"c": "none>upstream_failed#0.0",
		} {
			if got := strings.Join(l.lines(task), " "); got != want {
				t.Errorf("told of %q\n got %s\nwant %s", task, got, want)
			}
		}
		c, failed := l.last(t, "b", airflow.TIFailed)
		if d := failed.EndDate.Sub(failed.StartDate); d != 3*time.Second || failed.Error != "boom" || failed.Operator == "" || failed.Pool != "default_pool" {
			t.Errorf("failed instance: %v long, %+v", d, failed)
		}
		if c.Reason == "" || c.Run.EndDate == nil || c.FirstStart.IsZero() || c.DAG == nil {
			t.Errorf("end of the run: %+v", c)
		}
		if _, running := l.last(t, "b", airflow.TIRunning); !running.HopKnown || running.Hop != 0 {
			t.Errorf("hop of b: %v %t, want 0: the clock stood still", running.Hop, running.HopKnown)
		}
	})
}

// A scheduler of the cloud learns of a claim with its report: what the worker
// measured counts, not when the scheduler hears of it.
func TestListenerKnowsTheWorkersTimes(t *testing.T) {
	d := memkv.New(memkv.Options{})
	defer d.Close()
	h := enginetest.NewShared(d, engine.Config{Parallelism: -1, DefaultPoolSlots: -1}, nil)
	l := &listener{}
	h.Listener = l
	h.Restart()
	defer h.Engine.Close()
	tool := h.NewEngine(true)
	defer tool.Close()
	h.Backend = engine.NewBackend(tool, nil, nil, nil)
	register(t, h, enginetest.Chain("d", 2))
	trigger(t, h, "d", "r")
	deliver := func() {
		for _, m := range h.Outbox.Take(h.Clock.Now()) {
			for again := range 2 { // at least once
				if failed := h.Engine.Handle(t.Context(), []engine.Delivery{{Message: m, ReceiveCount: 1 + again}}); len(failed) > 0 {
					t.Fatalf("message %+v failed", m)
				}
			}
		}
	}
	deliver()
	for range 2 {
		ds := h.Queue.Take()
		if len(ds) == 0 {
			t.Fatal("nothing was dispatched")
		}
		h.Clock.Advance(40 * time.Millisecond) // the queue
		tc, err := h.Backend.Claim(t.Context(), ds[0], h.Who)
		if err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(10 * time.Second)
		if err := h.Finish(t.Context(), ds[0], tc, enginetest.Success(nil)); err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(30 * time.Millisecond) // the queue
		deliver()
	}
	first, second := l.changes[0].Tasks[0].TaskID, airflow.TaskID("")
	for _, c := range l.changes {
		for _, tc := range c.Tasks {
			if tc.TaskID != first {
				second = tc.TaskID
			}
		}
	}
	_, running := l.last(t, second, airflow.TIRunning)
	if !running.HopKnown || running.Hop != 70*time.Millisecond {
		t.Errorf("hop %v %t, want 70ms: 30 to the scheduler, 40 to the worker", running.Hop, running.HopKnown)
	}
	_, done := l.last(t, second, airflow.TISuccess)
	if got := done.EndDate.Sub(done.StartDate); got != 10*time.Second {
		t.Errorf("it ran for %v, want 10s", got)
	}
	if got := done.StartDate.Sub(done.QueuedWhen); got != 40*time.Millisecond {
		t.Errorf("it was queued for %v, want 40ms", got)
	}
	if _, r := l.last(t, first, airflow.TIRunning); r.HopKnown {
		t.Errorf("a first task has a hop of %v", r.Hop)
	}
	if got := l.lines(string(second)); len(got) != 4 {
		t.Errorf("told of %s: %v, want each transition once", second, got)
	}
}

type panicking struct{}

func (panicking) Changed(engine.Change) { panic("a listener's bug") }

func TestListenerCannotFailAStep(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		h.Listener = panicking{}
		h.Restart()
		register(t, h, enginetest.Chain("d", 2))
		k := trigger(t, h, "d", "r")
		runAll(t, h, enginetest.Succeed)
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}
