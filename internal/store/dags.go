package store

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

func dagKey(id airflow.DagID) kv.Key { return kv.Key{PK: dagPK(id), SK: skMeta} }

// dueIndex is the partition of gsi2 that orders DAGs by the time their next run may be created.
var dueIndex = joinKey("DUE", kindDAG)

// dagIndex lists a DAG among all DAGs, and among the due ones if it waits for a date.
func dagIndex(m airflow.DagModel) map[kv.IndexName]kv.Key {
	ix := listed(kindDAG, joinKey(string(m.DagID)))
	if m.NextDagRunCreateAfter != nil && !m.IsPaused && !m.IsStale && !m.HasImportErrors {
		ix[kv.GSI2] = kv.Key{PK: dueIndex, SK: joinKey(sortableTime(*m.NextDagRunCreateAfter), string(m.DagID))}
	}
	return ix
}

// GetDag returns what is known of a DAG, or ErrNotFound.
func (s *Store) GetDag(ctx context.Context, id airflow.DagID) (airflow.DagModel, error) {
	var m airflow.DagModel
	_, err := s.getDoc(ctx, dagKey(id), &m)
	return m, err
}

// ReadDag is GetDag for who may update the DAG.
func (s *Store) ReadDag(ctx context.Context, id airflow.DagID) (Known[airflow.DagModel], error) {
	return known[airflow.DagModel](ctx, s, dagKey(id))
}

// UpdateDagFrom is UpdateDag for who has read the DAG.
func (s *Store) UpdateDagFrom(ctx context.Context, id airflow.DagID, have Known[airflow.DagModel], change func(*airflow.DagModel) error) (airflow.DagModel, error) {
	return updateFrom(ctx, s, dagKey(id), have, dagIndex, change)
}

// CreateDag registers a DAG; ErrAlreadyExists if it is known.
func (s *Store) CreateDag(ctx context.Context, m airflow.DagModel) error {
	return s.createDoc(ctx, dagKey(m.DagID), m, dagIndex(m))
}

// UpdateDag changes what is known of a DAG; change may be called several times.
func (s *Store) UpdateDag(ctx context.Context, id airflow.DagID, change func(*airflow.DagModel) error) (airflow.DagModel, error) {
	return update(ctx, s, dagKey(id), dagIndex, change)
}

// ListDags lists all DAGs by id.
func (s *Store) ListDags(ctx context.Context, o ListOptions) ([]airflow.DagModel, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindDAG), o, docReader[airflow.DagModel])
}

// ListDueDags lists, by date, the un-paused DAGs whose next run may be created at
// or before now. It reads due entries only.
func (s *Store) ListDueDags(ctx context.Context, now time.Time, limit int) ([]airflow.DagModel, error) {
	ms, _, err := listIndex(ctx, s, kv.GSI2, dueIndex, ListOptions{To: afterPrefix(sortableTime(now)), Limit: limit}, docReader[airflow.DagModel])
	// An index may be behind its table: keep what is still due.
	due := ms[:0]
	for _, m := range ms {
		if m.NextDagRunCreateAfter != nil && !m.NextDagRunCreateAfter.After(now) && !m.IsPaused && !m.IsStale && !m.HasImportErrors {
			due = append(due, m)
		}
	}
	return due, err
}

// NextDue returns the earliest date any DAG waits for, and whether there is one.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	page, err := s.kv.Query(ctx, kv.Query{Index: kv.GSI2, PK: dueIndex, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return time.Time{}, false, translate(err)
	}
	t, err := parseSortableTime(splitKey(page.Items[0].Index[kv.GSI2].SK)[0])
	return t, err == nil, err
}

// DeleteDag removes a DAG and its versions; its runs are removed by the caller first.
func (s *Store) DeleteDag(ctx context.Context, id airflow.DagID) error {
	versions, err := s.ListDagVersions(ctx, id)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if err := s.kv.Write(ctx, kv.Delete(kv.Key{PK: dagPK(id), SK: versionSK(v.Number)}, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	return s.deleteDoc(ctx, dagKey(id))
}

// PutDagVersion records a version of a DAG, or replaces it.
func (s *Store) PutDagVersion(ctx context.Context, v airflow.DagVersion) error {
	return s.putDoc(ctx, kv.Key{PK: dagPK(v.DagID), SK: versionSK(v.Number)}, v, nil)
}

// GetDagVersion returns a version, or ErrNotFound.
func (s *Store) GetDagVersion(ctx context.Context, id airflow.DagID, n int) (airflow.DagVersion, error) {
	var v airflow.DagVersion
	_, err := s.getDoc(ctx, kv.Key{PK: dagPK(id), SK: versionSK(n)}, &v)
	return v, err
}

// ListDagVersions lists the versions of a DAG, oldest first.
func (s *Store) ListDagVersions(ctx context.Context, id airflow.DagID) ([]airflow.DagVersion, error) {
	return listPartition(ctx, s, dagPK(id), kv.Prefix(skVersion+"#"), docReader[airflow.DagVersion])
}

// docPartBytes keeps an item below DynamoDB's 400 KB.
const docPartBytes = 300 << 10

func docKey(hash string, part int) kv.Key {
	return kv.Key{PK: joinKey(kindDoc, hash), SK: joinKey(skPart, fmt.Sprintf("%06d", part))}
}

// PutDocument stores content under its hash, in parts where it is large. Content
// under a hash never changes, so writing it again is harmless: it only counts
// (DocumentPuts).
func (s *Store) PutDocument(ctx context.Context, hash string, doc []byte) error {
	for {
		err := s.createDocument(ctx, hash, doc)
		if !errors.Is(err, kv.ErrConditionFailed) {
			return translate(err)
		}
		err = s.kv.Write(ctx, kv.Update(docKey(hash, 0), kv.Exists(), kv.Add(attrVersion, 1)))
		if !errors.Is(err, kv.ErrConditionFailed) { // else it was removed in between
			return translate(err)
		}
	}
}

// createDocument writes a document that is not there: ErrConditionFailed if it is.
func (s *Store) createDocument(ctx context.Context, hash string, doc []byte) error {
	parts := max(1, (len(doc)+docPartBytes-1)/docPartBytes)
	if parts > 1 {
		if _, err := s.kv.Get(ctx, docKey(hash, 0), true); err == nil {
			return kv.ErrConditionFailed
		} else if !errors.Is(err, kv.ErrNotFound) {
			return err
		}
	}
	// Part 0 goes last: it tells how many there are, so that a document that is
	// found is complete.
	for i := parts - 1; i >= 0; i-- {
		end := min((i+1)*docPartBytes, len(doc))
		part := doc[i*docPartBytes : end]
		if i > 0 {
			if err := s.kv.Write(ctx, kv.Put(entity(docKey(hash, i), part, nil), kv.Cond{})); err != nil {
				return err
			}
			continue
		}
		it := versioned(docKey(hash, 0), part, 1, listed(kindDoc, hash))
		it.Attrs[attrChunks] = kv.Int(int64(parts))
		return s.kv.Write(ctx, kv.Put(it, kv.NotExists()))
	}
	return nil
}

// GetDocument returns the content under a hash, or ErrNotFound. What a hash names
// never changes, so it is looked for at half the price first.
func (s *Store) GetDocument(ctx context.Context, hash string) ([]byte, error) {
	doc, err := s.document(ctx, hash, false)
	if isNotFound(err) {
		return s.document(ctx, hash, true)
	}
	return doc, err
}

func (s *Store) document(ctx context.Context, hash string, consistent bool) ([]byte, error) {
	it, err := s.kv.Get(ctx, docKey(hash, 0), consistent)
	if err != nil {
		return nil, translate(err)
	}
	if err := checkFormat(it); err != nil {
		return nil, err
	}
	doc := append([]byte(nil), it.Bytes(attrDoc)...)
	for i := 1; i < int(it.Int(attrChunks)); i++ {
		part, err := s.kv.Get(ctx, docKey(hash, i), consistent)
		if err != nil {
			return nil, translate(err)
		}
		doc = append(doc, part.Bytes(attrDoc)...)
	}
	return doc, nil
}

// HasDocument reports whether content is stored under a hash.
func (s *Store) HasDocument(ctx context.Context, hash string) (bool, error) {
	_, err := s.kv.Get(ctx, docKey(hash, 0), true)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, translate(err)
}

// DeleteDocument removes the content under a hash; absent is fine.
func (s *Store) DeleteDocument(ctx context.Context, hash string) error {
	keys, err := listPartition(ctx, s, joinKey(kindDoc, hash), kv.Range{}, func(it kv.Item) (kv.Key, error) { return it.Key, nil })
	if err != nil {
		return err
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].SK < keys[j].SK }) // part 0 first: then it is not found
	for _, k := range keys {
		if err := s.kv.Write(ctx, kv.Delete(k, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	return nil
}

func importErrorKey(filename string) kv.Key {
	return kv.Key{PK: joinKey(kindImportError, filename), SK: skMeta}
}

// PutImportError records why a file could not be loaded.
func (s *Store) PutImportError(ctx context.Context, e airflow.ImportError) error {
	return s.putDoc(ctx, importErrorKey(e.Filename), e, listed(kindImportError, joinKey(e.Filename)))
}

// DeleteImportError forgets the import error of a file; absent is fine.
func (s *Store) DeleteImportError(ctx context.Context, filename string) error {
	return translate(s.kv.Write(ctx, kv.Delete(importErrorKey(filename), kv.Cond{})))
}

// ListImportErrors lists import errors by file name.
func (s *Store) ListImportErrors(ctx context.Context) ([]airflow.ImportError, error) {
	es, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindImportError), ListOptions{}, docReader[airflow.ImportError])
	return es, err
}
