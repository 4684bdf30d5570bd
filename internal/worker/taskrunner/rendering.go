package taskrunner

import (
	"context"
	"encoding/json"

	"github.com/gustflow/gust/internal/worker"
)

// Rendered prepares a task as Run does, without claiming or running anything,
// and returns its template fields as they would be stored: secrets masked, long
// texts cut. A template that fails is the error.
func (w *Worker) Rendered(ctx context.Context, d worker.Dispatch, tc *worker.TaskContext) (map[string]json.RawMessage, error) {
	t := w.newTask(d, tc, discard{})
	if err := t.prepare(ctx, nil); err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if len(t.rendered) == 0 {
		return fields, nil
	}
	return fields, json.Unmarshal(t.rendered, &fields)
}
