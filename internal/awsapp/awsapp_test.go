package awsapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/worker"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestFromEnvReportsEverything(t *testing.T) {
	_, err := FromLookup(lookup(map[string]string{
		awsenv.EventsQueueURL: "events", awsenv.TaskQueues: `{"a":"https://sqs/1/a","b":"x"}`, awsenv.SecretsBackend: "vault", awsenv.ECSExecutor: "{",
		awsenv.Table: "  ",
	}), awsenv.Table, awsenv.DataBucket, awsenv.EventsQueueURL)
	var invalid *airflow.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	for _, want := range []string{awsenv.Table, awsenv.DataBucket, awsenv.EventsQueueURL, `queue "b"`, "vault", awsenv.ECSExecutor} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	if len(invalid.Problems) != 6 {
		t.Errorf("%d problems: %v", len(invalid.Problems), err)
	}
	c, err := FromLookup(lookup(map[string]string{awsenv.Table: "t", awsenv.TaskQueues: `{"default":"https://sqs/1/d"}`}), awsenv.Table)
	if err != nil || c.Table != "t" || c.DefaultQueue != "default" || c.SecretsPrefix != "airflow" || c.TaskQueues["default"] == "" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := FromLookup(lookup(map[string]string{awsenv.TaskQueues: "["})); err == nil {
		t.Error("queues that are no JSON are accepted")
	}
}

// Every variable of a deployment must be taken out before Gust's own settings are
// read: GUST_… is a setting otherwise, and an unknown one is refused or ignored.
func TestSettings(t *testing.T) {
	env := []string{"AIRFLOW__CORE__MAX_MAP_LENGTH=77", "PATH=/bin"}
	for _, name := range ours {
		env = append(env, name+"=x")
	}
	c, err := Settings(env, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if c.Core.MaxMapLength != 77 {
		t.Errorf("max_map_length %d", c.Core.MaxMapLength)
	}
}

// sent is a queue.Queues that remembers what is sent.
type sent struct {
	queue.Queues
	to  map[string][]queue.Outgoing
	err error
}

func (s *sent) Send(_ context.Context, url string, ms []queue.Outgoing) error {
	s.to[url] = append(s.to[url], ms...)
	return s.err
}

func TestOutbox(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	q := &sent{to: map[string][]queue.Outgoing{}}
	o := &outbox{queues: q, events: "events", timers: "timers", now: func() time.Time { return now }}
	ms := []engine.Message{
		{Kind: engine.MessageRun, DagID: "d", RunID: "now"},
		{Kind: engine.MessageRun, DagID: "d", RunID: "past", At: now.Add(-time.Hour)},
		{Kind: engine.MessageRun, DagID: "d", RunID: "soon", At: now.Add(1500 * time.Millisecond)},
		{Kind: engine.MessageRun, DagID: "d", RunID: "late", At: now.Add(time.Hour)},
		engine.ReportOf(worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}, DispatchSeq: 3}),
	}
	if err := o.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"events": "now:0s past:0s r:0s ", "timers": "soon:1.5s late:15m0s "}
	for url, w := range want {
		got := ""
		for _, m := range q.to[url] {
			var back engine.Message
			if err := json.Unmarshal([]byte(m.Body), &back); err != nil || back.Check() != nil {
				t.Errorf("%s: %v %v", m.Body, err, back.Check())
			}
			got += fmt.Sprintf("%s:%v ", back.RunID, m.Delay)
		}
		if got != w {
			t.Errorf("%s got %q, want %q", url, got, w)
		}
	}
	q.err = errors.New("no answer")
	if err := o.Send(t.Context(), ms[:1]); !errors.Is(err, q.err) {
		t.Errorf("a message that was not sent: %v", err)
	}
	if err := o.Send(t.Context(), nil); err != nil {
		t.Errorf("nothing to send: %v", err)
	}
}

func TestCallbackQueue(t *testing.T) {
	q := &sent{to: map[string][]queue.Outgoing{}}
	if err := (callbackQueue{q, "u"}).SubmitCallbacks(t.Context(), []string{`dag#d/r#1`, `x"y`}); err != nil {
		t.Fatal(err)
	}
	if len(q.to["u"]) != 2 || q.to["u"][1].Body != `{"callback":"x\"y"}` {
		t.Errorf("%+v", q.to)
	}
}

// Opening everything takes no network and no more than what is set.
func TestOpenIsLazy(t *testing.T) {
	a, err := Open(t.Context(), Config{Table: "t", DefaultQueue: "default"}, Options{AWS: &aws.Config{Region: "us-east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Store(); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		awsenv.DataBucket:     second(a.Blobs()),
		awsenv.EventsQueueURL: second(a.Outbox()),
		"default":             second(a.CallbackQueue()),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	if _, err := a.keys.Seal([]byte("x"), nil); err == nil || !strings.Contains(err.Error(), awsenv.KeysSecret) {
		t.Errorf("keys: %v", err)
	}
	for _, backend := range []string{"", "secretsmanager", "ssm"} {
		a.Config.SecretsBackend, a.Config.SecretsPrefix = backend, "team/airflow"
		s, err := a.Secrets([]string{"AIRFLOW_VAR_X=1", "AIRFLOW_CONN_DB=postgres://u:p@h/db", "OTHER=2"})
		if err != nil {
			t.Fatal(err)
		}
		if backend != "" {
			continue // it would be asked first
		}
		if v, ok, err := s.Variable(t.Context(), "x"); err != nil || !ok || v.Value != "1" {
			t.Errorf("variable: %+v %v %v", v, ok, err)
		}
		if c, ok, err := s.Connection(t.Context(), "db"); err != nil || !ok || c.Host != "h" {
			t.Errorf("connection: %+v %v %v", c, ok, err)
		}
		if _, ok, err := s.Variable(t.Context(), "other"); ok || err != nil {
			t.Errorf("%v %v", ok, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }
