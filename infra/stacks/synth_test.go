package stacks_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/cfn"
	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/infra/stacks"
	"github.com/gustflow/gust/internal/awsenv"
)

var update = flag.Bool("update", false, "rewrite golden files and the tables in docs/")

// keep leaves the synthesised templates for other tools: infra/lint.sh.
var keep = flag.String("out", "", "folder to write the synthesised templates to, one folder per variant")

// files are the configuration files of the variants below.
var files = map[string]string{
	"prod-ecs": `{
		"stage": "prod", "alarm_email": "ops@example.com", "dag_env": {"REGION": "eu"}, "key_rotation": true,
		"airflow": {"AIRFLOW__CORE__PARALLELISM": "500"},
		"queues": [
			{"name": "default", "memory_mb": 1769, "reserved_concurrency": 100, "max_concurrency": 50, "policy_arns": ["arn:aws:iam::123456789012:policy/etl"]},
			{"name": "heavy", "on": "ecs", "secrets_prefix": "airflow/heavy"},
			{"name": "untrusted", "no_metastore_secrets": true, "secrets_prefix": "airflow/untrusted"}
		],
		"functions": {"scheduler": {"memory_mb": 1769, "reserved_concurrency": 20}},
		"secrets": {"backend": "secretsmanager", "prefix": "airflow"},
		"ecs": {"image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/gust:1.0", "cpu": 1024, "memory_mb": 2048, "max_workers": 20,
			"per_task_images": true, "task_role_arns": ["arn:aws:iam::123456789012:role/etl"]}
	}`,
	"minimal-vpc": `{
		"stage": "prod", "profile": "minimal", "arch": "amd64", "removal": "retain", "dags_prefix": "", "bursts": false, "secrets": {"backend": "ssm", "prefix": "airflow"},
		"ecs": {"image": "ghcr.io/gustflow/gust:1.0", "cpu": 256, "memory_mb": 512, "max_workers": 1, "subnets": ["subnet-1"], "security_groups": ["sg-1"]}
	}`,
}

// variants are what the tests deploy: the stages as they are, and two files that
// use everything.
var variants = []string{"dev", "prod", "localstack", "prod-ecs", "minimal-vpc"}

// deployment is a synthesised variant.
type deployment struct {
	cfg           settings.Config
	data, control *cfn.Template
	dir           string // with the templates as they are
}

func (d deployment) templates() []*cfn.Template { return []*cfn.Template{d.data, d.control} }

var synthesised = struct {
	sync.Mutex
	dir string
	by  map[string]deployment
}{by: map[string]deployment{}}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Setenv("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
	os.Setenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
	code := m.Run()
	jsii.Close()
	if synthesised.dir != "" && *keep == "" {
		os.RemoveAll(synthesised.dir)
	}
	os.Exit(code)
}

// synth returns a variant, synthesised once for all tests.
func synth(t *testing.T, variant string) deployment {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the CDK needs Node.js, and CI must have it")
		}
		t.Skip("the CDK needs Node.js 20 or later, which is not installed")
	}
	synthesised.Lock()
	defer synthesised.Unlock()
	if d, ok := synthesised.by[variant]; ok {
		return d
	}
	if synthesised.dir == "" {
		dir := *keep
		var err error
		if dir == "" {
			dir, err = os.MkdirTemp("", "gust-infra-test-")
		} else if dir, err = filepath.Abs(dir); err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		synthesised.dir = dir
		placeholders(t, filepath.Join(dir, "dist"))
	}
	context := map[string]string{"stage": variant}
	var file []byte
	if f, ok := files[variant]; ok {
		context, file = nil, []byte(f)
	}
	cfg, err := settings.Load(context, file, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if variant == "localstack" {
		cfg.Arch = settings.AMD64 // whatever runs the tests
	}
	out := filepath.Join(synthesised.dir, variant)
	app := stacks.NewApp(out)
	data := stacks.NewData(app, cfg)
	stacks.NewControl(app, cfg, data, filepath.Join(synthesised.dir, "dist"))
	app.Synth(nil)
	d := deployment{cfg: cfg, dir: out}
	for name, to := range map[string]**cfn.Template{cfg.DataStackName(): &d.data, cfg.ControlStackName(): &d.control} {
		tmpl, err := cfn.Read(filepath.Join(out, name+".template.json"))
		if err != nil {
			t.Fatal(err)
		}
		tmpl.Name = name
		*to = tmpl
	}
	synthesised.by[variant] = d
	return d
}

// placeholders stand for the functions' zips.
func placeholders(t *testing.T, dist string) {
	t.Helper()
	for _, name := range awsenv.Functions() {
		file := filepath.Join(dist, name, "bootstrap")
		if name == awsenv.Worker {
			file = filepath.Join(dist, name, awsenv.WorkerBinary)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("placeholder of "+name+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryVariantSynthesises(t *testing.T) {
	for _, variant := range variants {
		d := synth(t, variant)
		if len(d.data.Resources) < 8 || len(d.control.Resources) < 40 {
			t.Errorf("%s: %d and %d resources", variant, len(d.data.Resources), len(d.control.Resources))
		}
	}
}

func TestCheckDist(t *testing.T) {
	dir := t.TempDir()
	err := stacks.CheckDist(dir)
	if err == nil {
		t.Fatal("an empty folder passed")
	}
	for _, want := range []string{"make lambdas", "scheduler/bootstrap", "worker/gust-worker", "apiserver/bootstrap"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	placeholders(t, dir)
	if err := stacks.CheckDist(dir); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(dir, "dagparser", "bootstrap"))
	if err := stacks.CheckDist(dir); err == nil || strings.Contains(err.Error(), "scheduler") {
		t.Errorf("only dagparser is missing, but: %v", err)
	}
}
