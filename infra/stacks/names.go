package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
)

// NewApp makes the CDK app. outdir "" is the CDK's choice.
func NewApp(outdir string) awscdk.App {
	p := &awscdk.AppProps{AnalyticsReporting: jsii.Bool(false), Context: &map[string]any{
		// Partitions, regions and endpoints that are known are written out.
		"@aws-cdk/core:enablePartitionLiterals": true,
		// The secret's and the key's ARN are imported by name; they outlive every deploy.
		"@aws-cdk/core:defaultCrossStackReferences": "strong",
		"@aws-cdk/core:checkSecretUsage":            true,
	}}
	if outdir != "" {
		p.Outdir = str(outdir)
	}
	return awscdk.NewApp(p)
}

// namer turns names of this deployment into ARNs, within one stack.
type namer struct {
	cfg   settings.Config
	stack awscdk.Stack
}

func str(s string) *string { return jsii.String(s) }

func strs(ss []string) *[]*string {
	out := make([]*string, len(ss))
	for i, s := range ss {
		out[i] = str(s)
	}
	return &out
}

// arn builds arn:partition:service:region:account:resource.
func (n namer) arn(service, resource string) string {
	return "arn:" + *n.stack.Partition() + ":" + service + ":" + *n.stack.Region() + ":" + *n.stack.Account() + ":" + resource
}

func (n namer) table() string { return n.cfg.Prefix() }

func (n namer) tableARN() string { return n.arn("dynamodb", "table/"+n.table()) }

func (n namer) indexARN(index string) string { return n.tableARN() + "/index/" + index }

// bucket names a bucket. Names are global in S3, hence account and region in it.
func (n namer) bucket(kind string) string {
	return n.cfg.Prefix() + "-" + kind + "-" + *n.stack.Account() + "-" + *n.stack.Region()
}

func (n namer) dagsBucket() string { return n.bucket("dags") }
func (n namer) dataBucket() string { return n.bucket("data") }

func (n namer) bucketARN(bucket string) string {
	return "arn:" + *n.stack.Partition() + ":s3:::" + bucket
}

// objects is the ARN of all objects under a prefix.
func (n namer) objects(bucket, prefix string) string { return n.bucketARN(bucket) + "/" + prefix + "*" }

func (n namer) queue(kind string) string { return n.cfg.Prefix() + "-" + kind }

func (n namer) queueARN(name string) string { return n.arn("sqs", name) }

func (n namer) dagFilesQueue() string { return n.queue("dagfiles") }
func (n namer) eventsQueue() string   { return n.queue("events") }
func (n namer) timersQueue() string   { return n.queue("timers") }

func (n namer) deadQueue() string { return n.queue("dead") }

func (n namer) functionARN(name string) string { return n.arn("lambda", "function:"+name) }

// logGroup is where a function writes.
func logGroup(function string) string { return "/aws/lambda/" + function }

func (n namer) logStreams(group string) string { return n.arn("logs", "log-group:"+group+":*") }

// stackOf makes a stack in the deployment's environment.
func stackOf(scope constructs.Construct, cfg settings.Config, name, description string, protect bool) awscdk.Stack {
	var env *awscdk.Environment
	if cfg.Account != "" {
		env = &awscdk.Environment{Account: str(cfg.Account), Region: str(cfg.Region)}
	}
	return awscdk.NewStack(scope, str(name), &awscdk.StackProps{
		StackName: str(name), Description: str(description), Env: env,
		TerminationProtection: jsii.Bool(protect), AnalyticsReporting: jsii.Bool(false),
		Tags: &map[string]*string{"gust:deployment": str(cfg.Prefix())},
	})
}

func removal(cfg settings.Config) awscdk.RemovalPolicy {
	if cfg.Removal == settings.Retain {
		return awscdk.RemovalPolicy_RETAIN
	}
	return awscdk.RemovalPolicy_DESTROY
}
