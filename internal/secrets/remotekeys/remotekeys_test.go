package remotekeys

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// rotating is a secret with two versions, as a secret manager keeps it.
type rotating struct {
	current, previous string
	reads             int
	err               error
}

func (r *rotating) Current(context.Context) (string, error) {
	r.reads++
	return r.current, r.err
}

func (r *rotating) Previous(context.Context) (string, bool, error) {
	return r.previous, r.previous != "", r.err
}

func (r *rotating) rotate(next string) { r.previous, r.current = r.current, next }

func secretNo(n int) string { return strings.Repeat(string(rune('a'+n)), 64) }

func openRemote(t *testing.T, v Versions, now *time.Time) *Keys {
	t.Helper()
	r, err := Open(t.Context(), v, Options{Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRemoteRotation(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := &rotating{current: secretNo(0)}
	a := openRemote(t, v, &now)
	ad := []byte("VARIABLE#x")
	first, err := a.Seal([]byte("hunter2"), ad)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(first, []byte("hunter2")) {
		t.Fatal("the ciphertext contains the plaintext")
	}
	if _, err := a.Open(first, []byte("VARIABLE#y")); err == nil {
		t.Error("a value moved to another item decrypts")
	}

	v.rotate(secretNo(1))
	now = now.Add(time.Hour)
	b := openRemote(t, v, &now) // another process, which knows the new version only from the start
	if p, err := b.Open(first, ad); err != nil || string(p) != "hunter2" {
		t.Errorf("a value of the previous version: %q, %v", p, err)
	}
	second, err := b.Seal([]byte("new"), ad)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := a.Open(second, ad); err != nil || string(p) != "new" {
		t.Errorf("a process that started before the rotation reads a new value: %q, %v", p, err)
	}

	v.rotate(secretNo(2))
	now = now.Add(time.Hour)
	if p, err := openRemote(t, v, &now).Open(first, ad); err == nil {
		t.Errorf("a value of the version before the previous one decrypts: %q", p)
	}
	// a has not been told; what it writes must be readable after the next rotation.
	late, err := a.Seal([]byte("late"), ad)
	if err != nil {
		t.Fatal(err)
	}
	v.rotate(secretNo(3))
	if p, err := openRemote(t, v, &now).Open(late, ad); err != nil || string(p) != "late" {
		t.Errorf("a value written an hour after a rotation: %q, %v", p, err)
	}
}

func TestRemoteReadsSeldom(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := &rotating{current: secretNo(0)}
	r := openRemote(t, v, &now)
	for range 50 {
		c, err := r.Seal([]byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Open(c, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Open([]byte("nothing that was encrypted"), nil); err == nil {
			t.Fatal("rubbish decrypts")
		}
		now = now.Add(time.Second)
	}
	if v.reads > 4 {
		t.Errorf("the secret was read %d times in 50 s", v.reads)
	}
}

func TestRemoteTrouble(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if _, err := Open(t.Context(), &rotating{current: "hunter2"}, Options{}); err == nil || !strings.Contains(err.Error(), "at least 32") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a short secret: %v", err)
	}
	v := &rotating{current: secretNo(0)}
	r := openRemote(t, v, &now)
	v.err = errors.New("throttled")
	if _, err := r.Seal([]byte("x"), nil); err != nil {
		t.Errorf("a young key encrypts although the service is away: %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := r.Seal([]byte("x"), nil); !errors.Is(err, v.err) {
		t.Errorf("an old key: want the service's error, got %v", err)
	}
}

// TestRemoteIsStable: what is stored today must be readable by every later version.
func TestRemoteIsStable(t *testing.T) {
	now := time.Now()
	r := openRemote(t, &rotating{current: "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/"}, &now)
	c, err := r.Seal([]byte("value"), []byte("VARIABLE#x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", c[:5]), "01b6435f47"; got != want {
		t.Errorf("the key is called %s, was %s: stored values would be lost", got, want)
	}
	if p, err := r.Open(mustHex(t, "01b6435f472f120c8b8c3fc99a28527580b9c29655267600d5d5b9858d875bdd6239b51e8eef"), []byte("VARIABLE#x")); err != nil || string(p) != "value" {
		t.Errorf("a value stored by an earlier version: %q, %v", p, err)
	}
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRemoteIsNeverPrinted(t *testing.T) {
	now := time.Now()
	r := openRemote(t, &rotating{current: secretNo(7)}, &now)
	if got := fmt.Sprintf("%v %+v %#v %s %q %x", r, r, r, r, r, r); strings.Contains(got, "hhhh") || strings.Count(got, "remotekeys.Keys") != 6 {
		t.Errorf("printed %q", got)
	}
}

// tinkOf is what encrypted values in earlier versions: the same keys in Tink.
func tinkOf(t *testing.T, versions ...string) tink.AEAD {
	t.Helper()
	params, err := aesgcm.NewParameters(aesgcm.ParametersOpts{KeySizeInBytes: 32, IVSizeInBytes: 12, TagSizeInBytes: 16, Variant: aesgcm.VariantTink})
	if err != nil {
		t.Fatal(err)
	}
	m := keyset.NewManager()
	for i, v := range versions {
		material, err := hkdf.Key(sha256.New, []byte(v), []byte("gust/secrets"), "aes-256-gcm and key id, version 1", 32+4)
		if err != nil {
			t.Fatal(err)
		}
		k, err := aesgcm.NewKey(secretdata.NewBytesFromData(material[:32], insecuresecretdataaccess.Token{}), binary.BigEndian.Uint32(material[32:]), params)
		if err != nil {
			t.Fatal(err)
		}
		id, err := m.AddKey(k)
		if err == nil && i == 0 {
			err = m.SetPrimary(id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestBothWaysWithTink: an upgrade reads what Tink wrote, and after a rollback Tink
// reads what was written since.
func TestBothWaysWithTink(t *testing.T) {
	now := time.Now()
	ours := openRemote(t, &rotating{current: secretNo(1), previous: secretNo(0)}, &now)
	theirs := tinkOf(t, secretNo(1), secretNo(0))
	old := tinkOf(t, secretNo(0))
	for _, plain := range []string{"", "x", "pässword", strings.Repeat("long ", 5000)} {
		for _, ad := range [][]byte{nil, []byte("VARIABLE#x")} {
			for name, by := range map[string]tink.AEAD{"current": theirs, "previous": old} {
				c, err := by.Encrypt([]byte(plain), ad)
				if err != nil {
					t.Fatal(err)
				}
				if p, err := ours.Open(c, ad); err != nil || string(p) != plain {
					t.Errorf("what Tink wrote with the %s version: %.20q, %v", name, p, err)
				}
			}
			c, err := ours.Seal([]byte(plain), ad)
			if err != nil {
				t.Fatal(err)
			}
			if p, err := theirs.Decrypt(c, ad); err != nil || string(p) != plain {
				t.Errorf("Tink reads %.20q, %v", p, err)
			}
		}
	}
}

// TestChangedValuesDoNotOpen: every byte counts, and no length makes trouble.
func TestChangedValuesDoNotOpen(t *testing.T) {
	now := time.Now()
	r := openRemote(t, &rotating{current: secretNo(1)}, &now)
	c, err := r.Seal([]byte("value"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Seal([]byte("value"), []byte("a")); err != nil || bytes.Equal(c, again) {
		t.Errorf("the same value has the same ciphertext, or %v", err)
	}
	for i := range c {
		d := bytes.Clone(c)
		d[i] ^= 0x40
		if p, err := r.Open(d, []byte("a")); err == nil {
			t.Errorf("with another byte %d it is %q", i, p)
		}
		if _, err := r.Open(c[:i], []byte("a")); err == nil {
			t.Errorf("the first %d bytes open", i)
		}
	}
}
