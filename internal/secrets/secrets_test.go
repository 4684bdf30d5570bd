package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func newKeys(t *testing.T) *Keys {
	t.Helper()
	k, err := OpenOrCreate(filepath.Join(t.TempDir(), "home", FileName))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealOpen(t *testing.T) {
	k := newKeys(t)
	st, err := os.Stat(k.path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file: mode %v, err %v; want 0600", st.Mode(), err)
	}
	c, err := k.Seal([]byte("hunter2"), []byte("CONNECTION#a"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(c, []byte("hunter2")) {
		t.Fatal("the ciphertext contains the plaintext")
	}
	if p, err := k.Open(c, []byte("CONNECTION#a")); err != nil || string(p) != "hunter2" {
		t.Fatalf("Open = %q, %v", p, err)
	}
	if _, err := k.Open(c, []byte("CONNECTION#b")); err == nil {
		t.Fatal("a value moved to another item decrypts")
	}
	c[len(c)-1] ^= 1
	if _, err := k.Open(c, []byte("CONNECTION#a")); err == nil {
		t.Fatal("a changed value decrypts")
	}
}

func TestWidePermissionsAreRefused(t *testing.T) {
	k := newKeys(t)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660} {
		if err := os.Chmod(k.path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(k.path)
		if err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: err = %v, want one that says chmod 600", mode, err)
		}
		if _, err := OpenOrCreate(k.path); err == nil {
			t.Errorf("mode %04o: OpenOrCreate opened it", mode)
		}
	}
}

func TestMissingAndDamaged(t *testing.T) {
	k := newKeys(t)
	if _, err := Open(k.path + ".other"); !errors.Is(err, ErrNoKey) {
		t.Fatalf("missing: %v, want ErrNoKey", err)
	}
	content, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, content[:len(content)/2], []byte("{}"), bytes.Replace(content, []byte(`"value":"`), []byte(`"value":"!`), 1)} {
		if err := os.WriteFile(k.path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenOrCreate(k.path)
		if err == nil || errors.Is(err, ErrNoKey) {
			t.Fatalf("damaged %q: err = %v", damaged, err)
		}
		if len(damaged) > 60 && strings.Contains(err.Error(), string(damaged[40:60])) {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
}

func TestRotation(t *testing.T) {
	k := newKeys(t)
	other, err := Open(k.path) // another process
	if err != nil {
		t.Fatal(err)
	}
	ad := []byte("VARIABLE#x")
	old, _ := k.Seal([]byte("old"), ad)
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	if k.Count() != 2 {
		t.Fatalf("keys after one rotation = %d", k.Count())
	}
	if p, err := k.Open(old, ad); err != nil || string(p) != "old" {
		t.Fatalf("a value of the old key: %q, %v", p, err)
	}
	fresh, _ := k.Seal([]byte("new"), ad)
	if p, err := other.Open(fresh, ad); err != nil || string(p) != "new" {
		t.Fatalf("the other process reads a value of the new key: %q, %v", p, err)
	}
	if err := k.Retire(); err != nil {
		t.Fatal(err)
	}
	// What the other process writes from now on must not need a retired key.
	late, err := other.Seal([]byte("late"), ad)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := k.Open(late, ad); err != nil || string(p) != "late" {
		t.Fatalf("a value that the other process wrote after Retire: %q, %v", p, err)
	}
	if _, err := k.Open(old, ad); err == nil {
		t.Fatal("a value of a retired key decrypts")
	}
	if p, err := k.Open(fresh, ad); err != nil || string(p) != "new" {
		t.Fatalf("after Retire: %q, %v", p, err)
	}
	if st, _ := os.Stat(k.path); st.Mode().Perm() != 0o600 {
		t.Fatalf("mode after rotation: %v", st.Mode())
	}
	// An interrupted rotation is reported, not overwritten.
	if err := os.WriteFile(k.path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Rotate(); err == nil || !strings.Contains(err.Error(), "delete that file") {
		t.Fatalf("Rotate beside a leftover: %v", err)
	}
}

func TestCreatedOnceByMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	var wg sync.WaitGroup
	keys := make([]*Keys, 8)
	for i := range keys {
		wg.Add(1)
		go func() {
			defer wg.Done()
			k, err := OpenOrCreate(path)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = k
		}()
	}
	wg.Wait()
	c, err := keys[0].Seal([]byte("v"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if _, err := k.Open(c, nil); err != nil {
			t.Errorf("process %d has another key: %v", i, err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".secrets-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNeverPrinted(t *testing.T) {
	k := newKeys(t)
	content, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(content, []byte(`"value":"`)) + len(`"value":"`)
	secret := string(content[i : i+16])
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "keys", k)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "keys", k)
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, f+"\n", k)
	}
	if strings.Contains(b.String(), secret) {
		t.Fatal("key material was printed")
	}
	if !strings.Contains(b.String(), "secrets.Keys(1 keys)") {
		t.Fatalf("printed %q", b.String())
	}
}
