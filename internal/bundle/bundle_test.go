package bundle_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/bundle"
)

type env struct {
	*bundle.Store
	blobs *fileblob.Store
	root  string // DAG folder
	dir   string // materialised bundles
	now   time.Time
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{root: t.TempDir(), dir: filepath.Join(t.TempDir(), "bundles"), now: time.Now()}
	var err error
	if e.blobs, err = fileblob.Open(filepath.Join(t.TempDir(), "blobs"), fileblob.Options{Now: func() time.Time { return e.now }}); err != nil {
		t.Fatal(err)
	}
	e.Store = e.open(t)
	t.Cleanup(func() { // read-only folders would keep TempDir from being removed
		filepath.WalkDir(e.dir, func(p string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
	})
	return e
}

// open returns the store as another process would have it.
func (e *env) open(t *testing.T) *bundle.Store {
	t.Helper()
	s, err := bundle.New(e.blobs, e.dir, bundle.Options{MaxFileBytes: 1 << 20, Now: func() time.Time { return e.now }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (e *env) write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	name := filepath.Join(e.root, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func (e *env) snapshot(t *testing.T, paths ...string) string {
	t.Helper()
	hash, _, err := e.Snapshot(context.Background(), e.root, paths, bundle.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func (e *env) materialize(t *testing.T, hash string) string {
	t.Helper()
	dir, err := e.Materialize(context.Background(), hash)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEditNeverChangesSnapshot(t *testing.T) {
	e := newEnv(t)
	e.write(t, "dag.yml", "dag 1", 0o600)
	e.write(t, "scripts/run.sh", "echo 1", 0o750)
	first := e.snapshot(t, "dag.yml", "scripts/run.sh")
	e.write(t, "scripts/run.sh", "echo 2", 0o750)
	second := e.snapshot(t, "dag.yml", "scripts/run.sh")
	if first == second {
		t.Fatal("an edited script has the same bundle hash")
	}
	if got := read(t, filepath.Join(e.materialize(t, first), "scripts/run.sh")); got != "echo 1" {
		t.Errorf("first snapshot: %q", got)
	}
	dir := e.materialize(t, second)
	if got := read(t, filepath.Join(dir, "scripts/run.sh")); got != "echo 2" {
		t.Errorf("second snapshot: %q", got)
	}
	for path, want := range map[string]fs.FileMode{"": 0o555, "scripts": 0o555, "scripts/run.sh": 0o555, "dag.yml": 0o444} {
		fi, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%q has mode %v, want %v", path, fi.Mode().Perm(), want)
		}
	}
}

func TestHashIsOfContentPathsAndExecutability(t *testing.T) {
	e := newEnv(t)
	e.write(t, "a", "x", 0o644)
	e.write(t, "b", "y", 0o644)
	base := e.snapshot(t, "a", "b")
	if got := e.snapshot(t, "b", "a", "b"); got != base {
		t.Error("order and repetition of paths change the hash")
	}
	e.write(t, "a", "x", 0o600)
	if got := e.snapshot(t, "a", "b"); got != base {
		t.Error("permissions of others change the hash")
	}
	if got := e.snapshot(t, "a"); got == base {
		t.Error("a file less does not change the hash")
	}
	e.write(t, "a", "x", 0o700)
	if got := e.snapshot(t, "a", "b"); got == base {
		t.Error("executability does not change the hash")
	}
	hash, _, err := e.Snapshot(context.Background(), e.root, []string{"b"}, bundle.SnapshotOptions{Environment: "py3.12"})
	if err != nil || hash == e.snapshot(t, "b") {
		t.Errorf("the environment does not change the hash (%v)", err)
	}
}

func TestSnapshotReportsEveryUnusableFile(t *testing.T) {
	e := newEnv(t)
	e.write(t, "ok", "", 0o644)
	e.write(t, "big", string(make([]byte, 1<<20+1)), 0o644)
	if err := os.Mkdir(filepath.Join(e.root, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err := e.Snapshot(context.Background(), e.root, []string{"ok", "missing", "big", "folder", "../outside", "/etc/passwd"}, bundle.SnapshotOptions{})
	var inv *airflow.InvalidError
	if !errors.As(err, &inv) {
		t.Fatalf("want an InvalidError, got %v", err)
	}
	got := map[string]bool{}
	for _, p := range inv.Problems {
		got[p.File] = true
	}
	for _, want := range []string{"missing", "big", "folder", "../outside", "/etc/passwd"} {
		if !got[want] {
			t.Errorf("%s is not reported: %v", want, err)
		}
	}
	if len(inv.Problems) != 5 {
		t.Errorf("%d problems, want 5: %v", len(inv.Problems), err)
	}
}

func TestMaterializeConcurrently(t *testing.T) {
	e := newEnv(t)
	e.write(t, "f", "content", 0o644)
	hash := e.snapshot(t, "f")
	stores := []*bundle.Store{e.Store, e.open(t), e.open(t)}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			dir, err := stores[i%len(stores)].Materialize(context.Background(), hash)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "content" {
				t.Errorf("%q, %v", b, err)
			}
		}()
	}
	wg.Wait()
	entries, err := os.ReadDir(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestMaterializeMendsDamage(t *testing.T) {
	e := newEnv(t)
	e.write(t, "sub/f", "content", 0o644)
	hash := e.snapshot(t, "sub/f")
	file := filepath.Join(e.materialize(t, hash), "sub/f")
	for name, damage := range map[string]func() error{
		"changed":   func() error { os.Chmod(file, 0o600); return os.WriteFile(file, []byte("CONTENT"), 0o600) },
		"truncated": func() error { os.Chmod(file, 0o600); return os.Truncate(file, 0) },
		"removed":   func() error { os.Chmod(filepath.Dir(file), 0o700); return os.Remove(file) },
		"added": func() error {
			os.Chmod(filepath.Dir(file), 0o700)
			return os.WriteFile(file+".pyc", nil, 0o600)
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(name, err)
		}
		e.Store = e.open(t) // verified on first use of a process
		dir := e.materialize(t, hash)
		if got := read(t, filepath.Join(dir, "sub/f")); got != "content" {
			t.Errorf("%s: %q", name, got)
		}
		if _, err := os.Stat(file + ".pyc"); err == nil {
			t.Errorf("%s: a foreign file stayed", name)
		}
	}
	// In the same process a removed folder is made again.
	os.Chmod(filepath.Dir(file), 0o700)
	os.Chmod(filepath.Dir(filepath.Dir(file)), 0o700)
	if err := os.RemoveAll(filepath.Dir(filepath.Dir(file))); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(e.materialize(t, hash), "sub/f")); got != "content" {
		t.Errorf("after removal: %q", got)
	}
}

func TestMaterializeUnknown(t *testing.T) {
	e := newEnv(t)
	if _, err := e.Materialize(context.Background(), blob.Hash([]byte("no"))); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	if _, err := e.Materialize(context.Background(), "../x"); err == nil {
		t.Error("a path was accepted as a hash")
	}
}

func TestDecodeManifestRefusesForgedPaths(t *testing.T) {
	h := blob.Hash(nil)
	for _, path := range []string{"../x", "/x", "a/../../x", "a//b", "", ".", `a\b`} {
		m := bundle.Manifest{Format: bundle.ManifestFormat, Files: []bundle.File{{Path: path, SHA256: h, Mode: "0644"}}}
		if _, err := bundle.DecodeManifest(m.Encode()); err == nil {
			t.Errorf("path %q was accepted", path)
		}
	}
	if _, err := bundle.DecodeManifest([]byte(`{"format":2,"files":[]}`)); err == nil {
		t.Error("a newer format was accepted")
	}
}

func TestCollect(t *testing.T) {
	e := newEnv(t)
	ctx := context.Background()
	e.write(t, "shared", "shared", 0o644)
	e.write(t, "f", "1", 0o644)
	dead := e.snapshot(t, "f", "shared")
	e.write(t, "f", "2", 0o644)
	live := e.snapshot(t, "f", "shared")
	deadDir, liveDir := e.materialize(t, dead), e.materialize(t, live)

	opts := bundle.CollectOptions{Live: map[string]bool{live: true, "": true}}
	if got, err := e.Collect(ctx, opts); err != nil || got.Blobs != 0 || len(got.Bundles) != 0 {
		t.Fatalf("within the grace period: %+v, %v", got, err)
	}
	e.now = e.now.Add(2 * time.Hour)
	e.write(t, "f", "3", 0o644)
	young := e.snapshot(t, "f")

	opts.DryRun = true
	plan, err := e.Collect(ctx, opts)
	if err != nil || plan.Blobs != 2 || len(plan.Bundles) != 1 || plan.Bundles[0] != dead {
		t.Fatalf("dry run: %+v, %v", plan, err)
	}
	if _, err := os.Stat(deadDir); err != nil {
		t.Error("a dry run removed a folder")
	}
	opts.DryRun = false
	done, err := e.Collect(ctx, opts)
	if err != nil || done.Blobs != plan.Blobs || done.Bytes != plan.Bytes || len(done.Bundles) != 1 {
		t.Fatalf("collected %+v, planned %+v, %v", done, plan, err)
	}
	if _, err := os.Stat(deadDir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder of a dead bundle is still there")
	}
	if _, err := e.Materialize(ctx, dead); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a dead bundle: want ErrNotFound, got %v", err)
	}
	if got := read(t, filepath.Join(liveDir, "f")); got != "2" {
		t.Errorf("live bundle: %q", got)
	}
	e.Store = e.open(t)
	os.RemoveAll(e.dir) // best effort: parts are read-only; Materialize mends
	if got := read(t, filepath.Join(e.materialize(t, live), "shared")); got != "shared" {
		t.Errorf("a shared blob was lost: %q", got)
	}
	e.materialize(t, young)

	// A live bundle whose manifest is lost stops the collection of blobs.
	e.now = e.now.Add(2 * time.Hour)
	lost := blob.Hash([]byte("lost"))
	got, err := e.Collect(ctx, bundle.CollectOptions{Live: map[string]bool{live: true, lost: true}})
	if err != nil || len(got.Missing) != 1 || got.Missing[0] != lost || got.Blobs != 0 {
		t.Errorf("with a lost manifest: %+v, %v", got, err)
	}
}
