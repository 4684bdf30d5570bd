package stacks

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
)

// runbook is where an alarm's description sends its reader.
const runbook = "docs/runbook.md#"

// alarm describes one alarm on one metric: CloudWatch charges by metric.
type alarm struct {
	id     string // and the anchor in the runbook, unless anchor is set
	anchor string
	text   string

	namespace, metric, statistic string
	dimensions                   map[string]string
	// threshold is reached in `points` of the last `of` periods of this many seconds.
	threshold, seconds, points, of int
	// silence is an alarm, too: no data means the worst.
	silence bool
	// below: the value is too small, not too big.
	below bool
}

// alarms lists the alarms of a deployment. "basic" ones say that scheduling has
// stopped, or that work waits or is given up.
func (c control) alarms() []alarm {
	scheduler := c.cfg.FunctionName(awsenv.Scheduler)
	as := []alarm{
		{id: "scheduler-errors", text: "Invocations of the scheduler fail.",
			namespace: "AWS/Lambda", metric: "Errors", statistic: "Sum", dimensions: map[string]string{"FunctionName": scheduler},
			threshold: 1, seconds: 60, points: 3, of: 5},
		{id: "missed-tick", text: "The minute rule did not invoke the scheduler for five minutes: no scheduled run is created.",
			namespace: "AWS/Events", metric: "Invocations", statistic: "Sum", dimensions: map[string]string{"RuleName": c.cfg.Prefix() + "-tick"},
			threshold: 1, seconds: 300, points: 1, of: 1, below: true, silence: true},
		{id: "event-age", text: "Scheduler events wait longer than five minutes.",
			namespace: "AWS/SQS", metric: "ApproximateAgeOfOldestMessage", statistic: "Maximum", dimensions: map[string]string{"QueueName": c.eventsQueue()},
			threshold: 300, seconds: 60, points: 5, of: 5},
		{id: "dead-letters", text: "A message was given up after many attempts; taskevents has failed its dispatch or sent it again.",
			namespace: "AWS/SQS", metric: "NumberOfMessagesReceived", statistic: "Sum", dimensions: map[string]string{"QueueName": c.deadQueue()},
			threshold: 1, seconds: 300, points: 1, of: 1},
		{id: "dead-letters-waiting", text: "Messages that were given up wait for a quarter of an hour: taskevents does not take them.",
			namespace: "AWS/SQS", metric: "ApproximateNumberOfMessagesVisible", statistic: "Maximum", dimensions: map[string]string{"QueueName": c.deadQueue()},
			threshold: 1, seconds: 300, points: 3, of: 3},
		{id: "scheduler-throttles", anchor: "throttles", text: "Invocations of the scheduler are throttled.",
			namespace: "AWS/Lambda", metric: "Throttles", statistic: "Sum", dimensions: map[string]string{"FunctionName": scheduler},
			threshold: 1, seconds: 60, points: 5, of: 5},
	}
	for _, q := range c.cfg.QueuesOn(settings.OnLambda) {
		as = append(as, alarm{id: "worker-failures-" + q.Name, anchor: "worker-failures",
			text:      "Workers of queue " + q.Name + " crash, run out of memory or time (a task that merely fails is no error here).",
			namespace: "AWS/Lambda", metric: "Errors", statistic: "Sum", dimensions: map[string]string{"FunctionName": c.cfg.WorkerName(q.Name)},
			threshold: 1, seconds: 300, points: 2, of: 3})
	}
	if c.cfg.Alarms != "all" {
		return as
	}
	for _, name := range []string{awsenv.DagProcessor, awsenv.TaskEvents, awsenv.APIServer} {
		as = append(as, alarm{id: name + "-errors", anchor: "function-errors", text: "Invocations of " + name + " fail.",
			namespace: "AWS/Lambda", metric: "Errors", statistic: "Sum", dimensions: map[string]string{"FunctionName": c.cfg.FunctionName(name)},
			threshold: 1, seconds: 300, points: 3, of: 3})
	}
	for _, q := range c.cfg.QueuesOn(settings.OnLambda) {
		as = append(as, alarm{id: "worker-throttles-" + q.Name, anchor: "throttles",
			text:      "Workers of queue " + q.Name + " wait for Lambda concurrency.",
			namespace: "AWS/Lambda", metric: "Throttles", statistic: "Sum", dimensions: map[string]string{"FunctionName": c.cfg.WorkerName(q.Name)},
			threshold: 100, seconds: 300, points: 3, of: 3})
	}
	for _, m := range c.cfg.Metrics {
		if m == awsenv.MetricDagRunsFailed {
			as = append(as, alarm{id: "failed-runs", text: "DAG runs end failed.",
				namespace: awsenv.MetricNamespace, metric: m, statistic: "Sum", dimensions: map[string]string{awsenv.MetricDimension: c.cfg.Prefix()},
				threshold: 1, seconds: 300, points: 1, of: 1})
		}
	}
	return as
}

func (c control) newAlarms() {
	var notify awscloudwatch.IAlarmAction
	if c.cfg.AlarmEmail != "" {
		topic := awssns.NewTopic(c.stack, str("Alarms"), &awssns.TopicProps{
			TopicName: str(c.cfg.Prefix() + "-alarms"), DisplayName: str("Gust " + c.cfg.Prefix()), MasterKey: c.key(), EnforceSSL: jsii.Bool(true),
		})
		topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(str(c.cfg.AlarmEmail), nil))
		notify = awscloudwatchactions.NewSnsAction(topic)
	}
	for _, a := range c.alarms() {
		anchor := a.anchor
		if anchor == "" {
			anchor = a.id
		}
		dims := map[string]*string{}
		for k, v := range a.dimensions {
			dims[k] = str(v)
		}
		p := &awscloudwatch.AlarmProps{
			AlarmName: str(c.cfg.Prefix() + "-" + a.id), AlarmDescription: str(fmt.Sprintf("%s What to do: %s%s", a.text, runbook, anchor)),
			Metric: awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
				Namespace: str(a.namespace), MetricName: str(a.metric), Statistic: str(a.statistic), DimensionsMap: &dims,
				Period: awscdk.Duration_Seconds(jsii.Number(float64(a.seconds))),
			}),
			Threshold: jsii.Number(float64(a.threshold)), EvaluationPeriods: jsii.Number(float64(a.of)), DatapointsToAlarm: jsii.Number(float64(a.points)),
			ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
			TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
		}
		if a.below {
			p.ComparisonOperator = awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD
		}
		if a.silence {
			p.TreatMissingData = awscloudwatch.TreatMissingData_BREACHING
		}
		al := awscloudwatch.NewAlarm(c.stack, str("Alarm-"+a.id), p)
		if notify != nil {
			al.AddAlarmAction(notify)
			al.AddOkAction(notify)
		}
	}
}
