package stacks_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// section compares a generated part of a document, between its two markers, with
// what the templates say. -update rewrites it.
func section(t *testing.T, file, name, want string) {
	t.Helper()
	path := filepath.Join("..", "..", filepath.FromSlash(file))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->\n"
	head, rest, ok1 := strings.Cut(string(b), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no section %q: expected %q and %q", file, name, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	want = strings.TrimSpace(want) + "\n"
	if strings.TrimSpace(got) == strings.TrimSpace(want) {
		return
	}
	if !*update {
		t.Errorf("section %s of %s is out of date: go test ./stacks -update in infra/ rewrites it", name, file)
		return
	}
	if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

var (
	headingRE = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchorRE  = regexp.MustCompile(`docs/runbook\.md#([a-z0-9-]+)`)
	noAnchor  = regexp.MustCompile(`[^a-z0-9 -]`)
)

// TestRunbook: every alarm says where to read on, and that place exists.
func TestRunbook(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, h := range headingRE.FindAllStringSubmatch(string(b), -1) {
		anchors[strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	used := map[string]bool{}
	for _, variant := range variants {
		d := synth(t, variant)
		for _, a := range d.control.OfType("AWS::CloudWatch::Alarm") {
			m := anchorRE.FindStringSubmatch(a.Text("AlarmDescription"))
			if m == nil {
				t.Errorf("alarm %s does not say what to do: %q", a.Text("AlarmName"), a.Text("AlarmDescription"))
				continue
			}
			used[m[1]] = true
			if !anchors[m[1]] {
				t.Errorf("alarm %s sends its reader to docs/runbook.md#%s, which is not there", a.Text("AlarmName"), m[1])
			}
		}
	}
	if len(used) < 8 {
		t.Errorf("only %d alarms seen: the test looks in the wrong place", len(used))
	}
}
