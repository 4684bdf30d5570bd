package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// Steps of a wide run are taken by one scheduler at a time, where there are many:
// it holds the run's lease, and the others leave the keys of what has reported in
// numbered boxes. Neither decides anything: a commit is conditioned on META, and
// what is in a box is found in the rows, too.

// skLease is the sort key of a run's lease.
const skLease = "LEASE"

// kindMail is that of leases and boxes, each a partition of its own: META's takes a
// thousand units a second, every claim reads INFO there, and every reporter a lease.
const kindMail = "MAIL"

const (
	attrOwner = "ow" // of a lease, "" once it was given back
	attrUntil = "un" // Unix milliseconds
	attrBox   = "bx" // the box that is open
	attrFrom  = "fr" // the first box that may not have been worked off
)

// mailLife is how long mail may lie, and a lease that nobody takes: who reads mail
// does not delete it, since that would cost as much as writing it.
const mailLife = 48 * time.Hour

// Lease says who steps a wide run.
type Lease struct {
	Owner string    // who took it last
	Until time.Time // to the millisecond
	// Box is where reports are left now. The boxes from From on may not have been
	// worked off.
	From, Box int64

	version, expires int64 // expires is when its item may go, Unix seconds
}

// Held reports whether somebody steps the run at a time.
func (l Lease) Held(now time.Time) bool { return l.Until.After(now) }

func leaseKey(k RunKey) kv.Key {
	return kv.Key{PK: joinKey(kindMail, string(k.DagID), string(k.RunID)), SK: skLease}
}

func readLease(it kv.Item) Lease {
	return Lease{Owner: it.Str(attrOwner), Until: time.UnixMilli(it.Int(attrUntil)).UTC(), From: it.Int(attrFrom), Box: it.Int(attrBox), version: it.Int(attrVersion), expires: it.ExpiresAt}
}

// GetLease returns a run's lease, which nobody holds if it never had one.
func (s *Store) GetLease(ctx context.Context, k RunKey) (Lease, error) {
	it, err := s.get(ctx, leaseKey(k))
	if errors.Is(err, kv.ErrNotFound) {
		return Lease{}, nil
	}
	if err != nil {
		return Lease{}, translate(err)
	}
	return readLease(it), checkFormat(it)
}

// TakeLease makes owner the one who steps a run, unless somebody else is: then
// mine is false and the lease is theirs. The box that was open is closed: it is to
// be worked off.
func (s *Store) TakeLease(ctx context.Context, k RunKey, owner string, now, until time.Time) (l Lease, mine bool, err error) {
	l, err = s.GetLease(ctx, k)
	if err != nil || l.Held(now) && l.Owner != owner {
		return l, false, err
	}
	l.Owner, l.Until, l.expires = owner, time.UnixMilli(until.UnixMilli()).UTC(), until.Add(mailLife).Unix()
	l.Box++
	l.version++
	err = s.putLease(ctx, k, l)
	if it, failed := failedItem(err); failed && it != nil {
		other := readLease(*it)
		return other, other == l, nil // an earlier try of this call may have been applied
	}
	return l, err == nil, translate(err)
}

func (s *Store) putLease(ctx context.Context, k RunKey, l Lease) error {
	it := kv.Item{Key: leaseKey(k), Attrs: map[string]kv.Value{
		attrFormat: kv.Int(FormatVersion), attrOwner: kv.String(l.Owner), attrUntil: kv.Int(l.Until.UnixMilli()), attrFrom: kv.Int(l.From), attrBox: kv.Int(l.Box), attrVersion: kv.Int(l.version),
	}, ExpiresAt: l.expires}
	cond := kv.Eq(attrVersion, kv.Int(l.version-1))
	if l.version == 1 {
		cond = kv.NotExists()
	}
	return s.kv.Write(ctx, kv.Put(it, cond))
}

// NextBox says that the closed boxes were worked off, closes the open one, opens
// the next and extends the lease. ErrConflict: somebody else has taken it.
func (s *Store) NextBox(ctx context.Context, k RunKey, l Lease, until time.Time) (Lease, error) {
	l.Until, l.expires = until, until.Add(mailLife).Unix()
	l.From = l.Box
	l.Box++
	return s.writeLease(ctx, k, l)
}

// ReleaseLease gives a lease back; done says that the closed boxes were worked off.
// ErrConflict: somebody else has taken it.
func (s *Store) ReleaseLease(ctx context.Context, k RunKey, l Lease, done bool) error {
	if done {
		l.From = l.Box
	}
	l.Until = time.UnixMilli(0)
	_, err := s.writeLease(ctx, k, l)
	return err
}

func (s *Store) writeLease(ctx context.Context, k RunKey, l Lease) (Lease, error) {
	l.Until = time.UnixMilli(l.Until.UnixMilli()).UTC()
	l.version++
	err := s.putLease(ctx, k, l)
	if it, failed := failedItem(err); failed && it != nil && readLease(*it) == l {
		return l, nil // an earlier try of this call was applied
	}
	return l, translate(err)
}

// Mail is a report that somebody left: its row says what was reported.
type Mail struct {
	TaskID      airflow.TaskID `json:"t"`
	MapIndex    int            `json:"m"`
	DispatchSeq uint32         `json:"s"`
}

func boxPK(k RunKey, box int64) string {
	return joinKey(kindMail, string(k.DagID), string(k.RunID), fmt.Sprint(box))
}

// PutMail leaves reports in a box. Doing it again changes nothing.
func (s *Store) PutMail(ctx context.Context, k RunKey, box int64, ms []Mail, now time.Time) error {
	doc := marshal(ms)
	sum := sha256.Sum256(doc)
	it := entity(kv.Key{PK: boxPK(k, box), SK: hex.EncodeToString(sum[:8])}, doc, nil)
	it.ExpiresAt = now.Add(mailLife).Unix()
	return translate(s.kv.Write(ctx, kv.Put(it, kv.Cond{})))
}

// ListMail returns what was left in a box.
func (s *Store) ListMail(ctx context.Context, k RunKey, box int64) ([]Mail, error) {
	lists, err := listPartition(ctx, s, boxPK(k, box), kv.Range{}, docReader[[]Mail])
	var out []Mail
	for _, l := range lists {
		out = append(out, l...)
	}
	return out, err
}

// HasMail reports whether anything was left in a box.
func (s *Store) HasMail(ctx context.Context, k RunKey, box int64) (bool, error) {
	page, err := s.kv.Query(ctx, kv.Query{PK: boxPK(k, box), Limit: 1, Consistent: true})
	return len(page.Items) > 0, translate(err)
}
