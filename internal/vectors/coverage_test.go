package vectors

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"testing"
)

// covered are the folders that tests replay, and by which package.
var covered = map[string]string{
	"scheduling": "internal/scheduler",
	"timetables": "internal/timetable",
	"templates":  "internal/template",
	"dags/yaml":  "internal/dagspec",
	"api":        "internal/restapi",
}

// TestVectorsCoverage prints the folders of vectors that no test replays, so that
// nobody takes silence for agreement.
func TestVectorsCoverage(t *testing.T) {
	root, _ := Root()
	folders, err := themes(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) == 0 {
		t.Fatalf("%s holds no folder of vectors", root)
	}
	for _, f := range folders {
		if by, ok := covered[f]; ok {
			fmt.Printf("vectors: %-14s replayed by %s\n", f, by)
		} else {
			fmt.Printf("vectors: %-14s NOT COVERED by any test\n", f)
		}
	}
}

// themes lists the folders of root that hold vectors; dags is two themes.
func themes(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if e.Name() != "dags" {
			out = append(out, e.Name())
			continue
		}
		for _, sub := range []string{"yaml", "examples"} {
			if _, err := os.Stat(filepath.Join(root, "dags", sub)); err == nil {
				out = append(out, "dags/"+sub)
			}
		}
	}
	sort.Strings(out)
	return out, nil
}
