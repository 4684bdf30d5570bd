package dynamokv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
)

// units is what the service says that a call used.
type units struct{ read, write, index float64 }

// DynamoDB Local is wrong about transactions: it doubles their units twice, those of indexes too, prices a check by
// blocks of 4 KB, a deletion of nothing once, and adds up only the different figures of several operations, so that two
// puts of 1 KB cost what one does. The service doubles the units of the table alone, once, and adds up. So transactions
// are compared only where they have one put or update, with transactFactor.
const transactFactor = 0.5

// forgetful adds to a bill what DynamoDB Local forgets and the service's documentation promises: a read that finds nothing
// takes the units of the smallest one. (For GetItem Local does so, too.)
type forgetful struct {
	kv.Driver
	b *bill
}

func (f forgetful) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	out, err := f.Driver.BatchGet(ctx, keys, consistent)
	absent := map[kv.Key]bool{}
	for _, k := range keys {
		if _, ok := out[k]; !ok {
			absent[k] = true
		}
	}
	f.b.smallest(len(absent), consistent)
	return out, err
}

func (f forgetful) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	page, err := f.Driver.Query(ctx, q)
	if len(page.Items) == 0 {
		f.b.smallest(1, q.Consistent)
	}
	return page, err
}

func (b *bill) smallest(n int, consistent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := float64(n)
	if !consistent {
		u /= 2
	}
	b.sum.read += u
}

// bill asks the service for the units of every call, as any middleware of the client may.
type bill struct {
	mu  sync.Mutex
	sum units
}

func (b *bill) take() units {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.sum
	b.sum = units{}
	return u
}

func (b *bill) install(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("bill", b.handle), middleware.Before)
	})
}

func (b *bill) handle(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	const all = types.ReturnConsumedCapacityIndexes
	switch p := in.Parameters.(type) {
	case *dynamodb.GetItemInput:
		p.ReturnConsumedCapacity = all
	case *dynamodb.BatchGetItemInput:
		p.ReturnConsumedCapacity = all
	case *dynamodb.QueryInput:
		p.ReturnConsumedCapacity = all
	case *dynamodb.PutItemInput:
		p.ReturnConsumedCapacity = all
	case *dynamodb.UpdateItemInput:
		p.ReturnConsumedCapacity = all
	case *dynamodb.DeleteItemInput:
		p.ReturnConsumedCapacity = all
	case *dynamodb.TransactWriteItemsInput:
		p.ReturnConsumedCapacity = all
	}
	out, meta, err := next.HandleInitialize(ctx, in)
	if err != nil {
		return out, meta, err
	}
	read := func(cs ...types.ConsumedCapacity) {
		for _, c := range cs {
			b.sum.read += value(c.CapacityUnits)
		}
	}
	write := func(factor float64, cs ...types.ConsumedCapacity) {
		for _, c := range cs {
			b.sum.write += factor * (value(c.Table.CapacityUnits) - value(c.Table.ReadCapacityUnits))
			b.sum.read += value(c.Table.ReadCapacityUnits) // of a transaction that was repeated
			for _, ix := range c.GlobalSecondaryIndexes {
				b.sum.index += factor * factor * value(ix.CapacityUnits)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r := out.Result.(type) {
	case *dynamodb.GetItemOutput:
		read(*r.ConsumedCapacity)
	case *dynamodb.BatchGetItemOutput:
		read(r.ConsumedCapacity...)
	case *dynamodb.QueryOutput:
		read(*r.ConsumedCapacity)
	case *dynamodb.PutItemOutput:
		write(1, *r.ConsumedCapacity)
	case *dynamodb.UpdateItemOutput:
		write(1, *r.ConsumedCapacity)
	case *dynamodb.DeleteItemOutput:
		write(1, *r.ConsumedCapacity)
	case *dynamodb.TransactWriteItemsOutput:
		write(transactFactor, r.ConsumedCapacity...)
	}
	return out, meta, err
}

func value(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

// workload draws calls whose items meet and whose sizes lie around the steps of the price.
type workload struct {
	r      *rand.Rand
	tokens int
}

func (w *workload) key() kv.Key {
	return kv.Key{PK: fmt.Sprint("p", w.r.IntN(3)), SK: fmt.Sprint("s", w.r.IntN(6))}
}

func (w *workload) bytes() kv.Value {
	near := []int{0, 900, 1024, 2048, 3 * 1024, 4096, 8192, 20000}[w.r.IntN(8)]
	return kv.Bytes([]byte(strings.Repeat("x", max(0, near+w.r.IntN(200)-150))))
}

func (w *workload) value() kv.Value {
	switch w.r.IntN(4) {
	case 0:
		return kv.Int(w.r.Int64() >> w.r.IntN(63))
	case 1:
		return kv.Int(-(w.r.Int64() >> w.r.IntN(63)))
	case 2:
		return kv.Bool(w.r.IntN(2) == 0)
	}
	return kv.String(strings.Repeat("é", w.r.IntN(40)))
}

func (w *workload) entry() kv.Key {
	return kv.Key{PK: fmt.Sprint("i", w.r.IntN(2)), SK: fmt.Sprint(w.r.IntN(4))}
}

func (w *workload) index() kv.IndexName { return []kv.IndexName{kv.GSI1, kv.GSI2}[w.r.IntN(2)] }

func (w *workload) op(check bool) kv.Op {
	k := w.key()
	switch n := w.r.IntN(8); {
	case n < 3:
		it := kv.Item{Key: k, Attrs: map[string]kv.Value{"d": w.bytes(), "a": w.value(), "n": kv.Int(w.r.Int64N(1e6))}, Index: map[kv.IndexName]kv.Key{}}
		for range w.r.IntN(3) {
			it.Index[w.index()] = w.entry()
		}
		if w.r.IntN(2) == 0 {
			it.Attrs[kv.AttrIndexed] = w.value()
			if w.r.IntN(3) == 0 {
				it.Attrs[kv.AttrIndexed] = w.bytes()
			}
		}
		if w.r.IntN(3) == 0 {
			it.ExpiresAt = 4_000_000_000 + int64(w.r.IntN(1000))
		}
		return kv.Put(it, []kv.Cond{{}, {}, kv.NotExists(), kv.Exists()}[w.r.IntN(4)])
	case n < 6:
		op := kv.Update(k, []kv.Cond{{}, kv.Exists()}[w.r.IntN(2)])
		for _, s := range []kv.Set{kv.Assign("a", w.value()), kv.Add("n", w.r.Int64N(100)-50), kv.Assign(kv.AttrIndexed, w.value()), kv.Remove("d"), kv.Assign("e", w.bytes())} {
			if w.r.IntN(3) == 0 {
				op.Sets = append(op.Sets, s)
			}
		}
		if len(op.Sets) == 0 {
			op.Sets = []kv.Set{kv.Assign("b", w.value())}
		}
		switch w.r.IntN(5) {
		case 0:
			op = op.WithIndex(w.index(), w.entry())
		case 1:
			op = op.WithIndex(w.index(), kv.Key{})
		}
		return op
	case n == 6 && check:
		return kv.Check(k, []kv.Cond{kv.Exists(), kv.Missing("nothing")}[w.r.IntN(2)])
	}
	return kv.Delete(k, []kv.Cond{{}, kv.Exists()}[w.r.IntN(2)])
}

// call draws one call. comparable is whether DynamoDB Local states its units as the service would.
func (w *workload) call() (what string, call func(context.Context, kv.Driver) error, comparable bool) {
	consistent := w.r.IntN(2) == 0
	switch n := w.r.IntN(12); {
	case n < 5:
		op := w.op(false)
		return fmt.Sprintf("%v %+v", op.Kind, op), func(ctx context.Context, d kv.Driver) error { return d.Write(ctx, op) }, true
	case n < 8:
		ops, used := []kv.Op(nil), map[kv.Key]bool{}
		for range max(1, w.r.IntN(7)-2) {
			if op := w.op(true); !used[op.ItemKey()] {
				used[op.ItemKey()] = true
				ops = append(ops, op)
			}
		}
		w.tokens++
		token, times := fmt.Sprint("t", w.tokens), 1+w.r.IntN(5)/4
		return fmt.Sprintf("transact %d times %+v", times, ops), func(ctx context.Context, d kv.Driver) (err error) {
			for range times {
				if err == nil {
					err = d.Transact(ctx, token, ops)
				}
			}
			return err
		}, len(ops) == 1 && (ops[0].Kind == kv.OpPut || ops[0].Kind == kv.OpUpdate)
	case n == 8:
		k := w.key()
		return fmt.Sprint("get ", k, consistent), func(ctx context.Context, d kv.Driver) error {
			_, err := d.Get(ctx, k, consistent)
			return err
		}, true
	case n == 9:
		var keys []kv.Key
		for range 1 + w.r.IntN(5) {
			keys = append(keys, w.key())
		}
		return fmt.Sprint("batch get ", keys, consistent), func(ctx context.Context, d kv.Driver) error {
			_, err := d.BatchGet(ctx, keys, consistent)
			return err
		}, true
	}
	q := kv.Query{PK: w.key().PK, Consistent: consistent, Limit: w.r.IntN(4)}
	if w.r.IntN(2) == 0 {
		q.PK, q.Index, q.Consistent, q.Limit = w.entry().PK, w.index(), false, 0
	}
	return fmt.Sprintf("query %+v", q), func(ctx context.Context, d kv.Driver) error { _, err := d.Query(ctx, q); return err }, true
}

// TestMeterAgreesWithTheService makes the same random calls on a store that meterkv counts and on DynamoDB Local, which
// states the units of every answer.
func TestMeterAgreesWithTheService(t *testing.T) {
	var b bill
	client := dynamotest.StartWith(t, b.install)
	table := forgetful{dynamotest.OpenTable(t, client, dynamotest.Table(t, client)), &b}
	meter := meterkv.New(memkv.New(memkv.Options{}))
	w := &workload{r: rand.New(rand.NewPCG(1, 2))}
	const calls = 2000
	var sum units
	compared, transactions := 0, 0
	for i := range calls {
		what, call, comparable := w.call()
		meter.Reset()
		b.take()
		err1, err2 := call(t.Context(), table), call(t.Context(), meter)
		if errors.Is(err1, kv.ErrConditionFailed) != errors.Is(err2, kv.ErrConditionFailed) || errors.Is(err1, kv.ErrInvalid) != errors.Is(err2, kv.ErrInvalid) {
			t.Fatalf("call %d, %s: %v, on the meter %v", i, what, err1, err2)
		}
		if !comparable || err1 != nil && !errors.Is(err1, kv.ErrNotFound) { // an error carries no units
			continue
		}
		total := meter.Total()
		got, want := b.take(), units{total.ReadUnits, total.WriteUnits, total.IndexWriteUnits}
		if got != want {
			t.Errorf("call %d, %.600s: the service says %+v, the meter %+v", i, what, got, want)
		}
		sum.read, sum.write, sum.index = sum.read+got.read, sum.write+got.write, sum.index+got.index
		compared++
		transactions += int(total.Calls["transact"])
	}
	t.Logf("%d of %d calls compared, %d of them transactions: %+v", compared, calls, transactions, sum)
	if compared < calls/2 || transactions < calls/20 || sum.read == 0 || sum.write == 0 || sum.index == 0 {
		t.Error("the calls show too little")
	}
}
