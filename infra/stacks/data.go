package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/store/kv"
)

// Data is what the control stack needs to know of the data stack, beyond names.
type Data struct {
	Stack awscdk.Stack
	// KeysSecretARN names the secret that variables and connections are sealed with.
	KeysSecretARN string
	// AdminSecretARN names the secret with the password of the first admin; "" in
	// profile minimal: it costs $0.40 a month and is needed once.
	AdminSecretARN string
	// Changes is the queue that the dags bucket notifies.
	Changes awssqs.IQueue
	// Dead holds the messages that nobody could handle.
	Dead awssqs.IQueue
	// Key is the customer's KMS key, nil without one.
	Key awskms.IKey
}

// NewData makes the stack of everything that cannot be made again.
func NewData(scope constructs.Construct, cfg settings.Config) Data {
	s := stackOf(scope, cfg, cfg.DataStackName(), "Gust: table, buckets and keys. Destroying it loses DAG runs.", cfg.Removal == settings.Retain)
	n := namer{cfg, s}
	d := Data{Stack: s}
	if cfg.CustomerKey {
		d.Key = newKey(n)
	}
	newTable(n, d.Key)
	secret := awssecretsmanager.NewSecret(s, str("Keys"), &awssecretsmanager.SecretProps{
		SecretName:    str(keysSecretName(cfg)),
		Description:   str("Gust derives from it the keys that variables and connections are sealed with. Losing it loses them."),
		EncryptionKey: d.Key,
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			PasswordLength: jsii.Number(64), ExcludePunctuation: jsii.Bool(true),
		},
		RemovalPolicy: removal(cfg),
	})
	d.KeysSecretARN = *secret.SecretArn()
	if cfg.Profile == settings.Full {
		// Not the keys' secret, which tasks may read: they would know the password until
		// somebody has signed in.
		admin := awssecretsmanager.NewSecret(s, str("Admin"), &awssecretsmanager.SecretProps{
			SecretName:    str(adminSecretName(cfg)),
			Description:   str("The password of Gust's first user, admin: it counts until that user has signed in."),
			EncryptionKey: d.Key,
			GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
				PasswordLength: jsii.Number(24), ExcludePunctuation: jsii.Bool(true),
			},
			RemovalPolicy: removal(cfg),
		})
		d.AdminSecretARN = *admin.SecretArn()
	}
	d.Dead = newDeadLetters(n)
	d.Changes = newBuckets(n, d.Key, d.Dead)
	for id, url := range map[string]*string{awsenv.OutDagEventsQueueURL: d.Changes.QueueUrl(), awsenv.OutDeadLetters: d.Dead.QueueUrl()} {
		awscdk.NewCfnOutput(s, str(id), &awscdk.CfnOutputProps{Value: url})
	}
	return d
}

func keysSecretName(cfg settings.Config) string { return cfg.Prefix() + "-keys" }

func adminSecretName(cfg settings.Config) string { return cfg.Prefix() + "-admin" }

func newTable(n namer, key awskms.IKey) {
	encryption := awsdynamodb.TableEncryption_DEFAULT
	if key != nil {
		encryption = awsdynamodb.TableEncryption_CUSTOMER_MANAGED
	}
	text := func(name string) *awsdynamodb.Attribute {
		return &awsdynamodb.Attribute{Name: str(name), Type: awsdynamodb.AttributeType_STRING}
	}
	table := awsdynamodb.NewTable(n.stack, str("Table"), &awsdynamodb.TableProps{
		TableName:    str(n.table()),
		PartitionKey: text(kv.AttrPK), SortKey: text(kv.AttrSK),
		BillingMode:         awsdynamodb.BillingMode_PAY_PER_REQUEST,
		TimeToLiveAttribute: str(kv.AttrExpiresAt),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: jsii.Bool(true),
		},
		Encryption: encryption, EncryptionKey: key,
		DeletionProtection: jsii.Bool(n.cfg.Removal == settings.Retain),
		RemovalPolicy:      removal(n.cfg),
	})
	for _, ix := range kv.DefaultSchema().Indexes {
		table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
			IndexName:    str(string(ix.Name)),
			PartitionKey: text(string(ix.Name) + kv.AttrPK), SortKey: text(string(ix.Name) + kv.AttrSK),
			ProjectionType: awsdynamodb.ProjectionType_INCLUDE, NonKeyAttributes: strs(ix.Include),
		})
	}
}

// newBuckets makes the bucket of the user's DAG files, which tells a queue about
// every change, and the bucket of what Gust writes.
func newBuckets(n namer, key awskms.IKey, dead awssqs.IQueue) awssqs.IQueue {
	queue := newQueue(n.stack, queueSpec{id: "dagfiles", name: n.dagFilesQueue(), timeout: dagProcessorTimeout, receives: 5, dead: dead})
	// S3 checks that it may send when the notification is set, so the policy must
	// not wait for the bucket: it names it.
	queue.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: str("BucketNotifies"), Actions: strs([]string{"sqs:SendMessage"}), Resources: &[]*string{queue.QueueArn()},
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(str("s3.amazonaws.com"), nil)},
		Conditions: &map[string]any{
			"ArnEquals":    map[string]any{"aws:SourceArn": n.bucketARN(n.dagsBucket())},
			"StringEquals": map[string]any{"aws:SourceAccount": n.stack.Account()},
		},
	}))
	dags := newBucket(n, "DagsBucket", n.dagsBucket(), key, &[]*awss3.LifecycleRule{{
		// A run pins its files by content in the data bucket; versions are for people.
		Id: str("old-versions"), NoncurrentVersionExpiration: awscdk.Duration_Days(jsii.Number(30)),
		AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(7)),
	}})
	cfn := dags.Node().DefaultChild().(awss3.CfnBucket)
	filter := &awss3.CfnBucket_NotificationFilterProperty{S3Key: &awss3.CfnBucket_S3KeyFilterProperty{
		Rules: &[]any{&awss3.CfnBucket_FilterRuleProperty{Name: str("prefix"), Value: str(n.cfg.DagsPrefix)}},
	}}
	var on []any
	for _, event := range []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"} {
		c := &awss3.CfnBucket_QueueConfigurationProperty{Event: str(event), Queue: queue.QueueArn()}
		if n.cfg.DagsPrefix != "" {
			c.Filter = filter
		}
		on = append(on, c)
	}
	cfn.SetNotificationConfiguration(&awss3.CfnBucket_NotificationConfigurationProperty{QueueConfigurations: &on})
	cfn.AddDependency(queue.Node().FindChild(str("Policy")).Node().DefaultChild().(awscdk.CfnResource))

	newBucket(n, "DataBucket", n.dataBucket(), key, &[]*awss3.LifecycleRule{{
		Id: str("broken-uploads"), AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(7)),
	}, {
		Id: str("logs"), Prefix: str(awsenv.LogPrefix), Expiration: awscdk.Duration_Days(jsii.Number(float64(n.cfg.LogRetentionDays))),
	}, {
		// Versions are there so that a snapshot which is put again while it is removed
		// stays (s3blob); nobody goes back to one.
		Id: str("replaced-or-removed"), NoncurrentVersionExpiration: awscdk.Duration_Days(jsii.Number(1)), ExpiredObjectDeleteMarker: jsii.Bool(true),
	}})
	return queue
}

func newBucket(n namer, id, name string, key awskms.IKey, rules *[]*awss3.LifecycleRule) awss3.Bucket {
	p := &awss3.BucketProps{
		BucketName: str(name), BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(), ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		EnforceSSL: jsii.Bool(true), Encryption: awss3.BucketEncryption_S3_MANAGED, LifecycleRules: rules, RemovalPolicy: removal(n.cfg),
		Versioned: jsii.Bool(true),
	}
	if key != nil {
		p.Encryption, p.EncryptionKey, p.BucketKeyEnabled = awss3.BucketEncryption_KMS, key, jsii.Bool(true)
	}
	return awss3.NewBucket(n.stack, str(id), p)
}

// newKey makes the deployment's key. Who may use it is said in the roles, except
// for services that act in nobody's role.
func newKey(n namer) awskms.IKey {
	key := awskms.NewKey(n.stack, str("Key"), &awskms.KeyProps{
		Alias: str("alias/" + n.cfg.Prefix()), Description: str("Gust " + n.cfg.Prefix() + ": table, buckets, secret, logs and alarms"),
		EnableKeyRotation: jsii.Bool(n.cfg.KeyRotation), RemovalPolicy: removal(n.cfg),
	})
	key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: str("LogGroups"), Resources: strs([]string{"*"}),
		Actions:    strs([]string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"}),
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(str("logs."+*n.stack.Region()+".amazonaws.com"), nil)},
		Conditions: &map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:logs:arn": []string{
			n.arn("logs", "log-group:"+logGroup(n.cfg.Prefix()+"-*")), n.arn("logs", "log-group:"+ecsLogGroup(n.cfg)),
		}}},
	}), nil)
	key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: str("AlarmsNotify"), Resources: strs([]string{"*"}),
		Actions:    strs([]string{"kms:Decrypt", "kms:GenerateDataKey"}),
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(str("cloudwatch.amazonaws.com"), nil)},
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": n.stack.Account()}},
	}), nil)
	return key
}
