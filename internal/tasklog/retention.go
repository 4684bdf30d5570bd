package tasklog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Removed says what a deletion removed, or would remove.
type Removed struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Filter says which logs DeleteBefore leaves alone.
type Filter struct {
	Dag      airflow.DagID   // only this DAG's are looked at, if not ""
	KeepDags []airflow.DagID // all logs of these stay
	// KeepRuns are runs whose logs stay: unfinished ones may be written to.
	KeepRuns map[airflow.DagID][]airflow.RunID
}

// DeleteBefore removes the logs last written before cutoff, and folders that
// become empty. With dryRun nothing is removed. Files that are not logs stay.
func (l *Logs) DeleteBefore(ctx context.Context, cutoff time.Time, f Filter, dryRun bool) (Removed, error) {
	root := l.root
	if f.Dag != "" {
		root = l.dagDir(f.Dag)
	}
	skip := map[string]bool{}
	for _, d := range f.KeepDags {
		skip[l.dagDir(d)] = true
	}
	for d, runs := range f.KeepRuns {
		for _, r := range runs {
			skip[l.runDir(d, r)] = true
		}
	}
	return l.remove(ctx, root, dryRun, skip, func(i fs.FileInfo) bool { return i.ModTime().Before(cutoff) })
}

// DeleteRun removes all logs of a run.
func (l *Logs) DeleteRun(ctx context.Context, dag airflow.DagID, run airflow.RunID, dryRun bool) (Removed, error) {
	return l.remove(ctx, l.runDir(dag, run), dryRun, nil, func(fs.FileInfo) bool { return true })
}

// DeleteDag removes all logs of a DAG.
func (l *Logs) DeleteDag(ctx context.Context, dag airflow.DagID, dryRun bool) (Removed, error) {
	return l.remove(ctx, l.dagDir(dag), dryRun, nil, func(fs.FileInfo) bool { return true })
}

func (l *Logs) remove(ctx context.Context, root string, dryRun bool, skip map[string]bool, old func(fs.FileInfo) bool) (Removed, error) {
	var r Removed
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() {
			if skip[path] {
				return fs.SkipDir
			}
			dirs = append(dirs, path)
			return nil
		}
		if !strings.HasSuffix(d.Name(), ".log") || !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil || !old(info) {
			return nil
		}
		if !dryRun {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		r.Files++
		r.Bytes += info.Size()
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("delete logs: %w", err)
	}
	if !dryRun {
		// Deepest first; a folder that is not empty stays.
		for i := len(dirs) - 1; i >= 0; i-- {
			if dirs[i] != l.root {
				_ = os.Remove(dirs[i])
			}
		}
	}
	return r, nil
}
