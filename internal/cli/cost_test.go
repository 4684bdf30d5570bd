package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/costreport"
)

func TestCost(t *testing.T) {
	s := newShell(t)
	s.write("d.yml", `d:
  schedule: null
  is_paused_upon_creation: false
  tasks:
    - task_id: a
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: echo one
    - task_id: b
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: echo two
      dependencies: [a]
`)
	s.now = time.Now()
	s.server(nil)
	run := "r1"
	s.ok("dags", "trigger", "d", "-r", run, "--wait")
	s.fails(ExitFailed, "run none of DAG d does not exist", "cost", "d", "none")
	s.fails(ExitFailed, "not found", "cost", "none", run)

	var r costreport.Report
	if err := json.Unmarshal([]byte(s.ok("cost", "d", run, "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Source != "estimated" || r.Instances != 2 || len(r.Tasks) != 3 || r.USD < 5e-6 || r.USD > 1e-4 {
		t.Errorf("estimate %+v", r)
	}
	out := s.ok("cost", "d", run)
	for _, want := range []string{"(estimated), $", "dynamodb_write_units", "(the run itself)", "Prices: us-east-1, 2026"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}

	line := awsmeter.Line{Function: "worker", MemoryMB: 512, Arch: "arm64", Usage: []awsmeter.Usage{{DagID: "etl", RunID: "r", TaskID: "t", WriteUnits: 4, Invocations: 1, Millis: 50}}}
	file := filepath.Join(s.home, "log")
	if err := os.WriteFile(file, append([]byte("START\n"), line.Encode()...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(s.ok("cost", "etl", "r", "--logs", file, "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Source != "metered" || r.Instances != 1 || r.Invocations != 1 {
		t.Errorf("metered %+v", r)
	}
	s.stdin = string(line.Encode())
	s.ok("cost", "etl", "r", "--logs", "-")
	s.fails(ExitFailed, "none of the 1 usage lines", "cost", "etl", "other", "--logs", file)
}
