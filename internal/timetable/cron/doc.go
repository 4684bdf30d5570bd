// Package cron reads cron expressions and walks their fire times with the
// grammar and the results of croniter 7, the library behind Airflow 3.3.
//
// It is pure: no clock, no time zone, no random source. Times are wall clocks
// without a zone, carried in time.Time values whose location is UTC; mapping
// them to instants is the caller's work (see package timetable).
//
// Rules that surprise (all follow croniter, and all are tested against it):
//
//   - Five fields, six (seconds last) or seven (seconds, then year 1970-2099).
//   - With day-of-month and day-of-week both restricted, a day that matches
//     either fires. A day-of-week with "#" or "Ln" replaces that by the
//     day-of-week alone, and the search fails when the two can never meet.
//   - A descending range wraps around ("22-2", "NOV-FEB"); a range whose ends
//     are equal is the whole field.
//   - "R" draws a value. To stay pure the value is derived from the text of the
//     expression, so that it is fixed, where croniter draws again at each call.
//
// A Schedule is immutable and safe for concurrent use.
package cron
