// Command release builds what a release of Gust consists of, into one folder:
//
//	gust_<version>_<os>_<arch>.tar.gz         the program, for Linux and macOS
//	gust-worker_<version>_linux_<arch>.tar.gz the worker alone, for container images and machines on a queue
//	gust-lambda_<version>_linux_<arch>.tar.gz a zip per Lambda function
//	SHA256SUMS                                what `sha256sum -c` reads
//
// Every archive carries the licence, the README, the changelog and the licences of what is linked. The same commit, Go
// version and -version give the same bytes, wherever and whenever it runs: `make release-check` proves it.
//
// There is no Windows program: process groups, signals, file owners and the shell of Bash tasks are POSIX. Gust runs in
// WSL 2 and in the container there.
//
//	go run ./packaging/release -version 0.1.0
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	var o options
	targets := flag.String("targets", strings.Join(allTargets, ","), "comma-separated os/arch of the program")
	arches := flag.String("lambdas", "arm64,amd64", "comma-separated architectures of the functions and the worker, empty = none")
	flag.StringVar(&o.version, "version", "", "version, such as 0.1.0 or 0.2.0-rc.1")
	flag.StringVar(&o.out, "out", "", "folder to write to; it must be empty or absent (default dist/release/<version>)")
	flag.BoolVar(&o.dirty, "allow-dirty", false, "build though files differ from the commit: for trying things out, never to publish")
	flag.Parse()
	o.targets, o.lambdas = list(*targets), list(*arches)
	o.version = strings.TrimPrefix(o.version, "v")
	if o.out == "" {
		o.out = filepath.Join("dist", "release", o.version)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

var allTargets = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

type options struct {
	version, out     string
	targets, lambdas []string
	dirty            bool
}

// documents are in every archive, from the root of the project.
var documents = []string{"LICENSE", "README.md", "CHANGELOG.md"}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// semver is https://semver.org without build metadata, which file names and image tags do not take.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// check reports all that is wrong with the request at once.
func check(o options) error {
	var problems []string
	if !semver.MatchString(o.version) {
		problems = append(problems, fmt.Sprintf("version %q: expected one such as 0.1.0 or 0.2.0-rc.1 (make release VERSION=0.1.0)", o.version))
	}
	for _, t := range o.targets {
		if !slices.Contains(allTargets, t) {
			problems = append(problems, fmt.Sprintf("target %q: expected one of %s", t, strings.Join(allTargets, ", ")))
		}
	}
	for _, a := range o.lambdas {
		if a != "arm64" && a != "amd64" {
			problems = append(problems, fmt.Sprintf("architecture %q of the functions: expected arm64 or amd64", a))
		}
	}
	for _, d := range documents {
		if _, err := os.Stat(d); err != nil {
			problems = append(problems, d+" is missing; run this in the root of the project")
		}
	}
	if entries, err := os.ReadDir(o.out); err == nil && len(entries) > 0 {
		problems = append(problems, fmt.Sprintf("%s is not empty: remove it, or choose another version", o.out))
	}
	if !o.dirty {
		out, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output()
		switch {
		case err != nil:
			problems = append(problems, "git status failed, so nobody knows what would be released; -allow-dirty builds all the same")
		case len(out) > 0:
			problems = append(problems, "files differ from the commit: commit them first, or -allow-dirty to try things out:\n"+strings.TrimRight(string(out), "\n"))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s", strings.Join(problems, "\n         "))
	}
	return nil
}

// modified is the time that every file in every archive gets: SOURCE_DATE_EPOCH
// where set (https://reproducible-builds.org/specs/source-date-epoch/), else the
// commit's.
func modified() (time.Time, error) {
	s, from := os.Getenv("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	if s == "" {
		out, err := exec.Command("git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the time of the commit: %w; without git set SOURCE_DATE_EPOCH to Unix seconds", err)
		}
		s, from = strings.TrimSpace(string(out)), "the time of the commit"
	}
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is %q: expected Unix seconds", from, s)
	}
	return time.Unix(sec, 0).UTC(), nil
}

func run(o options) error {
	start := time.Now()
	if err := check(o); err != nil {
		return err
	}
	when, err := modified()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "gust-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	var made []string
	pack := func(name string, files []file) error {
		if err := writeTarGz(filepath.Join(o.out, name+".tar.gz"), name, files, when); err != nil {
			return err
		}
		made = append(made, name+".tar.gz")
		return nil
	}

	for _, t := range o.targets {
		goos, arch, _ := strings.Cut(t, "/")
		program := filepath.Join(tmp, "gust_"+goos+"_"+arch)
		// With AWS's parts: a release is what people deploy and upload DAG files with.
		tags := "aws"
		if err := build(program, goos, arch, tags, o.version, "./cmd/gust"); err != nil {
			return err
		}
		notices, err := thirdParty(goos, arch, tags, "./cmd/gust")
		if err != nil {
			return err
		}
		files := append(docs(notices), file{name: "gust", from: program, mode: 0o755}, file{name: "airflow", link: "gust"})
		if err := pack(fmt.Sprintf("gust_%s_%s_%s", o.version, goos, arch), files); err != nil {
			return err
		}
	}
	for _, arch := range o.lambdas {
		dist := filepath.Join(tmp, "lambda-"+arch)
		cmd := exec.Command("go", "run", "./functions/zips", "-arch", arch, "-version", o.version, "-dist", dist)
		cmd.Env = hostEnv()
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go run ./functions/zips -arch %s: %w", arch, err)
		}
		notices, err := thirdParty("linux", arch, "lambda.norpc", "./functions/...")
		if err != nil {
			return err
		}
		zips, err := filepath.Glob(filepath.Join(dist, "*.zip"))
		if err != nil || len(zips) == 0 {
			return fmt.Errorf("no zips in %s: %v", dist, err)
		}
		files := docs(notices)
		for _, z := range zips {
			files = append(files, file{name: filepath.Base(z), from: z, mode: 0o644})
		}
		if err := pack(fmt.Sprintf("gust-lambda_%s_linux_%s", o.version, arch), files); err != nil {
			return err
		}
		files = append(docs(notices), file{name: "gust-worker", from: filepath.Join(dist, "worker", "gust-worker"), mode: 0o755})
		if err := pack(fmt.Sprintf("gust-worker_%s_linux_%s", o.version, arch), files); err != nil {
			return err
		}
	}
	if err := writeSums(o.out, made); err != nil {
		return err
	}
	if err := table(o.out, made); err != nil {
		return err
	}
	version, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return fmt.Errorf("go env GOVERSION: %w", err)
	}
	fmt.Printf("gust %s with %s, files of %s, in %s; took %.0f s\n", o.version, strings.TrimSpace(string(version)), when.Format(time.RFC3339), o.out, time.Since(start).Seconds())
	return nil
}

func docs(notices []byte) []file {
	files := []file{{name: "THIRD-PARTY-LICENSES", content: notices, mode: 0o644}}
	for _, d := range documents {
		files = append(files, file{name: d, from: d, mode: 0o644})
	}
	return files
}

// ldflags, as the Makefile's.
func ldflags(version string) string {
	return "-s -w -X github.com/gustflow/gust/internal/version.Version=" + version
}

// build links one program. Nothing of the machine gets into it: no paths, no
// state of the checkout, no C library.
func build(to, goos, arch, tags, version, pkg string) error {
	args := []string{"build", "-o", to, "-trimpath", "-buildvcs=false", "-ldflags", ldflags(version)}
	if tags != "" {
		args = append(args, "-tags", tags)
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(hostEnv(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s/%s: %w", pkg, goos, arch, err)
	}
	return nil
}

// hostEnv is the environment without what changes the bytes that the Go
// toolchain makes. It is set to the defaults rather than removed: `go env -w` may
// have set it, too.
func hostEnv() []string {
	return append(os.Environ(), "GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
}
