package yamlloader

import (
	"time"

	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/dagspec"
)

// Defaults are the settings that DAGs and tasks take their defaults from.
func Defaults(cfg *config.Config) dagspec.Config {
	return dagspec.Config{
		MaxActiveRuns: cfg.Core.MaxActiveRunsPerDag, MaxActiveTasks: cfg.Core.MaxActiveTasksPerDag, CatchupByDefault: cfg.Scheduler.CatchupByDefault,
		MaxConsecutiveFailedDagRuns: cfg.Core.MaxConsecutiveFailedDagRunsPerDag, DefaultTimezone: cfg.Core.DefaultTimezone,
		CreateCronDataIntervals: cfg.Scheduler.CreateCronDataIntervals, CreateDeltaDataIntervals: cfg.Scheduler.CreateDeltaDataIntervals,
		TaskRetries: cfg.Core.DefaultTaskRetries, TaskRetryDelay: negativeIfZero(cfg.Core.DefaultTaskRetryDelay),
		TaskWeightRule: cfg.Core.DefaultTaskWeightRule, TaskExecutionTimeout: cfg.Core.DefaultTaskExecutionTimeout,
		Owner: cfg.Operators.DefaultOwner, Queue: cfg.Operators.DefaultQueue, Deferrable: cfg.Operators.DefaultDeferrable,
		SensorTimeout:  negativeIfZero(cfg.Sensors.DefaultTimeout),
		NoEmailOnRetry: !cfg.Email.DefaultEmailOnRetry, NoEmailOnFailure: !cfg.Email.DefaultEmailOnFailure,
	}
}

// negativeIfZero turns 0 into -1 where zero means "the default".
func negativeIfZero(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
