package cwlogs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/taglog"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// group plays a log group: pages of two events, tokens as CloudWatch gives them.
type group struct {
	events map[string][]event // by stream
	calls  int
}

type event struct {
	ms  int64
	msg string
}

// Write makes a group's stream an io.Writer for taglog.
type stream struct {
	g    *group
	name string
	ms   *int64
}

func (s stream) Write(b []byte) (int, error) {
	s.g.events[s.name] = append(s.g.events[s.name], event{*s.ms, string(b)})
	return len(b), nil
}

func (g *group) GetLogEvents(_ context.Context, in *cloudwatchlogs.GetLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetLogEventsOutput, error) {
	g.calls++
	evs, ok := g.events[*in.LogStreamName]
	if !ok {
		return nil, &types.ResourceNotFoundException{}
	}
	i := 0
	if in.NextToken != nil {
		i, _ = strconv.Atoi((*in.NextToken)[2:])
	} else {
		for i < len(evs) && in.StartTime != nil && evs[i].ms < *in.StartTime {
			i++
		}
	}
	out := &cloudwatchlogs.GetLogEventsOutput{}
	for ; i < len(evs) && len(out.Events) < 2; i++ {
		if in.EndTime == nil || evs[i].ms < *in.EndTime {
			out.Events = append(out.Events, types.OutputLogEvent{Message: &evs[i].msg, Timestamp: &evs[i].ms})
		}
	}
	out.NextForwardToken = aws.String("f/" + strconv.Itoa(i))
	return out, nil
}

// FilterLogEvents ignores the pattern, as emulators do.
func (g *group) FilterLogEvents(_ context.Context, in *cloudwatchlogs.FilterLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.FilterLogEventsOutput, error) {
	g.calls++
	var all []event
	for _, evs := range g.events {
		for _, e := range evs {
			if (in.StartTime == nil || e.ms >= *in.StartTime) && (in.EndTime == nil || e.ms < *in.EndTime) {
				all = append(all, e)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b event) int { return int(a.ms - b.ms) })
	i := 0
	if in.NextToken != nil {
		i, _ = strconv.Atoi(*in.NextToken)
	}
	out := &cloudwatchlogs.FilterLogEventsOutput{}
	for ; i < len(all) && len(out.Events) < 2; i++ {
		out.Events = append(out.Events, types.FilteredLogEvent{Message: &all[i].msg, Timestamp: &all[i].ms})
	}
	if i < len(all) {
		out.NextToken = aws.String(strconv.Itoa(i))
	}
	return out, nil
}

func TestReadTry(t *testing.T) {
	g := &group{events: map[string][]event{}}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ms := start.UnixMilli()
	key := airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
	other := key
	other.TaskID = "u"
	const s1, s2 = "2026/03/01/[1]aa", "2026/03/01/[1]bb"
	say := func(s string, k airflow.TaskInstanceKey, try int, text string) {
		if err := taglog.New(stream{g, s, &ms}, taglog.TagOf(k, try), taglog.Options{}).WriteRecord(taskrunner.Record{Time: start, Level: "info", Event: text}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(try tasklog.Try, from string) ([]string, string, error) {
		var out []string
		next, err := New(g).ReadTry(t.Context(), try, from, func(e tasklog.Entry) error { out = append(out, e.Event); return nil })
		return out, next, err
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	try := tasklog.Try{Key: key, Number: 1, Hostname: taglog.Host("lambda", "/aws/lambda/w", s1), Start: start}
	if _, _, err := read(try, ""); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("no stream: %v", err)
	}
	fmt.Fprint(stream{g, s1, &ms}, "START RequestId: x\n")
	say(s1, other, 1, "not mine")
	if _, _, err := read(try, ""); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("no line: %v", err)
	}
	say(s1, key, 1, "one")
	say(s1, key, 2, "another try")
	say(s1, key, 1, "two")
	got, next, err := read(try, "")
	if err != nil {
		t.Fatal(err)
	}
	want(got, "one", "two")
	say(s1, key, 1, "three")
	got, next, err = read(try, next)
	if err != nil {
		t.Fatal(err)
	}
	want(got, "three")
	if got, _, err = read(try, next); err != nil || len(got) > 0 {
		t.Errorf("at the end: %q, %v", got, err)
	}

	// The try went on elsewhere.
	ms += 60_000
	say(s2, key, 1, "four")
	say(s2, key, 1, "five")
	try.Moved, try.Hostname = true, taglog.Host("lambda", "/aws/lambda/w", s2)
	got, next, err = read(try, "")
	if err != nil {
		t.Fatal(err)
	}
	want(got, "one", "two", "three", "four", "five")
	say(s1, key, 1, "six") // at the same time as five
	ms++
	say(s1, key, 1, "seven")
	got, _, err = read(try, next)
	if err != nil {
		t.Fatal(err)
	}
	// Events of one millisecond on two streams have no order.
	if len(got) != 2 || got[1] != "seven" {
		t.Errorf("read on: %q", got)
	}
	try.End = start.Add(-time.Hour) // outside of the window
	if _, _, err := read(try, ""); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("outside of the window: %v", err)
	}
	try.Hostname = "ip-10-0-0-1"
	if _, _, err := read(try, ""); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a machine: %v", err)
	}
	if _, _, err := read(tasklog.Try{Key: key, Number: 1, Hostname: taglog.Host("lambda", "g", s1), Moved: true}, "x"); err == nil {
		t.Error("a place that is none is accepted")
	}
}

func TestPattern(t *testing.T) {
	k := airflow.TaskInstanceKey{DagID: "d", RunID: `r"1`, TaskID: "t", MapIndex: -1}
	tag := taglog.TagOf(k, 2)
	want := `{ ($.tag = "` + tag.ID() + `") || ($.dag_id = "d" && $.run_id = "r\"1" && $.task_id = "t" && $.map_index = -1 && $.try_number = 2) }`
	if got := pattern(tag); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	k.DagID, k.RunID, k.TaskID = airflow.DagID(strings.Repeat("d", 250)), airflow.RunID(strings.Repeat("é", 250)), airflow.TaskID(strings.Repeat("t", 250))
	tag = taglog.TagOf(k, 2)
	if got, want := pattern(tag), `{ $.tag = "`+tag.ID()+`" }`; got != want {
		t.Errorf("%d bytes, CloudWatch takes 1024: %s", len(got), got)
	}
}
