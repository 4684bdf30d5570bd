// Package vectors finds the recorded decisions of a real Airflow that the
// vector tests replay. It is imported by tests only.
package vectors

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// EnvDir names the environment variable that replaces the committed vectors
// with another folder of the same shape (scheduling, timetables, templates,
// dags, api), so that the semantics are checked on cases never seen before.
const EnvDir = "GUST_VECTORS"

// Root returns the folder that holds the vector themes and whether it was
// chosen through EnvDir.
func Root() (dir string, overridden bool) {
	if d := os.Getenv(EnvDir); d != "" {
		return d, true
	}
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "testdata", "vectors"), false
}

// Dir returns the folder of one theme. A theme missing from the committed
// vectors fails the test; a theme missing from a folder chosen through EnvDir
// skips it, because such a folder may cover only some themes (the skip says so).
func Dir(t testing.TB, sub string) string {
	t.Helper()
	root, overridden := Root()
	dir := filepath.Join(root, sub)
	if _, err := os.Stat(dir); err != nil {
		if overridden {
			t.Skipf("%s=%s has no %q folder: not covered there", EnvDir, root, sub)
		}
		t.Fatalf("vectors: %v", err)
	}
	return dir
}
