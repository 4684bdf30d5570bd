// Command zips builds the Lambda functions: dist/<function>/ with the one executable that its function starts, and
// dist/<function>.zip with the same. The same sources, Go version and -version give the same bytes. It prints a table of
// sizes and fails when a zip is above the limit, so that a dependency which fattens a cold start is noticed where it is
// added.
//
//	go run ./functions/zips -arch arm64
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/awsenv"
)

// zipLimit is the size that no zip may exceed (issue 4; AWS itself takes 50 MB).
const zipLimit = 15 << 20

func main() {
	o := options{}
	only := flag.String("only", "", "comma-separated functions; default all")
	flag.StringVar(&o.dist, "dist", "dist", "folder to write to")
	flag.StringVar(&o.arch, "arch", "arm64", "arm64 or amd64; \"host\" is this machine's")
	flag.StringVar(&o.version, "version", "dev", "version that the functions report")
	flag.Parse()
	o.functions = awsenv.Functions()
	if *only != "" {
		o.functions = strings.Split(*only, ",")
	}
	if o.arch == "host" {
		o.arch = runtime.GOARCH
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "zips:", err)
		os.Exit(1)
	}
}

type options struct {
	dist, arch, version string
	functions           []string
}

// entry is the name of the executable in a function's folder: what provided.al2023 starts, or the wrapper that the
// worker puts in place of the managed Python runtime (AWS_LAMBDA_EXEC_WRAPPER).
func entry(function string) string {
	if function == awsenv.Worker {
		return awsenv.WorkerBinary
	}
	return "bootstrap"
}

func run(o options) error {
	start := time.Now()
	if err := check(o); err != nil {
		return err
	}
	binaries, err := os.MkdirTemp("", "gust-zips-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(binaries)
	if err := build(o, binaries); err != nil {
		return err
	}
	fmt.Printf("%-14s %-8s %10s %10s %8s\n", "function", "arch", "binary", "zip", "of limit")
	var fat []string
	for _, f := range o.functions {
		folder := filepath.Join(o.dist, f)
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		binary := filepath.Join(folder, entry(f))
		if err := copyFile(filepath.Join(binaries, f), binary); err != nil {
			return err
		}
		zipped, err := writeZip(folder, filepath.Join(o.dist, f+".zip"))
		if err != nil {
			return err
		}
		info, err := os.Stat(binary)
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %-8s %7.2f MB %7.2f MB %7d%%\n", f, o.arch, mb(info.Size()), mb(zipped), zipped*100/zipLimit)
		if zipped > zipLimit {
			fat = append(fat, fmt.Sprintf("%s.zip has %.2f MB", f, mb(zipped)))
		}
	}
	fmt.Printf("built in %.1f s\n", time.Since(start).Seconds())
	if len(fat) > 0 {
		return fmt.Errorf("above the limit of %d MB: %s; `go tool nm -size -sort size` on the binary shows what fills it", zipLimit>>20, strings.Join(fat, ", "))
	}
	return nil
}

// check reports all that is wrong with the request at once.
func check(o options) error {
	var problems []string
	if o.arch != "arm64" && o.arch != "amd64" {
		problems = append(problems, fmt.Sprintf("-arch %q: expected arm64, amd64 or host", o.arch))
	}
	known := map[string]bool{}
	for _, f := range awsenv.Functions() {
		known[f] = true
	}
	for _, f := range o.functions {
		if !known[f] {
			problems = append(problems, fmt.Sprintf("%q is not a function (%s)", f, strings.Join(awsenv.Functions(), ", ")))
		} else if _, err := os.Stat(filepath.Join("functions", f)); err != nil {
			problems = append(problems, fmt.Sprintf("functions/%s is missing; run this in the root of the project", f))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s", strings.Join(problems, "\n      "))
	}
	return nil
}

// build compiles and links all functions in one go command, which shares the work between them.
func build(o options, into string) error {
	args := []string{"build", "-o", into + "/", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/gustflow/gust/internal/version.Version=" + o.version}
	for _, f := range o.functions {
		args = append(args, "./functions/"+f)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.arch)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }
