package ecsexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/worker"
)

// fakeECS keeps tasks by client token, as the service does.
type fakeECS struct {
	API
	mu     sync.Mutex
	tokens map[string]string // ARN by token
	tasks  map[string]types.Task
	calls  []*ecs.RunTaskInput
	// answer, if set, is asked first.
	answer  func(n int, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error)
	stopped map[string]string
}

func newFake() *fakeECS {
	return &fakeECS{tokens: map[string]string{}, tasks: map[string]types.Task{}, stopped: map[string]string{}}
}

func (f *fakeECS) RunTask(_ context.Context, in *ecs.RunTaskInput, _ ...func(*ecs.Options)) (*ecs.RunTaskOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := *in
	f.calls = append(f.calls, &c)
	if f.answer != nil {
		if out, err := f.answer(len(f.calls), in); out != nil || err != nil {
			return out, err
		}
	}
	arn, ok := f.tokens[*in.ClientToken]
	if !ok {
		arn = fmt.Sprintf("arn:aws:ecs:r:1:task/c/%d", len(f.tasks)+1)
		f.tokens[*in.ClientToken] = arn
		f.tasks[arn] = types.Task{TaskArn: &arn, LastStatus: aws.String("PROVISIONING"), StartedBy: in.StartedBy, Overrides: in.Overrides}
	}
	return &ecs.RunTaskOutput{Tasks: []types.Task{f.tasks[arn]}}, nil
}

func (f *fakeECS) ListTasks(_ context.Context, in *ecs.ListTasksInput, _ ...func(*ecs.Options)) (*ecs.ListTasksOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &ecs.ListTasksOutput{}
	for arn, t := range f.tasks {
		if in.StartedBy == nil || aws.ToString(in.StartedBy) == aws.ToString(t.StartedBy) {
			out.TaskArns = append(out.TaskArns, arn)
		}
	}
	return out, nil
}

func (f *fakeECS) DescribeTasks(_ context.Context, in *ecs.DescribeTasksInput, _ ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &ecs.DescribeTasksOutput{}
	for _, arn := range in.Tasks {
		if t, ok := f.tasks[arn]; ok {
			out.Tasks = append(out.Tasks, t)
		}
	}
	return out, nil
}

func (f *fakeECS) StopTask(_ context.Context, in *ecs.StopTaskInput, _ ...func(*ecs.Options)) (*ecs.StopTaskOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped[*in.Task] = *in.Reason
	return &ecs.StopTaskOutput{}, nil
}

func (f *fakeECS) set(arn, status string, change func(*types.Task)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tasks[arn]
	t.LastStatus = &status
	if change != nil {
		change(&t)
	}
	f.tasks[arn] = t
}

func dispatch(task string, seq uint32) worker.Dispatch {
	return worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "manual__2024-01-01T00:00:00+00:00", TaskID: airflow.TaskID(task), MapIndex: -1}, DispatchSeq: seq, Executor: "ecs"}
}

type rig struct {
	*Executor
	api     *fakeECS
	config  map[airflow.TaskID]string
	refused map[string]string
	mu      sync.Mutex
	pauses  []int
}

func newRig(change ...func(*Options)) *rig {
	r := &rig{api: newFake(), config: map[airflow.TaskID]string{}, refused: map[string]string{}}
	o := Options{
		API: r.api, Rate: 1e6,
		Config: awsenv.ECS{Cluster: "arn:aws:ecs:r:1:cluster/c", TaskDefinitions: map[string]string{"default": "arn:aws:ecs:r:1:task-definition/gust-task-default:3"}, Subnets: []string{"subnet-1"},
			SecurityGroups: []string{"sg-1"}, AssignPublicIP: true, TaskRoles: []string{"arn:aws:iam::1:role/etl"}},
		TaskConfig: func(_ context.Context, d worker.Dispatch) (json.RawMessage, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return json.RawMessage(r.config[d.Key.TaskID]), nil
		},
		Refuse: func(_ context.Context, d worker.Dispatch, why string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refused[string(d.Key.TaskID)] = why
		},
		Pause: func(_ context.Context, n int) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.pauses = append(r.pauses, n)
			return nil
		},
	}
	for _, f := range change {
		f(&o)
	}
	r.Executor = New(o)
	return r
}

func TestSubmitOnce(t *testing.T) {
	r := newRig()
	d := dispatch("a", 7)
	for range 3 {
		if err := r.Submit(context.Background(), []worker.Dispatch{d, dispatch("b", 7)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.api.tasks) != 2 || len(r.api.calls) != 6 {
		t.Fatalf("%d tasks of %d calls", len(r.api.tasks), len(r.api.calls))
	}
	// Another process submits it, too.
	other := newRig(func(o *Options) { o.API = r.api })
	if err := other.Submit(context.Background(), []worker.Dispatch{d}); err != nil || len(r.api.tasks) != 2 {
		t.Errorf("%v, %d tasks", err, len(r.api.tasks))
	}
	// A later dispatch of the same task is another one.
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 8)}); err != nil || len(r.api.tasks) != 3 {
		t.Errorf("%v, %d tasks", err, len(r.api.tasks))
	}
	for _, in := range r.api.calls {
		var got worker.Dispatch
		env := in.Overrides.ContainerOverrides[0].Environment
		if len(env) != 1 || *env[0].Name != "GUST_ECS_DISPATCH" || json.Unmarshal([]byte(*env[0].Value), &got) != nil || got.DispatchSeq < 7 {
			t.Errorf("environment %+v", env)
		}
		if len(*in.ClientToken) > 64 || len(*in.StartedBy) > 36 || in.LaunchType != types.LaunchTypeFargate || in.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp != types.AssignPublicIpEnabled {
			t.Errorf("call %+v", in)
		}
	}
}

func TestExecutorConfig(t *testing.T) {
	r := newRig()
	r.config["a"] = `{"cpu": 1024, "memory": "4096", "overrides": {"taskRoleArn": "arn:aws:iam::1:role/etl", "ephemeralStorage": {"sizeInGiB": 50},
		"containerOverrides": [{"name": "gust", "memory": 3000, "environment": [{"name": "LEVEL", "value": "high"}]}]},
		"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}], "platformVersion": "1.4.0",
		"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-9"], "assignPublicIp": "DISABLED"}}}`
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 1)}); err != nil || len(r.api.calls) != 1 {
		t.Fatalf("%v %v", err, r.refused)
	}
	in := r.api.calls[0]
	o := in.Overrides
	c := o.ContainerOverrides[0]
	if *o.Cpu != "1024" || *o.Memory != "4096" || *o.TaskRoleArn != "arn:aws:iam::1:role/etl" || o.EphemeralStorage.SizeInGiB != 50 || *c.Memory != 3000 || *c.Environment[0].Value != "high" ||
		in.LaunchType != "" || *in.CapacityProviderStrategy[0].CapacityProvider != "FARGATE_SPOT" || in.NetworkConfiguration.AwsvpcConfiguration.Subnets[0] != "subnet-9" ||
		in.NetworkConfiguration.AwsvpcConfiguration.SecurityGroups[0] != "sg-1" || in.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp != types.AssignPublicIpDisabled || *in.PlatformVersion != "1.4.0" {
		t.Errorf("%+v %+v", in, o)
	}
	// As Airflow's serialization writes it.
	r.config["a"] = `{"__type": "dict", "__var": {"cpu": 256, "overrides": {"__type": "dict", "__var": {"containerOverrides": [{"__type": "dict", "__var": {"memory": 99}}]}}}}`
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 3)}); err != nil || len(r.api.calls) != 2 || *r.api.calls[1].Overrides.ContainerOverrides[0].Memory != 99 {
		t.Errorf("%v %v", err, r.refused)
	}
	for name, tc := range map[string]struct{ config, want string }{
		"unknown":  {`{"pod_override": {}}`, "pod_override"},
		"role":     {`{"taskRoleArn": "arn:aws:iam::1:role/admin"}`, "arn:aws:iam::1:role/etl"},
		"image":    {`{"image": "x"}`, "per_task_images"},
		"twice":    {`{"cpu": 1, "overrides": {"cpu": "2"}}`, "given twice"},
		"env":      {`{"overrides": {"containerOverrides": [{"environment": [{"name": "GUST_TABLE", "value": "x"}]}]}}`, "GUST_TABLE"},
		"launch":   {`{"launchType": "MOON"}`, "MOON"},
		"several":  {`{"overrides": {"containerOverrides": [{}, {}]}}`, "2 entries"},
		"nonsense": {`7`, "executor_config"},
	} {
		r.config["a"] = tc.config
		before := len(r.api.calls)
		if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 2)}); err != nil || len(r.api.calls) != before || !strings.Contains(r.refused["a"], tc.want) {
			t.Errorf("%s: %v, %d calls, refused %q", name, err, len(r.api.calls)-before, r.refused["a"])
		}
		delete(r.refused, "a")
	}
	d := dispatch("q", 1)
	d.Queue = "gpu"
	if err := r.Submit(context.Background(), []worker.Dispatch{d}); err != nil || !strings.Contains(r.refused["q"], `"gpu" has no task definition`) {
		t.Errorf("%v, %v", err, r.refused)
	}
}

func apiError(code, message string) error {
	return &smithy.GenericAPIError{Code: code, Message: message}
}

func TestFailures(t *testing.T) {
	failure := func(reason string) *ecs.RunTaskOutput {
		return &ecs.RunTaskOutput{Failures: []types.Failure{{Reason: &reason}}}
	}
	// No capacity twice, then a task: every attempt after a failure has a new token.
	r := newRig()
	r.api.answer = func(n int, _ *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
		if n <= 2 {
			return failure("Capacity is unavailable at this time"), nil
		}
		return nil, nil
	}
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 1)}); err != nil || len(r.api.tasks) != 1 || len(r.pauses) != 2 {
		t.Errorf("%v, %d tasks, pauses %v", err, len(r.api.tasks), r.pauses)
	}
	if *r.api.calls[0].ClientToken == *r.api.calls[1].ClientToken {
		t.Error("a failed start is asked for again with the same token")
	}
	// Throttled and lost answers: the token stays.
	r = newRig()
	r.api.answer = func(n int, _ *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
		switch n {
		case 1:
			return nil, apiError("ThrottlingException", "Rate exceeded")
		case 2:
			return nil, errors.New("connection reset")
		}
		return nil, nil
	}
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 1)}); err != nil || len(r.api.tasks) != 1 || *r.api.calls[0].ClientToken != *r.api.calls[2].ClientToken {
		t.Errorf("%v, %d tasks", err, len(r.api.tasks))
	}
	// For ever: an error, so that it is submitted again later; nothing is refused.
	r = newRig()
	r.api.answer = func(int, *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
		return nil, apiError("ServerException", "oops")
	}
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 1)}); err == nil || len(r.refused) != 0 || len(r.api.calls) != 6 {
		t.Errorf("%v, refused %v, %d calls", err, r.refused, len(r.api.calls))
	}
	// Never: refused at once, and the other dispatch starts.
	r = newRig()
	r.api.answer = func(_ int, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
		if strings.Contains(*in.Overrides.ContainerOverrides[0].Environment[0].Value, `"task_id":"bad"`) {
			return nil, apiError("InvalidParameterException", "No Fargate configuration exists for given values")
		}
		return nil, nil
	}
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("bad", 1), dispatch("good", 1)}); err != nil || !strings.Contains(r.refused["bad"], "No Fargate configuration") || len(r.api.tasks) != 1 {
		t.Errorf("%v, refused %v, %d tasks", err, r.refused, len(r.api.tasks))
	}
	// Submitted before by a deployment with another revision.
	r = newRig()
	r.api.answer = func(int, *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) { return nil, &types.ConflictException{} }
	if err := r.Submit(context.Background(), []worker.Dispatch{dispatch("a", 1)}); err != nil || len(r.refused) != 0 {
		t.Errorf("%v, refused %v", err, r.refused)
	}
	// The invocation's time is up.
	r = newRig(func(o *Options) { o.Pause = nil })
	r.api.answer = func(int, *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
		return nil, apiError("ThrottlingException", "Rate exceeded")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := r.Submit(ctx, []worker.Dispatch{dispatch("a", 1)}); err == nil {
		t.Error("want an error")
	}
}

func TestAdoptCancelObserveStopped(t *testing.T) {
	r := newRig()
	a, b := dispatch("a", 1), dispatch("b", 1)
	if err := r.Submit(context.Background(), []worker.Dispatch{a, b}); err != nil {
		t.Fatal(err)
	}
	arns := map[string]string{}
	for arn, task := range r.api.tasks {
		d, ok := dispatchOf(task)
		if !ok {
			t.Fatal("a task without its dispatch")
		}
		arns[string(d.Key.TaskID)] = arn
	}
	// Tasks of others in the cluster are none of ours.
	r.api.tasks["x"] = types.Task{TaskArn: aws.String("x"), LastStatus: aws.String("RUNNING")}
	again := newRig(func(o *Options) { o.API = r.api })
	if again.Observe(dispatch("c", 1)) || !again.Observe(a) {
		t.Error("a task that is on its way is not observed")
	}
	r.api.set(arns["a"], "RUNNING", nil)
	if again.Observe(a) {
		t.Error("a running task is observed: one that hangs would never be lost")
	}
	adopted, err := again.Adopt(context.Background())
	if err != nil || len(adopted) != 2 {
		t.Fatalf("adopted %v, %v", adopted, err)
	}
	third := newRig(func(o *Options) { o.API = r.api }) // knows nothing
	third.Cancel(b, "cleared by admin")
	if r.api.stopped[arns["b"]] != "cleared by admin" || len(r.api.stopped) != 1 {
		t.Errorf("stopped %v", r.api.stopped)
	}
	r.api.set(arns["b"], "STOPPED", func(t *types.Task) {
		t.StopCode, t.StoppedReason = types.TaskStopCodeUserInitiated, aws.String("cleared by admin")
	})
	r.api.set(arns["a"], "STOPPED", func(t *types.Task) {
		t.StopCode = types.TaskStopCodeEssentialContainerExited
		t.Containers = []types.Container{{Name: aws.String("gust"), ExitCode: aws.Int32(0)}}
	})
	ends, err := again.Stopped(context.Background())
	if err != nil || len(ends) != 2 {
		t.Fatalf("%v, %v", ends, err)
	}
	for _, e := range ends {
		if e.Failed != (e.Dispatch.Key.TaskID == "b") || e.Failed && !strings.Contains(e.Cause, "cleared by admin") {
			t.Errorf("%+v", e)
		}
	}
	if ends, err := again.Stopped(context.Background()); err != nil || len(ends) != 0 {
		t.Errorf("told twice: %v, %v", ends, err)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	var slept time.Duration
	l := newLimiter(20, func() time.Time { return now }, func(_ context.Context, d time.Duration) error { slept = max(slept, d); return nil })
	for range 60 {
		if err := l.wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if slept < 1900*time.Millisecond || slept > 2100*time.Millisecond {
		t.Errorf("60 calls end after %v: 20 at once, then 20 a second", slept)
	}
}
