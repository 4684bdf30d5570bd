package stacks

import (
	"encoding/json"
	"maps"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
)

// Receives before a message counts as dead. Throttled receives count, so that the
// queues of tasks, which wait for Lambda's concurrency, are generous.
const (
	taskReceives  = 100
	eventReceives = 20
)

// control is the control stack under construction.
type control struct {
	namer
	data Data
	dist string
	ecs  *cluster // nil without ECS
}

func (c control) key() awskms.IKey { return c.data.Key }

// Control is the control stack.
type Control struct{ Stack awscdk.Stack }

// NewControl makes the stack of everything a deploy may replace. dist holds the
// functions' zips, unpacked.
func NewControl(scope constructs.Construct, cfg settings.Config, data Data, dist string) Control {
	s := stackOf(scope, cfg, cfg.ControlStackName(), "Gust: functions, queues, rules and alarms. May be destroyed and made again.", false)
	s.AddDependency(data.Stack, str("finds table, buckets and the queue of DAG files by name"))
	c := control{namer: namer{cfg, s}, data: data, dist: dist}

	events := newQueue(s, queueSpec{id: "events", name: c.eventsQueue(), timeout: schedulerTimeout, receives: eventReceives, dead: data.Dead})
	timers := newQueue(s, queueSpec{id: "timers", name: c.timersQueue(), timeout: schedulerTimeout, receives: eventReceives, dead: data.Dead})
	tasks, taskURLs, workers := map[string]awssqs.Queue{}, map[string]string{}, map[string]string{}
	for _, q := range cfg.Queues {
		tasks[q.Name] = newQueue(s, queueSpec{id: "tasks-" + q.Name, name: cfg.TaskQueueName(q.Name), timeout: workerTimeout, receives: taskReceives, dead: data.Dead})
		taskURLs[q.Name] = *tasks[q.Name].QueueUrl()
		if cfg.Bursts && c.onLambda(q) {
			workers[q.Name] = cfg.WorkerName(q.Name)
		}
	}
	common := map[string]string{
		awsenv.Table:          c.table(),
		awsenv.EventsQueueURL: *events.QueueUrl(),
		awsenv.TimersQueueURL: *timers.QueueUrl(),
		awsenv.DefaultQueue:   cfg.DefaultQueue,
	}
	if cfg.ECS != nil {
		c.ecs = c.newCluster(common, tasks)
	}
	functions := c.newFunctions(common, s.ToJsonString(taskURLs, nil), jsonText(workers), events, timers, tasks)
	c.newSchedules(functions)
	if c.ecs != nil {
		c.ecs.reportTo(c, functions[awsenv.TaskEvents])
	}
	c.newAlarms()
	if cfg.Dashboard {
		c.newDashboard()
	}
	c.newOutputs(events, timers, s.ToJsonString(taskURLs, nil), functions)
	return Control{s}
}

// wrappers are the functions, beside workers, that need Python's interpreter.
var wrappers = map[string]string{awsenv.DagParser: awsenv.ParserWrapper}

// newFunctions makes every function with its triggers. The result is keyed by the
// names of awsenv, workers by "worker/<queue>".
func (c control) newFunctions(common map[string]string, taskURLs *string, workers string, events, timers awssqs.Queue, tasks map[string]awssqs.Queue) map[string]awslambda.Function {
	out := map[string]awslambda.Function{}
	with := func(more ...map[string]string) map[string]string {
		env := maps.Clone(common)
		for _, m := range more {
			maps.Copy(env, m)
		}
		return env
	}
	build := func(name, purpose string, timeout int, env map[string]string, rights []right) awslambda.Function {
		memory, reserved := c.setting(name, awsenv.MemoryMB(name))
		out[name] = c.goFunction(fn{
			name: c.cfg.FunctionName(name), folder: name, purpose: purpose, timeout: timeout, memory: memory, reserved: reserved, env: env, rights: rights,
			once: name == awsenv.Scheduler || name == awsenv.DagProcessor, wrapper: wrappers[name],
		})
		return out[name]
	}
	env := with(map[string]string{awsenv.TaskQueues: *taskURLs, awsenv.DataBucket: c.dataBucket()})
	if c.cfg.Bursts {
		env[awsenv.WorkerFunctions] = workers
	}
	if c.ecs != nil {
		env[awsenv.ECSExecutor] = *c.ecs.config(c)
	}
	scheduler := build(awsenv.Scheduler, "Creates due runs and takes their next steps", schedulerTimeout, env, c.schedulerRights())
	c.maps("events", scheduler, events, 10, 0)
	c.maps("timers", scheduler, timers, 10, 0)

	build(awsenv.DagParser, "Reads DAG files, with no right to anything else", dagParserTimeout, nil, c.parserRights())
	env = with(map[string]string{
		awsenv.DagsBucket: c.dagsBucket(), awsenv.DagsPrefix: c.cfg.DagsPrefix, awsenv.DataBucket: c.dataBucket(), awsenv.KeysSecret: c.data.KeysSecretARN,
		awsenv.ParserFunction: c.cfg.FunctionName(awsenv.DagParser), awsenv.DagEventsQueueURL: *c.data.Changes.QueueUrl(),
	})
	if len(c.cfg.DagEnv) > 0 {
		env[awsenv.DagEnv] = jsonText(c.cfg.DagEnv)
	}
	if s := c.cfg.Secrets; s != nil {
		env[awsenv.SecretsBackend], env[awsenv.SecretsPrefix] = s.Backend, s.Prefix
	}
	processor := build(awsenv.DagProcessor, "Validates, versions and stores DAGs", dagProcessorTimeout, env, c.processorRights())
	c.maps("dagfiles", processor, c.data.Changes, 10, 2)

	taskEvents := build(awsenv.TaskEvents, "Turns lost and dead dispatches into failures or retries", taskEventsTimeout, with(), c.taskEventsRights())
	c.maps("dead", taskEvents, c.data.Dead, 10, 0)

	env = with(map[string]string{awsenv.DataBucket: c.dataBucket(), awsenv.KeysSecret: c.data.KeysSecretARN})
	if c.data.AdminSecretARN != "" {
		env[awsenv.AdminSecret] = c.data.AdminSecretARN
	}
	api := build(awsenv.APIServer, "REST API and web UI", apiServerTimeout, env, c.apiRights())
	// Browsers and Airflow's clients sign in to the API itself (internal/auth); IAM
	// would take the Authorization header that their tokens are in.
	api.AddFunctionUrl(&awslambda.FunctionUrlOptions{AuthType: awslambda.FunctionUrlAuthType_NONE})

	for _, q := range c.cfg.QueuesOn(settings.OnLambda) {
		env := with(c.workerEnv(q))
		worker := c.goFunction(fn{
			name: c.cfg.WorkerName(q.Name), folder: awsenv.Worker, wrapper: awsenv.WorkerWrapper, purpose: "Runs tasks of queue " + q.Name,
			timeout: workerTimeout, memory: q.Memory(), reserved: q.ReservedConcurrency, env: env, rights: c.workerRights(q), policies: q.PolicyARNs,
		})
		out[awsenv.Worker+"/"+q.Name] = worker
		c.maps("tasks-"+q.Name, worker, tasks[q.Name], 1, q.MaxConcurrency)
		if c.cfg.Bursts {
			// Not tried again: whether a dispatch may start again is the scheduler's to
			// decide, and it is told at once through the dead letters.
			awslambda.NewCfnEventInvokeConfig(c.stack, str("Async-"+q.Name), &awslambda.CfnEventInvokeConfigProps{
				FunctionName: worker.FunctionName(), Qualifier: str("$LATEST"), MaximumRetryAttempts: jsii.Number(0), MaximumEventAgeInSeconds: jsii.Number(3600),
				DestinationConfig: &awslambda.CfnEventInvokeConfig_DestinationConfigProperty{
					OnFailure: &awslambda.CfnEventInvokeConfig_OnFailureProperty{Destination: c.data.Dead.QueueArn()},
				},
			})
		}
	}
	return out
}

// workerEnv is what a worker gets beyond the common variables, on Lambda and ECS.
func (c control) workerEnv(q settings.Queue) map[string]string {
	env := map[string]string{awsenv.WorkerQueue: q.Name, awsenv.DataBucket: c.dataBucket()}
	if !q.NoMetastoreSecrets {
		env[awsenv.KeysSecret] = c.data.KeysSecretARN
	}
	if c.cfg.Secrets != nil {
		env[awsenv.SecretsBackend], env[awsenv.SecretsPrefix] = c.cfg.Secrets.Backend, c.cfg.SecretsPrefixOf(q)
	}
	return env
}

// newSchedules makes the rules with constant input. They cost nothing themselves.
func (c control) newSchedules(functions map[string]awslambda.Function) {
	rule := func(id, what string, minutes int, to awslambda.Function, input string) {
		var text map[string]any
		if err := json.Unmarshal([]byte(input), &text); err != nil {
			panic(err) // a constant of awsenv
		}
		awsevents.NewRule(c.stack, str("Rule-"+id), &awsevents.RuleProps{
			RuleName: str(c.cfg.Prefix() + "-" + id), Description: str(what),
			Schedule: awsevents.Schedule_Rate(awscdk.Duration_Minutes(jsii.Number(float64(minutes)))),
			Targets: &[]awsevents.IRuleTarget{awseventstargets.NewLambdaFunction(to, &awseventstargets.LambdaFunctionProps{
				Event: awsevents.RuleTargetInput_FromObject(text),
				// The next tick does all that a late one would.
				MaxEventAge: awscdk.Duration_Minutes(jsii.Number(1)), RetryAttempts: jsii.Number(0),
			})},
		})
	}
	rule("tick", "Due runs, timers and the sweep", 1, functions[awsenv.Scheduler], awsenv.TickInput)
	rule("clean", "Removes runs, XComs and snapshots older than the retention", 60*c.cfg.CleanHours, functions[awsenv.Scheduler], awsenv.CleanInput)
	rule("reconcile", "Lists the dags bucket for changes whose event was lost", c.cfg.ReconcileMinutes, functions[awsenv.DagProcessor], awsenv.ReconcileInput)
}

func (c control) newOutputs(events, timers awssqs.Queue, taskURLs *string, functions map[string]awslambda.Function) {
	names := map[string]string{}
	for name := range functions {
		names[name] = c.cfg.FunctionName(name)
	}
	for _, q := range c.cfg.Queues {
		if c.onLambda(q) {
			names[awsenv.Worker+"/"+q.Name] = c.cfg.WorkerName(q.Name)
		}
	}
	url := c.stack.Node().FindChild(str("Fn-" + awsenv.APIServer)).Node().FindChild(str("FunctionUrl")).(awslambda.FunctionUrl)
	out := map[string]*string{
		awsenv.OutTable:          str(c.table()),
		awsenv.OutEventsQueueURL: events.QueueUrl(),
		awsenv.OutTimersQueueURL: timers.QueueUrl(),
		awsenv.OutTaskQueues:     taskURLs,
		awsenv.OutDagsBucket:     str(c.dagsBucket()),
		awsenv.OutDagsURL:        str("s3://" + c.dagsBucket() + "/" + c.cfg.DagsPrefix),
		awsenv.OutDataBucket:     str(c.dataBucket()),
		awsenv.OutKeysSecret:     str(keysSecretName(c.cfg)),
		awsenv.OutFunctions:      str(jsonText(names)),
		awsenv.OutAPIURL:         url.Url(),
	}
	if c.data.AdminSecretARN != "" {
		out[awsenv.OutAdminSecret] = str(adminSecretName(c.cfg))
	}
	for _, k := range sortedKeys(out) {
		awscdk.NewCfnOutput(c.stack, str(k), &awscdk.CfnOutputProps{Value: out[k]})
	}
}

// jsonText encodes values that hold no CDK tokens.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, slices and maps of strings
	}
	return string(b)
}
