package cron

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// SyntaxError says why an expression was refused. Its text is croniter's, so
// that an import error reads as Airflow users know it.
type SyntaxError struct {
	// Class is croniter's exception class.
	Class   string
	Message string
}

// Error returns the message.
func (e *SyntaxError) Error() string { return e.Message }

func badCron(format string, args ...any) error {
	return &SyntaxError{Class: "CroniterBadCronError", Message: fmt.Sprintf(format, args...)}
}

// aliases are the names that stand for a whole expression, in any case.
var aliases = map[string]string{
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
	"@daily":    "0 0 * * *",
	"@weekly":   "0 0 * * 0",
	"@monthly":  "0 0 1 * *",
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
}

// Parse reads an expression. The error, if any, is a *SyntaxError.
func Parse(expr string) (*Schedule, error) {
	text := strings.ToLower(expr)
	if a, ok := aliases[text]; ok {
		text = a
	}
	words := strings.FieldsFunc(text, isSpace)
	if len(words) < fieldsUnix || len(words) > fieldsYear {
		return nil, badCron("Exactly 5, 6 or 7 columns has to be specified for iterator expression.")
	}
	p := parser{expr: expr, words: words, s: &Schedule{expr: expr, fields: len(words)}}
	for i := range words {
		if err := p.field(i); err != nil {
			return nil, err
		}
	}
	if err := p.checkNth(); err != nil {
		return nil, err
	}
	p.s.prepare()
	return p.s, nil
}

// isSpace is Python's str.isspace: Unicode's and the four ASCII separators.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

type parser struct {
	expr  string   // as the author wrote it
	words []string // the lower-case fields
	s     *Schedule
	// limited lists the weekdays with an occurrence, as first met.
	limited []int
}

// notAlpha is the refusal of a word that is neither a number nor a known name.
func (p *parser) notAlpha() error {
	return &SyntaxError{
		Class:   "CroniterNotAlphaError",
		Message: fmt.Sprintf("[%s] is not acceptable", strings.Join(p.words, " ")),
	}
}

// item is one entry of a comma-separated field still to be read.
type item struct {
	text string
	nth  int // weekday occurrence the item is limited to: 1-5, nthLast or 0 = none
}

// field expands field i into the schedule.
//
// The items are taken from the end of the list and ranges are put back as
// single values: the order decides which of several errors is reported.
func (p *parser) field(i int) error {
	word, err := p.randomised(i)
	if err != nil {
		return err
	}
	if strings.Contains(word, "?") {
		if word != "?" {
			return badCron("[%s] is not acceptable. Question mark can not used with other characters", p.expr)
		}
		if i != fieldDay && i != fieldWeekday {
			return badCron("[%s] is not acceptable. Question mark can only used in day_of_month or day_of_week", p.expr)
		}
		word = "*"
	}
	list := strings.Split(word, ",")
	f := &p.s.field[i]
	for n := len(list) - 1; n >= 0; n-- {
		it := item{text: list[n]}
		switch i {
		case fieldDay:
			if day, ok := nearestWeekday(it.text); ok {
				v, err := strconv.Atoi(day)
				if err != nil || v < 1 || v > 31 {
					return badCron("[%s] is not acceptable, nearest weekday day value '%s' out of range", p.expr, day)
				}
				if len(list) > 1 {
					return badCron("[%s] is not acceptable. 'W' can only be used with a single day value, not in a list or range", p.expr)
				}
				p.s.nearest = v
				it.text = day
			}
		case fieldWeekday:
			if it, err = p.weekdayItem(it.text); err != nil {
				return err
			}
		}
		values, isRange, err := p.rangeValues(i, it.text)
		if err != nil {
			return err
		}
		if !isRange {
			if err := p.single(i, f, it); err != nil {
				return err
			}
			continue
		}
		for k := len(values) - 1; k >= 0; k-- {
			v := item{text: strconv.Itoa(values[k]), nth: it.nth}
			if err := p.single(i, f, v); err != nil {
				return err
			}
		}
	}
	p.collapse(i, f)
	return nil
}

// collapse turns a field that lists every value into the wildcard. Of the two
// day fields only when the other one has a wildcard in its text: otherwise the
// "either matches" rule of two restricted day fields would be lost.
func (p *parser) collapse(i int, f *field) {
	f.plain = f.star && f.count() == 1
	if f.plain || f.count() != fieldSpecs[i].all {
		return
	}
	if i == fieldDay && !strings.Contains(p.words[fieldWeekday], "*") ||
		i == fieldWeekday && !strings.Contains(p.words[fieldDay], "*") {
		return
	}
	*f = field{star: true, plain: true}
}

// nearestWeekday splits "15w" and "w15".
func nearestWeekday(text string) (day string, ok bool) {
	if d, found := strings.CutPrefix(text, "w"); found {
		return d, isNumber(d)
	}
	if d, found := strings.CutSuffix(text, "w"); found {
		return d, isNumber(d)
	}
	return "", false
}

// weekdayItem splits "name#n", "name-name#n", "number#n" and "ln".
func (p *parser) weekdayItem(text string) (item, error) {
	if d, found := strings.CutPrefix(text, "l"); found && isNumber(d) {
		return item{text: d, nth: nthLast}, nil
	}
	days, occurrence, found := strings.Cut(text, "#")
	if !found || !isNumber(occurrence) || !nthDays(days) {
		return item{text: text}, nil
	}
	n, err := strconv.Atoi(occurrence)
	if err != nil || n < 1 || n > 5 {
		return item{}, badCron("[%s] is not acceptable. Invalid day_of_week value: '%s'", p.expr, occurrence)
	}
	return item{text: days, nth: n}, nil
}

// nthDays reports whether days may stand before "#": one word, or two weekday
// (or two month) names with a dash.
func nthDays(days string) bool {
	if from, to, isRange := strings.Cut(days, "-"); isRange {
		_, a := weekdayNumbers[from]
		_, b := weekdayNumbers[to]
		_, c := monthNumbers[from]
		_, d := monthNumbers[to]
		return a && b || c && d
	}
	if days == "" {
		return false
	}
	for _, r := range days {
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			return false
		}
	}
	return true
}

// rangeValues expands "a-b", "a-b/n", "*/n" and "a/n". isRange is false when
// text has none of these shapes.
func (p *parser) rangeValues(i int, text string) (values []int, isRange bool, err error) {
	spec := fieldSpecs[i]
	top := spec.high
	if i == fieldWeekday {
		top = 6 // 7 is Sunday again, at the other end
	}
	lowText, highText, stepText, ok := splitRange(text)
	open := false
	if !ok {
		slash := strings.LastIndexByte(text, '/')
		if slash <= 0 || slash == len(text)-1 {
			return nil, false, nil
		}
		start := text[:slash]
		if start == "*" {
			start = strconv.Itoa(spec.low)
		} else {
			open = true
		}
		lowText, highText, stepText, ok = splitRange(start + "-" + strconv.Itoa(top) + text[slash:])
		if !ok {
			return nil, false, nil
		}
	}
	if i == fieldDay && highText == "l" {
		highText = "31"
	}
	for _, band := range []*string{&lowText, &highText} {
		if isNumber(*band) {
			continue
		}
		v, known := spec.names[*band]
		switch {
		case known:
			*band = strconv.Itoa(v)
		case i == fieldDay && *band == "l":
		default:
			return nil, false, p.notAlpha()
		}
	}
	step := number(stepText)
	if step == 0 {
		return nil, false, badCron("[%s] step '0' in field %d is not acceptable", p.expr, i)
	}
	if lowText == "l" || highText == "l" {
		return nil, false, badCron("[%s] bands '%s-%s' in field %d are not acceptable", p.expr, lowText, highText, i)
	}
	low, high := number(lowText), number(highText)
	if max(low, high) > spec.high {
		return nil, false, badCron("%s is out of bands", p.expr)
	}
	if i == fieldWeekday {
		low, high = low%7, high%7
	}
	switch {
	case low == high && open:
		// "59/15": the start is also the end.
		return []int{low}, true, nil
	case low == high:
		// "MON-MON" goes once around.
		return steps(spec.low, top, step), true, nil
	case low < high:
		return steps(low, high, step), true, nil
	}
	values = steps(low, top, step)
	// The step goes on over the end of the field, except that it restarts at
	// the first value when it lands exactly one past the end.
	lastValue := values[len(values)-1]
	size := top - spec.low + 1
	skip := 0
	if left := top - lastValue; lastValue-spec.low+step > size && left < step {
		skip = step - left
	}
	for _, v := range steps(spec.low+skip, high, step) {
		if !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values, true, nil
}

// steps lists low, low+step … up to high.
func steps(low, high, step int) []int {
	var out []int
	for v := low; v <= high; v += step {
		out = append(out, v)
	}
	return out
}

// splitRange splits "low-high" and "low-high/step". Only digits are a step.
func splitRange(text string) (low, high, step string, ok bool) {
	low, rest, found := strings.Cut(text, "-")
	if !found || low == "" {
		return "", "", "", false
	}
	high, step, stepped := strings.Cut(rest, "/")
	switch {
	case high == "" || strings.Contains(high, "-"):
		return "", "", "", false
	case !stepped:
		step = "1"
	case !isNumber(step):
		return "", "", "", false
	}
	return low, high, step, true
}

// single adds one value, name or wildcard.
func (p *parser) single(i int, f *field, it item) error {
	spec := fieldSpecs[i]
	text := it.text
	if strings.HasPrefix(text, "-") {
		return badCron("[%s] is not acceptable, negative numbers not allowed", p.expr)
	}
	switch {
	case text == "*":
		f.star = true
		return nil
	case i == fieldDay && text == "l":
		f.last = true
		return nil
	}
	v, known := spec.names[text]
	if !known {
		if !isNumber(text) {
			return p.notAlpha()
		}
		v = number(text)
		if i == fieldWeekday && v == 7 {
			v = 0
		}
	}
	if v < spec.low || v > spec.high {
		return badCron("[%s] is not acceptable, out of range", p.expr)
	}
	f.set.add(v - base(i))
	if it.nth != 0 {
		if p.s.nth[v] == 0 {
			p.limited = append(p.limited, v)
		}
		p.s.nth[v] |= 1 << it.nth
		p.s.hasNth = true
	}
	return nil
}

// checkNth refuses plain weekdays beside "#" and "Ln", unless the field is
// every weekday.
func (p *parser) checkNth() error {
	f := &p.s.field[fieldWeekday]
	if !p.s.hasNth || f.plain || f.count() == fieldSpecs[fieldWeekday].all {
		return nil
	}
	var plain, nth []string
	for _, v := range f.values(fieldWeekday) {
		if p.s.nth[v] == 0 {
			plain = append(plain, strconv.Itoa(v))
		}
	}
	for _, v := range p.limited {
		var which []string
		for n := 1; n <= 5; n++ {
			if p.s.nth[v]&(1<<n) != 0 {
				which = append(which, strconv.Itoa(n))
			}
		}
		if p.s.nth[v]&(1<<nthLast) != 0 {
			which = append(which, "'l'")
		}
		nth = append(nth, fmt.Sprintf("%d: {%s}", v, strings.Join(which, ", ")))
	}
	if len(plain) == 0 {
		return nil
	}
	return &SyntaxError{
		Class: "CroniterUnsupportedSyntaxError",
		Message: fmt.Sprintf("day-of-week field does not support mixing literal values and nth day of week syntax.  Cron: '%s'    dow={%s} vs nth={%s}",
			p.expr, strings.Join(plain, ", "), strings.Join(nth, ", ")),
	}
}

// randomised replaces "r", "r(a-b)", each with an optional "/n", by numbers
// derived from the expression, and refuses the "h" forms.
func (p *parser) randomised(i int) (string, error) {
	word := p.words[i]
	if word == "" || word[0] != 'r' && word[0] != 'h' {
		return word, nil
	}
	spec := fieldSpecs[i]
	rest := word[1:]
	low, high := spec.low, spec.high
	if i == fieldWeekday {
		high = 6
	}
	bounded, stepped := false, false
	step := 0
	if strings.HasPrefix(rest, "(") {
		end := strings.IndexByte(rest, ')')
		if end < 0 {
			return word, nil
		}
		a, b, ok := strings.Cut(rest[1:end], "-")
		if !ok || !isNumber(a) || !isNumber(b) {
			return word, nil
		}
		low, high, bounded = number(a), number(b), true
		rest = rest[end+1:]
	}
	if strings.HasPrefix(rest, "/") && isNumber(rest[1:]) {
		step, stepped = number(rest[1:]), true
		rest = ""
	}
	if rest != "" {
		return word, nil
	}
	if word[0] == 'h' {
		return "", badCron("Hashed definitions must include hash_id")
	}
	if bounded {
		if high <= low {
			return "", badCron("Range end must be greater than range begin")
		}
		if low < spec.low || high > spec.high {
			return "", badCron("[%s] is not acceptable, out of range", word)
		}
	}
	if stepped && step == 0 {
		return "", badCron("Bad expression: %s", word)
	}
	p.s.random = true
	h := fnv.New64a()
	fmt.Fprintf(h, "%s#%d", strings.Join(p.words, " "), i)
	draw := int(h.Sum64() >> 33)
	if !stepped {
		return strconv.Itoa(low + draw%(high-low+1)), nil
	}
	first := low + draw%min(step, high-low+1)
	if first >= high {
		return strconv.Itoa(first), nil
	}
	return fmt.Sprintf("%d-%d/%d", first, high, step), nil
}

// isNumber reports whether s is one or more ASCII digits.
func isNumber(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// number reads digits; what exceeds every field comes out as a number that
// does too.
func number(s string) int {
	v, err := strconv.Atoi(s)
	if err != nil || v > 1<<30 {
		return 1 << 30
	}
	return v
}
