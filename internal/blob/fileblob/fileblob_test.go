package fileblob

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/blobtest"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, blobtest.Harness{New: func(t *testing.T, now func() time.Time) blob.Store {
		s, err := Open(t.TempDir(), Options{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}

func TestModesAndReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := blob.Hash([]byte("x"))
	if err := s.Put(context.Background(), h, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := again.Has(context.Background(), h); err != nil || !ok {
		t.Errorf("after reopening: %v, %v", ok, err)
	}
}

func TestOpenSweepsTmp(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(dir, tmpDir, "old"), filepath.Join(dir, tmpDir, "young")
	for _, f := range []string{old, young} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * tmpAge)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Error("an old temporary file was kept")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("a file that may be being written was removed")
	}
}
