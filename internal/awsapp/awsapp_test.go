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
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

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
	a.Config.KeysSecret = "secret"
	if _, err := a.keys.Open([]byte("x"), nil); !errors.Is(err, errNoKeys) {
		t.Errorf("keys of a process that has none: %v", err)
	}
	a.Config.SecretsBackend = "ssm"
	if _, err := a.Secrets(nil); err == nil || !strings.Contains(err.Error(), awsenv.SecretsBackend) {
		t.Errorf("a backend in a process that reads no secrets: %v", err)
	}
	a.Config.SecretsBackend = ""
	{
		s, err := a.Secrets([]string{"AIRFLOW_VAR_X=1", "AIRFLOW_CONN_DB=postgres://u:p@h/db", "OTHER=2"})
		if err != nil {
			t.Fatal(err)
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

// TestCredentials: in a function all is in the environment, also the endpoints of
// single services; elsewhere somebody must search.
func TestCredentials(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_LAMBDA_RUNTIME_API"} {
		t.Setenv(name, "")
	}
	if _, err := ClientConfig(t.Context()); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("nothing is set: %v", err)
	}
	searched := 0
	load := func(context.Context, *awshttp.BuildableClient) (aws.Config, error) {
		searched++
		return aws.Config{Region: "eu-west-1"}, nil
	}
	if c, err := awsConfig(t.Context(), load); err != nil || c.Region != "eu-west-1" || searched != 1 {
		t.Errorf("on a machine: %v %v, searched %d times", c.Region, err, searched)
	}
	for name, v := range map[string]string{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_SESSION_TOKEN": "token", "AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://one", "AWS_LAMBDA_RUNTIME_API": "x"} {
		t.Setenv(name, v)
	}
	for _, l := range []Load{nil, load} {
		c, err := awsConfig(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := c.Credentials.Retrieve(t.Context())
		if err != nil || keys.AccessKeyID != "id" || keys.SecretAccessKey != "key" || keys.SessionToken != "token" || c.Region != "us-east-1" || *c.BaseEndpoint != "http://all" || searched != 1 {
			t.Errorf("in a function: %+v %v, searched %d times", c, err, searched)
		}
		one, two := secretsmanager.NewFromConfig(c).Options().BaseEndpoint, sqs.NewFromConfig(c).Options().BaseEndpoint
		if one == nil || *one != "http://one" || two == nil || *two != "http://all" {
			t.Errorf("endpoints %v %v", one, two)
		}
	}
}

func second[T any](_ T, err error) error { return err }
