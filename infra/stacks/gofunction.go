package stacks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
)

// Timeouts in seconds. Queues derive their visibility from them.
const (
	schedulerTimeout    = 55 // under the minute: ticks do not pile up
	dagProcessorTimeout = 300
	dagParserTimeout    = 240 // ends before who waits for it
	taskEventsTimeout   = 30
	apiServerTimeout    = 30
	workerTimeout       = 900 // Lambda's most; a task ends 30 s earlier
)

// fn describes a function for [control.goFunction].
type fn struct {
	name    string // of the Lambda function
	folder  string // of its zip below dist/
	purpose string
	timeout int
	memory  int
	// reserved concurrency, 0 = none.
	reserved int
	env      map[string]string
	rights   []right
	policies []string // ARNs of managed policies
	// wrapper is the executable that takes the place of Python's runtime, for
	// functions that need its interpreter; "" = no Python.
	wrapper string
	// once: invoked by a rule, and the next invocation does all that this one would.
	once bool
}

// goFunction makes a function the way all of them are: a role with the rights
// given and the right to write its own log, a log group with retention, the zip
// that `make lambdas` built, JSON logs without Lambda's own chatter.
func (c control) goFunction(f fn) awslambda.Function {
	id := strings.TrimPrefix(f.name, c.cfg.Prefix()+"-")
	group := logGroup(f.name)
	logs := awslogs.NewLogGroup(c.stack, str("Log-"+id), &awslogs.LogGroupProps{
		LogGroupName: str(group), Retention: retention(c.cfg.LogRetentionDays), RemovalPolicy: awscdk.RemovalPolicy_DESTROY, EncryptionKey: c.key(),
	})
	role := c.role("Role-"+id, "lambda.amazonaws.com", append(slices.Clone(f.rights), c.logs(group)), f.policies)
	env := map[string]*string{
		awsenv.Stage:      str(string(c.cfg.Stage)),
		awsenv.Deployment: str(c.cfg.Prefix()),
		awsenv.Metrics:    str(jsonText(c.cfg.Metrics)),
	}
	for _, more := range []map[string]string{c.cfg.Airflow, f.env} {
		for k, v := range more {
			env[k] = str(v)
		}
	}
	p := &awslambda.FunctionProps{
		FunctionName: str(f.name), Description: str(f.purpose), Role: role, LogGroup: logs,
		Runtime: awslambda.Runtime_PROVIDED_AL2023(), Handler: str("bootstrap"),
		Code:         awslambda.Code_FromAsset(str(filepath.Join(c.dist, f.folder)), nil),
		Architecture: awslambda.Architecture_ARM_64(),
		Timeout:      awscdk.Duration_Seconds(jsii.Number(float64(f.timeout))), MemorySize: jsii.Number(float64(f.memory)),
		// Lambda takes scheduler -> queue -> worker -> queue -> scheduler for a runaway
		// and cuts it after 16 turns. Here a turn is a task, and its number is bounded by
		// the DAG and by conditional writes.
		RecursiveLoop: awslambda.RecursiveLoop_ALLOW,
		LoggingFormat: awslambda.LoggingFormat_JSON,
		// No START, END and REPORT lines: they cost more than the scheduler's own log.
		SystemLogLevelV2: awslambda.SystemLogLevel_WARN,
		// What is written has been decided on: by default Lambda would drop what tasks log
		// at level debug.
		ApplicationLogLevelV2: awslambda.ApplicationLogLevel_TRACE,
	}
	if f.wrapper != "" {
		p.Runtime, p.Handler = awslambda.Runtime_PYTHON_3_13(), str("gust.handler")
		env["AWS_LAMBDA_EXEC_WRAPPER"] = str(f.wrapper)
	}
	if c.cfg.Arch == settings.AMD64 {
		p.Architecture = awslambda.Architecture_X86_64()
	}
	if f.reserved > 0 {
		p.ReservedConcurrentExecutions = jsii.Number(float64(f.reserved))
	}
	p.Environment = &env
	function := awslambda.NewFunction(c.stack, str("Fn-"+id), p)
	if f.once {
		awslambda.NewCfnEventInvokeConfig(c.stack, str("Once-"+id), &awslambda.CfnEventInvokeConfigProps{
			FunctionName: function.FunctionName(), Qualifier: str("$LATEST"), MaximumRetryAttempts: jsii.Number(0), MaximumEventAgeInSeconds: jsii.Number(60),
		})
	}
	return function
}

func (c control) role(id, service string, rights []right, policies []string) awsiam.Role {
	var managed []awsiam.IManagedPolicy
	for i, arn := range policies {
		managed = append(managed, awsiam.ManagedPolicy_FromManagedPolicyArn(c.stack, str(fmt.Sprintf("%s-policy-%d", id, i)), str(arn)))
	}
	return awsiam.NewRole(c.stack, str(id), &awsiam.RoleProps{
		AssumedBy:       awsiam.NewServicePrincipal(str(service), nil),
		InlinePolicies:  &map[string]awsiam.PolicyDocument{"gust": document(rights)},
		ManagedPolicies: &managed,
	})
}

// maps feeds a queue to a function. window gathers batches above 10.
func (c control) maps(id string, to awslambda.IFunction, from awssqs.IQueue, batch, concurrency int) {
	p := &awslambda.EventSourceMappingProps{
		Target: to, EventSourceArn: from.QueueArn(), BatchSize: jsii.Number(float64(batch)), ReportBatchItemFailures: jsii.Bool(true),
	}
	if concurrency > 0 {
		p.MaxConcurrency = jsii.Number(float64(concurrency))
	}
	awslambda.NewEventSourceMapping(c.stack, str("Map-"+id), p)
}

// setting returns memory and reserved concurrency of a function.
func (c control) setting(name string, memory int) (int, int) {
	f := c.cfg.Functions[name]
	if f.MemoryMB > 0 {
		memory = f.MemoryMB
	}
	return memory, f.ReservedConcurrency
}

// CheckDist reports every function whose zip is not below dist, which
// `make lambdas` fills.
func CheckDist(dist string) error {
	var missing []string
	for _, name := range awsenv.Functions() {
		file := filepath.Join(dist, name, "bootstrap")
		if name == awsenv.Worker {
			file = filepath.Join(dist, name, awsenv.WorkerBinary)
		}
		if st, err := os.Stat(file); err != nil || st.IsDir() {
			missing = append(missing, file)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("functions are not built: no %s; run `make lambdas` first (ARCH=arm64 for AWS, the machine's own for LocalStack)", strings.Join(missing, ", "))
	}
	return nil
}

// retentionDays maps days to CloudWatch's enumeration, which settings checked.
var retentionDays = map[int]awslogs.RetentionDays{
	1: awslogs.RetentionDays_ONE_DAY, 3: awslogs.RetentionDays_THREE_DAYS, 5: awslogs.RetentionDays_FIVE_DAYS, 7: awslogs.RetentionDays_ONE_WEEK,
	14: awslogs.RetentionDays_TWO_WEEKS, 30: awslogs.RetentionDays_ONE_MONTH, 60: awslogs.RetentionDays_TWO_MONTHS, 90: awslogs.RetentionDays_THREE_MONTHS,
	120: awslogs.RetentionDays_FOUR_MONTHS, 150: awslogs.RetentionDays_FIVE_MONTHS, 180: awslogs.RetentionDays_SIX_MONTHS, 365: awslogs.RetentionDays_ONE_YEAR,
	400: awslogs.RetentionDays_THIRTEEN_MONTHS, 545: awslogs.RetentionDays_EIGHTEEN_MONTHS, 731: awslogs.RetentionDays_TWO_YEARS,
	1096: awslogs.RetentionDays_THREE_YEARS, 1827: awslogs.RetentionDays_FIVE_YEARS, 2192: awslogs.RetentionDays_SIX_YEARS,
	2557: awslogs.RetentionDays_SEVEN_YEARS, 2922: awslogs.RetentionDays_EIGHT_YEARS, 3288: awslogs.RetentionDays_NINE_YEARS, 3653: awslogs.RetentionDays_TEN_YEARS,
}

func retention(days int) awslogs.RetentionDays { return retentionDays[days] }
