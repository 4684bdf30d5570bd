package schedulerfn

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/observe"
)

// telling is a scheduler whose every message fails a run.
type telling struct{ to engine.Listener }

func (s telling) Handle(_ context.Context, ds []engine.Delivery) []int {
	for _, d := range ds {
		s.to.Changed(engine.Change{Run: airflow.DagRun{DagID: d.DagID, RunID: d.RunID, State: airflow.RunFailed}, From: airflow.RunRunning})
	}
	return nil
}

func (telling) TickServerless(context.Context) error { return nil }

// The process may be frozen as soon as the handler returns.
func TestObservationsLeaveBeforeTheInvocationEnds(t *testing.T) {
	var out bytes.Buffer
	obs := observe.New(observe.Options{CloudWatch: &observe.CloudWatch{To: &out, Deployment: "gust-dev", Metrics: awsenv.DefaultMetrics()}})
	f := &schedulerFunction{engine: telling{obs.Listener()}, log: slog.New(slog.DiscardHandler), observer: obs}
	batch := `{"Records":[{"messageId":"1","body":"{\"k\":\"run\",\"d\":\"d\",\"r\":\"r\"}","attributes":{"ApproximateReceiveCount":"1"}}]}`
	if _, err := f.handle(t.Context(), json.RawMessage(batch)); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Count(s, "\n") != 2 || !strings.Contains(s, `"event":"dag_run","state":"failed"`) || !strings.Contains(s, `"DagRunsFailed":1`) {
		t.Errorf("written when the handler returned: %q", s)
	}
	obs.Close()
}

func TestObserverOfTheFunction(t *testing.T) {
	settings, err := awsapp.Settings([]string{"AIRFLOW__METRICS__OTEL_ON=True"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for metrics, want := range map[string]string{"": "", `["HopMilliseconds"]`: "", `["Hops"]`: `there is no metric "Hops"`} {
		t.Setenv(awsenv.Metrics, metrics)
		obs, err := observerOf(settings, slog.New(slog.DiscardHandler))
		if want == "" && (err != nil || !obs.On() || !obs.Measures()) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", metrics, err)
		}
		obs.Close()
	}
}
