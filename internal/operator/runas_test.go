package operator_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/operator"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

const bashClass = "airflow.providers.standard.operators.bash.BashOperator"

// TestRunAsUser runs tasks as another user where this process is root, from a
// bundle and a cache that only root can read.
func TestRunAsUser(t *testing.T) {
	const name = "nobody"
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user; TestRunAsUserRefused is for the rest")
	}
	if _, err := user.Lookup(name); err != nil {
		t.Skip("this machine has no user nobody")
	}
	private := t.TempDir() // its parents are root's alone
	bundle := filepath.Join(private, "bundle")
	for path, text := range map[string]string{
		"m.py":     "import os\ndef who(*, suffix):\n    return [os.getuid() == 0, os.environ['HOME'], os.environ['USER'], open(os.path.join(os.path.dirname(__file__), 'data.txt')).read() + suffix]\n",
		"data.txt": "data", "run.sh": "id -un; touch here && ls here\n",
	} {
		if err := os.MkdirAll(bundle, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bundle, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := pyproc.NewHost("", filepath.Join(private, "cache"), "test", 1)
	defer host.Close()
	shares := proc.NewShares("gust-test-" + filepath.Base(filepath.Dir(private)))
	defer shares.Close()
	for _, c := range []struct{ class, kwargs, fields, want string }{
		{bashClass, `{"bash_command":"id -un; touch made; ls -l made | awk '{print $3}'; echo $HOME-$(id -un)"}`, `{"run_as_user":"nobody"}`, `"/nonexistent-nobody"`},
		{bashClass, `{"bash_command":"run.sh"}`, `{"run_as_user":"nobody","template_fields":["bash_command"]}`, `"here"`},
		{bashClass, `{"bash_command":"cat ` + bundle + `/data.txt; true"}`, `{"run_as_user":"nobody"}`, "Permission denied"},
		{"airflow.providers.standard.operators.python.PythonOperator", `{"python_callable":{"__type":"callable","__var":"m.who"},"op_kwargs":{"suffix":"!"}}`, `{"run_as_user":"nobody"}`, `[false,"/nonexistent","nobody","data!"]`},
		{bashClass, `{"bash_command":"id -un"}`, `{}`, `"root"`},
		{bashClass, `{"bash_command":"id -un"}`, `{"run_as_user":"root"}`, `"root"`},
	} {
		dag := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: c.class, Kwargs: c.kwargs, Fields: c.fields})
		r, log, err := workertest.Run{DAG: dag, Task: "t", Change: func(tc *worker.TaskContext) { tc.BundleDir = bundle },
			Options: taskrunner.Options{Python: host, Shares: shares}}.Do(t, operator.Default())
		if err != nil || r.Outcome != worker.OutcomeSuccess {
			t.Errorf("%s %s: %v %v\n%s", c.kwargs, c.fields, r, err, log)
			continue
		}
		got := log
		for _, x := range r.XComs {
			got += string(x.Value)
		}
		if !strings.Contains(strings.ReplaceAll(got, ", ", ","), c.want) {
			t.Errorf("%s %s: want %s in\n%s", c.kwargs, c.fields, c.want, got)
		}
	}
	// The default of the installation, and a user that does not exist.
	dag := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: bashClass, Kwargs: `{"bash_command":"id -un"}`})
	_, log, err := workertest.Run{DAG: dag, Task: "t", Options: taskrunner.Options{Python: host, Shares: shares, DefaultImpersonation: name}}.Do(t, operator.Default())
	if err != nil || !strings.Contains(log, "info task.hooks") && !strings.Contains(log, name) {
		t.Errorf("default_impersonation: %v\n%s", err, log)
	}
	if _, err := proc.Become("no-such-user-here"); err == nil || !strings.Contains(err.Error(), "no such user") {
		t.Errorf("%v", err)
	}
}

// TestRunAsUserRefused: who is not root cannot become another user, and says so in
// the task's log; the task fails as Airflow's does when sudo does.
func TestRunAsUserRefused(t *testing.T) {
	if os.Geteuid() == 0 { // again, in a child that is nobody
		u, err := proc.Become("nobody")
		if err != nil {
			t.Skip("this machine has no user nobody")
		}
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Skip("this system cannot tell the test's own program")
		}
		dir, err := os.MkdirTemp("", "gust-runas-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		exe := filepath.Join(dir, "test")
		if err := os.WriteFile(exe, self, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		p, err := proc.Start(proc.Spec{Path: exe, Args: []string{"-test.run=^TestRunAsUserRefused$", "-test.v"}, Env: u.Environ(os.Environ()), Dir: dir, As: u,
			Stdout: func(b []byte) { out.Write(b); out.WriteByte('\n') }})
		if err != nil {
			t.Fatal(err)
		}
		if exit := p.Wait(); !exit.OK() || !strings.Contains(out.String(), "--- PASS: TestRunAsUserRefused") {
			t.Errorf("%v\n%s", exit, out.String())
		}
		return
	}
	dag := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: bashClass, Kwargs: `{"bash_command":"id -un"}`, Fields: `{"run_as_user":"root","retries":1}`})
	r, log, err := workertest.Run{DAG: dag, Task: "t", Change: func(tc *worker.TaskContext) { tc.MaxTries, tc.ShouldRetry = 1, true }}.Do(t, operator.Default())
	if err != nil || r.Outcome != worker.OutcomeFailed || !strings.Contains(log, "only root can run tasks as another user") {
		t.Errorf("%+v %v\n%s", r, err, log)
	}
}
