package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/localstack/e2e/faultproxy"
)

// chainTrace is what functions ask of AWS about one run of a chain, in order.
type chainTrace struct {
	mu    sync.Mutex
	dag   string
	calls []tracedCall
}

type tracedCall struct {
	name string // function, service and operation
	task string // that the call names, of a worker; else ""
}

// note takes a call whose body names the run's DAG: what is read about pools, or to
// warm a new environment up, differs from run to run on one and the same cloud.
func (c *chainTrace) note(function, service, operation string, body []byte) {
	if !bytes.Contains(body, []byte(c.dag)) {
		return
	}
	function = strings.TrimSuffix(strings.TrimPrefix(function, prefix+"-"), "-default")
	call := tracedCall{name: function + " " + strings.ToLower(service) + "." + operation}
	if function == awsenv.Worker {
		for i := chainLength - 1; i >= 0 && call.task == ""; i-- {
			if id := fmt.Sprintf("task%02d", i); bytes.Contains(body, []byte(id)) {
				call.task = id
			}
		}
	}
	c.mu.Lock()
	c.calls = append(c.calls, call)
	c.mu.Unlock()
}

// chainLength and edge: the first and last tasks are left out, at which runs begin
// and end.
const chainLength, edge = 12, 2

// perTask is how often each call is made for a task in the middle of the chain: the
// median over tasks, because a scheduler's last call about one task and the first
// worker call about the next are made at the same time.
func (c *chainTrace) perTask() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := map[string]int{} // of each task, the first call of its worker
	for i, call := range c.calls {
		if _, ok := first[call.task]; !ok && call.task != "" {
			first[call.task] = i
		}
	}
	var parts []map[string]int
	all := map[string]bool{}
	for i := edge; i < chainLength-edge; i++ {
		from, ok1 := first[fmt.Sprintf("task%02d", i)]
		to, ok2 := first[fmt.Sprintf("task%02d", i+1)]
		if !ok1 || !ok2 || to < from {
			return map[string]int{"not a chain": i}
		}
		n := map[string]int{}
		for _, call := range c.calls[from:to] {
			n[call.name]++
			all[call.name] = true
		}
		parts = append(parts, n)
	}
	out := map[string]int{}
	for name := range all {
		var counts []int
		for _, p := range parts {
			counts = append(counts, p[name])
		}
		slices.Sort(counts)
		if m := counts[len(counts)/2]; m > 0 {
			out[name] = m
		}
	}
	return out
}

// TestCallTrace: for the same DAG the functions ask the same of LocalStack and of the
// emulation that `make bench-aws` measures with, call by call for each task. It runs
// alone, so that no message is handled together with another run's.
func TestCallTrace(t *testing.T) {
	s := need(t)
	var text strings.Builder
	fmt.Fprintf(&text, "traced_TAG:\n%s  tasks:\n", head)
	for i := range chainLength {
		fmt.Fprintf(&text, "    - {task_id: task%02d, operator: BashOperator, bash_command: 'echo x'", i)
		if i > 0 {
			fmt.Fprintf(&text, ", dependencies: [task%02d]", i-1)
		}
		text.WriteString("}\n")
	}
	s.upload(t, map[string]string{"traced_TAG.yml": text.String()})
	s.known(t, "traced_TAG")
	s.trigger(t, "traced_TAG").ends(endWithin, success, chainEnd()) // warms the functions up

	real := &chainTrace{dag: s.fill("traced_TAG")}
	var mu sync.Mutex
	on := true
	s.proxy.Add(faultproxy.Rule{Every: 1, Act: faultproxy.Throttle, Match: func(c faultproxy.Call) bool {
		mu.Lock()
		defer mu.Unlock()
		if on && c.Function != "" {
			real.note(c.Function, c.Service, c.Action, c.Body)
		}
		return false // it only looks on
	}})
	s.trigger(t, "traced_TAG").ends(endWithin, success, chainEnd())
	mu.Lock()
	on = false
	mu.Unlock()

	emulated := &chainTrace{dag: real.dag}
	s.emulate(t, emulated)
	got, want := real.perTask(), emulated.perTask()
	if !maps.Equal(got, want) {
		t.Errorf("for each task LocalStack is asked\n%sand the emulation\n%s", awsemu.FormatOperations(got), awsemu.FormatOperations(want))
	}
	if want["worker dynamodb.UpdateItem"]+want["worker dynamodb.PutItem"] == 0 || want["worker sqs.SendMessageBatch"]+want["worker sqs.SendMessage"] == 0 {
		t.Errorf("this is not the trace of a chain:\n%s", awsemu.FormatOperations(want))
	}
	t.Logf("calls for each task of a chain, on LocalStack and emulated:\n%s", awsemu.FormatOperations(got))
}

func chainEnd() string {
	var names []string
	for i := range chainLength {
		names = append(names, fmt.Sprintf("task%02d=success/1", i))
	}
	return strings.Join(names, " ")
}

// emulate runs the DAG that is deployed on LocalStack, its very document, on the
// emulated cloud.
func (s *site) emulate(t *testing.T, trace *chainTrace) {
	t.Helper()
	latencies, err := awsemu.LoadLatencies()
	if err != nil {
		t.Fatal(err)
	}
	e, err := emusite.New(emusite.Options{
		Folder: t.TempDir(), TickOff: true,
		Cloud: awsemu.Options{Latencies: latencies, Seed: 1, Warm: 2, Log: slog.New(slog.DiscardHandler), Seen: func(function, service, operation string, body []byte) {
			if function != "" {
				trace.note(function, service, operation, body)
			}
		}},
		Work: func(context.Context, *taskrunner.Task) (*taskrunner.Result, error) {
			return &taskrunner.Result{Value: json.RawMessage(`"x"`)}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx := awsemu.Untraced(t.Context())
	m, err := s.store.GetDag(ctx, airflow.DagID(trace.dag))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := s.store.GetDocument(ctx, m.LatestHash)
	if err != nil {
		t.Fatal(err)
	}
	// Without the snapshot of its files: no task of it reads one.
	if err := e.Store.PutDocument(ctx, m.LatestHash, doc); err != nil {
		t.Fatal(err)
	}
	if err := e.Store.CreateDag(ctx, airflow.DagModel{DagID: m.DagID, RelativeFileloc: m.RelativeFileloc, LatestVersion: 1, LatestHash: m.LatestHash}); err != nil {
		t.Fatal(err)
	}
	if err := e.Store.PutDagVersion(ctx, airflow.DagVersion{DagID: m.DagID, Number: 1, Hash: m.LatestHash, CreatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	e.Tools.DagChanged(m.DagID)
	for _, run := range []string{"warm", "traced"} {
		if run == "traced" {
			trace.mu.Lock()
			trace.calls = nil
			trace.mu.Unlock()
		}
		k, err := e.Trigger(ctx, trace.dag, run)
		if err != nil {
			t.Fatal(err)
		}
		r, err := e.Wait(ctx, k, time.Minute)
		if err != nil || r.State != airflow.RunSuccess {
			t.Fatalf("the emulated run is %s: %v", r.State, err)
		}
		e.Settle()
	}
}
