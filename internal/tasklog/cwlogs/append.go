package cwlogs

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/taglog"
)

// WriteAPI is what Append uses of *cloudwatchlogs.Client.
type WriteAPI interface {
	PutLogEvents(context.Context, *cloudwatchlogs.PutLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error)
}

// Append adds a line to the log of a try whose worker can write none: it vanished.
// The line goes to the stream that the worker wrote to, behind what it left there.
// airflow.ErrNotFound: the try ran on no log stream, or the stream is gone.
func Append(ctx context.Context, api WriteAPI, t tasklog.Try, level tasklog.Level, event string, now time.Time) error {
	_, group, stream, ok := taglog.ParseHost(t.Hostname)
	if !ok {
		return fmt.Errorf("log of %s, try %d: %w in CloudWatch Logs: it ran on %q, which is no log stream", t.Key, t.Number, airflow.ErrNotFound, t.Hostname)
	}
	var b bytes.Buffer
	l := taglog.New(&b, taglog.TagOf(t.Key, t.Number), taglog.Options{})
	if err := l.WriteRecord(tasklog.Record{Time: now, Level: level, Logger: "gust", Event: event}); err != nil {
		return err
	}
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream}
	for line := range strings.Lines(b.String()) {
		in.LogEvents = append(in.LogEvents, types.InputLogEvent{Timestamp: aws.Int64(now.UnixMilli()), Message: aws.String(strings.TrimSuffix(line, "\n"))})
	}
	if _, err := api.PutLogEvents(ctx, in); err != nil {
		return translate(group, err)
	}
	return nil
}
