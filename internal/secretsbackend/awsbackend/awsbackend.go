// Package awsbackend opens the secrets backends of AWS from Airflow's settings, with
// the AWS configuration of files and roles: for processes outside of Lambda.
package awsbackend

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/secretsbackend/awssecrets"
)

// Open returns the backend that [secrets] backend and backend_kwargs name, with
// the AWS configuration of the environment where they say nothing else.
func Open(ctx context.Context, class, kwargs string, o secretsbackend.Options) (*secretsbackend.Backend, error) {
	naming, c, err := secretsbackend.Parse(class, kwargs)
	if err != nil {
		return nil, err
	}
	var load []func(*config.LoadOptions) error
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(c.Profile))
	}
	if c.AccessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("secrets backend: AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, airflow.Invalid("[secrets] backend_kwargs", "no AWS region is known: set region_name there, or AWS_REGION")
	}
	if c.RoleARN != "" {
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), c.RoleARN))
	}
	return secretsbackend.New(naming, awssecrets.Source(class, cfg, c.Endpoint), o), nil
}
