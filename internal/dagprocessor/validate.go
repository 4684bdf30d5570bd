package dagprocessor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// ValidateConfig says how to validate. Loader is required; every other zero
// value is a good default.
type ValidateConfig struct {
	Loader Loader
	Scan   ScanOptions
	// Root is the DAG folder that paths, defaults and callables are relative to;
	// default the validated folder, or the folder of a validated file.
	Root        string
	LoadTimeout time.Duration // default 30 s
	Parallelism int           // default GOMAXPROCS
	Log         *slog.Logger  // default slog.Default()
}

// FileReport is what is to say about one DAG file.
type FileReport struct {
	// File is the path as given, or below the folder given.
	File     string            `json:"file"`
	Dags     []DagReport       `json:"dags"`
	Warnings []airflow.Problem `json:"warnings"`
	Problems []airflow.Problem `json:"problems"`
	Duration time.Duration     `json:"-"` // of loading and checking
}

// DagReport is one DAG of a file.
type DagReport struct {
	DagID       airflow.DagID `json:"dag_id"`
	DisplayName string        `json:"dag_display_name"`
	Schedule    string        `json:"timetable_summary"`
	TaskNum     int           `json:"task_num"`
	Hash        string        `json:"dag_hash"`
}

// OK reports whether the file has no problems; warnings do not count.
func (r FileReport) OK() bool { return len(r.Problems) == 0 }

// Validate loads files and all DAG files of folders and reports what is wrong,
// by path. It needs no store and changes nothing. What two files cannot both
// have, a dag_id, is a problem of the later one; assets that cannot both be
// active are warnings. An error means that a path cannot be read.
func Validate(ctx context.Context, c ValidateConfig, paths []string) ([]FileReport, error) {
	c.Scan = c.Scan.withDefaults()
	setDefault(&c.LoadTimeout, c.LoadTimeout == 0, 30*time.Second)
	setDefault(&c.Parallelism, c.Parallelism == 0, runtime.GOMAXPROCS(0))
	setDefault(&c.Log, c.Log == nil, slog.Default())
	if len(paths) == 0 {
		return nil, errors.New("expected at least one DAG file or folder")
	}
	targets, reports, err := validationTargets(ctx, c, paths)
	if err != nil {
		return nil, err
	}
	parsed := make([]*parsedFile, len(targets))
	forEach(len(targets), c.Parallelism, func(i int) {
		t := targets[i]
		ps := &parser{src: Folder(t.root), loader: c.Loader, opts: c.Scan, timeout: c.LoadTimeout, now: time.Now, log: c.Log.Error}
		parsed[i] = ps.parse(ctx, t.rel)
		parsed[i].missingSources(t.root)
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	owner := map[airflow.DagID]string{}
	assets := newAssetIndex(nil)
	for i, f := range parsed {
		shown := targets[i].shown
		r := FileReport{File: shown, Dags: []DagReport{}, Duration: f.state.Duration}
		if f.err != nil {
			f.problem("%v", f.err)
		}
		for _, d := range f.dags {
			id := d.dag.DagID
			if other, taken := owner[id]; taken {
				f.problems = append(f.problems, airflow.Problem{File: f.path, Field: string(id), Severity: "error", Class: "AirflowDagDuplicatedIdException",
					Message: fmt.Sprintf("DAG %q of %s is already defined in %s: give one of them another dag_id", id, shown, other)})
				continue
			}
			owner[id] = shown
			r.Dags = append(r.Dags, DagReport{DagID: id, DisplayName: d.dag.DagDisplayName, Schedule: d.summary, TaskNum: len(d.dag.Tasks), Hash: d.hash})
			f.warnings = append(f.warnings, assets.claims(f.path, d.dag)...)
		}
		r.Warnings, r.Problems = shownAs(f.path, shown, f.warnings), shownAs(f.path, shown, f.problems)
		reports = append(reports, r)
	}
	sort.SliceStable(reports, func(i, j int) bool { return reports[i].File < reports[j].File })
	return reports, nil
}

type target struct{ root, rel, shown string }

func validationTargets(ctx context.Context, c ValidateConfig, paths []string) ([]target, []FileReport, error) {
	var targets []target
	var reports []FileReport
	seen := map[string]bool{}
	add := func(root, rel, shown string) {
		if abs := filepath.Join(root, rel); !seen[abs] {
			seen[abs] = true
			targets = append(targets, target{root, rel, filepath.ToSlash(shown)})
		}
	}
	for _, given := range paths {
		abs, err := filepath.Abs(given)
		if err != nil {
			return nil, nil, err
		}
		fi, err := os.Stat(abs)
		if err != nil {
			return nil, nil, err
		}
		root := abs
		if !fi.IsDir() {
			root = filepath.Dir(abs)
		}
		if c.Root != "" {
			top, err := filepath.Abs(c.Root)
			if err != nil {
				return nil, nil, err
			}
			if rel, err := filepath.Rel(top, abs); err == nil && filepath.IsLocal(rel) {
				root = top
			}
		}
		below, err := filepath.Rel(root, abs)
		if err != nil {
			return nil, nil, err
		}
		if !fi.IsDir() {
			add(root, filepath.ToSlash(below), given)
			continue
		}
		out, err := scan(ctx, Folder(abs), c.Scan, func(string) {})
		if err != nil {
			return nil, nil, err
		}
		for _, f := range out.files {
			add(root, filepath.ToSlash(filepath.Join(below, f)), filepath.Join(given, f))
		}
		if len(out.problems) > 0 {
			r := FileReport{File: filepath.ToSlash(given), Dags: []DagReport{}, Warnings: []airflow.Problem{}}
			for _, m := range out.problems {
				r.Problems = append(r.Problems, airflow.Problem{File: r.File, Message: m, Severity: "error"})
			}
			reports = append(reports, r)
		}
	}
	return targets, reports, nil
}

// shownAs replaces the path within the root by the one the user knows.
func shownAs(path, shown string, ps []airflow.Problem) []airflow.Problem {
	out := append([]airflow.Problem{}, ps...)
	for i := range out {
		if out[i].File == path {
			out[i].File = shown
		}
	}
	return out
}

// missingSources reports source files that no snapshot could take.
func (f *parsedFile) missingSources(root string) {
	for _, d := range f.dags {
		for _, s := range f.sources(d.dag) {
			fi, err := os.Stat(filepath.Join(root, filepath.FromSlash(s)))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				f.invalid(string(d.dag.DagID), fmt.Errorf("the file %s does not exist: the DAG refers to it", s))
			case err != nil:
				f.invalid(string(d.dag.DagID), fmt.Errorf("the file %s cannot be read: %w", s, err))
			case !fi.Mode().IsRegular():
				f.invalid(string(d.dag.DagID), fmt.Errorf("%s is not a regular file", s))
			}
		}
	}
}

// claims records the assets of a DAG and warns of those that cannot be active
// beside assets of DAGs before it.
func (x *assetIndex) claims(path string, dag *airflow.DAG) []airflow.Problem {
	var warnings []airflow.Problem
	uses := usesOf(dag)
	for _, k := range sortedAssets(uses) {
		u := uses[k]
		if _, known := x.records[k]; known || !IsAsset(k) || !u.scheduled && len(u.producers) == 0 {
			continue
		}
		names, uris := map[string]store.AssetKey{}, map[string]store.AssetKey{}
		for _, other := range x.byName[k.Name] {
			names[k.Name] = other
		}
		for _, other := range x.byURI[k.URI] {
			uris[k.URI] = other
		}
		if reason := x.conflict(k, names, uris); reason != "" {
			warnings = append(warnings, airflow.Problem{File: path, Field: string(dag.DagID), Severity: "warning", Message: fmt.Sprintf("asset conflict: %s %q: %s", "asset", k.Name, reason)})
			continue
		}
		x.put(store.AssetRecord{Asset: u.asset})
	}
	return warnings
}

// WriteGitHub writes problems and warnings as workflow commands, which GitHub
// shows as annotations at their lines.
func WriteGitHub(w io.Writer, reports []FileReport) error {
	for _, r := range reports {
		for _, p := range r.Problems {
			if err := annotate(w, "error", p); err != nil {
				return err
			}
		}
		for _, p := range r.Warnings {
			if err := annotate(w, "warning", p); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	annotationText = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	annotationProp = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func annotate(w io.Writer, kind string, p airflow.Problem) error {
	props := "file=" + annotationProp.Replace(p.File)
	if p.Line > 0 {
		props += fmt.Sprintf(",line=%d", p.Line)
	}
	if p.Column > 0 {
		props += fmt.Sprintf(",col=%d", p.Column)
	}
	if p.Field != "" {
		props += ",title=" + annotationProp.Replace(p.Field)
	}
	_, err := fmt.Fprintf(w, "::%s %s::%s\n", kind, props, annotationText.Replace(p.Message))
	return err
}

// FileStats is a row of `dags report`: what a file costs to load.
type FileStats struct {
	File     string
	Duration time.Duration
	DagNum   int
	TaskNum  int
	Dags     []airflow.DagID // by id
}

// MarshalJSON writes Airflow's names; the duration as Airflow shows a timedelta.
func (s FileStats) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		File     string          `json:"file"`
		Duration string          `json:"duration"`
		DagNum   int             `json:"dag_num"`
		TaskNum  int             `json:"task_num"`
		Dags     []airflow.DagID `json:"dags"`
	}{s.File, Timedelta(s.Duration), s.DagNum, s.TaskNum, s.Dags})
}

// Timedelta renders a duration of less than a day as Python does: 0:00:01.002300.
func Timedelta(d time.Duration) string {
	us := d.Microseconds()
	s := fmt.Sprintf("%d:%02d:%02d", us/3_600_000_000, us/60_000_000%60, us/1_000_000%60)
	if us %= 1_000_000; us != 0 {
		s += fmt.Sprintf(".%06d", us)
	}
	return s
}

// Report returns the rows of `dags report`, the slowest file first.
func Report(reports []FileReport) []FileStats {
	out := make([]FileStats, 0, len(reports))
	for _, r := range reports {
		s := FileStats{File: r.File, Duration: r.Duration, DagNum: len(r.Dags), Dags: []airflow.DagID{}}
		for _, d := range r.Dags {
			s.TaskNum += d.TaskNum
			s.Dags = append(s.Dags, d.DagID)
		}
		sort.Slice(s.Dags, func(i, j int) bool { return s.Dags[i] < s.Dags[j] })
		out = append(out, s)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Duration > out[j].Duration })
	return out
}
