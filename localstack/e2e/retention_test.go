package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
)

// TestRetention: the day's input of the rule removes what is older than the stage's
// retention of ten years, with the XComs in the bucket, and nothing else.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"lib_TAG/kept.py": "def make():\n    return 'x' * 150000\n"})
	young := s.deploy(t, "kept_TAG", "kept_TAG:\n"+head+"  tasks:\n    - {task_id: make, decorator: airflow.sdk.task, python_callable: lib_TAG.kept.make}\n")
	young.ends(endWithin, success, "make=success")
	longAgo := time.Date(2010, 5, 1, 0, 0, 0, 0, time.UTC)
	info, err := s.engine.Trigger(t.Context(), engine.TriggerOptions{DagID: young.key.DagID, RunID: "long_ago", RunAfter: longAgo, LogicalDate: &longAgo, TriggeredBy: airflow.TriggeredByTest})
	if err != nil {
		t.Fatal(err)
	}
	old := s.run(t, "kept_TAG", info.RunID).ends(endWithin, success, "make=success")
	if keys := s.objects(t, awsenv.XComPrefix, string(old.key.DagID)); len(keys) != 2 {
		t.Fatalf("objects of the XComs in S3: %v", keys)
	}
	if _, err := s.store.UpdateRun(t.Context(), old.key, func(r *airflow.DagRun) error { r.EndDate = &longAgo; return nil }); err != nil {
		t.Fatal(err)
	}
	out, err := s.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(prefix + "-" + awsenv.Scheduler), Payload: []byte(awsenv.CleanInput)})
	if err != nil || out.FunctionError != nil {
		t.Fatalf("%v: %s", err, out.Payload)
	}
	// What an invocation has no time for the next one does.
	eventually(t, endWithin, "removal of a run of 2010", func() bool {
		_, err := s.store.GetRun(t.Context(), old.key)
		return errors.Is(err, airflow.ErrNotFound)
	})
	if keys := s.objects(t, awsenv.XComPrefix, string(old.key.DagID)); len(keys) != 1 {
		t.Errorf("objects of the XComs in S3 afterwards: %v", keys)
	}
	if rs := s.list(t, "kept_TAG"); len(rs) != 1 || rs[0].RunID != young.key.RunID {
		t.Errorf("runs afterwards: %v", rs)
	}
	eventually(t, endWithin, "what the removal remembers", func() bool { return len(s.objects(t, awsenv.RetentionPrefix, "state.json")) == 1 })
	s.trigger(t, "kept_TAG").ends(endWithin, success, "make=success") // its files are there still
}
