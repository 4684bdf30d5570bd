package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// named bounds a list of named things to those whose names begin with prefix.
func (o ListOptions) named(prefix string) ListOptions {
	if prefix != "" {
		o.From = joinKey(prefix)
		o.To = afterPrefix(o.From)
	}
	return o
}

func pageSealed[T any](ctx context.Context, s *Store, kind, prefix string, o ListOptions) ([]T, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kind), o.named(prefix), func(it kv.Item) (T, error) {
		var v T
		return v, s.open(it, &v)
	})
}

// createSealed stores a secret document unless there is one: ErrAlreadyExists.
func createSealed[T any](ctx context.Context, s *Store, kind, name string, v T) error {
	key := namedKey(kind, name)
	sealed, err := s.seal(key, v)
	if err != nil {
		return err
	}
	err = s.kv.Write(ctx, kv.Put(entity(key, sealed, listed(kind, joinKey(name))), kv.NotExists()))
	if errors.Is(err, kv.ErrConditionFailed) {
		return fmt.Errorf("%w: %q", airflow.ErrAlreadyExists, name)
	}
	if err != nil {
		return translate(err)
	}
	if k, ok := s.sealer.(keyAge); ok && !k.Current(sealed) { // a rotation has passed by
		return s.reseal(ctx, key)
	}
	return nil
}

// updateSealed changes a secret document if nobody else does meanwhile, starting
// over on conflict.
func updateSealed[T any](ctx context.Context, s *Store, kind, name string, change func(*T) error) (T, error) {
	key := namedKey(kind, name)
	var v T
	for range UpdateAttempts {
		v = *new(T)
		it, err := s.kv.Get(ctx, key, true)
		if err != nil {
			return v, translate(err)
		}
		if err := s.open(it, &v); err != nil {
			return v, err
		}
		if err := change(&v); err != nil {
			return v, err
		}
		old := it.Attrs[attrDoc]
		sealed, err := s.seal(key, v)
		if err != nil {
			return v, err
		}
		err = s.kv.Write(ctx, kv.Put(entity(key, sealed, listed(kind, joinKey(name))), kv.Eq(attrDoc, old)))
		if errors.Is(err, kv.ErrConditionFailed) {
			continue
		}
		if err != nil {
			return v, translate(err)
		}
		if k, ok := s.sealer.(keyAge); ok && !k.Current(sealed) {
			return v, s.reseal(ctx, key)
		}
		return v, nil
	}
	return v, fmt.Errorf("%w: %q is written all the time", airflow.ErrConflict, name)
}

// ListVariablesPage lists variables by key, those with a prefix.
func (s *Store) ListVariablesPage(ctx context.Context, prefix string, o ListOptions) ([]airflow.Variable, string, error) {
	return pageSealed[airflow.Variable](ctx, s, kindVariable, prefix, o)
}

// CreateVariable stores a new variable; ErrAlreadyExists if there is one.
func (s *Store) CreateVariable(ctx context.Context, v airflow.Variable) error {
	return createSealed(ctx, s, kindVariable, v.Key, v)
}

// UpdateVariable changes a variable; ErrNotFound if there is none.
func (s *Store) UpdateVariable(ctx context.Context, key string, change func(*airflow.Variable) error) (airflow.Variable, error) {
	return updateSealed(ctx, s, kindVariable, key, change)
}

// ListConnectionsPage lists connections by id, those with a prefix.
func (s *Store) ListConnectionsPage(ctx context.Context, prefix string, o ListOptions) ([]airflow.Connection, string, error) {
	return pageSealed[airflow.Connection](ctx, s, kindConnection, prefix, o)
}

// CreateConnection stores a new connection; ErrAlreadyExists if there is one.
func (s *Store) CreateConnection(ctx context.Context, c airflow.Connection) error {
	return createSealed(ctx, s, kindConnection, c.ConnID, c)
}

// UpdateConnection changes a connection; ErrNotFound if there is none.
func (s *Store) UpdateConnection(ctx context.Context, id string, change func(*airflow.Connection) error) (airflow.Connection, error) {
	return updateSealed(ctx, s, kindConnection, id, change)
}

// ListPoolsPage lists pools by name, those with a prefix.
func (s *Store) ListPoolsPage(ctx context.Context, prefix string, o ListOptions) ([]airflow.Pool, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindPool), o.named(prefix), docReader[airflow.Pool])
}

// CreatePool stores a new pool; ErrAlreadyExists if there is one.
func (s *Store) CreatePool(ctx context.Context, p airflow.Pool) error {
	err := s.kv.Write(ctx, kv.Put(entity(namedKey(kindPool, p.Name), marshal(p), listed(kindPool, joinKey(p.Name))), kv.NotExists()))
	if errors.Is(err, kv.ErrConditionFailed) {
		return fmt.Errorf("%w: pool %q", airflow.ErrAlreadyExists, p.Name)
	}
	return translate(err)
}

// ListImportErrorsPage lists import errors by file name, those with a prefix.
func (s *Store) ListImportErrorsPage(ctx context.Context, prefix string, o ListOptions) ([]airflow.ImportError, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindImportError), o.named(prefix), docReader[airflow.ImportError])
}

// ListBackfillsPage lists backfills by id.
func (s *Store) ListBackfillsPage(ctx context.Context, o ListOptions) ([]airflow.Backfill, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindBackfill), o, docReader[airflow.Backfill])
}
