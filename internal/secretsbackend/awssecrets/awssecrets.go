// Package awssecrets reads secrets of AWS: Secrets Manager and the Systems Manager
// Parameter Store as sources of package secretsbackend, and the versions of the
// secret that encryption keys are derived from.
package awssecrets

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/secrets/remotekeys"
	"github.com/gustflow/gust/internal/secretsbackend"
)

// ManagerAPI is what is used of *secretsmanager.Client.
type ManagerAPI interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// ParameterAPI is what is used of *ssm.Client.
type ParameterAPI interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

type manager struct{ api ManagerAPI }

// Manager is Secrets Manager as a source.
func Manager(api ManagerAPI) secretsbackend.Source { return manager{api} }

// Get implements secretsbackend.Source. As in Airflow a secret that holds bytes,
// that is about to be deleted, or whose name cannot be is not found.
func (m manager) Get(ctx context.Context, name string) (string, bool, error) {
	out, err := m.api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
	var missing *smtypes.ResourceNotFoundException
	var request *smtypes.InvalidRequestException
	var parameter *smtypes.InvalidParameterException
	if errors.As(err, &missing) || errors.As(err, &request) || errors.As(err, &parameter) || code(err) == "ValidationException" {
		return "", false, nil
	}
	if err != nil {
		return "", false, translate(err)
	}
	return aws.ToString(out.SecretString), out.SecretString != nil, nil
}

type parameters struct{ api ParameterAPI }

// Parameters is the Parameter Store as a source.
func Parameters(api ParameterAPI) secretsbackend.Source { return parameters{api} }

// Get implements secretsbackend.Source. A name that cannot be is not found.
func (p parameters) Get(ctx context.Context, name string) (string, bool, error) {
	out, err := p.api.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	var missing *ssmtypes.ParameterNotFound
	if errors.As(err, &missing) || code(err) == "ValidationException" {
		return "", false, nil
	}
	if err != nil {
		return "", false, translate(err)
	}
	if out.Parameter == nil || out.Parameter.Value == nil {
		return "", false, nil
	}
	return *out.Parameter.Value, true, nil
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// translate maps SDK errors to the sentinels of the port, keeping the chain. No
// error of these services contains a value.
func translate(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch c := code(err); c {
	case "AccessDeniedException", "AccessDenied", "DecryptionFailure", "InvalidKeyId":
		return fmt.Errorf("%w: %w", airflow.ErrNotAllowed, err)
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException":
		return fmt.Errorf("%w: %w", airflow.ErrThrottled, err)
	case "", "InternalServiceError", "InternalServerError", "ServiceUnavailable":
		return fmt.Errorf("%w: %w", airflow.ErrUnavailable, err)
	}
	return err
}

// NewBackend returns the backend that [secrets] backend and backend_kwargs name, on a
// configuration that the caller has: arguments about the client are left aside,
// except for the endpoint. Package awsbackend minds them.
func NewBackend(cfg aws.Config, class, kwargs string, o secretsbackend.Options) (*secretsbackend.Backend, error) {
	naming, c, err := secretsbackend.Parse(class, kwargs)
	if err != nil {
		return nil, err
	}
	return secretsbackend.New(naming, Source(class, cfg, c.Endpoint), o), nil
}

// Source is the service that a backend's class names; endpoint "" is its usual one.
func Source(class string, cfg aws.Config, endpoint string) secretsbackend.Source {
	if endpoint != "" {
		cfg = cfg.Copy()
		cfg.BaseEndpoint = &endpoint
	}
	if class == secretsbackend.ParameterStore {
		return Parameters(ssm.NewFromConfig(cfg))
	}
	return Manager(secretsmanager.NewFromConfig(cfg))
}

type keyVersions struct {
	api ManagerAPI
	id  string
}

// KeyVersions are AWSCURRENT and AWSPREVIOUS of a secret, by its ARN or name, for
// remotekeys.Open. The secret is a text, such as GenerateSecretString makes.
func KeyVersions(api ManagerAPI, id string) remotekeys.Versions { return keyVersions{api, id} }

// Current implements remotekeys.Versions.
func (k keyVersions) Current(ctx context.Context) (string, error) {
	v, ok, err := k.version(ctx, "AWSCURRENT")
	if err == nil && !ok {
		err = fmt.Errorf("%w: secret %s has no text", airflow.ErrNotFound, k.id)
	}
	return v, err
}

// Previous implements remotekeys.Versions.
func (k keyVersions) Previous(ctx context.Context) (string, bool, error) {
	return k.version(ctx, "AWSPREVIOUS")
}

func (k keyVersions) version(ctx context.Context, stage string) (string, bool, error) {
	out, err := k.api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &k.id, VersionStage: &stage})
	var missing *smtypes.ResourceNotFoundException
	if errors.As(err, &missing) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("secret %s, %s: %w", k.id, stage, translate(err))
	}
	return aws.ToString(out.SecretString), out.SecretString != nil, nil
}
