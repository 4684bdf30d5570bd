package proc

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func collect(lines *[]string) func([]byte) {
	return func(b []byte) { *lines = append(*lines, string(b)) }
}

func TestOutputByLine(t *testing.T) {
	var out, errs []string
	p, err := Start(Spec{Path: "bash", Args: []string{"-c", `echo a; echo b >&2; printf 'c\nlast'; exit 3`}, Stdout: collect(&out), Stderr: collect(&errs)})
	if err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != 3 || e.String() != "exit code 3" {
		t.Errorf("exit %+v %q, want code 3", e, e)
	}
	if strings.Join(out, ",") != "a,c,last" || strings.Join(errs, ",") != "b" {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
}

func TestEndGroup(t *testing.T) {
	ready := make(chan int)
	p, err := Start(Spec{Path: "bash", Args: []string{"-c", `trap '' TERM; sleep 1000 & echo $!; wait; wait`}, Stdout: func(b []byte) {
		pid, err := strconv.Atoi(string(b))
		if err != nil {
			t.Error(err)
		}
		ready <- pid
	}})
	if err != nil {
		t.Fatal(err)
	}
	background := <-ready
	start := time.Now()
	e := p.End(50 * time.Millisecond)
	if e.Signal != syscall.SIGKILL || !e.Ended {
		t.Errorf("exit %+v, want SIGKILL on request after the grace time", e)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("ending took %v: the background process kept the pipe", d)
	}
	// A zombie that init has not collected yet counts as ended.
	if _, _, err := stat(background); err == nil {
		t.Error("the background process still runs")
	}
}

func TestExitString(t *testing.T) {
	for _, c := range []struct {
		e    Exit
		want string
	}{
		{Exit{Code: 137}, "memory"}, {Exit{Code: -1, Signal: syscall.SIGKILL, OOM: true}, "OOM"},
		{Exit{Code: 143}, "SIGTERM"}, {Exit{Code: -1, Signal: syscall.SIGSEGV}, "SIGSEGV"}, {Exit{Code: 1}, "exit code 1"},
	} {
		if !strings.Contains(c.e.String(), c.want) {
			t.Errorf("%+v: %q does not name %q", c.e, c.e, c.want)
		}
	}
}

func TestOrphans(t *testing.T) {
	inst := "test-" + strings.ReplaceAll(t.Name(), "/", "-")
	cmd := exec.Command("sleep", "1000")
	cmd.Env = []string{EnvDispatch + "=d/r/t/-1/7", EnvInstallation + "=" + inst}
	cmd.SysProcAttr = sysProcAttr(0)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for name, find := range map[string]func(string) ([]Orphan, error){"proc": scan, "ps": scanPS} {
		got, err := find(inst)
		if err != nil || len(got) != 1 || got[0].PID != cmd.Process.Pid || got[0].Dispatch != "d/r/t/-1/7" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if other, _ := find("another installation"); len(other) != 0 {
			t.Errorf("%s finds the children of another installation: %+v", name, other)
		}
	}
	found, err := FindOrphans(inst)
	if err != nil || len(found) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	reused := found[0]
	reused.Started = "1"
	if err := KillOrphan(reused, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatal("a process with another start time was killed")
	}
	if ended, err := EndOrphans(inst, time.Second); err != nil || len(ended) != 1 {
		t.Fatal(ended, err)
	}
	st, _ := cmd.Process.Wait()
	if st == nil || st.Success() {
		t.Errorf("the orphan ended with %v, want a signal", st)
	}
}

func TestCleanEnviron(t *testing.T) {
	got := CleanEnviron([]string{"PATH=/bin", "GUST_TOKEN=x", "AIRFLOW__CORE__FERNET_KEY=k", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=x", "AIRFLOW_VAR_A=1"})
	if strings.Join(got, " ") != "PATH=/bin AIRFLOW_VAR_A=1" {
		t.Errorf("%q", got)
	}
}

func TestReadLinesLong(t *testing.T) {
	var n, calls int
	ReadLines(bytes.NewReader(bytes.Repeat([]byte("x"), 3*MaxLine+5)), func(b []byte) { n += len(b); calls++ })
	if n != 3*MaxLine+5 || calls > 4 {
		t.Errorf("%d bytes in %d calls", n, calls)
	}
}

// BenchmarkBareSpawn is the yardstick of BenchmarkStart.
func BenchmarkBareSpawn(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	env := os.Environ()
	for b.Loop() {
		p, err := Start(Spec{Path: "/bin/true", Env: env, Stdout: func([]byte) {}})
		if err != nil {
			b.Fatal(err)
		}
		p.Wait()
	}
}
