// Package remotekeys encrypts variables and connections with keys that are derived
// from a secret of a secret manager. Values have the form that package secrets, and
// every earlier version of this one, wrote by Tink (AES-256-GCM with Tink's prefix).
// It is made of the standard library alone: Tink brings the reflection of protocol
// buffers, for which a program keeps code that nobody calls, and functions start
// slower.
package remotekeys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Versions are the versions of a secret from which keys are derived; a secret
// manager is one.
type Versions interface {
	// Current returns the newest version, Previous the one before it, ok = false if
	// there is none. Errors never contain the secret.
	Current(ctx context.Context) (string, error)
	Previous(ctx context.Context) (secret string, ok bool, err error)
}

// Options configure Keys. The zero value is a good default.
type Options struct {
	// RefreshAfter is how old the key that encrypts may be before it is asked for
	// again; default 5 min. A rotation of the secret is thus noticed that late.
	RefreshAfter time.Duration
	// RetryAfter is the least time between two attempts to find the key of a value
	// that no known key decrypts; default 30 s.
	RetryAfter time.Duration
	// Timeout bounds one refresh; default 10 s.
	Timeout time.Duration
	Now     func() time.Time
}

// Keys encrypt with a key derived from the current version of a secret and
// decrypt with those of the current and the previous one (HKDF-SHA256, AES-256-GCM
// in Tink's format; every ciphertext names its key). It is safe for concurrent use.
// Nothing of it is written anywhere, and it prints as "remotekeys.Keys".
//
// After the secret has been rotated every value should be written again before it
// is rotated once more (store.ResealSecrets): then the version before the previous
// one is gone.
type Keys struct {
	versions Versions
	o        Options

	refreshing sync.Mutex // one refresh at a time
	mu         sync.RWMutex
	aead       *aeads
	read       time.Time // of the secret, when it last succeeded
	missed     time.Time // last attempt to find an unknown key
}

// Open reads the secret.
func Open(ctx context.Context, v Versions, o Options) (*Keys, error) {
	if o.RefreshAfter == 0 {
		o.RefreshAfter = 5 * time.Minute
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = 30 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Keys{versions: v, o: o}
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Seal encrypts; associated identifies the item the value belongs to.
func (r *Keys) Seal(plaintext, associated []byte) ([]byte, error) {
	r.mu.RLock()
	old := r.o.Now().Sub(r.read) > r.o.RefreshAfter
	r.mu.RUnlock()
	if old {
		// What is encrypted with a version that has been replaced twice is lost:
		// better no write than that.
		if err := r.refreshIn(); err != nil {
			return nil, err
		}
	}
	return r.current().seal(plaintext, associated)
}

// Open decrypts what Seal returned for the same associated data.
func (r *Keys) Open(ciphertext, associated []byte) ([]byte, error) {
	p, err := r.current().open(ciphertext, associated)
	if err == nil {
		return p, nil
	}
	// The secret may have been rotated since it was read.
	r.mu.Lock()
	now := r.o.Now()
	tooSoon := !r.missed.IsZero() && now.Sub(r.missed) < r.o.RetryAfter
	if !tooSoon {
		r.missed = now
	}
	r.mu.Unlock()
	if tooSoon {
		return nil, err
	}
	if rerr := r.refreshIn(); rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	return r.current().open(ciphertext, associated)
}

func (r *Keys) current() *aeads {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.aead
}

func (r *Keys) refreshIn() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Timeout)
	defer cancel()
	return r.refresh(ctx)
}

func (r *Keys) refresh(ctx context.Context) error {
	r.refreshing.Lock()
	defer r.refreshing.Unlock()
	now := r.o.Now()
	current, err := r.versions.Current(ctx)
	if err != nil {
		return fmt.Errorf("read the secret of the encryption keys: %w", err)
	}
	versions := []string{current}
	previous, ok, err := r.versions.Previous(ctx)
	if err != nil {
		return fmt.Errorf("read the previous version of the secret of the encryption keys: %w", err)
	}
	if ok && previous != current {
		versions = append(versions, previous)
	}
	a, err := derive(versions)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aead, r.read = a, now
	return nil
}

// minSecret is the least length of a secret: 32 characters of 62 kinds are 190 bits.
const minSecret = 32

// aeads are the keys of a secret's versions, by their ids; the first encrypts.
type aeads struct {
	first uint32
	by    map[uint32]cipher.AEAD
}

// Tink's form of a ciphertext: a version, the key's id, the nonce, what AES-GCM gives.
const (
	tinkVersion = 1
	prefixSize  = 1 + 4
	nonceSize   = 12
)

func (a *aeads) seal(plaintext, associated []byte) ([]byte, error) {
	out := append(make([]byte, 0, prefixSize+nonceSize+len(plaintext)+16), tinkVersion)
	out = binary.BigEndian.AppendUint32(out, a.first)
	// The cipher draws the nonce and puts it ahead of what it encrypts.
	return a.by[a.first].Seal(out, nil, plaintext, associated), nil
}

// errOpen says no more: what is not authentic is no cause for details.
var errOpen = errors.New("the value cannot be decrypted: it was encrypted with another key or for another item, or was changed")

func (a *aeads) open(ciphertext, associated []byte) ([]byte, error) {
	if len(ciphertext) < prefixSize || ciphertext[0] != tinkVersion {
		return nil, errOpen
	}
	k, ok := a.by[binary.BigEndian.Uint32(ciphertext[1:prefixSize])]
	if !ok {
		return nil, errOpen
	}
	p, err := k.Open(nil, nil, ciphertext[prefixSize:], associated)
	if err != nil {
		return nil, errOpen
	}
	return p, nil
}

// derive returns the keys of a secret's versions; the first one encrypts.
func derive(versions []string) (*aeads, error) {
	out := &aeads{by: map[uint32]cipher.AEAD{}}
	for i, v := range versions {
		v = strings.TrimSpace(v)
		if len(v) < minSecret {
			return nil, fmt.Errorf("the secret of the encryption keys has %d characters: expected at least %d, made by chance", len(v), minSecret)
		}
		// The id comes from the same secret, so that every process gives a key the
		// same one and a ciphertext finds it.
		material, err := hkdf.Key(sha256.New, []byte(v), []byte("gust/secrets"), "aes-256-gcm and key id, version 1", 32+4)
		if err != nil {
			return nil, fmt.Errorf("derive the encryption keys: %w", err)
		}
		id := max(1, binary.BigEndian.Uint32(material[32:]))
		if i == 0 {
			out.first = id
		}
		if out.by[id] != nil {
			continue
		}
		block, err := aes.NewCipher(material[:32])
		if err != nil {
			return nil, fmt.Errorf("derive the encryption keys: %w", err)
		}
		if out.by[id], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("derive the encryption keys: %w", err)
		}
	}
	return out, nil
}

// String, GoString, Format and LogValue keep key material out of every message.
func (r *Keys) String() string { return "remotekeys.Keys" }

// GoString implements fmt.GoStringer.
func (r *Keys) GoString() string { return r.String() }

// Format implements fmt.Formatter: every verb prints String.
func (r *Keys) Format(s fmt.State, _ rune) { fmt.Fprint(s, r.String()) }

// LogValue implements slog.LogValuer.
func (r *Keys) LogValue() slog.Value { return slog.StringValue(r.String()) }
