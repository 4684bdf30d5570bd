package jinja

import (
	"fmt"

	"strings"
	"time"
)

const (
	usPerSec = int64(1_000_000)
	usPerDay = 86400 * usPerSec
)

// DateTime is datetime.datetime, or pendulum.DateTime if pend is set. It is a
// wall time with an optional zone.
type DateTime struct {
	days int64 // since 1970-01-01
	us   int64 // of the day
	tz   *TZ
	fold int
	pend bool
}

// Date is datetime.date, or pendulum.Date.
type Date struct {
	days int64
	pend bool
}

// Time is datetime.time, or pendulum.Time.
type Time struct {
	us   int64
	tz   *TZ
	pend bool
}

// TimeDelta is datetime.timedelta, or pendulum.Duration.
type TimeDelta struct {
	us            int64
	pend          bool
	years, months int64
}

var (
	typeDateTime     = &Type{Module: "datetime", Name: "datetime"}
	typeDate         = &Type{Module: "datetime", Name: "date"}
	typeTime         = &Type{Module: "datetime", Name: "time"}
	typeTimeDelta    = &Type{Module: "datetime", Name: "timedelta"}
	typePendDateTime = &Type{Module: "pendulum.datetime", Name: "DateTime"}
	typePendDate     = &Type{Module: "pendulum.date", Name: "Date"}
	typePendTime     = &Type{Module: "pendulum.time", Name: "Time"}
	typeDuration     = &Type{Module: "pendulum.duration", Name: "Duration"}
)

// DateTimeOf converts a Go time: a pendulum DateTime in UTC, or a plain
// datetime in UTC.
func DateTimeOf(t time.Time, pendulum bool) *DateTime {
	t = t.UTC()
	sec := t.Unix()
	days := floorDiv(sec, 86400)
	d := &DateTime{days: days, us: (sec-days*86400)*usPerSec + int64(t.Nanosecond())/1000, tz: datetimeUTC, pend: pendulum}
	if pendulum {
		d.tz = UTC
	}
	return d
}

// WithTZ returns the same wall time with another zone object.
func (d *DateTime) WithTZ(z *TZ) *DateTime {
	c := *d
	c.tz = z
	return &c
}

// IsPendulum tells which of the two classes d is.
func (d *DateTime) IsPendulum() bool { return d.pend }

// Time is the instant; a naive value counts as UTC.
func (d *DateTime) Time() time.Time {
	return time.Unix(d.unix(), d.us%usPerSec*1000).UTC()
}

// ISO is isoformat().
func (d *DateTime) ISO() string { return d.isoformat("T") }

// ISO is isoformat().
func (d *Date) ISO() string { return d.isoformat() }

// IsPendulum tells which of the two classes d is.
func (d *Date) IsPendulum() bool { return d.pend }

// Seconds is total_seconds().
func (t *TimeDelta) Seconds() float64 { return float64(t.us) / 1e6 }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// civil converts days since the epoch to year, month, day.
func civil(days int64) (y, m, d int) {
	t := time.Unix(days*86400, 0).UTC()
	return t.Year(), int(t.Month()), t.Day()
}

func daysOf(y, m, d int) int64 {
	return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

var minDays, maxDays = func() (int64, int64) {
	return floorDiv(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), 86400), daysOf(9999, 12, 31)
}()

func isLeap(y int) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

func daysInMonth(y, m int) int {
	switch m {
	case 2:
		if isLeap(y) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func checkDate(y, m, d int64) int64 {
	switch {
	case y < 1 || y > 9999:
		valueError("year %d is out of range", y)
	case m < 1 || m > 12:
		valueError("month must be in 1..12")
	case d < 1 || d > int64(daysInMonth(int(y), int(m))):
		valueError("day is out of range for month")
	}
	return daysSince(int(y), int(m), int(d))
}

func daysSince(y, m, d int) int64 {
	return floorDiv(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC).Unix(), 86400)
}

func checkClock(h, m, s, us int64) int64 {
	switch {
	case h < 0 || h > 23:
		valueError("hour must be in 0..23")
	case m < 0 || m > 59:
		valueError("minute must be in 0..59")
	case s < 0 || s > 59:
		valueError("second must be in 0..59")
	case us < 0 || us > 999999:
		valueError("microsecond must be in 0..999999")
	}
	return ((h*60+m)*60+s)*usPerSec + us
}

func checkRange(days int64) {
	if days < minDays || days > maxDays {
		raise("OverflowError", "date value out of range")
	}
}

// wall is the wall time as if it were UTC, in seconds.
func (d *DateTime) wall() int64 { return d.days*86400 + d.us/usPerSec }

func (d *DateTime) ymd() (y, m, day int) { return civil(d.days) }

func (d *DateTime) clock() (h, m, s, us int) {
	t := d.us / usPerSec
	return int(t / 3600), int(t / 60 % 60), int(t % 60), int(d.us % usPerSec)
}

func (d *DateTime) offset() int {
	if d.tz == nil {
		return 0
	}
	return d.tz.utcoffset(d)
}

// unix is the instant in seconds; naive values count as UTC, the process zone.
func (d *DateTime) unix() int64 { return d.wall() - int64(d.offset()) }

// instant is the instant in microseconds.
func (d *DateTime) instant() int64 { return d.unix()*usPerSec + d.us%usPerSec }

// fromInstant makes the wall time of an instant in a zone.
func fromInstant(us int64, z *TZ, pend bool) *DateTime {
	sec := floorDiv(us, usPerSec)
	off := 0
	if z != nil {
		off = z.offsetAt(sec)
	}
	w := sec + int64(off)
	days := floorDiv(w, 86400)
	checkRange(days)
	d := &DateTime{days: days, us: (w-days*86400)*usPerSec + us - sec*usPerSec, tz: z, pend: pend}
	if z != nil && z.loc != nil {
		if o0, o1 := z.offsets(w); o0 != o1 && off == o1 {
			d.fold = 1
		}
	}
	return d
}

func (d *DateTime) inZone(z *TZ) *DateTime {
	if d.tz == nil {
		if d.pend || z.kind == TZPendulum {
			return (&DateTime{days: d.days, us: d.us, fold: 1}).resolve(z, d.pend)
		}
	}
	return fromInstant(d.instant(), z, d.pend)
}

// resolve gives a naive wall time a pendulum zone: a time in a gap moves
// forward by the gap, an ambiguous one is the later.
func (d *DateTime) resolve(z *TZ, pend bool) *DateTime {
	o0, o1 := z.offsets(d.wall())
	out := &DateTime{days: d.days, us: d.us, tz: z, pend: pend}
	if o1 > o0 {
		shift := int64(o1-o0) * usPerSec
		if d.fold == 0 {
			shift = -shift
		}
		n := addMicros(out, shift)
		n.fold = d.fold
		return n
	}
	out.fold = d.fold
	return out
}

// addMicros moves the wall time.
func addMicros(d *DateTime, us int64) *DateTime {
	n := *d
	t := d.us + us
	q := floorDiv(t, usPerDay)
	n.days, n.us, n.fold = d.days+q, t-q*usPerDay, 0
	checkRange(n.days)
	return &n
}

func (d *DateTime) equal(o *DateTime) bool {
	if (d.tz == nil) != (o.tz == nil) {
		return false
	}
	return d.instantCmp(o) == 0
}

func (d *DateTime) instantCmp(o *DateTime) int {
	if d.tz == nil || d.tz == o.tz && d.tz.loc == nil {
		return cmpInt(d.days*usPerDay+d.us, o.days*usPerDay+o.us)
	}
	return cmpInt(d.instant(), o.instant())
}

func (d *DateTime) compare(o *DateTime) int {
	if (d.tz == nil) != (o.tz == nil) {
		typeError("can't compare offset-naive and offset-aware datetimes")
	}
	return d.instantCmp(o)
}

func (d *DateTime) hashText() string {
	if d.tz == nil {
		return "naive" + d.isoformat("T")
	}
	return fmt.Sprint(d.instant())
}

func clockText(us int64, spec string) string {
	t := us / usPerSec
	h, m, s, micro := t/3600, t/60%60, t%60, us%usPerSec
	switch spec {
	case "hours":
		return fmt.Sprintf("%02d", h)
	case "minutes":
		return fmt.Sprintf("%02d:%02d", h, m)
	case "milliseconds":
		return fmt.Sprintf("%02d:%02d:%02d.%03d", h, m, s, micro/1000)
	case "seconds":
		return fmt.Sprintf("%02d:%02d:%02d", h, m, s)
	case "auto", "microseconds":
		if micro != 0 || spec == "microseconds" {
			return fmt.Sprintf("%02d:%02d:%02d.%06d", h, m, s, micro)
		}
		return fmt.Sprintf("%02d:%02d:%02d", h, m, s)
	}
	valueError("Unknown timespec value")
	return ""
}

func (d *DateTime) isoformat(sep string) string { return d.isoSpec(sep, "auto") }

func (d *DateTime) isoSpec(sep, spec string) string {
	y, m, day := d.ymd()
	s := fmt.Sprintf("%04d-%02d-%02d%s%s", y, m, day, sep, clockText(d.us, spec))
	if d.tz != nil {
		s += offsetText(d.offset(), ":")
	}
	return s
}

// PyType is the class.
func (d *DateTime) PyType() *Type {
	if d.pend {
		return typePendDateTime
	}
	return typeDateTime
}

// PyStr is str().
func (d *DateTime) PyStr() string { return d.isoformat(" ") }

// PyRepr is repr().
func (d *DateTime) PyRepr() string {
	y, mo, day := d.ymd()
	h, m, s, us := d.clock()
	var b strings.Builder
	if d.pend {
		fmt.Fprintf(&b, "DateTime(%d, %d, %d, %d, %d, %d", y, mo, day, h, m, s)
		if us != 0 {
			fmt.Fprintf(&b, ", %d", us)
		}
	} else {
		fmt.Fprintf(&b, "datetime.datetime(%d, %d, %d, %d, %d", y, mo, day, h, m)
		if s != 0 || us != 0 {
			fmt.Fprintf(&b, ", %d", s)
		}
		if us != 0 {
			fmt.Fprintf(&b, ", %d", us)
		}
	}
	if d.tz != nil && !d.pend {
		if d.fold == 1 {
			b.WriteString(", fold=1")
		}
		b.WriteString(", tzinfo=" + d.tz.PyRepr())
	} else if d.tz != nil {
		b.WriteString(", tzinfo=" + d.tz.PyRepr())
	}
	b.WriteByte(')')
	return b.String()
}

// pyFormat is format(d, spec): pendulum tokens unless there is a "%".
func (d *DateTime) pyFormat(spec string) string {
	if d.pend && !strings.Contains(spec, "%") {
		return pendFormat(d, spec)
	}
	return strftime(d, spec)
}

// Attr gives an attribute or method.
func (d *DateTime) Attr(name string) (Value, bool, error) {
	if d.pend {
		if v, ok := pendAttr(d, name); ok {
			return v, true, nil
		}
	}
	y, mo, day := d.ymd()
	h, m, s, us := d.clock()
	switch name {
	case "year":
		return int64(y), true, nil
	case "month":
		return int64(mo), true, nil
	case "day":
		return int64(day), true, nil
	case "hour":
		return int64(h), true, nil
	case "minute":
		return int64(m), true, nil
	case "second":
		return int64(s), true, nil
	case "microsecond":
		return int64(us), true, nil
	case "fold":
		return int64(d.fold), true, nil
	case "tzinfo":
		if d.tz == nil {
			return nil, true, nil
		}
		return d.tz, true, nil
	}
	if v, ok := datetimeMethods.get(d, name, !d.pend); ok {
		return v, true, nil
	}
	return classAttr(typeDateTime, name)
}

// classAttr looks an attribute up on the class (class methods).
func classAttr(t *Type, name string) (Value, bool, error) {
	v, ok := t.Statics[name]
	return v, ok, nil
}

// --- date -----------------------------------------------------------------

func (d *Date) isoformat() string {
	y, m, day := civil(d.days)
	return fmt.Sprintf("%04d-%02d-%02d", y, m, day)
}

// PyType is the class.
func (d *Date) PyType() *Type {
	if d.pend {
		return typePendDate
	}
	return typeDate
}

// PyStr is str().
func (d *Date) PyStr() string { return d.isoformat() }

// PyRepr is repr().
func (d *Date) PyRepr() string {
	y, m, day := civil(d.days)
	if d.pend {
		return fmt.Sprintf("Date(%d, %d, %d)", y, m, day)
	}
	return fmt.Sprintf("datetime.date(%d, %d, %d)", y, m, day)
}

func (d *Date) pyFormat(spec string) string {
	if d.pend && !strings.Contains(spec, "%") {
		return pendFormat(d.midnight(), spec)
	}
	return strftime(d.midnight(), spec)
}

// midnight is the naive start of the day, for code shared with DateTime.
func (d *Date) midnight() *DateTime { return &DateTime{days: d.days, pend: d.pend} }

// Attr gives an attribute or method.
func (d *Date) Attr(name string) (Value, bool, error) {
	if d.pend {
		if v, ok := pendDateAttr(d, name); ok {
			return v, true, nil
		}
	}
	y, m, day := civil(d.days)
	switch name {
	case "year":
		return int64(y), true, nil
	case "month":
		return int64(m), true, nil
	case "day":
		return int64(day), true, nil
	}
	if v, ok := dateMethods.get(d, name, !d.pend); ok {
		return v, true, nil
	}
	return classAttr(typeDate, name)
}

// --- time -----------------------------------------------------------------

func (t *Time) isoformat() string {
	s := clockText(t.us, "auto")
	if t.tz != nil && t.tz.loc == nil { // without a date a zone has no offset
		s += offsetText(t.tz.offset, ":")
	}
	return s
}

// PyType is the class.
func (t *Time) PyType() *Type {
	if t.pend {
		return typePendTime
	}
	return typeTime
}

// PyStr is str().
func (t *Time) PyStr() string { return t.isoformat() }

// PyRepr is repr().
func (t *Time) PyRepr() string {
	x := t.us / usPerSec
	us := t.us % usPerSec
	var s string
	if t.pend {
		s = fmt.Sprintf("Time(%d, %d, %d", x/3600, x/60%60, x%60)
	} else {
		s = fmt.Sprintf("datetime.time(%d, %d", x/3600, x/60%60)
		if x%60 != 0 || us != 0 {
			s += fmt.Sprintf(", %d", x%60)
		}
	}
	if us != 0 {
		s += fmt.Sprintf(", %d", us)
	}
	if t.tz != nil {
		s += ", tzinfo=" + t.tz.PyRepr()
	}
	return s + ")"
}

func (t *Time) pyFormat(spec string) string {
	return strftime(&DateTime{days: daysOf(1900, 1, 1), us: t.us, tz: t.tz}, spec)
}

// PyBool is true even at midnight.
func (t *Time) PyBool() bool { return true }

// Attr gives an attribute or method.
func (t *Time) Attr(name string) (Value, bool, error) {
	x := t.us / usPerSec
	switch name {
	case "hour":
		return x / 3600, true, nil
	case "minute":
		return x / 60 % 60, true, nil
	case "second":
		return x % 60, true, nil
	case "microsecond":
		return t.us % usPerSec, true, nil
	case "fold":
		return int64(0), true, nil
	case "tzinfo":
		if t.tz == nil {
			return nil, true, nil
		}
		return t.tz, true, nil
	}
	v, ok := timeMethods.get(t, name, !t.pend)
	return v, ok, nil
}

// --- timedelta ------------------------------------------------------------

func (t *TimeDelta) with(us int64) *TimeDelta {
	c := &TimeDelta{us: us, pend: t.pend}
	if us == -t.us {
		c.years, c.months = -t.years, -t.months
	}
	return c
}

func (t *TimeDelta) split() (days, secs, us int64) {
	days = floorDiv(t.us, usPerDay)
	rest := t.us - days*usPerDay
	return days, rest / usPerSec, rest % usPerSec
}

// PyType is the class.
func (t *TimeDelta) PyType() *Type {
	if t.pend {
		return typeDuration
	}
	return typeTimeDelta
}

// PyBool is false for no time at all.
func (t *TimeDelta) PyBool() bool { return t.us != 0 }

// PyStr is str().
func (t *TimeDelta) PyStr() string {
	if t.pend {
		return durationWords(t)
	}
	days, secs, us := t.split()
	s := fmt.Sprintf("%d:%02d:%02d", secs/3600, secs/60%60, secs%60)
	if us != 0 {
		s += fmt.Sprintf(".%06d", us)
	}
	if days != 0 {
		p := "s"
		if days == 1 || days == -1 {
			p = ""
		}
		s = fmt.Sprintf("%d day%s, %s", days, p, s)
	}
	return s
}

// PyRepr is repr().
func (t *TimeDelta) PyRepr() string {
	if t.pend {
		return durationRepr(t)
	}
	days, secs, us := t.split()
	var parts []string
	if days != 0 {
		parts = append(parts, fmt.Sprintf("days=%d", days))
	}
	if secs != 0 {
		parts = append(parts, fmt.Sprintf("seconds=%d", secs))
	}
	if us != 0 {
		parts = append(parts, fmt.Sprintf("microseconds=%d", us))
	}
	if len(parts) == 0 {
		parts = []string{"0"}
	}
	return "datetime.timedelta(" + strings.Join(parts, ", ") + ")"
}

// Attr gives an attribute or method.
func (t *TimeDelta) Attr(name string) (Value, bool, error) {
	if t.pend {
		if v, ok := durationAttr(t, name); ok {
			return v, true, nil
		}
	}
	days, secs, us := t.split()
	switch name {
	case "days":
		return days, true, nil
	case "seconds":
		return secs, true, nil
	case "microseconds":
		return us, true, nil
	case "total_seconds":
		return fn(name, "", func(*Eval, Bound) Value { return t.Seconds() }), true, nil
	}
	return classAttr(typeTimeDelta, name)
}

func asDateTime(v Value) *DateTime {
	v = unwrap(v)
	if d, ok := v.(*DateTime); ok {
		return d
	}
	if u, ok := v.(*Undefined); ok {
		u.fail()
	}
	typeError("expected a datetime, got '%s'", typeName(v))
	return nil
}
