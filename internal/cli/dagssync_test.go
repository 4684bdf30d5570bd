package cli

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagsync"
)

// bucketOfTest keeps objects in memory.
type bucketOfTest struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func (b *bucketOfTest) Name() string { return "s3://acme" }

func (b *bucketOfTest) ListCurrent(_ context.Context, prefix string) ([]dagbucket.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []dagbucket.Object
	for k, v := range b.objects {
		if strings.HasPrefix(k, prefix) {
			out = append(out, dagbucket.Object{Key: k, ETag: "opaque", Size: int64(len(v))})
		}
	}
	return out, nil
}

func (b *bucketOfTest) PutFile(_ context.Context, key string, content []byte, sum string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key], b.objects["sum of "+key] = content, []byte(sum)
	return nil
}

func (b *bucketOfTest) SHA256(_ context.Context, key string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.objects["sum of "+key]), nil
}

func (b *bucketOfTest) Delete(_ context.Context, keys []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		delete(b.objects, k)
	}
	return nil
}

func TestDagsSync(t *testing.T) {
	s := newShell(t)
	s.write("etl.yml", etlFile)
	s.fails(ExitFailed, "built without AWS", "dags", "sync", s.dags, "s3://acme/dags")
	b := &bucketOfTest{objects: map[string][]byte{"dags/old.yml": []byte("old"), "elsewhere": nil}}
	s.edit = func(e *Env) {
		e.Bucket = func(_ context.Context, name string) (dagsync.Target, error) {
			if name != "acme" {
				t.Errorf("bucket %q", name)
			}
			return b, nil
		}
	}
	s.fails(ExitUsage, "expected s3://bucket/prefix", "dags", "sync", s.dags, "acme/dags")
	s.fails(ExitUsage, "expected the folder", "dags", "sync", s.dags+"/etl.yml", "s3://acme/dags")

	// A dry run says all and does nothing.
	out := s.ok("dags", "sync", s.dags, "s3://acme/dags", "--dry-run", "--delete")
	if !strings.Contains(out, "+ etl.yml (new, ") || !strings.Contains(out, "- old.yml (deleted)") || !strings.Contains(out, "nothing was written") || len(b.objects) != 2 {
		t.Errorf("dry run: %s %v", out, b.objects)
	}
	if out := s.ok("dags", "sync", s.dags, "s3://acme/dags"); !strings.Contains(out, "! old.yml (only in the bucket") || !strings.Contains(out, "1 files uploaded") || string(b.objects["dags/etl.yml"]) != etlFile {
		t.Errorf("first: %s", out)
	}
	if out := s.ok("dags", "sync", s.dags, "s3://acme/dags/"); !strings.Contains(out, "s3://acme/dags is up to date") || !strings.Contains(out, "1 unchanged") {
		t.Errorf("again: %s", out)
	}
	// Problems keep everything as it is.
	s.write("broken.yml", "x:\n  tasks: 7\n")
	s.fails(ExitFailed, "1 of 2 DAG files have problems: nothing was written", "dags", "sync", s.dags, "s3://acme/dags", "--delete")
	if b.objects["dags/broken.yml"] != nil || b.objects["dags/old.yml"] == nil {
		t.Errorf("something was written: %v", b.objects)
	}
	r := s.run("dags", "sync", s.dags, "s3://acme/dags", "--delete", "--force", "-o", "json")
	var res struct {
		Uploaded, Deleted, Unchanged int
		Target                       string
		Files                        []struct{ Path, Action string }
		Problems                     []struct{ File string }
	}
	if err := json.Unmarshal([]byte(r.out), &res); err != nil || r.code != ExitOK {
		t.Fatalf("exit %d, %v: %s%s", r.code, err, r.out, r.err)
	}
	if res.Uploaded != 1 || res.Deleted != 1 || res.Unchanged != 1 || res.Target != "s3://acme/dags" || len(res.Problems) != 1 || len(res.Files) != 3 || b.objects["dags/old.yml"] != nil {
		t.Errorf("forced: %+v", res)
	}
	// An empty folder does not empty the bucket by accident.
	empty := t.TempDir()
	s.fails(ExitFailed, "holds no DAG file", "dags", "sync", empty, "s3://acme/dags", "--delete")
	if b.objects["dags/etl.yml"] == nil {
		t.Error("the bucket was emptied")
	}
}
