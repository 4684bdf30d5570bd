//go:build aws

package main

import (
	"context"

	"github.com/gustflow/gust/internal/cli"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/secretsbackend/awssecrets"
)

func withAWS(env *cli.Env) {
	env.SecretsBackend = func(class, kwargs string) (secretsbackend.Secrets, error) {
		return awssecrets.Open(context.Background(), class, kwargs, secretsbackend.Options{})
	}
}
