package main

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/awsenv"
)

// forbidden are import paths that no function may link, with the reason. A path stands for everything below it.
var forbidden = map[string]string{
	"github.com/gustflow/gust/internal/store/kv/sqlitekv": "the store of a function is DynamoDB",
	"modernc.org/sqlite":                                  "SQLite adds megabytes to every cold start",
	"github.com/aws/aws-cdk-go":                           "the CDK belongs to infra",
	"github.com/aws/jsii-runtime-go":                      "the CDK belongs to infra",
	"github.com/aws/constructs-go":                        "the CDK belongs to infra",
	"github.com/gustflow/gust/internal/localapp":          "it is the local process",
	"github.com/gustflow/gust/internal/cli":               "it is the command line",
	"github.com/spf13/cobra":                              "it is the command line",
	"pgregory.net/rapid":                                  "it is test code",
	"testing":                                             "it is test code",
	"github.com/gustflow/gust/internal/sim":               "it is test code",
	"github.com/gustflow/gust/internal/store/kv/memkv":    "a function's memory is not a store",
	"github.com/aws/aws-sdk-go-v2/service/cloudformation": "functions deploy nothing",
}

func TestNoFunctionLinksWhatItDoesNotNeed(t *testing.T) {
	checked := 0
	for _, f := range awsenv.Functions() {
		if _, err := os.Stat(filepath.Join("..", f)); err != nil {
			t.Errorf("functions/%s is missing, awsenv.Functions names it", f)
			continue
		}
		deps := dependencies(t, f)
		checked++
		for _, path := range deps {
			for bad, why := range forbidden {
				if path == bad || strings.HasPrefix(path, bad+"/") {
					t.Errorf("functions/%s links %s: %s", f, path, why)
				}
			}
		}
	}
	t.Logf("%d functions", checked)
}

func dependencies(t *testing.T, function string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", "../"+function)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list ../%s: %v\n%s", function, err, stderr.String())
	}
	return strings.Fields(string(out))
}

func TestZipsAreDeterministic(t *testing.T) {
	pack := func(when time.Time, mode os.FileMode, order ...string) []byte {
		dir := t.TempDir()
		folder := filepath.Join(dir, "f")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range order {
			path := filepath.Join(folder, name)
			if err := os.WriteFile(path, []byte("content of "+name), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "f.zip")
		n, err := writeZip(folder, file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n != int64(len(b)) {
			t.Errorf("writeZip said %d bytes, the file has %d", n, len(b))
		}
		return b
	}
	a := pack(time.Now(), 0o600, "bootstrap", "z", "a")
	b := pack(time.Now().Add(-100*time.Hour), 0o644, "a", "bootstrap", "z")
	if !bytes.Equal(a, b) {
		t.Error("equal files gave different archives")
	}
	if c := pack(time.Now(), 0o600, "bootstrap", "z", "b"); bytes.Equal(a, c) {
		t.Error("different files gave equal archives")
	}
	r, err := zip.NewReader(bytes.NewReader(a), int64(len(a)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.File {
		if f.Mode().Perm() != 0o755 {
			t.Errorf("%s has mode %v; Lambda starts only what is executable", f.Name, f.Mode())
		}
	}
}

func TestCheckNamesEveryProblem(t *testing.T) {
	t.Chdir("../..")
	err := check(options{arch: "mips", functions: []string{"scheduller", "wroker"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"mips", "scheduller", "wroker"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
