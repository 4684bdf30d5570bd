package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

type waitRun struct {
	runPath
	Interval float64  `query:"interval" gt:"0"`
	Result   []string `query:"result" doc:"Tasks whose return values come with the last line."`
	Accept   string   `header:"accept"`
}

// waitLine is one line of waiting for a run.
type waitLine struct {
	State   string                     `json:"state"`
	Results map[string]json.RawMessage `json:"results,omitempty"`
}

func registerWait(a *API) {
	Handle(a, Op{
		Method: "GET", Path: Base + "/dags/{dag_id}/dagRuns/{dag_run_id}/wait", ID: "wait_dag_run_until_finished", Tag: "DagRun", Summary: "Experimental: Wait for a dag run to complete, and return task results if requested.",
		Action: auth.Read, Resource: auth.ResourceDagRun, Answers: []any{waitLine{}}, ContentTypes: []string{ndjson},
	}, wait)
}

// wait sends the run's state from time to time until it has ended. Who takes JSON
// only (the official Python client) gets the last line alone. A server that may
// not hold a request for long says what it knows and ends: the client asks again.
func wait(r *Request, in *waitRun) (Raw, error) {
	run, err := r.mustRun()
	if err != nil {
		return Raw{}, err
	}
	as := accepts(in.Accept, ndjson, "application/json")
	if as == "" {
		return Raw{}, Errorf(http.StatusNotAcceptable, "Only application/json or application/x-ndjson is supported")
	}
	line := func(ctx context.Context, run airflow.DagRun) ([]byte, error) {
		l := waitLine{State: string(run.State)}
		if run.State.Finished() && len(in.Result) > 0 {
			l.Results = map[string]json.RawMessage{}
			for _, task := range in.Result {
				v, err := r.resultOf(ctx, run, task)
				if err != nil {
					return nil, err
				}
				l.Results[task] = v
			}
		}
		b, err := json.Marshal(l)
		return append(b, '\n'), err
	}
	if r.API.Follow <= 0 || run.State.Finished() {
		b, err := line(r.Context(), run)
		return Raw{ContentType: as, Body: b}, err
	}
	return Raw{ContentType: as, Stream: func(ctx context.Context, w io.Writer, flush func()) error {
		ctx, cancel := context.WithTimeout(ctx, r.API.Follow)
		defer cancel()
		tick := time.NewTicker(time.Duration(max(in.Interval, 0.05) * float64(time.Second)))
		defer tick.Stop()
		for {
			if as == ndjson || run.State.Finished() {
				b, err := line(ctx, run)
				if err == nil {
					_, err = w.Write(b)
				}
				if err != nil || run.State.Finished() {
					return err
				}
				flush()
			}
			select {
			case <-ctx.Done():
				if as == ndjson || r.Context().Err() != nil {
					return nil
				}
				b, err := line(r.Context(), run) // the time for one answer is up
				if err == nil {
					_, err = w.Write(b)
				}
				return err
			case <-tick.C:
			}
			var err error
			if run, err = r.API.Store.GetRun(ctx, store.RunKey{DagID: run.DagID, RunID: run.RunID}); err != nil {
				return err
			}
		}
	}}, nil
}

// resultOf is a task's return value; of a mapped one the list of its instances'.
func (r *Request) resultOf(ctx context.Context, run airflow.DagRun, task string) (json.RawMessage, error) {
	v, err := r.API.Engine.ViewRun(ctx, run)
	if err != nil {
		return nil, err
	}
	mapped := []json.RawMessage{}
	isMapped := false
	for pos := range v.Len() {
		k := v.Key(pos)
		if string(k.TaskID) != task || !v.HasRow(pos) {
			continue
		}
		x, err := r.API.Store.GetXCom(ctx, k, airflow.XComReturnKey)
		if errors.Is(err, airflow.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k.MapIndex < 0 {
			return x.Value, nil
		}
		isMapped = true
		mapped = append(mapped, x.Value)
	}
	if !isMapped {
		return json.RawMessage("null"), nil
	}
	return json.Marshal(mapped)
}
