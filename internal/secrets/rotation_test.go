package secrets_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/secrets"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// TestRotationBesideWriters rotates the key, as `gust secrets rotate` does, between
// the moment at which another process has encrypted a value and its write; and
// changes or deletes a value between its reading and its writing by the rotation.
func TestRotationBesideWriters(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), secrets.FileName)
	ours, err := secrets.OpenOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := secrets.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d := memkv.New(memkv.Options{})
	var before func() // the next write
	hook := func() {
		if f := before; f != nil {
			before = nil
			f()
		}
	}
	writes := func(c faultkv.Call) {
		if c.Method == "write" {
			hook()
		}
	}
	rotating := store.New(faultkv.New(d, faultkv.Options{Before: writes}), ours)
	writing := store.New(faultkv.New(d, faultkv.Options{Before: writes}), theirs)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rotate := func() {
		t.Helper()
		must(ours.Rotate())
		for range 2 {
			_, err := rotating.ResealSecrets(ctx)
			must(err)
		}
		must(ours.Retire())
	}
	read := func(want string) {
		t.Helper()
		for _, s := range []*store.Store{rotating, writing} {
			if v, err := s.GetVariable(ctx, "v"); err != nil || v.Value != want {
				t.Errorf("read %q, %v; want %q", v.Value, err, want)
			}
		}
	}

	before = rotate
	must(writing.PutVariable(ctx, airflow.Variable{Key: "v", Value: "encrypted before"}))
	read("encrypted before")

	before = func() { must(writing.PutVariable(ctx, airflow.Variable{Key: "v", Value: "written meanwhile"})) }
	rotate()
	read("written meanwhile")

	before = func() { must(writing.DeleteVariable(ctx, "v")) }
	rotate()
	if _, err := writing.GetVariable(ctx, "v"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a variable that was deleted meanwhile: %v", err)
	}
}
