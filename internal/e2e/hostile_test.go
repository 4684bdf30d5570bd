package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
)

const hostileDAG = `
default: {is_paused_upon_creation: false, start_date: 2025-01-01}
noisy:
  tasks: [{task_id: t, operator: BashOperator, bash_command: "head -c 50000000 /dev/zero | tr '\\0' 'x' | fold -w 200; echo; echo the end"}]
one_line:
  tasks: [{task_id: t, operator: BashOperator, bash_command: "head -c 5000000 /dev/zero | tr '\\0' 'y'; echo; echo the end"}]
binary:
  tasks: [{task_id: t, operator: BashOperator, bash_command: "head -c 100000 /dev/urandom; printf '\\n\\x00\\xff\\x1b[31mred\\n'; echo fine"}]
daemon: # as in Airflow the task runs until its output ends
  tasks: [{task_id: t, operator: BashOperator, execution_timeout: {__type__: datetime.timedelta, seconds: 1}, bash_command: "echo $$ > $E2E_DIR/daemon.sh.pid; (sleep 60 & echo $! > $E2E_DIR/daemon.pid; wait) & sleep 0.2; echo started"}]
double_fork:
  tasks: [{task_id: t, operator: BashOperator, execution_timeout: {__type__: datetime.timedelta, seconds: 1}, bash_command: "( (sleep 61 & echo $! > $E2E_DIR/double.pid) & ); sleep 300"}]
session:
  tasks: [{task_id: t, operator: BashOperator, execution_timeout: {__type__: datetime.timedelta, seconds: 1}, bash_command: "setsid sh -c 'echo $$ > $E2E_DIR/session.pid; exec sleep 62' & sleep 300"}]
zombies:
  tasks: [{task_id: t, operator: BashOperator, bash_command: "for i in 1 2 3 4 5; do (true) & done; sleep 0.1; echo $i"}]
`

func TestHostileTasks(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]string{"hostile.yml": hostileDAG}, func(o *localapp.Options) { o.MaxTaskLogBytes = 4 << 20 })
	t.Run("50 MB of log", func(t *testing.T) {
		t.Parallel()
		r := s.trigger(t, "noisy", nil).ends(success, "t=success").has("t", `"the end"`)
		if n := len(r.rawLog("t", 1)); n > 5<<20 || n < 1<<20 {
			t.Errorf("the log has %d bytes, allowed are 4 MiB", n)
		}
		r.logs("t", "Task ended with success")
	})
	t.Run("a line of 5 MB", func(t *testing.T) {
		t.Parallel()
		s.trigger(t, "one_line", nil).ends(success, "t=success").has("t", `"the end"`)
	})
	t.Run("binary output", func(t *testing.T) {
		t.Parallel()
		r := s.trigger(t, "binary", nil).ends(success, "t=success").has("t", `"fine"`)
		for i, l := range strings.Split(strings.TrimSpace(r.rawLog("t", 1)), "\n") {
			if !json.Valid([]byte(l)) {
				t.Fatalf("line %d of the log is no JSON: %q", i, l)
			}
		}
	})
	t.Run("daemon that holds stdout", func(t *testing.T) {
		t.Parallel()
		begin := time.Now()
		s.trigger(t, "daemon", nil).ends(failed, "t=failed").logs("t", "started")
		if d := time.Since(begin); d > 20*time.Second {
			t.Errorf("took %s", d)
		}
		gone(t, filepath.Join(scratch, "daemon.pid"))
	})
	t.Run("double fork", func(t *testing.T) {
		t.Parallel()
		s.trigger(t, "double_fork", nil).ends(failed, "t=failed")
		gone(t, filepath.Join(scratch, "double.pid"))
	})
	t.Run("session of its own", func(t *testing.T) {
		t.Parallel()
		s.trigger(t, "session", nil).ends(failed, "t=failed")
		gone(t, filepath.Join(scratch, "session.pid"))
	})
	t.Run("zombies", func(t *testing.T) {
		t.Parallel()
		s.trigger(t, "zombies", nil).ends(success, "t=success").has("t", `"5"`)
	})
}

func TestOddIDs(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]string{"d.yml": "d:\n  is_paused_upon_creation: false\n  tasks: [{task_id: t, operator: BashOperator, bash_command: 'echo \"{{ run_id }}\"'}]\n"}, nil)
	for _, id := range []string{"..", "~", "a..b", "-rf", "+", "manual__2025-01-01T00:00:00+00:00", strings.Repeat("x", 250)} {
		id := airflow.RunID(id)
		info, err := s.tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: "d", RunID: id, TriggeredBy: airflow.TriggeredByCLI, NoLogicalDate: true})
		if err != nil {
			t.Errorf("run_id %.20s: %v", id, err)
			continue
		}
		s.notify(t, localapp.Notice{Discover: true})
		r := s.run(t, "d", string(info.RunID)).ends(success, "t=success").has("t", `"`+string(id)+`"`)
		p := s.tool.TaskLogPath(r.ti("t").TaskInstanceKey, 1)
		if rel, err := filepath.Rel(filepath.Join(s.home, "logs", "dag_id=d"), p); err != nil || strings.HasPrefix(rel, "..") {
			t.Errorf("run_id %q leaves its folder: %s", id, p)
		}
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"../../etc/passwd", "a/b", "a b", "a\nb", "ü", "a#b", strings.Repeat("x", 251), "a\x00"} {
		if _, err := s.tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: "d", RunID: airflow.RunID(id), TriggeredBy: airflow.TriggeredByCLI}); err == nil {
			t.Errorf("run_id %q was taken", id)
		}
	}
	for _, id := range []string{"../d", "d/../d", "", "D#META"} {
		if _, err := s.tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: airflow.DagID(id), TriggeredBy: airflow.TriggeredByCLI}); err == nil {
			t.Errorf("dag_id %q was found", id)
		}
	}
}

// TestMalformedBesideGood puts 200 broken files beside a good one.
func TestMalformedBesideGood(t *testing.T) {
	t.Parallel()
	files := map[string]string{"good.yml": "good:\n  is_paused_upon_creation: false\n  tasks: [{task_id: t, operator: EmptyOperator}]\n"}
	shapes := []string{
		"d%d:\n  tasks: [\n", "d%d:\n\ttasks: []\n", "- a list\n- %d\n", "d%d: {tasks: [{task_id: a, operator: no.such.Operator}]}\n", "d%d: {schedule: 'not a cron', tasks: []}\n",
		"d%d: {tasks: [{task_id: a, operator: BashOperator}]}\n", "d%d: {tasks: [{operator: EmptyOperator}]}\n", "d%d: {tasks: [{task_id: a, operator: EmptyOperator, dependencies: [b]}, {task_id: b, operator: EmptyOperator, dependencies: [a]}]}\n",
		"d%d: {tasks: [{task_id: '../../x', operator: EmptyOperator}]}\n", "a/../../b%d: {tasks: []}\n", "d%d: &x [*x]\n", "d%d: \xff\xfe\n", "d%d: {start_date: never, tasks: []}\n",
		"d%d: {tasks: [{task_id: a, operator: EmptyOperator, bogus: 1}]}\n", "d%d: {schedule_interval: '@daily', tasks: []}\n", "d%d: {tasks: [{task_id: a, operator: PythonOperator, python_callable: no.such.thing}]}\n",
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh%d: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
		"d%d: " + strings.Repeat("[", 5000) + "\n", "d%d: !!python/object/apply:os.system ['touch /tmp/gust-e2e-owned']\n", "d%d: {catchup: true, schedule: '@daily', tasks: []}\n",
	}
	for i := 0; i < 200; i++ {
		shape := shapes[i%len(shapes)]
		if strings.Contains(shape, "%d") {
			shape = fmt.Sprintf(shape, i)
		}
		files[fmt.Sprintf("bad%03d.yml", i)] = shape
	}
	begin := time.Now()
	s := serve(t, files, nil)
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("start took %s", d)
	}
	es, err := s.tool.Store.ListImportErrors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	located := map[string]bool{}
	for _, e := range es {
		for _, p := range e.Problems {
			if p.Line > 0 {
				located[e.Filename] = true
			}
		}
	}
	for i := 0; i < 200; i++ {
		if name := fmt.Sprintf("bad%03d.yml", i); !located[name] {
			t.Errorf("%s (%.60q) has no located error", name, files[name])
		}
	}
	if _, err := os.Stat("/tmp/gust-e2e-owned"); err == nil {
		t.Error("a YAML tag ran a command")
	}
	s.trigger(t, "good", nil).ends(success, "t=success")
}

func TestHomesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dags := t.TempDir()
	write(t, filepath.Join(dags, "d.yml"), "d:\n  is_paused_upon_creation: false\n  tasks: [{task_id: t, operator: BashOperator, bash_command: echo}]\n")
	refused := func(t *testing.T, home string, want ...string) {
		t.Helper()
		s, err := start(home, dags, nil)
		if err == nil {
			_ = s.stop()
			t.Fatal("the server started")
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not say %q", err, w)
			}
		}
		t.Logf("refusal: %v", err)
	}
	t.Run("second server", func(t *testing.T) {
		home := t.TempDir()
		s, err := start(home, dags, nil)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, home, "another gust server")
		s.trigger(t, "d", nil).ends(success, "t=success")
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("corrupt store", func(t *testing.T) {
		home := t.TempDir()
		s, err := start(home, dags, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		db := filepath.Join(home, "gust.db")
		b, err := os.ReadFile(db)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(b); i += 7 {
			b[i] ^= 0x5a
		}
		write(t, db, string(b))
		_ = os.Remove(db + "-wal")
		refused(t, home, db)
		after, _ := os.ReadFile(db)
		if string(after) != string(b) {
			t.Error("the corrupt store was changed")
		}
	})
	t.Run("no database", func(t *testing.T) {
		home := t.TempDir()
		write(t, filepath.Join(home, "gust.db"), strings.Repeat("this is a text file\n", 500))
		refused(t, home, "gust.db")
	})
	t.Run("home is a file", func(t *testing.T) {
		home := filepath.Join(t.TempDir(), "home")
		write(t, home, "x")
		refused(t, home, home)
	})
	t.Run("read-only home", func(t *testing.T) {
		home := filepath.Join(t.TempDir(), "ro")
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", home, "tmpfs", syscall.MS_RDONLY, "size=1m"); err != nil {
			t.Skipf("needs the right to mount a file system: %v", err)
		}
		defer func() { _ = syscall.Unmount(home, syscall.MNT_DETACH) }()
		refused(t, home, home, "read-only")
	})
	t.Run("full disk", func(t *testing.T) {
		home := filepath.Join(t.TempDir(), "full")
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", home, "tmpfs", 0, "size=3m"); err != nil {
			t.Skipf("needs the right to mount a file system: %v", err)
		}
		defer func() { _ = syscall.Unmount(home, syscall.MNT_DETACH) }()
		fullDisk(t, home, dags)
	})
}

// fullDisk fills the disk of a running server: it must survive, lose no run it
// accepted, and go on when there is room again.
func fullDisk(t *testing.T, home, dags string) {
	s, err := start(home, dags, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	s.trigger(t, "d", nil).ends(success, "t=success")
	fill := filepath.Join(home, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	_ = f.Close()
	var accepted []airflow.RunID
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	refusals := 0
	for i := 0; i < 40; i++ {
		info, err := s.tool.Engine.Trigger(ctx, engine.TriggerOptions{DagID: "d", RunID: airflow.RunID("full-" + strconv.Itoa(i)), TriggeredBy: airflow.TriggeredByCLI, NoLogicalDate: true})
		if err == nil {
			accepted = append(accepted, info.RunID)
			_, _ = s.tool.Home.Notify(ctx, localapp.Notice{Discover: true})
		} else if refusals++; refusals == 1 {
			t.Logf("refusal: %v", err)
		}
	}
	if refusals == 0 {
		t.Error("40 runs were accepted on a full disk")
	}
	<-time.After(300 * time.Millisecond)
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	s.trigger(t, "d", nil).ends(success, "t=success")
	for _, id := range accepted {
		r := s.run(t, "d", string(id))
		eventually(t, "end of "+string(id), func() bool { return r.info().State.Finished() })
	}
}
