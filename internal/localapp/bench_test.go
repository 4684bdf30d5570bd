package localapp

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// BenchmarkChain runs a chain of 100 `true` in Bash through the whole process.
func BenchmarkChain(b *testing.B) {
	home, dags := b.TempDir(), b.TempDir()
	var y strings.Builder
	y.WriteString("chain:\n  schedule: null\n  is_paused_upon_creation: false\n  tasks:\n")
	for i := 0; i < 100; i++ {
		dep := ""
		if i > 0 {
			dep = fmt.Sprintf(", dependencies: [t%d]", i-1)
		}
		fmt.Fprintf(&y, "    - {task_id: t%d, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: 'true'%s}\n", i, dep)
	}
	writeFile(b, dags, "chain.yml", y.String())
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Serve(ctx, Options{Home: home, DagsFolder: dags, Loader: testLoader(b, dags), Engine: engine.Config{}},
			ServeOptions{Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	<-ready
	tool, err := Open(ctx, Options{Home: home})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		info, err := tool.Engine.Trigger(ctx, engine.TriggerOptions{DagID: "chain", RunID: airflow.RunID(fmt.Sprint("r", i)), TriggeredBy: airflow.TriggeredByCLI})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tool.Home.Notify(ctx, Notice{Discover: true}); err != nil {
			b.Fatal(err)
		}
		for {
			r, err := tool.Store.GetRun(ctx, store.RunKey{DagID: "chain", RunID: info.RunID})
			if err == nil && r.State.Finished() {
				b.ReportMetric(float64(r.EndDate.Sub(*r.StartDate).Microseconds())/100, "µs/hop")
				break
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	b.StopTimer()
	tool.Close()
	cancel()
	<-done
}
