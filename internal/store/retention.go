package store

import (
	"context"
	"errors"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// ListDocuments lists the hashes of all stored documents, sorted.
func (s *Store) ListDocuments(ctx context.Context) ([]string, error) {
	var out []string
	err := kv.All(ctx, s.kv, kv.Query{Index: kv.GSI1, PK: allOf(kindDoc)}, func(it kv.Item) bool {
		out = append(out, splitKey(it.PK)[1])
		return true
	})
	return out, translate(err)
}

// DocumentPuts returns how often a document was put, or ErrNotFound. The number
// tells a collector of garbage whether somebody has wanted it since.
func (s *Store) DocumentPuts(ctx context.Context, hash string) (int64, error) {
	it, err := s.kv.Get(ctx, docKey(hash, 0), true)
	if err != nil {
		return 0, translate(err)
	}
	return it.Int(attrVersion), checkFormat(it)
}

// DeleteUnusedDocument removes a document unless it was put again since
// DocumentPuts returned puts; it reports whether it was removed.
func (s *Store) DeleteUnusedDocument(ctx context.Context, hash string, puts int64) (bool, error) {
	keys, err := listPartition(ctx, s, joinKey(kindDoc, hash), kv.Range{}, func(it kv.Item) (kv.Key, error) { return it.Key, nil })
	if err != nil || len(keys) == 0 {
		return false, err
	}
	first := docKey(hash, 0)
	var ops []kv.Op
	for _, k := range keys {
		if k != first {
			ops = append(ops, kv.Delete(k, kv.Cond{}))
		}
	}
	// Part 0 goes with the others in one transaction, or before them: a document
	// that is found is complete, and one that is put again is written whole.
	ops = append([]kv.Op{kv.Delete(first, kv.Eq(attrVersion, kv.Int(puts)))}, ops...)
	if len(ops) == 1 {
		err = s.kv.Write(ctx, ops[0])
	} else {
		err = s.kv.Transact(ctx, "", ops[:min(len(ops), kv.MaxTransactOps)])
	}
	if errors.Is(err, kv.ErrConditionFailed) {
		return false, nil
	}
	return err == nil, translate(err)
}

// DeleteXComs removes the XComs of an instance whose last try is over, and
// returns how many there were. The row stays. An instance that is dispatched
// meanwhile keeps what it pushes.
func (s *Store) DeleteXComs(ctx context.Context, k airflow.TaskInstanceKey, dryRun bool) (int, error) {
	a, err := s.GetAttempt(ctx, k)
	if errors.Is(err, airflow.ErrNotFound) || err == nil && a.Status == AttemptRunning {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	large, err := listPartition(ctx, s, tiPK(k), kv.Prefix(skXCom+"#"), func(it kv.Item) (kv.Item, error) { return it, nil })
	if err != nil {
		return 0, err
	}
	n := len(a.XComs) + len(large)
	if dryRun || n == 0 {
		return n, nil
	}
	if len(a.XComs) > 0 || len(a.LargeXComs) > 0 {
		doc := a.AttemptDoc
		doc.XComs, doc.LargeXComs = nil, nil
		err := s.kv.Write(ctx, kv.Update(rowKey(k), kv.And(kv.Eq(attrSeq, kv.Int(int64(a.DispatchSeq))), kv.Eq(attrStatus, kv.String(string(a.Status)))),
			kv.Assign(attrDoc, kv.Bytes(marshal(doc)))))
		if errors.Is(err, kv.ErrConditionFailed) {
			return 0, nil
		}
		if err != nil {
			return 0, translate(err)
		}
	}
	for _, it := range large {
		// Only what was read: a new try may push under the same key. Part 0 goes
		// first, so that a value that is found is complete.
		key := splitKey(it.SK)[1]
		for part := 0; part < max(1, int(it.Int(attrChunks))); part++ {
			del := kv.Delete(kv.Key{PK: it.PK, SK: xcomPartSK(key, part)}, kv.Eq(attrBeat, it.Attrs[attrBeat]))
			err := s.kv.Write(ctx, del)
			if err == nil {
				err = s.deleteLarge(ctx, []kv.Item{it}) // not an object that was pushed again
			}
			if err != nil && !errors.Is(err, kv.ErrConditionFailed) {
				return n, translate(err)
			}
		}
	}
	return n, nil
}

// DeleteAssetEvent removes an event; absent is fine. Updates that are queued
// because of it stay queued.
func (s *Store) DeleteAssetEvent(ctx context.Context, e airflow.AssetEvent) error {
	key := kv.Key{PK: assetEventPK(AssetKey{e.AssetName, e.AssetURI}), SK: joinKey(sortableTime(e.Timestamp), e.ID)}
	return translate(s.kv.Write(ctx, kv.Delete(key, kv.Cond{})))
}

// DeleteAudit removes an entry of the audit log; absent is fine.
func (s *Store) DeleteAudit(ctx context.Context, id string) error {
	return translate(s.kv.Write(ctx, kv.Delete(namedKey(kindAudit, id), kv.Cond{})))
}
