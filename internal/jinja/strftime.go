package jinja

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

var (
	dayNames   = [...]string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	monthNames = [...]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
)

// Strftime is the strftime() of a DateTime or Date with glibc's extensions, in
// the C locale.
func Strftime(d *DateTime, format string) string { return strftime(d, format) }

func strftime(d *DateTime, format string) string {
	y, mo, day := d.ymd()
	h, m, s, us := d.clock()
	wd := weekday(d.days)
	yd := yearDay(d.days)
	isoY, isoW, _ := isoCalendar(d.days)
	h12 := (h+11)%12 + 1
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		start := i
		i++
		pad, swap, upcase := byte(0), false, false
		for i < len(format) && strings.IndexByte("-_0^#", format[i]) >= 0 {
			switch format[i] {
			case '^':
				upcase = true
			case '#':
				swap = true
			default:
				pad = format[i]
			}
			i++
		}
		j := i
		for i < len(format) && isDigit(format[i]) {
			i++
		}
		width, _ := strconv.Atoi(format[j:i])
		if width > 1<<16 {
			valueError("Invalid format string")
		}
		colon := false
		if i+1 < len(format) && format[i] == ':' && format[i+1] == 'z' {
			colon = true
			i++
		}
		if i < len(format) && (format[i] == 'E' || format[i] == 'O') && i+1 < len(format) {
			i++
		}
		if i >= len(format) {
			b.WriteString(format[start:])
			break
		}
		text, num, size, fill := "", 0, 0, byte('0')
		numeric := true
		switch c := format[i]; c {
		case 'Y':
			// glibc writes years below 1000 without zeros.
			num, size = y, 0
		case 'C':
			num, size = y/100, 2
		case 'y':
			num, size = y%100, 2
		case 'm':
			num, size = mo, 2
		case 'd':
			num, size = day, 2
		case 'e':
			num, size, fill = day, 2, ' '
		case 'H':
			num, size = h, 2
		case 'k':
			num, size, fill = h, 2, ' '
		case 'I':
			num, size = h12, 2
		case 'l':
			num, size, fill = h12, 2, ' '
		case 'M':
			num, size = m, 2
		case 'S':
			num, size = s, 2
		case 'j':
			num, size = yd, 3
		case 'U':
			num, size = (yd+6-(wd+1)%7)/7, 2
		case 'W':
			num, size = (yd+6-wd)/7, 2
		case 'V':
			num, size = isoW, 2
		case 'G':
			num, size = isoY, 0
		case 'g':
			num, size = isoY%100, 2
		case 'u':
			num, size = wd+1, 1
		case 'w':
			num, size = (wd+1)%7, 1
		case 's':
			// The process zone is UTC, and the C library sees no offset, only
			// whether it is summer time, which it takes for an hour.
			sec := d.wall()
			if td, ok := dstOf(d).(*TimeDelta); ok && td.us != 0 {
				sec -= 3600
			}
			text, numeric = strconv.FormatInt(sec, 10), false
		case 'f':
			// Python fills %f itself and knows no flags for it.
			text, numeric = fmt.Sprintf("%06d", us), false
			if i-start > 1 {
				text, width = format[start:i+1], 0
				if upcase {
					text = strings.ToUpper(text)
				}
			}
		default:
			numeric = false
			switch c {
			case 'a':
				text = dayNames[wd][:3]
			case 'A':
				text = dayNames[wd]
			case 'b', 'h':
				text = monthNames[mo-1][:3]
			case 'B':
				text = monthNames[mo-1]
			case 'c':
				text = strftime(d, "%a %b %e %H:%M:%S %Y")
			case 'D', 'x':
				text = strftime(d, "%m/%d/%y")
			case 'F':
				text = strftime(d, "%Y-%m-%d")
			case 'T', 'X':
				text = strftime(d, "%H:%M:%S")
			case 'R':
				text = strftime(d, "%H:%M")
			case 'r':
				text = strftime(d, "%I:%M:%S %p")
			case 'p':
				text = "AM"
				if h >= 12 {
					text = "PM"
				}
				if swap {
					text, swap = strings.ToLower(text), false
				}
			case 'P':
				text = "am"
				if h >= 12 {
					text = "pm"
				}
			case 'n':
				text = "\n"
			case 't':
				text = "\t"
			case '%':
				text = "%"
			case 'z', 'Z':
				// Python fills in the value's zone only where there is no
				// flag; the C library knows the process zone, UTC.
				switch {
				case i-start > 1 && !colon && c == 'z':
					text = "+0000"
					if pad == '-' || pad == '_' {
						text = "+" + trimZeros(text[1:], pad)
					}
				case i-start > 1 && c == 'Z':
					text = "UTC"
				case d.tz == nil:
				case c == 'Z':
					text = d.tz.abbr(d.unix())
				case colon:
					text = offsetText(d.offset(), ":")
				default:
					text = offsetText(d.offset(), "")
				}
				if swap {
					text, swap = strings.ToLower(text), false
				}
			default:
				text = format[start : i+1]
			}
			if upcase && c != 'P' || swap && strings.IndexByte("aAbBh", c) >= 0 {
				text = strings.ToUpper(text)
			}
		}
		if numeric {
			text = strconv.Itoa(num)
			if pad == '_' {
				fill = ' '
			}
			if pad == '0' {
				fill = '0'
			}
			size = max(size, width)
			if pad == '-' {
				size = 0
			}
			for len(text) < size {
				text = string(fill) + text
			}
		} else if width > len(text) {
			f := " "
			if pad == '0' {
				f = "0"
			}
			text = strings.Repeat(f, width-len(text)) + text
		}
		b.WriteString(text)
		if b.Len() > 1<<24 {
			raise(ClassLimit, "a formatted date is too long")
		}
	}
	return b.String()
}

// Strptime is datetime.strptime in the C locale; it panics with *Error as the
// functions of this package do, so call it from context functions only through
// ParseTime.
func Strptime(s, format string) *DateTime {
	p := &strptimer{s: s, year: 1900, month: 1, day: 1, wd: -1, yd: -1, week: -1, isoYear: -1, isoWeek: -1}
	if !p.match(expandFormat(format)) {
		valueError("time data %s does not match format %s", pyrepr.Str(s), pyrepr.Str(format))
	}
	if p.s != "" {
		valueError("unconverted data remains: %s", p.s)
	}
	return p.result()
}

// ParseTime is Strptime with a returned error.
func ParseTime(s, format string) (d *DateTime, err error) {
	defer guard(&err)
	return Strptime(s, format), nil
}

func expandFormat(f string) string {
	for i := 0; i+1 < len(f); i++ {
		if f[i] != '%' {
			continue
		}
		r, ok := map[byte]string{'c': "%a %b %d %H:%M:%S %Y", 'x': "%m/%d/%y", 'X': "%H:%M:%S", 'D': "%m/%d/%y", 'T': "%H:%M:%S", 'R': "%H:%M"}[f[i+1]]
		if strings.IndexByte("DTR", f[i+1]) >= 0 {
			valueError("'%c' is a bad directive in format '%s'", f[i+1], f)
		}
		if ok {
			f = f[:i] + r + f[i+2:]
		} else {
			i++
		}
	}
	return f
}

type strptimer struct {
	s                string
	year, month, day int
	h, m, sec, us    int
	pm, hasPM        bool
	hour12           bool
	wd, yd, week     int
	weekFromSunday   bool
	isoYear, isoWeek int
	yearSet, daySet  bool
	tz               *TZ
	monthSet         bool
}

// digitsMax reads up to n digits; the regular expressions of strptime want at
// least one and a value in range.
func (p *strptimer) number(n, lo, hi int) (int, bool) {
	for l := min(n, len(p.s)); l > 0; l-- {
		t := p.s[:l]
		if strings.Trim(t, "0123456789") != "" {
			continue
		}
		v, _ := strconv.Atoi(t)
		if v >= lo && v <= hi {
			p.s = p.s[l:]
			return v, true
		}
	}
	return 0, false
}

func (p *strptimer) name(names []string, short bool) (int, bool) {
	for i, n := range names {
		if short {
			n = n[:3]
		}
		if len(p.s) >= len(n) && strings.EqualFold(p.s[:len(n)], n) {
			p.s = p.s[len(n):]
			return i, true
		}
	}
	return 0, false
}

func (p *strptimer) match(f string) bool {
	for i := 0; i < len(f); i++ {
		c := f[i]
		if isSpace(rune(c)) {
			// A blank in the format stands for one or more.
			for i+1 < len(f) && isSpace(rune(f[i+1])) {
				i++
			}
			t := strings.TrimLeftFunc(p.s, isSpace)
			if len(t) == len(p.s) {
				return false
			}
			p.s = t
			continue
		}
		if c != '%' {
			if p.s == "" || !strings.EqualFold(p.s[:1], string(c)) {
				return false
			}
			p.s = p.s[1:]
			continue
		}
		i++
		if i >= len(f) {
			valueError("stray %% in format '%s'", f)
		}
		ok := true
		switch f[i] {
		case 'Y':
			if len(p.s) < 4 {
				return false
			}
			v, err := strconv.Atoi(p.s[:4])
			if err != nil || !isDigit(p.s[0]) {
				return false
			}
			p.year, p.yearSet, p.s = v, true, p.s[4:]
		case 'y':
			if len(p.s) < 2 || !isDigit(p.s[0]) || !isDigit(p.s[1]) {
				return false
			}
			v, _ := strconv.Atoi(p.s[:2])
			p.s = p.s[2:]
			p.year, p.yearSet = 1900+v, true
			if v <= 68 {
				p.year += 100
			}
		case 'm':
			p.month, ok = p.number(2, 1, 12)
			p.monthSet = true
		case 'd':
			// "[1-9]| [1-9]" also allows a blank before one digit.
			if strings.HasPrefix(p.s, " ") {
				p.s = p.s[1:]
			}
			p.day, ok = p.number(2, 1, 31)
			p.daySet = true
		case 'H':
			p.h, ok = p.number(2, 0, 23)
			p.hour12 = false
		case 'I':
			p.h, ok = p.number(2, 1, 12)
			p.hour12 = true
		case 'M':
			p.m, ok = p.number(2, 0, 59)
		case 'S':
			p.sec, ok = p.number(2, 0, 61)
		case 'f':
			n := 0
			for n < len(p.s) && n < 6 && isDigit(p.s[n]) {
				n++
			}
			if n == 0 {
				return false
			}
			p.us, _ = strconv.Atoi((p.s[:n] + "000000")[:6])
			p.s = p.s[n:]
		case 'j':
			p.yd, ok = p.number(3, 1, 366)
		case 'U', 'W':
			p.week, ok = p.number(2, 0, 53)
			p.weekFromSunday = f[i] == 'U'
		case 'w':
			var v int
			v, ok = p.number(1, 0, 6)
			p.wd = (v + 6) % 7
		case 'u':
			var v int
			v, ok = p.number(1, 1, 7)
			p.wd = v - 1
		case 'G':
			p.isoYear, ok = p.number(4, 0, 9999)
		case 'V':
			p.isoWeek, ok = p.number(2, 1, 53)
		case 'a':
			p.wd, ok = p.name(dayNames[:], true)
		case 'A':
			p.wd, ok = p.name(dayNames[:], false)
		case 'b', 'B':
			var v int
			v, ok = p.name(monthNames[:], f[i] == 'b')
			p.month, p.monthSet = v+1, true
		case 'p':
			var v int
			v, ok = p.nameOf("am", "pm")
			p.pm, p.hasPM = v == 1, true
		case 'z':
			ok = p.zone()
		case 'Z':
			v := 0
			v, ok = p.nameOf("utc", "gmt")
			_ = v
		case '%':
			ok = strings.HasPrefix(p.s, "%")
			if ok {
				p.s = p.s[1:]
			}
		default:
			valueError("'%c' is a bad directive in format '%s'", f[i], f)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (p *strptimer) nameOf(names ...string) (int, bool) {
	for i, n := range names {
		if len(p.s) >= len(n) && strings.EqualFold(p.s[:len(n)], n) {
			p.s = p.s[len(n):]
			return i, true
		}
	}
	return 0, false
}

func (p *strptimer) zone() bool {
	if strings.HasPrefix(p.s, "Z") {
		p.s, p.tz = p.s[1:], datetimeUTC
		return true
	}
	if len(p.s) < 5 || p.s[0] != '+' && p.s[0] != '-' {
		return false
	}
	neg := p.s[0] == '-'
	rest := p.s[1:]
	two := func() (int, bool) {
		if len(rest) < 2 || !isDigit(rest[0]) || !isDigit(rest[1]) {
			return 0, false
		}
		v, _ := strconv.Atoi(rest[:2])
		rest = rest[2:]
		return v, v < 60
	}
	h, ok := two()
	if !ok {
		return false
	}
	colon := strings.HasPrefix(rest, ":")
	rest = strings.TrimPrefix(rest, ":")
	m, ok := two()
	if !ok {
		return false
	}
	off := h*3600 + m*60
	save := rest
	if !colon || strings.HasPrefix(rest, ":") {
		rest = strings.TrimPrefix(rest, ":")
		if s, ok := two(); ok {
			off += s
		} else {
			rest = save
		}
	}
	if neg {
		off = -off
	}
	p.s = rest
	p.tz = &TZ{kind: TZDatetime, offset: off}
	if off == 0 {
		p.tz = datetimeUTC
	}
	return true
}

func (p *strptimer) result() *DateTime {
	if p.hour12 {
		p.h %= 12
		if p.pm {
			p.h += 12
		}
	}
	if p.isoYear >= 0 || p.isoWeek >= 0 {
		if p.isoYear < 0 || p.isoWeek < 0 || p.wd < 0 {
			valueError("ISO week directives '%%V' and '%%G' must be used together with a day-of-week directive ('%%A', '%%a', '%%w', or '%%u').")
		}
		return p.at(isoWeekDate(int64(p.isoYear), int64(p.isoWeek), int64(p.wd+1)))
	}
	if !p.yearSet && p.month == 2 && p.day == 29 {
		valueError("day is out of range for month")
	}
	switch {
	case p.yd > 0 && !(p.monthSet && p.daySet):
		return p.at(daysSince(p.year, 1, 1) + int64(p.yd) - 1)
	case p.week >= 0 && p.wd >= 0 && p.yearSet && !p.monthSet:
		jan1 := daysSince(p.year, 1, 1)
		first, wd := weekday(jan1), p.wd
		if p.weekFromSunday {
			first, wd = (first+1)%7, (wd+1)%7
		}
		week0 := (7 - first) % 7
		n := week0 + 7*(p.week-1) + wd
		if p.week == 0 {
			n = wd - first
		}
		return p.at(jan1 + int64(n))
	}
	return p.at(checkDate(int64(p.year), int64(p.month), int64(p.day)))
}

func (p *strptimer) at(days int64) *DateTime {
	return &DateTime{days: days, us: checkClock(int64(p.h), int64(p.m), int64(min(p.sec, 59)), int64(p.us)), tz: p.tz}
}

// trimZeros takes the leading zeros off digits, for "_" by blanks.
func trimZeros(s string, pad byte) string {
	t := strings.TrimLeft(s[:len(s)-1], "0") + s[len(s)-1:]
	if pad == '_' {
		t = strings.Repeat(" ", len(s)-len(t)) + t
	}
	return t
}
