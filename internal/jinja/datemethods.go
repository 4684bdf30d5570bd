package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/pyrepr"
)

var (
	datetimeMethods = methodTable{}
	dateMethods     = methodTable{}
	timeMethods     = methodTable{}
)

// nowIn is the current time of the environment's clock.
func (ev *Eval) nowIn(z *TZ, pend bool) *DateTime {
	if z == nil {
		z = UTC
	}
	return fromInstant(ev.now().UnixMicro(), z, pend)
}

func isoCalendar(days int64) (year, week, day int) {
	t := time.Unix(days*86400, 0).UTC()
	year, week = t.ISOWeek()
	day = int(t.Weekday())
	if day == 0 {
		day = 7
	}
	return
}

func weekday(days int64) int { // Monday 0
	return int(((days+3)%7 + 7) % 7)
}

func yearDay(days int64) int { return time.Unix(days*86400, 0).UTC().YearDay() }

const ordinalOffset = 719163 // date(1970, 1, 1).toordinal()

// makeDelta is timedelta(...), for class c ("timedelta" or "Duration").
func makeDelta(weights []int64, vals []Value) int64 {
	exact := int64(0)
	frac := 0.0
	for i, w := range weights {
		v := unwrap(vals[i])
		switch x := v.(type) {
		case nil:
			continue
		case float64:
			whole, part := math.Modf(x)
			if math.IsNaN(x) || math.Abs(whole) > 9e18/float64(w) {
				raise("OverflowError", "timedelta value out of range")
			}
			exact += int64(whole) * w
			frac += part * float64(w)
		default:
			if !isInt(v) {
				failUndefined(v)
				typeError("unsupported type for timedelta %s component: %s", deltaNames[w], typeName(v))
			}
			n, ok := smallInt(v)
			if !ok || n > math.MaxInt64/w/8 || n < -(math.MaxInt64/w/8) {
				raise("OverflowError", "timedelta value out of range")
			}
			exact += n * w
		}
	}
	return exact + int64(math.RoundToEven(frac))
}

var deltaNames = map[int64]string{
	usPerDay: "days", usPerSec: "seconds", 1: "microseconds", 1000: "milliseconds",
	60 * usPerSec: "minutes", 3600 * usPerSec: "hours", 7 * usPerDay: "weeks",
}

var deltaWeights = []int64{usPerDay, usPerSec, 1, 1000, 60 * usPerSec, 3600 * usPerSec, 7 * usPerDay}

func timetuple(d *DateTime, dst int64) Value {
	y, mo, day := d.ymd()
	h, m, s, _ := d.clock()
	return NewTuple(int64(y), int64(mo), int64(day), int64(h), int64(m), int64(s), int64(weekday(d.days)), int64(yearDay(d.days)), dst)
}

// isoTuple is isocalendar().
type isoTuple struct{ y, w, d int64 }

func ctime(d *DateTime) string { return strftime(d, "%a %b %e %H:%M:%S %Y") }

func dstOf(d *DateTime) Value {
	if d.tz == nil {
		return nil
	}
	if d.tz.loc == nil {
		return &TimeDelta{}
	}
	if t := time.Unix(d.unix(), 0).In(d.tz.loc); t.IsDST() {
		// Standard time is what the zone has half a year away.
		for _, months := range []int{6, -6, 4, -4} {
			o := t.AddDate(0, months, 0)
			if !o.IsDST() {
				_, std := o.Zone()
				_, cur := t.Zone()
				return &TimeDelta{us: int64(cur-std) * usPerSec}
			}
		}
		return &TimeDelta{us: 3600 * usPerSec}
	}
	return &TimeDelta{}
}

func replaceFields(y, mo, d *int, b Bound) int64 {
	f := [3]*int{y, mo, d}
	for i := range f {
		if b.Has(i) {
			*f[i] = int(argInt(b.V(i)))
		}
	}
	return checkDate(int64(*y), int64(*mo), int64(*d))
}

func replaceClock(d *DateTime, b Bound, at int) int64 {
	h, m, s, us := d.clock()
	f := [4]int64{int64(h), int64(m), int64(s), int64(us)}
	for i := range f {
		if b.Has(at + i) {
			f[i] = argInt(b.V(at + i))
		}
	}
	return checkClock(f[0], f[1], f[2], f[3])
}

func tzArg(v Value) *TZ {
	v = unwrap(v)
	if v == nil {
		return nil
	}
	if z, ok := v.(*TZ); ok {
		return z
	}
	typeError("tzinfo argument must be None or of a tzinfo subclass, not type '%s'", typeName(v))
	return nil
}

func newDateTime(ev *Eval, a *Args) Value {
	b := ParseSignature("datetime", "year month day hour= minute= second= microsecond= tzinfo= * fold=").bind(a)
	days := checkDate(argInt(b.V(0)), argInt(b.V(1)), argInt(b.V(2)))
	z := int64(0)
	us := checkClock(argInt(b.Or(3, z)), argInt(b.Or(4, z)), argInt(b.Or(5, z)), argInt(b.Or(6, z)))
	return &DateTime{days: days, us: us, tz: tzArg(b.V(7)), fold: int(argInt(b.Or(8, z)))}
}

func timestampOf(d *DateTime) Value {
	return float64(d.instant()) / 1e6
}

func init() {
	m := datetimeMethods
	dt := func(v Value) *DateTime { return v.(*DateTime) }
	m.add("date", "", func(_ *Eval, self Value, _ Bound) Value { return &Date{days: dt(self).days, pend: dt(self).pend} })
	m.add("time", "", func(_ *Eval, self Value, _ Bound) Value { return &Time{us: dt(self).us, pend: dt(self).pend} })
	m.add("timetz", "", func(_ *Eval, self Value, _ Bound) Value {
		return &Time{us: dt(self).us, tz: dt(self).tz}
	})
	m.add("isoformat", "sep= timespec=", func(_ *Eval, self Value, b Bound) Value {
		return dt(self).isoSpec(argStr(b.Or(0, "T")), argStr(b.Or(1, "auto")))
	})
	m.add("strftime", "format", func(_ *Eval, self Value, b Bound) Value { return strftime(dt(self), argStr(b.V(0))) })
	m.add("timestamp", "", func(_ *Eval, self Value, _ Bound) Value { return timestampOf(dt(self)) })
	m.add("weekday", "", func(_ *Eval, self Value, _ Bound) Value { return int64(weekday(dt(self).days)) })
	m.add("isoweekday", "", func(_ *Eval, self Value, _ Bound) Value { return int64(weekday(dt(self).days) + 1) })
	m.add("toordinal", "", func(_ *Eval, self Value, _ Bound) Value { return dt(self).days + ordinalOffset })
	m.add("isocalendar", "", func(_ *Eval, self Value, _ Bound) Value { return isoCalendarValue(dt(self).days) })
	m.add("ctime", "", func(_ *Eval, self Value, _ Bound) Value { return ctime(dt(self)) })
	m.add("timetuple", "", func(_ *Eval, self Value, _ Bound) Value {
		dst := int64(-1)
		if td, ok := dstOf(dt(self)).(*TimeDelta); ok {
			dst = 0
			if td.us != 0 {
				dst = 1
			}
		}
		return timetuple(dt(self), dst)
	})
	m.add("utctimetuple", "", func(_ *Eval, self Value, _ Bound) Value {
		return timetuple(fromInstant(dt(self).instant(), UTC, false), 0)
	})
	m.add("utcoffset", "", func(_ *Eval, self Value, _ Bound) Value {
		if dt(self).tz == nil {
			return nil
		}
		return &TimeDelta{us: int64(dt(self).offset()) * usPerSec}
	})
	m.add("dst", "", func(_ *Eval, self Value, _ Bound) Value { return dstOf(dt(self)) })
	m.add("tzname", "", func(_ *Eval, self Value, _ Bound) Value {
		if dt(self).tz == nil {
			return nil
		}
		return dt(self).tz.abbr(dt(self).unix())
	})
	m.add("replace", "year= month= day= hour= minute= second= microsecond= tzinfo= * fold=", func(_ *Eval, self Value, b Bound) Value {
		d := *dt(self)
		y, mo, day := d.ymd()
		d.days = replaceFields(&y, &mo, &day, b)
		d.us = replaceClock(dt(self), b, 3)
		if b.Has(7) {
			d.tz = tzArg(b.V(7))
		}
		if b.Has(8) {
			d.fold = int(argInt(b.V(8)))
		}
		return &d
	})
	m.add("astimezone", "tz=", func(_ *Eval, self Value, b Bound) Value {
		z := tzArg(b.V(0))
		if z == nil {
			z = datetimeUTC
		}
		d := dt(self)
		return fromInstant(d.instant(), z, d.pend)
	})

	dm := dateMethods
	dd := func(v Value) *Date { return v.(*Date) }
	dm.add("isoformat", "", func(_ *Eval, self Value, _ Bound) Value { return dd(self).isoformat() })
	dm.add("strftime", "format", func(_ *Eval, self Value, b Bound) Value { return strftime(dd(self).midnight(), argStr(b.V(0))) })
	dm.add("weekday", "", func(_ *Eval, self Value, _ Bound) Value { return int64(weekday(dd(self).days)) })
	dm.add("isoweekday", "", func(_ *Eval, self Value, _ Bound) Value { return int64(weekday(dd(self).days) + 1) })
	dm.add("toordinal", "", func(_ *Eval, self Value, _ Bound) Value { return dd(self).days + ordinalOffset })
	dm.add("isocalendar", "", func(_ *Eval, self Value, _ Bound) Value { return isoCalendarValue(dd(self).days) })
	dm.add("ctime", "", func(_ *Eval, self Value, _ Bound) Value { return ctime(dd(self).midnight()) })
	dm.add("timetuple", "", func(_ *Eval, self Value, _ Bound) Value { return timetuple(dd(self).midnight(), -1) })
	dm.add("replace", "year= month= day=", func(_ *Eval, self Value, b Bound) Value {
		y, mo, day := civil(dd(self).days)
		return &Date{days: replaceFields(&y, &mo, &day, b), pend: dd(self).pend}
	})

	tm := timeMethods
	tt := func(v Value) *Time { return v.(*Time) }
	tm.add("isoformat", "timespec=", func(_ *Eval, self Value, b Bound) Value {
		return clockText(tt(self).us, argStr(b.Or(0, "auto")))
	})
	tm.add("strftime", "format", func(_ *Eval, self Value, b Bound) Value { return tt(self).pyFormat(argStr(b.V(0))) })
	tm.add("format", "fmt locale=", func(_ *Eval, self Value, b Bound) Value {
		return pendFormat(&DateTime{us: tt(self).us, pend: true}, argStr(b.V(0)))
	})
	tm.add("replace", "hour= minute= second= microsecond= tzinfo=", func(_ *Eval, self Value, b Bound) Value {
		c := *tt(self)
		c.us = replaceClock(&DateTime{us: c.us}, b, 0)
		return &c
	})
	tm.add("utcoffset", "", func(*Eval, Value, Bound) Value { return nil })
	tm.add("tzname", "", func(*Eval, Value, Bound) Value { return nil })

	initDateClasses()
}

func initDateClasses() {
	typeDateTime.Call = newDateTime
	classFn := func(name, sig string, f func(ev *Eval, b Bound) Value) *Func {
		x := fn(name, sig, f)
		x.Self = typeDateTime
		return x
	}
	now := func(ev *Eval, b Bound) Value {
		z := tzArg(b.V(0))
		if z == nil {
			d := ev.nowIn(UTC, false)
			d.tz = nil
			return d
		}
		return ev.nowIn(z, false)
	}
	fromISO := func(_ *Eval, b Bound) Value {
		s := argStr(b.V(0))
		d, ok := parseISO(s)
		if !ok {
			valueError("Invalid isoformat string: %s", pyrepr.Str(s))
		}
		return d
	}
	typeDateTime.Statics = map[string]Value{
		"now":    classFn("now", "tz=", now),
		"today":  classFn("today", "", func(ev *Eval, _ Bound) Value { return naive(ev.nowIn(UTC, false)) }),
		"utcnow": classFn("utcnow", "", func(ev *Eval, _ Bound) Value { return naive(ev.nowIn(UTC, false)) }),
		"strptime": classFn("strptime", "date_string format", func(_ *Eval, b Bound) Value {
			return Strptime(argStrN(b.V(0), 1), argStrN(b.V(1), 2))
		}),
		"fromisoformat": classFn("fromisoformat", "date_string", fromISO),
		"fromtimestamp": classFn("fromtimestamp", "timestamp tz=", func(_ *Eval, b Bound) Value {
			us := int64(math.RoundToEven(toNumber(b.V(0)) * 1e6))
			z := tzArg(b.V(1))
			if z == nil {
				return naive(fromInstant(us, UTC, false))
			}
			return fromInstant(us, z, false)
		}),
		"utcfromtimestamp": classFn("utcfromtimestamp", "timestamp", func(_ *Eval, b Bound) Value {
			return naive(fromInstant(int64(math.RoundToEven(toNumber(b.V(0))*1e6)), UTC, false))
		}),
		"fromordinal": classFn("fromordinal", "ordinal", func(_ *Eval, b Bound) Value {
			return &DateTime{days: argInt(b.V(0)) - ordinalOffset}
		}),
		"combine": classFn("combine", "date time tzinfo=", func(_ *Eval, b Bound) Value {
			t, ok := unwrap(b.V(1)).(*Time)
			if !ok {
				typeError("combine() argument 2 must be datetime.time, not %s", typeName(b.V(1)))
			}
			switch d := unwrap(b.V(0)).(type) {
			case *Date:
				return &DateTime{days: d.days, us: t.us, tz: t.tz}
			case *DateTime:
				return &DateTime{days: d.days, us: t.us, tz: t.tz}
			}
			typeError("combine() argument 1 must be datetime.date, not %s", typeName(b.V(0)))
			return nil
		}),
		"min": &DateTime{days: minDays}, "max": &DateTime{days: maxDays, us: usPerDay - 1},
		"resolution": &TimeDelta{us: 1},
	}
	typeDate.Call = func(_ *Eval, a *Args) Value {
		b := ParseSignature("date", "year month day").bind(a)
		return &Date{days: checkDate(argInt(b.V(0)), argInt(b.V(1)), argInt(b.V(2)))}
	}
	typeDate.Statics = map[string]Value{
		"today": fn("today", "", func(ev *Eval, _ Bound) Value { return &Date{days: ev.nowIn(UTC, false).days} }),
		"fromisoformat": fn("fromisoformat", "date_string", func(ev *Eval, b Bound) Value {
			return &Date{days: fromISO(ev, b).(*DateTime).days}
		}),
	}
	typeTimeDelta.Call = func(_ *Eval, a *Args) Value {
		b := ParseSignature("__new__", "days= seconds= microseconds= milliseconds= minutes= hours= weeks=").bind(a)
		for i := range b.vals {
			if b.set[i] && b.vals[i] == nil {
				typeError("unsupported type for timedelta %s component: NoneType", b.sig.params[i].name)
			}
		}
		return &TimeDelta{us: makeDelta(deltaWeights, b.vals)}
	}
	typeTimeDelta.Statics = map[string]Value{
		"min": &TimeDelta{us: -999999999 * 86400 * 1000}, "resolution": &TimeDelta{us: 1},
	}
	typeDTTimezone.Statics = map[string]Value{"utc": datetimeUTC}
}

func argStrN(v Value, n int) string {
	v = unwrap(v)
	if s, ok := strOf(v); ok {
		return s
	}
	failUndefined(v)
	typeError("strptime() argument %d must be str, not %s", n, typeName(v))
	return ""
}

func toNumber(v Value) float64 {
	f, ok := floatOf(unwrap(v))
	if !ok {
		failUndefined(v)
		typeError("'%s' object cannot be interpreted as an integer", typeName(v))
	}
	return f
}

func naive(d *DateTime) *DateTime {
	c := *d
	c.tz, c.fold = nil, 0
	return &c
}

// isoCalendarValue is the named tuple of isocalendar().
func isoCalendarValue(days int64) Value {
	y, w, d := isoCalendar(days)
	return &isoTuple{int64(y), int64(w), int64(d)}
}

// PyType is the class.
func (t *isoTuple) PyType() *Type { return &Type{Module: "datetime", Name: "IsoCalendarDate"} }

// PyRepr is repr().
func (t *isoTuple) PyRepr() string {
	return fmt.Sprintf("datetime.IsoCalendarDate(year=%d, week=%d, weekday=%d)", t.y, t.w, t.d)
}

// PyIter gives the three numbers.
func (t *isoTuple) PyIter() []Value { return []Value{t.y, t.w, t.d} }

// PyItem indexes the tuple.
func (t *isoTuple) PyItem(key Value) (Value, bool, error) {
	i, ok := smallInt(key)
	if ok && i >= -3 && i < 3 {
		return []Value{t.y, t.w, t.d}[(i+3)%3], true, nil
	}
	return nil, false, nil
}

// Attr gives year, week and weekday.
func (t *isoTuple) Attr(name string) (Value, bool, error) {
	switch name {
	case "year":
		return t.y, true, nil
	case "week":
		return t.w, true, nil
	case "weekday":
		return t.d, true, nil
	}
	return nil, false, nil
}

// ParseDateTime parses ISO text, as datetime.fromisoformat does.
func ParseDateTime(s string) (*DateTime, error) {
	d, ok := parseISO(s)
	if !ok {
		return nil, Errorf("ValueError", "Invalid isoformat string: %s", pyrepr.Str(s))
	}
	return d, nil
}

// parseISO is datetime.fromisoformat.
func parseISO(s string) (d *DateTime, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, isErr := r.(*Error); !isErr {
				panic(r)
			}
			d, ok = nil, false
		}
	}()
	num := func(t string) int64 {
		n, err := strconv.Atoi(t)
		if err != nil || t == "" || !isDigit(t[0]) {
			valueError("no number")
		}
		return int64(n)
	}
	rest := ""
	var days int64
	switch {
	case len(s) >= 10 && s[4] == '-' && s[7] == '-':
		days, rest = checkDate(num(s[:4]), num(s[5:7]), num(s[8:10])), s[10:]
	case len(s) >= 8 && s[4] == '-' && s[5] == 'W':
		days, rest = isoWeekDate(num(s[:4]), num(s[6:8]), 1), s[8:]
		if len(rest) >= 2 && rest[0] == '-' {
			days, rest = days+num(rest[1:2])-1, rest[2:]
		}
	case len(s) >= 8 && isDigit(s[4]):
		days, rest = checkDate(num(s[:4]), num(s[4:6]), num(s[6:8])), s[8:]
	default:
		return nil, false
	}
	d = &DateTime{days: days}
	if rest == "" {
		return d, true
	}
	_, n := rune(rest[0]), 1
	rest = rest[n:]
	clock, zone := rest, ""
	if i := strings.IndexAny(rest, "+-Zz"); i >= 0 {
		clock, zone = rest[:i], rest[i:]
	}
	us, ok := parseClock(clock, num)
	if !ok {
		return nil, false
	}
	d.us = us
	switch {
	case zone == "":
	case zone == "Z" || zone == "z":
		d.tz = datetimeUTC
	default:
		off, ok := parseClock(zone[1:], num)
		if !ok {
			return nil, false
		}
		sec := int(off / usPerSec)
		if zone[0] == '-' {
			sec = -sec
		}
		d.tz = &TZ{kind: TZDatetime, offset: sec}
		if sec == 0 {
			d.tz = datetimeUTC
		}
	}
	return d, true
}

func isoWeekDate(y, w, d int64) int64 {
	jan4 := daysSince(int(y), 1, 4)
	return jan4 - int64(weekday(jan4)) + (w-1)*7 + d - 1
}

func parseClock(s string, num func(string) int64) (int64, bool) {
	frac := int64(0)
	if i := strings.IndexAny(s, ".,"); i >= 0 {
		f := s[i+1:]
		if f == "" {
			return 0, false
		}
		f = (f + "000000")[:6]
		frac = num(f)
		s = s[:i]
	}
	var parts []string
	if strings.Contains(s, ":") {
		parts = strings.Split(s, ":")
	} else {
		for len(s) >= 2 {
			parts = append(parts, s[:2])
			s = s[2:]
		}
		if s != "" {
			return 0, false
		}
	}
	if len(parts) < 1 || len(parts) > 3 {
		return 0, false
	}
	var f [3]int64
	for i, p := range parts {
		if len(p) != 2 {
			return 0, false
		}
		f[i] = num(p)
	}
	return checkClock(f[0], f[1], f[2], frac), true
}
