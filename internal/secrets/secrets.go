// Package secrets encrypts variables and connections at rest.
//
// The keys are a Tink key set (AES-256-GCM) in a file of the home, made on
// first start with mode 0600. Every ciphertext names its key, so that after a
// rotation old values still decrypt while new ones use the new key. The
// associated data of a value is the identity of its item: a ciphertext copied
// to another item does not decrypt there.
//
// Keys are never printed: a Keys value formats and logs as "secrets.Keys(n keys)".
// See docs/adr/0006-secrets-at-rest.md.
package secrets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// FileName is the key set's name in the home.
const FileName = "secrets.key"

// ErrNoKey: there is no key file.
var ErrNoKey = errors.New("no key file")

// Keys encrypt and decrypt. It is safe for concurrent use, also by several
// processes on one file: a key added by another process is found when a value
// that was encrypted with it is read.
type Keys struct {
	path string

	mu     sync.RWMutex
	handle *keyset.Handle
	aead   tink.AEAD
	stamp  stamp
}

type stamp struct {
	mod  time.Time
	size int64
}

// Open reads the key file at path. ErrNoKey: it does not exist. A file that
// others than its owner may read is refused.
func Open(path string) (*Keys, error) {
	k := &Keys{path: path}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, nil
}

// OpenOrCreate reads the key file at path and makes one, mode 0600, if there is
// none. When several processes create at once, one file wins and all use it.
func OpenOrCreate(path string) (*Keys, error) {
	k, err := Open(path)
	if !errors.Is(err, ErrNoKey) {
		return k, err
	}
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the key file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".secrets-*")
	if err != nil {
		return nil, fmt.Errorf("make the key file: %w", err)
	}
	defer os.Remove(tmp.Name())
	if err := writeKeySet(tmp, h); err != nil {
		return nil, err
	}
	// A hard link fails if the name is taken, where a rename would replace it.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the key file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return Open(path)
}

// writeKeySet writes h to f, flushes it to disk and closes f.
func writeKeySet(f *os.File, h *keyset.Handle) error {
	var b bytes.Buffer
	err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b))
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err == nil {
		_, err = f.Write(append(b.Bytes(), '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write the key file: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (k *Keys) load() error {
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w at %s", ErrNoKey, k.path)
	}
	if err != nil {
		return fmt.Errorf("read the key file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the key file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("the key file %s is not a regular file", k.path)
	}
	if perm := st.Mode().Perm(); runtime.GOOS != "windows" && perm&0o077 != 0 {
		return fmt.Errorf("the key file %s has mode %04o: others than its owner can reach the key that protects connections and variables. "+
			"Run: chmod 600 %s (and if others may have read it: gust secrets rotate)", k.path, perm, k.path)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(f))
	if err != nil {
		// Tink's error could quote the file.
		return fmt.Errorf("the key file %s is damaged: expected a Tink key set in JSON. Restore it from a backup; without it stored connections and variables cannot be read", k.path)
	}
	a, err := aead.New(h)
	if err != nil {
		return fmt.Errorf("the key file %s holds no usable key for encryption: %w", k.path, err)
	}
	k.mu.Lock()
	k.handle, k.aead, k.stamp = h, a, stamp{st.ModTime(), st.Size()}
	k.mu.Unlock()
	return nil
}

// Seal encrypts; associated identifies the item the value belongs to. It uses
// the newest key of the file: what another process rotated away, that process
// may retire.
func (k *Keys) Seal(plaintext, associated []byte) ([]byte, error) {
	if k.changed() {
		if err := k.load(); err != nil {
			return nil, err
		}
	}
	k.mu.RLock()
	a := k.aead
	k.mu.RUnlock()
	return a.Encrypt(plaintext, associated)
}

// Current reports whether a ciphertext was made with the key that encrypts now,
// also if another process has replaced it meanwhile.
func (k *Keys) Current(ciphertext []byte) bool {
	if k.changed() {
		if err := k.load(); err != nil {
			return true // cannot be told: the next Seal says why
		}
	}
	k.mu.RLock()
	id := k.handle.KeysetInfo().GetPrimaryKeyId()
	k.mu.RUnlock()
	// Tink puts a version byte and the key's id ahead of what it encrypts.
	return len(ciphertext) >= 5 && binary.BigEndian.Uint32(ciphertext[1:5]) == id
}

// changed reports whether another process replaced the key file.
func (k *Keys) changed() bool {
	k.mu.RLock()
	seen := k.stamp
	k.mu.RUnlock()
	st, err := os.Stat(k.path)
	return err == nil && (!st.ModTime().Equal(seen.mod) || st.Size() != seen.size)
}

// Open decrypts what Seal returned for the same associated data.
func (k *Keys) Open(ciphertext, associated []byte) ([]byte, error) {
	k.mu.RLock()
	a := k.aead
	k.mu.RUnlock()
	p, err := a.Decrypt(ciphertext, associated)
	if err == nil {
		return p, nil
	}
	// Another process may have rotated the keys since this one read them.
	if !k.changed() {
		return nil, err
	}
	if lerr := k.load(); lerr != nil {
		return nil, errors.Join(err, lerr)
	}
	k.mu.RLock()
	a = k.aead
	k.mu.RUnlock()
	return a.Decrypt(ciphertext, associated)
}

// Rotate adds a new key that encrypts from now on; the old ones still decrypt.
// Afterwards every value should be written again (store.ResealSecrets), then
// Retire removes the old keys.
func (k *Keys) Rotate() error {
	return k.change(func(m *keyset.Manager, _ *keyset.Handle) error {
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
}

// Retire removes every key but the one that encrypts. Values still encrypted
// with another are lost: call it only after all of them were written again.
func (k *Keys) Retire() error {
	return k.change(func(m *keyset.Manager, h *keyset.Handle) error {
		info := h.KeysetInfo()
		for _, ki := range info.GetKeyInfo() {
			if ki.GetKeyId() == info.GetPrimaryKeyId() {
				continue
			}
			if err := m.Delete(ki.GetKeyId()); err != nil {
				return err
			}
		}
		return nil
	})
}

// change replaces the key file atomically. The temporary name is a lock: only
// one change at a time, of any process.
func (k *Keys) change(f func(*keyset.Manager, *keyset.Handle) error) error {
	tmp := k.path + ".new"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: another rotation is under way, or one was interrupted; if none is running, delete that file and try again", tmp)
	}
	if err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	defer os.Remove(tmp)
	// Start from the file, not from memory: another process may have rotated.
	if err := k.load(); err != nil {
		out.Close()
		return err
	}
	k.mu.RLock()
	h := k.handle
	k.mu.RUnlock()
	m := keyset.NewManagerFromHandle(h)
	if err := f(m, h); err != nil {
		out.Close()
		return fmt.Errorf("rotate the key: %w", err)
	}
	next, err := m.Handle()
	if err != nil {
		out.Close()
		return fmt.Errorf("rotate the key: %w", err)
	}
	if err := writeKeySet(out, next); err != nil {
		return err
	}
	if err := os.Rename(tmp, k.path); err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	if err := syncDir(filepath.Dir(k.path)); err != nil {
		return err
	}
	return k.load()
}

// Count returns how many keys the set has.
func (k *Keys) Count() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.handle.Len()
}

// String, GoString and LogValue keep key material out of every message.
func (k *Keys) String() string { return fmt.Sprintf("secrets.Keys(%d keys)", k.Count()) }

// GoString implements fmt.GoStringer.
func (k *Keys) GoString() string { return k.String() }

// Format implements fmt.Formatter: every verb prints String.
func (k *Keys) Format(s fmt.State, _ rune) { fmt.Fprint(s, k.String()) }

// LogValue implements slog.LogValuer.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }
