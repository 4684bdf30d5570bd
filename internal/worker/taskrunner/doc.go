// Package taskrunner runs dispatches: the worker's loop around an operator.
//
// A Worker claims a dispatch from its worker.Backend, prepares a Task (mapped
// arguments, params, templates), executes the operator that the Resolver finds
// for the task's class path, runs callbacks and reports. Operators live in
// package operator and see a Task only.
package taskrunner
