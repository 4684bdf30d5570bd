package dynamokv

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"github.com/gustflow/gust/internal/store/kv"
)

// Write implements [kv.Driver].
func (s *Store) Write(ctx context.Context, op kv.Op) error {
	return kv.Wrap(op.Kind.String(), op.ItemKey(), s.write(ctx, op))
}

func (s *Store) write(ctx context.Context, op kv.Op) error {
	if err := errors.Join(kv.CheckContext(ctx), s.schema.CheckWrite(op)); err != nil {
		return err
	}
	done, err := s.enter()
	if err != nil {
		return err
	}
	defer done()
	send := s.request(op)
	doubt, err := s.repeat(ctx, selfDefeating(op), func(ctx context.Context) (class, error) {
		c, err := s.once(ctx, send)
		var failed *types.ConditionalCheckFailedException
		if errors.As(err, &failed) {
			err = s.conditionFailed(0, op, failed.Item)
		}
		return c, err
	})
	if err == nil || doubt == nil {
		return err
	}
	// The outcome of an earlier try stays unknown, whatever was heard since.
	d := &doubtful{cause: doubt}
	if !errors.As(err, &d.failed) && !errors.Is(err, kv.ErrUnavailable) {
		d.cause = fmt.Errorf("%w (and since then: %v)", doubt, err)
	}
	if ended := ctx.Err(); ended != nil {
		d.cause = fmt.Errorf("%w; %w", d.cause, ended)
	}
	return d
}

// request returns the single request for an operation.
func (s *Store) request(op kv.Op) func(context.Context) error {
	e, table, key := &expr{}, aws.String(s.table), op.ItemKey()
	const old = types.ReturnValuesOnConditionCheckFailureAllOld
	switch op.Kind {
	case kv.OpPut:
		cond := optional(e.cond(op.Cond))
		in := &dynamodb.PutItemInput{TableName: table, Item: encodeItem(key, op.Item), ConditionExpression: cond,
			ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}
		return func(ctx context.Context) error { _, err := s.client.PutItem(ctx, in, plain); return err }
	case kv.OpUpdate:
		cond, change := optional(e.guarded(op)), optional(e.update(op))
		in := &dynamodb.UpdateItemInput{TableName: table, Key: encodeKey(key), UpdateExpression: change, ConditionExpression: cond,
			ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}
		return func(ctx context.Context) error { _, err := s.client.UpdateItem(ctx, in, plain); return err }
	}
	cond := optional(e.cond(op.Cond))
	in := &dynamodb.DeleteItemInput{TableName: table, Key: encodeKey(key), ConditionExpression: cond,
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}
	return func(ctx context.Context) error { _, err := s.client.DeleteItem(ctx, in, plain); return err }
}

// Transact implements [kv.Driver].
func (s *Store) Transact(ctx context.Context, token string, ops []kv.Op) error {
	return kv.Wrap("transact", kv.Key{}, s.transact(ctx, token, ops))
}

func (s *Store) transact(ctx context.Context, token string, ops []kv.Op) error {
	if err := errors.Join(kv.CheckContext(ctx), s.schema.CheckTransact(token, ops)); err != nil {
		return err
	}
	done, err := s.enter()
	if err != nil {
		return err
	}
	defer done()
	in := &dynamodb.TransactWriteItemsInput{ClientRequestToken: aws.String(s.requestToken(token)), TransactItems: make([]types.TransactWriteItem, len(ops))}
	for i, op := range ops {
		in.TransactItems[i] = s.part(op)
	}
	doubt, err := s.repeat(ctx, true, func(ctx context.Context) (class, error) {
		c, err := s.once(ctx, func(ctx context.Context) error { _, err := s.client.TransactWriteItems(ctx, in, plain); return err })
		var cancelled *types.TransactionCanceledException
		if errors.As(err, &cancelled) {
			return s.cancelled(ops, cancelled)
		}
		return c, err
	})
	// Under its token a failed condition proves that no earlier try was applied. That the service was too busy to look
	// does not.
	if doubt != nil && (errors.Is(err, kv.ErrThrottled) || errors.Is(err, kv.ErrTransactionConflict)) {
		return fmt.Errorf("%w (and since then: %v)", doubt, err)
	}
	return err
}

// part returns an operation as a part of a transaction.
func (s *Store) part(op kv.Op) types.TransactWriteItem {
	e, table, key := &expr{}, aws.String(s.table), op.ItemKey()
	const old = types.ReturnValuesOnConditionCheckFailureAllOld
	switch op.Kind {
	case kv.OpPut:
		cond := optional(e.cond(op.Cond))
		return types.TransactWriteItem{Put: &types.Put{TableName: table, Item: encodeItem(key, op.Item), ConditionExpression: cond,
			ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}}
	case kv.OpUpdate:
		cond, change := optional(e.guarded(op)), e.update(op)
		if change == "" && !mayCreate(op) { // nothing to change on an item that is there
			break
		}
		if change == "" { // in a transaction an update needs an expression
			ttl := e.name(kv.AttrExpiresAt)
			change = "SET " + ttl + " = if_not_exists(" + ttl + ", " + e.value(kv.String(noExpiry)) + ")"
		}
		return types.TransactWriteItem{Update: &types.Update{TableName: table, Key: encodeKey(key), UpdateExpression: &change, ConditionExpression: cond,
			ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}}
	case kv.OpDelete:
		cond := optional(e.cond(op.Cond))
		return types.TransactWriteItem{Delete: &types.Delete{TableName: table, Key: encodeKey(key), ConditionExpression: cond,
			ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}}
	}
	e = &expr{}
	cond := e.cond(op.Cond)
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: table, Key: encodeKey(key), ConditionExpression: &cond,
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values, ReturnValuesOnConditionCheckFailure: old}}
}

// requestToken returns the token of a request: a digest of the caller's and the table, because the service knows tokens by
// account and takes 36 plain characters; and a new one when there is none, so that tries of one call are one transaction.
func (s *Store) requestToken(token string) string {
	if token == "" {
		return uuid.NewString()
	}
	sum := sha256.Sum256([]byte(s.table + "\x00" + token))
	return base64.RawURLEncoding.EncodeToString(sum[:27]) // 36 characters
}

// selfDefeating reports whether the operation certainly makes its own condition false, so that it cannot be applied
// twice in a row. It may report false for one that does.
func selfDefeating(op kv.Op) bool {
	switch op.Kind {
	case kv.OpPut:
		it := op.Item
		it.Key = op.ItemKey()
		return !op.Cond.Holds(&it)
	case kv.OpDelete:
		return !op.Cond.Holds(nil)
	case kv.OpUpdate:
		return holdsAfter(op.Cond, op) == no
	}
	return false
}

// answer is what is known of a condition on an item of which only some attributes are known.
type answer uint8

const (
	maybe answer = iota
	yes
	no
)

// holdsAfter evaluates a condition on the item that an update leaves behind.
func holdsAfter(c kv.Cond, op kv.Op) answer {
	all, any := true, false
	switch c.Op {
	case kv.CondAlways, kv.CondExists:
		return yes
	case kv.CondNotExists:
		return no
	case kv.CondNot:
		switch holdsAfter(c.Args[0], op) {
		case yes:
			return no
		case no:
			return yes
		}
		return maybe
	case kv.CondAnd:
		for _, a := range c.Args {
			switch holdsAfter(a, op) {
			case no:
				return no
			case maybe:
				all = false
			}
		}
		if all {
			return yes
		}
		return maybe
	case kv.CondOr:
		for _, a := range c.Args {
			switch holdsAfter(a, op) {
			case yes:
				return yes
			case maybe:
				any = true
			}
		}
		if any {
			return maybe
		}
		return no
	}
	for _, set := range op.Sets {
		if set.Attr != c.Attr {
			continue
		}
		it := kv.Item{Attrs: map[string]kv.Value{}}
		switch set.Kind {
		case kv.SetAssign:
			it.Attrs[set.Attr] = set.Value
		case kv.SetAdd:
			return afterAdd(c, op, set)
		}
		if c.Holds(&it) {
			return yes
		}
		return no
	}
	return maybe
}

// afterAdd evaluates a condition on an attribute that was added to. Its value is known only when the operation's own
// condition demands one.
func afterAdd(c kv.Cond, op kv.Op, set kv.Set) answer {
	switch c.Op {
	case kv.CondPresent:
		return yes
	case kv.CondMissing:
		return no
	case kv.CondEq:
		if set.Value.Int() != 0 && demands(op.Cond, c) {
			return no
		}
	}
	return maybe
}

// demands reports whether cond holds only where the atom does.
func demands(cond, atom kv.Cond) bool {
	if cond.Op == kv.CondAnd {
		for _, a := range cond.Args {
			if demands(a, atom) {
				return true
			}
		}
	}
	return cond.Op == atom.Op && cond.Attr == atom.Attr && cond.Value == atom.Value
}
