package yamlloader_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

type rig struct {
	t      *testing.T
	folder string
	env    map[string]string
	store  *store.Store
	p      *dagprocessor.Processor
	now    time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, folder: t.TempDir(), env: map[string]string{}, store: store.New(memkv.New(memkv.Options{}), nil), now: time.Now()}
	home := t.TempDir()
	blobs, err := fileblob.Open(filepath.Join(home, "blobs"), fileblob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bundles, err := bundle.New(blobs, filepath.Join(home, "bundles"), bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return r.now }
	r.p, err = dagprocessor.New(dagprocessor.Config{
		Folder: r.folder, Store: r.store, Bundles: bundles, Log: slog.New(slog.DiscardHandler), Now: clock,
		Loader: yamlloader.New(yamlloader.Config{Now: clock, Source: dagspec.Dir{Env: func(k string) (string, bool) { v, ok := r.env[k]; return v, ok }}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) write(path, content string) {
	r.t.Helper()
	name := filepath.Join(r.folder, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sync() dagprocessor.Summary {
	r.t.Helper()
	sum, err := r.p.Sync(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return sum
}

func (r *rig) dag(id airflow.DagID) (airflow.DagModel, *airflow.DAG) {
	r.t.Helper()
	m, err := r.store.GetDag(context.Background(), id)
	if err != nil {
		es, _ := r.store.ListImportErrors(context.Background())
		r.t.Fatalf("DAG %s: %v; import errors %+v", id, err, es)
	}
	doc, err := r.store.GetDocument(context.Background(), m.LatestHash)
	if err != nil {
		r.t.Fatal(err)
	}
	dag, err := airflow.ParseDAG(doc)
	if err != nil {
		r.t.Fatal(err)
	}
	return m, dag
}

const etl = `
etl:
  description: $TEXT
  schedule: "0 3 * * *"
  start_date: 2025-01-01
  tasks:
    - task_id: one
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: run.sh
    - task_id: two
      operator: airflow.providers.standard.operators.empty.EmptyOperator
      dependencies: [one]
`

func TestYAML(t *testing.T) {
	r := newRig(t)
	r.env["TEXT"] = "first"
	r.write("team/etl.yml", etl)
	r.write("team/run.sh", "echo 1")
	r.sync()
	m, dag := r.dag("etl")
	if m.TimetableSummary != "0 3 * * *" || m.Description != "first" || len(dag.Tasks) != 2 || m.RelativeFileloc != "team/etl.yml" {
		t.Errorf("%+v", m)
	}
	if !slices.Contains(dag.Gust.SourceFiles, "team/run.sh") {
		t.Errorf("source files %v", dag.Gust.SourceFiles)
	}
	if sum := r.sync(); sum.Parsed != 0 {
		t.Errorf("an unchanged file was parsed again: %+v", sum)
	}
	r.write("team/run.sh", "echo 2")
	r.sync()
	edited, _ := r.dag("etl")
	if edited.BundleHash == m.BundleHash || edited.LatestHash != m.LatestHash {
		t.Errorf("an edited script: %+v", edited)
	}
	r.env["TEXT"] = "second"
	r.sync()
	if m, _ := r.dag("etl"); m.Description != "second" {
		t.Errorf("an environment variable changed: %+v", m)
	}
	// defaults.yml, nearest first, also one that appears later.
	r.write("defaults.yml", "default_args: {owner: root}\n")
	r.sync()
	if m, _ := r.dag("etl"); !slices.Equal(m.Owners, []string{"root"}) {
		t.Errorf("owners %v", m.Owners)
	}
	r.write("team/defaults.yml", "default_args: {owner: team}\n")
	r.sync()
	if m, _ := r.dag("etl"); !slices.Equal(m.Owners, []string{"team"}) {
		t.Errorf("owners %v", m.Owners)
	}
	if err := os.Remove(filepath.Join(r.folder, "team/defaults.yml")); err != nil {
		t.Fatal(err)
	}
	r.sync()
	if m, _ := r.dag("etl"); !slices.Equal(m.Owners, []string{"root"}) {
		t.Errorf("owners %v", m.Owners)
	}
	es, err := r.store.ListImportErrors(context.Background())
	if err != nil || len(es) > 0 {
		t.Errorf("import errors %+v, %v", es, err)
	}
}

func TestBadYAMLHurtsNoOther(t *testing.T) {
	r := newRig(t)
	r.write("good.yml", etl)
	bad := []string{"", "a: [", "x: {tasks: 7}", "- 1", "a: &a [*a]", "\x00", "a:\n\t- b", "d:\n  schedule: nonsense\n  start_date: 2025-01-01\n  tasks: []", "x: {start_date: 2025-01-01, tasks: [{task_id: t}]}"}
	for i, b := range bad {
		r.write(fmt.Sprintf("bad%d.yml", i), b)
	}
	r.sync()
	r.dag("etl")
	es, err := r.store.ListImportErrors(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(es) != len(bad) {
		var files []string
		for _, e := range es {
			files = append(files, e.Filename)
		}
		t.Errorf("%d import errors, want %d: %v", len(es), len(bad), files)
	}
	for _, e := range es {
		for _, p := range e.Problems {
			if p.File != e.Filename || p.Message == "" {
				t.Errorf("%s: %+v", e.Filename, p)
			}
		}
	}
}

func TestRelativeDatesAreReadAgain(t *testing.T) {
	r := newRig(t)
	r.now = time.Date(2026, 5, 1, 23, 50, 0, 0, time.UTC)
	r.write("a.yml", strings.Replace(etl, "2025-01-01", "1 day", 1))
	r.sync()
	m, dag := r.dag("etl")
	if dag.StartDate == nil || !dag.StartDate.Equal(time.Date(2026, 4, 30, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("start date %v", dag.StartDate)
	}
	r.now = r.now.Add(5 * time.Minute)
	if sum := r.sync(); sum.Parsed != 0 {
		t.Error("parsed before the day ended")
	}
	r.now = r.now.Add(6 * time.Minute)
	r.sync()
	if after, _ := r.dag("etl"); after.LatestHash == m.LatestHash {
		t.Error("the start date did not move with the day")
	}
}

func TestValidateYAML(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "bad.yml")
	if err := os.WriteFile(name, []byte(etl+"\nother:\n  start_date: 2025-01-01\n  tasks:\n    - task_id: t\n      trigger_rule: no_such_rule\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	reports, err := dagprocessor.Validate(context.Background(), dagprocessor.ValidateConfig{Loader: yamlloader.New(yamlloader.Config{})}, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	if len(reports) != 1 || len(reports[0].Dags) != 1 || reports[0].OK() || reports[0].Problems[0].Line == 0 || reports[0].Problems[0].File != name {
		t.Errorf("%+v", reports)
	}
	if _, err := dagprocessor.Validate(context.Background(), dagprocessor.ValidateConfig{Loader: yamlloader.New(yamlloader.Config{})}, []string{filepath.Join(root, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want ErrNotExist, got %v", err)
	}
}

// TestConfigurationFingerprint: parses are kept only for the configuration they
// were made with.
func TestConfigurationFingerprint(t *testing.T) {
	seen := map[string]dagspec.Config{}
	for _, c := range []dagspec.Config{
		{}, {MaxActiveRuns: 1}, {MaxConsecutiveFailedDagRuns: 1}, {DefaultTimezone: "Europe/Berlin"}, {CreateCronDataIntervals: true}, {CreateDeltaDataIntervals: true},
		{TaskRetries: 1}, {TaskRetryDelay: time.Second}, {TaskWeightRule: "upstream"}, {TaskExecutionTimeout: time.Second}, {Owner: "me"}, {Queue: "q"},
		{Deferrable: true}, {SensorTimeout: time.Second}, {NoEmailOnRetry: true}, {NoEmailOnFailure: true},
	} {
		f := yamlloader.New(yamlloader.Config{Options: dagspec.Options{Config: c}}).Fingerprint()
		if other, dup := seen[f]; dup {
			t.Errorf("%+v and %+v have the same fingerprint", c, other)
		}
		seen[f] = c
	}
}
