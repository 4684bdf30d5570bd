package stacks_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var assetHash = regexp.MustCompile(`[0-9a-f]{64}`)

// TestGolden compares every template with the one reviewed last. -update accepts.
func TestGolden(t *testing.T) {
	for _, variant := range variants {
		d := synth(t, variant)
		for _, tmpl := range d.templates() {
			name := variant + strings.TrimPrefix(tmpl.Name, d.cfg.Prefix()) + ".json"
			t.Run(name, func(t *testing.T) {
				raw, err := os.ReadFile(filepath.Join(d.dir, tmpl.Name+".template.json"))
				if err != nil {
					t.Fatal(err)
				}
				got := normalise(t, raw)
				file := filepath.Join("testdata", "golden", name)
				if *update {
					if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, got, 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatalf("%v (go test ./stacks -update writes it)", err)
				}
				if line, g, w := firstDifference(got, want); line > 0 {
					t.Errorf("differs from %s at line %d:\n got %s\nwant %s\nIf that is meant: go test ./stacks -update, and review the difference", file, line, g, w)
				}
			})
		}
	}
}

// normalise blanks asset hashes, drops the CDK's own metadata and sorts keys.
func normalise(t *testing.T, raw []byte) []byte {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "Rules")
	delete(v, "Parameters")
	for _, r := range v["Resources"].(map[string]any) {
		delete(r.(map[string]any), "Metadata")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return assetHash.ReplaceAll(out.Bytes(), []byte("<asset>"))
}

func firstDifference(got, want []byte) (int, string, string) {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := 0; i < len(g) || i < len(w); i++ {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return i + 1, a, b
		}
	}
	return 0, "", ""
}
