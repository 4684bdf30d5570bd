package localapp

import (
	"context"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
)

// secretMasker is a masker that knows which parts of variables and connections
// are secret, by this installation's configuration.
type secretMasker interface {
	AddVariable(v airflow.Variable)
	AddConnection(c airflow.Connection)
}

// maskedBackend has the secrets of what tasks read masked before they see it.
type maskedBackend struct {
	worker.Backend
	m secretMasker
}

// masked puts the masker of this home in front of a backend.
func (a *App) masked(b worker.Backend) worker.Backend {
	if m, ok := a.Options.Masker.(secretMasker); ok {
		return maskedBackend{b, m}
	}
	return b
}

func (b maskedBackend) GetVariable(ctx context.Context, key string) (airflow.Variable, error) {
	v, err := b.Backend.GetVariable(ctx, key)
	if err == nil {
		b.m.AddVariable(v)
	}
	return v, err
}

func (b maskedBackend) GetConnection(ctx context.Context, id string) (airflow.Connection, error) {
	c, err := b.Backend.GetConnection(ctx, id)
	if err == nil {
		b.m.AddConnection(c)
	}
	return c, err
}

// Yield passes on what the worker asks of backends that have it.
func (b maskedBackend) Yield(ctx context.Context, d worker.Dispatch, who worker.Identity) error {
	if y, ok := b.Backend.(interface {
		Yield(context.Context, worker.Dispatch, worker.Identity) error
	}); ok {
		return y.Yield(ctx, d, who)
	}
	return nil
}
