package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// CollectOptions say what Collect may remove.
type CollectOptions struct {
	// Live are the bundle hashes in use: of the latest version of every DAG and of
	// every unfinished run, and of finished ones that may be cleared. They must
	// have been read after CollectOptions.Now minus Grace.
	Live map[string]bool
	// LiveBlobs are hashes of further blobs in the same store that must stay.
	LiveBlobs map[string]bool
	// Grace protects what was put more recently: a snapshot may be stored before
	// the version that refers to it. Default 1 h.
	Grace time.Duration
	// DryRun reports and removes nothing.
	DryRun bool
}

// Collected is what Collect removed, or would remove.
type Collected struct {
	Bundles []string `json:"bundles"` // hashes of materialised folders, sorted
	Blobs   int      `json:"blobs"`
	Bytes   int64    `json:"bytes"` // of blobs
	// Missing are live bundles whose manifest is absent or damaged, sorted; their
	// runs cannot start tasks. Nothing of the blob store is removed then, because
	// it is not known what they refer to.
	Missing []string `json:"missing,omitempty"`
	DryRun  bool     `json:"dry_run"`
}

// Collect removes blobs and materialised folders that no live bundle refers to.
// A snapshot that is made or materialised meanwhile is safe: its blobs are
// younger than the grace period. Repeating it after a crash completes it.
func (s *Store) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	if o.Grace == 0 {
		o.Grace = time.Hour
	}
	out := Collected{Bundles: []string{}, DryRun: o.DryRun}
	limit := s.opts.Now().Add(-o.Grace)
	marked := map[string]bool{}
	for h := range o.LiveBlobs {
		marked[h] = true
	}
	for h := range o.Live {
		if h == "" {
			continue // a run or DAG without a bundle
		}
		m, err := s.Manifest(ctx, h)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrThrottled) {
			return out, err
		}
		if err != nil {
			out.Missing = append(out.Missing, h)
			continue
		}
		marked[h] = true
		for _, f := range m.Files {
			marked[f.SHA256] = true
		}
	}
	sort.Strings(out.Missing)
	if err := s.collectFolders(ctx, o, limit, &out); err != nil {
		return out, err
	}
	if len(out.Missing) > 0 {
		return out, nil
	}
	err := s.blobs.List(ctx, func(b blob.Info) error {
		if marked[b.Hash] || !b.Put.Before(limit) {
			return nil
		}
		if !o.DryRun {
			done, err := s.blobs.Delete(ctx, b.Hash, limit)
			if err != nil || !done {
				return err
			}
		}
		out.Blobs++
		out.Bytes += b.Size
		return nil
	})
	return out, err
}

// collectFolders removes materialised folders of bundles that are not live and
// what crashes left behind.
func (s *Store) collectFolders(ctx context.Context, o CollectOptions, limit time.Time, out *Collected) error {
	top, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	for _, shard := range top {
		name := filepath.Join(s.dir, shard.Name())
		if isTmp(shard.Name()) {
			if old(name, limit) && !o.DryRun {
				if err := removeAll(name); err != nil {
					return fmt.Errorf("bundle: %w", err)
				}
			}
			continue
		}
		if !shard.IsDir() || len(shard.Name()) != 2 {
			continue
		}
		folders, err := os.ReadDir(name)
		if err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		for _, f := range folders {
			hash := f.Name()
			if err := ctx.Err(); err != nil {
				return err
			}
			if blob.CheckHash(hash) != nil || o.Live[hash] || !old(filepath.Join(name, hash), limit) {
				continue
			}
			if !o.DryRun {
				if err := s.removeFolder(hash); err != nil {
					return fmt.Errorf("bundle %s: %w", hash, err)
				}
			}
			out.Bundles = append(out.Bundles, hash)
		}
	}
	return nil
}

func old(name string, limit time.Time) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.ModTime().Before(limit)
}

// removeFolder moves a folder away first, so that nobody finds half of it.
func (s *Store) removeFolder(hash string) error {
	s.forget(hash)
	tmp, err := os.MkdirTemp(s.dir, tmpPrefix)
	if err != nil {
		return err
	}
	if err := os.Rename(writable(s.folder(hash)), filepath.Join(tmp, "removed")); err != nil {
		os.Remove(tmp)
		return err
	}
	return removeAll(tmp)
}
