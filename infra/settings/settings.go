package settings

import "github.com/gustflow/gust/internal/awsenv"

// Stage says where a deployment lives. Every stage is the same two stacks; what
// differs is listed in [Defaults].
type Stage string

// The stages.
const (
	Dev        Stage = "dev"
	Prod       Stage = "prod"
	LocalStack Stage = "localstack"
)

// Profile says what an installation that does nothing may cost. See docs/aws.md,
// which prints the table that the tests compute from the templates.
type Profile string

// The cost profiles.
const (
	// Minimal stays below $2 a month: no dashboard, no custom metric, no key of
	// one's own, the alarms that say that scheduling has stopped.
	Minimal Profile = "minimal"
	// Full stays below $8 a month. Its name in files is "prod".
	Full Profile = "prod"
)

// Arch is the processor of the functions.
type Arch string

// The architectures, by the names Go and Make use.
const (
	ARM64 Arch = "arm64"
	AMD64 Arch = "amd64"
)

// Removal says what becomes of data when the data stack is destroyed.
type Removal string

// Removal policies.
const (
	Retain  Removal = "retain"
	Destroy Removal = "destroy"
)

// Where the tasks of a queue run.
const (
	OnLambda = "lambda"
	OnECS    = "ecs"
)

// Config describes one deployment. The zero value of a field means "not set"
// only where its comment says so.
type Config struct {
	// Name begins the name of every resource, before the stage: "gust" gives
	// gust-dev-scheduler. Two deployments in one account and region differ in it.
	Name    string  `json:"name"`
	Stage   Stage   `json:"stage"`
	Profile Profile `json:"profile"`
	Arch    Arch    `json:"arch"`
	// Account and Region are where to deploy. Both empty: wherever the CDK's
	// credentials point.
	Account string `json:"account"`
	Region  string `json:"region"`

	// Queues are the Airflow queues ([operators] queue of a task). Each is an
	// isolation boundary: an SQS queue, and a worker function with a role of its own.
	Queues []Queue `json:"queues"`
	// DefaultQueue is the queue of tasks that name none.
	DefaultQueue string `json:"default_queue"`
	// DagsPrefix is the folder of DAG files inside the dags bucket, "" or "x/".
	DagsPrefix string `json:"dags_prefix"`
	// ReconcileMinutes is how often the bucket is listed to find what a lost S3
	// event left behind; Airflow's [dag_processor] refresh_interval.
	ReconcileMinutes int `json:"reconcile_minutes"`

	// CleanHours is how often runs and XComs older than the retention (Airflow:
	// AIRFLOW__GUST__DAG_RUN_RETENTION_DAYS, …), and snapshots that nobody refers to, are removed.
	CleanHours int `json:"clean_hours"`

	// LogRetentionDays is how long CloudWatch keeps the functions' logs, among
	// them the logs of tasks. One of the values CloudWatch knows.
	LogRetentionDays int `json:"log_retention_days"`
	// Removal is what becomes of table, buckets, secret and key on destroy.
	Removal Removal `json:"removal"`
	// CustomerKey encrypts table, buckets, secret and logs with a KMS key of this
	// deployment instead of keys that AWS owns ($1 a month).
	CustomerKey bool `json:"customer_key"`
	// KeyRotation makes AWS rotate it every year; each of the first two rotations
	// adds $1 a month for good.
	KeyRotation bool `json:"key_rotation"`

	// AlarmEmail receives alarms; "" = alarms change colour and tell nobody.
	AlarmEmail string `json:"alarm_email"`
	// Alarms is "basic" (scheduling has stopped or loses work) or "all".
	Alarms string `json:"alarms"`
	// Dashboard adds the CloudWatch dashboard ($3 a month).
	Dashboard bool `json:"dashboard"`
	// Metrics are the custom metrics to publish ($0.30 a month each), of the names
	// in awsenv.DefaultMetrics and awsenv.OptInMetrics.
	Metrics []string `json:"metrics"`

	// Bursts lets the scheduler invoke workers asynchronously, past their queue: an
	// SQS mapping starts with five invocations at once and adds five a second.
	Bursts bool `json:"bursts"`
	// Airflow are settings by their environment variables, AIRFLOW__SECTION__KEY, for
	// every function.
	Airflow map[string]string `json:"airflow,omitempty"`
	// DagEnv are the environment variables that DAG files may use.
	DagEnv map[string]string `json:"dag_env,omitempty"`

	// Functions changes single functions, by their name in awsenv.
	Functions map[string]Function `json:"functions"`
	// Secrets is the external secrets backend of variables and connections; nil = none.
	Secrets *Secrets `json:"secrets,omitempty"`
	// ECS switches the ecs executor and ECS workers on; nil = off.
	ECS *ECS `json:"ecs,omitempty"`
}

// Queue is one Airflow queue.
type Queue struct {
	// Name is Airflow's name of the queue, 1 to 40 letters, digits, '-' and '_'.
	Name string `json:"name"`
	// On is "lambda" (default) or "ecs": a worker service scaled by backlog to zero.
	On string `json:"on,omitempty"`
	// MemoryMB of the worker function; 1769 is one vCPU. 0 = 1024.
	MemoryMB int `json:"memory_mb,omitempty"`
	// MaxConcurrency bounds how many tasks of the queue run at once, 2 to 1000; 0 = no bound.
	MaxConcurrency int `json:"max_concurrency,omitempty"`
	// ReservedConcurrency sets Lambda concurrency of the account aside; 0 = none.
	ReservedConcurrency int `json:"reserved_concurrency,omitempty"`
	// PolicyARNs are managed policies with what the tasks themselves need. Gust
	// gives them nothing but its own table, queue and bucket.
	PolicyARNs []string `json:"policy_arns,omitempty"`
	// SecretsPrefix replaces Secrets.Prefix for this queue.
	SecretsPrefix string `json:"secrets_prefix,omitempty"`
	// NoMetastoreSecrets denies the queue the variables and connections in the
	// table and the key that opens them.
	NoMetastoreSecrets bool `json:"no_metastore_secrets,omitempty"`
}

// Function changes the defaults of one function; 0 = the default.
type Function struct {
	MemoryMB            int `json:"memory_mb,omitempty"`
	ReservedConcurrency int `json:"reserved_concurrency,omitempty"`
}

// Secrets names an external backend.
type Secrets struct {
	// Backend is "secretsmanager" or "ssm".
	Backend string `json:"backend"`
	// Prefix is where names begin: <prefix>/variables/…, <prefix>/connections/….
	Prefix string `json:"prefix"`
}

// ECS is where containers run.
type ECS struct {
	// Image runs `gust worker`: an image with the gust binary and Python. An ECR
	// repository of the same account, or any registry that needs no login.
	Image string `json:"image"`
	// CPU in units of 1/1024 vCPU and MemoryMB of a task that does not say otherwise.
	CPU      int `json:"cpu"`
	MemoryMB int `json:"memory_mb"`
	// MaxWorkers bounds the worker service of each ECS queue.
	MaxWorkers int `json:"max_workers"`
	// Subnets and SecurityGroups of an existing VPC. Both empty: a VPC with two
	// public subnets and nothing that costs while idle.
	Subnets        []string `json:"subnets,omitempty"`
	SecurityGroups []string `json:"security_groups,omitempty"`
	// TaskRoleARNs are the roles that executor_config may ask for.
	TaskRoleARNs []string `json:"task_role_arns,omitempty"`
	// TaskDefinitionARNs are further task definitions that executor_config may name,
	// with the roles of theirs in TaskRoleARNs.
	TaskDefinitionARNs []string `json:"task_definition_arns,omitempty"`
	// PerTaskImages lets executor_config name an image, which needs the right to
	// register task definitions.
	PerTaskImages bool `json:"per_task_images"`
}

// Prefix begins every resource name: "gust-dev".
func (c Config) Prefix() string { return c.Name + "-" + string(c.Stage) }

// FunctionName names a function of awsenv, except workers.
func (c Config) FunctionName(function string) string { return c.Prefix() + "-" + function }

// WorkerName names the worker function of an Airflow queue.
func (c Config) WorkerName(queue string) string { return c.Prefix() + "-worker-" + queue }

// TaskQueueName names the SQS queue of an Airflow queue.
func (c Config) TaskQueueName(queue string) string { return c.Prefix() + "-tasks-" + queue }

// DataStackName and ControlStackName name the two stacks.
func (c Config) DataStackName() string    { return c.Prefix() + "-data" }
func (c Config) ControlStackName() string { return c.Prefix() + "-control" }

// QueuesOn returns the queues that run on "lambda" or "ecs".
func (c Config) QueuesOn(where string) []Queue {
	var out []Queue
	for _, q := range c.Queues {
		if q.on() == where {
			out = append(out, q)
		}
	}
	return out
}

func (q Queue) on() string {
	if q.On == "" {
		return OnLambda
	}
	return q.On
}

// Memory returns the worker function's memory.
func (q Queue) Memory() int {
	if q.MemoryMB == 0 {
		return awsenv.MemoryMB(awsenv.Worker)
	}
	return q.MemoryMB
}

// SecretsPrefixOf returns the prefix a queue's tasks may read, "" without a backend.
func (c Config) SecretsPrefixOf(q Queue) string {
	switch {
	case c.Secrets == nil:
		return ""
	case q.SecretsPrefix != "":
		return q.SecretsPrefix
	}
	return c.Secrets.Prefix
}
