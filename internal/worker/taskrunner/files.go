package taskrunner

import (
	"os"
	"path/filepath"

	"github.com/gustflow/gust/internal/worker"
)

// findFile looks a relative path up beside the DAG file, in template_searchpath
// and at the root of the bundle; the first place is returned if there is none.
func findFile(tc *worker.TaskContext, name string) string {
	name = filepath.FromSlash(name)
	for _, dir := range searchPath(tc) {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return filepath.Join(dagDir(tc), name)
}

// searchPath is where a task's files are: the DAG's folder, template_searchpath
// (relative entries below the bundle), the bundle.
func searchPath(tc *worker.TaskContext) []string {
	var out []string
	if d := dagDir(tc); d != "" {
		out = append(out, d)
	}
	for _, p := range tc.DAG.Gust.TemplateSearchpath {
		if !filepath.IsAbs(p) && tc.BundleDir != "" {
			p = filepath.Join(tc.BundleDir, p)
		}
		out = append(out, p)
	}
	if tc.BundleDir != "" {
		out = append(out, tc.BundleDir)
	}
	return out
}
