package jinja

import (
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// pendMethods are the methods that pendulum.DateTime adds to datetime or
// replaces; pendDateMethods those of pendulum.Date.
var (
	pendMethods     = methodTable{}
	pendDateMethods = methodTable{}
)

// pendAttr gives an attribute that pendulum adds.
func pendAttr(d *DateTime, name string) (Value, bool) {
	switch name {
	case "tz", "timezone":
		if d.tz == nil {
			return nil, true
		}
		return d.tz, true
	case "timezone_name":
		if d.tz == nil {
			return nil, true
		}
		return d.tz.PyStr(), true
	case "offset":
		if d.tz == nil {
			return nil, true
		}
		return int64(d.offset()), true
	case "offset_hours":
		if d.tz == nil {
			return nil, true
		}
		return float64(d.offset()) / 3600, true
	case "int_timestamp":
		return d.unix(), true
	case "float_timestamp":
		return timestampOf(d), true
	}
	if v, ok := pendField(d.days, name); ok {
		return v, true
	}
	return pendMethods.get(d, name, false)
}

// pendField gives the calendar properties common to Date and DateTime.
func pendField(days int64, name string) (Value, bool) {
	y, m, day := civil(days)
	switch name {
	case "day_of_week":
		return int64(weekday(days)), true
	case "day_of_year":
		return int64(yearDay(days)), true
	case "week_of_year":
		_, w, _ := isoCalendar(days)
		return int64(w), true
	case "week_of_month":
		first := weekday(daysSince(y, m, 1))
		return int64((day + first + 6) / 7), true
	case "days_in_month":
		return int64(daysInMonth(y, m)), true
	case "quarter":
		return int64((m + 2) / 3), true
	}
	return nil, false
}

func pendDateAttr(d *Date, name string) (Value, bool) {
	if v, ok := pendField(d.days, name); ok {
		return v, true
	}
	return pendDateMethods.get(d, name, false)
}

// create makes a pendulum DateTime of a wall time as DateTime.create does: of
// two times with the same clock it is the later.
func create(days, us int64, z *TZ) *DateTime { return createFold(days, us, z, 1) }

// move makes a DateTime of another wall time as replace() does, which keeps
// the fold.
func (d *DateTime) move(days, us int64) *DateTime { return createFold(days, us, d.tz, d.fold) }

func createFold(days, us int64, z *TZ, fold int) *DateTime {
	checkRange(days)
	d := &DateTime{days: days, us: us, fold: fold}
	if z == nil {
		d.fold = 0
		d.pend = true
		return d
	}
	return d.resolve(z, true)
}

// span is the amount that add() moves by.
type span struct {
	years, months int64
	days          int64 // weeks included
	us            int64 // hours and below
	dateUnits     bool
	timeUnits     bool
}

// spanOf reads years, months, weeks, days, hours, minutes, seconds and
// microseconds from consecutive parameters.
func spanOf(b Bound, sign int64, date bool) span {
	s := span{}
	get := func(i int) Value { return unwrap(b.Or(i, int64(0))) }
	s.years, s.months = sign*argInt(get(0)), sign*argInt(get(1))
	whole := makeDelta([]int64{7 * usPerDay, usPerDay}, []Value{get(2), get(3)}) * sign
	s.dateUnits = isTrue(get(0)) || isTrue(get(1)) || isTrue(get(2)) || isTrue(get(3))
	if date {
		s.days = floorDiv(whole, usPerDay)
		return s
	}
	s.us = sign * makeDelta([]int64{3600 * usPerSec, 60 * usPerSec, usPerSec, 1}, []Value{get(4), get(5), get(6), get(7)})
	s.us += whole % usPerDay
	s.days = whole / usPerDay
	return s
}

// addMonths moves a date by months, keeping the day where the month has it.
func addMonths(days, years, months int64) int64 {
	y, m, d := civil(days)
	t := int64(y)*12 + int64(m) - 1 + years*12 + months
	ny, nm := floorDiv(t, 12), t-floorDiv(t, 12)*12+1
	if ny < 1 || ny > 9999 {
		valueError("year %d is out of range", ny)
	}
	return daysSince(int(ny), int(nm), min(d, daysInMonth(int(ny), int(nm))))
}

func (d *DateTime) addSpan(s span) *DateTime {
	if !s.dateUnits && d.tz != nil {
		n := fromInstant(d.instant()+s.us, d.tz, true)
		return n
	}
	w := &DateTime{days: d.days, us: d.us}
	if s.years != 0 || s.months != 0 {
		w.days = addMonths(w.days, s.years, s.months)
	}
	if s.days > 4e6 || s.days < -4e6 {
		raise("OverflowError", "date value out of range")
	}
	w.days += s.days
	checkRange(w.days)
	w = addMicros(w, s.us)
	return create(w.days, w.us, d.tz)
}

// startOf is start_of(); ok false for an unknown unit.
func (d *DateTime) startOf(unit string) (*DateTime, bool) {
	y, m, _ := d.ymd()
	days, us := d.days, int64(0)
	switch unit {
	case "second":
		us = d.us - d.us%usPerSec
	case "minute":
		us = d.us - d.us%(60*usPerSec)
	case "hour":
		us = d.us - d.us%(3600*usPerSec)
	case "day":
	case "week":
		days -= int64(weekday(days))
	case "month":
		days = daysSince(y, m, 1)
	case "year":
		days = daysSince(y, 1, 1)
	case "decade":
		days = daysSince(max(1, y-y%10), 1, 1)
	case "century":
		days = daysSince((y-1)-(y-1)%100+1, 1, 1)
	default:
		return nil, false
	}
	return d.move(days, us), true
}

func (d *DateTime) endOf(unit string) (*DateTime, bool) {
	y, m, _ := d.ymd()
	days, us := d.days, usPerDay-1
	switch unit {
	case "second":
		us = d.us - d.us%usPerSec + usPerSec - 1
	case "minute":
		us = d.us - d.us%(60*usPerSec) + 60*usPerSec - 1
	case "hour":
		us = d.us - d.us%(3600*usPerSec) + 3600*usPerSec - 1
	case "day":
	case "week":
		days += int64(6 - weekday(days))
	case "month":
		days = daysSince(y, m, daysInMonth(y, m))
	case "year":
		days = daysSince(y, 12, 31)
	case "decade":
		days = daysSince(y-y%10+9, 12, 31)
	case "century":
		days = daysSince((y-1)-(y-1)%100+100, 12, 31)
	default:
		return nil, false
	}
	return d.move(days, us), true
}

func weekdayArg(v Value, def int) int {
	v = unwrap(v)
	if v == nil {
		return def
	}
	n := argInt(v)
	if n < 0 || n > 6 {
		valueError("Invalid day of week")
	}
	return int(n)
}

func (d *DateTime) midnight() *DateTime { return create(d.days, 0, d.tz) }

func (d *DateTime) onDays(days int64) *DateTime { return d.move(days, d.us) }

// seek moves to the next or previous given weekday.
func (d *DateTime) seek(dow int, dir int64, keep bool) *DateTime {
	days := d.days + dir
	for weekday(days) != dow {
		days += dir
	}
	if keep {
		return create(days, d.us, d.tz)
	}
	return create(days, 0, d.tz)
}

// edgeOf is first_of (last false) and last_of.
func (d *DateTime) edgeOf(unit string, dow Value, last bool) *DateTime {
	y, m, _ := d.ymd()
	lo, hi := m, m
	switch unit {
	case "month":
	case "quarter":
		lo = (m-1)/3*3 + 1
		hi = lo + 2
	case "year":
		lo, hi = 1, 12
	default:
		valueError("Invalid unit \"%s\" for first_of()", unit)
	}
	days := daysSince(y, lo, 1)
	dir := int64(1)
	if last {
		days, dir = daysSince(y, hi, daysInMonth(y, hi)), -1
	}
	if unwrap(dow) != nil {
		want := weekdayArg(dow, 0)
		for weekday(days) != want {
			days += dir
		}
	}
	return d.move(days, 0)
}

func (d *DateTime) nthOf(unit string, nth int64, dow Value) *DateTime {
	want := weekdayArg(dow, 0)
	first := d.edgeOf(unitFor(unit), dow, false)
	last := d.edgeOf(unitFor(unit), nil, true)
	days := first.days + 7*(nth-1)
	if days > last.days || nth < 1 {
		raise("PendulumException", "Unable to find occurrence %d of %s in %s", nth, strings.ToUpper(dayNames[want][:1])+dayNames[want][1:], unit)
	}
	return create(days, 0, d.tz)
}

func unitFor(unit string) string {
	switch unit {
	case "month", "quarter", "year":
		return unit
	}
	valueError("Invalid unit \"%s\" for first_of()", unit)
	return ""
}

// toPend makes a pendulum DateTime of a datetime.
func toPend(d *DateTime) *DateTime {
	if d.pend {
		return d
	}
	c := *d
	c.pend = true
	switch {
	case d.tz == nil:
	case d.tz.kind == TZPendulum:
	case d.tz.loc != nil:
		c.tz = &TZ{kind: TZPendulum, name: d.tz.name, loc: d.tz.loc}
	case d.tz.offset == 0:
		c.tz = UTC
	default:
		c.tz = fixedZone(TZPendulum, d.tz.offset)
	}
	return &c
}

// instance is pendulum.instance(): naive values are UTC.
func instance(d *DateTime) *DateTime {
	c := toPend(d)
	if c.tz == nil {
		c = c.WithTZ(UTC)
		c.pend = true
	}
	return c
}

// Instance is pendulum.instance(d).
func Instance(d *DateTime) *DateTime { return instance(d) }

// DiffForHumans is pendulum.instance(d).diff_for_humans(other); a nil other is
// now.
func (ev *Eval) DiffForHumans(d, other *DateTime) string {
	return ev.diffForHumans(instance(d), other, false)
}

func (ev *Eval) diffForHumans(d, other *DateTime, absolute bool) string {
	isNow := other == nil
	if isNow {
		other = ev.nowIn(d.tz, true)
		if d.tz == nil {
			other = naive(other)
		}
	}
	return newInterval(d, other, true).humans(isNow, absolute)
}

func init() {
	q := func(name, sig string, f func(ev *Eval, d *DateTime, b Bound) Value) {
		pendMethods.addQ("DateTime", name, sig, func(ev *Eval, self Value, b Bound) Value {
			return f(ev, self.(*DateTime), b)
		})
	}
	const units = "years= months= weeks= days= hours= minutes= seconds= microseconds="
	q("add", units, func(_ *Eval, d *DateTime, b Bound) Value { return d.addSpan(spanOf(b, 1, false)) })
	q("subtract", units, func(_ *Eval, d *DateTime, b Bound) Value { return d.addSpan(spanOf(b, -1, false)) })
	q("in_timezone", "tz", func(_ *Eval, d *DateTime, b Bound) Value { return d.inZone(toZone(b.V(0))) })
	q("in_tz", "tz", func(_ *Eval, d *DateTime, b Bound) Value { return d.inZone(toZone(b.V(0))) })
	q("start_of", "unit", func(_ *Eval, d *DateTime, b Bound) Value {
		u := str(b.V(0))
		if r, ok := d.startOf(u); ok {
			return r
		}
		valueError("Invalid unit \"%s\" for start_of()", u)
		return nil
	})
	q("end_of", "unit", func(_ *Eval, d *DateTime, b Bound) Value {
		u := str(b.V(0))
		if r, ok := d.endOf(u); ok {
			return r
		}
		valueError("Invalid unit \"%s\" for end_of()", u)
		return nil
	})
	q("next", "day_of_week= keep_time=", func(_ *Eval, d *DateTime, b Bound) Value {
		return d.seek(weekdayArg(b.V(0), weekday(d.days)), 1, isTrue(b.Or(1, false)))
	})
	q("previous", "day_of_week= keep_time=", func(_ *Eval, d *DateTime, b Bound) Value {
		return d.seek(weekdayArg(b.V(0), weekday(d.days)), -1, isTrue(b.Or(1, false)))
	})
	q("first_of", "unit day_of_week=", func(_ *Eval, d *DateTime, b Bound) Value { return d.edgeOf(str(b.V(0)), b.V(1), false) })
	q("last_of", "unit day_of_week=", func(_ *Eval, d *DateTime, b Bound) Value { return d.edgeOf(str(b.V(0)), b.V(1), true) })
	q("nth_of", "unit nth day_of_week", func(_ *Eval, d *DateTime, b Bound) Value {
		return d.nthOf(str(b.V(0)), argInt(b.V(1)), b.V(2))
	})
	q("set", "year= month= day= hour= minute= second= microsecond= tz=", func(_ *Eval, d *DateTime, b Bound) Value {
		y, mo, day := d.ymd()
		days := replaceFields(&y, &mo, &day, b)
		z := d.tz
		if b.Has(7) && unwrap(b.V(7)) != nil {
			z = toZone(b.V(7))
		}
		return createFold(days, replaceClock(d, b, 3), z, d.fold)
	})
	q("replace", "year= month= day= hour= minute= second= microsecond= tzinfo= fold=", func(_ *Eval, d *DateTime, b Bound) Value {
		y, mo, day := d.ymd()
		days := replaceFields(&y, &mo, &day, b)
		z := d.tz
		if b.Has(7) {
			if v := unwrap(b.V(7)); v != true {
				z = nil
				if v != nil {
					z = toZone(v)
					if z.kind != TZPendulum {
						z = toPend(&DateTime{tz: z}).tz
					}
				}
			}
		}
		n := &DateTime{days: days, us: replaceClock(d, b, 3), fold: d.fold}
		if b.Has(8) && b.V(8) != nil {
			n.fold = int(argInt(b.V(8)))
		}
		if z == nil {
			n.pend = true
			return n
		}
		return n.resolve(z, true)
	})
	q("on", "year month day", func(_ *Eval, d *DateTime, b Bound) Value {
		return d.onDays(checkDate(argInt(b.V(0)), argInt(b.V(1)), argInt(b.V(2))))
	})
	q("at", "hour minute= second= microsecond=", func(_ *Eval, d *DateTime, b Bound) Value {
		z := int64(0)
		return d.move(d.days, checkClock(argInt(b.V(0)), argInt(b.Or(1, z)), argInt(b.Or(2, z)), argInt(b.Or(3, z))))
	})
	q("naive", "", func(_ *Eval, d *DateTime, _ Bound) Value { return naive(d) })
	q("diff", "dt= abs=", func(ev *Eval, d *DateTime, b Bound) Value {
		other := ev.nowIn(d.tz, true)
		if unwrap(b.V(0)) != nil {
			other = toPend(asDateTime(b.V(0)))
		}
		return newInterval(d, other, isTrue(b.Or(1, true)))
	})
	q("diff_for_humans", "other= absolute= locale=", func(ev *Eval, d *DateTime, b Bound) Value {
		englishOnly(b.V(2))
		var other *DateTime
		if unwrap(b.V(0)) != nil {
			other = toPend(asDateTime(b.V(0)))
		}
		return ev.diffForHumans(d, other, isTrue(b.Or(1, false)))
	})
	q("format", "fmt locale=", func(_ *Eval, d *DateTime, b Bound) Value {
		englishOnly(b.V(1))
		return pendFormat(d, argStr(b.V(0)))
	})
	q("is_leap_year", "", func(_ *Eval, d *DateTime, _ Bound) Value { y, _, _ := d.ymd(); return isLeap(y) })
	q("is_long_year", "", func(_ *Eval, d *DateTime, _ Bound) Value { return longYear(d.days) })
	q("is_dst", "", func(_ *Eval, d *DateTime, _ Bound) Value {
		td, ok := dstOf(d).(*TimeDelta)
		return ok && td.us != 0
	})
	q("is_utc", "", func(_ *Eval, d *DateTime, _ Bound) Value { return d.tz != nil && d.offset() == 0 })
	q("is_local", "", func(_ *Eval, d *DateTime, _ Bound) Value { return d.tz != nil && d.offset() == 0 })
	q("is_future", "", func(ev *Eval, d *DateTime, _ Bound) Value { return d.instant() > ev.now().UnixMicro() })
	q("is_past", "", func(ev *Eval, d *DateTime, _ Bound) Value { return d.instant() < ev.now().UnixMicro() })
	q("is_same_day", "dt", func(_ *Eval, d *DateTime, b Bound) Value { return asDateTime(b.V(0)).days == d.days })
	birthday := func(ev *Eval, d *DateTime, b Bound) Value {
		other := ev.nowIn(d.tz, true)
		if unwrap(b.V(0)) != nil {
			other = asDateTime(b.V(0))
		}
		_, m1, d1 := d.ymd()
		_, m2, d2 := other.ymd()
		return m1 == m2 && d1 == d2
	}
	q("is_anniversary", "dt=", birthday)
	q("is_birthday", "dt=", birthday)
	q("average", "dt=", func(ev *Eval, d *DateTime, b Bound) Value {
		other := ev.nowIn(d.tz, true)
		if unwrap(b.V(0)) != nil {
			other = asDateTime(b.V(0))
		}
		return fromInstant(d.instant()+floorDiv(other.instant()-d.instant(), 2), d.tz, true)
	})
	pick := func(far bool) func(*Eval, *DateTime, Bound) Value {
		return func(_ *Eval, d *DateTime, b Bound) Value {
			var best *DateTime
			dist := func(x *DateTime) int64 {
				n := x.instant() - d.instant()
				if n < 0 {
					return -n
				}
				return n
			}
			for _, v := range b.Rest() {
				x := toPend(asDateTime(v))
				if best == nil || far && dist(x) > dist(best) || !far && dist(x) < dist(best) {
					best = x
				}
			}
			if best == nil {
				valueError("no dates given")
			}
			return best
		}
	}
	q("closest", "*dts", pick(false))
	q("farthest", "*dts", pick(true))
	q("get_offset", "", func(_ *Eval, d *DateTime, _ Bound) Value { return int64(d.offset()) })
	q("astimezone", "tz=", func(_ *Eval, d *DateTime, b Bound) Value {
		z := tzArg(b.V(0))
		if z == nil {
			z = datetimeUTC
		}
		return fromInstant(d.instant(), z, true)
	})
	text := func(name, format string) {
		q(name, "", func(_ *Eval, d *DateTime, _ Bound) Value { return pendFormat(d, format) })
	}
	text("to_date_string", "YYYY-MM-DD")
	text("to_time_string", "HH:mm:ss")
	text("to_datetime_string", "YYYY-MM-DD HH:mm:ss")
	text("to_formatted_date_string", "MMM DD, YYYY")
	text("to_day_datetime_string", "ddd, MMM D, YYYY h:mm A")
	text("to_atom_string", "YYYY-MM-DDTHH:mm:ssZ")
	text("to_w3c_string", "YYYY-MM-DDTHH:mm:ssZ")
	text("to_cookie_string", "dddd, DD-MMM-YYYY HH:mm:ss zz")
	text("to_rfc822_string", "ddd, DD MMM YY HH:mm:ss ZZ")
	text("to_rfc850_string", "dddd, DD-MMM-YY HH:mm:ss zz")
	text("to_rfc1036_string", "ddd, DD MMM YY HH:mm:ss ZZ")
	text("to_rfc1123_string", "ddd, DD MMM YYYY HH:mm:ss ZZ")
	text("to_rfc2822_string", "ddd, DD MMM YYYY HH:mm:ss ZZ")
	text("to_rss_string", "ddd, DD MMM YYYY HH:mm:ss ZZ")
	q("to_rfc3339_string", "", func(_ *Eval, d *DateTime, _ Bound) Value { return d.isoformat("T") })
	q("for_json", "", func(_ *Eval, d *DateTime, _ Bound) Value { return d.isoformat("T") })
	q("to_iso8601_string", "", func(_ *Eval, d *DateTime, _ Bound) Value {
		s := d.isoformat("T")
		if d.tz != nil && d.tz.name == "UTC" {
			s = strings.TrimSuffix(s, "+00:00") + "Z"
		}
		return s
	})

	// Date shares the calendar methods: they run on its midnight.
	for _, name := range strings.Fields("start_of end_of next previous first_of last_of nth_of is_leap_year is_long_year is_birthday is_anniversary average closest farthest is_future is_past is_same_day diff_for_humans format to_date_string to_formatted_date_string") {
		inner := pendMethods[name]
		sig := *inner.sig
		sig.name = "Date." + name
		pendDateMethods[name] = &method{&sig, func(ev *Eval, self Value, b Bound) Value {
			d := self.(*Date).midnight()
			for i, v := range b.vals {
				switch x := unwrap(v).(type) {
				case *Date:
					b.vals[i] = x.midnight()
				case *Tuple:
					for j, e := range x.Items {
						if y, ok := unwrap(e).(*Date); ok {
							x.Items[j] = y.midnight()
						}
					}
				}
			}
			r := inner.f(ev, d, b)
			if x, ok := r.(*DateTime); ok {
				return &Date{days: x.days, pend: true}
			}
			return r
		}}
	}
	dq := func(name, sig string, f func(ev *Eval, d *Date, b Bound) Value) {
		pendDateMethods.addQ("Date", name, sig, func(ev *Eval, self Value, b Bound) Value { return f(ev, self.(*Date), b) })
	}
	dq("add", "years= months= weeks= days=", func(_ *Eval, d *Date, b Bound) Value { return d.addSpan(spanOf(b, 1, true)) })
	dq("subtract", "years= months= weeks= days=", func(_ *Eval, d *Date, b Bound) Value { return d.addSpan(spanOf(b, -1, true)) })
	dq("set", "year= month= day=", func(_ *Eval, d *Date, b Bound) Value {
		y, m, day := civil(d.days)
		return &Date{days: replaceFields(&y, &m, &day, b), pend: true}
	})
	dq("diff", "dt= abs=", func(ev *Eval, d *Date, b Bound) Value {
		other := ev.nowIn(UTC, true).days
		if x, ok := unwrap(b.V(0)).(*Date); ok {
			other = x.days
		}
		return newInterval(d.midnight(), (&Date{days: other}).midnight(), isTrue(b.Or(1, true))).asDates()
	})
}

func (d *Date) addSpan(s span) *Date {
	days := addMonths(d.days, s.years, s.months) + s.days
	checkRange(days)
	return &Date{days: days, pend: d.pend}
}

func longYear(days int64) bool {
	y, _, _ := civil(days)
	_, w, _ := isoCalendar(daysSince(y, 12, 28))
	return w == 53
}

func englishOnly(v Value) {
	v = unwrap(v)
	if v == nil {
		return
	}
	if s := strings.ToLower(str(v)); s != "en" && !strings.HasPrefix(s, "en_") && !strings.HasPrefix(s, "en-") {
		valueError("the locale %s of pendulum is only available with the Python runtime; use macros.ds_format_locale", pyrepr.Str(str(v)))
	}
}

func ordinalSuffix(n int) string {
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			return "st"
		case 2:
			return "nd"
		case 3:
			return "rd"
		}
	}
	return "th"
}

// pendTokens are the tokens of format(), longest first for each letter; those
// that pendulum recognises but does not fill stay as they are.
var pendTokens = []string{
	"Mo", "MMMM", "MMM", "MM", "M", "Do", "DDDo", "DDDD", "DDD", "DD", "D", "dddd", "ddd", "dd", "do", "d", "eo", "e",
	"EEEE", "EEE", "EE", "E", "wo", "ww", "w", "Wo", "WW", "W", "Qo", "Q", "YYYY", "YY", "Y", "gggg", "gg", "GGGG", "GG",
	"a", "A", "hh", "h", "HH", "H", "kk", "k", "mm", "m", "ss", "s", "SSSSSS", "SSSSS", "SSSS", "SSS", "SS", "S",
	"x", "X", "zz", "z", "ZZ", "Z", "LTS", "LT", "LLLL", "LLL", "LL", "L",
}

// pendFormat is pendulum's format() in English.
func pendFormat(d *DateTime, f string) string {
	var b strings.Builder
	for i := 0; i < len(f); {
		if f[i] == '[' {
			if j := strings.IndexAny(f[i+1:], "[]"); j >= 0 && f[i+1+j] == ']' {
				b.WriteString(f[i+1 : i+1+j])
				i += j + 2
				continue
			}
		}
		if f[i] == '\\' && i+1 < len(f) {
			b.WriteByte(f[i+1])
			i += 2
			continue
		}
		matched := false
		for _, t := range pendTokens {
			if strings.HasPrefix(f[i:], t) {
				b.WriteString(pendToken(d, t))
				i += len(t)
				matched = true
				break
			}
		}
		if !matched {
			b.WriteByte(f[i])
			i++
		}
	}
	return b.String()
}

func pendToken(d *DateTime, t string) string {
	y, m, day := d.ymd()
	h, mi, s, us := d.clock()
	wd := weekday(d.days)
	sun := (wd + 1) % 7
	yd := yearDay(d.days)
	ord := func(n int) string { return fmt.Sprintf("%d%s", n, ordinalSuffix(n)) }
	h12 := (h+11)%12 + 1
	switch t {
	case "YYYY":
		return fmt.Sprintf("%04d", y)
	case "YY":
		return fmt.Sprintf("%04d", y)[2:]
	case "Y":
		return fmt.Sprint(y)
	case "Q":
		return fmt.Sprint((m + 2) / 3)
	case "Qo":
		return ord((m + 2) / 3)
	case "MMMM":
		return monthNames[m-1]
	case "MMM":
		return monthNames[m-1][:3]
	case "MM":
		return fmt.Sprintf("%02d", m)
	case "M":
		return fmt.Sprint(m)
	case "Mo":
		return ord(m)
	case "DDDD":
		return fmt.Sprintf("%03d", yd)
	case "DDD":
		return fmt.Sprint(yd)
	case "DDDo":
		return ord(yd)
	case "DD":
		return fmt.Sprintf("%02d", day)
	case "D":
		return fmt.Sprint(day)
	case "Do":
		return ord(day)
	case "dddd":
		return dayNames[wd]
	case "ddd":
		return dayNames[wd][:3]
	case "dd":
		return dayNames[wd][:2]
	case "d", "e":
		return fmt.Sprint(sun)
	case "do":
		return ord(sun)
	case "eo":
		return ord(sun + 1)
	case "E":
		return fmt.Sprint(wd + 1)
	case "wo":
		_, w, _ := isoCalendar(d.days)
		return ord(w)
	case "HH":
		return fmt.Sprintf("%02d", h)
	case "H":
		return fmt.Sprint(h)
	case "hh":
		return fmt.Sprintf("%02d", h12)
	case "h":
		return fmt.Sprint(h12)
	case "mm":
		return fmt.Sprintf("%02d", mi)
	case "m":
		return fmt.Sprint(mi)
	case "ss":
		return fmt.Sprintf("%02d", s)
	case "s":
		return fmt.Sprint(s)
	case "S", "SS", "SSS", "SSSS", "SSSSS", "SSSSSS":
		return fmt.Sprintf("%06d", us)[:len(t)]
	case "A":
		if h >= 12 {
			return "PM"
		}
		return "AM"
	case "X":
		return fmt.Sprint(d.unix())
	case "x":
		return fmt.Sprint(floorDiv(d.instant(), 1000))
	case "z":
		if d.tz == nil {
			return ""
		}
		return d.tz.PyStr()
	case "zz":
		if d.tz == nil {
			return ""
		}
		return d.tz.abbr(d.unix())
	case "Z", "ZZ":
		if d.tz == nil {
			return ""
		}
		sep := ":"
		if t == "ZZ" {
			sep = ""
		}
		off := d.offset()
		return offsetText(off-off%60, sep)
	case "LTS":
		return pendFormat(d, "h:mm:ss A")
	case "LT":
		return pendFormat(d, "h:mm A")
	case "L":
		return pendFormat(d, "MM/DD/YYYY")
	case "LL":
		return pendFormat(d, "MMMM D, YYYY")
	case "LLL":
		return pendFormat(d, "MMMM D, YYYY h:mm A")
	case "LLLL":
		return pendFormat(d, "dddd, MMMM D, YYYY h:mm A")
	}
	return t
}
