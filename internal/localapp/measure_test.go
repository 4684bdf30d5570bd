package localapp

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/observe"
	"github.com/gustflow/gust/internal/store"
)

const observedDAG = `seen:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    - {task_id: first, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ dag_run.conf.password }} {{ var.value.api_token }}; sleep 0.2"}
    - {task_id: second, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ var.value.api_token }}; exit 3", dependencies: [first]}
`

// What a real server exports of a real run, to all exporters at once, and that
// nothing secret is among it.
func TestServerExportsWhatItDoes(t *testing.T) {
	home, dags := t.TempDir(), t.TempDir()
	write(t, dags, "seen.yml", observedDAG)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	var mu sync.Mutex
	var everything strings.Builder // that left the process
	var spans []*tracepb.Span
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		everything.Write(b)
		if r.URL.Path == "/v1/traces" {
			var data tracepb.TracesData
			if err := proto.Unmarshal(b, &data); err != nil {
				t.Error(err)
			}
			spans = append(spans, data.ResourceSpans[0].ScopeSpans[0].Spans...)
		}
	}))
	defer srv.Close()
	lineage, cloud := filepath.Join(t.TempDir(), "lineage"), &lockedBuffer{}
	names := observe.Names{Prefix: "airflow", Legacy: true}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Serve(ctx, Options{
			Home: home, DagsFolder: dags, Loader: testLoader(t, dags), Engine: engine.Config{},
			Observe: observe.Options{
				StatsD: &observe.StatsD{Addr: udp.LocalAddr().String(), Names: names}, Metrics: &observe.OTLP{URL: srv.URL + "/v1/metrics", Names: names},
				Traces: &observe.OTLP{URL: srv.URL + "/v1/traces"}, Lineage: &observe.Lineage{File: lineage, Append: true},
				CloudWatch: &observe.CloudWatch{To: cloud, Deployment: "test"},
			},
		}, ServeOptions{Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	tool, err := Open(t.Context(), Options{Home: home, DagsFolder: dags})
	if err != nil {
		t.Fatal(err)
	}
	if err := tool.Store.PutVariable(t.Context(), airflow.Variable{Key: "api_token", Value: "tok-hunter2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: "seen", RunID: "r1", Conf: json.RawMessage(`{"password": "conf-hunter2"}`), Note: "note-hunter2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := tool.Home.Notify(t.Context(), Notice{Discover: true}); err != nil {
		t.Fatal(err)
	}
	run := waitRun(t, tool.Store, store.RunKey{DagID: "seen", RunID: "r1"})
	tool.Close()
	if run.State != airflow.RunFailed {
		t.Fatalf("the run is %s", run.State)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	metrics := map[string]bool{}
	buf := make([]byte, 65536)
	for {
		_ = udp.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, _, err := udp.ReadFrom(buf)
		if err != nil {
			break
		}
		everything.Write(buf[:n])
		for _, line := range strings.Split(string(buf[:n]), "\n") {
			name, _, _ := strings.Cut(line, ":")
			metrics[name] = true
		}
	}
	for _, want := range []string{
		"ti.start.seen.first", "ti.finish.seen.first.success", "ti.finish.seen.second.failed", "dag.seen.first.duration", "dag.seen.first.queued_duration", "dagrun.duration.failed.seen",
		"ti_failures", "ti_successes", "operator_failures_BashOperator", "scheduler_heartbeat", "scheduler.dagruns.running", "executor.open_slots", "executor.open_slots.LocalExecutor",
		"executor.queued_tasks", "executor.running_tasks", "pool.open_slots.default_pool", "pool.queued_slots.default_pool", "pool.running_slots.default_pool", "pool.deferred_slots", "pool.scheduled_slots",
	} {
		if !metrics["airflow."+want] {
			t.Errorf("StatsD was not told %s (%v)", want, metrics)
		}
	}
	took := map[string]time.Duration{}
	for _, s := range spans {
		took[s.Name] = time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano)
	}
	if len(took) != 5 || took["worker.first"] < 200*time.Millisecond || took["task_run.first"] < took["worker.first"] || took["dag_run.seen"] < took["task_run.first"] {
		t.Errorf("spans %v", took)
	}
	b, err := os.ReadFile(lineage)
	if err != nil {
		t.Fatal(err)
	}
	everything.Write(b)
	var events []string
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var e struct {
			EventType string
			Job       struct{ Name string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e.EventType+" "+e.Job.Name)
	}
	if got, want := strings.Join(events, ", "), "START seen, START seen.first, COMPLETE seen.first, START seen.second, FAIL seen.second, FAIL seen"; got != want {
		t.Errorf("lineage %s, want %s", got, want)
	}
	if lines := cloud.String(); strings.Count(lines, "\n") != 4 || !strings.Contains(lines, `"hop_ms"`) && !strings.Contains(lines, `"state":"failed","dag_id":"seen","run_id":"r1","task_id":"second"`) {
		t.Errorf("log\n%s", lines)
	}
	everything.WriteString(cloud.String())
	if s := everything.String(); strings.Contains(s, "hunter2") {
		t.Error("a secret was exported")
	} else if !strings.Contains(s, "seen.first") {
		t.Error("nothing was looked at")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
