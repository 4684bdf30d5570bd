package apishell_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/version"
)

func get(t *testing.T, h http.Handler, method, path string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s: %v in %q", path, err, w.Body)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("%s: content type %q", path, ct)
	}
	return w.Code, v
}

func TestHandler(t *testing.T) {
	var storeErr error
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	h := apishell.Handler(apishell.Options{
		Store: func(context.Context) error { return storeErr },
		Parts: func(context.Context) apishell.Parts {
			return apishell.Parts{Scheduler: apishell.Part{Status: apishell.Healthy, Heartbeat: at}, Triggerer: apishell.Part{Status: apishell.Unhealthy}}
		},
	})
	if code, v := get(t, h, "GET", "/api/v2/version"); code != 200 || v["version"] != version.AirflowVersion || v["gust_version"] == "" {
		t.Errorf("version: %d %v", code, v)
	}
	code, v := get(t, h, "GET", "/api/v2/monitor/health")
	field := func(p, k string) any { return v[p].(map[string]any)[k] }
	if code != 200 || field("metadatabase", "status") != "healthy" || field("scheduler", "status") != "healthy" || field("scheduler", "latest_scheduler_heartbeat") != "2024-05-06T07:08:09Z" ||
		field("triggerer", "status") != "unhealthy" || field("triggerer", "latest_triggerer_heartbeat") != nil || field("dag_processor", "status") != nil {
		t.Errorf("health: %d %v", code, v)
	}
	storeErr = errors.New("away")
	if _, v = get(t, h, "GET", "/api/v2/monitor/health"); field("metadatabase", "status") != "unhealthy" {
		t.Errorf("health without a store: %v", v)
	}
	if code, v := get(t, h, "GET", "/api/v2/dags"); code != 404 || v["detail"] == nil {
		t.Errorf("another path: %d %v", code, v)
	}
}
