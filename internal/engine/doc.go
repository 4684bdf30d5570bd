// Package engine is the imperative shell around the scheduling core: it loads
// state, lets package scheduler decide, commits the decision with one
// conditional write and then carries out its effects.
//
//	trigger, tick, backfill, asset            worker: claim, beat, finish
//	           |                                        |  (rows of their own)
//	           v                                        v
//	INFO item, Post(event) -----> mailbox of a run <-- Post(report)
//	                                  |
//	                Step: load -> Apply/Decide -> admission -> commit META
//	                                  |
//	                effects: submit to executor, fence, callbacks, assets, INFO
//
// # Concurrency
//
// A run is stepped by one goroutine at a time; different runs in parallel. Other
// processes may step the same run on the same store: the version of META decides
// who wins, the loser loads and decides again.
//
// # Crashes
//
// Nothing that is only in memory matters. Recover and Sweep find, from the
// unfinished runs and the rows of their outstanding dispatches, every event that
// was lost: reports not applied, dispatches not sent, effects not carried out.
package engine
