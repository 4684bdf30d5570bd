// Package store keeps everything Gust knows, over any kv.Driver: DAGs and their
// versions, runs and their scheduling state, task instance rows, XComs, pools,
// variables, connections, assets, backfills, import errors and audit events.
//
// The single-table design, its keys and its price are written once, here; see
// docs/adr/0002-store-layout.md. Every change is a conditional write. Methods
// may be called concurrently, from several processes on one store.
//
// Errors wrap the sentinels of package airflow: ErrNotFound, ErrAlreadyExists,
// ErrConflict (read again and decide again), ErrSuperseded (a worker's dispatch
// may no longer write), ErrTooLarge, ErrThrottled, ErrUnavailable. After
// ErrUnavailable a write may or may not have happened; every write here can be
// repeated safely.
package store
