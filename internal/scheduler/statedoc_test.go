package scheduler

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
)

var update = flag.Bool("update", false, "rewrite generated documents")

// stateMachines renders docs/state-machines.md from the table of moves.
func stateMachines() string {
	var b strings.Builder
	b.WriteString(`# State machines

Generated from internal/scheduler (Moves); ` + "`go test ./internal/scheduler -run StateMachines -update`" + ` rewrites it.
The simulator refuses any transition that is not listed here.

## DagRun

` + "```mermaid" + `
stateDiagram-v2
    [*] --> queued: created
    queued --> running: a slot of max_active_runs (StartRun)
    running --> success: no instance unfinished, every leaf success or skipped
    running --> failed: a leaf failed or upstream_failed, deadlock, dagrun_timeout
    success --> queued: clear, mark queued
    failed --> queued: clear, mark queued
    queued --> success: mark
    queued --> failed: mark, backfill cancelled
    running --> queued: mark queued
    success --> failed: mark
    failed --> success: mark
` + "```" + `

A clear or a mark of tasks requeues a run only if it was finished and something was cleared.

## TaskInstance

The usual way of an instance; the table below has every transition.

` + "```mermaid" + `
stateDiagram-v2
    [*] --> none
    none --> scheduled: dependencies met, try_number + 1
    none --> success: EmptyOperator, no worker needed
    none --> skipped: rule, branch
    none --> upstream_failed: rule
    scheduled --> queued: admitted, dispatch_seq + 1
    queued --> running: claimed
    queued --> scheduled: not claimed in time
    running --> success
    running --> failed
    running --> skipped
    running --> up_for_retry
    running --> up_for_reschedule
    running --> deferred
    up_for_retry --> scheduled: delay over, try_number + 1
    up_for_reschedule --> scheduled: date reached, same try
    deferred --> scheduled: trigger fired or timed out, same try
    running --> restarting: cleared
    restarting --> up_for_retry: its worker has stopped
    success --> none: cleared
    failed --> none: cleared
` + "```" + `

| from | to | by |
|---|---|---|
`)
	type pair struct{ from, to airflow.TIState }
	by := map[pair][]string{}
	for _, m := range Moves() {
		p := pair{m.From, m.To}
		seen := false
		for _, x := range by[p] {
			seen = seen || x == m.By
		}
		if !seen {
			by[p] = append(by[p], m.By)
		}
	}
	for from := range airflow.NumTIStates {
		for to := range airflow.NumTIStates {
			p := pair{airflow.TIState(from), airflow.TIState(to)}
			if AllowedTransition(p.from, p.to) {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", p.from, p.to, strings.Join(by[p], "; "))
			}
		}
	}
	return b.String()
}

func TestStateMachinesAreDocumented(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "state-machines.md")
	want := stateMachines()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from the code: run the test with -update and read the difference", file)
	}
	for _, forbidden := range [][2]airflow.TIState{
		{airflow.TISuccess, airflow.TIRunning}, {airflow.TINone, airflow.TIRunning}, {airflow.TINone, airflow.TIQueued},
		{airflow.TIFailed, airflow.TIScheduled}, {airflow.TISkipped, airflow.TIScheduled}, {airflow.TIRunning, airflow.TIQueued},
		{airflow.TISuccess, airflow.TIUpstreamFailed}, {airflow.TIDeferred, airflow.TIRunning}, {airflow.TIRestarting, airflow.TIScheduled},
	} {
		if AllowedTransition(forbidden[0], forbidden[1]) {
			t.Errorf("%s -> %s is allowed", forbidden[0], forbidden[1])
		}
	}
}
