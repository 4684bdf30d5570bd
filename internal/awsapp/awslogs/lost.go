package awslogs

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/cwlogs"
	"github.com/gustflow/gust/internal/worker"
)

// EndLost makes the engine end the log of every dispatch whose worker vanished
// with the cause: its sandbox was lost, killed or out of memory and could not say
// it. What ran elsewhere than on a log stream keeps its log without it.
func EndLost(a *awsapp.App, e *engine.Engine) {
	e.OnLost(func(d worker.Dispatch, at store.Attempt, cause string) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) // a line of log must not hold a batch up
		defer cancel()
		t := tasklog.Try{Key: d.Key, Number: at.TryNumber, Hostname: at.Hostname}
		err := cwlogs.Append(ctx, cloudwatchlogs.NewFromConfig(a.AWS()), t, tasklog.LevelError, "Task ended without a report: "+cause, time.Now())
		if err != nil && !errors.Is(err, airflow.ErrNotFound) {
			a.Log.WarnContext(ctx, "the log of a lost dispatch does not say so", "dispatch", d.String(), "cause", cause, "err", err)
		}
	})
}
