package cwlogs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/cwlogs"
	"github.com/gustflow/gust/internal/tasklog/taglog"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// stream records what is put into it.
type stream struct {
	got *cloudwatchlogs.PutLogEventsInput
	err error
}

func (s *stream) PutLogEvents(_ context.Context, in *cloudwatchlogs.PutLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error) {
	s.got = in
	return &cloudwatchlogs.PutLogEventsOutput{}, s.err
}

func TestAppend(t *testing.T) {
	t.Parallel()
	key := airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: 3}
	try := tasklog.Try{Key: key, Number: 2, Hostname: taglog.Host(taglog.KindLambda, "/aws/lambda/w", "2026/11/21/[$LATEST]abc")}
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	s := &stream{}
	if err := cwlogs.Append(t.Context(), s, try, taskrunner.LevelError, "gone: \"no heartbeat\"", now); err != nil {
		t.Fatal(err)
	}
	if *s.got.LogGroupName != "/aws/lambda/w" || *s.got.LogStreamName != "2026/11/21/[$LATEST]abc" || len(s.got.LogEvents) != 1 || *s.got.LogEvents[0].Timestamp != now.UnixMilli() {
		t.Fatalf("%+v", s.got)
	}
	e, tag, ok := taglog.Parse([]byte(*s.got.LogEvents[0].Message))
	if !ok || tag != taglog.TagOf(key, 2).ID() || e.Event != "gone: \"no heartbeat\"" || e.Level != "error" {
		t.Errorf("%+v %+v %t", e, tag, ok)
	}
	s.err = &types.ResourceNotFoundException{Message: aws.String("no stream")}
	if err := cwlogs.Append(t.Context(), s, try, taskrunner.LevelError, "x", now); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a stream that is gone: %v", err)
	}
	try.Hostname = "some-machine"
	if err := cwlogs.Append(t.Context(), s, try, taskrunner.LevelError, "x", now); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a machine: %v", err)
	}
}
