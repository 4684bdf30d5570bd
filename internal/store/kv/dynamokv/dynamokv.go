package dynamokv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/gustflow/gust/internal/store/kv"
)

// Options configure a store.
type Options struct {
	// Client reaches the table. Its own retries are not used. Required; Close leaves it open.
	Client *dynamodb.Client
	// Table is the table's name or ARN. Required; it must exist, see [CreateTable].
	Table string
	// Schema is the indexes that the table has; default [kv.DefaultSchema].
	Schema kv.Schema
	// Attempts is how often a request is tried before its error is returned; default 10, about 3 seconds of waiting.
	Attempts int
	// AttemptTimeout bounds one try; default 5 s.
	AttemptTimeout time.Duration
	// Sleep waits between tries, until ctx ends; default real time.
	Sleep func(ctx context.Context, d time.Duration) error
}

// batchKeys is the most keys that one BatchGetItem takes, parallelBatches how many of them are under way at a time.
const (
	batchKeys       = 100
	parallelBatches = 4
)

// Store is a [kv.Driver] on one table.
type Store struct {
	opts   Options
	client *dynamodb.Client
	table  string
	schema kv.Schema
	ours   map[string]bool // attributes of the table itself

	// calls is held for reading by every call in progress.
	calls  sync.RWMutex
	closed bool
}

var _ kv.Driver = (*Store)(nil)

// New returns a store on a table, without touching it.
func New(opts Options) (*Store, error) {
	switch {
	case opts.Client == nil:
		return nil, errors.New("dynamokv: no client")
	case opts.Table == "":
		return nil, errors.New("dynamokv: no table name")
	}
	if opts.Schema.Indexes == nil {
		opts.Schema = kv.DefaultSchema()
	}
	if opts.Attempts <= 0 {
		opts.Attempts = 10
	}
	if opts.AttemptTimeout <= 0 {
		opts.AttemptTimeout = 5 * time.Second
	}
	if opts.Sleep == nil {
		opts.Sleep = sleep
	}
	s := &Store{opts: opts, client: opts.Client, table: opts.Table, schema: opts.Schema,
		ours: map[string]bool{kv.AttrPK: true, kv.AttrSK: true, kv.AttrExpiresAt: true}}
	for _, ix := range opts.Schema.Indexes {
		s.ours[indexPK(ix.Name)], s.ours[indexSK(ix.Name)] = true, true
	}
	return s, nil
}

// enter begins a call; done ends it.
func (s *Store) enter() (done func(), err error) {
	s.calls.RLock()
	if s.closed {
		s.calls.RUnlock()
		return nil, kv.ErrClosed
	}
	return s.calls.RUnlock, nil
}

// Limits implements [kv.Driver].
func (s *Store) Limits() kv.Limits {
	l := kv.DefaultLimits(s.schema)
	l.BatchGetKeys, l.Durable = batchKeys, true
	return l
}

// Close implements [kv.Driver].
func (s *Store) Close() error {
	s.calls.Lock()
	defer s.calls.Unlock()
	s.closed = true
	return nil
}

// read makes a request that may be repeated freely.
func (s *Store) read(ctx context.Context, f func(context.Context) error) error {
	_, err := s.repeat(ctx, true, func(ctx context.Context) (class, error) { return s.once(ctx, f) })
	return err
}

// Get implements [kv.Driver].
func (s *Store) Get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	it, err := s.get(ctx, key, consistent)
	return it, kv.Wrap("get", key, err)
}

func (s *Store) get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	if err := errors.Join(kv.CheckContext(ctx), kv.CheckKey(key)); err != nil {
		return kv.Item{}, err
	}
	done, err := s.enter()
	if err != nil {
		return kv.Item{}, err
	}
	defer done()
	in := &dynamodb.GetItemInput{TableName: aws.String(s.table), Key: encodeKey(key), ConsistentRead: aws.Bool(consistent)}
	var out *dynamodb.GetItemOutput
	if err := s.read(ctx, func(ctx context.Context) (err error) { out, err = s.client.GetItem(ctx, in, plain); return err }); err != nil {
		return kv.Item{}, err
	}
	if len(out.Item) == 0 {
		return kv.Item{}, kv.ErrNotFound
	}
	return s.decodeItem(out.Item, "")
}

// BatchGet implements [kv.Driver].
func (s *Store) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	out, err := s.batchGet(ctx, keys, consistent)
	return out, kv.Wrap("batch get", kv.Key{}, err)
}

func (s *Store) batchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	if err := kv.CheckContext(ctx); err != nil {
		return nil, err
	}
	done, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	seen := make(map[kv.Key]bool, len(keys))
	distinct := make([]attrs, 0, len(keys))
	for _, k := range keys {
		if err := kv.CheckKey(k); err != nil {
			return nil, fmt.Errorf("%v: %w", k, err)
		}
		if !seen[k] {
			seen[k] = true
			distinct = append(distinct, encodeKey(k))
		}
	}
	out := make(map[kv.Key]kv.Item, len(distinct))
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, parallelBatches)
	for len(distinct) > 0 {
		n := min(len(distinct), batchKeys)
		batch := distinct[:n]
		distinct = distinct[n:]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := s.batch(ctx, batch, consistent, func(it kv.Item) {
				mu.Lock()
				defer mu.Unlock()
				out[it.Key] = it
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if failed == nil {
					failed = err
				}
				cancel(err)
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

// batch reads at most batchKeys keys. The service may leave some out, because the answer is full or the table is busy:
// they are asked for again, at once as long as some come back.
func (s *Store) batch(ctx context.Context, keys []attrs, consistent bool, yield func(kv.Item)) error {
	for idle := 0; len(keys) > 0; {
		in := &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{s.table: {Keys: keys, ConsistentRead: aws.Bool(consistent)}}}
		var out *dynamodb.BatchGetItemOutput
		if err := s.read(ctx, func(ctx context.Context) (err error) { out, err = s.client.BatchGetItem(ctx, in, plain); return err }); err != nil {
			return err
		}
		for _, items := range out.Responses {
			for _, in := range items {
				it, err := s.decodeItem(in, "")
				if err != nil {
					return err
				}
				yield(it)
			}
		}
		var rest []attrs
		for _, left := range out.UnprocessedKeys {
			rest = append(rest, left.Keys...)
		}
		if len(rest) < len(keys) {
			idle = 0
		} else if idle++; idle >= s.opts.Attempts {
			return fmt.Errorf("%w: %d keys stay unprocessed", kv.ErrThrottled, len(rest))
		}
		keys = rest
		if len(keys) > 0 {
			if err := s.pause(ctx, max(idle, 1)); err != nil {
				return fmt.Errorf("%w: %d keys are unprocessed; %w while waiting to try again", kv.ErrThrottled, len(keys), err)
			}
		}
	}
	return nil
}

// Query implements [kv.Driver].
func (s *Store) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	page, err := s.query(ctx, q)
	return page, kv.Wrap("query", kv.Key{PK: q.PK}, err)
}

func (s *Store) query(ctx context.Context, q kv.Query) (kv.Page, error) {
	if err := kv.CheckContext(ctx); err != nil {
		return kv.Page{}, err
	}
	after, err := s.schema.CheckQuery(q)
	if err != nil {
		return kv.Page{}, err
	}
	done, err := s.enter()
	if err != nil {
		return kv.Page{}, err
	}
	defer done()
	in := s.queryInput(q, after)
	if in == nil {
		return kv.Page{}, nil
	}
	var out *dynamodb.QueryOutput
	if err := s.read(ctx, func(ctx context.Context) (err error) { out, err = s.client.Query(ctx, in, plain); return err }); err != nil {
		return kv.Page{}, err
	}
	page := kv.Page{Items: make([]kv.Item, 0, len(out.Items))}
	for _, item := range out.Items {
		it, err := s.decodeItem(item, q.Index)
		if err != nil {
			return kv.Page{}, err
		}
		page.Items = append(page.Items, it)
	}
	if len(out.LastEvaluatedKey) > 0 {
		c := kv.Cursor{Index: q.Index}
		if c.Key, err = decodeKey(out.LastEvaluatedKey, kv.AttrPK, kv.AttrSK); err == nil && q.Index != "" {
			c.Entry, err = decodeKey(out.LastEvaluatedKey, indexPK(q.Index), indexSK(q.Index))
		}
		if err != nil {
			return kv.Page{}, fmt.Errorf("position of the page: %w", err)
		}
		page.Cursor = c.Encode()
	}
	return page, nil
}

// queryInput returns the request for a valid query, nil when the answer is certainly empty: the service refuses ranges
// that are upside down and positions outside the range.
func (s *Store) queryInput(q kv.Query, after *kv.Cursor) *dynamodb.QueryInput {
	pk, sk := kv.AttrPK, kv.AttrSK
	in := &dynamodb.QueryInput{TableName: aws.String(s.table), ConsistentRead: aws.Bool(q.Consistent), ScanIndexForward: aws.Bool(!q.Descending)}
	if q.Index != "" {
		pk, sk = indexPK(q.Index), indexSK(q.Index)
		in.IndexName = aws.String(string(q.Index))
	}
	if q.Limit > 0 {
		in.Limit = aws.Int32(int32(min(q.Limit, 1<<30)))
	}
	e := &expr{}
	where := e.name(pk) + " = " + e.value(kv.String(q.PK))
	text := func(s string) string { return e.value(kv.String(s)) }
	switch r := q.SK; {
	case r.Prefix != "":
		where += " AND begins_with(" + e.name(sk) + ", " + text(r.Prefix) + ")"
	case r.From != "" && r.To != "":
		if r.From > r.To {
			return nil
		}
		where += " AND " + e.name(sk) + " BETWEEN " + text(r.From) + " AND " + text(r.To)
	case r.From != "":
		where += " AND " + e.name(sk) + " >= " + text(r.From)
	case r.To != "":
		where += " AND " + e.name(sk) + " <= " + text(r.To)
	}
	in.KeyConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = &where, e.names, e.values
	if after == nil {
		return in
	}
	place := position(q.SK, after.SK())
	if q.Descending {
		place = -place
	}
	switch {
	case place > 0:
		return nil // everything in the range was passed
	case place == 0:
		in.ExclusiveStartKey = encodeKey(after.Key)
		if q.Index != "" {
			in.ExclusiveStartKey[pk], in.ExclusiveStartKey[sk] = str(after.Entry.PK), str(after.Entry.SK)
		}
	}
	return in
}

// position returns -1, 0 or 1 for a sort key before, in or behind the range.
func position(r kv.Range, sk string) int {
	switch {
	case r.Prefix != "" && len(sk) >= len(r.Prefix) && sk[:len(r.Prefix)] == r.Prefix:
		return 0
	case r.Prefix != "" && sk < r.Prefix, sk < r.From:
		return -1
	case r.Prefix != "", r.To != "" && sk > r.To:
		return 1
	}
	return 0
}
