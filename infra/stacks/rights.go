package stacks

import (
	"slices"
	"sort"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/store/kv"
)

// right is one Allow statement. Actions are complete names, never patterns.
type right struct {
	sid        string
	actions    []string
	resources  []string
	conditions map[string]any
}

// What the DynamoDB driver calls. A transaction needs the rights of its parts;
// there is none of its own.
var (
	tableReads  = []string{"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}
	tableWrites = []string{"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"}
	indexReads  = []string{"dynamodb:Query"}
)

// Kinds of partitions, the first segment of every key of package store. A role
// that may not see everything lists the kinds it may: a new kind is out of reach
// until it is added here (and a test fails until somebody has decided).
var (
	// workerWrites are the only rows a worker changes: those of its own dispatch.
	// IAM cannot tell dispatches apart, so conditions on dispatch_seq do. What tasks
	// want besides (runs, variables) they ask of the scheduler, in these rows.
	workerWrites = []string{"TI"}
	// workerReads: the run and its state, the DAG version, XComs (in TI), assets and
	// their events, earlier runs by logical date, the callback it is to run.
	workerReads = []string{"TI", "RUN", "RUNLD", "DAG", "DOC", "ASSET", "ASSETEVENT", "BUNDLE", "EFFECT"}
	// workerSecrets are sealed; the key secret opens them.
	workerSecrets = []string{"VARIABLE", "CONNECTION"}
	// workerIndexReads are index partitions: runs of a DAG, all assets, unfinished runs.
	workerIndexReads = []string{"RUNS#*", "ALL#ASSET"}

	// processorWrites: what parsing a file changes.
	processorWrites = []string{"DAG", "DOC", "IMPORTERROR", "ASSET", "BUNDLE"}
	// A DAG file may use variables while it is read. Whether a version has runs decides
	// if an edit makes a new one.
	processorReads      = []string{"DAG", "DOC", "IMPORTERROR", "ASSET", "BUNDLE", "POOL", "VARIABLE", "RUN"}
	processorIndexReads = []string{"ALL#DAG", "ALL#IMPORTERROR", "ALL#ASSET", "ALL#POOL", "RUNS#*"}
)

// partitions turns kinds into patterns of partition keys.
func partitions(kinds ...string) []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k + "#*"
	}
	return out
}

// leadingKeys is the condition that every partition key of a request matches one
// of the patterns. Null guards against requests that name no key: an empty set
// would satisfy ForAllValues.
func leadingKeys(patterns []string) map[string]any {
	p := slices.Clone(patterns)
	sort.Strings(p)
	return map[string]any{
		"ForAllValues:StringLike": map[string]any{"dynamodb:LeadingKeys": p},
		"Null":                    map[string]any{"dynamodb:LeadingKeys": "false"},
	}
}

func (n namer) indexes() []string {
	var out []string
	for _, ix := range kv.DefaultSchema().Indexes {
		out = append(out, n.indexARN(string(ix.Name)))
	}
	return out
}

// wholeTable is for functions of the control plane proper.
func (n namer) wholeTable() []right {
	return []right{
		{sid: "Table", actions: slices.Concat(tableReads, tableWrites), resources: []string{n.tableARN()}},
		{sid: "Indexes", actions: indexReads, resources: n.indexes()},
	}
}

func (n namer) reads(sid string, kinds []string) right {
	return right{sid: sid, actions: tableReads, resources: []string{n.tableARN()}, conditions: leadingKeys(partitions(kinds...))}
}

func (n namer) writes(sid string, kinds []string) right {
	return right{sid: sid, actions: tableWrites, resources: []string{n.tableARN()}, conditions: leadingKeys(partitions(kinds...))}
}

func (n namer) readsIndexes(sid string, patterns []string) right {
	return right{sid: sid, actions: indexReads, resources: n.indexes(), conditions: leadingKeys(patterns)}
}

// consumes is what Lambda does with a queue in the function's role.
func (n namer) consumes(sid string, queues ...string) right {
	return right{sid: sid, resources: n.queueARNs(queues), actions: []string{
		"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes",
	}}
}

func (n namer) sends(sid string, queues ...string) right {
	return right{sid: sid, actions: []string{"sqs:SendMessage"}, resources: n.queueARNs(queues)}
}

func (n namer) queueARNs(queues []string) []string {
	out := make([]string, len(queues))
	for i, q := range queues {
		out[i] = n.queueARN(q)
	}
	return out
}

func (n namer) getsObjects(sid, bucket string, prefixes ...string) right {
	return right{sid: sid, actions: []string{"s3:GetObject"}, resources: n.objectARNs(bucket, prefixes)}
}

func (n namer) putsObjects(sid, bucket string, prefixes ...string) right {
	return right{sid: sid, actions: []string{"s3:PutObject"}, resources: n.objectARNs(bucket, prefixes)}
}

func (n namer) deletesObjects(sid, bucket string, prefixes ...string) right {
	return right{sid: sid, actions: []string{"s3:DeleteObject"}, resources: n.objectARNs(bucket, prefixes)}
}

func (n namer) objectARNs(bucket string, prefixes []string) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = n.objects(bucket, p)
	}
	return out
}

// lists lets a missing object be told from a forbidden one, and folders be read.
func (n namer) lists(sid, bucket string, prefixes ...string) right {
	patterns := make([]string, len(prefixes))
	for i, p := range prefixes {
		patterns[i] = p + "*"
	}
	return right{sid: sid, actions: []string{"s3:ListBucket"}, resources: []string{n.bucketARN(bucket)},
		conditions: map[string]any{"StringLike": map[string]any{"s3:prefix": patterns}}}
}

func (n namer) logs(group string) right {
	return right{sid: "OwnLog", actions: []string{"logs:CreateLogStream", "logs:PutLogEvents"}, resources: []string{n.logStreams(group)}}
}

// usesKey lets a role work with what the customer's key encrypts, through the
// services that hold it only.
func (n namer) usesKey(key awskms.IKey, writes bool, services ...string) []right {
	if key == nil {
		return nil
	}
	actions := []string{"kms:Decrypt", "kms:DescribeKey"}
	if writes {
		actions = append(actions, "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo")
	}
	via := make([]string, len(services))
	for i, s := range services {
		via[i] = s + "." + *n.stack.Region() + ".amazonaws.com"
	}
	return []right{{sid: "Key", actions: actions, resources: []string{*key.KeyArn()},
		conditions: map[string]any{"StringEquals": map[string]any{"kms:ViaService": via}}}}
}

func (c control) onLambda(q settings.Queue) bool { return q.On != settings.OnECS }

func (c control) taskQueues() []string {
	var out []string
	for _, q := range c.cfg.Queues {
		out = append(out, c.cfg.TaskQueueName(q.Name))
	}
	return out
}

func (c control) schedulerRights() []right {
	rs := c.wholeTable()
	rs = append(rs,
		c.consumes("Events", c.eventsQueue(), c.timersQueue()),
		c.sends("Dispatches", append([]string{c.eventsQueue(), c.timersQueue()}, c.taskQueues()...)...),
		// Mapping over a large XCom and callbacks read what workers and the processor
		// wrote; clearing removes XComs.
		c.getsObjects("Values", c.dataBucket(), awsenv.BlobPrefix, awsenv.XComPrefix, awsenv.RetentionPrefix),
		c.lists("ValuesExist", c.dataBucket(), awsenv.BlobPrefix, awsenv.XComPrefix, awsenv.RetentionPrefix),
		c.deletesObjects("OldValues", c.dataBucket(), awsenv.XComPrefix),
		// Snapshots that nobody refers to, one version at a time: what is put again
		// meanwhile is another one.
		right{sid: "OldSnapshots", actions: []string{"s3:DeleteObjectVersion"}, resources: c.objectARNs(c.dataBucket(), []string{awsenv.BlobPrefix})},
		c.putsObjects("RetentionState", c.dataBucket(), awsenv.RetentionPrefix),
	)
	if workers := c.workerARNs(); c.cfg.Bursts && len(workers) > 0 {
		// Bursts are invoked asynchronously: an SQS mapping starts with five at once.
		rs = append(rs, right{sid: "Bursts", actions: []string{"lambda:InvokeFunction"}, resources: workers})
	}
	// The last line in the log of a worker that vanished: the cause.
	rs = append(rs, right{sid: "LastWords", actions: []string{"logs:PutLogEvents"}, resources: c.taskLogs()})
	rs = append(rs, c.ecsRights()...)
	return append(rs, c.usesKey(c.data.Key, true, "dynamodb", "s3")...)
}

// taskLogs are the streams that workers write the logs of tasks to.
func (c control) taskLogs() []string {
	var streams []string
	for _, q := range c.cfg.QueuesOn(settings.OnLambda) {
		streams = append(streams, c.logStreams(logGroup(c.cfg.WorkerName(q.Name))))
	}
	if c.cfg.ECS != nil {
		streams = append(streams, c.logStreams(ecsLogGroup(c.cfg)))
	}
	return streams
}

func (c control) workerARNs() []string {
	var out []string
	for _, q := range c.cfg.QueuesOn(settings.OnLambda) {
		out = append(out, c.functionARN(c.cfg.WorkerName(q.Name)))
	}
	return out
}

// workerRights are those of the tasks of a queue, wherever they run. What a
// task's code gets hold of is what stands here.
func (c control) workerRights(q settings.Queue) []right {
	queue := c.cfg.TaskQueueName(q.Name)
	kinds := slices.Clone(workerReads)
	if !q.NoMetastoreSecrets {
		kinds = append(kinds, workerSecrets...)
	}
	rs := []right{
		c.writes("OwnRows", workerWrites),
		c.reads("Read", kinds),
		c.readsIndexes("ReadIndexes", workerIndexReads),
		c.consumes("Dispatches", queue),
		c.sends("Reports", c.eventsQueue(), c.timersQueue()),
		c.getsObjects("Values", c.dataBucket(), awsenv.BlobPrefix, awsenv.XComPrefix),
		c.lists("ValuesExist", c.dataBucket(), awsenv.BlobPrefix, awsenv.XComPrefix),
		c.putsObjects("WriteValues", c.dataBucket(), awsenv.XComPrefix, awsenv.LogPrefix),
		c.deletesObjects("OldValues", c.dataBucket(), awsenv.XComPrefix), // of an earlier try
	}
	if c.cfg.Bursts && c.onLambda(q) {
		// Lambda reports a failed asynchronous invocation in the function's own role.
		rs = append(rs, c.sends("Failures", c.deadQueue()))
	}
	services := []string{"dynamodb", "s3"}
	if !q.NoMetastoreSecrets {
		rs = append(rs, right{sid: "OpenSecrets", actions: []string{"secretsmanager:GetSecretValue"}, resources: []string{c.data.KeysSecretARN}})
		services = append(services, "secretsmanager")
	}
	rs = append(rs, c.backendRights(c.cfg.SecretsPrefixOf(q), "variables", "connections", "config")...)
	return append(rs, c.usesKey(c.data.Key, true, services...)...)
}

// backendRights let kinds of secrets be read from the secrets backend.
func (c control) backendRights(prefix string, kinds ...string) []right {
	if c.cfg.Secrets == nil {
		return nil
	}
	paths := make([]string, len(kinds))
	r := right{sid: "SecretsBackend", actions: []string{"secretsmanager:GetSecretValue"}}
	for i, kind := range kinds {
		p := prefix + "/" + kind + "/*"
		paths[i] = c.arn("secretsmanager", "secret:"+p)
		if c.cfg.Secrets.Backend == "ssm" {
			paths[i] = c.arn("ssm", "parameter/"+p)
		}
	}
	if c.cfg.Secrets.Backend == "ssm" {
		r.actions = []string{"ssm:GetParameter"}
	}
	r.resources = paths
	return []right{r}
}

func (c control) processorRights() []right {
	rs := []right{
		c.reads("Read", processorReads),
		c.writes("Write", processorWrites),
		c.readsIndexes("ReadIndexes", processorIndexReads),
		c.consumes("Changes", c.dagFilesQueue()),
		// Its own queue, too: a long job goes on in another invocation.
		c.sends("Wake", c.eventsQueue(), c.timersQueue(), c.dagFilesQueue()),
		{sid: "Parse", actions: []string{"lambda:InvokeFunction"}, resources: []string{c.functionARN(c.cfg.FunctionName(awsenv.DagParser))}},
		c.getsDagFiles(),
		c.listsDagFiles("s3:ListBucket", "s3:ListBucketVersions"),
		c.getsObjects("Snapshots", c.dataBucket(), awsenv.BlobPrefix, awsenv.DagStatePrefix),
		c.putsObjects("WriteSnapshots", c.dataBucket(), awsenv.BlobPrefix, awsenv.DagStatePrefix),
		c.lists("SnapshotsExist", c.dataBucket(), awsenv.BlobPrefix, awsenv.DagStatePrefix),
		{sid: "OpenSecrets", actions: []string{"secretsmanager:GetSecretValue"}, resources: []string{c.data.KeysSecretARN}},
	}
	if s := c.cfg.Secrets; s != nil {
		rs = append(rs, c.backendRights(s.Prefix, "variables")...)
	}
	return append(rs, c.usesKey(c.data.Key, true, "dynamodb", "s3", "secretsmanager")...)
}

// listsDagFiles: the processor also asks for versions, to read again what was replaced.
func (c control) listsDagFiles(actions ...string) right {
	r := c.lists("ListDagFiles", c.dagsBucket(), c.cfg.DagsPrefix)
	r.actions = actions
	return r
}

func (c control) getsDagFiles() right {
	r := c.getsObjects("DagFiles", c.dagsBucket(), c.cfg.DagsPrefix)
	r.actions = []string{"s3:GetObject", "s3:GetObjectVersion"}
	return r
}

// parserRights: the code that reads users' files reads them and nothing else.
func (c control) parserRights() []right {
	rs := []right{c.getsDagFiles(), c.listsDagFiles("s3:ListBucket")}
	return append(rs, c.usesKey(c.data.Key, false, "s3")...)
}

func (c control) taskEventsRights() []right {
	return []right{
		c.consumes("DeadLetters", c.deadQueue()),
		c.sends("Lost", c.eventsQueue(), c.timersQueue()),
	}
}

func (c control) apiRights() []right {
	rs := c.wholeTable()
	secrets := []string{c.data.KeysSecretARN}
	if c.data.AdminSecretARN != "" {
		secrets = append(secrets, c.data.AdminSecretARN)
	}
	rs = append(rs,
		c.sends("Wake", c.eventsQueue(), c.timersQueue()),
		right{sid: "OpenSecrets", actions: []string{"secretsmanager:GetSecretValue"}, resources: secrets},
		c.getsObjects("Values", c.dataBucket(), awsenv.BlobPrefix, awsenv.XComPrefix, awsenv.LogPrefix),
		c.lists("ValuesExist", c.dataBucket(), awsenv.BlobPrefix, awsenv.XComPrefix, awsenv.LogPrefix),
		c.deletesObjects("OldValues", c.dataBucket(), awsenv.XComPrefix),
		right{sid: "TaskLogs", actions: []string{"logs:GetLogEvents", "logs:FilterLogEvents"}, resources: c.taskLogs()},
	)
	return append(rs, c.usesKey(c.data.Key, true, "dynamodb", "s3", "secretsmanager")...)
}

// document turns rights into a policy.
func document(rs []right) awsiam.PolicyDocument {
	var sts []awsiam.PolicyStatement
	for _, r := range rs {
		p := &awsiam.PolicyStatementProps{Sid: str(r.sid), Actions: strs(r.actions), Resources: strs(r.resources)}
		if r.conditions != nil {
			p.Conditions = &r.conditions
		}
		sts = append(sts, awsiam.NewPolicyStatement(p))
	}
	return awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &sts})
}
