package timetable

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Delta is a distance in time: a datetime.timedelta, or a relativedelta when
// Relative is set. The zero Delta is timedelta(0).
type Delta struct {
	// Micros is the length of a timedelta in microseconds, Python's resolution.
	Micros int64
	// Relative is the calendar distance that replaces Micros.
	Relative *RelativeDelta
}

// Seconds returns the timedelta of that many seconds, rounded to microseconds.
func Seconds(s float64) Delta { return Delta{Micros: int64(math.RoundToEven(s * 1e6))} }

// RelativeDelta is dateutil's relativedelta, normalized as its constructor
// does. The plural fields are added; the singular ones, where not nil, replace
// the part of the date before anything is added.
type RelativeDelta struct {
	Years, Months, Days, LeapDays         int
	Hours, Minutes, Seconds, Microseconds int

	Year, Month, Day                  *int
	Hour, Minute, Second, Microsecond *int
	// Weekday moves the result on to the nth such day (Monday = 0), at or after
	// it for n > 0, at or before it for n < 0. N is 0 when not given, which
	// counts as 1.
	Weekday *WeekdayRule
}

// WeekdayRule is dateutil's MO … SU with its optional count.
type WeekdayRule struct{ Day, N int }

// NewRelativeDelta makes a relativedelta from the keyword arguments of its
// constructor: years, months, weeks, days, leapdays, hours, minutes, seconds,
// microseconds; year, month, day, hour, minute, second, microsecond; yearday,
// nlyearday; weekday as [day] or [day, n] or a number. The error names every
// argument that is unknown or of a wrong type.
func NewRelativeDelta(args map[string]any) (*RelativeDelta, error) {
	r := &RelativeDelta{}
	adding := map[string]*int{
		"years": &r.Years, "months": &r.Months, "days": &r.Days, "leapdays": &r.LeapDays,
		"hours": &r.Hours, "minutes": &r.Minutes, "seconds": &r.Seconds, "microseconds": &r.Microseconds,
	}
	replacing := map[string]**int{
		"year": &r.Year, "month": &r.Month, "day": &r.Day,
		"hour": &r.Hour, "minute": &r.Minute, "second": &r.Second, "microsecond": &r.Microsecond,
	}
	var problems []string
	yearDay, nonLeapDay, weeks := 0, 0, 0
	for _, key := range sortedKeys(args) {
		v := args[key]
		if v == nil {
			continue
		}
		if key == "weekday" {
			w, err := weekdayRule(v)
			if err != nil {
				problems = append(problems, err.Error())
			}
			r.Weekday = w
			continue
		}
		n, ok := wholeNumber(v)
		if !ok {
			problems = append(problems, fmt.Sprintf("relativedelta %s: expected a whole number, got %v", key, v))
			continue
		}
		switch {
		case adding[key] != nil:
			*adding[key] = n
		case replacing[key] != nil:
			*replacing[key] = &n
		case key == "weeks":
			weeks = n
		case key == "yearday":
			yearDay = n
		case key == "nlyearday":
			nonLeapDay = n
		default:
			problems = append(problems, fmt.Sprintf("relativedelta has no argument %q", key))
		}
	}
	if nonLeapDay != 0 {
		yearDay = nonLeapDay // it wins
	} else if yearDay > 59 && yearDay < 366 {
		r.LeapDays = -1
	}
	if yearDay != 0 {
		month, day, ok := monthOfYearDay(yearDay)
		if !ok {
			problems = append(problems, fmt.Sprintf("invalid year day (%d)", yearDay))
		}
		r.Month, r.Day = &month, &day
	}
	if len(problems) > 0 {
		return nil, &Error{Class: "ValueError", Message: strings.Join(problems, "; ")}
	}
	r.Days += weeks * 7
	r.normalize()
	return r, nil
}

// monthOfYearDay finds the date of a day of a year; day 366 is 31 December.
func monthOfYearDay(yearDay int) (month, day int, ok bool) {
	ends := [...]int{31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 366}
	for i, end := range ends {
		if yearDay <= end {
			if i == 0 {
				return 1, yearDay, true
			}
			return i + 1, yearDay - ends[i-1], true
		}
	}
	return 0, 0, false
}

func weekdayRule(v any) (*WeekdayRule, error) {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	if len(list) == 1 || len(list) == 2 {
		day, ok := wholeNumber(list[0])
		if ok && day >= 0 && day <= 6 {
			if len(list) == 1 || list[1] == nil {
				return &WeekdayRule{Day: day}, nil
			}
			if n, ok := wholeNumber(list[1]); ok && n != 0 {
				return &WeekdayRule{Day: day, N: n}, nil
			}
		}
	}
	return nil, fmt.Errorf("relativedelta weekday: expected [0-6] or [0-6, n] with n not 0, got %v", v)
}

// normalize carries every part that exceeds its unit, keeping its sign.
func (r *RelativeDelta) normalize() {
	carry := func(from, to *int, unit int) {
		if *from <= -unit || *from >= unit {
			*to += *from / unit
			*from %= unit
		}
	}
	carry(&r.Microseconds, &r.Seconds, 1000000)
	carry(&r.Seconds, &r.Minutes, 60)
	carry(&r.Minutes, &r.Hours, 60)
	carry(&r.Hours, &r.Days, 24)
	carry(&r.Months, &r.Years, 12)
}

// negated is the distance back: the added parts change sign.
func (r RelativeDelta) negated() RelativeDelta {
	r.Years, r.Months, r.Days = -r.Years, -r.Months, -r.Days
	r.Hours, r.Minutes, r.Seconds, r.Microseconds = -r.Hours, -r.Minutes, -r.Seconds, -r.Microseconds
	return r
}

// addTo moves t on its own wall clock: years and months keep the day unless the
// month is too short, then days and shorter units are added.
func (r *RelativeDelta) addTo(t time.Time) (time.Time, error) {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	micro := t.Nanosecond() / 1000
	y := orInt(r.Year, year) + r.Years
	m := orInt(r.Month, int(month)) + r.Months
	if m > 12 {
		y, m = y+1, m-12
	} else if m < 1 {
		y, m = y-1, m+12
	}
	if y < 1 || y > 9999 {
		return time.Time{}, &Error{Class: "ValueError", Message: fmt.Sprintf("year %d is out of range", y)}
	}
	length := time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	d := min(length, orInt(r.Day, day))
	h, mi, s := orInt(r.Hour, hour), orInt(r.Minute, minute), orInt(r.Second, second)
	us := orInt(r.Microsecond, micro)
	if m < 1 || m > 12 || d < 1 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 59 || us < 0 || us > 999999 {
		return time.Time{}, &Error{Class: "ValueError", Message: "a part of the relativedelta is out of range"}
	}
	days := r.Days
	if r.LeapDays != 0 && m > 2 && length29(y) {
		days += r.LeapDays
	}
	base := time.Date(y, time.Month(m), d, h, mi, s, us*1000, t.Location())
	micros := int64(days)*86400e6 + int64(r.Hours)*3600e6 + int64(r.Minutes)*60e6 + int64(r.Seconds)*1e6 + int64(r.Microseconds)
	out, err := addMicros(base, micros)
	if err != nil || r.Weekday == nil {
		return out, err
	}
	n := r.Weekday.N
	if n == 0 {
		n = 1
	}
	now := (int(out.Weekday()) + 6) % 7
	jump := (r.Weekday.Day - now + 7) % 7
	if n > 0 {
		jump += (n - 1) * 7
	} else {
		jump = -((now-r.Weekday.Day+7)%7 + (-n-1)*7)
	}
	return addMicros(out, int64(jump)*86400e6)
}

func length29(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func orInt(p *int, v int) int {
	if p != nil {
		return *p
	}
	return v
}

// addMicros is t + timedelta; Python knows the years 1 to 9999 only.
func addMicros(t time.Time, micros int64) (time.Time, error) {
	sec, rest := micros/1e6, micros%1e6
	out := time.Unix(t.Unix()+sec, int64(t.Nanosecond())+rest*1000).In(t.Location())
	if y := out.Year(); y < 1 || y > 9999 {
		return time.Time{}, &Error{Class: "OverflowError", Message: "date value out of range"}
	}
	return out, nil
}

// after returns t + d in t's zone.
func (d Delta) after(t time.Time) (time.Time, error) {
	if d.Relative != nil {
		return d.Relative.addTo(t)
	}
	if d.Micros == 0 {
		return t, nil
	}
	return addMicros(t, d.Micros)
}

// before returns t - d in t's zone.
func (d Delta) before(t time.Time) (time.Time, error) {
	if d.Relative != nil {
		back := d.Relative.negated()
		return back.addTo(t)
	}
	if d.Micros == 0 {
		return t, nil
	}
	return addMicros(t, -d.Micros)
}

// seconds is the length used to round to the epoch grid; calendar parts count
// as 30 and 365 days.
func (d Delta) seconds() float64 {
	if r := d.Relative; r != nil {
		return float64(r.Years*365*86400 + r.Months*30*86400 + r.Days*86400 + r.Hours*3600 + r.Minutes*60 + r.Seconds)
	}
	return float64(d.Micros) / 1e6
}

// String is Python's str(): "1:30:00", "14 days, 0:00:00" or
// "relativedelta(months=+1)".
func (d Delta) String() string {
	if d.Relative != nil {
		return d.Relative.String()
	}
	days := floorDiv(d.Micros, 86400e6)
	rest := d.Micros - days*86400e6
	text := ""
	if days != 0 {
		plural := "s"
		if days == 1 || days == -1 {
			plural = ""
		}
		text = fmt.Sprintf("%d day%s, ", days, plural)
	}
	sec := rest / 1e6
	text += fmt.Sprintf("%d:%02d:%02d", sec/3600, sec/60%60, sec%60)
	if us := rest % 1e6; us != 0 {
		text += fmt.Sprintf(".%06d", us)
	}
	return text
}

// repr is Python's repr().
func (d Delta) repr() string {
	if d.Relative != nil {
		return d.Relative.String()
	}
	days := floorDiv(d.Micros, 86400e6)
	rest := d.Micros - days*86400e6
	var parts []string
	for _, p := range []struct {
		name  string
		value int64
	}{{"days", days}, {"seconds", rest / 1e6}, {"microseconds", rest % 1e6}} {
		if p.value != 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", p.name, p.value))
		}
	}
	if len(parts) == 0 {
		parts = []string{"0"}
	}
	return "datetime.timedelta(" + strings.Join(parts, ", ") + ")"
}

var weekdayAbbreviations = [...]string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}

// String is Python's repr(), which for a relativedelta is also its str().
func (r *RelativeDelta) String() string {
	var parts []string
	for _, p := range []struct {
		name  string
		value int
	}{
		{"years", r.Years}, {"months", r.Months}, {"days", r.Days}, {"leapdays", r.LeapDays},
		{"hours", r.Hours}, {"minutes", r.Minutes}, {"seconds", r.Seconds}, {"microseconds", r.Microseconds},
	} {
		if p.value != 0 {
			text := strconv.FormatFloat(float64(p.value), 'g', 6, 64)
			if p.value > 0 {
				text = "+" + text
			}
			parts = append(parts, p.name+"="+text)
		}
	}
	replace := func(name string, v *int) {
		if v != nil {
			parts = append(parts, fmt.Sprintf("%s=%d", name, *v))
		}
	}
	replace("year", r.Year)
	replace("month", r.Month)
	replace("day", r.Day)
	if w := r.Weekday; w != nil {
		text := "weekday=" + weekdayAbbreviations[w.Day]
		if w.N != 0 {
			text += fmt.Sprintf("(%+d)", w.N)
		}
		parts = append(parts, text)
	}
	replace("hour", r.Hour)
	replace("minute", r.Minute)
	replace("second", r.Second)
	replace("microsecond", r.Microsecond)
	return "relativedelta(" + strings.Join(parts, ", ") + ")"
}

// serialize returns seconds, or the parts of a relativedelta that are not zero:
// Airflow drops a replacing part of 0 too, so hour=0 does not reach the
// scheduler.
func (d Delta) serialize() any {
	r := d.Relative
	if r == nil {
		return float64(d.Micros) / 1e6
	}
	out := map[string]any{}
	add := func(name string, v int) {
		if v != 0 {
			out[name] = v
		}
	}
	add("years", r.Years)
	add("months", r.Months)
	add("days", r.Days)
	add("leapdays", r.LeapDays)
	add("hours", r.Hours)
	add("minutes", r.Minutes)
	add("seconds", r.Seconds)
	add("microseconds", r.Microseconds)
	add("year", orInt(r.Year, 0))
	add("month", orInt(r.Month, 0))
	add("day", orInt(r.Day, 0))
	add("hour", orInt(r.Hour, 0))
	add("minute", orInt(r.Minute, 0))
	add("second", orInt(r.Second, 0))
	add("microsecond", orInt(r.Microsecond, 0))
	if w := r.Weekday; w != nil {
		out["weekday"] = []any{w.Day}
		if w.N != 0 {
			out["weekday"] = []any{w.Day, w.N}
		}
	}
	return out
}

// parseDelta reads what serialize wrote.
func parseDelta(v any) (Delta, error) {
	if args, ok := v.(map[string]any); ok {
		r, err := NewRelativeDelta(args)
		return Delta{Relative: r}, err
	}
	if s, ok := number(v); ok {
		return Seconds(s), nil
	}
	return Delta{}, fmt.Errorf("expected seconds or the fields of a relativedelta, got %v", v)
}

// checkPositive is the load-time check of a delta schedule; the calendar parts
// are tried on now.
func (d Delta) checkPositive(now time.Time) error {
	next, err := d.after(now)
	if err != nil {
		return withStage(err, StageValidate)
	}
	if !next.After(now) {
		return &Error{
			Stage: StageValidate, Class: "AirflowTimetableInvalid",
			Message: "schedule interval must be positive, not " + d.repr(),
		}
	}
	return nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
