// Package timetable answers, for a DAG's schedule, which run comes next, which
// data interval a manual run covers, which runs a backfill makes and what the
// runs are called: Airflow 3.3's timetables as pure functions.
//
// Nothing here reads the clock, draws random numbers or does I/O, except that
// [LoadZone] reads the time zone database; "now" and random suffixes are
// arguments. A Timetable is immutable and safe for concurrent use.
//
// Rules that come from Airflow and are easy to get wrong:
//
//   - A plain cron string or timedelta is a trigger timetable: the interval is
//     empty and the run is due at its own logical date. The data-interval
//     classes are used only by name or with create_cron_data_intervals.
//   - Cron ticks are computed on the wall clock. A time that happens twice is
//     taken the second time; a time that does not exist is moved forward by the
//     gap. When the hour field is "*", the distance on the wall clock is added to
//     the instant instead, so a repeated hour runs twice.
//   - Deltas are added in UTC, or in the fixed offset the time came with.
//   - An error while computing the next run means "no next run" to the
//     scheduler; see [Error].
//   - What the scheduler sees is the schedule after serialization, which loses
//     some things (hour=0 of a relativedelta, the zone of an event). FromSchedule
//     therefore returns what Parse makes of the serialized form.
//
// Author errors carry the stage at which Airflow finds them, because a stage
// tells where a DAG file stops loading.
package timetable
