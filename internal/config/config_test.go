package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

func load(t *testing.T, cfg string, env ...string) (*Config, error) {
	t.Helper()
	home := t.TempDir()
	if cfg != "" {
		if err := os.WriteFile(filepath.Join(home, "gust.cfg"), []byte(cfg), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(Input{Home: home, Environ: env})
}

func TestDefaultsAreAirflows(t *testing.T) {
	c, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ got, want any }{
		{c.Core.Parallelism, 32}, {c.Core.DagsFolder, filepath.Join(c.Home, "dags")}, {c.Core.DagsArePausedAtCreation, true},
		{c.Core.DefaultTaskRetryDelay, 300 * time.Second}, {c.Core.DefaultTimezone, "UTC"}, {c.Core.DefaultTaskExecutionTimeout, time.Duration(0)},
		{c.Scheduler.CatchupByDefault, false}, {c.Sensors.DefaultTimeout, 7 * 24 * time.Hour}, {c.Logging.BaseLogFolder, filepath.Join(c.Home, "logs")},
		{c.Core.DefaultPoolTaskSlotCount, 128}, {c.Scheduler.NumStuckInQueuedRetries, 2}, {c.Logging.LoggingLevel, "INFO"},
	} {
		if x.got != x.want {
			t.Errorf("got %v, want %v", x.got, x.want)
		}
	}
}

func TestPrecedence(t *testing.T) {
	cfg := "[core]\nparallelism = 5 # tasks\nmax_map_length: 7\ndags_folder = $DAGS/x\nsensitive_var_conn_names = a,\n  b\n\n[smtp]\nsmtp_password_cmd = echo from file\n[celery]\nworker_concurrency = 3\n"
	c, err := load(t, cfg, "DAGS=/srv", "HOME=/home/me", "AIRFLOW__CORE__PARALLELISM=6", "AIRFLOW__CORE__MAX_MAP_LENGTH_CMD=echo 8", "GUST_LOG_RETENTION_DAYS=3",
		"AIRFLOW__LOGGING__BASE_LOG_FOLDER=~/logs", "AIRFLOW__CORE__EXECUTOR=airflow.executors.local_executor.LocalExecutor", "AIRFLOW__CORE__FERNET_KEY=x", "GUST__API__PORT=1", "AIRFLOW__API__PORT=2",
		"AIRFLOW__LOGGING__LOG_FILENAME_TEMPLATE=dag_id={{ ti.dag_id }}/run_id={{ ti.run_id }}/task_id={{ ti.task_id }}/{% if ti.map_index >= 0 %}map_index={{ ti.map_index }}/{% endif %}attempt={{ try_number|default(ti.try_number) }}.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ got, want any }{
		{c.Core.Parallelism, 6}, {c.Core.MaxMapLength, 8}, {c.Core.DagsFolder, "/srv/x"}, {c.SMTP.Password, "from file"}, {c.Gust.LogRetentionDays, 3},
		{c.Logging.BaseLogFolder, "/home/me/logs"}, {c.Core.Executor, "LocalExecutor"}, {c.API.Port, 1},
	} {
		if x.got != x.want {
			t.Errorf("got %v, want %v", x.got, x.want)
		}
	}
	if !reflect.DeepEqual(c.Core.SensitiveVarConnNames, []string{"a", "b"}) {
		t.Errorf("names = %q", c.Core.SensitiveVarConnNames)
	}
	var ignored []string
	for _, i := range c.Ignored() {
		ignored = append(ignored, i.Section+"."+i.Key)
	}
	if !reflect.DeepEqual(ignored, []string{"celery.worker_concurrency", "core.fernet_key"}) {
		t.Errorf("ignored = %v", ignored)
	}
	for _, o := range c.Options() {
		switch o.Key {
		case "smtp_password":
			if o.Value != "***" || !strings.HasSuffix(o.Source, "gust.cfg:9") {
				t.Errorf("%+v", o)
			}
		case "max_map_length":
			if o.Value != "8" || o.Source != "environment variable AIRFLOW__CORE__MAX_MAP_LENGTH_CMD" || o.Env != "AIRFLOW__CORE__MAX_MAP_LENGTH" || o.Default != "1024" {
				t.Errorf("%+v", o)
			}
		}
	}
	if v, ok := c.Get("CORE", "Parallelism"); !ok || v != "6" {
		t.Errorf("Get = %q %v", v, ok)
	}
	if v, ok := c.Get("smtp", "smtp_password"); !ok || v != "***" {
		t.Errorf("Get = %q %v", v, ok)
	}
	if _, ok := c.Get("core", "x"); ok {
		t.Error("there is no [core] x")
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	cfg := "stray = 1\n[core\n[core]\nparallelism = many\nparallelism = 2\nnonsense\n[smtp]\nsmtp_port = 70000\nbackend_kwargs_cmd = x\n[secrets]\nbackend_kwargs = hunter2\n[gust]\nlog_retention_day = 3\nretention_overrides = {\"d\": {\"log\": 1}}\n"
	_, err := load(t, cfg, "AIRFLOW__CORE__DEFAULT_TIMEZONE=Mars/Base", "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=maybe", "AIRFLOW__SECRETS__BACKEND=airflow.x.Backend", "AIRFLOW__X=1",
		"AIRFLOW__SMTP__SMTP_PASSWORD_CMD=exit 3", "AIRFLOW__SMTP__SMTP_USER_SECRET=name", "AIRFLOW__SENSORS__DEFAULT_TIMEOUT=-1", "AIRFLOW__CORE__EXECUTOR=KubernetesExecutor", "AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN=(",
		"AIRFLOW__LOGGING__LOG_FILENAME_TEMPLATE={{ ti.dag_id }}.log")
	var invalid *airflow.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	text := err.Error()
	for _, want := range []string{
		"gust.cfg:1: stray is before the first section", "gust.cfg:2: expected a section", "gust.cfg:5: [core] parallelism is set twice, first on line 4", "gust.cfg:6: expected key = value",
		`gust.cfg:4: [core] parallelism: expected a whole number (found "many")`, "gust.cfg:8: [smtp] smtp_port: expected 1 to 65535", "[secrets] backend_kwargs: expected a JSON object",
		"[gust] log_retention_day: there is no such setting", "[gust] retention_overrides: expected {", "AIRFLOW__CORE__DEFAULT_TIMEZONE: expected an IANA time zone",
		"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION: expected True or False", "AIRFLOW__SECRETS__BACKEND: expected one of airflow.providers.amazon", "AIRFLOW__X: expected the form AIRFLOW__SECTION__KEY",
		"AIRFLOW__SMTP__SMTP_PASSWORD_CMD: the command failed: exit status 3", "AIRFLOW__SMTP__SMTP_USER_SECRET: there is no secrets backend", "AIRFLOW__SENSORS__DEFAULT_TIMEOUT: expected at least 0",
		"AIRFLOW__CORE__EXECUTOR: expected one of LocalExecutor, SequentialExecutor", "AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN: expected a regular expression", "only Airflow 3's layout",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q", want)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("the value of a secret setting is shown")
	}
	if len(invalid.Problems) != 19 || t.Failed() {
		t.Errorf("%d problems:\n%s", len(invalid.Problems), text)
	}
}

func TestConfigFileOfEnvironment(t *testing.T) {
	if _, err := load(t, "", "AIRFLOW_CONFIG=/nonexistent/airflow.cfg"); err == nil || !strings.Contains(err.Error(), "AIRFLOW_CONFIG") {
		t.Errorf("%v", err)
	}
	p := filepath.Join(t.TempDir(), "x.cfg")
	os.WriteFile(p, []byte("[core]\nparallelism = 3\n"), 0o600)
	c, err := load(t, "[core]\nparallelism = 4\n", "GUST_CONFIG="+p)
	if err != nil || c.Core.Parallelism != 3 {
		t.Errorf("%v", err)
	}
}

func TestRetention(t *testing.T) {
	c, err := load(t, "", "GUST_DAG_RUN_RETENTION_DAYS=30", "GUST_LOG_RETENTION_DAYS=7", `GUST_RETENTION_OVERRIDES={"d": {"logs": 0, "xcoms": 1}}`)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Retention("x"); err != nil || r != (Retention{30, 7, 0}) {
		t.Errorf("%+v %v", r, err)
	}
	if r, err := c.Retention("d"); err != nil || r != (Retention{30, 0, 1}) {
		t.Errorf("%+v %v", r, err)
	}
	if got := c.RetentionDags(); len(got) != 1 || got[0] != "d" {
		t.Errorf("%v", got)
	}
}

// Each field says what it does and ends with its default; each default is valid.
func TestDescriptions(t *testing.T) {
	c, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range c.Options() {
		def := strings.ReplaceAll(o.Default, c.Home, "{home}")
		if def == "" {
			def = "(empty)"
		}
		if !strings.HasSuffix(o.Description, "Default "+def+".") {
			t.Errorf("[%s] %s: %q does not end with \"Default %s.\"", o.Section, o.Key, o.Description, def)
		}
		if !strings.HasPrefix(o.Description, o.Key+" ") {
			t.Errorf("[%s] %s: %q", o.Section, o.Key, o.Description)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("[core]\nparallelism = 3\n  4\n[x]\n= 1\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Load(Input{Home: "/h", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }, RunCommand: func(string) (string, error) { return "1", nil }})
		var invalid *airflow.InvalidError
		if err != nil && (!errors.As(err, &invalid) || len(invalid.Problems) == 0) {
			t.Fatalf("%v", err)
		}
		if err == nil && c.Core.Parallelism < 1 {
			t.Fatal("accepted a parallelism below 1")
		}
	})
}
