package observe

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/engine"
)

var (
	began   = time.Date(2026, 3, 1, 6, 0, 0, 123456000, time.UTC)
	logical = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
)

func after(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

func ptr(t time.Time) *time.Time { return &t }

// story is a run as the scheduler of the cloud tells it: extract succeeds, load
// fails once and is tried again, a mapped instance is skipped, the run succeeds.
func story() []engine.Change {
	end := logical.AddDate(0, 0, 1)
	run := airflow.DagRun{
		DagID: "sales", RunID: "scheduled__2026-03-01", RunType: airflow.RunTypeScheduled, State: airflow.RunRunning, LogicalDate: &logical,
		DataIntervalStart: &logical, DataIntervalEnd: &end, RunAfter: began.Add(-2 * time.Second), QueuedAt: ptr(began.Add(-time.Second)), StartDate: ptr(began),
	}
	ti := func(task string, index int, from, to airflow.TIState, try int, seq uint32) engine.TaskChange {
		return engine.TaskChange{
			TaskInstanceKey: airflow.TaskInstanceKey{DagID: "sales", RunID: run.RunID, TaskID: airflow.TaskID(task), MapIndex: index},
			From:            from, To: to, TryNumber: try, DispatchSeq: seq, Operator: "BashOperator", Queue: "default", Pool: "default_pool",
		}
	}
	at := func(c engine.TaskChange, scheduled, queued, start, stop int) engine.TaskChange {
		c.ScheduledWhen, c.QueuedWhen, c.StartDate = after(scheduled), after(queued), after(start)
		if stop > 0 {
			c.EndDate = after(stop)
		}
		return c
	}
	done := run
	done.State, done.EndDate = airflow.RunSuccess, ptr(after(9000))
	hop := at(ti("group.load", -1, airflow.TIQueued, airflow.TIRunning, 1, 1), 1600, 1600, 1670, 0)
	hop.Hop, hop.HopKnown = 70*time.Millisecond, true
	retry := at(ti("group.load", -1, airflow.TIRunning, airflow.TIUpForRetry, 1, 1), 1600, 1600, 1670, 2670)
	retry.Error = "exit code 1"
	return []engine.Change{
		{Run: run, From: airflow.RunQueued, At: began, Tasks: []engine.TaskChange{
			at(ti("extract", -1, airflow.TINone, airflow.TIScheduled, 1, 0), 0, 0, 0, 0), at(ti("extract", -1, airflow.TIScheduled, airflow.TIQueued, 1, 1), 0, 5, 0, 0)}},
		{Run: run, From: airflow.RunRunning, At: after(1600), Tasks: []engine.TaskChange{
			at(ti("extract", -1, airflow.TIQueued, airflow.TIRunning, 1, 1), 0, 5, 100, 1550),
			at(ti("extract", -1, airflow.TIRunning, airflow.TISuccess, 1, 1), 0, 5, 100, 1550),
			at(ti("group.load", -1, airflow.TIScheduled, airflow.TIQueued, 1, 1), 1600, 1600, 0, 0)}},
		{Run: run, From: airflow.RunRunning, At: after(2700), Tasks: []engine.TaskChange{hop, retry}},
		{Run: run, From: airflow.RunRunning, At: after(8900), Tasks: []engine.TaskChange{
			at(ti("group.load", -1, airflow.TIQueued, airflow.TIRunning, 2, 2), 5000, 5000, 5100, 0),
			at(ti("group.load", -1, airflow.TIRunning, airflow.TISuccess, 2, 2), 5000, 5000, 5100, 8850),
			at(ti("each", 3, airflow.TIRunning, airflow.TISkipped, 1, 1), 5000, 5000, 5200, 8800)}},
		{Run: done, From: airflow.RunRunning, FirstStart: after(100), Reason: "success", At: after(9000)},
	}
}

func play(t *testing.T, o Options) {
	t.Helper()
	obs := New(o)
	for _, c := range story() {
		obs.Changed(c)
	}
	obs.Sample(NewSample(Gauge, "pool.open_slots", -3, Tag{"pool_name", "default_pool"}), NewSample(Counter, "scheduler_heartbeat", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	obs.Flush(ctx)
	obs.Close()
	if ctx.Err() != nil {
		t.Fatal("nothing was flushed within 20 s")
	}
}

// wantMetrics are the lines that Airflow's own StatsD client sends for the same
// measurements: legacy names first, dots in ids as __.
var wantMetrics = []string{
	"airflow.dagrun.schedule_delay.sales:2000.000000|ms", "airflow.dagrun.schedule_delay:2000.000000|ms",
	"airflow.dag.sales.extract.scheduled_duration:5.000000|ms", "airflow.task.scheduled_duration:5.000000|ms",
	"airflow.dag.sales.extract.queued_duration:95.000000|ms", "airflow.ti.start.sales.extract:1|c", "airflow.ti.start:1|c",
	"airflow.ti.finish.sales.extract.success:1|c", "airflow.dag.sales.extract.duration:1450.000000|ms", "airflow.task.duration:1450.000000|ms",
	"airflow.operator_successes_BashOperator:1|c", "airflow.operator_successes:1|c", "airflow.ti_successes:1|c",
	"airflow.dag.sales.group__load.scheduled_duration:0.000000|ms", "airflow.dag.sales.group__load.queued_duration:70.000000|ms",
	"airflow.ti.finish.sales.group__load.up_for_retry:1|c", "airflow.dag.sales.group__load.duration:1000.000000|ms",
	"airflow.operator_failures_BashOperator:1|c", "airflow.ti_failures:1|c", "airflow.ti.finish.sales.each.skipped:1|c",
	"airflow.dagrun.duration.success.sales:9000.000000|ms", "airflow.dagrun.duration.success:9000.000000|ms",
	"airflow.dagrun.sales.first_task_scheduling_delay:2100.000000|ms", "airflow.dagrun.first_task_start_delay:1100.000000|ms",
	"airflow.pool.open_slots.default_pool:0|g", "airflow.pool.open_slots.default_pool:-3|g", "airflow.scheduler_heartbeat:1|c",
}

// receive collects datagrams.
func receive(t *testing.T) (addr string, lines func() []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String(), func() (out []string) {
		b := make([]byte, 65536)
		for {
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return out
			}
			if n > maxDatagram {
				t.Errorf("a datagram of %d bytes", n)
			}
			out = append(out, strings.Split(string(b[:n]), "\n")...)
		}
	}
}

// parseStatsD reads a line by the protocol.
func parseStatsD(line string) (name string, value float64, kind string, tags []string, err error) {
	name, rest, ok := strings.Cut(line, ":")
	parts := strings.Split(rest, "|")
	if !ok || len(parts) < 2 || strings.ContainsAny(name, "|@ ") || name == "" {
		return "", 0, "", nil, fmt.Errorf("not a metric: %q", line)
	}
	if value, err = strconv.ParseFloat(parts[0], 64); err != nil {
		return "", 0, "", nil, fmt.Errorf("%q: %w", line, err)
	}
	if !slices.Contains([]string{"c", "g", "ms"}, parts[1]) {
		return "", 0, "", nil, fmt.Errorf("unknown type: %q", line)
	}
	for _, p := range parts[2:] {
		t, ok := strings.CutPrefix(p, "#")
		if !ok {
			return "", 0, "", nil, fmt.Errorf("unknown part: %q", line)
		}
		tags = strings.Split(t, ",")
	}
	return name, value, parts[1], tags, nil
}

func TestStatsD(t *testing.T) {
	addr, lines := receive(t)
	play(t, Options{StatsD: &StatsD{Addr: addr, Names: Names{Prefix: "airflow", Legacy: true}}})
	got := lines()
	for _, l := range got {
		if _, _, _, _, err := parseStatsD(l); err != nil {
			t.Error(err)
		}
	}
	for _, w := range wantMetrics {
		if !slices.Contains(got, w) {
			t.Errorf("missing %s", w)
		}
	}
	starts := 0
	for _, l := range got {
		if l == "airflow.ti.start:1|c" {
			starts++
		}
	}
	if starts != 3 {
		t.Errorf("%d starts, want 3 (extract, load twice)\n%s", starts, strings.Join(got, "\n"))
	}
}

func TestStatsDSettings(t *testing.T) {
	c, err := config.Load(config.Input{Home: t.TempDir(), Environ: []string{
		"AIRFLOW__METRICS__STATSD_ON=True", "AIRFLOW__METRICS__STATSD_DATADOG_ENABLED=True", "AIRFLOW__METRICS__STATSD_PREFIX=shop",
		"AIRFLOW__METRICS__METRICS_ALLOW_LIST=^ti\\.(Finish|start),pool", "AIRFLOW__METRICS__LEGACY_NAMES_ON=False",
		"AIRFLOW__METRICS__STATSD_DATADOG_TAGS=env:prod,team:a b", "AIRFLOW__METRICS__STATSD_DISABLED_TAGS=run_id,task",
	}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := FromConfig(c, func(string) string { return "" }, "1.0")
	if err != nil || o.StatsD == nil || o.Metrics != nil || o.Traces != nil || o.Lineage != nil {
		t.Fatalf("%+v %v", o, err)
	}
	if o.StatsD.Addr != "localhost:8125" {
		t.Errorf("address %s", o.StatsD.Addr)
	}
	var lines func() []string
	o.StatsD.Addr, lines = receive(t)
	play(t, o)
	seen := map[string]bool{}
	for _, l := range lines() {
		name, _, _, tags, err := parseStatsD(l)
		if err != nil {
			t.Fatal(err)
		}
		seen[name] = true
		if !slices.Contains(tags, "env:prod") || !slices.Contains(tags, "team:a_b") || strings.Contains(l, "task_id") {
			t.Errorf("tags of %s", l)
		}
	}
	for name := range seen {
		if name != "shop.ti.finish" && name != "shop.ti.start" && name != "shop.pool.open_slots" {
			t.Errorf("%s is not on the allow list", name)
		}
	}
	if len(seen) != 3 {
		t.Errorf("got %v", seen)
	}
}

func TestEverythingIsOffByDefault(t *testing.T) {
	c, err := config.Load(config.Input{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	o, err := FromConfig(c, func(string) string { return "" }, "1")
	if err != nil {
		t.Fatal(err)
	}
	if obs := New(o); obs.On() || obs.Listener() != nil || obs.Measures() {
		t.Error("an exporter is on without a setting")
	}
	var none *Observer
	if none.Listener() != nil {
		t.Error("no observer has a listener")
	}
	none.Close()
}

func TestBadSettings(t *testing.T) {
	for setting, want := range map[string]string{
		"OPENLINEAGE__TRANSPORT={\"type\":\"kafka\",\"secret\":\"hunter2\"}":                                                 "expected http, file or noop",
		"OPENLINEAGE__TRANSPORT={\"type\":\"http\",\"url\":\"hunter2\"}":                                                     "expected http://host:port",
		"OPENLINEAGE__TRANSPORT={\"type\":\"http\",\"url\":\"http://x\",\"auth\":{\"type\":\"jwt\",\"apiKey\":\"hunter2\"}}": "api_key",
		"OPENLINEAGE__TRANSPORT={\"type\":\"file\"}":                                                                         "log_file_path",
		"OPENLINEAGE__TRANSPORT={\"type\":\"http\",\"url\":5}":                                                               "with the types of fields",
	} {
		c, err := config.Load(config.Input{Home: t.TempDir(), Environ: []string{"AIRFLOW__" + setting}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = FromConfig(c, func(string) string { return "" }, "1")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "[openlineage] transport") {
			t.Errorf("%s: %v, want %q", setting, err, want)
		}
	}
	if _, err := config.Load(config.Input{Home: t.TempDir(), Environ: []string{"AIRFLOW__METRICS__METRICS_BLOCK_LIST=(", "AIRFLOW__OPENLINEAGE__TRANSPORT=5"}}); err == nil ||
		!strings.Contains(err.Error(), "regular expressions") || !strings.Contains(err.Error(), "JSON object") {
		t.Errorf("bad patterns and JSON: %v", err)
	}
	c, err := config.Load(config.Input{Home: t.TempDir(), Environ: []string{"AIRFLOW__METRICS__OTEL_ON=True", "AIRFLOW__TRACES__OTEL_ON=True"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromConfig(c, func(n string) string { return map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}[n] }, "1"); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("gRPC: %v", err)
	}
}

// collector keeps the bodies that are posted to it, by path.
type collector struct {
	mu     sync.Mutex
	bodies map[string][][]byte
	heads  []http.Header
	answer []int // next answers; then 200
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answer) > 0 {
		code := c.answer[0]
		c.answer = c.answer[1:]
		if code != http.StatusOK {
			w.WriteHeader(code)
			return
		}
	}
	if c.bodies == nil {
		c.bodies = map[string][][]byte{}
	}
	c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], b)
	c.heads = append(c.heads, r.Header.Clone())
}

func (c *collector) all(path string) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodies[path]
}

// fromEnv reads exporters from settings and variables, as a server does.
func fromEnv(t *testing.T, settings []string, env map[string]string) Options {
	t.Helper()
	c, err := config.Load(config.Input{Home: t.TempDir(), Environ: settings})
	if err != nil {
		t.Fatal(err)
	}
	o, err := FromConfig(c, func(n string) string { return env[n] }, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOTLPMetrics(t *testing.T) {
	col := &collector{}
	srv := httptest.NewServer(col)
	defer srv.Close()
	play(t, fromEnv(t, []string{"AIRFLOW__METRICS__OTEL_ON=True"}, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": srv.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20x", "OTEL_RESOURCE_ATTRIBUTES": "deployment=blue"}))
	bodies := col.all("/v1/metrics")
	if len(bodies) != 1 || col.heads[0].Get("Api-Key") != "s x" || col.heads[0].Get("Content-Type") != "application/x-protobuf" {
		t.Fatalf("%d exports, headers %v", len(bodies), col.heads)
	}
	var data metricspb.MetricsData
	if err := proto.Unmarshal(bodies[0], &data); err != nil {
		t.Fatal(err)
	}
	rm := data.ResourceMetrics[0]
	attrs := map[string]string{}
	for _, a := range rm.Resource.Attributes {
		attrs[a.Key] = a.Value.GetStringValue()
	}
	if attrs["service.name"] != "Airflow" || attrs["deployment"] != "blue" {
		t.Errorf("resource %v", attrs)
	}
	byName := map[string]*metricspb.Metric{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		if byName[m.Name] != nil {
			t.Errorf("%s twice in one export", m.Name)
		}
		byName[m.Name] = m
	}
	starts := byName["airflow.ti.start"].GetSum()
	if starts == nil || !starts.IsMonotonic || starts.AggregationTemporality != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE || len(starts.DataPoints) != 2 {
		t.Fatalf("ti.start: %v", starts)
	}
	if p := starts.DataPoints[1]; p.GetAsInt() != 2 || len(p.Attributes) != 2 || p.Attributes[1].Value.GetStringValue() != "group.load" || p.StartTimeUnixNano == 0 {
		t.Errorf("starts of group.load: %v", p)
	}
	d := byName["airflow.dag.sales.group__load.duration"].GetHistogram()
	if d == nil || d.DataPoints[0].Count != 2 || d.DataPoints[0].GetSum() != 4750 || byName["airflow.dag.sales.group__load.duration"].Unit != "ms" {
		t.Fatalf("durations of load: %v", d)
	}
	n := uint64(0)
	for _, b := range d.DataPoints[0].BucketCounts {
		n += b
	}
	if n != 2 || len(d.DataPoints[0].BucketCounts) != len(d.DataPoints[0].ExplicitBounds)+1 {
		t.Errorf("buckets %v", d.DataPoints[0])
	}
	if g := byName["airflow.pool.open_slots"].GetGauge(); g == nil || g.DataPoints[0].GetAsDouble() != -3 {
		t.Errorf("open slots: %v", g)
	}
}

// A collector that was away gets what it missed; with deltas, nothing twice.
func TestOTLPMetricsAfterAnOutage(t *testing.T) {
	for _, delta := range []bool{false, true} {
		col := &collector{answer: []int{503, 200, 200}}
		srv := httptest.NewServer(col)
		o := newOTLPMetrics(OTLP{URL: srv.URL, Delta: delta}, slog.New(slog.DiscardHandler), time.Now)
		for range 3 {
			o.samples([]Sample{NewSample(Counter, "ti_failures", 1)})
			o.flush(t.Context())
		}
		o.flush(t.Context()) // nothing new: nothing is sent
		var got []int64
		for _, b := range col.all("/") {
			var data metricspb.MetricsData
			if err := proto.Unmarshal(b, &data); err != nil {
				t.Fatal(err)
			}
			got = append(got, data.ResourceMetrics[0].ScopeMetrics[0].Metrics[0].GetSum().DataPoints[0].GetAsInt())
		}
		if want := map[bool][]int64{false: {2, 3}, true: {2, 1}}[delta]; !slices.Equal(got, want) {
			t.Errorf("delta %t: %v, want %v", delta, got, want)
		}
		srv.Close()
	}
}

func TestOTLPTraces(t *testing.T) {
	col := &collector{}
	srv := httptest.NewServer(col)
	defer srv.Close()
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	play(t, fromEnv(t, []string{"AIRFLOW__TRACES__OTEL_ON=True", "AIRFLOW__TRACES__OTEL_HOST=" + host, "AIRFLOW__TRACES__OTEL_PORT=" + port, "AIRFLOW__TRACES__OTEL_SERVICE=shop"}, nil))
	spans := map[string][]*tracepb.Span{}
	byID := map[string]*tracepb.Span{}
	for _, b := range col.all("/v1/traces") {
		var data tracepb.TracesData
		if err := proto.Unmarshal(b, &data); err != nil {
			t.Fatal(err)
		}
		if got := data.ResourceSpans[0].Resource.Attributes[0].Value.GetStringValue(); got != "shop" {
			t.Errorf("service %s", got)
		}
		for _, s := range data.ResourceSpans[0].ScopeSpans[0].Spans {
			spans[s.Name] = append(spans[s.Name], s)
			if byID[string(s.SpanId)] != nil || len(s.SpanId) != 8 || len(s.TraceId) != 16 {
				t.Errorf("ids of %s: %x %x", s.Name, s.TraceId, s.SpanId)
			}
			byID[string(s.SpanId)] = s
		}
	}
	for name, n := range map[string]int{"dag_run.sales": 1, "task_run.extract": 1, "worker.extract": 1, "task_run.group.load": 2, "worker.group.load": 2, "task_run.each[3]": 1, "worker.each[3]": 1} {
		if len(spans[name]) != n {
			t.Fatalf("%d spans %s, want %d (all: %v)", len(spans[name]), name, n, spans)
		}
	}
	root := spans["dag_run.sales"][0]
	if len(root.ParentSpanId) != 0 || root.Status.Code != tracepb.Status_STATUS_CODE_OK || root.StartTimeUnixNano != uint64(began.Add(-time.Second).UnixNano()) || root.EndTimeUnixNano != uint64(after(9000).UnixNano()) {
		t.Errorf("root %v", root)
	}
	for name, ss := range spans {
		for _, s := range ss {
			if string(s.TraceId) != string(root.TraceId) || s != root && byID[string(s.ParentSpanId)] == nil {
				t.Errorf("%s is not in the trace of its run", name)
			}
			if strings.HasPrefix(name, "worker.") && !strings.HasPrefix(byID[string(s.ParentSpanId)].Name, "task_run.") {
				t.Errorf("the parent of %s is %s", name, byID[string(s.ParentSpanId)].Name)
			}
		}
	}
	first := spans["task_run.group.load"][0]
	if first.Status.Code != tracepb.Status_STATUS_CODE_ERROR || first.StartTimeUnixNano != uint64(after(1600).UnixNano()) || first.EndTimeUnixNano != uint64(after(2670).UnixNano()) {
		t.Errorf("first try %v", first)
	}
}

func TestSpansAreKeptForACollectorThatIsAway(t *testing.T) {
	col := &collector{answer: []int{503}}
	srv := httptest.NewServer(col)
	defer srv.Close()
	tr := newOTLPTraces(OTLP{URL: srv.URL}, slog.New(slog.DiscardHandler))
	for _, c := range story() {
		tr.change(c)
	}
	tr.flush(t.Context())
	if len(tr.spans) != 9 || len(col.all("/")) != 0 {
		t.Fatalf("%d spans wait", len(tr.spans))
	}
	tr.flush(t.Context())
	if len(tr.spans) != 0 || len(col.all("/")) != 1 {
		t.Errorf("%d spans wait after the collector came back", len(tr.spans))
	}
}

// runIDs were computed by openlineage-python 1.54.0 (generate_static_uuid), as the
// provider of Airflow calls it.
var runIDs = []struct {
	at   time.Time
	data string
	want string
}{
	{time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "shop.sales.0", "019ca6b1-dc00-73ce-9410-c966db498019"},
	{time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "shop.sales.extract.1.-1", "019ca6b1-dc00-77da-b8da-6097e91f7a24"},
	{time.Date(2026, 3, 1, 6, 0, 0, 123456000, time.UTC), "default.sales.group.load.2.7", "019ca7fb-737b-7950-9e03-36d2580598c6"},
	{time.Date(2024, 12, 31, 23, 59, 59, 999999000, time.UTC), "default.a.b.1.-1", "01941f29-7bff-71f0-9cdc-bfa83385856c"},
	{time.Date(2025, 7, 7, 7, 7, 7, 1000000, time.UTC), "default.ü.0", "0197e3b5-b979-777e-be70-9770fc19acf7"},
	{time.Date(2026, 3, 1, 2, 0, 0, 0, time.FixedZone("", 7200)), "shop.sales.1", "019ca6b1-dc00-7638-8be7-70294844cdfd"},
}

func TestOpenLineageRunIDs(t *testing.T) {
	for _, c := range runIDs {
		if got := RunID(c.at, c.data); got != c.want {
			t.Errorf("%s %s: %s, the provider has %s", c.at, c.data, got, c.want)
		}
	}
}

// wantLineage are the events of the story.
var wantLineage = []string{
	"START sales", "START sales.extract", "COMPLETE sales.extract", "START sales.group.load", "FAIL sales.group.load", "START sales.group.load",
	"COMPLETE sales.group.load", "COMPLETE sales.each", "COMPLETE sales",
}

func checkLineage(t *testing.T, events [][]byte) {
	t.Helper()
	var got []string
	ids := map[string]string{}
	for _, b := range events {
		var e struct {
			EventType, EventTime, Producer, SchemaURL string
			Run                                       struct {
				RunID  string
				Facets map[string]map[string]any
			}
			Job struct {
				Namespace, Name string
				Facets          map[string]map[string]any
			}
			Inputs, Outputs []any
		}
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.EventType+" "+e.Job.Name)
		if _, err := time.Parse(time.RFC3339Nano, e.EventTime); err != nil || e.SchemaURL != lineageSpec || e.Job.Namespace != "shop" || e.Inputs == nil || e.Outputs == nil {
			t.Errorf("event %s", b)
		}
		parent, isTask := e.Run.Facets["parent"]
		if isTask != strings.Contains(e.Job.Name, ".") || isTask && fmt.Sprint(parent["run"]) != "map[runId:"+ids["sales"]+"]" {
			t.Errorf("parent of %s: %v", e.Job.Name, parent)
		}
		for _, f := range e.Run.Facets {
			if f["_producer"] == "" || !strings.HasPrefix(fmt.Sprint(f["_schemaURL"]), "https://openlineage.io/spec/facets/") {
				t.Errorf("facet %v", f)
			}
		}
		if _, failed := e.Run.Facets["errorMessage"]; failed != (e.EventType == "FAIL") {
			t.Errorf("error message of %s: %v", e.EventType, e.Run.Facets["errorMessage"])
		}
		if e.EventType == "START" {
			ids[e.Job.Name] = e.Run.RunID
		} else if ids[e.Job.Name] != e.Run.RunID && e.Job.Name != "sales.each" {
			t.Errorf("%s %s is of run %s, which started as %s", e.EventType, e.Job.Name, e.Run.RunID, ids[e.Job.Name])
		}
	}
	if !slices.Equal(got, wantLineage) {
		t.Errorf("events\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(wantLineage, "\n"))
	}
}

func TestOpenLineageHTTP(t *testing.T) {
	col := &collector{answer: []int{502, 200}}
	srv := httptest.NewServer(col)
	defer srv.Close()
	play(t, fromEnv(t, []string{
		`AIRFLOW__OPENLINEAGE__TRANSPORT={"type": "http", "url": "` + srv.URL + `/", "auth": {"type": "api_key", "apiKey": "k3y"}, "compression": "gzip"}`,
		"AIRFLOW__OPENLINEAGE__NAMESPACE=shop",
	}, nil))
	checkLineage(t, col.all("/api/v1/lineage"))
	if h := col.heads[0]; h.Get("Authorization") != "Bearer k3y" || h.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", h)
	}
}

func TestOpenLineageFile(t *testing.T) {
	dir := t.TempDir()
	for _, appended := range []bool{true, false} {
		path := filepath.Join(dir, strconv.FormatBool(appended), "events")
		play(t, fromEnv(t, []string{fmt.Sprintf(`AIRFLOW__OPENLINEAGE__TRANSPORT={"type": "file", "log_file_path": %q, "append": %t}`, path, appended)}, map[string]string{"OPENLINEAGE_NAMESPACE": "shop"}))
		names, err := filepath.Glob(path + "*")
		if err != nil || appended && len(names) != 1 || !appended && len(names) != len(wantLineage) {
			t.Fatalf("files %v %v", names, err)
		}
		var events [][]byte
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, bytes.Split(bytes.TrimSpace(b), []byte("\n"))...)
		}
		checkLineage(t, events)
	}
	o := fromEnv(t, []string{`AIRFLOW__OPENLINEAGE__TRANSPORT={"type": "http", "url": "http://x"}`, "AIRFLOW__OPENLINEAGE__DISABLED=True"}, nil)
	if o.Lineage != nil {
		t.Error("disabled, and on")
	}
}

func TestAssetsAreDatasets(t *testing.T) {
	got := datasets([]airflow.AssetRef{
		{URI: "s3://bucket/a/b.csv"}, {URI: "gs://bucket"}, {URI: "file:///data/x"}, {URI: "postgres://user:hunter2@db/x"}, {URI: "s3://user:hunter2@b/x"}, {Name: "plain"}, {URI: "x://y"},
	})
	want := []datasetID{{"s3://bucket", "a/b.csv"}, {"gs://bucket", "/"}, {"file", "/data/x"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A collector that is gone or stuck holds nobody up.
func TestASlowCollectorCostsTheSchedulerNothing(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	var warned bytes.Buffer
	obs := New(Options{Lineage: &Lineage{URL: srv.URL, Timeout: time.Minute}, Log: slog.New(slog.NewTextHandler(&warned, nil))})
	begin := time.Now()
	changes := story()
	for range queueLength {
		for _, c := range changes[:2] {
			obs.Changed(c)
		}
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("%d changes took %v", 2*queueLength, d)
	}
	if obs.pumps[0].lost.Load() == 0 {
		t.Error("nothing was lost, and nothing could be exported")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin = time.Now()
	obs.Flush(ctx)
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("flush took %v", d)
	}
	if n := strings.Count(warned.String(), "faster than they can be exported"); n != 1 {
		t.Errorf("%d warnings, want 1: %s", n, warned.String())
	}
}

func TestErrorsDoNotQuoteAddresses(t *testing.T) {
	var logs bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logs, nil))
	l := newLineage(Lineage{URL: "http://user:hunter2@127.0.0.1:1/x?key=hunter2", Tries: 1}, log)
	m := newOTLPMetrics(OTLP{URL: "http://user:hunter2@127.0.0.1:1/x?key=hunter2"}, log, time.Now)
	m.samples([]Sample{NewSample(Counter, "x", 1)})
	m.flush(t.Context())
	l.change(story()[0])
	if s := logs.String(); strings.Contains(s, "hunter2") || strings.Count(s, "127.0.0.1:1") < 2 {
		t.Errorf("log: %s", s)
	}
}
