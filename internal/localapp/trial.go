package localapp

import (
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// TrialWorker returns a worker with this home's operators and settings that
// works for another control plane: for tools that run or render one task
// without recording it. stop ends its processes.
func (a *App) TrialWorker(b worker.Backend, openLog func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error)) (w *taskrunner.Worker, stop func()) {
	py := pyproc.NewHost(a.Options.Python, a.Home.path("cache"), a.Home.Installation()+"-trial", 0)
	shares := proc.NewShares(a.Home.Installation() + "-trial")
	return taskrunner.New(taskrunner.Options{
		Backend: a.masked(b), Operators: Operators(), Masker: a.Options.Masker, LogLevel: a.Options.LogLevel, Python: py,
		Identity: taskrunner.Self(), Installation: a.Home.Installation() + "-trial", CacheDir: a.Home.path("cache"),
		HeartbeatInterval: a.Options.HeartbeatInterval, KilledTaskCleanupTime: a.Options.KilledTaskCleanupTime,
		MaxTemplatedFieldLength: a.Options.MaxTemplatedLength, MaxMapLength: a.Options.MaxMapLength,
		OpenLog: openLog, DefaultImpersonation: a.Options.DefaultImpersonation, Shares: shares,
	}), func() { py.Close(); shares.Close() }
}
