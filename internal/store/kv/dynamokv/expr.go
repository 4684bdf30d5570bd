package dynamokv

import (
	"math"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/gustflow/gust/internal/store/kv"
)

// expr collects the aliases of the expressions of one operation. The same operation always gets the same ones, so that
// a transaction that is repeated under its token is the same request.
type expr struct {
	names   map[string]string
	values  map[string]types.AttributeValue
	aliases map[string]string
	consts  map[kv.Value]string
}

func (e *expr) name(attr string) string {
	if a, ok := e.aliases[attr]; ok {
		return a
	}
	if e.names == nil {
		e.names, e.aliases = map[string]string{}, map[string]string{}
	}
	a := "#" + strconv.FormatInt(int64(len(e.names)), 36)
	e.names[a], e.aliases[attr] = attr, a
	return a
}

func (e *expr) value(v kv.Value) string {
	if a, ok := e.consts[v]; ok {
		return a
	}
	if e.values == nil {
		e.values, e.consts = map[string]types.AttributeValue{}, map[kv.Value]string{}
	}
	a := ":" + strconv.FormatInt(int64(len(e.values)), 36)
	e.values[a], e.consts[v] = encodeValue(v), a
	return a
}

// cond renders a valid condition, "" for one that always holds. The service refuses redundant parentheses.
func (e *expr) cond(c kv.Cond) string {
	c = unwrap(c)
	switch c.Op {
	case kv.CondAlways:
		return ""
	case kv.CondExists:
		return "attribute_exists(" + e.name(kv.AttrPK) + ")"
	case kv.CondNotExists:
		return "attribute_not_exists(" + e.name(kv.AttrPK) + ")"
	case kv.CondPresent:
		return "attribute_exists(" + e.name(c.Attr) + ")"
	case kv.CondMissing:
		return "attribute_not_exists(" + e.name(c.Attr) + ")"
	case kv.CondNot:
		return "NOT (" + e.cond(c.Args[0]) + ")"
	case kv.CondAnd, kv.CondOr:
		parts := make([]string, len(c.Args))
		for i, a := range c.Args {
			parts[i] = e.operand(a)
		}
		if c.Op == kv.CondAnd {
			return strings.Join(parts, " AND ")
		}
		return strings.Join(parts, " OR ")
	}
	return e.name(c.Attr) + " " + comparators[c.Op] + " " + e.value(c.Value)
}

var comparators = map[kv.CondOp]string{kv.CondEq: "=", kv.CondLt: "<", kv.CondLe: "<=", kv.CondGt: ">", kv.CondGe: ">="}

// operand renders a condition for use inside and, or.
func (e *expr) operand(c kv.Cond) string {
	c = unwrap(c)
	if c.Op == kv.CondAnd || c.Op == kv.CondOr {
		return "(" + e.cond(c) + ")"
	}
	return e.cond(c)
}

// unwrap returns the condition that an "and" or "or" of one condition is.
func unwrap(c kv.Cond) kv.Cond {
	for (c.Op == kv.CondAnd || c.Op == kv.CondOr) && len(c.Args) == 1 {
		c = c.Args[0]
	}
	return c
}

// guarded renders the condition of an update together with what makes its additions possible: the sum of the service's
// decimal numbers must stay an int64. Whether it was the condition or the guard that failed shows on the item.
func (e *expr) guarded(op kv.Op) string {
	c := op.Cond
	for _, set := range op.Sets {
		if set.Kind != kv.SetAdd {
			continue
		}
		fits := kv.Ge(set.Attr, kv.Int(math.MinInt64-min(set.Value.Int(), 0)))
		if set.Value.Int() >= 0 {
			fits = kv.Le(set.Attr, kv.Int(math.MaxInt64-set.Value.Int()))
		}
		c = kv.And(c, kv.Or(kv.Missing(set.Attr), fits))
	}
	return e.cond(c)
}

// update renders the changes of an OpUpdate, "" when there are none to render: an UpdateItem without expression creates
// the item.
func (e *expr) update(op kv.Op) string {
	var set, remove, add []string
	for _, s := range op.Sets {
		switch s.Kind {
		case kv.SetAssign:
			set = append(set, e.name(s.Attr)+" = "+e.value(s.Value))
		case kv.SetRemove:
			remove = append(remove, e.name(s.Attr))
		case kv.SetAdd:
			add = append(add, e.name(s.Attr)+" "+e.value(s.Value))
		}
	}
	for _, c := range op.Indexes {
		pk, sk := e.name(indexPK(c.Index)), e.name(indexSK(c.Index))
		if c.Key.IsZero() {
			remove = append(remove, pk, sk)
		} else {
			set = append(set, pk+" = "+e.value(kv.String(c.Key.PK)), sk+" = "+e.value(kv.String(c.Key.SK)))
		}
	}
	// An update that only removes does not create an item. Where it must, the marker for "no expiry" does.
	mark := len(remove) > 0 && len(set)+len(add) == 0 && mayCreate(op)
	switch at := op.ExpiresAt; {
	case at != nil && *at != 0:
		set = append(set, e.name(kv.AttrExpiresAt)+" = "+e.value(kv.Int(*at)))
	case at != nil && (mark || len(set)+len(add)+len(remove) == 0 && mayCreate(op)):
		set = append(set, e.name(kv.AttrExpiresAt)+" = "+e.value(kv.String(noExpiry)))
	case at != nil:
		remove = append(remove, e.name(kv.AttrExpiresAt))
	case mark:
		ttl := e.name(kv.AttrExpiresAt)
		set = append(set, ttl+" = if_not_exists("+ttl+", "+e.value(kv.String(noExpiry))+")")
	}
	var out []string
	for _, part := range []struct {
		verb  string
		items []string
	}{{"SET ", set}, {"REMOVE ", remove}, {"ADD ", add}} {
		if len(part.items) > 0 {
			out = append(out, part.verb+strings.Join(part.items, ", "))
		}
	}
	return strings.Join(out, " ")
}

// mayCreate reports whether the operation's condition lets it meet an absent item.
func mayCreate(op kv.Op) bool { return op.Cond.Holds(nil) }

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}
