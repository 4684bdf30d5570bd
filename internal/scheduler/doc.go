// Package scheduler decides what Airflow's scheduler would decide, as pure
// functions: plain data in, decisions out. It reads no clock, draws no random
// number, does no I/O and never lets the order of a map reach a result.
//
//	Compile(dag)                      -> *Graph     one DAG version, compiled once, immutable, shared
//	NewRun(graph, header)             -> *RunState  the states of one DagRun
//	Apply(graph, run, report)         what a worker says about one dispatch
//	Decide(graph, run, facts, now)    passes to the fixed point: transitions, effects, next wake
//	Dispatch(graph, run, instances)   scheduled -> queued, with a new dispatch_seq
//	Admit(capacity, candidates)       which scheduled instances may be queued (pools, limits, priorities)
//	StartQueued(runs, limits)         which queued runs may start
//	Clear, MarkTask, MarkRun, Rebase  what a person does to a run
//	PlanRuns, PlanAssetRuns           which runs to create
//	Encode, EncodeChunk, Decode       the stored form
//	Outstanding(graph, run)           effects that may have been lost
//	Reasons(graph, run, ...)          why whatever does not move does not move
//
// The rules are those of Airflow 3.3.2 as recorded in testdata/vectors/scheduling;
// where Gust knowingly differs docs/compatibility.md says so.
//
// # One pass, one snapshot
//
// A pass judges every schedulable instance, in order of creation, against the
// instances that were finished when the pass began, so that a skip or failure
// travels one level of the graph per pass. Two things are read live, as Airflow
// does: the sources of an expansion and the number of instances of a task.
// Decide repeats the pass until one changes nothing.
//
// # Cost
//
// A RunState keeps counters per task and state and a set of dirty instances:
// those one of whose inputs changed since the last fixed point. A pass examines
// dirty instances only, and property tests prove that it then does exactly what
// a pass over all instances does. A step over a run of n instances therefore
// costs time in proportion to what changed, not to n.
//
// # Who may call
//
// A Graph is safe for concurrent use. A RunState belongs to one caller at a time:
// functions change it in place and record what they changed (Transition), so that
// the caller can commit the difference or throw the RunState away.
package scheduler
