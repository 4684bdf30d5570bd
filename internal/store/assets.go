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
// that already has a waiting update of the asset keeps it.
func (s *Store) RecordAssetEvent(ctx context.Context, e airflow.AssetEvent, queue []QueuedAsset) (created bool, err error) {
	key := kv.Key{PK: assetEventPK(AssetKey{e.AssetName, e.AssetURI}), SK: joinKey(sortableTime(e.Timestamp), e.ID)}
	ops := []kv.Op{kv.Put(entity(key, marshal(e), map[kv.IndexName]kv.Key{kv.GSI1: {PK: allOf(kindAssetEvent), SK: key.SK}}), kv.NotExists())}
	for _, q := range queue {
		index := map[kv.IndexName]kv.Key{kv.GSI1: {PK: allOf(kindAssetQueue), SK: joinKey(string(q.DagID), q.AssetName, q.AssetURI)}}
		ops = append(ops, kv.Put(entity(queuedKey(q.DagID, AssetKey{q.AssetName, q.AssetURI}), marshal(q), index), kv.NotExists()))
	}
	rest := []kv.Op(nil)
	if len(ops) > kv.MaxTransactOps {
		ops, rest = ops[:kv.MaxTransactOps], ops[kv.MaxTransactOps:]
	}
	for {
		err := s.kv.Transact(ctx, "", ops)
		var cancelled *kv.CancelError
		if errors.As(err, &cancelled) && errors.Is(err, kv.ErrConditionFailed) {
			if cancelled.Op == 0 {
				return false, nil
			}
			ops = append(ops[:cancelled.Op:cancelled.Op], ops[cancelled.Op+1:]...)
			continue
		}
		if err != nil {
			return false, translate(err)
		}
		break
	}
	for _, op := range rest {
		if err := s.kv.Write(ctx, op); err != nil && !errors.Is(err, kv.ErrConditionFailed) {
			return true, translate(err)
		}
	}
	return true, nil
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
}

func queuedKey(dag airflow.DagID, k AssetKey) kv.Key {
	return kv.Key{PK: joinKey(kindAssetQueue, string(dag)), SK: joinKey(k.Name, k.URI)}
}

// ListQueuedAssets lists the waiting updates of a DAG.
func (s *Store) ListQueuedAssets(ctx context.Context, dag airflow.DagID) ([]QueuedAsset, error) {
	return listPartition(ctx, s, joinKey(kindAssetQueue, string(dag)), kv.Range{}, docReader[QueuedAsset])
}

// ListAllQueuedAssets lists the waiting updates of all DAGs.
func (s *Store) ListAllQueuedAssets(ctx context.Context) ([]QueuedAsset, error) {
	qs, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindAssetQueue), ListOptions{}, docReader[QueuedAsset])
	return qs, err
}

// UnqueueAsset removes a waiting update if it is still the same one.
func (s *Store) UnqueueAsset(ctx context.Context, q QueuedAsset) error {
	key := queuedKey(q.DagID, AssetKey{q.AssetName, q.AssetURI})
	var cur QueuedAsset
	it, err := s.getDoc(ctx, key, &cur)
	if isNotFound(err) || err == nil && cur.EventID != q.EventID {
		return nil
	}
	if err != nil {
		return err
	}
	err = s.kv.Write(ctx, kv.Delete(key, kv.Eq(attrDoc, it.Attrs[attrDoc])))
	if _, failed := failedItem(err); failed {
		return nil
	}
	return translate(err)
}

// AssetEventID derives an event's id from the dispatch that produced it.
func AssetEventID(k airflow.TaskInstanceKey, dispatchSeq uint32, asset AssetKey) string {
	return fmt.Sprintf("%s#%d#%s", tiPK(k), dispatchSeq, asset.id())
}
