package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Scratch is the part of the file system that tasks may write: a folder for each
// dispatch, and caches that live as long as their DAG is alone here.
//
//	tmp/      TMPDIR of tasks      } emptied after every dispatch
//	home/     HOME of tasks        }
//	cache/    virtual environments and the like  } emptied before another DAG
//	bundles/  the files of runs                  }
type Scratch struct {
	root string
	// whole says that everything beside the folder belongs to the sandbox too.
	whole string
}

// NewScratch returns the scratch space below root, and makes its folders. If
// whole is not "", everything in that folder is removed with the leftovers of a
// dispatch as well: for sandboxes whose /tmp is theirs alone. root must then be
// a folder in it.
func NewScratch(root, whole string) (*Scratch, error) {
	s := &Scratch{root: root, whole: whole}
	return s, s.make()
}

// Tmp, Home, Cache and Bundles are the folders.
func (s *Scratch) Tmp() string { return filepath.Join(s.root, "tmp") }

// Home is HOME of tasks.
func (s *Scratch) Home() string { return filepath.Join(s.root, "home") }

// Cache is kept while dispatches are of one DAG.
func (s *Scratch) Cache() string { return filepath.Join(s.root, "cache") }

// Bundles is where snapshots are materialised.
func (s *Scratch) Bundles() string { return filepath.Join(s.root, "bundles") }

func (s *Scratch) make() error {
	for _, d := range []string{s.root, s.Tmp(), s.Home(), s.Cache(), s.Bundles()} {
		// A task may have put something else in the way, or taken permissions.
		fi, err := os.Lstat(d)
		if err == nil && !fi.IsDir() {
			err = os.Remove(d)
		} else if err == nil && fi.Mode().Perm() != 0o700 {
			err = os.Chmod(d, 0o700)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(d, 0o700)
		}
		if err != nil {
			return fmt.Errorf("scratch folder %s: %w", d, err)
		}
	}
	return nil
}

// Clean removes what a dispatch left, with all also the caches. Call it when no
// process of a task lives. The error names what could not be removed: the
// sandbox must then not be used again.
func (s *Scratch) Clean(all bool) error {
	var errs []error
	for _, d := range []string{s.Tmp(), s.Home()} {
		errs = append(errs, empty(d, nil))
	}
	if all {
		errs = append(errs, empty(s.Cache(), nil), empty(s.Bundles(), nil))
	}
	known := map[string]bool{s.Tmp(): true, s.Home(): true, s.Cache(): true, s.Bundles(): true}
	errs = append(errs, empty(s.root, known))
	if s.whole != "" {
		errs = append(errs, empty(s.whole, map[string]bool{s.root: true}))
	}
	return errors.Join(append(errs, s.make())...)
}

// Forget removes what is in the cache under names that begin with prefix.
func (s *Scratch) Forget(prefix string) error {
	entries, err := os.ReadDir(s.Cache())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			errs = append(errs, removeAll(filepath.Join(s.Cache(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// empty removes all of a folder except the paths kept. Links are not followed.
func empty(dir string, keep map[string]bool) error {
	if fi, err := os.Lstat(dir); err == nil && !fi.IsDir() {
		return os.Remove(dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		if err = os.Chmod(dir, 0o700); err == nil {
			entries, err = os.ReadDir(dir)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if p := filepath.Join(dir, e.Name()); !keep[p] {
			errs = append(errs, removeAll(p))
		}
	}
	return errors.Join(errs...)
}

// removeAll removes a tree, also one with folders that may not be written.
func removeAll(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) // what fails here shows below
		}
		if err != nil && d != nil && d.IsDir() {
			// Unreadable until a moment ago: walk it now.
			if entries, rerr := os.ReadDir(p); rerr == nil {
				for _, e := range entries {
					_ = removeAll(filepath.Join(p, e.Name()))
				}
			}
			return filepath.SkipDir
		}
		return nil
	})
	return os.RemoveAll(path)
}
