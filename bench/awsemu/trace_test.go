package awsemu_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

var errFails = errors.New("this task fails")

// TestTraceOfDynamoDB: for the same DAG the functions make the same calls whether
// DynamoDB is the emulated table or DynamoDB Local, the one LocalStack uses.
func TestTraceOfDynamoDB(t *testing.T) {
	client := dynamotest.Start(t)
	endpoint := aws.ToString(client.Options().BaseEndpoint)
	branch := enginetest.DAG{ID: "d", Tasks: []enginetest.Task{
		{ID: "a"}, {ID: "b", Upstream: []string{"a"}}, {ID: "c", Upstream: []string{"b"}}, {ID: "fails", Upstream: []string{"c"}}, {ID: "after", Upstream: []string{"fails"}}, {ID: "e", Empty: true, Upstream: []string{"c"}},
	}}
	work := func(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		if t.Dispatch.Key.TaskID == "fails" {
			return nil, errFails
		}
		return &taskrunner.Result{Value: []byte(`"x"`)}, nil
	}
	play := func(forward bool) map[string]int {
		o := emusite.Options{Work: work, TickOff: true, Reserved: 1, Cloud: awsemu.Options{Warm: 1}}
		if forward {
			o.Table = dynamotest.Table(t, client)
			o.Cloud.Forward = func(service string) string {
				if service == "DynamoDB" {
					return endpoint
				}
				return ""
			}
		}
		s := site(t, o)
		defer s.Close()
		if err := s.Register(t.Context(), branch); err != nil {
			t.Fatal(err)
		}
		s.Cloud.Trace.Reset()
		k := trigger(t, s, "d", "r")
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			r, err := s.Store.GetRun(awsemu.Untraced(t.Context()), store.RunKey{DagID: k.DagID, RunID: k.RunID})
			if err != nil {
				t.Fatal(err)
			}
			if r.State == airflow.RunFailed {
				break
			}
			if r.State.Finished() || time.Now().After(end) {
				t.Fatalf("the run is %s", r.State)
			}
		}
		s.Settle()
		return s.Cloud.Trace.Operations()
	}
	// Both run in real time here: messages that arrive together share a step, and
	// what a scheduler knows of pools is read again after five seconds. A slow moment
	// of this machine is no difference.
	var emulated, real map[string]int
	for range 4 {
		if emulated, real = play(false), play(true); maps.Equal(emulated, real) {
			break
		}
	}
	if !maps.Equal(emulated, real) {
		t.Errorf("emulated\n%s\nDynamoDB Local\n%s", awsemu.FormatOperations(emulated), awsemu.FormatOperations(real))
	}
	if emulated["worker DynamoDB.UpdateItem"] < 8 {
		t.Errorf("the trace is not that of the DAG:\n%s", awsemu.FormatOperations(emulated))
	}
}
