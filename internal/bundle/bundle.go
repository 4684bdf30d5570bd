// Package bundle makes immutable snapshots of the files that DAGs depend on.
//
// A run pins the snapshot of its creation, so that an edited script, SQL or
// helper file never changes a run under way. A snapshot is a manifest (path →
// content hash, executable or not) whose own hash is the bundle hash; manifest
// and files are blobs, so that DAGs that share files share their storage and
// an unchanged folder costs nothing.
//
//	Snapshot     folder → blobs, bundle hash
//	Materialize  bundle hash → read-only folder for workers, made once
//	Collect      removes what no live bundle hash refers to
package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// Options configure a Store. The zero value is a good default.
type Options struct {
	// MaxFileBytes is the largest file of a snapshot; default 256 MiB.
	MaxFileBytes int64
	// MaxFiles is the most files of a snapshot; default 20,000.
	MaxFiles int
	// Now is the clock for ages of folders; default time.Now.
	Now func() time.Time
}

// Store makes and materialises snapshots. It is safe for concurrent use, also
// by several processes on the same storage and folder.
type Store struct {
	blobs blob.Store
	dir   string
	opts  Options

	mu     sync.Mutex
	ready  map[string]bool          // materialised and verified by this process
	making map[string]chan struct{} // closed when the one who makes it is done
}

// New returns a store that keeps snapshots in blobs and materialises them below dir.
func New(blobs blob.Store, dir string, o Options) (*Store, error) {
	if o.MaxFileBytes == 0 {
		o.MaxFileBytes = 256 << 20
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = 20000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bundle: cannot create the folder for materialised bundles: %w", err)
	}
	return &Store{blobs: blobs, dir: dir, opts: o, ready: map[string]bool{}, making: map[string]chan struct{}{}}, nil
}

// SnapshotOptions say what a snapshot holds beside files.
type SnapshotOptions struct {
	Environment string // see Manifest
}

// Files is what a snapshot is taken of; names are relative, with slashes.
type Files interface {
	// Stat describes a file, following symbolic links; missing is fs.ErrNotExist.
	Stat(name string) (fs.FileInfo, error)
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Modeless is a FileInfo of storage without file modes: a file is executable if
// its content begins with "#!".
type Modeless interface{ Modeless() bool }

type folder string

func (f folder) Stat(name string) (fs.FileInfo, error) {
	return os.Stat(filepath.Join(string(f), filepath.FromSlash(name)))
}

func (f folder) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(f), filepath.FromSlash(name)))
}

// Snapshot is SnapshotOf a folder of this machine.
func (s *Store) Snapshot(ctx context.Context, root string, paths []string, o SnapshotOptions) (string, Manifest, error) {
	return s.SnapshotOf(ctx, folder(root), paths, o)
}

// SnapshotOf stores the files at the given paths and returns the bundle hash and
// the manifest. Symbolic links are followed: their targets' content is taken. It
// is durable when it returns, and its blobs count as new for Collect. All unusable
// files are reported at once in an airflow.InvalidError.
func (s *Store) SnapshotOf(ctx context.Context, src Files, paths []string, o SnapshotOptions) (string, Manifest, error) {
	m := Manifest{Format: ManifestFormat, Environment: o.Environment, Files: []File{}}
	sorted := append([]string(nil), paths...)
	sort.Strings(sorted)
	var problems []airflow.Problem
	for i, p := range sorted {
		if i > 0 && sorted[i-1] == p {
			continue
		}
		f, err := s.store(ctx, src, p)
		if ctx.Err() != nil {
			return "", m, ctx.Err()
		}
		var invalid *airflow.InvalidError
		if errors.As(err, &invalid) {
			problems = append(problems, invalid.Problems...)
			continue
		}
		if err != nil {
			return "", m, err
		}
		m.Files = append(m.Files, f)
	}
	if len(m.Files) > s.opts.MaxFiles {
		problems = append(problems, airflow.Problem{Message: fmt.Sprintf("the DAG depends on %d files: at most %d are allowed", len(m.Files), s.opts.MaxFiles)})
	}
	if len(problems) > 0 {
		return "", m, &airflow.InvalidError{Problems: problems}
	}
	doc := m.Encode()
	hash := blob.Hash(doc)
	if err := s.blobs.Put(ctx, hash, bytes.NewReader(doc)); err != nil {
		return "", m, fmt.Errorf("bundle: store the manifest: %w", err)
	}
	return hash, m, nil
}

func invalidFile(path, format string, args ...any) error {
	return &airflow.InvalidError{Problems: []airflow.Problem{{File: path, Message: fmt.Sprintf(format, args...)}}}
}

// store puts one file into the blob store.
func (s *Store) store(ctx context.Context, src Files, p string) (File, error) {
	if err := CheckPath(p); err != nil {
		return File{}, invalidFile(p, "%v", err)
	}
	fi, err := src.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return File{}, invalidFile(p, "the file does not exist: a DAG refers to it")
	case err != nil:
		return File{}, invalidFile(p, "cannot be read: %v", err)
	case !fi.Mode().IsRegular():
		return File{}, invalidFile(p, "is not a regular file: expected a file, found %s", fi.Mode().Type())
	case fi.Size() > s.opts.MaxFileBytes:
		return File{}, invalidFile(p, "has %d bytes: at most %d are allowed in a bundle", fi.Size(), s.opts.MaxFileBytes)
	}
	f, err := src.Open(ctx, p)
	if err != nil {
		return File{}, unreadable(p, err)
	}
	defer f.Close()
	// Read whole: hash and stored content are then of the same moment, also while
	// somebody writes the file.
	data, err := io.ReadAll(io.LimitReader(f, s.opts.MaxFileBytes+1))
	if err != nil {
		return File{}, unreadable(p, err)
	}
	hash := blob.Hash(data)
	if err := s.blobs.Put(ctx, hash, bytes.NewReader(data)); err != nil {
		return File{}, fmt.Errorf("bundle: store %s: %w", p, err)
	}
	mode := Mode(fi.Mode())
	if m, ok := fi.(Modeless); ok && m.Modeless() {
		if mode = modeFile; bytes.HasPrefix(data, []byte("#!")) {
			mode = modeExec
		}
	}
	return File{Path: p, SHA256: hash, Size: int64(len(data)), Mode: mode}, nil
}

// unreadable is the file's fault, unless storage elsewhere says that asking again
// may help.
func unreadable(p string, err error) error {
	if errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrThrottled) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("bundle: %s: %w", p, err)
	}
	return invalidFile(p, "cannot be read: %v", err)
}

// Has reports whether the manifest of a snapshot is stored.
func (s *Store) Has(ctx context.Context, hash string) (bool, error) { return s.blobs.Has(ctx, hash) }

// Manifest returns the manifest of a snapshot; unknown is airflow.ErrNotFound.
func (s *Store) Manifest(ctx context.Context, hash string) (Manifest, error) {
	r, err := s.blobs.Get(ctx, hash)
	if err != nil {
		return Manifest{}, fmt.Errorf("bundle %s: %w", hash, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(blob.Verify(hash, r), MaxManifestBytes))
	if err != nil {
		return Manifest{}, fmt.Errorf("bundle %s: %w", hash, err)
	}
	return DecodeManifest(data)
}
