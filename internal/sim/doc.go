// Package sim runs the whole control plane in one thread, under faults that a
// seed decides, and checks after every write that nothing went wrong.
//
//	scenario: DAGs, pools, schedules, settings    operator: clear, mark, pause, edit, backfill …
//	        |                                              |
//	        v                                              v
//	  +-- process (an engine, its clock skew) --+     messages: delayed, doubled, lost, reordered
//	  |   gate: dies at any call of the store   |            |
//	  |   faultkv: fails before, applied and    | <----- worker: claims, beats, reports; dies,
//	  |   reported as a timeout, throttled      |        falls silent, reports twice or late
//	  +------------------|----------------------+
//	                     v
//	  observer: sees every applied write -> checker    over memkv, shared by all processes
//
// One random source decides everything, the clock jumps to the next event, and
// there is one goroutine: a seed is a history, and the same seed is the same
// history. While a delayed call of one process is on its way, workers and other
// processes go on (faultkv's Delay), so that histories interleave between any two
// calls of the store.
//
// # What a scenario holds
//
// DAGs of random shapes with branches, sensors, deferrals, mapping; task groups,
// mapped over literals and results; setups and teardowns; sometimes a task of
// several hundred instances, so that the state fills several chunks. Callbacks of
// DAGs and tasks, deadlines. Schedules, assets, backfills. People who clear, mark,
// pause, delete and edit; files that cannot be read any more or are gone, and are
// mended later. In part of the scenarios the indexes and the reads that need not be
// consistent lag behind, as DynamoDB's do.
//
// # Death
//
// A process dies before or after any call of the store: from then on its calls
// are answered with kv.ErrClosed and do nothing, what it submits is lost, and the
// next generation starts from the store (Recover). To the rest of the world that
// is a kill -9 at this call; unlike a panic it also reaches calls that the engine
// makes on goroutines of its own.
//
// # What is checked
//
// At every write: one claim per dispatch; no write by a superseded dispatch; no
// instance leaves queued, running or restarting while its dispatch could still
// write; transitions in docs/state-machines.md only, and those of a step explain
// exactly what the step changed; versions, sequence numbers and tries only grow;
// try_number ≤ max_tries + 1; delays are waited for; pools, parallelism,
// max_active_tasks, max_active_tis_per_dag(run) and max_active_runs are kept;
// asset events are consumed once. What is scheduled has its upstreams where its
// trigger rule wants them, a teardown also everything in its scope; no run is
// created of a DAG whose file is broken.
//
// A callback is written with the step that asks for it, never forgotten before it
// ran, and not run again once that is recorded; the steps that must ask for one
// are worked out apart from the engine. Deadlines are told once and not early.
//
// Every recorded step is decided again from its inputs, its clock and the state
// that the records before it led to: it must decide the same and lead to the bytes
// that are stored.
//
// A scheduler that has just started on a lagging index may not have found all
// unfinished runs: until its next discovery, limits are not checked then.
//
// In calm scenarios (no fault) no run is ever moved by the backstop (sweep or
// discovery): every wake-up came by its event or timer.
//
// At the end the faults stop, what was paused goes on, and time runs until
// nothing happens any more. Then every run has ended or waits for a person, with
// a reason; what a worker was told is stored has been applied; INFO agrees with
// META; callbacks have run; what was set up was torn down; literal expansions are
// as wide as they are long; a fresh engine finds nothing to do.
package sim
