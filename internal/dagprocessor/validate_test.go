package dagprocessor

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

func TestValidate(t *testing.T) {
	root := tree(t, "a.yml: dag a cron=@daily task=x task=y out=o|s3://one", "bad.yml: problem what, is: wrong", "dup.yml: dag a", "skip.yml: problem no",
		".airflowignore: skip.yml", "warn.yml: warning careful", "clash.yml: dag clash on=o|s3://two", "src.yml: dag s src=none.sql", "sub/deep.yml: dag deep")
	loader := &lineLoader{env: map[string]string{}}
	reports, err := Validate(context.Background(), ValidateConfig{Loader: loader}, []string{root, filepath.Join(root, "sub/deep.yml")})
	if err != nil {
		t.Fatal(err)
	}
	byFile := map[string]FileReport{}
	var order []string
	for _, r := range reports {
		rel, err := filepath.Rel(root, r.File)
		if err != nil {
			t.Fatal(err)
		}
		byFile[rel] = r
		order = append(order, rel)
		for _, p := range append(r.Problems, r.Warnings...) {
			if p.File != r.File || p.Severity == "" {
				t.Errorf("%s: %+v", rel, p)
			}
		}
	}
	if want := []string{"a.yml", "bad.yml", "clash.yml", "dup.yml", "src.yml", "sub/deep.yml", "warn.yml"}; !slices.Equal(order, want) {
		t.Errorf("files %v, want %v", order, want)
	}
	if a := byFile["a.yml"]; !a.OK() || len(a.Dags) != 1 || a.Dags[0].DagID != "a" || a.Dags[0].TaskNum != 3 || a.Dags[0].Schedule != "0 0 * * *" || a.Dags[0].Hash == "" {
		t.Errorf("a.yml: %+v", a)
	}
	for file, text := range map[string]string{"bad.yml": "what, is: wrong", "dup.yml": "already defined in", "src.yml": "none.sql does not exist"} {
		if r := byFile[file]; r.OK() || !strings.Contains(r.Problems[0].Message, text) {
			t.Errorf("%s: %+v", file, r)
		}
	}
	for file, text := range map[string]string{"warn.yml": "careful", "clash.yml": "asset conflict"} {
		if r := byFile[file]; !r.OK() || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0].Message, text) {
			t.Errorf("%s: %+v", file, r)
		}
	}
	doc, err := json.Marshal(byFile["warn.yml"])
	if err != nil || !strings.Contains(string(doc), `"dags":[]`) || !strings.Contains(string(doc), `"problems":[]`) {
		t.Errorf("JSON %s, %v", doc, err)
	}

	var out bytes.Buffer
	if err := WriteGitHub(&out, []FileReport{byFile["bad.yml"], byFile["warn.yml"]}); err != nil {
		t.Fatal(err)
	}
	want := "::error file=" + root + "/bad.yml,line=1::what, is: wrong\n::warning file=" + root + "/warn.yml,line=1::careful\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	if err := annotate(&out, "error", airflow.Problem{File: "a,b:c.yml", Line: 2, Column: 3, Field: "x:y", Message: "100%\nno"}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "::error file=a%2Cb%3Ac.yml,line=2,col=3,title=x%3Ay::100%25%0Ano\n" {
		t.Errorf("got %q", got)
	}
}

func TestValidatePaths(t *testing.T) {
	root := tree(t, "team/a.yml: include common\ndag a", "common: dag c")
	loader := &lineLoader{env: map[string]string{}}
	// Paths of includes are relative to the DAG folder.
	reports, err := Validate(context.Background(), ValidateConfig{Loader: loader, Root: root}, []string{filepath.Join(root, "team")})
	if err != nil || len(reports) != 1 || len(reports[0].Dags) != 2 {
		t.Errorf("%+v, %v", reports, err)
	}
	if _, err := Validate(context.Background(), ValidateConfig{Loader: loader}, []string{filepath.Join(root, "none.yml")}); err == nil {
		t.Error("a path that does not exist was accepted")
	}
	if _, err := Validate(context.Background(), ValidateConfig{Loader: loader}, nil); err == nil {
		t.Error("no path was accepted")
	}
}

func TestReport(t *testing.T) {
	rows := Report([]FileReport{
		{File: "fast.yml", Duration: time.Millisecond, Dags: []DagReport{{DagID: "z", TaskNum: 2}, {DagID: "b", TaskNum: 3}}},
		{File: "slow.yml", Duration: 61*time.Second + 2500*time.Microsecond},
	})
	doc, err := json.Marshal(rows)
	want := `[{"file":"slow.yml","duration":"0:01:01.002500","dag_num":0,"task_num":0,"dags":[]},` +
		`{"file":"fast.yml","duration":"0:00:00.001000","dag_num":2,"task_num":5,"dags":["b","z"]}]`
	if err != nil || string(doc) != want {
		t.Errorf("got %s, want %s (%v)", doc, want, err)
	}
	if got := Timedelta(2 * time.Second); got != "0:00:02" {
		t.Errorf("got %s", got)
	}
}
