// Package buckettest has a bucket of DAG files in memory, for tests.
package buckettest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
)

// Bucket is a versioned bucket. It is safe for concurrent use.
type Bucket struct {
	mu       sync.Mutex
	name     string
	seq      int
	current  map[string]dagbucket.Object
	contents map[string][]byte // by version id
	lists    int
	gets     []string // keys
	// Fail, if set, is asked before each call ("list" or "get", and the key).
	Fail func(op, key string) error
}

// New returns an empty bucket.
func New(name string) *Bucket {
	return &Bucket{name: name, current: map[string]dagbucket.Object{}, contents: map[string][]byte{}}
}

// Put writes an object and returns S3's notification of it.
func (b *Bucket) Put(key string, lines ...string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	data := []byte(strings.Join(lines, "\n"))
	sum := md5.Sum(data)
	o := dagbucket.Object{Key: key, VersionID: fmt.Sprintf("v%d", b.seq), ETag: hex.EncodeToString(sum[:]), Size: int64(len(data)), LastModified: time.Now()}
	b.current[key] = o
	b.contents[o.VersionID] = data
	return b.event("ObjectCreated:Put", o)
}

// Delete removes an object and returns S3's notification of it.
func (b *Bucket) Delete(key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	delete(b.current, key)
	return b.event("ObjectRemoved:DeleteMarkerCreated", dagbucket.Object{Key: key, VersionID: fmt.Sprintf("v%d", b.seq)})
}

// Purge removes an object with all its versions, as if it expired.
func (b *Bucket) Purge(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.contents, b.current[key].VersionID)
}

func (b *Bucket) event(name string, o dagbucket.Object) string {
	return fmt.Sprintf(`{"Records":[{"eventSource":"aws:s3","eventName":%q,"s3":{"bucket":{"name":%q},"object":{"key":%q,"size":%d,"eTag":%q,"versionId":%q,"sequencer":"%016X"}}}]}`,
		name, b.name, strings.ReplaceAll(o.Key, " ", "+"), o.Size, o.ETag, o.VersionID, b.seq)
}

// Name implements dagbucket.Bucket.
func (b *Bucket) Name() string { return "s3://" + b.name }

// List implements dagbucket.Bucket.
func (b *Bucket) List(_ context.Context, prefix string) ([]dagbucket.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Fail != nil {
		if err := b.Fail("list", prefix); err != nil {
			return nil, err
		}
	}
	b.lists++
	var out []dagbucket.Object
	for k, o := range b.current {
		if strings.HasPrefix(k, prefix) {
			out = append(out, o)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, nil
}

// Get implements dagbucket.Bucket.
func (b *Bucket) Get(_ context.Context, o dagbucket.Object) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Fail != nil {
		if err := b.Fail("get", o.Key); err != nil {
			return nil, err
		}
	}
	b.gets = append(b.gets, o.Key)
	data, ok := b.contents[o.VersionID]
	if !ok {
		return nil, fmt.Errorf("%s: %w", o.Key, dagprocessor.ErrChanging)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Counts returns how often the bucket was listed and which keys were read since the
// last call.
func (b *Bucket) Counts() (lists int, gets []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lists, gets = b.lists, b.gets
	b.lists, b.gets = 0, nil
	sort.Strings(gets)
	return lists, gets
}

// State is a dagprocessor.Cache with the conditions of one in a bucket: what was
// changed since the last Read or Write of this one is not overwritten. Several
// States of one Object are several processes.
type State struct {
	Object *Object
	seen   int
}

// Object is what States share.
type Object struct {
	mu      sync.Mutex
	data    []byte
	version int
}

// Read implements dagprocessor.Cache.
func (s *State) Read(context.Context) ([]byte, error) {
	s.Object.mu.Lock()
	defer s.Object.mu.Unlock()
	s.seen = s.Object.version
	return s.Object.data, nil
}

// Write implements dagprocessor.Cache.
func (s *State) Write(_ context.Context, data []byte) error {
	s.Object.mu.Lock()
	defer s.Object.mu.Unlock()
	if s.seen != s.Object.version {
		return airflow.ErrConflict
	}
	s.Object.version++
	s.Object.data, s.seen = data, s.Object.version
	return nil
}
