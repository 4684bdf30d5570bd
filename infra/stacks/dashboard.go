package stacks

import (
	"encoding/json"
	"slices"
	"sort"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
)

func number(n int) string { return strconv.Itoa(n) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// board lays widgets out in rows of the dashboard's 24 columns.
type board struct {
	widgets []any
	x, y    int
}

const rowHeight = 6

func (b *board) add(width int, kind string, properties map[string]any) {
	if b.x+width > 24 {
		b.x, b.y = 0, b.y+rowHeight
	}
	b.widgets = append(b.widgets, map[string]any{"type": kind, "x": b.x, "y": b.y, "width": width, "height": rowHeight, "properties": properties})
	b.x += width
}

// graph adds a chart. A metric is namespace, name, then dimension names and
// values, at last the rendering.
func (b *board) graph(width int, title, statistic string, metrics ...[]any) {
	b.add(width, "metric", map[string]any{
		"title": title, "region": "${AWS::Region}", "view": "timeSeries", "period": 60, "stat": statistic, "metrics": metrics,
		"yAxis": map[string]any{"left": map[string]any{"min": 0}},
	})
}

// logs adds the answer of a query, which costs $0.005 per GB of log it reads and
// nothing while nobody looks.
func (b *board) logs(width int, title, query string, groups []string) {
	source := ""
	for _, g := range groups {
		source += "SOURCE '" + g + "' | "
	}
	b.add(width, "log", map[string]any{"title": title, "region": "${AWS::Region}", "view": "bar", "query": source + query})
}

func label(text string) map[string]any { return map[string]any{"label": text} }

// newDashboard shows what an operator asks first: do runs run, do tasks fail, is
// the control plane quick, does anything wait, what is the money spent on.
func (c control) newDashboard() {
	b := &board{}
	scheduler := c.cfg.FunctionName(awsenv.Scheduler)
	lambdas := []string{scheduler}
	for _, q := range c.cfg.QueuesOn(settings.OnLambda) {
		lambdas = append(lambdas, c.cfg.WorkerName(q.Name))
	}
	for _, f := range []string{awsenv.DagProcessor, awsenv.DagParser, awsenv.TaskEvents, awsenv.APIServer} {
		lambdas = append(lambdas, c.cfg.FunctionName(f))
	}
	queues := []string{c.eventsQueue(), c.timersQueue(), c.dagFilesQueue(), c.deadQueue()}
	for _, q := range c.cfg.Queues {
		queues = append(queues, c.cfg.TaskQueueName(q.Name))
	}
	each := func(namespace, metric, dimension string, names []string) [][]any {
		var out [][]any
		for _, n := range names {
			out = append(out, []any{namespace, metric, dimension, n, label(n)})
		}
		return out
	}
	custom := func(metric string, more map[string]any) []any {
		return []any{awsenv.MetricNamespace, metric, awsenv.MetricDimension, c.cfg.Prefix(), more}
	}
	has := func(metric string) bool { return slices.Contains(c.cfg.Metrics, metric) }

	byState := func(event string) string {
		return "filter " + awsenv.LogEvent + " = '" + event + "' | stats count(*) by state"
	}
	b.logs(8, "DAG runs by state", byState(awsenv.LogDagRun), []string{logGroup(scheduler)})
	b.logs(8, "Task instances by state", byState(awsenv.LogTaskInstance), []string{logGroup(scheduler)})
	var failed [][]any
	if has(awsenv.MetricDagRunsFailed) {
		failed = append(failed, custom(awsenv.MetricDagRunsFailed, label("DAG runs")))
	}
	if has(awsenv.MetricTaskInstancesFailed) {
		failed = append(failed, custom(awsenv.MetricTaskInstancesFailed, label("task instances")))
	}
	if len(failed) > 0 {
		b.graph(8, "Failed", "Sum", failed...)
	}
	if has(awsenv.MetricHop) {
		hop := func(stat string) []any {
			return custom(awsenv.MetricHop, map[string]any{"label": stat, "stat": stat})
		}
		b.graph(8, "Hop: end of a task to start of the next (ms)", "p50", hop("p50"), hop("p90"), hop("p99"))
	}
	b.graph(8, "Age of the oldest message (s)", "Maximum", each("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queues)...)
	b.graph(8, "Messages waiting", "Maximum", each("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queues)...)
	b.graph(8, "Errors", "Sum", each("AWS/Lambda", "Errors", "FunctionName", lambdas)...)
	b.graph(8, "Throttles", "Sum", each("AWS/Lambda", "Throttles", "FunctionName", lambdas)...)
	b.graph(8, "Concurrent executions", "Maximum", each("AWS/Lambda", "ConcurrentExecutions", "FunctionName", lambdas)...)

	// Cost drivers, each times its price in docs/aws.md.
	b.graph(8, "Cost: Lambda milliseconds", "Sum", each("AWS/Lambda", "Duration", "FunctionName", lambdas)...)
	b.graph(8, "Cost: table units", "Sum",
		[]any{"AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", c.table(), label("write units")},
		[]any{"AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", c.table(), label("read units")},
		[]any{"AWS/DynamoDB", "WriteThrottleEvents", "TableName", c.table(), label("throttled writes")})
	var calls [][]any
	for _, q := range queues {
		calls = append(calls, []any{"AWS/SQS", "NumberOfMessagesSent", "QueueName", q, label(q + " sent")},
			[]any{"AWS/SQS", "NumberOfEmptyReceives", "QueueName", q, label(q + " empty receives")})
	}
	b.graph(8, "Cost: SQS messages and empty receives", "Sum", calls...)
	var groups []string
	for _, f := range lambdas {
		groups = append(groups, logGroup(f))
	}
	b.graph(8, "Cost: log bytes", "Sum", each("AWS/Logs", "IncomingBytes", "LogGroupName", groups)...)
	b.graph(8, "Cost: Lambda invocations", "Sum", each("AWS/Lambda", "Invocations", "FunctionName", lambdas)...)

	body, err := json.Marshal(map[string]any{"widgets": b.widgets})
	if err != nil {
		panic(err) // strings, numbers, slices and maps
	}
	awscloudwatch.NewCfnDashboard(c.stack, str("Dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardName: str(c.cfg.Prefix()), DashboardBody: awscdk.Fn_Sub(str(string(body)), nil),
	})
}
