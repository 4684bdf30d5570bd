package engine

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// ActForTest carries out any action on a run.
func (e *Engine) ActForTest(ctx context.Context, k store.RunKey, f func(*scheduler.Graph, *scheduler.RunState, time.Time) (scheduler.ActionResult, error)) error {
	_, err := e.act(ctx, k, f)
	return err
}

// Unload makes the next step of a run read the store, as after a conflict, and
// asks for one.
func (e *Engine) Unload(k store.RunKey) {
	e.mu.Lock()
	r := e.runs[k]
	e.mu.Unlock()
	r.mu.Lock()
	e.unload(r)
	r.mu.Unlock()
	e.poke(r)
}
