package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gustflow/gust/internal/blob"
)

// Folders of the materialised bundles, below Store.dir:
//
//	ab/abcdef…/   a bundle, read-only
//	tmp-*         being made or removed; left over only by a crash
const tmpPrefix = "tmp-"

func (s *Store) folder(hash string) string { return filepath.Join(s.dir, hash[:2], hash) }

// Materialize returns a folder with the files of a snapshot, making it where
// needed: once, whoever asks at the same time, and all of it or nothing. Files
// and folders in it are read-only; they are copies, so that a task that forces
// a write damages no other bundle. The first use of an existing folder in a
// process verifies its content and mends it: nothing in it was synced when it
// was made, because it can be made again.
func (s *Store) Materialize(ctx context.Context, hash string) (string, error) {
	if err := blob.CheckHash(hash); err != nil {
		return "", err
	}
	for {
		s.mu.Lock()
		if s.ready[hash] {
			s.mu.Unlock()
			if fi, err := os.Stat(s.folder(hash)); err == nil && fi.IsDir() {
				return s.folder(hash), nil
			}
			s.forget(hash) // somebody removed it
			continue
		}
		busy, ok := s.making[hash]
		if !ok {
			done := make(chan struct{})
			s.making[hash] = done
			s.mu.Unlock()
			err := s.materialize(ctx, hash)
			s.mu.Lock()
			delete(s.making, hash)
			s.ready[hash] = err == nil
			s.mu.Unlock()
			close(done)
			if err != nil {
				return "", fmt.Errorf("bundle %s: %w", hash, err)
			}
			return s.folder(hash), nil
		}
		s.mu.Unlock()
		select {
		case <-busy: // and look again: the other one may have failed or been cancelled
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (s *Store) forget(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ready, hash)
}

func (s *Store) materialize(ctx context.Context, hash string) error {
	m, err := s.Manifest(ctx, hash)
	if err != nil {
		return err
	}
	if s.intact(hash, m) {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil { // somebody may have emptied the cache
		return err
	}
	tmp, err := os.MkdirTemp(s.dir, tmpPrefix)
	if err != nil {
		return err
	}
	defer removeAll(tmp)
	built := filepath.Join(tmp, "bundle")
	if err := os.Mkdir(built, 0o700); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := s.write(ctx, filepath.Join(built, filepath.FromSlash(f.Path)), f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := readOnlyFolders(built); err != nil {
		return err
	}
	final := s.folder(hash)
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return err
	}
	// Another process may have made the same one meanwhile, or what is there is
	// damaged: an intact one stays, a damaged one makes way.
	for range 3 {
		err = os.Rename(built, final)
		if err == nil {
			return os.Chmod(final, 0o555)
		}
		if s.intact(hash, m) {
			return nil
		}
		if moved := os.Rename(writable(final), filepath.Join(tmp, "damaged")); moved != nil && !errors.Is(moved, fs.ErrNotExist) {
			return errors.Join(err, moved)
		}
	}
	return err
}

// writable makes a folder movable: renaming a folder writes its entry "..".
func writable(dir string) string {
	os.Chmod(dir, 0o700) // an error shows in the rename that follows
	return dir
}

func (s *Store) write(ctx context.Context, name string, f File) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	r, err := s.blobs.Get(ctx, f.SHA256)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, blob.Verify(f.SHA256, r)); err != nil {
		w.Close()
		return err
	}
	if err := w.Chmod(readOnlyMode(f)); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}

func readOnlyMode(f File) fs.FileMode {
	if f.Mode == modeExec {
		return 0o555
	}
	return 0o444
}

// readOnlyFolders takes the write permission from every folder below dir; dir
// itself keeps it until it is in its place.
func readOnlyFolders(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || p == dir {
			return err
		}
		return os.Chmod(p, 0o555)
	})
}

// intact reports whether the folder of a bundle holds exactly its files.
func (s *Store) intact(hash string, m Manifest) bool {
	root := s.folder(hash)
	want := make(map[string]File, len(m.Files))
	for _, f := range m.Files {
		want[f.Path] = f
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		f, ok := want[filepath.ToSlash(rel)]
		if !ok || !d.Type().IsRegular() {
			return errDamaged
		}
		delete(want, f.Path)
		return verifyFile(p, f)
	})
	return err == nil && len(want) == 0
}

var errDamaged = errors.New("materialised bundle is damaged")

func verifyFile(name string, f File) error {
	r, err := os.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	fi, err := r.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != f.Size || fi.Mode().Perm() != readOnlyMode(f) {
		return errDamaged
	}
	_, err = io.Copy(io.Discard, blob.Verify(f.SHA256, r))
	return err
}

// removeAll removes a tree with read-only folders.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700) // what fails here shows below
		}
		if err != nil && d != nil && d.IsDir() {
			return filepath.SkipDir
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func isTmp(name string) bool { return strings.HasPrefix(name, tmpPrefix) }
