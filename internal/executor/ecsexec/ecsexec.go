package ecsexec

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/worker"
)

// Name is what a task's executor argument calls it.
const Name = executor.AwsEcsExecutor

// API is what is used of the SDK's client.
type API interface {
	RunTask(context.Context, *ecs.RunTaskInput, ...func(*ecs.Options)) (*ecs.RunTaskOutput, error)
	ListTasks(context.Context, *ecs.ListTasksInput, ...func(*ecs.Options)) (*ecs.ListTasksOutput, error)
	DescribeTasks(context.Context, *ecs.DescribeTasksInput, ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error)
	StopTask(context.Context, *ecs.StopTaskInput, ...func(*ecs.Options)) (*ecs.StopTaskOutput, error)
	DescribeTaskDefinition(context.Context, *ecs.DescribeTaskDefinitionInput, ...func(*ecs.Options)) (*ecs.DescribeTaskDefinitionOutput, error)
	RegisterTaskDefinition(context.Context, *ecs.RegisterTaskDefinitionInput, ...func(*ecs.Options)) (*ecs.RegisterTaskDefinitionOutput, error)
}

// Options configure an Executor. API, Config, TaskConfig and Refuse are required.
type Options struct {
	API    API
	Config awsenv.ECS
	// TaskConfig returns the executor_config of a dispatch's task; nil = none.
	TaskConfig func(ctx context.Context, d worker.Dispatch) (json.RawMessage, error)
	// Refuse fails a dispatch that can never run.
	Refuse executor.Refuse
	// DefaultQueue is that of dispatches without one. Default "default".
	DefaultQueue string
	// Rate is how many tasks are started a second at most. Default 18: the service
	// takes 20.
	Rate float64
	// Attempts is how often a start that was throttled or found no capacity is tried.
	// Default 6.
	Attempts int
	// Pause waits before another attempt; default sleeps a random part of a bound that
	// doubles from half a second to 10 s.
	Pause func(ctx context.Context, attempt int) error
	Log   *slog.Logger // default discards
}

// Executor starts an ECS task per dispatch. It is safe for concurrent use.
type Executor struct {
	o     Options
	limit *limiter

	mu sync.Mutex
	// known are the tasks of dispatches that this process has started or seen.
	known map[string]string // ARN by dispatch
	// definitions are those registered for images: ARN by base and image.
	definitions map[string]string
}

var (
	_ executor.Executor = (*Executor)(nil)
	_ executor.Aliased  = (*Executor)(nil)
	_ executor.Adopter  = (*Executor)(nil)
)

// New returns an executor. Nothing is called yet.
func New(o Options) *Executor {
	if o.DefaultQueue == "" {
		o.DefaultQueue = "default"
	}
	if o.Rate == 0 {
		o.Rate = 18
	}
	if o.Attempts == 0 {
		o.Attempts = 6
	}
	if o.Pause == nil {
		o.Pause = pause
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Executor{o: o, limit: newLimiter(o.Rate, time.Now, sleep), known: map[string]string{}, definitions: map[string]string{}}
}

// Name implements executor.Executor.
func (x *Executor) Name() string { return Name }

// Aliases are other names that tasks may use for it.
func (x *Executor) Aliases() []string {
	return []string{
		"ecs", "EcsExecutor", "airflow.providers.amazon.aws.executors.ecs.ecs_executor.AwsEcsExecutor",
		"airflow.providers.amazon.aws.executors.ecs.AwsEcsExecutor",
	}
}

// startedBy marks the tasks of a dispatch.
func startedBy(d worker.Dispatch) string { return "gust-" + digest(d)[:24] }

// token makes starting a dispatch idempotent. An attempt after the service said that
// nothing was started needs another one.
func token(d worker.Dispatch, attempt int) string {
	return fmt.Sprintf("gust-%s-%d", digest(d)[:40], attempt)
}

func digest(d worker.Dispatch) string {
	sum := sha256.Sum256([]byte(d.String()))
	return hex.EncodeToString(sum[:])
}

// parallel is how many starts are under way at once.
const parallel = 8

// Submit implements executor.Executor. It returns when the service has taken every
// dispatch, or has refused it for good; an error names the first that it has not
// taken yet: submitting all again is harmless.
func (x *Executor) Submit(ctx context.Context, ds []worker.Dispatch) error {
	errs := make([]error, len(ds))
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, d := range ds {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := x.submit(ctx, d); err != nil {
				errs[i] = fmt.Errorf("dispatch %s: %w", d, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (x *Executor) submit(ctx context.Context, d worker.Dispatch) error {
	raw, err := x.o.TaskConfig(ctx, d)
	if err != nil {
		return err
	}
	c, err := parseConfig(raw)
	var in *ecs.RunTaskInput
	if err == nil {
		in, err = x.request(d, c)
	}
	if err != nil {
		x.o.Refuse(ctx, d, err.Error())
		return nil
	}
	if c.Image != "" {
		if err := x.withImage(ctx, in, c.Image); err != nil {
			return x.refuseOr(ctx, d, err)
		}
	}
	var last error
	started := 0 // how many tokens the service has answered with a failure
	for attempt := range x.o.Attempts {
		if attempt > 0 {
			if err := x.o.Pause(ctx, attempt); err != nil {
				return errors.Join(last, err)
			}
		}
		arn, err := x.run(ctx, in, token(d, started))
		if err == nil {
			x.know(d, arn)
			return nil
		}
		if permanent(err) {
			return x.refuseOr(ctx, d, err)
		}
		var none *failureError
		if last = err; errors.As(err, &none) {
			started++ // nothing was started; after any other error something may have been
		}
		x.o.Log.WarnContext(ctx, "an ECS task could not be started yet", "dispatch", d.String(), "attempt", attempt+1, "err", err)
	}
	return last
}

// refuseOr fails a dispatch that can never run; another error is returned.
func (x *Executor) refuseOr(ctx context.Context, d worker.Dispatch, err error) error {
	if !permanent(err) {
		return err
	}
	x.o.Refuse(ctx, d, "the ECS task cannot be started: "+err.Error())
	return nil
}

// failureError is what RunTask reports instead of a task.
type failureError struct{ reason, detail string }

func (f *failureError) Error() string { return strings.TrimSuffix(f.reason+": "+f.detail, ": ") }

// run calls RunTask once. "" without an error means that another call with other
// settings has started the dispatch before.
func (x *Executor) run(ctx context.Context, in *ecs.RunTaskInput, token string) (string, error) {
	if err := x.limit.wait(ctx); err != nil {
		return "", err
	}
	in.ClientToken = &token
	out, err := x.o.API.RunTask(ctx, in)
	var conflict *types.ConflictException
	switch {
	case errors.As(err, &conflict):
		return "", nil
	case err != nil:
		return "", err
	case len(out.Tasks) > 0:
		return aws.ToString(out.Tasks[0].TaskArn), nil
	case len(out.Failures) > 0:
		return "", &failureError{aws.ToString(out.Failures[0].Reason), aws.ToString(out.Failures[0].Detail)}
	}
	return "", errors.New("RunTask started no task and gave no reason")
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	var f *failureError
	if errors.As(err, &f) {
		return strings.HasPrefix(f.reason, "ATTRIBUTE") || strings.HasPrefix(f.reason, "LOCATION") || strings.Contains(f.reason, "INACTIVE")
	}
	if errors.Is(err, airflow.ErrNotAllowed) {
		return true
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "AccessDeniedException", "ClusterNotFoundException", "InvalidParameterException", "PlatformUnknownException", "PlatformTaskDefinitionIncompatibilityException",
		"UnsupportedFeatureException", "TargetNotFoundException":
		return true
	case "ClientException":
		m := strings.ToLower(api.ErrorMessage())
		return !strings.Contains(m, "rate exceeded") && !strings.Contains(m, "concurrent") && !strings.Contains(m, "limit") && !strings.Contains(m, "capacity")
	}
	var re *smithyhttp.ResponseError
	return errors.As(err, &re) && re.HTTPStatusCode() == http.StatusForbidden
}

// maxKnown bounds what a process remembers.
const maxKnown = 20_000

func (x *Executor) know(d worker.Dispatch, arn string) {
	if arn == "" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.known) >= maxKnown {
		clear(x.known) // they are found by startedBy
	}
	x.known[d.String()] = arn
}

func (x *Executor) forget(d worker.Dispatch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.known, d.String())
}

// callTime bounds the calls of Cancel and Observe, which have no context.
const callTime = 5 * time.Second

// find returns the tasks of a dispatch that have not stopped, wherever they were
// started.
func (x *Executor) find(ctx context.Context, d worker.Dispatch) ([]string, error) {
	x.mu.Lock()
	arn, ok := x.known[d.String()]
	x.mu.Unlock()
	if ok {
		return []string{arn}, nil
	}
	out, err := x.o.API.ListTasks(ctx, &ecs.ListTasksInput{Cluster: orNil(x.o.Config.Cluster), StartedBy: aws.String(startedBy(d))})
	if err != nil {
		return nil, err
	}
	return out.TaskArns, nil
}

// Cancel implements executor.Executor: the container gets SIGTERM, and SIGKILL after
// its stop timeout.
func (x *Executor) Cancel(d worker.Dispatch, cause string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	arns, err := x.find(ctx, d)
	for _, arn := range arns {
		const most = 255
		_, serr := x.o.API.StopTask(ctx, &ecs.StopTaskInput{Cluster: orNil(x.o.Config.Cluster), Task: &arn, Reason: aws.String(cause[:min(len(cause), most)])})
		err = errors.Join(err, serr)
	}
	if err != nil {
		// The worker reads its cancel flag; the fence keeps it from reporting.
		x.o.Log.Warn("an ECS task could not be stopped", "dispatch", d.String(), "err", err)
	}
}

// Observe implements executor.Executor: it is true while a task of the dispatch is on
// its way. One that runs has claimed its dispatch or soon will: then its heartbeat
// tells, which a container that hangs does not send.
func (x *Executor) Observe(d worker.Dispatch) bool {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	arns, err := x.find(ctx, d)
	if err != nil || len(arns) == 0 {
		return false
	}
	tasks, err := x.describe(ctx, arns)
	for _, t := range tasks {
		switch aws.ToString(t.LastStatus) {
		case "PROVISIONING", "PENDING", "ACTIVATING":
			return err == nil
		}
	}
	return false
}

// Close implements executor.Executor. Tasks go on: whoever starts next adopts them.
func (x *Executor) Close() {}

func (x *Executor) describe(ctx context.Context, arns []string) ([]types.Task, error) {
	var out []types.Task
	for len(arns) > 0 {
		n := min(len(arns), 100)
		page, err := x.o.API.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: orNil(x.o.Config.Cluster), Tasks: arns[:n]})
		if err != nil {
			return out, err
		}
		out = append(out, page.Tasks...)
		arns = arns[n:]
	}
	return out, nil
}

// dispatchOf reads a task's dispatch from its overrides; ok is false for others.
func dispatchOf(t types.Task) (d worker.Dispatch, ok bool) {
	if t.Overrides == nil {
		return d, false
	}
	for _, o := range t.Overrides.ContainerOverrides {
		for _, e := range o.Environment {
			if aws.ToString(e.Name) == awsenv.ECSDispatch && json.Unmarshal([]byte(aws.ToString(e.Value)), &d) == nil && d.DispatchSeq > 0 {
				return d, true
			}
		}
	}
	return d, false
}

// Adopt takes over the tasks of the cluster that run a dispatch, whoever started
// them, and returns their dispatches.
func (x *Executor) Adopt(ctx context.Context) ([]worker.Dispatch, error) {
	var arns []string
	pages := ecs.NewListTasksPaginator(x.o.API, &ecs.ListTasksInput{Cluster: orNil(x.o.Config.Cluster)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the tasks of the cluster: %w", err)
		}
		arns = append(arns, page.TaskArns...)
	}
	tasks, err := x.describe(ctx, arns)
	if err != nil {
		return nil, fmt.Errorf("describe the tasks of the cluster: %w", err)
	}
	var out []worker.Dispatch
	for _, t := range tasks {
		if d, ok := dispatchOf(t); ok && aws.ToString(t.LastStatus) != "STOPPED" {
			x.know(d, aws.ToString(t.TaskArn))
			out = append(out, d)
		}
	}
	return out, nil
}

// Ended is a task that has stopped.
type Ended struct {
	Dispatch worker.Dispatch
	// Failed says that the container cannot have reported; Cause is why.
	Failed bool
	Cause  string
}

// Stopped returns what has stopped of the tasks that this process started or adopted,
// each once: for processes that hear no events.
func (x *Executor) Stopped(ctx context.Context) ([]Ended, error) {
	x.mu.Lock()
	arns := make([]string, 0, len(x.known))
	byARN := map[string]worker.Dispatch{}
	for s, arn := range x.known {
		if d, err := worker.ParseDispatch(s); err == nil {
			byARN[arn] = d
			arns = append(arns, arn)
		}
	}
	x.mu.Unlock()
	if len(arns) == 0 {
		return nil, nil
	}
	tasks, err := x.describe(ctx, arns)
	if err != nil {
		return nil, err
	}
	var out []Ended
	for _, t := range tasks {
		arn := aws.ToString(t.TaskArn)
		d, ours := byARN[arn]
		delete(byARN, arn)
		if !ours || aws.ToString(t.LastStatus) != "STOPPED" {
			continue
		}
		x.forget(d)
		out = append(out, ended(d, t))
	}
	for _, d := range byARN { // the service forgets tasks an hour after they stopped
		x.forget(d)
		out = append(out, Ended{Dispatch: d, Failed: true, Cause: "the ECS task is not known any more"})
	}
	return out, nil
}

func ended(d worker.Dispatch, t types.Task) Ended {
	e := Ended{Dispatch: d, Failed: true, Cause: strings.Trim("the ECS task stopped: "+string(t.StopCode)+": "+aws.ToString(t.StoppedReason), ": ")}
	for _, c := range t.Containers {
		if c.ExitCode != nil {
			e.Cause += fmt.Sprintf(" (container %s: exit code %d)", aws.ToString(c.Name), *c.ExitCode)
			if *c.ExitCode == 0 && (t.StopCode == "" || t.StopCode == types.TaskStopCodeEssentialContainerExited) {
				e.Failed = false
			}
		}
		if r := aws.ToString(c.Reason); r != "" {
			e.Cause += fmt.Sprintf(" (container %s: %s)", aws.ToString(c.Name), r)
		}
	}
	return e
}

// pause is the default of Options.Pause.
func pause(ctx context.Context, attempt int) error {
	bound := min(500*time.Millisecond<<(attempt-1), 10*time.Second)
	return sleep(ctx, time.Duration(rand.Int64N(int64(bound))))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// limiter lets rate calls a second through, a second's worth at once.
type limiter struct {
	rate  float64
	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	mu   sync.Mutex
	next time.Time // when the bucket, filled since, would be empty
}

func newLimiter(rate float64, now func() time.Time, sleep func(context.Context, time.Duration) error) *limiter {
	return &limiter{rate: rate, now: now, sleep: sleep}
}

func (l *limiter) wait(ctx context.Context) error {
	l.mu.Lock()
	now := l.now()
	if full := now.Add(-time.Second); l.next.Before(full) {
		l.next = full
	}
	l.next = l.next.Add(time.Duration(float64(time.Second) / l.rate))
	d := l.next.Sub(now)
	l.mu.Unlock()
	if d <= 0 {
		return ctx.Err()
	}
	return l.sleep(ctx, d)
}
