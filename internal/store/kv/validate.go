package kv

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// CheckKey reports what is wrong with a key of an item or of an index entry, as [ErrInvalid].
func CheckKey(k Key) error {
	return errors.Join(checkPart("PK", k.PK, MaxPKBytes), checkPart("SK", k.SK, MaxSKBytes))
}

func checkPart(name, s string, most int) error {
	switch {
	case s == "":
		return invalidf("%s is empty; both parts of a key need at least one byte", name)
	case len(s) > most:
		return invalidf("%s has %d bytes, the limit is %d", name, len(s), most)
	case !utf8.ValidString(s):
		return invalidf("%s %q is not valid UTF-8", name, s)
	}
	return nil
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// CheckWrite reports every problem that makes op unacceptable to Write.
func (s Schema) CheckWrite(op Op) error {
	if op.Kind == OpCheck {
		return invalidf("a check of %v alone; use Get, or a check inside Transact", op.Key)
	}
	return s.CheckOp(op)
}

// CheckTransact reports every problem that makes Transact refuse the operations: each one's own, their number and
// size, two on one item, a token that is too long. Errors of one operation are a [*CancelError].
func (s Schema) CheckTransact(token string, ops []Op) error {
	var errs []error
	if len(ops) == 0 || len(ops) > MaxTransactOps {
		errs = append(errs, invalidf("a transaction of %d operations; it takes 1 to %d", len(ops), MaxTransactOps))
	}
	if len(token) > MaxTokenBytes || !utf8.ValidString(token) {
		errs = append(errs, invalidf("token %q; it is valid UTF-8 of at most %d bytes", token, MaxTokenBytes))
	}
	seen := make(map[Key]int, len(ops))
	total := 0
	for i, op := range ops {
		if err := s.CheckOp(op); err != nil {
			errs = append(errs, &CancelError{Op: i, Key: op.ItemKey(), Err: err})
			continue
		}
		if j, dup := seen[op.ItemKey()]; dup {
			errs = append(errs, &CancelError{Op: i, Key: op.ItemKey(), Err: invalidf("operation %d is on the same item; a transaction takes one operation per item", j)})
		}
		seen[op.ItemKey()] = i
		if op.Kind == OpPut {
			it := op.Item
			it.Key = op.ItemKey()
			total += it.Size()
		}
		for _, set := range op.Sets {
			total += len(set.Attr) + set.Value.Size()
		}
	}
	if err := CheckTransactBytes(total); len(errs) == 0 && err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// CheckOp reports every problem of one operation, as [ErrInvalid] or [ErrTooLarge].
func (s Schema) CheckOp(op Op) error {
	key := op.ItemKey()
	if err := CheckKey(key); err != nil {
		return err
	}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	changes := len(op.Sets) > 0 || len(op.Indexes) > 0 || op.ExpiresAt != nil
	switch op.Kind {
	case OpPut:
		add(s.checkItem(op, key))
		if changes {
			add(invalidf("put of %v with Sets, Indexes or ExpiresAt beside the Item; put them into the Item", key))
		}
	case OpUpdate:
		add(s.checkUpdate(op))
	case OpDelete, OpCheck:
		if changes {
			add(invalidf("%v of %v with changes; only put and update take them", op.Kind, key))
		}
		if op.Kind == OpCheck && op.Cond.Op == CondAlways {
			add(invalidf("check of %v without a condition", key))
		}
	default:
		add(invalidf("operation of kind %v on %v; use Put, Update, Delete or Check", op.Kind, key))
	}
	if op.Kind != OpPut && (op.Item.Attrs != nil || op.Item.Index != nil || op.Item.ExpiresAt != 0) {
		add(invalidf("%v of %v with an Item; only put takes one", op.Kind, key))
	}
	terms := 0
	add(s.checkCond(op.Cond, &terms, 0))
	return errors.Join(errs...)
}

func (s Schema) checkItem(op Op, key Key) error {
	var errs []error
	if !op.Item.Key.IsZero() && op.Item.Key != key {
		errs = append(errs, invalidf("put under %v of an item with key %v; give one key", key, op.Item.Key))
	}
	for name, v := range op.Item.Attrs {
		if err := s.checkAttr(name, v); err != nil {
			errs = append(errs, err)
		}
	}
	for name, k := range op.Item.Index {
		if err := s.checkIndexKey(name, k); err != nil {
			errs = append(errs, err)
		}
	}
	if op.Item.ExpiresAt < 0 {
		errs = append(errs, invalidf("ExpiresAt %d; it is a Unix time in seconds, 0 for never", op.Item.ExpiresAt))
	}
	it := op.Item
	it.Key = key
	if n := it.Size(); n > MaxItemBytes {
		errs = append(errs, tooLarge(op, n))
	}
	return errors.Join(errs...)
}

func (s Schema) checkUpdate(op Op) error {
	var errs []error
	for i, set := range op.Sets {
		var err error
		switch set.Kind {
		case SetAssign:
			err = s.checkAttr(set.Attr, set.Value)
		case SetRemove:
			err = s.checkName(set.Attr)
		case SetAdd:
			if err = s.checkName(set.Attr); err == nil && set.Value.Kind() != KindInt {
				err = invalidf("add of a %v to attribute %q; only an int can be added", set.Value.Kind(), set.Attr)
			}
		default:
			err = invalidf("assignment of kind %d to attribute %q; use Assign, Remove or Add", set.Kind, set.Attr)
		}
		if err != nil {
			errs = append(errs, err)
		}
		for _, other := range op.Sets[:i] {
			if other.Attr == set.Attr {
				errs = append(errs, invalidf("attribute %q is changed twice", set.Attr))
			}
		}
	}
	for i, c := range op.Indexes {
		var err error
		if c.Key.IsZero() {
			err = s.checkIndexName(c.Index)
		} else {
			err = s.checkIndexKey(c.Index, c.Key)
		}
		if err != nil {
			errs = append(errs, err)
		}
		for _, other := range op.Indexes[:i] {
			if other.Index == c.Index {
				errs = append(errs, invalidf("index %q is changed twice", c.Index))
			}
		}
	}
	if op.ExpiresAt != nil && *op.ExpiresAt < 0 {
		errs = append(errs, invalidf("ExpiresAt %d; it is a Unix time in seconds, 0 for never", *op.ExpiresAt))
	}
	return errors.Join(errs...)
}

func (s Schema) checkName(attr string) error {
	switch {
	case attr == "":
		return invalidf("an attribute without a name")
	case len(attr) > MaxAttrNameBytes:
		return invalidf("attribute name of %d bytes, the limit is %d", len(attr), MaxAttrNameBytes)
	case !utf8.ValidString(attr):
		return invalidf("attribute name %q is not valid UTF-8", attr)
	case s.reserved(attr):
		return invalidf("attribute name %q belongs to the table; choose another", attr)
	}
	return nil
}

func (s Schema) checkAttr(attr string, v Value) error {
	if err := s.checkName(attr); err != nil {
		return err
	}
	switch v.Kind() {
	case KindInt, KindBytes, KindBool:
		return nil
	case KindString:
		if !utf8.ValidString(v.Str()) {
			return invalidf("attribute %q is not valid UTF-8; store it as bytes", attr)
		}
		return nil
	}
	return invalidf("attribute %q has no value; leave it out, or remove it", attr)
}

func (s Schema) checkIndexName(name IndexName) error {
	if _, ok := s.Index(name); !ok {
		return invalidf("no index %q in the schema", name)
	}
	return nil
}

func (s Schema) checkIndexKey(name IndexName, k Key) error {
	if err := s.checkIndexName(name); err != nil {
		return err
	}
	if err := CheckKey(k); err != nil {
		return fmt.Errorf("index %q: %w", name, err)
	}
	return nil
}

func (s Schema) checkCond(c Cond, terms *int, depth int) error {
	*terms++
	if *terms > MaxCondTerms || depth > MaxCondTerms {
		return invalidf("a condition of more than %d terms", MaxCondTerms)
	}
	switch c.Op {
	case CondAlways:
		if depth > 0 {
			return invalidf("an empty condition inside and, or, not")
		}
	case CondExists, CondNotExists:
	case CondPresent, CondMissing:
		return s.checkName(c.Attr)
	case CondEq:
		return s.checkAttr(c.Attr, c.Value)
	case CondLt, CondLe, CondGt, CondGe:
		if c.Value.Kind() == KindBool {
			return invalidf("condition %v: booleans have no order; use Eq", c)
		}
		return s.checkAttr(c.Attr, c.Value)
	case CondAnd, CondOr, CondNot:
		if len(c.Args) == 0 || (c.Op == CondNot && len(c.Args) != 1) {
			return invalidf("condition %v with %d arguments", c.Op, len(c.Args))
		}
		for _, a := range c.Args {
			if err := s.checkCond(a, terms, depth+1); err != nil {
				return err
			}
		}
	default:
		return invalidf("condition operator %d is unknown", c.Op)
	}
	return nil
}

// CheckQuery reports every problem of a query and returns its decoded cursor, nil without one.
func (s Schema) CheckQuery(q Query) (*Cursor, error) {
	var errs []error
	if err := checkPart("PK", q.PK, MaxPKBytes); err != nil {
		errs = append(errs, err)
	}
	if q.Index != "" {
		if err := s.checkIndexName(q.Index); err != nil {
			errs = append(errs, err)
		}
		if q.Consistent {
			errs = append(errs, invalidf("a consistent query of index %q; indexes are eventually consistent, query the table", q.Index))
		}
	}
	if q.SK.Prefix != "" && (q.SK.From != "" || q.SK.To != "") {
		errs = append(errs, invalidf("a prefix together with a range; use one of them"))
	}
	for _, part := range []string{q.SK.Prefix, q.SK.From, q.SK.To} {
		if part != "" {
			if err := checkPart("SK range", part, MaxSKBytes); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if q.Limit < 0 {
		errs = append(errs, invalidf("limit %d; use 0 for no limit", q.Limit))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if q.Cursor == "" {
		return nil, nil
	}
	c, err := decodeCursor(q.Cursor)
	if err != nil {
		return nil, err
	}
	if c.Index != q.Index || c.partition() != q.PK {
		return nil, invalidf("the cursor belongs to another query (index %q, partition %q)", c.Index, c.partition())
	}
	return &c, nil
}
