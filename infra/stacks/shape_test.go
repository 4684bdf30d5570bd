package stacks_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gustflow/gust/infra/cfn"
	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/store/kv"
)

// each runs a check on every variant.
func each(t *testing.T, check func(t *testing.T, d deployment)) {
	t.Helper()
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) { check(t, synth(t, variant)) })
	}
}

func denies(doc any, action string) bool {
	for _, s := range cfn.Statements(doc) {
		if s.Effect == "Deny" && strings.Join(s.Actions, "") == action && strings.Join(s.Conditions["Bool"]["aws:SecureTransport"], "") == "false" {
			return true
		}
	}
	return false
}

func TestTable(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		tables := d.data.OfType("AWS::DynamoDB::Table")
		if len(tables) != 1 || len(d.control.OfType("AWS::DynamoDB::Table")) > 0 {
			t.Fatalf("%d tables in the data stack; want one, and none in the control stack", len(tables))
		}
		table := tables[0]
		if table.Text("TableName") != d.cfg.Prefix() || table.Text("BillingMode") != "PAY_PER_REQUEST" {
			t.Errorf("table %s, %s", table.Text("TableName"), table.Text("BillingMode"))
		}
		if on, _ := table.Get("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled").(bool); !on {
			t.Error("no point-in-time recovery")
		}
		if on, _ := table.Get("TimeToLiveSpecification", "Enabled").(bool); !on || table.Text("TimeToLiveSpecification", "AttributeName") != kv.AttrExpiresAt {
			t.Error("items do not expire by", kv.AttrExpiresAt)
		}
		keys := fmt.Sprint(table.Get("KeySchema", 0, "AttributeName"), table.Get("KeySchema", 1, "AttributeName"))
		if keys != kv.AttrPK+kv.AttrSK && keys != kv.AttrPK+" "+kv.AttrSK {
			t.Errorf("keys are %s", keys)
		}
		for i, ix := range kv.DefaultSchema().Indexes {
			got := table.Resource("GlobalSecondaryIndexes", i)
			want := fmt.Sprintf("%s %s INCLUDE %v", ix.Name, string(ix.Name)+kv.AttrPK, ix.Include)
			if g := fmt.Sprintf("%s %s %s %v", got.Text("IndexName"), got.Text("KeySchema", 0, "AttributeName"), got.Text("Projection", "ProjectionType"), got.Get("Projection", "NonKeyAttributes")); g != want {
				t.Errorf("index %d: %s, want %s", i, g, want)
			}
		}
		protected, _ := table.Get("DeletionProtectionEnabled").(bool)
		if retain := d.cfg.Removal == settings.Retain; protected != retain || (table.DeletionPolicy == "Retain") != retain {
			t.Errorf("removal is %s, but protection %v and policy %s", d.cfg.Removal, protected, table.DeletionPolicy)
		}
		if kms, _ := table.Get("SSESpecification", "SSEEnabled").(bool); kms != d.cfg.CustomerKey {
			t.Errorf("customer key is %v, in the table %v", d.cfg.CustomerKey, kms)
		}
	})
}

func TestBuckets(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		buckets := d.data.OfType("AWS::S3::Bucket")
		if len(buckets) != 2 || len(d.control.OfType("AWS::S3::Bucket")) > 0 {
			t.Fatalf("%d buckets in the data stack, want 2, and none in the control stack", len(buckets))
		}
		for _, b := range buckets {
			name := b.Text("BucketName")
			for _, p := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
				if on, _ := b.Get("PublicAccessBlockConfiguration", p).(bool); !on {
					t.Errorf("%s: %s is off", name, p)
				}
			}
			want := "AES256"
			if d.cfg.CustomerKey {
				want = "aws:kms"
			}
			if got := b.Text("BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "SSEAlgorithm"); got != want {
				t.Errorf("%s: encrypted with %q, want %s", name, got, want)
			}
			if b.Text("VersioningConfiguration", "Status") != "Enabled" {
				t.Errorf("%s keeps no versions: a snapshot that is put again while it is removed would be lost, or a DAG file overwritten", name)
			}
			if rules, _ := json.Marshal(b.Get("LifecycleConfiguration")); !strings.Contains(string(rules), "NoncurrentVersionExpiration") {
				t.Errorf("%s keeps old versions for ever: %s", name, rules)
			}
			if len(name) > 63 {
				t.Errorf("%s has more than 63 characters", name)
			}
		}
		for _, p := range d.data.OfType("AWS::S3::BucketPolicy") {
			if !denies(p.Get("PolicyDocument"), "s3:*") {
				t.Errorf("bucket %v may be read without TLS", p.Get("Bucket"))
			}
		}
		if n := len(d.data.OfType("AWS::S3::BucketPolicy")); n != 2 {
			t.Errorf("%d bucket policies", n)
		}
	})
}

// TestQueues: visibility, encryption, TLS, dead letters, and mappings that report
// single failures.
func TestQueues(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		queues, timeouts := map[string]cfn.Resource{}, map[string]float64{}
		policies := 0
		for _, tmpl := range d.templates() {
			for id, r := range tmpl.Resources {
				switch r.Type {
				case "AWS::SQS::Queue":
					queues[tmpl.Name+" "+id] = r
					if on, _ := r.Get("SqsManagedSseEnabled").(bool); !on {
						t.Errorf("%s is not encrypted", r.Text("QueueName"))
					}
					if r.Get("FifoQueue") != nil {
						t.Errorf("%s is a FIFO queue: order comes from conditional writes", r.Text("QueueName"))
					}
					if redrive := r.Get("RedrivePolicy", "maxReceiveCount"); (redrive == nil) != strings.HasSuffix(r.Text("QueueName"), "-dead") {
						t.Errorf("%s: maxReceiveCount %v", r.Text("QueueName"), redrive)
					} else if strings.Contains(r.Text("QueueName"), "-tasks-") && redrive.(float64) < 100 {
						t.Errorf("%s: %v receives are too few: throttled ones count", r.Text("QueueName"), redrive)
					}
				case "AWS::SQS::QueuePolicy":
					policies++
					if !denies(r.Get("PolicyDocument"), "sqs:*") {
						t.Errorf("%s may be used without TLS", id)
					}
				case "AWS::Lambda::Function":
					timeouts[id] = r.Number("Timeout")
				}
			}
		}
		if policies != len(queues) {
			t.Errorf("%d queues, %d policies", len(queues), policies)
		}
		mappings := d.control.OfType("AWS::Lambda::EventSourceMapping")
		if want := 4 + len(d.cfg.QueuesOn(settings.OnLambda)); len(mappings) != want {
			t.Errorf("%d mappings, want %d: events, timers, DAG files, dead letters, a worker per queue", len(mappings), want)
		}
		for _, m := range mappings {
			if fmt.Sprint(m.Get("FunctionResponseTypes")) != "[ReportBatchItemFailures]" {
				t.Errorf("mapping of %s fails whole batches", m.Text("EventSourceArn"))
			}
			timeout := timeouts[strings.Trim(m.Text("FunctionName"), "<>")]
			found := false
			for id, q := range queues {
				logical := strings.Fields(id)[1]
				if strings.Contains(m.Text("EventSourceArn"), logical) {
					found = true
					if v := q.Number("VisibilityTimeout"); timeout == 0 || v < 6*timeout || v > 12*3600 {
						t.Errorf("%s: visibility %v s, function timeout %v s; want six times that", q.Text("QueueName"), v, timeout)
					}
					if strings.Contains(q.Text("QueueName"), "-tasks-") && m.Number("BatchSize") != 1 {
						t.Errorf("%s: a worker would get %v dispatches at once", q.Text("QueueName"), m.Number("BatchSize"))
					}
				}
			}
			if !found {
				t.Errorf("no queue for mapping of %s", m.Text("EventSourceArn"))
			}
		}
	})
}

func TestFunctions(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		functions := d.control.OfType("AWS::Lambda::Function")
		if want := 5 + len(d.cfg.QueuesOn(settings.OnLambda)); len(functions) != want {
			t.Errorf("%d functions, want %d: a construct may have added one of its own", len(functions), want)
		}
		arch := "arm64"
		if d.cfg.Arch == settings.AMD64 {
			arch = "x86_64"
		}
		groups := map[string]float64{}
		for _, g := range d.control.OfType("AWS::Logs::LogGroup") {
			groups[g.Text("LogGroupName")] = g.Number("RetentionInDays")
		}
		for _, f := range functions {
			name := f.Text("FunctionName")
			if f.Text("Architectures", 0) != arch {
				t.Errorf("%s is for %s", name, f.Text("Architectures", 0))
			}
			if f.Text("RecursiveLoop") != "Allow" {
				t.Errorf("%s: Lambda would cut chains of more than 16 tasks", name)
			}
			if days := groups["/aws/lambda/"+name]; days != float64(d.cfg.LogRetentionDays) {
				t.Errorf("%s: log kept %v days, want %d", name, days, d.cfg.LogRetentionDays)
			}
			python := strings.Contains(name, "-worker-") || strings.HasSuffix(name, awsenv.DagParser)
			wrapper := f.Text("Environment", "Variables", "AWS_LAMBDA_EXEC_WRAPPER")
			if python != (f.Text("Runtime") == "python3.13") || python != (wrapper != "") {
				t.Errorf("%s: runtime %s, wrapper %q", name, f.Text("Runtime"), wrapper)
			}
			if f.Get("VpcConfig") != nil {
				t.Errorf("%s is in a VPC", name)
			}
			vars, _ := f.Get("Environment", "Variables").(map[string]any)
			size := 0
			for k, v := range vars {
				size += len(k) + len(fmt.Sprint(v))
			}
			if size > 3500 {
				t.Errorf("%s: %d bytes of environment; Lambda takes 4 KB", name, size)
			}
			var metrics []string
			if err := json.Unmarshal([]byte(f.Text("Environment", "Variables", awsenv.Metrics)), &metrics); err != nil || len(metrics) > 3 {
				t.Errorf("%s: metrics %v, %v; at most three by default", name, metrics, err)
			}
			if strings.Contains(name, "-worker-") && f.Number("Timeout") != 900 {
				t.Errorf("%s: timeout %v", name, f.Number("Timeout"))
			}
			for _, needed := range needs(name, d) {
				if _, ok := vars[needed]; !ok {
					t.Errorf("%s does not get %s", name, needed)
				}
			}
		}
	})
}

// needs are the variables without which a function refuses to start.
func needs(name string, d deployment) []string {
	all := map[string][]string{
		awsenv.Scheduler:    {awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.TaskQueues, awsenv.DataBucket},
		awsenv.DagProcessor: {awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.DataBucket, awsenv.DagsBucket, awsenv.ParserFunction, awsenv.DagEventsQueueURL, awsenv.KeysSecret},
		awsenv.TaskEvents:   {awsenv.EventsQueueURL, awsenv.TimersQueueURL},
		awsenv.APIServer:    {awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.DataBucket, awsenv.KeysSecret},
	}
	if d.cfg.Profile == settings.Full {
		all[awsenv.APIServer] = append(all[awsenv.APIServer], awsenv.AdminSecret)
	}
	short := strings.TrimPrefix(name, d.cfg.Prefix()+"-")
	if strings.HasPrefix(short, awsenv.Worker+"-") {
		return []string{awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.DataBucket, awsenv.WorkerQueue}
	}
	return all[short]
}

// TestLocalStackHasWhatItCanDeploy: types that the open-source core of LocalStack
// 4.9.2 lacks would be faked, and deploy without existing.
func TestLocalStackHasWhatItCanDeploy(t *testing.T) {
	provided := map[string]bool{}
	for _, typ := range strings.Fields(`AWS::CloudWatch::Alarm AWS::DynamoDB::Table AWS::Events::Rule AWS::IAM::Policy AWS::IAM::Role AWS::KMS::Key AWS::KMS::Alias
		AWS::Lambda::EventInvokeConfig AWS::Lambda::EventSourceMapping AWS::Lambda::Function AWS::Lambda::Permission AWS::Lambda::Url AWS::Logs::LogGroup
		AWS::S3::Bucket AWS::S3::BucketPolicy AWS::SecretsManager::Secret AWS::SNS::Subscription AWS::SNS::Topic AWS::SNS::TopicPolicy AWS::SQS::Queue AWS::SQS::QueuePolicy`) {
		provided[typ] = true
	}
	d := synth(t, "localstack")
	for _, tmpl := range d.templates() {
		for id, r := range tmpl.Resources {
			if !provided[r.Type] {
				t.Errorf("%s is a %s, which LocalStack does not provide", id, r.Type)
			}
		}
	}
	for _, variant := range variants {
		d := synth(t, variant)
		for _, tmpl := range d.templates() {
			for id, r := range tmpl.Resources {
				if strings.HasPrefix(r.Type, "Custom::") || r.Type == "AWS::CloudFormation::CustomResource" {
					t.Errorf("%s %s is a custom resource: its function is nobody's to maintain", variant, id)
				}
			}
		}
	}
}

func TestSchedules(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		inputs := map[string]string{}
		for _, r := range d.control.OfType("AWS::Events::Rule") {
			if s := r.Text("ScheduleExpression"); s != "" {
				inputs[r.Text("Targets", 0, "Input")] = s
			}
		}
		if inputs[awsenv.TickInput] != "rate(1 minute)" || inputs[awsenv.ReconcileInput] == "" || inputs[awsenv.CleanInput] != "rate(1 day)" || len(inputs) != 3 {
			t.Errorf("rules: %v", inputs)
		}
	})
}

// TestAlarms: every stage hears of the six things that must not go unnoticed.
func TestAlarms(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		have := map[string]bool{}
		for _, a := range d.control.OfType("AWS::CloudWatch::Alarm") {
			have[strings.TrimPrefix(a.Text("AlarmName"), d.cfg.Prefix()+"-")] = true
			if d.cfg.AlarmEmail != "" && a.Get("AlarmActions") == nil {
				t.Errorf("%s tells nobody", a.Text("AlarmName"))
			}
		}
		for _, want := range []string{"scheduler-errors", "missed-tick", "event-age", "dead-letters", "dead-letters-waiting", "scheduler-throttles", "worker-failures-default"} {
			if !have[want] {
				t.Errorf("no alarm %s", want)
			}
		}
		if have["failed-runs"] != (d.cfg.Profile == settings.Full) {
			t.Errorf("failed-runs: %v", have["failed-runs"])
		}
	})
}

func TestDashboard(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		boards := d.control.OfType("AWS::CloudWatch::Dashboard")
		if (len(boards) == 1) != d.cfg.Dashboard {
			t.Fatalf("%d dashboards", len(boards))
		}
		if len(boards) == 0 {
			return
		}
		var body struct {
			Widgets []struct {
				Type       string
				X, Width   int
				Properties struct {
					Title   string
					Metrics [][]any
					Query   string
				}
			}
		}
		if err := json.Unmarshal([]byte(boards[0].Text("DashboardBody")), &body); err != nil {
			t.Fatal(err)
		}
		titles, metrics := "", 0
		for _, w := range body.Widgets {
			titles += w.Properties.Title + "\n"
			metrics += len(w.Properties.Metrics)
			if w.X+w.Width > 24 || (w.Properties.Query == "") == (len(w.Properties.Metrics) == 0) {
				t.Errorf("widget %q: x %d, width %d, %d metrics", w.Properties.Title, w.X, w.Width, len(w.Properties.Metrics))
			}
		}
		for _, want := range []string{"DAG runs by state", "Task instances by state", "Hop", "Age of the oldest", "Cost: table", "Cost: SQS", "Cost: Lambda"} {
			if !strings.Contains(titles, want) {
				t.Errorf("no widget %q in\n%s", want, titles)
			}
		}
	})
}

// TestStacksAreApart: data refers to nothing of the control stack, and the control
// stack imports only what has no name of its own.
func TestStacksAreApart(t *testing.T) {
	each(t, func(t *testing.T, d deployment) {
		for _, tmpl := range []*cfn.Template{d.data} {
			if text := fmt.Sprint(tmpl.Resources); strings.Contains(text, "<import:") {
				t.Error("the data stack imports something")
			}
		}
		for id, r := range d.data.Resources {
			switch r.Type {
			case "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SecretsManager::Secret", "AWS::KMS::Key":
				want := "Delete"
				if d.cfg.Removal == settings.Retain {
					want = "Retain"
				}
				if r.DeletionPolicy != want {
					t.Errorf("%s: %s, want %s", id, r.DeletionPolicy, want)
				}
			}
		}
		for id, r := range d.control.Resources {
			if r.DeletionPolicy == "Retain" {
				t.Errorf("%s of the control stack stays behind", id)
			}
		}
	})
}

func TestECS(t *testing.T) {
	d := synth(t, "prod-ecs")
	services := d.control.OfType("AWS::ECS::Service")
	if len(services) != 1 || services[0].Text("ServiceName") != "gust-prod-heavy" || services[0].Number("DesiredCount") != 0 {
		t.Errorf("services: %v", services)
	}
	targets := d.control.OfType("AWS::ApplicationAutoScaling::ScalableTarget")
	if len(targets) != 1 || targets[0].Number("MinCapacity") != 0 || targets[0].Number("MaxCapacity") != 20 {
		t.Errorf("scaling: %v", targets)
	}
	if n := len(d.control.OfType("AWS::EC2::NatGateway")); n > 0 {
		t.Errorf("%d NAT gateways at $33 a month each", n)
	}
	for _, g := range d.control.OfType("AWS::EC2::SecurityGroup") {
		if g.Get("SecurityGroupIngress") != nil {
			t.Error("something may connect to tasks")
		}
	}
	rule := false
	for _, r := range d.control.OfType("AWS::Events::Rule") {
		if fmt.Sprint(r.Get("EventPattern", "detail-type")) == "[ECS Task State Change]" {
			rule = strings.HasPrefix(r.Text("Targets", 0, "Arn"), "<Fntaskevents")
		}
	}
	if !rule {
		t.Error("taskevents does not hear of containers that stop")
	}
	var scheduler cfn.Resource
	for _, f := range d.control.OfType("AWS::Lambda::Function") {
		if f.Text("FunctionName") == "gust-prod-scheduler" {
			scheduler = f
		}
	}
	var ecs awsenv.ECS
	if err := json.Unmarshal([]byte(scheduler.Text("Environment", "Variables", awsenv.ECSExecutor)), &ecs); err != nil {
		t.Fatal(err)
	}
	if len(ecs.TaskDefinitions) != 3 || len(ecs.Subnets) != 2 || !ecs.AssignPublicIP || !ecs.PerTaskImages || ecs.Cluster == "" || ecs.LogGroup == "" {
		t.Errorf("%s: %+v", awsenv.ECSExecutor, ecs)
	}
	// A worker starts for the first message and is never taken away while one is there.
	if !slices.Equal(ecs.Services, []string{"heavy"}) {
		t.Errorf("the tick looks at the queues %v", ecs.Services)
	}
	scales := map[string]string{}
	for _, p := range d.control.OfType("AWS::ApplicationAutoScaling::ScalingPolicy") {
		c := p.Resource("StepScalingPolicyConfiguration")
		scales[p.Text("PolicyName")] = fmt.Sprint(c.Text("AdjustmentType"), " by ", c.Number("StepAdjustments", 0, "ScalingAdjustment"), " ")
	}
	for _, a := range d.control.OfType("AWS::CloudWatch::Alarm") {
		if name := strings.Replace(a.Text("AlarmName"), "-scale-", "-", 1); scales[name] != "" {
			to := a.Text("AlarmActions", 0)
			scales[name] += fmt.Sprint(a.Text("MetricName"), a.Text("Metrics", 0, "Expression"), " ", a.Text("ComparisonOperator"), " ", a.Number("Threshold"), " for ", a.Number("EvaluationPeriods"), " to own policy: ", strings.HasPrefix(to, "<Scale"+name[strings.LastIndex(name, "-")+1:]))
		}
	}
	if want := map[string]string{
		"gust-prod-heavy-out": "ChangeInCapacity by 1 ApproximateNumberOfMessagesVisible GreaterThanOrEqualToThreshold 1 for 1 to own policy: true",
		"gust-prod-heavy-in":  "ExactCapacity by 0 waiting + running LessThanOrEqualToThreshold 0 for 10 to own policy: true",
	}; !maps.Equal(scales, want) {
		t.Errorf("scaling: %q, want %q", scales, want)
	}
	if own := synth(t, "minimal-vpc"); len(own.control.OfType("AWS::EC2::VPC")) > 0 {
		t.Error("a VPC was made beside the one that was given")
	}
	if plain := synth(t, "prod"); len(plain.control.OfType("AWS::ECS::Cluster")) > 0 {
		t.Error("a cluster without being asked for")
	}
}
