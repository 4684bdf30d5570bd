package restapi

import (
	"errors"

	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
)

// runIDRule is what a run id given by a user has to match
// ([scheduler] allowed_run_id_pattern), in Airflow's words.
const runIDRule = `does not match regex pattern '^[A-Za-z0-9_.~:+-]+$' or '^(?:manual|scheduled|asset_triggered)__(?:\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00)$'`

func postRun(r *Request, in *triggerRun) (DAGRunResponse, error) {
	b := in.Body
	if (b.DataIntervalStart == nil) != (b.DataIntervalEnd == nil) {
		return DAGRunResponse{}, Invalid(FieldError{Type: "value_error", Loc: []any{"body"}, Msg: "Value error, Either both data_interval_start and data_interval_end must be provided or both must be None", Input: r.RawBody, Ctx: map[string]any{"error": map[string]any{}}})
	}
	m, err := r.Dag()
	if errors.Is(err, airflow.ErrNotFound) || err == nil && m.IsStale {
		return DAGRunResponse{}, NotFound("Dag with dag_id: '%s' not found", in.DagID)
	}
	if err != nil {
		return DAGRunResponse{}, err
	}
	return r.triggerRun(m, engine.TriggerOptions{}, b)
}

// triggerRun makes the run of a DAG that a body asks for; o has what the body does not.
func (r *Request) triggerRun(m airflow.DagModel, o engine.TriggerOptions, b TriggerDAGRunPostBody) (DAGRunResponse, error) {
	o.DagID, o.TriggeredBy, o.User, o.Conf, o.NoLogicalDate = m.DagID, airflow.TriggeredByRestAPI, r.Who.Name, b.Conf.raw, b.LogicalDate == nil
	o.LogicalDate, o.Validate = utc(b.LogicalDate), r.API.CheckParams
	if b.DagRunID != nil {
		o.RunID = airflow.RunID(*b.DagRunID)
		if err := airflow.CheckRunID(*b.DagRunID); err != nil {
			return DAGRunResponse{}, BadRequest("The run_id provided '%s' %s", *b.DagRunID, runIDRule)
		}
	}
	if b.LogicalDate != nil {
		o.DataIntervalStart, o.DataIntervalEnd = utc(b.DataIntervalStart), utc(b.DataIntervalEnd)
	}
	if b.RunAfter != nil {
		o.RunAfter = b.RunAfter.UTC()
	}
	if b.Note != nil {
		o.Note = *b.Note
	}
	if b.PartitionKey != nil {
		return DAGRunResponse{}, BadRequest("Dag with dag_id: '%s' does not support partitions", m.DagID)
	}
	return r.trigger(m, o, b)
}

// trigger makes a run and answers with the caller's offsets, which later answers
// do not have.
func (r *Request) trigger(m airflow.DagModel, o engine.TriggerOptions, b TriggerDAGRunPostBody) (DAGRunResponse, error) {
	if m.HasImportErrors {
		return DAGRunResponse{}, BadRequest("Dag with dag_id: '%s' has import errors and cannot be triggered", m.DagID)
	}
	run, err := r.API.Engine.Trigger(r.Context(), o)
	if errors.Is(err, airflow.ErrAlreadyExists) {
		return DAGRunResponse{}, NotUnique("%v", err)
	}
	if err != nil {
		return DAGRunResponse{}, err
	}
	out, err := r.models().run(run)
	if err != nil {
		return out, err
	}
	out.LastSchedulingDecision, out.StartDate, out.State = nil, nil, string(airflow.RunQueued) // as it was made
	if b.LogicalDate != nil {
		zone := b.LogicalDate.Location()
		for _, t := range []**Time{&out.LogicalDate, &out.DataIntervalStart, &out.DataIntervalEnd} {
			if *t != nil {
				*t = &Time{(*t).In(zone)}
			}
		}
		if b.DataIntervalStart != nil {
			out.DataIntervalStart, out.DataIntervalEnd = b.DataIntervalStart, b.DataIntervalEnd
		}
	}
	if b.RunAfter != nil {
		out.RunAfter = *b.RunAfter
	}
	return out, nil
}

func utc(t *Time) *time.Time {
	if t == nil {
		return nil
	}
	return ptrTo(t.UTC())
}
