package sqlitekv_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
)

var ctx = context.Background()

func put(t testing.TB, s kv.Driver, pk, sk string, size int) {
	t.Helper()
	it := kv.Item{Key: kv.Key{PK: pk, SK: sk}, Attrs: map[string]kv.Value{"d": kv.Bytes(make([]byte, size))}}
	if err := s.Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
		t.Fatal(err)
	}
}

// newFile returns the path of a closed store with some items.
func newFile(t *testing.T, items int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gust.db")
	s := openAt(t, path, sqlitekv.Options{})
	for i := range items {
		put(t, s, "p", fmt.Sprintf("%05d", i), 500)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestForeignOrDamagedFile(t *testing.T) {
	edit := func(f func([]byte) []byte) func(*testing.T) string {
		return func(t *testing.T) string {
			path := newFile(t, 200)
			if err := os.WriteFile(path, f([]byte(contents(t, path))), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	const userVersion, applicationID = 60, 68 // offsets in the SQLite header
	for name, c := range map[string]struct {
		file func(t *testing.T) string
		want error
		says string
	}{
		"text file": {edit(func([]byte) []byte { return []byte(strings.Repeat("dags_folder = /opt/dags\n", 100)) }), kv.ErrCorrupt, "restore"},
		"other program": {edit(func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[applicationID:], 0x12345678)
			return b
		}), kv.ErrCorrupt, "name another file"},
		"newer format": {edit(func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[userVersion:], 2)
			return b
		}), kv.ErrNewerFormat, "use the newer program"},
		"cut short":     {edit(func(b []byte) []byte { return b[:len(b)/2] }), kv.ErrCorrupt, "restore"},
		"cut to header": {edit(func(b []byte) []byte { return b[:100] }), kv.ErrCorrupt, "restore"},
		"zeroed page":   {edit(func(b []byte) []byte { clear(b[len(b)-4096:]); return b }), kv.ErrCorrupt, "restore"},
		"noise": {edit(func(b []byte) []byte {
			for i := 4096 * 8; i < 4096*9; i++ {
				b[i] ^= byte(i*7 + 1)
			}
			return b
		}), kv.ErrCorrupt, "restore"},
		"folder": {func(t *testing.T) string { return t.TempDir() }, kv.ErrInvalid, "name a file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.file(t)
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			before := ""
			if !fi.IsDir() {
				before = contents(t, path)
			}
			s, err := sqlitekv.Open(path, sqlitekv.Options{})
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), filepath.Base(path)) {
				t.Errorf("error %v, want %v, naming the file and saying %q", err, c.want, c.says)
			}
			if before != "" && contents(t, path) != before {
				t.Error("the file was changed")
			}
			if rest, _ := filepath.Glob(path + "-*"); len(rest) > 0 {
				for _, f := range rest {
					if fi, err := os.Stat(f); err == nil && fi.Size() > 0 && !strings.HasSuffix(f, "-shm") {
						t.Errorf("left %s with %d bytes", f, fi.Size())
					}
				}
			}
		})
	}
}

// TestDamageFoundLater damages a page of a file that is too large to be checked when it is opened.
func TestDamageFoundLater(t *testing.T) {
	path := newFile(t, 2000)
	b := []byte(contents(t, path))
	clear(b[len(b)-40*4096:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path, sqlitekv.Options{CheckBytes: -1})
	if err := s.Check(ctx); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("check: %v, want %v", err, kv.ErrCorrupt)
	}
	failed := 0
	for i := range 2000 {
		_, err := s.Get(ctx, kv.Key{PK: "p", SK: fmt.Sprintf("%05d", i)}, true)
		switch {
		case errors.Is(err, kv.ErrNotFound):
			t.Fatalf("item %d is reported as absent", i) // damage must not look like absence
		case errors.Is(err, kv.ErrCorrupt):
			failed++
		case err != nil:
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Error("no read met the damage")
	}
}

// TestBadNeighbour writes beside a damaged item: its requests fail, those that share a commit with them do not.
func TestBadNeighbour(t *testing.T) {
	path := newFile(t, 2000)
	b := []byte(contents(t, path))
	middle := len(b) / 2 &^ 4095 // new rows go to the end
	clear(b[middle : middle+4096])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path, sqlitekv.Options{CheckBytes: -1})
	bad := ""
	for i := range 2000 {
		sk := fmt.Sprintf("%05d", i)
		if _, err := s.Get(ctx, kv.Key{PK: "p", SK: sk}, true); err != nil {
			bad = sk
			break
		}
	}
	done := make(chan error)
	for i := range 40 {
		go func() {
			if i%4 == 0 {
				err := s.Write(ctx, kv.Update(kv.Key{PK: "p", SK: bad}, kv.Exists(), kv.Add("n", 1)))
				if !errors.Is(err, kv.ErrCorrupt) {
					done <- fmt.Errorf("damaged item: %v, want %w", err, kv.ErrCorrupt)
					return
				}
				done <- nil
				return
			}
			done <- s.Write(ctx, kv.Put(kv.Item{Key: kv.Key{PK: "a", SK: fmt.Sprint(i)}}, kv.Cond{}))
		}()
	}
	for range 40 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestNewerFormatWhileOpen(t *testing.T) {
	path := newFile(t, 1)
	old := openAt(t, path, sqlitekv.Options{})
	put(t, old, "p", "before", 10)
	// Another process, of a version with other indexes.
	newer := openAt(t, path, sqlitekv.Options{Schema: kv.Schema{Indexes: []kv.Index{{Name: "gsi1"}, {Name: "gsi3", Include: []string{"x"}}}}})
	put(t, newer, "p", "by the newer one", 10)
	err := old.Write(ctx, kv.Put(kv.Item{Key: kv.Key{PK: "p", SK: "after"}}, kv.Cond{}))
	if !errors.Is(err, kv.ErrNewerFormat) || !strings.Contains(err.Error(), "restart") {
		t.Errorf("write of the older process: %v, want %v", err, kv.ErrNewerFormat)
	}
	if _, err := old.Get(ctx, kv.Key{PK: "p", SK: "by the newer one"}, true); err != nil {
		t.Errorf("the older process can still read: %v", err)
	}
	put(t, newer, "p", "still fine", 10)
}
