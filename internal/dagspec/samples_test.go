package dagspec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

var update = flag.Bool("update", false, "rewrite the golden documents of the sample DAGs")

// TestSamples loads every DAG of the dags folder, without problems, and holds
// their documents against testdata/golden.
func TestSamples(t *testing.T) {
	root, err := filepath.Abs("../../dags")
	if err != nil {
		t.Fatal(err)
	}
	py := NewInterpreter(root)
	defer py.Close()
	files, err := filepath.Glob(filepath.Join(root, "*.yml"))
	if err != nil || len(files) < 6 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	noEnv := Dir{Env: func(string) (string, bool) { return "", false }}
	for _, f := range files {
		res := Load(noEnv, f, Options{BundleRoot: root, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Python: py})
		if err := res.Err(); err != nil {
			t.Errorf("%v", err)
		}
		for _, w := range res.Warnings {
			t.Errorf("warning: %s", w)
		}
		for _, d := range res.DAGs {
			dag, err := airflow.ParseDAG(d.Document)
			if err != nil {
				t.Errorf("%s: %v", d.DagID, err)
				continue
			}
			if dag.IsPausedUponCreation == nil || *dag.IsPausedUponCreation {
				t.Errorf("%s: a sample must be born unpaused", d.DagID)
			}
			canonical, _, err := airflow.CanonicalDAG(d.Document)
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, canonical, "", " "); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			golden := filepath.Join("testdata", "golden", string(d.DagID)+".json")
			if *update {
				if err := os.WriteFile(golden, pretty.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, pretty.Bytes()) {
				t.Errorf("%s differs from %s; go test -run TestSamples -update shows the change in git diff", d.DagID, golden)
			}
		}
	}
}

// TestSourceFiles checks what a DAG says it depends on.
func TestSourceFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "defaults.yml", "default_args: {start_date: 2025-01-01}\n")
	write(t, dir, "team/fns.py", "from team import helper\n\n\ndef go():\n    return helper.x\n")
	write(t, dir, "team/__init__.py", "")
	write(t, dir, "team/helper.py", "x = 1\n")
	write(t, dir, "team/unused.py", "")
	write(t, dir, "team/run.sh", "echo hi\n")
	write(t, dir, "team/doc.md", "# doc\n")
	write(t, dir, "team/d.yml", `
d:
  doc_md_file_path: `+dir+`/team/doc.md
  tasks:
    a: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: run.sh}
    b: {operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: team.fns.go}
`)
	py := NewInterpreter(dir)
	defer py.Close()
	res := Load(Dir{}, filepath.Join(dir, "team/d.yml"), Options{BundleRoot: dir, Now: time.Now(), Python: py})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	dag, err := airflow.ParseDAG(res.DAGs[0].Document)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(dag.Gust.SourceFiles, " ")
	if want := "defaults.yml team/__init__.py team/d.yml team/doc.md team/fns.py team/helper.py team/run.sh"; got != want {
		t.Errorf("source files = %s\nwant           %s", got, want)
	}
	hashes := map[string]string{}
	for _, f := range res.Files {
		hashes[f.Path] = f.SHA256
	}
	for _, f := range dag.Gust.SourceFiles {
		if len(hashes[f]) != 64 {
			t.Errorf("no hash of %s", f)
		}
	}
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
