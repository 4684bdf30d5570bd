package restapi

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api.md anew")

// theirs is an operation of Airflow's description, names only: see the file in testdata.
type theirs struct {
	ID, Method, Path string
	Status           int
	Query            []string
	Body, Answer     map[string][]string
}

// notServed are the operations of Airflow that Gust does not have, with the reason.
var notServed = map[string]string{
	"delete_task_instance":     "an instance is part of its run's state: delete the run, or mark the instance",
	"clear_dag_run_partitions": "no partitioned timetables",
	"enqueue_connection_test":  "connections are not tried by workers; connections/test is disabled as by default in Airflow",
	"get_connection_test":      "connections are not tried by workers",
	"list_asset_state_store":   "no state store (Airflow 3.3)",
	"clear_asset_state_store":  "no state store (Airflow 3.3)",
	"get_asset_state_store":    "no state store (Airflow 3.3)",
	"set_asset_state_store":    "no state store (Airflow 3.3)",
	"delete_asset_state_store": "no state store (Airflow 3.3)",
	"list_task_state_store":    "no state store (Airflow 3.3)",
	"clear_task_state_store":   "no state store (Airflow 3.3)",
	"get_task_state_store":     "no state store (Airflow 3.3)",
	"set_task_state_store":     "no state store (Airflow 3.3)",
	"patch_task_state_store":   "no state store (Airflow 3.3)",
	"delete_task_state_store":  "no state store (Airflow 3.3)",
}

func readTheirs(t *testing.T) (out []theirs) {
	f, err := os.Open("testdata/airflow-3.3.2.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var o theirs
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

// names flattens the members of a schema as the file in testdata has them.
func (d *describedAPI) names(s any, depth int, seen map[string]bool) map[string][]string {
	m, _ := s.(map[string]any)
	out := map[string][]string{}
	if r, ok := m["$ref"].(string); ok {
		n := r[strings.LastIndexByte(r, '/')+1:]
		if seen[n] {
			return out
		}
		next := map[string]bool{n: true}
		for k := range seen {
			next[k] = true
		}
		return d.names(d.Components.Schemas[n], depth, next)
	}
	if l, ok := m["anyOf"].([]any); ok {
		for _, x := range l {
			for k, v := range d.names(x, depth, seen) {
				out[k] = v
			}
		}
	}
	if m["type"] == "array" {
		return d.names(m["items"], depth, seen)
	}
	props, _ := m["properties"].(map[string]any)
	for k, v := range props {
		out[k] = nil
		if depth < 1 {
			for n := range d.names(v, depth+1, seen) {
				out[k] = append(out[k], n)
			}
			sort.Strings(out[k])
		}
	}
	return out
}

type describedOp struct {
	OperationID string `json:"operationId"`
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct{ Schema any }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema any }
	}
	Indexed []string `json:"x-gust-indexed"`
}

type describedAPI struct {
	Paths      map[string]map[string]describedOp
	Components struct{ Schemas map[string]any }
}

func describe(t *testing.T) *describedAPI {
	a := New(Options{})
	var d describedAPI
	if err := json.Unmarshal(a.OpenAPI(), &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// missingOf lists what a has and b has not, members of members with a dot.
func missingOf(a, b map[string][]string) (out []string) {
	for k, inner := range a {
		have, ok := b[k]
		if !ok {
			out = append(out, k)
			continue
		}
		for _, n := range inner {
			if len(have) > 0 && !contains(have, n) {
				out = append(out, k+"."+n)
			}
		}
	}
	sort.Strings(out)
	return out
}

// TestOpenAPIComparison compares what is served with Airflow's description, and
// keeps docs/api.md in step (-update writes it).
func TestOpenAPIComparison(t *testing.T) {
	d := describe(t)
	var rows []string
	counts := map[string]int{}
	known := map[string]bool{}
	all := readTheirs(t)
	for _, o := range all {
		known[o.Method+" "+o.Path] = true
		if strings.HasPrefix(o.Path, "/api/v2/auth/") { // package auth serves them
			counts["same"]++
			rows = append(rows, fmt.Sprintf("| %s | `%s` | same | outside /api/v2: `%s` |", o.Method, o.Path, strings.TrimPrefix(o.Path, "/api/v2")))
			continue
		}
		op, ok := d.Paths[o.Path][strings.ToLower(o.Method)]
		why, excused := notServed[o.ID]
		switch {
		case !ok && !excused:
			counts["to come"]++
			rows = append(rows, fmt.Sprintf("| %s | `%s` | to come | |", o.Method, o.Path))
			continue
		case !ok:
			counts["not served"]++
			rows = append(rows, fmt.Sprintf("| %s | `%s` | not served | %s |", o.Method, o.Path, why))
			continue
		case excused:
			t.Errorf("%s is served: take it off the list of what is not", o.ID)
		}
		if op.OperationID != o.ID {
			t.Errorf("%s %s: operationId %q, Airflow's is %q", o.Method, o.Path, op.OperationID, o.ID)
		}
		have := map[string][]string{}
		for _, p := range op.Parameters {
			if p.In == "query" {
				have[p.Name] = nil
			}
		}
		want := map[string][]string{}
		for _, q := range o.Query {
			want[q] = nil
		}
		var notes []string
		if m := missingOf(want, have); m != nil {
			notes = append(notes, "without the parameters "+strings.Join(m, ", "))
		}
		if m := missingOf(o.Body, d.names(op.RequestBody.Content["application/json"].Schema, 0, nil)); m != nil {
			notes = append(notes, "without "+strings.Join(m, ", ")+" in the body")
		}
		r, ok := op.Responses[fmt.Sprint(o.Status)]
		if !ok {
			t.Errorf("%s: Airflow's success is %d", o.ID, o.Status)
		}
		if m := missingOf(o.Answer, d.names(r.Content["application/json"].Schema, 0, nil)); m != nil {
			t.Errorf("%s: the answer lacks %s", o.ID, strings.Join(m, ", "))
		}
		state := "same"
		if notes != nil {
			state = "subset"
		}
		counts[state]++
		if op.Indexed != nil {
			notes = append(notes, "indexed: "+strings.Join(op.Indexed, ", "))
		}
		rows = append(rows, fmt.Sprintf("| %s | `%s` | %s | %s |", o.Method, o.Path, state, strings.Join(notes, "; ")))
	}
	var own []string
	for p, item := range d.Paths {
		for m := range item {
			if k := strings.ToUpper(m) + " " + p; !known[k] {
				own = append(own, k)
			}
		}
	}
	sort.Strings(own)
	var b strings.Builder
	fmt.Fprintf(&b, "# REST API v2\n\nGenerated by `go test ./internal/restapi -run OpenAPIComparison -update` from what Gust serves and Airflow 3.3.2's description. Do not edit.\n\n")
	fmt.Fprintf(&b, "Of Airflow's %d operations: %d same, %d subset, %d to come, %d not served. Lists without an index for a filter or order read at most 5,000 items and go on with a cursor.\n\n",
		len(all), counts["same"], counts["subset"], counts["to come"], counts["not served"])
	fmt.Fprintf(&b, "Gust's own: %s.\n\n| method | path | | remarks |\n|---|---|---|---|\n%s\n", "`"+strings.Join(own, "`, `")+"`", strings.Join(rows, "\n"))
	path := filepath.Join("..", "..", "docs", "api.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != b.String() {
		t.Errorf("docs/api.md is not what is served (%v): go test ./internal/restapi -run OpenAPIComparison -update", err)
	}
	fmt.Printf("openapi: %d same, %d subset, %d to come, %d not served of %d\n", counts["same"], counts["subset"], counts["to come"], counts["not served"], len(all))
}
