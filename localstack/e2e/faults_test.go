package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/localstack/e2e/faultproxy"
)

// lostWithin is how long a worker that vanished may go unnoticed, retry included: four minutes, and this machine's slowness.
const lostWithin = 5 * time.Minute

// about matches calls of a service whose body names a DAG.
func (s *site) about(service, dag string, actions ...string) func(faultproxy.Call) bool {
	id := []byte(s.fill(dag))
	return func(c faultproxy.Call) bool {
		if c.Service != service || !bytes.Contains(c.Body, id) {
			return false
		}
		for _, a := range actions {
			if c.Action == a {
				return true
			}
		}
		return len(actions) == 0
	}
}

// busy is a DAG with a chain, a fan and a join: some 20 tasks, each of which must start once.
func busy(name string) string {
	task := func(id, deps string) string {
		return fmt.Sprintf("    - {task_id: %s, operator: BashOperator, bash_command: '%secho {{ ti.task_id }}', dependencies: [%s]}\n", id, once, deps)
	}
	text, all := name+":\n"+head+"  tasks:\n"+task("a", "")+task("b", "a")+task("c", "b"), make([]string, 12)
	for i := range all {
		all[i] = fmt.Sprintf("f%d", i)
		text += task(all[i], "c")
	}
	return text + task("d", strings.Join(all, ", ")) + task("e", "d")
}

// busyEnd is how a run of busy ends.
func busyEnd() string {
	out := "a=success/1 b=success/1 c=success/1 d=success/1 e=success/1"
	for i := range 12 {
		out += fmt.Sprintf(" f%d=success/1", i)
	}
	return out
}

func TestDoubledAndReorderedMessages(t *testing.T) {
	t.Parallel()
	s := need(t)
	double := s.proxy.Add(faultproxy.Rule{Match: s.about("sqs", "shuffled_TAG", "SendMessageBatch", "SendMessage"), Act: faultproxy.Double, Every: 2})
	shuffle := s.proxy.Add(faultproxy.Rule{Match: s.about("sqs", "shuffled_TAG", "SendMessageBatch", "SendMessage"), Act: faultproxy.Shuffle})
	r := s.deploy(t, "shuffled_TAG", busy("shuffled_TAG"))
	r.ends(2*endWithin, success, busyEnd())
	if d, sh := double(), shuffle(); d == 0 || sh == 0 {
		t.Errorf("%d sends were doubled, %d delayed: nothing was tested", d, sh)
	} else {
		t.Logf("%d sends were doubled, %d delayed", d, sh)
	}
}

func TestThrottledTable(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"throttled_TAG.yml": busy("throttled_TAG")})
	s.known(t, "throttled_TAG")
	throttle := s.proxy.Add(faultproxy.Rule{Match: s.about("dynamodb", "throttled_TAG"), Act: faultproxy.Throttle, Every: 3})
	r := s.trigger(t, "throttled_TAG").ends(2*endWithin, success, busyEnd())
	n := throttle()
	if n == 0 {
		t.Error("no call was throttled: nothing was tested")
	}
	t.Logf("%d calls were throttled", n)
	r.has("e", `"e"`)
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"lost_TAG.yml": busy("lost_TAG")})
	s.known(t, "lost_TAG")
	table := s.proxy.Add(faultproxy.Rule{Match: s.about("dynamodb", "lost_TAG", "UpdateItem", "PutItem", "TransactWriteItems", "DeleteItem"), Act: faultproxy.LoseAnswer, Every: 4})
	queue := s.proxy.Add(faultproxy.Rule{Match: s.about("sqs", "lost_TAG", "SendMessageBatch"), Act: faultproxy.LoseAnswer, Every: 5})
	s.trigger(t, "lost_TAG").ends(2*endWithin, success, busyEnd())
	if a, b := table(), queue(); a == 0 || b == 0 {
		t.Errorf("%d answers of the table and %d of queues were lost: nothing was tested", a, b)
	} else {
		t.Logf("%d answers of the table and %d of queues were lost", a, b)
	}
}

// TestWorkerKilled kills the worker and all of its task in mid-task, as a lost sandbox does.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	s := need(t)
	r := s.deploy(t, "killed_TAG", `
killed_TAG:
`+head+`
  tasks:
    - {task_id: a, operator: BashOperator, retries: 1, retry_delay: 1, bash_command: '`+once+`echo last words of try {{ ti.try_number }}; echo $$ > SCRATCH/killed-{{ ti.try_number }}.pid; test {{ ti.try_number }} = 2 || sleep 600'}
    - {task_id: b, operator: EmptyOperator, dependencies: [a]}
`)
	eventually(t, endWithin, "running task", func() bool { return s.pid(t, "killed-1.pid") != 0 })
	time.Sleep(time.Second) // its line has left the worker
	task := s.pid(t, "killed-1.pid")
	worker := s.workerOf(t, task)
	killed := time.Now()
	kill(t, worker, syscall.SIGKILL)
	kill(t, task, syscall.SIGKILL)
	r.ends(lostWithin, success, "a=success/2 b=success")
	t.Logf("the run ended %v after its worker was killed", time.Since(killed).Round(time.Second))
	r.logs("a", 1, "last words of try 1", "Task ended without a report: ")
}

// TestTaskKilled: the task alone is killed, as by the kernel when memory runs out. Its worker lives and reports at once.
func TestTaskKilled(t *testing.T) {
	t.Parallel()
	s := need(t)
	r := s.deploy(t, "oom_TAG", `
oom_TAG:
`+head+`
  tasks:
    - {task_id: a, operator: BashOperator, retries: 1, retry_delay: 1, bash_command: '`+once+`echo last words of try {{ ti.try_number }}; test {{ ti.try_number }} = 2 || kill -9 $$'}
    - {task_id: b, operator: EmptyOperator, dependencies: [a]}
`)
	r.ends(endWithin, success, "a=success/2 b=success")
	r.logs("a", 1, "last words of try 1", "non-zero exit code -9")
}

// TestQueueFaults uses a queue of its own, so that its settings may change.
func TestQueueFaults(t *testing.T) {
	t.Parallel()
	s := need(t)
	const worker = prefix + "-worker-isolated"
	t.Run("redelivery", func(t *testing.T) {
		queue := s.queue(t, "tasks-isolated")
		old := s.visibility(t, queue, "12")
		defer s.visibility(t, queue, old)
		r := s.deploy(t, "redelivered_TAG", isolated("redelivered_TAG", once+"sleep 30; echo done", ""))
		r.ends(2*endWithin, success, "a=success/1 b=success")
	})
	t.Run("dead letter", func(t *testing.T) {
		mapping := s.mapping(t, worker)
		s.enable(t, mapping, false)
		defer s.enable(t, mapping, true)
		r := s.deploy(t, "dead_TAG", isolated("dead_TAG", once+"echo done", ", retries: 1, retry_delay: 1"))
		body := s.take(t, s.queue(t, "tasks-isolated"), r)
		dead := s.deadLetters(t, "tasks-isolated")
		for _, letter := range []string{"no JSON", `{"key": {}}`, `{"key": {"dag_id": "nowhere", "run_id": "x", "task_id": "y", "map_index": -1}, "dispatch_seq": 1}`, body} {
			if _, err := s.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: dead, MessageBody: &letter}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, endWithin, "second try", func() bool { return r.ti("a").TryNumber == 2 })
		s.enable(t, mapping, true)
		r.ends(endWithin, success, "a=success/2 b=success")
	})
	t.Run("asynchronous invocation", func(t *testing.T) {
		// As the scheduler invokes workers past their queue for a burst, and Lambda then
		// tells the dead letters, not the caller, that the sandbox was lost.
		mapping := s.mapping(t, worker)
		s.enable(t, mapping, false)
		defer s.enable(t, mapping, true)
		r := s.deploy(t, "async_TAG", isolated("async_TAG", once+"echo $$ > SCRATCH/async-{{ ti.try_number }}.pid; test {{ ti.try_number }} = 2 || sleep 600", ", retries: 1, retry_delay: 1"))
		body := s.take(t, s.queue(t, "tasks-isolated"), r)
		if _, err := s.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(worker), InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(body)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, endWithin, "running task", func() bool { return s.pid(t, "async-1.pid") != 0 })
		task := s.pid(t, "async-1.pid")
		killed := time.Now()
		kill(t, s.workerOf(t, task), syscall.SIGKILL)
		kill(t, task, syscall.SIGKILL)
		eventually(t, lostWithin, "second try", func() bool { return r.ti("a").TryNumber == 2 })
		t.Logf("the second try was there %v after the sandbox was lost", time.Since(killed).Round(time.Second))
		s.enable(t, mapping, true)
		r.ends(endWithin, success, "a=success/2 b=success")
		r.logs("a", 1, "the invocation of "+worker, "RetriesExhausted: Runtime.ExitError")
	})
	t.Run("deadline", func(t *testing.T) {
		defer s.timeout(t, worker, s.timeout(t, worker, 45))
		r := s.deploy(t, "deadline_TAG", isolated("deadline_TAG", once+"echo begun; sleep 600", ""))
		r.ends(2*endWithin, failed, "a=failed/1 b=upstream_failed")
		r.logs("a", 1, "begun", "lambda_deadline")
	})
	t.Run("timeout", func(t *testing.T) {
		defer s.timeout(t, worker, s.timeout(t, worker, 45))
		r := s.deploy(t, "timeout_TAG", isolated("timeout_TAG", once+"echo $$ > SCRATCH/timeout-{{ ti.try_number }}.pid; test {{ ti.try_number }} = 2 || sleep 600", ", retries: 1, retry_delay: 1"))
		eventually(t, endWithin, "running task", func() bool { return s.pid(t, "timeout-1.pid") != 0 })
		task := s.pid(t, "timeout-1.pid")
		kill(t, s.workerOf(t, task), syscall.SIGSTOP) // it will not end the task before Lambda ends it
		r.ends(lostWithin, success, "a=success/2 b=success")
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", task)); err == nil {
			t.Error("the task outlived its function")
			kill(t, task, syscall.SIGKILL)
		}
	})
}

// isolated is a DAG whose first task runs on the queue "isolated".
func isolated(name, command, more string) string {
	return name + ":\n" + head + "  tasks:\n    - {task_id: a, operator: BashOperator, queue: isolated, bash_command: '" + command + "'" + more + "}\n    - {task_id: b, operator: EmptyOperator, dependencies: [a]}\n"
}

// TestSchedulerDies kills and then stops the scheduler's processes while a run is under way. It runs alone: every other
// run would wait for the redelivery of its messages, too.
func TestSchedulerDies(t *testing.T) {
	s := need(t)
	events := s.queue(t, "events")
	defer s.visibility(t, events, s.visibility(t, events, "5"))
	r := s.deploy(t, "dies_TAG", busy("dies_TAG"))
	kills := 0
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(700 * time.Millisecond) {
		for _, pid := range s.processes(t, prefix+"-scheduler") {
			kill(t, pid, syscall.SIGKILL)
			kills++
		}
	}
	if kills == 0 {
		t.Error("no scheduler process was killed: nothing was tested")
	}
	t.Logf("killed %d scheduler processes", kills)
	r.ends(3*endWithin, success, busyEnd())

	r = s.trigger(t, "dies_TAG")
	r.until(endWithin, "c", airflow.TISuccess)
	for _, pid := range s.processes(t, prefix+"-scheduler") {
		kill(t, pid, syscall.SIGSTOP) // until the function's timeout
	}
	r.ends(3*endWithin, success, busyEnd())
}

func (s *site) queue(t *testing.T, name string) *string {
	t.Helper()
	out, err := s.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(prefix + "-" + name)})
	if err != nil {
		t.Fatal(err)
	}
	return out.QueueUrl
}

// deadLetters returns the queue to which the dead letters of another go.
func (s *site) deadLetters(t *testing.T, name string) *string {
	t.Helper()
	policy := sqstypes.QueueAttributeNameRedrivePolicy
	out, err := s.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: s.queue(t, name), AttributeNames: []sqstypes.QueueAttributeName{policy}})
	if err != nil {
		t.Fatal(err)
	}
	var redrive struct{ DeadLetterTargetArn string }
	if err := json.Unmarshal([]byte(out.Attributes[string(policy)]), &redrive); err != nil || redrive.DeadLetterTargetArn == "" {
		t.Fatalf("redrive policy of %s: %v %v", name, out.Attributes, err)
	}
	return s.queue(t, strings.TrimPrefix(redrive.DeadLetterTargetArn[strings.LastIndex(redrive.DeadLetterTargetArn, ":")+1:], prefix+"-"))
}

// visibility sets a queue's visibility timeout and returns what it was.
func (s *site) visibility(t *testing.T, queue *string, seconds string) string {
	t.Helper()
	name := string(sqstypes.QueueAttributeNameVisibilityTimeout)
	out, err := s.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameVisibilityTimeout}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: queue, Attributes: map[string]string{name: seconds}}); err != nil {
		t.Fatal(err)
	}
	return out.Attributes[name]
}

// timeout sets a function's timeout and returns what it was.
func (s *site) timeout(t *testing.T, function string, seconds int32) int32 {
	t.Helper()
	was, err := s.lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &function})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lambda.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &function, Timeout: &seconds}); err != nil {
		t.Fatal(err)
	}
	eventually(t, endWithin, "updated function "+function, func() bool {
		f, err := s.lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &function})
		if err != nil {
			t.Fatal(err)
		}
		return f.LastUpdateStatus == "Successful" && f.State == "Active"
	})
	return *was.Timeout
}

// mapping returns the id of the event source mapping of a function.
func (s *site) mapping(t *testing.T, function string) string {
	t.Helper()
	out, err := s.lambda.ListEventSourceMappings(t.Context(), &lambda.ListEventSourceMappingsInput{FunctionName: &function})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.EventSourceMappings) != 1 {
		t.Fatalf("%s has %d event source mappings", function, len(out.EventSourceMappings))
	}
	return *out.EventSourceMappings[0].UUID
}

// enable switches a mapping on or off and waits until it is.
func (s *site) enable(t *testing.T, mapping string, on bool) {
	t.Helper()
	if _, err := s.lambda.UpdateEventSourceMapping(t.Context(), &lambda.UpdateEventSourceMappingInput{UUID: &mapping, Enabled: &on}); err != nil {
		t.Fatal(err)
	}
	want := map[bool]string{true: "Enabled", false: "Disabled"}[on]
	eventually(t, endWithin, "mapping "+want, func() bool {
		m, err := s.lambda.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: &mapping})
		if err != nil {
			t.Fatal(err)
		}
		return *m.State == want
	})
	if !on {
		time.Sleep(lastPoll)
	}
}

// lastPoll outlives the long poll that a mapping was in when it was switched off (5 s in hostkit): that takes messages still.
const lastPoll = 8 * time.Second

// take removes the message of a run from a queue that nothing consumes and returns its body.
func (s *site) take(t *testing.T, queue *string, r *oneRun) (body string) {
	t.Helper()
	eventually(t, endWithin, "message of "+r.key.String(), func() bool {
		out, err := s.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: queue, WaitTimeSeconds: 2, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			if strings.Contains(*m.Body, string(r.key.DagID)) {
				body = *m.Body
			}
			if _, err := s.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: queue, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
		return body != ""
	})
	return body
}
