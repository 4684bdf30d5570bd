package emusite

import (
	"context"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
)

// RegisterMany stores n DAGs of one task that does nothing, with that cron
// schedule and their next run at a time, as they lie in the table of an
// installation that is up. It costs and takes nothing.
func (s *Site) RegisterMany(ctx context.Context, n int, cron string, next time.Time) error {
	quiet := store.New(s.Cloud.Table.Driver(), nil)
	for i := range n {
		d := enginetest.DAG{ID: fmt.Sprintf("dag%06d", i), Cron: cron, Tasks: []enginetest.Task{{ID: "t", Empty: true}}}
		doc, hash, err := airflow.CanonicalDAG(d.Document())
		if err != nil {
			return err
		}
		if err := quiet.PutDocument(ctx, hash, doc); err != nil {
			return err
		}
		id := airflow.DagID(d.ID)
		m := airflow.DagModel{
			DagID: id, RelativeFileloc: d.ID + ".yml", LatestVersion: 1, LatestHash: hash,
			NextDagRunLogicalDate: &next, NextDagRunRunAfter: &next, NextDagRunCreateAfter: &next,
		}
		if err := quiet.CreateDag(ctx, m); err != nil {
			return err
		}
		if err := quiet.PutDagVersion(ctx, airflow.DagVersion{DagID: id, Number: 1, Hash: hash, CreatedAt: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// ManyRuns are the runs of DAGs made by RegisterMany.
type ManyRuns struct {
	States map[airflow.DagRunState]int
	// Created is when the first was made, Ended when the last one ended.
	Created, Ended time.Time
}

// Made is how many there are.
func (m ManyRuns) Made() (n int) {
	for _, k := range m.States {
		n += k
	}
	return n
}

// Runs counts the runs that there are of DAGs made by RegisterMany; it costs and
// takes nothing.
func (s *Site) Runs(ctx context.Context, n int) (ManyRuns, error) {
	quiet := store.New(s.Cloud.Table.Driver(), nil)
	out := ManyRuns{States: map[airflow.DagRunState]int{}}
	for i := range n {
		rs, _, err := quiet.ListRuns(ctx, airflow.DagID(fmt.Sprintf("dag%06d", i)), store.ListOptions{})
		if err != nil {
			return out, err
		}
		if len(rs) > 1 {
			return out, fmt.Errorf("DAG %s has %d runs", rs[0].DagID, len(rs))
		}
		for _, r := range rs {
			out.States[r.State]++
			if at := *r.QueuedAt; out.Created.IsZero() || at.Before(out.Created) {
				out.Created = at
			}
			if r.EndDate != nil && r.EndDate.After(out.Ended) {
				out.Ended = *r.EndDate
			}
		}
	}
	return out, nil
}
