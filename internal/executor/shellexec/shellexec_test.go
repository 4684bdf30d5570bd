package shellexec_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/executor/executortest"
	"github.com/gustflow/gust/internal/executor/shellexec"
	"github.com/gustflow/gust/internal/worker"
)

func TestMain(m *testing.M) {
	executortest.Main()
	os.Exit(m.Run())
}

// harness gives every world a folder of its own.
type harness struct {
	dirs map[*executortest.World]string
}

func (h harness) Start(t testing.TB, w *executortest.World) executor.Executor {
	t.Helper()
	if h.dirs[w] == "" {
		h.dirs[w] = t.TempDir()
	}
	x, err := shellexec.New(shellexec.Options{
		Dir: h.dirs[w], Command: []string{os.Args[0]}, Grace: 300 * time.Millisecond,
		Environ: func(d worker.Dispatch) ([]string, error) { return w.Environ(d), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestConformance(t *testing.T) {
	executortest.Run(t, harness{map[*executortest.World]string{}})
}

func TestFailures(t *testing.T) {
	d := worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}, DispatchSeq: 1}
	if _, err := shellexec.New(shellexec.Options{}); err == nil {
		t.Error("no folder and no command")
	}
	dir := t.TempDir()
	x, err := shellexec.New(shellexec.Options{Dir: dir, Command: []string{"/nonexistent/program"}})
	if err != nil {
		t.Fatal(err)
	}
	// What could not be started is tried again when it is submitted again.
	if err := x.Submit(context.Background(), []worker.Dispatch{d}); err == nil || x.Observe(d) {
		t.Error("a missing program is no error")
	}
	denied := errors.New("no credential")
	x, err = shellexec.New(shellexec.Options{Dir: dir, Command: []string{"/bin/true"}, Environ: func(worker.Dispatch) ([]string, error) { return nil, denied }})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Submit(context.Background(), []worker.Dispatch{d}); !errors.Is(err, denied) {
		t.Errorf("%v", err)
	}
	x, err = shellexec.New(shellexec.Options{Dir: dir, Command: []string{"/bin/sh", "-c", "echo started"}, Keep: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Submit(context.Background(), []worker.Dispatch{d}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); x.Observe(d) && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	if r, err := x.Output(context.Background(), d); err != nil {
		t.Error(err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
	// Old folders go.
	if ds, err := x.Adopt(context.Background()); err != nil || len(ds) != 0 {
		t.Errorf("%v, %v", ds, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
