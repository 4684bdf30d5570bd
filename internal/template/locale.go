package template

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/jinja"
)

// formatLocale is babel.dates.format_datetime for a date without zone, with a
// CLDR pattern or one of short, medium, long and full.
func formatLocale(d *jinja.DateTime, pattern, locale string) (string, error) {
	lang, _, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(locale, "-", "_")), ".")
	n, ok := locales[lang]
	if !ok {
		base, _, _ := strings.Cut(lang, "_")
		n, ok = locales[base]
	}
	if !ok {
		return "", jinja.Errorf("UnknownLocaleError", "unknown locale '%s'", locale)
	}
	switch pattern {
	case "short":
		pattern = n.short
	case "medium":
		pattern = n.medium
	case "long":
		pattern = n.long
	case "full":
		pattern = n.full
	}
	var b strings.Builder
	for i := 0; i < len(pattern); {
		c := pattern[i]
		if c == '\'' {
			if strings.HasPrefix(pattern[i:], "''") {
				b.WriteByte('\'')
				i += 2
				continue
			}
			j := i + 1
			for j < len(pattern) && pattern[j] != '\'' {
				j++
			}
			b.WriteString(pattern[i+1 : j])
			i = min(j+1, len(pattern))
			continue
		}
		if c|0x20 < 'a' || c|0x20 > 'z' {
			_, size := utf8.DecodeRuneInString(pattern[i:])
			b.WriteString(pattern[i : i+size])
			i += size
			continue
		}
		j := i
		for j < len(pattern) && pattern[j] == c {
			j++
		}
		s, err := n.field(d, c, j-i)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
		i = j
	}
	return b.String(), nil
}

func pick(list string, i int) string { return strings.Split(list, "|")[i] }

func pad(n, width int) string { return fmt.Sprintf("%0*d", width, n) }

// field renders one pattern field of a width.
func (n localeNames) field(d *jinja.DateTime, c byte, w int) (string, error) {
	t := d.Time()
	month, wd := int(t.Month()), (int(t.Weekday())+6)%7
	switch c {
	case 'G':
		return "AD", nil
	case 'y', 'u':
		s := pad(t.Year(), w)
		if w == 2 {
			s = s[len(s)-2:]
		}
		return s, nil
	case 'Y':
		y, _ := t.ISOWeek()
		s := pad(y, w)
		if w == 2 {
			s = s[len(s)-2:]
		}
		return s, nil
	case 'M', 'L':
		long, short := n.months, n.monthsShort
		if c == 'L' {
			long, short = n.monthsAlone, n.monthsAloneShort
		}
		switch {
		case w <= 2:
			return pad(month, w), nil
		case w == 3:
			return pick(short, month-1), nil
		case w == 4:
			return pick(long, month-1), nil
		}
		return pick(n.monthsNarrow, month-1), nil
	case 'Q', 'q':
		q := (month + 2) / 3
		switch {
		case w <= 2:
			return pad(q, w), nil
		case w == 3:
			return fmt.Sprintf("Q%d", q), nil
		}
	case 'w':
		return pad(n.week(t), w), nil
	case 'd':
		return pad(t.Day(), w), nil
	case 'D':
		return pad(t.YearDay(), w), nil
	case 'E', 'e', 'c':
		if c != 'E' && w < 3 {
			return pad((wd-n.firstDay+7)%7+1, w), nil
		}
		switch {
		case w <= 3:
			return pick(n.daysShort, wd), nil
		case w == 4:
			return pick(n.days, wd), nil
		}
		return pick(n.daysNarrow, wd), nil
	case 'a':
		if t.Hour() < 12 {
			return n.am, nil
		}
		return n.pm, nil
	case 'H':
		return pad(t.Hour(), w), nil
	case 'k':
		return pad((t.Hour()+23)%24+1, w), nil
	case 'h':
		return pad((t.Hour()+11)%12+1, w), nil
	case 'K':
		return pad(t.Hour()%12, w), nil
	case 'm':
		return pad(t.Minute(), w), nil
	case 's':
		return pad(t.Second(), w), nil
	case 'S':
		return fmt.Sprintf("%06d", t.Nanosecond()/1000)[:min(w, 6)], nil
	case 'z', 'v', 'V':
		if w >= 4 {
			return n.utcLong, nil
		}
		return n.utcShort, nil
	case 'Z':
		if w == 4 {
			return "GMT+00:00", nil
		}
		return "+0000", nil
	}
	return "", jinja.Errorf("KeyError", "Unsupported date/time field '%c'", c)
}

// week is the week of the year by the locale's rules: its first day, and how
// many days of a week must lie in the new year.
func (n localeNames) week(t time.Time) int {
	num := func(year int, yday int) int {
		jan1 := (int(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Weekday()) + 6) % 7
		first := (jan1 - n.firstDay + 7) % 7
		w := (yday + first - 1) / 7
		if 7-first >= n.minDays {
			w++
		}
		return w
	}
	w := num(t.Year(), t.YearDay())
	if w == 0 {
		last := time.Date(t.Year()-1, 12, 31, 0, 0, 0, 0, time.UTC).YearDay()
		return num(t.Year()-1, last+t.YearDay())
	}
	if w > 52 {
		days := time.Date(t.Year(), 12, 31, 0, 0, 0, 0, time.UTC).YearDay()
		jan1 := (int(time.Date(t.Year()+1, 1, 1, 0, 0, 0, 0, time.UTC).Weekday()) + 6) % 7
		first := (jan1 - n.firstDay + 7) % 7
		if 7-first >= n.minDays && days-t.YearDay() < first {
			return 1
		}
	}
	return w
}
