// Package archtest guards the import diagram of ARCHITECTURE.md: who may depend
// on what. It reads the real dependencies from `go list`.
package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/gustflow/gust/"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

// rule forbids packages below From to import (or, with Deep, to depend on in
// any way) anything that matches one of Forbid.
type rule struct {
	name   string
	from   []string
	deep   bool
	forbid []string
	why    string
}

// impure is what a package that decides may not import.
var impure = []string{"context", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "os", "os/exec", "net", "net/http", "database/sql", "io/ioutil", "runtime"}

var rules = []rule{
	{"the core is pure", []string{"internal/airflow", "internal/scheduler"}, false, impure,
		"deciding must not read a clock, a disk, the network or chance"},
	{"the core is standard library only", []string{"internal/airflow", "internal/scheduler", "internal/timetable"}, true,
		[]string{"github.com/", "golang.org/", "modernc.org/", "go.yaml.in/", "pgregory.net/", "!" + module},
		"every runtime reuses it unchanged"},
	{"the core knows no adapter", []string{"internal/airflow", "internal/timetable", "internal/scheduler"}, true,
		[]string{module + "internal/store", module + "internal/engine", module + "internal/worker", module + "internal/cli"},
		"arrows point to the core, never out of it"},
	{"drivers do not know each other", []string{"internal/store/kv/memkv", "internal/store/kv/sqlitekv", "internal/store/kv/dynamokv"}, true,
		[]string{module + "internal/store/kv/memkv", module + "internal/store/kv/sqlitekv", module + "internal/store/kv/dynamokv", module + "internal/scheduler", module + "internal/engine"},
		"a driver only moves items"},
	{"no SQLite or CDK above the driver", []string{"internal/store", "internal/engine", "internal/worker", "internal/operator", "internal/scheduler"}, true,
		[]string{"modernc.org/sqlite", "github.com/aws/aws-cdk-go", "github.com/aws/jsii-runtime-go"},
		"a Lambda binary must not carry the embedded database"},
	{"functions carry no SQLite and no CDK", []string{"functions", "internal/awsapp", "internal/lambdaentry", "internal/workerhost"}, true,
		[]string{"modernc.org/sqlite", "github.com/aws/aws-cdk-go", "github.com/aws/jsii-runtime-go", module + "internal/store/kv/sqlitekv", module + "internal/localapp"},
		"a function's zip holds what the function needs"},
	{"functions carry no reflection of protocol buffers and no search for credentials", []string{"functions"}, true,
		[]string{"google.golang.org/protobuf", "github.com/tink-crypto/tink-go", "github.com/aws/aws-sdk-go-v2/config"},
		"with the first the linker keeps every exported method: the scheduler was 36 MB instead of 14; the environment has credentials"},
	{"functions without pages carry no templates", []string{"functions/scheduler", "functions/worker", "functions/dagprocessor", "functions/dagparser", "functions/taskevents"}, true,
		[]string{"text/template", "html/template", module + "internal/auth"},
		"templates call methods by name, so that the linker keeps all of them"},
	{"functions that read no secrets carry neither keys nor what runs tasks", []string{"functions/scheduler", "functions/taskevents"}, true,
		[]string{module + "internal/secrets", module + "internal/worker/taskrunner", module + "internal/jinja", "github.com/aws/aws-sdk-go-v2/service/secretsmanager", "github.com/aws/aws-sdk-go-v2/service/ssm", "github.com/santhosh-tekuri/jsonschema"},
		"a cold start reads and initialises what is linked"},
	{"what runs tasks knows no cloud", []string{"internal/workerhost", "internal/worker", "internal/executor/lambdaexec"}, true,
		[]string{"github.com/aws/", module + "internal/awsapp"},
		"the same worker runs everywhere"},
	{"what decides knows no exporter", []string{"internal/engine", "internal/store", "internal/scheduler", "internal/worker"}, true,
		[]string{module + "internal/observe", "go.opentelemetry.io"},
		"exporters listen; nothing waits for them"},
	{"nothing imports the simulator", []string{"internal/engine", "internal/store", "internal/cli", "cmd"}, true,
		[]string{module + "internal/sim", "pgregory.net/rapid", "testing"},
		"test code must not reach users"},
}

// violations applies the rules to the packages.
func violations(pkgs []pkg, rules []rule) []string {
	var out []string
	for _, p := range pkgs {
		rel := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules {
			if !below(rel, r.from) {
				continue
			}
			deps := p.Imports
			if r.deep {
				deps = p.Deps
			}
			for _, d := range deps {
				if d != p.ImportPath && forbidden(d, r.forbid) {
					out = append(out, fmt.Sprintf("%s depends on %s: %s (%s)", rel, d, r.name, r.why))
				}
			}
		}
	}
	sort.Strings(out)
	return out
}

// below reports whether rel is one of the roots or inside one. Test support
// (…test packages) and drivers below store/kv are their own roots.
func below(rel string, roots []string) bool {
	if strings.HasSuffix(rel, "test") {
		return false
	}
	for _, root := range roots {
		if rel == root {
			return true
		}
		if strings.HasPrefix(rel, root+"/") && !strings.HasPrefix(rel, "internal/store/kv/") && !strings.HasPrefix(rel, "internal/operator/sqldrivers") {
			return true
		}
	}
	return false
}

func forbidden(dep string, forbid []string) bool {
	for _, f := range forbid {
		if strings.HasPrefix(f, "!") { // an exception: own packages
			if strings.HasPrefix(dep, f[1:]) {
				return false
			}
		}
	}
	for _, f := range forbid {
		if dep == f || strings.HasSuffix(f, "/") && strings.HasPrefix(dep, f) || strings.HasPrefix(dep, f+"/") && strings.HasPrefix(f, module) || strings.HasPrefix(dep, f+"/") && strings.Contains(f, ".") {
			return true
		}
	}
	return false
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags", "lambda.norpc", "-json=ImportPath,Imports,Deps,Standard", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImports(t *testing.T) {
	pkgs := list(t)
	for _, v := range violations(pkgs, rules) {
		t.Error(v)
	}
	// A guard that points at a folder that is gone guards nothing.
	have := map[string]bool{}
	for _, p := range pkgs {
		have[strings.TrimPrefix(p.ImportPath, module)] = true
	}
	for _, r := range rules {
		for _, root := range r.from {
			found := have[root]
			for p := range have {
				found = found || strings.HasPrefix(p, root+"/")
			}
			if !found {
				t.Errorf("rule %q names %s, which does not exist", r.name, root)
			}
		}
	}
}

func TestGuardsCatch(t *testing.T) {
	bad := []pkg{
		{ImportPath: module + "internal/scheduler", Imports: []string{"context"}, Deps: []string{module + "internal/store", "github.com/x/y"}},
		{ImportPath: module + "internal/engine", Deps: []string{"modernc.org/sqlite"}},
	}
	if got := violations(bad, rules); len(got) != 4 {
		t.Errorf("want 4 violations, got %d: %q", len(got), got)
	}
}
