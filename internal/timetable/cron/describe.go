package cron

import (
	"strconv"
	"strings"
	"unicode"
)

// Describe returns the English sentence that Airflow shows for an expression
// with a 24-hour clock, such as "At 06:30, only on Monday". It is "" when
// Airflow has none: an expression that does not parse, has more than five
// fields, or defeats the describer.
//
// Where both day fields are given (even as "?"), two sentences are joined with
// "(or)".
func Describe(expr string) string {
	s, err := Parse(expr)
	if err != nil || s.fields > fieldsUnix {
		return ""
	}
	words := strings.FieldsFunc(expr, isSpace)
	if len(words) < fieldsUnix {
		return "" // an alias
	}
	if words[2] == "*" || words[4] == "*" {
		text, _ := describe(words)
		return text
	}
	byMonthDay := []string{words[0], words[1], words[2], words[3], "*"}
	byWeekday := []string{words[0], words[1], "*", words[3], words[4]}
	a, okA := describe(byMonthDay)
	b, okB := describe(byWeekday)
	if !okA || !okB {
		return ""
	}
	return a + " (or) " + b
}

// special are the characters that make a field more than one value.
const special = "/-,*"

func isSpecial(s string) bool { return strings.ContainsAny(s, special) }

// describe makes the sentence of five fields; ok is false when one of them
// cannot be put into words.
func describe(words []string) (text string, ok bool) {
	minute, hour, day, month, weekday := normalise(words)
	d := describer{ok: true}
	text = d.timeOfDay(minute, hour) + d.monthDay(day) + d.weekday(weekday) + d.month(month)
	if !d.ok {
		return "", false
	}
	for _, noise := range []string{", every minute", ", every hour", ", every day"} {
		text = strings.ReplaceAll(text, noise, "")
	}
	if text = strings.TrimRight(text, ", "); text == "" {
		return "", true
	}
	r := []rune(text)
	r[0] = unicode.ToUpper(r[0])
	return string(r), true
}

// normalise rewrites the fields into the fewest shapes the describer has
// sentences for.
func normalise(words []string) (minute, hour, day, month, weekday string) {
	minute, hour, day, month, weekday = words[0], words[1], words[2], words[3], words[4]
	day = strings.ReplaceAll(day, "?", "*")
	weekday = strings.ReplaceAll(weekday, "?", "*")
	fromStart := func(s *string, prefix string) {
		if strings.HasPrefix(*s, prefix) {
			*s = strings.ReplaceAll(*s, prefix, "*/")
		}
	}
	fromStart(&minute, "0/")
	fromStart(&hour, "0/")
	fromStart(&day, "1/")
	fromStart(&month, "1/")
	fromStart(&weekday, "1/")
	month = numbered(month, monthNames, 1)
	weekday = numbered(weekday, weekdayNames, 0)
	if !isSpecial(hour) && strings.ContainsAny(minute, "*/") {
		hour += "-" + hour
	}
	for _, s := range []*string{&minute, &hour, &day, &month, &weekday} {
		if *s == "*/1" {
			*s = "*"
		}
	}
	if start, step, found := strings.Cut(month, "/"); found && !strings.ContainsAny(month, "*-,") {
		month = start + "-12/" + step
	}
	return minute, hour, day, month, weekday
}

var monthNames = [...]string{"January", "February", "March", "April", "May", "June",
	"July", "August", "September", "October", "November", "December"}

var weekdayNames = [...]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}

// numbered replaces three-letter names by numbers counted from first.
func numbered[A [12]string | [7]string](s string, names A, first int) string {
	s = strings.ToUpper(s)
	for i := 0; i < len(names); i++ {
		s = strings.ReplaceAll(s, strings.ToUpper(names[i][:3]), strconv.Itoa(i+first))
	}
	return s
}

// describer collects whether every part could be put into words.
type describer struct{ ok bool }

// segment holds the wordings of one field. %s is replaced by the value.
type segment struct {
	all      string
	one      func(string) string
	interval func(string) string
	between  string // two %s
	single   func(string) string
}

func (d *describer) segment(expr string, s segment) string {
	switch {
	case expr == "*":
		return s.all
	case !strings.ContainsAny(expr, "/-,"):
		return fill(s.single(expr), s.one(expr))
	case strings.Contains(expr, ","):
		parts := strings.Split(expr, ",")
		var b strings.Builder
		for i, part := range parts {
			if i > 0 && len(parts) > 2 {
				b.WriteString(",")
				if i < len(parts)-1 {
					b.WriteString(" ")
				}
			}
			if i > 0 && (i == len(parts)-1 || len(parts) == 2) {
				b.WriteString(" and ")
			}
			switch {
			case strings.Contains(part, "/"):
				b.WriteString(d.steppedItem(part, s))
			case strings.Contains(part, "-"):
				b.WriteString(d.span(part, "%s through %s", s))
			default:
				b.WriteString(s.one(part))
			}
		}
		return fill(s.single(expr), b.String())
	case strings.Contains(expr, "/"):
		return d.stepped(expr, s)
	}
	return d.span(expr, s.between, s)
}

func (d *describer) stepped(expr string, s segment) string {
	from, step, _ := strings.Cut(expr, "/")
	text := fill(s.interval(step), step)
	switch {
	case strings.Contains(from, "-"):
		between := d.span(from, s.between, s)
		if !strings.HasPrefix(between, ", ") {
			text += ", "
		}
		text += between
	case !strings.Contains(from, "*"):
		single := fill(s.single(from), s.one(from))
		text += ", starting " + strings.Replace(single, ", ", "", 1)
	}
	return text
}

// steppedItem words a stepped range within a list. A start without an end
// leaves its comma behind and nothing after it.
func (d *describer) steppedItem(expr string, s segment) string {
	from, step, _ := strings.Cut(expr, "/")
	text := strings.TrimPrefix(fill(s.interval(step), step), ", ")
	switch {
	case strings.Contains(from, "-"):
		text += d.span(from, ", %s through %s", s)
	case !strings.Contains(from, "*"):
		text += ", "
	}
	return text
}

// span words "a-b"; the end of an hour range is its last minute.
func (d *describer) span(expr, format string, s segment) string {
	parts := strings.Split(expr, "-")
	from, to := s.one(parts[0]), s.one(parts[1])
	return fill(fill(format, from), strings.ReplaceAll(to, ":00", ":59"))
}

// fill replaces the first %s.
func fill(format, value string) string { return strings.Replace(format, "%s", value, 1) }

func constant(s string) func(string) string { return func(string) string { return s } }

func same(s string) string { return s }

func (d *describer) timeOfDay(minute, hour string) string {
	switch {
	case !isSpecial(minute) && !isSpecial(hour):
		return "At " + d.clock(hour, minute)
	case strings.Contains(minute, "-") && !strings.ContainsAny(minute, ",/") && !isSpecial(hour):
		from, to, _ := strings.Cut(minute, "-")
		return "Every minute between " + d.clock(hour, from) + " and " + d.clock(hour, to)
	case strings.Contains(hour, ",") && !strings.Contains(hour, "-") && !isSpecial(minute):
		var b strings.Builder
		b.WriteString("At")
		hours := strings.Split(hour, ",")
		for i, h := range hours {
			b.WriteString(" " + d.clock(h, minute))
			if i < len(hours)-2 {
				b.WriteString(",")
			}
			if i == len(hours)-2 {
				b.WriteString(" and")
			}
		}
		return b.String()
	}
	minutes := d.segment(minute, segment{
		all:      "every minute",
		one:      same,
		interval: constant("every %s minutes"),
		between:  "minutes %s through %s past the hour",
		single: func(s string) string {
			if s == "0" && (!strings.Contains(hour, "-") || strings.ContainsAny(hour, ",/")) {
				return ""
			}
			return "at %s minutes past the hour"
		},
	})
	hours := d.segment(hour, segment{
		all:      "every hour",
		one:      func(s string) string { return d.clock(s, "0") },
		interval: constant("every %s hours"),
		between:  "between %s and %s",
		single:   constant("at %s"),
	})
	if minutes != "" && hours != "" {
		minutes += ", "
	}
	return minutes + hours
}

// clock renders HH:MM.
func (d *describer) clock(hour, minute string) string {
	return d.two(hour) + ":" + d.two(minute)
}

func (d *describer) two(s string) string {
	if !isNumber(s) {
		d.ok = false
		return ""
	}
	text := strconv.Itoa(number(s))
	if len(text) < 2 {
		text = "0" + text
	}
	return text
}

func (d *describer) monthDay(expr string) string {
	if expr == "L" {
		return ", on the last day of the month"
	}
	if n, found := strings.CutSuffix(expr, "W"); found && isNumber(n) {
		return nearestText(n)
	}
	if n, found := strings.CutPrefix(expr, "W"); found && isNumber(n) {
		return nearestText(n)
	}
	return d.segment(expr, segment{
		all: ", every day",
		one: same,
		interval: func(s string) string {
			if s == "1" {
				return ", every day"
			}
			return ", every %s days"
		},
		between: ", between day %s and %s of the month",
		single:  constant(", on day %s of the month"),
	})
}

func nearestText(day string) string {
	if number(day) == 1 {
		return ", on the first weekday of the month"
	}
	return ", on the weekday nearest day " + strconv.Itoa(number(day)) + " of the month"
}

var ordinals = [...]string{"", "first", "second", "third", "fourth", "fifth"}

func (d *describer) weekday(expr string) string {
	if expr == "*" {
		return ""
	}
	seg := segment{
		all:      ", every day",
		one:      d.weekdayName,
		interval: constant(", every %s days of the week"),
		between:  ", %s through %s",
		single: func(s string) string {
			if _, which, found := strings.Cut(s, "#"); found {
				n := 0
				if isNumber(which) {
					n = number(which)
				}
				if n >= len(ordinals) {
					n = 0
				}
				return ", on the " + ordinals[n] + " %s of the month"
			}
			if strings.Contains(s, "L") {
				return ", on the last %s of the month"
			}
			return ", only on %s"
		},
	}
	days, step, found := strings.Cut(expr, "/")
	if !found || !isNumber(step) || days == "*" {
		return d.segment(expr, seg)
	}
	// A step past the end of its range never reaches a second day: it is worded
	// as weeks. So is one behind a list, which it does not belong to.
	if !strings.Contains(days, ",") {
		from, to, isRange := strings.Cut(days, "-")
		if !isNumber(from) || isRange && !isNumber(to) {
			return d.segment(expr, seg)
		}
		last := 6
		if isRange {
			if last = number(to) % 7; last == 0 {
				last = 7
			}
		}
		if number(step) <= last-number(from)%7 {
			if !isRange {
				days += "-6"
			}
			return d.segment(days+"/"+step, seg)
		}
	}
	seg.single = constant(", only on %s")
	if from, open := strings.CutSuffix(days, "-6"); open && isNumber(from) {
		days = from // up to the end of the week, as "from/step" means too
	}
	return ", every " + step + " weeks" + d.segment(days, seg)
}

func (d *describer) weekdayName(s string) string {
	day, _, _ := strings.Cut(s, "#")
	day = strings.ReplaceAll(day, "L", "")
	if !isNumber(day) {
		d.ok = false
		return ""
	}
	return weekdayNames[number(day)%7]
}

func (d *describer) month(expr string) string {
	return d.segment(expr, segment{
		one: func(s string) string {
			if !isNumber(s) || number(s) < 1 || number(s) > 12 {
				d.ok = false
				return ""
			}
			return monthNames[number(s)-1]
		},
		interval: constant(", every %s months"),
		between:  ", %s through %s",
		single:   constant(", only in %s"),
	})
}
