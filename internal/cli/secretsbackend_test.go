package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/secretsbackend"
)

// vault has one variable and one connection.
type vault struct{ t *testing.T }

func (v vault) Variable(_ context.Context, key string) (airflow.Variable, bool, error) {
	return airflow.Variable{Key: key, Value: "of the backend"}, key == "region", nil
}

func (v vault) Connection(_ context.Context, id string) (airflow.Connection, bool, error) {
	return airflow.Connection{ConnID: id, ConnType: "http", Host: "backend"}, id == "api", nil
}

func TestSecretsBackend(t *testing.T) {
	s := newShell(t)
	s.ok("variables", "set", "region", "stored")
	s.ok("variables", "set", "zone", "stored")
	s.env["AIRFLOW_VAR_REGION"], s.env["AIRFLOW_CONN_DB"] = "of the environment", "http://env"
	s.env["AIRFLOW__SECRETS__BACKEND"] = "my.own.Backend"
	s.fails(ExitFailed, "expected one of airflow.providers.amazon", "variables", "get", "region")
	s.env["AIRFLOW__SECRETS__BACKEND"] = secretsbackend.SecretsManager
	s.env["AIRFLOW__SECRETS__BACKEND_KWARGS"] = `{"sep": "-"}`
	s.fails(ExitFailed, "built without AWS", "variables", "get", "region")

	s.edit = func(e *Env) {
		e.SecretsBackend = func(class, kwargs string) (secretsbackend.Secrets, error) {
			if class != secretsbackend.SecretsManager || kwargs != `{"sep": "-"}` {
				t.Errorf("opened %s with %s", class, kwargs)
			}
			_, _, err := secretsbackend.Parse(class, kwargs)
			return vault{t}, err
		}
	}
	for key, want := range map[string]string{"region": "of the backend\n", "zone": "stored\n"} {
		if got := s.ok("variables", "get", key); got != want {
			t.Errorf("variable %s is %q, want %q", key, got, want)
		}
	}
	if got := s.ok("connections", "get", "api", "-o", "plain"); !strings.Contains(got, "backend") {
		t.Errorf("connection of the backend: %q", got)
	}
	if got := s.ok("connections", "get", "db", "-o", "plain"); !strings.Contains(got, "env") {
		t.Errorf("connection of the environment: %q", got)
	}
	// A task sees the same.
	s.write("d.yml", `d:
  schedule: null
  tasks:
    - task_id: t
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "echo {{ var.value.region }} {{ conn.api.host }} {{ conn.db.host }}"
`)
	if r := s.run("tasks", "test", "d", "t"); r.code != ExitOK || !strings.Contains(r.out+r.err, "of the backend backend env") {
		t.Errorf("task: %d\n%s%s", r.code, r.out, r.err)
	}
}
