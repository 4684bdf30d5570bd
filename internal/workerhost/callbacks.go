package workerhost

import (
	"context"
	"errors"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/callback"
)

// Callbacks is the engine's port for callbacks that no worker can run any more.
type Callbacks interface {
	RunDagCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, success bool, reason, idempotencyKey string) error
	RunTaskCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, idempotencyKey string) error
	RunDeadline(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, idempotencyKey string) error
}

// callbacks passes callbacks to the runner of the present generation.
type callbacks struct{ h *Host }

func (c callbacks) runner() (*callback.Runner, error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if c.h.gen == nil {
		return nil, errors.New("callbacks run within Host.RunCallback only")
	}
	return c.h.gen.callbacks, nil
}

// RunDagCallback implements Callbacks.
func (c callbacks) RunDagCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, success bool, reason, key string) error {
	r, err := c.runner()
	if err != nil {
		return err
	}
	return r.RunDagCallback(ctx, dag, run, success, reason, key)
}

// RunTaskCallback implements Callbacks.
func (c callbacks) RunTaskCallback(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, ti airflow.TaskInstance, retry bool, cause, key string) error {
	r, err := c.runner()
	if err != nil {
		return err
	}
	return r.RunTaskCallback(ctx, dag, run, ti, retry, cause, key)
}

// RunDeadline implements Callbacks.
func (c callbacks) RunDeadline(ctx context.Context, dag *airflow.DAG, run airflow.DagRun, alert int, at time.Time, key string) error {
	r, err := c.runner()
	if err != nil {
		return err
	}
	return r.RunDeadline(ctx, dag, run, alert, at, key)
}
