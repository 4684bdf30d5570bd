package store

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// between bounds a list by time to from <= time <= to; nil is open.
func (o ListOptions) between(from, to *time.Time) ListOptions {
	if from != nil {
		o.From = sortableTime(*from)
	}
	if to != nil {
		o.To = afterPrefix(sortableTime(*to))
	}
	return o
}

// ListAuditBetween lists the entries of the audit log with from <= when <= to, by
// time; nil is open.
func (s *Store) ListAuditBetween(ctx context.Context, from, to *time.Time, o ListOptions) ([]AuditEvent, string, error) {
	return s.ListAudit(ctx, o.between(from, to))
}

// ListAssetEventsBetween lists events with from <= timestamp <= to by time; nil is
// open. They are those of one asset, or with a zero key of all.
func (s *Store) ListAssetEventsBetween(ctx context.Context, k AssetKey, from, to *time.Time, o ListOptions) ([]airflow.AssetEvent, string, error) {
	o = o.between(from, to)
	if k == (AssetKey{}) {
		return s.ListAllAssetEvents(ctx, o)
	}
	q := kv.Query{PK: assetEventPK(k), SK: kv.Between(o.From, o.To), Limit: o.Limit, Cursor: o.Cursor, Descending: o.Descending, Consistent: true}
	page, err := s.kv.Query(ctx, q)
	if err != nil {
		return nil, "", translate(err)
	}
	var out []airflow.AssetEvent
	for _, it := range page.Items {
		e, err := docReader[airflow.AssetEvent](it)
		if err != nil {
			return nil, "", err
		}
		out = append(out, e)
	}
	return out, page.Cursor, nil
}
