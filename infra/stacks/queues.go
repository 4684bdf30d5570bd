package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// queueSpec describes a queue that a function consumes.
type queueSpec struct {
	id   string // of the construct
	name string
	// timeout of the function, in seconds: the visibility is six times that, as
	// Lambda asks for, so that a batch that is throttled or retried inside the
	// mapping is not received twice.
	timeout int
	// receives before a message is dead.
	receives int
	// dead is where messages go after that.
	dead awssqs.IQueue
}

// newQueue makes a queue. Messages hold keys and no data; SQS encrypts them with
// keys of its own, which costs no KMS call per message.
func newQueue(scope constructs.Construct, q queueSpec) awssqs.Queue {
	return awssqs.NewQueue(scope, str("Queue-"+q.id), &awssqs.QueueProps{
		QueueName: str(q.name), Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: jsii.Bool(true),
		VisibilityTimeout: awscdk.Duration_Seconds(jsii.Number(float64(6 * q.timeout))),
		RetentionPeriod:   awscdk.Duration_Days(jsii.Number(4)), RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
		DeadLetterQueue: &awssqs.DeadLetterQueue{Queue: q.dead, MaxReceiveCount: jsii.Number(float64(q.receives))},
	})
}

// newDeadLetters makes the one queue for the dead of all others: taskevents tells
// them apart by their form, and every further queue would cost the empty receives
// of one more mapping.
func newDeadLetters(n namer) awssqs.Queue {
	return awssqs.NewQueue(n.stack, str("DeadLetters"), &awssqs.QueueProps{
		QueueName: str(n.deadQueue()), Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: jsii.Bool(true),
		// A message keeps its age when it dies: the dead must be kept longer than the living.
		RetentionPeriod: awscdk.Duration_Days(jsii.Number(14)), RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
		VisibilityTimeout: awscdk.Duration_Seconds(jsii.Number(6 * taskEventsTimeout)),
	})
}
