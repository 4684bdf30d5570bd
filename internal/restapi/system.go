package restapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/version"
)

type nothing struct{}

// VersionInfo is the answer of /version.
type VersionInfo struct {
	Version     string  `json:"version"`
	GitVersion  *string `json:"git_version"`
	GustVersion string  `json:"gust_version"`
}

// HealthInfoResponse is the answer of /monitor/health.
type HealthInfoResponse struct {
	Metadatabase BaseInfoResponse         `json:"metadatabase"`
	Scheduler    SchedulerInfoResponse    `json:"scheduler"`
	Triggerer    TriggererInfoResponse    `json:"triggerer"`
	DagProcessor DagProcessorInfoResponse `json:"dag_processor"`
}

// BaseInfoResponse says how a part is.
type BaseInfoResponse struct {
	Status *string `json:"status"`
}

// SchedulerInfoResponse says how the scheduler is.
type SchedulerInfoResponse struct {
	Status    *string `json:"status"`
	Heartbeat *string `json:"latest_scheduler_heartbeat"`
}

// TriggererInfoResponse says how the triggerer is.
type TriggererInfoResponse struct {
	Status    *string `json:"status"`
	Heartbeat *string `json:"latest_triggerer_heartbeat"`
}

// DagProcessorInfoResponse says how the DAG processor is.
type DagProcessorInfoResponse struct {
	Status    *string `json:"status"`
	Heartbeat *string `json:"latest_dag_processor_heartbeat"`
}

func registerSystem(a *API) {
	Handle(a, Op{Method: "GET", Path: Base + "/version", ID: "get_version", Tag: "Version", Summary: "Get Version", Open: true},
		func(*Request, *nothing) (VersionInfo, error) {
			own := version.String()
			return VersionInfo{Version: version.AirflowVersion, GitVersion: &own, GustVersion: own}, nil
		})
	Handle(a, Op{Method: "GET", Path: Base + "/monitor/health", ID: "get_health", Tag: "Monitor", Summary: "Get Health", Open: true}, health)
	Handle(a, Op{Method: "GET", Path: "/openapi.json", ID: "get_openapi", Summary: "This description", Action: auth.Read, Resource: auth.ResourceMenu, Answers: []any{map[string]any{}}},
		func(r *Request, _ *nothing) (Raw, error) {
			return Raw{ContentType: "application/json", Body: r.API.OpenAPI()}, nil
		})
}

func health(r *Request, _ *nothing) (HealthInfoResponse, error) {
	db := apishell.Healthy
	if _, err := r.API.Store.GetPool(r.Context(), airflow.DefaultPool); err != nil && !errors.Is(err, airflow.ErrNotFound) {
		db = apishell.Unhealthy
	}
	var ps apishell.Parts
	if r.API.Health != nil {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		ps = r.API.Health(ctx)
	}
	out := HealthInfoResponse{Metadatabase: BaseInfoResponse{&db}}
	for _, x := range []struct {
		p          apishell.Part
		status, at **string
	}{
		{ps.Scheduler, &out.Scheduler.Status, &out.Scheduler.Heartbeat},
		{ps.Triggerer, &out.Triggerer.Status, &out.Triggerer.Heartbeat},
		{ps.DagProcessor, &out.DagProcessor.Status, &out.DagProcessor.Heartbeat},
	} {
		*x.status = orNil(x.p.Status)
		if !x.p.Heartbeat.IsZero() {
			// Unlike every other date of the API: Python's isoformat.
			*x.at = ptrTo(x.p.Heartbeat.UTC().Format("2006-01-02T15:04:05.000000+00:00"))
		}
	}
	r.header.Set("Cache-Control", "no-store")
	return out, nil
}

var _ http.Handler = (*API)(nil)
