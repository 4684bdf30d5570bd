package dagsync_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagsync"
)

// memory is a bucket; with opaque ETags like one that encrypts with a key.
type memory struct {
	mu      sync.Mutex
	objects map[string]string
	sums    map[string]string
	opaque  bool
	log     []string
	fail    string // key that cannot be put
}

func newMemory() *memory { return &memory{objects: map[string]string{}, sums: map[string]string{}} }

func (m *memory) Name() string { return "s3://b" }

func (m *memory) ListCurrent(_ context.Context, prefix string) ([]dagbucket.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []dagbucket.Object
	for k, v := range m.objects {
		if strings.HasPrefix(k, prefix) {
			sum := md5.Sum([]byte(v))
			tag := hex.EncodeToString(sum[:])
			if m.opaque {
				tag = "opaque"
			}
			out = append(out, dagbucket.Object{Key: k, ETag: tag, Size: int64(len(v))})
		}
	}
	return out, nil
}

func (m *memory) PutFile(_ context.Context, key string, content []byte, sum string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key == m.fail {
		return errors.New("denied")
	}
	m.objects[key], m.sums[key] = string(content), sum
	m.log = append(m.log, "put "+key)
	return nil
}

func (m *memory) SHA256(_ context.Context, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sums[key], nil
}

func (m *memory) Delete(_ context.Context, keys []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.objects, k)
		m.log = append(m.log, "delete "+k)
	}
	return nil
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func plan(t *testing.T, dir string, m *memory, o dagsync.Options) (*dagsync.Plan, string) {
	t.Helper()
	p, err := dagsync.New(context.Background(), dir, m, "team/dags", o)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range p.Steps {
		out = append(out, fmt.Sprintf("%s %s", s.Action, s.Path))
	}
	return p, strings.Join(out, ", ")
}

func TestPlanAndApply(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		dir, m := t.TempDir(), newMemory()
		m.opaque = opaque
		write(t, dir, "a.yml", "a")
		write(t, dir, "zz/lib.py", "lib")
		write(t, dir, "zz/__pycache__/lib.pyc", "x")
		write(t, dir, ".git/config", "x")
		write(t, dir, "notes/todo.txt", "x")
		write(t, dir, ".airflowignore", "x")
		if err := os.Symlink(filepath.Join(dir, "zz"), filepath.Join(dir, "linked")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dir, filepath.Join(dir, "zz", "loop")); err != nil {
			t.Fatal(err)
		}
		m.objects["team/dags/old.yml"] = "old"
		m.objects["team/dags/notes/keep.txt"] = "other"
		m.objects["other/x.yml"] = "x"
		o := dagsync.Options{Exclude: []string{"notes/"}}
		p, got := plan(t, dir, m, o)
		want := "add .airflowignore, add a.yml, add linked/lib.py, extra old.yml"
		if got != want {
			t.Fatalf("plan: %s\nwant  %s", got, want)
		}
		if err := p.Apply(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		if m.log[len(m.log)-1] != "put team/dags/a.yml" || len(m.log) != 3 {
			t.Errorf("the DAG file does not go last: %v", m.log)
		}
		if _, got := plan(t, dir, m, o); got != "keep .airflowignore, keep a.yml, keep linked/lib.py, extra old.yml" {
			t.Errorf("after it: %s", got)
		}
		write(t, dir, "a.yml", "b")
		o.Delete = true
		p, got = plan(t, dir, m, o)
		if got != "keep .airflowignore, replace a.yml, keep linked/lib.py, delete old.yml" {
			t.Errorf("with a change: %s", got)
		}
		m.log = nil
		var done []string
		if err := p.Apply(context.Background(), func(s dagsync.Step) { done = append(done, s.Path) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(m.log, []string{"put team/dags/a.yml", "delete team/dags/old.yml"}) || !slices.Equal(done, []string{"a.yml", "old.yml"}) {
			t.Errorf("%v, told of %v", m.log, done)
		}
		var keys []string
		for k := range m.objects {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		if !slices.Equal(keys, []string{"other/x.yml", "team/dags/.airflowignore", "team/dags/a.yml", "team/dags/linked/lib.py", "team/dags/notes/keep.txt"}) {
			t.Errorf("in the bucket: %v", keys)
		}
	}
}

// TestFailure: no DAG file goes up without its helpers, and nothing is removed.
func TestFailure(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	write(t, dir, "a.yml", "a")
	write(t, dir, "lib.py", "lib")
	m.objects["team/dags/old.yml"] = "old"
	m.fail = "team/dags/lib.py"
	p, _ := plan(t, dir, m, dagsync.Options{Delete: true})
	if err := p.Apply(context.Background(), nil); err == nil || len(m.log) != 0 {
		t.Fatalf("%v, %v", err, m.log)
	}
	for _, s := range p.Steps {
		if s.Done || (s.Error != "") != (s.Path == "lib.py") {
			t.Errorf("%+v", s)
		}
	}
}

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{"s3://b": "b ", "s3://b/": "b ", "s3://b/x/y": "b x/y/", "s3://b/x/": "b x/"} {
		b, p, err := dagsync.ParseURL(in)
		if got := b + " " + p; got != want || err != nil {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"b/x", "s3://", "s3:///x", "https://b"} {
		if _, _, err := dagsync.ParseURL(in); err == nil {
			t.Errorf("%s was accepted", in)
		}
	}
	if _, err := dagsync.New(context.Background(), t.TempDir(), newMemory(), "", dagsync.Options{Exclude: []string{"["}}); err != nil {
		t.Errorf("an empty folder needs no pattern: %v", err)
	}
}
