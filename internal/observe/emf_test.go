package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
)

// published reads the metrics out of a log as CloudWatch does, by the specification
// of the embedded metric format.
func published(t *testing.T, log []byte) (metrics map[string][]float64, lines []map[string]any) {
	t.Helper()
	metrics = map[string][]float64{}
	for _, raw := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		var line map[string]any
		if err := json.Unmarshal(raw, &line); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		meta, ok := line["_aws"].(map[string]any)
		if !ok {
			lines = append(lines, line)
			continue
		}
		if ts, ok := meta["Timestamp"].(float64); !ok || ts < 1e12 || ts > 1e13 {
			t.Errorf("timestamp %v is not in milliseconds", meta["Timestamp"])
		}
		for _, d := range meta["CloudWatchMetrics"].([]any) {
			directive := d.(map[string]any)
			dims := directive["Dimensions"].([]any)
			if directive["Namespace"] != "Gust" || len(dims) != 1 || len(dims[0].([]any)) != 1 || dims[0].([]any)[0] != "Deployment" {
				t.Errorf("directive %v: expected the one dimension", directive)
			}
			if line["Deployment"] != "gust-dev" {
				t.Errorf("the dimension has no value in %s", raw)
			}
			for _, m := range directive["Metrics"].([]any) {
				def := m.(map[string]any)
				name := def["Name"].(string)
				if u := def["Unit"]; u != "Count" && u != "Milliseconds" {
					t.Errorf("unit %v", u)
				}
				switch v := line[name].(type) {
				case float64:
					metrics[name] = append(metrics[name], v)
				case []any:
					if len(v) > 100 {
						t.Errorf("%d values of %s in one line", len(v), name)
					}
					for _, x := range v {
						metrics[name] = append(metrics[name], x.(float64))
					}
				default:
					t.Errorf("%s has no value in %s", name, raw)
				}
			}
		}
	}
	return metrics, lines
}

func cloudWatchOf(t *testing.T, metrics []string, changes ...engine.Change) (map[string][]float64, []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	w := newCloudWatch(CloudWatch{To: &out, Deployment: "gust-dev", Metrics: metrics}, slog.New(slog.DiscardHandler), time.Now)
	for _, c := range changes {
		w.change(c)
	}
	w.close()
	for _, line := range strings.Split(out.String(), "\n") {
		if len(line) > 400 && !strings.Contains(line, `[0,0,0`) { // a list of values is cheaper than lines
			t.Errorf("a line of %d bytes is paid for: %s", len(line), line)
		}
	}
	return published(t, out.Bytes())
}

func TestCloudWatch(t *testing.T) {
	metrics, lines := cloudWatchOf(t, awsenv.DefaultMetrics(), story()...)
	if len(metrics) != 1 || !slices.Equal(metrics[awsenv.MetricHop], []float64{70}) {
		t.Errorf("metrics %v", metrics)
	}
	var got []string
	for _, l := range lines {
		task, _ := l["task_id"].(string)
		got = append(got, strings.TrimSpace(l["event"].(string)+" "+l["state"].(string)+" "+task))
		if l["dag_id"] != "sales" || l["run_id"] != "scheduled__2026-03-01" {
			t.Errorf("line %v", l)
		}
	}
	want := []string{
		"dag_run running", "task_instance success extract", "task_instance up_for_retry group.load", "task_instance success group.load",
		"task_instance skipped each", "dag_run success",
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
	if l := lines[2]; l["duration_ms"] != 1000.0 || l["hop_ms"] != 70.0 || l["queued_ms"] != 70.0 || l["start_date"] != "2026-03-01T06:00:01.793Z" || l["queue"] != nil || l["pool"] != nil || l["try_number"] != 1.0 || l["operator"] != "BashOperator" {
		t.Errorf("line %v", l)
	}
	if l := lines[4]; l["map_index"] != 3.0 {
		t.Errorf("line %v", l)
	}
	if l := lines[5]; l["duration_ms"] != 9000.0 || l["reason"] != "success" {
		t.Errorf("line %v", l)
	}
}

// TestCloudWatchKeepsDurations: lines of metrics are few, and those that alarms wait
// for are not kept.
func TestCloudWatchKeepsDurations(t *testing.T) {
	var out bytes.Buffer
	clock := began
	w := newCloudWatch(CloudWatch{To: &out, Deployment: "gust-dev", Metrics: awsenv.DefaultMetrics()}, slog.New(slog.DiscardHandler), func() time.Time { return clock })
	step := func(at time.Time, to airflow.TIState) {
		key := airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
		clock = at
		w.change(engine.Change{Run: airflow.DagRun{DagID: "d", RunID: "r", State: airflow.RunRunning}, From: airflow.RunRunning, At: at, Tasks: []engine.TaskChange{
			{TaskInstanceKey: key, From: airflow.TIQueued, To: airflow.TIRunning, HopKnown: true, Hop: 70 * time.Millisecond}, {TaskInstanceKey: key, From: airflow.TIRunning, To: to}}})
		w.flush(t.Context())
	}
	check := func(what string, lines int, hops int) {
		t.Helper()
		metrics, _ := published(t, out.Bytes())
		if got := strings.Count(out.String(), `"_aws"`); got != lines || len(metrics[awsenv.MetricHop]) != hops {
			t.Errorf("%s: %d lines with %d hops, want %d with %d", what, got, len(metrics[awsenv.MetricHop]), lines, hops)
		}
	}
	for i := range 50 {
		step(began.Add(time.Duration(i)*time.Second), airflow.TISuccess)
	}
	check("fifty seconds", 0, 0)
	step(began.Add(51*time.Second), airflow.TIFailed)
	check("a failure", 1, 51)
	step(began.Add(52*time.Second), airflow.TISuccess)
	clock = began.Add(53*time.Second + keepMetrics)
	w.flush(t.Context())
	check("a minute later", 2, 52)
	if !strings.Contains(out.String(), fmt.Sprintf(`"Timestamp":%d`, began.Add(52*time.Second).UnixMilli())) {
		t.Error("a duration has another time than its own minute's")
	}
	for range 250 {
		step(began.Add(3*time.Minute), airflow.TISuccess)
	}
	check("a burst", 4, 252)
	w.close()
	check("the end", 5, 302)
}

func TestCloudWatchCountsFailures(t *testing.T) {
	c := story()[4]
	c.Run.State = airflow.RunFailed
	for i := range 250 {
		key := airflow.TaskInstanceKey{DagID: "sales", RunID: c.Run.RunID, TaskID: "each", MapIndex: i}
		c.Tasks = append(c.Tasks, engine.TaskChange{TaskInstanceKey: key, From: airflow.TIQueued, To: airflow.TIRunning, HopKnown: true, Hop: -1},
			engine.TaskChange{TaskInstanceKey: key, From: airflow.TIRunning, To: airflow.TIFailed})
	}
	metrics, lines := cloudWatchOf(t, append(awsenv.DefaultMetrics(), awsenv.OptInMetrics()...), c)
	if !slices.Equal(metrics[awsenv.MetricTaskInstancesFailed], []float64{250}) || !slices.Equal(metrics[awsenv.MetricDagRunsFailed], []float64{1}) {
		t.Errorf("failures %v %v", metrics[awsenv.MetricTaskInstancesFailed], metrics[awsenv.MetricDagRunsFailed])
	}
	if h := metrics[awsenv.MetricHop]; len(h) != 250 || slices.Max(h) != 0 || slices.Min(h) != 0 {
		t.Errorf("%d hops: clocks that disagree by less than a hop make it 0, never negative", len(h))
	}
	if !slices.Equal(metrics[awsenv.MetricDagRunDuration], []float64{9000}) || len(lines) != 251 {
		t.Errorf("%v, %d lines", metrics, len(lines))
	}
	if m, lines := cloudWatchOf(t, nil, c); len(m) != 0 || len(lines) != 251 {
		t.Errorf("no metrics wanted: %v", m)
	}
}

func TestParseMetrics(t *testing.T) {
	for text, want := range map[string][]string{"": awsenv.DefaultMetrics(), "[]": {}, `["HopMilliseconds","TaskDurationMilliseconds"]`: {"HopMilliseconds", "TaskDurationMilliseconds"}} {
		got, err := ParseMetrics(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"x", `["Hops"]`} {
		if _, err := ParseMetrics(text); err == nil || !strings.Contains(err.Error(), "GUST_METRICS") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if len(awsenv.DefaultMetrics()) > 3 {
		t.Error("more than three metrics are paid for by default")
	}
}
