package awsapp

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/connection"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/secrets"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/secretsbackend/awssecrets"
	"github.com/gustflow/gust/internal/store"
)

// openKeys derives the keys of variables and connections from their secret.
func openKeys(ctx context.Context, a *App) (store.Sealer, error) {
	k, err := secrets.OpenRemote(ctx, awssecrets.KeyVersions(secretsmanager.NewFromConfig(a.aws), a.Config.KeysSecret), secrets.RemoteOptions{})
	if err != nil {
		return nil, fmt.Errorf("the secret from which variables and connections are encrypted (%s): %w", awsenv.KeysSecret, err)
	}
	return k, nil
}

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
	b, err := a.secretsBackend()
	if err != nil {
		return nil, err
	}
	return append(chain{b}, out...), nil
}

// secretsBackend is the one of the deployment, with Airflow's names below its prefix.
func (a *App) secretsBackend() (engine.Secrets, error) {
	class, root := secretsbackend.SecretsManager, a.Config.SecretsPrefix
	if a.Config.SecretsBackend == "ssm" {
		class, root = secretsbackend.ParameterStore, "/"+strings.TrimPrefix(a.Config.SecretsPrefix, "/")
	}
	root = strings.TrimSuffix(root, "/")
	kwargs, err := json.Marshal(map[string]any{"connections_prefix": root + "/connections", "variables_prefix": root + "/variables", "config_prefix": nil})
	if err != nil {
		return nil, err
	}
	return awssecrets.NewBackend(a.aws, class, string(kwargs), secretsbackend.Options{Log: a.Log})
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
