// Package worker executes one dispatch of a task instance: claim it, render its
// templates, run its operator, push its XComs, report the outcome.
//
// The control plane is reached only through Backend, so the same code runs in
// the standalone process, in a Lambda and, over HTTP, on another machine. It
// mirrors Airflow's Task Execution API: claim is PATCH …/run, Heartbeat is PUT
// …/heartbeat, Finish is PATCH …/state with everything that belongs to it.
//
// # One dispatch
//
//	Claim ── validate params ── render ── on_execute ── execute ── push ── callbacks ── Finish
//	           └ heartbeats run beside it; ErrSuperseded from any of them stops the task ┘
//
// A dispatch is claimed at most once. A task that must wait gives its worker
// back: it ends with OutcomeUpForReschedule or OutcomeDeferred, and the control
// plane dispatches it again (a new DispatchSeq, the same try).
//
// # Who decides what
//
// The worker decides the outcome of this dispatch. The control plane decides
// before the task starts whether a failure would be retried
// (TaskContext.ShouldRetry), so that both choose the same callbacks, and what a
// skip choice does to other instances.
package worker
