package awsemu

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// attr is an attribute value as DynamoDB's JSON has it.
type attr struct {
	S    *string `json:"S,omitempty"`
	N    *string `json:"N,omitempty"`
	B    *string `json:"B,omitempty"`
	BOOL *bool   `json:"BOOL,omitempty"`
}

func (a attr) value() (kv.Value, error) {
	switch {
	case a.S != nil:
		return kv.String(*a.S), nil
	case a.N != nil:
		n, err := strconv.ParseInt(*a.N, 10, 64)
		return kv.Int(n), err
	case a.B != nil:
		b, err := base64.StdEncoding.DecodeString(*a.B)
		return kv.Bytes(b), err
	case a.BOOL != nil:
		return kv.Bool(*a.BOOL), nil
	}
	return kv.Value{}, errors.New("a value of a type that is not modelled")
}

func attrOf(v kv.Value) attr {
	switch v.Kind() {
	case kv.KindInt:
		s := strconv.FormatInt(v.Int(), 10)
		return attr{N: &s}
	case kv.KindBytes:
		s := base64.StdEncoding.EncodeToString(v.Bytes())
		return attr{B: &s}
	case kv.KindBool:
		b := v.Bool()
		return attr{BOOL: &b}
	}
	s := v.Str()
	return attr{S: &s}
}

type attrs map[string]attr

func text(a attr) string {
	if a.S == nil {
		return ""
	}
	return *a.S
}

func (a attrs) key() kv.Key { return kv.Key{PK: text(a[kv.AttrPK]), SK: text(a[kv.AttrSK])} }

func (a attrs) item() (kv.Item, error) {
	it := kv.Item{Key: a.key(), Attrs: map[string]kv.Value{}}
	for name, v := range a {
		if ix, _, ok := indexAttr(name); ok {
			if it.Index == nil {
				it.Index = map[kv.IndexName]kv.Key{}
			}
			it.Index[ix] = kv.Key{PK: text(a[string(ix)+kv.AttrPK]), SK: text(a[string(ix)+kv.AttrSK])}
			continue
		}
		val, err := v.value()
		if err != nil {
			return it, err
		}
		switch name {
		case kv.AttrPK, kv.AttrSK:
		case kv.AttrExpiresAt:
			it.ExpiresAt = val.Int()
		default:
			it.Attrs[name] = val
		}
	}
	return it, nil
}

func attrsOf(it kv.Item) attrs {
	out := attrs{kv.AttrPK: attrOf(kv.String(it.PK)), kv.AttrSK: attrOf(kv.String(it.SK))}
	for name, v := range it.Attrs {
		out[name] = attrOf(v)
	}
	for ix, k := range it.Index {
		out[string(ix)+kv.AttrPK], out[string(ix)+kv.AttrSK] = attrOf(kv.String(k.PK)), attrOf(kv.String(k.SK))
	}
	if it.ExpiresAt != 0 {
		out[kv.AttrExpiresAt] = attrOf(kv.Int(it.ExpiresAt))
	}
	return out
}

// expression is what operations with conditions have in common.
type expression struct {
	TableName           string
	Key, Item           attrs
	ConditionExpression string
	UpdateExpression    string
	Names               map[string]string `json:"ExpressionAttributeNames"`
	Values              attrs             `json:"ExpressionAttributeValues"`
}

func (e expression) op(kind kv.OpKind) (kv.Op, error) {
	op := kv.Op{Kind: kind, Key: e.Key.key()}
	var err error
	if kind == kv.OpPut {
		if op.Item, err = e.Item.item(); err != nil {
			return op, err
		}
		op.Key = op.Item.Key
	}
	if e.ConditionExpression != "" {
		if op.Cond, err = newParser(e.ConditionExpression, e.Names, e.Values).condition(); err != nil {
			return op, fmt.Errorf("ConditionExpression: %w", err)
		}
	}
	if e.UpdateExpression != "" {
		if err = newParser(e.UpdateExpression, e.Names, e.Values).update(&op); err != nil {
			return op, fmt.Errorf("UpdateExpression: %w", err)
		}
	}
	return op, nil
}

// Table is one DynamoDB table, on demand and new: it throttles above what a new
// table takes, and per partition.
type Table struct {
	kv     *memkv.Store
	rates  Ramps
	limits bool
	now    func() time.Time

	mu     sync.Mutex
	writes bucket
	reads  bucket
	parts  map[string]*[2]bucket // write, read
	// inSecond is what partitions were written in this second.
	second   int64
	inSecond map[string]float64
	Units    Units
}

// Units is what a table was used for.
type Units struct {
	Write, IndexWrite, Read   float64
	Calls, Throttled, Refused int64
	ByPartition               map[string]float64 `json:"-"`
	// Hottest is the most write units of a partition within one second; those of
	// indexes are named index:partition.
	Hottest                     map[string]float64 `json:"-"`
	FirstThrottle, LastThrottle time.Time          `json:"-"`
}

// bucket holds what was not used: of capacity units a second's worth, not more.
type bucket struct {
	level float64
	at    time.Time
}

// take takes units from a bucket that holds most and is filled at a rate per
// second. It may go below zero once: a request is carried out whole or not at all.
func (b *bucket) take(now time.Time, units, rate, most float64) bool {
	if b.at.IsZero() {
		b.level = most
	} else {
		b.level = min(most, b.level+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
	if b.level <= 0 {
		return false
	}
	b.level -= units
	return true
}

func newTable(l *Latencies, limits bool, now func() time.Time) *Table {
	return &Table{
		kv: memkv.New(memkv.Options{Now: now}), rates: l.Ramps, limits: limits, now: now, parts: map[string]*[2]bucket{}, inSecond: map[string]float64{},
		Units: Units{ByPartition: map[string]float64{}, Hottest: map[string]float64{}},
	}
}

// awsError is an answer that says no.
type awsError struct {
	status  int
	code    string
	message string
	more    map[string]any
}

func (e *awsError) Error() string { return e.code + ": " + e.message }

func validation(err error) error { return &awsError{400, "ValidationException", refusal(err), nil} }

// refusal is the service's message for what cannot be applied.
func refusal(err error) string {
	if errors.Is(err, kv.ErrTooLarge) {
		return "Item size to update has exceeded the maximum allowed size"
	}
	return err.Error()
}

var errThrottled = &awsError{400, "ProvisionedThroughputExceededException", "The level of configured provisioned throughput for one or more of the partitions or the table was exceeded", nil}

// charge takes units of a partition and of the table, or throttles.
func (t *Table) charge(pk string, write, read float64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	p := t.part(pk)
	ok := true
	part, table := t.rates.Partition, t.rates.NewTable
	if t.limits {
		if write > 0 {
			ok = p[0].take(now, write, part.Write, part.Write) && t.writes.take(now, write, table.Write, table.Write)
		} else {
			ok = p[1].take(now, read, part.Read, part.Read) && t.reads.take(now, read, table.Read, table.Read)
		}
	}
	if !ok {
		return t.throttled(now)
	}
	t.Units.Read += read
	t.Units.Write += write
	t.Units.ByPartition[pk] += write
	if write > 0 {
		t.peak(pk, now, write)
	}
	return nil
}

// part returns the buckets of a partition; t.mu is held.
func (t *Table) part(name string) *[2]bucket {
	p := t.parts[name]
	if p == nil {
		p = &[2]bucket{}
		t.parts[name] = p
	}
	return p
}

// throttled counts a refusal; t.mu is held.
func (t *Table) throttled(now time.Time) error {
	t.Units.Throttled++
	if t.Units.FirstThrottle.IsZero() {
		t.Units.FirstThrottle = now
	}
	t.Units.LastThrottle = now
	return errThrottled
}

// peak notes how much a partition was written within one second; t.mu is held.
func (t *Table) peak(name string, now time.Time, units float64) {
	s := now.Unix()
	if t.second != s {
		t.second = s
		clear(t.inSecond)
	}
	t.inSecond[name] += units
	if t.inSecond[name] > t.Units.Hottest[name] {
		t.Units.Hottest[name] = t.inSecond[name]
	}
}

func blocks(n, size int) float64 { return float64(max(1, (n+size-1)/size)) }

func readUnits(n int, consistent bool) float64 {
	if consistent {
		return blocks(n, 4096)
	}
	return blocks(n, 4096) / 2
}

// indexCharge is what a change of an item costs in a partition of an index.
type indexCharge struct {
	index kv.IndexName
	pk    string
	units float64
}

// indexCharges is what a change of an item costs in all indexes.
func indexCharges(before, after *kv.Item) (out []indexCharge) {
	for _, ix := range kv.DefaultSchema().Indexes {
		var had, has kv.Key
		var old, now kv.Item
		oldSize, nowSize := 0, 0
		if before != nil {
			had, oldSize = before.Index[ix.Name], before.ProjectedSize(ix)
			old, _ = before.Project(ix)
		}
		if after != nil {
			has, nowSize = after.Index[ix.Name], after.ProjectedSize(ix)
			now, _ = after.Project(ix)
		}
		add := func(k kv.Key, size int) { out = append(out, indexCharge{ix.Name, k.PK, blocks(size, 1024)}) }
		switch {
		case had.IsZero() && has.IsZero():
		case had.IsZero():
			add(has, nowSize)
		case has.IsZero():
			add(had, oldSize)
		case had != has:
			add(had, oldSize)
			add(has, nowSize)
		case !old.Equal(now):
			add(has, max(oldSize, nowSize))
		}
	}
	return out
}

// chargeIndexes takes units of the partitions of indexes and of the indexes, each
// of which takes as much as the table: or throttles the write of the item.
func (t *Table) chargeIndexes(cs []indexCharge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, c := range cs {
		name := string(c.index) + ":" + c.pk
		p, ix := t.part(name), t.part(string(c.index))
		if t.limits && !(p[0].take(now, c.units, t.rates.Partition.Write, t.rates.Partition.Write) && ix[0].take(now, c.units, t.rates.NewTable.Write, t.rates.NewTable.Write)) {
			return t.throttled(now)
		}
		t.Units.ByPartition[name] += c.units
		t.Units.IndexWrite += c.units
		t.peak(name, now, c.units)
	}
	return nil
}

// call carries out an operation of the API. It returns the path of its latency.
func (t *Table) call(ctx context.Context, operation string, body []byte) (any, error) {
	t.mu.Lock()
	t.Units.Calls++
	t.mu.Unlock()
	switch operation {
	case "GetItem":
		return t.getItem(ctx, body)
	case "BatchGetItem":
		return t.batchGet(ctx, body)
	case "Query":
		return t.query(ctx, body)
	case "PutItem":
		return t.write(ctx, kv.OpPut, body)
	case "UpdateItem":
		return t.write(ctx, kv.OpUpdate, body)
	case "DeleteItem":
		return t.write(ctx, kv.OpDelete, body)
	case "TransactWriteItems":
		return t.transact(ctx, body)
	}
	return nil, &awsError{400, "UnknownOperationException", operation + " is not modelled", nil}
}

// tablePath is the path of an operation's latency.
func tablePath(operation string, body []byte) string {
	switch operation {
	case "TransactWriteItems":
		var in struct{ TransactItems []json.RawMessage }
		_ = json.Unmarshal(body, &in)
		return "dynamodb.TransactWriteItems." + strconv.Itoa(len(in.TransactItems))
	case "BatchGetItem":
		var in struct {
			RequestItems map[string]struct{ Keys []json.RawMessage }
		}
		_ = json.Unmarshal(body, &in)
		n := 0
		for _, k := range in.RequestItems {
			n += len(k.Keys)
		}
		if n <= 5 {
			return pathPut // as a read of one: they are read side by side
		}
		return "dynamodb.BatchWriteItem." + strconv.Itoa(min(n, 25)) // there is no table of batched reads
	}
	return "dynamodb." + operation
}

func capacity(units float64) map[string]any {
	return map[string]any{"TableName": "t", "CapacityUnits": units}
}

func (t *Table) getItem(ctx context.Context, body []byte) (any, error) {
	var in struct {
		Key            attrs
		ConsistentRead bool
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, validation(err)
	}
	it, err := t.kv.Get(ctx, in.Key.key(), in.ConsistentRead)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return nil, validation(err)
	}
	n := 0
	out := map[string]any{}
	if err == nil {
		n = it.Size()
		out["Item"] = attrsOf(it)
	}
	u := readUnits(n, in.ConsistentRead)
	if err := t.charge(in.Key.key().PK, 0, u); err != nil {
		return nil, err
	}
	out["ConsumedCapacity"] = capacity(u)
	return out, nil
}

func (t *Table) batchGet(ctx context.Context, body []byte) (any, error) {
	var in struct {
		RequestItems map[string]struct {
			Keys           []attrs
			ConsistentRead bool
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, validation(err)
	}
	responses, unprocessed, sum := map[string][]attrs{}, map[string]any{}, 0.0
	for name, r := range in.RequestItems {
		var left []attrs
		responses[name] = []attrs{}
		for _, k := range r.Keys {
			it, err := t.kv.Get(ctx, k.key(), r.ConsistentRead)
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				return nil, validation(err)
			}
			n := 0
			if err == nil {
				n = it.Size()
			}
			u := readUnits(n, r.ConsistentRead)
			if t.charge(k.key().PK, 0, u) != nil {
				left = append(left, k)
				continue
			}
			sum += u
			if err == nil {
				responses[name] = append(responses[name], attrsOf(it))
			}
		}
		if len(left) == len(r.Keys) {
			return nil, errThrottled
		}
		if len(left) > 0 {
			unprocessed[name] = map[string]any{"Keys": left, "ConsistentRead": r.ConsistentRead}
		}
	}
	return map[string]any{"Responses": responses, "UnprocessedKeys": unprocessed, "ConsumedCapacity": []any{capacity(sum)}}, nil
}

func (t *Table) query(ctx context.Context, body []byte) (any, error) {
	var in struct {
		expression
		IndexName              string
		ConsistentRead         bool
		ScanIndexForward       *bool
		Limit                  int
		KeyConditionExpression string
		ExclusiveStartKey      attrs
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, validation(err)
	}
	q := kv.Query{Index: kv.IndexName(in.IndexName), Limit: in.Limit, Consistent: in.ConsistentRead, Descending: in.ScanIndexForward != nil && !*in.ScanIndexForward}
	pk, sk := in.IndexName+kv.AttrPK, in.IndexName+kv.AttrSK
	var err error
	if q.PK, q.SK, err = newParser(in.KeyConditionExpression, in.Names, in.Values).keyCondition(pk, sk); err != nil {
		return nil, validation(fmt.Errorf("KeyConditionExpression: %w", err))
	}
	if in.ExclusiveStartKey != nil {
		c := kv.Cursor{Index: q.Index, Key: in.ExclusiveStartKey.key()}
		if q.Index != "" {
			c.Entry = kv.Key{PK: text(in.ExclusiveStartKey[pk]), SK: text(in.ExclusiveStartKey[sk])}
		}
		q.Cursor = c.Encode()
	}
	page, err := t.kv.Query(ctx, q)
	if err != nil {
		return nil, validation(err)
	}
	n := 0
	items := make([]attrs, len(page.Items))
	for i, it := range page.Items {
		n += it.Size()
		items[i] = attrsOf(it)
	}
	u := readUnits(n, in.ConsistentRead)
	if err := t.charge(in.IndexName+":"+q.PK, 0, u); err != nil {
		return nil, err
	}
	out := map[string]any{"Items": items, "Count": len(items), "ScannedCount": len(items), "ConsumedCapacity": capacity(u)}
	if page.Cursor != "" && len(page.Items) > 0 {
		last := page.Items[len(page.Items)-1]
		k := attrs{kv.AttrPK: attrOf(kv.String(last.PK)), kv.AttrSK: attrOf(kv.String(last.SK))}
		if q.Index != "" {
			k[pk], k[sk] = attrOf(kv.String(last.Index[q.Index].PK)), attrOf(kv.String(last.Index[q.Index].SK))
		}
		out["LastEvaluatedKey"] = k
	}
	return out, nil
}

// before reads the item that an operation meets.
func (t *Table) before(ctx context.Context, k kv.Key) (*kv.Item, error) {
	it, err := t.kv.Get(ctx, k, true)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, validation(err)
	}
	return &it, nil
}

func size(it *kv.Item) int {
	if it == nil {
		return 0
	}
	return it.Size()
}

func (t *Table) write(ctx context.Context, kind kv.OpKind, body []byte) (any, error) {
	var in expression
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, validation(err)
	}
	op, err := in.op(kind)
	if err != nil {
		return nil, validation(err)
	}
	b, err := t.before(ctx, op.ItemKey())
	if err != nil {
		return nil, err
	}
	after := b
	holds := op.Cond.Holds(b)
	if holds {
		if after, err = op.Apply(b); err != nil {
			return nil, validation(err)
		}
	}
	u := blocks(max(size(b), size(after)), 1024)
	if err := t.charge(op.ItemKey().PK, u, 0); err != nil {
		return nil, err
	}
	if !holds {
		t.refused()
		return nil, conditionFailed(b)
	}
	ix := indexCharges(b, after)
	if err := t.chargeIndexes(ix); err != nil {
		return nil, err
	}
	if err := t.kv.Write(ctx, op); err != nil {
		if errors.Is(err, kv.ErrConditionFailed) { // another one came between
			t.refused()
			b, _ := t.before(ctx, op.ItemKey())
			return nil, conditionFailed(b)
		}
		return nil, validation(err)
	}
	return map[string]any{"ConsumedCapacity": capacity(u + sumOf(ix))}, nil
}

func (t *Table) refused() {
	t.mu.Lock()
	t.Units.Refused++
	t.mu.Unlock()
}

func sumOf(cs []indexCharge) (sum float64) {
	for _, c := range cs {
		sum += c.units
	}
	return sum
}

func conditionFailed(it *kv.Item) error {
	e := &awsError{400, "ConditionalCheckFailedException", "The conditional request failed", nil}
	if it != nil {
		e.more = map[string]any{"Item": attrsOf(*it)}
	}
	return e
}

func transactionCancelled(reasons []map[string]any) error {
	return &awsError{400, "TransactionCanceledException", "Transaction cancelled, please refer cancellation reasons for specific reasons", map[string]any{"CancellationReasons": reasons}}
}

func (t *Table) transact(ctx context.Context, body []byte) (any, error) {
	var in struct {
		ClientRequestToken string
		TransactItems      []struct{ Put, Update, Delete, ConditionCheck *expression }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, validation(err)
	}
	ops := make([]kv.Op, len(in.TransactItems))
	befores := make([]*kv.Item, len(ops))
	sum, holds := 0.0, true
	var index []indexCharge
	var charges []struct {
		pk string
		u  float64
	}
	for i, item := range in.TransactItems {
		var err error
		switch {
		case item.Put != nil:
			ops[i], err = item.Put.op(kv.OpPut)
		case item.Update != nil:
			ops[i], err = item.Update.op(kv.OpUpdate)
		case item.Delete != nil:
			ops[i], err = item.Delete.op(kv.OpDelete)
		case item.ConditionCheck != nil:
			ops[i], err = item.ConditionCheck.op(kv.OpCheck)
		default:
			err = fmt.Errorf("transaction item %d has no operation", i)
		}
		if err != nil {
			return nil, validation(err)
		}
		if befores[i], err = t.before(ctx, ops[i].ItemKey()); err != nil {
			return nil, err
		}
		after := befores[i]
		if ops[i].Cond.Holds(befores[i]) {
			if after, err = ops[i].Apply(befores[i]); err != nil {
				reasons := make([]map[string]any, len(ops))
				for j := range reasons {
					reasons[j] = map[string]any{"Code": "None"}
				}
				reasons[i] = map[string]any{"Code": "ValidationError", "Message": refusal(err)}
				return nil, transactionCancelled(reasons)
			}
		}
		u := 2 * blocks(max(size(befores[i]), size(after)), 1024)
		charges = append(charges, struct {
			pk string
			u  float64
		}{ops[i].ItemKey().PK, u})
		sum += u
		holds = holds && ops[i].Cond.Holds(befores[i])
		if ops[i].Kind != kv.OpCheck {
			index = append(index, indexCharges(befores[i], after)...)
		}
	}
	for _, c := range charges {
		if err := t.charge(c.pk, c.u, 0); err != nil {
			return nil, err
		}
	}
	if holds {
		if err := t.chargeIndexes(index); err != nil {
			return nil, err
		}
	}
	err := t.kv.Transact(ctx, in.ClientRequestToken, ops)
	var cancelled *kv.CancelError
	if errors.As(err, &cancelled) {
		t.refused()
		reasons := make([]map[string]any, len(ops))
		for i := range ops {
			reasons[i] = map[string]any{"Code": "None"}
			b, berr := t.before(ctx, ops[i].ItemKey())
			if berr == nil && !ops[i].Cond.Holds(b) {
				reasons[i] = map[string]any{"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
				if b != nil {
					reasons[i]["Item"] = attrsOf(*b)
				}
			}
		}
		return nil, transactionCancelled(reasons)
	}
	if err != nil {
		return nil, validation(err)
	}
	return map[string]any{"ConsumedCapacity": []any{capacity(sum + sumOf(index))}}, nil
}

// Driver returns the table's content as it is, past the service: nothing is
// counted, nothing takes time.
func (t *Table) Driver() kv.Driver { return t.kv }
