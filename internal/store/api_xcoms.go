package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// SetXCom creates or replaces an XCom of an instance's latest try on behalf of a
// person. ErrNotFound: the instance has never been dispatched, so that it has no
// try to hold one. ErrConflict: its worker wrote meanwhile.
func (s *Store) SetXCom(ctx context.Context, k airflow.TaskInstanceKey, key string, value json.RawMessage, now time.Time) error {
	a, err := s.dropInlineXCom(ctx, k, key)
	if err != nil {
		return err
	}
	return s.PutXCom(ctx, k, a.TryNumber, key, value, now)
}

// dropInlineXCom takes a value out of the row of an instance, where it would hide
// one that is stored beside it.
func (s *Store) dropInlineXCom(ctx context.Context, k airflow.TaskInstanceKey, key string) (Attempt, error) {
	for range UpdateAttempts {
		it, err := s.kv.Get(ctx, rowKey(k), true)
		if err != nil {
			return Attempt{}, translate(err)
		}
		a, err := readAttempt(k, it)
		if err != nil {
			return a, err
		}
		if !it.Has(attrDoc) {
			return a, fmt.Errorf("%w: %s has no try yet", airflow.ErrNotFound, k)
		}
		if _, inline := a.XComs[key]; !inline {
			return a, nil
		}
		delete(a.XComs, key)
		err = s.kv.Write(ctx, kv.Update(rowKey(k), kv.Eq(attrDoc, it.Attrs[attrDoc]), kv.Assign(attrDoc, kv.Bytes(marshal(a.AttemptDoc)))))
		if !errors.Is(err, kv.ErrConditionFailed) {
			return a, translate(err)
		}
	}
	return Attempt{}, fmt.Errorf("%w: %s", airflow.ErrConflict, k)
}

// DeleteXCom removes an XCom of an instance's latest try; ErrNotFound if there is none.
func (s *Store) DeleteXCom(ctx context.Context, k airflow.TaskInstanceKey, key string) error {
	if _, err := s.GetXCom(ctx, k, key); err != nil {
		return err
	}
	if _, err := s.dropInlineXCom(ctx, k, key); err != nil {
		return err
	}
	items, err := listPartition(ctx, s, tiPK(k), kv.Prefix(skXCom), func(it kv.Item) (kv.Item, error) { return it, nil })
	if err != nil {
		return err
	}
	var gone []kv.Item
	for _, it := range items {
		p := splitKey(it.SK)
		if len(p) >= 2 && p[1] == key && (p[0] == skXCom || strings.HasPrefix(p[0], skXComPart)) {
			gone = append(gone, it)
		}
	}
	if err := s.deleteLarge(ctx, gone); err != nil {
		return err
	}
	for _, it := range gone {
		if err := s.kv.Write(ctx, kv.Delete(it.Key, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	return nil
}
