package stacks

import (
	"maps"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapplicationautoscaling"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
)

// cluster is where containers run. An idle one costs nothing: no NAT, no load
// balancer, no running task.
type cluster struct {
	arn             *string
	name            string
	subnets, groups []*string
	own             bool              // the VPC is ours: public subnets
	definitions     map[string]string // Airflow queue -> ARN with revision
	services        []string          // Airflow queues that a service serves
}

func ecsLogGroup(cfg settings.Config) string { return "/gust/" + cfg.Prefix() + "/tasks" }

// family names the task definition of an Airflow queue.
func family(cfg settings.Config, queue string) string { return cfg.Prefix() + "-task-" + queue }

func (c control) taskRoleName(queue string) string { return c.cfg.Prefix() + "-ecs-" + queue }
func (c control) execRoleName() string             { return c.cfg.Prefix() + "-ecs-start" }

func (c control) roleARN(name string) string {
	return "arn:" + *c.stack.Partition() + ":iam::" + *c.stack.Account() + ":role/" + name
}

// newCluster makes cluster, network, a task definition for every queue and a
// worker service for every queue that runs on ECS.
func (c control) newCluster(common map[string]string, tasks map[string]awssqs.Queue) *cluster {
	e := c.cfg.ECS
	name := c.cfg.Prefix()
	k := &cluster{name: name, definitions: map[string]string{}}
	cl := awsecs.NewCfnCluster(c.stack, str("Cluster"), &awsecs.CfnClusterProps{
		ClusterName:     str(name),
		ClusterSettings: &[]any{&awsecs.CfnCluster_ClusterSettingsProperty{Name: str("containerInsights"), Value: str("disabled")}},
	})
	k.arn = cl.AttrArn()
	if len(e.Subnets) > 0 {
		k.subnets, k.groups = *strs(e.Subnets), *strs(e.SecurityGroups)
	} else {
		k.own = true
		k.newNetwork(c)
	}
	logs := awslogs.NewLogGroup(c.stack, str("Log-tasks"), &awslogs.LogGroupProps{
		LogGroupName: str(ecsLogGroup(c.cfg)), Retention: retention(c.cfg.LogRetentionDays), RemovalPolicy: awscdk.RemovalPolicy_DESTROY, EncryptionKey: c.key(),
	})
	start := c.namedRole("Role-ecs-start", c.execRoleName(), c.startRights(), nil)
	for _, q := range c.cfg.Queues {
		role := c.namedRole("Role-ecs-"+q.Name, c.taskRoleName(q.Name), c.workerRights(settings.Queue{
			Name: q.Name, On: settings.OnECS, SecretsPrefix: q.SecretsPrefix, NoMetastoreSecrets: q.NoMetastoreSecrets,
		}), q.PolicyARNs)
		env := map[string]string{awsenv.Stage: string(c.cfg.Stage), awsenv.Deployment: c.cfg.Prefix(), awsenv.Metrics: jsonText(c.cfg.Metrics)}
		for _, m := range []map[string]string{c.cfg.Airflow, common, c.workerEnv(q)} {
			maps.Copy(env, m)
		}
		env[awsenv.TaskQueues] = *c.stack.ToJsonString(map[string]string{q.Name: *tasks[q.Name].QueueUrl()}, nil)
		def := awsecs.NewCfnTaskDefinition(c.stack, str("Task-"+q.Name), &awsecs.CfnTaskDefinitionProps{
			Family: str(family(c.cfg, q.Name)), NetworkMode: str("awsvpc"), RequiresCompatibilities: strs([]string{"FARGATE"}),
			Cpu: str(number(e.CPU)), Memory: str(number(e.MemoryMB)), TaskRoleArn: role.RoleArn(), ExecutionRoleArn: start.RoleArn(),
			RuntimePlatform: &awsecs.CfnTaskDefinition_RuntimePlatformProperty{CpuArchitecture: str(map[settings.Arch]string{settings.ARM64: "ARM64", settings.AMD64: "X86_64"}[c.cfg.Arch]), OperatingSystemFamily: str("LINUX")},
			ContainerDefinitions: &[]any{&awsecs.CfnTaskDefinition_ContainerDefinitionProperty{
				Name: str(awsenv.ECSContainer), Image: str(e.Image), Essential: jsii.Bool(true),
				// Tasks may end after SIGTERM, and report before ECS kills the container.
				Command: strs([]string{"worker", "--queue", q.Name, "--stop-after", "100s"}), StopTimeout: jsii.Number(120),
				Environment: pairs(env),
				LogConfiguration: &awsecs.CfnTaskDefinition_LogConfigurationProperty{LogDriver: str("awslogs"), Options: &map[string]*string{
					"awslogs-group": logs.LogGroupName(), "awslogs-region": c.stack.Region(), "awslogs-stream-prefix": str(q.Name),
				}},
			}},
		})
		k.definitions[q.Name] = *def.Ref()
		if q.On == settings.OnECS {
			k.newService(c, q, def, tasks[q.Name])
			k.services = append(k.services, q.Name)
		}
	}
	return k
}

// newNetwork makes a VPC with two public subnets. Nothing listens in it; tasks
// reach AWS by public addresses, S3 and DynamoDB by gateway endpoints.
func (k *cluster) newNetwork(c control) {
	vpc := awsec2.NewVpc(c.stack, str("Vpc"), &awsec2.VpcProps{
		MaxAzs: jsii.Number(2), NatGateways: jsii.Number(0), RestrictDefaultSecurityGroup: jsii.Bool(false),
		SubnetConfiguration: &[]*awsec2.SubnetConfiguration{{Name: str("public"), SubnetType: awsec2.SubnetType_PUBLIC, CidrMask: jsii.Number(20)}},
		GatewayEndpoints: &map[string]*awsec2.GatewayVpcEndpointOptions{
			"S3": {Service: awsec2.GatewayVpcEndpointAwsService_S3()}, "DynamoDB": {Service: awsec2.GatewayVpcEndpointAwsService_DYNAMODB()},
		},
	})
	group := awsec2.NewSecurityGroup(c.stack, str("TasksGroup"), &awsec2.SecurityGroupProps{
		Vpc: vpc, Description: str("Gust tasks: nothing in, everything out"), AllowAllOutbound: jsii.Bool(true),
	})
	for _, s := range *vpc.PublicSubnets() {
		k.subnets = append(k.subnets, s.SubnetId())
	}
	k.groups = []*string{group.SecurityGroupId()}
}

// newService runs workers of a queue while it has work, and none while it has not.
func (k *cluster) newService(c control, q settings.Queue, def awsecs.CfnTaskDefinition, tasks awssqs.Queue) {
	public := "DISABLED"
	if k.own {
		public = "ENABLED"
	}
	name := c.cfg.Prefix() + "-" + q.Name
	svc := awsecs.NewCfnService(c.stack, str("Service-"+q.Name), &awsecs.CfnServiceProps{
		ServiceName: str(name), Cluster: k.arn, TaskDefinition: def.Ref(), LaunchType: str("FARGATE"), DesiredCount: jsii.Number(0),
		NetworkConfiguration: &awsecs.CfnService_NetworkConfigurationProperty{AwsvpcConfiguration: &awsecs.CfnService_AwsVpcConfigurationProperty{
			Subnets: &k.subnets, SecurityGroups: &k.groups, AssignPublicIp: str(public),
		}},
	})
	target := awsapplicationautoscaling.NewCfnScalableTarget(c.stack, str("Scaling-"+q.Name), &awsapplicationautoscaling.CfnScalableTargetProps{
		ServiceNamespace: str("ecs"), ScalableDimension: str("ecs:service:DesiredCount"), ResourceId: str("service/" + k.name + "/" + name),
		MinCapacity: jsii.Number(0), MaxCapacity: jsii.Number(float64(c.cfg.ECS.MaxWorkers)),
	})
	target.AddDependency(svc)
	policy := func(id, adjustment string, cooldown int, steps ...any) awsapplicationautoscaling.CfnScalingPolicy {
		return awsapplicationautoscaling.NewCfnScalingPolicy(c.stack, str("Scale-"+id+"-"+q.Name), &awsapplicationautoscaling.CfnScalingPolicyProps{
			PolicyName: str(name + "-" + id), PolicyType: str("StepScaling"), ScalingTargetId: target.Ref(),
			StepScalingPolicyConfiguration: &awsapplicationautoscaling.CfnScalingPolicy_StepScalingPolicyConfigurationProperty{
				AdjustmentType: str(adjustment), Cooldown: jsii.Number(float64(cooldown)), MetricAggregationType: str("Maximum"), StepAdjustments: &steps,
			},
		})
	}
	step := func(from, to, by float64) any {
		p := &awsapplicationautoscaling.CfnScalingPolicy_StepAdjustmentProperty{ScalingAdjustment: jsii.Number(by)}
		if from >= 0 {
			p.MetricIntervalLowerBound = jsii.Number(from)
		}
		if to >= 0 {
			p.MetricIntervalUpperBound = jsii.Number(to)
		}
		return p
	}
	metric := func(name string) awscloudwatch.Metric {
		return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
			Namespace: str("AWS/SQS"), MetricName: str(name), Statistic: str("Maximum"), Period: awscdk.Duration_Minutes(jsii.Number(1)),
			DimensionsMap: &map[string]*string{"QueueName": tasks.QueueName()},
		})
	}
	// Never fewer workers while anything is visible or in flight: a worker that is
	// taken away takes its task with it.
	out := policy("out", "ChangeInCapacity", 60, step(0, 9, 1), step(9, 99, 5), step(99, -1, 20))
	in := policy("in", "ExactCapacity", 60, step(-1, 0, 0))
	waiting := metric("ApproximateNumberOfMessagesVisible")
	busy := awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: str("waiting + running"), Period: awscdk.Duration_Minutes(jsii.Number(1)), Label: str("waiting and running"),
		UsingMetrics: &map[string]awscloudwatch.IMetric{"waiting": waiting, "running": metric("ApproximateNumberOfMessagesNotVisible")},
	})
	scaleAlarm := func(id, text string, m awscloudwatch.IMetric, p awsapplicationautoscaling.CfnScalingPolicy, cmp awscloudwatch.ComparisonOperator, periods, threshold float64) {
		al := awscloudwatch.NewAlarm(c.stack, str("Alarm-"+id+"-"+q.Name), &awscloudwatch.AlarmProps{
			AlarmName: str(name + "-" + id), AlarmDescription: str(text + " Nothing to do: " + runbook + "ecs-scaling"),
			Metric: m, Threshold: jsii.Number(threshold), EvaluationPeriods: jsii.Number(periods), ComparisonOperator: cmp, TreatMissingData: awscloudwatch.TreatMissingData_IGNORE,
		})
		al.Node().DefaultChild().(awscloudwatch.CfnAlarm).SetAlarmActions(&[]*string{p.Ref()})
	}
	scaleAlarm("scale-out", "Tasks of queue "+q.Name+" wait for a worker on ECS.", waiting, out, awscloudwatch.ComparisonOperator_GREATER_THAN_OR_EQUAL_TO_THRESHOLD, 1, 1)
	scaleAlarm("scale-in", "Queue "+q.Name+" has been empty for ten minutes: its workers on ECS are stopped.", busy, in, awscloudwatch.ComparisonOperator_LESS_THAN_OR_EQUAL_TO_THRESHOLD, 10, 0)
}

// startRights let ECS fetch the image and write the log before a task runs.
func (c control) startRights() []right {
	rs := []right{c.logs(ecsLogGroup(c.cfg))}
	host, path, _ := strings.Cut(c.cfg.ECS.Image, "/")
	registry := strings.Split(host, ".")
	if len(registry) < 6 || registry[1] != "dkr" || registry[2] != "ecr" {
		return rs
	}
	repo := path
	if i := strings.IndexAny(repo, ":@"); i >= 0 {
		repo = repo[:i]
	}
	return append(rs,
		right{sid: "RegistryLogin", actions: []string{"ecr:GetAuthorizationToken"}, resources: []string{"*"}},
		right{sid: "Image", actions: []string{"ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"},
			resources: []string{"arn:" + *c.stack.Partition() + ":ecr:" + registry[3] + ":" + registry[0] + ":repository/" + repo}},
	)
}

// ecsRights are what the scheduler needs to run a task per try.
func (c control) ecsRights() []right {
	if c.ecs == nil {
		return nil
	}
	onCluster := map[string]any{"ArnEquals": map[string]any{"ecs:cluster": *c.ecs.arn}}
	var families []string
	roles := []string{c.roleARN(c.execRoleName())}
	for _, q := range c.cfg.Queues {
		families = append(families, c.arn("ecs", "task-definition/"+family(c.cfg, q.Name)+":*"))
		if c.cfg.ECS.PerTaskImages {
			families = append(families, c.arn("ecs", "task-definition/"+family(c.cfg, q.Name)+"-image-*:*"))
		}
		roles = append(roles, c.roleARN(c.taskRoleName(q.Name)))
	}
	rs := []right{
		{sid: "RunTasks", actions: []string{"ecs:RunTask"}, resources: append(families, c.cfg.ECS.TaskDefinitionARNs...), conditions: onCluster},
		{sid: "PassTaskRoles", actions: []string{"iam:PassRole"}, resources: append(roles, c.cfg.ECS.TaskRoleARNs...),
			conditions: map[string]any{"StringEquals": map[string]any{"iam:PassedToService": "ecs-tasks.amazonaws.com"}}},
	}
	rs = append(rs, right{sid: "WatchTasks", actions: []string{"ecs:DescribeTasks", "ecs:StopTask"}, resources: []string{c.arn("ecs", "task/"+c.ecs.name+"/*")}, conditions: onCluster})
	rs = append(rs, right{sid: "FindTasks", actions: []string{"ecs:ListTasks"}, resources: []string{"*"}, conditions: onCluster})
	var served []string
	for _, q := range c.cfg.QueuesOn(settings.OnECS) {
		served = append(served, c.cfg.TaskQueueName(q.Name))
	}
	if len(served) > 0 {
		// A queue that nobody looks at for six hours stops reporting its length, and
		// takes up to a quarter of an hour to start again: the tick looks.
		rs = append(rs, right{sid: "Backlog", actions: []string{"sqs:GetQueueAttributes"}, resources: c.queueARNs(served)})
	}
	if c.cfg.ECS.PerTaskImages {
		rs = append(rs, right{sid: "RegisterImages", actions: []string{"ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"}, resources: []string{"*"}})
	}
	return rs
}

// config is the value of awsenv.ECSExecutor.
func (k *cluster) config(c control) *string {
	group := make([]string, len(k.groups))
	for i, g := range k.groups {
		group[i] = *g
	}
	subnets := make([]string, len(k.subnets))
	for i, s := range k.subnets {
		subnets[i] = *s
	}
	config := map[string]any{
		"cluster": *k.arn, "task_definitions": k.definitions, "subnets": subnets, "security_groups": group,
		"assign_public_ip": k.own, "task_roles": c.cfg.ECS.TaskRoleARNs, "per_task_images": c.cfg.ECS.PerTaskImages,
		"log_group": ecsLogGroup(c.cfg),
	}
	if len(k.services) > 0 {
		config["services"] = k.services
	}
	return c.stack.ToJsonString(config, nil)
}

// reportTo tells a function about every task of the cluster that stopped.
func (k *cluster) reportTo(c control, to awslambda.Function) {
	awsevents.NewRule(c.stack, str("Rule-ecs-stopped"), &awsevents.RuleProps{
		RuleName: str(c.cfg.Prefix() + "-ecs-stopped"), Description: str("Containers that ended, with or without a report"),
		EventPattern: &awsevents.EventPattern{
			Source: strs([]string{"aws.ecs"}), DetailType: strs([]string{"ECS Task State Change"}),
			Detail: &map[string]any{"clusterArn": []any{*k.arn}, "lastStatus": []string{"STOPPED"}},
		},
		Targets: &[]awsevents.IRuleTarget{awseventstargets.NewLambdaFunction(to, &awseventstargets.LambdaFunctionProps{
			MaxEventAge: awscdk.Duration_Hours(jsii.Number(6)), RetryAttempts: jsii.Number(185),
		})},
	})
}

func (c control) namedRole(id, name string, rights []right, policies []string) awsiam.Role {
	role := c.role(id, "ecs-tasks.amazonaws.com", rights, policies)
	role.Node().DefaultChild().(awsiam.CfnRole).SetRoleName(str(name))
	return role
}

func pairs(env map[string]string) *[]any {
	var out []any
	for _, k := range sortedKeys(env) {
		out = append(out, &awsecs.CfnTaskDefinition_KeyValuePairProperty{Name: str(k), Value: str(env[k])})
	}
	return &out
}
