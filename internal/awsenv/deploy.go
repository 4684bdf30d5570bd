package awsenv

// Constant inputs of the EventBridge rules; a function that serves several kinds
// of events tells them apart by the field "gust".
const (
	// TickInput goes to the scheduler every minute.
	TickInput = `{"gust":"tick"}`
	// ReconcileInput goes to the dagprocessor: list the bucket and repair what a
	// lost S3 event left behind.
	ReconcileInput = `{"gust":"reconcile"}`
	// CleanInput goes to the scheduler once a day: remove what is older than the
	// retention.
	CleanInput = `{"gust":"clean"}`
)

// Deployment is the environment variable with the prefix of all resource names,
// such as gust-dev; two deployments in one account differ in it.
const Deployment = "GUST_DEPLOYMENT"

// WorkerFunctions is the environment variable with a JSON object: Airflow queue
// name -> name of its worker function, for asynchronous invocation. Queues that
// run on ECS are absent.
const WorkerFunctions = "GUST_WORKER_FUNCTIONS"

// WorkerBinary is the executable at the root of the worker's zip, and the value
// of AWS_LAMBDA_EXEC_WRAPPER.
const (
	WorkerBinary  = "gust-worker"
	WorkerWrapper = "/var/task/" + WorkerBinary
	// ParserWrapper is the same for the dagparser: it looks at Python files with the
	// interpreter of the managed runtime.
	ParserWrapper = "/var/task/bootstrap"
)

// Custom metrics, published in the embedded metric format under MetricNamespace
// with MetricDimension as their only dimension. More dimensions cost $0.30 a month
// for every combination of values: details belong to the fields of the log line.
const (
	MetricNamespace = "Gust"
	// MetricDimension carries the value of Deployment.
	MetricDimension = "Deployment"

	// MetricHop is the time from the end of a task to the start of the next, in milliseconds.
	MetricHop = "HopMilliseconds"
	// MetricTaskInstancesFailed counts task instances that ended failed (not retries).
	MetricTaskInstancesFailed = "TaskInstancesFailed"
	// MetricDagRunsFailed counts DAG runs that ended failed.
	MetricDagRunsFailed = "DagRunsFailed"
)

// DefaultMetrics returns the names of the custom metrics that are published unless
// Metrics (the environment variable) lists others; "" means these, "[]" none.
func DefaultMetrics() []string {
	return []string{MetricHop, MetricTaskInstancesFailed, MetricDagRunsFailed}
}

// Custom metrics to opt in to, by adding them to Metrics: each costs $0.30 a month,
// as each of the default ones does.
const (
	// MetricTaskDuration is how long workers had a task instance, per try, in milliseconds.
	MetricTaskDuration = "TaskDurationMilliseconds"
	// MetricTaskInstancesSucceeded counts task instances that ended in success.
	MetricTaskInstancesSucceeded = "TaskInstancesSucceeded"
	// MetricDagRunDuration is from the start of a DAG run to its end, in milliseconds.
	MetricDagRunDuration = "DagRunDurationMilliseconds"
	// MetricScheduleDelay is how much later than run_after a scheduled DAG run started,
	// in milliseconds.
	MetricScheduleDelay = "ScheduleDelayMilliseconds"
)

// OptInMetrics returns the names of the custom metrics that are not published
// unless Metrics (the environment variable) lists them.
func OptInMetrics() []string {
	return []string{MetricTaskDuration, MetricTaskInstancesSucceeded, MetricDagRunDuration, MetricScheduleDelay}
}

// Log fields that the dashboard's queries read: one line per change, in JSON, from
// whichever function made it.
const (
	// LogEvent is the field that names what happened: one of the values below.
	LogEvent = "event"
	// LogTaskInstance: a task instance took the state in field "state". The states that
	// lead to a dispatch (scheduled, queued, running) have no line of their own.
	LogTaskInstance = "task_instance"
	// LogDagRun: a DAG run took the state in field "state".
	LogDagRun = "dag_run"
)

// Outputs of the control stack, which tools and tests read.
const (
	OutTable          = "Table"
	OutEventsQueueURL = "EventsQueueUrl"
	OutTimersQueueURL = "TimersQueueUrl"
	// OutTaskQueues is a JSON object: Airflow queue name -> SQS queue URL.
	OutTaskQueues = "TaskQueues"
	OutDagsBucket = "DagsBucket"
	// OutDagsURL is where `gust dags sync` puts files: s3://bucket/prefix.
	OutDagsURL    = "DagsUrl"
	OutDataBucket = "DataBucket"
	// OutKeysSecret is the name of the secret.
	OutKeysSecret = "KeysSecret"
	// OutAdminSecret is the name of the secret with the first admin's password.
	OutAdminSecret = "AdminSecret"
	// OutFunctions is a JSON object: name as in Functions, or "worker/<queue>" ->
	// name of the Lambda function.
	OutFunctions = "Functions"
	OutAPIURL    = "ApiUrl"
)

// Outputs of the data stack.
const (
	// OutDagEventsQueueURL is the queue that the dags bucket notifies.
	OutDagEventsQueueURL = "DagEventsQueueUrl"
	// OutDeadLetters is the queue of messages that nobody could handle.
	OutDeadLetters = "DeadLettersQueueUrl"
)

// ECS is the JSON value of ECSExecutor: where the ecs executor starts a Fargate
// task per try.
type ECS struct {
	// Cluster is the cluster's ARN.
	Cluster string `json:"cluster"`
	// TaskDefinitions are the ARNs, with revision, of the task definition of each
	// Airflow queue. Its container is called ECSContainer and runs one dispatch.
	TaskDefinitions map[string]string `json:"task_definitions"`
	Subnets         []string          `json:"subnets"`
	SecurityGroups  []string          `json:"security_groups"`
	// AssignPublicIP is needed where the subnets have no NAT.
	AssignPublicIP bool `json:"assign_public_ip"`
	// TaskRoles are the ARNs of the roles that executor_config may ask for.
	TaskRoles []string `json:"task_roles,omitempty"`
	// PerTaskImages says whether executor_config may name an image: the scheduler
	// may register task definitions then.
	PerTaskImages bool `json:"per_task_images,omitempty"`
	// Services are the Airflow queues that services of the cluster serve, scaled by
	// what waits in them: the scheduler's tick keeps their lengths reported.
	Services []string `json:"services,omitempty"`
	// LogGroup is where the containers' output goes: stream
	// <queue>/<ECSContainer>/<task id>, as the awslogs driver names it.
	LogGroup string `json:"log_group"`
}

// ECSContainer is the name of the container in every task definition of Gust, and
// the last but one segment of its log streams.
const ECSContainer = "gust"

// ECSDispatch is the environment variable, given as an override of RunTask, with
// the JSON of the dispatch that a container is to run. Without it the container
// serves the queue in WorkerQueue. It must not be proc.EnvDispatch, by which a
// worker knows its children.
const ECSDispatch = "GUST_ECS_DISPATCH"
