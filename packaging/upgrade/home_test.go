package upgrade

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var writeHome = flag.String("write-home", "", "write the home that the earlier version left to testdata, under this label; never replaces one")

// dagFiles: run r of upgrade is a chain with a mapped task, a retry, a pool and
// secrets between two gates; daily is backfilled, one run at a time. Whoever waits
// at a gate holds no worker. printenv, because variables in DAG files are replaced when
// they are read, and the gates of a stored home are elsewhere. The sensors' timeout
// is thirty years: a stored home is as old as it is.
const dagFiles = `default:
  start_date: 2025-01-01
  is_paused_upon_creation: false
  default_args: {retries: 1000, retry_delay: {__type__: datetime.timedelta, milliseconds: 200}}

upgrade:
  schedule: null
  tasks:
    - {task_id: first, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: echo from-first}
    - task_id: mapped
      operator: airflow.providers.standard.operators.bash.BashOperator
      partial: {bash_command: echo $A}
      expand: {env: [{A: "1"}, {A: "2"}, {A: "3"}]}
      dependencies: [first]
    - {task_id: gate_one, operator: airflow.providers.standard.sensors.bash.BashSensor, bash_command: 'test -e "$(printenv UPGRADE_GATES)/one"', mode: reschedule, poke_interval: 1, timeout: 1000000000, dependencies: [mapped]}
    - {task_id: flaky, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: 'test -e "$(printenv UPGRADE_GATES)/one"', dependencies: [first]}
    - task_id: pooled
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "echo [{{ ti.xcom_pull(task_ids='first') }} {{ var.value.region }} {{ conn.db.password }}]"
      pool: narrow
      dependencies: [gate_one, flaky]
    - {task_id: gate_two, operator: airflow.providers.standard.sensors.bash.BashSensor, bash_command: 'test -e "$(printenv UPGRADE_GATES)/two"', mode: reschedule, poke_interval: 1, timeout: 1000000000, dependencies: [pooled]}
    - {task_id: last, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo [{{ ti.xcom_pull(task_ids='pooled') }}]", outlets: [{__type__: airflow.sdk.Asset, name: report, uri: "s3://report"}], dependencies: [gate_two]}

daily:
  schedule: "@daily"
  catchup: false
  end_date: 2025-01-05
  max_active_runs: 1
  tasks:
    - {task_id: gate_one, operator: airflow.providers.standard.sensors.bash.BashSensor, bash_command: 'test -e "$(printenv UPGRADE_GATES)/one"', mode: reschedule, poke_interval: 1, timeout: 1000000000}
    - {task_id: done, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "echo {{ ds }}", dependencies: [gate_one]}

after_report:
  schedule: [{__type__: airflow.sdk.Asset, name: report, uri: "s3://report"}]
  tasks:
    - {task_id: read, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: echo read}
`

// site is a home, used by one version after the other.
type site struct {
	t                 *testing.T
	home, dags, gates string
	program           string // of the version that is in charge
	server            *exec.Cmd
	log               *bytes.Buffer
}

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	s := &site{t: t, home: filepath.Join(dir, "home"), dags: filepath.Join(dir, "dags"), gates: filepath.Join(dir, "gates"), log: &bytes.Buffer{}}
	for _, d := range []string{s.dags, s.gates} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dags, "upgrade.yml"), []byte(dagFiles), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("the servers said:\n%s", s.log)
		}
	})
	return s
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program, append([]string{"--home", s.home}, args...)...)
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GUST_") && !strings.HasPrefix(e, "AIRFLOW") {
			env = append(env, e)
		}
	}
	cmd.Env = append(env, "UPGRADE_GATES="+s.gates, "AIRFLOW__CORE__DAGS_FOLDER="+s.dags)
	return cmd
}

// cli runs a command, which must succeed.
func (s *site) cli(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) try(args ...string) (string, error) {
	cmd := s.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("gust %s: %w\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}

// start puts a version in charge.
func (s *site) start(program, who string) {
	s.t.Helper()
	s.program = program
	fmt.Fprintf(s.log, "--- %s\n", who)
	s.server = s.command("scheduler")
	s.server.Stdout, s.server.Stderr = s.log, s.log
	if err := s.server.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until(who+" is up", func() bool { _, err := s.try("jobs", "check"); return err == nil })
}

func (s *site) stop() {
	s.t.Helper()
	if s.server == nil {
		return
	}
	cmd := s.server
	s.server = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("SIGTERM: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		s.t.Errorf("the server ended with %v", err)
	}
}

func (s *site) open(gate string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.gates, gate), nil, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// until waits generously: the machine may be busy.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	if s.server != nil {
		if why, err := s.try("explain", "upgrade"); err == nil {
			s.t.Log(why)
		}
	}
	s.t.Fatalf("%s: not in two minutes", what)
}

// runs returns the states of a DAG's runs by their ids.
func (s *site) runs(dag string) map[string]string {
	s.t.Helper()
	var rows []struct {
		RunID string `json:"run_id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(s.cli("dags", "list-runs", dag, "-o", "json")), &rows); err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rows {
		out[r.RunID] = r.State
	}
	return out
}

// tasks returns the states of a run's instances, those of a mapped task joined.
func (s *site) tasks(run string) map[string]string {
	s.t.Helper()
	var rows []struct {
		TaskID string `json:"task_id"`
		State  string `json:"state"`
	}
	if err := json.Unmarshal([]byte(s.cli("tasks", "states-for-dag-run", "upgrade", run, "-o", "json")), &rows); err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rows {
		out[r.TaskID] = strings.TrimPrefix(out[r.TaskID]+","+r.State, ",")
	}
	return out
}

// waits reports whether a sensor of a run stands before its gate.
func (s *site) waits(run, gate string) bool { return s.tasks(run)[gate] == "up_for_reschedule" }

func (s *site) untilSuccess(runs ...string) {
	s.t.Helper()
	s.until(fmt.Sprintf("runs %s end in success", runs), func() bool {
		got := s.runs("upgrade")
		return !slices.ContainsFunc(runs, func(r string) bool { return got[r] != "success" })
	})
	for _, r := range runs {
		if out := s.cli("logs", "upgrade", r, "last"); !strings.Contains(out, "[[from-first eu s3cr3t]]") && !strings.Contains(out, "[[from-first eu ***]]") {
			s.t.Errorf("run %s: the last task does not show what the tasks before made of XCom, variable and connection:\n%s", r, out)
		}
	}
}

// begin is what the earlier version does: a run before its first gate, and a
// backfill before its first run's.
func (s *site) begin() {
	s.t.Helper()
	s.cli("pools", "set", "narrow", "1", "one at a time")
	s.cli("variables", "set", "region", "eu")
	s.cli("connections", "add", "db", "--conn-type", "postgres", "--conn-host", "db", "--conn-password", "s3cr3t")
	s.until("the DAGs are registered", func() bool { return strings.Contains(s.cli("dags", "list", "-o", "json"), `"daily"`) })
	s.cli("dags", "trigger", "upgrade", "--run-id", "r1")
	s.cli("backfill", "create", "--dag-id", "daily", "--from-date", "2025-01-01", "--to-date", "2025-01-03")
	s.until("r1 stands before its first gate", func() bool {
		ts := s.tasks("r1")
		return s.waits("r1", "gate_one") && ts["mapped"] == "success,success,success" && ts["flaky"] != ""
	})
	s.until("the backfill has begun", func() bool { return len(s.runs("daily")) == 3 })
}

// backfilled waits for the end of the backfill.
func (s *site) backfilled() {
	s.t.Helper()
	s.until("the backfill is done", func() bool {
		n := 0
		for id, state := range s.runs("daily") {
			if strings.HasPrefix(id, "backfill__") && state == "success" {
				n++
			}
		}
		return n == 3
	})
}

func TestOldNewOld(t *testing.T) {
	old, now := earlier(t), current(t)
	s := newSite(t)
	s.start(old, "the earlier version")
	s.begin()
	s.stop()
	if *writeHome != "" {
		packHome(t, s, filepath.Join("testdata", "home-"+*writeHome+".tar.gz"))
	}

	s.start(now, "this version")
	s.until("r1 waits on", func() bool { return s.waits("r1", "gate_one") })
	s.cli("dags", "trigger", "upgrade", "--run-id", "r2")
	s.cli("variables", "set", "written_by", "new")
	s.open("one")
	for _, r := range []string{"r1", "r2"} {
		s.until(r+" stands before its second gate", func() bool { return s.waits(r, "gate_two") })
	}
	s.backfilled()
	s.cli("db", "check")
	s.stop()

	s.start(old, "the earlier version again")
	s.until("r1 waits on", func() bool { return s.waits("r1", "gate_two") })
	s.cli("dags", "trigger", "upgrade", "--run-id", "r3")
	s.open("two")
	s.untilSuccess("r1", "r2", "r3")
	if v := strings.TrimSpace(s.cli("variables", "get", "written_by")); v != "new" {
		t.Errorf("the earlier version reads the variable of this one as %q", v)
	}
	s.until("the assets' DAG has run", func() bool { return len(s.runs("after_report")) > 0 })
	s.cli("db", "check")
	s.stop()

	s.start(now, "this version again")
	s.cli("dags", "trigger", "upgrade", "--run-id", "r4")
	s.untilSuccess("r1", "r2", "r3", "r4")
	s.cli("tasks", "clear", "upgrade", "--task-regex", "^last$", "--yes")
	s.untilSuccess("r1", "r2", "r3", "r4")
	s.cli("db", "check")
}

func TestStoredHome(t *testing.T) {
	homes, err := filepath.Glob("testdata/home-*.tar.gz")
	if err != nil || len(homes) == 0 {
		t.Fatalf("no homes in testdata: %v", err)
	}
	now := current(t)
	for _, h := range homes {
		t.Run(strings.TrimSuffix(filepath.Base(h), ".tar.gz"), func(t *testing.T) {
			s := newSite(t)
			unpackHome(t, h, s.home)
			s.start(now, "this version")
			if got := s.runs("upgrade")["r1"]; got != "running" {
				t.Fatalf("r1 is %q", got)
			}
			s.until("r1 waits on", func() bool { return s.waits("r1", "gate_one") })
			s.open("one")
			s.backfilled()
			s.open("two")
			s.untilSuccess("r1")
			s.cli("db", "check")
		})
	}
}

// keep lists what of a home is state; the rest is made anew.
var keep = []string{"gust.db", "secrets.key", "blobs", "bundles", "logs"}

func packHome(t *testing.T, s *site, to string) {
	t.Helper()
	if _, err := os.Stat(to); err == nil {
		t.Fatalf("%s is there: what a version wrote does not change", to)
	}
	var out bytes.Buffer
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(gz)
	err = filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == s.home {
			return err
		}
		name, err := filepath.Rel(s.home, path)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(name, string(filepath.Separator))
		if !slices.ContainsFunc(keep, func(k string) bool { return first == k || strings.HasPrefix(first, k+"-") }) || d.Type()&^fs.ModeDir != 0 {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(name), Mode: int64(info.Mode().Perm()), Typeflag: tar.TypeDir}
		if d.IsDir() {
			h.Name += "/"
			return w.WriteHeader(h)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		h.Typeflag, h.Size = tar.TypeReg, int64(len(b))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err := errors.Join(err, w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unpackHome(t *testing.T, from, home string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(home, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(to, fs.FileMode(h.Mode)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, fs.FileMode(h.Mode)); err != nil {
			t.Fatal(err)
		}
	}
}
