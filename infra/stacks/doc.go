// Package stacks is Gust on AWS as two CloudFormation stacks:
//
//	<name>-<stage>-data      table, buckets, secret, key, and the queue the dags
//	                         bucket notifies: what cannot be made again
//	<name>-<stage>-control   queues, functions, mappings, rules, alarms, dashboard,
//	                         ECS: what a deploy may replace at any time
//
// The control stack finds table, buckets and queues by name, not by imported
// values: an import would forbid removing a queue in one deploy. Only the secret
// and the key, whose ARNs AWS chooses, are imported.
//
// Rights are written out action by action in rights.go; no construct grants
// anything on its own, because every function is given a finished role.
package stacks
