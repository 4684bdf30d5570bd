package dagdraw

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagspec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// source is a dagspec.Source of one file.
type source map[string]string

func (s source) ReadFile(p string) ([]byte, error) {
	if c, ok := s[p]; ok {
		return []byte(c), nil
	}
	return nil, fs.ErrNotExist
}
func (s source) IsDir(p string) bool           { return p == "/dags" }
func (source) LookupEnv(string) (string, bool) { return "", false }
func (source) Variable(string) (string, bool)  { return "", false }

func dag(t testing.TB, yaml string) *airflow.DAG {
	t.Helper()
	res := dagspec.Load(source{"/dags/d.yml": yaml}, "/dags/d.yml", dagspec.Options{BundleRoot: "/dags", Now: time.Unix(0, 0)})
	if err := res.Err(); err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	d, err := airflow.ParseDAG(res.DAGs[0].Document)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const bash = "operator: airflow.providers.standard.operators.empty.EmptyOperator"

func shape(edges map[string][]string, order ...string) string {
	var b strings.Builder
	b.WriteString("d:\n  schedule: null\n  tasks:\n")
	for _, id := range order {
		fmt.Fprintf(&b, "    %s: {%s, dependencies: [%s]}\n", id, bash, strings.Join(edges[id], ", "))
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

const etl = `etl:
  schedule: null
  task_groups:
    load: {tooltip: "loading \"all\""}
  tasks:
    extract: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true"}
    clean: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true", dependencies: [extract]}
    users: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true", task_group_name: load, dependencies: [clean]}
    orders: {operator: airflow.providers.standard.operators.bash.BashOperator, task_group_name: load, partial: {retries: 1}, expand: {bash_command: ["a", "b"]}, dependencies: [clean]}
    report: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "true", dependencies: [load, extract]}
`

func TestGolden(t *testing.T) {
	d := dag(t, etl)
	golden(t, "etl.txt", Text(d, Options{Width: 120}))
	golden(t, "etl_narrow.txt", Text(d, Options{Width: 40}))
	golden(t, "etl_color.txt", Text(d, Options{Width: 120, Color: true}))
	states := map[airflow.TaskID]airflow.TIState{"extract": airflow.TISuccess, "clean": airflow.TIFailed, "report": airflow.TIUpstreamFailed}
	golden(t, "etl_states.txt", Text(d, Options{Width: 120, States: states}))
	golden(t, "etl.dot", DOT(d, states))
	golden(t, "etl.mmd", Mermaid(d, states))
	golden(t, "etl.svg", SVG(d, states))
}

func TestTooManyTasksAreListed(t *testing.T) {
	got := Text(dag(t, etl), Options{MaxTasks: 2})
	if !strings.Contains(got, "--save graph.svg") || !strings.Contains(got, "clean → load.users, load.orders") && !strings.Contains(got, "clean → load.orders, load.users") {
		t.Errorf("%s", got)
	}
}

// Every task is drawn whole, whatever the graph: boxes never overlap.
func TestEveryTaskIsDrawn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "n")
		edges := map[string][]string{}
		var order []string
		for i := range n {
			id := fmt.Sprintf("task_%c", 'a'+i)
			order = append(order, id)
			for j := range i {
				if rapid.IntRange(0, 3).Draw(rt, "edge") == 0 {
					edges[id] = append(edges[id], order[j])
				}
			}
		}
		d := dag(t, shape(edges, order...))
		for _, width := range []int{20, 400} {
			text := Text(d, Options{Width: width})
			for _, id := range order {
				if !strings.Contains(text, "│ "+id+" │") {
					rt.Fatalf("%s is not whole in\n%s", id, text)
				}
			}
		}
		dec := xml.NewDecoder(strings.NewReader(SVG(d, nil)))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				rt.Fatalf("SVG: %v", err)
			}
		}
	})
}

func TestGantt(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ti := func(id string, index int, from, to time.Duration, s airflow.TIState, try int) airflow.TaskInstance {
		x := airflow.TaskInstance{State: s, TryNumber: try}
		x.TaskID, x.MapIndex = airflow.TaskID(id), index
		if from >= 0 {
			f := start.Add(from)
			x.StartDate = &f
		}
		if to >= 0 {
			e := start.Add(to)
			x.EndDate = &e
		}
		return x
	}
	got := Gantt([]airflow.TaskInstance{
		ti("load", 0, 4*time.Second, -1, airflow.TIRunning, 1), ti("never", -1, -1, -1, airflow.TIUpstreamFailed, 0), ti("extract", -1, 0, 2*time.Second, airflow.TISuccess, 1),
		ti("a_task_with_a_long_name_that_is_cut", -1, 2*time.Second, 2*time.Second, airflow.TIFailed, 3),
	}, start.Add(8*time.Second), 80, false)
	golden(t, "gantt.txt", got)
	for _, l := range strings.Split(got, "\n") {
		if utf8.RuneCountInString(l) > 84 {
			t.Errorf("a line of %d characters: %q", utf8.RuneCountInString(l), l)
		}
	}
	if Gantt(nil, start, 80, true) != "" {
		t.Error("an empty run has a chart")
	}
	for d, want := range map[time.Duration]string{12 * time.Millisecond: "12ms", 3400 * time.Millisecond: "3.4s", 125 * time.Second: "2m05s", 62 * time.Minute: "1h02m"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %s, want %s", d, got, want)
		}
	}
}
