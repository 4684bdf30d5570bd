package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// AssetKey identifies an asset: name and uri together.
type AssetKey struct{ Name, URI string }

func (k AssetKey) id() string { return joinKey(k.Name, k.URI) }

// AssetRecord is what is known of an asset: who waits for it and who produces it.
type AssetRecord struct {
	airflow.Asset
	// ScheduledDags are the DAGs whose schedule names it.
	ScheduledDags []airflow.DagID `json:"scheduled_dags,omitempty"`
	// Producers are the tasks that have it as an outlet.
	Producers []AssetProducer `json:"producers,omitempty"`
	// Inactive says why the asset is inactive although it is referenced: another
	// active asset has its name or its uri. Tasks that name it fail.
	Inactive string `json:"inactive,omitempty"`
}

// Active reports whether events of the asset count: a schedule or an outlet
// refers to it and no other asset has taken its name or uri.
func (a AssetRecord) Active() bool {
	return a.Inactive == "" && len(a.ScheduledDags)+len(a.Producers) > 0
}

// AssetProducer is a task with the asset among its outlets.
type AssetProducer struct {
	DagID  airflow.DagID  `json:"dag_id"`
	TaskID airflow.TaskID `json:"task_id"`
}

func assetIndex(a AssetRecord) map[kv.IndexName]kv.Key {
	return listed(kindAsset, AssetKey{a.Name, a.URI}.id())
}

func assetKey(k AssetKey) kv.Key { return namedKey(kindAsset, k.id()) }

// GetAsset returns an asset, or ErrNotFound.
func (s *Store) GetAsset(ctx context.Context, k AssetKey) (AssetRecord, error) {
	var a AssetRecord
	_, err := s.getDoc(ctx, assetKey(k), &a)
	return a, err
}

// UpsertAsset changes an asset, creating it first where needed.
func (s *Store) UpsertAsset(ctx context.Context, a airflow.Asset, change func(*AssetRecord) error) (AssetRecord, error) {
	rec := AssetRecord{Asset: a}
	if err := s.createDoc(ctx, assetKey(AssetKey{a.Name, a.URI}), rec, assetIndex(rec)); err != nil && !isExists(err) {
		return rec, err
	}
	return update(ctx, s, assetKey(AssetKey{a.Name, a.URI}), assetIndex, change)
}

// ListAssets lists assets by name.
func (s *Store) ListAssets(ctx context.Context) ([]AssetRecord, error) {
	as, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindAsset), ListOptions{}, docReader[AssetRecord])
	return as, err
}

func assetEventPK(k AssetKey) string { return joinKey(kindAssetEvent, k.Name, k.URI) }

// RecordAssetEvent records an event together with the DAGs it is queued for, in
// one transaction. The event's id (producing dispatch and asset) makes a
// repetition harmless: created is false then and nothing is queued again. A DAG
// that already has a waiting update of the asset keeps it, and the event's id
// joins it.
func (s *Store) RecordAssetEvent(ctx context.Context, e airflow.AssetEvent, queue []QueuedAsset) (created bool, err error) {
	key := kv.Key{PK: assetEventPK(AssetKey{e.AssetName, e.AssetURI}), SK: joinKey(sortableTime(e.Timestamp), e.ID)}
	record := kv.Put(entity(key, marshal(e), map[kv.IndexName]kv.Key{kv.GSI1: {PK: allOf(kindAssetEvent), SK: key.SK}}), kv.NotExists())
	// What does not fit the transaction goes first: the event is there only when
	// everybody has been told.
	for len(queue) > kv.MaxTransactOps-1 {
		op, err := s.enqueue(ctx, queue[0])
		if err == nil && op != nil {
			err = s.kv.Write(ctx, *op)
		}
		if errors.Is(err, kv.ErrConditionFailed) {
			continue
		}
		if err != nil {
			return false, translate(err)
		}
		queue = queue[1:]
	}
	for attempt := 0; ; attempt++ {
		ops := []kv.Op{record}
		for _, q := range queue {
			op, err := s.enqueue(ctx, q)
			if err != nil {
				return false, err
			}
			if op != nil {
				ops = append(ops, *op)
			}
		}
		err := s.kv.Transact(ctx, "", ops)
		var cancelled *kv.CancelError
		if errors.As(err, &cancelled) && errors.Is(err, kv.ErrConditionFailed) {
			if cancelled.Op == 0 {
				return false, nil
			}
			if attempt+1 < UpdateAttempts { // another event joined the same update
				continue
			}
		}
		return err == nil, translate(err)
	}
}

// enqueue is the write that makes an event wait for a DAG; nil if it does.
func (s *Store) enqueue(ctx context.Context, q QueuedAsset) (*kv.Op, error) {
	key := queuedKey(q.DagID, AssetKey{q.AssetName, q.AssetURI})
	index := map[kv.IndexName]kv.Key{kv.GSI1: {PK: allOf(kindAssetQueue), SK: joinKey(string(q.DagID), q.AssetName, q.AssetURI)}}
	mine := WaitingEvent{ID: q.EventID, Timestamp: q.CreatedAt}
	var cur QueuedAsset
	it, err := s.getDoc(ctx, key, &cur)
	if isNotFound(err) {
		q.Waiting = []WaitingEvent{mine}
		op := kv.Put(entity(key, marshal(q), index), kv.NotExists())
		return &op, nil
	}
	if err != nil {
		return nil, err
	}
	for _, w := range cur.events() {
		if w.ID == mine.ID {
			return nil, nil
		}
	}
	cur.Waiting = append(cur.events(), mine)
	op := kv.Put(entity(key, marshal(cur), index), kv.Eq(attrDoc, it.Attrs[attrDoc]))
	return &op, nil
}

// ListAssetEvents lists the events of an asset with from < timestamp <= to, by
// time; a zero from or to is open.
func (s *Store) ListAssetEvents(ctx context.Context, k AssetKey, from, to time.Time) ([]airflow.AssetEvent, error) {
	r := kv.Range{}
	if !from.IsZero() {
		r.From = afterPrefix(sortableTime(from))
	}
	if !to.IsZero() {
		r.To = afterPrefix(sortableTime(to))
	}
	return listPartition(ctx, s, assetEventPK(k), r, docReader[airflow.AssetEvent])
}

// ListAllAssetEvents lists events of all assets by time.
func (s *Store) ListAllAssetEvents(ctx context.Context, o ListOptions) ([]airflow.AssetEvent, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindAssetEvent), o, docReader[airflow.AssetEvent])
}

// QueuedAsset is a waiting update of one asset for one DAG.
type QueuedAsset struct {
	DagID     airflow.DagID `json:"dag_id"`
	AssetName string        `json:"asset_name"`
	AssetURI  string        `json:"asset_uri"`
	// CreatedAt is the time of the first event since the DAG's last run.
	CreatedAt time.Time `json:"created_at"`
	// Alias is the asset alias through which it came, "" if directly.
	Alias string `json:"alias,omitempty"`
	// EventID is the id of that event.
	EventID string `json:"event_id"`
	// Waiting are the events that wait, in the order in which they were recorded.
	Waiting []WaitingEvent `json:"waiting,omitempty"`
}

// WaitingEvent is an asset event that waits for a DAG's next run.
type WaitingEvent struct {
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
}

// events returns what waits; rows of the first release name the first event only.
func (q QueuedAsset) events() []WaitingEvent {
	if q.Waiting == nil {
		return []WaitingEvent{{ID: q.EventID, Timestamp: q.CreatedAt}}
	}
	return q.Waiting
}

func queuedKey(dag airflow.DagID, k AssetKey) kv.Key {
	return kv.Key{PK: joinKey(kindAssetQueue, string(dag)), SK: joinKey(k.Name, k.URI)}
}

// readQueued fills in what rows of the first release do not have.
func readQueued(it kv.Item) (QueuedAsset, error) {
	var q QueuedAsset
	err := decode(it, &q)
	q.Waiting = q.events()
	return q, err
}

// ListQueuedAssets lists the waiting updates of a DAG.
func (s *Store) ListQueuedAssets(ctx context.Context, dag airflow.DagID) ([]QueuedAsset, error) {
	return listPartition(ctx, s, joinKey(kindAssetQueue, string(dag)), kv.Range{}, readQueued)
}

// ListAllQueuedAssets lists the waiting updates of all DAGs.
func (s *Store) ListAllQueuedAssets(ctx context.Context) ([]QueuedAsset, error) {
	qs, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindAssetQueue), ListOptions{}, readQueued)
	return qs, err
}

// UnqueueAssets takes events off a DAG's waiting updates. An update for which
// nothing waits any more is removed; one that got events meanwhile stays with those.
func (s *Store) UnqueueAssets(ctx context.Context, dag airflow.DagID, events []string) error {
	gone := make(map[string]bool, len(events))
	for _, id := range events {
		gone[id] = true
	}
	for attempt := 0; ; attempt++ {
		queued, err := listPartition(ctx, s, joinKey(kindAssetQueue, string(dag)), kv.Range{}, func(it kv.Item) (kv.Item, error) { return it, nil })
		if err != nil {
			return err
		}
		again := false
		for _, it := range queued {
			q, err := readQueued(it)
			if err != nil {
				return err
			}
			left := q.Waiting[:0:0]
			for _, w := range q.Waiting {
				if !gone[w.ID] {
					left = append(left, w)
				}
			}
			if len(left) == len(q.Waiting) {
				continue
			}
			same := kv.Eq(attrDoc, it.Attrs[attrDoc])
			op := kv.Delete(it.Key, same)
			if len(left) > 0 {
				q.Waiting, q.EventID, q.CreatedAt = left, left[0].ID, left[0].Timestamp
				it.Attrs[attrDoc] = kv.Bytes(marshal(q))
				op = kv.Put(it, same)
			}
			err = s.kv.Write(ctx, op)
			if errors.Is(err, kv.ErrConditionFailed) {
				again = true
				continue
			}
			if err != nil {
				return translate(err)
			}
		}
		if !again {
			return nil
		}
		if attempt+1 == UpdateAttempts {
			return fmt.Errorf("%w: asset updates of DAG %q", airflow.ErrConflict, dag)
		}
	}
}

// AssetEventID derives an event's id from the dispatch that produced it.
func AssetEventID(k airflow.TaskInstanceKey, dispatchSeq uint32, asset AssetKey) string {
	return fmt.Sprintf("%s#%d#%s", tiPK(k), dispatchSeq, asset.id())
}
