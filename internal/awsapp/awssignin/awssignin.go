// Package awssignin says who may sign in to a deployment. It is a package of its own
// so that only the API's function links it.
package awssignin

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/secretsbackend/awssecrets"
)

// Open returns who may sign in to the installation, by the settings of an
// environment (AIRFLOW__API_AUTH__…, AIRFLOW__OIDC__…). It makes no call: the secret
// that the first admin's password follows from is read when that user first signs in.
func Open(a *awsapp.App, environ []string) (*auth.Service, error) {
	for _, kv := range environ {
		if name, value, _ := strings.Cut(kv, "="); name == auth.AdminPasswordEnv && value != "" {
			return nil, fmt.Errorf("%s is set: whoever may see this function's configuration could read it. Remove it: `gust auth first-password` makes the first admin's password from the secret that the output %s of the deployment names", auth.AdminPasswordEnv, awsenv.OutKeysSecret)
		}
	}
	cfg, err := awsapp.Settings(environ, "")
	if err != nil {
		return nil, err
	}
	o, err := auth.FromConfig(cfg)
	if err != nil {
		return nil, err
	}
	if o.Store, err = a.Store(); err != nil {
		return nil, err
	}
	o.HTTPS, o.Log = true, a.Log // a function URL knows nothing else
	if id := a.Config.AdminSecret; id != "" {
		o.FirstAdminPassword = func(ctx context.Context) (string, error) {
			return awssecrets.KeyVersions(secretsmanager.NewFromConfig(a.AWS()), id).Current(ctx)
		}
	} else if id := a.Config.KeysSecret; id != "" {
		o.FirstAdminPassword = func(ctx context.Context) (string, error) {
			secret, err := awssecrets.KeyVersions(secretsmanager.NewFromConfig(a.AWS()), id).Current(ctx)
			if err != nil {
				return "", err
			}
			return auth.FirstPassword(secret)
		}
	}
	return auth.New(o)
}
