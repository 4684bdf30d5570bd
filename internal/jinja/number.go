package jinja

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
	"unicode"

	"github.com/gustflow/gust/internal/pyrepr"
)

// numOp evaluates an arithmetic operator on two numbers.
func (ev *Eval) numOp(op string, a, b Value) Value {
	if x, ok := smallInt(a); ok {
		if y, ok := smallInt(b); ok {
			if v, ok := smallOp(op, x, y); ok {
				return v
			}
		}
	}
	if isInt(a) && isInt(b) {
		x, _ := bigOf(a)
		y, _ := bigOf(b)
		return ev.bigOp(op, x, y)
	}
	x, _ := floatOf(a)
	y, _ := floatOf(b)
	return floatOp(op, x, y)
}

// smallOp is the path without big integers; ok false when it does not apply.
func smallOp(op string, x, y int64) (Value, bool) {
	switch op {
	case "+":
		s := x + y
		return s, (s > x) == (y > 0)
	case "-":
		s := x - y
		return s, (s < x) == (y > 0)
	case "*":
		hi, lo := bits.Mul64(abs64(x), abs64(y))
		if hi != 0 || lo > math.MaxInt64 {
			return nil, false
		}
		return x * y, true
	case "//", "%":
		if y == 0 || x == math.MinInt64 {
			return nil, false
		}
		q, r := x/y, x%y
		if r != 0 && (r < 0) != (y < 0) {
			q--
			r += y
		}
		if op == "//" {
			return q, true
		}
		return r, true
	}
	return nil, false
}

func abs64(x int64) uint64 {
	if x < 0 {
		return uint64(-x)
	}
	return uint64(x)
}

func floorDivMod(x, y *big.Int) (q, r *big.Int) {
	q, r = new(big.Int), new(big.Int)
	q.QuoRem(x, y, r)
	if r.Sign() != 0 && (r.Sign() < 0) != (y.Sign() < 0) {
		q.Sub(q, big.NewInt(1))
		r.Add(r, y)
	}
	return q, r
}

func (ev *Eval) bigOp(op string, x, y *big.Int) Value {
	ev.alloc(x.BitLen()/8 + y.BitLen()/8)
	switch op {
	case "+":
		return normInt(new(big.Int).Add(x, y))
	case "-":
		return normInt(new(big.Int).Sub(x, y))
	case "*":
		if x.BitLen()+y.BitLen() > ev.limits.MaxIntBits {
			raise(ClassLimit, "an integer would have more than %d bits", ev.limits.MaxIntBits)
		}
		return normInt(new(big.Int).Mul(x, y))
	case "/":
		if y.Sign() == 0 {
			raise("ZeroDivisionError", "division by zero")
		}
		f, _ := new(big.Rat).SetFrac(x, y).Float64()
		if math.IsInf(f, 0) {
			raise("OverflowError", "integer division result too large for a float")
		}
		return f
	case "//":
		if y.Sign() == 0 {
			raise("ZeroDivisionError", "integer division or modulo by zero")
		}
		q, _ := floorDivMod(x, y)
		return normInt(q)
	case "%":
		if y.Sign() == 0 {
			raise("ZeroDivisionError", "integer modulo by zero")
		}
		_, r := floorDivMod(x, y)
		return normInt(r)
	}
	// "**"
	if y.Sign() < 0 {
		if x.Sign() == 0 {
			raise("ZeroDivisionError", "0.0 cannot be raised to a negative power")
		}
		fx, _ := floatOf(normInt(x))
		fy, _ := floatOf(normInt(y))
		return floatOp("**", fx, fy)
	}
	if x.BitLen() > 1 && (!y.IsInt64() || y.Int64() > int64(ev.limits.MaxIntBits)/int64(x.BitLen())) {
		raise(ClassLimit, "an integer would have more than %d bits", ev.limits.MaxIntBits)
	}
	if !y.IsInt64() { // 0, 1 or -1 to a huge power
		if x.Sign() >= 0 || y.Bit(0) == 1 {
			return normInt(x)
		}
		return int64(1)
	}
	if x.BitLen() <= 1 && x.Sign() < 0 && y.Bit(0) == 0 {
		return int64(1)
	}
	if x.BitLen() <= 1 {
		if y.Sign() == 0 {
			return int64(1)
		}
		return normInt(x)
	}
	return normInt(new(big.Int).Exp(x, y, nil))
}

func floatOp(op string, x, y float64) Value {
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	case "/":
		if y == 0 {
			raise("ZeroDivisionError", "float division by zero")
		}
		return x / y
	case "//":
		if y == 0 {
			raise("ZeroDivisionError", "float floor division by zero")
		}
		q, _ := floatDivMod(x, y)
		return q
	case "%":
		if y == 0 {
			raise("ZeroDivisionError", "float modulo")
		}
		_, r := floatDivMod(x, y)
		return r
	}
	if x == 0 && y < 0 {
		raise("ZeroDivisionError", "0.0 cannot be raised to a negative power")
	}
	if x < 0 && y != math.Trunc(y) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		raise("ValueError", "complex numbers are not available in templates without the Python runtime")
	}
	r := math.Pow(x, y)
	if math.IsInf(r, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		raise("OverflowError", "(34, 'Numerical result out of range')")
	}
	return r
}

func floatDivMod(x, y float64) (q, r float64) {
	r = math.Mod(x, y)
	q = (x - r) / y
	if r != 0 {
		if (y < 0) != (r < 0) {
			r += y
			q--
		}
	} else {
		r = math.Copysign(0, y)
	}
	if q != 0 {
		f := math.Floor(q)
		if q-f > 0.5 {
			f++
		}
		q = f
	} else {
		q = math.Copysign(0, x/y)
	}
	return q, r
}

// unary evaluates +v and -v.
func (ev *Eval) unary(op string, v Value) Value {
	v = unwrap(v)
	switch x := v.(type) {
	case *Undefined:
		x.fail()
	case float64:
		if op == "-" {
			return -x
		}
		return x
	case *TimeDelta:
		if op == "-" {
			return x.with(-x.us)
		}
		return x
	case *Interval:
		if op == "-" {
			return x.negate()
		}
		return x
	}
	if b, ok := bigOf(v); ok {
		if op == "-" {
			return normInt(new(big.Int).Neg(b))
		}
		return normInt(b)
	}
	typeError("bad operand type for unary %s: '%s'", op, typeName(v))
	return nil
}

// parseInt is int(text, base); ok false for text that is no integer.
func parseInt(text string, base int) (Value, bool) {
	s := strings.TrimFunc(text, isSpace)
	s = asciiDigits(s)
	neg := false
	if s != "" && (s[0] == '+' || s[0] == '-') {
		neg = s[0] == '-'
		s = s[1:]
	}
	lower := strings.ToLower(s)
	if len(lower) > 1 && lower[0] == '0' {
		pb := map[byte]int{'x': 16, 'o': 8, 'b': 2}[lower[1]]
		if pb != 0 && (base == pb || base == 0) {
			base = pb
			s = strings.TrimPrefix(s[2:], "_")
		} else if base == 0 && strings.Trim(s, "0_") != "" {
			return nil, false
		}
	}
	if base == 0 {
		base = 10
	}
	if s == "" || strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") || s[0] == '+' || s[0] == '-' {
		return nil, false
	}
	s = strings.ReplaceAll(s, "_", "")
	if base&(base-1) != 0 && len(s) > maxIntDigits {
		valueError("Exceeds the limit (%d digits) for integer string conversion: value has %d digits; use sys.set_int_max_str_digits() to increase the limit", maxIntDigits, len(s))
	}
	b, ok := new(big.Int).SetString(s, base)
	if !ok {
		return nil, false
	}
	if neg {
		b.Neg(b)
	}
	return normInt(b), true
}

// parseFloat is float(text).
func parseFloat(text string) (float64, bool) {
	s := asciiDigits(strings.TrimFunc(text, isSpace))
	body := strings.ToLower(strings.TrimLeft(s, "+-"))
	if len(s)-len(body) > 1 {
		return 0, false
	}
	switch body {
	case "inf", "infinity", "nan":
	default:
		if body == "" || strings.ContainsAny(body, "xpin") {
			return 0, false
		}
		for i := 0; i < len(body); i++ {
			if body[i] == '_' && (i == 0 || i == len(body)-1 || !isDigit(body[i-1]) || !isDigit(body[i+1])) {
				return 0, false
			}
		}
		s = strings.ReplaceAll(s, "_", "")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// toInt is int(v) of one argument.
func toInt(v Value) Value {
	v = unwrap(v)
	switch x := v.(type) {
	case bool, int64, *big.Int:
		b, _ := bigOf(x)
		return normInt(b)
	case float64:
		if math.IsNaN(x) {
			valueError("cannot convert float NaN to integer")
		}
		if math.IsInf(x, 0) {
			raise("OverflowError", "cannot convert float infinity to integer")
		}
		b, _ := new(big.Float).SetFloat64(x).Int(nil)
		return normInt(b)
	case string, Markup:
		s, _ := strOf(x)
		if n, ok := parseInt(s, 10); ok {
			return n
		}
		valueError("invalid literal for int() with base 10: %s", pyrepr.Str(s))
	case *Undefined:
		x.fail()
	}
	typeError("int() argument must be a string, a bytes-like object or a real number, not '%s'", typeName(v))
	return nil
}

// toFloat is float(v).
func toFloat(v Value) float64 {
	v = unwrap(v)
	if f, ok := floatOf(v); ok {
		return f
	}
	if s, ok := strOf(v); ok {
		if f, ok := parseFloat(s); ok {
			return f
		}
		valueError("could not convert string to float: %s", pyrepr.Str(s))
	}
	if u, ok := v.(*Undefined); ok {
		u.fail()
	}
	typeError("float() argument must be a string or a real number, not '%s'", typeName(v))
	return 0
}

// roundHalfEven is round(f, n) for n >= 0: correctly rounded decimal.
func roundFloat(f float64, n int) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) || n > 330 {
		return f
	}
	if n >= 0 {
		r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', n, 64), 64)
		return r
	}
	if n < -320 {
		return math.Copysign(0, f)
	}
	// Round to tens, hundreds, ...: exactly, on the rational value.
	p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-n)), nil)
	r := new(big.Rat).SetFloat64(f)
	q := roundRat(r.Quo(r, new(big.Rat).SetInt(p)))
	out, _ := new(big.Float).SetInt(q.Mul(q, p)).Float64()
	if out == 0 {
		return math.Copysign(0, f)
	}
	return out
}

// roundRat rounds half to even.
func roundRat(r *big.Rat) *big.Int {
	two := big.NewInt(2)
	n := new(big.Int).Mul(r.Num(), two)
	n.Add(n, r.Denom())
	d := new(big.Int).Mul(r.Denom(), two)
	q, m := floorDivMod(n, d)
	if m.Sign() == 0 && q.Bit(0) == 1 {
		q.Sub(q, big.NewInt(1))
	}
	return q
}

// digitValue is the value of a decimal digit of any script: Unicode keeps the
// ten digits of each script together in order.
func digitValue(r rune) (int, bool) {
	if r < 0x80 || !unicode.IsDigit(r) {
		return int(r - '0'), r >= '0' && r <= '9'
	}
	for _, r16 := range unicode.Digit.R16 {
		if r >= rune(r16.Lo) && r <= rune(r16.Hi) {
			return int(r-rune(r16.Lo)) % 10, true
		}
	}
	for _, r32 := range unicode.Digit.R32 {
		if r >= rune(r32.Lo) && r <= rune(r32.Hi) {
			return int(r-rune(r32.Lo)) % 10, true
		}
	}
	return 0, false
}
