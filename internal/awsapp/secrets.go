package awsapp

import (
	"context"
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/connection"
	"github.com/gustflow/gust/internal/engine"
)

// Secrets are the places where variables and connections are looked for before
// the store: the secrets backend, if one is configured, then the environment
// given (AIRFLOW_CONN_…, AIRFLOW_VAR_…), as in Airflow.
func (a *App) Secrets(environ []string) (engine.Secrets, error) {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && (strings.HasPrefix(k, connection.ConnPrefix) || strings.HasPrefix(k, connection.VarPrefix)) {
			env[k] = v
		}
	}
	out := chain{connection.Env{Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}}
	if a.Config.SecretsBackend == "" {
		return out, nil
	}
	if a.OpenBackend == nil {
		return nil, fmt.Errorf("%s is set, but this process reads no secrets", awsenv.SecretsBackend)
	}
	b, err := a.OpenBackend()
	if err != nil {
		return nil, err
	}
	return append(chain{b}, out...), nil
}

// chain asks one place after the other.
type chain []engine.Secrets

// Variable implements engine.Secrets.
func (c chain) Variable(ctx context.Context, key string) (airflow.Variable, bool, error) {
	for _, s := range c {
		if v, ok, err := s.Variable(ctx, key); err != nil || ok {
			return v, ok, err
		}
	}
	return airflow.Variable{}, false, nil
}

// Connection implements engine.Secrets.
func (c chain) Connection(ctx context.Context, id string) (airflow.Connection, bool, error) {
	for _, s := range c {
		if v, ok, err := s.Connection(ctx, id); err != nil || ok {
			return v, ok, err
		}
	}
	return airflow.Connection{}, false, nil
}
