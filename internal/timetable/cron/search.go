package cron

import "math/bits"

const daySeconds = 86400

// clock is a moment split into the parts that fields restrict.
type clock struct {
	year, month, day     int
	hour, minute, second int
}

func split(sec int64) clock {
	days := floorDiv(sec, daySeconds)
	rest := int(sec - days*daySeconds)
	y, m, d := civil(days)
	return clock{y, m, d, rest / 3600, rest / 60 % 60, rest % 60}
}

// forward returns the first match at or after from, in seconds since the epoch.
func (s *Schedule) forward(from int64, rule dayRule) (int64, bool) {
	c := split(from)
	year, month := c.year, c.month
	day := c.day
	start, ok := s.timeFrom(c)
	if !ok {
		day++ // the rest of that day has no match
	}
	limit := c.year + maxYears
	for ; year <= limit; year, month, day = year+1, 1, 1 {
		if !s.yearMatches(year) {
			continue
		}
		for ; month <= 12; month, day = month+1, 1 {
			if s.months&(1<<month) == 0 {
				continue
			}
			length := monthLength(year, month)
			if day > length {
				continue
			}
			first := daysFromCivil(year, month, 1)
			mask := s.daysOf(length, weekday(first), rule) >> day << day
			if mask == 0 {
				continue
			}
			d := bits.TrailingZeros32(mask)
			tod := s.firstTime()
			if year == c.year && month == c.month && d == c.day {
				tod = start
			}
			return (first+int64(d-1))*daySeconds + int64(tod), true
		}
	}
	return 0, false
}

// backward returns the last match at or before from.
func (s *Schedule) backward(from int64, rule dayRule) (int64, bool) {
	c := split(from)
	year, month := c.year, c.month
	day := c.day
	start, ok := s.timeUpTo(c)
	if !ok {
		day--
	}
	limit := c.year - maxYears
	for ; year >= limit; year, month, day = year-1, 12, 31 {
		if !s.yearMatches(year) {
			continue
		}
		for ; month >= 1; month, day = month-1, 31 {
			if s.months&(1<<month) == 0 {
				continue
			}
			length := monthLength(year, month)
			first := daysFromCivil(year, month, 1)
			mask := s.daysOf(length, weekday(first), rule)
			mask &= 1<<(day+1) - 1
			if mask == 0 {
				continue
			}
			d := 31 - bits.LeadingZeros32(mask)
			tod := s.lastTime()
			if year == c.year && month == c.month && d == c.day {
				tod = start
			}
			return (first+int64(d-1))*daySeconds + int64(tod), true
		}
	}
	return 0, false
}

func (s *Schedule) yearMatches(year int) bool {
	if s.fields < fieldsYear || s.field[fieldYear].star {
		return true
	}
	spec := fieldSpecs[fieldYear]
	return year >= spec.low && year <= spec.high && s.field[fieldYear].set.has(year-spec.low)
}

// timeFrom returns the first matching second of the day at or after c's time.
// Without a seconds field, every time within a minute counts as its start.
func (s *Schedule) timeFrom(c clock) (int, bool) {
	h, m, sec := c.hour, c.minute, c.second
	if s.fields == fieldsUnix {
		sec = 0
	}
	if s.hours&(1<<h) != 0 {
		if s.minutes&(1<<m) != 0 {
			if rest := s.seconds >> sec << sec; rest != 0 {
				return h*3600 + m*60 + bits.TrailingZeros64(rest), true
			}
		}
		if rest := s.minutes >> (m + 1) << (m + 1); rest != 0 {
			return h*3600 + bits.TrailingZeros64(rest)*60 + bits.TrailingZeros64(s.seconds), true
		}
	}
	if rest := s.hours >> (h + 1) << (h + 1); rest != 0 {
		return bits.TrailingZeros64(rest)*3600 + bits.TrailingZeros64(s.minutes)*60 + bits.TrailingZeros64(s.seconds), true
	}
	return 0, false
}

// timeUpTo returns the last matching second of the day at or before c's time.
func (s *Schedule) timeUpTo(c clock) (int, bool) {
	h, m, sec := c.hour, c.minute, c.second
	if s.fields == fieldsUnix {
		sec = 59
	}
	if s.hours&(1<<h) != 0 {
		if s.minutes&(1<<m) != 0 {
			if rest := s.seconds & (1<<(sec+1) - 1); rest != 0 {
				return h*3600 + m*60 + top(rest), true
			}
		}
		if rest := s.minutes & (1<<m - 1); rest != 0 {
			return h*3600 + top(rest)*60 + top(s.seconds), true
		}
	}
	if rest := s.hours & (1<<h - 1); rest != 0 {
		return top(rest)*3600 + top(s.minutes)*60 + top(s.seconds), true
	}
	return 0, false
}

func (s *Schedule) firstTime() int {
	return bits.TrailingZeros64(s.hours)*3600 + bits.TrailingZeros64(s.minutes)*60 + bits.TrailingZeros64(s.seconds)
}

func (s *Schedule) lastTime() int {
	return top(s.hours)*3600 + top(s.minutes)*60 + top(s.seconds)
}

// top is the number of the highest bit set.
func top(v uint64) int { return 63 - bits.LeadingZeros64(v) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// weekday of a day counted from 1970-01-01, Sunday = 0.
func weekday(day int64) int { return int(((day+4)%7 + 7) % 7) }

var monthLengths = [13]int{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func monthLength(year, month int) int {
	if month == 2 && (year%4 == 0 && year%100 != 0 || year%400 == 0) {
		return 29
	}
	return monthLengths[month]
}

// daysFromCivil counts days from 1970-01-01 in the proleptic Gregorian
// calendar. Years are counted from March, so that the leap day comes last.
func daysFromCivil(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := floorDiv(int64(year), 400)
	inEra := int64(year) - era*400
	dayOfYear := int64((153*(month-3)+2)/5 + day - 1)
	return era*146097 + inEra*365 + inEra/4 - inEra/100 + dayOfYear - 719468
}

// civil is the inverse of daysFromCivil.
func civil(days int64) (year, month, day int) {
	days += 719468
	era := floorDiv(days, 146097)
	inEra := days - era*146097
	yearOfEra := (inEra - inEra/1460 + inEra/36524 - inEra/146096) / 365
	dayOfYear := int(inEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100))
	m := (5*dayOfYear + 2) / 153
	day = dayOfYear - (153*m+2)/5 + 1
	month = m + 3
	year = int(yearOfEra + era*400)
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}
