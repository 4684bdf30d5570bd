package observe

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

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
	w := newCloudWatch(CloudWatch{To: &out, Deployment: "gust-dev", Metrics: metrics}, slog.New(slog.DiscardHandler))
	for _, c := range changes {
		w.change(c)
	}
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
	if l := lines[2]; l["duration_ms"] != 1000.0 || l["hop_ms"] != 70.0 || l["try_number"] != 1.0 || l["operator"] != "BashOperator" {
		t.Errorf("line %v", l)
	}
	if l := lines[4]; l["map_index"] != 3.0 {
		t.Errorf("line %v", l)
	}
	if l := lines[5]; l["duration_ms"] != 9000.0 || l["reason"] != "success" {
		t.Errorf("line %v", l)
	}
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
