//go:build aws

package main

import (
	"context"
	"errors"
	"fmt"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gustflow/gust/internal/awsapp/awsgeneral"
	"github.com/gustflow/gust/internal/awsapp/awsworker"
	"github.com/gustflow/gust/internal/cli"
	"github.com/gustflow/gust/internal/dagbucket/s3bucket"
	"github.com/gustflow/gust/internal/dagsync"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/secretsbackend/awsbackend"
)

func withAWS(env *cli.Env) {
	env.SecretsBackend = func(class, kwargs string) (secretsbackend.Secrets, error) {
		return awsbackend.Open(context.Background(), class, kwargs, secretsbackend.Options{})
	}
	env.Bucket = func(ctx context.Context, name string) (dagsync.Target, error) {
		cfg, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("AWS configuration: %w", err)
		}
		if cfg.Region == "" {
			return nil, errors.New("AWS configuration: no region: set AWS_REGION, or region in the profile that is used")
		}
		return s3bucket.New(s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }), name), nil
	}
	env.RunWorker = func(ctx context.Context, o cli.WorkerOptions) error {
		return awsworker.RunMachine(ctx, awsworker.MachineOptions(o), awsgeneral.Load)
	}
}
