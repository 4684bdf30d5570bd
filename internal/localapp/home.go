package localapp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gustflow/gust/internal/secrets"
)

// Home is the folder that holds all state of an installation.
//
//	gust.db        the store            gust.lock   held by the running server
//	secrets.key    keys (0600)          gust.sock   its control socket (0600)
//	logs/          task logs            bundles/    materialised snapshots
//	blobs/         bundle files         cache/      parse cache, Python runtime
type Home string

// OpenHome returns the home, creating the folder where it is missing.
func OpenHome(dir string) (Home, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("home %s: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			return "", fmt.Errorf("home %s cannot be created: %w; choose a writable folder with --home or GUST_HOME", abs, err)
		}
		return "", fmt.Errorf("home %s: %w", abs, err)
	}
	probe, err := os.CreateTemp(abs, ".write-*")
	if err != nil {
		return "", fmt.Errorf("home %s cannot be written: %w; make it writable for this user or choose another with --home", abs, err)
	}
	probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return "", fmt.Errorf("home %s: %w", abs, err)
	}
	return Home(abs), nil
}

func (h Home) path(name ...string) string {
	return filepath.Join(append([]string{string(h)}, name...)...)
}

// Database is the path of the store.
func (h Home) Database() string { return h.path("gust.db") }

// Logs is the default folder of task logs.
func (h Home) Logs() string { return h.path("logs") }

// keys opens the key file, and makes one for a new home. A store without its key
// file is refused: a new key could not read what the lost one encrypted, and
// both would be in use once the old one is found again.
func (h Home) keys() (*secrets.Keys, error) {
	// The key is made before the store, so the store is looked for first.
	_, err := os.Stat(h.Database())
	path := h.path(secrets.FileName)
	if err == nil {
		k, err := secrets.Open(path)
		if errors.Is(err, secrets.ErrNoKey) {
			return nil, fmt.Errorf("the key file %s is missing, but the store %s exists: its connections and variables cannot be read. "+
				"Restore the key file from a backup, or move the store away to begin with an empty one", path, h.Database())
		}
		return k, err
	}
	return secrets.OpenOrCreate(path)
}

// Socket is the path of the control socket.
func (h Home) Socket() string { return h.path("gust.sock") }

// Installation names this home in the environment of child processes, so that
// a restarted server finds its own orphans and nobody else's.
func (h Home) Installation() string {
	sum := sha256.Sum256([]byte(h))
	return "gust-" + hex.EncodeToString(sum[:6])
}

// ErrInUse: another server runs on the home.
var ErrInUse = errors.New("another gust server runs on this home")

// Lock is held by the one server of a home.
type Lock struct{ f *os.File }

// How often and at what distance the lock of a dead server is tried again.
const (
	lockAttempts = 150
	lockPause    = 20 * time.Millisecond
)

// Lock takes the lock of the home, or returns ErrInUse with the server's
// process id. The kernel releases it when the process dies.
func (h Home) Lock() (*Lock, error) {
	f, err := os.OpenFile(h.path("gust.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of home %s: %w", h, err)
	}
	for attempt := 0; ; attempt++ {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock of home %s: %w", h, err)
		}
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		pid := strings.TrimSpace(string(b[:n]))
		// A server that was killed while it started a task leaves its lock to the
		// child until that has become another program: a few milliseconds.
		if id, perr := strconv.Atoi(pid); attempt == lockAttempts || perr != nil || unix.Kill(id, 0) != unix.ESRCH {
			f.Close()
			return nil, fmt.Errorf("%w: process %s holds %s; stop it first, or choose another home with --home", ErrInUse, pid, h)
		}
		time.Sleep(lockPause)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock of home %s: %w", h, err)
		}
	}
	return &Lock{f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() {
	if l != nil && l.f != nil {
		_ = l.f.Close() // closing releases the lock; there is nothing to lose
	}
}
