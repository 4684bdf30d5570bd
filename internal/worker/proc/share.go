package proc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Shares keep copies of folders for users who cannot read the originals: an
// installation's home is private, but what a task with run_as_user needs of it,
// the files of its bundle and the Python runtime, must be readable for that user.
// It is safe for concurrent use.
type Shares struct {
	installation string

	mu   sync.Mutex
	root string
}

// NewShares returns Shares below the system's folder for temporary files.
func NewShares(installation string) *Shares { return &Shares{installation: installation} }

// For returns dir, or the place of a copy of it that the user can read and not
// change. What is in dir must not change any more.
func (s *Shares) For(u *User, dir string) (string, error) {
	if u == nil || dir == "" || u.CanRead(dir) {
		return dir, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return "", err
	}
	own := filepath.Join(s.root, strconv.Itoa(int(u.UID)))
	if err := os.Mkdir(own, 0o750); err == nil {
		err = errors.Join(os.Chown(own, 0, int(u.GID)), os.Chmod(own, 0o750)) //nolint:gosec // the group is the user's
		if err != nil {
			return "", err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return "", err
	}
	sum := sha256.Sum256([]byte(dir))
	final := filepath.Join(own, hex.EncodeToString(sum[:8]), filepath.Base(dir))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	built, err := os.MkdirTemp(s.root, "copy-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(built)
	if err := copyTree(dir, filepath.Join(built, filepath.Base(dir))); err != nil {
		return "", fmt.Errorf("copy %s for user %s: %w", dir, u.Name, err)
	}
	if err := os.Chmod(built, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(built, filepath.Dir(final)); err != nil {
		return "", err
	}
	if !u.CanRead(final) {
		return "", fmt.Errorf("user %s can neither read %s nor a copy of it in %s: set TMPDIR to a folder that all users can enter", u.Name, dir, s.root)
	}
	return final, nil
}

// open makes the folder of this process and removes those of processes that ended.
func (s *Shares) open() error {
	if s.root != "" {
		return nil
	}
	all := filepath.Join(os.TempDir(), s.installation+"-shared")
	if err := os.Mkdir(all, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	st, err := os.Lstat(all)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || !st.IsDir() || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s must be a folder that only root can write: remove it", all)
	}
	if err := os.Chmod(all, 0o711); err != nil { // whatever the umask
		return err
	}
	old, err := os.ReadDir(all)
	if err != nil {
		return err
	}
	for _, e := range old {
		if pid, err := strconv.Atoi(e.Name()); err == nil && (pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)) {
			os.RemoveAll(filepath.Join(all, e.Name())) // a leftover is no reason to fail
		}
	}
	root := filepath.Join(all, strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(root, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(root, 0o711); err != nil {
		return err
	}
	s.root = root
	return nil
}

// Close removes the copies.
func (s *Shares) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root != "" {
		os.RemoveAll(s.root)            // a leftover is removed by the next process
		os.Remove(filepath.Dir(s.root)) // unless others use it
		s.root = ""
	}
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			if err := os.Mkdir(dst, 0o755); err != nil {
				return err
			}
			return os.Chmod(dst, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(target, dst)
		case !e.Type().IsRegular():
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if st.Mode().Perm()&0o111 != 0 {
			mode = 0o755
		}
		return copyFile(p, dst, mode)
	})
}

func copyFile(from, to string, mode fs.FileMode) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err = io.Copy(w, r); err != nil {
		return err
	}
	return w.Chmod(mode)
}
