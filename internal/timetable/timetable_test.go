package timetable

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func zone(t *testing.T, name string) Zone {
	t.Helper()
	z, err := LoadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestLoadZone(t *testing.T) {
	for name, want := range map[string]string{
		"utc": "UTC", "Utc": "UTC", "UTC": "UTC", "America/New_York": "America/New_York", "Etc/GMT+5": "Etc/GMT+5",
	} {
		if z := zone(t, name); z.String() != want {
			t.Errorf("%q: got %s, want %s", name, z, want)
		}
	}
	for name, class := range map[string]string{
		"": "ValueError", "America/": "ValueError", "/etc/localtime": "ValueError", "../UTC": "ValueError", "a//b": "ValueError",
		"Local": "InvalidTimezone", "local": "InvalidTimezone", "Z": "InvalidTimezone", "+09:00": "InvalidTimezone",
		"UTC+9": "InvalidTimezone", "3600": "InvalidTimezone", "New_York": "InvalidTimezone",
	} {
		_, err := LoadZone(name)
		var e *Error
		if !errors.As(err, &e) || e.Class != class {
			t.Errorf("%q: got %v, want %s", name, err, class)
		}
	}
	if got := FixedZone(-20700).String(); got != "-05:45" {
		t.Errorf("fixed zone: got %s", got)
	}
	if FixedZone(0) != UTC {
		t.Error("the offset 0 is not UTC")
	}
}

// TestZoneAt covers gaps, overlaps, a gap of a day and shifts of half an hour.
func TestZoneAt(t *testing.T) {
	for _, c := range []struct {
		zone, wall, first, second string
	}{
		{"America/New_York", "2025-03-09T02:30:00Z", "2025-03-09T06:30:00Z", "2025-03-09T07:30:00Z"}, // gap
		{"America/New_York", "2025-11-02T01:30:00Z", "2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z"}, // overlap
		{"America/New_York", "2025-07-01T00:00:00Z", "2025-07-01T04:00:00Z", "2025-07-01T04:00:00Z"},
		{"Australia/Lord_Howe", "2025-04-06T01:45:00Z", "2025-04-05T14:45:00Z", "2025-04-05T15:15:00Z"},
		{"Australia/Lord_Howe", "2025-10-05T02:15:00Z", "2025-10-04T15:15:00Z", "2025-10-04T15:45:00Z"},
		{"Pacific/Apia", "2011-12-30T12:00:00Z", "2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z"},
		{"UTC", "2025-03-09T02:30:00Z", "2025-03-09T02:30:00Z", "2025-03-09T02:30:00Z"},
	} {
		z := zone(t, c.zone)
		for fold, want := range []string{c.first, c.second} {
			if got := z.At(at(t, c.wall), fold).UTC().Format(time.RFC3339); got != want {
				t.Errorf("%s %s fold %d: got %s, want %s", c.zone, c.wall, fold, got, want)
			}
		}
	}
}

// TestRelativeDelta pins results of dateutil.
func TestRelativeDelta(t *testing.T) {
	for _, c := range []struct{ args, from, after, text string }{
		{`{"months": 1}`, "2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z", "relativedelta(months=+1)"},
		{`{"months": 25, "hours": -30}`, "2024-01-31T12:00:00Z", "2026-02-27T06:00:00Z", "relativedelta(years=+2, months=+1, days=-1, hours=-6)"},
		{`{"weeks": 1}`, "2024-01-31T00:00:00Z", "2024-02-07T00:00:00Z", "relativedelta(days=+7)"},
		{`{"months": 1, "day": 31}`, "2024-01-15T00:00:00Z", "2024-02-29T00:00:00Z", "relativedelta(months=+1, day=31)"},
		{`{"days": 1, "weekday": [4, 2]}`, "2024-01-03T00:00:00Z", "2024-01-12T00:00:00Z", "relativedelta(days=+1, weekday=FR(+2))"},
		{`{"weekday": [0, -1], "hour": 0}`, "2024-01-03T05:00:00Z", "2024-01-01T00:00:00Z", "relativedelta(weekday=MO(-1), hour=0)"},
		{`{"yearday": 60}`, "2024-01-03T00:00:00Z", "2024-02-29T00:00:00Z", "relativedelta(leapdays=-1, month=3, day=1)"},
		{`{"nlyearday": 60}`, "2024-01-03T00:00:00Z", "2024-03-01T00:00:00Z", "relativedelta(month=3, day=1)"},
		{`{"days": 1234567}`, "0001-01-03T00:00:00Z", "3381-02-19T00:00:00Z", "relativedelta(days=+1.23457e+06)"},
	} {
		var args map[string]any
		if err := json.Unmarshal([]byte(c.args), &args); err != nil {
			t.Fatal(err)
		}
		r, err := NewRelativeDelta(args)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		d := Delta{Relative: r}
		if d.String() != c.text {
			t.Errorf("%s: got %s, want %s", c.args, d, c.text)
		}
		got, err := d.after(at(t, c.from))
		if err != nil || got.Format(time.RFC3339) != c.after {
			t.Errorf("%s + %s: got %s %v, want %s", c.from, c.args, got, err, c.after)
		}
	}
	_, err := NewRelativeDelta(map[string]any{"month_": 1.0, "days": "x", "weekday": 9.0})
	if err == nil || strings.Count(err.Error(), ";") != 2 {
		t.Errorf("expected all three problems, got %v", err)
	}
}

func TestDeltaText(t *testing.T) {
	for micros, want := range map[int64][2]string{
		0:                {"0:00:00", "datetime.timedelta(0)"},
		5400e6:           {"1:30:00", "datetime.timedelta(seconds=5400)"},
		14 * 86400e6:     {"14 days, 0:00:00", "datetime.timedelta(days=14)"},
		-3600e6:          {"-1 day, 23:00:00", "datetime.timedelta(days=-1, seconds=82800)"},
		86400e6 + 5:      {"1 day, 0:00:00.000005", "datetime.timedelta(days=1, microseconds=5)"},
		-2 * 86400e6:     {"-2 days, 0:00:00", "datetime.timedelta(days=-2)"},
		400000 * 86400e6: {"400000 days, 0:00:00", "datetime.timedelta(days=400000)"},
	} {
		d := Delta{Micros: micros}
		if got := [2]string{d.String(), d.repr()}; got != want {
			t.Errorf("%d: got %q, want %q", micros, got, want)
		}
	}
}

func TestDeserializeErrors(t *testing.T) {
	_, err := Parse([]byte(`{"__type": "my.module.WeekdayTimetable", "__var": {}}`))
	var unknown *UnknownTimetableError
	if !errors.As(err, &unknown) || unknown.Class != "my.module.WeekdayTimetable" {
		t.Errorf("a user's own timetable: got %v", err)
	}
	_, err = Parse([]byte(`{"__type": "airflow.timetables.assets.AssetOrTimeSchedule", "__var": {"asset_condition": {}, "timetable": {"__type": "x.Y", "__var": {}}}}`))
	if !errors.As(err, &unknown) || unknown.Class != "x.Y" {
		t.Errorf("a user's own timetable inside another: got %v", err)
	}
	_, err = Parse([]byte(`{"__type": "airflow.timetables.trigger.CronTriggerTimetable", "__var": {"timezone": "Nowhere", "interval": "x", "run_immediately": "y"}}`))
	var e *Error
	if !errors.As(err, &e) || e.Stage != StageDeserialize || e.Class != "InvalidTimezone" {
		t.Fatalf("got %v", err)
	}
	for _, field := range []string{"expression", "timezone", "interval", "run_immediately"} {
		if !strings.Contains(e.Message, field+": ") {
			t.Errorf("%s is not named in %q", field, e.Message)
		}
	}
	if _, err := Parse([]byte(`[]`)); !errors.As(err, &e) {
		t.Errorf("a list: got %v", err)
	}
}

// TestFromScheduleSeesSerializedForm: hour=0 does not survive serialization, so
// the scheduler never sees it.
func TestFromScheduleSeesSerializedForm(t *testing.T) {
	r, err := NewRelativeDelta(map[string]any{"days": 1, "hour": 0})
	if err != nil {
		t.Fatal(err)
	}
	tt, err := FromSchedule(Delta{Relative: r}, Config{Now: at(t, "2026-01-01T12:00:00Z")})
	if err != nil {
		t.Fatal(err)
	}
	if tt.Summary() != "relativedelta(days=+1)" {
		t.Errorf("got %s", tt.Summary())
	}
}

// TestHourlyOverFold: an hourly cron runs in both of the hours that read the
// same; a daily one only in the second.
func TestHourlyOverFold(t *testing.T) {
	ny := zone(t, "America/New_York")
	for expression, want := range map[string][]string{
		"30 * * * *": {"2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z", "2025-11-02T07:30:00Z"},
		"30 1 * * *": {"2025-11-02T06:30:00Z", "2025-11-03T06:30:00Z", "2025-11-04T06:30:00Z"},
	} {
		tt := NewCronTriggerTimetable(expression, ny, Delta{}, RunImmediately{})
		start := at(t, "2025-11-02T05:00:00Z")
		var last *DataInterval
		for i, w := range want {
			info, err := tt.NextRunInfo(last, Restriction{Earliest: &start, Catchup: true}, start)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.RunAfter.Format(time.RFC3339); got != w {
				t.Errorf("%s run %d: got %s, want %s", expression, i, got, w)
			}
			last = info.DataInterval
		}
	}
}

func TestAPITriggerWantsBothEnds(t *testing.T) {
	now := at(t, "2026-01-01T12:00:00Z")
	_, err := APITrigger(NewNullTimetable(), TriggerRequest{LogicalDate: &now, DataIntervalStart: &now}, now)
	if err == nil {
		t.Error("half an interval was accepted")
	}
}

// TestMonthsThatDoNotAdvance: a relativedelta that was valid when the DAG was
// loaded can lead nowhere later; Airflow would step for ever.
func TestMonthsThatDoNotAdvance(t *testing.T) {
	r, err := NewRelativeDelta(map[string]any{"months": 1, "month": 1})
	if err != nil {
		t.Fatal(err)
	}
	tt := NewDeltaDataIntervalTimetable(Delta{Relative: r})
	start := at(t, "2025-01-01T00:00:00Z")
	_, err = tt.NextRunInfo(nil, Restriction{Earliest: &start}, at(t, "2026-06-01T00:00:00Z"))
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("got %v, want an error", err)
	}
}

// TestBackfillLeavesOutWhatEndsNow: only intervals that ended before now count;
// run ids keep the zone of the request for a delta's first run.
func TestBackfillLeavesOutWhatEndsNow(t *testing.T) {
	request := BackfillRequest{
		From: at(t, "2026-01-01T00:00:00-05:00"), To: at(t, "2026-01-01T03:00:00-05:00"), Now: at(t, "2026-01-01T07:00:00Z"),
		ReprocessBehavior: ReprocessNone,
	}
	infos, err := BackfillRuns(NewDeltaTriggerTimetable(Seconds(3600), Delta{}), request)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range infos {
		got = append(got, RunID("backfill", info.RunAfter))
	}
	if want := "backfill__2026-01-01T00:00:00-05:00 backfill__2026-01-01T06:00:00+00:00"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	request.ExistingRun = func(time.Time) (string, bool) { return "failed", true }
	for behavior, n := range map[ReprocessBehavior]int{ReprocessNone: 0, ReprocessFailed: 2, ReprocessCompleted: 2} {
		request.ReprocessBehavior = behavior
		if infos, err := BackfillRuns(NewDeltaTriggerTimetable(Seconds(3600), Delta{}), request); err != nil || len(infos) != n {
			t.Errorf("%s over failed runs: got %d runs %v, want %d", behavior, len(infos), err, n)
		}
	}
}
