package upgrade

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// before is the subject of the commit that stands for the version before: hashes
// change when history is rewritten. A tag v… takes its place once there is one.
const before = "Follow the callbacks in the bugs put in on purpose; tell redundant parentheses from nested ones"

// current builds the program of this checkout.
func current(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "gust")
	goBuild(t, "../..", out)
	return out
}

// earlier builds the program of the version before. GUST_OLD is a program to take
// instead.
func earlier(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("GUST_OLD"); p != "" {
		abs, err := filepath.Abs(p)
		if err != nil {
			t.Fatal(err)
		}
		return abs
	}
	dir := earlierSources(t)
	out := filepath.Join(dir, "gust-old")
	goBuild(t, dir, out)
	return out
}

// earlierSources unpacks the version before from the repository's history:
// GUST_OLD_COMMIT, the newest tag v…, or the commit that [before] names.
func earlierSources(t *testing.T) string {
	t.Helper()
	commit := os.Getenv("GUST_OLD_COMMIT")
	if commit == "" {
		commit = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
	}
	if commit == "" {
		commit = git("log", "-1", "--format=%H", "--fixed-strings", "--grep="+before)
	}
	if commit == "" || git("cat-file", "-t", commit) == "" {
		t.Skip("this checkout has no history to build the version before from (TestStoredHome and TestStoredTable have its data)")
	}
	dir := t.TempDir()
	archive := exec.Command("git", "archive", commit)
	archive.Dir = filepath.Join("..", "..")
	untar := exec.Command("tar", "-x", "-C", dir)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	untar.Stdin = pipe
	if err := errors.Join(archive.Start(), untar.Run(), archive.Wait()); err != nil {
		t.Fatalf("git archive %s: %v", commit, err)
	}
	t.Logf("the version before is %s", git("log", "-1", "--format=%h of %cs, %s", commit))
	return dir
}

func git(args ...string) string {
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func goBuild(t *testing.T, dir, out string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, "./cmd/gust")
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build in %s: %v\n%s", dir, err, b)
	}
}
