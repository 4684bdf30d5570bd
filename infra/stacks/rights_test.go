package stacks_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/gustflow/gust/infra/cfn"
	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
)

// exception is a resource pattern that a role's policy may hold, because AWS
// offers nothing narrower. One that no template uses is an error.
type exception struct {
	action, resource string // patterns of the pattern: regular expressions
	why              string
}

var exceptions = []exception{
	{`ecr:GetAuthorizationToken`, `\*`, "the token is the account's: AWS knows no resource for this action"},
	{`ecs:ListTasks`, `\*`, "the tasks of one cluster, by the condition: AWS's resource for this action are container instances, which Fargate has not"},
	{`ecs:(Register|Describe)TaskDefinition`, `\*`, "no resource-level permission exists; what a definition can do is bounded by iam:PassRole; only with per_task_images"},
	{`s3:(Get|Put|Delete)Object(Version)?`, `arn:aws:s3:::gust-[a-z]+-(dags|data)-[^/*]+/([a-z]+/)?\*`, "objects are made while the system runs: a prefix of one bucket is the narrowest"},
	{`logs:(CreateLogStream|PutLogEvents|GetLogEvents|FilterLogEvents)`, `arn:aws:logs:[^*]+:log-group:[^*]+:\*`, "streams are named by Lambda and ECS: one log group is the narrowest"},
	{`ecs:RunTask`, `arn:aws:ecs:[^*]+:task-definition/[^*]+(-image-\*)?:\*`, "revisions of one task definition, which deploys replace, and of those registered for images"},
	{`ecs:(DescribeTasks|StopTask)`, `arn:aws:ecs:[^*]+:task/[^*]+/\*`, "task ids are made by ECS: the tasks of one cluster are the narrowest"},
	{`secretsmanager:GetSecretValue`, `arn:aws:secretsmanager:[^*]+:secret:[^*]+/(variables|connections|config)/\*`, "variables and connections are made by users, below the prefix of the queue"},
	{`ssm:GetParameter`, `arn:aws:ssm:[^*]+:parameter/[^*]+/(variables|connections|config)/\*`, "the same in the Parameter Store"},
}

// TestLeastPrivilege walks every role of every stage: actions are named one by
// one, resources too unless there is a reason, and no role is anything but ours.
func TestLeastPrivilege(t *testing.T) {
	used := make([]bool, len(exceptions))
	statements := 0
	for _, variant := range variants {
		d := synth(t, variant)
		allowedPolicies := map[string]bool{}
		for _, q := range d.cfg.Queues {
			for _, p := range q.PolicyARNs {
				allowedPolicies[p] = true
			}
		}
		for _, tmpl := range d.templates() {
			for _, role := range tmpl.Roles() {
				where := variant + " " + role.ID
				for _, who := range role.Trusts {
					if who != "Service:lambda.amazonaws.com" && who != "Service:ecs-tasks.amazonaws.com" {
						t.Errorf("%s trusts %s", where, who)
					}
				}
				for _, m := range role.Managed {
					if !allowedPolicies[m] {
						t.Errorf("%s has the managed policy %s, which no configuration names", where, m)
					}
				}
				if len(role.Statements) == 0 {
					t.Errorf("%s allows nothing: the test may not have found its policies", where)
				}
				for _, s := range role.Statements {
					statements++
					checkStatement(t, where, s, used)
				}
			}
			for id, r := range tmpl.Resources {
				if r.Type == "AWS::IAM::Policy" || r.Type == "AWS::IAM::ManagedPolicy" {
					t.Errorf("%s %s: a construct granted something by itself; rights belong into rights.go", variant, id)
				}
			}
		}
	}
	if statements < 100 {
		t.Errorf("only %d statements seen", statements)
	}
	for i, e := range exceptions {
		if !used[i] {
			t.Errorf("the exception for %s on %s is not needed any more", e.action, e.resource)
		}
	}
}

func checkStatement(t *testing.T, where string, s cfn.Statement, used []bool) {
	t.Helper()
	where += " " + s.Sid
	if s.Effect != "Allow" || s.Sid == "" || len(s.Actions) == 0 || len(s.Resources) == 0 || len(s.Principals) > 0 {
		t.Errorf("%s: expected Allow with a Sid, actions and resources (no NotAction, NotResource)", where)
	}
	for _, a := range s.Actions {
		if !regexp.MustCompile(`^[a-z0-9-]+:[A-Z][A-Za-z]+$`).MatchString(a) {
			t.Errorf("%s: action %q is not one action", where, a)
		}
		if a == "iam:PassRole" && !slices.Equal(s.Conditions["StringEquals"]["iam:PassedToService"], []string{"ecs-tasks.amazonaws.com"}) {
			t.Errorf("%s: roles may be passed to any service", where)
		}
		if a == "ecs:ListTasks" && len(s.Conditions["ArnEquals"]["ecs:cluster"]) != 1 {
			t.Errorf("%s: tasks of every cluster", where)
		}
		if strings.HasPrefix(a, "dynamodb:") {
			for _, p := range s.Conditions["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] {
				if !regexp.MustCompile(`^[A-Z]+#(\*|[A-Z]+)$`).MatchString(p) {
					t.Errorf("%s: partition keys %q are not those of one kind", where, p)
				}
			}
		}
		if strings.HasPrefix(a, "kms:") && len(s.Conditions["StringEquals"]["kms:ViaService"]) == 0 {
			t.Errorf("%s: the key may be used beside the services that hold our data", where)
		}
		for _, r := range s.Resources {
			if !strings.ContainsAny(r, "*?") {
				continue
			}
			found := false
			for i, e := range exceptions {
				if regexp.MustCompile("^(?:"+e.action+")$").MatchString(a) && regexp.MustCompile("^(?:"+e.resource+")$").MatchString(r) {
					used[i], found = true, true
				}
			}
			if !found {
				t.Errorf("%s: %s on %s, and no exception says why", where, a, r)
			}
		}
	}
}

// TestResourcePolicies: what buckets, queues, keys and topics allow by themselves.
func TestResourcePolicies(t *testing.T) {
	for _, variant := range variants {
		d := synth(t, variant)
		for _, tmpl := range d.templates() {
			for id, r := range tmpl.Resources {
				var doc any
				switch r.Type {
				case "AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy":
					doc = r.Get("PolicyDocument")
				case "AWS::KMS::Key":
					doc = r.Get("KeyPolicy")
				case "AWS::Lambda::Permission":
					events := r.Text("Principal") == "events.amazonaws.com" && r.Text("SourceArn") != ""
					// The API server alone may be called by everybody, and through its URL only: it
					// asks for a sign-in itself.
					through := r.Text("Action") == "lambda:InvokeFunctionUrl" && r.Text("FunctionUrlAuthType") == "NONE" || r.Text("Action") == "lambda:InvokeFunction" && r.Get("InvokedViaFunctionUrl") == true
					if api := strings.Contains(fmt.Sprint(r.Get("FunctionName")), "Fn"+awsenv.APIServer); !events && !(api && through) {
						t.Errorf("%s %s: %v may invoke the function", variant, id, r.Properties)
					}
				case "AWS::Lambda::Url":
					if !strings.Contains(fmt.Sprint(r.Get("TargetFunctionArn")), "Fn"+awsenv.APIServer) {
						t.Errorf("%s %s: a URL of another function than the API server: %v", variant, id, r.Properties)
					}
				}
				for _, s := range cfn.Statements(doc) {
					if s.Effect == "Deny" {
						continue
					}
					if len(s.Conditions) == 0 && !(r.Type == "AWS::KMS::Key" && slices.Equal(s.Principals, []string{"AWS:arn:aws:iam::" + cfn.Account + ":root"})) {
						// The account itself owns its key: otherwise nobody could ever change it.
						t.Errorf("%s %s %s: %v may do %v without a condition", variant, id, s.Sid, s.Principals, s.Actions)
					}
					for _, p := range s.Principals {
						if strings.Contains(p, "*") {
							t.Errorf("%s %s %s allows everybody %v", variant, id, s.Sid, s.Actions)
						}
					}
				}
			}
		}
	}
}

// TestRights asks the policies themselves, as AWS would evaluate them.
func TestRights(t *testing.T) {
	for _, variant := range []string{"dev", "prod", "localstack", "prod-ecs"} {
		t.Run(variant, func(t *testing.T) {
			d := synth(t, variant)
			table := "arn:aws:dynamodb:eu-west-1:123456789012:table/" + d.cfg.Prefix()
			bucket := func(kind, object string) string {
				name := "arn:aws:s3:::" + d.cfg.Prefix() + "-" + kind + "-123456789012-eu-west-1"
				if d.cfg.Account != "" {
					name = "arn:aws:s3:::" + d.cfg.Prefix() + "-" + kind + "-" + d.cfg.Account + "-" + d.cfg.Region
				}
				return name + object
			}
			where := func(arn string) string { // localstack has an account and a region of its own
				if d.cfg.Account == "" {
					return arn
				}
				return strings.NewReplacer(cfn.Account, d.cfg.Account, cfn.Region, d.cfg.Region).Replace(arn)
			}
			queue := func(name string) string { return "arn:aws:sqs:eu-west-1:123456789012:" + d.cfg.Prefix() + "-" + name }
			function := func(name string) string {
				return "arn:aws:lambda:eu-west-1:123456789012:function:" + d.cfg.FunctionName(name)
			}
			keys := func(pk ...string) map[string][]string { return map[string][]string{"dynamodb:LeadingKeys": pk} }
			queueName := d.cfg.Queues[len(d.cfg.Queues)-1].Name
			worker := awsenv.Worker + "-" + queueName
			for _, c := range []struct {
				function, action, resource string
				context                    map[string][]string
				want                       bool
			}{
				{worker, "dynamodb:UpdateItem", table, keys("TI#d#r#t#-1"), true},
				{worker, "dynamodb:UpdateItem", table, keys("RUN#d#r"), false},
				{worker, "dynamodb:UpdateItem", table, keys("RUNLD#d#r"), false},
				{worker, "dynamodb:PutItem", table, keys("VARIABLE#v"), false},
				{worker, "dynamodb:DeleteItem", table, keys("VARIABLE#v"), false},
				{worker, "dynamodb:PutItem", table, keys("TI#d#r#t#-1", "RUN#d#r"), false},
				{worker, "dynamodb:PutItem", table, nil, false},
				{worker, "dynamodb:PutItem", table, keys("TIX#d"), false},
				{worker, "dynamodb:DeleteItem", table, keys("DAG#d"), false},
				{worker, "dynamodb:PutItem", table, keys("CONNECTION#c"), false},
				{worker, "dynamodb:PutItem", table, keys("SLOTS#pool"), false},
				{worker, "dynamodb:GetItem", table, keys("AUDIT#1"), false},
				{worker, "dynamodb:GetItem", table, keys("RUN#d#r"), true},
				{worker, "dynamodb:Query", table + "/index/gsi1", keys("ALL#CONNECTION"), false},
				{worker, "dynamodb:Query", table + "/index/gsi1", keys("ALL#VARIABLE"), false},
				{worker, "dynamodb:Query", table + "/index/gsi1", keys("RUNS#d"), true},
				{worker, "dynamodb:Scan", table, nil, false},
				{worker, "sqs:ReceiveMessage", queue("tasks-" + queueName), nil, true},
				{worker, "sqs:ReceiveMessage", queue("events"), nil, false},
				{worker, "sqs:SendMessage", queue("tasks-" + queueName), nil, false},
				{worker, "sqs:SendMessage", queue("events"), nil, true},
				{worker, "s3:PutObject", bucket("data", "/xcoms/d/r"), nil, true},
				{worker, "s3:PutObject", bucket("data", "/blobs/ab/abc"), nil, false},
				{worker, "s3:GetObject", bucket("dags", "/dags/a.yml"), nil, false},
				{worker, "s3:PutObject", bucket("dags", "/dags/a.yml"), nil, false},
				{worker, "lambda:InvokeFunction", function(awsenv.DagParser), nil, false},
				{awsenv.DagParser, "s3:GetObject", bucket("dags", "/dags/a.yml"), nil, true},
				{awsenv.DagParser, "s3:GetObject", bucket("data", "/blobs/ab"), nil, false},
				{awsenv.DagParser, "s3:ListBucketVersions", bucket("dags", ""), map[string][]string{"s3:prefix": {"dags/"}}, false},
				{awsenv.DagProcessor, "s3:ListBucketVersions", bucket("dags", ""), map[string][]string{"s3:prefix": {"dags/"}}, true},
				{awsenv.DagProcessor, "s3:ListBucketVersions", bucket("dags", ""), map[string][]string{"s3:prefix": {"other/"}}, false},
				{awsenv.Scheduler, "lambda:InvokeFunction", "arn:aws:lambda:eu-west-1:123456789012:function:" + d.cfg.WorkerName("default"), nil, true},
				{awsenv.Scheduler, "lambda:InvokeFunction", function(awsenv.DagParser), nil, false},
				{awsenv.DagParser, "dynamodb:GetItem", table, keys("DAG#d"), false},
				{awsenv.DagParser, "sqs:SendMessage", queue("events"), nil, false},
				{awsenv.DagParser, "secretsmanager:GetSecretValue", "<import:" + d.cfg.DataStackName() + ":ExportsOutputRefKeys4E30B5924C5B94AA>", nil, false},
				{awsenv.DagProcessor, "dynamodb:PutItem", table, keys("DAG#d"), true},
				{awsenv.DagProcessor, "dynamodb:PutItem", table, keys("RUN#d#r"), false},
				{awsenv.DagProcessor, "dynamodb:GetItem", table, keys("CONNECTION#c"), false},
				{awsenv.DagProcessor, "dynamodb:Query", table + "/index/gsi1", keys("ALL#CONNECTION"), false},
				{awsenv.DagProcessor, "dynamodb:Query", table + "/index/gsi1", keys("ALL#DAG"), true},
				{awsenv.DagProcessor, "lambda:InvokeFunction", function(awsenv.DagParser), nil, true},
				{awsenv.DagProcessor, "s3:PutObject", bucket("dags", "/dags/a.yml"), nil, false},
				{awsenv.Scheduler, "dynamodb:PutItem", table, keys("RUN#d#r"), true},
				{awsenv.Scheduler, "dynamodb:DeleteTable", table, nil, false},
				// Removing what is older than the retention, and nothing else.
				{awsenv.Scheduler, "s3:DeleteObjectVersion", bucket("data", "/blobs/ab/abc"), nil, true},
				{awsenv.Scheduler, "s3:DeleteObject", bucket("data", "/blobs/ab/abc"), nil, false},
				{awsenv.Scheduler, "s3:DeleteObjectVersion", bucket("data", "/xcoms/d/r"), nil, false},
				{awsenv.Scheduler, "s3:DeleteObject", bucket("data", "/xcoms/d/r"), nil, true},
				{awsenv.Scheduler, "s3:DeleteObject", bucket("data", "/logs/d/r"), nil, false},
				{awsenv.Scheduler, "s3:DeleteObjectVersion", bucket("dags", "/dags/a.yml"), nil, false},
				{awsenv.Scheduler, "s3:GetObject", bucket("data", "/retention/state.json"), nil, true},
				{awsenv.Scheduler, "s3:PutObject", bucket("data", "/retention/state.json"), nil, true},
				{awsenv.Scheduler, "s3:DeleteObject", bucket("data", "/retention/state.json"), nil, false},
				{awsenv.Scheduler, "s3:ListBucket", bucket("data", ""), map[string][]string{"s3:prefix": {"retention/"}}, true},
				{awsenv.Scheduler, "sqs:SendMessage", queue("events"), nil, true},
				{worker, "s3:GetObject", bucket("data", "/retention/state.json"), nil, false},
				{worker, "s3:DeleteObjectVersion", bucket("data", "/blobs/ab/abc"), nil, false},
				{awsenv.Scheduler, "s3:PutObject", bucket("data", "/blobs/ab"), nil, false},
				{awsenv.Scheduler, "secretsmanager:GetSecretValue", "<import:" + d.cfg.DataStackName() + ":ExportsOutputRefKeys4E30B5924C5B94AA>", nil, false},
				{awsenv.TaskEvents, "dynamodb:GetItem", table, keys("TI#d"), false},
				{awsenv.TaskEvents, "sqs:SendMessage", queue("events"), nil, true},
				{awsenv.TaskEvents, "sqs:ReceiveMessage", queue("dead"), nil, true},
				{awsenv.APIServer, "logs:GetLogEvents", "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/" + d.cfg.WorkerName(queueName) + ":log-stream:x", nil, true},
				{awsenv.APIServer, "sqs:ReceiveMessage", queue("events"), nil, false},
			} {
				role, err := d.control.RoleOf(d.cfg.FunctionName(c.function))
				if err != nil {
					t.Fatal(err)
				}
				got, err := role.Allows(cfn.Request{Action: c.action, Resource: where(c.resource), Context: c.context})
				if err != nil {
					t.Fatal(err)
				}
				if got != c.want {
					t.Errorf("%s may %s on %s %v: %v, want %v", c.function, c.action, where(c.resource), c.context, got, c.want)
				}
			}
		})
	}
}

// TestQueuesAreBoundaries: a queue that is denied the metastore's secrets has
// neither the rows nor the key nor another queue's prefix.
func TestQueuesAreBoundaries(t *testing.T) {
	d := synth(t, "prod-ecs")
	role, err := d.control.RoleOf(d.cfg.WorkerName("untrusted"))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name string) string { return "arn:aws:secretsmanager:eu-west-1:123456789012:secret:" + name }
	for _, c := range []struct {
		action, resource string
		pk               string
		want             bool
	}{
		{"dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/gust-prod", "VARIABLE#v", false},
		{"dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/gust-prod", "CONNECTION#c", false},
		{"secretsmanager:GetSecretValue", "<import:gust-prod-data:ExportsOutputRefKeys4E30B5924C5B94AA>", "", false},
		{"secretsmanager:GetSecretValue", secret("airflow/untrusted/connections/db"), "", true},
		{"secretsmanager:GetSecretValue", secret("airflow/heavy/connections/db"), "", false},
		{"secretsmanager:GetSecretValue", secret("airflow/connections/db"), "", false},
	} {
		q := cfn.Request{Action: c.action, Resource: c.resource}
		if c.pk != "" {
			q.Context = map[string][]string{"dynamodb:LeadingKeys": {c.pk}}
		}
		if got, err := role.Allows(q); err != nil || got != c.want {
			t.Errorf("%s on %s %s: %v, %v; want %v", c.action, c.resource, c.pk, got, err, c.want)
		}
	}
	if role, err = d.control.RoleOf(d.cfg.WorkerName("default")); err != nil {
		t.Fatal(err)
	}
	if ok, _ := role.Allows(cfn.Request{Action: "secretsmanager:GetSecretValue", Resource: "<import:gust-prod-data:ExportsOutputRefKeys4E30B5924C5B94AA>"}); !ok {
		t.Error("the default queue cannot open variables: the logical id of the secret may have changed, and the denials above prove nothing")
	}
	// The first admin's password is for the API server alone.
	for name, want := range map[string]bool{
		d.cfg.FunctionName(awsenv.APIServer): true, d.cfg.WorkerName("default"): false, d.cfg.WorkerName("untrusted"): false,
		d.cfg.FunctionName(awsenv.Scheduler): false, d.cfg.FunctionName(awsenv.DagProcessor): false, d.cfg.FunctionName(awsenv.DagParser): false,
	} {
		role, err := d.control.RoleOf(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := role.Allows(cfn.Request{Action: "secretsmanager:GetSecretValue", Resource: "<import:gust-prod-data:ExportsOutputRefAdminC75D2A91B94F6C9B>"}); err != nil || got != want {
			t.Errorf("%s reads the first admin's password: %v, %v; want %v", name, got, err, want)
		}
	}
}

// decided says, for every kind of partition of package store, who but scheduler
// and API server may use it. A new kind fails the test until it is decided on.
var decided = map[string]string{
	"DAG": "worker reads, processor writes", "DOC": "worker reads, processor writes", "RUN": "worker reads, processor reads", "RUNLD": "worker reads", "TI": "worker writes",
	"POOL": "processor reads", "VARIABLE": "worker reads, processor reads", "CONNECTION": "worker reads", "ASSET": "worker reads, processor writes",
	"ASSETEVENT": "worker reads", "ASSETQUEUE": "", "BACKFILL": "", "IMPORTERROR": "processor writes", "AUDIT": "", "BUNDLE": "worker reads, processor writes",
	"USER": "", "APITOKEN": "", "AUTHKEYS": "", "REVOKED": "", "SIGNIN": "", "FAVORITE": "", // whoever reads the keys signs tokens of anybody
	"EFFECT": "worker reads", "SLOTS": "", "RUNNING": "", "DUE": "", "WATCH": "", "MAIL": "", "NUMBER": "",
}

func TestEveryKindIsDecided(t *testing.T) {
	kinds := kindsOfStore(t)
	d := synth(t, "dev")
	table := "arn:aws:dynamodb:eu-west-1:123456789012:table/" + d.cfg.Prefix()
	for _, k := range kinds {
		want, ok := decided[k]
		if !ok {
			t.Errorf("kind %s is new in internal/store: decide in stacks/rights.go and here who may read and write it", k)
			continue
		}
		var got []string
		for who, function := range map[string]string{"worker": d.cfg.WorkerName("default"), "processor": d.cfg.FunctionName(awsenv.DagProcessor)} {
			role, err := d.control.RoleOf(function)
			if err != nil {
				t.Fatal(err)
			}
			may := func(action string) bool {
				ok, err := role.Allows(cfn.Request{Action: action, Resource: table, Context: map[string][]string{"dynamodb:LeadingKeys": {k + "#x"}}})
				if err != nil {
					t.Fatal(err)
				}
				return ok
			}
			switch {
			case may("dynamodb:PutItem"):
				got = append(got, who+" writes")
			case may("dynamodb:GetItem"):
				got = append(got, who+" reads")
			}
		}
		sort.Slice(got, func(i, j int) bool { return got[i] > got[j] })
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("kind %s: %q, but decided is %q", k, g, want)
		}
	}
	for k := range decided {
		if !slices.Contains(kinds, k) {
			t.Errorf("kind %s is decided on but not in internal/store any more", k)
		}
	}
}

// kindsOfStore reads the constants kind… of package store.
func kindsOfStore(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "internal", "store", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for i, n := range v.Names {
					if lit, ok := at(v.Values, i).(*ast.BasicLit); ok && strings.HasPrefix(n.Name, "kind") && lit.Kind == token.STRING {
						kinds = append(kinds, strings.Trim(lit.Value, `"`))
					}
				}
			}
		}
	}
	if len(kinds) < 15 {
		t.Fatalf("only %v found in internal/store", kinds)
	}
	return kinds
}

func at(values []ast.Expr, i int) ast.Expr {
	if i < len(values) {
		return values[i]
	}
	return nil
}

// TestRightsTable writes the rights of every role into docs/aws.md.
func TestRightsTable(t *testing.T) {
	d := synth(t, "prod-ecs")
	var b strings.Builder
	row := func(name string, role *cfn.Role) {
		for i, s := range role.Statements {
			label := ""
			if i == 0 {
				label = "`" + name + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", label, strings.Join(s.Actions, ", "), short(d.cfg, strings.Join(s.Resources, ", ")), short(d.cfg, conditionText(s)))
		}
	}
	b.WriteString("| role of | may | on | only if |\n|---|---|---|---|\n")
	for _, name := range []string{awsenv.Scheduler, "worker-default", "worker-untrusted", awsenv.DagProcessor, awsenv.DagParser, awsenv.TaskEvents, awsenv.APIServer} {
		role, err := d.control.RoleOf(d.cfg.FunctionName(name))
		if err != nil {
			t.Fatal(err)
		}
		row(name, role)
	}
	for id, role := range d.control.Roles() {
		if strings.HasPrefix(id, "Roleecsstart") {
			row("start of containers", role)
		}
	}
	b.WriteString("\nPatterns are there because AWS offers nothing narrower:\n\n| action | pattern | reason |\n|---|---|---|\n")
	for _, e := range exceptions {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", strings.ReplaceAll(e.action, "|", " or "), strings.ReplaceAll(e.resource, "|", " or "), e.why)
	}
	section(t, "docs/aws.md", "rights", b.String())
}

func conditionText(s cfn.Statement) string {
	var out []string
	for op, keys := range s.Conditions {
		for key, values := range keys {
			if op != "Null" {
				out = append(out, key+" in "+strings.Join(values, " "))
			}
		}
	}
	sort.Strings(out)
	return strings.Join(out, "; ")
}

var imported = regexp.MustCompile(`<import:[^>]*(Key|Keys|Admin)[0-9A-F]*[^>]*>`)

// short takes from ARNs what is the same in all of them.
func short(cfg settings.Config, s string) string {
	s = imported.ReplaceAllStringFunc(s, func(m string) string {
		if strings.Contains(m, "RefKeys") {
			return "the key secret"
		}
		if strings.Contains(m, "RefAdmin") {
			return "the first admin's secret"
		}
		return "the KMS key"
	})
	s = regexp.MustCompile(`<(Cluster)[0-9A-Z]*\.Arn>`).ReplaceAllString(s, "the cluster")
	s = regexp.MustCompile(`arn:aws:(\w+):[a-z0-9-]*:\d*:`).ReplaceAllString(s, "$1 ")
	s = strings.NewReplacer("-"+cfn.Account+"-"+cfn.Region, "", "arn:aws:", "", cfg.Prefix(), "…", "."+cfn.Region+".amazonaws.com", "").Replace(s)
	return strings.ReplaceAll(s, "|", "\\|")
}
