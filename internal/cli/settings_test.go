package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/retention"
	"github.com/gustflow/gust/internal/store"
)

func TestVariables(t *testing.T) {
	s := newShell(t)
	if got := s.ok("variables", "set", "region", "eu"); got != "Variable region created\n" {
		t.Errorf("set: %q", got)
	}
	s.ok("variables", "set", "api_password", "hunter2hunter2", "--description", "of the API")
	s.ok("variables", "set", "settings", `{"b": 1, "a": [2]}`, "--json")
	s.ok("variables", "set", "quoted", "plain text", "--json")
	s.golden("variables_list.txt", s.ok("variables", "list"))
	s.golden("variables_list.json", s.ok("variables", "list", "-o", "json", "--show-values", "--hide-sensitive"))
	for _, c := range []struct {
		want string
		args []string
	}{
		{"eu\n", []string{"region"}},
		{"hunter2hunter2\n", []string{"api_password"}},
		{"{\n  \"b\": 1,\n  \"a\": [\n    2\n  ]\n}\n", []string{"settings", "--json"}},
		{"\"plain text\"\n", []string{"quoted"}},
		{"other\n", []string{"absent", "-d", "other"}},
		{"\n", []string{"absent", "--default", ""}},
	} {
		if got := s.ok(append([]string{"variables", "get"}, c.args...)...); got != c.want {
			t.Errorf("get %v: %q, want %q", c.args, got, c.want)
		}
	}
	s.fails(ExitFailed, "variable absent does not exist", "variables", "get", "absent")
	s.fails(ExitFailed, "variable region is not JSON", "variables", "get", "region", "-j")
	s.fails(ExitUsage, "accepts 2 arg(s)", "variables", "set", "a")
	s.fails(ExitUsage, "1 to 250 characters", "variables", "set", "", "x")

	s.env["AIRFLOW_VAR_REGION"] = "from the environment"
	if got := s.ok("variables", "get", "region"); got != "from the environment\n" {
		t.Errorf("the environment comes first: %q", got)
	}
	if r := s.run("variables", "set", "region", "us"); !strings.Contains(r.err, "AIRFLOW_VAR_REGION is set in the environment") {
		t.Errorf("shadowed: %q", r.err)
	}
	delete(s.env, "AIRFLOW_VAR_REGION")
	s.ok("variables", "delete", "region")
	s.fails(ExitFailed, "variable region does not exist", "variables", "delete", "region")
}

func TestVariablesImportExport(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(s.home, "v.json")
	content := `{"text": "a", "number": 12.50, "object": {"z": 1, "a": null}, "full": {"value": "v", "description": "d"}, "falsy": {"value": "", "description": "x"}, "nothing": null, "unicode": "é<&"}`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.ok("variables", "import", file); got != "7 of 7 variables successfully updated.\n" {
		t.Errorf("import: %q", got)
	}
	for key, want := range map[string]string{"text": "a", "number": "12.50", "object": "{\n  \"z\": 1,\n  \"a\": null\n}", "full": "v", "falsy": "{\n  \"value\": \"\",\n  \"description\": \"x\"\n}", "nothing": "null", "unicode": "é<&"} {
		if got := s.ok("variables", "get", key); got != want+"\n" {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	s.golden("variables_export.json", s.ok("variables", "export", "-"))
	s.fails(ExitFailed, "nothing was imported: these variables exist already: falsy, full", "variables", "import", file, "-a", "fail")
	if got := s.ok("variables", "import", file, "--action-on-existing-key", "skip"); !strings.Contains(got, "0 of 7 variables") {
		t.Errorf("skip: %q", got)
	}
	s.fails(ExitUsage, `--action-on-existing-key "odd"`, "variables", "import", file, "-a", "odd")
	s.fails(ExitFailed, "does not exist", "variables", "import", "absent.json")
	out := filepath.Join(s.home, "new", "out.json")
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.ok("variables", "export", out)
	if fi, err := os.Stat(out); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("export: %v %v", fi.Mode(), err)
	}
	other := newShell(t)
	other.ok("variables", "import", out)
	if a, b := s.ok("variables", "export", "-"), other.ok("variables", "export", "-"); a != b {
		t.Errorf("an export imports as something else:\n%s\n%s", a, b)
	}
	env := filepath.Join(s.home, "v.env")
	if err := os.WriteFile(env, []byte("# comment\nA=1=2\n\nB = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other.ok("variables", "import", env)
	if got := other.ok("variables", "get", "A") + other.ok("variables", "get", "B"); got != "1=2\nx\n" {
		t.Errorf("env: %q", got)
	}
}

func TestConnections(t *testing.T) {
	s := newShell(t)
	if got := s.ok("connections", "add", "warehouse", "--conn-uri", "postgres://me:p%40ssword@db:5432/sales?token=abcdefgh&sslmode=require", "--conn-description", "the warehouse"); strings.Contains(got, "p%40ssword") || strings.Contains(got, "abcdefgh") {
		t.Errorf("a secret is shown: %s", got)
	}
	s.ok("connections", "add", "api", "--conn-type", "http", "--conn-host", "https://api.example.com", "--conn-password", "topsecret", "--conn-port", "443")
	s.ok("connections", "add", "lake", "--conn-json", `{"conn_type": "aws", "extra": {"region_name": "eu-central-1", "aws_secret_access_key": "verysecretkey"}}`)
	s.golden("connections_list.txt", s.ok("connections", "list"))
	s.golden("connections_get.json", s.ok("connections", "get", "warehouse", "-o", "json"))
	for _, o := range []string{"table", "json", "yaml", "plain"} {
		for _, args := range [][]string{{"list"}, {"get", "warehouse"}, {"get", "lake"}, {"get", "api"}} {
			got := s.ok(append(append([]string{"connections"}, args...), "-o", o)...)
			for _, secret := range []string{"p@ssword", "p%40ssword", "abcdefgh", "topsecret", "verysecretkey"} {
				if strings.Contains(got, secret) {
					t.Errorf("%v -o %s shows %s", args, o, secret)
				}
			}
		}
	}
	if l := s.list("connections", "get", "warehouse", "--show-values"); l[0]["password"] != "p@ssword" || l[0]["get_uri"] != "postgres://me:p%40ssword@db:5432/sales?token=abcdefgh&sslmode=require" {
		t.Errorf("asked for: %v", l)
	}
	if l := s.list("connections", "list", "--conn-id", "api"); len(l) != 1 || l[0]["conn_type"] != "http" || l[0]["port"] != float64(443) {
		t.Errorf("--conn-id: %v", l)
	}
	s.fails(ExitFailed, "a connection with conn_id api already exists", "connections", "add", "api", "--conn-type", "http")
	s.fails(ExitUsage, "one of --conn-uri, --conn-json and --conn-type is needed", "connections", "add", "x")
	s.fails(ExitUsage, "cannot be given together", "connections", "add", "x", "--conn-uri", "a://b", "--conn-json", "{}")
	s.fails(ExitUsage, "--conn-host cannot be given together with --conn-uri", "connections", "add", "x", "--conn-uri", "a://b", "--conn-host", "h")
	s.fails(ExitUsage, "expected a number from 1 to 65535", "connections", "add", "x", "--conn-type", "http", "--conn-port", "0x1")
	s.fails(ExitUsage, "conn_id", "connections", "add", "a/b", "--conn-type", "http")
	s.fails(ExitUsage, "extra", "connections", "add", "x", "--conn-type", "http", "--conn-extra", "[]")
	s.fails(ExitFailed, "connection nope does not exist", "connections", "get", "nope")
	s.fails(ExitFailed, "connection nope does not exist", "connections", "delete", "nope")
	s.fails(ExitFailed, "has no host", "connections", "test", "lake")

	for _, name := range []string{"c.json", "c.yaml", "c.env"} {
		file := filepath.Join(s.home, name)
		s.ok("connections", "export", file)
		other := newShell(t)
		if got := other.ok("connections", "import", file); got != "Imported connection api\nImported connection lake\nImported connection warehouse\n" {
			t.Errorf("import of %s: %q", name, got)
		}
		if got := other.ok("connections", "import", file); !strings.HasPrefix(got, "Could not import connection api: connection already exists.") {
			t.Errorf("second import of %s: %q", name, got)
		}
		other.ok("connections", "import", file, "--overwrite")
		if l := other.list("connections", "get", "warehouse", "--show-values"); l[0]["password"] != "p@ssword" {
			t.Errorf("%s: %v", name, l)
		}
	}
	s.fails(ExitUsage, "or --file-format", "connections", "export", filepath.Join(s.home, "c.txt"))
	s.fails(ExitUsage, "--serialization-format", "connections", "export", "-", "--file-format", "json", "--serialization-format", "uri")
	if got := s.ok("connections", "export", "-", "--format", "env", "--serialization-format", "json"); !strings.HasPrefix(got, `api={"conn_type":`) && !strings.HasPrefix(got, `api={"conn_type"`) {
		t.Errorf("env as JSON: %s", got)
	}
	s.env["AIRFLOW_CONN_WAREHOUSE"] = "mysql://other"
	if l := s.list("connections", "get", "warehouse"); l[0]["conn_type"] != "mysql" {
		t.Errorf("the environment comes first: %v", l)
	}
}

func TestPools(t *testing.T) {
	s := newShell(t)
	s.golden("pools_list.txt", s.ok("pools", "list"))
	s.ok("pools", "set", "db", "4", "at most four", "--include-deferred")
	s.ok("pools", "set", "wide", "-1", "")
	if l := s.list("pools", "get", "db"); l[0]["pool"] != "db" || l[0]["slots"] != float64(4) || l[0]["description"] != "at most four" || l[0]["include_deferred"] != true {
		t.Errorf("get: %v", l)
	}
	s.golden("pools_export.json", s.ok("pools", "export", "-"))
	s.fails(ExitUsage, "expected a whole number", "pools", "set", "db", "x", "")
	s.fails(ExitUsage, "unknown shorthand flag", "pools", "set", "db", "-2", "")
	s.fails(ExitFailed, "cannot be deleted", "pools", "delete", "default_pool")
	s.fails(ExitFailed, "pool nope does not exist", "pools", "delete", "nope")
	s.fails(ExitFailed, "pool nope does not exist", "pools", "get", "nope")
	file := filepath.Join(s.home, "p.json")
	s.ok("pools", "export", file)
	s.ok("pools", "delete", "db")
	if got := s.ok("pools", "import", file); got != "Uploaded 3 pool(s)\n" {
		t.Errorf("import: %q", got)
	}
	if l := s.list("pools", "list"); len(l) != 3 || l[0]["pool"] != "db" {
		t.Errorf("list: %v", l)
	}
	if err := os.WriteFile(file, []byte(`{"a": {"slots": -5}, "b": {"description": ""}, "c": {"slots": 1, "odd": 2}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.run("pools", "import", file)
	for _, want := range []string{"-5 slots", "slots is missing", `unknown field "odd"`} {
		if r.code != ExitFailed || !strings.Contains(r.err, want) {
			t.Errorf("%d %s: want %s", r.code, r.err, want)
		}
	}
	if l := s.list("pools", "list"); len(l) != 3 {
		t.Errorf("a bad file was imported in part: %v", l)
	}
}

const assetFile = `makes:
  schedule: null
  tasks:
    make: {operator: airflow.providers.standard.operators.empty.EmptyOperator, outlets: [{__type__: airflow.sdk.Asset, uri: "s3://b/orders", name: orders}]}
waits:
  schedule: [{__type__: airflow.sdk.Asset, uri: "s3://b/orders", name: orders}]
  start_date: 2026-01-01
  tasks:
    use: {operator: airflow.providers.standard.operators.empty.EmptyOperator}
`

func TestAssets(t *testing.T) {
	s := newShell(t)
	s.write("assets.yml", assetFile)
	s.ok("dags", "reserialize")
	s.golden("assets_list.txt", s.ok("assets", "list"))
	s.golden("assets_details.json", s.ok("assets", "details", "--name", "orders", "-o", "json"))
	s.fails(ExitUsage, "--name or --uri is needed", "assets", "details")
	s.fails(ExitFailed, "there is no asset", "assets", "materialize", "--uri", "s3://b/none")
	s.fails(ExitUsage, `column "x"`, "assets", "list", "--columns", "x")
	if l := s.list("assets", "list", "--alias"); len(l) != 0 {
		t.Errorf("aliases: %v", l)
	}
	l := s.list("assets", "materialize", "--uri", "s3://b/orders")
	if len(l) != 1 || l[0]["dag_id"] != "makes" || l[0]["run_type"] != "asset_materialization" || l[0]["logical_date"] != nil {
		t.Errorf("materialize: %v", l)
	}
	s.write("second.yml", strings.ReplaceAll(strings.Split(assetFile, "waits:")[0], "makes:", "makes_too:"))
	s.ok("dags", "reserialize")
	s.fails(ExitFailed, "more than one DAG (makes, makes_too)", "assets", "materialize", "--name", "orders")
}

func TestConfigCommands(t *testing.T) {
	s := newShell(t)
	s.env["AIRFLOW__SMTP__SMTP_PASSWORD"] = "mailsecret"
	s.env["AIRFLOW__CORE__PARALLELISM"] = "7"
	if got := s.ok("config", "get-value", "core", "parallelism"); got != "7\n" {
		t.Errorf("get-value: %q", got)
	}
	if got := s.ok("config", "get-value", "smtp", "smtp_password"); got != "***\n" {
		t.Errorf("a secret: %q", got)
	}
	s.fails(ExitFailed, "the option [core/nope] is not found", "config", "get-value", "core", "nope")
	s.golden("config_smtp.txt", s.ok("config", "list", "--section", "smtp", "--include-sources", "--include-env-vars"))
	if strings.Contains(s.ok("config", "list", "-o", "json"), "mailsecret") {
		t.Error("config list shows a secret")
	}
	s.fails(ExitFailed, `section "odd"`, "config", "list", "--section", "odd")
	s.env["AIRFLOW__CORE__PARALLELISM"] = "many"
	s.fails(ExitFailed, "AIRFLOW__CORE__PARALLELISM", "config", "lint")
	delete(s.env, "AIRFLOW__CORE__PARALLELISM")
	s.env["AIRFLOW__CELERY__BROKER_URL"] = "redis://x"
	if l := s.list("config", "lint"); len(l) != 1 || l[0]["key"] != "broker_url" {
		t.Errorf("lint: %v", l)
	}
	// Settings that are read and change nothing are named, wherever one looks.
	s.env["AIRFLOW__CORE__MAX_NUM_RENDERED_TI_FIELDS_PER_TASK"] = "5"
	if l := s.list("config", "lint"); len(l) != 2 || !strings.Contains(fmt.Sprint(l[1]["reason"]), "kept as long as their run") {
		t.Errorf("lint: %v", l)
	}
	if got := s.ok("config", "list", "--section", "triggerer"); !strings.Contains(got, "# No effect: waits are timers") {
		t.Errorf("list: %s", got)
	}
	for _, o := range s.list("config", "list", "--section", "api") {
		if o["no_effect"] != "" {
			t.Errorf("%v", o)
		}
	}
}

func TestSecretsRotate(t *testing.T) {
	s := newShell(t)
	s.ok("variables", "set", "a", "one")
	s.ok("connections", "add", "c", "--conn-uri", "http://u:p@h")
	key := filepath.Join(s.home, "secrets.key")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.ok("secrets", "rotate"); got != "2 variables and connections are encrypted with a new key\n" {
		t.Errorf("rotate: %q", got)
	}
	after, err := os.ReadFile(key)
	if err != nil || string(before) == string(after) {
		t.Errorf("the key is the old one: %v", err)
	}
	if got := s.ok("variables", "get", "a"); got != "one\n" {
		t.Errorf("after the rotation: %q", got)
	}
	if l := s.list("connections", "get", "c", "--show-values"); l[0]["password"] != "p" {
		t.Errorf("after the rotation: %v", l)
	}
	// The old key is gone: it cannot read what is stored now.
	if err := os.WriteFile(key, before, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(ExitFailed, "cannot be decrypted", "variables", "get", "a")
}

func TestChangesAreAudited(t *testing.T) {
	s := newShell(t)
	s.ok("variables", "set", "a", "a secret value")
	s.ok("pools", "set", "p", "1", "")
	c := &command{env: Env{Getenv: func(string) string { return "" }}, home: s.home}
	defer c.close()
	a, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	es, _, err := a.Store.ListAudit(t.Context(), store.ListOptions{})
	if err != nil || len(es) != 2 || es[0].Event != "cli_variables_set" && es[1].Event != "cli_variables_set" || es[0].Owner != "tester" || !es[0].When.Equal(s.now) {
		t.Fatalf("%+v %v", es, err)
	}
	if b, err := json.Marshal(es); err != nil || strings.Contains(string(b), "a secret value") {
		t.Errorf("the audit log holds a value: %s %v", b, err)
	}
}

func TestRetentionPolicy(t *testing.T) {
	cfg, err := config.Load(config.Input{Home: t.TempDir(), Environ: []string{"GUST_DAG_RUN_RETENTION_DAYS=30", `AIRFLOW__GUST__RETENTION_OVERRIDES={"d": {"logs": 7}}`}})
	if err != nil {
		t.Fatal(err)
	}
	p := retention.PolicyOf(cfg)
	if p.Off() || p.Of("x") != (retention.Days{DagRuns: 30}) || p.Of(airflow.DagID("d")) != (retention.Days{DagRuns: 30, Logs: 7}) {
		t.Errorf("%+v", p)
	}
}
