package jinja

import (
	"math"
	"math/big"
	"strings"
)

// equal is a == b as a bool.
func equal(a, b Value) bool { return new(comparer).equal(a, b) }

// comparer bounds one comparison: lists that share parts can take exponential
// time, deeply nested ones the whole stack.
type comparer struct{ depth, n int }

const (
	maxCompareDepth = 1000
	maxCompareNodes = 1_000_000
)

func (c *comparer) equal(a, b Value) bool {
	c.depth++
	c.n++
	if c.depth > maxCompareDepth {
		raise("RecursionError", "maximum recursion depth exceeded in comparison")
	}
	if c.n > maxCompareNodes {
		raise(ClassLimit, "a comparison looks at more than %d values", maxCompareNodes)
	}
	eq := c.equal1(a, b)
	c.depth--
	return eq
}

func (c *comparer) equal1(a, b Value) bool {
	switch x := a.(type) {
	case nil:
		if b == nil {
			return true
		}
	case string:
		if y, ok := strOf(b); ok {
			return x == y
		}
	case Markup:
		if y, ok := strOf(b); ok {
			return string(x) == y
		}
	case bool, int64, *big.Int, float64:
		if isNumber(b) {
			return compareNumbers(a, b) == 0
		}
	case Bytes:
		if y, ok := b.(Bytes); ok {
			return x == y
		}
	case *List:
		if y, ok := b.(*List); ok {
			return c.seq(x.Items, y.Items)
		}
	case *Tuple:
		if y, ok := b.(*Tuple); ok {
			return c.seq(x.Items, y.Items)
		}
	case *Dict:
		if y, ok := b.(*Dict); ok {
			if x.Len() != y.Len() {
				return false
			}
			eq := true
			x.Each(func(k, v Value) bool {
				w, ok := y.Get(k)
				eq = ok && (identical(v, w) || c.equal(v, w))
				return eq
			})
			return eq
		}
	case *dictView:
		if y, ok := b.(*dictView); ok && x.kind != typeDictVals && y.kind != typeDictVals {
			return c.equal(viewSet(x), viewSet(y))
		}
		if y, ok := b.(*Set); ok && x.kind != typeDictVals {
			return c.equal(viewSet(x), y)
		}
	case *Set:
		if y, ok := b.(*Set); ok {
			return x.d.Len() == y.d.Len() && subset(x, y)
		}
	case *Range:
		if y, ok := b.(*Range); ok {
			n := x.Len()
			return n == y.Len() && (n == 0 || x.Start == y.Start && (n == 1 || x.Step == y.Step))
		}
	case *DateTime:
		if y, ok := b.(*DateTime); ok {
			return x.equal(y)
		}
	case *Date:
		if y, ok := b.(*Date); ok {
			return x.days == y.days
		}
	case *Time:
		if y, ok := b.(*Time); ok {
			return x.us == y.us && (x.tz == nil) == (y.tz == nil)
		}
	case *TimeDelta:
		if y, ok := b.(*TimeDelta); ok {
			return x.us == y.us
		}
	case *Undefined:
		if x.kind == StrictUndefined {
			x.fail()
		}
		y, ok := b.(*Undefined)
		return ok && x.kind == y.kind
	case Wrapper:
		return c.equal(unwrap(x), b)
	case Equaler:
		if eq, ok := x.PyEqual(b); ok {
			return eq
		}
	case *Type:
		y, ok := b.(*Type)
		return ok && (x == y || x.Module == y.Module && x.Name == y.Name)
	case *Func:
		if y, ok := b.(*Func); ok && x != y {
			return x.Builtin && x.Self != nil && x.Name == y.Name && identical(x.Self, y.Self)
		}
	}
	// The right operand gets its turn.
	switch y := b.(type) {
	case *Undefined:
		if y.kind == StrictUndefined {
			y.fail()
		}
	case Wrapper:
		return c.equal(a, unwrap(y))
	case Equaler:
		if eq, ok := y.PyEqual(a); ok {
			return eq
		}
	}
	return identical(a, b)
}

func (c *comparer) seq(a, b []Value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !identical(a[i], b[i]) && !c.equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func viewSet(v *dictView) *Set {
	s := NewSet()
	it := v.iter()
	for {
		x, ok := it()
		if !ok {
			return s
		}
		s.d.Set(x, nil)
	}
}

func subset(a, b *Set) bool {
	for _, it := range a.Items() {
		if !b.Has(it) {
			return false
		}
	}
	return true
}

// compareNumbers returns -1, 0, 1, or 2 when a NaN is involved.
func compareNumbers(a, b Value) int {
	if x, ok := smallInt(a); ok {
		if y, ok := smallInt(b); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	ba, aInt := bigOf(a)
	bb, bInt := bigOf(b)
	if aInt && bInt {
		return ba.Cmp(bb)
	}
	if !aInt && !bInt {
		x, y := a.(float64), b.(float64)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		case x == y:
			return 0
		}
		return 2
	}
	if bInt {
		r := compareNumbers(b, a)
		if r == 2 {
			return 2
		}
		return -r
	}
	f := b.(float64)
	switch {
	case math.IsNaN(f):
		return 2
	case math.IsInf(f, 1):
		return -1
	case math.IsInf(f, -1):
		return 1
	}
	return new(big.Float).SetPrec(2000).SetInt(ba).Cmp(big.NewFloat(f))
}

var opSymbols = map[string]string{"lt": "<", "gt": ">", "lteq": "<=", "gteq": ">="}

// less is a < b, for sorting.
func less(a, b Value) bool { return order("<", a, b) }

// order is a OP b for the four ordering operators.
func order(op string, a, b Value) bool {
	a, b = unwrap(a), unwrap(b)
	if u, ok := a.(*Undefined); ok {
		u.fail()
	}
	if u, ok := b.(*Undefined); ok {
		u.fail()
	}
	c, ok := cmp(op, a, b)
	if !ok {
		if sa, isA := a.(*Set); isA {
			if sb, isB := b.(*Set); isB {
				return orderSets(op, sa, sb)
			}
		}
		typeError("'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
	}
	if c == 2 {
		return false
	}
	switch op {
	case "<":
		return c < 0
	case ">":
		return c > 0
	case "<=":
		return c <= 0
	}
	return c >= 0
}

func orderSets(op string, a, b *Set) bool {
	switch op {
	case "<":
		return a.d.Len() < b.d.Len() && subset(a, b)
	case ">":
		return b.d.Len() < a.d.Len() && subset(b, a)
	case "<=":
		return subset(a, b)
	}
	return subset(b, a)
}

func cmp(op string, a, b Value) (int, bool) {
	switch x := a.(type) {
	case bool, int64, *big.Int, float64:
		if isNumber(b) {
			return compareNumbers(a, b), true
		}
	case string, Markup:
		if y, ok := strOf(b); ok {
			s, _ := strOf(x)
			return strings.Compare(s, y), true
		}
	case Bytes:
		if y, ok := b.(Bytes); ok {
			return strings.Compare(string(x), string(y)), true
		}
	case *List:
		if y, ok := b.(*List); ok {
			return cmpSeq(op, x.Items, y.Items), true
		}
	case *Tuple:
		if y, ok := b.(*Tuple); ok {
			return cmpSeq(op, x.Items, y.Items), true
		}
	case *DateTime:
		if y, ok := b.(*DateTime); ok {
			return x.compare(y), true
		}
	case *Date:
		if y, ok := b.(*Date); ok {
			return cmpInt(x.days, y.days), true
		}
	case *Time:
		if y, ok := b.(*Time); ok {
			return cmpInt(x.us, y.us), true
		}
	case *TimeDelta:
		if y, ok := b.(*TimeDelta); ok {
			return cmpInt(x.us, y.us), true
		}
	}
	return 0, false
}

func cmpInt[T int | int64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// cmpSeq orders sequences by their first unequal elements.
func cmpSeq(op string, a, b []Value) int {
	for i := range a {
		if i >= len(b) {
			return 1
		}
		if identical(a[i], b[i]) || equal(a[i], b[i]) {
			continue
		}
		if order(op, a[i], b[i]) {
			if op[0] == '<' {
				return -1
			}
			return 1
		}
		if op[0] == '<' {
			return 1
		}
		return -1
	}
	if len(a) < len(b) {
		return -1
	}
	return 0
}

// contains is "item in box".
func (ev *Eval) contains(box, item Value) bool {
	switch x := box.(type) {
	case string, Markup:
		s, _ := strOf(x)
		t, ok := strOf(unwrap(item))
		if !ok {
			typeError("'in <string>' requires string as left operand, not %s", typeName(item))
		}
		return strings.Contains(s, t)
	case Bytes:
		if t, ok := item.(Bytes); ok {
			return strings.Contains(string(x), string(t))
		}
		if n, ok := smallInt(item); ok && n >= 0 && n < 256 {
			return strings.IndexByte(string(x), byte(n)) >= 0
		}
		typeError("a bytes-like object is required, not '%s'", typeName(item))
	case *Dict:
		_, ok := x.Get(hashable(item))
		return ok
	case *Set:
		_, ok := x.d.Get(hashable(item))
		return ok
	case *dictView:
		if x.kind == typeDictKeys {
			_, ok := x.d.Get(hashable(item))
			return ok
		}
	case *Range:
		if n, ok := smallInt(item); ok {
			l := x.Len()
			if l == 0 {
				return false
			}
			d := n - x.Start
			return d%x.Step == 0 && d/x.Step >= 0 && d/x.Step < l
		}
	case *Interval:
		return x.contains(item)
	case *Undefined:
		if x.kind == StrictUndefined {
			x.fail()
		}
		return false
	case Wrapper:
		return ev.contains(unwrap(x), item)
	case interface{ PyContains(Value) (bool, error) }:
		ok, err := x.PyContains(item)
		if err != nil {
			raiseErr(err)
		}
		return ok
	}
	it := tryIter(box)
	if it == nil {
		typeError("argument of type '%s' is not iterable", typeName(box))
	}
	for {
		v, ok := it()
		if !ok {
			return false
		}
		ev.step(1)
		if identical(v, item) || equal(v, item) {
			return true
		}
	}
}

func hashable(v Value) Value { hashKey(v); return v }

// binop evaluates an arithmetic operator.
func (ev *Eval) binop(op string, a, b Value) Value {
	if x, ok := a.(Wrapper); ok {
		a = unwrap(x)
	}
	if x, ok := b.(Wrapper); ok {
		b = unwrap(x)
	}
	if u, ok := a.(*Undefined); ok {
		u.fail()
	}
	if v, ok := ev.arith(op, a, b); ok {
		return v
	}
	if u, ok := b.(*Undefined); ok {
		u.fail()
	}
	if op == "+" {
		switch a.(type) {
		case string, Markup:
			typeError("can only concatenate str (not \"%s\") to str", typeName(b))
		case *List:
			typeError("can only concatenate list (not \"%s\") to list", typeName(b))
		case *Tuple:
			typeError("can only concatenate tuple (not \"%s\") to tuple", typeName(b))
		}
	}
	if op == "*" && isSequence(a) {
		typeError("can't multiply sequence by non-int of type '%s'", typeName(b))
	}
	if op == "*" && isSequence(b) {
		typeError("can't multiply sequence by non-int of type '%s'", typeName(a))
	}
	sym := op
	if op == "**" {
		sym = "** or pow()"
	}
	typeError("unsupported operand type(s) for %s: '%s' and '%s'", sym, typeName(a), typeName(b))
	return nil
}

func isSequence(v Value) bool {
	switch v.(type) {
	case string, Markup, Bytes, *List, *Tuple:
		return true
	}
	return false
}

func (ev *Eval) arith(op string, a, b Value) (Value, bool) {
	if isNumber(a) && isNumber(b) {
		return ev.numOp(op, a, b), true
	}
	if v, ok := dateArith(op, a, b); ok {
		return v, true
	}
	switch op {
	case "+":
		switch x := a.(type) {
		case string:
			switch y := b.(type) {
			case string:
				ev.alloc(len(x) + len(y))
				return x + y, true
			case Markup:
				return escape(x) + y, true
			}
		case Markup:
			if _, ok := strOf(b); ok {
				return x + escape(b), true
			}
		case Bytes:
			if y, ok := b.(Bytes); ok {
				return x + y, true
			}
		case *List:
			if y, ok := b.(*List); ok {
				ev.alloc(16 * (len(x.Items) + len(y.Items)))
				return &List{append(append(make([]Value, 0, len(x.Items)+len(y.Items)), x.Items...), y.Items...)}, true
			}
		case *Tuple:
			if y, ok := b.(*Tuple); ok {
				ev.alloc(16 * (len(x.Items) + len(y.Items)))
				return &Tuple{append(append(make([]Value, 0, len(x.Items)+len(y.Items)), x.Items...), y.Items...)}, true
			}
		}
	case "*":
		if isInt(b) && isSequence(a) {
			return ev.repeat(a, b), true
		}
		if isInt(a) && isSequence(b) {
			return ev.repeat(b, a), true
		}
	case "%":
		switch x := a.(type) {
		case string:
			return ev.percentFormat(x, b, false), true
		case Markup:
			return Markup(ev.percentFormat(string(x), b, true)), true
		}
	case "-":
		if x, ok := asSet(a); ok {
			if y, ok := asSet(b); ok {
				out := NewSet()
				for _, it := range x.Items() {
					if !y.Has(it) {
						out.d.Set(it, nil)
					}
				}
				return out, true
			}
		}
	}
	return nil, false
}

func asSet(v Value) (*Set, bool) {
	switch x := v.(type) {
	case *Set:
		return x, true
	case *dictView:
		if x.kind != typeDictVals {
			return viewSet(x), true
		}
	}
	return nil, false
}

func (ev *Eval) repeat(seq, count Value) Value {
	n, ok := smallInt(count)
	if !ok {
		if b, _ := bigOf(count); b.Sign() > 0 {
			raise("OverflowError", "cannot fit 'int' into an index-sized integer")
		}
		n = 0
	}
	if n < 0 {
		n = 0
	}
	size := func(l, unit int) {
		if l > 0 && n > int64(ev.limits.MaxValueBytes)/int64(l*unit) {
			raise(ClassLimit, "a repeated sequence would be larger than %d bytes", ev.limits.MaxValueBytes)
		}
		ev.alloc(l * unit * int(n))
	}
	items := func(in []Value) []Value {
		size(len(in), 16)
		if len(in) == 0 {
			return nil
		}
		out := make([]Value, 0, len(in)*int(n))
		for i := int64(0); i < n; i++ {
			out = append(out, in...)
		}
		return out
	}
	text := func(s string) string {
		size(len(s), 1)
		if s == "" {
			return ""
		}
		return strings.Repeat(s, int(n))
	}
	switch x := seq.(type) {
	case string:
		return text(x)
	case Markup:
		return Markup(text(string(x)))
	case Bytes:
		return Bytes(text(string(x)))
	case *List:
		return &List{items(x.Items)}
	case *Tuple:
		return &Tuple{items(x.Items)}
	}
	return nil
}
