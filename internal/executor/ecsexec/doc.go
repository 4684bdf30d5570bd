// Package ecsexec is the executor that runs each dispatch as an ECS task of its own,
// on Fargate as a rule: with the image, CPU, memory and role that the task instance
// asks for.
//
// The container is told its dispatch (awsenv.ECSDispatch) and nothing else: it claims
// it with the rights of its task role. What it costs to start is seconds to a minute;
// that is what the lambda executor and worker services are for.
//
// # Submitting
//
// A dispatch is one RunTask call with a clientToken made from the dispatch: submitted
// again, by whoever, it starts no second task. The service takes about 20 calls a
// second; the executor keeps below that and repeats, with growing random pauses, what
// was throttled or found no capacity. What can never succeed (an unknown role, a bad
// size) is refused at once, and the dispatch fails with the service's words.
//
// # Afterwards
//
// Nothing about running tasks is kept that the service does not know: startedBy is made
// from the dispatch, and the dispatch itself is among the task's overrides. A process
// that starts adopts what runs (Adopt); one without EventBridge asks what has stopped
// (Stopped); Cancel finds a task wherever it was started. On AWS the end of a task
// reaches the scheduler as an event (package taskevents).
//
// # executor_config
//
// The keys of RunTask, as Airflow's AwsEcsExecutor takes them:
//
//	executor_config:
//	  overrides:
//	    cpu: "1024"
//	    memory: "4096"
//	    taskRoleArn: arn:aws:iam::123456789012:role/etl
//	    ephemeralStorage: {sizeInGiB: 50}
//	    containerOverrides:
//	    - environment: [{name: LEVEL, value: high}]
//	  capacityProviderStrategy: [{capacityProvider: FARGATE_SPOT, weight: 1}]
//	  platformVersion: "1.4.0"
//	  networkConfiguration: {awsvpcConfiguration: {subnets: [subnet-1]}}
//	  taskDefinition: family:7
//
// and, shorter, image, cpu, memory and taskRoleArn at the top. An image needs `gust` as
// its entry point, and per_task_images in the deployment: a task definition is
// registered for it, once.
package ecsexec
