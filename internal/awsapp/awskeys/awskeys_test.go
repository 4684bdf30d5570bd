package awskeys_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awskeys"
)

// TestBackends: each kind opens, without a call.
func TestBackends(t *testing.T) {
	for _, backend := range []string{"", "secretsmanager", "ssm"} {
		c := awsapp.Config{Table: "t", DefaultQueue: "default", SecretsBackend: backend, SecretsPrefix: "team/airflow", KeysSecret: "secret"}
		a, err := awsapp.Open(t.Context(), c, awsapp.Options{AWS: &aws.Config{Region: "us-east-1"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Secrets(nil); (err != nil) != (backend != "") || err != nil && !strings.Contains(err.Error(), "GUST_SECRETS_BACKEND") {
			t.Errorf("%q before it is enabled: %v", backend, err)
		}
		awskeys.Enable(a)
		if _, err := a.Secrets(nil); err != nil {
			t.Errorf("%q: %v", backend, err)
		}
		if a.OpenKeys == nil {
			t.Error("no keys")
		}
	}
}
