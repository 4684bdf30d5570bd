package processorfn_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter/awstest"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/lambdaentry/processorfn"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// deployed is what the stack would have made.
type deployed struct {
	t                    *testing.T
	cfg                  aws.Config
	s3                   *s3.Client
	sqs                  *sqs.Client
	dags, events, change string
	environ              []string
	store                *store.Store
}

func deploy(t *testing.T) *deployed {
	t.Helper()
	cfg := awstest.Config(t)
	d := &deployed{t: t, cfg: cfg, s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), sqs: sqs.NewFromConfig(cfg)}
	ctx := context.Background()
	name := fmt.Sprintf("h-proc-%d", os.Getpid())
	d.dags = name + "-dags"
	for _, b := range []string{d.dags, name + "-data"} {
		must(d.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b}))(t)
		must(d.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &b, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}}))(t)
	}
	queue := func(n string) string {
		url := *must(d.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(name + "-" + n)}))(t).QueueUrl
		t.Cleanup(func() { must(d.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &url}))(t) })
		return url
	}
	d.events, d.change = queue("events"), queue("changes")
	timers := queue("timers")
	arn := must(d.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &d.change, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}}))(t).Attributes["QueueArn"]
	must(d.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: &d.dags, NotificationConfiguration: &s3types.NotificationConfiguration{
		QueueConfigurations: []s3types.QueueConfiguration{{QueueArn: &arn, Events: []s3types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}}}}}))(t)
	db := dynamodb.NewFromConfig(cfg)
	if err := dynamokv.CreateTable(ctx, db, name, kv.DefaultSchema()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(db.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name}))(t) })
	d.store = store.New(must(dynamokv.New(dynamokv.Options{Client: db, Table: name}))(t), nil)

	// The parser as it is deployed: the managed Python runtime with our wrapper.
	dist := t.TempDir()
	build := exec.Command("go", "run", "./functions/zips", "-arch", "host", "-version", "dev", "-only", awsenv.DagParser, "-dist", dist)
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	zip := must(os.ReadFile(filepath.Join(dist, awsenv.DagParser+".zip")))(t)
	fns := lambda.NewFromConfig(cfg)
	arch := lambdatypes.ArchitectureX8664
	if strings.Contains(string(must(exec.Command("go", "env", "GOARCH").Output())(t)), "arm64") {
		arch = lambdatypes.ArchitectureArm64
	}
	must(fns.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: lambdatypes.RuntimePython313, Handler: aws.String("none.none"), Role: aws.String("arn:aws:iam::000000000000:role/none"),
		Code: &lambdatypes.FunctionCode{ZipFile: zip}, Timeout: aws.Int32(60), MemorySize: aws.Int32(1024), Architectures: []lambdatypes.Architecture{arch},
		Environment: &lambdatypes.Environment{Variables: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": awsenv.ParserWrapper, "SECRET_OF_THE_FUNCTION": "hidden"}},
	}))(t)
	t.Cleanup(func() { must(fns.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name}))(t) })
	if err := lambda.NewFunctionActiveV2Waiter(fns).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	d.environ = []string{
		awsenv.Table + "=" + name, awsenv.EventsQueueURL + "=" + d.events, awsenv.TimersQueueURL + "=" + timers, awsenv.DagEventsQueueURL + "=" + d.change,
		awsenv.DataBucket + "=" + name + "-data", awsenv.DagsBucket + "=" + d.dags, awsenv.DagsPrefix + "=dags/", awsenv.ParserFunction + "=" + name,
		awsenv.DagEnv + `={"TEAM":"blue"}`, "AIRFLOW__CORE__DEFAULT_TASK_RETRIES=4",
	}
	return d
}

func (d *deployed) put(key string, lines ...string) {
	d.t.Helper()
	must(d.s3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &d.dags, Key: &key, Body: strings.NewReader(strings.Join(lines, "\n"))}))(d.t)
}

// batch receives what is in the queue of changes, as a mapping would hand it over.
func (d *deployed) batch() json.RawMessage {
	d.t.Helper()
	type record struct {
		MessageID   string `json:"messageId"`
		Body        string `json:"body"`
		EventSource string `json:"eventSource"`
	}
	var rs []record
	for {
		out := must(d.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &d.change, MaxNumberOfMessages: 10, WaitTimeSeconds: 1}))(d.t)
		if len(out.Messages) == 0 {
			break
		}
		for _, m := range out.Messages {
			rs = append(rs, record{*m.MessageId, *m.Body, "aws:sqs"})
			must(d.sqs.DeleteMessage(context.Background(), &sqs.DeleteMessageInput{QueueUrl: &d.change, ReceiptHandle: m.ReceiptHandle}))(d.t)
		}
	}
	return must(json.Marshal(map[string]any{"Records": rs}))(d.t)
}

// told receives the DAGs that the scheduler is told of.
func (d *deployed) told() map[airflow.DagID]bool {
	d.t.Helper()
	out := map[airflow.DagID]bool{}
	for {
		got := must(d.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &d.events, MaxNumberOfMessages: 10}))(d.t)
		if len(got.Messages) == 0 {
			return out
		}
		for _, m := range got.Messages {
			var msg engine.Message
			if err := json.Unmarshal([]byte(*m.Body), &msg); err != nil || msg.Check() != nil || msg.Kind != engine.MessageDag {
				d.t.Errorf("message %s", *m.Body)
			}
			out[msg.DagID] = true
			must(d.sqs.DeleteMessage(context.Background(), &sqs.DeleteMessageInput{QueueUrl: &d.events, ReceiptHandle: m.ReceiptHandle}))(d.t)
		}
	}
}

// TestOnLocalStack registers a bucket with the parser in a function of its own, as
// deployed: notifications, Python helpers, changes, removal, errors.
func TestOnLocalStack(t *testing.T) {
	d := deploy(t)
	ctx := context.Background()
	cold := func() *processorfn.Function {
		return must(processorfn.New(ctx, d.environ, awsapp.Options{AWS: &d.cfg, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}))(t)
	}
	handle := func(f *processorfn.Function, event string) {
		t.Helper()
		must(f.Handle(ctx, json.RawMessage(event)))(t)
	}
	f := cold()
	handle(f, string(d.batch())) // s3:TestEvent only
	dag := func(id string) string {
		return id + ":\n  default_args: {start_date: 2024-01-01, owner: $TEAM}\n  schedule: '@daily'\n  tasks:\n  - task_id: a\n    operator: airflow.providers.standard.operators.python.PythonOperator\n    python_callable: lib.work.run\n"
	}
	d.put("dags/lib/__init__.py", "")
	d.put("dags/lib/work.py", "def run(): print('one')")
	d.put("dags/a b.yml", dag("first"))
	d.put("dags/broken.yml", dag("second")+"  - oops")
	d.put("elsewhere/c.yml", dag("third"))
	handle(f, string(d.batch()))
	m := must(d.store.GetDag(ctx, "first"))(t)
	if m.RelativeFileloc != "a b.yml" || m.Owners[0] != "blue" || m.BundleHash == "" || !d.told()["first"] {
		t.Errorf("first: %+v", m)
	}
	doc := string(must(d.store.GetDocument(ctx, m.LatestHash))(t))
	if !strings.Contains(doc, `"lib/work.py"`) || !strings.Contains(doc, `"retries":4`) {
		t.Errorf("document: %s", doc)
	}
	if es := must(d.store.ListImportErrors(ctx))(t); len(es) != 1 || es[0].Filename != "broken.yml" {
		t.Errorf("import errors %v", es)
	}
	if _, err := d.store.GetDag(ctx, "third"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a file outside of the prefix was registered: %v", err)
	}
	// A helper changes: the same document, another snapshot; seen by another process.
	d.put("dags/lib/work.py", "def run(): print('two')")
	handle(cold(), string(d.batch()))
	if m2 := must(d.store.GetDag(ctx, "first"))(t); m2.BundleHash == m.BundleHash || m2.LatestHash != m.LatestHash {
		t.Errorf("after the helper changed: %+v", m2)
	}
	if !d.told()["first"] {
		t.Error("the scheduler was not told")
	}
	handle(cold(), awsenv.ReconcileInput)
	if told := d.told(); len(told) != 0 {
		t.Errorf("told %v although nothing changed", told)
	}
	// The helper loses the function: an import error, the last good version stays.
	d.put("dags/lib/work.py", "def other(): pass")
	handle(cold(), awsenv.ReconcileInput) // whatever became of the event
	if m := must(d.store.GetDag(ctx, "first"))(t); !m.HasImportErrors || m.IsStale {
		t.Errorf("after the helper broke: %+v", m)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}
