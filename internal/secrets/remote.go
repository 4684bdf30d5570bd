package secrets

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Versions are the versions of a secret from which keys are derived; a secret
// manager is one.
type Versions interface {
	// Current returns the newest version, Previous the one before it, ok = false if
	// there is none. Errors never contain the secret.
	Current(ctx context.Context) (string, error)
	Previous(ctx context.Context) (secret string, ok bool, err error)
}

// RemoteOptions configure Remote. The zero value is a good default.
type RemoteOptions struct {
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

// Remote encrypts with a key derived from the current version of a secret and
// decrypts with those of the current and the previous one (HKDF-SHA256, AES-256-GCM
// in Tink's format; every ciphertext names its key). It is safe for concurrent use.
// Nothing of it is written anywhere, and it prints as "secrets.Remote".
//
// After the secret has been rotated every value should be written again before it
// is rotated once more (store.ResealSecrets): then the version before the previous
// one is gone.
type Remote struct {
	versions Versions
	o        RemoteOptions

	refreshing sync.Mutex // one refresh at a time
	mu         sync.RWMutex
	aead       tink.AEAD
	read       time.Time // of the secret, when it last succeeded
	missed     time.Time // last attempt to find an unknown key
}

// OpenRemote reads the secret.
func OpenRemote(ctx context.Context, v Versions, o RemoteOptions) (*Remote, error) {
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
	r := &Remote{versions: v, o: o}
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Seal encrypts; associated identifies the item the value belongs to.
func (r *Remote) Seal(plaintext, associated []byte) ([]byte, error) {
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
	return r.current().Encrypt(plaintext, associated)
}

// Open decrypts what Seal returned for the same associated data.
func (r *Remote) Open(ciphertext, associated []byte) ([]byte, error) {
	p, err := r.current().Decrypt(ciphertext, associated)
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
	return r.current().Decrypt(ciphertext, associated)
}

func (r *Remote) current() tink.AEAD {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.aead
}

func (r *Remote) refreshIn() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Timeout)
	defer cancel()
	return r.refresh(ctx)
}

func (r *Remote) refresh(ctx context.Context) error {
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

// derive returns the AEAD of a secret's versions; the first one encrypts.
func derive(versions []string) (tink.AEAD, error) {
	params, err := aesgcm.NewParameters(aesgcm.ParametersOpts{KeySizeInBytes: 32, IVSizeInBytes: 12, TagSizeInBytes: 16, Variant: aesgcm.VariantTink})
	if err != nil {
		return nil, fmt.Errorf("derive the encryption keys: %w", err)
	}
	m := keyset.NewManager()
	seen := map[uint32]bool{}
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
		if seen[id] {
			continue
		}
		seen[id] = true
		k, err := aesgcm.NewKey(secretdata.NewBytesFromData(material[:32], insecuresecretdataaccess.Token{}), id, params)
		if err != nil {
			return nil, fmt.Errorf("derive the encryption keys: %w", err)
		}
		got, err := m.AddKey(k)
		if err != nil || got != id {
			return nil, fmt.Errorf("derive the encryption keys: key %d of %d was not taken: %w", i+1, len(versions), err)
		}
		if i == 0 {
			if err := m.SetPrimary(id); err != nil {
				return nil, fmt.Errorf("derive the encryption keys: %w", err)
			}
		}
	}
	h, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("derive the encryption keys: %w", err)
	}
	return aead.New(h)
}

// String, GoString, Format and LogValue keep key material out of every message.
func (r *Remote) String() string { return "secrets.Remote" }

// GoString implements fmt.GoStringer.
func (r *Remote) GoString() string { return r.String() }

// Format implements fmt.Formatter: every verb prints String.
func (r *Remote) Format(s fmt.State, _ rune) { fmt.Fprint(s, r.String()) }

// LogValue implements slog.LogValuer.
func (r *Remote) LogValue() slog.Value { return slog.StringValue(r.String()) }
