package sqlitekv

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/gustflow/gust/internal/store/kv"
)

const selectItem = "SELECT body, expires, id FROM item WHERE pk = ? AND sk = ?"

// enter registers a call, so that Close waits for it; the caller must call s.mu.RUnlock when err is nil.
func (s *Store) enter(ctx context.Context) error {
	if err := kv.CheckContext(ctx); err != nil {
		return err
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return kv.ErrClosed
	}
	return nil
}

// read calls f with a reading connection.
func (s *Store) read(ctx context.Context, f func(c *conn) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.RUnlock()
	var c *conn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.readers <- c }()
	if c == nil {
		var err error
		if c, err = dial(s.path, "rw", busyPragma(s.opts), "PRAGMA query_only=ON", "PRAGMA cell_size_check=ON",
			"PRAGMA cache_size=-8000", "PRAGMA trusted_schema=OFF", "PRAGMA wal_autocheckpoint=0"); err != nil {
			return s.explain(err)
		}
	}
	return s.explain(f(c))
}

// load returns the item under key and the id of its row; nil when there is none.
func load(c *conn, key kv.Key) (*kv.Item, int64, error) {
	var out *kv.Item
	var id int64
	err := c.query(selectItem, func(row []driver.Value) (bool, error) {
		it := &kv.Item{Key: key}
		body, ok := row[0].([]byte)
		if !ok {
			return false, corruptRow(key, "has no body")
		}
		if err := decode(body, it); err != nil {
			return false, err
		}
		it.ExpiresAt, _ = row[1].(int64)
		id, _ = row[2].(int64)
		out = it
		return false, nil
	}, blob(key.PK), blob(key.SK))
	return out, id, err
}

// Get implements [kv.Driver].
func (s *Store) Get(ctx context.Context, key kv.Key, _ bool) (kv.Item, error) {
	it, err := s.get(ctx, key)
	if err != nil {
		return kv.Item{}, kv.Wrap("get", key, err)
	}
	return *it, nil
}

func (s *Store) get(ctx context.Context, key kv.Key) (it *kv.Item, err error) {
	if err := kv.CheckKey(key); err != nil {
		return nil, err
	}
	err = s.read(ctx, func(c *conn) error {
		it, _, err = load(c, key)
		return err
	})
	if err == nil && it == nil {
		err = kv.ErrNotFound
	}
	return it, err
}

// BatchGet implements [kv.Driver]. The items are one snapshot.
func (s *Store) BatchGet(ctx context.Context, keys []kv.Key, _ bool) (map[kv.Key]kv.Item, error) {
	for _, k := range keys {
		if err := kv.CheckKey(k); err != nil {
			return nil, kv.Wrap("batch get", k, err)
		}
	}
	out := make(map[kv.Key]kv.Item, len(keys))
	err := s.read(ctx, func(c *conn) (err error) {
		if err := c.exec("BEGIN"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.exec("COMMIT")) }()
		for _, k := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			it, _, err := load(c, k)
			if err != nil {
				return err
			}
			if it != nil {
				out[k] = *it
			}
		}
		return nil
	})
	if err != nil {
		return nil, kv.Wrap("batch get", kv.Key{}, err)
	}
	return out, nil
}

// Query implements [kv.Driver].
func (s *Store) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	after, err := s.opts.Schema.CheckQuery(q)
	if err != nil {
		return kv.Page{}, kv.Wrap("query", kv.Key{PK: q.PK}, err)
	}
	var page kv.Page
	err = s.read(ctx, func(c *conn) error {
		page = kv.Page{}
		bytes := 0
		sql, args := querySQL(q, after)
		return c.query(sql, func(row []driver.Value) (bool, error) {
			it, err := queriedItem(q, row)
			if err != nil {
				return false, err
			}
			page.Items = append(page.Items, it)
			bytes += it.Size()
			// Like DynamoDB, a full page has a cursor even when nothing follows.
			if len(page.Items) == q.Limit || bytes >= kv.MaxPageBytes {
				page.Cursor = kv.CursorAfter(q, it)
				return false, nil
			}
			return true, ctx.Err()
		}, args...)
	})
	if err != nil {
		return kv.Page{}, kv.Wrap("query", kv.Key{PK: q.PK}, err)
	}
	return page, nil
}

// querySQL returns the statement of a valid query. There are few different texts, so they stay prepared.
func querySQL(q kv.Query, after *kv.Cursor) (string, []any) {
	// Every restriction of the sort key is a half-open interval of byte strings: to the left of x + "\x00" is what is <= x.
	lo, hi, bounded := q.SK.From, "", false
	switch {
	case q.SK.Prefix != "":
		lo = q.SK.Prefix
		hi, bounded = successor(q.SK.Prefix), true
	case q.SK.To != "":
		hi, bounded = q.SK.To+"\x00", true
	}
	args := make([]any, 0, 8)
	args = append(args, blob(q.PK))
	sql, sk, order := "SELECT sk, body, expires FROM item WHERE pk = ?", "sk", " ORDER BY sk"
	if q.Index != "" {
		sql, sk, order = `SELECT pk, sk, isk, body FROM "ix_`+string(q.Index)+`" WHERE ipk = ?`, "isk", " ORDER BY isk, pk, sk"
	}
	if q.Descending {
		order = strings.ReplaceAll(order, ",", " DESC,") + " DESC"
	}
	// The cursor replaces the bound that it is further in than; with both, SQLite would search from the bound.
	position := ""
	if after != nil {
		at := after.SK()
		switch {
		case q.Index == "" && q.Descending:
			if !bounded || at < hi {
				hi, bounded = at, true
			}
		case q.Index == "":
			lo = max(lo, at+"\x00")
		case q.Descending && (!bounded || at < hi):
			bounded, position = false, " AND (isk, pk, sk) < (?, ?, ?)"
		case !q.Descending && at >= lo:
			lo, position = "", " AND (isk, pk, sk) > (?, ?, ?)"
		}
	}
	if lo != "" {
		sql += " AND " + sk + " >= ?"
		args = append(args, blob(lo))
	}
	if bounded {
		sql += " AND " + sk + " < ?"
		args = append(args, blob(hi))
	}
	if position != "" {
		sql += position
		args = append(args, blob(after.Entry.SK), blob(after.Key.PK), blob(after.Key.SK))
	}
	return sql + order, args
}

func queriedItem(q kv.Query, row []driver.Value) (kv.Item, error) {
	text := func(v driver.Value) string {
		b, _ := v.([]byte)
		return string(b)
	}
	it := kv.Item{Key: kv.Key{PK: q.PK, SK: text(row[0])}}
	body, _ := row[1].([]byte)
	if q.Index != "" {
		it.Key = kv.Key{PK: text(row[0]), SK: text(row[1])}
		body, _ = row[3].([]byte)
	}
	if err := decode(body, &it); err != nil {
		return kv.Item{}, err
	}
	if q.Index != "" {
		it.Index = map[kv.IndexName]kv.Key{q.Index: {PK: q.PK, SK: text(row[2])}}
	} else {
		it.ExpiresAt, _ = row[2].(int64)
	}
	return it, nil
}

// successor returns the smallest byte string that is greater than every string starting with the non-empty p. A valid
// UTF-8 string has no byte 0xff, so the last byte can always grow.
func successor(p string) string {
	b := []byte(p)
	b[len(b)-1]++
	return string(b)
}

// Limits implements [kv.Driver].
func (s *Store) Limits() kv.Limits {
	l := kv.DefaultLimits(s.opts.Schema)
	l.Durable = true
	return l
}
