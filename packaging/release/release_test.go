package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestArchivesAreDeterministic(t *testing.T) {
	when := time.Unix(1_700_000_000, 0).UTC()
	pack := func(touched time.Time, mode os.FileMode, order ...string) []byte {
		dir := t.TempDir()
		files := []file{{name: "airflow", link: "gust"}, {name: "NOTES", content: []byte("notes"), mode: 0o644}}
		for _, name := range order {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("content of "+name), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, touched, touched); err != nil {
				t.Fatal(err)
			}
			files = append(files, file{name: name, from: path, mode: 0o755})
		}
		to := filepath.Join(dir, "a.tar.gz")
		if err := writeTarGz(to, "gust_1.2.3", files, when); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a := pack(time.Now(), 0o600, "gust", "zz", "aa")
	if b := pack(time.Now().Add(-100*time.Hour), 0o644, "aa", "gust", "zz"); !bytes.Equal(a, b) {
		t.Error("equal files gave different archives")
	}
	if c := pack(time.Now(), 0o600, "gust", "zz", "ab"); bytes.Equal(a, c) {
		t.Error("different files gave equal archives")
	}

	gz, err := gzip.NewReader(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if !h.ModTime.Equal(when) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s: time %v, owner %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		switch h.Name {
		case "gust_1.2.3/gust":
			if h.Mode != 0o755 {
				t.Errorf("the program has mode %o", h.Mode)
			}
		case "gust_1.2.3/airflow":
			if h.Linkname != "gust" {
				t.Errorf("airflow leads to %q", h.Linkname)
			}
		}
	}
	if got, want := strings.Join(names, " "), "gust_1.2.3/ gust_1.2.3/NOTES gust_1.2.3/aa gust_1.2.3/airflow gust_1.2.3/gust gust_1.2.3/zz"; got != want {
		t.Errorf("entries %s\nwant    %s", got, want)
	}
}

func TestSumsAreWhatSha256sumReads(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b.tar.gz", "a.tar.gz"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeSums(dir, []string{"b.tar.gz", "a.tar.gz"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	// printf a.tar.gz | sha256sum
	want := "0a67bba7da46793c9f1908a7eec3d06a11ba7bc00bf749c31bb134f4f45ebcad  a.tar.gz\n4cdd590dab2a8c432f0e00ac86a0de7d0116b6638a012053786d3b4899102a74  b.tar.gz\n"
	if string(b) != want {
		t.Errorf("SHA256SUMS:\n%swant:\n%s", b, want)
	}
}

func TestCheckNamesEveryProblem(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "left"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := check(options{version: "1.2", out: dir, targets: []string{"linux/amd64", "plan9/mips"}, lambdas: []string{"riscv64"}, dirty: true})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`"1.2"`, "plan9/mips", "riscv64", "LICENSE is missing", "not empty"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
	for v, ok := range map[string]bool{"0.1.0": true, "1.0.0-rc.1": true, "10.20.30": true, "1.0.0+5": false, "01.0.0": false, "dev": false, "1.0.0-": false, "1.0.0/../x": false} {
		if semver.MatchString(v) != ok {
			t.Errorf("version %s accepted: %v", v, !ok)
		}
	}
}

// TestProgramIsReproducible builds the real program twice for this machine: the
// same bytes, with the version that was asked for and nothing of this folder.
func TestProgramIsReproducible(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("Gust does not build for " + runtime.GOOS)
	}
	t.Chdir("../..")
	var programs [2][]byte
	for i := range programs {
		to := filepath.Join(t.TempDir(), "gust")
		if err := build(to, runtime.GOOS, runtime.GOARCH, "", "9.8.7-test", "./cmd/gust"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		programs[i] = b
		if i > 0 {
			continue
		}
		out, err := exec.Command(to, "version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "9.8.7-test") {
			t.Errorf("gust version: %s %v", out, err)
		}
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(here+"/internal")) {
			t.Errorf("the program knows where it was built: %s", here)
		}
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("two builds of the same sources differ")
	}
}

func TestThirdPartyLicenses(t *testing.T) {
	t.Chdir("../..")
	b, err := thirdParty("linux", "arm64", "aws", "./cmd/gust")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"The Go standard library (LICENSE)", "modernc.org/sqlite v", "github.com/spf13/cobra v", "github.com/aws/aws-sdk-go-v2/service/s3 v"} {
		if !strings.Contains(string(b), "\n"+want) {
			t.Errorf("the licences do not name %s", want)
		}
	}
	if strings.Contains(string(b), "pgregory.net/rapid") {
		t.Error("test code is not part of the program")
	}
}
