package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// refreshBackfills reads the unfinished backfills again, and forgets those that
// another process has ended.
func (e *Engine) refreshBackfills(ctx context.Context) error {
	active, err := e.lists.ListActiveBackfills(ctx)
	if err != nil {
		return fmt.Errorf("unfinished backfills: %w", err)
	}
	if h := e.handling; h != nil {
		h.mu.Lock()
		h.backfills = true
		h.mu.Unlock()
	}
	listed := map[int64]bool{}
	var missing []int64
	e.mu.Lock()
	for _, b := range active {
		listed[b.ID] = true
		e.backfills[b.ID] = b
	}
	for id := range e.backfills {
		if !listed[id] {
			missing = append(missing, id)
		}
	}
	e.mu.Unlock()
	slices.Sort(missing)
	for _, id := range missing {
		// One that this process has just made is not listed yet, but it is there.
		b, err := e.store.GetBackfill(ctx, id)
		if err != nil && !isNotFound(err) {
			return err
		}
		if err != nil || b.CompletedAt != nil {
			e.mu.Lock()
			delete(e.backfills, id)
			e.mu.Unlock()
		}
	}
	return nil
}

// backfill returns an unfinished backfill from memory, another one from the store.
func (e *Engine) backfill(ctx context.Context, id int64) (airflow.Backfill, error) {
	e.mu.Lock()
	b, ok := e.backfills[id]
	e.mu.Unlock()
	if ok {
		return b, nil
	}
	return e.store.GetBackfill(ctx, id)
}

// completeBackfills closes the backfills none of whose runs is left, where the
// end of the last one could not say so. A young one may still be getting its runs.
func (e *Engine) completeBackfills(ctx context.Context) {
	old := e.utcNow().Add(-time.Minute)
	var ids []int64
	e.mu.Lock()
	for id, b := range e.backfills {
		if b.CreatedAt.Before(old) {
			ids = append(ids, id)
		}
	}
	e.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids {
		e.completeBackfill(ctx, id)
	}
}
