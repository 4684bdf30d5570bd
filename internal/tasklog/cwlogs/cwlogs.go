// Package cwlogs reads the logs of tasks from CloudWatch Logs, where the workers
// of package taglog leave them: the row of a try names the log group and stream
// it ran on (worker.Identity.Hostname, taglog.Host), and each line has the tag of its try.
package cwlogs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/taglog"
)

// API is what is used of *cloudwatchlogs.Client.
type API interface {
	GetLogEvents(context.Context, *cloudwatchlogs.GetLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetLogEventsOutput, error)
	FilterLogEvents(context.Context, *cloudwatchlogs.FilterLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.FilterLogEventsOutput, error)
}

// How far around the times of a try its lines are looked for: clocks differ, and
// some emulators date all lines of an invocation at its end.
const (
	slackBefore = time.Minute
	slackAfter  = 16 * time.Minute
)

// Reader is a tasklog.Reader. It is safe for concurrent use.
type Reader struct{ api API }

var _ tasklog.Reader = (*Reader)(nil)

// New returns a reader.
func New(api API) *Reader { return &Reader{api} }

// ReadTry implements tasklog.Reader. A try that ran as one dispatch is read from
// its stream; one that moved between hosts is searched for in the log group,
// which takes longer.
func (r *Reader) ReadTry(ctx context.Context, t tasklog.Try, from string, f func(tasklog.Entry) error) (string, error) {
	_, group, stream, ok := taglog.ParseHost(t.Hostname)
	if !ok {
		return from, fmt.Errorf("log of %s, try %d: %w in CloudWatch Logs: it ran on %q, which is no log stream", t.Key, t.Number, airflow.ErrNotFound, t.Hostname)
	}
	tag := taglog.TagOf(t.Key, t.Number)
	id := tag.ID()
	found := false
	each := func(message string) error {
		e, got, ok := taglog.Parse([]byte(message))
		if !ok || got != id {
			return nil
		}
		found = true
		return f(e)
	}
	var (
		next string
		err  error
	)
	if t.Moved {
		next, err = r.search(ctx, group, t, tag, from, each)
	} else {
		next, err = r.stream(ctx, group, stream, t, from, each)
	}
	if err == nil && !found && from == "" {
		err = fmt.Errorf("log of %s, try %d: %w", t.Key, t.Number, airflow.ErrNotFound)
	}
	return next, err
}

func window(t tasklog.Try) (start, end *int64) {
	if !t.Start.IsZero() {
		start = aws.Int64(t.Start.Add(-slackBefore).UnixMilli())
	}
	if !t.End.IsZero() {
		end = aws.Int64(t.End.Add(slackAfter).UnixMilli())
	}
	return start, end
}

// stream reads one log stream; places are its tokens.
func (r *Reader) stream(ctx context.Context, group, stream string, t tasklog.Try, from string, each func(string) error) (string, error) {
	start, end := window(t)
	in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: &group, LogStreamName: &stream, StartTime: start, EndTime: end, StartFromHead: aws.Bool(true)}
	for {
		if from != "" {
			in.NextToken = &from
		}
		out, err := r.api.GetLogEvents(ctx, in)
		if err != nil {
			return from, translate(group, err)
		}
		for _, e := range out.Events {
			if err := each(aws.ToString(e.Message)); err != nil {
				return from, err
			}
		}
		next := aws.ToString(out.NextForwardToken)
		if next == from || next == "" { // the same token again: this is the end
			return from, nil
		}
		from = next
	}
}

// search reads all streams of a group; a place is the time of the last event and
// how many of that time were read.
func (r *Reader) search(ctx context.Context, group string, t tasklog.Try, tag taglog.Tag, from string, each func(string) error) (string, error) {
	start, end := window(t)
	var at, seen int64
	if from != "" {
		ms, n, ok := strings.Cut(from, "/")
		var err1, err2 error
		at, err1 = strconv.ParseInt(ms, 10, 64)
		seen, err2 = strconv.ParseInt(n, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			return from, airflow.Invalid("from", "%q is no place in the log: expected what an earlier reading returned", from)
		}
		start = &at
	}
	place := func() string {
		if at == 0 {
			return from
		}
		return fmt.Sprintf("%d/%d", at, seen)
	}
	skip, id := seen, tag.ID()
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &group, StartTime: start, EndTime: end, FilterPattern: aws.String(pattern(tag))}
	for {
		out, err := r.api.FilterLogEvents(ctx, in)
		if err != nil {
			return place(), translate(group, err)
		}
		for _, e := range out.Events {
			ms := aws.ToInt64(e.Timestamp)
			if _, got, ok := taglog.Parse([]byte(aws.ToString(e.Message))); !ok || got != id {
				continue
			}
			if from != "" && ms == *start && skip > 0 {
				skip--
				continue
			}
			if err := each(aws.ToString(e.Message)); err != nil {
				return place(), err
			}
			if ms == at {
				seen++
			} else {
				at, seen = ms, 1
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return place(), nil
		}
	}
}

// maxPattern is the longest filter pattern that CloudWatch Logs takes.
const maxPattern = 1024

// pattern selects the lines of a try: by its tag, and by its names, which alone
// stand in the lines of earlier versions (where they fit).
func pattern(t taglog.Tag) string {
	q := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			panic(err) // texts always encode
		}
		return string(b)
	}
	short := "{ $.tag = " + q(t.ID()) + " }"
	long := fmt.Sprintf("{ ($.tag = %s) || ($.dag_id = %s && $.run_id = %s && $.task_id = %s && $.map_index = %d && $.try_number = %d) }",
		q(t.ID()), q(string(t.DagID)), q(string(t.RunID)), q(string(t.TaskID)), t.MapIndex, t.TryNumber)
	if len(long) > maxPattern {
		return short
	}
	return long
}

func translate(group string, err error) error {
	var gone *types.ResourceNotFoundException
	var api smithy.APIError
	switch {
	case errors.As(err, &gone):
		return fmt.Errorf("%w: log group %s or its stream does not exist (it may be older than the retention): %w", airflow.ErrNotFound, group, err)
	case errors.As(err, &api) && (api.ErrorCode() == "ThrottlingException" || api.ErrorCode() == "ServiceUnavailableException"):
		return fmt.Errorf("%w: %w", airflow.ErrThrottled, err)
	}
	return fmt.Errorf("read log group %s: %w", group, err)
}
