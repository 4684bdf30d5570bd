package dagprocessor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
)

// thousand is a rig on SQLite with 1,000 DAG files of ten tasks, settled.
func thousand(t testing.TB) *rig {
	t.Helper()
	driver, err := sqlitekv.Open(filepath.Join(t.TempDir(), "store.db"), sqlitekv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
	r := newRigOn(t, driver)
	past := time.Now().Add(-time.Hour)
	for i := range 1000 {
		name := fmt.Sprintf("team%02d/d%04d.yml", i%20, i)
		line := fmt.Sprintf("dag d%04d cron=@daily src=script.sh", i)
		for k := range 10 {
			line += fmt.Sprintf(" task=t%d", k)
		}
		r.write(name, line)
		if err := os.Chtimes(filepath.Join(r.folder, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	r.write("script.sh", "true")
	return r
}

// TestThousandFilesOnSQLite: what the standalone server starts with.
func TestThousandFilesOnSQLite(t *testing.T) {
	r := thousand(t)
	r.advance(time.Hour)
	cold := r.sync()
	if cold.Parsed != 1000 || cold.Dags != 1000 {
		t.Fatalf("cold: %+v", cold)
	}
	r.sync() // learns that the files have settled
	r.restart()
	warm := r.sync()
	if warm.Parsed != 0 || len(warm.Changed) != 0 || warm.Dags != 1000 || r.p.contents.reads != 0 {
		t.Errorf("warm: %+v, %d files read", warm, r.p.contents.reads)
	}
	dags, _, err := r.store.ListDags(context.Background(), store.ListOptions{})
	if err != nil || len(dags) != 1000 {
		t.Errorf("%d DAGs, %v", len(dags), err)
	}
	start := time.Now()
	again := r.sync()
	t.Logf("1,000 files: cold %v, warm %v, scan without a change %v (%v)", cold.Duration, warm.Duration, time.Since(start), again.Parsed)
	if warm.Duration > 2*time.Second {
		t.Errorf("a warm start took %v: at most 2 s are allowed", warm.Duration)
	}
}

// BenchmarkScanUnchanged is the cost of an event that turns out to mean nothing.
func BenchmarkScanUnchanged(b *testing.B) {
	r := thousand(b)
	r.advance(time.Hour)
	r.sync()
	r.sync()
	for b.Loop() {
		r.sync()
	}
}
