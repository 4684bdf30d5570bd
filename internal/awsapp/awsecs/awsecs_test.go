package awsecs_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsecs"
	"github.com/gustflow/gust/internal/awsapp/awsgeneral"
	"github.com/gustflow/gust/internal/awsapp/awsworker"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor/ecsexec"
	"github.com/gustflow/gust/internal/executor/ecsexec/mototest"
	"github.com/gustflow/gust/internal/lambdaentry/eventsfn"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

// playVariable makes this test binary be the container of a task: a worker that runs
// the one dispatch its environment names.
const playVariable = "GUST_TEST_PLAY_CONTAINER"

func TestMain(m *testing.M) {
	if home := os.Getenv(playVariable); home != "" {
		environ := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, playVariable) })
		stop := make(chan struct{})
		err := awsworker.RunMachine(context.Background(), awsworker.MachineOptions{Home: home, Environ: environ, Stop: stop, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, awsgeneral.Load)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// site is a deployment on moto: what the stack makes, and a process for each task of
// the cluster.
type site struct {
	t       *testing.T
	cfg     aws.Config
	ecs     *ecs.Client
	app     *awsapp.App
	store   *store.Store
	engine  *engine.Engine // decides
	tool    *engine.Engine // asks
	events  *eventsfn.Function
	cluster string
	dags    string
	environ []string

	mu       sync.Mutex
	tasks    map[string]*container // by task ARN
	finished []ecstypes.Task       // with what they were asked for
}

type container struct {
	cmd  *exec.Cmd
	task ecstypes.Task
	out  *strings.Builder
	done chan struct{}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func deploy(t *testing.T) *site {
	t.Helper()
	cfg := mototest.Start(t)
	ctx := context.Background()
	s := &site{t: t, cfg: cfg, ecs: ecs.NewFromConfig(cfg), cluster: "arn:aws:ecs:us-east-1:123456789012:cluster/gust", dags: t.TempDir(), tasks: map[string]*container{}}
	db, q, buckets := dynamodb.NewFromConfig(cfg), sqs.NewFromConfig(cfg), s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if err := dynamokv.CreateTable(ctx, db, "gust", kv.DefaultSchema()); err != nil {
		t.Fatal(err)
	}
	must(buckets.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("data")}))(t)
	must(buckets.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: aws.String("data"), VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}}))(t)
	urls := map[string]string{}
	for _, n := range []string{"events", "timers", "tasks-default"} {
		urls[n] = *must(q.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &n}))(t).QueueUrl
	}
	must(s.ecs.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String("gust")}))(t)
	def := must(s.ecs.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("gust-task-default"), NetworkMode: ecstypes.NetworkModeAwsvpc, RequiresCompatibilities: []ecstypes.Compatibility{ecstypes.CompatibilityFargate},
		Cpu: aws.String("256"), Memory: aws.String("512"),
		ContainerDefinitions: []ecstypes.ContainerDefinition{{Name: aws.String(awsenv.ECSContainer), Image: aws.String("gust:1"), Memory: aws.Int32(512), Command: []string{"worker", "--queue", "default"}}},
	}))(t)
	conf := must(json.Marshal(awsenv.ECS{
		Cluster: s.cluster, TaskDefinitions: map[string]string{"default": *def.TaskDefinition.TaskDefinitionArn}, Subnets: network(t, *cfg.BaseEndpoint, "Subnets"), SecurityGroups: network(t, *cfg.BaseEndpoint, "SecurityGroups"),
		PerTaskImages: true, TaskRoles: []string{"arn:aws:iam::123456789012:role/etl"},
	}))(t)
	s.environ = []string{
		awsenv.Table + "=gust", awsenv.EventsQueueURL + "=" + urls["events"], awsenv.TimersQueueURL + "=" + urls["timers"], awsenv.TaskQueues + `={"default":"` + urls["tasks-default"] + `"}`,
		awsenv.DataBucket + "=data", awsenv.ECSExecutor + "=" + string(conf),
		"AWS_ENDPOINT_URL=" + *cfg.BaseEndpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
	}
	lookup := func(name string) (string, bool) {
		for _, kv := range s.environ {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v, true
			}
		}
		return "", false
	}
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.app = must(awsapp.Open(ctx, must(awsapp.FromLookup(lookup))(t), awsapp.Options{AWS: &cfg, Log: log}))(t)
	s.store = must(s.app.Store())(t)
	settings := must(awsapp.Settings(nil, t.TempDir()))(t)
	ec := awsapp.EngineConfig(settings)
	more := must(awsecs.Open(s.app, ec))(t)
	s.engine = must(s.app.Scheduler(ec, more...))(t)
	outbox := must(s.app.Outbox())(t)
	s.tool = engine.New(engine.Options{Store: s.store, Outbox: outbox, Passive: true, Config: ec, Log: log})
	s.events = &eventsfn.Function{Outbox: outbox, Queues: s.app.Queues(), EventsQueueURL: urls["events"], Log: log}
	if err := s.store.PutPool(ctx, airflow.Pool{Name: airflow.DefaultPool, Slots: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.killAll)
	return s
}

// network asks for an id of the default VPC (Subnets, SecurityGroups); the client of
// EC2 would be the biggest dependency of the project.
func network(t *testing.T, endpoint, what string) []string {
	t.Helper()
	req := must(http.NewRequest(http.MethodPost, endpoint, strings.NewReader("Action=Describe"+what+"&Version=2016-11-15")))(t)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20240101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0")
	res := must(http.DefaultClient.Do(req))(t)
	defer res.Body.Close()
	var v struct {
		Subnets []string `xml:"subnetSet>item>subnetId"`
		Groups  []string `xml:"securityGroupInfo>item>groupId"`
	}
	if err := xml.NewDecoder(res.Body).Decode(&v); err != nil || len(v.Subnets)+len(v.Groups) == 0 {
		t.Fatalf("%s: no %s: %v", res.Status, what, err)
	}
	return append(v.Subnets, v.Groups...)[:1]
}

// register brings a DAG file into the store.
func (s *site) register(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dags, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	paused := false
	p := must(dagprocessor.New(dagprocessor.Config{Folder: s.dags, Store: s.store, Bundles: must(s.app.Bundles(s.t.TempDir()))(s.t), Loader: yamlloader.New(yamlloader.Config{}), PausedAtCreation: &paused, StaleThreshold: time.Hour}))(s.t)
	sum := must(p.Sync(context.Background()))(s.t)
	if sum.ImportErrors > 0 {
		s.t.Fatalf("import errors: %v", must(s.store.ListImportErrors(context.Background()))(s.t))
	}
}

// step hands over what is in the scheduler's queues, and lets the cluster move.
func (s *site) step() {
	s.t.Helper()
	ctx := context.Background()
	for _, url := range []string{s.app.Config.EventsQueueURL, s.app.Config.TimersQueueURL} {
		ms := must(s.app.Queues().Receive(ctx, url, queue.ReceiveOptions{Max: 10}))(s.t)
		var ds []engine.Delivery
		var receipts []string
		for _, m := range ms {
			var d engine.Delivery
			if err := json.Unmarshal([]byte(m.Body), &d.Message); err != nil {
				s.t.Fatal(err)
			}
			d.ReceiveCount = m.ReceiveCount
			ds, receipts = append(ds, d), append(receipts, m.Receipt)
		}
		if len(ds) == 0 {
			continue
		}
		if failed := s.engine.Handle(ctx, ds); len(failed) > 0 {
			s.t.Logf("messages not handled: %v", failed)
		}
		if err := s.app.Queues().Delete(ctx, url, receipts); err != nil {
			s.t.Fatal(err)
		}
	}
	s.play()
}

// play starts a process for every new task of the cluster, kills those of tasks that
// were stopped, and sends the event that ECS would when one has ended.
func (s *site) play() {
	s.t.Helper()
	ctx := context.Background()
	for _, status := range []ecstypes.DesiredStatus{ecstypes.DesiredStatusRunning, ecstypes.DesiredStatusStopped} {
		list := must(s.ecs.ListTasks(ctx, &ecs.ListTasksInput{Cluster: &s.cluster, DesiredStatus: status}))(s.t)
		if len(list.TaskArns) == 0 {
			continue
		}
		for _, task := range must(s.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &s.cluster, Tasks: list.TaskArns}))(s.t).Tasks {
			s.mu.Lock()
			c := s.tasks[*task.TaskArn]
			s.mu.Unlock()
			switch {
			case c == nil && status == ecstypes.DesiredStatusRunning:
				s.startContainer(task)
			case c != nil && c.cmd != nil && status == ecstypes.DesiredStatusStopped:
				_ = c.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for arn, c := range s.tasks {
		select {
		case <-c.done:
		default:
			continue
		}
		if c.cmd == nil {
			continue
		}
		code := c.cmd.ProcessState.ExitCode()
		if code < 0 {
			code = 137
		}
		s.t.Logf("container of %s ended with %d", arn[len(arn)-6:], code)
		if code != 0 && code != 137 {
			s.t.Logf("%s", c.out)
		}
		s.stopped(ctx, c, code)
		s.finished = append(s.finished, c.task)
		s.tasks[arn] = &container{done: make(chan struct{})} // seen
	}
}

func (s *site) startContainer(task ecstypes.Task) {
	s.t.Helper()
	c := &container{task: task, out: &strings.Builder{}, done: make(chan struct{})}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(slices.Clone(s.environ), playVariable+"="+s.t.TempDir())
	for _, o := range task.Overrides.ContainerOverrides {
		for _, e := range o.Environment {
			c.cmd.Env = append(c.cmd.Env, *e.Name+"="+*e.Value)
		}
	}
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // its exit code is read from the state
		close(c.done)
	}()
	s.mu.Lock()
	s.tasks[*task.TaskArn] = c
	s.mu.Unlock()
}

// stopped tells the function taskevents what EventBridge would.
func (s *site) stopped(ctx context.Context, c *container, code int) {
	s.t.Helper()
	must(s.ecs.StopTask(ctx, &ecs.StopTaskInput{Cluster: &s.cluster, Task: c.task.TaskArn}))(s.t)
	type kvp struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	var env []kvp
	for _, o := range c.task.Overrides.ContainerOverrides {
		for _, e := range o.Environment {
			env = append(env, kvp{*e.Name, *e.Value})
		}
	}
	event := must(json.Marshal(map[string]any{
		"source": "aws.ecs", "detail-type": "ECS Task State Change",
		"detail": map[string]any{
			"clusterArn": s.cluster, "taskArn": c.task.TaskArn, "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
			"containers": []any{map[string]any{"name": awsenv.ECSContainer, "exitCode": code}},
			"overrides":  map[string]any{"containerOverrides": []any{map[string]any{"name": awsenv.ECSContainer, "environment": env}}},
		},
	}))(s.t)
	if err := s.events.Handle(ctx, event); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.tasks {
		if c.cmd != nil {
			_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
			<-c.done
		}
	}
}

// until steps until want holds.
func (s *site) until(what string, want func() bool) {
	s.t.Helper()
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		s.step()
		if want() {
			return
		}
		if time.Now().After(end) {
			for _, task := range []airflow.TaskID{"make", "use", "refused", "long", "a", "b"} {
				if a, err := s.store.GetAttempt(context.Background(), airflow.TaskInstanceKey{DagID: "box", RunID: "r1", TaskID: task, MapIndex: airflow.Unmapped}); err == nil {
					s.t.Logf("%s: %s", task, must(json.Marshal(a))(s.t))
				}
			}
			s.t.Fatalf("not in time: %s; task instances: %s", what, s.states())
		}
	}
}

var key = store.RunKey{DagID: "box", RunID: "r1"}

func (s *site) states() string {
	tis, err := s.tool.TaskInstances(context.Background(), key)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, ti := range tis {
		out = append(out, fmt.Sprintf("%s=%s/%d", ti.TaskID, ti.State, ti.TryNumber))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (s *site) trigger() {
	s.t.Helper()
	must(s.tool.Trigger(context.Background(), engine.TriggerOptions{DagID: key.DagID, RunID: key.RunID, NoLogicalDate: true}))(s.t)
}

const box = `box:
  default_args: {start_date: 2024-01-01, owner: o, executor: ecs}
  schedule: null
  tasks:
  - task_id: make
    operator: airflow.providers.standard.operators.bash.BashOperator
    bash_command: echo from-the-container
    executor_config: {image: "team/etl:2", cpu: 512, memory: 1024, taskRoleArn: "arn:aws:iam::123456789012:role/etl", overrides: {containerOverrides: [{environment: [{name: LEVEL, value: high}]}]}}
  - task_id: use
    operator: airflow.providers.standard.operators.bash.BashOperator
    bash_command: test "{{ ti.xcom_pull(task_ids='make') }}" = from-the-container
    dependencies: [make]
  - task_id: refused
    operator: airflow.providers.standard.operators.bash.BashOperator
    bash_command: "true"
    executor_config: {taskRoleArn: "arn:aws:iam::123456789012:role/admin"}
  - task_id: long
    executor: null
    execution_timeout: {__type__: datetime.timedelta, hours: 2}
    operator: airflow.providers.standard.operators.bash.BashOperator
    bash_command: "true"
`

// TestOnMoto runs a DAG on containers: sizes, roles and images arrive on the wire,
// values travel between containers, what is not allowed is refused with a reason.
func TestOnMoto(t *testing.T) {
	s := deploy(t)
	s.register("box.yml", box)
	s.trigger()
	s.until("the run ends", func() bool {
		return s.states() == "long=success/1 make=success/1 refused=failed/1 use=success/1"
	})
	s.until("every container ends", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.finished) == 3 })
	for _, task := range s.finished {
		var d struct {
			Key airflow.TaskInstanceKey `json:"key"`
		}
		env := map[string]string{}
		for _, e := range task.Overrides.ContainerOverrides[0].Environment {
			env[*e.Name] = *e.Value
		}
		if err := json.Unmarshal([]byte(env[awsenv.ECSDispatch]), &d); err != nil {
			t.Fatal(err)
		}
		def := must(s.ecs.DescribeTaskDefinition(context.Background(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: task.TaskDefinitionArn}))(t).TaskDefinition
		image := *def.ContainerDefinitions[0].Image
		if d.Key.TaskID != "make" {
			if image != "gust:1" || len(env) != 1 {
				t.Errorf("%s: image %s, environment %v", d.Key.TaskID, image, env)
			}
			continue
		}
		if image != "team/etl:2" || env["LEVEL"] != "high" || aws.ToString(task.Overrides.Cpu) != "512" || aws.ToString(task.Overrides.Memory) != "1024" ||
			aws.ToString(task.Overrides.TaskRoleArn) != "arn:aws:iam::123456789012:role/etl" || !strings.HasPrefix(*def.Family, "gust-task-default-image-") {
			t.Errorf("make: image %s of %s, overrides %+v", image, *def.Family, task.Overrides)
		}
	}
	a := must(s.store.GetAttempt(context.Background(), airflow.TaskInstanceKey{DagID: "box", RunID: "r1", TaskID: "refused", MapIndex: airflow.Unmapped}))(t)
	if b := string(must(json.Marshal(a))(t)); !strings.Contains(b, "role/admin") {
		t.Errorf("the refusal does not name the role: %s", b)
	}
}

const sleeper = `box:
  default_args: {start_date: 2024-01-01, owner: o, executor: ecs}
  schedule: null
  tasks:
  - task_id: a
    operator: airflow.providers.standard.operators.bash.BashOperator
    bash_command: '[ "{{ ti.try_number }}" -gt 1 ] || sleep 300'
    retries: 1
    retry_delay: {__type__: datetime.timedelta, seconds: 0}
  - task_id: b
    operator: airflow.providers.standard.operators.bash.BashOperator
    bash_command: sleep 300
`

// TestDeathAdoptionAndCancel: a killed container is retried with the cause, a new
// process finds the tasks of an old one, and a task that is stopped ends.
func TestDeathAdoptionAndCancel(t *testing.T) {
	s := deploy(t)
	s.register("box.yml", sleeper)
	s.trigger()
	s.until("both run", func() bool { return s.states() == "a=running/1 b=running/1" })

	// Adopt: another scheduler process.
	x := ecsexec.New(ecsexec.Options{API: s.ecs, Config: awsenv.ECS{Cluster: s.cluster}})
	adopted := must(x.Adopt(context.Background()))(t)
	if len(adopted) != 2 {
		t.Fatalf("adopted %v", adopted)
	}

	// Kill the container of a.
	s.mu.Lock()
	for _, c := range s.tasks {
		if c.cmd != nil && strings.Contains(strings.Join(c.cmd.Env, "\n"), `"task_id":"a"`) {
			_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it runs
		}
	}
	s.mu.Unlock()
	s.until("a is tried again", func() bool { return s.states() == "a=success/2 b=running/1" })

	// Cancel b from the process that adopted it.
	for _, d := range adopted {
		if d.Key.TaskID == "b" {
			x.Cancel(d, "marked failed by admin")
		}
	}
	s.until("b is stopped and fails", func() bool { return s.states() == "a=success/2 b=failed/1" })
	if ends := must(x.Stopped(context.Background()))(t); len(ends) != 2 {
		t.Errorf("stopped: %+v", ends)
	}
}

type testWriter struct{ t *testing.T }

var _ io.Writer = testWriter{}

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}
