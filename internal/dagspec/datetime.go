package dagspec

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// date is a datetime.date.
type date struct{ y, m, d int }

func (d *date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.y, d.m, d.d) }
func (d *date) repr() string   { return fmt.Sprintf("datetime.date(%d, %d, %d)", d.y, d.m, d.d) }

// timeOfDay is a naive datetime.time.
type timeOfDay struct{ h, mi, s, us int }

func (t *timeOfDay) String() string {
	s := fmt.Sprintf("%02d:%02d:%02d", t.h, t.mi, t.s)
	if t.us != 0 {
		s += fmt.Sprintf(".%06d", t.us)
	}
	return s
}

// timezone is a tzinfo: an IANA zone (loc) or a fixed offset in seconds.
type timezone struct {
	name     string
	loc      *time.Location // nil for a fixed offset
	offset   int
	pendulum bool // a pendulum zone rather than datetime.timezone
}

var utcZone = &timezone{name: "UTC", loc: time.UTC, pendulum: true}

// datetime is a datetime.datetime or a pendulum.DateTime.
type datetime struct {
	date
	timeOfDay
	zone     *timezone // nil = naive
	fold     int
	pendulum bool
}

func (t *datetime) wall() time.Time {
	return time.Date(t.y, time.Month(t.m), t.d, t.h, t.mi, t.s, t.us*1000, time.UTC)
}

// utc returns the instant; a naive datetime counts as UTC.
func (t *datetime) utc() time.Time {
	w := t.wall()
	if t.zone == nil {
		return w
	}
	return w.Add(-time.Duration(t.zone.offsetAt(w, t.fold)) * time.Second)
}

// offsetAt returns the offset in seconds at a wall clock, with Python's rules
// for the fold and for times that do not exist.
func (z *timezone) offsetAt(wall time.Time, fold int) int {
	if z.loc == nil {
		return z.offset
	}
	at := func(t time.Time) int { _, o := t.In(z.loc).Zone(); return o }
	before, after := at(wall.Add(-26*time.Hour)), at(wall.Add(26*time.Hour))
	first := at(wall.Add(-time.Duration(before)*time.Second)) == before
	last := at(wall.Add(-time.Duration(after)*time.Second)) == after
	switch {
	case before == after:
		o := at(wall.Add(-time.Duration(before) * time.Second))
		return o
	case first && last:
		if fold == 1 {
			return after
		}
		return before
	case first:
		return before
	case last:
		return after
	case fold == 1:
		return after
	}
	return before // in a gap
}

func (t *datetime) offsetText() string {
	if t.zone == nil {
		return ""
	}
	o := t.zone.offsetAt(t.wall(), t.fold)
	sign := byte('+')
	if o < 0 {
		sign, o = '-', -o
	}
	s := fmt.Sprintf("%c%02d:%02d", sign, o/3600, o/60%60)
	if o%60 != 0 {
		s += fmt.Sprintf(":%02d", o%60)
	}
	return s
}

func (t *datetime) iso(sep string) string {
	return t.date.String() + sep + t.timeOfDay.String() + t.offsetText()
}

func (t *datetime) String() string { return t.iso(" ") }

func (t *datetime) repr() string {
	s := fmt.Sprintf("datetime.datetime(%d, %d, %d, %d, %d", t.y, t.m, t.d, t.h, t.mi)
	if t.pendulum {
		s = fmt.Sprintf("DateTime(%d, %d, %d, %d, %d, %d", t.y, t.m, t.d, t.h, t.mi, t.s)
	} else if t.s != 0 || t.us != 0 {
		s += fmt.Sprintf(", %d", t.s)
	}
	if t.us != 0 {
		s += fmt.Sprintf(", %d", t.us)
	}
	if z := t.zone; z != nil {
		s += ", tzinfo=" + z.repr()
	}
	return s + ")"
}

func (z *timezone) repr() string {
	switch {
	case z.pendulum:
		return "Timezone('" + z.name + "')"
	case z.offset == 0:
		return "datetime.timezone.utc"
	}
	return "datetime.timezone(" + secondsDelta(int64(z.offset)).repr() + ")"
}

// timedelta is normalised as Python's: 0 ≤ seconds < 86400, 0 ≤ us < 1e6.
type timedelta struct{ days, seconds, us int64 }

func secondsDelta(s int64) *timedelta { d, _ := newTimedelta(0, s, 0); return d }

func newTimedelta(days, seconds, us int64) (*timedelta, error) {
	carry := func(x *int64, up *int64, unit int64) {
		q := *x / unit
		if *x%unit < 0 {
			q--
		}
		*x -= q * unit
		*up += q
	}
	carry(&us, &seconds, 1e6)
	carry(&seconds, &days, 86400)
	if days > 999999999 || days < -999999999 {
		return nil, pyErr("OverflowError", "days=%d; must have magnitude <= 999999999", days)
	}
	return &timedelta{days, seconds, us}, nil
}

// total returns the length in seconds.
func (t *timedelta) total() float64 {
	return float64(t.days*86400+t.seconds) + float64(t.us)/1e6
}

func (t *timedelta) duration() time.Duration {
	return time.Duration(t.days*86400+t.seconds)*time.Second + time.Duration(t.us)*time.Microsecond
}

func (t *timedelta) String() string {
	var b strings.Builder
	if t.days != 0 {
		fmt.Fprintf(&b, "%d day", t.days)
		if t.days != 1 && t.days != -1 {
			b.WriteByte('s')
		}
		b.WriteString(", ")
	}
	fmt.Fprintf(&b, "%d:%02d:%02d", t.seconds/3600, t.seconds/60%60, t.seconds%60)
	if t.us != 0 {
		fmt.Fprintf(&b, ".%06d", t.us)
	}
	return b.String()
}

func (t *timedelta) repr() string {
	var parts []string
	for _, p := range []struct {
		name string
		v    int64
	}{{"days", t.days}, {"seconds", t.seconds}, {"microseconds", t.us}} {
		if p.v != 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", p.name, p.v))
		}
	}
	if parts == nil {
		parts = []string{"0"}
	}
	return "datetime.timedelta(" + strings.Join(parts, ", ") + ")"
}

// floatDelta makes a timedelta of a number of seconds.
func floatDelta(s float64) (*timedelta, error) {
	whole, frac := math.Modf(s)
	if math.Abs(whole) > 1e15 {
		return nil, pyErr("OverflowError", "timedelta of %v seconds is too long", s)
	}
	return newTimedelta(0, int64(whole), int64(math.RoundToEven(frac*1e6)))
}

// weekday is a dateutil weekday such as TU or FR(2); 0 is Monday.
type weekday struct {
	day int64
	n   value // int64 or nil
}

var weekdayShort = []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}

func (w *weekday) repr() string {
	if n, ok := w.n.(int64); ok && n != 0 {
		return fmt.Sprintf("%s(%+d)", weekdayShort[w.day], n)
	}
	return weekdayShort[w.day]
}

// relativedelta is a dateutil.relativedelta.relativedelta.
type relativedelta struct {
	years, months, days, leapdays, hours, minutes, seconds, microseconds int64
	abs                                                                  [7]value // year month day hour minute second microsecond
	weekday                                                              value
}

var relativeAbs = [7]string{"year", "month", "day", "hour", "minute", "second", "microsecond"}

func (r *relativedelta) relatives() []struct {
	name string
	v    int64
} {
	return []struct {
		name string
		v    int64
	}{{"years", r.years}, {"months", r.months}, {"days", r.days}, {"leapdays", r.leapdays}, {"hours", r.hours}, {"minutes", r.minutes},
		{"seconds", r.seconds}, {"microseconds", r.microseconds}}
}

// fix carries over as dateutil does, by sign and magnitude.
func (r *relativedelta) fix() {
	carry := func(x, up *int64, unit int64) {
		if *x >= unit || *x <= -unit {
			*up += *x / unit
			*x %= unit
		}
	}
	carry(&r.microseconds, &r.seconds, 1e6)
	carry(&r.seconds, &r.minutes, 60)
	carry(&r.minutes, &r.hours, 60)
	carry(&r.hours, &r.days, 24)
	carry(&r.months, &r.years, 12)
}

func (r *relativedelta) hasTime() int64 {
	if r.hours != 0 || r.minutes != 0 || r.seconds != 0 || r.microseconds != 0 {
		return 1
	}
	for _, v := range r.abs[3:] {
		if v != nil {
			return 1
		}
	}
	return 0
}

func (r *relativedelta) repr() string {
	var parts []string
	for _, p := range r.relatives() {
		if p.v != 0 {
			parts = append(parts, fmt.Sprintf("%s=%+d", p.name, p.v))
		}
	}
	for i, v := range r.abs {
		if v != nil {
			parts = append(parts, relativeAbs[i]+"="+pyRepr(v))
		}
	}
	if r.weekday != nil {
		parts = append(parts, "weekday="+pyRepr(r.weekday))
	}
	return "relativedelta(" + strings.Join(parts, ", ") + ")"
}

// loadZone is pendulum.timezone(name).
func (l *loader) loadZone(v value) (*timezone, error) {
	name, ok := v.(string)
	if !ok {
		return nil, pyErr("TypeError", "timezone must be the name of a time zone, not %s", typeName(v))
	}
	if z, ok := l.zones[name]; ok {
		return z, nil
	}
	if strings.EqualFold(name, "UTC") {
		return utcZone, nil
	}
	if name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "..") {
		return nil, pyErr("ValueError", "ZoneInfo keys must be normalized relative paths, got: %s", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, pyErr("InvalidTimezone", "%s", name).hint("expected an IANA time zone such as Europe/Berlin")
	}
	z := &timezone{name: name, loc: loc, pendulum: true}
	l.zones[name] = z
	return z, nil
}

// relativeTime reads "2 hours", "3 day" …: dag-factory's one pattern of
// optional parts in the order hour, minute, second, day.
var relativePattern = regexp.MustCompile(`(?i)^(?:(\d+?)\s+hour)?(?:(\d+?)\s+minute)?(?:(\d+?)\s+second)?(?:(\d+?)\s+day)?`)

func relativeTime(s string) (*timedelta, error) {
	m := relativePattern.FindStringSubmatch(s)
	if m == nil || m[1]+m[2]+m[3]+m[4] == "" {
		return nil, pyErr("DagFactoryException", "Invalid relative time: %s", s).
			hint("expected a date such as 2025-03-01, a date and time such as 2025-03-01T10:00, or a time before today such as 2 days")
	}
	n := [5]int64{}
	for i := 1; i < 5; i++ {
		if m[i] != "" {
			v, err := strconv.ParseInt(m[i], 10, 40)
			if err != nil {
				return nil, pyErr("OverflowError", "Python int too large to convert to C int")
			}
			n[i] = v
		}
	}
	return newTimedelta(n[4], n[1]*3600+n[2]*60+n[3], 0)
}

// getDatetime reads a start or end date: the zone of the value is replaced by
// zone, never converted; text that is no date is a time before today.
func (l *loader) getDatetime(v, zone value) (*datetime, error) {
	tz, err := l.loadZone(zone)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *datetime:
		d := *v
		d.zone = tz
		if d.pendulum {
			return d.normalised(), nil
		}
		return &d, nil
	case *date:
		return &datetime{date: *v, zone: tz}, nil
	case string:
		switch d, kind := parsePendulum(v, l.now); kind {
		case parsedDate:
			d.zone, d.pendulum, d.fold = tz, true, 1
			return d.normalised(), nil
		case parsedInterval, parsedDuration:
			what := map[parsedKind]string{parsedInterval: "Interval", parsedDuration: "Duration"}[kind]
			return nil, pyErr("AttributeError", "'%s' object has no attribute 'replace'", what).hint("expected one date, not a period")
		}
		delta, err := relativeTime(v)
		if err != nil {
			return nil, err
		}
		n := l.now.In(tz.loc)
		today := &datetime{date: date{n.Year(), int(n.Month()), n.Day()}, zone: tz, pendulum: true, fold: 1}
		t := today.wall().AddDate(0, 0, -int(delta.days))
		// Whole days move on the wall clock, smaller units in elapsed time, as pendulum subtracts.
		at := &datetime{date: date{t.Year(), int(t.Month()), t.Day()}, timeOfDay: timeOfDay{t.Hour(), t.Minute(), t.Second(), 0}, zone: tz, pendulum: true, fold: 1}
		u := at.normalised().utc().Add(-time.Duration(delta.seconds) * time.Second)
		return fromInstant(u, tz), nil
	}
	return nil, pyErr("TypeError", "'%s' object is not an instance of 'str'", typeName(v)).
		hint("expected a date, a date and time, or text; quote a bare year")
}

func fromInstant(u time.Time, tz *timezone) *datetime {
	w := u.In(tz.loc)
	d := &datetime{date: date{w.Year(), int(w.Month()), w.Day()}, timeOfDay: timeOfDay{w.Hour(), w.Minute(), w.Second(), w.Nanosecond() / 1000}, zone: tz, pendulum: true}
	if !d.utc().Equal(u) {
		d.fold = 1
	}
	return d
}

// normalised moves a pendulum wall time out of a gap.
func (t *datetime) normalised() *datetime {
	if t.zone == nil || t.zone.loc == nil {
		return t
	}
	w := t.wall()
	before := t.zone.offsetAt(w, 0)
	u := w.Add(-time.Duration(before) * time.Second)
	if _, o := u.In(t.zone.loc).Zone(); o != before { // does not exist: shift forward
		return fromInstant(u, t.zone)
	}
	return t
}

type parsedKind int

const (
	parsedNone parsedKind = iota
	parsedDate
	parsedDuration
	parsedInterval
)

var (
	isoDate  = `(?:(\d{4})-(\d{2})-(\d{2})|(\d{4})(\d{2})(\d{2})|(\d{4})-?W(\d{2})(?:-?(\d))?|(\d{4})-?(\d{3})|(\d{4})-(\d{2})|(\d{4}))`
	isoTime  = `(?:(\d{2})(?::(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?|(\d{2})(\d{2})(?:(\d{2})(?:[.,](\d{1,9}))?)?)`
	isoZone  = `(Z|[+-]\d{2}(?::?\d{2})?)?`
	isoFull  = regexp.MustCompile(`^` + isoDate + `(?:[T ]` + isoTime + isoZone + `)?$`)
	isoClock = regexp.MustCompile(`^T?(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?$`)
	slashed  = regexp.MustCompile(`^(\d{4})/(\d{2})/(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?$`)
	duration = regexp.MustCompile(`^P(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+(?:[.,]\d+)?S)?)?)$`)
)

// parsePendulum reads text as pendulum.parse does; the result is naive (the
// caller replaces its zone anyway).
func parsePendulum(s string, now time.Time) (*datetime, parsedKind) {
	if s == "now" {
		return fromInstant(now.UTC(), utcZone), parsedDate
	}
	if len(s) > 1 && duration.MatchString(s) {
		return nil, parsedDuration
	}
	if a, b, ok := strings.Cut(s, "/"); ok && !slashed.MatchString(s) {
		_, ka := parsePendulum(a, now)
		_, kb := parsePendulum(b, now)
		if ka != parsedNone && kb != parsedNone {
			return nil, parsedInterval
		}
		return nil, parsedNone
	}
	num := func(t string) int { n, _ := strconv.Atoi(t); return n }
	clock := func(d *datetime, h, mi, s, frac string) bool {
		if h == "" {
			return true
		}
		d.h, d.mi, d.s = num(h), num(mi), num(s)
		for len(frac) < 6 {
			frac += "0"
		}
		d.us = num(frac[:6])
		return d.h < 24 && d.mi < 60 && d.s < 60
	}
	if m := isoClock.FindStringSubmatch(s); m != nil {
		n := now.UTC()
		d := &datetime{date: date{n.Year(), int(n.Month()), n.Day()}}
		if !clock(d, m[1], m[2], m[3], m[4]) {
			return nil, parsedNone
		}
		return d, parsedDate
	}
	if m := slashed.FindStringSubmatch(s); m != nil {
		d := &datetime{date: date{num(m[1]), num(m[2]), num(m[3])}}
		if !d.valid() || !clock(d, m[4], m[5], m[6], m[7]) {
			return nil, parsedNone
		}
		return d, parsedDate
	}
	m := isoFull.FindStringSubmatch(s)
	if m == nil {
		return nil, parsedNone
	}
	d := &datetime{}
	extended := true
	switch {
	case m[1] != "":
		d.date = date{num(m[1]), num(m[2]), num(m[3])}
	case m[4] != "":
		d.date = date{num(m[4]), num(m[5]), num(m[6])}
		extended = false
	case m[7] != "":
		day := 1
		if m[9] != "" {
			day = num(m[9])
		}
		week := num(m[8])
		if week > 53 || day < 1 || day > 7 {
			return nil, parsedNone
		}
		jan4 := time.Date(num(m[7]), 1, 4, 0, 0, 0, 0, time.UTC)
		monday := jan4.AddDate(0, 0, -(int(jan4.Weekday())+6)%7)
		t := monday.AddDate(0, 0, (week-1)*7+day-1)
		d.date = date{t.Year(), int(t.Month()), t.Day()}
	case m[10] != "":
		t := time.Date(num(m[10]), 1, num(m[11]), 0, 0, 0, 0, time.UTC)
		if num(m[11]) == 0 || t.Year() != num(m[10]) {
			return nil, parsedNone
		}
		d.date = date{t.Year(), int(t.Month()), t.Day()}
	case m[12] != "":
		d.date = date{num(m[12]), num(m[13]), 1}
	default:
		d.date = date{num(m[14]), 1, 1}
	}
	if !d.valid() {
		return nil, parsedNone
	}
	compact := m[19] != ""
	if compact && extended || m[15] != "" && m[16] != "" && !extended && strings.Contains(s, "T") {
		return nil, parsedNone // basic and extended forms do not mix
	}
	h, mi, sec, frac := m[15], m[16], m[17], m[18]
	if compact {
		h, mi, sec, frac = m[19], m[20], m[21], m[22]
	}
	if !clock(d, h, mi, sec, frac) {
		return nil, parsedNone
	}
	if z := strings.ReplaceAll(m[23], ":", ""); len(z) >= 3 && num(z[1:3]) > 23 {
		return nil, parsedNone
	}
	return d, parsedDate
}

func (d *date) valid() bool {
	return d.y >= 1 && d.m >= 1 && d.m <= 12 && d.d >= 1 && d.d <= daysIn(d.y, d.m)
}

func daysIn(y, m int) int { return time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC).Day() }

// checkDate returns Python's ValueError for an impossible date.
func checkDate(y, m, d int) error {
	switch {
	case y < 1 || y > 9999:
		return pyErr("ValueError", "year %d is out of range", y)
	case m < 1 || m > 12:
		return pyErr("ValueError", "month must be in 1..12")
	case d < 1 || d > daysIn(y, m):
		return pyErr("ValueError", "day is out of range for month")
	}
	return nil
}

func checkTime(h, mi, s, us int) error {
	switch {
	case h < 0 || h > 23:
		return pyErr("ValueError", "hour must be in 0..23")
	case mi < 0 || mi > 59:
		return pyErr("ValueError", "minute must be in 0..59")
	case s < 0 || s > 59:
		return pyErr("ValueError", "second must be in 0..59")
	case us < 0 || us > 999999:
		return pyErr("ValueError", "microsecond must be in 0..999999")
	}
	return nil
}
