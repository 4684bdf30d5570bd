package upgrade

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/dagprocessor/reconcile"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor/lambdaexec"
	"github.com/gustflow/gust/internal/taskevents"
	"github.com/gustflow/gust/internal/worker"
)

var writeMessages = flag.String("write-messages", "", "write to this file every kind of message that this version sends; never replaces one")

// message is a body as it travels, and what its receiver is to make of it.
type message struct {
	To    string          `json:"to"` // scheduler, worker, callback, dagprocessor, taskevents
	Body  json.RawMessage `json:"body"`
	Means json.RawMessage `json:"means"` // the fields that are set, by their names in Go
}

// sent is every kind of message that this version sends.
func sent(t *testing.T) []message {
	t.Helper()
	d := worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "etl", RunID: "manual__2025-01-01T00:00:00+00:00", TaskID: "group.load", MapIndex: 3}, DispatchSeq: 7, Queue: "big", Executor: "ecs"}
	at := time.Date(2025, 1, 2, 3, 4, 5, 6000, time.UTC)
	of := func(k engine.MessageKind) engine.Message { m := engine.ReportOf(d); m.Kind = k; return m }
	run := engine.Message{DagID: d.Key.DagID, RunID: d.Key.RunID}
	lost, ask, called, uncalled, sweep, timer := of(engine.MessageLost), of(engine.MessageAsk), run, run, run, run
	lost.Cause, ask.Cause = "Sandbox.Timedout", "id-of-question"
	called.Kind, called.Cause = engine.MessageCalled, "id-of-callback"
	uncalled.Kind, uncalled.Cause = engine.MessageUncalled, "id-of-callback"
	sweep.Kind, timer.Kind, timer.At = engine.MessageSweep, engine.MessageRun, at
	var out []message
	add := func(to string, v any) {
		out = append(out, message{To: to, Body: json.RawMessage(text(t, v)), Means: json.RawMessage("null")})
	}
	for _, m := range []engine.Message{
		of(engine.MessageReport), of(engine.MessageFire), lost, ask, called, uncalled, sweep, timer,
		{Kind: engine.MessageRun, DagID: run.DagID, RunID: run.RunID},
		{Kind: engine.MessageDag, DagID: run.DagID, RunID: run.RunID, Try: 2},
		{Kind: engine.MessageDue, Dags: []airflow.DagID{"etl", "report"}, At: at, Try: 1},
	} {
		add("scheduler", m)
		dead, err := taskevents.Read([]byte(text(t, m))) // as it comes again after it died
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, message{To: "scheduler", Body: json.RawMessage(dead.Again), Means: json.RawMessage("null")})
		add("taskevents", m)
	}
	add("worker", d)
	add("taskevents", d)
	add("callback", awsapp.CallbackMessage{Callback: "id-of-callback"})
	add("taskevents", awsapp.CallbackMessage{Callback: "id-of-callback"})
	add("taskevents", map[string]any{"requestContext": map[string]any{"functionArn": "arn:aws:lambda:eu-west-1:1:function:gust-dev-worker-big", "condition": "RetriesExhausted"}, "requestPayload": d})
	add("taskevents", map[string]any{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": map[string]any{"lastStatus": "STOPPED", "stopCode": "TaskFailedToStart", "overrides": map[string]any{
		"containerOverrides": []any{map[string]any{"name": "gust", "environment": []any{map[string]any{"name": awsenv.ECSDispatch, "value": text(t, d)}}}}}}})
	for _, body := range []string{`{"gust":"reconcile"}`, `{"gust":"reparse"}`, `{"gust":"reparse","files":["a.yml"]}`} {
		out = append(out, message{To: "dagprocessor", Body: json.RawMessage(body), Means: json.RawMessage("null")})
	}
	for i := range out {
		m, err := meaning(out[i].To, out[i].Body)
		if err != nil {
			t.Fatalf("this version does not understand itself: %s: %v", out[i].Body, err)
		}
		out[i].Means = m
	}
	return out
}

// meaning is what the receiver makes of a body, as JSON of the fields that are set.
func meaning(to string, body []byte) (json.RawMessage, error) {
	var v any
	var err error
	switch to {
	case "scheduler":
		var m engine.Message
		if err = json.Unmarshal(body, &m); err == nil {
			err = m.Check()
		}
		v = m
	case "worker":
		v, err = lambdaexec.ParseMessage(string(body))
	case "callback":
		var m awsapp.CallbackMessage
		err = json.Unmarshal(body, &m)
		v = m
	case "taskevents":
		v, err = taskevents.Read(body)
	case "dagprocessor":
		v, err = reconcile.ParseCause(body)
	default:
		err = fmt.Errorf("nobody is called %q", to)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(fields(reflect.ValueOf(v)))
}

// fields turns a value into what JSON compares: structs become maps of the fields
// that are not zero.
func fields(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return fields(v.Elem())
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			return at.Format(time.RFC3339Nano)
		}
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			// Texts for people may change.
			if f.IsExported() && !v.Field(i).IsZero() && f.Name != "What" && (f.Name != "Cause" || v.Type() != reflect.TypeFor[engine.Message]() || v.FieldByName("Kind").String() != string(engine.MessageLost)) {
				out[f.Name] = fields(v.Field(i))
			}
		}
		return out
	case reflect.Slice:
		out := []any{}
		for i := range v.Len() {
			out = append(out, fields(v.Index(i)))
		}
		return out
	}
	return v.Interface()
}

func TestStoredMessages(t *testing.T) {
	now := sent(t)
	if *writeMessages != "" {
		if _, err := os.Stat(*writeMessages); err == nil {
			t.Fatalf("%s is there: what a version sent does not change", *writeMessages)
		}
		var b strings.Builder
		for _, m := range now {
			b.WriteString(text(t, m) + "\n")
		}
		if err := os.WriteFile(*writeMessages, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/messages-*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages in testdata: %v", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n := 0
		for sc := bufio.NewScanner(f); sc.Scan(); n++ {
			var m message
			if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			got, err := meaning(m.To, m.Body)
			if err != nil {
				t.Errorf("%s: the %s does not understand %s: %v", file, m.To, m.Body, err)
				continue
			}
			if !bytes.Equal(got, m.Means) {
				t.Errorf("%s: %s of %s\nmeans   %s\nmeant   %s", file, m.To, m.Body, got, m.Means)
			}
		}
		if n < 30 {
			t.Errorf("%s has %d messages only", file, n)
		}
	}
}

// TestEveryKindIsSent: a kind that is added must be among the messages which the
// next release stores.
func TestEveryKindIsSent(t *testing.T) {
	have := map[string]bool{}
	for _, m := range sent(t) {
		if m.To == "scheduler" {
			var x engine.Message
			if err := json.Unmarshal(m.Body, &x); err != nil {
				t.Fatal(err)
			}
			have[string(x.Kind)] = true
		}
	}
	files, err := filepath.Glob("../../internal/engine/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "MessageKind" {
				s, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, s)
			}
			return true
		})
	}
	if len(kinds) < 10 {
		t.Fatalf("found the kinds %v only", kinds)
	}
	for _, k := range kinds {
		if !have[k] {
			t.Errorf("kind %q is not among sent()", k)
		}
	}
	if len(have) != len(slices.Compact(slices.Sorted(slices.Values(kinds)))) {
		t.Errorf("sent() has %v, the engine %v", have, kinds)
	}
}
