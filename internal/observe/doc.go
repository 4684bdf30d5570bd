// Package observe tells other systems what an installation does: metrics to StatsD
// and OpenTelemetry under Airflow's names, traces of runs and tasks, OpenLineage
// events, and, on AWS, log lines with CloudWatch metrics in them. Everything is off
// unless it is configured; docs/observability.md lists names and settings.
//
// An [Observer] is an engine.Listener. Each exporter has a queue and a goroutine of
// its own: a collector that is slow or gone costs the scheduler nothing, delays no
// other exporter, and loses what does not fit (a warning says so, once).
//
// What leaves the process are ids, states, times, and the sentence in which a worker
// said why a task failed, in which secrets are masked. The conf, params and note of
// a run, rendered fields, XComs, variables, connections and logs never reach this
// package. Endpoints with their credentials appear in no message.
package observe
