// Package operator holds the operators that run in Go: Airflow's standard and
// HTTP providers, by canonical class path. Each has Airflow's arguments,
// template fields, log lines and outcomes; where one would hold a worker to
// wait, it gives the worker back instead (reschedule or deferral) with the same
// observable result.
//
// SQL operators are in sqlop, so that binaries without databases do not link
// their drivers.
package operator
