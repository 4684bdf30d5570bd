package cron

import (
	"time"
)

// nthLast stands for "the last one" where 1 to 5 stand for an occurrence.
const nthLast = 6

// maxYears bounds every search: a fire time further away is not found.
const maxYears = 50

// NotFoundError says that a search met no fire time within its bound.
type NotFoundError struct{ Previous bool }

// Error returns croniter's text.
func (e *NotFoundError) Error() string {
	if e.Previous {
		return "failed to find prev date"
	}
	return "failed to find next date"
}

// Schedule is a parsed expression.
type Schedule struct {
	expr    string
	fields  int // 5, 6 or 7
	field   [fieldsYear]field
	nearest int     // day of "15W", 0 = none
	nth     [7]byte // per weekday: bits 1-5 and nthLast
	hasNth  bool
	random  bool

	// Derived.
	minutes, hours, seconds uint64
	months                  uint16
	days                    uint32 // bit d = day d
	weekdays                uint64 // bit w, repeated over six weeks
	either                  bool   // both day fields restrict: either may match
}

// String returns the expression as written.
func (s *Schedule) String() string { return s.expr }

// CoversEveryHour reports whether the hour field is the wildcard and nothing
// else; Airflow then keeps the distance between ticks over a change of offset.
func (s *Schedule) CoversEveryHour() bool { return s.field[fieldHour].plain }

// Random reports whether the expression has an "R" field.
func (s *Schedule) Random() bool { return s.random }

func (s *Schedule) prepare() {
	all := func(i int) uint64 {
		f := &s.field[i]
		if f.star {
			return 1<<(fieldSpecs[i].high+1) - 1
		}
		return f.set[0]
	}
	s.minutes, s.hours = all(fieldMinute), all(fieldHour)
	s.seconds = 1
	if s.fields > fieldsUnix {
		s.seconds = all(fieldSecond)
	}
	s.months = uint16(all(fieldMonth))
	s.days = uint32(all(fieldDay))
	week := all(fieldWeekday) & 0x7f
	for i := 0; i < 6; i++ {
		s.weekdays |= week << (7 * i)
	}
	s.either = !s.field[fieldDay].star && !s.field[fieldWeekday].star
}

// dayRule selects which of the two day fields a search looks at.
type dayRule int

const (
	both dayRule = iota
	monthDayOnly
	weekdayOnly
)

// daysOf returns the matching days of a month as bits 1 to 31. first is the
// weekday of its first day (Sunday = 0).
func (s *Schedule) daysOf(length, first int, rule dayRule) uint32 {
	all := uint32(1)<<(length+1) - 2
	mask := all
	switch {
	case s.nearest > 0:
		mask = 1 << nearestWorkday(s.nearest, length, first)
	case rule != weekdayOnly && !s.field[fieldDay].star:
		mask &= s.days
		if s.field[fieldDay].last {
			mask |= 1 << length
		}
	}
	if s.hasNth {
		mask &= s.nthDaysOf(length, first)
	} else if rule != monthDayOnly {
		mask &= uint32(s.weekdays>>first) << 1
	}
	return mask
}

// nearestWorkday is the Monday-to-Friday day closest to day without leaving
// the month; a day past the end counts as the last one.
func nearestWorkday(day, length, first int) int {
	day = min(day, length)
	switch (first + day - 1) % 7 {
	case 6:
		if day == 1 {
			return 3
		}
		return day - 1
	case 0:
		if day == length {
			return day - 2
		}
		return day + 1
	}
	return day
}

func (s *Schedule) nthDaysOf(length, first int) uint32 {
	var mask uint32
	for w, which := range s.nth {
		if which == 0 {
			continue
		}
		day := 1 + (w-first+7)%7
		for n := 1; day <= length; n, day = n+1, day+7 {
			if which&(1<<n) != 0 || which&(1<<nthLast) != 0 && day+7 > length {
				mask |= 1 << day
			}
		}
	}
	return mask
}

// Next returns the first fire time after t. The error, if any, is a
// *NotFoundError: none within about fifty years.
func (s *Schedule) Next(t time.Time) (time.Time, error) { return s.find(t, false) }

// Prev returns the last fire time before t; see Next.
func (s *Schedule) Prev(t time.Time) (time.Time, error) { return s.find(t, true) }

func (s *Schedule) find(t time.Time, previous bool) (time.Time, error) {
	from := t.Unix()
	step := int64(60)
	if s.fields > fieldsUnix {
		step = 1
	}
	if previous {
		if t.Nanosecond() > 0 {
			from++
		}
		if from%60 != 0 {
			step = 1
		}
		from -= step
	} else {
		from += step
	}
	search := s.forward
	if previous {
		search = s.backward
	}
	if !s.either {
		sec, ok := search(from, both)
		if !ok {
			return time.Time{}, &NotFoundError{Previous: previous}
		}
		return time.Unix(sec, 0).UTC(), nil
	}
	a, okA := search(from, monthDayOnly)
	b, okB := search(from, weekdayOnly)
	switch {
	case !okB, !okA && s.hasNth:
		// An occurrence ("#", "Ln") and a nearest weekday ("15W") take part in
		// both searches, and both then have to succeed: "1 * L5" never meets,
		// "15W * SUN" neither. A plain day that never comes is passed over.
		return time.Time{}, &NotFoundError{Previous: previous}
	case !okA:
		a = b
	case previous:
		a = max(a, b)
	default:
		a = min(a, b)
	}
	return time.Unix(a, 0).UTC(), nil
}
