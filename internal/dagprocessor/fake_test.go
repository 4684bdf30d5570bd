package dagprocessor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// lineLoader loads a small language, one statement a line, so that each test
// says what the file holds:
//
//	dag ID [cron=@daily] [task=NAME] [out=ASSET] [on=ASSET] [paused=false] [src=PATH] …
//	include PATH      (its statements; may be missing)
//	env NAME          (its value becomes the description of the DAGs after it)
//	problem TEXT, warning TEXT, panic TEXT, hang
type lineLoader struct {
	mu      sync.Mutex
	env     map[string]string
	version string
	loads   []string
	// during, if set, is called in the middle of a load.
	during func(path string)
	valid  time.Time
}

func (l *lineLoader) Fingerprint() string { return l.version }

func (l *lineLoader) Inputs(_ context.Context, names []string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, n := range names {
		b.WriteString(l.env[n] + "\n")
	}
	return blob.Hash([]byte(b.String())), nil
}

func (l *lineLoader) Load(ctx context.Context, f LoadRequest) LoadResult {
	l.mu.Lock()
	l.loads = append(l.loads, f.Path)
	during := l.during
	l.mu.Unlock()
	if during != nil {
		during(f.Path)
	}
	r := LoadResult{ValidUntil: l.valid}
	l.statements(ctx, f, string(f.Content), &r, new(string))
	return r
}

func (l *lineLoader) statements(ctx context.Context, f LoadRequest, text string, r *LoadResult, desc *string) {
	for n, line := range strings.Split(text, "\n") {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "":
		case "dag":
			r.DAGs = append(r.DAGs, l.dag(f.Path, rest, *desc))
		case "include":
			b, err := os.ReadFile(filepath.Join(f.Root, rest))
			if errors.Is(err, fs.ErrNotExist) {
				r.Dependencies = append(r.Dependencies, Dependency{Path: rest, Hash: Missing})
				continue
			}
			r.Dependencies = append(r.Dependencies, Dependency{Path: rest, Hash: blob.Hash(b)})
			l.statements(ctx, f, string(b), r, desc)
		case "env":
			l.mu.Lock()
			*desc = l.env[rest]
			l.mu.Unlock()
			r.Inputs = append(r.Inputs, rest)
		case "problem":
			r.Problems = append(r.Problems, airflow.Problem{Line: n + 1, Message: rest})
		case "warning":
			r.Warnings = append(r.Warnings, airflow.Problem{Line: n + 1, Message: rest})
		case "panic":
			panic(rest)
		case "hang":
			<-ctx.Done()
		default:
			r.Problems = append(r.Problems, airflow.Problem{Line: n + 1, Message: "unknown statement " + verb})
		}
	}
}

func (l *lineLoader) dag(path, spec, desc string) LoadedDAG {
	words := strings.Fields(spec)
	id := words[0]
	dag := map[string]any{"dag_id": id, "fileloc": "/elsewhere/" + path, "description": desc, "catchup": false,
		"max_active_runs": 16, "max_active_tasks": 16, "timetable": map[string]any{"__type": "airflow.timetables.simple.NullTimetable", "__var": map[string]any{}}}
	gust := airflow.GustExtension{Producer: "test", SourceFiles: []string{path}}
	var tasks []any
	var on, tags []any
	children := map[string]any{}
	asset := func(spec string) map[string]any {
		switch {
		case strings.HasPrefix(spec, "alias:"):
			return map[string]any{"__type": "asset_alias", "name": spec[6:], "group": "asset"}
		case strings.HasPrefix(spec, "ref:"):
			return map[string]any{"__type": "asset_ref", "name": spec[4:]}
		}
		name, uri, ok := strings.Cut(spec, "|")
		if !ok {
			uri = "x-test://" + name
		}
		return map[string]any{"__type": "asset", "name": name, "uri": uri, "group": "asset", "extra": map[string]any{}}
	}
	for _, w := range words[1:] {
		key, v, _ := strings.Cut(w, "=")
		switch key {
		case "cron":
			dag["timetable"] = map[string]any{"__type": "airflow.timetables.trigger.CronTriggerTimetable",
				"__var": map[string]any{"expression": strings.ReplaceAll(v, "_", " "), "timezone": "UTC", "interval": 0.0, "run_immediately": false}}
		case "task":
			name, owner, _ := strings.Cut(v, ":")
			task := map[string]any{"task_id": name, "task_type": "EmptyOperator", "_task_module": "airflow.providers.standard.operators.empty", "_is_empty": true}
			if owner != "" {
				task["owner"] = owner
			}
			tasks = append(tasks, map[string]any{"__type": "operator", "__var": task})
			children[name] = []any{"operator", name}
		case "out":
			a := asset(v)
			kind := a["__type"]
			delete(a, "__type")
			task := map[string]any{"task_id": "out", "task_type": "EmptyOperator", "_task_module": "m", "outlets": []any{map[string]any{"__type": kind, "__var": a}}}
			tasks = append(tasks, map[string]any{"__type": "operator", "__var": task})
			children["out"] = []any{"operator", "out"}
		case "on":
			on = append(on, asset(v))
		case "tag":
			tags = append(tags, v)
		case "paused":
			dag["is_paused_upon_creation"] = v == "true"
		case "src":
			gust.SourceFiles = append(gust.SourceFiles, v)
		case "broken":
			dag["tasks"] = 7
		}
	}
	if on != nil {
		dag["timetable"] = map[string]any{"__type": "airflow.timetables.simple.AssetTriggeredTimetable",
			"__var": map[string]any{"asset_condition": map[string]any{"__type": "asset_all", "objects": on}}}
	}
	if _, set := dag["tasks"]; !set {
		dag["tasks"] = tasks
	}
	dag["tags"] = tags
	dag["task_group"] = map[string]any{"_group_id": nil, "children": children}
	doc, err := json.Marshal(map[string]any{"__version": 3, "dag": dag, "gust": gust})
	if err != nil {
		panic(err)
	}
	return LoadedDAG{DagID: airflow.DagID(id), Document: doc}
}

func (l *lineLoader) loaded() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.loads
	l.loads = nil
	sort.Strings(out)
	return out
}

func (l *lineLoader) setEnv(k, v string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.env[k] = v
}

// rig is a DAG folder with everything around it.
type rig struct {
	t      testing.TB
	folder string
	cfg    Config
	store  *store.Store
	loader *lineLoader
	p      *Processor

	mu      sync.Mutex
	offset  time.Duration // added to the real clock
	changed [][]airflow.DagID
	next    map[airflow.DagID]int // calls of NextDates
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	return newRigOn(t, memkv.New(memkv.Options{}), change...)
}

func newRigOn(t testing.TB, driver kv.Driver, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, folder: filepath.Join(t.TempDir(), "dags"), next: map[airflow.DagID]int{}}
	if err := os.Mkdir(r.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	blobs, err := fileblob.Open(filepath.Join(home, "blobs"), fileblob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bundles, err := bundle.New(blobs, filepath.Join(home, "bundles"), bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.store = store.New(driver, nil)
	r.loader = &lineLoader{env: map[string]string{}, version: "1"}
	r.cfg = Config{
		Folder: r.folder, CacheFile: filepath.Join(home, "cache.json"), Store: r.store, Bundles: bundles, Loader: r.loader,
		Now: r.clock, Log: slog.New(slog.DiscardHandler),
		OnChange: func(ids []airflow.DagID) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changed = append(r.changed, ids)
		},
		NextDates: func(_ context.Context, m *airflow.DagModel, dag *airflow.DAG) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.next[m.DagID]++
			at := time.Date(2030, 1, 1, 0, 0, r.next[m.DagID], 0, time.UTC)
			m.NextDagRunRunAfter = &at
			return nil
		},
	}
	for _, c := range change {
		c(&r.cfg)
	}
	r.restart()
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.offset)
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset += d
}

// restart makes a processor as a new process would.
func (r *rig) restart() {
	r.t.Helper()
	p, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.p = p
}

func (r *rig) write(path string, lines ...string) {
	r.t.Helper()
	name := filepath.Join(r.folder, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) remove(path string) {
	r.t.Helper()
	if err := os.RemoveAll(filepath.Join(r.folder, path)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	if err := os.Rename(filepath.Join(r.folder, from), filepath.Join(r.folder, to)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sync() Summary {
	r.t.Helper()
	sum, err := r.p.Sync(context.Background())
	if err != nil {
		r.t.Fatalf("Sync: %v", err)
	}
	return sum
}

func (r *rig) dag(id airflow.DagID) airflow.DagModel {
	r.t.Helper()
	m, err := r.store.GetDag(context.Background(), id)
	if err != nil {
		r.t.Fatalf("DAG %s: %v", id, err)
	}
	return m
}

func (r *rig) noDag(id airflow.DagID) {
	r.t.Helper()
	if _, err := r.store.GetDag(context.Background(), id); !errors.Is(err, airflow.ErrNotFound) {
		r.t.Errorf("DAG %s: want ErrNotFound, got %v", id, err)
	}
}

// errorsByFile returns the import errors in the Store.
func (r *rig) importErrors() map[string]airflow.ImportError {
	r.t.Helper()
	es, err := r.store.ListImportErrors(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]airflow.ImportError{}
	for _, e := range es {
		out[e.Filename] = e
	}
	return out
}

func (r *rig) noErrors() {
	r.t.Helper()
	if es := r.importErrors(); len(es) > 0 {
		r.t.Errorf("import errors: %v", es)
	}
}

func (r *rig) wantError(file string, texts ...string) airflow.ImportError {
	r.t.Helper()
	e, ok := r.importErrors()[file]
	if !ok {
		r.t.Fatalf("no import error of %s; there are %v", file, r.importErrors())
	}
	all := fmt.Sprint(e.Problems)
	for _, text := range texts {
		if !strings.Contains(all, text) {
			r.t.Errorf("the import error of %s says %q, want %q in it", file, all, text)
		}
	}
	for _, p := range e.Problems {
		if p.File == "" || p.Severity == "" {
			r.t.Errorf("problem without file or severity: %+v", p)
		}
	}
	return e
}

// run records a run of a DAG on its latest version.
func (r *rig) run(id airflow.DagID, runID airflow.RunID) {
	r.t.Helper()
	m := r.dag(id)
	run := airflow.DagRun{DagID: id, RunID: runID, State: airflow.RunRunning, RunAfter: r.clock(), DagVersion: m.LatestVersion, DagHash: m.LatestHash, BundleHash: m.BundleHash}
	if err := r.store.CreateRun(context.Background(), run); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) versions(id airflow.DagID) []airflow.DagVersion {
	r.t.Helper()
	vs, err := r.store.ListDagVersions(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return vs
}

func (r *rig) asset(name, uri string) store.AssetRecord {
	r.t.Helper()
	a, err := r.store.GetAsset(context.Background(), store.AssetKey{Name: name, URI: uri})
	if err != nil {
		r.t.Fatalf("asset %s: %v", name, err)
	}
	return a
}

func (r *rig) wantLoaded(want ...string) {
	r.t.Helper()
	if got := r.loader.loaded(); !slices.Equal(got, want) {
		r.t.Errorf("loaded %v, want %v", got, want)
	}
}
