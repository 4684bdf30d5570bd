package awssignin

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

const deploymentSecret = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123"

// secretsOnly answers as Secrets Manager does and counts.
type secretsOnly struct{ asked atomic.Int64 }

func (s *secretsOnly) Do(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	answer, status := `{"__type":"ResourceNotFoundException"}`, 400
	if r.Header.Get("X-Amz-Target") == "secretsmanager.GetSecretValue" && bytes.Contains(body, []byte(`"arn:keys"`)) {
		answer, status = `{"ARN":"arn:keys","Name":"gust-dev-keys","SecretString":"`+deploymentSecret+`"}`, 200
	}
	if bytes.Contains(body, []byte(`"arn:admin"`)) {
		answer, status = `{"ARN":"arn:admin","Name":"gust-prod-admin","SecretString":"the admin's own secret"}`, 200
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

func TestAuth(t *testing.T) {
	var web secretsOnly
	a, err := awsapp.Open(t.Context(), awsapp.Config{Table: "t", DefaultQueue: "default", KeysSecret: "arn:keys"}, awsapp.Options{
		AWS:        &aws.Config{Region: "us-east-1", HTTPClient: &web, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")},
		WrapDriver: func(kv.Driver) kv.Driver { return memkv.New(memkv.Options{}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(a, []string{auth.AdminPasswordEnv + "=hunter2hunter2"}); err == nil || !strings.Contains(err.Error(), awsenv.OutKeysSecret) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password in the function's configuration: %v", err)
	}
	if _, err := Open(a, []string{"AIRFLOW__OIDC__ISSUER=http://idp.example.com"}); err == nil || !strings.Contains(err.Error(), "expected an https URL") {
		t.Errorf("settings are not read: %v", err)
	}
	s, err := Open(a, []string{awsenv.Table + "=t", awsenv.KeysSecret + "=arn:keys"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignIn(t.Context(), "jo", "x", "192.0.2.1"); !errors.Is(err, auth.ErrCredentials) || web.asked.Load() != 0 {
		t.Errorf("somebody else: %v, the secret was read %d times", err, web.asked.Load())
	}
	password, err := auth.FirstPassword(deploymentSecret + "\n") // as a shell pipes it
	if err != nil {
		t.Fatal(err)
	}
	if u, err := s.SignIn(t.Context(), "admin", password, "192.0.2.1"); err != nil || u.Role != "Admin" {
		t.Errorf("the first admin: %+v, %v", u, err)
	}
	asked := web.asked.Load()
	if _, err := s.SignIn(t.Context(), "admin", password, "192.0.2.1"); err != nil || web.asked.Load() != asked {
		t.Errorf("again: %v, the secret was read once more", err)
	}
}

// TestSecretOfItsOwn: where the deployment has one for the first admin, that counts
// and what tasks may read does not.
func TestSecretOfItsOwn(t *testing.T) {
	var web secretsOnly
	a, err := awsapp.Open(t.Context(), awsapp.Config{Table: "t", DefaultQueue: "default", KeysSecret: "arn:keys", AdminSecret: "arn:admin"}, awsapp.Options{
		AWS:        &aws.Config{Region: "us-east-1", HTTPClient: &web, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")},
		WrapDriver: func(kv.Driver) kv.Driver { return memkv.New(memkv.Options{}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := auth.FirstPassword(deploymentSecret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignIn(t.Context(), "admin", derived, "192.0.2.1"); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("the password that follows from the keys: %v", err)
	}
	if u, err := s.SignIn(t.Context(), "admin", "the admin's own secret", "192.0.2.1"); err != nil || u.Role != "Admin" {
		t.Errorf("the password of the secret: %+v, %v", u, err)
	}
}
