package engine

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// refreshBackfills reads the unfinished backfills again, and forgets those that
// another process has ended.
func (e *Engine) refreshBackfills(ctx context.Context) error {
	active, err := e.store.ListActiveBackfills(ctx)
	if err != nil {
		return fmt.Errorf("unfinished backfills: %w", err)
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
