package cron

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestParseExpansion pins what croniter 7 makes of the shapes whose reading is
// not obvious. The expected fields were asked of croniter.
func TestParseExpansion(t *testing.T) {
	for expr, want := range map[string]string{
		"59/15 * * * *":            "59|*|*|*|*",
		"*/61 * * * *":             "0|*|*|*|*",
		"5-5/7 * * * *":            "0,7,14,21,28,35,42,49,56|*|*|*|*",
		"* 22-4/3 * * *":           "*|2,22|*|*|*",
		"* 20-4/3 * * *":           "*|3,20,23|*|*|*",
		"* * 28-5/3 * *":           "*|*|4,28,31|*|*",
		"* * * 11-3/2 *":           "*|*|*|1,3,11|*",
		"* * 5-0 * *":              "*|*|5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31|*|*",
		"* * 0-0 * *":              "*|*|*|*|*",
		"* * 3-l/3 * *":            "*|*|3,6,9,12,15,18,21,24,27,30|*|*",
		"* * 31-l * *":             "*|*|*|*|*",
		"* * l,3 * *":              "*|*|3,l|*|*",
		"* * 1-30,l * *":           "*|*|*|*|*",
		"* *,5 * * *":              "*|*,5|*|*|*",
		"* *,0-22 * * *":           "*|*|*|*|*",
		"* * * * 7/2":              "*|*|*|*|0,2,4,6",
		"* * * * sat/1":            "*|*|*|*|6",
		"* * * * 5-1/2":            "*|*|*|*|0,5",
		"* * * * 6-3/2":            "*|*|*|*|2,6",
		"* * * * 7-2":              "*|*|*|*|0,1,2",
		"* * 1-31 * ?":             "*|*|1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31|*|*",
		"* * */2 * 0-6":            "*|*|1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31|*|*",
		"* * 1 * 0-6":              "*|*|1|*|0,1,2,3,4,5,6",
		"01 002 03 Jan SUN":        "1|2|3|1|0",
		"* * * * * 0-59":           "*|*|*|*|*|*",
		"* * * * * * 2090-1975/10": "*|*|*|*|*|*|1970,2090",
		"@Daily":                   "0|0|*|*|*",
		"@ANNUALLY":                "0|0|1|1|*",
	} {
		s, err := Parse(expr)
		if err != nil {
			t.Errorf("%q: %v", expr, err)
			continue
		}
		var parts []string
		for i := range s.fields {
			parts = append(parts, s.field[i].canonical(i))
		}
		if got := strings.Join(parts, "|"); got != want {
			t.Errorf("%q expands to %s, want %s", expr, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for expr, want := range map[string]string{
		"":                    "CroniterBadCronError: Exactly 5, 6 or 7 columns has to be specified for iterator expression.",
		"@hourly ":            "CroniterBadCronError: Exactly 5, 6 or 7 columns has to be specified for iterator expression.",
		"5-70 * * * *":        "CroniterBadCronError: 5-70 * * * * is out of bands",
		"*/00 * * * *":        "CroniterBadCronError: [*/00 * * * *] step '0' in field 0 is not acceptable",
		"* * l/5 * *":         "CroniterBadCronError: [* * l/5 * *] bands 'l-31' in field 2 are not acceptable",
		"-5/2 * * * *":        "CroniterBadCronError: [-5/2 * * * *] is not acceptable, negative numbers not allowed",
		"? * * * *":           "CroniterBadCronError: [? * * * *] is not acceptable. Question mark can only used in day_of_month or day_of_week",
		"* * ?5 * *":          "CroniterBadCronError: [* * ?5 * *] is not acceptable. Question mark can not used with other characters",
		"0 0 LW * *":          "CroniterNotAlphaError: [0 0 lw * *] is not acceptable",
		"0 0 ,15W * *":        "CroniterBadCronError: [0 0 ,15W * *] is not acceptable. 'W' can only be used with a single day value, not in a list or range",
		"* * 99w,15 * *":      "CroniterBadCronError: [* * 99w,15 * *] is not acceptable, nearest weekday day value '99' out of range",
		"* * * * mon#0":       "CroniterBadCronError: [* * * * mon#0] is not acceptable. Invalid day_of_week value: '0'",
		"* * * * l5#1":        "CroniterNotAlphaError: [* * * * l5#1] is not acceptable",
		"* * 1 * 0-5,1#1":     "CroniterUnsupportedSyntaxError: day-of-week field does not support mixing literal values and nth day of week syntax.  Cron: '* * 1 * 0-5,1#1'    dow={0, 2, 3, 4, 5} vs nth={1: {1}}",
		"H * * * *":           "CroniterBadCronError: Hashed definitions must include hash_id",
		"R(9-5) * * * *":      "CroniterBadCronError: Range end must be greater than range begin",
		"r(0-10)/0 * * * *":   "CroniterBadCronError: Bad expression: r(0-10)/0",
		"* * * * * * 1969":    "CroniterBadCronError: [* * * * * * 1969] is not acceptable, out of range",
		"1_0 * * * *":         "CroniterNotAlphaError: [1_0 * * * *] is not acceptable",
		"99999999999 * * * *": "CroniterBadCronError: [99999999999 * * * *] is not acceptable, out of range",
	} {
		_, err := Parse(expr)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q: accepted, want %s", expr, want)
			continue
		}
		if got := syntax.Class + ": " + syntax.Message; got != want {
			t.Errorf("%q\n got %s\nwant %s", expr, got, want)
		}
	}
}

const day = "2006-01-02 15:04:05"

func parseTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05.999999", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestWalk pins searches whose result is not obvious, as answered by croniter 7.
func TestWalk(t *testing.T) {
	const none = "none"
	for _, c := range []struct{ expr, from, next, prev string }{
		{"0 0 29 * *", "2024-03-05 00:00:00", "2024-03-29 00:00:00", "2024-02-29 00:00:00"},
		{"0 0 31W * *", "2024-02-05 00:00:00", "2024-02-29 00:00:00", "2024-01-31 00:00:00"},
		{"0 0 1W * *", "2024-06-03 00:00:00", "2024-07-01 00:00:00", "2024-05-01 00:00:00"},
		{"0 0 15W * 1", "2024-06-16 00:00:00", "2024-07-15 00:00:00", "2024-06-14 00:00:00"},
		{"0 0 15W * sun", "2024-06-16 00:00:00", none, none},
		{"0 0 15W * MON#3", "2024-04-15 00:00:00", "2024-07-15 00:00:00", "2024-01-15 00:00:00"},
		{"0 0 30 2 1", "2024-06-05 00:00:00", "2025-02-03 00:00:00", "2024-02-26 00:00:00"},
		{"0 0 30 2 *", "2024-06-05 00:00:00", none, none},
		{"0 0 1 * L5", "2024-06-05 00:00:00", none, none},
		{"0 0 1 * L5,1#1", "2024-06-05 00:00:00", "2024-06-28 00:00:00", "2024-06-03 00:00:00"},
		{"0 0 29 2 1#5", "2024-06-05 00:00:00", "2044-02-29 00:00:00", "2016-02-29 00:00:00"},
		{"0 0 * * * 0 2074", "2024-06-05 00:00:00", "2074-01-01 00:00:00", none},
		{"0 0 * * * 0 2075", "2024-06-05 00:00:00", none, none},
		{"* * * * *", "2024-06-05 12:00:00.5", "2024-06-05 12:01:00", "2024-06-05 12:00:00"},
		{"* * * * * *", "2024-06-05 12:00:00.5", "2024-06-05 12:00:01", "2024-06-05 12:00:00"},
		{"0 12 * * *", "1969-06-05 12:00:00", "1969-06-06 12:00:00", "1969-06-04 12:00:00"},
	} {
		s, err := Parse(c.expr)
		if err != nil {
			t.Errorf("%q: %v", c.expr, err)
			continue
		}
		show := func(at time.Time, err error) string {
			if err != nil {
				return none
			}
			return at.Format(day)
		}
		from := parseTime(t, c.from)
		if got := show(s.Next(from)); got != c.next {
			t.Errorf("%q after %s: got %s, want %s", c.expr, c.from, got, c.next)
		}
		if got := show(s.Prev(from)); got != c.prev {
			t.Errorf("%q before %s: got %s, want %s", c.expr, c.from, got, c.prev)
		}
	}
}

// TestCalendar compares the date arithmetic with package time.
func TestCalendar(t *testing.T) {
	for d := int64(-800000); d < 800000; d += 97 {
		at := time.Unix(d*daySeconds, 0).UTC()
		y, m, dd := civil(d)
		if y != at.Year() || m != int(at.Month()) || dd != at.Day() || weekday(d) != int(at.Weekday()) {
			t.Fatalf("day %d: got %d-%d-%d weekday %d, want %s", d, y, m, dd, weekday(d), at)
		}
		if back := daysFromCivil(y, m, dd); back != d {
			t.Fatalf("day %d comes back as %d", d, back)
		}
	}
}

// TestRandomIsFixed: "R" fields have to give the same answer every time.
func TestRandomIsFixed(t *testing.T) {
	for _, expr := range []string{"R R R R R", "R/15 R(2-5) * * *", "* * * * R R R"} {
		a, err := Parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := Parse(expr)
		if !a.Random() || a.field != b.field {
			t.Errorf("%q: not random, or two different readings", expr)
		}
	}
}

func TestDescribe(t *testing.T) {
	for expr, want := range map[string]string{
		"* * * * *":       "Every minute",
		"0 * * * *":       "Every hour",
		"0 3-5 * * *":     "At 0 minutes past the hour, between 03:00 and 05:59",
		"0 */3 * * *":     "Every 3 hours",
		"0 3,4,5 * * *":   "At 03:00, 04:00 and 05:00",
		"0-10 3 * * *":    "Every minute between 03:00 and 03:10",
		"1-5,*/7 * * * *": "At 1 through 5 and every 7 minutes minutes past the hour",
		"0 0 L * *":       "At 00:00, on the last day of the month",
		"0 0 l * *":       "At 00:00, on day l of the month",
		"0 0 W15 * *":     "At 00:00, on the weekday nearest day 15 of the month",
		"0 0 1 * ?":       "At 00:00, on day 1 of the month (or) At 00:00",
		"0 0 * * 1#1,2#3": "At 00:00, on the  Monday and Tuesday of the month",
		"0 0 * * sat/2":   "At 00:00, every 2 weeks, only on Saturday",
		"0 0 * * 3-5/9":   "At 00:00, every 9 weeks, Wednesday through Friday",
		"0 0 * * 1,2/9":   "At 00:00, every 9 weeks, only on Monday and Tuesday",
		"0 0 * dec/2 *":   "At 00:00, every 2 months, December through December",
		"5 *,3 * * *":     "",
		"@midnight":       "",
		"* * * * * *":     "",
		"bad":             "",
	} {
		if got := Describe(expr); got != want {
			t.Errorf("%q\n got %s\nwant %s", expr, got, want)
		}
	}
}

// FuzzParse looks for panics and endless searches, and checks that what is found
// lies on the right side and that the two directions agree.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"* * * * *", "*/5 1-9/2 L * MON#2", "0 0 15W * ?", "59 23 31 12 7 59 2099", "@weekly", "R(1-5)/2 * * * r",
		"22-4/3 * 5-1 nov-feb fri-mon#5", "0 0 30 2 *", "1,,2 * * * *", "٣ * * * *", "* * l/2 * l7",
	} {
		f.Add(s, int64(1700000000), int64(0))
	}
	f.Fuzz(func(t *testing.T, expr string, unix, nanos int64) {
		_ = Describe(expr)
		s, err := Parse(expr)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Class == "" {
				t.Fatalf("%q: error %T without a class", expr, err)
			}
			return
		}
		from := time.Unix(unix%100000000000, nanos%1000000000).UTC()
		next, err := s.Next(from)
		if err == nil {
			if !next.After(from) {
				t.Fatalf("%q: %s is not after %s", expr, next, from)
			}
			// A pair of day fields that can meet in one direction only is
			// reported as not found in the other.
			if back, err := s.Prev(next.Add(time.Second)); err == nil && !back.Equal(next) {
				t.Fatalf("%q: %s after %s, but %s before the second after it", expr, next, from, back)
			}
		}
		if prev, err := s.Prev(from); err == nil && !prev.Before(from) {
			t.Fatalf("%q: %s is not before %s", expr, prev, from)
		}
	})
}
