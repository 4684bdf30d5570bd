// Package awsenv names what the CDK app and the Lambda functions must agree on:
// environment variables, functions and key prefixes. It imports nothing, so that
// infra (a module of its own) can use it.
package awsenv

// Environment variables of the functions. A function that does not need one does
// not get it.
const (
	// Stage is dev, prod or localstack.
	Stage = "GUST_STAGE"
	// Table is the name of the DynamoDB table.
	Table = "GUST_TABLE"
	// EventsQueueURL is the queue of scheduler events.
	EventsQueueURL = "GUST_EVENTS_QUEUE_URL"
	// TimersQueueURL is the queue of delayed scheduler events, up to 15 minutes ahead.
	TimersQueueURL = "GUST_TIMERS_QUEUE_URL"
	// TaskQueues is a JSON object: Airflow queue name -> SQS queue URL.
	TaskQueues = "GUST_TASK_QUEUES"
	// DefaultQueue is [operators] default_queue.
	DefaultQueue = "GUST_DEFAULT_QUEUE"
	// DataBucket holds what Gust writes: see the prefixes below.
	DataBucket = "GUST_DATA_BUCKET"
	// DagsBucket and DagsPrefix say where the DAG files lie.
	DagsBucket = "GUST_DAGS_BUCKET"
	DagsPrefix = "GUST_DAGS_PREFIX"
	// KeysSecret is the ARN of the Secrets Manager secret from which variables and
	// connections are encrypted.
	KeysSecret = "GUST_KEYS_SECRET"
	// AdminSecret is the ARN of the Secrets Manager secret with the password of the
	// first admin, in profile prod; without one it follows from KeysSecret.
	AdminSecret = "GUST_ADMIN_SECRET"
	// SecretsBackend is "", "secretsmanager" or "ssm"; SecretsPrefix is its name
	// prefix (default "airflow").
	SecretsBackend = "GUST_SECRETS_BACKEND"
	SecretsPrefix  = "GUST_SECRETS_PREFIX"
	// DagEventsQueueURL is the queue of changes of the DAG bucket: S3's events, and
	// the DAG processor's messages to itself.
	DagEventsQueueURL = "GUST_DAG_EVENTS_QUEUE_URL"
	// DagEnv is a JSON object of the environment variables that DAG files may use as
	// $NAME; the functions' own are not shown to them.
	DagEnv = "GUST_DAG_ENV"
	// ParserFunction is the name of the function that parses DAG files.
	ParserFunction = "GUST_PARSER_FUNCTION"
	// WorkerQueue is the Airflow queue a worker serves.
	WorkerQueue = "GUST_WORKER_QUEUE"
	// ECSExecutor is the JSON configuration of the ecs executor; absent where ECS is
	// not enabled.
	ECSExecutor = "GUST_ECS"
	// Metrics is the JSON list of opt-in exporters and metrics; "" = the default three.
	Metrics = "GUST_METRICS"
)

// Functions, as the folders below functions/ and the zips are called.
const (
	Scheduler    = "scheduler"    // EventBridge tick, events and timers
	Worker       = "worker"       // one dispatch per invocation
	DagProcessor = "dagprocessor" // validates, versions, stores
	DagParser    = "dagparser"    // parses; its role reads the DAG files, nothing else
	TaskEvents   = "taskevents"   // ECS state changes, failed invocations, dead letters
	APIServer    = "apiserver"
)

// Functions lists all of them.
func Functions() []string {
	return []string{Scheduler, Worker, DagProcessor, DagParser, TaskEvents, APIServer}
}

// MemoryMB is what a function is given unless the settings of a deployment say
// otherwise. More memory is more CPU: a whole one at 1769 MB.
func MemoryMB(function string) int {
	switch function {
	case Scheduler, Worker, DagProcessor, APIServer:
		return 1024
	case TaskEvents:
		return 256
	}
	return 512
}

// Prefixes in the data bucket.
const (
	BlobPrefix = "blobs/" // content-addressed bundle files and snapshots
	XComPrefix = "xcoms/" // XComs above 64 KB
	// DagStatePrefix holds what the DAG processor registered last.
	DagStatePrefix = "dagprocessor/"
	LogPrefix      = "logs/" // task logs kept in S3, in Airflow's layout
	// RetentionPrefix holds what the removal of old data remembers from day to day.
	RetentionPrefix = "retention/"
)
