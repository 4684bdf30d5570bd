package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// relativeDelta is dateutil.relativedelta.relativedelta.
type relativeDelta struct {
	years, months, days, hours, minutes, seconds, us int64
	abs                                              [7]Value // year month day hour minute second microsecond
	weekday                                          Value
}

var typeRelativeDelta = &Type{Module: "dateutil.relativedelta", Name: "relativedelta"}

func init() {
	typeRelativeDelta.Call = func(_ *Eval, a *Args) Value {
		b := ParseSignature("relativedelta.__init__", "dt1= dt2= years= months= days= leapdays= weeks= hours= minutes= seconds= microseconds= year= month= day= weekday= yearday= nlyearday= hour= minute= second= microsecond=").bind(a)
		n := func(i int) int64 {
			v := unwrap(b.Or(i, int64(0)))
			if f, ok := v.(float64); ok {
				return int64(f)
			}
			return argInt(v)
		}
		if isTrue(b.V(0)) && isTrue(b.V(1)) {
			p := newInterval(toPend(asDateTime(b.V(1))), toPend(asDateTime(b.V(0))), false).parts()
			return &relativeDelta{years: p.years, months: p.months, days: p.days, hours: p.hours, minutes: p.minutes, seconds: p.seconds, us: p.us}
		}
		r := &relativeDelta{years: n(2), months: n(3), days: n(4) + 7*n(6), hours: n(7), minutes: n(8), seconds: n(9), us: n(10), weekday: b.V(14)}
		for i, at := range []int{11, 12, 13, 17, 18, 19, 20} {
			r.abs[i] = unwrap(b.V(at))
		}
		return r.fix()
	}
}

func carry(lo, hi *int64, base int64) {
	q := *lo / base
	*lo -= q * base
	*hi += q
}

func (r *relativeDelta) fix() *relativeDelta {
	carry(&r.us, &r.seconds, usPerSec)
	carry(&r.seconds, &r.minutes, 60)
	carry(&r.minutes, &r.hours, 60)
	carry(&r.hours, &r.days, 24)
	carry(&r.months, &r.years, 12)
	return r
}

// PyType is the class.
func (r *relativeDelta) PyType() *Type { return typeRelativeDelta }

// PyRepr is repr().
func (r *relativeDelta) PyRepr() string {
	var out []string
	for i, v := range []int64{r.years, r.months, r.days, r.hours, r.minutes, r.seconds, r.us} {
		if v != 0 {
			out = append(out, fmt.Sprintf("%s=%+d", []string{"years", "months", "days", "hours", "minutes", "seconds", "microseconds"}[i], v))
		}
	}
	for i, v := range r.abs {
		if v != nil {
			out = append(out, []string{"year", "month", "day", "hour", "minute", "second", "microsecond"}[i]+"="+repr(v))
		}
	}
	if r.weekday != nil {
		out = append(out, "weekday="+repr(r.weekday))
	}
	return "relativedelta(" + strings.Join(out, ", ") + ")"
}

// Attr gives the fields.
func (r *relativeDelta) Attr(name string) (Value, bool, error) {
	switch name {
	case "years":
		return r.years, true, nil
	case "months":
		return r.months, true, nil
	case "days":
		return r.days, true, nil
	case "weeks":
		return r.days / 7, true, nil
	case "hours":
		return r.hours, true, nil
	case "minutes":
		return r.minutes, true, nil
	case "seconds":
		return r.seconds, true, nil
	case "microseconds":
		return r.us, true, nil
	}
	if i := indexOfStr([]string{"year", "month", "day", "hour", "minute", "second", "microsecond"}, name); i >= 0 {
		return r.abs[i], true, nil
	}
	if name == "weekday" {
		return r.weekday, true, nil
	}
	return nil, false, nil
}

func (r *relativeDelta) scale(n int64) *relativeDelta {
	c := *r
	for _, f := range []*int64{&c.years, &c.months, &c.days, &c.hours, &c.minutes, &c.seconds, &c.us} {
		*f *= n
	}
	return c.fix()
}

func (r *relativeDelta) arith(op string, b Value) (Value, bool) {
	switch y := b.(type) {
	case *DateTime, *Date:
		if op == "+" {
			return dateArith("+", y, r)
		}
	case *relativeDelta:
		if op == "+" || op == "-" {
			sign := int64(1)
			if op == "-" {
				sign = -1
			}
			c := *r
			c.years += sign * y.years
			c.months += sign * y.months
			c.days += sign * y.days
			c.hours += sign * y.hours
			c.minutes += sign * y.minutes
			c.seconds += sign * y.seconds
			c.us += sign * y.us
			for i, v := range y.abs {
				if v != nil {
					c.abs[i] = v
				}
			}
			return c.fix(), true
		}
	case int64:
		if op == "*" {
			return r.scale(y), true
		}
	}
	return nil, false
}

// apply adds (or, with sign -1, subtracts) the delta to a datetime.
func (r *relativeDelta) apply(d *DateTime, sign int64) Value {
	y, m, day := d.ymd()
	h, mi, s, us := d.clock()
	f := [7]int64{int64(y), int64(m), int64(day), int64(h), int64(mi), int64(s), int64(us)}
	for i, v := range r.abs {
		if v != nil {
			f[i] = argInt(v)
		}
	}
	f[0] += sign * r.years
	t := f[0]*12 + f[1] - 1 + sign*r.months
	f[0] = floorDiv(t, 12)
	f[1] = t - f[0]*12 + 1
	if f[0] < 1 || f[0] > 9999 {
		valueError("year %d is out of range", f[0])
	}
	f[2] = min(f[2], int64(daysInMonth(int(f[0]), int(f[1]))))
	n := *d
	n.days = checkDate(f[0], f[1], f[2])
	n.us = checkClock(f[3], f[4], f[5], f[6])
	delta := sign * (r.days*usPerDay + ((r.hours*60+r.minutes)*60+r.seconds)*usPerSec + r.us)
	var out *DateTime
	if d.pend {
		w := d.move(n.days, n.us)
		out = w.shift(&TimeDelta{us: delta}, 1)
	} else {
		out = addMicros(&n, delta)
	}
	if w, ok := r.weekday.(*weekdayValue); ok {
		k := w.n
		if k == 0 {
			k = 1
		}
		jump := (max(k, -k) - 1) * 7
		if k > 0 {
			jump += (7 - int64(weekday(out.days)) + w.day) % 7
		} else {
			jump = -(jump + (int64(weekday(out.days))-w.day+7)%7)
		}
		out = addMicros(out, jump*usPerDay)
	}
	return out
}

// weekdayValue is dateutil's MO, TU(+1), ...
type weekdayValue struct{ day, n int64 }

// PyType is the class.
func (w *weekdayValue) PyType() *Type { return &Type{Module: "dateutil._common", Name: "weekday"} }

// PyRepr is repr().
func (w *weekdayValue) PyRepr() string {
	s := []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}[w.day]
	if w.n != 0 {
		s += fmt.Sprintf("(%+d)", w.n)
	}
	return s
}

// Attr gives the fields.
func (w *weekdayValue) Attr(name string) (Value, bool, error) {
	if name == "weekday" {
		return w.day, true, nil
	}
	return nil, false, nil
}

// PyCall makes MO(+2).
func (w *weekdayValue) PyCall(a *Args) (Value, error) {
	if len(a.Pos) != 1 {
		typeError("weekday.__call__() missing 1 required positional argument: 'n'")
	}
	return &weekdayValue{w.day, argInt(a.Pos[0])}, nil
}

// Module is a namespace of values, as Python modules are for templates.
type Module struct {
	Name string
	Vars map[string]Value
}

// PyType is the class.
func (m *Module) PyType() *Type { return typeModule }

// PyRepr is repr().
func (m *Module) PyRepr() string { return "<module '" + m.Name + "'>" }

// Attr gives a member.
func (m *Module) Attr(name string) (Value, bool, error) {
	v, ok := m.Vars[name]
	return v, ok, nil
}

// DateutilModule returns the parts of dateutil that templates use: parser,
// relativedelta and tz.
func DateutilModule() *Module {
	rd := map[string]Value{"relativedelta": typeRelativeDelta}
	for i, n := range []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"} {
		rd[n] = &weekdayValue{day: int64(i)}
	}
	parse := fn("parse", "timestr parserinfo= **kwargs", func(ev *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		s, ok := strOf(v)
		if !ok {
			failUndefined(v)
			typeError("Parser must be a string or character stream, not %s", typeName(v))
		}
		o := dateParser{s: s, now: ev.nowIn(UTC, false)}
		for _, k := range b.Kw() {
			switch k.Name {
			case "dayfirst":
				o.dayFirst = isTrue(k.Value)
			case "yearfirst":
				o.yearFirst = isTrue(k.Value)
			case "default":
				o.now = asDateTime(k.Value)
			case "ignoretz":
				o.ignoreTZ = isTrue(k.Value)
			case "fuzzy":
				o.fuzzy = isTrue(k.Value)
			}
		}
		return o.parse()
	})
	isoparse := fn("isoparse", "dt_str", func(_ *Eval, b Bound) Value {
		d, ok := parseISO(argStr(b.V(0)))
		if !ok {
			valueError("ISO time is not valid: %s", repr(b.V(0)))
		}
		if d.tz == datetimeUTC {
			d.tz = dateutilUTC
		}
		return d
	})
	gettz := fn("gettz", "name=", func(_ *Eval, b Bound) Value {
		v := unwrap(b.V(0))
		if v == nil || v == "" {
			return dateutilUTC
		}
		if z, ok := Zone(TZDateutil, argStr(v)); ok {
			return z
		}
		return nil
	})
	return &Module{"dateutil", map[string]Value{
		"parser":        &Module{"dateutil.parser", map[string]Value{"parse": parse, "isoparse": isoparse}},
		"relativedelta": &Module{"dateutil.relativedelta", rd},
		"tz": &Module{"dateutil.tz", map[string]Value{
			"gettz": gettz,
			"tzutc": fn("tzutc", "", func(*Eval, Bound) Value { return dateutilUTC }),
			"UTC":   dateutilUTC,
			"tzoffset": fn("tzoffset", "name offset", func(_ *Eval, b Bound) Value {
				if us, ok := deltaOf(b.V(1)); ok {
					return &TZ{kind: TZDateutil, offset: int(us / usPerSec)}
				}
				return &TZ{kind: TZDateutil, offset: int(argInt(b.V(1)))}
			}),
		}},
	}}
}

// dateParser reads dates in the usual written forms, as dateutil.parser does:
// ISO, month names, clock times with AM/PM, numeric dates (month first) and
// zone offsets. Missing parts come from today.
type dateParser struct {
	s                             string
	now                           *DateTime
	dayFirst, yearFirst, ignoreTZ bool
	fuzzy                         bool
}

func (p *dateParser) fail() { raise("ParserError", "Unknown string format: %s", p.s) }

func (p *dateParser) parse() Value {
	if strings.TrimSpace(p.s) == "" {
		raise("ParserError", "String does not contain a date: %s", p.s)
	}
	var toks []string
	for i := 0; i < len(p.s); {
		c := rune(p.s[i])
		j := i
		class := func(r byte) int {
			switch {
			case isDigit(r) || r == '.':
				return 1
			case r >= 0x80 || unicode.IsLetter(rune(r)):
				return 2
			}
			return 0
		}
		k := class(p.s[i])
		switch {
		case isSpace(c):
			toks = append(toks, " ")
			for j < len(p.s) && isSpace(rune(p.s[j])) {
				j++
			}
		case k == 0:
			toks = append(toks, p.s[i:i+1])
			j++
		default:
			for j < len(p.s) && class(p.s[j]) == k {
				j++
			}
			toks = append(toks, p.s[i:j])
		}
		i = j
	}
	var nums []string // numbers of the date, in order
	year, month, day := -1, -1, -1
	h, m, s, us := 0, 0, 0, 0
	hasTime := false
	wd := -1
	var tz *TZ
	for i := 0; i < len(toks); i++ {
		t := toks[i]
		next := func(k int) string {
			if i+k < len(toks) {
				return toks[i+k]
			}
			return ""
		}
		isNum := isDigit(t[0])
		switch {
		case isNum && !hasTime && next(1) == ":":
			h = p.int(t)
			i += 2
			m = p.int(next(0))
			hasTime = true
			if next(1) == ":" {
				i += 2
				s, us = p.seconds(next(0))
			}
		case isNum && hasTime && tz == nil && (i > 0 && (toks[i-1] == "+" || toks[i-1] == "-")):
			off := 0
			switch len(t) {
			case 4:
				off = p.int(t[:2])*3600 + p.int(t[2:])*60
			case 2, 1:
				off = p.int(t) * 3600
				if next(1) == ":" {
					off += p.int(next(2)) * 60
					i += 2
				}
			default:
				p.fail()
			}
			if i >= 1 && toksSign(toks[:i]) == '-' {
				off = -off
			}
			tz = &TZ{kind: TZDateutil, offset: off}
			if off == 0 {
				tz = dateutilUTC
			}
		case isNum:
			switch {
			case len(t) == 8 && !strings.Contains(t, ".") && len(nums) == 0:
				year, month, day = p.int(t[:4]), p.int(t[4:6]), p.int(t[6:])
			case len(t) == 14 && !strings.Contains(t, "."):
				year, month, day = p.int(t[:4]), p.int(t[4:6]), p.int(t[6:8])
				h, m, s, hasTime = p.int(t[8:10]), p.int(t[10:12]), p.int(t[12:]), true
			case len(t) == 12 && !strings.Contains(t, ".") && len(nums) == 0:
				year, month, day = p.int(t[:4]), p.int(t[4:6]), p.int(t[6:8])
				h, m, hasTime = p.int(t[8:10]), p.int(t[10:12]), true
			case year >= 0 && day >= 0 && !hasTime && (len(t) == 6 || strings.IndexByte(t, '.') == 6):
				h, m = p.int(t[:2]), p.int(t[2:4])
				s, us = p.seconds(t[4:])
				hasTime = true
			case year >= 0 && day >= 0 && !hasTime && len(t) == 4:
				h, m, hasTime = p.int(t[:2]), p.int(t[2:]), true
			default:
				for _, part := range strings.Split(t, ".") {
					if part == "" {
						continue
					}
					nums = append(nums, part)
				}
				low := strings.ToLower(next(1))
				if low == " " {
					low = strings.ToLower(next(2))
				}
				if (low == "am" || low == "pm") && !hasTime && !strings.Contains(t, ".") {
					nums = nums[:len(nums)-1]
					h, hasTime = p.int(t), true
				}
			}
		case unicode.IsLetter(rune(t[0])) || t[0] >= 0x80:
			low := strings.ToLower(t)
			found := false
			for k, n := range monthNames {
				n = strings.ToLower(n)
				if low == n || low == n[:3] || low == "sept" && k == 8 {
					month, found = k+1, true
					// A month name fixes the order of the other two numbers.
				}
			}
			for k, n := range dayNames {
				n = strings.ToLower(n)
				if low == n || low == n[:3] {
					wd, found = k, true
				}
			}
			switch low {
			case "t", "of", "and", "at", "on", "st", "nd", "rd", "th", "ad", "m":
				found = true
			case "am", "pm":
				found = true
				if h > 12 || !hasTime {
					if !p.fuzzy {
						p.fail()
					}
				}
				if low == "pm" && h < 12 {
					h += 12
				}
				if low == "am" && h == 12 {
					h = 0
				}
			case "z", "utc", "gmt":
				found, tz = true, dateutilUTC
			case "h", "hour", "hours":
				if len(nums) > 0 {
					h, hasTime, found = p.int(nums[len(nums)-1]), true, true
					nums = nums[:len(nums)-1]
				}
			}
			if !found && !p.fuzzy && !(hasTime && low == strings.ToLower(t) && t == strings.ToUpper(t) && len(t) <= 5 && len(t) >= 3) {
				p.fail()
			}
		case strings.Contains(" -/.,;:+'", t):
		default:
			if !p.fuzzy {
				p.fail()
			}
		}
	}
	p.assign(nums, &year, &month, &day)
	ny, nm, nd := p.now.ymd()
	given := day >= 0
	if year < 0 {
		year = ny
	}
	if month < 0 {
		month = nm
	}
	if day < 0 {
		day = min(nd, daysInMonth(max(1, year), max(1, min(12, month))))
	}
	var days int64
	if e := catch(func() { days = checkDate(int64(year), int64(month), int64(day)) }, "ValueError"); e != nil {
		raise("ParserError", "%s: %s", e.Message, p.s)
	}
	if wd >= 0 && !given {
		for weekday(days) != wd {
			days++
		}
	}
	var micros int64
	if e := catch(func() { micros = checkClock(int64(h), int64(m), int64(s), int64(us)) }, "ValueError"); e != nil {
		raise("ParserError", "%s: %s", e.Message, p.s)
	}
	d := &DateTime{days: days, us: micros}
	if !p.ignoreTZ {
		d.tz = tz
	}
	return d
}

func toksSign(toks []string) byte {
	for i := len(toks) - 1; i >= 0; i-- {
		if toks[i] == "+" || toks[i] == "-" {
			return toks[i][0]
		}
	}
	return '+'
}

func (p *dateParser) int(t string) int {
	n, err := strconv.Atoi(t)
	if err != nil {
		p.fail()
	}
	return n
}

func (p *dateParser) seconds(t string) (s, us int) {
	a, f, _ := strings.Cut(t, ".")
	s = p.int(a)
	if f != "" {
		us = p.int((f + "000000")[:6])
	}
	return s, us
}

// assign gives the bare numbers their meaning.
func (p *dateParser) assign(nums []string, year, month, day *int) {
	full := func(t string) int {
		n := p.int(t)
		if len(t) <= 2 && n < 100 {
			ny, _, _ := p.now.ymd()
			n += ny / 100 * 100
			if n >= ny+50 {
				n -= 100
			} else if n < ny-50 {
				n += 100
			}
		}
		return n
	}
	if *year >= 0 && *day >= 0 {
		if len(nums) > 0 && !p.fuzzy {
			p.fail()
		}
		return
	}
	rest := append([]string(nil), nums...)
	pop := func(i int) string {
		t := rest[i]
		rest = append(rest[:i:i], rest[i+1:]...)
		return t
	}
	for i, t := range rest {
		if len(t) > 2 || p.int(t) > 31 {
			*year = full(pop(i))
			if i == 0 && *month < 0 && len(rest) == 2 {
				// Year first: month and day follow.
				a, b := p.int(rest[0]), p.int(rest[1])
				if a > 12 && b <= 12 {
					a, b = b, a
				}
				*month, *day = a, b
				return
			}
			break
		}
	}
	switch {
	case *month >= 0:
		switch len(rest) {
		case 0:
		case 1:
			if *year < 0 && p.int(rest[0]) > 31 {
				*year = full(rest[0])
			} else {
				*day = p.int(rest[0])
			}
		case 2:
			*day, *year = p.int(rest[0]), full(rest[1])
		default:
			p.fail()
		}
	case len(rest) == 3:
		if p.yearFirst {
			*year, *month, *day = full(rest[0]), p.int(rest[1]), p.int(rest[2])
			return
		}
		*month, *day, *year = p.int(rest[0]), p.int(rest[1]), full(rest[2])
	case len(rest) == 2:
		*month, *day = p.int(rest[0]), p.int(rest[1])
	case len(rest) == 1:
		if *year >= 0 {
			*month = p.int(rest[0])
		} else {
			*day = p.int(rest[0])
		}
		return
	case len(rest) == 0:
		return
	default:
		p.fail()
	}
	if *month > 12 && *day <= 12 || p.dayFirst && *day <= 12 && nums[0] != "" && *month >= 0 && len(rest) > 1 {
		*month, *day = *day, *month
	}
}
