package taskrunner

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/template"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
)

// Templates returns the renderer of the task's templates; it is made on first use.
func (t *Task) Templates(ctx context.Context) (Templates, error) {
	if t.templates != nil {
		return t.templates, nil
	}
	tpl, err := NewTemplates(ctx, TemplateInput{
		Context: t.TaskContext, MapIndex: t.Key().MapIndex, Params: t.params, Reader: ownXComs{t.Backend(), t},
		Masker: t.w.o.Masker, Now: t.Now, Args: t.Args, Hostname: t.w.o.Identity.Hostname,
	})
	if err != nil {
		return nil, err
	}
	if err := t.setMacros(ctx, tpl); err != nil {
		return nil, err
	}
	if err := t.setGroupArgs(ctx, tpl); err != nil {
		return nil, err
	}
	t.templates = tpl
	return tpl, nil
}

// ownXComs is a Reader that also knows what the running dispatch has pushed.
type ownXComs struct {
	worker.Reader
	t *Task
}

func (o ownXComs) GetXCom(ctx context.Context, q worker.XComQuery) (json.RawMessage, error) {
	return o.t.GetXCom(ctx, q)
}

func (o ownXComs) ListXCom(ctx context.Context, q worker.XComQuery) ([]worker.MappedXCom, error) {
	return o.t.ListXCom(ctx, q)
}

// TemplateInput is what the templates of a task, or of a callback, see.
type TemplateInput struct {
	Context  *worker.TaskContext
	MapIndex int
	Params   *jinja.Dict // nil = merged anew
	Reader   worker.Reader
	// Masker hides the secrets that templates read; may be nil.
	Masker   Masker
	Now      func() time.Time
	Args     *Args // shown as attributes of the task
	Hostname string
	Extra    map[string]any // more names: exception, reason
}

// NewTemplates returns a renderer over the context of in.
func NewTemplates(ctx context.Context, in TemplateInput) (Templates, error) {
	tc := in.Context
	params := in.Params
	if params == nil {
		p, err := contextParams(tc)
		if err != nil {
			return nil, err
		}
		params = p
	}
	p, err := json.Marshal(serde.Plain(params))
	if err != nil {
		return nil, err
	}
	run := tc.Run
	ti := template.Input{
		Dag:                 template.Dag{DagID: string(tc.DAG.DagID), Attrs: dagAttrs(tc)},
		DagRun:              runInput(run, tc.TriggeringAssetEvents),
		Params:              p,
		IgnoreConfInParams:  tc.IgnoreConfInParams,
		TaskRescheduleCount: tc.RescheduleCount,
		Extra:               in.Extra,
		Sources:             template.Sources{Now: in.Now, Random: rand.Float64, UUID: uuid.NewString},
		Lookups:             lookups(ctx, in.Reader, run, in.Masker),
	}
	if tc.ExpandedTICount > 0 {
		ti.ExpandedTICount = &tc.ExpandedTICount
	}
	if t := tc.Task; t != nil {
		if t.MapIndexTemplate != "" {
			ti.MapIndexTemplate = &t.MapIndexTemplate
		}
		ti.Task = template.Task{TaskID: string(t.TaskID), OperatorClass: t.TaskType, Attrs: taskAttrs(t, in.Args, params)}
		ti.TaskInstance = template.TaskInstance{
			DagID: string(tc.DAG.DagID), TaskID: string(t.TaskID), MapIndex: in.MapIndex, TryNumber: tc.TryNumber, MaxTries: tc.MaxTries,
			StartDate: &tc.StartDate, State: "running", Hostname: in.Hostname, Attrs: map[string]any{"log_url": tc.LogURL, "mark_success_url": tc.LogURL, "operator": t.TaskType, "queue": t.Queue, "pool": t.Pool},
		}
		ti.Inlets, ti.Outlets = assetList(t.Inlets), assetList(t.Outlets)
	}
	c, err := template.NewContext(ti)
	if err != nil {
		return nil, err
	}
	return newRenderer(c, tc)
}

func assetList(refs []airflow.AssetRef) []any {
	out := make([]any, len(refs))
	for i, r := range refs {
		m := map[string]any{"name": r.Name, "uri": r.URI, "group": r.Group}
		if len(r.Extra) > 0 {
			m["extra"] = r.Extra
		}
		out[i] = m
	}
	return out
}

func dagAttrs(tc *worker.TaskContext) map[string]any {
	d := tc.DAG
	return map[string]any{
		"description": d.Description, "tags": d.Tags, "fileloc": d.RelativeFileloc, "folder": dagDir(tc), "dag_display_name": d.DagDisplayName,
		"catchup": d.Catchup, "max_active_runs": d.MaxActiveRuns, "max_active_tasks": d.MaxActiveTasks, "doc_md": d.DocMD,
	}
}

func taskAttrs(t *airflow.Task, args *Args, params *jinja.Dict) map[string]any {
	attrs := map[string]any{
		"owner": t.Owner, "retries": t.Retries, "retry_delay": t.RetryDelay, "queue": t.Queue, "pool": t.Pool, "pool_slots": t.PoolSlots,
		"trigger_rule": string(t.TriggerRule), "priority_weight": t.PriorityWeight, "doc_md": t.DocMD, "task_display_name": t.DisplayName,
		"depends_on_past": t.DependsOnPast, "params": params,
	}
	ids := func(l []airflow.TaskID) []string {
		out := make([]string, len(l))
		for i, id := range l {
			out[i] = string(id)
		}
		return out
	}
	attrs["upstream_task_ids"], attrs["downstream_task_ids"] = ids(t.Upstream), ids(t.Downstream)
	if args != nil {
		for name, v := range args.vals {
			attrs[name] = v
		}
	}
	return attrs
}

func runInput(r airflow.DagRun, events []airflow.AssetEvent) template.DagRun {
	out := template.DagRun{
		DagID: string(r.DagID), RunID: string(r.RunID), RunType: string(r.RunType), State: string(r.State), LogicalDate: r.LogicalDate,
		DataIntervalStart: r.DataIntervalStart, DataIntervalEnd: r.DataIntervalEnd, RunAfter: r.RunAfter, StartDate: r.StartDate,
		EndDate: r.EndDate, ClearNumber: r.ClearNumber, Conf: r.Conf,
	}
	if len(r.Conf) == 0 {
		out.Conf = json.RawMessage("{}")
	}
	if r.TriggeringUserName != "" {
		out.TriggeringUserName = &r.TriggeringUserName
	}
	if r.Note != "" {
		out.Note = &r.Note
	}
	for _, e := range events {
		fields, err := json.Marshal(e)
		if err != nil {
			continue // an event always encodes
		}
		out.AssetEvents = append(out.AssetEvents, template.AssetEvent{AssetURI: e.AssetURI, AssetName: e.AssetName, Fields: fields})
	}
	return out
}

func lookups(ctx context.Context, r worker.Reader, run airflow.DagRun, m Masker) template.Lookups {
	query := func(q template.XComQuery) worker.XComQuery {
		return worker.XComQuery{
			DagID: airflow.DagID(q.DagID), RunID: airflow.RunID(q.RunID), TaskID: airflow.TaskID(q.TaskID), Key: q.Key,
			MapIndex: q.MapIndex, IncludePriorDates: q.IncludePriorDates,
		}
	}
	return template.Lookups{
		Variable: func(key string) (string, bool, error) {
			v, err := r.GetVariable(ctx, key)
			if errors.Is(err, airflow.ErrNotFound) {
				return "", false, nil
			}
			if err == nil {
				addNamed(m, key, v.Value)
			}
			return v.Value, err == nil, err
		},
		Connection: func(id string) (*template.Connection, error) {
			c, err := r.GetConnection(ctx, id)
			if errors.Is(err, airflow.ErrNotFound) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			ConnectionSecrets(c, m)
			return templateConnection(c), nil
		},
		XComAll: func(q template.XComQuery) ([]jinja.Value, bool, error) {
			vals, err := r.ListXCom(ctx, query(q))
			if errors.Is(err, airflow.ErrNotFound) || err == nil && len(vals) == 0 {
				return nil, false, nil
			}
			if err != nil {
				return nil, false, err
			}
			out := make([]jinja.Value, len(vals))
			for i, v := range vals {
				if out[i], err = serde.DecodeXCom(v.Value); err != nil {
					return nil, false, err
				}
			}
			return out, true, nil
		},
		XComOne: func(q template.XComQuery) (jinja.Value, error) {
			v, err := r.GetXCom(ctx, query(q))
			if errors.Is(err, airflow.ErrNotFound) || err == nil && len(v) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return serde.DecodeXCom(v)
		},
		PrevSuccess: func() (*template.PrevRun, error) {
			p, err := r.PreviousDagRun(ctx, run, airflow.RunSuccess)
			if errors.Is(err, airflow.ErrNotFound) || err == nil && p == nil {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return &template.PrevRun{DataIntervalStart: p.DataIntervalStart, DataIntervalEnd: p.DataIntervalEnd, StartDate: p.StartDate, EndDate: p.EndDate}, nil
		},
	}
}
