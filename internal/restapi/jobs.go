package restapi

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/auth"
)

// Process is a process that schedules, waits for triggers or reads DAG files. A
// deployment of functions has none.
type Process struct {
	Hostname, Unixname string
	Started            time.Time
}

// JobCollectionResponse is a list of processes.
type JobCollectionResponse struct {
	Jobs  []JobResponse `json:"jobs"`
	Total int           `json:"total_entries"`
}

type listJobs struct {
	Paging
	Ordering
	StartDateRange
	EndDateRange
	IsAlive       *bool   `query:"is_alive"`
	JobState      *string `query:"job_state"`
	JobType       *string `query:"job_type"`
	Hostname      *string `query:"hostname"`
	ExecutorClass *string `query:"executor_class"`
}

// ProviderCollectionResponse is the list of provider packages: there are none.
type ProviderCollectionResponse struct {
	Providers []ProviderResponse `json:"providers"`
	Total     int                `json:"total_entries"`
}

// ProviderResponse is a provider package.
type ProviderResponse struct {
	PackageName      string  `json:"package_name"`
	Description      string  `json:"description"`
	Version          string  `json:"version"`
	DocumentationURL *string `json:"documentation_url"`
}

// PluginCollectionResponse is the list of plugins: there are none.
type PluginCollectionResponse struct {
	Plugins []PluginResponse `json:"plugins"`
	Total   int              `json:"total_entries"`
}

// PluginResponse is a plugin.
type PluginResponse struct {
	Name                     string           `json:"name"`
	Macros                   []string         `json:"macros"`
	FlaskBlueprints          []string         `json:"flask_blueprints"`
	FastapiApps              []map[string]any `json:"fastapi_apps"`
	FastapiRootMiddlewares   []map[string]any `json:"fastapi_root_middlewares"`
	ExternalViews            []map[string]any `json:"external_views"`
	ReactApps                []map[string]any `json:"react_apps"`
	AppbuilderViews          []map[string]any `json:"appbuilder_views"`
	AppbuilderMenuItems      []map[string]any `json:"appbuilder_menu_items"`
	GlobalOperatorExtraLinks []string         `json:"global_operator_extra_links"`
	OperatorExtraLinks       []string         `json:"operator_extra_links"`
	Source                   string           `json:"source"`
	Listeners                []string         `json:"listeners"`
	Timetables               []string         `json:"timetables"`
}

// PluginImportErrorCollectionResponse is the list of plugins that could not be read.
type PluginImportErrorCollectionResponse struct {
	ImportErrors []PluginImportErrorResponse `json:"import_errors"`
	Total        int                         `json:"total_entries"`
}

// PluginImportErrorResponse says why a plugin could not be read.
type PluginImportErrorResponse struct {
	Source string `json:"source"`
	Error  string `json:"error"`
}

type onlyPaging struct{ Paging }

func registerJobs(a *API) {
	op := func(path, id, tag, summary string, res auth.Resource) Op {
		return Op{Method: "GET", Path: Base + path, ID: id, Tag: tag, Summary: summary, Action: auth.Read, Resource: res}
	}
	Handle(a, op("/jobs", "get_jobs", "Job", "Get Jobs", auth.ResourceJob), getJobs)
	Handle(a, op("/providers", "get_providers", "Provider", "Get Providers", auth.ResourceProvider), func(*Request, *onlyPaging) (ProviderCollectionResponse, error) {
		return ProviderCollectionResponse{Providers: []ProviderResponse{}}, nil // operators are built in
	})
	Handle(a, op("/plugins", "get_plugins", "Plugin", "Get Plugins", auth.ResourcePlugin), func(*Request, *onlyPaging) (PluginCollectionResponse, error) {
		return PluginCollectionResponse{Plugins: []PluginResponse{}}, nil
	})
	Handle(a, op("/plugins/importErrors", "import_errors", "Plugin", "Import Errors", auth.ResourcePlugin), func(*Request, *nothing) (PluginImportErrorCollectionResponse, error) {
		return PluginImportErrorCollectionResponse{ImportErrors: []PluginImportErrorResponse{}}, nil
	})
}

// jobs are the parts of the installation that live in a process.
func (r *Request) jobs() []JobResponse {
	p := r.API.Process
	if p == nil || r.API.Health == nil {
		return nil
	}
	ps := r.API.Health(r.Context())
	var out []JobResponse
	for i, x := range []struct {
		part apishell.Part
		kind string
	}{{ps.Scheduler, "SchedulerJob"}, {ps.Triggerer, "TriggererJob"}, {ps.DagProcessor, "DagProcessorJob"}} {
		if x.part.Status == "" {
			continue
		}
		state := "running"
		if x.part.Status != apishell.Healthy {
			state = "failed"
		}
		out = append(out, JobResponse{
			ID: int64(i + 1), State: &state, JobType: &x.kind, StartDate: AtPtr(&p.Started), LatestHeartbeat: AtPtr(&x.part.Heartbeat), Hostname: orNil(p.Hostname), Unixname: orNil(p.Unixname),
		})
	}
	return out
}

func jobOrders() Orders[JobResponse] {
	text := func(f func(JobResponse) *string) func(JobResponse) SortKey {
		return func(j JobResponse) SortKey { return ByTextPtr(f(j)) }
	}
	at := func(f func(JobResponse) *Time) func(JobResponse) SortKey {
		return func(j JobResponse) SortKey {
			if t := f(j); t != nil {
				return ByTime(&t.Time)
			}
			return SortKey{Null: true}
		}
	}
	id := func(j JobResponse) SortKey { return ByInt(j.ID) }
	return Orders[JobResponse]{By: map[string]func(JobResponse) SortKey{
		"id": id, "dag_id": text(func(j JobResponse) *string { return j.DagID }), "state": text(func(j JobResponse) *string { return j.State }),
		"job_type": text(func(j JobResponse) *string { return j.JobType }), "executor_class": text(func(j JobResponse) *string { return j.ExecutorClass }),
		"hostname": text(func(j JobResponse) *string { return j.Hostname }), "unixname": text(func(j JobResponse) *string { return j.Unixname }),
		"start_date": at(func(j JobResponse) *Time { return j.StartDate }), "end_date": at(func(j JobResponse) *Time { return j.EndDate }),
		"latest_heartbeat": at(func(j JobResponse) *Time { return j.LatestHeartbeat }),
	}, Default: []string{"id"}, ID: id}
}

func getJobs(r *Request, in *listJobs) (JobCollectionResponse, error) {
	is := func(want, have *string) bool { return want == nil || have != nil && *have == *want }
	in1 := func(rg TimeRange, t *Time) bool {
		if t == nil {
			return rg.OK(nil)
		}
		return rg.OK(&t.Time)
	}
	p, err := List(r, in.query(in.Ordering), jobOrders(), All(func(context.Context) ([]JobResponse, error) { return r.jobs(), nil }), func(j JobResponse) bool {
		alive := *j.State == "running"
		return (in.IsAlive == nil || *in.IsAlive == alive) && is(in.JobState, j.State) && is(in.JobType, j.JobType) && is(in.Hostname, j.Hostname) && is(in.ExecutorClass, j.ExecutorClass) &&
			in1(TimeRange(in.StartDateRange), j.StartDate) && in1(TimeRange(in.EndDateRange), j.EndDate)
	})
	return JobCollectionResponse{Jobs: p.Items, Total: p.Total}, err
}
