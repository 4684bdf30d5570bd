package settings

import (
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/awsenv"
)

func TestDefaultsAreValid(t *testing.T) {
	for _, stage := range []Stage{Dev, Prod, LocalStack} {
		c, err := Load(map[string]string{"stage": string(stage)}, nil, "", "")
		if err != nil {
			t.Errorf("%s: %v", stage, err)
		}
		if c.Stage != stage || c.Prefix() != "gust-"+string(stage) {
			t.Errorf("%s: %+v", stage, c)
		}
	}
	if c, err := Load(nil, nil, "", ""); err != nil || c.Stage != Dev || c.Profile != Minimal || c.Removal != Destroy {
		t.Errorf("nothing said: %+v, %v; want stage dev, profile minimal", c, err)
	}
}

// TestOrder: profile, stage, file, context; later ones win.
func TestOrder(t *testing.T) {
	file := []byte(`{"stage": "prod", "profile": "minimal", "dashboard": true, "log_retention_days": 30, "name": "etl", "dags_prefix": "/x/y"}`)
	c, err := Load(map[string]string{"name": "other", "alarm_email": "a@b.cd"}, file, "123456789012", "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	if c.Stage != Prod || c.Profile != Minimal || !c.Dashboard || c.CustomerKey || c.LogRetentionDays != 30 || c.Removal != Retain {
		t.Errorf("%+v", c)
	}
	if c.Name != "other" || c.AlarmEmail != "a@b.cd" || c.Account != "123456789012" || c.Region != "eu-west-1" || c.DagsPrefix != "x/y/" {
		t.Errorf("%+v", c)
	}
	if c, err = Load(map[string]string{"stage": "prod"}, file, "", "eu-west-1"); err != nil || c.Account != "" || c.Region != "" {
		t.Errorf("a region without an account: %q %q, %v", c.Account, c.Region, err)
	}
	if c, err = Load(map[string]string{"stage": "localstack"}, nil, "123456789012", "eu-west-1"); err != nil || c.Account != "000000000000" || c.Region != "us-east-1" {
		t.Errorf("localstack in %q %q, %v", c.Account, c.Region, err)
	}
	if c, err = Load(map[string]string{"profile": "prod"}, nil, "", ""); err != nil || len(c.Metrics) != len(awsenv.DefaultMetrics()) || !c.CustomerKey || c.Alarms != "all" {
		t.Errorf("profile prod in stage dev: %+v, %v", c, err)
	}
}

func TestFileMustBeUnderstood(t *testing.T) {
	for text, want := range map[string]string{
		`{"stag": "dev"}`:           `unknown field "stag"`,
		`{"queues": "default"}`:     "configuration file",
		`{"stage": "dev"} {}`:       "after top-level value",
		`stage: dev`:                "configuration file",
		`{"queues": [{"nam": ""}]}`: `unknown field "nam"`,
	} {
		if _, err := Load(nil, []byte(text), "", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

// TestAllProblemsAtOnce: each mistake is named with its field and what was expected.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load(nil, []byte(`{
		"name": "Gust_1", "stage": "test", "profile": "huge", "arch": "mips", "removal": "keep", "alarms": "some", "account": "12", "region": "mars",
		"log_retention_days": 8, "reconcile_minutes": 0, "alarm_email": "ops", "metrics": ["HopMilliseconds", "HopMilliseconds", "Ours"], "dags_prefix": "a//b",
		"functions": {"worker": {}, "cook": {}, "scheduler": {"memory_mb": 64, "reserved_concurrency": -1}}, "airflow": {"PATH": "/bin"}, "key_rotation": true, "customer_key": false,
		"queues": [
			{"name": "a b"}, {"name": "x", "on": "moon", "memory_mb": 20000, "max_concurrency": 1, "policy_arns": ["admin"]},
			{"name": "X", "reserved_concurrency": 5, "secrets_prefix": "p"}, {"name": "y", "reserved_concurrency": 5, "max_concurrency": 9}
		],
		"default_queue": "main", "secrets": {"backend": "vault", "prefix": ""},
		"ecs": {"image": "", "cpu": 300, "memory_mb": 512, "max_workers": 0, "subnets": ["s"], "task_role_arns": ["role"], "task_definition_arns": ["family"]}
	}`), "", "")
	if err == nil {
		t.Fatal("it passed")
	}
	text := err.Error()
	for _, want := range []string{
		`name: "Gust_1"`, `stage: "test" is not one of dev, prod, localstack`, `profile: "huge"`, `arch: "mips"`, `removal: "keep"`, `alarms: "some"`, `account: "12"`, `region: "mars"`,
		`log_retention_days: 8`, `reconcile_minutes: 0`, `alarm_email: "ops"`, `metrics: "Ours"`, `"HopMilliseconds" is listed twice`, `dags_prefix: "a//b/"`,
		`functions.worker: workers are set per queue`, `functions: "cook"`, `functions.scheduler.memory_mb: 64`, `functions.scheduler.reserved_concurrency: -1`, `airflow: "PATH"`, `key_rotation:`,
		`queues.a b.name`, `queues.x.on: "moon"`, `queues.x.memory_mb: 20000`, `queues.x.max_concurrency: 1`, `queues.x.policy_arns: "admin"`, `queues.X.max_concurrency: must be set`,
		`queues.y.max_concurrency: must be set and at most reserved_concurrency (5)`, `queues: "x" is listed twice`, `default_queue: "main" is not in queues`,
		`secrets.backend: "vault"`, `secrets.prefix: ""`, `ecs.image: ""`, `ecs.cpu: 300`, `ecs.max_workers: 0`, `ecs.subnets, ecs.security_groups: give both`,
		`ecs.task_role_arns: "role"`, `ecs.task_definition_arns: "family"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestECSGoesWithStageAndSize(t *testing.T) {
	ecs := `"ecs": {"image": "gust:1", "cpu": 1024, "memory_mb": 1024, "max_workers": 1}`
	for file, want := range map[string]string{
		`{"stage": "localstack", ` + ecs + `}`:               "LocalStack's open-source core has no ECS",
		`{` + ecs + `}`:                                      "Fargate takes 2048 to 8192 in steps of 1024",
		`{"queues": [{"name": "default", "on": "ecs"}]}`:     "ECS is not enabled",
		`{"queues": [{"name": "a", "secrets_prefix": "p"}]}`: "there is no secrets backend",
		`{"account": "123456789012"}`:                        "give both or neither",
		`{"queues": []}`:                                     "at least one is needed",
	} {
		if _, err := Load(nil, []byte(file), "", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", file, err, want)
		}
	}
}
