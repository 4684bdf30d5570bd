package idlecost

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/gustflow/gust/infra/cfn"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter/prices"
)

// Time in a month of 730 hours, as AWS counts.
const (
	secondsPerMonth = 730 * 3600
	minutesPerMonth = 730 * 60
)

// Assumptions say what an idle invocation does. They are upper bounds, checked
// against the metered functions by whoever changes those.
type Assumptions struct {
	// Pollers of an event source mapping that never idle away, and their long poll.
	Pollers, PollSeconds int
	// Milliseconds billed, table units and log bytes of a tick that finds nothing
	// due, and of a reconcile that finds nothing changed.
	TickMS, TickReads, TickWrites, TickLogBytes    float64
	ReconcileMS, ReconcileReads, ReconcileLogBytes float64
	// The same of a removal of old data where none is configured, which is the default.
	CleanMS, CleanLogBytes float64
	// Lists and gets of a reconcile: one page of up to 1,000 files and its own state.
	ReconcileLists, ReconcileGets float64
	// StoredGB in the table, and again in buckets and logs.
	StoredGB float64
	// KeyUsesPerMinute is how often services ask KMS for the data keys that they keep
	// for five minutes, per function that runs.
	KeyUsesPerMinute float64
}

// Default are the assumptions of the published tables.
func Default() Assumptions {
	return Assumptions{
		Pollers: 2, PollSeconds: 20,
		TickMS: 200, TickReads: 10, TickWrites: 0.1, TickLogBytes: 400,
		ReconcileMS: 200, ReconcileReads: 4, ReconcileLogBytes: 600, ReconcileLists: 1, ReconcileGets: 1,
		CleanMS: 200, CleanLogBytes: 400,
		StoredGB: 0.1, KeyUsesPerMinute: 0.2,
	}
}

// Line is one item of the bill.
type Line struct {
	Item     string
	Quantity float64
	Price    prices.Price
	USD      float64
}

// Bill is what a month costs.
type Bill []Line

// Sum of all lines in US dollars.
func (b Bill) Sum() float64 {
	var sum float64
	for _, l := range b {
		sum += l.USD
	}
	return sum
}

func (b *Bill) add(what string, quantity float64, item prices.Item) {
	if quantity == 0 {
		return
	}
	t := prices.Default()
	*b = append(*b, Line{what, quantity, t.Of(item), t.Cost(item, quantity)})
}

// Markdown renders the bill as a table.
func (b Bill) Markdown() string {
	var s strings.Builder
	s.WriteString("| item | quantity | price | $ a month |\n|---|---:|---|---:|\n")
	for _, l := range b {
		per := ""
		if l.Price.Per > 1 {
			per = amount(l.Price.Per) + " "
		}
		fmt.Fprintf(&s, "| %s | %s | $%v for %s%s (%s) | %.3f |\n", l.Item, amount(l.Quantity), l.Price.USD, per, l.Price.Unit, l.Price.Sure, l.USD)
	}
	fmt.Fprintf(&s, "| **sum** | | | **%.2f** |\n", b.Sum())
	return s.String()
}

func amount(q float64) string {
	if q >= 1000 || q == float64(int64(q)) {
		s := fmt.Sprintf("%.0f", q)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	}
	return fmt.Sprintf("%.3g", q)
}

// free are types that cost nothing while nothing runs.
var free = map[string]string{
	"AWS::IAM::Role": "", "AWS::IAM::Policy": "", "AWS::Lambda::Function": "billed by invocation", "AWS::Lambda::Permission": "",
	"AWS::Lambda::Url": "", "AWS::Lambda::EventInvokeConfig": "", "AWS::SQS::Queue": "billed by call", "AWS::SQS::QueuePolicy": "",
	"AWS::S3::BucketPolicy": "", "AWS::Logs::LogGroup": "billed by byte", "AWS::KMS::Alias": "", "AWS::SNS::Topic": "billed by message",
	"AWS::SNS::TopicPolicy": "", "AWS::SNS::Subscription": "billed by message", "AWS::ECS::Cluster": "", "AWS::ECS::TaskDefinition": "",
	"AWS::ECS::Service": "no task runs", "AWS::ApplicationAutoScaling::ScalableTarget": "", "AWS::ApplicationAutoScaling::ScalingPolicy": "",
	"AWS::EC2::VPC": "", "AWS::EC2::Subnet": "", "AWS::EC2::RouteTable": "", "AWS::EC2::SubnetRouteTableAssociation": "", "AWS::EC2::Route": "",
	"AWS::EC2::InternetGateway": "", "AWS::EC2::VPCGatewayAttachment": "", "AWS::EC2::SecurityGroup": "",
}

// Of computes the bill of templates deployed together.
func Of(a Assumptions, templates ...*cfn.Template) (Bill, error) {
	var b Bill
	var unknown []string
	byLogicalID := map[string]cfn.Resource{} // functions
	metrics := map[string]bool{}
	var alarms, mappings, dashboards, secrets, keys, rotations, tables, buckets float64
	running := map[string]bool{} // functions that rules keep running
	var invoked []func()
	for _, t := range templates {
		for id, r := range t.Resources {
			if r.Type == "AWS::Lambda::Function" {
				byLogicalID[id] = r
			}
		}
	}
	for _, t := range templates {
		for _, id := range ids(t) {
			r := t.Resources[id]
			switch r.Type {
			case "AWS::SecretsManager::Secret":
				secrets++
			case "AWS::KMS::Key":
				keys++
				if on, _ := r.Get("EnableKeyRotation").(bool); on {
					rotations += 2
				}
			case "AWS::CloudWatch::Alarm":
				alarms += metricsOf(r)
			case "AWS::CloudWatch::Dashboard":
				dashboards++
			case "AWS::Lambda::EventSourceMapping":
				if r.Get("StartingPosition") != nil || r.Get("EventSourceArn") == nil {
					return nil, fmt.Errorf("mapping %s: only SQS queues are priced, not streams", id)
				}
				if r.Get("ProvisionedPollerConfig") != nil {
					return nil, fmt.Errorf("mapping %s: the hourly price of provisioned pollers is not in the table", id)
				}
				mappings++
			case "AWS::DynamoDB::Table":
				tables++
			case "AWS::S3::Bucket":
				buckets++
			case "AWS::Events::Rule":
				schedule := r.Text("ScheduleExpression")
				if schedule == "" {
					continue // runs on events
				}
				minutes, err := rate(schedule)
				if err != nil {
					return nil, fmt.Errorf("rule %s: %w", id, err)
				}
				f, ok := byLogicalID[strings.TrimSuffix(strings.Trim(r.Text("Targets", 0, "Arn"), "<>"), ".Arn")]
				if !ok {
					return nil, fmt.Errorf("rule %s: its target is no function of these templates", id)
				}
				if minutes < 60 {
					running[f.Text("FunctionName")] = true
				}
				invoked = append(invoked, func() { b.invocations(a, r.Text("Targets", 0, "Input"), f, minutesPerMonth/minutes) })
			case "AWS::EC2::VPCEndpoint":
				if typ := r.Text("VpcEndpointType"); typ != "" && typ != "Gateway" {
					return nil, fmt.Errorf("endpoint %s: only gateway endpoints are free, not %s", id, typ)
				}
			default:
				if _, ok := free[r.Type]; !ok && !slices.Contains(unknown, r.Type) {
					unknown = append(unknown, r.Type)
				}
			}
			if r.Type == "AWS::Lambda::Function" {
				var names []string
				if text := r.Text("Environment", "Variables", awsenv.Metrics); text != "" {
					if err := json.Unmarshal([]byte(text), &names); err != nil {
						return nil, fmt.Errorf("function %s: %s: %w", id, awsenv.Metrics, err)
					}
				} else {
					names = awsenv.DefaultMetrics()
				}
				for _, n := range names {
					metrics[n] = true
				}
			}
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("nobody has said what these cost: %s", strings.Join(unknown, ", "))
	}
	b.add("secrets", secrets, prices.SecretsSecrets)
	b.add("KMS keys", keys, prices.KMSKeys)
	b.add("KMS key: versions of two rotations, from the third year", rotations, prices.KMSKeys)
	b.add("KMS requests for data keys", keys*float64(len(running))*a.KeyUsesPerMinute*minutesPerMonth, prices.KMSRequests)
	b.add("alarms", alarms, prices.CloudWatchAlarms)
	b.add("dashboards", dashboards, prices.CloudWatchDashboards)
	b.add("custom metrics, as if published every hour", float64(len(metrics)), prices.CloudWatchMetrics)
	b.add(fmt.Sprintf("empty receives of %.0f mappings, %d pollers each", mappings, a.Pollers), mappings*float64(a.Pollers)*secondsPerMonth/float64(a.PollSeconds), prices.SQSRequests)
	for _, f := range invoked {
		f()
	}
	b.add("table storage", tables*a.StoredGB, prices.DynamoDBStorage)
	b.add("table recovery", tables*a.StoredGB, prices.DynamoDBPITR)
	b.add("bucket storage", buckets*a.StoredGB, prices.S3Storage)
	return b, nil
}

// invocations adds n invocations of f by a rule.
func (b *Bill) invocations(a Assumptions, input string, f cfn.Resource, n float64) {
	name := "ticks"
	ms, reads, writes, logs := a.TickMS, a.TickReads, a.TickWrites, a.TickLogBytes
	switch input {
	case awsenv.CleanInput:
		name, ms, reads, writes, logs = "removals", a.CleanMS, 0, 0, a.CleanLogBytes
	case awsenv.ReconcileInput:
		name, ms, reads, writes, logs = "reconciles", a.ReconcileMS, a.ReconcileReads, 0, a.ReconcileLogBytes
		b.add("reconciles: lists", n*a.ReconcileLists, prices.S3Puts)
		b.add("reconciles: gets", n*a.ReconcileGets, prices.S3Gets)
	}
	duration := prices.LambdaGBSecondsX86
	if f.Text("Architectures", 0) == "arm64" {
		duration = prices.LambdaGBSecondsARM
	}
	b.add(name+": requests", n, prices.LambdaRequests)
	b.add(fmt.Sprintf("%s: %.0f ms at %.0f MB", name, ms, f.Number("MemorySize")), n*ms/1000*f.Number("MemorySize")/1024, duration)
	b.add(name+": reads", n*reads, prices.DynamoDBReadUnits)
	b.add(name+": writes", n*writes, prices.DynamoDBWriteUnits)
	b.add(name+": log", n*logs/1e9, prices.LogsIngest)
}

// metricsOf counts the metrics an alarm watches: each is charged.
func metricsOf(alarm cfn.Resource) float64 {
	queries, _ := alarm.Get("Metrics").([]any)
	if len(queries) == 0 {
		return 1
	}
	var n float64
	for i := range queries {
		if alarm.Get("Metrics", i, "MetricStat") != nil {
			n++
		}
	}
	return n
}

// rate reads rate(5 minutes).
func rate(expression string) (float64, error) {
	var n float64
	var unit string
	if _, err := fmt.Sscanf(strings.NewReplacer("(", " ", ")", "").Replace(expression), "rate %f %s", &n, &unit); err != nil || n <= 0 {
		return 0, fmt.Errorf("schedule %q: expected rate(n minutes)", expression)
	}
	switch strings.TrimSuffix(unit, "s") {
	case "minute":
		return n, nil
	case "hour":
		return n * 60, nil
	case "day":
		return n * 1440, nil
	}
	return 0, fmt.Errorf("schedule %q: unit %q is not known", expression, unit)
}

func ids(t *cfn.Template) []string {
	out := make([]string, 0, len(t.Resources))
	for id := range t.Resources {
		out = append(out, id)
	}
	sort.Strings(out)
	return out
}
