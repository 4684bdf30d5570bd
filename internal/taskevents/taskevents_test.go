package taskevents_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/taskevents"
	"github.com/gustflow/gust/internal/worker"
)

var theDispatch = worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "scheduled__2024-01-01T00:00:00+00:00", TaskID: "g.t", MapIndex: 3}, DispatchSeq: 7, Queue: "q"}

func body(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T, s string) taskevents.Finding {
	t.Helper()
	f, err := taskevents.Read([]byte(s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return f
}

func wantLost(t *testing.T, f taskevents.Finding, texts ...string) {
	t.Helper()
	m := f.Tell
	if m == nil || m.Kind != engine.MessageLost || m.Check() != nil || m.DagID != "d" || m.RunID != theDispatch.Key.RunID || m.TaskID != "g.t" || m.MapIndex != 3 || m.DispatchSeq != 7 {
		t.Fatalf("want the loss of %s, got %+v", theDispatch, m)
	}
	for _, s := range texts {
		if !strings.Contains(m.Cause, s) {
			t.Errorf("cause %q lacks %q", m.Cause, s)
		}
	}
}

func TestDeadTaskMessage(t *testing.T) {
	wantLost(t, read(t, body(t, theDispatch)), "could not be delivered", "maxReceiveCount")
}

func TestFailedInvocation(t *testing.T) {
	record := func(payload any, response string) string {
		return fmt.Sprintf(`{"version":"1.0","timestamp":"2024-01-01T00:00:00.000Z","requestContext":{"requestId":"1","functionArn":"arn:aws:lambda:eu-west-1:1:function:gust-worker-default:$LATEST","condition":"RetriesExhausted","approximateInvokeCount":1},"requestPayload":%s,"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":%s}`, body(t, payload), response)
	}
	wantLost(t, read(t, record(theDispatch, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: Runtime exited with error: signal: killed"}`)), "gust-worker-default", "RetriesExhausted", "signal: killed")
	batch := map[string]any{"Records": []any{map[string]any{"body": body(t, theDispatch)}}}
	wantLost(t, read(t, record(batch, `null`)), "RetriesExhausted")
	if f := read(t, record(map[string]any{"other": 1}, `null`)); f.Tell != nil || !f.Alarm || !strings.Contains(f.What, "gust-worker-default") {
		t.Errorf("a payload without a dispatch: %+v", f)
	}
}

func ecs(t *testing.T, status, code, reason string, exit string, why string) string {
	return fmt.Sprintf(`{"version":"0","source":"aws.ecs","detail-type":"ECS Task State Change","detail":{"taskArn":"arn:aws:ecs:x:1:task/c/1","lastStatus":%q,"stopCode":%q,"stoppedReason":%q,
"containers":[{"name":"gust","lastStatus":"STOPPED"%s,"reason":%q}],"overrides":{"containerOverrides":[{"name":"gust","environment":[{"name":"X","value":"y"},{"name":"GUST_ECS_DISPATCH","value":%q}]}]}}}`, status, code, reason, exit, why, body(t, theDispatch))
}

func TestECS(t *testing.T) {
	wantLost(t, read(t, ecs(t, "STOPPED", "EssentialContainerExited", "Essential container in task exited", `,"exitCode":137`, "OutOfMemoryError: Container killed due to memory usage")), "exit code 137", "OutOfMemoryError", "Essential container")
	wantLost(t, read(t, ecs(t, "STOPPED", "TaskFailedToStart", "CannotPullContainerError: no such image", "", "")), "CannotPullContainerError")
	wantLost(t, read(t, ecs(t, "STOPPED", "SpotInterruption", "Your Spot Task was interrupted.", `,"exitCode":0`, "")), "SpotInterruption")
	if f := read(t, ecs(t, "STOPPED", "EssentialContainerExited", "Essential container in task exited", `,"exitCode":0`, "")); f.Tell == nil || f.Tell.Kind != engine.MessageReport || f.Tell.DispatchSeq != 7 {
		t.Errorf("a clean end: %+v", f.Tell)
	}
	if f := read(t, ecs(t, "RUNNING", "", "", "", "")); f != (taskevents.Finding{}) {
		t.Errorf("a running task: %+v", f)
	}
	if f := read(t, strings.ReplaceAll(ecs(t, "STOPPED", "UserInitiated", "", "", ""), "GUST_ECS_DISPATCH", "OTHER")); f != (taskevents.Finding{}) {
		t.Errorf("a service's task: %+v", f)
	}
	if _, err := taskevents.Read([]byte(`{"source":"aws.ec2","detail-type":"EC2 Instance State-change Notification","detail":{}}`)); err == nil {
		t.Error("another service's event was accepted")
	}
}

// TestDeadSchedulerMessages are sent again a bounded number of times, unchanged but
// for the count.
func TestDeadSchedulerMessages(t *testing.T) {
	msg := engine.ReportOf(theDispatch)
	text := body(t, msg)
	for i := range taskevents.MaxResends {
		f := read(t, text)
		if f.Again == "" || f.Delay <= 0 || f.Delay > engine.MaxDelay || !f.Alarm {
			t.Fatalf("time %d: %+v", i+1, f)
		}
		var again engine.Message
		if err := json.Unmarshal([]byte(f.Again), &again); err != nil || !reflect.DeepEqual(again, msg) {
			t.Fatalf("sent again as %s, %v", f.Again, err)
		}
		text = f.Again
	}
	if f := read(t, text); f.Again != "" || !f.Alarm || !strings.Contains(f.What, "3 times") {
		t.Errorf("the last time: %+v", f)
	}
}

func TestOthers(t *testing.T) {
	if f := read(t, `{"callback":"abc"}`); !f.Alarm || f.Tell != nil {
		t.Errorf("callback: %+v", f)
	}
	if f := read(t, `{"gust":"reconcile"}`); !f.Alarm {
		t.Errorf("reconcile: %+v", f)
	}
	if f := read(t, `{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a"}}}]}`); !f.Alarm {
		t.Errorf("S3 event: %+v", f)
	}
	if f := read(t, `{"Event":"s3:TestEvent"}`); f.Alarm {
		t.Errorf("test event: %+v", f)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"k":"nonsense","d":"x"}`, `{"key":{},"dispatch_seq":1}`, `{"k":"report","d":"x"}`} {
		if f, err := taskevents.Read([]byte(bad)); err == nil {
			t.Errorf("%s: accepted as %+v", bad, f)
		}
	}
}
