package taglog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

var (
	tag = TagOf(airflow.TaskInstanceKey{DagID: "d", RunID: `r"1`, TaskID: "g.t", MapIndex: 3}, 2)
	at  = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
)

func record(event string) taskrunner.Record {
	return taskrunner.Record{Time: at, Level: taskrunner.LevelInfo, Logger: "task.stdout", Event: event}
}

func TestLine(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, tag, Options{})
	for range 2 {
		if err := l.WriteRecord(record(`{"dag_id":"other","tag":"x"} ü` + "\nsecond")); err != nil {
			t.Fatal(err)
		}
	}
	const at = `"timestamp":"2026-03-01T12:00:00.123456Z"`
	const start = `{"us":1772366400123456,"event":"{\"dag_id\":\"other\",\"tag\":\"x\"} ü\nsecond","logger":"task.stdout",`
	const names = `"dag_id":"d","run_id":"r\"1","task_id":"g.t","map_index":3,"try_number":2`
	want := start + names + `,"tag":"Z_CL3SBpAG4"}` + "\n" + start + `"tag":"Z_CL3SBpAG4"}` + "\n"
	if b.String() != want {
		t.Fatalf("lines:\n%s\nwant\n%s", b.String(), want)
	}
	lines := bytes.SplitAfter(b.Bytes(), []byte("\n"))
	spelt := strings.Replace(start, `"us":1772366400123456`, at, 1)
	earlier := []byte(strings.Replace(spelt, `"event"`, `"level":"info","event"`, 1) + names + "}\n")
	for _, line := range [][]byte{lines[0], lines[1], []byte(spelt + `"tag":"Z_CL3SBpAG4"}`), earlier} {
		e, id, ok := Parse(line)
		if !ok || e.Timestamp != "2026-03-01T12:00:00.123456Z" || id != tag.ID() || e.Event != "{\"dag_id\":\"other\",\"tag\":\"x\"} ü\nsecond" || e.Level != "info" || e.Logger != "task.stdout" || e.Extra != nil {
			t.Errorf("Parse(%s): %+v %q %v", line, e, id, ok)
		}
	}
	for _, foreign := range []string{"START RequestId: 1", `{"type":"platform.report"}`, `{"dag_id":"d","run_id":"r","task_id":"t"}`, `{"tag":7}`, ""} {
		if _, _, ok := Parse([]byte(foreign)); ok {
			t.Errorf("%q has a tag", foreign)
		}
	}
}

// TestUsualsAreLeftOut: and come back, whatever an event looks like.
func TestUsualsAreLeftOut(t *testing.T) {
	for _, level := range []tasklog.Level{"debug", "info", "error"} {
		for _, logger := range []string{"", "task", "task.stdout"} {
			for _, event := range []string{"", "x", `,"logger":"",`, `"level":"critical"`} {
				var b bytes.Buffer
				if err := New(&b, tag, Options{}).WriteRecord(tasklog.Record{Time: at, Level: level, Logger: logger, Event: event}); err != nil {
					t.Fatal(err)
				}
				e, _, ok := Parse(b.Bytes())
				if !ok || e.Level != string(level) || e.Logger != logger || e.Event != event {
					t.Errorf("%q %q %q came back as %+v from %s", level, logger, event, e, b.String())
				}
				if written := strings.Contains(b.String(), `,"logger":`); written != (logger != "task") {
					t.Errorf("%s", b.String())
				}
			}
		}
	}
}

// TestTagsTellTriesApart: every part of a tag counts, and only as a part.
func TestTagsTellTriesApart(t *testing.T) {
	seen := map[string]Tag{}
	for _, dag := range []airflow.DagID{"a", "a.b"} {
		for _, run := range []airflow.RunID{"b", "c", `","task_id":"c`} {
			for _, task := range []airflow.TaskID{"b.c", "c", "d"} {
				for index := -1; index < 12; index++ {
					for try := 1; try < 12; try++ {
						g := TagOf(airflow.TaskInstanceKey{DagID: dag, RunID: run, TaskID: task, MapIndex: index}, try)
						if other, ok := seen[g.ID()]; ok || len(g.ID()) != 11 {
							t.Fatalf("%+v has the ID %q of %+v", g, g.ID(), other)
						}
						seen[g.ID()] = g
					}
				}
			}
		}
	}
}

func TestLongEventsAreSplitWhole(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, tag, Options{})
	text := strings.Repeat("äöü\"\\", 60_000)
	if err := l.WriteRecord(record(text)); err != nil {
		t.Fatal(err)
	}
	var back strings.Builder
	for line := range bytes.Lines(b.Bytes()) {
		if len(line) > 256<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
		e, _, ok := Parse(line)
		if !ok || !utf8.ValidString(e.Event) {
			t.Fatalf("line %.80s", line)
		}
		back.WriteString(e.Event)
	}
	if back.String() != text {
		t.Error("the pieces are not the text")
	}
}

func TestCap(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, tag, Options{MaxBytes: 10_000, Now: func() time.Time { return at }})
	const n = 5000
	for i := range n {
		l.WriteRecord(record(fmt.Sprint("line ", i)))
	}
	l.WriteRecord(record("the cause"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 10_000+2*tailBytes+2000 {
		t.Errorf("%d bytes", b.Len())
	}
	kept, skipped, last := 0, 0, ""
	for line := range bytes.Lines(b.Bytes()) {
		e, _, ok := Parse(line)
		if !ok {
			t.Fatalf("line %q", line)
		}
		last = e.Event
		if strings.HasPrefix(e.Event, "line ") {
			kept++
		}
		fmt.Sscanf(e.Event, "Log truncated: %d lines", &skipped)
	}
	if last != "the cause" || skipped == 0 || kept+skipped != n {
		t.Errorf("kept %d, skipped %d of %d, last %q", kept, skipped, n, last)
	}
}

func TestHost(t *testing.T) {
	for _, c := range [][3]string{
		{"lambda", "/aws/lambda/gust-dev-worker-default", "2026/03/01/[$LATEST]0123456789abcdef"},
		{"lambda", "gust", "2026/03/01/gust-worker[12]0123456789abcdef"},
		{"ecs", "/gust/dev/tasks", "worker/task/0123"},
	} {
		kind, group, stream, ok := ParseHost(Host(c[0], c[1], c[2]))
		if !ok || kind != c[0] || group != c[1] || stream != c[2] {
			t.Errorf("%v came back as %q %q %q %v", c, kind, group, stream, ok)
		}
	}
	for _, host := range []string{"", "ip-10-0-0-1", "lambda/x", "lambda//2026/03/01/nobracket", "ecs/group"} {
		if _, _, _, ok := ParseHost(host); ok {
			t.Errorf("%q names a stream", host)
		}
	}
}
