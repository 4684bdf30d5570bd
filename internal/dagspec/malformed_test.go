package dagspec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const healthyDAG = `zz_healthy:
  start_date: 2025-01-01
  schedule: "@daily"
  tasks:
    a: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: echo a}
    b: {operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [a]}
`

// malformedDir prepares the folder in which malformed files are loaded.
func malformedDir(t testing.TB) (string, Options, *Interpreter) {
	dir := t.TempDir()
	for _, f := range []string{"vec_callables.py", "vec_custom.py"} {
		b, err := os.ReadFile(filepath.Join("testdata/malformed", f))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, f, string(b))
	}
	if err := os.Mkdir(filepath.Join(dir, "sql"), 0o755); err != nil {
		t.Fatal(err)
	}
	py := NewInterpreter(dir)
	return dir, Options{BundleRoot: dir, Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), Strict: true, Python: py}, py
}

// checkLocated demands file, line and column of every problem, inside the text.
func checkLocated(t *testing.T, res *Result, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for _, p := range res.Problems {
		if p.File == "" || p.Line < 1 || p.Column < 1 || p.Line > len(lines) {
			t.Errorf("problem without a place in the file: %+v", p)
		} else if p.Column > len([]rune(lines[p.Line-1]))+1 {
			t.Errorf("column %d lies behind line %d %q: %s", p.Column, p.Line, lines[p.Line-1], p)
		}
		if p.Message == "" || strings.Contains(p.Message, "bug of Gust") {
			t.Errorf("problem: %+v", p)
		}
	}
}

// TestMalformed loads the hand-written broken files; class and message are
// those of Airflow and dag-factory (checked by running them).
func TestMalformed(t *testing.T) {
	b, err := os.ReadFile("testdata/malformed/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir, opt, py := malformedDir(t)
	defer py.Close()
	n := 0
	for _, c := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		name, rest, _ := strings.Cut(c, " --\n")
		want, body, _ := strings.Cut(rest, "\n")
		n++
		t.Run(name, func(t *testing.T) {
			class, msg, _ := strings.Cut(strings.TrimPrefix(want, "# "), ": ")
			wholeFile := strings.HasPrefix(name, "yaml_syntax") || strings.HasPrefix(name, "file_") || strings.HasPrefix(name, "default_null") ||
				strings.HasPrefix(name, "def_") || class == "ConstructorError" || class == "RecursionError" || name == "start_16" || name == "start_17"
			text := body
			if !wholeFile {
				text = strings.TrimSuffix(body, "\n") + "\n" + healthyDAG
			}
			write(t, dir, "dag.yml", text)
			src := vecSource(dir)
			res := Load(src, filepath.Join(dir, "dag.yml"), opt)
			if len(res.Problems) == 0 {
				t.Fatalf("loaded, want %s", want)
			}
			checkLocated(t, res, text)
			p := res.Problems[0]
			head, _, _ := strings.Cut(p.Message, hintMark)
			head, _, _ = strings.Cut(strings.ReplaceAll(head, dir, "$VEC_DIR"), "\n")
			if p.Class != class || !strings.HasPrefix(head, strings.TrimSpace(msg)) {
				t.Errorf("%s: %s\nwant %s: %s", p.Class, head, class, msg)
			}
			if !wholeFile && (len(res.DAGs) == 0 || res.DAGs[len(res.DAGs)-1].DagID != "zz_healthy") {
				t.Errorf("the healthy DAG of the file was lost: %v", res.Err())
			}
		})
	}
	t.Logf("%d hand-written malformed files", n)
}

const victim = `victim:
  description: one of each
  schedule: "0 3 * * *"
  start_date: 2025-01-01
  timezone: Europe/Rome
  max_active_runs: 2
  max_active_tasks: 3
  catchup: false
  dagrun_timeout: {__type__: datetime.timedelta, hours: 1}
  render_template_as_native_obj: false
  tags: [a, b]
  params: {n: {__type__: airflow.sdk.Param, default: 1, type: integer}}
  on_failure_callback: vec_callables.on_fail
  default_args: {owner: me, retries: 1}
  task_groups:
    g: {tooltip: t}
    h: {parent_group_name: g, dependencies: [a]}
  tasks:
    a:
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: echo a
      retries: 2
      retry_delay: 5
      trigger_rule: all_success
      pool_slots: 1
      priority_weight: 3
      execution_timeout: {__type__: datetime.timedelta, minutes: 1}
      depends_on_past: false
      queue: q
    b:
      operator: airflow.providers.standard.operators.python.PythonOperator
      python_callable: vec_callables.hello
      task_group_name: h
    c:
      operator: airflow.providers.standard.sensors.filesystem.FileSensor
      filepath: /x
      mode: reschedule
      poke_interval: 5
      timeout: 60
      dependencies: [a]
    d: {decorator: airflow.sdk.task, python_callable: vec_callables.double, x: 2}
    e: {decorator: airflow.sdk.task, python_callable: vec_callables.double, expand: {x: [1, 2]}}
    f:
      operator: airflow.providers.standard.operators.bash.BashOperator
      expand: {bash_command: [echo 1, echo 2]}
      dependencies: [c]
`

// TestMutations breaks a good DAG in every place in many ways: each file that
// no longer loads says where, and its neighbour loads all the same.
func TestMutations(t *testing.T) {
	dir, opt, py := malformedDir(t)
	defer py.Close()
	values := []string{"5", "-1", "''", "[1]", "{a: 1}", "null", "nope", "2024-13-45", "{__type__: no.such.Type}", "{__type__: datetime.timedelta, bogus: 1}",
		"soon", "true", "1.5", "[[[]]]", "*missing", "'unclosed", "{", "a: b: c", "!tag x", "\tx"}
	lines := strings.Split(strings.TrimSuffix(victim, "\n"), "\n")
	broken, loaded := 0, 0
	try := func(what, text string, syntax bool) {
		full := text + "\n" + healthyDAG
		write(t, dir, "dag.yml", full)
		res := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
		if len(res.Problems) == 0 {
			loaded++
			return
		}
		broken++
		checkLocated(t, res, full)
		if t.Failed() {
			t.Fatalf("mutation %s of\n%s", what, text)
		}
		healthy := false
		for _, d := range res.DAGs {
			healthy = healthy || d.DagID == "zz_healthy"
		}
		if !healthy && !syntax {
			t.Fatalf("mutation %s: the healthy DAG was lost: %v", what, res.Err())
		}
	}
	for i, line := range lines {
		key, _, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			continue
		}
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		for j, v := range values {
			m := append([]string(nil), lines...)
			m[i] = indent + key + ": " + v
			end := i + 1
			for end < len(m) && len(m[end])-len(strings.TrimLeft(m[end], " ")) > len(indent) {
				end++
			}
			m = append(m[:i+1], m[end:]...)       // a scalar has no lines below it
			fatal := j >= 14 || v == "2024-13-45" // the YAML itself is broken
			try(fmt.Sprintf("line %d = %s", i+1, v), strings.Join(m, "\n"), fatal)
		}
		m := append([]string(nil), lines...)
		m[i] = strings.Replace(line, key, key+"x", 1)
		try(fmt.Sprintf("line %d: misspelt key", i+1), strings.Join(m, "\n"), false)
		m[i] = ""
		try(fmt.Sprintf("line %d removed", i+1), strings.Join(m, "\n"), true)
	}
	t.Logf("%d mutations do not load, %d still do", broken, loaded)
	if broken < 300 {
		t.Errorf("only %d mutations do not load", broken)
	}
}

// TestAllProblemsAtOnce checks that a file with many mistakes lists them all.
func TestAllProblemsAtOnce(t *testing.T) {
	dir, opt, py := malformedDir(t)
	defer py.Close()
	text := `one:
  start_date: never
  schedule: "61 * * * *"
  max_active_runs: many
  tags: [1]
  tasks:
    a: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_comand: x, retires: 3}
    b: {operator: airflow.providers.standard.operators.bash.BashOperater}
    c: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: x, retries: lots, trigger_rule: all_sucess}
two:
  tasks: {t: {operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [nowhere]}}
`
	write(t, dir, "dag.yml", text)
	res := Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
	checkLocated(t, res, text)
	got := res.Err().Error()
	for _, want := range []string{
		"dag.yml:2:15: one.start_date: Invalid relative time: never",
		"[61 * * * *] is not acceptable, out of range",
		"Invalid arguments were passed to BashOperator (task_id: a)", "did you mean bash_command?", "did you mean retries?",
		"dag.yml:4:20: one.max_active_runs: ",
		"dag.yml:5:10: one.tags: ",
		"did you mean airflow.providers.standard.operators.bash.BashOperator?",
		"missing keyword argument 'bash_command'",
		"one.tasks.c.retries: 'retries' type must be int",
		"did you mean all_success?",
		"dag.yml:11:98: two.tasks.t.dependencies: 'nowhere'",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(victim)
	f.Add(healthyDAG)
	b, err := os.ReadFile("testdata/malformed/cases.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		_, rest, _ := strings.Cut(c, " --\n")
		f.Add(rest)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, strict := range []bool{true, false} {
			start := time.Now()
			res := Load(memSource(text), "/dags/dag.yml", Options{BundleRoot: "/dags", Now: time.Unix(1767225600, 0), Strict: strict,
				Limits: Limits{Nodes: 20000}})
			if d := time.Since(start); d > 3*time.Second {
				t.Fatalf("took %v", d)
			}
			for _, p := range res.Problems {
				if p.Line < 1 || p.Column < 1 || p.File == "" || strings.Contains(p.Message, "bug of Gust") {
					t.Fatalf("%+v", p)
				}
			}
		}
	})
}

// memSource is a Source with one file.
type memSource string

func (m memSource) ReadFile(p string) ([]byte, error) {
	if p == "/dags/dag.yml" {
		return []byte(m), nil
	}
	return nil, os.ErrNotExist
}
func (memSource) IsDir(string) bool                { return false }
func (memSource) LookupEnv(string) (string, bool)  { return "", false }
func (memSource) Variable(k string) (string, bool) { return "", false }

// BenchmarkLoad1000 loads a thousand DAG files of five tasks each.
func BenchmarkLoad1000(b *testing.B) {
	text := `default: {default_args: {owner: me, retries: 2, retry_delay: {__type__: datetime.timedelta, minutes: 5}}}
dag_x:
  schedule: "0 3 * * *"
  start_date: 2025-01-01
  tags: [a, b]
  tasks:
    - {task_id: a, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ ds }}"}
    - {task_id: b, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo b", dependencies: [a]}
    - {task_id: c, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo c", dependencies: [a], trigger_rule: all_done}
    - {task_id: d, operator: airflow.providers.standard.operators.empty.EmptyOperator, dependencies: [b, c]}
    - {task_id: e, operator: airflow.providers.standard.sensors.filesystem.FileSensor, filepath: /x, dependencies: [d]}
`
	src := memSource(text)
	b.ReportAllocs()
	for b.Loop() {
		for range 1000 {
			if res := Load(src, "/dags/dag.yml", Options{BundleRoot: "/dags", Now: time.Unix(1767225600, 0)}); res.Err() != nil {
				b.Fatal(res.Err())
			}
		}
	}
}
