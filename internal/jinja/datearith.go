package jinja

import (
	"math"
	"math/big"
)

// deltaOf gives the length of a timedelta, Duration or Interval.
func deltaOf(v Value) (int64, bool) {
	switch x := v.(type) {
	case *TimeDelta:
		return x.us, true
	case *Interval:
		return x.us(), true
	}
	return 0, false
}

// dateArith evaluates an operator on dates and spans; ok false leaves it to
// the others.
func dateArith(op string, a, b Value) (Value, bool) {
	switch x := a.(type) {
	case *DateTime:
		switch y := b.(type) {
		case *TimeDelta, *Interval:
			if op == "+" {
				return x.shift(y, 1), true
			}
			if op == "-" {
				return x.shift(y, -1), true
			}
		case *DateTime:
			if op == "-" {
				return subtract(x, y), true
			}
		case *relativeDelta:
			if op == "+" {
				return y.apply(x, 1), true
			}
			if op == "-" {
				return y.apply(x, -1), true
			}
		}
	case *Date:
		if us, ok := deltaOf(b); ok {
			days := floorDiv(us, usPerDay)
			switch op {
			case "+":
				checkRange(x.days + days)
				return &Date{days: x.days + days, pend: x.pend}, true
			case "-":
				checkRange(x.days - days)
				return &Date{days: x.days - days, pend: x.pend}, true
			}
		}
		switch y := b.(type) {
		case *Date:
			if op == "-" {
				if x.pend || y.pend {
					return newInterval(y.midnight(), x.midnight(), false).asDates(), true
				}
				return &TimeDelta{us: (x.days - y.days) * usPerDay}, true
			}
		case *relativeDelta:
			if op == "+" || op == "-" {
				sign := int64(1)
				if op == "-" {
					sign = -1
				}
				d := y.apply(&DateTime{days: x.days}, sign).(*DateTime)
				return &Date{days: d.days, pend: x.pend}, true
			}
		}
	case *relativeDelta:
		return x.arith(op, b)
	}
	us, aDelta := deltaOf(a)
	us2, bDelta := deltaOf(b)
	mk := func(n int64) Value {
		if x, ok := a.(*TimeDelta); ok && x.pend {
			return &TimeDelta{us: n, pend: true}
		}
		if _, ok := a.(*Interval); ok {
			return &TimeDelta{us: n, pend: true}
		}
		if x, ok := b.(*TimeDelta); ok && x.pend {
			return &TimeDelta{us: n, pend: true}
		}
		return &TimeDelta{us: n}
	}
	switch {
	case aDelta && bDelta:
		switch op {
		case "+":
			return mk(us + us2), true
		case "-":
			return mk(us - us2), true
		case "/":
			if us2 == 0 {
				raise("ZeroDivisionError", "division by zero")
			}
			return float64(us) / float64(us2), true
		case "//":
			if us2 == 0 {
				raise("ZeroDivisionError", "integer division or modulo by zero")
			}
			return floorDiv(us, us2), true
		case "%":
			if us2 == 0 {
				raise("ZeroDivisionError", "integer division or modulo by zero")
			}
			return mk(us - floorDiv(us, us2)*us2), true
		}
	case aDelta && op == "+":
		switch y := b.(type) {
		case *DateTime, *Date:
			return dateArith("+", y, a)
		}
	case aDelta && isNumber(b):
		switch op {
		case "*":
			return mk(scaleDelta(us, b)), true
		case "/":
			f, _ := floatOf(b)
			if f == 0 {
				raise("ZeroDivisionError", "division by zero")
			}
			if n, ok := smallInt(b); ok {
				q := roundRat(ratOf(big.NewInt(us), big.NewInt(n)))
				return mk(q.Int64()), true
			}
			return mk(checkDelta(math.RoundToEven(float64(us) / f))), true
		case "//":
			if n, ok := smallInt(b); ok {
				if n == 0 {
					raise("ZeroDivisionError", "integer division or modulo by zero")
				}
				return mk(floorDiv(us, n)), true
			}
		}
	case bDelta && isNumber(a) && op == "*":
		return mk(scaleDelta(us2, a)), true
	}
	return nil, false
}

func scaleDelta(us int64, by Value) int64 {
	f, _ := floatOf(by)
	r := checkDelta(math.RoundToEven(float64(us) * f))
	if n, ok := smallInt(by); ok {
		return us * n
	}
	return r
}

func checkDelta(f float64) int64 {
	if math.IsNaN(f) || math.Abs(f) > 9e18 {
		raise("OverflowError", "timedelta value out of range")
	}
	return int64(f)
}

// shift adds a span: pendulum adds the calendar units of a Duration, the wall
// time moves otherwise as the classes do.
func (d *DateTime) shift(v Value, sign int64) *DateTime {
	us, _ := deltaOf(v)
	if !d.pend {
		return addMicros(d, sign*us)
	}
	switch x := v.(type) {
	case *Interval:
		p := x.parts()
		return d.addSpan(span{
			years: sign * p.years, months: sign * p.months, days: sign * p.days,
			us:        sign * ((p.hours*3600+p.minutes*60+p.seconds)*usPerSec + p.us),
			dateUnits: p.years != 0 || p.months != 0 || p.days != 0,
		})
	case *TimeDelta:
		if x.pend {
			c := x.counts()
			return d.addSpan(span{
				years: sign * c[0], months: sign * c[1], days: sign * (c[2]*7 + c[3]),
				us:        sign * ((c[4]*3600+c[5]*60+c[6])*usPerSec + x.us%usPerSec),
				dateUnits: c[0] != 0 || c[1] != 0 || c[2] != 0 || c[3] != 0,
			})
		}
	}
	// A plain timedelta moves the instant by its seconds.
	return d.addSpan(span{us: sign * us})
}

// subtract is a - b of two datetimes.
func subtract(a, b *DateTime) Value {
	if (a.tz == nil) != (b.tz == nil) {
		typeError("can't subtract offset-naive and offset-aware datetimes")
	}
	if a.pend || b.pend {
		return newInterval(toPend(b), toPend(a), false)
	}
	if a.tz == b.tz {
		return &TimeDelta{us: (a.days-b.days)*usPerDay + a.us - b.us}
	}
	return &TimeDelta{us: a.instant() - b.instant()}
}
