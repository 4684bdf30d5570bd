package kv

import (
	"fmt"
	"math"
)

// OpKind is what an [Op] does.
type OpKind uint8

// The kinds of operation.
const (
	OpPut    OpKind = iota + 1 // replace the whole item with Op.Item
	OpUpdate                   // change attributes and index entries of the item, creating it when absent
	OpDelete                   // remove the item; absent is fine
	OpCheck                    // only test the condition; in Transact only
)

// String returns the kind's name as it appears in messages and meter reports.
func (k OpKind) String() string {
	switch k {
	case OpPut:
		return "put"
	case OpUpdate:
		return "update"
	case OpDelete:
		return "delete"
	case OpCheck:
		return "check"
	}
	return fmt.Sprintf("OpKind(%d)", uint8(k))
}

// SetKind is what a [Set] does to its attribute.
type SetKind uint8

// The kinds of assignment.
const (
	SetAssign SetKind = iota + 1
	SetRemove
	SetAdd
)

// Set changes one attribute in an Update. No two Sets of one Op may name the same attribute.
type Set struct {
	Kind  SetKind
	Attr  string
	Value Value // unused by SetRemove; an int for SetAdd
}

// Assign sets the attribute to v.
func Assign(attr string, v Value) Set { return Set{Kind: SetAssign, Attr: attr, Value: v} }

// Remove removes the attribute; absent is fine.
func Remove(attr string) Set { return Set{Kind: SetRemove, Attr: attr} }

// Add adds n to the integer attribute, which counts as 0 when absent. It is [ErrInvalid] when the attribute is of
// another kind or the sum does not fit an int64.
func Add(attr string, n int64) Set { return Set{Kind: SetAdd, Attr: attr, Value: Int(n)} }

// IndexChange sets, or with a zero Key removes, the item's entry in one index.
type IndexChange struct {
	Index IndexName
	Key   Key
}

// Op is one conditional operation on one item.
type Op struct {
	Kind OpKind
	// Key names the item. For OpPut it may be left zero; then Item.Key counts.
	Key Key
	// Item is the new content, for OpPut.
	Item Item
	// Sets, Indexes and ExpiresAt are the changes of an OpUpdate; everything not named stays. A nil ExpiresAt leaves the
	// expiry as it is, a pointer to 0 removes it.
	Sets      []Set
	Indexes   []IndexChange
	ExpiresAt *int64
	// Cond must hold for the item as it is before the operation.
	Cond Cond
}

// Put returns an operation that replaces the item under item.Key. Pass [NotExists] to create only.
func Put(item Item, cond Cond) Op { return Op{Kind: OpPut, Key: item.Key, Item: item, Cond: cond} }

// Update returns an operation that changes attributes of the item under key.
func Update(key Key, cond Cond, sets ...Set) Op {
	return Op{Kind: OpUpdate, Key: key, Sets: sets, Cond: cond}
}

// Delete returns an operation that removes the item under key.
func Delete(key Key, cond Cond) Op { return Op{Kind: OpDelete, Key: key, Cond: cond} }

// Check returns an operation that changes nothing and fails when the condition does not hold.
func Check(key Key, cond Cond) Op { return Op{Kind: OpCheck, Key: key, Cond: cond} }

// WithIndex returns the Update with the entry in that index set to k, or removed when k is zero.
func (op Op) WithIndex(name IndexName, k Key) Op {
	op.Indexes = append(op.Indexes[:len(op.Indexes):len(op.Indexes)], IndexChange{name, k})
	return op
}

// WithExpiry returns the Update with the expiry set to a Unix time in seconds, 0 for never.
func (op Op) WithExpiry(at int64) Op {
	op.ExpiresAt = &at
	return op
}

// ItemKey returns the key of the item that the operation concerns.
func (op Op) ItemKey() Key {
	if op.Kind == OpPut && op.Key.IsZero() {
		return op.Item.Key
	}
	return op.Key
}

// Apply returns the item as it is after the operation, nil for none, without looking at the condition. It is what
// embedded drivers use, so that they cannot differ. The result shares no map with cur or op. Errors are [ErrInvalid]
// (an Add that cannot be done) and [ErrTooLarge].
func (op Op) Apply(cur *Item) (*Item, error) {
	var next Item
	switch op.Kind {
	case OpCheck:
		return cur, nil
	case OpDelete:
		return nil, nil
	case OpPut:
		next = op.Item.Clone()
		next.Key = op.ItemKey()
	case OpUpdate:
		next = Item{Key: op.Key}
		if cur != nil {
			next = cur.Clone()
		}
		if err := op.update(&next); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: operation kind %v; use Put, Update, Delete or Check", ErrInvalid, op.Kind)
	}
	if n := next.Size(); n > MaxItemBytes {
		return nil, tooLarge(op, n)
	}
	return &next, nil
}

func (op Op) update(it *Item) error {
	if it.Attrs == nil && len(op.Sets) > 0 {
		it.Attrs = make(map[string]Value, len(op.Sets))
	}
	for _, s := range op.Sets {
		switch s.Kind {
		case SetAssign:
			it.Attrs[s.Attr] = s.Value
		case SetRemove:
			delete(it.Attrs, s.Attr)
		case SetAdd:
			v, ok := it.Attrs[s.Attr]
			if ok && v.Kind() != KindInt {
				return fmt.Errorf("%w: add to attribute %q, which is a %v; only an int can be added to", ErrInvalid, s.Attr, v.Kind())
			}
			a, b := v.Int(), s.Value.Int()
			if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
				return fmt.Errorf("%w: adding %d to attribute %q = %d overflows int64", ErrInvalid, b, s.Attr, a)
			}
			it.Attrs[s.Attr] = Int(a + b)
		}
	}
	for _, c := range op.Indexes {
		if c.Key.IsZero() {
			delete(it.Index, c.Index)
			continue
		}
		if it.Index == nil {
			it.Index = make(map[IndexName]Key, len(op.Indexes))
		}
		it.Index[c.Index] = c.Key
	}
	if op.ExpiresAt != nil {
		it.ExpiresAt = *op.ExpiresAt
	}
	return nil
}
