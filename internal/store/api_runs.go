package store

import (
	"context"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// RunPage is a part of a DAG's runs in order of run_after and run_id.
type RunPage struct {
	Runs []airflow.DagRun
	// Total counts the runs within the bounds, at most CountLimit of PageRuns; More
	// says that there are others.
	Total int
	More  bool
}

// PageRuns returns limit of a DAG's runs after the first offset, and how many
// there are within the bounds of o (RunsFrom, RunsUntil): it counts entries of the
// index, at most countLimit, and reads the runs of the page only. Access path:
// GSI1, RUNS#<dag>.
func (s *Store) PageRuns(ctx context.Context, dag airflow.DagID, o ListOptions, offset, limit, countLimit int) (RunPage, error) {
	var out RunPage
	var keys []kv.Key
	q := kv.Query{PK: runsOfDAG(dag), Index: kv.GSI1, SK: kv.Between(o.From, o.To), Descending: o.Descending, Limit: countLimit}
	for {
		page, err := s.kv.Query(ctx, q)
		if err != nil {
			return out, translate(err)
		}
		for _, it := range page.Items {
			if out.Total >= offset && len(keys) < limit {
				keys = append(keys, it.Key)
			}
			out.Total++
		}
		if page.Cursor == "" {
			break
		}
		if out.Total >= countLimit {
			out.More = true
			break
		}
		q.Cursor, q.Limit = page.Cursor, countLimit-out.Total
	}
	items, err := s.kv.BatchGet(ctx, keys, true)
	if err != nil {
		return out, translate(err)
	}
	for _, k := range keys {
		it, ok := items[k]
		if !ok {
			out.Total-- // deleted meanwhile
			continue
		}
		run, err := docReader[airflow.DagRun](it)
		if err != nil {
			return out, err
		}
		out.Runs = append(out.Runs, run)
	}
	return out, nil
}
