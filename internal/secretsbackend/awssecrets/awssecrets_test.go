package awssecrets_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsmeter/awstest"
	"github.com/gustflow/gust/internal/secrets/remotekeys"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/secretsbackend/awssecrets"
)

func TestSecretsManager(t *testing.T) {
	cfg := awstest.Config(t)
	c := secretsmanager.NewFromConfig(cfg)
	prefix := fmt.Sprintf("t%d", time.Now().UnixNano())
	create := func(name, value string) {
		t.Helper()
		in := &secretsmanager.CreateSecretInput{Name: aws.String(prefix + "/" + name)}
		if value == "binary" {
			in.SecretBinary = []byte{1, 2}
		} else {
			in.SecretString = &value
		}
		if _, err := c.CreateSecret(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	create("connections/pg", `{"username": "u", "password": "p", "engine": "postgres", "host": "h", "port": 5432, "database": "d"}`)
	create("variables/v", "line\nline ✓")
	create("variables/bytes", "binary")
	create("variables/gone", "x")
	if _, err := c.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String(prefix + "/variables/gone")}); err != nil {
		t.Fatal(err)
	}
	b, err := awssecrets.NewBackend(cfg, secretsbackend.SecretsManager, fmt.Sprintf(`{"connections_prefix": "%s/connections", "variables_prefix": "%s/variables"}`, prefix, prefix), secretsbackend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if conn, ok, err := b.Connection(t.Context(), "pg"); err != nil || !ok || conn.Login != "u" || conn.Password != "p" || conn.ConnType != "postgres" || conn.Schema != "d" || conn.Port != 5432 {
		t.Errorf("connection %v, %v, %v", conn, ok, err)
	}
	if v, ok, err := b.Variable(t.Context(), "v"); err != nil || !ok || v.Value != "line\nline ✓" {
		t.Errorf("variable %v, %v, %v", v, ok, err)
	}
	for _, key := range []string{"none", "bytes", "gone", "name with spaces"} {
		if v, ok, err := b.Variable(t.Context(), key); err != nil || ok {
			t.Errorf("%s: %v, %v, %v; want not found", key, v, ok, err)
		}
	}
}

func TestParameterStore(t *testing.T) {
	cfg := awstest.Config(t)
	c := ssm.NewFromConfig(cfg)
	prefix := fmt.Sprintf("/t%d", time.Now().UnixNano())
	for name, typ := range map[string]ssmtypes.ParameterType{"connections/http": ssmtypes.ParameterTypeSecureString, "variables/v": ssmtypes.ParameterTypeString} {
		value := "http://u:p@h:80"
		if strings.HasPrefix(name, "variables") {
			value = "1"
		}
		if _, err := c.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String(prefix + "/" + name), Value: &value, Type: typ}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := awssecrets.NewBackend(cfg, secretsbackend.ParameterStore, fmt.Sprintf(`{"connections_prefix": "%s/connections", "variables_prefix": "%s/variables"}`, prefix, prefix[1:]), secretsbackend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if conn, ok, err := b.Connection(t.Context(), "http"); err != nil || !ok || conn.Password != "p" || conn.Host != "h" {
		t.Errorf("connection %v, %v, %v", conn, ok, err)
	}
	if v, ok, err := b.Variable(t.Context(), "v"); err != nil || !ok || v.Value != "1" {
		t.Errorf("variable %v, %v, %v", v, ok, err)
	}
	for _, key := range []string{"none", "name with spaces"} {
		if v, ok, err := b.Variable(t.Context(), key); err != nil || ok {
			t.Errorf("%s: %v, %v, %v; want not found", key, v, ok, err)
		}
	}
}

func TestKeysFromASecret(t *testing.T) {
	c := secretsmanager.NewFromConfig(awstest.Config(t))
	name := fmt.Sprintf("keys-%d", time.Now().UnixNano())
	out, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(strings.Repeat("a", 64))})
	if err != nil {
		t.Fatal(err)
	}
	v := awssecrets.KeyVersions(c, *out.ARN)
	open := func() *remotekeys.Keys {
		r, err := remotekeys.Open(t.Context(), v, remotekeys.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, err := open().Seal([]byte("hunter2"), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: aws.String(strings.Repeat("b", 64))}); err != nil {
		t.Fatal(err)
	}
	if p, err := open().Open(first, []byte("x")); err != nil || string(p) != "hunter2" {
		t.Errorf("after a rotation: %q, %v", p, err)
	}
	second, err := open().Seal([]byte("hunter2"), []byte("x"))
	if err != nil || string(second[:5]) == string(first[:5]) {
		t.Errorf("the key did not change: %v", err)
	}
	if _, err := remotekeys.Open(t.Context(), awssecrets.KeyVersions(c, "absent"), remotekeys.Options{}); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("absent: want ErrNotFound, got %v", err)
	}
}

// failing answers with an error code of AWS.
type failing struct{ code string }

func (f failing) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return nil, &smithy.GenericAPIError{Code: f.code, Message: "…"}
}

func (f failing) GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	return nil, &smithy.GenericAPIError{Code: f.code, Message: "…"}
}

func TestErrors(t *testing.T) {
	for code, want := range map[string]error{
		"AccessDeniedException": airflow.ErrNotAllowed, "DecryptionFailure": airflow.ErrNotAllowed, "ThrottlingException": airflow.ErrThrottled,
		"InternalServiceError": airflow.ErrUnavailable,
	} {
		f := failing{code}
		for name, s := range map[string]secretsbackend.Source{"secrets manager": awssecrets.Manager(f), "parameter store": awssecrets.Parameters(f)} {
			if _, ok, err := s.Get(t.Context(), "x"); ok || !errors.Is(err, want) {
				t.Errorf("%s, %s: want %v, got %v", name, code, want, err)
			}
		}
	}
}
