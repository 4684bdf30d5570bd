// Package sandbox protects a worker host from the tasks it runs, where both run
// as the same user, as in a Lambda function: the host cannot be read or traced by
// its children, children see none of its rights, nothing of a task outlives its
// dispatch, and folders that tasks may write are emptied before a DAG of another
// trust uses them.
//
// What a child can still do as the same user on the same machine is listed in
// docs/aws.md: talk to what listens on the loopback interface, and send signals
// to the host, which ends its own sandbox.
package sandbox
