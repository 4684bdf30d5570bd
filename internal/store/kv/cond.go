package kv

import "strings"

// CondOp is the operator of a [Cond].
type CondOp uint8

// The operators. CondAlways is that of the zero Cond.
const (
	CondAlways    CondOp = iota
	CondExists           // the item exists
	CondNotExists        // the item does not exist
	CondEq               // Attr = Value
	CondLt               // Attr < Value
	CondLe               // Attr <= Value
	CondGt               // Attr > Value
	CondGe               // Attr >= Value
	CondPresent          // the item has Attr
	CondMissing          // the item does not exist or lacks Attr
	CondAnd              // every one of Args
	CondOr               // at least one of Args
	CondNot              // not Args[0]
)

var condNames = [...]string{"always", "exists", "not exists", "=", "<", "<=", ">", ">=", "present", "missing", "and", "or", "not"}

// String returns the operator's name as it appears in messages.
func (o CondOp) String() string {
	if int(o) < len(condNames) {
		return condNames[o]
	}
	return "unknown"
}

// Cond is a condition on the current state of one item. The zero Cond always holds. Build it with the functions below;
// the fields are exported for drivers, which render or evaluate it.
type Cond struct {
	Op    CondOp
	Attr  string
	Value Value
	Args  []Cond
}

// Exists holds when the item exists.
func Exists() Cond { return Cond{Op: CondExists} }

// NotExists holds when the item does not exist.
func NotExists() Cond { return Cond{Op: CondNotExists} }

// Eq holds when the attribute is present, of v's kind and equal to v.
func Eq(attr string, v Value) Cond { return Cond{Op: CondEq, Attr: attr, Value: v} }

// Lt holds when the attribute is present, of v's kind and less than v.
func Lt(attr string, v Value) Cond { return Cond{Op: CondLt, Attr: attr, Value: v} }

// Le holds when the attribute is present, of v's kind and at most v.
func Le(attr string, v Value) Cond { return Cond{Op: CondLe, Attr: attr, Value: v} }

// Gt holds when the attribute is present, of v's kind and greater than v.
func Gt(attr string, v Value) Cond { return Cond{Op: CondGt, Attr: attr, Value: v} }

// Ge holds when the attribute is present, of v's kind and at least v.
func Ge(attr string, v Value) Cond { return Cond{Op: CondGe, Attr: attr, Value: v} }

// Present holds when the item exists and has the attribute, of whatever kind.
func Present(attr string) Cond { return Cond{Op: CondPresent, Attr: attr} }

// Missing holds when the item does not exist or lacks the attribute.
func Missing(attr string) Cond { return Cond{Op: CondMissing, Attr: attr} }

// And holds when all of conds hold; And() always holds. Conditions that always hold are dropped.
func And(conds ...Cond) Cond {
	args := make([]Cond, 0, len(conds))
	for _, c := range conds {
		switch c.Op {
		case CondAlways:
		case CondAnd:
			args = append(args, c.Args...)
		default:
			args = append(args, c)
		}
	}
	switch len(args) {
	case 0:
		return Cond{}
	case 1:
		return args[0]
	}
	return Cond{Op: CondAnd, Args: args}
}

// Or holds when at least one of conds holds. Or of nothing is invalid; Or with a condition that always holds is that.
func Or(conds ...Cond) Cond {
	for _, c := range conds {
		if c.Op == CondAlways {
			return Cond{}
		}
	}
	if len(conds) == 1 {
		return conds[0]
	}
	return Cond{Op: CondOr, Args: conds}
}

// Not holds when c does not. Not of a condition that always holds is invalid.
func Not(c Cond) Cond { return Cond{Op: CondNot, Args: []Cond{c}} }

// Holds evaluates the condition on an item, nil when it does not exist. The condition must be valid.
func (c Cond) Holds(it *Item) bool {
	switch c.Op {
	case CondAlways:
		return true
	case CondExists:
		return it != nil
	case CondNotExists:
		return it == nil
	case CondPresent:
		return it != nil && it.Has(c.Attr)
	case CondMissing:
		return it == nil || !it.Has(c.Attr)
	case CondAnd:
		for _, a := range c.Args {
			if !a.Holds(it) {
				return false
			}
		}
		return true
	case CondOr:
		for _, a := range c.Args {
			if a.Holds(it) {
				return true
			}
		}
		return false
	case CondNot:
		return !c.Args[0].Holds(it)
	}
	if it == nil {
		return false
	}
	v, ok := it.Attrs[c.Attr]
	if !ok {
		return false
	}
	if c.Op == CondEq {
		return v == c.Value
	}
	n, ok := v.Compare(c.Value)
	if !ok {
		return false
	}
	switch c.Op {
	case CondLt:
		return n < 0
	case CondLe:
		return n <= 0
	case CondGt:
		return n > 0
	case CondGe:
		return n >= 0
	}
	return false
}

// String renders the condition for messages.
func (c Cond) String() string {
	switch c.Op {
	case CondAlways, CondExists, CondNotExists:
		return c.Op.String()
	case CondPresent, CondMissing:
		return c.Attr + " " + c.Op.String()
	case CondNot:
		if len(c.Args) == 1 {
			return "not (" + c.Args[0].String() + ")"
		}
	case CondAnd, CondOr:
		parts := make([]string, len(c.Args))
		for i, a := range c.Args {
			parts[i] = a.String()
		}
		return "(" + strings.Join(parts, " "+c.Op.String()+" ") + ")"
	}
	return c.Attr + " " + c.Op.String() + " " + c.Value.GoString()
}
