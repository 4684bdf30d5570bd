package engine

import (
	"context"
	"fmt"
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
