// Package runfacts reads from a store what the cost of a run is estimated from.
package runfacts

import (
	"context"
	"encoding/json"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsmeter/costreport"
	"github.com/gustflow/gust/internal/store"
)

// rowOverhead is what an item's keys and attributes take beside its document.
const rowOverhead = 120

// Engine is what is needed of *engine.Engine.
type Engine interface {
	TaskInstances(ctx context.Context, k store.RunKey) ([]airflow.TaskInstance, error)
}

// Of reads the facts of a run; airflow.ErrNotFound if there is none.
func Of(ctx context.Context, s *store.Store, e Engine, k store.RunKey) (costreport.Facts, error) {
	f := costreport.Facts{DagID: string(k.DagID), RunID: string(k.RunID)}
	info, err := s.GetRun(ctx, k)
	if err != nil {
		return f, err
	}
	f.Dated = info.LogicalDate != nil
	f.Scheduled = info.RunType == airflow.RunTypeScheduled
	st, err := s.LoadRunState(ctx, k)
	if err != nil {
		return f, err
	}
	f.Steps, f.MetaBytes = int(st.Version), len(st.Header)+rowOverhead
	inline := 0
	for _, ch := range st.Chunks {
		inline += len(ch)
	}
	if f.MetaBytes+inline <= 6<<10 {
		f.MetaBytes += inline
	} else {
		for _, ch := range st.Chunks {
			f.ChunkBytes = append(f.ChunkBytes, len(ch)+rowOverhead)
		}
	}
	tis, err := e.TaskInstances(ctx, k)
	if err != nil {
		return f, err
	}
	for _, ti := range tis {
		if ti.StartDate == nil {
			continue // never ran
		}
		last, err := s.GetAttempt(ctx, ti.TaskInstanceKey)
		if err != nil {
			return f, err
		}
		var tries []store.Attempt
		if last.DispatchSeq > 1 {
			if tries, err = s.ListTries(ctx, ti.TaskInstanceKey); err != nil {
				return f, err
			}
		}
		seq := 0
		for _, t := range append(tries, last) {
			tf := costreport.TryFacts{TaskID: string(ti.TaskID), MapIndex: ti.MapIndex, Try: t.TryNumber, Dispatches: max(1, int(t.DispatchSeq)-seq)}
			seq = int(t.DispatchSeq)
			doc, err := json.Marshal(t.AttemptDoc)
			if err != nil {
				return f, err
			}
			tf.RowBytes = len(doc) + rowOverhead
			if t.StartDate != nil && t.EndDate != nil {
				tf.Seconds = t.EndDate.Sub(*t.StartDate).Seconds()
			}
			if len(t.LargeXComs) > 0 && t.TryNumber == last.TryNumber {
				xs, err := s.ListXComs(ctx, ti.TaskInstanceKey)
				if err != nil {
					return f, err
				}
				for _, x := range xs {
					if len(x.Value) > store.InlineXComBytes {
						tf.XComBytes = append(tf.XComBytes, len(x.Value))
					}
				}
			}
			f.Tries = append(f.Tries, tf)
		}
	}
	return f, nil
}
