// Package fileblob keeps blobs as files of a folder:
//
//	ab/abcdef…   one blob, named by its hash, below its first two digits
//	tmp/         being written; left over only by a crash
//	lock         held shared by Put, exclusively by Delete
//
// Folders have mode 0700 and files 0600. A blob is written to tmp, synced,
// renamed into place and its folder synced, so that a crash leaves all of it or
// nothing. Its modification time is the time of its last Put.
package fileblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/blob"
)

const (
	tmpDir   = "tmp"
	lockFile = "lock"
	// tmpAge is the age at which a file in tmp belongs to no living Put.
	tmpAge = 24 * time.Hour
)

// Store is a blob.Store in a folder. Several processes may share the folder.
type Store struct {
	dir string
	now func() time.Time

	mu     sync.Mutex
	shards map[string]bool // shard folders known to exist
}

var _ blob.Store = (*Store)(nil)

// Options configure a store. The zero value is a good default.
type Options struct {
	// Now is the clock for the time of a Put; default time.Now.
	Now func() time.Time
}

// Open returns the store in dir, creating the folder where needed and removing
// what a crash left in tmp.
func Open(dir string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("fileblob: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, tmpDir), 0o700); err != nil {
		return nil, fmt.Errorf("fileblob: cannot create the folder: %w", err)
	}
	s := &Store{dir: dir, now: o.Now, shards: map[string]bool{}}
	return s, s.sweepTmp()
}

func (s *Store) sweepTmp() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, tmpDir))
	if err != nil {
		return fmt.Errorf("fileblob: %w", err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && s.now().Sub(fi.ModTime()) > tmpAge {
			os.Remove(filepath.Join(s.dir, tmpDir, e.Name())) // best effort: it only takes space
		}
	}
	return nil
}

func (s *Store) path(hash string) string { return filepath.Join(s.dir, hash[:2], hash) }

// shard makes the folder of a blob durable before the first file in it.
func (s *Store) shard(hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := hash[:2]
	if s.shards[name] {
		return nil
	}
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.shards[name] = true
	return nil
}

// Put stores a blob; see blob.Store.
func (s *Store) Put(ctx context.Context, hash string, r io.Reader) error {
	if err := blob.CheckHash(hash); err != nil {
		return err
	}
	unlock, err := s.lock(false)
	if err != nil {
		return err
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	now := s.now()
	if err := os.Chtimes(s.path(hash), now, now); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("fileblob: %w", err)
	}
	if err := s.put(ctx, hash, r, now); err != nil {
		return fmt.Errorf("fileblob: put %s: %w", hash, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, hash string, r io.Reader, now time.Time) (err error) {
	if err := s.shard(hash); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), hash[:8]+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, blob.Verify(hash, contextReader{ctx, r})); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chtimes(f.Name(), now, now); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path(hash)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path(hash)))
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Get opens a blob; see blob.Store.
func (s *Store) Get(ctx context.Context, hash string) (io.ReadCloser, error) {
	if err := blob.CheckHash(hash); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, blob.NotFound(hash)
	}
	if err != nil {
		return nil, fmt.Errorf("fileblob: %w", err)
	}
	return f, nil
}

// Has reports whether a blob is stored.
func (s *Store) Has(ctx context.Context, hash string) (bool, error) {
	if err := blob.CheckHash(hash); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	_, err := os.Stat(s.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fileblob: %w", err)
	}
	return true, nil
}

// Delete removes a blob; see blob.Store. Readers that have it open keep it.
func (s *Store) Delete(ctx context.Context, hash string, before time.Time) (bool, error) {
	if err := blob.CheckHash(hash); err != nil {
		return false, err
	}
	unlock, err := s.lock(true)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	fi, err := os.Stat(s.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fileblob: %w", err)
	}
	if !before.IsZero() && !fi.ModTime().Before(before) {
		return false, nil
	}
	if err := os.Remove(s.path(hash)); err != nil {
		return false, fmt.Errorf("fileblob: %w", err)
	}
	return true, nil
}

// List calls f for every blob, shard by shard; see blob.Store.
func (s *Store) List(ctx context.Context, f func(blob.Info) error) error {
	shards, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("fileblob: %w", err)
	}
	for _, shard := range shards {
		if !shard.IsDir() || len(shard.Name()) != 2 {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(s.dir, shard.Name()))
		if err != nil {
			return fmt.Errorf("fileblob: %w", err)
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			// Files that are not ours stay untouched.
			if blob.CheckHash(e.Name()) != nil || !strings.HasPrefix(e.Name(), shard.Name()) {
				continue
			}
			fi, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("fileblob: %w", err)
			}
			if err := f(blob.Info{Hash: e.Name(), Size: fi.Size(), Put: fi.ModTime()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
