package workerfn

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/taglog"
	"github.com/gustflow/gust/internal/worker"
)

// cloud is what surrounds a worker function: DynamoDB (Local), SQS and S3 as far
// as the worker uses them, behind one endpoint, and a scheduler in this process.
type cloud struct {
	t       *testing.T
	store   *store.Store
	engine  *engine.Engine // the scheduler's
	tools   *engine.Engine // of people
	bundles *bundle.Store
	blobs   string // folder
	table   string
	url     string
	// down makes the table answer 503 for the next n requests.
	down atomic.Int64

	mu         sync.Mutex
	dispatches []worker.Dispatch
	messages   []engine.Message // not handled yet
	visibility int
	callbacks  []string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	client := dynamotest.Start(t)
	c := &cloud{t: t, table: dynamotest.Table(t, client), blobs: filepath.Join(t.TempDir(), "blobs")}
	c.store = store.New(dynamotest.OpenTable(t, client, c.table), nil)
	blobs, err := fileblob.Open(c.blobs, fileblob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c.bundles, err = bundle.New(blobs, filepath.Join(t.TempDir(), "bundles"), bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	c.engine = engine.New(engine.Options{Store: c.store, Outbox: c, Submitter: c, CallbackQueue: c, Config: engine.Config{Parallelism: -1, DefaultPoolSlots: -1}})
	c.tools = engine.New(engine.Options{Store: c.store, Outbox: c, Passive: true})
	t.Cleanup(c.engine.Close)
	t.Cleanup(c.tools.Close)
	target, err := url.Parse(aws.ToString(client.Options().BaseEndpoint))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch service, _, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); {
		case strings.HasPrefix(service, "DynamoDB"):
			if c.down.Load() > 0 {
				c.down.Add(-1)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			proxy.ServeHTTP(w, r)
		case service == "AmazonSQS":
			c.sqs(w, r)
		case r.Method == http.MethodGet:
			c.s3(w, r)
		default:
			t.Errorf("unexpected request %s %s", r.Method, r.URL)
			w.WriteHeader(http.StatusNotImplemented)
		}
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

// s3 serves the blobs, as a bucket would.
func (c *cloud) s3(w http.ResponseWriter, r *http.Request) {
	hash := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if !strings.Contains(r.URL.Path, "/"+awsenv.BlobPrefix) {
		c.t.Errorf("object %s was asked for", r.URL.Path)
	}
	found := ""
	_ = filepath.WalkDir(c.blobs, func(p string, _ os.DirEntry, _ error) error {
		if strings.HasSuffix(p, hash) {
			found = p
		}
		return nil
	})
	b, err := os.ReadFile(found)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
}

// sqs takes messages to the scheduler and changes of visibility.
func (c *cloud) sqs(w http.ResponseWriter, r *http.Request) {
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID   string `json:"Id"`
			Body string `json:"MessageBody"`
		}
		VisibilityTimeout int
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		c.t.Errorf("SQS request: %v", err)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ChangeMessageVisibility") {
		c.mu.Lock()
		c.visibility = in.VisibilityTimeout
		c.mu.Unlock()
		fmt.Fprint(w, "{}")
		return
	}
	var ok []map[string]string
	for _, e := range in.Entries {
		var m engine.Message
		if err := json.Unmarshal([]byte(e.Body), &m); err != nil || m.Check() != nil {
			c.t.Errorf("message %s: %v %v", e.Body, err, m.Check())
		}
		c.mu.Lock()
		c.messages = append(c.messages, m)
		c.mu.Unlock()
		sum := md5.Sum([]byte(e.Body))
		ok = append(ok, map[string]string{"Id": e.ID, "MessageId": e.ID, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Successful": ok, "Failed": []any{}})
}

// Send implements engine.Outbox.
func (c *cloud) Send(_ context.Context, ms []engine.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages = append(c.messages, ms...)
	return nil
}

// Submit implements engine.Submitter.
func (c *cloud) Submit(_ context.Context, ds []worker.Dispatch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dispatches = append(c.dispatches, ds...)
	return nil
}

// SubmitCallbacks implements engine.CallbackQueue.
func (c *cloud) SubmitCallbacks(_ context.Context, ids []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.callbacks = append(c.callbacks, ids...)
	return nil
}

// Cancel implements engine.Submitter.
func (c *cloud) Cancel(worker.Dispatch, string) {}

// schedule has the scheduler handle all messages that are due.
func (c *cloud) schedule() {
	c.t.Helper()
	for {
		c.mu.Lock()
		var due []engine.Delivery
		c.messages = slices.DeleteFunc(c.messages, func(m engine.Message) bool {
			if m.At.After(time.Now()) {
				return false
			}
			due = append(due, engine.Delivery{Message: m, ReceiveCount: 1})
			return true
		})
		c.mu.Unlock()
		if len(due) == 0 {
			return
		}
		if failed := c.engine.Handle(c.t.Context(), due); len(failed) > 0 {
			c.t.Fatalf("messages %v of %+v failed", failed, due)
		}
	}
}

// next is the dispatch of a task, once the scheduler has made it.
func (c *cloud) next(task airflow.TaskID) worker.Dispatch {
	c.t.Helper()
	c.schedule()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.dispatches) - 1; i >= 0; i-- {
		if c.dispatches[i].Key.TaskID == task {
			return c.dispatches[i]
		}
	}
	c.t.Fatalf("task %s was not dispatched: %+v", task, c.dispatches)
	return worker.Dispatch{}
}

// files registers a folder of DAG files.
func (c *cloud) files(files map[string]string) {
	c.t.Helper()
	dir := c.t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			c.t.Fatal(err)
		}
	}
	paused := false
	py := dagspec.NewInterpreter(dir)
	defer py.Close()
	p, err := dagprocessor.New(dagprocessor.Config{
		Folder: dir, Store: c.store, Bundles: c.bundles, PausedAtCreation: &paused,
		Loader: yamlloader.New(yamlloader.Config{Version: "test", Source: dagspec.Dir{}, Options: dagspec.Options{Python: py}}),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := p.Sync(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	errs, err := c.store.ListImportErrors(c.t.Context())
	if err != nil || len(errs) > 0 {
		c.t.Fatalf("%v %+v", err, errs)
	}
}

// run starts a run of a DAG.
func (c *cloud) run(dag airflow.DagID) store.RunKey {
	c.t.Helper()
	info, err := c.tools.Trigger(c.t.Context(), engine.TriggerOptions{DagID: dag, Type: airflow.RunTypeManual})
	if err != nil {
		c.t.Fatal(err)
	}
	c.schedule()
	return store.RunKey{DagID: dag, RunID: info.RunID}
}

// ti is a task instance as people see it.
func (c *cloud) ti(k store.RunKey, task airflow.TaskID) airflow.TaskInstance {
	c.t.Helper()
	c.schedule()
	all, err := c.tools.TaskInstances(c.t.Context(), k)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, ti := range all {
		if ti.TaskID == task {
			return ti
		}
	}
	c.t.Fatalf("no instance of %s", task)
	return airflow.TaskInstance{}
}

func (c *cloud) attempt(d worker.Dispatch) store.Attempt {
	c.t.Helper()
	a, err := c.store.GetAttempt(c.t.Context(), d.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// function is a worker function: the built program under a Runtime API.
type function struct {
	t   *testing.T
	cmd *exec.Cmd
	dir string // TMPDIR
	api string // host:port of the Runtime API

	invocations chan invocation
	posted      chan answer
	polls       chan time.Time
	exited      chan struct{}
	ids         atomic.Int64
	log         lockedBuffer

	mu   sync.Mutex
	busy string // the id of the invocation under way
	// foreign counts requests that the worker did not make.
	refused []string
}

type invocation struct {
	id       string
	body     []byte
	deadline time.Time
}

type answer struct {
	id, kind string
	body     []byte
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var builds sync.Map

// program builds the worker function as make lambdas does, once.
func program(t *testing.T) string {
	t.Helper()
	type built struct {
		path string
		err  error
	}
	f, _ := builds.LoadOrStore("worker", sync.OnceValue(func() built {
		dir, err := os.MkdirTemp("", "gust-worker-*")
		if err != nil {
			return built{err: err}
		}
		_ = os.Chmod(dir, 0o755)
		path := filepath.Join(dir, awsenv.WorkerBinary)
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", path, "github.com/gustflow/gust/functions/worker")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return built{err: fmt.Errorf("%w: %s", err, out)}
		}
		return built{path: path}
	}))
	b := f.(func() built)()
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	builds.Range(func(_, f any) bool {
		// The folder of the program.
		_ = os.RemoveAll(builtDir)
		return true
	})
	os.Exit(code)
}

var builtDir string

const (
	logGroup  = "/aws/lambda/gust-test-worker-default"
	logStream = "2026/03/01/[$LATEST]0123456789abcdef"
	secretKey = "AKIAHOSTILE"
)

// start runs the worker program as Lambda would: its variables, a private TMPDIR,
// and, where this test is root, another user.
func (c *cloud) start(extra ...string) *function {
	c.t.Helper()
	bin := program(c.t)
	builtDir = filepath.Dir(bin)
	tmp, err := os.MkdirTemp("", "gust-fn-*")
	if err != nil {
		c.t.Fatal(err)
	}
	f := &function{
		t: c.t, dir: tmp, invocations: make(chan invocation, 16), posted: make(chan answer, 16), polls: make(chan time.Time, 64), exited: make(chan struct{}),
	}
	api := httptest.NewServer(http.HandlerFunc(f.serve))
	f.api = strings.TrimPrefix(api.URL, "http://")
	queues := `{"default":"` + c.url + `/queue/tasks-default"}`
	f.cmd = exec.Command(bin, "/var/lang/bin/python3.13", "/var/runtime/bootstrap.py")
	f.cmd.Dir = filepath.Dir(bin)
	f.cmd.Env = append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=en_US.UTF-8", "TZ=:UTC", "TMPDIR=" + tmp, "LAMBDA_TASK_ROOT=" + filepath.Dir(bin),
		"AWS_LAMBDA_RUNTIME_API=" + f.api, "AWS_LAMBDA_FUNCTION_NAME=gust-test-worker-default", "AWS_REGION=us-east-1",
		"AWS_LAMBDA_LOG_GROUP_NAME=" + logGroup, "AWS_LAMBDA_LOG_STREAM_NAME=" + logStream, "_X_AMZN_TRACE_ID=Root=1-secret",
		"AWS_ACCESS_KEY_ID=" + secretKey, "AWS_SECRET_ACCESS_KEY=" + secretKey + "secret", "AWS_SESSION_TOKEN=" + secretKey + "token",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/creds", "AWS_ENDPOINT_URL=" + c.url, "_HANDLER=x.y",
		awsenv.Table + "=" + c.table, awsenv.EventsQueueURL + "=" + c.url + "/queue/events", awsenv.TimersQueueURL + "=" + c.url + "/queue/timers",
		awsenv.TaskQueues + "=" + queues, awsenv.WorkerQueue + "=default", awsenv.DefaultQueue + "=default", awsenv.DataBucket + "=data", awsenv.Stage + "=test",
		"AIRFLOW_CONN_FROM_ENV=http://user:hunter22@example.test",
	}, extra...)
	f.cmd.Stdout, f.cmd.Stderr = &f.log, &f.log
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 { // Lambda's user has no rights either, and root could read everything
		f.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := os.Chown(tmp, 65534, 65534); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := f.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		_ = f.cmd.Wait()
		close(f.exited)
	}()
	c.t.Cleanup(func() {
		_ = syscall.Kill(-f.cmd.Process.Pid, syscall.SIGKILL)
		<-f.exited
		api.CloseClientConnections()
		api.Close()
		_ = exec.Command("chmod", "-R", "u+w", tmp).Run()
		os.RemoveAll(tmp)
		if c.t.Failed() {
			c.t.Logf("log of the function:\n%s", f.log.String())
		}
	})
	f.ready()
	return f
}

// serve is the Runtime API. As the real one it refuses next while an invocation is
// under way, and answers to anything but that invocation.
func (f *function) serve(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/2018-06-01/runtime/")
	refuse := func() {
		f.mu.Lock()
		f.refused = append(f.refused, r.Method+" "+path)
		f.mu.Unlock()
		w.WriteHeader(http.StatusForbidden)
	}
	switch parts := strings.Split(path, "/"); {
	case r.Method == http.MethodGet && path == "invocation/next":
		f.mu.Lock()
		busy := f.busy
		f.mu.Unlock()
		if busy != "" {
			refuse()
			return
		}
		f.polls <- time.Now()
		select {
		case inv := <-f.invocations:
			f.mu.Lock()
			f.busy = inv.id
			f.mu.Unlock()
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", inv.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Trace-Id", "Root=1-secret")
			_, _ = w.Write(inv.body)
		case <-r.Context().Done():
		}
	case r.Method == http.MethodPost && len(parts) == 3 && parts[0] == "invocation":
		f.mu.Lock()
		mine := f.busy == parts[1]
		if mine {
			f.busy = ""
		}
		f.mu.Unlock()
		if !mine {
			refuse()
			return
		}
		b, _ := io.ReadAll(r.Body)
		f.posted <- answer{parts[1], parts[2], b}
		w.WriteHeader(http.StatusAccepted)
	default:
		refuse()
	}
}

// ready waits until the program asks for an invocation.
func (f *function) ready() {
	f.t.Helper()
	select {
	case <-f.polls:
	case <-f.exited:
		f.t.Fatalf("the function ended:\n%s", f.log.String())
	case <-time.After(30 * time.Second):
		f.t.Fatalf("the function does not ask for an invocation:\n%s", f.log.String())
	}
}

// send starts an invocation.
func (f *function) send(body []byte, within time.Duration) {
	f.invocations <- invocation{fmt.Sprintf("8476a536-e9f4-11e8-9739-%012d", f.ids.Add(1)), body, time.Now().Add(within)}
}

// answer waits for the end of the invocation under way.
func (f *function) answer() answer {
	f.t.Helper()
	select {
	case a := <-f.posted:
		f.ready()
		return a
	case <-f.exited:
		return answer{kind: "exit"}
	case <-time.After(90 * time.Second):
		f.t.Fatalf("no answer:\n%s", f.log.String())
		return answer{}
	}
}

// event is the SQS event of dispatches.
func event(ds ...worker.Dispatch) []byte {
	var ev events.SQSEvent
	for i, d := range ds {
		body, err := json.Marshal(d)
		if err != nil {
			panic(err)
		}
		ev.Records = append(ev.Records, events.SQSMessage{MessageId: fmt.Sprint("m", i), ReceiptHandle: fmt.Sprint("r", i), Body: string(body), EventSource: "aws:sqs"})
	}
	b, err := json.Marshal(ev)
	if err != nil {
		panic(err)
	}
	return b
}

// do runs a dispatch and returns the message ids that are to come again.
func (f *function) do(d worker.Dispatch) []string {
	f.t.Helper()
	f.send(event(d), 15*time.Minute)
	a := f.answer()
	if a.kind != "response" {
		f.t.Fatalf("the invocation ended with %s %s\n%s", a.kind, a.body, f.log.String())
	}
	var res events.SQSEventResponse
	if err := json.Unmarshal(a.body, &res); err != nil {
		f.t.Fatal(err)
	}
	var again []string
	for _, x := range res.BatchItemFailures {
		again = append(again, x.ItemIdentifier)
	}
	return again
}

// lines are the log lines of a try.
func (f *function) lines(k airflow.TaskInstanceKey, try int) []tasklog.Entry {
	var out []tasklog.Entry
	for line := range strings.Lines(f.log.String()) {
		if e, tag, ok := taglog.Parse([]byte(line)); ok && tag == taglog.TagOf(k, try).ID() {
			out = append(out, e)
		}
	}
	return out
}

func (f *function) text(k airflow.TaskInstanceKey, try int) string {
	var b strings.Builder
	for _, e := range f.lines(k, try) {
		b.WriteString(e.Text() + "\n")
	}
	return b.String()
}
