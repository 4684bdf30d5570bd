// Package awskeys opens what secrets need: the keys of variables and connections, and
// the secrets backend. It is a package of its own so that functions which read no
// secrets link neither keys nor the services' clients.
package awskeys

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/secrets/remotekeys"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/secretsbackend/awssecrets"
	"github.com/gustflow/gust/internal/store"
)

// Enable lets an app open secrets. Call it before the first of them is needed.
func Enable(a *awsapp.App) {
	a.OpenKeys = func(ctx context.Context) (store.Sealer, error) { return openKeys(ctx, a) }
	a.OpenBackend = func() (engine.Secrets, error) { return openBackend(a) }
}

// openKeys derives the keys of variables and connections from their secret.
func openKeys(ctx context.Context, a *awsapp.App) (store.Sealer, error) {
	k, err := remotekeys.Open(ctx, awssecrets.KeyVersions(secretsmanager.NewFromConfig(a.AWS()), a.Config.KeysSecret), remotekeys.Options{})
	if err != nil {
		return nil, fmt.Errorf("the secret from which variables and connections are encrypted (%s): %w", awsenv.KeysSecret, err)
	}
	return k, nil
}

// openBackend is the one of the deployment, with Airflow's names below its prefix.
func openBackend(a *awsapp.App) (engine.Secrets, error) {
	class, root := secretsbackend.SecretsManager, a.Config.SecretsPrefix
	if a.Config.SecretsBackend == "ssm" {
		class, root = secretsbackend.ParameterStore, "/"+strings.TrimPrefix(a.Config.SecretsPrefix, "/")
	}
	root = strings.TrimSuffix(root, "/")
	kwargs, err := json.Marshal(map[string]any{"connections_prefix": root + "/connections", "variables_prefix": root + "/variables", "config_prefix": nil})
	if err != nil {
		return nil, err
	}
	return awssecrets.NewBackend(a.AWS(), class, string(kwargs), secretsbackend.Options{Log: a.Log})
}
