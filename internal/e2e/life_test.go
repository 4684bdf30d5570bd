package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
)

const editedDAG = `edited:
  is_paused_upon_creation: false
  tasks:
    - {task_id: first, operator: BashOperator, bash_command: "touch $E2E_DIR/edit-NAME-started; until test -e $E2E_DIR/edit-NAME-go; do sleep 0.05; done"}
    - {task_id: script, operator: BashOperator, bash_command: step.sh, dependencies: [first]}
    - {task_id: python, operator: PythonOperator, python_callable: mine.value, dependencies: [first]}
    - {task_id: last, operator: BashOperator, bash_command: "echo old", dependencies: [script, python]}
`

// TestEditDuringRun edits the DAG file, its script and its Python module while a
// run is under way: the run keeps its version, the next one has the new one.
func TestEditDuringRun(t *testing.T) {
	t.Parallel()
	dag := strings.ReplaceAll(editedDAG, "NAME", "a")
	s := serve(t, map[string]string{"edited.yml": dag, "step.sh": "echo old script", "mine.py": "def value():\n    return 'old module'\n"}, nil)
	r := s.trigger(t, "edited", nil)
	eventually(t, "first task", func() bool { _, err := os.Stat(filepath.Join(scratch, "edit-a-started")); return err == nil })
	write(t, filepath.Join(s.dags, "step.sh"), "echo new script")
	write(t, filepath.Join(s.dags, "mine.py"), "def value():\n    return 'new module'\n")
	write(t, filepath.Join(s.dags, "edited.yml"), strings.Replace(dag, "echo old", "echo new", 1)+`    - {task_id: added, operator: EmptyOperator}`+"\n")
	eventually(t, "new version", func() bool {
		m, err := s.tool.Store.GetDag(t.Context(), "edited")
		return err == nil && m.LatestHash != r.info().DagHash && m.BundleHash != r.info().BundleHash
	})
	<-time.After(700 * time.Millisecond) // all three files were seen
	write(t, filepath.Join(scratch, "edit-a-go"), "")
	r.ends(success, "first=success script=success python=success last=success").has("script", `"old script"`).has("python", `"old module"`).has("last", `"old"`)
	next := s.trigger(t, "edited", nil).ends(success, "first=success script=success python=success last=success added=success")
	next.has("script", `"new script"`).has("python", `"new module"`).has("last", `"new"`)

	clear := func(latest bool) {
		t.Helper()
		if _, err := s.tool.Engine.Clear(t.Context(), r.key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: pick("script", "last"), ResetDagRun: true}, LatestVersion: latest}); err != nil {
			t.Fatal(err)
		}
		s.notify(t, localapp.Notice{Runs: []storeKey{r.key}})
	}
	clear(false)
	r.ends(success, "first=success/1 script=success/2 python=success/1 last=success/2").has("script", `"old script"`)
	clear(true)
	r.ends(success, "first=success/1 script=success/3 python=success/1 last=success/3 added=success").has("script", `"new script"`).has("last", `"new"`)
}

// TestBrokenDuringRun breaks the file of a DAG whose run is under way: the run
// ends, no new one starts until the file is mended, and other DAGs do not care.
func TestBrokenDuringRun(t *testing.T) {
	t.Parallel()
	dag := strings.ReplaceAll(editedDAG, "NAME", "b")
	other := "other:\n  is_paused_upon_creation: false\n  tasks: [{task_id: t, operator: EmptyOperator}]\n"
	s := serve(t, map[string]string{"edited.yml": dag, "other.yml": other, "step.sh": "echo script", "mine.py": "def value():\n    return 1\n"}, nil)
	r := s.trigger(t, "edited", nil)
	eventually(t, "first task", func() bool { _, err := os.Stat(filepath.Join(scratch, "edit-b-started")); return err == nil })
	write(t, filepath.Join(s.dags, "edited.yml"), "edited:\n  tasks: [\n")
	eventually(t, "import error", func() bool {
		es, err := s.tool.Store.ListImportErrors(t.Context())
		return err == nil && len(es) == 1 && es[0].Filename == "edited.yml" && es[0].Problems[0].Line > 0
	})
	write(t, filepath.Join(scratch, "edit-b-go"), "")
	r.ends(success, "first=success script=success python=success last=success")
	_, err := s.tool.Engine.Trigger(t.Context(), engine.TriggerOptions{DagID: "edited", TriggeredBy: airflow.TriggeredByCLI})
	if err == nil || !strings.Contains(err.Error(), "import errors") {
		t.Errorf("trigger of a broken DAG: %v", err)
	}
	s.trigger(t, "other", nil).ends(success, "t=success")
	write(t, filepath.Join(s.dags, "edited.yml"), dag)
	eventually(t, "mended file", func() bool {
		m, err := s.tool.Store.GetDag(t.Context(), "edited")
		return err == nil && !m.HasImportErrors
	})
	s.trigger(t, "edited", nil).ends(success, "first=success script=success python=success last=success")
	write(t, filepath.Join(s.dags, "other.yml"), strings.Replace(other, "other:", "renamed:", 1))
	eventually(t, "stale DAG", func() bool {
		m, err := s.tool.Store.GetDag(t.Context(), "other")
		return err == nil && m.IsStale
	})
}

const restartDAG = `
default: {is_paused_upon_creation: false}
long:
  tasks:
    - task_id: t
      operator: BashOperator
      bash_command: "echo $$ > $E2E_DIR/restart.pid; test {{ ti.try_number }} = 2 || sleep 300"
      retries: 1
      retry_delay: 0.1
      on_retry_callback: {callback: cb.note}
    - {task_id: after, operator: EmptyOperator, dependencies: [t]}
no_retry:
  on_failure_callback: {type: command, command: "echo dag $AIRFLOW_CTX_DAG_ID >> $E2E_DIR/restart.txt"}
  tasks: [{task_id: t, operator: BashOperator, bash_command: "echo $$ > $E2E_DIR/restart2.pid; sleep 300", on_failure_callback: {type: command, command: "echo task $AIRFLOW_CTX_TASK_ID >> $E2E_DIR/restart.txt"}}]
sensor:
  tasks: [{task_id: t, operator: FileSensor, filepath: $E2E_DIR/after-restart, poke_interval: 0.2}]
`

// TestRestart stops the server while tasks run and sensors wait: their processes
// die, and the next server goes on.
func TestRestart(t *testing.T) {
	t.Parallel()
	home, dags := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dags, "d.yml"), restartDAG)
	write(t, filepath.Join(dags, "cb.py"), "import os\ndef note(context):\n    with open(os.environ['E2E_DIR'] + '/restart.txt', 'a') as f:\n        f.write('retry ' + context['ti'].task_id + '\\n')\n")
	s, err := start(home, dags, nil)
	if err != nil {
		t.Fatal(err)
	}
	long, none, sensor := s.trigger(t, "long", nil), s.trigger(t, "no_retry", nil), s.trigger(t, "sensor", nil)
	long.until("t", airflow.TIRunning)
	none.until("t", airflow.TIRunning)
	eventually(t, "processes", func() bool {
		_, err := os.Stat(filepath.Join(scratch, "restart.pid"))
		_, err2 := os.Stat(filepath.Join(scratch, "restart2.pid"))
		return err == nil && err2 == nil
	})
	for _, f := range []string{"restart", "restart2"} {
		b, _ := os.ReadFile(filepath.Join(scratch, f+".pid"))
		write(t, filepath.Join(scratch, f+".old"), string(b))
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	gone(t, filepath.Join(scratch, "restart.old"))
	gone(t, filepath.Join(scratch, "restart2.old"))
	s2, err := start(home, dags, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s2.stop(); err != nil {
			t.Error(err)
		}
	}()
	write(t, filepath.Join(scratch, "after-restart"), "")
	long.s, none.s, sensor.s = s2, s2, s2
	long.ends(success, "t=success/2 after=success")
	none.ends(failed, "t=failed/1").logs("t", "shutting down")
	sensor.ends(success, "t=success/1")
	file := filepath.Join(scratch, "restart.txt")
	for _, want := range []string{"retry t", "task t", "dag no_retry"} {
		eventually(t, want, func() bool { return countLines(file, want) > 0 })
		if n := countLines(file, want); n != 1 {
			t.Errorf("callback %q ran %d times", want, n)
		}
	}
}
