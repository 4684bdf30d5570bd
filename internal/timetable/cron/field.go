package cron

import (
	"math/bits"
	"strconv"
)

// The fields in the order in which an expression writes them.
const (
	fieldMinute = iota
	fieldHour
	fieldDay
	fieldMonth
	fieldWeekday
	fieldSecond
	fieldYear
)

// Accepted numbers of fields.
const (
	fieldsUnix    = 5
	fieldsSeconds = 6
	fieldsYear    = 7
)

// fieldSpec is what one field accepts.
type fieldSpec struct {
	low, high int
	// all is the number of distinct values that makes the field a wildcard.
	all   int
	names map[string]int
}

var fieldSpecs = [fieldsYear]fieldSpec{
	fieldMinute:  {low: 0, high: 59, all: 60},
	fieldHour:    {low: 0, high: 23, all: 24},
	fieldDay:     {low: 1, high: 31, all: 31},
	fieldMonth:   {low: 1, high: 12, all: 12, names: monthNumbers},
	fieldWeekday: {low: 0, high: 7, all: 7, names: weekdayNumbers},
	fieldSecond:  {low: 0, high: 59, all: 60},
	fieldYear:    {low: 1970, high: 2099, all: 130},
}

var monthNumbers = map[string]int{
	"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
	"jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}

var weekdayNumbers = map[string]int{
	"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6,
}

// valueSet is a set of field values, stored relative to the field's base so
// that years fit. It holds up to 192 values.
type valueSet [3]uint64

func (s *valueSet) add(i int)      { s[i>>6] |= 1 << (i & 63) }
func (s *valueSet) has(i int) bool { return s[i>>6]&(1<<(i&63)) != 0 }
func (s *valueSet) len() int {
	return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) + bits.OnesCount64(s[2])
}

// field is one expanded field.
type field struct {
	set valueSet // values minus base
	// star says that a wildcard is among the values; the field then never
	// restricts anything, whatever else it lists.
	star bool
	// plain says that the field expanded to the wildcard and nothing else.
	plain bool
	// last says that the last day of the month is among the values.
	last bool
}

// base is subtracted from a value before it enters a set.
func base(index int) int {
	if index == fieldYear {
		return fieldSpecs[fieldYear].low
	}
	return 0
}

// values lists the expanded numbers in ascending order.
func (f *field) values(index int) []int {
	var out []int
	for i := 0; i < 192; i++ {
		if f.set.has(i) {
			out = append(out, i+base(index))
		}
	}
	return out
}

// count is the number of distinct members, the wildcard and "l" included.
func (f *field) count() int {
	n := f.set.len()
	if f.star {
		n++
	}
	if f.last {
		n++
	}
	return n
}

// canonical renders the expanded field, for tests and for messages.
func (f *field) canonical(index int) string {
	out := ""
	add := func(s string) {
		if out != "" {
			out += ","
		}
		out += s
	}
	if f.star {
		add("*")
	}
	if !f.plain {
		for _, v := range f.values(index) {
			add(strconv.Itoa(v))
		}
		if f.last {
			add("l")
		}
	}
	return out
}
