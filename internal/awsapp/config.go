package awsapp

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/config"
)

// Config says where an installation's parts are.
type Config struct {
	Stage      string
	Deployment string // prefix of all names
	Table      string
	// EventsQueueURL and TimersQueueURL are the scheduler's queues.
	EventsQueueURL, TimersQueueURL string
	// TaskQueues maps Airflow queue names to SQS queue URLs.
	TaskQueues map[string]string
	// SchedulerHandlers is engine.Options.Handlers of schedulers; 0 = its default.
	SchedulerHandlers int
	// WorkerFunctions maps Airflow queue names to worker functions that may be
	// invoked for bursts; empty where they may not.
	WorkerFunctions        map[string]string
	DefaultQueue           string
	DataBucket             string
	DagsBucket, DagsPrefix string
	KeysSecret             string
	AdminSecret            string // of the first admin's password; "" where it follows from KeysSecret
	SecretsBackend         string // "", "secretsmanager" or "ssm"
	SecretsPrefix          string
	ParserFunction         string
	WorkerQueue            string
	// ECS is the JSON configuration of the ecs executor; "" where it is not enabled.
	ECS string
}

// FromEnv reads the configuration from this process's environment. need names
// variables (of package awsenv) that must be set; all that is missing or invalid
// is reported at once, in an *airflow.InvalidError.
func FromEnv(need ...string) (Config, error) { return FromLookup(os.LookupEnv, need...) }

// FromLookup is FromEnv for another environment.
func FromLookup(lookup func(string) (string, bool), need ...string) (Config, error) {
	var problems []airflow.Problem
	bad := func(name, format string, args ...any) {
		problems = append(problems, airflow.Problem{Field: name, Message: fmt.Sprintf(format, args...)})
	}
	get := func(name string) string {
		v, _ := lookup(name)
		return strings.TrimSpace(v)
	}
	for _, name := range need {
		if get(name) == "" {
			bad(name, "is not set: the deployment sets it (infra, awsenv); %s", purpose(name))
		}
	}
	queueURL := func(name string) string {
		v := get(name)
		if v != "" && !isURL(v) {
			bad(name, "%q is not the URL of a queue: expected https://…", v)
		}
		return v
	}
	c := Config{
		Stage: get(awsenv.Stage), Deployment: get(awsenv.Deployment), Table: get(awsenv.Table),
		EventsQueueURL: queueURL(awsenv.EventsQueueURL), TimersQueueURL: queueURL(awsenv.TimersQueueURL),
		DefaultQueue: get(awsenv.DefaultQueue), DataBucket: get(awsenv.DataBucket),
		DagsBucket: get(awsenv.DagsBucket), DagsPrefix: get(awsenv.DagsPrefix), KeysSecret: get(awsenv.KeysSecret), AdminSecret: get(awsenv.AdminSecret),
		SecretsBackend: get(awsenv.SecretsBackend), SecretsPrefix: get(awsenv.SecretsPrefix), ParserFunction: get(awsenv.ParserFunction),
		WorkerQueue: get(awsenv.WorkerQueue), ECS: get(awsenv.ECSExecutor),
	}
	if v := get(awsenv.TaskQueues); v != "" {
		if err := json.Unmarshal([]byte(v), &c.TaskQueues); err != nil {
			bad(awsenv.TaskQueues, "expected a JSON object of queue names and URLs: %v", err)
		}
		for name, u := range c.TaskQueues {
			if !isURL(u) {
				bad(awsenv.TaskQueues, "queue %q: %q is not the URL of a queue: expected https://…", name, u)
			}
		}
	}
	if v := get(awsenv.WorkerFunctions); v != "" {
		if err := json.Unmarshal([]byte(v), &c.WorkerFunctions); err != nil {
			bad(awsenv.WorkerFunctions, "expected a JSON object of queue names and functions: %v", err)
		}
	}
	if c.DefaultQueue == "" {
		c.DefaultQueue = "default"
	}
	if c.SecretsPrefix == "" {
		c.SecretsPrefix = "airflow"
	}
	switch c.SecretsBackend {
	case "", "secretsmanager", "ssm":
	default:
		bad(awsenv.SecretsBackend, "%q is no secrets backend: expected secretsmanager, ssm or nothing", c.SecretsBackend)
	}
	if c.ECS != "" && !json.Valid([]byte(c.ECS)) {
		bad(awsenv.ECSExecutor, "expected JSON")
	}
	if len(problems) > 0 {
		return c, &airflow.InvalidError{Problems: problems}
	}
	return c, nil
}

// purpose says in words what a variable holds.
func purpose(name string) string {
	if p, ok := map[string]string{
		awsenv.Table: "it is the name of the DynamoDB table", awsenv.EventsQueueURL: "it is the queue of scheduler events",
		awsenv.TimersQueueURL: "it is the queue of delayed scheduler events", awsenv.TaskQueues: "it maps Airflow queues to SQS queues, as JSON",
		awsenv.DataBucket: "it is the bucket of what Gust stores", awsenv.KeysSecret: "it is the ARN of the secret that variables and connections are encrypted with",
		awsenv.DagsBucket: "it is the bucket of the DAG files", awsenv.ParserFunction: "it is the name of the function that parses DAG files",
		awsenv.WorkerQueue: "it is the Airflow queue that this worker serves",
	}[name]; ok {
		return p
	}
	return "see internal/awsenv"
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// ours are the variables that GUST_ settings are not among.
var ours = []string{
	awsenv.Stage, awsenv.Deployment, awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.TaskQueues, awsenv.DefaultQueue,
	awsenv.DataBucket, awsenv.DagsBucket, awsenv.DagsPrefix, awsenv.KeysSecret, awsenv.AdminSecret, awsenv.SecretsBackend, awsenv.SecretsPrefix,
	awsenv.DagEventsQueueURL, awsenv.DagEnv, awsenv.ParserFunction, awsenv.WorkerQueue, awsenv.ECSExecutor, awsenv.Metrics, awsenv.WorkerFunctions,
}

// Settings reads Airflow's and Gust's settings from an environment (AIRFLOW__…,
// GUST__…) and from gust.cfg in a folder, if there is one.
func Settings(environ []string, home string) (*config.Config, error) {
	rest := make([]string, 0, len(environ))
next:
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		for _, o := range ours {
			if name == o {
				continue next
			}
		}
		rest = append(rest, kv)
	}
	return config.Load(config.Input{Home: home, Environ: rest})
}
