package jinja

import (
	"fmt"
	"strings"
)

// Interval is pendulum.Interval: the span between two DateTimes or Dates.
type Interval struct {
	start, end *DateTime
	invert     bool
	dates      bool
}

var typeInterval = &Type{Module: "pendulum.interval", Name: "Interval"}

func newInterval(start, end *DateTime, absolute bool) *Interval {
	if (start.tz == nil) != (end.tz == nil) {
		typeError("can't compare offset-naive and offset-aware datetimes")
	}
	i := &Interval{start: start, end: end}
	if start.instant() > end.instant() {
		i.invert = true
		if absolute {
			i.start, i.end = end, start
		}
	}
	return i
}

func (i *Interval) asDates() *Interval { i.dates = true; return i }

func (i *Interval) negate() *Interval {
	return &Interval{start: i.end, end: i.start, invert: !i.invert && i.us() != 0, dates: i.dates}
}

func (i *Interval) us() int64 { return i.end.instant() - i.start.instant() }

// Seconds is total_seconds().
func (i *Interval) Seconds() float64 { return float64(i.us()) / 1e6 }

// precise is the difference in calendar units.
type precise struct{ years, months, days, hours, minutes, seconds, us int64 }

func (i *Interval) parts() precise {
	a, b := i.start, i.end
	sign := int64(1)
	if a.instant() > b.instant() {
		a, b, sign = b, a, -1
	}
	if a.instant() == b.instant() {
		return precise{}
	}
	over := int64(0)
	if !i.sameZone() {
		la, lb := lateMidnight(a), lateMidnight(b)
		a, b, over = asUTC(a), asUTC(b), lb-la
		a.days -= la / usPerDay
		b.days -= lb / usPerDay
	}
	y1, m1, d1 := a.ymd()
	y2, m2, d2 := b.ymd()
	us := b.us - a.us + over
	dd := d2 - d1
	if us < 0 {
		us += usPerDay
		dd--
	}
	if dd < 0 && us >= usPerDay && d2 < d1 && y1 == y2 && m1 == m2 {
		us -= usPerDay
		dd++
	}
	yd, md := y2-y1, m2-m1
	if dd < 0 {
		ly, lm := y2, m2-1
		if m2 == 1 {
			ly, lm = y2-1, 12
		}
		last, this := daysInMonth(ly, lm), daysInMonth(y2, m2)
		switch {
		case dd < this-last:
			if last < d1 {
				dd += d1
			} else {
				dd += last
			}
		case dd == this-last:
			dd = 0
			md++
		default:
			dd += last
		}
		md--
	}
	if md < 0 {
		md += 12
		yd--
	}
	hours := floorDiv(us, 3600*usPerSec)
	us -= hours * 3600 * usPerSec
	t := us / usPerSec
	p := precise{int64(yd), int64(md), int64(dd), hours, t / 60, t % 60, us % usPerSec}
	if sign < 0 {
		p = precise{-p.years, -p.months, -p.days, -p.hours, -p.minutes, -p.seconds, -p.us}
	}
	return p
}

func asUTC(d *DateTime) *DateTime { return fromInstant(d.instant(), UTC, true) }

// lateMidnight is a day for a time that in UTC lies in the first hour of the
// next day: pendulum leaves such a time at 24 o'clock of the day before when it
// compares times of different zones (it carries hours above 24 only).
func lateMidnight(d *DateTime) int64 {
	if u := asUTC(d); u.us < 3600*usPerSec && u.days > d.days {
		return usPerDay
	}
	return 0
}

func (i *Interval) wholeDays() int64 { return i.us() / usPerDay }

func (i *Interval) sameZone() bool {
	a, b := i.start.tz, i.end.tz
	return a == nil || a.name == b.name && a.offset == b.offset
}

// calendarDays is in_days(): the difference of the dates, whatever the clock.
func (i *Interval) calendarDays() int64 { return i.end.days - i.start.days }

// words joins counts with their units.
func words(counts []int64, units []string, sep string) string {
	var out []string
	for k, n := range counts {
		if n == 0 {
			continue
		}
		p := "s"
		if n == 1 || n == -1 {
			p = ""
		}
		out = append(out, fmt.Sprintf("%d %s%s", n, units[k], p))
	}
	return strings.Join(out, sep)
}

var wordUnits = []string{"year", "month", "week", "day", "hour", "minute", "second"}

func inWords(counts []int64, us int64, sep string) string {
	if s := words(counts, wordUnits, sep); s != "" {
		return s
	}
	if us == 0 {
		return "0 microseconds"
	}
	return formatSpec{typ: 'f', prec: 2, fill: " "}.formatFloat(float64(max(us, -us))/1e6) + " second"
}

func (i *Interval) inWords(sep string) string {
	p := i.parts()
	return inWords([]int64{p.years, p.months, p.days / 7, p.days % 7, p.hours, p.minutes, p.seconds}, p.us, sep)
}

// humans is the text of diff_for_humans for an absolute interval.
func (i *Interval) humans(isNow, absolute bool) string {
	p := i.parts()
	weeks, rest := p.days/7, p.days%7
	unit, n := "", int64(0)
	switch {
	case p.years > 0:
		unit, n = "year", p.years
		if p.months > 6 {
			n++
		}
	case p.months == 11 && p.days > 15:
		unit, n = "year", 1
	case p.months > 0:
		unit, n = "month", p.months
		if p.days >= 27 {
			n++
		}
	case weeks > 0:
		unit, n = "week", weeks
		if rest > 3 {
			n++
		}
	case rest > 0:
		unit, n = "day", rest
		if p.hours >= 22 {
			n++
		}
	case p.hours > 0:
		unit, n = "hour", p.hours
	case p.minutes > 0:
		unit, n = "minute", p.minutes
	case p.seconds > 10:
		unit, n = "second", p.seconds
	}
	s := "a few seconds"
	if unit != "" {
		s = words([]int64{n}, []string{unit}, "")
	}
	switch {
	case absolute:
		return s
	case isNow && i.invert:
		return "in " + s
	case isNow:
		return s + " ago"
	case i.invert:
		return s + " after"
	}
	return s + " before"
}

func (i *Interval) contains(v Value) bool {
	switch x := unwrap(v).(type) {
	case *DateTime:
		return x.instant() >= i.start.instant() && x.instant() <= i.end.instant()
	case *Date:
		return x.days >= i.start.days && x.days <= i.end.days
	}
	return false
}

// PyType is the class.
func (i *Interval) PyType() *Type { return typeInterval }

// PyBool is false for an empty interval.
func (i *Interval) PyBool() bool { return i.us() != 0 }

// PyRepr is repr() and str().
func (i *Interval) PyRepr() string {
	if i.dates {
		return fmt.Sprintf("<Interval [%s -> %s]>", (&Date{days: i.start.days}).isoformat(), (&Date{days: i.end.days}).isoformat())
	}
	return fmt.Sprintf("<Interval [%s -> %s]>", i.start.PyStr(), i.end.PyStr())
}

// PyEqual compares by length, as timedeltas do.
func (i *Interval) PyEqual(other Value) (bool, bool) {
	us, ok := deltaOf(other)
	return ok && us == i.us(), true
}

// PyIter iterates over the days of the interval.
func (i *Interval) PyIter() []Value { return i.rangeOf("days", 1) }

func (i *Interval) edge(d *DateTime) Value {
	if i.dates {
		return &Date{days: d.days, pend: true}
	}
	return d
}

func (i *Interval) rangeOf(unit string, amount int64) []Value {
	k := indexOfStr([]string{"years", "months", "weeks", "days", "hours", "minutes", "seconds", "microseconds"}, unit)
	if k < 0 || amount < 1 {
		typeError("DateTime.add() got an unexpected keyword argument '%s'", unit)
	}
	var out []Value
	sign := int64(1)
	if i.us() < 0 {
		sign = -1
	}
	for n := int64(0); ; n += amount {
		s := span{dateUnits: k < 4}
		switch k {
		case 0:
			s.years = n * sign
		case 1:
			s.months = n * sign
		case 2:
			s.days = 7 * n * sign
		case 3:
			s.days = n * sign
		default:
			s.us = n * sign * []int64{3600 * usPerSec, 60 * usPerSec, usPerSec, 1}[k-4]
		}
		if n > 1_000_000 {
			raise(ClassLimit, "an interval's range has more than a million elements")
		}
		d := i.start.addSpan(s)
		if sign > 0 && d.instant() > i.end.instant() || sign < 0 && d.instant() < i.end.instant() {
			return out
		}
		out = append(out, i.edge(d))
	}
}

func indexOfStr(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

// Attr gives an attribute or method.
func (i *Interval) Attr(name string) (Value, bool, error) {
	p := i.parts()
	us := i.us()
	call := func(v Value) (Value, bool, error) {
		return fn(name, "", func(*Eval, Bound) Value { return v }), true, nil
	}
	days := i.wholeDays()
	switch name {
	case "start":
		return i.edge(i.start), true, nil
	case "end":
		return i.edge(i.end), true, nil
	case "invert":
		return i.invert, true, nil
	case "years":
		return p.years, true, nil
	case "months":
		return p.months, true, nil
	case "weeks":
		return p.days / 7, true, nil
	case "remaining_days":
		return p.days % 7, true, nil
	case "days":
		return days, true, nil
	case "hours":
		return p.hours, true, nil
	case "minutes":
		return p.minutes, true, nil
	case "seconds":
		return us % usPerDay / usPerSec, true, nil
	case "remaining_seconds":
		return p.seconds, true, nil
	case "microseconds":
		return us % usPerSec, true, nil
	case "in_years":
		return call(p.years)
	case "in_months":
		return call(p.years*12 + p.months)
	case "in_weeks":
		return call(i.calendarDays() / 7)
	case "in_days":
		return call(i.calendarDays())
	case "in_hours":
		return call(us / (3600 * usPerSec))
	case "in_minutes":
		return call(us / (60 * usPerSec))
	case "in_seconds":
		return call(us / usPerSec)
	case "total_seconds":
		return call(float64(us) / 1e6)
	case "total_minutes":
		return call(float64(us) / 1e6 / 60)
	case "total_hours":
		return call(float64(us) / 1e6 / 3600)
	case "total_days":
		return call(float64(us) / 1e6 / 86400)
	case "total_weeks":
		return call(float64(us) / 1e6 / 86400 / 7)
	case "as_timedelta":
		return call(&TimeDelta{us: us})
	case "as_duration", "as_interval":
		return call(&TimeDelta{us: us, pend: true})
	case "in_words":
		return fn(name, "locale= separator=", func(_ *Eval, b Bound) Value {
			englishOnly(b.V(0))
			return i.inWords(str(b.Or(1, " ")))
		}), true, nil
	case "range":
		return fn(name, "unit amount=", func(_ *Eval, b Bound) Value {
			return lazily(sliceIter(i.rangeOf(str(b.V(0)), argInt(b.Or(1, int64(1))))))
		}), true, nil
	}
	return nil, false, nil
}

// --- durations ------------------------------------------------------------

func (t *TimeDelta) counts() []int64 {
	rest := t.us - (t.years*365+t.months*30)*usPerDay
	days := rest / usPerDay
	s := rest % usPerDay / usPerSec
	return []int64{t.years, t.months, days / 7, days % 7, s / 3600, s / 60 % 60, s % 60}
}

func durationWords(t *TimeDelta) string { return inWords(t.counts(), t.us%usPerSec, " ") }

func durationRepr(t *TimeDelta) string {
	c := t.counts()
	names := []string{"years", "months", "weeks", "days", "hours", "minutes", "seconds"}
	var out []string
	for i, n := range c {
		if n != 0 {
			out = append(out, fmt.Sprintf("%s=%d", names[i], n))
		}
	}
	if us := t.us % usPerSec; us != 0 {
		out = append(out, fmt.Sprintf("microseconds=%d", us))
	}
	return "Duration(" + strings.Join(out, ", ") + ")"
}

func durationAttr(t *TimeDelta, name string) (Value, bool) {
	c := t.counts()
	call := func(v Value) (Value, bool) { return fn(name, "", func(*Eval, Bound) Value { return v }), true }
	switch name {
	case "years":
		return c[0], true
	case "months":
		return c[1], true
	case "weeks":
		return c[2], true
	case "remaining_days":
		return c[3], true
	case "hours":
		return c[4], true
	case "minutes":
		return c[5], true
	case "remaining_seconds":
		return c[6], true
	case "days":
		return t.us / usPerDay, true
	case "seconds":
		return t.us % usPerDay / usPerSec, true
	case "invert":
		return t.us < 0, true
	case "in_weeks":
		return call(t.us / (7 * usPerDay))
	case "in_days":
		return call(t.us / usPerDay)
	case "in_hours":
		return call(t.us / (3600 * usPerSec))
	case "in_minutes":
		return call(t.us / (60 * usPerSec))
	case "in_seconds":
		return call(t.us / usPerSec)
	case "total_minutes":
		return call(t.Seconds() / 60)
	case "total_hours":
		return call(t.Seconds() / 3600)
	case "total_days":
		return call(t.Seconds() / 86400)
	case "total_weeks":
		return call(t.Seconds() / 86400 / 7)
	case "in_words":
		return call(durationWords(t))
	case "as_timedelta":
		return call(&TimeDelta{us: t.us})
	}
	return nil, false
}
