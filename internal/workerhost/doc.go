// Package workerhost runs dispatches that come from a queue, on a machine that is
// not the scheduler's: a Lambda function, an ECS task, or any machine that polls.
// It is the worker of standalone (package taskrunner, the same operators) with
// what such a place needs around it:
//
//   - a time limit: the task is stopped while there is time to report;
//   - a cancel flag that is read every few seconds, so that clear and mark end a
//     running task soon and not with its next heartbeat;
//   - a dispatch that cannot be claimed because the control plane does not answer
//     is handed back to the queue;
//   - in a sandbox (one dispatch at a time), nothing of a task outlives its
//     dispatch, and DAGs share neither processes nor caches.
//
// It knows no cloud: its owner gives it a Backend and a place for logs.
package workerhost
