package timetable

import (
	"testing"
	"time"
)

// The scheduler asks for the next run of every due DAG: with 100,000 DAGs each
// answer has to cost a few microseconds.
func BenchmarkNextRunInfo(b *testing.B) {
	zone, err := LoadZone("America/New_York")
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 3, 8, 12, 34, 56, 0, time.UTC)
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	at := time.Date(2026, 3, 7, 11, 0, 0, 0, time.UTC)
	last := Exact(at)
	multi, err := NewMultipleCronTriggerTimetable([]string{"0 6 * * *", "30 18 * * 1-5"}, zone, Delta{}, RunImmediately{})
	if err != nil {
		b.Fatal(err)
	}
	for name, tt := range map[string]Timetable{
		"cron trigger":          NewCronTriggerTimetable("0 6 * * *", zone, Delta{}, RunImmediately{}),
		"cron trigger, hourly":  NewCronTriggerTimetable("*/15 * * * *", UTC, Delta{}, RunImmediately{}),
		"cron data interval":    NewCronDataIntervalTimetable("0 6 1 * 1", zone),
		"impossible cron":       NewCronTriggerTimetable("0 0 30 2 *", zone, Delta{}, RunImmediately{}),
		"delta":                 NewDeltaTriggerTimetable(Seconds(3600), Delta{}),
		"multiple cron trigger": multi,
	} {
		b.Run(name, func(b *testing.B) {
			r := Restriction{Earliest: &start}
			for b.Loop() {
				_, _ = tt.NextRunInfo(&last, r, now)
			}
		})
	}
}
