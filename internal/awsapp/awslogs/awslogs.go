// Package awslogs reads the logs of tasks of a deployment. It is a package of its
// own so that functions which do not read logs carry no client for them.
package awslogs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/cwlogs"
	"github.com/gustflow/gust/internal/tasklog/objlog"
	"github.com/gustflow/gust/internal/tasklog/taglog"
)

// Open returns a reader of logs where their workers left them: CloudWatch Logs for
// functions and containers, the data bucket for other machines.
func Open(a *awsapp.App) (tasklog.Reader, error) {
	objects, err := a.Objects(awsenv.LogPrefix)
	if err != nil {
		return nil, err
	}
	return taskLogs{cwlogs.New(cloudwatchlogs.NewFromConfig(a.AWS())), objlog.New(objects, "", objlog.Options{})}, nil
}

// taskLogs chooses by the host that a try ran on.
type taskLogs struct{ streams, objects tasklog.Reader }

// ReadTry implements tasklog.Reader.
func (l taskLogs) ReadTry(ctx context.Context, t tasklog.Try, from string, f func(tasklog.Entry) error) (string, error) {
	if _, _, _, ok := taglog.ParseHost(t.Hostname); ok {
		return l.streams.ReadTry(ctx, t, from, f)
	}
	return l.objects.ReadTry(ctx, t, from, f)
}
