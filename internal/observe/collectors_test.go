package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests export to the collectors that people run: Etsy's StatsD server, the
// OpenTelemetry Collector, and OpenLineage's own client classes. They are fetched
// from their registries once (make test-collectors), so they run where
// GUST_COLLECTORS names a folder to keep them in.
func collectors(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("GUST_COLLECTORS")
	if dir == "" {
		t.Skip("fetches collectors from npm, PyPI and the Go module proxy: run make test-collectors")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		t.Fatal(err)
	}
	return abs
}

// fetch runs a command unless what it makes is there.
func fetch(t *testing.T, made, dir, name string, args ...string) {
	t.Helper()
	if _, err := os.Stat(made); err == nil {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	if _, err := os.Stat(made); err != nil {
		t.Fatal(err)
	}
}

// output is what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a collector until the test ends.
func start(t *testing.T, dir, name string, args ...string) *output {
	t.Helper()
	out := &output{}
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, out fmt.Stringer, f func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("%s: not within 60 s\n%s", what, out)
}

func freePort(t *testing.T, network string) int {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).Port
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestCollectorStatsD(t *testing.T) {
	dir := filepath.Join(collectors(t), "statsd")
	fetch(t, filepath.Join(dir, "node_modules", "statsd", "stats.js"), dir, "npm", "install", "--prefix", dir, "--omit=optional", "--no-audit", "--no-fund", "statsd@0.9.0")
	port, admin := freePort(t, "udp"), freePort(t, "tcp")
	conf := filepath.Join(t.TempDir(), "config.js")
	text := fmt.Sprintf("{port: %d, address: '127.0.0.1', mgmt_port: %d, mgmt_address: '127.0.0.1', backends: ['./backends/console'], flushInterval: 3600000}", port, admin)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "node_modules", "statsd")
	out := start(t, home, "node", filepath.Join(home, "stats.js"), conf)
	ask := func(question string) string {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", admin), time.Second)
		if err != nil {
			return ""
		}
		defer c.Close()
		// One question a connection: the server takes what arrives at once for one.
		_ = c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprintf(c, "%s\n", question)
		var b []byte
		for buf := make([]byte, 65536); !bytes.Contains(b, []byte("END")) && !bytes.Contains(b, []byte("health: ")); {
			n, err := c.Read(buf)
			if b = append(b, buf[:n]...); err != nil {
				break
			}
		}
		return string(b)
	}
	eventually(t, "StatsD is up", out, func() bool { return strings.Contains(ask("health"), "up") })
	play(t, Options{StatsD: &StatsD{Addr: fmt.Sprintf("127.0.0.1:%d", port), Names: Names{Prefix: "airflow", Legacy: true}}})
	eventually(t, "counters arrive", out, func() bool { return strings.Contains(ask("counters"), "airflow.scheduler_heartbeat") })
	counters, gauges, timers := ask("counters"), ask("gauges"), ask("timers")
	for _, want := range []string{
		`'airflow.ti.start.sales.extract': 1`, `'airflow.ti.start': 3`, `'airflow.ti.finish.sales.group__load.up_for_retry': 1`, `'airflow.ti_failures': 1`,
		`'statsd.bad_lines_seen': 0`,
	} {
		if !strings.Contains(strings.ReplaceAll(counters, `"`, `'`), want) {
			t.Errorf("counters have no %s:\n%s", want, counters)
		}
	}
	if !strings.Contains(gauges, "airflow.pool.open_slots.default_pool': -3") {
		t.Errorf("gauges: %s", gauges)
	}
	for _, want := range []string{"airflow.dagrun.duration.success.sales': [ 9000 ]", "airflow.dag.sales.extract.duration': [ 1450 ]"} {
		if !strings.Contains(timers, want) {
			t.Errorf("timers have no %s:\n%s", want, timers)
		}
	}
}

func TestCollectorOpenTelemetry(t *testing.T) {
	dir := collectors(t)
	binary := filepath.Join(dir, "otelcol")
	fetch(t, binary, "otelcol", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	port := freePort(t, "tcp")
	conf := filepath.Join(t.TempDir(), "collector.yaml")
	text := fmt.Sprintf(`receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:%d"}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
`, port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := start(t, dir, binary, "--config", conf)
	eventually(t, "the collector is up", out, func() bool { return strings.Contains(out.String(), "Everything is ready") })
	settings := []string{"AIRFLOW__METRICS__OTEL_ON=True", "AIRFLOW__TRACES__OTEL_ON=True"}
	play(t, fromEnv(t, settings, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": fmt.Sprintf("http://127.0.0.1:%d", port)}))
	eventually(t, "metrics and spans arrive", out, func() bool {
		s := out.String()
		return strings.Contains(s, "-> Name: airflow.scheduler_heartbeat") && strings.Contains(s, "dag_run.sales")
	})
	printed := regexp.MustCompile(`[ \t]+`).ReplaceAllString(out.String(), " ")
	for _, want := range []string{
		"-> service.name: Str(Airflow)", "-> Name: airflow.ti.start.sales.extract", "-> Name: airflow.dag.sales.group__load.duration", "-> DataType: Histogram",
		"-> AggregationTemporality: Cumulative", "-> Unit: ms", "Sum: 4750.000000", "Value: -3.000000",
		"Name : dag_run.sales", "Name : task_run.group.load", "Name : worker.each[3]", "-> airflow.task_instance.try_number: Int(2)", "-> airflow.dag_run.run_id: Str(scheduled__2026-03-01)",
		"Status code : Error", "Start time : 2026-03-01 06:00:01.793456 +0000 UTC",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("the collector printed no %q", want)
		}
	}
	if strings.Contains(printed, "error\t") || t.Failed() {
		t.Log(printed)
	}
}

// loadEvents builds OpenLineage's event and facet classes from events; the classes
// refuse unknown and missing fields, and check times and ids.
const loadEvents = `
import json, sys, attr, enum
from openlineage.client import event_v2
from openlineage.client.generated import parent_run, nominal_time_run, processing_engine_run, error_message_run, job_type_job
from openlineage.client.serde import Serde

def strip(f):
    return {k: v for k, v in f.items() if k not in ("_producer", "_schemaURL")}

def check(f, facet):
    assert f["_schemaURL"] == facet._get_schema(), (f["_schemaURL"], facet._get_schema())
    assert f["_producer"]
    return facet

def parent(f):
    P = parent_run
    return P.ParentRunFacet(run=P.Run(**f["run"]), job=P.Job(**f["job"]), root=P.Root(run=P.RootRun(**f["root"]["run"]), job=P.RootJob(**f["root"]["job"])))

run_facets = {
    "parent": parent,
    "nominalTime": lambda f: nominal_time_run.NominalTimeRunFacet(**f),
    "processing_engine": lambda f: processing_engine_run.ProcessingEngineRunFacet(**f),
    "errorMessage": lambda f: error_message_run.ErrorMessageRunFacet(**f),
}
n = 0
for line in open(sys.argv[1]):
    e = json.loads(line)
    rf = {k: check(f, run_facets[k](strip(f))) for k, f in e["run"]["facets"].items()}
    jf = {k: check(f, {"jobType": lambda f: job_type_job.JobTypeJobFacet(**f)}[k](strip(f))) for k, f in e["job"]["facets"].items()}
    ev = event_v2.RunEvent(eventType=event_v2.RunState(e["eventType"]), eventTime=e["eventTime"], producer=e["producer"],
        run=event_v2.Run(runId=e["run"]["runId"], facets=rf), job=event_v2.Job(namespace=e["job"]["namespace"], name=e["job"]["name"], facets=jf),
        inputs=[event_v2.InputDataset(**d) for d in e["inputs"]], outputs=[event_v2.OutputDataset(**d) for d in e["outputs"]])
    back = json.loads(Serde.to_json(ev))
    assert back["schemaURL"] == e["schemaURL"], (back["schemaURL"], e["schemaURL"])
    assert back["run"]["runId"] == e["run"]["runId"] and back["job"]["name"] == e["job"]["name"]
    n += 1
print(n)
`

func TestCollectorOpenLineage(t *testing.T) {
	dir := filepath.Join(collectors(t), "openlineage")
	python := filepath.Join(dir, "bin", "python")
	fetch(t, python, filepath.Dir(dir), "python3", "-m", "venv", dir)
	fetch(t, filepath.Join(dir, "installed"), dir, "sh", "-c", "bin/python -m pip install -q openlineage-python==1.54.0 && touch installed")
	events := filepath.Join(t.TempDir(), "events")
	transport, err := json.Marshal(map[string]any{"type": "file", "log_file_path": events, "append": true})
	if err != nil {
		t.Fatal(err)
	}
	play(t, fromEnv(t, []string{"AIRFLOW__OPENLINEAGE__TRANSPORT=" + string(transport)}, nil))
	out, err := exec.Command(python, "-W", "ignore", "-c", loadEvents, events).CombinedOutput()
	if err != nil {
		t.Fatalf("OpenLineage's classes do not take the events: %v\n%s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != fmt.Sprint(len(wantLineage)) {
		t.Errorf("%s events were taken, want %d", got, len(wantLineage))
	}
}
