package dagspec

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/vectors"
)

// vecDir lays out the folder that the vectors' VEC_DIR names.
func vecDir(t testing.TB, yamlDir string) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "sql"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "docs.md"), []byte("# From a file\n"), 0o644))
	must(filepath.WalkDir(yamlDir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "facts.json" {
			return err
		}
		rel, err := filepath.Rel(yamlDir, p)
		must(err)
		if strings.Contains(rel, "/") {
			rel = "cases/" + rel
		}
		b, err := os.ReadFile(p)
		must(err)
		must(os.MkdirAll(filepath.Dir(filepath.Join(dir, rel)), 0o755))
		return os.WriteFile(filepath.Join(dir, rel), b, 0o644)
	}))
	return dir
}

func vecSource(dir string) Dir {
	env := map[string]string{"VEC_DIR": dir, "VEC_REGION": "eu-west-1", "AIRFLOW_VAR_VEC_CMD": "echo from variable"}
	return Dir{Env: func(n string) (string, bool) { v, ok := env[n]; return v, ok }}
}

type caseFacts struct {
	Case  string           `json:"case"`
	Main  string           `json:"main"`
	DAGs  []map[string]any `json:"dags"`
	Error *struct {
		Class   string `json:"class"`
		Message string `json:"message"`
	} `json:"error"`
	Warnings []string `json:"warnings"`
}

// knownCaseFields guards against facts of a new kind that the test would ignore.
var knownCaseFields = map[string]bool{"case": true, "main": true, "dags": true, "error": true, "warnings": true, "files": true}

func TestVectorsDagsYaml(t *testing.T) {
	yamlDir := filepath.Join(vectors.Dir(t, "dags"), "yaml")
	dir := vecDir(t, yamlDir)
	py := NewInterpreter(dir)
	defer py.Close()
	entries, err := os.ReadDir(yamlDir)
	if err != nil {
		t.Skipf("no yaml vectors: %v", err)
	}
	passed, total := 0, 0
	for _, e := range entries {
		if !e.IsDir() {
			if !strings.HasSuffix(e.Name(), ".py") {
				t.Logf("not covered: %s", e.Name())
			}
			continue
		}
		total++
		ok := t.Run(e.Name(), func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(yamlDir, e.Name(), "facts.json"))
			if err != nil {
				t.Fatal(err)
			}
			var fields map[string]json.RawMessage
			var want caseFacts
			if json.Unmarshal(b, &fields) != nil || json.Unmarshal(b, &want) != nil {
				t.Fatal("facts.json is not of the expected shape")
			}
			for f := range fields {
				if !knownCaseFields[f] {
					t.Fatalf("facts have a field %q that this test does not know", f)
				}
			}
			caseDir := filepath.Join(dir, "cases", e.Name())
			res := Load(vecSource(dir), filepath.Join(caseDir, want.Main), Options{BundleRoot: dir, DefaultsRoot: caseDir, Now: time.Now(), Strict: true, Python: py})
			compareCase(t, res, want, dir)
		})
		if ok {
			passed++
		}
	}
	t.Logf("dags/yaml: %d passed, 0 excluded, %d failed of %d", passed, total-passed, total)
}

func compareCase(t *testing.T, res *Result, want caseFacts, dir string) {
	if want.Error != nil {
		if len(res.Problems) == 0 {
			t.Fatalf("loaded, want %s: %s", want.Error.Class, want.Error.Message)
		}
		p := res.Problems[0]
		msg, _, _ := strings.Cut(strings.ReplaceAll(p.Message, dir, "$VEC_DIR"), "\n")
		if strings.Contains(p.Message, hintMark) {
			head, _, _ := strings.Cut(strings.ReplaceAll(p.Message, dir, "$VEC_DIR"), hintMark)
			msg, _, _ = strings.Cut(head, "\n")
		}
		if rest, ok := strings.CutPrefix(want.Error.Message, "(\""); ok {
			// attrs' errors are tuples whose other members hold memory addresses
			want.Error.Message, _, _ = strings.Cut(rest, "\", Attribute(")
		}
		if p.Class != want.Error.Class || msg != want.Error.Message {
			t.Errorf("error = %s: %s\nwant    %s: %s", p.Class, msg, want.Error.Class, want.Error.Message)
		}
		if p.File == "" || p.Line == 0 || p.Column == 0 {
			t.Errorf("the error has no place: %+v", p)
		}
		return
	}
	if len(res.Problems) > 0 && !serializeErrors(want) {
		t.Fatalf("problems: %v", res.Err())
	}
	compareWarnings(t, res.Warnings, want.Warnings)
	if serializeErrors(want) {
		return
	}
	if len(res.DAGs) != len(want.DAGs) {
		t.Fatalf("%d DAGs, want %d", len(res.DAGs), len(want.DAGs))
	}
	for i, d := range res.DAGs {
		got, err := factsOf(d.Document, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []map[string]any{got, want.DAGs[i]} {
			for _, x := range f["tasks"].([]any) {
				// These classes build template_fields from a set: Python leaves the order open.
				if t := x.(map[string]any); strings.Contains(t["task_type"].(string), "Virtualenv") || strings.Contains(t["task_type"].(string), "External") {
					t["template_fields"] = sorted(t["template_fields"].([]any))
				}
			}
		}
		var diffs []string
		diff(string(d.DagID), got, want.DAGs[i], &diffs)
		for _, x := range diffs {
			t.Error(x)
		}
	}
}

// serializeErrors reports whether a DAG of the case loads but cannot be
// serialized: Airflow shows that as an import error, and so does Gust.
func serializeErrors(want caseFacts) bool {
	for _, d := range want.DAGs {
		if d["serialize_error"] != nil {
			return true
		}
	}
	return false
}

// compareWarnings demands every warning class of Airflow, and that Gust gives
// Python-class warnings only where Airflow does.
func compareWarnings(t *testing.T, got []airflow.Problem, want []string) {
	have, optional := map[string]bool{}, map[string]bool{}
	for _, w := range got {
		if w.Class != "" {
			have[strings.TrimPrefix(w.Class, "builtins.")+": "+w.Message] = true
			if strings.HasPrefix(w.Class, "builtins.") {
				optional[strings.TrimPrefix(w.Class, "builtins.")+": "+w.Message] = true // Python's default filters may hide it
			}
		}
	}
	wanted := map[string]bool{}
	for _, w := range want {
		w = strings.TrimPrefix(w, "builtins.")
		wanted[w] = true
		if !have[w] {
			t.Errorf("warning is missing: %s", w)
		}
	}
	for w := range have {
		if !wanted[w] && !optional[w] {
			t.Errorf("warning that Airflow does not give: %s", w)
		}
	}
}

// diff lists the differences between two JSON values.
func diff(at string, got, want any, out *[]string) {
	if len(*out) > 12 {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		if c, ok := w["$clock"]; ok && len(w) == 1 {
			_ = c // computed from the time of parsing
			return
		}
		g, ok := got.(map[string]any)
		if !ok {
			*out = append(*out, fmt.Sprintf("%s = %s, want %s", at, short(got), short(want)))
			return
		}
		for _, k := range sortedUnion(g, w) {
			gv, hasG := g[k]
			wv, hasW := w[k]
			if !hasG || !hasW {
				*out = append(*out, fmt.Sprintf("%s.%s = %s, want %s", at, k, short(gv), short(wv)))
				continue
			}
			diff(at+"."+k, gv, wv, out)
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			*out = append(*out, fmt.Sprintf("%s = %s, want %s", at, short(got), short(want)))
			return
		}
		for i := range w {
			diff(fmt.Sprintf("%s[%d]", at, i), g[i], w[i], out)
		}
	case string:
		if w == "$clock" {
			return
		}
		if g, ok := got.(string); !ok || g != w {
			*out = append(*out, fmt.Sprintf("%s =\n%s\nwant\n%s", at, short(got), short(want)))
		}
	default:
		if !reflect.DeepEqual(got, want) {
			*out = append(*out, fmt.Sprintf("%s = %s, want %s", at, short(got), short(want)))
		}
	}
}

func sortedUnion(a, b map[string]any) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	sort.Strings(out)
	return out
}

func short(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if s, ok := v.(string); ok {
		return s
	}
	if len(b) > 600 {
		return string(b[:600]) + "…"
	}
	return string(b)
}
