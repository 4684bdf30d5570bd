//go:build linux

package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestEnviron(t *testing.T) {
	got := Environ([]string{
		"PATH=/bin", "AWS_REGION=r", "AWS_DEFAULT_REGION=r", "AWS_ACCESS_KEY_ID=k", "AWS_CONTAINER_CREDENTIALS_FULL_URI=u", "AWS_LAMBDA_RUNTIME_API=a", "_X_AMZN_TRACE_ID=t",
		"_AWS_XRAY_DAEMON_ADDRESS=x", "LAMBDA_TASK_ROOT=/var/task", "_HANDLER=h", "GUST_TABLE=t", "ECS_CONTAINER_METADATA_URI_V4=u", "AIRFLOW_VAR_X=1", "AIRFLOW__CORE__FERNET_KEY=f",
	})
	if want := []string{"PATH=/bin", "AWS_REGION=r", "AWS_DEFAULT_REGION=r", "AIRFLOW_VAR_X=1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "a")
	ScrubEnv("AWS_LAMBDA_RUNTIME_API")
	if os.Getenv("AWS_SECRET_ACCESS_KEY") != "" || os.Getenv("AWS_LAMBDA_RUNTIME_API") != "a" {
		t.Error("the environment of this process")
	}
}

func TestScratch(t *testing.T) {
	whole := t.TempDir()
	s, err := NewScratch(filepath.Join(whole, "gust"), whole)
	if err != nil {
		t.Fatal(err)
	}
	write := func(p string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "precious")
	write(outside)
	traps := func() {
		for _, dir := range []string{s.Tmp(), s.Home(), filepath.Join(whole, "gust"), whole} {
			write(filepath.Join(dir, "evil", "deep", "file"))
			if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "evil", "link")); err != nil {
				t.Fatal(err)
			}
			for _, p := range []string{"evil/deep", "evil"} {
				if err := os.Chmod(filepath.Join(dir, p), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(filepath.Join(s.Cache(), "keep"))
		write(filepath.Join(s.Cache(), "gust-python-x", "boot.py"))
	}
	traps()
	if err := s.Clean(false); err != nil {
		t.Fatal(err)
	}
	left := func() (out []string) {
		_ = filepath.WalkDir(whole, func(p string, d os.DirEntry, _ error) error {
			if !d.IsDir() {
				rel, _ := filepath.Rel(whole, p)
				out = append(out, rel)
			}
			return nil
		})
		return out
	}
	if got := left(); !slices.Equal(got, []string{"gust/cache/gust-python-x/boot.py", "gust/cache/keep"}) {
		t.Errorf("left: %q", got)
	}
	if err := s.Forget("gust-python-"); err != nil || !slices.Equal(left(), []string{"gust/cache/keep"}) {
		t.Errorf("%v %q", err, left())
	}
	traps()
	// The folders themselves may have been replaced.
	if err := os.RemoveAll(s.Home()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), s.Home()); err != nil {
		t.Fatal(err)
	}
	if err := s.Clean(true); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != nil {
		t.Errorf("left: %q", got)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("something outside was removed: %v", err)
	}
	if fi, err := os.Lstat(s.Home()); err != nil || !fi.IsDir() {
		t.Errorf("home: %v %v", fi, err)
	}
}

// TestEndAll starts a daemon in a session of its own that forks all the time, and
// a child that is to be kept.
func TestEndAll(t *testing.T) {
	if os.Getenv("SANDBOX_HELPER") == "1" { // a process of its own, so that only it becomes a subreaper
		helper(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestEndAll$", "-test.v")
	cmd.Env = append(os.Environ(), "SANDBOX_HELPER=1", "EVIL_MARK="+strconv.Itoa(os.Getpid()))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func helper(t *testing.T) {
	err := Harden()
	cgo := errors.Is(err, ErrCgo)
	if err != nil && !cgo {
		t.Fatal(err)
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("dumpable: %d %v", d, err)
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || d != 1 && !cgo {
		t.Errorf("no_new_privs: %d %v", d, err)
	}
	kept := exec.Command("sleep", "300")
	if err := kept.Start(); err != nil {
		t.Fatal(err)
	}
	loop := `trap '' TERM HUP INT; while :; do (sleep 0.01; exec sh "$0" again) & sleep 0.01; [ "$1" = again ] && exit; done`
	script := filepath.Join(t.TempDir(), "loop.sh")
	if err := os.WriteFile(script, []byte(loop), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cmd := exec.Command("setsid", "-f", "sh", script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	if n := running(script); n == 0 {
		t.Fatal("the daemons do not run: the test shows nothing")
	}
	if err := EndAll([]int{kept.Process.Pid}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if n := running(script); n != 0 {
		t.Errorf("%d processes survived", n)
	}
	if err := kept.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the kept process was ended: %v", err)
	}
	if err := EndAll(nil, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	_ = kept.Wait()
}

// running counts the processes with a text in their command line.
func running(text string) (n int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return -1
	}
	for _, e := range entries {
		if b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && strings.Contains(string(b), text) {
			n++
		}
	}
	return n
}
