package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// shell runs command lines on a home of its own, as a user's shell would.
type shell struct {
	t     *testing.T
	home  string
	dags  string
	name  string
	stdin string
	env   map[string]string
	now   time.Time
	// edit changes what a command gets from its process; may be nil.
	edit func(*Env)
}

func newShell(t *testing.T) *shell {
	t.Helper()
	home := t.TempDir()
	s := &shell{t: t, home: home, dags: filepath.Join(home, "dags"), name: "gust", env: map[string]string{"NO_COLOR": "1"}, now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	if err := os.MkdirAll(s.dags, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shell) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dags, name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

type result struct {
	out, err string
	code     int
}

// run executes a command line and returns what it wrote.
func (s *shell) run(args ...string) result {
	s.t.Helper()
	var out, errOut bytes.Buffer
	env := Env{
		Args: append(args, "--home", s.home), Name: s.name, Stdin: strings.NewReader(s.stdin), Stdout: &out, Stderr: &errOut,
		Getenv: func(k string) string { return s.env[k] },
		Environ: func() []string {
			var kv []string
			for k, v := range s.env {
				kv = append(kv, k+"="+v)
			}
			return kv
		},
		Now: func() time.Time { return s.now }, Width: 100, User: "tester",
	}
	if s.edit != nil {
		s.edit(&env)
	}
	code := Main(s.t.Context(), env)
	return result{out.String(), errOut.String(), code}
}

// ok executes a command line that has to succeed and returns its output.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != ExitOK {
		s.t.Fatalf("%s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// fails executes a command line that has to end with a code and a message.
func (s *shell) fails(code int, message string, args ...string) {
	s.t.Helper()
	r := s.run(args...)
	if r.code != code || !strings.Contains(r.err+r.out, message) {
		s.t.Errorf("%s: exit %d, want %d with %q\n%s%s", strings.Join(args, " "), r.code, code, message, r.out, r.err)
	}
	if n := strings.Count(r.err, "error:"); n > 1 {
		s.t.Errorf("%s: the error is printed %d times\n%s", strings.Join(args, " "), n, r.err)
	}
}

// list decodes the JSON list that a command prints.
func (s *shell) list(args ...string) []map[string]any {
	s.t.Helper()
	var v []map[string]any
	text := s.ok(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		s.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return v
}

var (
	anyTime = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)`)
	anyHash = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
)

// golden compares output with a file, once times, hashes and paths are replaced.
func (s *shell) golden(name, got string) {
	s.t.Helper()
	got = strings.ReplaceAll(got, s.home, "HOME")
	got = anyHash.ReplaceAllString(anyTime.ReplaceAllString(got, "TIME"), "HASH")
	// Columns are as wide as what was replaced.
	got = regexp.MustCompile(`={3,}`).ReplaceAllString(regexp.MustCompile(` {2,}`).ReplaceAllString(got, "  "), "===")
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != string(want) {
		s.t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}
