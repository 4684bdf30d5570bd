package cli

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/awsenv"
)

func TestWorkerOfADeployment(t *testing.T) {
	env := map[string]string{awsenv.Table: "t", "GUST_HOME": t.TempDir()}
	var got WorkerOptions
	run := func(f func(context.Context, WorkerOptions) error, args ...string) (int, string) {
		var out strings.Builder
		code := Main(t.Context(), Env{
			Args: append([]string{"worker"}, args...), Name: "gust", Stdout: &out, Stderr: &out, Now: time.Now, RunWorker: f,
			Getenv: func(k string) string { return env[k] }, Environ: func() []string { return []string{awsenv.Table + "=t"} },
		})
		return code, out.String()
	}
	keep := func(_ context.Context, o WorkerOptions) error { got = o; return nil }
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-q", "a, b", "-c", "3", "--stop-after", "90s"}, []string{"a", "b"}},
		{[]string{"--queue", "python"}, []string{"python"}},
		{nil, []string{"default"}},
	} {
		if code, out := run(keep, c.args...); code != ExitOK || !slices.Equal(got.Queues, c.want) {
			t.Errorf("%q: exit %d, queues %q\n%s", c.args, code, got.Queues, out)
		}
		if len(c.args) > 2 && (got.Concurrency != 3 || got.StopAfter != 90*time.Second || len(got.Environ) != 1) {
			t.Errorf("%+v", got)
		}
	}
	if code, out := run(nil); code != ExitFailed || !strings.Contains(out, "-tags aws") {
		t.Errorf("without AWS: exit %d: %s", code, out)
	}
	if code, out := run(keep, "--stop-after", "-1s"); code != ExitUsage {
		t.Errorf("exit %d: %s", code, out)
	}
	// The first signal stops polling, the second ends what runs.
	stopped := make(chan bool, 1)
	code, out := run(func(ctx context.Context, o WorkerOptions) error {
		signalSelf(t)
		<-o.Stop
		stopped <- ctx.Err() == nil
		time.Sleep(50 * time.Millisecond)
		signalSelf(t)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Second):
			return nil
		}
	})
	if !<-stopped || code != ExitFailed || !strings.Contains(out, "the worker was stopped") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func signalSelf(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
