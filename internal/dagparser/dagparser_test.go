package dagparser_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagbucket/buckettest"
	"github.com/gustflow/gust/internal/dagparser"
	"github.com/gustflow/gust/internal/dagprocessor"
)

// direct calls a parser in this process through the encoded messages.
type direct struct {
	p *dagparser.Parser
	// before sees every request and may answer it.
	before func(*dagparser.Request) ([]byte, error)
	asked  [][]string
}

func (d *direct) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if len(payload) > dagparser.MaxMessageBytes {
		return nil, errors.New("payload too big")
	}
	var req dagparser.Request
	if err := dagparser.Unpack(payload, &req); err != nil {
		return nil, err
	}
	d.asked = append(d.asked, req.Parse)
	if d.before != nil {
		if b, err := d.before(&req); b != nil || err != nil {
			return b, err
		}
	}
	return d.p.Handle(ctx, payload)
}

type rig struct {
	t      *testing.T
	bucket *buckettest.Bucket
	dir    string
	inv    *direct
	folder *dagbucket.Folder
	vars   map[string]string
	client *dagparser.Client
}

func newRig(t *testing.T, change ...func(*dagparser.ClientConfig)) *rig {
	t.Helper()
	r := &rig{t: t, bucket: buckettest.New("b"), dir: filepath.Join(t.TempDir(), "dags"), vars: map[string]string{}}
	p := dagparser.NewParser(dagparser.ParserOptions{Open: func(name string) dagbucket.Bucket {
		if name != "b" {
			t.Errorf("bucket %q", name)
		}
		return r.bucket
	}, Version: "1", Dir: r.dir})
	t.Cleanup(func() { _ = p.Close() })
	r.inv = &direct{p: p}
	r.folder = dagbucket.NewFolder(r.bucket, "team/dags")
	c := dagparser.ClientConfig{Invoker: r.inv, Folder: r.folder, Bucket: "b", Version: "1", Parallelism: 1, Env: map[string]string{"SHOWN": "yes"},
		Variable: func(k string) (string, bool) { v, ok := r.vars[k]; return v, ok }}
	for _, f := range change {
		f(&c)
	}
	r.client = dagparser.NewClient(c)
	return r
}

func (r *rig) load(names ...string) []dagprocessor.LoadResult {
	r.t.Helper()
	if err := r.folder.Refresh(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	var reqs []dagprocessor.LoadRequest
	for _, n := range names {
		reqs = append(reqs, dagprocessor.LoadRequest{Path: n})
	}
	return r.client.LoadAll(context.Background(), reqs)
}

func yml(id string, extra ...string) string {
	return id + ":\n  default_args: {start_date: 2024-01-01, owner: o}\n  schedule: '@daily'\n" + strings.Join(extra, "") + "  tasks:\n  - task_id: a\n    operator: airflow.providers.standard.operators.bash.BashOperator\n    bash_command: echo $SHOWN $HIDDEN\n"
}

func ids(r dagprocessor.LoadResult) string {
	var out []string
	for _, d := range r.DAGs {
		out = append(out, string(d.DagID))
	}
	return strings.Join(out, ",")
}

func good(t *testing.T, r dagprocessor.LoadResult, want string) {
	t.Helper()
	if r.Err != nil || len(r.Problems) > 0 || ids(r) != want {
		t.Errorf("want DAGs %q, got %q, problems %v, err %v", want, ids(r), r.Problems, r.Err)
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("HIDDEN", "a secret of the parser's environment")
	r := newRig(t)
	r.bucket.Put("team/dags/a.yml", yml("a"))
	r.bucket.Put("team/dags/sub/b.yml", yml("b"))
	r.bucket.Put("team/dags/defaults.yml", "default_args:\n  retries: 7\n")
	r.bucket.Put("other/c.yml", yml("c"))
	res := r.load("a.yml", "sub/b.yml")
	good(t, res[0], "a")
	good(t, res[1], "b")
	doc := string(res[0].DAGs[0].Document)
	if !strings.Contains(doc, "echo yes $HIDDEN") || !strings.Contains(doc, `"retries":7`) {
		t.Errorf("document %s", doc)
	}
	var deps []string
	for _, d := range res[1].Dependencies {
		deps = append(deps, d.Path)
	}
	if !slices.Contains(deps, "defaults.yml") || !slices.Contains(res[0].Inputs, "env:HIDDEN") {
		t.Errorf("dependencies %v, inputs %v", deps, res[0].Inputs)
	}
	// Only what is needed was read, and nothing is read twice while it is the same.
	if _, gets := r.bucket.Counts(); !slices.Equal(gets, []string{"team/dags/a.yml", "team/dags/defaults.yml", "team/dags/sub/b.yml"}) {
		t.Errorf("read %v", gets)
	}
	r.bucket.Put("team/dags/a.yml", yml("a2"))
	good(t, r.load("a.yml")[0], "a2")
	if _, gets := r.bucket.Counts(); !slices.Equal(gets, []string{"team/dags/a.yml"}) {
		t.Errorf("read again %v", gets)
	}
	// What is gone is gone for the parser, too.
	r.bucket.Delete("team/dags/defaults.yml")
	if doc := string(r.load("a.yml")[0].DAGs[0].Document); strings.Contains(doc, `"retries":7`) {
		t.Errorf("the removed defaults still count: %s", doc)
	}
}

func TestReadsTheListedVersions(t *testing.T) {
	r := newRig(t)
	r.bucket.Put("team/dags/a.yml", yml("listed"))
	if err := r.folder.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.bucket.Put("team/dags/a.yml", yml("newer"))
	good(t, r.client.Load(context.Background(), dagprocessor.LoadRequest{Path: "a.yml"}), "listed")
	r2 := newRig(t)
	r2.bucket.Put("team/dags/a.yml", yml("listed"))
	if err := r2.folder.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	r2.bucket.Purge("team/dags/a.yml")
	if res := r2.client.Load(context.Background(), dagprocessor.LoadRequest{Path: "a.yml"}); !errors.Is(res.Err, dagprocessor.ErrChanging) {
		t.Errorf("a version that is gone: %+v", res)
	}
}

func TestVariablesAndOutsideFiles(t *testing.T) {
	r := newRig(t)
	r.vars["team"] = "blue"
	r.bucket.Put("team/dags/v.yml", strings.Replace(yml("v"), "    bash_command", "    variables_as_arguments:\n    - {variable: team, attribute: bash_command}\n    bash_command", 1))
	res := r.load("v.yml")[0]
	good(t, res, "v")
	if doc := string(res.DAGs[0].Document); !strings.Contains(doc, "blue") || len(r.inv.asked) != 2 {
		t.Errorf("%d requests, document %s", len(r.inv.asked), doc)
	}
	before, err := r.client.Inputs(context.Background(), res.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	r.vars["team"] = "green"
	if after, _ := r.client.Inputs(context.Background(), res.Inputs); after == before {
		t.Error("another value of the variable does not show")
	}
	if doc := string(r.load("v.yml")[0].DAGs[0].Document); !strings.Contains(doc, "green") {
		t.Errorf("document %s", doc)
	}
	// A file of the parser's machine is none of the bucket's.
	secret := filepath.Join(t.TempDir(), "secret.py")
	if err := os.WriteFile(secret, []byte("def f(): pass\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.bucket.Put("team/dags/x.yml", "x:\n  default_args: {start_date: 2024-01-01, owner: o}\n  tasks:\n  - task_id: a\n    operator: airflow.providers.standard.operators.python.PythonOperator\n    python_callable_name: f\n    python_callable_file: "+secret+"\n")
	if res := r.load("x.yml")[0]; len(res.Problems) == 0 || !strings.Contains(fmt.Sprint(res.Problems), "No such file") {
		t.Errorf("problems %v", res.Problems)
	}
}

func needPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
}

// TestPythonHelpers: helpers that a DAG file imports, directly and through others,
// are part of its bundle, and a changed one is seen.
func TestPythonHelpers(t *testing.T) {
	needPython(t)
	r := newRig(t)
	r.bucket.Put("team/dags/lib/__init__.py", "")
	r.bucket.Put("team/dags/lib/work.py", "from lib import deep\ndef run(x): pass\n")
	r.bucket.Put("team/dags/lib/deep.py", "Y = 1\n")
	r.bucket.Put("team/dags/p.yml", "p:\n  default_args: {start_date: 2024-01-01, owner: o}\n  tasks:\n  - task_id: a\n    operator: airflow.providers.standard.operators.python.PythonOperator\n    python_callable: lib.work.run\n    op_kwargs: {x: 1}\n")
	res := r.load("p.yml")[0]
	good(t, res, "p")
	var doc struct {
		Gust airflow.GustExtension `json:"gust"`
	}
	if err := json.Unmarshal(res.DAGs[0].Document, &doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"lib/work.py", "lib/deep.py"} {
		if !slices.Contains(doc.Gust.SourceFiles, want) {
			t.Errorf("source files %v lack %s", doc.Gust.SourceFiles, want)
		}
	}
	r.bucket.Put("team/dags/lib/work.py", "def walk(x): pass\n")
	if res := r.load("p.yml")[0]; !strings.Contains(fmt.Sprint(res.Problems), "run") {
		t.Errorf("the helper lacks run now: %v", res.Problems)
	}
	r.bucket.Delete("team/dags/lib/work.py")
	if res := r.load("p.yml")[0]; !strings.Contains(fmt.Sprint(res.Problems), "No module named") {
		t.Errorf("the helper is gone: %v", res.Problems)
	}
}

// TestCalledCodeLeavesNothing: a function that is called at load cannot change what
// later loads read.
func TestCalledCodeLeavesNothing(t *testing.T) {
	needPython(t)
	r := newRig(t)
	r.bucket.Put("team/dags/doc.py", "import os\ndef text():\n    open(os.path.join(os.path.dirname(__file__), 'victim.yml'), 'w').write('hacked: {}')\n    open(os.path.join(os.path.dirname(__file__), 'planted.py'), 'w').write('x = 1')\n    return 'documented'\n")
	r.bucket.Put("team/dags/call.yml", yml("call", "  doc_md_python_callable_name: text\n  doc_md_python_callable_file: $DAGS_FOLDER/doc.py\n"))
	r.bucket.Put("team/dags/victim.yml", yml("victim"))
	good(t, r.load("victim.yml")[0], "victim")
	res := r.load("call.yml")[0]
	good(t, res, "call")
	if !strings.Contains(string(res.DAGs[0].Document), "documented") {
		t.Fatalf("the function was not called: %s", res.DAGs[0].Document)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "planted.py")); err != nil {
		t.Fatalf("the test's function could not write: %v", err)
	}
	good(t, r.load("victim.yml")[0], "victim")
	if _, err := os.Stat(filepath.Join(r.dir, "planted.py")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the planted file is still there: %v", err)
	}
}

func TestCrashesAreFound(t *testing.T) {
	r := newRig(t)
	var names []string
	for i := range 9 {
		n := fmt.Sprintf("f%d.yml", i)
		names = append(names, n)
		r.bucket.Put("team/dags/"+n, yml(fmt.Sprintf("d%d", i)))
	}
	dead := false
	r.inv.before = func(q *dagparser.Request) ([]byte, error) {
		if dead || slices.Contains(q.Parse, "f5.yml") {
			return nil, &dagparser.Crash{Type: "Runtime.ExitError", Message: "signal: killed"}
		}
		return nil, nil
	}
	for i, res := range r.load(names...) {
		if i == 5 {
			if res.Err != nil || !strings.Contains(fmt.Sprint(res.Problems), "Runtime.ExitError: signal: killed") {
				t.Errorf("the file that kills the parser: %+v", res)
			}
			continue
		}
		good(t, res, fmt.Sprintf("d%d", i))
	}
	// A parser that is broken altogether says nothing about files.
	dead = true
	for _, res := range r.load(names...) {
		if !errors.Is(res.Err, airflow.ErrUnavailable) || len(res.Problems) > 0 {
			t.Errorf("a broken parser: %+v", res)
		}
	}
	dead = false
	r.inv.before = func(*dagparser.Request) ([]byte, error) { return nil, airflow.ErrThrottled }
	for _, res := range r.load(names...) {
		if !errors.Is(res.Err, airflow.ErrThrottled) {
			t.Errorf("a throttled parser: %+v", res)
		}
	}
}

// TestNotBelieved: answers that cannot be true are cut down or refused.
func TestNotBelieved(t *testing.T) {
	r := newRig(t)
	r.bucket.Put("team/dags/a.yml", yml("a"))
	answer := func(res dagparser.Response) {
		r.inv.before = func(q *dagparser.Request) ([]byte, error) {
			if len(q.Parse) == 0 {
				return nil, nil // the question whether it lives
			}
			return dagparser.Pack(res)
		}
	}
	answer(dagparser.Response{Version: "1", Results: []dagparser.Result{{Path: "b.yml"}}})
	if res := r.load("a.yml")[0]; !strings.Contains(fmt.Sprint(res.Problems), "where \"a.yml\" was asked for") {
		t.Errorf("another file's result: %+v", res)
	}
	answer(dagparser.Response{Version: "1"})
	if res := r.load("a.yml")[0]; !strings.Contains(fmt.Sprint(res.Problems), "0 results for 1 files") {
		t.Errorf("no result: %+v", res)
	}
	answer(dagparser.Response{Version: "2"})
	if res := r.load("a.yml")[0]; !errors.Is(res.Err, airflow.ErrUnavailable) {
		t.Errorf("another version: %+v", res)
	}
	r.inv.before = func(q *dagparser.Request) ([]byte, error) {
		if len(q.Parse) == 0 {
			return nil, nil
		}
		return []byte(`{"gzip":"AAAA"}`), nil
	}
	if res := r.load("a.yml")[0]; !strings.Contains(fmt.Sprint(res.Problems), "BadAnswer") {
		t.Errorf("garbage: %+v", res)
	}
	answer(dagparser.Response{Version: "1", Results: []dagparser.Result{{
		Path: "a.yml", ValidUntil: time.Unix(0, 0), Inputs: []string{"file:/etc/passwd", "env:OK"},
		Problems:     []airflow.Problem{{Message: strings.Repeat("x", 1<<20), Severity: "terrible"}},
		Dependencies: []dagprocessor.Dependency{{Path: "/etc/passwd", Hash: dagprocessor.Missing}, {Path: "../x", Hash: dagprocessor.Missing}, {Path: "ok", Hash: dagprocessor.Missing, Mode: "0755"}, {Path: "bad", Hash: "nonsense"}},
	}}})
	res := r.load("a.yml")[0]
	if len(res.Dependencies) != 1 || res.Dependencies[0] != (dagprocessor.Dependency{Path: "ok", Hash: dagprocessor.Missing}) || !slices.Equal(res.Inputs, []string{"env:OK"}) ||
		len(res.Problems[0].Message) > 20<<10 || res.Problems[0].Severity != "error" || time.Until(res.ValidUntil) < 30*time.Second {
		t.Errorf("believed too much: deps %v, inputs %v, valid until %v", res.Dependencies, res.Inputs, res.ValidUntil)
	}
}

// TestPages: an answer that would be too big comes in parts, and a file whose own
// is too big says so.
func TestPages(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[rnd.IntN(62)]
		}
		return string(b)
	}
	r.inv.p = dagparser.NewParser(dagparser.ParserOptions{Open: func(string) dagbucket.Bucket { return r.bucket }, Version: "1", Dir: r.dir, Python: "-", MaxAnswerBytes: 200_000})
	var names []string
	for i := range 4 {
		n := fmt.Sprintf("big%d.yml", i)
		names = append(names, n)
		r.bucket.Put("team/dags/"+n, yml(fmt.Sprintf("big%d", i), "  description: x"+noise(80_000)+"\n"))
	}
	names = append(names, "huge.yml")
	r.bucket.Put("team/dags/huge.yml", yml("h1", "  description: x"+noise(300_000)+"\n"))
	res := r.load(names...)
	for i, r := range res[:4] {
		good(t, r, fmt.Sprintf("big%d", i))
	}
	if len(r.inv.asked) < 3 {
		t.Errorf("few requests took all: %v", r.inv.asked)
	}
	if res := res[4]; res.Err != nil || !strings.Contains(fmt.Sprint(res.Problems), "too big to be handed over") {
		t.Errorf("huge: %v %v", res.Problems, res.Err)
	}
}

func TestManifestIsChecked(t *testing.T) {
	r := newRig(t)
	for _, req := range []dagparser.Request{
		{Version: "1", Bucket: "b", Parse: []string{"a.yml"}},
		{Version: "1", Bucket: "b", Parse: []string{"../a.yml"}, Manifest: []dagparser.File{{Name: "../a.yml"}}},
		{Version: "1", Bucket: "b", Parse: []string{"/a.yml"}, Manifest: []dagparser.File{{Name: "/a.yml"}}},
	} {
		if _, err := r.inv.p.Parse(context.Background(), &req); err == nil {
			t.Errorf("accepted %+v", req)
		}
	}
	if res, err := r.inv.p.Parse(context.Background(), &dagparser.Request{Version: "other", Parse: []string{"x"}}); err != nil || res.Version != "1" || len(res.Results) != 0 {
		t.Errorf("another version: %+v, %v", res, err)
	}
}

// TestManyHelpers: a request stays below Lambda's limit with very many files.
func TestManyHelpers(t *testing.T) {
	r := newRig(t)
	r.bucket.Put("team/dags/a.yml", yml("a"))
	for i := range 20_000 {
		r.bucket.Put(fmt.Sprintf("team/dags/sql/folder%d/statement_%d.sql", i%100, i), "select 1")
	}
	good(t, r.load("a.yml")[0], "a")
}
