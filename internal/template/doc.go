// Package template renders Airflow's templated fields: it builds the context
// that a task's templates see (dag_run, ti, params, var, conn, macros, the
// dates of the run) on top of the Jinja engine of package jinja.
//
// The package is pure: variables, connections, XComs and previous runs come
// from functions of the caller, the clock, random numbers and UUIDs from
// Sources, and template files from an fs.FS.
package template
