package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// AttemptStatus is how far the last claimed dispatch of a task instance got.
type AttemptStatus string

// The statuses of an attempt.
const (
	AttemptRunning AttemptStatus = "running"
	AttemptDone    AttemptStatus = "done"    // it reported
	AttemptYielded AttemptStatus = "yielded" // it was told to stop and did
)

// Attempt is the row of a task instance: the facts its worker writes.
type Attempt struct {
	Key airflow.TaskInstanceKey `json:"-"`
	// DispatchSeq, MinDispatchSeq, Status, Heartbeat and TryNumber are
	// attributes of the item, so that conditions can name them.
	DispatchSeq    uint32        `json:"-"`
	MinDispatchSeq uint32        `json:"-"`
	Status         AttemptStatus `json:"-"`
	Heartbeat      time.Time     `json:"-"`
	TryNumber      int           `json:"-"`
	ClaimID        string        `json:"-"`

	AttemptDoc
}

// AttemptDoc is the document part of an Attempt.
type AttemptDoc struct {
	Hostname  string     `json:"hostname,omitempty"`
	PID       int        `json:"pid,omitempty"`
	Unixname  string     `json:"unixname,omitempty"`
	StartDate *time.Time `json:"start_date,omitempty"`
	EndDate   *time.Time `json:"end_date,omitempty"`
	// FirstStart is when the first dispatch of this try began; a sensor's
	// timeout counts from it across reschedules and deferrals.
	FirstStart *time.Time `json:"first_start,omitempty"`
	// RescheduleCount is how often this try was rescheduled.
	RescheduleCount int    `json:"reschedule_count,omitempty"`
	Queue           string `json:"queue,omitempty"`
	Executor        string `json:"executor,omitempty"`
	// Scheduled and Queued are when the instance was last scheduled and queued for
	// this try, in microseconds since 1970.
	Scheduled int64 `json:"s,omitempty"`
	Queued    int64 `json:"q,omitempty"`
	// Report is what the worker reported, for the engine to apply.
	Report json.RawMessage `json:"report,omitempty"`
	// XComs are the values small enough to travel inside the row.
	XComs map[string]json.RawMessage `json:"xcoms,omitempty"`
	// LargeXComs names the keys stored as items of their own by this try.
	LargeXComs       []string                   `json:"large_xcoms,omitempty"`
	RenderedFields   map[string]json.RawMessage `json:"rendered_fields,omitempty"`
	RenderedMapIndex string                     `json:"rendered_map_index,omitempty"`
	Error            string                     `json:"error,omitempty"`
	// Resume is kept by the engine across a deferral: next_method, kwargs, event.
	Resume json.RawMessage `json:"resume,omitempty"`
}

func rowKey(k airflow.TaskInstanceKey) kv.Key { return kv.Key{PK: tiPK(k), SK: skRow} }

func readAttempt(k airflow.TaskInstanceKey, it kv.Item) (Attempt, error) {
	a := Attempt{
		Key:            k,
		DispatchSeq:    uint32(it.Int(attrSeq)),
		MinDispatchSeq: uint32(it.Int(attrMinSeq)),
		Status:         AttemptStatus(it.Str(attrStatus)),
		Heartbeat:      time.UnixMilli(it.Int(attrBeat)).UTC(),
		TryNumber:      int(it.Int(attrTry)),
		ClaimID:        it.Str(attrClaim),
	}
	if !it.Has(attrDoc) { // fenced before it was ever claimed
		return a, checkFormat(it)
	}
	return a, decode(it, &a.AttemptDoc)
}

// notFenced holds while a dispatch may still write.
func notFenced(seq uint32) kv.Cond {
	return kv.Or(kv.Missing(attrMinSeq), kv.Le(attrMinSeq, kv.Int(int64(seq))))
}

// Claim makes a dispatch start: at most one claim of a dispatch_seq succeeds,
// and none once a newer dispatch was claimed or Fence raised the floor; others
// get ErrSuperseded. claimID distinguishes callers, so that a call repeated
// after an unknown outcome succeeds. Before the first claim of a later try the
// row of the earlier one moves to the history.
func (s *Store) Claim(ctx context.Context, k airflow.TaskInstanceKey, seq uint32, try int, claimID string, now time.Time, doc AttemptDoc) error {
	if seq > 1 {
		if err := s.archive(ctx, k, try); err != nil {
			return err
		}
	}
	err := s.kv.Write(ctx, kv.Update(rowKey(k),
		kv.And(kv.Or(kv.Missing(attrSeq), kv.Lt(attrSeq, kv.Int(int64(seq)))), notFenced(seq)),
		kv.Assign(attrFormat, kv.Int(FormatVersion)),
		kv.Assign(attrSeq, kv.Int(int64(seq))),
		kv.Assign(attrStatus, kv.String(string(AttemptRunning))),
		kv.Assign(attrClaim, kv.String(claimID)),
		kv.Assign(attrBeat, kv.Int(now.UnixMilli())),
		kv.Assign(attrTry, kv.Int(int64(try))),
		kv.Assign(attrDoc, kv.Bytes(marshal(doc))),
	))
	if it, failed := failedItem(err); failed {
		if it != nil && it.Int(attrSeq) == int64(seq) && it.Str(attrClaim) == claimID && it.Str(attrStatus) == string(AttemptRunning) {
			return nil
		}
		return fmt.Errorf("%w: %s dispatch %d cannot start: %s", airflow.ErrSuperseded, k, seq, describeRow(it))
	}
	return translate(err)
}

func describeRow(it *kv.Item) string {
	if it == nil {
		return "its row is gone"
	}
	return fmt.Sprintf("dispatch %d is %s, lowest allowed is %d", it.Int(attrSeq), it.Str(attrStatus), it.Int(attrMinSeq))
}

// archive copies the row of an earlier try to the history.
func (s *Store) archive(ctx context.Context, k airflow.TaskInstanceKey, try int) error {
	it, err := s.kv.Get(ctx, rowKey(k), true)
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		return translate(err)
	}
	old := int(it.Int(attrTry))
	if old == 0 || old >= try {
		return nil
	}
	hist := it.Clone()
	hist.SK = trySK(old)
	hist.Index = nil
	return translate(s.kv.Write(ctx, kv.Put(hist, kv.Cond{})))
}

// Heartbeat records that a claimed dispatch is alive. ErrSuperseded tells the
// worker to stop: it was fenced, replaced or has already ended.
func (s *Store) Heartbeat(ctx context.Context, k airflow.TaskInstanceKey, seq uint32, now time.Time) error {
	err := s.kv.Write(ctx, kv.Update(rowKey(k),
		kv.And(kv.Eq(attrSeq, kv.Int(int64(seq))), kv.Eq(attrStatus, kv.String(string(AttemptRunning))), notFenced(seq)),
		kv.Assign(attrBeat, kv.Int(now.UnixMilli()))))
	if it, failed := failedItem(err); failed {
		return fmt.Errorf("%w: %s dispatch %d: %s", airflow.ErrSuperseded, k, seq, describeRow(it))
	}
	return translate(err)
}

// Finish records the outcome of a claimed dispatch, once: a repeated call by the
// same claim succeeds, any other is ErrSuperseded and changes nothing.
func (s *Store) Finish(ctx context.Context, k airflow.TaskInstanceKey, seq uint32, claimID string, doc AttemptDoc) error {
	return s.end(ctx, k, seq, claimID, AttemptDone, notFenced(seq), &doc)
}

// Yield records that a superseded dispatch has stopped and will not write again.
func (s *Store) Yield(ctx context.Context, k airflow.TaskInstanceKey, seq uint32, claimID string) error {
	return s.end(ctx, k, seq, claimID, AttemptYielded, kv.Cond{}, nil)
}

func (s *Store) end(ctx context.Context, k airflow.TaskInstanceKey, seq uint32, claimID string, status AttemptStatus, extra kv.Cond, doc *AttemptDoc) error {
	sets := []kv.Set{kv.Assign(attrStatus, kv.String(string(status)))}
	if doc != nil {
		sets = append(sets, kv.Assign(attrDoc, kv.Bytes(marshal(doc))))
	}
	err := s.kv.Write(ctx, kv.Update(rowKey(k), kv.And(
		kv.Eq(attrSeq, kv.Int(int64(seq))),
		kv.Eq(attrClaim, kv.String(claimID)),
		kv.Eq(attrStatus, kv.String(string(AttemptRunning))),
		extra), sets...))
	if it, failed := failedItem(err); failed {
		if it != nil && it.Int(attrSeq) == int64(seq) && it.Str(attrClaim) == claimID && it.Str(attrStatus) == string(status) {
			return nil
		}
		return fmt.Errorf("%w: %s dispatch %d: %s", airflow.ErrSuperseded, k, seq, describeRow(it))
	}
	return translate(err)
}

// Fence forbids every dispatch below min to claim, beat or finish. Lower floors
// than the present one change nothing.
func (s *Store) Fence(ctx context.Context, k airflow.TaskInstanceKey, min uint32) error {
	err := s.kv.Write(ctx, kv.Update(rowKey(k),
		kv.Or(kv.Missing(attrMinSeq), kv.Lt(attrMinSeq, kv.Int(int64(min)))),
		kv.Assign(attrFormat, kv.Int(FormatVersion)),
		kv.Assign(attrMinSeq, kv.Int(int64(min)))))
	if _, failed := failedItem(err); failed {
		return nil
	}
	return translate(err)
}

// SetResume stores what a deferred instance continues with. It is written by the
// engine, between two dispatches.
func (s *Store) SetResume(ctx context.Context, k airflow.TaskInstanceKey, seq uint32, resume json.RawMessage) error {
	it, err := s.kv.Get(ctx, rowKey(k), true)
	if err != nil {
		return translate(err)
	}
	a, err := readAttempt(k, it)
	if err != nil {
		return err
	}
	a.Resume = resume
	err = s.kv.Write(ctx, kv.Update(rowKey(k), kv.Eq(attrSeq, kv.Int(int64(seq))), kv.Assign(attrDoc, kv.Bytes(marshal(a.AttemptDoc)))))
	return translate(err)
}

// GetAttempt returns the row of an instance, or ErrNotFound if it never started.
func (s *Store) GetAttempt(ctx context.Context, k airflow.TaskInstanceKey) (Attempt, error) {
	it, err := s.get(ctx, rowKey(k))
	if err != nil {
		return Attempt{}, translate(err)
	}
	return readAttempt(k, it)
}

// GetAttempts returns the rows that exist among keys.
func (s *Store) GetAttempts(ctx context.Context, keys []airflow.TaskInstanceKey) (map[airflow.TaskInstanceKey]Attempt, error) {
	ks := make([]kv.Key, len(keys))
	for i, k := range keys {
		ks[i] = rowKey(k)
	}
	items, err := s.kv.BatchGet(ctx, ks, true)
	if err != nil {
		return nil, translate(err)
	}
	out := make(map[airflow.TaskInstanceKey]Attempt, len(items))
	for i, k := range keys {
		it, ok := items[ks[i]]
		if !ok {
			continue
		}
		if out[k], err = readAttempt(k, it); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ListTries returns the earlier tries of an instance, oldest first.
func (s *Store) ListTries(ctx context.Context, k airflow.TaskInstanceKey) ([]Attempt, error) {
	return listPartition(ctx, s, tiPK(k), kv.Prefix(skTry+"#"), func(it kv.Item) (Attempt, error) { return readAttempt(k, it) })
}

// DeleteTaskInstance removes the row, history and XComs of an instance.
func (s *Store) DeleteTaskInstance(ctx context.Context, k airflow.TaskInstanceKey) error {
	items, err := listPartition(ctx, s, tiPK(k), kv.Range{}, func(it kv.Item) (kv.Item, error) {
		delete(it.Attrs, attrDoc)
		return it, nil
	})
	if err != nil {
		return err
	}
	// Objects go first: a crash in between is repaired by deleting again.
	if err := s.deleteLarge(ctx, items); err != nil {
		return err
	}
	for _, it := range items {
		if err := s.kv.Write(ctx, kv.Delete(it.Key, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	return nil
}

// InlineXComBytes bounds what travels inside the row; larger values become items.
const InlineXComBytes = 600

// PutXCom stores a value as an item of its own, in parts where it is large, or in
// LargeValues where there are any. try
// is the try that pushed it: values of earlier tries are not seen by GetXCom.
func (s *Store) PutXCom(ctx context.Context, k airflow.TaskInstanceKey, try int, key string, value json.RawMessage, now time.Time) error {
	if s.large != nil && len(value) > LargeXComBytes {
		it := kv.Item{Key: kv.Key{PK: tiPK(k), SK: xcomSK(key)}, Attrs: map[string]kv.Value{
			attrFormat: kv.Int(FormatVersion), attrTry: kv.Int(int64(try)), attrBeat: kv.Int(now.UnixMilli()),
		}}
		return s.putLargeXCom(ctx, it, k, try, key, value)
	}
	parts := max(1, (len(value)+docPartBytes-1)/docPartBytes)
	// Part 0 goes last: it tells how many there are, so that a value that is found is complete.
	for i := parts - 1; i >= 0; i-- {
		it := entity(kv.Key{PK: tiPK(k), SK: xcomPartSK(key, i)}, value[i*docPartBytes:min((i+1)*docPartBytes, len(value))], nil)
		it.Attrs[attrTry] = kv.Int(int64(try))
		it.Attrs[attrBeat] = kv.Int(now.UnixMilli())
		if parts > 1 && i == 0 {
			it.Attrs[attrChunks] = kv.Int(int64(parts))
		}
		if err := s.kv.Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	return nil
}

// xcomPartSK is the sort key of one part; part 0 is the value's own item.
func xcomPartSK(key string, part int) string {
	if part == 0 {
		return xcomSK(key)
	}
	return joinKey(skXComPart, key, fmt.Sprintf("%06d", part))
}

// xcomValue completes a value from its parts.
func (s *Store) xcomValue(ctx context.Context, it kv.Item) (json.RawMessage, error) {
	if name := it.Str(attrObject); name != "" {
		return s.largeXCom(ctx, name)
	}
	v := append(json.RawMessage(nil), it.Bytes(attrDoc)...)
	key := splitKey(it.SK)[1]
	for i := 1; i < int(it.Int(attrChunks)); i++ {
		p, err := s.kv.Get(ctx, kv.Key{PK: it.PK, SK: xcomPartSK(key, i)}, true)
		if err != nil {
			return nil, translate(err)
		}
		v = append(v, p.Bytes(attrDoc)...)
	}
	return v, nil
}

// GetXCom returns the value that the latest try of an instance pushed under key,
// or ErrNotFound.
func (s *Store) GetXCom(ctx context.Context, k airflow.TaskInstanceKey, key string) (airflow.XCom, error) {
	a, err := s.GetAttempt(ctx, k)
	if err != nil {
		return airflow.XCom{}, err
	}
	if v, ok := a.XComs[key]; ok {
		return airflow.XCom{TaskInstanceKey: k, Key: key, Value: v, Timestamp: endOr(a)}, nil
	}
	it, err := s.kv.Get(ctx, kv.Key{PK: tiPK(k), SK: xcomSK(key)}, true)
	if err != nil {
		return airflow.XCom{}, translate(err)
	}
	if int(it.Int(attrTry)) != a.TryNumber {
		return airflow.XCom{}, fmt.Errorf("%w: XCom %q of %s was pushed by an earlier try", airflow.ErrNotFound, key, k)
	}
	return s.xcomOf(ctx, k, it)
}

func endOr(a Attempt) time.Time {
	if a.EndDate != nil {
		return *a.EndDate
	}
	return a.Heartbeat
}

func (s *Store) xcomOf(ctx context.Context, k airflow.TaskInstanceKey, it kv.Item) (airflow.XCom, error) {
	v, err := s.xcomValue(ctx, it)
	return airflow.XCom{TaskInstanceKey: k, Key: splitKey(it.SK)[1], Value: v, Timestamp: time.UnixMilli(it.Int(attrBeat)).UTC()}, err
}

// ListXComs returns every XCom of an instance's latest try, by key.
func (s *Store) ListXComs(ctx context.Context, k airflow.TaskInstanceKey) ([]airflow.XCom, error) {
	a, err := s.GetAttempt(ctx, k)
	if errors.Is(err, airflow.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []airflow.XCom
	for key, v := range a.XComs {
		out = append(out, airflow.XCom{TaskInstanceKey: k, Key: key, Value: v, Timestamp: endOr(a)})
	}
	items, err := listPartition(ctx, s, tiPK(k), kv.Prefix(skXCom+"#"), func(it kv.Item) (kv.Item, error) { return it, nil })
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if int(it.Int(attrTry)) == a.TryNumber {
			x, err := s.xcomOf(ctx, k, it)
			if err != nil {
				return nil, err
			}
			if _, inline := a.XComs[x.Key]; !inline {
				out = append(out, x)
			}
		}
	}
	sortXComs(out)
	return out, nil
}

// GetXComs returns the value under key of each of many instances, in their
// order; absent ones are left nil. It reads in batches.
func (s *Store) GetXComs(ctx context.Context, keys []airflow.TaskInstanceKey, key string) ([]json.RawMessage, error) {
	rows, err := s.GetAttempts(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]json.RawMessage, len(keys))
	var large []kv.Key
	var at []int
	for i, k := range keys {
		a, ok := rows[k]
		if !ok {
			continue
		}
		if v, ok := a.XComs[key]; ok {
			out[i] = v
			continue
		}
		large = append(large, kv.Key{PK: tiPK(k), SK: xcomSK(key)})
		at = append(at, i)
	}
	if len(large) == 0 {
		return out, nil
	}
	items, err := s.kv.BatchGet(ctx, large, true)
	if err != nil {
		return nil, translate(err)
	}
	found := make([]*kv.Item, len(large))
	for j, lk := range large {
		if it, ok := items[lk]; ok && int(it.Int(attrTry)) == rows[keys[at[j]]].TryNumber {
			found[j] = &it
		}
	}
	values, err := s.xcomValues(ctx, found)
	if err != nil {
		return nil, err
	}
	for j, v := range values {
		if found[j] != nil {
			out[at[j]] = v
		}
	}
	return out, nil
}
