// Package memblob keeps objects in memory: for tests and simulations.
package memblob

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// Objects is a blob.Objects in memory. The zero value is empty and ready.
type Objects struct {
	// Now is the clock for ObjectInfo.Put; nil = time.Now.
	Now func() time.Time

	mu   sync.Mutex
	objs map[string]object
}

type object struct {
	content []byte
	put     time.Time
}

var _ blob.Objects = (*Objects)(nil)

// Put implements blob.Objects.
func (o *Objects) Put(ctx context.Context, key string, content []byte) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.objs == nil {
		o.objs = map[string]object{}
	}
	o.objs[key] = object{bytes.Clone(content), now()}
	return nil
}

// Get implements blob.Objects.
func (o *Objects) Get(ctx context.Context, key string) ([]byte, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	have, ok := o.objs[key]
	if !ok {
		return nil, fmt.Errorf("object %s: %w", key, airflow.ErrNotFound)
	}
	return append([]byte{}, have.content...), nil
}

// Delete implements blob.Objects.
func (o *Objects) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := blob.CheckKey(k); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range keys {
		delete(o.objs, k)
	}
	return nil
}

// List implements blob.Objects.
func (o *Objects) List(ctx context.Context, prefix string, f func(blob.ObjectInfo) error) error {
	o.mu.Lock()
	objs := maps.Clone(o.objs)
	o.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(objs)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.HasPrefix(k, prefix) {
			if err := f(blob.ObjectInfo{Key: k, Size: int64(len(objs[k].content)), Put: objs[k].put}); err != nil {
				return err
			}
		}
	}
	return nil
}
