package restapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// BulkDAGRunBody is one run of a bulk change.
type BulkDAGRunBody struct {
	Closed
	DagRunID string      `json:"dag_run_id"`
	DagID    *string     `json:"dag_id"`
	State    Opt[string] `json:"state" enum:"queued,success,failed"`
	Note     Opt[string] `json:"note" maxlen:"1000"`
}

// bulkRun is a run, or for a delete its id.
type bulkRun struct{ BulkDAGRunBody }

func (b *bulkRun) bind(raw json.RawMessage, loc []any, ps *problems) bool {
	if isKind(raw, '"') {
		return json.Unmarshal(raw, &b.DagRunID) == nil
	}
	return bindInto(&b.BulkDAGRunBody, raw, loc, ps)
}

func (b *bulkRun) schema(d *describer) any {
	return obj{"anyOf": []any{obj{"type": "string"}, d.object(typeOf[BulkDAGRunBody]())}}
}

// BulkActionRunBody is one action of a bulk change of runs.
type BulkActionRunBody struct {
	Closed
	bulkMeans
	Entities []bulkRun `json:"entities"`
}

// BulkBodyRun is a bulk change of runs.
type BulkBodyRun struct {
	Closed
	Actions []BulkActionRunBody `json:"actions"`
}

type bulkRuns struct {
	DagID string `path:"dag_id"`
	Body  BulkBodyRun
}

// BulkDAGRunClearBody says which runs run again.
type BulkDAGRunClearBody struct {
	Closed
	PartitionKey       *string          `json:"partition_key"`
	PartitionDateStart *Time            `json:"partition_date_start"`
	PartitionDateEnd   *Time            `json:"partition_date_end"`
	DryRun             bool             `json:"dry_run" default:"true"`
	OnlyFailed         bool             `json:"only_failed" default:"false"`
	OnlyNew            bool             `json:"only_new" default:"false"`
	RunOnLatestVersion *bool            `json:"run_on_latest_version"`
	Note               *string          `json:"note" maxlen:"1000"`
	DagRuns            []BulkDAGRunBody `json:"dag_runs" required:"false"`
}

type clearRuns struct {
	DagID string `path:"dag_id"`
	Body  BulkDAGRunClearBody
}

func registerBulkRuns(a *API) {
	Handle(a, Op{Method: "PATCH", Path: Base + "/dags/{dag_id}/dagRuns", ID: "bulk_dag_runs", Tag: "DagRun", Summary: "Bulk Dag Runs", Action: auth.Edit, Resource: auth.ResourceDagRun}, bulkDagRuns)
	Handle(a, Op{Method: "POST", Path: Base + "/dags/{dag_id}/clearDagRuns", ID: "clear_dag_runs", Tag: "DagRun", Summary: "Clear Dag Runs", Action: auth.Edit, Resource: auth.ResourceDagRun,
		Answers: []any{TaskInstanceCollectionResponse{}, DAGRunCollectionResponse{}}}, clearDagRuns)
	Handle(a, Op{Method: "PUT", Path: Base + "/parseDagFile/{file_token}", ID: "reparse_dag_file", Tag: "DAG Parsing", Summary: "Reparse Dag File", Action: auth.Edit, Resource: auth.ResourceDAG, Status: http.StatusCreated}, reparse)
}

// bulkDagRuns changes or deletes runs one by one, in their order.
func bulkDagRuns(r *Request, in *bulkRuns) (BulkResponse, error) {
	var out BulkResponse
	path := r.path
	defer func() { r.path, r.dag = path, nil }()
	for _, act := range in.Body.Actions {
		part := out.Of(act.Action)
		if act.Action == "create" {
			part.Errors = append(part.Errors, map[string]any{"error": "Dag Runs bulk create is not supported: trigger them", "status_code": http.StatusMethodNotAllowed})
			continue
		}
		for _, e := range act.Entities {
			dag := in.DagID
			if e.DagID != nil {
				dag = *e.DagID
			}
			r.path, r.dag = map[string]string{"dag_id": dag, "dag_run_id": e.DagRunID}, nil
			err := r.mayDo(map[string]auth.Action{"update": auth.Edit, "delete": auth.Delete}[act.Action])
			switch {
			case err != nil:
			case act.Action == "delete":
				_, err = deleteOneRun(r, &runPath{})
			default:
				_, err = patchOneRun(r, &patchRun{UpdateMask: act.UpdateMask, Body: DAGRunPatchBody{State: e.State, Note: e.Note}})
			}
			if err := part.did(dag+"."+e.DagRunID, err, act.ActionOnNonExistence); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// clearDagRuns runs several runs of DAGs again.
func clearDagRuns(r *Request, in *clearRuns) (any, error) {
	b := in.Body
	if b.PartitionKey != nil || b.PartitionDateStart != nil || b.PartitionDateEnd != nil {
		return nil, BadRequest("No Dag of this installation has partitions: name the runs in dag_runs")
	}
	if b.OnlyNew {
		return nil, BadRequest("only_new is not supported: a clear with run_on_latest_version adds the tasks that are new")
	}
	if len(b.DagRuns) == 0 {
		return nil, bodyError(r, "dag_runs list should have at least 1 element.")
	}
	path := r.path
	defer func() { r.path, r.dag = path, nil }()
	var runs []airflow.DagRun
	for _, e := range b.DagRuns {
		dag := in.DagID
		if e.DagID != nil {
			dag = *e.DagID
		}
		r.path, r.dag = map[string]string{"dag_id": dag, "dag_run_id": e.DagRunID}, nil
		if err := r.mayDo(auth.Edit); err != nil {
			return nil, err
		}
		run, err := r.mustRun()
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	var cleared []tiRow
	out := DAGRunCollectionResponse{DagRuns: []DAGRunResponse{}}
	ms := r.models()
	for _, run := range runs {
		key := store.RunKey{DagID: run.DagID, RunID: run.RunID}
		ts, err := r.clearOf(run, scheduler.ClearOptions{OnlyFailed: b.OnlyFailed, ResetDagRun: true}, nil, engine.ClearRequest{DryRun: b.DryRun, LatestVersion: latest(b.RunOnLatestVersion), User: r.Who.Name})
		if err != nil {
			return nil, err
		}
		cleared = append(cleared, ts...)
		if b.DryRun {
			continue
		}
		if b.Note != nil {
			if _, err := r.API.Store.UpdateRun(r.Context(), key, func(d *airflow.DagRun) error { d.Note = *b.Note; return nil }); err != nil {
				return nil, err
			}
		}
		now, err := r.API.Store.GetRun(r.Context(), key)
		if err != nil {
			return nil, err
		}
		if len(ts) > 0 {
			now.State, now.StartDate, now.EndDate, now.LastSchedulingDecision = airflow.RunQueued, nil, nil, nil
		}
		v, err := ms.run(now)
		if err != nil {
			return nil, err
		}
		out.DagRuns = append(out.DagRuns, v)
	}
	if b.DryRun {
		return r.collection(cleared)
	}
	out.Total = len(out.DagRuns)
	return out, nil
}

// mayDo checks a permission on the DAG that an entity of a bulk change names.
func (r *Request) mayDo(act auth.Action) error {
	m, err := r.mustDag()
	if err != nil {
		return err
	}
	if !r.Who.May(act, r.Op.Resource, string(m.DagID), m.Tags) {
		return Errorf(http.StatusForbidden, "Forbidden")
	}
	return nil
}

type fileTokenPath struct {
	FileToken string `path:"file_token"`
}

// reparse asks for a DAG file to be read again.
func reparse(r *Request, in *fileTokenPath) (Raw, error) {
	var t struct {
		Bundle string `json:"bundle_name"`
		Path   string `json:"relative_fileloc"`
	}
	b, err := base64.RawURLEncoding.DecodeString(in.FileToken)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.Bundle != r.API.BundleName {
		return Raw{}, NotFound("File not found")
	}
	found := false
	ms, err := r.readableDags(r.Context())
	if err != nil {
		return Raw{}, err
	}
	for _, m := range ms {
		found = found || m.RelativeFileloc == t.Path
	}
	if !found {
		return Raw{}, NotFound("File not found")
	}
	if r.API.Reparse == nil {
		return Raw{}, Errorf(http.StatusNotImplemented, "This server reads no DAG files: they are read when they change")
	}
	r.API.Reparse(t.Path)
	return Raw{ContentType: "application/json", Body: []byte("null")}, nil
}
