package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// A request to people (human in the loop) is an item of its instance's partition,
// one for each try: workers may write it, and it goes with the instance. The
// lists of requests by status are partitions of gsi1 that hold it.

// HITLStatus is how far a request to people got.
type HITLStatus string

// The statuses of a request. One that is not open stays as it is.
const (
	HITLOpen     HITLStatus = "open"
	HITLAnswered HITLStatus = "answered"
	// HITLClosed: its time ran out and it has no defaults.
	HITLClosed HITLStatus = "closed"
)

// HITL is a request to people.
type HITL struct {
	Key         airflow.TaskInstanceKey
	TryNumber   int
	DispatchSeq uint32 // of the dispatch that asked
	Status      HITLStatus
	CreatedAt   time.Time
	// Request is what was asked, Answer what came of it (worker.HITLRequest and
	// worker.HITLResponse as JSON); Answer is nil unless it was answered.
	Request, Answer json.RawMessage
}

const skHITL = "HITL"

func hitlKey(k airflow.TaskInstanceKey, try int) kv.Key {
	return kv.Key{PK: tiPK(k), SK: joinKey(skHITL, fmt.Sprintf("%06d", try))}
}

// hitlIndex lists the requests of a status by the time they were made.
func hitlIndex(h HITL) map[kv.IndexName]kv.Key {
	return map[kv.IndexName]kv.Key{kv.GSI1: {
		PK: joinKey(skHITL, string(h.Status)),
		SK: joinKey(sortableTime(h.CreatedAt), tiPK(h.Key)),
	}}
}

func hitlItem(h HITL) kv.Item {
	it := entity(hitlKey(h.Key, h.TryNumber), h.Request, hitlIndex(h))
	it.Attrs[attrSeq] = kv.Int(int64(h.DispatchSeq))
	it.Attrs[attrTry] = kv.Int(int64(h.TryNumber))
	it.Attrs[attrStatus] = kv.String(string(h.Status))
	it.Attrs[attrBeat] = kv.Int(h.CreatedAt.UnixMicro())
	if h.Answer != nil {
		it.Attrs[attrAnswer] = kv.Bytes(h.Answer)
	}
	return it
}

func readHITL(it kv.Item) (HITL, error) {
	p := splitKey(it.PK)
	if len(p) != 5 || p[0] != kindTI {
		return HITL{}, fmt.Errorf("%w: item %v is no request to people", kv.ErrCorrupt, it.Key)
	}
	return HITL{
		Key: Owner(it.PK), TryNumber: int(it.Int(attrTry)), DispatchSeq: uint32(it.Int(attrSeq)), Status: HITLStatus(it.Str(attrStatus)),
		CreatedAt: time.UnixMicro(it.Int(attrBeat)).UTC(), Request: it.Bytes(attrDoc), Answer: it.Bytes(attrAnswer),
	}, checkFormat(it)
}

// PutHITL stores the open request of a dispatch and takes those of earlier tries
// off the lists. Storing that of the same dispatch again, or of an earlier one,
// changes nothing.
func (s *Store) PutHITL(ctx context.Context, k airflow.TaskInstanceKey, try int, seq uint32, request json.RawMessage, now time.Time) error {
	old, err := listPartition(ctx, s, tiPK(k), kv.Prefix(skHITL+"#"), func(it kv.Item) (kv.Item, error) { return it, nil })
	if err != nil {
		return err
	}
	for _, it := range old {
		if int(it.Int(attrTry)) >= try || len(it.Index) == 0 {
			continue
		}
		it.Index = nil
		if err := s.kv.Write(ctx, kv.Put(it, kv.Eq(attrStatus, it.Attrs[attrStatus]))); err != nil && !errors.Is(err, kv.ErrConditionFailed) {
			return translate(err)
		}
	}
	h := HITL{Key: k, TryNumber: try, DispatchSeq: seq, Status: HITLOpen, CreatedAt: now.UTC(), Request: request}
	err = s.kv.Write(ctx, kv.Put(hitlItem(h), kv.Or(kv.NotExists(), kv.Lt(attrSeq, kv.Int(int64(seq))))))
	if errors.Is(err, kv.ErrConditionFailed) {
		return nil
	}
	return translate(err)
}

// GetHITL returns the request of a try, ErrNotFound if it made none.
func (s *Store) GetHITL(ctx context.Context, k airflow.TaskInstanceKey, try int) (HITL, error) {
	it, err := s.get(ctx, hitlKey(k, try))
	if err != nil {
		return HITL{}, translate(err)
	}
	return readHITL(it)
}

// EndHITL gives an open request its one answer, or closes it if answer is nil. It
// returns the request as it is then; ErrConflict with it if it was not open.
func (s *Store) EndHITL(ctx context.Context, h HITL, answer json.RawMessage) (HITL, error) {
	h.Status, h.Answer = HITLClosed, nil
	if answer != nil {
		h.Status, h.Answer = HITLAnswered, answer
	}
	err := s.kv.Write(ctx, kv.Put(hitlItem(h), kv.And(kv.Eq(attrSeq, kv.Int(int64(h.DispatchSeq))), kv.Eq(attrStatus, kv.String(string(HITLOpen))))))
	if it, failed := failedItem(err); failed {
		if it == nil {
			return h, fmt.Errorf("%w: the request of %s is gone", airflow.ErrNotFound, h.Key)
		}
		have, err := readHITL(*it)
		if err == nil {
			err = fmt.Errorf("%w: the request of %s is %s", airflow.ErrConflict, h.Key, have.Status)
		}
		return have, err
	}
	return h, translate(err)
}

// ListHITL lists the requests of a status, by the time they were made. It reads
// them alone; the index may be behind, so that their status may be another.
func (s *Store) ListHITL(ctx context.Context, status HITLStatus, o ListOptions) ([]HITL, string, error) {
	return listIndex(ctx, s, kv.GSI1, joinKey(skHITL, string(status)), o, readHITL)
}

// ListHITLs is ListHITL of several statuses, whole.
func (s *Store) ListHITLs(ctx context.Context, statuses ...HITLStatus) (out []HITL, err error) {
	seen := map[string]bool{}
	for _, status := range statuses {
		hs, _, err := s.ListHITL(ctx, status, ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, h := range hs { // one that was answered between two reads is found twice
			if id := hitlKey(h.Key, h.TryNumber).String(); !seen[id] && slices.Contains(statuses, h.Status) {
				seen[id] = true
				out = append(out, h)
			}
		}
	}
	return out, nil
}
